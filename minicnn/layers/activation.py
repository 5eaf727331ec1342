"""Activations, as layers and as the ``activation=`` of Conv2D and Dense.

An elementwise activation is y = f(x), dx = f'(x) dy; softmax mixes the last axis.  All but GELU find f' from y alone.

==============  ==================================================  ==============================================
name            f(x)                                                source
==============  ==================================================  ==============================================
``linear``      x
``relu``        max(x, 0)                                           Nair and Hinton, ICML 2010
``leaky_relu``  x for x > 0, slope * x otherwise                    Maas et al., ICML workshop 2013
``elu``         x for x > 0, exp(x) - 1 otherwise                   Clevert et al., ICLR 2016, equation 15, alpha 1
``gelu``        x P(Z <= x), Z standard normal (exact, by erf)      Hendrycks and Gimpel, 2016, equation 1
``sigmoid``     1 / (1 + exp(-x))
``tanh``        (exp(x) - exp(-x)) / (exp(x) + exp(-x))
``softmax``     exp(x_j) / sum_k exp(x_k) along the last axis       Bridle, 1990
==============  ==================================================  ==============================================
"""

from typing import Any

from minicnn import _check
from minicnn._ext import activation as kernels
from minicnn.layer import Layer
from minicnn.recording import empty
from minicnn.settings import Fixed

NAMES = (*kernels.KINDS, "softmax")
LEAKY_RELU_SLOPE = 0.01  # PyTorch's default


class Function:
    """What ``activation=name`` means: y = f(z) in place, and dz from dy."""

    def __init__(self, where, name, slope=LEAKY_RELU_SLOPE):
        self.name = "linear" if name is None else _check.choice(where, "activation", name, NAMES)
        self.slope = slope
        self.is_softmax = self.name == "softmax"
        self.kind = kernels.KINDS.get(self.name, 0)
        self.needs_input = self.name == "gelu"
        self.can_wait = not (self.is_softmax or self.needs_input or self.name == "linear")  # Layer.activation_gradient

    def fused(self, training):
        """The kind that a kernel may apply to its own result: none where z is still needed, or for softmax."""
        return 0 if self.is_softmax or (self.needs_input and training) else self.kind

    def forward(self, z, out):
        """out = f(z); both C-contiguous, ``out`` may be z."""
        if z.size == 0:
            return
        if self.is_softmax:
            rows = (len(z), -1, z.shape[-1])
            kernels.softmax(z.reshape(rows), out.reshape(rows))
        else:
            kernels.forward(self.kind, self.slope, z.reshape(len(z), -1), out.reshape(len(z), -1))

    def backward(self, saved, dy):
        """dz for dy, with ``saved`` = f(z), or z if ``needs_input``.  A linear one returns dy itself."""
        if self.name == "linear" or dy.size == 0:
            return dy
        dz = empty(dy.shape, dy.dtype)
        if self.is_softmax:
            rows = (len(dy), -1, dy.shape[-1])
            kernels.softmax_backward(saved.reshape(rows), dy.reshape(rows), dz.reshape(rows))
        else:
            flat = (len(dy), -1)
            kernels.backward(self.kind, self.slope, saved.reshape(flat), dy.reshape(flat), dz.reshape(flat))
        return dz


class Activated:
    """A base beside ``Layer`` for layers that end in an activation, which is an argument of theirs."""

    @property
    def activation(self):
        """The argument."""
        return self._activation

    @activation.setter
    def activation(self, activation):
        self._function = Function(type(self).__name__, activation)
        self._activation = activation
        self.forget()  # what a forward by the other function kept

    output_function: Any = property(
        lambda self: self._function.name, doc='The name of the activation, "linear" without one.'
    )


class Activation(Layer, compiled=True):
    """y = f(x), dx = f'(x) dy, for the name of an activation (the table at the head of this module).

    x, y: float32 or float64, (N, ...).  A NaN stays a NaN.  ValueError for an unknown name.
    """

    activation = Fixed(_check.choice, NAMES)
    output_function = property(
        lambda self: {"linear": "same", "softmax": "softmax", "sigmoid": "sigmoid"}.get(self.activation, "changed")
    )

    former_arguments = {"name": "activation"}

    def __init__(self, activation, dtype=None):
        super().__init__(dtype)
        self.activation = activation
        self._function = Function(type(self).__name__, activation)

    def build(self, input_shape, rng):
        input_shape = super().build(input_shape, rng)
        if self._function.is_softmax and not input_shape:
            raise ValueError(_check.message("Softmax", "one sample must have at least one axis", input_shape))
        return input_shape

    def forward(self, x, training=False):
        x = self.check_input(x)
        y = empty(x.shape, x.dtype)
        self._function.forward(x, y)
        if training:
            self.keep(len(x), self.own(x if self._function.needs_input else y))
        return y

    def backward(self, dy):
        dy, (saved,) = self.check_gradient(dy)
        dx = self._function.backward(saved, dy)
        return self.own(dx) if dx is dy else dx

    @property
    def activation_gradient(self):
        """(y, dy) -> dz, where y alone says enough: not for softmax, GELU and the identity."""
        return self._function.backward if self._function.can_wait else None

    def backward_logits(self, dz, input_gradient=True):
        """The gradient before the activation, handed on as it is: a loss that is fused with softmax begins here."""
        dz, _ = self.check_gradient(dz)
        return self.own(dz)


class _Named(Activation):
    """An activation that has a separate class and no argument."""

    def __init__(self, dtype=None):
        super().__init__(self.function_name, dtype)

    function_name = "linear"


class ReLU(_Named, compiled=True):
    """y = max(x, 0); dx = dy where y > 0, else 0 (also at x = 0).  Nair and Hinton, ICML 2010."""

    function_name = "relu"


class LeakyReLU(Activation, compiled=True):
    """y = x for x > 0, slope * x otherwise; dx = dy or slope * dy.  Maas et al., ICML workshop 2013.

    ``slope``: a number >= 0, PyTorch's ``negative_slope``.
    """

    def __init__(self, slope=LEAKY_RELU_SLOPE, dtype=None):
        super().__init__("leaky_relu", dtype)
        self.slope = slope

    @property
    def slope(self):
        """The argument."""
        return self._function.slope

    @slope.setter
    def slope(self, slope):
        self._function = Function("LeakyReLU", "leaky_relu", _check.number("LeakyReLU", "slope", slope, 0))
        self.forget()  # the output of a forward by the other slope


class ELU(_Named, compiled=True):
    """y = x for x > 0, exp(x) - 1 otherwise; dx = dy or dy (y + 1).  Clevert et al., ICLR 2016, alpha = 1."""

    function_name = "elu"


class GELU(_Named, compiled=True):
    """y = x Phi(x); dx = dy (Phi(x) + x phi(x)), with the normal distribution's Phi and phi (exact, not the tanh form).

    Hendrycks and Gimpel, 2016, equation 1.
    """

    function_name = "gelu"


class Sigmoid(_Named, compiled=True):
    """y = 1 / (1 + exp(-x)); dx = dy y (1 - y)."""

    function_name = "sigmoid"


class Tanh(_Named, compiled=True):
    """y = tanh(x); dx = dy (1 - y^2)."""

    function_name = "tanh"


class Softmax(_Named, compiled=True):
    """y_j = exp(x_j) / sum_k exp(x_k) along the last axis; dx = y (dy - sum_k dy_k y_k).  Bridle, 1990."""

    function_name = "softmax"
