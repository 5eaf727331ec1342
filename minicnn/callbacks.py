"""Callbacks: what people hang on ``fit``, with Keras's names and hooks.

A callback that raises ends ``fit``; the exception reaches the caller, the model is whole (no half step) and in the mode
that it was in before.
"""

import csv
import inspect
import math
import os
import sys

import numpy as np

from minicnn import _check, _files


class Callback:
    """Base class: override the hooks that you need.

    ``self.model`` and ``self.params`` (epochs, batch_size, steps) are set before the first hook.  ``logs`` holds the
    loss and the metrics, at the end of an epoch with clean_... and val_... as well, where ``fit`` computes them; what a
    hook adds to it at the end of an epoch is seen by the callbacks after it.  Setting ``self.model.stop_training =
    True`` ends training after the epoch.
    """

    model = None
    params = None

    def set_model(self, model):
        self.model = model

    def set_params(self, params):
        self.params = params

    def on_train_begin(self, logs=None):
        pass

    def on_train_end(self, logs=None):
        pass

    def on_epoch_begin(self, epoch, logs=None):
        pass

    def on_epoch_end(self, epoch, logs=None):
        pass

    def on_train_batch_begin(self, batch, logs=None):
        pass

    def on_train_batch_end(self, batch, logs=None):
        pass


class _Monitor(Callback):
    """Knows whether the watched number of this epoch is the best so far."""

    def __init__(self, monitor, mode, min_delta=0.0, verbose=0):
        name = type(self).__name__
        if not isinstance(monitor, str):
            raise TypeError(_check.message(name, "monitor must be the name of a log", _check.kind(monitor)))
        mode = _check.choice(name, "mode", mode, ("auto", "min", "max"))
        if mode == "auto":
            mode = "max" if "acc" in monitor else "min"
        self.monitor, self.mode = monitor, mode
        self.min_delta = _check.number(name, "min_delta", min_delta, 0)
        self.verbose = _check.integer(name, "verbose", int(verbose) if verbose in (True, False) else verbose, 0, 2)
        self._forget()

    def _forget(self):
        self.best = math.inf if self.mode == "min" else -math.inf

    def _say(self, text):
        if self.verbose:
            print(text, file=sys.stderr)

    def _beats(self, value, other):
        return value < other - self.min_delta if self.mode == "min" else value > other + self.min_delta

    def _improved(self, logs):
        if self.monitor not in (logs or {}):
            needs = "val_... needs validation data, clean_... clean_train_metrics=True"
            required = f"the logs must have {self.monitor!r} ({needs})"
            raise ValueError(_check.message(type(self).__name__, required, sorted(logs or {})))
        better = self._beats(logs[self.monitor], self.best)
        if better:
            self.best = logs[self.monitor]
        return better


class EarlyStopping(_Monitor):
    """Ends training when the watched number has not improved for ``patience`` epochs.

    - ``monitor``: the name of a log; ``mode``: "min", "max", or "auto": max if the name holds "acc".
    - ``min_delta``: an improvement by less does not count.
    - ``patience``: epochs without improvement before the end, >= 0; counted from epoch ``start_from_epoch``.
    - ``baseline``: improvements that do not beat this number as well do not start the count anew (but, as in Keras, an
      epoch that improves on the best so far is never the last).
    - ``verbose``: 1 for a line on stderr when training is ended.
    - ``restore_best_weights``: put the weights of the best epoch back when training ends, early or not.

    ``best``, ``best_epoch`` and ``stopped_epoch`` (0 if training was not ended early) say what happened.
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
        self.on_train_begin()

    def on_train_begin(self, logs=None):
        self._forget()
        self.best_epoch = self.stopped_epoch = 0
        self._waited, self._weights = 0, None

    def on_epoch_end(self, epoch, logs=None):
        if epoch < self.start_from_epoch:
            return
        self._waited += 1
        if self._improved(logs):
            self.best_epoch = epoch
            if self.restore_best_weights:
                self._weights = self.model.state_dict()
            if self.baseline is None or self._beats(self.best, self.baseline):
                self._waited = 0
        elif self._waited >= self.patience:
            self.stopped_epoch = epoch
            self.model.stop_training = True
            self._say(f"epoch {epoch + 1}: stopped early; the best was epoch {self.best_epoch + 1}")

    def on_train_end(self, logs=None):
        if self._weights is not None:
            self.model.load_state_dict(self._weights)


class ModelCheckpoint(_Monitor):
    """Saves the model after every epoch, or after those that improve on the best.

    - ``filepath``: may hold ``{epoch}`` (from 1, as Keras counts) and any log: "run/{epoch:02d}-{val_loss:.3f}.npz".
    - ``save_best_only``: only when ``monitor`` has improved on the best so far, that of earlier ``fit`` calls included;
      ``mode`` as in EarlyStopping.

    ``verbose``: 1 for a line on stderr for every file.  A folder that is missing is made.  Each file replaces its
    predecessor in one step.
    """

    def __init__(self, filepath, monitor="val_loss", verbose=0, save_best_only=False, mode="auto"):
        super().__init__(monitor, mode, verbose=verbose)
        self.filepath = os.fspath(filepath)
        self.save_best_only = _check.boolean("ModelCheckpoint", "save_best_only", save_best_only)

    def on_epoch_end(self, epoch, logs=None):
        if self.save_best_only and not self._improved(logs):
            return
        try:
            path = self.filepath.format(epoch=epoch + 1, **(logs or {}))
        except (KeyError, IndexError, ValueError) as error:
            required = f"filepath must be a format for epoch or one of the logs {sorted(logs or {})}"
            raise ValueError(_check.message("ModelCheckpoint", required, self.filepath)) from error
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self.model.save(path)
        self._say(f"epoch {epoch + 1}: saved {path}")


class CSVLogger(Callback):
    """Writes one line an epoch into a CSV file: the epoch's number from 0, then the logs in alphabetical order.

    - ``filename``; ``separator``: one character; ``append``: go on with a file that is there, without a second header.

    The file is complete after every epoch.
    """

    def __init__(self, filename, separator=",", append=False):
        self.filename = os.fspath(filename)
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(_check.message("CSVLogger", "separator must be one character", separator))
        self.separator = separator
        self.append = _check.boolean("CSVLogger", "append", append)
        self._columns = None

    def on_train_begin(self, logs=None):
        self._columns = None
        exists = _files.mode_of(self.filename) is not None  # OSError for a pipe, whose reader might never come
        if self.append and exists:
            with open(self.filename, newline="") as file:
                header = next(csv.reader(file, delimiter=self.separator), None)
            self._columns = header[1:] if header else None
        else:
            open(self.filename, "w").close()

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        _files.mode_of(self.filename)
        with open(self.filename, "a", newline="") as file:
            writer = csv.writer(file, delimiter=self.separator)
            if self._columns is None:
                self._columns = sorted(logs)
                writer.writerow(["epoch", *self._columns])
            writer.writerow([epoch, *(logs.get(name, "NA") for name in self._columns)])


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch to ``schedule(epoch)``, or ``schedule(epoch, rate)`` if it takes two.

    The rate is added to the logs as ``learning_rate``.  ValueError unless the function returns a number >= 0.
    """

    def __init__(self, schedule):
        if not callable(schedule):
            required = "schedule must be a function (epoch, rate) -> rate"
            raise TypeError(_check.message("LearningRateScheduler", required, _check.kind(schedule)))
        self.schedule = schedule
        self._takes_rate = _takes(schedule, 0, 0.1)

    def on_epoch_begin(self, epoch, logs=None):
        optimizer = self.model.optimizer
        rate = self.schedule(epoch, optimizer.learning_rate) if self._takes_rate else self.schedule(epoch)
        if isinstance(rate, np.generic):
            rate = rate.item()
        optimizer.learning_rate = _check.number("LearningRateScheduler", "the rate that schedule returns", rate, 0)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


class WeightNorms(Callback):
    """Adds the norm sqrt(sum w^2) of every parameter to the logs of each epoch, as ``norm/0.kernel`` and so on.

    So they are in the history, and in the file of a CSVLogger that stands behind it in the list of callbacks.
    """

    def on_epoch_end(self, epoch, logs=None):
        if logs is None:
            return
        for name, offset, size, *_ in self.model.segments:
            values = self.model.parameters[offset : offset + size]
            logs[f"norm/{name}"] = float(np.sqrt(np.square(values, dtype=np.float64).sum()))


def _takes(function, *arguments):
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    return True
