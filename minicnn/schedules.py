"""Schedules: a number that changes from step to step: a learning rate, or the rate of a dropout layer.

(Keras's names, which speak of learning rates; a dropout layer takes the same classes for its ``rate``.)  Those at the
end are for dropout alone and go by the share of the run that is over: ``RunSchedule``.
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


class InverseTimeDecay(Schedule):
    """rate = initial_learning_rate / (1 + decay_rate step / decay_steps), as in Keras.

    ``initial_learning_rate`` >= 0, ``decay_steps`` >= 1 steps, ``decay_rate`` >= 0.  With ``staircase`` step /
    decay_steps is cut to a whole number.
    """

    initial_learning_rate = Fixed(_check.number, 0)
    decay_steps = Fixed(_check.integer, 1)
    decay_rate = Fixed(_check.number, 0)
    staircase = Fixed(_check.boolean)

    def __init__(self, initial_learning_rate, decay_steps, decay_rate, staircase=False):
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.staircase = staircase

    def __call__(self, step):
        passed = step // self.decay_steps if self.staircase else step / self.decay_steps
        return self.initial_learning_rate / (1 + self.decay_rate * passed)


def _cosine(progress, alpha, top=1.0):
    """From ``top`` (1 - alpha) + alpha down to alpha as ``progress`` goes from 0 to 1."""
    return (1 - alpha) * top * (1 + math.cos(math.pi * progress)) / 2 + alpha


class CosineDecay(Schedule):
    """rate = initial_learning_rate ((1 - alpha) (1 + cos(pi step / decay_steps)) / 2 + alpha), constant afterwards.

    With ``warmup_steps`` and ``warmup_target`` the rate first grows (or falls) in a straight line from
    ``initial_learning_rate`` to ``warmup_target``, and then that is what decays: rate = initial + (target - initial)
    step / warmup_steps before step ``warmup_steps``, and from there on the formula above, with the target in the place
    of the initial rate and the steps counted from there.

    From Loshchilov and Hutter, "SGDR", ICLR 2017, equation 5, without restarts; the way up: Goyal et al., "Accurate,
    Large Minibatch SGD", 2017, section 2.2.  ``initial_learning_rate`` >= 0, ``decay_steps`` >= 1 steps, ``alpha`` in
    [0, 1]: the share of the rate that is left at the end.  ``warmup_target`` >= 0 with ``warmup_steps`` >= 1 steps, or
    None with 0: one without the other would do nothing, and is a ValueError.
    """

    initial_learning_rate = Fixed(_check.number, 0)
    decay_steps = Fixed(_check.integer, 1)
    alpha = Fixed(_check.number, 0, 1)
    warmup_target = Fixed(_check.number, 0, optional=True)
    warmup_steps = Fixed(_check.integer, 0)

    def __init__(self, initial_learning_rate, decay_steps, alpha=0.0, warmup_target=None, warmup_steps=0):
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.alpha = alpha
        self.warmup_target = warmup_target
        self.warmup_steps = warmup_steps
        if (self.warmup_target is None) != (self.warmup_steps == 0):
            got = _check.Shown(f"warmup_target={warmup_target!r}, warmup_steps={warmup_steps!r}")
            raise ValueError(_check.message("CosineDecay", "warmup_target and warmup_steps need each other", got))

    def __call__(self, step):
        top, left = self.initial_learning_rate, step - self.warmup_steps
        if left < 0:
            return top + (self.warmup_target - top) * (step / self.warmup_steps)
        if self.warmup_steps:
            top = self.warmup_target
        return top * _cosine(min(left, self.decay_steps) / self.decay_steps, self.alpha)


class CosineDecayRestarts(Schedule):
    """rate = initial_learning_rate ((1 - alpha) m_mul^i (1 + cos(pi p)) / 2 + alpha)

    in period i = 0, 1, ..., which lasts first_decay_steps t_mul^i steps and of which the share p in [0, 1] is over.
    ``initial_learning_rate`` >= 0, ``first_decay_steps`` >= 1 steps, ``t_mul`` in [1, 1000], ``m_mul`` > 0, ``alpha``
    in [0, 1]: the share of the initial rate that is left at the end of each period.  ValueError at the step at which
    the rate no longer fits a float (``m_mul`` > 1).

    Source: Loshchilov and Hutter, "SGDR", ICLR 2017, equation 5; m_mul is Keras's.
    """

    initial_learning_rate = Fixed(_check.number, 0)
    first_decay_steps = Fixed(_check.integer, 1)
    t_mul = Fixed(_check.number, 1, 1000)
    m_mul = Fixed(_check.number, 0, open_low=True)
    alpha = Fixed(_check.number, 0, 1)

    def __init__(self, initial_learning_rate, first_decay_steps, t_mul=2.0, m_mul=1.0, alpha=0.0):
        self.initial_learning_rate = initial_learning_rate
        self.first_decay_steps = first_decay_steps
        self.t_mul = t_mul
        self.m_mul = m_mul
        self.alpha = alpha

    def __call__(self, step):
        period, progress = self._place(step / self.first_decay_steps)
        try:
            rate = self.initial_learning_rate * _cosine(progress, self.alpha, self.m_mul**period)
        except OverflowError:
            rate = math.inf if self.initial_learning_rate else 0.0
        if not math.isfinite(rate):
            fix = "With an m_mul above 1 it grows without bound"
            raise ValueError(
                _check.message("CosineDecayRestarts", f"the rate of step {step} must be finite", rate, fix)
            )
        return rate

    def _place(self, passed):
        """(number of the period, share of it that is over) after that many first periods."""
        if self.t_mul == 1:
            return int(passed), passed % 1
        period = int(math.log1p(passed * (self.t_mul - 1)) / math.log(self.t_mul))
        period += self._begin(period + 1) <= passed  # the logarithm was rounded down
        period -= self._begin(period) > passed
        return period, min(1.0, max(0.0, (passed - self._begin(period)) / self.t_mul**period))

    def _begin(self, period):
        return (self.t_mul**period - 1) / (self.t_mul - 1)


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


class StepLR(Schedule):
    """rate = initial_learning_rate gamma^floor(step / step_size), as torch's StepLR, but of steps instead of epochs.

    ``initial_learning_rate`` >= 0, ``step_size`` >= 1 steps, ``gamma`` in (0, 1].
    """

    initial_learning_rate = Fixed(_check.number, 0)
    step_size = Fixed(_check.integer, 1)
    gamma = Fixed(_check.number, 0, 1, open_low=True)

    def __init__(self, initial_learning_rate, step_size, gamma=0.1):
        self.initial_learning_rate = initial_learning_rate
        self.step_size = step_size
        self.gamma = gamma

    def __call__(self, step):
        return self.initial_learning_rate * self.gamma ** (step // self.step_size)


def _after(where, name, schedule):
    """A rate, a Schedule, or what ``to_config`` made of one."""
    if isinstance(schedule, dict):
        schedule = from_config(f"{where}: {name}", schedule)
    return schedule if isinstance(schedule, Schedule) else _check.number(where, name, schedule, 0)


class LinearWarmup(Schedule):
    """rate = warmup_learning_rate + (after(warmup_steps) - warmup_learning_rate) step / warmup_steps

    before step ``warmup_steps``, and after(step) from there on: a straight line that leads into any schedule.

    ``after_warmup_lr_sched``: ``after``, a Schedule or a rate >= 0; ``warmup_steps`` >= 1; ``warmup_learning_rate``
    >= 0.  Source: Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.2, and for the words TensorFlow's
    models.
    """

    after_warmup_lr_sched = Fixed(_after)
    warmup_steps = Fixed(_check.integer, 1)
    warmup_learning_rate = Fixed(_check.number, 0)

    def __init__(self, after_warmup_lr_sched, warmup_steps, warmup_learning_rate=0.0):
        self.after_warmup_lr_sched = after_warmup_lr_sched
        self.warmup_steps = warmup_steps
        self.warmup_learning_rate = warmup_learning_rate

    def get_config(self):
        config, after = super().get_config(), self.after_warmup_lr_sched
        if isinstance(after, Schedule) and is_known(after):
            config["after_warmup_lr_sched"] = to_config(after)
        return config

    def __call__(self, step):
        if step >= self.warmup_steps:
            return self._after(step)
        low = self.warmup_learning_rate
        return low + (self._after(self.warmup_steps) - low) * (step / self.warmup_steps)

    def _after(self, step):
        after, where = self.after_warmup_lr_sched, f"LinearWarmup: {type(self.after_warmup_lr_sched).__name__}"
        return rate_at(where, f"the rate of step {step}", after, (step,)) if isinstance(after, Schedule) else after


class OneCycleLR(Schedule):
    """From max_lr / div_factor up to max_lr, down to (max_lr / div_factor) / final_div_factor, and no further.

    The way up takes pct_start total_steps - 1 steps, the way down the rest up to step total_steps - 1, where the lowest
    rate is reached; with ``three_phase`` the way down goes to the first rate in as many steps as the way up, and then
    on to the last one.  Between a and b, of which the share p is done, the rate is

        b + (a - b) (1 + cos(pi p)) / 2    or, with anneal_strategy "linear",    a + (b - a) p

    ``max_lr`` >= 0, ``total_steps`` >= 1, ``pct_start`` in (0, 1) (with ``three_phase`` at most 0.5), ``div_factor``
    and ``final_div_factor`` > 0.

    As in torch, whose words these are; but torch's optimiser also turns the momentum around (``cycle_momentum``), and a
    schedule here is the rate alone: a callback may assign ``optimizer.momentum``.  Source: Smith and Topin,
    "Super-Convergence", 2017, section 3.
    """

    max_lr = Fixed(_check.number, 0)
    total_steps = Fixed(_check.integer, 1)
    pct_start = Fixed(_check.number, 0, 1, open_low=True, open_high=True)
    anneal_strategy = Fixed(_check.choice, ("cos", "linear"))
    div_factor = Fixed(_check.number, 0, open_low=True)
    final_div_factor = Fixed(_check.number, 0, open_low=True)
    three_phase = Fixed(_check.boolean)

    def __init__(
        self,
        max_lr,
        total_steps,
        pct_start=0.3,
        anneal_strategy="cos",
        div_factor=25.0,
        final_div_factor=1e4,
        three_phase=False,
    ):
        self.max_lr = max_lr
        self.total_steps = total_steps
        self.pct_start = pct_start
        self.anneal_strategy = anneal_strategy
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        self.three_phase = three_phase
        if self.three_phase and self.pct_start > 0.5:
            required = "pct_start must be at most 0.5 with three_phase=True, which goes down as long as up"
            raise ValueError(_check.message("OneCycleLR", required, pct_start))

    def __call__(self, step):
        first = self.max_lr / self.div_factor
        top, last = self.pct_start * self.total_steps - 1, self.total_steps - 1
        points = [(0, first), (top, self.max_lr), (last, first / self.final_div_factor)]
        if self.three_phase:
            points.insert(2, (2 * self.pct_start * self.total_steps - 2, first))
        for (begin, a), (end, b) in itertools.pairwise(points):
            if step <= end and end > begin:
                share = max(step - begin, 0) / (end - begin)
                return a + (b - a) * share if self.anneal_strategy == "linear" else b + (a - b) * _cosine(share, 0)
        return points[-1][1]


class RunSchedule(Schedule):
    """A function from the share of the training run that is over, in [0, 1), to the rate of a dropout layer.

    The run is that of ``fit``: its step number s, counted from 0 over all epochs, of epochs * steps in an epoch has the
    share s / (epochs * steps).  So with ``initial_epoch`` it begins where that epoch begins, and a run that was
    interrupted goes on with the same bits if ``fit`` is given the same ``epochs`` again.  A second ``fit`` that begins
    at epoch 0 is a run of its own.  Where training is stopped early the rest of the run is not seen.

    Nobody but ``fit`` knows how long a run will be: ``train_on_batch``, and ``forward`` in training mode, raise
    RuntimeError, unless ``total_steps`` >= 1 is given.  With it the share is (the layer's step) / total_steps, 1 at
    most, in ``fit`` and everywhere else, like that of all other schedules; and training in pieces of any ``epochs`` is
    the same as in one.

    The place in the run is state, not a weight: weights that are put back alone (``load_weights``, ``set_weights``,
    ``EarlyStopping(restore_best_weights=True)``) leave the rate where the run has come to, which evaluation in the
    classical mode and ``predict_mc`` go by.  ``save``, copies and checkpoints hold it.

    A custom one is a subclass with ``at(share) -> rate``, called with numbers in [0, 1]; a model file cannot hold it.
    """

    total_steps = Fixed(_check.integer, 1, optional=True)

    def __init__(self, total_steps=None):
        self.total_steps = total_steps

    def at(self, share):
        """The rate where that share of the run is over."""
        raise NotImplementedError(f"{type(self).__name__} has no at(share)")

    def __call__(self, step):
        if self.total_steps is None:
            required = "total_steps must be given where no fit says how long the run is"
            raise ValueError(_check.message(type(self).__name__, required, None))
        return self.at(min(step / self.total_steps, 1.0))


class EarlyDropout(RunSchedule):
    """rate while share < fraction, 0 afterwards; share: how much of the run is over, in [0, 1].

    With ``linear`` it falls in a straight line instead: rate (1 - share / fraction) while share < fraction.

    ``rate`` in [0, 1], ``fraction`` in [0, 1] of the run, ``total_steps``: see ``RunSchedule``.  For nets that are
    small for their data: it lowers the *training* loss.  Afterwards nothing is dropped, also not by ``predict_mc``.

    Source: Liu, Xu, Jin, Shen, Darrell, "Dropout Reduces Underfitting", ICML 2023, where dropout lasts for 50 of 300
    epochs.
    """

    rate = Fixed(_check.number, 0, 1)
    fraction = Fixed(_check.number, 0, 1)
    linear = Fixed(_check.boolean)

    def __init__(self, rate, fraction, linear=False, total_steps=None):
        super().__init__(total_steps)
        self.rate = rate
        self.fraction = fraction
        self.linear = linear

    def at(self, share):
        if share >= self.fraction:
            return 0.0
        return self.rate * (1 - share / self.fraction) if self.linear else self.rate


class LateDropout(RunSchedule):
    """0 while share < fraction, rate afterwards; share: how much of the run is over, in [0, 1].

    ``rate`` in [0, 1], ``fraction`` in [0, 1] of the run, ``total_steps``: see ``RunSchedule``.  For nets that overfit:
    they first learn undisturbed.

    Source: Liu, Xu, Jin, Shen, Darrell, "Dropout Reduces Underfitting", ICML 2023, section 5.
    """

    rate = Fixed(_check.number, 0, 1)
    fraction = Fixed(_check.number, 0, 1)

    def __init__(self, rate, fraction, total_steps=None):
        super().__init__(total_steps)
        self.rate = rate
        self.fraction = fraction

    def at(self, share):
        return self.rate if share >= self.fraction else 0.0


class CurriculumDropout(RunSchedule):
    """rate (1 - exp(-gamma share)); share: how much of the run is over, in [0, 1].

    ``rate`` in [0, 1], ``gamma`` > 0, ``total_steps``: see ``RunSchedule``.  With 10, the paper's, half of the rate is
    reached after 7 % of the run, and all but 5e-5 of it at the end.

    Source: Morerio, Cavazza, Volpi, Vidal, Murino, "Curriculum Dropout", ICCV 2017, equation 1, whose theta are the
    fractions kept, and whose gamma is 10 / T for a run of T steps.
    """

    rate = Fixed(_check.number, 0, 1)
    gamma = Fixed(_check.number, 0, open_low=True)

    def __init__(self, rate, gamma=10.0, total_steps=None):
        super().__init__(total_steps)
        self.rate = rate
        self.gamma = gamma

    def at(self, share):
        return self.rate * -math.expm1(-self.gamma * share)


_KNOWN = (
    ExponentialDecay,
    CosineDecay,
    CosineDecayRestarts,
    InverseTimeDecay,
    LinearWarmup,
    OneCycleLR,
    PiecewiseConstantDecay,
    PolynomialDecay,
    StepLR,
    EarlyDropout,
    LateDropout,
    CurriculumDropout,
)
_CLASSES = {cls.__name__: cls for cls in _KNOWN}


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


def goes_by_run(schedule):
    """True for a schedule, or a number, that only ``fit`` can place: a ``RunSchedule`` without ``total_steps``."""
    return isinstance(schedule, RunSchedule) and vars(schedule).get("total_steps") is None


def is_known(schedule):
    """False for a custom schedule, which no file can hold."""
    inner = getattr(schedule, "after_warmup_lr_sched", None)
    known = _CLASSES.get(type(schedule).__name__) is type(schedule)
    return known and (not isinstance(inner, Schedule) or is_known(inner))


def to_config(schedule):
    """{"name", "config"} for JSON."""
    return configured.to_config(schedule)


def from_config(where, config):
    """The Schedule that ``to_config`` wrote; ValueError or TypeError, beginning with ``where``, for anything else."""
    return configured.from_config(where, config, _CLASSES)
