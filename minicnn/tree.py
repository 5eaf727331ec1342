"""The tree of layers that hold layers: who is in it, and what each is called.

Asks of a layer nothing but its ``parts``; knows no class of layers.
"""

from minicnn import _check
from minicnn.settings import Values


def held_in(values, kind, around=()):
    """(name, thing) for every thing of a ``kind``, such as Layer, in a dictionary's values and in the lists, tuples and
    dictionaries among them."""
    for key, value in list(values.items()):  # another thread's forward may add an attribute
        if isinstance(value, kind):
            yield _part_of_name(key), value
        elif isinstance(value, list | tuple | dict) and type(value) is not Values and id(value) not in around:
            inner = value if isinstance(value, dict) else dict(enumerate(value))
            for rest, thing in held_in(inner, kind, (*around, id(value))):
                yield f"{_part_of_name(key)}.{rest}", thing


def _part_of_name(key):
    if (type(key) is int and key >= 0) or (isinstance(key, str) and key.isidentifier()):
        return str(key)
    required = "the keys of a dictionary that holds layers must be words, as Python's names are, or whole numbers"
    raise ValueError(_check.message("Layer", required, key))


def walk(layers):
    """[(path, layer)] of all layers and the layers in them, each before those that it holds: "0", "1", "1.body.0".

    ``layers``: the layers of a chain, or a dictionary such as ``Layer.parts``.  What looks for parameters, states,
    masks or names walks; what computes runs through the chain.  ValueError for a layer that stands in two places, which
    it names; one of them may be in the layer itself.
    """
    found, places = [], {}

    def visit(named, prefix):
        for name, layer in named:
            path = f"{prefix}{name}"
            before = places.setdefault(id(layer), path)
            if before != path:
                kind, both = type(layer).__name__, f"places {before!r} and {path!r}"
                raise ValueError(f"{kind}: a layer can stand in one place only; got it in the {both}. Make a new one")
            found.append((path, layer))
            visit(layer.parts.items(), f"{path}.")

    visit(layers.items() if isinstance(layers, dict) else enumerate(layers), "")
    return found


def holders(path, by_path):
    """The layers that hold the layer of that path, from the outermost on; ``by_path``: {path: layer} of a walk."""
    dots = [i for i, letter in enumerate(path) if letter == "."]
    return [by_path[path[:dot]] for dot in dots if path[:dot] in by_path]


def named_values(walked, kind):
    """(name, layer, key) of every entry of the layers' "params" or "state": "1.body.0.kernel" is one.

    What a custom layer shares with a layer in it, as one dictionary, is the inner one's.
    """
    last = {id(getattr(layer, kind)): path for path, layer in walked}
    return [
        (f"{path}.{key}" if path else key, layer, key)
        for path, layer in walked
        if last[id(getattr(layer, kind))] == path
        for key in getattr(layer, kind)
    ]
