"""Initial values of parameters: objects and names of Keras's, or any function ``(shape, rng) -> array``.

With fan_in and fan_out the number of inputs and outputs of one unit (for a kernel of shape (KH, KW, C, F): KH KW C and
KH KW F), a variance of scale / fan is drawn from a uniform or a normal distribution:

============  =====  ======================  ==================================================================
name          scale  fan                     source
============  =====  ======================  ==================================================================
glorot_*      1      (fan_in + fan_out) / 2  Glorot and Bengio, AISTATS 2010, equation 16
he_*          2      fan_in                  He et al., ICCV 2015, equation 10
lecun_*       1      fan_in                  LeCun et al., "Efficient BackProp", 1998, section 4.6
============  =====  ======================  ==================================================================

``*_uniform`` draws from [-a, a] with a = sqrt(3 variance); ``*_normal`` cuts a normal distribution at two standard
deviations, as Keras does, and widens it so that the variance is right after the cut.

``HeNormal()``, ``he_normal()``, "he_normal" and "HeNormal" are one.  All that draw take a ``seed``: with None they take
the numbers of the model's generator, which go on from parameter to parameter; with a whole number in [0, 2^64) those of
a generator of their own, ``np.random.default_rng(seed)``, begun anew for every parameter: two of the same shape are
equal then, as in Keras.
"""

import inspect
import math

import numpy as np

from minicnn import _check, configured
from minicnn.settings import Fixed

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "get",
]

_STD_OF_CUT_NORMAL = 0.87962566103423978  # of a standard normal variable, given that it lies within [-2, 2]


def fans(shape):
    """(fan_in, fan_out) of a parameter: its last two axes are inputs and outputs, all others the kernel's extent."""
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    extent = math.prod(shape[:-2])
    return shape[-2] * extent, shape[-1] * extent


class Initializer(configured.Configured):
    """The base class.  A custom one is a function ``(shape, rng) -> array``, or a subclass with such a ``__call__``.

    ``rng`` is a ``numpy.random.Generator``.  A model that has a custom one cannot be saved.
    """

    def __call__(self, shape, rng=None):
        """An array of that shape, in float64."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__(shape, rng)")


class Constant(Initializer):
    """``value``, a number, everywhere."""

    value = Fixed(_check.number)

    def __init__(self, value=0.0):
        self.value = value

    def __call__(self, shape, rng=None):
        return np.full(shape, self.value)


class Zeros(Initializer):
    """0 everywhere."""

    def __call__(self, shape, rng=None):
        return np.zeros(shape)


class Ones(Initializer):
    """1 everywhere."""

    def __call__(self, shape, rng=None):
        return np.ones(shape)


class Identity(Initializer):
    """The unit matrix times ``gain``, a number.  ValueError unless there are two axes."""

    gain = Fixed(_check.number)

    def __init__(self, gain=1.0):
        self.gain = gain

    def __call__(self, shape, rng=None):
        if len(shape) != 2:
            raise ValueError(_check.message("Identity", "a parameter must have two axes", tuple(shape)))
        return self.gain * np.eye(*shape)


class _Random(Initializer):
    """Those that draw; subclasses have ``_draw(shape, rng)``."""

    seed = Fixed(_check.integer, 0, 2**64 - 1, optional=True)

    def __call__(self, shape, rng=None):
        if self.seed is not None:
            rng = np.random.default_rng(self.seed)
        if not isinstance(rng, np.random.Generator):
            required = "without a seed it needs a numpy.random.Generator: initializer(shape, rng)"
            raise TypeError(_check.message(type(self).__name__, required, _check.kind(rng)))
        return self._draw(shape, rng)


class RandomNormal(_Random):
    """A normal distribution with that ``mean`` and that standard deviation ``stddev`` >= 0."""

    mean = Fixed(_check.number)
    stddev = Fixed(_check.number, 0)

    def __init__(self, mean=0.0, stddev=0.05, seed=None):
        self.mean = mean
        self.stddev = stddev
        self.seed = seed

    def _draw(self, shape, rng):
        return self.mean + self.stddev * rng.standard_normal(shape)


class TruncatedNormal(RandomNormal):
    """The same, with another draw for every value that is more than two ``stddev`` from ``mean``.

    Its standard deviation is thus 0.88 ``stddev``, as in Keras.
    """

    def _draw(self, shape, rng):
        return self.mean + self.stddev * _cut_normal(shape, rng)


class RandomUniform(_Random):
    """A uniform distribution from ``minval`` to ``maxval``, which must not be less."""

    minval = Fixed(_check.number)
    maxval = Fixed(_check.number)

    def __init__(self, minval=-0.05, maxval=0.05, seed=None):
        self.minval = minval
        self.maxval = maxval
        self.seed = seed
        if not 0 <= self.maxval - self.minval < math.inf:
            got = _check.Shown(f"minval={minval!r}, maxval={maxval!r}")
            required = "maxval must not be less than minval, and their difference a number"
            raise ValueError(_check.message("RandomUniform", required, got))

    def _draw(self, shape, rng):
        return rng.uniform(self.minval, self.maxval, shape)


def _distribution(where, name, value):
    known = "truncated_normal", "untruncated_normal", "uniform"
    return _check.choice(where, name, "truncated_normal" if value == "normal" else value, known)


class VarianceScaling(_Random):
    """A distribution with mean 0 and variance ``scale`` / fan.

    ``scale`` > 0; ``mode``: "fan_in", "fan_out" or "fan_avg", the mean of both (see the head of this file);
    ``distribution``: "truncated_normal" (also called "normal"), "untruncated_normal" or "uniform".
    """

    scale = Fixed(_check.number, 0, open_low=True)
    mode = Fixed(_check.choice, ("fan_in", "fan_out", "fan_avg"))
    distribution = Fixed(_distribution)

    def __init__(self, scale=1.0, mode="fan_in", distribution="truncated_normal", seed=None):
        self.scale = scale
        self.mode = mode
        self.distribution = distribution
        self.seed = seed

    def _draw(self, shape, rng):
        fan_in, fan_out = fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        std = math.sqrt(self.scale / max(1.0, fan))
        if self.distribution == "uniform":
            return rng.uniform(-math.sqrt(3) * std, math.sqrt(3) * std, shape)
        if self.distribution == "untruncated_normal":
            return rng.standard_normal(shape) * std
        return _cut_normal(shape, rng) * (std / _STD_OF_CUT_NORMAL)


class GlorotUniform(VarianceScaling):
    """ "glorot_uniform": see the head of this file."""

    def __init__(self, seed=None):
        super().__init__(1.0, "fan_avg", "uniform", seed)


class GlorotNormal(VarianceScaling):
    """ "glorot_normal": see the head of this file."""

    def __init__(self, seed=None):
        super().__init__(1.0, "fan_avg", "truncated_normal", seed)


class HeUniform(VarianceScaling):
    """ "he_uniform": see the head of this file."""

    def __init__(self, seed=None):
        super().__init__(2.0, "fan_in", "uniform", seed)


class HeNormal(VarianceScaling):
    """ "he_normal": see the head of this file."""

    def __init__(self, seed=None):
        super().__init__(2.0, "fan_in", "truncated_normal", seed)


class LecunUniform(VarianceScaling):
    """ "lecun_uniform": see the head of this file."""

    def __init__(self, seed=None):
        super().__init__(1.0, "fan_in", "uniform", seed)


class LecunNormal(VarianceScaling):
    """ "lecun_normal": see the head of this file."""

    def __init__(self, seed=None):
        super().__init__(1.0, "fan_in", "truncated_normal", seed)


class Orthogonal(_Random):
    """A random matrix Q with Q^T Q = 1, or Q Q^T = 1 where it is wider than high, times ``gain``, a number.

    All axes but the last count as rows: a kernel of (KH, KW, C, F) is a matrix (KH KW C, F), as in Keras.  Q is the
    orthogonal factor, the other one having a positive diagonal, of a matrix of normal numbers, so that all such Q are
    equally likely.  ValueError unless there are two axes or more.

    Source: Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear networks", ICLR 2014; the
    signs: Mezzadri, "How to generate random matrices from the classical compact groups", 2007.
    """

    gain = Fixed(_check.number)

    def __init__(self, gain=1.0, seed=None):
        self.gain = gain
        self.seed = seed

    def _draw(self, shape, rng):
        if len(shape) < 2:
            raise ValueError(_check.message("Orthogonal", "a parameter must have two axes or more", tuple(shape)))
        rows, columns = math.prod(shape[:-1]), shape[-1]
        a = rng.standard_normal((max(rows, columns), min(rows, columns)))
        q = _orthonormal(np.ascontiguousarray(a.T))
        return self.gain * (q.T if rows >= columns else q).reshape(shape)


def _orthonormal(q):
    """The rows of q, each made orthogonal to those before it and of length 1.

    By the method of Gram and Schmidt, twice, which is enough (Giraud et al., 2005), and without BLAS, whose bits differ
    from machine to machine.
    """
    for k, row in enumerate(q):
        for _ in range(2):
            row -= np.einsum("ij,i->j", q[:k], np.einsum("ij,j->i", q[:k], row))
        row /= math.sqrt(np.einsum("j,j->", row, row))
    return q


def _cut_normal(shape, rng):
    values = rng.standard_normal(shape)
    outside = np.abs(values) > 2
    while outside.any():
        values[outside] = rng.standard_normal(int(outside.sum()))
        outside = np.abs(values) > 2
    return values


# ---- by name, and from files ----

zeros, ones, constant, identity, orthogonal = Zeros, Ones, Constant, Identity, Orthogonal
glorot_uniform, glorot_normal, he_uniform, he_normal = GlorotUniform, GlorotNormal, HeUniform, HeNormal
lecun_uniform, lecun_normal, variance_scaling = LecunUniform, LecunNormal, VarianceScaling
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal

_NAMES = {
    "zeros": Zeros,
    "ones": Ones,
    "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal,
    "he_uniform": HeUniform,
    "he_normal": HeNormal,
    "lecun_uniform": LecunUniform,
    "lecun_normal": LecunNormal,
    "random_normal": RandomNormal,
    "random_uniform": RandomUniform,
    "truncated_normal": TruncatedNormal,
    "variance_scaling": VarianceScaling,
    "orthogonal": Orthogonal,
    "identity": Identity,
    "constant": Constant,
}
NAMES = tuple(_NAMES)
_CLASSES = {cls.__name__: cls for cls in _NAMES.values()}
_ALL_NAMES = {**_NAMES, **_CLASSES, "zero": Zeros, "one": Ones, "normal": RandomNormal, "uniform": RandomUniform}


def get(where, value):
    """The initialiser for a name, for what ``to_config`` gave, or ``value`` itself if it is an initialiser already.

    ValueError for an unknown name, TypeError for anything else, beginning with ``where``.
    """
    if isinstance(value, dict):
        return configured.from_config(f"{where}: an initializer", value, _CLASSES)
    if isinstance(value, type):
        got = _check.Shown(f"the class {value.__name__}")
        raise TypeError(_check.message(where, _REQUIRED, got, f"Did you mean {value.__name__}()?"))
    if callable(value):
        return _function(where, value)
    if not isinstance(value, str) or value not in _ALL_NAMES:
        _check.choice(where, "an initializer", value, NAMES)
    return _ALL_NAMES[value]()


_REQUIRED = "an initializer must be a name, an Initializer or a function (shape, rng) -> array"


def _function(where, function):
    """``function``, unless its arguments are those that Keras calls with: it would take the generator for a dtype."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # some compiled ones have none
        names = []
    if names[1:2] == ["dtype"]:
        raise TypeError(_check.message(where, _REQUIRED, _check.Shown(f"one with the arguments {', '.join(names)}")))
    return function


def check(where, name, value):
    """The check of a setting: a name or a function stays what it is, what a file has of an object becomes one."""
    found = get(where, value)
    return value if isinstance(value, str) else found


def to_config(value):
    """Ready for JSON if it is one of minicnn's; unchanged otherwise."""
    return configured.to_config(value) if _CLASSES.get(type(value).__name__) is type(value) else value
