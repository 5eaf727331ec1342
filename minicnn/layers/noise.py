"""What the dropout family has in common: a rate, and random numbers that are a function of their place."""

import math
from typing import NamedTuple

import numpy as np

from minicnn import _check, schedules
from minicnn._ext import dropout
from minicnn._ext.machinery.random import MC_MASK, TRAINING_MASK
from minicnn.layer import each_time, empty

DECISIONS = 1 << 16  # values that the random number behind one decision can take
ALL = 1 << 62  # the period of a batch in which no sample comes twice


class Lot(NamedTuple):
    """All that the noise of one forward is a function of, as the kernels read it when they run.

    - ``draw``: uint64 (6,): threshold, seed, step, stream, first, period (``Draw`` in ``_ext/machinery/random.pxd``).
      Row s of the batch is sample first + s % period of the data, in step ``step`` + s // period.
    - ``scale``: float64 (1,): what the kernel multiplies by.
    """

    draw: np.ndarray
    scale: np.ndarray


def new_lot():
    return Lot(np.array([0, 0, 0, 0, 0, 1], np.uint64), np.ones(1))


def decisions(draw, shape):
    """The first decisions of a step, as many as an array of that shape has elements: True = kept."""
    threshold, size = int(draw[0]), math.prod(shape)
    if threshold in (0, DECISIONS):
        return np.full(shape, threshold == 0)
    words = np.empty(-(-size // 128) * 4, np.uint32)  # whole groups
    dropout.mask(words, draw)
    bits = np.unpackbits(words.astype("<u4").view(np.uint8), count=size, bitorder="little")
    return bits.astype(bool).reshape(shape)


class Noise:
    """A base beside ``Layer`` for layers that draw random numbers in training.

    The layer calls ``_set_up_noise`` in its constructor, and in a training forward ``each_time(self._begin_step,
    x.shape)`` before the kernel that reads ``self._lot``; it implements ``_factor(rate)``, the number in ``lot.scale``,
    and ``sample(x, lot)``.

    A number drawn is a function of (seed, number of the layer in the model, step, index in the batch) and of nothing
    else.  ``state["step"]`` counts the training forwards, repetitions of a frozen one not.
    """

    _draws_again = True  # whether backward makes the numbers anew; False if forward keeps them
    _lot = property(lambda self: Lot(self._draw, self._scale))

    def _set_up_noise(self, rate, seed):
        """Checks and stores the arguments that all have."""
        self.rate = rate
        self.seed = seed
        self.state["step"] = 0
        self._frozen = False
        self._latest = None  # step and shape of the latest training forward
        self._draw, self._scale = new_lot()

    @property
    def rate(self):
        """The fraction dropped: a number in [0, 1], or a Schedule, a function from the layer's step to one."""
        return self._rate

    @rate.setter
    def rate(self, rate):
        if isinstance(rate, dict):
            rate = schedules.from_config(f"{type(self).__name__}: rate", rate)
        if not isinstance(rate, schedules.Schedule):
            rate = _check.number(type(self).__name__, "rate", rate, 0, 1)
        self._rate = rate

    @property
    def seed(self):
        """The layer's own seed, 0 <= seed < 2^64; None for the model's."""
        return self._seed

    @seed.setter
    def seed(self, seed):
        self._seed = None if seed is None else _check.integer(type(self).__name__, "seed", seed, 0, 2**64 - 1)

    @property
    def current_rate(self):
        """The rate of the latest training forward; before the first one, the rate that it will have."""
        return self._rate_at(max(self.state["step"] - 1, 0))

    def _rate_at(self, step):
        if not isinstance(self._rate, schedules.Schedule):
            return self._rate
        where = f"{type(self).__name__}: {type(self._rate).__name__}"
        return schedules.rate_at(where, f"the rate of step {step}", self._rate, (step,), 1)

    def get_config(self):
        config = super().get_config()
        if isinstance(self._rate, schedules.Schedule) and schedules.is_known(self._rate):
            config["rate"] = schedules.to_config(self._rate)
        return config

    def _begin_step(self, shape):
        """Settles what the noise of this training forward is; a frozen step repeats the latest.

        A latest one that was taken back is drawn again, and of a layer read from a file it is the one before that file.
        """
        step = self.state["step"]
        taken_back = self._latest is not None and self._latest[0] >= step
        if self._frozen and step > 0 and not taken_back:
            step -= 1
        rate = self._rate_at(step)  # first: a schedule may fail
        self.state["step"], self._latest = step + 1, (step, shape)
        before = self._draw[0], self._scale[0]
        self._settle(self._lot, rate, self.stream[0], step, TRAINING_MASK, 0, ALL)
        if self._draws_again or before != (self._draw[0], self._scale[0]):
            self.forget()  # backward of an earlier forward would take the numbers of this one

    def settle_sample(self, lot, seed, number, first, period):
        """Settles Monte-Carlo sample ``number`` of the rows ``first``, first + 1, ... of the data (``Lot``).

        ``seed`` None takes the seed that training has, but other numbers: those of another purpose.
        """
        own = self.stream[0] if seed is None else seed
        self._settle(lot, self.current_rate, own, number, MC_MASK, first, period, seed is not None)

    def _settle(self, lot, rate, seed, step, purpose, first, period, seed_is_given=False):
        threshold = round(rate * DECISIONS)
        if 0 < rate < 1:
            threshold = min(max(threshold, 1), DECISIONS - 1)
        if self.seed is not None and not seed_is_given:
            seed = self.seed
        stream = self.stream[1] * 16 + purpose
        lot.draw[:] = threshold, seed, step & 0xFFFFFFFF, stream, first, period
        lot.scale[0] = self._factor(rate)

    def _factor(self, rate):
        raise NotImplementedError(f"{type(self).__name__} has no _factor(rate)")

    def _require_latest(self):
        """The shape of x in the latest training forward."""
        if self._latest is None:
            raise RuntimeError(f"{type(self).__name__}.last_mask: needs forward(x, training=True) before it")
        return self._latest[1]

    def freeze_mask(self):
        """Holds the step still: every training forward from now on draws the numbers of the latest one again.

        (For x of the same shape.  Where none came before, the next one draws the numbers that stay.)
        """
        self._frozen = True

    def unfreeze_mask(self):
        """Lets every training forward draw anew again."""
        self._frozen = False


class Mask(Noise):
    """Noise that keeps or drops: what is kept is scaled in training (mode "inverted") or in evaluation ("classical").

    The layer calls ``_set_up_mask`` in its constructor, and in the classical mode ``_scaled(x)`` in evaluation.
    """

    def _set_up_mask(self, rate, mode, seed):
        self._set_up_noise(rate, seed)
        self.mode = mode
        self._kept_in_evaluation = np.array([1 - self.current_rate])

    @property
    def mode(self):
        """ "inverted" or "classical"."""
        return self._mode

    @mode.setter
    def mode(self, mode):
        self._mode = _check.choice(type(self).__name__, "mode", mode, ("inverted", "classical"))

    def _factor(self, rate):
        return 1 / (1 - rate) if self.mode == "inverted" and rate < 1 else 1.0

    def _scaled(self, x):
        """x (1 - rate)"""
        each_time(self._settle_evaluation)
        y = empty(x.shape, x.dtype)
        dropout.scale(as_rows(x), self._kept_in_evaluation, as_rows(y))
        return y

    def _settle_evaluation(self):
        self._kept_in_evaluation[0] = 1 - self.current_rate


def as_rows(x):
    """(N, ...) as (N, D)."""
    return x.reshape(len(x), x[:1].size)
