"""The activations against the reference."""

import copy
import functools
import json
import math
import pickle

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from running import at_every_thread_count, build, dtypes, layouts, normal, run

import minicnn as mc
from minicnn import activations, layers
from minicnn._ext.machinery import runtime
from minicnn.testing import gradcheck

NAMES = [*reference.ACTIVATIONS, *reference.ROWS]
CLASSES = {
    "relu": layers.ReLU, "leaky_relu": layers.LeakyReLU, "elu": layers.ELU, "gelu": layers.GELU,
    "sigmoid": layers.Sigmoid, "tanh": layers.Tanh, "softmax": layers.Softmax, "selu": layers.SELU,
    "swish": layers.Swish, "hard_swish": layers.HardSwish, "hard_sigmoid": layers.HardSigmoid,
    "softplus": layers.Softplus, "log_softmax": layers.LogSoftmax,
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
    terms = shape[-1] if name in reference.ROWS else 1
    want = reference.activation(name, x, SLOPE)
    largest = 1 + np.abs(want).max(initial=0) if name == "exponential" else 1
    assert_close(got["y"], want, tolerance(dtype, terms), dtype, largest + np.abs(x).max(initial=0))
    want = reference.activation_grad(name, x, dy, slope=SLOPE)
    scale = largest * (1 + np.abs(dy).max(initial=0)) * (1 + (name == "log_softmax") * 3 * terms**0.5)
    assert_close(got["dx"], want, tolerance(dtype, terms), dtype, scale)


@pytest.mark.parametrize("name", list(reference.ACTIVATIONS))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_value_is_exact_in_itself(name, dtype):
    """Relative to each value, not to the largest: small results are as exact as large ones."""
    far = np.geomspace(1e-6, 60, 500)
    x = np.concatenate([np.linspace(-8, 8, 4001), far, -far]).astype(dtype)
    layer = build(layers.Activation(name, dtype=dtype), x.shape)
    got, want = layer.forward(x[None])[0], reference.activation(name, x, SLOPE)
    unit = np.finfo(dtype).eps
    allowed = 8 * unit * np.abs(want) + (np.finfo(dtype).smallest_subnormal if name == "swish" else 0)
    if name == "gelu":  # by its formula, x (1 + erf) / 2: what the sum with 1 rounds away is lost on the left
        allowed += unit * np.abs(x)
    assert (np.abs(got - want) <= allowed).all()


@pytest.mark.parametrize("name", NAMES)
def test_gradient_by_finite_differences(name):
    assert gradcheck(layers.Activation(name), normal((3, 2, 5)))


@pytest.mark.parametrize("name", CLASSES)
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


@pytest.mark.parametrize("name", list(reference.ACTIVATIONS))
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
            "sigmoid": [1, 0], "tanh": [1, -1], "relu6": [6, 0], "gelu": [np.inf, 0], "swish": [np.inf, 0],
            "hard_swish": [np.inf, 0], "hard_sigmoid": [1, 0], "softplus": [np.inf, 0], "softsign": [1, -1],
            "exponential": [np.inf, 0]}  # fmt: skip
    ends = {"selu": [1, 1], "exponential": [np.nan, 0], "hard_swish": [1, 0], "gelu": [1, 0], "swish": [1, 0],
            "softplus": [1, 0], "relu6": [0, 0], "relu": [1, 0], "elu": [1, 0]}  # fmt: skip
    for name, expected in want.items():
        layer = build(layers.Activation(name, dtype=dtype), (2,))
        assert layer.forward(x, training=True).tolist() == [expected], name
        slope = layer.backward([[1, 1]])[0]
        if name in ends and name != "exponential":
            assert slope.tolist() == ends[name], name
    y = build(layers.SELU(dtype=dtype), (2,)).forward(x)[0]
    assert y[0] == np.inf
    assert y[1] == pytest.approx(-1.7580993408473766, rel=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_from_zero(dtype):
    """What overflows, cancels or vanishes in a plain formula does not here."""

    def values_of(name, *x):
        return build(layers.Activation(name, dtype=dtype), (len(x),)).forward([x])[0].tolist()

    assert values_of("softplus", 1000, 1e30, -1e30) == [1000, np.dtype(dtype).type(1e30), 0]
    assert values_of("swish", 1000, 1e30, -1e30) == [1000, np.dtype(dtype).type(1e30), 0]
    assert values_of("softsign", 1e30, -1e35) == [1, -1]
    low = -100.0 if dtype == "float32" else -740.0  # exp of it is subnormal
    step = float(np.finfo(dtype).smallest_subnormal)
    for name, want in (("softplus", math.exp(low)), ("exponential", math.exp(low))):
        assert values_of(name, low)[0] == pytest.approx(want, rel=0, abs=1.01 * step), name
    layer = build(layers.Swish(dtype=dtype), (1,))
    want = low * math.exp(low / 2) * math.exp(low / 2)  # by parts: exp(low) itself has few digits
    tolerance = max(2 * step, 1e-6 * abs(want))
    assert layer.forward([[low]], training=True)[0, 0] == pytest.approx(want, rel=0, abs=tolerance)
    want = (1 + low) * math.exp(low / 2) * math.exp(low / 2)
    assert layer.backward([[1.0]])[0, 0] == pytest.approx(want, rel=0, abs=tolerance)


def test_exponential_overflows_where_exp_does():
    last = math.log(float(np.finfo("f").max))
    x = np.array([[last - 1e-5, last + 1e-5, 0.0, 20.0, 60.0]], np.float32)
    y = build(layers.Activation("exponential"), (5,)).forward(x)[0]
    np.testing.assert_allclose(y[[0, 2, 3, 4]], np.exp(x[0, [0, 2, 3, 4]].astype(float)), rtol=4e-7)
    assert y[1] == np.inf


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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_softmax_is_exact_at_both_ends(dtype):
    """No overflow, and the logarithm of a probability that is nearly 1 is not rounded to 0."""
    x = np.array([[50.0, 0, -1000], [1e30, -1e30, 0], [-1e30, -1e30, -1e30], [3, 3, -np.inf]], dtype)
    y = build(layers.LogSoftmax(dtype=dtype), (3,)).forward(x)
    small = math.exp(-50)
    np.testing.assert_allclose(y[0], [-small, -50, -1050], rtol=1e-6)
    assert y[1, 0] == 0
    np.testing.assert_allclose(y[2], -math.log(3), rtol=1e-6)
    np.testing.assert_allclose(y[3], [-math.log(2), -math.log(2), -np.inf], rtol=1e-6)
    x[:, 1] = np.nan
    assert np.isnan(build(layers.LogSoftmax(dtype=dtype), (3,)).forward(x)).all()


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
    ("n", "shape"), [(250, (10,)), (30, (7, 3)), (3, (700,)), (2, (300, 200)), (5, (1,)), (9, (16,)), (2, (3000,))]
)
@pytest.mark.parametrize("name", reference.ROWS)
def test_softmax_of_many_and_of_long_rows(name, n, shape, dtype):
    layer = build(layers.Activation(name, dtype=dtype), shape)
    x, dy = normal((n, *shape), dtype) * 5, normal((n, *shape), dtype, 1)
    got = run(layer, x, dy)
    largest = 1 if name == "softmax" else 40
    assert_close(got["y"], reference.activation(name, x), tolerance(dtype, shape[-1]), dtype, largest)
    scale = np.abs(dy).max() * shape[-1] ** 0.5
    assert_close(got["dx"], reference.activation_grad(name, x, dy), tolerance(dtype, shape[-1]), dtype, scale)


@pytest.mark.parametrize("name", NAMES)
def test_a_long_sample_is_cut_into_parts(name):
    """One sample for several threads: the parts are those of its shape, and so are the bits."""
    x, dy = normal((1, 1000, 70), "float32"), normal((1, 1000, 70), "float32", 1)
    results = at_every_thread_count(lambda: build(layers.Activation(name), (1000, 70)), x, dy)
    assert_close(results[0]["y"], reference.activation(name, x, SLOPE), tolerance("float32", 70), None, 100)
    for other in results[1:]:
        for key, array in results[0].items():
            assert_same_bits(array, other[key])


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: layers.Activation("rleu"), ValueError, "Activation: activation must .*; got 'rleu'. Did you mean 'relu'"),
    (lambda: layers.Activation(None), TypeError, "Activation: activation must be a name, or an activation layer"),
    (lambda: layers.LeakyReLU(0.1, negative_slope=0.2), ValueError, "LeakyReLU: needs either .*; got 0.1 and 0.2"),
    (lambda: layers.LeakyReLU(slope=0.1, negative_slope=0.1), ValueError, "LeakyReLU: needs either slope or"),
    (lambda: layers.LeakyReLU(negative_slope=-1), ValueError, "LeakyReLU: slope must be a number >= 0; got -1"),
    (lambda: layers.ReLU(0), ValueError, "ReLU: max_value must be a number > 0; got 0"),
    (lambda: layers.ReLU(True), TypeError, "ReLU: max_value must be a number > 0; got True"),
    (lambda: layers.ReLU(None, -0.1), ValueError, "ReLU: negative_slope must be a number >= 0; got -0.1"),
    (lambda: layers.ReLU(threshold=float("inf")), ValueError, "ReLU: threshold must be a number >= 0; got inf"),
    (lambda: layers.ELU(-1), ValueError, "ELU: alpha must be a number >= 0; got -1"),
    (lambda: layers.Softmax(1), ValueError, "Softmax: axis must be -1, the last axis; got 1. Reshape"),
    (lambda: layers.LogSoftmax("last"), TypeError, "LogSoftmax: axis must be a whole number; got 'last'"),
    (lambda: layers.PReLU(shared_axes=0), ValueError, "PReLU: shared_axes must be a whole number >= 1; got 0"),
    (lambda: layers.PReLU(shared_axes=[1, 1]), ValueError, r"PReLU: shared_axes must name every axis once; got \[1, 1"),
    (lambda: layers.PReLU(shared_axes="c"), TypeError, "PReLU: shared_axes must be a whole number >= 1; got 'c'"),
    (lambda: build(layers.PReLU(shared_axes=[3]), (4, 5)), ValueError, r"PReLU: .* at most 2; got \(3,\)"),
    (lambda: build(layers.PReLU(), ()), ValueError, r"PReLU: one sample must have at least one axis; got \(\)"),
    (lambda: layers.PReLU("zeross"), ValueError, "PReLU: an initializer must be one of"),
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


# ---- with arguments ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("top", [None, 1.5])
@pytest.mark.parametrize("slope", [0.0, 0.25])
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_relu_with_keras_arguments(top, slope, threshold, dtype):
    layer = build(layers.ReLU(top, slope, threshold, dtype=dtype), (700,))
    x, dy = normal((3, 700), dtype) * 2, normal((3, 700), dtype, 1)
    x[0, :2] = 0.5, 1.5  # threshold and top themselves
    got = run(layer, x, dy)
    assert_close(got["y"], reference.relu(x, top, slope, threshold), tolerance(dtype), dtype)
    assert_close(got["dx"], reference.relu_grad(x, dy, top, slope, threshold), tolerance(dtype), dtype)
    y = layer.forward(np.full((1, 700), np.nan))
    assert np.isnan(y).all()
    y = layer.forward(np.where(np.arange(700) % 2, np.inf, -np.inf)[None])[0, :2].tolist()
    assert y == [-np.inf if slope else 0, top or np.inf]
    layer.max_value, layer.negative_slope, layer.threshold = 3, 0.5, 0.125
    assert_close(run(layer, x, dy)["y"], reference.relu(x, 3, 0.5, 0.125), tolerance(dtype), dtype)


@given(st.floats(0, 2, width=32), dtypes)
def test_elu_alpha(alpha, dtype):
    layer = build(layers.ELU(alpha, dtype=dtype), (50,))
    x, dy = normal((3, 50), dtype), normal((3, 50), dtype, 1)
    got = run(layer, x, dy)
    want = np.where(x > 0, x, alpha * np.expm1(np.minimum(x.astype(float), 0)))
    assert_close(got["y"], want, tolerance(dtype), dtype, 1)
    assert_close(got["dx"], np.where(x > 0, 1, want + alpha) * dy, tolerance(dtype), dtype, 3)


def test_either_word_for_the_slope():
    layer = layers.LeakyReLU(negative_slope=0.3)
    assert layer.slope == layer.negative_slope == 0.3
    layer.negative_slope = 0.2
    assert layer.get_config() == {"slope": 0.2, "dtype": None}
    assert layers.LeakyReLU().slope == 0.01
    assert layers.SiLU is layers.Swish


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "shared"), [
    ((6, 7, 4), [1, 2]), ((6, 7, 4), None), ((6, 7, 4), [3]), ((6, 7, 4), (2,)), ((6, 7, 4), [1, 3]), ((6, 7, 4), 1),
    ((6, 7, 4), [1, 2, 3]), ((5,), None), ((40, 40, 33), [1, 2]), ((1, 3, 2), [2]),
])  # fmt: skip
def test_prelu(shape, shared, dtype):
    layer = layers.PReLU(lambda shape, rng: rng.normal(0, 1, shape), shared_axes=shared, dtype=dtype)
    layer.build(shape, np.random.default_rng(3))
    axes = [shared] if isinstance(shared, int) else shared or ()
    alpha = layer.params["alpha"]
    assert alpha.shape == tuple(1 if axis in axes else size for axis, size in enumerate(shape, 1))
    x, dy = normal((19, *shape), dtype), normal((19, *shape), dtype, 1)
    got = run(layer, x, dy)
    assert_close(got["y"], reference.prelu(x, alpha), tolerance(dtype), dtype)
    dx, dalpha = reference.prelu_grad(x, alpha, dy)
    terms = x.size / alpha.size
    assert_close(got["dx"], dx, tolerance(dtype), dtype)
    assert_close(got["alpha"], dalpha, tolerance(dtype, terms), dtype, 3 * terms**0.5)


def test_prelu_has_the_same_bits_at_any_thread_count():
    for shared in ([1, 2], None):
        x, dy = normal((50, 13, 11, 24), "float32"), normal((50, 13, 11, 24), "float32", 1)
        new = functools.partial(layers.PReLU, "ones", shared_axes=shared)
        results = at_every_thread_count(lambda new=new: build(new(), (13, 11, 24)), x, dy)
        for other in results[1:]:
            for key, array in results[0].items():
                assert_same_bits(array, other[key])


@pytest.mark.parametrize("name", list(reference.ACTIVATIONS))
def test_torch_agrees(name):
    torch = pytest.importorskip("torch")
    theirs = {
        "linear": lambda x: x, "leaky_relu": torch.nn.LeakyReLU(SLOPE), "swish": torch.nn.SiLU(),
        "hard_swish": torch.nn.Hardswish(), "hard_sigmoid": torch.nn.Hardsigmoid(), "exponential": torch.exp,
    }.get(name) or getattr(torch.nn.functional, name)  # fmt: skip
    x, dy = values((4, 300), "float32", 3.0), normal((4, 300), "float32", 1)
    t = torch.from_numpy(x.copy()).requires_grad_()
    y = theirs(t)
    y.backward(torch.from_numpy(dy))
    got = run(build(layers.Activation(name), (300,)), x, dy)
    np.testing.assert_allclose(got["y"], y.detach().numpy(), 1e-5, 1e-6)
    corner = (x == 0) & (name in ("elu", "selu"))  # there torch takes the other side
    np.testing.assert_allclose(got["dx"][~corner], t.grad.numpy()[~corner], 1e-5, 2e-6)


# ---- as the activation of another layer ----


OBJECTS = [layers.LeakyReLU(0.1), layers.ReLU(max_value=0.5, negative_slope=0.1, threshold=0.1), layers.ELU(2.0)]
HOLDERS = {
    "Dense": (lambda f: layers.Dense(6, activation=f), (5,)),
    "Conv2D": (lambda f: layers.Conv2D(16, 3, padding="same", activation=f), (6, 6, 16)),
    "DropConnect": (lambda f: layers.DropConnect(6, 0.25, seed=1, activation=f), (5,)),
    "Residual": (lambda f: layers.Residual([layers.Dense(5)], activation=f), (5,)),
    "SeparableConv2D": (lambda f: layers.SeparableConv2D(4, 3, activation=f), (6, 6, 3)),
    "Activation": (layers.Activation, (5,)),
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("function", OBJECTS, ids=repr)
def test_a_layer_as_the_activation_is_that_layer_behind(holder, function):
    make, shape = HOLDERS[holder]
    one = build(make(function), shape)
    other = [build(make("linear"), shape)]
    other.append(build(type(function)(**function.get_config()), one.output_shape))
    x = normal((9, *shape), "float32")
    dy = normal((9, *one.output_shape), "float32", 1)
    y = one.forward(x, training=True)
    assert_same_bits(y, other[1].forward(other[0].forward(x, training=True), training=True))
    assert_same_bits(one.backward(dy), other[0].backward(other[1].backward(dy)))
    assert function.input_shape is None


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_layer_as_the_activation_in_files_and_copies(holder, tmp_path):
    make, shape = HOLDERS[holder]
    function = layers.LeakyReLU(0.3)
    pair = make(function), make(function)
    function.slope = 0.7  # theirs stays
    layer = pair[0]
    config = json.loads(json.dumps(layer.get_config()))
    assert config["activation"] == {"name": "LeakyReLU", "config": {"slope": 0.3}}
    assert type(layer)(**config).activation == layer.activation == pair[1].activation
    assert hash(pair[0].activation) == hash(pair[1].activation)
    assert eval(repr(layer), vars(layers)).get_config() == layer.get_config()
    model = mc.Sequential([layer, layers.Flatten(), layers.Dense(3)], seed=1)
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = normal((8, *shape), "float32")
    model.train_on_batch(x, np.arange(8) % 3)
    model.save(tmp_path / "m.npz")
    for again in (mc.Sequential.load(tmp_path / "m.npz"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again.layers[0].activation == layer.activation
        assert_same_bits(again.predict(x), model.predict(x))
    with pytest.raises(AttributeError, match=r"Form\.layer: cannot be assigned; got 'ELU'. Assign another activation"):
        layer.activation.layer = "ELU"
    layer.activation.config["slope"] = 9  # a copy
    assert layer.activation == pair[1].activation != "relu"


def test_activations_that_are_their_names():
    for activation, name in (
        (layers.Tanh(), "tanh"), (layers.Softmax(), "softmax"), (layers.ReLU(), "relu"), (layers.ELU(), "elu"),
        (layers.Activation("silu"), "silu"), (activations.relu, "relu"), (activations.silu, "silu"), (None, None),
        (layers.LogSoftmax(-1), "log_softmax"), (mc.activations.get("gelu"), "gelu"),
        (layers.LeakyReLU(0.01), "leaky_relu"),
    ):  # fmt: skip
        layer = layers.Dense(3, activation=activation)
        assert layer.activation == layer.get_config()["activation"] == name
    again = layers.Dense(3, activation=layers.Dense(3, activation=layers.ELU(2)).activation)
    assert repr(again) == "Dense(3, activation=ELU(alpha=2.0))"
    assert layers.Activation(layers.Activation(layers.ELU(2))).activation == again.activation


@pytest.mark.parametrize(("given", "error", "message"), [
    (layers.ReLU, TypeError, r"Dense: activation must be None, .*Did you mean ReLU\(\)\?"),
    (abs, TypeError, "Dense: activation must be None, the name .*Put a layer that computes it after this one"),
    (lambda x: x, TypeError, "Dense: activation must be None, the name .*Put a layer that computes it"),
    (3, TypeError, r"Dense: activation must be None, the name .*; got 3 \(int\)"),
    (layers.PReLU(), TypeError, "Dense: activation must be None, .*; got PReLU.*Put the PReLU after the layer"),
    (layers.Dense(3), TypeError, r"Dense: activation must .*; got Dense\(3\). Put the Dense after the layer"),
    (layers.ELU(2, dtype="float64"), ValueError, "Dense: a layer given as activation must have no dtype, name"),
    (layers.ELU(2, name="e"), ValueError, "Dense: a layer given as activation must have no dtype, name"),
    (build(layers.ELU(2), (3,)), ValueError, "Dense: a layer can stand in one place only; got ELU.*Make a new one"),
    ({"name": "PReLU", "config": {}}, ValueError, "Dense: activation: the name must be one of 'ReLU', 'LeakyReLU'"),
    ({"name": "ELU"}, ValueError, "Dense: activation: config must be a dictionary"),
    ({"name": "ELU", "config": {"alpha": -1}}, ValueError, "ELU: alpha must be a number >= 0"),
])  # fmt: skip
def test_what_is_no_activation(given, error, message):
    with pytest.raises(error, match=f"^{message}"):
        layers.Dense(3, activation=given)
    layer = layers.Dense(3, activation="relu")
    with pytest.raises(error):
        layer.activation = given
    assert layer.activation == "relu"


def test_a_subclass_is_no_function_of_minicnns():
    class Own(layers.ELU):
        pass

    with pytest.raises(TypeError, match="Put the Own after the layer"):
        layers.Dense(3, activation=Own())
