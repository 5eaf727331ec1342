"""Schedules: a number that changes from step to step: a learning rate, or the rate of a dropout layer.

(Keras's names, which speak of learning rates; a dropout layer takes the same classes for its ``rate``.)
"""

import bisect
import itertools
import math

from minicnn import _check, configured
from minicnn.configured import Configured
from minicnn.settings import Fixed


class Schedule(Configured):
    """A function from the number of steps done to the rate of the next one; the first step has number 0.

    A custom schedule is a subclass with ``__call__(step) -> rate``; a model file cannot hold it.
    """

    def __call__(self, step):
        raise NotImplementedError(f"{type(self).__name__} has no __call__(step)")


LARGEST = math.log(2.0**1023)  # its exponential is still a float


class ExponentialDecay(Schedule):
    """rate = initial_learning_rate * decay_rate ^ (step / decay_steps), as in Keras.

    ``initial_learning_rate`` >= 0, ``decay_steps`` >= 1 steps, ``decay_rate`` > 0.  With ``staircase`` the exponent is
    cut to a whole number.  ValueError at the step at which the rate no longer fits a float (``decay_rate`` > 1).
    """

    initial_learning_rate = Fixed(_check.number, 0)
    decay_steps = Fixed(_check.integer, 1)
    decay_rate = Fixed(_check.number, 0, open_low=True)
    staircase = Fixed(_check.boolean)

    def __init__(self, initial_learning_rate, decay_steps, decay_rate, staircase=False):
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.staircase = staircase

    def __call__(self, step):
        exponent = step // self.decay_steps if self.staircase else step / self.decay_steps
        try:
            rate = self.initial_learning_rate * self.decay_rate**exponent
        except OverflowError:  # of the power alone: the rate may still be finite
            rate = 0.0
            if self.initial_learning_rate:
                log = math.log(self.initial_learning_rate) + exponent * math.log(self.decay_rate)
                rate = math.exp(log) if log < LARGEST else math.inf
        if not math.isfinite(rate):
            fix = "With a decay_rate above 1 it grows without bound" if self.decay_rate > 1 else ""
            raise ValueError(_check.message("ExponentialDecay", f"the rate of step {step} must be finite", rate, fix))
        return rate


class CosineDecay(Schedule):
    """rate = initial_learning_rate ((1 - alpha) (1 + cos(pi step / decay_steps)) / 2 + alpha), constant afterwards.

    From Loshchilov and Hutter, "SGDR", ICLR 2017, equation 5, without restarts.  ``initial_learning_rate`` >= 0,
    ``decay_steps`` >= 1 steps, ``alpha`` in [0, 1]: the share of the rate that is left at the end.
    """

    initial_learning_rate = Fixed(_check.number, 0)
    decay_steps = Fixed(_check.integer, 1)
    alpha = Fixed(_check.number, 0, 1)

    def __init__(self, initial_learning_rate, decay_steps, alpha=0.0):
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.alpha = alpha

    def __call__(self, step):
        progress = min(step, self.decay_steps) / self.decay_steps
        return self.initial_learning_rate * ((1 - self.alpha) * (1 + math.cos(math.pi * progress)) / 2 + self.alpha)


class PolynomialDecay(Schedule):
    """rate = (initial - end) (1 - step / decay_steps) ^ power + end, constant afterwards, as in Keras.

    With ``power`` 1 a straight line from ``initial_learning_rate`` >= 0 to ``end_learning_rate`` >= 0, up or down, over
    ``decay_steps`` >= 1 steps; ``power`` > 0.
    """

    initial_learning_rate = Fixed(_check.number, 0)
    decay_steps = Fixed(_check.integer, 1)
    end_learning_rate = Fixed(_check.number, 0)
    power = Fixed(_check.number, 0, open_low=True)

    def __init__(self, initial_learning_rate, decay_steps, end_learning_rate=0.0001, power=1.0):
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.end_learning_rate = end_learning_rate
        self.power = power

    def __call__(self, step):
        left = (1 - min(step, self.decay_steps) / self.decay_steps) ** self.power
        return (self.initial_learning_rate - self.end_learning_rate) * left + self.end_learning_rate


class PiecewiseConstantDecay(Schedule):
    """rate = values[i] while boundaries[i - 1] < step <= boundaries[i], as in Keras.

    ``boundaries``: steps >= 0, growing; ``values``: rates >= 0, one more than boundaries.
    """

    boundaries = Fixed(_check.each, "a boundary", _check.integer, 0)
    values = Fixed(_check.each, "a value", _check.number, 0)

    def __init__(self, boundaries, values):
        self.boundaries = boundaries
        self.values = values
        where = "PiecewiseConstantDecay"
        if any(a >= b for a, b in itertools.pairwise(self.boundaries)):
            raise ValueError(_check.message(where, "boundaries must grow", boundaries))
        if len(self.values) != len(self.boundaries) + 1:
            required = f"values must have one more entry than the {len(self.boundaries)} boundaries"
            raise ValueError(_check.message(where, required, values))

    def get_config(self):
        return {name: list(value) for name, value in super().get_config().items()}

    def __call__(self, step):
        return self.values[bisect.bisect_left(self.boundaries, step)]


_CLASSES = {cls.__name__: cls for cls in (ExponentialDecay, CosineDecay, PiecewiseConstantDecay, PolynomialDecay)}


def rate_at(where, what, function, arguments, high=None):
    """``function(*arguments)`` as a float in [0, high], also where it is a NumPy scalar or a 0-d array.

    ValueError for a number out of range, NaN, infinity and one that is too large for any float, TypeError for what is
    no number; ``where`` and ``what`` ("the rate of step 3") begin the message.
    """
    try:
        rate = function(*arguments)
    except OverflowError as error:
        required = f"{what} must be a number that fits a float"
        raise ValueError(_check.message(where, required, _check.Shown(f"OverflowError: {error}"))) from error
    return _check.number(where, what, _check.plain(rate), 0, high)


def is_known(schedule):
    """False for a custom schedule, which no file can hold."""
    return _CLASSES.get(type(schedule).__name__) is type(schedule)


def to_config(schedule):
    """{"name", "config"} for JSON."""
    return configured.to_config(schedule)


def from_config(where, config):
    """The Schedule that ``to_config`` wrote; ValueError or TypeError, beginning with ``where``, for anything else."""
    return configured.from_config(where, config, _CLASSES)
