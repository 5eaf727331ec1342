"""Models as files of ONNX: what each layer is called there stands in one table, ``TABLE``.

Arrays have their channels last here and first in ONNX.  A graph is written from front to back, and a ``Value`` says how
its array lies in memory; it is turned round only where the next layer must have it otherwise, and not at all at a
``Flatten`` before a ``Dense``, whose rows are exchanged instead.
"""

import dataclasses
import errno
import json
import math
import os

import numpy as np

from minicnn import _check, _files, layers
from minicnn.interop.errors import ConversionError
from minicnn.layer import path_of
from minicnn.layers.activation import check, function_of
from minicnn.layers.alpha_dropout import LOWEST
from minicnn.layers.conv import output_sizes
from minicnn.layers.norm import first_of_last
from minicnn.layers.normalization import EPSILON
from minicnn.layers.transpose import output_size

WHERE = "Sequential.export"
OLDEST, IR = 13, 8  # opset; version of the format for all opsets that it can hold
MOST_BYTES = 2**31 - 2**20  # of weights: a protobuf has less than 2 GiB
SAME_PLACE = 2.0**-22  # of a pixel


def export(model, path, opset, input_layout, batch_size, training, names):
    """``Sequential.export``, for a model that is built."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise TypeError(_check.message(WHERE, "path must be a string or a path of pathlib", _check.kind(path)))
    _files.mode_of(path)  # raises for a folder
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "There is no such folder", folder)
    made = proto(model, opset, input_layout, batch_size, training, names)
    _files.write_atomically(path, [made.SerializeToString()])


def proto(model, opset=17, input_layout="NHWC", batch_size=None, training=False, names=("input", "output")):
    """The ``onnx.ModelProto`` of a model that is built."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError(f'{WHERE} needs onnx: pip install "minicnn[onnx]"') from error
    from minicnn import __version__

    opset = _check.integer(WHERE, "opset", opset, OLDEST, onnx.defs.onnx_opset_version())
    first = _check.choice(WHERE, "input_layout", input_layout, ("NHWC", "NCHW")) == "NCHW"
    if first and len(model.input_shape) != 3:
        required = "input_layout='NCHW' is for images (height, width, channels)"
        raise ValueError(_check.message(WHERE, required, _check.Shown(f"samples of shape {model.input_shape}")))
    batch = "N" if batch_size is None else _check.integer(WHERE, "batch_size", batch_size, 1)
    names = [_check.label(WHERE, f"{end}_name", name) for end, name in zip(("input", "output"), names, strict=True)]
    if names[0] == names[1]:
        raise ValueError(_check.message(WHERE, "input_name and output_name must differ", names[0]))
    if 4 * model.count_params() > MOST_BYTES:
        required = "a file of ONNX holds less than 2 GiB"
        raise ConversionError(_check.message(WHERE, required, _check.Shown(f"{model.count_params():,} parameters")))
    if model.dtype != np.float32:
        _check.warn(f"{WHERE}: a float64 model is cast to float32, for onnxruntime has no convolution in float64")

    graph = _Graph(onnx, opset, batch, _check.boolean(WHERE, "training", training), names)
    x = Value(names[0], model.input_shape, first)
    y = graph.last(graph.chain(model.layers, x))
    if y.name == x.name:
        y = graph.put("Identity", y)
    info = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, *shape])
        for name, shape in ((names[0], x.memory), (names[1], y.memory))
    ]
    made = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes(y.name), model.name or "minicnn", info[:1], info[1:], graph.initializers()),
        opset_imports=[onnx.helper.make_opsetid("", opset)],
        ir_version=max(IR, onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])),
        producer_name="minicnn",
        producer_version=__version__,
    )
    onnx.helper.set_model_props(made, _about(model, input_layout) | {"minicnn_version": __version__})
    onnx.checker.check_model(made, full_check=True)
    return made


def _about(model, input_layout):
    """What the file says of the model, as text."""
    known = {
        "class_names": model.class_names,
        "input_range": model.input_range,
        "input_mean": model.input_mean,
    }
    about = {name: json.dumps(value) for name, value in known.items() if value is not None}
    about |= {} if model.image_fit is None else {"image_fit": model.image_fit}
    return about | {"input_layout": input_layout, "fingerprint": model.fingerprint()}


# ---- the graph ----


@dataclasses.dataclass(frozen=True)
class Value:
    """An array of the graph, samples of ``shape`` with the channels last.

    ``first``: in memory they come first.  ``pixels``: of a row that was an image (H, W, C) whose channels came first in
    memory, its shape: the row has the same order still.
    """

    name: str
    shape: tuple
    first: bool = False
    pixels: tuple | None = None

    @property
    def memory(self):
        """The shape of a sample in memory."""
        return (self.shape[-1], *self.shape[:-1]) if self.first else self.shape

    def along(self, array):
        """An array that broadcasts to ``shape``, as it broadcasts to what is in memory."""
        array = np.reshape(array, (1,) * (len(self.shape) - np.ndim(array)) + np.shape(array))
        if self.pixels and array.size > 1:
            return rows_first(array, self.pixels)
        return np.moveaxis(array, -1, 0) if self.first else array

    def axes(self, start):
        """The axes in memory, the batch's as 0, of the last axes of a sample from ``start`` on."""
        last = len(self.shape)
        return [(axis + 1) % last + 1 if self.first else axis + 1 for axis in range(start, last)]


def rows_first(array, pixels):
    """The rows of an array (H W C, ...) in the order (C, H, W)."""
    return np.moveaxis(array.reshape(*pixels, *array.shape[1:]), len(pixels) - 1, 0).reshape(array.shape)


class _Graph:
    """What has been written of a graph; ``put`` appends a node, ``layer`` what a layer is."""

    def __init__(self, onnx, opset, batch, training, names):
        self.onnx, self.opset, self.batch, self.training, self.names = onnx, opset, batch, training, names
        self._nodes, self._arrays, self._turned = [], {}, {}
        self._used, self._label = {*names}, ""

    # ---- writing ----

    def put(self, kind, value, /, *others, **more):
        """Appends a node of the first input ``value``; the Value of its output, which is ``value`` but for ``shape``,
        ``first`` and ``pixels`` where they are given.

        ``others``: Values, names, arrays and numbers, None for an input that is left out.  What else is given are
        attributes.
        """
        changes = {field: more.pop(field) for field in ("shape", "first", "pixels") if field in more}
        inputs = [self._name_of(one) for one in (value, *others)]
        while not inputs[-1]:
            inputs.pop()
        name = self._new(f"{self._label}/{kind}")
        outputs = [name, self._new(f"{name}_mask")] if kind == "Dropout" else [name]
        self._nodes.append((kind, inputs, outputs, more))
        return dataclasses.replace(value, name=name, **changes)

    def _new(self, name):
        """A name that is not used yet."""
        found, number = name, 0
        while found in self._used:
            found, number = f"{name}_{number}", number + 1
        self._used.add(found)
        return found

    def _name_of(self, one):
        if one is None:
            return ""
        return one if isinstance(one, str) else one.name if isinstance(one, Value) else self.array(one)

    def array(self, values, name=None):
        """The name of an initializer: numbers in float32, whole numbers in int64.  Equal ones without a name of their
        own are one."""
        given = np.asarray(values)
        with np.errstate(over="ignore"):
            array = given.astype({"i": np.int64, "b": np.bool_}.get(given.dtype.kind, np.float32))
        if given.dtype.kind == "f" and (np.isfinite(given) & ~np.isfinite(array)).any():
            got = _check.Shown(f"{np.abs(given[np.isfinite(given)]).max()} in {name or self._label}")
            raise ConversionError(_check.message(WHERE, "all numbers must be such as float32 holds", got))
        key = name or (array.dtype.char, array.shape, array.tobytes())
        if key not in self._arrays:
            self._arrays[key] = self._new(name or f"{self._label}/constant"), array
        return self._arrays[key][0]

    def nodes(self, last):
        """The nodes, with the output of the graph in the place of ``last``."""
        nodes = []
        for kind, *ends, attributes in self._nodes:
            inputs, outputs = ([self.names[1] if one == last else one for one in names] for names in ends)
            nodes.append(self.onnx.helper.make_node(kind, inputs, outputs, name=ends[1][0], **attributes))
        return nodes

    def initializers(self):
        return [self.onnx.numpy_helper.from_array(array, name) for name, array in self._arrays.values()]

    # ---- layers ----

    def chain(self, chain, value):
        for layer in chain:
            value = self.layer(layer, value)
        return value

    def layer(self, layer, value):
        """What a layer makes of a Value; ConversionError for one that is not in the table, or not as its class is."""
        entry = TABLE.get(type(layer))
        if entry is None:
            self.refuse(layer, "ONNX has no equal for a layer of one's own")
        if not vars(layer).keys().isdisjoint(("forward", "flow")):
            self.refuse(layer, "it has a method of its own in the place of its class's")
        before, self._label = self._label, layer.name
        value = entry(self, layer, value)
        self._label = before
        return value

    def refuse(self, layer, why):
        required = "every layer must have an equal in ONNX"
        got = _check.Shown(f"layer {path_of(layer)}, {type(layer).__name__}: {why}")
        raise ConversionError(_check.message(WHERE, required, got))

    def param(self, layer, key, array=None):
        """The name of a parameter, as ``array`` where it is to be written otherwise; None if the layer has none."""
        if key not in layer.params:
            return None
        return self.array(layer.params[key] if array is None else array, f"{path_of(layer)}.{key}")

    # ---- order in memory ----

    def turn(self, value, order, **changes):
        """A Value whose axes in memory are those of ``value`` in another order, from 0 on."""
        sizes = value.memory
        moved = [axis for axis in order if sizes[axis] > 1]
        key = value.name, order
        if key not in self._turned:
            if moved == sorted(moved):
                turned = self.reshape(value, [sizes[axis] for axis in order])
            else:
                turned = self.put("Transpose", value, perm=[0, *(axis + 1 for axis in order)])
            self._turned[key] = turned.name
        return dataclasses.replace(value, name=self._turned[key], **changes)

    def reshape(self, value, memory, **changes):
        """A Value whose samples have the shape ``memory`` there."""
        return self.put("Reshape", value, np.array([0, *memory]), **changes)

    def last(self, value):
        """The Value with the channels last in memory."""
        if value.pixels:
            image = self.reshape(value, Value("", value.pixels, True).memory, shape=value.pixels, first=True)
            return self.reshape(self.last(dataclasses.replace(image, pixels=None)), value.shape, shape=value.shape)
        if not value.first:
            return value
        return self.turn(value, (*range(1, len(value.shape)), 0), first=False)

    def first(self, value):
        """The Value with the channels first in memory, unless a sample is a row."""
        if value.first or len(value.shape) < 2:
            return value
        return self.turn(value, (len(value.shape) - 1, *range(len(value.shape) - 1)), first=True)

    def alike(self, values):
        """The Values in one order."""
        if len({(value.first, value.pixels) for value in values}) == 1:
            return values
        return [*map(self.first if any(value.first for value in values) else self.last, values)]


# ---- activations ----


def _bounded_relu(g, x, slope, threshold, top):
    if slope == threshold == 0 and top == top:
        return g.put("Clip", x, 0.0, top)
    high = x if top != top else g.put("Min", x, top)
    low = g.put("Mul", g.put("Sub", x, threshold), slope) if slope else 0.0
    return g.put("Where", g.put("Greater", x, threshold), high, low)


def _gelu(g, x, *_):
    if g.opset >= 20:
        return g.put("Gelu", x)
    share = g.put("Add", g.put("Erf", g.put("Div", x, math.sqrt(2))), 1.0)
    return g.put("Mul", g.put("Mul", x, share), 0.5)


def _hard_sigmoid(g, x, *_):
    return g.put("HardSigmoid", x, alpha=1 / 6, beta=0.5)


def _hard_swish(g, x, *_):
    return g.put("HardSwish", x) if g.opset >= 14 else g.put("Mul", x, _hard_sigmoid(g, x))


def _plain(kind):
    return lambda g, x, *_: g.put(kind, x)


def _of_rows(kind):
    return lambda g, x, *_: g.put(kind, x, axis=1 if x.first else len(x.shape))


ACTIVATIONS = {  # (graph, Value, slope, threshold, top) -> Value
    "linear": lambda g, x, *_: x,
    "relu": _plain("Relu"),
    "leaky_relu": lambda g, x, slope, *_: g.put("LeakyRelu", x, alpha=slope),
    "relu6": _bounded_relu,
    "elu": lambda g, x, slope, *_: g.put("Elu", x, alpha=slope),
    "selu": lambda g, x, *_: g.put("Selu", x, alpha=1.6732632423543772, gamma=1.0507009873554805),
    "gelu": _gelu,
    "swish": lambda g, x, *_: g.put("Mul", x, g.put("Sigmoid", x)),
    "hard_swish": _hard_swish,
    "sigmoid": _plain("Sigmoid"),
    "hard_sigmoid": _hard_sigmoid,
    "tanh": _plain("Tanh"),
    "softplus": _plain("Softplus"),
    "softsign": _plain("Softsign"),
    "exponential": _plain("Exp"),
    "softmax": _of_rows("Softmax"),
    "log_softmax": _of_rows("LogSoftmax"),
}


def _activated(g, layer, x):
    """The ``activation`` of a layer."""
    return _curve(g, x, function_of(layer.activation))


def _with_numbers(g, layer, x):
    """An activation layer that has arguments of its own."""
    alike = type(layer)(**layer.get_config() | {"dtype": None})
    return _curve(g, x, function_of(check(WHERE, "activation", alike)))


def _curve(g, x, function):
    _, *numbers = function.curve
    return ACTIVATIONS[function.name](g, x, *numbers)


def _prelu(g, layer, x):
    return g.put("PRelu", x, g.param(layer, "alpha", x.along(layer.params["alpha"])))


# ---- kernels ----


def _dense(g, layer, x, factor=1.0):
    kernel, bias, m = layer.params["kernel"] * factor, g.param(layer, "bias"), layer.units
    if len(x.shape) == 1:
        kernel = g.param(layer, "kernel", rows_first(kernel, x.pixels) if x.pixels else kernel)
        y = g.put("Gemm", x, kernel, bias, shape=(m,), pixels=None)
    elif x.first and len(x.shape) <= 3:  # a convolution of 1 x 1
        kernel = g.param(layer, "kernel", kernel.T.reshape(m, -1, *(1 for _ in x.shape[1:])))
        y = g.put("Conv", x, kernel, bias, shape=layer.output_shape)
    else:
        y = g.put("MatMul", g.last(x), g.param(layer, "kernel", kernel), shape=layer.output_shape)
        y = g.put("Add", y, bias) if bias else y
    return _activated(g, layer, y)


def _dropconnect(g, layer, x):
    rate = layer.current_rate
    if g.training and rate:
        g.refuse(layer, "it has no node that drops weights, as training=True asks for")
    return _dense(g, layer, x, 1.0 if layer.mode == "inverted" else 1 - rate)


def _window(layer, sizes, strides, dilation):
    """``pads`` of a window (height, width) over the images of a layer, without what no window reaches."""
    found = output_sizes(layer.input_shape, sizes, strides, dilation, layer.padding)
    behind = [
        max(0, (out - 1) * stride + (size - 1) * step + 1 - whole - before)
        for (out, before), whole, size, stride, step in zip(
            found, layer.input_shape[:2], sizes, strides, dilation, strict=True
        )
    ]
    return [*(before for _, before in found), *behind]


def _conv(g, layer, x):
    depthwise = isinstance(layer, layers.DepthwiseConv2D)
    kernel, groups = layer.params["kernel"], layer.input_shape[-1] if depthwise else layer.groups
    if depthwise:
        kernel = kernel.reshape(*layer.kernel_size, 1, -1)
    pads = _window(layer, layer.kernel_size, layer.strides, layer.dilation_rate)
    return _convolved(g, layer, x, "Conv", kernel, pads=pads, group=groups)


def _convolved(g, layer, x, kind, kernel, **more):
    """f(z), with z of a node that convolves with a kernel (KH, KW, ., .)."""
    more |= {"kernel_shape": layer.kernel_size, "strides": layer.strides, "dilations": layer.dilation_rate}
    kernel, bias = g.param(layer, "kernel", kernel.transpose(3, 2, 0, 1)), g.param(layer, "bias")
    return _activated(g, layer, g.put(kind, g.first(x), kernel, bias, shape=layer.output_shape, **more))


def _conv_transpose(g, layer, x):
    paddings = layer.padding if isinstance(layer.padding, tuple) else (layer.padding,) * 2
    extras = layer.output_padding or (None, None)
    before, behind, more = [], [], []
    for size, window, stride, step, padding, extra in zip(
        layer.input_shape[:2], layer.kernel_size, layer.strides, layer.dilation_rate, paddings, extras, strict=True
    ):
        out, cut, _ = output_size(size, window, stride, step, padding, extra)
        beyond = out + cut - ((size - 1) * stride + (window - 1) * step + 1)  # of what windows reach
        before.append(cut)
        behind.append(max(0, -beyond))
        more.append(max(0, beyond))
    ends = {"pads": [*before, *behind], "output_padding": more}
    return _convolved(g, layer, x, "ConvTranspose", layer.params["kernel"], **ends)


def _pool(g, layer, x):
    more = {"kernel_shape": layer.pool_size, "strides": layer.strides}
    kind = "MaxPool"
    if isinstance(layer, layers.AveragePooling2D):
        kind, more["count_include_pad"] = "AveragePool", int(layer.count_include_pad)
    pads = _window(layer, layer.pool_size, layer.strides, (1, 1))
    return g.put(kind, g.first(x), pads=pads, shape=layer.output_shape, **more)


def _global_pool(kind):
    def entry(g, layer, x):
        return g.put("Flatten", g.put(kind, g.first(x)), axis=1, shape=layer.output_shape, first=False)

    return entry


# ---- normalisations ----


def _gamma_and_beta(g, layer, shape, lies):
    """The names of both, as ``lies`` orders them; ones and zeros of that shape where the layer has none."""
    found = []
    for key, other in (("gamma", 1.0), ("beta", 0.0)):
        own = key in layer.params
        found.append(g.param(layer, key, lies(layer.params[key])) if own else g.array(np.full(shape, other)))
    return found


def _channels(x):
    """What makes of the values (C,) of channels what they are along x."""
    return (lambda values: rows_first(values, x.pixels)) if x.pixels else np.asarray


def _batch_normalization(g, layer, x):
    x, path = g.first(x), path_of(layer)
    lies = _channels(x)
    moving = [g.array(lies(layer.state[key]), f"{path}.{key}") for key in ("moving_mean", "moving_variance")]
    own = _gamma_and_beta(g, layer, x.shape[-1:], lies)
    return g.put("BatchNormalization", x, *own, *moving, epsilon=layer.epsilon)


def _layer_normalization(g, layer, x):
    start = first_of_last(WHERE, layer.axis, layer.input_shape)
    if g.opset >= 17:
        x = g.last(x) if start else x
        own = _gamma_and_beta(g, layer, x.shape[start:], np.asarray if start else x.along)
        return g.put("LayerNormalization", x, *own, axis=start + 1, epsilon=layer.epsilon)
    axes = x.axes(start)
    apart = g.put("Sub", x, g.put("ReduceMean", x, axes=axes))
    square = g.put("ReduceMean", g.put("Mul", apart, apart), axes=axes)
    y = g.put("Div", apart, g.put("Sqrt", g.put("Add", square, layer.epsilon)))
    return _scaled(g, layer, y)


def _scaled(g, layer, y):
    """gamma y + beta."""
    for kind, key in (("Mul", "gamma"), ("Add", "beta")):
        if key in layer.params:
            y = g.put(kind, y, g.param(layer, key, y.along(layer.params[key])))
    return y


def _group_normalization(g, layer, x):
    """Not by the node of that name: onnxruntime 1.32 loses all digits in it where means are large, E x^2 - (E x)^2."""
    x = g.first(g.last(x) if x.pixels else x)
    channels = x.shape[-1]
    groups = channels if layer.groups == -1 else layer.groups
    if groups == channels and len(x.shape) > 1:
        own = _gamma_and_beta(g, layer, (channels,), np.asarray)
        return g.put("InstanceNormalization", x, *own, epsilon=layer.epsilon)
    rows = g.reshape(x, (groups, math.prod(x.shape) // groups))
    y = g.put("InstanceNormalization", rows, np.ones(groups), np.zeros(groups), epsilon=layer.epsilon)
    return _scaled(g, layer, g.reshape(y, x.memory))


def _normalization(g, layer, x):
    layer.forward(np.zeros((0, *layer.input_shape), layer.dtype))  # raises where it is not adapted
    mean, deviation = x.along(layer.state["mean"]), np.maximum(np.sqrt(x.along(layer.state["variance"])), EPSILON)
    if layer.invert:
        return g.put("Add", g.put("Mul", x, deviation), mean)
    return g.put("Div", g.put("Sub", x, mean), deviation)


# ---- shapes and sizes ----


def _reshape(g, layer, x):
    shape = layer.output_shape
    if len(shape) != 1:
        return g.reshape(g.last(x), shape, shape=shape)
    if len(x.shape) == 1:
        return x
    kept = math.prod(x.shape[:-1]) == 1 or x.shape[-1] == 1  # one order and the other are the same
    return g.put("Flatten", x, axis=1, shape=shape, first=False, pixels=x.shape if x.first and not kept else None)


def _permute(g, layer, x):
    x = g.last(x) if x.pixels else x
    lies = x.axes(0)
    return g.turn(x, tuple(lies[axis - 1] - 1 for axis in layer.dims), shape=layer.output_shape, first=False)


def _zero_padding(g, layer, x):
    (top, bottom), (left, right) = layer.padding
    pads = np.zeros((2, 4), int)  # before and behind, along every axis
    pads[:, x.axes(0)[:2]] = (top, left), (bottom, right)
    return g.put("Pad", x, pads.reshape(-1), shape=layer.output_shape)


def _cut(g, x, top, left, height, width):
    """A part of images."""
    shape = (height, width, x.shape[-1])
    if shape == x.shape:
        return x
    ends, axes = np.array([[top, left], [top + height, left + width]]), np.array(x.axes(0)[:2])
    return g.put("Slice", x, *ends, axes, shape=shape)


def _cropping(g, layer, x):
    (top, _), (left, _) = layer.cropping
    return _cut(g, x, top, left, *layer.output_shape[:2])


def _rescaling(g, layer, x):
    return g.put("Add", g.put("Mul", x, layer.scale), layer.offset)


def _upsampling(g, layer, x):
    if layer.interpolation == "bilinear":
        return _interpolated(g, layer, x, True)
    more = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", "mode": "nearest"}
    scales = np.array([1.0, 1.0, *layer.size])
    return g.put("Resize", g.first(x), None, scales, shape=layer.output_shape, **more)


def _resizing(g, layer, x):
    (h, w, _), (height, width, _) = layer.input_shape, layer.output_shape
    if layer.crop_to_aspect_ratio:
        cut = max(1, min(h, int(w * height / width))), max(1, min(w, int(h * width / height)))
        x = _cut(g, x, (h - cut[0]) // 2, (w - cut[1]) // 2, *cut)
    return _interpolated(g, layer, x, layer.interpolation == "bilinear")


def _interpolated(g, layer, x, linear):
    """Images of another size, pixels at the centres of their squares.

    Runtimes find places in float32: where that is too coarse, what every pixel is made of is written as an array.
    """
    x = g.first(x)
    sizes = [*zip(x.shape[:2], layer.output_shape[:2], strict=True)]
    places = [(np.arange(out) + 0.5) * size / out - 0.5 for size, out in sizes]
    scales = np.array([out / size for size, out in sizes], np.float32)
    short = [size * float(scale) < out for (size, out), scale in zip(sizes, scales, strict=True)]
    scales[short] = np.nextafter(scales[short], np.float32(np.inf))  # or they would say one pixel less
    more = {"mode": "linear"} if linear else {"mode": "nearest", "nearest_mode": "round_prefer_ceil"}
    for (_, out), exact, scale in zip(sizes, places, scales, strict=True):
        single = (np.arange(out, dtype=np.float32) + np.float32(0.5)) / scale - np.float32(0.5)
        alike = np.abs(single - exact).max() <= SAME_PLACE if linear else (_nearest(single) == _nearest(exact)).all()
        if not alike:
            break
    else:
        more["coordinate_transformation_mode"] = "half_pixel"
        scales = np.array([1.0, 1.0, *scales])
        return g.put("Resize", x, None, scales, shape=layer.output_shape, **more)
    if not linear:
        for axis, exact in enumerate(places, 2):
            x = g.put("Gather", x, _nearest(exact), axis=axis)
        return dataclasses.replace(x, shape=layer.output_shape)
    rows, columns = (
        np.maximum(0, 1 - np.abs(np.clip(exact, 0, size - 1)[:, None] - np.arange(size)))
        for exact, (size, _) in zip(places, sizes, strict=True)
    )
    y = g.put("MatMul", x, columns.T)
    rows = Value(g.array(rows), y.shape, True)
    return g.put("MatMul", rows, y, shape=layer.output_shape)


def _nearest(places):
    return np.floor(places + 0.5).astype(np.int64)


# ---- layers that hold layers ----


def _residual(g, layer, x):
    a, b = g.alike([g.chain(layer.body, x), g.chain(layer.shortcut, x)])
    return _activated(g, layer, g.put("Add", a, b))


def _concurrent(g, layer, x):
    found = g.alike([g.chain(branch, x) for branch in layer.branches])
    if len(found) > 1 and found[0].pixels:
        found = [*map(g.last, found)]
    y, shape = found[0], layer.output_shape
    return y if len(found) == 1 else g.put("Concat", *found, axis=1 if y.first else len(shape), shape=shape)


# ---- what acts in training only ----


def _dropout(g, layer, x):
    rate, kept = layer.current_rate, 1 - layer.current_rate
    if not rate:
        return x
    if not g.training:
        return g.put("Mul", x, kept) if layer.mode == "classical" else x
    if rate == 1:
        return g.put("Mul", x, 0.0)
    shared = [wish == 1 for wish in layer.noise_shape or ()]
    alpha = isinstance(layer, layers.AlphaDropout)
    if not (alpha or any(shared)):
        y = _dropped(g, x, rate)
        return g.put("Mul", y, kept) if layer.mode == "classical" else y
    x = g.last(x) if x.pixels else x
    mask = _mask(g, x, shared, rate)
    if not alpha and layer.mode != "classical":
        return g.put("Mul", x, mask)
    mask = g.put("Mul", mask, kept)  # 0 and 1
    if not alpha:
        return g.put("Mul", x, mask)
    a = (kept * (1 + rate * LOWEST**2)) ** -0.5
    y = g.put("Mul", g.put("Mul", g.put("Sub", x, LOWEST), mask), a)
    return g.put("Add", y, a * LOWEST * kept)


def _dropped(g, x, rate):
    """Dropout of x, in training too: onnxruntime takes out a Dropout whose mask nobody uses (1.32)."""
    y = g.put("Dropout", x, rate, np.array(True))
    return g.put("Where", dataclasses.replace(y, name=f"{y.name}_mask"), y, 0.0)


def _mask(g, x, shared, rate):
    """What multiplies x, with 1 along the axes that are ``shared``, the batch's first.

    It is made of x: the mask of constants is a constant to onnxruntime.  And its first number, which is the same in all
    runs there, is not used where few are drawn.
    """
    axes = np.array([axis for axis, one in zip((0, *x.axes(0)), shared) if one], int)  # noqa: B905 - or none
    part = g.put("Slice", x, 0 * axes, 0 * axes + 1, axes) if len(axes) else x
    ones = g.put("Where", g.put("IsNaN", part), 1.0, 1.0)
    if not len(axes):
        return _dropped(g, ones, rate)
    start, end, batch = np.array([[0], [1], [0]])
    more = g.put("Concat", g.put("Slice", ones, start, end, batch), ones, axis=0)
    return g.put("Slice", _dropped(g, more, rate), end, np.array([2**62]), batch)


def _gaussian_dropout(g, layer, x):
    rate = layer.current_rate
    if not (g.training and rate):
        return x
    if rate == 1:
        return g.put("Mul", x, 0.0)
    return g.put("Mul", x, _normal(g, layer, x, mean=1.0, scale=math.sqrt(rate / (1 - rate))))


def _gaussian_noise(g, layer, x):
    return g.put("Add", x, _normal(g, layer, x, scale=layer.stddev)) if g.training and layer.stddev else x


def _normal(g, layer, x, **numbers):
    if g.opset > 21:
        g.refuse(layer, f"onnxruntime draws no normal numbers in opset {g.opset}; say opset=21 or less")
    return g.put("RandomNormalLike", x, **numbers)


def _drop_block(g, layer, x):
    if g.training and layer.current_rate:
        g.refuse(layer, "it has no node that drops blocks, as training=True asks for")
    return x


def _augmentation(g, layer, x):
    if g.training:
        g.refuse(layer, "it has no node that augments images, as training=True asks for")
    return x


def _random_crop(g, layer, x):
    (h, w, _), (height, width, _) = layer.input_shape, layer.output_shape
    return _cut(g, _augmentation(g, layer, x), (h - height) // 2, (w - width) // 2, height, width)


# ---- the table ----

TABLE = {  # class: (graph, layer, Value) -> Value.  Every layer of minicnn stands here; no other class can be written.
    **dict.fromkeys((layers.ReLU, layers.LeakyReLU, layers.ELU), _with_numbers),
    **dict.fromkeys(
        (
            *(layers.Activation, layers.GELU, layers.HardSigmoid, layers.HardSwish, layers.LogSoftmax, layers.SELU),
            *(layers.Sigmoid, layers.Softmax, layers.Softplus, layers.Swish, layers.Tanh),
        ),
        _activated,
    ),
    layers.PReLU: _prelu,
    layers.Dense: _dense,
    layers.DropConnect: _dropconnect,
    layers.Conv2D: _conv,
    layers.DepthwiseConv2D: _conv,
    layers.SeparableConv2D: lambda g, layer, x: g.chain((layer.depthwise, layer.pointwise), x),
    layers.Conv2DTranspose: _conv_transpose,
    layers.MaxPooling2D: _pool,
    layers.AveragePooling2D: _pool,
    layers.GlobalMaxPooling2D: _global_pool("GlobalMaxPool"),
    layers.GlobalAveragePooling2D: _global_pool("GlobalAveragePool"),
    layers.BatchNormalization: _batch_normalization,
    layers.LayerNormalization: _layer_normalization,
    layers.GroupNormalization: _group_normalization,
    layers.Normalization: _normalization,
    layers.Rescaling: _rescaling,
    layers.Temperature: lambda g, layer, x: g.put("Div", x, layer.temperature),
    layers.Flatten: _reshape,
    layers.Reshape: _reshape,
    layers.Permute: _permute,
    layers.ZeroPadding2D: _zero_padding,
    layers.Cropping2D: _cropping,
    layers.UpSampling2D: _upsampling,
    layers.Resizing: _resizing,
    layers.Chain: lambda g, layer, x: g.chain(layer.layers, x),
    layers.Residual: _residual,
    layers.Concurrent: _concurrent,
    **dict.fromkeys(
        (layers.Dropout, layers.SpatialDropout2D, layers.StochasticDepth, layers.AlphaDropout),
        _dropout,
    ),
    layers.GaussianDropout: _gaussian_dropout,
    layers.GaussianNoise: _gaussian_noise,
    layers.DropBlock2D: _drop_block,
    layers.RandomCrop: _random_crop,
    **dict.fromkeys(
        (
            *(layers.RandomBrightness, layers.RandomContrast, layers.RandomErasing, layers.RandomFlip),
            *(layers.RandomRotation, layers.RandomTranslation, layers.RandomZoom),
        ),
        _augmentation,
    ),
}
