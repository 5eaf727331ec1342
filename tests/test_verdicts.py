"""gradcheck names a planted mistake, names none that was not planted, and accuses no right layer.

``--hypothesis-profile=long`` plants ten times as many combinations.
"""

import re

import hypothesis
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import Conv, Dense, Norm, Pool, ReLU, Softmax, gradients_with

from minicnn import Sequential, layers
from minicnn.layer import Layer
from minicnn.testing import GradientError, gradcheck

OVERLAP = r"where windows overlap, one alone counts: `=` for `\+=`\?"
TORCH = {"order": (3, 2, 0, 1)}
ACTIVATION = "the derivative of the activation is missing"


def normal(*shape, seed=0):
    return np.random.default_rng([7, seed]).standard_normal(shape)


IMAGES, FLAT, SQUARE, EVEN = normal(3, 5, 4, 2), normal(6, 5), normal(4, 5), normal(2, 6, 6, 2)


def conv(*faults, **options):
    return Conv(*faults, **{"filters": 3, **options})


def verdict(layer, x):
    with pytest.raises(GradientError) as caught:
        gradcheck(layer, x)
    return str(caught.value)


@pytest.mark.parametrize(("layer", "x", "message"), [
    # a kernel turned or transposed
    (conv("dx turned"), IMAGES, "gradient of x .* backward has kernel turned by 180 degrees$"),
    (conv("dx turned", relu=True), IMAGES, "gradient of x .* backward has kernel turned by 180 degrees$"),
    (conv("dx turned rows"), IMAGES, "backward has kernel turned round along axis 0$"),
    (conv("dx transposed"), IMAGES, r"backward has kernel transposed \(axes 0 and 1 exchanged\)$"),
    (Conv("dx channels", filters=2), IMAGES, r"backward has kernel transposed \(axes 2 and 3 exchanged\)$"),
    (conv("dk turned"), IMAGES, r"of kernel .* the right numbers in the wrong places: turned by 180 degrees\?$"),
    (conv("dk transposed"), IMAGES, r"the wrong places: transposed \(axes 0 and 1 exchanged\)\?$"),
    # ... with the axes of a kernel in PyTorch's order, or as the matrix of im2col
    (conv("dx turned", **TORCH), IMAGES, "backward has kernel turned by 180 degrees$"),
    (conv("dx transposed", **TORCH), IMAGES, r"backward has kernel transposed \(axes 2 and 3 exchanged\)$"),
    (conv("dk turned", **TORCH), IMAGES, "the wrong places: turned by 180 degrees\\?$"),
    (conv("dk transposed", **TORCH), IMAGES, r"the wrong places: transposed \(axes 2 and 3 exchanged\)\?$"),
    (conv("dx turned", matrix=True), IMAGES, r"has kernel turned by 180 degrees, seen as \(3, 3, 2, 3\)$"),
    (conv("dk turned", matrix=True, **TORCH), IMAGES, r"turned by 180 degrees, seen as \(3, 2, 3, 3\)\?$"),
    (conv("dk transposed", matrix=True, order=(2, 0, 1, 3)), IMAGES, r"\(axes 1 and 2 .*, seen as \(2, 3, 3, 3\)\?$"),
    (conv("dx turned rows", matrix=True, order=(3, 0, 1, 2)), IMAGES, r"along axis 1, seen as \(3, 3, 3, 2\)$"),
    # padding cut on the wrong side
    (conv("dx cut"), IMAGES, r"shifted by \(1, 1\) places: is the padding cut on the wrong side\?$"),
    (conv("dx cut end"), IMAGES, r"shifted by \(-1, -1\) places: is the padding cut on the wrong side\?$"),
    (conv("dx cut", size=(5, 3), pad=(2, 0)), normal(3, 6, 5, 2), r"shifted by \(2, 0\) places: is the padding"),
    # `=` for `+=`
    (conv("dx ="), IMAGES, OVERLAP),
    (conv("dx =", relu=True, stride=2), IMAGES, OVERLAP),
    (conv("dx = windows", pad=(0, 0)), IMAGES, OVERLAP),
    (Pool("dx =", size=2, stride=1), IMAGES, OVERLAP),
    (Pool("dx = at the largest", size=2, stride=1), IMAGES, OVERLAP),
    (Pool("dx =", size=3, stride=2, largest=False), normal(2, 5, 5, 2), OVERLAP),
    (conv("dk last window"), IMAGES, "that of the last place of dy along axis 1 and 2 alone: `=` for"),
    (conv("dk last sample"), IMAGES, "that of the last sample alone: `=` for"),
    # a bias over the wrong axes, or of one sample
    (conv("db sample 0"), IMAGES, "gradient of bias .* it is that of sample 0 alone"),
    (conv("db axes"), IMAGES, r"summed over axes \(1, 2, 3\) of dy: the wrong axes, it must be \(0, 1, 2\)$"),
    (conv("db axes", relu=True), IMAGES, r"summed over axes \(1, 2, 3\) of dy: the wrong axes"),
    (conv("db all"), IMAGES, r"summed over axes \(0, 1, 2, 3\) of dy: the wrong axes"),
    (Conv("db axes", filters=4), IMAGES, r"into shape \(4,\): dy summed over axes \(1, 2, 3\), the wrong"),
    (Dense("db axes", units=6), FLAT, r"summed over axes \(1,\) of dy: the wrong axes, it must be \(0,\)$"),
    (Dense("db mean of all"), FLAT, r"the mean of dy over axes \(0, 1\): the wrong axes, it must be \(0,\), and a sum"),
    (Dense("db first unit"), FLAT, "; more than a factor"),  # of one number any other is a multiple
    (Dense("db last sample"), FLAT, "it is that of the last sample alone"),
    (Dense("dk sample 0", f="tanh"), FLAT, "gradient of kernel .* it is that of sample 0 alone"),
    # constants by what they are
    (conv("db mean"), IMAGES, r"factor 0.01667, which is 1/\(N H W\) = 1/\(3 \* 5 \* 4\): is it a mean where the sum"),
    (conv("db mean of places"), IMAGES, r"factor 0.05, which is 1/\(H W\) = 1/\(5 \* 4\)"),
    (conv("dk / n"), IMAGES, "factor 0.3333, N being 3: the loss divides by the batch size, a layer must not"),
    (Dense("dk third"), normal(3, 5), r"factor 0.3333: is a scale missing, or applied twice\?$"),  # and N is 3
    (Pool("dx no mean", size=2, stride=2, largest=False), IMAGES, "factor 4, which is the number of inputs of an"),
    # normalisations
    (Norm("dx mean"), FLAT, "the mean's term of batch normalisation is missing"),
    (Norm("dx variance"), FLAT, "the variance's term of batch normalisation is missing"),
    (Norm("dx mean", "dx variance", axes=(0, 1, 2)), IMAGES, "the terms of mean and variance of batch normalisation"),
    (Norm("dx mean", axes=(1, 2)), IMAGES, "the mean's term of the normalisation is missing"),
    (Norm("dx sum for mean"), FLAT, "the mean's term of batch normalisation is off by the factor 6"),
    (Norm("dx gamma"), FLAT, "the factor gamma is missing"),
    (Norm("dg beta"), FLAT, "gradient of gamma .* it is the gradient of beta"),
    (Norm("dg x"), FLAT, "it is the sum of dy x: is x taken where the normalised x belongs"),
    # a softmax without its cross terms
    (Softmax("dx diagonal"), FLAT, "the cross terms are missing: a softmax has"),
    (Softmax("dx y dy"), FLAT, "y dy alone, the cross terms are missing: a softmax has"),
    # W for its transpose, activations
    (Dense("dx not transposed", units=5), SQUARE, "backward has kernel where its transpose belongs"),
    (Dense("dx not transposed", units=5, f="relu"), SQUARE, "backward has kernel where its transpose belongs"),
    (Dense("dx not transposed"), SQUARE, r"is a transpose missing\? dy @ kernel.T has the shape of x$"),
    (Dense("dk transposed", units=5), SQUARE, r"the right numbers in the wrong places: transposed\?$"),
    (Dense("dk transposed"), SQUARE, r"is the gradient of kernel transposed\?$"),
    (Dense("no slope", f="tanh"), FLAT, ACTIVATION),
    (Dense("no slope", f="relu"), FLAT, ACTIVATION),
    (conv("no relu", relu=True), IMAGES, ACTIVATION),
    # right inside and wrong at the border, or right in one sample
    (conv("dx border doubled"), IMAGES, "right inside and wrong at the border, in the outermost rows and columns"),
    (conv("dx border"), IMAGES, r"is a part left out\? It is wrong at the border, in the outermost rows and columns$"),
    (conv("dx sample 0"), IMAGES, r"is a part left out\? It is wrong in all samples but sample 0$"),
    # masks
    (ReLU("dx no mask"), FLAT, r"nonzero where it should be 0: is the mask applied in backward\?$"),
    (ReLU("dx mask of dy"), FLAT, r"and zero where it should not: is the mask that of forward\?$"),
    (ReLU("dx turned round"), FLAT, r"is the mask turned round in backward\?$"),
    # another order
    (conv("dy reshaped"), IMAGES, r"dy is read in another order: is it reshaped where its axes are to be moved"),
    (conv("dy reshaped", relu=True), IMAGES, r"of x .* dy is read in another order"),
    (Pool("dx tile", size=2, stride=2, largest=False), EVEN, r"wrong places: np.tile where np.repeat belongs\?$"),
    (Pool("dx in windows", size=2, stride=2), EVEN, r"are row and column exchanged within each window\?$"),
    (Pool("dx of windows", size=2, stride=2), EVEN, r"are the windows' rows and columns exchanged\?$"),
    # a loop that is one off, integers, weight decay
    (conv("dx but last"), IMAGES, "the last place of dy along axis 1 and 2 is left out: does a loop"),
    (Dense("dk but sample 0"), FLAT, "the first sample is left out: does a loop"),
    (conv("dx integers"), IMAGES, "its fractions are cut off: is it kept in an array of integers"),
    (conv("dk decay"), IMAGES, "0.02 kernel is added: weight decay belongs into the optimiser"),
    # other sums of a softmax, the slope of another activation
    (Softmax("dx wrong sum"), FLAT, "the sum is over axis 0 of dy y: a softmax has"),
    (Softmax("dx mean for sum"), FLAT, "the sum is off by the constant factor 0.2: a softmax has"),
    (Softmax("dx no y"), FLAT, "the factor y is missing: a softmax has"),
    (Dense("no dy", f="tanh"), FLAT, "of x .*; dy is left out: it is the derivative of the sum of y$"),
    (Dense("slope y", f="tanh"), FLAT, "the derivative of the activation is taken for y, and it is another"),
    # `return dx` forgotten
    (conv("dx none"), IMAGES, r"must return dx of shape \(3, 5, 4, 2\); got None: is `return dx` missing\?$"),
], ids=lambda value: f"{type(value).__name__}-{min(value.faults)}" if isinstance(value, Layer) else "")  # fmt: skip
def test_the_mistake_is_named(layer, x, message):
    assert re.search(message, verdict(layer, x)), verdict(layer, x)


def test_in_a_model_the_layer_is_named_too():
    message = verdict(Sequential([layers.Dense(5), Dense("no slope", f="tanh"), layers.Dense(2)]), FLAT)
    assert message.startswith("layer 1 of the model: Dense: gradient of x at")
    assert ACTIVATION in message
    message = verdict(Sequential([conv("dx none"), layers.Flatten()]), IMAGES)
    assert re.match(r"layer 0 of the model: Conv.backward must return dx .*`return dx`", message)


def test_momentum_and_padding_in_a_layer():
    class Momentum(Dense):
        v = 0

        def backward(self, dy):
            dx = super().backward(dy)
            self.v = self.grads["kernel"][...] = 0.9 * self.v + self.grads["kernel"]
            return dx

    assert re.search("a second time: it keeps 0.9 of what it was: momentum", verdict(Momentum(), FLAT))

    class Uncut(Conv):
        def plain_backward(self, dy):
            return np.pad(super().plain_backward(dy), ((0, 0), (1, 1), (1, 1), (0, 0)))

    assert re.search(r"got shape \(3, 7, 6, 2\), float64: is the padding cut off\?$", verdict(Uncut(), IMAGES))


def test_a_layer_around_right_layers():
    class Around(Layer):
        """Three times what a right layer gives, and a softmax without its cross terms upon it."""

        def __init__(self):
            self.inner = layers.Dense(4)

        def build(self, input_shape, rng):
            super().build(input_shape, rng)
            return self.inner.build(input_shape, rng)

        def forward(self, x, training=False):
            e = np.exp(self.inner.forward(x, training))
            self.y = e / e.sum(-1, keepdims=True)
            return self.y

        def backward(self, dy):
            return self.inner.backward(2 * self.y * (dy - (self.y * dy).sum(-1, keepdims=True)))

    assert re.match(r"Around: gradient of x .*off by the constant factor 2: is a scale", verdict(Around(), FLAT))


# ---- nothing false, and nobody accused ----

# What a sentence says, and the mistakes one of which must have been planted for it to be true.
TRUE_FOR = {
    "kernel turned by 180": {"dx turned"},
    "kernel turned round": {"dx turned rows"},
    "kernel transposed (axes": {"dx transposed"},
    "places: turned by 180 degrees": {"dk turned", "dx turned"},  # of one window dx is the kernel
    "places: transposed (axes": {"dk transposed", "dx transposed", "dx in windows", "dx of windows"},
    "places: transposed?": {"dk transposed"},
    "padding cut on the wrong side": {"dx cut", "dx cut end"},
    "where windows overlap": {"dx =", "dx = windows", "dx = at the largest"},
    "last place of dy along axis 1 and 2 alone": {"dk last window"},
    "that of the last sample alone": {"dk last sample", "db last sample", "dk but sample 0"},  # of two samples
    "that of sample 0 alone": {"db sample 0", "dk sample 0"},
    "the wrong axes": {"db axes", "db all", "db mean of all"},
    "1/(N H W)": {"db mean"},
    "1/(H W)": {"db mean of places"},
    "N being": {"dk / n", "db mean", "db mean of all"},  # with one place and one unit
    "number of inputs of an output": {"dx no mean"},
    "the mean's term": {"dx mean", "dx sum for mean"},
    "the variance's term": {"dx variance"},
    "the terms of mean and variance": {"dx mean"},
    "the factor gamma is missing": {"dx gamma"},
    "the gradient of beta": {"dg beta"},
    "the sum of dy x": {"dg x"},
    "cross terms": {"dx diagonal", "dx y dy", "dx wrong sum"},  # of one sample
    "where its transpose belongs": {"dx not transposed"},
    "derivative of the activation": {"no slope", "no relu"},
    "wrong at the border": {
        "dx but last",
        "dx border",
        "dx border doubled",
        "dx cut",
        "dx cut end",
        "dx =",
        "dx = windows",
    },
    "but sample 0": {"dx sample 0", "dx mask of dy"},  # in those it may be true
    "`return dx`": {"dx none"},
    "read in another order": {"dy reshaped"},
    "is it reshaped": {"dy reshaped"},
    "np.tile": {"dx tile"},
    "within each window": {"dx in windows"},
    "the windows' rows": {"dx of windows"},
    "is left out: does a loop": {"dx but last", "dk but sample 0"},
    "fractions are cut off": {"dx integers"},
    "weight decay": {"dk decay"},
    "the sum is over axis": {"dx wrong sum"},
    "the sum is off by": {"dx mean for sum"},
    "the factor y is missing": {"dx no y"},
    "is taken for y, and": {"slope y"},
    "dy is left out": {"no dy"},
    "the mask applied": {"dx no mask", "no relu"},
    "that of forward": {"dx mask of dy", "dx turned round"},
    "turned round in backward?": {"dx turned round"},
    "the constant factor 0.37": {"dk 0.37", "dx 0.37"},
    "the sign is wrong": {"dx sign"},
}
COMMON = ["dx 0.37", "dx sign", "dx zero", "dx integers"]
FAULTS = {
    Conv: ["dx turned", "dx transposed", "dx turned rows", "dx =", "dx = windows", "dk last window", "dk last sample",
           "dk turned", "dk transposed", "db sample 0", "db mean", "db axes", "db mean of places", "db all", "dk / n",
           "dx cut", "dx cut end", "dx border", "dx border doubled", "dx sample 0", "no relu", "dk 0.37",
           "dy reshaped", "dx but last", "dk decay"],
    Dense: ["no slope", "dk transposed", "dk sample 0", "db axes", "db last sample", "db mean of all", "db first unit",
            "dx not transposed", "dk third", "dk 0.37", "dk but sample 0", "dk decay", "slope y", "no dy"],
    Norm: ["dx mean", "dx variance", "dx sum for mean", "dx gamma", "dg x", "dg beta"],
    Softmax: ["dx diagonal", "dx y dy", "dx wrong sum", "dx mean for sum", "dx no y"],
    ReLU: ["dx mask of dy", "dx turned round", "dx no mask"],
    Pool: ["dx =", "dx = at the largest", "dx no mean", *Pool.moved],
}  # fmt: skip


@st.composite
def planted_layers(draw, most):
    """(layer, x): with up to ``most`` mistakes, in a random shape."""
    kind = draw(st.sampled_from([*FAULTS]))
    faults = draw(st.lists(st.sampled_from(FAULTS[kind] + COMMON), max_size=most, unique=True))
    n, c, seed = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(0, 99))
    options = {}
    if kind is Conv:
        square = not {"dx transposed", "dk transposed"}.isdisjoint(faults)
        side = draw(st.integers(1, 3))
        options = {
            "size": (side, side if square else draw(st.integers(1, 3))),
            "filters": draw(st.integers(1, 3)),
            "pad": draw(st.sampled_from([(0, 0), (1, 1), (1, 0)])),
            "stride": draw(st.integers(1, 2)),
            "relu": draw(st.booleans()),
            "order": draw(st.sampled_from([(0, 1, 2, 3), (2, 0, 1, 3), (3, 2, 0, 1), (3, 0, 1, 2)])),
            "matrix": draw(st.booleans()),
        }
    elif kind is Dense:
        options = {"units": draw(st.integers(1, 5)), "f": draw(st.sampled_from([None, "tanh", "relu"]))}
    elif kind is Pool:
        options = {"size": draw(st.integers(2, 3)), "stride": draw(st.integers(1, 3)), "largest": draw(st.booleans())}
        side = options["size"] if not {*Pool.moved}.isdisjoint(faults) else None
        options["stride"] = side or options["stride"]
    elif kind is Norm:
        options = {"axes": draw(st.sampled_from([(0,), (0, 1, 2), (1, 2)]))}
    images = kind in (Conv, Pool) or (kind is Norm and options["axes"] != (0,)) or draw(st.booleans())
    images = images and kind is not Dense and options.get("axes") != (0,)
    h, w = draw(st.integers(3, 5)), draw(st.integers(3, 5))
    h, w = (2 * side, 2 * side) if kind is Pool and side else (h, w)
    shape = (n, h, w, c) if images else (n, draw(st.integers(1, 6)))
    hypothesis.assume(kind is not ReLU or np.prod(shape) >= 12)  # of a few numbers of dy any may have the mask of x
    hypothesis.assume(kind is not Norm or np.prod([shape[axis] for axis in options["axes"]]) > 1)
    return kind(*faults, **options), normal(*shape, seed=seed)


def differs(layer, x):
    """Whether the mistakes of a planted layer change its gradients; True where its backward raises."""
    try:
        wrong, right = gradients_with(layer, x, layer.faults), gradients_with(layer, x, ())
    except ValueError:
        return True
    return any(
        not np.allclose(wrong[name], right[name], rtol=1e-4, atol=1e-4 * np.abs(right[name]).max()) for name in right
    )


def check_planted(layer, x):
    layer.dtype = np.dtype(np.float64)
    layer.build(x.shape[1:], np.random.default_rng(0))
    for name, array in layer.params.items():
        array += np.random.default_rng(len(name)).uniform(0.1, 0.5, array.shape)
    planted = set(layer.faults)
    if getattr(layer, "size", None) in [(side, 1) for side in (1, 2, 3)] and planted & {"dx turned", "dx turned rows"}:
        planted |= {"dx turned", "dx turned rows"}  # the same
    try:
        gradcheck(layer, x, samples=60)
        text = ""
    except GradientError as error:
        text = str(error)
    if not text:
        assert not differs(layer, x), "not seen"
        return
    assert layer.faults, f"a right layer is accused: {text}"
    for said, faults in TRUE_FOR.items() if "raised" not in text else ():
        assert said not in text or faults & planted, f"{said} was not planted: {text}"


def budget(share):
    return settings(max_examples=max(1, int(settings.default.max_examples * share)))


@budget(1.0)
@given(planted_layers(most=3))
def test_no_verdict_is_false(planted):
    check_planted(*planted)


@budget(0.5)
@given(planted_layers(most=0))
def test_no_right_layer_is_accused(planted):
    layer, x = planted
    assert not layer.faults
    check_planted(layer, x)
