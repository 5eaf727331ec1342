"""What is right, and how much it counts: the checks of targets and weights that losses, metrics and training share.

Each begins its messages with ``where`` and raises TypeError for the wrong kind of thing, ValueError for shapes and
values, with the first index where a value is wrong.
"""

import math
import warnings

import numpy as np

from minicnn import _check
from minicnn._ext import loss as kernels

__all__ = [
    "class_numbers",
    "class_weights",
    "finite",
    "labels",
    "like_outputs",
    "one_hot",
    "reject",
    "same_shape",
    "sample_weights",
    "signs",
    "weights_by_number",
]

_ONE_HOT_TOLERANCE = 1e-3  # of the sum of a row of targets: float16 probabilities of 1,000 classes pass
REALS = (np.dtype(np.float32), np.dtype(np.float64))  # the kernels' types
_MOST_CLASSES = 2**53  # where the number of classes is not known: whole numbers that float64 holds


def labels(where, y, n=None, classes=None):
    """y of shape (n,) or (n, 1) as int64 class numbers (n,) in [0, classes).

    Whole floats and bool are welcome.  TypeError for text; ValueError for another shape or length, and for a number
    that is no class, with its index.
    """
    limit = _MOST_CLASSES if classes is None else classes
    ready = type(y) is np.ndarray and y.dtype == np.int64 and y.shape == (n,) and y.flags.carray  # in every step
    if ready and kernels.all_classes(y, limit):
        return y
    y = _numbers(where, y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        fix = 'One-hot rows need "categorical_crossentropy"' if y.ndim == 2 else ""
        required = "y must be class numbers of shape (N,) or (N, 1)"
        raise ValueError(_check.message(where, required, _check.shape_of(y), fix))
    _same_length(where, y, n)
    if y.dtype.kind != "f":
        numbers = _check.contiguous(y, np.int64)
        if kernels.all_classes(numbers, limit):
            return numbers
    wrong = (y < 0) | (y >= limit)
    if y.dtype.kind == "f":
        wrong |= np.isnan(y) | (y != np.floor(y))
    required = f"labels must be whole numbers {_among(classes)}"
    reject(where, required, y, wrong)
    return _check.contiguous(y, np.int64)


def one_hot(where, y, n=None, classes=None):
    """y as it is, an array (n, classes) of numbers >= 0 whose rows sum to 1 within 1e-3; ValueError if it is not."""
    y = _numbers(where, y)
    if y.ndim != 2 or (classes is not None and y.shape[1] != classes):
        fix = 'Class numbers need "sparse_categorical_crossentropy"' if y.ndim == 1 or y.shape[1:] == (1,) else ""
        required = f"y must be one-hot rows of shape (N, {'classes' if classes is None else classes})"
        raise ValueError(_check.message(where, required, _check.shape_of(y), fix))
    _same_length(where, y, n)
    if y.dtype in REALS and y.flags.c_contiguous and kernels.all_distributions(y, _ONE_HOT_TOLERANCE):
        return y
    reject(where, "targets must be numbers >= 0", y, ~(y >= 0))
    sums = y.sum(1, dtype=np.float64)
    reject(where, "the targets of a sample must sum to 1", sums, ~(np.abs(sums - 1) <= _ONE_HOT_TOLERANCE))
    return y


def class_numbers(where, y, n=None, classes=None):
    """int64 class numbers (n,) from labels (n,) or (n, 1), or from one-hot rows (n, classes)."""
    y = _numbers(where, y)
    if y.ndim == 2 and y.shape[1] > 1:
        return one_hot(where, y, n, classes).argmax(1)
    return labels(where, y, n, classes)


def sample_weights(where, weights, n):
    """``weights`` as a float64 array (n,) of finite numbers."""
    weights = _check.numeric_array(where, "sample weights", weights)
    if weights.shape != (n,):
        required = f"sample weights must have shape ({n},), one for each sample"
        raise ValueError(_check.message(where, required, _check.shape_of(weights)))
    reject(where, "sample weights must be finite", weights, ~np.isfinite(weights))
    return _check.contiguous(weights, np.float64)


def weights_by_number(where, class_weight, names):
    """``class_weight`` with numbers in the place of ``names``, the classes' in their order, or None where they have
    none; ValueError for another name, and for a class that is there twice."""
    if names is None or not isinstance(class_weight, dict):
        return class_weight
    found = {}
    for key, weight in class_weight.items():
        if isinstance(key, str) and key not in names:
            near = _check.nearest(key, names)
            fix = f"Did you mean {near!r}?" if near else f"There are {', '.join(map(repr, names))}"[:200]
            required = "a class of class_weight must be the number or the name of one"
            raise ValueError(_check.message(where, required, key, fix))
        number = list(names).index(key) if isinstance(key, str) else key
        if number in found:
            required = "class_weight must have one weight for each class"
            raise ValueError(_check.message(where, required, _check.Shown(f"two for {key!r}")))
        found[number] = weight
    return found


def class_weights(where, y, class_weight, classes=None, stacklevel=2):
    """The weight of every sample's class: float64 (N,).

    ``class_weight`` maps class numbers to weights >= 0; classes that it leaves out weigh 1, as in Keras.  ``y`` (N,) or
    (N, 1) are class numbers, (N, K) one-hot rows.  ``classes``: how many there are, None where that is not known.
    ``where`` begins the messages of errors.

    ValueError for a number that is not a class, TypeError for anything but numbers; warns of a class without a sample.
    ``stacklevel``: of that warning, None for no warning.
    """
    if not isinstance(class_weight, dict):
        required = "class_weight must be a dictionary from class numbers to weights"
        raise TypeError(_check.message(where, required, _check.kind(class_weight)))
    numbers = class_numbers(where, y, classes=classes)
    weights, unused = np.ones(len(numbers)), []
    for key, weight in class_weight.items():
        number = _key(where, key, classes)
        chosen = numbers == number
        weights[chosen] = _check.number(where, f"the weight of class {number}", weight, 0)
        if not chosen.any():
            unused.append(number)
    if unused and stacklevel is not None:
        listed = f"{'class' if len(unused) == 1 else 'classes'} {', '.join(map(str, unused))}"
        warnings.warn(
            f"{where}: class_weight has a weight for {listed}, which no label in y has: it weighs nothing. Are the "
            "classes numbered differently?",
            stacklevel=stacklevel,
        )
    return weights


def _key(where, key, classes):
    """A key of ``class_weight`` as a class number; like labels it may be a whole float."""
    if isinstance(key, float | np.floating):
        if not float(key).is_integer():
            required = f"a class of class_weight must be a whole number {_among(classes)}"
            raise ValueError(_check.message(where, required, key))
        key = int(key)
    return _check.integer(where, "a class of class_weight", key, 0, None if classes is None else classes - 1)


def _among(classes):
    return ">= 0" if classes is None else f"in [0, {classes - 1}]"


def _numbers(where, y):
    try:
        return _check.numeric_array(where, "y", y)
    except TypeError as error:
        if np.asarray(y).dtype.kind not in "USO":
            raise
        hint = "Number the classes from 0, for instance with np.unique(y, return_inverse=True)"
        raise TypeError(f"{error}. {hint}") from None


def like_outputs(where, outputs, y):
    """y in the shape and dtype of the outputs; only a last axis of 1 may be there or not."""
    y = same_shape(where, outputs.shape, y)
    cast = _check.contiguous(y, outputs.dtype).reshape(outputs.shape)
    if cast.size and not (math.isfinite(cast.min()) and math.isfinite(cast.max())):
        reject(where, f"y must be finite in {outputs.dtype}", y.reshape(outputs.shape), ~np.isfinite(cast))
    return cast


def same_shape(where, shape, y):
    """y as an array, of the ``shape`` of the outputs; only a last axis of 1 may be there or not."""
    y = _check.numeric_array(where, "y", y)
    if y.ndim > 0:
        _same_length(where, y, shape[0])
    if y.shape != shape and (*y.shape, 1) != shape and y.shape != (*shape, 1):
        raise ValueError(_check.message(where, f"y must have the shape {shape} of the outputs", _check.shape_of(y)))
    return y


def finite(where, shape, y):
    """``same_shape``; ValueError for NaN and infinity, too."""
    y = same_shape(where, shape, y)
    if y.size and not (math.isfinite(y.min()) and math.isfinite(y.max())):
        reject(where, "y must be finite", y, ~np.isfinite(y))
    return y


def signs(where, y):
    """y as it is, an array of the numbers 1 and -1, or of 1 and 0; ValueError if it is not."""
    y = _check.numeric_array(where, "y", y)
    if y.dtype in REALS and y.flags.c_contiguous and kernels.all_signs(y.reshape(-1)):
        return y
    required = "y must be 1 for a yes and -1 for a no, or 1 and 0"
    reject(where, required, y, ~((y == 1) | (y == 0) | (y == -1)))
    if (y == -1).any():
        reject(where, f"{required}, not both", y, y == 0)
    return y


def _same_length(where, y, n):
    if n is not None and len(y) != n:
        raise ValueError(_check.message(where, f"y must have the {n} samples of the outputs", len(y)))


def reject(where, required, values, wrong):
    """ValueError with the first value that is wrong and its index."""
    if wrong.any():
        place = tuple(int(axis) for axis in np.unravel_index(wrong.argmax(), wrong.shape))
        index = place[0] if len(place) == 1 else place
        raise ValueError(_check.message(where, required, _check.Shown(f"{values[place]} at index {index}")))
