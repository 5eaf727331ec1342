"""Convolutions, poolings, reductions, matrices and normalisations of ONNX as layers."""

import math

import numpy as np

from minicnn import layers
from minicnn.interop.onnx_fold import axes_of, axis_of
from minicnn.interop.onnx_layers import constant, data, go_on, joined, operator, scaled, short
from minicnn.interop.onnx_values import Held, cut, image_order

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
        if room < 0 and not (ceil and room > -stride):
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
    groups = node.get("group", 1)
    if groups < 1 or c % groups:
        raise node.refuse(f"groups must divide the {c} channels", groups)
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
    if bias is not None and bias.shape != (groups * w.shape[1],):
        raise node.refuse(f"the bias must have {groups * w.shape[1]} numbers", bias.shape)
    parts = []
    for number, rows in enumerate(np.split(np.arange(c), groups)):  # the layer has no groups: each is a branch
        part = h if groups == 1 else cut(h.branch(), 1, int(rows[0]), int(rows[-1]) + 1)
        kernel = w[rows[0] : rows[-1] + 1].transpose(2, 3, 1, 0)
        own = None if bias is None else bias[number * w.shape[1] :][: w.shape[1]]
        parts.append(_affine(node, part, layers.Conv2DTranspose, shape, kernel, own, arguments))
    return _unimage(parts[0] if groups == 1 else joined(node, parts, 1), rank)


def _unseen(node, x, window):
    """Whether a pooling does not see what its images were padded with: a maximum nothing that is lower or there, and
    a mean of two pixels not that one of them is there twice, as Keras writes padding="same"."""
    lowest = getattr(x, "lowest", None) if x.origin is not None else None
    if lowest is None or node.op == "MaxPool":
        return lowest is not None
    _, sides, edge = lowest
    twice = all(not any(pad) or (size == 2 and max(pad) == 1) for pad, size in zip(sides, window, strict=True))
    return edge and twice and not any(node.peek("pads", ())) and not node.peek("ceil_mode", 0)


@operator("MaxPool", "AveragePool")
def _pool(reader, node, inputs):
    x = data(node, inputs)
    rank, count = len(x.shape), len(x.shape) - 2
    window, strides = _axes(node, "kernel_shape", 0, count), _axes(node, "strides", 1, count)
    window = tuple(max(1, one) for one in window)
    lowest = _unseen(node, x, window)
    if lowest:  # padded with what changes nothing
        x, lowest, _ = x.lowest
    h = _image(node, x)
    dilations = _axes(node, "dilations", 1, count)
    if any(one > 1 and size > 1 for one, size in zip(dilations, window, strict=True)):
        raise node.refuse("no pooling layer has a dilation", dilations)
    node.get("storage_order")  # of the second output
    counted = bool(node.get("count_include_pad", 0)) and not lowest
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
    shape, order, kept = h.shape, h.order, [axis for axis in h.order[1:] if axis not in axes]
    if len(h.sample) != 3 or {*h.order[1:3]} != {*axes}:
        h = h.permuted([0, *sorted(axes, key=h.order.index), *kept])
        sizes = math.prod(shape[axis] for axis in axes), 1, math.prod(shape[axis] for axis in kept)
        h = h.reshaped((h.batch, *sizes))
    size = math.prod(shape[axis] for axis in kept)
    h = h.then(kind, (h.batch, size), (0, 1))
    if keep:
        new = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
        return h.reshaped(new, (0, *sorted(axes), *kept)).permuted(order)  # which moves axes of length 1 only
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


def with_channels(x):
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
    h = with_channels(x)
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    arrays = _of_channels(node, h, inputs, (1, 2, 3, 4), names, x.shape[1])
    if not (arrays["moving_variance"] >= 0).all():
        raise node.refuse("variances must be >= 0")
    return h.then(layers.BatchNormalization, arrays=arrays, momentum=short(momentum), epsilon=short(epsilon)).back(
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
    h = with_channels(x)
    of_groups = node.op == "GroupNormalization" and node.version < 21
    arrays = _of_channels(node, h, inputs, (1, 2), ("gamma", "beta"), groups if of_groups else channels)
    if of_groups:
        arrays = {name: np.repeat(array, channels // groups) for name, array in arrays.items()}
    return h.then(layers.GroupNormalization, arrays=arrays, groups=groups, epsilon=short(epsilon)).back(x.order)


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
    h = h.then(layers.LayerNormalization, arrays=arrays, axis=axes, epsilon=short(epsilon), center=beta is not None)
    return h.back(order) if h.flat is None else h
