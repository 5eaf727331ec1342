"""Dense against the reference."""

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from running import at_every_thread_count, build, dtypes, inputs, layouts, normal, run

from minicnn import layers
from minicnn._ext import dense as kernels
from minicnn.testing import gradcheck

widths = st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 127, 129, 255, 256, 257, 300, 513]))


def check(layer, n, layout="C"):
    x, dy = inputs(layer, n, layer.dtype)
    got = run(layer, x, dy, layout)
    kernel, bias = layer.params["kernel"], layer.params.get("bias")
    d, m = kernel.shape
    flat_x, flat_dy = x.reshape(x.size // d, d), dy.reshape(dy.size // m, m)
    absolute = [None if array is None else np.abs(array) for array in (flat_x, kernel, bias, flat_dy)]
    want, scale = reference.dense(flat_x, kernel, bias), reference.dense(*absolute[:3])
    rtol = {"y": tolerance(x.dtype, d), "dx": tolerance(x.dtype, m)}
    assert_close(got["y"].reshape(flat_dy.shape), want, rtol["y"], x.dtype, scale.max(initial=0))
    assert got["y"].shape == (n, *layer.output_shape)
    assert got["dx"].shape == x.shape
    got["dx"] = got["dx"].reshape(flat_x.shape)
    wants = reference.dense_grad(flat_x, kernel, flat_dy)
    scales = reference.dense_grad(absolute[0], absolute[1], absolute[3])
    names = ("dx", "kernel", "bias") if bias is not None else ("dx", "kernel")
    for name, want, scale in zip(names, wants, scales, strict=False):
        limit = rtol.get(name, tolerance(x.dtype, len(flat_x)))
        assert_close(got[name], want, limit, x.dtype, scale.max(initial=0))


@given(widths, widths, st.sampled_from([0, 1, 2, 5, 14, 31, 32, 33, 130]), st.booleans(), dtypes, layouts)
def test_dense(d, m, n, use_bias, dtype, layout):
    check(build(layers.Dense(m, use_bias=use_bias, dtype=dtype), (d,)), n, layout)


@pytest.mark.parametrize(("d", "dtype"), [(1024, "float32"), (2048, "float32"), (512, "float64")])
@pytest.mark.parametrize(("n", "m"), [(8, 40), (9, 40), (21, 33), (130, 10), (1, 150)])
def test_rows_a_multiple_of_a_page_apart(n, d, m, dtype):
    """They are copied before they are multiplied, where they would displace each other from the cache."""
    check(build(layers.Dense(m, dtype=dtype), (d,)), n)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(0, 3), dtypes, layouts)
def test_dense_along_the_last_axis(shape, n, dtype, layout):
    check(build(layers.Dense(3, dtype=dtype), tuple(shape)), n, layout)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", [*reference.ACTIVATIONS, "softmax"])
def test_activation(activation, dtype):
    layer = build(layers.Dense(9, activation=activation, dtype=dtype), (7,))
    x, dy = inputs(layer, 5, dtype)
    got = run(layer, x, dy)
    kernel, bias = layer.params["kernel"], layer.params["bias"]
    z = reference.dense(x, kernel, bias)
    rtol = 10 * tolerance(dtype, 7)  # an error of z comes back in y and in dz
    assert_close(got["y"], reference.activation(activation, z, 0.01), rtol, dtype)
    dz = reference.activation_grad(activation, z, dy, slope=0.01)
    for name, want in zip(("dx", "kernel", "bias"), reference.dense_grad(x, kernel, dz), strict=True):
        assert_close(got[name], want, rtol, dtype)
    assert_same_bits(layer.forward(x), got["y"])


@pytest.mark.parametrize("arguments", [
    {"units": 4}, {"units": 1, "activation": "sigmoid"}, {"units": 5, "activation": "softmax", "use_bias": False},
    {"units": 33, "activation": "gelu"},
])  # fmt: skip
def test_gradient_by_finite_differences(arguments):
    assert gradcheck(build(layers.Dense(**arguments, dtype="float64"), (6,)), normal((3, 6)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "d", "m"), [
    (200, 150, 70), (3, 400, 300), (1, 600, 300), (500, 40, 30), (20, 1024, 100),
])  # fmt: skip
def test_same_bits_at_any_thread_count(n, d, m, dtype):
    def make():
        return build(layers.Dense(m, activation="tanh", dtype=dtype), (d,))

    first, *others = at_every_thread_count(make, *inputs(make(), n, dtype))
    for other in others:
        for name, array in first.items():
            assert_same_bits(array, other[name])


@pytest.mark.parametrize("d", [300, 1024])
@pytest.mark.parametrize("units", [10, 37, 40, 150])
def test_a_sample_does_not_depend_on_its_neighbours(d, units):
    """The bits of one sample's output are the same alone and in a batch."""
    layer = build(layers.Dense(units, use_bias=units > 40, activation="tanh"), (d,))
    x = normal((70, d), "float32")
    together = layer.forward(x)
    for i in (0, 33, 69):
        assert_same_bits(layer.forward(x[i : i + 1]), together[i : i + 1])
    assert_same_bits(layer.forward(x[5:16]), together[5:16])


def test_backward_params_gives_the_same_gradients():
    layer = build(layers.Dense(4, activation="relu"), (6,))
    x, dy = inputs(layer, 5, "float32")
    whole = run(layer, x, dy)
    layer.forward(x, training=True)
    assert layer.backward_params(dy) is None
    for name in ("kernel", "bias"):
        assert_same_bits(layer.grads[name], whole[name])


def test_a_nan_stays_in_its_sample():
    layer = build(layers.Dense(40, activation="relu"), (50,))
    x = normal((20, 50), "float32")
    x[3, 7], x[5, 0] = np.nan, np.inf
    y = layer.forward(x)
    assert np.isnan(y[3]).all()
    assert not np.isnan(np.delete(y, 3, 0)).any()
    assert np.isinf(y[5]).any()


def test_shapes_and_multiply_adds():
    layer = layers.Dense(8)
    assert layer.build((5, 3), np.random.default_rng(0)) == (5, 8)
    assert layer.params["kernel"].shape == (3, 8)
    assert layer.multiply_adds() == 5 * 3 * 8
    assert (layer.params["bias"] == 0).all()


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((0,), ValueError, r"Dense: units must be a whole number >= 1; got 0"),
    ((2.5,), TypeError, r"Dense: units must be a whole number >= 1; got 2.5 \(float\)"),
    ((4, "sofmax"), ValueError, r"Dense: activation must .*; got 'sofmax'. Did you mean 'softmax'\?"),
    ((4, len), TypeError, r"Dense: activation must be None, the name .*; got <built-in function len>.*"),
    ((4, None, "yes"), TypeError, r"Dense: use_bias must be True or False; got 'yes' \(str\)"),
    ((4, None, True, "he"), ValueError, r"Dense: an initializer must be one of .*; got 'he'.*"),
    ((4, None, True, "zeros", "zeros", "l3"), ValueError, r"Dense: kernel_regularizer must be one of .*; got 'l3'.*"),
])  # fmt: skip
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        layers.Dense(*arguments)


def test_an_initializer_that_returns_another_shape():
    layer = layers.Dense(10, kernel_initializer=lambda shape, rng: rng.normal(size=shape[::-1]))
    required = r"Dense: the initializer of kernel must return shape \(20, 10\); got shape \(10, 20\)"
    with pytest.raises(ValueError, match=required):
        layer.build((20,), np.random.default_rng(0))


def test_the_kernels_check_the_shapes():
    """Parameters are in anybody's reach: a wrong one is an error, not a write beyond an array."""
    x, w, y = (np.zeros(shape, np.float32) for shape in ((3, 20), (19, 10), (3, 10)))
    with pytest.raises(ValueError, match=r"kernel: w must be \(D, M\)"):
        kernels.forward(x, w, None, y)
    with pytest.raises(ValueError, match="kernel: bias must have one value for each output"):
        kernels.forward(x[:, :19].copy(), w, np.zeros(9, np.float32), y)
