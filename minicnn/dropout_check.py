"""Whether a layer is dropout: ``testing.check_dropout``, which names the mistake where it is not.

``gradcheck`` proves that ``backward`` fits ``forward``; what ``forward`` means it cannot know.  Here it is counted.
With r the rate, keep ~ Bernoulli(1 - r) drawn for every element, sample and step:

    inverted:    training y = x keep / (1 - r),    dx = dy keep / (1 - r),    evaluation y = x
    classical:   training y = x keep,              dx = dy keep,              evaluation y = x (1 - r)

What is a number of its own (a scale, a zero, which mask) is compared, what is random is counted.  A count k of n with
probability p each is called wrong where 2 exp(-n KL(k/n || p)) < ERROR, KL(a || p) = a ln(a/p) + (1 - a)
ln((1 - a)/(1 - p)): that bounds the probability of a deviation as large (Chernoff; Hoeffding 1963, theorem 1), and so
of an accusation of a right layer.  A check makes less than a thousand of such tests.
"""

import contextlib
import copy
import dataclasses
import inspect
import math
import random
import warnings

import numpy as np

from minicnn import _check, layers, schedules
from minicnn.layer import TRAINING, Layer, takes_training

ERROR = 1e-14  # of one test
RATES = (0.2, 0.7)  # checked beside the layer's own: at 0.5 keeping and dropping are alike, and 1/r is 1/(1 - r)
SHAPE = (64, 100)
MOST = 1_000_000  # values drawn at one rate
CLOSE = 1e-5  # between equal factors, relative: float32 has 6e-8
HALF = 1e-3  # between a factor and its formula: float16, of which a mask may be, has 5e-4

OTHERS = {  # layers of ours that put noise on something, and are no dropout of units
    layers.GaussianDropout: "It multiplies every value by a normal number, and none is 0",
    layers.GaussianNoise: "It adds a normal number to every value, and none is 0",
    layers.AlphaDropout: "What it drops becomes alpha', not 0, and all is moved to keep mean and variance",
    layers.DropConnect: "It drops weights",
    layers.DropBlock2D: "Its decisions are for blocks, and it scales every sample by what is left of it",
}


class DropoutError(AssertionError):
    """A layer is no dropout; the message says which mistakes it makes."""


@dataclasses.dataclass(frozen=True)
class DropoutCheck:
    """What ``check_dropout`` found; always true, since a mistake raises.

    - ``mode``: "inverted" or "classical".  ``shape``: of x.
    - ``kept``: {rate: share of the decisions that kept}; ``decisions``: {rate: how many were counted}.
    - ``shared``: the axes of x along which all share a decision, as with SpatialDropout2D.
    - ``notes``: sentences about what is no mistake: what was not checked, and what the layer does not know.
    """

    mode: str
    shape: tuple
    kept: dict
    decisions: dict
    shared: tuple = ()
    notes: tuple = ()

    def __bool__(self):
        return True

    def __str__(self):
        lines = [f"dropout, {self.mode}: x of shape {self.shape}", f"{'rate':>8} {'kept':>8} {'decisions':>10}"]
        lines += [f"{rate:>8.4g} {self.kept[rate]:>8.4f} {self.decisions[rate]:>10}" for rate in self.kept]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def check_dropout(layer, shape=SHAPE, rate=None):
    """Checks that a layer is dropout, inverted or classical, and says which mistake it makes if not.

    - ``layer``: one of minicnn's or a custom one, built or not, left as it is; any object with ``forward(x, training)``
      and perhaps ``backward(dy)``; or a function ``f(x, rate, training) -> y``.
    - ``shape``: of x, the batch first, with 2 samples or more.  A layer that is built gets samples of its own shape,
      and one for images (64, 2, 2, 25) in the place of the default.
    - ``rate``: the fraction dropped, in [0, 1]; None: ``layer.rate``.  Other rates are tried as well, where the layer
      can be made again with them from its arguments (or with keep_prob), and always of a function.

    Checked are the share kept; that what is kept is multiplied by one number, 1 / (1 - rate) or, classical, 1; that the
    mean in training is that of evaluation; that evaluation drops nothing and gives the same twice; that masks are new
    in every step, not made of x, and independent between steps, samples and units; that ``backward`` multiplies by the
    mask and scale of ``forward``; and that ``freeze_mask``, if there is one, holds the mask.  Units may share decisions
    along some axes of a sample with several (whole channels), and along those that the layer's ``noise_shape`` says.

    Returns a ``DropoutCheck``.  What an honest layer need not know stands in its ``notes``: the rates 0 and 1 exactly,
    NaN where it is dropped, and a missing ``freeze_mask``.  Raises ``DropoutError`` (an AssertionError) with every
    mistake found; TypeError or ValueError for wrong arguments, also for layers of ours that drop other things than
    units.  The probability that a right layer is accused is below 1e-10, whatever random numbers it draws; those of
    NumPy's and Python's global generators are set for the check, and put back.
    """
    where = "check_dropout"
    shape = _shape(where, shape)
    rate = _rate(where, layer, rate)
    trials, notes = _trials(layer, shape, rate)
    with _same_numbers():
        seen = [_Seen(trial) for trial in trials]
        mistakes = _mistakes(seen)
        if mistakes:
            name = trials[0].name
            listed = f" {mistakes[0]}" if len(mistakes) == 1 else "".join(f"\n- {one}" for one in mistakes)
            raise DropoutError(f"{name}:{listed}")
        notes += _notes(layer, trials, seen)
    mode = "inverted" if abs(seen[0].evaluation - 1) < CLOSE else "classical"
    kept = {one.trial.rate: float(one.decisions.mean()) for one in seen}
    counted = {one.trial.rate: one.decisions.size for one in seen}
    return DropoutCheck(mode, seen[0].trial.shape, kept, counted, seen[0].shared, tuple(notes))


# ---- arguments ----


def _shape(where, shape):
    required = "shape must be that of x, the batch first: (N, ...) with N >= 2"
    if not isinstance(shape, list | tuple):
        raise TypeError(_check.message(where, required, _check.kind(shape)))
    shape = tuple(_check.integer(where, "every axis of shape", axis, 1) for axis in shape)
    if len(shape) < 2 or shape[0] < 2:
        raise ValueError(_check.message(where, required, shape))
    return shape


def _rate(where, layer, rate):
    """The number, or None for a function to which all rates are the same."""
    is_model = hasattr(layer, "layers") and hasattr(layer, "state_dict")
    if isinstance(layer, type) or is_model or not (callable(layer) or hasattr(layer, "forward")):
        required = "layer must be a layer, or a function f(x, rate, training)"
        fix = "Make an instance: put () behind the class" if isinstance(layer, type) else ""
        raise TypeError(_check.message(where, required, _check.kind(layer), fix))
    for cls, what in OTHERS.items():
        if isinstance(layer, cls):
            required = "layer must drop units: set some to zero, and leave or scale all others by one number"
            raise TypeError(_check.message(where, required, layer, what))
    if rate is None and hasattr(layer, "forward"):
        rate = getattr(layer, "rate", None)
        if rate is None:
            fix = "It is 1 - keep_prob" if hasattr(layer, "keep_prob") else ""
            required = "rate, the fraction dropped, must be said for a layer without the attribute rate"
            raise TypeError(_check.message(where, required, _check.kind(layer), fix))
    if isinstance(getattr(layer, "rate", None), schedules.Schedule):
        fix = "Check the layer with a number in its place"
        raise TypeError(_check.message(where, "the layer's rate must be a number", layer.rate, fix))
    return None if rate is None else _check.number(where, "rate", _check.plain(rate), 0, 1)


@contextlib.contextmanager
def _same_numbers():
    """NumPy's and Python's global generators at the same beginning, and afterwards where they were."""
    before = np.random.get_state(), random.getstate()
    np.random.seed(20_140_601)
    random.seed(20_140_601)
    try:
        yield
    finally:
        np.random.set_state(before[0])
        random.setstate(before[1])


# ---- what is tried ----


class _Trial:
    """A layer or function at one rate, ready for x of one shape."""

    def __init__(self, thing, rate, shape):
        self.thing, self.rate, self.shape = thing, rate, shape
        self.is_function = not hasattr(thing, "forward")
        self.name = getattr(thing, "__name__", "function") if self.is_function else type(thing).__name__
        if not self.is_function:
            self._make_ready()
        dtype = getattr(thing, "dtype", None)
        self.dtype = dtype if isinstance(dtype, np.dtype) else np.dtype(np.float64)

    def _make_ready(self):
        if not takes_training(self.thing):
            raise DropoutError(f"{self.name}.forward {TRAINING}")
        if getattr(self.thing, "input_shape", None) is not None:
            self.shape = (self.shape[0], *self.thing.input_shape)
        elif hasattr(self.thing, "build"):
            axes = len(getattr(self.thing, "noise_shape", None) or ()) - 1
            if self.shape == SHAPE and 3 in (getattr(self.thing, "input_ndim", None), axes):
                self.shape = (64, 2, 2, 25)
            self.thing.build(self.shape[1:], np.random.default_rng(0))
        if hasattr(self.thing, "unfreeze_mask"):
            self.thing.unfreeze_mask()

    def forward(self, x, training):
        x = x.copy()
        y = self.thing(x, self.rate, training) if self.is_function else self.thing.forward(x, training=training)
        return self._like_x(f"{self.name}: forward", "y", y)

    def backward(self, dy):
        return self._like_x("backward", "dx", self.thing.backward(dy.copy()))

    def _like_x(self, who, name, array):
        """What a method returned, as a float64 copy; DropoutError if it is no array of the shape of x."""
        if not isinstance(array, np.ndarray) or array.shape != self.shape:
            fix = f"; is `return {name}` missing?" if array is None else ""
            got = f"shape {array.shape}" if isinstance(array, np.ndarray) else f"{array!r:.80}"
            raise DropoutError(f"{who} must return {name} of the shape of x, {self.shape}; got {got}{fix}")
        return np.array(array, np.float64)

    def numbers(self, rng):
        """Random numbers of both signs, none near 0."""
        return (rng.uniform(0.5, 1.5, self.shape) * rng.choice([-1.0, 1.0], self.shape)).astype(self.dtype)


def _trials(layer, shape, rate):
    """([_Trial], notes): the layer at its own rate and, where that can be made, at others."""
    own = [] if rate in (None, 0, 1) else [rate]
    others = [one for one in RATES if not own or abs(one - rate) > 0.05]
    if not hasattr(layer, "forward"):
        rates = [*own, *others] if own else [0.2, 0.5, 0.7]
        return [_Trial(layer, one, shape) for one in rates], []
    trials = [_Trial(copy.deepcopy(layer), one, shape) for one in own]
    again = [(one, _made_again(layer, rate, one)) for one in others]
    trials += [_Trial(thing, one, shape) for one, thing in again if thing is not None]
    if not trials:
        required = "rate must be in (0, 1) for a layer that cannot be made again with another rate"
        raise ValueError(_check.message("check_dropout", required, rate))
    if any(thing is None for _, thing in again):
        alike = ", where keeping and dropping are alike" if rate == 0.5 else ""
        what = (
            f"checked at rate {rate:.4g} alone{alike}, for it cannot be made again from its arguments with another rate"
        )
        return trials, [f"{what}; check one made with {0.2 if rate == 0.5 else 0.7} as well"]
    return trials, []


def _made_again(layer, rate, other):
    """A new layer of the class with the same arguments but the rate, or the keep_prob; None where that cannot be done.

    Made, not changed: what ``__init__`` makes of the rate would stay what it was, and an honest layer be accused.
    """
    if getattr(layer, "rate", None) != rate:
        return None
    cls = type(layer)
    if "rate" not in vars(layer) and isinstance(getattr(cls, "rate", None), int | float):  # an attribute of the class
        of_class = type(cls.__name__, (cls,), {"rate": other, "__module__": cls.__module__})
        return _made(of_class, layer, {}, other)
    # The argument that becomes its rate, or of which it is what is left.
    made = (_made(cls, layer, {name: value}, other) for name in _parameters(cls) for value in (other, 1 - other))
    return next((one for one in made if one is not None), None)


def _parameters(cls):
    try:
        names = [*inspect.signature(cls).parameters]
    except (TypeError, ValueError):  # not written in Python
        return []
    return sorted(names, key=lambda name: name != "rate")


def _made(cls, layer, changed, rate):
    try:
        parameters = _parameters(type(layer))
        config = layer.get_config() if isinstance(layer, Layer) else vars(layer)
        arguments = {name: value for name, value in config.items() if name in parameters}
        made = cls(**{**arguments, **changed})
        return made if math.isclose(made.rate, rate, abs_tol=1e-12) else None
    except Exception:  # a class of somebody else's: whatever it raises, it cannot be made like this
        return None


# ---- what is seen ----


class _Seen:
    """What a trial did: factors y / x of evaluation and training, masks, and what backward made of dy."""

    def __init__(self, trial):
        self.trial = trial
        rng = np.random.default_rng(0)
        size, rare, shared = math.prod(trial.shape), min(trial.rate, 1 - trial.rate), _declared(trial)
        alone = math.prod(length for axis, length in enumerate(trial.shape) if axis not in shared)
        self.steps = int(min(max(8, 8_000 / alone, 100 / (rare * alone)) + 1, max(8, MOST // size)))
        x = trial.numbers(rng)
        first, second = trial.forward(x, False), trial.forward(x, False)
        self.evaluated = np.stack([first, second]) / x
        self.factors, self.gradients, self.error = [], [], None
        backward = hasattr(trial.thing, "backward")
        for _ in range(self.steps):
            x, dy = trial.numbers(rng), trial.numbers(rng)
            self.factors.append(trial.forward(x, True) / x)
            try:
                if backward:
                    self.gradients.append(trial.backward(dy) / dy)
            except NotImplementedError:
                backward = False
            except Exception as error:  # of somebody else's code: a mistake like others, of which there may be more
                backward, self.error = False, error
        self.factors = np.array(self.factors)
        self.gradients = np.array(self.gradients) if backward else None
        self.masks = self.factors != 0
        self.by_step = self.by_batch = self.by_sample = False  # whether all of them share a mask
        self.by_x = False  # whether the same x always gets the same
        self.shared, self.decisions = (), self.masks  # decisions: one of each that are shared, (steps, N, ...)
        if not self.masks.all() and self.masks.any():
            self._find_sharing()

    def _find_sharing(self):
        masks, p, declared = self.masks, 1 - self.trial.rate, _declared(self.trial)
        long = [axis for axis, length in enumerate(self.trial.shape) if length > 1]
        self.shared = tuple(axis for axis in long if _all_alike(masks, axis + 1, p))
        self.by_step = _all_alike(masks, 0, p)
        self.by_batch = 0 in self.shared and 0 not in declared
        units = {axis for axis in long if axis > 0}
        self.by_sample = bool(units) and units <= set(self.shared) and not units <= set(declared)
        for axis in self.shared:
            masks = masks.take([0], axis + 1)
        self.decisions = masks[:1] if self.by_step else masks
        both = [self.trial.numbers(np.random.default_rng(seed)) for seed in (2, 3)]
        order = np.array([0, 1, 1, 0, 1, 0, 0, 1])  # no mask that comes again every few steps has it
        again = np.array([self.trial.forward(both[k], True) != 0 for k in order])
        alike = all(_all_alike(again[order == k], 0, p) for k in (0, 1))
        self.by_x = alike and bool((again[0] != again[1]).any())

    scale = property(lambda self: _one_number(self.factors[self.masks]))  # of what is kept, in training
    evaluation = property(lambda self: _one_number(self.evaluated))


def _one_number(values):
    """The number that all of them are, or None; 0 values: None."""
    values = np.ravel(values)
    if not len(values):
        return None
    middle = float(np.median(values))
    return middle if (np.abs(values - middle) <= CLOSE * abs(middle)).all() else None


def _declared(trial):
    """The axes of x along which the layer says that decisions are shared."""
    if isinstance(trial.thing, layers.StochasticDepth):
        return range(trial.thing.mode == "row", len(trial.shape))
    noise_shape = getattr(trial.thing, "noise_shape", None)
    if not isinstance(noise_shape, tuple) or len(noise_shape) != len(trial.shape):
        return ()
    return [axis for axis, wish in enumerate(noise_shape) if wish == 1]


def _all_alike(masks, axis, p):
    """Whether all along the axis are equal, and that is no chance: m independent ones are with p^m + (1 - p)^m."""
    length = masks.shape[axis]
    if length < 2 or not (masks == masks.take([0], axis)).all():
        return False
    return masks.size / length * math.log(p**length + (1 - p) ** length) < math.log(ERROR)


# ---- what is wrong ----


def _mistakes(seen):
    """A sentence for each mistake: of the modes alone where they are wrong, or of masks, shares, scales, backward."""
    found = _of_values(seen) or _of_modes(seen)
    if found:
        return found
    shares = _of_shares(seen)
    if shares and shares[0].startswith(SHARE):  # of decisions that hang together a share says little
        shares = _of_independence(seen, observed=True) or shares
    found = _of_sharing(seen) + shares
    found += _of_scales(seen, exchanged=any(text.startswith("keep and drop") for text in shares))
    if not found:
        found += _of_independence(seen)
    return found + _of_backward(seen) + _of_freezing(seen)


def _at(one):
    return f"at rate {one.trial.rate:.4g}"


def _of_values(seen):
    for one in seen:
        if not (np.isfinite(one.factors).all() and np.isfinite(one.evaluated).all()):
            return [f"forward gives NaN or infinity for finite x {_at(one)}"]
    return []


def _of_modes(seen):
    """Whether something is dropped in training, and nothing in evaluation."""
    for one in seen:
        idle = one.masks.all() and _impossible(1, one.masks.size, 1 - one.trial.rate)
        dropping, steady = (one.evaluated == 0).any(), (one.evaluated[0] == one.evaluated[1]).all()
        noisy = one.masks.all() and one.scale is None
        if idle and dropping:
            return ["dropping in evaluation, and nothing is dropped in training: are the two exchanged?"]
        if idle and noisy:
            return [f"nothing is dropped in training {_at(one)}: no output is 0, and the factors y / x differ "
                    "(noise that multiplies, as in GaussianDropout?)"]  # fmt: skip
        if idle:
            return [f"nothing is dropped in training {_at(one)}: no output is 0"]
        if not one.masks.any() and _impossible(0, one.masks.size, 1 - one.trial.rate):
            return [f"everything is dropped in training {_at(one)}: all outputs are 0"]
        if dropping:
            share = (one.evaluated == 0).mean()
            return [f"dropping in evaluation: with training=False {share:.0%} of the outputs are 0 {_at(one)}"]
        if not steady:
            return ["evaluation is random: forward(x, training=False) gave different values for the same x"]
        if one.scale is None and one.masks.any():
            values = one.factors[one.masks]
            return [
                f"what is kept is not x times one number: y / x is {values.min():.4g} to {values.max():.4g} {_at(one)}"
            ]
        if one.evaluation is None:
            values = one.evaluated
            return [
                f"evaluation is not x times one number: y / x is {values.min():.4g} to {values.max():.4g} {_at(one)}"
            ]
    return []


def _of_sharing(seen):
    found = []
    if any(one.by_step for one in seen):
        found.append("one mask for all steps: every training forward drops the same units; draw it anew in each")
    if any(one.by_x for one in seen):
        found.append(
            "the mask is made of x: the same x drops the same units in every step; draw random numbers instead"
        )
    if any(one.by_batch for one in seen):
        found.append("one mask for the whole batch: all samples drop the same units; draw one of the shape of x")
    if any(one.by_sample for one in seen):
        found.append(
            "one decision for all units of a sample: each is kept or dropped whole; draw a mask of the shape of x"
        )
    return found


def _impossible(share, n, p, error=ERROR):
    """Whether k = share * n of n decisions with probability p are less probable than ``error``."""
    terms = ((a, b) for a, b in ((share, p), (1 - share, 1 - p)) if a > 0)
    divergence = sum(a * math.log(a / b) if b > 0 else math.inf for a, b in terms)
    return math.log(2) - n * divergence < math.log(error)


SHARE = "the share kept is wrong"


def _of_shares(seen):
    """The share kept, at all rates: the right one, or that of a mistake with a name."""
    shares = [(float(one.decisions.mean()), one.decisions.size, one.trial.rate) for one in seen]
    wrong = [(k, r) for k, n, r in shares if _impossible(k, n, 1 - r)]
    if not wrong:
        return []
    k, r = wrong[0]
    what = f"{k:.3f} of the values are kept at rate {r:.4g}"
    shares_of = (
        ("exchanged", lambda r: r),
        ("twice", lambda r: (1 - r) ** 2),
        ("fixed", lambda r: 0.5),
        ("normal", lambda r: math.erfc(r / math.sqrt(2)) / 2),  # z >= r
        ("normal", lambda r: math.erfc((r - 1) / math.sqrt(2)) / 2),  # z < 1 - r
    )
    names = [name for name, p in shares_of if all(not _impossible(k, n, p(r)) for k, n, r in shares)]
    if names == ["exchanged"]:
        return [f"keep and drop exchanged: {what}, where {1 - r:.4g} are to be kept; rate is the fraction dropped"]
    if names == ["twice"]:
        return [f"two masks, one upon the other: {what}, which is (1 - rate)^2; {1 - r:.4g} are to be kept"]
    if names == ["fixed"] and len(shares) > 1:
        return [f"half of the values are kept at every rate: {what}, where {1 - r:.4g} are to be kept"]
    if names == ["normal"] and len(shares) > 1:
        numbers = "normal numbers are compared with the rate, where uniform ones in [0, 1) belong (randn for rand?)"
        return [f"{numbers}: {what}, where {1 - r:.4g} are to be kept"]
    return [f"{SHARE}: {what}, where {1 - r:.4g} are to be kept"]


FACTORS = {
    "1": lambda r: 1.0,
    "1/(1 - rate)": lambda r: 1 / (1 - r),
    "1 - rate": lambda r: 1 - r,
    "1/rate": lambda r: 1 / r,
    "rate": lambda r: r,
    "1/(1 - rate)^2": lambda r: (1 - r) ** -2.0,
    "(1 - rate)^2": lambda r: (1 - r) ** 2,
    "2": lambda r: 2.0,
    "0.5": lambda r: 0.5,
    "whole": lambda r: math.floor(1 / (1 - r)),
}
SCALED_TWICE = "scaled in training and in evaluation"
SCALES = {  # (factor in training, factor in evaluation): the mistake
    ("1", "1"): "scale missing: what is kept is not scaled in training, and evaluation is not scaled either",
    ("1/(1 - rate)", "1 - rate"): f"{SCALED_TWICE}: divided by 1 - rate in the one, multiplied by it in the other",
    ("1/(1 - rate)", "1/(1 - rate)"): f"{SCALED_TWICE}: divided by 1 - rate in both",
    ("1 - rate", "1 - rate"): f"{SCALED_TWICE}: multiplied by 1 - rate in both",
    ("1/rate", "1"): "divided by the rate, where it should be divided by 1 - rate",
    ("rate", "1"): "multiplied by the rate in training, where it should be divided by 1 - rate",
    ("1 - rate", "1"): "multiplied by 1 - rate in training, where it should be divided by it",
    ("1/(1 - rate)^2", "1"): "scaled twice in training: divided by (1 - rate)^2",
    ("1", "rate"): "evaluation multiplies by the rate, where it should multiply by 1 - rate",
    ("1", "1/(1 - rate)"): "evaluation divides by 1 - rate, where it should multiply by it",
    ("1", "(1 - rate)^2"): "evaluation is scaled twice: multiplied by (1 - rate)^2",
    ("2", "1"): "the scale is 2 at every rate: it is 1/(1 - rate), which is 2 at rate 0.5 only",
    ("whole", "1"): "the scale is cut off to a whole number: is the mask an array of integers?",
    ("1", "0.5"): "evaluation multiplies by 0.5 at every rate: it is 1 - rate, which is 0.5 at rate 0.5 only",
}
RIGHT = {("1/(1 - rate)", "1"), ("1", "1 - rate")}
EXCHANGED = {("1/rate", "1"), ("1", "rate")}  # right where rate is taken for the fraction kept


def _fits(values, rates):
    """The names of FACTORS that give all values."""
    return [name for name, f in FACTORS.items()
            if all(abs(v - f(r)) <= HALF * f(r) for v, r in zip(values, rates, strict=True))]  # fmt: skip


def _pairs(rates, trained, evaluated):
    return {(a, b) for a in _fits(trained, rates) for b in _fits(evaluated, rates)}


def _of_scales(seen, exchanged):
    rates = [one.trial.rate for one in seen if one.scale is not None]
    trained = [one.scale for one in seen if one.scale is not None]
    evaluated = [one.evaluation for one in seen if one.scale is not None]
    pairs, right = _pairs(rates, trained, evaluated), RIGHT | EXCHANGED if exchanged else RIGHT
    if pairs & right:
        return []
    named = [text for pair, text in SCALES.items() if pair in pairs and (pair[0] != "whole" or len(pairs) == 1)]
    r, s, e = next(
        (one for one in zip(rates, trained, evaluated, strict=True) if not _pairs(*([value] for value in one)) & right),
        (rates[0], trained[0], evaluated[0]),
    )
    factors = f"the factor is {s:.4g} in training and {e:.4g} in evaluation at rate {r:.4g}"
    if len(named) == 1 or (named and all(text.startswith(SCALED_TWICE) for text in named)):
        return [f"{named[0]} ({factors})"]
    must = f"it must be 1/(1 - rate) = {1 / (1 - r):.4g} and 1, or, classical, 1 and 1 - rate = {1 - r:.4g}"
    return [f"scaled wrongly: {factors}; {must}"]


def _of_independence(seen, observed=False):
    """Decisions that hang together although none are the same; ``observed``: whatever the share kept is."""
    for one in seen:
        p = float(one.decisions.mean()) if observed else 1 - one.trial.rate
        if not 0 < p < 1:
            continue
        found = _fixed_count(one, p) or _uneven(one, p) or _in_pairs(one, p)
        if found:
            return [f"{found} {_at(one)}: every decision must be drawn by itself"]
    return []


def _fixed_count(one, p):
    """The same number kept every time: independent ones have it so with at most the largest probability of a count."""
    kept = one.decisions
    flat = kept.reshape(len(kept), kept.shape[1], -1)
    for counts, n, what in (
        (flat.sum(2).ravel(), flat.shape[2], "{} of the {} units of every sample are kept"),
        (flat.sum((1, 2)), flat[0].size, "{} of the {} values of every batch are kept"),
        (flat.sum(1).ravel(), flat.shape[1], "every unit is kept in {} of {} samples"),
    ):
        mode = min(int((n + 1) * p), n)
        log_most = math.lgamma(n + 1) - math.lgamma(mode + 1) - math.lgamma(n - mode + 1)
        log_most += mode * math.log(p) + (n - mode) * math.log(1 - p)
        if (counts == counts[0]).all() and (len(counts) - 1) * log_most < math.log(ERROR):
            return f"always the same number, {what.format(counts[0], n)}"
    return None


def _uneven(one, p):
    """A unit or a sample with a share of its own."""
    kept = one.decisions
    if len(kept) < 2:
        return None
    samples = kept.mean((0, *range(2, kept.ndim)))
    units = kept.mean((0, 1)) if kept.ndim > 2 else np.array([])
    for shares, name in ((samples, "sample"), (units, "unit")):
        n = kept.size // max(shares.size, 1)
        for place, share in np.ndenumerate(shares):
            if _impossible(float(share), n, p, ERROR / shares.size):
                place = place[0] if len(place) == 1 else place
                return f"{name} {place} is kept {share:.0%} of the time"
    return None


def _in_pairs(one, p):
    """Two decisions are alike with probability p^2 + (1 - p)^2; pairs that have none in common are independent."""
    kept = one.decisions
    alike, found = p * p + (1 - p) ** 2, []
    for axis in range(kept.ndim):
        half = kept.shape[axis] // 2
        for step in {1, half} if half else ():
            along = np.moveaxis(kept, axis, 0)
            first, second = (
                (along[0 : 2 * half : 2], along[1 : 2 * half : 2])
                if step == 1
                else (along[:half], along[half : 2 * half])
            )
            share = float((first == second).mean())
            if _impossible(share, first.size, alike):
                strength = (share - alike) / (1 - alike) if share > alike else (alike - share) / alike
                found.append((strength, ("steps", "samples")[axis] if axis < 2 else "units", share))
    if not found:
        return None
    strength, what, share = max(found)
    # Where some decisions hang together there are fewer pairs that do not: a little off, others may be the cause.
    which, pairs = (f" of different {what}", "pairs") if strength > 0.3 else ("", f"pairs of {what}")
    return f"the decisions{which} hang together: {share:.3f} of {pairs} are alike, not {alike:.3f},"


def _of_backward(seen):
    for one in seen:
        if one.error is not None:
            raised = "" if isinstance(one.error, DropoutError) else f"backward raised {type(one.error).__name__}: "
            return [f"{raised}{one.error}"]
        if one.gradients is None or one.scale is None:
            continue
        found = _of_gradients(one)
        if found:
            return [f"{found} ({_at(one)})"]
    return []


def _of_gradients(one):
    """What is wrong with dx = dy * keep * scale, the mask and scale those of forward."""
    if (np.abs(one.gradients - one.factors) <= 2 * CLOSE * abs(one.scale)).all():
        return None
    if not np.isfinite(one.gradients).all():
        return "backward gives NaN or infinity"
    passed, scale = one.gradients != 0, one.scale
    if not passed.any():
        return "backward gives zeros: dx = dy * keep * scale"
    factor = _one_number(one.gradients[passed])
    if factor is None:
        return "backward is not that of dropout: dx = dy * keep * scale, with the mask and scale of forward"
    same = abs(factor - scale) <= 2 * CLOSE * abs(scale)
    off = "" if same else _wrong_scale(factor, scale, one.trial.shape[0])
    if (passed == one.masks).all():
        return off
    if passed.all():
        if not same and abs(factor - 1) <= CLOSE:
            return "mask and scale missing in backward: dx is dy as it came"
        return _and("mask missing in backward: dropped units get a gradient", off)
    if (passed == ~one.masks).all():
        return _and("the mask is turned round in backward: what was dropped gets the gradient, what was kept none", off)
    if len(passed) > 1 and (passed[1:] == one.masks[:-1]).all():
        return _and("backward has the mask of the step before", off)
    if not (passed & ~one.masks).any():
        return _and("backward drops more than forward did: dx = dy * keep * scale, with the mask of forward alone", off)
    return _and(f"{_other_mask(one, passed)} in backward: it is not that of forward, which must be kept", off)


def _other_mask(one, passed):
    for axis, all_of in enumerate(("all steps", "the whole batch")):
        if _all_alike(passed, axis, 1 - one.trial.rate):
            return f"one mask for {all_of}"
    dy = one.trial.numbers(np.random.default_rng(1))
    try:
        first, second = one.trial.backward(dy), one.trial.backward(dy)
    except Exception:  # it need not take two in a row
        return "another mask"
    return "new mask" if ((first == 0) != (second == 0)).any() else "another mask"


def _and(one, other):
    return f"{one}; and {other}" if other else one


def _wrong_scale(factor, scale, n):
    factors = f"forward multiplies by {scale:.4g}, backward by {factor:.4g}"
    if abs(factor - 1) <= CLOSE:
        return f"scale missing in backward: {factors}"
    if abs(factor - scale * scale) <= 4 * CLOSE * scale * scale:
        return f"scale applied twice in backward: {factors}"
    if abs(n * factor - scale) <= 2 * CLOSE * abs(scale):
        return f"divided by the batch size {n} in backward, which is the loss's: {factors}"
    return f"the scale of backward is not that of forward: {factors}"


def _of_freezing(seen):
    for one in seen:
        layer = one.trial.thing
        if one.trial.is_function or not hasattr(layer, "freeze_mask") or one.masks.all() or one.by_step:
            continue
        layer.freeze_mask()
        x = np.abs(one.trial.numbers(np.random.default_rng(1)))
        if any((one.trial.forward(x, True) != one.trial.forward(x, True)).any() for _ in range(2)):
            return ["freeze_mask does not hold the mask: after it, every training forward must drop the same units"]
    return []


# ---- what is no mistake ----


def _notes(layer, trials, seen):
    notes = []
    trial = trials[0]
    for one in seen:
        if not _impossible(1, one.masks.size, 1 - one.trial.rate):
            notes.append(f"too few values to see anything {_at(one)}: give a larger shape")
    if trial.is_function:
        notes.append("a function has no backward: gradients were not checked")
    elif seen[0].gradients is None:
        notes.append("it has no backward(dy): gradients were not checked")
    if not trial.is_function and not hasattr(trial.thing, "freeze_mask"):
        notes.append(
            "it has no freeze_mask(), after which every training forward draws the same numbers: gradcheck needs it"
        )
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        notes += filter(None, (_note_of_nan(trials[-1]), *(_note_of_end(layer, trial, r) for r in (0.0, 1.0))))
    return notes


def _note_of_nan(trial):
    """None if a NaN that is dropped becomes 0."""
    x = np.full(trial.shape, np.nan, trial.dtype)
    try:
        zeros = any((trial.forward(x, True) == 0).any() for _ in range(8))
    except Exception as error:  # it need not take NaN at all
        return f"it refuses NaN: {type(error).__name__}"
    return None if zeros else "a NaN that is dropped stays NaN: 0 * NaN is NaN; np.where(keep, x * scale, 0) selects"


def _note_of_end(layer, trial, rate):
    """None if at rate 0 all passes, and at rate 1 nothing, in training and in backward."""
    try:
        thing = layer if trial.is_function else _made_again(layer, getattr(layer, "rate", None), rate)
        if thing is None:
            return None
        end = _Trial(thing, rate, trial.shape)
        x = end.numbers(np.random.default_rng(0))
        y = end.forward(x, True)
        wrong = not (np.allclose(y, x, rtol=CLOSE) if rate == 0 else (y == 0).all())
    except Exception as error:
        return f"rate {rate:.0f} is refused: {type(error).__name__}: {error}"
    wanted = "x as it is" if rate == 0 else "0 everywhere"
    return f"at rate {rate:.0f} exactly training does not give {wanted}" if wrong else None
