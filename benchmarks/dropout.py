"""Dropout forward and backward beside NumPy, PyTorch and the plain loop y = scale * x, in and out of the caches."""

import numpy as np
import reference

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
DRAW = np.array([RATE * 65536, 7, 0, 0, 0, 2**62], np.uint64)  # threshold, seed, step, stream, first, period
SCALE = np.array([1 / (1 - RATE)])
# Samples and their sizes: within the caches of a core, within those of the chip, in memory.
SIZES = {"64 Ki": (16, 1 << 12), "1.25 Mi": (128, 10 << 10), "32 Mi": (128, 1 << 18)}
LOOP = "y = scale * x"


def run(quick=False, plots=None):
    rows = []
    for label, shape in list(SIZES.items())[: 1 if quick else None]:
        measured = side_by_side(cases(*shape), quick)
        for name, (seconds, spread) in measured.items():
            share = measured[LOOP].median / seconds
            rows.append([label, name, f"{np.prod(shape) / seconds / 1e9:.2f}", percent(spread), f"{share:.2f}"])
    return TEXT + "\n" + table(["elements", "what", "10^9 / s", "spread", "of the loop"], rows)


def kernel(x):
    """(forward, backward, error) of the kernel on x (N, D); the gradient that comes back is x as well."""
    y, mask = np.empty_like(x), np.empty((len(x), dropout.words(x.shape[1])), np.uint32)

    def error():
        keep = drawn(x.size).reshape(x.shape)
        assert (keep.reshape(-1)[:1024] == reference.dropout_mask(7, 0, 0, (1024,), RATE)).all()
        return relative_error(y, np.where(keep, x * np.float32(SCALE[0]), 0))

    return (
        lambda: dropout.forward(x, mask, y, DRAW, SCALE),
        lambda: dropout.backward(x, mask, y, DRAW, SCALE),
        error,
    )


def drawn(n):
    """The mask of n elements, a multiple of 128, as booleans."""
    words = np.empty(n // 32, np.uint32)
    dropout.mask(words, DRAW)
    return np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little").astype(bool)


def cases(n, d):
    rng = np.random.default_rng(0)
    x, y, layer = rng.standard_normal((n, d), np.float32), np.empty((n, d), np.float32), layers.Dropout(RATE)
    layer.build((d,), rng)
    check(layer, x)
    forward, backward, error = kernel(x)
    forward()
    assert error() == 0
    backward()
    assert error() == 0

    def both():
        layer.forward(x, training=True)
        layer.backward(x)

    return {
        LOOP: lambda: reshape.rescale(x, SCALE[0], 0.0, y),
        "minicnn's kernel, forward": forward,
        "minicnn's kernel, backward": backward,
        "minicnn's layer, forward": lambda: layer.forward(x, training=True),
        "minicnn's layer, forward and backward": both,
        "NumPy forward, rng.random and np.where": lambda: np.where(
            rng.random(x.shape, np.float32) >= RATE, x * np.float32(SCALE[0]), 0
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
    y, keep = layer.forward(x, training=True), layer.last_mask
    want = np.where(keep, x * np.float32(1 / (1 - RATE)), 0)
    assert (y == want).all()
    assert (layer.backward(x) == want).all()
    assert abs((1 - keep.mean()) - RATE) < 5 * np.sqrt(RATE * (1 - RATE) / x.size) + 1e-5
