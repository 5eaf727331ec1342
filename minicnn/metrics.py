"""Metrics: how good the outputs of a model are, for people to read; nothing is trained by them.

A ``Metric`` sums over the batches of an epoch: ``reset()``, then ``update(outputs, y)`` for every batch, then
``result()``: the weighted mean over all samples seen.  A metric of one's own is a function
``(y_true, outputs) -> number``, the mean over the samples of a batch.  For arrays at hand there are the functions
``accuracy``, ``top_k_accuracy`` and ``confusion_matrix`` with scikit-learn's argument order, truth first.

Everywhere, N samples of K classes: the truth is class numbers (N,) or (N, 1), or one-hot rows (N, K), K >= 2.  Of equal
outputs the first counts as the larger one, as in ``argmax``.  An output that is NaN is never right.
"""

import math
import re

import numpy as np

from minicnn import _check, losses
from minicnn._ext import loss as kernels

__all__ = ["Accuracy", "Metric", "TopKAccuracy", "accuracy", "confusion_matrix", "get", "top_k_accuracy"]


class Metric:
    """The weighted mean of one number per sample.  ``name`` is what logs and History call it."""

    name = ""

    def __init__(self):
        self.reset()

    def reset(self):
        """Forgets all batches."""
        self._total = self._weight = 0.0

    def update(self, outputs, y, weights=None, from_logits=False):
        """Takes in a batch: outputs (N, ...), y as for the loss, weights (N,) as for the loss (ones if None), and
        whether the outputs are logits instead of probabilities.

        TypeError and ValueError as losses raise them.
        """
        where = type(self).__name__
        from_logits = _check.boolean(where, "from_logits", from_logits)
        outputs = _check.numeric_array(where, "outputs", outputs)
        if outputs.ndim == 0:
            raise ValueError(_check.message(where, "outputs must have a batch axis", _check.shape_of(outputs)))
        if weights is not None:
            weights = losses.sample_weights(where, weights, len(outputs))
        values = self._values(outputs, y, from_logits)
        if weights is None:
            self._total += float(np.count_nonzero(values)) if values.dtype == bool else math.fsum(values.tolist())
            self._weight += len(outputs)
        else:
            self._total += math.fsum((values * weights).tolist())
            self._weight += math.fsum(weights)

    def result(self):
        """The mean so far as a float; NaN before the first sample."""
        return self._total / self._weight if self._weight else math.nan

    def _values(self, outputs, y, from_logits):
        """One number for each sample, (N,)."""
        raise NotImplementedError(f"{type(self).__name__} has no _values(outputs, y, from_logits)")

    def __repr__(self):
        return f"<metric {self.name}>"


class Accuracy(Metric):
    """The share of samples whose class is right.

    ``outputs`` (N, K) with K >= 2: the class with the largest output; probabilities or logits.  ``outputs`` (N,) or
    (N, 1): class 1 where a probability is above 0.5, or a logit above 0, else class 0.  (For several yes-or-no outputs
    a sample, write a function that says what is to be right.)
    """

    name = "accuracy"

    def _values(self, outputs, y, from_logits):
        if outputs.ndim == 2 and outputs.shape[1] > 1:
            return _in_top("Accuracy", outputs, y, 1)
        outputs = _column("Accuracy", outputs)
        right = (outputs > (0 if from_logits else 0.5)) == losses.labels("Accuracy", y, len(outputs), 2)
        return right & ~np.isnan(outputs)


class TopKAccuracy(Metric):
    """The share of samples whose right class is among the k with the largest outputs; ``k`` >= 1.

    ``outputs`` (N, K), K >= max(k, 2): probabilities or logits.
    """

    def __init__(self, k=5):
        self.k = _check.integer("TopKAccuracy", "k", k, 1)
        self.name = f"top_{self.k}_accuracy"
        super().__init__()

    def _values(self, outputs, y, from_logits):
        return _in_top("TopKAccuracy", outputs, y, self.k)


class FunctionMetric(Metric):
    """A metric of one's own: ``function(y_true, outputs) -> number``, the mean over the samples of the batch.

    A batch counts with its number of samples, or with the sum of their weights.
    """

    def __init__(self, function):
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        super().__init__()

    def _values(self, outputs, y, from_logits):
        value = self.function(np.array(y), outputs.copy())  # what it gets is its to keep
        if np.ndim(value) != 0 or np.asarray(value).dtype.kind not in "biuf":
            raise TypeError(_check.message(f"metric {self.name}", "the value must be one number", _check.kind(value)))
        return np.full(len(outputs), float(value))


KERAS_NAMES = ("acc", "sparse_categorical_accuracy", "categorical_accuracy", "binary_accuracy")  # for Accuracy


def get(metric):
    """The Metric for a name ("accuracy", "top_5_accuracy" with any number, "top_k_accuracy" for k = 5), for a Metric,
    or for a function ``(y_true, outputs) -> number``.

    ValueError for a name that does not exist, TypeError for anything else.
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, type):
        fix = f"Did you mean {metric.__name__}()?" if issubclass(metric, Metric) else ""
        got = _check.Shown(f"the class {metric.__name__}")
        raise TypeError(_check.message("metrics.get", "a metric must be a name, a Metric or a function", got, fix))
    if callable(metric):
        return FunctionMetric(metric)
    top = re.fullmatch(r"top_(k|[1-9][0-9]{0,5})_accuracy", metric, re.ASCII) if isinstance(metric, str) else None
    if top:
        return TopKAccuracy() if top[1] == "k" else TopKAccuracy(int(top[1]))
    names = ("accuracy", *KERAS_NAMES, "top_k_accuracy", "top_5_accuracy")
    _check.choice("metrics.get", "a metric", metric, names)
    return Accuracy()


# ---- functions over arrays ----


def accuracy(y_true, y_pred):
    """The share of samples that are right, a float in [0, 1].

    ``y_pred``: class numbers (N,) or (N, 1), scores (N, K) of which the largest counts, or probabilities (N,) or (N, 1)
    of class 1, which counts above 0.5.
    """
    y_pred = _check.numeric_array("accuracy", "y_pred", y_pred)
    _at_least_one("accuracy", y_pred)
    if y_pred.ndim == 2 and y_pred.shape[1] > 1:
        return float(_in_top("accuracy", y_pred, y_true, 1).mean())
    predicted = _predicted("accuracy", y_pred)
    return float((losses.class_numbers("accuracy", y_true, len(predicted)) == predicted).mean())


def top_k_accuracy(y_true, y_pred, k=5):
    """The share of samples whose right class is among the ``k`` largest of their scores ``y_pred`` (N, K), a float."""
    k = _check.integer("top_k_accuracy", "k", k, 1)
    y_pred = _check.numeric_array("top_k_accuracy", "y_pred", y_pred)
    _at_least_one("top_k_accuracy", y_pred)
    return float(_in_top("top_k_accuracy", y_pred, y_true, k).mean())


def confusion_matrix(y_true, y_pred, classes=None):
    """How many samples of class i were taken for class j: an int64 array (classes, classes), rows the true classes.

    ``y_pred`` as for ``accuracy``.  ``classes``: how many there are; if None, as many as the scores have or as appear.
    ValueError if a class number does not fit.
    """
    where = "confusion_matrix"
    predicted = _predicted(where, y_pred)
    true = losses.class_numbers(where, y_true, len(predicted))
    if classes is None:
        widths = [np.shape(y)[1] for y in (y_true, y_pred) if np.ndim(y) == 2 and np.shape(y)[1] > 1]
        classes = max([1 + int(max(true.max(), predicted.max())), *widths])
    classes = _check.integer(where, "classes", classes, 1)
    for numbers in (true, predicted):
        losses.labels(where, numbers, None, classes)
    return np.bincount(true * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def _in_top(where, outputs, y, k):
    """bool (N,): fewer than k classes have an output that is larger than the right one's."""
    if outputs.ndim != 2 or outputs.shape[1] < max(k, 2):
        required = f"outputs must have shape (N, classes) with at least {max(k, 2)} classes"
        raise ValueError(_check.message(where, required, _check.shape_of(outputs)))
    labels = losses.class_numbers(where, y, *outputs.shape)
    right = np.empty(len(outputs), np.uint8)
    dtype = np.float32 if outputs.dtype == np.float32 else np.float64
    kernels.in_top(_check.contiguous(outputs, dtype), labels, k, right)
    return right.view(bool)


def _at_least_one(where, y_pred):
    if y_pred.ndim == 0 or y_pred.size == 0:
        raise ValueError(_check.message(where, "y_pred must hold at least one sample", _check.shape_of(y_pred)))


def _column(where, outputs):
    """(N,) from (N,) or (N, 1)."""
    if outputs.ndim == 2 and outputs.shape[1] == 1:
        outputs = outputs[:, 0]
    if outputs.ndim != 1:
        required = "outputs must have shape (N, classes), (N, 1) or (N,)"
        raise ValueError(_check.message(where, required, _check.shape_of(outputs)))
    return outputs


def _predicted(where, y_pred):
    """int64 class numbers (N,), N >= 1, from class numbers, scores or probabilities."""
    y_pred = _check.numeric_array(where, "y_pred", y_pred)
    _at_least_one(where, y_pred)
    if y_pred.ndim == 2 and y_pred.shape[1] > 1:
        return y_pred.argmax(1)
    y_pred = _column(where, y_pred)
    if y_pred.dtype.kind == "f" and ((y_pred >= 0) & (y_pred <= 1)).all():
        return (y_pred > 0.5).astype(np.int64)
    return losses.labels(where, y_pred)
