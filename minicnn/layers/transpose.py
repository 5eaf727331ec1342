"""Transposed convolution: every input pixel adds its weighted window to the output, as in a convolution's gradient."""

from minicnn import _check
from minicnn._ext import conv as kernels
from minicnn.layer import Layer
from minicnn.layers.affine import Affine
from minicnn.layers.conv import MOST_PADDED, Conv2D
from minicnn.recording import empty
from minicnn.settings import Fixed


def output_size(size, window, stride, dilation, padding, extra):
    """(output size, pixels cut off before, pixels with those cut off) of one axis, by the arithmetic of Keras 3.

    All windows together reach over (size - 1) stride + extent pixels.  ``padding``: "valid", "same", or what is cut off
    (before, after); ``extra``: output_padding, or None.
    """
    extent = (window - 1) * dilation + 1
    reach = (size - 1) * stride + extent
    if padding == "valid":
        out, cut = reach + (max(stride - extent, 0) if extra is None else extra), 0
    elif padding != "same":
        out, cut = reach - sum(padding) + (extra or 0), padding[0]
    elif extra is None:
        out, cut = size * stride, max(0, extent - stride) // 2
    else:
        out, cut = (size - 1) * stride + extent % 2 + extra, max(0, extent - extent % 2 - extra) // 2
    return out, cut, max(out, reach)


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
      a whole number, a pair or ((top, bottom), (left, right)): so many rows and columns cut off.
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
    padding = Fixed(_check.padding)
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
        bias_initializer="zeros",
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
            bias_initializer,
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
        (oh, top, whole_h), (ow, left, whole_w) = (output_size(*axis) for axis in axes)
        if oh < 1 or ow < 1:
            required = "padding and output_padding must leave something of the output"
            raise ValueError(_check.message("Conv2DTranspose", required, _check.Shown(f"{(oh, ow)} of {input_shape}")))
        if whole_h * whole_w * self.filters >= MOST_PADDED:
            required = f"an image of the output must have fewer than {MOST_PADDED:,} elements, with what is cut off"
            raise ValueError(_check.message("Conv2DTranspose", required, (whole_h, whole_w, self.filters)))
        if self.algorithm is None:
            self.algorithm = "auto"
        self._geometry = (*self.strides, top, left, *self.dilation_rate, 1)
        self._add_kernel_and_bias((*self.kernel_size, self.filters, c), rng, self.filters)
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
