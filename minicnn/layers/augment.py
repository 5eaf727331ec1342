"""Augmentation: every training step sees other images than the last one, made of the same data.

In evaluation these layers vanish.  Read next: ``random.py`` (the step, and what the numbers of an image are a function
of), the kernel ``_ext/augment.pyx``.  docs/augmentation.md has a picture of each, and what Keras and torchvision do.
"""

import math
import warnings

import numpy as np

from minicnn import _check
from minicnn._ext import augment as kernels
from minicnn._ext import reshape
from minicnn._ext.machinery import plan
from minicnn.layer import Layer
from minicnn.layers.random import Random
from minicnn.recording import each_time, empty
from minicnn.settings import Fixed, Setting

FILL_MODES = {
    "reflect": kernels.REFLECT,
    "wrap": kernels.WRAP,
    "constant": kernels.CONSTANT,
    "nearest": kernels.NEAREST,
}
NARROW = 1 / 50  # of value_range: an image that takes less of it was hardly meant
OUTSIDE = 1 / 100


class Augmentation(Random):
    """Random numbers of whole images: a base beside ``Layer`` for layers that augment.

    A layer calls ``_set_up_augmentation`` in its constructor, implements ``_numbers()``, what the kernels call
    ``ranges``, and ``_augment(x, lot)`` and ``_augment_backward(dy, *kept)``.

    A training forward draws for every image of the batch, as ``Random`` says.  In evaluation, and in the samples of
    ``predict_mc``, nothing is drawn.  ``predict_tta`` draws by ``augmented(x, lot)``, with a lot that ``settle_sample``
    has set.
    """

    sampled = False

    def _set_up_augmentation(self, seed):
        self._ranges = np.zeros(9)
        self._set_up_random(seed)

    def _numbers(self):
        raise NotImplementedError(f"{type(self).__name__} has no _numbers()")

    def _settle_ranges(self):
        numbers = self._numbers()
        self._ranges[: len(numbers)] = numbers

    def _begin_step(self, shape):
        super()._begin_step(shape)
        self._settle_ranges()

    def forward(self, x, training=False):
        x = self.check_input(x)
        if not training:
            return self._evaluate(x)
        each_time(self._begin_step, x.shape)
        self.keep(len(x), *self._kept_of(x))
        return self._augment(x, self._lot) if len(x) else empty((0, *self.output_shape), self.dtype)

    def backward(self, dy):
        dy, kept = self.check_gradient(dy)
        return self._augment_backward(dy, *kept) if len(dy) else empty((0, *self.input_shape), self.dtype)

    def augmented(self, x, lot):
        """What a training forward makes of x (N, H, W, C), with the numbers that ``lot`` says (``settle_sample``).

        Keeps nothing and changes nothing, as ``sample`` of a layer with noise.
        """
        x = self.check_input(x)
        each_time(self._settle_ranges)
        return self._augment(x, lot) if len(x) else empty((0, *self.output_shape), self.dtype)

    def finish_samples(self):
        """Warns of what the kernels have seen; ``predict_tta`` calls it where all looks at a batch are made."""

    def _evaluate(self, x):
        return self.own(x)

    def _kept_of(self, x):
        """What backward needs of x."""
        return ()


# ---- motions ----


def _within_one(where, name, value):
    """A number in [-1, 1], or a pair of them in any order."""
    return _bounds(where, name, value, -1, 1)


def _bounds(where, name, value, low=None, high=None):
    """A number, or a pair of them as a tuple."""
    if isinstance(value, list | tuple):
        if len(value) != 2:
            required = f"{name} must be a number or a pair of them"
            raise ValueError(_check.message(where, required, value))
        return tuple(_check.number(where, f"a bound of {name}", bound, low, high) for bound in value)
    return _check.number(where, name, value, low, high)


def _range_of(bounds):
    """(lower, upper): -f and f of a number."""
    return sorted(bounds) if isinstance(bounds, tuple) else (-abs(bounds), abs(bounds))


class _Motion(Augmentation, Layer):
    """What moves images: ``_motion`` is the kernel's name for it."""

    input_ndim = 3
    output_function = "same"
    _motion: int
    _filling = kernels.CONSTANT, False, 0.0  # what lies outside, whether to interpolate, the constant

    def _augment(self, x, lot):
        y = empty((len(x), *self.output_shape), self.dtype)
        kernels.move(x, y, lot.draw, self._ranges, self._motion, *self._filling)
        return y

    def _augment_backward(self, dy):
        dx = empty((len(dy), *self.input_shape), self.dtype)
        kernels.move_backward(dy, dx, self._draw, self._ranges, self._motion, *self._filling[:2])
        return dx

    @property
    def last_maps(self):
        """The maps of the latest training forward: float64, (N, 2, 3).

        Pixel (i, j) of image n of y is what x has at (row, column) = last_maps[n] @ (i, j, 1).  Made again from their
        counters at every call.  RuntimeError before the first training forward.
        """
        n = self._require_latest("last_maps")[0]
        found = np.empty((n, 6))
        kernels.maps(found, self._draw, self._ranges, self._motion, self.input_shape[:2], self.output_shape[:2])
        return found.reshape(n, 2, 3)[:, :, [1, 2, 0]]


MODES = ("horizontal_and_vertical", "horizontal", "vertical")


class RandomFlip(_Motion, compiled=True):
    """Mirrors images in training, each with probability 1/2, and lets all pass in evaluation.

    ::

        training, forward:    y[n, i, j, c] = x[n, i', j', c]    dx = dy, mirrored back
        evaluation:           y = x

        j' = W - 1 - j where image n is mirrored from left to right, i' = H - 1 - i where from top to bottom

    x, y: (N, H, W, C).

    - ``mode``: "horizontal" (from left to right), "vertical" (from top to bottom) or "horizontal_and_vertical" (each by
      itself: a quarter of the images stay, a quarter are turned upside down).
    - ``seed``: None takes the model's.  What happens to an image is a function of (seed, number of the layer in the
      model, number of training forwards so far, index in the batch) and of nothing else.

    Source: Keras's layer of that name, which mirrors along both axes or along none (docs/augmentation.md).
    """

    _motion = kernels.FLIP

    mode = Setting(_check.choice, MODES, forgets=True)

    def __init__(self, mode="horizontal_and_vertical", seed=None, dtype=None):
        super().__init__(dtype)
        self.mode = mode
        self._set_up_augmentation(seed)

    def _numbers(self):
        return "horizontal" in self.mode, "vertical" in self.mode


class _Filled(_Motion):
    """Motions that look beyond the edges of an image, and between its pixels."""

    fill_mode = Setting(_check.choice, tuple(FILL_MODES), forgets=True)
    interpolation = Setting(_check.choice, ("bilinear", "nearest"), forgets=True)
    fill_value = Setting(_check.number)

    def _set_up_filled(self, fill_mode, interpolation, seed, fill_value):
        self.fill_mode, self.interpolation, self.fill_value = fill_mode, interpolation, fill_value
        self._set_up_augmentation(seed)

    @property
    def _filling(self):
        return FILL_MODES[self.fill_mode], self.interpolation == "bilinear", self.fill_value


class RandomTranslation(_Filled, compiled=True):
    """Moves images down or up, right or left, by a random part of their size in training; in evaluation all pass.

    ::

        training, forward:    y[n, i, j, c]  = x[n, i - down[n] H, j - right[n] W, c]
        training, backward:   dx[n, k, l, c] = the sum of dy[n, i, j, c], each times the share that x[n, k, l, c] had
        evaluation:           y = x

    x, y: (N, H, W, C).

    - ``height_factor``, ``width_factor``: ``down`` and ``right`` are drawn between -f and f of a number f, or between
      the two numbers of a pair, all in [-1, 1], as parts of height and width; negative ones move up and left.
    - ``fill_mode``: what lies outside of x.  "reflect" mirrors with the edge doubled (c b a | a b c | c b a), "wrap"
      begins again (a b c | a b c), "nearest" repeats the edge (a a | a b c), "constant" is ``fill_value``.
    - ``interpolation``: between pixels "bilinear" or "nearest".  Places within 2^-24 of a pixel are the pixel.
    - ``seed``: as of RandomFlip.
    - ``fill_value``: a number, for "constant".

    Raises ValueError for arguments out of range; TypeError for arguments of the wrong kind.  Source: Keras's layer of
    that name (docs/augmentation.md).
    """

    _motion = kernels.TRANSLATION

    height_factor = Setting(_within_one, forgets=True)
    width_factor = Setting(_within_one, forgets=True)

    def __init__(self, height_factor, width_factor, fill_mode="reflect", interpolation="bilinear", seed=None,
                 fill_value=0.0, dtype=None):  # fmt: skip
        super().__init__(dtype)
        self.height_factor, self.width_factor = height_factor, width_factor
        self._set_up_filled(fill_mode, interpolation, seed, fill_value)

    def _numbers(self):
        return *_range_of(self.height_factor), *_range_of(self.width_factor)


class RandomRotation(_Filled, compiled=True):
    """Turns images about their centres by a random angle in training; in evaluation all pass.

    ::

        training, forward:    y[n, i, j, c]  = x[n, a i + b j + ..., -b i + a j + ..., c]
        training, backward:   dx[n, k, l, c] = the sum of dy[n, i, j, c], each times the share that x[n, k, l, c] had
        evaluation:           y = x                     a, b = cos, sin(2 pi turn[n])

    x, y: (N, H, W, C); the centre of an image, ((H - 1) / 2, (W - 1) / 2), stays where it is.

    - ``factor``: ``turn`` is drawn between -f and f of a number f, or between the two numbers of a pair, all in [-1,
      1], in fractions of a full turn: 0.1 is 36 degrees.  Positive is against the clock.
    - ``fill_mode``, ``interpolation``, ``seed``, ``fill_value``: as of RandomTranslation, whose errors it has.

    Source: Keras's layer of that name (docs/augmentation.md).
    """

    _motion = kernels.ROTATION

    factor = Setting(_within_one, forgets=True)

    def __init__(self, factor, fill_mode="reflect", interpolation="bilinear", seed=None, fill_value=0.0, dtype=None):
        super().__init__(dtype)
        self.factor = factor
        self._set_up_filled(fill_mode, interpolation, seed, fill_value)

    def _numbers(self):
        return _range_of(self.factor)


class RandomZoom(_Filled, compiled=True):
    """Shows a smaller or a larger part of images in training; in evaluation all pass.

    ::

        training, forward:    y[n, i, j, c] = x[n, (1 + zh[n]) i + ..., (1 + zw[n]) j + ..., c]
        training, backward:   dx[n, k, l, c] = the sum of dy[n, i, j, c], each times the share that x[n, k, l, c] had
        evaluation:           y = x

    x, y: (N, H, W, C); the centre of an image, ((H - 1) / 2, (W - 1) / 2), stays where it is.

    - ``height_factor``: ``zh`` is drawn between -f and f of a number f, or between the two numbers of a pair, all in
      [-1, 1].  Positive is out: with 0.5 half as much again is seen, and what is on it is smaller.
    - ``width_factor``: of ``zw``; None: zw = zh, so that nothing is distorted.
    - ``fill_mode``, ``interpolation``, ``seed``, ``fill_value``: as of RandomTranslation, whose errors it has.

    Source: Keras's layer of that name (docs/augmentation.md).
    """

    _motion = kernels.ZOOM

    height_factor = Setting(_within_one, forgets=True)
    width_factor = Setting(_within_one, optional=True, forgets=True)

    def __init__(self, height_factor, width_factor=None, fill_mode="reflect", interpolation="bilinear", seed=None,
                 fill_value=0.0, dtype=None):  # fmt: skip
        super().__init__(dtype)
        self.height_factor, self.width_factor = height_factor, width_factor
        self._set_up_filled(fill_mode, interpolation, seed, fill_value)

    def _numbers(self):
        same = self.width_factor is None
        width = _range_of(self.height_factor if same else self.width_factor)
        return *_range_of(self.height_factor), *width, same


class RandomCrop(_Motion, compiled=True):
    """Cuts a part of a given size out of images, in training at a random place, in evaluation in the middle.

    ::

        forward:    y[n, i, j, c] = x[n, top[n] + i, left[n] + j, c]    dx = dy with zeros around it
        training:   top = 0 ... H - height, left = 0 ... W - width, all equally likely, another for every image
        evaluation: top = (H - height) // 2, left = (W - width) // 2

    x: (N, H, W, C), y: (N, height, width, C).  ``ZeroPadding2D(4)`` before ``RandomCrop(32, 32)`` makes the usual
    augmentation of images of 32x32.

    - ``height``, ``width``: whole numbers >= 1.
    - ``seed``: as of RandomFlip.

    Raises ValueError at ``build`` for images that are smaller.  Source: Keras's layer of that name, which cuts all
    images of a batch at one place (docs/augmentation.md).
    """

    _motion = kernels.CROP

    height = Fixed(_check.integer, 1, _check.MOST_PIXELS)
    width = Fixed(_check.integer, 1, _check.MOST_PIXELS)

    def __init__(self, height, width, seed=None, dtype=None):
        super().__init__(dtype)
        self.height, self.width = height, width
        self._set_up_augmentation(seed)

    def build(self, input_shape, rng):
        h, w, c = super().build(input_shape, rng)
        if h < self.height or w < self.width:
            required = f"images must have at least {self.height} x {self.width} pixels"
            fix = "Put layers.ZeroPadding2D before it, or cut less"
            raise ValueError(_check.message("RandomCrop", required, (h, w, c), fix))
        self.output_shape = self.height, self.width, c
        return self.output_shape

    def _numbers(self):
        return ()

    def _evaluate(self, x):
        y = empty((len(x), *self.output_shape), self.dtype)
        if len(x):
            h, w, _ = self.input_shape
            reshape.crop(x, y, (h - self.height) // 2, (w - self.width) // 2)
        return y


# ---- colours ----


def _value_range(where, name, value):
    required = f"{name} must be two numbers, the lower one first, or None"
    if not isinstance(value, list | tuple):
        raise TypeError(_check.message(where, required, _check.kind(value)))
    if len(value) != 2:
        raise ValueError(_check.message(where, required, value))
    low, high = (_check.number(where, f"a number of {name}", bound) for bound in value)
    if not low < high:
        raise ValueError(_check.message(where, required, value))
    return low, high


class _Agreeing(Setting):
    """A setting that must agree with others: where it does not, all stays as it was."""

    def __set__(self, layer, value):
        before = vars(layer).get(self.name)
        super().__set__(layer, value)
        try:
            layer.check_agreement()
        except ValueError:
            vars(layer)[self.name] = before
            raise


class _Ranged(Augmentation, Layer):
    """Layers that know the range of the data, and say so once if it cannot be that of x."""

    input_ndim = 3
    output_function = "same"

    value_range = _Agreeing(_value_range, optional=True, forgets=True)

    def _set_up_ranged(self, value_range, seed):
        self.value_range = value_range
        self._seen = np.array([1.0, 0.0, 0.0])  # see `colour` of the kernels
        self._judged = False
        self._set_up_augmentation(seed)

    def check_agreement(self):
        """ValueError where settings do not agree with each other."""

    @property
    def _needs_range(self):
        return self.value_range is not None

    @property
    def _limits(self):
        """The least and the largest number of an image."""
        return (-math.inf, math.inf) if self.value_range is None else self.value_range

    def _settle_ranges(self):
        self._judge()
        super()._settle_ranges()

    def _augment(self, x, lot):
        y = empty(x.shape, self.dtype)
        self._change(x, y, lot)
        if not plan.is_recording():
            self._judge()
        return y

    def finish_samples(self):
        self._judge()

    def _judge(self):
        """Warns once where the first image that was seen is far from value_range; in a plan, one step later."""
        unseen, low, high = self._seen
        if self._judged or unseen or not self._needs_range:
            return
        least, most = self.value_range
        size = most - least
        narrow = 0 < high - low < NARROW * size
        if not narrow and least - OUTSIDE * size <= low and high <= most + OUTSIDE * size:
            self._judged = low < high  # nothing can be known of an image of one colour
            self._seen[0] = not self._judged
            return
        self._judged = True
        warnings.warn(
            f"{type(self).__name__}: value_range is {self.value_range}, but the first image has numbers from {low:.3g} "
            f"to {high:.3g}. Say the range of the data, such as value_range=(0, 1), or None for no range",
            stacklevel=2,
        )


class _Coloured(_Ranged):
    _colour: int

    def _change(self, x, y, lot):
        kernels.colour(x, y, lot.draw, self._ranges, self._seen, self._colour)

    def _kept_of(self, x):
        return (None if self.value_range is None else self.own(x),)

    def _augment_backward(self, dy, x):
        dx = empty(dy.shape, self.dtype)
        kernels.colour_backward(dy if x is None else x, dy, dx, self._draw, self._ranges, self._colour)
        return dx

    @property
    def last_factors(self):
        """The factors of the latest training forward: float64, (N,).

        Made again from their counters at every call.  RuntimeError before the first training forward.
        """
        found = np.empty(self._require_latest("last_factors")[0])
        kernels.factors(found, self._draw, self._ranges)
        return found


def _contrast(where, name, value):
    """A number in [0, 1], or a pair: how far below 1 and how far above."""
    if not isinstance(value, list | tuple):
        return _check.number(where, name, value, 0, 1)
    below, above = _bounds(where, name, value, 0)
    return _check.number(where, f"the first number of {name}", below, 0, 1), above


class RandomContrast(_Coloured, compiled=True):
    """Changes the contrast of images in training, and lets all pass in evaluation.

    ::

        training, forward:    y = clip((x - mean) f + mean)             f[n]: the factor of an image
        training, backward:   dx = f g + (1 - f) mean(g)                mean[n, c]: of a channel of an image
        evaluation:           y = x                                     g = dy where nothing was clipped, otherwise 0

    x, y: (N, H, W, C).

    - ``factor``: f is drawn between 1 - factor and 1 + factor of a number in [0, 1], or between 1 - lower and 1 + upper
      of a pair (lower, upper).
    - ``value_range``: (low, high), the range of the data, to which ``clip`` cuts.  Keras's default is that of bytes.
      None: nothing is cut off.  Where the first image that is seen lies outside of it, or within a fiftieth of it, a
      warning says so once.
    - ``seed``: as of RandomFlip.

    Raises ValueError for arguments out of range; TypeError for arguments of the wrong kind.  Source: Keras's layer of
    that name (docs/augmentation.md).
    """

    _colour = kernels.CONTRAST

    factor = Setting(_contrast, forgets=True)

    def __init__(self, factor, value_range=(0, 255), seed=None, dtype=None):
        super().__init__(dtype)
        self.factor = factor
        self._set_up_ranged(value_range, seed)

    def _numbers(self):
        below, above = self.factor if isinstance(self.factor, tuple) else (self.factor, self.factor)
        return 1 - below, 1 + above, *self._limits


class RandomBrightness(_Coloured, compiled=True):
    """Makes images brighter or darker in training, and lets all pass in evaluation.

    ::

        training, forward:    y  = clip(x + f (high - low))             f[n]: the factor of an image
        training, backward:   dx = dy where nothing was clipped, otherwise 0
        evaluation:           y  = x

    x, y: (N, H, W, C).

    - ``factor``: f is drawn between -factor and factor of a number, or between the two numbers of a pair, all in [-1,
      1]: at -1 all is black, at 1 all is white.
    - ``value_range``: (low, high), the range of the data, to which ``clip`` cuts; a warning says once that it cannot be
      it, as of RandomContrast.  None: nothing is cut off, and y = x + f.
    - ``seed``: as of RandomFlip.

    Raises ValueError for arguments out of range; TypeError for arguments of the wrong kind.  Source: Keras's layer of
    that name (docs/augmentation.md).
    """

    _colour = kernels.BRIGHTNESS

    factor = Setting(_within_one, forgets=True)

    def __init__(self, factor, value_range=(0, 255), seed=None, dtype=None):
        super().__init__(dtype)
        self.factor = factor
        self._set_up_ranged(value_range, seed)

    def _numbers(self):
        low, high = self._limits
        return *_range_of(self.factor), low, high, 1.0 if self.value_range is None else high - low


# ---- erased rectangles ----


def _ordered_pair(where, name, value, low, high=None, open_low=False):
    required = f"{name} must be two numbers, the lower one first"
    if not isinstance(value, list | tuple):
        raise TypeError(_check.message(where, required, _check.kind(value)))
    if len(value) != 2:
        raise ValueError(_check.message(where, required, value))
    pair = tuple(_check.number(where, f"a number of {name}", bound, low, high, open_low) for bound in value)
    if pair[0] > pair[1]:
        raise ValueError(_check.message(where, required, value))
    return pair


def _fill_value(where, name, value):
    """A number, or one for every channel as a tuple."""
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError(_check.message(where, f"{name} must have a number for every channel", value))
        return tuple(_check.number(where, f"a number of {name}", one) for one in value)
    return _check.number(where, name, value)


class RandomErasing(_Ranged, compiled=True):
    """Erases a random rectangle of images in training, and lets all pass in evaluation.

    ::

        training, forward:    y  = x, but in the rectangle of image n, if it has one, what ``fill_value`` says
        training, backward:   dx = dy, but in the rectangle 0
        evaluation:           y  = x

        its area is s H W and its height r times its width, rounded to pixels; s and log r are drawn evenly

    x, y: (N, H, W, C).  A rectangle that would be longer than the image is as long as it, and wider instead.

    - ``factor``: the probability that an image has a rectangle, torchvision's p; of a pair (lower, upper) one between
      them is drawn for every image.
    - ``scale``: the bounds of s, in [0, 1].  A rectangle has at least one pixel.
    - ``fill_value``: a number, or one for every channel.  None: clip(high z), z ~ N(0, 1) separately for every element.
    - ``value_range``: (low, high), the range of the data, to which ``clip`` cuts; a warning says once that it cannot be
      it, as of RandomContrast.  None: nothing is cut off, and noise is z.
    - ``seed``: as of RandomFlip.
    - ``ratio``: the bounds of r, > 0; torchvision's word and default.

    Raises ValueError for arguments out of range, and for a fill_value outside of value_range; TypeError for arguments
    of the wrong kind.  Source: Zhong et al., "Random Erasing Data Augmentation", AAAI 2020; the layer of that name of
    Keras (docs/augmentation.md).
    """

    factor = Setting(_bounds, 0, 1, forgets=True)
    scale = Setting(_ordered_pair, 0, 1, forgets=True)
    fill_value = _Agreeing(_fill_value, optional=True)
    ratio = Setting(_ordered_pair, 0, open_low=True, forgets=True)

    def __init__(self, factor=1.0, scale=(0.02, 0.33), fill_value=None, value_range=(0, 255), seed=None,
                 ratio=(0.3, 3.3), dtype=None):  # fmt: skip
        super().__init__(dtype)
        self.factor, self.scale, self.ratio = factor, scale, ratio
        self._fill = None  # of each channel, once they are known
        self._set_up_ranged(value_range, seed)
        self.fill_value = fill_value

    def build(self, input_shape, rng):
        input_shape = super().build(input_shape, rng)
        self._fill = np.zeros(input_shape[-1])
        self.check_agreement()
        return input_shape

    def check_agreement(self):
        value = vars(self).get("fill_value")
        if value is None:
            return
        low, high = self._limits
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(low <= number <= high for number in numbers):
            required = f"fill_value must lie in value_range, {self.value_range}"
            raise ValueError(_check.message("RandomErasing", required, value))
        if self._fill is not None:
            if len(numbers) not in (1, len(self._fill)):
                required = f"fill_value must have a number for every channel, {len(self._fill)}"
                raise ValueError(_check.message("RandomErasing", required, value))
            self._fill[:] = numbers

    def _numbers(self):
        low, high = self._limits
        factor = sorted(self.factor) if isinstance(self.factor, tuple) else (self.factor, self.factor)
        noise = 1.0 if self.value_range is None else high
        return *factor, *self.scale, *map(math.log, self.ratio), noise, low, high

    @property
    def _needs_range(self):
        return self.value_range is not None and self.fill_value is None

    def _change(self, x, y, lot):
        kernels.erase(x, y, lot.draw, self._ranges, None if self.fill_value is None else self._fill, self._seen)

    def _augment_backward(self, dy):
        dx = empty(dy.shape, self.dtype)
        kernels.erase_backward(dy, dx, self._draw, self._ranges)
        return dx

    @property
    def last_boxes(self):
        """The rectangles of the latest training forward: int64, (N, 4): top, left, height, width; zeros for none.

        Made again from their counters at every call.  RuntimeError before the first training forward.
        """
        found = np.empty((self._require_latest("last_boxes")[0], 4))
        kernels.boxes(found, self._draw, self._ranges, self.input_shape[:2])
        return found.astype(np.int64)
