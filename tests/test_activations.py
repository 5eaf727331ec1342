"""The activations as functions of an array."""

import inspect

import numpy as np
import pytest
import reference
from compare import assert_close, tolerance
from running import normal

import minicnn as mc
from minicnn import activations
from minicnn.layers.activation import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_function(name):
    twin = {"silu": "swish", "hard_silu": "hard_swish"}.get(name, name)
    x = normal((4, 7), "float64")
    before = x.copy()
    for given in (x, x.astype("f"), x.T, x[::2, 1:], x.astype("f2")):
        y = getattr(activations, name)(given)
        assert y.dtype == ("float64" if given.dtype == "float64" else "float32")
        assert y.shape == given.shape
        assert y is not given
        assert_close(y, reference.activation(twin, given, 0.01), tolerance(y.dtype.name, 7), y.dtype.name, 3)
    assert (x == before).all()
    assert activations.get(name) is getattr(activations, name) is activations.get(activations.get(name))


def test_every_name_has_a_function_and_a_docstring():
    assert sorted(activations.__all__) == sorted([*NAMES, "get"])
    for name in activations.__all__:
        function = getattr(mc.activations, name)
        assert inspect.isfunction(function)
        assert function.__doc__


def test_arguments():
    x = np.array([-2.0, 0.5, 3.0, 9.0])
    assert activations.relu(x, 0.5, 6, 1).tolist() == [-1.5, -0.25, 3, 6]
    assert activations.leaky_relu(x).tolist() == [-0.02, 0.5, 3, 9]
    assert activations.leaky_relu(x, 0.5).tolist() == [-1, 0.5, 3, 9]
    assert_close(activations.elu(x, 2), np.where(x > 0, x, 2 * np.expm1(x)), 1e-12)
    assert activations.relu(-3).tolist() == 0
    assert activations.relu([1, -2]).dtype == np.float64
    assert activations.relu(np.zeros((0, 3))).shape == (0, 3)
    assert activations.get(None) is activations.linear


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: activations.softmax(np.ones((2, 3)), 0), ValueError, "Softmax: axis must be -1, the last axis; got 0"),
    (lambda: activations.softmax(3.0), ValueError, "activations.softmax: x must have at least one number along its"),
    (lambda: activations.log_softmax(np.ones((2, 0))), ValueError, "activations.log_softmax: x must have at least one"),
    (lambda: activations.relu("a"), TypeError, "activations.relu: x must be"),
    (lambda: activations.elu([1.0], -1), ValueError, "ELU: alpha must be a number >= 0; got -1"),
    (lambda: activations.get("rleu"), ValueError, "activations.get: identifier must be .*Did you mean 'relu'"),
    (lambda: activations.get(abs), TypeError, "activations.get: identifier must be one of"),
])  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()
