"""Flatten, Reshape, Permute, ZeroPadding2D, Cropping2D, UpSampling2D and Rescaling."""

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


factors = st.tuples(st.integers(1, 5), st.integers(1, 5))
methods = st.sampled_from(["nearest", "bilinear"])
sides = st.integers(1, 9)


@given(sides, sides, channels, factors, methods, batches, dtypes, layouts)
def test_up_sampling(h, w, c, size, interpolation, n, dtype, layout):
    layer = build(layers.UpSampling2D(size, interpolation, dtype=dtype), (h, w, c))
    x, dy = inputs(layer, n, dtype)
    got = run(layer, x, dy, layout)
    y, dx = reference.up_sampling2d(x, size, interpolation), reference.up_sampling2d_grad(x, dy, size, interpolation)
    if interpolation == "nearest":
        assert_same_bits(got["y"], y.astype(dtype))
    assert_close(got["y"], y, tolerance(dtype), dtype, np.abs(x).max(initial=0))
    scale = reference.up_sampling2d_grad(x, np.abs(dy), size, interpolation).max(initial=0)
    assert_close(got["dx"], dx, tolerance(dtype, size[0] * size[1]), dtype, scale)


def test_up_sampling_by_hand():
    x = np.array([1.0, 3.0, 7.0]).reshape(1, 1, 3, 1)
    nearest, bilinear = (build(layers.UpSampling2D((1, 2), name), (1, 3, 1)) for name in ("nearest", "bilinear"))
    assert nearest.forward(x).ravel().tolist() == [1, 1, 3, 3, 7, 7]
    assert bilinear.forward(x).ravel().tolist() == [1, 1.5, 2.5, 4, 6, 7]
    assert layers.UpSampling2D().size == (2, 2)
    assert layers.UpSampling2D(3).build((4, 5, 2), NONE) == (12, 15, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("size", [(2, 2), (3, 5), (1, 4)])
@pytest.mark.parametrize("c", [1, 3, 16])
def test_what_is_not_finite_reaches_only_the_pixels_that_see_it(size, value, c):
    for interpolation in ("nearest", "bilinear"):
        layer = build(layers.UpSampling2D(size, interpolation), (5, 4, c))
        for pixel in ((0, 2), (2, 0), (2, 2), (4, 3)):
            x, mark = normal((1, 5, 4, c), "float32"), np.zeros((1, 5, 4, c))
            x[0, *pixel], mark[0, *pixel] = value, 1
            want = reference.up_sampling2d(mark, size, interpolation) > 1e-9
            assert (np.isfinite(layer.forward(x)) == ~want).all()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize(("size", "shape"), [((2, 2), (6, 5, 3)), ((3, 4), (4, 1, 9)), ((1, 3), (1, 4, 2))])
def test_pytorch_has_the_same_upsampling(size, shape, interpolation):
    torch = pytest.importorskip("torch")
    layer = build(layers.UpSampling2D(size, interpolation, dtype="float64"), shape)
    x, dy = inputs(layer, 2, "float64")
    got = run(layer, x, dy)
    image = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    more = {} if interpolation == "nearest" else {"align_corners": False}
    y = torch.nn.functional.interpolate(image, scale_factor=size, mode=interpolation, **more)
    y.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    assert_close(got["y"], y.detach().numpy().transpose(0, 2, 3, 1), 1e-12)
    assert_close(got["dx"], image.grad.numpy().transpose(0, 2, 3, 1), 1e-12)


@st.composite
def permuted(draw):
    axes = draw(st.integers(1, 6))
    shape = [draw(st.sampled_from([1, 2, 3, 4, 5, 7])) for _ in range(axes)]
    if axes < 4:  # longer than a block
        shape[draw(st.integers(0, axes - 1))] = draw(st.sampled_from([16, 31, 64, 65, 130]))
    return tuple(shape), tuple(draw(st.permutations(range(1, axes + 1))))


@given(permuted(), batches, dtypes, layouts)
def test_permute(case, n, dtype, layout):
    shape, dims = case
    layer = build(layers.Permute(dims, dtype=dtype), shape)
    x, dy = inputs(layer, n, dtype)
    got = run(layer, x, dy, layout)
    assert_same_bits(got["y"], np.ascontiguousarray(reference.permute(x, dims)))
    assert_same_bits(got["dx"], np.ascontiguousarray(reference.permute_grad(dy, dims)))


@pytest.mark.parametrize(("shape", "dims"), [
    ((65, 5), (2, 1)), ((5, 65), (2, 1)), ((2, 65), (2, 1)), ((129, 65, 4), (3, 2, 1)), ((65, 3, 20), (2, 1, 3)),
    ((3, 65, 5), (2, 1, 3)), ((3, 4, 5, 65), (2, 4, 1, 3)), ((4, 3, 5, 2), (3, 1, 4, 2)), ((65, 20), (1, 2)),
])  # fmt: skip
def test_permute_a_little_more_than_a_block(shape, dims):
    layer = build(layers.Permute(dims), shape)
    x = normal((3, *shape), "float32")
    assert_same_bits(layer.forward(x), np.ascontiguousarray(reference.permute(x, dims)))


def test_permute_as_many_axes_as_there_may_be():
    shape = (*[1] * 28, 2, 3)
    dims = tuple(range(30, 0, -1))
    layer = build(layers.Permute(dims), shape)
    x, dy = inputs(layer, 2, "float32")
    assert_same_bits(run(layer, x, dy)["y"], np.ascontiguousarray(reference.permute(x, dims)))
    assert layers.Permute([2, 1]).dims == (2, 1)


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
    layers.UpSampling2D((3, 2)), layers.UpSampling2D((2, 3), "bilinear"), layers.Permute((2, 3, 1)),
], ids=repr)  # fmt: skip
def test_gradient_by_finite_differences(layer):
    assert gradcheck(layer, normal((2, 3, 4, 2)))


@pytest.mark.parametrize("make", [
    lambda: layers.ZeroPadding2D(2), lambda: layers.Cropping2D(2), lambda: layers.Rescaling(0.3, 0.1),
    lambda: layers.UpSampling2D(),
    lambda: layers.UpSampling2D((3, 2), "bilinear"), lambda: layers.Permute((3, 1, 2)),
    lambda: layers.Permute((2, 1, 3)),
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
    (lambda: layers.UpSampling2D(0), ValueError, "UpSampling2D: size must be a whole number >= 1; got 0"),
    (lambda: layers.UpSampling2D((2, 2.0)), TypeError, r"UpSampling2D: size must be .*; got 2.0 \(float\)"),
    (lambda: layers.UpSampling2D(True), TypeError, r"UpSampling2D: size must be .*; got True \(bool\)"),
    (lambda: layers.UpSampling2D((2, 2, 2)), ValueError, "UpSampling2D: size must be a whole number or a pair of them"),
    (lambda: layers.UpSampling2D(2**15 + 1), ValueError, "UpSampling2D: size must be at most 32768; got 32769"),
    (lambda: layers.UpSampling2D(2, "bicubic"), ValueError,
     "UpSampling2D: interpolation must be one of 'nearest', 'bilinear'; got 'bicubic'"),
    (lambda: layers.UpSampling2D(2, None), TypeError, "UpSampling2D: interpolation must be one of .*; got None"),
    (lambda: layers.UpSampling2D(2).build((4, 4), NONE), ValueError, "UpSampling2D: one sample must have an image"),
    (lambda: layers.UpSampling2D(2**15).build((2**9, 2**9, 3), NONE), ValueError,
     r"UpSampling2D: an image of the output must have fewer than 2,147,483,648 elements; got \(16777216, "),
    (lambda: layers.Permute(2), TypeError, r"Permute: dims must be a list of numbers; got 2 \(int\)"),
    (lambda: layers.Permute(()), ValueError, r"Permute: dims must name every axis .*, from 1 on; got \(\)"),
    (lambda: layers.Permute((0, 1)), ValueError, "Permute: every axis of dims must be a whole number >= 1; got 0"),
    (lambda: layers.Permute((1, 3)), ValueError, r"Permute: dims must name every axis .*; got \(1, 3\)"),
    (lambda: layers.Permute((2, 2)), ValueError, r"Permute: dims must name every axis .*; got \(2, 2\)"),
    (lambda: layers.Permute((1, 2.0)), TypeError, r"Permute: every axis of dims must be .*; got 2.0 \(float\)"),
    (lambda: layers.Permute((1, "2")), TypeError, r"Permute: every axis of dims must be .*; got '2' \(str\)"),
    (lambda: layers.Permute((True, 2)), TypeError, r"Permute: every axis of dims must be .*; got True \(bool\)"),
    (lambda: layers.Permute((2, 1)).build((4, 5, 6), NONE), ValueError,
     r"Permute: one sample must have 2 axes for dims = \(2, 1\); got \(4, 5, 6\)"),
    (lambda: layers.Rescaling("1/255"), TypeError, r"Rescaling: scale must be a number; got '1/255' \(str\)"),
    (lambda: layers.Rescaling(float("nan")), ValueError, "Rescaling: scale must be a number; got nan"),
    (lambda: layers.Rescaling(1, True), TypeError, r"Rescaling: offset must be a number; got True \(bool\)"),
])  # fmt: skip
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()
