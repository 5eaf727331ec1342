"""Models in Keras's files, ``.keras`` and ``.h5``: their configuration as layers of minicnn's, and their weights.

Nothing in a file is run: classes are looked up by their names in a list, and what the list does not have is refused.
"""

import inspect
import json

import numpy as np

from minicnn import _check, layers
from minicnn.interop.keras_weights import assigned, opened
from minicnn.layer import Source
from minicnn.layers.activation import NAMES as ACTIVATIONS
from minicnn.model import Sequential
from minicnn.tree import walk

MOST_INPUTS = 2**26  # numbers in a sample
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
OTHER_WORDS = {"LeakyReLU": {"alpha": "slope", "negative_slope": "slope"}}


def from_keras(path):
    """The model in a file of Keras's, with its weights: ``.keras``, or ``.h5`` that ``model.save`` wrote.

    A Sequential, or a functional model whose layers form a chain; models in it become ``layers.Chain``.  Layers have
    their names, what is not trainable is frozen.  Left out, since no output depends on them: initialisers, the
    optimiser, loss and metrics (compile the model), and their state.

    ConversionError, which names the layer and the argument, for what minicnn has no equal for: other layers (``Lambda``
    and custom ones would need their code), branches, ``data_format="channels_first"``, float16; for samples whose
    shape is not known; and for a file that is damaged, of another kind, or has weights alone.  ImportError without
    h5py.
    """
    where = "interop.from_keras"
    with opened(where, path) as file:
        if file.text is None:
            raise file.refused("has weights alone: make the model, and take them by load_keras_weights")
        reader = _Reader(file)
        chain = reader.model(json.loads(file.text))
        if reader.shape is None or None in reader.shape:
            fix = "Make the model for a shape, and take the weights by load_keras_weights"
            raise file.refused(f"does not say the shape of a sample: got {reader.shape}. {fix}")
        shape = _check.sample_shape(where, reader.shape)
        if np.prod(shape, dtype=float) > MOST_INPUTS:
            raise file.refused(f"has samples of more than {MOST_INPUTS} numbers: {shape}")
        arrays = assigned(file, chain, reader.stems)
        model = Sequential(chain, dtype=reader.dtype or "float32", name=reader.name)
        try:
            model.build(shape, _Stored(file, arrays))
        except (ValueError, TypeError) as error:
            raise file.refused(f"has a model that cannot be built here: {error}") from error
        names = {id(layer): name for name, layer in walk(model.layers)}
        states = {
            f"{names[id(layer)]}.{key}": file.numbers(dataset, layer.state[key].shape, f"{key} of {_title(layer)}")
            for (layer, key), dataset in arrays.items()
            if key in layer.state
        }
        model.load_state_dict(states, strict=False)
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
        self.file, self.shape, self.dtype, self.name, self.stems = file, None, None, None, {}
        self.old = file.version[:2] in ("1.", "2.")
        self.names = set()

    def refuse(self, entry, why):
        name = entry["config"].get("name") if isinstance(entry.get("config"), dict) else None
        raise self.file.refused(f"has layer {name or '?'} ({entry.get('class_name')}): {why}")

    def model(self, entry, outer=True):
        """The layers of a model, as a list."""
        config = entry["config"]
        if entry["class_name"] not in MODELS or not self.is_keras(entry):
            self.refuse(entry, "a model of another class would need its code")
        if isinstance(config, list):  # of the first Keras
            config = {"layers": config}
        entries = config["layers"] if entry["class_name"] == "Sequential" else self.in_order(entry, config)
        if outer:
            name = config.get("name")
            self.name = name if isinstance(name, str) and name.strip() and name.isprintable() else None
            for one in (config.get("build_input_shape"), entry.get("build_config", {}).get("input_shape")):
                self.shape = one[1:] if self.shape is None and one else self.shape
        found = []
        for number, one in enumerate(entries):
            inner = one["config"]
            given = next((inner[key] for key in INPUT_SHAPES if isinstance(inner, dict) and inner.get(key)), None)
            if outer and not number and given is not None:
                self.shape = given[1:]
            if one["class_name"] != "InputLayer":
                found.append(self.layer(one))
        return found

    def in_order(self, entry, config):
        """The layers of a functional model from the input on; ConversionError unless they form a chain."""
        by_name, follows = {one["name"]: one for one in config["layers"]}, {}
        first, last = (_ends(config[key]) for key in ("input_layers", "output_layers"))
        for ends, what in ((first, "inputs"), (last, "outputs")):
            if len(ends) != 1:
                self.refuse(entry, f"a chain has one input and one output; it has {len(ends)} {what}")
        for name, one in by_name.items():
            nodes = one.get("inbound_nodes") or []
            if len(nodes) > 1:
                self.refuse(one, "it is called more than once")
            tensors, words = _tensors(nodes[0]) if nodes else ([], {})
            # Keras 3 writes down the default of a layer's call, and overrides it in fit and predict.
            default = (
                (one["class_name"].startswith(("Random", "Resizing")), False)
                if nodes and isinstance(nodes[0], dict)
                else ()
            )
            words = {
                key: value
                for key, value in words.items()
                if value is not None and not (key == "training" and value in default)
            }
            if words:
                self.refuse(one, f"it is called with {', '.join(f'{key}={value!r}' for key, value in words.items())}")
            if len(tensors) != (name != first[0]):
                self.refuse(one, f"it has {len(tensors)} inputs: the model is no chain")
            for tensor in tensors:
                if tensor in follows:
                    self.refuse(by_name[tensor], f"{follows[tensor]} and {name} follow it: the model is no chain")
                follows[tensor] = name
        chain = [first[0]]
        while chain[-1] in follows:
            chain.append(follows[chain[-1]])
        if len(chain) != len(by_name) or chain[-1] != last[0]:
            self.refuse(entry, "its layers form no chain from the input to the output")
        return [by_name[name] for name in chain]

    @staticmethod
    def is_keras(entry):
        module, name = entry.get("module"), entry.get("registered_name")
        parts = str(module or "keras").split(".")
        return ("keras" in parts[:2] or parts[0] == "tf_keras") and name in (None, entry["class_name"])

    def layer(self, entry):
        cls, config = entry["class_name"], entry["config"]
        if cls in MODELS:
            layer = layers.Chain(self.model(entry, outer=False))
            self.stems[id(layer)] = cls.lower()
        elif cls == "Lambda" or not self.is_keras(entry):
            self.refuse(entry, "it would need code, and none is run from a file")
        else:
            self.take_dtype(entry, config.get("dtype"))
            layer = self.made(entry, cls, config)
        name = config.get("name")
        if isinstance(name, str) and name not in self.names:
            try:
                layer.name = name
            except ValueError:
                name = None  # a name that paths begin with
            self.names.add(name)
        if config.get("trainable") is False:
            layer.freeze()
        return layer

    def take_dtype(self, entry, dtype):
        if isinstance(dtype, dict):
            dtype = dtype.get("config", {}).get("name")
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
            raise ValueError(f"an argument of a call that is no tensor: {value!r}"[:200])

    collect(node.get("args", []))
    return found, node.get("kwargs") or {}
