"""Dropout: every training step trains a different random part of the network; evaluation uses all of it.

Read next: ``noise.py`` (the rate), ``random.py`` (the step), the kernel ``_ext/dropout.pyx``, then its two leaves,
``keep_bits`` in ``_ext/leaves/philox.h`` and ``mask_scale`` in ``_ext/leaves/leaf.h``. docs/dropout.md tells the whole
way from the formula to there.
"""

import numpy as np

from minicnn import _check
from minicnn._ext import dropout as kernels
from minicnn.layer import Layer
from minicnn.layers.noise import Mask, as_rows, decisions
from minicnn.recording import each_time, empty
from minicnn.settings import refuse


class Dropout(Mask, Layer, compiled=True):
    """Sets a fraction ``rate`` of its inputs to zero in training, and lets all pass in evaluation.

    ::

        training, forward:    y  = x  * keep * scale      keep ~ Bernoulli(1 - rate), drawn separately for every
        training, backward:   dx = dy * keep * scale      element, sample and step; scale = 1 / (1 - rate)
        evaluation:           y  = x

    so that y has the expectation x in training.  With ``mode="classical"`` (the 2014 paper's) scale = 1 in training,
    and evaluation multiplies instead: y = x * (1 - rate).

    x, y: (N, ...), float32 or float64; dropped elements are exactly 0, even where they were NaN or inf.

    - ``rate``: a number in [0, 1], the fraction that is DROPPED, as in Keras and PyTorch; the p of the 2014 paper is
      the fraction kept.  At 0 all pass and nothing is drawn; at 1 all is zero, forward and backward.  Or a Schedule
      (``schedules.py``), a function from the layer's step, or from the share of the run that is over, to the rate;
      ``current_rate`` says what it is now.
    - ``seed``: None takes the model's.  The mask is a function of (seed, number of the layer in the model, number of
      training forwards so far, index of the element in the batch) and of nothing else.
    - ``noise_shape``: None, or as in Keras one entry for each axis of x, the batch first: None (or the length of the
      axis) for separate decisions, 1 for one decision that all elements along the axis share.  (None, 1, 1, None)
      drops whole channels of images, (1, None) the same units in all samples.

    The fraction dropped is rate rounded to 1/65536 (and never all or none for 0 < rate < 1); the scale is exact, so the
    expectation of y is off by at most 8e-6 / (1 - rate) of x, or 1.6e-5 / (1 - rate) where the rounding is clamped.

    Raises ValueError for a rate that is NaN or outside [0, 1], TypeError for one that is no number (a bool is none);
    ValueError at ``build`` if ``noise_shape`` does not fit.

    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15 (2014),
    section 4 (training) and section 10 (the scaling done in training instead of at test time).
    """

    _draws_again = False
    _alpha = False  # True: AlphaDropout's formula

    def __init__(self, rate, mode="inverted", seed=None, noise_shape=None, dtype=None):
        super().__init__(dtype)
        self._set_up_mask(rate, mode, seed)
        self.noise_shape = noise_shape

    def build(self, input_shape, rng):
        input_shape = super().build(input_shape, rng)
        self.noise_shape = self.noise_shape  # checked again, now that the shape of x is known
        return input_shape

    @property
    def noise_shape(self):
        """The argument, a tuple or None."""
        return self._noise_shape

    @noise_shape.setter
    def noise_shape(self, noise_shape):
        name = type(self).__name__
        chosen = None if noise_shape is None else _noise_shape(name, noise_shape)
        fitted = None if chosen is None or self.input_shape is None else _sharing(name, chosen, self.input_shape)
        self._noise_shape, self._sharing = chosen, fitted
        self.forget()
        self._latest = None  # a mask drawn before has another shape

    @property
    def output_function(self):
        """ "same" where evaluation lets all pass, "changed" where it scales."""
        return "same" if self._inverted or self.rate == 0 else "changed"

    def forward(self, x, training=False):
        x = self.check_input(x)
        if not training:
            return self.own(x) if self._inverted else self._scaled(x)
        each_time(self._begin_step, x.shape)
        y, mask = self._drop(x, self._lot)
        self.keep(len(x), mask)
        return y

    def _drop(self, x, lot):
        y, mask = empty(x.shape, x.dtype), empty((len(x), kernels.words(x[:1].size, self._sharing)), np.uint32)
        kernels.forward(as_rows(x), mask, as_rows(y), *lot, self._sharing, self._alpha)
        return y, mask

    def backward(self, dy):
        dy, (mask,) = self.check_gradient(dy)
        dx = empty(dy.shape, dy.dtype)
        kernels.backward(as_rows(dy), mask, as_rows(dx), *self._lot, self._sharing)
        return dx

    def sample(self, x, lot):
        return self._drop(self.check_input(x), lot)[0]

    @property
    def last_mask(self):
        """The mask of the latest training forward: bool, the shape of x, True where an element was kept.

        Made again from its counter at every call.  RuntimeError before the first training forward.
        """
        drawn = shape = self._require_latest()
        if self.noise_shape is not None:
            drawn = tuple(1 if wish == 1 else axis for wish, axis in zip(self.noise_shape, shape, strict=True))
        return np.broadcast_to(decisions(self._draw, drawn), shape).copy()


CHANNELS = (None, 1, 1, None)


class SpatialDropout2D(Dropout, compiled=True):
    """Dropout of whole channels: all pixels of a channel are kept or dropped together.

    ::

        training, forward:    y[n, i, j, c]  = x[n, i, j, c]  * keep[n, c] * scale      keep ~ Bernoulli(1 - rate)
        training, backward:   dx[n, i, j, c] = dy[n, i, j, c] * keep[n, c] * scale      scale = 1 / (1 - rate)
        evaluation:           y  = x

    x, y: (N, H, W, C).  In a feature map a single pixel's neighbours carry nearly the same value: dropping pixels hides
    little, dropping channels hides a feature.  It is ``Dropout`` with ``noise_shape=(None, 1, 1, None)``, whose
    arguments, modes and errors it has.

    Source: Tompson et al., "Efficient Object Localization Using Convolutional Networks", CVPR 2015, section 3.2.
    """

    input_ndim = 3

    def __init__(self, rate, mode="inverted", seed=None, dtype=None):
        super().__init__(rate, mode, seed, CHANNELS, dtype)

    @property
    def noise_shape(self):
        """(None, 1, 1, None): one decision for a channel."""
        return self._noise_shape

    @noise_shape.setter
    def noise_shape(self, noise_shape):
        if not isinstance(noise_shape, tuple) or noise_shape != CHANNELS:
            refuse(self, "noise_shape", f"is {CHANNELS}", noise_shape, "Dropout has the argument")
        Dropout.noise_shape.fset(self, noise_shape)


def _noise_shape(where, noise_shape):
    required = "noise_shape must have None or a whole number >= 1 for every axis of x, the batch first"
    if not isinstance(noise_shape, list | tuple):
        raise TypeError(_check.message(where, required, _check.kind(noise_shape)))
    if not noise_shape:
        raise ValueError(_check.message(where, required, noise_shape))
    entries = [None if axis is None else _check.integer(where, "an entry of noise_shape", axis, 1)
               for axis in noise_shape]  # fmt: skip
    if entries[0] not in (None, 1):
        raise ValueError(_check.message(where, "noise_shape[0], of the batch, must be None or 1", noise_shape))
    return tuple(entries)


def _sharing(where, noise_shape, sample_shape):
    """What the kernel calls ``sharing``."""
    if len(noise_shape) != len(sample_shape) + 1:
        required = f"noise_shape must have {len(sample_shape) + 1} entries, the batch first, for x of shape"
        raise ValueError(_check.message(where, f"{required} {_check.batch_shape(sample_shape)}", noise_shape))
    for wish, axis in zip(noise_shape[1:], sample_shape, strict=True):
        if wish not in (None, 1, axis):
            required = f"noise_shape must have None, 1 or {axis} for an axis of length {axis}"
            raise ValueError(_check.message(where, required, noise_shape))
    axes = [(axis, wish == 1 and axis > 1) for wish, axis in zip(noise_shape[1:], sample_shape, strict=True)]
    if noise_shape[0] is None and not any(shared for _, shared in axes):
        return None
    return noise_shape[0] == 1, tuple(axes) or ((1, False),)
