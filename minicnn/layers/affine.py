"""What Conv2D and Dense have in common: a kernel, a bias and an activation, z = linear(x) + bias, y = f(z)."""

from minicnn import _check, initializers
from minicnn.layer import empty
from minicnn.layers.activation import Function


class Affine:
    """A base beside ``Layer`` for layers that are affine but for their activation.

    The layer implements ``_linear_gradient(x, dz, input_gradient)``, which fills ``grads`` and returns dx or None; it
    keeps x and what ``_activate`` says.
    """

    def _set_up(self, activation, use_bias, kernel_initializer, kernel_regularizer, kernel_constraint):
        """Checks and stores the arguments that both layers have."""
        name = type(self).__name__
        self.activation = activation
        self._function = Function(name, activation)
        self.output_function = self._function.name
        self.use_bias = _check.boolean(name, "use_bias", use_bias)
        initializers.get(name, kernel_initializer)
        self.kernel_initializer = kernel_initializer
        self.kernel_regularizer, self.kernel_constraint = kernel_regularizer, kernel_constraint
        for argument in ("kernel_regularizer", "kernel_constraint"):
            value = getattr(self, argument)
            if value is not None:
                raise ValueError(_check.message(name, f"{argument} must be None in this version", value))

    def _add_kernel_and_bias(self, shape, rng):
        """The kernel of that shape, and a bias of zeros for its last axis."""
        name = type(self).__name__
        self.add_param("kernel", shape, initializers.get(name, self.kernel_initializer), rng)
        if self.use_bias:
            self.add_param("bias", shape[-1:], initializers.get(name, "zeros"), rng)

    def backward(self, dy):
        return self._backward(dy, input_gradient=True)

    def backward_params(self, dy):
        self._backward(dy, input_gradient=False)

    def backward_logits(self, dz, input_gradient=True):
        """``backward`` for a gradient before the activation: a loss that is fused with softmax begins here."""
        return self._backward(dz, input_gradient, at_logits=True)

    def _backward(self, dy, input_gradient, at_logits=False):
        dy, (x, saved) = self.check_gradient(dy)
        dz = dy if at_logits else self._function.backward(saved, dy)
        return self._linear_gradient(x, dz, input_gradient)

    def _activate(self, z, training):
        """(y, what backward needs) for z, to which ``fused(training)`` has been applied already."""
        function, y = self._function, z
        if not function.fused(training) and function.name != "linear":
            y = empty(z.shape, z.dtype) if function.needs_input else z
            function.forward(z, y)
        if not training or function.name == "linear":
            return y, None
        return y, z if function.needs_input else self.own(y)
