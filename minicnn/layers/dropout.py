"""Dropout: every training step sees another random thinning of the network; evaluation sees all of it.

Read next: the kernel ``_ext/dropout.pyx``, then its two leaves, ``keep_bits`` in ``_ext/philox.h`` and ``mask_scale``
in ``_ext/leaf.h``.  docs/dropout.md tells the whole way from the formula to there.
"""

import numpy as np

from minicnn import _check
from minicnn._ext import dropout as kernel
from minicnn._ext.random import TRAINING_MASK
from minicnn.layer import Layer

DECISIONS = 1 << 16  # values that the random number behind one decision can take


class Dropout(Layer):
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

    def forward(self, x, training=False):
        x = self.check_input(x)
        if not training:
            return self._evaluate(x)
        self._latest = self._next_step(), x.shape
        if self.rate in (0, 1):
            self.keep(len(x), None)
            return self.own(x) if self.rate == 0 else np.zeros_like(x)
        y, mask = np.empty_like(x), np.empty(kernel.words(x.size), np.uint32)
        kernel.forward(x.reshape(-1), mask, y.reshape(-1), self._scale(), *self._draw())
        self.keep(len(x), mask)
        return y

    def _evaluate(self, x):
        if self.mode == "inverted" or self.rate == 0:
            return self.own(x)
        return x * x.dtype.type(1 - self.rate) if self.rate < 1 else np.zeros_like(x)  # 0 * inf would be NaN

    def backward(self, dy):
        dy, (mask,) = self.check_gradient(dy)
        if mask is None:
            return self.own(dy) if self.rate == 0 else np.zeros_like(dy)
        dx = np.empty_like(dy)
        kernel.backward(dy.reshape(-1), mask, dx.reshape(-1), self._scale())
        return dx

    @property
    def last_mask(self):
        """The mask of the latest training forward: bool, the shape of x, True where an element was kept.

        Made again from its counter at every call.  RuntimeError before the first training forward.
        """
        if self._latest is None:
            raise RuntimeError("Dropout.last_mask: needs forward(x, training=True) before it")
        _, shape = self._latest
        size = int(np.prod(shape))
        if self.rate in (0, 1):
            return np.full(shape, self.rate == 0)
        mask = np.empty(kernel.words(size), np.uint32)
        kernel.draw(mask, *self._draw())
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

    def _next_step(self):
        """The step of this training forward; a frozen one repeats the latest."""
        if self._frozen and self._latest is not None:
            return self._latest[0]
        self.state["step"] += 1
        return self.state["step"] - 1

    def _scale(self):
        return 1 / (1 - self.rate) if self.mode == "inverted" else 1.0

    def _draw(self):
        """What the latest mask is a function of: threshold, seed, step, stream (see ``keep_bits``)."""
        threshold = min(max(round(self.rate * DECISIONS), 1), DECISIONS - 1)
        seed, number = self.stream
        step, _ = self._latest
        return threshold, seed if self.seed is None else self.seed, step & 0xFFFFFFFF, number * 16 + TRAINING_MASK
