"""Constraints: what a parameter must be like after every update.  Names are Keras's.

The optimiser applies them in the native call that updates the parameters, so that no parameter is ever seen updated and
not yet constrained.  As in Keras they hold from the first update on, not for initial values or weights that are set.
||w|| is the norm over ``axis``: None, the default, takes all axes but the last, so that it is the norm of the incoming
weights of one unit (of one filter of Conv2D); a whole number or several take those axes, as in Keras, whose default is
0.  A parameter with one axis, a bias, has one weight for each unit: there ||w|| is |w|, unless ``axis`` is 0.
"""

import math
from typing import Any

import numpy as np

from minicnn import _check, configured
from minicnn._ext import optim as kernels
from minicnn.settings import Fixed

__all__ = ["Constraint", "MaxNorm", "NonNeg", "UnitNorm", "get"]

_EPSILON = 1e-7  # Keras's: what UnitNorm adds to a norm


class Constraint(configured.Configured):
    """What every constraint has: ``constraint(w)`` is a constrained copy of the array w, as an update would leave it.

    Custom constraints are not possible: they would have to run inside the optimiser's native call.
    """

    _kind, _limit = -1, 0.0
    axis: Any = None

    def __call__(self, w):
        w = np.array(_check.numeric_array(type(self).__name__, "w", w), order="C")
        w = w if w.dtype in (np.float32, np.float64) else w.astype(np.float64)
        kernels.constrain(w.reshape(-1), *rules([(type(self).__name__, self, 0, w.shape)]))
        return w


def _axis(where, name, axis):
    if isinstance(axis, list | tuple):
        return tuple(_check.integer(where, name, one) for one in axis)
    return None if axis is None else _check.integer(where, name, axis)


class _OfNorm(Constraint):
    """A constraint of the norms over ``axis``."""

    axis = Fixed(_axis)


class MaxNorm(_OfNorm):
    """w = w min(1, max_value / ||w||): weights whose norm is not too large stay as they are, to the bit.

    ``max_value`` >= 0, 3 to 4 being usual beside dropout; ``axis``: see the head of constraints.py.  Source: Srivastava
    et al., "Dropout", JMLR 2014, section 5.1.
    """

    _kind = kernels.MAX_NORM

    max_value = Fixed(_check.number, 0)

    def __init__(self, max_value=2, axis=None):
        self.max_value = max_value
        self.axis = axis
        self._limit = self.max_value


class NonNeg(Constraint):
    """w = max(w, 0); a NaN stays a NaN."""

    _kind, axis = kernels.NON_NEG, ()  # a norm over no axis: every weight is by itself


class UnitNorm(_OfNorm):
    """w = w / (||w|| + 1e-7); ``axis``: see the head of constraints.py."""

    _kind, _limit = kernels.UNIT_NORM, _EPSILON

    def __init__(self, axis=None):
        self.axis = axis


max_norm, non_neg, unit_norm = MaxNorm, NonNeg, UnitNorm  # Keras's other names of the classes

_NAMES = {"max_norm": MaxNorm, "non_neg": NonNeg, "unit_norm": UnitNorm}


def get(where, argument, value):
    """The Constraint for a name, a Constraint, or what it is in a file; None for None.

    ``where`` and ``argument`` begin the errors: ValueError for an unknown name, TypeError for anything else.
    """
    found = configured.get(where, argument, value, Constraint, _NAMES)
    if found is not None and type(found) not in _NAMES.values():
        required = f"{argument} must be MaxNorm, NonNeg, UnitNorm or None"
        fix = "A custom one cannot run in the optimiser's native call; call it after optimizer.step() in a loop"
        raise TypeError(_check.message(where, required, _check.kind(found), fix))
    return found


def check(where, constraint, shape):
    """ValueError, with ``where``, if the constraint cannot be one of a parameter of that shape."""
    if constraint is not None:
        rules([(where, constraint, 0, shape)])


def to_config(value):
    """Ready for JSON if it is a Constraint; unchanged otherwise."""
    return configured.to_config(value) if isinstance(value, Constraint) else value


def rules(constrained, length=None):
    """What the kernel needs: rows (kind, offset, five lengths) and a limit for each, or (None, None) for no rows.

    ``constrained``: (where, constraint, offset, shape) for every parameter that has one.  The shape is taken as five
    axes, of which the second and the fourth are those of the norm; ValueError, with ``where``, for an axis that the
    shape does not have.  ``length``: of the vector, if it is known; ValueError for what does not lie within it.
    """
    for where, _, offset, shape in constrained if length is not None else ():
        if not 0 <= offset <= offset + math.prod(shape) <= length or min(shape, default=0) < 0:
            required = f"{where!r} must lie within the {length} parameters"
            raise ValueError(_check.message("constraints", required, (offset, tuple(shape))))
    rows = [
        (constraint._kind, offset, *_five_axes(shape, _axes_of_norm(where, constraint, len(shape))))
        for where, constraint, offset, shape in constrained
    ]
    if not rows:
        return None, None
    return np.array(rows, np.int64), np.array([constraint._limit for _, constraint, *_ in constrained])


def _axes_of_norm(where, constraint, ndim):
    axis = constraint.axis
    if axis is None:
        return set(range(ndim - 1))
    axes = axis if isinstance(axis, tuple) else (axis,)
    if any(not -ndim <= one < ndim for one in axes) or len({one % ndim for one in axes}) != len(axes):
        required = f"axis of {type(constraint).__name__} must name axes of a parameter that has {ndim}, each once"
        raise ValueError(_check.message(where, required, axis))
    return {one % ndim for one in axes}


def _five_axes(shape, of_norm):
    """Neighbours of one sort merged, from the last on: [outside the norm, in it, outside, in it, outside]."""
    lengths, place = [1] * 5, 4
    for axis in reversed(range(len(shape))):
        place -= (axis in of_norm) != place % 2
        if place < 0:
            required = "axis must split a shape into at most five groups of axes"
            raise ValueError(_check.message("constraints", required, tuple(shape)))
        lengths[place] *= shape[axis]
    return lengths
