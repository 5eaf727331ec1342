"""What convolutions and Dense have in common: a kernel, a bias and an activation, z = linear(x) + bias, y = f(z)."""

import numpy as np

from minicnn import _check, cells, constraints, initializers, regularizers
from minicnn._ext import penalty as penalty_kernel
from minicnn.layers.activation import Activated, flat
from minicnn.layers.governed import Governed, Rule
from minicnn.recording import empty, penalize
from minicnn.settings import Fixed, Setting


class Affine(Governed, Activated):
    """A second base, next to ``Layer``, for layers that are affine except for their activation.

    ``__init__`` hands the arguments that all of them have to ``_set_up``, in their order; ``build`` calls
    ``_add_kernel_and_bias``; ``forward`` gives z to ``_activate`` and keeps x and what that says.  The layer implements
    ``_linear_gradient(x, dz, input_gradient)``, which fills ``grads`` and returns dx or None.
    """

    use_bias = Fixed(_check.boolean)
    kernel_initializer = Fixed(initializers.check)
    bias_initializer = Fixed(initializers.check)
    kernel_regularizer = Rule(regularizers.get)
    kernel_constraint = Rule(constraints.get)
    bias_regularizer = Rule(regularizers.get)
    activity_regularizer = Setting(regularizers.get_native, forgets=True)
    bias_constraint = Rule(constraints.get)

    def _set_up(
        self,
        activation,
        use_bias,
        kernel_initializer,
        bias_initializer,
        kernel_regularizer,
        kernel_constraint,
        bias_regularizer,
        activity_regularizer,
        bias_constraint,
    ):
        """Stores the arguments that all such layers have."""
        self.activation = activation
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self.kernel_regularizer = kernel_regularizer
        self.kernel_constraint = kernel_constraint
        self.bias_regularizer = bias_regularizer
        self.activity_regularizer = activity_regularizer
        self.bias_constraint = bias_constraint

    def _add_kernel_and_bias(self, shape, rng, units=None):
        """The kernel of that shape, and a bias for its last axis, or for so many units."""
        name = type(self).__name__
        constraints.check(name, self.kernel_constraint, shape)
        units = shape[-1:] if units is None else (units,)
        constraints.check(name, self.bias_constraint, units)
        self.add_param("kernel", shape, initializers.get(name, self.kernel_initializer), rng)
        if self.use_bias:
            self.add_param("bias", units, initializers.get(name, self.bias_initializer), rng)

    def backward(self, dy):
        return self._backward(dy, input_gradient=True)

    def backward_params(self, dy):
        self._backward(dy, input_gradient=False)

    @property
    def activation_gradient(self):
        """(y, dy) -> dz, where y alone says enough.

        Not with an ``activity_regularizer``: its gradient differs at every output, and the sum would have other bits.
        """
        return self._function.backward if self._function.can_wait and self.activity_regularizer is None else None

    def backward_logits(self, dz, input_gradient=True):
        """``backward`` for a gradient before the activation: a loss that is fused with softmax begins here."""
        return self._backward(dz, input_gradient, at_logits=True)

    def _backward(self, dy, input_gradient, at_logits=False):
        dy, (x, saved, y) = self.check_gradient(dy)
        if y is None:
            dz = dy if at_logits else self._function.backward(saved, dy)
        elif at_logits:
            dz = _slope(self._function.backward(saved, self._activity_slope(y, None)), dy, 0.0, 1.0)  # the sum of both
        else:
            dz = self._function.backward(saved, self._activity_slope(y, dy))
        return self._linear_gradient(x, dz, input_gradient)

    def _activate(self, z, training):
        """(y, what backward needs as well as x) for z, to which ``fused(training)`` has been applied already."""
        function, y, saved = self._function, z, None
        if not function.fused(training) and function.name != "linear":
            y = empty(z.shape, z.dtype) if function.needs_input else z
            function.forward(z, y)
        if training and function.name != "linear":
            saved = z if function.needs_input else self.own(y)
        if self.activity_regularizer is None:
            return y, (saved, None)
        self._penalize_activity(y)
        if not training:
            return y, (None, None)
        return y, (saved, self.own(y) if saved is None or function.needs_input else saved)

    # ---- what outputs add to the loss: the mean over the samples of r(y[n]), with the regulariser r ----

    def _penalize_activity(self, y):
        samples = empty((len(y),), np.float64)
        penalty_kernel.of_samples(flat(y), self.activity_regularizer.l1, self.activity_regularizer.l2, samples)
        penalize(samples)

    def _activity_slope(self, y, dy):
        """dy, or zeros for None, plus the gradient of the outputs' penalty."""
        regularizer, n = self.activity_regularizer, max(1, cells.samples_of_batch(len(y)))
        return _slope(y, dy, regularizer.l1 / n, 2 * regularizer.l2 / n)


def _slope(y, dy, a, b):
    """dy + a sign(y) + b y."""
    out = empty(y.shape, y.dtype)
    penalty_kernel.slope(flat(y), None if dy is None else flat(dy), a, b, flat(out))
    return out
