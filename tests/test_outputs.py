"""What a model's outputs are, decided in one place: every number that depends on it, against the model's own outputs in
NumPy, for chains that end in probabilities in many ways; and a sentence where it cannot be known."""

import contextlib
import copy
import pickle
import warnings

import numpy as np
import pytest
from test_layer_contract import new

import minicnn as mc
from minicnn import layers as L
from minicnn import losses, metrics, outputs

RNG = np.random.default_rng(3)
X = RNG.normal(size=(12, 5, 4, 2))
LABELS = np.arange(12) % 3
ONE_HOT = np.eye(3)[LABELS]
YES = (RNG.random((12, 3)) < 0.5).astype(float)
WEIGHTS = np.linspace(0.5, 2, 12)
SPARSE, DENSE, BINARY = (
    losses.SparseCategoricalCrossentropy,
    losses.CategoricalCrossentropy,
    losses.BinaryCrossentropy,
)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class OwnSoftmax(mc.Layer):
    """Says nothing."""

    def forward(self, x, training=False):
        x = self.check_input(x)
        y = softmax(x)
        if training:
            self.keep(len(x), y)
        return y

    def backward(self, dy):
        dy, (y,) = self.check_gradient(dy)
        return y * (dy - (dy * y).sum(-1, keepdims=True))


class SaysSoftmax(OwnSoftmax):
    output_function = "softmax"


class Twice(mc.Layer):
    """Says nothing; of logits it makes logits."""

    def forward(self, x, training=False):
        x = self.check_input(x)
        if training:
            self.keep(len(x))
        return 2 * x

    def backward(self, dy):
        return 2 * self.check_gradient(dy)[0]


class SaysLinear(Twice):
    output_function = "linear"


class OwnDense(L.Dense):
    """Knows what Dense knows."""


def dense(units=3, activation=None):
    return [L.Flatten(), L.Dense(units, activation)]


SOFTMAX_BEFORE = {  # what makes probabilities of classes, and is not changed behind
    "alone": lambda: dense(3, "softmax"),
    "Flatten": lambda: [*dense(3, "softmax"), L.Flatten()],
    "Reshape": lambda: [*dense(3, "softmax"), L.Reshape((1, 3)), L.Reshape((3,))],
    "Dropout(0)": lambda: [*dense(3, "softmax"), L.Dropout(0)],
    "Dropout(0, classical)": lambda: [*dense(), L.Softmax(), L.Dropout(0, mode="classical"), L.Flatten()],
    "GaussianDropout(0)": lambda: [*dense(3, "softmax"), L.GaussianDropout(0)],
    "StochasticDepth(0)": lambda: [*dense(3, "softmax"), L.StochasticDepth(0)],
    "AlphaDropout(0)": lambda: [*dense(3, "softmax"), L.AlphaDropout(0)],
    "DropBlock2D(0)": lambda: [*(L.Conv2D(3, 3), L.Softmax(), L.DropBlock2D(0, 2), L.GlobalAveragePooling2D())],
    "GaussianNoise(0)": lambda: [*dense(3, "softmax"), L.GaussianNoise(0)],
    "linear": lambda: [*dense(3, "softmax"), L.Activation("linear")],
    "GlobalAveragePooling2D": lambda: [L.Conv2D(3, 3, activation="softmax"), L.GlobalAveragePooling2D()],
    "GlobalMaxPooling2D": lambda: [L.Conv2D(3, 3, activation="softmax"), L.GlobalMaxPooling2D()],
    "AveragePooling2D": lambda: [L.Conv2D(3, (4, 3), activation="softmax"), L.AveragePooling2D((2, 2)), L.Flatten()],
    "MaxPooling2D": lambda: [L.Conv2D(3, (4, 3), activation="softmax"), L.MaxPooling2D((2, 2)), L.Flatten()],
    "SpatialDropout2D": lambda: [
        *(L.Conv2D(3, 3), L.Softmax(), L.SpatialDropout2D(0), L.GlobalAveragePooling2D()),
    ],
    "own Dense": lambda: [L.Flatten(), OwnDense(3, "softmax"), L.Flatten()],
    "own, said": lambda: [*dense(), SaysSoftmax(), L.Flatten()],
}
SIGMOID_BEFORE = {
    "alone": lambda units: dense(units, "sigmoid"),
    "Flatten": lambda units: [*dense(units, "sigmoid"), L.Flatten()],
    "Reshape": lambda units: [*dense(units), L.Sigmoid(), L.Reshape((units,))],
    "Dropout(0)": lambda units: [*dense(units), L.Sigmoid(), L.Dropout(0)],
    "pooled": lambda units: [L.Conv2D(units, 3, activation="sigmoid"), L.GlobalAveragePooling2D()],
    # Where it reaches 0 or 1, the loss is infinite but for its clipping.
    "hard sigmoid": lambda units: [L.Rescaling(0.1), *dense(units, "hard_sigmoid")],
    "HardSigmoid": lambda units: [L.Rescaling(0.1), *dense(units), L.HardSigmoid(), L.Flatten()],
}
LOGITS = {
    "alone": lambda: dense(),
    "Flatten": lambda: [*dense(), L.Flatten()],
    "Dropout": lambda: [*dense(), L.Dropout(0)],
    "ReLU": lambda: [*dense(), L.LeakyReLU()],
    "Rescaling": lambda: [*dense(), L.Rescaling(2, 1)],
    "pooled": lambda: [L.Conv2D(3, 3), L.GlobalAveragePooling2D()],
    "a softmax before": lambda: [*dense(4, "softmax"), L.Dense(3)],
    "own, said": lambda: [*dense(3, "softmax"), SaysLinear()],
}
UNKNOWN = {  # a chain whose end cannot be known: (layers, the number and class that the error names)
    "own": (lambda: [*dense(), OwnSoftmax()], "layer 2, OwnSoftmax"),
    "own, reshaped": (lambda: [*dense(), OwnSoftmax(), L.Flatten(), L.Dropout(0.5)], "layer 2, OwnSoftmax"),
    "own, changed": (lambda: [*dense(), Twice(), L.ReLU()], "layer 2, Twice"),
    "Rescaling": (lambda: [*dense(3, "softmax"), L.Rescaling(0.5)], "layer 2, Rescaling"),
    "BatchNormalization": (lambda: [*dense(3, "sigmoid"), L.BatchNormalization(), L.Flatten()], "BatchNormalization"),
    "LayerNormalization": (lambda: [*dense(3, "softmax"), L.LayerNormalization()], "layer 2, LayerNormalization"),
    "ReLU": (lambda: [*dense(3, "softmax"), L.Flatten(), L.ReLU()], "layer 3, ReLU"),
    "ZeroPadding2D": (
        lambda: [L.Conv2D(3, 3, activation="softmax"), L.ZeroPadding2D(), L.GlobalAveragePooling2D()],
        "layer 1, ZeroPadding2D",
    ),
    "classical dropout": (lambda: [*dense(3, "softmax"), L.Dropout(0.5, mode="classical")], "layer 2, Dropout"),
}


def compiled(chain, loss, given=("accuracy",), seed=1):
    model = mc.Sequential(chain, seed=seed, dtype="float64")
    model.compile(mc.optimizers.SGD(0.1), loss, list(given))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dropout behind everything
        model.build(X.shape[1:])
    return model


def class_loss(p, targets=ONE_HOT, weights=WEIGHTS):
    return -(weights * (targets * np.log(p / p.sum(1, keepdims=True))).sum(1)).mean()


def binary_loss(p, targets, weights=WEIGHTS):
    return -(weights * (targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean(1)).mean()


def require_gradient(model, y):
    """The gradient that training takes is that of the value that it reports."""
    model.train()
    value, gradient = model.loss(model.forward(X), y, WEIGHTS)
    model.backward(gradient)
    slopes, start = model.gradients.copy(), model.parameters.copy()
    for _ in range(3):
        direction, sides = RNG.normal(size=start.shape), []
        for sign in (1, -1):
            model.parameters[:] = start + sign * 1e-6 * direction
            sides.append(model.loss(model.forward(X), y, WEIGHTS)[0])
        model.parameters[:] = start
        assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(slopes @ direction, abs=1e-6 * max(1, abs(value)))
    assert np.abs(slopes).max() > 1e-4
    model.eval()


@pytest.mark.parametrize("name", SOFTMAX_BEFORE)
@pytest.mark.parametrize("loss", [SPARSE, DENSE])
def test_cross_entropy_is_that_of_the_probabilities_that_predict_gives(name, loss):
    model, y = compiled(SOFTMAX_BEFORE[name](), loss()), LABELS if loss is SPARSE else ONE_HOT
    p = model.predict(X)
    assert not model.outputs_are_logits
    assert model.output_kind == "classes"
    want = class_loss(p)
    assert model.loss(model.forward(X), y, WEIGHTS)[0] == pytest.approx(want, rel=1e-9)
    found = model.evaluate(X, y, 5, return_dict=True, sample_weight=WEIGHTS)
    assert found["loss"] == pytest.approx(want, rel=1e-9)
    assert model.train_on_batch(X, y, WEIGHTS)["loss"] == pytest.approx(want, rel=1e-9)
    require_gradient(model, y)
    p = model.predict(X)
    np.testing.assert_allclose(model.predict_proba(X), p / p.sum(-1, keepdims=True), rtol=1e-12)
    if "MaxPooling" not in name:
        assert np.array_equal(model.predict_proba(X), p)


@pytest.mark.parametrize("name", SIGMOID_BEFORE)
@pytest.mark.parametrize("units", [1, 3])
def test_yes_or_no_behind_a_sigmoid(name, units):
    model, y = compiled(SIGMOID_BEFORE[name](units), "binary_crossentropy"), YES[:, :units]
    p = model.predict(X)
    found = model.evaluate(X, y, 5, return_dict=True, sample_weight=WEIGHTS)
    assert found["loss"] == pytest.approx(binary_loss(p, y), rel=1e-9)
    right = ((p > 0.5) == y).mean(1)
    assert found["accuracy"] == pytest.approx((WEIGHTS * right).sum() / WEIGHTS.sum(), rel=1e-12)
    assert model.output_kind == ("binary" if units == 1 else "labels")
    assert np.array_equal(model.predict_proba(X), p)
    require_gradient(model, y)


@pytest.mark.parametrize("name", SIGMOID_BEFORE)
def test_classes_behind_a_sigmoid(name):
    """Once silently taken for logits; as in Keras they are divided by their sum."""
    model = compiled(SIGMOID_BEFORE[name](3), SPARSE())
    p = model.predict(X)
    assert model.evaluate(X, LABELS, sample_weight=WEIGHTS)[0] == pytest.approx(class_loss(p), rel=1e-9)
    require_gradient(model, LABELS)


@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.parametrize("loss", [SPARSE, DENSE, BINARY])
def test_logits(name, loss):
    model, y = compiled(LOGITS[name](), loss()), {SPARSE: LABELS, DENSE: ONE_HOT, BINARY: YES}[loss]
    z = model.predict(X)
    p = 1 / (1 + np.exp(-z)) if loss is BINARY else softmax(z)
    want = binary_loss(p, y) if loss is BINARY else class_loss(p)
    loss_found, accuracy = model.evaluate(X, y, sample_weight=WEIGHTS)
    assert loss_found == pytest.approx(want, rel=1e-9)
    right = ((p > 0.5) == y).mean(1) if loss is BINARY else p.argmax(1) == LABELS
    assert accuracy == pytest.approx((WEIGHTS * right).sum() / WEIGHTS.sum(), rel=1e-12)
    assert model.outputs_are_logits
    assert model.output_kind == ("labels" if loss is BINARY else "classes")
    np.testing.assert_allclose(model.predict_proba(X), p, rtol=1e-9)
    require_gradient(model, y)


@pytest.mark.parametrize("end", ["softmax", "sigmoid", None])
def test_focal_losses_and_the_divergence_know_what_outputs_are(end):
    for loss, y in (
        (losses.CategoricalFocalCrossentropy([1, 0.5, 2], 1.5, label_smoothing=0.1), ONE_HOT),
        (losses.SparseCategoricalFocalCrossentropy(1, 0.5), LABELS),
        (losses.KLDivergence(), ONE_HOT),
    ):
        model = compiled(dense(3, end), loss)
        o = model.predict(X)
        p = o / o.sum(1, keepdims=True) if end else softmax(o)
        if end and isinstance(loss, losses.KLDivergence):
            p = o  # Keras's takes them as they are
        t = np.clip(ONE_HOT, 1e-7, 1) if isinstance(loss, losses.KLDivergence) else ONE_HOT
        if isinstance(loss, losses.KLDivergence):
            want = t * np.log(t / p)
        else:
            t = (1 - loss.label_smoothing) * t + loss.label_smoothing / 3
            want = -np.array(loss.alpha) * t * (1 - p) ** loss.gamma * np.log(p)
        found, accuracy = model.evaluate(X, y, 5, sample_weight=WEIGHTS)
        assert found == pytest.approx((WEIGHTS * want.sum(1)).mean(), rel=1e-9)
        assert accuracy == pytest.approx((WEIGHTS * (o.argmax(1) == LABELS)).sum() / WEIGHTS.sum(), rel=1e-12)
        assert model.output_kind == ("labels" if end == "sigmoid" else "classes")
        assert model.outputs_are_logits == (end is None)
        require_gradient(model, y)
    model = compiled(dense(3, end), losses.BinaryFocalCrossentropy(True, gamma=1.5))
    p = model.predict(X) if end else 1 / (1 + np.exp(-model.predict(X)))
    x = YES * (1 - p) + (1 - YES) * p
    want = (0.25 * YES + 0.75 * (1 - YES)) * x**1.5 * -np.log(1 - x)
    found, accuracy = model.evaluate(X, YES, 5, sample_weight=WEIGHTS)
    assert found == pytest.approx((WEIGHTS * want.mean(1)).mean(), rel=1e-9)
    assert accuracy == pytest.approx((WEIGHTS * ((p > 0.5) == YES).mean(1)).sum() / WEIGHTS.sum(), rel=1e-12)
    assert model.output_kind == ("classes" if end == "softmax" else "labels")
    require_gradient(model, YES)


@pytest.mark.parametrize("loss", ["kl_divergence", "categorical_focal_crossentropy", "binary_focal_crossentropy"])
def test_they_ask_where_it_cannot_be_known(loss):
    model = compiled([*dense(), OwnSoftmax()], loss)
    with pytest.raises(ValueError, match=r"must be known whether .* layer 2, OwnSoftmax"):
        model.fit(X, ONE_HOT, verbose=0)
    said = type(losses.get(loss))(from_logits=False)
    assert np.isfinite(compiled([*dense(), OwnSoftmax()], said).fit(X, ONE_HOT, verbose=0).history["loss"]).all()
    with pytest.raises(ValueError, match="from_logits=True needs outputs that are logits; layer 1 ends in softmax"):
        compiled(dense(3, "softmax"), type(losses.get(loss))(from_logits=True))


def test_a_hinge_reads_the_sign_of_its_outputs():
    for end in (None, "tanh"):
        model = compiled(dense(1, end), "hinge", ["accuracy", "hinge"])
        margins = model.predict(X)[:, 0]
        found = model.evaluate(X, LABELS % 2, return_dict=True)
        assert found["accuracy"] == ((margins > 0) == LABELS % 2).mean()
        assert found["hinge"] == pytest.approx(np.maximum(1 - margins * (2 * (LABELS % 2) - 1), 0).mean(), rel=1e-12)
        assert model.output_kind == "values"
    with pytest.raises(ValueError, match=r"^Sequential.fit: y must be 1 for a yes .*; got 2 at index"):
        model.fit(X, LABELS, batch_size=2, verbose=0)
    assert model.optimizer.iterations == 0


def test_the_reported_example():
    x = np.random.default_rng(0).normal(size=(400, 2)).astype("f")
    y = (x[:, 0] > 0).astype("i")
    found = []
    for behind in ([], [L.Flatten()]):
        model = mc.Sequential([L.Dense(1, "sigmoid"), *behind], seed=0)
        model.compile(mc.optimizers.SGD(1.0), "binary_crossentropy", ["accuracy"])
        model.fit(x, y, epochs=100, verbose=0)
        found.append(model.evaluate(x, y))
        assert found[-1][1] == np.mean((model.predict(x).ravel() > 0.5) == y)
    assert found[0] == found[1]  # the layer changes nothing
    assert found[0][1] > 0.95


# ---- what cannot be known ----


@pytest.mark.parametrize("name", UNKNOWN)
def test_where_it_cannot_be_known_whoever_needs_to_know_is_told(name):
    chain, names = UNKNOWN[name]
    for loss, y in ((SPARSE, LABELS), (DENSE, ONE_HOT), (BINARY, YES)):
        model = compiled(chain(), loss())
        before = model.fingerprint(), model.history, model.optimizer.iterations
        asks = [
            lambda: model.fit(X, y, verbose=0),  # noqa: B023
            lambda: model.train_on_batch(X, y),  # noqa: B023
            lambda: model.evaluate(X, y),  # noqa: B023
            lambda: model.loss(model.predict(X), y),  # noqa: B023
            lambda: model.predict_proba(X),  # noqa: B023
            lambda: model.predict_mc(X, 2),  # noqa: B023
            lambda: mc.Ensemble([model]).predict(X),  # noqa: B023
            lambda: mc.Ensemble([model]).fit(X, y, verbose=0),  # noqa: B023
            lambda: model.outputs_are_logits,  # noqa: B023
            lambda: model.output_kind,  # noqa: B023
        ]
        for ask in asks:
            with pytest.raises(ValueError, match=r"must be known whether .*logits or probabilities; got ") as caught:
                ask()
            assert names in str(caught.value)
            assert "output_function =" in str(caught.value)
            assert "from_logits=True or from_logits=False" in str(caught.value)
        assert (model.fingerprint(), model.history, model.optimizer.iterations) == before
        model.predict(X)


@pytest.mark.parametrize("name", UNKNOWN)
def test_who_does_not_need_to_know_is_not_told(name):
    def own(outputs, y):
        return float(((outputs - ONE_HOT) ** 2).mean()), 2 * (outputs - ONE_HOT) / outputs.size

    def nearest(outputs, y):
        return 0.5

    for loss in ("mse", "mae", "huber", own):
        model = compiled(UNKNOWN[name][0](), loss, ["categorical_accuracy", "accuracy", "top_2_accuracy", nearest])
        model.fit(X, ONE_HOT, batch_size=12, verbose=0)
        model.evaluate(X, ONE_HOT, batch_size=12)
        assert model.output_kind == "values"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert model.predict_mc(X, 2).kind == "values"
        assert mc.Ensemble([model]).predict(X).kind == "values"


def test_a_metric_that_needs_to_know():
    for metric in ("accuracy", "binary_accuracy", metrics.Accuracy()):
        model = compiled([*dense(1), Twice()], "mse", [metric])
        before = model.fingerprint()
        with pytest.raises(ValueError, match=r"must be known whether .* layer 2, Twice"):
            model.fit(X, LABELS % 2, verbose=0)
        assert model.fingerprint() == before

    class Asks(metrics.PerSample):
        name = "asks"

        def _values(self, outputs, y, from_logits):
            return np.full(len(outputs), 1.0 if from_logits else 0.0)

    assert compiled(dense(1), "mse", [Asks()]).evaluate(X, LABELS)[1] == 1.0
    assert compiled(dense(1, "sigmoid"), "mse", [Asks()]).evaluate(X, LABELS)[1] == 0.0
    with pytest.raises(ValueError, match="must be known whether"):
        compiled([*dense(1), Twice()], "mse", [Asks()]).evaluate(X, LABELS)


def test_a_misspelt_output_function():
    class Wrong(Twice):
        output_function = "sofmax"

    with pytest.raises(ValueError, match=r"layer 2, Wrong: output_function must be one of .* Did you mean 'softmax'\?"):
        compiled([*dense(), Wrong()], SPARSE())


@pytest.mark.parametrize("name", L.__all__)
def test_every_layer_says_what_it_makes(name):
    assert new(name).output_function in outputs.SAYINGS


# ---- from_logits ----


NO_PROBABILITIES = "BatchNormalization", "LayerNormalization", "ZeroPadding2D", "own, changed"


@pytest.mark.parametrize(
    ("name", "from_logits"),
    [(name, said) for name in UNKNOWN for said in (True, False) if said or name not in NO_PROBABILITIES],
)
def test_what_the_loss_says_is_followed_everywhere(name, from_logits):
    for loss, y in ((SPARSE, LABELS), (BINARY, YES)):
        model = compiled(UNKNOWN[name][0](), loss(from_logits=from_logits))
        outs = model.predict(X)
        p = outs
        if from_logits:
            p = 1 / (1 + np.exp(-outs)) if loss is BINARY else softmax(outs)
        want = binary_loss(p, y) if loss is BINARY else class_loss(p)
        p = p if loss is BINARY else p / p.sum(-1, keepdims=True)
        found, accuracy = model.evaluate(X, y, sample_weight=WEIGHTS)
        assert found == pytest.approx(want, rel=1e-9)
        right = ((p > 0.5) == y).mean(1) if loss is BINARY else p.argmax(1) == LABELS
        assert accuracy == pytest.approx((WEIGHTS * right).sum() / WEIGHTS.sum(), rel=1e-12)
        np.testing.assert_allclose(model.predict_proba(X), p, rtol=1e-9)
        kind = "labels" if loss is BINARY else "classes"
        assert model.output_kind == kind
        assert model.outputs_are_logits == from_logits
        if not any(getattr(layer, "rate", 0) for layer in model.layers):
            with pytest.warns(UserWarning, match="samples are equal"):
                prediction = model.predict_mc(X, 2)
            np.testing.assert_allclose(prediction.mean, p, rtol=1e-9)
            if name != "BatchNormalization":  # its moving statistics move
                require_gradient(model, y)
        ensemble = mc.Ensemble([model])
        assert ensemble.predict(X).kind == kind
        np.testing.assert_allclose(ensemble.predict(X).mean, p, rtol=1e-9)
        assert ensemble.evaluate(X, y)["loss"] == pytest.approx(model.evaluate(X, y)[0], rel=1e-9)


def test_plain_numbers_that_are_said_to_be_probabilities():
    model = compiled([*dense(), SaysLinear()], SPARSE(from_logits=False))
    model.layers[1].params["bias"][:] = 5  # so that all outputs are above 0
    model.layers[1].params["kernel"] *= 0.1
    p = model.predict(X)
    assert (p > 0).all()
    assert model.evaluate(X, LABELS, sample_weight=WEIGHTS)[0] == pytest.approx(class_loss(p), rel=1e-9)
    require_gradient(model, LABELS)
    np.testing.assert_allclose(model.predict_proba(X), p / p.sum(-1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("loss", [SPARSE, DENSE, BINARY])
def test_logits_that_are_none(loss):
    said = rf"Sequential: {loss.__name__}: from_logits=True needs outputs that are logits; layer 1 ends in softmax"
    chain = [*dense(3, "softmax"), L.Flatten()]
    model = mc.Sequential(chain)
    model.compile("sgd", loss(from_logits=True))  # not all layers are there yet
    with pytest.raises(ValueError, match=said):
        model.fit(X, ONE_HOT, verbose=0)
    assert not model.built
    assert not any(layer.params for layer in model.layers)
    model = compiled([*dense(3, "softmax"), L.Flatten()], loss())
    before = model.loss_function, model.optimizer
    with pytest.raises(ValueError, match=said):
        model.compile("sgd", loss(from_logits=True))
    assert (model.loss_function, model.optimizer) == before
    assert compiled(dense(3, "softmax"), loss(from_logits=False)).output_kind == "classes"


def test_an_activation_that_is_assigned_is_seen():
    model = compiled(dense(), SPARSE(from_logits=True))
    model.evaluate(X, LABELS)
    model.layers[1].activation = "softmax"
    with pytest.raises(ValueError, match="from_logits=True needs outputs that are logits; layer 1 ends in softmax"):
        model.evaluate(X, LABELS)
    model = compiled([*dense(3, "softmax"), L.Dropout(0.5)], SPARSE())
    model.evaluate(X, LABELS)
    model.layers[2].mode = "classical"
    with pytest.raises(ValueError, match=r"must be known whether .* layer 2, Dropout"):
        model.evaluate(X, LABELS)


@pytest.mark.parametrize("loss", [SPARSE, DENSE, BINARY])
def test_from_logits_in_a_loss(loss, tmp_path):
    assert loss().from_logits == "auto"
    assert loss(0.1, True).from_logits is True
    assert loss(label_smoothing=0.1, from_logits=np.False_).from_logits is False
    with pytest.raises(TypeError, match=r"label_smoothing must be .* Did you mean from_logits=True\?"):
        loss(True)
    with pytest.raises(TypeError, match="from_logits must be 'auto', True or False; got 1"):
        loss(from_logits=1)
    with pytest.raises(ValueError, match="from_logits must be 'auto', True or False; got 'yes'"):
        loss(from_logits="yes")
    z = RNG.normal(size=(12, 3))
    y = {SPARSE: LABELS, DENSE: ONE_HOT, BINARY: YES}[loss]
    assert loss(from_logits=True)(z, y)[0] == loss()(z, y, from_logits=True)[0]
    assert loss(from_logits=True)(softmax(z), y, from_logits=False)[0] == loss()(softmax(z), y)[0]
    for said in ("auto", True, False):
        model = compiled(dense(), loss(0.1, said))
        model.save(tmp_path / "m.npz")
        for other in (mc.Sequential.load(tmp_path / "m.npz"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert other.loss_function.from_logits == said
            assert other.loss_function.label_smoothing == 0.1
    old = {"name": loss.name, "config": {"label_smoothing": 0.1}}  # what files held before
    assert losses.from_config(old).from_logits == "auto"


def test_of_probabilities():
    p = RNG.uniform(0.1, 2, (12, 3))
    for loss, y, t in (
        (SPARSE(0.2), LABELS, 0.8 * ONE_HOT + 0.2 / 3),
        (DENSE(), YES * 0 + [0.2, 0.3, 0.5], np.tile([0.2, 0.3, 0.5], (12, 1))),
    ):
        value, gradient = loss.of_probabilities(p, y, WEIGHTS)
        assert value == pytest.approx(class_loss(p, t), rel=1e-12)
        for place in ((0, 0), (3, 2), (11, 1)):
            step = np.zeros_like(p)
            step[place] = 1e-6
            sides = [class_loss(p + sign * step, t) for sign in (1, -1)]
            assert gradient[place] == pytest.approx((sides[0] - sides[1]) / 2e-6, abs=1e-7)
    value, gradient = SPARSE().of_probabilities(np.zeros((2, 3), np.float32), [0, 1])
    assert value == pytest.approx(-np.log(1e-7))
    assert np.isfinite(gradient).all()
    assert gradient.dtype == np.float32
    assert np.isnan(SPARSE().of_probabilities([[0.5, np.nan]], [0])[0])


def test_dropout_behind_a_softmax_trains_on_finite_numbers():
    model = mc.Sequential([*dense(3, "softmax"), L.Dropout(0.5)], seed=0)
    model.compile("sgd", SPARSE())
    with pytest.warns(UserWarning, match="noise on the model's outputs"):
        history = model.fit(X, LABELS, epochs=20, verbose=0).history
    assert np.isfinite(history["loss"]).all()


# ---- what asks ----


def test_ensemble_and_monte_carlo_of_probabilities_behind_a_reshape():
    chain = lambda: [L.Dropout(0.5), *dense(3, "softmax"), L.Flatten()]  # noqa: E731
    models = [compiled(chain(), SPARSE(), seed=seed) for seed in (1, 2)]
    p = np.stack([model.predict(X) for model in models])
    ensemble = mc.Ensemble(models)
    prediction = ensemble.predict(X)
    np.testing.assert_allclose(prediction.mean, p.mean(0), rtol=1e-9)
    m = p.mean(0)
    entropy = -(m * np.log(m)).sum(1)
    np.testing.assert_allclose(prediction.predictive_entropy, entropy, rtol=1e-9)
    np.testing.assert_allclose(prediction.mutual_information, entropy + (p * np.log(p)).sum(2).mean(0), atol=1e-9)
    assert ensemble.evaluate(X, LABELS)["loss"] == pytest.approx(class_loss(m, weights=np.ones(12)), rel=1e-9)
    sampled = models[0].predict_mc(X, 5, return_samples=True)
    np.testing.assert_allclose(sampled.samples.sum(-1), 1)
    # a softmax of a softmax of three classes is never above 0.577
    assert sampled.samples.max() > 0.6


@pytest.mark.parametrize("end", ["softmax", None])
def test_the_mean_of_softmaxes_is_not_divided_by_its_sum(end):
    """Which is 1 but for rounding: the bits are those of the loss of the mean."""
    models = [mc.Sequential(dense(3, end), seed=seed) for seed in (1, 2, 3)]
    for model in models:
        model.compile("sgd", SPARSE())
    ensemble = mc.Ensemble(models)
    mean = ensemble.predict(X).mean
    assert (mean.sum(1) != 1).any()
    assert ensemble.evaluate(X, LABELS)["loss"] == SPARSE()(mean, LABELS)[0]


def test_ablation_needs_no_probabilities_of_classes():
    model = compiled([*dense(4, "relu"), L.Dense(3), OwnSoftmax()], SPARSE())
    curve = mc.thinning.ablation_curve(model, X, LABELS, 1, fractions=(0,), repeats=1)
    assert curve.accuracy[0, 0] == (model.predict(X).argmax(1) == LABELS).mean()


def test_averaging_of_a_model_that_was_not_compiled():
    model = mc.Sequential([L.Flatten(), L.Dropout(0.5), L.Dense(3)], seed=1, dtype="float64")
    curve = mc.thinning.averaging_curve(model, X, LABELS, counts=(1, 2), repeats=1)
    np.testing.assert_allclose(curve.mean.sum(1), 1)
    assert np.isfinite(curve.log_loss).all()


# ---- a softmax over one value ----


@pytest.mark.parametrize(
    ("chain", "named"),
    [
        (lambda: dense(1, "softmax"), "layer 1, Dense"),
        (lambda: [*dense(1), L.Softmax()], "layer 2, Softmax"),
        (lambda: [L.Conv2D(1, 3, activation="softmax"), L.Flatten()], "layer 0, Conv2D"),
        (lambda: [*dense(1), L.Activation("softmax"), L.Flatten()], "layer 2, Activation"),
    ],
)
def test_a_softmax_over_one_value_is_warned_of(chain, named):
    model = mc.Sequential(chain())
    with pytest.warns(UserWarning, match=f'{named}: a softmax over one value is always 1 .* "sigmoid"') as caught:
        model.build(X.shape[1:])
    assert len(caught) == 1
    with contextlib.suppress(ValueError):
        model.compile("sgd", "binary_crossentropy")  # no second time: warnings are errors
        model.predict(X)


def test_a_log_softmax_over_one_value_is_warned_of():
    with pytest.warns(UserWarning, match="layer 2, LogSoftmax: a log softmax over one value is always 0"):
        mc.Sequential([*dense(1), L.LogSoftmax()]).build(X.shape[1:])


def test_a_softmax_over_two_values_is_not():
    mc.Sequential(dense(2, "softmax")).build(X.shape[1:])
    mc.Sequential([L.Flatten(), L.Dense(1, "sigmoid")]).build(X.shape[1:])


# ---- accuracy of several yes or no ----


@pytest.mark.parametrize("end", ["sigmoid", None])
@pytest.mark.parametrize("name", ["accuracy", "acc", "binary_accuracy", metrics.Accuracy(), metrics.BinaryAccuracy()])
def test_accuracy_of_several_yes_or_no(end, name):
    model = compiled(dense(3, end), "binary_crossentropy", [name])
    right = (model.predict(X) > (0.5 if end else 0)) == YES
    assert 0 < right.mean() < 1
    assert model.evaluate(X, YES)[1] == pytest.approx(right.mean(), rel=1e-12)
    found = mc.Ensemble([model]).evaluate(X, YES)
    assert [*found.values()][1] == pytest.approx(right.mean(), rel=1e-12)


@pytest.mark.parametrize("name", ["categorical_accuracy", "sparse_categorical_accuracy"])
def test_categorical_accuracy_stays_one_of_classes(name):
    model = compiled(dense(3, "sigmoid"), "binary_crossentropy", [name])
    assert model.evaluate(X, ONE_HOT)[1] == (model.predict(X).argmax(1) == LABELS).mean()


@pytest.mark.parametrize("name", ["accuracy", "binary_accuracy", "categorical_accuracy"])
def test_metrics_of_the_outputs_survive_a_file(name, tmp_path):
    model = compiled(dense(3, "sigmoid"), "binary_crossentropy", [name, metrics.BinaryAccuracy("own")])
    model.save(tmp_path / "m.npz")
    again = mc.Sequential.load(tmp_path / "m.npz")
    assert again.evaluate(X, ONE_HOT) == model.evaluate(X, ONE_HOT)


def test_what_outputs_are_before_anything_is_known():
    model = mc.Sequential(dense())
    assert model.outputs_are_logits
    for ask in (lambda: model.output_kind, lambda: model.as_probabilities(np.ones((1, 3)))):
        with pytest.raises(RuntimeError, match="needs build"):
            ask()
    assert model.reading.function == "linear"
    assert outputs.Outputs((), None).function == "linear"


@pytest.mark.parametrize(
    ("chain", "metric", "said"),
    [
        (lambda: dense(), "top_5_accuracy", "TopKAccuracy: .* at least 5 classes"),
        (lambda: dense(1), "top_k_accuracy", "TopKAccuracy: .* at least 5 classes"),
        (lambda: [L.Dense(3)], "accuracy", "Accuracy: outputs must have shape"),
    ],
)
def test_a_metric_that_does_not_fit_is_told_before_the_first_step(chain, metric, said):
    model = compiled(chain(), "mse", [metric])
    before = model.fingerprint(), model.history, model.optimizer.iterations
    y = np.zeros((12, *model.output_shape))
    for train in (model.fit, model.train_on_batch):
        with pytest.raises(ValueError, match=said):
            train(X, y)
    assert (model.fingerprint(), model.history, model.optimizer.iterations) == before


# ---- a metric that can only be NaN ----


def test_weights_of_which_no_metric_can_be_computed():
    zeros, half = np.zeros(12), np.repeat([1.0, 0.0], 6)
    model = compiled(dense(), SPARSE())
    before, history = model.fingerprint(), model.history
    for call in (
        lambda: model.fit(X, LABELS, verbose=0, sample_weight=zeros),
        lambda: model.fit(X, LABELS, verbose=0, class_weight={0: 0, 1: 0, 2: 0}),
        lambda: model.fit(X, LABELS, verbose=0, sample_weight=half, validation_split=0.5),
        lambda: model.fit(X, LABELS, verbose=0, validation_data=(X, LABELS, zeros)),
        lambda: model.evaluate(X, LABELS, sample_weight=zeros),
        lambda: model.evaluate(X, LABELS, sample_weight=np.repeat([1.0, -1.0], 6)),
        lambda: model.train_on_batch(X, LABELS, zeros),
    ):
        with pytest.raises(ValueError, match="must not sum to 0, since then no metric can be computed"):
            call()
    assert (model.fingerprint(), model.history) == (before, history)
    assert compiled(dense(), SPARSE(), []).evaluate(X, LABELS, sample_weight=zeros) == 0
    model.fit(X, LABELS, verbose=0, batch_size=6, shuffle=False, sample_weight=half)  # a batch may weigh nothing
    assert np.isfinite(model.history.history["accuracy"]).all()


# ---- logarithms of probabilities ----


LOGARITHMS = {
    "name": lambda: dense(3, "log_softmax"),
    "class": lambda: [*dense(), L.LogSoftmax(), L.Flatten()],
    "Activation": lambda: [*dense(), L.Activation("log_softmax")],
}


@pytest.mark.parametrize("name", LOGARITHMS)
def test_logarithms_of_probabilities_are_logits(name):
    """Their softmax is the probabilities: loss, gradients, metrics and probabilities are those of the softmax."""
    one, other = compiled(LOGARITHMS[name](), SPARSE()), compiled(dense(3, "softmax"), SPARSE())
    for _ in range(2):
        assert np.allclose(one.evaluate(X, LABELS), other.evaluate(X, LABELS), rtol=1e-9)
        assert np.allclose(one.predict_proba(X), other.predict(X), rtol=1e-9)
        assert np.allclose(np.exp(one.predict(X)), other.predict(X), rtol=1e-9)
        one.train_on_batch(X, LABELS)
        other.train_on_batch(X, LABELS)
    assert np.allclose(one.parameters, other.parameters, rtol=1e-9)


def test_a_loss_of_ones_own_of_logarithms():
    """What PyTorch calls NLLLoss: the outputs are known to be classes nevertheless."""

    def nll(y, outputs):
        gradient = -np.eye(3)[y] / len(y)
        return float((outputs * gradient).sum()), gradient

    one, other = compiled(LOGARITHMS["name"](), nll), compiled(dense(3, "softmax"), SPARSE())
    one.train_on_batch(X, LABELS)
    other.train_on_batch(X, LABELS)
    assert np.allclose(one.parameters, other.parameters, rtol=1e-9)
    assert np.allclose(one.predict_proba(X), other.predict(X), rtol=1e-9)


@pytest.mark.parametrize("loss", [BINARY(), SPARSE(from_logits=False)])
def test_logarithms_of_probabilities_are_no_probabilities(loss):
    for make in LOGARITHMS.values():
        with pytest.raises(ValueError, match=r"^Sequential: \w+: cannot work on logarithms of probabilities"):
            compiled(make(), loss)
    assert compiled(LOGARITHMS["name"](), SPARSE(from_logits=True)).outputs


def test_a_layer_that_says_something_else_is_read_again():
    """Also where nothing was set that a model can see: a property of a custom layer's own."""

    class Last(mc.Layer):
        _says = "linear"
        output_function = property(lambda self: self._says)

        def forward(self, x, training=False):
            return x

        def backward(self, dy):
            return dy

    model = mc.Sequential([L.Dense(3), Last()], seed=0)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.build((4,))
    assert model.outputs_are_logits
    model.layers[-1]._says = "sigmoid"
    assert not model.outputs_are_logits
