"""What numbers a model has been trained on, and how pictures are scaled to the same range.

A network that was trained on bytes knows nothing about numbers in [0, 1], and the other way round: it answers, but
wrongly.  So a model remembers the range of its training inputs (``Sequential.input_range``), in its file too, and the
command line brings pictures into it (``picture_range``, ``from_bytes``).
"""

import math
from typing import NamedTuple

import numpy as np

from minicnn import _check

BLOCK = 2**18  # values that are looked at together: they stay in the cache for all that is asked of them

# What programs make of the bytes of a picture, narrow before wide: the ends for 0 and for 255.
CONVENTIONS = ((0.0, 1.0), (-0.5, 0.5), (-1.0, 1.0), (0.0, 16.0), (-128.0, 127.0), (0.0, 255.0), (0.0, 65535.0))
FITS = ("stretch", "crop", "pad")  # what becomes of pictures of other proportions; datasets.images has the words
LARGEST = {np.dtype(name): float(np.finfo(name).max) for name in ("float32", "float64")}
TOLERANCE = 0.01  # of the width, by which data may go beyond: resizing overshoots a little


class Seen(NamedTuple):
    """The smallest and the largest input of training, and the mean of the data with which it began."""

    low: float
    high: float
    mean: float | None


def look(x, dtype, mean=True):
    """``Seen`` of an array (N, ...) of numbers; None if there are none.

    What is not finite in ``dtype`` (float32 or float64) does not count.  ``mean``: whether that is wanted, too, which
    takes longer than the rest.  One pass, in blocks of rows, so that a memory map is not taken into memory.
    """
    largest = LARGEST[np.dtype(dtype)]
    if not mean and 0 < x.size <= BLOCK:  # a batch: the code below takes several times as long for a small one
        least, most = float(x.min()), float(x.max())
        if -largest <= least <= most <= largest:
            return Seen(least, most, None)
    rows = max(1, BLOCK // max(1, math.prod(x.shape[1:])))
    low, high, total, count = math.inf, -math.inf, 0.0, 0
    with np.errstate(all="ignore"):  # sums may overflow
        for start in range(0, len(x), rows):
            part = x[start : start + rows]
            if not part.size:
                break
            least, most = float(part.min()), float(part.max())
            if not -largest <= least <= most <= largest:  # also where one is NaN
                part = part[np.isfinite(part) & (np.abs(part) <= largest)]
                if not part.size:
                    continue
                least, most = float(part.min()), float(part.max())
            low, high = min(low, least), max(high, most)
            if mean:
                total, count = total + _sum(part), count + part.size
    if low > high:
        return None
    middle = total / count if count and math.isfinite(total) else low / 2 + high / 2
    return Seen(low, high, min(max(middle, low), high) if mean else None)


def _sum(part):
    """Of numbers that lie in the cache; in float32 where they are so, which is several times as fast and exact enough,
    since NumPy adds in pairs."""
    found = float(part.sum()) if part.dtype.kind == "f" and part.itemsize >= 4 else math.inf
    return found if math.isfinite(found) else float(part.sum(dtype=np.float64))


def joined(seen, more):
    """What is known after both; either may be None."""
    if seen is None or more is None:
        return seen or more
    if seen.low <= more.low and more.high <= seen.high:
        return seen
    return Seen(min(seen.low, more.low), max(seen.high, more.high), seen.mean)


def from_config(where, ends, mean):
    """``Seen`` of ``input_range`` and ``input_mean`` in a configuration; ValueError or TypeError for what cannot be."""
    if ends is None and mean is None:
        return None
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        raise ValueError(_check.message(where, "input_range must be (low, high) or None", ends))
    low = _check.number(where, "the low end of input_range", ends[0])
    high = _check.number(where, "the high end of input_range", ends[1], low)
    return Seen(low, high, None if mean is None else _check.number(where, "input_mean", mean, low, high))


def picture_range(low, high):
    """(what 0 becomes, what 255 becomes) in pictures for a model that was trained on numbers from low to high.

    - The first of ``CONVENTIONS`` in which the numbers lie and which they fill: one that begins at 0 where they reach
      its upper half, one about 0 where they reach the outer half on both sides.  Training data seldom hold both ends:
      0 to 254 and 3 to 201 mean bytes, 0 to 0.996 means [0, 1], 0 to 15 means [0, 16].
    - Otherwise low and high themselves, as for standardised data, (x - mean) / deviation.
    - None where low equals high and nothing can be said.
    """
    for begin, end in CONVENTIONS:
        slack = TOLERANCE * (end - begin)
        inside = begin - slack <= low and high <= end + slack
        if inside and high >= end / 2 and (begin == 0 or low <= begin / 2):
            return begin, end
    return None if low == high else (low, high)


def from_bytes(values, ends):
    """Bytes 0 to 255 as numbers between the two ends: themselves where these are 0 and 255, else float64."""
    low, high = ends
    if (low, high) == (0, 255):
        return values
    return values / 255 * (high - low) + low  # the division first: x / 255 is what programs compute for [0, 1]


def looks_inverted(mean, expected, ends):
    """True if a picture of mean ``mean`` is clearly more like the negative of the training data than like them.

    ``expected``: the mean of the training data.  Pictures whose own mean is near the middle say nothing: False, where
    data and negative differ by less than a fifth of the range.
    """
    low, high = ends
    middle = (low + high) / 2
    away = expected - middle
    return abs(away) >= (high - low) / 10 and (mean - middle) * away < -0.1 * away * away
