"""Outputs that are drawn: Monte-Carlo dropout, and test-time augmentation.

The layers before the first that draws are computed once, the others again and again.  The samples are functions of
(seed, layer, number of the sample, index in the data) alone: neither the batch size nor the number of threads changes a
bit.  Where a batch is small, several samples are made in one pass.
"""

import numpy as np

from minicnn import _check
from minicnn.layer import Layer, path_of
from minicnn.layers import Composite
from minicnn.layers.random import AugmentedLots, Lots, new_lot
from minicnn.plan import Workspace
from minicnn.tree import walk

ROWS = 256  # of a pass through the layers that draw, at most, except for a larger batch
BYTES = 1 << 20  # of what enters them, roughly: more would not stay in a second-level cache


class Sampler:
    """The plans for both parts of an ``Engine``'s chain.  One thread has it at a time.

    ``augmenting``: the layers that augment images draw, and not those with noise.  ``front``: layers before the
    engine's, built and without parameters; then of those that augment only these draw.
    """

    def __init__(self, engine, augmenting=False, front=()):
        layers, self.augmenting = [*front, *engine.layers], augmenting
        self.drawing = [layer for _, layer in walk(front or layers) if (augments if augmenting else draws)(layer)]
        given = {*map(id, self.drawing)}  # by id: a custom layer may have no hash
        differs = [_holds(layer, given) if augmenting else _is_noisy(layer) for layer in layers]
        self.cut = differs.index(True) if True in differs else len(layers)
        if not augmenting:
            given |= {id(layer) for _, layer in walk(layers[self.cut :]) if not layer.parts}
        self.lots = (AugmentedLots if augmenting else Lots)((one, new_lot()) for one in given)
        self.count = len(layers)
        self.before = Workspace(training=False, layers=layers[: self.cut])
        self.behind = Workspace(training=False, layers=layers[self.cut :], lots=self.lots)

    def samples(self, engine, x, first, n_samples, seed):
        """(n_samples, n, *output_shape) for the batch x, whose samples are first, first + 1, ... of the data."""
        features, n = self._features(engine, x), len(x)
        if self.cut == self.count:
            return np.repeat(features[None], n_samples, axis=0)
        rows = min(ROWS, BYTES // features[:1].nbytes)
        copies = min(n_samples, max(1, rows // n))  # of the batch, each with its own numbers, in one pass
        plan = self.behind.plan(engine, copies * n)
        plan.x.reshape(copies, *features.shape)[...] = features
        found = np.empty((n_samples, n, *engine.output_shape), engine.dtype)
        for number in range(0, n_samples, copies):
            for layer in self.drawing:
                layer.settle_sample(self.lots[id(layer)], seed, number, first, n)
            outputs = plan.forward().reshape(copies, n, *engine.output_shape)
            found[number : number + copies] = outputs[: n_samples - number]
        if self.augmenting:
            for layer in self.drawing:
                layer.finish_samples()
        return found

    def _features(self, engine, x):
        """What enters the first layer that draws."""
        if self.cut == 0:
            return _check.contiguous(x, engine.dtype)
        plan = self.before.plan(engine, len(x))
        plan.take(x)
        return plan.forward()


def draws(layer):
    """True for a layer of ``layers/random.py`` whose numbers differ from sample to sample."""
    return hasattr(layer, "settle_sample") and layer.sampled


def augments(layer):
    """True for a layer that changes images in training and is no part of the network."""
    return hasattr(layer, "augmented")


def _is_noisy(layer):
    """True if a sample of the layer differs from its output in evaluation.

    TypeError for a layer that holds noisy ones and does not say how a sample goes through them: silently, nothing would
    be dropped.
    """
    sample = type(layer).sample
    if sample is Layer.sample and draws(layer):
        required = f"layer {path_of(layer)} draws noise in a forward of its own, and must have sample(x, lot) as well"
        raise TypeError(_check.message("Sequential.predict_mc", required, _check.kind(layer)))
    if sample not in (Layer.sample, Composite.sample):  # it draws by itself
        return True
    noisy = [name for name, part in layer.parts.items() if _is_noisy(part)]
    if noisy:
        _require_sample(layer, noisy[0], "predict_mc", "a noisy one")
    return bool(noisy)


def _holds(layer, drawing):
    """True for a layer that is among those that draw, by their ids, or holds one; TypeError as for ``_is_noisy``."""
    inner = [name for name, part in layer.parts.items() if _holds(part, drawing)]
    if inner:
        _require_sample(layer, inner[0], "predict_tta", "one that augments")
    return id(layer) in drawing or bool(inner)


def _require_sample(layer, name, method, what):
    if type(layer).sample is Layer.sample:
        required = f"a layer that holds {what}, {path_of(layer)}.{name}, must say how a sample goes through it"
        fix = "Make it a subclass of layers.Composite with flow(x, call), or give it sample(x, lots)"
        raise TypeError(_check.message(f"Sequential.{method}", required, _check.kind(layer), fix))


def samples(model, x, n_samples, seed, batch_size, lent=None):
    """Yields (slice of x, outputs (n_samples, n, *output_shape)) for one batch after the other.

    ``lent``: a context that gives a ``Sampler``; None for one of Monte-Carlo samples.
    """
    step = min(ROWS, max(1, -(-len(x) // model.ranks.size))) if batch_size is None else batch_size

    def compute(number, batch):
        return sampler.samples(model.engine, *batch, n_samples, seed), 0.0

    def shape(batch):
        return (n_samples, len(batch[0]), *model.output_shape), model.dtype

    with model.engine.sampler() if lent is None else lent as sampler:
        batches = ((x[start : start + step], start) for start in range(0, len(x), step))
        for _, (batch, start), outputs, _ in model.ranks.computed(batches, compute, shape):
            yield slice(start, start + len(batch)), outputs
