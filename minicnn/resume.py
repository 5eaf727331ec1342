"""The state of a training run: all that ``fit`` needs to go on bit for bit, in one file (``BackupAndRestore``).

It holds the model (weights, moving statistics, counts of steps, settings that callbacks may have changed), the
optimiser, the place in the run, the means of an epoch that is not over, what the callbacks remember, and the history.
The order of the samples, the masks and the rates follow from seeds and counts: there is no state of random numbers.

document.py has the layout of the file, which is there whole or not at all.  A file that is damaged, foreign or of
another run is refused before anything is changed.
"""

import contextlib
import copy
import json
import os
import weakref
import zlib

import numpy as np

from minicnn import _check, _files, callbacks, inputs, stream
from minicnn.layer import Layer, is_frozen
from minicnn.settings import settings_of
from minicnn.tree import named_values, walk

WHERE = "BackupAndRestore"
ROWS = 64  # samples that are looked at to tell data from other data
TARGETS = 1024  # of large targets on disk, the same
MOST_COMPARED = 2**24  # bytes of samples of which ranks compare all in every call, and not a few

# {model: (what described it when the latest fit with a backup began, and when it ended)}: what callbacks have changed
# since must not make it look like another model, where the same process goes on after Ctrl-C.
_LEFT: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


class Keeper:
    """Keeps the state of one ``fit`` as the BackupAndRestore among its callbacks says; without one it does nothing.

    ``about``: a function that gives the facts about the ``fit`` by name, plain numbers and text, that must be the same
    where a run goes on.  Made before any callback is called, it reads the backup, if there is one, and changes nothing.
    """

    def __init__(self, given, model, history, about):
        chosen = [callback for callback in given if isinstance(callback, callbacks.BackupAndRestore)]
        self.chosen = chosen[0] if chosen else None
        self.found, self.steps = None, 0
        if self.chosen is None:
            return
        _require_alone(given, chosen)
        self.model, self.history, self.path = model, history, self.chosen.path
        self.ranks = model.ranks
        self.stateful = [one for one in given if type(one).get_state is not callbacks.Callback.get_state]
        now, (begun, ended) = described(model), _LEFT.get(model, (None, None))
        names = [type(one).__name__ for one in self.stateful]
        self.about = {"model": begun if now == ended else now, **about(), "callbacks": names}
        self.about_text = json.dumps(self.about)  # it stays, and need not be taken apart for every backup
        self.found = self.ranks.of_first(self._read)

    # ---- what fit calls ----

    def restore(self):
        """Puts everything back as the backup has it; the logs of the latest epoch.

        Called after ``on_train_begin`` of all callbacks, in which they forget what was.
        """
        if self.chosen is None:
            return {}
        if self.found is None:
            if self.ranks.first:
                from minicnn import document  # here: many programs never use it

                document.require_writable_run(self._state(0, 0, {}, None))  # found before the first step
            return {}
        with self._its_fault():
            self._put_back(self.found)
        return dict(self.found["logs"])

    def left(self, epochs):
        """The epochs of a range that are still to be trained."""
        if self.found is None:
            return epochs
        over = self.found["stopped"] and not self.found["step"]
        first = epochs.stop if over else max(epochs.start, self.found["epoch"])
        return range(first, max(first, epochs.stop))

    def within(self, epoch, mean):
        """The number of steps of the epoch that are done; if there are any, ``mean`` becomes what it was after them.

        All else is put back again, too: ``on_epoch_begin`` was called for an epoch that had begun before.
        """
        if self.found is None or epoch != self.found["epoch"] or not self.found["step"]:
            return 0
        self.restore()
        with self._its_fault():
            mean.set_state(self.found["means"])
        return self.found["step"]

    def step_done(self, epoch, number, mean):
        """After step ``number``, from 1, of the epoch and all hooks."""
        if self.chosen is not None:
            self.steps += 1
            if self.chosen.save_freq != "epoch" and self.steps % self.chosen.save_freq == 0:
                self._save(epoch, number, {}, mean)

    def epoch_done(self, epoch, logs):
        """After the epoch and all hooks."""
        if self.chosen is not None and self.chosen.save_freq == "epoch":
            self._save(epoch + 1, 0, logs, None)

    def end(self, complete):
        """When ``fit`` ends; ``complete``: it has done all that it was to do, and so have its callbacks."""
        if self.chosen is None:
            return
        _LEFT[self.model] = self.about["model"], described(self.model)
        if complete and self.chosen.delete_checkpoint and self.ranks.first:
            _files.remove(self.path)
            with contextlib.suppress(OSError):  # something else is in it
                os.rmdir(os.path.dirname(self.path))

    # ---- the state ----

    def _save(self, epoch, step, logs, mean):
        if not self.ranks.first:
            return
        from minicnn import document  # here: many programs never use it

        document.write_run(self.path, self._state(epoch, step, logs, mean))

    def _state(self, epoch, step, logs, mean):
        model = self.model
        return {
            "about": self.about_text,
            "epoch": epoch,
            "step": step,
            "steps": self.steps,
            "stopped": model.stop_training,
            "logs": logs,
            "means": None if mean is None else mean.get_state(),
            "history": self.history.get_state(),
            "callbacks": [[type(one).__name__, one.get_state()] for one in self.stateful],
            "model": model.state_dict(),
            "counts": {name: int(layer.state[key]) for name, layer, key in _counts(model)},
            "settings": settings(model),
            "optimizer": model.optimizer.get_state(),
            "seen": model.input_range and [*model.input_range, model.input_mean],
        }

    def _read(self):
        """The state in the file, if it is one of this run; None if there is no file, but one could be written."""
        from minicnn import document

        _require_writable(self.path)
        if not os.path.lexists(self.path):
            return None
        found = document.read_run(self.path)
        with self._its_fault():
            difference = _difference(json.loads(found["about"]), json.loads(self.about_text))
        if difference is not None:
            name, theirs, mine = difference
            got = _check.Shown(f"one of a run with {name} {_short(theirs)}, not {_short(mine)}")
            fix = "Go on with what it was begun with, or choose another folder"
            raise ValueError(_check.message(WHERE, f"{self.path} must be a backup of this run", got, fix))
        return found

    def _put_back(self, found):
        model = self.model
        for callback, (_, state) in zip(self.stateful, found["callbacks"], strict=True):  # first: they may refuse
            callback.set_state(copy.deepcopy(state))  # it is put back twice where an epoch had begun
        _assign(model, found["settings"])
        model.optimizer.set_state(found["optimizer"])
        _write(model.engine.parameters.named(), found["model"])
        for name, layer, key in _counts(model):
            layer.state[key] = found["counts"][name]
        if found["seen"] is not None:
            model.trained_on(inputs.from_config(WHERE, found["seen"][:2], found["seen"][2]))
        model.stop_training = found["stopped"]
        self.history.set_state(found["history"])
        self.steps = found["steps"]

    @contextlib.contextmanager
    def _its_fault(self):
        """ModelFileError for an exception within: the file is whole, and what it says makes no sense."""
        try:
            yield
        except Exception as error:
            from minicnn.document import ModelFileError

            said = " ".join(str(error).split())
            raise ModelFileError(f"{self.path}: does not fit this run ({type(error).__name__}: {said})") from error


def _write(arrays, values):
    """Writes the values into the arrays of the same names, all or none; they may be NaN."""
    if {name: array.shape for name, array in arrays.items()} != {name: array.shape for name, array in values.items()}:
        raise ValueError("other names or shapes of weights")
    for name, array in arrays.items():
        array[...] = values[name]


def _require_alone(given, chosen):
    if len(chosen) > 1:
        raise ValueError(_check.message("Sequential.fit", "needs one BackupAndRestore at most", len(chosen)))
    if any(isinstance(callback, callbacks.LearningRateFinder) for callback in given):
        got = _check.Shown("BackupAndRestore beside it")
        raise ValueError(_check.message("LearningRateFinder", "is a test, and no run that could be resumed", got))


def _require_writable(path):
    """OSError, before the first step, where no backup could be written; makes the folder."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    _files.mode_of(path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(13, "Permission denied", folder)


# ---- what a model is, beside its numbers ----


def described(model):
    """What must be the same in the model of a run that goes on, plain values by name."""
    config = model.get_config()
    loss, optimizer = model.loss_function, model.optimizer
    return plain({
        **{name: config[name] for name in ("seed", "dtype", "algorithm", "input_shape", "layers")},
        "optimizer": {"class": type(optimizer).__name__, **optimizer.get_config()},
        "loss": {"class": type(loss).__name__, "name": loss.name, **loss.get_config()},
    })  # fmt: skip


class _Unknown(dict):
    """A plain word for a value that is neither number nor text: enough to tell one from another kind."""


def plain(value):
    """The value as JSON has it; arrays and other objects as a word or a sum that tells them apart."""
    value = _check.plain(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        return _Unknown(array=[value.dtype.str, list(value.shape), _crc(value)])
    return _Unknown(object=getattr(value, "__name__", type(value).__name__))


def _counts(model):
    """(name, layer, key) of the layers' states that are whole numbers."""
    states = named_values(walk(model.layers), "state")
    return [one for one in states if not isinstance(one[1].state[one[2]], np.ndarray)]


def _things(model):
    """{name: what has settings that a callback may change}."""
    layers = {f"layer {path}": layer for path, layer in walk(model.layers)}
    return {**layers, "the optimizer": model.optimizer, "the loss": model.loss_function}


def settings(model):
    """{name of the thing: {setting: value}} of all that may be assigned and that a file can hold."""
    return {name: _settings_of(thing) for name, thing in _things(model).items()}


def _settings_of(thing):
    config = thing.get_config()
    names = [name for name in settings_of(type(thing)) if name in config]
    found = {name: known for name in names if _is_known(known := plain(config[name]))}
    if isinstance(thing, Layer):
        found |= {"frozen": is_frozen(thing), "trainable": thing.trainable}
        found["mask_is_frozen"] = getattr(thing, "mask_is_frozen", False)
    return found


def _is_known(plain):
    parts = plain.values() if isinstance(plain, dict) else plain if isinstance(plain, list) else ()
    return not isinstance(plain, _Unknown) and all(map(_is_known, parts))


def _assign(model, settings):
    """Assigns what differs from what is there, a layer before those in it."""
    for name, thing in _things(model).items():
        wanted = settings[name]
        if isinstance(thing, Layer) and is_frozen(thing) != wanted["frozen"]:
            thing.freeze() if wanted["frozen"] else thing.unfreeze()
        if wanted.get("mask_is_frozen", False) != getattr(thing, "mask_is_frozen", False):
            thing.freeze_mask() if wanted["mask_is_frozen"] else thing.unfreeze_mask()
        for setting in sorted(wanted, key=lambda one: wanted[one] is not None):  # of clipnorm and clipvalue one is None
            if _settings_of(thing)[setting] != wanted[setting]:
                setattr(thing, setting, wanted[setting])


# ---- whether a run is the same ----


def about_given(given, every=False):
    """What tells samples, (x, y, weights) or (data,), from others: of arrays their form and sums over some, of other
    data their kind and length.

    ``every``: sums over all of an x in memory.
    """
    if len(given) == 1:
        return {"data": type(given[0]).__name__, "batches": stream.length_of("Sequential.fit", given[0])}
    x, y, weights = given
    return about_samples(x, y[:TARGETS] if stream.on_disk(y) else y, weights, every and not stream.on_disk(x))


def require_same(model, method, given, *arguments, weights=True):
    """ValueError where the ranks of a model (distributed.py) do not do the same: other samples, arguments or, if they
    are compared, weights."""
    if model.ranks.size > 1:
        facts = {
            "the method": method,
            "the samples": about_given(given, every=getattr(given[0], "nbytes", 0) <= MOST_COMPARED),
            "the arguments": plain(arguments),
            "the weights": model.fingerprint() if weights and model.built else None,
        }
        model.ranks.require_same(f"Sequential.{method}", facts)


def about_samples(x, y, weights=None, every=False):
    """What tells samples from others: their number and form, and a sum over ``y``, the weights and some of ``x``, or
    ``every`` one."""
    rows = np.linspace(0, len(x) - 1, min(len(x), ROWS)).astype(int)
    looked_at = [x] if every else [np.stack([x[row] for row in rows])] if len(x) else []
    sums = [_crc(one) for one in (*looked_at, y, weights) if one is not None]
    return {"number": len(x), "shape": list(x.shape[1:]), "dtype": x.dtype.str, "sums": sums}


def _crc(array):
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data)


def _difference(theirs, mine, name=""):
    """(name, value, other value) of the first thing that differs; None where all is the same."""
    if isinstance(theirs, dict) and isinstance(mine, dict):
        pairs = [(f"{name}.{key}".strip("."), theirs.get(key), mine.get(key)) for key in {**theirs, **mine}]
    elif isinstance(theirs, list) and isinstance(mine, list) and len(theirs) == len(mine):
        pairs = [(f"{name}[{i}]", a, b) for i, (a, b) in enumerate(zip(theirs, mine, strict=True))]
    else:
        return None if theirs == mine else (name, theirs, mine)
    return next(filter(None, (_difference(a, b, inner) for inner, a, b in pairs)), None)


def _short(value):
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
