"""Ablation and averaging curves against the same numbers worked out from weights and samples by hand."""

import numpy as np
import pytest
from models import LABELS, ONE_HOT, X, whole_state

import minicnn as mc
from minicnn import layers, thinning


def trained(end="softmax", middle=()):
    model = mc.Sequential([
        layers.Conv2D(3, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(8, activation="relu"),
        *middle,
        layers.Dropout(0.4),
        layers.Dense(4, activation=end),
    ], seed=3)  # fmt: skip
    model.compile(mc.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(X, LABELS, batch_size=4, epochs=8, verbose=0)
    return model


def test_the_curve_is_that_of_rows_taken_out_of_the_next_kernel():
    model = trained()
    curve = thinning.ablation_curve(model, X, LABELS, 2, fractions=(0, 0.26, 0.5, 1), repeats=3, seed=5)
    assert (curve.layer, curve.name, curve.units, curve.removed.tolist()) == (2, "Dense", 8, [0, 2, 4, 8])
    assert curve.fractions.tolist() == [0, 0.25, 0.5, 1]
    hidden, last = model.outputs(X)[2], model.layers[-1]
    for repeat in range(3):
        order = np.random.default_rng([5, repeat]).permutation(8)
        for place, count in enumerate(curve.removed):
            kernel = last.params["kernel"].astype(np.float64).copy()
            kernel[order[:count]] = 0
            for found, factor in ((curve.accuracy, 1), (curve.accuracy_rescaled, 8 / max(8 - count, 1))):
                scores = hidden @ kernel * factor + last.params["bias"]
                assert found[repeat, place] == (scores.argmax(1) == LABELS).mean(), (repeat, place)
    assert len(np.unique(curve.accuracy)) > 2  # otherwise nothing has been shown
    assert (curve.accuracy != curve.accuracy_rescaled).any()


def test_without_any_unit_removed_it_is_evaluate():
    model = trained()
    curve = thinning.ablation_curve(model, X, ONE_HOT, model.layers[0], fractions=[0], repeats=1)
    assert curve.layer == 0
    assert curve.accuracy[0, 0] == mc.metrics.accuracy(LABELS, model.predict(X))


def test_units_of_a_convolution_are_channels():
    model = trained()
    curve = thinning.ablation_curve(model, X, LABELS, 0, fractions=[1 / 3], repeats=1, seed=1)
    channel = np.random.default_rng([1, 0]).permutation(3)[0]
    model.layers[0].params["kernel"][..., channel] = 0
    model.layers[0].params["bias"][channel] = 0
    assert (curve.units, curve.removed.tolist()) == (3, [1])
    assert curve.accuracy[0, 0] == mc.metrics.accuracy(LABELS, model.predict(X))


def test_more_samples_than_a_pass_holds():
    model, x = trained(), np.concatenate([X] * 45)
    curve = thinning.ablation_curve(model, x, np.tile(LABELS, 45), 2, fractions=[0.5], repeats=2)
    small = thinning.ablation_curve(model, X, LABELS, 2, fractions=[0.5], repeats=2)
    np.testing.assert_allclose(curve.accuracy, small.accuracy)


def test_ablation_leaves_the_model_as_it_is():
    model = trained(middle=[layers.BatchNormalization()])
    before = whole_state(model)
    thinning.ablation_curve(model, X, LABELS, 2, repeats=2)
    assert whole_state(model) == before
    assert not model.training


def test_logits_of_one_yes_or_no():
    model = mc.Sequential([layers.Flatten(), layers.Dense(3, activation="tanh"), layers.Dense(1)], seed=2)
    model.compile("sgd", "binary_crossentropy")
    y = (model.predict(X)[:, 0] > 0).astype(int)
    assert 0 < y.mean() < 1
    assert thinning.ablation_curve(model, X, y, 1, [0], 1).accuracy[0, 0] == 1


@pytest.mark.parametrize(
    ("more", "error", "text"),
    [
        ({"layer": 4}, ValueError, "another layer after it"),
        ({"layer": 5}, ValueError, r"in \[0, 4\]"),
        ({"layer": "2"}, TypeError, "layer must be a whole number"),
        ({"layer": layers.Dense(3)}, ValueError, "one of the model's"),
        ({"fractions": (0, 1.2)}, ValueError, r"every fraction must be a number in \[0, 1\]"),
        ({"fractions": (0.5, 0.1)}, ValueError, "ascending"),
        ({"fractions": ()}, ValueError, "ascending"),
        ({"fractions": 0.5}, TypeError, "fractions must be a list"),
        ({"repeats": 0}, ValueError, "repeats"),
        ({"seed": -1}, ValueError, "seed"),
        ({"y": LABELS[:5]}, ValueError, "12"),
        ({"x": X[:0]}, ValueError, "at least one sample"),
    ],
)
def test_wrong_arguments_of_ablation(more, error, text):
    with pytest.raises(error, match=text):
        thinning.ablation_curve(trained(), **({"x": X, "y": LABELS, "layer": 2} | more))


@pytest.mark.parametrize("end", ["softmax", None])
def test_averages_are_those_of_the_samples(end):
    model = trained(end)
    curve = thinning.averaging_curve(model, X, LABELS, counts=(1, 3, 7), repeats=2, seed=9)
    assert curve.counts.tolist() == [1, 3, 7]
    for repeat in range(2):
        samples = model.predict_mc(X, 7, seed=9 + repeat, return_samples=True).samples.astype(np.float64)
        for place, count in enumerate((1, 3, 7)):
            mean = samples[:count].mean(0)
            assert curve.accuracy[repeat, place] == (mean.argmax(1) == LABELS).mean()
            np.testing.assert_allclose(curve.log_loss[repeat, place], -np.log(mean[range(12), LABELS]).mean(), 1e-12)
    np.testing.assert_allclose(curve.mean, model.predict_mc(X, 7, seed=9).mean, rtol=1e-12)
    np.testing.assert_array_equal(curve.scaled, model.predict_proba(X))
    assert curve.scaled_accuracy == mc.metrics.accuracy(LABELS, curve.scaled)
    assert np.isclose(curve.scaled_log_loss, model.evaluate(X, LABELS), rtol=1e-6)
    assert (curve.labels == LABELS).all()
    assert (curve.accuracy[0] != curve.accuracy[1]).any()  # other masks


def test_averaging_wants_classes_and_counts():
    model = trained()
    for counts, error in (((2, 1), ValueError), ((0, 1), ValueError), ((1.5,), TypeError), (5, TypeError)):
        with pytest.raises(error, match="averaging_curve"):
            thinning.averaging_curve(model, X, LABELS, counts=counts)
    with pytest.raises(ValueError, match="averaging_curve"):
        thinning.averaging_curve(model, X, LABELS + 3)
    single = mc.Sequential([layers.Flatten(), layers.Dense(1)])
    with pytest.raises(ValueError, match="one output for each of several classes"):
        thinning.averaging_curve(single, X, LABELS)


def test_sums_of_ones():
    found = thinning.sums_of_ones(0.2, units=50, samples=400, seed=6)
    layer = layers.Dropout(0.2, seed=6)
    layer.build((50,), np.random.default_rng(0))
    layer.forward(np.ones((400, 50)), training=True)
    kept = layer.last_mask.sum(1)
    assert list(found) == ["unscaled", "classical", "inverted"]
    for way, factor, evaluation in (("unscaled", 1, 50), ("classical", 1, 40), ("inverted", 1.25, 50)):
        np.testing.assert_allclose(found[way][0], kept * factor)
        assert found[way][1] == pytest.approx(evaluation), way
    for wrong in ({"rate": 0}, {"rate": 1}, {"units": 0}, {"samples": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="must be a"):
            thinning.sums_of_ones(**wrong)


def test_where_else_they_are():
    assert mc.plot.ablation_curve is thinning.ablation_curve is mc.thinning.ablation_curve
    assert mc.plot.averaging_curve is thinning.averaging_curve


def test_mean_and_error():
    mean, error = thinning.mean_and_error([[1.0, 2], [3, 2], [5, 2]])
    np.testing.assert_allclose(mean, [3, 2])
    np.testing.assert_allclose(error, [2 / np.sqrt(3), 0])
    assert np.isnan(thinning.mean_and_error([[1.0, 2]])[1]).all()
