"""Resizing: images of another size, by the sampler that moves images in ``augment.py``."""

import numpy as np

from minicnn import _check
from minicnn._ext import augment as kernels
from minicnn._ext import reshape
from minicnn.layer import Layer
from minicnn.layers.random import new_lot
from minicnn.layers.reshape import require_elements
from minicnn.recording import empty
from minicnn.settings import Fixed

BESIDE = 2.0**-24  # of a pixel, less than any two places differ by: halves are rounded up whatever sums they are


class Resizing(Layer, compiled=True):
    """Images of another size, in training and in evaluation, with pixels at the centres of their squares:

    ::

        bilinear    y[n, i, j, c]  = sum_{k, l} a[i, k] b[j, l] x[n, k, l, c]
                    dx[n, k, l, c] = sum_{i, j} a[i, k] b[j, l] dy[n, i, j, c]
        nearest     y[n, i, j, c]  = x[n, floor((i + 1/2) H / height), floor((j + 1/2) W / width), c]
                    dx[n, k, l, c] = the sum of dy[n, :, :, c] over the pixels that x[n, k, l, c] went to

        a[i, k] = max(0, 1 - |s - k|) with s = (i + 1/2) H / height - 1/2, but from 0 to H - 1;   b: of columns

    x: (N, H, W, C), y: (N, height, width, C); any numeric x, y is of the layer's dtype.  As Keras does and PyTorch's
    ``interpolate(align_corners=False)`` ("nearest" is its "nearest-exact"), without antialiasing: where images become
    many times smaller, most of their pixels are not looked at.

    - ``height``, ``width``: whole numbers >= 1.
    - ``interpolation``: "bilinear" or "nearest".
    - ``crop_to_aspect_ratio``: True cuts off what is too long, as much on both sides, so that nothing is distorted;
      False stretches.

    Raises ValueError for arguments out of range and for images that are too large; TypeError for arguments of the wrong
    kind.  Source: Keras's layer of that name.
    """

    input_ndim = 3
    output_function = "same"

    height = Fixed(_check.integer, 1, _check.MOST_PIXELS)
    width = Fixed(_check.integer, 1, _check.MOST_PIXELS)
    interpolation = Fixed(_check.choice, ("bilinear", "nearest"))
    crop_to_aspect_ratio = Fixed(_check.boolean)

    def __init__(self, height, width, interpolation="bilinear", crop_to_aspect_ratio=False, dtype=None):
        super().__init__(dtype)
        self.height, self.width = height, width
        self.interpolation, self.crop_to_aspect_ratio = interpolation, crop_to_aspect_ratio
        self._draw, self._places = new_lot().draw, np.zeros(9)  # nothing is drawn; where the pixels of y lie

    def build(self, input_shape, rng):
        h, w, c = super().build(input_shape, rng)
        self._cut = h, w
        if self.crop_to_aspect_ratio:
            self._cut = _within(h, w * self.height / self.width), _within(w, h * self.width / self.height)
        self.output_shape = require_elements("Resizing", (self.height, self.width, c))
        beside = BESIDE if self.interpolation == "nearest" else 0.0
        for axis in range(2):
            step = self._cut[axis] / self.output_shape[axis]
            self._places[2 * axis : 2 * axis + 2] = (step - 1) / 2 + beside, step
        return self.output_shape

    @property
    def _corner(self):
        """Where what is not cut off begins."""
        return tuple((size - cut) // 2 for size, cut in zip(self.input_shape, self._cut, strict=False))

    @property
    def _cuts(self):
        return self._cut != self.input_shape[:2]

    @property
    def _how(self):
        return self._draw, self._places, kernels.RESIZE, kernels.NEAREST, self.interpolation == "bilinear"

    def forward(self, x, training=False):
        x = self.check_input(x)
        if training:
            self.keep(len(x))
        y = empty((len(x), *self.output_shape), self.dtype)
        if len(x):
            if self._cuts:
                whole, x = x, empty((len(x), *self._cut, x.shape[3]), self.dtype)
                reshape.crop(whole, x, *self._corner)
            kernels.move(x, y, *self._how, 0.0)
        return y

    def backward(self, dy):
        dy, _ = self.check_gradient(dy)
        dx = empty((len(dy), *self.input_shape), self.dtype)
        if len(dy):
            part = empty((len(dy), *self._cut, dy.shape[3]), self.dtype) if self._cuts else dx
            kernels.move_backward(dy, part, *self._how)
            if self._cuts:
                reshape.pad(part, dx, *self._corner)
        return dx


def _within(size, wanted):
    return max(1, min(size, int(wanted)))
