"""The verbs and options, and what is said of wrong ones.  Imports the standard library alone: it must be quick."""

import argparse
import itertools
import math
import os
import re
import sys

from minicnn.cli import defaults

VERBS = {  # in the order of the help, with the modules that do them
    "train": "minicnn.cli.train",
    "tune": "minicnn.cli.tune",
    "evaluate": "minicnn.cli.evaluate",
    "predict": "minicnn.cli.predict",
    "plot": "minicnn.cli.plot",
    "report": "minicnn.cli.report",
    "export": "minicnn.cli.export",
    "import": "minicnn.cli.models",
    "data": "minicnn.cli.data",
    "summary": "minicnn.cli.about",
    "info": "minicnn.cli.about",
}
ABOUT = {
    "train": (
        "train a CNN on pictures of your own, or on a known data set",
        "Trains a network with a folder of pictures, a table of them, or a known data set, and saves it with the names "
        "of the classes.  On digits and mnist the same network is trained at dropout rate 0 beside it.",
    ),
    "tune": (
        "choose the dropout rate by cross-validation",
        "Trains a network at several dropout rates, by cross-validation on the training part, and prints a table of "
        "the results; a test part is not used.",
    ),
    "evaluate": (
        "test a saved model",
        "Prints loss, accuracy, the measures of every class and the confusion matrix of a saved model: on pictures of "
        "your own, whose classes are compared by their names, or on the test part of a known data set.",
    ),
    "predict": (
        "name what is in pictures",
        "Prints the most probable class of every picture in the files and folders, and its probability.  A file that "
        "cannot be classified is left out, with a line on stderr; the exit status is then 1.",
    ),
    "plot": (
        "draw the pictures of a run",
        "Draws the history, the layers and the filters of a run of train into its folder; and, where its data can be "
        "read, the confusion matrix and the worst mistakes.  Needs matplotlib.",
    ),
    "report": (
        "write a page on a run",
        "Writes one HTML file on a run of train, which needs nothing else to be read: curves, what the gap between "
        "training and validation says, mistakes, calibration, filters, norms, environment.  What needs the data is "
        "left out where they cannot be read.  Needs matplotlib and Jinja2.",
    ),
    "export": (
        "write a saved model as a file of ONNX",
        "Writes a saved model as a file that onnxruntime and others run, with the outputs that predict has here.  "
        "Needs onnx.",
    ),
    "import": (
        "make a model of a file of ONNX",
        "Writes the model in a file of ONNX, such as PyTorch and Keras export, as a file like those of train.  Says "
        "which node no layer can do where there is one.  Needs onnx.",
    ),
    "data": (
        "show and download known data sets",
        "info: which data sets there are, and whether they are here.  fetch: downloads one, unless it is here.",
    ),
    "summary": ("show the layers of a saved model", "Prints the layers of a saved model."),
    "info": ("show versions, instruction set and threads", "Prints versions, instruction set and threads."),
}
DATA_HELP = "a folder with a folder of pictures for each class, a table in CSV (file, label), or a name"


class Parser(argparse.ArgumentParser):
    """Its errors suggest the nearest word; without arguments it shows its help.  ``verbs``: {name: its parser}.

    What it finds has the words themselves, too, as ``given``.
    """

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.verbs = {}

    def parse_args(self, args=None, namespace=None):
        self.given = [*(sys.argv[1:] if args is None else args)]
        found = super().parse_args(args, namespace)
        found.given = self.given
        return found

    @property
    def options(self):
        return [option for action in self._actions for option in action.option_strings]

    def refuse(self, verb, message):
        """Ends the program as for wrong usage of a verb."""
        self.verbs[verb].error(message)

    def error(self, message):
        given = getattr(self, "given", [])
        if not given and "VERB" in message:
            self.print_help(sys.stderr)
        place = next((place for place, word in enumerate(given) if word in self.verbs), len(given))
        words = [word.split("=")[0] for word in itertools.takewhile(lambda word: word[:1] == "-", given[:place])]
        early = next((word for word in words if word not in self.options), None)  # what follows a misspelt verb is its
        if self.verbs and early is not None:
            late = any(early in verb.options for verb in self.verbs.values())
            hint = ". The options of a verb come after it" if late else _did_you_mean(early, self.options)
            message = f"unrecognized arguments: {early}{hint}"
        elif match := re.match(r"unrecognized arguments: (-[^\s=]*)", message):
            message += _did_you_mean(match[1], (self.verbs[given[place]] if place < len(given) else self).options)
        elif message.endswith("required: info|fetch"):
            message += ". Say minicnn data info, or minicnn data fetch NAME"
        elif match := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)$", message):
            known = [*self.verbs] if "VERB" in message else re.findall(r"[\w-]+", match[2])
            message += _did_you_mean(match[1], known)
        super().error(message)


def _did_you_mean(word, known):
    import difflib  # here: only errors need it

    near = difflib.get_close_matches(word, known, 1, 0.6)
    return f". Did you mean {near[0]}?" if near else ""


class _Version(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        import minicnn  # here: it is this package, of which nothing else is asked

        print(f"minicnn {minicnn.__version__}")
        parser.exit()


# ---- types of arguments ----


def _number(kind, low, high, below=False, above=False):
    """A type for argparse: an int or a float from ``low`` to ``high`` (excluded with ``above`` and ``below``)."""

    def parse(text):
        value = kind(text)
        if not ((low < value if above else low <= value) and (value < high if below else value <= high)):
            lowest = f"above {low}" if above else f"at least {low}"
            highest = f"below {high}" if below else f"at most {high}"
            raise argparse.ArgumentTypeError(f"must be {lowest} and {highest}; got {text}")
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


def _augment(text):
    """A type for argparse: "flip,rotation=0.1" without spaces, its words and the form of their values looked at."""
    known, seen = (*defaults.AUGMENT, defaults.STANDARD), []
    for part in text.replace(" ", "").split(","):
        word, equals, value = part.partition("=")
        if word not in known:
            said = f"invalid choice: {word!r} (must be some of {', '.join(known)})"
            raise argparse.ArgumentTypeError(said + _did_you_mean(word, known))
        if word in seen:
            raise argparse.ArgumentTypeError(f"must have {word} once; got {text!r}")
        if equals and not _is_value(word, value):
            forms = {"flip": f"one of {', '.join(defaults.FLIPS)}", "crop": "a number of pixels", defaults.STANDARD: ""}
            form = forms.get(word, "a number, or two with a colon between them, such as -0.1:0.2")
            required = f"{word} takes {form}" if form else f"{word} takes no value"
            near = _did_you_mean(value, defaults.FLIPS) if word == "flip" else ""
            raise argparse.ArgumentTypeError(f"{required}; got {value!r}{near}")
        seen.append(word)
    return text.replace(" ", "")


def _is_value(word, text):
    if word == "flip":
        return text in defaults.FLIPS
    if word in ("crop", defaults.STANDARD):
        return word == "crop" and bool(re.fullmatch(r"[1-9]\d{0,4}", text))
    try:
        return 1 <= len([float(part) for part in text.split(":")]) <= 2
    except ValueError:
        return False


def _size(text):
    """A type for argparse: "32" or "32x48" as (height, width)."""
    match = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", text)
    sides = [int(side) for side in match.groups() if side is not None] if match else [0]
    if not all(1 <= side <= 2**15 for side in sides):
        raise argparse.ArgumentTypeError(f"must be a number of pixels such as 32, or HEIGHTxWIDTH; got {text!r}")
    return sides[0], sides[-1]


def _word(words, files="", is_file=lambda text: False):
    """A type for argparse: one of ``words``, or a path of the ``files``, if there are any."""

    def parse(text):
        if text in words or is_file(text):
            return text
        either = f"{files}, or one of {', '.join(words)}" if files else f"one of {', '.join(words)}"
        said = f"invalid choice: {text!r} (must be {either})"
        raise argparse.ArgumentTypeError(said + _did_you_mean(text, words))

    return parse


def _path(text):
    """Whether it is there, or looks so much like a path that it is no misspelt word."""
    return os.path.lexists(text) or bool(re.search(r"[./\\]", text))


def _place(text):
    """A type for argparse: the path of a folder."""
    if not text:
        raise argparse.ArgumentTypeError("must be the path of a folder; got ''")
    return text


def _file(text):
    """A type for argparse: the path of a file."""
    if not text:
        raise argparse.ArgumentTypeError("must be the path of a file; got ''")
    return text


_known = _word(defaults.DATA)
_data = _word(defaults.DATA, "a folder, a table in CSV", _path)
_model = _word(defaults.MODELS, "a file of Sequential.to_json", _path)


# ---- the verbs ----


def parser_of():
    """The parser of the command line."""
    parser = Parser("minicnn", description="Train small convolutional networks on a CPU: on your own pictures, too.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (short, long) in ABOUT.items():
        sub = verbs.add_parser(name, help=short, description=long, allow_abbrev=False)
        parser.verbs[name] = sub
        OPTIONS[name](sub)
        sub.add_argument("--json", action="store_true", help="print JSON")
        sub.add_argument("--threads", type=_number(int, 1, 256), help="threads to use at most; no result depends on it")
    return parser


def _train(sub):
    sub.add_argument("--data", type=_data, metavar="DATA", help=f"{DATA_HELP}: {', '.join(defaults.DATA)} (default: "
                     "digits)")  # fmt: skip
    _pictures(sub)
    sub.add_argument("--model", type=_model, metavar="MODEL", help=f"{', '.join(defaults.MODELS)} (default: small, "
                     "with dropout), or a file with the text of Sequential.to_json")  # fmt: skip
    sub.add_argument("--validation", type=_number(float, 0, 1, below=True), metavar="SHARE", help="of the training "
                     "part, which is not trained on, of each class its share (default: 0.2 of your own pictures, else "
                     "none)")  # fmt: skip
    _training(sub)
    sub.add_argument("--optimizer", choices=defaults.OPTIMIZERS, metavar="NAME", help=", ".join(defaults.OPTIMIZERS) +
                     " (default: adam; of digits and mnist sgd)")  # fmt: skip
    sub.add_argument("--schedule", choices=defaults.SCHEDULES, metavar="NAME", help="of the learning rate: "
                     "constant; exponential, a little less from epoch to epoch; cosine, down to 0; step, a tenth after "
                     "half of the epochs and again after three quarters; one-cycle, up and down; plateau, half where "
                     "the loss has not improved for 5 epochs (default: constant; of digits and mnist exponential)"
                     )  # fmt: skip
    sub.add_argument("--early-stopping", type=_number(int, 1, 10**6), metavar="N", help="end when the validation loss "
                     "has not improved for N epochs, with the weights of the best")  # fmt: skip
    sub.add_argument("--class-weight", choices=("balanced",), help="balanced: samples of rare classes count for more")
    sub.add_argument("--dropout", type=_number(float, 0, 1), help="rate of the last dropout layer, the others have "
                     f"half of it (default: {defaults.DROPOUT})")  # fmt: skip
    sub.add_argument("--augment", type=_augment, metavar="WORDS", help="layers that change the training images in "
                     f"every step, with commas between them: {', '.join(defaults.AUGMENT)}, each with a value if it is "
                     "not to be the usual one, such as flip,rotation=0.1,zoom=-0.1:0.2; or standard: translation and "
                     "rotation for writing, crop and flip for pictures (docs/augmentation.md)")  # fmt: skip
    sub.add_argument("--compare", action=argparse.BooleanOptionalAction, help="train the same network at rate 0 as well"
                     " (default: of digits and mnist)")  # fmt: skip
    sub.add_argument("--out", type=_place, metavar="RUN", help="folder for the model and its history "
                     "(default: the next free minicnn-run-N)")  # fmt: skip
    sub.add_argument("--overwrite", action="store_true", help="replace the run that is in --out")
    sub.add_argument("--resume", type=_place, nargs="?", const=True, metavar="RUN", help="go on with the run in RUN, "
                     "or in --out, with its settings; begin it where there is none")  # fmt: skip
    sub.add_argument("--dry-run", action="store_true", help="read data and model, say what would be done, do nothing")
    sub.epilog = "Defaults: " + "; ".join(
        f"{name}: epochs {settings['epochs']}, batch size {settings['batch_size']}"
        for name, settings in defaults.SETTINGS.items()
    )


def _tune(sub):
    sub.add_argument("--data", type=_data, metavar="DATA", help=f"{DATA_HELP}: {', '.join(defaults.DATA)} (default: "
                     "digits)")  # fmt: skip
    _pictures(sub)
    _training(sub)
    rates = ",".join(map(str, defaults.RATES))
    sub.add_argument("--rates", type=_rates, default=defaults.RATES, help="with commas between them, each as "
                     f"--dropout of train (default: {rates})")  # fmt: skip
    sub.add_argument("--cv", type=_number(int, 2, 1000), default=3, metavar="K", help="folds (default: 3)")
    sub.add_argument("--repeats", type=_number(int, 1, 1000), default=1, help="with other folds and seeds (default: 1)")
    sub.add_argument("--jobs", type=_number(int, 1, 256), help="processes, with joblib; no result depends "
                     "on it (default: 1)")  # fmt: skip
    sub.add_argument("--dask", metavar="ADDRESS", help="of a scheduler of dask, tcp://host:8786, whose workers train "
                     "instead of processes")  # fmt: skip
    sub.add_argument(
        "--out", type=_place, metavar="DIR", help="folder for tune.json and tune.png (default: minicnn-tune)"
    )
    sub.epilog = "Options left out default as for train."


def _evaluate(sub):
    _saved(sub)
    sub.add_argument("pictures", nargs="?", type=_data, metavar="DATA", help=f"{DATA_HELP} (default: the known data "
                     "set that fits the model)")  # fmt: skip
    sub.add_argument("--data", type=_data, metavar="DATA", help="the same")
    _fit(sub, "as the model was trained, else stretch")
    _data_dir(sub)
    _invert(sub)


def _predict(sub):
    _saved(sub)
    sub.add_argument("files", nargs="+", metavar="FILE", help="a picture, as Pillow reads it: resized to the model's "
                     "size, transparent places white, and scaled to the range of the model's training inputs; a "
                     "folder: the pictures in it, at any depth; .npy: one image or a batch, as it is, but uint8 "
                     "scaled in the same way")  # fmt: skip
    sub.add_argument("--top", type=_number(int, 1, 10**6), default=1, metavar="K", help="so many classes of each "
                     "picture (default: 1)")  # fmt: skip
    _fit(sub, "as the model was trained, else stretch")
    _invert(sub)


def _plot(sub):
    sub.add_argument("run", metavar="RUN", help="the folder of the run")
    sub.add_argument("--format", choices=("png", "svg"), default="png", help="(default: png)")
    sub.add_argument("--theme", choices=("light", "dark"), default="light", help="(default: light)")
    _data_dir(sub)


def _report(sub):
    sub.add_argument("run", metavar="RUN", help="the folder of the run")
    sub.add_argument("--out", metavar="FILE", help="(default: report.html in the folder)")
    _data_dir(sub)


def _export(sub):
    sub.add_argument("model", metavar="MODEL.npz", help="a file that train or Sequential.save wrote")
    sub.add_argument("out", type=_file, metavar="OUT", help="the file to write, such as model.onnx")
    sub.add_argument("--opset", type=_number(int, 13, 99), default=17, help="version of ONNX's operators, from 13 to "
                     "the newest that the installed onnx knows (default: 17)")  # fmt: skip
    sub.add_argument("--layout", choices=("NHWC", "NCHW"), default="NHWC", help="of the input: channels last or first "
                     "(default: NHWC)")  # fmt: skip
    sub.add_argument("--batch-size", type=_number(int, 1, 10**6), metavar="N", help="for just so many samples in a run "
                     "(default: any number)")  # fmt: skip
    sub.add_argument("--training", action="store_true", help="with dropout and noise in every run, for Monte-Carlo "
                     "prediction (default: without)")  # fmt: skip


def _import(sub):
    sub.add_argument("file", metavar="FILE", help="the file of ONNX")
    sub.add_argument("out", type=_file, metavar="OUT", help="the file to write, such as model.npz")
    sub.add_argument("--layout", choices=("NHWC", "NCHW"), help="of the input in FILE, where no node tells")
    sub.add_argument("--external-data", action="store_true", help="read weights in other files of the same folder")


def _data_sets(sub):
    sub.add_argument("action", choices=("info", "fetch"), metavar="info|fetch", help="what to do")
    sub.add_argument("names", nargs="*", default=[], type=_known, metavar="NAME", help=", ".join(defaults.DATA))


def _summary(sub):
    _saved(sub)


def _info(sub):
    pass


# ---- what several of them have ----


def _saved(sub):
    sub.add_argument(
        "model", metavar="MODEL", help="a file that train or Sequential.save wrote, or one of ONNX (.onnx)"
    )


def _pictures(sub):
    group = sub.add_argument_group("pictures of your own")
    group.add_argument("--image-size", type=_size, metavar="SIZE", help="that all pictures get: 32, or HEIGHTxWIDTH "
                       "(default: 32)")  # fmt: skip
    group.add_argument("--color", choices=defaults.COLORS, help="(default: rgb)")
    _fit(group, "stretch")
    _data_dir(sub)


def _data_dir(sub):
    sub.add_argument(
        "--data-dir", type=_place, metavar="DIR", help="folder of a known data set (default: docs/data.md)"
    )


def _fit(sub, default):
    sub.add_argument("--fit", choices=defaults.FITS, help="what becomes of pictures of other proportions: stretch; "
                     f"crop: margins are cut off; pad: black ones are added (default: {default})")  # fmt: skip


def _invert(sub):
    sub.add_argument("--invert", action="store_true", help="exchange dark and bright, 255 - v: for dark ink on bright "
                     "paper where the model was trained on bright ink on a dark ground, as the digits are")  # fmt: skip


def _training(sub):
    sub.add_argument("--epochs", type=_number(int, 1, 10**6), help="passes over the training part")
    sub.add_argument("--batch-size", type=_number(int, 1, 10**6), help="samples of a step")
    sub.add_argument("--lr", type=_number(float, 0, math.inf, below=True), help="learning rate of the optimiser")
    sub.add_argument("--momentum", type=_number(float, 0, 1, below=True), help="momentum of sgd")
    sub.add_argument("--seed", type=_number(int, 0, 2**64 - 1), help="of initial values, masks, order and parts")


OPTIONS = {
    "train": _train,
    "tune": _tune,
    "evaluate": _evaluate,
    "predict": _predict,
    "plot": _plot,
    "report": _report,
    "export": _export,
    "import": _import,
    "data": _data_sets,
    "summary": _summary,
    "info": _info,
}
