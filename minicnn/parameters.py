"""The parameters of a built model: one flat vector of values, one of gradients, and what goes by their names."""

import collections
from typing import Any, NamedTuple

import numpy as np

from minicnn import _check
from minicnn.layer import Layer, adopt, count_change, path_of
from minicnn.regularizers import Penalties
from minicnn.settings import is_ours
from minicnn.tree import held_in, holders, named_values, walk


class Segment(NamedTuple):
    """Where a parameter is: ``layer.params[key]`` is a view of the flat vector from ``offset`` on.

    ``holders``: the layers in which the layer stands.
    """

    name: str
    layer: Any
    key: str
    offset: int
    holders: tuple

    @property
    def shape(self):
        return self.layer.params[self.key].shape

    @property
    def size(self):
        return self.layer.params[self.key].size

    @property
    def trainable(self):
        return self.layer.trainable and all(holder.trainable for holder in self.holders)


class Parameters:
    """Takes built layers into a model: moves all their parameters and gradients into one flat vector each, of which the
    layers keep views.

    - ``values``, ``gradients``: the vectors, of ``dtype``; ``table``: a ``Segment`` for each parameter in them.
    - ``tree``: {path: layer} of all layers, in the order of ``walk``.

    ValueError if two parameters have the same name.
    """

    def __init__(self, layers, dtype):
        self.tree = dict(walk(layers))
        self._tally = adopt(self.tree.values())
        self._custom = [_Watch(path, layer) for path, layer in self.tree.items() if not is_ours(type(layer))]
        line = 64 // dtype.itemsize  # every part begins on a new cache line
        self.table, offset = [], 0
        for name, layer, key in named_values(self.tree.items(), "params"):
            self.table.append(Segment(name, layer, key, offset, tuple(holders(path_of(layer), self.tree))))
            offset += -(-layer.params[key].size // line) * line
        self._require_one_name_each()
        self.values, self.gradients = _aligned_zeros(offset, dtype), _aligned_zeros(offset, dtype)
        for _, layer, key, start, _ in self.table:
            for values, vector in ((layer.params, self.values), (layer.grads, self.gradients)):
                view = vector[start : start + layer.params[key].size].reshape(layer.params[key].shape)
                view[...] = values[key]
                dict.__setitem__(values, key, view)
        self._rules = None

    def _require_one_name_each(self):
        names = [segment.name for segment in self.table] + [name for name, _, _ in self.states()]
        for name, count in collections.Counter(names).items():
            if count > 1:
                raise ValueError(_check.message("Sequential.build", "no two parameters may have the same name", name))

    # ---- what governs them ----

    def changes(self):
        """A number that grows whenever something is set in a layer from outside, or a custom one says something else of
        its outputs: what was found out about the layers holds as long as it stays.

        RuntimeError if a custom layer holds other layers than those that were built: nobody would train them.
        """
        for watch in self._custom:
            watch.look()
        return self._tally[0]

    def rules(self):
        """Looks up what is trainable, regularised and constrained; True if that has changed since the last call."""
        rules = [
            (segment.trainable, *(getattr(segment.layer, f"{segment.key}_{what}", None) for what in RULES))
            for segment in self.table
        ]
        before, self._rules = self._rules, rules
        return rules != before

    @property
    def segments(self):
        """(name, offset, size, trainable, decayed) of each parameter in the flat vectors.

        ``decayed`` is True for all: what weight decay spares is the optimiser's business.
        """
        return tuple((segment.name, segment.offset, segment.size, segment.trainable, True) for segment in self.table)

    def governed_by(self, what):
        """(name, rule, offset, shape) of each trainable parameter whose layer has one, such as a "regularizer"."""
        found = []
        for segment in self.table:
            rule = getattr(segment.layer, f"{segment.key}_{what}", None)
            if rule is not None and segment.trainable:
                found.append((segment.name, rule, segment.offset, segment.shape))
        return found

    def penalties(self):
        """The ``Penalties`` of the regularisers as they are now."""
        return Penalties(self.values, self.gradients, self.governed_by("regularizer"))

    # ---- by name ----

    def states(self):
        """(name, layer, key) of the array states: moving statistics and the like, which belong to the weights."""
        states = named_values(self.tree.items(), "state")
        return [(name, layer, key) for name, layer, key in states if isinstance(layer.state[key], np.ndarray)]

    def named(self):
        """{name: array} of all parameters and array states, in the order of the walk."""
        found = {path: {} for path in self.tree}
        for segment in self.table:
            found[path_of(segment.layer)][segment.name] = segment.layer.params[segment.key]
        for name, layer, key in self.states():
            found[path_of(layer)][name] = layer.state[key]
        return {name: array for arrays in found.values() for name, array in arrays.items()}

    def state_dict(self):
        return {name: array.copy() for name, array in self.named().items()}

    def load_state_dict(self, d, strict=True):
        where = "Sequential.load_state_dict"
        strict = _check.boolean(where, "strict", strict)
        if not hasattr(d, "keys"):
            raise TypeError(_check.message(where, "d must be a dictionary of arrays", _check.kind(d)))
        targets = self.named()
        missing, unknown = [n for n in targets if n not in d], [n for n in d if n not in targets]
        if strict and (missing or unknown):
            raise ValueError(f"{where}: the names must be the model's; missing: {missing}, unknown: {unknown}")
        given = {name: target for name, target in targets.items() if name in d}
        for name, array in _check.values_for(where, given, d).items():
            targets[name][...] = array
        return missing, unknown

    def set_weights(self, weights):
        names = list(self.named())
        if not isinstance(weights, list | tuple):
            raise TypeError(_check.message("Sequential.set_weights", "needs a list of arrays", _check.kind(weights)))
        if len(weights) != len(names):
            raise ValueError(_check.message("Sequential.set_weights", f"needs {len(names)} arrays", len(weights)))
        self.load_state_dict(dict(zip(names, weights, strict=True)))

    def count(self):
        return sum(segment.size for segment in self.table)

    def fingerprint(self):
        import hashlib  # here: it takes as long to import as all layers

        digest = hashlib.sha256()
        for name, array in self.named().items():
            digest.update(f"{name} {array.shape} {array.dtype.name}\n".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


class _Watch:
    """Whether a custom layer still holds the layers that it held when it was built, and what it says of its outputs.

    Looked at in every step, so it is quick: lists and the like that held no layer are searched only if they were empty,
    or if there is another object by now.
    """

    def __init__(self, path, layer):
        self.path, self.layer, self.parts = path, layer, layer.parts
        held = {name.partition(".")[0] for name in self.parts}
        containers = {name: value for name, value in vars(layer).items() if isinstance(value, list | tuple | dict)}
        self.settled = {name: value for name, value in containers.items() if value and name not in held}
        self.says = layer.output_function

    def look(self):
        says = self.layer.output_function
        if says != self.says:  # a property of its own, say
            self.says = says
            count_change(self.layer)
        held = {}
        for name, value in list(vars(self.layer).items()):
            several = isinstance(value, list | tuple | dict) and self.settled.get(name) is not value
            if isinstance(value, Layer) or (several and value):
                held[name] = value
        now = dict(held_in(held, Layer))
        if now.keys() == self.parts.keys() and all(now[name] is part for name, part in self.parts.items()):
            return
        for name in {**self.parts, **now}:
            if self.parts.get(name) is not now.get(name):
                required = "the layers that a layer holds stay while it is in a model"
                got = _check.Shown(f"another one, or none, in {self.path}.{name}")
                raise RuntimeError(_check.message(type(self.layer).__name__, required, got, "Make a new model"))


RULES = ("regularizer", "constraint")  # "kernel_regularizer" governs the parameter "kernel"


def _aligned_zeros(size, dtype):
    """A zeroed vector whose first element lies on a cache line (64 bytes)."""
    raw = np.zeros(size + 64 // dtype.itemsize, dtype)
    start = (-raw.__array_interface__["data"][0] % 64) // dtype.itemsize
    return raw[start : start + size]
