"""Dense: every output is a weighted sum of all inputs."""

import math

from minicnn import _check
from minicnn._ext import dense as kernels
from minicnn.layer import Layer
from minicnn.layers.affine import Affine
from minicnn.recording import empty
from minicnn.settings import Fixed


class Dense(Affine, Layer, compiled=True):
    """Fully connected layer.

    ::

        z = x kernel + bias,   y = activation(z)
        dkernel = x^T dz,  dbias = sum_n dz,  dx = dz kernel^T

    x: (N, D), y: (N, M), float32 or float64; with more axes, (N, ..., D), the layer works along the last one.
    Parameters ``kernel`` (D, M) and ``bias`` (M,).

    - ``units``: M >= 1.  ``use_bias``: False for no bias.
    - ``activation``: a name or a layer (``layers/activation.py``), or None.
    - ``kernel_initializer``, ``bias_initializer``: a name or an object of ``initializers.py``, or a function.
    - ``kernel_regularizer``, ``bias_regularizer``, ``activity_regularizer`` (of y): a name or an object of
      ``regularizers.py``, or None.  ``kernel_constraint``, ``bias_constraint``: the same of ``constraints.py``.

    ValueError for arguments out of range, TypeError for arguments of the wrong kind.
    """

    units = Fixed(_check.integer, 1)

    def __init__(
        self,
        units,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        kernel_constraint=None,
        bias_regularizer=None,
        activity_regularizer=None,
        bias_constraint=None,
        dtype=None,
    ):
        super().__init__(dtype)
        self.units = units
        self._set_up(
            activation,
            use_bias,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            kernel_constraint,
            bias_regularizer,
            activity_regularizer,
            bias_constraint,
        )

    def build(self, input_shape, rng):
        input_shape = super().build(input_shape, rng)
        if not input_shape:
            raise ValueError(_check.message(type(self).__name__, "one sample must have at least one axis", input_shape))
        self._add_kernel_and_bias((input_shape[-1], self.units), rng)
        self.output_shape = (*input_shape[:-1], self.units)
        return self.output_shape

    def forward(self, x, training=False):
        x = self.check_input(x)
        y, saved = self._activate(self._linear(x, training), training)
        if training:
            self.keep(len(x), self.own(x), *saved)
        return y

    def _linear(self, x, training):
        """z, with what of the activation is fused."""
        z = empty((len(x), *self.output_shape), self.dtype)
        w, bias, function = self.params["kernel"], self.params.get("bias"), self._function
        rows = _rows(x, w.shape[0]), _rows(z, w.shape[1])
        kernels.forward(rows[0], w, bias, rows[1], function.fused(training))
        return z

    def _linear_gradient(self, x, dz, input_gradient):
        w = self.params["kernel"]
        dx = empty(x.shape, x.dtype) if input_gradient else None
        dx_rows = None if dx is None else _rows(dx, w.shape[0])
        rows = math.prod(self.input_shape[:-1])
        x, dz = _rows(x, w.shape[0]), _rows(dz, w.shape[1])
        kernels.backward(x, w, dz, self.grads["kernel"], self.grads.get("bias"), dx_rows, rows)
        return dx

    def multiply_adds(self):
        return math.prod(self.input_shape[:-1]) * self.params["kernel"].size


def _rows(array, width):
    """(N, ..., width) as (rows, width)."""
    return array.reshape(array.size // width, width)
