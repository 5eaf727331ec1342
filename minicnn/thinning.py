"""Networks with units missing: what they can still do, and what many of them together say.

``ablation_curve`` removes units from a trained network; ``averaging_curve`` averages thinned networks and compares
them with the one that ``predict`` uses; ``sums_of_ones`` shows why something must be scaled at all.  Numbers only:
``plot.ablation``, ``plot.mc_against_scaled`` and ``plot.scaling`` draw them.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from minicnn import _check, layers, metrics, targets
from minicnn.layer import Layer, output_of
from minicnn.notebook import Pictured

__all__ = ["AblationCurve", "AveragingCurve", "ablation_curve", "averaging_curve", "mean_and_error", "sums_of_ones"]

FRACTIONS = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
COUNTS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)


def mean_and_error(values):
    """The mean over the first axis of (R, ...) and its standard error, s / sqrt(R), s^2 = sum (v - mean)^2 / (R - 1).

    For R = 1 the error is NaN.
    """
    values = np.asarray(values, np.float64)
    repeats = len(values)
    mean = values.mean(0)
    if repeats == 1:
        return mean, np.full_like(mean, np.nan)
    return mean, values.std(0, ddof=1) / np.sqrt(repeats)


# ---- units removed from a trained network ----


@dataclass(frozen=True)
class AblationCurve(Pictured):
    """What ``ablation_curve`` found.  F fractions, R repeats.

    - ``fractions`` (F,): the shares removed, ``removed`` (F,): the numbers of units, out of ``units``.
    - ``accuracy`` (R, F): with the other units as they are; ``accuracy_rescaled`` (R, F): with the other units
      multiplied by units / (units - removed).
    - ``layer``: the number of the layer in the model, ``name``: its kind.
    """

    _picture = "ablation"

    layer: int
    name: str
    units: int
    removed: np.ndarray
    accuracy: np.ndarray
    accuracy_rescaled: np.ndarray

    @property
    def fractions(self):
        return self.removed / self.units


def ablation_curve(model, x, y, layer, fractions=FRACTIONS, repeats=10, seed=0):
    """The accuracy of a trained model while more and more units of one layer are set to zero, as an ``AblationCurve``.

    With h (N, ..., D) the output of the layer in eval mode and S a random set of k = round(fraction * D) units:

        accuracy:            what follows gets  h[..., j] * [j not in S]
        accuracy_rescaled:   what follows gets  h[..., j] * [j not in S] * D / (D - k)

    The first is the damage as it is.  But the next layer then also gets a smaller sum than it was trained on, and
    training with dropout does not prepare a network for such a sum.  The second keeps the sum's expectation, as
    inverted dropout does in training, so that only the units' information is lost.

    - x, y: as for ``evaluate``; y are classes.
    - ``layer``: a layer of the model, or its number; not the last one.  Its units are the last axis of its output: of a
      Dense its units, of a Conv2D its channels.  Where an activation follows as a separate layer, name that one:
      what is zero before it need not be zero after it.
    - ``fractions``: numbers in [0, 1], ascending.  ``repeats``: how many random orders the units are removed in, >= 1;
      within a repeat the sets grow, one holds the next.  ``seed``: the sets are a function of (seed, repeat, D).

    Changes nothing in the model.  TypeError and ValueError for bad arguments.

    Source of the experiment: Morcos et al., "On the Importance of Single Directions for Generalization", ICLR 2018
    (cumulative ablation in random order); there, too, training with dropout helps up to a point only.
    """
    where = "ablation_curve"
    x = model.checked_inputs(where, x)
    number = _layer_number(where, model, layer)
    fractions = _ascending(where, "fractions", fractions, lambda f: _check.number(where, "every fraction", f, 0, 1))
    repeats = _check.integer(where, "repeats", repeats, 1)
    seed = _check.integer(where, "seed", seed, 0)
    features = _through(model, slice(0, number + 1), x)
    units = features.shape[-1]
    removed = np.array([round(fraction * units) for fraction in fractions])
    found = np.empty((2, repeats, len(removed)))
    for repeat in range(repeats):
        order = np.random.default_rng([seed, repeat]).permutation(units)
        for place, count in enumerate(removed):
            keep = np.ones(units, features.dtype)
            keep[order[:count]] = 0
            for way, factor in enumerate((1, units / max(units - count, 1))):
                outputs = _through(model, slice(number + 1, None), features * (keep * features.dtype.type(factor)))
                found[way, repeat, place] = _accuracy(model, outputs, y)
    return AblationCurve(number, type(model.layers[number]).__name__, units, removed, *found)


def _accuracy(model, outputs, y):
    """Of several outputs the largest counts, logits or not; of one output it must be known which it is."""
    several = outputs.ndim == 2 and outputs.shape[1] > 1
    return metrics.accuracy(y, outputs if several else model.as_probabilities(outputs))


def _layer_number(where, model, layer):
    """The place of a layer that is not the last."""
    last = len(model.layers) - 1
    if isinstance(layer, Layer):
        number = next((i for i, one in enumerate(model.layers) if one is layer), None)
        if number is None:
            raise ValueError(_check.message(where, "layer must be one of the model's", layer))
    else:
        number = _check.integer(where, "layer", layer, 0, last)
    if number == last:
        required = "layer must have another layer after it"
        raise ValueError(_check.message(where, required, layer, f"The last layer is number {last}"))
    return number


def _ascending(where, name, values, check):
    """``values``, each as ``check`` returns it."""
    required = f"{name} must be a list of different numbers in ascending order"
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise TypeError(_check.message(where, required, _check.kind(values)))
    found = [check(value) for value in values]
    if not found or any(b <= a for a, b in itertools.pairwise(found)):
        raise ValueError(_check.message(where, required, found))
    return found


def _through(model, part, x, step=256):
    """x through some of the model's layers, in eval mode."""
    batches = []
    for start in range(0, max(len(x), 1), step):
        h = _check.contiguous(x[start : start + step], model.dtype)
        for layer in model.layers[part]:
            h = output_of(layer, h)
        batches.append(h)
    return np.concatenate(batches)


# ---- thinned networks averaged ----


@dataclass(frozen=True)
class AveragingCurve(Pictured):
    """What ``averaging_curve`` found.  C counts, R repeats, N samples of K classes.

    - ``counts`` (C,): how many thinned networks were averaged; ``accuracy``, ``log_loss`` (R, C): of their mean.
    - ``scaled_accuracy``, ``scaled_log_loss``: of the scaled network, ``predict``.
    - ``mean``, ``scaled`` (N, K): the probabilities of the largest average (of the first repeat) and of ``predict``;
      ``labels`` (N,): the true classes.
    """

    _picture = "mc_against_scaled"

    counts: np.ndarray
    accuracy: np.ndarray
    log_loss: np.ndarray
    scaled_accuracy: float
    scaled_log_loss: float
    mean: np.ndarray
    scaled: np.ndarray
    labels: np.ndarray


def averaging_curve(model, x, y, counts=COUNTS, repeats=10, seed=0):
    """How good the mean of k thinned networks is, for several k, beside the scaled network: an ``AveragingCurve``.

    With p_t the probabilities from the thinned network t (a Monte-Carlo sample, ``predict_mc``) and p those of
    ``predict``, in which nothing is dropped and everything scaled:

        m_k = (1/k) sum_{t<k} p_t        log-loss = -(1/N) sum_n log m_k[n, y_n]  (in nats), and of p likewise

    - x, y: as for ``evaluate``; the model gives one probability, or logit, for each of K >= 2 classes.
    - ``counts``: the values of k, whole numbers >= 1, ascending.  ``repeats``: how often that is done, each time with
      other masks, those of ``predict_mc(x, seed=seed + repeat)``.

    A log-loss where a true class has probability 0 counts it as the smallest positive float64.

    Source: Srivastava et al., JMLR 15 (2014), section 7.5 and figure 11.
    """
    where = "averaging_curve"
    x = model.checked_inputs(where, x)
    if len(model.output_shape) != 1 or model.output_shape[0] < 2:
        got = _check.Shown(f"outputs of shape {model.output_shape}")
        raise ValueError(_check.message(where, "the model must give one output for each of several classes", got))
    counts = _ascending(where, "counts", counts, lambda k: _check.integer(where, "every count", k, 1))
    repeats = _check.integer(where, "repeats", repeats, 1)
    seed = _check.integer(where, "seed", seed, 0, 2**64 - repeats)
    labels = targets.class_numbers(where, y, len(x), model.output_shape[0])
    found, first = np.empty((2, repeats, len(counts))), None
    for repeat in range(repeats):
        prediction = model.predict_mc(x, counts[-1], seed=seed + repeat, return_samples=True)
        samples = prediction.samples
        if prediction.kind == "values":  # no loss said that these are logits, but here they are
            samples = model.as_probabilities(samples)
        means = np.cumsum(samples, axis=0, dtype=np.float64)[np.array(counts) - 1] / np.reshape(counts, (-1, 1, 1))
        first = means[-1] if first is None else first
        found[:, repeat] = np.transpose([_accuracy_and_log_loss(mean, labels) for mean in means])
    scaled = model.predict_proba(x)
    return AveragingCurve(np.array(counts), *found, *_accuracy_and_log_loss(scaled, labels), first, scaled, labels)


def _accuracy_and_log_loss(p, labels):
    chosen = p[np.arange(len(p)), labels].astype(np.float64)
    return metrics.accuracy(labels, p), -float(np.log(np.maximum(chosen, np.finfo(np.float64).tiny)).mean())


# ---- what scaling is for ----


def sums_of_ones(rate=0.3, units=100, samples=10_000, seed=0):
    """The sum of ``units`` inputs of 1 after dropout, as {way: (sums in training (samples,), sum in evaluation)}.

    ============  ==============================  ==================  ==================================================
    way           training                        evaluation          expectation in training, in evaluation
    ============  ==============================  ==================  ==================================================
    "unscaled"    sum of x * keep                 sum of x            units * (1 - rate), units: they do not agree
    "classical"   sum of x * keep                 (1 - rate) * sum    units * (1 - rate) in both
    "inverted"    sum of x * keep / (1 - rate)    sum of x            units in both
    ============  ==============================  ==================  ==================================================

    Computed by ``layers.Dropout``, with the same masks in all of them.  0 < rate < 1; units and samples >= 1.
    """
    where = "sums_of_ones"
    rate = _check.number(where, "rate", rate, 0, 1, open_low=True, open_high=True)
    ones = np.ones([_check.integer(where, n, v, 1) for n, v in (("samples", samples), ("units", units))])
    found = {}
    for mode in ("classical", "inverted"):
        layer = layers.Dropout(rate, mode, seed=seed, dtype="float64")
        layer.build((units,), np.random.default_rng(0))
        found[mode] = layer.forward(ones, training=True).sum(1), float(layer.forward(ones[:1])[0].sum())
    return {"unscaled": (found["classical"][0], found["inverted"][1]), **found}
