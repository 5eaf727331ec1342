"""Monte-Carlo samples: which masks they have, on what they depend, and that the layers before them run once."""

import concurrent.futures
import copy

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits
from running import normal, use_threads

import minicnn as mc
from minicnn import layers, montecarlo
from minicnn.layer import Layer

RATE, SEED = 0.4, 11
X = normal((30, 6, 5, 2), "float32")


class Counts(Layer):
    """Counts the rows that pass."""

    rows = 0

    def forward(self, x, training=False):
        self.rows += len(x)
        return self.own(x)


def model_of(*chain, seed=SEED, build=True):
    model = mc.Sequential(chain, seed=seed)
    if build:
        model.build(X.shape[1:])
    return model


def small(mode="inverted"):
    return model_of(
        layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(), layers.Dropout(RATE, mode),
        layers.Flatten(), layers.Dense(9, activation="tanh"), layers.Dropout(0.2, mode),
        layers.Dense(3, activation="softmax"),
    )  # fmt: skip


def samples(model, x=X, n_samples=7, seed=None, batch_size=256):
    blocks = [block for _, block in montecarlo.samples(model, x, n_samples, seed, batch_size)]
    return np.concatenate(blocks, axis=1)


@pytest.mark.parametrize("mode", ["inverted", "classical"])
@pytest.mark.parametrize("seed", [None, 5])
def test_against_the_reference(mode, seed):
    """Sample t has the masks of (seed, layer, t, index in the data), drawn for another purpose than training's."""
    model = small(mode)
    found = samples(model, seed=seed)
    front = model.outputs(X)[1]
    weights = model.state_dict()
    for t in range(7):
        key = SEED if seed is None else seed
        keep = reference.dropout_mask(key, 2, t, front.shape, RATE, purpose=1)
        z = reference.dropout(front, keep, RATE, mode).reshape(len(X), -1)
        z = np.tanh(reference.dense(z, weights["4.kernel"], weights["4.bias"]))
        z = reference.dropout(z, reference.dropout_mask(key, 5, t, z.shape, 0.2, purpose=1), 0.2, mode)
        z = reference.dense(z, weights["6.kernel"], weights["6.bias"])
        assert_close(found[t], np.exp(z) / np.exp(z).sum(1, keepdims=True), 2e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 29, 30])
def test_neither_batch_size_nor_threads_change_a_bit(batch_size):
    use_threads(1)
    want = samples(small(), n_samples=33)
    use_threads(3)
    assert_same_bits(samples(small(), n_samples=33, batch_size=batch_size), want)


def test_more_samples_begin_with_the_fewer():
    many = samples(small(), n_samples=40)
    for n_samples in (1, 3, 39):
        assert_same_bits(samples(small(), n_samples=n_samples), many[:n_samples])


def test_seeds_samples_and_layers_differ():
    model = small()
    assert len({samples(model, seed=seed).tobytes() for seed in (None, 0, 1, 2**64 - 1)}) == 4
    assert_same_bits(samples(model, seed=SEED), samples(model))
    assert len({sample.tobytes() for sample in samples(model)}) == 7


def test_own_seed_of_a_layer():
    chain = [layers.Flatten(), layers.Dropout(RATE, seed=99)]
    with pytest.warns(UserWarning, match="last"):
        model = model_of(*chain)
    keep = reference.dropout_mask(99, 1, 0, (30, 60), RATE, purpose=1)
    assert_same_bits(samples(model)[0] != 0, keep)
    keep = reference.dropout_mask(3, 1, 0, (30, 60), RATE, purpose=1)
    assert_same_bits(samples(model, seed=3)[0] != 0, keep)


def test_layers_before_the_first_noise_run_once():
    before, behind = Counts(), Counts()
    model = model_of(before, layers.Conv2D(4, 3), layers.Dropout(RATE), behind, layers.Flatten(), layers.Dense(3))
    before.rows = behind.rows = 0
    samples(model, n_samples=50, batch_size=10)
    assert before.rows == len(X)
    assert 50 * len(X) <= behind.rows < 51 * len(X) + 50 * 10


@pytest.mark.parametrize("rate", [0, 1])
def test_the_ends_of_the_range(rate):
    model = model_of(layers.Flatten(), layers.Dropout(rate), layers.Dense(3))
    want = model.predict(X if rate == 0 else np.zeros_like(X))
    for sample in samples(model):
        assert_same_bits(sample, want)


def test_a_model_without_noise_gives_the_prediction():
    model = model_of(layers.Flatten(), layers.Dense(3))
    for sample in samples(model):
        assert_same_bits(sample, model.predict(X))


def test_the_first_layer_may_be_the_noise():
    model = model_of(layers.Dropout(RATE), layers.Flatten(), layers.Dense(3))
    weights = model.state_dict()
    keep = reference.dropout_mask(SEED, 0, 6, X.shape, RATE, purpose=1)
    want = reference.dense(reference.dropout(X, keep, RATE).reshape(30, -1), weights["2.kernel"], weights["2.bias"])
    assert_close(samples(model, X.astype("float64"))[6], want, 1e-5)


def test_sampling_changes_nothing():
    model, twin = small(), small()
    for each in (model, twin):
        each.compile("sgd", "sparse_categorical_crossentropy")
        each.train()
        each.train_on_batch(X, np.arange(30) % 3)
    samples(model)
    assert model.training
    assert [layer.state for layer in (model.layers[2], model.layers[5])] == [{"step": 1}, {"step": 1}]
    assert_same_bits(model.layers[2].last_mask, twin.layers[2].last_mask)
    outputs, _ = model.forward(X), samples(model)  # between forward and backward
    twin_outputs = twin.forward(X)
    for each, out in ((model, outputs), (twin, twin_outputs)):
        each.backward(each.loss(out, np.arange(30) % 3)[1])
        each.optimizer.step()
    assert model.fingerprint() == twin.fingerprint()
    assert_same_bits(samples(copy.deepcopy(model)), samples(twin))


def test_changed_weights_and_rates_are_seen():
    model = small()
    before = samples(model)
    model.layers[2].rate = 0.9
    assert (samples(model) != before).any()
    model.layers[2].rate = RATE
    assert_same_bits(samples(model), before)
    model.layers[6].params["kernel"][...] *= 2
    assert (samples(model) != before).any()


def test_threads_sample_at_the_same_time():
    model = small()
    want = [samples(model, seed=seed) for seed in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for seed, found in enumerate(pool.map(lambda seed: samples(model, seed=seed), [*range(8)] * 4)):
            assert_same_bits(found, want[seed % 8])


def test_a_layer_of_ones_own_may_sample():
    class Adds(Layer):
        def forward(self, x, training=False):
            return self.own(x)

        def sample(self, x, lot):
            return x + 1

    model = model_of(layers.Flatten(), Adds(), layers.Dense(3))
    plain = model_of(layers.Flatten(), layers.Dense(3))
    plain.set_weights(model.get_weights())
    assert_close(samples(model)[3], plain.predict(X + 1), 1e-6)


def test_no_samples():
    assert [*montecarlo.samples(small(), X[:0], 5, None, 256)] == []


def test_a_forward_of_ones_own_is_what_a_sample_is():
    """An inherited ``sample`` would not run it."""

    class Half(layers.SeparableConv2D):
        def forward(self, x, training=False):
            return 0.5 * super().forward(x, training)

    class Zero(layers.Dropout):
        def forward(self, x, training=False):
            return 0 * x

    x = np.ones((2, 4, 4, 2))
    rest = [layers.Flatten(), layers.Dense(2)]
    model = mc.Sequential([layers.GaussianNoise(1e-4), Half(2, 3, input_shape=(4, 4, 2)), *rest])
    model.build((4, 4, 2))
    assert np.allclose(model.predict_mc(x, n_samples=2, seed=1).mean, model.predict(x), atol=1e-2)
    assert not np.allclose(model.predict(x), 2 * model.predict(x), atol=1e-2)
    model = mc.Sequential([Zero(0.5), layers.Flatten(), layers.Dense(2)])
    model.build((4, 4, 2))
    with pytest.raises(TypeError, match=r"layer 0 draws noise in a forward of its own, and must have sample\(x, lot\)"):
        model.predict_mc(x, n_samples=2)
