"""Normalization: what the data are in themselves, taken out of them once, before anything is learned.

``Moments`` finds mean and variance of data of any length in memory of one size.  Batch normalisation, which has
statistics of its batches and learns a scale, is in ``norm.py``; the kernel that applies them is the same.
"""

import math

import numpy as np

from minicnn import _check
from minicnn._ext import norm as kernels
from minicnn.layer import Layer
from minicnn.layers.norm import axes_of, first_of_last
from minicnn.recording import each_time, empty
from minicnn.settings import Fixed

EPSILON = 1e-7  # Keras's ``backend.epsilon``: the least deviation that is divided by
BLOCK = 2**16  # numbers that are summed up together, at least one sample
_STATE = ("mean", "variance")


class Moments:
    """Mean and variance of samples (N, ..., K) over all axes but the last, in float64, however they come.

    Samples are gathered into blocks, whose size is a function of their shape alone.  With d = x - (its first row), a
    block of n rows has

        mean = x_0 + sum d / n,    M = sum (d - sum d / n)^2

    and two are merged by Chan's formula: with delta = mean_b - mean_a,

        mean = mean_a + delta n_b / (n_a + n_b),    M = M_a + M_b + delta^2 n_a n_b / (n_a + n_b)

    So the bits do not depend on how the samples are cut into pieces, a large mean costs no accuracy, and where all are
    equal the variance is exactly 0.

    Source: Chan, Golub and LeVeque, "Algorithms for computing the sample variance", The American Statistician 37
    (1983), equation 2.1.
    """

    def __init__(self, where, shape, channels):
        self.where, self.shape, self.samples = where, shape, 0
        size = math.prod(shape)
        self._block = np.empty((max(1, BLOCK // size), size // channels, channels))
        self._filled, self._rows = 0, 0  # samples in the block; rows that are merged
        self._mean, self._squares = np.zeros(channels), np.zeros(channels)

    def add(self, x):
        """Takes in an array (n, *shape) of numbers; a memory map is read in parts."""
        start = 0
        while start < len(x):
            taken = min(len(x) - start, len(self._block) - self._filled)
            part = self._block[self._filled : self._filled + taken]
            part[...] = np.reshape(x[start : start + taken], part.shape)
            bad = np.flatnonzero(~np.isfinite(part).all(axis=(1, 2)))
            if bad.size:
                required = "data must be finite numbers"
                got = _check.Shown(f"NaN or infinity in sample {self.samples + int(bad[0])}")
                raise ValueError(_check.message(self.where, required, got))
            start, self._filled, self.samples = start + taken, self._filled + taken, self.samples + taken
            if self._filled == len(self._block):
                self._merge()

    def _merge(self):
        x = self._block[: self._filled].reshape(-1, self._block.shape[-1])
        d = x - x[0]
        shift = d.sum(axis=0) / len(x)
        mean, squares = x[0] + shift, ((d - shift) ** 2).sum(axis=0)
        delta, total = mean - self._mean, self._rows + len(x)
        self._mean = self._mean + delta * (len(x) / total) if self._rows else mean
        self._squares = self._squares + squares + delta * delta * (self._rows * (len(x) / total))
        self._rows, self._filled = total, 0

    def found(self):
        """(mean, variance) of what was taken in, the variance by N; ValueError for no samples, and for an overflow."""
        if self._filled:
            self._merge()
        if not self._rows:
            raise ValueError(_check.message(self.where, "data must have at least one sample", 0))
        variance = self._squares / self._rows
        if not np.isfinite(variance).all():
            required = "data must have a variance that float64 holds"
            raise ValueError(_check.message(self.where, required, _check.Shown("an overflow")))
        return self._mean, variance


def _fixed_values(where, name, value, low=None):
    """A number, or a nested list of them, as tuples."""
    if isinstance(value, np.ndarray | list | tuple) or np.ndim(value):
        array = _check.numeric_array(where, name, value)
        if not array.size:
            raise ValueError(_check.message(where, f"{name} must have at least one number", _check.shape_of(array)))
        for one in array.ravel().tolist():
            _check.number(where, f"every number of {name}", one, low)
        return _as_tuples(array.astype(np.float64).tolist())
    return _check.number(where, name, value, low)


def _as_tuples(value):
    return tuple(_as_tuples(one) for one in value) if isinstance(value, list) else value


class Normalization(Layer, compiled=True):
    """Takes mean and deviation of the training data out of samples, each channel by itself, as ``adapt`` found them:

    ::

        y  = (x - mean) / s,    s = max(sqrt(variance), 1e-7)           with invert:  y  = x s + mean
        dx = dy / s                                                                   dx = dy s

    Training and evaluation are the same, nothing is learned.  x, y: (N, ...), any numeric x, such as bytes.

    - ``axis``: what has a mean and a variance of its own: -1 each channel (the last axis), a list of last axes in order
      each of their places ([1, 2, 3]: each number of an image), None all numbers together.  They are counted with the
      batch's as 0, as in Keras.
    - ``mean``, ``variance``: both or none: numbers, or arrays that broadcast to the axes that are kept.  Then there is
      nothing to adapt.
    - ``invert``: True for the way back.

    State ``mean``, ``variance``, with the shape of the kept axes, and ``count`` (1,), the number of samples that
    ``adapt`` saw, all float64: they are in ``state_dict``, in files and copies, and no optimiser changes them.  A
    channel that is constant has variance 0 and becomes 0, as in Keras; where it is another number later, the difference
    is divided by 1e-7.

    Raises ValueError for arguments out of range and, at ``build``, for axes that are not the last ones and statistics
    of another shape; TypeError for arguments of the wrong kind; RuntimeError at the first use where it is not adapted.

    Source: Keras's layer of that name.
    """

    trains_state = False

    output_function = "changed"

    axis = Fixed(axes_of, optional=True)
    mean = Fixed(_fixed_values, optional=True)
    variance = Fixed(_fixed_values, 0, optional=True)
    invert = Fixed(_check.boolean)

    def __init__(self, axis=-1, mean=None, variance=None, invert=False, dtype=None):
        super().__init__(dtype)
        self.axis, self.mean, self.variance, self.invert = axis, mean, variance, invert
        if (mean is None) != (variance is None):
            required = "needs both mean and variance, or neither"
            raise ValueError(_check.message("Normalization", required, (mean, variance)))
        self._waiting = None  # (shape of a sample, mean, variance, samples) of an adapt before build

    # ---- adapting ----

    def adapt(self, data):
        """Finds mean and variance of the training data, in place of what was found before; before or after ``build``.

        ``data``: an array (N, ...) of numbers, also bytes or a memory map, which is read in parts; what
        ``datasets.image_folder`` gives; or other data that give batches, x or (x, y): a sequence, a loader, a generator
        to its end.  Memory is that of a batch, and the bits do not depend on how the data are cut.

        ValueError for no samples, for NaN and infinities, and for samples of another shape than the layer's;
        RuntimeError for a layer that was given its mean.
        """
        where = "Normalization.adapt"
        if self.mean is not None:
            raise RuntimeError(f"{where}: the layer was given its mean and variance, there is nothing to adapt")
        moments = None
        for x in _pieces(where, data):
            shape = x.shape[1:] if self.input_shape is None else self.input_shape
            if (*x.shape[1:], 1) == shape:  # grey images without an axis of channels, as models take them
                x = x[..., None]
            if x.ndim < 2 or 0 in x.shape[1:]:
                required = "data must have shape (N, ...), with numbers in every sample"
                raise ValueError(_check.message(where, required, _check.shape_of(x)))
            if moments is None:
                kept = self._kept_shape(shape)
                moments = Moments(where, shape, math.prod(kept))
            if x.shape[1:] != moments.shape:
                required = f"every sample must have shape {moments.shape}"
                raise ValueError(_check.message(where, required, _check.Shown(f"{x.shape[1:]}")))
            moments.add(x)
        if moments is None:
            raise ValueError(_check.message(where, "data must have at least one sample", 0))
        mean, variance = moments.found()
        self._waiting = moments.shape, mean.reshape(kept), variance.reshape(kept), moments.samples
        if self.input_shape is not None:
            self._take_in()

    def _take_in(self):
        _, mean, variance, samples = self._waiting
        self._waiting = None
        for name, value in zip(_STATE, (mean, variance), strict=True):
            self.state[name][...] = value
        self.state["count"][...] = samples
        self._settle()
        self.forget()  # backward would divide by another deviation than forward

    def _kept_shape(self, shape):
        """The part of a sample's shape that has statistics of its own."""
        return () if self.axis is None else shape[first_of_last("Normalization", self.axis, shape) :]

    # ---- the contract ----

    def build(self, input_shape, rng):
        input_shape = super().build(input_shape, rng)
        kept = self._kept_shape(input_shape)
        if self._waiting is not None and self._waiting[0] != input_shape:
            required = f"the layer is adapted to samples of shape {self._waiting[0]}"
            fix = "adapt(x[..., None]) is for grey images" if (*self._waiting[0], 1) == input_shape else ""
            raise ValueError(_check.message("Normalization", required, input_shape, fix))
        for name in _STATE:
            given = getattr(self, name)
            self.state[name] = np.zeros(kept) if given is None else _broadcast(name, given, kept)
        self.state["count"] = np.zeros(1)  # an array, so that files of weights have it, too
        size, self._settled = math.prod(kept), None
        self._center, self._shift = np.zeros(size, self.dtype), np.zeros(size, self.dtype)
        self._factor, self._ones, self._zeros = (
            np.array(make(size), self.dtype) for make in (np.ones, np.ones, np.zeros)
        )
        if self._waiting is not None:
            self._take_in()
        elif self.mean is not None:
            self._settle()
        return input_shape

    def _settle(self):
        """Makes what the kernel reads of the state, whoever has written into it."""
        if self.mean is None and not self.state["count"][0]:
            fix = "call adapt(training data) of the layer before, or give it mean and variance"
            raise RuntimeError(f"Normalization: is not adapted; {fix}")
        now = self.state["mean"].tobytes(), self.state["variance"].tobytes()
        if now == self._settled:  # in nearly every step
            return
        self._settled = now
        mean = self.state["mean"].reshape(-1)
        deviation = np.maximum(np.sqrt(self.state["variance"].reshape(-1)), EPSILON)
        if self.invert:
            self._factor[...], self._shift[...] = deviation, mean
        else:
            self._factor[...], self._center[...] = 1 / deviation, mean

    def forward(self, x, training=False):
        x = self.check_input(x)
        each_time(self._settle)
        if training:
            self.keep(len(x))
        return self._applied(x, self._center, self._shift)

    def backward(self, dy):
        dy, _ = self.check_gradient(dy)
        return self._applied(dy, self._zeros, self._zeros)

    def _applied(self, x, center, shift):
        """(x - center) factor + shift."""
        y = empty(x.shape, x.dtype)
        if x.size:
            kernels.forward(self._rows(x), self._factor, shift, 0.0, center, self._ones, self._rows(y))
        return y

    def _rows(self, x):
        size = len(self._ones)
        return x.reshape(len(x), math.prod(x.shape[1:]) // size, size)


def _broadcast(name, given, kept):
    values = np.array(given, np.float64)
    while values.ndim > len(kept) and values.shape[0] == 1:  # with axes for those that are not kept
        values = values[0]
    try:
        return np.array(np.broadcast_to(values, kept))
    except ValueError:
        required = f"{name} must broadcast to the shape {kept} of the axes that are kept"
        raise ValueError(_check.message("Normalization", required, _check.shape_of(np.array(given)))) from None


def _pieces(where, data):
    """The arrays of samples that data give, one after the other."""
    from minicnn import stream  # here: few programs need it

    if isinstance(getattr(data, "x", None), np.ndarray):  # datasets.Pictures
        data = data.x
    if not stream.gives_batches(data, lists=False):
        yield _samples(where, data)
        return
    batches = stream.Stream(stream.source_of(where, data), lambda epoch, number: f"batch {number}", inputs=True)
    with batches:
        for batch in batches.epoch():
            yield _samples(where, batch.x)


def _samples(where, x):
    x = _check.numeric_array(where, "data", x)
    if not x.ndim:
        raise ValueError(_check.message(where, "data must have a batch axis", _check.shape_of(x)))
    return x
