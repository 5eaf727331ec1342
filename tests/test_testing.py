"""gradcheck: right layers pass, and every mistake that it claims to recognise is recognised."""

import re

import numpy as np
import pytest

from minicnn import Sequential, layers, testing
from minicnn.layer import Layer
from minicnn.testing import GradientError, gradcheck


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


X = normal(3, 5)


class Affine(Layer):
    """y = x W + b, in NumPy, with a fault to choose."""

    def __init__(self, units=4, fault=None):
        self.units, self.fault = units, fault

    def build(self, input_shape, rng):
        (d,) = super().build(input_shape, rng)
        self.add_param("kernel", (d, self.units), lambda shape, rng: rng.standard_normal(shape), rng)
        self.add_param("bias", (self.units,), lambda shape, rng: np.zeros(shape), rng)
        self.output_shape = (self.units,)
        return self.output_shape

    def forward(self, x, training=False):
        if self.fault == "changes x":
            x *= 2
        self.x = x
        y = x @ self.params["kernel"] + self.params["bias"]
        if self.fault == "float32":
            y = y.astype(np.float32)
        return y[:1] if self.fault == "one sample" else y + np.nan if self.fault == "nan" else y

    def backward(self, dy):
        dkernel, dbias, dx = self.x.T @ dy, dy.sum(0), dy @ self.params["kernel"].T
        wrong = {"sign": -1, "twice": 2, "times n": len(dy), "mean": 1 / len(dy)}.get(self.fault, 1)
        if self.fault == "accumulates":
            self.grads["kernel"] += dkernel
            self.grads["bias"] += dbias
            return dx
        if self.fault == "replaced":
            self.grads["kernel"] = dkernel[:-1]
            return dx
        self.grads["kernel"][...] = wrong * (dkernel.T if self.fault == "transposed" else dkernel)
        if self.fault != "no bias":
            self.grads["bias"][...] = np.nan if self.fault == "nan gradient" else dbias
        if self.fault == "half":
            self.grads["kernel"][0] = 0
        if self.fault == "changes dy":
            dy *= 2
        if self.fault == "formula":
            self.grads["kernel"][...] = dkernel**3
        return None if self.fault == "returns nothing" else dx[:, :-1] if self.fault == "shape of dx" else dx


class Drop(Layer):
    """Inverted dropout in NumPy; ``freeze_mask`` holds the mask still."""

    rate, frozen, fault = 0.5, False, None

    def forward(self, x, training=False):
        if not self.frozen or self._kept is None:
            self._kept = np.random.default_rng(1 if self.frozen else None).random(x.shape) >= self.rate
        return np.where(self._kept, x / (1 - self.rate), 0)

    def backward(self, dy):
        scale = 1 if self.fault == "scale" else 1 / (1 - self.rate)
        return dy * scale if self.fault == "mask" else np.where(self._kept, dy * scale, 0)


class FreezableDrop(Drop):
    def freeze_mask(self):
        self.frozen = True


class Square(Layer):
    """y = x^2 + max(x, 0): smooth but for a corner at 0."""

    def forward(self, x, training=False):
        self.x = x
        return x * x + np.maximum(x, 0)

    def backward(self, dy):
        return dy * (2 * self.x + (self.x > 0))


def dropping(fault):
    layer = FreezableDrop()
    layer.fault = fault
    return layer


def test_right_layers_pass():
    for layer in (Affine(), FreezableDrop(), Square()):
        result = gradcheck(layer, X)
        assert result
        assert max(result.errors.values()) < 1e-8
        assert set(result.skipped.values()) == {0}
    result = gradcheck(Affine(), X)
    assert result.checked == {"x": 15, "kernel": 20, "bias": 4}
    assert "kernel" in str(result)
    assert str(result).count("\n") == 3


@pytest.mark.parametrize(("fault", "message"), [
    ("sign", "the sign is wrong"),
    ("twice", "off by the constant factor 2: is a scale missing, or applied twice?"),
    ("times n", "off by the constant factor 3, N being 3: the loss divides by the batch size, a layer must not"),
    ("mean", "off by the constant factor 0.3333, N being 3"),
    ("accumulates", "does it accumulate? backward must overwrite grads, not add to them"),
    ("no bias", "zero where it should not be: was it computed at all?"),
    ("half", "zero where it should not be, and right elsewhere: is a part left out?"),
    ("formula", "more than a factor or a mask is wrong: compare backward with the formula"),
    ("changes x", "Affine.forward changed x: it must write into a new array"),
    ("changes dy", "Affine.backward changed dy: it must write into a new array"),
    ("returns nothing", "Affine.backward must return dx of shape (3, 5); got None"),
    ("shape of dx", "Affine.backward must return dx of shape (3, 5); got shape (3, 4), float64"),
    ("replaced", "Affine.backward: grads['kernel'] must have shape (5, 4); got shape (4, 4), float64"),
    ("nan", "Affine.forward gave NaN or infinity"),
    ("nan gradient", "Affine: gradient of bias is not finite: 4 NaN"),
    ("float32", "with the dtype of x, float64; got shape (3, 4), float32"),
    ("one sample", "Affine.forward must return an array of 3 samples"),
])  # fmt: skip
def test_every_mistake_is_named(fault, message):
    with pytest.raises(GradientError, match=re.escape(message)):
        gradcheck(Affine(fault=fault), X)


def test_an_output_of_another_shape_than_declared():
    class Narrow(Square):
        def build(self, input_shape, rng):
            return (*super().build(input_shape, rng)[:-1], 7)

    message = r"^Narrow.forward must return the shape that build declared, \(3, 7\); got \(3, 5\)$"
    with pytest.raises(GradientError, match=message):
        gradcheck(Narrow(), X)


def test_a_transposed_gradient():
    with pytest.raises(GradientError, match=re.escape("the right numbers in the wrong places: transposed?")):
        gradcheck(Affine(5, fault="transposed"), X)


@pytest.mark.parametrize(("fault", "message"), [
    ("mask", "nonzero where it should be 0: is the mask applied in backward?"),
    ("scale", "off by the constant factor 0.5: is 1/(1 - rate) missing?"),
])  # fmt: skip
def test_the_mistakes_of_dropout(fault, message):
    with pytest.raises(GradientError, match=re.escape(message)):
        gradcheck(dropping(fault), X)


def test_message_names_layer_parameter_place_and_both_numbers():
    layer = Affine(fault="twice")
    pattern = r"^Affine: gradient of kernel at \((\d), (\d)\): backward says (\S+), finite differences say (\S+); off"
    with pytest.raises(GradientError, match=pattern) as caught:
        gradcheck(layer, X)
    i, j, says, measured = re.match(pattern, str(caught.value)).groups()
    assert int(i) < 5
    assert int(j) < 4
    assert float(says) == pytest.approx(2 * float(measured), rel=1e-5)


def test_random_numbers_that_are_not_held_still():
    with pytest.raises(GradientError, match=r"Drop.forward gave different values for the same x: .* freeze_mask\(\)"):
        gradcheck(Drop(), X)


def test_corners_are_skipped_and_counted():
    x = X.copy()
    x[1, 2] = 0.0  # on the corner
    x[2, 3] = 3e-6  # within the first step of it, outside the second
    result = gradcheck(Square(), x)
    assert result.skipped == {"x": 1}
    assert result.checked == {"x": 14}


def test_too_many_corners_prove_nothing():
    x = X.copy()
    x[:, :2] = 0.0
    with pytest.raises(GradientError, match="6 of 15 places are corners, without a derivative; use a different x"):
        gradcheck(Square(), x)


def test_the_layer_is_left_as_it_is():
    layer = Affine()
    layer.build((5,), np.random.default_rng(0))
    before = {name: values.copy() for name, values in layer.params.items()}
    x = X.copy()
    gradcheck(layer, x)
    assert layer.dtype == np.float32
    assert (x == X).all()
    for name, values in before.items():
        assert layer.params[name].dtype == np.float32
        assert (layer.params[name] == values).all()
        assert (layer.grads[name] == 0).all()
    fresh = Affine()
    gradcheck(fresh, x)
    assert fresh.input_shape is None
    assert not fresh.params


def test_a_layer_that_holds_layers():
    class Twice(Layer):
        def __init__(self):
            self.first, self.rest = FreezableDrop(), [Square()]

        def forward(self, x, training=False):
            return self.rest[0].forward(self.first.forward(x, training), training)

        def backward(self, dy):
            return self.first.backward(self.rest[0].backward(dy))

    assert gradcheck(Twice(), X + 2)  # the dropped values are 0, a corner of Square, but x does not move them


# ---- models ----


def small_model(*more):
    return Sequential(
        [layers.Conv2D(3, 3, padding="same", activation="relu"), layers.MaxPooling2D(2), layers.BatchNormalization(),
         *more, layers.Dropout(0.4), layers.Flatten(), layers.Dense(4, activation="softmax")],
        seed=1,
    )  # fmt: skip


@pytest.mark.parametrize("build", [False, True])
def test_a_model(build):
    model = small_model()
    if build:
        model.build((6, 6, 1))
        model.train()
        weights = model.state_dict()
    for x in (normal(2, 6, 6, 1), normal(2, 6, 6)):
        result = gradcheck(model, x, samples=20)
        assert list(result.errors) == ["x", "0.kernel", "0.bias", "2.gamma", "2.beta", "5.kernel", "5.bias"]
        assert max(result.errors.values()) < 1e-7
    assert model.built is build
    if build:
        assert model.training
        assert all((model.state_dict()[name] == values).all() for name, values in weights.items())
        assert model.layers[3].state == {"step": 0}


def test_the_weights_of_the_model_are_those_that_are_checked():
    model = Sequential([Affine(3), layers.Dense(2, activation="tanh")])
    model.build((5,))
    model.set_weights([0 * values for values in model.get_weights()])
    result = gradcheck(model, X)  # with all weights 0 the kernels' gradients are 0, the last bias's is not
    assert result
    assert len(result.errors) == 5


def test_the_layer_at_fault_is_named():
    """A wrong dx spoils all gradients before it; the message blames the layer that is wrong when it stands alone."""

    class Doubled(layers.Tanh):
        def backward(self, dy):
            return 2 * super().backward(dy)

    message = "layer 3 of the model: Doubled: gradient of x at .*; off by the constant factor 2"
    with pytest.raises(GradientError, match=message):
        gradcheck(small_model(Doubled()), normal(2, 6, 6, 1))
    message = "layer 1 of the model: Affine: gradient of kernel at .*; the sign is wrong"
    with pytest.raises(GradientError, match=message):
        gradcheck(Sequential([layers.Dense(5), Affine(fault="sign"), layers.ReLU()]), X)


def test_a_layer_of_a_model():
    """One that holds layers, within a model that is built."""

    class Pair(Layer):
        def __init__(self):
            self.first, self.second = layers.Dense(4, activation="tanh"), FreezableDrop()

        def build(self, input_shape, rng):
            input_shape = super().build(input_shape, rng)
            for layer in (self.first, self.second):
                layer.dtype = self.dtype
                input_shape = layer.build(input_shape, rng)
            self.params, self.grads, self.output_shape = self.first.params, self.first.grads, input_shape
            return input_shape

        def forward(self, x, training=False):
            return self.second.forward(self.first.forward(x, training), training)

        def backward(self, dy):
            return self.first.backward(self.second.backward(dy))

    model = Sequential([Pair(), layers.Dense(3)])
    model.build((5,))
    result = gradcheck(model, X)
    assert result.checked == {"x": 15, "0.first.kernel": 20, "0.first.bias": 4, "1.kernel": 12, "1.bias": 3}


# ---- arguments ----


def test_any_numeric_x_is_welcome():
    for x in (X.tolist(), (10 * X).astype(np.int8), np.asfortranarray(X), X[::-1].astype(">f4")):
        assert gradcheck(Affine(), x)


def test_a_sample_of_the_places():
    result = gradcheck(Affine(), X, samples=7)
    assert result.checked == {"x": 7, "kernel": 7, "bias": 4}
    assert gradcheck(Affine(), X, samples=7) == result
    with pytest.raises(GradientError, match="sign"):
        gradcheck(Affine(fault="sign"), X, samples=1)


def test_tolerance_and_step():
    class Rough(Square):
        def backward(self, dy):
            return super().backward(dy) * (1 + 1e-5)

    with pytest.raises(GradientError, match="1"):
        gradcheck(Rough(), X)
    assert gradcheck(Rough(), X, tolerance=1e-4)
    assert gradcheck(Square(), X, step=1e-6)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((Affine, X), TypeError, "gradcheck: a layer .* is required; got .*. Make an instance"),
    ((len, X), TypeError, "gradcheck: a layer"),
    ((Affine(), X[0]), ValueError, r"gradcheck: x must have shape \(N, ...\) with N >= 1; got shape \(5,\)"),
    ((Affine(), X[:0]), ValueError, r"gradcheck: x must have .*; got shape \(0, 5\)"),
    ((Affine(), X * np.nan), ValueError, "gradcheck: x must be finite"),
    ((Affine(), X + 1j), TypeError, "gradcheck: x must be an array of numbers"),
    ((Affine(), [["a"]]), TypeError, "gradcheck: x must be an array of numbers"),
])  # fmt: skip
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        gradcheck(*arguments)


@pytest.mark.parametrize(("keyword", "value", "error"), [
    ("tolerance", 0, ValueError), ("tolerance", "1", TypeError), ("step", 0.0, ValueError),
    ("step", float("nan"), ValueError), ("samples", 0, ValueError), ("samples", 1.5, TypeError),
    ("seed", -1, ValueError),
])  # fmt: skip
def test_wrong_options(keyword, value, error):
    with pytest.raises(error, match=f"gradcheck: {keyword} must be"):
        gradcheck(Affine(), X, **{keyword: value})


def test_gradient_error_is_an_assertion():
    assert issubclass(testing.GradientError, AssertionError)


@pytest.mark.parametrize("make", [layers.LayerNormalization, lambda: layers.GroupNormalization(1)])
def test_outputs_that_are_all_zero_have_gradients_of_rounding_errors(make):
    """A normalisation over a single value: its gradient is 0, but for the last bits."""
    for seed in range(20):
        x = np.random.default_rng(seed).standard_normal((1, 1, 1, 1))
        assert gradcheck(make(), x)


# ---- what is no gradient ----


class Plain(Layer):
    """y = x W, with W where no optimiser sees it: of a kind to choose."""

    kind = "drawn in build"

    def __init__(self, kind="drawn in build"):
        self.kind = kind
        if kind not in ("drawn in build", "trains a parameter"):
            self.W = np.random.standard_normal((5, 4)) if kind == "drawn" else np.arange(20.0).reshape(5, 4)

    def build(self, input_shape, rng):
        (d,) = super().build(input_shape, rng)
        self.add_param("bias", (4,), lambda shape, rng: np.zeros(shape), rng)
        if self.kind == "drawn in build":
            self.W = rng.standard_normal((d, 4))
        if "param" in self.kind:
            self.add_param("W", (d, 4), lambda shape, rng: rng.standard_normal(shape), rng)
        if self.kind.startswith("param"):
            self.W = self.params["W"]
        return (4,)

    def used(self):
        by_name = self.kind in ("param under another name, not read", "trains a parameter")
        return self.params["W"] if by_name else self.W

    def forward(self, x, training=False):
        self.x = x
        return x @ self.used() + self.params["bias"]

    def backward(self, dy):
        dW, dx = self.x.T @ dy, dy @ self.used().T
        if "W" in self.params:
            self.grads["W"][...] = dW
        if self.kind == "gradient kept":
            self.dW = dW
        if self.kind == "trains itself":
            self.W -= 0.1 * dW
        if self.kind == "trains a parameter":
            self.params["W"] -= 0.1 * dW
        self.grads["bias"][...] = dy.sum(0)
        return dx


ADD = re.escape("make it in build with self.add_param(name, shape, initializer, rng) if it is to be trained")


@pytest.mark.parametrize(("kind", "message"), [
    ("drawn in build", f"Plain: self.W is a weight that no optimiser sees: .* drawn at random.*; {ADD}"),
    ("drawn", f"Plain: self.W is a weight that no optimiser sees: .* drawn at random.*; {ADD}"),
    ("gradient kept", f"Plain: self.W is a weight that no optimiser sees: backward leaves its gradient in dW; {ADD}"),
    ("param under another name", r"Plain: self.W is params\['W'\] as it was built; read self.params\['W'\] each time"),
    ("trains itself", "Plain.backward changed W: it only computes gradients, into grads; the optimiser takes the step"),
    ("trains a parameter", "Plain.backward changed W: it only computes"),
])  # fmt: skip
def test_weights_that_nobody_trains(kind, message):
    before = np.random.get_state()[1].copy()
    layer = Plain(kind)
    with pytest.raises(GradientError, match=f"^{message}"):
        gradcheck(layer, X)
    with pytest.raises(GradientError, match=f"^layer 1 of the model: {message}"):
        gradcheck(Sequential([layers.Dense(5), layer, layers.Dense(2)]), X)
    if kind != "drawn":
        assert (np.random.get_state()[1] == before).all()


def test_what_only_looks_like_a_weight():
    """A fixed array is a note; one that is not read, or is a parameter's that is read by its name, is nothing."""
    (note,) = gradcheck(Plain("fixed"), X).notes
    assert note.startswith(
        "Plain.W is read by forward, and no optimiser sees it: it stays what it is; make it in build"
    )
    assert note in str(gradcheck(Plain("fixed"), X))
    assert gradcheck(Plain("param under another name, not read"), X).notes == ()

    class Offset(Affine):
        """A fixed offset has the gradient of the bias beside it, and need not be trained for that."""

        offset = np.arange(4.0)

        def __init__(self):
            super().__init__()
            self.offset = np.arange(4.0)

        def forward(self, x, training=False):
            return super().forward(x, training) + self.offset

        def backward(self, dy):
            self.dbias = dy.sum(0)
            return super().backward(dy)

    assert len(gradcheck(Offset(), X).notes) == 1
    layer = Affine()
    layer.build((5,), np.random.default_rng(0))
    layer.forward(X, training=True)  # which keeps x
    assert gradcheck(layer, X).notes == ()


def test_parameters_that_are_all_alike_hide_no_mistake():
    class Scale(Affine):
        """Forgets the factor that is 1 at first, in dx."""

        def build(self, input_shape, rng):
            shape = Layer.build(self, input_shape, rng)
            self.add_param("scale", shape, lambda shape, rng: np.ones(shape), rng)
            return shape

        def forward(self, x, training=False):
            self.x = x
            return self.params["scale"] * x

        def backward(self, dy):
            self.grads["scale"][...] = (dy * self.x).sum(0)
            return dy.copy()

    with pytest.raises(GradientError, match=r"the factor scale is missing|dy as it came"):
        gradcheck(Scale(), X)
    layer = Scale()
    layer.build((5,), np.random.default_rng(0))
    assert gradcheck(layer, X)  # of a layer that is built the parameters are what they are


def test_backward_that_raises_is_an_error_of_backward():
    class Raises(Square):
        def backward(self, dy):
            return dy * self.y

    with pytest.raises(
        GradientError, match=r"^Raises.backward raised AttributeError: .*Shapes: x \(3, 5\), dy \(3, 5\)$"
    ):
        gradcheck(Raises(), X)


def test_random_numbers_in_backward():
    class NewMask(FreezableDrop):
        def backward(self, dy):
            return dy * (np.random.default_rng().random(dy.shape) < 0.5)

    with pytest.raises(GradientError, match="a second time: is a new mask drawn in backward"):
        gradcheck(NewMask(), normal(20, 20))

    class Loose(Drop):
        def freeze_mask(self):
            pass

    with pytest.raises(GradientError, match=r"freeze_mask\(\) does not hold all of its random numbers still"):
        gradcheck(Loose(), X)
