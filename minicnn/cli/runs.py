"""The folder of a training run: its settings, its checkpoints and what comes out of it."""

import contextlib
import json
import os
import re
import shlex
from dataclasses import dataclass, field

import numpy as np

import minicnn
from minicnn import _files, saving
from minicnn.callbacks import BackupAndRestore, Callback
from minicnn.cli import augment, building, defaults, sources, words
from minicnn.datasets import images
from minicnn.model import Sequential

NAMES = (
    *("data", "image_size", "color", "fit", "validation", "model", "dropout", "compare", "epochs", "batch_size"),
    *("optimizer", "lr", "momentum", "schedule", "early_stopping", "class_weight", "augment", "seed"),
)
CHECKPOINTS = ("checkpoint.npz", "checkpoint-without-dropout.npz")
RESULTS = ("model.npz", "history.json")
FILES = (*CHECKPOINTS, *RESULTS, "settings.json", "network.json")
PICTURES = ("history", "architecture", "filters", "confusion_matrix", "mistakes")  # of minicnn plot
SHOWN = ("report.html", *(f"{name}.{kind}" for name in PICTURES for kind in ("png", "svg")))
UNKNOWN = {"command": "(that of an older minicnn is not known)", "environment": {}, "samples": {}}
RUN = re.compile(r"minicnn-run-(\d{1,9})")


class Run:
    """A run with its ``settings``: those of the options, of the run that goes on, or the defaults.

    ``data``: those of the settings, under the name that was given.  ``text``: the description of a network of one's
    own, or None.  Nothing is written before ``begin``.
    """

    def __init__(self, options):
        self.given = options.given
        self.folder, resumes = _folder(options)
        self.continues = resumes and os.path.exists(self.path(CHECKPOINTS[0]))
        before = settings_in(self.path("settings.json")) if resumes else {}
        self.replaces = options.overwrite
        if resumes and not self.continues:
            self._require_free(self._results())
            words.note(f"there is no run in {self.folder} to go on with: it is begun there")
        elif not resumes and self.folder is not None:
            self._require_free(FILES)
        self.resumes = resumes
        given = {name: value for name in NAMES if (value := getattr(options, name)) is not None}
        self.data = given.get("data", before.get("data", "digits"))  # as it was written
        if "data" in given and not sources.is_known(given["data"]):
            given["data"] = os.path.abspath(given["data"])  # a run may go on from another folder
        if "model" in given and given["model"] not in defaults.MODELS:
            given["model"] = os.path.abspath(given["model"])
        if self.continues:
            self._require_same(before, given)
        elif given.get("data", before.get("data")) != before.get("data"):
            before = {}  # nothing is trained yet, and the settings belong to other data
        self.text = self._text(before, given)
        self.settings = _completed(before, given, self.text)

    def path(self, name):
        return os.path.join(self.folder, name)

    @property
    def named(self):
        """The folder as it will be called."""
        return self.folder if self.folder is not None else _next_free()

    def begin(self, samples):
        """Makes the folder, without the files of another run in it, and writes the settings into it, with the command,
        what it runs on, and how many ``samples`` there are of each part.  Returns itself."""
        if self.folder is None:
            self.folder = _claimed()
        os.makedirs(self.folder, exist_ok=True)
        if not self.continues:
            self._take_folder()
        if self.text is not None:
            _files.write_atomically(self.path("network.json"), [self.text.encode()])
        before = []
        if self.continues:
            before = calls_in(self.path("settings.json")) or [UNKNOWN]
        call = {"command": shlex.join(["minicnn", *self.given]), "environment": minicnn.versions(), "samples": samples}
        self.write_json("settings.json", self.settings | {"calls": [*before, call]})
        return self

    def write_json(self, name, value):
        _files.write_atomically(self.path(name), [json.dumps(value, indent=1).encode() + b"\n"])

    def _results(self):
        """The names of files that a run without checkpoints does not replace: none where Ctrl-C came in the first
        epoch, after which there is a model, of which no epoch is trained."""
        begun = os.path.lexists(self.path("settings.json")) and not os.path.lexists(self.path("history.json"))
        return () if begun else RESULTS

    def _require_free(self, names):
        """FileExistsError if files with these names are there and not to be replaced."""
        found = [name for name in names if os.path.lexists(self.path(name))]
        if found and not self.replaces:
            fix = "choose another folder, or --overwrite it"
            if os.path.lexists(self.path(CHECKPOINTS[0])):
                fix += f", or go on with it: --resume {self.folder}"
            raise FileExistsError(f"{self.folder}: there is a run already, with {found[0]}; {fix}")

    def _take_folder(self):
        """Looks again, as reading the data takes a while; of two that begin at once only one gets beyond this."""
        self._require_free(self._results() if self.resumes else FILES)
        if not (self.resumes or self.replaces):
            try:
                os.close(os.open(self.path("settings.json"), os.O_CREAT | os.O_EXCL, 0o666))
            except FileExistsError:
                self._require_free(FILES)
            return
        for name in FILES + SHOWN:  # of an earlier run: not to be resumed, nor taken for what this one shows
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path(name))

    def _require_same(self, before, given):
        # What an older version did not write was not there; nothing at all is written where a run was killed at once
        for name in [name for name in given if before and given[name] != before.get(name)]:
            option = f"--{name.replace('_', '-')}"
            if name == "epochs":
                if before.get("schedule") not in defaults.OVER_ALL_EPOCHS:
                    continue
                option = f"--schedule {before['schedule']}, which depends on it, and {option}"
            values = [shown(value) for value in (before.get(name), given[name])]
            was = f"was begun with {option} {values[0]}, not {values[1]}"
            raise ValueError(f"{self.folder} {was}; use another folder")

    def _text(self, before, given):
        model = given.get("model", before.get("model"))
        if model is None or model in defaults.MODELS:
            return None
        kept = self.path("network.json") if self.folder is not None and "model" in before else None
        text = None
        if kept is not None and os.path.lexists(kept):
            text = building.read_text(kept)
        if "model" not in given and text is not None:
            return text
        found = building.read_text(model)
        if self.continues and text is not None and found != text:
            raise ValueError(f"{model}: is another network than that with which {self.folder} was begun")
        return found


def json_in(path):
    """What the JSON in a file says; None where there is no file, or an empty one: the run was killed at once."""
    try:
        file, size = _files.open_regular(path, lambda what: ValueError(f"{path}: {what}"))
        with file:
            text = file.read(size)
    except FileNotFoundError:
        return None
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON ({error})") from None


def settings_in(path):
    """The settings with which a run was begun, from its settings.json; {} where there are none."""
    found = json_in(path)
    if found is None:
        return {}
    known = isinstance(found, dict) and isinstance(found.get("data"), str)
    if not known or not (sources.is_known(found["data"]) or os.path.isabs(found["data"])):
        raise ValueError(f"{path}: must hold the settings of a run; got {str(found)[:80]}")
    found = {name: found[name] for name in NAMES if name in found}
    if isinstance(found.get("image_size"), list):
        found["image_size"] = tuple(found["image_size"])
    return found


def calls_in(path):
    """The calls of minicnn train that a run was begun and gone on with, from its settings.json, which older ones have
    not: [{"command": ..., "environment": {...}, "samples": {part: number}}, ...]."""
    found = json_in(path)
    calls = found.get("calls", []) if isinstance(found, dict) else []
    kinds = {"command": str, "environment": dict, "samples": dict}
    if not isinstance(calls, list):
        return []
    calls = [
        call
        for call in calls
        if isinstance(call, dict) and all(isinstance(call.get(name), kind) for name, kind in kinds.items())
    ]
    for call in calls:
        call["samples"] = {part: n for part, n in call["samples"].items() if type(n) is int and 0 < n < 2**53}
    return calls


def shown(value):
    return "x".join(map(str, value)) if isinstance(value, tuple) else value


def _folder(options):
    """(the folder of the run, None for a new one; whether a run in it is to go on)."""
    if options.resume is None:
        if options.overwrite and options.out is None:
            raise words.Usage("--overwrite needs --out, the folder of the run to replace")
        return options.out, False
    if options.overwrite:
        raise words.Usage("--resume goes on with a run, --overwrite replaces it: leave one of them out")
    if options.resume is True:
        if options.out is None:
            raise words.Usage("--resume needs the folder of the run: --resume RUN")
        return options.out, True
    if options.out not in (None, options.resume):
        raise words.Usage("--resume continues in its own folder: leave out --out, or give the same folder")
    return options.resume, True


def _next_free():
    numbers = [int(match[1]) for name in os.listdir(".") if (match := RUN.fullmatch(name))]
    return f"minicnn-run-{max(numbers, default=0) + 1}"


def _claimed():
    """A new folder of the next number; of two that begin at once each gets its own."""
    while True:
        folder = _next_free()
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
            return folder


def _completed(before, given, text):
    """All settings, with the defaults of the data, the network and the optimiser."""
    chosen = before | given
    data = chosen.get("data", "digits")
    key = data if sources.is_known(data) else defaults.OWN
    size, color, seed = defaults.IMAGE_SIZE, defaults.COLOR, 0
    if text is not None:
        shape, seed = building.said_of(chosen["model"], text)
        if shape is not None and len(shape) == 3 and shape[2] in images.COLORS:
            size, color = tuple(shape[:2]), images.COLORS[shape[2]]
    own = {"image_size": size, "color": color, "fit": "stretch"}
    settings = {**dict.fromkeys(NAMES), "data": data, "seed": seed, **defaults.SETTINGS[key], **chosen}
    if key == defaults.OWN:
        settings |= {name: value for name, value in own.items() if settings[name] is None}
    elif wrong := [name for name in own if name in given]:
        raise words.Usage(f"--{wrong[0].replace('_', '-')} is for pictures of your own, not for --data {data}")
    if settings["lr"] is None:
        settings["lr"] = defaults.OPTIMIZERS[settings["optimizer"]]
    _complete_momentum(settings, given)
    _complete_dropout(settings, given, text)
    augment.layers_of(settings)  # Usage for values that the layers do not take, before data are read
    if settings["early_stopping"] is not None and not settings["validation"]:
        raise words.Usage("--early-stopping needs a validation part: --validation 0.2")
    return settings


def _complete_momentum(settings, given):
    if settings["optimizer"] == "sgd":
        settings["momentum"] = defaults.MOMENTUM if settings["momentum"] is None else settings["momentum"]
    elif "momentum" in given:
        raise words.Usage(f"--momentum is for --optimizer sgd, not {settings['optimizer']}")


def _complete_dropout(settings, given, text):
    if settings["model"] in defaults.WITH_DROPOUT:
        settings["dropout"] = defaults.DROPOUT if settings["dropout"] is None else settings["dropout"]
        return
    if "dropout" in given:
        required = f"--dropout is for --model {', '.join(defaults.WITH_DROPOUT)}"
        raise words.Usage(f"{required}: {settings['model']} has its own, or none")
    if text is None:  # a network without dropout
        if given.get("compare"):
            raise words.Usage(f"--compare is for networks with dropout, which {settings['model']} has not")
        settings["compare"] = False


def settings_of(options):
    """The settings of options that begin no run (tune), with the same defaults."""
    given = {name: value for name in NAMES if (value := getattr(options, name, None)) is not None}
    return _completed({}, given | {"model": "small"}, None)


# ---- what a run has left ----


@dataclass(frozen=True)
class Found:
    """What is in the folder of a run: ``model``; ``history``, a dict of lists, or None, where no epoch was trained;
    ``part``, "test" or "validation", by which it is judged, with its samples ``x``, ``y`` as the model takes them, None
    where there are none, and ``reason``, why not; ``settings``, {} where they cannot be read."""

    model: Sequential
    history: dict | None
    part: str | None = None
    x: np.ndarray | None = None
    y: np.ndarray | None = None
    reason: str = ""
    settings: dict = field(default_factory=dict)


def opened(folder, data_dir):
    """``Found`` of a folder; OSError and ValueError where it is none of a run.  Data that are gone are no error."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(2, "No such folder", folder)
    path = os.path.join(folder, "model.npz")
    if not os.path.lexists(path):
        raise FileNotFoundError(2, "No such file: the folder must be that of a run of minicnn train", path)
    model, history = saving.load_model(path), json_in(os.path.join(folder, "history.json"))
    if history is not None and not (isinstance(history, dict) and all(isinstance(v, list) for v in history.values())):
        raise ValueError(f"{os.path.join(folder, 'history.json')}: must hold lists of numbers by name")
    settings = {}
    try:
        settings = settings_in(os.path.join(folder, "settings.json"))
        if not settings:
            return Found(model, history, reason="there is no settings.json, which names the data")
        data = sources.load(settings, data_dir)
    except words.FAILURES as error:
        return Found(model, history, reason=words.sentence(error), settings=settings)
    if data.measured is None:
        return Found(model, history, reason="there is no test part and no validation part", settings=settings)
    x, y = data.parts[data.measured]
    x = building.as_inputs(model, x, settings)
    if x.shape[1:] != model.input_shape:
        reason = f"the data have another shape than the model, {x.shape[1:]}"
        return Found(model, history, reason=reason, settings=settings)
    return Found(model, history, data.measured, x, y, settings=settings)


# ---- what is written while it is trained ----


class Backup(BackupAndRestore):
    """The state of the run after every epoch, in the file ``path``; it stays, for more epochs."""

    path = None

    def __init__(self, path):
        super().__init__(os.path.dirname(path) or ".", delete_checkpoint=False)
        self.path = path


class Rates(Callback):
    """Logs the learning rate with which an epoch began, where nobody has logged it."""

    rate = None

    def on_epoch_begin(self, epoch, logs=None):
        self.rate = self.model.optimizer.learning_rate

    def on_epoch_end(self, epoch, logs=None):
        logs.setdefault("learning_rate", self.rate)


class Saver(Callback):
    """Writes the history after every epoch."""

    def __init__(self, run):
        self.run = run

    def on_epoch_end(self, epoch, logs=None):
        if not self.writes:
            return
        earlier = self.model.history.history
        self.run.write_json("history.json", {name: [*earlier.get(name, []), value] for name, value in logs.items()})
