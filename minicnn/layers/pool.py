"""Pooling: a window of the image becomes one pixel, in each channel separately."""

import math
from typing import Any

import numpy as np

from minicnn import _check
from minicnn._ext import pool as kernels
from minicnn.layer import Layer
from minicnn.layers.conv import output_sizes
from minicnn.recording import empty
from minicnn.settings import Fixed


class _Pooling(Layer):
    """What all four have in common."""

    input_ndim = 3
    output_function = "same"


class _Window(_Pooling):
    """A window with its size, strides and padding."""

    pool_size = Fixed(_check.pair)
    strides = Fixed(_check.pair)
    padding = Fixed(_check.padding)

    def __init__(self, pool_size=2, strides=None, padding="valid", dtype=None):
        super().__init__(dtype)
        self.pool_size = pool_size
        self.strides = self.pool_size if strides is None else strides
        self.padding = padding

    def build(self, input_shape, rng):
        h, w, c = input_shape = super().build(input_shape, rng)
        (oh, top), (ow, left) = output_sizes(input_shape, self.pool_size, self.strides, (1, 1), self.padding)
        if oh < 1 or ow < 1:
            required = f"an image must be at least as large as pool_size {self.pool_size}"
            if not isinstance(self.padding, str):
                required = (
                    f"an image with its padding {self.padding} must be at least as large as pool_size {self.pool_size}"
                )
            fix = 'Use padding="same" or a smaller window'
            raise ValueError(_check.message(type(self).__name__, required, input_shape, fix))
        for size, out, before, window, stride in zip(
            (h, w), (oh, ow), (top, left), self.pool_size, self.strides, strict=True
        ):
            if before >= window or (out - 1) * stride - before >= size:  # the first window, the last one
                required = f"every window {self.pool_size} must see a pixel of the image {(h, w)}, not padding alone"
                raise ValueError(_check.message(type(self).__name__, required, self.padding, "Use a smaller padding"))
        self._geometry = (*self.pool_size, *self.strides, top, left)
        self.output_shape = oh, ow, c
        return self.output_shape

    def _image(self, array):
        """An output or its gradient as (N, OH, OW, C)."""
        return array


class _Global(_Pooling):
    """A window as large as the image; the output is (N, C)."""

    def __init__(self, dtype=None):
        super().__init__(dtype)

    def build(self, input_shape, rng):
        h, w, c = super().build(input_shape, rng)
        self._geometry = (h, w, 1, 1, 0, 0)
        self.output_shape = (c,)
        return self.output_shape

    def _image(self, array):
        return array.reshape(len(array), 1, 1, -1) if array.size else array.reshape(0, 1, 1, *self.output_shape)


class _Maximum:
    def forward(self, x, training=False):
        x = self.check_input(x)
        y = empty((len(x), *self.output_shape), self.dtype)
        winner = empty(y.shape, np.uint8 if math.prod(self._geometry[:2]) <= 256 else np.int32)
        if len(x):
            kernels.max_forward(x, self._image(y), self._image(winner), self._geometry)
        if training:
            self.keep(len(x), winner, self.own(y))
        return y

    def backward(self, dy):
        dy, (winner, _) = self.check_gradient(dy)
        return self._backward(dy, winner)

    @property
    def backward_behind(self):
        """``backward`` with the gradient of an activation first, where no pixel wins twice; None where one may."""
        windows = self._geometry[:4]
        return self._backward_behind if windows[2] >= windows[0] and windows[3] >= windows[1] else None

    def _backward_behind(self, dy, activation_gradient):
        dy, (winner, y) = self.check_gradient(dy)
        return self._backward(activation_gradient(y, dy), winner)

    def _backward(self, dy, winner):
        dx = empty((len(dy), *self.input_shape), self.dtype)
        if len(dy):
            kernels.max_backward(self._image(dy), self._image(winner), dx, self._geometry)
        return dx


class _Average:
    count_include_pad: Any = False

    def forward(self, x, training=False):
        x = self.check_input(x)
        y = empty((len(x), *self.output_shape), self.dtype)
        if len(x):
            kernels.average_forward(x, self._image(y), self._geometry, self.count_include_pad)
        if training:
            self.keep(len(x))
        return y

    def backward(self, dy):
        dy, _ = self.check_gradient(dy)
        dx = empty((len(dy), *self.input_shape), self.dtype)
        if len(dy):
            kernels.average_backward(self._image(dy), dx, self._geometry, self.count_include_pad)
        return dx


class MaxPooling2D(_Maximum, _Window, compiled=True):
    """y[n, i, j, c] = max over the window at (i SH - top, j SW - left) of x[n, :, :, c];  dx: dy goes to the winner.

    x: (N, H, W, C), y: (N, OH, OW, C).  The first of equal pixels wins; a NaN wins over all; padding never wins.

    - ``pool_size``: a whole number >= 1 or (height, width).  ``strides``: the same, None for ``pool_size``.
    - ``padding``: "valid" (OH = (H - PH) // SH + 1); "same" (OH = ceil(H / SH), the odd pixel at bottom and right); or
      how many rows and columns, as for ``ZeroPadding2D``: a whole number >= 0 for all sides (PyTorch's), (height,
      width), or ((top, bottom), (left, right)), with OH = (top + H + bottom - PH) // SH + 1.

    ValueError for arguments out of range, and at ``build`` if the window is larger than the image with its padding, or
    if a window would see padding alone.
    """


class AveragePooling2D(_Average, _Window, compiled=True):
    """y[n, i, j, c] = mean over the window at (i SH - top, j SW - left) of x[n, :, :, c];  dx: each dy in equal parts.

    x: (N, H, W, C), y: (N, OH, OW, C).  With padding the mean is over the real pixels of the window, as in Keras.

    - ``count_include_pad``: with True the sum is divided by the size of the whole window, PH PW, which is PyTorch's
      default: padding counts as 0.
    - The other arguments, and the errors, are those of MaxPooling2D.
    """

    count_include_pad = Fixed(_check.boolean)
    output_function = property(  # of probabilities with zeros between them no mean is one
        lambda self: "changed" if self.count_include_pad else "same"
    )

    def __init__(self, pool_size=2, strides=None, padding="valid", count_include_pad=False, dtype=None):
        super().__init__(pool_size, strides, padding, dtype)
        self.count_include_pad = count_include_pad


class GlobalMaxPooling2D(_Maximum, _Global, compiled=True):
    """y[n, c] = max over all pixels of x[n, :, :, c];  dx: dy goes to the winner.  x: (N, H, W, C), y: (N, C)."""


class GlobalAveragePooling2D(_Average, _Global, compiled=True):
    """y[n, c] = mean over all pixels of x[n, :, :, c];  dx = dy / (H W).  x: (N, H, W, C), y: (N, C).

    Lin, Chen and Yan, "Network In Network", ICLR 2014, section 3.2.
    """
