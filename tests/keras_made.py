"""Files as Keras writes them, made without it; and what those of data/keras.zip hold."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np

from minicnn import layers

DATA = Path(__file__).parent / "data"
STORED = ("keras.keras", "keras.h5", "keras.weights.h5")


def stored(name, folder):
    """The path of a file that Keras wrote."""
    with zipfile.ZipFile(DATA / "keras.zip") as archive:
        return Path(archive.extract(name, folder))


def network():
    """The network of data/make_interop.py."""
    return [
        layers.Conv2D(3, 3, strides=2, padding="same", activation="relu"),
        layers.BatchNormalization(),
        layers.DepthwiseConv2D(3, depth_multiplier=2, activation=layers.LeakyReLU(0.2)),
        layers.Flatten(),
        layers.Dense(3, activation="softmax"),
    ]


def entry(cls, name=None, **config):
    """A layer of a configuration."""
    name = cls.lower() if name is None else name
    return {"module": "keras.layers", "class_name": cls, "config": {"name": name, **config}, "registered_name": None}


def sequential(*entries, shape=(4,)):
    first = entry("InputLayer", "input", batch_shape=[None, *shape])
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "net", "layers": [first, *entries]}}


def dense(name, units=4, **more):
    return entry("Dense", name, units=units, activation="linear", use_bias=False, **more)


def called(one, *inputs, **words):
    """A layer of a functional configuration, with what it is called with."""
    tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}} for name in inputs]
    node = {"args": [tensors if len(tensors) > 1 else tensors[0]], "kwargs": words} if inputs else None
    return one | {"name": one["config"]["name"], "inbound_nodes": [node] if node else []}


def functional(*entries, last, shape=(4,)):
    first = called(entry("InputLayer", "input", batch_shape=[None, *shape]))
    config = {"layers": [first, *entries], "input_layers": ["input", 0, 0], "output_layers": [last, 0, 0]}
    return {"module": "keras.src.models.functional", "class_name": "Functional", "config": {"name": "net"} | config}


def weights(groups, write=None):
    """The bytes of an HDF5 file of Keras 3: {"conv2d_1": [arrays]}, or {"conv2d/x": ...} for others."""
    import h5py

    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        layers_ = file.create_group("layers")
        for name, arrays in groups.items():
            own = layers_.create_group(f"{name}/vars")
            own.attrs["name"] = name
            for number, array in enumerate(arrays):
                own[str(number)] = array
        if write is not None:
            write(file)
    return data.getvalue()


def legacy(groups, config=None, version="2.15.0", write=None):
    """The bytes of an older file: {"conv2d": {"conv2d/kernel:0": array}}."""
    import h5py

    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        root = file
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
            file.attrs["keras_version"] = version
            root = file.create_group("model_weights")
        root.attrs["layer_names"] = [name.encode() for name in groups]
        for name, arrays in groups.items():
            own = root.create_group(name)
            own.attrs["weight_names"] = [key.encode() for key in arrays]
            for key, array in arrays.items():
                own[key] = array
        if write is not None:
            write(file)
    return data.getvalue()


def archive(config, data, version="3.15.1", **more):
    """The bytes of a file ``.keras``."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **more) as out:
        out.writestr("metadata.json", json.dumps({"keras_version": version}))
        out.writestr("config.json", config if isinstance(config, str | bytes) else json.dumps(config))
        out.writestr("model.weights.h5", data)
    return file.getvalue()


def kernel(number, *shape):
    """Another array for every number."""
    return np.random.default_rng(number).normal(size=shape or (4, 4)).astype(np.float32)
