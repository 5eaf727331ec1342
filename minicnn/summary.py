"""What ``Sequential.summary`` and ``minicnn summary`` say of a model."""

from minicnn import notebook
from minicnn.layer import is_named
from minicnn.tree import holders, named_values, walk

UNKNOWN = ("?", "?", "", "?")  # as long as the shape of the samples is
HEAD = ("layer", "output shape", "params", "share", "multiply-adds")


def text(model):
    """``Sequential.summary_text``."""
    layers, last = _rows(model)
    rows = [HEAD, *((f"{'  ' * depth}{title}", *cells) for depth, title, *cells in layers), last]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    aligned = ["<", "<", ">", ">", ">"]
    lines = [
        "  ".join(f"{cell:{a}{w}}" for cell, a, w in zip(row, aligned, widths, strict=True)).rstrip() for row in rows
    ]
    rule = "-" * max(map(len, lines))
    label = [] if model.name is None else [f"model {model.name!r}"]
    return "\n".join([*label, lines[0], rule, *lines[1:-1], rule, lines[-1]])


def html(model):
    """The same as a table in HTML."""
    layers, (total, *cells) = _rows(model)
    head = HEAD if model.name is None else (f"layer of model {model.name!r}", *HEAD[1:])
    return notebook.table(head, [((depth, title), *rest) for depth, title, *rest in layers], [((0, total), *cells)])


def _rows(model):
    """[(how deep, layer, the other columns ...)] of all layers; the last row, without a depth."""
    tree = dict(walk(model.layers))
    total = model.count_params() if model.built else 0
    rows = []
    for path, layer in tree.items():
        size, adds = (parameters_of(layer), layer.multiply_adds()) if model.built else (0, 0)
        share = f"{100 * size / total:.1f} %" if size else ""
        around = holders(path, tree)
        frozen = size and not all(one.trainable for one in (layer, *around))
        named = f" {layer.name!r}" if is_named(layer) else ""
        title = f"{path} {type(layer).__name__}{named}{', not trained' if frozen else ''}"
        known = (str(layer.output_shape), f"{size:,}", share, f"{adds:,}")
        rows.append((len(around), title, *(known if model.built else UNKNOWN)))
    adds = sum(layer.multiply_adds() for layer in model.layers) if model.built else 0
    known = (f"{model.input_shape} ->", f"{total:,}", "", f"{adds:,}")
    return rows, (("total", *known) if model.built else ("not built", *UNKNOWN))


def described(layer):
    """The same of one layer, ready for JSON, with the layers in it under "parts"."""
    found = {
        "layer": type(layer).__name__,
        "output_shape": list(layer.output_shape),
        "params": parameters_of(layer),
        "multiply_adds": layer.multiply_adds(),
    }
    parts = {name: described(part) for name, part in layer.parts.items()}
    return found | ({"parts": parts} if parts else {})


def parameters_of(layer):
    """How many there are, in the layers in it, too."""
    found = named_values([("", layer), *walk(layer.parts)], "params")
    return sum(one.params[key].size for _, one, key in found)
