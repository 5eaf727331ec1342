"""Models from ONNX files: a graph of nodes as a chain of layers.

``onnx_file.py`` reads and checks the file, ``onnx_fold.py`` computes its constants, ``onnx_values.py`` keeps track of
the order of axes and of the ways through the graph.  What each operator is as layers stands in ``onnx_layers.py``,
``onnx_windows.py`` and ``onnx_shapes.py``, what several are together in ``onnx_forms.py``.
"""

import heapq
import json
import math
from collections import Counter, defaultdict

import numpy as np

from minicnn import _check, inputs, layers
from minicnn.interop import onnx_shapes, onnx_windows
from minicnn.interop.errors import ConversionError
from minicnn.interop.onnx_file import Graph, dtype_of, read_model, refusal
from minicnn.interop.onnx_fold import BATCH, Purse, fold, shape_part
from minicnn.interop.onnx_forms import Forms
from minicnn.interop.onnx_layers import TABLE, Scale, go_on
from minicnn.interop.onnx_values import Held, Merge, image_order, tidy, way
from minicnn.layer import Source
from minicnn.model import Sequential

LAYOUTS = {"NCHW": 1, "NHWC": 3}
TABLES = (onnx_windows, onnx_shapes)  # which have put their operators into TABLE
FAILURES = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError, MemoryError, OSError)


def from_onnx(path_or_model, constants=None, *, input_layout=None, input_shape=None, external_data=False):
    """The graph in an ONNX file as a ``Sequential``, built and with its weights, in eval mode.

    The model takes and gives images as (N, H, W, C), whatever the graph does; arrays with other numbers of axes are as
    the graph has them.  A sum of two ways becomes a ``Residual``, a concatenation a ``Concurrent``.

    - ``path_or_model``: the path of a file, its bytes, or an ``onnx.ModelProto``.
    - ``constants``: {name: array} for inputs of the graph that are to be constants, so that one input is left.
    - ``input_layout``: "NCHW" or "NHWC", the order of a graph's input with four axes.  None: what the first node says
      that is defined with channels (a convolution, a pooling, ...), else the order of PyTorch or Keras if they wrote
      it, else the first node that mostly has channels (a bias, ...); where none does, "NHWC" for square images of 1, 3
      or 4 channels at the end, else "NCHW", which is ONNX's order.  ConversionError where all data would fit either.
    - ``input_shape``: of one sample, as the model takes it, where the graph leaves it open.
    - ``external_data``: True reads weights that lie in other files in the folder of the model.

    Nothing is guessed or left out: ConversionError, which names the node and says why, for whatever layers cannot say,
    and for files that are no whole ONNX file; OSError for one that cannot be read; ImportError without ``onnx``.
    """
    where = "from_onnx"
    if input_layout is not None:
        _check.choice(where, "input_layout", input_layout, tuple(LAYOUTS))
    if input_shape is not None:
        input_shape = _check.sample_shape(where, input_shape)
    external_data = _check.boolean(where, "external_data", external_data)
    if constants is not None and not isinstance(constants, dict):
        required = "constants must be a dictionary, {name of an input: array}"
        raise TypeError(_check.message(where, required, _check.kind(constants)))
    proto, folder, name = read_model(path_or_model)
    try:
        graph = Graph(proto, folder if external_data else None)
        return _Reader(graph, constants or {}, input_layout, input_shape).model()
    except ConversionError as error:
        raise ConversionError(f"{name}: {error}") from error.__cause__
    except FAILURES as error:  # of any kind: the file chose all arguments
        raise ConversionError(f"{name}: from_onnx: cannot be a chain of layers ({error})") from error


class _Reader(Forms):
    """Goes through the nodes of a graph once, in order."""

    def __init__(self, graph, constants, input_layout, input_shape):
        self.graph, self.layout, self.open_shape = graph, input_layout, input_shape
        super().__init__()
        held = [*graph.arrays.values(), *(one for node in graph.nodes for one in node.held)]
        self.purse = Purse(sum(one.nbytes for one in held))
        self.purse.own(held)
        self.makers = {name: node for node in graph.nodes for name in node.outputs if name}
        self.takers = defaultdict(list)  # numbers of the nodes that take a value
        for number, node in enumerate(graph.nodes):
            for one in {*node.inputs}:
                self.takers[one].append(number)
        self.own = graph.producer == "minicnn"
        self.values = dict(graph.arrays)  # arrays, Held, or the ConversionError that stands for a value
        self._share_joins()
        self.uses = Counter(name for node in graph.nodes if node.op != "Shape" for name in node.inputs)
        self.uses[graph.output] += 1
        self._take_constants(constants)
        left = [name for name in graph.inputs if name not in constants]
        if len(left) != 1:
            fix = "Give the others' values: from_onnx(..., constants={name: array})"
            raise refusal("", "a chain of layers takes one input", left, fix)
        self.input = left[0]
        number, axes = graph.inputs[self.input]
        found = dtype_of(f"input {self.input!r}", number)
        self.dtype = self._dtype(found)
        if self.dtype.kind != "f" or self.dtype.itemsize < 4:
            raise refusal(f"input {self.input!r}", "layers compute in float32 and float64", self.dtype.name)
        for node in graph.nodes:  # constants first: they may say where the channels are
            if all(name == "" or isinstance(self.values.get(name), np.ndarray) for name in node.inputs):
                self._fold(node)
        self.start = self._start(axes)
        self.start.ready = found == self.dtype
        self.start.uses = self.uses[self.input]
        self.values[self.input] = self.start
        self.last = self.own or self.start.order == (0, 1, 2, 3)  # images of the graph have their channels last

    def _take_constants(self, constants):
        for name, value in constants.items():
            if name not in self.graph.inputs:
                required = f"constants must be for inputs of the graph, {', '.join(self.graph.inputs)}"
                raise refusal("", required, name)
            number, axes = self.graph.inputs[name]
            dtype = dtype_of(f"input {name!r}", number)
            try:
                array = _check.numeric_array("", "it", value)
            except (TypeError, ValueError) as error:
                raise refusal(f"input {name!r}", f"must be an array of numbers ({error})") from error
            fits = axes is None or (
                len(axes) == array.ndim and all(a in (None, b) for a, b in zip(axes, array.shape, strict=True))
            )
            with np.errstate(all="ignore"):
                cast = array.astype(dtype)
            if not fits or (dtype.kind in "iu" and (cast != array).any()):
                raise refusal(
                    f"input {name!r}", f"must be {dtype.name} of shape {axes}", f"{array.dtype} {array.shape}"
                )
            self.values[name] = cast

    def _share_joins(self):
        """Concats of what another Concat has joined already take that one's output: so dense networks are chains."""
        known = {}
        for node in self.graph.nodes:
            if node.op == "Concat":
                axis, names = node.peek("axis"), tuple(node.inputs)
                longest = next((n for n in range(len(names) - 1, 1, -1) if (axis, names[:n]) in known), None)
                if longest is not None:
                    node.inputs = [known[axis, names[:longest]], *names[longest:]]
                known[axis, names] = node.outputs[0]

    def _dtype(self, found):
        """In which dtype the model computes: the input's, or the one it is cast to at once."""
        nodes = [node for node in self.graph.nodes if self.input in node.inputs]
        cast = {node.peek("to") for node in nodes if node.op == "Cast"}
        if len(cast) == 1 and all(node.op in ("Cast", "Shape") for node in nodes):
            return dtype_of(f"input {self.input!r}", cast.pop())
        return found

    def _start(self, axes):
        where, name = f"input {self.input!r}", self.input
        given = self.open_shape
        if axes is None and given is None:
            raise refusal(where, "must have a shape", fix="Say the model's: from_onnx(..., input_shape=(height, ...))")
        rank = len(given) + 1 if axes is None else len(axes)
        axes = [None] * rank if axes is None else axes
        if not rank:
            raise refusal(where, "the first axis must be the samples", axes)
        channel = None
        if rank == 4:
            known = self.layout or (self.graph.metadata.get("input_layout") if self.own else None)
            channel = LAYOUTS.get(known) or self.graph.channels.get(name) or self._layout(axes)
        order = image_order(4, channel) if rank == 4 else tuple(range(rank))
        if given is not None:
            if len(given) != rank - 1 or any(
                axes[axis] not in (None, size) for axis, size in zip(order[1:], given, strict=True)
            ):
                raise refusal(where, f"input_shape must fit the graph's {axes}", given)
            for axis, size in zip(order[1:], given, strict=True):
                axes[axis] = size
        if not all(axis is not None and axis > 0 for axis in axes[1:]) or axes[0] == 0:
            fix = "Say the model's: from_onnx(..., input_shape=(height, width, channels))"
            raise refusal(where, "only the number of samples may be open", axes, fix)
        return Held([BATCH if axes[0] is None else axes[0], *axes[1:]], order)

    def _layout(self, axes):
        """The axis of the input that holds the channels, where nobody says it outright."""
        defined, usual = self.channel(self.input)
        known = defined or self._written_in()
        if known:
            return known
        if axes[1] is not None and 1 < axes[1] == axes[2] == axes[3]:  # any data would fit, and be read wrongly
            fix = 'Say it: from_onnx(..., input_layout="NCHW") or "NHWC", or minicnn import --layout'
            required = "nothing in the graph says which of three equal axes holds the channels"
            raise refusal(f"input {self.input!r}", required, fix=fix)
        square = axes[1] is not None and axes[1] > 4 and axes[1] == axes[2] and axes[3] in (1, 3, 4)
        return usual or (3 if square else 1)

    # ---- the nodes ----

    def _fold(self, node):
        inputs = [None if name == "" else self.values[name] for name in node.inputs]
        try:
            found = fold(node, inputs, self.purse, dtype_of)
            if found is None:
                required = "must have data among its inputs"
                raise node.refuse(required if node.op in TABLE else "is no arithmetic of constants that is known here")
            self.purse.own(one for one in found if isinstance(one, np.ndarray))
        except ConversionError as error:
            found = [error] * len(node.outputs)
        self._enter(node, found)

    def _enter(self, node, found):
        for place, name in enumerate(node.outputs):
            if name:
                self.values[name] = found[place] if place < len(found) else node.refuse("gives one value only here")

    def run(self):
        for node in self.graph.nodes:
            if all(name in self.values for name in node.outputs if name):
                continue
            inputs = []
            for name in node.inputs:
                if name and name not in self.values:
                    raise node.refuse(f"its input {name!r} must be made by a node before it")
                inputs.append(self.values[name] if name else None)
            known = self.normalized(node)
            failed = next((one for one in inputs if isinstance(one, ConversionError)), None)
            if known is not None:
                self._enter(node, self._held(node, inputs, known))
            elif failed is not None:
                self._enter(node, [failed] * len(node.outputs))
            elif node.op == "Shape" and isinstance(inputs[0], Held):
                self._enter(node, [shape_part(node, inputs[0].shape)])
            elif not any(isinstance(one, Held) for one in inputs):
                self._fold(node)
            else:
                self._enter(node, self._held(node, inputs))

    def _held(self, node, inputs, known=None):
        try:
            found = self._computed(node, inputs) if known is None else [known]
            for value in found:
                self.purse.pay_for(node, value.steps[-1].held if value.steps else ())
        except ConversionError as error:
            return [error] * len(node.outputs)
        return self._committed(node, inputs, found)

    def _computed(self, node, inputs):
        if node.op not in TABLE:
            raise node.refuse("no layer computes this operator")
        found = TABLE[node.op](self, node, inputs)
        node.require_all_read()
        return found if isinstance(found, list) else [found]

    def _committed(self, node, inputs, found):
        for name, value in zip(node.outputs, found, strict=False):
            if any(value is one for one in inputs):  # it is handed on
                value.uses += self.uses[name] - 1
            else:
                value.uses, value.origin = self.uses[name], (node, inputs)
        return found

    # ---- what nodes ask ----

    def channel(self, name):
        """The axis of a value with four axes that holds the channels, twice, or None: as the first operator says that
        is defined so (a convolution, ...), and as the first one that is mostly written so (a bias, ...)."""
        known, usual = {name: (0, 1, 2, 3)}, None  # values and which axes of the first one theirs are
        ahead, seen = self.takers[name][:], set()
        while ahead:
            number = heapq.heappop(ahead)
            if number in seen:
                continue
            seen.add(number)
            node = self.graph.nodes[number]
            axes = next(known[one] for one in node.inputs if one in known)
            place = axes[self._defined(node)]
            if place in (1, 3):
                return place, usual
            place = axes[self._usual(node, known)]
            usual = usual or (place if place in (1, 3) else None)
            if node.op == "Transpose":
                perm = node.peek("perm", [3, 2, 1, 0])
                if sorted(perm) != [0, 1, 2, 3] or perm[0]:
                    continue
                axes = tuple(axes[axis] for axis in perm)
            elif node.op in OTHER_AXES or (node.op[:6] == "Reduce" and not node.peek("keepdims", 1)):
                continue
            for one in filter(None, node.outputs):
                known[one] = axes
                for number in self.takers[one]:
                    heapq.heappush(ahead, number)
        return None, usual

    def _defined(self, node):
        """The axis that a node takes for the channels; 0 where it takes none."""
        if node.op in CHANNELS_FIRST:
            return 1
        if node.op in ("ReduceMean", "ReduceMax"):  # of whole images
            return {(2, 3): 1, (1, 2): 3}.get(tuple(self.reduced_axes(node, 4)), 0)
        return 0

    def _usual(self, node, known):
        """The axis that a node seems to take for the channels, or 0."""
        if node.op == "MatMul" and node.inputs[0] in known:
            return 3 if np.ndim(self.values.get(node.inputs[1])) == 2 else 0
        if node.op in ("Concat", "Softmax", "LogSoftmax"):
            return node.peek("axis", -1 if node.version >= 13 else 1) % 4
        if node.op in ("Add", "Sub", "Mul", "Div", "PRelu"):
            arrays = [self.values[one] for one in node.inputs if isinstance(self.values.get(one), np.ndarray)]
            if arrays and arrays[0].ndim <= 4:
                long = [axis for axis, size in enumerate(arrays[0].shape, 4 - arrays[0].ndim) if size > 1]
                return long[0] if len(long) == 1 else 0
        return 0

    def _written_in(self):
        """The layout of the one who wrote the graph, as the axis of the channels; None for others."""
        readers = [node for node in self.graph.nodes if self.input in node.inputs]
        number = self.graph.inputs[self.input][0]
        if self.graph.producer == "pytorch":  # Keras exports through it: it casts to what the input is already
            cast = all(node.op == "Cast" and node.peek("to") == number for node in readers)
            return 3 if cast and readers else 1
        return 3 if self.graph.producer in ("tf2onnx", "keras2onnx") else None

    def reshape(self, node, h, shape):
        """A value in another shape, given in the order of the graph."""
        shape = tuple(shape)
        if shape[:1] != (h.batch,):
            raise node.refuse("must leave the samples, axis 0, as they are", (h.shape, shape))
        if math.prod(shape[1:]) != math.prod(h.shape[1:]) or len(shape) > 16:
            raise node.refuse(f"must hold the numbers of {h.shape}, in at most 16 axes", shape)
        if shape == h.shape:
            return h
        if len(shape) == 2 and h.flat is None:
            dims, order = h.shape[1:], tuple(axis - 1 for axis in h.order[1:])
            long = [axis for axis in order if dims[axis] != 1]
            return h.reshaped(shape, flat=None if long == sorted(long) else (dims, order))
        h = h.settled().reshaped(shape)
        return self.imaged(node, h)

    def imaged(self, node, h):
        """A new value of the graph, with the channels last where it has four axes."""
        if len(h.shape) != 4:
            return h
        defined, usual = self.channel(node.outputs[0])
        return h.permuted(image_order(4, defined or usual or (3 if self.last else 1)))

    def named(self, name):
        """The value that a name stands for, through nodes that hand it on."""
        while name in self.makers and self.makers[name].op in ("Cast", "Identity"):
            name = self.makers[name].inputs[0]
        return name

    def maker(self, name, op):
        """The node that makes a value, if it is of that operator; None otherwise."""
        node = self.makers.get(self.named(name))
        return node if node is not None and node.op == op else None

    def reduced_axes(self, node, rank):
        """The axes of a ReduceMean and its like, from the front; [] where they are not known."""
        axes = node.peek("axes")
        given = self.values.get(node.inputs[1]) if len(node.inputs) > 1 else None
        axes = given.reshape(-1).tolist() if isinstance(given, np.ndarray) else axes
        return sorted(axis % rank for axis in axes or ())

    def axes_of_mean(self, node, rank):
        """The axes of a ReduceMean that keeps them, from the front; [] for others."""
        return self.reduced_axes(node, rank) if node.peek("keepdims", 1) else []

    # ---- the model ----

    def model(self):
        self.run()
        last = self.values.get(self.graph.output)
        if isinstance(last, ConversionError):
            raise last
        if not isinstance(last, Held) or not last.ready:
            raise refusal("", f"the output {self.graph.output!r} must be made of the input {self.input!r} by layers")
        end = go_on(last)
        end = end.settled() if self.last or len(end.shape) != 4 else end.permuted(image_order(4, end.order[-1]))
        node = _Output(self.graph.output)
        declared = self.graph.output_axes
        if declared is not None and not (
            len(declared) == len(end.shape)
            and all(a is None or b is BATCH or a == b for a, b in zip(declared, end.shape, strict=True))
        ):
            raise refusal(node.label, f"must have the shape {tuple(declared)} that the file says", end.shape)
        arrays = {}
        steps = _resolved(way(node, self.start, end), self.start.sample)
        chain = [_layer(step, arrays) for step in steps]
        numbers = sum(one.size for _, found in arrays.values() for one in found.values())
        self.purse.require(node, numbers * self.dtype.itemsize)
        model = Sequential(chain or [layers.Activation("linear")], dtype=self.dtype.name)
        model.build(self.start.sample, _Weights(arrays))
        for layer, found in arrays.values():
            for name in found.keys() & layer.state.keys():
                layer.state[name] = found[name]
        if model.output_shape != end.sample:
            raise refusal(node.label, f"must have the shape {end.sample}", model.output_shape)
        self._describe(model)
        return model

    def _describe(self, model):
        """What ``Sequential.export`` has written about the model."""
        about = self.graph.metadata if self.own else {}
        try:
            known = {
                name: json.loads(about[name]) for name in ("class_names", "input_range", "input_mean") if name in about
            }
            model.class_names = known.get("class_names")
            model.image_fit = about.get("image_fit")
            model.trained_on(inputs.from_config("from_onnx", known.get("input_range"), known.get("input_mean")))
        except (ValueError, TypeError, RecursionError) as error:
            raise refusal("", f"the file's metadata must be what Sequential.export writes ({error})") from error


class _Output:
    """The end of the graph, as a node that needs what is before it."""

    def __init__(self, name):
        self.label = f"output {name[:200]!r}"

    def refuse(self, required, got=None, fix=""):
        return refusal(self.label, required, got, fix)


def _resolved(steps, shape):
    """The steps with layers for arithmetic."""
    found = []
    for step in steps:
        found += step.steps() if isinstance(step, Scale) else [step]
    return tidy(shape, found)


def _layer(step, arrays):
    """The layer of a step; ``arrays`` gets what its weights are."""
    arguments = dict(step.arguments)
    if isinstance(arguments.get("activation"), tuple):
        kind, numbers = arguments["activation"]
        arguments["activation"] = kind(**numbers)
    if isinstance(step, Merge):
        parts = [[_layer(one, arrays) for one in _resolved(way, ())] for way in step.ways]
        names = ("body", "shortcut") if step.kind is layers.Residual else ("branches",)
        arguments |= dict(zip(names, parts if len(names) == 2 else [parts], strict=True))
        if step.kind is layers.Residual and not parts[1]:
            del arguments["shortcut"]
    layer = step.kind(**arguments)
    if step.arrays:
        arrays[id(layer)] = layer, step.arrays
    return layer


class _Weights(Source):
    """The source of a model from a graph: arrays are compared with what the layer wants before anything is made."""

    def __init__(self, arrays):
        self.arrays = arrays

    def values(self, layer, name, shape, initializer, rng):
        _, found = self.arrays.get(id(layer), (layer, {}))
        if name not in found or found[name].shape != tuple(shape):
            got = found[name].shape if name in found else "nothing"
            raise ValueError(f"the {name} of {type(layer).__name__} must have shape {tuple(shape)}; got {got}")
        return found[name]


CHANNELS_FIRST = {
    *("Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"),
    *("BatchNormalization", "InstanceNormalization", "GroupNormalization", "DepthToSpace", "SpaceToDepth", "Upsample"),
}
OTHER_AXES = {"Shape", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Gather"}  # behind which axes are others
