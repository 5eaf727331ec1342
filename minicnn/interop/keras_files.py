"""Models in Keras's files, ``.keras`` and ``.h5``: their configuration as layers of minicnn's, and their weights.

Nothing in a file is run: classes are looked up by their names in a list, and what the list does not have is refused.
"""

import inspect
import json

import numpy as np

from minicnn import _check, layers
from minicnn.interop.keras_weights import assigned, opened
from minicnn.interop.safetensors_files import commit
from minicnn.layer import Source
from minicnn.layers.activation import NAMES as ACTIVATIONS
from minicnn.model import Sequential
from minicnn.tree import walk

MOST_INPUTS = 2**26  # numbers in a sample
MOST_LAYERS = 10_000
SAME = frozenset(layers.__all__) - {  # classes that have the same name and arguments here
    *("Chain", "Concurrent", "DropBlock2D", "DropConnect", "GELU", "HardSigmoid", "HardSwish", "LogSoftmax"),
    *("Residual", "SELU", "Sigmoid", "Softplus", "StochasticDepth", "Swish", "Tanh", "Temperature"),
}
MODELS = "Sequential", "Functional", "Model"
INPUT_SHAPES = "batch_shape", "batch_input_shape", "input_shape"
SAYS_NOTHING = {  # of what a layer with its weights computes and learns
    *("name", "trainable", "dtype", "sparse", "ragged", "optional", "synchronized", "fused", "build_config"),
    *("renorm_clipping", "renorm_momentum", "kernel_size_1d", *INPUT_SHAPES),
}
ONLY = {  # arguments that minicnn has not, and the values that say what it does
    "data_format": ("channels_last",),
    **dict.fromkeys(("renorm", "rms_scaling", "keepdims", "antialias", "pad_to_aspect_ratio"), (False,)),
}
POOLED = "GlobalAveragePooling2D", "GlobalMaxPooling2D"
JOINS = "Add", "Concatenate"  # where ways meet
OTHER_WORDS = {"LeakyReLU": {"alpha": "slope", "negative_slope": "slope"}}


def from_keras(path):
    """The model in a file of Keras's, with its weights: ``.keras``, or ``.h5`` that ``model.save`` wrote.

    A Sequential, or a functional model with one input and one output.  Where ways meet, ``Add`` becomes a ``Residual``
    and ``Concatenate`` along the last axis a ``Concurrent``; models in it become ``layers.Chain``.  Layers have their
    names, what is not trainable is frozen.  Left out, since no output depends on them: initialisers, the optimiser,
    loss and metrics (compile the model), and their state.

    ConversionError, which names the layer and the argument, for what minicnn has no equal for: other layers (``Lambda``
    and custom ones would need their code), ways that cross, ``data_format="channels_first"``, float16; for samples
    whose shape is not known; and for a file that is damaged, of another kind, or has weights alone.  ImportError
    without h5py.
    """
    where = "interop.from_keras"
    with opened(where, path) as file:
        if file.text is None:
            raise file.refused("has weights alone: make the model, and take them by load_keras_weights")
        reader = _Reader(file)
        chain, in_order = reader.model(json.loads(file.text))
        if reader.shape is None or None in reader.shape:
            fix = "Make the model for a shape, and take the weights by load_keras_weights"
            raise file.refused(f"does not say the shape of a sample: got {reader.shape}. {fix}")
        shape = _check.sample_shape(where, reader.shape)
        if np.prod(shape, dtype=float) > MOST_INPUTS:
            raise file.refused(f"has samples of more than {MOST_INPUTS} numbers: {shape}")
        arrays = assigned(file, in_order, reader.nested)
        model = Sequential(chain, dtype=reader.dtype or "float32", name=reader.name)
        try:
            model.build(shape, _Stored(file, arrays))
        except (ValueError, TypeError) as error:
            raise file.refused(f"has a model that cannot be built here: {error}") from error
        reader.check_axes()
        names = {id(layer): name for name, layer in walk(model.layers)}
        states = {
            f"{names[id(layer)]}.{key}": file.numbers(dataset, layer.state[key].shape, f"{key} of {_title(layer)}")
            for (layer, key), dataset in arrays.items()
            if key in layer.state
        }
        commit(file.where, model, states)
    return model


class _Stored(Source):
    """Parameters are those of the file: an array that it does not hold is never allocated."""

    def __init__(self, file, arrays):
        self.file, self.arrays = file, {(id(layer), key): dataset for (layer, key), dataset in arrays.items()}

    def values(self, layer, name, shape, initializer, rng):
        return self.file.numbers(self.arrays[id(layer), name], tuple(shape), f"{name} of {_title(layer)}")


def _title(layer):
    return f"{type(layer).__name__} {layer.name!r}"


class _Reader:
    """Makes layers of configurations; finds the ``shape`` of a sample and the ``dtype`` on the way."""

    def __init__(self, file):
        self.file, self.shape, self.dtype, self.name = file, None, None, None
        self.old = file.version[:2] in ("1.", "2.")
        self.names = set()
        self.nested = {}  # {id of a Chain: (its class in small letters, its layers in the order of the file)}
        self.axes, self.left = [], MOST_LAYERS

    def refuse(self, entry, why):
        name = entry["config"].get("name") if isinstance(entry.get("config"), dict) else None
        raise self.file.refused(f"has layer {name or '?'} ({entry.get('class_name')}): {why}")

    def model(self, entry, outer=True):
        """The layers of a model, one after the other; and those of its file, in the file's order."""
        config = entry["config"]
        if entry["class_name"] not in MODELS or not self.is_keras(entry):
            self.refuse(entry, "a model of another class would need its code")
        if isinstance(config, list):  # of the first Keras
            config = {"layers": config}
        entries, graph = config["layers"], None
        self.left -= len(entries)
        if self.left < 0:
            self.refuse(entry, f"there are more than {MOST_LAYERS} layers")
        if entry["class_name"] != "Sequential":
            graph = self.graph(entry, config)
            entries = sorted(entries, key=lambda one: one["name"] != graph.first)
        if outer:
            self.take_shape(entry, config, entries)
        left_out = ("InputLayer",) if graph is None else ("InputLayer", *JOINS)
        entries = [one for one in entries if one["class_name"] not in left_out]
        made = [self.layer(one) for one in entries]
        if graph is None:
            return made, made
        by_name = {one["name"]: layer for one, layer in zip(entries, made, strict=True)}
        return self.joined(graph, graph.chain(graph.first, graph.last), by_name), made

    def take_shape(self, entry, config, entries):
        name = config.get("name")
        self.name = name if isinstance(name, str) and name.strip() and name.isprintable() else None
        first = entries[0]["config"] if entries else {}
        for one in (
            next((first[key] for key in INPUT_SHAPES if isinstance(first, dict) and first.get(key)), None),
            config.get("build_input_shape"),
            (entry.get("build_config") or {}).get("input_shape"),
        ):
            self.shape = one[1:] if self.shape is None and one else self.shape

    # ---- functional models ----

    def graph(self, entry, config):
        """The layers of a functional model and what they read."""
        by_name = {one["name"]: one for one in config["layers"]}
        if len(by_name) != len(config["layers"]):
            self.refuse(entry, "two of its layers have one name")
        first, last = (_ends(config[key]) for key in ("input_layers", "output_layers"))
        for ends, what in ((first, "inputs"), (last, "outputs")):
            if len(ends) != 1:
                self.refuse(entry, f"a model has one input and one output here; it has {len(ends)} {what}")
        inputs = {name: self.inputs_of(one) for name, one in by_name.items()}
        for name, read in inputs.items():
            one = by_name[name]
            if len(read) > 1 and one["class_name"] not in JOINS:
                self.refuse(one, f"it has {len(read)} inputs, which only {' and '.join(JOINS)} may have here")
            if (len(read) == 1 and one["class_name"] in JOINS) or bool(read) == (name == first[0]):
                self.refuse(one, f"it has {len(read)} inputs")
        return _Graph(first[0], last[0], inputs, lambda name, why: self.refuse(by_name.get(name, entry), why), by_name)

    def inputs_of(self, entry):
        """The names of the layers whose outputs a layer is called with."""
        nodes = entry.get("inbound_nodes") or []
        if len(nodes) > 1:
            self.refuse(entry, "it is called more than once")
        try:
            tensors, words = _tensors(nodes[0]) if nodes else ([], {})
        except ValueError as error:
            self.refuse(entry, str(error))
        # Keras 3 writes down the default of a layer's call, and overrides it in fit and predict.
        default = ()
        if nodes and isinstance(nodes[0], dict):
            default = entry["class_name"].startswith(("Random", "Resizing")), False
        words = {
            key: value
            for key, value in words.items()
            if value is not None and not (key == "training" and value in default)
        }
        if words:
            self.refuse(entry, f"it is called with {', '.join(f'{key}={value!r}' for key, value in words.items())}")
        return tensors

    def joined(self, graph, steps, made):
        """The layers of the steps of ``_Graph.chain``: a sum of ways is a Residual, their concatenation a
        Concurrent."""
        found = []
        for name, ways in steps:
            if ways is None:
                found.append(made[name])
                continue
            entry, ways = graph.entries[name], [self.joined(graph, way, made) for way in ways]
            self.take_dtype(entry, entry["config"].get("dtype"))
            if entry["class_name"] == "Concatenate":
                layer = layers.Concurrent(ways)
                self.axes.append((entry, layer, entry["config"].get("axis", -1)))
            else:
                layer = _sum_of(ways)
            self.take_name(layer, entry["config"].get("name"))
            found.append(layer)
        return found

    def check_axes(self):
        """ConversionError for a concatenation along another axis than the last, once shapes are known."""
        for entry, layer, axis in self.axes:
            if axis not in (-1, len(layer.output_shape)):
                self.refuse(entry, f"axis must be the last one; got {axis!r}")

    @staticmethod
    def is_keras(entry):
        module, name = entry.get("module"), entry.get("registered_name")
        parts = str(module or "keras").split(".")
        return ("keras" in parts[:2] or parts[0] == "tf_keras") and name in (None, entry["class_name"])

    def layer(self, entry):
        cls, config = entry["class_name"], entry["config"]
        if cls in MODELS:
            chain, inner = self.model(entry, outer=False)
            layer = layers.Chain(chain)
            self.nested[id(layer)] = cls.lower(), inner
        elif cls == "Lambda" or not self.is_keras(entry):
            self.refuse(entry, "it would need code, and none is run from a file")
        else:
            self.take_dtype(entry, config.get("dtype"))
            layer = self.made(entry, cls, config)
        self.take_name(layer, config.get("name"))
        if config.get("trainable") is False:
            layer.freeze()
        return layer

    def take_name(self, layer, name):
        if isinstance(name, str) and name not in self.names:
            try:
                layer.name = name
            except ValueError:
                name = None  # a name that paths begin with
            self.names.add(name)

    def take_dtype(self, entry, dtype):
        if isinstance(dtype, dict):
            dtype = dtype.get("config", {}).get("name", dtype.get("class_name"))  # quantized ones have no name
        if dtype is None:
            return
        if dtype not in ("float32", "float64") or self.dtype not in (None, dtype):
            self.refuse(entry, f"dtype must be float32 or float64, and that of all layers; got {dtype!r}")
        self.dtype = dtype

    def made(self, entry, cls, config):
        if cls == "Identity":
            return layers.Activation("linear")
        if cls not in SAME:
            self.refuse(entry, "minicnn has no such layer")
        if cls in POOLED and config.get("keepdims"):
            return layers.Chain([self.made(entry, cls, config | {"keepdims": False}), layers.Reshape((1, 1, -1))])
        kind, arguments = getattr(layers, cls), {}
        known = inspect.signature(kind.__init__).parameters
        for key, value in config.items():
            word = OTHER_WORDS.get(cls, {}).get(key, key)
            of_a_border = cls == "Resizing" and key.startswith("fill_")  # which pad_to_aspect_ratio alone would make
            if key in SAYS_NOTHING or key.endswith("_initializer") or of_a_border:
                continue
            if key in ONLY:
                if value not in (*ONLY[key], None):
                    self.refuse(entry, f"{key} must be {ONLY[key][0]!r}; got {value!r}")
            elif word in known:
                arguments[word] = self.value(entry, key, value)
            elif value is not None:
                self.refuse(entry, f"minicnn has no argument {key}; got {value!r}"[:300])
        try:
            if cls == "Activation" and not isinstance(arguments.get("activation"), str | None):
                return arguments["activation"]
            if cls == "Activation":
                arguments["activation"] = arguments["activation"] or "linear"
            return kind(**arguments)
        except (TypeError, ValueError) as error:
            self.refuse(entry, str(error))

    def value(self, entry, key, value):
        if key == "activation":
            return self.activation(entry, value)
        if key.endswith(("_regularizer", "_constraint")) and isinstance(value, dict):
            return {"name": value.get("class_name"), "config": value.get("config") or {}}
        if key == "axis" and isinstance(value, list) and len(value) == 1:
            return value[0]
        return value

    def activation(self, entry, value):
        """A name, or an activation layer."""
        if isinstance(value, dict):
            if value.get("class_name") in ("ReLU", "LeakyReLU", "ELU", "Softmax", "Activation") and self.is_keras(
                value
            ):
                return self.made(entry | value, value["class_name"], value["config"])
            self.refuse(
                entry, f"activation must be one of Keras's; got {value.get('class_name')} {value.get('config')}"
            )
        if value == "leaky_relu":
            return layers.LeakyReLU(0.2)  # Keras's slope
        if value == "hard_sigmoid" and self.old:
            self.refuse(entry, "activation: the hard_sigmoid of Keras before 3 is another function, x / 5 + 1/2")
        if value is not None and value not in ACTIVATIONS:
            self.refuse(entry, f"activation: minicnn has no {value!r}")
        return value


class _Graph:
    """A functional model as ways through it.

    ``fork`` of a layer is the nearest one that all ways to it lead through.  Between the two stands what is joined, so
    that ways that meet have parted at one place; a layer that two ways need belongs to none.

    ``inputs``: {name: names of the layers that it reads}.  ``refuse``: a function (name, why) that raises.
    """

    def __init__(self, first, last, inputs, refuse, entries):
        self.first, self.last, self.inputs, self.refuse, self.entries = first, last, inputs, refuse, entries
        self.readers = {name: [] for name in inputs}
        for name, read in inputs.items():
            for one in read:
                self.readers[one].append(name)
        self.fork, self.depth, self.placed = {first: None}, {first: 0}, set()
        waiting, ready = {name: len(read) for name, read in inputs.items()}, [first]
        while ready:
            for name in self.readers[ready.pop()]:
                waiting[name] -= 1
                if not waiting[name]:
                    self.fork[name] = fork = self._common(inputs[name])
                    self.depth[name] = self.depth[fork] + 1
                    ready.append(name)
        needed, asked = {first, last}, [last]
        while asked:
            new = set(inputs[asked.pop()]) - needed
            needed |= new
            asked += new
        for name in inputs:
            if name not in self.fork:
                refuse(name, "there is no way from the input to it")
            if name not in needed:
                refuse(name, "there is no way from it to the output")

    def _common(self, names):
        """The nearest layer that all ways to all of these lead through."""
        found = names[0]
        for other in names[1:]:
            while found != other:
                if self.depth[found] < self.depth[other]:
                    found, other = other, found
                found = self.fork[found]
        return found

    def chain(self, start, end):
        """[(name, None)] of what stands between two layers, the end included; (name, ways) where several meet."""
        found = []
        while end != start:
            if end in self.placed:
                self.refuse(end, f"{' and '.join(self.readers[end])} follow it, on ways that meet others in between")
            self.placed.add(end)
            read, fork = self.inputs[end], self.fork[end]
            found.append((end, None if len(read) == 1 else [self.chain(fork, one) for one in read]))
            end = fork
        return found[::-1]


def _sum_of(ways):
    """A Residual: the longer of two ways is its body, so that one without layers is the shortcut."""
    total = ways[0]
    for other in ways[1:]:
        body, shortcut = (other, total) if len(other) > len(total) else (total, other)
        total = [layers.Residual(body or [layers.Activation("linear")], shortcut or None)]
    return total[0]


def _ends(value):
    """The names in ``input_layers``: ["input", 0, 0], or a list of such ones, or a dictionary."""
    if isinstance(value, dict):
        value = [*value.values()]
    return [value[0]] if value and isinstance(value[0], str) else [one[0] for one in value]


def _tensors(node):
    """(names of the layers whose outputs a call gets, its other arguments) of an entry of ``inbound_nodes``."""
    if isinstance(node, list):  # Keras 2: [[name, node, tensor, arguments], ...]
        words = {}
        for one in node:
            words |= one[3] if len(one) > 3 else {}
        return [one[0] for one in node], words
    found = []

    def collect(value):
        if isinstance(value, list):
            for one in value:
                collect(one)
        elif isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            found.append(value["config"]["keras_history"][0])
        elif value is not None:
            raise ValueError(f"it is called with what is no tensor: {value!r}"[:200])

    collect(node.get("args", []))
    return found, node.get("kwargs") or {}
