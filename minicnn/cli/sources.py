"""The data that a verb works on: pictures of one's own, or a known data set."""

import decimal
import os
import warnings

import numpy as np

from minicnn import datasets
from minicnn.cli import defaults, words
from minicnn.datasets import catalogue, folder, images, table

_LOOKED_AT = 200  # pictures whose size is asked for the sake of a note


class Data:
    """``parts``: {"training", "validation", "test": (x, y)}, those that there are; ``class_names``; ``skipped``: a list
    of (path, reason)."""

    def __init__(self, name, parts, class_names, skipped=()):
        self.name, self.class_names, self.skipped = name, class_names, list(skipped)
        self.parts = {part: xy for part, xy in parts.items() if xy is not None}
        x, _ = next(iter(self.parts.values()))
        self.shape, self.bytes = x.shape[1:], x.dtype == np.uint8

    @property
    def measured(self):
        """The part by which a model is judged: test, else validation, else None."""
        return next((part for part in ("test", "validation") if part in self.parts), None)

    def counts(self):
        """{part: number of samples}."""
        return {part: len(y) for part, (_, y) in self.parts.items()}

    def counts_of_classes(self):
        """{class: {part: number of samples}}."""
        k = len(self.class_names)
        by_part = {part: np.bincount(y, minlength=k).tolist() for part, (_, y) in self.parts.items()}
        return {name: {part: counts[i] for part, counts in by_part.items()} for i, name in enumerate(self.class_names)}

    def described(self):
        """ "1,297 training and 500 test images"."""
        *first, last = [f"{number:,} {part}" for part, number in self.counts().items()]
        return f"{', '.join(first)}{' and ' if first else ''}{last} images"


def is_known(data):
    """Whether it is the name of a known data set."""
    return data in defaults.DATA


def load(settings, data_dir):
    """``Data`` to train on, as the settings say: data, image_size, color, fit, validation, seed."""
    data, share, seed = settings["data"], settings["validation"], settings["seed"]
    if is_known(data):
        training, test = known(data, data_dir)
        validation = None
        if share:
            x, x_validation, y, y_validation = datasets.train_test_split(*training, share, seed=seed)
            training, validation = (x, y), (x_validation, y_validation)
        return Data(data, {"training": training, "validation": validation, "test": test}, names_of(data))
    if data_dir is not None:
        raise words.Usage("--data-dir is for the files of known data sets, such as --data mnist")
    try:
        found = pictures(data, settings, validation_split=share, seed=seed)
    except ValueError as error:
        if "validation_split" not in str(error):
            raise
        if not os.path.isdir(data):
            pictures(
                data, settings, seed=seed
            )  # labels that are no classes cannot be divided either, and are the reason
        raise ValueError(str(error).replace("validation_split", "--validation")) from error
    parts = {"training": (found.x, found.y)}
    if found.validation is not None:
        parts["validation"] = found.validation.x, found.validation.y
    note_sizes(found.files, settings["image_size"], settings["fit"])
    return Data(data, parts, found.class_names, found.skipped)


def known(name, data_dir):
    """((x, y), (x_test, y_test)) of a known data set."""
    if name != "digits":
        return getattr(datasets, name).load_data(path=data_dir)
    if data_dir is not None:
        raise ValueError("--data-dir is for --data mnist and its like; the digits are part of minicnn")
    return datasets.digits.load_data()


def names_of(name):
    """The names of the classes of a known data set."""
    return list(catalogue.info(name).class_names)


def pictures(data, settings, **arguments):
    """``datasets.Pictures`` of a folder or a table, with names of classes; what is warned of is said as notes.

    The labels of a table are names as they stand there, also where all are whole numbers; these are in the order of
    their values.
    """
    arguments |= {"image_size": settings["image_size"], "color_mode": settings["color"]}
    arguments |= {f"{fit}_to_aspect_ratio": settings["fit"] == fit for fit in ("crop", "pad")}
    if not os.path.lexists(data):
        raise FileNotFoundError(2, "No such file or folder", data)
    with words.warnings_as_notes():
        if os.path.isdir(data):
            return datasets.image_folder(data, **arguments)
        found = datasets.image_csv(data, label_mode="class", **arguments)
    if arguments.get("class_names") is None:
        _order_by_value(data, found)
    return found


def _order_by_value(data, found):
    """Puts names that are numbers into the order of these; ValueError where they are no classes."""
    names = found.class_names
    others = [name for name in names if not table.is_number(name)]
    if others:
        if len(others) < len(names):
            number = next(name for name in names if name not in others)
            some = f"some labels are numbers, as {number!r}, and others are not, as {others[0]!r}"
            words.note(f"note: {data}: {some}: all are taken for names of classes")
        return
    values = [decimal.Decimal(name) for name in names]
    if fractions := [name for name, value in zip(names, values, strict=True) if value != value.to_integral_value()]:
        required = f"{data}: the labels must be names or whole numbers, which are classes; got {fractions[0]}"
        raise ValueError(f"{required}; train a regression in Python: docs/data.md")
    known = {}
    for name, value in zip(names, values, strict=True):
        if known.setdefault(value, name) != name:
            raise ValueError(f"{data}: a class must have one name; got {known[value]!r} and {name!r}, the same number")
    order = sorted(range(len(names)), key=values.__getitem__)
    places = np.argsort(order)
    for part in filter(None, (found, found.validation)):
        part.class_names, part.y = [names[number] for number in order], places[part.y]


def failed(data, skipped):
    """Whether a picture could not be read, or a line of a table could not be used, as (path, reason) of ``skipped``
    say: the exit status is 1 then.  Files in a folder that are not called like pictures may lie there."""
    return any(not (os.path.isdir(data) and folder.is_other(path)) for path, _ in skipped)


def fit_for(model, chosen):
    """How pictures of other proportions are brought to size: as it was ``chosen``, or as in training, or stretched."""
    if chosen is None and model.image_fit not in (None, "stretch"):
        words.note(f"note: --fit {model.image_fit}, as the model was trained")
    return chosen or model.image_fit or "stretch"


def note_sizes(files, size, fit):
    """Says once where pictures are resized, and how."""
    size = tuple(size)
    for file in files[:_LOOKED_AT]:
        try:
            with warnings.catch_warnings(action="ignore"):  # Pillow's, of what is odd about a file
                found = images.look(file)
        except (OSError, ValueError):
            continue
        if found != size:
            words.note(f"note: {resized(file, found, size, fit)}")
            return


def resized(file, found, size, fit):
    """A sentence on a picture that gets another size."""
    sizes = [" x ".join(map(str, sides)) for sides in (size, found)]
    what = f"pictures are resized to {sizes[0]} (height x width); {file} has {sizes[1]}"
    ways = {
        "stretch": "proportions may change: --fit crop or --fit pad keeps them",
        "crop": "proportions are kept, margins are cut off",
        "pad": "proportions are kept, black margins are added",
    }
    return f"{what}; {ways[fit]}"
