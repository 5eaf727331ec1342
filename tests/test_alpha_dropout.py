"""AlphaDropout: its formula, that mean and variance stay, and its ends."""

import math

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from running import at_every_thread_count, build, dtypes, inputs, layouts, normal, run

import minicnn as mc
from minicnn import layers, schedules
from minicnn.layers import AlphaDropout, Dropout
from minicnn.testing import GradientError, gradcheck

SEED, NUMBER = 7, 3
LOWEST = reference.SELU_LOWEST


def alpha(rate, shape=(200,), cls=AlphaDropout, **arguments):
    layer = cls(rate, **arguments)
    layer.stream = SEED, NUMBER
    return build(layer, shape)


# ---- the formula ----


@given(st.lists(st.integers(1, 30), max_size=2), st.integers(0, 9), st.sampled_from([0.1, 0.5, 0.8, 0.999]), dtypes,
       layouts)  # fmt: skip
def test_against_the_reference(shape, n, rate, dtype, layout):
    layer = alpha(rate, tuple(shape), dtype=dtype)
    x, dy = inputs(layer, n, dtype)
    rtol = 4 * np.finfo(dtype).eps
    for step in range(2):
        keep = reference.dropout_mask(SEED, NUMBER, step, x.shape, rate)
        got = run(layer, x, dy, layout)
        scale = 2 * max(1, np.abs(x).max(initial=0)) / math.sqrt(1 - rate)
        assert_close(got["y"], reference.alpha_dropout(x, keep, rate), rtol, dtype, scale)
        assert_close(got["dx"], reference.alpha_dropout_grad(x, keep, rate, dy), rtol, dtype, scale=scale)
        assert_same_bits(layer.last_mask, keep)
    assert_same_bits(layer.forward(x), x)


@pytest.mark.parametrize("noise_shape", [(None, 1, 1, None), (1, None, None, None), (None, 1, 4, 1)])
def test_shared_decisions_against_the_reference(noise_shape):
    layer = alpha(0.4, (5, 4, 6), noise_shape=noise_shape)
    x, dy = inputs(layer, 4, "float32")
    drawn = tuple(1 if wish == 1 else axis for wish, axis in zip(noise_shape, x.shape, strict=True))
    keep = np.broadcast_to(reference.dropout_mask(SEED, NUMBER, 0, drawn, 0.4), x.shape)
    got = run(layer, x, dy)
    assert_close(got["y"], reference.alpha_dropout(x, keep, 0.4), 1e-6)
    assert_close(got["dx"], reference.alpha_dropout_grad(x, keep, 0.4, dy), 1e-6)


def test_the_mask_is_that_of_dropout():
    one, other = alpha(0.3), alpha(0.3, cls=Dropout)
    x = normal((5, 200), "float32")
    for _ in range(2):
        one.forward(x, training=True)
        other.forward(x, training=True)
    assert_same_bits(one.last_mask, other.last_mask)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_mean_and_variance_stay(rate):
    """Of normal numbers: within 5 standard errors, those of the fourth moment for the variance."""
    x = normal((500, 1000))
    y = alpha(rate, (1000,), dtype="float64").forward(x, training=True)
    error = 1 / math.sqrt(y.size)
    assert abs(y.mean() - x.mean()) < 5 * error
    assert abs(y.var() - 1) < 5 * error * math.sqrt((y**4).mean())


def test_a_deep_network_of_selu_stays_where_it_is():
    """And Dropout takes it away: what AlphaDropout is for."""

    def after(drop):
        chain = [
            part for _ in range(8) for part in (layers.Dense(300, "selu", kernel_initializer="lecun_normal"), drop())
        ]
        h = normal((200, 300), "float32")
        model = mc.Sequential([*chain, layers.Dense(1)], seed=1)
        model.build((300,))
        for layer in model.layers[:-1]:
            h = layer.forward(h, training=True)
        return h.mean(), h.var()

    mean, variance = after(lambda: AlphaDropout(0.1))
    assert abs(mean) < 0.1
    assert abs(variance - 1) < 0.2
    _, variance = after(lambda: Dropout(0.1))
    assert variance > 1.2


# ---- gradients, ends, bits ----


@pytest.mark.parametrize("rate", [0, 0.1, 0.8, 1])
def test_gradient_through_the_frozen_mask(rate):
    assert gradcheck(alpha(rate, (30,)), normal((4, 30)))


def test_a_wrong_gradient_is_caught():
    class NoMask(AlphaDropout):
        def backward(self, dy):
            super().backward(dy)
            return dy * self._scale[0]

    with pytest.raises(GradientError, match="is the mask applied in backward"):
        gradcheck(NoMask(0.8), normal((3, 20)))


def test_the_ends_are_exact():
    x = normal((30, 200), "float32")
    x[0, :4] = np.nan, np.inf, -np.inf, -0.0
    layer = alpha(0)
    assert_same_bits(layer.forward(x, training=True), x)
    assert_same_bits(layer.backward(x), x)
    assert layer.last_mask.all()
    layer = alpha(1)
    assert_same_bits(layer.forward(x, training=True), np.zeros_like(x))
    assert_same_bits(layer.backward(x), np.zeros_like(x))
    assert not layer.last_mask.any()
    assert_same_bits(layer.forward(x), x)


def test_rate_1_is_the_limit():
    """What is dropped tends to 0 as everything is dropped."""
    largest = []
    for rate in (0.9, 0.99, 0.999, 0.9999):
        layer = alpha(rate, dtype="float64")
        y = layer.forward(normal((3, 200)), training=True)
        largest.append(np.abs(y[~layer.last_mask]).max())
        assert largest[-1] < 2 * math.sqrt(1 - rate)
    assert largest == sorted(largest, reverse=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dropped_nan_and_inf_become_the_lowest_value(dtype):
    for value in (np.nan, np.inf):
        layer = alpha(0.5, dtype=dtype)
        y = layer.forward(np.full((9, 200), value, dtype), training=True)
        keep = layer.last_mask
        a = 1 / math.sqrt(0.5 * (1 + 0.5 * LOWEST**2))
        assert_close(y[~keep], np.full((~keep).sum(), 0.5 * a * LOWEST), 1e-6, dtype)
        assert not np.isfinite(y[keep]).any()
        assert_same_bits(layer.backward(np.full((9, 200), value, dtype))[~keep], np.zeros((~keep).sum(), dtype))


@pytest.mark.parametrize("shape", [(5003,), (7, 9, 11)])
def test_same_bits_at_any_thread_count(shape):
    noise_shape = None if len(shape) == 1 else (None, 1, None, 1)
    x, dy = normal((37, *shape), "float32"), normal((37, *shape), "float32", 1)
    first, *others = at_every_thread_count(lambda: alpha(0.3, shape, noise_shape=noise_shape), x, dy)
    for other in others:
        assert_same_bits(first["y"], other["y"])
        assert_same_bits(first["dx"], other["dx"])


def test_the_rate_follows_a_schedule():
    layer = alpha(schedules.PolynomialDecay(0.0, 4, 1.0))
    x = normal((30, 200), "float32")
    for step, rate in enumerate([0, 0.25, 0.5, 0.75, 1]):
        y = layer.forward(x, training=True)
        if 0 < rate < 1:
            keep = reference.dropout_mask(SEED, NUMBER, step, x.shape, rate)
            assert_close(y, reference.alpha_dropout(x, keep, rate), 1e-6)
    assert not y.any()


def test_samples_have_the_masks_of_the_reference():
    model = mc.Sequential([layers.Dense(20, "selu"), AlphaDropout(0.3), layers.Flatten()], seed=SEED)
    x = normal((30, 9), "float32")
    model.build((9,))
    h, found = model.outputs(x)[0], model.predict_mc(x, 5, return_samples=True, batch_size=7).samples
    for t in range(5):
        keep = reference.dropout_mask(SEED, 1, t, h.shape, 0.3, purpose=1)
        assert_close(found[t], reference.alpha_dropout(h, keep, 0.3), 1e-6)


def test_there_is_no_other_mode():
    layer = alpha(0.3)
    assert layer.mode == "inverted"
    layer.mode = "inverted"
    for mode in ("classical", None, np.ones(2)):
        with pytest.raises(AttributeError, match=r"^AlphaDropout.mode: is 'inverted'; got .*Dropout has the argument$"):
            layer.mode = mode
    with pytest.raises(TypeError, match=r"^AlphaDropout: the keywords are .*got `mode`"):
        AlphaDropout(0.3, mode="classical")
