"""The contract of a layer: what every layer has and does.  Knows no concrete layer.

A layer of one's own is a subclass with ``forward`` and ``backward``, and ``build`` if it has parameters or changes the
shape (``examples/own_layer.py``).  Shapes here have the batch axis N first; ``input_shape`` and ``output_shape`` are
without it.
"""

import inspect
import math
from typing import Any

import numpy as np

from minicnn import _check
from minicnn._ext import penalty
from minicnn._ext.machinery import plan
from minicnn.settings import Closed, Setting, Values, owned, refuse

MOST_ELEMENTS = 2**59  # of a parameter: its bytes can still be counted


def _values(where, name, values):
    """``params``, ``grads`` or ``state``: a dict, as one that can be guarded."""
    if not isinstance(values, dict):
        raise TypeError(_check.message(where, f"{name} must be a dictionary", _check.kind(values)))
    return values if isinstance(values, Values) else Values(values)


class _OfChain(Setting):
    """What the place in a chain decides: it stays while the layer is in a model."""

    def __set__(self, layer, value):
        now = vars(layer)[self.name]
        same = value is now or (isinstance(value, str | tuple | bool | np.dtype) and value == now)
        if layer._in_model and not same:
            refuse(layer, self.name, "stays while the layer is in a model", value, "Make a new layer and a new model")
        super().__set__(layer, value)


class Layer(Closed):
    """One step of a chain: ``forward`` maps x to y, ``backward`` maps dL/dy to dL/dx and fills ``grads``.

    Attributes, all there before ``__init__`` runs; in a model all but ``trainable`` stay what they are:

    - ``dtype``: float32 or float64, None until it is known (the model hands its own down).
    - ``params``, ``grads``: arrays by name, the same names in both.  A model moves them into its flat vectors, so
      always read ``self.params[name]`` anew.  From then on the names stay, and what is assigned to one of them is
      written into the array that is there: it must have the same shape.
    - ``state``: what a resumed run needs besides parameters: whole numbers >= 0, and arrays such as moving statistics,
      to which the same applies.
    - ``input_shape``, ``output_shape``: of one sample; None before ``build``.
    - ``stream``: (seed, layer number), the key of the layer's random numbers; the model sets it before ``build``.
    - ``trainable``: False keeps an optimiser's hands off the parameters, and their penalties out of the loss, from the
      next step on.
    - ``in_chain``: True inside a model, where only the next layer sees an output; see ``own``.

    And one that a class says, ``output_function``: what its outputs are, so that a model which ends in such a layer
    knows whether it gives logits or probabilities (``outputs.py``).

    - "softmax": probabilities of classes along the last axis; "sigmoid": probabilities of a yes each.
    - "linear", or the name of another activation: logits, whatever came in.
    - "same": what comes in, or a part or means of it, in whatever shape, as of ``Flatten`` or of a pooling: it is what
      the layer in front made it.
    - "changed": what comes in, each number changed for itself, as by ``Rescaling``: logits stay logits, and of
      probabilities it is not known what they have become.
    - None, where the class says nothing: it is not known.

    Where it is not known, whoever needs to know raises ValueError, unless the loss says ``from_logits``.
    """

    dtype = _OfChain(_check.real_dtype, optional=True)
    params = _OfChain(_values)
    grads = _OfChain(_values)
    state = _OfChain(_values)
    input_shape = _OfChain(_check.anything)
    output_shape = _OfChain(_check.anything)
    stream = _OfChain(_check.anything)
    in_chain = _OfChain(_check.boolean)
    trainable = Setting(_check.boolean)

    compiled = False  # True for a class all of whose arithmetic is done by kernels: a plan may record it (plan.py)
    input_ndim: int | None = None  # axes of one sample: 3 for images; None: any number
    output_function: Any = None

    def __init_subclass__(cls, compiled=False, **kwargs):
        """``compiled`` is not inherited; and a subclass's own ``backward`` is not bypassed by inherited short cuts."""
        super().__init_subclass__(**kwargs)
        cls.compiled = compiled
        if "backward" in vars(cls):
            for short_cut in ("backward_params", "backward_logits"):
                if short_cut not in vars(cls):
                    setattr(cls, short_cut, getattr(Layer, short_cut))

    def __new__(cls, *args, **kwargs):
        _check.keywords(cls.__name__, cls.__init__, kwargs)
        layer = super().__new__(cls)
        layer._changes, layer._kept, layer._in_model = 0, None, False
        layer._put(dtype=None, params=Values(), grads=Values(), state=Values(), input_shape=None, output_shape=None)
        layer._put(stream=(0, 0), trainable=True, in_chain=False)
        return layer

    def __setattr__(self, name, value):
        """Counts what is set from outside, so that a model knows when a plan that it recorded is out of date."""
        if name[0] == "_" and name != "__class__":  # many times in every step
            object.__setattr__(self, name, value)
            return
        super().__setattr__(name, value)
        self._changes += 1

    def __setstate__(self, state):
        vars(self).update(owned(state))
        self._in_model = False  # a copy of a layer is in none; that of a model takes its layers in itself

    def __init__(self, dtype=None):
        self.dtype = dtype

    # ---- what a layer implements ----

    def build(self, input_shape, rng):
        """Learns the shape of one input sample, makes the parameters, returns the shape of one output sample.

        ``rng`` is a ``numpy.random.Generator`` for initial values.  This default keeps the shape; layers that extend it
        start with ``input_shape = super().build(input_shape, rng)``.  ValueError if the layer cannot work on the shape.
        """
        input_shape = _check.sample_shape(type(self).__name__, input_shape)
        if self.input_ndim is not None and len(input_shape) != self.input_ndim:
            axes = "an image (height, width, channels)" if self.input_ndim == 3 else f"{self.input_ndim} axes"
            raise ValueError(_check.message(type(self).__name__, f"one sample must have {axes}", input_shape))
        if self.dtype is None:
            self.dtype = np.dtype(np.float32)
        self.input_shape = self.output_shape = input_shape
        return input_shape

    def forward(self, x, training=False):
        """y of shape (N, *output_shape) for x of shape (N, *input_shape).

        With ``training`` the layer may keep what ``backward`` needs; without, it keeps nothing and changes nothing.

        x is the caller's: do not write into it.  (A model gives a layer in Python copies of its own, as x and as the dy
        of ``backward``, so that one that does works in place there harms nobody; whoever calls it alone finds his array
        changed.)  An output of another dtype is cast; a model raises TypeError for one that is no array of numbers,
        ValueError for one of another shape.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward(x, training)")

    def __call__(self, x, training=False):
        """``forward``."""
        return self.forward(x, training=training)

    def sample(self, x, lot):
        """One Monte-Carlo sample of y: ``forward`` of evaluation, but with the noise of training where there is any.

        Keeps nothing and changes nothing.  ``lot``: what the noise is a function of (``layers/noise.py``).
        """
        return self.forward(x, training=False)

    def backward(self, dy):
        """dL/dx for dL/dy, both with the shapes of ``forward``; overwrites ``grads``.

        What is said of ``forward``'s x and output holds for dy and dL/dx, too, wherever somebody wants it: of the first
        layer with parameters ``fit`` does not, and that may return None.
        """
        raise NotImplementedError(f"{type(self).__name__} has no backward(dy)")

    # ---- what a model may ask for besides; the defaults suit most layers ----

    def backward_params(self, dy):
        """Fills ``grads`` only, for the first layer with parameters, where nobody needs dL/dx."""
        self.backward(dy)

    # For a layer that ends in softmax: ``backward_logits(dz, input_gradient)`` takes the gradient before the softmax,
    # with which a fused loss begins.  None: the model goes through ``backward``.
    backward_logits: Any = None

    def gradient(self, dy, at_logits, wanted):
        """dL/dx by the way that suits: ``at_logits`` for a gradient before the activation; None unless ``wanted``."""
        if in_python(self):
            dy = self._as_batch("backward", "dy", dy, self.output_shape).copy()
        n = len(dy)
        if at_logits:
            dx = self.backward_logits(dy, wanted)
        elif wanted:
            dx = self.backward(dy)
        else:
            dx = self.backward_params(dy)
        return _returned(self, "backward", dx, (n, *self.input_shape)) if wanted else None

    def multiply_adds(self):
        """Multiplications with addition that one sample costs in ``forward``; 0 where they do not matter."""
        return 0

    def smallest_batch(self):
        """The least number of samples that a training forward works on, once built: ``fit`` asks before it begins."""
        return 1

    def get_config(self):
        """The constructor's arguments, ready for JSON: ``type(layer)(**layer.get_config())`` is the same layer anew."""
        config = {}
        for name in inspect.signature(type(self).__init__).parameters:
            if name != "self" and hasattr(self, name):
                value = getattr(self, name)
                config[name] = value.name if isinstance(value, np.dtype) else value
        return config

    # ---- help for subclasses ----

    def add_param(self, name, shape, initializer, rng):
        """Makes ``params[name]`` with values from ``initializer(shape, rng)`` and ``grads[name]`` with zeros.

        When a model is read from a file, ``rng`` is one that hands out the stored arrays: asked here, before anything
        is allocated, it refuses shapes that the file does not hold (saving.py).
        """
        if hasattr(rng, "stored_array"):
            values = rng.stored_array(f"{self.stream[1]}.{name}", shape, self.dtype)
        elif math.prod(shape) > MOST_ELEMENTS:
            required = f"{name} must have at most 2^59 elements"
            raise ValueError(_check.message(type(self).__name__, required, _check.Shown(f"shape {tuple(shape)}")))
        else:
            values = initializer(shape, rng)
        if np.shape(values) != tuple(shape):
            where, got = type(self).__name__, _check.Shown(f"shape {np.shape(values)}")
            raise ValueError(_check.message(where, f"the initializer of {name} must return shape {tuple(shape)}", got))
        self.params[name] = _check.contiguous(values, self.dtype)
        self.grads[name] = np.zeros(shape, self.dtype)

    def check_input(self, x):
        """x as a C-contiguous array (N, *input_shape) of the layer's dtype; RuntimeError before ``build``."""
        if self.input_shape is None:
            raise RuntimeError(f"{type(self).__name__}: call build(input_shape, rng) before forward")
        return self._as_batch("forward", "x", x, self.input_shape)

    def check_gradient(self, dy):
        """dy as a C-contiguous array (N, *output_shape), and what ``keep`` kept, as (dy, kept).

        RuntimeError unless a training forward came before, with ValueError if it had another N.
        """
        kept, name = self._kept, type(self).__name__
        if kept is None:
            raise RuntimeError(f"{name}.backward: needs forward(x, training=True) before it, once for every backward")
        n, kept = kept
        dy = self._as_batch("backward", "dy", dy, self.output_shape)
        if len(dy) != n:
            raise ValueError(_check.message(f"{name}.backward", f"dy must have the {n} samples of forward", len(dy)))
        self._kept = None
        return dy, kept

    def keep(self, n, *kept):
        """Stores what ``backward`` needs of a training forward over n samples."""
        self._kept = n, kept

    def own(self, array):
        """``array`` where it is safe to keep or pass on, a copy where a caller holds it too and may write into it."""
        return array if self.in_chain or plan.is_recording() else array.copy()

    def _as_batch(self, method, argument, value, shape):
        where = f"{type(self).__name__}.{method}"
        array = _check.numeric_array(where, argument, value)
        if array.shape[1:] != shape or array.ndim != len(shape) + 1:
            wanted = ", ".join(["N", *map(str, shape)])
            raise ValueError(_check.message(where, f"{argument} must have shape ({wanted})", _check.shape_of(array)))
        return _check.contiguous(array, self.dtype)

    def __repr__(self):
        shown = []
        for place, (name, parameter) in enumerate([*inspect.signature(type(self).__init__).parameters.items()][1:]):
            value = getattr(self, name, parameter.default)
            as_given = value in (parameter.default, (parameter.default,) * 2)  # strides=1 are kept as (1, 1)
            if name != "dtype" and not as_given:
                shown.append(f"{value!r}" if place == 0 else f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


# ---- how a model calls its layers ----


def in_python(layer):
    """True for a layer that has to run as Python: whatever it does, it does outside of plans."""
    return not layer.compiled or bool(vars(layer).keys() & {"forward", "backward"})


def output_of(layer, x, training=False, lot=None):
    """``layer.forward(x, training)``, or with a lot ``layer.sample(x, lot)``, held to the contract of a layer."""
    if in_python(layer):
        x = layer._as_batch("forward", "x", x, layer.input_shape).copy()
    n = len(x)
    y = layer.forward(x, training=training) if lot is None else layer.sample(x, lot)
    return _returned(layer, "forward", y, (n, *layer.output_shape))


def _returned(layer, method, array, shape):
    """What a layer in Python returned, as an array of the layer's dtype; compiled ones are taken at their word.

    Unchecked, None would end a backward pass in silence, and one row be repeated to fill a batch.
    """
    if not in_python(layer):
        return array
    where, place = f"{type(layer).__name__}.{method}", f"It is layer {layer.stream[1]} of the model"
    if not isinstance(array, np.ndarray):
        name = "y" if method == "forward" else "dx"
        fix = f"{place}; is `return {name}` missing?" if array is None else place
        required = f"{method} must return {name}, an array of shape {shape}"
        got = _check.Shown("None" if array is None else f"a {type(array).__name__}")
        raise TypeError(_check.message(where, required, got, fix))
    _check.numeric_array(where, f"what {method} of layer {layer.stream[1]} of the model returns", array)
    if array.shape != shape:
        name = "the shape that build declared" if method == "forward" else "the shape of forward's x"
        raise ValueError(_check.message(where, f"{method} must return {name}, {shape}", _check.shape_of(array), place))
    return _check.contiguous(array, layer.dtype)


# ---- what a compiled layer uses in forward and backward, so that a plan can record them ----


def empty(shape, dtype):
    """A new array for a result, its values undefined; of the plan's, while one is being recorded."""
    array = np.empty(shape, dtype)
    plan.own(array)
    return array


def each_time(function, *arguments):
    """Calls the function now; while a plan is being recorded, at the beginning of each of its runs instead.

    For what is no arithmetic on arrays: counting steps, drawing lots.
    """
    if not plan.called_each_time(function, arguments):
        function(*arguments)


# ---- what outputs add to the loss (regularizers.py) ----

# ``with collect_penalties() as found``: a list of what this thread's forwards give to ``penalize`` within the block.
# Several threads may evaluate at once, so a layer cannot keep it.
collect_penalties = plan.Collector


def penalize(samples):
    """Tells whoever runs this forward what each sample adds to the loss: float64, (N,)."""
    plan.collect(samples)


def mean_penalty(found, n):
    """What was collected of a forward over n samples, as it counts in the loss: the mean over the samples."""
    return sum(map(penalty.total, found)) / n if found and n else 0.0
