"""Monte-Carlo dropout: the layers before the first noise are computed once, the others again and again.

The samples of the noise are functions of (seed, layer, number of the sample, index in the data) alone: neither the
batch size nor the number of threads changes a bit.  Where a batch is small, several samples are made in one pass.
"""

import contextlib

import numpy as np

from minicnn import _check
from minicnn.layer import Layer
from minicnn.layers.noise import new_lot
from minicnn.plan import Workspace

ROWS = 256  # of a pass through the noisy layers, at most but for a larger batch
BYTES = 1 << 20  # of what enters them, about: more would not stay in a second-level cache


class Sampler:
    """The plans for both parts of a chain.  One thread has it at a time."""

    def __init__(self, model):
        noisy = [number for number, layer in enumerate(model.layers) if type(layer).sample is not Layer.sample]
        self.cut = min(noisy, default=len(model.layers))
        self.lots = {layer: new_lot() for layer in model.layers[self.cut :]}
        self.before = Workspace(training=False, layers=model.layers[: self.cut])
        self.behind = Workspace(training=False, layers=model.layers[self.cut :], lots=self.lots)

    def samples(self, model, x, first, n_samples, seed):
        """(n_samples, n, *output_shape) for the batch x, whose samples are first, first + 1, ... of the data."""
        features, n = self._features(model, x), len(x)
        if self.cut == len(model.layers):
            return np.repeat(features[None], n_samples, axis=0)
        rows = min(ROWS, BYTES // features[:1].nbytes)
        copies = min(n_samples, max(1, rows // n))  # of the batch, each with a noise of its own, in one pass
        plan = self.behind.plan(model, copies * n)
        plan.x.reshape(copies, *features.shape)[...] = features
        found = np.empty((n_samples, n, *model.output_shape), model.dtype)
        for number in range(0, n_samples, copies):
            for layer, lot in self.lots.items():
                if hasattr(layer, "settle_sample"):
                    layer.settle_sample(lot, seed, number, first, n)
            outputs = plan.forward().reshape(copies, n, *model.output_shape)
            found[number : number + copies] = outputs[: n_samples - number]
        return found

    def _features(self, model, x):
        """What enters the first noisy layer."""
        if self.cut == 0:
            return _check.contiguous(x, model.dtype)
        plan = self.before.plan(model, len(x))
        plan.take(x)
        return plan.forward()


def samples(model, x, n_samples, seed, batch_size):
    """Yields (slice of x, outputs (n_samples, n, *output_shape)) for one batch after the other."""
    model._settle()
    step = ROWS if batch_size is None else batch_size
    with _lent(model) as sampler:
        for start in range(0, len(x), step):
            batch = x[start : start + step]
            yield slice(start, start + len(batch)), sampler.samples(model, batch, start, n_samples, seed)


@contextlib.contextmanager
def _lent(model):
    """Threads that sample at the same time get different ones."""
    idle = model._idle_samplers  # as in Sequential._evaluation
    try:
        sampler = idle.pop()
    except IndexError:
        sampler = Sampler(model)
    try:
        yield sampler
    finally:
        idle.append(sampler)
