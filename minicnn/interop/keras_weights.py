"""The arrays in Keras's files: ``.weights.h5``, ``.keras`` and the older ``.h5``, all of which are HDF5.

Needs h5py, an extra: ``pip install "minicnn[interop]"``.

Design: a file is opened through Python, so that it leads to no other one; links that are not plain, and numbers that
stand outside of it, are refused.  Nothing is read that is not of the shape that a layer asks for, and all together no
more than the file's size and 64 MB.
"""

import contextlib
import io
import math
import os
import re
import zipfile

import numpy as np

from minicnn import _files, layers
from minicnn.interop.errors import ConversionError
from minicnn.interop.safetensors_files import built, commit, require_none_left
from minicnn.layer import is_named
from minicnn.settings import is_ours
from minicnn.tree import walk

BEYOND = 2**26  # bytes that a file may unfold to beyond its own size
MOST_TEXT = 2**24  # bytes of a configuration
MOST_GROUPS, DEEPEST = 100_000, 32
CONTAINERS = ("layers", "_layer_checkpoint_dependencies")  # the latter of Keras 2.12 to 2.15
NESTED = ("sequential", "functional", "model")

KERNEL = {"kernel": ("kernel",)}
NORM = {"gamma": ("gamma",), "beta": ("beta",)}
MOMENTS = {name: (name,) for name in ("moving_mean", "moving_variance")}
KINDS = (  # the name of a group in a file; {our name of an array: those of Keras's}, in its order
    (layers.Conv2D, "conv2d", KERNEL | {"bias": ("bias",)}),
    (layers.Conv2DTranspose, "conv2d_transpose", KERNEL | {"bias": ("bias",)}),
    (layers.DepthwiseConv2D, "depthwise_conv2d", {"kernel": ("kernel", "depthwise_kernel"), "bias": ("bias",)}),
    (layers.Dense, "dense", KERNEL | {"bias": ("bias",)}),
    (layers.BatchNormalization, "batch_normalization", NORM | MOMENTS),
    (layers.LayerNormalization, "layer_normalization", NORM),
    (layers.GroupNormalization, "group_normalization", NORM),
    (layers.PReLU, "p_re_lu", {"alpha": ("alpha",)}),
    (layers.Normalization, "normalization", {name: (name,) for name in ("mean", "variance", "count")}),
)
FLAGS = {"bias": "use_bias", "gamma": "scale", "beta": "center"}  # what a layer has no such array without


def load_keras_weights(model, path):
    """Takes the weights in a file of Keras's: ``.weights.h5``, ``.h5``, ``.keras``.

    The model must be a chain of the same layers; those of a class are counted as in the file, conv2d_10 after conv2d_9.
    Layers within ``Residual`` and ``Concurrent`` are found by their names alone: give them the names that they have in
    Keras.  An optimiser's state in the file is left.

    Nothing is written unless all fits.  ConversionError, which lists them, for arrays that are missing, left over or of
    another shape, and for a file that is damaged or of another kind; ImportError without h5py; RuntimeError for a model
    that is not built.
    """
    where = "interop.load_keras_weights"
    paths = {id(layer): name for name, layer in walk(built(where, model).layers)}
    with opened(where, path) as file:
        found = assigned(file, model.layers)
        arrays = {}
        for (layer, key), dataset in found.items():
            name, mine = f"{paths[id(layer)]}.{key}", layer.params if key in layer.params else layer.state
            arrays[name] = file.numbers(dataset, mine[key].shape, f"{name} of the model")
    commit(f"{where}: {os.fspath(path)}", model, arrays)


# ---- files ----


@contextlib.contextmanager
def opened(where, path):
    """A ``File`` of Keras's; within it every error of a library's becomes a ConversionError."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f'{where} needs h5py: pip install "minicnn[interop]"') from error
    where = f"{where}: {os.fspath(path)}"

    def refused(what):
        return ConversionError(f"{where} {what}")

    stream, size = _files.open_regular(path, refused)
    with stream:
        try:
            is_zip = stream.read(4) == b"PK\3\4"
            stream.seek(0)
            text, version = None, ""
            if is_zip:
                text, version, stream = _unzipped(refused, stream, size)
            with h5py.File(stream, "r") as root:
                if not is_zip:
                    text, version = (_text(root.attrs.get(name)) for name in ("model_config", "keras_version"))
                yield File(where, root, size, text, version or "", h5py)
        except ConversionError:
            raise
        except Exception as error:  # of any kind: the file chose all arguments
            said = re.sub(r"\s+", " ", str(error))[:200]
            raise refused(f"is damaged, or no file of Keras's ({type(error).__name__}: {said})") from error


def _text(value):
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _unzipped(refused, stream, size):
    """(configuration, version of Keras, the HDF5 file) of an archive ``.keras``."""
    import json

    found = []
    with zipfile.ZipFile(stream) as archive:
        for name, most in (("config.json", MOST_TEXT), ("metadata.json", MOST_TEXT), ("model.weights.h5", None)):
            if name not in archive.namelist():
                raise refused(f"is no file of Keras's: it lacks {name}")
            most = size + BEYOND if most is None else most
            with archive.open(name) as member:
                data = member.read(most + 1)
            if len(data) > most:
                raise refused(f"unfolds to more than {most} bytes in {name}")
            found.append(data)
    about = json.loads(found[1])
    return found[0].decode("utf-8"), str(about.get("keras_version", "")), io.BytesIO(found[2])


class File:
    """An open file: ``text``, the configuration of the model or None; ``version`` of Keras; groups and arrays."""

    def __init__(self, where, root, size, text, version, h5py):
        self.where, self.root, self.text, self.version, self._h5py = where, root, text, version, h5py
        self._left, self._groups = size + BEYOND, 0

    def refused(self, what):
        return ConversionError(f"{self.where} {what}")

    def members(self, group):
        """{name: group or array} in a group."""
        found = {}
        for name in group:
            self._groups += 1
            if self._groups > MOST_GROUPS:
                raise self.refused(f"has more than {MOST_GROUPS} groups")
            if not isinstance(group.get(name, getlink=True), self._h5py.HardLink):
                raise self.refused(f"has a link to somewhere else, {name[:80]!r}")
            found[name] = group[name]
        return found

    def is_array(self, thing):
        return isinstance(thing, self._h5py.Dataset)

    def arrays(self, group, name="", depth=0):
        """{name: array} of all in a group, but for generators of random numbers."""
        if depth > DEEPEST:
            raise self.refused(f"has groups in groups, more than {DEEPEST} deep")
        found = {}
        for key, thing in self.members(group).items():
            inner = f"{name}/{key}" if name else key
            if self.is_array(thing):
                found[inner] = thing
            elif key != "seed_generator":
                found |= self.arrays(thing, inner, depth + 1)
        return found

    def numbers(self, dataset, shape, name):
        """The numbers of an array, if it has that shape; ``name``: what they are, for errors."""
        title = f"{dataset.name} for {name}"
        if dataset.is_virtual or dataset.external:
            raise self.refused(f"keeps its numbers in other files: {title}")
        if dataset.dtype.kind not in "fiu" or (dataset.shape != shape and (dataset.shape, shape) != ((), (1,))):
            raise self.refused(
                f"must hold real numbers of shape {shape} as {title}; got {dataset.dtype} {dataset.shape}"
            )
        chunk = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
        self._left -= dataset.nbytes
        if self._left < 0 or chunk > dataset.nbytes + 2**20:
            raise self.refused(f"declares more numbers than it holds, in {title}")
        found = np.array(dataset[()]).reshape(shape)
        return (
            np.maximum(found, 1) if shape == (1,) and dataset.dtype.kind in "iu" else found
        )  # a count Keras leaves at 0

    def names(self, group, attribute):
        """The list of names in an attribute, which may be cut into several: "layer_names0", ..."""
        found = group.attrs.get(attribute)
        if found is None:
            parts = [key for key in group.attrs if re.fullmatch(rf"{attribute}\d+", key)]
            parts.sort(key=lambda key: int(key[len(attribute) :]))
            found = [name for key in parts for name in group.attrs[key]] if parts else None
        return None if found is None else [_text(name) for name in found]


# ---- which array is which ----


def assigned(file, chain, nested=None):
    """{(layer, our name of its array): array in the file}; ConversionError unless all in both have their place.

    ``nested``: where ``chain`` has the layers in the order of the file, {id of a ``Chain``: (the name of its group
    without number, its layers in that order)}; None where the layers of branches must be found by their names.
    """
    root = file.members(file.root)
    legacy = root.get("model_weights", file.root)
    names = file.names(legacy, "layer_names")
    container = next((root[name] for name in CONTAINERS if name in root), None)
    if names is None and container is None:
        raise file.refused("is no file of Keras's: it has no layers")
    by_name = False
    if nested is None:
        branches = [layer for _, layer in walk(chain) if isinstance(layer, layers.Residual | layers.Concurrent)]
        by_name = any(_leaves(file, layer.parts.values(), {}) for layer in branches)
    nested = nested or {}
    leaves = _leaves(file, chain, nested)
    if names is not None:
        groups = _legacy_groups(file, legacy, names, by_name)
        return _by_name(file, leaves, groups) if by_name else _in_order(file, leaves, groups)
    own = file.arrays(root["vars"], "vars") if "vars" in root and not file.is_array(root["vars"]) else {}
    require_none_left(file.where, (), own)
    if by_name:
        return _by_name(file, leaves, _named_groups(file, container, ""))
    missing, left, found = [], [], {}
    _counted(file, chain, container, nested, (found, missing, left))
    require_none_left(file.where, missing, left)
    return found


def _leaves(file, chain, nested):
    """The layers that have arrays in files of Keras's, also those that others hold."""
    found = []
    for layer in chain:
        inner = nested[id(layer)][1] if id(layer) in nested else layer.parts.values()
        own = [layer] if variables(layer) else _leaves(file, inner, nested)
        if not is_ours(type(layer)) and (own or layer.params or layer.state):
            raise file.refused(f"has nothing for a custom layer, {type(layer).__name__}")
        found += own
    return found


def variables(layer):
    """{(layer, our name of an array): Keras's names} of a layer that has arrays in Keras's files, in their order."""
    if isinstance(layer, layers.SeparableConv2D):
        two = layer.depthwise, layer.pointwise
        found = {
            (part, "kernel"): (f"{name}_kernel",) for part, name in zip(two, ("depthwise", "pointwise"), strict=True)
        }
        return found | ({(two[1], "bias"): ("bias",)} if layer.use_bias else {})
    if isinstance(layer, layers.Normalization) and layer.mean is not None:
        return {}
    names = next((names for cls, _, names in KINDS if isinstance(layer, cls)), {})
    return {(layer, key): called for key, called in names.items() if key not in FLAGS or getattr(layer, FLAGS[key])}


def _stem(layer):
    if isinstance(layer, layers.SeparableConv2D):
        return "separable_conv2d"
    return next(stem for cls, stem, _ in KINDS if isinstance(layer, cls))


def _title(layer):
    return f"{type(layer).__name__} {layer.name!r}"


def _listed(group):
    """The arrays of a layer's group in a file of Keras 3, in the order of their numbers."""
    names = sorted(group, key=lambda name: (len(name), name))
    return {name: group[name] for name in names}


def _fill(file, found, layer, arrays, where):
    """Puts the arrays {name: array} of one layer into ``found``, by their names or, if those are numbers, in order."""
    wanted = variables(layer)
    if all(name.isdecimal() for name in arrays):
        pairs = [*zip(wanted, _listed(arrays).values(), strict=False)]
    else:
        pairs = [(key, arrays[name]) for key, called in wanted.items() for name in called if name in arrays]
    if not len(pairs) == len(wanted) == len(arrays):
        need = ", ".join(called[0] for called in wanted.values())
        raise file.refused(f"must hold {need} for {_title(layer)} in {where!r}; got {', '.join(arrays) or 'nothing'}")
    found.update(pairs)


def _counted(file, chain, container, known, lists):
    """Files of Keras 3: groups are named by class and number, "conv2d", "conv2d_1", ..., "conv2d_10"."""
    found, missing, left = lists
    waiting = {}
    for name, group in file.members(container).items():
        stem, _, number = name.rpartition("_")
        stem, number = (stem, number) if number.isdecimal() and stem else (name, "")
        if file.is_array(group) or file.arrays(group):
            waiting.setdefault(stem, []).append((len(number), number, name, group))
    for several in waiting.values():
        several.sort(key=lambda one: one[:2], reverse=True)
    for layer in chain:
        if not _leaves(file, [layer], known):
            continue
        nested = isinstance(layer, layers.Chain)
        options, parts = NESTED if nested else (_stem(layer),), layer.parts.values()
        if id(layer) in known:
            options, parts = (known[id(layer)][0],), known[id(layer)][1]
        options = [stem for stem in options if waiting.get(stem)]
        if len(options) > 1:
            raise file.refused(f"is ambiguous: {_title(layer)} may be any of {', '.join(options)}")
        if not options:
            missing.append(f"arrays of {_title(layer)}")
            continue
        *_, name, group = waiting[options[0]].pop()
        inner = {} if file.is_array(group) else file.members(group)
        if nested:
            inner = next((inner[one] for one in CONTAINERS if one in inner), file.root)
            _counted(file, parts, inner, known, lists)
            continue
        arrays = {key: one for key, one in file.arrays(group).items() if not key.startswith("vars/")}
        left += [f"{name}/{key}" for key in arrays]
        own = file.members(inner["vars"]) if "vars" in inner else {}
        _fill(file, found, layer, own, name)
    left += [one[2] for several in waiting.values() for one in several]


def _named_groups(file, container, prefix):
    """{name of the layer: (where, {number: array})} of all groups with arrays in a file of Keras 3."""
    found = {}
    for key, group in file.members(container).items():
        if file.is_array(group) or key == "seed_generator":
            continue
        inner = file.members(group)
        arrays = {name: one for name, one in inner.items() if file.is_array(one)}
        if key == "vars" and arrays:
            name = _text(group.attrs.get("name", prefix))
            if name in found:
                raise file.refused(f"has two layers of the name {name!r}")
            found[name] = prefix, arrays
        else:
            found |= _named_groups(file, group, f"{prefix}/{key}" if prefix else key)
    return found


def _legacy_groups(file, group, layer_names, by_name):
    """{name of the layer: (where, {"kernel": array})} in the order of the layers: files ``.h5`` of the old form.

    A model in a model is one group, whose arrays begin with the names of its layers; the keys say both, unless
    ``by_name``.
    """
    found = {}
    members = file.members(group)
    for layer_name in layer_names:
        inner = members.get(layer_name)
        if inner is None or file.is_array(inner):
            raise file.refused(f"lacks the group of its layer {layer_name!r}")
        arrays, names = file.arrays(inner), file.names(inner, "weight_names") or ()
        several = len({name.rpartition("/")[0] for name in names}) > 1
        for name in names:
            place, _, key = name.rpartition("/")
            if name not in arrays:
                raise file.refused(f"lacks the array {name!r} of its layer {layer_name!r}")
            own = f"{layer_name}/{place}" if several else layer_name
            own = place.rpartition("/")[2] or own if by_name else own
            found.setdefault(own, (layer_name, {}))[1][key.partition(":")[0]] = arrays[name]
    return found


def _in_order(file, leaves, groups):
    found = {}
    groups = {name: group for name, group in groups.items() if group[1]}
    if len(leaves) != len(groups):
        missing = [f"arrays of {_title(layer)}" for layer in leaves[len(groups) :]]
        require_none_left(file.where, missing, [*groups][len(leaves) :])
    for layer, (name, (_, arrays)) in zip(leaves, groups.items(), strict=True):
        _fill(file, found, layer, arrays, name)
    return found


def _by_name(file, leaves, groups):
    """For layers in branches, of which no file says the order."""
    found = {}
    unnamed = [_title(layer) for layer in leaves if not is_named(layer)]
    if unnamed:
        raise file.refused(
            "does not say the order of branches, so that each layer needs the name that it has in Keras, name=...; "
            f"without one are: {', '.join(unnamed)}. The file has {', '.join(groups)}"
        )
    names = {layer.name: layer for layer in leaves}
    missing = [_title(layer) for name, layer in names.items() if name not in groups]
    require_none_left(file.where, missing, [name for name in groups if name not in names])
    for name, layer in names.items():
        _fill(file, found, layer, groups[name][1], groups[name][0])
    return found
