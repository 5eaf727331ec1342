"""Layers made of layers: a chain as one layer, a way around others, several ways side by side."""

import math

import numpy as np

from minicnn import _check, chain
from minicnn._ext import compose as kernels
from minicnn.layer import Layer, from_config, kept_by, output_of, require_layer
from minicnn.layers.activation import Activated
from minicnn.recording import empty
from minicnn.settings import Fixed, is_ours
from minicnn.tree import walk


class Composite(Layer):
    """A base for layers that are made of others, and say once how data flow through them.

    A subclass holds its layers in attributes, lists, tuples or dictionaries, and implements

    - ``build(input_shape, rng)`` -> output shape, which begins with ``super().build(input_shape, rng)`` and builds the
      parts by ``build_part(part, shape, rng)`` -> the shape of the part's output;
    - ``flow(x, call)`` -> y, alike for training, evaluation and Monte-Carlo samples: ``call(part, x)`` is what a part
      makes of x.  Where ``backward`` needs more arrays, (y, array, ...);
    - ``backward(dy)`` -> dx, which begins with ``dy, arrays = self.check_gradient(dy)`` and asks the parts by
      ``backward_part(part, dy)`` -> dL/dx of the part.

    A part is a layer, or a list of layers one after the other; an empty list hands on what it gets.  x, y, dy and dx
    are arrays of the layer's dtype; none of them may be written into.  In a training pass each part is called once, for
    its gradients are those of one call: RuntimeError otherwise.
    """

    _called: frozenset = frozenset()

    def flow(self, x, call):
        """y (N, *output_shape) for x (N, *input_shape), or (y, arrays that ``backward`` needs ...).

        ``call(part, x)``: what a part makes of x.  Runs in training, in evaluation and for Monte-Carlo samples, from
        several threads at once in the latter two: so it keeps nothing in ``self``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no flow(x, call)")

    def forward(self, x, training=False):
        called = set()

        def call(layer, x):
            if training and id(layer) in called:
                name = next((name for name, part in self.parts.items() if part is layer), type(layer).__name__)
                required = "in training a layer must be called once in a pass"
                got = _check.Shown(f"a second call of {name}")
                raise RuntimeError(_check.message(type(self).__name__, required, got, "Make a second layer"))
            called.add(id(layer))
            return output_of(layer, x, training)

        y, arrays = self._run(x, call)
        if training:
            self.keep(len(x), *arrays)
            self._called = frozenset(called)  # of the latest training forward, by id
        return y

    def gradient(self, *arguments, **named):
        dx = super().gradient(*arguments, **named)
        for name, part in () if type(self).compiled else self.parts.items():
            forgotten = id(part) in self._called and kept_by([part]) != [None] and chain.has_parameters(part)
            if forgotten:  # its gradients would be those of an earlier pass
                required = "must ask every part that flow has called, with backward_part"
                raise RuntimeError(
                    _check.message(f"{type(self).__name__}.backward", required, _check.Shown(f"not {name}"))
                )
        return dx

    def sample(self, x, lots):
        return self._run(x, lambda layer, x: output_of(layer, x, lots=lots))[0]

    def _run(self, x, call):
        x = self.own(self.check_input(x))  # the parts may keep it
        found = self.flow(x, lambda part, x: chain.forward(_layers_of(part), x, call))
        y, *arrays = found if isinstance(found, tuple) else (found,)
        if not isinstance(y, np.ndarray):
            required = "flow must return y, an array, or (y, arrays for backward ...)"
            raise TypeError(_check.message(f"{type(self).__name__}.flow", required, _check.kind(y)))
        return self.own(y), arrays  # a part may keep y, too

    def build_part(self, part, shape, rng):
        """Builds a part for samples of ``shape``; returns the shape of a sample of its output."""
        for layer in _layers_of(part):
            try:
                output_shape = _check.sample_shape("the output of build", layer.build(shape, rng))
            except (ValueError, TypeError) as error:
                name = next((name for name, one in self.parts.items() if one is layer), "a layer that it does not hold")
                raise type(error)(f"{name}: {error}") from error
            if layer.dtype != self.dtype:
                got = _check.Shown(f"{layer.dtype.name} of {type(layer).__name__}")
                raise ValueError(_check.message("dtype", f"must be that of the layer around it, {self.dtype}", got))
            layer.input_shape, layer.output_shape = shape, output_shape
            shape = output_shape
        return shape

    def backward_part(self, part, dy, wanted=True):
        """Fills the gradients of a part from dL/dy; returns dL/dx, or None unless it is ``wanted``."""
        return chain.backward(_layers_of(part), dy, wanted=wanted)


def _layers_of(part):
    if hasattr(part, "as_chain"):
        required = "a part must be a layer or a list of layers, not a model"
        raise TypeError(_check.message("Composite", required, part, "Take its layers: layers.Chain(model)"))
    if isinstance(part, Layer):
        return (part,)
    if not isinstance(part, list | tuple) or not all(isinstance(layer, Layer) for layer in part):
        raise TypeError(_check.message("Composite", "a part must be a layer or a list of layers", _check.kind(part)))
    return part


def _layers(where, name, given):
    """A tuple of layers for one layer, a list of layers, a model that is not built, or None for no layer."""
    if given is None:
        return ()
    if hasattr(given, "as_chain"):
        given = given.as_chain().layers
    one = isinstance(given, Layer | dict | str) or not hasattr(given, "__iter__")
    several, found = (given,) if one else tuple(given), []
    for entry in several:
        if isinstance(entry, dict) and {"layer", "config"} <= entry.keys():
            entry = from_config(entry, _classes_of_minicnn(Layer))
        elif hasattr(entry, "as_chain"):
            entry = entry.as_chain()
        found.append(require_layer(f"{where}: {name}", entry))
    walk({f"{name}.{number}": one for number, one in enumerate(found)})  # raises where one stands in two places
    return tuple(found)


def _classes_of_minicnn(base):
    """{name: class} of minicnn's layers: what a configuration may name without ``custom_layers``."""
    found = {}
    for cls in base.__subclasses__():
        found |= ({cls.__name__: cls} if is_ours(cls) else {}) | _classes_of_minicnn(cls)
    return found


def _branches(where, name, given):
    required = f"{name} must be a list of branches, each a list of layers"
    if not isinstance(given, list | tuple):
        raise TypeError(_check.message(where, required, _check.kind(given)))
    if not given:
        raise ValueError(_check.message(where, f"{name} must have at least one branch", given))
    found = tuple(_layers(where, f"{name}[{number}]", branch) for number, branch in enumerate(given))
    walk({f"{name}.{b}.{n}": layer for b, branch in enumerate(found) for n, layer in enumerate(branch)})
    return found


class _Compiled(Composite):
    """A base for the library's own: a subclass has ``_backward(dy, wanted)`` -> dx, or None unless it is wanted."""

    composite = True

    def backward(self, dy):
        return self._backward(dy, True)

    def backward_params(self, dy):
        self._backward(dy, False)


class Chain(_Compiled, compiled=True):
    """y = the last layer's output for the first layer's input x;  dx = the first layer's for the last layer's dy.

    x, y: what the first layer takes and the last one gives.  ``layers``: a list of layers, or a ``Sequential`` that is
    not built; an empty chain hands on x.  The layers are named "<chain>.layers.0" and so on.

    Raises TypeError for what is no layer, ValueError for a layer that stands in two places.
    """

    layers = Fixed(_layers)

    def __init__(self, layers, dtype=None):
        super().__init__(dtype)
        self.layers = layers

    @property
    def output_function(self):
        """What the last layers say."""
        return chain.output_function(self.layers)

    def build(self, input_shape, rng):
        self.output_shape = self.build_part(self.layers, super().build(input_shape, rng), rng)
        return self.output_shape

    def flow(self, x, call):
        return call(self.layers, x)

    @property
    def backward_logits(self):
        """``backward`` for a gradient before the softmax with which the last layer ends; None if it does not."""
        return self._backward_logits if chain.enters_at_softmax(self.layers) else None

    def _backward_logits(self, dz, input_gradient=True):
        return self._backward(dz, input_gradient, at_logits=True)

    def _backward(self, dy, wanted, at_logits=False):
        dy, _ = self.check_gradient(dy)
        dx = chain.backward(self.layers, dy, at_logits, wanted)
        return self.own(dx) if wanted else None


class Residual(Activated, _Compiled, compiled=True):
    """A way around some layers:

    ::

        forward:    s = body(x) + shortcut(x),   y = f(s)
        backward:   ds = f'(s) dy,               dx = dx of the body for ds + dx of the shortcut for ds

    x: (N, ...); body and shortcut must give the same shape, which y has.

    - ``body``: a layer, or a list of layers one after the other.
    - ``shortcut``: the same, or None for the identity; the body must then keep the shape.
    - ``activation``: f, a name or an activation layer (``activation.py``); None for the identity.

    The layers are named "<residual>.body.0", "<residual>.shortcut.0" and so on.  Raises TypeError for what is no layer;
    ValueError for a layer that stands in two places and, at ``build``, for shapes that do not fit.

    Source: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, equations 1 and 2.
    """

    body = Fixed(_layers)
    shortcut = Fixed(_layers)

    def __init__(self, body, shortcut=None, activation=None, dtype=None):
        super().__init__(dtype)
        self.body = body
        self.shortcut = shortcut
        self.activation = activation
        if not self.body:
            raise ValueError(_check.message("Residual", "body must have at least one layer", body))
        walk(self.parts)

    def build(self, input_shape, rng):
        shape = super().build(input_shape, rng)
        body, shortcut = self.build_part(self.body, shape, rng), self.build_part(self.shortcut, shape, rng)
        if body != shortcut:
            what = "shortcut" if self.shortcut else "input, which is the shortcut,"
            required = f"the {what} must have the body's output shape {body}"
            fix = "" if self.shortcut else "Give a shortcut that changes the shape, such as Conv2D(filters, 1, strides)"
            raise ValueError(_check.message("Residual", required, shortcut, fix))
        self.output_shape = body
        return body

    def flow(self, x, call):
        a, b = call(self.body, x), call(self.shortcut, x)
        y = s = _sum(a, b, self._function.kind if self._function.name == "relu" else 0)
        if self._function.name not in ("linear", "relu"):
            y = empty(s.shape, s.dtype) if self._function.needs_input else s
            self._function.forward(s, y)
        return y, s if self._function.needs_input else y

    def _backward(self, dy, wanted):
        dy, (saved,) = self.check_gradient(dy)
        ds = self._function.backward(saved, dy)
        body, shortcut = self.backward_part(self.body, ds, wanted), self.backward_part(self.shortcut, ds, wanted)
        return _sum(body, shortcut) if wanted else None


class Concurrent(_Compiled, compiled=True):
    """Several ways side by side, joined along the channels:

    ::

        forward:    y[..., C_b : C_b + c_b] = branch_b(x)            C_b = c_0 + ... + c_(b-1), c_b channels of branch b
        backward:   dx = sum over b of the dx of branch_b for dy[..., C_b : C_b + c_b]

    x: (N, ...).  The outputs of all branches (N, ..., c_b) must agree but for the last axis; y: (N, ..., sum of c_b).

    - ``branches``: a list of branches, each a layer or a list of layers one after the other; [] hands on x.

    The layers are named "<concurrent>.branches.0.0", the first of the first branch, and so on.  Raises TypeError for
    what is no layer; ValueError for a layer that stands in two places and, at ``build``, for shapes that do not fit.

    Source: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 4 (there: filter concatenation); He et
    al.'s identity beside a branch is Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, equation 2.
    """

    branches = Fixed(_branches)

    def __init__(self, branches, dtype=None):
        super().__init__(dtype)
        self.branches = branches

    @property
    def output_function(self):
        """ "same" or "sigmoid" where all branches say so; None where probabilities of several stand side by side."""
        says = {chain.output_function(branch) for branch in self.branches}
        if len(self.branches) == 1:
            return says.pop()
        if says in ({"same"}, {"sigmoid"}):
            return says.pop()
        if says & {None, "softmax", "sigmoid"}:
            return None
        return "changed" if says & {"same", "changed"} else "linear"

    def build(self, input_shape, rng):
        shape = super().build(input_shape, rng)
        if not shape:
            raise ValueError(_check.message("Concurrent", "one sample must have at least one axis", shape))
        shapes = [self.build_part(branch, shape, rng) for branch in self.branches]
        for number, other in enumerate(shapes):
            if len(other) != len(shapes[0]) or other[:-1] != shapes[0][:-1]:
                required = f"all branches must agree but for the channels; branch 0 gives {shapes[0]}"
                raise ValueError(_check.message("Concurrent", required, _check.Shown(f"{other} from branch {number}")))
        self.output_shape = (*shapes[0][:-1], sum(one[-1] for one in shapes))
        return self.output_shape

    def flow(self, x, call):
        y, first = empty((len(x), *self.output_shape), self.dtype), 0
        for branch in self.branches:
            part = call(branch, x)
            kernels.copy_channels(_pixels(part), _pixels(y), first)
            first += part.shape[-1]
        return y

    def _backward(self, dy, wanted):
        dy, _ = self.check_gradient(dy)
        dx, first = None, 0
        for branch in self.branches:
            shape = branch[-1].output_shape if branch else self.input_shape
            part = empty((len(dy), *shape), self.dtype)
            kernels.take_channels(_pixels(dy), first, _pixels(part))
            first += shape[-1]
            found = self.backward_part(branch, part, wanted)
            if wanted:
                dx = found if dx is None else _sum(dx, found)
        return dx


def _sum(a, b, kind=0):
    """a + b, or its activation ``kind``."""
    y = empty(a.shape, a.dtype)
    kernels.add(_row(a), _row(b), kind, _row(y))
    return y


def _row(x):
    """(N, ...) as (N, D)."""
    return x.reshape(len(x), math.prod(x.shape[1:]))


def _pixels(x):
    """(N, ..., C) as (N, pixels, C)."""
    return x.reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1])
