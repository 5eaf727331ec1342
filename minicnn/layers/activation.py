"""Activations, as layers and as the ``activation=`` of other layers.

An elementwise activation is y = f(x), dx = f'(x) dy; softmax and log_softmax mix the last axis.  All but gelu, swish
and hard_swish find f' from y alone.

================  ==========================================================  ==========================================
name              f(x)                                                        source
================  ==========================================================  ==========================================
``linear``        x
``relu``          max(x, 0)                                                   Nair and Hinton, ICML 2010
``leaky_relu``    x for x > 0, slope * x otherwise; slope 0.01                Maas et al., ICML workshop 2013
``relu6``         min(max(x, 0), 6)                                           Krizhevsky, 2010
``elu``           x for x > 0, exp(x) - 1 otherwise                           Clevert et al., ICLR 2016, equation 15
``selu``          s x for x > 0, s a (exp(x) - 1) otherwise; s = 1.0507009  Klambauer et al., NIPS 2017, equation 2
                  and a = 1.6732632 keep mean 0 and variance 1
``gelu``          x P(Z <= x), Z standard normal (exact, by erf)              Hendrycks and Gimpel, 2016, equation 1
``swish``         x / (1 + exp(-x)); also ``silu``                            Elfwing et al., 2018 (``Swish``)
``hard_swish``    x relu6(x + 3) / 6; also ``hard_silu``                      Howard et al., ICCV 2019
``sigmoid``       1 / (1 + exp(-x))
``hard_sigmoid``  relu6(x + 3) / 6                                            as in Keras 3 and PyTorch
``tanh``          (exp(x) - exp(-x)) / (exp(x) + exp(-x))
``softplus``      log(1 + exp(x))                                             Dugas et al., NIPS 2000
``softsign``      x / (1 + abs(x))                                            Turian et al., 2009
``exponential``   exp(x)
``softmax``       exp(x_j) / sum_k exp(x_k) along the last axis               Bridle, 1990
``log_softmax``   x_j - log sum_k exp(x_k) along the last axis
================  ==========================================================  ==========================================

``activation=`` takes such a name, the function of that name in ``minicnn.activations``, or an activation layer such as
``LeakyReLU(0.1)``, for that function with those arguments.
"""

import functools
import inspect
import math
from typing import Any

import numpy as np

from minicnn import _check, configured, constraints, initializers, regularizers
from minicnn._ext import activation as kernels
from minicnn.layer import Layer, declared_shape, is_named
from minicnn.layers.governed import Governed, Rule
from minicnn.recording import empty
from minicnn.settings import PACKAGE, Closed, Fixed, Given, Setting

OTHER_NAMES = {"silu": "swish", "hard_silu": "hard_swish"}
ROWS = {
    "softmax": (kernels.softmax, kernels.softmax_backward),
    "log_softmax": (kernels.log_softmax, kernels.log_softmax_backward),
}
NAMES = (*kernels.KINDS, *OTHER_NAMES, *ROWS)
LEAKY_RELU_SLOPE = 0.01  # PyTorch's default
NUMBERS = {"leaky_relu": {"slope": LEAKY_RELU_SLOPE}, "relu6": {"top": 6.0}, "elu": {"slope": 1.0}}


class Function:
    """An activation: y = f(z) in place, and dz from dy.  Holds no arrays: layers may share one.

    ``name``: one of NAMES.  ``numbers``: ``slope`` (for elu its alpha), ``threshold`` and ``top``, the largest value,
    where they are not those that the name stands for.
    """

    def __init__(self, name, **numbers):
        self.name = name = OTHER_NAMES.get(name, name)
        self._rows = ROWS.get(name)
        numbers = {"slope": 0.0, "threshold": 0.0, "top": math.nan} | NUMBERS.get(name, {}) | numbers
        self.curve = (kernels.KINDS.get(name, 0), numbers["slope"], numbers["threshold"], numbers["top"])
        self.needs_input = name in ("gelu", "swish", "hard_swish")
        self.can_wait = not (self._rows or self.needs_input or name == "linear")  # Layer.activation_gradient

    @property
    def kind(self):
        """The number by which kernels know it; 0 where they do nothing."""
        return self.curve[0]

    @property
    def mixes_rows(self):
        """True where an output depends on all inputs along the last axis."""
        return self._rows is not None

    @property
    def says(self):
        """What its outputs are (``Layer.output_function``): a hard sigmoid makes probabilities of a yes, too."""
        return "sigmoid" if self.name == "hard_sigmoid" else self.name

    def fused(self, training):
        """The curve that a kernel may apply to its own result; None where z is still needed, or rows are mixed."""
        return None if self._rows or self.name == "linear" or (self.needs_input and training) else self.curve

    def forward(self, z, out):
        """out = f(z); both C-contiguous, ``out`` may be z."""
        if z.size == 0:
            return
        if self._rows:
            rows = (len(z), -1, z.shape[-1])
            self._rows[0](z.reshape(rows), out.reshape(rows))
        else:
            kernels.forward(self.curve, z.reshape(len(z), -1), out.reshape(len(z), -1))

    def backward(self, saved, dy):
        """dz for dy, with ``saved`` = f(z), or z if ``needs_input``.  A linear one returns dy itself."""
        if self.name == "linear" or dy.size == 0:
            return dy
        dz = empty(dy.shape, dy.dtype)
        if self._rows:
            rows = (len(dy), -1, dy.shape[-1])
            self._rows[1](saved.reshape(rows), dy.reshape(rows), dz.reshape(rows))
        else:
            flat = (len(dy), -1)
            kernels.backward(self.curve, saved.reshape(flat), dy.reshape(flat), dz.reshape(flat))
        return dz


class Form(Closed):
    """What an activation layer with arguments becomes as the ``activation`` of another layer: a value, never changed.

    ``layer``: the name of its class; ``config``: {argument: value}, a copy.
    """

    layer = Given("Assign another activation")

    def __init__(self, layer, function):
        arguments = tuple((name, value) for name, value in layer.get_config().items() if name != "dtype")
        self._put(layer=type(layer).__name__, _arguments=arguments, _function=function)

    @property
    def config(self):
        return dict(self._arguments)

    def __eq__(self, other):
        return isinstance(other, Form) and (self.layer, self.config) == (other.layer, other.config)

    def __hash__(self):
        return hash((self.layer, self._arguments))

    def __repr__(self):
        return f"{self.layer}({', '.join(f'{name}={value!r}' for name, value in self._arguments)})"


def check(where, name, value):
    """The check of an ``activation``: what is kept of it, None, a name or a Form; ValueError or TypeError otherwise."""
    if value is None or isinstance(value, Form):
        return value
    if isinstance(value, str):
        return _check.choice(where, name, value, NAMES)
    if inspect.isfunction(value) and value.__module__ == f"{PACKAGE}.activations" and value.__name__ in NAMES:
        return value.__name__
    if isinstance(value, dict):
        return check(where, name, configured.from_config(f"{where}: {name}", value, _WITH_ARGUMENTS))
    required = f"{name} must be None, the name of an activation or an activation layer such as LeakyReLU(0.1)"
    if not isinstance(value, Layer):
        is_layer = isinstance(value, type) and issubclass(value, Activation)
        fix = f"Did you mean {value.__name__}()?" if is_layer else "Put a layer that computes it after this one"
        raise TypeError(_check.message(where, required, _check.kind(value), fix))
    if type(value) not in _FUNCTIONS:
        raise TypeError(_check.message(where, required, value, f"Put the {type(value).__name__} after the layer"))
    if value.input_shape is not None:
        raise ValueError(_check.message(where, "a layer can stand in one place only", value, "Make a new one"))
    if value.dtype is not None or is_named(value) or declared_shape(value) is not None:
        required = f"a layer given as {name} must have no dtype, name or input_shape of its own"
        raise ValueError(_check.message(where, required, value, "Leave it out"))
    if type(value) not in _WITH_ARGUMENTS.values() or value.get_config() == type(value)().get_config():
        return value.activation
    return Form(value, value._function)


def function_of(kept):
    """The Function of what ``check`` kept."""
    return kept._function if isinstance(kept, Form) else Function(kept or "linear")


def with_forms(config):
    """A configuration with every Form in it ready for JSON.  (A subclass need not have the argument ``activation``.)"""
    return {
        name: {"name": value.layer, "config": value.config} if isinstance(value, Form) else value
        for name, value in config.items()
    }


class Activated:
    """A base beside ``Layer`` for layers that end in an activation, which is an argument of theirs."""

    @property
    def activation(self):
        """The argument: None, a name, or the Form of an activation layer."""
        return self._activation

    @activation.setter
    def activation(self, activation):
        self._activation = check(type(self).__name__, "activation", activation)
        self._function = function_of(self._activation)
        self.forget()  # what a forward by the other function kept

    output_function: Any = property(
        lambda self: self._function.says,
        doc='The name of the activation, "linear" without one; "sigmoid" for a hard sigmoid.',
    )

    def get_config(self):
        return with_forms(super().get_config())


def _check_name(where, name, value):
    if value is None:
        raise TypeError(_check.message(where, f"{name} must be a name, or an activation layer", value))
    return check(where, name, value)


# What a layer of its own says of its outputs; the others change each number by itself.
_OUTPUTS = {
    "linear": "same",
    "softmax": "softmax",
    "log_softmax": "log_softmax",
    "sigmoid": "sigmoid",
    "hard_sigmoid": "sigmoid",
}


class Activation(Layer, compiled=True):
    """y = f(x), dx = f'(x) dy, for the name of an activation (the table at the head of this module).

    x, y: float32 or float64, (N, ...).  A NaN stays a NaN.  ValueError for an unknown name.
    """

    activation = Fixed(_check_name)
    output_function = property(
        lambda self: _OUTPUTS.get(self._function.name, "changed"),
        doc="Probabilities, logits, or the input changed number by number.",
    )

    former_arguments = {"name": "activation"}

    def __init__(self, activation, dtype=None):
        super().__init__(dtype)
        self.activation = activation
        self._function = function_of(self.activation)

    def build(self, input_shape, rng):
        input_shape = super().build(input_shape, rng)
        if self._function.mixes_rows and not input_shape:
            where = "Softmax" if self._function.name == "softmax" else "LogSoftmax"
            raise ValueError(_check.message(where, "one sample must have at least one axis", input_shape))
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
        """(y, dy) -> dz, where y alone says enough: not for softmax, GELU and the like, and the identity."""
        return self._function.backward if self._function.can_wait else None

    def backward_logits(self, dz, input_gradient=True):
        """The gradient before the activation, handed on as it is: a loss that is fused with softmax begins here."""
        dz, _ = self.check_gradient(dz)
        return self.own(dz)

    def get_config(self):
        return with_forms(super().get_config())


class _Named(Activation):
    """An activation that has a separate class."""

    def __init__(self, dtype=None):
        super().__init__(self.function_name, dtype)

    function_name = "linear"


class _Number(Setting):
    """An argument that the function is made of: what is assigned changes it, and what a forward kept is forgotten."""

    def __set__(self, layer, value):
        super().__set__(layer, value)
        layer._function = layer._make_function()
        layer.forget()


class _Shaped(_Named):
    """One with numbers among its arguments: ``_make_function`` gives the Function of those that are set already."""

    def _number(self, name, default=0.0):
        return vars(self).get(name, default)


class ReLU(_Shaped, compiled=True):
    """Nair and Hinton, ICML 2010; with Keras's arguments:

    ::

        y = max(x, 0)                                          without arguments
        y = min(x, max_value)                                  for x > threshold
            negative_slope * (x - threshold)                   otherwise
        dx = dy where y > 0 (and y < max_value), negative_slope * dy where y <= 0 (also at x = threshold), else 0

    ``max_value``: a number > 0, or None for no limit; ``negative_slope``, ``threshold``: numbers >= 0.
    """

    function_name = "relu"
    max_value = _Number(_check.number, 0, open_low=True, optional=True)
    negative_slope = _Number(_check.number, 0)
    threshold = _Number(_check.number, 0)

    def __init__(self, max_value=None, negative_slope=0.0, threshold=0.0, dtype=None):
        super().__init__(dtype)
        self.max_value = max_value
        self.negative_slope = negative_slope
        self.threshold = threshold

    def _make_function(self):
        top, slope = self._number("max_value", None), self._number("negative_slope")
        threshold = self._number("threshold")
        if top is None and threshold == 0:  # what kernels do fastest, and fused
            return Function("leaky_relu", slope=slope) if slope else Function("relu")
        return Function("relu6", slope=slope, threshold=threshold, top=math.nan if top is None else top)


def _with_either_word(init):
    """LeakyReLU's constructor, with ``negative_slope`` for ``slope``."""

    @functools.wraps(init)
    def make(self, *arguments, **named):
        if "negative_slope" in named:
            slope = named.pop("negative_slope")
            if arguments or "slope" in named:
                given = _check.Shown(f"{arguments[0] if arguments else named['slope']!r} and {slope!r}")
                required = "needs either slope or negative_slope, which are the same"
                raise ValueError(_check.message("LeakyReLU", required, given))
            named["slope"] = slope
        init(self, *arguments, **named)

    return make


class LeakyReLU(_Shaped, compiled=True):
    """y = x for x > 0, slope * x otherwise; dx = dy or slope * dy.  Maas et al., ICML workshop 2013.

    ``slope``: a number >= 0; ``negative_slope=``, PyTorch's and Keras's word, is the same.
    """

    function_name = "leaky_relu"
    slope = _Number(_check.number, 0)
    negative_slope = property(
        lambda self: self.slope,
        lambda self, slope: setattr(self, "slope", slope),
        doc="``slope``.",
    )

    def __new__(cls, *arguments, **named):
        return super().__new__(cls, *arguments, **{word: named[word] for word in named if word != "negative_slope"})

    @_with_either_word
    def __init__(self, slope=LEAKY_RELU_SLOPE, dtype=None):
        super().__init__(dtype)
        self.slope = slope

    def _make_function(self):
        return Function("leaky_relu", slope=self._number("slope"))


class ELU(_Shaped, compiled=True):
    """y = x for x > 0, alpha (exp(x) - 1) otherwise; dx = dy or dy (y + alpha).  Clevert et al., ICLR 2016.

    ``alpha``: a number >= 0.
    """

    function_name = "elu"
    alpha = _Number(_check.number, 0)

    def __init__(self, alpha=1.0, dtype=None):
        super().__init__(dtype)
        self.alpha = alpha

    def _make_function(self):
        return Function("elu", slope=self._number("alpha"))


class SELU(_Named, compiled=True):
    """y = s x for x > 0, s a (exp(x) - 1) otherwise; dx = s dy or dy (y + s a), with s = 1.0507009873554805 and
    a = 1.6732632423543772, which keep a mean of 0 and a variance of 1 from layer to layer.

    Klambauer et al., "Self-Normalizing Neural Networks", NIPS 2017, equation 2; kernels should begin as
    ``lecun_normal``.
    """

    function_name = "selu"


class GELU(_Named, compiled=True):
    """y = x Phi(x); dx = dy (Phi(x) + x phi(x)), with the normal distribution's Phi and phi (exact, not the tanh form).

    Hendrycks and Gimpel, 2016, equation 1.
    """

    function_name = "gelu"


class Swish(_Named, compiled=True):
    """y = x sigmoid(x); dx = dy sigmoid(x) (1 + x sigmoid(-x)).  ``SiLU`` is another name of this class.

    Elfwing et al., "Sigmoid-weighted linear units", 2018, equation 5; Ramachandran et al., "Searching for activation
    functions", 2017, with beta = 1.
    """

    function_name = "swish"


class HardSwish(_Named, compiled=True):
    """y = x min(max(x + 3, 0), 6) / 6; dx = dy (2 x + 3) / 6 between -3 and 3, 0 up to -3, dy from 3 on.

    Howard et al., "Searching for MobileNetV3", ICCV 2019, section 5.2.
    """

    function_name = "hard_swish"


class Sigmoid(_Named, compiled=True):
    """y = 1 / (1 + exp(-x)); dx = dy y (1 - y)."""

    function_name = "sigmoid"


class HardSigmoid(_Named, compiled=True):
    """y = min(max(x + 3, 0), 6) / 6; dx = dy / 6 where 0 < y < 1, else 0.

    As in Keras 3 (the first Keras had x / 5 + 1/2).  Outputs count as probabilities of a yes, like those of a sigmoid.
    """

    function_name = "hard_sigmoid"


class Tanh(_Named, compiled=True):
    """y = tanh(x); dx = dy (1 - y^2)."""

    function_name = "tanh"


class Softplus(_Named, compiled=True):
    """y = log(1 + exp(x)); dx = dy sigmoid(x) = dy (1 - exp(-y)).  Dugas et al., NIPS 2000."""

    function_name = "softplus"


def _last_axis(where, name, axis):
    if _check.integer(where, name, axis) != -1:
        fix = "Reshape the samples so that it is the last one"
        raise ValueError(_check.message(where, f"{name} must be -1, the last axis", axis, fix))
    return -1


class _Row(_Named):
    """One that mixes the last axis; Keras's ``axis`` can say that, and no other."""

    axis = Fixed(_last_axis)

    def __init__(self, axis=-1, dtype=None):
        super().__init__(dtype)
        self.axis = axis


class Softmax(_Row, compiled=True):
    """y_j = exp(x_j) / sum_k exp(x_k) along the last axis; dx = y (dy - sum_k dy_k y_k).  Bridle, 1990.

    ``axis``: -1.
    """

    function_name = "softmax"


class LogSoftmax(_Row, compiled=True):
    """y_j = x_j - log sum_k exp(x_k) along the last axis; dx = dy - exp(y) sum_k dy_k.

    Logarithms of the probabilities of classes, for a loss of one's own: to a categorical cross-entropy they are logits,
    with the same loss and gradients as what comes in.  ``axis``: -1.
    """

    function_name = "log_softmax"


_FUNCTIONS = (
    *(Activation, ReLU, LeakyReLU, ELU, SELU, GELU, Swish, HardSwish, Sigmoid, HardSigmoid, Tanh, Softplus),
    *(Softmax, LogSoftmax),
)
_WITH_ARGUMENTS = {cls.__name__: cls for cls in (ReLU, LeakyReLU, ELU)}  # which a file may hold as an ``activation``


# ---- with parameters ----


def _axes(where, name, axes):
    axes = axes if isinstance(axes, list | tuple) else [axes]
    found = tuple(_check.integer(where, name, axis, 1) for axis in axes)
    if len(set(found)) != len(found):
        raise ValueError(_check.message(where, f"{name} must name every axis once", axes))
    return found


class PReLU(Governed, Layer, compiled=True):
    """Leaky ReLU with slopes that are trained:

    ::

        y  = x  for x > 0,  alpha x   otherwise
        dx = dy for x > 0,  alpha dy  otherwise;    dalpha = sum of x dy where x <= 0, over the samples and shared axes

    x, y: float32 or float64, (N, ...).  Parameter ``alpha``: the shape of a sample, with 1 along the shared axes.

    - ``alpha_initializer``: a name or an object of ``initializers.py``, or a function.
    - ``alpha_regularizer``, ``alpha_constraint``: a name or an object of ``regularizers.py``, ``constraints.py``, or
      None.
    - ``shared_axes``: one axis or several, along which all elements have the same alpha; the first one behind the
      batch is 1: [1, 2] for one alpha for each channel of images, as in the paper.  None: every element its own.

    Raises ValueError for an axis below 1 and, at ``build``, for one that samples do not have.

    Source: He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", ICCV 2015, equations 1 and 9; there alpha begins at
    0.25, here and in Keras at 0.
    """

    output_function = "changed"

    alpha_initializer = Fixed(initializers.check)
    alpha_regularizer = Rule(regularizers.get)
    alpha_constraint = Rule(constraints.get)
    shared_axes = Fixed(_axes, optional=True)

    def __init__(
        self,
        alpha_initializer="zeros",
        alpha_regularizer=None,
        alpha_constraint=None,
        shared_axes=None,
        dtype=None,
    ):
        super().__init__(dtype)
        self.alpha_initializer = alpha_initializer
        self.alpha_regularizer = alpha_regularizer
        self.alpha_constraint = alpha_constraint
        self.shared_axes = shared_axes

    def build(self, input_shape, rng):
        shape = super().build(input_shape, rng)
        if not shape:
            raise ValueError(_check.message("PReLU", "one sample must have at least one axis", shape))
        shared = self.shared_axes or ()
        if max(shared, default=0) > len(shape):
            required = f"shared_axes must be axes of a sample, at most {len(shape)}"
            raise ValueError(_check.message("PReLU", required, self.shared_axes))
        alphas = tuple(1 if axis in shared else size for axis, size in enumerate(shape, 1))
        constraints.check("PReLU", self.alpha_constraint, alphas)
        self.add_param("alpha", alphas, initializers.get("PReLU", self.alpha_initializer), rng)
        # Behind leading shared axes the alphas repeat: the kernel needs to know those of one period.
        own = next((axis for axis, size in enumerate(alphas) if size > 1), len(shape))
        places = np.arange(math.prod(alphas), dtype=np.int64).reshape(alphas)
        self._places = np.broadcast_to(places, (*alphas[:own], *shape[own:])).flatten()
        return shape

    def forward(self, x, training=False):
        x = self.check_input(x)
        y = empty(x.shape, x.dtype)
        kernels.prelu(flat(x), self.params["alpha"].reshape(-1), self._places, flat(y))
        if training:
            self.keep(len(x), self.own(x))
        return y

    def backward(self, dy):
        return self._backward(dy, True)

    def backward_params(self, dy):
        self._backward(dy, False)

    def _backward(self, dy, wanted):
        dy, (x,) = self.check_gradient(dy)
        dx = empty(x.shape, x.dtype) if wanted else None
        alpha, dalpha = self.params["alpha"].reshape(-1), self.grads["alpha"].reshape(-1)
        kernels.prelu_backward(flat(x), flat(dy), alpha, self._places, dalpha, None if dx is None else flat(dx))
        return dx


def flat(x):
    """(N, ...) as (N, D)."""
    return x.reshape(len(x), math.prod(x.shape[1:]))
