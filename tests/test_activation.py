"""The activations against the reference."""

import math

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from running import at_every_thread_count, build, dtypes, layouts, normal, run

from minicnn import layers
from minicnn._ext.machinery import runtime
from minicnn.testing import gradcheck

NAMES = [*reference.ACTIVATIONS, "softmax"]
CLASSES = {
    "relu": layers.ReLU, "leaky_relu": layers.LeakyReLU, "elu": layers.ELU, "gelu": layers.GELU,
    "sigmoid": layers.Sigmoid, "tanh": layers.Tanh, "softmax": layers.Softmax,
}  # fmt: skip
SLOPE = 0.01
shapes = st.lists(st.integers(1, 40), min_size=1, max_size=3).filter(lambda shape: np.prod(shape) < 20_000)


def values(shape, dtype, spread):
    """Normal numbers, with the corner, both ends of the range of exp, and signed zeros among them."""
    x = normal(shape, dtype) * spread
    special = np.array([0.0, -0.0, 1e-30, -1e-30, 20, -20, 80, -80], dtype)
    flat = x.reshape(-1)
    flat[: min(len(special), len(flat)) // 2] = special[: min(len(special), len(flat)) // 2]
    return x


@pytest.mark.parametrize("name", NAMES)
@given(shapes, st.integers(0, 5), dtypes, layouts, st.sampled_from([0.1, 1.0, 10.0]))
def test_activation(name, shape, n, dtype, layout, spread):
    layer = build(layers.Activation(name, dtype=dtype), tuple(shape))
    x = values((n, *shape), dtype, spread)
    dy = normal(x.shape, dtype, seed=3)
    got = run(layer, x, dy, layout)
    terms = shape[-1] if name == "softmax" else 1
    want = reference.activation(name, x, SLOPE)
    assert_close(got["y"], want, tolerance(dtype, terms), dtype, 1 + np.abs(x).max(initial=0))
    want = reference.activation_grad(name, x, dy, slope=SLOPE)
    assert_close(got["dx"], want, tolerance(dtype, terms), dtype, 1 + np.abs(dy).max(initial=0))


@pytest.mark.parametrize("name", list(reference.ACTIVATIONS))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_value_is_exact_in_itself(name, dtype):
    """Relative to each value, not to the largest: small results are as exact as large ones."""
    far = np.geomspace(1e-6, 60, 500)
    x = np.concatenate([np.linspace(-8, 8, 4001), far, -far]).astype(dtype)
    layer = build(layers.Activation(name, dtype=dtype), x.shape)
    got, want = layer.forward(x[None])[0], reference.activation(name, x, SLOPE)
    unit = np.finfo(dtype).eps
    allowed = 8 * unit * np.abs(want)
    if name == "gelu":  # by its formula, x (1 + erf) / 2: what the sum with 1 rounds away is lost on the left
        allowed += unit * np.abs(x)
    assert (np.abs(got - want) <= allowed).all()


@pytest.mark.parametrize("name", NAMES)
def test_gradient_by_finite_differences(name):
    assert gradcheck(layers.Activation(name), normal((3, 2, 5)))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "linear"])
def test_the_class_is_the_function(name):
    x, dy = normal((4, 3, 7), "float32", 1), normal((4, 3, 7), "float32", 2)
    one = run(build(CLASSES[name](), (3, 7)), x, dy)
    other = run(build(layers.Activation(name), (3, 7)), x, dy)
    for key, array in one.items():
        assert_same_bits(array, other[key])


@given(st.floats(0, 2, width=32), dtypes)
def test_leaky_relu_slope(slope, dtype):
    layer = build(layers.LeakyReLU(slope, dtype=dtype), (50,))
    x, dy = normal((3, 50), dtype), normal((3, 50), dtype, 1)
    got = run(layer, x, dy)
    assert_close(got["y"], reference.activation("leaky_relu", x, slope), tolerance(dtype), dtype)
    assert_close(got["dx"], reference.activation_grad("leaky_relu", x, dy, slope), tolerance(dtype), dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_at_any_thread_count(name, dtype):
    x, dy = normal((50, 41, 101), dtype), normal((50, 41, 101), dtype, 1)
    results = at_every_thread_count(lambda: build(layers.Activation(name, dtype=dtype), (41, 101)), x, dy)
    for other in results[1:]:
        for key, array in results[0].items():
            assert_same_bits(array, other[key])


@pytest.mark.parametrize("name", NAMES)
def test_an_element_does_not_depend_on_its_place(name):
    """The vectorised body of a loop and its rest give the same bits."""
    row = values((1, 1, 7), "float32", 3.0)
    x = np.broadcast_to(row, (1, 61, 7))
    y = build(layers.Activation(name), (61, 7)).forward(x)
    alone = build(layers.Activation(name), (1, 7)).forward(row)
    for i in range(61):
        assert_same_bits(y[:, i : i + 1], alone)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "softmax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_nan_passes(name, dtype):
    x = normal((1, 67), dtype)
    x[0, ::5] = np.nan
    y = build(layers.Activation(name, dtype=dtype), (67,)).forward(x)
    assert (np.isnan(y) == np.isnan(x)).all()


def test_a_nan_spoils_its_softmax_only():
    x = normal((4, 9), "float32")
    for at in (0, 4, 8):
        x[2] = 1.0
        x[2, at] = np.nan
        y = build(layers.Softmax(), (9,)).forward(x)
        assert np.isnan(y[2]).all()
        assert np.isfinite(np.delete(y, 2, 0)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinities(dtype):
    x = np.array([[np.inf, -np.inf]], dtype)
    want = {"linear": [np.inf, -np.inf], "relu": [np.inf, 0], "leaky_relu": [np.inf, -np.inf], "elu": [np.inf, -1],
            "sigmoid": [1, 0], "tanh": [1, -1]}  # fmt: skip
    for name, expected in want.items():
        assert build(layers.Activation(name, dtype=dtype), (2,)).forward(x).tolist() == [expected], name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_is_finite_for_finite_input(dtype):
    big = 1e30
    x = np.array([[big, -big, 0], [-big, -big, -big], [1e-30, 0, 0], [big, big, -big]], dtype)
    y = build(layers.Softmax(dtype=dtype), (3,)).forward(x)
    assert_close(y, np.array([[1, 0, 0], [1 / 3] * 3, [1 / 3] * 3, [0.5, 0.5, 0]]), tolerance(dtype), dtype)


@given(st.integers(1, 200), st.floats(0.1, 30))
def test_softmax_sums_to_one(k, spread):
    y = build(layers.Softmax(), (k,)).forward(normal((5, k), "float32") * np.float32(spread))
    assert (y >= 0).all()
    assert_close(y.sum(1, dtype=np.float64), np.ones(5), 3e-7)


def test_relu_at_the_corner():
    layer = build(layers.ReLU(), (4,))
    y = layer.forward([[0.0, -0.0, 1e-45, -1e-45]], training=True)
    assert y.tolist() == [[0, 0, pytest.approx(1e-45, rel=0.5), 0]]
    assert layer.backward(np.ones((1, 4))).tolist() == [[0, 0, 1, 0]]


def test_gelu_is_exact_far_below_zero():
    """Relative to each value, by erfc: the formula with 1 + erf would cancel."""
    x = np.linspace(-12.8, 8, 20_001).astype(np.float32)
    layer = build(layers.GELU(), x.shape)
    want = [v * math.erfc(-v / math.sqrt(2)) / 2 for v in x.tolist()]
    rtol = 5e-6 if runtime.instruction_set() == "base" else 1e-6  # x^2 is rounded where there is no fused multiply-add
    np.testing.assert_allclose(layer.forward(x[None], training=True)[0], want, rtol)
    want = [math.erfc(-v / math.sqrt(2)) / 2 + v * math.exp(-v * v / 2) / math.sqrt(2 * math.pi) for v in x.tolist()]
    np.testing.assert_allclose(layer.backward(np.ones_like(x)[None])[0], want, rtol=0, atol=4e-7)


def test_small_results_are_not_flushed_to_zero():
    x = np.array([[-87.0, -90.0, -100.0, -103.0]])
    want = np.exp(x[0])
    np.testing.assert_allclose(build(layers.Sigmoid(), (4,)).forward(x)[0], want, rtol=1e-6, atol=1.5e-45)
    got = [build(layers.Softmax(), (2,)).forward([[v, 0.0]])[0, 0] for v in x[0]]
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1.5e-45)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("n", "shape"), [(250, (10,)), (30, (7, 3)), (3, (700,)), (2, (300, 200)), (5, (1,)), (9, (16,))]
)
def test_softmax_of_many_and_of_long_rows(n, shape, dtype):
    layer = build(layers.Softmax(dtype=dtype), shape)
    x, dy = normal((n, *shape), dtype) * 5, normal((n, *shape), dtype, 1)
    got = run(layer, x, dy)
    assert_close(got["y"], reference.softmax(x), tolerance(dtype, shape[-1]), dtype, 1)
    scale = np.abs(dy).max() * shape[-1] ** 0.5
    assert_close(got["dx"], reference.softmax_grad(x, dy), tolerance(dtype, shape[-1]), dtype, scale)


@pytest.mark.parametrize("name", NAMES)
def test_a_long_sample_is_cut_into_parts(name):
    """One sample for several threads: the parts are those of its shape, and so are the bits."""
    x, dy = normal((1, 1000, 70), "float32"), normal((1, 1000, 70), "float32", 1)
    results = at_every_thread_count(lambda: build(layers.Activation(name), (1000, 70)), x, dy)
    assert_close(results[0]["y"], reference.activation(name, x, SLOPE), tolerance("float32", 70), None, 5)
    for other in results[1:]:
        for key, array in results[0].items():
            assert_same_bits(array, other[key])


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: layers.Activation("rleu"), ValueError, r"Activation: activation .*; got 'rleu'. Did you mean 'relu'\?"),
    (lambda: layers.Activation(None), TypeError, "Activation: activation must be one of"),
    (lambda: layers.LeakyReLU(-0.1), ValueError, "LeakyReLU: slope must be a number >= 0; got -0.1"),
    (lambda: layers.LeakyReLU(float("nan")), ValueError, "LeakyReLU: slope must be a number >= 0; got nan"),
    (lambda: layers.LeakyReLU("0.1"), TypeError, r"LeakyReLU: slope must be a number >= 0; got '0.1' \(str\)"),
])  # fmt: skip
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()


@pytest.mark.parametrize("make", [
    lambda activation: layers.Activation(activation), lambda activation: layers.Dense(4, activation=activation),
    lambda activation: layers.Conv2D(4, 2, activation=activation),
], ids=["Activation", "Dense", "Conv2D"])  # fmt: skip
def test_a_gradient_at_the_logits_skips_the_activation(make):
    """What a loss that is fused with softmax gives: the gradients are those of the layer without its activation."""
    fused, plain = build(make("softmax"), (3, 5, 2)), build(make("linear"), (3, 5, 2))
    assert fused.output_function == "softmax"
    x, dz = normal((2, 3, 5, 2), "float32"), normal((2, *fused.output_shape), "float32", 1)
    want = run(plain, x, dz)
    fused.forward(x, training=True)
    dx = fused.backward_logits(dz)
    assert_same_bits(dx, want["dx"])
    assert not np.shares_memory(dx, dz)
    fused.forward(x, training=True)
    fused.backward_logits(dz, input_gradient=False)
    for name, gradient in fused.grads.items():
        assert_same_bits(gradient, want[name])
    with pytest.raises(RuntimeError, match="needs forward"):
        fused.backward_logits(dz)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_tails_of_gelu(dtype):
    layer = layers.GELU(dtype=dtype)
    layer.build((6,), None)
    x = np.array([[-np.inf, -50, -8, -4, 50, np.inf]])
    y = layer.forward(x, training=True)
    want = [0, 0, -8 * 6.22096057427178e-16, -4 * 3.16712418331199e-05, 50, np.inf]
    np.testing.assert_allclose(y[0], want, rtol=1e-5)
    np.testing.assert_allclose(layer.backward(np.ones_like(x))[0][[0, 1, 4, 5]], [0, 0, 1, 1], atol=1e-12)
