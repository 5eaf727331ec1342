"""Choosing the dropout rate: folds, seeds, the numbers of a run, the two rates, and processes that change nothing."""

import functools
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from programs import alive
from running import normal

import minicnn as mc
from minicnn import layers, processes
from minicnn.tune import DropoutCurve, dropout_curve, stratified_folds

Y = np.arange(30) % 3
X = (normal((30, 4)) + Y[:, None]).astype(np.float32)
FAST = {"rates": (0, 0.5), "epochs": 2, "batch_size": 8, "verbose": 0}


def build(rate, seed, metrics=("accuracy",), loss="sparse_categorical_crossentropy", lr=0.1):
    chain = [layers.Dense(5, activation="relu"), layers.Dropout(rate), layers.Dense(3, activation="softmax")]
    model = mc.Sequential(chain, seed=seed)
    model.compile(mc.optimizers.SGD(lr), loss, list(metrics))
    return model


def build_with_norm(rate, seed):
    chain = [layers.Dense(5), layers.BatchNormalization(), layers.Dropout(rate), layers.Dense(3)]
    model = mc.Sequential(chain, seed=seed)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def test_a_last_sample_of_a_fold_does_not_end_its_run():
    """Of 25 samples 5 folds leave 20 to train on, and batches of 19 one of them."""
    curve = dropout_curve(build_with_norm, X[:25], Y[:25], cv=5, **{**FAST, "batch_size": 19})
    assert [row["failed"] for row in curve.table] == [0, 0]


# ---- folds ----


@pytest.mark.parametrize("cv", [2, 3, 7])
@pytest.mark.parametrize("sizes", [(7, 7, 7), (7, 30, 8), (20,), (9, 10, 11, 12, 13)], ids=str)
def test_folds_hold_every_class_as_equally_as_can_be(sizes, cv):
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    folds = stratified_folds(y, cv, seed=3)
    assert folds.dtype == np.int64
    assert folds.shape == y.shape
    for part in (folds, *(folds[y == c] for c in range(len(sizes)))):
        counts = np.bincount(part, minlength=cv)
        assert len(counts) == cv
        assert counts.max() - counts.min() <= 1
    assert (folds == stratified_folds(y, cv, seed=3)).all()
    assert (folds != stratified_folds(y, cv, seed=4)).any()


@pytest.mark.parametrize("y", [
    Y.tolist(), Y[:, None], Y.astype(float), Y.astype(np.uint8), np.eye(3)[Y], np.eye(3, dtype=bool)[Y], Y - 7,
], ids=["list", "column", "floats", "uint8", "one-hot", "one-hot bools", "negative"])  # fmt: skip
def test_folds_know_classes_of_every_kind(y):
    assert (stratified_folds(y, 5) == stratified_folds(Y, 5)).all()


@pytest.mark.parametrize("y", [normal(30), normal((30, 2)), np.ones((30, 2)), np.full(30, 1e30)],
                         ids=["numbers", "rows", "not one-hot", "huge"])  # fmt: skip
def test_folds_of_targets_that_are_no_classes(y):
    assert np.bincount(stratified_folds(y, 4)).tolist() == [8, 8, 7, 7]
    assert (stratified_folds(y, 4) == stratified_folds(np.zeros(30), 4)).all()


@pytest.mark.parametrize(("y", "cv", "error", "message"), [
    ([0, 0, 0, 1, 1], 3, ValueError, "every class must have a sample for each of the 3 folds; got 2 of class 1. Lower"),
    ([], 2, ValueError, "every class must have a sample for each of the 2 folds; got no samples"),
    ([0, 0], 1, ValueError, "cv must be a whole number >= 2; got 1"),
    ([0, 0], 2.0, TypeError, "cv must be a whole number >= 2; got 2.0"),
    (3, 2, ValueError, "y must have a batch axis; got shape"),
    (["a", "b"], 2, TypeError, "y must be an array of numbers"),
])  # fmt: skip
def test_folds_that_are_refused(y, cv, error, message):
    with pytest.raises(error, match=f"^stratified_folds: {message}"):
        stratified_folds(y, cv)


# ---- the runs ----


def by_hand(rate, one, training, validation):
    model = build(rate, one["seed"])
    model.fit(*training, batch_size=8, epochs=2, verbose=0)
    train, val = (model.evaluate(*part, batch_size=8, return_dict=True) for part in (training, validation))
    return {f"train_{k}": v for k, v in train.items()} | {f"val_{k}": v for k, v in val.items()}


def test_the_table_holds_means_over_runs_and_their_standard_errors():
    curve = dropout_curve(build, X, Y, **FAST, cv=2, repeats=2)
    assert [(one["rate"], one["repeat"], one["fold"]) for one in curve.runs] == [
        (rate, repeat, fold) for rate in (0.0, 0.5) for repeat in (0, 1) for fold in (0, 1)
    ]
    for row in curve.table:
        own = [one for one in curve.runs if one["rate"] == row["rate"]]
        assert (row["runs"], row["failed"], row["note"]) == (4, 0, None)
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
            values = [one[name] for one in own]
            assert row[name] == pytest.approx(statistics.mean(values), rel=1e-12)
            assert row[f"{name}_se"] == pytest.approx(statistics.stdev(values) / 2, rel=1e-12)
        gaps = [one["val_loss"] - one["train_loss"] for one in own]
        assert row["gap"] == pytest.approx(statistics.mean(gaps), rel=1e-12)
        assert row["gap_se"] == pytest.approx(statistics.stdev(gaps) / 2, rel=1e-12)


def test_every_sample_validates_once_in_every_repeat():
    """Seen from within: a loss that notes the samples (each has a target of its own)."""
    seen = []

    def noting(rate, seed):
        def loss(outputs, y):
            seen[-1][model.training].update(y[:, 0].tolist())
            return 0.5, np.zeros_like(outputs)

        seen.append({True: set(), False: set()})
        model = build(rate, seed, (), loss)
        return model

    y = np.arange(30) + 0.5  # numbers, no classes
    dropout_curve(noting, X, y[:, None], **FAST | {"epochs": 1}, cv=3, repeats=2)
    runs = [one for one in seen if one[True]]  # the first model is built to be looked at only
    assert len(runs) == 2 * 2 * 3
    partitions = []
    for repeat in range(4):  # two of either rate
        parts = [set(y) - one[True] for one in runs[3 * repeat : 3 * repeat + 3]]
        assert sorted(sample for part in parts for sample in part) == y.tolist()
        partitions.append([sorted(part) for part in parts])
    assert partitions[:2] == partitions[2:]  # the same for both rates
    assert partitions[0] != partitions[1]  # others in the second repeat


@pytest.mark.parametrize("loss", ["mse", "log_cosh"])
def test_whole_numbers_are_no_classes_where_numbers_are_learned(loss):
    def numbers(rate, seed):
        model = mc.Sequential([layers.Dense(4), layers.Dropout(rate), layers.Dense(1)], seed=seed)
        model.compile(mc.optimizers.SGD(1e-4), loss)
        return model

    years = np.arange(30.0)  # each once
    curve = dropout_curve(numbers, X, years, **FAST, cv=3)
    assert [row["failed"] for row in curve.table] == [0, 0]
    assert curve.to_dict()["table"] == dropout_curve(numbers, X, years[:, None], **FAST, cv=3).to_dict()["table"]


def test_a_run_with_validation_data():
    validation = X[20:], Y[20:]
    curve = dropout_curve(build, X[:20], Y[:20], **FAST, validation_data=validation, repeats=2)
    assert [(one["repeat"], one["fold"]) for one in curve.runs] == 2 * [(0, 0), (1, 0)]
    for one in curve.runs:
        expected = by_hand(one["rate"], one, (X[:20], Y[:20]), validation)
        assert {name: one[name] for name in expected} == expected
    weights = np.linspace(0, 2, 10)
    weighted = dropout_curve(build, X[:20], Y[:20], **FAST, validation_data=[*validation, weights], repeats=2)
    for one, other in zip(curve.runs, weighted.runs, strict=True):
        assert one["train_loss"] == other["train_loss"]
        assert one["val_loss"] != other["val_loss"]


def test_a_run_with_folds_is_the_one_by_hand():
    curve = dropout_curve(build, X, Y, **FAST, cv=3, seed=5)
    folds = [np.flatnonzero(mask) for mask in _fold_masks(curve, 3)]
    for one in curve.runs:
        out = np.isin(np.arange(30), folds[one["fold"]])
        expected = by_hand(one["rate"], one, (X[~out], Y[~out]), (X[out], Y[out]))
        assert {name: one[name] for name in expected} == expected


def _fold_masks(curve, cv):
    """The folds of the first repeat."""
    from minicnn.tune import _seed

    folds = stratified_folds(Y, cv, _seed(curve.settings["seed"], 0))
    return [folds == fold for fold in range(cv)]


def test_seeds_do_not_depend_on_the_rate_and_nothing_on_the_other_rates():
    calls = []  # the first is made before the runs, to look at the model

    def noted(rate, seed):
        calls.append((rate, seed))
        return build(rate, seed)

    options = {**FAST, "cv": 2, "repeats": 3}
    curve = dropout_curve(noted, X, Y, **options)
    by_rate = {rate: [seed for r, seed in calls[1:] if r == rate] for rate in (0.0, 0.5)}
    assert by_rate[0.0] == by_rate[0.5]
    assert len(set(by_rate[0.5])) == 6
    alone = dropout_curve(build, X, Y, **options | {"rates": [0.5]})
    assert alone.runs == curve.runs[6:]
    more = dropout_curve(build, X, Y, **options | {"rates": np.array([1, 0.5, 0])})
    assert [row["rate"] for row in more.table] == [0.0, 0.5, 1.0]
    assert more.runs[:12] == curve.runs
    assert dropout_curve(build, X, Y, **options | {"repeats": 1}).runs == [
        one for one in curve.runs if not one["repeat"]
    ]
    others = dropout_curve(build, X, Y, **options, seed=1)
    assert not {one["seed"] for one in others.runs} & {one["seed"] for one in curve.runs}


def test_neither_cv_nor_validation_data_is_three_folds():
    curve = dropout_curve(build, X, Y, **FAST)
    assert curve.settings == {"samples": 30, "cv": 3, "repeats": 1, "epochs": 2, "batch_size": 8, "seed": 0}
    assert [row["runs"] for row in curve.table] == [3, 3]


def test_models_without_accuracy():
    curve = dropout_curve(functools.partial(build, metrics=["top_2_accuracy"]), X, Y, **FAST)
    row = curve.table[0]
    assert {"val_loss", "train_top_2_accuracy", "val_top_2_accuracy_se"} < set(row)
    assert "val_accuracy" not in row
    assert "acc" not in str(curve).splitlines()[0]
    with pytest.raises(ValueError, match=r"^dropout_curve: select='accuracy' needs .*; got \['top_2_accuracy'\]"):
        dropout_curve(functools.partial(build, metrics=["top_2_accuracy"]), X, Y, **FAST, select="accuracy")
    regression = dropout_curve(functools.partial(build, metrics=(), loss="mse"), X, normal((30, 3)), **FAST)
    assert set(regression.table[0]) == {
        *("rate", "runs", "failed", "note", "train_loss", "train_loss_se", "val_loss", "val_loss_se", "gap", "gap_se"),
        *("behind_best", "behind_best_se"),
    }


# ---- runs that fail ----


def test_a_rate_that_fails_leaves_the_others():
    def fails(rate, seed):
        if rate == 0.3:
            raise KeyError("lost")
        return build(rate, seed, lr=1e38 if rate == 0.5 else 0.1)

    rates = (0, 0.3, 0.5)
    curve = dropout_curve(fails, X, Y, **FAST | {"rates": rates, "epochs": 30})
    good = dropout_curve(build, X, Y, **FAST | {"rates": [0], "epochs": 30})
    assert curve.table[0] == good.table[0]
    assert [row["failed"] for row in curve.table] == [0, 3, 3]
    assert curve.table[1]["note"] == "KeyError: 'lost'"
    assert curve.table[2]["note"].startswith("FloatingPointError: Sequential.fit: step ")
    assert all(math.isnan(curve.table[row][name]) for row in (1, 2) for name in ("val_loss", "val_accuracy_se", "gap"))
    assert (curve.best_rate, curve.one_standard_error_rate) == (0.0, 0.0)
    text = str(curve).splitlines()
    assert text[2].split() == ["0.3", "-", "-", "-", "-", "-"]
    assert text[-2] == "rate 0.3: 3 of 3 runs failed, the first: KeyError: 'lost'"
    found = json.loads(json.dumps(curve.to_dict(), allow_nan=False))
    assert found["table"][2]["val_loss"] is None
    assert [one["error"] for one in found["runs"]][:4] == [None, None, None, "KeyError: 'lost'"]


def test_when_all_runs_fail_the_first_error_is_said():
    with (
        pytest.raises(
            RuntimeError, match=r"^dropout_curve: every run failed; the first one with FloatingPointError: Seq.*loss"
        ),
        np.errstate(all="ignore"),
    ):
        dropout_curve(functools.partial(build, lr=1e38), X, Y, **FAST)


@pytest.mark.parametrize(("more", "message"), [
    ({"y": Y + 1}, r"labels must be whole numbers in \[0, 2\]; got 3"),
    ({"x": X[:0], "y": Y[:0], "validation_data": (X, Y)}, "x must have at least one sample"),
    ({"validation_data": (X[:, :3], Y)}, r"x must have shape \(N, 4\); got shape \(30, 3\)"),
    ({"validation_data": (X, Y[:3])}, "x and y must have the same number of samples; got 30 and 3"),
    ({"validation_data": (X, Y, Y[:3])}, "sample weights must have shape"),
])  # fmt: skip
def test_samples_that_do_not_fit_the_network_are_refused_before_any_is_trained(more, message):
    trained = []

    def noting(rate, seed):
        trained.append(build(rate, seed))
        return trained[-1]

    with pytest.raises(ValueError, match=f"^Sequential.fit: .*{message}"):
        dropout_curve(**{"build": noting, "x": X, "y": Y, **FAST, **more})
    assert [model.optimizer.iterations for model in trained] == [0]


def test_a_seed_goes_where_its_name_is():
    curve = dropout_curve(lambda rate, units=16, seed=0: build(rate, seed), X, Y, **FAST)
    assert not any(run["error"] for run in curve.runs)


def test_a_validation_loss_that_is_not_finite_is_a_failure():
    """Training goes well, and evaluating does not raise."""

    def loss(outputs, y):
        return math.inf if (y == 2).all() else 0.5, np.zeros_like(outputs)

    message = "every run failed; the first one with losses that are not finite: 0.5 in training, inf in validation$"
    with pytest.raises(RuntimeError, match=message):
        dropout_curve(functools.partial(build, loss=loss), X, Y, **FAST, validation_data=(X[Y == 2], Y[Y == 2]))


# ---- both rates ----


def fake(val, select="loss"):
    """A curve of made-up runs: {rate: validation numbers}."""
    listed = []
    for rate, values in val.items():
        for repeat, value in enumerate(values):
            one = {"rate": rate, "repeat": repeat, "fold": 0, "seed": repeat, "error": None, "train_loss": 0.25}
            one |= {"val_loss": value} if select == "loss" else {"val_loss": 1.0, "val_accuracy": value}
            listed.append(one | ({} if select == "loss" else {"train_accuracy": 1.0}))
    return DropoutCurve(listed, select)


@pytest.mark.parametrize(("val", "best", "simple"), [
    ({0: [5, 5, 5], 0.3: [3, 4, 5], 0.5: [4, 4.5, 5], 0.9: [9, 9, 9]}, 0.3, 0.5),  # 4 + 0.577 >= 4.5
    ({0: [5, 5, 5], 0.3: [3, 4, 5], 0.5: [4, 4.8, 5], 0.9: [9, 9, 9]}, 0.3, 0.3),  # 4.6 is above
    ({0: [3, 4, 5], 0.3: [9, 9, 9], 0.5: [4, 4, 5], 0.9: [4, 4, 5.1]}, 0, 0.9),  # also beyond a worse one
    ({0: [4, 4, 4], 0.5: [4, 4, 4]}, 0, 0.5),
    ({0: [4, 4, 4], 0.5: [4, 4, 4.1]}, 0, 0),
    ({0: [4], 0.5: [4]}, 0, None),
])  # fmt: skip
def test_the_best_rate_and_the_one_standard_error_rule(val, best, simple):
    curve = fake(val)
    assert (curve.best_rate, curve.one_standard_error_rate) == (best, simple)
    accuracy = fake({rate: [-value for value in values] for rate, values in val.items()}, select="accuracy")
    assert (accuracy.best_rate, accuracy.one_standard_error_rate) == (best, simple)
    assert repr(curve).endswith(f"best {best}, one SE {simple}>")


def test_differences_are_paired():
    curve = fake({0: [1, 2, 3], 0.5: [1.5, 2.5, 3.5]})
    best, other = curve.table
    assert best["val_loss_se"] == other["val_loss_se"] == pytest.approx(1 / math.sqrt(3))
    assert (best["behind_best"], best["behind_best_se"]) == (0, 0)
    assert (other["behind_best"], other["behind_best_se"]) == (0.5, 0)
    worse = fake({0: [0.75, 1], 0.5: [0.5, 0.5]}, select="accuracy").table[1]
    assert (worse["behind_best"], worse["behind_best_se"]) == (0.375, 0.125)


def test_the_table():
    curve = fake({0: [5, 5, 5], 0.3: [3, 4, 5], 0.5: [4, 4.5, 5]})
    assert (
        str(curve)
        == """\
rate     train_loss         val_loss              gap
   0         0.2500  5.0000 ± 0.0000  4.7500 ± 0.0000
 0.3  *      0.2500  4.0000 ± 0.5774  3.7500 ± 0.5774
 0.5  +      0.2500  4.5000 ± 0.2887  4.2500 ± 0.2887

Means over runs, with standard errors; nothing dropped; gap = val_loss - train_loss.
* best rate: lowest mean val_loss
+ one-standard-error rule: the highest rate within one standard error of the best"""
    )
    single = str(fake({0: [5], 0.5: [4]}))
    assert "±" not in single
    assert "One run a rate: no standard errors" in single
    with_accuracy = str(fake({0: [0.5, 0.75], 0.5: [0.25, 0.25]}, select="accuracy")).splitlines()
    assert with_accuracy[0].split() == ["rate", "train_loss", "val_loss", "gap", "train_acc", "val_acc"]
    assert with_accuracy[1].endswith("  100.00 %  62.50 ± 12.50 %")
    assert "* best rate: highest mean val_accuracy" in with_accuracy


# ---- arguments ----


@pytest.mark.parametrize(("more", "error", "message"), [
    ({"rates": []}, ValueError, "rates must be a list of different numbers"),
    ({"rates": [0.1, 0.1]}, ValueError, "rates must be a list of different numbers"),
    ({"rates": [1.1]}, ValueError, r"every rate must be a number in \[0, 1\]; got 1.1"),
    ({"rates": [math.nan]}, ValueError, "every rate must be a number"),
    ({"rates": ["0.1"]}, TypeError, "every rate must be a number"),
    ({"rates": "0.1"}, TypeError, "rates must be a list"), ({"rates": 0.1}, TypeError, "rates must be a list"),
    ({"cv": 1}, ValueError, "cv must be a whole number >= 2; got 1"), ({"cv": 2.0}, TypeError, "cv must be"),
    ({"cv": 2, "validation_data": (X, Y)}, ValueError, "cv or validation_data must be given; got both"),
    ({"validation_data": X}, TypeError, r"validation_data must be \(x, y\) or"),
    ({"validation_data": (X,)}, TypeError, r"validation_data must be \(x, y\) or"),
    ({"repeats": 0}, ValueError, "repeats must be"), ({"epochs": 0}, ValueError, "epochs must be"),
    ({"batch_size": 0}, ValueError, "batch_size must be"), ({"seed": -1}, ValueError, "seed must be"),
    ({"select": "gap"}, ValueError, "select must be one of 'loss', 'accuracy'"),
    ({"verbose": 3}, ValueError, "verbose must be"),
    ({"n_jobs": 0}, ValueError, "n_jobs must be a whole number other than 0"), ({"n_jobs": 1.5}, TypeError, "n_jobs"),
    ({"n_jobs": "2"}, TypeError, "n_jobs must be a whole number"),
    ({"y": Y[:29]}, ValueError, r"x and y must have the same number of samples; got shapes \(30, 4\) and \(29,\)"),
    ({"x": "data"}, TypeError, "x must be an array of numbers"), ({"y": 3}, ValueError, "x and y must have the same"),
    ({"build": build(0, 0)}, TypeError, r"build must be a function \(rate, seed\) -> model; got Sequential"),
    ({"build": "dense"}, TypeError, "build must be a function"),
    ({"build": lambda rate: build(rate, 0)}, TypeError, r"build must take two arguments.*Without the seed all repeats"),
    ({"build": lambda rate, seed: None}, TypeError, "build must return a Sequential; got None"),
    ({"build": lambda rate, seed: mc.Sequential(seed=seed)}, ValueError, "build must return a compiled model"),
    ({"build": lambda rate, seed: build(rate, 0)}, ValueError, r"build must return a model with the seed \d+; got 0"),
])  # fmt: skip
def test_arguments_that_are_refused(more, error, message):
    arguments = {"build": build, "x": X, "y": Y, **FAST, **more}
    with pytest.raises(error, match=f"^dropout_curve: {message}"):
        dropout_curve(**arguments)


def test_data_that_give_batches_are_refused():
    with pytest.raises(
        TypeError, match=r"^dropout_curve: x must be an array; got list_iterator, which gives one thing"
    ):
        dropout_curve(build, iter([(X, Y)]), None)


def test_a_model_that_was_trained_before_is_refused():
    model = build(0, 0)
    model.fit(X, Y, verbose=0)
    with pytest.raises(
        ValueError, match=r"^dropout_curve: build must return a new model; got one that has been trained"
    ):
        dropout_curve(lambda rate, seed: model, X, Y, **FAST)


def test_classes_that_are_too_small_for_the_folds():
    with pytest.raises(ValueError, match=r"^stratified_folds: .*each of the 11 folds; got 10 of class 0. Lower cv"):
        dropout_curve(build, X, Y, **FAST, cv=11)


# ---- progress ----


def test_progress(capsys):
    dropout_curve(build, X, Y, **FAST)
    assert capsys.readouterr() == ("", "")
    for verbose in (2, "auto"):
        dropout_curve(build, X, Y, **FAST | {"verbose": verbose})
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 6
        assert err.splitlines()[3].startswith("run 4/6  repeat 1, fold 1  rate 0.5  val_loss ")
    dropout_curve(build, X, Y, **FAST | {"verbose": 1})
    out, err = capsys.readouterr()
    assert out == ""
    assert "dropout curve: 100%" in err
    assert "6/6" in err


def test_ctrl_c_in_a_run_ends_them_all():
    def interrupted(rate, seed):
        seeds.append(seed)
        if len(seeds) == 4:
            raise KeyboardInterrupt
        return build(rate, seed)

    seeds = []
    with pytest.raises(KeyboardInterrupt):
        dropout_curve(interrupted, X, Y, **FAST)
    assert len(seeds) == 4


# ---- processes ----


@pytest.fixture(scope="module")
def none_left():
    """None are left by others, and none for others: joblib keeps its processes for later."""
    loky = pytest.importorskip("joblib.externals.loky")
    loky.get_reusable_executor().shutdown(wait=True)
    yield
    loky.get_reusable_executor().shutdown(wait=True)


def test_the_curve_is_the_same_at_any_number_of_processes_and_threads(none_left):
    def lr(rate):
        return 1e38 if rate == 0.7 else 0.1

    def closure(rate, seed):  # none that a process could import
        return build(rate, seed, lr=lr(rate))

    options = FAST | {"rates": (0, 0.5, 0.7), "cv": 2, "epochs": 20}
    expected = dropout_curve(closure, X, Y, **options)
    assert [row["failed"] for row in expected.table] == [0, 0, 2]
    for n_jobs, threads in ((1, 3), (3, 1), (2, 5)):
        mc.set_num_threads(threads)
        curve = dropout_curve(closure, X, Y, **options, n_jobs=n_jobs)
        assert json.dumps(curve.to_dict()) == json.dumps(expected.to_dict())
    assert mc.get_num_threads() == 5


def test_threads_are_divided_among_the_processes(none_left):
    mc.set_num_threads(5)
    done = []
    found = processes.run_all("test", lambda task: (task, mc.get_num_threads()), range(7), 2, {}, done.append)
    assert sorted(found) == sorted(done) == [(task, 2) for task in range(7)]


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signal masks")
def test_ctrl_c_does_not_reach_the_processes(none_left):
    """A terminal sends it to all; those that are just starting would print a traceback each."""

    def blocked(task):
        return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])

    assert processes.run_all("test", blocked, range(4), 2, {}, lambda one: None) == [True] * 4
    assert not blocked(0)


def test_an_error_in_a_process_arrives(none_left):
    def fails(task):
        if task == 2:
            raise LookupError("here")
        return task

    with pytest.raises(LookupError, match="here"):
        processes.run_all("test", fails, range(50), 2, {}, lambda one: None)

    def done(one):
        raise ArithmeticError("there")

    with pytest.raises(ArithmeticError, match="there"):  # and joblib does not warn of what is left undone
        processes.run_all("test", abs, range(50), 2, {}, done)
    assert sorted(processes.run_all("test", abs, range(5), 2, {}, lambda one: None)) == [0, 1, 2, 3, 4]


def test_what_cannot_be_sent_to_a_process():
    pytest.importorskip("joblib")
    lock = threading.Lock()

    def locked(rate, seed):
        with lock:
            return build(rate, seed)

    assert dropout_curve(locked, X, Y, **FAST).best_rate is not None
    message = r"^dropout_curve: build must be picklable where n_jobs is not 1, .*; got <function .*lock.*use n_jobs=1$"
    with pytest.raises(TypeError, match=message):
        dropout_curve(locked, X, Y, **FAST, n_jobs=2)


def test_without_joblib(monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    dropout_curve(build, X, Y, **FAST)
    with pytest.raises(ImportError, match=r'needs joblib: pip install "minicnn\[tune\]"$'):
        dropout_curve(build, X, Y, **FAST, n_jobs=2)


FOREVER = """
import minicnn as mc
x, y = [[0.0], [1.0]] * 6, [0, 1] * 6

def build(rate, seed):
    model = mc.Sequential([mc.layers.Dense(2)], seed=seed)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model

try:
    mc.tune.dropout_curve(build, x, y, repeats=100, n_jobs=2, epochs=1000, verbose=2)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks for processes in /proc")
@pytest.mark.parametrize("whole_group", [True, pytest.param(False, marks=pytest.mark.long)], ids=["terminal", "kill"])
def test_a_real_ctrl_c_leaves_no_process(whole_group, tmp_path):
    """As a terminal sends it, to all processes, and as kill does, to the first one."""
    pytest.importorskip("joblib")
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(mc.__file__)))}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path, "env": environment}
    process = subprocess.Popen([sys.executable, "-c", FOREVER], start_new_session=True, **pipes)
    assert process.stderr.readline().startswith("run ")
    assert len(alive(process.pid)) > 2
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "interrupted\n")
    assert all(line.startswith("run ") for line in err.splitlines()), err
    for _ in range(300):  # joblib's watchman of files ends a moment after the last of the others
        if not alive(process.pid):
            break
        time.sleep(0.1)
    assert alive(process.pid) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes as POSIX has them")
def test_a_picture_does_not_wait_for_the_reader_of_a_pipe(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.png")
    monkeypatch.setattr(mc.plot, "dropout_curve", lambda curve, ax: Drawn())
    with pytest.raises(OSError, match="Not a regular file"):
        DropoutCurve.plot(None, tmp_path / "pipe.png")


class Drawn:
    def savefig(self, path):
        raise AssertionError("it would wait for ever")
