"""Metrics against plain loops."""

import copy
import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicnn import metrics


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
    ("learning_rate", None), ("norm/0.kernel", None), ("val_f1", None), ("lossy", None), ("", None),
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
