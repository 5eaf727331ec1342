"""Runs that were stopped go on bit for bit, whatever stopped them; and what is not their backup is refused."""

import copy
import json
import os
import random
import signal
import time

import numpy as np
import pytest
from models import Hook

import minicnn as mc
from minicnn import ModelFileError, archive, document, layers, optimizers, schedules
from minicnn.callbacks import (
    BackupAndRestore,
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    LearningRateFinder,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)

X = np.random.default_rng(7).random((20, 6, 5, 2)).astype(np.float32)
Y = np.arange(20) % 4
FIT = {"batch_size": 5, "epochs": 6, "validation_split": 0.25, "verbose": 0}  # three steps an epoch

posix = pytest.mark.skipif(os.name != "posix", reason="processes and permissions as POSIX has them")
forks = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # beside threads, of which the child uses none


class Spread(mc.metrics.Metric):
    """A metric of one's own that remembers an array and a list."""

    name = "spread"
    better = "min"

    def reset(self):
        self.sums, self.sizes = np.zeros(4), []

    def update(self, outputs, y, weights=None, from_logits=False):
        self.sums += np.asarray(outputs).sum(0)
        self.sizes.append(len(outputs))

    def result(self):
        return float(self.sums.max() - self.sums.min()) / sum(self.sizes)


class Ramp(Callback):
    """Changes settings of the model, by a number that it remembers."""

    def on_train_begin(self, logs=None):
        self.seen = {"losses": np.zeros(0), "epochs": ()}

    def on_epoch_end(self, epoch, logs=None):
        self.seen["losses"] = np.append(self.seen["losses"], logs["loss"])
        self.seen["epochs"] += (epoch,)
        self.model.layers[6].rate = 0.1 + float(self.seen["losses"].sum() % 0.3)
        self.model.optimizer.clipnorm = 1.0 + epoch
        if epoch == 2:
            self.model.layers[2].freeze()
        if epoch == 1:
            self.model.layers[3].freeze_mask()

    def get_state(self):
        return {"seen": self.seen}

    def set_state(self, state):
        self.seen = {**state["seen"], "epochs": tuple(state["seen"]["epochs"])}


def network(optimizer=None, seed=1, units=4, noise=0.1, **more):
    model = mc.Sequential([
        layers.Conv2D(3, 3, activation="relu"),
        layers.Dropout(schedules.PolynomialDecay(0.5, 30)),
        layers.BatchNormalization(),
        layers.GaussianDropout(noise),
        layers.Flatten(),
        layers.Dense(6, activation="tanh"),
        layers.Dropout(0.2),
        layers.Dense(units, activation="softmax"),
    ], seed=seed, **more)  # fmt: skip
    model.compile(optimizer or optimizers.Adam(0.01), "sparse_categorical_crossentropy", ["accuracy", Spread()])
    return model


def augmented():
    """Every layer that augments, and draws a number for each step and image."""
    return mc.Sequential([
        layers.RandomFlip(),
        layers.RandomTranslation(0.2, 0.2),
        layers.RandomRotation(0.1),
        layers.RandomZoom(0.2),
        layers.RandomContrast(0.3, value_range=(0, 1)),
        layers.RandomBrightness(0.2, value_range=(0, 1)),
        layers.RandomErasing(0.5, value_range=(0, 1)),
        layers.RandomCrop(5, 4),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dropout(0.2),
        layers.Dense(4, activation="softmax"),
    ], seed=1)  # fmt: skip


def with_augmentation():
    model = augmented()
    model.compile(optimizers.Adam(0.01), "sparse_categorical_crossentropy", ["accuracy"])
    return model


def stop_at(step):
    """A callback that presses Ctrl-C after that step of the run."""

    def press(model):
        if model.optimizer.iterations == step:
            raise KeyboardInterrupt

    return Hook(press)


def fit(folder, make, callbacks, stop=None, save_freq="epoch", place=0, **more):
    """(model, history, callbacks) of a run with its backup in the folder; stopped after a step, if one is given."""
    os.makedirs(folder, exist_ok=True)
    model, given = make(), callbacks(folder)
    listed = [*given[:place], BackupAndRestore(folder / "backup", save_freq), *given[place:]]
    try:
        history = model.fit(X, Y, **FIT | more, callbacks=[*listed, *([stop_at(stop)] if stop else [])])
    except KeyboardInterrupt:
        history = None
    assert stop is None or history is None, "it was not stopped"
    return model, history, given


def in_pieces(folder, make, callbacks, stops, save_freq, **more):
    for number, stop in enumerate(stops):
        fit(folder, make, callbacks, stop, save_freq, number % 3, **more)
    return fit(folder, make, callbacks, None, save_freq, 1, **more)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def whole(model):
    """All that a step changes, and what callbacks may."""
    counts = {f"{i}.{key}": value for i, one in enumerate(model.layers) for key, value in one.state.items()}
    slots = {name: np.array(value).tobytes() for name, value in model.optimizer.get_state().items()}
    counts = {name: value for name, value in counts.items() if isinstance(value, int)}
    return model.fingerprint(), counts, slots, json.dumps([model.get_config(), model.compile_config()])


RUNS = {
    "SGD": (
        lambda: network(optimizers.SGD(schedules.OneCycleLR(0.5, 30), momentum=0.9)),
        lambda folder: [Ramp(), CSVLogger(folder / "log.csv"), History()],
        {"class_weight": {0: 2.0}},
    ),
    "plateau": (
        lambda: network(optimizers.SGD(0.3)),
        lambda folder: [ReduceLROnPlateau("loss", 0.5, 1, min_delta=0.03, cooldown=1), CSVLogger(folder / "log.csv")],
        {"shuffle": False, "clean_train_metrics": True},
    ),
    "early stopping": (
        lambda: network(optimizers.Nadam(0.05, clipnorm=1.0)),
        lambda folder: [
            EarlyStopping(patience=2, restore_best_weights=True),
            ModelCheckpoint(str(folder / "best.npz"), save_best_only=True, save_freq="epoch"),
            ModelCheckpoint(str(folder / "{epoch}-{batch}.npz"), save_freq=4, save_weights_only=True),
        ],
        {"epochs": 20},
    ),
    "augmentation": (
        with_augmentation,
        lambda folder: [
            ModelCheckpoint(str(folder / "{epoch}.npz"), save_optimizer=True),
            ModelCheckpoint(str(folder / "{epoch}-{batch}.npz"), save_freq=4),
        ],
        {},
    ),
    "rates by epoch": (
        lambda: network(noise=schedules.CurriculumDropout(0.3)),  # by fractions of the run
        lambda folder: [LearningRateScheduler(lambda epoch, rate: rate * 0.7), ModelCheckpoint(str(folder / "m.npz"))],
        {"validation_freq": 2, "sample_weight": np.linspace(0.5, 1.5, 20)},
    ),
}


@pytest.mark.parametrize("save_freq", ["epoch", 1, 4])
@pytest.mark.parametrize("name", RUNS)
def test_a_run_in_pieces_is_the_run(name, save_freq, tmp_path):
    make, callbacks, more = RUNS[name]
    straight, history, given = fit(tmp_path / "straight", make, callbacks, None, save_freq, **more)
    assert len(history.epoch) > 3, "too short to be stopped"
    pieces, resumed, others = in_pieces(tmp_path / "pieces", make, callbacks, (2, 7, 8, 12), save_freq, **more)
    assert whole(pieces) == whole(straight)
    assert (resumed.history, resumed.epoch) == (history.history, history.epoch)
    assert resumed.epochs_of("val_loss") == history.epochs_of("val_loss")
    assert files_of(tmp_path / "pieces") == files_of(tmp_path / "straight") or name == "SGD"
    for one, other in zip(given, others, strict=True):
        for attribute in ("best", "best_epoch", "stopped_epoch", "history"):
            assert getattr(one, attribute, None) == getattr(other, attribute, None)
    assert not (tmp_path / "pieces" / "backup").exists()


def test_the_cases_above_do_what_they_are_for(tmp_path):
    """What is resumed has happened: rates fell, training was stopped early, settings were changed."""
    results = {name: fit(tmp_path / name, make, callbacks, **more) for name, (make, callbacks, more) in RUNS.items()}
    assert len(set(results["plateau"][1].history["learning_rate"])) > 2
    stopping = results["early stopping"][2][0]
    assert 2 < stopping.stopped_epoch < 19
    assert stopping.best_epoch < stopping.stopped_epoch
    assert len({*results["rates by epoch"][1].history["learning_rate"]}) == 6
    assert results["SGD"][0].layers[2].trainable is False
    assert results["SGD"][0].optimizer.clipnorm == 6.0


def test_a_checkpoint_goes_on_with_the_same_augmentation(tmp_path):
    """Of ModelCheckpoint, not of a backup: the counts of steps are in it."""
    straight, pieces = with_augmentation(), with_augmentation()
    straight.fit(X, Y, **FIT)
    pieces.fit(X, Y, **FIT | {"epochs": 2}, callbacks=ModelCheckpoint(tmp_path / "m.npz", save_optimizer=True))
    model, epoch, _ = mc.saving.load_checkpoint(tmp_path / "m.npz")
    assert whole(model) == whole(pieces)
    model.fit(X, Y, **FIT, initial_epoch=epoch)
    assert whole(model) == whole(straight)
    assert model.layers[0].state["step"] == 18


def test_the_end_of_an_epoch_that_had_no_backup(tmp_path):
    """Killed after the last backup, within what comes after: the run is over, and ends as it would have ended."""

    class Dies(Callback):
        def on_train_end(self, logs=None):
            raise KeyboardInterrupt

    def callbacks(folder):
        return [EarlyStopping(patience=2, restore_best_weights=True)]

    make, _, more = RUNS["early stopping"]
    straight, history, (stopping,) = fit(tmp_path / "straight", make, callbacks, **more)
    model = make()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, **FIT | more, callbacks=[Dies(), *callbacks(None), BackupAndRestore(tmp_path / "b")])
    ended = []
    end = type("End", (Callback,), {"on_train_end": lambda self, logs=None: ended.append(logs)})()
    again, given = make(), callbacks(None)
    resumed = again.fit(X, Y, **FIT | more, callbacks=[*given, BackupAndRestore(tmp_path / "b"), end])
    assert again.fingerprint() == straight.fingerprint()
    assert resumed.history == history.history
    assert ended == [{name: values[-1] for name, values in history.history.items()}]
    assert given[0].stopped_epoch == stopping.stopped_epoch
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("save_freq", ["epoch", 1])
def test_a_step_that_is_not_finite_within_an_epoch(save_freq, tmp_path, capsys):
    """TerminateOnNaN: the epoch of that step is the last one, also of the run that goes on."""

    class Breaks(Callback):
        """Spoils the weights after step 4; presses Ctrl-C at the end of epoch ``at``."""

        def __init__(self, at):
            self.at = at

        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations == 4 and batch == 0:
                self.model.parameters[:] = np.nan

        def on_epoch_end(self, epoch, logs=None):
            if epoch == self.at:
                raise KeyboardInterrupt

    def run(folder, at):
        model = network()
        hooks = [BackupAndRestore(tmp_path / folder, save_freq), TerminateOnNaN(), Breaks(at)]
        try:
            return model, model.fit(X, Y, **FIT, callbacks=hooks)
        except KeyboardInterrupt:
            return model, None

    straight, history = run("a", None)
    assert np.isnan(history.history["loss"][-1])
    assert len(history.epoch) == 2
    assert run("b", 0)[1] is run("b", 1)[1] is None
    pieces, resumed = run("b", None)
    assert whole(pieces) == whole(straight)
    assert repr(resumed.history) == repr(history.history)  # NaN is not equal to NaN
    assert resumed.epoch == history.epoch
    assert "first not finite" in capsys.readouterr().err


def test_hooks_on_the_way_back(tmp_path):
    """on_train_begin is called, the state comes back; within an epoch on_epoch_begin is called for it, and again."""
    said = []

    class Says(Callback):
        def on_train_begin(self, logs=None):
            said.append("begin")

        def on_epoch_begin(self, epoch, logs=None):
            said.append(f"epoch {epoch}")

        def on_train_batch_begin(self, batch, logs=None):
            said.append(f"batch {batch}")

        def get_state(self):
            return {"it": self.model.optimizer.iterations}

        def set_state(self, state):
            said.append(f"state {state['it']}")

    fit(tmp_path, network, lambda folder: [Says()], stop=5, save_freq=2)
    said.clear()
    fit(tmp_path, network, lambda folder: [Says()], stop=6, save_freq=2)
    assert said == ["begin", "state 4", "epoch 1", "state 4", "batch 1", "batch 2"]
    said.clear()
    fit(tmp_path, network, lambda folder: [Says()], stop=7, save_freq=2)
    assert said == ["begin", "state 4", "epoch 1", "state 4", "batch 1", "batch 2", "epoch 2", "batch 0"]


def test_steps_are_counted_over_all_epochs_and_pieces(tmp_path):
    fit(tmp_path, network, lambda folder: [], stop=5, save_freq=2)
    path = tmp_path / "backup" / "backup.npz"
    assert document.read_run(path)["steps"] == 4
    fit(tmp_path, network, lambda folder: [], stop=8, save_freq=3)
    assert document.read_run(path)["steps"] == 6


# ---- the same process goes on ----


def test_a_model_that_was_interrupted_goes_on_itself(tmp_path):
    """In a notebook: Ctrl-C, then the same cell again.  Callbacks have changed the rate meanwhile; nobody else may."""

    def make():
        return network(optimizers.SGD(0.3))

    def callbacks():
        return [BackupAndRestore(tmp_path / "b"), ReduceLROnPlateau("loss", 0.5, 1, min_delta=1)]

    straight = make()
    straight.fit(X, Y, **FIT, callbacks=callbacks()[1:])
    model = make()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, **FIT, callbacks=[*callbacks(), stop_at(11)])
    assert model.optimizer.learning_rate < 0.3
    other = copy.deepcopy(model)
    other.optimizer.learning_rate = 0.01
    before = whole(other)
    with pytest.raises(ValueError, match=r"a run with model.optimizer.learning_rate 0.3, not 0.01. Go on with"):
        other.fit(X, Y, **FIT, callbacks=callbacks())
    assert whole(other) == before
    model.fit(X, Y, **FIT, callbacks=callbacks())
    assert whole(model) == whole(straight)


# ---- delete_checkpoint ----


def test_what_becomes_of_the_backup(tmp_path):
    path = tmp_path / "new" / "folder"
    with pytest.raises(KeyboardInterrupt):
        network().fit(X, Y, **FIT, callbacks=[BackupAndRestore(path), stop_at(8)])
    assert os.listdir(path) == ["backup.npz"]
    assert BackupAndRestore(path).epochs_done() == 2
    (path / "mine.txt").write_text("mine")
    network().fit(X, Y, **FIT, callbacks=BackupAndRestore(path))
    assert os.listdir(path) == ["mine.txt"]
    assert BackupAndRestore(path).epochs_done() == 0
    (path / "mine.txt").unlink()
    network().fit(X, Y, **FIT, callbacks=BackupAndRestore(path))
    assert not path.exists()
    assert path.parent.exists()


def test_a_backup_that_stays_is_gone_on_from(tmp_path):
    straight = network()
    history = straight.fit(X, Y, **FIT)
    keep = BackupAndRestore(tmp_path, delete_checkpoint=False)
    network().fit(X, Y, **FIT | {"epochs": 4}, callbacks=keep)
    assert keep.epochs_done() == 4
    model = network()
    more = model.fit(X, Y, **FIT, callbacks=keep)
    assert whole(model) == whole(straight)
    assert more.history == history.history
    before, again = (tmp_path / "backup.npz").read_bytes(), network()
    assert again.fit(X, Y, **FIT, callbacks=keep).history == history.history  # nothing is trained
    assert again.fit(X, Y, **FIT | {"epochs": 3}, callbacks=keep).epoch == [*range(6)]
    assert whole(again) == whole(straight)
    assert (tmp_path / "backup.npz").read_bytes() == before


def test_the_rest_of_the_model_comes_back_too(tmp_path):
    straight = network()
    straight.fit(X, Y, **FIT)
    keep = BackupAndRestore(tmp_path, delete_checkpoint=False)
    network().fit(X, Y, **FIT, callbacks=keep)
    model = network()
    model.fit(X, Y, **FIT, callbacks=keep)
    assert (model.input_range, model.input_mean) == (straight.input_range, straight.input_mean)
    for one, name in ((straight, "1.npz"), (model, "2.npz")):
        one.save(tmp_path / name)
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()


# ---- what is refused ----


def interrupted(folder, *callbacks):
    with pytest.raises(KeyboardInterrupt):
        network().fit(X, Y, **FIT, callbacks=[*callbacks, BackupAndRestore(folder), stop_at(5)])
    return (folder / "backup.npz").read_bytes()


@pytest.mark.parametrize(("change", "more", "words"), [
    (lambda: network(units=5), {}, r"model.layers\[7\].config.units 4, not 5"),
    (lambda: network(seed=2), {}, "model.seed 1, not 2"),
    (lambda: network(dtype="float64"), {}, "model.dtype 'float32', not 'float64'"),
    (lambda: network(optimizers.Adam(0.02)), {}, "model.optimizer.learning_rate 0.01, not 0.02"),
    (lambda: network(optimizers.SGD(0.01)), {}, "model.optimizer.class 'Adam', not 'SGD'"),
    (network, {"batch_size": 4}, "batch_size 5, not 4"),
    (network, {"x": X[:18], "y": Y[:18]}, "samples.number 15, not 13"),
    (network, {"x": X + 1}, r"samples.sums\[0\] "),
    (network, {"y": Y[::-1].copy()}, r"samples.sums\[1\] "),
    (network, {"class_weight": {0: 2.0}}, "samples.sums "),
    (network, {"shuffle": False}, "shuffle True, not False"),
    (network, {"initial_epoch": 1}, "initial_epoch 0, not 1"),
    (network, {"drop_last": True, "batch_size": 7}, "batch_size 5, not 7"),
    (network, {"validation_freq": 2}, "validation_freq 1, not 2"),
    (network, {"validation_split": 0.0, "validation_data": (X[:5], Y[:5])}, "steps 3, not 4"),
    (network, {"callbacks": [EarlyStopping()]}, r"callbacks\[0\] 'ReduceLROnPlateau', not 'EarlyS"),
    (network, {"callbacks": []}, r"callbacks \['ReduceLROnPlateau'\], not \[\]"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:Sequential.fit. initial_epoch")
def test_a_backup_of_another_run(change, more, words, tmp_path):
    before = interrupted(tmp_path, ReduceLROnPlateau())
    model, begun = change(), []
    model.build((6, 5, 2))
    state = whole(model)
    begins = type("Begins", (Callback,), {"on_train_begin": lambda self, logs=None: begun.append(1)})()
    given = {"x": X, "y": Y, **FIT, "callbacks": [ReduceLROnPlateau()], **more}
    given["callbacks"] = [begins, *given["callbacks"], BackupAndRestore(tmp_path)]
    path = (tmp_path / "backup.npz").as_posix()
    required = rf"^BackupAndRestore: {path} must be a backup of this run; got one of a run with {words}"
    with pytest.raises(ValueError, match=required):
        model.fit(**given)
    assert (tmp_path / "backup.npz").read_bytes() == before
    assert (whole(model), begun) == (state, [])


def test_another_monitor_is_refused(tmp_path):
    before = interrupted(tmp_path, EarlyStopping("loss", patience=9))
    model = network()
    model.build((6, 5, 2))
    state = whole(model)
    with pytest.raises(ModelFileError, match=r"backup.npz: .*EarlyStopping: monitor must be that of the run that goes"):
        model.fit(X, Y, **FIT, callbacks=[EarlyStopping("val_loss", patience=9), BackupAndRestore(tmp_path)])
    assert whole(model) == state
    assert (tmp_path / "backup.npz").read_bytes() == before


def damaged(kind, data, path):
    if kind == "model":
        model = network()
        model.build((6, 5, 2))
        model.save(path)
    elif kind == "text":
        path.write_text("these are my notes")
    elif kind == "torn":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "flipped":
        path.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
    else:
        members = archive.unpack(data)
        text = json.loads(bytes(members["run.json"]))
        kind(text["state"]["dict"])
        members["run.json"] = document.to_json(text)
        path.write_bytes(b"".join(archive.sealed(archive.pack(members))))


@pytest.mark.parametrize(("kind", "words"), [
    ("model", "is not the state of a training run"), ("text", "is not a minicnn model file"),
    ("torn", "is truncated, or is not a minicnn model file"), ("empty", "is empty"), ("flipped", "is damaged"),
    (lambda state: state.pop("step"), "must hold .* as the state of a run"),
    (lambda state: state.update(epoch=-1), "must hold a whole number"),
    (lambda state: state.update(epoch=True), "must hold a whole number"),
    (lambda state: state.update(stopped="yes"), "does not fit this run .*stop_training must be True or False"),
    (lambda state: state["model"]["dict"].popitem(), "has a member too many"),
    (lambda state: state["counts"]["dict"].popitem(), "does not fit this run .*KeyError"),
    (lambda state: state["settings"]["dict"].clear(), "does not fit this run .*KeyError"),
    (lambda state: state["optimizer"]["dict"].pop("iterations"), "does not fit this run"),
    (lambda state: state.update(history={"array": ["x", "<f4", [10**12]]}), "lacks the array 'x'"),
    (lambda state: state.update(history={"array": ["x", "<f99", [1]]}), "has a run.json that minicnn did not write"),
    (lambda state: state.update(history={"set": []}), "has a run.json that minicnn did not write"),
])  # fmt: skip
def test_a_file_that_is_no_backup(kind, words, tmp_path):
    path = tmp_path / "backup.npz"
    damaged(kind, interrupted(tmp_path), path)
    before = path.read_bytes()
    with pytest.raises(ModelFileError, match=rf"^{path.as_posix()}: {words}"):
        network().fit(X, Y, **FIT, callbacks=BackupAndRestore(tmp_path))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["backup.npz"]


def test_others_do_not_read_a_backup(tmp_path):
    interrupted(tmp_path)
    with pytest.raises(ModelFileError, match="holds the state of a training run, which goes on from it with callbacks"):
        mc.Sequential.load(tmp_path / "backup.npz")
    model = network()
    model.build((6, 5, 2))
    with pytest.raises(ModelFileError, match="has neither weights nor a model in it"):
        model.load_weights(tmp_path / "backup.npz")


def test_places_where_nothing_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "in" / "backup.npz").mkdir(parents=True)
    for folder, error in (("file", FileExistsError), ("file/x", NotADirectoryError), ("in", IsADirectoryError)):
        with pytest.raises(error):
            network().fit(X, Y, **FIT, callbacks=[BackupAndRestore(tmp_path / folder), Hook(pytest.fail)])
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="free"):
        network().fit(X, Y, **FIT, callbacks=[BackupAndRestore(tmp_path / "free"), Hook(pytest.fail)])


@pytest.mark.parametrize(("state", "words"), [
    ({"file": open}, r"state/callbacks/0/1/file must be None, numbers, text.*got .*built-in"), ({"a": {1: 2}}, "0/1/a"),
    ({"a": [1, {2, 3}]}, "0/1/a/1"), ({"a": np.array(["x"])}, "0/1/a"), ({"a": np.array(1j)}, "0/1/a"),
])  # fmt: skip
def test_a_state_that_no_file_can_hold_is_found_before_the_first_step(state, words, tmp_path):
    odd = type("Odd", (Callback,), {"get_state": lambda self: state})()
    with pytest.raises(TypeError, match=rf"^BackupAndRestore: .*{words}"):
        network().fit(X, Y, **FIT, callbacks=[BackupAndRestore(tmp_path), odd, Hook(pytest.fail)])
    assert os.listdir(tmp_path) == []


def test_two_backups_or_a_test_of_rates_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^Sequential.fit: needs one BackupAndRestore at most; got 2$"):
        network().fit(X, Y, **FIT, callbacks=[BackupAndRestore(tmp_path / "a"), BackupAndRestore(tmp_path / "b")])
    with pytest.raises(ValueError, match=r"^LearningRateFinder: is a test, and no run that could be resumed"):
        network().fit(X, Y, **FIT, callbacks=[BackupAndRestore(tmp_path), LearningRateFinder()])


@pytest.mark.parametrize(("given", "error", "words"), [
    (("",), ValueError, "backup_dir must be a folder"), ((3.0,), TypeError, ""),
    (("x", "batch"), TypeError, "save_freq, if not \"epoch\", must be a whole number >= 1"),
    (("x", 0), ValueError, "save_freq"), (("x", True), TypeError, "save_freq"),
    (("x", "epoch", 1), TypeError, "delete_checkpoint must be True or False"),
])  # fmt: skip
def test_backup_and_restore_refuses(given, error, words):
    with pytest.raises(error, match=f"^BackupAndRestore: {words}" if words else None):
        BackupAndRestore(*given)


# ---- the lines of a CSVLogger ----


def test_a_csv_file_that_is_continued_has_no_line_twice(tmp_path):
    def run(folder, stop=None):
        os.makedirs(folder, exist_ok=True)
        log = folder / "log.csv"
        if not log.exists():
            network().fit(X, Y, **FIT | {"epochs": 2}, callbacks=CSVLogger(log))
        return fit(folder, network, lambda folder: [CSVLogger(folder / "log.csv", append=True)], stop)

    run(tmp_path / "straight")
    run(tmp_path / "pieces", 8)
    with open(tmp_path / "pieces" / "log.csv", "a") as file:
        file.write("3,half a li")  # written after the last backup
    run(tmp_path / "pieces", 11)
    run(tmp_path / "pieces")
    assert files_of(tmp_path / "pieces") == files_of(tmp_path / "straight")
    run(tmp_path / "pieces", 8)
    (tmp_path / "pieces" / "log.csv").write_text("")
    with pytest.raises(ModelFileError, match=r"CSVLogger: .*log.csv must be the file that is continued, of "):
        run(tmp_path / "pieces")


# ---- killed ----


def long_run(folder, save_freq, epochs, *more):
    """What comes out of a run with all that remembers something."""
    model, log = (
        network(optimizers.SGD(0.2, momentum=0.9), noise=schedules.LateDropout(0.3, 0.5)),
        folder.parent / f"{folder.name}.csv",
    )
    hooks = [
        ReduceLROnPlateau("loss", 0.7, 2, min_delta=0.01),
        BackupAndRestore(folder, save_freq),
        EarlyStopping("accuracy", patience=30, restore_best_weights=True),
        CSVLogger(log),
    ]
    history = model.fit(X, Y, **FIT | {"epochs": epochs}, callbacks=[*hooks, *more])
    return whole(model), history.history, log.read_bytes()


def in_a_child(function):
    """The process id of a forked child that calls the function."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(1)
    return pid


@posix
@forks
@pytest.mark.parametrize(("save_freq", "epochs"), [("epoch", 30), (1, 20)])
@pytest.mark.parametrize("kills", [13, pytest.param(50, marks=pytest.mark.long)])
def test_a_run_that_is_killed_and_killed_again(kills, save_freq, epochs, tmp_path):
    """At random moments: the last of its processes ends as if it had been the only one."""
    mc.set_num_threads(1)
    straight, rng = long_run(tmp_path / "straight", save_freq, epochs), random.Random(kills)
    folder, places = tmp_path / "killed", set()
    for _ in range(kills):
        read, write = os.pipe()
        hook = Hook(lambda model, write=write: os.write(write, b"."))
        pid = in_a_child(lambda hook=hook: long_run(folder, save_freq, epochs, hook))
        os.close(write)
        for _ in range(rng.randint(1, 8)):  # so many steps are done
            os.read(read, 1)
        time.sleep(rng.uniform(0, 0.01))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read)
        if folder.exists():
            places.add(BackupAndRestore(folder).epochs_done())
    assert long_run(folder, save_freq, epochs) == straight
    assert len(places) > 1, "no run went on: the test proves nothing"
    assert not folder.exists()


@posix
@forks
@pytest.mark.parametrize("moment", ["within", "before it is on the disk", "before its name", "after its name"])
def test_killed_at_every_place_of_a_write(moment, tmp_path, monkeypatch):
    """Of the first backups: the old state is there or the new one, never half of one."""
    mc.set_num_threads(1)
    straight, folder = long_run(tmp_path / "straight", 1, 4), tmp_path / "killed"
    sealed, fsync, replace, left = archive.sealed, os.fsync, os.replace, 0

    def child(number):
        counted = iter(range(1, 100))

        def at(place):
            if moment == place and next(counted) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        def pieces(given):
            given = sealed(given)
            yield from given[: len(given) // 2]
            yield bytes(10**5 if moment == "within" else 0)  # more than a buffer holds
            at("within")
            yield from given[len(given) // 2 :]

        def to_disk(descriptor):
            at("before it is on the disk")
            fsync(descriptor)

        def named(source, target):
            at("before its name")
            replace(source, target)
            at("after its name")

        monkeypatch.setattr(archive, "sealed", pieces)
        monkeypatch.setattr(os, "fsync", to_disk)
        monkeypatch.setattr(os, "replace", named)
        long_run(folder, 1, 4)

    for number in (1, 2, 3) if moment != "within" else (1, 1, 1):  # the bytes that are put in would be read later
        pid = in_a_child(lambda number=number: child(number))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        left += any(name.endswith(".tmp") for name in os.listdir(folder))
    assert left > 0 or moment == "after its name"
    assert long_run(folder, 1, 4) == straight
    assert not folder.exists()


def test_validation_data_that_pass_once_are_refused(tmp_path):
    def batches():
        while True:
            yield X[:4], Y[:4]

    model, again = network(), "validation_data must be what can be read again where a run is to go on"
    watched = {"validation_data": batches(), "validation_steps": 2}
    with pytest.raises(ValueError, match=rf"^Sequential\.fit: {again} \(BackupAndRestore\); got generator\. Give arr"):
        model.fit(X, Y, verbose=0, callbacks=[BackupAndRestore(tmp_path)], **watched)
    assert os.listdir(tmp_path) == []
