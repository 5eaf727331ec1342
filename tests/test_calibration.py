"""Calibration: the errors against a twin from the formulas and cases by hand, and temperature scaling."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import reference
from compare import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st

import minicnn as mc
from minicnn import calibration, layers
from minicnn.calibration import (
    brier_score,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    optimal_temperature,
    reliability_curve,
)

RNG = np.random.default_rng(3)


def softmax(z):
    return reference.softmax(np.asarray(z, np.float64))


# ---- the errors ----


def twin(confidence, right, edges, norm):
    """Bin by bin, sample by sample."""
    gaps = []
    for b, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = [i for i, c in enumerate(confidence) if low < c <= high or (b == 0 and c == 0)]
        if inside:
            gap = abs(sum(float(right[i]) for i in inside) - sum(confidence[i] for i in inside)) / len(inside)
            gaps.append((len(inside) / len(confidence), gap))
    if norm == "max":
        return max(gap for _, gap in gaps)
    if norm == "l1":
        return sum(weight * gap for weight, gap in gaps)
    return sum(weight * gap**2 for weight, gap in gaps) ** 0.5


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 20), st.integers(0, 2**32), st.booleans())
def test_against_the_twin(n, classes, n_bins, seed, sharp):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, classes)) * (10 if sharp else 1)
    if classes == 1:
        p, y = 1 / (1 + np.exp(-z)), rng.integers(0, 2, n)
        confidence, right = p[:, 0], y == 1
    else:
        p, y = softmax(z), rng.integers(0, classes, n)
        confidence, right = p.max(1), p.argmax(1) == y
    edges = [b / n_bins for b in range(n_bins + 1)]
    ranked = sorted(confidence)
    masses = sorted({0.0, 1.0, *(ranked[-(-n * b // n_bins) - 1] for b in range(1, n_bins))})
    for strategy, borders in (("uniform", edges), ("quantile", masses)):
        curve = reliability_curve(y, p, n_bins, strategy)
        assert curve.count.sum() == n
        for norm in ("l1", "l2", "max"):
            want = pytest.approx(twin(confidence, right, borders, norm), abs=1e-12)
            assert expected_calibration_error(y, p, n_bins, norm, strategy) == want
            assert curve.error(norm) == want
        assert (curve.ece, curve.mce) == (curve.error("l1"), curve.error("max"))
        assert (curve.count > 0).all() or strategy == "uniform"
        assert curve.of_one == (classes == 1)
        if classes > 1:
            assert curve.overconfidence == pytest.approx(confidence.mean() - right.mean(), abs=1e-12)
        assert abs(curve.overconfidence) <= curve.ece + 1e-12


# Four samples of three classes: confidences 0.9 (right), 0.8 (wrong), 0.5 (right), 0.55 (wrong).
P = np.array([[0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5], [0.55, 0.2, 0.25]])
Y = np.array([0, 2, 2, 1])


def test_one_probability_is_as_sure_of_class_0():
    p, y = np.array([0.99, 0.01] * 10), np.array([1, 0] * 8 + [0, 1] * 2)  # right in 16 of 20
    one, two = reliability_curve(y, p, 10), reliability_curve(y, np.stack([1 - p, p], 1), 10)
    assert one.overconfidence == pytest.approx(two.overconfidence) == pytest.approx(0.99 - 0.8)
    assert one.ece == pytest.approx(two.ece)


def test_bins_of_equal_mass_are_never_empty():
    curve = reliability_curve([0, 1, 0, 1], np.full((4, 2), (0.9, 0.1)), 2, "quantile")
    np.testing.assert_array_equal(curve.edges, [0, 1])
    np.testing.assert_array_equal(curve.count, [4])


def test_by_hand():
    curve = reliability_curve(Y, P, n_bins=2)  # (0, 1/2] holds 0.5 alone
    np.testing.assert_array_equal(curve.edges, [0, 0.5, 1])
    np.testing.assert_array_equal(curve.count, [1, 3])
    np.testing.assert_allclose(curve.confidence, [0.5, 0.75])
    np.testing.assert_allclose(curve.accuracy, [1, 1 / 3])
    assert curve.ece == pytest.approx((0.5 + 3 * (0.75 - 1 / 3)) / 4)
    assert curve.mce == pytest.approx(0.5)
    assert curve.error("l2") == pytest.approx(((0.5**2 + 3 * (0.75 - 1 / 3) ** 2) / 4) ** 0.5)
    assert curve.overconfidence == pytest.approx(0.6875 - 0.5)
    assert expected_calibration_error(Y, P, 1) == pytest.approx(0.6875 - 0.5)
    assert expected_calibration_error(Y, P) == pytest.approx((0.1 + 0.8 + 0.5 + 0.55) / 4)  # 15 bins: each alone
    assert brier_score(Y, P) == pytest.approx((0.02 + (0.01 + 0.64 + 0.81) + 0.375 + (0.3025 + 0.64 + 0.0625)) / 4)
    assert negative_log_likelihood(Y, P) == pytest.approx(-np.log([0.9, 0.1, 0.5, 0.2]).mean())


def test_bins_of_equal_mass_and_ties():
    confidence = np.repeat([0.6, 0.7, 0.8, 0.9, 1.0, 1.0, 1.0, 1.0], 1)
    curve = reliability_curve(np.ones(8, int), confidence, 4, "quantile")
    np.testing.assert_array_equal(curve.edges, [0, 0.7, 0.9, 1.0])  # the two upper ones are one
    np.testing.assert_array_equal(curve.count, [2, 2, 4])
    order = RNG.permutation(8)
    again = reliability_curve(np.ones(8, int), confidence[order], 4, "quantile")
    np.testing.assert_array_equal(again.count, curve.count)
    many = reliability_curve(RNG.integers(0, 2, 100), RNG.random(100), 7, "quantile")
    assert set(many.count) == {14, 15}


def test_a_single_probability_is_that_of_class_1():
    p, y = np.array([0.05, 0.15, 0.95, 0.3]), np.array([0, 1, 1, 0])
    curve = reliability_curve(y, p, 10)
    np.testing.assert_array_equal(curve.count, [1, 1, 1, 0, 0, 0, 0, 0, 0, 1])  # 0.3 is in (0.2, 0.3]
    np.testing.assert_array_equal(curve.accuracy[[0, 1, 2, 9]], [0, 1, 0, 1])
    assert np.isnan(curve.confidence[4])
    assert np.isnan(curve.accuracy[4])
    assert curve.ece == pytest.approx((0.05 + 0.85 + 0.3 + 0.05) / 4)
    assert brier_score(y, p) == pytest.approx((p - y).__pow__(2).mean())
    assert negative_log_likelihood(y, p) == pytest.approx(-np.log([0.95, 0.15, 0.95, 0.7]).mean())
    both = np.stack([1 - p, p], 1)
    assert brier_score(y, both) == pytest.approx(brier_score(y, p))
    assert negative_log_likelihood(y, both) == pytest.approx(negative_log_likelihood(y, p))
    assert expected_calibration_error(y, both) == pytest.approx((0.05 + 0.85 + 0.05 + 0.3) / 4)  # of the class chosen


def test_the_ends_of_the_range():
    curve = reliability_curve([0, 1], [0.0, 1.0], 3)
    np.testing.assert_array_equal(curve.count, [1, 0, 1])
    assert curve.ece == curve.mce == curve.error("l2") == 0
    assert negative_log_likelihood([0, 1], [0.0, 1.0]) == 0
    assert negative_log_likelihood([1, 1], [0.0, 1.0]) == np.inf
    assert str(negative_log_likelihood([0], [0.0])) == "0.0"  # not -0.0


def test_labels_in_every_spelling_and_the_types_of_the_probabilities():
    want = [f(Y, P) for f in (expected_calibration_error, brier_score, negative_log_likelihood)]
    for y in (Y[:, None], np.eye(3)[Y], Y.astype(float), Y.tolist()):
        assert [f(y, P) for f in (expected_calibration_error, brier_score, negative_log_likelihood)] == want
    assert expected_calibration_error(Y, P.tolist()) == want[0]
    assert expected_calibration_error(Y, P.astype("f")) == pytest.approx(want[0], abs=1e-6)
    assert expected_calibration_error([1, 0], [[0.5], [0.75]]) == expected_calibration_error([1, 0], [0.5, 0.75])


def test_a_prediction_is_asked_for_what_it_goes_by():
    samples = RNG.dirichlet(np.ones(3), (5, 20))
    y = RNG.integers(0, 3, 20)
    mean, vote = mc.Prediction(samples), mc.Prediction(samples, how="vote")
    assert expected_calibration_error(y, mean) == expected_calibration_error(y, mean.mean)
    assert expected_calibration_error(y, vote) == expected_calibration_error(y, vote.votes / 5)
    assert brier_score(y, vote) == brier_score(y, vote.votes / 5)
    yes = mc.Prediction(RNG.random((5, 20, 1)), "binary")
    assert reliability_curve(y > 0, yes).ece == reliability_curve(y > 0, yes.mean).ece
    for kind in ("labels", "values"):
        with pytest.raises(ValueError, match=r"^brier_score: a prediction must be one of classes, or of one yes or no"):
            brier_score(y, mc.Prediction(samples, kind))


@pytest.mark.parametrize(("y", "p", "error", "said"), [
    (Y, np.log(P + 0.1), ValueError, r"probabilities must be in \[0, 1\].*; got .* at index \(\d, \d\)"),
    (Y, P * 0.9, ValueError, "the probabilities of a sample must sum to 1; got 0.9"),
    (Y, np.where(P > 0.7, np.nan, P), ValueError, r"probabilities must be in \[0, 1\].*; got nan at index \(0, 0\)"),
    (Y, P[:3], ValueError, "y must have the 3 samples of the outputs; got 4"),
    ([0, 1, 2, 3], P, ValueError, r"labels must be whole numbers in \[0, 2\]; got 3 at index 3"),
    ([0, 2], [0.5, 0.5], ValueError, r"labels must be whole numbers in \[0, 1\]; got 2 at index 1"),
    ([], [], ValueError, r"y_prob must have shape .*, with at least one sample; got shape \(0,\)"),
    ([0], np.full((1, 2, 2), 0.5), ValueError, r"y_prob must have shape .*; got shape \(1, 2, 2\)"),
    (["a"], [0.5], TypeError, "y must be an array of numbers"),
    ([0], ["a"], TypeError, "y_prob must be an array of numbers"),
])  # fmt: skip
def test_bad_input(y, p, error, said):
    for function in (expected_calibration_error, reliability_curve, brier_score, negative_log_likelihood):
        with pytest.raises(error, match=f"^{function.__name__}: {said}"):
            function(y, p)


@pytest.mark.parametrize(("arguments", "error"), [
    ({"n_bins": 0}, ValueError), ({"n_bins": 2.0}, TypeError), ({"n_bins": True}, TypeError),
    ({"strategy": "mass"}, ValueError), ({"strategy": None}, TypeError),
    ({"norm": "L1"}, ValueError), ({"norm": 1}, TypeError),
])  # fmt: skip
def test_bad_arguments(arguments, error):
    with pytest.raises(error, match=rf"^expected_calibration_error: {next(iter(arguments))} must be"):
        expected_calibration_error(Y, P, **arguments)
    with pytest.raises(ValueError, match=r"^ReliabilityCurve\.error: norm must be one of 'l1', 'l2', 'max'"):
        reliability_curve(Y, P).error("l3")


# ---- the temperature of arrays ----


@pytest.mark.parametrize("size", [1e-200, 1e-3, 1.0, 40.0, 1e200])
@pytest.mark.parametrize(("wrong", "of"), [(1, 4), (2, 5), (1, 1000)])
def test_closed_forms(size, wrong, of):
    """Of K classes one has the logit a, the others 0; the share f is right: exp(a/T) / (exp(a/T) + K - 1) = f."""
    classes, f = 4, 1 - wrong / of
    y, chosen = np.zeros(of, int), np.r_[np.ones(wrong, int), np.zeros(of - wrong, int)]
    z = size * np.eye(classes)[chosen]
    want = size / np.log(f * (classes - 1) / (1 - f))
    assert optimal_temperature(y, z) == pytest.approx(want, rel=1e-9)
    assert optimal_temperature(y, z + 5 * size) == pytest.approx(want, rel=1e-9)
    assert optimal_temperature(np.eye(classes)[y], z) == optimal_temperature(y, z)
    binary = size * (2 * (chosen == 0) - 1.0)
    expected = size / np.log(f / (1 - f))
    for logits in (binary, binary[:, None]):
        assert optimal_temperature(np.ones(of), logits) == pytest.approx(expected, rel=1e-9)


@given(st.integers(2, 8), st.integers(20, 60), st.integers(0, 2**32), st.floats(0.05, 50))
def test_it_is_the_minimum(classes, n, seed, size):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    z = size * (rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[y])
    try:
        t = optimal_temperature(y, z)
    except ValueError as error:
        assert (z.argmax(1) == y).all() or "chance" in str(error)  # noqa: PT017
        return
    losses = [negative_log_likelihood(y, softmax(z / (t * f))) for f in (1, 0.9, 0.99, 1.01, 1.1)]
    assert losses[0] < min(losses[1:])
    assert optimal_temperature(y, z * 7) == pytest.approx(7 * t, rel=1e-8)
    logarithms = np.log(np.maximum(softmax(z), 1e-300))
    if np.ptp(z) < 200:
        assert optimal_temperature(y, logarithms) == pytest.approx(t, rel=1e-8)


@pytest.mark.parametrize(("y", "z", "error", "said"), [
    ([0, 1], [[2.0, 1], [0, 1]], ValueError, "some sample must be wrong .*; got 2 samples that are all right. Take"),
    ([0, 1], [[1.0, 2], [1, 0]], ValueError, "the logits must be better than chance .*; got 2 samples"),
    ([0, 1], [[0.0, 0], [0, 0]], ValueError, "the logits must be better than chance"),
    ([0, 0, 1], [[2.0, 1], [2, 1], [np.nan, 1]], ValueError, r"logits must be finite; got nan at index \(2, 0\)"),
    ([1], [np.inf], ValueError, "logits must be finite; got inf at index 0"),
    ([], np.zeros((0, 3)), ValueError, r"logits must have shape .*, with at least one sample; got shape \(0, 3\)"),
    ([0], np.zeros((1, 3, 3)), ValueError, r"logits must have shape .*; got shape \(1, 3, 3\)"),
    ([3], np.zeros((1, 3)), ValueError, r"labels must be whole numbers in \[0, 2\]"),
    ([0], [["1", "2"]], TypeError, "logits must be an array of numbers"),
])  # fmt: skip
def test_no_temperature(y, z, error, said):
    with pytest.raises(error, match=f"^optimal_temperature: {said}"):
        optimal_temperature(y, z)


# ---- of models ----

X = RNG.normal(size=(300, 6)).astype("f")
LABELS = (np.abs(X[:, 0]) + 0.7 * RNG.normal(size=300) > 0.8) + 1 * (X[:, 1] > 0.9)
VALIDATION, TEST = slice(100, 220), slice(220, None)
SPARSE = "sparse_categorical_crossentropy"
CHAINS = {  # (the last layers, the loss, targets of class numbers, the function that ends the calibrated model)
    "Dense": (lambda: [layers.Dense(3, "softmax", name="head")], SPARSE, None, "softmax"),
    "Softmax": (lambda: [layers.Dense(3), layers.Softmax(name="sure")], SPARSE, None, "softmax"),
    "Activation": (lambda: [layers.Dense(3), layers.Activation("softmax")], "categorical_crossentropy",
                   lambda y: np.eye(3)[y], "softmax"),
    "LogSoftmax": (lambda: [layers.Dense(3), layers.LogSoftmax()], SPARSE, None, "log_softmax"),
    "log_softmax": (lambda: [layers.Dense(3, "log_softmax")], SPARSE, None, "log_softmax"),
    "logits": (lambda: [layers.Dense(3)], mc.losses.SparseCategoricalCrossentropy(from_logits=True), None, None),
    "said": (lambda: [layers.Dense(3, "softmax")], mc.losses.SparseCategoricalCrossentropy(from_logits=False), None,
             "softmax"),
    "Temperature": (lambda: [layers.Dense(3), layers.Temperature(3.0), layers.Softmax()], SPARSE, None, "softmax"),
    "Temperature last": (lambda: [layers.Dense(3), layers.Temperature(3.0)], SPARSE, None, None),
    "Chain": (lambda: [layers.Chain([layers.Dense(5, "relu"), layers.Dense(3, "softmax")])], SPARSE, None, "softmax"),
    "sigmoid": (lambda: [layers.Dense(1, "sigmoid")], "binary_crossentropy", lambda y: y > 0, "sigmoid"),
    "Sigmoid": (lambda: [layers.Dense(1), layers.Sigmoid()], "binary_crossentropy", lambda y: (y > 0)[:, None],
                "sigmoid"),
    "binary logits": (lambda: [layers.Dense(1)], "binary_crossentropy", lambda y: y > 0, None),
    "labels": (lambda: [layers.Dense(2, "sigmoid")], "binary_crossentropy",
               lambda y: np.stack([y > 0, y > 1], 1), "sigmoid"),
    "convolution": (lambda: [layers.Reshape((1, 1, 48)), layers.Conv2D(9, 1, activation="relu"), layers.Flatten(),
                             layers.Dense(3, "softmax")], SPARSE, None, "softmax"),
}  # fmt: skip


def trained(name):
    end, loss, targets, _ = CHAINS[name]
    y = LABELS if targets is None else targets(LABELS)
    front = [layers.Dense(48, "relu"), layers.BatchNormalization(), layers.Dropout(0.2)]
    model = mc.Sequential([*front, *end()], seed=2)
    model.compile(mc.optimizers.Adam(0.05), loss, ["accuracy"])
    model.fit(X[:100], y[:100], epochs=40, verbose=0)  # long enough to be too sure
    return model, y


def temperatures(model):
    return [layer for layer in model.layers if isinstance(layer, layers.Temperature)]


@pytest.mark.parametrize("name", CHAINS)
def test_a_calibrated_copy(name, tmp_path):
    model, y = trained(name)
    x_val, y_val, x_test, y_test = X[VALIDATION], y[VALIDATION], X[TEST], y[TEST]
    answers = (model.predict(x_test), model.fingerprint(), repr(model), model.evaluate(x_val, y_val))
    calibrated = fit_temperature(model, x_val, y_val)
    assert_same_bits(model.predict(x_test), answers[0])  # the model is left alone
    assert (model.fingerprint(), repr(model), model.evaluate(x_val, y_val)) == answers[1:]

    (layer,) = temperatures(calibrated)
    assert layer.temperature > 1.2
    end = CHAINS[name][3]
    assert calibrated.layers[-1].output_function == (end or "changed")
    assert calibrated.output_kind == model.output_kind
    p, q = model.predict_proba(x_test), calibrated.predict_proba(x_test)
    if p.shape[1] == 3:
        np.testing.assert_array_equal(p.argmax(1), q.argmax(1))
        assert (q.max(1) <= p.max(1) + 1e-6).all()
    else:
        np.testing.assert_array_equal(p > 0.5, q > 0.5)
    (loss, accuracy), (before, same) = calibrated.evaluate(x_val, y_val), answers[3]
    assert loss < before - 0.01
    assert accuracy == same

    path = tmp_path / "calibrated.npz"
    calibrated.save(path)
    for other in (mc.Sequential.load(path), copy.deepcopy(calibrated), pickle.loads(pickle.dumps(calibrated))):
        assert_same_bits(other.predict(x_test), calibrated.predict(x_test))
        assert other.evaluate(x_test, y_test) == calibrated.evaluate(x_test, y_test)
        assert_same_bits(other.predict_mc(x_test, 3).mean, calibrated.predict_mc(x_test, 3).mean)

    weights = calibrated.state_dict()
    for place, (old, new) in enumerate(zip(model.state_dict().items(), weights.items(), strict=False)):
        assert old[0] == new[0] or "emperature" in new[0], place
        assert np.array_equal(old[1], new[1]) or old[0].endswith("temperature")
    again = fit_temperature(calibrated, x_val, y_val)
    assert len(again.layers) == len(calibrated.layers)
    assert temperatures(again)[0].temperature == pytest.approx(layer.temperature, rel=1e-4)
    layer.temperature = temperatures(model)[0].temperature if temperatures(model) else 1.0
    assert_same_bits(calibrated.predict(x_test), model.predict(x_test))  # nothing else is another
    assert_same_bits(calibrated.predict_mc(x_test, 3).mean, model.predict_mc(x_test, 3).mean)


def test_it_is_the_temperature_of_the_logits():
    model, y = trained("Dense")
    logits = np.log(model.predict(X[VALIDATION]).astype(np.float64))
    found = temperatures(fit_temperature(model, X[VALIDATION], y[VALIDATION]))[0].temperature
    assert found == pytest.approx(optimal_temperature(y[VALIDATION], logits), rel=1e-4)
    one_hot = fit_temperature(model, X[VALIDATION], np.eye(3)[y[VALIDATION]])
    assert temperatures(one_hot)[0].temperature == found


def test_names_stay_and_training_goes_on_as_before():
    model, y = trained("Dense")
    calibrated = fit_temperature(model, X[VALIDATION], y[VALIDATION])
    assert calibrated.get_layer("head").activation is None
    assert model.get_layer("head").activation == "softmax"
    assert calibrated.input_range == model.input_range
    assert calibrated.history.history == model.history.history
    named, y = trained("Softmax")
    assert fit_temperature(named, X[VALIDATION], y[VALIDATION]).layers[-1].name == "sure"
    temperatures(calibrated)[0].temperature = 1.0
    for one in (model, calibrated):  # the optimiser's moments and the masks are where they were
        one.fit(X[:100], LABELS[:100], epochs=42, initial_epoch=40, verbose=0)
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(calibrated.state_dict()[name], array, rtol=1e-5, atol=1e-6)


def test_frozen_float64_subclassed_and_not_compiled():
    class Mine(mc.Sequential):
        pass

    class Twice(mc.Layer):
        output_function = "changed"
        factor = 2.0

        def forward(self, x, training=False):
            return self.factor * self.check_input(x)

        def backward(self, dy):
            raise NotImplementedError

    model = Mine([layers.Dense(8, "relu"), Twice(), layers.Dense(3, "softmax")], dtype="float64", name="mine")
    model.build((6,))
    model.layers[1].factor = 30.0  # which no configuration holds
    model.freeze()
    y = np.random.default_rng(1).permutation(np.where(RNG.random(300) < 0.2, LABELS, model.predict(X).argmax(1)))
    y = np.where(RNG.random(300) < 0.3, y, model.predict(X).argmax(1))
    calibrated = fit_temperature(model, X, y)
    assert (type(calibrated), calibrated.name, calibrated.dtype) == (Mine, "mine", np.float64)
    assert calibrated.layers[1].factor == 30.0
    assert not calibrated.layers[0].trainable
    assert temperatures(calibrated)[0].temperature > 1.2
    np.testing.assert_array_equal(calibrated.predict(X).argmax(1), model.predict(X).argmax(1))


def refused(chain, loss=None, x=X, y=LABELS, build=True):
    model = mc.Sequential(chain)
    if loss is not None:
        model.compile("sgd", loss)
    if build:
        model.build((6,))
    return lambda: fit_temperature(model, x, y)


@pytest.mark.parametrize(("call", "error", "said"), [
    (refused([layers.Dense(3, "softmax")], build=False), RuntimeError, "the model must be built and trained"),
    (refused([layers.Dense(3)]), ValueError, "the model must give probabilities or logits; got .* Compile it with a"),
    (refused([layers.Dense(3)], "mse"), ValueError, "the model must give probabilities or logits"),
    (refused([layers.Dense(3, "softmax"), layers.Flatten()]), ValueError,
     r"a softmax, log_softmax or sigmoid must be the last layer .*; got layer 1, Flatten\(\)"),
    (refused([layers.Dense(3, "hard_sigmoid")]), ValueError, "a softmax, log_softmax or sigmoid must be the last"),
    (refused([layers.Chain([layers.Dense(3), layers.Softmax()])]), ValueError, r".*got layer 0\.layers\.1, Softmax"),
    (refused([layers.Dense(3, "softmax")], x=X[:0], y=[]), ValueError, "x must hold at least one sample"),
    (refused([layers.Dense(3, "softmax")], y=LABELS[:5]), ValueError, "y must have the 300 samples"),
    (refused([layers.Dense(3, "softmax")], x=np.where(X > 3, np.nan, X)), ValueError, "the logits must be finite"),
    (refused([layers.Dense(2, "sigmoid")]), ValueError, r"y must have the shape \(300, 2\) of the outputs"),
    (refused([layers.Reshape((2, 3)), layers.Dense(3, "softmax")]), ValueError,
     "the model must give one row of logits a sample"),
    (lambda: fit_temperature(layers.Dense(3), X, LABELS), TypeError, "model must be a Sequential"),
])  # fmt: skip
def test_models_that_are_refused(call, error, said):
    with pytest.raises(error, match=f"^fit_temperature: {said}"):
        call()


def test_all_right_is_no_validation():
    model, _ = trained("Dense")
    with pytest.raises(ValueError, match=r"^fit_temperature: some sample must be wrong .* all right\. Take more"):
        fit_temperature(model, X, model.predict(X).argmax(1))


def test_the_module_is_found():
    assert mc.calibration is calibration
    assert all(callable(getattr(mc.calibration, name)) for name in mc.calibration.__all__)
