"""What is in an ONNX file: nodes and arrays, checked before anything is allocated or believed.

The operators' schemas, of the package ``onnx``, say which attributes, inputs and outputs a node may have.
"""

import math
import os
import stat

import numpy as np

from minicnn import _check, _files
from minicnn.interop.errors import ConversionError

MOST_BYTES = 2**31 - 1  # of a protobuf
MOST_NODES = 10_000  # each takes some kB, as a layer, for a few bytes in the file
OLDEST = 7  # the opset that broadcasts as NumPy does

DTYPES = {  # TensorProto.DataType: what NumPy calls it, where its numbers lie unless they are raw
    1: ("<f4", "float_data"),
    2: ("u1", "int32_data"),
    3: ("i1", "int32_data"),
    4: ("<u2", "int32_data"),
    5: ("<i2", "int32_data"),
    6: ("<i4", "int32_data"),
    7: ("<i8", "int64_data"),
    9: ("?", "int32_data"),
    10: ("<f2", "int32_data"),
    11: ("<f8", "double_data"),
    12: ("<u4", "uint64_data"),
    13: ("<u8", "uint64_data"),
}


def refusal(where, required, got=None, fix=""):
    """A ConversionError; without ``got`` its text is ``required`` alone."""
    where = f"from_onnx: {where}" if where else "from_onnx"
    text = f"{where}: {required}{'. ' + fix if fix else ''}" if got is None else None
    return ConversionError(text or _check.message(where, required, got, fix))


def dtype_of(where, number):
    """The NumPy dtype of a TensorProto.DataType."""
    if number not in DTYPES:
        from onnx import TensorProto

        known = TensorProto.DataType.values()
        got = _check.Shown(TensorProto.DataType.Name(number)) if number in known else number
        raise refusal(where, "numbers must be of a type that NumPy has", got)
    return np.dtype(DTYPES[number][0])


class Node:
    """One node: ``op``, ``inputs`` and ``outputs`` by name ("" where one is left out), ``version`` of the operator."""

    def __init__(self, proto, opset, folder):
        from onnx import defs

        self.op, self.inputs, self.outputs = proto.op_type, list(proto.input), list(proto.output)
        operator = self.op if self.op.isidentifier() else repr(self.op[:80])
        self.label = f"{operator[:80]} {(proto.name or next(filter(None, self.outputs), ''))[:200]!r}"
        self._attributes, self._read = {}, set()
        if proto.domain not in ("", "ai.onnx"):
            raise self.refuse(f"operators must be ONNX's own, not of the domain {proto.domain[:80]!r}")
        try:
            schema = defs.get_schema(self.op, opset, "")
        except defs.SchemaError:
            raise self.refuse(f"opset {opset} of ONNX has no such operator") from None
        if schema.deprecated:
            raise self.refuse(f"opset {opset} of ONNX has no such operator any more")
        self.version = schema.since_version
        for what, names, low, high in (
            ("inputs", self.inputs, schema.min_input, schema.max_input),
            ("outputs", self.outputs, schema.min_output, schema.max_output),
        ):
            if not low <= len(names) <= high or "" in names[:low]:
                raise self.refuse(f"must have {low} to {high} {what}", names)
        for attribute in proto.attribute:
            name = attribute.name
            known = schema.attributes.get(name)
            if known is None or name in self._attributes:
                raise self.refuse(f"has no attribute {name[:80]!r}" if known is None else f"has {name!r} twice")
            if attribute.ref_attr_name or attribute.type != int(known.type.value):
                raise self.refuse(f"the attribute {name!r} must be of type {known.type.name}")
            self._attributes[name] = _attribute(self.label, attribute, folder)

    def refuse(self, required, got=None, fix=""):
        return refusal(self.label, required, got, fix)

    def get(self, name, default=None):
        """The value of an attribute, or the default where the node does not say it; now it counts as read."""
        self._read.add(name)
        return self._attributes.get(name, default)

    def peek(self, name, default=None):
        """The value of an attribute, which does not count as read by that."""
        return self._attributes.get(name, default)

    def choose(self, name, default, *others):
        """An attribute that must be the default or one of the others."""
        value = self.get(name, default)
        if value not in (default, *others):
            raise self.refuse(f"{name} must be {' or '.join(map(repr, (default, *others)))}", value)
        return value

    @property
    def held(self):
        """The arrays among its attributes."""
        return [one for one in self._attributes.values() if isinstance(one, np.ndarray)]

    def require_all_read(self):
        """ConversionError for attributes that nobody has looked at: nothing is dropped silently."""
        if unread := sorted(self._attributes.keys() - self._read):
            raise self.refuse("its attributes must be understood", unread)


def _attribute(label, attribute, folder):
    kind = attribute.type
    if kind in (1, 2):
        return attribute.f if kind == 1 else attribute.i
    if kind == 3:
        return _text(label, attribute.s)
    if kind == 4:
        return array_of(label, attribute.t, folder)
    if kind in (6, 7):
        return [*(attribute.floats if kind == 6 else attribute.ints)]
    if kind == 8:
        return [_text(label, one) for one in attribute.strings]
    raise refusal(label, "no chain of layers holds graphs within nodes" if kind in (5, 10) else "has an attribute of a "
                  f"kind that no layer has: {attribute.name[:80]!r}")  # fmt: skip


def _text(label, value):
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise refusal(label, "strings must be UTF-8", value[:80]) from None


def array_of(where, tensor, folder=None):
    """The numbers of a TensorProto, read-only where that saves a copy; ``folder``: of its external data, if those are
    wanted.  Sizes are compared before anything is read."""
    dims = tuple(tensor.dims)
    if tensor.name:
        where = f"{where}{': ' if where else ''}tensor {tensor.name[:200]!r}"
    dtype = dtype_of(where, tensor.data_type)
    if any(axis < 0 for axis in dims) or len(dims) > 32 or tensor.HasField("segment"):
        raise refusal(where, "must have at most 32 axes >= 0, in one piece", dims)
    count, field = math.prod(dims), DTYPES[tensor.data_type][1]
    if tensor.data_location == 1:
        return np.frombuffer(_external(where, tensor, count * dtype.itemsize, folder), dtype).reshape(dims)
    if tensor.external_data:
        raise refusal(where, "has external data, but says that its data are in the file")
    if tensor.HasField("raw_data"):
        raw = tensor.raw_data
        if len(raw) != count * dtype.itemsize:
            raise refusal(where, f"must hold {count * dtype.itemsize} bytes as {dtype} {dims}", len(raw))
        return np.frombuffer(raw, dtype).reshape(dims)
    numbers = getattr(tensor, field)
    if len(numbers) != count:
        raise refusal(where, f"must hold {count} numbers as {dtype} {dims}", len(numbers))
    if dtype == np.float16:  # its bits
        return np.array(numbers, np.int64).astype(np.uint16).view(np.float16).reshape(dims)
    return np.array(numbers, np.int64 if field == "int32_data" else None).astype(dtype).reshape(dims)


def _external(where, tensor, size, folder):
    """The bytes of external data: of a regular file in the folder, that no link leads out of."""
    if folder is None:
        fix = (
            "If you trust them, from_onnx(path, external_data=True), or minicnn import --external-data, reads such "
            "files in the folder of the model"
        )
        raise refusal(where, "its numbers must be in the file, not in another one", _location(tensor), fix)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    unknown = entries.keys() - {"location", "offset", "length"}
    location = entries.get("location", "")
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
    except ValueError:
        offset, length = -1, -1
    if unknown or offset < 0 or length != size:
        raise refusal(where, f"external data must be a location, an offset and a length of {size} bytes", entries)
    path = os.path.join(os.path.realpath(folder), location)
    if "\0" in location or os.path.realpath(path) != path or not path.startswith(os.path.realpath(folder) + os.sep):
        raise refusal(where, "external data must be a file in the folder of the model, without links", location)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise refusal(where, "external data must be a regular file", location)
        with open(path, "rb") as file:
            held = os.fstat(file.fileno()).st_size
            if offset + size > held:
                raise refusal(where, f"external data must hold {offset + size} bytes", held)
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise refusal(where, "external data must be readable", location, str(error)) from error


def _location(tensor):
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


class Graph:
    """``nodes`` in order, those that lead to the output; ``arrays`` by name; ``inputs`` {name: (dtype number, axes)},
    where an axis is a whole number or None; ``output``, the only one, and its axes, or None; ``metadata``, and who
    wrote it, the ``producer``."""

    def __init__(self, model, folder=None):
        opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
        from onnx import defs

        newest = defs.onnx_opset_version()
        if not model.HasField("graph") or len(opsets) != 1:
            raise refusal("", "the file must hold an ONNX model, a graph and the one opset that it is written in")
        if not OLDEST <= opsets[0] <= newest:
            fix = "" if opsets[0] < OLDEST else "A newer onnx may know it"
            raise refusal("", f"the opset must be from {OLDEST} to {newest}", opsets[0], fix)
        graph = model.graph
        if any(one.domain in ("", "ai.onnx") for one in model.functions):
            names = [one.name for one in model.functions]
            raise refusal("", "functions must not have the names of ONNX's own operators", names)
        if graph.sparse_initializer:
            raise refusal("", "arrays must not be sparse")
        if len(graph.output) != 1:
            names = [one.name for one in graph.output]
            raise refusal("", "a chain of layers has one output, so the graph must have one", names)
        self.producer = model.producer_name
        self.metadata = {entry.key: entry.value for entry in model.metadata_props}
        self.output = graph.output[0].name
        self.output_axes = _tensor_type(graph.output[0])[1]
        self.inputs = {one.name: _tensor_type(one) for one in graph.input}
        self.channels = {one.name: _channels(one) for one in graph.input}
        tensors = {one.name: one for one in graph.initializer}
        made = [name for node in graph.node for name in node.output if name]
        known = [*tensors, *made, *(name for name in self.inputs if name not in tensors)]
        if len(set(known)) != len(known) or len(tensors) != len(graph.initializer) or "" in known:
            raise refusal("", "every value of the graph must have a name of its own")
        wanted, kept = {self.output}, []
        for proto in reversed(graph.node):
            if wanted.intersection(proto.output):
                wanted.update(proto.input)
                kept.append(proto)
        if len(kept) > MOST_NODES:
            raise refusal("", f"a graph must have at most {MOST_NODES:,} nodes", len(kept))
        self.nodes = [Node(proto, opsets[0], folder) for proto in reversed(kept)]
        self.arrays = {name: array_of("", one, folder) for name, one in tensors.items() if name in wanted}
        self.inputs = {name: one for name, one in self.inputs.items() if name not in tensors}


def _tensor_type(value):
    """(data type, axes or None) of a ValueInfoProto."""
    tensor = value.type.tensor_type
    if value.type.WhichOneof("value") not in (None, "tensor_type"):
        raise refusal("", "inputs and outputs must be tensors", value.name)
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    return tensor.elem_type, [
        axis.dim_value if axis.WhichOneof("value") == "dim_value" else None for axis in tensor.shape.dim
    ]


def _channels(value):
    """The axis whose denotation says that it holds the channels, or None."""
    marked = [axis for axis, dim in enumerate(value.type.tensor_type.shape.dim) if dim.denotation == "DATA_CHANNEL"]
    return marked[0] if len(marked) == 1 else None


def read_model(path_or_model):
    """(ModelProto, folder of the file or None, what it is called)."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError('from_onnx needs onnx: pip install "minicnn[onnx]"') from error
    if isinstance(path_or_model, onnx.ModelProto):
        return path_or_model, None, "the model"
    if isinstance(path_or_model, bytes | bytearray):
        data, folder, name = bytes(path_or_model), None, "the bytes"
    else:
        try:
            name = os.fsdecode(path_or_model)
        except TypeError:
            required = "needs the path of a file, its bytes or an onnx.ModelProto"
            raise TypeError(_check.message("from_onnx", required, _check.kind(path_or_model))) from None
        folder = os.path.dirname(os.path.abspath(name))
        file, size = _files.open_regular(name, lambda what: ConversionError(f"{name}: {what}"))
        with file:
            if size > MOST_BYTES:
                raise ConversionError(f"{name}: an ONNX file has less than 2 GiB; got {size} bytes")
            data = file.read(MOST_BYTES + 1)
    if not data:
        raise ConversionError(f"{name}: must be an ONNX file; got an empty one")
    try:
        return onnx.ModelProto.FromString(data), folder, name
    except Exception as error:  # protobuf's own, which is no ValueError
        raise ConversionError(f"{name}: must be an ONNX file, whole; got something else ({error})") from error
