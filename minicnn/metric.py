"""What every metric is: an accumulator over the batches of an epoch (``metrics.py`` has them all)."""

import inspect
import math
from typing import Any

import numpy as np

from minicnn import _check, targets
from minicnn.configured import Configured
from minicnn.settings import Setting


def named(where, argument, name):
    """The check of the ``name`` of a metric."""
    if not isinstance(name, str) or not name:
        raise TypeError(_check.message(where, f"the {argument} of a metric must be a string", _check.kind(name)))
    return name


def choice_or_none(where, name, value, options):
    """The check of an argument that is one of the strings ``options``, or None where each output is to be alone."""
    return None if value is None else _check.choice(where, f"{name}, if it is not None,", value, options)


class Unknown:
    """The ``from_logits`` of a model that cannot know it: ValueError where it is used as True or False."""

    def __init__(self, reason):
        self.reason = reason

    def __bool__(self):
        raise ValueError(self.reason)


class Metric(Configured):
    """An accumulator: ``reset()``, then ``update(outputs, y)`` for every batch, then ``result()``, which is that of all
    samples together and not the mean of what the batches gave.

    A subclass of your own has these three methods, and gets what the model gets: outputs, targets, weights or None.

    ``name`` is what logs and History call it, the name of the class if it is empty.  ``better``: "max" or "min", which
    way is better; None, if a subclass does not say: then EarlyStopping and ModelCheckpoint need their ``mode``.
    ``of_steps``: whether ``result`` is quick enough for the logs of every step; else only those of an epoch have it.
    """

    name: Any = ""
    better: str | None = None
    of_steps = True

    def __init__(self):
        self.reset()

    def needs_from_logits(self, shape):
        """Whether the value depends on ``from_logits`` for outputs (N, *shape): where a model cannot know it, the
        metric is then refused before the first step instead of when it is computed."""
        return False

    def require_shape(self, shape):
        """ValueError, before the first step, if the metric does not exist for outputs (N, *shape)."""

    def check_targets(self, where, y, shape):
        """TypeError or ValueError, before the first step, for targets of which the metric cannot be computed; ``shape``
        (N, ...) is that of the outputs."""

    def of_labels(self):
        """This metric where each of several outputs is a yes or no by itself: itself, or one of the same name."""
        return self

    def parts(self, shape, class_names=None):
        """What the numbers of ``result()`` are called in the logs, ``name/part``, for outputs (N, *shape) of classes
        with these names; None where it is one number, called ``name``."""

    def reset(self):
        """Forgets all batches."""

    def update(self, outputs, y, weights=None, from_logits=False):
        """Takes in a batch: outputs (N, ...), y as for the loss, weights (N,) as for the loss (ones if None), and
        whether the outputs are logits instead of probabilities.

        TypeError and ValueError as losses raise them.
        """
        where = type(self).__name__
        if from_logits is not True and from_logits is not False and not isinstance(from_logits, Unknown):
            from_logits = _check.boolean(where, "from_logits", from_logits)
        outputs = _check.numeric_array(where, "outputs", outputs)
        if outputs.ndim == 0:
            raise ValueError(_check.message(where, "outputs must have a batch axis", _check.shape_of(outputs)))
        if weights is not None:
            weights = targets.sample_weights(where, weights, len(outputs))
        self._take(outputs, y, weights, from_logits)

    def _take(self, outputs, y, weights, from_logits):
        """``update`` of checked outputs and weights."""
        raise NotImplementedError(f"{type(self).__name__} has no update(outputs, y, weights, from_logits)")

    def result(self):
        """The number so far, or an array of numbers: see ``parts``.  NaN before the first sample, and as long as the
        weights sum to 0."""
        raise NotImplementedError(f"{type(self).__name__} has no result()")

    def get_state(self):
        """What has been taken in so far, for a training that goes on in the middle of an epoch: all attributes but the
        constructor's arguments.  One that is no number, text, array, list or dictionary needs a method of its own."""
        given = {*inspect.signature(type(self).__init__).parameters}
        given |= {name for name in vars(self) if isinstance(getattr(type(self), name, None), Setting)}
        return {name: value for name, value in vars(self).items() if name not in given}

    def set_state(self, state):
        """Takes what ``get_state`` gave."""
        vars(self).update(state)

    def __repr__(self):
        return f"<metric {self.name}>"


class PerSample(Metric):
    """sum_i w_i v_i / sum_i w_i: the weighted mean of what ``_values`` gives for every sample, one number or several.

    The sums are exact, so that the mean does not depend on how the samples came in batches.
    """

    def reset(self):
        self._totals, self._weight = [], []
        self._counted, self._right = 0, 0  # samples, and those of them with the value 1, of ``_count``

    def _take(self, outputs, y, weights, from_logits):
        right = self._count(outputs, y) if weights is None else None
        if right is not None:
            self._counted, self._right = self._counted + len(outputs), self._right + right
            return
        values = self._values(outputs, y, from_logits)
        columns = values[None] if values.ndim == 1 else values.T
        if weights is None and values.dtype == bool:
            columns = [[np.count_nonzero(column)] for column in columns]
        else:
            columns = (columns * (1.0 if weights is None else weights)).tolist()
        self._totals = added(self._totals, columns)
        self._weight = exactly(self._weight, [len(outputs)] if weights is None else weights.tolist())

    def result(self):
        """The mean so far, a float; or an array of means."""
        weight, totals = self._weight, self._totals or [[]]
        if self._counted:
            weight, totals = exactly(weight, [self._counted]), added(totals, [[self._right]])
        weight = rounded(weight)
        means = [rounded(total) / weight if weight else math.nan for total in totals]
        return means[0] if len(means) == 1 else np.array(means)

    def _count(self, outputs, y):
        """Of how many samples the value is 1, where it is one number, 1 or 0, and this can be told by one kernel; else
        None.  After every step of training, when nothing of Python's is in the caches, ``_values`` takes ten times as
        long."""

    def _values(self, outputs, y, from_logits):
        """One number for each sample, (N,), or K numbers, (N, K)."""
        raise NotImplementedError(f"{type(self).__name__} has no _values(outputs, y, from_logits)")


# ---- exact sums ----


def exactly(parts, values):
    """The sum of ``parts``, which an earlier call gave or [], and ``values`` without an error of rounding: as numbers,
    the sum rounded, the rest rounded, and so on; one number where it is not finite."""
    terms, found = [*parts, *values], []
    if {*map(type, terms)} == {int}:  # counts, in every step
        return [sum(terms)]
    while True:
        try:
            rest = math.fsum([*terms, *(-part for part in found)])
        except (OverflowError, ValueError):  # a sum that is too large, or infinities of both signs
            rest = sum(terms)
        if not math.isfinite(rest):
            return [rest]
        if not rest:
            return found
        found.append(rest)


def added(sums, columns):
    """``exactly``, for one list of values after the other; ``sums``: [] at first."""
    return [exactly(*pair) for pair in zip(sums or [[]] * len(columns), columns, strict=True)]


def rounded(parts):
    """What ``exactly`` gave as a float: the sum, rounded once."""
    return float(parts[0]) if parts else 0.0
