"""Monte-Carlo prediction beside what it replaces: passes through the network one by one."""

import numpy as np
import reference

import minicnn as mc
from benchmarks import rivals
from benchmarks.machine import percent, relative_error, side_by_side, table
from benchmarks.models import MODELS, in_minicnn, samples
from minicnn import layers

TITLE = "Monte-Carlo prediction"
TEXT = """\
`predict_mc` with 50 samples, milliseconds. *Bound*: one pass through the layers before the first dropout and 50 through
those after it, with nothing dropped: no masks, no random numbers. *By hand*: 50 passes through the whole network in
training mode, which is what one does where there is no `predict_mc`; PyTorch does the same. Ratios say how many times
as fast `predict_mc` is.
"""
SAMPLES = 50


def run(quick=False, plots=None):
    rows = []
    for name in ["digits"] if quick else ("digits", "keras_mnist", "torch_mnist"):
        for n in (3,) if quick else (1, 16, 128):
            times = side_by_side(cases(*MODELS[name], n), quick, rounds=9, burst=0)
            ours = times["ours"].median
            others = [times[other].median / ours if other in times else None for other in ("bound", "by hand", "torch")]
            rows.append([name, n, f"{1000 * ours:.2f}", percent(times["ours"].spread),
                         *("" if ratio is None else f"{ratio:.2f}" for ratio in others)])  # fmt: skip
    head = ["network", "images", "ms", "spread", "against the bound", "against by hand", "against PyTorch"]
    return TEXT + "\n" + table(head, rows)


def cases(shape, entries, n):
    model = in_minicnn(entries)
    x, _ = samples(shape, n)
    model.build(shape)
    check(model, x)
    front, behind = halves(model)

    def bound():
        features = front.predict(x)
        for _ in range(SAMPLES):
            behind.predict(features)

    def by_hand():
        for _ in range(SAMPLES):
            model.forward(x, training=True)

    found = {"ours": lambda: model.predict_mc(x, SAMPLES), "bound": bound, "by hand": by_hand}
    if rivals.have("torch"):
        found["torch"] = in_torch(shape, entries, x)
    return found


def halves(model):
    """Models of the layers before the first dropout and of those after it, with the same weights."""
    cut = next(i for i, layer in enumerate(model.layers) if isinstance(layer, layers.Dropout))
    found = []
    for part in (model.layers[:cut], model.layers[cut + 1 :]):
        half = mc.Sequential([type(layer)(**layer.get_config()) for layer in part])
        half.build(part[0].input_shape)
        half.set_weights([array for layer in part for array in layer.params.values()])
        found.append(half)
    return found


def in_torch(shape, entries, x):
    import torch

    rival = rivals.Torch(entries, shape, "contiguous")
    images = rival.tensor(x)

    def passes():
        with torch.inference_mode():
            for _ in range(SAMPLES):
                rival.net(images)

    return passes


def check(model, x):
    """The last sample against the layers one by one, with the masks of the reference."""
    y = x
    for number, layer in enumerate(model.layers):
        if isinstance(layer, layers.Dropout):
            keep = reference.dropout_mask(model.seed, number, SAMPLES - 1, y.shape, layer.rate, purpose=1)
            y = np.where(keep, y * np.float32(1 / (1 - layer.rate)), 0)
        else:
            y = layer.forward(y)
    y = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)  # predict_mc gives probabilities
    found = model.predict_mc(x, SAMPLES, return_samples=True).samples[-1]
    assert relative_error(found, y) < 1e-5
