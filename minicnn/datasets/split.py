"""Samples divided into two parts that have nothing in common, each class in the same proportion in both."""

import math
import numbers

import numpy as np

from minicnn import _check
from minicnn.datasets.batching import order


def train_test_split(x, y, test_size=0.2, stratify=True, seed=0):
    """x_train, x_test, y_train, y_test: x and y shuffled by the seed and divided.

    - ``x``, ``y``: N samples and their labels or targets, N >= 2: arrays, lists, memory maps; also arrays of strings.
    - ``test_size``: a fraction in (0, 1), of which ceil(test_size * N) samples are made, or a whole number of samples.
      Both parts must have at least one.
    - ``stratify`` True: each class has its share of both parts, to within one sample or as near as whole numbers go;
      a class of two samples or more is in both, one of a single sample in the training part.  Classes are read off y:
      whole numbers, strings, or rows of zeros with a single one.  A y of other numbers or rows, as in a regression, is
      divided without regard to them, as ``stratify=False`` (or None) does it.  An array of N labels: those instead.
    - ``seed``: 0 <= seed < 2^64.  The same seed gives the same parts everywhere.

    Returns fresh arrays.  ValueError if the lengths differ, if a part would be empty, or too small to have a sample of
    each class; TypeError for the wrong kind of thing.  Names and sizes are those of scikit-learn.
    """
    where = "datasets.train_test_split"
    seed = _check.integer(where, "seed", seed, 0, 2**64 - 1)
    x, y = _rows(where, "x", x), _rows(where, "y", y)
    if len(x) != len(y):
        lengths = _check.Shown(f"{len(x)} and {len(y)}")
        raise ValueError(_check.message(where, "x and y must have the same number of samples", lengths))
    if stratify is None or isinstance(stratify, bool | np.bool_):
        labels = classes_of(y) if stratify else None
    else:
        labels = classes_of(_rows(where, "stratify", stratify))
        if labels is None or len(labels) != len(y):
            required = f"stratify must be True, False, or one label for each of the {len(y)} samples"
            raise ValueError(_check.message(where, required, stratify))
    training, test = parts(where, len(x), labels, test_size, seed)
    return x[training], x[test], y[training], y[test]


def _rows(where, name, value):
    """An array with a batch axis; of numbers, or of strings."""
    found = value if isinstance(value, np.ndarray) else None
    if found is None:
        try:
            found = np.asarray(value)
        except ValueError:  # a ragged list
            found = None
    if found is None or not (found.dtype.kind in "UST" or _holds_strings(found)):
        found = _check.numeric_array(where, name, value)
    if not found.ndim:
        raise ValueError(_check.message(where, f"{name} must have a batch axis", _check.shape_of(found)))
    return found


def _holds_strings(array):
    """Whether they are strings as pandas has them."""
    return array.dtype.kind == "O" and array.size > 0 and all(isinstance(one, str) for one in array.flat)


def classes_of(y):
    """The class numbers (N,) of labels, strings or one-hot rows, those of a regression as None."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2:
        one_hot = y.dtype.kind in "biuf" and ((y == 0) | (y == 1)).all() and ((y != 0).sum(1) == 1).all()
        return y.argmax(1) if one_hot else None
    if y.ndim != 1 or (y.dtype.kind == "f" and not (np.isfinite(y) & (y == np.floor(y))).all()):
        return None
    return np.unique(y, return_inverse=True)[1]


def parts(where, n, labels, size, seed, name="test_size"):
    """(numbers of the samples to train on, of the others), both in the order of the seed.

    ``labels``: class numbers (n,) to be divided by, or None; ``size``, called ``name``: as in ``train_test_split``.
    """
    count = _count(where, n, size, name)
    permutation = order(n, seed)
    if labels is None:
        return permutation[count:], permutation[:count]
    counts = np.bincount(labels)
    shares = _shares(where, counts, count, size, name)
    shuffled = labels[permutation]
    by_class = np.argsort(shuffled, kind="stable")  # of each class the first in the order are taken
    place = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
    taken = np.empty(n, bool)
    taken[by_class] = place < np.repeat(shares, counts)
    return permutation[~taken], permutation[taken]


def _count(where, n, size, name):
    """How many of n samples are not trained on."""
    if isinstance(size, numbers.Integral) and not isinstance(size, bool | np.bool_):
        count = _check.integer(where, name, size, 1)
    else:
        count = math.ceil(_check.number(where, name, size, 0, 1, open_low=True, open_high=True) * n)
    if not 0 < count < n:
        raise ValueError(_check.message(where, f"{name} must leave samples on both sides of {n}", size))
    return count


def _shares(where, counts, count, size, name):
    """How many samples of each class are not trained on, of the ``counts`` that there are; ``count`` together.

    As near to count * n_k / n as whole numbers and the bounds go; of equal remainders the first class counts.
    """
    low, high = np.minimum(counts // 2, 1), np.maximum(counts - 1, 0)
    if not high.any():
        required = f"{name} needs a class of two samples or more to divide"
        got = _check.Shown(f"{int(counts.sum()):,} samples in as many classes")
        fix = "stratify=False divides without regard to them" if name == "test_size" else f"Take {name}=0"
        raise ValueError(_check.message(where, required, got, fix))
    if not low.sum() <= count <= high.sum():
        few = count < low.sum()
        required = f"{name} must leave a sample of each of the {np.count_nonzero(counts)} classes on both sides: "
        required += f"{'at least' if few else 'at most'} {low.sum() if few else high.sum()} of {counts.sum()} samples"
        fix = f"Choose a {'larger' if few else 'smaller'} {name}" + (
            ", or stratify=False" if name == "test_size" else ""
        )
        raise ValueError(_check.message(where, required, size, fix))
    exact, n = count * counts, int(counts.sum())  # times n: whole numbers
    shares = np.clip(exact // n, low, high)
    while (missing := count - shares.sum()) != 0:
        if missing > 0:
            chosen, by = np.where(shares < high, exact - shares * n, np.iinfo(np.int64).min).argmax(), 1
        else:
            chosen, by = np.where(shares > low, shares * n - exact, np.iinfo(np.int64).min).argmax(), -1
        shares[chosen] += by
    return shares
