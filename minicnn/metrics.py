"""Metrics: how good the outputs of a model are, for people to read; nothing is trained by them.

A ``Metric`` sums over the batches of an epoch: ``reset()``, then ``update(outputs, y)`` for every batch, then
``result()``: the weighted mean over all samples seen.  A custom metric is a function ``(y, outputs) -> number``, the
mean over the samples of a batch; the order is that of scikit-learn and Keras, truth first, as for a custom loss
(``losses.py``).  Only where the names of its parameters say otherwise, ``(outputs, y)`` or ``(y_pred, y_true)``, it
gets them in that order.  For arrays there are the functions ``accuracy``, ``top_k_accuracy`` and ``confusion_matrix``,
truth first as well.

What a loss computes a metric can, too: ``MeanLoss(loss)``, or a class with the name of the loss, or its name in
``compile(metrics=["mae"])``.

A metric says which way is better: ``better`` is "max", "min", or None where it does not say.  A function may have the
attribute too, ``f1.better = "max"``; callbacks that look for the best read it.

Everywhere, N samples of K classes: the truth is class numbers (N,) or (N, 1), or one-hot rows (N, K), K >= 2.  Of equal
outputs the first counts as the larger one, as in ``argmax``.  An output that is NaN is never right.
"""

import contextlib
import inspect
import itertools
import math
import re
from typing import Any

import numpy as np

from minicnn import _check, configured, losses, targets
from minicnn._ext import loss as kernels
from minicnn.configured import Configured
from minicnn.notebook import ConfusionMatrix
from minicnn.settings import Closed, Fixed, Setting

__all__ = [
    "Accuracy",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Hinge",
    "KLDivergence",
    "LogCoshError",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanLoss",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Metric",
    "Poisson",
    "RootMeanSquaredError",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "SquaredHinge",
    "TopKAccuracy",
    "TopKCategoricalAccuracy",
    "accuracy",
    "better",
    "confusion_matrix",
    "from_config",
    "get",
    "log_names",
    "to_config",
    "top_k_accuracy",
]


def _name(where, argument, name):
    if not isinstance(name, str) or not name:
        raise TypeError(_check.message(where, f"the {argument} of a metric must be a string", _check.kind(name)))
    return name


class Unknown:
    """The ``from_logits`` of a model that cannot know it: ValueError where it is used as True or False."""

    def __init__(self, reason):
        self.reason = reason

    def __bool__(self):
        raise ValueError(self.reason)


class Metric(Configured):
    """The weighted mean of one number per sample.

    ``name`` is what logs and History call it, the name of the class if it is empty.  ``better``: "max" or "min", which
    way is better; None, if a subclass does not say: then EarlyStopping and ModelCheckpoint need their ``mode``.
    """

    name: Any = ""
    better: str | None = None

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

    def reset(self):
        """Forgets all batches."""
        self._total = self._weight = 0.0

    def update(self, outputs, y, weights=None, from_logits=False):
        """Takes in a batch: outputs (N, ...), y as for the loss, weights (N,) as for the loss (ones if None), and
        whether the outputs are logits instead of probabilities.

        TypeError and ValueError as losses raise them.
        """
        where = type(self).__name__
        if not isinstance(from_logits, Unknown):
            from_logits = _check.boolean(where, "from_logits", from_logits)
        outputs = _check.numeric_array(where, "outputs", outputs)
        if outputs.ndim == 0:
            raise ValueError(_check.message(where, "outputs must have a batch axis", _check.shape_of(outputs)))
        if weights is not None:
            weights = targets.sample_weights(where, weights, len(outputs))
        values = self._values(outputs, y, from_logits)
        if weights is None:
            self._total += float(np.count_nonzero(values)) if values.dtype == bool else math.fsum(values.tolist())
            self._weight += len(outputs)
        else:
            self._total += math.fsum((values * weights).tolist())
            self._weight += math.fsum(weights)

    def result(self):
        """The mean so far as a float; NaN as long as the weights sum to 0, and before the first sample."""
        return self._total / self._weight if self._weight else math.nan

    def get_state(self):
        """What has been taken in so far, for a training that goes on in the middle of an epoch: all attributes but the
        constructor's arguments.  One that is no number, text, array, list or dictionary needs a method of its own."""
        given = {*inspect.signature(type(self).__init__).parameters}
        given |= {name for name in vars(self) if isinstance(getattr(type(self), name, None), Setting)}
        return {name: value for name, value in vars(self).items() if name not in given}

    def set_state(self, state):
        """Takes what ``get_state`` gave."""
        vars(self).update(state)

    def _values(self, outputs, y, from_logits):
        """One number for each sample, (N,)."""
        raise NotImplementedError(f"{type(self).__name__} has no _values(outputs, y, from_logits)")

    def __repr__(self):
        return f"<metric {self.name}>"


class Accuracy(Metric):
    """The share of samples whose class is right.

    ``outputs`` (N, K) with K >= 2: the class with the largest output; probabilities or logits.  ``outputs`` (N,) or
    (N, 1): class 1 where a probability is above 0.5, or a logit above 0, else class 0.  ``name``: what logs call it.

    Several yes-or-no outputs a sample look like classes.  A model that is compiled with the binary cross-entropy knows
    better and computes ``BinaryAccuracy`` of them instead of this class, under its name.
    """

    name = Fixed(_name)
    better = "max"

    def __init__(self, name="accuracy"):
        self.name = name
        super().__init__()

    def needs_from_logits(self, shape):
        return len(shape) != 1 or shape[0] == 1

    def require_shape(self, shape):
        if len(shape) > 1:
            _column("Accuracy", np.empty((0, *shape)))

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


class BinaryAccuracy(Metric):
    """The share of yes-or-no outputs that are right, over all outputs of all samples, as in Keras.

    ``outputs`` (N, ...), each a yes where a probability is above 0.5, or a logit above 0; ``y`` of the same shape, 0 or
    1; a last axis of 1 may be left out.  The outputs of a sample count equally, the samples by their weights.
    ``name``: what logs call it.
    """

    name = Fixed(_name)
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


class TopKAccuracy(Metric):
    """The share of samples whose right class is among the k with the largest outputs; ``k`` >= 1.

    ``outputs`` (N, K), K >= max(k, 2): probabilities or logits.  ``name``: what logs call it, None for "top_5_accuracy"
    with the number k.
    """

    k = Fixed(_check.integer, 1)
    name = Fixed(_name)
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


class MeanLoss(Metric):
    """The mean of a loss over the samples seen, whatever the model is trained with.

    ``loss``: a name or a Loss (``losses.py``), whose formula, targets and arguments are those of the metric.  ``name``:
    what logs call it, None for the loss's name.  Where the loss asks whether outputs are logits and its own
    ``from_logits`` is "auto", the model says it.
    """

    loss = Fixed(_a_loss)
    name = Fixed(_name)
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


class MeanSquaredError(_Named):
    """The mean of ``losses.MeanSquaredError``."""

    _of = losses.MeanSquaredError


class RootMeanSquaredError(_Named):
    """The square root of the mean of ``losses.MeanSquaredError``, over all samples seen and their outputs."""

    _of = losses.MeanSquaredError

    def __init__(self, name="root_mean_squared_error"):
        super().__init__(name)

    def result(self):
        mean = super().result()
        return math.sqrt(mean) if mean >= 0 else math.nan  # weights may be negative


class MeanAbsoluteError(_Named):
    """The mean of ``losses.MeanAbsoluteError``."""

    _of = losses.MeanAbsoluteError


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


class FunctionMetric(Metric):
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
    that no two are the same.

    ValueError for a name that would overwrite another log, such as "loss".
    """
    names = [metric.name or type(metric).__name__ for metric in metrics]
    for name in names:
        _name("Sequential.compile", "name", name)
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


def better(name):
    """Which way the log ``name`` is better, as far as its name alone says: "min" for a loss, "max" for a name of
    ``get``, else None.  The beginnings val_ and clean_ do not count."""
    name = name.removeprefix("val_").removeprefix("clean_")
    if name == "loss" or name.endswith("_loss"):
        return "min"
    try:
        return get(name).better
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


def confusion_matrix(y_true, y_pred, classes=None):
    """How many samples of class i were taken for class j: an int64 array (classes, classes), rows the true classes.

    ``y_pred`` as for ``accuracy``.  ``classes``: how many there are; if None, as many as the scores have or as appear.
    Or their names in the order of their numbers, such as ``model.class_names``: then y_true and y_pred may be names.
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
    counts = np.bincount(true * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes).view(ConfusionMatrix)


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
        got = _check.Shown(f"shape ({', '.join(map(str, ('N', *outputs.shape[1:])))})")
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
        return y_pred.argmax(1)
    y_pred = _column(where, y_pred)
    if y_pred.dtype.kind == "f" and ((y_pred >= 0) & (y_pred <= 1)).all():
        return (y_pred > 0.5).astype(np.int64)
    return targets.labels(where, y_pred)
