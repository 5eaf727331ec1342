"""Layers that arrange or rescale numbers and learn nothing."""

import math

from minicnn import _check
from minicnn._ext import reshape as kernels
from minicnn.layer import Layer
from minicnn.recording import empty
from minicnn.settings import Fixed, Setting

MOST_ENLARGED = 2**31  # elements of one image


def require_elements(where, shape):
    """The shape of an enlarged image; ValueError for one that is too large."""
    if math.prod(shape) >= MOST_ENLARGED:
        required = f"an image of the output must have fewer than {MOST_ENLARGED:,} elements"
        raise ValueError(_check.message(where, required, shape))
    return shape


def _target_shape(where, name, shape):
    if not isinstance(shape, list | tuple):
        raise TypeError(_check.message(where, f"{name} must be a tuple of whole numbers", _check.kind(shape)))
    required = f"every axis of {name}, or -1 for the rest,"
    axes = tuple(_check.integer(where, required, axis, -1 if axis == -1 else 1) for axis in shape)
    if axes.count(-1) > 1:
        raise ValueError(_check.message(where, f"{name} must have at most one -1", shape))
    return axes


class Reshape(Layer, compiled=True):
    """y = x with each sample in another shape (C order);  dx = dy in the old one.

    x: (N, ...), y: (N, *target_shape).  ``target_shape``: a tuple of whole numbers >= 1 without the batch axis, one of
    which may be -1: what is left.  ValueError at ``build`` if the number of elements does not fit.
    """

    output_function = "same"

    target_shape = Fixed(_target_shape)

    def __init__(self, target_shape, dtype=None):
        super().__init__(dtype)
        self.target_shape = target_shape

    def build(self, input_shape, rng):
        input_shape = super().build(input_shape, rng)
        size, known = math.prod(input_shape), math.prod(axis for axis in self.target_shape if axis != -1)
        shape = tuple(size // known if axis == -1 else axis for axis in self.target_shape)
        if math.prod(shape) != size:
            required = f"target_shape must hold the {size} elements of a sample of shape {input_shape}"
            raise ValueError(_check.message("Reshape", required, self.target_shape))
        self.output_shape = shape
        return shape

    def forward(self, x, training=False):
        x = self.check_input(x)
        if training:
            self.keep(len(x))
        return self.own(x.reshape(len(x), *self.output_shape))

    def backward(self, dy):
        dy, _ = self.check_gradient(dy)
        return self.own(dy.reshape(len(dy), *self.input_shape))


class Flatten(Reshape, compiled=True):
    """y = x with each sample as one row;  dx = dy in the old shape.  x: (N, ...), y: (N, D)."""

    def __init__(self, dtype=None):
        super().__init__((-1,), dtype)


class _Bordered(Layer):
    """An image and one with a border around it, whose sides are ``_sides``: ((top, bottom), (left, right))."""

    input_ndim = 3

    def _pad(self, x, shape):
        (top, _), (left, _) = self._sides
        y = empty((len(x), *shape), self.dtype)
        if len(x):
            kernels.pad(x, y, top, left)
        return y

    def _crop(self, x, shape):
        (top, _), (left, _) = self._sides
        y = empty((len(x), *shape), self.dtype)
        if len(x):
            kernels.crop(x, y, top, left)
        return y


class ZeroPadding2D(_Bordered, compiled=True):
    """y = x with rows and columns of zeros around each image;  dx = the inside of dy.

    x: (N, H, W, C), y: (N, top + H + bottom, left + W + right, C).  ``padding``: a whole number >= 0 for all sides,
    (height, width) for both sides of each axis, or ((top, bottom), (left, right)).
    """

    output_function = "changed"

    padding = Fixed(_check.borders)

    def __init__(self, padding=1, dtype=None):
        super().__init__(dtype)
        self.padding = padding

    @property
    def _sides(self):
        return self.padding

    def build(self, input_shape, rng):
        h, w, c = super().build(input_shape, rng)
        self.output_shape = h + sum(self.padding[0]), w + sum(self.padding[1]), c
        return self.output_shape

    def forward(self, x, training=False):
        x = self.check_input(x)
        if training:
            self.keep(len(x))
        return self._pad(x, self.output_shape)

    def backward(self, dy):
        dy, _ = self.check_gradient(dy)
        return self._crop(dy, self.input_shape)


class Cropping2D(_Bordered, compiled=True):
    """y = the inside of each image;  dx = dy with rows and columns of zeros around it.

    x: (N, H, W, C), y: (N, H - top - bottom, W - left - right, C).  ``cropping``: how many rows and columns are cut
    off, a whole number >= 0 for all sides, (height, width) for both sides of each axis, or ((top, bottom), (left,
    right)).  ValueError at ``build`` if nothing would be left.
    """

    output_function = "same"

    cropping = Fixed(_check.borders)

    def __init__(self, cropping=((0, 0), (0, 0)), dtype=None):
        super().__init__(dtype)
        self.cropping = cropping

    @property
    def _sides(self):
        return self.cropping

    def build(self, input_shape, rng):
        h, w, c = super().build(input_shape, rng)
        shape = h - sum(self.cropping[0]), w - sum(self.cropping[1]), c
        if min(shape) < 1:
            required = f"cropping {self.cropping} must leave a pixel of the image"
            raise ValueError(_check.message("Cropping2D", required, (h, w, c), "Cut off less"))
        self.output_shape = shape
        return shape

    def forward(self, x, training=False):
        x = self.check_input(x)
        if training:
            self.keep(len(x))
        return self._crop(x, self.output_shape)

    def backward(self, dy):
        dy, _ = self.check_gradient(dy)
        return self._pad(dy, self.input_shape)


class Rescaling(Layer, compiled=True):
    """y = scale * x + offset;  dx = scale * dy.  x, y: (N, ...); any numeric x, such as uint8 images.

    ``Rescaling(1 / 255)`` takes bytes to [0, 1], ``Rescaling(1 / 127.5, -1)`` to [-1, 1].  Both arguments are finite.
    """

    output_function = "changed"

    scale = Setting(_check.number, forgets=True)
    offset = Setting(_check.number)

    def __init__(self, scale, offset=0, dtype=None):
        super().__init__(dtype)
        self.scale = scale
        self.offset = offset

    def forward(self, x, training=False):
        x = self.check_input(x)
        if training:
            self.keep(len(x))
        return self._rescale(x, self.offset)

    def backward(self, dy):
        dy, _ = self.check_gradient(dy)
        return self._rescale(dy, 0.0)

    def _rescale(self, x, offset):
        y = empty(x.shape, x.dtype)
        if x.size:
            kernels.rescale(x.reshape(len(x), -1), self.scale, offset, y.reshape(len(x), -1))
        return y


class UpSampling2D(Layer, compiled=True):
    """Every image larger by whole factors, its pixels repeated or interpolated between.

    ::

        nearest    y[n, i, j, c] = x[n, i // SH, j // SW, c]
                   dx[n, i, j, c] = the sum of dy[n, :, :, c] over the SH x SW copies of a pixel
        bilinear   y[n, i, j, c] = sum_{k, l} a[i, k] b[j, l] x[n, k, l, c]
                   dx[n, k, l, c] = sum_{i, j} a[i, k] b[j, l] dy[n, i, j, c]

        a[i, k] = max(0, 1 - |s - k|) with s = (i + 1/2) / SH - 1/2, but at least 0 and at most H - 1;   b: of columns

    x: (N, H, W, C), y: (N, H SH, W SW, C).  So pixels lie at the centres of their squares, and beyond the outermost
    centres the outermost values stay, as in Keras and in PyTorch's ``interpolate(align_corners=False)``.  What has the
    weight 0 is not looked at.

    - ``size``: a whole number >= 1 for both factors, or (SH, SW).
    - ``interpolation``: "nearest" or "bilinear".

    Raises ValueError for arguments out of range; TypeError for arguments of the wrong kind.
    """

    input_ndim = 3
    output_function = "same"

    size = Fixed(_check.pair)
    interpolation = Fixed(_check.choice, ("nearest", "bilinear"))

    def __init__(self, size=(2, 2), interpolation="nearest", dtype=None):
        super().__init__(dtype)
        self.size = size
        self.interpolation = interpolation

    def build(self, input_shape, rng):
        h, w, c = super().build(input_shape, rng)
        self.output_shape = require_elements("UpSampling2D", (h * self.size[0], w * self.size[1], c))
        return self.output_shape

    def forward(self, x, training=False):
        x = self.check_input(x)
        y = empty((len(x), *self.output_shape), self.dtype)
        if len(x):
            kernels.upsample(x, y, self.size, self.interpolation == "bilinear")
        if training:
            self.keep(len(x))
        return y

    def backward(self, dy):
        dy, _ = self.check_gradient(dy)
        dx = empty((len(dy), *self.input_shape), self.dtype)
        if len(dy):
            kernels.upsample_backward(dy, dx, self.size, self.interpolation == "bilinear")
        return dx


def _permutation(where, name, dims):
    """A list or tuple of the numbers 1 to as many as it has, as a tuple."""
    dims = _check.each(where, name, dims, f"every axis of {name}", _check.integer, 1)
    if not dims or sorted(dims) != list(range(1, len(dims) + 1)):
        required = f"{name} must name every axis of a sample once, from 1 on"
        raise ValueError(_check.message(where, required, dims, "The first axis of a sample is 1, the batch is 0"))
    return dims


class Permute(Layer, compiled=True):
    """y = x with the axes of each sample in another order;  dx = dy with its axes in the old one.

    Axis k of y, from 1 on, is axis ``dims[k - 1]`` of x; axis 0 is the batch and stays.  x: (N, ...), y: (N, ...).
    ``Permute((2, 1))`` transposes; ``Permute((3, 1, 2))`` makes (N, C, H, W) of (N, H, W, C).

    ``dims``: a tuple with each of the numbers from 1 to the axes of a sample.  ValueError if it is none, and at
    ``build`` if a sample has not as many axes; TypeError for what are no whole numbers.
    """

    output_function = "same"

    dims = Fixed(_permutation)

    def __init__(self, dims, dtype=None):
        super().__init__(dtype)
        self.dims = dims

    def build(self, input_shape, rng):
        input_shape = super().build(input_shape, rng)
        if len(input_shape) != len(self.dims):
            required = f"one sample must have {len(self.dims)} axes for dims = {self.dims}"
            raise ValueError(_check.message("Permute", required, input_shape))
        self._order = tuple(axis - 1 for axis in self.dims)
        self._order_back = tuple(sorted(range(len(self.dims)), key=self._order.__getitem__))
        self.output_shape = tuple(input_shape[axis] for axis in self._order)
        return self.output_shape

    def forward(self, x, training=False):
        x = self.check_input(x)
        if training:
            self.keep(len(x))
        return self._permute(x, self.output_shape, self._order)

    def backward(self, dy):
        dy, _ = self.check_gradient(dy)
        return self._permute(dy, self.input_shape, self._order_back)

    def _permute(self, x, shape, order):
        y = empty((len(x), *shape), self.dtype)
        if len(x):
            kernels.permute(x.reshape(len(x), -1), y.reshape(len(x), -1), x.shape[1:], order)
        return y
