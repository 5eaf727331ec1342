"""What test_distributed.py runs under mpiexec, and by itself without: nets that are trained, and ranks that fail.

    mpiexec -n 2 python ranks.py NAME FOLDER

prints MARK and a line of JSON for each rank.
"""

import contextlib
import io
import json
import os
import signal
import sys
import time

import numpy as np

import minicnn as mc
from minicnn import distributed, layers
from minicnn.callbacks import BackupAndRestore, Callback, CSVLogger, EarlyStopping, ModelCheckpoint, ReduceLROnPlateau

MARK = "what this rank has found: "  # before each line: libraries may print some of their own
X = np.random.default_rng(7).random((147, 8, 8, 3), np.float32)
LABELS = np.random.default_rng(8).integers(0, 4, 147)
WEIGHTS = np.linspace(0.1, 2, 147)


def images():
    """With batch statistics, masks and everything that adds to the loss."""
    return [
        layers.RandomFlip("horizontal"),
        layers.Conv2D(6, 3, activation="relu", kernel_regularizer="l2"),
        layers.BatchNormalization(),
        layers.SpatialDropout2D(0.2),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(16, activation="relu", activity_regularizer="l2"),
        layers.Dropout(0.5),
        layers.Dense(4, activation="softmax"),
    ]


def model(ranks, chain=None, optimizer=None, **more):
    """``ranks``: True to distribute it, or what takes the place of the ranks of MPI."""
    made = mc.Sequential(images() if chain is None else chain, seed=3, **more)
    made.build(X.shape[1:])
    optimizer = mc.optimizers.Adam(0.01) if optimizer is None else optimizer
    made.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
    if ranks is True:
        made.distribute(timeout=60)
    return made


def nets(ranks, folder):
    """Batches that are no power of two, a last one of 7 samples, smaller ones than there are ranks."""
    found = {}
    for name, size, more in (
        ("uneven", 70, {"sample_weight": WEIGHTS, "validation_split": 0.1, "clean_train_metrics": True}),
        ("tiny", 3, {}),
        ("mixed", 64, {"mix": "mixup"}),
        ("stream", None, {}),
    ):
        optimizer = mc.optimizers.SGD(0.05, momentum=0.9, nesterov=True, clipnorm=1.0) if name == "tiny" else None
        trained = model(ranks, None, optimizer)
        data = (X, LABELS) if size else ([(X[i : i + 35], LABELS[i : i + 35]) for i in range(0, 147, 35)],)
        history = trained.fit(*data, batch_size=size, epochs=2, verbose=0, **more).history
        found[name] = [trained.fingerprint(), history]
    prediction = trained.predict_mc(X, n_samples=3)
    sums = [float(one.sum()) for one in (trained.predict(X, 10), prediction.mean, prediction.std)]
    return {**found, "evaluate": trained.evaluate(X, LABELS, batch_size=10), "predict": sums}


class At(Callback):
    """Does something at the end of an epoch or step, on one rank."""

    def __init__(self, rank, action, hook="on_epoch_end"):
        super().__init__()
        setattr(self, hook, lambda number, logs: number == 1 and self.model.ranks.rank == rank and action(self.model))


def raising(error):
    def action(*_):
        raise error

    return action


def errors(ranks, folder):
    """One rank, the last, fails in every way; then all train, as if nothing had been."""
    trained, last = model(ranks), 0
    last, found = trained.ranks.size - 1, {}

    def attempt(name, function):
        before, began = trained.fingerprint(), time.monotonic()
        try:
            function()
        except BaseException as error:
            found[name] = [type(error).__name__, str(error), *getattr(error, "__notes__", [])]
        assert time.monotonic() - began < 30
        assert not trained.training
        return before

    def fit(**more):
        return trained.fit(X, LABELS, **{"batch_size": 64, "epochs": 2, "verbose": 0, **more})

    mine = trained.ranks.rank == last
    attempt("argument", lambda: fit(batch_size=0 if mine else 64))
    attempt("other argument", lambda: fit(batch_size=32 if mine else 64))
    attempt("other call", fit if mine else lambda: trained.evaluate(X, LABELS))
    broken = X.copy()
    broken[-1] = np.nan if mine else 0.5
    batches = [(broken, LABELS)]
    before = attempt("bad data", lambda: trained.fit(batches, epochs=2, verbose=0))
    assert trained.fingerprint() == before
    assert trained.optimizer.iterations == 0
    attempt("hook", lambda: fit(callbacks=[At(last, raising(OSError("disk full")))]))
    attempt("interrupt", lambda: fit(callbacks=[At(last, raising(KeyboardInterrupt()), "on_train_batch_end")]))
    trained = model(ranks)
    fit(callbacks=[At(last, lambda model: setattr(model, "stop_training", True))], epochs=9)
    found["stopped"] = len(trained.history.epoch)
    trained = model(ranks)
    attempt("other weights", lambda: fit(callbacks=[At(last, lambda model: model.parameters.fill(0))]))
    trained = model(ranks)
    found["fingerprint"] = (fit(), trained.fingerprint())[1]
    found["communicators"] = communicators()
    return found


def communicators():
    """How many copies of COMM_WORLD there are after 40 models have come and gone."""
    from mpi4py import MPI

    distributed.MANY = 10
    for _ in range(40):
        mc.Sequential([layers.Dense(1)]).distribute()
    return len(distributed.copies_of(MPI, MPI.COMM_WORLD).made)


def others(ranks, folder):
    """The last rank does in each case something else than the others: what they are told."""
    found, size = {}, model(ranks).ranks.size

    def attempt(name, function):
        trained = model(ranks)
        try:
            found[name] = [None, str(function(trained, trained.ranks.rank == size - 1))]
        except Exception as error:
            found[name] = [type(error).__name__, str(error)]

    x, few = X.copy(), (X[:70], LABELS[:70])
    x[5] += 1
    quick = {"batch_size": 64, "verbose": 0}
    changes = Callback()
    changes.on_epoch_end = lambda epoch, logs: setattr(changes.model.layers[7], "rate", 0.1)
    spoils = Callback()
    spoils.on_train_end = lambda logs: spoils.model.parameters.fill(0)

    def spoilt(model, odd):
        if odd:
            model.parameters[:] += 0.1
        return model.evaluate(X, LABELS, 10)

    for name, function in (
        ("fit: samples", lambda model, odd: model.fit(x if odd else X, LABELS, **quick)),
        ("fit: validation", lambda model, odd: model.fit(*few, **quick, validation_data=(x if odd else X, LABELS))),
        ("fit: arguments", lambda model, odd: model.fit([few], verbose=0, class_weight={0: 2.0} if odd else None)),
        ("fit: logs", lambda model, odd: model.fit(*few, **quick, clean_train_metrics=odd)),
        ("fit: settings", lambda model, odd: model.fit(*few, **quick, callbacks=[changes if odd else Callback()])),
        ("fit: weights", lambda model, odd: model.fit(*few, **quick, callbacks=[spoils if odd else Callback()])),
        ("evaluate: samples", lambda model, odd: model.evaluate(x if odd else X, LABELS, 10)),
        ("evaluate: arguments", lambda model, odd: model.evaluate(X, LABELS, 20 if odd else 10)),
        ("evaluate: weights", spoilt),
        ("predict: samples", lambda model, odd: model.predict(x if odd else X, 10)),
        ("predict: number", lambda model, odd: model.predict(X[:70] if odd else X, 120)),
        ("predict_mc: arguments", lambda model, odd: model.predict_mc(X, 3, seed=1 if odd else 2)),
        ("train_on_batch: samples", lambda model, odd: model.train_on_batch(x if odd else X, LABELS)),
        ("method", lambda model, odd: model.predict(X, 10) if odd else model.evaluate(X, LABELS, 10)),
    ):
        attempt(name, function)
    return found


def interrupts(ranks, folder):
    """Ctrl-C on all ranks, at any time, again and again: the longest time that one has waited; all train afterwards."""
    trained, random = model(ranks), np.random.default_rng()
    last, tell, began = trained.ranks.size - 1, distributed.Ranks._tell, time.monotonic()

    def interrupted(self, error):
        if self.rank == last:
            os.kill(os.getpid(), signal.SIGINT)
        return tell(self, error)

    distributed.Ranks._tell = interrupted  # in the worst moment: while the last rank tells the others of its error
    with contextlib.suppress(KeyboardInterrupt, distributed.RankError):
        trained.fit(X, LABELS, verbose=0, epochs=2, callbacks=[At(last, raising(OSError("disk full")))])
    distributed.Ranks._tell, longest = tell, time.monotonic() - began
    signal.signal(signal.SIGALRM, lambda number, frame: os.kill(os.getpid(), signal.SIGINT))
    for number in range(10):
        trained = model(ranks)  # one rank may have done a step more than another
        try:
            began = time.monotonic()
            try:
                if number % 2 or trained.ranks.rank:
                    signal.setitimer(signal.ITIMER_REAL, 0.02 + 0.06 * random.random())
                trained.fit(X, LABELS, batch_size=64, epochs=30, verbose=0)
            finally:
                longest = max(longest, time.monotonic() - began)
                time.sleep(0.1)
                signal.setitimer(signal.ITIMER_REAL, 0)
        except (KeyboardInterrupt, distributed.RankError):
            pass
    trained.predict(X)  # all have left: they are together in it
    trained = model(ranks)
    trained.fit(X, LABELS, batch_size=64, verbose=0)
    return [longest, trained.fingerprint()]


def asleep(ranks, folder):
    """The last rank does not come back at all."""
    trained = model(False)
    trained.distribute(timeout=0.3)
    distributed.SHORT = 0.3
    trained.fit(X, LABELS, verbose=0, callbacks=[At(trained.ranks.size - 1, lambda model: time.sleep(60))], epochs=3)


def late(ranks, folder):
    """The last rank does not come back for a while."""
    trained = model(False)
    trained.distribute(timeout=0.3)
    last = trained.ranks.size - 1
    try:
        trained.fit(X, LABELS, verbose=0, epochs=2, callbacks=[At(last, lambda model: time.sleep(0.9))])
    except distributed.RankError as error:
        return str(error)
    return None


def killed(ranks, folder):
    trained = model(ranks)
    last = trained.ranks.size - 1
    trained.fit(X, LABELS, verbose=0, epochs=2, callbacks=[At(last, lambda model: os.kill(os.getpid(), 9))])
    return "not killed"


def resumed(ranks, folder, epochs=4, stop=None):
    """A run with callbacks that write and decide, with a backup; ``stop``: whether it is interrupted."""
    trained = model(ranks)
    callbacks = [
        EarlyStopping("loss", patience=3),
        ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1.0, verbose=1),
        CSVLogger(f"{folder}/log.csv"),
        ModelCheckpoint(f"{folder}/best.npz", "loss", save_best_only=True, verbose=1),
        BackupAndRestore(f"{folder}/backup", save_freq=2),
    ]
    if stop:
        callbacks.append(At(0, raising(KeyboardInterrupt()), "on_epoch_end"))
    with contextlib.suppress(KeyboardInterrupt, distributed.RankError):
        trained.fit(X, LABELS, batch_size=64, epochs=epochs, verbose=2, callbacks=callbacks)
    return [trained.fingerprint(), trained.history.history, float(trained.optimizer.learning_rate)]


def stopped(ranks, folder):
    return resumed(ranks, folder, stop=True)


# ---- the command line ----


def command(*words):
    """(exit status, what is in stdout and stderr) of ``minicnn train``, which prints on the first rank alone."""
    from minicnn import cli

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(["train", "--no-compare", "--batch-size", "64", *words])
    return [status, out.getvalue(), err.getvalue()]


def commands(ranks, folder):
    """Runs that are whole, and others that fail on the last rank alone."""
    from mpi4py import MPI

    from minicnn.cli import runs, sources

    os.chdir(folder)
    rank, size = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
    here = rank == size - 1

    def attempt(place, name, action, *words):
        """The command with a function called before ``name`` of a module or class, on the last rank."""
        function = getattr(place, name)

        def both(*arguments, **more):
            action(*arguments)
            return function(*arguments, **more)

        if here:
            setattr(place, name, both)
        try:
            return command(*words)
        finally:
            setattr(place, name, function)

    def other_data(settings, data_dir):
        settings["seed"] = 9

    def interrupt(callback, epoch, logs=None):
        if epoch:
            raise KeyboardInterrupt

    return {
        "whole": command("--epochs", "2", "--json"),
        "again": command("--epochs", "1", "--out", "minicnn-run-1"),
        "wrong": command("--epochs", "x"),
        "other words": command("--seed", str(rank), "--out", "never"),
        "no memory": attempt(sources, "load", raising(MemoryError("no room")), "--out", "never"),
        "a fault": attempt(sources, "load", lambda *_: {}[0], "--out", "never"),
        "other data": attempt(sources, "load", other_data, "--validation", "0.2", "--epochs", "1", "--out", "other"),
        "interrupt": attempt(runs.Rates, "on_epoch_end", interrupt, "--epochs", "3", "--out", "stopped"),
        "resume": command("--resume", "stopped", "--json"),
        "overwrite": command("--out", "minicnn-run-1", "--overwrite", "--epochs", "1", "--json"),
    }


def silent(ranks, folder, rank=1):
    """One rank sleeps for longer than the others wait."""
    from mpi4py import MPI

    from minicnn import cli
    from minicnn.cli import ranks as together
    from minicnn.cli import sources

    together.TIMEOUT, together.LONGER = 0.3, 0.5
    if MPI.COMM_WORLD.rank == rank:
        sources.load = lambda *_: time.sleep(60)
    cli.main(["train", "--epochs", "1", "--out", f"{folder}/never"])


def first_is_silent(ranks, folder):
    silent(ranks, folder, 0)


if __name__ == "__main__":
    scenario, folder = sys.argv[1:]
    print(MARK + json.dumps(globals()[scenario](True, folder)), flush=True)
