"""Dropout forward and backward beside NumPy, PyTorch and the plain loop y = scale * x, in and out of the caches."""

import numpy as np

from benchmarks import rivals
from benchmarks.machine import percent, relative_error, side_by_side, table
from minicnn import get_num_threads, layers
from minicnn._ext import dropout, reshape

TITLE = "Dropout"
TEXT = """\
Rate 0.25, float32; billions of elements a second. *Kernel*: the result goes into an array that is there already, as it
does within a model. *Layer*: a call by hand, whose result is a new array, as those of NumPy and PyTorch are. The last
column is the share of the plain loop y = scale * x, which draws no random numbers.
"""
RATE = 0.25
DRAW = (1 << 14, 7, 0, 0)  # a quarter of the 65536 values of a decision; seed, step, stream
SIZES = {"64 Ki": 1 << 16, "1.25 Mi": 5 << 18, "32 Mi": 1 << 25}  # within the caches of a core, of the chip, in memory
LOOP = "y = scale * x"


def run(quick=False, plots=None):
    rows = []
    for label, n in list(SIZES.items())[: 1 if quick else None]:
        measured = side_by_side(cases(n), quick)
        for name, (seconds, spread) in measured.items():
            share = measured[LOOP].median / seconds
            rows.append([label, name, f"{n / seconds / 1e9:.2f}", percent(spread), f"{share:.2f}"])
    return TEXT + "\n" + table(["elements", "what", "10^9 / s", "spread", "of the loop"], rows)


def cases(n):
    rng = np.random.default_rng(0)
    x, y, mask = rng.standard_normal(n, np.float32), np.empty(n, np.float32), np.empty(dropout.words(n), np.uint32)
    layer, scale = layers.Dropout(RATE), 1 / (1 - RATE)
    layer.build((n,), rng)
    check(layer, x)
    dropout.forward(x, mask, y, scale, *DRAW)
    keep = np.unpackbits(mask.view(np.uint8), count=n, bitorder="little")
    assert relative_error(y, np.where(keep, x * np.float32(scale), 0)) == 0

    def both():
        layer.forward(x[None], training=True)
        layer.backward(x[None])

    return {
        LOOP: lambda: reshape.rescale(x, scale, 0.0, y),
        "minicnn's kernel, forward": lambda: dropout.forward(x, mask, y, scale, *DRAW),
        "minicnn's kernel, backward": lambda: dropout.backward(x, mask, y, scale),
        "minicnn's layer, forward": lambda: layer.forward(x[None], training=True),
        "minicnn's layer, forward and backward": both,
        "NumPy forward, rng.random and np.where": lambda: np.where(
            rng.random(n, np.float32) >= RATE, x * np.float32(scale), 0
        ),
        **(in_torch(x) if rivals.have("torch") else {}),
    }


def in_torch(x):
    import torch

    torch.set_num_threads(get_num_threads())
    images, dy = torch.from_numpy(x).requires_grad_(), torch.from_numpy(x)
    kept = torch.nn.functional.dropout(images, RATE, training=True)
    constant = torch.from_numpy(x)
    return {
        "PyTorch forward": lambda: torch.nn.functional.dropout(constant, RATE, training=True),
        "PyTorch backward": lambda: torch.autograd.grad(kept, images, dy, retain_graph=True),
    }


def check(layer, x):
    """Against the formula, given the mask; and the fraction dropped against its binomial bound."""
    y = layer.forward(x[None], training=True)[0]
    dx = layer.backward(x[None])[0]
    keep = layer.last_mask[0]
    want = np.where(keep, x * np.float32(1 / (1 - RATE)), 0)
    assert (y == want).all()
    assert (dx == want).all()
    assert abs((1 - keep.mean()) - RATE) < 5 * np.sqrt(RATE * (1 - RATE) / len(x)) + 1e-5
