"""The model that a run trains: its network, compiled as the settings say."""

import json
import math

from minicnn import _files, callbacks, datasets, layers, models, networks, optimizers, schedules
from minicnn.cli import augment, defaults
from minicnn.layer import to_config
from minicnn.model import Sequential
from minicnn.tree import walk

LOSS = "sparse_categorical_crossentropy"
_MOST_TEXT = 2**24  # bytes of a description of a network


def model(rate, seed, settings, data, samples=None, text=None):
    """The network with the dropout rate ``rate`` (None: its own), compiled for training on so many samples of ``data``
    (None: all of its training part).

    ``text``: the description of a network of one's own.
    """
    samples = data.counts()["training"] if samples is None else samples
    made = (_named if text is None else _own)(rate, seed, settings, data, text)
    binary = made.output_shape == (1,)
    loss = "binary_crossentropy" if binary else LOSS
    made.compile(optimizer(settings, samples), loss, ["accuracy"])
    made.class_names, made.image_fit = data.class_names, settings["fit"]
    return made


def _named(rate, seed, settings, data, _):
    name, classes = settings["model"], len(data.class_names)
    rate = {"dropout": rate} if name in defaults.WITH_DROPOUT else {}
    chain = networks.NETWORKS[name](data.shape, classes, **rate)
    front = augment.layers_of(settings, data.shape, 255.0 if data.bytes else 1.0)
    made = Sequential([*front, *([layers.Rescaling(1 / 255)] if data.bytes else []), *chain], seed=seed)
    made.build(data.shape)
    return made


def _own(rate, seed, settings, data, text):
    path = settings["model"]
    described = _described(path, text)
    wanted = described["config"]["input_shape"]
    if wanted is not None and tuple(wanted) != data.shape:
        raise ValueError(f"{path}: is a network for images of shape {tuple(wanted)}; the data have {data.shape}")
    described["config"]["seed"] = seed
    try:
        made = models.model_from_json(json.dumps(described))
        rescales = data.bytes and isinstance(made.layers[0], layers.Rescaling)
        front = augment.layers_of(settings, data.shape, 255.0 if rescales else 1.0)
        if front:
            described["config"]["layers"][:0] = map(to_config, front)
            made = models.model_from_json(json.dumps(described))
        if rate == 0:
            for layer in dropout_layers(made):
                layer.rate = 0.0
        made.build(data.shape)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    classes = len(data.class_names)
    if made.output_shape != (classes,) and not (classes == 2 and made.output_shape == (1,)):
        required = f"the network must have {classes} outputs, one for each class of {data.name}"
        raise ValueError(f"{path}: {required}; got outputs of shape {made.output_shape}")
    if made.class_names not in (None, data.class_names):
        raise ValueError(f"{path}: is a network for the classes {made.class_names}; the data have {data.class_names}")
    return made


def _described(path, text):
    """What the text says, as far as it is looked at here."""
    required = f"{path}: must be what Sequential.to_json wrote"
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{required}; it is not JSON ({error})") from None
    config = found.get("config") if isinstance(found, dict) else None
    shape = config.get("input_shape", ()) if isinstance(config, dict) else ()
    if shape is not None and not (isinstance(shape, list) and shape and all(type(axis) is int for axis in shape)):
        raise ValueError(f"{required}; got {text[:60]!r}")
    return found


def read_text(path):
    """The text of a description of a network."""
    file, size = _files.open_regular(path, lambda what: ValueError(f"{path}: {what}"))
    with file:
        if size > _MOST_TEXT:
            raise ValueError(f"{path}: is too large for the text of Sequential.to_json")
        try:
            return file.read(size).decode()
        except UnicodeDecodeError:
            raise ValueError(f"{path}: must be what Sequential.to_json wrote; it is not text") from None


def said_of(path, text):
    """(input shape or None, seed) that a description says; the seed is 0 where it says nothing that is one."""
    config = _described(path, text)["config"]
    seed = config.get("seed")
    return config["input_shape"], seed if type(seed) is int and 0 <= seed < 2**64 else 0


def dropout_layers(made):
    """The layers that drop at a rate."""
    return [layer for _, layer in walk(made.layers) if hasattr(layer, "freeze_mask") and hasattr(layer, "rate")]


# ---- how it is trained ----


def optimizer(settings, samples):
    """The optimiser with its schedule, for training on so many samples."""
    rate, steps = settings["lr"], len(datasets.slices(samples, settings["batch_size"]))
    total = steps * settings["epochs"]
    if settings["schedule"] == "exponential":
        rate = schedules.ExponentialDecay(rate, steps, defaults.DECAYS.get(settings["data"], defaults.DECAY))
    elif settings["schedule"] == "cosine":
        rate = schedules.CosineDecay(rate, total)
    elif settings["schedule"] == "step":
        first = math.ceil(total / 2)
        ends = [first, max(first + 1, math.ceil(3 * total / 4))]
        rate = schedules.PiecewiseConstantDecay(ends, [rate, rate / 10, rate / 100])
    elif settings["schedule"] == "one-cycle":
        rate = schedules.OneCycleLR(rate, total)
    momentum = {"momentum": settings["momentum"]} if settings["optimizer"] == "sgd" else {}
    return type(optimizers.get(settings["optimizer"]))(learning_rate=rate, **momentum)


def watching(settings, validates):
    """The callbacks that watch the loss."""
    found = []
    if settings["schedule"] == "plateau":
        monitor = "val_loss" if validates else "loss"
        found.append(callbacks.ReduceLROnPlateau(monitor, 0.5, 5, verbose=1))
    if settings["early_stopping"] is not None:
        patience = settings["early_stopping"]
        found.append(callbacks.EarlyStopping(patience=patience, restore_best_weights=True, verbose=1))
    return found


def class_weight(settings, data):
    """{class: weight} by which all classes that there are count the same in the training part, or None."""
    if settings["class_weight"] is None:
        return None
    counts = {name: parts["training"] for name, parts in data.counts_of_classes().items()}
    there = [number for number in counts.values() if number]
    return {k: sum(there) / (len(there) * number) for k, number in enumerate(counts.values()) if number}


def as_inputs(made, x, settings):
    """Images as the model is to be trained on them: bytes only where its network begins by rescaling, behind what
    augments, else numbers in [0, 1]."""
    if x.dtype.name != "uint8" or isinstance(_first(made, settings), layers.Rescaling):
        return x
    return x.astype("float32") / 255


def adapt(made, x, settings):
    """Adapts the Normalization with which a network may begin to the images that it is going to be trained on."""
    first = _first(made, settings)
    if isinstance(first, layers.Normalization) and first.mean is None:
        first.adapt(x)


def _first(made, settings):
    """The first layer of the network, behind what augments."""
    return made.layers[len(augment.layers_of(settings))]
