"""GaussianDropout, noise instead of a mask, and GaussianNoise, which is added.

Read next: ``noise.py`` (the rate), ``random.py`` (the step), the kernel ``_ext/gaussian.pyx``, its leaf
``_ext/leaves/gaussian.h``.
"""

import math

import numpy as np

from minicnn import _check
from minicnn._ext import gaussian as kernels
from minicnn.layer import Layer
from minicnn.layers.noise import DECISIONS, Noise, as_rows
from minicnn.layers.random import Random
from minicnn.recording import each_time, empty
from minicnn.settings import Setting


class GaussianDropout(Noise, Layer, compiled=True):
    """Multiplies its inputs by normal random numbers of mean 1 in training, and lets all pass in evaluation.

    ::

        training, forward:    y  = x  * (1 + sigma z)      z ~ N(0, 1), separately for every element, sample and step;
        training, backward:   dx = dy * (1 + sigma z)      sigma = sqrt(rate / (1 - rate))
        evaluation:           y  = x

    so that y has the mean and the variance that ``Dropout`` of this rate gives it.

    x, y: (N, ...), float32 or float64.

    - ``rate``: a number in [0, 1], or a Schedule (``schedules.py``), a function from the layer's step to the rate.  At
      0 all pass and nothing is drawn.  At 1, where sigma would be infinite, nothing passes: all is exactly 0, forward
      and backward, as in ``Dropout``.
    - ``seed``: None takes the model's.  The noise is a function of (seed, number of the layer in the model, number of
      training forwards so far, index of the element in the batch) and of nothing else; it is not stored, but made
      again in backward.

    z is made in float32, of 16 random bits for a radius and 16 for an angle (``_ext/leaves/gaussian.h``): |z| < 4.86,
    where one normal number in 800,000 lies beyond, its variance is 1 - 5e-6, and its distribution function is nowhere
    off by more than 1e-6.

    Raises ValueError for a rate that is NaN or outside [0, 1], TypeError for one that is no number (a bool is none).

    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15 (2014),
    section 10.
    """

    output_function = "same"

    def __init__(self, rate, seed=None, dtype=None):
        super().__init__(dtype)
        self._set_up_noise(rate, seed)

    def forward(self, x, training=False):
        x = self.check_input(x)
        if not training:
            return self.own(x)
        each_time(self._begin_step, x.shape)
        self.keep(len(x))
        return _multiply(x, self._lot)

    def backward(self, dy):
        dy, _ = self.check_gradient(dy)
        return _multiply(dy, self._lot)

    def sample(self, x, lot):
        return _multiply(self.check_input(x), lot)

    def _factor(self, rate):
        """sigma"""
        return math.sqrt(rate / (1 - rate)) if rate < 1 else 0.0

    @property
    def last_mask(self):
        """The factors 1 + sigma z of the latest training forward, with the shape and the dtype of x.

        Made again from their counter at every call.  RuntimeError before the first training forward.
        """
        shape, threshold = self._require_latest(), int(self._draw[0])
        if threshold in (0, DECISIONS):
            return np.full(shape, threshold == 0, self.dtype)
        return _drawn(shape, self._draw, self._scale[0]).astype(self.dtype)


class GaussianNoise(Random, Layer, compiled=True):
    """Adds normal random numbers of mean 0 to its inputs in training, and lets all pass in evaluation.

    ::

        training, forward:    y  = x + stddev z      z ~ N(0, 1), separately for every element, sample and step
        training, backward:   dx = dy
        evaluation:           y  = x

    On inputs it is a way to have more data than there are; before other layers it makes their inputs uncertain, as
    GaussianDropout does, but by as much for small values as for large ones.

    x, y: (N, ...), float32 or float64.

    - ``stddev``: a number >= 0, the standard deviation of what is added.  It may be assigned at any time.  At 0 all
      pass and nothing is drawn.
    - ``seed``: None takes the model's.  The noise is a function of (seed, number of the layer in the model, number of
      training forwards so far, index of the element in the batch) and of nothing else.

    z is that of GaussianDropout, made in float32: |z| < 4.86, with a variance of 1 - 5e-6.  ``freeze_mask`` holds the
    noise, ``predict_mc`` draws from it.

    Raises ValueError for a stddev that is NaN, infinite or negative, TypeError for one that is no number (a bool is
    none).

    Source: Sietsma and Dow, "Creating artificial neural networks that generalize", Neural Networks 4 (1991); Bishop,
    "Training with Noise is Equivalent to Tikhonov Regularization", Neural Computation 7 (1995).
    """

    output_function = "same"
    _draws_again = False

    stddev = Setting(_check.number, 0)

    def __init__(self, stddev, seed=None, dtype=None):
        super().__init__(dtype)
        self.stddev = stddev
        self._set_up_random(seed)

    def _strength_at(self, step):
        return int(self.stddev > 0), self.stddev

    def forward(self, x, training=False):
        x = self.check_input(x)
        if not training:
            return self.own(x)
        each_time(self._begin_step, x.shape)
        self.keep(len(x))
        return _add(x, self._lot)

    def backward(self, dy):
        dy, _ = self.check_gradient(dy)
        return self.own(dy)

    def sample(self, x, lot):
        return _add(self.check_input(x), lot)

    @property
    def last_noise(self):
        """What the latest training forward added, with the shape and the dtype of x.

        Made again from its counter at every call.  RuntimeError before the first training forward.
        """
        shape = self._require_latest("last_noise")
        if self._draw[0] == 0:
            return np.zeros(shape, self.dtype)
        return _drawn(shape, self._draw, 1.0, 0.0).astype(self.dtype) * self.dtype.type(self._scale[0])


def _drawn(shape, *numbers):
    size = math.prod(shape)
    factors = np.empty(-(-size // 128) * 128, np.float32)  # whole groups
    kernels.factors(factors, *numbers)
    return factors[:size].reshape(shape)


def _add(x, lot):
    y = empty(x.shape, x.dtype)
    kernels.add(as_rows(x), as_rows(y), *lot)
    return y


def _multiply(x, lot):
    y = empty(x.shape, x.dtype)
    kernels.multiply(as_rows(x), as_rows(y), *lot)
    return y
