"""The parameters of a model: one flat vector of values, one of gradients, and everything that goes by their names."""

import numpy as np

from minicnn import _check
from minicnn.regularizers import Penalties
from minicnn.settings import is_ours, owned


class Parameters:
    """The part of ``Sequential`` that holds the parameters; a class of its own so that model.py is about the chain.

    Works on ``layers`` and ``dtype`` of the model, once they are built.  ``parameters`` and ``gradients`` are the flat
    vectors; ``segments`` lists (name, offset, size, trainable, decayed) of each parameter in them.
    """

    def _flatten(self):
        """Moves all parameters and gradients into one flat vector each, of which the layers keep views.

        From here on the layers' names and shapes stay, and whoever assigns to one of them writes into these arrays.
        """
        line = 64 // self.dtype.itemsize  # every part begins on a cache line of its own
        self._places, offset = [], 0  # (name, layer, key, offset) of each parameter
        for name, layer, key in self._named_parameters():
            self._places.append((name, layer, key, offset))
            offset += -(-layer.params[key].size // line) * line
        vectors = _aligned_zeros(offset, self.dtype), _aligned_zeros(offset, self.dtype)
        for _, layer, key, start in self._places:
            for values, vector in zip((layer.params, layer.grads), vectors, strict=True):
                view = vector[start : start + layer.params[key].size].reshape(layer.params[key].shape)
                view[...] = values[key]
                dict.__setitem__(values, key, view)
        for layer in self.layers:
            where = type(layer).__name__
            layer.params.settle(where, "params")
            layer.grads.settle(where, "grads")
            states = {key: owned(value) for key, value in layer.state.items()}
            layer.state.settle(where, "state", states, open=not is_ours(type(layer)))
        self._put(parameters=vectors[0], gradients=vectors[1])
        self._governed = self._settled = None
        self._settle()

    def _settle(self):
        """Takes in what has been made trainable, regularised or constrained since it was last looked at."""
        changes = sum([layer._changes for layer in self.layers])
        if changes == self._settled:
            return
        governed = [
            (layer.trainable, *(getattr(layer, f"{key}_{rule}", None) for rule in ("regularizer", "constraint")))
            for _, layer, key, _ in self._places
        ]
        if governed != self._governed:
            with self._settling:  # several threads may evaluate
                self._find_penalties()
                self._bind()
                self._governed = governed
        self._settled = changes

    @property
    def segments(self):
        """(name, offset, size, trainable, decayed) of each parameter in the flat vectors; empty before ``build``.

        ``decayed`` is True for all: what weight decay spares is the optimiser's business.
        """
        return tuple(
            (name, offset, layer.params[key].size, layer.trainable, True) for name, layer, key, offset in self._places
        )

    def _find_penalties(self):
        self._penalties = Penalties(self.parameters, self.gradients, self._governed_by("regularizer"))

    def _governed_by(self, what):
        """(name, rule, offset, shape) of each trainable parameter whose layer has one, such as a regulariser."""
        found = []
        for name, layer, key, offset in self._places:
            rule = getattr(layer, f"{key}_{what}", None)
            if rule is not None and layer.trainable:
                found.append((name, rule, offset, layer.params[key].shape))
        return found

    def penalty(self):
        """What the regularisers of the parameters add to the loss, with the parameters as they are now.

        The penalties of outputs (``activity_regularizer``) are not in it: they belong to samples.
        """
        self._require_built("penalty")
        self._settle()
        return self._penalties.value()

    def _add_penalty_gradients(self):
        """To the gradients of the data, which every backward overwrites: so they are never added twice."""
        if self._penalties:
            self._penalties.add_gradients()

    def _arrays_in_place(self):
        """What plans may point to: the flat vectors, and the arrays that layers hold besides."""
        arrays = [self.parameters, self.gradients]
        for layer in self.layers:
            held = (*vars(layer).values(), *layer.state.values())
            arrays += [array for array in held if isinstance(array, np.ndarray)]
        return arrays

    def _named_parameters(self):
        return [(f"{i}.{key}", layer, key) for i, layer in enumerate(self.layers) for key in layer.params]

    def _named_states(self):
        """Array states: moving statistics and the like, which belong to the weights."""
        return [
            (f"{i}.{key}", layer, key)
            for i, layer in enumerate(self.layers)
            for key, value in layer.state.items()
            if isinstance(value, np.ndarray)
        ]

    def state_dict(self):
        """Copies of all parameters and moving statistics by name: "0.kernel", "0.bias", ..."""
        self._require_built("state_dict")
        named = {name: layer.params[key] for name, layer, key in self._named_parameters()}
        named.update({name: layer.state[key] for name, layer, key in self._named_states()})
        return {name: named[name].copy() for name in sorted(named, key=_layer_number)}

    def load_state_dict(self, d, strict=True):
        """Takes the arrays of ``state_dict``; all are checked before the first is written.

        ``strict``: ValueError for missing and unknown names; without it they are ignored.  Returns (missing, unknown).
        """
        self._require_built("load_state_dict")
        where = "Sequential.load_state_dict"
        strict = _check.boolean(where, "strict", strict)
        if not hasattr(d, "keys"):
            raise TypeError(_check.message(where, "d must be a dictionary of arrays", _check.kind(d)))
        targets = {name: layer.params[key] for name, layer, key in self._named_parameters()}
        targets.update({name: layer.state[key] for name, layer, key in self._named_states()})
        missing, unknown = [n for n in targets if n not in d], [n for n in d if n not in targets]
        if strict and (missing or unknown):
            raise ValueError(f"{where}: the names must be the model's; missing: {missing}, unknown: {unknown}")
        found = {}
        for name in targets.keys() & d.keys():
            array = _check.numeric_array(where, name, d[name])
            if array.shape != targets[name].shape:
                raise ValueError(
                    _check.message(where, f"{name} must have shape {targets[name].shape}", _check.shape_of(array))
                )
            if np.isnan(array).any():
                raise ValueError(_check.message(where, f"{name} must hold numbers", _check.Shown("nan")))
            found[name] = array
        for name, array in found.items():
            targets[name][...] = array
        return missing, unknown

    def get_weights(self):
        """The arrays of ``state_dict`` as a list."""
        return list(self.state_dict().values())

    def set_weights(self, weights):
        """Takes the list of ``get_weights``."""
        names = list(self.state_dict())
        if not isinstance(weights, list | tuple):
            raise TypeError(_check.message("Sequential.set_weights", "needs a list of arrays", _check.kind(weights)))
        if len(weights) != len(names):
            raise ValueError(_check.message("Sequential.set_weights", f"needs {len(names)} arrays", len(weights)))
        self.load_state_dict(dict(zip(names, weights, strict=True)))

    def count_params(self):
        """The number of parameters."""
        self._require_built("count_params")
        return sum(layer.params[key].size for _, layer, key in self._named_parameters())

    def fingerprint(self):
        """SHA-256 over name, shape, dtype and values of ``state_dict``, in hexadecimal: equal for equal bits."""
        import hashlib  # here: it takes as long to import as all layers

        digest = hashlib.sha256()
        for name, array in self.state_dict().items():
            digest.update(f"{name} {array.shape} {array.dtype.name}\n".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


def _aligned_zeros(size, dtype):
    """A zeroed vector whose first element lies on a cache line (64 bytes)."""
    raw = np.zeros(size + 64 // dtype.itemsize, dtype)
    start = (-raw.__array_interface__["data"][0] % 64) // dtype.itemsize
    return raw[start : start + size]


def _layer_number(name):
    return int(name.split(".")[0])
