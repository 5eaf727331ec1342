"""A folder of pictures, one folder in it for each class."""

import os

from minicnn import _check
from minicnn.datasets.errors import DataError
from minicnn.datasets.pictures import Choice, class_name, collected, numbering

ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".jp2")
PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}  # of a data set, by their names
OF_SYSTEMS = ("__MACOSX", "__pycache__")  # folders that programs leave behind


def image_folder(
    path,
    image_size=(32, 32),
    color_mode="rgb",
    validation_split=0.0,
    seed=0,
    *,
    class_names=None,
    crop_to_aspect_ratio=False,
    pad_to_aspect_ratio=False,
    lazy=False,
    batch_size=32,
):
    """The pictures in the folder ``path``, labelled by the folders in which they lie: ``Pictures``.

        pics/cat/1.jpg   pics/cat/indoors/2.png   pics/dog/3.webp   ...

    Every folder in ``path`` is a class, in alphabetical order (of code points, as Keras and PyTorch have it); whatever
    lies in it, at any depth, belongs to it.  Links to files and folders are followed.  Hidden files and folders, whose
    names begin with a dot, are not looked at.  Each file is read as ``images.read_image`` says.

    - ``image_size``: (height, width) that all become, or one number for both.
    - ``color_mode``: "rgb", "grayscale" or "rgba"; 3, 1 or 4 channels.
    - ``validation_split``: the fraction in [0, 1) of the pictures that become ``validation``: of each class its share,
      and at least one picture in either part where it has two (``train_test_split``).
    - ``seed``: of the order, and of what is in which part; 0 <= seed < 2^64.  The same files and seed give the same
      arrays everywhere.
    - ``class_names``: the classes in the order of their numbers, such as ``model.class_names``, where it is not to be
      the alphabet's.  All folders must be among them; one without a folder has no pictures.
    - ``crop_to_aspect_ratio``, ``pad_to_aspect_ratio``: keep proportions: margins are left out, or black ones added.
    - ``lazy``: ``LazyPictures``, which are read batch by batch, for what does not fit into memory; ``batch_size`` is
      for them.  Otherwise all pictures are in memory, twice of it while they are shuffled.

    First the files that cannot be read are left out, then the rest is shuffled and divided.  What was left out is
    named in ``skipped`` and in one warning, which also says what else looks wrong: classes without pictures, pictures
    beside the folders of the classes, a single class, classes called "train" and "test".

    FileNotFoundError, NotADirectoryError or PermissionError for the folder itself; ImportError without Pillow;
    DataError if there are no folders in it or no picture can be read; ValueError and TypeError for wrong arguments.
    """
    where = "datasets.image_folder"
    keeping = crop_to_aspect_ratio, pad_to_aspect_ratio
    choice = Choice.checked(where, image_size, color_mode, validation_split, seed, *keeping, lazy, batch_size)
    if class_names is not None:
        class_names = _check.class_names(where, "class_names", class_names)
    path = os.fsdecode(path)
    folders, beside = _classes(path)
    names, numbers = numbering(where, set(folders), class_names)
    files, y, skipped = [], [], [(file, "lies beside the folders of the classes, in none of them") for file in beside]
    for name, folder in folders.items():
        for file in files_in(folder, skipped):
            files.append(file)
            y.append(numbers[name])
    return collected(choice, path, files, y, names, skipped, _doubts(path, folders, class_names))


def _classes(path):
    """({name of a class: its folder} in the order of the alphabet, the pictures beside them)."""
    with os.scandir(path) as entries:
        found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    beside = [entry.path for entry in found if entry.name.lower().endswith(ENDINGS) and not entry.is_dir()]
    folders = {}
    for entry in found:
        if entry.is_dir() and entry.name not in OF_SYSTEMS:
            name = class_name(entry.name)
            if name in folders:
                raise DataError(entry.path, f"is of the class {name!r}, and so is {folders[name]}. Rename one of them")
            folders[name] = entry.path
    if not folders:
        got = f"{len(beside):,} pictures" if beside else f"{len(found):,} files" if found else "nothing in it"
        example = os.path.join(path, "cat", "1.jpg")
        fix = "" if not beside else ". Make a folder for each class, or name the classes in a table: image_csv"
        what = f"must hold a folder for each class, with its pictures in it, such as {example}; got {got} and no folder"
        raise DataError(path, what + fix)
    return dict(sorted(folders.items())), beside


def files_in(folder, skipped, above=()):
    """The files in a folder, at any depth, in the order of their names; what cannot be entered goes to ``skipped``."""
    try:
        about = os.stat(folder)
        if (about.st_dev, about.st_ino) in above:
            skipped.append((folder, "is a link to a folder in which it lies"))
            return
        with os.scandir(folder) as entries:
            found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        skipped.append((folder, error.strerror or str(error)))
        return
    for entry in found:
        if not entry.is_dir():
            yield entry.path
        elif entry.name not in OF_SYSTEMS:
            yield from files_in(entry.path, skipped, (*above, (about.st_dev, about.st_ino)))


def _doubts(path, folders, class_names):
    """Sentences about a folder that is perhaps not the one that was meant."""
    names = {name.lower() for name in folders}
    if names <= PARTS:
        meant = os.path.join(path, os.path.basename(next(iter(folders.values()))))
        yield f"the classes are called {', '.join(map(repr, folders))}: is {meant} the folder that is meant?"
    elif len(folders) == 1 and class_names is None:
        yield f"there is one class only, {next(iter(folders))!r}: do the folders of the classes lie in it?"
