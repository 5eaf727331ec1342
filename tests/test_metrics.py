"""Metrics against plain loops."""

import copy
import functools
import json
import math
import pickle

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

import minicnn as mc
from minicnn import losses, metrics


def scores(n, k, seed=0):
    """Scores (n, k) with many ties."""
    return np.random.default_rng(seed).integers(0, 6, (n, k)) / 6


def rank(row, label):
    """How many classes stand before ``label``: larger ones, and equal ones with a smaller number."""
    return sum(1 for k, value in enumerate(row) if value > row[label] or (value == row[label] and k < label))


def run(metric, *batches, **kwargs):
    metric.reset()
    for batch in batches:
        metric.update(*batch, **kwargs)
    return metric.result()


def test_accuracy_by_hand():
    # Classes 1, 0, 0 (the first of equals) and 2.
    outputs = [[0.1, 0.7, 0.2], [0.5, 0.4, 0.1], [0.4, 0.4, 0.2], [0.3, 0.3, 0.4]]
    for y in ([1, 0, 1, 2], [[1], [0], [1], [2]], np.eye(3)[[1, 0, 1, 2]], [1.0, 0.0, 1.0, 2.0]):
        assert run(metrics.Accuracy(), (outputs, y)) == 0.75
        assert metrics.accuracy(y, outputs) == 0.75
    # Weights 1, 2, 3, 4: (1 + 2 + 4) / 10.
    assert run(metrics.Accuracy(), (outputs, [1, 0, 1, 2], [1, 2, 3, 4])) == pytest.approx(0.7, rel=1e-15)


@given(st.integers(1, 40), st.integers(2, 40), st.integers(1, 40), st.sampled_from(["sparse", "column", "one_hot"]))
def test_top_k_against_a_loop(n, classes, k, spelling):
    k = min(k, classes)
    outputs, right = scores(n, classes, n), np.random.default_rng(k).integers(0, classes, n)
    y = {"sparse": right, "column": right[:, None], "one_hot": np.eye(classes)[right]}[spelling]
    want = sum(rank(row, label) < k for row, label in zip(outputs, right, strict=True)) / n
    assert run(metrics.TopKAccuracy(k), (outputs, y)) == pytest.approx(want, rel=1e-14)
    assert metrics.top_k_accuracy(y, outputs, k) == pytest.approx(want, rel=1e-14)
    if k == 1:
        assert run(metrics.Accuracy(), (outputs, y)) == pytest.approx((outputs.argmax(1) == right).mean(), rel=1e-14)


def test_binary_accuracy_is_over_all_outputs():
    p = np.array([[0.9, 0.2, 0.6], [0.5, 0.7, 0.1]])
    y = np.array([[1, 1, 1], [0, 0, 0]])
    for shape in ((2, 3), (2, 1, 3), (6,), (6, 1)):
        for dtype in (int, bool, float):
            given = p.reshape(shape), y.reshape(shape).astype(dtype)
            assert run(metrics.BinaryAccuracy(), given) == pytest.approx(4 / 6, rel=1e-15)
            assert run(metrics.BinaryAccuracy(), (given[0] - 0.5, given[1]), from_logits=True) == pytest.approx(4 / 6)
    metric = metrics.BinaryAccuracy()
    metric.update(p, y, [1, 3])
    assert metric.result() == pytest.approx((1 * 2 / 3 + 3 * 2 / 3) / 4)
    metric.update(np.array([[np.nan, 0.9, 0.9]]), [[0, 1, 1]], [4])
    assert metric.result() == pytest.approx(2 / 3)
    assert run(metrics.BinaryAccuracy(), (p[:, 0], y[:, :1])) == 1.0
    assert run(metrics.BinaryAccuracy(), (np.array([[1, 0], [0, 0]]), y[:, :2])) == 0.75
    with pytest.raises(ValueError, match=r"BinaryAccuracy: y must be 0 or 1; got 0\.3"):
        metrics.BinaryAccuracy().update(p, y * 0.3)
    with pytest.raises(ValueError, match=r"BinaryAccuracy: y must have the shape \(2, 3\) of the outputs"):
        metrics.BinaryAccuracy().update(p, y[:, :2])
    with pytest.raises(TypeError, match="BinaryAccuracy: the name of a metric must be a string"):
        metrics.BinaryAccuracy(3)
    assert isinstance(metrics.get("binary_accuracy"), metrics.BinaryAccuracy)
    assert isinstance(metrics.get("categorical_accuracy"), metrics.CategoricalAccuracy)


def test_binary_accuracy():
    y = [0, 1, 1, 0, 1]
    probabilities = np.array([0.5, 0.51, 0.5, 0.4, 0.9])  # 0, 1, 0, 0, 1
    logits = np.array([0.3, 0.1, -0.1, 0.0, 9.0])  # 1, 1, 0, 0, 1
    for shape in ((5,), (5, 1)):
        for labels in (np.array(y), np.array(y, np.float32)[:, None], np.array(y, bool)):
            assert run(metrics.Accuracy(), (probabilities.reshape(shape), labels)) == 0.8
            assert run(metrics.Accuracy(), (logits.reshape(shape), labels), from_logits=True) == 0.6
            assert metrics.accuracy(labels, probabilities.reshape(shape)) == 0.8


def test_batches_add_up():
    outputs, y, weights = scores(50, 4), np.random.default_rng(1).integers(0, 4, 50), np.linspace(0, 2, 50)
    parts = [slice(0, 7), slice(7, 8), slice(8, 50)]
    for metric in (metrics.Accuracy(), metrics.TopKAccuracy(2)):
        whole = run(metric, (outputs, y, weights))
        in_parts = run(metric, *((outputs[part], y[part], weights[part]) for part in parts))
        assert in_parts == pytest.approx(whole, rel=1e-14)
        assert run(metric, (outputs, y)) != pytest.approx(whole)
        assert run(metric, (outputs, y), (outputs[:0], y[:0])) == run(metric, (outputs, y))


def test_nothing_seen_is_nan():
    metric = metrics.Accuracy()
    assert math.isnan(metric.result())
    metric.update(np.zeros((2, 3)), [0, 0])
    assert metric.result() == 1
    metric.reset()
    assert math.isnan(metric.result())


@given(st.integers(1, 8), st.integers(2, 9), st.sampled_from(["float32", "float64", "float16", "int8"]), st.data())
def test_hits_with_ties_and_nan(n, classes, dtype, data):
    """What is ahead: a larger output, an equal one of a smaller number, a NaN; and everything is ahead of a NaN."""
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    outputs, y = rng.integers(0, 3, (n, classes)).astype(dtype), rng.integers(0, classes, n)
    if np.dtype(dtype).kind == "f":
        outputs[rng.random((n, classes)) < 0.2] = np.nan
    k = data.draw(st.integers(1, classes))
    hits = 0
    for row, label in zip(outputs, y, strict=True):
        others = [c for c in range(classes) if c != label]
        hits += sum(not (row[label] > row[c] or (row[label] == row[c] and label < c)) for c in others) < k
    assert metrics.top_k_accuracy(y, outputs, k) == pytest.approx(hits / n, rel=1e-15)


def test_nan_is_never_right():
    nan = math.nan
    assert run(metrics.Accuracy(), ([[nan, 0.1], [0.9, nan], [nan, nan], [0.6, 0.4]], [0, 0, 0, 0])) == 0.25
    assert metrics.accuracy([0, 0, 0, 0], [[nan, 0.1], [0.9, nan], [nan, nan], [0.6, 0.4]]) == 0.25
    assert run(metrics.Accuracy(), ([nan, nan], [0, 1])) == 0


def test_own_function():
    def mean_error(y_true, outputs):
        assert isinstance(y_true, np.ndarray)
        return np.abs(outputs - y_true).mean()

    metric = metrics.get(mean_error)
    assert metric.name == "mean_error"
    # Batches of 3 and 1 samples with errors 1 and 5; then weights that sum to 1 and to 3.
    batches = (np.ones((3, 1)), [[0], [0], [0]]), (np.full((1, 1), 5.0), [[0]])
    assert run(metric, *batches) == 2.0
    assert run(metric, (*batches[0], [1, 0, 0]), (*batches[1], [3])) == 4.0
    for wrong in (np.ones(3), "1", None):
        with pytest.raises(TypeError, match="metric <lambda>: the value must be one number"):
            metrics.get(lambda y, outputs, wrong=wrong: wrong).update(np.ones((1, 1)), [1])


# ---- what a loss computes ----

LOSS_NAMES = sorted({loss.name for loss in losses.NAMES.values()})


def loss_case(name, n=7):
    """Outputs and targets that the loss takes."""
    rng = np.random.default_rng(n)
    outputs, rows = rng.uniform(0.1, 0.9, (n, 3)), np.eye(3)[rng.integers(0, 3, n)]
    outputs /= outputs.sum(1, keepdims=True)
    return outputs, rows.argmax(1) if name.startswith("sparse") else rows


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_a_metric_is_the_mean_of_the_loss_over_all_batches(name):
    loss, metric = losses.get(name), metrics.get(name)
    assert metric.name == name
    sign = -1 if name == "cosine_similarity" else 1  # as in Keras
    assert metric.better == ("min" if sign == 1 else "max") == metrics.better(f"val_{name}")
    outputs, y = loss_case(name)
    weights = np.linspace(0.5, 2, 7)
    for from_logits in (False, True):
        metric.reset()
        for part in (slice(0, 4), slice(4, 7)):
            metric.update(outputs[part], y[part], weights[part], from_logits)
        want = loss(outputs, y, weights, from_logits and loss.needs_from_logits)[0]
        assert metric.result() == pytest.approx(sign * want * 7 / weights.sum(), rel=1e-12)
    assert math.isnan(run(metric, (outputs * np.nan, y)))


def test_root_mean_squared_error():
    # Errors 1, 0, 0, 2 in two batches: sqrt(5 / 4); weights 1 and 3: sqrt((1 + 3 * 4) / (2 * 4)).
    batches = ([[1.0, 0.0]], [[0, 0]]), ([[1.0, 2.0]], [[1, 0]])
    for metric in (metrics.RootMeanSquaredError(), *map(metrics.get, ("rmse", "RMSE", "RootMeanSquaredError"))):
        assert run(metric, *batches) == pytest.approx(math.sqrt(5 / 4), rel=1e-15)
    metric.reset()
    metric.update(*batches[0], [1])
    metric.update(*batches[1], [3])
    assert metric.result() == pytest.approx(math.sqrt(13 / 8), rel=1e-15)
    assert metrics.RootMeanSquaredError().name == metrics.get("root_mean_squared_error").name
    metric.update([[9.0, 9.0]], [[0, 0]], [-2])
    assert math.isnan(metric.result())


def test_cross_entropy_of_probabilities_that_do_not_sum_to_one():
    """As the loss of a model has it: divided by their sum, row by row, those of a softmax left as they are."""
    p, y = np.array([[0.2, 0.6, 0.4], [0.2, 0.3, 0.5]]), [1, 2]
    want = -(math.log(0.5) + math.log(0.5)) / 2
    assert run(metrics.SparseCategoricalCrossentropy(), (p, y)) == pytest.approx(want, rel=1e-14)
    assert run(metrics.CategoricalCrossentropy(), (p, np.eye(3)[y])) == pytest.approx(want, rel=1e-14)
    focal = metrics.get(losses.SparseCategoricalFocalCrossentropy(1, 1))
    assert run(focal, (p, y)) == pytest.approx(want / 2, rel=1e-14)
    divergence = reference.kl_divergence(p, np.eye(3)[y])[0]  # Keras's takes them as they are
    assert run(metrics.KLDivergence(), (p, np.eye(3)[y])) == pytest.approx(divergence, rel=1e-12)


def test_what_the_arguments_of_a_cross_entropy_say():
    z, y = np.array([[2.0, -1.0, 0.5]]), [0]
    by_logits = losses.SparseCategoricalCrossentropy(0.1)(z, y, from_logits=True)[0]
    said = metrics.SparseCategoricalCrossentropy("cce", from_logits=True, label_smoothing=0.1)
    assert (said.name, said.from_logits, said.label_smoothing) == ("cce", True, 0.1)
    assert run(said, (z, y)) == pytest.approx(by_logits, rel=1e-14)
    assert not said.needs_from_logits((3,))
    assert metrics.SparseCategoricalCrossentropy().needs_from_logits((3,))
    assert not metrics.MeanAbsoluteError().needs_from_logits((3,))


@pytest.mark.parametrize("name", sorted(metrics.CLASSES))
def test_classes_of_keras(name):
    cls = metrics.CLASSES[name]
    if cls is metrics.MeanLoss:
        return
    assert getattr(metrics, name) is cls
    assert metrics.get(name).name == name
    assert type(metrics.get(name)) is cls
    assert cls(name="x").name == "x"
    assert metrics.get(cls().name).name == cls().name
    with pytest.raises(TypeError, match=rf"got the class {name}\. Did you mean {name}\(\)\?"):
        metrics.get(cls)
    with pytest.raises(TypeError, match=rf"^{name}: the keywords are .*; got `dtype`"):
        cls(dtype="float32")


ROUND = [
    *("acc", "accuracy", "mae", "MAE", "rmse", "top_3_accuracy", "hinge", "kld", "SparseCategoricalAccuracy"),
    *("top_k_categorical_accuracy", "binary_crossentropy", "cosine_similarity", "logcosh"),
    *(metrics.MeanAbsoluteError("error"), metrics.TopKCategoricalAccuracy(2), metrics.TopKAccuracy(2, "mae")),
    *(metrics.BinaryAccuracy("mine"), metrics.CosineSimilarity("c", 1), metrics.RootMeanSquaredError("mse")),
    *(metrics.CategoricalCrossentropy("c", False, 0.2), losses.Huber(0.3), metrics.LogCoshError()),
    metrics.MeanLoss(losses.CategoricalFocalCrossentropy([1, 2], 0.5), "focal"),
]


@pytest.mark.parametrize("metric", ROUND, ids=str)
def test_a_file_holds_a_metric_whole(metric):
    found = metrics.get(metric)
    config = metrics.to_config(found)
    assert isinstance(metric, str) == isinstance(config, str)
    twin = metrics.from_config(json.loads(json.dumps(config)))
    assert type(twin) is type(found)
    assert twin.name == found.name
    assert metrics.to_config(twin) == config
    assert repr(twin) == f"<metric {found.name}>"
    if isinstance(found, metrics.MeanLoss):
        assert repr(twin.loss) == repr(found.loss)
        assert repr(copy.deepcopy(found).loss) == repr(pickle.loads(pickle.dumps(found)).loss) == repr(found.loss)


def test_what_no_file_holds():
    class Own(metrics.MeanAbsoluteError):
        pass

    assert metrics.to_config(Own()) is None
    assert metrics.to_config(metrics.get(lambda y, outputs: 1.0)) is None
    for config, error in (
        ({"name": "Evil", "config": {}}, ValueError),
        ({"name": "Metric", "config": {}}, ValueError),
        ({"name": "MeanLoss", "config": {"loss": {"name": "evil", "config": {}}}}, ValueError),
        ({"name": "MeanLoss", "config": {"loss": 3}}, ValueError),
        ({"name": "Accuracy", "config": {"k": 3}}, TypeError),
        ({"name": "Accuracy"}, ValueError),
        (3, ValueError),
        ("evil", ValueError),
    ):
        with pytest.raises(error):
            metrics.from_config(config)


def test_wrong_losses_of_metrics():
    with pytest.raises(ValueError, match=r"got 'maee'\. Did you mean 'mae'\?"):
        metrics.MeanLoss("maee")
    with pytest.raises(TypeError, match=r"^MeanLoss: loss must be one of minicnn's losses; .* A custom metric is a"):
        metrics.MeanLoss(lambda y, outputs: (0.0, outputs))
    with pytest.raises(TypeError, match=r"got the class Huber\. Did you mean Huber\(\)\?"):
        metrics.get(losses.Huber)
    with pytest.raises(AttributeError, match=r"MeanLoss\.loss: is fixed when the object is made"):
        metrics.MeanLoss("mae").loss = "mse"


# ---- in a model ----


def in_a_model(given, loss="mse", end=None):
    x, y = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 3
    model = mc.Sequential([mc.layers.Dense(3, end)], seed=0, dtype="float64")
    model.compile("sgd", loss, given)
    return model, x, y if loss.startswith("sparse") else np.eye(3)[y]


@pytest.mark.parametrize("given", ["accuracy", "acc", "mae", "MeanAbsoluteError", losses.Huber(), metrics.Hinge()])
def test_one_metric_need_not_be_a_list(given):
    model, x, y = in_a_model(given)
    name = given if isinstance(given, str) else given.name
    history = model.fit(x, y, epochs=2, validation_split=0.2, verbose=0, callbacks=[
        mc.callbacks.EarlyStopping(f"val_{name}", patience=5, restore_best_weights=True)])  # fmt: skip
    assert list(history.history) == ["loss", name, "val_loss", f"val_{name}"]


def test_metrics_of_a_model_are_those_of_its_outputs(tmp_path):
    given = ["mae", "mse", "rmse", "cosine_similarity", losses.Huber(0.5), metrics.MeanLoss("log_cosh", "lc"), "hinge"]
    model, x, y = in_a_model(given)
    found, o = model.evaluate(x, y, batch_size=7, return_dict=True), model.predict(x)
    assert list(found) == ["loss", "mae", "mse", "rmse", "cosine_similarity", "huber", "lc", "hinge"]
    assert found["mse"] == pytest.approx(found["loss"], rel=1e-12)
    assert found["rmse"] == pytest.approx(math.sqrt(found["loss"]), rel=1e-12)
    assert found["mae"] == pytest.approx(np.abs(o - y).mean(), rel=1e-12)
    assert found["cosine_similarity"] == pytest.approx(-reference.cosine_similarity(o, y)[0], rel=1e-12)
    assert found["huber"] == pytest.approx(reference.huber(o, y, 0.5)[0], rel=1e-12)
    assert found["hinge"] == pytest.approx(reference.hinge(o, 2 * y - 1)[0], rel=1e-12)
    model.save(tmp_path / "m.npz")
    assert mc.Sequential.load(tmp_path / "m.npz").evaluate(x, y, batch_size=7, return_dict=True) == found


@pytest.mark.parametrize("end", ["softmax", "sigmoid", None])
def test_a_cross_entropy_as_a_metric_is_the_loss(end):
    name = "sparse_categorical_crossentropy"
    model, x, y = in_a_model([name, "sparse_categorical_focal_crossentropy"], name, end)
    found = model.evaluate(x, y, return_dict=True, sample_weight=np.linspace(1, 2, 20))
    assert found[name] * 1.5 == pytest.approx(found["loss"], rel=1e-12)
    assert found["sparse_categorical_focal_crossentropy"] < 0.25 * found[name]


@pytest.mark.parametrize(("given", "loss", "said"), [
    ("mae", "sparse_categorical_crossentropy", r"^Sequential.fit: metric mae: y must have the shape \(20, 3\)"),
    ("categorical_crossentropy", "sparse_categorical_crossentropy", 'Class numbers need "sparse_categorical_crossent'),
    ("sparse_categorical_crossentropy", "mse", 'One-hot rows need "categorical_crossentropy"'),
])  # fmt: skip
def test_targets_that_a_metric_refuses_are_told_before_the_first_step(given, loss, said):
    model, x, y = in_a_model(["accuracy", given], loss)
    with pytest.raises(ValueError, match=said):
        model.fit(x, y, verbose=0)
    assert model.optimizer.iterations == 0


# ---- confusion matrix ----


def test_confusion_matrix_against_a_loop():
    rng = np.random.default_rng(0)
    y, outputs = rng.integers(0, 5, 60), rng.random((60, 5))
    want = np.zeros((5, 5), np.int64)
    for true, row in zip(y, outputs, strict=True):
        want[true, row.argmax()] += 1
    for predicted in (outputs, outputs.argmax(1), outputs.argmax(1)[:, None], outputs.argmax(1).astype(np.float32)):
        for true in (y, np.eye(5)[y]):
            matrix = metrics.confusion_matrix(true, predicted)
            assert matrix.dtype == np.int64
            assert (matrix == want).all()
    assert metrics.accuracy(y, outputs.argmax(1)) == np.trace(want) / 60


def test_confusion_matrix_size():
    assert metrics.confusion_matrix([0, 1], [1, 1]).tolist() == [[0, 1], [0, 1]]
    assert metrics.confusion_matrix([0, 1], [1, 1], classes=3).tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert metrics.confusion_matrix([0, 0], [[0.9, 0.1, 0.0]] * 2).shape == (3, 3)
    assert metrics.confusion_matrix(np.eye(4)[[0, 0]], [0, 0]).shape == (4, 4)
    assert metrics.confusion_matrix([0, 1, 1], [0.2, 0.7, 0.5]).tolist() == [[1, 0], [1, 1]]
    assert metrics.confusion_matrix([2], [0]).tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    for y_true, y_pred in (([0, 3], [1, 1]), ([0, 1], [1, 3])):
        with pytest.raises(ValueError, match=r"confusion_matrix: labels must be .* \[0, 2\]; got 3 at index 1"):
            metrics.confusion_matrix(y_true, y_pred, classes=3)


# ---- what is refused ----


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: metrics.accuracy([0], [[0.5, 0.5]] * 2), ValueError, "^accuracy: y must have the 2 samples .* got 1"),
        (lambda: metrics.accuracy([0, 5], [[0.5, 0.5]] * 2), ValueError, r"must be whole numbers in \[0, 1\]; got 5"),
        (lambda: metrics.accuracy([], []), ValueError, "y_pred must hold at least one sample"),
        (lambda: metrics.accuracy([0], np.ones((1, 2, 2))), ValueError, r"outputs must have shape \(N, classes\)"),
        (lambda: metrics.accuracy([0, 1], [0.2, 1.5]), ValueError, "labels must be whole numbers >= 0; got 0.2"),
        (lambda: metrics.accuracy(["a"], [0]), TypeError, "Number the classes"),
        (lambda: metrics.top_k_accuracy([0], [[0.5, 0.5]], 3), ValueError, "with at least 3 classes"),
        (lambda: metrics.top_k_accuracy([0], [[0.5, 0.5]], 0), ValueError, "k must be a whole number >= 1"),
        (lambda: metrics.TopKAccuracy(2.5), TypeError, "TopKAccuracy: k must be a whole number >= 1"),
        (lambda: metrics.confusion_matrix([0], [0], classes=0), ValueError, "classes must be a whole number >= 1"),
        (lambda: run(metrics.Accuracy(), ([[0.5, 0.5]], [0], [1, 2])), ValueError, "^Accuracy: sample weights must"),
        (lambda: run(metrics.Accuracy(), (3.0, [0])), ValueError, "outputs must have a batch axis"),
        (lambda: run(metrics.Accuracy(), ([[0.5, 0.5]], [[1, 1]])), ValueError, "must sum to 1"),
        (lambda: run(metrics.Accuracy(), ([0.5], [2])), ValueError, r"labels must be whole numbers in \[0, 1\]; got 2"),
    ],
)
def test_wrong_input(call, error, match):
    with pytest.raises(error, match=match):
        call()


# ---- names ----


def test_names():
    assert metrics.get("accuracy").name == "accuracy"
    assert metrics.get("top_k_accuracy").name == "top_k_accuracy"
    assert metrics.get("top_k_accuracy").k == 5
    assert metrics.get("top_12_accuracy").k == 12
    for metric in (metrics.Accuracy(), metrics.TopKAccuracy(3)):
        assert metrics.get(metric) is metric
        assert type(metrics.get(metric.name)) is type(metric)
        assert copy.deepcopy(metric).name == metric.name
    with pytest.raises(ValueError, match=r"got 'acuracy'\. Did you mean 'accuracy'\?"):
        metrics.get("acuracy")
    with pytest.raises(ValueError, match="a metric must be one of"):
        metrics.get("top_0_accuracy")
    with pytest.raises(TypeError, match=r"got the class Accuracy\. Did you mean Accuracy\(\)\?"):
        metrics.get(metrics.Accuracy)
    with pytest.raises(TypeError, match="a metric must be one of"):
        metrics.get(5)


@pytest.mark.parametrize("name", ["acc", "sparse_categorical_accuracy", "categorical_accuracy"])
def test_other_names_of_accuracy(name):
    assert isinstance(metrics.get(name), metrics.Accuracy)
    assert metrics.get(name).name == name


def order(y_pred, y_true):
    assert y_pred.ndim == 2
    return float(y_true[0])


def positional(a, b):
    assert b.ndim == 2
    return float(a[0])


def letters(p, t):
    assert p.ndim == 2
    return float(t[0])


@pytest.mark.parametrize("function", [
    order, positional, letters, lambda outputs, y: order(outputs, y), lambda logits, labels: order(logits, labels),
    lambda y, y_hat: order(y_hat, y), lambda t, p: order(p, t), lambda y_true, y_pred: order(y_pred, y_true),
    lambda *given: positional(*given), lambda outputs, other: order(outputs, other),
    lambda a, target: order(a, target), lambda a, y: positional(a, y), lambda y_true, b: positional(y_true, b),
])  # fmt: skip
def test_the_order_of_arguments(function):
    """Truth first, unless the names of both parameters say the other order, or a word of one."""
    assert run(metrics.get(function), (np.zeros((2, 3)), [7, 7])) == 7


@pytest.mark.parametrize(("name", "way"), [
    ("loss", "min"), ("val_loss", "min"), ("clean_loss", "min"), ("test_loss", "min"), ("acc", "max"),
    ("val_accuracy", "max"), ("clean_top_3_accuracy", "max"), ("inaccuracy", None), ("accident_rate", None),
    ("learning_rate", None), ("norm/0.kernel", None), ("val_f1", "max"), ("val_f1/cat", "max"), ("own/loss", None),
    ("lossy", None), ("", None),
])  # fmt: skip
def test_which_way_is_better_by_the_name_alone(name, way):
    assert metrics.better(name) == way


def test_which_way_is_better():
    def f1(y, outputs):
        return 0.0

    assert metrics.Metric.better is None
    assert metrics.get(f1).better is None
    f1.better = "max"
    assert metrics.get(f1).better == metrics.get(functools.partial(f1)).better == "max"
    assert metrics.Accuracy().better == metrics.TopKAccuracy().better == "max"
    f1.better = "higher"
    with pytest.raises(ValueError, match=r"^metric f1: better must be 'max', 'min' or None; got 'higher'"):
        metrics.get(f1)


def test_a_metric_without_a_name_has_that_of_its_class():
    class Hits(metrics.Metric):
        pass

    assert metrics.log_names([Hits(), Hits(), metrics.Accuracy("a")]) == ["Hits", "Hits_1", "a"]
    with pytest.raises(TypeError, match=r"^Accuracy: the name of a metric must be a string; got 3"):
        metrics.Accuracy(3)


# ---- the table of scikit-learn ----

TABLE = """\
              precision    recall  f1-score   support

     class 0       0.50      1.00      0.67         1
     class 1       0.00      0.00      0.00         1
     class 2       1.00      0.67      0.80         3

    accuracy                           0.60         5
   macro avg       0.50      0.56      0.49         5
weighted avg       0.70      0.60      0.61         5
"""


def test_a_report_is_scikit_learns_letter_by_letter():
    """The example of its documentation."""
    y, said = [0, 1, 2, 2, 2], [0, 0, 2, 2, 1]
    names = ["class 0", "class 1", "class 2"]
    assert metrics.classification_report(y, said, names) == TABLE
    words = [names[k] for k in y], [names[k] for k in said]
    for pair in (words, tuple(map(np.array, words)), (np.eye(3)[y], np.eye(3)[said])):
        assert metrics.classification_report(*pair, class_names=names) == TABLE
    assert metrics.classification_report(*words) == TABLE
    plain = metrics.classification_report(y, said, digits=3)
    assert "\n           0      0.500     1.000     0.667         1\n" in plain
    prediction = mc.Prediction(np.eye(3)[[said]])
    assert metrics.classification_report(y, prediction, names) == TABLE
    found = metrics.classification_report(y, said, names, output_dict=True)
    assert list(found) == [*names, "accuracy", "macro avg", "weighted avg"]
    assert found["class 2"] == {"precision": 1.0, "recall": 2 / 3, "f1-score": 0.8, "support": 3}
    assert found["accuracy"] == 0.6
    assert json.loads(json.dumps(found)) == found


def test_a_report_has_every_named_class_and_averages_over_those_that_occur():
    found = metrics.classification_report([0, 2], [0, 0], ["a", "b", "c"], output_dict=True)
    assert found["b"] == {"precision": 0, "recall": 0, "f1-score": 0, "support": 0}
    assert found["macro avg"] == {"precision": 0.25, "recall": 0.5, "f1-score": pytest.approx(1 / 3), "support": 2}
    assert "1" not in metrics.classification_report([0, 2], [0, 0], output_dict=True)
    weighted = metrics.classification_report([0, 2], [0, 0], sample_weight=[1, 0.5])
    assert "weighted avg       0.44      0.67      0.53      1.50\n" in weighted
    assert metrics.confusion_matrix([0, 2], [0, 0], 3, [1, 0.5]).tolist() == [[1, 0, 0], [0, 0, 0], [0.5, 0, 0]]


def test_scikit_learn_reports_the_same():
    theirs = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for classes in (3, 12):
        y, scores, weights = rng.integers(0, classes, 40), rng.integers(0, 5, (40, classes)), rng.random(40)
        y[y == 1], scores[:, -1] = 0, -1  # one that is not right, and one that is not said
        said = scores.argmax(1)
        for digits in (0, 2, 5):
            ours = metrics.classification_report(y, scores, digits=digits)
            assert ours == theirs.classification_report(y, said, digits=digits, zero_division=0)
        ours = metrics.classification_report(y, said, output_dict=True, sample_weight=weights)
        want = theirs.classification_report(y, said, output_dict=True, sample_weight=weights, zero_division=0)
        assert list(ours) == list(want)
        for name in want:
            assert ours[name] == pytest.approx(want[name], rel=1e-12)
        assert np.allclose(metrics.confusion_matrix(y, said, classes, weights)[np.ix_(np.union1d(y, said), np.union1d(
            y, said))], theirs.confusion_matrix(y, said, sample_weight=weights))  # fmt: skip


def test_a_report_of_labels():
    y, p = [[1, 1, 0], [0, 1, 0]], [[0.9, 0.2, 0], [0.6, 0.5, 0]]
    assert (
        metrics.classification_report(y, p, ["cat", "dog", "eel"], multi_label=True)
        == """\
              precision    recall  f1-score   support

         cat       0.50      1.00      0.67         1
         dog       0.00      0.00      0.00         2
         eel       0.00      0.00      0.00         0

   micro avg       0.50      0.33      0.40         3
   macro avg       0.17      0.33      0.22         3
weighted avg       0.17      0.33      0.22         3
 samples avg       0.50      0.25      0.33         3
"""
    )
    nothing = metrics.classification_report([[0, 0]], [[0, 0]], output_dict=True, multi_label=True)
    assert [row["f1-score"] for row in nothing.values()] == [0] * 6


def test_scikit_learn_reports_labels_the_same():
    theirs = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for k in (2, 5):
        y, p, weights = rng.integers(0, 2, (30, k)), rng.integers(0, 5, (30, k)) / 4, rng.random(30)
        y[:, -1], p[:, -1] = 0, 0
        said, names = (p > 0.5).astype(int), ["a" * (3 * i) for i in range(1, k + 1)]
        for words in ({"digits": 3}, {"target_names": names}):
            ours = {"class_names" if name == "target_names" else name: value for name, value in words.items()}
            want = theirs.classification_report(y, said, zero_division=0, **words)
            assert metrics.classification_report(y, p, multi_label=True, **ours) == want
        ours = metrics.classification_report(y, p, output_dict=True, sample_weight=weights, multi_label=True)
        want = theirs.classification_report(y, said, output_dict=True, sample_weight=weights, zero_division=0)
        assert list(ours) == list(want)
        for name in want:
            assert ours[name] == pytest.approx(want[name], rel=1e-12)
        score = metrics.F1Score(multi_label=True)
        assert run(score, (p, y)) == pytest.approx(
            theirs.f1_score(y, said, average="macro", zero_division=0), rel=1e-12
        )


@pytest.mark.parametrize(("call", "error", "said"), [
    (lambda report: report([[1, 1]], [[1, 0]]), ValueError, "sum to 1; got 2.0 at index 0. Where .*multi_label=T"),
    (lambda report: report([1], [1], multi_label=True), ValueError, r"y_pred must have shape \(N, K\).*got shape \(1,"),
    (lambda report: report([[1, 1]], [[1, 2]], multi_label=True), ValueError, "or probabilities; got 2 at index"),
    (lambda report: report([[1, 1]], [[1, math.nan]], multi_label=True), ValueError, "or probabilities; got nan"),
    (lambda report: report([[1, 2]], [[1, 1]], multi_label=True), ValueError, "y_true must be 0 or 1; got 2 at"),
    (lambda report: report([[1]], [[1, 1]], multi_label=True), ValueError, r"y must have the shape \(1, 2\)"),
    (lambda report: report([[1, 1]], [[1, 1]], ["a"], multi_label=True), ValueError, "class_names must"),
    (lambda report: report([[1, 1]], [[1, 1]], sample_weight=[-1], multi_label=True), ValueError, "be >= 0, and not"),
    (lambda report: report([[1]], [[1]], multi_label=1), TypeError, "multi_label must be True or False"),
    (lambda report: report([0, 1], [0, 1], digits=-1), ValueError, "digits must be a whole number >= 0; got -1"),
    (lambda report: report([0, 1], [0, 1], output_dict="yes"), TypeError, "output_dict must be True or False"),
    (lambda report: report([0, 1], [0, 2], ["a", "b"]), ValueError, r"in \[0, 1\]; got 2 at index 1"),
    (lambda report: report(["a"], ["c"], ["a", "b"]), ValueError, "among the names of the classes; got 'c'"),
    (lambda report: report([0], [0], ["accuracy"], output_dict=True), ValueError, "no class may be called accuracy"),
    (lambda report: report([0, 1], [[0.5, math.nan]] * 2), ValueError, r"scores must not be NaN; got nan at index \(0"),
    (lambda report: report([0], [0], sample_weight=[0]), ValueError, "must be >= 0, and not all of them 0; got 0"),
    (lambda report: report([0, 0], [0, 1], sample_weight=[2, -1]), ValueError, "must be >= 0, and not all.* got -1"),
    (lambda report: report([0], [0], sample_weight=[1, 2]), ValueError, r"sample weights must have shape \(1,\)"),
])  # fmt: skip
def test_wrong_input_of_a_report(call, error, said):
    with pytest.raises(error, match=said):
        call(metrics.classification_report)


# ---- of numbers ----


def test_the_errors_of_each_output():
    rng = np.random.default_rng(0)
    outputs, y, weights = rng.normal(size=(9, 3)), rng.normal(size=(9, 3)), np.arange(9) / 4
    error = outputs - y
    for cls, want in (
        (metrics.MeanAbsoluteError, lambda by: np.average(abs(error), 0, by)),
        (metrics.MeanSquaredError, lambda by: np.average(error**2, 0, by)),
        (metrics.RootMeanSquaredError, lambda by: np.sqrt(np.average(error**2, 0, by))),
    ):
        metric = cls(average=None)
        assert metric.parts((3,), ["a", "b", "c"]) == ["a", "b", "c"]
        assert metric.parts((1,)) is cls().parts((3,)) is None
        for by in (None, weights):
            whole = (outputs, y) if by is None else (outputs, y, by)
            np.testing.assert_allclose(run(metric, whole), want(by), rtol=1e-13)
            parts = [tuple(one[part] for one in whole) for part in (slice(0, 2), slice(2, 9))]
            assert np.array_equal(run(metric, *parts), run(metric, whole))
        assert run(metric, (outputs[:, :1], y[:, :1])) == pytest.approx(run(cls(), (outputs[:, 0], y[:, 0])), rel=1e-15)
        assert isinstance(run(metric, (outputs[:, :1], y[:, 0])), float)
    with pytest.raises(ValueError, match=r"^MeanAbsoluteError: average, if it is not None, must be .* 'macro'"):
        metrics.MeanAbsoluteError(average="micro")


def r2_case():
    rng = np.random.default_rng(1)
    y = rng.normal(size=(30, 3)) * [1, 5, 0.1] + [0, 1e6, 3]
    return y + rng.normal(size=(30, 3)) * [0.5, 3, 0.2], y, rng.random(30)


def test_r2_by_its_formula():
    outputs, y, weights = r2_case()
    for by in (None, weights):
        spread = np.average((y - np.average(y, 0, by)) ** 2, 0, by)
        each = 1 - np.average((y - outputs) ** 2, 0, by) / spread
        assert each.min() < 0 < each.max()
        given = (outputs, y) if by is None else (outputs, y, by)
        parts = [tuple(one[part] for one in given) for part in (slice(0, 1), slice(1, 1), slice(1, 30))]
        for way, want in ((None, each), ("uniform_average", each.mean()),
                          ("variance_weighted_average", np.average(each, weights=spread))):  # fmt: skip
            metric = metrics.R2Score(way)
            np.testing.assert_allclose(run(metric, given), want, rtol=1e-9)
            assert np.array_equal(run(metric, *parts), run(metric, given))
    assert run(metrics.R2Score(), (y, y)) == 1
    assert run(metrics.R2Score(), (y[:, 0], y[:, :1])) == 1
    flat = np.ones((4, 2))
    assert run(metrics.R2Score(None), (flat + np.arange(2), flat)).tolist() == [1, 0]
    for way in (None, "uniform_average", "variance_weighted_average"):
        assert np.isnan(run(metrics.R2Score(way), (flat[:1], flat[:1]))).all()
        assert np.isnan(run(metrics.R2Score(way), (flat * math.nan, flat))).all()
        assert math.isnan(metrics.R2Score(way).result())
    for call, said in (
        (lambda: metrics.R2Score("mean"), "class_aggregation, if it is not None, must be one of 'uniform_average'"),
        (lambda: run(metrics.R2Score(), (flat, flat.T)), "y must have the 4 samples of the outputs"),
        (lambda: run(metrics.R2Score(), (flat, flat, [-1, 1, 1, 1])), "sample weights must be >= 0; got -1"),
        (lambda: run(metrics.R2Score(), (flat, flat * math.inf)), "y must be finite"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_scikit_learn_measures_numbers_the_same():
    theirs = pytest.importorskip("sklearn.metrics")
    outputs, y, weights = r2_case()
    for by in (None, weights):
        given = (outputs, y) if by is None else (outputs, y, by)
        for ours, function in ((metrics.MeanAbsoluteError, theirs.mean_absolute_error),
                               (metrics.MeanSquaredError, theirs.mean_squared_error)):  # fmt: skip
            for average, words in (("macro", "uniform_average"), (None, "raw_values")):
                want = function(y, outputs, sample_weight=by, multioutput=words)
                np.testing.assert_allclose(run(ours(average=average), given), want, rtol=1e-12)
        for way, words in (("uniform_average", "uniform_average"), (None, "raw_values"),
                           ("variance_weighted_average", "variance_weighted")):  # fmt: skip
            want = theirs.r2_score(y, outputs, sample_weight=by, multioutput=words)
            np.testing.assert_allclose(run(metrics.R2Score(way), given), want, rtol=1e-9)
