"""Initial values of parameters: a function ``(shape, rng) -> array`` for every name that Keras has.

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
"""

import math

import numpy as np

from minicnn import _check

_SCHEMES = {
    "glorot": (1.0, lambda fan_in, fan_out: (fan_in + fan_out) / 2),
    "he": (2.0, lambda fan_in, fan_out: fan_in),
    "lecun": (1.0, lambda fan_in, fan_out: fan_in),
}
_STD_OF_CUT_NORMAL = 0.87962566103423978  # of a standard normal variable, given that it lies within [-2, 2]

NAMES = ("zeros", "ones", *(f"{scheme}_{shape}" for scheme in _SCHEMES for shape in ("uniform", "normal")))


def fans(shape):
    """(fan_in, fan_out) of a parameter: its last two axes are inputs and outputs, all others the kernel's extent."""
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    extent = math.prod(shape[:-2])
    return shape[-2] * extent, shape[-1] * extent


def get(where, name):
    """The initialiser of that name (or ``name`` itself if it is a function ``(shape, rng) -> array``)."""
    if callable(name):
        return name
    name = _check.choice(where, "an initializer", name, NAMES)
    if name in ("zeros", "ones"):
        fill = np.zeros if name == "zeros" else np.ones
        return lambda shape, rng: fill(shape)
    scheme, distribution = name.split("_")
    scale, fan = _SCHEMES[scheme]

    def draw(shape, rng):
        std = math.sqrt(scale / max(1.0, fan(*fans(shape))))
        if distribution == "uniform":
            return rng.uniform(-math.sqrt(3) * std, math.sqrt(3) * std, shape)
        return _cut_normal(shape, rng) * (std / _STD_OF_CUT_NORMAL)

    return draw


def check(where, name, value):
    """The check of a setting: ``value``, if ``get`` takes it."""
    get(where, value)
    return value


def _cut_normal(shape, rng):
    values = rng.standard_normal(shape)
    outside = np.abs(values) > 2
    while outside.any():
        values[outside] = rng.standard_normal(int(outside.sum()))
        outside = np.abs(values) > 2
    return values
