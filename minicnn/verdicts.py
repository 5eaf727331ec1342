"""Which mistake a wrong gradient looks like; for ``testing.gradcheck``.

With L = sum(y * r) and J the matrix of dy/dv, measured by central differences, the true gradient of v is T = J^T r.  A
mistake with a name gives another one, H: of J with a part left out, of r with some elements set to zero, of T with its
elements rearranged, or of a layer whose kernel was turned.  Each such hypothesis is computed and compared with what
``backward`` gave, G, at every place.  It is named only if G = H to SAME of the largest element, or G = c H with one
number c, and nothing simpler explains G; where two explain it, both are named.  So a verdict is a statement about
numbers, which has been checked; for everything else there is a general sentence, which says where G is wrong if that
is a part only.
"""

import itertools
import math

import numpy as np

SAME = 1e-6  # two gradients agree, relative to the largest element
MOST_FORWARDS = 3000  # that a matrix of derivatives may cost
MOST_ELEMENTS = 8_000_000  # that it may have
LARGE = 1e3  # on a bias: every z is positive
FEW = 12  # places that are measured again with one sample more
GENERAL = "more than a factor or a mask is wrong: compare backward with the formula"
WRONG_PLACES = "the right numbers in the wrong places"
BORDER = "at the border"


class Case:
    """A wrong gradient.

    - ``subject``: what runs the layer (``testing.py``); ``name``: "x" or the parameter's, ``values``: its array.
    - ``gradient``: what backward gave for it; ``places``, ``numeric``: where it was measured, and what.
    - ``scale``: the size of its elements; ``step``: of the differences.
    - ``more_samples()``: (gradient, numeric) at the same places for a batch with one sample more; None where it
      cannot be.
    """

    def __init__(self, subject, name, values, gradient, places, numeric, scale, step, more_samples):
        self.subject, self.name, self.values, self.gradient = subject, name, values, gradient
        self.places, self.numeric, self.scale, self.step = places, numeric, scale, step
        self.more_samples = more_samples
        self.x, self.y, self.r = subject.x, subject.y, subject.r
        self._derivatives = None

    def agree(self, one, other):
        """Whether two arrays of gradients are the same number for number."""
        if not one.size:
            return False
        size = max(np.abs(one).max(), np.abs(other).max(), self.scale)
        return bool((np.abs(one - other) <= SAME * size).all())

    def factor(self, one, other):
        """The number c with one = c other, or None; of one number everywhere any other is a multiple."""
        if (np.abs(other) > SAME * self.scale).sum() < 4 or np.ptp(other) <= SAME * self.scale:
            return None
        c = float((one * other).sum() / (other * other).sum())
        return c if abs(c) > 1e-9 and self.agree(one, c * other) else None

    def is_true(self, r=None):
        """Whether backward's gradient is the true one, measured again, at all of the places; ``r`` in the place of the
        case's.  Wrong places come first: they are the ones that tell."""
        r = self.r if r is None else r
        given = self.gradient.flat[self.places]
        size = max(np.abs(given).max(), self.scale)
        for k in np.argsort(-np.abs(given - self.numeric), kind="stable"):
            where = np.unravel_index(self.places[k], self.values.shape)
            slope, _, penalty = _slope(self.subject, self.values, where, self.step)
            if abs((slope * r).sum() + penalty - given[k]) > SAME * size:
                return False
        return True

    def derivatives(self):
        """``Derivatives`` of y with respect to the values; None where that would take too long, or where it gives other
        numbers than were measured before."""
        if self._derivatives is None:
            d = derivatives_of(self.subject, self.values, self.name == "x", self.step)
            known = () if d is None else d.known.flat[self.places]
            right = np.any(known) and self.agree(d.gradient().flat[self.places][known], self.numeric[known])
            self._derivatives = (d if right else None,)
        return self._derivatives[0]


def _slope(subject, values, where, step):
    """(dy/dv, how much it differs between both sides, d penalty/dv) for one place, or one of every sample."""
    before = np.array(values[where])
    h = step * np.maximum(1.0, np.abs(before))
    try:
        values[where] = before + h
        up, (above, more) = values[where] - before, subject.forward()
        values[where] = before - h
        down, (below, less) = before - values[where], subject.forward()
    finally:
        values[where] = before
    y, shape = subject.y, (-1,) + (1,) * (subject.y.ndim - 1)
    up, down = np.reshape(up, shape), np.reshape(down, shape)
    left, right = (y - below) / down, (above - y) / up
    slope = (more - less) / float(np.mean(up + down))
    return (above - below) / (up + down), np.abs(left - right), slope


class Derivatives:
    """J, as ``matrix`` (N, S, O) where each sample of y depends on its own sample of x alone, or else (V, N O).

    ``known``: where the values do not lie on a corner.  ``penalty``: the derivative of what regularisers add.
    """

    def __init__(self, subject, matrix, shape, known, penalty, by_sample):
        self.subject, self.matrix, self.shape, self.known = subject, matrix, shape, known
        self.penalty, self.by_sample = penalty, by_sample

    def gradient(self, weights=1.0, dy=None):
        """T, or what it would be with another dy, or if the outputs had these weights in addition."""
        r = (self.subject.r if dy is None else dy) * weights
        if self.by_sample:
            found = np.einsum("nso,no->ns", self.matrix, r.reshape(len(r), -1))
        else:
            found = self.matrix @ r.ravel()
        return found.reshape(self.shape) + self.penalty

    def depends(self):
        """Where J is not 0."""
        return np.abs(self.matrix) > 1e-8 * np.abs(self.matrix).max(initial=0)


def derivatives_of(subject, values, is_x, step):
    by_sample = is_x and subject.penalty == 0 and len(values) > 1 and _independent(subject)
    n, size, outputs = len(values), values.size, subject.y.size
    rows = size // n if by_sample else size
    if 2 * rows > MOST_FORWARDS or rows * outputs > MOST_ELEMENTS:
        return None
    shape = values.shape[1:] if by_sample else values.shape
    slopes, rough, penalties = [], [], np.zeros(values.shape)
    for place in np.ndindex(shape):
        where = (slice(None), *place) if by_sample else place
        slope, difference, penalty = _slope(subject, values, where, step)
        slopes.append(slope.reshape(n, -1) if by_sample else slope.ravel())
        rough.append(difference.reshape(n, -1).max(1) if by_sample else difference.max())
        if not by_sample:
            penalties[place] = penalty
    matrix, rough = np.array(slopes), np.array(rough)
    known = rough <= 1e-3 * np.abs(matrix).max(initial=0)
    if by_sample:
        matrix, known = matrix.transpose(1, 0, 2), known.T
    return Derivatives(subject, matrix, values.shape, known.reshape(values.shape), penalties, by_sample)


def _independent(subject):
    """Whether the other samples of y stay what they are when one of x changes."""
    first = subject.x[0].copy()
    try:
        subject.x[0] = first + 0.1 * np.random.default_rng(0).standard_normal(first.shape)
        y, _ = subject.forward()
    finally:
        subject.x[0] = first
    return np.allclose(y[1:], subject.y[1:], rtol=1e-12, atol=1e-14)


# ---- the verdict ----


def likely_mistake(case, thorough):
    """The sentence; without ``thorough`` only what the places that were measured say."""
    given, true, tiny = case.gradient.flat[case.places], case.numeric, SAME * case.scale
    zero_g, zero_t = np.abs(given) <= tiny, np.abs(true) <= tiny
    if zero_g.all():
        return "zero where it should not be: was it computed at all?"
    if _is_cut(case, given, true):
        return "its fractions are cut off: is it kept in an array of integers?"
    both, more, less = ~zero_g & ~zero_t, (zero_t & ~zero_g).any(), (zero_g & ~zero_t).any()
    c = float((given[both] * true[both]).sum() / (true[both] ** 2).sum()) if both.any() else 1.0
    # One or two ratios are always, or easily, equal to one another.
    one_ratio = case.agree(given[both], c * true[both]) and (
        both.sum() >= 4 or abs(c - 1) <= SAME or not (more or less)
    )
    if one_ratio and not more and not less:
        named = _name_factor(case, c, int(both.sum()), thorough)
        if named is not None:
            return named
    elsewhere = "right elsewhere" if abs(c - 1) <= SAME else f"off by the constant factor {c:.4g} elsewhere"
    masked = case.name == "x" and case.x.shape == case.y.shape and not zero_t.all()
    if masked and more and (one_ratio or not both.any()):
        return _of_mask(one_ratio, zero_g, zero_t, elsewhere)
    if one_ratio and less and not more:
        where = _where(case, c) if thorough else ""
        part = f"zero where it should not be, and {elsewhere}: is a part left out?"
        return f"{part}{f' It is wrong {where}' if where else ''}"
    found = (_of_layer(case) or _of_derivatives(case)) if thorough else None
    if found is None and zero_t.all():
        return "nonzero where it should be 0, everywhere"
    if found is None and one_ratio and more and not less:
        return f"nonzero where it should be 0, and {elsewhere}"
    if found is None and thorough:
        where = _where(case)
        right = "right inside and" if where.startswith(BORDER) else "right elsewhere, but"
        found = f"{right} wrong {where}: compare backward with the formula" if where else None
    return found or GENERAL


def _is_cut(case, given, true):
    """Whether it is the true one with all fractions cut off."""
    whole = np.trunc(true)
    return (given == whole).all() and np.abs(whole).max() > 1 and not case.agree(given, true)


def _of_mask(one_ratio, zero_g, zero_t, elsewhere):
    off = f", {elsewhere}" if elsewhere.startswith("off") else ""
    if not zero_g.any():
        return f"nonzero where it should be 0{off}: is the mask applied in backward?"
    if not (zero_g & ~zero_t).any():
        return f"nonzero where it should be 0, and {elsewhere}"
    both = "nonzero where it should be 0, and zero where it should not"
    if one_ratio:
        return f"{both}{off}: is the mask that of forward?"
    which = "turned round" if zero_g.size >= 16 else "that of forward"  # of a few places any mask may be the opposite
    return f"{both}: is the mask {which} in backward?"


# ---- constants by what they are ----


def _name_factor(case, c, places, thorough):
    """None for a single number, which is always off by a factor, if that has no name."""
    if abs(c + 1) < 10 * SAME:
        return "the sign is wrong"
    off = f"off by the constant factor {c:.4g}" if abs(c - 1) > 1e-3 else f"off by the constant factor {c:.10g}"
    power = _power_of_n(case, c) if thorough else _power_by_value(case, c)
    n, rest = len(case.x), c / float(len(case.x)) ** (power or 0)
    if power and abs(rest - 1) < 1e-5:
        return f"{off}, N being {n}: the loss divides by the batch size, a layer must not"
    drop = _of_rate(rest, case) if power == 0 else None
    names = _names(rest, case, power) if power is not None else []
    if drop and not names:
        return f"{off}: {drop}"
    if names and not drop and len(names) < 3:
        what = "is it a mean where the sum belongs?" if abs(c) < 1 else "is it a sum where the mean belongs?"
        return f"{off}, which is {' or '.join(names)}: {what}"
    return f"{off}: is a scale missing, or applied twice?" if places > 1 else None


def _power_by_value(case, c):
    n = len(case.x)
    return next((k for k in (1, -1) if n > 1 and abs(c * float(n) ** -k - 1) < 1e-5), 0)


def _power_of_n(case, c):
    """k, where the factor goes with N^k: seen by a batch of one sample more; None where it goes with something else."""
    found = case.more_samples()
    if found is None:
        return _power_by_value(case, c)
    given, true = found
    square, n = float((true * true).sum()), len(case.x)
    ratio = float((given * true).sum()) / square / c if square else 1.0
    return next((k for k in (0, -1, 1) if abs(ratio - ((n + 1) / n) ** k) < 1e-5), None)


def _sizes(case, power):
    """{letters: lengths} of what constants are often made of; with N before them, if ``power`` is not 0."""
    x, y, found = case.x.shape, case.y.shape, {}
    if len(y) > 2 and (power or case.name != "x"):
        found["H W" if len(y) == 4 else "L"] = y[1:-1]
    if len(y) > 2 and len(x) == len(y) and x[1:-1] != y[1:-1] and (power or case.name != "x"):
        found["H W of x" if len(x) == 4 else "L of x"] = x[1:-1]
    if power:
        found["H W C" if len(y) == 4 else "L C" if len(y) == 3 else "M"] = y[1:]
    elif len(x) > 2 and not case.subject.weights() and (d := case.derivatives()) is not None:
        found["the number of inputs of an output"] = (int(d.depends().sum(1 if d.by_sample else 0).max()),)
    for array in () if power else case.subject.weights().values():
        if array.ndim == 4:
            found["KH KW"] = array.shape[:2]
    return {letters: lengths for letters, lengths in found.items() if math.prod(lengths) > 1}


def _names(rest, case, power):
    """What a factor is, N^power apart."""
    found = []
    for letters, lengths in _sizes(case, power).items():
        for sign in (power,) if power else (1, -1):
            if abs(rest * float(math.prod(lengths)) ** -sign - 1) < 1e-5:
                word = f"N {letters}" if power else letters
                numbers = " * ".join(map(str, (len(case.x), *lengths) if power else lengths))
                found.append(f"{word} = {numbers}" if sign > 0 else f"1/({word}) = 1/({numbers})")
    return found


def _of_rate(c, case):
    for _, layer in case.subject.layers:
        rate, keep = getattr(layer, "rate", None), getattr(layer, "keep_prob", None)
        rate = 1 - keep if rate is None and isinstance(keep, float) else rate
        if not isinstance(rate, float) or not 0 < rate < 1:
            continue
        for value, what in (
            (1 - rate, "is 1/(1 - rate) missing?"),
            (1 / (1 - rate), "is 1/(1 - rate) applied twice?"),
            ((1 - rate) ** 2, "is it multiplied by 1 - rate instead of divided?"),
            ((1 - rate) / rate, "is it divided by the rate instead of 1 - rate?"),
        ):
            if abs(c / value - 1) < 1e-5:
                return what
    return None


# ---- hypotheses about the layer: something in it changed, and the gradient measured again ----


def _of_layer(case):
    """dx with a kernel turned, transposed; any gradient without the derivative of an activation."""
    return _one_of([label for label, explained in _changed_layers(case) if explained])


def _changed_layers(case):
    weights = case.subject.weights()
    biases = [one for one in weights.values() if one.ndim == 1 and one.size == case.y.shape[-1]]
    for name, array in weights.items() if case.name == "x" else ():
        for what, changed in _of_kernel(case, array):
            label = f"backward has {name} {what}"
            if what == "transposed":
                label = f"backward has {name} where its transpose belongs, or the transpose for it"
            yield label, _measured_with(case, {id(array): (array, changed)})
            for bias in biases:  # of z = linear(x) + bias: what follows has the slope that it had
                slope = _slope_of_activation(case, bias)
                if slope is None or np.allclose(slope, 1):
                    continue
                for more in (0.0, LARGE):
                    both = {id(array): (array, changed), id(bias): (bias, bias + more)}
                    yield label, _measured_with(case, both, slope, bias)
    for name, array in weights.items():
        if array is not case.values and any(array is bias for bias in biases):
            label = f"the derivative of the activation is missing: it must be taken of dy first (seen by {name})"
            yield label, _measured_with(case, {id(array): (array, array + LARGE)})


def _measured_with(case, changes, slope=None, bias=None):
    """``is_true`` of the layer with other weights; with ``slope``: and an activation that has that slope."""
    before = [(array, array.copy()) for array, _ in changes.values()]
    y, penalty = case.subject.y, case.subject.penalty
    for array, changed in changes.values():
        array[...] = changed
    try:
        case.subject.y, case.subject.penalty = case.subject.forward()
        r = case.r
        if slope is not None:
            now = _slope_of_activation(case, bias)
            if now is None or (np.abs(now) < 3e-5).any():
                return False
            r = r * slope / now
        return case.is_true(r)
    finally:
        for array, values in before:
            array[...] = values
        case.subject.y, case.subject.penalty = y, penalty
        case.subject.forward()


def _slope_of_activation(case, bias):
    """dy/db of the one element of ``bias`` that every output has, in the shape of y; None where there is not one."""
    d = derivatives_of(case.subject, bias, False, case.step)
    if d is None or (d.depends().sum(0) > 1).any():
        return None
    return d.matrix.sum(0).reshape(case.y.shape)


def _of_kernel(case, array):
    """``_rearrangements`` of an array of the shape of a kernel: its places are its first axes, in PyTorch's order its
    last, or a part of the rows or columns of a matrix, as im2col has it."""
    ends = sorted((case.x.shape[-1], case.y.shape[-1]))
    if array.ndim > 1:
        yield from _rearrangements(array, range(array.ndim - 2))
    if array.ndim > 2 and sorted(array.shape[:2]) == ends:
        yield from _rearrangements(array, range(2, array.ndim))
    if array.ndim != 2 or case.x.ndim != 4 or case.y.ndim != 4:
        return
    c, f = case.x.shape[-1], case.y.shape[-1]
    k = math.isqrt(array.size // (c * f))
    taps = k * k * c
    for matrix, shape, first in (
        ((taps, f), (k, k, c, f), 0), ((taps, f), (c, k, k, f), 1),
        ((f, taps), (f, k, k, c), 1), ((f, taps), (f, c, k, k), 2),
    ):  # fmt: skip
        if k > 1 and array.shape == matrix:
            places = range(first, first + 2)
            for what, moved in _rearrangements(array.reshape(shape), places, places):
                yield f"{what}, seen as {shape}", moved.reshape(array.shape)


def _rearrangements(array, places, axes=None):
    """(in words, the array) with ``axes`` (all) exchanged, and some of those of ``places`` turned round."""
    axes = range(array.ndim) if axes is None else axes
    first, last, places = axes[0], axes[-1] + 1, [axis for axis in places if array.shape[axis] > 1]
    for order in itertools.permutations(axes):
        moved = [axis for axis, new in zip(axes, order, strict=True) if axis != new]
        same_shape = tuple(array.shape[axis] for axis in order) == array.shape[first:last]
        if not same_shape or any(array.shape[axis] == 1 for axis in moved):
            continue
        for count in range(len(places) + 1):
            for turned in itertools.combinations(places, count):
                if order == tuple(axes) and not turned:
                    continue
                whole = (*range(first), *order, *range(last, array.ndim))
                yield _in_words(order, axes, moved, turned, places), np.flip(array.transpose(whole), turned)


def _in_words(order, axes, moved, turned, places):
    words = []
    if len(moved) == 2:
        last = moved == list(axes)[-2:]
        words.append("transposed" if last and not places else f"transposed (axes {moved[0]} and {moved[1]} exchanged)")
    elif moved:
        words.append(f"with its axes in the order {order}")
    if turned and list(turned) == places:  # of an axis of length 1 both ways are the same
        words.append("turned by 180 degrees")
    elif turned:
        words.append(f"turned round along axis {' and '.join(map(str, turned))}")
    return " and ".join(words)


# ---- hypotheses about the derivatives ----


def _of_derivatives(case):
    d = case.derivatives()
    if d is None:
        return None
    true = d.gradient()
    exact, scaled, reordered = [], [], []
    for make in (_rearranged, _shared_by_samples, _parts_of_sums, _overwritten, _wrong_axes, _of_own_input,
                 _of_parameter_factors, _of_another, _without_activation, _reordered):  # fmt: skip
        for label, other in make(case, d, true):
            given, wanted = case.gradient[d.known], np.broadcast_to(other, true.shape)[d.known]
            if case.agree(wanted, true[d.known]):
                continue
            if case.agree(given, wanted):
                (reordered if make is _reordered else exact).append(label)
            elif make is not _reordered and (c := case.factor(given, wanted)) is not None:
                scaled.append(
                    f"{label}{'' if label[-1] == '?' else '.'} It is off by the constant factor {c:.4g} as well"
                )
    exact += [*_shifted(case, d, true), *_normalised(case, d, true), *_decayed(case, true)]
    return _one_of(exact) or _one_of(reordered) or _one_of(scaled)


def _one_of(labels):
    labels = list(dict.fromkeys(labels))
    return " or: ".join(labels) if 0 < len(labels) < 3 else None


def _rearranged(case, d, true):
    axes = range(1, true.ndim)
    for what, moved in _rearrangements(true, axes[:-1], axes) if case.name == "x" else _of_kernel(case, true):
        yield f"{WRONG_PLACES}: {what}?", moved


def _reordered(case, d, true):
    """dy, or dx, read in another order: ``reshape`` does not move axes."""
    if (np.abs(case.gradient) > SAME * case.scale).sum() < 6:
        return
    for other in _reshaped(case.r):
        yield (
            "dy is read in another order: is it reshaped where its axes are to be moved (transpose)?",
            d.gradient(dy=other),
        )
    for other in _reshaped(true) if case.name == "x" else ():
        yield f"{WRONG_PLACES}: is it reshaped where its axes are to be moved (transpose)?", other
    if case.name != "x" or case.x.ndim != 4 or case.y.ndim != 4:
        return
    (n, height, width, c), (_, h, w, _) = case.x.shape, case.y.shape
    if height % h or width % w or h == height or w == width:
        return
    windows = true.reshape(n, h, height // h, w, width // w, c)  # that do not overlap
    for order, label in (
        ((0, 2, 1, 4, 3, 5), "np.tile where np.repeat belongs?"),
        ((0, 1, 4, 3, 2, 5), "are row and column exchanged within each window?"),
        ((0, 3, 2, 1, 4, 5), "are the windows' rows and columns exchanged?"),
    ):
        yield f"{WRONG_PLACES}: {label}", windows.transpose(order).reshape(true.shape)


def _reshaped(array):
    for order in itertools.permutations(range(array.ndim)):
        moved = array.transpose(order)
        yield moved.reshape(array.shape)
        yield array.reshape(moved.shape).transpose(np.argsort(order))


def _decayed(case, true):
    """The gradient of a penalty, which is none of the layer's."""
    if case.name != "x" and len(np.unique(case.values)) >= 4:
        more = case.gradient - true
        c = case.factor(more, case.values)
        if c is not None and np.abs(more).max() > 100 * SAME * max(case.scale, np.abs(true).max()):
            yield f"{c:.4g} {case.name} is added: weight decay belongs into the optimiser, or a regularizer"


def _shared_by_samples(case, d, true):
    if case.name == "x" and len(true) > 1:
        yield "every sample gets the gradient of sample 0", true[:1]
        yield "every sample gets the sum over the batch", true.sum(0)
        yield "every sample gets the mean over the batch", true.mean(0)


def _parts_of_sums(case, d, true):
    """Sums over outputs of which one term alone was kept, or left out; or all of them, without dy."""
    shape = case.y.shape
    yield "dy is left out: it is the derivative of the sum of y", d.gradient(dy=np.ones(shape))
    long = [axis for axis, length in enumerate(shape) if length > 1]
    inner = {0: slice(1, None), -1: slice(-1)}
    for count in range(1, len(long) + 1):
        for axes in itertools.combinations(long, count):
            along = " and ".join(map(str, axes))
            for place, word in ((0, "first"), (-1, "last")):
                weights = np.zeros(shape)
                weights[tuple(place if axis in axes else slice(None) for axis in range(len(shape)))] = 1
                if axes == (0,):
                    label = f"it is that of {'sample 0' if place == 0 else 'the last sample'} alone"
                else:
                    label = f"it is that of the {word} place of dy along axis {along} alone"
                yield f"{label}: `=` for `+=`, or a sum forgotten?", d.gradient(weights)
                if min(shape[axis] for axis in axes) > 2:
                    left = np.zeros(shape)
                    left[tuple(inner[place] if axis in axes else slice(None) for axis in range(len(shape)))] = 1
                    what = f"the {word} sample" if axes == (0,) else f"the {word} place of dy along axis {along}"
                    yield f"{what} is left out: does a loop begin or end one off?", d.gradient(left)


def _overwritten(case, d, true):
    """dx from windows that overlap, where one wrote over the others."""
    if not d.by_sample or case.y.ndim < 3 or case.x.ndim != case.y.ndim:
        return
    n, s = d.matrix.shape[:2]
    space, c, positions = case.x.shape[1:-1], case.x.shape[-1], case.y.shape[1:-1]
    terms = (d.matrix * case.r.reshape(n, 1, -1)).reshape(n, s, *positions, -1)
    touched = d.depends().reshape(terms.shape).any(-1)
    # Of a maximum J says which place was the largest; the window around it is all that was so anywhere.
    used = touched.any(0).reshape(*space, c, *positions).any(len(space))
    covers = [touched, *(np.broadcast_to(w, (*space, c, *positions)).reshape(1, s, *positions) for w in _windows(used))]
    label = "where windows overlap, one alone counts: `=` for `+=`?"
    for summed in (terms.sum(-1), terms[..., -1]):
        for covered in (np.broadcast_to(one, touched.shape) for one in covers):
            for order in itertools.permutations(range(2, 2 + len(positions))):
                along, inside = (a.transpose(0, 1, *order).reshape(n, s, -1) for a in (summed, covered))
                for chosen in (inside.shape[2] - 1 - inside[:, :, ::-1].argmax(2), inside.argmax(2)):
                    one = np.take_along_axis(along, chosen[..., None], 2)[..., 0]
                    yield label, np.where(inside.any(2), one, 0).reshape(true.shape)


def _windows(used):
    """For strides 1 to 4: which places (first axes) the window of each output (last axes) covers, (..., 1, ...)."""
    where, half = np.argwhere(used), used.ndim // 2
    places, outputs = np.split(np.indices(used.shape), 2)
    for stride in range(1, 5) if len(where) else ():
        first = where[:, :half] - stride * where[:, half:]
        low, high = (np.reshape(f(first, axis=0), (half,) + (1,) * used.ndim) for f in (np.min, np.max))
        offset = places - stride * outputs
        yield np.expand_dims(((low <= offset) & (offset <= high)).all(0), half)


def _wrong_axes(case, d, true):
    """The gradient of a bias, or of another parameter of which every output has one element, summed over other axes."""
    if case.name == "x" or (d.depends().sum(0) > 1).any():
        return
    terms = (d.matrix.sum(0) * case.r.ravel()).reshape(case.y.shape)
    axes = range(case.y.ndim)
    sums = {}
    for count in range(case.y.ndim + 1):
        for chosen in itertools.combinations(axes, count):
            sums[chosen] = terms.sum(chosen)
    right = next((chosen for chosen, one in sums.items() if one.shape == true.shape and case.agree(one, true)), None)
    for chosen, one in sums.items():
        if one.ndim <= true.ndim and all(a in (1, b) for a, b in zip(one.shape[::-1], true.shape[::-1], strict=False)):
            over = f"summed over axes {chosen} of dy" if chosen else "not summed"
            wrong = f"the wrong axes{f', it must be {right}' if right else ''}"
            yield f"{over}: {wrong}", one
            if chosen:
                yield f"the mean of dy over axes {chosen}: {wrong}, and a sum", terms.mean(chosen)
    if case.x.shape == case.y.shape and right and not case.agree(terms, case.r):
        yield "it is the sum of dy x: is x taken where the normalised x belongs?", (case.r * case.x).sum(right)


def _of_own_input(case, d, true):
    """Of x: the diagonal of J alone; dy with nothing done to it."""
    if case.name != "x" or case.x.shape != case.y.shape:
        return
    diagonal = np.einsum("nss->ns", d.matrix) if d.by_sample else np.diagonal(d.matrix)
    y, r = case.y, case.r
    softmax = case.agree(true, y * (r - (y * r).sum(-1, keepdims=True)))
    formula = ": a softmax has dx = y (dy - sum(dy y))" if softmax else ""
    yield (
        f"each output's own input alone counts, the cross terms are missing{formula}",
        diagonal.reshape(true.shape) * r,
    )
    if softmax:
        yield f"y dy alone, the cross terms are missing{formula}", y * r
        yield f"the factor y is missing{formula}", r - (y * r).sum(-1, keepdims=True)
        for axis in (axis for axis in range(y.ndim - 1) if y.shape[axis] > 1):
            yield f"the sum is over axis {axis} of dy y{formula}", y * (r - (y * r).sum(axis, keepdims=True))
        c = case.factor(case.gradient - y * r, true - y * r)
        if c is not None:
            yield f"the sum is off by the constant factor {c:.4g}{formula}", y * r + c * (true - y * r)
    yield "it is dy as it came: the derivative of forward is missing", r
    if not softmax and case.agree(true, diagonal.reshape(true.shape) * r):
        x = case.x
        more = {"x": x, "x (1 - x)": x * (1 - x), "(1 - x^2)": 1 - x * x}
        for name, f in (_slopes_by_y(y) | more).items():
            yield f"it is dy {name}, and that is not dy times the derivative of forward", r * f


def _slopes_by_y(y):
    return {"y": y, "(1 - y)": 1 - y, "y (1 - y)": y * (1 - y), "(1 - y^2)": 1 - y * y}


def _of_parameter_factors(case, d, true):
    for name, array in case.subject.weights().items():
        fits = array.ndim <= true.ndim and true.shape[true.ndim - array.ndim :] == array.shape
        if array is not case.values and fits and array.size > 1 and (np.abs(array) > 1e-3).all():
            yield f"the factor {name} is missing", true / array
            yield f"the factor {name} is there once too often", true * array


def _of_another(case, d, true):
    for name, array in case.subject.weights().items():
        if array is not case.values and array.shape == true.shape and case.name != "x":
            other = derivatives_of(case.subject, array, False, case.step)
            if other is not None:
                yield f"it is the gradient of {name}", other.gradient()


def _without_activation(case, d, true):
    """J^T (r / f'), where f' is what a bias says."""
    for name, array in case.subject.weights().items():
        if array is case.values or array.ndim != 1 or array.size != case.y.shape[-1]:
            continue
        slope = _slope_of_activation(case, array)
        if slope is not None and (np.abs(slope) > 3e-5).all() and not np.allclose(slope, 1):
            label = "the derivative of the activation is"
            yield f"{label} missing: it must be taken of dy first (seen by {name})", d.gradient(1 / slope)
            yield f"{label} applied twice (seen by {name})", d.gradient(slope)
            for what, f in _slopes_by_y(case.y).items():
                yield f"{label} taken for {what}, and it is another (seen by {name})", d.gradient(f / slope)


def _shifted(case, d, true):
    """dx that is right, but lies some places further on; what was moved in from outside is not known."""
    if case.name != "x" or true.ndim < 3:
        return
    given = case.gradient
    for shift in itertools.product(range(-3, 4), repeat=true.ndim - 2):
        if not any(shift) or any(2 * abs(s) >= length for s, length in zip(shift, true.shape[1:-1], strict=True)):
            continue
        there = tuple(slice(max(s, 0), n + min(s, 0)) for s, n in zip(shift, true.shape[1:-1], strict=True))
        here = tuple(slice(max(-s, 0), n + min(-s, 0)) for s, n in zip(shift, true.shape[1:-1], strict=True))
        there, here = (slice(None), *there), (slice(None), *here)
        known = d.known[here]
        if known.sum() < 8 or (np.abs(true[here][known]) > SAME * case.scale).sum() < 8:
            continue
        if case.agree(given[there][known], true[here][known]):
            outside = np.ones(true.shape, bool)
            outside[there] = False
            by = ", ".join(map(str, shift))
            if case.agree(given, np.roll(true, shift, range(1, true.ndim - 1))):
                yield f"shifted round by ({by}) places"
            elif np.abs(given[outside]).max(initial=0) > SAME * case.scale:
                yield f"shifted by ({by}) places: is the padding cut on the wrong side?"
            else:
                yield f"shifted by ({by}) places"


def _normalised(case, d, true):
    """Of x: T = a dy + b + c (x - mean), with numbers a, b, c for every group that is normalised together.  G may lack
    some of them."""
    if case.name != "x":
        return
    scales = [np.ones(1), *(array for array in case.subject.weights().values() if array.ndim <= true.ndim
                            and true.shape[true.ndim - array.ndim :] == array.shape)]  # fmt: skip
    if case.x.shape != case.y.shape or not d.known.all():
        return
    for count in range(true.ndim, 0, -1):  # what fits all is right for parts, too
        for axes in itertools.combinations(range(true.ndim), count):
            if math.prod(true.shape[axis] for axis in axes) < 5:
                continue
            for scale in scales:
                wanted = _coefficients(case, true, axes, case.r * scale)
                given = _coefficients(case, case.gradient, axes, case.r * scale)
                if wanted is not None and given is not None:
                    label = _missing_terms(case, wanted, given)
                    if label:
                        yield label.format("batch normalisation" if 0 in axes else "the normalisation")
                        return


def _coefficients(case, gradient, axes, dy):
    """(groups, 3) numbers a, b, c, in units of the gradient; None where they do not give it."""
    count = len(axes)

    def grouped(array):
        return np.moveaxis(array, axes, range(-count, 0)).reshape(-1, math.prod(array.shape[a] for a in axes))

    found = []
    for x, r, g in zip(grouped(case.x), grouped(dy), grouped(gradient), strict=True):
        centred = x - x.mean()
        base = np.stack([r / (np.abs(r).max() or 1), np.ones_like(r), centred / (np.abs(centred).max() or 1)], 1)
        solution = np.linalg.lstsq(base, g, rcond=None)[0]
        if not case.agree(base @ solution, g):
            return None
        found.append(solution)
    return np.array(found)


def _missing_terms(case, wanted, given):
    """What of (a, b, c) is not as it should be; None where it has no name."""
    tiny = 1e-5 * np.abs(wanted).max()
    there = [np.abs(wanted[:, i]).max() > 100 * tiny for i in range(3)]
    same = [np.abs(given[:, i] - wanted[:, i]).max() <= tiny for i in range(3)]
    gone = [np.abs(given[:, i]).max() <= tiny for i in range(3)]
    if not (all(there) and same[0]):
        return None
    if gone[1] and gone[2]:
        return "the terms of mean and variance of {} are missing: both depend on x, too"
    if gone[1] and same[2]:
        return "the mean's term of {} is missing: the mean depends on x, too"
    if gone[2] and same[1]:
        return "the variance's term of {} is missing: the variance depends on x, too"
    for i, other, name in ((1, 2, "mean"), (2, 1, "variance")):
        if same[other]:
            c = float((given[:, i] * wanted[:, i]).sum() / (wanted[:, i] ** 2).sum())
            if np.abs(given[:, i] - c * wanted[:, i]).max() <= tiny and abs(c) > 1e-4:
                return f"the {name}'s term of {{}} is off by the factor {c:.4g}"
    return None


# ---- where it is wrong ----


def _where(case, c=1.0):
    """In words, the part that is wrong, if it is one; ``c``: the factor that all the rest is off by."""
    d = case.derivatives()
    if d is None or case.gradient.ndim < 2:
        return ""
    true = c * d.gradient()
    least = SAME * max(np.abs(true).max(), case.scale)
    wrong, some = d.known & (np.abs(case.gradient - true) > least), np.abs(true) > least
    if border := _border(case, wrong, some):
        return border
    for axis in range(true.ndim):
        others = tuple(a for a in range(true.ndim) if a != axis)
        bad = wrong.any(others)
        places, right = np.flatnonzero(bad), np.flatnonzero(~bad)
        if not some.any(others)[~bad].all():  # where all is 0 nothing is seen to be right
            continue
        if case.name == "x" and axis == 0 and len(places) and len(right):
            return f"in all samples but sample {right[0]}" if len(right) == 1 else f"in the samples {places.tolist()}"
        if 0 < len(places) <= len(bad) // 2:
            return f"at index {', '.join(map(str, places[:5]))}{', ...' if len(places) > 5 else ''} of axis {axis}"
    return ""


def _border(case, wrong, some):
    if case.name != "x" or wrong.ndim < 3:
        return ""
    at = wrong.any((0, wrong.ndim - 1))
    for axis, name in enumerate(("row", "column") if at.ndim == 2 else ("place",)):
        lines = np.flatnonzero(at.any(tuple(a for a in range(at.ndim) if a != axis)))
        for word, edge in (("first", 0), ("last", at.shape[axis] - 1)):
            if lines.tolist() == [edge] and at.shape[axis] > 2:
                return f"{BORDER}, in the {word} {name}"
    for width in range(1, (min(at.shape) - 1) // 2 + 1):
        inside = (slice(width, -width),) * at.ndim
        seen = some.any((0, wrong.ndim - 1))[inside].all()
        if not at[inside].any() and seen and 5 * at[inside].size >= at.size:
            shown = "" if width == 1 else f"{width} "
            lines = "rows and columns" if at.ndim == 2 else "places"
            return f"{BORDER}, in the outermost {shown}{lines}"
    return ""
