"""Conv2D against the reference: every geometry, both types, every layout of the input."""

import json

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from running import (
    at_every_thread_count,
    batches,
    borders,
    build,
    channels,
    dtypes,
    inputs,
    layouts,
    normal,
    run,
    sizes,
)

from minicnn import layers
from minicnn._ext import conv as kernels
from minicnn.testing import gradcheck

ACTIVATIONS = [*reference.ACTIVATIONS, "softmax"]


@st.composite
def convolutions(draw, groups=None):
    """Arguments of Conv2D and the shape of an image that suits them; at most some million multiplications."""
    g = draw(st.integers(1, 4)) if groups is None else groups
    cg, fg = (draw(channels) for _ in range(2)) if g == 1 else (draw(st.integers(1, 9)) for _ in range(2))
    kernel, strides, dilation = [], [], []
    image = [draw(sizes), draw(sizes)]
    if image[0] * image[1] * cg * fg > 60_000:  # large images of few channels, or small ones of many
        image = [1 + size % 9 for size in image]
    padding = draw(st.sampled_from(["valid", "same"]) | borders)
    for axis, size in enumerate(image):
        rate = draw(st.integers(1, 3))
        padded = size if isinstance(padding, str) else size + sum(padding[axis])
        largest = 7 if padding == "same" else (padded - 1) // rate + 1
        kernel.append(draw(st.integers(1, min(7, largest))))
        strides.append(draw(st.integers(1, 4)))
        dilation.append(rate)
    arguments = {
        "filters": g * fg, "kernel_size": tuple(kernel), "strides": tuple(strides), "padding": padding,
        "dilation_rate": tuple(dilation), "groups": g, "use_bias": draw(st.booleans()), "dtype": draw(dtypes),
    }  # fmt: skip
    return arguments, (*image, g * cg)


def check(arguments, image, n, layout="C"):
    layer = build(layers.Conv2D(**arguments), image)
    x, dy = inputs(layer, n, layer.dtype)
    got = run(layer, x, dy, layout)
    options = layer.strides, layer.padding, layer.dilation_rate, layer.groups
    kernel, bias = layer.params["kernel"], layer.params.get("bias")
    compare(got, x, kernel, bias, dy, options)


def compare(got, x, kernel, bias, dy, options):
    """All results against the reference; scales are the sizes of the sums' terms."""
    size = [None if array is None else np.abs(array) for array in (x, kernel, bias, dy)]
    kh, kw, cg, f = kernel.shape
    want, scale = (reference.conv2d(*arrays, *options) for arrays in ((x, kernel, bias), size[:3]))
    assert_close(got["y"], want, tolerance(x.dtype, kh * kw * cg), x.dtype, scale.max(initial=0))
    names = ("dx", "kernel", "bias") if bias is not None else ("dx", "kernel")
    pixels = dy.size // f
    terms = {"dx": kh * kw * f // options[3], "kernel": pixels, "bias": pixels}
    wants = reference.conv2d_grad(x, kernel, dy, *options)
    scales = reference.conv2d_grad(size[0], size[1], size[3], *options)
    for name, want, scale in zip(names, wants, scales, strict=False):
        assert_close(got[name], want, tolerance(x.dtype, terms[name]), x.dtype, scale.max(initial=0))


@given(convolutions(groups=1), batches, layouts)
def test_convolution(case, n, layout):
    check(*case, n, layout)


@given(convolutions(), batches)
def test_grouped_convolution(case, n):
    check(*case, n)


@given(convolutions(groups=1), channels, batches, layouts)
def test_depthwise_convolution(case, c, n, layout):
    arguments, image = case
    check(arguments | {"filters": c, "groups": c}, (*image[:2], c), n, layout)


@pytest.mark.parametrize("groups", [1, 4, 2])
@pytest.mark.parametrize("padding", [40, ((9, 0), (0, 9)), ((0, 0), (12, 30))])
def test_windows_in_padding_alone_give_the_bias(padding, groups):
    arguments = {"filters": 4, "kernel_size": 3, "strides": (2, 3), "padding": padding, "groups": groups}
    for dtype in ("float32", "float64"):
        check(arguments | {"dtype": dtype}, (4, 5, 4), 2)
    layer = build(layers.Conv2D(**arguments), (4, 5, 4))
    y = layer.forward(normal((1, 4, 5, 4)))
    ones = np.ones((1, 4, 5, 1)), np.ones((3, 3, 1, 1))
    alone = reference.conv2d(*ones, None, (2, 3), layer.padding)
    assert (alone == 0).any()
    assert (y[0][alone[0, ..., 0] == 0] == layer.params["bias"]).all()


@pytest.mark.parametrize(("padding", "borders"), [
    ("SAME", "same"), ("Valid", "valid"), (2, ((2, 2), (2, 2))), ((1, 3), ((1, 1), (3, 3))),
    ([[1, 2], [0, 3]], ((1, 2), (0, 3))), ([1, [0, 2]], ((1, 1), (0, 2))), (np.int8(1), ((1, 1), (1, 1))),
])  # fmt: skip
@pytest.mark.parametrize("make", [
    lambda padding: layers.Conv2D(2, 3, padding=padding), lambda padding: layers.DepthwiseConv2D(3, padding=padding),
    lambda padding: layers.SeparableConv2D(2, 3, padding=padding),
    lambda padding: layers.MaxPooling2D(3, padding=padding),
    lambda padding: layers.AveragePooling2D(3, padding=padding),
])  # fmt: skip
def test_paddings(make, padding, borders):
    """One meaning in all layers, which a file keeps."""
    layer = make(padding)
    assert layer.padding == borders
    again = type(layer)(**json.loads(json.dumps(layer.get_config())))
    assert again.padding == borders
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("padding", ["same", 1, 2, ((0, 3), (2, 1))])
@pytest.mark.parametrize("groups", [1, 16])
@pytest.mark.parametrize("algorithm", ["auto", "exact"])
def test_padding_is_a_frame_of_zeros(algorithm, groups, padding):
    """The same numbers as of ZeroPadding2D before it, in every algorithm."""
    image = 8, 9, 16
    one = build(layers.Conv2D(32, 3, padding=padding, groups=groups, algorithm=algorithm), image)
    sides = ((1, 1), (1, 1)) if padding == "same" else one.padding
    frame = build(layers.ZeroPadding2D(sides), image)
    other = build(layers.Conv2D(32, 3, groups=groups, algorithm=algorithm), frame.output_shape)
    x, dy = inputs(one, 3, "float32")
    got, want = run(one, x, dy), run(other, frame.forward(x, training=True), dy)
    want["dx"] = frame.backward(want["dx"])
    for name, array in got.items():
        assert_close(array, want[name], 2e-5 if algorithm == "auto" else 1e-6)


def test_padding_against_torch():
    torch = pytest.importorskip("torch")
    x = normal((2, 9, 8, 6), "float32")
    for padding, strides, dilation, groups in [(1, 1, 1, 1), ((2, 1), 2, 1, 3), (4, (1, 2), 2, 6), ((0, 3), 1, 1, 6)]:
        arguments = {"strides": strides, "padding": padding, "dilation_rate": dilation, "groups": groups}
        layer = build(layers.Conv2D(12, 3, **arguments), x.shape[1:])
        kernel, bias = (torch.from_numpy(layer.params[key]).requires_grad_() for key in ("kernel", "bias"))
        images = torch.from_numpy(x).requires_grad_()
        y = torch.nn.functional.conv2d(
            images.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), bias, strides, padding, dilation, groups
        ).permute(0, 2, 3, 1)
        dy = normal(y.shape, "float32", 1)
        y.backward(torch.from_numpy(dy))
        got = run(layer, x, dy)
        want = {"y": y.detach(), "dx": images.grad, "kernel": kernel.grad, "bias": bias.grad}
        for name, array in want.items():
            assert_close(got[name], array.numpy(), 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("image", "filters", "kernel", "padding"), [
    ((28, 28, 1), 32, 3, "valid"), ((28, 28, 1), 6, 5, "same"), ((12, 12, 32), 64, 3, "valid"),
    ((16, 16, 3), 32, 3, "same"), ((14, 14, 6), 16, 5, "valid"), ((4, 4, 80), 100, 1, "same"),
    ((2, 2, 300), 7, 2, "same"), ((9, 25, 1), 7, 4, "valid"), ((6, 17, 1), 20, 2, "same"), ((7, 8, 1), 40, 3, "same"),
])  # fmt: skip
def test_layers_of_well_known_networks(image, filters, kernel, padding, dtype):
    check({"filters": filters, "kernel_size": kernel, "padding": padding, "dtype": dtype}, image, 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [1, 3])
def test_tiles_of_every_width(k, dtype):
    """Whole numbers, so that every sum is exact: columns that no tile makes, or two do, would show."""
    rng = np.random.default_rng(0)
    for f in [*range(1, 42), 48, 56, 72, 80, 100]:
        for out in {1 + f % 15, 16 - f % 15, 7}:
            c = (1, 8, 20, 36)[f % 4]
            x, dy = (rng.integers(-4, 5, (1, *shape)).astype(dtype) for shape in ((2 + k, out + k - 1, c), (3, out, f)))
            kernel = rng.integers(-4, 5, (k, k, c, f)).astype(dtype)
            bias, y, dx = kernel[0, 0, 0].copy(), np.full_like(dy, 9), np.full_like(x, 9)
            dkernel, dbias, geometry = np.full_like(kernel, 9), np.full_like(bias, 9), (1, 1, 0, 0, 1, 1, 1)
            kernels.forward(x, kernel, bias, y, geometry)
            kernels.backward_input(dy, kernel, dx, geometry)
            kernels.backward_params(x, dy, dkernel, dbias, geometry)
            want = reference.conv2d(x, kernel, bias), *reference.conv2d_grad(x, kernel, dy)
            for name, got, one in zip(["y", "dx", "dkernel", "dbias"], (y, dx, dkernel, dbias), want, strict=True):
                assert np.array_equal(got, one), f"{name}, {f} filters, {out} columns"


@pytest.mark.parametrize("padding", ["valid", 1])
def test_1x1_is_a_product_of_matrices(padding):
    """Whose rows are the pixels of an image: bit for bit what a row of pixels alone gives, in all three passes."""
    x = normal((3, 15, 10, 12), "float32")
    whole, row = (build(layers.Conv2D(20, 1, padding=padding, activation="relu"), (h, 10, 12)) for h in (15, 1))
    y, inner = whole.forward(x, training=True), slice(None) if padding == "valid" else slice(1, -1)
    dx = whole.backward(y)
    for i in range(15):
        got = row.forward(np.ascontiguousarray(x[:, i : i + 1]), training=True)
        assert_same_bits(got[:, inner], y[:, inner][:, i : i + 1])
        assert_same_bits(row.backward(got), dx[:, i : i + 1])
    # 150 pixels, and more than are taken at a time: one chain for each weight, of whole numbers an exact one
    check({"filters": 20, "kernel_size": 1, "padding": padding, "dtype": "float32"}, (15, 10, 12), 3)


@pytest.mark.parametrize("n", [17, 33])
def test_more_images_than_chunks(n):
    """The batch of the parameters' gradient is cut into at most 16 chunks, which then are unequal."""
    check({"filters": 5, "kernel_size": 3}, (5, 4, 3), n)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation(activation, dtype):
    layer = build(layers.Conv2D(9, 3, activation=activation, dtype=dtype), (5, 6, 2))
    x, dy = inputs(layer, 3, dtype)
    got = run(layer, x, dy)
    kernel, bias = layer.params["kernel"], layer.params["bias"]
    z = reference.conv2d(x, kernel, bias)
    rtol = 10 * tolerance(dtype, 18)  # an error of z comes back in y and in dz
    assert_close(got["y"], reference.activation(activation, z, 0.01), rtol, dtype)
    dz = reference.activation_grad(activation, z, dy, slope=0.01)
    for name, want in zip(("dx", "kernel", "bias"), reference.conv2d_grad(x, kernel, dz), strict=True):
        assert_close(got[name], want, rtol, dtype)
    assert_same_bits(layer.forward(x), got["y"])


@pytest.mark.parametrize(("arguments", "image"), [
    ({"filters": 4, "kernel_size": (3, 2), "strides": (2, 1), "padding": "same"}, (5, 6, 3)),
    ({"filters": 2, "kernel_size": 3, "dilation_rate": (1, 2), "activation": "tanh"}, (5, 7, 2)),
    ({"filters": 6, "kernel_size": 2, "groups": 3, "activation": "gelu", "use_bias": False}, (4, 4, 6)),
    ({"filters": 5, "kernel_size": 3, "groups": 5, "activation": "relu", "padding": "same"}, (4, 3, 5)),
    ({"filters": 3, "kernel_size": 2, "activation": "softmax"}, (3, 4, 2)),
    ({"filters": 4, "kernel_size": (3, 2), "strides": (2, 1), "padding": ((4, 1), (0, 3)), "groups": 2}, (3, 4, 2)),
])  # fmt: skip
def test_gradient_by_finite_differences(arguments, image):
    assert gradcheck(build(layers.Conv2D(**arguments, dtype="float64"), image), normal((2, *image)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("arguments", "n", "image"), [
    ({"filters": 24, "kernel_size": 3, "padding": "same", "activation": "relu"}, 20, (12, 11, 10)),
    ({"filters": 24, "kernel_size": 3, "strides": 2, "groups": 2}, 7, (15, 14, 12)),
    ({"filters": 40, "kernel_size": 5, "padding": "same", "groups": 40}, 5, (12, 12, 40)),
    ({"filters": 40, "kernel_size": 3, "padding": ((3, 0), (1, 2)), "strides": 2, "groups": 20}, 5, (12, 12, 20)),
    ({"filters": 64, "kernel_size": 3, "padding": "same"}, 1, (16, 16, 32)),
])  # fmt: skip
def test_same_bits_at_any_thread_count(arguments, n, image, dtype):
    def make():
        return build(layers.Conv2D(**arguments, dtype=dtype), image)

    first, *others = at_every_thread_count(make, *inputs(make(), n, dtype))
    for other in others:
        for name, array in first.items():
            assert_same_bits(array, other[name])


def test_backward_params_gives_the_same_gradients():
    layer = build(layers.Conv2D(4, 3, activation="relu"), (6, 6, 3))
    x, dy = inputs(layer, 2, "float32")
    whole = run(layer, x, dy)
    layer.forward(x, training=True)
    assert layer.backward_params(dy) is None
    for name in ("kernel", "bias"):
        assert_same_bits(layer.grads[name], whole[name])


def test_a_nan_reaches_only_the_pixels_that_see_it():
    layer = build(layers.Conv2D(3, 3, padding="same", activation="relu"), (7, 8, 2))
    x = normal((2, 7, 8, 2), "float32")
    x[1, 3, 0, 1] = np.nan
    want = np.zeros((2, 7, 8), bool)
    want[1, 2:5, 0:2] = True
    assert (np.isnan(layer.forward(x)) == want[..., None]).all()


def test_shapes_and_multiply_adds():
    layer = layers.Conv2D(8, (3, 2), strides=(2, 1), padding="same", groups=2)
    assert layer.build((9, 5, 4), np.random.default_rng(0)) == (5, 5, 8)
    assert layer.params["kernel"].shape == (3, 2, 2, 8)
    assert layer.params["bias"].shape == (8,)
    assert layer.multiply_adds() == 25 * 3 * 2 * 2 * 8
    assert (layer.params["bias"] == 0).all()
    limit = (6 / (3 * 2 * 2 + 3 * 2 * 8)) ** 0.5  # Glorot, with the fans of one group's kernel as Keras counts them
    assert 0.8 * limit < np.abs(layer.params["kernel"]).max() <= limit


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((0, 3), ValueError, r"Conv2D: filters must be a whole number >= 1; got 0"),
    ((2.5, 3), TypeError, r"Conv2D: filters must be a whole number >= 1; got 2.5 \(float\)"),
    ((True, 3), TypeError, r"Conv2D: filters must be a whole number >= 1; got True \(bool\)"),
    ((4, 0), ValueError, r"Conv2D: kernel_size must be a whole number >= 1; got 0"),
    ((4, -1), ValueError, r"Conv2D: kernel_size must be .*; got -1"),
    ((4, "3"), TypeError, r"Conv2D: kernel_size must be .*; got '3' \(str\)"),
    ((4, (3, 3, 3)), ValueError, r"Conv2D: kernel_size must be a whole number or a pair of them; got \(3, 3, 3\)"),
    ((4, 3, 0), ValueError, r"Conv2D: strides must be a whole number >= 1; got 0"),
    ((4, 3, (1, -1)), ValueError, r"Conv2D: strides must be .*; got -1"),
    ((4, 3, 1, "smae"), ValueError, r"Conv2D: padding must be one of .*; got 'smae'. Did you mean 'same'\?"),
    ((4, 3, 1, None), TypeError, r"Conv2D: padding must be 'valid', 'same', a whole number >= 0, .*; got None .*"),
    ((4, 3, 1, float("nan")), TypeError, r"Conv2D: padding must be .*; got nan \(float\)"),
    ((4, 3, 1, -1), ValueError, r"Conv2D: padding must be a whole number >= 0; got -1"),
    ((4, 3, 1, True), TypeError, r"Conv2D: padding must be a whole number >= 0; got True \(bool\)"),
    ((4, 3, 1, 2**15 + 1), ValueError, r"Conv2D: padding must be at most 32768; got 32769"),
    ((4, 3, 1, ((0, 2**70), (1, 1))), ValueError, r"Conv2D: padding must be at most 32768; got 1180591620717411303424"),
    ((4, 3, 1, (1, 2, 3)), ValueError, r"Conv2D: padding must be a whole number or a pair of them; got \(1, 2, 3\)"),
    ((4, 3, 1, (1,)), ValueError, r"Conv2D: padding must be a whole number or a pair of them; got \(1,\)"),
    ((4, 3, 1, ((1, 2), (3,))), ValueError, r"Conv2D: padding must be a whole number or a pair of them; got \(3,\)"),
    ((4, 3, 1, ((1, 2), ((3, 1), 2))), TypeError, r"Conv2D: padding must be .* >= 0; got \(3, 1\) \(tuple\)"),
    ((4, 3, 1, ((1, 2), "same")), TypeError, r"Conv2D: padding must be a whole number >= 0; got 'same' \(str\)"),
    ((4, 3, 1, ((1, -2), (0, 0))), ValueError, r"Conv2D: padding must be a whole number >= 0; got -2"),
    ((4, 3, 1, {}), TypeError, r"Conv2D: padding must be a whole number >= 0; got {} \(dict\)"),
    ((4, 3, 1, "same", 0), ValueError, r"Conv2D: dilation_rate must be .*; got 0"),
    ((4, 3, 1, "same", 1, 0), ValueError, r"Conv2D: groups must be .*; got 0"),
    ((4, 3, 1, "same", 1, 3), ValueError, r"Conv2D: filters must be divisible by groups = 3; got 4"),
    ((4, 3, 1, "same", 1, 1, "rleu"), ValueError, r"Conv2D: activation must .*; got 'rleu'. Did you mean 'relu'\?"),
    ((4, 3, 1, "same", 1, 1, None, 1), TypeError, r"Conv2D: use_bias must be True or False; got 1 \(int\)"),
])  # fmt: skip
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        layers.Conv2D(*arguments)


@pytest.mark.parametrize(("keywords", "message"), [
    ({"kernel_initializer": "glorot"}, r"Conv2D: an initializer must be one of .*; got 'glorot'"),
    ({"kernel_constraint": "maxnorm"}, r"Conv2D: kernel_constraint must .*; got 'maxnorm'. Did you mean 'max_norm'\?"),
    ({"dtype": "float16"}, r"Conv2D: dtype must be 'float32' or 'float64'; got 'float16'"),
])  # fmt: skip
def test_wrong_keywords(keywords, message):
    with pytest.raises(ValueError, match=message):
        layers.Conv2D(4, 3, **keywords)


@pytest.mark.parametrize(("arguments", "image", "message"), [
    ((4, 3), (2, 5, 1), r"Conv2D: an image must be at least as large as the kernel \(3, 3\) .*; got \(2, 5, 1\)"),
    ((4, 3, 1, "valid", 2), (4, 9, 1), r"Conv2D: an image must be at least as large as .* with dilation \(2, 2\)"),
    ((4, 9, 1, 2), (4, 5, 1), r"Conv2D: an image with its padding \(\(2, 2\), \(2, 2\)\) must be .*; got \(4, 5, 1\)"),
    ((4, 3, 1, "same", 1, 2), (4, 4, 3), r"Conv2D: the channels .* divisible by groups = 2; got 3"),
    ((4, 3), (8, 8), r"Conv2D: one sample must have an image \(height, width, channels\); got \(8, 8\)"),
    ((4, 3), (0, 8, 1), r"Conv2D: every axis of input_shape must be a whole number >= 1; got 0"),
])  # fmt: skip
def test_wrong_images(arguments, image, message):
    with pytest.raises(ValueError, match=message):
        layers.Conv2D(*arguments).build(image, np.random.default_rng(0))


def test_padding_that_no_memory_holds():
    layer = layers.Conv2D(1, 3, padding="same", dilation_rate=2**15)
    with pytest.raises(ValueError, match="Conv2D: an image with its padding must have fewer than 2,147,483,648 "):
        layer.build((4, 4, 1), np.random.default_rng(0))
    layer = layers.Conv2D(1, 3, padding=2**15)
    with pytest.raises(ValueError, match="Conv2D: an image with its padding must have fewer than 2,147,483,648 "):
        layer.build((4, 4, 1), np.random.default_rng(0))
    with pytest.raises(ValueError, match="Conv2D: dilation_rate must be at most 32768"):
        layers.Conv2D(1, 3, padding="same", dilation_rate=2**31 - 2)
