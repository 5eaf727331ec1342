"""The command line: ``minicnn train | tune | evaluate | predict | summary | info``, also as ``python -m minicnn``.

Results go to stdout, progress and errors to stderr.  Exit status: 0 done, 1 failed (one line says why), 2 wrong usage,
130 after Ctrl-C; what has been trained is saved.
"""

import argparse
import contextlib
import functools
import io
import json
import math
import os
import re
import sys
import time
import warnings

import numpy as np

import minicnn
from minicnn import _check, _files, datasets, inputs, layers, prediction, saving, tasks
from minicnn.callbacks import BackupAndRestore, Callback
from minicnn.summary import described
from minicnn.tasks import TASKS

SETTINGS = ("data", *TASKS["digits"].settings)
FAILURES = (OSError, ValueError, TypeError, RuntimeError, ArithmeticError, ImportError, MemoryError)


# ---- train ----


def train(options):
    """Trains the task's network with dropout, then the same network at rate 0, and prints both test results."""
    begin = time.perf_counter()
    run = Run(options)
    (x, y), test = tasks.load_data(run.settings["data"], options.data_dir)
    model, history = run.train("", run.settings["dropout"], x, y, saved_as="model.npz")
    result = _test(model, test) | {"fingerprint": model.fingerprint()}
    without = result
    if run.settings["dropout"] > 0:
        plain, _ = run.train("-without-dropout", 0.0, x, y)
        without = _test(plain, test) | {"fingerprint": plain.fingerprint()}
    report = {
        **result,
        "epochs": len(history.get("loss", [])),
        "seconds": round(time.perf_counter() - begin, 3),
        "model": run.path("model.npz"),
        "history": run.path("history.json"),
        "data": run.settings["data"],
        "dropout": run.settings["dropout"],
        "seed": run.settings["seed"],
        "without_dropout": without,
    }
    _print(json.dumps(report) if options.json else _table(report, len(x), len(test[0])))


def _table(report, n, n_test):
    named = [(f"with dropout {report['dropout']:g}", report), ("at rate 0", report["without_dropout"])]
    rows = [f"{name:<20} {part['loss']:9.4f}  {100 * part['accuracy']:12.2f} %" for name, part in named]
    return "\n".join([
        f"{report['data']}: {n:,} training and {n_test:,} test images, {report['epochs']} epochs, "
        f"{report['seconds']:.1f} s",
        "",
        f"{'':<20} test loss   test accuracy",
        *rows[: 2 if report["dropout"] > 0 else 1],
        "",
        f"saved: {report['model']}, {report['history']}",
    ])  # fmt: skip


class Run:
    """The folder of a training run: its settings, its checkpoints and what comes out of it."""

    def __init__(self, options):
        self.folder = options.resume or options.out or "minicnn-run"
        os.makedirs(self.folder, exist_ok=True)
        self.continues = bool(options.resume) and os.path.exists(self.path("checkpoint.npz"))
        before = self._settings_before() if options.resume else {}
        given = {name: value for name in SETTINGS if (value := getattr(options, name)) is not None}
        if self.continues:
            for name in set(given) & set(before) - {"epochs"}:
                if given[name] != before[name]:
                    option = f"--{name.replace('_', '-')}"
                    was = f"was begun with {option} {before[name]}, not {given[name]}"
                    raise ValueError(f"{self.folder} {was}; use another folder")
        elif given.get("data", before.get("data")) != before.get("data"):
            before = {}  # nothing is trained yet, and the settings belong to other data
        data = (before | given).get("data", "digits")
        self.settings = {"data": data, **TASKS[data].settings, **before, **given}
        if not self.continues:
            for name in ("checkpoint.npz", "checkpoint-without-dropout.npz"):  # of an earlier run: not to be resumed
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path(name))
        self.write_json("settings.json", self.settings)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write_json(self, name, value):
        _files.write_atomically(self.path(name), [json.dumps(value, indent=1).encode() + b"\n"])

    def _settings_before(self):
        """The settings with which the run was begun, {} where there are none."""
        try:
            path = self.path("settings.json")
            file, size = _files.open_regular(path, lambda what: ValueError(f"{path}: {what}"))
            with file:
                text = file.read(size)
        except FileNotFoundError:
            return {}
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.path('settings.json')}: is not JSON ({error})") from None
        if not isinstance(found, dict) or found.get("data") not in TASKS:
            raise ValueError(f"{self.path('settings.json')}: must hold the settings of a run; got {str(found)[:80]}")
        return {name: found[name] for name in SETTINGS if name in found}

    def train(self, suffix, rate, x, y, saved_as=None):
        """(model, history) after all epochs, with a checkpoint after every one; continues one that exists."""
        settings, backup = self.settings, _Backup(self.path(f"checkpoint{suffix}.npz"))
        model = tasks.model(TASKS[settings["data"]], rate, settings["seed"], settings, len(x))
        done = backup.epochs_done()
        _note(f"dropout {rate:g}" + (f", continuing after epoch {done}" if done else ""))
        try:
            history = model.fit(
                x,
                y,
                settings["batch_size"],
                settings["epochs"],
                callbacks=[backup, *([_Saver(self)] if saved_as else [])],
                clean_train_metrics=True,  # beside "loss" of training with dropout on, what the network has learned
            ).history
        except KeyboardInterrupt:
            if saved_as:
                model.save(self.path(saved_as))
            saved = f"interrupted; what has been trained is in {self.folder}"
            _note(f"{saved}. Continue with: minicnn train --resume {self.folder}")
            raise
        if saved_as:
            model.save(self.path(saved_as))
            self.write_json("history.json", history)
        return model, history


class _Backup(BackupAndRestore):
    """The state of the run after every epoch, in the file ``path``; it stays, for more epochs."""

    path = None

    def __init__(self, path):
        super().__init__(os.path.dirname(path), delete_checkpoint=False)
        self.path = path


class _Saver(Callback):
    """Writes the history after every epoch."""

    def __init__(self, run):
        self.run = run

    def on_epoch_end(self, epoch, logs=None):
        earlier = self.model.history.history
        self.run.write_json("history.json", {name: [*earlier.get(name, []), value] for name, value in logs.items()})


# ---- tune ----


def tune(options):
    """Trains the task's network at several dropout rates, by cross-validation on the training part, and prints a table
    of the results; the test part is not used."""
    begin = time.perf_counter()
    folder, data = options.out or "minicnn-tune", options.data or "digits"
    os.makedirs(folder, exist_ok=True)
    (x, y), _ = tasks.load_data(data, options.data_dir)
    task = TASKS[data]
    given = {name: value for name in task.settings if (value := getattr(options, name, None)) is not None}
    settings = task.settings | given
    trained_on = len(x) - len(x) // options.cv  # by each run, or one less
    build = functools.partial(tasks.model, task, settings=settings, samples=trained_on)
    arguments = {"rates": options.rates, "repeats": options.repeats, "cv": options.cv, "n_jobs": options.jobs}
    arguments |= {name: settings[name] for name in ("epochs", "batch_size", "seed")}
    curve = minicnn.tune.dropout_curve(build, x, y, **arguments)
    report = {"data": data, "lr": settings["lr"], "momentum": settings["momentum"], **curve.to_dict()}
    files = _written(folder, report, curve)
    seconds = round(time.perf_counter() - begin, 3)
    if options.json:
        _print(json.dumps({**report, "seconds": seconds, "saved": files}))
        return
    runs = (
        f"{options.cv} folds, {options.cv * options.repeats} runs a rate, {settings['epochs']} epochs, {seconds:.1f} s"
    )
    _print(f"{data}: {len(x):,} training images, {runs}\n\n{curve}\n\nsaved: {', '.join(files)}")


def _written(folder, report, curve):
    """The paths of tune.json and, with matplotlib, tune.png."""
    table, picture = os.path.join(folder, "tune.json"), os.path.join(folder, "tune.png")
    _files.write_atomically(table, [json.dumps(report, indent=1).encode() + b"\n"])
    image = io.BytesIO()
    try:
        curve.plot(image)
    except ImportError as error:
        _note(f"no picture: {error}")
        return [table]
    _files.write_atomically(picture, [image.getvalue()])
    return [table, picture]


# ---- the other verbs ----


def evaluate(options):
    """Prints loss and accuracy of a saved model on the test part of a data set."""
    model = saving.load_model(options.model)
    fitting = [name for name, task in TASKS.items() if task.image == model.input_shape]
    name = options.data or next(iter(fitting), "digits")
    _, test = tasks.load_data(name, options.data_dir)
    report = _test(model, test) | {"data": name, "samples": len(test[0]), "model": options.model}
    text = f"{name}, {len(test[0]):,} test images: loss {report['loss']:.4f}, accuracy {100 * report['accuracy']:.2f} %"
    _print(json.dumps(report) if options.json else text)


def predict(options):
    """Prints the most probable class of every image in the files, and its probability.

    A file that cannot be classified is left out, with a line on stderr; the exit status is then 1.
    """
    model = saving.load_model(options.model)
    if len(model.output_shape) != 1:
        raise ValueError(f"{options.model}: predict needs a model with one row of outputs; got {model.output_shape}")
    kind = model.output_kind
    if kind == "labels" or (kind == "values" and model.loss_function is not None):
        needed = f"predict needs {prediction.KINDS['classes']}, or {prediction.KINDS['binary']}"
        raise ValueError(f"{options.model}: {needed}; got {prediction.KINDS[kind]}. Use Sequential.predict")
    scale, found, status = _Scale(model, options), [], 0
    for path in options.files:
        try:
            entries = _classified(path, model, scale)
        except FAILURES as error:
            said = _sentence(error)
            said, status = said if said.startswith(path) else f"{path}: {said}", 1
            entries = [{"file": path, "error": said}]
            _note(f"error: {said}")
        found += entries
        for entry in [] if options.json else [entry for entry in entries if "error" not in entry]:
            place = entry["file"] if entry["index"] is None else f"{entry['file']}[{entry['index']}]"
            _print(f"{place}\t{entry['class']}\t{entry['probability']:.4f}")
    if options.json:
        _print(json.dumps({"model": options.model, "predictions": found}))
    return status


def _classified(path, model, scale):
    """The entries of one file."""
    images, single = _npy(path, model, scale) if path.lower().endswith(".npy") else (_picture(path, model, scale), True)
    try:
        probabilities = model.predict_proba(images)
    except (ValueError, TypeError) as error:
        raise datasets.DataError(path, error) from error
    if not np.isfinite(probabilities).all():
        raise datasets.DataError(path, "leads to outputs that are not finite; does it contain NaN or infinity?")
    found = []
    for index, row in enumerate(probabilities):
        best = int(row.argmax()) if len(row) > 1 else int(row[0] > 0.5)
        likely = float(row[best]) if len(row) > 1 else float(max(row[0], 1 - row[0]))
        found.append({"file": path, "index": None if single else index, "class": best, "probability": likely})
    return found


class _Scale:
    """How the bytes of pictures become numbers like those that the model was trained on (inputs.py)."""

    def __init__(self, model, options):
        self.seen, self.invert, self.noted = model.input_range, options.invert, False
        self.mean = model.input_mean
        self.ends = None if self.seen is None else inputs.picture_range(*self.seen)
        if self.ends is None:
            self.guess = (0, 255) if isinstance(model.layers[0], layers.Rescaling) else (0, 1)

    def of_picture(self, path, image):
        """The uint8 picture as the model wants it."""
        values = inputs.from_bytes(255 - image if self.invert else image, self.ends or self.guess)
        if self.ends is None and not self.noted:
            self.noted = True
            ends = f"0 to {self.guess[1]}"
            _note(f"note: the range of the model's training inputs is not known: pictures are scaled to {ends}")
        return self._looked_at(path, values)

    def _looked_at(self, path, values):
        """The numbers of a picture, with a warning where dark and bright seem to be exchanged."""
        if self.ends and self.mean is not None and values.size:
            mean = float(values.mean(dtype=np.float64))
            if inputs.looks_inverted(mean, self.mean, self.ends):
                fix = "leave out --invert" if self.invert else "try --invert"
                low, high = self.ends
                shares = [f"{100 * (value - low) / (high - low):.0f} %" for value in (mean, self.mean)]
                what = f"its mean brightness is {shares[0]}, that of the training data was {shares[1]}"
                _note(f"warning: {path}: dark and bright look exchanged: {what}; {fix}")
        return values

    def of_array(self, path, array):
        """The array as it is, but bytes as in pictures where the model was trained on something else."""
        if (
            array.dtype.kind not in "biuf"
            or not array.ndim
            or (found := inputs.look(array, np.dtype("float64"), False)) is None
        ):
            return array
        bytes_ = array.dtype == np.uint8
        low, high = self.seen or (0, 0)
        slack = inputs.TOLERANCE * (high - low)
        inside = low - slack <= found.low and found.high <= high + slack
        if bytes_ and (self.ends == (0, 255) or (self.ends and not inside)):
            if self.ends != (0, 255):
                ends = "{:g} to {:g}".format(*self.ends)
                _note(f"note: {path}: uint8, scaled like a picture: 0 to 255 become {ends}, as the model was trained")
            return self._looked_at(path, inputs.from_bytes(255 - array if self.invert else array, self.ends))
        if self.invert:
            _note(f"warning: {path}: taken as it is: --invert is for pictures and their bytes")
        if self.ends is None:
            return array
        wide, narrow = high - low, found.high - found.low
        outside = found.high > high + wide or found.low < low - wide
        if outside or 0 < narrow < inputs.TOLERANCE * wide:
            got, trained = f"{found.low:g} to {found.high:g}", f"{low:g} to {high:g}"
            _note(f"warning: {path}: holds {got}, taken as it is; the model was trained on {trained}")
        return array


def _picture(path, model, scale):
    """A PNG or JPEG as a batch of one for the model."""
    return scale.of_picture(path, datasets.images.read_image(path, model.input_shape))[None]


def _npy(path, model, scale):
    """(the array in a .npy file as a batch for the model, whether it is just one image)."""
    array = _mapped(path)
    single = model.input_shape in (array.shape, (*array.shape, 1))
    return scale.of_array(path, array[None] if single else array), single


def _mapped(path):
    """The array in a .npy file as a memory map, which takes no memory, however large the file says it is."""
    file, size = _files.open_regular(path, lambda what: datasets.DataError(path, what))
    with file:
        try:
            with warnings.catch_warnings(action="ignore"):  # files of Python 2
                version = np.lib.format.read_magic(file)
                if version not in NPY_HEADERS:
                    raise ValueError("its version is not 1.0 or 2.0")
                shape, fortran, dtype = NPY_HEADERS[version](file)
            if dtype.hasobject:
                raise ValueError("it holds Python objects")
            if not all(type(axis) is int and axis >= 0 for axis in shape):
                raise ValueError("its shape is not valid")
            begin, order = file.tell(), "F" if fortran else "C"
            wanted = math.prod(shape) * dtype.itemsize
            if begin + wanted > size:
                raise ValueError(f"it declares {wanted} bytes as {shape} {dtype}, more than it holds")
            if not wanted:
                return np.empty(shape, dtype, order)
            return np.memmap(file, dtype, "r", begin, shape, order)
        except Exception as error:  # a damaged header leads NumPy to errors of many kinds
            raise datasets.DataError(path, f"is not a readable .npy file ({error})") from error


NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def summary(options):
    """Prints the layers of a saved model."""
    model = saving.load_model(options.model)
    rows = [described(layer) for layer in model.layers]
    report = {"model": options.model, "params": model.count_params(), "layers": rows}
    _print(json.dumps(report) if options.json else model.summary_text())


def info(options):
    """Prints versions, instruction set and threads."""
    facts = minicnn.versions()
    if options.json:
        _print(json.dumps(facts))
    else:
        minicnn.show_versions()


def _test(model, test):
    """{"loss", "accuracy"} on (x, y), in eval mode."""
    model.compile(optimizer="sgd", loss=model.loss_function or tasks.LOSS, metrics=["accuracy"])
    return model.evaluate(*test, batch_size=256, return_dict=True)


# ---- the door ----


def _number(kind, low, high, below=False):
    """A type for argparse: an int or a float from ``low`` to ``high`` (excluded with ``below``)."""

    def parse(text):
        value = kind(text)
        if not (low <= value < high if below else low <= value <= high):
            highest = f"below {high}" if below else f"at most {high}"
            raise argparse.ArgumentTypeError(f"must be at least {low} and {highest}; got {text}")
        return value

    parse.__name__ = "whole number" if kind is int else "number"  # argparse says "invalid whole number value"
    return parse


def _rates(text):
    """A type for argparse: "0,0.1,0.3" as a list of different numbers in [0, 1]."""
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError:
        rates = []
    if not rates or len(set(rates)) < len(rates) or not all(0 <= rate <= 1 for rate in rates):
        required = "must be different numbers from 0 to 1 with commas between them, such as 0,0.1,0.3"
        raise argparse.ArgumentTypeError(f"{required}; got {text!r}")
    return rates


class _Parser(argparse.ArgumentParser):
    """Its errors suggest the nearest word; without arguments it shows its help.  ``verbs``: {name: its parser}."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.verbs = {}

    def parse_args(self, args=None, namespace=None):
        self.given = [*(sys.argv[1:] if args is None else args)]
        return super().parse_args(args, namespace)

    def words(self, given):
        """The verbs, or where a verb is given its options."""
        verb = next((self.verbs[word] for word in given if word in self.verbs), None)
        return [*self.verbs] if verb is None else re.findall(r"(?<![\w-])--?[a-z][\w-]*", verb.format_usage())

    def error(self, message):
        given = getattr(self, "given", [])
        if not given and "VERB" in message:
            self.print_help(sys.stderr)
        if message.startswith("unrecognized arguments: -") or ("VERB" in message and "invalid" in message):
            wrong = message.split()[2] if message.startswith("unrec") else next(iter(given), "")
            near = _check.nearest(wrong.split("=")[0], self.words(given))
            message += f". Did you mean {near}?" if near else ""
        super().error(message)


def _parser():
    parser = _Parser("minicnn", description="Train small convolutional networks with dropout on a CPU.")
    parser.add_argument("--version", action="version", version=f"minicnn {minicnn.__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(function, text, *, model=True, data=False):
        sub = parser.verbs[function.__name__] = verbs.add_parser(
            function.__name__, help=text, description=function.__doc__, allow_abbrev=False
        )
        sub.set_defaults(function=function)
        if model:
            sub.add_argument("model", metavar="MODEL.npz", help="a file that train or Sequential.save wrote")
        if data:
            sub.add_argument("--data", choices=TASKS, help="default: digits; for evaluate: what fits the model")
            sub.add_argument("--data-dir", metavar="DIR", help="folder of MNIST's files (default: $MINICNN_DATA/mnist)")
        sub.add_argument("--json", action="store_true", help="print one JSON object")
        sub.add_argument("--threads", type=_number(int, 1, 256), help="threads to use at most; no result depends on it")
        return sub

    def trains(sub):
        sub.add_argument("--epochs", type=_number(int, 1, 10**6), help="passes over the training part")
        sub.add_argument("--batch-size", type=_number(int, 1, 10**6), help="samples of a step")
        sub.add_argument("--lr", type=_number(float, 0, math.inf, below=True), help="learning rate of SGD")
        sub.add_argument("--momentum", type=_number(float, 0, 1, below=True), help="momentum of SGD")
        sub.add_argument("--seed", type=_number(int, 0, 2**64 - 1), help="of initial values, masks and order")

    sub = verb(train, "train a CNN with dropout, and the same at rate 0 beside it", model=False, data=True)
    trains(sub)
    sub.add_argument("--dropout", type=_number(float, 0, 1), help="fraction dropped before the last layer, half of it "
                     "after pooling")  # fmt: skip
    sub.add_argument("--out", metavar="DIR", help="folder for model and history (default: minicnn-run)")
    sub.add_argument("--resume", metavar="DIR", help="continue the run in DIR with its settings, or begin one there")
    sub.epilog = "Defaults: " + "; ".join(
        f"{name}: {', '.join(f'{key} {value}' for key, value in task.settings.items())}" for name, task in TASKS.items()
    )
    sub = verb(tune, "choose the dropout rate by cross-validation", model=False, data=True)
    trains(sub)
    default = ",".join(map(str, minicnn.tune.RATES))
    sub.add_argument("--rates", type=_rates, default=minicnn.tune.RATES, help="with commas between them, each as "
                     f"--dropout of train (default: {default})")  # fmt: skip
    sub.add_argument("--cv", type=_number(int, 2, 1000), default=3, metavar="K", help="folds (default: 3)")
    sub.add_argument("--repeats", type=_number(int, 1, 1000), default=1, help="with other folds and seeds (default: 1)")
    sub.add_argument("--jobs", type=_number(int, 1, 256), default=1, help="processes, with joblib; no result depends "
                     "on it (default: 1)")  # fmt: skip
    sub.add_argument("--out", metavar="DIR", help="folder for tune.json and tune.png (default: minicnn-tune)")
    sub.epilog = "Options left out default as for train."
    verb(evaluate, "test a saved model", data=True)
    sub = verb(predict, "classify images")
    sub.add_argument("files", nargs="+", metavar="FILE", help="PNG or JPEG: resized to the model's size, transparent "
                     "places white, and scaled to the range of the model's training inputs; .npy: one image or a "
                     "batch, as it is, but uint8 scaled in the same way")  # fmt: skip
    sub.add_argument("--invert", action="store_true", help="exchange dark and bright, 255 - v: for dark ink on bright "
                     "paper where the model was trained on bright ink on a dark ground, as the digits are")  # fmt: skip
    verb(summary, "show the layers of a saved model")
    verb(info, "show versions, instruction set and threads", model=False)
    return parser


def main(argv=None):
    """Runs the command line ``argv`` (default: the program's own) and returns the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    if getattr(options, "resume", None) and options.out not in (None, options.resume):
        parser.error("--resume continues in its own folder: leave out --out, or give the same folder")
    try:
        if options.threads is not None:
            minicnn.set_num_threads(options.threads)
        status = options.function(options)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status or 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader went away, as `| head` does
        _silence_stdout()
        return 1
    except FAILURES as error:
        _silence_stdout()
        _note(f"error: {_sentence(error)}")
        return 1


def _sentence(error):
    """What went wrong, in one line."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _note(text):
    with contextlib.suppress(OSError, ValueError):  # a closed stderr must not change what happens
        print(f"minicnn: {text}", file=sys.stderr, flush=True)


def _print(text):
    try:
        print(text)
    except UnicodeEncodeError:  # a file name that the terminal cannot show
        print(text.encode("ascii", "backslashreplace").decode())


def _silence_stdout():
    """Nothing more can be written: what is still in the buffer must not raise again when Python ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
