"""What the dropout family has in common: a rate.

Below it lies ``random.py``: random numbers that are a function of their place.
"""

import math
import warnings

import numpy as np

from minicnn import _check, schedules
from minicnn._ext import dropout
from minicnn.layers.random import Random
from minicnn.recording import each_time, empty
from minicnn.tree import walk

DECISIONS = 1 << 16  # values that the random number behind one decision can take
IN_RUN = ("place", "run")  # see Noise


def decisions(draw, shape):
    """The first decisions of a step, as many as an array of that shape has elements: True = kept."""
    threshold, size = int(draw[0]), math.prod(shape)
    if threshold in (0, DECISIONS):
        return np.full(shape, threshold == 0)
    words = np.empty(-(-size // 128) * 4, np.uint32)  # whole groups
    dropout.mask(words, draw)
    bits = np.unpackbits(words.astype("<u4").view(np.uint8), count=size, bitorder="little")
    return bits.astype(bool).reshape(shape)


class Noise(Random):
    """Random numbers with a rate: a base beside ``Layer`` for the dropout family.

    The layer calls ``_set_up_noise`` in its constructor, draws as ``Random`` says, and implements ``_factor(rate)``,
    the number in ``lot.scale``, and ``sample(x, lot)``.

    A rate that goes by the run (``schedules.RunSchedule``) needs more than the layer's step: then ``state`` has also
    ``place``, the number in the run of the next training forward, and ``run``, the steps of that run, 0 before the
    first.  So rates are known in evaluation as well, in copies, and in a model that was loaded.
    """

    _place = None  # (place, run) of the next step, while a Run goes on
    _constant = (None, None)  # (changes of the layer until then, the strength of a rate that is a number)

    def _set_up_noise(self, rate, seed):
        """Checks and stores the arguments that all have."""
        self.rate = rate
        self._set_up_random(seed)

    @property
    def rate(self):
        """The fraction dropped: a number in [0, 1], or a Schedule, a function from the layer's step to one, or from the
        share of the run (``schedules.RunSchedule``)."""
        return self._rate

    @rate.setter
    def rate(self, rate):
        if isinstance(rate, dict):
            rate = schedules.from_config(f"{type(self).__name__}: rate", rate)
        if not isinstance(rate, schedules.Schedule):
            rate = _check.number(type(self).__name__, "rate", rate, 0, 1)
        self.state.have(IN_RUN, schedules.goes_by_run(rate))
        self._rate = rate

    @property
    def current_rate(self):
        """The rate of the latest training forward; before the first one, the rate that it will have."""
        return self._rate_at(max(self.state["step"] - 1, 0))

    def _rate_at(self, step):
        if not isinstance(self._rate, schedules.Schedule):
            return self._rate
        where = f"{type(self).__name__}: {type(self._rate).__name__}"
        if not schedules.goes_by_run(self._rate):
            return schedules.rate_at(where, f"the rate of step {step}", self._rate, (step,), 1)
        place, run = (self.state[name] for name in IN_RUN)
        place = max(place - self.state["step"] + step, 0)
        share = min(place / run, 1.0) if run else 0.0
        return schedules.rate_at(where, f"the rate of step {place} of {run}", self._rate.at, (share,), 1)

    def follow(self, place):
        """Goes by ``place`` from now on, a list [number of the next step, steps of the run] that is kept up to date;
        None: by nothing.  Does not concern a rate that does not go by the run."""
        self._place = place

    def _begin_step(self, shape):
        if not schedules.goes_by_run(self._rate):
            super()._begin_step(shape)
            return
        if not self._repeats:
            if self._place is None:
                what = f"{type(self._rate).__name__} goes by the length of the run, which only fit knows"
                raise RuntimeError(f"{type(self).__name__}: rate: {what}. Elsewhere give it total_steps")
            self.state["place"], self.state["run"] = self._place
        before = self.state["step"]
        super()._begin_step(shape)
        self.state["place"] += self.state["step"] - before

    def __setstate__(self, state):
        super().__setstate__(state)
        self._place = None  # a copy does not take part in the fit that the original is in

    def get_config(self):
        config = super().get_config()
        if isinstance(self._rate, schedules.Schedule) and schedules.is_known(self._rate):
            config["rate"] = schedules.to_config(self._rate)
        return config

    def _strength_at(self, step):
        if isinstance(self._rate, schedules.Schedule):
            return self._strength(self._rate_at(step))
        if self._constant[0] != self._changes:  # also the mode, or what else a layer has, may have been set
            self._constant = self._changes, self._strength(self._rate)
        return self._constant[1]

    def _strength(self, rate):
        threshold = round(self._probability(rate) * DECISIONS)
        if 0 < rate < 1:
            threshold = min(max(threshold, 1), DECISIONS - 1)
        return threshold, self._factor(rate)

    def _probability(self, rate):
        """That a decision is to drop; 0 at rate 0 and 1 at rate 1."""
        return rate

    def _factor(self, rate):
        raise NotImplementedError(f"{type(self).__name__} has no _factor(rate)")


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

    @property
    def _inverted(self):
        """Whether training scales, and evaluation lets all pass."""
        return self.mode == "inverted"

    def _factor(self, rate):
        return 1 / (1 - rate) if self._inverted and rate < 1 else 1.0

    def _scaled(self, x):
        """x (1 - rate)"""
        each_time(self._settle_evaluation)
        y = empty(x.shape, x.dtype)
        dropout.scale(as_rows(x), self._kept_in_evaluation, as_rows(y))
        return y

    def _settle_evaluation(self):
        self._kept_in_evaluation[0] = 1 - self.current_rate


class Run:
    """Tells the noise in a model's layers where in its run a ``fit`` is; a context, around all of its steps."""

    def __init__(self, layers, epochs, steps):
        """``steps``: of an epoch."""
        self.noise = [layer for _, layer in walk(layers) if isinstance(layer, Noise)]
        self.steps, self.place, self.begun = steps, [0, epochs * steps], False

    def __enter__(self):
        for layer in self.noise:
            layer.follow(self.place)

    def __exit__(self, *error):
        for layer in self.noise:
            layer.follow(None)

    def begin_step(self, epoch, number):
        """The next training forward is that of step ``number`` of an epoch."""
        self.place[0] = epoch * self.steps + number
        if not self.begun:
            self.begun = True
            self._warn_of_another_run()

    def _warn_of_another_run(self):
        """Where a rate jumps because a run that is resumed has got another length."""
        place, run = self.place
        for layer in self.noise if place else ():
            before = layer.state.get("run", 0)
            if before not in (0, run):
                text = f"step {place} goes on with a run of {before} steps, which now has {run}"
                fix = "Give every fit of a run the same epochs, or its schedule total_steps"
                warnings.warn(f"Sequential.fit: {text}: the rate of {layer.name} may jump. {fix}", stacklevel=6)


def as_rows(x):
    """(N, ...) as (N, D)."""
    return x.reshape(len(x), x[:1].size)
