"""What only arranges, cuts, pads and resizes arrays in ONNX, as layers."""

import math

import numpy as np

from minicnn import layers
from minicnn.interop.onnx_file import dtype_of
from minicnn.interop.onnx_fold import BATCH, axes_of, axis_of, slices, target_shape, whole_numbers
from minicnn.interop.onnx_layers import constant, data, go_on, operator, scalar, scaled, short
from minicnn.interop.onnx_values import Held, cut, image_order, resized
from minicnn.interop.onnx_windows import with_channels


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
    return go_on(x).then(layers.Dropout, rate=short(rate), **arguments)


@operator("Cast")
def _cast(reader, node, inputs):
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
    h = with_channels(before[0])
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
        h = cut(h, axis, begin, end, step)
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
        found.append(cut(h if h.flat is None else h.settled(), axis, begin, begin + size))
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
        h = cut(h, axis, found[0], found[-1] + 1)
    elif len(h.sample) == 3 and found == nearest.tolist():
        order = h.order
        if axis not in order[1:3]:
            h = h.permuted(image_order(4, next(one for one in (1, 2, 3) if one != axis)))
        sizes = [len(found) if one == axis else h.shape[one] for one in h.order[1:3]]
        shape = [len(found) if one == axis else length for one, length in enumerate(h.shape)]
        h = h.then(layers.Resizing, shape, height=sizes[0], width=sizes[1], interpolation="nearest").permuted(order)
    else:
        raise node.refuse("places must be neighbours in order", found[:20])
    return h if places.ndim else reader.reshape(node, h, [one for place, one in enumerate(h.shape) if place != axis])


@operator("Expand")
def _expand(reader, node, inputs):
    """Axes of length 1 repeated."""
    x = data(node, inputs)
    if isinstance(inputs[1], Held):
        constant(node, inputs, 1)
    rank, wanted = len(x.shape), inputs[1].reshape(-1).tolist()
    wanted = [1] * (rank - len(wanted)) + wanted
    if len(wanted) > rank or not (wanted[0] is x.batch or wanted[0] in (1, x.batch)):
        raise node.refuse("must not add axes, nor samples, which are axis 0", wanted)
    h = go_on(x)
    h = h if h.flat is None else h.settled()
    for axis, size in enumerate(wanted[1:], 1):
        if size is BATCH or size not in (1, x.shape[axis]):
            if x.shape[axis] != 1 or type(size) is not int or not 1 < size <= 2**15:
                raise node.refuse(f"must broadcast {x.shape}, to at most 32768", wanted)
            h = resized(h, axis, layers.UpSampling2D, size, size=(size, 1))
    return h


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
            h = cut(h, axis, max(-before, 0), size + min(after, 0))
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
            broken.lowest = x, [sides.get(axis, (0, 0)) for axis in (2, 3)], mode == "edge"  # which no maximum sees
        return broken
    h = scaled(h, 1.0, -value) if value else h
    if len(h.sample) == 3 and {*sides} <= {*h.order[1:3]}:
        padding = tuple(sides.get(axis, (0, 0)) for axis in h.order[1:3])
        shape = [sum(sides[axis], size) if axis in sides else size for axis, size in enumerate(h.shape)]
        h = h.then(layers.ZeroPadding2D, shape, padding=padding)
    else:
        for axis, both in sides.items():
            h = resized(h, axis, layers.ZeroPadding2D, sum(both, h.shape[axis]), padding=(both, (0, 0)))
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
        layer = _places(x.shape[axis], out[axis], out[axis] / x.shape[axis], "half_pixel")
        layer = layer if linear else np.floor(layer + 0.5 + 2.0**-24)
        kinds = [np.float64] if linear else [np.float64, np.float32]  # runtimes round places that float32 gives
        places = [_places(x.shape[axis], out[axis], ratio[axis], coordinates, kind) for kind in kinds]
        places = places if linear else map(ROUNDINGS[rounding], places)
        layer, *places = (np.clip(one, 0, x.shape[axis] - 1) for one in (layer, *places))
        if min(np.abs(one - layer).max() for one in places) > 1e-6:
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


def _places(size, out, scale, way, kind=np.float64):
    """Where the pixels of the output lie in the input, along one axis, in numbers of a kind."""
    i, scale = np.arange(out, dtype=kind), kind(scale)
    if way == "align_corners":
        return i * ((size - 1) / (out - 1)) if out > 1 else i * 0.0
    if way == "asymmetric":
        return i / scale
    if way == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    places = (i + 0.5) / scale - 0.5
    if way == "half_pixel_symmetric":
        return kind(size / 2) * (1 - out / (scale * size)) + places
    return i * 0.0 if way == "pytorch_half_pixel" and out == 1 else places
