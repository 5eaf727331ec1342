"""Convolution: every output pixel is a weighted sum over a window of the input, the same weights everywhere."""

from minicnn import _check
from minicnn._ext import conv as kernels
from minicnn.layer import Layer
from minicnn.layers.affine import Affine
from minicnn.recording import empty
from minicnn.settings import Fixed

ALGORITHMS = ("auto", "exact")
MOST_PADDED = 2**31  # elements of one padded image


def output_size(size, window, stride, dilation, padding):
    """(output size, padding before) of one axis.  "same" is Keras's: ceil(size / stride), the odd pixel goes after.

    ``padding``: "valid", "same" or (before, after).
    """
    extent = (window - 1) * dilation + 1
    if padding == "same":
        out = -(-size // stride)
        return out, max(0, (out - 1) * stride + extent - size) // 2
    before, after = (0, 0) if padding == "valid" else padding
    return (before + size + after - extent) // stride + 1, before


def output_sizes(image, window, strides, dilation, padding):
    """``output_size`` of both axes of an image (H, W, C); ``padding``: as ``_check.padding`` returns it."""
    of_axes = (padding, padding) if isinstance(padding, str) else padding
    axes = zip(image[:2], window, strides, dilation, of_axes, strict=True)
    return tuple(output_size(*axis) for axis in axes)


class Convolution(Affine):
    """A base beside ``Layer`` for convolutions: where the windows lie, and the kernels that run over them.

    The layer has ``kernel_size``, ``strides``, ``padding``, ``dilation_rate`` and calls ``_place_windows`` in its
    ``build``.
    """

    kernel_size = Fixed(_check.pair)
    strides = Fixed(_check.pair)
    padding = Fixed(_check.padding)
    dilation_rate = Fixed(_check.pair)

    def _place_windows(self, image, groups):
        """(OH, OW) for an image (H, W, C); ValueError where no window fits, or no memory holds the padding."""
        where = type(self).__name__
        window = self.kernel_size, self.strides, self.dilation_rate
        (oh, top), (ow, left) = output_sizes(image, *window, self.padding)
        if oh < 1 or ow < 1:
            kernel = f"the kernel {self.kernel_size} with dilation {self.dilation_rate}"
            required = f"an image must be at least as large as {kernel}"
            if not isinstance(self.padding, str):
                required = f"an image with its padding {self.padding} must be at least as large as {kernel}"
            raise ValueError(_check.message(where, required, image, 'Use padding="same" or a smaller kernel'))
        reach = [
            (out - 1) * stride + (size - 1) * dilation + 1
            for out, size, stride, dilation in zip((oh, ow), *window, strict=True)
        ]
        if self.padding != "valid" and reach[0] * reach[1] * image[2] >= MOST_PADDED:
            required = f"an image with its padding must have fewer than {MOST_PADDED:,} elements"
            fix = "Use a smaller padding, dilation_rate or kernel"
            raise ValueError(_check.message(where, required, (*reach, image[2]), fix))
        self._geometry = (*self.strides, top, left, *self.dilation_rate, groups)
        return oh, ow

    def _convolve(self, x, kernel, training, algorithm="exact"):
        """``forward`` with a kernel (KH, KW, C / groups, F)."""
        z = empty((len(x), *self.output_shape), self.dtype)
        function = self._function
        kernels.forward(
            x,
            kernel,
            self.params.get("bias"),
            z,
            self._geometry,
            function.fused(training),
            kernels.ALGORITHMS[algorithm],
        )
        y, saved = self._activate(z, training)
        if training:
            self.keep(len(x), self.own(x), *saved)
        return y

    def _gradients(self, x, dz, kernel, dkernel, input_gradient, algorithm="exact"):
        """``_linear_gradient`` with such a kernel and its gradient."""
        number = kernels.ALGORITHMS[algorithm]
        kernels.backward_params(x, dz, dkernel, self.grads.get("bias"), self._geometry, number)
        if not input_gradient:
            return None
        dx = empty(x.shape, x.dtype)
        kernels.backward_input(dz, kernel, dx, self._geometry, number)
        return dx

    def multiply_adds(self):
        oh, ow, _ = self.output_shape
        return oh * ow * self.params["kernel"].size


class Conv2D(Convolution, Layer, compiled=True):
    """2-D convolution (cross-correlation, as everywhere in deep learning) with bias and activation.

    ::

        z[n, i, j, f] = bias[f] + sum_{a, b, c} x[n, i SH + a DH - top, j SW + b DW - left, c] kernel[a, b, c, f]
        y = activation(z)

        dkernel[a, b, c, f] = sum_{n, i, j} x[n, i SH + a DH - top, j SW + b DW - left, c] dz[n, i, j, f]
        dbias[f] = sum_{n, i, j} dz[n, i, j, f];   dx: the same sum, over the places where an input was used

    x: (N, H, W, C), y: (N, OH, OW, F), float32 or float64.  Parameters ``kernel`` (KH, KW, C / groups, F) and ``bias``
    (F,).  Pixels outside the image count as 0.

    - ``filters``: F >= 1.  ``kernel_size``, ``strides``, ``dilation_rate``: whole numbers >= 1, or (height, width).
    - ``padding``: "valid" (windows inside the image only: OH = (H - extent) // SH + 1 with extent = (KH - 1) DH + 1);
      "same" (OH = ceil(H / SH); the odd pixel of padding goes to the bottom and the right, as in Keras); or how many
      rows and columns, as for ``ZeroPadding2D``: a whole number >= 0 for all sides (PyTorch's), (height, width), or
      ((top, bottom), (left, right)), with OH = (top + H + bottom - extent) // SH + 1.  A window that lies in the
      padding alone gives the bias.
    - ``groups``: input and output channels are cut into that many groups that do not see each other; both must be
      divisible by it.  groups = C is a depthwise convolution.
    - ``activation``: a name or a layer (``layers/activation.py``), or None.  ``use_bias``: False for no bias.
    - ``kernel_initializer``, ``bias_initializer``: a name or an object of ``initializers.py``, or a function.
    - ``kernel_regularizer``, ``bias_regularizer``, ``activity_regularizer`` (of y): a name or an object of
      ``regularizers.py``, or None.  ``kernel_constraint``, ``bias_constraint``: the same of ``constraints.py``.
    - ``algorithm``: "auto" takes Winograd's F(4x4, 3x3) and F(4x4, 5x5) where they pay: in float32, for kernels of
      3 x 3 and 5 x 5 with stride 1, dilation 1 and one group, from about 9 channels and filters on (docs/kernels.md).
      They are 1.3 to 4 times as fast; z and both gradients are within 2e-6 (3 x 3) or 8e-6 (5 x 5) of the largest
      value.  "exact": the sums of the formulas, always.  None takes the model's, and "auto" outside of a model.

    Raises ValueError for arguments out of range, at ``build`` if the kernel is larger than the image or the channels do
    not fit the groups; TypeError for arguments of the wrong kind.

    Source: LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 1998; the arithmetic of
    padding and strides: Dumoulin and Visin, 2016.
    """

    input_ndim = 3
    filters = Fixed(_check.integer, 1)
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
        self.dilation_rate = dilation_rate
        self.groups = groups
        if self.filters % self.groups:
            raise ValueError(_check.message("Conv2D", f"filters must be divisible by groups = {groups}", filters))
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
        _, _, c = input_shape = super().build(input_shape, rng)
        if c % self.groups:
            required = f"the channels of the input must be divisible by groups = {self.groups}"
            raise ValueError(_check.message("Conv2D", required, c))
        oh, ow = self._place_windows(input_shape, self.groups)
        if self.algorithm is None:
            self.algorithm = "auto"
        self._add_kernel_and_bias((*self.kernel_size, c // self.groups, self.filters), rng)
        self.output_shape = oh, ow, self.filters
        return self.output_shape

    def forward(self, x, training=False):
        return self._convolve(self.check_input(x), self.params["kernel"], training, self.algorithm)

    def _linear_gradient(self, x, dz, input_gradient):
        kernel, dkernel = self.params["kernel"], self.grads["kernel"]
        return self._gradients(x, dz, kernel, dkernel, input_gradient, self.algorithm)
