"""Monte-Carlo dropout: the layers before the first noise are computed once, the others again and again.

The samples of the noise are functions of (seed, layer, number of the sample, index in the data) alone: neither the
batch size nor the number of threads changes a bit.  Where a batch is small, several samples are made in one pass.
"""

import numpy as np

from minicnn import _check
from minicnn.layer import Layer, path_of
from minicnn.layers import Composite
from minicnn.layers.random import new_lot
from minicnn.plan import Workspace
from minicnn.tree import walk

ROWS = 256  # of a pass through the noisy layers, at most, except for a larger batch
BYTES = 1 << 20  # of what enters them, roughly: more would not stay in a second-level cache


class Sampler:
    """The plans for both parts of an ``Engine``'s chain.  One thread has it at a time."""

    def __init__(self, engine):
        layers = engine.layers
        noisy = [number for number, layer in enumerate(layers) if _is_noisy(layer)]
        self.cut = min(noisy, default=len(layers))
        every = [layer for _, layer in walk(layers[self.cut :])]
        self.drawing = [layer for layer in every if _draws(layer)]
        given = {*map(id, self.drawing)} | {id(layer) for layer in every if not layer.parts}
        self.lots = {one: new_lot() for one in given}  # by id: a custom layer may have no hash
        self.before = Workspace(training=False, layers=layers[: self.cut])
        self.behind = Workspace(training=False, layers=layers[self.cut :], lots=self.lots)

    def samples(self, engine, x, first, n_samples, seed):
        """(n_samples, n, *output_shape) for the batch x, whose samples are first, first + 1, ... of the data."""
        features, n = self._features(engine, x), len(x)
        if self.cut == len(engine.layers):
            return np.repeat(features[None], n_samples, axis=0)
        rows = min(ROWS, BYTES // features[:1].nbytes)
        copies = min(n_samples, max(1, rows // n))  # of the batch, each with its own noise, in one pass
        plan = self.behind.plan(engine, copies * n)
        plan.x.reshape(copies, *features.shape)[...] = features
        found = np.empty((n_samples, n, *engine.output_shape), engine.dtype)
        for number in range(0, n_samples, copies):
            for layer in self.drawing:
                layer.settle_sample(self.lots[id(layer)], seed, number, first, n)
            outputs = plan.forward().reshape(copies, n, *engine.output_shape)
            found[number : number + copies] = outputs[: n_samples - number]
        return found

    def _features(self, engine, x):
        """What enters the first noisy layer."""
        if self.cut == 0:
            return _check.contiguous(x, engine.dtype)
        plan = self.before.plan(engine, len(x))
        plan.take(x)
        return plan.forward()


def _draws(layer):
    """True for a layer of ``layers/random.py`` whose numbers differ from sample to sample."""
    return hasattr(layer, "settle_sample") and layer.sampled


def _is_noisy(layer):
    """True if a sample of the layer differs from its output in evaluation.

    TypeError for a layer that holds noisy ones and does not say how a sample goes through them: silently, nothing would
    be dropped.
    """
    sample = type(layer).sample
    if sample is Layer.sample and _draws(layer):
        required = f"layer {path_of(layer)} draws noise in a forward of its own, and must have sample(x, lot) as well"
        raise TypeError(_check.message("Sequential.predict_mc", required, _check.kind(layer)))
    if sample not in (Layer.sample, Composite.sample):  # it draws by itself
        return True
    noisy = [name for name, part in layer.parts.items() if _is_noisy(part)]
    if noisy and sample is Layer.sample:
        required = f"a layer that holds a noisy one, {path_of(layer)}.{noisy[0]}, must say how a sample goes through it"
        fix = "Make it a subclass of layers.Composite with flow(x, call), or give it sample(x, lots)"
        raise TypeError(_check.message("Sequential.predict_mc", required, _check.kind(layer), fix))
    return bool(noisy)


def samples(model, x, n_samples, seed, batch_size):
    """Yields (slice of x, outputs (n_samples, n, *output_shape)) for one batch after the other."""
    step = ROWS if batch_size is None else batch_size
    with model.engine.sampler() as sampler:
        for start in range(0, len(x), step):
            batch = x[start : start + step]
            yield slice(start, start + len(batch)), sampler.samples(model.engine, batch, start, n_samples, seed)
