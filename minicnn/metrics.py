"""Metrics: how good the outputs of a model are, for people to read; nothing is trained by them.

A ``Metric`` is an accumulator over the batches of an epoch (``metric.py``): ``reset()``, then ``update(outputs, y)``
for every batch, then ``result()``, that of all samples together.  Most are weighted means over the samples; precision,
recall, F and areas under curves are none, and stand in ``scores.py``.

A custom metric is a function ``(y, outputs) -> number``, of which the mean over batches is taken, by their numbers of
samples; the order is that of scikit-learn and Keras, truth first, as for a custom loss (``losses.py``).  Only where the
names of its parameters say otherwise, ``(outputs, y)`` or ``(y_pred, y_true)``, it gets them in that order.  Or it is a
subclass of ``Metric``, and exact over an epoch.  For arrays there are the functions ``accuracy``, ``top_k_accuracy``,
``confusion_matrix`` and ``classification_report``, truth first as well.

What a loss computes a metric can, too: ``MeanLoss(loss)``, or a class with the name of the loss, or its name in
``compile(metrics=["mae"])``.

A metric says which way is better: ``better`` is "max", "min", or None where it does not say.  A function may have the
attribute too, ``f1.better = "max"``; callbacks that look for the best read it.

Everywhere, N samples of K classes: the truth is class numbers (N,) or (N, 1), or one-hot rows (N, K), K >= 2.  Of equal
outputs the first counts as the larger one, as in ``argmax``.  An output that is NaN is never right.
"""

import contextlib
import itertools
import math
import re
from typing import Any

import numpy as np

from minicnn import _check, configured, losses, targets
from minicnn._ext import loss as kernels
from minicnn.metric import Metric, PerSample, added, choice_or_none, exactly, named, rounded
from minicnn.notebook import ConfusionMatrix
from minicnn.scores import AUC, F1Score, FBetaScore, Precision, Recall, names_of, ratios
from minicnn.settings import Closed, Fixed

__all__ = [
    "AUC",
    "Accuracy",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "F1Score",
    "FBetaScore",
    "Hinge",
    "KLDivergence",
    "LogCoshError",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanLoss",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Metric",
    "PerSample",
    "Poisson",
    "Precision",
    "R2Score",
    "Recall",
    "RootMeanSquaredError",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "SquaredHinge",
    "TopKAccuracy",
    "TopKCategoricalAccuracy",
    "accuracy",
    "all_log_names",
    "better",
    "classification_report",
    "confusion_matrix",
    "from_config",
    "get",
    "log_names",
    "to_config",
    "top_k_accuracy",
]


class Accuracy(PerSample):
    """The share of samples whose class is right.

    ``outputs`` (N, K) with K >= 2: the class with the largest output; probabilities or logits.  ``outputs`` (N,) or
    (N, 1): class 1 where a probability is above 0.5, or a logit above 0, else class 0.  ``name``: what logs call it.

    Several yes-or-no outputs a sample look like classes.  A model that is compiled with the binary cross-entropy knows
    better and computes ``BinaryAccuracy`` of them instead of this class, under its name.
    """

    name = Fixed(named)
    better = "max"

    def __init__(self, name="accuracy"):
        self.name = name
        super().__init__()

    def needs_from_logits(self, shape):
        return len(shape) != 1 or shape[0] == 1

    def of_labels(self):
        return BinaryAccuracy(self.name) if type(self) is Accuracy else self

    def require_shape(self, shape):
        if len(shape) > 1:
            _column("Accuracy", np.empty((0, *shape)))

    def _count(self, outputs, y):
        if outputs.ndim != 2 or outputs.shape[1] == 1 or getattr(y, "ndim", 0) != 1:
            return None
        try:
            return kernels.in_top(outputs, y, 1)
        except (TypeError, ValueError):  # other dtypes, or labels that are no classes: ``_values`` sees to them
            return None

    def _values(self, outputs, y, from_logits):
        if outputs.ndim == 2 and outputs.shape[1] > 1:
            return _in_top("Accuracy", outputs, y, 1)
        outputs = _column("Accuracy", outputs)
        right = (outputs > (0 if from_logits else 0.5)) == targets.labels("Accuracy", y, len(outputs), 2)
        return right & ~np.isnan(outputs)


class CategoricalAccuracy(Accuracy):
    """Accuracy that is always one of classes: of ``outputs`` (N, K), K >= 2, with a binary cross-entropy as well."""

    def __init__(self, name="categorical_accuracy"):
        super().__init__(name)


class SparseCategoricalAccuracy(CategoricalAccuracy):
    """CategoricalAccuracy under its other name in Keras; both take class numbers and one-hot rows."""

    def __init__(self, name="sparse_categorical_accuracy"):
        super().__init__(name)


class BinaryAccuracy(PerSample):
    """The share of yes-or-no outputs that are right, over all outputs of all samples, as in Keras.

    ``outputs`` (N, ...), each a yes where a probability is above 0.5, or a logit above 0; ``y`` of the same shape, 0 or
    1; a last axis of 1 may be left out.  The outputs of a sample count equally, the samples by their weights.
    ``name``: what logs call it.
    """

    name = Fixed(named)
    better = "max"

    def __init__(self, name="binary_accuracy"):
        self.name = name
        super().__init__()

    def needs_from_logits(self, shape):
        return True

    def _values(self, outputs, y, from_logits):
        outputs = outputs if outputs.dtype.kind == "f" else outputs.astype(np.float64)
        y = targets.like_outputs("BinaryAccuracy", outputs, y)
        if not ((y == 0) | (y == 1)).all():
            wrong = y[(y != 0) & (y != 1)].flat[0]
            raise ValueError(_check.message("BinaryAccuracy", "y must be 0 or 1", float(wrong)))
        right = ((outputs > (0 if from_logits else 0.5)) == y.astype(bool)) & ~np.isnan(outputs)
        return right if right.ndim == 1 else right.reshape(len(right), -1).mean(1)


class TopKAccuracy(PerSample):
    """The share of samples whose right class is among the k with the largest outputs; ``k`` >= 1.

    ``outputs`` (N, K), K >= max(k, 2): probabilities or logits.  ``name``: what logs call it, None for "top_5_accuracy"
    with the number k.
    """

    k = Fixed(_check.integer, 1)
    name = Fixed(named)
    better = "max"

    def __init__(self, k=5, name=None):
        self.k = k
        self.name = f"top_{self.k}_accuracy" if name is None else name
        super().__init__()

    def require_shape(self, shape):
        _require_classes("TopKAccuracy", np.empty((0, *shape)), self.k)

    def _values(self, outputs, y, from_logits):
        return _in_top("TopKAccuracy", outputs, y, self.k)


class TopKCategoricalAccuracy(TopKAccuracy):
    """TopKAccuracy under its name in Keras."""

    def __init__(self, k=5, name="top_k_categorical_accuracy"):
        super().__init__(k, name)


class SparseTopKCategoricalAccuracy(TopKAccuracy):
    """TopKAccuracy under its other name in Keras; both take class numbers and one-hot rows."""

    def __init__(self, k=5, name="sparse_top_k_categorical_accuracy"):
        super().__init__(k, name)


# ---- what a loss computes ----


def _a_loss(where, name, loss):
    loss = losses.get(loss)
    if losses.to_config(loss) is None:
        required = f"{name} must be one of minicnn's losses"
        raise TypeError(_check.message(where, required, loss, "A custom metric is a function (y, outputs) -> number"))
    return loss


class MeanLoss(PerSample):
    """The mean of a loss over the samples seen, whatever the model is trained with.

    ``loss``: a name or a Loss (``losses.py``), whose formula, targets and arguments are those of the metric.  ``name``:
    what logs call it, None for the loss's name.  Where the loss asks whether outputs are logits and its own
    ``from_logits`` is "auto", the model says it.
    """

    loss = Fixed(_a_loss)
    name = Fixed(named)
    better = "min"

    def __init__(self, loss, name=None):
        self.loss = loss
        self.name = self.loss.name if name is None else name
        super().__init__()

    def needs_from_logits(self, shape):
        return self.loss.needs_from_logits and self.loss.from_logits == "auto"

    def check_targets(self, where, y, shape):
        self.loss.check_targets(f"{where}: metric {self.name}", y, shape)

    def _values(self, outputs, y, from_logits):
        if not self.loss.needs_from_logits:
            from_logits = False
        elif self.loss.from_logits != "auto":
            from_logits = self.loss.from_logits
        return self.loss.of_samples(outputs, y, bool(from_logits))


class _Named(MeanLoss):
    """A loss of the same formula without arguments, or with its default ones."""

    _of: Any = None

    def __init__(self, name=None):
        super().__init__(self._of(), name)


class _OfOutputs(_Named):
    """A mean over samples and their outputs; ``average``: "macro", or None for an array with that of each output."""

    average = Fixed(choice_or_none, ("macro",))

    def __init__(self, name=None, average="macro"):
        self.average = average
        super().__init__(name)

    def parts(self, shape, class_names=None):
        return names_of(math.prod(shape), class_names) if self.average is None else None

    def _values(self, outputs, y, from_logits):
        n = len(outputs)
        if self.average is not None or outputs.size == n:
            return super()._values(outputs, y, from_logits)
        y = targets.same_shape(type(self).__name__, outputs.shape, y).reshape(n, -1)
        columns = zip(outputs.reshape(n, -1).T, y.T, strict=True)
        return np.stack([super(_OfOutputs, self)._values(*column, from_logits) for column in columns], 1)


class MeanSquaredError(_OfOutputs):
    """The mean of ``losses.MeanSquaredError``."""

    _of = losses.MeanSquaredError


class RootMeanSquaredError(_OfOutputs):
    """The square root of the mean of ``losses.MeanSquaredError``, over all samples seen and their outputs; with
    ``average=None`` of each output by itself."""

    _of = losses.MeanSquaredError

    def __init__(self, name="root_mean_squared_error", average="macro"):
        super().__init__(name, average)

    def result(self):
        with np.errstate(invalid="ignore"):  # weights may be negative
            root = np.sqrt(super().result())
        return root if root.ndim else float(root)


class MeanAbsoluteError(_OfOutputs):
    """The mean of ``losses.MeanAbsoluteError``."""

    _of = losses.MeanAbsoluteError


class R2Score(Metric):
    """R^2 = 1 - sum_i w_i (y_i - o_i)^2 / sum_i w_i (y_i - m)^2 of each output o, with m the weighted mean of its
    targets y: the share of their variance that is explained; 1 is perfect, 0 is as good as saying m always.

    Targets that are all equal give 1 where the outputs are, too, else 0; fewer than two samples NaN.

    - ``class_aggregation``: "uniform_average" for the mean over the outputs, "variance_weighted_average" for that by
      the variances of their targets, None for an array.
    - ``name``: what logs call it.

    As in scikit-learn, and in Keras but for targets that are all equal.
    """

    class_aggregation = Fixed(choice_or_none, ("uniform_average", "variance_weighted_average"))
    name = Fixed(named)
    better = "max"

    def __init__(self, class_aggregation="uniform_average", name="r2_score"):
        self.class_aggregation = class_aggregation
        self.name = name
        super().__init__()

    def parts(self, shape, class_names=None):
        return names_of(math.prod(shape), class_names) if self.class_aggregation is None else None

    def check_targets(self, where, y, shape):
        targets.same_shape(f"{where}: metric {self.name}", shape, y)

    def reset(self):
        self._samples, self._origin, self._weight, self._sums = 0, None, [], []

    def _take(self, outputs, y, weights, from_logits):
        outputs = outputs.astype(np.float64)
        y = targets.like_outputs("R2Score", outputs, y)
        weights = np.ones(len(outputs)) if weights is None else weights
        targets.reject("R2Score", "sample weights must be >= 0", weights, weights < 0)
        flat, chosen = (len(outputs), math.prod(outputs.shape[1:])), weights > 0
        outputs, y, weights = outputs.reshape(flat)[chosen], y.reshape(flat)[chosen], weights[chosen]
        if self._origin is None and len(y):
            self._origin = y[0].copy()  # sums of squares are taken from here: those of large numbers would cancel
        d = y if self._origin is None else y - self._origin
        columns = np.concatenate([d, d * d, (y - outputs) ** 2], 1) * weights[:, None]
        self._samples += len(outputs)
        self._weight = exactly(self._weight, weights.tolist())
        self._sums = added(self._sums, columns.T.tolist())

    def result(self):
        weight = rounded(self._weight)
        if self._samples < 2 or not weight:
            values = np.full(max(1, len(self._sums) // 3), np.nan)
            spread = np.ones(len(values))
        else:
            first, second, errors = np.reshape([rounded(parts) for parts in self._sums], (3, -1))
            spread = second - first * first / weight
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.where(spread == 0, np.where(errors == 0, 1.0, errors * 0), 1 - errors / spread)
        if self.class_aggregation is None:
            return values if len(values) > 1 else float(values[0])
        by = spread if self.class_aggregation == "variance_weighted_average" and spread.any() else np.ones(len(values))
        return math.fsum((values * by).tolist()) / math.fsum(by.tolist())


class MeanAbsolutePercentageError(_Named):
    """The mean of ``losses.MeanAbsolutePercentageError``."""

    _of = losses.MeanAbsolutePercentageError


class MeanSquaredLogarithmicError(_Named):
    """The mean of ``losses.MeanSquaredLogarithmicError``."""

    _of = losses.MeanSquaredLogarithmicError


class LogCoshError(_Named):
    """The mean of ``losses.LogCosh``."""

    _of = losses.LogCosh

    def __init__(self, name="logcosh"):
        super().__init__(name)


class Poisson(_Named):
    """The mean of ``losses.Poisson``."""

    _of = losses.Poisson


class KLDivergence(_Named):
    """The mean of ``losses.KLDivergence``."""

    _of = losses.KLDivergence


class Hinge(_Named):
    """The mean of ``losses.Hinge``."""

    _of = losses.Hinge


class SquaredHinge(_Named):
    """The mean of ``losses.SquaredHinge``."""

    _of = losses.SquaredHinge


class CategoricalHinge(_Named):
    """The mean of ``losses.CategoricalHinge``."""

    _of = losses.CategoricalHinge


class CosineSimilarity(_Named):
    """The mean cosine of the angle between outputs and targets, 1 where they have one direction: as in Keras that is
    *minus* the loss of this name.  ``axis``: -1 or 1, which are the same."""

    better = "max"

    def __init__(self, name="cosine_similarity", axis=-1):
        MeanLoss.__init__(self, losses.CosineSimilarity(axis), name)

    axis = property(lambda self: self.loss.axis)

    def _values(self, outputs, y, from_logits):
        return -super()._values(outputs, y, from_logits)


class _OfCrossentropy(MeanLoss):
    """The mean of a cross-entropy; ``from_logits``, ``label_smoothing``: those of the loss."""

    _of: Any = None

    def __init__(self, name=None, from_logits="auto", label_smoothing=0.0):
        super().__init__(self._of(label_smoothing=label_smoothing, from_logits=from_logits), name)

    from_logits = property(lambda self: self.loss.from_logits)
    label_smoothing = property(lambda self: self.loss.label_smoothing)


class BinaryCrossentropy(_OfCrossentropy):
    """The mean of ``losses.BinaryCrossentropy``, with its arguments."""

    _of = losses.BinaryCrossentropy


class CategoricalCrossentropy(_OfCrossentropy):
    """The mean of ``losses.CategoricalCrossentropy``, with its arguments."""

    _of = losses.CategoricalCrossentropy


class SparseCategoricalCrossentropy(_OfCrossentropy):
    """The mean of ``losses.SparseCategoricalCrossentropy``, with its arguments."""

    _of = losses.SparseCategoricalCrossentropy


# ---- custom ones, and by name ----


def _better(function):
    """What a function says of itself."""
    said = losses.attribute(function, "better", None)
    if said not in ("max", "min", None):
        where = f"metric {losses.function_name(function)}"
        raise ValueError(_check.message(where, "better must be 'max', 'min' or None", said))
    return said


class FunctionMetric(PerSample):
    """A custom metric: ``function(y, outputs) -> number``, the mean over the samples of the batch.

    A batch counts with its number of samples, or with the sum of their weights.  Parameters that are named the other
    way round, ``(y_pred, y_true)``, get what their names say.
    """

    function = Fixed(_check.anything)
    name = property(lambda self: losses.function_name(self.function))
    better: Any = property(lambda self: _better(self.function))

    def __init__(self, function):
        self.function = function
        self._outputs_first = losses.surely_outputs_first(function)
        _better(function)  # raises if it is not valid
        super().__init__()

    def _values(self, outputs, y, from_logits):
        given = np.array(y), outputs.copy()  # the function may keep and change what it gets
        value = self.function(*(given[::-1] if self._outputs_first else given))
        if np.ndim(value) != 0 or np.asarray(value).dtype.kind not in "biuf":
            raise TypeError(_check.message(f"metric {self.name}", "the value must be one number", _check.kind(value)))
        return np.full(len(outputs), float(value))


# The classes that files name, and that of each word for metrics; then come the words for losses.
CLASSES = {
    cls.__name__: cls
    for cls in (
        Accuracy,
        BinaryAccuracy,
        CategoricalAccuracy,
        SparseCategoricalAccuracy,
        TopKAccuracy,
        TopKCategoricalAccuracy,
        SparseTopKCategoricalAccuracy,
        Precision,
        Recall,
        F1Score,
        FBetaScore,
        AUC,
        R2Score,
        MeanLoss,
        MeanSquaredError,
        RootMeanSquaredError,
        MeanAbsoluteError,
        MeanAbsolutePercentageError,
        MeanSquaredLogarithmicError,
        LogCoshError,
        Poisson,
        KLDivergence,
        Hinge,
        SquaredHinge,
        CategoricalHinge,
        CosineSimilarity,
        BinaryCrossentropy,
        CategoricalCrossentropy,
        SparseCategoricalCrossentropy,
    )
}
_WORDS: dict[str, Any] = {
    "accuracy": Accuracy,
    "acc": Accuracy,
    "binary_accuracy": BinaryAccuracy,
    "categorical_accuracy": CategoricalAccuracy,
    "sparse_categorical_accuracy": SparseCategoricalAccuracy,
    "top_k_accuracy": TopKAccuracy,
    "top_k_categorical_accuracy": TopKCategoricalAccuracy,
    "sparse_top_k_categorical_accuracy": SparseTopKCategoricalAccuracy,
    "precision": Precision,
    "recall": Recall,
    "f1": F1Score,
    "f1_score": F1Score,
    "fbeta_score": FBetaScore,
    "auc": AUC,
    "r2_score": R2Score,
    "root_mean_squared_error": RootMeanSquaredError,
    "rmse": RootMeanSquaredError,
    "cosine_similarity": CosineSimilarity,
    "log_cosh_error": LogCoshError,
}
_UNLISTED = {"RMSE": RootMeanSquaredError} | {name: cls for name, cls in CLASSES.items() if cls is not MeanLoss}


def get(metric):
    """The Metric for a name, for a Metric, for a Loss (``MeanLoss``), or for a function ``(y, outputs) -> number``.

    A name is "accuracy" or "acc"; "top_k_accuracy" for k = 5, "top_3_accuracy" with any number; "rmse"; a name of
    ``losses.get``, such as "mae"; or that of a class of this module, as it is or in small letters with underscores.
    The metric is logged under the name that was given.

    ValueError for a name that does not exist, TypeError for anything else.
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, losses.Loss):
        return MeanLoss(metric)
    if isinstance(metric, type):
        fix = f"Did you mean {metric.__name__}()?" if issubclass(metric, Metric | losses.Loss) else ""
        got = _check.Shown(f"the class {metric.__name__}")
        raise TypeError(_check.message("metrics.get", "a metric must be a name, a Metric or a function", got, fix))
    if callable(metric) and not isinstance(metric, Closed):  # such as a regulariser
        return FunctionMetric(metric)
    top = re.fullmatch(r"top_([1-9][0-9]{0,5})_accuracy", metric, re.ASCII) if isinstance(metric, str) else None
    if top:
        return TopKAccuracy(int(top[1]), metric)
    cls = (_WORDS | _UNLISTED).get(metric) if isinstance(metric, str) else None
    if cls is not None:
        return cls(name=metric)
    if isinstance(metric, str) and metric in losses.NAMES:
        return MeanLoss(metric, metric)
    listed = dict.fromkeys(["accuracy", "acc", "top_5_accuracy", *_WORDS, *losses.LISTED])
    return _check.choice("metrics.get", "a metric", metric, tuple(listed), 10)


def to_config(metric):
    """What a file holds of a metric: the name for which ``get`` gives one that is equal, or {"name": its class,
    "config": its arguments}; None for a custom one, which no file can hold."""
    if CLASSES.get(type(metric).__name__) is not type(metric):
        return None
    config = _arguments(metric)
    with contextlib.suppress(ValueError):  # most names that are given are no name of ``get``
        twin = get(metric.name)
        if type(twin) is type(metric) and _arguments(twin) == config:
            return metric.name
    return {"name": type(metric).__name__, "config": config}


def _arguments(metric):
    config = metric.get_config()
    return config | {"loss": losses.to_config(metric.loss)} if type(metric) is MeanLoss else config


def from_config(config):
    """The Metric that ``to_config`` described; ValueError or TypeError for anything else."""
    if isinstance(config, str):
        return get(config)
    return configured.from_config("metrics.from_config", config, CLASSES, _made)


def _made(cls, arguments):
    if cls is MeanLoss and "loss" in arguments:
        arguments = arguments | {"loss": losses.from_config(arguments["loss"])}
    return cls(**arguments)


# ---- what they are called, and which way is better ----

# What others write into the logs: fit, LearningRateScheduler, ModelCheckpoint and CSVLogger; and with these beginnings
# fit's evaluations and WeightNorms.
TAKEN = ("loss", "epoch", "learning_rate")
TAKEN_BEGINNINGS = ("val_", "clean_", "norm/")


def log_names(metrics):
    """The name of each of the ``metrics`` in the logs; of equal names the second gets ``_1`` and so on, as in Keras, so
    that no two are the same.  A metric of several numbers has them as ``name/part`` (``all_log_names``).

    ValueError for a name that would overwrite another log, such as "loss".
    """
    names = [metric.name or type(metric).__name__ for metric in metrics]
    for name in names:
        named("Sequential.compile", "name", name)
        if name in TAKEN or name.startswith(TAKEN_BEGINNINGS):
            required = (
                f"a metric cannot be called {', '.join(TAKEN)} or {'..., '.join(TAKEN_BEGINNINGS)}... in the logs"
            )
            raise ValueError(_check.message("Sequential.compile", required, name, "Give it another name"))
    found = []
    for name in names:
        number = itertools.count(1)
        free = name
        while free in found or (free != name and free in names):
            free = f"{name}_{next(number)}"
        found.append(free)
    return found


def all_log_names(metrics, shape, class_names=None):
    """A list for each of the ``metrics``, with the names of its numbers in the logs, for outputs (N, *shape) of classes
    with these names; ``shape``: None where it is not known, and every metric has one name."""
    found = []
    for metric, name in zip(metrics, log_names(metrics), strict=True):
        parts = None if shape is None else metric.parts(shape, class_names)
        found.append([name] if parts is None else [f"{name}/{part}" for part in parts])
    flat = [name for names in found for name in names]
    if len({*flat}) < len(flat):
        twice = next(name for name in flat if flat.count(name) > 1)
        raise ValueError(_check.message("Sequential.compile", "no two logs may have one name", twice))
    return found


def better(name, metrics=()):
    """Which way the log ``name`` is better, as that one of the ``metrics`` says, or else the name alone: "min" for a
    loss, "max" for a name of ``get``, else None.  The beginnings val_ and clean_ do not count."""
    name = name.removeprefix("val_").removeprefix("clean_")
    for metric, called in zip(metrics, log_names(metrics), strict=True):
        if (name == called or name.startswith(f"{called}/")) and metric.better is not None:
            return metric.better
    if name == "loss" or name.endswith("_loss"):
        return "min"
    try:
        return get(name.partition("/")[0]).better
    except ValueError:
        return None


def get_all(where, name, metrics):
    """A list of Metric objects for one of what ``get`` takes, a list of them, or None: the check of a setting."""
    if isinstance(metrics, str | Metric | losses.Loss) or callable(metrics):
        metrics = [metrics]
    if metrics is not None and not isinstance(metrics, list | tuple):
        raise TypeError(_check.message(where, f"{name} must be a list of metrics", _check.kind(metrics)))
    found = [get(metric) for metric in metrics or []]
    log_names(found)  # raises where one of them cannot be logged
    return found


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
    return float((targets.class_numbers("accuracy", y_true, len(predicted)) == predicted).mean())


def top_k_accuracy(y_true, y_pred, k=5):
    """The share of samples whose right class is among the ``k`` largest of their scores ``y_pred`` (N, K), a float."""
    k = _check.integer("top_k_accuracy", "k", k, 1)
    y_pred = _check.numeric_array("top_k_accuracy", "y_pred", y_pred)
    _at_least_one("top_k_accuracy", y_pred)
    return float(_in_top("top_k_accuracy", y_pred, y_true, k).mean())


def confusion_matrix(y_true, y_pred, classes=None, sample_weight=None):
    """How many samples of class i were taken for class j: an int64 array (classes, classes), rows the true classes.

    ``y_pred`` as for ``accuracy``.  ``classes``: how many there are; if None, as many as the scores have or as appear.
    Or their names in the order of their numbers, such as ``model.class_names``: then y_true and y_pred may be names.
    ``sample_weight`` (N,): the weights of the samples are summed instead, in float64.
    ValueError if a class number or a name does not fit.  ``plot.confusion_matrix`` draws it.
    """
    where = "confusion_matrix"
    if isinstance(classes, list | tuple | np.ndarray):
        names = _check.class_names(where, "classes", classes)
        y_true, y_pred = (_numbered(where, y, names) for y in (y_true, y_pred))
        classes = len(names)
    predicted = _predicted(where, y_pred)
    true = targets.class_numbers(where, y_true, len(predicted))
    if classes is None:
        widths = [np.shape(y)[1] for y in (y_true, y_pred) if np.ndim(y) == 2 and np.shape(y)[1] > 1]
        classes = max([1 + int(max(true.max(), predicted.max())), *widths])
    classes = _check.integer(where, "classes", classes, 1)
    for numbers in (true, predicted):
        targets.labels(where, numbers, None, classes)
    weights = None if sample_weight is None else targets.sample_weights(where, sample_weight, len(true))
    counts = np.bincount(true * classes + predicted, weights, classes * classes)
    return counts.reshape(classes, classes).view(ConfusionMatrix)


def classification_report(
    y_true, y_pred, class_names=None, digits=2, output_dict=False, sample_weight=None, multi_label=False
):
    """Precision, recall, F1 and the number of samples of every class as a text table: scikit-learn's.

    ``y_true``, ``y_pred``, ``sample_weight``: as for ``confusion_matrix``.  ``class_names``: the names in the order of
    the numbers, such as ``model.class_names``, each of which gets a row; None for the classes that occur, by their
    numbers or, where y_true and y_pred are names, in alphabetical order.  ``digits``: after the point.
    ``output_dict``: the numbers instead, {class: {"precision": ..., "recall": ..., "f1-score": ..., "support": ...}},
    and so for "macro avg" and "weighted avg", and "accuracy", which is a number.

    ``multi_label``: each of K outputs is a yes or no by itself; y_true (N, K) is 0 and 1, y_pred (N, K) is, too, or
    probabilities, a yes above 0.5.  Every output has a row, and there are "micro avg", of all outputs together, and
    "samples avg", the mean over the samples, instead of the accuracy.

    What would be 0/0 is 0: the precision of a class that was never predicted, the recall of one without a sample.
    Averages are over the classes that occur in y_true or y_pred, or over all outputs of ``multi_label``.
    """
    where = "classification_report"
    digits = _check.integer(where, "digits", digits, 0)
    output_dict = _check.boolean(where, "output_dict", output_dict)
    if _check.boolean(where, "multi_label", multi_label):
        names, shown, counts, means, accuracy = _report_of_labels(y_true, y_pred, class_names, sample_weight)
        occur = np.ones(len(names), bool)
    else:
        words = [np.ravel(y) for y in (y_true, y_pred) if np.asarray(y).dtype.kind in "US"]
        names = class_names
        if class_names is None and len(words) == 2:
            names = np.unique(np.concatenate(words)).tolist()
        try:
            matrix = np.asarray(confusion_matrix(y_true, y_pred, names, sample_weight))
        except ValueError as error:
            if np.ndim(y_true) < 2 or np.shape(y_true) != np.shape(y_pred):
                raise
            raise ValueError(f"{error}. Where each output is a yes or no by itself, say multi_label=True") from None
        counts = hits, support, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        occur = support + predicted > 0
        names = [str(k) for k in range(len(matrix))] if names is None else names
        shown = range(len(names)) if class_names is not None else np.flatnonzero(occur)
        means, accuracy = {}, float(hits.sum() / (support.sum() or 1))
    if sample_weight is not None and (np.min(sample_weight) < 0 or not np.any(sample_weight)):
        required = "sample weights must be >= 0, and not all of them 0"
        raise ValueError(_check.message(where, required, np.min(sample_weight).item()))
    support, columns = counts[1], [ratios(*counts, share) for share in (0, 1, 0.5)]
    rows = {str(names[k]): [*(float(column[k]) for column in columns), support[k].item()] for k in shown}
    by = {"macro avg": occur, "weighted avg": support if support.any() else occur}
    means |= {name: [float(np.average(column, weights=weights)) for column in columns] for name, weights in by.items()}
    means = {name: [*means[name], support.sum().item()] for name in sorted(means, key=AVERAGES.index)}
    if not output_dict:
        return _table(rows, accuracy, means, digits)
    if rows.keys() & {"accuracy", *means}:
        required = f"no class may be called accuracy, {' or '.join(means)} where output_dict=True"
        raise ValueError(_check.message(where, required, [*rows]))
    keys = ("precision", "recall", "f1-score", "support")
    named_rows = {name: dict(zip(keys, row, strict=True)) for name, row in (rows | means).items()}
    last = {name: named_rows.pop(name) for name in means}
    return named_rows | ({} if accuracy is None else {"accuracy": accuracy}) | last


AVERAGES = ("micro avg", "macro avg", "weighted avg", "samples avg")  # of a report


def _report_of_labels(y_true, y_pred, class_names, sample_weight):
    """(names, rows that are shown, (hits, support, predicted), averages, None for the accuracy), for a report of
    outputs that are a yes or no each."""
    where = "classification_report"
    said = _check.numeric_array(where, "y_pred", y_pred)
    if said.ndim != 2 or not said.size:
        required = "with multi_label=True y_pred must have shape (N, K), N and K >= 1"
        raise ValueError(_check.message(where, required, _check.shape_of(said)))
    targets.reject(where, "y_pred must be 0 and 1, or probabilities", said, ~((said >= 0) & (said <= 1)))
    true = targets.same_shape(where, said.shape, y_true)
    targets.reject(where, "y_true must be 0 or 1", true, (true != 0) & (true != 1))
    n, k = said.shape
    weights = np.ones(n, np.int64) if sample_weight is None else targets.sample_weights(where, sample_weight, n)
    each = (said > 0.5) & (true == 1), true == 1, said > 0.5
    counts = [weights @ one for one in each]
    of_samples = [one.sum(1) for one in each]
    means = {}
    for name, given, by in (("micro avg", [[one.sum()] for one in counts], [1]), ("samples avg", of_samples, weights)):
        columns = [ratios(*map(np.array, given), share) for share in (0, 1, 0.5)]
        means[name] = [float(np.average(column, weights=by if np.any(by) else None)) for column in columns]
    names = [*map(str, range(k))] if class_names is None else _check.class_names(where, "class_names", class_names, k)
    return names, range(k), counts, means, None


def _table(rows, accuracy, means, digits):
    """scikit-learn's table, letter by letter."""
    width = max(digits, *map(len, [*rows, *means]))
    line = f"{{:>{width}}}  {{:>9}} {{:>9}} {{:>9}} {{:>9}}"

    def shown(name, row):
        support = row[-1] if isinstance(row[-1], int) else f"{row[-1]:.{digits}f}"
        return line.format(name, *(f"{value:.{digits}f}" if value != "" else "" for value in row[:-1]), support)

    lines = [line.format("", "precision", "recall", "f1-score", "support"), ""]
    lines += [*(shown(name, row) for name, row in rows.items()), ""]
    if accuracy is not None:
        lines.append(shown("accuracy", ["", "", accuracy, means["macro avg"][-1]]))
    return "\n".join([*lines, *(shown(name, row) for name, row in means.items()), ""])


def _numbered(where, y, names):
    """The numbers of names of classes; what is no array of strings as it is."""
    if np.asarray(y).dtype.kind not in "US":
        return y
    numbers = {name: number for number, name in enumerate(names)}
    unknown = next((name for name in np.ravel(y).tolist() if name not in numbers), None)
    if unknown is not None:
        near = _check.nearest(unknown, names)
        fix = f"Did you mean {near!r}?" if near else ""
        raise ValueError(_check.message(where, "labels must be among the names of the classes", unknown, fix))
    return np.array([numbers[name] for name in np.ravel(y).tolist()], np.int64).reshape(np.shape(y))


def _require_classes(where, outputs, k):
    if outputs.ndim != 2 or outputs.shape[1] < max(k, 2):
        required = f"outputs must have shape (N, classes) with at least {max(k, 2)} classes"
        got = _check.Shown(f"shape {_check.batch_shape(outputs.shape[1:])}")
        raise ValueError(_check.message(where, required, got))


def _in_top(where, outputs, y, k):
    """bool (N,): fewer than k classes have an output that is larger than the right one's."""
    _require_classes(where, outputs, k)
    labels = targets.class_numbers(where, y, *outputs.shape)
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
        targets.reject(where, "scores must not be NaN", y_pred, np.isnan(y_pred))
        return y_pred.argmax(1)
    y_pred = _column(where, y_pred)
    if y_pred.dtype.kind == "f" and ((y_pred >= 0) & (y_pred <= 1)).all():
        return (y_pred > 0.5).astype(np.int64)
    return targets.labels(where, y_pred)
