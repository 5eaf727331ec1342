"""A folder of pictures, one folder in it for each class."""

import os

from minicnn import _check
from minicnn.datasets import images
from minicnn.datasets.errors import DataError
from minicnn.datasets.pictures import Choice, class_name, collected, numbering

PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}  # of a data set, by their names
OF_SYSTEMS = {  # what programs leave behind, folders and files, in small letters
    *("__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
}
OTHERS = {  # endings of files that nobody takes for a damaged picture
    ".txt", ".md", ".rst", ".pdf", ".doc", ".docx", ".odt", ".rtf", ".log", ".csv", ".tsv", ".xls", ".xlsx", ".ods",
    ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".html", ".htm", ".css", ".js", ".py",
    ".ipynb", ".sh", ".bat", ".npy", ".npz", ".pkl", ".pt", ".pth", ".h5", ".hdf5", ".onnx", ".parquet", ".db",
    ".sqlite", ".zip", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".tar", ".tgz", ".md5", ".xmp", ".aae", ".lnk",
    ".url", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mp3", ".wav", ".m4a",
}  # fmt: skip


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
    lies in it, at any depth, belongs to it (``files_in`` says which links are followed and what is not looked at).
    Whether a file is a picture is seen from what is in it, not from its name.  Each is read as ``images.read_image``
    says.

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
        for file in files_in(folder, path, skipped):
            files.append(file)
            y.append(numbers[name])
    return collected(choice, path, files, y, names, skipped, _doubts(path, folders, class_names))


def _classes(path):
    """({name of a class: its folder} in the order of the alphabet, the pictures beside them)."""
    found, folders, beside = _entries(path), {}, []
    for entry in found:
        if not _is_folder(entry):
            beside += [entry.path] if images.is_picture(entry.path) else []
            continue
        name = class_name(entry.name)
        if name in folders:
            raise DataError(entry.path, f"is of the class {name!r}, and so is {folders[name]}. Rename one of them")
        folders[name] = entry.path
    if not folders:
        pictures = f"{len(beside):,} picture{'s' if len(beside) > 1 else ''}"
        got = pictures if beside else f"{len(found):,} files" if found else "nothing in it"
        example = os.path.join(path, "cat", "1.jpg")
        fix = "" if not beside else ". Make a folder for each class, or name the classes in a table: image_csv"
        what = f"must hold a folder for each class, with its pictures in it, such as {example}; got {got} and no folder"
        raise DataError(path, what + fix)
    return dict(sorted(folders.items())), beside


# ---- what is looked at ----


def files_in(folder, root, skipped):
    """The paths of the files in ``folder``, at any depth, in the order of their names.

    Names that begin with a dot, and what programs leave behind (``OF_SYSTEMS``), are not looked at.  Links to files and
    to folders are followed, but not to a folder that lies in ``root`` or holds it: its files have a place of their own
    there, or are those of somebody else; nor to one that has been read.  These, and folders that cannot be entered, go
    to ``skipped`` as (path, reason).
    """
    root, seen = os.path.realpath(root), set()
    above = [_entered(folder, root, seen, skipped)]  # no recursion: folders may be deeper than Python's stack
    while above:
        entry = next(above[-1], None)
        if entry is None:
            above.pop()
        elif _is_folder(entry):
            above.append(_entered(entry.path, root, seen, skipped))
        else:
            yield entry.path


def is_other(path):
    """Whether a file that is no picture is not called like one either: a text, a table, a film, an archive ...  Such a
    file may lie among pictures without anything being wrong."""
    return os.path.splitext(path)[1].lower() in OTHERS and not os.path.isdir(path)


def _entered(folder, root, seen, skipped):
    """An iterator of what is looked at in a folder; of nothing where it is not to be entered."""
    try:
        if os.path.islink(folder) or getattr(os.path, "isjunction", os.path.islink)(folder):
            target = os.path.realpath(folder)
            if _holds(target, root) or _holds(root, target):
                skipped.append((folder, f"is a link to {target}, which is not outside of {root}"))
                return iter(())
        about = os.stat(folder)
        if (about.st_dev, about.st_ino) in seen:
            skipped.append((folder, "is a link to a folder that has been read"))
            return iter(())
        seen.add((about.st_dev, about.st_ino))
        return iter(_entries(folder))
    except OSError as error:
        skipped.append((folder, error.strerror or str(error)))
        return iter(())


def _holds(folder, path):
    """Whether a real path is that of the folder, or of something in it."""
    folder, path = (os.path.join(os.path.normcase(one), "") for one in (folder, path))
    return path.startswith(folder)


def _entries(folder):
    with os.scandir(folder) as entries:
        looked_at = [one for one in entries if not (one.name.startswith(".") or one.name.lower() in OF_SYSTEMS)]
    return sorted(looked_at, key=lambda entry: entry.name)


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or to a place that is closed: reading it will say so
        return False


def _doubts(path, folders, class_names):
    """Sentences about a folder that is perhaps not the one that was meant."""
    names = {name.lower() for name in folders}
    if names <= PARTS:
        meant = os.path.join(path, os.path.basename(next(iter(folders.values()))))
        yield f"the classes are called {', '.join(map(repr, folders))}: is {meant} the folder that is meant?"
    elif len(folders) == 1 and class_names is None:
        yield f"there is one class only, {next(iter(folders))!r}: do the folders of the classes lie in it?"
