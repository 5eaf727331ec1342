"""Precision, recall, F and areas under curves against loops over samples and pairs, and against scikit-learn."""

import json
import math
import warnings

import numpy as np
import pytest

import minicnn as mc
from minicnn import metrics

KINDS = ("one", "classes", "labels")
AVERAGES = ("macro", "micro", "weighted", None)


def case(kind, weighted=False, n=60, seed=0):
    """(outputs, y, weights): scores with many ties; of five classes one is neither said nor right, one never right."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 5, n) / 3 if weighted else None
    if kind == "one":
        return rng.integers(0, 8, (n, 1)) / 8, rng.integers(0, 2, n), weights
    if kind == "labels":
        return rng.integers(0, 8, (n, 4)) / 8, rng.integers(0, 2, (n, 4)), weights
    outputs = rng.integers(1, 9, (n, 5)) / 8
    outputs[:, 3] = 0
    outputs /= outputs.sum(1, keepdims=True)
    return outputs, rng.choice([0, 1, 4], n, p=[0.5, 0.3, 0.2]), weights


def said_and_true(kind, outputs, y, threshold=None):
    """Two bool arrays (N, K)."""
    k = outputs.shape[1]
    true = np.reshape(y, (-1, 1)) == 1 if kind == "one" else np.array(y, bool) if kind == "labels" else np.eye(k)[y] > 0
    if kind == "classes" and threshold is None:
        return np.eye(k)[outputs.argmax(1)] > 0, true
    return outputs > (0.5 if threshold is None else threshold), true


def averaged(values, support, there, average):
    by = {"macro": np.ones(len(values)), "micro": np.ones(len(values)), "weighted": support}[average] * there
    return sum(v * b for v, b in zip(values, by, strict=True) if b) / by.sum() if by.sum() else math.nan


def f_by_loops(said, true, weights, beta, average):
    """``beta``: 0 for precision, infinity for recall."""
    weights = np.ones(len(said)) if weights is None else weights
    values, supports, there = [], [], []
    columns = [(said.ravel(), true.ravel())] if average == "micro" else list(zip(said.T, true.T, strict=True))
    for yes, right in columns:
        each = np.repeat(weights, len(yes) // len(weights))
        hits = sum(w for w, a, b in zip(each, yes, right, strict=True) if a and b)
        support, predicted = each[right].sum(), each[yes].sum()
        precision, recall = hits / predicted if predicted else 0, hits / support if support else 0
        below = precision * beta**2 + recall if 0 < beta < math.inf else 1
        value = precision if beta == 0 else recall if beta == math.inf else (1 + beta**2) * precision * recall
        values.append(value / below if below else 0.0)
        supports.append(support)
        there.append(support + predicted > 0)
    return np.array(values) if average is None else averaged(values, np.array(supports), np.array(there), average)


def area_by_loops(curve, scores, right, weights):
    if curve == "ROC":
        pairs = [(w * v, 1.0 if s > t else 0.5 if s == t else 0.0)
                 for s, w, a in zip(scores, weights, right, strict=True) if a
                 for t, v, b in zip(scores, weights, right, strict=True) if not b]  # fmt: skip
        total = sum(w for w, _ in pairs)
        return sum(w * v for w, v in pairs) / total if total else math.nan
    total, above = weights[right].sum(), [scores >= s for s in scores]
    found = [w * weights[above[i] & right].sum() / weights[above[i]].sum()
             for i, w in enumerate(weights) if right[i] and w]  # fmt: skip
    return sum(found) / total if total else math.nan


def areas_by_loops(curve, outputs, true, weights, average):
    weights = np.ones(len(outputs)) if weights is None else weights
    columns = [*zip(outputs.T, true.T, strict=True)]
    if average == "micro":
        columns, weights = [(outputs.ravel(), true.ravel())], np.repeat(weights, outputs.shape[1])
    values = np.array([area_by_loops(curve, scores, right, weights) for scores, right in columns])
    support = np.array([weights[right].sum() for _, right in columns])
    return values if average is None else averaged(values, support, ~np.isnan(values), average)


def run(metric, outputs, y, weights=None, parts=1, **words):
    metric.reset()
    for part in np.array_split(np.arange(len(outputs)), parts):
        metric.update(outputs[part], y[part], None if weights is None else weights[part], **words)
    return metric.result()


def same(found, want):
    np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-14)


def deciding(kind, average, threshold):
    """(metric, beta)."""
    words = {"average": average, "multi_label": kind == "labels"}
    return [
        (metrics.Precision(threshold, **words), 0),
        (metrics.Recall(threshold, **words), math.inf),
        (metrics.F1Score(threshold=threshold, **words), 1),
        (metrics.FBetaScore(beta=2, threshold=threshold, **words), 2),
        (metrics.FBetaScore(beta=0.25, threshold=threshold, **words), 0.25),
    ]


@pytest.mark.parametrize("threshold", [None, 0.25])
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_precision_recall_and_f_by_loops(kind, average, threshold):
    for weighted in (False, True):
        outputs, y, weights = case(kind, weighted)
        said, true = said_and_true(kind, outputs, y, threshold)
        for metric, beta in deciding(kind, average, threshold):
            want = f_by_loops(said, true, weights, beta, average)
            same(run(metric, outputs, y, weights), want if kind != "one" or average else want[0])


@pytest.mark.parametrize("curve", ["ROC", "PR"])
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_areas_by_loops(kind, average, curve):
    for weighted in (False, True):
        outputs, y, weights = case(kind, weighted)
        want = areas_by_loops(curve, outputs, said_and_true(kind, outputs, y)[1], weights, average)
        metric = metrics.AUC(curve, average=average, multi_label=kind == "labels")
        same(run(metric, outputs, y, weights), want if kind != "one" or average else want[0])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_scikit_learn_says_the_same(kind, weighted):
    theirs = pytest.importorskip("sklearn.metrics")
    for seed in range(2):
        outputs, y, weights = case(kind, False, 200, seed)
        weights = np.random.default_rng(seed).random(200) if weighted else None
        said, true = (one.astype(int) for one in said_and_true(kind, outputs, y))
        if kind == "classes":
            said, true = outputs.argmax(1), y
        for average in AVERAGES:
            how = {"average": "binary" if kind == "one" else average, "sample_weight": weights, "zero_division": 0}
            for metric, beta in deciding(kind, average, None)[3:]:
                want = theirs.fbeta_score(true, said, beta=beta, **how)
                same(run(metric, outputs, y, weights)[[0, 1, 2, 4]] if np.ndim(want) and kind == "classes" else
                     run(metric, outputs, y, weights), want)  # fmt: skip
            for metric, their in zip(
                deciding(kind, average, None),
                (theirs.precision_score, theirs.recall_score, theirs.f1_score),
                strict=False,
            ):
                found, want = run(metric[0], outputs, y, weights), their(true, said, **how)
                same(found[[0, 1, 2, 4]] if np.ndim(want) and kind == "classes" else found, want)
            ours = {"average": average, "multi_label": kind == "labels"}
            there = [0, 1, 4] if kind == "classes" else slice(None)  # the classes that are right somewhere
            rows = np.eye(5)[y][:, there] if kind == "classes" else true
            scores = outputs[:, there]
            words = {"sample_weight": weights, "average": average}
            for curve, their in (("ROC", theirs.roc_auc_score), ("PR", theirs.average_precision_score)):
                if kind == "classes" and average == "micro":
                    rows, scores = np.eye(5)[y], outputs
                found = run(metrics.AUC(curve, **ours), outputs, y, weights)
                same(found[there] if kind == "classes" and average is None else found, their(rows, scores, **words))


@pytest.mark.parametrize("kind", KINDS)
def test_no_bit_depends_on_the_batches_or_their_dtype(kind):
    outputs, y, _ = case(kind)
    weights = np.random.default_rng(1).random(60)
    outputs32 = outputs.astype(np.float32)
    made = [metrics.AUC("PR", average=None), metrics.AUC(average="weighted"), metrics.F1Score(average=None)]
    made += [metrics.Recall(0.3, average="weighted"), metrics.AUC(multi_label=kind == "labels")]
    for metric in made:
        metric = metric.of_labels() if kind == "labels" else metric
        for given in (None, weights):
            whole = run(metric, outputs32, y, given)
            for parts in (2, 7, 60):
                assert np.array_equal(run(metric, outputs32, y, given, parts), whole, equal_nan=True)
    zeros = np.repeat([1.0, 0.0], 30)
    for metric in made[2:4]:
        metric = metric.of_labels() if kind == "labels" else metric
        assert np.array_equal(run(metric, outputs, y, zeros), run(metric, outputs[:30], y[:30]))


@pytest.mark.parametrize("kind", KINDS)
def test_logits_give_what_their_probabilities_give(kind):
    rng = np.random.default_rng(3)
    _, y, _ = case(kind)
    z = rng.normal(size=case(kind)[0].shape) * 2
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True) if kind == "classes" else 1 / (1 + np.exp(-z))
    label = {"multi_label": kind == "labels"}
    for metric in (metrics.Precision(**label), metrics.Recall(0.3, **label), metrics.F1Score(threshold=0.7, **label),
                   metrics.AUC(**label), metrics.AUC("pr", average="micro", **label)):  # fmt: skip
        same(run(metric, z, y, from_logits=True), run(metric, p, y))
        assert (run(metric, z, y) != run(metric, p, y)) == metric.needs_from_logits(z.shape[1:])
    for cut, share in ((0.0, 1.0), (1.0, 0.0)):  # all are said, and none
        assert run(metrics.Recall(cut, average="micro", **label), z, y, from_logits=True) == share


def test_far_logits_keep_their_order():
    """Their probabilities are 1 in float32, all of them."""
    z = np.array([[40.0, 0, 0], [50, 0, 0], [60, 0, 0]], np.float32)
    for y in ([1, 0, 0], [1, 1, 0]):
        assert run(metrics.AUC(class_id=0), z, np.array(y), from_logits=True) == 1
        assert run(metrics.AUC(), z[:, 0], 1 - np.array(y), from_logits=True) == 1


def test_probabilities_that_do_not_sum_to_one_are_divided_as_in_the_loss():
    outputs, (_, y, _), by = np.random.default_rng(2).random((60, 5)), case("classes"), np.linspace(0.2, 3, 60)[:, None]
    outputs /= outputs.sum(1, keepdims=True)
    for metric in (metrics.AUC(), metrics.Precision(0.3)):
        same(run(metric, outputs * by, y), run(metric, outputs, y))


def test_by_hand():
    # Classes said: 0, 0, 1, 2, 0.  Precision 1/3, 1, 1; recall 1, 1/2, 1/2; F1 1/2, 2/3, 2/3.
    outputs = np.eye(3)[[0, 0, 1, 2, 0]]
    y = np.array([0, 1, 1, 2, 2])
    for truth in (y, y[:, None], np.eye(3)[y], y.astype(float)):
        assert run(metrics.Precision(), outputs, truth) == pytest.approx(7 / 9, rel=1e-15)
        assert run(metrics.Recall(average=None), outputs, truth).tolist() == [1, 0.5, 0.5]
        assert run(metrics.F1Score(class_id=1), outputs, truth) == pytest.approx(2 / 3, rel=1e-15)
        assert run(metrics.F1Score("weighted"), outputs, truth) == pytest.approx((1 / 2 + 4 / 3 + 4 / 3) / 5)
    # Keras: each class is said where its probability is above 0.5, and all are counted together.
    p = np.array([[0.4, 0.3, 0.3], [0.6, 0.2, 0.2], [0.1, 0.8, 0.1]])
    assert run(metrics.Precision(0.5, average="micro"), p, np.array([0, 1, 1])) == 0.5
    assert run(metrics.Recall(0.5, average="micro"), p, np.array([0, 1, 1])) == pytest.approx(1 / 3)
    # Three of four pairs are in order, of the fourth both are equal.
    assert run(metrics.AUC(), np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1])) == 3.5 / 4
    assert run(metrics.AUC("PR"), np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])) == (1 + 2 / 3) / 2


def test_what_cannot_be_computed():
    outputs, y = np.full((4, 3), 1 / 3), np.zeros(4, int)
    assert run(metrics.Precision(class_id=2), outputs, y) == 0  # never said
    assert run(metrics.Recall(class_id=2), outputs, y) == 0  # never true
    assert run(metrics.F1Score(multi_label=True), outputs, np.zeros((4, 3))) == 0  # neither, of any class
    assert math.isnan(run(metrics.AUC(), outputs, y))  # all of one class
    assert run(metrics.AUC("PR"), outputs, y) == 1
    made = [metrics.Precision(), metrics.Recall(0.5), metrics.F1Score(), metrics.AUC(), metrics.AUC("PR", "b", "micro")]
    for metric in made:
        assert math.isnan(metrics.get(metric).result() if metric.reset() is None else 0)  # nothing seen
        assert math.isnan(run(metric, outputs, y, np.zeros(4)))
        for bad in (math.nan, *([math.inf] if metric.needs_from_logits((3,)) else [])):
            z = np.array([[0.2, 0.3, 0.5]] * 4)
            z[1, 0] = bad
            assert math.isnan(run(metric, z, np.array([0, 1, 2, 0]), from_logits=True))
            assert not math.isnan(run(metric, z, np.array([0, 1, 2, 0]), np.array([1.0, 0, 1, 1]), from_logits=True))
    for metric in (metrics.Recall(average=None), metrics.AUC(average=None)):
        assert np.isnan(run(metric, np.full((2, 3), math.nan), np.array([0, 1]))).tolist() == [True] * 3


@pytest.mark.parametrize(("call", "error", "said"), [
    (lambda: metrics.Precision(1.5), ValueError, r"^Precision: thresholds must be a number in \[0, 1\]; got 1.5"),
    (lambda: metrics.Recall([0.2, 0.5]), TypeError, "^Recall: thresholds must be a number"),
    (lambda: metrics.F1Score(threshold=True), TypeError, "^F1Score: threshold must be a number"),
    (lambda: metrics.F1Score("makro"), ValueError, "average, if it is not None, must be .*Did you mean 'macro'"),
    (lambda: metrics.F1Score(1), TypeError, "^F1Score: average, if it is not None, must be one of 'macro', 'micro'"),
    (lambda: metrics.FBetaScore(beta=0), ValueError, "^FBetaScore: beta must be a number > 0; got 0"),
    (lambda: metrics.AUC("DET"), ValueError, "^AUC: curve must be one of 'ROC', 'PR'; got 'DET'"),
    (lambda: metrics.AUC(200), TypeError, "^AUC: curve must be one of 'ROC', 'PR'; got 200"),
    (lambda: metrics.AUC(num_thresholds=200), TypeError, "`num_thresholds`. The area is exact"),
    (lambda: metrics.Precision(top_k=1), TypeError, "`top_k`. metrics.TopKAccuracy asks"),
    (lambda: metrics.Precision(class_id=-1), ValueError, "^Precision: class_id must be a whole number >= 0; got -1"),
    (lambda: metrics.AUC(multi_label=1), TypeError, "^AUC: multi_label must be True or False; got 1"),
    (lambda: metrics.AUC(name=3), TypeError, "^AUC: the name of a metric must be a string; got 3"),
    (lambda: run(metrics.AUC(class_id=5), *case("classes")), ValueError, r"class_id of .* in \[0, 4\]; got 5"),
    (lambda: run(metrics.AUC(), *case("classes")[:2], -np.ones(60)), ValueError, "sample weights must be >= 0; got -1"),
    (lambda: run(metrics.AUC(), *case("labels")), ValueError, "must sum to 1; .* say multi_label=True"),
    (lambda: run(metrics.Recall(multi_label=True), *case("classes")), ValueError, r"y must have the shape \(60, 5\)"),
    (lambda: run(metrics.Recall(multi_label=True), np.ones((1, 2)), np.array([[0.5, 1]])), ValueError, "must be 0 or"),
    (lambda: run(metrics.Recall(), np.ones((1, 2, 2)), np.array([0])), ValueError, r"shape \(N, classes\), \(N, 1\)"),
    (lambda: run(metrics.Recall(), np.ones((1, 1)), np.array([2])), ValueError, r"whole numbers in \[0, 1\]; got 2"),
    (lambda: run(metrics.Recall(), np.ones((1, 2)), np.array(["a"])), TypeError, "Number the classes"),
])  # fmt: skip
def test_wrong_input(call, error, said):
    with pytest.raises(error, match=said):
        call()


# ---- in a model ----

X = np.random.default_rng(0).normal(size=(48, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
NAMES = ["cat", "a dog", "eel/1"]


def network(given, loss="sparse_categorical_crossentropy", end="softmax", units=3, names=None):
    model = mc.Sequential([mc.Input((4,)), mc.layers.Dense(units, end)], seed=1)
    model.class_names = names
    model.compile(mc.optimizers.Adam(0.1), loss, given)
    return model


GIVEN = ["precision", "recall", "f1", "auc", "AUC", metrics.AUC("PR", "pr", None), metrics.F1Score(None)]
LOGS = ["precision", "recall", "f1", "auc", "AUC", *(f"{name}/{one}" for name in ("pr", "f1_score") for one in NAMES)]


@pytest.mark.parametrize("end", ["softmax", None])
def test_a_model_evaluates_what_its_predictions_give(end, tmp_path):
    model, weights = network(GIVEN, end=end, names=NAMES), np.linspace(0, 2, 48)
    model.fit(X, Y, epochs=2, verbose=0)
    assert model.metrics_names == ["loss", *LOGS]
    p = model.predict_proba(X)
    for given in (None, weights):
        found = model.evaluate(X, Y, 7, True, sample_weight=given)
        assert list(found) == ["loss", *LOGS]
        assert {type(value) for value in found.values()} == {float}
        assert found == model.evaluate(X, Y, 48, True, sample_weight=given) | {"loss": found["loss"]}
        for name in ("precision", "f1", "auc"):
            np.testing.assert_allclose(found[name], run(metrics.get(name), p, Y, given), rtol=1e-6)
        each = run(metrics.AUC("PR", average=None), p, Y, given)
        np.testing.assert_allclose([found[f"pr/{name}"] for name in NAMES], each, rtol=1e-6)
    model.save(tmp_path / "m.npz")
    again = mc.Sequential.load(tmp_path / "m.npz")
    assert again.evaluate(X, Y) == model.evaluate(X, Y)
    assert [metric.get_config() for metric in again.metrics] == [metric.get_config() for metric in model.metrics]
    assert mc.Ensemble([model]).evaluate(X, Y).keys() == found.keys()


def test_training_metrics_are_of_the_epoch_and_not_means_of_batches():
    model = network([*GIVEN, "accuracy"], names=NAMES)
    model.compile(mc.optimizers.SGD(0.0), "sparse_categorical_crossentropy", [*GIVEN, "accuracy"])
    logs = model.fit(X, Y, batch_size=7, verbose=0, validation_data=(X, Y)).history
    assert [name for name in logs if name[:4] == "val_"] == [f"val_{name}" for name in ["loss", *LOGS, "accuracy"]]
    for name in [*LOGS, "accuracy"]:  # at rate 0 both see the same outputs, in another order
        assert logs[name] == logs[f"val_{name}"], name
    model.class_names = None
    assert model.metrics_names[-7:] == ["pr/0", "pr/1", "pr/2", "f1_score/0", "f1_score/1", "f1_score/2", "accuracy"]
    found = model.train_on_batch(X, Y)
    assert found["auc"] == logs["auc"][0]


@pytest.mark.parametrize("end", ["sigmoid", None])
def test_the_binary_cross_entropy_makes_each_output_a_yes_or_no(end):
    y = np.stack([X[:, 0] > 0, X[:, 1] > 0.5, X[:, 2] > 2], 1).astype(int)
    chosen = ["precision", metrics.F1Score(threshold=0.3), metrics.AUC(average=None), metrics.Recall(average="micro")]
    model = network(chosen, "binary_crossentropy", end)
    model.fit(X, y, epochs=2, verbose=0)
    found, p = model.evaluate(X, y, return_dict=True), model.predict_proba(X)
    assert list(found)[1:] == ["precision", "f1_score", "auc/0", "auc/1", "auc/2", "recall"]
    want = [run(metrics.get(one).of_labels(), p, y) for one in chosen]
    np.testing.assert_allclose([*found.values()][1:], np.hstack(want), rtol=1e-6)
    assert math.isnan(found["auc/2"]) == (y[:, 2].sum() == 0)
    with pytest.raises(ValueError, match=r"^Sequential.fit: metric precision: .*multi_label=True"):
        network(["precision"], "mse", "sigmoid").fit(X, y, verbose=0)
    model = network([metrics.Precision(multi_label=True)], "mse", "sigmoid")
    assert model.evaluate(X, y)[1] == run(metrics.Precision(multi_label=True), model.predict(X), y)


@pytest.mark.parametrize("end", ["sigmoid", None])
def test_one_yes_or_no(end):
    y = (X[:, 0] > 0.3).astype(int)
    model = network(GIVEN, "binary_crossentropy", end, 1)
    model.fit(X, y, epochs=2, verbose=0)
    found, p = model.evaluate(X, y, return_dict=True), model.predict_proba(X)
    assert list(found)[1:] == ["precision", "recall", "f1", "auc", "AUC", "pr", "f1_score"]
    assert found["precision"] == run(metrics.Precision(), p, y)
    np.testing.assert_allclose(found["auc"], area_by_loops("ROC", p[:, 0], y == 1, np.ones(48)), rtol=1e-6)


def test_callbacks_and_files_take_them(tmp_path, capsys):
    class Steps(mc.callbacks.Callback):
        seen = None

        def on_train_batch_end(self, batch, logs=None):
            self.seen = sorted(logs)

    steps, model = Steps(), network(GIVEN, names=NAMES)
    given = [
        steps,
        mc.callbacks.EarlyStopping("val_f1", patience=1, min_delta=2, restore_best_weights=True),
        mc.callbacks.ReduceLROnPlateau("val_f1_score/a dog"),
        mc.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}-{val_auc:.1f}-{val_pr/cat:.1f}.npz"), "val_pr/eel/1",
                                     save_best_only=True),
        mc.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]  # fmt: skip
    history = model.fit(X, Y, epochs=9, validation_split=0.25, verbose=2, callbacks=given).history
    assert len(history["loss"]) == 2  # nothing improves by 2
    assert given[2].mode == given[3].mode == "max"
    assert json.loads(json.dumps(history)) == history
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    assert set(header.split(",")) == {"epoch", *history}
    assert len(rows) == 2
    assert list(tmp_path.glob("1-*.npz"))
    assert "val_f1_score/a dog" in capsys.readouterr().err
    assert "auc" not in steps.seen  # it sorts all that it has seen
    assert {"precision", "f1_score/cat"} <= {*steps.seen}


def test_a_run_that_goes_on_in_the_middle_of_an_epoch(tmp_path):
    class Stop(mc.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations == 8:
                raise KeyboardInterrupt

    def train(folder, *more):
        model, weights = network([*GIVEN, "mae"], "categorical_crossentropy", names=NAMES), np.linspace(1, 2, 48)
        backup = mc.callbacks.BackupAndRestore(tmp_path / folder, save_freq=1)
        words = {"epochs": 3, "batch_size": 8, "verbose": 0, "sample_weight": weights}
        return model.fit(X, np.eye(3)[Y], callbacks=[backup, *more], **words).history

    with pytest.raises(KeyboardInterrupt):
        train("a", Stop())
    assert train("a") == train("b")


def test_a_first_batch_that_weighs_nothing():
    """It has no result, and the logs of its step say so."""
    chosen = [metrics.R2Score(None), metrics.MeanSquaredError(average=None), metrics.Recall(average=None), "auc"]

    class Steps(mc.callbacks.Callback):
        logs = ()

        def on_train_batch_end(self, batch, logs=None):
            self.logs = (*self.logs, logs)

    steps, weights = Steps(), np.repeat([0.0, 1.0], 24)
    model = network(chosen, "categorical_crossentropy")
    model.fit(X, np.eye(3)[Y], batch_size=24, shuffle=False, verbose=0, sample_weight=weights, callbacks=[steps])
    first, second = ({name: value for name, value in logs.items() if name != "loss"} for logs in steps.logs)
    assert len(first) == 9
    assert all(map(math.isnan, first.values()))
    assert all(map(math.isfinite, second.values()))


def test_names_of_classes_that_come_with_the_data_are_those_of_the_logs():
    class Named(mc.utils.Sequence):
        class_names = NAMES

        def __len__(self):
            return 3

        def __getitem__(self, i):
            return X[i * 16 : i * 16 + 16], Y[i * 16 : i * 16 + 16]

    model = network([metrics.F1Score(None, name="f1")])
    stops = mc.callbacks.EarlyStopping("f1/a dog", patience=9)
    assert list(model.fit(Named(), verbose=0, callbacks=[stops]).history) == ["loss", *(f"f1/{one}" for one in NAMES)]
    assert stops.params["metrics"] == ["loss", *(f"f1/{one}" for one in NAMES)]


def test_names_that_meet_are_refused():
    model = network([metrics.Recall(average=None), metrics.Accuracy("recall/0")])
    with pytest.raises(ValueError, match="no two logs may have one name; got 'recall/0'"):
        model.fit(X, Y, verbose=0)
    assert model.optimizer.iterations == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metrics.log_names([metrics.Recall(), metrics.Recall()]) == ["recall", "recall_1"]
