"""Losses: what training minimises, as a value and a gradient.

The value of a batch is L = (1/N) sum_n w_n l_n, with a weight w_n for each of its N samples (1 without weights).  It is
divided by N also where weights are given, as Keras's "sum_over_batch_size" does.  A loss is called with

- ``outputs`` (N, ...): what the model gave, float32 or float64 (any other number kind is computed in float64),
- ``y``: what was right, in the shape that the loss names,
- ``weights`` (N,), optional: finite numbers, which may be negative,
- ``from_logits``: whether the outputs are logits instead of probabilities; only the cross-entropies, focal or not, and
  the Kullback-Leibler divergence ask.
  "auto": what their own ``from_logits`` says, False for "auto"; a model knows (``outputs.py``) and always says it,

and returns (value, gradient): a float, and an array of the shape and dtype of ``outputs``.  The gradient is the one at
the outputs, except that the categorical cross-entropies, their focal forms and the Kullback-Leibler divergence are
fused with the softmax before them: theirs is always the one at the *logits*, such as (p - t) w / N, for logits and for
probabilities (``gradient_at`` says which).  That holds for probabilities that a softmax has just made.  For others,
such as those of several sigmoids, the maximum of a softmax over the pixels, or the outputs of a custom layer, a model
takes ``of_probabilities``: as in Keras they are divided by their sum first, and the gradient is the one at the outputs.

The ``from_logits`` of such a loss, "auto", True or False, is for models whose layers do not say what they give
(``Layer.output_function``), or to say that plain numbers are probabilities.  With "auto" the model's layers decide, and
it is a ValueError if they do not say it.  True for a model that ends in softmax or sigmoid is a ValueError, too.

All have Keras's names, formulas and defaults.  ``reduction``, the last argument of each, has one value,
"sum_over_batch_size", the mean above.  There is no ``name``: logs call every loss "loss".

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

from minicnn import _check, cells
from minicnn._ext import loss as kernels
from minicnn._ext import penalty
from minicnn.configured import Configured
from minicnn.settings import Fixed
from minicnn.targets import (
    REALS,
    class_weights,
    finite,
    labels,
    like_outputs,
    one_hot,
    reject,
    same_shape,
    sample_weights,
    signs,
)

__all__ = [
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "SparseCategoricalFocalCrossentropy",
    "SquaredHinge",
    "class_weights",
    "from_config",
    "get",
    "to_config",
]

_CLIP = 1e-7  # the kernels' CLIP
ROUNDING = 1e-3  # a sum of probabilities of a softmax is no further from 1
_MEAN = "sum_over_batch_size"
_NO_WORDS = {
    "name": 'a loss has no name: logs call it "loss"',
    "dtype": "a loss has no dtype: it is computed in float64, its gradient has the dtype of the outputs",
}


def _reduction(where, name, value):
    if isinstance(value, str) and value == _MEAN:
        return value
    required = f"{name} must be {_MEAN!r}, the mean over the samples of a batch"
    error = ValueError if value is None or isinstance(value, str) else TypeError
    raise error(_check.message(where, required, value, "Another scale is another learning rate"))


class Loss(Configured):
    """What every loss has; see the head of this file for how it is called.

    Attributes: ``name``; ``fuses_softmax``, True for the categorical cross-entropies, focal or not, and the
    Kullback-Leibler divergence; ``gradient_at``, "logits" for those and "outputs" for all others;
    ``needs_from_logits``, whether the value depends on ``from_logits``; ``yes_or_no``, whether it takes each output for
    the answer to a question of its own (binary); ``mixes_targets``, whether targets are numbers, which ``fit(mix=)``
    mixes, rather than answers, whose losses it weighs.
    """

    name = ""
    fuses_softmax = False
    needs_from_logits = True
    yes_or_no = False
    mixes_targets = False
    from_logits: Any = "auto"
    reduction = Fixed(_reduction)

    def __new__(cls, *args, **kwargs):
        known = inspect.signature(cls.__init__).parameters
        for word in _NO_WORDS.keys() & kwargs.keys() - known.keys():
            raise TypeError(_check.message(cls.__name__, _NO_WORDS[word], _check.Shown(f"{word}={kwargs[word]!r}")))
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, reduction=_MEAN):
        self.reduction = reduction

    def get_config(self):
        """The constructor's arguments, ready for JSON, without the ``reduction``, which is always the same."""
        return {name: value for name, value in super().get_config().items() if name != "reduction"}

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
        if type(from_logits) is not bool:
            from_logits = _check.boolean(where, "from_logits", from_logits)
        return self._compute(outputs, y, weights, from_logits, into)

    def of_samples(self, outputs, y, from_logits="auto"):
        """The loss of each sample, float64 (N,): for metrics.  Arguments as of a call.

        Probabilities of classes that do not sum to 1 are divided by their sum where a model divides them.
        """
        outputs = _outputs(type(self).__name__, outputs)
        losses = np.empty(len(outputs))
        self(outputs, y, None, from_logits, (np.empty_like(outputs), losses))
        return losses

    def check_targets(self, where, y, shape):
        """TypeError or ValueError for targets that the loss refuses, of outputs of ``shape`` (N, ...): all are looked
        through before the first step, so that a wrong one at the end does not cost an epoch."""

    def _compute(self, outputs, y, weights, from_logits, into):
        """(value, gradient) from checked outputs and weights."""
        raise NotImplementedError(f"{type(self).__name__} has no _compute(outputs, y, weights, from_logits, into)")


def _outputs(where, outputs):
    if (
        type(outputs) is np.ndarray
        and outputs.dtype in REALS
        and outputs.ndim
        and outputs.size
        and outputs.flags.carray
    ):
        return outputs  # in every step
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


class _OfRows(Loss):
    """A loss of the K outputs of a sample together; ``y`` are rows of targets, or class numbers where ``_sparse``."""

    _sparse = False

    def check_targets(self, where, y, shape):
        if len(shape) == 2 and shape[1] > 1:
            (labels if self._sparse else one_hot)(where, y, *shape)

    def _checked_targets(self, outputs, y):
        """(class numbers, rows), one of them None."""
        where = type(self).__name__
        self._require_classes(where, outputs)
        if self._sparse:
            return labels(where, y, *outputs.shape), None
        return None, _check.contiguous(one_hot(where, y, *outputs.shape), outputs.dtype)

    def _require_classes(self, where, outputs):
        if outputs.ndim != 2 or outputs.shape[1] < 2:
            required = "outputs must have shape (N, classes) with at least 2 classes"
            fix = f'One output needs "{self._of_one}"' if outputs.size == len(outputs) else ""
            raise ValueError(_check.message(where, required, _check.shape_of(outputs), fix))

    _of_one = "binary_crossentropy"

    def _run(self, kind, outputs, y, weights, from_logits, into, on=1.0, off=0.0, gamma=0.0, alpha=np.ones(1)):  # noqa: B008
        numbers, rows = self._checked_targets(outputs, y)
        gradient, losses = into or (np.empty_like(outputs), np.empty(len(outputs)))
        how = (kernels.ROW_KINDS[kind], outputs, numbers, rows, weights, on, off, gamma, alpha, from_logits)
        return kernels.rows(*how, gradient, losses), gradient


class _Fused(_OfRows):
    """l = sum_k f_k(p_k) with p = softmax(z); the gradient is the one at z, (h - p sum_k h_k) w / N with h = p f'."""

    fuses_softmax = True
    _divides = True  # probabilities that do not sum to 1 by their sum

    def of_probabilities(self, outputs, y, weights=None):
        """(value, gradient at the outputs) for outputs p that need not sum to 1, with S = sum_k p_k, q = p / S:

            l = sum_k f_k(q_k),    dl/dp_k = (h_k / q_k - sum_j h_j) / S,    h_k = q_k f_k'(q_k),

        for the cross-entropy f_k = -t_k log q_k and h_k = -t_k.  q and S count as at least 1e-7 in divisions and
        logarithms.  Arguments as of a call.
        """
        where = type(self).__name__
        outputs = _outputs(where, outputs)
        weights = np.ones(len(outputs)) if weights is None else sample_weights(where, weights, len(outputs))
        with np.errstate(all="ignore"):  # NaN and infinity are for the caller to find
            losses, slope = self._of_probabilities(outputs, y)
            value, shares = penalty.total(losses, weights), weights / cells.samples_of_batch(len(losses))
            return cells.mean(value, len(losses)), (slope * shares[:, None]).astype(outputs.dtype)

    def of_samples(self, outputs, y, from_logits="auto"):
        outputs = _outputs(type(self).__name__, outputs)
        losses = super().of_samples(outputs, y, from_logits)
        said = self.from_logits is True if isinstance(from_logits, str) else from_logits
        if said or not self._divides:
            return losses
        with np.errstate(all="ignore"):
            whole = np.abs(outputs.sum(1, dtype=np.float64) - 1) <= ROUNDING
            return losses if whole.all() else np.where(whole, losses, self._of_probabilities(outputs, y)[0])

    def _of_probabilities(self, outputs, y):
        """The losses (N,), and their gradients."""
        numbers, rows = self._checked_targets(outputs, y)
        t = np.arange(outputs.shape[1]) == numbers[:, None] if rows is None else rows.astype(np.float64)
        total = np.maximum(outputs.sum(1, dtype=np.float64, keepdims=True), _CLIP) if self._divides else 1.0
        q = np.clip(outputs / np.float64(total), _CLIP, 1)
        f, h = self._terms(t, q)
        return f.sum(1), (h / q - (h.sum(1, keepdims=True) if self._divides else 0)) / total

    def _terms(self, t, q):
        """f_k(q_k) and h_k of all classes."""
        raise NotImplementedError


class _SoftmaxCrossentropy(_Fused):
    """l = -sum_k t_k log p_k with p = softmax(z); the gradient is the one at z, (p - t) w / N."""

    label_smoothing = Fixed(_smoothing)
    from_logits = Fixed(_auto_or_boolean)

    def __init__(self, label_smoothing=0.0, from_logits="auto", reduction=_MEAN):
        super().__init__(reduction)
        self.label_smoothing = label_smoothing
        self.from_logits = from_logits

    def _smoothed(self, outputs):
        """t = on y + off."""
        return 1 - self.label_smoothing, self.label_smoothing / outputs.shape[1]

    def _compute(self, outputs, y, weights, from_logits, into):
        numbers, rows = self._checked_targets(outputs, y)
        gradient, losses = into or (np.empty_like(outputs), np.empty(len(outputs)))
        how = (outputs, numbers, rows, weights, *self._smoothed(outputs), from_logits)
        return kernels.softmax_crossentropy(*how, gradient, losses), gradient

    def _terms(self, t, q):
        on, off = self._smoothed(q)
        t = on * t + off
        return -t * np.log(q), -t


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
    _sparse = True


class CategoricalCrossentropy(_SoftmaxCrossentropy):
    """Cross-entropy with a row of targets per sample, fused with softmax: SparseCategoricalCrossentropy's formulas with

        t_k = (1 - s) y_k + s/K.

    ``outputs`` (N, K), K >= 2: logits or probabilities.  ``y`` (N, K): one-hot rows, or other numbers >= 0 that sum to
    1 in every row (within 1e-3).  ``from_logits``: "auto", True or False, see the head of this file.
    """

    name = "categorical_crossentropy"


def _one_or_each(where, name, value):
    """A number >= 0, or a tuple of them."""
    if isinstance(value, list | tuple | np.ndarray):
        return _check.each(where, name, list(value), f"every number of {name}", _check.number, 0)
    return _check.number(where, name, value, 0)


class CategoricalFocalCrossentropy(_SoftmaxCrossentropy):
    """The cross-entropy in which classes count little that are known well (Lin et al., "Focal Loss for Dense Object
    Detection", ICCV 2017), fused with softmax: p = softmax(z) over K classes,

        l = -sum_k alpha_k t_k (1 - p_k)^gamma log p_k,
        dL/dz = (h - p sum_k h_k) w / N,    h_k = -alpha_k t_k (1 - p_k)^gamma (1 - gamma p_k log(p_k) / (1 - p_k)),

    with t_k = (1 - s) y_k + s/K for a ``label_smoothing`` s in [0, 1].

    ``outputs`` (N, K), K >= 2: logits z, or probabilities p of a softmax, which count as at least 1e-7.  ``y`` (N, K):
    as for CategoricalCrossentropy, which this is for gamma = 0 and alpha = 1.  ``gamma`` >= 0.  ``alpha``: a number
    >= 0 for all classes, or a list of K of them.  h is finite for all p in [0, 1], for gamma < 1 too, since
    log(p) / (1 - p) goes to -1 as p goes to 1.  ``from_logits``: "auto", True or False, see the head of this file.
    """

    name = "categorical_focal_crossentropy"
    alpha = Fixed(_one_or_each)
    gamma = Fixed(_check.number, 0)

    def __init__(self, alpha=0.25, gamma=2.0, from_logits="auto", label_smoothing=0.0, reduction=_MEAN):
        super().__init__(label_smoothing, from_logits, reduction)
        self.alpha = alpha
        self.gamma = gamma
        self._alphas = np.atleast_1d(np.array(self.alpha, np.float64))

    def _require_classes(self, where, outputs):
        super()._require_classes(where, outputs)
        if len(self._alphas) not in (1, outputs.shape[1]):
            required = f"alpha must be one number, or one for each of the {outputs.shape[1]} classes"
            raise ValueError(_check.message(where, required, self.alpha))

    _of_one = "binary_focal_crossentropy"

    def _compute(self, outputs, y, weights, from_logits, into):
        how = (*self._smoothed(outputs), self.gamma, self._alphas)
        return self._run("categorical_focal", outputs, y, weights, from_logits, into, *how)

    def _terms(self, t, q):
        on, off = self._smoothed(q)
        wrong, logarithm = 1 - q, np.log(q)
        factor = -self._alphas * (on * t + off) * wrong**self.gamma
        ratio = np.divide(logarithm, wrong, out=np.full_like(q, -1.0), where=wrong != 0)
        return factor * logarithm, factor * (1 - self.gamma * q * ratio)


class SparseCategoricalFocalCrossentropy(CategoricalFocalCrossentropy):
    """CategoricalFocalCrossentropy of class numbers: ``y`` (N,) or (N, 1), as for SparseCategoricalCrossentropy.  Keras
    has none."""

    name = "sparse_categorical_focal_crossentropy"
    _sparse = True


class KLDivergence(_Fused):
    """The Kullback-Leibler divergence of targets from outputs, fused with softmax: p = softmax(z) over K classes,

        l = sum_k t_k log(t_k / p_k),    dL/dz = (p sum_k t_k - t) w / N,

    where t is y cut to [1e-7, 1], as in Keras.  It is the cross-entropy without the entropy of the targets.

    ``outputs`` (N, K), K >= 2: probabilities p of a softmax, cut to [1e-7, 1] in the logarithm, or logits z.  ``y``
    (N, K): numbers >= 0 that sum to 1 in every row (within 1e-3).  Probabilities of other kinds are not divided by
    their sum: dl/dp_k = -t_k / p_k.  ``from_logits``: "auto", True or False, see the head of this file; Keras's has
    probabilities only.
    """

    name = "kl_divergence"
    from_logits = Fixed(_auto_or_boolean)
    _divides = False

    def __init__(self, from_logits="auto", reduction=_MEAN):
        super().__init__(reduction)
        self.from_logits = from_logits

    def _compute(self, outputs, y, weights, from_logits, into):
        return self._run("kl_divergence", outputs, y, weights, from_logits, into)

    def _terms(self, t, q):
        t = np.clip(t, _CLIP, 1)
        return t * np.log(t / q), -t


# ---- other losses of a row ----


class CategoricalHinge(_OfRows):
    """The margin between the right class and the others:

        l = max(1 + max_k (1 - t_k) o_k - sum_k t_k o_k, 0);    where it is not 0, dl/do_k = -t_k, and 1 - t_k more for
        the k of the inner maximum, of equal ones the first.

    For one-hot targets the inner maximum is over the other classes and 0, as in Keras.  ``outputs`` (N, K), K >= 2: any
    numbers, rather not probabilities.  ``y`` (N, K): as for CategoricalCrossentropy.
    """

    name = "categorical_hinge"
    needs_from_logits = False
    _of_one = "hinge"

    def _compute(self, outputs, y, weights, from_logits, into):
        return self._run("categorical_hinge", outputs, y, weights, False, into)


def _last_axis(where, name, value):
    value = _check.integer(where, name, value)
    if value not in (-1, 1):
        raise ValueError(_check.message(where, f"{name} must be -1 or 1, the last of the outputs (N, K)", value))
    return value


class CosineSimilarity(_OfRows):
    """Minus the cosine of the angle between outputs and targets, from -1, the same direction, to 1:

        l = -o t / (|o| |t|),    dl/do = (o (o t) / |o|^2 - t) / (|o| |t|),

    where lengths count as at least 1e-7, as in Keras; dl/do = -t / (1e-7 |t|) for shorter outputs.  ``outputs`` (N, K),
    K >= 2, and ``y`` of the same shape, finite.  ``axis``: -1 or 1, which are the same.
    """

    name = "cosine_similarity"
    needs_from_logits = False
    mixes_targets = True
    axis = Fixed(_last_axis)

    def __init__(self, axis=-1, reduction=_MEAN):
        super().__init__(reduction)
        self.axis = axis

    def check_targets(self, where, y, shape):
        finite(where, shape, y)

    def _checked_targets(self, outputs, y):
        where = type(self).__name__
        if outputs.ndim != 2 or outputs.shape[1] < 2:
            required = "outputs must have shape (N, K) with K >= 2: one number has no direction"
            raise ValueError(_check.message(where, required, _check.shape_of(outputs)))
        return None, like_outputs(where, outputs, y)

    def _compute(self, outputs, y, weights, from_logits, into):
        return self._run("cosine_similarity", outputs, y, weights, False, into)


# ---- the mean over the outputs of a sample ----


class _Elementwise(Loss):
    """l = the mean over a sample's M outputs o of f(o, t); the gradient is f'(o, t) w / (N M)."""

    needs_from_logits = False
    mixes_targets = True

    def check_targets(self, where, y, shape):
        finite(where, shape, y)

    def _kind(self, from_logits):
        return self.name

    def _target(self, outputs, y):
        return like_outputs(type(self).__name__, outputs, y)

    def _numbers(self):
        """on and off with t = on y + off, Huber's delta; gamma of the focal loss, and its weights of a yes and a no."""
        return 1.0, 0.0, 1.0, 0.0, 1.0, 1.0

    def _compute(self, outputs, y, weights, from_logits, into):
        y = self._target(outputs, y)
        gradient, losses = into or (np.empty_like(outputs), np.empty(len(outputs)))
        o, t, slope = (array.reshape(len(outputs), -1) for array in (outputs, y, gradient))
        kind = kernels.KINDS[self._kind(from_logits)]
        return kernels.elementwise(kind, o, t, weights, *self._numbers(), slope, losses), gradient


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


class MeanAbsolutePercentageError(_Elementwise):
    """f(o, t) = 100 |o - t| / |t|,  f' = 100 sign(o - t) / |t|, where |t| counts as at least 1e-7, as in Keras.

    ``outputs`` (N, ...) and ``y`` of the same shape, finite; a last axis of 1 may be left out.
    """

    name = "mean_absolute_percentage_error"


class Huber(_Elementwise):
    """Squared for small errors d = o - t, linear for large ones (Huber, Annals of Mathematical Statistics 35, 1964):

        f(o, t) = d^2 / 2 for |d| <= delta, else delta (|d| - delta / 2),    f' = d cut to [-delta, delta].

    ``delta`` > 0.  ``outputs`` (N, ...) and ``y`` of the same shape, finite; a last axis of 1 may be left out.
    """

    name = "huber"

    delta = Fixed(_check.number, 0, open_low=True)

    def __init__(self, delta=1.0, reduction=_MEAN):
        super().__init__(reduction)
        self.delta = delta

    def _numbers(self):
        return 1.0, 0.0, self.delta, 0.0, 1.0, 1.0


class LogCosh(_Elementwise):
    """f(o, t) = log(cosh d) with d = o - t,  f' = tanh d: about d^2 / 2 for small errors, |d| - log 2 for large ones.

    ``outputs`` (N, ...) and ``y`` of the same shape, finite; a last axis of 1 may be left out.
    """

    name = "log_cosh"


class _OfCounts(_Elementwise):
    """``y`` are numbers >= 0."""

    def check_targets(self, where, y, shape):
        y = same_shape(where, shape, y)
        reject(where, "y must be numbers >= 0", y, ~(y >= 0))

    def _target(self, outputs, y):
        y = super()._target(outputs, y)
        if not y.min() >= 0:
            self.check_targets(type(self).__name__, y, outputs.shape)
        return y


class MeanSquaredLogarithmicError(_OfCounts):
    """f(o, t) = d^2 with d = log(1 + o) - log(1 + t),  f' = 2 d / (1 + o), where o and t count as at least 1e-7.

    For smaller o f' is 0: as in Keras an output below 0 does not learn, so end the model in numbers > 0.  ``outputs``
    (N, ...) and ``y`` of the same shape, finite numbers >= 0; a last axis of 1 may be left out.
    """

    name = "mean_squared_logarithmic_error"


class Poisson(_OfCounts):
    """Counts t of events of which o are expected; the likelihood of Poisson's law without what does not depend on o:

        f(o, t) = o - t log(o + 1e-7),    f' = 1 - t / (o + 1e-7).

    ``outputs`` (N, ...), numbers >= 0, such as those of a relu: f of an output below -1e-7 is NaN, as in Keras.  ``y``
    of the same shape, finite numbers >= 0; a last axis of 1 may be left out.
    """

    name = "poisson"


class Hinge(_Elementwise):
    """The margin of a support vector machine: f(o, t) = max(1 - t o, 0),  f' = -t where that is above 0, else 0.

    ``outputs`` (N, ...): any numbers, of which those above 0 are a yes, best without activation or of a tanh.  ``y`` of
    the same shape: 1 for a yes, -1 for a no, or 1 and 0, of which 0 is taken for -1; a last axis of 1 may be left out.
    """

    name = "hinge"
    mixes_targets = False

    def check_targets(self, where, y, shape):
        signs(where, same_shape(where, shape, y))

    def _target(self, outputs, y):
        return signs(type(self).__name__, super()._target(outputs, y))


class SquaredHinge(Hinge):
    """f(o, t) = max(1 - t o, 0)^2,  f' = -2 t max(1 - t o, 0).  ``outputs`` and ``y`` as for Hinge."""

    name = "squared_hinge"


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
    yes_or_no = True
    mixes_targets = False
    label_smoothing = Fixed(_smoothing)
    from_logits = Fixed(_auto_or_boolean)

    def __init__(self, label_smoothing=0.0, from_logits="auto", reduction=_MEAN):
        super().__init__(reduction)
        self.label_smoothing = label_smoothing
        self.from_logits = from_logits

    def _kind(self, from_logits):
        return "binary_logits" if from_logits else "binary_probabilities"

    def _numbers(self):
        return 1 - self.label_smoothing, self.label_smoothing / 2, 1.0, 0.0, 1.0, 1.0

    def check_targets(self, where, y, shape):
        y = same_shape(where, shape, y)
        if y.size and not (y.min() >= 0 and y.max() <= 1):  # no temporary arrays in every step
            reject(where, "y must be in [0, 1]", y, ~((y >= 0) & (y <= 1)))

    def _target(self, outputs, y):
        where = type(self).__name__
        y = like_outputs(where, outputs, y)
        self.check_targets(where, y, outputs.shape)
        return y


class BinaryFocalCrossentropy(BinaryCrossentropy):
    """The binary cross-entropy f_0 in which outputs count little that are known well (Lin et al., "Focal Loss for Dense
    Object Detection", ICCV 2017): with the share x that is wrong, and the slope f_0' of BinaryCrossentropy,

        f = a x^gamma f_0,    f' = a x^gamma (f_0' + gamma (1 - 2 t) p' f_0 / x),    x = t (1 - p) + (1 - t) p,

    p' = 1 for probabilities p, and p' = p (1 - p) for logits, where p = sigmoid(z).  a = t alpha + (1 - t) (1 - alpha)
    with ``apply_class_balancing``, else 1.

    ``gamma`` >= 0; with 0 this is BinaryCrossentropy.  ``alpha`` in [0, 1], the weight of a yes, is used with
    ``apply_class_balancing`` only.  Both slopes are finite for all outputs, with gamma < 1 too: from logits p' / x is
    at most 1 for t of 0 or 1, and probabilities are cut to [1e-7, 1 - 1e-7] in all formulas.  ``outputs``, ``y``,
    ``label_smoothing`` and ``from_logits`` as for BinaryCrossentropy.
    """

    name = "binary_focal_crossentropy"
    apply_class_balancing = Fixed(_check.boolean)
    alpha = Fixed(_check.number, 0, 1)
    gamma = Fixed(_check.number, 0)

    def __init__(
        self,
        apply_class_balancing=False,
        alpha=0.25,
        gamma=2.0,
        from_logits="auto",
        label_smoothing=0.0,
        reduction=_MEAN,
    ):
        super().__init__(label_smoothing, from_logits, reduction)
        self.apply_class_balancing = apply_class_balancing
        self.alpha = alpha
        self.gamma = gamma

    def _kind(self, from_logits):
        return "binary_focal_logits" if from_logits else "binary_focal_probabilities"

    def _numbers(self):
        yes, no = (self.alpha, 1 - self.alpha) if self.apply_class_balancing else (1.0, 1.0)
        return 1 - self.label_smoothing, self.label_smoothing / 2, 1.0, self.gamma, yes, no


class FunctionLoss(Loss):
    """A custom loss: ``function(y, outputs) -> (value, gradient)``, both of the mean over the batch.

    ``function`` gets ``y`` as a NumPy array and the outputs (N, ...) as they are, in the order that the names of its
    parameters say (head of this file); ``gradient`` has the shape of the outputs.  It takes no sample weights, and a
    model compiled with it cannot store it in a file.  TypeError where the names do not tell the order.
    """

    needs_from_logits = False
    mixes_targets = True
    function = Fixed(_check.anything)
    name = property(lambda self: function_name(self.function))

    def __init__(self, function):
        super().__init__()
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
        SparseCategoricalFocalCrossentropy,
        CategoricalFocalCrossentropy,
        BinaryFocalCrossentropy,
        KLDivergence,
        MeanSquaredError,
        MeanAbsoluteError,
        MeanSquaredLogarithmicError,
        MeanAbsolutePercentageError,
        Huber,
        LogCosh,
        Poisson,
        CosineSimilarity,
        Hinge,
        SquaredHinge,
        CategoricalHinge,
    )
}
_SHORT = {
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "msle": MeanSquaredLogarithmicError,
    "mape": MeanAbsolutePercentageError,
    "bce": BinaryCrossentropy,
    "kld": KLDivergence,
}
# Further spellings that Keras knows, or knew.
_SPELLINGS = {
    **{name.upper(): loss for name, loss in _SHORT.items()},
    **{loss.__name__: loss for loss in _CLASSES.values()},
    "logcosh": LogCosh,
    "kullback_leibler_divergence": KLDivergence,
}
LISTED = _SHORT | _CLASSES  # in messages, the first ones only; what is meant is looked for in all
NAMES = LISTED | _SPELLINGS


def get(loss):
    """The Loss for a name, for a Loss, or for a function ``(y, outputs) -> (value, gradient)`` whose parameters have
    names that tell the order (head of this file).

    A name is that of a class of this module, as it is or in small letters with underscores ("MeanSquaredError",
    "mean_squared_error"), or one of Keras's short ones: "mse", "mae", "msle", "mape", "bce", "kld", also in capitals.

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
    if isinstance(name, str) and name in NAMES:
        return NAMES[name]
    return _check.choice("losses.get", "the loss", name, tuple(LISTED), 10)
