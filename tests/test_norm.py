"""BatchNormalization against the reference."""

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from running import LAYOUTS, at_every_thread_count, build, channels, dtypes, inputs, layouts, normal, run

from minicnn import layers
from minicnn.testing import gradcheck

NONE = np.random.default_rng(0)
MOVING = ("moving_mean", "moving_variance")


def compare(layer, x, dy, got, spread=1.0):
    """y, the gradients and the new moving statistics; ``spread`` is |x| relative to its standard deviation."""
    gamma, beta, epsilon = layer.params["gamma"], layer.params["beta"], layer.epsilon
    rtol = tolerance(x.dtype, x.size // x.shape[-1])
    y, mean, variance = reference.batch_norm(x, gamma, beta, epsilon)
    assert_close(got["y"], y, rtol, x.dtype, spread * np.abs(y).max())
    wants = reference.batch_norm_grad(x, gamma, dy, epsilon)
    z = (x - mean) / np.sqrt(variance + epsilon)
    axes = tuple(range(x.ndim - 1))
    steepest = np.abs(gamma / np.sqrt(variance + epsilon)).max()
    scales = steepest * np.abs(dy).max(), np.abs(dy * z).sum(axes).max(), np.abs(dy).sum(axes).max()
    for name, want, scale in zip(("dx", "gamma", "beta"), wants, scales, strict=True):
        assert_close(got[name], want, 4 * rtol, x.dtype, spread * scale)
    for name, old, new in zip(MOVING, (0, 1), (mean, variance), strict=True):
        want = reference.moving(old, new, layer.momentum)
        assert_close(layer.state[name], want, rtol, x.dtype, spread * np.abs(want).max())


shapes = st.lists(st.integers(1, 12), max_size=2)


@given(shapes, channels, st.integers(2, 9), dtypes, layouts, st.sampled_from([0.9, 0.5]))
def test_training(shape, c, n, dtype, layout, momentum):
    layer = build(layers.BatchNormalization(momentum, dtype=dtype), (*shape, c))
    x, dy = inputs(layer, n, dtype)
    x = x * np.arange(1, c + 1, dtype=dtype) + np.arange(c, dtype=dtype)[::-1]  # another spread in every channel
    compare(layer, x, dy, run(layer, x, dy, layout), spread=10)


@given(shapes, channels, st.integers(0, 5), dtypes, layouts)
def test_evaluation(shape, c, n, dtype, layout):
    layer = build(layers.BatchNormalization(epsilon=0.01, dtype=dtype), (*shape, c))
    layer.state["moving_mean"][...] = normal(c, dtype, 3)
    layer.state["moving_variance"][...] = normal(c, dtype, 4) ** 2
    before = {name: values.copy() for name, values in layer.state.items()}
    x = normal((n, *shape, c), dtype)
    got = layer.forward(LAYOUTS[layout](x))
    want = reference.batch_norm_eval(x, layer.params["gamma"], layer.params["beta"], *before.values(), 0.01)
    assert_close(got, want, tolerance(dtype), dtype, 10 + np.abs(want).max(initial=0))
    for name, values in before.items():
        assert_same_bits(layer.state[name], values)


@pytest.mark.parametrize("shape", [(4,), (3, 2, 3), (1,)])
def test_gradient_by_finite_differences(shape):
    assert gradcheck(build(layers.BatchNormalization(), shape), normal((5, *shape)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(9, 8, 40), (50, 50, 3), (70, 60, 7), (700,)])
def test_same_bits_at_any_thread_count(shape, dtype):
    def make():
        made.append(build(layers.BatchNormalization(dtype=dtype), shape))
        return made[-1]

    made = []
    first, *others = at_every_thread_count(make, *inputs(make(), 40, dtype))
    for other, layer in zip(others, made[2:], strict=True):
        for name, array in first.items():
            assert_same_bits(array, other[name])
        for name in MOVING:
            assert_same_bits(made[1].state[name], layer.state[name])


@pytest.mark.parametrize("c", [1, 3, 16])
@pytest.mark.parametrize("mean", [0.0, 100.0, -1000.0])
def test_many_values_with_a_large_mean(mean, c):
    """100,000 values of each channel in float32: the errors must not grow with their number or with the mean.

    A mean of 1,000 standard deviations costs float32 a thousand times its epsilon, in x already, and no more.
    """
    layer = build(layers.BatchNormalization(), (100, 100, c))
    x, dy = inputs(layer, 10, "float32")
    x = (x + np.float32(mean)).astype(np.float32)
    got = run(layer, x, dy)
    want, _, _ = reference.batch_norm(x, layer.params["gamma"], layer.params["beta"])
    rtol = (20 + 2 * abs(mean)) * np.finfo(np.float32).eps
    assert_close(got["y"], want, rtol, np.float32)
    wants = reference.batch_norm_grad(x, layer.params["gamma"], dy)
    for name, gradient in zip(("dx", "gamma", "beta"), wants, strict=True):
        scale = np.abs(gradient).max() if name == "dx" else np.abs(dy).sum((0, 1, 2)).max()
        assert_close(got[name], gradient, rtol, np.float32, scale)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("c", [1, 5, 6, 15, 33, 48, 67, 100, 127, 128, 130, 300, 513])
def test_rows_that_are_taken_together(c, dtype):
    """Several blocks of rows, and in each some that are left over when they are taken several at a time."""
    layer = build(layers.BatchNormalization(dtype=dtype), (40_000 // 3 // c + 1, c))
    x, dy = inputs(layer, 3, dtype)
    compare(layer, x, dy, run(layer, x, dy), spread=10)
    want = reference.batch_norm_eval(x, layer.params["gamma"], layer.params["beta"], *layer.state.values())
    assert_close(layer.forward(x), want, tolerance(dtype), dtype, 10 + np.abs(want).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(31, 140), (32, 128), (64, 64), (33, 33, 5), (100, 83, 4), (40, 1000)])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_images_that_are_long_enough_for_blocks_of_their_own(n, shape, dtype):
    """On both sides of what is long enough, and images of several blocks."""
    layer = build(layers.BatchNormalization(dtype=dtype), shape)
    x, dy = inputs(layer, n, dtype)
    x = x + np.arange(n, dtype=dtype).reshape(n, *[1] * len(shape))  # another mean in every image
    compare(layer, x, dy, run(layer, x, dy), spread=10)


def test_a_constant_channel_stays_finite():
    layer = build(layers.BatchNormalization(), (4,))
    layer.params["beta"][...] = [1, 2, 3, 4]
    got = run(layer, np.full((6, 4), 7.5, np.float32), normal((6, 4), "float32"))
    assert_close(got["y"], np.broadcast_to([1.0, 2, 3, 4], (6, 4)), 1e-6)
    assert np.isfinite(got["dx"]).all()


def test_a_nan_stays_in_its_channel():
    layer = build(layers.BatchNormalization(), (6, 5))
    x = normal((3, 6, 5), "float32")
    x[1, 2, 3] = np.nan
    assert (np.isnan(layer.forward(x, training=True)) == (np.arange(5) == 3)).all()


def test_moving_statistics_by_hand():
    layer = build(layers.BatchNormalization(momentum=0.75, dtype="float64"), (1,))
    for batch in ([1.0, 3.0], [6.0, 6.0]):
        layer.forward(np.array(batch)[:, None], training=True)
    # means 2, 6 and biased variances 1, 0; from 0 and 1: 0.5 -> 1.875 and 1 -> 0.75
    assert layer.state["moving_mean"].tolist() == [1.875]
    assert layer.state["moving_variance"].tolist() == [0.75]
    for momentum, want in ((0.0, 2.0), (1.0, 0.0)):
        layer = build(layers.BatchNormalization(momentum, dtype="float64"), (1,))
        layer.forward(np.array([[1.0], [3.0]]), training=True)
        assert layer.state["moving_mean"].tolist() == [want]


def test_a_new_layer():
    layer = layers.BatchNormalization()
    assert layer.build((4, 3), NONE) == (4, 3)
    assert layer.params["gamma"].tolist() == [1, 1, 1]
    assert layer.params["beta"].tolist() == [0, 0, 0]
    assert layer.state["moving_mean"].tolist() == [0, 0, 0]
    assert layer.state["moving_variance"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("x", [np.ones((1, 3)), np.ones((0, 3))])
def test_one_value_is_too_few_to_train_on(x):
    layer = build(layers.BatchNormalization(), (3,))
    before = layer.state["moving_mean"].copy()
    with pytest.raises(ValueError, match=r"BatchNormalization.forward: training needs at least two .*; got shape"):
        layer.forward(x, training=True)
    assert_same_bits(layer.state["moving_mean"], before)
    assert layer.forward(x).shape == x.shape


def test_one_image_is_enough():
    layer = build(layers.BatchNormalization(), (4, 4, 2))
    x, dy = inputs(layer, 1, "float32")
    compare(layer, x, dy, run(layer, x, dy), spread=10)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((2,), ValueError, r"momentum must be a number in \[0, 1\]; got 2"),
    ((-0.1,), ValueError, r"momentum must be a number in \[0, 1\]; got -0.1"),
    ((None,), TypeError, r"momentum must be a number in \[0, 1\]; got None"),
    ((0.9, 0), ValueError, r"epsilon must be a number > 0; got 0"),
    ((0.9, float("inf")), ValueError, r"epsilon must be a number > 0; got inf"),
    ((True,), TypeError, r"momentum must be a number in \[0, 1\]; got True \(bool\)"),
])  # fmt: skip
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^BatchNormalization: {message}"):
        layers.BatchNormalization(*arguments)


@pytest.mark.parametrize(("mean", "std"), [(1000.3, 0.1), (-1e4, 1.0), (0.0, 1e-3)])
def test_statistics_of_values_far_from_zero(mean, std):
    """One long sum in float32 would lose the variance of these."""
    x = (mean + std * np.random.default_rng(0).standard_normal((65_536, 1))).astype(np.float32)
    layer = layers.BatchNormalization(momentum=0.0)
    layer.build((1,), None)
    layer.forward(x, training=True)
    exact = x.astype(np.float64)
    assert abs(layer.state["moving_mean"][0] - exact.mean()) < 2e-3 * std + 1e-7 * abs(mean)
    assert abs(layer.state["moving_variance"][0] / exact.var() - 1) < 1e-3
