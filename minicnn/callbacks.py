"""Callbacks: what ``fit`` calls while it trains, with Keras's names and hooks.

A callback that raises ends ``fit``; the exception reaches the caller, the model is whole (no half step) and in the mode
that it was in before.

However ``fit`` ends, also by an exception or Ctrl-C, ``on_train_end`` is called once for every callback whose
``on_train_begin`` has returned.  If one raises there, the others are still called.  The first exception reaches the
caller; those of ``on_train_end`` after it become notes on it.  Ctrl-C is never lost.

A callback that remembers something from epoch to epoch, such as how long it has waited, has ``get_state`` and
``set_state``: by them a run that was stopped goes on as if it had not been (``BackupAndRestore``).
"""

import copy
import csv
import inspect
import math
import os
import string
import warnings

import numpy as np

from minicnn import _check, _files, metrics, progress, schedules
from minicnn.notebook import Pictured


class Callback:
    """Base class: override the hooks that you need.

    ``self.model``, ``self.params`` and ``self.writes`` are set before the first hook; ``params`` has "epochs",
    "batch_size", "steps" and "metrics", the names of what ``fit`` itself will log at the end of an epoch.  ``logs``
    holds the loss and the metrics, at the end of an epoch with clean_... and val_... as well, where ``fit`` computes
    them; what ``on_epoch_end`` adds to it is seen by the callbacks after it.  Setting
    ``self.model.stop_training = True`` ends training after the epoch.  ``on_train_end`` is called on every way out
    (head of this file).
    """

    model = None
    params = None
    writes = True  # False on all ranks but the first of a model that is distributed: there nothing is to be written
    ends_last = False  # True: ``on_train_end`` comes after those of the others, to put back what they may have done

    def __init_subclass__(cls, **kwargs):
        """TypeError for a hook that ``fit`` would never call: a misspelt one, or one of evaluation or prediction."""
        super().__init_subclass__(**kwargs)
        hooks = [name for name in vars(Callback) if name.startswith("on_")]
        for name in vars(cls):
            if name.startswith("on_") and not hasattr(Callback, name):
                near = _check.nearest(name, hooks)
                fix = f"Did you mean `{near}`?" if near else ""
                required = f"a callback's hooks are {', '.join(hooks)}"
                raise TypeError(_check.message(cls.__name__, required, _check.Shown(f"`{name}`"), fix))

    def set_model(self, model):
        self.model = model

    def set_params(self, params):
        self.params = params

    def get_state(self):
        """What the callback has come to know since ``on_train_begin``, for ``set_state``: a dictionary of None,
        numbers, text and arrays, and of lists and dictionaries (by text) of them.  Asked for after all hooks."""
        return {}

    def set_state(self, state):
        """Takes what ``get_state`` gave in a run that goes on here; tuples have become lists.

        Called after ``on_train_begin``; where the run goes on within an epoch also after its ``on_epoch_begin``.
        """

    def on_train_begin(self, logs=None):
        pass

    def on_train_end(self, logs=None):
        pass

    def on_epoch_begin(self, epoch, logs=None):
        pass

    def on_epoch_end(self, epoch, logs=None):
        pass

    def on_train_batch_begin(self, batch, logs=None):
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        self.on_batch_end(batch, logs)

    def on_batch_begin(self, batch, logs=None):
        """Keras's other name for ``on_train_batch_begin``."""

    def on_batch_end(self, batch, logs=None):
        """Keras's other name for ``on_train_batch_end``."""


class History(Callback, Pictured):
    """The numbers of a ``fit``, which returns one: ``history``, a dict of lists with a number for each epoch (fewer for
    what is not computed after each), and ``epoch``, the epochs' numbers, from 0.

    ``params`` and ``model``: as every callback has them; copies and pickles of a History alone have no model.
    """

    _picture = "history"

    def __init__(self):
        self.on_train_begin()

    def on_train_begin(self, logs=None):
        self.history, self.epoch, self._epochs = {}, [], {}

    def on_epoch_end(self, epoch, logs=None):
        self.append(epoch, logs or {})

    def append(self, epoch, logs):
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)
            self._epochs.setdefault(name, []).append(epoch)

    def epochs_of(self, name):
        """The epochs, from 0, to which the numbers ``history[name]`` belong."""
        return list(self._epochs.get(name, []))

    def get_state(self):
        return {"history": self.history, "epoch": self.epoch, "epochs": self._epochs}

    def set_state(self, state):
        self.history, self.epoch, self._epochs = (_copied(state[name]) for name in ("history", "epoch", "epochs"))

    def __getstate__(self):
        return {key: value for key, value in vars(self).items() if key != "model"}

    def __repr__(self):
        return f"History({self.history})"


def _copied(value):
    """The list, or the dictionary of lists, as new ones."""
    return {name: list(values) for name, values in value.items()} if isinstance(value, dict) else list(value)


class LambdaCallback(Callback):
    """Calls functions: ``on_epoch_begin(epoch, logs)``, ``on_epoch_end(epoch, logs)``, ``on_train_begin(logs)``,
    ``on_train_end(logs)``, ``on_train_batch_begin(batch, logs)``, ``on_train_batch_end(batch, logs)``; the last two may
    also be called ``on_batch_begin`` and ``on_batch_end``, as in the first Keras.  None: nothing is called."""

    def __init__(
        self,
        on_epoch_begin=None,
        on_epoch_end=None,
        on_train_begin=None,
        on_train_end=None,
        on_train_batch_begin=None,
        on_train_batch_end=None,
        on_batch_begin=None,
        on_batch_end=None,
    ):
        given = {name: value for name, value in locals().items() if name.startswith("on_") and value is not None}
        for name, function in given.items():
            if not callable(function):
                raise TypeError(_check.message("LambdaCallback", f"{name} must be a function", _check.kind(function)))
            if name.startswith("on_batch") and f"on_train{name[2:]}" in given:
                required = f"needs either {name} or on_train{name[2:]}, which are one"
                raise ValueError(_check.message("LambdaCallback", required, _check.Shown("both")))
        for name, function in given.items():
            vars(self)[name] = _with_logs(function, 1 if name in ("on_train_begin", "on_train_end") else 2)


def _with_logs(function, count):
    """``function``, called with ``count`` arguments; the last, the logs, ``fit`` leaves out where it has none."""

    def call(*given):
        function(*given, *[{}] * (count - len(given)))

    return call


class TerminateOnNaN(Callback):
    """Ends training, instead of an exception, at a step whose loss is not finite.

    That step changes nothing, so the model is as the step before has left it.  The epoch is the last one, and counts:
    its loss is logged as NaN, its other numbers are those of the steps before.  A line on stderr names the step and the
    layer, as the FloatingPointError would that ``fit`` raises without this callback.
    """

    def take(self, error):
        """Ends training because of the exception of a step; True: it need not be raised."""
        progress.say(f"{error}. Training is ended")
        self.model.stop_training = True
        return True


class _Monitor(Callback):
    """Knows whether the watched number of this epoch is the best so far.

    ``mode``: "min" or "max"; "auto" until training begins, if the model's metrics are to be asked.
    """

    def __init__(self, monitor, mode, min_delta=0.0, verbose=0):
        name = type(self).__name__
        if not isinstance(monitor, str):
            raise TypeError(_check.message(name, "monitor must be the name of a log", _check.kind(monitor)))
        self.mode = _check.choice(name, "mode", mode, ("auto", "min", "max"))
        self._said = None  # what the metric said, if it was asked
        self.initial_value_threshold = None
        self.monitor = monitor
        self.min_delta = _check.number(name, "min_delta", min_delta, 0)
        self.verbose = _check.integer(name, "verbose", int(verbose) if verbose in (True, False) else verbose, 0, 2)
        self._forget()

    def _forget(self):
        first = self.initial_value_threshold
        self.best = {"min": math.inf, "max": -math.inf, "auto": None}[self.mode] if first is None else first

    def _settle(self):
        """Finds out which way is better; ValueError where nothing says so.  The best stays, unless that changes."""
        if self.mode in ("auto", self._said):
            mode, self.mode = self.mode, self._better()
            self._said = self.mode
            if self.mode != mode:
                self._forget()

    def _better(self):
        measured = metrics.get_all("Sequential", "metrics", self.model.metrics) if self.model is not None else []
        found = metrics.better(self.monitor, measured)
        if found not in ("min", "max"):
            required = "mode must be 'min' or 'max' where the metric does not say which way is better"
            fix = "Give the mode, or the metric an attribute: f.better = 'max'"
            got = _check.Shown(f"mode 'auto' for {self.monitor!r}")
            raise ValueError(_check.message(type(self).__name__, required, got, fix))
        return found

    def get_state(self):
        return {"monitor": self.monitor, "mode": self.mode, "best": self.best}

    def set_state(self, state):
        """ValueError where something else was watched, whose best says nothing here."""
        for name in ("monitor", "mode"):
            if state[name] != getattr(self, name):
                required = f"{name} must be that of the run that goes on, {state[name]!r}"
                raise ValueError(_check.message(type(self).__name__, required, getattr(self, name)))
        self.best = state["best"]

    def _say(self, text):
        if self.verbose:
            progress.say(text)

    def _beats(self, value, other):
        return value < other - self.min_delta if self.mode == "min" else value > other + self.min_delta

    def _require_monitor(self, names):
        if self.monitor not in names:
            needs = "val_... needs validation data, clean_... clean_train_metrics=True"
            required = f"the logs must have {self.monitor!r} ({needs})"
            alike = [name for name in names if name.startswith(self.monitor) or self.monitor.startswith(name)]
            near = _check.nearest(self.monitor, names) or next(iter(alike), None)
            fix = f"Did you mean {near!r}?" if near else ""
            raise ValueError(_check.message(type(self).__name__, required, sorted(names), fix))

    def _absent(self, logs):
        """True in an epoch in which ``fit`` did not compute the watched number (its ``validation_freq``)."""
        return self.monitor not in (logs or {}) and self.monitor in (self.params or {}).get("metrics", ())

    def _improved(self, logs):
        """True if the watched number is the best so far; NaN never is."""
        self._require_monitor(logs or {})
        if self.mode == "auto":  # in a subclass that overrides on_train_begin
            self._settle()
        value = _check.plain(logs[self.monitor])
        try:
            better = bool(self._beats(value, self.best))
        except (TypeError, ValueError):
            required = f"the log {self.monitor!r} must be a number"
            raise TypeError(_check.message(type(self).__name__, required, _check.kind(value))) from None
        if better:
            self.best = value
        return better


class EarlyStopping(_Monitor):
    """Ends training when the watched number has not improved for ``patience`` epochs.

    - ``monitor``: the name of a log.  ``mode``: "min", "max", or "auto": what the metric of that name says
      (``Metric.better``); "min" for loss and ..._loss.
    - ``min_delta``: an improvement by less does not count.
    - ``patience``: epochs without improvement before the end, >= 0; counted from epoch ``start_from_epoch``.  Epoch 0
      is never the last, as in Keras.  A number that is NaN is no improvement.
    - ``baseline``: improvements that do not also beat this number do not restart the count (but, as in Keras, an epoch
      that improves on the best so far is never the last).
    - ``verbose``: 1 for a line on stderr when training is ended.
    - ``restore_best_weights``: put the weights of the best epoch back when training ends, early or not, also by a loss
      that is not finite, by Ctrl-C or by an exception in another callback.  (The weights and moving statistics alone:
      the optimiser stays where it is.)  Nothing is put back where no epoch had a number that improves on infinity.

    Epochs in which the number is not computed (``fit``'s ``validation_freq``) do not count.  Every ``fit`` counts anew.

    ``best``, ``best_epoch`` and ``stopped_epoch`` (0 if training was not ended early) say what happened.

    ValueError, before the first step, where "auto" finds nothing that says which way is better, and for a monitor that
    will not be logged.  After a custom callback, which may add logs, a missing monitor is found only when it is needed.
    """

    def __init__(
        self,
        monitor="val_loss",
        min_delta=0.0,
        patience=0,
        verbose=0,
        mode="auto",
        baseline=None,
        restore_best_weights=False,
        start_from_epoch=0,
    ):
        super().__init__(monitor, mode, min_delta, verbose)
        self.baseline = None if baseline is None else _check.number("EarlyStopping", "baseline", baseline)
        self.patience = _check.integer("EarlyStopping", "patience", patience, 0)
        self.restore_best_weights = _check.boolean("EarlyStopping", "restore_best_weights", restore_best_weights)
        self.start_from_epoch = _check.integer("EarlyStopping", "start_from_epoch", start_from_epoch, 0)
        self._restart()

    def _restart(self):
        self._forget()
        self.best_epoch = self.stopped_epoch = 0
        self._waited, self._weights = 0, None

    def get_state(self):
        """The best weights are in it, where they are to be restored."""
        numbers = {"best_epoch": self.best_epoch, "stopped_epoch": self.stopped_epoch, "waited": self._waited}
        return {**super().get_state(), **numbers, "weights": self._weights}

    def set_state(self, state):
        super().set_state(state)
        self.best_epoch, self.stopped_epoch = state["best_epoch"], state["stopped_epoch"]
        self._waited, self._weights = state["waited"], state["weights"]

    def on_train_begin(self, logs=None):
        self._settle()
        self._restart()

    def on_epoch_end(self, epoch, logs=None):
        if epoch < self.start_from_epoch or self._absent(logs):
            return
        self._waited += 1
        if self._improved(logs):
            self.best_epoch = epoch
            if self.restore_best_weights:
                self._weights = self.model.state_dict()
            if self.baseline is None or self._beats(self.best, self.baseline):
                self._waited = 0
        elif self._waited >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True
            self._say(f"epoch {epoch + 1}: stopped early; the best was epoch {self.best_epoch + 1}")

    def on_train_end(self, logs=None):
        if self._weights is None:
            return
        try:
            self.model.load_state_dict(self._weights)
        except KeyboardInterrupt:  # some arrays may be those of the best epoch already, others not yet
            self.model.load_state_dict(self._weights)
            raise


class ReduceLROnPlateau(_Monitor):
    """Lowers the learning rate when the watched number has not improved for ``patience`` epochs.

    - ``monitor``, ``mode``, ``min_delta``: as in EarlyStopping; ``min_delta`` > 0 leaves out what is hardly any.
    - ``factor`` in [0, 1): the new rate is rate * factor, but at least ``min_lr`` >= 0.
    - ``patience`` >= 0, where 0 is as 1; ``cooldown`` >= 0: for so many epochs after it nothing is counted.
    - ``verbose``: 1 for a line on stderr when the rate is lowered.

    The rate is added to the logs as ``learning_rate``: that with which the epoch was trained.  Every ``fit`` counts
    anew; the rate belongs to the optimiser and stays.

    ValueError, before the first step, where the optimiser's rate is a schedule, and for a monitor as in EarlyStopping.
    """

    def __init__(
        self,
        monitor="val_loss",
        factor=0.1,
        patience=10,
        verbose=0,
        mode="auto",
        min_delta=1e-4,
        cooldown=0,
        min_lr=0.0,
    ):
        super().__init__(monitor, mode, min_delta, verbose)
        self.factor = _check.number("ReduceLROnPlateau", "factor", factor, 0, 1, open_high=True)
        self.patience = _check.integer("ReduceLROnPlateau", "patience", patience, 0)
        self.cooldown = _check.integer("ReduceLROnPlateau", "cooldown", cooldown, 0)
        self.min_lr = _check.number("ReduceLROnPlateau", "min_lr", min_lr, 0)
        self._waited = self._resting = 0

    def on_train_begin(self, logs=None):
        if isinstance(self.model.optimizer.get_config()["learning_rate"], schedules.Schedule | dict):
            required = "the optimiser's learning_rate must be a number, not a schedule, which says its own"
            raise ValueError(_check.message("ReduceLROnPlateau", required, self.model.optimizer))
        self._settle()
        self._forget()
        self._waited = self._resting = 0

    def get_state(self):
        """Without the rate, which is the optimiser's."""
        return {**super().get_state(), "waited": self._waited, "resting": self._resting}

    def set_state(self, state):
        super().set_state(state)
        self._waited, self._resting = state["waited"], state["resting"]

    def on_epoch_end(self, epoch, logs=None):
        optimizer = self.model.optimizer
        rate = optimizer.learning_rate
        if logs is not None:
            logs["learning_rate"] = rate
        if self._absent(logs):
            return
        if self._resting:
            self._resting -= 1
            self._waited = 0
        if self._improved(logs):
            self._waited = 0
        elif not self._resting:
            self._waited += 1
            if self._waited >= self.patience and rate > self.min_lr:
                optimizer.learning_rate = max(rate * self.factor, self.min_lr)
                self._say(f"epoch {epoch + 1}: the learning rate is lowered to {optimizer.learning_rate:g}")
                self._resting, self._waited = self.cooldown, 0


class ModelCheckpoint(_Monitor):
    """Saves the model after every epoch, or after those that improve on the best.

    - ``filepath``: may hold ``{epoch}`` (from 1, as Keras counts) and any log, also one with "/" or "." in its name:
      "run/{epoch:02d}-{val_loss:.3f}.npz".  (Names with braces, ":" or "!" cannot stand in a format.)
    - ``save_best_only``: only when ``monitor`` has improved on the best so far, that of earlier ``fit`` calls included;
      ``mode`` as in EarlyStopping; ``initial_value_threshold``: a number that the first has to improve on.  Without it
      nothing is watched.
    - ``save_optimizer``: False writes ``Sequential.save``'s files, whose optimiser starts again: moments at zero, a
      schedule at its first step.  True writes ``saving.save_checkpoint``'s, from which a run continues bit for bit,

          model, epoch, history = mc.saving.load_checkpoint(path)
          model.fit(x, y, initial_epoch=epoch, ...)

      and which ``Sequential.load`` reads too.  The history is that of this ``fit``, as far as it is numbers.
    - ``save_weights_only``: True writes ``Sequential.save_weights``'s files.
    - ``save_freq``: "epoch", or a whole number n: after every n-th step, counted over all epochs, with the logs of the
      epoch so far, which have nothing of the validation; ``filepath`` may then hold ``{batch}`` as well, from 1.

    ``verbose``: 1 for a line on stderr for every file.  A folder that is missing is made.  Each file replaces its
    predecessor in one step.

    ValueError, before the first step wherever it can be known, for a filepath that names no log, for a monitor as in
    EarlyStopping, and with ``save_optimizer`` for a custom optimiser or loss, which no file can hold.
    """

    def __init__(
        self,
        filepath,
        monitor="val_loss",
        verbose=0,
        save_best_only=False,
        save_weights_only=False,
        mode="auto",
        save_freq="epoch",
        initial_value_threshold=None,
        save_optimizer=False,
    ):
        super().__init__(monitor, mode, verbose=verbose)
        if initial_value_threshold is not None:
            where, name = "ModelCheckpoint", "initial_value_threshold"
            initial_value_threshold = _check.number(where, name, initial_value_threshold)
        self.initial_value_threshold = initial_value_threshold
        self._forget()
        _files.require_own_name("ModelCheckpoint", filepath)
        self.filepath = os.fsdecode(filepath)
        self.save_best_only = _check.boolean("ModelCheckpoint", "save_best_only", save_best_only)
        self.save_optimizer = _check.boolean("ModelCheckpoint", "save_optimizer", save_optimizer)
        self.save_weights_only = _check.boolean("ModelCheckpoint", "save_weights_only", save_weights_only)
        self.save_freq = save_freq
        if not isinstance(save_freq, str) or save_freq != "epoch":
            self.save_freq = _check.integer("ModelCheckpoint", 'save_freq, if not "epoch",', save_freq, 1)
        if self.save_optimizer and (self.save_weights_only or self.save_freq != "epoch"):
            required = "save_optimizer=True needs whole models, at the end of epochs, to go on from"
            raise ValueError(_check.message("ModelCheckpoint", required, _check.Shown(_shown_choice(self))))
        self._epoch = self._steps = 0

    def on_train_begin(self, logs=None):
        self._steps = 0
        if self.save_best_only:
            self._settle()
        if self.save_optimizer and self.model.compile_config() is None:
            required = "save_optimizer=True needs an optimiser and a loss of minicnn's"
            got = _check.Shown(f"{self.model.optimizer!r} and {self.model.loss_function!r}")
            raise ValueError(_check.message("ModelCheckpoint", required, got))

    def get_state(self):
        return {**super().get_state(), "epoch": self._epoch, "steps": self._steps}

    def set_state(self, state):
        super().set_state(state)
        self._epoch, self._steps = state["epoch"], state["steps"]

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        self._steps += 1
        if self.save_freq != "epoch" and self._steps % self.save_freq == 0:
            self._save(self._epoch, {**(logs or {}), "batch": batch + 1})

    def on_epoch_end(self, epoch, logs=None):
        if self.save_freq == "epoch":
            self._save(epoch, logs)

    def _save(self, epoch, logs):
        if self.save_best_only and (self._absent(logs) or not self._improved(logs)):
            return
        path = self._path(epoch, logs or {})
        if not self.writes:
            return
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if self.save_optimizer:
            from minicnn import document  # here: many programs never use it

            described = document.describe(self.model, epoch + 1, self._history(logs or {}))
            document.write(path, *described, self.model)
        elif self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)
        self._say(f"epoch {epoch + 1}: saved {path}")

    def _path(self, epoch, logs):
        try:
            return _Names().vformat(self.filepath, (), {**logs, "epoch": epoch + 1})
        except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
            required = f"filepath must be a format for epoch or one of the logs {sorted(logs)}"
            raise ValueError(_check.message("ModelCheckpoint", required, self.filepath)) from error

    def _history(self, logs):
        """The numbers of this fit so far; fit itself adds those of an epoch after all callbacks."""
        earlier = self.model.history.history
        history = {name: [*earlier.get(name, []), value] for name, value in logs.items()}
        return {name: values for name, values in (earlier | history).items() if all(map(_is_number, values))}


def _shown_choice(checkpoint):
    return f"save_weights_only={checkpoint.save_weights_only}, save_freq={checkpoint.save_freq!r}"


class BackupAndRestore(Callback):
    """Keeps the state of the run in a folder, so that a run that was stopped, whatever stopped it, goes on bit for bit.

    Give the same ``fit`` the same callback again, in the same script: where the folder has a backup, training goes on
    from there, and ends with the weights, the history and the decisions of the other callbacks that it would have ended
    with.  It does not matter where in the list of callbacks it stands: backups are made after all hooks.

    - ``backup_dir``: the folder, which is made; the backup is its file ``backup.npz``.
    - ``save_freq``: "epoch", or a whole number n: after every n-th step, counted over all epochs.  Then a run also goes
      on in the middle of an epoch.
    - ``delete_checkpoint``: True removes the backup, and the folder if nothing else is in it, when training has ended
      as it was to end; not after Ctrl-C or another exception.  With False a ``fit`` that is called again with more
      ``epochs`` goes on from the end of this one, and with the same ones it trains nothing.

    A callback of one's own must have ``get_state`` and ``set_state`` if it remembers anything; on the way back
    ``on_train_begin`` of all callbacks is called first.  Random numbers that are none of minicnn's are not kept.

    ValueError, before anything is changed, for a backup of another run: other layers, optimiser, loss, seed, data,
    batch size or callbacks (the number of ``epochs`` may be another); ``ModelFileError`` for a file that is damaged or
    no backup; OSError where none could be written.  Such a file stays as it is.  TypeError, before the first step
    where it can be known, for what no file can hold.
    """

    def __init__(self, backup_dir, save_freq="epoch", delete_checkpoint=True):
        self.backup_dir = os.fsdecode(backup_dir)
        if not self.backup_dir:
            raise ValueError(_check.message("BackupAndRestore", "backup_dir must be a folder", backup_dir))
        self.save_freq = save_freq
        if not isinstance(save_freq, str) or save_freq != "epoch":
            self.save_freq = _check.integer("BackupAndRestore", 'save_freq, if not "epoch",', save_freq, 1)
        self.delete_checkpoint = _check.boolean("BackupAndRestore", "delete_checkpoint", delete_checkpoint)

    @property
    def path(self):
        """The file."""
        return os.path.join(self.backup_dir, "backup.npz")

    def epochs_done(self):
        """The number of epochs after which a run would go on here, 0 where there is no backup; ``ModelFileError`` as
        ``fit`` raises it for a damaged file."""
        if not os.path.lexists(self.path):
            return 0
        from minicnn import document  # here: many programs never use it

        return document.read_run(self.path)["epoch"]


class LearningRateFinder(Callback, Pictured):
    """A test of learning rates: trains with ever larger ones, and leaves the model as it was, to the last bit.

        rate of step i = min_lr (max_lr / min_lr)^(i / (n - 1)),    i = 0, 1, ..., n - 1

    with n = ``num_training_steps``, or all steps of this ``fit`` where they are fewer.  The test ends before where the
    loss is no longer finite, or where its smoothed value is above ``early_stop_threshold`` times the smallest one
    (None: never).

        finder = mc.callbacks.LearningRateFinder()
        model.fit(x, y, epochs=5, callbacks=[finder])     # 5: enough for 100 steps
        mc.plot.learning_rates(finder).savefig("rates.png")
        model.optimizer.learning_rate = finder.suggestion

    - ``rates``, ``losses``: those of the steps, lists of numbers; ``smoothed``: the losses as running means, whose
      weights fall by 0.9 from step to step, divided by the sum of the weights.
    - ``suggestion``: a tenth of the rate at which the smoothed loss is lowest, where it is about to rise (the rule of
      Howard and Gugger, "Deep Learning for Coders", 2020, chapter 5); None where it is lowest in the first fifth of the
      steps, and so does not fall.  Look at the picture before you believe it.

    Weights, moving statistics, counts of steps, the optimiser and its rate, which may be a schedule, come back however
    ``fit`` ends.

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, section 3.3, there with rates
    along a straight line.  The words are PyTorch Lightning's, the default range is fastai's.
    """

    ends_last = True

    _picture = "learning_rates"

    def __init__(self, min_lr=1e-7, max_lr=10.0, num_training_steps=100, early_stop_threshold=4.0):
        where = "LearningRateFinder"
        self.min_lr = _check.number(where, "min_lr", min_lr, 0, open_low=True)
        self.max_lr = _check.number(where, "max_lr", max_lr, self.min_lr, open_low=True)
        self.num_training_steps = _check.integer(where, "num_training_steps", num_training_steps, 2)
        if early_stop_threshold is not None:
            early_stop_threshold = _check.number(where, "early_stop_threshold", early_stop_threshold, 1, open_low=True)
        self.early_stop_threshold = early_stop_threshold
        self._before = None
        self._restart()

    def _restart(self):
        self.rates, self.losses, self.smoothed = [], [], []
        self._steps, self.ended = self.num_training_steps, False

    def on_train_begin(self, logs=None):
        self._restart()
        history = self.model.history  # of the test: it stays
        self._before = copy.deepcopy(self.model, {id(history): history})
        history.set_model(self.model)
        if self.params["steps"] is not None:
            self._steps = min(self._steps, self.params["steps"] * self.params["epochs"])

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(batch, logs)
        if not self.ended:
            share = len(self.rates) / max(self._steps - 1, 1)
            self.model.optimizer.learning_rate = self.min_lr * (self.max_lr / self.min_lr) ** share

    def take_loss(self, loss):
        """Takes in the loss of one step; ``fit`` calls it, for what hooks get are means over the epoch."""
        mean = _KEPT * (self.smoothed[-1] * (1 - _KEPT ** len(self.losses)) if self.losses else 0.0)
        self.rates.append(self.model.optimizer.learning_rate)
        self.losses.append(loss)
        self.smoothed.append((mean + (1 - _KEPT) * loss) / (1 - _KEPT ** len(self.losses)))
        least, most = min(self.smoothed), self.early_stop_threshold
        rises = most is not None and self.smoothed[-1] - least > (most - 1) * abs(least)
        if rises or len(self.losses) == self._steps:
            self._end()

    def take(self, error):
        """Ends the test because of the exception of a step; True: it need not be raised."""
        self._end()
        return True

    def _end(self):
        self.ended = self.model.stop_training = True

    def on_train_end(self, logs=None):
        before, self._before = self._before, None
        try:
            self.model.become(before)
        except KeyboardInterrupt:  # some arrays may be as before already, others not yet
            self.model.become(before)
            raise

    @property
    def suggestion(self):
        lowest = int(np.argmin(self.smoothed)) if self.smoothed else 0
        return self.rates[lowest] / 10 if 5 * lowest > len(self.smoothed) else None


_KEPT = 0.9  # of a running mean


class CSVLogger(Callback):
    """Writes one line an epoch into a CSV file: the epoch's number from 0, then the logs in alphabetical order.

    - ``filename``; ``separator``: one character; ``append``: continue an existing file, without a second header.

    The columns are the logs of the first epoch and what ``fit`` will log later, or those of the file that is continued;
    a column without a log gets NA.  A log without a column in that file is a ValueError, before the first step where it
    can be known; one that first appears later in training is left out, with a warning.  The file is complete after
    every epoch.
    """

    def __init__(self, filename, separator=",", append=False):
        self.filename = os.fsdecode(filename)
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(_check.message("CSVLogger", "separator must be one character", separator))
        self.separator = separator
        self.append = _check.boolean("CSVLogger", "append", append)
        self._columns, self._checked, self._missed = None, False, set()
        self._begin = 0  # where in the file the lines of this fit begin

    def on_train_begin(self, logs=None):
        self._columns, self._checked, self._missed = self._header(), False, set()
        if not self.writes:
            return
        if self._columns is None:
            open(self.filename, "w").close()
        elif self._ends_within_a_line():
            with open(self.filename, "a", newline="") as file:
                file.write("\r\n")
        self._begin = os.path.getsize(self.filename)

    def get_state(self):
        """The lines that were written are in it: a file that was begun anew, or has later ones, gets them again."""
        _files.mode_of(self.filename)
        with open(self.filename, "rb") as file:
            file.seek(self._begin)
            lines = file.read().decode("utf-8")
        known = {"columns": self._columns, "checked": self._checked, "missed": sorted(self._missed)}
        return {"begin": self._begin, "lines": lines, **known}

    def set_state(self, state):
        if not self.writes:
            return
        _files.mode_of(self.filename)
        if os.path.getsize(self.filename) < state["begin"]:
            required = f"{self.filename} must be the file that is continued, of {state['begin']} bytes or more"
            raise ValueError(_check.message("CSVLogger", required, os.path.getsize(self.filename)))
        with open(self.filename, "r+b") as file:
            file.truncate(state["begin"])
            file.seek(state["begin"])
            file.write(state["lines"].encode("utf-8"))
        self._begin, self._columns, self._checked = state["begin"], state["columns"], state["checked"]
        self._missed = set(state["missed"])

    def _header(self):
        """The columns of the file that is continued; None if there is none, or if it is empty."""
        exists = _files.mode_of(self.filename) is not None  # OSError for a pipe, whose reader might never come
        if not self.append or not exists:
            return None
        with open(self.filename, newline="", encoding="utf-8") as file:
            header = next(csv.reader(file, delimiter=self.separator), None)
        return header[1:] if header else None

    def _ends_within_a_line(self):
        with open(self.filename, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) not in (b"\n", b"\r")

    def _require_columns(self, columns, names):
        missing = [] if columns is None else sorted(set(names) - set(columns))
        if missing:
            required = f"{self.filename} must have a column for every log; the numbers of {missing} would be lost"
            got = _check.Shown(f"the columns {columns}")
            raise ValueError(_check.message("CSVLogger", required, got, "Log into a new file"))

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        if not self.writes:
            return
        _files.mode_of(self.filename)
        with open(self.filename, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=self.separator)
            if self._columns is None:
                self._columns = sorted({*logs, *(self.params or {}).get("metrics", ())})
                writer.writerow(["epoch", *self._columns])
            elif not self._checked:
                self._require_columns(self._columns, logs)
            self._checked = True
            writer.writerow([epoch, *(logs.get(name, "NA") for name in self._columns)])
        late = sorted(set(logs) - set(self._columns) - self._missed)
        if late:
            self._missed.update(late)
            warnings.warn(
                f"CSVLogger: {self.filename} has no column for {late}, first logged in epoch {epoch}", stacklevel=2
            )


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch to ``schedule(epoch)``, or to ``schedule(epoch, rate)``.

    It gets the rate so far where its second parameter must be given, or is called rate, lr or learning_rate, or where
    it takes any number of them (``*arguments``).  A second parameter with a default and another name keeps its default:
    ``lambda epoch, decay=0.5: ...`` gets the epoch alone; so does a function that does not say what it takes, such as
    ``rates.__getitem__``.  A Schedule gets epochs here instead of steps.

    ``verbose``: 1 for a line on stderr before every epoch.

    The rate is added to the logs as ``learning_rate``.  ValueError unless the function returns a number >= 0 (also a
    NumPy scalar or an array without axes).
    """

    def __init__(self, schedule, verbose=0):
        if not callable(schedule):
            required = "schedule must be a function (epoch, rate) -> rate"
            raise TypeError(_check.message("LearningRateScheduler", required, _check.kind(schedule)))
        self.schedule = schedule
        verbose = int(verbose) if verbose in (True, False) else verbose
        self.verbose = _check.integer("LearningRateScheduler", "verbose", verbose, 0, 2)

    def on_epoch_begin(self, epoch, logs=None):
        optimizer = self.model.optimizer
        arguments = (epoch, optimizer.learning_rate) if _takes_rate(self.schedule) else (epoch,)
        what = "the rate that schedule returns"
        if isinstance(self.schedule, schedules.Schedule):
            what = f"the rate that {type(self.schedule).__name__} returns for epoch {epoch}"
        optimizer.learning_rate = schedules.rate_at("LearningRateScheduler", what, self.schedule, arguments)
        if self.verbose:
            progress.say(f"epoch {epoch + 1}: the learning rate is {optimizer.learning_rate:g}")

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


class WeightNorms(Callback):
    """Adds the norm sqrt(sum w^2) of every parameter to the logs of each epoch, as ``norm/0.kernel`` and so on.

    So they are in the history, and in the file of a CSVLogger that comes after it in the list of callbacks.
    """

    def on_epoch_end(self, epoch, logs=None):
        if logs is None:
            return
        for name, offset, size, *_ in self.model.segments:
            values = self.model.parameters[offset : offset + size]
            logs[f"norm/{name}"] = float(np.sqrt(np.square(values, dtype=np.float64).sum()))


# ---- what is known before the first step ----


def check_logs(given, names):
    """ValueError where a callback of the list ``given`` needs a log that will not be there.

    ``names``: what ``fit`` logs; callbacks add to it for those after them.  After one that may add anything, because
    its ``on_epoch_end`` is not minicnn's, nothing is known, and so nothing is refused.
    """
    names = list(names)
    for callback in given:
        _NEEDS.get(_hook(callback), lambda callback, names: None)(callback, names)
        if _hook(callback) not in _ADDS:
            return
        names += [name for name in _ADDS[_hook(callback)](callback) if name not in names]


def _hook(callback):
    """The function that is called at the end of an epoch."""
    return getattr(callback.on_epoch_end, "__func__", callback.on_epoch_end)


def _stopping_needs(callback, names):
    callback._require_monitor(names)


def _checkpoint_needs(callback, names):
    if callback.save_freq != "epoch":
        names = ["batch", *(name for name in names if not name.startswith(("val_", "clean_", "norm/")))]
    if callback.save_best_only:
        callback._require_monitor(names)
    try:
        callback._path(0, dict.fromkeys(names, 0.5))
    except ValueError:
        callback._path(0, dict.fromkeys(names, 1))  # a custom metric may give whole numbers


def _csv_needs(callback, names):
    callback._require_columns(callback._header(), names)


_NEEDS = {
    EarlyStopping.on_epoch_end: _stopping_needs,
    ReduceLROnPlateau.on_epoch_end: _stopping_needs,
    ModelCheckpoint.on_epoch_end: _checkpoint_needs,
    CSVLogger.on_epoch_end: _csv_needs,
}
_ADDS = {
    **dict.fromkeys([Callback.on_epoch_end, History.on_epoch_end, *_NEEDS], lambda callback: []),
    ReduceLROnPlateau.on_epoch_end: lambda callback: ["learning_rate"],
    LearningRateScheduler.on_epoch_end: lambda callback: ["learning_rate"],
    WeightNorms.on_epoch_end: lambda callback: [f"norm/{name}" for name, *_ in callback.model.segments],
}


class _Names(string.Formatter):
    """``str.format`` for which the whole of ``norm/0.kernel`` is one name."""

    def get_field(self, field_name, args, kwargs):
        if field_name in kwargs:
            return kwargs[field_name], field_name
        return super().get_field(field_name, args, kwargs)


def _is_number(value):
    try:
        return isinstance(float(value), float)
    except (TypeError, ValueError, OverflowError):
        return False


def _takes_rate(function):
    """Whether a function of the epoch is to be given the learning rate as well (LearningRateScheduler)."""
    while isinstance(function, np.vectorize):
        function = function.pyfunc
    if isinstance(function, np.ufunc):
        return function.nin > 1
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # written in C, and without a signature
        return False
    by_place = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    if len(by_place) < 2:
        return any(one.kind is one.VAR_POSITIONAL for one in parameters)
    return by_place[1].default is inspect.Parameter.empty or by_place[1].name in ("rate", "lr", "learning_rate")
