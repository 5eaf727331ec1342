"""How a chain of layers holds the values of a graph: in which order of axes, and behind which layers.

A graph of ONNX has images as (N, C, H, W), layers as (N, H, W, C).  So a value ``Held`` has the graph's shape and an
``order``: axis k of the array in the model is axis order[k] of the graph.  A Transpose changes the order and nothing
else.  A row that was flattened is in the order of the layers, too; ``Held.rows`` says which of the graph's numbers are
where, for the kernel of the Dense that it ends in.

Values are a tree: each hangs by its ``steps`` on the value from which all ways of the graph lead to it, its dominator.
Where two ways meet, the nearest value that both come from is the beginning of a Residual or a Concurrent.
"""

import math

import numpy as np

from minicnn import layers
from minicnn.interop.onnx_fold import MOST_NUMBERS

DEEPEST = 40  # layers within layers
STEPS = {"Reshape", "Flatten", "Permute"}  # that only arrange numbers


class Step:
    """A layer to be: its class and arguments, the ``shape`` of a sample that it gives, its ``arrays`` by name.

    Arguments that are lists of lists of steps are the parts of a composite.
    """

    def __init__(self, kind, shape, arguments, arrays):
        self.kind, self.shape, self.arguments, self.arrays = kind, shape, arguments, arrays

    @property
    def name(self):
        return self.kind.__name__

    @property
    def held(self):
        """The arrays that it keeps in memory."""
        return self.arrays.values()

    @property
    def alike(self):
        """Whether it treats the numbers of a row all alike, in whatever order they are."""
        return not self.arrays and self.name not in STEPS

    def changed(self, arguments=(), **arrays):
        return Step(self.kind, self.shape, self.arguments | dict(arguments), self.arrays | arrays)


class Held:
    """A value as the model holds it.

    ``shape``: the graph's, the batch first.  ``flat``: None, or for a row (the graph's axes that were flattened, in
    which order the model holds them).  ``steps``: from the value ``up``.  ``broken``: a ConversionError that stands for
    a step which no layer can do, raised where a model would need it.  ``forms``: [(value, {product: factor})], what the
    numbers are as functions of other values' (``onnx_forms.py``).
    """

    def __init__(self, shape, order, up=None, steps=(), flat=None, broken=None):
        self.shape, self.order, self.flat = tuple(shape), tuple(order), flat
        self.up, self.steps, self.broken = up, steps, broken
        self.depth = 0 if up is None else up.depth + 1
        self.uses, self.taken, self.origin, self.forms = 0, None, None, ()
        self.ready = True  # numbers are of the model's dtype

    def branch(self):
        """A value that is this one, and may go on."""
        return Held(self.shape, self.order, self, (), self.flat, self.broken)

    def then(self, kind, shape=None, order=None, flat=None, arrays=None, **arguments):
        """This value and one more layer.  ``shape`` and ``order``: of the new value; without them as they are."""
        new = Held(
            self.shape if shape is None else shape,
            self.order if order is None else order,
            self.up,
            (),
            self.flat if shape is None else flat,
            self.broken,
        )
        new.steps = (*self.steps, Step(kind, new.sample, arguments, arrays or {}))
        return new

    def seen_as(self, shape, order, flat=None):
        """The same array of the model, as another value of the graph."""
        return Held(shape, order, self.up, self.steps, flat, self.broken)

    def without_last(self):
        """This value before its last step, which the caller does again in another way."""
        return Held(self.shape, self.order, self.up, self.steps[:-1], self.flat, self.broken)

    @property
    def sample(self):
        """The shape of a sample in the model."""
        return tuple(self.shape[axis] for axis in self.order[1:])

    @property
    def batch(self):
        return self.shape[0]

    @property
    def last(self):
        """The last step, if nobody but the next node needs what was before it."""
        return self.steps[-1] if self.steps else None

    @property
    def rows(self):
        """Which number of the graph's row is at each place of the model's; None where they are in the same order."""
        if self.flat is None:
            return None
        dims, order = self.flat
        return np.arange(math.prod(dims)).reshape(dims).transpose(order).reshape(-1)

    # ---- layers that only arrange ----

    def reshaped(self, shape, order=None, flat=None):
        """The numbers of each sample as the model holds them, in another shape."""
        order = tuple(range(len(shape))) if order is None else order
        new = Held(shape, order, flat=flat)
        if new.sample == self.sample:
            return self.seen_as(shape, order, flat)
        kind, arguments = layers.Reshape, {"target_shape": new.sample}
        if len(new.sample) == 1:
            kind, arguments = layers.Flatten, {}
        return self.then(kind, shape, order, flat, **arguments)

    def permuted(self, order):
        """The axes in another order."""
        order = tuple(order)
        if order == self.order:
            return self
        dims = [self.order.index(axis) for axis in order]
        if [axis for axis in order if self.shape[axis] != 1] == [axis for axis in self.order if self.shape[axis] != 1]:
            return self.reshaped(self.shape, order)  # only axes of length 1 move
        return self.then(layers.Permute, self.shape, order, dims=tuple(dims[1:]))

    def settled(self):
        """In the order of the graph."""
        if self.flat is None:
            return self.permuted(range(len(self.shape)))
        dims, order = self.flat
        place = len(self.steps) - 1
        while place > 0 and self.steps[place].alike:
            place -= 1
        if place >= 0 and self.steps[place].name == "Flatten":  # behind it each number is changed by itself
            turned = Held((self.batch, *dims), (0, *(axis + 1 for axis in order))).settled().steps
            found = self.seen_as(self.shape, self.order)
            found.steps = (*self.steps[:place], *turned, *self.steps[place:])
            return found
        image = self.reshaped((self.batch, *dims), (0, *(axis + 1 for axis in order)))
        return image.settled().reshaped((self.batch, math.prod(dims)))

    def with_last(self, axis):
        """With that axis of the graph last, the others as they are."""
        settled = self if self.flat is None else self.settled()
        return settled.permuted([*(one for one in settled.order if one != axis), axis])

    def back(self, order):
        """After ``with_last``: images again as they were, other values as they are."""
        return self.permuted(order) if len(self.shape) == 4 else self

    # ---- arrays of the graph ----

    def arranged(self, node, array):
        """A constant that is broadcast to the value as the model needs it: with the axes of a sample, or shorter where
        the first ones are 1; ConversionError where samples would be treated differently."""
        rank = len(self.shape)
        if array.ndim > rank or any(
            size not in (1, self.shape[axis]) for axis, size in enumerate(array.shape, rank - array.ndim)
        ):
            raise node.refuse(f"a constant must broadcast to {self.shape}", array.shape)
        array = array.reshape((1,) * (rank - array.ndim) + array.shape)
        if array.shape[0] != 1:
            if (array != array[:1]).any():
                raise node.refuse("a constant must be the same for all samples", array.shape)
            array = array[:1]
        array = array.transpose(self.order)[0]
        if self.flat is not None and array.shape[0] > 1:
            array = array[self.rows]
        return array

    def spread(self, node, array):
        """``arranged`` to the whole shape of a sample."""
        if math.prod(self.sample) > max(MOST_NUMBERS, array.size):
            raise node.refuse(f"a constant must have at most {MOST_NUMBERS} numbers", self.sample)
        return np.broadcast_to(array, self.sample)


# ---- parts along an axis ----


def _plane(h, axis):
    """(images, place) of a value: an axis of the graph is rows (0) or columns (1) of images (N, H, W, C).  Where it is
    not in the model, what lies before and behind it become rows and channels."""
    place, sample = h.order.index(axis) - 1, h.sample
    if len(sample) == 3 and place < 2:
        return h.seen_as((h.batch, *sample), (0, 1, 2, 3)), place
    return h.reshaped((h.batch, math.prod(sample[:place]), sample[place], math.prod(sample[place + 1 :]))), 1


def resized(h, axis, kind, size, /, **arguments):
    """One axis of the graph cut, padded, repeated or thinned by a layer of images; arguments are what it gets for that
    axis, and for the other one if it were not there."""
    image, place = _plane(h, axis)
    shape = [*image.shape]
    shape[1 + place] = size
    arguments = {name: (on, off) if place == 0 else (off, on) for name, (on, off) in arguments.items()}
    image = image.then(kind, shape, **arguments)
    shape = tuple(size if one == axis else length for one, length in enumerate(h.shape))
    return image.reshaped(shape, h.order)


def cut(h, axis, begin, end, step=1):
    """h[..., begin:end:step, ...] along an axis."""
    whole = h.shape[axis]
    if (begin, end) != (0, whole):
        h = resized(h, axis, layers.Cropping2D, end - begin, cropping=((begin, whole - end), (0, 0)))
    if step > 1:
        size = -(-(end - begin) // step)
        h = resized(h, axis, layers.MaxPooling2D, size, pool_size=(1, 1), strides=(step, 1))
    return h


# ---- ways through the graph ----


def meeting(values):
    """The nearest value from which the ways to all of these go out."""
    values = list(values)
    while any(one is not values[0] for one in values):
        deepest = max(range(len(values)), key=lambda place: values[place].depth)
        values[deepest] = values[deepest].up
    return values[0]


def way(node, first, last):
    """The steps from one value to another that hangs on it.  Each may be taken once: ConversionError where a second
    way needs it, which no chain can hold."""
    edges = []
    while last is not first:
        if last.broken is not None:
            raise last.broken
        if last.taken is not None:
            of = last.origin[0].label if last.origin else "the input"
            raise node.refuse(
                f"no chain can hold this graph: what {of} gives is needed here and by {last.taken}, and neither way "
                "around it is a part of the other"
            )
        last.taken = node.label
        edges.append(last)
        last = last.up
    return tidy(first.sample, [step for edge in reversed(edges) for step in edge.steps])


def depth_of(steps):
    """How many layers are within one another."""
    return max((step.depth for step in steps if isinstance(step, Merge)), default=0)


class Merge(Step):
    """A layer of several ways."""

    alike = False

    def __init__(self, node, kind, shape, ways, arguments):
        super().__init__(kind, shape, arguments, {})
        self.ways, self.depth = ways, 1 + max(depth_of(one) for one in ways)
        if self.depth > DEEPEST:
            raise node.refuse(f"layers must lie in at most {DEEPEST} others")

    def changed(self, arguments=(), **arrays):
        other = Merge.__new__(Merge)
        other.__dict__.update(vars(self) | {"arguments": self.arguments | dict(arguments)})
        return other


def tidy(shape, steps):
    """The same steps without what only arranges numbers, and is undone or done again by what follows."""
    kept, shapes = [], [shape]
    for step in steps:
        if kept and step.name in STEPS and kept[-1].name in STEPS:
            last = kept[-1]
            if step.name != "Permute" and last.name != "Permute":
                kept.pop(), shapes.pop()
                if step.shape == shapes[-1]:
                    continue
                if len(step.shape) == 1:
                    step = Step(layers.Flatten, step.shape, {}, {})
                else:
                    step = Step(layers.Reshape, step.shape, {"target_shape": step.shape}, {})
            elif step.name == last.name:
                dims = tuple(last.arguments["dims"][axis - 1] for axis in step.arguments["dims"])
                kept.pop(), shapes.pop()
                if dims == (*range(1, len(dims) + 1),):
                    continue
                step = Step(layers.Permute, step.shape, {"dims": dims}, {})
        elif kept and _thins(step) and _thins(kept[-1]):
            pairs = zip(kept[-1].arguments["strides"], step.arguments["strides"], strict=True)
            step = step.changed({"strides": tuple(a * b for a, b in pairs)})
            kept.pop(), shapes.pop()
        elif kept and step.name == "Cropping2D" == kept[-1].name:
            sides = zip(kept[-1].arguments["cropping"], step.arguments["cropping"], strict=True)
            step = step.changed({"cropping": tuple((a + c, b + d) for (a, b), (c, d) in sides)})
            kept.pop(), shapes.pop()
        kept.append(step)
        shapes.append(step.shape)
    return kept


def _thins(step):
    """Whether it takes every so many pixels, and nothing else."""
    return step.name == "MaxPooling2D" and step.arguments["pool_size"] == (1, 1) and "padding" not in step.arguments


def image_order(rank, channel=1):
    """The order of a model, channels last, for a value of the graph that has them at ``channel``."""
    return (0, *(axis for axis in range(1, rank) if axis != channel), channel)
