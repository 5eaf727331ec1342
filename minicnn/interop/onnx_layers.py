"""What each operator of ONNX is as layers: a table of functions, keyed by the operator.

A function ``(reader, node, inputs)`` gets constants as arrays and data as ``Held``, and returns what the node makes of
them: ``Held``, or several.  What it cannot say raises ConversionError.
"""

import math
from collections.abc import Callable

import numpy as np

from minicnn import layers
from minicnn.interop.onnx_fold import BATCH, axes_of, axis_of, slices, target_shape, whole_numbers
from minicnn.interop.onnx_values import Held, Merge, Step, image_order, meeting, way

TABLE: dict[str, Callable] = {}
AFFINE = ("Conv2D", "DepthwiseConv2D", "Conv2DTranspose", "Dense")
NORMS = ("BatchNormalization", "GroupNormalization", "LayerNormalization")
CLOSE = 1e-6


def operator(*names):
    def enter(function):
        TABLE.update(dict.fromkeys(names, function))
        return function

    return enter


def data(node, inputs):
    """The first input, which must be data."""
    if not isinstance(inputs[0], Held):
        raise node.refuse(f"its first input must be data, not the constant {node.inputs[0]!r}")
    if not inputs[0].ready:
        raise node.refuse("data must be float32 or float64 where they are computed with; a Cast may come before")
    return inputs[0]


def constant(node, inputs, place, optional=False):
    """The constant at that place, in numbers that layers have; None where it may be left out and is."""
    found = inputs[place] if len(inputs) > place else None
    if found is None and optional:
        return None
    if isinstance(found, Held) or found is None:
        name = node.inputs[place] if len(node.inputs) > place else ""
        fix = f"Give it: from_onnx(..., constants={{{name!r}: array}})"
        raise node.refuse(f"its input {place + 1}, {name!r}, must be a constant", fix=fix)
    if found.dtype.kind != "f":
        raise node.refuse(f"its input {place + 1} must be floating point numbers", found.dtype.name)
    return found


def scalar(node, inputs, place, default=None):
    found = constant(node, inputs, place, optional=True)
    if found is None:
        return default
    if found.size != 1:
        raise node.refuse(f"its input {place + 1} must be one number", found.shape)
    return float(found.reshape(-1)[0])


def go_on(x):
    """Where the layers of a node are added to: the way that led to x, where nobody else needs x, or a new one."""
    return x.seen_as(x.shape, x.order, x.flat) if x.uses == 1 and x.up is not None else x.branch()


def sized(node, shape):
    """The axes of a value behind the batch, which must be known and not empty."""
    if not all(type(axis) is int and axis > 0 for axis in shape[1:]):
        raise node.refuse("only the number of samples may be open", shape)
    return shape


# ---- activations ----


def activated(h, kind, **arguments):
    """An activation, in the layer before it where that has room."""
    last = h.last
    if last is not None and last.name in (*AFFINE, "Residual") and last.arguments.get("activation") is None:
        layer = kind(**arguments)
        if kind in (layers.ReLU, layers.LeakyReLU, layers.ELU) or not arguments:
            new = h.without_last()
            new.steps = (*new.steps, last.changed({"activation": (kind, arguments) if arguments else layer.activation}))
            return new.seen_as(h.shape, h.order, h.flat)
    return h.then(kind, **arguments)


PLAIN = {
    "Sigmoid": layers.Sigmoid,
    "Tanh": layers.Tanh,
    "HardSwish": layers.HardSwish,
    "Softplus": layers.Softplus,
}


@operator("Relu", "Softsign", "Exp", *PLAIN)
def _plain(reader, node, inputs):
    x = data(node, inputs)
    named = {"Softsign": "softsign", "Exp": "exponential"}
    if node.op in named:
        return go_on(x).then(layers.Activation, activation=named[node.op])
    found = activated(go_on(x), PLAIN.get(node.op, layers.ReLU))
    if node.op == "Sigmoid":
        found.forms = reader.atom(node, x, "Sigmoid")
    return found


@operator("LeakyRelu", "Elu", "ThresholdedRelu", "Celu", "Selu", "Gelu", "HardSigmoid", "Swish")
def _with_numbers(reader, node, inputs):
    x, alpha = data(node, inputs), node.get("alpha")
    h = go_on(x)
    if node.op in ("LeakyRelu", "Elu", "ThresholdedRelu"):
        name, kind, default = {
            "LeakyRelu": ("slope", layers.LeakyReLU, 0.01),
            "Elu": ("alpha", layers.ELU, 1.0),
            "ThresholdedRelu": ("threshold", layers.ReLU, 1.0),
        }[node.op]
        alpha = default if alpha is None else alpha
        if not 0 <= alpha < math.inf:
            raise node.refuse("alpha must be a number >= 0", alpha)
        if node.op == "Elu" and alpha == 1:
            return activated(h, kind)
        return activated(h, kind, **{name: _short(alpha)})
    if node.op == "Selu":
        a, scale = 1.67326319217681884765625 if alpha is None else alpha, node.get("gamma", 1.05070102214813232421875)
        if abs(a - 1.6732632423543772) < CLOSE and abs(scale - 1.0507009873554805) < CLOSE:
            return activated(h, layers.SELU)
        if not 0 <= a < math.inf:
            raise node.refuse("alpha must be a number >= 0", a)
        return scaled(h.then(layers.ELU, alpha=a), scale)
    if node.op == "Gelu":
        node.choose("approximate", "none")  # no layer has the form with tanh
        return activated(h, layers.GELU)
    if node.op == "HardSigmoid":
        alpha, beta = 0.2 if alpha is None else alpha, node.get("beta", 0.5)
        if abs(alpha - 1 / 6) < CLOSE and abs(beta - 0.5) < CLOSE:
            found = activated(h, layers.HardSigmoid)
        else:
            found = clipped(node, scaled(h, alpha, beta), 0.0, 1.0)
        found.forms = reader.atom(node, x, "clip", alpha, beta, 1.0)
        return found
    alpha = 1.0 if alpha is None else alpha
    if alpha == 0:
        raise node.refuse("alpha must not be 0", alpha)
    if node.op == "Celu":  # alpha ELU(x / alpha)
        if alpha < 0:
            raise node.refuse("alpha must be > 0", alpha)
        return scaled(scaled(h, 1 / alpha).then(layers.ELU), alpha)
    return scaled(scaled(h, alpha).then(layers.Swish), 1 / alpha)


def _short(value):
    """A float32 as the decimal number that it was made from."""
    return float(str(np.float32(value)))


@operator("Clip", "Max", "Min")
def _bounded(reader, node, inputs):
    values = [one for one in inputs if isinstance(one, Held)]
    if len(values) != 1:
        raise node.refuse("no layer takes the larger or the smaller of two values that are both data")
    x = data(node, values)
    if node.op == "Clip":
        low, high = (
            (node.get("min"), node.get("max"))
            if node.version < 11
            else (
                scalar(node, inputs, 1),
                scalar(node, inputs, 2),
            )
        )
    else:
        bounds = [scalar(node, inputs, place) for place, one in enumerate(inputs) if one is not x]
        low = max(bounds, default=None) if node.op == "Max" else None
        high = min(bounds, default=None) if node.op == "Min" else None
    found = clipped(node, go_on(x), low, high)
    if low == 0 and high is not None:
        found.forms = reader.atom(node, x, "clip", 1.0, 0.0, high)
    elif node.op == "Min":
        found.forms = reader.atom(node, x, "Min", high)
    return found


def clipped(node, h, low, high):
    """min(max(x, low), high)."""
    least = float(np.finfo(np.float32).min)
    low = None if low is None or low <= least else low
    high = None if high is None or high >= -least else high
    if any(one is not None and not math.isfinite(one) for one in (low, high)):
        raise node.refuse("the bounds must be numbers", (low, high))
    if low is None:
        return h if high is None else scaled(scaled(h, -1.0, high).then(layers.ReLU), -1.0, high)
    if high is not None and high <= low:
        raise node.refuse("the lower bound must be below the upper one", (low, high))
    top = {} if high is None else {"max_value": _short(high - low)}
    if low == 0:
        return activated(h, layers.ReLU, **top)
    return scaled(scaled(h, 1.0, -low).then(layers.ReLU, **top), 1.0, low)


@operator("PRelu")
def _prelu(reader, node, inputs):
    x = data(node, inputs)
    h = go_on(x)
    if len(h.shape) < 2:
        raise node.refuse("a sample must have an axis", h.shape)
    alpha = h.arranged(node, constant(node, inputs, 1))
    if any(1 < size < whole for size, whole in zip(alpha.shape, h.sample, strict=True)):
        raise node.refuse("slopes must broadcast", alpha.shape)
    if alpha.size > 1:
        h.spread(node, alpha)  # for its limit: the layer numbers what follows the first axis of its own
    shared = [axis for axis, size in enumerate(alpha.shape, 1) if size == 1]
    return h.then(layers.PReLU, arrays={"alpha": alpha}, shared_axes=shared or None)


@operator("Softmax", "LogSoftmax")
def _softmax(reader, node, inputs):
    x, kind = data(node, inputs), getattr(layers, node.op)
    h, old = go_on(x), node.version < 13
    rank = len(x.shape)
    axis = axis_of(node, 1 if old else -1, rank)
    if axis == 0:
        raise node.refuse("must not mix samples, which are axis 0", axis)
    if rank == 2:
        return activated(h, kind)  # in whatever order
    if old and axis < rank - 1:  # of all axes from that one on
        h = h.settled()
        rows = h.reshaped((*h.shape[:axis], math.prod(h.shape[axis:])))
        return reader.imaged(node, rows.then(kind).reshaped(h.shape))
    order = h.order
    return activated(h.with_last(axis), kind).back(order)


# ---- arithmetic with constants ----


class Scale(Step):
    """y = (x - m) g + b, with m, g and b single numbers, one for each channel, or one for each number of a sample."""

    def __init__(self, shape, m=0.0, g=1.0, b=0.0):
        super().__init__(layers.Rescaling, shape, {}, {})
        self.m, self.g, self.b = (np.asarray(one, np.float64) for one in (m, g, b))

    def times(self, c):
        return Scale(self.shape, self.m, self.g * c, self.b * c)

    def plus(self, c):
        if (self.g == 1).all():
            return Scale(self.shape, self.m - c, self.g, self.b)
        return Scale(self.shape, self.m, self.g, self.b + c)

    def steps(self):
        """The layers that say it."""
        shape, axes = self.shape, max(one.ndim for one in (self.m, self.g, self.b))
        if not axes:
            scale, offset = float(self.g), float(self.b - self.m * self.g)
            return (
                []
                if (scale, offset) == (1, 0)
                else [Step(layers.Rescaling, shape, {"scale": scale, "offset": offset}, {})]
            )
        part = shape[-1:] if axes == 1 else shape
        m, g, b = (np.broadcast_to(one, part) for one in (self.m, self.g, self.b))
        if ((g > 0) & (b == 0)).all() or (g == 1).all():
            m = m - b if b.any() else m
            arguments = {"axis": -1 if axes == 1 else [*range(1, len(shape) + 1)]}
            return [
                Step(layers.Normalization, shape, arguments, {"mean": m, "variance": 1 / g**2, "count": np.ones(1)})
            ]
        flat = (math.prod(part),)
        ones = np.full(flat, 1 - EPSILON)
        arrays = {"gamma": g, "beta": b, "moving_mean": m, "moving_variance": ones}
        arrays = {name: one.reshape(flat) for name, one in arrays.items()}
        norm = Step(layers.BatchNormalization, flat if axes > 1 else shape, {"epsilon": EPSILON}, arrays)
        if axes == 1 or len(shape) == 1:
            return [norm]
        return [Step(layers.Flatten, flat, {}, {}), norm, Step(layers.Reshape, shape, {"target_shape": shape}, {})]


EPSILON = 1e-3


def _with_scale(h, times=None, plus=None):
    last = h.last
    if isinstance(last, Scale):
        before = h.without_last()
    else:
        before, last = h, Scale(h.sample)
    last = last if times is None else last.times(times)
    last = last if plus is None else last.plus(plus)
    new = before.seen_as(h.shape, h.order, h.flat)
    new.steps = (*before.steps, last)
    return new


def scaled(h, scale, offset=0.0):
    return _with_scale(h, scale, offset if offset else None)


def _brief(h, node, c):
    """A constant as the model needs it: one number, one for each channel, or as many as a sample has."""
    c = h.arranged(node, c).astype(np.float64)
    if c.size == 1:
        return c.reshape(())
    if c.ndim and c.size == c.shape[-1]:
        return c.reshape(-1)
    return h.spread(node, c)


def shifted(node, h, c):
    """x + c, in the layer before where that has room."""
    last = h.last
    c = _brief(h, node, c)
    if last is not None and last.arguments.get("activation") is None:
        if last.name in AFFINE and c.ndim < 2:
            bias = last.arrays.get("bias", 0.0) + np.broadcast_to(c, h.sample[-1:])
            return _instead(h, last.changed({"use_bias": True}, bias=bias))
        if _fits(last, c):
            return _instead(h, last.changed(beta=last.arrays["beta"] + c))
    return _with_scale(h, plus=c)


def multiplied(node, h, c):
    last = h.last
    c = _brief(h, node, c)
    if last is not None and _fits(last, c):
        return _instead(h, last.changed(gamma=last.arrays["gamma"] * c, beta=last.arrays["beta"] * c))
    return _with_scale(h, times=c)


def _fits(step, c):
    """Whether a normalisation takes a constant into its gamma and beta."""
    if step.name not in NORMS or not {"gamma", "beta"} <= step.arrays.keys():
        return False
    return c.shape == step.arrays["beta"].shape or (c.ndim == 1 == step.arrays["beta"].ndim)


def _instead(h, step):
    new = h.without_last().seen_as(h.shape, h.order, h.flat)
    new.steps = (*new.steps, step)
    return new


@operator("Add", "Sub", "Mul", "Div", "Neg", "Sum", "Mean")
def _arithmetic(reader, node, inputs):
    op = node.op
    if node.op == "Neg":
        x = data(node, inputs)
        return _formed(reader, scaled(go_on(x), -1.0), x, -1.0, 0.0)
    values = [one for one in inputs if isinstance(one, Held)]
    for one in values:
        data(node, [one])
    if op in ("Sum", "Mean"):
        found = inputs[0]
        for number, one in enumerate(inputs[1:], 1):
            found = _two(reader, node, "Add", [found, one], number == 1 and len(inputs) == 2)
        found = go_on(found) if len(inputs) == 1 else found
        return scaled(found, 1 / len(inputs)) if op == "Mean" else found
    return _two(reader, node, op, inputs, True)


def _two(reader, node, op, inputs, named):
    a, b = inputs
    if isinstance(a, Held) and isinstance(b, Held):
        return _merged(reader, node, a, b, op)
    x, c = (a, b) if isinstance(a, Held) else (b, a)
    if c.dtype.kind != "f":
        raise node.refuse("constants must be floating point numbers", c.dtype.name)
    if op == "Div" and x is b:
        raise node.refuse("no layer divides by data")
    h, one = go_on(x), float(c.reshape(-1)[0]) if c.size == 1 else None
    if c.ndim > len(x.shape):
        raise node.refuse(f"a constant must not have more axes than the data, {x.shape}", c.shape)
    if op == "Add":
        return _formed(reader, shifted(node, h, c), x, 1.0, one)
    if op == "Sub":
        if x is a:
            return _formed(reader, shifted(node, h, -c), x, 1.0, None if one is None else -one)
        return _formed(reader, shifted(node, scaled(h, -1.0), c), x, -1.0, one)
    if op == "Div":
        with np.errstate(all="ignore"):
            c = 1 / c.astype(np.float64)
        if not np.isfinite(c).all():
            raise node.refuse("must not divide by 0")
        one = None if one is None else 1 / one
    return _formed(reader, multiplied(node, h, c), x, one, 0.0)


def _merged(reader, node, a, b, op):
    """What becomes of two values that are both data."""
    if op in ("Mul", "Div"):
        found = reader.product(node, a, b) if op == "Mul" else reader.quotient(a, b)
        if found is None:
            raise node.refuse("no layer multiplies or divides data by data, but for activations that are known")
        return found
    if a.shape != b.shape:
        raise node.refuse("both values must have the same shape, for no layer broadcasts data", (a.shape, b.shape))
    first = meeting([a, b])
    ways = [a.branch(), b.branch()]
    if a.flat != b.flat:
        ways = [one.settled() for one in ways]
    ways[1] = ways[1].permuted(ways[0].order)
    if op == "Sub":
        ways[1] = scaled(ways[1], -1.0)
    body, shortcut = (way(node, first, one) for one in ways)
    if not body:
        body, shortcut = shortcut, body
    h = Held(ways[0].shape, ways[0].order, first, (), ways[0].flat)
    if not body:  # x + x
        return scaled(h, 2.0)
    h.steps = (Merge(node, layers.Residual, h.sample, [body, shortcut], {}),)
    return h


@operator("Concat")
def _concat(reader, node, inputs):
    rank = len(inputs[0].shape)
    axis = axis_of(node, None, rank)
    if axis == 0:
        raise node.refuse("must not join samples, which are axis 0", axis)
    for place, one in enumerate(inputs):
        if not isinstance(one, Held):
            raise node.refuse(f"no layer puts a constant, {node.inputs[place]!r}, beside data")
        data(node, [one])
        rest = [size for place, size in enumerate(one.shape) if place != axis]
        if rest != [size for place, size in enumerate(inputs[0].shape) if place != axis]:
            raise node.refuse("shapes must agree but for the axis", [value.shape for value in inputs])
    first = meeting(inputs)
    order = inputs[0].order
    parts = [one.branch().with_last(axis) for one in inputs]
    parts = [one.permuted(parts[0].order) for one in parts]
    shape = list(inputs[0].shape)
    shape[axis] = sum(one.shape[axis] for one in inputs)
    ways = [way(node, first, one) for one in parts]
    h = Held(shape, parts[0].order, first)
    h.steps = (Merge(node, layers.Concurrent, h.sample, ways, {}),)
    return h.back(order)


def _formed(reader, found, x, factor, offset):
    """``found`` = factor x + offset, where both are single numbers."""
    if factor is not None and offset is not None:
        for root, terms in reader.forms(x):
            terms = {product: value * factor for product, value in terms.items()}
            terms[()] = terms.get((), 0.0) + offset
            found.forms = (*found.forms, (root, terms))
    return found


@operator("Erf", "Greater", "Log", "Pow", "Sqrt", "Reciprocal", "Abs", "Not", "Less", "Floor")
def _no_layer(reader, node, inputs):
    """What stands only within patterns: a step that is broken unless the pattern is known."""
    x = next(one for one in inputs if isinstance(one, Held))
    h = go_on(x)
    if h.broken is None:
        h.broken = node.refuse("no layer computes this operator")
    if node.op in ("Erf", "Abs"):
        h.forms = reader.atom(node, x, node.op)
    node.get("fmod")
    return h


@operator("Where")
def _where(reader, node, inputs):
    found = reader.chosen(*inputs)
    if found is None:
        raise node.refuse("no layer chooses between values, but for activations that are known")
    return found


# ---- sums over windows ----


def _image(node, x):
    """The value as images of four axes, channels last in the model: (N, C, H, W), or (N, C, L) with a width of 1."""
    h = go_on(x)
    if len(h.shape) == 4:
        return h.permuted(image_order(4))
    if len(h.shape) != 3:
        raise node.refuse("layers have windows over one or two axes, (N, C, L) or (N, C, H, W)", x.shape)
    return h.permuted((0, 2, 1)).reshaped((*h.shape, 1), image_order(4))


def _unimage(h, rank):
    return h if rank == 4 else h.reshaped(h.shape[:3], (0, 2, 1))


def _numbers(node, name, default, count, low):
    """An attribute of one whole number for each axis of a window, the second filled up."""
    found = node.get(name)
    if found is None:
        found = [default] * count
    if len(found) != count or any(one < low for one in found):
        raise node.refuse(f"{name} must be {count} whole numbers >= {low}", found)
    return found


def _axes(node, name, default, count, low=1):
    found = _numbers(node, name, default, count, low)
    return tuple(found) + (default,) * (2 - count)


def _pads(node, count):
    """((top, bottom), (left, right)) of ``pads``, and auto_pad."""
    pads = _numbers(node, "pads", 0, 2 * count, 0)
    auto = node.choose("auto_pad", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    if auto != "NOTSET" and any(pads):
        raise node.refuse("must have either pads or auto_pad", auto)
    sides = [*zip(pads[:count], pads[count:], strict=True)]
    return sides + [(0, 0)] * (2 - count), auto


def _padding(pads):
    """What a layer calls it."""
    if not any(map(sum, pads)):
        return "valid"
    return pads[0][0] if len({*pads[0], *pads[1]}) == 1 else tuple(map(tuple, pads))


def _placed(node, sizes, window, strides, dilations, count, ceil=False):
    """(padding, rows and columns more that ceil_mode adds, output sizes) of windows over an image."""
    pads, auto = _pads(node, count)
    extra, out = [0, 0], [0, 0]
    for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
        extent = (window[axis] - 1) * dilations[axis] + 1
        if auto[:4] == "SAME" and axis < count:
            out[axis] = -(-size // stride)
            total = max((out[axis] - 1) * stride + extent - size, 0)
            less, more = total // 2, total - total // 2
            pads[axis] = (less, more) if auto == "SAME_UPPER" else (more, less)
        before, after = pads[axis]
        room = size + before + after - extent
        if room < 0:
            raise node.refuse(f"windows of {extent} must fit into {size} with the padding {pads[axis]}")
        out[axis] = room // stride + 1
        if ceil and room % stride and out[axis] * stride < size + before:  # none may begin behind the image
            out[axis] += 1
            extra[axis] = (out[axis] - 1) * stride + extent - size - before - after
    return pads, extra, out


def _kernel_shape(node, w):
    given = node.get("kernel_shape")
    if given is not None and tuple(given) != w.shape[2:]:
        raise node.refuse(f"kernel_shape must be that of the weights, {w.shape[2:]}", given)


def _weights(node, inputs, rank):
    w, bias = constant(node, inputs, 1), constant(node, inputs, 2, optional=True)
    if w.ndim != rank or 0 in w.shape:
        raise node.refuse(f"weights must have {rank} axes, none of them empty", w.shape)
    _kernel_shape(node, w)
    return (w if rank == 4 else w[..., None]), bias


@operator("Conv")
def _conv(reader, node, inputs):
    x = data(node, inputs)
    rank, count = len(x.shape), len(x.shape) - 2
    h = _image(node, x)
    w, bias = _weights(node, inputs, rank)
    strides, dilations = _axes(node, "strides", 1, count), _axes(node, "dilations", 1, count)
    n, c, *sizes = h.shape
    filters, each, *window = w.shape
    groups = node.get("group", 1)
    if groups < 1 or each * groups != c or filters % groups:
        raise node.refuse(f"the weights must fit {c} channels in {groups} groups", w.shape)
    pads, _, out = _placed(node, sizes, window, strides, dilations, count)
    last = h.last
    if last is not None and last.name == "ZeroPadding2D":
        pads = [tuple(map(sum, zip(*both, strict=True))) for both in zip(pads, last.arguments["padding"], strict=True)]
        h = h.without_last()
    kernel = w.transpose(2, 3, 1, 0)  # (KH, KW, C / groups, F)
    arguments = {"strides": strides, "padding": _padding(pads), "dilation_rate": dilations}
    kind, arguments = layers.Conv2D, {"filters": filters, "kernel_size": tuple(window), **arguments, "groups": groups}
    if groups == c > 1:
        kernel = kernel.reshape(*window, c, filters // c)
        kind, _, _ = layers.DepthwiseConv2D, arguments.pop("filters"), arguments.pop("groups")
        arguments["depth_multiplier"] = filters // c
    return _unimage(_affine(node, h, kind, (n, filters, *out), kernel, bias, arguments), rank)


def _affine(node, h, kind, shape, kernel, bias, arguments, order=None):
    units = shape[h.order[-1]]
    if bias is not None and bias.shape != (units,):
        raise node.refuse(f"the bias must have {units} numbers", bias.shape)
    arrays = {"kernel": kernel} | ({} if bias is None else {"bias": bias})
    return h.then(kind, shape, order, arrays=arrays, **arguments, use_bias=bias is not None)


@operator("ConvTranspose")
def _conv_transpose(reader, node, inputs):
    x = data(node, inputs)
    rank, count = len(x.shape), len(x.shape) - 2
    h = _image(node, x)
    w, bias = _weights(node, inputs, rank)
    strides, dilations = _axes(node, "strides", 1, count), _axes(node, "dilations", 1, count)
    extra = [*_axes(node, "output_padding", 0, count, 0)]
    n, c, *sizes = h.shape
    if w.shape[0] != c:
        raise node.refuse(f"the weights must fit {c} channels", w.shape)
    if node.get("group", 1) != 1:
        raise node.refuse("transposed convolutions must have one group")
    (pads, auto), wanted = _pads(node, count), node.get("output_shape")
    if wanted is not None:
        wanted = wanted[-count:] if len(wanted) in (count, count + 2) else []
        if len(wanted) != count:
            raise node.refuse(f"output_shape must have {count} numbers", wanted)
    out = [1, 1]
    for axis in range(2):
        whole = (sizes[axis] - 1) * strides[axis] + (w.shape[2 + axis] - 1) * dilations[axis] + 1 + extra[axis]
        if axis < count and (wanted is not None or auto[:4] == "SAME"):
            total = whole - (sizes[axis] * strides[axis] if wanted is None else wanted[axis])
            if total < 0:
                extra[axis], total = extra[axis] - total, 0
            less, more = total // 2, total - total // 2
            pads[axis] = (less, more) if auto == "SAME_UPPER" else (more, less)
        out[axis] = whole - sum(pads[axis])
        if wanted is not None and axis < count:
            out[axis] = wanted[axis]
        if out[axis] < 1:
            raise node.refuse("something must be left of the output", out)
    arguments = {"filters": w.shape[1], "kernel_size": w.shape[2:], "strides": strides, "padding": tuple(pads)}
    if any(extra):
        arguments["output_padding"] = tuple(extra)
    if any(more >= stride for more, stride in zip(extra, strides, strict=True)):
        raise node.refuse(f"output_padding must be less than the strides, {strides}", tuple(extra))
    shape = (n, w.shape[1], *out)
    arguments["dilation_rate"] = dilations
    return _unimage(_affine(node, h, layers.Conv2DTranspose, shape, w.transpose(2, 3, 1, 0), bias, arguments), rank)


@operator("MaxPool", "AveragePool")
def _pool(reader, node, inputs):
    x = data(node, inputs)
    rank, count = len(x.shape), len(x.shape) - 2
    lowest = node.op == "MaxPool" and x.origin is not None and getattr(x, "lowest", None)
    if lowest:  # padded with what never wins
        x, lowest = lowest
    h = _image(node, x)
    window, strides = _axes(node, "kernel_shape", 0, count), _axes(node, "strides", 1, count)
    window = tuple(max(1, one) for one in window)
    dilations = _axes(node, "dilations", 1, count)
    if any(one > 1 and size > 1 for one, size in zip(dilations, window, strict=True)):
        raise node.refuse("no pooling layer has a dilation", dilations)
    node.get("storage_order")  # of the second output
    counted = bool(node.get("count_include_pad", 0))
    n, c, *sizes = h.shape
    if lowest:
        sizes = [size + sum(pad) for size, pad in zip(sizes, lowest, strict=True)]
    pads, extra, out = _placed(node, sizes, window, strides, (1, 1), count, bool(node.get("ceil_mode", 0)))
    if lowest:
        pads = [tuple(map(sum, zip(*both, strict=True))) for both in zip(pads, lowest, strict=True)]
    kind, arguments = layers.MaxPooling2D, {"pool_size": window, "strides": strides}
    if node.op == "AveragePool":
        kind = layers.AveragePooling2D
        if counted and any(map(sum, pads)) and any(extra):  # the padding counts, what ceil_mode adds does not
            padded = [size + sum(pad) for size, pad in zip(sizes, pads, strict=True)]
            h = h.then(layers.ZeroPadding2D, (n, c, *padded), padding=tuple(pads))
            pads = [(0, 0), (0, 0)]
        elif counted and any(map(sum, pads)):
            arguments["count_include_pad"] = True
    pads = [(before, after + more) for (before, after), more in zip(pads, extra, strict=True)]
    return _unimage(h.then(kind, (n, c, *out), padding=_padding(pads), **arguments), rank)


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(reader, node, inputs):
    x = data(node, inputs)
    if len(x.shape) < 3:
        raise node.refuse("there must be axes behind the channels", x.shape)
    kind = layers.GlobalAveragePooling2D if node.op == "GlobalAveragePool" else layers.GlobalMaxPooling2D
    return _reduced(go_on(x), kind, [*range(2, len(x.shape))], True)


@operator("ReduceMean", "ReduceMax", "ReduceSum", "ReduceMin")
def _reduce(reader, node, inputs):
    x = data(node, inputs)
    if len(inputs) > 1 and isinstance(inputs[1], Held):
        constant(node, inputs, 1)
    axes = axes_of(node, inputs, 1, len(x.shape))
    keep, nothing = bool(node.get("keepdims", 1)), node.get("noop_with_empty_axes", 0)
    if not axes and nothing:
        return go_on(x)
    axes = axes or [*range(len(x.shape))]
    if 0 in axes:
        raise node.refuse("must not mix samples, which are axis 0", axes)
    kind = layers.GlobalAveragePooling2D if node.op in ("ReduceMean", "ReduceSum") else layers.GlobalMaxPooling2D
    h = go_on(x)
    h = scaled(h, -1.0) if node.op == "ReduceMin" else h
    h = _reduced(h, kind, axes, keep)
    if node.op == "ReduceSum":
        return scaled(h, float(math.prod(x.shape[axis] for axis in axes)))
    return scaled(h, -1.0) if node.op == "ReduceMin" else h


def _reduced(h, kind, axes, keep):
    """The mean or the maximum over some axes of each sample, which become 1 or vanish."""
    h = h if h.flat is None else h.settled()
    shape, kept = h.shape, [axis for axis in h.order[1:] if axis not in axes]
    if len(h.sample) != 3 or {*h.order[1:3]} != {*axes}:
        h = h.permuted([0, *sorted(axes, key=h.order.index), *kept])
        sizes = math.prod(shape[axis] for axis in axes), 1, math.prod(shape[axis] for axis in kept)
        h = h.reshaped((h.batch, *sizes))
    size = math.prod(shape[axis] for axis in kept)
    h = h.then(kind, (h.batch, size), (0, 1))
    if keep:
        new = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
        return h.reshaped(new, (0, *sorted(axes), *kept))
    place = {axis: number for number, axis in enumerate(axis for axis in range(len(shape)) if axis not in axes)}
    return h.reshaped(tuple(shape[axis] for axis in place), (0, *(place[axis] for axis in kept)))


@operator("Gemm", "MatMul")
def _dense(reader, node, inputs):
    if node.op == "MatMul" and isinstance(inputs[1], Held):
        return _dense_from_left(node, inputs)
    x = data(node, inputs)
    w, bias = constant(node, inputs, 1), None
    rank = len(x.shape)
    if node.op == "Gemm":
        alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
        if node.get("transA", 0):
            raise node.refuse("transA must be 0: it makes samples of what are numbers of a sample", 1)
        if rank != 2 or w.ndim != 2:
            raise node.refuse("both factors must have two axes", (x.shape, w.shape))
        w = w.T if node.get("transB", 0) else w
        w = w if alpha == 1 else w * alpha
        bias = constant(node, inputs, 2, optional=True)
    if rank < 2 or w.ndim < 1:
        raise node.refuse("a sample must have an axis", x.shape)
    single = w.ndim == 1
    w = w[:, None] if single else w
    if w.ndim > 2 and (math.prod(w.shape[:-2]) != 1 or w.ndim > rank):
        raise node.refuse("the second factor must be one matrix for all", w.shape)
    w = w.reshape(w.shape[-2:])
    if w.shape[0] != x.shape[-1] or 0 in w.shape:
        raise node.refuse(f"the second factor must have {x.shape[-1]} rows", w.shape)
    h = go_on(x)
    order, axis = h.order, rank - 1
    if h.flat is None:
        h = h.with_last(axis)
    elif h.rows is not None:
        w = w[h.rows]
    if bias is not None:
        if bias.ndim > 2 or (bias.ndim and bias.shape[-1] not in (1, w.shape[1])):
            raise node.refuse(f"the bias must broadcast to {(h.batch, w.shape[1])}", bias.shape)
        rows = bias.reshape(-1, bias.shape[-1] if bias.ndim else 1)
        if rows.shape[0] not in (1, h.batch) or (rows != rows[:1]).any():
            raise node.refuse("the bias must be the same for all samples", bias.shape)
        bias = np.broadcast_to(rows[0] if beta == 1 else rows[0] * beta, w.shape[1:])
    shape = (*x.shape[:-1], w.shape[1])
    h = _affine(node, h, layers.Dense, shape, w, bias, {"units": w.shape[1]}, h.order if h.flat is None else (0, 1))
    if single:
        return reader.reshape(node, h, shape[:-1])
    return h.back(order)


def _dense_from_left(node, inputs):
    """A constant matrix times data: a Dense along the last axis but one."""
    x, w = data(node, inputs[1:]), inputs[0]
    rank = len(x.shape)
    if isinstance(w, Held) or w.dtype.kind != "f" or w.ndim != 2 or rank < 3 or w.shape[1] != x.shape[-2] or not w.size:
        raise node.refuse("one factor must be a constant matrix that fits, and leave the samples, axis 0, as they are")
    h = go_on(x)
    order = h.order
    h = h.with_last(rank - 2)
    shape = (*x.shape[:-2], w.shape[0], x.shape[-1])
    return _affine(node, h, layers.Dense, shape, w.T, None, {"units": w.shape[0]}).back(order)


# ---- normalisations ----


def _with_channels(x):
    """The value with axis 1 of the graph last in the model."""
    h = go_on(x)
    return h if h.flat is not None else h.with_last(1)


def _of_channels(node, h, inputs, places, names, count):
    """{name: array} of constants with one number for each channel, in the model's order."""
    found = {}
    for place, name in zip(places, names, strict=True):
        array = constant(node, inputs, place)
        if array.shape != (count,):
            raise node.refuse(f"its input {place + 1} must have {count} numbers, one for each channel", array.shape)
        found[name] = array if h.flat is None else array[h.rows]
    return found


@operator("BatchNormalization")
def _batch_norm(reader, node, inputs):
    x = data(node, inputs)
    if node.get("training_mode", 0) or node.get("spatial", 1) != 1:
        raise node.refuse("must use its stored mean and variance, one of each for every channel")
    momentum, epsilon = node.get("momentum", 0.9), node.get("epsilon", 1e-5)
    if len(x.shape) < 2:
        raise node.refuse("a sample must have channels", x.shape)
    h = _with_channels(x)
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    arrays = _of_channels(node, h, inputs, (1, 2, 3, 4), names, x.shape[1])
    if not (arrays["moving_variance"] >= 0).all():
        raise node.refuse("variances must be >= 0")
    return h.then(layers.BatchNormalization, arrays=arrays, momentum=_short(momentum), epsilon=_short(epsilon)).back(
        x.order
    )


@operator("InstanceNormalization", "GroupNormalization")
def _group_norm(reader, node, inputs):
    x = data(node, inputs)
    if len(x.shape) < 3:
        raise node.refuse("there must be axes behind the channels", x.shape)
    channels, epsilon = x.shape[1], node.get("epsilon", 1e-5)
    groups = node.get("num_groups") if node.op == "GroupNormalization" else channels
    node.get("stash_type")
    if groups < 1 or channels % groups:
        raise node.refuse(f"groups must divide the {channels} channels", groups)
    h = _with_channels(x)
    of_groups = node.op == "GroupNormalization" and node.version < 21
    arrays = _of_channels(node, h, inputs, (1, 2), ("gamma", "beta"), groups if of_groups else channels)
    if of_groups:
        arrays = {name: np.repeat(array, channels // groups) for name, array in arrays.items()}
    return h.then(layers.GroupNormalization, arrays=arrays, groups=groups, epsilon=_short(epsilon)).back(x.order)


@operator("LayerNormalization")
def _layer_norm(reader, node, inputs):
    x = data(node, inputs)
    rank = len(x.shape)
    axis, epsilon = axis_of(node, -1, rank), node.get("epsilon", 1e-5)
    node.get("stash_type")
    if axis == 0:
        raise node.refuse("must not mix samples, which are axis 0", axis)
    gamma, beta = constant(node, inputs, 1), constant(node, inputs, 2, optional=True)
    h = go_on(x)
    order, last = h.order, h.order[axis:]
    if h.flat is None and {*last} != {*range(axis, rank)}:
        h = h.permuted(range(rank))
        last = h.order[axis:]
    arrays = {}
    for name, array in (("gamma", gamma), ("beta", beta)):
        if array is None:
            continue
        if array.ndim > rank - axis or array.size > math.prod(x.shape[axis:]):
            raise node.refuse(f"scale and bias must fit the axes {x.shape[axis:]}", array.shape)
        arrays[name] = h.spread(node, h.arranged(node, array))[(0,) * (axis - 1)]
    axes = -1 if axis == rank - 1 else [*range(axis, rank)]
    h = h.then(layers.LayerNormalization, arrays=arrays, axis=axes, epsilon=_short(epsilon), center=beta is not None)
    return h.back(order) if h.flat is None else h


# ---- what only arranges, cuts and pads ----


@operator("Identity")
def _identity(reader, node, inputs):
    return inputs[0]


@operator("Dropout")
def _dropout(reader, node, inputs):
    x, seed = data(node, inputs), node.get("seed")
    rate = node.get("ratio", 0.5) if node.version < 12 else scalar(node, inputs, 1, 0.5)
    training = inputs[2] if len(inputs) > 2 else None
    if isinstance(training, Held) or (training is not None and training.size != 1):
        raise node.refuse("training_mode must be a constant")
    if not 0 <= rate <= 1:
        raise node.refuse("the ratio must be in [0, 1]", rate)
    if training is not None and training.reshape(-1)[0] and rate > 0:
        raise node.refuse("a layer drops in training only, not where predictions are made", "training_mode = True")
    arguments = {} if seed is None or seed < 0 else {"seed": seed}
    return go_on(x).then(layers.Dropout, rate=_short(rate), **arguments)


@operator("Cast")
def _cast(reader, node, inputs):
    from minicnn.interop.onnx_file import dtype_of

    x, dtype = inputs[0], dtype_of(node.label, node.get("to"))
    node.get("saturate"), node.get("round_mode")
    if dtype != reader.dtype:
        raise node.refuse(f"data must stay {reader.dtype}, in which the model computes", dtype.name)
    if x.ready:
        return x
    h = x.branch()
    h.ready = True
    return h


@operator("Transpose")
def _transpose(reader, node, inputs):
    x = inputs[0]
    rank = len(x.shape)
    perm = node.get("perm", [*range(rank)][::-1])
    if sorted(perm) != [*range(rank)]:
        raise node.refuse(f"perm must name the {rank} axes", perm)
    if perm[0] != 0:
        raise node.refuse("must leave the samples, axis 0, where they are", perm)
    if x.flat is not None:
        return x
    h = go_on(x).seen_as([x.shape[axis] for axis in perm], [perm.index(axis) for axis in x.order])
    h.ready = x.ready
    return h


@operator("Reshape")
def _reshape(reader, node, inputs):
    x = data(node, inputs)
    if isinstance(inputs[1] if len(inputs) > 1 else None, Held):
        constant(node, inputs, 1)
    wanted = node.get("shape") if node.version < 5 else inputs[1].reshape(-1).tolist()
    shape = target_shape(node, wanted, x.shape)
    found = _as_group_norm(reader, node, x, shape)
    return reader.reshape(node, go_on(x), shape) if found is None else found


def _as_group_norm(reader, node, x, shape):
    """PyTorch's group normalisation: an instance normalisation between two Reshapes."""
    inner, ins = x.origin or (None, ())
    if inner is None or inner.op != "InstanceNormalization" or x.uses != 1 or x.last is None:
        return None
    outer, before = ins[0].origin or (None, ())
    last = x.last
    if outer is None or outer.op != "Reshape" or before[0].shape != shape or ins[0].uses != 1 or before[0].flat:
        return None
    groups = ins[0].shape[1]
    if last.name != "GroupNormalization" or len(ins[0].shape) != 3 or shape[1] % groups:
        return None
    if any((array != array[0]).any() for array in last.arrays.values()):
        return None
    h = _with_channels(before[0])
    arrays = {name: np.repeat(array[:1], shape[1]) for name, array in last.arrays.items()}
    arguments = last.arguments | {"groups": groups}
    return h.then(layers.GroupNormalization, arrays=arrays, **arguments).back(before[0].order)


@operator("Flatten")
def _flatten(reader, node, inputs):
    x = data(node, inputs)
    axis = axis_of(node, 1, len(x.shape), past=1)
    if axis == 0:
        shape = (1, math.prod(x.shape) if x.batch is not BATCH else 0)
        if x.batch != 1:
            raise node.refuse("must not make numbers of samples, which are axis 0", axis)
    elif math.prod(x.shape[1:axis]) != 1:
        raise node.refuse("must not make samples of what are numbers of a sample", axis)
    else:
        shape = (x.batch, math.prod(x.shape[1:]))
    return reader.reshape(node, go_on(x), shape)


@operator("Squeeze")
def _squeeze(reader, node, inputs):
    x = data(node, inputs)
    axes = axes_of(node, inputs, 1, len(x.shape))
    if axes is None:
        if x.batch is BATCH:
            raise node.refuse("must say its axes where the number of samples is open")
        axes = [axis for axis, size in enumerate(x.shape) if size == 1]
    if 0 in axes or any(x.shape[axis] != 1 for axis in axes):
        raise node.refuse("axes must have length 1, and not be the samples, axis 0", axes)
    return reader.reshape(node, go_on(x), [size for axis, size in enumerate(x.shape) if axis not in axes])


@operator("Unsqueeze")
def _unsqueeze(reader, node, inputs):
    x = data(node, inputs)
    given = node.get("axes") if node.version < 13 else whole_numbers(node, inputs[1], "axes")
    rank = len(x.shape) + len(given)
    axes = [axis + rank if axis < 0 else axis for axis in given]
    if len({*axes}) != len(axes) or not all(0 < axis < rank for axis in axes) or rank > 16:
        raise node.refuse("axes must be different and behind the samples, axis 0", given)
    rest = iter(x.shape)
    return reader.reshape(node, go_on(x), [1 if axis in axes else next(rest) for axis in range(rank)])


def _plane(h, axis):
    """(images, place) of a value: an axis of the graph is rows (0) or columns (1) of images (N, H, W, C).  Where it is
    not in the model, what lies before and behind it become rows and channels."""
    place, sample = h.order.index(axis) - 1, h.sample
    if len(sample) == 3 and place < 2:
        return h.seen_as((h.batch, *sample), (0, 1, 2, 3)), place
    return h.reshaped((h.batch, math.prod(sample[:place]), sample[place], math.prod(sample[place + 1 :]))), 1


def _resized(h, axis, kind, size, **arguments):
    """One axis of the graph cut, padded or thinned by a layer of images; arguments are what it gets for that axis, and
    for the other one if it were not there."""
    image, place = _plane(h, axis)
    shape = [*image.shape]
    shape[1 + place] = size
    arguments = {name: (on, off) if place == 0 else (off, on) for name, (on, off) in arguments.items()}
    image = image.then(kind, shape, **arguments)
    shape = tuple(size if one == axis else length for one, length in enumerate(h.shape))
    return image.reshaped(shape, h.order)


def _cut(h, axis, begin, end, step=1):
    """h[..., begin:end:step, ...] along an axis."""
    whole = h.shape[axis]
    if (begin, end) != (0, whole):
        h = _resized(h, axis, layers.Cropping2D, end - begin, cropping=((begin, whole - end), (0, 0)))
    if step > 1:
        size = -(-(end - begin) // step)
        h = _resized(h, axis, layers.MaxPooling2D, size, pool_size=(1, 1), strides=(step, 1))
    return h


@operator("Slice")
def _slice(reader, node, inputs):
    x = data(node, inputs)
    if any(isinstance(one, Held) for one in inputs[1:]):
        raise node.refuse("starts, ends, axes and steps must be constants")
    h = go_on(x)
    h = h if h.flat is None else h.settled()
    for axis, part in slices(node, inputs, x.shape).items():
        if axis == 0:
            full = part.start == 0 and part.step == 1 and part.stop is not None
            if not (full and part.stop >= (2**31 - 1 if x.batch is BATCH else x.batch)):
                raise node.refuse("must keep all samples, which are axis 0", part)
            continue
        if part.step < 0:
            raise node.refuse("steps must be > 0, for no layer turns around", part.step)
        begin, end, step = part.indices(x.shape[axis])
        if end <= begin:
            raise node.refuse("something must be left", part)
        h = _cut(h, axis, begin, end, step)
    return h


@operator("Split")
def _split(reader, node, inputs):
    x = data(node, inputs)
    axis, count = axis_of(node, 0, len(x.shape)), len(node.outputs)
    if axis == 0:
        raise node.refuse("must not split samples, which are axis 0", axis)
    if node.get("num_outputs", count) != count:
        raise node.refuse(f"num_outputs must be {count}")
    sizes = node.get("split") if node.version < 13 else None
    if sizes is None and len(inputs) > 1 and inputs[1] is not None:
        if isinstance(inputs[1], Held):
            constant(node, inputs, 1)
        sizes = whole_numbers(node, inputs[1], "split")
    if sizes is None:
        each = -(-x.shape[axis] // count)
        sizes = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
    if len(sizes) != count or sum(sizes) != x.shape[axis] or min(sizes) < 1:
        raise node.refuse(f"must split {x.shape[axis]} into {count} parts >= 1", sizes)
    found, begin = [], 0
    for size in sizes:
        h = x.branch()
        found.append(_cut(h if h.flat is None else h.settled(), axis, begin, begin + size))
        begin += size
    return found


@operator("Gather")
def _gather(reader, node, inputs):
    x = data(node, inputs)
    axis, places = axis_of(node, 0, len(x.shape)), inputs[1]
    if axis == 0 or isinstance(places, Held) or places.ndim > 1 or not places.size:
        raise node.refuse("must take constant places of a sample, not samples, which are axis 0")
    size = x.shape[axis]
    found = [one + size if one < 0 else one for one in whole_numbers(node, places, "places")]
    h = go_on(x)
    h = h if h.flat is None else h.settled()
    nearest = np.floor((np.arange(len(found)) + 0.5) * size / len(found) + 2.0**-24)
    if found[0] >= 0 and found == [*range(found[0], found[0] + len(found))] and found[-1] < size:
        h = _cut(h, axis, found[0], found[-1] + 1)
    elif len(h.sample) == 3 and axis in h.order[1:3] and found == nearest.tolist():
        sizes = [len(found) if one == axis else h.shape[one] for one in h.order[1:3]]
        shape = [len(found) if one == axis else length for one, length in enumerate(h.shape)]
        h = h.then(layers.Resizing, shape, height=sizes[0], width=sizes[1], interpolation="nearest")
    else:
        raise node.refuse("places must be neighbours in order", found[:20])
    return h if places.ndim else reader.reshape(node, h, [one for place, one in enumerate(h.shape) if place != axis])


@operator("Pad")
def _pad(reader, node, inputs):
    x = data(node, inputs)
    rank = len(x.shape)
    mode = node.choose("mode", "constant", "edge")
    if node.version < 11:
        pads, value, axes = node.get("pads"), node.get("value", 0.0), [*range(rank)]
    else:
        if any(isinstance(one, Held) for one in inputs[1:]):
            raise node.refuse("pads, value and axes must be constants")
        pads, value = whole_numbers(node, inputs[1], "pads"), scalar(node, inputs, 2, 0.0)
        axes = axes_of(node, inputs, 3, rank, [*range(rank)])
    if len(pads) != 2 * len(axes):
        raise node.refuse(f"pads must have {2 * len(axes)} numbers", pads)
    sides = {axis: (pads[place], pads[place + len(axes)]) for place, axis in enumerate(axes)}
    sides = {axis: both for axis, both in sides.items() if any(both)}
    if 0 in sides:
        raise node.refuse("must not add samples, which are axis 0", pads)
    h = go_on(x)
    h = h if h.flat is None else h.settled()
    for axis, (before, after) in sides.items():
        size = x.shape[axis]
        if min(before, after) < 0:
            if size + min(before, 0) + min(after, 0) < 1:
                raise node.refuse("something must be left", pads)
            h = _cut(h, axis, max(-before, 0), size + min(after, 0))
            sides[axis] = max(before, 0), max(after, 0)
    if not any(map(any, sides.values())):
        return h
    if mode == "edge" or math.isinf(value) or abs(value) > 1e38:
        shape = [sum(sides[axis], size) if axis in sides else size for axis, size in enumerate(h.shape)]
        broken = h.branch().seen_as(shape, h.order)
        broken.broken = node.refuse(
            "layers pad with 0, or with another finite number", mode if mode == "edge" else value
        )
        if (mode == "edge" or value < 0) and rank == 4 and {*sides} <= {2, 3}:
            broken.lowest = x, [sides.get(axis, (0, 0)) for axis in (2, 3)]  # which no maximum sees
        return broken
    h = scaled(h, 1.0, -value) if value else h
    if len(h.sample) == 3 and {*sides} <= {*h.order[1:3]}:
        padding = tuple(sides.get(axis, (0, 0)) for axis in h.order[1:3])
        shape = [sum(sides[axis], size) if axis in sides else size for axis, size in enumerate(h.shape)]
        h = h.then(layers.ZeroPadding2D, shape, padding=padding)
    else:
        for axis, both in sides.items():
            h = _resized(h, axis, layers.ZeroPadding2D, sum(both, h.shape[axis]), padding=(both, (0, 0)))
    return scaled(h, 1.0, value) if value else h


@operator("DepthToSpace", "SpaceToDepth")
def _depth(reader, node, inputs):
    x, size = data(node, inputs), node.get("blocksize")
    if len(x.shape) != 4 or size is None or size < 1:
        raise node.refuse("needs images (N, C, H, W) and a blocksize >= 1", x.shape)
    h = go_on(x).permuted(image_order(4))
    n, c, rows, columns = x.shape
    if node.op == "DepthToSpace":
        crd = node.choose("mode", "DCR", "CRD") == "CRD"
        if c % size**2:
            raise node.refuse(f"{size}^2 must divide the {c} channels", c)
        left = c // size**2
        split = (rows, columns, left, size, size) if crd else (rows, columns, size, size, left)
        dims = (1, 4, 2, 5, 3) if crd else (1, 3, 2, 4, 5)
        shape = (n, left, rows * size, columns * size)
    else:
        if rows % size or columns % size:
            raise node.refuse(f"{size} must divide height and width", (rows, columns))
        crd = node.choose("mode", "DCR", "CRD") == "CRD"
        split, dims = (rows // size, size, columns // size, size, c), (1, 3, 5, 2, 4) if crd else (1, 3, 2, 4, 5)
        shape = (n, c * size**2, rows // size, columns // size)
    split = (n, *split)
    order = (0, *dims)
    h = h.reshaped(split).permuted(order).seen_as([split[axis] for axis in order], range(6))
    return h.reshaped(shape, image_order(4))


@operator("Resize", "Upsample")
def _resize(reader, node, inputs):
    x = data(node, inputs)
    rank = len(x.shape)
    if any(isinstance(one, Held) for one in inputs[1:]):
        raise node.refuse("scales and sizes must be constants")
    old = node.op == "Upsample" or node.version < 11
    ways = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
    mode = node.get("mode", "nearest")
    if mode not in ("nearest", "linear", "bilinear"):
        raise node.refuse("mode must be 'nearest' or 'linear'", mode)
    coordinates = "asymmetric" if old else node.choose("coordinate_transformation_mode", *ways, "tf_half_pixel_for_nn")
    rounding = node.choose("nearest_mode", "floor" if old else "round_prefer_floor", "round_prefer_floor",
                           "round_prefer_ceil", "floor", "ceil")  # fmt: skip
    for name in ("cubic_coeff_a", "exclude_outside", "extrapolation_value"):
        node.get(name)  # of modes that are refused
    policy, antialias = (
        node.choose("keep_aspect_ratio_policy", "stretch", "not_larger", "not_smaller"),
        node.get("antialias", 0),
    )
    axes = axes_of(node, [], 9, rank, [*range(rank)])
    parts = [None, *inputs[1:]] if old else [*inputs[2:]]
    parts = (
        [one if one is not None and one.size else None for one in parts[-1:] if old]
        if old
        else [one if one is not None and one.size else None for one in (*parts, None, None)[:2]]
    )
    scales, sizes = (parts[0] if parts else None, None) if old else parts
    if old and node.op == "Upsample" and node.version < 9:
        scales = np.array(node.get("scales"))
    if (scales is None) == (sizes is None) or (scales if sizes is None else sizes).shape != (len(axes),):
        raise node.refuse(f"needs either scales or sizes, {len(axes)} of them")
    ratio, out = [1.0] * rank, [*x.shape]
    if sizes is not None:
        wanted = dict(zip(axes, sizes.tolist(), strict=True))
        if policy != "stretch":
            each = [wanted[axis] / x.shape[axis] for axis in axes if axis]
            one = min(each) if policy == "not_larger" else max(each)
            wanted = {axis: math.floor(one * x.shape[axis] + 0.5) if axis else wanted[axis] for axis in axes}
        for axis, size in wanted.items():
            if axis:
                ratio[axis] = one if policy != "stretch" else size / x.shape[axis]
            out[axis] = size if axis or size is not x.batch else x.batch
    else:
        for axis, scale in zip(axes, scales.tolist(), strict=True):
            if not 0 < scale < 2**16:
                raise node.refuse("scales must be > 0", scale)
            ratio[axis] = scale
            out[axis] = math.floor(x.shape[axis] * scale) if axis or scale != 1 else x.batch
    if out[0] is not x.batch and out[0] != x.batch:
        raise node.refuse("must leave the samples, axis 0, as they are", out)
    changed = [axis for axis in range(1, rank) if (out[axis], ratio[axis]) != (x.shape[axis], 1)]
    if not all(type(out[axis]) is int and 1 <= out[axis] <= 2**15 for axis in changed):
        raise node.refuse("sizes must be from 1 to 32768", out)
    h = go_on(x)
    if not changed:
        return h
    if rank != 4 or len(changed) > 2:
        raise node.refuse("layers resize images (N, C, H, W), along two axes", x.shape)
    if antialias and any(ratio[axis] < 1 for axis in changed):
        raise node.refuse("no layer resizes with antialiasing", antialias)
    order = h.order
    if not {*changed} <= {*h.order[1:3]}:
        h = h.permuted(image_order(4, next(axis for axis in (1, 2, 3) if axis not in changed)))
    linear = mode != "nearest"
    for axis in changed:
        wanted = _places(x.shape[axis], out[axis], ratio[axis], coordinates)
        wanted = np.clip(wanted if linear else ROUNDINGS[rounding](wanted), 0, x.shape[axis] - 1)
        layer = _places(x.shape[axis], out[axis], out[axis] / x.shape[axis], "half_pixel")
        layer = np.clip(layer if linear else np.floor(layer + 0.5 + 2.0**-24), 0, x.shape[axis] - 1)
        if np.abs(wanted - layer).max() > 1e-6:
            required = "layers resize with pixels at the centres of their squares, and this gives other places"
            raise node.refuse(required, f"{mode}, {coordinates}, {rounding}, {x.shape} to {tuple(out)}")
    new = [out[axis] for axis in h.order[1:3]]
    interpolation = "bilinear" if linear else "nearest"
    if all(size % before == 0 for size, before in zip(new, h.sample, strict=False)):
        size = tuple(size // before for size, before in zip(new, h.sample, strict=False))
        h = h.then(layers.UpSampling2D, out, size=size, interpolation=interpolation)
    else:
        h = h.then(layers.Resizing, out, height=new[0], width=new[1], interpolation=interpolation)
    return h.permuted(order)


ROUNDINGS = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _places(size, out, scale, way):
    """Where the pixels of the output lie in the input, along one axis."""
    i = np.arange(out)
    if way == "align_corners":
        return i * ((size - 1) / (out - 1)) if out > 1 else i * 0.0
    if way == "asymmetric":
        return i / scale
    if way == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    places = (i + 0.5) / scale - 0.5
    if way == "half_pixel_symmetric":
        return size / 2 * (1 - out / (scale * size)) + places
    return i * 0.0 if way == "pytorch_half_pixel" and out == 1 else places
