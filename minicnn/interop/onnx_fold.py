"""Arithmetic of constants: what exporters leave in a graph to compute shapes, paddings and weights.

An array is a NumPy array; the shape of data is one of dtype object, in which ``BATCH`` stands for the number of samples
where the graph leaves it open.  Every result is paid for before it is made (``Purse``).
"""

import math

import numpy as np

MOST_NUMBERS = 2**21  # of one result
MOST_BYTES = 2**25  # of all of them
MOST_MORE = 2**24  # bytes of weights beyond those that the file holds


class _Batch:
    """The number of samples: a whole number that is not known."""

    def __repr__(self):
        return "N"


BATCH = _Batch()


class Purse:
    """What constants may still take, and weights, for which a file of ``held`` bytes of arrays pays by itself."""

    def __init__(self, held=0):
        self.left, self.more, self.limit = MOST_BYTES, held + MOST_MORE, held + MOST_MORE
        self._paid = {}  # by id, the arrays themselves, so that no other one gets it

    def pay(self, node, numbers, size=8):
        self.left -= numbers * size
        if numbers > MOST_NUMBERS or self.left < 0:
            raise node.refuse(f"constants must take less than {MOST_BYTES >> 20} MB", numbers)

    def own(self, arrays):
        """Arrays that were here already."""
        self._paid.update((id(one), one) for one in map(_root, arrays))

    def pay_for(self, node, arrays):
        """Weights that were computed from arrays: each once, and those that are only looked at in another way never."""
        for one in map(_root, arrays):
            if id(one) not in self._paid:
                self._paid[id(one)] = one
                self.more -= one.nbytes
        self.require(node, self.limit - self.more)

    def require(self, node, needed):
        """ConversionError where weights take more than the file explains: one array in many places, say."""
        if needed > self.limit:
            required = f"weights must take at most {MOST_MORE >> 20} MB more than the file holds, {self.limit:,} bytes"
            raise node.refuse(required, needed)


def _root(array):
    """The array whose memory it is that another one looks at."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def fold(node, inputs, purse, dtype_of):
    """The outputs of a node whose inputs are arrays (None where one is left out); None for an operator that is not
    among them.  ConversionError for what cannot be computed, or would take too much."""
    if node.op not in _FUNCTIONS:
        return None
    with np.errstate(all="ignore"):
        try:
            found = _FUNCTIONS[node.op](node, inputs, purse, dtype_of)
        except (ValueError, TypeError, IndexError, ZeroDivisionError, OverflowError) as error:
            raise node.refuse(f"cannot be computed ({error})") from error
    node.require_all_read()
    return found if isinstance(found, list) else [found]


def whole_numbers(node, array, what):
    """A list of ints of an array without axes or with one; ConversionError for others and for the unknown batch."""
    if array is None or array.ndim > 1 or array.dtype.kind not in "iuO":
        raise node.refuse(f"{what} must be a list of whole numbers", None if array is None else array.dtype.name)
    found = array.reshape(-1).tolist()
    if not all(type(one) is int for one in found):
        raise node.refuse(f"{what} must not depend on the number of samples", found)
    return found


def axes_of(node, inputs, place, rank, default=None):
    """The axes that an operator names, as an attribute or, later, as an input; counted from the front, different."""
    given = node.get("axes")
    if given is None and len(inputs) > place and inputs[place] is not None:
        given = whole_numbers(node, inputs[place], "axes")
    if given is None:
        return default
    found = [axis + rank if axis < 0 else axis for axis in given]
    if not all(0 <= axis < rank for axis in found) or len(set(found)) != len(found):
        raise node.refuse(f"axes must be different axes of {rank}", given)
    return found


def axis_of(node, default, rank, past=0):
    axis = node.get("axis", default)
    if not -rank <= axis < rank + past:
        raise node.refuse(f"axis must be one of {rank}", axis)
    return axis + rank if axis < 0 else axis


def slices(node, inputs, shape):
    """{axis: slice} of Slice, by attributes or by inputs; starts and ends may be numbers beyond int64's."""
    if node.version < 10:
        starts, ends, steps = node.get("starts"), node.get("ends"), None
    else:
        parts = [*inputs, None, None, None, None][1:5]
        starts, ends = (whole_numbers(node, part, "starts and ends") for part in parts[:2])
        steps = None if parts[3] is None else whole_numbers(node, parts[3], "steps")
    axes = axes_of(node, inputs if node.version >= 10 else [], 3, len(shape), [*range(len(starts or ()))])
    steps = [1] * len(axes) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps or len(axes) > len(shape):
        raise node.refuse("starts, ends, axes and steps must be as many, and steps not 0", (starts, ends, axes, steps))
    return {
        axis: slice(start, None if step < 0 and end < -(2**31) else end, step)
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    }


def target_shape(node, wanted, shape):
    """The shape that Reshape asks for, its zeros and one -1 put in; ``shape`` may begin with BATCH."""
    copied = node.get("allowzero", 0) == 0
    if any(axis == 0 and (not copied or place >= len(shape)) for place, axis in enumerate(wanted)):
        raise node.refuse("shapes must have no 0 that is not an axis of what comes in", wanted)
    found = [shape[place] if axis is not BATCH and axis == 0 else axis for place, axis in enumerate(wanted)]
    known = [axis for axis in found if axis is not BATCH and axis != -1]
    open_ = [axis for axis in found if axis is not BATCH and axis == -1]
    if any(type(axis) is not int or axis < 1 for axis in known) or len(open_) > 1:
        raise node.refuse("shapes must be whole numbers >= 1, one of them -1", wanted)
    total = math.prod(axis for axis in shape if axis is not BATCH)
    batches = (BATCH in shape) - (BATCH in found)
    size = math.prod(known)
    if -1 in [axis for axis in found if axis is not BATCH]:
        place = next(place for place, axis in enumerate(found) if axis is not BATCH and axis == -1)
        if total % size or (batches and total != size) or batches < 0:
            raise node.refuse(f"{size} numbers must fit into {shape}", wanted)
        found[place] = BATCH if batches else total // size
    elif batches or size != total:
        raise node.refuse(f"the shape must hold the numbers of {shape}", wanted)
    return tuple(found)


# ---- one function for each operator ----


def _elementwise(function, whole=None, condition=False):
    def compute(node, inputs, purse, dtype_of):
        shape = np.broadcast_shapes(*(one.shape for one in inputs))
        purse.pay(node, math.prod(shape))
        if any(one.dtype == object for one in inputs):
            rows = zip(*(np.broadcast_to(one, shape).reshape(-1).tolist() for one in inputs), strict=True)
            found = [_symbolic(node, whole or function, row) for row in rows]
            if condition:
                return np.array(found, bool).reshape(shape)
            result = np.empty(len(found), object)
            result[:] = found
            return result.reshape(shape)
        if whole and inputs[0].dtype.kind in "iu":
            return np.asarray(np.vectorize(whole, otypes=[inputs[0].dtype])(*(one.astype(object) for one in inputs)))
        return np.asarray(function(*inputs))

    return compute


def _symbolic(node, function, row):
    """Of numbers and BATCH: where it is only handed on, or compared."""
    if BATCH not in row:
        found = function(*row)
        return found.item() if hasattr(found, "item") else found
    if node.op in ("Mul", "Div") and row[0] is BATCH and row[1] is not BATCH and row[1] == 1:
        return BATCH
    if node.op == "Mul" and row[1] is BATCH and row[0] == 1:
        return BATCH
    if node.op in ("Add", "Sub") and row[1] is not BATCH and row[1] == 0:
        return BATCH
    if node.op == "Equal":
        return row[0] is row[1]
    if node.op == "Where":
        return row[1] if row[0] else row[2]
    raise node.refuse("must not compute with the number of samples, which is open")


def _quotient(a, b):
    """Of whole numbers, towards 0, as ONNX and C have it."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _constant(node, inputs, purse, dtype_of):
    kinds = ("value", "value_float", "value_floats", "value_int", "value_ints")
    found = [(kind, value) for kind in kinds if (value := node.get(kind)) is not None]
    if len(found) != 1:
        raise node.refuse("must have one value, of numbers")
    kind, value = found[0]
    return value if kind == "value" else np.array(value, np.float32 if "float" in kind else np.int64)


def _constant_of_shape(node, inputs, purse, dtype_of):
    shape, value = whole_numbers(node, inputs[0], "the shape"), node.get("value", np.zeros(1, np.float32))
    if any(axis < 0 for axis in shape) or value.size != 1:
        raise node.refuse("the shape must be of axes >= 0, and value one number", shape)
    purse.pay(node, math.prod(shape))
    return np.full(shape, value.reshape(-1)[0])


def _cast(node, inputs, purse, dtype_of):
    dtype = dtype_of(node.label, node.get("to"))
    node.get("saturate"), node.get("round_mode")  # of float8, which is refused
    if inputs[0].dtype == object:
        kind = {"i": int, "u": int, "f": float}.get(dtype.kind)
        if kind is None:
            raise node.refuse("must not make this of a shape", dtype.name)
        result = np.empty(inputs[0].size, object)
        result[:] = [one if one is BATCH else kind(one) for one in inputs[0].reshape(-1).tolist()]
        return result.reshape(inputs[0].shape)
    purse.pay(node, inputs[0].size, dtype.itemsize)
    return inputs[0].astype(dtype)


def _concat(node, inputs, purse, dtype_of):
    axis = axis_of(node, None, inputs[0].ndim)
    purse.pay(node, sum(one.size for one in inputs))
    return np.concatenate(inputs, axis)


def _gather(node, inputs, purse, dtype_of):
    data, places = inputs
    axis = axis_of(node, 0, data.ndim)
    purse.pay(node, math.prod(data.shape[:axis] + places.shape + data.shape[axis + 1 :]))
    found = np.empty(data.shape[:axis] + places.shape + data.shape[axis + 1 :], data.dtype)
    found[...] = np.take(data, places.astype(np.int64), axis)  # where it is one number np.take gives no array
    return found


def _slice(node, inputs, purse, dtype_of):
    found = slices(node, inputs, inputs[0].shape)
    return inputs[0][tuple(found.get(axis, slice(None)) for axis in range(inputs[0].ndim))]


def _reshape(node, inputs, purse, dtype_of):
    wanted = node.get("shape") if node.version < 5 else whole_numbers(node, inputs[1], "the shape")
    node.get("allowzero")  # of empty arrays; target_shape asks for others
    if 0 in inputs[0].shape:
        return inputs[0].reshape(wanted)
    return inputs[0].reshape(target_shape(node, wanted, inputs[0].shape))


def _squeeze(node, inputs, purse, dtype_of):
    axes = axes_of(node, inputs, 1, inputs[0].ndim)
    return np.squeeze(inputs[0], None if axes is None else tuple(axes))


def _unsqueeze(node, inputs, purse, dtype_of):
    given = node.get("axes") if node.version < 13 else whole_numbers(node, inputs[1], "axes")
    if len(given) + inputs[0].ndim > 32:
        raise node.refuse("must lead to at most 32 axes", given)
    return np.expand_dims(inputs[0], tuple(given))


def _expand(node, inputs, purse, dtype_of):
    shape = np.broadcast_shapes(inputs[0].shape, whole_numbers(node, inputs[1], "the shape"))
    purse.pay(node, math.prod(shape))
    return np.broadcast_to(inputs[0], shape)


def _range(node, inputs, purse, dtype_of):
    begin, end, step = (one.item() for one in inputs)
    count = max(math.ceil((end - begin) / step), 0)
    purse.pay(node, count)
    return (begin + np.arange(count) * step).astype(inputs[0].dtype)


def _reduce(function):
    def compute(node, inputs, purse, dtype_of):
        axes, keep = axes_of(node, inputs, 1, inputs[0].ndim), node.get("keepdims", 1)
        nothing = node.get("noop_with_empty_axes", 0)
        if not axes and nothing:
            return inputs[0]
        if inputs[0].dtype == object:
            raise node.refuse("must not compute with the number of samples, which is open")
        found = function(inputs[0], axis=tuple(axes) if axes else None, keepdims=bool(keep))
        return np.asarray(found).astype(inputs[0].dtype)

    return compute


def _transpose(node, inputs, purse, dtype_of):
    return np.transpose(inputs[0], node.get("perm"))


def _where(condition, a, b):
    return np.where(condition, a, b)


_FUNCTIONS = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Cast": _cast,
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Expand": _expand,
    "Range": _range,
    "Transpose": _transpose,
    "Identity": lambda node, inputs, purse, dtype_of: inputs[0],
    "Shape": lambda node, inputs, purse, dtype_of: shape_part(node, inputs[0].shape),
    "Size": lambda node, inputs, purse, dtype_of: np.array(inputs[0].size, np.int64),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ReduceMin": _reduce(np.min),
    "ReduceMax": _reduce(np.max),
    "ReduceMean": _reduce(np.mean),
    "Add": _elementwise(lambda a, b: a + b),
    "Sub": _elementwise(lambda a, b: a - b),
    "Mul": _elementwise(lambda a, b: a * b),
    "Div": _elementwise(np.divide, _quotient),
    "Mod": lambda node, *others: _elementwise(np.fmod if node.get("fmod", 0) else np.mod)(node, *others),
    "Pow": _elementwise(np.power),
    "Min": _elementwise(lambda *parts: np.min(np.broadcast_arrays(*parts), 0)),
    "Max": _elementwise(lambda *parts: np.max(np.broadcast_arrays(*parts), 0)),
    "Neg": _elementwise(np.negative),
    "Abs": _elementwise(np.abs),
    "Sqrt": _elementwise(np.sqrt),
    "Exp": _elementwise(np.exp),
    "Reciprocal": _elementwise(lambda a: 1 / a),
    "Floor": _elementwise(np.floor),
    "Ceil": _elementwise(np.ceil),
    "Equal": _elementwise(lambda a, b: a == b, condition=True),
    "Greater": _elementwise(lambda a, b: a > b, condition=True),
    "Less": _elementwise(lambda a, b: a < b, condition=True),
    "Not": _elementwise(np.logical_not, condition=True),
    "Where": _elementwise(_where),
}


def shape_part(node, shape):
    """The output of Shape: one of objects where it has BATCH."""
    chosen = shape[slice(node.get("start", 0), node.get("end"))]
    if BATCH not in chosen:
        return np.array(chosen, np.int64)
    found = np.empty(len(chosen), object)
    found[:] = chosen
    return found
