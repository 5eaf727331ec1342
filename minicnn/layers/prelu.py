"""PReLU: a leaky ReLU whose slopes are parameters."""

import math

import numpy as np

from minicnn import _check, constraints, initializers, regularizers
from minicnn._ext import activation as kernels
from minicnn.layer import Layer
from minicnn.layers.affine import ParameterConstraint
from minicnn.recording import empty
from minicnn.settings import Fixed, Setting


def _axes(where, name, axes):
    axes = axes if isinstance(axes, list | tuple) else [axes]
    found = tuple(_check.integer(where, name, axis, 1) for axis in axes)
    if len(set(found)) != len(found):
        raise ValueError(_check.message(where, f"{name} must name every axis once", axes))
    return found


class PReLU(Layer, compiled=True):
    """Leaky ReLU with slopes that are trained:

    ::

        y  = x  for x > 0,  alpha x   otherwise
        dx = dy for x > 0,  alpha dy  otherwise;    dalpha = sum of x dy where x <= 0, over the samples and shared axes

    x, y: float32 or float64, (N, ...).  Parameter ``alpha``: the shape of a sample, with 1 along the shared axes.

    - ``alpha_initializer``: a name (``initializers.py``).
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
    alpha_regularizer = Setting(regularizers.get)
    alpha_constraint = ParameterConstraint()
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
        kernels.prelu(_flat(x), self.params["alpha"].reshape(-1), self._places, _flat(y))
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
        kernels.prelu_backward(_flat(x), _flat(dy), alpha, self._places, dalpha, None if dx is None else _flat(dx))
        return dx

    def get_config(self):
        config = super().get_config()
        return {name: regularizers.to_config(constraints.to_config(value)) for name, value in config.items()}


def _flat(x):
    """(N, ...) as (N, D)."""
    return x.reshape(len(x), math.prod(x.shape[1:]))
