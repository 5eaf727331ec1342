"""Weights from PyTorch and for it: names of modules, layouts of arrays, and the order of flat features.

A model is read as the ``nn.Sequential`` that computes the same (docs/interop.md has its names).  PyTorch's images are
(C, H, W), so that behind a Flatten its features stand in another order; ``_Reader`` follows that order through the
model.  An order is an array with the shape of a sample here, whose entries are the numbers of the same elements there,
counted in C order; None is the usual one: (H, W, C) for (C, H, W), and all other shapes as they are.

Nothing here needs PyTorch, but for files of pickles.
"""

import itertools
import math
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from minicnn import _check, layers
from minicnn.interop import safetensors_files
from minicnn.interop.errors import ConversionError
from minicnn.settings import is_ours
from minicnn.tree import walk

COUNTER = "num_batches_tracked"
SUFFIXES = ("weight", "bias", "running_mean", "running_var", COUNTER)
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".tar")


def load_torch(model, state_dict):
    """Takes the parameters and statistics of a PyTorch network of the same architecture.

    - ``state_dict``: what ``net.state_dict()`` gives, a dictionary of tensors (of any real dtype, on any device) or of
      arrays; or the path of a file: ``.safetensors``, or a pickle (``.pt``, ``.pth``), which PyTorch reads with
      ``weights_only=True``, where it is installed.

    Names are those of ``to_torch``, with anything before them ("module.0.weight"); or any others ("conv1.weight"),
    where the modules fit the model's in number, order, kind and shapes.  Where the order does not fit, or a file has
    none, modules must fit in one way only; those of equal shapes are told apart by the numbers in their names.

    Padding, strides, epsilon, slopes and the like are no weights: the model must have PyTorch's (docs/interop.md).

    Nothing is written unless all fits.  ConversionError, which lists them, for arrays that are missing, left over, or
    could stand in several places, for those of other shapes, and for files that are damaged or of another kind;
    RuntimeError for a model that is not built; TypeError for what is neither a dictionary nor a path.  UserWarning
    where features come out in another order than in PyTorch, behind a Flatten without a Dense.
    """
    where = "interop.load_torch"
    modules = _modules(where, safetensors_files.built(where, model))
    in_order = True
    if isinstance(state_dict, str | os.PathLike):
        where = f"{where}: {os.fspath(state_dict)}"
        state_dict, in_order = _read(state_dict)
    elif not isinstance(state_dict, Mapping):
        required = "needs a dictionary of tensors or arrays, or the path of a file"
        fix = "Give its state_dict()" if hasattr(state_dict, "state_dict") else ""
        raise TypeError(_check.message(where, required, _check.kind(state_dict), fix))
    found = {}
    for module, group in _matched(where, modules, _groups(where, state_dict), in_order):
        for suffix, one in module.arrays.items():
            if suffix not in group:
                continue
            value = group[suffix]
            if one.name is not None:
                found[one.name] = one.take(value)
            elif not (value == one.constant).all():
                required = f"{suffix} must be {one.constant} everywhere, for the model's layer has none"
                raise ConversionError(f"{where}: {module.kind} {module.name!r}: {required}")
    safetensors_files.commit(where, model, found)


def to_torch(model):
    """{name: array} for ``load_state_dict`` of the ``nn.Sequential`` that computes the same: NumPy arrays, C-contiguous
    copies; ``torch.from_numpy`` makes tensors of them.

    Each layer is a module, its ``activation=`` another one behind it: "0.weight", "0.bias", "1.running_mean", ...
    (docs/interop.md has the rules, also for layers that hold layers).

    ConversionError for a layer whose parameters no module of PyTorch's has; RuntimeError for a model that is not built.
    """
    where, found = "interop.to_torch", {}
    state = safetensors_files.built(where, model).state_dict()
    for module in _modules(where, model):
        for suffix, one in module.arrays.items():
            if one.name is not None:
                value = one.give(state[one.name])
            else:
                value = np.full(one.shapes[0], one.constant, model.dtype)
            if value.shape != one.shapes[0]:
                raise ConversionError(f"{where}: {module.kind} {module.name!r}: {one.wanted}; got {value.shape}")
            found[_joined(module.name, suffix)] = np.array(value, order="C")
        if "running_mean" in module.arrays:
            found[_joined(module.name, COUNTER)] = np.zeros((), np.int64)
    return found


# ---- the model as modules ----


class _Array(NamedTuple):
    """An array of a module, and how it becomes one of the model's, ``name`` in its ``state_dict``, and back.

    ``shapes``: those that PyTorch's may have; the first one is that of ``give``.  ``name`` None: the layer has none,
    as if it were ``constant`` everywhere.
    """

    name: Any
    shapes: tuple
    take: Any
    give: Any
    constant: float = 0
    wanted: str = ""


class _Module(NamedTuple):
    """A module with arrays.  ``optional``: PyTorch has no such one; without its arrays the layer keeps what it has."""

    name: str
    kind: str
    arrays: dict
    optional: bool = False

    def refuses(self, group):
        """Whether arrays {suffix: array} are not this module's."""
        missing, unknown, other = self.differences(group)
        return bool(missing or unknown or other)

    def differences(self, group):
        needed = {suffix for suffix, one in self.arrays.items() if one.name is not None}
        known = {*self.arrays, *([COUNTER] if "running_mean" in self.arrays else [])}
        other = [suffix for suffix in group if suffix in self.arrays and not self._fits(suffix, group[suffix])]
        return [suffix for suffix in self.arrays if suffix in needed - group.keys()], [*(group.keys() - known)], other

    def _fits(self, suffix, array):
        return array.shape in self.arrays[suffix].shapes

    def entries(self):
        """(name of the array, its shape) of all that it needs."""
        return [(_joined(self.name, suffix), one.shapes[0]) for suffix, one in self.arrays.items() if one.name]


def _joined(name, suffix):
    return f"{name}.{suffix}" if name else suffix


CONVOLUTIONS = (layers.Conv2D, layers.Conv2DTranspose, layers.DepthwiseConv2D)
NORMALIZATIONS = (layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization)
MOVING = (  # what sees rows and columns
    *(layers.ZeroPadding2D, layers.Cropping2D, layers.UpSampling2D, layers.Resizing, layers.RandomCrop),
    *(layers.MaxPooling2D, layers.AveragePooling2D, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D),
)
HOLDING = (layers.Chain, layers.Residual, layers.Concurrent, layers.SeparableConv2D)
_READING = (*CONVOLUTIONS, *MOVING, *HOLDING, layers.Dense)


def _modules(where, model):
    reader = _Reader(where, {id(layer): path for path, layer in walk(model.layers)})
    order = reader.chain("", model.layers, reader.first_order(model), None)
    if order is not None:
        required = "the outputs stand in another order than in PyTorch, which flattens (C, H, W), for no Dense follows"
        _check.warn(f"{where}: {required}. Permute((3, 1, 2)) before Flatten makes it the same")
    return reader.modules


class _Reader:
    """Reads layers from the first to the last, and makes the list of modules that have arrays."""

    def __init__(self, where, paths):
        self.where, self.paths, self.modules = where, paths, []

    def chain(self, prefix, chain, order, end):
        """Reads layers one after the other, for inputs in that ``order``; returns that of the outputs.

        ``end``: a function (shape) -> the order that is wanted of the outputs, or None where any will do.
        """
        number = 0
        for place, layer in enumerate(chain):
            following = chain[place + 1 :]
            name = f"{prefix}{number}"
            order = self.layer(name, layer, order, following, end)
            if isinstance(layer, layers.SeparableConv2D):
                number += 1
            elif isinstance(layer, layers.GlobalAveragePooling2D | layers.GlobalMaxPooling2D):
                number += _needs_flatten(following)
            number += 1
            if not isinstance(layer, layers.Activation):
                number += getattr(layer, "activation", None) not in (None, "linear")
        return order

    def layer(self, name, layer, order, following, end):
        kind, shape = type(layer).__name__, layer.input_shape
        arrays = any(one.params or _array_states(one) for _, one in walk({"": layer}))
        if not is_ours(type(layer)) and (arrays or order is not None):
            self.refuse(layer, "a custom layer is no module of PyTorch's")
        if isinstance(layer, layers.Permute):
            if order is None and (len(shape) != 3 or layer.dims[-1] == 3):
                return None  # the same there
            axes = [axis - 1 for axis in layer.dims]
            return _or_none(_order(order, shape).transpose(axes))
        if isinstance(layer, layers.Reshape):
            if order is None and len(shape) == 3 and len(layer.output_shape) == 2 and layer.output_shape[1] == shape[2]:
                return None  # pixels one after the other, which PyTorch has transposed for their features to come last
            return _or_none(_order(order, shape).reshape(layer.output_shape))
        if isinstance(layer, layers.Chain):
            return self.chain(f"{name}.", layer.layers, order, lambda shape: _wanted(following, shape, end))
        if isinstance(layer, layers.Residual):
            return self.residual(name, layer, order, following, end)
        if isinstance(layer, layers.Concurrent):
            return self.concurrent(name, layer, order)
        if isinstance(layer, layers.SeparableConv2D):
            self.require_usual(layer, order)
            first, _, last = name.rpartition(".")
            second = _joined(first, str(int(last) + 1))
            for part, called in ((layer.depthwise, name), (layer.pointwise, second)):
                self.modules.append(_Module(called, type(part).__name__, self.convolution(part)))
            return None
        if isinstance(layer, CONVOLUTIONS):
            self.require_usual(layer, order)
            self.modules.append(_Module(name, kind, self.convolution(layer)))
            return None
        if isinstance(layer, layers.Dense):
            if len(shape) > 1:  # along the last axis
                if not _plain(order):
                    self.require_usual(layer, order)
                self.modules.append(_Module(name, kind, self.dense(layer, None, None)))
                return None if order is None else _or_none(_counted(layer.output_shape))
            out = _wanted(following, layer.output_shape, end)
            self.modules.append(_Module(name, kind, self.dense(layer, order, out)))
            return out
        if isinstance(layer, NORMALIZATIONS):
            self.modules.append(_Module(name, kind, self.normalization(layer, order)))
        elif isinstance(layer, layers.PReLU):
            self.modules.append(_Module(name, kind, {"weight": self.slopes(layer, order)}))
        elif isinstance(layer, layers.Normalization | layers.Temperature):
            states = {} if getattr(layer, "mean", None) is not None else _array_states(layer)
            found = {key: self.spread(layer, key, value.shape, order) for key, value in states.items()}
            if found:
                self.modules.append(_Module(name, kind, found, optional=True))
        elif isinstance(layer, MOVING):
            self.require_usual(layer, order)
        elif arrays:
            self.refuse(layer, "PyTorch has no module with such parameters")
        return order

    def refuse(self, layer, why):
        raise ConversionError(f"{self.where}: layer {self.paths[id(layer)]} ({type(layer).__name__}): {why}")

    def require_usual(self, layer, order):
        if order is not None:
            self.refuse(
                layer, "the axes of its input stand in another order than PyTorch's: Reshape and Permute before"
            )

    def name_of(self, layer, key):
        return f"{self.paths[id(layer)]}.{key}"

    # ---- layers that hold layers ----

    def residual(self, name, layer, order, following, end):
        def inner(shape):
            return _wanted(following, shape, end) if layer.shortcut else order  # that of what is added to it

        orders = [self.chain(f"{name}.{part}.", getattr(layer, part), order, inner) for part in ("body", "shortcut")]
        if not _same(*orders):
            self.refuse(layer, "body and shortcut have their features in different orders in PyTorch")
        return orders[0]

    def concurrent(self, name, layer, order):
        orders, shapes = [], []
        for number, branch in enumerate(layer.branches):
            orders.append(self.chain(f"{name}.branches.{number}.", branch, order, None))
            shapes.append(branch[-1].output_shape if branch else layer.input_shape)
        if all(one is None for one in orders):
            return None
        if len(layer.output_shape) != 1:
            self.require_usual(layer, next(one for one in orders if one is not None))
        starts = itertools.accumulate([0, *(shape[0] for shape in shapes)])
        parts = [_order(*pair) + start for *pair, start in zip(orders, shapes, starts, strict=False)]
        return _or_none(np.concatenate(parts))

    # ---- layers with parameters ----

    def convolution(self, layer):
        """Kernels (KH, KW, in, out) of windows, of PyTorch's (out, in, KH, KW); Conv2DTranspose has (KH, KW, out, in),
        there (in, out, KH, KW); filter o of DepthwiseConv2D is (o // multiplier, o % multiplier) of its last two
        axes."""
        kernel = layer.params["kernel"].shape
        flat = (*kernel[:2], 1, kernel[2] * kernel[3]) if isinstance(layer, layers.DepthwiseConv2D) else kernel
        weight = _Array(
            self.name_of(layer, "kernel"),
            ((flat[3], flat[2], *flat[:2]),),
            lambda w: w.transpose(2, 3, 1, 0).reshape(kernel),
            lambda k: k.reshape(flat).transpose(3, 2, 0, 1),
        )
        return {"weight": weight} | self.bias(layer, None)

    def bias(self, layer, out):
        return {"bias": self.spread(layer, "bias", layer.params["bias"].shape, out)} if layer.use_bias else {}

    def dense(self, layer, order, out):
        """kernel (in, out) of weight (out, in); or of that of a convolution with one pixel."""
        d, m = layer.params["kernel"].shape
        rows = np.arange(d) if order is None else order
        columns = np.arange(m) if out is None else out

        def give(kernel):
            weight = np.empty((m, d), kernel.dtype)
            weight[np.ix_(columns, rows)] = kernel.T
            return weight

        weight = _Array(
            self.name_of(layer, "kernel"),
            ((m, d), (m, d, 1, 1)),
            lambda w: w.reshape(m, d)[np.ix_(columns, rows)].T,
            give,
        )
        return {"weight": weight} | self.bias(layer, out)

    def normalization(self, layer, order):
        shape, moving = layer.input_shape, not isinstance(layer, layers.LayerNormalization)
        own = shape[-1:]
        if isinstance(layer, layers.LayerNormalization):
            first = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
            own = shape[first if first < 0 else first - 1 :]
            if 1 < len(own) < len(shape) == 3 and not _plain(order):
                self.refuse(layer, "PyTorch's images have other last axes: normalise the last one, or all")
        if len(own) < len(shape) and (moving or not _plain(order)):
            self.require_usual(layer, order)
        if order is not None and isinstance(layer, layers.GroupNormalization) and layer.groups not in (1, -1, *own):
            self.refuse(layer, "its groups are of other features than in PyTorch, whose Flatten has another order")
        found = {}
        for key, suffix, constant in (("gamma", "weight", 1), ("beta", "bias", 0)):
            if layer.scale or layer.center:
                found[suffix] = self.spread(layer, key, own, order, constant)
        if isinstance(layer, layers.BatchNormalization):
            for key, suffix in (("moving_mean", "running_mean"), ("moving_variance", "running_var")):
                found[suffix] = self.spread(layer, key, own, order)
        return found

    def spread(self, layer, key, shape, order, constant=0):
        """An array with a number for each of the last axes of a sample."""
        there = (shape[2], *shape[:2]) if len(shape) == 3 and order is None else shape
        places = _usual(shape) if order is None or order.shape != shape else order

        def give(values):
            flat = np.empty(values.size, values.dtype)
            flat[places.reshape(-1)] = values.reshape(-1)
            return flat.reshape(there)

        known = key in layer.params or key in layer.state
        name = self.name_of(layer, key) if known else None
        return _Array(name, (there,), lambda values: values.reshape(-1)[places], give, constant)

    def slopes(self, layer, order):
        """alpha, with 1 along shared axes, of one number for each channel, or of a single one."""
        alpha = layer.params["alpha"].shape
        channels = layer.input_shape[-1]
        if len(alpha) > 1:
            self.require_usual(layer, order)
        own = np.arange(channels) if order is None or alpha[-1] == 1 else order
        one = (alpha[-1],)
        shapes = [one, (1,), *([(channels,)] if alpha[-1] == channels else [])]

        def give(values):
            if values.size != alpha[-1]:
                return values  # and is refused for its shape
            weight = np.empty(one, values.dtype)
            weight[own[: alpha[-1]]] = values.reshape(-1)
            return weight

        def take(w):
            return np.broadcast_to(w if w.size == 1 else w[own], alpha)

        wanted = "a slope must be one for all, or one for each channel"
        return _Array(self.name_of(layer, "alpha"), tuple(dict.fromkeys(shapes)), take, give, 0, wanted)

    # ---- orders ----

    def first_order(self, model):
        """That of the inputs: the usual one, unless the model begins by making (H, W, C) of (C, H, W) itself."""
        places = _counted(model.input_shape)
        for layer in _without_chains(model.layers):
            if isinstance(layer, layers.Permute):
                places = places.transpose([axis - 1 for axis in layer.dims])
            elif isinstance(layer, (layers.Reshape, *_READING)):
                order = _sent(places, None).reshape(model.input_shape)
                of_images = isinstance(layer, CONVOLUTIONS + MOVING + HOLDING)
                return _or_none(order) if of_images and _plain(order) else None
        return None


def _array_states(layer):
    return {key: value for key, value in layer.state.items() if isinstance(value, np.ndarray)}


def _needs_flatten(following):
    """Whether PyTorch needs a Flatten behind its pooling to 1 x 1: not where one follows before features are read."""
    for layer in following:
        if isinstance(layer, layers.Reshape):
            return not isinstance(layer, layers.Flatten)
        if isinstance(layer, _READING):
            break
    return True


def _counted(shape):
    return np.arange(math.prod(shape)).reshape(shape)


def _usual(shape):
    return _counted((shape[2], *shape[:2])).transpose(1, 2, 0) if len(shape) == 3 else _counted(shape)


def _plain(order):
    """Whether the axes are PyTorch's, one by one."""
    return order is not None and np.array_equal(order, _counted(order.shape))


def _order(order, shape):
    return _usual(shape) if order is None else order


def _or_none(order):
    return None if np.array_equal(order, _usual(order.shape)) else order


def _same(a, b):
    return a is b or (a is not None and b is not None and np.array_equal(a, b))


def _without_chains(chain):
    for layer in chain:
        if isinstance(layer, layers.Chain):
            yield from _without_chains(layer.layers)
        else:
            yield layer


def _sent(places, order):
    """The order of flat features of which ``places``, an array of their numbers, comes to have ``order``."""
    found = np.empty(places.size, np.int64)
    found[places.reshape(-1)] = _order(order, places.shape).reshape(-1)
    return found


def _wanted(following, shape, end):
    """The order that features of that shape must have for what reads them to find the usual one, or that of ``end``."""
    places = _counted(shape)
    for layer in _without_chains(following):
        if isinstance(layer, layers.Permute):
            places = places.transpose([axis - 1 for axis in layer.dims])
        elif isinstance(layer, layers.Reshape):
            places = places.reshape(layer.output_shape)
        elif isinstance(layer, _READING):
            end = None
            break
    order = None if end is None else end(places.shape)
    return _or_none(_sent(places, order).reshape(shape))


# ---- which array is which ----


def _groups(where, state):
    """{name of a module: {suffix: array}} of a state_dict, in its order."""
    inner = [key for key, value in state.items() if isinstance(value, Mapping)]
    if inner:
        entry = next((key for key in inner if "state" in str(key) or "model" in str(key)), inner[0])
        raise ConversionError(
            f"{where}: a checkpoint of a training program is not a state_dict; give its entry that is one, "
            f"load_torch(model, checkpoint[{entry!r}]). It has {', '.join(map(str, state))}"
        )
    found = {}
    for key, value in state.items():
        if not isinstance(key, str):
            raise ConversionError(f"{where}: the names of arrays must be text; got {key!r}")
        name, _, suffix = key.rpartition(".")
        found.setdefault(name, {})[suffix] = _as_array(where, key, value)
    return found


def _as_array(where, key, value):
    try:
        if hasattr(value, "detach"):
            tensor = value.detach().cpu()
            try:
                value = tensor.numpy()
            except TypeError:  # bfloat16, which NumPy has not
                value = tensor.float().numpy()
        value = np.asarray(value)
        if value.dtype.kind == "V":  # the same, as ml_dtypes has it
            value = value.astype(np.float32)
    except Exception as error:  # of sparse tensors, lazy ones, those of other devices
        raise ConversionError(f"{where}: {key!r} must be an array of numbers ({error})") from error
    if value.dtype.kind not in "biuf":
        raise ConversionError(f"{where}: {key!r} must be an array of real numbers; got {value.dtype}")
    return value


def _matched(where, modules, groups, in_order):
    """[(module, its {suffix: array})] of all modules that have arrays; ConversionError unless that is sure."""
    needed = [module for module in modules if not module.optional]
    given = {name: group for name, group in groups.items() if [*group] != [COUNTER]}
    for chosen in (modules, needed):  # with those that PyTorch has not, and without
        named = _by_name(chosen, given)
        if named is not None:
            return _checked(where, named)
    given = {name: group for name, group in given.items() if group}
    chosen = modules if len(given) == len(modules) else needed
    if len(given) == len(chosen):
        pairs = [*zip(chosen, given.values(), strict=True)]
        if in_order and not any(module.refuses(group) for module, group in pairs):
            _require_numbers_in_order(where, given)
            return pairs
        pairs = _by_shapes(where, chosen, given)
        if pairs is not None:
            return pairs
    _refuse(where, chosen, groups)


def _by_name(modules, groups):
    """The pairs where the names are those of ``to_torch``, with the same before all; None where they are not."""
    if len(groups) != len(modules):
        return None
    first = modules[0].name if modules else ""
    for prefix in dict.fromkeys(["", *(name.removesuffix(first) for name in groups if name.endswith(f".{first}"))]):
        stripped = {name[len(prefix) :]: group for name, group in groups.items() if name.startswith(prefix)}
        if len(stripped) == len(groups) and {module.name for module in modules} == stripped.keys():
            pairs = [(module, stripped[module.name]) for module in modules]
            if not any(missing or left for missing, left, _ in (one.differences(group) for one, group in pairs)):
                return pairs
    return None


def _checked(where, pairs):
    wrong = [
        f"{_joined(module.name, suffix)} must have shape {' or '.join(map(str, module.arrays[suffix].shapes))}, "
        f"for {module.kind}; got {group[suffix].shape}"
        for module, group in pairs
        for suffix in module.differences(group)[2]
    ]
    if wrong:
        raise ConversionError(f"{where}: {'; '.join(wrong)}")
    return pairs


def _signature(group):
    return tuple(sorted((suffix, array.shape) for suffix, array in group.items() if suffix != COUNTER))


def _numbers(name):
    """(the name without its numbers, the numbers)."""
    numbers = (digits.lstrip("0") for digits in re.findall(r"\d+", name))
    return re.sub(r"\d+", "#", name), [(len(digits), digits) for digits in numbers]


def _require_numbers_in_order(where, groups):
    """ConversionError where the order of equal modules and the numbers in their names say different things."""
    last = {}
    for name, group in groups.items():
        stem, numbers = _numbers(name)
        key = stem, _signature(group)
        if key in last and _numbers(last[key])[1] > numbers:
            raise ConversionError(
                f"{where}: ambiguous: {last[key]!r} stands before {name!r}, and both could be the other one. Give the "
                f"arrays the names of to_torch"
            )
        last[key] = name


def _by_shapes(where, modules, groups):
    """The pairs where modules fit in one way only; None where they do not fit at all."""
    alike = {}  # groups that could stand for one another
    for name, group in groups.items():
        alike.setdefault(_signature(group), []).append(name)
    wanting = {}  # {the signatures that a module takes: modules}
    for module in modules:
        takes = tuple(one for one, names in alike.items() if not module.refuses(groups[names[0]]))
        wanting.setdefault(takes, []).append(module)
    if () in wanting:
        return None
    found = {}
    for takes, several in wanting.items():
        names = [name for one in takes for name in alike[one]]
        if len(takes) == 1 and len(names) != len(several):
            return None
        stems = {_numbers(name)[0] for name in names}
        if len(takes) > 1 or (len(names) > 1 and (len(stems) > 1 or len({one.kind for one in several}) > 1)):
            raise ConversionError(
                f"{where}: ambiguous: the order of the arrays does not say which of {', '.join(map(repr, names))} is "
                f"which of {', '.join(f'{one.kind} {one.name!r}' for one in several)}. Give them to_torch's names, "
                f"or a dictionary in the order of use, which state_dict() mostly has"
            )
        names.sort(key=lambda name: _numbers(name)[1])
        found |= {id(module): groups[name] for module, name in zip(several, names, strict=True)}
    return [(module, found[id(module)]) for module in modules]


def _refuse(where, modules, groups):
    import difflib

    wanted = [entry for module in modules for entry in module.entries()]
    given = [
        (_joined(name, suffix), array.shape)
        for name, group in groups.items()
        for suffix, array in group.items()
        if suffix != COUNTER
    ]
    names = {name for name, _ in wanted}, {name for name, _ in given}
    if 2 * len(names[0] & names[1]) >= len(names[0]):
        missing = [entry for entry in wanted if entry[0] not in names[1]]
        left = [entry for entry in given if entry[0] not in names[0]]
    else:
        sides = [[(name.rpartition(".")[2], shape) for name, shape in side] for side in (wanted, given)]
        missing, left = [], []
        for what, a, b, c, d in difflib.SequenceMatcher(None, *sides, autojunk=False).get_opcodes():
            if what != "equal":
                missing += wanted[a:b]
                left += given[c:d]
    listed = [[f"{name} {shape}" for name, shape in entries] for entries in (missing, left)]
    if not (missing or left):
        listed = [[f"{name} {shape}" for name, shape in entries] for entries in (wanted, given)]
    safetensors_files.require_none_left(where, *listed, "docs/interop.md says how layers are named")
    raise AssertionError("unreachable")


# ---- files ----


def _read(path):
    """({name: tensor or array}, whether their order says anything) of a file."""
    where, ending = "interop.load_torch", os.path.splitext(os.fsdecode(path))[1].lower()
    if ending == ".safetensors":
        return safetensors_files.read(where, path), False
    where = f"{where}: {os.fspath(path)}"
    if ending not in PICKLES:
        raise ConversionError(
            f"{where}: the file must be a .safetensors, or a pickle of PyTorch's ({', '.join(PICKLES)})"
        )
    with open(path, "rb"):  # a file that is not there is Python's own error
        pass
    try:
        import torch
    except ImportError as error:
        raise ConversionError(
            f"{where}: is a pickle, which only PyTorch reads safely, and it is not installed. Where it is, write "
            f"the weights by safetensors.torch.save_file(net.state_dict(), 'weights.safetensors')"
        ) from error
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many types
        raise ConversionError(
            f"{where}: PyTorch does not read it with weights_only=True: it must hold net.state_dict() and no more "
            f"({type(error).__name__}: {str(error)[:200]})"
        ) from error
    if not isinstance(found, Mapping):
        raise ConversionError(f"{where}: must hold a state_dict; got {type(found).__name__}")
    return found, True
