"""Normalization: what adapt finds, in whatever pieces the data come, and what is made of it."""

import copy
import re

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from running import at_every_thread_count, batches, build, channels, dtypes, inputs, layouts, run, steps_layer_by_layer

import minicnn as mc
from minicnn import layers, saving
from minicnn.layers.normalization import BLOCK, Moments

few = st.integers(1, 5)
rng = np.random.default_rng(3)


def adapted(x, axis=-1, **more):
    layer = layers.Normalization(axis, **more)
    layer.adapt(x)
    return build(layer, x.shape[1:])


def statistics(layer):
    return {name: np.array(value) for name, value in layer.state.items()}


# ---- against the twin ----


@given(st.lists(few, max_size=2), channels, st.sampled_from([-1, None, "all"]), st.booleans(), batches, dtypes, layouts)
def test_normalization(front, c, axis, invert, n, dtype, layout):
    shape = (*front, c)
    axis = [*range(1, len(shape) + 1)] if axis == "all" else axis
    kept = {None: (), -1: (c,)}.get(axis if axis in (None, -1) else 0, shape)
    mean, variance = np.full(kept, 0.5), np.full(kept, 4.0)
    mean[...], variance[...] = rng.standard_normal(kept), rng.random(kept) * 3 + 0.1
    layer = build(layers.Normalization(axis, mean, variance, invert, dtype=dtype), shape)
    x, dy = inputs(layer, n, dtype)
    got = run(layer, x, dy, layout)
    scale = max(1, np.abs(x).max(initial=0)) * 4
    want = reference.normalization(x, mean, variance, invert)
    assert_close(got["y"], want, tolerance(dtype), dtype, max(scale, np.abs(want).max(initial=0)))
    assert_close(got["dx"], reference.normalization_grad(dy, variance, invert), tolerance(dtype), dtype)


@pytest.mark.parametrize("axis", [-1, None, (2, 3), (1, 2, 3)])
def test_adapt_finds_mean_and_variance_over_all_other_axes(axis):
    x = rng.standard_normal((37, 4, 5, 3)) * [1, 10, 0.1] + [5, 0, -3]
    over = {-1: (0, 1, 2), None: None, (2, 3): (0, 1), (1, 2, 3): 0}[axis]
    layer = adapted(x, axis)
    assert_close(layer.state["mean"], x.mean(axis=over), 1e-14)
    assert_close(layer.state["variance"], x.var(axis=over), 1e-14)
    assert layer.state["count"].tolist() == [37]
    y = adapted(x, axis, dtype="float64").forward(x)
    assert np.abs(y.mean(axis=over)).max() < 1e-14
    assert np.abs(y.std(axis=over) - 1).max() < 1e-14
    assert_close(adapted(x, axis, invert=True, dtype="float64").forward(y), x, 1e-14)


# ---- data in pieces ----


class Batches:
    """A sequence of batches, (x, y) as Keras's give them."""

    def __init__(self, x, ends):
        self.parts = np.split(x, ends)

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, number):
        return self.parts[number], np.zeros(len(self.parts[number]))


@pytest.mark.parametrize("kind", ["float32", "uint8", "int64"])
def test_the_bits_do_not_depend_on_the_pieces(tmp_path, kind):
    size = 24
    n = 2 * BLOCK // size + 101  # three blocks, the last one a rest
    x = (rng.standard_normal((n, 4, 2, 3)) * 40 + 100).clip(0, 255).astype(kind)
    want = statistics(adapted(x))
    np.save(tmp_path / "x.npy", x)
    ends = np.sort(rng.integers(0, n, 6))
    pieces = [
        np.load(tmp_path / "x.npy", mmap_mode="r"),
        np.asfortranarray(x),
        Batches(x, ends),
        [(part, part[:, 0, 0, 0]) for part in np.split(x, [1, 2, 5000])],  # a loader: it can be iterated
        iter(np.split(x, [n - 1])),
        (part for part in np.split(x, range(333, n, 333))),
        mc.datasets.Pictures(x, np.zeros(n), None, []),
    ]
    for data in pieces:
        layer = layers.Normalization()
        layer.adapt(iter(data) if isinstance(data, list) else data)
        build(layer, x.shape[1:])
        for name, value in statistics(layer).items():
            assert_same_bits(value, want[name])


def test_a_large_mean_costs_no_accuracy():
    x = rng.standard_normal((40_000, 2))
    x += np.array([1e8, -1e6])
    variance = adapted(x).state["variance"]
    assert_close(variance, x.astype(np.longdouble).var(axis=0).astype(float), 1e-9)


def test_memory_is_that_of_a_block():
    moments = Moments("here", (32, 32, 3), 3)
    held = [value for value in vars(moments).values() if isinstance(value, np.ndarray)]
    assert sum(value.nbytes for value in held) < 10 * BLOCK
    assert Moments("here", (2 * BLOCK,), 1)._block.shape[0] == 1


def test_a_constant_channel_becomes_zero():
    """As in Keras: the deviation is at least 1e-7."""
    x = np.full((5000, 5, 5, 2), 0.1)
    x[..., 1] = 7
    layer = adapted(x)
    assert layer.state["variance"].tolist() == [0, 0]
    assert_same_bits(layer.forward(x[:3]), np.zeros((3, 5, 5, 2), np.float32))
    other = layer.forward(np.full((1, 5, 5, 2), 8.0))
    assert_close(other[..., 1], np.full((1, 5, 5), 1e7), 1e-6)


# ---- in models ----

X = (rng.random((60, 6, 5, 3)) * [255, 10, 100]).astype(np.uint8)
Y = np.arange(60) % 3


def chain(adapt=True):
    first = layers.Normalization()
    model = mc.Sequential([first, layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3)], seed=2)
    model.compile("sgd", "sparse_categorical_crossentropy")
    if adapt:
        first.adapt(X)
    return model


def test_before_and_after_build_the_same():
    before, after = chain(), chain(False)
    after.build(X.shape[1:])
    after.layers[0].adapt(X)
    assert_same_bits(before.predict(X), after.predict(X))
    after.layers[0].adapt(X[:30])  # again: what was found before is gone
    fresh = chain(False)
    fresh.layers[0].adapt(X[:30])
    assert_same_bits(after.predict(X), fresh.predict(X))
    assert after.layers[0].state["count"].tolist() == [30]


def test_in_plans_files_and_copies(tmp_path):
    model, by_hand = chain(), chain()
    by_hand.build(X.shape[1:])
    model.fit(X, Y, batch_size=16, epochs=1, shuffle=False, verbose=0)
    for _ in steps_layer_by_layer(by_hand, X, Y, batch_size=16):
        pass
    assert model.fingerprint() == by_hand.fingerprint()
    state = statistics(model.layers[0])
    model.save(tmp_path / "model.npz")
    model.save_weights(tmp_path / "weights.npz")
    loaded = mc.Sequential.load(tmp_path / "model.npz")
    weighed = mc.Sequential.from_config(model.get_config())
    weighed.build(X.shape[1:])
    weighed.load_weights(tmp_path / "weights.npz")
    for other in (loaded, copy.deepcopy(model)):
        assert_same_bits(other.predict(X), model.predict(X))
        assert other.layers[0].state["count"].tolist() == [60]
    assert_same_bits(weighed.layers[0].state["mean"], state["mean"])
    saving.save_checkpoint(model, tmp_path / "run.npz", 1, {})
    assert_same_bits(saving.load_checkpoint(tmp_path / "run.npz")[0].predict(X), model.predict(X))


def test_a_plan_follows_what_is_written_into_the_state():
    model = chain()
    before = model.predict(X)
    d = model.state_dict()
    model.load_state_dict(d | {"0.variance": 4 * d["0.variance"]})
    assert (model.predict(X) != before).any()
    model.load_state_dict(d)
    assert_same_bits(model.predict(X), before)


def test_not_trained_and_not_penalised():
    model = chain()
    model.fit(X, Y, epochs=1, verbose=0)
    layer = model.layers[0]
    assert not layer.params
    assert layer.state["mean"].dtype == layer.state["variance"].dtype == np.float64
    assert_close(layer.state["mean"], X.mean(axis=(0, 1, 2)), 1e-14)


@pytest.mark.parametrize("use", [
    lambda m: m.predict(X), lambda m: m.fit(X, Y, verbose=0), lambda m: m.forward(X, training=True),
    lambda m: build(layers.Normalization(), (3,)).forward(np.zeros((1, 3))),
])  # fmt: skip
def test_not_adapted_is_an_error_at_the_first_use(use):
    with pytest.raises(
        RuntimeError, match=r"^Normalization: is not adapted; call adapt\(training data\) of the layer "
    ):
        use(chain(adapt=False))


def test_weights_of_a_model_that_is_adapted_adapt_another(tmp_path):
    model, other = chain(), chain(False)
    model.build(X.shape[1:])
    other.build(X.shape[1:])
    model.save_weights(tmp_path / "w.npz")
    other.load_weights(tmp_path / "w.npz")
    assert_same_bits(other.predict(X), model.predict(X))


def test_threads():
    x, dy = (rng.standard_normal((9, 20, 20, 3)).astype("f") for _ in range(2))
    first, *others = at_every_thread_count(lambda: adapted(x), x, dy)
    for other in others:
        for name, value in first.items():
            assert_same_bits(value, other[name])


# ---- arguments ----

N = layers.Normalization


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: N(mean=0.5), ValueError, "Normalization: needs both mean and variance, or neither; got (0.5, None)"),
    (lambda: N(variance=0.5), ValueError, "Normalization: needs both mean and variance, or neither"),
    (lambda: N(-1, 0, -1), ValueError, "Normalization: variance must be a number >= 0; got -1"),
    (lambda: N(-1, [0, np.nan], 1), ValueError, "Normalization: every number of mean must be a number; got nan"),
    (lambda: N(-1, True, 1), TypeError, "Normalization: mean must be a number; got True (bool)"),
    (lambda: N(-1, [True], 1), TypeError, "Normalization: every number of mean must be a number; got True (bool)"),
    (lambda: N(-1, "0", 1), TypeError, "Normalization: mean must be a number; got '0' (str)"),
    (lambda: N(-1, [], 1), ValueError, "Normalization: mean must have at least one number; got shape (0,)"),
    (lambda: N(-1, [[1, 2], [3]], 1), ValueError, "Normalization: mean must be a rectangular array of numbers"),
    (lambda: N(1.5), TypeError, "Normalization: axis must be a whole number; got 1.5 (float)"),
    (lambda: N([]), ValueError, "Normalization: axis must be a whole number or some of them; got []"),
    (lambda: N(invert=1), TypeError, "Normalization: invert must be True or False; got 1 (int)"),
    (lambda: build(N(1), (4, 5)), ValueError, "Normalization: axis must be -1 or a list of last axes in order, such as "
     "[1, 2]; got 1. Axis 0 is the batch"),
    (lambda: build(N([0, 1]), (4,)), ValueError, "Normalization: axis must be -1 or"),
    (lambda: build(N(-1, [1, 2], 1), (4, 3)), ValueError, "Normalization: mean must broadcast to the shape (3,) of the "
     "axes that are kept; got shape (2,)"),
    (lambda: N(-1, 0, 1).adapt(X), RuntimeError, "Normalization.adapt: the layer was given its mean and variance"),
    (lambda: N().adapt(X[:0]), ValueError, "Normalization.adapt: data must have at least one sample; got 0"),
    (lambda: N().adapt(iter(())), ValueError, "Normalization.adapt: data must have at least one sample; got 0"),
    (lambda: N().adapt(3.0), ValueError, "Normalization.adapt: data must have a batch axis; got shape ()"),
    (lambda: N().adapt([1.0, 2.0]), ValueError, "Normalization.adapt: data must have shape (N, ...), with numbers in "
     "every sample; got shape (2,)"),
    (lambda: N().adapt(X[..., :0]), ValueError, "Normalization.adapt: data must have shape (N, ...), with numbers"),
    (lambda: N().adapt("digits"), TypeError, "Normalization.adapt: data must be an array of numbers"),
    (lambda: N().adapt(np.array([[0], [np.inf]])), ValueError, "Normalization.adapt: data must be finite numbers; got "
     "NaN or infinity in sample 1"),
    (lambda: N().adapt(iter([X, X[..., :2]])), ValueError, "Normalization.adapt: every sample must have shape (6, 5, 3)"
     "; got (6, 5, 2)"),
    (lambda: build(N(), (4,)).adapt(X), ValueError, "Normalization.adapt: every sample must have shape (4,)"),
    (lambda: build(adapted_alone(X[..., 0]), (6, 5, 1)), ValueError, "Normalization: the layer is adapted to samples "
     "of shape (6, 5); got (6, 5, 1). adapt(x[..., None]) is for grey images"),
    (lambda: N().adapt(np.array([[1e200], [-1e200]])), ValueError, "Normalization.adapt: data must have a variance"),
])  # fmt: skip
def test_wrong_arguments(make, error, message):
    with np.errstate(over="ignore"), pytest.raises(error, match=f"^{re.escape(message)}"):
        make()


def adapted_alone(x):
    layer = N()
    layer.adapt(x)
    return layer


def test_grey_images_as_models_take_them():
    layer = build(N(), (6, 5, 1))
    layer.adapt(X[..., 0])
    assert_same_bits(layer.state["mean"], adapted(X[..., :1]).state["mean"])


def test_the_mean_may_have_axes_for_those_that_are_not_kept():
    layer = build(N(-1, np.ones((1, 1, 1, 3)), 2), (6, 5, 3))
    assert layer.state["mean"].tolist() == [1, 1, 1]
    assert layer.mean == ((((1.0, 1.0, 1.0),),),)
    assert build(N(None, 3, 4), (6, 5)).forward(np.full((1, 6, 5), 5.0)).tolist() == [[[1.0] * 5] * 6]
