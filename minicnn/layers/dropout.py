"""Dropout: every training step sees another random thinning of the network; evaluation sees all of it.

Read next: the kernel ``_ext/dropout.pyx``, then its two leaves, ``keep_bits`` in ``_ext/philox.h`` and ``mask_scale``
in ``_ext/leaf.h``.  docs/dropout.md tells the whole way from the formula to there.
"""

import numpy as np

from minicnn import _check
from minicnn._ext import dropout as kernel
from minicnn._ext.random import TRAINING_MASK
from minicnn.layer import Layer, each_time, empty

DECISIONS = 1 << 16  # values that the random number behind one decision can take


class Dropout(Layer, compiled=True):
    """Sets a fraction ``rate`` of its inputs to zero in training, and lets all pass in evaluation.

    ::

        training, forward:    y  = x  * keep * scale      keep ~ Bernoulli(1 - rate), drawn anew for every element,
        training, backward:   dx = dy * keep * scale      sample and step; scale = 1 / (1 - rate)
        evaluation:           y  = x

    so that y has the expectation x in training.  With ``mode="classical"`` (the 2014 paper's) scale = 1 in training,
    and evaluation multiplies instead: y = x * (1 - rate).

    x, y: (N, ...), float32 or float64; dropped elements are exactly 0, whatever they were (NaN and inf too).

    - ``rate``: a number in [0, 1], the fraction that is DROPPED, as in Keras and PyTorch; the p of the 2014 paper is
      the fraction kept.  At 0 all pass and nothing is drawn; at 1 all is zero, forward and backward.
    - ``seed``: None takes the model's.  The mask is a function of (seed, number of the layer in the model, number of
      training forwards so far, index of the element in the batch) and of nothing else.

    The fraction dropped is rate rounded to 1/65536 (and never all or none for 0 < rate < 1); the scale is exact, so the
    expectation of y is off by at most 8e-6 / (1 - rate) of x, or 1.6e-5 / (1 - rate) where the rounding is clamped.

    Raises ValueError for a rate that is NaN or outside [0, 1], TypeError for one that is no number (a bool is none).

    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15 (2014),
    section 4 (training) and section 10 (the scaling done in training instead of at test time).
    """

    def __init__(self, rate, mode="inverted", seed=None, dtype=None):
        super().__init__(dtype)
        self.rate = _check.number("Dropout", "rate", rate, 0, 1)
        self.mode = _check.choice("Dropout", "mode", mode, ("inverted", "classical"))
        self.seed = None if seed is None else _check.integer("Dropout", "seed", seed, 0, 2**64 - 1)
        self.state["step"] = 0  # training forwards so far, repetitions of a frozen mask not counted
        self._frozen = False
        self._latest = None  # step and shape of the latest training forward
        self._draw = np.zeros(4, np.uint64)  # what its mask is a function of: threshold, seed, step, stream
        self._scale = np.ones(1)

    def forward(self, x, training=False):
        x = self.check_input(x)
        if not training:
            return self._evaluate(x)
        each_time(self._begin_step, x.shape)
        y, mask = empty(x.shape, x.dtype), empty((len(x), kernel.words(x[:1].size)), np.uint32)
        kernel.forward(_samples(x), mask, _samples(y), self._draw, self._scale)
        self.keep(len(x), mask)
        return y

    def _evaluate(self, x):
        if self.mode == "inverted" or self.rate == 0:
            return self.own(x)
        y = empty(x.shape, x.dtype)
        kernel.scale(_samples(x), 1 - self.rate, _samples(y))
        return y

    def backward(self, dy):
        dy, (mask,) = self.check_gradient(dy)
        dx = empty(dy.shape, dy.dtype)
        kernel.backward(_samples(dy), mask, _samples(dx), self._draw, self._scale)
        return dx

    def _begin_step(self, shape):
        """Settles what the mask and the scale of this training forward are; a frozen step repeats the latest."""
        interrupted = self._latest is None or self._latest[0] >= self.state["step"]  # a step that was taken back
        if interrupted or not self._frozen:
            self.state["step"] += 1
        step = self.state["step"] - 1
        self._latest = step, shape
        threshold = round(self.rate * DECISIONS)
        if 0 < self.rate < 1:
            threshold = min(max(threshold, 1), DECISIONS - 1)
        seed, number = self.stream
        self._draw[:] = (
            threshold,
            seed if self.seed is None else self.seed,
            step & 0xFFFFFFFF,
            number * 16 + TRAINING_MASK,
        )
        self._scale[0] = 1 / (1 - self.rate) if self.mode == "inverted" and self.rate < 1 else 1.0

    @property
    def last_mask(self):
        """The mask of the latest training forward: bool, the shape of x, True where an element was kept.

        Made again from its counter at every call.  RuntimeError before the first training forward.
        """
        if self._latest is None:
            raise RuntimeError("Dropout.last_mask: needs forward(x, training=True) before it")
        _, shape = self._latest
        size, threshold = int(np.prod(shape)), int(self._draw[0])
        if threshold in (0, DECISIONS):
            return np.full(shape, threshold == 0)
        mask = np.empty(-(-size // 128) * 4, np.uint32)  # whole groups
        kernel.mask(mask, self._draw)
        return (
            np.unpackbits(mask.astype("<u4").view(np.uint8), count=size, bitorder="little").astype(bool).reshape(shape)
        )

    def freeze_mask(self):
        """Holds the step still: every training forward from now on draws the mask of the latest one again.

        (For x of the same shape.  Where none came before, the next one draws the mask that stays.)
        """
        self._frozen = True

    def unfreeze_mask(self):
        """Lets every training forward draw a new mask again."""
        self._frozen = False


def _samples(x):
    """(N, ...) as (N, D)."""
    return x.reshape(len(x), x[:1].size)
