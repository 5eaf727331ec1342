"""What several networks, or one network with many masks of dropout, say together: mean, spread, votes, uncertainty.

``Ensemble.predict`` asks several networks; ``predict_mc`` asks one network again and again, each time with different
units dropped, and ``predict_tta`` each time about other versions of the images.
"""

import contextlib
import copy

import numpy as np

from minicnn import _check, montecarlo, resume
from minicnn.layer import Layer, require_layer, take_places
from minicnn.tree import walk

KINDS = {  # what the outputs of a member are
    "classes": "probabilities of the classes, along the last axis",
    "binary": "one probability, of the answer yes (class 1)",
    "labels": "several probabilities, each of a yes by itself",
    "values": "no probabilities",
}


class Prediction:
    """What T members say about N samples.  With p_t the output of member t for a sample, K classes and
    H[p] = -sum_k p_k log p_k, where 0 log 0 = 0:

    =======================  =================================  ========================================================
    ``mean``                 m = (1/T) sum_t p_t                (N, *out) float64
    ``std``                  sqrt((1/T) sum_t (p_t - m)^2)      (N, *out) float64; of the population: by T, not T - 1
    ``votes``                [k = argmax p_t], summed over t    (N, K) int64; of equal outputs the first counts
    ``predictive_entropy``   H[m]                               (N,) float64, nats; at most log K
    ``mutual_information``   H[m] - (1/T) sum_t H[p_t]          (N,) float64, nats, >= 0: their disagreement
    ``classes``              argmax of ``mean``, or of votes    (N,) int64; of equal ones the first
    =======================  =================================  ========================================================

    A ``how`` of "mean" or "vote" says what ``classes`` and ``np.asarray(prediction)`` go by: the mean, or the shares of
    the votes, in the shape of the mean.  ``samples`` are the members' outputs (T, N, *out), or None where they were not
    kept; ``members`` is T; ``len(prediction)`` is N.

    ``kind`` says what the outputs are.  "classes": probabilities along the last axis.  "binary": one probability a
    sample, (N, 1) or (N,); it votes for class 1 if above 0.5, and H is that of the pair (1 - p, p).  For "labels",
    several yes-or-no outputs a sample, and for "values", which are no probabilities, there are ``mean`` and ``std``
    only: the others raise AttributeError, so that ``hasattr`` says whether they are there.

    NaN: mean, std and both entropies are NaN, a member whose output is NaN does not vote, and the class is -1 where the
    mean is NaN or no member votes.  All sums are in float64 and go member by member, so that the bits of a sample's row
    do not depend on the other samples; where all members are equal, std and mutual information are exactly 0.

    ``Prediction(samples, kind, how)`` makes one from any outputs (T, N, *out), T >= 1.  ValueError for shapes that do
    not fit the kind, and for probabilities outside [0, 1]; TypeError for anything but numbers.

    Source of the mutual information: Houlsby et al., "Bayesian Active Learning for Classification and Preference
    Learning", 2011, equation 2.
    """

    def __init__(self, samples, kind="classes", how="mean"):
        self.kind = _check.choice("Prediction", "kind", kind, tuple(KINDS))
        self.how = check_how("Prediction", how, kind)
        self.samples = _checked_samples(samples, kind)
        self.members = len(self.samples)
        rows = _check.contiguous(self.samples, np.dtype(np.float64))
        with np.errstate(invalid="ignore", over="ignore"):  # infinities among the outputs: NaN is the answer
            self.mean = _mean(rows)
            self.std = np.sqrt(_mean((rows - self.mean) ** 2))
        self._votes = self._predictive_entropy = self._mutual_information = None
        if kind in ("classes", "binary"):
            p = self._over_classes(rows)
            self._votes = _votes(p).sum(0)
            self._predictive_entropy = _entropy(self._over_classes(self.mean))
            self._mutual_information = np.maximum(self._predictive_entropy - _mean(_entropy(p)), 0.0)

    @classmethod
    def of_blocks(cls, blocks, empty, kind, how, return_samples):
        """The Prediction for blocks (T, n, *out) of samples, one after the other; ``empty`` is one of no samples."""
        parts = []
        for block in blocks:
            parts.append(cls(block, kind, how))
            parts[-1].samples = block.copy() if return_samples else None  # the next block may be in the same memory
        parts = parts or [cls(empty, kind, how)]
        whole = copy.copy(parts[0])
        for name in ("mean", "std", "_votes", "_predictive_entropy", "_mutual_information"):
            if getattr(whole, name) is not None:
                setattr(whole, name, np.concatenate([getattr(part, name) for part in parts]))
        whole.samples = np.concatenate([part.samples for part in parts], axis=1) if return_samples else None
        return whole

    def _over_classes(self, p):
        """Probabilities (..., N, *out) as (..., N, K)."""
        if self.kind == "classes":
            return p
        yes = p[..., 0] if self.mean.ndim == 2 else p
        return np.stack([1 - yes, yes], -1)

    def _of_classes(self, name):
        value = getattr(self, f"_{name}")
        if value is None:
            required = f"Prediction.{name}: the outputs must be probabilities of classes, or of one yes or no"
            raise AttributeError(f"{required}; got {KINDS[self.kind]}")
        return value

    @property
    def votes(self):
        """How many members vote for each class: (N, K) int64."""
        return self._of_classes("votes")

    @property
    def predictive_entropy(self):
        """The entropy of the mean in nats: (N,), all of the uncertainty."""
        return self._of_classes("predictive_entropy")

    @property
    def mutual_information(self):
        """The part of the entropy that is disagreement among the members, in nats: (N,)."""
        return self._of_classes("mutual_information")

    @property
    def classes(self):
        """The class of each sample by ``how``: (N,) int64, -1 where there is none."""
        votes = self.votes
        if self.how == "vote":
            return np.where(votes.any(-1), votes.argmax(-1), -1)
        mean = self._over_classes(self.mean)
        return np.where(np.isnan(mean).any(-1), -1, mean.argmax(-1))

    def __array__(self, dtype=None, copy=None):
        array = self.mean
        if self.how == "vote":
            shares = self.votes / self.members
            array = shares if self.kind == "classes" else shares[:, 1].reshape(self.mean.shape)
        return np.array(array, dtype, copy=copy)

    def __len__(self):
        return len(self.mean)

    def __repr__(self):
        outputs = f"{self.votes.shape[-1]} classes" if hasattr(self, "votes") else f"outputs {self.mean.shape[1:]}"
        return f"<Prediction: {len(self)} samples, {outputs}, {self.how} of {self.members} members>"


def check_how(where, how, kind):
    how = _check.choice(where, "how", how, ("mean", "vote"))
    if how == "vote" and kind in ("labels", "values"):
        required = "voting needs probabilities of classes, or of one yes or no"
        raise ValueError(_check.message(where, required, _check.Shown(KINDS[kind])))
    return how


def _checked_samples(samples, kind):
    samples = _check.numeric_array("Prediction", "samples", samples)
    out = samples.shape[2:]
    fits = {"classes": len(out) >= 1 and out[-1:] != (0,), "binary": out in ((), (1,))}
    if samples.ndim < 2 or not len(samples) or not fits.get(kind, True):
        axes = {"classes": "T, N, K", "binary": "T, N, 1"}.get(kind, "T, N, ...")
        required = f"samples must have shape ({axes}) with at least one member"
        raise ValueError(_check.message("Prediction", required, _check.shape_of(samples)))
    if kind != "values" and samples.size and ((samples < 0) | (samples > 1 + 1e-5)).any():
        got = _check.Shown(f"numbers from {samples.min()} to {samples.max()}")
        raise ValueError(_check.message("Prediction", "probabilities must be in [0, 1]", got))
    return samples


# ---- the reduction ----


def _mean(rows):
    """The mean over the first axis, one row after the other: no bit depends on the other axes.

    The mean of equal numbers is that number, since rounding may not carry it out of their range.
    """
    total = np.cumsum(rows, axis=0)[-1]  # in order, where np.sum may add in pairs
    return np.clip(total / len(rows), rows.min(0), rows.max(0)) + 0.0  # + 0.0: of 0 and -0 min may take either


def _votes(p):
    """One for the largest of (..., K), the first of equal ones; none where there is a NaN."""
    chosen = np.arange(p.shape[-1]) == p.argmax(-1)[..., None]
    return (chosen & ~np.isnan(p).any(-1)[..., None]).astype(np.int64)


def _entropy(p):
    """-sum_k p_k log p_k over the last axis, in nats."""
    return np.maximum(0.0 - (p * np.log(np.where(p > 0, p, 1))).sum(-1), 0.0)


# ---- Monte-Carlo dropout ----


def read(model, kind, outputs):
    """A model's outputs as a Prediction of this kind takes them: as probabilities, unless they are just values."""
    return outputs if kind == "values" else model.as_probabilities(outputs)


def predict_mc(model, x, n_samples=50, seed=None, batch_size=None, return_samples=False):
    """See ``Sequential.predict_mc``."""
    text = "does the model have a dropout layer with a rate above 0?"
    return _sampled(model, "predict_mc", x, n_samples, seed, batch_size, return_samples, text)


def _sampled(model, method, x, n_samples, seed, batch_size, return_samples, question, lend=None):
    """``lend``: what gives a ``Sampler`` for the model once it is built; None for one of Monte-Carlo samples."""
    where = f"Sequential.{method}"
    n_samples = _check.integer(where, "n_samples", n_samples, 1)
    seed = None if seed is None else _check.integer(where, "seed", seed, 0, 2**64 - 1)
    batch_size = None if batch_size is None else _check.integer(where, "batch_size", batch_size, 1)
    return_samples = _check.boolean(where, "return_samples", return_samples)
    x = model.checked_inputs(method, x)
    kind = model.output_kind
    resume.require_same(model, method, (x, None, None), n_samples, seed, batch_size)
    found = montecarlo.samples(model, x, n_samples, seed, batch_size, None if lend is None else lend())
    blocks = (read(model, kind, outputs) for _, outputs in found)
    empty = np.empty((n_samples, 0, *model.output_shape), model.dtype)
    prediction = Prediction.of_blocks(blocks, empty, kind, "mean", return_samples)
    if n_samples > 1 and len(x) and not prediction.std.any():
        _check.warn(f"{where}: all {n_samples} samples are equal; {question}")
    return prediction


# ---- test-time augmentation ----


def predict_tta(model, x, n_samples=32, seed=None, batch_size=None, return_samples=False, augment=None):
    """See ``Sequential.predict_tta``."""
    where = "Sequential.predict_tta"

    def lend():
        if augment is not None:
            front = _front(where, model, augment)
            return contextlib.nullcontext(montecarlo.Sampler(model.engine, augmenting=True, front=front))
        if not any(montecarlo.augments(layer) for _, layer in walk(model.layers)):
            required = "the model must have a layer that augments images"
            fix = 'Say which to use: predict_tta(x, augment=[layers.RandomFlip("horizontal")])'
            got = _check.Shown(", ".join(type(layer).__name__ for layer in model.layers))
            raise ValueError(_check.message(where, required, got, fix))
        return model.engine.sampler(augmenting=True)

    question = "do the augmentation layers change anything?"
    return _sampled(model, "predict_tta", x, n_samples, seed, batch_size, return_samples, question, lend)


def _front(where, model, augment):
    """Copies of the layers, built to stand before the model's."""
    given = [augment] if isinstance(augment, Layer) else augment
    if not isinstance(given, list | tuple):
        required = "augment must be a layer or a list of layers"
        raise TypeError(_check.message(where, required, _check.kind(augment)))
    front = tuple(copy.deepcopy(require_layer(f"{where}: augment", layer)) for layer in given)
    walked = walk(front)
    take_places(walked, model.seed, model.dtype, first=len(walk(model.layers)))
    shape, rng = model.input_shape, np.random.default_rng(model.seed)
    for layer in front:
        shape = layer.build(shape, rng)
    if shape != model.input_shape:
        required = f"augment must keep the shape of the model's inputs, {model.input_shape}"
        raise ValueError(_check.message(where, required, shape))
    for _, layer in walked:
        if layer.params or montecarlo.draws(layer):
            required = "augment must hold layers that augment images, and others without parameters and noise"
            raise ValueError(_check.message(where, required, layer))
    if not any(montecarlo.augments(layer) for _, layer in walked):
        required = "augment must hold a layer that augments images, such as layers.RandomFlip"
        raise ValueError(_check.message(where, required, augment))
    return front
