"""What each operator of ONNX is as layers: a table of functions, keyed by the operator.

A function ``(reader, node, inputs)`` gets constants as arrays and data as ``Held``, and returns what the node makes of
them: ``Held``, or several.  What it cannot say raises ConversionError.
"""

import math
from collections.abc import Callable

import numpy as np

from minicnn import layers
from minicnn.interop.onnx_fold import axis_of
from minicnn.interop.onnx_values import Held, Merge, Step, meeting, way

TABLE: dict[str, Callable] = {}
AFFINE = ("Conv2D", "DepthwiseConv2D", "Conv2DTranspose", "Dense")
NORMS = ("BatchNormalization", "GroupNormalization", "LayerNormalization")
CLOSE = 1e-6
LONGEST = 256  # steps of a value: each keeps its own, so that memory would grow with the square of the nodes


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
    alone = x.uses == 1 and x.up is not None and len(x.steps) < LONGEST
    return x.seen_as(x.shape, x.order, x.flat) if alone else x.branch()


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
        return activated(h, kind, **{name: short(alpha)})
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


def short(value):
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
    top = {} if high is None else {"max_value": short(high - low)}
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

    @property
    def held(self):
        return self.m, self.g, self.b

    @property
    def alike(self):
        return not any(one.ndim for one in (self.m, self.g, self.b))

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
    return joined(node, inputs, axis).back(inputs[0].order)


def joined(node, values, axis):
    """Values side by side along an axis.  Neighbours that share what the others do not come from are one branch, and
    joined first: exporters write a Concat of Concats as one."""
    first, groups = meeting(values), []
    for one in values:
        if groups and meeting([*groups[-1], one]) is not first:
            groups[-1].append(one)
        else:
            groups.append([one])
    parts = [one[0] if len(one) == 1 else joined(node, one, axis) for one in groups]
    parts = [one.branch().with_last(axis) for one in parts]
    parts = [one.permuted(parts[0].order) for one in parts]
    shape = list(parts[0].shape)
    shape[axis] = sum(one.shape[axis] for one in parts)
    ways = [way(node, first, one) for one in parts]
    h = Held(shape, parts[0].order, first)
    h.steps = (Merge(node, layers.Concurrent, h.sample, ways, {}),)
    return h


def _formed(reader, found, x, factor, offset):
    """``found`` = factor x + offset, where both are single numbers."""
    if factor is not None and offset is not None:
        for root, terms in reader.forms(x):
            terms = {product: value * factor for product, value in terms.items()}
            terms[()] = terms.get((), 0.0) + offset
            found.forms = (*found.forms, (root, terms))
    return found


@operator(
    "Erf", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Log", "Pow", "Sqrt", "Reciprocal", "Abs", "Not", "Floor"
)
def _no_layer(reader, node, inputs):
    """What stands only within patterns: a step that is broken unless the pattern is known."""
    x = next(one for one in inputs if isinstance(one, Held))
    h = go_on(x)
    if h.broken is None:
        h.broken = node.refuse("no layer computes this operator")
    if node.op in ("Erf", "Abs"):
        h.forms = reader.atom(node, x, node.op)
    return h


@operator("Where")
def _where(reader, node, inputs):
    found = reader.chosen(*inputs)
    if found is None:
        raise node.refuse("no layer chooses between values, but for activations that are known")
    return found
