"""StochasticDepth: one decision for a sample, or for all of a batch; in residual networks, plans and samples."""

import math

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from running import (
    at_every_thread_count,
    build,
    dtypes,
    inputs,
    layouts,
    normal,
    run,
    steps_layer_by_layer,
    use_threads,
)

import minicnn as mc
from minicnn import layers, schedules
from minicnn.layers import StochasticDepth
from minicnn.plan import Plan
from minicnn.testing import gradcheck

SEED, NUMBER = 7, 3
SHAPE = (3, 4, 2)
X = normal((40, *SHAPE), "float32")
modes = pytest.mark.parametrize("mode", ["row", "batch"])


def depth(rate, mode="row", shape=SHAPE, **arguments):
    layer = StochasticDepth(rate, mode, **arguments)
    layer.stream = SEED, NUMBER
    return build(layer, shape)


def kept_rows(step, n, rate, mode, purpose=0):
    """(n,): what the reference says."""
    drawn = reference.dropout_mask(SEED, NUMBER, step, (1 if mode == "batch" else n,), rate, purpose)
    return np.broadcast_to(drawn, n)


# ---- the formula ----


@given(st.lists(st.integers(1, 12), max_size=3), st.integers(0, 9), st.sampled_from([0.1, 0.5, 0.8]),
       st.sampled_from(["row", "batch"]), dtypes, layouts)  # fmt: skip
def test_against_the_reference(shape, n, rate, mode, dtype, layout):
    layer = depth(rate, mode, tuple(shape), dtype=dtype)
    x, dy = inputs(layer, n, dtype)
    for step in range(3):
        keep = kept_rows(step, n, rate, mode)
        got = run(layer, x, dy, layout)
        rtol = 2 * np.finfo(dtype).eps
        assert_close(got["y"], reference.stochastic_depth(x, keep, rate).reshape(x.shape), rtol, dtype)
        assert_close(got["dx"], reference.stochastic_depth_grad(x, keep, rate, dy).reshape(x.shape), rtol, dtype)
        assert_same_bits(layer.last_mask, np.broadcast_to(keep.reshape(-1, *[1] * len(shape)), x.shape).copy())
    assert_close(layer.forward(x), x, rtol, dtype)


@pytest.mark.parametrize("rate", [0.1, 0.8])
@modes
def test_whole_samples_are_dropped_and_others_scaled(rate, mode):
    layer, dropped = depth(rate, mode), []
    for _ in range(300):
        y = layer.forward(np.ones_like(X), training=True)
        factors = y.reshape(len(X), -1)
        assert (factors == factors[:, :1]).all()
        assert set(np.unique(factors)) <= {0, np.float32(1 / (1 - rate))}
        dropped += [*(factors[: 1 if mode == "batch" else None, 0] == 0)]
        assert mode == "row" or (factors == factors[0, 0]).all()
    assert abs(np.mean(dropped) - rate) < 5 * math.sqrt(rate * (1 - rate) / len(dropped))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@modes
def test_the_ends_are_exact(mode, value):
    x = np.full_like(X, value)
    x[:, 0] = -0.0
    whole, nothing, half = depth(0, mode), depth(1, mode), depth(0.5, mode)
    assert_same_bits(whole.forward(x, training=True), x)
    assert_same_bits(whole.backward(x), x)
    assert whole.last_mask.all()
    assert_same_bits(nothing.forward(x, training=True), np.zeros_like(x))
    assert_same_bits(nothing.backward(x), np.zeros_like(x))
    assert not nothing.last_mask.any()
    for _ in range(5):  # selected, not multiplied
        y = half.forward(x, training=True)
        assert_same_bits(y[~half.last_mask], np.zeros((~half.last_mask).sum(), np.float32))
    assert half.state == {"step": 5}


@pytest.mark.parametrize("rate", [0, 0.3, 1])
@modes
def test_gradient_through_the_frozen_mask(rate, mode):
    assert gradcheck(depth(rate, mode), normal((4, *SHAPE)))


@modes
def test_same_bits_at_any_thread_count(mode):
    x, dy = inputs(depth(0.3, mode), 9, "float32")
    first, *others = at_every_thread_count(lambda: depth(0.3, mode), x, dy)
    for other in others:
        for name in first:
            assert_same_bits(first[name], other[name])


# ---- mode ----


def test_a_mode_that_is_set_between_the_steps_of_a_model():
    layer = StochasticDepth(0.5)
    model = mc.Sequential([layer, layers.Flatten()], seed=3).train()
    x, found = np.ones((32, 6)), []
    assert layer.noise_shape is None
    for mode in ("row", "batch", "row"):
        layer.mode = mode
        kept = [model.forward(x)[:, 0] != 0 for _ in range(4)]
        assert_same_bits(kept[-1], layer.last_mask[:, 0])
        found.append(all(one.all() or not one.any() for one in kept))
        assert layer.noise_shape == ((None, 1) if mode == "row" else (1, 1))
    assert found == [False, True, False]


def test_wrong_arguments():
    for mode, error in (("rows", ValueError), ("inverted", ValueError), (None, TypeError)):
        with pytest.raises(error, match=r"^StochasticDepth: mode must be (one of 'row', 'batch'|a string)"):
            StochasticDepth(0.5, mode)
    layer = depth(0.5)
    for noise_shape in (None, (1, 1, 1, 1), [None, 1, 1, 1], np.ones(4)):
        with pytest.raises(AttributeError, match=r"^StochasticDepth.noise_shape: follows from mode; got .*Assign mode"):
            layer.noise_shape = noise_shape
    layer.noise_shape = layer.noise_shape
    with pytest.raises(TypeError, match=r"^StochasticDepth: the keywords are .*got `noise_shape`"):
        StochasticDepth(0.5, noise_shape=(None, 1))


# ---- Monte-Carlo samples ----


def samples(model, n, x=X, **more):
    return model.predict_mc(x, n, return_samples=True, **more).samples


@modes
@pytest.mark.parametrize("batch_size", [7, 130, 300, None])
def test_samples_do_not_depend_on_how_the_data_are_cut(mode, batch_size):
    """In mode "batch" the batch is all of the data: one thinned network for each sample, whoever is asked with whom."""
    use_threads(2)
    x, n = np.tile(X, (8, 1, 1, 1))[:300], 300  # more than are decided by one group of the generator
    model = mc.Sequential([layers.Rescaling(2.0), StochasticDepth(0.5, mode), layers.Flatten()], seed=SEED)
    model.build(SHAPE)
    found = samples(model, 30, x, batch_size=batch_size)
    kept = np.array([
        np.broadcast_to(reference.dropout_mask(SEED, 1, t, (1 if mode == "batch" else n,), 0.5, purpose=1), n)
        for t in range(30)
    ])  # fmt: skip
    assert_same_bits((found != 0).all(2), kept)
    assert (kept.all(1) | ~kept.any(1)).all() == (mode == "batch")
    assert_same_bits(found[:, :11], samples(model, 30, x[:11], batch_size=batch_size))


# ---- in a residual network ----

IMAGES, LABELS = normal((48, 6, 6, 3), "float32", 5), np.arange(48) % 3


def residual(rate, mode="row", dtype="float32", depth=4):
    """Blocks whose rates grow with their depth, as in the paper."""

    def block(one):
        convolution = layers.Conv2D(3, 3, padding="same", use_bias=False)
        return layers.Residual([convolution, layers.ReLU(), StochasticDepth(one, mode)])

    blocks = [block(rate * (number + 1) / depth) for number in range(depth)]
    model = mc.Sequential([*blocks, layers.GlobalAveragePooling2D(), layers.Dense(3)], seed=4, dtype=dtype)
    model.compile(mc.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy", ["accuracy"])
    model.build(IMAGES.shape[1:])
    return model


@modes
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_residual_network_trains_in_one_plan(mode, dtype):
    model = residual(0.5, mode, dtype)
    assert len(Plan(model.engine, 12, training=True)._sections) == 1
    found = []
    for threads in (1, 2, 3):
        use_threads(threads)
        planned = residual(0.5, mode, dtype)
        planned.fit(IMAGES, LABELS, batch_size=13, epochs=2, shuffle=False, verbose=0)
        found.append(planned.fingerprint())
    by_hand = residual(0.5, mode, dtype)
    for _ in range(2):
        for _ in steps_layer_by_layer(by_hand, IMAGES, LABELS, 13):
            pass
    assert {*found, by_hand.fingerprint()} == {found[0]}


def test_a_dropped_branch_is_its_shortcut_and_learns_nothing_from_its_sample():
    """The body's gradients are those of the samples that it was kept for."""
    body = [layers.Conv2D(3, 3, padding="same"), StochasticDepth(0.5)]
    layer = layers.Residual(body)
    build(layer, (6, 6, 3))
    y = layer.forward(IMAGES, training=True)
    kept = body[1].last_mask[:, 0, 0, 0]
    assert 0 < kept.sum() < len(IMAGES)
    assert_same_bits(y[~kept], IMAGES[~kept])
    assert_close(y[kept], IMAGES[kept] + 2 * body[0].forward(IMAGES[kept]), 1e-6)
    dx = layer.backward(y)
    assert_same_bits(dx[~kept], y[~kept])
    found = body[0].grads["kernel"].copy()
    body[0].forward(IMAGES[kept], training=True)
    body[0].backward(2 * y[kept])
    assert_close(found, body[0].grads["kernel"], 1e-5)


def test_at_rate_1_only_the_shortcuts_are_left():
    model = residual(1.0, depth=1)
    assert_same_bits(model.layers[0].forward(IMAGES, training=True), IMAGES)


def test_the_rate_follows_a_schedule_in_a_plan():
    rising = schedules.PolynomialDecay(0.0, 4, 1.0)

    def made():
        block = layers.Residual([layers.Dense(6, "tanh"), StochasticDepth(rising)])
        model = mc.Sequential([block, layers.Dense(3)], seed=2)
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.build((6,))
        return model

    x, y = normal((60, 6), "float32"), np.arange(60) % 3
    planned, by_hand = made(), made()
    planned.fit(x, y, batch_size=10, epochs=1, shuffle=False, verbose=0)
    for _ in steps_layer_by_layer(by_hand, x, y, 10):
        pass
    assert planned.layers[0].body[1].current_rate == 1
    assert planned.fingerprint() == by_hand.fingerprint()


def test_a_saved_network_goes_on_as_it_was(tmp_path):
    model = residual(0.5, "batch")
    model.fit(IMAGES, LABELS, batch_size=16, verbose=0)
    model.save(tmp_path / "model.npz")
    loaded = mc.Sequential.load(tmp_path / "model.npz")
    assert [one.body[2].mode for one in loaded.layers[:4]] == ["batch"] * 4
    assert_same_bits(samples(loaded, 5, IMAGES), samples(model, 5, IMAGES))
