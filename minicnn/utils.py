"""Keras's utilities: rows for class numbers, rows of length 1, a base for data that give batches, one seed for all."""

import numpy as np

from minicnn import _check

__all__ = ["PyDataset", "Sequence", "default_seed", "normalize", "set_random_seed", "to_categorical"]


def to_categorical(x, num_classes=None):
    """One-hot rows, float64 of shape (N, num_classes), for class numbers ``x`` of shape (N,) or (N, 1).

    Other shapes (..., 1) or (...) become (..., num_classes).  ``num_classes``: None for the largest number + 1.

    ValueError for a number that is no class: not whole, below 0 or not below ``num_classes``.  (Keras cuts off what is
    behind the point and counts negative numbers from the end.)
    """
    where = "utils.to_categorical"
    x = _check.numeric_array(where, "x", x)
    right = (x >= 0) & (x < 2**53)
    if x.dtype.kind == "f":
        right &= x == np.floor(x)
    if not right.all():
        raise ValueError(_check.message(where, "x must be class numbers, whole and >= 0", x[~right].flat[0].item()))
    numbers = x.astype(np.int64)
    if num_classes is None:
        if not x.size:
            raise ValueError(_check.message(where, "needs num_classes where x is empty", _check.shape_of(x)))
        num_classes = int(numbers.max()) + 1
    num_classes = _check.integer(where, "num_classes", num_classes, 1)
    if x.size and numbers.max() >= num_classes:
        raise ValueError(_check.message(where, f"x must be below num_classes={num_classes}", int(numbers.max())))
    shape = x.shape[:-1] if x.ndim > 1 and x.shape[-1] == 1 else x.shape
    rows = np.zeros((x.size, num_classes))
    rows[np.arange(x.size), numbers.reshape(-1)] = 1
    return rows.reshape(*shape, num_classes)


def normalize(x, axis=-1, order=2):
    """``x`` divided by its norms along ``axis``, of that ``order`` (of ``numpy.linalg.norm``); 0 stays 0."""
    x = np.atleast_1d(_check.numeric_array("utils.normalize", "x", x))
    norms = np.linalg.norm(x, order, axis, keepdims=True)
    return x / np.where(norms == 0, 1, norms)


# ---- batches ----


class PyDataset:
    """A base for data that give batches: ``len(data)`` batches, ``data[i]`` is (x, y) or (x, y, sample_weight).

    Any object with both will do for ``fit``, ``evaluate`` and ``predict``; this one has the constructor and the hooks
    of Keras's.  ``workers``: 1, and a thread calls it to prepare the next batch while the model computes; 0: the
    thread that trains calls it.
    """

    def __init__(self, workers=1, use_multiprocessing=False, max_queue_size=10):
        if workers not in (0, 1) or use_multiprocessing:
            required = "one thread prepares the next batch, so workers must be 1 or 0 and use_multiprocessing False"
            got = _check.Shown(f"workers={workers}, use_multiprocessing={use_multiprocessing}")
            raise ValueError(_check.message(type(self).__name__, required, got))
        self.workers = workers

    def __len__(self):
        raise NotImplementedError(f"{type(self).__name__} has no __len__(), the number of batches")

    def __getitem__(self, index):
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__(index), which gives a batch")

    def on_epoch_begin(self):
        """Called before each epoch of ``fit``."""

    def on_epoch_end(self):
        """Called after each epoch of ``fit``."""


Sequence = PyDataset


# ---- seeds ----

_seed = 0


def default_seed():
    """The seed of a ``Sequential`` that is not given one: 0, or what ``set_random_seed`` was given."""
    return _seed


def set_random_seed(seed):
    """Seeds Python's and NumPy's global random numbers, and every model that is made in this process from now on
    without a ``seed``.  0 <= seed < 2^32.

    Models do not draw from a common sequence: those with the same seed begin with the same weights.  For networks that
    differ give each its own, ``Sequential(..., seed=1)``.
    """
    import random  # here: many programs never use it

    global _seed
    seed = _check.integer("utils.set_random_seed", "seed", seed, 0, 2**32 - 1)
    random.seed(seed)
    np.random.seed(seed)
    _seed = seed
