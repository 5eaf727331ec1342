"""Precision, recall, F and areas under curves: metrics of classes that are no mean over samples, exact over an epoch.

Outputs (N,) or (N, 1) are one yes or no a sample, which counts as one class, "yes".  Of outputs (N, K) one class is
right; or, with ``multi_label=True``, each is a yes or no by itself, which a model that is compiled with the binary
cross-entropy says for itself.  The truth: class numbers (N,) or (N, 1), or one-hot rows (N, K); 0 and 1, in the shape
of the outputs, where they are a yes or no.

An output that is NaN makes the result NaN.  Samples of weight 0 do not count at all; weights below 0 are an error.
Weights are summed sample after sample: so nothing depends on how they came in batches.
"""

import math
from typing import Any

import numpy as np

from minicnn import _check, targets
from minicnn.losses import ROUNDING
from minicnn.metric import Metric, choice_or_none, named
from minicnn.settings import Fixed

AVERAGES = ("macro", "micro", "weighted")


def ratios(hits, support, predicted, share):
    """hits / (share support + (1 - share) predicted), element by element; 0 where that is 0/0.

    With a ``share`` of 0 the precision, of 1 the recall, of b^2 / (1 + b^2) the F score.
    """
    below = share * support + (1 - share) * predicted
    return np.divide(hits, below, out=np.zeros(len(hits)), where=below != 0)


def names_of(count, class_names):
    """The names of ``count`` outputs in the logs, numbers where they have none; None for a single one."""
    if count == 1:
        return None
    return list(class_names) if class_names is not None and len(class_names) == count else [*map(str, range(count))]


def _mean(values, by):
    total = math.fsum(by.tolist())
    return math.fsum((values * by).tolist()) / total if total else math.nan


class _OfClasses(Metric):
    """Takes apart what is true and what the model says of each class; ``_count`` sums it up."""

    average = Fixed(choice_or_none, AVERAGES)
    class_id = Fixed(_check.integer, 0, optional=True)
    multi_label = Fixed(_check.boolean)
    name = Fixed(named)
    better = "max"

    def __init__(self, name, average, class_id, multi_label):
        self.name, self.average, self.class_id, self.multi_label = name, average, class_id, multi_label
        super().__init__()

    def reset(self):
        self._samples, self._nan = 0, False

    def of_labels(self):
        config = self.get_config()
        return type(self)(**config | {"multi_label": True}) if "multi_label" in config else self

    def parts(self, shape, class_names=None):
        k = math.prod(shape)
        return names_of(k, class_names) if self._gives_array(k) else None

    def _gives_array(self, k):
        """Whether the result of k classes is a number for each of them."""
        return self.average is None and self.class_id is None and k > 1

    def _nothing(self, k):
        """The result where there is none."""
        return np.full(k, math.nan) if self._gives_array(k) else math.nan

    def require_shape(self, shape):
        where = type(self).__name__
        if len(shape) > 1 or shape == (0,):
            got = _check.Shown(f"shape {_check.batch_shape(shape)}")
            raise ValueError(_check.message(where, "outputs must have shape (N, classes), (N, 1) or (N,)", got))
        if self.class_id is not None:
            name = f"class_id of outputs of shape {_check.batch_shape(shape)}"
            _check.integer(where, name, self.class_id, 0, _width(shape) - 1)

    def check_targets(self, where, y, shape):
        self._truth(f"{where}: metric {self.name}", y, shape)

    def _truth(self, where, y, shape):
        """bool (N, K): whether each class is right."""
        n, k = shape[0], _width(shape[1:])
        if k == 1:
            return targets.labels(where, y, n, 2)[:, None] == 1
        if self.multi_label:
            y = targets.same_shape(where, shape, y)
            targets.reject(where, "y must be 0 or 1", y, (y != 0) & (y != 1))
            return y.astype(bool)
        try:
            return targets.class_numbers(where, y, n, k)[:, None] == np.arange(k)
        except ValueError as error:
            if np.shape(y) != shape:
                raise
            raise ValueError(f"{error}. Where each output is a yes or no by itself, say multi_label=True") from None

    def _take(self, outputs, y, weights, from_logits):
        where = type(self).__name__
        self.require_shape(outputs.shape[1:])
        truth = self._truth(where, y, outputs.shape)
        outputs = outputs.reshape(truth.shape)
        if weights is not None:
            targets.reject(where, "sample weights must be >= 0", weights, weights < 0)
            outputs, truth, weights = outputs[weights > 0], truth[weights > 0], weights[weights > 0]
        outputs = outputs if outputs.dtype.kind == "f" else outputs.astype(np.float64)
        self._samples += len(outputs)
        self._notice_nan(outputs)
        self._count(outputs, truth, weights, from_logits)

    def _notice_nan(self, values):
        self._nan = self._nan or bool(np.isnan(values).any())

    def _scores(self, outputs, from_logits, cut):
        """(scores, cut): probabilities p and a threshold, or log(p / (1 - p)) of both, which keeps apart what is near
        0 and 1."""
        classes = not self.multi_label and outputs.shape[1] > 1
        if cut is not None and from_logits:
            cut = math.log(cut / (1 - cut)) if 0 < cut < 1 else math.copysign(math.inf, cut - 0.5)
        if classes:
            outputs = (_odds if from_logits else _divided)(outputs)
            self._notice_nan(outputs)
        return outputs, cut

    def _count(self, outputs, truth, weights, from_logits):
        raise NotImplementedError


def _odds(z):
    """log(p / (1 - p)) = z_k - log(sum_j!=k exp(z_j)), float64, of the softmax p of logits (N, K)."""
    with np.errstate(all="ignore"):
        z = z.astype(np.float64)
        z -= z.max(1, keepdims=True)
        powers, first = np.exp(z), (np.arange(len(z)), z.argmax(1))
        others = powers.sum(1, keepdims=True) - powers
        powers[first] = 0
        others[first] = powers.sum(1)  # what was taken from the sum there may be all that matters of it
        return z - np.log(others)


def _divided(p):
    """Probabilities of classes (N, K) by their sum, where it is not 1: as the loss divides them."""
    with np.errstate(all="ignore"):
        total = p.sum(1, keepdims=True, dtype=np.float64)
        return p / np.where((np.abs(total - 1) > ROUNDING) & (total > 0), total, 1).astype(p.dtype)


def _width(shape):
    return shape[0] if shape else 1


# ---- of classes that are decided for ----


class _Decided(_OfClasses):
    """``ratios`` of what is said, of what is true and of what is both; a subclass has ``_share``, and the threshold
    ``_cut`` or None."""

    _share: Any = None
    _cut: Any = None

    def needs_from_logits(self, shape):
        return self._cut is not None or self.multi_label or _width(shape) == 1

    def reset(self):
        super().reset()
        self._sums = np.zeros((3, 0))

    def _count(self, outputs, truth, weights, from_logits):
        k = truth.shape[1]
        if self._cut is None and not self.multi_label and k > 1:
            said = outputs.argmax(1)[:, None] == np.arange(k) if len(outputs) else truth
        else:
            scores, cut = self._scores(outputs, from_logits, 0.5 if self._cut is None else self._cut)
            said = scores > cut
        before = self._sums if self._sums.size else np.zeros((3, k))
        counts = zip(before, (said & truth, truth, said), strict=True)
        self._sums = np.stack([_tallied(total, chosen, weights) for total, chosen in counts])

    def result(self):
        if self._nan or not self._samples:
            return self._nothing(self._sums.shape[1])
        hits, support, predicted = self._sums
        if self.average == "micro" and self.class_id is None:
            hits, support, predicted = self._sums.sum(1, keepdims=True)
        values = ratios(hits, support, predicted, self._share)
        if self.class_id is not None:
            return float(values[self.class_id])
        if self._gives_array(len(values)):
            return values
        by = support if self.average == "weighted" else (support + predicted > 0) | self.multi_label
        return _mean(values, by) if by.any() else 0.0


def _tallied(totals, chosen, weights):
    """The totals (K,) with the weights of the samples that are chosen (N, K), added one after the other."""
    rows, columns = np.nonzero(chosen)
    if weights is None:
        return totals + np.bincount(columns, minlength=len(totals))
    return np.bincount(np.append(np.arange(len(totals)), columns), np.append(totals, weights[rows]))


class FBetaScore(_Decided):
    """F_b = (1 + b^2) P R / (b^2 P + R), of the precision P and the recall R, as

    ::

        F_b = h / (s t + (1 - s) p),    s = b^2 / (1 + b^2)

    with the sums of weights of the samples that are of the class, t, that were taken for it, p, and that both are true
    of, h: the true positives.  0 where it is 0/0, such as the precision of a class that no sample was taken for.

    - ``average``: "macro" for the mean over the classes that occur in the truth or in the predictions, or over all
      of ``multi_label``, as in scikit-learn; "weighted" for that by t; "micro" for the h, t and p of all classes
      together; None for an array, of which the logs have ``name/class``.  Keras's default is None.
    - ``beta``: b > 0, how many times as much recall counts as precision.
    - ``threshold``: t in [0, 1], a class is said where its probability is above; several may be, or none.  None for
      the class with the largest output, as in "accuracy", and for 0.5 where outputs are a yes or no.  Logits are
      compared with log(t / (1 - t)), those of classes by their softmax.
    - ``class_id``: the value of this class alone, whatever the average is: scikit-learn's "binary" is class 1 of two.
    - ``multi_label``: each of several outputs is a yes or no by itself (head of this file).
    - ``name``: what logs call it.
    """

    beta = Fixed(_check.number, 0, open_low=True)
    threshold = Fixed(_check.number, 0, 1, optional=True)
    _cut = property(lambda self: self.threshold)
    _share = property(lambda self: self.beta**2 / (1 + self.beta**2) if self.beta < 1 else 1 / (1 + self.beta**-2.0))

    def __init__(self, average="macro", beta=1.0, threshold=None, name="fbeta_score", class_id=None, multi_label=False):
        self.beta, self.threshold = beta, threshold
        super().__init__(name, average, class_id, multi_label)


class F1Score(FBetaScore):
    """F_1 = 2 P R / (P + R), the harmonic mean of precision and recall: see ``FBetaScore``."""

    def __init__(self, average="macro", threshold=None, name="f1_score", class_id=None, multi_label=False):
        super().__init__(average, 1.0, threshold, name, class_id, multi_label)


class Precision(_Decided):
    """Of the samples that were taken for a class, the share that is of it, h / p: arguments as of ``FBetaScore``.

    Keras's counts all classes together, each said where its probability is above 0.5:
    ``Precision(thresholds=0.5, average="micro")``.
    """

    thresholds = Fixed(_check.number, 0, 1, optional=True)
    _cut = property(lambda self: self.thresholds)
    _share = 0.0

    def __init__(self, thresholds=None, class_id=None, name="precision", average="macro", multi_label=False):
        self.thresholds = thresholds
        super().__init__(name, average, class_id, multi_label)


class Recall(Precision):
    """Of the samples of a class, the share that was taken for it, h / t: arguments as of ``FBetaScore``.

    The macro average over classes that all occur is the balanced accuracy.
    """

    _share = 1.0

    def __init__(self, thresholds=None, class_id=None, name="recall", average="macro", multi_label=False):
        super().__init__(thresholds, class_id, name, average, multi_label)


# ---- of the order of the scores ----


def _curve(where, name, value):
    return _check.choice(where, name, value.upper() if isinstance(value, str) else value, ("ROC", "PR"))


class AUC(_OfClasses):
    """The area under the ROC curve, or the precision-recall curve, of each class against all others: exact, from the
    order of the scores s, without thresholds.  Over the samples i of the class and j of others, with weights w,

    ::

        ROC    sum_ij w_i w_j ([s_i > s_j] + [s_i = s_j] / 2) / sum_ij w_i w_j
        PR     sum_i w_i (precision where all scores >= s_i are taken for a yes) / sum_i w_i

    The first is how often a sample of the class has a higher score than another one, ties count half; the second is
    scikit-learn's average precision, sum (R_n - R_n-1) P_n.  Keras cuts both at 200 thresholds, and interpolates.

    Scores are the probabilities of the class; of logits of classes log(p / (1 - p)) of their softmax p, which has the
    same order.  All are kept until the epoch ends: 4 bytes a sample and class where outputs are float32, 8 where they
    are logits of classes, 1 for what is true, and 8 a sample for its weight.  It is not in the logs of single steps.

    - ``curve``: "ROC" or "PR".
    - ``average``: "macro" for the mean over the classes, "weighted" for that by the samples of each, "micro" for all
      pairs of a sample and a class together, None for an array, of which the logs have ``name/class``.  A class
      without samples has no area, and for ROC one without others; it is not in the average; NaN if none has.
    - ``name``, ``class_id``, ``multi_label``: as of ``FBetaScore``.

    Hanley and McNeil, "The Meaning and Use of the Area under a Receiver Operating Characteristic (ROC) Curve", 1982.
    """

    curve = Fixed(_curve)
    of_steps = False

    def __init__(self, curve="ROC", name="auc", average="macro", class_id=None, multi_label=False):
        self.curve = curve
        super().__init__(name, average, class_id, multi_label)

    def needs_from_logits(self, shape):
        return not self.multi_label and _width(shape) > 1

    def reset(self):
        super().reset()
        self._batches, self._weighted = [], False

    def _count(self, outputs, truth, weights, from_logits):
        scores, _ = self._scores(outputs, from_logits, None)
        self._weighted = self._weighted or weights is not None
        self._batches.append([scores.copy(), truth, np.ones(len(scores)) if weights is None else weights.copy()])

    def get_state(self):
        self._join()
        return super().get_state()

    def _join(self):
        if len(self._batches) > 1:
            self._batches = [[np.concatenate(parts) for parts in zip(*self._batches, strict=True)]]

    def result(self):
        self._join()
        if self._nan or not self._samples:
            return self._nothing(self._batches[0][0].shape[1] if self._batches else 1)
        scores, truth, weights = self._batches[0]
        if self.class_id is not None:
            scores, truth = scores[:, [self.class_id]], truth[:, [self.class_id]]
        elif self.average == "micro":
            weights = np.repeat(weights, scores.shape[1])
            scores, truth = scores.reshape(-1, 1), truth.reshape(-1, 1)
        weights = weights if self._weighted else None
        values = np.array([_area(self.curve, *columns, weights) for columns in zip(scores.T, truth.T, strict=True)])
        if self._gives_array(len(values)):
            return values
        there = ~np.isnan(values)
        by = np.array([math.fsum(weights[yes]) if self._weighted else yes.sum() for yes in truth.T])
        return _mean(values[there], (by if self.average == "weighted" else there)[there])


def _area(curve, scores, yes, weights):
    """The area of one class; NaN where there is none.  Without weights all sums are of whole numbers, and exact."""
    order = scores.argsort(kind="stable")[::-1]
    scores, yes = scores[order], yes[order]
    weights = np.ones(len(yes), np.int64) if weights is None else weights[order]
    ties = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))  # where another score begins, highest first
    said_yes, said_no = (np.add.reduceat(np.where(chosen, weights, 0), ties) for chosen in (yes, ~yes))
    tp, fp = said_yes.cumsum(), said_no.cumsum()
    if not tp[-1] or (curve == "ROC" and not fp[-1]):
        return math.nan
    if curve == "PR":
        return min(1.0, math.fsum(said_yes * (tp / (tp + fp))) / tp[-1].item())
    pairs = (said_yes * (2 * (fp[-1] - fp) + said_no)).sum()
    return min(1.0, max(0.0, pairs.item() / (2 * tp[-1].item() * fp[-1].item())))
