"""Checking gradients by finite differences: ``gradcheck`` for custom layers and for whole models.

``backward`` is right if it gives the derivatives of L = sum(y * r), y = ``forward(x)``, for any fixed r.  Regularisers
add to L what ``backward`` answers for too: of a layer the penalty of its outputs (``activity_regularizer``), of a model
the penalties of all outputs and of the parameters (``model.penalty()``).

Derivatives are measured by the central difference (L(v + h) - L(v - h)) / 2h, whose error is of the order h^2 (Press et
al., "Numerical Recipes", section 5.7), in float64 and with the masks of dropout held still.  At a corner (ReLU at 0,
two equal values under a max pool) there is no derivative: such places are skipped and counted.
"""

import copy
import dataclasses

import numpy as np

from minicnn import _check, notebook
from minicnn.layer import Layer
from minicnn.recording import collect_penalties, mean_penalty
from minicnn.tree import named_values, walk

MOST_SKIPPED = 0.25  # of the places of one array: more corners than that prove nothing


class GradientError(AssertionError):
    """``backward`` does not give the derivatives of ``forward``; the message says where and what may be wrong."""


@dataclasses.dataclass(frozen=True)
class GradientCheck:
    """What ``gradcheck`` found, for "x" and every parameter by name; always true, since a wrong gradient raises.

    ``errors``: max |backward's - measured|, relative to the array's largest gradient.  ``checked``, ``skipped``: the
    number of places compared, and of those left out because they lie on a corner.
    """

    errors: dict[str, float]
    checked: dict[str, int]
    skipped: dict[str, int]

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
        return "\n".join(lines)


def gradcheck(layer_or_model, x, *, tolerance=1e-6, step=1e-5, samples=200, seed=0):
    """Checks ``backward`` of a layer or a ``Sequential`` against central differences of ``forward(x, training=True)``.

    - ``layer_or_model``: built or not, of any dtype; left as it is (a float64 copy is checked).
    - ``x``: (N, ...) with N >= 1, any real numbers, finite.  Random numbers are best: they avoid corners.
    - ``tolerance``: the largest error allowed, relative to the largest gradient of the same array; > 0.
    - ``step``: h, relative to max(1, |v|); > 0.  The best is near (3 epsilon)^(1/3) = 9e-6 for float64's epsilon.
      Smaller ones are tried where a corner is near.
    - ``samples``: how many places of each array are checked (all, if it has no more), drawn with ``seed``; >= 1.

    Returns a ``GradientCheck``.  Raises ``GradientError`` with the layer, the parameter, the place, both numbers and
    the likely mistake; TypeError or ValueError for wrong arguments, and where a layer of a model returns no array of
    the right shape.
    """
    options = {
        "tolerance": _check.number("gradcheck", "tolerance", tolerance, 0, open_low=True),
        "step": _check.number("gradcheck", "step", step, 0, open_low=True),
        "samples": _check.integer("gradcheck", "samples", samples, 1),
        "seed": _check.integer("gradcheck", "seed", seed, 0),
    }
    twin, x, declared = _in_float64(layer_or_model, _batch(x))
    try:
        return _check_all(_Subject(twin, x, seed, declared), **options)
    except GradientError as error:
        _find_wrong_layer(twin, x, options, error)
        raise


def _check_all(subject, tolerance, step, samples, seed):
    gradients = subject.gradients()
    rng = np.random.default_rng(seed)
    result = GradientCheck({}, {}, {})
    for name, (values, label) in subject.arrays().items():
        places = np.sort(rng.permutation(values.size)[:samples])
        found = _compare(subject, values, label, gradients[name], places, step, tolerance)
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
        if twin.input_shape is None:
            declared = twin.build(x.shape[1:], np.random.default_rng(0))
    elif hasattr(given, "layers") and hasattr(given, "state_dict"):
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
    return twin


# ---- forward and backward, watched ----


class _Subject:
    """A float64 layer or model with x and r: calls it, and raises where it does what no layer may do."""

    def __init__(self, twin, x, seed, declared=None):
        self.twin, self.x, self.declared = twin, x, declared
        self.name = type(twin).__name__
        self.layers = _named_layers(twin)
        self.y, self.penalty = self.forward()
        # Not default_rng(seed).standard_normal, which x may come from too: with r = x, x^T r is its own transpose.
        rng = np.random.default_rng([seed, 1])
        self.r = rng.uniform(0.5, 1.5, self.y.shape) * rng.choice([-1.0, 1.0], self.y.shape)
        if not np.isfinite(self.y).all():
            raise GradientError(f"{self.name}.forward gave NaN or infinity: there is no gradient to check")
        if not np.array_equal(self.forward()[0], self.y):
            fix = "random numbers must be held still while a gradient is checked; give the layer freeze_mask()"
            raise GradientError(f"{self.name}.forward gave different values for the same x: {fix}")

    def arrays(self):
        """{name: (array, what messages call it)}: x and every parameter."""
        found = {"x": (self.x, f"{self.name}: gradient of x")}
        for name, layer, key in named_values(self.layers, "params"):
            path = name[: -len(key) - 1]
            where = f"{path}: {type(layer).__name__}" if path else type(layer).__name__
            found[name] = layer.params[key], f"{where}: gradient of {name}"
        return found

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
        dx = self.twin.backward(dy) if isinstance(self.twin, Layer) else self.twin.backward(dy, at="outputs")
        if not np.array_equal(dy, self.r):
            raise GradientError(f"{self.name}.backward changed dy: it must write into a new array")
        if getattr(dx, "shape", None) != self.x.shape:
            raise GradientError(f"{self.name}.backward must return dx of shape {self.x.shape}; got {_described(dx)}")
        found = {"x": np.array(dx, np.float64)}
        for name, layer, key in named_values(self.layers, "params"):
            gradient, shape = layer.grads.get(key), layer.params[key].shape
            if getattr(gradient, "shape", None) != shape:
                what = f"{type(layer).__name__}.backward: grads[{key!r}]"
                raise GradientError(f"{what} must have shape {shape}; got {_described(gradient)}")
            found[name] = np.array(gradient, np.float64)
        return found

    def gradients(self):
        """Those of one backward, after a second one has given the same."""
        self.forward()
        first = self.backward()
        self.forward()
        second = self.backward()
        for name, (_, label) in self.arrays().items():
            if not np.isfinite(first[name]).all():
                raise GradientError(f"{label} is not finite: {np.isnan(first[name]).sum()} NaN among its values")
            if not np.allclose(first[name], second[name], rtol=1e-9, atol=1e-12 * np.abs(first[name]).max(initial=0)):
                fix = "does it accumulate? backward must overwrite grads, not add to them"
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

    def measure(self, values, place, step, expected, allowed):
        """The measured derivative; NaN on a corner.  Nearer steps are tried while it is not the expected one: a corner
        within the first step lies outside the next ones, unless it is the very place."""
        for h in (step, step / 10, step / 100):
            left, right = self.slopes(values, place, h * max(1.0, abs(values.flat[place])))
            if abs((left + right) / 2 - expected) <= allowed:
                return (left + right) / 2
        corner = abs(left - right) > 1e-4 * max(abs(left), abs(right)) + allowed
        return np.nan if corner else (left + right) / 2


def _compare(subject, values, label, gradient, places, step, tolerance):
    """(largest error, places compared, places skipped) for one array; raises if an error exceeds ``tolerance``."""
    # Below a thousandth of the output's size a gradient drowns in the rounding of the differences.
    norm = float(np.linalg.norm(subject.r))  # outputs that are exactly 0 still have gradients of rounding errors
    floor = max(1e-3 * float(np.linalg.norm(subject.y * subject.r)), 1e-8 * norm)
    analytic = gradient.flat[places]
    scale = max(floor, np.abs(analytic).max(initial=0))
    numeric = [subject.measure(values, p, step, gradient.flat[p], tolerance * scale) for p in places]
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
        guess = _likely_mistake(subject, gradient, analytic, numeric, places, scale)
        raise GradientError(f"{label} at {place}: {both}; {guess}")
    return float(errors.max(initial=0)), len(places), skipped


def _described(value):
    return f"shape {value.shape}, {value.dtype}" if isinstance(value, np.ndarray) else repr(value)


# ---- the likely mistake ----


def _likely_mistake(subject, gradient, analytic, numeric, places, scale):
    """A guess from all checked places; ``gradient`` is backward's whole array."""
    zero_a, zero_n = np.abs(analytic) <= 1e-6 * scale, np.abs(numeric) <= 1e-6 * scale
    if zero_a.all():
        return "zero where it should not be: was it computed at all?"
    ratios = (analytic / np.where(zero_n, np.nan, numeric))[~zero_a & ~zero_n]
    factor = float(np.median(ratios)) if len(ratios) else 1.0
    if (np.abs(ratios - factor) <= 1e-3 * abs(factor)).all():
        if (zero_n & ~zero_a).any():
            return "nonzero where it should be 0: is the mask applied in backward?"
        if (zero_a & ~zero_n).any():
            return "zero where it should not be, and right elsewhere: is a part left out?"
        return _wrong_factor(factor, len(subject.x), subject.twin)
    if gradient.ndim >= 2 and gradient.shape[-1] == gradient.shape[-2]:
        transposed = gradient.swapaxes(-1, -2).copy().flat[places]
        if np.allclose(transposed, numeric, rtol=1e-4, atol=1e-6 * scale):
            return "the right numbers in the wrong places: transposed?"
    return "more than a factor or a mask is wrong: compare backward with the formula"


def _wrong_factor(factor, n, twin):
    if abs(factor + 1) < 1e-3:
        return "the sign is wrong"
    off = f"off by the constant factor {factor:.4g}"
    drops = any(hasattr(one, "rate") or "drop" in type(one).__name__.lower() for one in _every_layer(twin))
    if drops and 0 < factor < 1:
        return f"{off}: is 1/(1 - rate) missing?"
    if n > 1 and min(abs(factor - n), abs(factor * n - 1)) < 1e-3:
        return f"{off}, N being {n}: the loss divides by the batch size, a layer must not"
    return f"{off}: is a scale missing, or applied twice?"
