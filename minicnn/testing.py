"""Checks that name the mistake: ``gradcheck`` for custom layers and whole models, ``check_dropout`` for dropout.

``backward`` is right if it gives the derivatives of L = sum(y * r), y = ``forward(x)``, for any fixed r.  Regularisers
add to L what ``backward`` answers for too: of a layer the penalty of its outputs (``activity_regularizer``), of a model
the penalties of all outputs and of the parameters (``model.penalty()``).

Derivatives are measured by the central difference (L(v + h) - L(v - h)) / 2h, whose error is of the order h^2 (Press et
al., "Numerical Recipes", section 5.7), in float64 and with the masks of dropout held still.  At a corner (ReLU at 0,
two equal values under a max pool) there is no derivative: such places are skipped and counted.

Which mistake a wrong gradient looks like is said by ``verdicts.py``; ``dropout_check.py`` counts what dropout does.
"""

import contextlib
import copy
import dataclasses
import functools
import itertools
import re
import warnings

import numpy as np

from minicnn import _check, notebook
from minicnn.dropout_check import DropoutCheck, DropoutError, check_dropout
from minicnn.layer import TRAINING, Layer, takes_training
from minicnn.recording import collect_penalties, mean_penalty
from minicnn.settings import is_ours
from minicnn.tree import named_values, walk
from minicnn.verdicts import FEW, GENERAL, Case, likely_mistake

__all__ = ["DropoutCheck", "DropoutError", "GradientCheck", "GradientError", "check_dropout", "gradcheck"]

ADD_PARAM = "make it in build with self.add_param(name, shape, initializer, rng) if it is to be trained"
ENOUGH = 10  # wrong places, after which a gradient is wrong for certain
MOST_SKIPPED = 0.25  # of the places of one array: more corners than that prove nothing


class GradientError(AssertionError):
    """``backward`` does not give the derivatives of ``forward``; the message says where and what may be wrong."""


@dataclasses.dataclass(frozen=True)
class GradientCheck:
    """What ``gradcheck`` found, for "x" and every parameter by name; always true, since a wrong gradient raises.

    ``errors``: max |backward's - measured|, relative to the array's largest gradient.  ``checked``, ``skipped``: the
    number of places compared, and of those left out because they lie on a corner.  ``notes``: sentences about what is
    no mistake of ``backward``, and may be one of another kind.
    """

    errors: dict[str, float]
    checked: dict[str, int]
    skipped: dict[str, int]
    notes: tuple = ()

    def __bool__(self):
        return True

    def _repr_html_(self):
        errors = {name: f"{error:.1e}" for name, error in self.errors.items()}
        rows = [((0, name), error, self.checked[name], self.skipped[name]) for name, error in errors.items()]
        return notebook.table(("gradient of", "max error", "checked", "skipped"), rows)

    def __str__(self):
        lines = [f"{'gradient of':<24} {'max error':>10} {'checked':>8} {'skipped':>8}"]
        for name, error in self.errors.items():
            lines.append(f"{name:<24} {error:>10.1e} {self.checked[name]:>8} {self.skipped[name]:>8}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def gradcheck(layer_or_model, x, *, tolerance=1e-6, step=1e-5, samples=200, seed=0):
    """Checks ``backward`` of a layer or a ``Sequential`` against central differences of ``forward(x, training=True)``.

    - ``layer_or_model``: built or not, of any dtype; left as it is (a float64 copy is checked).  Where it is not built,
      parameters that are all the same number at first (a bias of 0, a gamma of 1) are given others: a gamma that is
      left out is not seen while it is 1.
    - ``x``: (N, ...) with N >= 1, any real numbers, finite.  Random numbers are best: they avoid corners.
    - ``tolerance``: the largest error allowed, relative to the largest gradient of the same array; > 0.
    - ``step``: h, relative to max(1, |v|); > 0.  The best is near (3 epsilon)^(1/3) = 9e-6 for float64's epsilon.
      Smaller ones are tried where a corner is near.
    - ``samples``: how many places of each array are checked (all, if it has no more), drawn with ``seed``; >= 1.

    Returns a ``GradientCheck``.  Raises ``GradientError`` (an AssertionError) with the layer, the parameter, the
    place, both numbers and the likely mistake; it has a name only if it explains all of the difference, to 1e-6 of
    the largest gradient (``verdicts.py``).  Also where ``backward`` raises or returns no array of the right shape,
    where ``forward`` has no ``training``, changes x, or draws random numbers without ``freeze_mask``, and where
    weights are kept as plain attributes, which no optimiser sees.  TypeError or ValueError for wrong arguments, and
    where ``forward`` of a layer in a model returns no array of the right shape.
    """
    options = {
        "tolerance": _check.number("gradcheck", "tolerance", tolerance, 0, open_low=True),
        "step": _check.number("gradcheck", "step", step, 0, open_low=True),
        "samples": _check.integer("gradcheck", "samples", samples, 1),
        "seed": _check.integer("gradcheck", "seed", seed, 0),
    }
    twin, x, declared = _in_float64(layer_or_model, _batch(x))
    alone = isinstance(twin, Layer) and not twin.parts
    try:
        return _check_all(_Subject(twin, x, seed, declared), alone, **options)
    except GradientError as error:
        if alone:
            raise
        _find_wrong_layer(twin, x, options, error)
        if isinstance(twin, Layer):  # all in it are right: the mistake is its own
            _check_all(_Subject(twin, x, seed, declared), True, **options)
        raise


def _check_all(subject, thorough, tolerance, step, samples, seed):
    gradients = subject.gradients()
    rng = np.random.default_rng(seed)
    result = GradientCheck({}, {}, {}, tuple(subject.notes()))
    for name, (values, label) in subject.arrays().items():
        places = np.sort(rng.permutation(values.size)[:samples])
        found = _compare(subject, name, label, gradients[name], places, step, tolerance, thorough)
        result.errors[name], result.checked[name], result.skipped[name] = found
    return result


def _find_wrong_layer(twin, x, options, error):
    """A wrong dx spoils the gradients of all layers before it: the layer at fault is the one that is wrong alone.

    Those that hold others are tried after what they hold.
    """
    walked = walk(twin.parts if isinstance(twin, Layer) else twin.layers)
    taken = {}
    for path, layer in walked:
        layer.forward = _listening(layer.forward, taken, path)
    try:
        twin.forward(x, training=True)
    finally:
        for _, layer in walked:
            del layer.forward
    for path, layer in sorted(walked, key=lambda one: bool(one[1].parts)):
        try:
            if path in taken:
                gradcheck(layer, taken[path], **options)
        except GradientError as alone:
            where = f"layer {path}" if "." in path or isinstance(twin, Layer) else f"layer {path} of the model"
            raise GradientError(f"{where}: {alone}") from error


def _listening(forward, taken, path):
    """A forward that records its input."""

    def listen(x, training=False):
        taken.setdefault(path, np.array(x))
        return forward(x, training=training)

    return listen


def _batch(x):
    x = np.array(_check.numeric_array("gradcheck", "x", x), np.float64, order="C")
    if x.ndim < 2 or x.size == 0:
        raise ValueError(_check.message("gradcheck", "x must have shape (N, ...) with N >= 1", _check.shape_of(x)))
    if not np.isfinite(x).all():
        raise ValueError(_check.message("gradcheck", "x must be finite", _check.Shown("NaN or infinity in it")))
    return x


# ---- the float64 copy ----


def _in_float64(given, x):
    """(float64 copy, built and with its masks held still, x in the shape it works on, the shape of a sample of y).

    The last is None where it was built before: the model checks the shapes that its layers declared.
    """
    declared = None
    if isinstance(given, Layer):
        twin = copy.deepcopy(given)
        for layer in _every_layer(twin):
            _to_float64(layer)
            _require_training(layer)
        if twin.input_shape is None:
            declared = twin.build(x.shape[1:], np.random.default_rng(0))
            _make_uneven(twin)
    elif hasattr(given, "layers") and hasattr(given, "state_dict"):
        for layer in _every_layer(given):
            _require_training(layer)
        twin = _model_in_float64(given, x)
        if (*x.shape[1:], 1) == twin.input_shape:
            x = x[..., None]  # grey images
    else:
        required = "a layer (an instance of a subclass of Layer) or a model is required"
        fix = "Make an instance: put () behind the class" if isinstance(given, type) else ""
        raise TypeError(_check.message("gradcheck", required, _check.kind(given), fix))
    for layer in _every_layer(twin):
        if hasattr(layer, "freeze_mask"):
            layer.freeze_mask()
    return twin, x, declared


def _every_layer(value):
    """The layers of a layer or a model: itself, and all that it holds."""
    return [layer for _, layer in _named_layers(value)]


def _named_layers(value):
    """[(path, layer)] of the layers of a layer or a model; a layer itself has the path ""."""
    return [("", value), *walk(value.parts)] if isinstance(value, Layer) else walk(value.layers)


def _to_float64(layer):
    layer.dtype = np.dtype(np.float64)
    for arrays in (layer.params, layer.grads, layer.state, vars(layer)):
        for name, value in arrays.items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                arrays[name] = value.astype(np.float64)


def _require_training(layer):
    if not is_ours(type(layer)) and not takes_training(layer):
        raise GradientError(f"{type(layer).__name__}.forward {TRAINING}")


def _make_uneven(built):
    """Gives parameters that are one number everywhere, such as 0 or 1, others of the same sign."""
    rng = np.random.default_rng(1)
    for layer in _every_layer(built):
        for values in layer.params.values():
            if values.size and values.dtype.kind == "f" and (values == values.flat[0]).all():
                more = rng.uniform(0.1, 0.5, values.shape)
                values[...] = values * (1 + more) if values.flat[0] else more


def _model_in_float64(model, x):
    """A new model of unbuilt copies of the layers, with the same weights if there are any."""
    layers = copy.deepcopy(model.layers)
    for _, layer in walk(layers):
        layer.params, layer.grads, layer.input_shape = {}, {}, None
        layer.dtype = np.dtype(np.float64)
    twin = type(model)(layers, seed=model.seed, dtype="float64")
    if model.built:
        twin.build(model.input_shape)
        twin.load_state_dict(model.state_dict())
    else:
        twin.forward(x, training=False)  # which builds it
        _make_uneven(twin)
    return twin


# ---- weights that nobody trains ----


def _arrays_in(values, around=()):
    """(name, array) of the arrays of floats in attributes, and in the lists, tuples and dictionaries among them."""
    for key, value in list(values.items()):
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size and value.flags.writeable:
            yield str(key), value
        elif isinstance(value, list | tuple | dict) and id(value) not in around:
            inner = value if isinstance(value, dict) else dict(enumerate(value))
            yield from ((f"{key}.{rest}", array) for rest, array in _arrays_in(inner, (*around, id(value))))


def _plain_arrays(named_layers):
    """{path: (layer, name, array)} of arrays that custom layers have besides params, grads and state."""
    found = {}
    for path, layer in named_layers:
        if is_ours(type(layer)):
            continue
        of_ours = any(is_ours(cls) and cls is not Layer for cls in type(layer).__mro__ if issubclass(cls, Layer))
        kept = {key: value for key, value in vars(layer).items() if key not in ("params", "grads", "state")}
        for name, array in _arrays_in(kept):
            if not (of_ours and name.startswith("_")):
                found[f"{path}.{name}" if path else name] = layer, name, array
    return found


def _is_copy(array, parameter):
    same = array.shape == parameter.shape and array.size > 1 and np.array_equal(array, parameter)
    return np.shares_memory(array, parameter) or (same and (array != array.flat[0]).any())


def _is_drawn(layer, name):
    """Whether an attribute has other values in another layer that is made and built alike, so that they are random:
    those of a layer in a file would be lost."""
    before, made = np.random.get_state(), []
    try:
        for seed in (1, 2):
            np.random.seed(seed)
            fresh = _another(layer)
            fresh.build(layer.input_shape, np.random.default_rng(seed))
            made.append(dict(_arrays_in(vars(fresh)))[name])
    except Exception:  # of somebody else's code: it cannot be made again
        return False
    finally:
        np.random.set_state(before)
    return not np.array_equal(*made)


def _another(layer):
    try:
        return type(layer)(**layer.get_config())
    except Exception:  # it does not keep its arguments
        fresh = copy.deepcopy(layer)
        fresh.params, fresh.grads, fresh.input_shape = {}, {}, None
        return fresh


# ---- forward and backward, watched ----


class _Subject:
    """A float64 layer or model with x and r: calls it, and raises where it does what no layer may do."""

    def __init__(self, twin, x, seed, declared=None):
        self.twin, self.x, self.declared = twin, x, declared
        self.name = type(twin).__name__
        self.layers, self.seed = _named_layers(twin), seed
        plain = _plain_arrays(self.layers)
        self.y, self.penalty = self.forward()
        # Not default_rng(seed).standard_normal, which x may come from too: with r = x, x^T r is its own transpose.
        rng = np.random.default_rng([seed, 1])
        self.r = rng.uniform(0.5, 1.5, self.y.shape) * rng.choice([-1.0, 1.0], self.y.shape)
        if not np.isfinite(self.y).all():
            raise GradientError(f"{self.name}.forward gave NaN or infinity: there is no gradient to check")
        if not np.array_equal(self.forward()[0], self.y):
            fix = (
                "freeze_mask() does not hold all of its random numbers still"
                if hasattr(twin, "freeze_mask")
                else "random numbers must be held still while a gradient is checked; give the layer freeze_mask()"
            )
            meaning = "After it, every training forward must draw the same numbers"
            raise GradientError(f"{self.name}.forward gave different values for the same x: {fix}. {meaning}")
        self.plain = {path: found for path, found in plain.items() if self._is_read(*found)}

    def arrays(self):
        """{name: (array, what messages call it)}: x and every parameter."""
        found = {"x": (self.x, f"{self.name}: gradient of x")}
        for name, layer, key in named_values(self.layers, "params"):
            path = name[: -len(key) - 1]
            where = f"{path}: {type(layer).__name__}" if path else type(layer).__name__
            found[name] = layer.params[key], f"{where}: gradient of {name}"
        return found

    def weights(self):
        """{name: array} of all parameters, and of what ``forward`` reads like one."""
        plain = {path: array for path, (_, _, array) in self.plain.items()}
        return {name: layer.params[key] for name, layer, key in named_values(self.layers, "params")} | plain

    def _is_read(self, layer, name, array):
        """Whether y depends on an array that was there before ``forward``; another one is put into its place, since it
        may be the array of a parameter, which is read under the other name."""
        other = array + 0.1 * (1 + np.abs(array))
        if name in vars(layer):
            vars(layer)[name] = other
        elif any(np.shares_memory(array, one) for one in layer.params.values()):
            return False
        else:
            before, array[...] = array.copy(), other
        try:
            with _quiet():
                return not np.array_equal(self.forward()[0], self.y)
        except Exception:  # of somebody else's code, for values that it never meant: not known
            return False
        finally:
            if name in vars(layer):
                vars(layer)[name] = array
            else:
                array[...] = before
            self.forward()

    def notes(self):
        for _, layer, name, _ in self._plain_weights():
            yield f"{layer}.{name} is read by forward, and no optimiser sees it: it stays what it is; {ADD_PARAM}"

    def _plain_weights(self):
        return [(path, type(layer).__name__, name, array) for path, (layer, name, array) in self.plain.items()]

    def _require_no_plain_weights(self):
        """What is drawn in ``build``, or has a gradient that ``backward`` computes, is meant to be trained."""
        for layer, name, array in self.plain.values():
            if not layer.trainable:
                continue
            where = f"{type(layer).__name__}: self.{name} is a weight that no optimiser sees"
            shared = next((key for key, one in layer.params.items() if _is_copy(array, one)), None)
            if shared is not None:
                why = f"read self.params[{shared!r}] each time: a model moves its parameters to another place"
                raise GradientError(f"{type(layer).__name__}: self.{name} is params[{shared!r}] as it was built; {why}")
            if _is_drawn(layer, name):
                raise GradientError(
                    f"{where}: forward reads it, it is drawn at random, and it is not in params; {ADD_PARAM}"
                )
            gradient = self._gradient_kept(layer, array)
            if gradient is not None:
                raise GradientError(f"{where}: backward leaves its gradient in {gradient}; {ADD_PARAM}")

    def _gradient_kept(self, layer, array):
        """Where backward leaves dL/d(array), if it does."""
        self.forward()
        self.backward()
        kept = {
            name: np.array(one)
            for name, one in _arrays_in(vars(layer))
            if one.shape == array.shape and one is not array
        }
        of_params = [
            layer.grads.get(key) for key in layer.params
        ]  # a bias has the gradient of a fixed offset beside it
        kept |= {
            f"grads[{key!r}]": np.array(one)
            for key, one in layer.grads.items()
            if np.shape(one) == array.shape and key not in layer.params
        }
        kept = {name: one for name, one in kept.items() if not any(np.array_equal(one, other) for other in of_params)}
        if not kept:
            return None
        places = range(0, array.size, -(-array.size // 8))
        true = np.array([np.mean(self.slopes(array, place, 1e-5)) for place in places])
        size = 1e-5 * np.abs(true).max()
        return next(
            (n for n, one in kept.items() if size and np.allclose(one.flat[places], true, rtol=1e-5, atol=size)), None
        )

    def forward(self):
        """(y, what regularisers add to L)."""
        before = self.x.copy()
        with collect_penalties() as found:
            y = self.twin.forward(self.x, training=True)
        if not np.array_equal(before, self.x):
            raise GradientError(f"{self.name}.forward changed x: it must write into a new array")
        if not isinstance(y, np.ndarray) or len(y) != len(self.x) or y.dtype != np.float64:
            required = f"must return an array of {len(self.x)} samples with the dtype of x, float64"
            raise GradientError(f"{self.name}.forward {required}; got {_described(y)}")
        if self.declared is not None and y.shape[1:] != tuple(self.declared):
            shape = (len(y), *self.declared)
            raise GradientError(
                f"{self.name}.forward must return the shape that build declared, {shape}; got {y.shape}"
            )
        if isinstance(self.twin, Layer):
            return y.copy(), mean_penalty(found, len(y))
        return y.copy(), self.twin.penalty() + self.twin.engine.activity_penalty(len(y))

    def backward(self):
        """{name: gradient}, copies."""
        dy = self.r.copy()
        try:
            dx = self.twin.backward(dy) if isinstance(self.twin, Layer) else self.twin.backward(dy, at="outputs")
        except Exception as error:  # of somebody else's code
            raise GradientError(self._raised(error)) from error
        if not np.array_equal(dy, self.r):
            raise GradientError(f"{self.name}.backward changed dy: it must write into a new array")
        if getattr(dx, "shape", None) != self.x.shape:
            fix = ": is `return dx` missing?" if dx is None else _padded(dx, self.x)
            raise GradientError(
                f"{self.name}.backward must return dx of shape {self.x.shape}; got {_described(dx)}{fix}"
            )
        found = {"x": self._numbers(f"{self.name}.backward must return", dx)}
        for name, layer, key in named_values(self.layers, "params"):
            gradient, shape = layer.grads.get(key), layer.params[key].shape
            if getattr(gradient, "shape", None) != shape:
                what = f"{type(layer).__name__}.backward: grads[{key!r}]"
                got = f"{_described(gradient)}{self._summed(getattr(gradient, 'shape', None), shape, key)}"
                raise GradientError(f"{what} must have shape {shape}; got {got}")
            found[name] = self._numbers(f"{type(layer).__name__}.backward: grads[{key!r}] must be", gradient)
        return found

    @staticmethod
    def _numbers(what, array):
        """A copy as float64 of an array of real numbers."""
        if array.dtype.kind not in "biuf":
            raise GradientError(f"{what} an array of numbers (bool, integer or float); got {_described(array)}")
        return np.array(array, np.float64)

    def _raised(self, error):
        """An exception of ``backward``, with what its shapes say."""
        shapes = [tuple(map(int, re.findall(r"\d+", one))) for one in re.findall(r"\(([\d, ]+)\)", str(error))]
        hint = ""
        for name, array in self.weights().items():
            if array.shape in shapes:
                hint = next(filter(None, (self._summed(one, array.shape, name) for one in shapes)), hint)
            pair = tuple(self.x.shape[-1:] + self.y.shape[-1:])
            if array.shape[::-1] in shapes and array.shape in shapes and array.ndim > 1:
                hint = f": is the gradient of {name} transposed?"
            elif "matmul" in str(error) or "aligned" in str(error):
                right = f"dy @ {name}.T has the shape of x" if array.shape == pair else f"{name} is {array.shape}"
                hint = hint or (f": is a transpose missing? {right}" if array.ndim == 2 else "")
        if not hint:
            known = {"x": self.x.shape, "dy": self.y.shape} | {name: one.shape for name, one in self.weights().items()}
            hint = f". Shapes: {', '.join(f'{name} {shape}' for name, shape in known.items())}"
        return f"{self.name}.backward raised {type(error).__name__}: {error}{hint}"

    def _summed(self, got, wanted, name):
        """Whether a gradient is dy summed over the wrong axes, as its shape says."""
        axes = range(self.y.ndim)
        for count in axes:
            for over in itertools.combinations(axes, count):
                left = tuple(n for axis, n in enumerate(self.y.shape) if axis not in over)
                if got == left != wanted and wanted == self.y.shape[self.y.ndim - len(wanted) :]:
                    right = tuple(range(self.y.ndim - len(wanted)))
                    what = f"summed over axes {over}" if over else "not summed"
                    return f": dy {what}, the wrong axes? For {name} it is {right}"
        return ""

    def gradients(self):
        """Those of one backward, after a second one has given the same."""
        self.forward()
        before = {name: values.copy() for name, values in self.weights().items()}
        first = self.backward()
        for name, values in self.weights().items():
            if not np.array_equal(before[name], values):
                what = f"{self.name}.backward changed {name}"
                raise GradientError(f"{what}: it only computes gradients, into grads; the optimiser takes the step")
        self._require_no_plain_weights()
        self.forward()
        first = self.backward()
        self.forward()
        second = self.backward()
        for name, (_, label) in self.arrays().items():
            if not np.isfinite(first[name]).all():
                raise GradientError(f"{label} is not finite: {np.isnan(first[name]).sum()} NaN among its values")
            if not _same(first[name], second[name]):
                self.forward()
                fix = _why_changed(first[name], second[name], self.backward()[name])
                raise GradientError(f"{label} changed when forward and backward were run a second time: {fix}")
        return first

    def slopes(self, values, place, h):
        """(left, right) difference quotients of L; of y's elements, not of the sum: less is rounded away."""
        value = values.flat[place]
        values.flat[place] = value + h
        (above, more), up = self.forward(), values.flat[place] - value
        values.flat[place] = value - h
        (below, less), down = self.forward(), value - values.flat[place]
        values.flat[place] = value
        left = ((self.y - below) * self.r).sum() + (self.penalty - less)
        return left / down, (((above - self.y) * self.r).sum() + (more - self.penalty)) / up

    def measure(self, values, place, step, expected, allowed, tries=3):
        """The measured derivative; NaN on a corner.  Nearer steps are tried while it is not the expected one: a corner
        within the first step lies outside the next ones, unless it is the very place."""
        for h in (step, step / 10, step / 100)[:tries]:
            left, right = self.slopes(values, place, h * max(1.0, abs(values.flat[place])))
            if abs((left + right) / 2 - expected) <= allowed:
                return (left + right) / 2
        corner = abs(left - right) > 1e-4 * max(abs(left), abs(right)) + allowed
        return np.nan if corner else (left + right) / 2


def _same(one, other):
    return np.allclose(one, other, rtol=1e-9, atol=1e-12 * np.abs(one).max(initial=0))


def _why_changed(first, second, third):
    if _same(third - second, second - first):
        return "does it accumulate? backward must overwrite grads, not add to them"
    new, old = (third - second).ravel(), (second - first).ravel()
    share = float(new @ old / (old @ old)) if old.any() else 0.0
    if old.size >= 4 and abs(share) > 1e-3 and _same(new, share * old):
        return f"it keeps {share:.4g} of what it was: momentum, or a mean of steps, belongs into the optimiser"
    if ((first == 0) != (second == 0)).any():
        return "is a new mask drawn in backward? It must be that of forward, which was the same"
    return "it must depend on x, dy and the parameters alone; are random numbers drawn in backward?"


def _compare(subject, name, label, gradient, places, step, tolerance, thorough):
    """(largest error, places compared, places skipped) for one array; raises if an error exceeds ``tolerance``."""
    values = subject.arrays()[name][0]
    # Below a thousandth of the output's size a gradient drowns in the rounding of the differences.
    norm = float(np.linalg.norm(subject.r))  # outputs that are exactly 0 still have gradients of rounding errors
    floor = max(1e-3 * float(np.linalg.norm(subject.y * subject.r)), 1e-8 * norm)
    analytic = gradient.flat[places]
    scale = max(floor, np.abs(analytic).max(initial=0))
    numeric, wrong = [], 0
    for place in places:  # where many are wrong already, once is enough
        expected, allowed = gradient.flat[place], tolerance * scale
        numeric.append(subject.measure(values, place, step, expected, allowed, tries=3 if wrong < ENOUGH else 1))
        wrong += abs(numeric[-1] - expected) > allowed
    smooth = ~np.isnan(numeric)
    skipped = int((~smooth).sum())
    if skipped > MOST_SKIPPED * len(places):
        fix = "use a different x: random numbers, not zeros or ties"
        raise GradientError(f"{label}: {skipped} of {len(places)} places are corners, without a derivative; {fix}")
    places, analytic, numeric = places[smooth], analytic[smooth], np.array(numeric)[smooth]
    scale = max(scale, np.abs(numeric).max(initial=0))
    errors = np.abs(analytic - numeric) / (scale or 1.0)
    if errors.max(initial=0) > tolerance:
        worst = int(errors.argmax())
        place = tuple(int(axis) for axis in np.unravel_index(places[worst], gradient.shape))
        both = f"backward says {analytic[worst]:.6g}, finite differences say {numeric[worst]:.6g}"
        more = functools.partial(_with_another_sample, subject, name, places[:: -(-len(places) // FEW)], step)
        case = Case(subject, name, values, gradient, places, numeric, scale, step, more)
        try:
            with _quiet():
                guess = likely_mistake(case, thorough)
        except Exception:  # of somebody else's code, for weights that it never meant
            guess = GENERAL
        raise GradientError(f"{label} at {place}: {both}; {guess}")
    return float(errors.max(initial=0)), len(places), skipped


@contextlib.contextmanager
def _quiet():
    """Nobody wants to hear what a layer says to values that are tried."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _with_another_sample(subject, name, places, step):
    """(gradient, measured) at these places for a batch in which sample 0 comes a second time at the end; None where the
    layer does not work on it."""
    try:
        other = _Subject(subject.twin, np.concatenate([subject.x, subject.x[:1]]), subject.seed)
        values = other.arrays()[name][0]
        measured = [np.mean(other.slopes(values, p, step * max(1.0, abs(values.flat[p])))) for p in places]
        return other.gradients()[name].flat[places], np.array(measured)
    except Exception:  # of somebody else's code, which may take one batch size only
        return None


def _padded(dx, x):
    """Whether dx is longer than x along the axes of places alone, by what padding adds."""
    if not isinstance(dx, np.ndarray) or dx.ndim != x.ndim or x.ndim < 3:
        return ""
    more = np.subtract(dx.shape, x.shape)
    return ": is the padding cut off?" if more[[0, -1]].tolist() == [0, 0] and (more >= 0).all() else ""


def _described(value):
    return f"shape {value.shape}, {value.dtype}" if isinstance(value, np.ndarray) else f"{value!r:.80}"
