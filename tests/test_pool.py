"""The pooling layers against the reference."""

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from running import at_every_thread_count, batches, build, channels, dtypes, inputs, layouts, normal, run, sizes

from minicnn import layers
from minicnn.testing import gradcheck

POOLS = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}
GLOBAL = {"max": layers.GlobalMaxPooling2D, "average": layers.GlobalAveragePooling2D}
NONE = np.random.default_rng(0)


@st.composite
def pools(draw):
    """(pool_size, strides, padding) and the shape of an image that suits them."""
    image = draw(sizes), draw(sizes), draw(channels)
    padding = draw(st.sampled_from(["valid", "same"]))
    size = tuple(draw(st.integers(1, min(6, axis) if padding == "valid" else 6)) for axis in image[:2])
    strides = draw(st.none() | st.tuples(st.integers(1, 5), st.integers(1, 5)))
    return (size, strides, padding), image


def ties(x):
    """Few different values, so that the windows have several maxima."""
    return np.round(x)


@pytest.mark.parametrize("kind", ["max", "average"])
@given(pools(), batches, dtypes, layouts, st.booleans())
def test_pool(kind, case, n, dtype, layout, tied):
    arguments, image = case
    layer = build(POOLS[kind](*arguments, dtype=dtype), image)
    x, dy = inputs(layer, n, dtype)
    x = ties(x) if tied else x
    got = run(layer, x, dy, layout)
    options = layer.pool_size, layer.strides, layer.padding
    forward, backward = getattr(reference, f"{kind}_pool2d"), getattr(reference, f"{kind}_pool2d_grad")
    area = layer.pool_size[0] * layer.pool_size[1]
    rtol = 0 if kind == "max" else tolerance(dtype, area)
    assert_close(got["y"], forward(x, *options), rtol, dtype, np.abs(x).max(initial=0))
    scale = backward(x, np.abs(dy), *options).max(initial=0)
    assert_close(got["dx"], backward(x, dy, *options), tolerance(dtype, area), dtype, scale)


@pytest.mark.parametrize("kind", ["max", "average"])
@given(sizes, sizes, channels, batches, dtypes, layouts)
def test_global_pool(kind, h, w, c, n, dtype, layout):
    layer = build(GLOBAL[kind](dtype=dtype), (h, w, c))
    x, dy = inputs(layer, n, dtype)
    got = run(layer, x, dy, layout)
    rtol = 0 if kind == "max" else tolerance(dtype, h * w)
    want = getattr(reference, f"global_{kind}_pool2d")(x)
    assert_close(got["y"], want, rtol, dtype, np.abs(x).max(initial=0))
    want = getattr(reference, f"global_{kind}_pool2d_grad")(x, dy)
    assert_close(got["dx"], want, tolerance(dtype), dtype, np.abs(want).max(initial=0))


@pytest.mark.parametrize("layer", [
    layers.MaxPooling2D(2), layers.MaxPooling2D(3, 2, "same"), layers.AveragePooling2D((2, 3), 1),
    layers.AveragePooling2D(3, 2, "same"), layers.GlobalMaxPooling2D(), layers.GlobalAveragePooling2D(),
], ids=repr)  # fmt: skip
def test_gradient_by_finite_differences(layer):
    assert gradcheck(layer, normal((2, 5, 6, 3)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [
    lambda dtype: layers.MaxPooling2D(3, 2, "same", dtype=dtype), lambda dtype: layers.GlobalMaxPooling2D(dtype=dtype),
    lambda dtype: layers.AveragePooling2D(2, dtype=dtype), lambda dtype: layers.GlobalAveragePooling2D(dtype=dtype),
])  # fmt: skip
def test_same_bits_at_any_thread_count(make, dtype):
    shape = (30, 29, 20)
    layer = build(make(dtype), shape)
    first, *others = at_every_thread_count(lambda: build(make(dtype), shape), *inputs(layer, 11, dtype))
    for other in others:
        for name, array in first.items():
            assert_same_bits(array, other[name])


# ---- what must be exact ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("c", [1, 3, 8, 16, 21, 40])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_nan_passes_max_pooling(place, c, dtype):
    """Wherever it stands in the window; the others of the batch are untouched, and it takes the gradient."""
    layer = build(layers.MaxPooling2D(2, dtype=dtype), (4, 4, c))
    x = normal((2, 4, 4, c), dtype)
    at = 1, 2 + place // 2, place % 2, c - 1
    x[at] = np.nan
    y = layer.forward(x, training=True)
    want = np.zeros(y.shape, bool)
    want[1, 1, 0, c - 1] = True
    assert (np.isnan(y) == want).all()
    dx = layer.backward(np.ones_like(y))
    assert dx[at] == 1
    assert dx.sum() == y.size


def test_infinities_pass_max_pooling():
    layer = build(layers.GlobalMaxPooling2D(), (2, 2, 3))
    x = np.zeros((1, 2, 2, 3), np.float32)
    x[0, ..., 0], x[0, 1, 1, 1], x[0, 0, 0, 2] = -np.inf, np.inf, -np.inf
    assert layer.forward(x).tolist() == [[-np.inf, np.inf, 0]]


def test_the_first_of_equals_wins():
    layer = build(layers.MaxPooling2D(2, 1), (2, 3, 1))
    layer.forward(np.ones((1, 2, 3, 1)), training=True)
    dx = layer.backward(np.array([1.0, 10.0]).reshape(1, 1, 2, 1))
    assert dx[0, ..., 0].tolist() == [[1, 10, 0], [0, 0, 0]]


def test_padding_never_wins_and_never_dilutes():
    x = -np.ones((1, 3, 3, 5))
    for pool in POOLS.values():
        layer = build(pool(2, padding="same"), (3, 3, 5))
        assert (layer.forward(x) == -1).all()
        assert layer.forward(x).shape == (1, 2, 2, 5)


def test_windows_that_overlap_add_their_gradients():
    layer = build(layers.MaxPooling2D(3, 1), (5, 5, 1))
    x = np.zeros((1, 5, 5, 1))
    x[0, 2, 2] = 1  # in all nine windows
    layer.forward(x, training=True)
    assert layer.backward(np.ones((1, 3, 3, 1)))[0, 2, 2, 0] == 9


def test_strides_default_to_the_window():
    assert layers.MaxPooling2D().strides == (2, 2)
    assert layers.AveragePooling2D((3, 2)).strides == (3, 2)
    assert layers.MaxPooling2D(3).build((7, 7, 2), NONE) == (2, 2, 2)
    assert layers.MaxPooling2D(3, padding="same").build((7, 7, 2), NONE) == (3, 3, 2)


@pytest.mark.parametrize(("kind", "name"), [("max", "MaxPooling2D"), ("average", "AveragePooling2D")])
@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((0,), ValueError, "pool_size must be a whole number >= 1; got 0"),
    ((2.5,), TypeError, r"pool_size must be a whole number >= 1; got 2.5 \(float\)"),
    (((2, 2, 2),), ValueError, "pool_size must be a whole number or a pair of them"),
    ((2, 0), ValueError, "strides must be a whole number >= 1; got 0"),
    ((2, 2, "full"), ValueError, "padding must be one of 'valid', 'same'; got 'full'"),
])  # fmt: skip
def test_wrong_arguments(kind, name, arguments, error, message):
    with pytest.raises(error, match=f"^{name}: {message}"):
        POOLS[kind](*arguments)


@pytest.mark.parametrize(("pool", "image", "message"), [
    (layers.MaxPooling2D(3), (2, 5, 1), r"MaxPooling2D: an image must .* pool_size \(3, 3\); got \(2, 5, 1\)"),
    (layers.AveragePooling2D(), (4, 4), r"AveragePooling2D: one sample must have an image .*; got \(4, 4\)"),
    (layers.GlobalMaxPooling2D(), (4,), r"GlobalMaxPooling2D: one sample must have an image"),
    (layers.GlobalAveragePooling2D(), (4, 4, 1, 1), r"GlobalAveragePooling2D: one sample must have an image"),
])  # fmt: skip
def test_wrong_images(pool, image, message):
    with pytest.raises(ValueError, match=message):
        pool.build(image, NONE)


def test_the_average_of_a_large_image():
    layer = layers.GlobalAveragePooling2D()
    layer.build((512, 512, 1), None)
    y = layer.forward(np.full((1, 512, 512, 1), 0.1, np.float32))
    assert abs(y[0, 0] / np.float32(0.1) - 1) < 2e-5


def test_a_window_that_no_image_needs():
    with pytest.raises(ValueError, match="MaxPooling2D: pool_size must be at most 32768; got 1099511627776"):
        layers.MaxPooling2D(2**40)
