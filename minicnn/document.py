"""What a model file says: the document and the arrays that describe a model, and the model that they describe.

A file is a zip archive (archive.py): ``model.json`` (architecture, integers of the layers' state, how the model was
compiled), then one ``NAME.npy`` for every array, under its name in ``state_dict``; a checkpoint has the optimiser's
arrays as well, under ``optimizer/``; one of weights alone has ``weights.json`` in the place of ``model.json``, and the
state of a run (resume.py) ``run.json``.  The same model gives the same bytes.

Design: reading trusts nothing.  Like the archive, the JSON must be what our own writer would have written, character
for character; and an array is accepted under the name, dtype and shape that the architecture asks for while it is built
(``_StoredArrays``), so that no file can declare more than it holds.
"""

import json
import math
import os
import re

import numpy as np

from minicnn import _check, archive, layers, losses, metrics, optimizers
from minicnn._files import require_own_name, write_atomically
from minicnn.archive import Refused
from minicnn.layer import Layer, Source, path_of
from minicnn.settings import is_ours, replaced, settings_of
from minicnn.tree import named_values, walk

FORMAT = 1


class ModelFileError(ValueError):
    """A file is not a model file of minicnn, or a damaged one; the message names the file and says what is wrong.

    A file that is not there stays a FileNotFoundError, one that may not be read a PermissionError.
    """


# ---- between the model and the members of the file ----


def describe(model, epoch=None, history=None):
    """(document for model.json, arrays by name); with an epoch and a history, those of a checkpoint."""
    from minicnn import __version__

    arrays = model.state_dict()
    states = _integer_states(model)
    document = {
        "format": FORMAT,
        "minicnn": __version__,
        "model": model.get_config(),
        "state": {key: int(state[name]) for key, (state, name) in states.items()},
        "compile": model.compile_config(),
        "checkpoint": None,
    }
    if epoch is not None:
        if document["compile"] is None:
            raise ValueError("save_checkpoint: the model must be compiled, with an optimiser and a loss of minicnn's")
        state = model.optimizer.get_state()
        document["checkpoint"] = {
            "epoch": int(epoch),
            "history": {name: [float(value) for value in values] for name, values in history.items()},
            "optimizer": {name: value for name, value in state.items() if not isinstance(value, np.ndarray)},
        }
        arrays |= {f"optimizer/{name}": value for name, value in state.items() if isinstance(value, np.ndarray)}
    return document, arrays


def _integer_states(model):
    """{"3.step": (the layer's state, "step")} for all of it that is not an array."""
    return {
        name: (layer.state, key)
        for name, layer, key in named_values(walk(model.layers), "state")
        if not isinstance(layer.state[key], np.ndarray)
    }


def write(path, document, arrays, model=None):
    """Writes the file if reading it would give ``model`` again; without a model it writes what it is given (tests).

    ValueError for a name that says another format.
    """
    require_own_name("Sequential.save", path)
    if model is not None:
        _require_classes(model)
    members = _written(document, arrays)
    if model is not None:
        _require_the_same(model, members)
    write_atomically(path, archive.sealed(archive.pack(members)))


def _written(document, arrays):
    """{name: bytes} for the members of the file."""
    try:
        members = {"model.json": to_json(document)}
    except (TypeError, ValueError) as error:
        raise TypeError(f"Sequential.save: the arguments of every layer must be ready for JSON; {error}") from error
    return members | _array_members("Sequential.save", arrays)


def _array_members(where, arrays):
    members = {}
    for name, array in arrays.items():
        if np.isnan(array).any():
            raise ValueError(f"{where}: every parameter must be a number; got NaN in {name!r}")
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        members[f"{name}.npy"] = archive.npy_header(little.dtype, little.shape) + little.tobytes()
    return members


def write_weights(path, arrays):
    """Writes a file of weights alone: ``weights.json``, which says so, and the arrays."""
    from minicnn import __version__

    require_own_name("Sequential.save_weights", path)
    about = {"format": FORMAT, "minicnn": __version__, "holds": "weights"}
    members = {"weights.json": to_json(about)} | _array_members("Sequential.save_weights", arrays)
    write_atomically(path, archive.sealed(archive.pack(members)))


def read_weights(path, wanted):
    """{name: array} out of a file of ``write_weights`` or ``write``, for {name: array} of a model; ModelFileError."""
    try:
        stored = _StoredArrays(archive.unpack(archive.read(path)))
        text = stored.members.pop("weights.json", None)
        if text is not None:
            about = _canonical(text, "weights.json")
            _require_format(about)
            _same_names("weights.json", about, ("format", "minicnn", "holds"))
        elif "model.json" not in stored.members:
            raise Refused("has neither weights nor a model in it")
        found = {name: stored.stored_array(name, array.shape, array.dtype) for name, array in wanted.items()}
        rest = [name for name in stored.members if name != "model.json" and not name.startswith("optimizer/")]
        if rest:
            raise Refused(f"has an array that this model has not, {rest[0].removesuffix('.npy')[:80]!r}")
    except Refused as error:
        raise _model_file_error(path, error) from error.__cause__
    return found


# What the state of a run says: resume.py knows what each of them means.
RUN = ("about", "epoch", "step", "steps", "stopped", "logs", "means", "history", "callbacks", "model", "counts",
       "settings", "optimizer", "seen")  # fmt: skip


def write_run(path, state):
    """Writes the state of a run, {name: value} for the names ``RUN``: None, True, False, numbers, text and arrays, and
    lists and dictionaries of them.  Arrays may hold NaN.  TypeError, which says where, for anything else."""
    from minicnn import __version__

    arrays = {}
    about = {"format": FORMAT, "minicnn": __version__, "holds": "run", "state": _encoded(state, "state", arrays)}
    members = {"run.json": to_json(about)}
    for name, array in arrays.items():
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        members[f"{name}.npy"] = archive.npy_header(little.dtype, little.shape) + little.tobytes()
    write_atomically(path, archive.sealed(archive.pack(members)))


def require_writable_run(state):
    """TypeError for what ``write_run`` would refuse."""
    _encoded(state, "state", {})


def _encoded(value, place, arrays):
    """The value for JSON, with the names of ``arrays`` in their places; lists are lists, dictionaries {"dict": ...}."""
    value = _check.plain(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray) and _ARRAY.fullmatch(_little(value.dtype)):
        name = place if place not in arrays else f"{place}-{len(arrays)}"
        arrays[name] = value
        return {"array": [name, _little(value.dtype), list(value.shape)]}
    if isinstance(value, list | tuple):
        return [_encoded(one, f"{place}/{number}", arrays) for number, one in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _encoded(one, f"{place}/{key}", arrays) for key, one in value.items()}}
    required = f"{place} must be None, numbers, text, arrays of numbers, or lists and dictionaries of them by text"
    raise TypeError(_check.message("BackupAndRestore", required, _check.kind(value)))


_ARRAY = re.compile(r"[<|](b1|[iu][1248]|f[248])")


def _little(dtype):
    return dtype.newbyteorder("<").str


def read_run(path):
    """The state in a file of ``write_run``; lists in the place of tuples.  ModelFileError for any other file."""
    try:
        stored = _StoredArrays(archive.unpack(archive.read(path)))
        text = stored.members.pop("run.json", None)
        if text is None:
            raise Refused("is not the state of a training run")
        about = _canonical(text, "run.json")
        _require_format(about)
        _same_names("run.json", about, ("format", "minicnn", "holds", "state"))
        try:
            state = _decoded(about["state"], stored)
        except RecursionError as error:
            raise Refused(f"has a run.json that minicnn did not write ({error})") from error
        _same_names("the state of a run", state, RUN)
        for name in ("epoch", "step", "steps"):
            _whole_number(name, state[name])
        if stored.members:
            raise Refused(f"has a member too many, {next(iter(stored.members))[:80]!r}")
    except Refused as error:
        raise _model_file_error(path, error) from error.__cause__
    return state


def _decoded(value, stored):
    if isinstance(value, list):
        return [_decoded(one, stored) for one in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and isinstance(value.get("dict"), dict):
        return {key: _decoded(one, stored) for key, one in value["dict"].items()}
    match value.get("array"):
        case [str(name), str(dtype), list(shape)] if _ARRAY.fullmatch(dtype) and all(
            type(axis) is int and axis >= 0 for axis in shape
        ):
            return stored.stored_array(name, tuple(shape), np.dtype(dtype), nan=True)
    raise Refused(f"has a run.json that minicnn did not write; got {str(value)[:80]}")


def _require_classes(model):
    """ValueError unless the names of classes are all that a file needs to know of the code."""
    kinds = {}
    for path, layer in walk(model.layers):
        kind, where = type(layer), f"Sequential.save: layer {path}"
        if not is_ours(kind) and kind.__name__ in layers.__all__:
            required = "a custom layer must not have the name of one of minicnn's, which a file would take it for"
            raise ValueError(_check.message(where, required, kind.__name__, "Rename the class"))
        if kinds.setdefault(kind.__name__, kind) is not kind:
            raise ValueError(_check.message(where, "two classes must not have the same name", kind.__name__))
    things = {f"layer {path}": layer for path, layer in walk(model.layers)}
    for what, thing in {**things, "the optimizer": model.optimizer, "loss": model.loss_function}.items():
        if thing is not None and replaced(thing):
            where = f"Sequential.save: {what}"
            required = "no file can hold a method that was replaced in one object"
            raise ValueError(_check.message(where, required, replaced(thing)[0], "Define it in a subclass"))


def _require_no_other_settings(model, again):
    """ValueError for a setting of a custom layer that is none of its constructor's arguments: it would be lost."""
    of_all = set(settings_of(Layer))
    for (path, mine), (_, its) in zip(walk(model.layers), walk(again.layers), strict=True):
        for name in settings_of(type(mine)) if not is_ours(type(mine)) else ():
            shown = [re.sub(" at 0x[0-9a-f]+", "", repr(getattr(layer, name, None))) for layer in (mine, its)]
            if name not in of_all and shown[0] != shown[1]:
                where, kind = f"Sequential.save: layer {path}: {type(mine).__name__}", type(mine).__name__
                required = f"{name} was set, and is no argument of {kind}'s constructor, of which a file is made"
                fix = f"Take it as an argument, or keep what the constructor makes it, {getattr(its, name, None)!r}"
                raise ValueError(_check.message(where, required, getattr(mine, name, None), fix))


def _require_the_same(model, members):
    """ValueError unless reading the members gives the model again, so that no good file is replaced by a bad one."""
    custom = {type(layer).__name__: type(layer) for _, layer in walk(model.layers) if not is_ours(type(layer))}
    try:
        text = members["model.json"]
        stored = _StoredArrays({name: data for name, data in members.items() if name != "model.json"})
        document = _document(text)
        rebuilt = _rebuild(type(model), document, stored, custom)
        again, _ = describe(rebuilt)
        if to_json({**again, "checkpoint": document["checkpoint"]}) != text:
            raise Refused("describes another model: is each argument of a custom layer kept under its own name?")
    except Refused as error:
        required = "reading the file must give this model again"
        got = _check.Shown(f"one that {error}")
        raise ValueError(_check.message("Sequential.save", required, got, "Nothing was written")) from error.__cause__
    _require_no_other_settings(model, rebuilt)


def read(path, kind, custom_layers=None):
    """(the model in a file, of the class ``kind``, what ``save_checkpoint`` added or None); raises ModelFileError."""
    if custom_layers is not None and not isinstance(custom_layers, dict):
        required = 'custom_layers must be a dictionary {"ClassName": class}'
        raise TypeError(_check.message("Sequential.load", required, _check.kind(custom_layers)))
    try:
        stored = _StoredArrays(archive.unpack(archive.read(path)))
        if "weights.json" in stored.members:
            raise Refused("holds weights alone: make the model, and take them by load_weights")
        if "run.json" in stored.members:
            raise Refused("holds the state of a training run, which goes on from it with callbacks.BackupAndRestore")
        document = _document(stored.members.pop("model.json", b""))
        model = _rebuild(kind, document, stored, custom_layers)
        if stored.members:
            raise Refused(f"has a member too many, {next(iter(stored.members))[:80]!r}")
    except Refused as error:
        raise _model_file_error(path, error) from error.__cause__
    return model, document["checkpoint"]


def _model_file_error(path, error):
    said = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", str(error))  # it may quote names out of the file
    return ModelFileError(f"{os.fspath(path)}: {said}")


def _rebuild(kind, document, stored, custom_layers):
    try:
        model = kind.from_config(document["model"], custom_layers)
        model.build(document["model"]["input_shape"], stored)
        _restore_state(model, document["state"], stored)
        if document["compile"] is not None:
            parts = document["compile"]
            chosen = optimizers.from_config(parts["optimizer"]), losses.from_config(parts["loss"])
            model.compile(*chosen, [metrics.from_config(one) for one in parts["metrics"]])
        if document["checkpoint"] is not None:
            _restore_training(model, document["checkpoint"], stored)
    except (Refused, MemoryError):
        raise
    except Exception as error:  # of any kind: the file chose all arguments
        raise Refused(f"does not describe a model that can be rebuilt ({type(error).__name__}: {error})") from error
    return model


class _StoredArrays(Source):
    """The source of a model that is built from a file: ``Layer.add_param`` takes stored arrays, not drawn ones.

    Each array is compared with what the layer wants before anything is allocated: a file that declares a layer of 10^12
    units fails because it does not hold them.
    """

    def __init__(self, members):
        self.members, self.taken = members, set()

    def values(self, layer, name, shape, initializer, rng):
        """The array of that parameter.  One whose layer has no place yet, because the ``build`` of another layer has
        just made it, starts with drawn values and gets the stored ones afterwards; so do parameters that a custom layer
        makes without ``add_param``."""
        path = path_of(layer)
        if path is None:
            return super().values(layer, name, shape, initializer, rng)
        return self.stored_array(f"{path}.{name}", shape, layer.dtype)

    def stored_array(self, name, shape, dtype, nan=False):
        """The array ``name``, if it has exactly this shape and dtype and holds no NaN, unless ``nan`` allows it.

        A copy, since its bytes may begin anywhere in the file: NumPy computes with unaligned numbers through buffers,
        and with some versions of NumPy the process dies where there is no memory for one.
        """
        data = self.members.pop(f"{name}.npy", None)
        if data is None:
            raise Refused(f"lacks the array {name!r}")
        self.taken.add(name)
        dtype = np.dtype(dtype).newbyteorder("<")
        header = archive.npy_header(dtype, shape)
        if len(data) != len(header) + math.prod(shape) * dtype.itemsize or data[: len(header)] != header:
            found = re.search(rb"'descr': '([^']*)'.*'shape': (\([^()]*\))", bytes(data[:200]))
            found = f"{found[1].decode('latin-1')} {found[2].decode('latin-1')}" if found else "something else"
            raise Refused(f"must hold {name!r} as {dtype.str} {tuple(shape)}; got {found}, {len(data)} bytes")
        array = np.empty(shape, dtype)
        memoryview(array.reshape(-1).view(np.uint8))[:] = data[len(header) :]
        if not nan and np.isnan(array).any():
            raise Refused(f"holds NaN in {name!r}")
        return array


def _restore_state(model, integers, stored):
    """The layers' integers and moving statistics, and parameters that a layer made without ``add_param``."""
    wanted = _integer_states(model)
    _same_names("the state of the layers", integers, wanted)
    for key, (state, name) in wanted.items():
        state[name] = _whole_number(key, integers[key])
    rest = {name: array for name, array in model.state_dict().items() if name not in stored.taken}
    model.load_state_dict({n: stored.stored_array(n, a.shape, a.dtype) for n, a in rest.items()}, strict=False)


def _restore_training(model, checkpoint, stored):
    _same_names("the checkpoint", checkpoint, ("epoch", "history", "optimizer"))
    _whole_number("epoch", checkpoint["epoch"])
    for name, values in checkpoint["history"].items():
        if not isinstance(values, list) or not all(type(value) is float for value in values):
            raise Refused(f"must hold a list of floats as the history of {name[:80]!r}")
    now, state = model.optimizer.get_state(), {}
    integers = [name for name, value in now.items() if not isinstance(value, np.ndarray)]
    _same_names("the state of the optimiser", checkpoint["optimizer"], integers)
    for name, value in now.items():
        if name in integers:
            state[name] = _whole_number(name, checkpoint["optimizer"][name])
        else:
            state[name] = stored.stored_array(f"optimizer/{name}", value.shape, value.dtype)
    model.optimizer.set_state(state)


def _same_names(what, found, wanted):
    if not isinstance(found, dict) or set(found) != set(wanted):
        got = ", ".join(found) if isinstance(found, dict) else type(found).__name__
        raise Refused(f"must hold {', '.join(wanted) or 'nothing'} as {what}; got {got[:200] or 'nothing'}")


def _whole_number(name, value):
    if type(value) is not int or not 0 <= value <= _check.MOST_STEPS:
        raise Refused(f"must hold a whole number below 2^62 as {name!r}; got {str(value)[:80]}")
    return value


def to_json(document):
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _document(text):
    """The content of model.json; its keys are known to be there, what their values are is not."""
    document = _canonical(text, "model.json")
    _require_format(document)
    _same_names("model.json", document, ("format", "minicnn", "model", "state", "compile", "checkpoint"))
    return document


def _canonical(text, name):
    try:
        document = json.loads(bytes(text))
        canonical = to_json(document) == text  # no key twice, for one
    except (ValueError, RecursionError) as error:
        raise Refused(f"has a {name} that is not JSON ({error})") from error
    if not canonical or not isinstance(document, dict):
        raise Refused(f"has a {name} that minicnn did not write")
    return document


def _require_format(document):
    version = document.get("format")
    if type(version) is int and version > FORMAT:
        raise Refused(f"has format {version}, and this minicnn reads only {FORMAT}: a newer minicnn is needed")
    if type(version) is not int or version != FORMAT:
        raise Refused(f"has no format that minicnn knows; got {str(version)[:80]}")
