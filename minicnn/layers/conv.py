"""Convolution: every output pixel is a weighted sum over a window of the input, the same weights everywhere.

Transposed convolution: every input pixel adds its weighted window to the output, as in a convolution's gradient.
"""

import math

from minicnn import _check
from minicnn._ext import conv as kernels
from minicnn.layer import Layer
from minicnn.layers.affine import Affine
from minicnn.layers.reshape import borders
from minicnn.recording import empty
from minicnn.settings import Fixed

ALGORITHMS = ("auto", "exact")
MOST_PADDED = 2**31  # elements of one padded image


def output_size(size, window, stride, dilation, padding):
    """(output size, padding before) of one axis.  "same" is Keras's: ceil(size / stride), the odd pixel goes after."""
    extent = (window - 1) * dilation + 1
    if padding == "valid":
        return (size - extent) // stride + 1, 0
    out = -(-size // stride)
    return out, max(0, (out - 1) * stride + extent - size) // 2


class Conv2D(Affine, Layer, compiled=True):
    """2-D convolution (cross-correlation, as everywhere in deep learning) with bias and activation.

    ::

        z[n, i, j, f] = bias[f] + sum_{a, b, c} x[n, i SH + a DH - top, j SW + b DW - left, c] kernel[a, b, c, f]
        y = activation(z)

        dkernel[a, b, c, f] = sum_{n, i, j} x[n, i SH + a DH - top, j SW + b DW - left, c] dz[n, i, j, f]
        dbias[f] = sum_{n, i, j} dz[n, i, j, f];   dx: the same sum, over the places where an input was used

    x: (N, H, W, C), y: (N, OH, OW, F), float32 or float64.  Parameters ``kernel`` (KH, KW, C / groups, F) and ``bias``
    (F,).  Pixels outside the image count as 0.

    - ``filters``: F >= 1.  ``kernel_size``, ``strides``, ``dilation_rate``: whole numbers >= 1, or (height, width).
    - ``padding``: "valid" (windows inside the image only: OH = (H - extent) // SH + 1 with extent = (KH - 1) DH + 1)
      or "same" (OH = ceil(H / SH); the odd pixel of padding goes to the bottom and the right, as in Keras).
    - ``groups``: input and output channels are cut into that many groups that do not see each other; both must be
      divisible by it.  groups = C is a depthwise convolution.
    - ``activation``: a name (``layers/activation.py``) or None.  ``use_bias``: False for no bias.
    - ``kernel_initializer``: a name (``initializers.py``); the bias begins at 0.
    - ``kernel_regularizer``, ``bias_regularizer``, ``activity_regularizer`` (of y): a name or an object of
      ``regularizers.py``, or None.  ``kernel_constraint``, ``bias_constraint``: the same of ``constraints.py``.
    - ``algorithm``: "auto" takes Winograd's F(4x4, 3x3) where it pays: in float32, for kernels of 3 x 3 with stride 1,
      dilation 1 and one group, C and F multiples of 16.  It is 1.3 to 2.7 times as fast and its rounding errors are
      5 to 10 times as large (docs/kernels.md).  "exact": the sums of the formulas, always.  None takes the model's,
      and "auto" outside of a model.

    Raises ValueError for arguments out of range, at ``build`` if the kernel is larger than the image or the channels do
    not fit the groups; TypeError for arguments of the wrong kind.

    Source: LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 1998; the arithmetic of
    padding and strides: Dumoulin and Visin, 2016.
    """

    input_ndim = 3
    filters = Fixed(_check.integer, 1)
    kernel_size = Fixed(_check.pair)
    strides = Fixed(_check.pair)
    padding = Fixed(_check.choice, ("valid", "same"))
    dilation_rate = Fixed(_check.pair)
    groups = Fixed(_check.integer, 1)

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        dilation_rate=1,
        groups=1,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        kernel_constraint=None,
        bias_regularizer=None,
        activity_regularizer=None,
        bias_constraint=None,
        algorithm=None,
        dtype=None,
    ):
        super().__init__(dtype)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.dilation_rate = dilation_rate
        self.groups = groups
        if self.filters % self.groups:
            raise ValueError(_check.message("Conv2D", f"filters must be divisible by groups = {groups}", filters))
        self.algorithm = algorithm
        self._set_up(
            activation,
            use_bias,
            kernel_initializer,
            kernel_regularizer,
            kernel_constraint,
            bias_regularizer,
            activity_regularizer,
            bias_constraint,
        )

    @property
    def algorithm(self):
        """The argument; once the layer is built, what it has become."""
        return self._algorithm

    @algorithm.setter
    def algorithm(self, algorithm):
        if algorithm is not None or self.input_shape is not None:
            _check.choice(type(self).__name__, "algorithm", algorithm, ALGORITHMS)
        self._algorithm = algorithm

    def build(self, input_shape, rng):
        h, w, c = input_shape = super().build(input_shape, rng)
        if c % self.groups:
            required = f"the channels of the input must be divisible by groups = {self.groups}"
            raise ValueError(_check.message("Conv2D", required, c))
        axes = zip((h, w), self.kernel_size, self.strides, self.dilation_rate, strict=True)
        (oh, top), (ow, left) = (output_size(*axis, self.padding) for axis in axes)
        if oh < 1 or ow < 1:
            window = f"the kernel {self.kernel_size} with dilation {self.dilation_rate}"
            required = f"an image must be at least as large as {window}"
            raise ValueError(_check.message("Conv2D", required, input_shape, 'Use padding="same" or a smaller kernel'))
        reach = [
            (out - 1) * stride + (size - 1) * dilation + 1
            for out, size, stride, dilation in zip(
                (oh, ow), self.kernel_size, self.strides, self.dilation_rate, strict=True
            )
        ]
        if self.padding == "same" and reach[0] * reach[1] * c >= MOST_PADDED:
            required = f"an image with its padding must have fewer than {MOST_PADDED:,} elements"
            raise ValueError(_check.message("Conv2D", required, (*reach, c), "Use a smaller dilation_rate or kernel"))
        if self.algorithm is None:
            self.algorithm = "auto"
        self._geometry = (*self.strides, top, left, *self.dilation_rate, self.groups)
        self._add_kernel_and_bias((*self.kernel_size, c // self.groups, self.filters), rng)
        self.output_shape = oh, ow, self.filters
        return self.output_shape

    def forward(self, x, training=False):
        x = self.check_input(x)
        z = empty((len(x), *self.output_shape), self.dtype)
        function = self._function
        bias = self.params.get("bias")
        kernels.forward(
            x,
            self.params["kernel"],
            bias,
            z,
            self._geometry,
            function.fused(training),
            function.slope,
            kernels.ALGORITHMS[self.algorithm],
        )
        y, saved = self._activate(z, training)
        if training:
            self.keep(len(x), self.own(x), *saved)
        return y

    def _linear_gradient(self, x, dz, input_gradient):
        algorithm = kernels.ALGORITHMS[self.algorithm]
        kernels.backward_params(x, dz, self.grads["kernel"], self.grads.get("bias"), self._geometry, algorithm)
        if not input_gradient:
            return None
        dx = empty(x.shape, x.dtype)
        kernels.backward_input(dz, self.params["kernel"], dx, self._geometry, algorithm)
        return dx

    def multiply_adds(self):
        oh, ow, _ = self.output_shape
        return oh * ow * self.params["kernel"].size


def _cut(where, name, value):
    """ "valid", "same" or ((top, bottom), (left, right))."""
    if not isinstance(value, list | tuple):
        return _check.choice(where, name, value, ("valid", "same"))
    return borders(where, name, value)


def transposed_size(size, window, stride, dilation, padding, extra):
    """(output size, pixels cut off before) of one axis, by the arithmetic of Keras 3.

    All windows together reach over (size - 1) stride + extent pixels.  ``padding``: "valid", "same", or what is cut off
    (before, after); ``extra``: output_padding, or None.
    """
    extent = (window - 1) * dilation + 1
    reach = (size - 1) * stride + extent
    if padding == "valid":
        return reach + (max(stride - extent, 0) if extra is None else extra), 0
    if padding != "same":
        return reach - sum(padding) + (extra or 0), padding[0]
    if extra is None:
        return size * stride, max(0, extent - stride) // 2
    return (size - 1) * stride + extent % 2 + extra, max(0, extent - extent % 2 - extra) // 2


class Conv2DTranspose(Affine, Layer, compiled=True):
    """2-D transposed convolution with bias and activation: the map that is the gradient of a convolution's input.

    ::

        z[n, i SH + a DH - top, j SW + b DW - left, f] = bias[f] + sum_{c} x[n, i, j, c] kernel[a, b, f, c],
            summed over all i, j, a, b that lead to the same pixel
        y = activation(z)

        dx[n, i, j, c] = sum_{a, b, f} dz[n, i SH + a DH - top, j SW + b DW - left, f] kernel[a, b, f, c]
        dkernel[a, b, f, c] = sum_{n, i, j} dz[n, i SH + a DH - top, j SW + b DW - left, f] x[n, i, j, c]
        dbias[f] = sum over n and all pixels of dz

    x: (N, H, W, C), y: (N, OH, OW, F), float32 or float64.  Parameters ``kernel`` (KH, KW, F, C) and ``bias`` (F,).
    What falls outside of the output is dropped; pixels that no window reaches are f(bias).

    - ``filters``: F >= 1.  ``kernel_size``, ``strides``, ``dilation_rate``: whole numbers >= 1, or (height, width).
    - ``padding``, with extent = (KH - 1) DH + 1, and for columns the same: "valid" for the whole of all windows, OH =
      (H - 1) SH + max(extent, SH); "same" for OH = H SH, with the first max(0, extent - SH) // 2 rows cut off; or
      ((top, bottom), (left, right)), so many rows and columns cut off.
    - ``output_padding``: None, or a whole number in [0, strides), or (height, width).  It then says the size: OH = (H -
      1) SH + extent + output_padding for "valid", less top and bottom where they are given, and (H - 1) SH + extent % 2
      + output_padding for "same", with max(0, extent - extent % 2 - output_padding) // 2 rows cut off.
    - ``activation``, ``use_bias``, regularisers, constraints, ``algorithm``: as in Conv2D; "auto" takes Winograd's for
      strides and dilation 1 here, too.

    Sizes, and where odd pixels are cut off, are Keras 3's; there strides and dilation cannot both be more than 1.

    Raises ValueError for arguments out of range, and at ``build`` if nothing of the output is left; TypeError for
    arguments of the wrong kind.

    Source: Zeiler et al., "Deconvolutional networks", CVPR 2010; the arithmetic: Dumoulin and Visin, 2016, chapter 4.
    """

    input_ndim = 3
    filters = Fixed(_check.integer, 1)
    kernel_size = Fixed(_check.pair)
    strides = Fixed(_check.pair)
    padding = Fixed(_cut)
    output_padding = Fixed(_check.pair, 0, optional=True)
    dilation_rate = Fixed(_check.pair)
    algorithm = Conv2D.algorithm

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        output_padding=None,
        dilation_rate=1,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        kernel_constraint=None,
        bias_regularizer=None,
        activity_regularizer=None,
        bias_constraint=None,
        algorithm=None,
        dtype=None,
    ):
        super().__init__(dtype)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.output_padding = output_padding
        self.dilation_rate = dilation_rate
        for extra, stride in zip(self.output_padding or (0, 0), self.strides, strict=True):
            if extra >= stride:
                required = f"output_padding must be less than strides, {self.strides}"
                raise ValueError(_check.message("Conv2DTranspose", required, self.output_padding))
        self.algorithm = algorithm
        self._set_up(
            activation,
            use_bias,
            kernel_initializer,
            kernel_regularizer,
            kernel_constraint,
            bias_regularizer,
            activity_regularizer,
            bias_constraint,
        )

    def build(self, input_shape, rng):
        h, w, c = input_shape = super().build(input_shape, rng)
        paddings = self.padding if isinstance(self.padding, tuple) else (self.padding,) * 2
        extras = self.output_padding or (None, None)
        axes = zip((h, w), self.kernel_size, self.strides, self.dilation_rate, paddings, extras, strict=True)
        (oh, top), (ow, left) = (transposed_size(*axis) for axis in axes)
        if oh < 1 or ow < 1:
            required = "padding and output_padding must leave something of the output"
            raise ValueError(_check.message("Conv2DTranspose", required, _check.Shown(f"{(oh, ow)} of {input_shape}")))
        reach = [
            max(out, (size - 1) * stride + (window - 1) * dilation + 1)
            for out, size, window, stride, dilation in zip(
                (oh, ow), (h, w), self.kernel_size, self.strides, self.dilation_rate, strict=True
            )
        ]
        if math.prod(reach) * self.filters >= MOST_PADDED:
            required = f"an image of the output must have fewer than {MOST_PADDED:,} elements, with what is cut off"
            raise ValueError(_check.message("Conv2DTranspose", required, (*reach, self.filters)))
        if self.algorithm is None:
            self.algorithm = "auto"
        self._geometry = (*self.strides, top, left, *self.dilation_rate, 1)
        self._add_kernel_and_bias((*self.kernel_size, self.filters, c), rng, outputs_axis=2)
        self.output_shape = oh, ow, self.filters
        return self.output_shape

    def forward(self, x, training=False):
        x = self.check_input(x)
        z = empty((len(x), *self.output_shape), self.dtype)
        function = self._function
        kernels.backward_input(
            x,
            self.params["kernel"],
            z,
            self._geometry,
            kernels.ALGORITHMS[self.algorithm],
            self.params.get("bias"),
            function.fused(training),
            function.slope,
        )
        y, saved = self._activate(z, training)
        if training:
            self.keep(len(x), self.own(x), *saved)
        return y

    def _linear_gradient(self, x, dz, input_gradient):
        algorithm = kernels.ALGORITHMS[self.algorithm]
        kernels.backward_params(
            dz, x, self.grads["kernel"], self.grads.get("bias"), self._geometry, algorithm, transposed=True
        )
        if not input_gradient:
            return None
        dx = empty(x.shape, x.dtype)
        kernels.forward(dz, self.params["kernel"], None, dx, self._geometry, algorithm=algorithm)
        return dx

    def multiply_adds(self):
        h, w, _ = self.input_shape
        return h * w * self.params["kernel"].size
