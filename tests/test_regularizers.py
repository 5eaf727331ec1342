"""Regularisers against their formulas, and the loss and the gradients of models that have them."""

import concurrent.futures
import copy
import json
import math
import pickle
import tracemalloc

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from models import IMAGE, LABELS, ONE_HOT, Halve, X, compiled, small, trained, whole_state
from running import THREADS, backward_calls, build, dtypes, layouts, normal, run, use_threads

import minicnn as mc
from minicnn import ModelFileError, layers, optimizers, regularizers, saving, training
from minicnn._ext import penalty as kernels
from minicnn.document import describe, write
from minicnn.recording import collect_penalties, mean_penalty
from minicnn.regularizers import L1, L1L2, L2, Penalties, Regularizer
from minicnn.testing import GradientError, gradcheck

RATES = [(0.3, 0.0), (0.0, 0.7), (0.2, 0.5)]


class Largest(Regularizer):
    """A custom one: the square of the largest weight."""

    def __init__(self, rate=0.5):
        self.rate = rate

    def __call__(self, w):
        return self.rate * float(np.abs(w).max()) ** 2

    def gradient(self, w):
        return np.where(np.abs(w) == np.abs(w).max(), 2 * self.rate * w, 0)


def chain(end="softmax", own=None):
    """Every kind of regulariser: in front of a pooling, in the middle, and on a softmax that the loss is fused with."""
    return [
        layers.Conv2D(4, 3, padding="same", activation="relu", kernel_regularizer=L2(0.02), bias_regularizer="l1",
                      activity_regularizer=L1(0.03)),
        layers.MaxPooling2D(2),
        layers.Dropout(0.3),
        layers.Conv2D(3, 2, activity_regularizer=L2(0.04)),
        layers.Flatten(),
        layers.Dense(6, activation="gelu", kernel_regularizer=own, activity_regularizer=L1L2(0.02, 0.05)),
        layers.Dense(4, activation=end, kernel_regularizer=L1L2(0.01, 0.02), activity_regularizer=L2(0.3)),
    ]  # fmt: skip


def model_of(end="softmax", optimizer=None, extra=(), own=None, dtype="float32", **more):
    parts = chain(end, own)
    for place in extra:
        parts.insert(place, Halve())
    model = mc.Sequential(parts, seed=2, dtype=dtype)
    model.build(IMAGE)
    rng = np.random.default_rng(3)
    for layer in model.layers:
        if "bias" in layer.params:
            layer.params["bias"][...] = rng.normal(size=layer.params["bias"].shape)
    loss = more.get("loss", "sparse_categorical_crossentropy")
    model.compile(optimizer or optimizers.SGD(0.1, momentum=0.9), loss, ["accuracy"])
    return model


# ---- the objects ----


@pytest.mark.parametrize(("l1", "l2"), RATES)
@given(shape=st.lists(st.integers(1, 9), min_size=1, max_size=4), dtype=dtypes)
def test_an_object_is_its_formula(l1, l2, shape, dtype):
    w = normal(shape, dtype)
    w.flat[0] = 0
    regularizer = L1L2(l1, l2)
    assert regularizer(w) == pytest.approx(reference.penalty(w, l1, l2), rel=1e-12)
    assert_close(regularizer.gradient(w), reference.penalty_grad(w, l1, l2), tolerance(dtype), dtype)
    assert regularizer.gradient(w).flat[0] == 0


def test_defaults_are_keras():
    assert (L1().l1, L2().l2, L1L2().l1, L1L2().l2) == (0.01, 0.01, 0, 0)
    assert L1(0.5)([1.0, -2.0]) == 1.5
    assert L2(0.5)([[1, -2]]) == 2.5
    assert repr(L1L2(0.5, l2=1)) == "L1L2(l1=0.5, l2=1.0)"


@pytest.mark.parametrize(("value", "want"), [
    (None, "None"), ("l1", "L1(l1=0.01)"), ("l2", "L2(l2=0.01)"), ("l1_l2", "L1L2(l1=0.0, l2=0.0)"),
    ("L2", "L2(l2=0.01)"), (L1(3), "L1(l1=3.0)"), ({"name": "L2", "config": {}}, "L2(l2=0.01)"),
    ({"name": "L1L2", "config": {"l1": 1, "l2": 2}}, "L1L2(l1=1.0, l2=2.0)"),
])  # fmt: skip
def test_get(value, want):
    assert repr(regularizers.get("Dense", "kernel_regularizer", value)) == want


WRONG = [
    ("l3", ValueError, r"kernel_regularizer must be one of 'l1', 'l2', .*; got 'l3'"),
    (L2, TypeError, r"kernel_regularizer must be None, one of .*; got the class L2. Did you mean L2\(\)\?"),
    (
        0.01,
        TypeError,
        r"kernel_regularizer must be None, one of 'l1', 'l2', 'l1_l2' or a Regularizer; got 0.01 \(float\)",
    ),
    (len, TypeError, r"kernel_regularizer must be None, .*; got <built-in function len> .*"),
    ({"name": "L2"}, ValueError, r"kernel_regularizer: config must be a dictionary with .*; got .*"),
    ({"name": "L2", "config": []}, ValueError, r"kernel_regularizer: config must be a dictionary with .*; got .*"),
    ({"name": "Largest", "config": {}}, ValueError, r"kernel_regularizer: the name must be one of .*; got 'Largest'"),
    ({"name": ["L2"], "config": {}}, TypeError, r"kernel_regularizer: the name must be one of .*"),
]


@pytest.mark.parametrize(("value", "error", "message"), WRONG)
@pytest.mark.parametrize("layer", [lambda **more: layers.Conv2D(2, 1, **more), lambda **more: layers.Dense(2, **more)])
def test_wrong_arguments(layer, value, error, message):
    for place in ("kernel", "bias", "activity"):
        with pytest.raises(error, match=rf"^(Conv2D|Dense): {message.replace('kernel', place)}$"):
            layer(**{f"{place}_regularizer": value})


@pytest.mark.parametrize("make", [L1, L2, L1L2])
@pytest.mark.parametrize(("rate", "error"), [
    (-0.1, ValueError), (math.nan, ValueError), (math.inf, ValueError), ("1", TypeError), (True, TypeError),
    (None, TypeError),
])  # fmt: skip
def test_wrong_rates(make, rate, error):
    with pytest.raises(error, match=rf"^{make.__name__}: l[12] must be a number >= 0; got "):
        make(rate)
    with pytest.raises(TypeError, match=r"^L2: the keywords are l2; got `l1`$"):
        L2(l1=1)


def test_one_of_ones_own_cannot_look_at_outputs():
    with pytest.raises(TypeError, match=r"^Dense: activity_regularizer must be L1, L2, L1L2 or None; got Largest"):
        layers.Dense(2, activity_regularizer=Largest())
    assert layers.Dense(2, kernel_regularizer=Largest(), bias_regularizer=Largest(2)).bias_regularizer.rate == 2


# ---- the kernels ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_penalties_of_flat_vectors(dtype):
    """Pieces of one block and of several, gaps between, every thread count: the formula, and the same bits."""
    sizes, rng = [7, 3 * kernels.BLOCK + 5, 1, 40], np.random.default_rng(0)
    parameters = rng.standard_normal(sum(sizes) + 30).astype(dtype)
    data = rng.standard_normal(parameters.size).astype(dtype)
    offsets = [0, 20, 3 * kernels.BLOCK + 30, 3 * kernels.BLOCK + 40]
    rules = [L1(0.5), L1L2(0.2, 0.3), L2(2.0), Largest()]
    parameters[[1, 25]] = 0
    found = []
    for threads in THREADS:
        use_threads(threads)
        gradients = data.copy()
        regularized = [(str(i), *row) for i, row in enumerate(zip(rules, offsets, [(n,) for n in sizes], strict=True))]
        penalties = Penalties(parameters, gradients, regularized)
        assert penalties
        value = penalties.value()
        penalties.add_gradients()
        found.append((value, gradients))
    want, total = data.astype(np.float64), 0.0
    for rule, offset, size in zip(rules, offsets, sizes, strict=True):
        part = parameters[offset : offset + size].astype(np.float64)
        total += rule(part)
        want[offset : offset + size] += rule.gradient(part)
    assert found[0][0] == pytest.approx(total, rel=1e-12)
    assert_close(found[0][1], want, tolerance(dtype), dtype)
    for value, gradients in found[1:]:
        assert value == found[0][0]
        assert_same_bits(gradients, found[0][1])
    assert not Penalties(parameters, data, [])
    assert Penalties(parameters, data, []).value() == 0


@pytest.mark.parametrize(("l1", "l2"), RATES)
@given(n=st.integers(0, 5), shape=st.sampled_from([(1,), (17,), (5, 4, 3), (70, 80, 9)]), dtype=dtypes)
def test_penalties_of_outputs(l1, l2, n, shape, dtype):
    y, dy = normal((n, *shape), dtype), normal((n, *shape), dtype, 1)
    flat = n, math.prod(shape)
    found, out = np.full(n, np.nan), np.full(flat, np.nan, dtype)
    kernels.of_samples(y.reshape(flat), l1, l2, found)
    assert_close(found, [reference.penalty(one, l1, l2) for one in y], 1e-12)
    kernels.slope(y.reshape(flat), dy.reshape(flat), l1, 2 * l2, out)
    scale = np.abs(out).max(initial=1)
    assert_close(out, (dy + reference.penalty_grad(y, l1, l2)).reshape(flat), tolerance(dtype), dtype, scale)
    kernels.slope(y.reshape(flat), None, l1, 2 * l2, out)
    assert_close(out, reference.penalty_grad(y, l1, l2).reshape(flat), tolerance(dtype), dtype, scale)


# ---- a layer alone ----


@pytest.mark.parametrize("activation", [None, "relu", "gelu", "softmax"])
@pytest.mark.parametrize("kind", ["Conv2D", "Dense"])
@given(layout=layouts)
def test_a_layer_alone(kind, activation, layout):
    """Its backward has the penalty of its outputs and not those of its parameters; it says what each sample adds."""
    more = {"kernel_regularizer": "l2", "bias_regularizer": "l1"}
    make = getattr(layers, kind)
    arguments = ((3, 2), (4, 5, 2)) if kind == "Conv2D" else ((5,), (6,))
    plain, penalised = (
        build(make(*arguments[0], activation=activation, **options), arguments[1])
        for options in ({}, more | {"activity_regularizer": L1L2(0.7, 0.4)})
    )
    x, dy = normal((4, *arguments[1]), "float32"), normal((4, *plain.output_shape), "float32", 1)
    y = plain.forward(x)
    with collect_penalties() as found:
        got = run(penalised, x, dy, layout)
        assert_same_bits(penalised.forward(x), y)
    assert len(found) == 2
    assert_same_bits(*found)
    assert mean_penalty(found[:1], 4) == pytest.approx(reference.activity_penalty(y, 0.7, 0.4), rel=1e-6)
    want = run(plain, x, (dy + reference.activity_penalty_grad(y, 0.7, 0.4)).astype(np.float32))
    for name in want:
        assert_close(got[name], want[name], 1e-5, np.float32)


def test_nobody_need_listen():
    layer = build(layers.Dense(3, activity_regularizer="l2"), (4,))
    with collect_penalties() as outer:
        with collect_penalties() as inner:
            layer.forward(normal((2, 4)))
        assert (len(inner), outer) == (1, [])
    layer.forward(normal((2, 4)))
    assert (len(inner), outer) == (1, [])


# ---- the loss of a model ----


def reference_loss(model, x, labels):
    """Loss and its parts of a model of Dense layers in float64: (data, parameters, outputs)."""
    h, activity = x, 0.0
    for layer in model.layers:
        z = reference.dense(h, layer.params["kernel"], layer.params["bias"])
        h = reference.activation(layer.activation or "linear", z)
        if layer.activity_regularizer:
            activity += reference.activity_penalty(h, layer.activity_regularizer.l1, layer.activity_regularizer.l2)
    data, _ = reference.cross_entropy(h, reference.one_hot(labels, h.shape[1]))
    weights = sum(
        reference.penalty(layer.params[key], rule.l1, rule.l2)
        for layer in model.layers
        for key in layer.params
        if (rule := getattr(layer, f"{key}_regularizer"))
    )
    return data, weights, activity


def dense_model(dtype="float64", optimizer="sgd"):
    model = mc.Sequential([
        layers.Dense(7, activation="tanh", kernel_regularizer=L2(0.3), activity_regularizer=L1(0.2)),
        layers.Dense(6, bias_regularizer=L1L2(0.1, 0.2), activity_regularizer=L2(0.1)),
        layers.Dense(5, activation="softmax", kernel_regularizer=L1(0.05), activity_regularizer=L1L2(0.3, 0.4)),
    ], seed=1, dtype=dtype)  # fmt: skip
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.build(9)
    return model


def test_the_loss_against_numpy():
    """Everywhere the same number: by hand in both modes, evaluate, a step, and with the parts added up."""
    model, x, labels = dense_model(), normal((8, 9)), np.arange(8) % 5
    data, weights, activity = reference_loss(model, x, labels)
    assert min(data, weights, activity) > 0.1
    assert model.penalty() == pytest.approx(weights, rel=1e-12)
    want = pytest.approx(data + weights + activity, rel=1e-10)
    assert model.loss(model.forward(x), labels)[0] == want
    assert model.loss(model.forward(x, training=True), labels)[0] == want
    assert model.evaluate(x, labels) == want
    assert model.evaluate(x, labels, batch_size=3) == want
    assert model.fit(x, labels, epochs=0, verbose=0).history == {}
    twin = copy.deepcopy(model)
    history = model.fit(x, labels, batch_size=8, validation_data=(x, labels), verbose=0).history
    assert history["loss"] == [want]
    assert twin.train_on_batch(x, labels)["loss"] == want
    after = reference_loss(model, x, labels)
    assert history["val_loss"] == [pytest.approx(sum(after), rel=1e-10)]
    assert sum(after) < data + weights + activity


def test_weights_of_samples_scale_no_penalty():
    model, x, labels = dense_model(), normal((8, 9)), np.arange(8) % 5
    data, weights, activity = reference_loss(model, x, labels)
    want = pytest.approx(0.5 * data + weights + activity, rel=1e-10)
    half = np.full(8, 0.5)
    assert model.evaluate(x, labels, sample_weight=half) == want
    assert model.loss(model.forward(x), labels, half)[0] == want
    assert model.train_on_batch(x, labels, class_weight=dict.fromkeys(range(5), 0.5))["loss"] == want


@pytest.mark.parametrize("end", ["softmax", None, "sigmoid"])
@pytest.mark.parametrize("at", [None, "outputs"])
def test_every_gradient_by_finite_differences(end, at):
    """Of the whole loss of a model, after its own backward, dropout held still."""
    loss = "sparse_categorical_crossentropy" if end != "sigmoid" else "binary_crossentropy"
    model = model_of(end, dtype="float64", loss=loss, own=Largest())
    y = LABELS if end != "sigmoid" else ONE_HOT
    model.layers[2].freeze_mask()
    x = X.astype(np.float64)

    def loss_of(parameters):
        model.parameters[...] = parameters
        return model.loss(model.forward(x, training=True), y)[0]

    parameters = model.parameters.copy()
    outputs = model.forward(x, training=True)
    _, gradient = model.loss(outputs, y)
    if at == "outputs":
        if end == "softmax":
            gradient = gradient / outputs  # to the outputs: p dy is what was dz, since the rows of dz sum to 0
        model.backward(gradient, at=at)
    else:
        model.backward(gradient)
    gradients = model.gradients.copy()
    places = [(name, offset + i) for name, offset, size, *_ in model.segments for i in range(0, size, 1 + size // 9)]
    for name, place in places:
        step = np.zeros_like(parameters)
        step[place] = 1e-6
        measured = (loss_of(parameters + step) - loss_of(parameters - step)) / 2e-6
        assert measured == pytest.approx(gradients[place], rel=1e-5, abs=1e-7), name


@pytest.mark.parametrize(
    ("end", "extra", "own"), [("softmax", [], None), ("softmax", [0, 3], Largest()), (None, [5, 8], None)]
)
def test_by_hand_fit_and_train_on_batch_give_the_same_bits(end, extra, own):
    """With layers in Python too, at several batch sizes and thread counts."""
    by_fit, by_batch, by_hand = (model_of(end, extra=extra, own=own) for _ in range(3))
    use_threads(2)
    history = by_fit.fit(X, LABELS, batch_size=5, epochs=2, verbose=0).history
    use_threads(1)
    losses = []
    for epoch in range(2):
        total = 0.0
        for x, y in mc.datasets.batches(X, LABELS, 5, by_fit.seed, epoch):
            total += by_batch.train_on_batch(x, y)["loss"] * len(x)
        losses.append(total / len(X))
    assert history["loss"] == losses
    for epoch in range(2):
        for x, y in mc.datasets.batches(X, LABELS, 5, by_fit.seed, epoch):
            by_hand.train()
            _, gradient = by_hand.loss(by_hand.forward(x), y)
            by_hand.backward(gradient, input_gradient=epoch == 0)
            by_hand.optimizer.step()
    assert whole_state(by_fit) == whole_state(by_batch) == whole_state(by_hand)
    assert by_fit.evaluate(X, LABELS) == by_hand.evaluate(X, LABELS)


@pytest.mark.parametrize("activation", ["relu", "tanh", "elu"])
def test_a_plan_has_the_bits_of_layers_called_by_hand(activation):
    """In front of a max pooling too, behind which a plan takes the gradient of other activations."""

    def make():
        regularizer = {"activity_regularizer": L1L2(0.3, 0.7)}
        parts = [layers.Conv2D(6, 2, activation=activation, **regularizer), layers.MaxPooling2D(2), layers.Flatten()]
        model = mc.Sequential([*parts, layers.Dense(4, activation="softmax", **regularizer)], seed=4)
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    planned, by_hand = make(), make()
    x, y = X[:8], LABELS[:8]  # a power of two, so that a mean over 8 samples of one loss is that loss
    for _ in range(3):
        value = planned.train_on_batch(x, y)["loss"]
        loss, gradient = by_hand.loss(by_hand.forward(x, training=True), y)
        for number, call in backward_calls(by_hand).items():
            gradient = by_hand.layers[number].gradient(gradient, *call)
        by_hand.optimizer.step()
        assert value == loss
        assert planned.fingerprint() == by_hand.fingerprint()


class Doubled(layers.Dense):
    """A subclass that runs as Python inside a plan; what it inherits still penalises."""

    def forward(self, x, training=False):
        return super().forward(x, training)


def test_a_subclass_in_python():
    def make(kind):
        model = mc.Sequential([layers.Flatten(), kind(5, activity_regularizer=L2(0.5)), layers.Dense(4)], seed=3)
        model.compile("sgd", "mse")
        model.fit(X, ONE_HOT, batch_size=5, verbose=0)
        return model

    compiled_one, python = make(layers.Dense), make(Doubled)
    assert compiled_one.fingerprint() == python.fingerprint()
    assert compiled_one.evaluate(X, ONE_HOT) == python.evaluate(X, ONE_HOT)
    for training_mode in (False, True):
        both = [model.loss(model.forward(X, training_mode), ONE_HOT)[0] for model in (compiled_one, python)]
        assert both[0] == both[1]


class Slopes(Halve):
    """A custom layer whose parameter is regularised by the name of its attribute."""

    def __init__(self, slope_regularizer=None):
        self.slope_regularizer = slope_regularizer

    def build(self, input_shape, rng):
        self.add_param("slope", (3,), lambda shape, rng: np.full(shape, 2.0), rng)
        return super().build(input_shape, rng)

    def backward(self, dy):
        self.grads["slope"] = np.ones(3)  # assigned, not written
        return dy / 2


def test_a_parameter_of_a_custom_layer():
    model = mc.Sequential([layers.Flatten(), Slopes(L2(0.5)), layers.Dense(4)])
    model.build(IMAGE)
    assert model.penalty() == 6
    model.compile(optimizers.SGD(0.1), "mse")
    for _ in range(2):
        model.train_on_batch(X, ONE_HOT)
    assert_close(model.layers[1].params["slope"], np.full(3, (2 - 0.3) * 0.9 - 0.1), 1e-6)


def test_a_layer_that_is_not_trained():
    model = model_of()
    layer = model.layers[0]
    before, bias, penalty = layer.params["kernel"].copy(), layer.params["bias"].copy(), model.penalty()
    value = model_of().train_on_batch(X, LABELS)["loss"]
    layer.trainable = False
    of_layer = penalty - model.penalty()
    assert of_layer == pytest.approx(layer.kernel_regularizer(before) + layer.bias_regularizer(bias), rel=1e-6)
    assert model.train_on_batch(X, LABELS)["loss"] == pytest.approx(value - of_layer, rel=1e-6)
    assert_same_bits(model.layers[0].params["kernel"], before)


def test_what_is_regularised_is_looked_up_by_compile():
    model = small()
    assert model.penalty() == 0
    model.layers[0].kernel_regularizer = L2(1.0)
    model.compile("sgd", "mse")
    assert model.penalty() == pytest.approx(np.square(model.layers[0].params["kernel"]).sum(), rel=1e-6)
    model.layers[0].params["kernel"] = np.zeros_like(model.layers[0].params["kernel"])
    assert model.penalty() == 0


def test_loss_needs_the_forward_of_its_outputs():
    model, outputs = model_of(), model_of().predict(X)
    message = "^Sequential.loss: needs forward over the same samples before it, in this thread: a layer penalises its"
    with pytest.raises(RuntimeError, match=message):
        model.loss(outputs, LABELS)
    model.forward(X)
    model.loss(outputs, LABELS)
    with pytest.raises(RuntimeError, match=message):
        model.loss(outputs[:5], LABELS[:5])
    with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match=message):
        pool.submit(model.loss, outputs, LABELS).result()
    assert compiled().loss(outputs, LABELS)[0] > 0  # without such layers nothing is needed


def test_several_threads_evaluate_at_once():
    model, parts = model_of(), [X[:n] for n in (12, 7, 3, 1)]
    want = [model.loss(model.forward(part), LABELS[: len(part)])[0] for part in parts]
    assert len(set(want)) == 4

    def work(i):
        part = parts[i % 4]
        if i % 2:
            return model.evaluate(part, LABELS[: len(part)])[0]
        return model.loss(model.forward(part), LABELS[: len(part)])[0]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for i, value in enumerate(pool.map(work, range(60))):
            assert value == want[i % 4]


# ---- what else is in a step ----


def test_l2_is_weight_decay_for_plain_sgd():
    """w -= rate (g + 2 l2 w) and w -= rate g + rate decay w, with decay = 2 l2; not with momentum."""
    for momentum in (0.0, 0.9):
        penalised = mc.Sequential([layers.Flatten(), layers.Dense(4, use_bias=False, kernel_regularizer=L2(0.2))])
        decayed = mc.Sequential([layers.Flatten(), layers.Dense(4, use_bias=False)])
        penalised.compile(optimizers.SGD(0.1, momentum), "mse")
        decayed.compile(optimizers.SGD(0.1, momentum, weight_decay=0.4), "mse")
        for model in (penalised, decayed):
            model.fit(X, ONE_HOT, epochs=5, verbose=0)
        difference = np.abs(penalised.parameters - decayed.parameters).max()
        assert difference < 1e-6 if momentum == 0 else difference > 1e-3


def test_a_penalty_is_clipped_with_the_rest():
    model = mc.Sequential([layers.Flatten(), layers.Dense(4, kernel_regularizer=L2(1e3))], dtype="float64")
    model.compile(optimizers.SGD(1.0, clipnorm=1e-3), "mse")
    model.build(IMAGE)
    before = model.parameters.copy()
    model.train_on_batch(X, ONE_HOT)
    assert np.linalg.norm(model.parameters - before) == pytest.approx(1e-3)


def test_rates_of_0_change_no_bit():
    def end(**more):
        model = mc.Sequential([layers.Flatten(), layers.Dense(4, activation="softmax", **more)], seed=5)
        model.compile("adam", "sparse_categorical_crossentropy")
        history = model.fit(X, LABELS, batch_size=5, epochs=2, verbose=0, validation_data=(X, LABELS)).history
        return model.fingerprint(), history

    assert end(kernel_regularizer="l1_l2", bias_regularizer=L1(0)) == end()


def test_a_step_allocates_no_array():
    n = 1000
    x, y, chosen = np.resize(X, (n, *IMAGE)), np.resize(LABELS, n), np.arange(n)
    model = model_of(optimizer=optimizers.SGD(1e-4))
    mean = training.Means(model)

    def steps(count):
        for _ in range(count):
            training.Step(model, x, y, None).run(chosen, mean, str)

    steps(3)
    tracemalloc.start()
    try:
        steps(1)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        steps(5)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert max(after, peak) - before < 6000


class Bad(Largest):
    def __call__(self, w):
        return self.rate


@pytest.mark.parametrize(("value", "error", "message"), [
    (math.nan, FloatingPointError, "must stay finite; first not finite: the penalty of the parameters; got nan"),
    (math.inf, FloatingPointError, "first not finite: the penalty of the parameters; got inf"),
    ([1.0], TypeError, r"^Bad: the penalty of '5.kernel' must be one number; got \[1.0\] \(list\)\nat "),
    (None, TypeError, r"^Bad: the penalty of '5.kernel' must be one number; got None \(NoneType\)\nat "),
])  # fmt: skip
def test_a_bad_penalty_of_ones_own_changes_nothing(value, error, message):
    model = model_of(own=Bad(value))
    before = whole_state(model)
    with pytest.raises(error, match=message):
        model.train_on_batch(X, LABELS)
    assert whole_state(model) == before


class Misshapen(Largest):
    def gradient(self, w):
        w[...] = 0  # a copy
        return w[0]


def test_a_bad_gradient_of_ones_own_changes_nothing():
    model = model_of(own=Misshapen())
    before = whole_state(model)
    required = r"^Misshapen.gradient: the gradient of '5.kernel' must have shape \(6, 6\); got shape \(6,\)\nat "
    with pytest.raises(ValueError, match=required):
        model.train_on_batch(X, LABELS)
    assert whole_state(model) == before


# ---- gradcheck ----


@pytest.mark.parametrize("end", ["softmax", None])
def test_gradcheck_of_a_model(end):
    assert gradcheck(model_of(end, own=Largest()), normal((3, *IMAGE)))
    fresh = mc.Sequential(
        chain(end)
    )  # biases of 0, on the corner of L1: its slope there is 0, and so is what is measured
    assert gradcheck(fresh, normal((3, *IMAGE)))


class Forgets(layers.Dense):
    """Tells of a penalty and has no gradient for it."""

    def _activity_slope(self, y, dy):
        return dy


class TwiceOver(L2):
    def gradient(self, w):
        return 2 * super().gradient(w)


def test_gradcheck_sees_a_wrong_penalty():
    with pytest.raises(GradientError, match="Forgets: gradient of x"):
        gradcheck(Forgets(3, activity_regularizer=L2(2.0)), normal((4, 5)))
    with pytest.raises(GradientError, match=r"Dense: gradient of 0.kernel"):
        gradcheck(mc.Sequential([layers.Dense(3, kernel_regularizer=TwiceOver(2.0))]), normal((4, 5)))
    assert gradcheck(layers.Dense(3, kernel_regularizer=TwiceOver(2.0)), normal((4, 5)))  # not the layer's business


# ---- files and copies ----


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_keep_regularisers(duplicate):
    model = model_of(own=Largest())
    model.fit(X, LABELS, batch_size=5, verbose=0)
    other = duplicate(model)
    assert other.penalty() == model.penalty()
    assert other.train_on_batch(X, LABELS) == model.train_on_batch(X, LABELS)
    assert other.fingerprint() == model.fingerprint()


def test_files_keep_regularisers(tmp_path):
    model = model_of()
    model.fit(X, LABELS, batch_size=5, verbose=0)
    model.save(tmp_path / "model.npz")
    loaded = mc.Sequential.load(tmp_path / "model.npz")
    assert repr(loaded) == repr(model)
    assert loaded.penalty() == model.penalty()
    assert loaded.evaluate(X, LABELS) == model.evaluate(X, LABELS)
    saving.save_checkpoint(model, tmp_path / "run.npz", 1, {"loss": [1.0]})
    resumed, _, _ = saving.load_checkpoint(tmp_path / "run.npz")
    for one in (model, resumed):
        one.fit(X, LABELS, batch_size=5, epochs=3, initial_epoch=1, verbose=0)
    assert whole_state(model) == whole_state(resumed)


def written(path, change):
    """A file whose layers have the configuration that ``change`` makes of a good one."""
    document, arrays = describe(trained())
    change(document["model"]["layers"][0]["config"])
    write(path, document, arrays)
    return path


def test_files_from_before_there_were_regularisers(tmp_path):
    def older(config):
        for name in ("bias_regularizer", "activity_regularizer", "bias_constraint"):
            del config[name]

    loaded = mc.Sequential.load(written(tmp_path / "old.npz", older))
    assert loaded.fingerprint() == trained().fingerprint()
    assert loaded.layers[0].activity_regularizer is None


HOSTILE = [
    "l3", 3, [], ["l2"], {}, {"name": "L2"}, {"name": "L2", "config": {"l2": -1}},
    {"name": "L2", "config": {"l2": "1"}}, {"name": "L2", "config": {"l2": 10**400}},
    {"name": "L2", "config": {"__class__": 1}}, {"name": "os.system", "config": {}},
    {"name": {"name": "L2"}, "config": {}}, {"name": "MaxNorm", "config": {}},
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE, ids=str)
@pytest.mark.parametrize("argument", ["kernel_regularizer", "bias_regularizer", "activity_regularizer"])
def test_hostile_files(tmp_path, argument, value):
    path = written(tmp_path / "bad.npz", lambda config: config.update({argument: value}))
    with pytest.raises(ModelFileError, match=r"bad\.npz: does not describe a model that can be rebuilt"):
        mc.Sequential.load(path)


def test_one_of_ones_own_cannot_be_saved(tmp_path):
    with pytest.raises(
        TypeError, match=r"^Sequential.save: the arguments of every layer must be ready for JSON; .*Largest"
    ):
        model_of(own=Largest()).save(tmp_path / "model.npz")
    config = model_of().get_config()
    assert json.loads(json.dumps(config))["layers"][0]["config"]["kernel_regularizer"]["config"] == {"l2": 0.02}


def test_kerass_other_names():
    for name, cls in {"l1": regularizers.L1, "l2": regularizers.L2, "l1_l2": regularizers.L1L2}.items():
        assert getattr(regularizers, name) is cls
