"""The activations as functions of an array: Keras's names, arguments and defaults (but for ``leaky_relu``, whose slope
is that of the layer).  The formulas: ``layers/activation.py``.

Each may be given as the ``activation`` of a layer, where it means its name.  x: an array of any shape, or a number;
the result is a new array, float32 for float32 and smaller floating-point numbers, else float64.
"""

import numpy as np

from minicnn import _check, layers
from minicnn.layers.activation import LEAKY_RELU_SLOPE, NAMES, check, function_of

__all__ = [*sorted(NAMES), "get"]


def get(identifier):
    """The function of that name, "linear" for None; a function of this module stays what it is.

    ValueError for an unknown name, TypeError for anything else.
    """
    if identifier is None:
        return linear
    if callable(identifier) and identifier in map(globals().get, NAMES):
        return identifier
    return globals()[_check.choice("activations.get", "identifier", identifier, NAMES)]


def _computed(name, x, layer=None):
    """The activation ``name`` of x, or that of a layer with arguments."""
    where, function = f"activations.{name}", function_of(check(name, "activation", layer or name))
    x = _check.numeric_array(where, "x", x)
    small = x.dtype.kind == "f" and x.dtype.itemsize <= 4
    z = np.array(x, np.float32 if small else np.float64, order="C", ndmin=1)
    if function.mixes_rows and (x.ndim == 0 or x.shape[-1] == 0):
        required = "x must have at least one number along its last axis"
        raise ValueError(_check.message(where, required, _check.shape_of(x)))
    function.forward(z[None], z[None])
    return z.reshape(x.shape)


def linear(x):
    """x"""
    return _computed("linear", x)


def relu(x, negative_slope=0.0, max_value=None, threshold=0.0):
    """min(x, max_value) for x > threshold, else negative_slope * (x - threshold)."""
    return _computed("relu", x, layers.ReLU(max_value, negative_slope, threshold))


def leaky_relu(x, negative_slope=LEAKY_RELU_SLOPE):
    """x for x > 0, else negative_slope * x."""
    return _computed("leaky_relu", x, layers.LeakyReLU(negative_slope))


def relu6(x):
    """min(max(x, 0), 6)"""
    return _computed("relu6", x)


def elu(x, alpha=1.0):
    """x for x > 0, else alpha (exp(x) - 1)."""
    return _computed("elu", x, layers.ELU(alpha))


def selu(x):
    """1.0507009873554805 x for x > 0, else 1.7580993408473769 (exp(x) - 1)."""
    return _computed("selu", x)


def gelu(x):
    """x Phi(x), exact."""
    return _computed("gelu", x)


def swish(x):
    """x sigmoid(x)"""
    return _computed("swish", x)


def silu(x):
    """x sigmoid(x)"""
    return _computed("silu", x)


def hard_swish(x):
    """x relu6(x + 3) / 6"""
    return _computed("hard_swish", x)


def hard_silu(x):
    """x relu6(x + 3) / 6"""
    return _computed("hard_silu", x)


def sigmoid(x):
    """1 / (1 + exp(-x))"""
    return _computed("sigmoid", x)


def hard_sigmoid(x):
    """relu6(x + 3) / 6"""
    return _computed("hard_sigmoid", x)


def tanh(x):
    """The hyperbolic tangent."""
    return _computed("tanh", x)


def softplus(x):
    """log(1 + exp(x))"""
    return _computed("softplus", x)


def softsign(x):
    """x / (1 + abs(x))"""
    return _computed("softsign", x)


def exponential(x):
    """exp(x)"""
    return _computed("exponential", x)


def softmax(x, axis=-1):
    """exp(x_j) / sum_k exp(x_k) along the last axis."""
    return _computed("softmax", x, layers.Softmax(axis))


def log_softmax(x, axis=-1):
    """x_j - log sum_k exp(x_k) along the last axis."""
    return _computed("log_softmax", x, layers.LogSoftmax(axis))
