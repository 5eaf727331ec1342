"""The picture of a model: boxes and arrows, branches side by side.  ``plot`` has it.

Lengths are inches.  Every part of the picture is an ``Item``, which knows its size before it is drawn; y goes down.
"""

import math
from typing import NamedTuple

import numpy as np

from minicnn import _check, layers, plot_axes
from minicnn.layer import is_named
from minicnn.layers.random import Random
from minicnn.model import Sequential
from minicnn.plot_axes import BEST, SIMPLE, TRAIN, VALIDATION
from minicnn.summary import parameters_of
from minicnn.tree import walk

BOX, GAP, MARGIN, POINTS = (2.5, 0.4), 0.17, 0.12, 7.5
NARROW = 0.35  # a branch without layers
LETTERS = 41  # that fit into a box


class Item(NamedTuple):
    """``left``, ``right``: how far it reaches from its axis; ``draw(pen, x, y)``: with the axis at x, down from y."""

    left: float
    right: float
    height: float
    draw: object


def architecture(model, ax=None):
    """The layers of a model as boxes, from top to bottom, in columns where there are many: what each is, its path and
    its main arguments, the shape of a sample behind it, and its parameters.  ``Residual``, ``Concurrent`` and ``Chain``
    are frames around their layers, whose paths go on from the frame's; a custom layer that holds others is one box.

    Blue are convolutions, orange other layers with a kernel, purple what normalises, green what draws random numbers in
    training.  ``ax``: one Axes.
    """
    where = "plot.architecture"
    if not isinstance(model, Sequential):
        raise TypeError(_check.message(where, "model must be a Sequential", _check.kind(model)))
    if not model.layers:
        raise ValueError(_check.message(where, "model must have at least one layer", 0))
    shape = "input" if model.input_shape is None else f"input {_shape(model.input_shape)}"
    items = [_pill(shape), *(_item(str(number), layer) for number, layer in enumerate(model.layers))]
    columns, (width, height) = _columns(items)
    size = (max(width + 0.3, 4.4), height + 0.7)
    (panel,) = plot_axes.panels(where, ax, (1, 1), size)
    name = "" if model.name is None else f"{plot_axes.named(model.name)}: "
    counts = f"{model.count_params():,} parameters" if model.built else "not built"
    panel.set_title(f"{name}{len(model.layers)} layer{'s' * (len(model.layers) > 1)}, {counts}", fontsize=10)
    panel.set(xlim=(-MARGIN, width + MARGIN), ylim=(height + MARGIN, -MARGIN), aspect="equal")
    panel.set_axis_off()
    _draw_columns(_Pen(panel, width), columns)
    return panel.figure


class _Pen:
    """Draws into Axes in inches, or in what is an inch there."""

    def __init__(self, panel, width):
        self.panel, self.ink = panel, plot_axes.ink(panel, 0.75)
        given = panel.get_position().width * panel.figure.get_figwidth()
        self.scale = min(1.0, given / width * 1.1)  # new figures are as wide as is needed

    def box(self, x, y, width, height, colour, fill, radius=0.06, order=3):
        from matplotlib.patches import FancyBboxPatch

        ground = np.array(plot_axes.ink(self.panel, 0))
        face = tuple((1 - fill) * ground + fill * np.array(colour))
        style = f"round,pad=0,rounding_size={radius}"
        place = {"boxstyle": style, "facecolor": face, "edgecolor": colour, "linewidth": 0.8, "zorder": order}
        self.panel.add_patch(FancyBboxPatch((x, y), width, height, **place))

    def text(self, x, y, text, size=POINTS, share=1.0, **place):
        place = {"ha": "center", "va": "center", **place}
        colour = plot_axes.ink(self.panel, share)
        self.panel.text(x, y, text, fontsize=size * self.scale, color=colour, zorder=4, **place)

    def line(self, *points, arrow=False):
        xs, ys = zip(*points, strict=True)
        self.panel.plot(xs, ys, color=self.ink, linewidth=0.9, zorder=2)
        if arrow:
            head = {"arrowstyle": "-|>", "color": self.ink, "shrinkA": 0, "shrinkB": 0, "linewidth": 0.9, "zorder": 2}
            head["mutation_scale"] = 7 * self.scale
            self.panel.annotate("", points[-1], points[-2], arrowprops=head)


# ---- the parts ----


def _item(path, layer):
    if isinstance(layer, layers.Residual):
        return _frame(path, layer, _split([_series("body", layer.body), _series("shortcut", layer.shortcut)], "+"))
    if isinstance(layer, layers.Concurrent):
        branches = [_series(f"branches.{number}", some) for number, some in enumerate(layer.branches)]
        return _frame(path, layer, _split(branches, "concat"))
    if isinstance(layer, layers.Chain):
        return _frame(path, layer, _series("layers", layer.layers), arrow=True)
    return _box(path, layer)


def _box(path, layer):
    width, height = BOX
    lines = plot_axes.named(f"{path}  {_named(layer)}", LETTERS), _facts(layer)

    def draw(pen, x, y):
        from matplotlib.colors import to_rgb

        colour = _colour(layer)
        grey = plot_axes.ink(pen.panel, 0.5)
        pen.box(x - width / 2, y, width, height, to_rgb(colour) if colour else grey, 0.16 if colour else 0.08)
        pen.text(x, y + 0.3 * height, lines[0])
        pen.text(x, y + 0.72 * height, lines[1], share=0.75)

    return Item(width / 2, width / 2, height, draw)


def _pill(text, width=1.3, height=0.24):
    def draw(pen, x, y):
        pen.box(x - width / 2, y, width, height, pen.ink, 0.0, radius=height / 2)
        pen.text(x, y + height / 2, text)

    return Item(width / 2, width / 2, height, draw)


def _series(path, some):
    """Layers one after the other; a line where there are none."""
    items = [_item(f"{path}.{number}", layer) for number, layer in enumerate(some)]
    if not items:
        return Item(NARROW / 2, NARROW / 2, 0, lambda pen, x, y: None)
    height = sum(item.height for item in items) + GAP * (len(items) - 1)
    left, right = (max(sides) for sides in zip(*((item.left, item.right) for item in items), strict=True))
    return Item(left, right, height, lambda pen, x, y: _draw_series(pen, x, y, items))


def _draw_series(pen, x, y, items):
    for number, item in enumerate(items):
        if number:
            pen.line((x, y - GAP), (x, y), arrow=True)
        item.draw(pen, x, y)
        y += item.height + GAP


def _split(branches, joint):
    """Branches side by side, of which the first is on the axis where they are added, between a fork and a joint."""
    fork, end = 0.22, 0.34
    highest = max(branch.height for branch in branches)
    places, edge = [], 0.0
    for branch in branches:
        places.append(edge + branch.left)
        edge += branch.left + branch.right + MARGIN
    edge -= MARGIN
    axis = places[0] if joint == "+" else edge / 2
    size = 0.2 if joint == "+" else 0.5

    def draw(pen, x, y):
        top, bottom, joined = y + fork - GAP, y + fork + highest, y + fork + highest + end - 0.11
        xs = [x - axis + place for place in places]
        pen.line((x, y), (x, top))
        pen.line((min(*xs, x), top), (max(*xs, x), top))
        level = joined if joint == "+" else bottom + 0.06
        for branch, place in zip(branches, xs, strict=True):
            pen.line((place, top), (place, y + fork), arrow=branch.height > 0)
            branch.draw(pen, place, y + fork)
            pen.line((place, y + fork + branch.height), (place, level))
        pen.line((min(*xs, x), level), (max(*xs, x), level))
        pen.line((x, level), (x, y + fork + highest + end))
        pen.box(x - size / 2, joined - 0.1, size, 0.2, pen.ink, 0.0, radius=0.1)
        pen.text(x, joined, joint)

    return Item(axis, edge - axis, fork + highest + end, draw)


def _frame(path, layer, inner, arrow=False):
    top, bottom = 0.46, 0.1
    title = plot_axes.named(f"{path}  {_named(layer)}", LETTERS), _facts(layer)
    room = max(0.0, (BOX[0] - inner.left - inner.right) / 2)  # for the title
    left, right = (side + MARGIN + room for side in (inner.left, inner.right))

    def draw(pen, x, y):
        pen.box(x - left, y, left + right, top + inner.height + bottom, plot_axes.ink(pen.panel, 0.4), 0.06, order=1)
        pen.text(x - left + 0.07, y + 0.11, title[0], ha="left")
        pen.text(x - left + 0.07, y + 0.25, title[1], share=0.75, ha="left")
        pen.line((x, y + 0.32), (x, y + top), arrow=arrow and inner.height > 0)
        inner.draw(pen, x, y + top)
        pen.line((x, y + top + inner.height), (x, y + top + inner.height + bottom))

    return Item(left, right, top + inner.height + bottom, draw)


# ---- columns ----


def _columns(items):
    """([(items of a column, x of its axis)], (width, height)): as many as make the picture a little wider than high."""
    best = None
    heights = np.cumsum([item.height + GAP for item in items])
    for count in range(1, 1 + (len(items) if heights[-1] > 8 else 1)):
        limit, columns = heights[-1] / count + max(item.height for item in items) / 2, [[]]
        for item in items:
            if columns[-1] and sum(one.height + GAP for one in columns[-1]) + item.height > limit:
                columns.append([])
            columns[-1].append(item)
        placed, edge = [], 0.0
        for column in columns:
            left, right = (max(sides) for sides in zip(*((one.left, one.right) for one in column), strict=True))
            placed.append((column, edge + left))
            edge += left + right + 0.4
        height = max(sum(one.height + GAP for one in column) - GAP for column, _ in placed)
        if len(placed) > 1:
            height += 2 * GAP
        off = abs(math.log((edge - 0.4) / height / 1.4))
        if best is None or off < best[0]:
            best = off, placed, (edge - 0.4, height)
    return best[1:]


def _draw_columns(pen, columns):
    top = GAP if len(columns) > 1 else 0.0
    before = None
    for column, x in columns:
        if before is not None:
            end_x, end_y = before
            edge = x - max(item.left for item in column) - 0.2
            pen.line((end_x, end_y), (end_x, end_y + GAP), (edge, end_y + GAP), (edge, 0), (x, 0), (x, top), arrow=True)
        _draw_series(pen, x, top, column)
        before = x, top + sum(item.height for item in column) + GAP * (len(column) - 1)


# ---- words ----


def _named(layer):
    """ "Conv2D 16, 3x3, same, relu": what the layer is and the arguments that one looks for."""
    said = []
    for name in ("filters", "units", "kernel_size", "pool_size", "strides", "padding", "rate", "activation"):
        value = getattr(layer, name, None)
        if isinstance(value, str | None) and value in (None, "valid", "linear", type(layer).__name__.lower()):
            continue
        if name == "strides" and value in ((1, 1), getattr(layer, "pool_size", None)):
            continue
        if name == "strides" and isinstance(value, tuple) and len(set(value)) == 1:
            value = value[0]
        if isinstance(value, tuple) and all(isinstance(one, int) for one in value):
            text = "x".join(map(str, value))
        elif isinstance(value, str | int | float):
            text = f"{value:g}" if isinstance(value, float) else str(value)
        else:  # a schedule, an activation with arguments, four paddings
            text = "padded" if name == "padding" else getattr(value, "layer", type(value).__name__)
        said.append({"strides": "/", "rate": "rate "}.get(name, "") + text)
    name = f" '{layer.name}'" if is_named(layer) else ""
    return f"{type(layer).__name__}{name} {', '.join(said)}".rstrip()


def _facts(layer):
    """The shape of a sample behind it, and how many parameters there are, also in its parts."""
    if layer.output_shape is None:
        return "not built"
    count = parameters_of(layer)
    frozen = "" if layer.trainable or not count else ", not trained"
    return _shape(layer.output_shape) + (f", {count:,} parameter{'s' * (count > 1)}{frozen}" if count else "")


def _shape(shape):
    return " x ".join(map(str, shape)) or "a number"


def _colour(layer):
    """By what a layer does; None for grey."""
    parts = [layer, *(part for _, part in walk(layer.parts))]
    kernels = [np.ndim(part.params["kernel"]) for part in parts if "kernel" in part.params]
    if kernels:
        return TRAIN if 4 in kernels else VALIDATION
    if isinstance(layer, layers.BatchNormalization) or "gamma" in layer.params:
        return SIMPLE
    return BEST if isinstance(layer, Random) else None
