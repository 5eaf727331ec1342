"""Model files and checkpoints: one file, a .npz that ``numpy.load`` opens too, without pickle.

A file is a zip archive: ``model.json`` (architecture, integers of the layers' state, how the model was compiled), then
one ``NAME.npy`` for every array, under its name in ``state_dict``; a checkpoint has the optimiser's arrays besides,
under ``optimizer/``.  Nothing is compressed and all times are fixed, so the same model gives the same bytes.  The zip
comment holds the SHA-256 of everything before it.

Design: reading believes nothing.  The digest finds every accident.  Against files made to hurt, each later step takes
only what our own writer would have written: the archive, packed again from what was found in it, must have the same
digest; so must the JSON, character for character; and an array is accepted under the name, dtype and shape that the
architecture asks for while it is built (``_StoredArrays``), so that no file can declare more than it holds.
"""

import contextlib
import hashlib
import json
import math
import os
import platform
import re
import struct
import zlib

import numpy as np

from minicnn import _check, _files, layers, losses, optimizers
from minicnn.settings import is_ours, replaced

FORMAT = 1
_SEAL = b"minicnn sha256 "
_LARGEST = 2**32 - 2**16  # bytes; beyond it a zip archive needs another layout
_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
_VERSION, _FLAGS, _STORED, _TIME, _DATE = 20, 0x800, 0, 0, 0x21  # names in UTF-8; 1980-01-01, the first day of zip


class ModelFileError(ValueError):
    """A file is not a model file of minicnn, or a damaged one; the message names the file and says what is wrong.

    A file that is not there stays a FileNotFoundError, one that may not be read a PermissionError.
    """


class _Refused(Exception):
    """What is wrong with the file that is being read; ``_load`` adds its name."""


def save_model(model, path):
    """Writes ``model`` to ``path``: architecture, parameters, layer state and how it was compiled.

    The file appears whole or not at all (``write_atomically``).  Not kept: an optimiser or a loss of one's own (the
    model is then not compiled when it is loaded) and metrics of one's own.  RuntimeError before ``build``; TypeError if
    an argument of a layer cannot be written as JSON; ValueError if a parameter is NaN, so that a run which went wrong
    does not replace its last good file, and if the file, read again before it takes its place, would not give this
    model: a custom layer whose arguments do not make it again, or that has the name of one of minicnn's; OSError if the
    disk refuses.
    """
    _write(path, *_describe(model), model)


def load_model(path, custom_layers=None):
    """The model in the file ``path`` (a checkpoint will do): in eval mode, and compiled if it was when it was saved.

    ``custom_layers``: {"ClassName": class} for layers that are not minicnn's.  No code from the file is run.
    ModelFileError, which names the file, if it is anything but a whole model file; OSError if it cannot be read.
    """
    model, _ = _load(path, custom_layers)
    return model


def save_checkpoint(model, path, epoch, history):
    """Writes all that a run needs to go on bit for bit: what ``save_model`` writes, the optimiser's state, and

    - ``epoch``: how many epochs are done, to be the ``initial_epoch`` of the next ``fit``,
    - ``history``: a dictionary of lists of numbers, such as ``History.history``.

    Raises like ``save_model``; ValueError also if the model is not compiled, or with an optimiser or a loss of one's
    own, which no file can hold.
    """
    document, arrays = _describe(model)
    if document["compile"] is None:
        raise ValueError("save_checkpoint: the model must be compiled, with an optimiser and a loss of minicnn's")
    state = model.optimizer.get_state()
    document["checkpoint"] = {
        "epoch": int(epoch),
        "history": {name: [float(value) for value in values] for name, values in history.items()},
        "optimizer": {name: value for name, value in state.items() if not isinstance(value, np.ndarray)},
    }
    arrays |= {f"optimizer/{name}": value for name, value in state.items() if isinstance(value, np.ndarray)}
    _write(path, document, arrays, model)


def load_checkpoint(path, custom_layers=None):
    """(model, epoch, history) as ``save_checkpoint`` got them: the model compiled, the optimiser's state in place.

    Arguments and errors as for ``load_model``; ModelFileError also for a model file that is no checkpoint.
    """
    model, checkpoint = _load(path, custom_layers)
    if checkpoint is None:
        raise ModelFileError(f"{os.fspath(path)}: is a model without the state of its training, not a checkpoint")
    return model, checkpoint["epoch"], checkpoint["history"]


# ---- between the model and the members of the file ----


def _describe(model):
    """(document for model.json, arrays by name)."""
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
    return document, arrays


def _integer_states(model):
    """{"3.step": (the layer's state, "step")} for all of it that is not an array."""
    return {
        f"{number}.{name}": (layer.state, name)
        for number, layer in enumerate(model.layers)
        for name, value in layer.state.items()
        if not isinstance(value, np.ndarray)
    }


def _write(path, document, arrays, model=None):
    """The file, if it would give ``model`` again; without one whatever is given, for tests of reading."""
    if model is not None:
        _require_classes(model)
    members = _written(document, arrays)
    if model is not None:
        _require_the_same(model, members)
    write_atomically(path, _sealed(_pack(members)))


def _written(document, arrays):
    """{name: bytes} for the members of the file."""
    try:
        members = {"model.json": _json(document)}
    except (TypeError, ValueError) as error:
        raise TypeError(f"Sequential.save: the arguments of every layer must be ready for JSON; {error}") from error
    for name, array in arrays.items():
        if np.isnan(array).any():
            raise ValueError(f"Sequential.save: every parameter must be a number; got NaN in {name!r}")
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        members[f"{name}.npy"] = _npy_header(little.dtype, little.shape) + little.tobytes()
    return members


def _require_classes(model):
    """ValueError unless the names of classes are all that a file needs to know of the code."""
    kinds = {}
    for number, layer in enumerate(model.layers):
        kind, where = type(layer), f"Sequential.save: layer {number}"
        if not is_ours(kind) and kind.__name__ in layers.__all__:
            required = "a custom layer must not have the name of one of minicnn's, which a file would take it for"
            raise ValueError(_check.message(where, required, kind.__name__, "Rename the class"))
        if kinds.setdefault(kind.__name__, kind) is not kind:
            raise ValueError(_check.message(where, "two classes must not have the same name", kind.__name__))
    for what, thing in [*enumerate(model.layers), ("the optimizer", model.optimizer), ("loss", model.loss_function)]:
        if thing is not None and replaced(thing):
            where = f"Sequential.save: layer {what}" if isinstance(what, int) else f"Sequential.save: {what}"
            required = "no file can hold a method that was replaced in one object"
            raise ValueError(_check.message(where, required, replaced(thing)[0], "Define it in a subclass"))


def _require_the_same(model, members):
    """ValueError unless reading the members gives the model again, so that no good file is replaced by a bad one."""
    custom = {type(layer).__name__: type(layer) for layer in model.layers if not is_ours(type(layer))}
    try:
        text = members["model.json"]
        stored = _StoredArrays({name: data for name, data in members.items() if name != "model.json"})
        document = _document(text)
        again, _ = _describe(_rebuild(document, stored, custom))
        if _json({**again, "checkpoint": document["checkpoint"]}) != text:
            raise _Refused("describes another model: is each argument of a custom layer kept under its own name?")
    except _Refused as error:
        required = "reading the file must give this model again"
        got = _check.Shown(f"one that {error}")
        raise ValueError(_check.message("Sequential.save", required, got, "Nothing was written")) from error.__cause__


def _load(path, custom_layers):
    """(model, what save_checkpoint added or None)."""
    if custom_layers is not None and not isinstance(custom_layers, dict):
        required = 'custom_layers must be a dictionary {"ClassName": class}'
        raise TypeError(_check.message("Sequential.load", required, _check.kind(custom_layers)))
    try:
        stored = _StoredArrays(_unpack(_read(path)))
        document = _document(stored.members.pop("model.json", b""))
        model = _rebuild(document, stored, custom_layers)
        if stored.members:
            raise _Refused(f"has a member too many, {next(iter(stored.members))[:80]!r}")
    except _Refused as error:
        said = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", str(error))  # it may quote names out of the file
        raise ModelFileError(f"{os.fspath(path)}: {said}") from error.__cause__
    return model, document["checkpoint"]


def _rebuild(document, stored, custom_layers):
    from minicnn.model import Sequential  # which imports this module

    try:
        model = Sequential.from_config(document["model"], custom_layers)
        model._build(document["model"]["input_shape"], stored)
        _restore_state(model, document["state"], stored)
        if document["compile"] is not None:
            parts = document["compile"]
            chosen = optimizers.from_config(parts["optimizer"]), losses.from_config(parts["loss"]), parts["metrics"]
            model.compile(*chosen)
        if document["checkpoint"] is not None:
            _restore_training(model, document["checkpoint"], stored)
    except (_Refused, MemoryError):
        raise
    except Exception as error:  # the file chose all arguments: whatever they lead to is its fault
        raise _Refused(f"does not describe a model that can be rebuilt ({type(error).__name__}: {error})") from error
    return model


class _StoredArrays:
    """The ``rng`` that a model from a file is built with: ``Layer.add_param`` takes stored arrays, not random ones.

    Each array is compared with what the layer wants before anything is allocated: a file that declares a layer of 10^12
    units fails because it does not hold them.
    """

    def __init__(self, members):
        self.members, self.taken = members, set()

    def __getattr__(self, name):
        """What a generator has, for a layer of one's own that draws by itself; it gets its stored values afterwards."""
        return getattr(np.random.default_rng(0), name)

    def stored_array(self, name, shape, dtype):
        """The array ``name``, if it has exactly this shape and dtype and holds no NaN.

        A copy, for its bytes begin anywhere in the file: NumPy computes with such numbers through buffers of its own,
        and of some versions a process dies where there is no memory for one.
        """
        data = self.members.pop(f"{name}.npy", None)
        if data is None:
            raise _Refused(f"lacks the array {name!r}")
        self.taken.add(name)
        dtype = np.dtype(dtype).newbyteorder("<")
        header = _npy_header(dtype, shape)
        if len(data) != len(header) + math.prod(shape) * dtype.itemsize or data[: len(header)] != header:
            found = re.search(rb"'descr': '([^']*)'.*'shape': (\([^()]*\))", bytes(data[:200]))
            found = f"{found[1].decode('latin-1')} {found[2].decode('latin-1')}" if found else "something else"
            raise _Refused(f"must hold {name!r} as {dtype.str} {tuple(shape)}; got {found}, {len(data)} bytes")
        array = np.empty(shape, dtype)
        memoryview(array.reshape(-1).view(np.uint8))[:] = data[len(header) :]
        if np.isnan(array).any():
            raise _Refused(f"holds NaN in {name!r}")
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
            raise _Refused(f"must hold a list of floats as the history of {name[:80]!r}")
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
        raise _Refused(f"must hold {', '.join(wanted) or 'nothing'} as {what}; got {got[:200] or 'nothing'}")


def _whole_number(name, value):
    if type(value) is not int or not 0 <= value <= _check.MOST_STEPS:
        raise _Refused(f"must hold a whole number below 2^62 as {name!r}; got {str(value)[:80]}")
    return value


def _json(document):
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _document(text):
    """The content of model.json; its keys are known to be there, what their values are is not."""
    try:
        document = json.loads(bytes(text))
        canonical = _json(document) == text  # no key twice, for one
    except (ValueError, RecursionError) as error:
        raise _Refused(f"has a model.json that is not JSON ({error})") from error
    if not canonical or not isinstance(document, dict):
        raise _Refused("has a model.json that minicnn did not write")
    version = document.get("format")
    if type(version) is int and version > FORMAT:
        raise _Refused(f"has format {version}, and this minicnn reads only {FORMAT}: a newer minicnn is needed")
    if type(version) is not int or version != FORMAT:
        raise _Refused(f"has no format that minicnn knows; got {str(version)[:80]}")
    _same_names("model.json", document, ("format", "minicnn", "model", "state", "compile", "checkpoint"))
    return document


# ---- the container ----


def _npy_header(dtype, shape):
    """What begins a .npy file of format 1.0: numpy.lib.format describes it."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {tuple(shape)}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("ascii")


def _pack(members):
    """The bytes of a zip archive up to its comment, piece by piece, for {name: bytes}."""
    names = {name: name.encode("utf-8") for name in members}
    size = sum(76 + 2 * len(encoded) + len(members[name]) for name, encoded in names.items()) + 22
    if size > _LARGEST or len(members) > 2**16 - 2:
        raise ValueError(f"model files can have 4 GB and 65,534 arrays; got {size} bytes and {len(members) - 1} arrays")
    offset, directory = 0, b""
    for name, data in members.items():
        encoded = names[name]
        about = _FLAGS, _STORED, _TIME, _DATE, zlib.crc32(data), len(data), len(data), len(encoded), 0
        yield _LOCAL.pack(b"PK\3\4", _VERSION, *about) + encoded
        yield data
        directory += _CENTRAL.pack(b"PK\1\2", _VERSION, _VERSION, *about, 0, 0, 0, 0, offset) + encoded
        offset += _LOCAL.size + len(encoded) + len(data)
    comment = len(_SEAL) + 64
    yield directory + _END.pack(b"PK\5\6", 0, 0, len(members), len(members), len(directory), offset, comment)


def _digest(pieces):
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest().encode("ascii")


def _sealed(pieces):
    """The pieces, then the zip comment with their digest."""
    pieces = list(pieces)
    return [*pieces, _SEAL + _digest(pieces)]


def _read(path):
    """All bytes of a regular file; a pipe or a device could go on for ever."""
    file, size = _files.open_regular(path, _Refused)
    with file:
        if size > _LARGEST:
            raise _Refused("is not a minicnn model file: it has more than 4 GB")
        return file.read(size)


def _unpack(data):
    """{name: bytes} of a file that ``_pack`` and ``_sealed`` made, and of no other."""
    if not data:
        raise _Refused("is empty")
    if not data.startswith(b"PK\3\4"):
        raise _Refused("is not a minicnn model file")
    body, seal, stated = memoryview(data)[: -len(_SEAL) - 64], data[-len(_SEAL) - 64 : -64], data[-64:]
    if seal != _SEAL:
        raise _Refused("is truncated, or is not a minicnn model file")
    if _digest([body]) != stated:
        raise _Refused("is damaged: its bytes do not have the SHA-256 that it states")
    try:
        members = _members(body)
        canonical = _digest(_pack(members)) == stated
    except (ValueError, struct.error) as error:
        raise _Refused(f"is not a zip archive that minicnn wrote ({error})") from error
    if not canonical:
        raise _Refused("is not laid out as minicnn writes its files")
    return members


def _members(body):
    members, start = {}, 0
    while body[start : start + 4] == b"PK\3\4":
        *_, size, _, length, _ = _LOCAL.unpack_from(body, start)
        begin = start + _LOCAL.size + length
        members[str(body[start + _LOCAL.size : begin], "utf-8")] = body[begin : begin + size]
        start = begin + size
    return members


# ---- files that are whole or not there ----


def write_atomically(path, pieces):
    """Writes the bytes to ``path`` so that whoever looks sees the old file or the new one, whole, also after a crash.

    A temporary file in the same folder is written and brought to the disk, then takes the name (a link's target is
    replaced, not the link).  The permissions are those of the old file, or what the umask gives.  Whatever goes wrong,
    OSError or Ctrl-C, the old file stays; what a killed process left behind is removed by the next write.
    """
    mode = _files.mode_of(path)  # of the path as it was given: the real one has no slash at its end
    path = os.path.realpath(os.fsdecode(path))
    folder, name = os.path.split(path)
    prefix = f".{name[:32]}-{zlib.crc32(platform.node().encode()):08x}-"  # processes have numbers on one computer only
    _sweep(folder, prefix)
    temporary = os.path.join(folder, f"{prefix}{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            if mode is not None:
                os.chmod(temporary, mode)
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename == temporary:
            error.filename = path  # the name that the caller knows
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sweep(folder, prefix):
    """Removes temporary files of processes that are no more."""
    if os.name != "posix":  # there os.kill(pid, 0) would end the process
        return
    pattern = re.compile(re.escape(prefix) + r"(\d{1,9})-[0-9a-f]{8}\.tmp")
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if found := pattern.fullmatch(name):
                try:
                    os.kill(int(found[1]), 0)
                except ProcessLookupError:
                    os.unlink(os.path.join(folder, name))
                except OSError:
                    pass  # somebody else's, and alive
