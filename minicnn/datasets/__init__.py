"""Data: real images that come with the package or lie in a folder, and the order in which training sees them.

``digits`` is embedded, ``mnist`` reads the original files from disk, ``idx`` reads any IDX file, ``images`` one PNG or
JPEG.  Nothing here touches the network.
"""

import numpy as np

from minicnn import _check
from minicnn._ext import random
from minicnn.datasets import digits, idx, images, mnist
from minicnn.datasets.errors import DataError

__all__ = ["DataError", "batches", "digits", "idx", "images", "mnist", "order"]


def order(n, seed=0, epoch=0):
    """The order in which ``fit`` visits ``n`` samples in an epoch: a permutation of 0 .. n - 1, int64 of shape (n,).

    It depends on the three numbers alone: ``seed`` in [0, 2^64), ``epoch`` from 0.  ValueError or TypeError otherwise.
    """
    n = _check.integer("datasets.order", "n", n, 0)
    seed = _check.integer("datasets.order", "seed", seed, 0, 2**64 - 1)
    epoch = _check.integer("datasets.order", "epoch", epoch, 0, 2**32 - 1)
    permutation = np.arange(n, dtype=np.int64)
    random.shuffle(permutation, seed, epoch)
    return permutation


def batches(x, y, batch_size=32, seed=0, epoch=0, shuffle=True):
    """Yields (xb, yb) for one epoch, in the order and with the sizes of ``fit``; the last batch may be smaller.

    x: N samples, y: N labels or targets; anything that NumPy takes as an array of numbers, also lists and memory maps,
    of which only the rows of a batch are read.  xb has shape (B, ...) and the dtype of x, yb likewise; both are fresh
    arrays.  ``batch_size`` B >= 1; ``seed`` and ``epoch`` choose the order (``order``), ``shuffle=False`` keeps it.

    ValueError if the lengths differ or an argument is out of range, TypeError if it is of the wrong kind.
    """
    where = "datasets.batches"
    x, y = _check.numeric_array(where, "x", x), _check.numeric_array(where, "y", y)
    batch_size = _check.integer(where, "batch_size", batch_size, 1)
    shuffle = _check.boolean(where, "shuffle", shuffle)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        shapes = _check.Shown(f"shapes {x.shape} and {y.shape}")
        raise ValueError(_check.message(where, "x and y must have the same number of samples", shapes))
    rows = order(len(x), seed, epoch) if shuffle else np.arange(len(x))
    parts = (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))
    return ((x[part], y[part]) for part in parts)
