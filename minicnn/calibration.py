"""How sure a network is, beside how often it is right; and temperature scaling, which brings both together.

A network is *calibrated* if of all samples for which it says 80 %, 80 % are right.  ``expected_calibration_error`` says
in one number how far it is from that, ``reliability_curve`` bin by bin (``plot.reliability`` draws it), and
``fit_temperature`` makes a calibrated model of a trained one.

Everywhere the truth comes first, as in ``metrics``: ``y_true`` are class numbers (N,) or (N, 1), or one-hot rows
(N, K); ``y_prob`` are probabilities (N, K), K >= 2, or (N,) or (N, 1) of class 1, or a ``Prediction`` of classes or of
one yes or no, with what it goes by (``how``).  All is computed in float64.  ValueError for shapes and values, logits
among them, TypeError for the wrong kind of thing.
"""

from dataclasses import dataclass

import numpy as np

from minicnn import _check, layers, outputs, targets
from minicnn.layer import is_named
from minicnn.layers.activation import Activated
from minicnn.model import Sequential
from minicnn.notebook import Pictured
from minicnn.prediction import KINDS, Prediction

__all__ = [
    "ReliabilityCurve",
    "brier_score",
    "expected_calibration_error",
    "fit_temperature",
    "negative_log_likelihood",
    "optimal_temperature",
    "reliability_curve",
]

NORMS = ("l1", "l2", "max")
ENDS = {"softmax": layers.Softmax, "log_softmax": layers.LogSoftmax, "sigmoid": layers.Sigmoid}


# ---- what is measured ----


@dataclass(frozen=True)
class ReliabilityCurve(Pictured):
    """What ``reliability_curve`` found.  B bins, N samples.

    - ``edges`` (B + 1,): bin b holds the confidences in (edges[b], edges[b + 1]], the first one 0 as well.
    - ``count`` (B,): its samples n_b; ``confidence``, ``accuracy`` (B,): their mean confidence c_b and the share a_b
      that is right; NaN in a bin without samples.
    - ``of_one``: whether they are of a single probability, of class 1: a c_b below 1/2 then is a confidence in class 0.
    """

    _picture = "reliability"

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    of_one: bool = False

    def error(self, norm="l1"):
        """The calibration error, with w_b = n_b / N, over the bins that have samples:

        ::

            "l1"    sum_b w_b |a_b - c_b|               the expected calibration error
            "l2"    sqrt(sum_b w_b (a_b - c_b)^2)       its root mean square
            "max"   max_b |a_b - c_b|                   the maximum calibration error
        """
        norm = _check.choice("ReliabilityCurve.error", "norm", norm, NORMS)
        filled = self.count > 0
        gap = np.abs(self.accuracy - self.confidence)[filled]
        weight = self.count[filled] / self.count.sum()
        if norm == "max":
            return float(gap.max())
        return float((weight * gap).sum() if norm == "l1" else np.sqrt((weight * gap**2).sum()))

    @property
    def ece(self):
        """``error("l1")``."""
        return self.error("l1")

    @property
    def mce(self):
        """``error("max")``."""
        return self.error("max")

    @property
    def overconfidence(self):
        """sum_b w_b (c_b - a_b), the mean confidence less the accuracy: above 0 where the network is surer than it is
        right, below 0 where it is right more often than it says.  Its size is at most ``ece``.

        Of a single probability a bin with c_b < 1/2 counts the other way around, as w_b (a_b - c_b): that is how much
        surer of class 0 the network is.
        """
        filled = self.count > 0
        surer = np.where(self.of_one & (self.confidence < 0.5), -1, 1) * (self.confidence - self.accuracy)
        return float((self.count * surer)[filled].sum() / self.count.sum())


def reliability_curve(y_true, y_prob, n_bins=15, strategy="uniform"):
    """Confidence and accuracy, bin by bin, as a ``ReliabilityCurve``.

    The confidence of a sample is its largest probability, and it is right if that is the probability of its class (of
    equal ones the first counts).  Of a single probability, of class 1, the confidence is that number itself, and right
    is who is of class 1: as in scikit-learn and torchmetrics, so that bins lie on both sides of 1/2.

    - ``n_bins``: B >= 1.
    - ``strategy``: "uniform" for bins of equal width, ((b - 1) / B, b / B] as in the paper; "quantile" for bins of
      equal mass, each with as many samples as the others, up to one more or less; equal confidences stay together, so
      that there can be fewer bins, of other sizes.

    Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 2; bins of
    equal mass: Nguyen and O'Connor, "Posterior Calibration and Exploratory Analysis for Natural Language Processing
    Models", EMNLP 2015.
    """
    return _curve("reliability_curve", y_true, y_prob, n_bins, strategy)


def expected_calibration_error(y_true, y_prob, n_bins=15, norm="l1", strategy="uniform"):
    """sum_b (n_b / N) |a_b - c_b| over bins of the confidence: ``reliability_curve`` and its ``error``.

    ``norm``: "l1", or "l2" and "max", in torchmetrics's words.  With few samples in a bin a_b scatters, and a perfectly
    calibrated network has an error above 0 as well: compare networks by the same samples and bins.

    Source: Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015;
    Guo et al. 2017, equations 3 and 5.
    """
    norm = _check.choice("expected_calibration_error", "norm", norm, NORMS)
    return _curve("expected_calibration_error", y_true, y_prob, n_bins, strategy).error(norm)


def brier_score(y_true, y_prob):
    """(1/N) sum_i sum_k (p_ik - [y_i = k])^2, in [0, 2]; of two classes, and of one probability, half of it, (p - y)^2.

    As in scikit-learn.  Brier, "Verification of Forecasts Expressed in Terms of Probability", 1950.
    """
    p, y = _checked("brier_score", y_true, y_prob)
    if p.ndim == 1:
        return float(((p - y) ** 2).mean())
    squares = ((p - (np.arange(p.shape[1]) == y[:, None])) ** 2).sum(1)
    return float(squares.mean() / (2 if p.shape[1] == 2 else 1))


def negative_log_likelihood(y_true, y_prob):
    """-(1/N) sum_i log p_i of the class y_i, in nats: the cross-entropy.  Infinite where such a p_i is 0."""
    p, y = _checked("negative_log_likelihood", y_true, y_prob)
    chosen = np.where(y == 1, p, 1 - p) if p.ndim == 1 else p[np.arange(len(p)), y]
    with np.errstate(divide="ignore"):
        return float(-np.log(chosen).mean()) + 0.0


def _curve(where, y_true, y_prob, n_bins, strategy):
    n_bins = _check.integer(where, "n_bins", n_bins, 1, 2**31)
    strategy = _check.choice(where, "strategy", strategy, ("uniform", "quantile"))
    p, y = _checked(where, y_true, y_prob)
    confidence, right = (p, y == 1) if p.ndim == 1 else (p.max(1), p.argmax(1) == y)
    edges = np.arange(n_bins + 1) / n_bins
    if strategy == "quantile":
        last = -(-len(p) * np.arange(1, n_bins) // n_bins) - 1  # the last sample of each bin but one, rounded up
        edges = np.unique(np.concatenate([[0.0], np.sort(confidence)[last], [1.0]]))
        edges = np.append(edges[edges < confidence.max()], 1.0)  # nothing is above the largest
    bins = np.clip(np.searchsorted(edges, confidence) - 1, 0, len(edges) - 2)
    count = np.bincount(bins, minlength=len(edges) - 1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        means = [np.bincount(bins, values, len(edges) - 1) / count for values in (confidence, right)]
    return ReliabilityCurve(edges, count, *means, p.ndim == 1)


def _checked(where, y_true, y_prob):
    """(p, y): float64 (N, K) or, of class 1, (N,); class numbers (N,)."""
    if isinstance(y_prob, Prediction):
        if y_prob.kind not in ("classes", "binary"):
            required = "a prediction must be one of classes, or of one yes or no"
            raise ValueError(_check.message(where, required, _check.Shown(KINDS[y_prob.kind])))
        y_prob = np.asarray(y_prob)
    p = _check.contiguous(_check.numeric_array(where, "y_prob", y_prob), np.float64)
    if p.ndim == 2 and p.shape[1] == 1:
        p = p[:, 0]
    if p.ndim not in (1, 2) or not p.size:
        required = "y_prob must have shape (N, classes), (N, 1) or (N,), with at least one sample"
        raise ValueError(_check.message(where, required, _check.shape_of(p)))
    what = "probabilities must be in [0, 1]; logits become some by model.predict_proba"
    targets.reject(where, what, p, ~((p >= 0) & (p <= 1 + 1e-5)))
    if p.ndim == 1:
        return p, targets.labels(where, y_true, len(p), 2)
    sums = p.sum(1)
    targets.reject(where, "the probabilities of a sample must sum to 1", sums, ~(np.abs(sums - 1) <= 1e-3))
    return p, targets.class_numbers(where, y_true, *p.shape)


# ---- temperature scaling ----


def optimal_temperature(y_true, logits):
    """The T > 0 for which softmax(z / T) has the smallest negative log-likelihood,

    ::

        T = argmin  -(1/N) sum_i log softmax(z_i / T)[y_i]

    a float.  ``logits``: z (N, K), K >= 2; of a single output, (N,) or (N, 1), the sigmoid takes the softmax's place.
    What has no logits has logarithms of probabilities: ``np.log(prediction.mean)`` are as good.

    The loss is convex in 1/T, so there is one minimum; Newton's method within a bracket finds it to the last digits.
    ValueError where there is none: if all samples are right, surer would always be better, and if they are not right
    more often than by chance, less sure would be.

    Source: Guo et al. 2017, section 4.2.
    """
    where = "optimal_temperature"
    z = _check.contiguous(_check.numeric_array(where, "logits", logits), np.float64)
    if z.ndim == 2 and z.shape[1] == 1:
        z = z[:, 0]
    if z.ndim not in (1, 2) or not z.size:
        required = "logits must have shape (N, classes), (N, 1) or (N,), with at least one sample"
        raise ValueError(_check.message(where, required, _check.shape_of(z)))
    targets.reject(where, "logits must be finite", z, ~np.isfinite(z))
    if z.ndim == 2:
        return _solve(where, z, targets.class_numbers(where, y_true, *z.shape))
    return _solve(where, _of_two(z), targets.labels(where, y_true, len(z), 2))


def fit_temperature(model, x, y):
    """A copy of a trained model that is calibrated on the samples x with the targets y, by ``optimal_temperature``.

    Give it a validation part, which the model was not trained on: of what it knows by heart it is rightly sure.

    The copy has a layer ``Temperature`` before its softmax, log_softmax or sigmoid, which becomes a layer of its own
    where it was the activation of the last one; or at its end, if it gives logits.  One that is there already takes the
    new number.  All else is as in ``model``, which is left alone: weights, classes chosen (``argmax``), optimiser.
    ``predict``, ``predict_mc``, ``evaluate`` and ``save`` go with the temperature:
    ``mc.calibration.fit_temperature(model, x_val, y_val).save("calibrated.npz")``.

    It is the whole network of ``predict`` that is calibrated, not the mean of ``predict_mc`` or of an ensemble; for
    those take ``optimal_temperature`` of the logarithm of their mean.

    ValueError where the model's outputs are no probabilities and no cross-entropy takes them for logits, where another
    layer stands behind the softmax, and where there is no best temperature; RuntimeError for a model that is not built.

    Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.
    """
    where = "fit_temperature"
    if not isinstance(model, Sequential):
        raise TypeError(_check.message(where, "model must be a Sequential", _check.kind(model)))
    if not model.built:
        raise RuntimeError(f"{where}: the model must be built and trained before it is calibrated")
    kind, bare, end = _opened(where, model)
    x = model.checked_inputs(where, x)
    if not len(x):
        raise ValueError(_check.message(where, "x must hold at least one sample", _check.shape_of(x)))
    z = bare.predict(x).astype(np.float64)
    targets.reject(where, "the logits must be finite", z, ~np.isfinite(z))
    if kind == "classes":
        if z.ndim != 2:
            raise ValueError(_check.message(where, "the model must give one row of logits a sample", z.shape))
        found = _solve(where, z, targets.class_numbers(where, y, *z.shape))
    else:  # each output is a yes or no of its own
        yes = targets.like_outputs(where, z, y)
        found = _solve(where, _of_two(z.ravel()), targets.labels(where, yes.ravel(), z.size, 2))
    if isinstance(bare.layers[-1], layers.Temperature):
        bare.layers[-1].temperature *= found
        return bare.with_end(end)
    return bare.with_end([layers.Temperature(found), *end])


def _opened(where, model):
    """What the outputs are, a copy that ends in logits, and the layers that make probabilities of them."""
    path, last = next(outputs.from_the_end(model.layers))
    own = type(last) in (layers.Activation, *ENDS.values()) and last.activation in ENDS
    if own and "." not in path and len(model.layers) > 1:
        end = ENDS[last.activation](**({"name": last.name} if is_named(last) else {}))
        return _kind(last.activation), model.with_end([], cut=1), [end]
    if isinstance(last, Activated) and last.activation in ENDS:
        end, bare = ENDS[last.activation](), model.with_end([])
        _, opened = next(outputs.from_the_end(bare.layers))
        opened.activation = None
        return _kind(last.activation), bare, [end]
    if model.reading.function != "linear":
        required = "a softmax, log_softmax or sigmoid must be the last layer of the model, or the activation of it"
        raise ValueError(_check.message(where, required, _check.Shown(f"layer {path}, {last!r}")))
    if model.output_kind == "values":
        fix = "Compile it with a cross-entropy, which takes them for logits"
        raise ValueError(_check.message(where, "the model must give probabilities or logits", model, fix))
    return model.output_kind, model.with_end([]), []


def _kind(function):
    return "labels" if function == "sigmoid" else "classes"


def _of_two(z):
    """Logits of a yes (N,) as logits of two classes (N, 2): the sigmoid is their softmax."""
    return np.stack([np.zeros_like(z), z], 1)


def _solve(where, z, y):
    """T for logits (N, K) and class numbers (N,).  With b = 1/T and p = softmax(b z), of each sample,

    dL/db = mean of sum_k p_k z_k - z_y,    d2L/db2 = mean of sum_k p_k z_k^2 - (sum_k p_k z_k)^2 >= 0.
    """
    z = z - z.max(1, keepdims=True)
    size = -z.min() or 1.0
    z /= size  # from -1 to 0: what follows is of one order, however large the logits are
    right = z[np.arange(len(z)), y]
    if (z.mean(1) - right).mean() >= 0:  # the slope at b = 0
        required = "the logits must be better than chance for a best temperature to exist"
        raise ValueError(_check.message(where, required, _check.Shown(f"{len(z)} samples for which they are not")))
    if not (right < 0).any():
        required = "some sample must be wrong for a best temperature to exist"
        got = _check.Shown(f"{len(z)} samples that are all right")
        raise ValueError(_check.message(where, required, got, "Take more samples"))
    low, high = 0.0, 1.0
    while high < 1e30 and _slopes(z, right, high)[0] < 0:
        low, high = high, 2 * high
    b = (low + high) / 2
    for _ in range(200):
        slope, curvature = _slopes(z, right, b)
        low, high = (b, high) if slope < 0 else (low, b)
        before, b = b, b - slope / curvature if curvature > 0 else low
        if not low < b < high:
            b = (low + high) / 2
        if abs(b - before) <= 1e-15 * b:
            break
    return float(size / b)


def _slopes(z, right, b):
    """The first and the second derivative of the loss at b = 1/T."""
    p = np.exp(b * z)
    p /= p.sum(1, keepdims=True)
    mean = (p * z).sum(1)
    return (mean - right).mean(), ((p * z * z).sum(1) - mean**2).mean()
