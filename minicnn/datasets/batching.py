"""The order in which training sees samples, and where it cuts them into batches."""

import collections.abc

import numpy as np

from minicnn import _check
from minicnn._ext.machinery import random


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


class Slices(collections.abc.Sequence):
    """``count`` slices of ``size`` numbers from 0 on, the last of which ends at ``n``; each is made when it is asked
    for, so that there may be very many."""

    def __init__(self, n, size, count):
        self._n, self._size, self._count = n, size, count

    def __len__(self):
        return self._count

    def __getitem__(self, number):
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(self._count))]
        place = range(self._count)[number]
        return slice(place * self._size, self._n if place == self._count - 1 else (place + 1) * self._size)

    def __eq__(self, other):
        return isinstance(other, list | Slices) and len(self) == len(other) and all(map(slice.__eq__, self, other))

    def __repr__(self):
        return f"<{self._count} slices of {self._size}, to {self._n}>"


def slices(n, batch_size=32, drop_last=None, where="datasets.slices"):
    """Where ``fit`` cuts the ``n`` samples of an epoch into batches: a sequence of slices, one for each step.

    All have ``batch_size`` samples, except the last one:

    - ``drop_last`` None: it has those that are left, unless that is a single one, which joins the batch before it
      (``batch_size`` + 1 samples): nothing is lost, and batch normalisation, which cannot train on one sample, can.
    - False: it has those that are left, be it one.  True: what is left is dropped (PyTorch's ``drop_last``).

    ``where`` begins the messages of errors: ValueError if ``drop_last`` leaves nothing or a number is out of range,
    TypeError for the wrong kind of thing.
    """
    n = _check.integer(where, "n", n, 0)
    batch_size = _check.integer(where, "batch_size", batch_size, 1)
    if drop_last is not None and not isinstance(drop_last, bool | np.bool_):
        raise TypeError(_check.message(where, "drop_last must be True, False or None", _check.kind(drop_last)))
    count, left = divmod(n, batch_size)
    if drop_last:
        n -= left
    elif left and not (drop_last is None and left == 1 and count):  # a single one joins the batch before it
        count += 1
    if left and not count:
        required = f"with drop_last=True there must be at least batch_size = {batch_size} samples"
        raise ValueError(_check.message(where, required, left))
    return Slices(n, batch_size, count)


def batches(x, y, batch_size=32, seed=0, epoch=0, shuffle=True, drop_last=None):
    """Yields (xb, yb) for one epoch, in the order and with the sizes of ``fit``: those of ``order`` and ``slices``.

    x: N samples, y: N labels or targets; anything that NumPy takes as an array of numbers, also lists and memory maps,
    of which only the rows of a batch are read.  xb has shape (B, ...) and the dtype of x, yb likewise; both are fresh
    arrays.  ``batch_size`` B >= 1; the last batch may be smaller, and ``drop_last`` says what becomes of it (None: a
    single sample that is left joins the batch before it).  ``seed`` and ``epoch`` choose the order, ``shuffle=False``
    keeps it.

    ValueError if the lengths differ or an argument is out of range, TypeError if it is of the wrong kind.
    """
    where = "datasets.batches"
    x, y = _check.numeric_array(where, "x", x), _check.numeric_array(where, "y", y)
    shuffle = _check.boolean(where, "shuffle", shuffle)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        shapes = _check.Shown(f"shapes {x.shape} and {y.shape}")
        raise ValueError(_check.message(where, "x and y must have the same number of samples", shapes))
    parts = slices(len(x), batch_size, drop_last, where)
    if not shuffle:
        return ((np.array(x[part]), np.array(y[part])) for part in parts)
    rows = order(len(x), seed, epoch)
    return ((x[rows[part]], y[rows[part]]) for part in parts)
