"""Convolutions that do not mix channels, or mix them in a second step.

Read ``conv.py`` first: the windows, the padding and the kernels are those of ``Conv2D``.
"""

from minicnn import _check, chain, constraints, initializers, regularizers
from minicnn.layer import Layer
from minicnn.layers import activation as activations
from minicnn.layers.compose import Composite
from minicnn.layers.conv import Conv2D, Convolution
from minicnn.layers.governed import Governed
from minicnn.settings import Fixed, Given, Setting, refuse


class _Passed(Setting):
    """A setting that a part of the layer keeps, or the layer itself, under another name."""

    def __init__(self, check, there, part=None):
        super().__init__(check)
        self.there, self.part = there, part

    def __get__(self, layer, owner=None):
        return self if layer is None else getattr(self._keeper(layer), self.there)

    def __set__(self, layer, value):
        keeper, where = self._keeper(layer), type(layer).__name__
        known = getattr(type(keeper), self.there)
        if isinstance(known, Fixed) and self.there in vars(keeper):
            refuse(layer, self.name, "is fixed when the object is made", value, f"Make a new {where} with it")
        value = self.check(where, self.name, value)
        parameter = keeper.params.get(self.there.removesuffix("_constraint"))
        if parameter is not None:
            constraints.check(where, value, parameter.shape)
        setattr(keeper, self.there, value)
        if known.forgets:
            layer.forget()

    def _keeper(self, layer):
        return layer if self.part is None else getattr(layer, self.part)


class DepthwiseConv2D(Convolution, Layer, compiled=True):
    """2-D convolution of every channel by itself, with bias and activation.

    ::

        z[n, i, j, o] = bias[o] + sum_{a, b} x[n, i SH + a DH - top, j SW + b DW - left, c] kernel[a, b, c, m]
        y = activation(z),   with o = c depth_multiplier + m

        dkernel[a, b, c, m] = sum_{n, i, j} x[n, i SH + a DH - top, j SW + b DW - left, c] dz[n, i, j, o]
        dbias[o] = sum_{n, i, j} dz[n, i, j, o];   dx: the same sum, over the places where an input was used

    x: (N, H, W, C), y: (N, OH, OW, C depth_multiplier), float32 or float64.  Parameters ``kernel`` (KH, KW, C,
    depth_multiplier) and ``bias`` (C depth_multiplier,).  It is ``Conv2D`` with C groups, but for the shape of the
    kernel, of which the initialiser sees KH KW C inputs and KH KW depth_multiplier outputs, as in Keras.

    - ``depth_multiplier``: filters of each channel, a whole number >= 1.
    - ``depthwise_initializer``, ``depthwise_regularizer``, ``depthwise_constraint``: of the kernel.  The norms of a
      constraint are over all axes but the last unless its ``axis`` says otherwise: (0, 1) for every filter by itself.
    - The other arguments, and the errors, are those of ``Conv2D``.

    Source: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017.
    """

    input_ndim = 3
    depth_multiplier = Fixed(_check.integer, 1)
    depthwise_initializer = _Passed(initializers.check, "kernel_initializer")
    depthwise_regularizer = _Passed(regularizers.get, "kernel_regularizer")
    depthwise_constraint = _Passed(constraints.get, "kernel_constraint")

    def __init__(
        self,
        kernel_size,
        strides=1,
        padding="valid",
        depth_multiplier=1,
        dilation_rate=1,
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        bias_constraint=None,
        dtype=None,
    ):
        super().__init__(dtype)
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.depth_multiplier = depth_multiplier
        self.dilation_rate = dilation_rate
        self.activation = activation
        self.use_bias = use_bias
        self.depthwise_initializer = depthwise_initializer
        self.bias_initializer = bias_initializer
        self.depthwise_regularizer = depthwise_regularizer
        self.bias_regularizer = bias_regularizer
        self.activity_regularizer = activity_regularizer
        self.depthwise_constraint = depthwise_constraint
        self.bias_constraint = bias_constraint

    def build(self, input_shape, rng):
        _, _, c = input_shape = super().build(input_shape, rng)
        filters = c * self.depth_multiplier
        oh, ow = self._place_windows(input_shape, c)
        self._add_kernel_and_bias((*self.kernel_size, c, self.depth_multiplier), rng, filters)
        self.output_shape = oh, ow, filters
        return self.output_shape

    def _grouped(self, kernel):
        """The same memory as a kernel of C groups, (KH, KW, 1, C depth_multiplier)."""
        return kernel.reshape(*self.kernel_size, 1, self.output_shape[-1])

    def forward(self, x, training=False):
        return self._convolve(self.check_input(x), self._grouped(self.params["kernel"]), training)

    def _linear_gradient(self, x, dz, input_gradient):
        kernel, dkernel = self._grouped(self.params["kernel"]), self._grouped(self.grads["kernel"])
        return self._gradients(x, dz, kernel, dkernel, input_gradient)


class SeparableConv2D(Governed, Composite, compiled=True):
    """Two convolutions for one: of every channel by itself, then of the channels, pixel by pixel.

    ::

        forward:    u = DepthwiseConv2D(kernel_size, ..., use_bias=False) of x,  y = Conv2D(filters, 1, activation) of u
        backward:   du = dx of the Conv2D for dy,                               dx = dx of the DepthwiseConv2D for du

    x: (N, H, W, C), y: (N, OH, OW, F), float32 or float64.  The parts are ``depthwise`` and ``pointwise``, with the
    parameters ``depthwise.kernel`` (KH, KW, C, depth_multiplier), ``pointwise.kernel`` (1, 1, C depth_multiplier, F)
    and ``pointwise.bias`` (F,).

    - ``kernel_size``, ``strides``, ``padding``, ``dilation_rate``, ``depth_multiplier``: of ``DepthwiseConv2D``.
    - ``filters``, ``activation``, ``use_bias``, ``activity_regularizer`` and those of the bias: of ``Conv2D``.
    - ``depthwise_...`` and ``pointwise_...``: initialisers, regularisers and constraints of the two kernels.

    The errors are those of the two layers.  Source: as of ``DepthwiseConv2D``.
    """

    composite = True
    input_ndim = 3
    depthwise = Given("Give the arguments of its layers to a new SeparableConv2D")
    pointwise = Given("Give the arguments of its layers to a new SeparableConv2D")

    filters = Fixed(_check.integer, 1)
    kernel_size = Fixed(_check.pair)
    strides = Fixed(_check.pair)
    padding = Fixed(_check.padding)
    dilation_rate = Fixed(_check.pair)
    depth_multiplier = Fixed(_check.integer, 1)
    use_bias = Fixed(_check.boolean)
    depthwise_initializer = _Passed(initializers.check, "kernel_initializer", "depthwise")
    pointwise_initializer = _Passed(initializers.check, "kernel_initializer", "pointwise")
    bias_initializer = _Passed(initializers.check, "bias_initializer", "pointwise")
    depthwise_regularizer = _Passed(regularizers.get, "kernel_regularizer", "depthwise")
    pointwise_regularizer = _Passed(regularizers.get, "kernel_regularizer", "pointwise")
    bias_regularizer = _Passed(regularizers.get, "bias_regularizer", "pointwise")
    activity_regularizer = _Passed(regularizers.get_native, "activity_regularizer", "pointwise")
    depthwise_constraint = _Passed(constraints.get, "kernel_constraint", "depthwise")
    pointwise_constraint = _Passed(constraints.get, "kernel_constraint", "pointwise")
    bias_constraint = _Passed(constraints.get, "bias_constraint", "pointwise")

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        dilation_rate=1,
        depth_multiplier=1,
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        pointwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        pointwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        pointwise_constraint=None,
        bias_constraint=None,
        dtype=None,
    ):
        super().__init__(dtype)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.dilation_rate = dilation_rate
        self.depth_multiplier = depth_multiplier
        self.use_bias = use_bias
        window = self.kernel_size, self.strides, self.padding, self.depth_multiplier, self.dilation_rate
        initial = [
            initializers.check("SeparableConv2D", "an initializer", name)
            for name in (depthwise_initializer, pointwise_initializer, bias_initializer)
        ]
        self._put(
            depthwise=DepthwiseConv2D(*window, use_bias=False, depthwise_initializer=initial[0], dtype=dtype),
            pointwise=Conv2D(
                self.filters,
                1,
                use_bias=self.use_bias,
                kernel_initializer=initial[1],
                bias_initializer=initial[2],
                dtype=dtype,
            ),
        )
        self.activation = activation
        self.depthwise_regularizer = depthwise_regularizer
        self.pointwise_regularizer = pointwise_regularizer
        self.bias_regularizer = bias_regularizer
        self.activity_regularizer = activity_regularizer
        self.depthwise_constraint = depthwise_constraint
        self.pointwise_constraint = pointwise_constraint
        self.bias_constraint = bias_constraint

    @property
    def activation(self):
        """The argument."""
        return self.pointwise.activation

    @activation.setter
    def activation(self, activation):
        self.pointwise.activation = activations.check("SeparableConv2D", "activation", activation)
        self.forget()

    @property
    def output_function(self):
        """What the second convolution says."""
        return self.pointwise.output_function

    def get_config(self):
        return activations.with_forms(super().get_config())

    def build(self, input_shape, rng):
        self.output_shape = self.build_part(self._both, super().build(input_shape, rng), rng)
        return self.output_shape

    @property
    def _both(self):
        return self.depthwise, self.pointwise

    def flow(self, x, call):
        return call(self._both, x)

    def backward(self, dy):
        return self._backward(dy, True)

    def backward_params(self, dy):
        self._backward(dy, False)

    def backward_logits(self, dz, input_gradient=True):
        """``backward`` for a gradient before the activation."""
        return self._backward(dz, input_gradient, at_logits=True)

    @property
    def activation_gradient(self):
        """(y, dy) -> dz, where y alone says enough."""
        return self.pointwise.activation_gradient

    def _backward(self, dy, wanted, at_logits=False):
        dy, _ = self.check_gradient(dy)
        dx = chain.backward(self._both, dy, at_logits, wanted)
        return self.own(dx) if wanted else None
