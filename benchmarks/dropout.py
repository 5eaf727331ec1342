"""Dropout forward and backward beside NumPy, PyTorch (if installed) and the plain loop y = scale * x, over sizes."""

import numpy as np

from benchmarks.machine import side_by_side, table
from minicnn import layers
from minicnn._ext import reshape

RATE = 0.25
SIZES = {
    "64 Ki": 1 << 16,
    "1.25 Mi": 1280 << 10,
    "32 Mi": 32 << 20,
}  # in the caches of a core, in the last one, in memory


def run(quick=False):
    print("## Dropout, billion elements a second (rate 0.25, float32)\n")
    rows = []
    for label, n in SIZES.items():
        measured = side_by_side(cases(n), *((3, 1) if quick else (15, max(1, (1 << 22) // n))))
        rows += [
            [label, name, f"{n / seconds / 1e9:.2f}", f"{100 * spread:.0f} %"]
            for name, (seconds, spread) in measured.items()
        ]
    print(table(["elements", "what", "10^9 / s", "spread"], rows))


def cases(n):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(n, dtype=np.float32), np.empty(n, np.float32)
    layer = layers.Dropout(RATE)
    layer.build((n,), rng)
    check(layer, x)
    batch = x[None]

    def both():
        layer.forward(batch, training=True)
        layer.backward(batch)

    found = {
        "y = scale * x, one loop, nothing allocated": lambda: reshape.rescale(batch, 4 / 3, 0.0, y[None]),
        "minicnn forward": lambda: layer.forward(batch, training=True),
        "minicnn forward and backward": both,
        "NumPy, rng.random and np.where": lambda: np.where(
            rng.random(n, dtype=np.float32) >= RATE, x * np.float32(4 / 3), 0
        ),
    }
    try:
        import torch
    except ImportError:
        return found
    torch.set_num_threads(2)
    tensor = torch.from_numpy(x)
    return found | {"PyTorch forward": lambda: torch.nn.functional.dropout(tensor, RATE, training=True)}


def check(layer, x):
    """Against the formula, given the mask; and the fraction dropped against its binomial bound."""
    y = layer.forward(x[None], training=True)[0]
    dx = layer.backward(x[None])[0]
    keep = layer.last_mask[0]
    want = np.where(keep, x * np.float32(1 / (1 - RATE)), 0)
    assert (y == want).all()
    assert (dx == want).all()
    assert abs((1 - keep.mean()) - RATE) < 5 * np.sqrt(RATE * (1 - RATE) / len(x)) + 1e-5
