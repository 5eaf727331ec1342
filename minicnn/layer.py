"""The contract of a layer: what every layer has and does, and how a model handles its layers.

A custom layer is a subclass with ``forward`` and ``backward``, and ``build`` if it has parameters or changes the shape
(``examples/own_layer.py``).  It may hold other layers, in attributes, lists, tuples and dictionaries: they are its
``parts``.  Shapes here have the batch axis N first; ``input_shape`` and ``output_shape`` are without it.

Knows no concrete layer.
"""

import contextlib
import functools
import inspect
import itertools
import math
import re
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn import _check, keras_words
from minicnn._ext.machinery import plan
from minicnn.settings import Closed, Setting, Values, is_ours, owned, refuse
from minicnn.tree import held_in, holders, named_values, walk

NOT_FUNCTIONAL = (  # what is required, and what to do
    "layers and models are called with arrays, not with an Input or another layer",
    "Make a chain of them, Sequential([...]); it branches by layers.Residual and layers.Concurrent",
)
MOST_ELEMENTS = 2**59  # of a parameter: its bytes can still be counted


def _values(where, name, values):
    """``params``, ``grads`` or ``state``: a dict, as one that can be guarded."""
    if not isinstance(values, dict):
        raise TypeError(_check.message(where, f"{name} must be a dictionary", _check.kind(values)))
    return values if isinstance(values, Values) else Values(values)


class _OfChain(Setting):
    """What stays while the layer is in a model."""

    def __set__(self, layer, value):
        now = vars(layer)[self.name]
        same = value is now or (isinstance(value, str | tuple | bool | np.dtype) and value == now)
        if layer._in_model and not same:
            refuse(layer, self.name, "stays while the layer is in a model", value, "Make a new layer and a new model")
        super().__set__(layer, value)


class _Label(_OfChain):
    """A layer's name: a word that its user gave it, or else its class's name in Keras's spelling, with a number behind
    it from the second one of a model on (``take_names``)."""

    def __init__(self):
        super().__init__(_label, optional=True)

    def __get__(self, layer, owner):
        return self if layer is None else vars(layer)["name"] or layer._default_name or _in_snake_case(owner.__name__)


def _label(where, name, label):
    required = f"{name} must be a word that no path begins with, such as 'conv1'"
    if not isinstance(label, str):
        raise TypeError(_check.message(where, required, _check.kind(label)))
    if not label.isprintable() or not label.strip() or label.partition(".")[0].isdecimal():
        raise ValueError(_check.message(where, required, label))
    return label


def _in_snake_case(name):
    """The name of a class as Keras spells a layer's: "MaxPooling2D" is "max_pooling2d"."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


# ---- making ----

# What every layer's constructor takes besides the arguments that its class declares.
WORDS = ("name", "input_shape", "input_dim")


def _taking_words(init):
    """An ``__init__`` that takes WORDS, too, except for those that it declares itself."""

    @functools.wraps(init)
    def make(self, *arguments, **named):  # of a class in a script it is sent to other processes: all in _run_init
        _run_init(init, self, arguments, named)

    return make


def _run_init(init, layer, arguments, named):
    words = {}
    if not named.keys().isdisjoint(WORDS):
        declared = inspect.signature(init).parameters.values()
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in declared):
            own = {parameter.name for parameter in declared}
            words = {word: named.pop(word) for word in WORDS if word in named and word not in own}
    init(layer, *arguments, **named)
    if words.get("name") is not None:
        layer.name = words["name"]
    shapes = [word for word in WORDS[1:] if words.get(word) is not None]
    if len(shapes) == 2:
        required = "needs either input_shape or input_dim"
        raise ValueError(_check.message(type(layer).__name__, required, tuple(words[word] for word in shapes)))
    if shapes:
        word, shape = shapes[0], words[shapes[0]]
        shape = _check.integer(type(layer).__name__, word, shape, 1) if word == "input_dim" else shape
        layer._declared_shape = _check.sample_shape(type(layer).__name__, shape)


def is_named(layer):
    """True for a layer that was given its name."""
    return vars(layer)["name"] is not None


def declared_shape(layer):
    """What ``input_shape=`` said where the layer was made: the shape of a sample; None where it said nothing."""
    return layer._declared_shape


# ---- building ----

# A layer may make layers in its ``build``, when the model has already told all others where they stand.  So the model
# tells those that are there (take_places); each build notes itself and hands its dtype to those that it builds
# (_finished); what was said of the late ones before, by freeze or by a file, is set (settle_late_parts); and the model
# tells all of them again.

# Of this thread.  .noted: the layers whose build has run, where somebody wants to know; .around: whose build runs now.
_builds = threading.local()


@contextlib.contextmanager
def noting_builds():
    """Within it a list grows of weak references to what ``note_build`` is told in this thread: all layers whose
    ``build`` runs, and all models."""
    before, _builds.noted = getattr(_builds, "noted", None), []
    try:
        yield _builds.noted
    finally:
        _builds.noted = before


def note_build(thing):
    """For whoever notes what is built; weakly, for what is thrown away again need not be found."""
    if getattr(_builds, "noted", None) is not None:
        _builds.noted.append(weakref.ref(thing))


def _finished(build):
    """A ``build`` after which the layer knows its shapes, also where another layer's ``build`` has called it."""

    @functools.wraps(build)
    def finish(self, *arguments, **named):  # of a class in a script it is sent to other processes: all in _run_build
        return _run_build(build, self, *arguments, **named)

    return finish


def _run_build(build, layer, *arguments, **named):
    _require_free(layer)
    around = getattr(_builds, "around", None)
    if layer.dtype is None and around is not None:
        layer.dtype = around.dtype
    _builds.around = layer
    given = arguments[0] if arguments else next((value for word, value in named.items() if word != "rng"), None)
    _require_declared_shape(layer, given)
    try:
        shape = build(layer, *arguments, **named)
    finally:
        _builds.around = around
    if isinstance(shape, tuple | list):
        if layer.input_shape is None:
            layer.input_shape = tuple(given)
        layer.output_shape = tuple(shape)
    if layer._path is None:  # alone, or made while another layer is built: who holds it says it again
        _take_places_alone(layer)
    note_build(layer)
    return shape


def _require_declared_shape(layer, shape):
    declared = layer._declared_shape
    if declared is not None and isinstance(shape, tuple | list) and tuple(shape) != declared:
        required = f"input_shape is said to be {declared} where the layer is made"
        raise ValueError(_check.message(type(layer).__name__, required, tuple(shape), "Leave it out, or make it so"))


# ---- the contract ----


class Source:
    """Where the values of new parameters come from: the layer's initialiser.  Those of a file: document.py."""

    def values(self, layer, name, shape, initializer, rng):
        """The values of ``layer``'s parameter ``name``: an array of that shape."""
        if math.prod(shape) > MOST_ELEMENTS:
            required = f"{name} must have at most 2^59 elements"
            raise ValueError(_check.message(type(layer).__name__, required, _check.Shown(f"shape {tuple(shape)}")))
        return initializer(shape, rng)


class _Trainable(Setting):
    """Whether a layer is trained; assigned to a layer that holds layers, it is handed down to all of them."""

    def __set__(self, layer, value):
        super().__set__(layer, value)
        for _, part in walk(layer.parts):
            vars(part)["trainable"] = vars(layer)["trainable"]
            count_change(part)


class Layer(Closed):
    """One step of a chain: ``forward`` maps x to y, ``backward`` maps dL/dy to dL/dx and fills ``grads``.

    Attributes, all there before ``__init__`` runs; in a model all but ``trainable`` stay what they are:

    - ``dtype``: float32 or float64, None until it is known (the model hands its own down).
    - ``params``, ``grads``: arrays by name, the same names in both.  A model moves them into its flat vectors, so
      read ``self.params[name]`` each time.  From then on the names stay, and what is assigned to one of them is
      written into the array that is there: it must have the same shape.
    - ``state``: what a resumed run needs as well as parameters: whole numbers >= 0, and arrays such as moving
      statistics, to which the same applies.
    - ``input_shape``, ``output_shape``: of one sample; None before ``build``.
    - ``stream``: (seed, layer number), the key of the layer's random numbers; the model sets it before ``build``.
    - ``trainable``: with False no optimiser changes the parameters, and their penalties are not in the loss, from the
      next step on.  It is handed down to the ``parts``; a layer in one that is not trainable is not trained, even if it
      says True itself.  See ``freeze``.
    - ``in_chain``: True inside a model, where only the next layer sees an output; see ``own``.
    - ``name``: a word for ``Sequential.get_layer`` and ``summary``.  One that nobody gave is made of the class's name,
      as Keras does: "conv2d", "conv2d_1".

    Every layer's constructor takes ``name=`` as well, and Keras's ``input_shape=`` (the shape of a sample) or
    ``input_dim=`` (its length): in the first layer of a model they do what an ``Input`` before it does, and elsewhere
    it is a ValueError at ``build`` if they are not true.

    And one that a class says, ``output_function``: what its outputs are, so that a model which ends in such a layer
    knows whether it gives logits or probabilities (``outputs.py``).

    - "softmax": probabilities of classes along the last axis; "sigmoid": probabilities of a yes each.
    - "linear", or the name of another activation: logits, for any input.
    - "same": the input, or a part or means of it, in any shape, as from ``Flatten`` or a pooling: logits or
      probabilities, as the layer before made them.
    - "changed": the input, each number changed by itself, as by ``Rescaling``: logits stay logits; what probabilities
      have become is not known.
    - None, where the class says nothing: it is not known.

    Where it is not known, code that needs to know raises ValueError, unless the loss says ``from_logits``.

    A layer that draws random numbers in training should have a method ``freeze_mask()``: after it every training
    forward draws the same numbers.  ``testing.gradcheck`` calls it, since differences of random functions are random.
    """

    dtype = _OfChain(_check.real_dtype, optional=True)
    params = _OfChain(_values)
    grads = _OfChain(_values)
    state = _OfChain(_values)
    input_shape = _OfChain(_check.anything)
    output_shape = _OfChain(_check.anything)
    stream = _OfChain(_check.anything)
    in_chain = _OfChain(_check.boolean)
    trainable = _Trainable(_check.boolean)
    name = _Label()

    _source = Source()
    _path: str | None = None  # where it stands in a model; see path_of
    _default_name: str | None = None  # among the layers of a model; see take_names
    _declared_shape: tuple | None = None  # by input_shape=
    _in_model = False  # one that is built: from then on the place stays, and the arrays
    _tally: list | None = None  # of the model's layers: see adopt
    _is_frozen = False  # by freeze
    _stored_parts: dict | None = None  # what a file says of layers that are made later in this one

    trains_state = True  # False for a class whose training forwards leave ``state`` as it is: none is put back
    compiled = False  # True for a class all of whose arithmetic is done by kernels: a plan may record it (plan.py)
    composite = False  # True for a compiled class that holds layers: whether a plan may record it is up to them, too
    input_ndim: int | None = None  # axes of one sample: 3 for images; None: any number
    output_function: Any = None
    former_arguments: dict[str, str] = {}  # {word in older files: the argument's name of today}

    def __init_subclass__(cls, compiled=False, **kwargs):
        """``compiled`` is not inherited; a subclass's own ``backward`` is not bypassed by inherited short cuts, nor its
        ``forward`` by an inherited ``sample``; every
        constructor takes ``WORDS``; what a ``build`` returns is kept.  TypeError for a ``call`` without ``forward``."""
        super().__init_subclass__(**kwargs)
        cls.compiled = compiled
        if "call" in vars(cls) and "forward" not in vars(cls):  # Keras's word: nobody would call it
            required = "a layer computes in forward(x, training=False), and its gradients in backward(dy)"
            fix = "See examples/own_layer.py; for the noise of training in predictions: predict_mc, or model(x, True)"
            raise TypeError(_check.message(cls.__name__, required, _check.Shown("a method `call`"), fix))
        if "__init__" in vars(cls):
            cls.__init__ = _taking_words(cls.__init__)
        if "build" in vars(cls):
            cls.build = _finished(cls.build)
        if "forward" in vars(cls) and "sample" not in vars(cls) and not is_ours(cls):
            cls.sample = Layer.sample  # which calls it; predict_mc refuses it where there is noise (montecarlo.py)
        if "backward" in vars(cls):
            for shortcut in ("backward_params", "backward_logits", "backward_behind"):
                if shortcut not in vars(cls):
                    setattr(cls, shortcut, getattr(Layer, shortcut))

    def __new__(cls, *args, **kwargs):
        _check.keywords(cls.__name__, cls.__init__, kwargs, WORDS)
        layer = super().__new__(cls)
        layer._changes, layer._kept = 0, None
        vars(layer).update(
            dtype=None, params=Values(), grads=Values(), state=Values(), input_shape=None, output_shape=None
        )
        vars(layer).update(stream=(0, 0), trainable=True, in_chain=False, name=None)
        return layer

    if not TYPE_CHECKING:  # or every misspelt name would have a type

        def __getattr__(self, name):
            """Asked for what is not there: says what there is instead of Keras's."""
            if name in keras_words.INSTEAD["Layer"]:
                raise keras_words.missing("Layer", name, f"{type(self).__name__!r} object", ())
            return super().__getattr__(name)

    def __setattr__(self, name, value):
        """Counts what is set from outside, so that a model knows when a plan that it recorded is out of date."""
        if name[0] == "_" and name != "__class__":  # many times in every step
            object.__setattr__(self, name, value)
            return
        super().__setattr__(name, value)
        self._count_change()

    def _count_change(self):
        self._changes += 1
        if self._tally is not None:
            self._tally[0] += 1

    def __setstate__(self, state):
        vars(self).update(owned(state))
        vars(self).update(in_chain=False, _in_model=False, _tally=None)  # a copy of a model takes its layers in again

    @_taking_words
    def __init__(self, dtype=None):
        self.dtype = dtype

    # ---- the layers that a layer holds ----

    @property
    def parts(self):
        """{name: layer}: the layers that this one holds, in attributes ("conv") and in lists, tuples and dictionaries
        ("body.0"), in the order of the attributes.  They are named, trained, saved, copied and listed with it.

        ValueError for a key of a dictionary that cannot be part of a name, or for two that make the same one.
        """
        found = {}
        if self.compiled and not self.composite and is_ours(type(self)):  # no need to look: asked in every fit
            return found
        for name, layer in held_in(vars(self), Layer):
            if name in found:
                required = "the names of the layers that a layer holds must differ"
                raise ValueError(_check.message(type(self).__name__, required, name))
            found[name] = layer
        return found

    def freeze(self):
        """Keeps this layer and its parts as they are, as Keras does where ``trainable`` is False: parameters are not
        trained, and a batch normalisation normalises with its moving statistics and no longer moves them."""
        self._freeze(True)

    def unfreeze(self):
        """Takes ``freeze`` back, for this layer and all its parts."""
        self._freeze(False)

    def _freeze(self, frozen):
        for _, layer in [("", self), *walk(self.parts)]:
            layer._is_frozen = frozen
            layer.trainable = not frozen  # which tells plans that something has changed
            for entry in (layer._stored_parts or {}).values():
                _freeze_entry(entry, frozen)

    # ---- what a layer implements ----

    @_finished
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
        if self._path is None:  # in a model it is the model that says where layers stand
            _take_places_alone(self)
        self.input_shape = self.output_shape = input_shape
        return input_shape

    def forward(self, x, training=False):
        """y of shape (N, *output_shape) for x of shape (N, *input_shape).

        With ``training`` the layer may keep what ``backward`` needs; without, it keeps nothing and changes nothing.

        x is the caller's: do not write into it.  (A model gives a layer in Python copies, of x and of the dy of
        ``backward``, so that a layer that does work in place does no harm there; called alone, it changes the caller's
        array.)  An output of another dtype is cast; a model raises TypeError for one that is no array of numbers,
        ValueError for one of another shape.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward(x, training)")

    def __call__(self, x, training=False):
        """``forward``."""
        if isinstance(x, Layer):
            raise TypeError(_check.message(type(self).__name__, NOT_FUNCTIONAL[0], x, NOT_FUNCTIONAL[1]))
        if not isinstance(x, np.ndarray) and hasattr(x, "__array__"):
            np.asarray(x)  # an Input says the same
        return self.forward(x, training=training)

    def sample(self, x, lot):
        """One Monte-Carlo sample of y: ``forward`` of evaluation, but with the noise of training where there is any.

        Keeps nothing and changes nothing.  ``lot``: what the noise is a function of (``layers/random.py``).
        """
        return self.forward(x, training=False)

    def backward(self, dy):
        """dL/dx for dL/dy, both with the shapes of ``forward``; overwrites ``grads``.

        What is said of ``forward``'s x and output holds for dy and dL/dx, too.  Where dL/dx is not needed (``fit`` does
        not need that of the first layer with parameters), None may be returned.
        """
        raise NotImplementedError(f"{type(self).__name__} has no backward(dy)")

    # ---- what a model may also ask for; the defaults suit most layers ----

    def backward_params(self, dy):
        """Fills ``grads`` only, for the first layer with parameters, where dL/dx is not needed."""
        self.backward(dy)

    # For a layer that ends in softmax: ``backward_logits(dz, input_gradient)`` takes the gradient before the softmax,
    # with which a fused loss begins.  None: the model goes through ``backward``.
    backward_logits: Any = None

    # Two halves of one shortcut (chain.py).  Of a layer that ends in an activation whose gradient can be found from
    # its output, ``activation_gradient(y, dy)`` -> dz.  Of a layer each of whose outputs is one of its inputs,
    # ``backward_behind(dy, activation_gradient)``: its backward, with that gradient taken first, from its own output.
    activation_gradient: Any = None
    backward_behind: Any = None

    def gradient(self, dy, at_logits=False, wanted=True, activation_gradient=None):
        """dL/dx by the way that suits: ``at_logits`` for a gradient before the activation; None unless ``wanted``.

        ``activation_gradient``: of the layer before, to be taken first (``backward_behind``).
        """
        python = in_python(self)
        if python:
            dy = self._as_batch("backward", "dy", dy, self.output_shape).copy()
        n = len(dy)
        if activation_gradient is not None:
            dx = self.backward_behind(dy, activation_gradient)
        elif at_logits:
            dx = self.backward_logits(dy, wanted)
        elif wanted or "backward" in vars(self):  # replaced in this object: no short cut
            dx = self.backward(dy)
        else:
            dx = self.backward_params(dy)
        if not wanted:
            return None
        return _required(self, "backward", dx, (n, *self.input_shape)) if python else dx

    def multiply_adds(self):
        """Multiplications with addition that one sample costs in ``forward``, those of the parts; 0 where they do not
        matter."""
        return sum(part.multiply_adds() for part in self.parts.values())

    def smallest_batch(self):
        """The least number of samples that a training forward works on, once built: ``fit`` asks before it begins."""
        return max((part.smallest_batch() for part in self.parts.values()), default=1)

    def get_config(self):
        """The constructor's arguments, ready for JSON: ``type(layer)(**layer.get_config())`` is the same layer again.

        A layer among them stands there as its entry (``to_config``).
        """
        return {
            name: value.name if isinstance(value, np.dtype) else _with_entries(value)
            for name, value in _arguments(self).items()
        }

    def get_weights(self):
        """Copies of the parameters and moving statistics, those of its parts as well, as a list: kernel before bias,
        in the order of ``state_dict``.  RuntimeError before ``build``."""
        return [array.copy() for _, array in self._arrays("get_weights")]

    def set_weights(self, weights):
        """Takes the list of ``get_weights``: all arrays are checked before the first is written.

        RuntimeError before ``build``; ValueError for another number of arrays, another shape, NaN and what is too large
        for the dtype, TypeError for what is no array of numbers.
        """
        own, where = self._arrays("set_weights"), f"{type(self).__name__}.set_weights"
        if not isinstance(weights, list | tuple) or len(weights) != len(own):
            got = _check.Shown(str(len(weights))) if isinstance(weights, list | tuple) else _check.kind(weights)
            raise ValueError(_check.message(where, f"weights must be a list of {len(own)} arrays", got))
        targets = dict(own)
        for name, value in _check.values_for(where, targets, dict(zip(targets, weights, strict=True))).items():
            targets[name][...] = value

    def _arrays(self, method):
        """[(name, array)] of what ``get_weights`` gives."""
        if self.input_shape is None:
            required = "needs build(input_shape) of the layer, or of its model, before it"
            raise RuntimeError(f"{type(self).__name__}.{method}: {required}")
        tree = [("", self), *walk(self.parts)]
        entries = [(name, layer.params[key]) for name, layer, key in named_values(tree, "params")]
        entries += [(name, layer.state[key]) for name, layer, key in named_values(tree, "state")]
        return [(name, value) for name, value in entries if isinstance(value, np.ndarray)]

    # ---- help for subclasses ----

    def add_param(self, name, shape, initializer, rng):
        """Makes ``params[name]`` with values from ``initializer(shape, rng)`` and ``grads[name]`` with zeros.

        In a model that is read from a file the values are those of the file (``Source``).
        """
        values = self._source.values(self, name, shape, initializer, rng)
        if np.shape(values) != tuple(shape):
            where, got = type(self).__name__, _check.Shown(f"shape {np.shape(values)}")
            raise ValueError(_check.message(where, f"the initializer of {name} must return shape {tuple(shape)}", got))
        self.grads[name] = np.zeros(shape, self.dtype)
        self.params |= _check.values_for(type(self).__name__, {name: self.grads[name]}, {name: values})

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

    def forget(self):
        """Drops what ``keep`` stored: a ``backward`` now needs another forward before it."""
        self._kept = None

    def own(self, array):
        """``array`` where it is safe to keep or pass on, a copy where a caller holds it too and may write into it."""
        return array if self.in_chain or plan.is_recording() else array.copy()

    def _as_batch(self, method, argument, value, shape):
        where = f"{type(self).__name__}.{method}"
        array = _check.numeric_array(where, argument, value)
        if array.shape[1:] != shape or array.ndim != len(shape) + 1:
            required = f"{argument} must have shape {_check.batch_shape(shape)}"
            raise ValueError(_check.message(where, required, _check.shape_of(array)))
        return _check.contiguous(array, self.dtype)

    def __repr__(self):
        shown = []
        for place, (name, parameter) in enumerate([*inspect.signature(type(self).__init__).parameters.items()][1:]):
            if name == "name":
                continue
            value = getattr(self, name, parameter.default)
            kept_as = (parameter.default, (parameter.default,) * 2, ())  # strides=1 as (1, 1), no layers as ()
            as_given = value in kept_as
            if name != "dtype" and not as_given:
                value = _as_lists(value)
                shown.append(f"{value!r}" if place == 0 else f"{name}={value!r}")
        if is_named(self):
            shown.append(f"name={self.name!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


# ---- layers that hold layers ----


def _as_lists(value):
    """Tuples of layers as the lists that their constructors are given."""
    held = isinstance(value, tuple) and all(isinstance(one, Layer | tuple) for one in value)
    return [_as_lists(one) for one in value] if held else value


def _require_free(layer):
    if layer._in_model:
        required = "a layer can stand in one model only"
        raise ValueError(_check.message(type(layer).__name__, required, layer, "Make a new one"))


def path_of(layer):
    """Where a layer stands in its model: "2", or "2.body.0"; None before it stands in one."""
    return layer._path


def take_places(walked, seed, dtype, algorithm=None, first=0, source=None, around=None):
    """Tells every layer of a walk where it stands, before it is built, and hands down what it does not say itself.

    Its number in the walk, from ``first`` on, is the key of its random numbers.  ``around``: the layer that holds all
    of the walk, or None for a model.  ``in_chain`` is for the model to say of its own layers; within a layer of a
    custom class, which may write into what it gets, it is False.
    """
    by_path = dict(walked)
    for layer in by_path.values():
        _require_free(layer)
    for number, (path, layer) in enumerate(walked, first):
        holder = [around, *holders(path, by_path)][-1]
        in_chain = holder is None or (holder.composite and holder.compiled)
        vars(layer).update(_path=path, stream=(seed, number), in_chain=in_chain)
        layer.dtype = dtype if layer.dtype is None else layer.dtype
        if source is not None:
            layer._source = source
        if algorithm is not None and getattr(layer, "algorithm", algorithm) is None:
            layer.algorithm = algorithm


def take_names(walked):
    """Numbers the names of the layers of a walk that nobody has named: "conv2d", "conv2d_1".

    ValueError for two layers that were given the same name.
    """
    given = {}
    for path, layer in walked:
        label = vars(layer)["name"]
        if label is not None and label in given:
            required = f"two layers of a model must not have the same name {label!r}"
            got = _check.Shown(f"the layers {given[label]!r} and {path!r}")
            raise ValueError(_check.message(type(layer).__name__, required, got))
        given[label] = path
    numbered = {}
    for _, layer in walked:
        if not is_named(layer):
            kind = _in_snake_case(type(layer).__name__)
            names = numbered.setdefault(kind, itertools.chain([kind], (f"{kind}_{n}" for n in itertools.count(1))))
            layer._default_name = next(name for name in names if name not in given)


def _take_places_alone(layer):
    """The same for the layers in one that stands in no model."""
    take_places(walk(layer.parts), layer.stream[0], layer.dtype, first=layer.stream[1] + 1, around=layer)


TRAINING = "must take `training`: def forward(self, x, training=False)"


def takes_training(layer):
    """Whether ``layer.forward(x, training=True)`` can be called."""
    try:
        parameters = inspect.signature(layer.forward).parameters
    except (TypeError, ValueError):  # not written in Python
        return True
    return "training" in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def require_layer(where, entry):
    """The entry, if it is a layer that is in no model yet; TypeError or ValueError if it is not."""
    if not isinstance(entry, Layer):
        fix = f"Did you mean {entry.__name__}()?" if isinstance(entry, type) and issubclass(entry, Layer) else ""
        raise TypeError(_check.message(where, "every entry must be a layer", entry, fix))
    if not is_ours(type(entry)) and not takes_training(entry):
        required = f"{type(entry).__name__}.forward {TRAINING}"
        raise TypeError(_check.message(where, required, _check.Shown(str(inspect.signature(entry.forward)))))
    if any(layer.input_shape is not None for _, layer in walk([entry])):
        raise ValueError(_check.message(where, "a layer can stand in one place only", entry, "Make a new one"))
    return entry


def settle_late_parts(walked):
    """Sets in the layers that others made while they were built what was said of them before: by ``freeze``, by
    ``trainable``, by a file."""
    for _, layer in walked:
        parts = layer.parts
        for part in parts.values():
            if part._path is None and layer._is_frozen:
                part.freeze()
            elif part._path is None and not layer.trainable:
                part.trainable = False
        for name, entry in (layer._stored_parts or {}).items():
            if name not in parts:
                raise ValueError(_check.message(type(layer).__name__, f"must hold a layer {name!r}", [*parts]))
            _make_equal(parts[name], entry)
        layer._stored_parts = None


# ---- layers in files ----


def to_config(layer):
    """The entry of a layer, ready for JSON: {"layer": its class, "config": ``get_config``, "trainable": ...}.

    For a layer that holds layers which are none of its arguments also "parts", {name: entry}: its constructor
    makes them by itself.
    """
    entry = {"layer": type(layer).__name__, "config": _with_entries(layer.get_config()), "trainable": layer.trainable}
    if layer._is_frozen:
        entry["frozen"] = True
    if is_named(layer):
        entry["name"] = layer.name
    if layer._declared_shape is not None:
        entry["input_shape"] = list(layer._declared_shape)
    parts = {name: to_config(part) for name, part in _own_parts(layer).items()} | (layer._stored_parts or {})
    return entry | ({"parts": parts} if parts else {})


def _own_parts(layer):
    """The parts of a layer that are none of its arguments."""
    given = {id(one) for _, one in held_in(_arguments(layer), Layer)}
    return {name: part for name, part in layer.parts.items() if id(part) not in given}


def _arguments(layer):
    """{name: value} of the constructor's arguments that the layer keeps."""
    names = inspect.signature(type(layer).__init__).parameters
    given = {name: getattr(layer, name) for name in names if name != "self" and hasattr(layer, name)}
    said = {"name": vars(layer)["name"], "input_shape": layer._declared_shape}  # not what a model has made up or found
    return given | {name: value for name, value in said.items() if name in given}


def _with_entries(value):
    """The value with entries instead of layers."""
    if isinstance(value, Layer):
        return to_config(value)
    if isinstance(value, list | tuple) and any(isinstance(one, Layer | list | tuple | dict) for one in value):
        return [_with_entries(one) for one in value]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                required = (
                    "the keys of a dictionary among a layer's arguments must be strings, for a file keeps no others"
                )
                raise TypeError(_check.message("get_config", required, _check.kind(key)))
        return {name: _with_entries(one) for name, one in value.items()}
    return value


def from_config(entry, known):
    """The layer of an entry of ``to_config``, not built; ``known``: {name: class}.  Entries in it become layers first.

    ValueError for a class that is not known.
    """
    if entry["layer"] not in known:
        required = "every layer must be one of minicnn's or be given in custom_layers"
        raise ValueError(_check.message("Sequential.from_config", required, entry["layer"]))
    cls = known[entry["layer"]]
    config = {cls.former_arguments.get(name, name): value for name, value in entry["config"].items()}
    layer = cls(**{name: _with_layers(value, known) for name, value in config.items()})
    _set_flags(layer, entry)
    parts, stored = _own_parts(layer), entry.get("parts", {})
    _require_no_more(layer, parts, stored)
    for name in stored.keys() & parts.keys():
        _make_equal(parts[name], stored[name])
    layer._stored_parts = {name: part for name, part in stored.items() if name not in parts} or None
    return layer


def _set_flags(layer, entry):
    where = type(layer).__name__
    trainable = _check.boolean(where, "trainable", entry.get("trainable", True))
    vars(layer).update(trainable=trainable, _is_frozen=_check.boolean(where, "frozen", entry.get("frozen", False)))
    name, shape = entry.get("name"), entry.get("input_shape")
    vars(layer)["name"] = None if name is None else _label(where, "name", name)
    layer._declared_shape = None if shape is None else _check.sample_shape(where, shape)


def _freeze_entry(entry, frozen):
    """What ``freeze`` does to a layer, done to its entry."""
    entry.update(trainable=not frozen, frozen=frozen)
    for part in entry.get("parts", {}).values():
        _freeze_entry(part, frozen)


def _require_no_more(layer, parts, stored):
    """ValueError if the constructor makes a layer that was not there when the layer was saved."""
    for name in parts.keys() - stored.keys():
        required = f"must hold the layers that it held when it was saved; {name} was not there"
        raise ValueError(_check.message(type(layer).__name__, required, parts[name]))


def _with_layers(value, known):
    """The value with layers instead of entries."""
    if isinstance(value, dict):
        if {"layer", "config"} <= value.keys():
            return from_config(value, known)
        return {name: _with_layers(one, known) for name, one in value.items()}
    return [_with_layers(one, known) for one in value] if isinstance(value, list) else value


def _make_equal(layer, entry):
    """Sets what was set in a layer after its holder had made it; ValueError if it is of another class."""
    if type(layer).__name__ != entry["layer"]:
        required = f"must be a {entry['layer']}, as it was when it was saved"
        raise ValueError(_check.message("Sequential.from_config", required, _check.kind(layer)))
    now = to_config(layer)["config"]
    if now.keys() != entry["config"].keys():
        required = f"must have the arguments that it had when it was saved, {', '.join(entry['config']) or 'none'}"
        raise ValueError(_check.message(type(layer).__name__, required, _check.Shown(", ".join(now) or "none")))
    for name, value in entry["config"].items():
        held = getattr(layer, name, None)
        if isinstance(held, Layer | list | tuple | dict) and any(held_in({name: held}, Layer)):
            _make_values_equal({name: held}, {name: value})
        elif _plain(now[name]) != _plain(value):
            setattr(layer, name, value)
    _set_flags(layer, entry)
    parts, stored = _own_parts(layer), entry.get("parts", {})
    _require_no_more(layer, parts, stored)
    for name, part in stored.items():
        _make_equal(parts[name], part)


def _make_values_equal(values, stored):
    """The same for a list, tuple or dictionary that has layers among its values; ``stored``: as it was saved."""
    keys = values.keys() if isinstance(values, dict) else range(len(values))
    if len(keys) != len(stored):
        raise ValueError(
            f"the layers among the arguments must be as many as were saved, {len(stored)}; got {len(keys)}"
        )
    for key in keys:
        value = values[key]
        if isinstance(value, Layer):
            _make_equal(value, stored[key])
        elif isinstance(value, list | tuple | dict) and any(held_in({str(key): value}, Layer)):
            _make_values_equal(value, stored[key])
        elif _plain(_with_entries(value)) != _plain(stored[key]):
            values[key] = stored[key]


def _plain(value):
    """The value as it comes back from JSON."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value


# ---- how a model handles its layers ----


def kept_by(layers):
    """What each of the layers keeps for its ``backward``."""
    return [layer._kept for layer in layers]


def give_back(layers, kept):
    """Makes the layers keep what ``kept_by`` found."""
    for layer, one in zip(layers, kept, strict=True):
        layer._kept = one


def arrays_of(layers):
    """The arrays that the layers hold beside their parameters, as plans may point to them."""
    held = [one for layer in layers for one in (*vars(layer).values(), *layer.state.values())]
    return [array for array in held if isinstance(array, np.ndarray)]


def changes(layers):
    """How often each layer was changed from outside: equal lists mean that nothing was set in between."""
    return [layer._changes for layer in layers]


def count_change(layer):
    """Makes the layer one that was changed."""
    layer._count_change()


def adopt(layers):
    """Makes them layers of a model that is built: from now on their place stays, and their arrays.

    Returns a list [number], which grows whenever one of them is changed from outside: looked at several times in every
    step, where looking at each layer takes longer than a small network computes.
    """
    tally = [0]
    for layer in layers:
        layer._tally = tally
        layer._source = Layer._source
        layer._in_model = True
        where = type(layer).__name__
        layer.params.guard(where, "params")
        layer.grads.guard(where, "grads")
        states = {key: owned(value) for key, value in layer.state.items()}
        layer.state.guard(where, "state", states, open=not is_ours(type(layer)))
    return tally


def is_frozen(layer):
    """True for a layer that ``freeze`` keeps as it is."""
    return layer._is_frozen


def in_python(layer):
    """True for a layer that has to run as Python, itself or one of its parts: it runs outside of plans."""
    if not layer.compiled or vars(layer).keys() & {"forward", "backward", "flow"}:
        return True
    return layer.composite and any(map(in_python, layer.parts.values()))


def output_of(layer, x, training=False, lots=None):
    """``layer.forward(x, training)``, or with lots ``layer.sample(x, lot)``, held to the contract of a layer.

    ``lots``: what the sample is a function of, and what it samples (``Lots`` of ``layers/random.py``).
    """
    python = in_python(layer)
    if python:
        x = layer._as_batch("forward", "x", x, layer.input_shape).copy()
    n = len(x)
    y = layer.forward(x, training=training) if lots is None else lots.output(layer, x)
    return _required(layer, "forward", y, (n, *layer.output_shape)) if python else y


def _required(layer, method, array, shape):
    """What a layer in Python returned, as an array of the layer's dtype; TypeError or ValueError if it is none of that
    shape.  (None would silently end a backward pass, and one row would be repeated to fill a batch.)"""
    where, place = f"{type(layer).__name__}.{method}", f"It is layer {layer._path} of the model"
    if not isinstance(array, np.ndarray):
        name = "y" if method == "forward" else "dx"
        fix = f"{place}; is `return {name}` missing?" if array is None else place
        required = f"{method} must return {name}, an array of shape {shape}"
        got = _check.Shown("None" if array is None else f"a {type(array).__name__}")
        raise TypeError(_check.message(where, required, got, fix))
    _check.numeric_array(where, f"what {method} of layer {layer._path} of the model returns", array)
    if array.shape != shape:
        name = "the shape that build declared" if method == "forward" else "the shape of forward's x"
        raise ValueError(_check.message(where, f"{method} must return {name}, {shape}", _check.shape_of(array), place))
    return _check.contiguous(array, layer.dtype)
