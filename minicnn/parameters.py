"""The parameters of a model: one flat vector of values, one of gradients, and everything that goes by their names."""

import numpy as np

from minicnn import _check
from minicnn.regularizers import Penalties


class Parameters:
    """The part of ``Sequential`` that holds the parameters; a class of its own so that model.py is about the chain.

    Works on ``layers`` and ``dtype`` of the model, once they are built.  ``parameters`` and ``gradients`` are the flat
    vectors; ``segments`` lists (name, offset, size, trainable, decayed) of each parameter in them.
    """

    def _flatten(self):
        """Moves all parameters and gradients into one flat vector each; the layers keep views of their parts."""
        line = 64 // self.dtype.itemsize  # every part begins on a cache line of its own
        self.segments, offset = [], 0
        for name, layer, key in self._named_parameters():
            self.segments.append((name, offset, layer.params[key].size, bool(layer.trainable), True))
            offset += -(-layer.params[key].size // line) * line
        self.parameters, self.gradients = _aligned_zeros(offset, self.dtype), _aligned_zeros(offset, self.dtype)
        self._views = []
        for (_, start, size, _, _), (_, layer, key) in zip(self.segments, self._named_parameters(), strict=True):
            for kind, vector in (("params", self.parameters), ("grads", self.gradients)):
                view = vector[start : start + size].reshape(layer.params[key].shape)
                self._views.append((layer, kind, key, view))
        for _, layer, key in self._named_states():
            self._views.append((layer, "state", key, layer.state[key]))
        self._reclaim()
        self._find_penalties()

    def _find_penalties(self):
        self._penalties = Penalties(self.parameters, self.gradients, self._governed_by("regularizer"))

    def _governed_by(self, what, only_trainable=False):
        """(name, rule, offset, shape) of each parameter for which its layer has one, such as ``kernel_regularizer``."""
        found = []
        for (name, offset, _, _, _), (_, layer, key) in zip(self.segments, self._named_parameters(), strict=True):
            rule = getattr(layer, f"{key}_{what}", None)
            if rule is not None and (layer.trainable or not only_trainable):
                found.append((name, rule, offset, layer.params[key].shape))
        return found

    def penalty(self):
        """What the regularisers of the parameters add to the loss, with the parameters as they are now.

        The penalties of outputs (``activity_regularizer``) are not in it: they belong to samples.
        """
        self._require_built("penalty")
        self._reclaim()
        return self._penalties.value()

    def _add_penalty_gradients(self):
        """To the gradients of the data, which every backward overwrites: so they are never added twice."""
        if self._penalties:
            self._reclaim()
            self._penalties.add_gradients()

    def _reclaim(self):
        """Puts arrays that somebody has assigned anew, ``layer.params[name] = ...``, where they belong."""
        for layer, kind, key, view in self._views:
            if getattr(layer, kind)[key] is not view:
                self._take_over(layer, kind, key, view)

    def _take_over(self, layer, kind, key, view):
        """One thread at a time: a second copy might come when the first one has been trained on already."""
        with self._reclaiming:
            array = getattr(layer, kind)[key]
            if array is view:
                return
            if np.shape(array) != view.shape:
                required = f"{kind}[{key!r}] must keep its shape {view.shape}"
                got = _check.Shown(f"shape {np.shape(array)}")
                raise ValueError(_check.message(type(layer).__name__, required, got))
            view[...] = array
            getattr(layer, kind)[key] = view

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
        self._reclaim()
        named = {name: layer.params[key] for name, layer, key in self._named_parameters()}
        named.update({name: layer.state[key] for name, layer, key in self._named_states()})
        return {name: named[name].copy() for name in sorted(named, key=_layer_number)}

    def load_state_dict(self, d, strict=True):
        """Takes the arrays of ``state_dict``; all are checked before the first is written.

        ``strict``: ValueError for missing and unknown names; without it they are ignored.  Returns (missing, unknown).
        """
        self._require_built("load_state_dict")
        self._reclaim()
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
