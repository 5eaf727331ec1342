"""Regularisers: what large weights, or large outputs, add to the loss.  Names and defaults are Keras's.

==========================  ===============================  ==========================  =============================
class, name                 penalty of an array w            its gradient                source
==========================  ===============================  ==========================  =============================
``L1(l1)``, "l1"            l1 sum |w|                       l1 sign(w), 0 where w = 0   Tibshirani, 1996 (lasso)
``L2(l2)``, "l2"            l2 sum w^2                       2 l2 w                      Hoerl and Kennard, 1970 (ridge)
``L1L2(l1, l2)``, "l1_l2"   l1 sum |w| + l2 sum w^2          l1 sign(w) + 2 l2 w         Zou and Hastie, 2005
==========================  ===============================  ==========================  =============================

The loss of a model is the loss of its data plus the penalties of its parameters plus those of its outputs, in ``fit``,
``train_on_batch``, ``evaluate`` (so in val_loss) and ``Sequential.loss`` alike.  ``kernel_regularizer`` and
``bias_regularizer`` of a layer look at a parameter; ``activity_regularizer`` looks at the layer's output, and counts
with the mean over the samples of the batch of the penalty of one sample's output.  Weights of samples scale no penalty.

A custom layer has its parameter "slope" regularised by an attribute ``slope_regularizer``, and constrained by
``slope_constraint`` (constraints.py).  One that is assigned to a layer of a model counts from the next step on; those
of layers that are not trainable do not count.
"""

import math

import numpy as np

from minicnn import _check, configured
from minicnn._ext import penalty as kernels
from minicnn.settings import Fixed

__all__ = ["L1", "L1L2", "L2", "Regularizer", "get"]


class Regularizer(configured.Configured):
    """The base class.  A custom regulariser, of parameters, is a subclass with ``__call__(w)`` and ``gradient(w)``.

    Both get a copy of a parameter, of any shape; the gradient has that shape.  A model that has one cannot be saved.
    """

    def __call__(self, w):
        """The penalty of the array w, a number."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__(w)")

    def gradient(self, w):
        """The penalty's gradient, an array of the shape of w."""
        raise NotImplementedError(f"{type(self).__name__} has no gradient(w)")


class L1L2(Regularizer):
    """l1 sum |w| + l2 sum w^2, gradient l1 sign(w) + 2 l2 w: the "elastic net" of Zou and Hastie, 2005.

    ``l1``, ``l2``: numbers >= 0; by default both are 0, as in Keras, so that the name "l1_l2" alone does nothing.
    """

    l1 = Fixed(_check.number, 0)
    l2 = Fixed(_check.number, 0)

    def __init__(self, l1=0.0, l2=0.0):
        self.l1 = l1
        self.l2 = l2

    def __call__(self, w):
        w = np.asarray(w, np.float64)
        return float(self.l1 * np.abs(w).sum() + self.l2 * np.square(w).sum())

    def gradient(self, w):
        return self.l1 * np.sign(w) + 2 * self.l2 * np.asarray(w)


class L1(L1L2):
    """l1 sum |w|, gradient l1 sign(w), which is 0 where w = 0; ``l1`` >= 0.  Drives small weights to exactly 0, or
    rather to and fro around it by steps of rate * l1."""

    def __init__(self, l1=0.01):
        super().__init__(l1, 0.0)


class L2(L1L2):
    """l2 sum w^2, gradient 2 l2 w; ``l2`` >= 0.  With plain SGD it is ``weight_decay`` = 2 l2; with momentum, and all
    the more with Adam, the two differ: a penalty's gradient goes through the moments, decay does not."""

    def __init__(self, l2=0.01):
        super().__init__(0.0, l2)


l1, l2, l1_l2 = L1, L2, L1L2  # Keras's other names of the classes

_NAMES = {"l1": L1, "l2": L2, "l1_l2": L1L2}


def get(where, argument, value):
    """The Regularizer for a name, a Regularizer, or what it is in a file; None for None.

    ``where`` and ``argument`` begin the errors: ValueError for an unknown name, TypeError for anything else.
    """
    return configured.get(where, argument, value, Regularizer, _NAMES)


def get_native(where, argument, value):
    """``get`` where nothing but L1, L2 and L1L2 will do: outputs are penalised in the middle of compiled code."""
    found = get(where, argument, value)
    if found is not None and not _is_native(found):
        raise TypeError(_check.message(where, f"{argument} must be L1, L2, L1L2 or None", _check.kind(found)))
    return found


def to_config(value):
    """Ready for JSON if it is one of minicnn's; unchanged otherwise."""
    return configured.to_config(value) if _is_native(value) else value


def _is_native(regularizer):
    return type(regularizer) in _NAMES.values()


class Penalties:
    """The penalties of a model's parameters: their value, and their gradient where the gradients of the data are.

    Both are one native pass over the flat vectors, whose bits do not depend on the number of threads; then come
    custom regularisers, in the order of the parameters.
    """

    def __init__(self, parameters, gradients, regularized):
        """``regularized``: (name, regularizer, offset, shape) for every parameter that has one."""
        self._vectors, self._custom, pieces, rates = (parameters, gradients), [], [], []
        for name, regularizer, offset, shape in regularized:
            end = offset + math.prod(shape)
            if not _is_native(regularizer):
                self._custom.append((name, regularizer, *(v[offset:end].reshape(shape) for v in self._vectors)))
                continue
            for start in range(offset, end, kernels.BLOCK):
                pieces.append((start, min(kernels.BLOCK, end - start)))
                rates.append((regularizer.l1, regularizer.l2))
        self._pieces = np.array(pieces, np.int64).reshape(-1, 2)
        self._rates = np.array(rates, np.float64).reshape(-1, 2)

    def __bool__(self):
        return len(self._pieces) > 0 or len(self._custom) > 0

    def value(self):
        """The sum of all, for the parameters as they are now."""
        total = kernels.value(self._vectors[0], self._pieces, self._rates)
        for name, regularizer, w, _ in self._custom:
            found, required = regularizer(w.copy()), f"the penalty of {name!r} must be one number"
            if np.ndim(found) != 0 or np.asarray(found).dtype.kind not in "iuf":
                raise TypeError(_check.message(type(regularizer).__name__, required, _check.kind(found)))
            total += float(found)
        return total

    def add_gradients(self):
        """Adds the gradients of all to the gradients of the data."""
        kernels.add_gradients(*self._vectors, self._pieces, self._rates)
        for name, regularizer, w, gradient in self._custom:
            where = f"{type(regularizer).__name__}.gradient"
            found = _check.numeric_array(where, f"the gradient of {name!r}", regularizer.gradient(w.copy()))
            if found.shape != w.shape:
                required = f"the gradient of {name!r} must have shape {w.shape}"
                raise ValueError(_check.message(where, required, _check.shape_of(found)))
            gradient += found.astype(gradient.dtype, copy=False)
