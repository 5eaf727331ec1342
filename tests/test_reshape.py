"""Flatten, Reshape, ZeroPadding2D, Cropping2D and Rescaling."""

import json

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from running import at_every_thread_count, batches, build, channels, dtypes, inputs, layouts, normal, run, sizes

from minicnn import layers
from minicnn.testing import gradcheck

NONE = np.random.default_rng(0)


@given(st.lists(st.integers(1, 12), max_size=3), batches, dtypes, layouts)
def test_flatten(shape, n, dtype, layout):
    layer = build(layers.Flatten(dtype=dtype), tuple(shape))
    x, dy = inputs(layer, n, dtype)
    got = run(layer, x, dy, layout)
    assert_same_bits(got["y"], x.reshape(n, int(np.prod(shape))))
    assert_same_bits(got["dx"], dy.reshape(x.shape))


@given(st.permutations([2, 3, 4, 5]), st.permutations([2, 3, 4, 5]), st.integers(0, 3), st.booleans(), layouts)
def test_reshape(old, new, n, infer, layout):
    target = [-1, *new[1:]] if infer else new
    layer = build(layers.Reshape(target), tuple(old))
    assert layer.output_shape == tuple(new)
    x, dy = inputs(layer, n, "float32")
    got = run(layer, x, dy, layout)
    assert_same_bits(got["y"], x.reshape(n, *new))
    assert_same_bits(got["dx"], dy.reshape(n, *old))


margins = st.tuples(st.integers(0, 4), st.integers(0, 4))


@given(sizes, sizes, channels, st.tuples(margins, margins), batches, dtypes, layouts)
def test_zero_padding(h, w, c, padding, n, dtype, layout):
    layer = build(layers.ZeroPadding2D(padding, dtype=dtype), (h, w, c))
    x, dy = inputs(layer, n, dtype)
    got = run(layer, x, dy, layout)
    assert_same_bits(got["y"], reference.zero_padding2d(x, padding))
    assert_same_bits(got["dx"], np.ascontiguousarray(reference.zero_padding2d_grad(x, padding, dy)))


@pytest.mark.parametrize(("padding", "sides"), [
    (1, ((1, 1), (1, 1))), ((2, 3), ((2, 2), (3, 3))), (((1, 2), (3, 4)), ((1, 2), (3, 4))),
    ([1, [0, 2]], ((1, 1), (0, 2))), (0, ((0, 0), (0, 0))),
])  # fmt: skip
def test_zero_padding_arguments(padding, sides):
    layer = layers.ZeroPadding2D(padding)
    assert layer.padding == sides
    (top, bottom), (left, right) = sides
    assert layer.build((5, 6, 2), NONE) == (5 + top + bottom, 6 + left + right, 2)


@given(sizes, sizes, channels, st.tuples(margins, margins), batches, dtypes, layouts)
def test_cropping(h, w, c, cropping, n, dtype, layout):
    (top, bottom), (left, right) = cropping
    layer = build(layers.Cropping2D(cropping, dtype=dtype), (h + top + bottom, w + left + right, c))
    assert layer.output_shape == (h, w, c)
    x, dy = inputs(layer, n, dtype)
    got = run(layer, x, dy, layout)
    assert_same_bits(got["y"], np.ascontiguousarray(reference.cropping2d(x, cropping)))
    assert_same_bits(got["dx"], reference.cropping2d_grad(x, cropping, dy))


def test_cropping_takes_back_a_padding():
    assert layers.Cropping2D().cropping == ((0, 0), (0, 0))
    for sides in (1, (2, 3), ((1, 2), (3, 4)), [1, [0, 2]]):
        padding, cropping = build(layers.ZeroPadding2D(sides), (3, 4, 2)), layers.Cropping2D(sides)
        assert cropping.cropping == padding.padding
        x = normal((2, 3, 4, 2), "float32")
        assert_same_bits(build(cropping, padding.output_shape).forward(padding.forward(x)), x)


hundredths = st.integers(-300, 300).map(lambda k: k / 100)


@given(st.lists(st.integers(1, 12), max_size=3), hundredths, hundredths, batches, dtypes, layouts)
def test_rescaling(shape, scale, offset, n, dtype, layout):
    layer = build(layers.Rescaling(scale, offset, dtype=dtype), tuple(shape))
    x, dy = inputs(layer, n, dtype)
    got = run(layer, x, dy, layout)
    size = abs(scale) * np.abs(x).max(initial=0) + abs(offset)
    assert_close(got["y"], reference.rescaling(x, scale, offset), tolerance(dtype), dtype, size)
    assert_close(got["dx"], reference.rescaling_grad(x, scale, dy), tolerance(dtype), dtype)


def test_rescaling_bytes():
    """uint8 images: 0 and 255 come out as exactly 0 and 1."""
    layer = build(layers.Rescaling(1 / 255), (16, 16, 1))
    x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    y = layer.forward(x)
    assert y.dtype == np.float32
    assert (y.min(), y.max()) == (0, 1)
    assert_close(y, x / 255, 1e-7)
    assert layers.Rescaling(1 / 127.5, -1).offset == -1


@pytest.mark.parametrize("layer", [
    layers.Flatten(), layers.Reshape((4, -1)), layers.ZeroPadding2D(((1, 0), (2, 1))), layers.Rescaling(0.5, 2),
    layers.Cropping2D(((1, 0), (2, 1))),
], ids=repr)  # fmt: skip
def test_gradient_by_finite_differences(layer):
    assert gradcheck(layer, normal((2, 3, 4, 2)))


@pytest.mark.parametrize("make", [
    lambda: layers.ZeroPadding2D(2), lambda: layers.Cropping2D(2), lambda: layers.Rescaling(0.3, 0.1),
])  # fmt: skip
def test_same_bits_at_any_thread_count(make):
    shape = (60, 150, 9)  # cut into parts
    first, *others = at_every_thread_count(lambda: build(make(), shape), *inputs(build(make(), shape), 13, "float32"))
    for other in others:
        for name, array in first.items():
            assert_same_bits(array, other[name])


def test_configurations_are_plain_numbers():
    layer = layers.Reshape((np.int64(3), -1))
    assert json.loads(json.dumps(layer.get_config()))["target_shape"] == [3, -1]


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: layers.Reshape(6), TypeError, r"Reshape: target_shape must be a tuple of whole numbers; got 6 \(int\)"),
    (lambda: layers.Reshape((2, 0)), ValueError, "Reshape: every axis of target_shape.* must be .* >= 1; got 0"),
    (lambda: layers.Reshape((-1, -1)), ValueError, r"Reshape: target_shape must have at most one -1; got \(-1, -1\)"),
    (lambda: layers.Reshape((2, 2.0)), TypeError, "Reshape: every axis of target_shape.* must be a whole number"),
    (lambda: layers.Reshape((4, 2)).build((9,), NONE), ValueError,
     r"Reshape: target_shape must hold the 9 elements of a sample of shape \(9,\); got \(4, 2\)"),
    (lambda: layers.Reshape((4, -1)).build((9,), NONE), ValueError, r"Reshape: .* got \(4, -1\)"),
    (lambda: layers.ZeroPadding2D(-1), ValueError, "ZeroPadding2D: padding must be a whole number >= 0; got -1"),
    (lambda: layers.ZeroPadding2D((1, 2, 3)), ValueError, "ZeroPadding2D: padding must be a whole number or a pair"),
    (lambda: layers.ZeroPadding2D(((1, 2), (1, -2))), ValueError, "ZeroPadding2D: padding must be .*; got -2"),
    (lambda: layers.ZeroPadding2D(1.5), TypeError, r"ZeroPadding2D: padding must be .*; got 1.5 \(float\)"),
    (lambda: layers.ZeroPadding2D(1).build((4, 4), NONE), ValueError, "ZeroPadding2D: one sample must have an image"),
    (lambda: layers.Cropping2D(-1), ValueError, "Cropping2D: cropping must be a whole number >= 0; got -1"),
    (lambda: layers.Cropping2D("same"), TypeError, r"Cropping2D: cropping must be a whole number >= 0; got 'same'"),
    (lambda: layers.Cropping2D(None), TypeError, "Cropping2D: cropping must be a whole number >= 0; got None"),
    (lambda: layers.Cropping2D(((1, 2), (2, 2))).build((9, 4, 1), NONE), ValueError,
     r"Cropping2D: cropping \(\(1, 2\), \(2, 2\)\) must leave a pixel of the image; got \(9, 4, 1\). Cut off less"),
    (lambda: layers.Rescaling("1/255"), TypeError, r"Rescaling: scale must be a number; got '1/255' \(str\)"),
    (lambda: layers.Rescaling(float("nan")), ValueError, "Rescaling: scale must be a number; got nan"),
    (lambda: layers.Rescaling(1, True), TypeError, r"Rescaling: offset must be a number; got True \(bool\)"),
])  # fmt: skip
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()
