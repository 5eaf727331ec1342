"""Callbacks: when they are called, what they are given, and those that come with minicnn."""

import copy
import functools
import math
import os
import pickle
import re
import signal

import numpy as np
import pytest
from compare import assert_same_bits
from models import LABELS, Hook, X, compiled, small, trained, whole_state

import minicnn as mc
from minicnn.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    LearningRateFinder,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
    WeightNorms,
)

FIT = {"batch_size": 5, "verbose": 0}
HOOKS = [f"on_{what}_{when}" for what in ("train", "epoch", "train_batch") for when in ("begin", "end")]


class Recorder(Callback):
    """Writes down every call of every hook."""

    def __init__(self, calls, name=""):
        self.calls, self.name = calls, name

    def set_model(self, model):
        super().set_model(model)
        self.calls.append(self.name + "set_model")

    def set_params(self, params):
        super().set_params(params)
        self.calls.append(self.name + "set_params")

    def __getattribute__(self, attribute):
        if attribute not in HOOKS:
            return super().__getattribute__(attribute)

        def hook(*arguments):
            self.calls.append((self.name + attribute, *(sorted(a) if isinstance(a, dict) else a for a in arguments)))

        return hook


class Logs(Callback):
    """Puts numbers of our choice into the logs, one an epoch."""

    def __init__(self, name, numbers):
        self.name, self.numbers = name, numbers

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.numbers[epoch]


class Weights(Callback):
    """Keeps the weights after every epoch."""

    def on_train_begin(self, logs=None):
        self.states = []

    def on_epoch_end(self, epoch, logs=None):
        self.states.append(self.model.state_dict())


def run(*callbacks, epochs=8, **more):
    """(model, history) of a fit on a fresh model."""
    model = compiled()
    return model, model.fit(X, LABELS, **FIT, epochs=epochs, callbacks=list(callbacks), **more)


# ---- the hooks ----


def test_the_order_of_hooks():
    calls = []
    run(Recorder(calls), epochs=2, validation_split=0.3)
    train, all_logs = ["accuracy", "loss"], ["accuracy", "loss", "val_accuracy", "val_loss"]
    epochs = []
    for epoch in (0, 1):
        epochs.append(("on_epoch_begin", epoch))
        for batch in (0, 1):
            epochs += [("on_train_batch_begin", batch), ("on_train_batch_end", batch, train)]
        epochs.append(("on_epoch_end", epoch, all_logs))
    assert calls == ["set_params", "set_model", ("on_train_begin",), *epochs, ("on_train_end", all_logs)]


def test_every_callback_is_called_in_the_order_given():
    calls = []
    run(Recorder(calls, "a "), Recorder(calls, "b "), epochs=1)
    names = [call if isinstance(call, str) else call[0] for call in calls][4:]
    assert [name[:2] for name in names] == len(names) // 2 * ["a ", "b "]
    assert [name[2:] for name in names[::2]] == [name[2:] for name in names[1::2]]
    assert len(names) == 2 * 10


def test_model_and_params_are_there():
    seen = []

    class Look(Callback):
        def on_train_begin(self, logs=None):
            seen.append((self.model, self.params))

    model, _ = run(Look(), epochs=3)
    assert seen == [(model, {"epochs": 3, "batch_size": 5, "steps": 3, "metrics": ["loss", "accuracy"]})]
    assert Callback.model is None


def test_the_logs_of_a_batch_are_the_means_so_far():
    seen, single = [], []

    class Look(Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(logs["loss"])

    run(Look(), epochs=1)
    model, total, count = compiled(), 0.0, 0
    for xb, yb in mc.datasets.batches(X, LABELS, 5, seed=1, epoch=0):
        total += model.train_on_batch(xb, yb)["loss"] * len(yb)
        count += len(yb)
        single.append(total / count)
    assert seen == pytest.approx(single, rel=1e-12)


def test_no_epochs_means_no_epoch_hooks():
    calls = []
    run(Recorder(calls), epochs=0)
    assert calls == ["set_params", "set_model", ("on_train_begin",), ("on_train_end", [])]


def test_what_a_callback_adds_to_the_logs_goes_into_the_history():
    _, history = run(Logs("mine", [5.0, 6.0]), epochs=2)
    assert history.history["mine"] == [5.0, 6.0]


def test_stop_training():
    class Stop(Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = True

    calls = []
    model, history = run(Stop(), Recorder(calls), epochs=5)
    assert history.epoch == [0]
    assert model.optimizer.iterations == 3  # the epoch is finished first
    assert calls[-1][0] == "on_train_end"
    model.fit(X, LABELS, **FIT, epochs=2)
    assert model.history.epoch == [0, 1]  # the next fit starts again


@pytest.mark.parametrize("given", [[print], [Callback], ["early"], [None], Callback, print, "early", {"a": 1}])
def test_what_is_no_callback_is_refused_before_training(given):
    model, calls = compiled(), []
    before = whole_state(model)
    message = r"^Sequential.fit: callbacks must be a list of minicnn.callbacks.Callback objects; got "
    with pytest.raises(TypeError, match=message):
        model.fit(X, LABELS, **FIT, callbacks=[Recorder(calls), *given] if isinstance(given, list) else given)
    assert not calls
    assert whole_state(model) == before
    for nothing in (None, [], ()):
        model.fit(X, LABELS, **FIT, callbacks=nothing)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_callback_that_raises_leaves_the_model_whole(hook, error):
    """At its second call where there is one: the exception arrives, the model is whole and in its old mode."""
    states, calls = [], []

    class Keep(Callback):
        def on_train_batch_end(self, batch, logs=None):
            states.append(whole_state(self.model))

    def fail(*arguments):
        calls.append(hook)
        if len(calls) == 2 or hook in ("on_train_begin", "on_train_end"):
            raise error("from the callback")

    breaker = Callback()
    setattr(breaker, hook, fail)
    model = compiled().train()
    states.append(whole_state(model))
    with pytest.raises(error, match="from the callback"):
        model.fit(X, LABELS, **FIT, epochs=3, callbacks=[Keep(), breaker])
    assert whole_state(model) == states[-1]
    steps = {"on_train_begin": 0, "on_train_end": 9, "on_epoch_begin": 3, "on_epoch_end": 6, "on_train_batch_begin": 1}
    assert model.optimizer.iterations == len(states) - 1 == steps.get(hook, 2)
    assert model.training is True
    done = {"on_train_end": [0, 1, 2], "on_epoch_begin": [0], "on_epoch_end": [0, 1]}.get(hook, [])
    assert model.history.epoch == done
    assert all(len(numbers) == len(done) for numbers in model.history.history.values())
    model.fit(X, LABELS, **FIT)


# ---- EarlyStopping ----


@pytest.mark.parametrize(("options", "numbers", "epochs", "best_epoch"), [
    ({}, [5, 4, 4, 3], 3, 1),
    ({"patience": 1}, [5, 4, 4, 3], 3, 1),
    ({"patience": 2}, [5, 4, 4, 4, 3], 4, 1),
    ({"patience": 2}, [5, 4, 4, 3, 3, 3, 1], 6, 3),
    ({"patience": 9}, [5, 6, 7, 8], 4, 0),
    ({"min_delta": 0.5, "patience": 2}, [5, 4.6, 4.4, 4.3, 4.2, 1], 5, 2),
    ({"mode": "max"}, [1, 2, 1, 9], 3, 1),
    ({"mode": "max", "min_delta": 1}, [1, 2, 9], 2, 0),
    ({"mode": "min"}, [1, 2], 2, 0),
    ({"start_from_epoch": 3}, [1, 2, 3, 9, 8, 9], 6, 4),
    ({"start_from_epoch": 2, "patience": 2}, [1, 2, 3, 4, 5, 6], 5, 2),
    # As in Keras: an epoch that improves is never the last, but only beating the baseline restarts the count.
    ({"baseline": 3}, [5, 4, 3.5, 3.6, 1], 4, 2),
    ({"baseline": 3, "patience": 2}, [5, 5, 1], 2, 0),
    ({"baseline": 3, "patience": 3}, [5, 2, 2, 2, 2, 1], 5, 1),
    # NaN is no improvement; the first epoch is never the last.
    ({"patience": 0}, [math.nan, 5, 4, math.nan, 3], 4, 2),
    ({"patience": 1}, [math.nan, math.nan, 4], 2, 0),
    ({"patience": 2}, [5, math.nan, math.nan, 4], 3, 0),
    ({"mode": "max", "patience": 1}, [math.nan, 5, 4], 3, 1),
])  # fmt: skip
def test_early_stopping(options, numbers, epochs, best_epoch):
    stopping, weights = EarlyStopping(monitor="number", **{"mode": "min"} | options), Weights()
    model, history = run(Logs("number", numbers), stopping, weights, epochs=len(numbers))
    assert history.epoch == list(range(epochs))
    assert stopping.best_epoch == best_epoch
    stopped = stopping.patience < 9
    assert stopping.stopped_epoch == (epochs - 1 if stopped else 0)
    assert model.stop_training is stopped
    assert_same_bits(model.state_dict()["4.kernel"], weights.states[-1]["4.kernel"])


@pytest.mark.parametrize("options", [
    {}, {"patience": 2}, {"patience": 50}, {"baseline": 1.0, "patience": 3}, {"start_from_epoch": 1},
])  # fmt: skip
def test_early_stopping_restores_the_best_weights(options):
    """Ended early or not, baseline beaten or not."""
    stopping, weights = EarlyStopping("number", mode="min", restore_best_weights=True, **options), Weights()
    model, history = run(Logs("number", [5, 3, 4, 4, 4, 4]), stopping, weights, epochs=6)
    assert len(history.epoch) == len(weights.states) > 2
    assert stopping.best_epoch == 1
    assert stopping.best == 3
    for name, array in model.state_dict().items():
        assert_same_bits(array, weights.states[1][name])
    assert not np.array_equal(model.state_dict()["2.moving_mean"], weights.states[-1]["2.moving_mean"])


def test_early_stopping_begins_anew_with_every_fit():
    stopping = EarlyStopping("number", patience=1, mode="min")
    assert (stopping.best_epoch, stopping.stopped_epoch, stopping.best) == (0, 0, math.inf)
    for numbers in ([1, 2, 3], [9, 8, 8, 7]):
        _, history = run(Logs("number", numbers), stopping, epochs=len(numbers))
        assert len(history.epoch) == len(numbers) - 1
        assert stopping.stopped_epoch == len(numbers) - 2


def f1(y, outputs):
    return float((outputs.argmax(1) == y).mean())


def badness(y, outputs):
    return 1.0


f1.better, badness.better = "max", "min"


class Own(mc.metrics.PerSample):
    name, better = "own", "max"

    def _values(self, outputs, y, from_logits):
        return np.ones(len(outputs))


class Silent(Own):
    name, better = "silent", None


def inaccuracy(y, outputs):
    return 1.0


METRICS = ["accuracy", "acc", "top_2_accuracy", f1, badness, Own(), Silent(), inaccuracy, mc.metrics.Accuracy("hits")]


def asked(callback):
    model = compiled()
    model.compile("sgd", "sparse_categorical_crossentropy", METRICS)
    return model, lambda: model.fit(X, LABELS, **FIT, validation_split=0.5, callbacks=[callback])


@pytest.mark.parametrize(("monitor", "mode"), [
    ("val_loss", "min"), ("loss", "min"), ("val_accuracy", "max"), ("accuracy", "max"), ("val_top_2_accuracy", "max"),
    ("acc", "max"), ("val_acc", "max"), ("f1", "max"), ("val_f1", "max"), ("badness", "min"), ("val_own", "max"),
    ("hits", "max"),
])  # fmt: skip
def test_the_metric_says_which_way_is_better(monitor, mode, tmp_path):
    for callback in (EarlyStopping(monitor), ModelCheckpoint(tmp_path / "m.npz", monitor, save_best_only=True)):
        assert callback.mode == "auto"
        asked(callback)[1]()
        assert callback.mode == mode
        assert math.isfinite(callback.best)
    assert EarlyStopping(monitor, mode="max").mode == "max"


def test_a_function_that_grows_is_waited_for():
    values = iter([0.5, 0.6, 0.7, 0.8])

    def score(y, outputs):
        return next(values)

    score.better = "max"
    model, stop = compiled(), EarlyStopping("score", restore_best_weights=True)
    model.compile("sgd", "sparse_categorical_crossentropy", [score])
    model.fit(X, LABELS, batch_size=12, epochs=4, verbose=0, callbacks=[stop])
    assert (stop.best, stop.best_epoch, stop.stopped_epoch) == (pytest.approx(0.8), 3, 0)


@pytest.mark.parametrize("monitor", ["silent", "val_silent", "inaccuracy", "val_inaccuracy"])
def test_where_nobody_says_which_way_is_better(monitor, tmp_path):
    for callback in (EarlyStopping(monitor), ModelCheckpoint(tmp_path / "m.npz", monitor, save_best_only=True)):
        model, fit = asked(callback)
        message = rf"^{type(callback).__name__}: mode must be 'min' or 'max' .*; got mode 'auto' for '{monitor}'"
        with pytest.raises(ValueError, match=message):
            fit()
        assert model.optimizer.iterations == 0
    asked(EarlyStopping(monitor, mode="max"))[1]()
    asked(ModelCheckpoint(tmp_path / "m.npz", monitor))[1]()  # watches nothing


@pytest.mark.parametrize("callbacks", [
    [LearningRateScheduler(lambda epoch: 0.1), EarlyStopping("learning_rate")],
    [WeightNorms(), EarlyStopping("norm/0.kernel")],
])  # fmt: skip
def test_rates_and_norms_have_no_better(callbacks):
    with pytest.raises(ValueError, match=r"^EarlyStopping: mode must be 'min' or 'max'"):
        run(*callbacks)
    callbacks[1] = EarlyStopping(callbacks[1].monitor, mode="min")
    run(*callbacks)


def test_monitors_that_are_not_there():
    for callback, name in (
        (EarlyStopping(), "EarlyStopping"),
        (ModelCheckpoint("x.npz", save_best_only=True), "Mod.*"),
    ):
        got = r"got \['accuracy', 'loss'\]. Did you mean 'loss'\?$"
        message = rf"^{name}: the logs must have 'val_loss' \(val_... needs .*\); {got}"
        with pytest.raises(ValueError, match=message):
            run(callback)


@pytest.mark.parametrize(("callbacks", "message"), [
    ([EarlyStopping("val_loss", start_from_epoch=5)], "EarlyStopping: the logs must have 'val_loss'"),
    ([EarlyStopping("acc")], "Did you mean 'accuracy'?"),
    ([EarlyStopping("accurracy")], "Did you mean 'accuracy'?"),
    ([EarlyStopping("learning_rate", mode="min"), LearningRateScheduler(lambda epoch: 0.1)], "'learning_rate'"),
    ([WeightNorms(), EarlyStopping("norm/9.kernel", mode="min")], "Did you mean 'norm/4.kernel'?"),
    ([ModelCheckpoint("no/{val_loss}.npz")], "ModelCheckpoint: filepath must be a format"),
    ([ModelCheckpoint("no/{loss.bogus}.npz")], "ModelCheckpoint: filepath must be a format"),
    ([ModelCheckpoint("no/{epoch[0]}.npz")], "ModelCheckpoint: filepath must be a format"),
    ([ModelCheckpoint("no/{loss:q}.npz")], "ModelCheckpoint: filepath must be a format"),
])  # fmt: skip
def test_what_will_not_be_logged_is_said_before_the_first_step(callbacks, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, calls = compiled(), []
    before = whole_state(model)
    with pytest.raises(ValueError) as caught:
        model.fit(X, LABELS, **FIT, epochs=9, callbacks=[*callbacks, Recorder(calls)])
    assert message in str(caught.value)
    assert whole_state(model) == before
    assert calls == ["set_params", "set_model"]
    assert not list(tmp_path.iterdir())


def test_behind_a_callback_of_ones_own_nothing_is_known_before():
    run(Logs("number", [1, 2]), EarlyStopping("number", mode="min"), epochs=2)
    with pytest.raises(ValueError, match=r"the logs must have 'numbr'.* Did you mean 'number'"):
        run(Logs("number", [1, 2]), EarlyStopping("numbr", mode="min"), epochs=2)

    class Adds(EarlyStopping):
        def on_epoch_end(self, epoch, logs=None):
            logs["more"] = 1.0
            super().on_epoch_end(epoch, logs)

    run(Adds("loss", patience=9), EarlyStopping("more", mode="min"), epochs=1)


def test_the_names_of_the_logs_are_known():
    seen = []

    class Look(Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((self.params["metrics"], list(logs)))

    run(Look(), epochs=1, validation_split=0.5, clean_train_metrics=True)
    assert seen[0][0] == seen[0][1]
    assert len(seen[0][0]) == 6


@pytest.mark.parametrize("value", ["0.5", None, np.ones(2)])
def test_a_watched_log_must_be_a_number(value):
    with pytest.raises(TypeError, match=r"^EarlyStopping: the log 'number' must be a number; got "):
        run(Logs("number", [value]), EarlyStopping("number", mode="min"), epochs=1)


# ---- every way out ----


class Ender(Callback):
    """Writes down that training has ended, and may raise then."""

    def __init__(self, calls, error=None):
        self.calls, self.error = calls, error

    def on_train_end(self, logs=None):
        self.calls.append("end")
        if self.error is not None:
            raise self.error


class Breaks(Callback):
    def __init__(self, error):
        self.error = error

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 4:
            raise self.error


@pytest.mark.parametrize("error", [ValueError("own"), KeyboardInterrupt("own"), FloatingPointError("own")])
def test_the_best_weights_come_back_on_every_way_out(error):
    stopping, weights, calls = EarlyStopping("number", patience=9, mode="min", restore_best_weights=True), Weights(), []
    model = compiled()
    hooks = [Logs("number", [5, 3, 4, 4, 4]), stopping, weights, Breaks(error), Ender(calls)]
    with pytest.raises(type(error), match="own"):
        model.fit(X, LABELS, **FIT, epochs=9, callbacks=hooks)
    assert calls == ["end"]
    for name, array in model.state_dict().items():
        assert_same_bits(array, weights.states[1][name])
    assert model.training is False
    model.fit(X, LABELS, **FIT)


def test_the_best_weights_come_back_after_divergence():
    rate = LearningRateScheduler(lambda epoch: 0.01 if epoch < 3 else 1e30)
    stopping, weights = EarlyStopping("loss", patience=50, restore_best_weights=True), Weights()
    model = compiled(None, "mse", mc.optimizers.SGD(0.01))
    with pytest.raises(FloatingPointError, match="the loss must stay finite"):
        model.fit(X, np.eye(4)[LABELS], **FIT, epochs=50, callbacks=[rate, stopping, weights])
    assert_same_bits(model.state_dict()["4.kernel"], weights.states[stopping.best_epoch]["4.kernel"])
    assert np.isfinite(model.predict(X)).all()


def test_ctrl_c_while_the_best_weights_are_put_back(monkeypatch):
    stopping, weights = EarlyStopping("number", patience=9, mode="min", restore_best_weights=True), Weights()
    model, calls, load = compiled(), [], mc.Sequential.load_state_dict

    def interrupted(self, state):
        calls.append(1)
        if len(calls) == 1:
            load(self, {"0.kernel": state["0.kernel"]}, strict=False)
            raise KeyboardInterrupt
        load(self, state)

    monkeypatch.setattr(mc.Sequential, "load_state_dict", interrupted)
    ended = []
    hooks = [Logs("number", [1, 2]), stopping, weights, Ender(ended)]
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, LABELS, **FIT, epochs=2, callbacks=hooks)
    assert ended == ["end"]
    assert_same_bits(model.state_dict()["4.kernel"], weights.states[0]["4.kernel"])


@pytest.mark.parametrize(("first", "late", "seen"), [
    (ValueError("first"), ZeroDivisionError("late"), "first"),
    (KeyboardInterrupt("first"), ZeroDivisionError("late"), "first"),
    (KeyboardInterrupt("first"), KeyboardInterrupt("late"), "first"),
    (ValueError("first"), KeyboardInterrupt("late"), "late"),
    (None, ZeroDivisionError("late"), "late"),
])  # fmt: skip
def test_the_first_exception_is_the_one_that_is_seen(first, late, seen):
    calls, breaks = [], [] if first is None else [Breaks(first)]
    with pytest.raises(BaseException) as caught:
        run(Ender(calls, late), Ender(calls), *breaks, epochs=6)
    assert str(caught.value) == seen
    assert calls == ["end", "end"]
    if first is not None:
        other = late if seen == "first" else first
        assert any(str(other) in note for note in caught.value.__notes__)


def test_only_who_has_begun_is_ended():
    class Refuses(Ender):
        def on_train_begin(self, logs=None):
            raise ValueError("no")

    begun, refused, never = [], [], []
    with pytest.raises(ValueError, match="no"):
        run(Ender(begun), Refuses(refused), Ender(never))
    assert (begun, refused, never) == (["end"], [], [])


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"monitor": 3}, TypeError, "monitor must be the name of a log"),
    ({"mode": "mni"}, ValueError, "mode must be one of 'auto', 'min', 'max'; got 'mni'. Did you mean 'min'?"),
    ({"min_delta": -1}, ValueError, "min_delta must be a number >= 0"),
    ({"patience": -1}, ValueError, "patience must be a whole number >= 0"),
    ({"patience": 1.5}, TypeError, "patience must be a whole number >= 0"),
    ({"baseline": math.nan}, ValueError, "baseline must be a number"),
    ({"baseline": "0.5"}, TypeError, "baseline must be a number"),
    ({"restore_best_weights": 1}, TypeError, "restore_best_weights must be True or False"),
    ({"start_from_epoch": -1}, ValueError, "start_from_epoch must be a whole number >= 0"),
])  # fmt: skip
def test_early_stopping_refuses(options, error, message):
    with pytest.raises(error) as caught:
        EarlyStopping(**options)
    assert str(caught.value).startswith(f"EarlyStopping: {message}")


# ---- ModelCheckpoint ----


def test_a_checkpoint_of_every_epoch(tmp_path):
    folder = tmp_path / "not yet" / "there"
    weights, path = Weights(), folder / "{epoch:02d}-{val_loss:.3f}.npz"
    model, history = run(weights, ModelCheckpoint(path), epochs=3, validation_split=0.3)
    names = [f"{epoch:02d}-{loss:.3f}.npz" for epoch, loss in enumerate(history.history["val_loss"], 1)]
    assert sorted(file.name for file in folder.iterdir()) == names
    for name, state in zip(names, weights.states, strict=True):
        for key, array in mc.Sequential.load(folder / name).state_dict().items():
            assert_same_bits(array, state[key])
    assert_same_bits(mc.Sequential.load(folder / names[-1]).predict(X), model.predict(X))


def test_a_checkpoint_that_replaces_the_one_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, _ = run(ModelCheckpoint("model.npz"), epochs=2)
    assert [file.name for file in tmp_path.iterdir()] == ["model.npz"]
    assert mc.Sequential.load("model.npz").fingerprint() == model.fingerprint()


@pytest.mark.parametrize(("options", "numbers", "saved"), [
    ({}, [5, 4, 4, 6, 3], ["1", "2", "5"]),
    ({"mode": "max"}, [5, 4, 5, 6], ["1", "4"]),
    ({"mode": "min"}, [5, 6, 7], ["1"]),
    ({}, [math.nan, 5], ["2"]),
])  # fmt: skip
def test_only_the_best_are_saved(options, numbers, saved, tmp_path):
    options = {"mode": "min"} | options
    checkpoint = ModelCheckpoint(tmp_path / "{epoch}", "number", save_best_only=True, **options)
    run(Logs("number", numbers), checkpoint, epochs=len(numbers))
    assert sorted(file.name for file in tmp_path.iterdir()) == saved


def test_the_best_is_remembered_from_fit_to_fit(tmp_path):
    checkpoint, logs = (
        ModelCheckpoint(tmp_path / "{epoch}", "number", save_best_only=True, mode="min"),
        Logs("number", [5, 3, 4, 2]),
    )
    model = compiled()
    for first, last in ((0, 2), (2, 4)):
        model.fit(X, LABELS, **FIT, epochs=last, initial_epoch=first, callbacks=[logs, checkpoint])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["1", "2", "4"]


@pytest.mark.parametrize("path", ["{val_loss}.npz", "{}.npz", "{epoch:x.npz", "{epoch:q}.npz", "{loss"])
def test_names_that_cannot_be_made(path, tmp_path):
    with pytest.raises(
        ValueError, match=r"^ModelCheckpoint: filepath must be a format for epoch or one of the logs \["
    ):
        run(ModelCheckpoint(tmp_path / path))
    assert not list(tmp_path.iterdir())


def test_model_checkpoint_refuses():
    with pytest.raises(TypeError):
        ModelCheckpoint(3)
    with pytest.raises(TypeError, match=r"^ModelCheckpoint: save_best_only must be True or False; got 1 \(int\)$"):
        ModelCheckpoint("m.npz", save_best_only=1)
    with pytest.raises(ValueError, match=r"^ModelCheckpoint: mode must be one of"):
        ModelCheckpoint("m.npz", mode="best")


@pytest.mark.parametrize("kind", [str, bytes])
def test_paths_of_every_kind(kind, tmp_path):
    path = str(tmp_path / "{norm/4.kernel:.2f}-{epoch}.npz")
    path = path.encode() if kind is bytes else path
    _, history = run(WeightNorms(), ModelCheckpoint(path), epochs=1)
    assert [file.name for file in tmp_path.iterdir()] == [f"{history.history['norm/4.kernel'][0]:.2f}-1.npz"]


def scheduled():
    return compiled(optimizer=mc.optimizers.SGD(mc.optimizers.CosineDecay(0.1, 12), momentum=0.9))


def test_a_checkpoint_with_the_optimizer_goes_on_bit_for_bit(tmp_path):
    whole, first = scheduled(), scheduled()
    history = whole.fit(X, LABELS, **FIT, epochs=4).history
    hooks = [Logs("word", ["a", "b"]), ModelCheckpoint(tmp_path / "c.npz", save_optimizer=True)]
    first.fit(X, LABELS, **FIT, epochs=2, callbacks=hooks)
    model, epoch, before = mc.saving.load_checkpoint(tmp_path / "c.npz")
    assert epoch == 2
    assert before == {name: values[:2] for name, values in history.items()}
    model.fit(X, LABELS, **FIT, initial_epoch=epoch, epochs=4)
    assert whole_state(model) == whole_state(whole)
    assert mc.Sequential.load(tmp_path / "c.npz").fingerprint() == first.fingerprint()


def test_an_optimizer_that_no_file_can_hold_is_refused_before_the_first_step(tmp_path):
    model = compiled(None, lambda y, outputs: (1.0, np.zeros_like(outputs)))
    with pytest.raises(
        ValueError, match=r"^ModelCheckpoint: save_optimizer=True needs an optimiser and a loss of mini"
    ):
        model.fit(X, LABELS, **FIT, callbacks=[ModelCheckpoint(tmp_path / "c.npz", save_optimizer=True)])
    assert model.optimizer.iterations == 0
    model.fit(X, LABELS, **FIT, callbacks=[ModelCheckpoint(tmp_path / "c.npz")])


# ---- CSVLogger ----


def test_a_csv_file_that_lacks_a_column(tmp_path):
    file = tmp_path / "log.csv"
    run(CSVLogger(file), epochs=1)
    text, model = file.read_text(), compiled()
    message = r"must have a column for every log; the numbers of \['val_accuracy', 'val_loss'\] would be lost; got "
    with pytest.raises(ValueError, match=message):
        model.fit(X, LABELS, **FIT, validation_split=0.5, callbacks=[CSVLogger(file, append=True)])
    assert model.optimizer.iterations == 0
    with pytest.raises(ValueError, match=r"the numbers of \['number'\] would be lost"):
        model.fit(X, LABELS, **FIT, callbacks=[Logs("number", [1]), CSVLogger(file, append=True)])
    with pytest.raises(ValueError, match=r"every log; .* got the columns \[\]"):
        model.fit(X, LABELS, **FIT, callbacks=[CSVLogger(file, ";", append=True)])
    assert file.read_text() == text


def test_a_log_that_comes_up_late_is_said_once(tmp_path):
    class Late(Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch:
                logs["late"] = 1.0

    with pytest.warns(UserWarning, match=r"has no column for \['late'\], first logged in epoch 1") as seen:
        run(Late(), CSVLogger(tmp_path / "log.csv"), epochs=4)
    assert len(seen) == 1
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 5


def test_the_csv_file(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text("old\n")
    _, history = run(Logs("number", [0.5, 1e-9]), CSVLogger(file), epochs=2)
    numbers = history.history
    rows = [f"{epoch},{numbers['accuracy'][epoch]},{numbers['loss'][epoch]},{[0.5, 1e-9][epoch]}" for epoch in (0, 1)]
    assert file.read_bytes() == ("epoch,accuracy,loss,number\r\n" + "".join(f"{row}\r\n" for row in rows)).encode()
    assert float(rows[0].split(",")[2]) == numbers["loss"][0]  # not a digit is lost


def test_appending_to_a_csv_file(tmp_path):
    file, logger = tmp_path / "log.csv", CSVLogger(tmp_path / "log.csv", separator=";", append=True)
    model = compiled()
    for first, last in ((0, 1), (1, 3)):
        model.fit(X, LABELS, **FIT, epochs=last, initial_epoch=first, callbacks=[logger])
    lines = file.read_text().splitlines()
    assert lines[0] == "epoch;accuracy;loss"
    assert [line.split(";")[0] for line in lines] == ["epoch", "0", "1", "2"]
    file.write_text("epoch;loss;gone;accuracy")  # no line end, as an editor may leave it
    model.fit(X, LABELS, **FIT, callbacks=[logger])
    numbers = model.history.history
    assert file.read_text().splitlines()[1] == f"0;{numbers['loss'][0]};NA;{numbers['accuracy'][0]}"
    assert file.read_text().count("\n") == 2
    file.write_text("")
    model.fit(X, LABELS, **FIT, callbacks=[logger])
    assert file.read_text().splitlines()[0] == "epoch;accuracy;loss"


def test_the_csv_file_is_complete_after_every_epoch(tmp_path):
    seen = []

    class Read(Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((tmp_path / "log.csv").read_text().count("\n"))

    run(CSVLogger(tmp_path / "log.csv"), Read(), epochs=3)
    assert seen == [2, 3, 4]


def test_csv_logger_refuses(tmp_path):
    for separator in ("", "::", 3, None):
        with pytest.raises(ValueError, match=r"^CSVLogger: separator must be one character; got "):
            CSVLogger(tmp_path / "log.csv", separator)
    with pytest.raises(TypeError, match=r"^CSVLogger: append must be True or False; got 'yes' \(str\)$"):
        CSVLogger(tmp_path / "log.csv", append="yes")
    with pytest.raises(FileNotFoundError):
        run(CSVLogger(tmp_path / "missing" / "log.csv"))


# ---- LearningRateScheduler ----


@pytest.mark.parametrize(("schedule", "rates"), [
    (lambda epoch: 0.1 / (epoch + 1), [0.1, 0.05, 0.1 / 3]),
    (lambda epoch, rate: rate / 2, [0.005, 0.0025, 0.00125]),
    (lambda epoch, rate=7.0: rate / 2, [0.005, 0.0025, 0.00125]),
    (lambda *arguments: arguments[1] / 2, [0.005, 0.0025, 0.00125]),
    (lambda epoch, *, scale=2.0: epoch * scale, [0.0, 2.0, 4.0]),
    (lambda epoch: np.float32(0.25), [0.25, 0.25, 0.25]),
    (lambda epoch: epoch, [0.0, 1.0, 2.0]),
    (mc.optimizers.ExponentialDecay(0.1, 1, 0.5), [0.1, 0.05, 0.025]),
    ([0.3, 0.2, 0.1].__getitem__, [0.3, 0.2, 0.1]),
    ({0: 0.3, 1: 0.2, 2: 0.1}.get, [0.3, 0.2, 0.1]),
    (np.vectorize(lambda epoch: 0.5 * epoch), [0.0, 0.5, 1.0]),
    (np.vectorize(lambda epoch, rate: rate / 2), [0.005, 0.0025, 0.00125]),
    (np.frompyfunc(lambda epoch: 0.5 * epoch, 1, 1), [0.0, 0.5, 1.0]),
    (np.exp2, [1.0, 2.0, 4.0]),
    (functools.partial(lambda epoch, rate, scale: rate * scale, scale=0.5), [0.005, 0.0025, 0.00125]),
    (functools.partial(lambda scale, epoch: epoch * scale, 0.5), [0.0, 0.5, 1.0]),
    (lambda epoch, decay=0.5: 0.1 * decay**epoch, [0.1, 0.05, 0.025]),
    (lambda epoch, lr=None: lr / 2, [0.005, 0.0025, 0.00125]),
    (lambda epoch, learning_rate=None: learning_rate / 2, [0.005, 0.0025, 0.00125]),
    (lambda epoch: np.array(0.25), [0.25, 0.25, 0.25]),
    (lambda epoch: np.int64(epoch), [0.0, 1.0, 2.0]),
])  # fmt: skip
def test_learning_rate_scheduler(schedule, rates):
    seen = []

    class Look(Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(self.model.optimizer.learning_rate)

    model, history = run(LearningRateScheduler(schedule), Look(), epochs=3)
    assert seen == pytest.approx(np.repeat(rates, 3).tolist(), rel=1e-15)
    assert history.history["learning_rate"] == pytest.approx(rates, rel=1e-15)
    twin = compiled()
    for epoch, rate in enumerate(history.history["learning_rate"]):
        twin.optimizer.learning_rate = rate
        twin.fit(X, LABELS, **FIT, epochs=epoch + 1, initial_epoch=epoch)
    assert twin.fingerprint() == model.fingerprint()


@pytest.mark.parametrize(("rate", "error"), [
    (-1, ValueError), (math.nan, ValueError), (math.inf, ValueError), (None, TypeError), ("0.1", TypeError),
    (np.ones(2), TypeError),
])  # fmt: skip
def test_rates_that_are_refused(rate, error):
    message = r"^LearningRateScheduler: the rate that schedule returns must be a number >= 0; got "
    with pytest.raises(error, match=message):
        run(LearningRateScheduler(lambda epoch: rate))


@pytest.mark.parametrize("schedule", [mc.optimizers.ExponentialDecay(0.1, 1, 1.5), lambda epoch: 0.1 * 1.5**epoch])
def test_a_rate_that_overflows(schedule):
    model = compiled(optimizer=mc.optimizers.SGD(0.1))
    with pytest.raises(ValueError, match=r"^(LearningRateScheduler: the rate|ExponentialDecay: the rate of step 9999)"):
        model.fit(
            X, LABELS, **FIT, initial_epoch=9999, epochs=10**5, callbacks=[LearningRateScheduler(schedule), Callback()]
        )


def test_learning_rate_scheduler_refuses():
    message = r"^LearningRateScheduler: schedule must be a function \(epoch, rate\) -> rate; got 0.1 \(float\)$"
    with pytest.raises(TypeError, match=message):
        LearningRateScheduler(0.1)


def test_a_callback_may_look_and_save_without_changing_a_bit(tmp_path):
    class Busy(Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.predict(X)
            self.model.save(tmp_path / "model.npz")
            self.model.load_state_dict(self.model.state_dict())

    watched, _ = run(Busy(), ModelCheckpoint(tmp_path / "{epoch}"), CSVLogger(tmp_path / "log"), epochs=2)
    assert whole_state(watched) == whole_state(trained())
    assert small().fingerprint() != watched.fingerprint()


def test_verbose_says_what_was_done(tmp_path, capsys):
    model, path = compiled(), tmp_path / "m.npz"
    hooks = [EarlyStopping("loss", 1e9, verbose=1), ModelCheckpoint(path, "loss", verbose=True)]
    model.fit(X, LABELS, epochs=5, verbose=0, callbacks=hooks)
    said = capsys.readouterr().err.splitlines()
    assert said == [f"epoch 1: saved {path}", "epoch 2: stopped early; the best was epoch 1", f"epoch 2: saved {path}"]


# ---- WeightNorms ----


def test_weight_norms(tmp_path):
    norms, seen = WeightNorms(), []

    class Look(Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append({name: np.linalg.norm(w) for name, w in self.model.state_dict().items()})

    model = compiled()
    model.layers[0].trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    logger = CSVLogger(tmp_path / "log.csv")
    history = model.fit(X, LABELS, epochs=2, verbose=0, callbacks=[norms, Look(), logger]).history
    names = ["0.kernel", "0.bias", "2.gamma", "2.beta", "4.kernel", "4.bias"]
    assert set(history) == {"loss", *(f"norm/{name}" for name in names)}
    for name in names:
        assert history[f"norm/{name}"] == pytest.approx([epoch[name] for epoch in seen], rel=1e-6)
        assert all(type(norm) is float for norm in history[f"norm/{name}"])
    assert history["norm/0.kernel"][0] == history["norm/0.kernel"][1]
    assert history["norm/4.kernel"][0] != history["norm/4.kernel"][1]
    header, first, _ = (tmp_path / "log.csv").read_text().splitlines()
    assert dict(zip(header.split(","), first.split(","), strict=True))["norm/4.kernel"] == str(
        history["norm/4.kernel"][0]
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes as POSIX has them")
@pytest.mark.parametrize("append", [False, True])
def test_a_logger_does_not_wait_for_the_reader_of_a_pipe(tmp_path, append):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"Not a regular file: .*pipe"):
        run(CSVLogger(tmp_path / "pipe", append=append))
    logger = CSVLogger(tmp_path / "log")
    logger.on_train_begin()
    os.rename(tmp_path / "pipe", tmp_path / "log")
    with pytest.raises(OSError, match="Not a regular file"):
        logger.on_epoch_end(0, {"loss": 1.0})


# ---- those that Keras has as well ----


def test_lambda_callback_calls_functions():
    calls = []
    names = [f"on_{what}_{when}" for what in ("epoch", "train", "train_batch") for when in ("begin", "end")]
    callback = LambdaCallback(**{name: lambda *given, name=name: calls.append((name, *given)) for name in names})
    run(callback, epochs=1)
    assert all(isinstance(given[-1], dict) for given in calls)
    calls = [given[:-1] for given in calls]
    steps = [("on_train_batch_" + when, step) for step in range(3) for when in ("begin", "end")]
    assert calls == [("on_train_begin",), ("on_epoch_begin", 0), *steps, ("on_epoch_end", 0), ("on_train_end",)]
    logs = []
    run(LambdaCallback(on_batch_end=lambda batch, logs_: logs.append(sorted(logs_))), epochs=1)
    assert logs == [["accuracy", "loss"]] * 3
    run(LambdaCallback(), EarlyStopping("loss"), epochs=1)
    with pytest.raises(ValueError, match=r"^EarlyStopping: the logs must have 'val_loss'"):
        run(LambdaCallback(), EarlyStopping())  # without a function for the end of an epoch all logs are known


@pytest.mark.parametrize(("given", "error", "message"), [
    ({"on_epoch_end": 1}, TypeError, r"LambdaCallback: on_epoch_end must be a function; got 1 \(int\)"),
    ({"on_batch_end": print, "on_train_batch_end": print}, ValueError, "LambdaCallback: needs either on_batch_end or"),
])  # fmt: skip
def test_lambda_callback_refuses(given, error, message):
    with pytest.raises(error, match=f"^{message}"):
        LambdaCallback(**given)


def test_history_is_a_callback():
    given = History()
    model, history = run(given, LearningRateScheduler(lambda epoch: 0.01), epochs=2, validation_split=0.5)
    assert isinstance(history, History)
    assert history.history["loss"] == given.history["loss"]
    assert "learning_rate" not in given.history  # it comes after it in the list
    assert history.epoch == given.epoch == [0, 1]
    assert history.model is given.model is model
    names = ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert history.params == {"epochs": 2, "batch_size": 5, "steps": 1, "metrics": names}
    model.fit(X, LABELS, **FIT, callbacks=given)  # one, without a list
    assert given.epoch == [0]
    alone = pickle.loads(pickle.dumps(history))
    assert alone.model is None
    assert alone.history == history.history
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.history.model is other
        assert other.history.history == model.history.history


@pytest.mark.parametrize("batch", [0, 2])
def test_terminate_on_nan_ends_training_and_keeps_what_there_is(batch, capsys):
    steps, before = [], []

    def loss(y, outputs):
        steps.append(len(y))
        return np.inf if len(steps) == 4 + batch else float((outputs**2).mean()), outputs / outputs.size

    model = compiled(loss=loss)
    ends = []
    hooks = [
        TerminateOnNaN(),
        LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(epoch)),
        LambdaCallback(on_batch_begin=lambda batch, logs: before.append(whole_state(model))),
    ]
    history = model.fit(X, LABELS, **FIT, epochs=5, callbacks=hooks)
    assert len(steps) == 4 + batch
    assert history.epoch == ends == [0, 1]
    assert math.isnan(history.history["loss"][1])
    assert math.isnan(history.history["accuracy"][1]) == (batch == 0)
    assert whole_state(model) == before[-1]
    assert model.stop_training
    assert re.match(
        rf"Sequential.fit: step {batch} of epoch 1: the loss must stay finite.*\n$", capsys.readouterr().err
    )
    steps.clear()
    with pytest.raises(FloatingPointError):
        model.fit(X, LABELS, **FIT, epochs=5, callbacks=[Callback()])


def rates_of(numbers, rate=1.0, monitor="number", **options):
    model = compiled(optimizer=mc.optimizers.SGD(rate))
    callback = ReduceLROnPlateau(monitor, **{"mode": "min", **options})
    model.fit(X, LABELS, **FIT, epochs=len(numbers), callbacks=[Logs("number", numbers), callback])
    assert model.history.history["learning_rate"][0] == rate
    return [*model.history.history["learning_rate"][1:], model.optimizer.learning_rate]


@pytest.mark.parametrize(("options", "numbers", "rates"), [
    ({"patience": 1}, [3, 2, 1], [1, 1, 1]), ({"patience": 1}, [3, 3, 3], [1, 0.1, 0.01]),
    ({"patience": 2, "factor": 0.5}, [3, 3, 3, 3, 3], [1, 1, 0.5, 0.5, 0.25]),
    ({"patience": 1, "factor": 0.5, "min_delta": 0.5}, [3, 2.6, 2.4], [1, 0.5, 0.5]),
    ({"patience": 1, "factor": 0.5, "min_delta": 0}, [3, 2.99], [1, 1]),
    ({"patience": 1, "factor": 0.5, "cooldown": 2}, [3, 3, 3, 3, 3], [1, 0.5, 0.5, 0.25, 0.25]),
    ({"patience": 1, "factor": 0.5, "min_lr": 0.3}, [3, 3, 3, 3], [1, 0.5, 0.3, 0.3]),
    ({"patience": 1, "factor": 0.5, "mode": "max"}, [1, 2, 2], [1, 1, 0.5]),
    ({"patience": 1, "factor": 0.5}, [3, math.nan, 2], [1, 0.5, 0.5]), ({"patience": 1, "factor": 0}, [3, 3], [1, 0]),
])  # fmt: skip
def test_the_rate_falls_where_nothing_improves(options, numbers, rates):
    assert rates_of(numbers, **options) == pytest.approx(rates, rel=1e-12, abs=0)


def test_reduce_lr_says_so_and_counts_anew_with_every_fit(capsys):
    model = compiled(optimizer=mc.optimizers.SGD(1e-9))
    callback = ReduceLROnPlateau("loss", patience=1, verbose=1)
    for _ in range(2):
        model.fit(X, LABELS, **FIT, epochs=1, callbacks=[callback])
    assert capsys.readouterr().err == ""
    model.fit(X, LABELS, **FIT, epochs=2, callbacks=[callback])
    assert capsys.readouterr().err == "epoch 2: the learning rate is lowered to 1e-10\n"


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: ReduceLROnPlateau(factor=1), ValueError, r"factor must be a number in \[0, 1\); got 1"),
    (lambda: ReduceLROnPlateau(factor="a"), TypeError, "factor must be"),
    (lambda: ReduceLROnPlateau(patience=0), ValueError, "patience must be a whole number >= 1; got 0"),
    (lambda: ReduceLROnPlateau(cooldown=-1), ValueError, "cooldown must be a whole number >= 0; got -1"),
    (lambda: ReduceLROnPlateau(min_lr=math.nan), ValueError, "min_lr must be a number >= 0; got nan"),
    (lambda: ReduceLROnPlateau(mode="least"), ValueError, "mode must be one of"),
    (lambda: run(ReduceLROnPlateau()), ValueError, "the logs must have 'val_loss'"),
])  # fmt: skip
def test_reduce_lr_refuses(make, error, message):
    with pytest.raises(error, match=f"^ReduceLROnPlateau: {message}"):
        make()


def test_reduce_lr_and_a_schedule_exclude_one_another():
    model = compiled(optimizer=mc.optimizers.SGD(mc.schedules.CosineDecay(0.1, 10)))
    before = whole_state(model)
    with pytest.raises(
        ValueError, match=r"^ReduceLROnPlateau: the optimiser's learning_rate must be a number, not a s"
    ):
        model.fit(X, LABELS, **FIT, callbacks=ReduceLROnPlateau("loss"))
    assert whole_state(model) == before


def test_checkpoints_of_weights_alone(tmp_path):
    path = tmp_path / "w{epoch}.npz"
    model, _ = run(ModelCheckpoint(path, save_weights_only=True), epochs=2)
    again = compiled()
    again.load_weights(tmp_path / "w2.npz")
    assert again.fingerprint() == model.fingerprint()
    with pytest.raises(mc.ModelFileError, match="holds weights alone"):
        mc.Sequential.load(tmp_path / "w1.npz")


def test_checkpoints_of_steps(tmp_path):
    model = compiled()
    seen = []
    hooks = [ModelCheckpoint(tmp_path / "{epoch}-{batch}-{loss:.1f}.npz", save_freq=2),
             LambdaCallback(on_batch_end=lambda batch, logs: seen.append(model.fingerprint()))]  # fmt: skip
    model.fit(X, LABELS, **FIT, epochs=2, callbacks=hooks)  # three steps an epoch
    files = sorted(tmp_path.iterdir())
    assert [file.name[:4] for file in files] == ["1-2-", "2-1-", "2-3-"]
    assert [mc.Sequential.load(file).fingerprint() for file in files] == seen[1::2]
    for monitor, saved in (("loss", True), ("val_loss", False)):
        one = ModelCheckpoint(tmp_path / "best.npz", monitor, save_freq=1, save_best_only=True)
        if saved:
            model.fit(X, LABELS, **FIT, callbacks=one)
            assert (tmp_path / "best.npz").exists()
        else:
            with pytest.raises(ValueError, match=r"^ModelCheckpoint: the logs must have 'val_loss'"):
                model.fit(X, LABELS, **FIT, validation_split=0.5, callbacks=one)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    (("c.keras",), ValueError, r"the file is a .npz, and its name must not say that it is Keras's; .* 'c.npz'$"),
    (("c.H5",), ValueError, "the file is a .npz"), (("c.npz", "loss", 0, False, 1), TypeError, "save_w"),
    (("c.npz", "loss", 0, False, False, "auto", "batch"), TypeError, "save_freq, if not \"epoch\", must be"),
    (("c.npz", "loss", 0, False, False, "auto", 0), ValueError, "save_freq, if not \"epoch\", must be"),
    (("c.npz", "loss", 0, False, True, "auto", "epoch", None, True), ValueError, "save_optimizer=True needs whole"),
    (("c.npz", "loss", 0, False, False, "auto", 3, None, True), ValueError, "save_optimizer=True needs whole models"),
])  # fmt: skip
def test_checkpoints_that_are_refused(arguments, error, message):
    with pytest.raises(error, match=f"^ModelCheckpoint: {message}"):
        ModelCheckpoint(*arguments)


def test_learning_rate_scheduler_says_so(capsys):
    run(LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1), verbose=1), epochs=2)
    assert capsys.readouterr().err == "epoch 1: the learning rate is 0.1\nepoch 2: the learning rate is 0.05\n"
    with pytest.raises(ValueError, match=r"^LearningRateScheduler: verbose must be a whole number in \[0, 2\]"):
        LearningRateScheduler(lambda epoch: 0.1, 3)


def test_epochs_without_validation_do_not_count(tmp_path):
    """validation_freq=2: nothing waits, nothing is saved and nothing falls in the others."""
    stop, fall = EarlyStopping(patience=2, min_delta=100), ReduceLROnPlateau(patience=1, factor=0.5, min_delta=100)
    hooks = [stop, fall, ModelCheckpoint(tmp_path / "{epoch}-{val_loss:.1f}.npz", save_best_only=True),
             CSVLogger(tmp_path / "log.csv")]  # fmt: skip
    model, history = run(*hooks, epochs=9, validation_split=0.5, validation_freq=2)
    assert history.epoch == list(range(6))  # the first number is an improvement, those of epochs 4 and 6 are none
    assert stop.stopped_epoch == 5
    assert len(history.history["val_loss"]) == 3
    assert history.history["learning_rate"] == [0.01] * 4 + [0.005] * 2
    assert model.optimizer.learning_rate == 0.0025
    assert {file.name[:2] for file in tmp_path.glob("*.npz")} <= {"2-", "4-", "6-"}
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "epoch,accuracy,learning_rate,loss,val_accuracy,val_loss"
    assert [line.endswith("NA,NA") for line in lines[1:]] == [True, False] * 3


@pytest.mark.parametrize(("hook", "near"), [
    ("on_epoch_ends", r" Did you mean `on_epoch_end`\?"), ("on_test_begin", ".*"), ("on_predict_batch_end", ".*"),
])  # fmt: skip
def test_a_hook_that_nobody_calls_is_told_so(hook, near):
    with pytest.raises(TypeError, match=f"^Mine: a callback's hooks are on_train_begin, .*; got `{hook}`.{near}"):
        type("Mine", (Callback,), {hook: lambda self, *arguments: None})


# ---- the test of learning rates ----


def found(finder, optimizer=None, **more):
    """(the model, whether it is as it was) after a test of rates."""
    model = compiled(optimizer=optimizer or mc.optimizers.Adam(0.01))
    model.fit(X, LABELS, **FIT, epochs=2)
    before, config = whole_state(model), (model.get_config(), model.compile_config())
    try:
        history = model.fit(X, LABELS, **FIT, epochs=8, callbacks=[finder, *more.pop("callbacks", [])], **more)
    finally:
        assert whole_state(model) == before
        assert (model.get_config(), model.compile_config()) == config
        assert model.history.model is model
    assert model.history is history
    assert "loss" in history.history
    return model


@pytest.mark.parametrize("rate", [0.01, mc.schedules.CosineDecay(0.01, 30)])
def test_a_test_of_learning_rates(rate, tmp_path):
    finder, seen = LearningRateFinder(1e-4, 1e-2, 10), []
    watch = LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append((batch, logs["loss"])))
    model = found(finder, mc.optimizers.Adam(rate), callbacks=[watch])
    assert finder.rates == pytest.approx(np.geomspace(1e-4, 1e-2, 10), rel=1e-12)
    assert len(finder.losses) == len(finder.smoothed) == 10
    assert [batch for batch, _ in seen] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]  # 10 steps, and not one more
    means = [seen[0][1], (5 * finder.losses[0] + 5 * finder.losses[1]) / 10]
    assert [loss for _, loss in seen[:2]] == pytest.approx(means, rel=1e-12)
    weights = 0.9 ** np.arange(10)[::-1]
    for n in range(1, 11):
        mean = (weights[-n:] * finder.losses[:n]).sum() / weights[-n:].sum()
        assert finder.smoothed[n - 1] == pytest.approx(mean, rel=1e-12)
    straight = compiled(optimizer=mc.optimizers.Adam(copy.deepcopy(rate)))
    straight.fit(X, LABELS, **FIT, epochs=4)
    model.fit(X, LABELS, **FIT, initial_epoch=2, epochs=4)  # nothing has happened
    assert whole_state(model) == whole_state(straight)


def test_others_that_put_weights_back_do_so_before_a_test_of_rates():
    stopping = EarlyStopping("loss", patience=9, restore_best_weights=True)
    found(LearningRateFinder(1e-3, 1e-1), callbacks=[stopping])
    assert stopping.best_epoch is not None


def test_a_test_of_rates_takes_the_steps_that_there_are_and_ends_where_the_loss_rises():
    finder = LearningRateFinder(1e-4, 1e-2)
    found(finder)
    assert len(finder.rates) == 24  # 8 epochs of 3 steps
    assert finder.rates[-1] == pytest.approx(1e-2)
    finder = LearningRateFinder(1e-3, 1e6, 24, early_stop_threshold=1.5)
    found(finder)
    assert len(finder.rates) < 24
    assert finder.smoothed[-1] > 1.5 * min(finder.smoothed)
    assert max(finder.smoothed[:-1]) <= 1.5 * min(finder.smoothed[:-1])
    without = LearningRateFinder(1e-3, 1e6, 24, early_stop_threshold=None)
    found(without)
    assert len(without.rates) > len(finder.rates)


def test_a_test_of_rates_ends_at_a_loss_that_is_not_finite():
    finder = LearningRateFinder(1.0, 1e38, 24, early_stop_threshold=None)
    found(finder, mc.optimizers.SGD(0.01))
    assert 0 < len(finder.rates) < 24
    assert np.isfinite(finder.losses).all()


def test_a_test_of_rates_that_is_interrupted_leaves_the_model_as_it_was():
    with pytest.raises(KeyboardInterrupt):
        found(LearningRateFinder(), callbacks=[Hook(lambda model: signal.raise_signal(signal.SIGINT))])


def test_the_suggested_rate():
    finder = LearningRateFinder()
    assert finder.suggestion is None
    finder.rates, finder.smoothed = [1e-3, 1e-2, 1e-1, 1.0, 10.0, 20.0], [3.0, 2.9, 2.0, 1.0, 1.5, 4.0]
    assert finder.suggestion == pytest.approx(0.1)
    finder.smoothed = [1.0, 2.9, 2.0, 1.1, 1.5, 4.0]
    assert finder.suggestion is None  # it does not fall


@pytest.mark.parametrize(("given", "error", "message"), [
    ({"min_lr": 0}, ValueError, "min_lr must be a number > 0"), ({"max_lr": 1e-8}, ValueError, "max_lr must be"),
    ({"num_training_steps": 1}, ValueError, "num_training_steps must be a whole number >= 2"),
    ({"early_stop_threshold": 1.0}, ValueError, "early_stop_threshold must be a number > 1"),
    ({"min_lr": True}, TypeError, "min_lr"), ({"max_lr": float("inf")}, ValueError, "max_lr"),
])  # fmt: skip
def test_a_test_of_rates_refuses(given, error, message):
    with pytest.raises(error, match=f"^LearningRateFinder: {message}"):
        LearningRateFinder(**given)


def test_checkpoints_that_have_to_beat_a_number(tmp_path):
    for threshold, saved in ((0.5, ["2.npz"]), (0.1, []), (None, ["1.npz", "2.npz"])):
        folder = tmp_path / str(threshold)
        best = ModelCheckpoint(
            str(folder / "{epoch}.npz"), "number", save_best_only=True, mode="min", initial_value_threshold=threshold
        )
        run(Logs("number", [0.6, 0.4, 0.45]), best, epochs=3)
        assert (sorted(os.listdir(folder)) if folder.exists() else []) == saved
    with pytest.raises(TypeError, match=r"^ModelCheckpoint: initial_value_threshold must be a number"):
        ModelCheckpoint("m.npz", initial_value_threshold="0.5")
