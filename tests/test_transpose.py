"""Conv2DTranspose against the reference, against Conv2D, whose gradient it is, and against PyTorch."""

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from running import at_every_thread_count, batches, build, channels, dtypes, inputs, layouts, normal, run

from minicnn import constraints, layers
from minicnn._ext import conv as kernels
from minicnn.testing import gradcheck

ACTIVATIONS = [*reference.ACTIVATIONS, "softmax"]
NONE = np.random.default_rng(0)
shares = st.integers(0, 3)


@st.composite
def transposed(draw):
    """Arguments of Conv2DTranspose and the shape of an image that suits them."""
    c, f = draw(channels), draw(channels)
    high = 4 if c * f > 200 else 12
    image = [draw(st.integers(1, high)) for _ in range(2)]
    kernel, strides, dilation = ([draw(st.integers(1, most)) for _ in range(2)] for most in (5, 4, 3))
    padding, extra = draw(st.sampled_from(["valid", "same", "cut"])), None
    if draw(st.booleans()):
        extra = [draw(st.integers(0, stride - 1)) for stride in strides]
    if padding == "cut":
        padding = tuple((draw(shares), draw(shares)) for _ in range(2))
    paddings = padding if isinstance(padding, tuple) else (padding,) * 2
    for i in range(2):
        one = extra and extra[i]
        while reference.transposed_grid(image[i], kernel[i], strides[i], paddings[i], one, dilation[i])[1] < 1:
            image[i] += 1
    arguments = {
        "filters": f, "kernel_size": tuple(kernel), "strides": tuple(strides), "padding": padding,
        "output_padding": extra and tuple(extra), "dilation_rate": tuple(dilation), "use_bias": draw(st.booleans()),
        "dtype": draw(dtypes),
    }  # fmt: skip
    return arguments, (*image, c)


def grids(layer):
    """((top, left), (OH, OW)) by the reference."""
    paddings = layer.padding if isinstance(layer.padding, tuple) else (layer.padding,) * 2
    extras = layer.output_padding or (None, None)
    axes = [
        reference.transposed_grid(*axis)
        for axis in zip(layer.input_shape, layer.kernel_size, layer.strides, paddings, extras, layer.dilation_rate,
                        strict=False)
    ]  # fmt: skip
    return tuple(zip(*axes, strict=True))


def check(arguments, image, n, layout="C"):
    layer = build(layers.Conv2DTranspose(**arguments), image)
    x, dy = inputs(layer, n, layer.dtype)
    got = run(layer, x, dy, layout)
    cut, shape = grids(layer)
    assert layer.output_shape == (*shape, layer.filters)
    kernel, bias, more = layer.params["kernel"], layer.params.get("bias"), (layer.strides, layer.dilation_rate)
    compare(got, x, kernel, bias, dy, shape, cut, more)


def compare(got, x, kernel, bias, dy, shape, cut, more):
    """All results against the reference; scales are the sizes of the sums' terms."""
    size = [None if array is None else np.abs(array) for array in (x, kernel, bias, dy)]
    kh, kw, f, c = kernel.shape
    want = reference.conv2d_transpose(x, kernel, bias, shape, cut, *more)
    scale = reference.conv2d_transpose(*size[:3], shape, cut, *more)
    assert_close(got["y"], want, tolerance(x.dtype, kh * kw * c), x.dtype, scale.max(initial=0))
    terms = {"dx": kh * kw * f, "kernel": x.size // c, "bias": dy.size // f}
    wants = reference.conv2d_transpose_grad(x, kernel, dy, cut, *more)
    scales = reference.conv2d_transpose_grad(size[0], size[1], size[3], cut, *more)
    for name, want, scale in zip(terms, wants, scales, strict=True):
        if name in got:
            assert_close(got[name], want, tolerance(x.dtype, terms[name]), x.dtype, scale.max(initial=0))


@given(transposed(), batches, layouts)
def test_transposed_convolution(case, n, layout):
    check(*case, n, layout)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("image", "filters", "kernel", "strides", "padding"), [
    ((7, 7, 64), 32, 3, 2, "same"), ((14, 14, 32), 1, 3, 1, "same"), ((4, 4, 100), 64, 5, 2, "same"),
    ((8, 8, 16), 32, 4, 2, "valid"), ((9, 5, 3), 1, 2, 2, "valid"), ((6, 6, 1), 1, 5, 3, "same"),
])  # fmt: skip
def test_layers_of_well_known_networks(image, filters, kernel, strides, padding, dtype):
    check({"filters": filters, "kernel_size": kernel, "strides": strides, "padding": padding, "dtype": dtype}, image, 2)


@pytest.mark.parametrize(("image", "filters", "padding", "n"), [
    ((16, 16, 32), 48, "same", 3), ((9, 14, 16), 16, "valid", 19), ((12, 12, 16), 32, ((2, 1), (0, 4)), 2),
])  # fmt: skip
def test_winograd(image, filters, padding, n):
    """It is chosen, its errors are small, and the bias and its gradient are there."""
    layer = build(layers.Conv2DTranspose(filters, 3, padding=padding, activation="tanh"), image)
    shape = (1, *layer.output_shape), layer.params["kernel"].shape, (1, *image)
    chosen = [kernels.algorithm_of(name, *shape, layer._geometry, 1) for name in kernels.PASSES]
    assert "direct" not in chosen
    exact = build(layers.Conv2DTranspose(filters, 3, padding=padding, activation="tanh", algorithm="exact"), image)
    exact.params["kernel"] *= 0.05
    layer.params["kernel"] *= 0.05
    x, dy = inputs(layer, n, "float32")
    got, want = run(layer, x, dy), run(exact, x, dy)
    assert any((got[name] != want[name]).any() for name in got)
    for name, array in want.items():
        assert_close(got[name], array, 1e-4, "float32", np.abs(array).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("filters", [3, 20])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation(activation, filters, dtype):
    layer = build(layers.Conv2DTranspose(filters, 3, 2, "same", activation=activation, dtype=dtype), (5, 6, 2))
    x, dy = inputs(layer, 3, dtype)
    got = run(layer, x, dy)
    cut, shape = grids(layer)
    kernel, bias = layer.params["kernel"], layer.params["bias"]
    z = reference.conv2d_transpose(x, kernel, bias, shape, cut, layer.strides)
    rtol = 20 * tolerance(dtype, 18)  # an error of z comes back in y and in dz
    assert_close(got["y"], reference.activation(activation, z, 0.01), rtol, dtype)
    dz = reference.activation_grad(activation, z, dy, slope=0.01)
    wants = reference.conv2d_transpose_grad(x, kernel, dz, cut, layer.strides)
    for name, want in zip(("dx", "kernel", "bias"), wants, strict=True):
        assert_close(got[name], want, rtol, dtype)
    assert_same_bits(layer.forward(x), got["y"])


@pytest.mark.parametrize(("padding", "strides", "dilation"), [("valid", 1, 2), ("same", (2, 3), 1), ("same", 1, 1)])
def test_it_is_the_gradient_of_a_convolution(padding, strides, dilation):
    """Without bias: y of the one is dx of the other, and the reverse, where the other's strides leave nothing over."""
    arguments = {"kernel_size": (3, 4), "strides": strides, "padding": padding, "dilation_rate": dilation}
    arguments |= {"use_bias": False, "dtype": "float64"}
    here = build(layers.Conv2DTranspose(5, **arguments), (6, 7, 3))
    there = build(layers.Conv2D(3, **arguments), here.output_shape)
    assert there.output_shape == here.input_shape
    there.params["kernel"][...] = here.params["kernel"]
    x, dy = inputs(here, 2, "float64")
    one, other = run(here, x, dy), run(there, dy, x)
    assert_same_bits(one["y"], other["dx"])
    assert_same_bits(one["dx"], other["y"])
    assert_same_bits(one["kernel"], other["kernel"])


@pytest.mark.parametrize(("arguments", "image"), [
    ({"filters": 4, "kernel_size": (3, 2), "strides": (2, 1), "padding": "same"}, (3, 4, 3)),
    ({"filters": 2, "kernel_size": 3, "dilation_rate": (1, 2), "activation": "tanh"}, (3, 3, 2)),
    ({"filters": 1, "kernel_size": 2, "strides": 3, "output_padding": (2, 0), "activation": "gelu"}, (3, 2, 4)),
    ({"filters": 3, "kernel_size": 3, "padding": ((1, 0), (2, 1)), "activation": "softmax"}, (3, 4, 2)),
])  # fmt: skip
def test_gradient_by_finite_differences(arguments, image):
    assert gradcheck(build(layers.Conv2DTranspose(**arguments, dtype="float64"), image), normal((2, *image)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("arguments", "n", "image"), [
    ({"filters": 24, "kernel_size": 3, "strides": 2, "padding": "same", "activation": "relu"}, 20, (7, 6, 10)),
    ({"filters": 3, "kernel_size": 5, "strides": (2, 1), "activation": "elu"}, 1, (15, 14, 12)),
    ({"filters": 64, "kernel_size": 3, "padding": "same"}, 2, (16, 16, 32)),
])  # fmt: skip
def test_same_bits_at_any_thread_count(arguments, n, image, dtype):
    def make():
        return build(layers.Conv2DTranspose(**arguments, dtype=dtype), image)

    first, *others = at_every_thread_count(make, *inputs(make(), n, dtype))
    for other in others:
        for name, array in first.items():
            assert_same_bits(array, other[name])


def test_backward_params_gives_the_same_gradients():
    layer = build(layers.Conv2DTranspose(4, 3, 2, activation="relu"), (6, 6, 3))
    x, dy = inputs(layer, 2, "float32")
    whole = run(layer, x, dy)
    layer.forward(x, training=True)
    assert layer.backward_params(dy) is None
    for name in ("kernel", "bias"):
        assert_same_bits(layer.grads[name], whole[name])


def test_a_nan_reaches_only_the_pixels_that_see_it():
    layer = build(layers.Conv2DTranspose(3, 3, 2, activation="relu"), (5, 6, 2))
    x = normal((2, 5, 6, 2), "float32")
    x[1, 2, 0, 1] = np.nan
    want = np.zeros((2, 11, 13), bool)
    want[1, 4:7, 0:3] = True
    assert (np.isnan(layer.forward(x)) == want[..., None]).all()


def test_pixels_that_no_window_reaches_have_the_bias():
    layer = build(layers.Conv2DTranspose(5, 1, (3, 2), output_padding=(2, 1), activation="sigmoid"), (3, 4, 2))
    y = layer.forward(normal((2, 3, 4, 2), "float32"))
    want = reference.activation("sigmoid", layer.params["bias"])
    for rest in (y[:, 1::3], y[:, 2::3], y[:, :, 1::2]):
        assert_close(rest, np.broadcast_to(want, rest.shape), 1e-6)


@pytest.mark.parametrize(("arguments", "size", "out"), [  # by hand from the formulas of Keras 3
    ({"kernel_size": 3, "strides": 2}, 5, 11), ({"kernel_size": 2, "strides": 5}, 3, 15),
    ({"kernel_size": 3, "strides": 2, "padding": "same"}, 5, 10), ({"kernel_size": 5, "padding": "same"}, 2, 2),
    ({"kernel_size": 3, "strides": 2, "output_padding": 1}, 5, 12),
    ({"kernel_size": 3, "strides": 2, "output_padding": 0, "padding": "same"}, 5, 9),
    ({"kernel_size": 4, "strides": 3, "output_padding": 2, "padding": "same"}, 5, 14),
    ({"kernel_size": 3, "dilation_rate": 2}, 5, 9), ({"kernel_size": 2, "strides": 4, "output_padding": 0}, 3, 10),
    ({"kernel_size": 4, "strides": 2, "padding": ((1, 1), (1, 1))}, 5, 10),
    ({"kernel_size": 3, "strides": 2, "padding": ((1, 1), (1, 1)), "output_padding": 1}, 5, 10),
])  # fmt: skip
def test_sizes(arguments, size, out):
    assert layers.Conv2DTranspose(2, **arguments).build((size, size, 3), NONE) == (out, out, 2)


def test_shapes_and_multiply_adds():
    layer = layers.Conv2DTranspose(8, (3, 2), strides=(2, 1), padding="same")
    assert layer.build((9, 5, 4), NONE) == (18, 5, 8)
    assert layer.params["kernel"].shape == (3, 2, 8, 4)
    assert layer.params["bias"].shape == (8,)
    assert layer.multiply_adds() == 45 * 3 * 2 * 8 * 4
    assert (layer.params["bias"] == 0).all()
    limit = (6 / (3 * 2 * 8 + 3 * 2 * 4)) ** 0.5  # Glorot, by the last two axes
    assert 0.8 * limit < np.abs(layer.params["kernel"]).max() <= limit
    he = layers.Conv2DTranspose(50, 3, kernel_initializer="he_uniform")
    he.build((5, 5, 4), NONE)
    limit = (6 / (3 * 3 * 50)) ** 0.5  # Keras counts the filters as inputs
    assert 0.8 * limit < np.abs(he.params["kernel"]).max() <= limit


def test_constraints_fit_the_bias():
    layer = layers.Conv2DTranspose(5, 3, bias_constraint=constraints.UnitNorm(axis=0), kernel_constraint="max_norm")
    assert layer.build((4, 4, 2), NONE) == (6, 6, 5)


CASES_OF_TORCH = [  # (kernel, stride, padding, output_padding, dilation)
    ((3, 2), (2, 3), ((0, 0), (0, 0)), (1, 0), (1, 1)), ((3, 4), (2, 2), ((1, 1), (2, 2)), (1, 1), (1, 1)),
    ((3, 3), (1, 1), ((2, 2), (1, 1)), (0, 0), (2, 3)), ((5, 5), (3, 1), ((2, 2), (2, 2)), (2, 0), (1, 2)),
    ((2, 3), (2, 3), "valid", None, (1, 1)), ((4, 4), (2, 2), "same", None, (1, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "stride", "padding", "extra", "dilation"), CASES_OF_TORCH)
def test_pytorch_has_the_same(kernel, stride, padding, extra, dilation):
    torch = pytest.importorskip("torch")
    layer = layers.Conv2DTranspose(5, kernel, stride, padding, extra, dilation, dtype="float64")
    layer = build(layer, (6, 5, 3))
    x, dy = inputs(layer, 2, "float64")
    got = run(layer, x, dy)
    cut = {"valid": (0, 0), "same": (1, 1)}.get(padding) or tuple(before for before, _ in padding)
    image = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    weights = torch.tensor(layer.params["kernel"].transpose(3, 2, 0, 1).copy(), requires_grad=True)
    bias = torch.tensor(layer.params["bias"], requires_grad=True)
    z = torch.nn.functional.conv_transpose2d(image, weights, bias, stride, cut, extra or 0, 1, dilation)
    z.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    assert_close(got["y"], z.detach().numpy().transpose(0, 2, 3, 1), 1e-12)
    assert_close(got["dx"], image.grad.numpy().transpose(0, 2, 3, 1), 1e-12)
    assert_close(got["kernel"], weights.grad.numpy().transpose(2, 3, 1, 0), 1e-12)
    assert_close(got["bias"], bias.grad.numpy(), 1e-12)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((0, 3), ValueError, r"filters must be a whole number >= 1; got 0"),
    ((True, 3), TypeError, r"filters must be a whole number >= 1; got True \(bool\)"),
    ((4, (3, 0)), ValueError, r"kernel_size must be a whole number >= 1; got 0"),
    ((4, 3, float("nan")), TypeError, r"strides must be a whole number >= 1; got nan \(float\)"),
    ((4, 3, 1, "smae"), ValueError, r"padding must be one of .*; got 'smae'. Did you mean 'same'\?"),
    ((4, 3, 1, None), TypeError, r"padding must be 'valid', 'same', .*; got None .*"),
    ((4, 3, 1, ((1, -1), (0, 0))), ValueError, r"padding must be a whole number >= 0; got -1"),
    ((4, 3, 1, ((1, 0.5), (0, 0))), TypeError, r"padding must be a whole number >= 0; got 0.5 \(float\)"),
    ((4, 3, 2, "same", 2), ValueError, r"output_padding must be less than strides, \(2, 2\); got \(2, 2\)"),
    ((4, 3, (2, 1), "same", 1), ValueError, r"output_padding must be less than strides, \(2, 1\); got \(1, 1\)"),
    ((4, 3, 2, "same", -1), ValueError, r"output_padding must be a whole number >= 0; got -1"),
    ((4, 3, 2, "same", "1"), TypeError, r"output_padding must be a whole number >= 0; got '1' \(str\)"),
    ((4, 3, 1, "same", None, 0), ValueError, r"dilation_rate must be a whole number >= 1; got 0"),
    ((4, 3, 1, "same", None, 1, "rleu"), ValueError, r"activation must .*; got 'rleu'. Did you mean 'relu'\?"),
    ((4, 3, 1, "same", None, 1, None, 1), TypeError, r"use_bias must be True or False; got 1 \(int\)"),
])  # fmt: skip
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^Conv2DTranspose: {message}$"):
        layers.Conv2DTranspose(*arguments)


@pytest.mark.parametrize(("arguments", "image", "message"), [
    ((4, 2, 1, ((2, 2), (0, 0))), (3, 3, 1), r"padding and output_padding must leave .*; got \(0, 4\) of \(3, 3, 1\)"),
    ((4, 2, 1, "same", 0), (1, 3, 1), r"padding and output_padding must leave .*; got \(0, 2\) of \(1, 3, 1\)"),
    ((4, 3), (8, 8), r"one sample must have an image \(height, width, channels\); got \(8, 8\)"),
    ((1, 1, 2**15), (2, 2, 1), "an image of the output must have fewer than 2,147,483,648 elements, .*"),
    ((1, 2, 1, "same", None, 2**15), (2**15, 2**15, 1), "an image of the output must have fewer than .*"),
])  # fmt: skip
def test_wrong_images(arguments, image, message):
    with pytest.raises(ValueError, match=f"^Conv2DTranspose: {message}$"):
        layers.Conv2DTranspose(*arguments).build(image, NONE)


def test_an_unknown_algorithm():
    with pytest.raises(ValueError, match=r"^Conv2DTranspose: algorithm must be one of 'auto', 'exact'; got 'F4'$"):
        layers.Conv2DTranspose(4, 3, algorithm="F4")
