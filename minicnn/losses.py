"""Losses: what training minimises, as a value and a gradient.

The value of a batch is L = (1/N) sum_n w_n l_n, with a weight w_n for each of its N samples (1 without weights).  It is
divided by N also where weights are given, as Keras's "sum_over_batch_size" does.  A loss is called with

- ``outputs`` (N, ...): what the model gave, float32 or float64 (any other number kind is computed in float64),
- ``y``: what was right, in the shape that the loss names,
- ``weights`` (N,), optional: finite numbers, which may be negative,
- ``from_logits``: whether the outputs are logits instead of probabilities; only the cross-entropies ask.
  "auto": what their own ``from_logits`` says, False for "auto"; a model knows (``outputs.py``) and always says it,

and returns (value, gradient): a float, and an array of the shape and dtype of ``outputs``.  The gradient is the one at
the outputs, except that the two categorical cross-entropies are fused with the softmax before them: theirs is always
the one at the *logits*, (p - t) w / N, for logits and for probabilities (``gradient_at`` says which).  That holds for
probabilities that a softmax has just made.  For others, such as those of several sigmoids, the maximum of a softmax
over the pixels, or the outputs of a custom layer, a model takes ``of_probabilities``: as in Keras they are divided by
their sum first, and the gradient is the one at the outputs.

The ``from_logits`` of a cross-entropy, "auto", True or False, is for models whose layers do not say what they give
(``Layer.output_function``), or to say that plain numbers are probabilities.  With "auto" the model's layers decide, and
it is a ValueError if they do not say it.  True for a model that ends in softmax or sigmoid is a ValueError, too.

A custom loss is a function ``(y, outputs) -> (value, gradient)``: truth first, the order of Keras and of scikit-learn,
and that of custom metrics.  The names of its parameters must say so: ``(y, outputs)``, ``(y_true, y_pred)``, ``(target,
logits)``.  A function with the other order, ``(outputs, y)`` or ``(y_pred, y_true)``, gets them in that order.  Where
the names do not tell, ``get`` raises TypeError: a swapped pair would silently reverse the sign of the gradient.

All arguments are checked before anything is computed: TypeError for the wrong kind of thing, ValueError for shapes and
values, with the first index where a value is wrong.  NaN in the outputs gives NaN, for ``fit`` to report.
"""

import functools
import inspect
from typing import Any

import numpy as np

from minicnn import _check
from minicnn._ext import loss as kernels
from minicnn.configured import Configured
from minicnn.settings import Fixed
from minicnn.targets import class_weights, labels, like_outputs, one_hot, reject, sample_weights

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
    "class_weights",
    "from_config",
    "get",
    "to_config",
]

_CLIP = 1e-7  # the kernels' CLIP


class Loss(Configured):
    """What every loss has; see the head of this file for how it is called.

    Attributes: ``name``; ``fuses_softmax``, True for the categorical cross-entropies; ``gradient_at``, "logits" for
    those and "outputs" for all others; ``needs_from_logits``, whether the value depends on ``from_logits``.
    """

    name = ""
    fuses_softmax = False
    needs_from_logits = True
    from_logits: Any = "auto"

    @property
    def gradient_at(self):
        return "logits" if self.fuses_softmax else "outputs"

    def __call__(self, outputs, y, weights=None, from_logits="auto", into=None):
        """(value, gradient); ``into``: two arrays for the gradient and for the loss of each sample (in float64), where
        the caller has them already."""
        where = type(self).__name__
        outputs = _outputs(where, outputs)
        weights = None if weights is None else sample_weights(where, weights, len(outputs))
        if isinstance(from_logits, str) and from_logits == "auto":
            from_logits = self.from_logits is True
        from_logits = _check.boolean(where, "from_logits", from_logits)
        return self._compute(outputs, y, weights, from_logits, into)

    def _compute(self, outputs, y, weights, from_logits, into):
        """(value, gradient) from checked outputs and weights."""
        raise NotImplementedError(f"{type(self).__name__} has no _compute(outputs, y, weights, from_logits, into)")


def _outputs(where, outputs):
    outputs = _check.numeric_array(where, "outputs", outputs)
    if outputs.ndim == 0 or outputs.size == 0:
        raise ValueError(_check.message(where, "outputs must hold at least one sample", _check.shape_of(outputs)))
    dtype = np.float32 if outputs.dtype.kind == "f" and outputs.dtype.itemsize == 4 else np.float64
    return _check.contiguous(outputs, dtype)


# ---- cross-entropy over classes ----


def _smoothing(where, name, value):
    if isinstance(value, bool | np.bool_):
        required = f"{name} must be a number in [0, 1]"
        raise TypeError(_check.message(where, required, _check.kind(value), f"Did you mean from_logits={value}?"))
    return _check.number(where, name, value, 0, 1)


def _auto_or_boolean(where, name, value):
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str) and value == "auto":
        return value
    error = ValueError if isinstance(value, str) else TypeError
    raise error(_check.message(where, f"{name} must be 'auto', True or False", value))


class _SoftmaxCrossentropy(Loss):
    """l = -sum_k t_k log p_k with p = softmax(z); the gradient is the one at z, (p - t) w / N."""

    fuses_softmax = True

    label_smoothing = Fixed(_smoothing)
    from_logits = Fixed(_auto_or_boolean)

    def __init__(self, label_smoothing=0.0, from_logits="auto"):
        self.label_smoothing = label_smoothing
        self.from_logits = from_logits

    def _compute(self, outputs, y, weights, from_logits, into):
        numbers, rows = self._checked_targets(outputs, y)
        gradient, losses = into or (np.empty_like(outputs), np.empty(len(outputs)))
        on, off = 1 - self.label_smoothing, self.label_smoothing / outputs.shape[1]
        value = kernels.softmax_crossentropy(outputs, numbers, rows, weights, on, off, from_logits, gradient, losses)
        return value, gradient

    def of_probabilities(self, outputs, y, weights=None):
        """(value, gradient at the outputs) for outputs p that need not sum to 1, with S = sum_k p_k, q = p / S:

            l = -sum_k t_k log q_k,    dl/dp_k = (sum_j t_j - t_k / q_k) / S.

        q and S count as at least 1e-7 in divisions and logarithms.  Arguments as of a call.
        """
        where = type(self).__name__
        outputs = _outputs(where, outputs)
        weights = np.ones(len(outputs)) if weights is None else sample_weights(where, weights, len(outputs))
        numbers, rows = self._checked_targets(outputs, y)
        targets = np.arange(outputs.shape[1]) == numbers[:, None] if rows is None else rows
        t = targets * (1 - self.label_smoothing) + self.label_smoothing / outputs.shape[1]
        with np.errstate(all="ignore"):  # NaN and infinity are for the caller to find
            total = np.maximum(outputs.sum(1, dtype=np.float64, keepdims=True), _CLIP)
            q = np.clip(outputs / total, _CLIP, 1)
            value = float((weights * -(t * np.log(q)).sum(1)).sum() / len(q))
            slope = (t.sum(1, keepdims=True) - t / q) / total * (weights / len(q))[:, None]
            return value, slope.astype(outputs.dtype)

    def _checked_targets(self, outputs, y):
        """(class numbers, rows), one of them None."""
        if outputs.ndim != 2 or outputs.shape[1] < 2:
            required = "outputs must have shape (N, classes) with at least 2 classes"
            fix = 'One output needs "binary_crossentropy"' if outputs.size == len(outputs) else ""
            raise ValueError(_check.message(type(self).__name__, required, _check.shape_of(outputs), fix))
        return self._targets(outputs, y)


class SparseCategoricalCrossentropy(_SoftmaxCrossentropy):
    """Cross-entropy of one right class per sample, fused with softmax: p = softmax(z) over K classes,

        l = -sum_k t_k log p_k,    dL/dz = (p - t) w / N,

    with t_k = (1 - s) [k = y] + s/K for a ``label_smoothing`` s in [0, 1] (Szegedy et al., "Rethinking the Inception
    Architecture", CVPR 2016, section 7).

    ``outputs`` (N, K), K >= 2: logits z, or probabilities p of a softmax.  ``y`` (N,) or (N, 1): class numbers from 0
    to K - 1, of any integer kind, bool, or whole floats.  The value is finite for all logits up to 1e30 in size; where
    the outputs are probabilities they count as at least 1e-7 in the logarithm, as in Keras: no l is above 16.2.
    ``from_logits``: "auto", True or False, see the head of this file.
    """

    name = "sparse_categorical_crossentropy"

    def _targets(self, outputs, y):
        return labels("SparseCategoricalCrossentropy", y, *outputs.shape), None


class CategoricalCrossentropy(_SoftmaxCrossentropy):
    """Cross-entropy with a row of targets per sample, fused with softmax: SparseCategoricalCrossentropy's formulas with

        t_k = (1 - s) y_k + s/K.

    ``outputs`` (N, K), K >= 2: logits or probabilities.  ``y`` (N, K): one-hot rows, or other numbers >= 0 that sum to
    1 in every row (within 1e-3).  ``from_logits``: "auto", True or False, see the head of this file.
    """

    name = "categorical_crossentropy"

    def _targets(self, outputs, y):
        rows = one_hot("CategoricalCrossentropy", y, *outputs.shape)
        return None, _check.contiguous(rows, outputs.dtype)


# ---- the mean over the outputs of a sample ----


class _Elementwise(Loss):
    """l = the mean over a sample's M outputs o of f(o, t); the gradient is f'(o, t) w / (N M)."""

    needs_from_logits = False

    def _kind(self, from_logits):
        return self.name

    def _target(self, outputs, y):
        return like_outputs(type(self).__name__, outputs, y)

    def _compute(self, outputs, y, weights, from_logits, into):
        y = self._target(outputs, y)
        gradient, losses = into or (np.empty_like(outputs), np.empty(len(outputs)))
        s, delta = getattr(self, "label_smoothing", 0.0), getattr(self, "delta", 1.0)
        o, t, slope = (array.reshape(len(outputs), -1) for array in (outputs, y, gradient))
        kind = kernels.KINDS[self._kind(from_logits)]
        value = kernels.elementwise(kind, o, t, weights, 1 - s, s / 2, delta, slope, losses)
        return value, gradient


class MeanSquaredError(_Elementwise):
    """f(o, t) = (o - t)^2,  f' = 2 (o - t).

    ``outputs`` (N, ...) and ``y`` of the same shape, finite; a last axis of 1 may be left out, and nothing else is
    broadcast.
    """

    name = "mean_squared_error"


class MeanAbsoluteError(_Elementwise):
    """f(o, t) = |o - t|,  f' = sign(o - t), which is 0 at 0.

    ``outputs`` (N, ...) and ``y`` of the same shape, finite; a last axis of 1 may be left out.
    """

    name = "mean_absolute_error"


class Huber(_Elementwise):
    """Squared for small errors d = o - t, linear for large ones (Huber, Annals of Mathematical Statistics 35, 1964):

        f(o, t) = d^2 / 2 for |d| <= delta, else delta (|d| - delta / 2),    f' = d cut to [-delta, delta].

    ``delta`` > 0.  ``outputs`` (N, ...) and ``y`` of the same shape, finite; a last axis of 1 may be left out.
    """

    name = "huber"

    delta = Fixed(_check.number, 0, open_low=True)

    def __init__(self, delta=1.0):
        self.delta = delta


class BinaryCrossentropy(_Elementwise):
    """Cross-entropy of yes-or-no outputs, one or several (independent) for each sample:

        f(p, t) = -t log p - (1 - t) log(1 - p),    f' = (p - t) / (p (1 - p))    for probabilities p,
        f(z, t) = log(1 + exp(z)) - t z,            f' = sigmoid(z) - t           for logits z,

    with t = (1 - s) y + s/2 for a ``label_smoothing`` s in [0, 1].  The gradient is the one at the outputs.

    ``outputs`` (N, ...) and ``y`` of the same shape, in [0, 1]; a last axis of 1 may be left out.  Probabilities are
    cut to [1e-7, 1 - 1e-7] in both formulas, as Keras does for the value.  Better end a model in logits than in a
    sigmoid: where a float32 sigmoid has become exactly 0 or 1 its derivative is 0, and a wrong output is stuck.
    ``from_logits``: "auto", True or False, see the head of this file.
    """

    name = "binary_crossentropy"

    needs_from_logits = True
    label_smoothing = Fixed(_smoothing)
    from_logits = Fixed(_auto_or_boolean)

    def __init__(self, label_smoothing=0.0, from_logits="auto"):
        self.label_smoothing = label_smoothing
        self.from_logits = from_logits

    def _kind(self, from_logits):
        return "binary_logits" if from_logits else "binary_probabilities"

    def _target(self, outputs, y):
        y = like_outputs("BinaryCrossentropy", outputs, y)
        if y.size and not (y.min() >= 0 and y.max() <= 1):  # no temporary arrays in every step
            reject("BinaryCrossentropy", "y must be in [0, 1]", y, ~((y >= 0) & (y <= 1)))
        return y


class FunctionLoss(Loss):
    """A custom loss: ``function(y, outputs) -> (value, gradient)``, both of the mean over the batch.

    ``function`` gets ``y`` as a NumPy array and the outputs (N, ...) as they are, in the order that the names of its
    parameters say (head of this file); ``gradient`` has the shape of the outputs.  It takes no sample weights, and a
    model compiled with it cannot store it in a file.  TypeError where the names do not tell the order.
    """

    needs_from_logits = False
    function = Fixed(_check.anything)
    name = property(lambda self: function_name(self.function))

    def __init__(self, function):
        self.function = function
        self._outputs_first = outputs_first(function)
        if self._outputs_first is None:
            required = "the names of the parameters must say which is which"
            fix = "Name them (y, outputs) or (y_true, y_pred)"
            raise TypeError(_check.message(f"loss {self.name}", required, _signature(function), fix))

    def _compute(self, outputs, y, weights, from_logits, into):
        where = f"loss {self.name}"
        if weights is not None:
            raise ValueError(f"{where}: a custom loss takes no sample or class weights: weigh inside the function")
        given = np.array(y), outputs.copy()  # the function may keep and change what it gets
        result = self.function(*(given[::-1] if self._outputs_first else given))
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise TypeError(_check.message(where, "the function must return (value, gradient)", _check.kind(result)))
        value, gradient = result
        if np.ndim(value) != 0 or np.asarray(value).dtype.kind not in "iuf":
            raise TypeError(_check.message(where, "the value must be one number", _check.kind(value)))
        gradient = _check.numeric_array(where, "the gradient", gradient)
        if gradient.shape != outputs.shape:
            required = f"the gradient must have the shape {outputs.shape} of the outputs"
            raise ValueError(_check.message(where, required, _check.shape_of(gradient)))
        return float(value), _check.contiguous(gradient, outputs.dtype)


# ---- custom functions: losses, and metrics too ----

# What the parameters of such a function may be called: a word of a name, or all of it.
_WORDS = {
    "truth": {
        "true",
        "ytrue",
        "truth",
        "target",
        "targets",
        "label",
        "labels",
        "gold",
        "actual",
        "expected",
        "correct",
    },
    "answer": {"output", "outputs", "out", "pred", "preds", "ypred", "predicted", "prediction", "predictions", "yhat"}
    | {"hat", "logit", "logits", "score", "scores", "prob", "probs", "probability", "probabilities", "estimate"},
}
_LETTERS = {"truth": {"y", "t"}, "answer": {"o", "p", "z"}}


def outputs_first(function):
    """Which order the names of a function's first two parameters say: True for (outputs, y), False for (y, outputs),
    None where they do not tell or there are no names.

    Words tell, such as ``y_pred``, ``true_labels`` or ``logits``, and the letters y, t, o, p and z.  One name is enough
    where it is a word; a letter beside an unknown name only for (outputs, y), which was once the order of every loss:
    a y before something unknown may be what the network gave, as in many a textbook.
    """
    first, second, words = _meanings(function)
    if first == second:
        return None
    if first is not None and second is not None:
        return first == "answer"
    told = (second == "truth") if first is None else (first == "answer")
    return told if told or any(words) else None


def surely_outputs_first(function):
    """Whether a metric's names say (outputs, y): those of both parameters, or one word.  Where they do not tell, a
    metric gets (y, outputs), as it always has: so a letter alone says nothing here."""
    first, second, words = _meanings(function)
    if first is not None and second is not None:
        return first == "answer" and second == "truth"
    return (first == "answer" and words[0]) or (second == "truth" and words[1])


def _meanings(function):
    """What the first two parameters are, "truth", "answer" or None, and for each whether a word says so."""
    names = [*_positional(function), "", ""][:2]
    words = [[kind for kind, known in _WORDS.items() if known & {*name.lower().split("_")}] for name in names]
    letters = [[kind for kind, known in _LETTERS.items() if name.lower() in known] for name in names]
    found = [(word or letter) for word, letter in zip(words, letters, strict=True)]
    return *(kinds[0] if len(kinds) == 1 else None for kinds in found), [len(kinds) == 1 for kinds in words]


def _positional(function):
    """The names of the parameters that can be given by place, [] where there is no signature to look at."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]


def _signature(function):
    try:
        return _check.Shown(inspect.signature(function))
    except (TypeError, ValueError):
        return _check.Shown("no names at all")


def attribute(function, name, default):
    """The attribute of a function, also of one within ``functools.partial``."""
    while not hasattr(function, name) and isinstance(function, functools.partial):
        function = function.func
    return getattr(function, name, default)


def function_name(function):
    """What logs and messages call a function or another callable."""
    return attribute(function, "__name__", None) or type(function).__name__


# ---- by name, and from files ----

_CLASSES = {
    loss.name: loss
    for loss in (
        SparseCategoricalCrossentropy,
        CategoricalCrossentropy,
        BinaryCrossentropy,
        MeanSquaredError,
        MeanAbsoluteError,
        Huber,
    )
}
_NAMES = _CLASSES | {"mse": MeanSquaredError, "mae": MeanAbsoluteError}


def get(loss):
    """The Loss for a name ("sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy",
    "mean_squared_error" or "mse", "mean_absolute_error" or "mae", "huber"), for a Loss, or for a function
    ``(y, outputs) -> (value, gradient)`` whose parameters have names that tell the order (head of this file).

    ValueError for a name that does not exist, TypeError for anything else.
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, type):
        fix = f"Did you mean {loss.__name__}()?" if issubclass(loss, Loss) else ""
        got = _check.Shown(f"the class {loss.__name__}")
        raise TypeError(_check.message("losses.get", "the loss must be a name, a Loss or a function", got, fix))
    if callable(loss) and not isinstance(loss, Configured):  # such as a regulariser
        return FunctionLoss(loss)
    return _class(loss)()


def to_config(loss):
    """{"name", "config"} for JSON; None for a custom loss, which no file can hold."""
    if _CLASSES.get(loss.name) is not type(loss):
        return None
    return {"name": loss.name, "config": loss.get_config()}


def from_config(config):
    """The Loss that ``to_config`` wrote; ValueError or TypeError for anything else."""
    if not isinstance(config, dict) or set(config) != {"name", "config"} or not isinstance(config["config"], dict):
        required = 'config must be a dictionary with "name" and "config"'
        raise ValueError(_check.message("losses.from_config", required, config))
    return _class(config["name"])(**config["config"])


def _class(name):
    return _NAMES[_check.choice("losses.get", "the loss", name, tuple(_NAMES))]
