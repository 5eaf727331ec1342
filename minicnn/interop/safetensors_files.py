"""Weights in files of safetensors, which many programs read, and which hold nothing but arrays and text.

Needs safetensors, an extra: ``pip install "minicnn[interop]"``.
"""

import math
import os

import numpy as np

from minicnn import _check, _files
from minicnn.interop.errors import ConversionError

_DTYPES = {
    **{f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)},
    **{f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)},
    "BF16": "<u2",  # the upper half of a float32
    "BOOL": "?",
}
MOST_HEADER = 2**22  # bytes of names and shapes, of which the library makes 16 times as much memory
MOST_LISTED = 20  # names in an error


def save_safetensors(model, path):
    """Writes the arrays of ``model.state_dict()`` (parameters and moving statistics) by their names, "0.kernel", into a
    file of safetensors, which replaces an old one in one step.

    Its metadata: ``format`` "minicnn", the model's ``fingerprint`` and, where it has them, ``class_names`` as JSON.
    Layouts are minicnn's (docs/interop.md); for PyTorch's keys and layouts write the arrays of ``to_torch``.

    ImportError without safetensors; TypeError for what is no model, RuntimeError for one that is not built.
    """
    import json

    where = "interop.save_safetensors"
    library = _library(where)
    # The library takes the memory of an array from its first number on, whatever the strides say.
    arrays = {name: np.asarray(array, order="C") for name, array in built(where, model).state_dict().items()}
    metadata = {"format": "minicnn", "fingerprint": model.fingerprint()}
    if model.class_names is not None:
        metadata["class_names"] = json.dumps(model.class_names)
    _files.write_atomically(path, [library.numpy.save(arrays, metadata)])


def load_safetensors(model, path):
    """Takes the arrays of a file of ``save_safetensors``; what else the file says is left to its readers.

    All are checked before the first is written.  ConversionError, which lists them, for arrays that are missing or left
    over (``load_torch`` takes PyTorch's names), of another shape or dtype, and for a damaged file; ImportError without
    safetensors; RuntimeError for a model that is not built.
    """
    where = "interop.load_safetensors"
    arrays, targets = read(where, path), built(where, model).state_dict()
    require_none_left(
        f"{where}: {os.fspath(path)}",
        [name for name in targets if name not in arrays],
        [name for name in arrays if name not in targets],
        "interop.load_torch takes PyTorch's names, also from such a file",
    )
    commit(f"{where}: {os.fspath(path)}", model, arrays)


def read(where, path):
    """{name: array} of a file of safetensors, all in memory of their own; ConversionError if it is none.

    The order is that of the file, which sorts by dtype and name.
    """
    library, where = _library(where), f"{where}: {os.fspath(path)}"

    def refused(what):
        return ConversionError(f"{where} {what}")

    file, size = _files.open_regular(path, refused)
    with file:
        header = int.from_bytes(file.read(8), "little")
        if header > min(size, MOST_HEADER):
            raise refused(f"is damaged, or no file of safetensors: its header has {header} bytes")
        file.seek(0)
        data = file.read(size)
    try:
        entries = library.deserialize(data)
    except Exception as error:  # of a type of the library's own
        raise refused(f"is damaged, or no file of safetensors ({error})") from error
    found = {}
    for name, entry in entries:
        dtype, shape = entry["dtype"], tuple(entry["shape"])
        if dtype not in _DTYPES or math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize != len(entry["data"]):
            raise refused(f"must hold {name!r} as real numbers; got {dtype} {shape}")
        array = np.frombuffer(entry["data"], _DTYPES[dtype]).reshape(shape)
        found[name] = (array.astype("<u4") << 16).view("<f4") if dtype == "BF16" else array
    return found


def _library(where):
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(f'{where} needs safetensors: pip install "minicnn[interop]"') from error
    return safetensors


# ---- what all kinds of weights need ----


def built(where, model):
    """The model, built if it knows its shapes; TypeError if it is none, RuntimeError if it does not know them."""
    if not hasattr(model, "load_state_dict") or not hasattr(model, "layers"):
        raise TypeError(_check.message(where, "model must be a Sequential", _check.kind(model)))
    if not model.built:
        shape = model.get_config()["input_shape"]
        if shape is None:
            raise RuntimeError(f"{where}: the model needs its shapes first: build(input_shape), or an Input")
        model.build(shape)
    return model


def require_none_left(where, missing, unknown, fix=""):
    """ConversionError that lists both, unless there are none."""
    if missing or unknown:
        said = [f"{what}: {_listed(names)}" for what, names in (("missing", missing), ("left over", unknown)) if names]
        raise ConversionError(f"{where}: the arrays must be the model's; {'; '.join(said)}{f'. {fix}' if fix else ''}")


def _listed(names):
    names = [*names]
    more = f", ... ({len(names) - MOST_LISTED} more)" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


def commit(where, model, arrays):
    """Writes {name in ``state_dict``: array} into the model, all or none; ConversionError for what does not fit."""
    for name, array in arrays.items():
        if name.endswith("variance") and array.dtype.kind in "if" and (array < 0).any():
            raise ConversionError(f"{where}: {name} must be >= 0, of which a root is taken; got {array.min()}")
    try:
        model.load_state_dict(arrays, strict=False)
    except (TypeError, ValueError) as error:
        raise ConversionError(f"{where}: {str(error).partition(': ')[2]}") from error
