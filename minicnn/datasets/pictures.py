"""Pictures with their labels: in memory, ``Pictures``, or read when they are asked for, ``LazyPictures``.

``collected`` makes either of a list of files, for image_folder and image_csv: unreadable files are left out first, then
the samples are shuffled by the seed and divided.
"""

import contextlib
import unicodedata
import warnings
from typing import NamedTuple

import numpy as np

from minicnn import _check
from minicnn.datasets import images
from minicnn.datasets.batching import order, slices
from minicnn.datasets.errors import DataError
from minicnn.datasets.split import classes_of, parts

_SHOWN = 5  # files that a warning names


class Choice(NamedTuple):
    """The arguments that image_folder and image_csv share, checked."""

    where: str
    shape: tuple
    fit: str
    validation_split: float
    seed: int
    lazy: bool
    batch_size: int

    @classmethod
    def checked(cls, where, image_size, color_mode, validation_split, seed, crop, pad, lazy, batch_size):
        """ValueError or TypeError for a wrong one."""
        size = _check.pair(where, "image_size", image_size)
        color_mode = _check.choice(where, "color_mode", color_mode, tuple(images.CHANNELS))
        return cls(
            where,
            (*size, images.CHANNELS[color_mode]),
            images.fitting(where, crop, pad),
            _check.number(where, "validation_split", validation_split, 0, 1, open_high=True),
            _check.integer(where, "seed", seed, 0, 2**64 - 1),
            _check.boolean(where, "lazy", lazy),
            _check.integer(where, "batch_size", batch_size, 1),
        )


class Pictures:
    """What image_folder and image_csv give: pictures in memory, their labels, and where they are from.

    - ``x``: uint8 (N, H, W, C), 0 to 255; ``y``: int64 (N,), places in ``class_names``, or the numbers of a table.
    - ``class_names``: a list of strings, None for numbers.  ``files``: the N paths, in the order of x.
    - ``skipped``: a list of (path, reason), the files that could not be read.
    - ``validation``: ``Pictures`` again, of what is not to be trained on, or None.
    - ``image_fit``: what became of pictures of other proportions, "stretch", "crop" or "pad".

    ``Sequential.fit`` and ``evaluate`` take it in the place of x and y.
    """

    def __init__(self, x, y, class_names, files, skipped=(), validation=None, image_fit=None):
        self.x, self.y, self.files, self.image_fit = x, y, files, image_fit
        self.class_names = None if class_names is None else list(class_names)
        self.skipped, self.validation = list(skipped), validation

    def __repr__(self):
        return _described(self, self.x.shape[1:])


class LazyPictures:
    """``Pictures`` that stay in their files: batch i is read when ``pictures[i]`` asks for it, as (x, y).

    ``len(pictures)`` is the number of batches.  They hold the samples in the order of ``Pictures``, cut as
    ``datasets.slices(N, batch_size)`` says, so that a single one that is left joins the last batch.  ``y``,
    ``class_names``, ``files``, ``skipped``, ``validation`` and ``image_fit`` are those of ``Pictures``; so are the
    pictures.  Nothing changes while batches are read: several threads may ask.

    Of every file the beginning has been read, and those that it shows to be unreadable are ``skipped``; one that is
    damaged further on is a DataError when its batch is read.
    """

    def __init__(self, choice, y, class_names, files, skipped=(), validation=None):
        self.y, self.files = y, files
        self.class_names = None if class_names is None else list(class_names)
        self.skipped, self.validation = list(skipped), validation
        self.batch_size, self.image_fit, self._choice = choice.batch_size, choice.fit, choice
        self._slices = slices(len(y), choice.batch_size)

    def __len__(self):
        return len(self._slices)

    def __getitem__(self, number):
        return self.read_rows(number, lambda n: slice(0, n))

    def read_rows(self, number, rows_of):
        """Batch ``number`` as (x, y), in which only those pictures are read that the slice ``rows_of(n)`` of its n
        names: the others are black.  For processes that share the work on a batch (``stream.py``)."""
        part = self._slices[_place(number, len(self))]
        x = np.zeros((part.stop - part.start, *self._choice.shape), np.uint8)
        chosen = rows_of(len(x))
        for row, file in zip(x[chosen], self.files[part][chosen], strict=True):
            try:
                row[...] = images.read(file, self._choice.shape, self._choice.fit)
            except DataError as error:
                fix = "Remove the file, or read with lazy=False, which leaves it out"
                raise DataError(file, f"{error.what}. {fix}") from error
        return x, self.y[part].copy()

    def __getattr__(self, name):
        if name == "x":
            fix = "take pictures[i], a batch, or lazy=False"
            raise AttributeError(f"LazyPictures.x: the pictures are not in memory: {fix}", name=name, obj=self)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __repr__(self):
        return _described(self, self._choice.shape)


def _place(number, n):
    """An index as a sequence has it: from the end where it is negative, IndexError beyond."""
    place = _check.integer("LazyPictures", "the number of a batch", number)
    if not -n <= place < n:
        raise IndexError(_check.message("LazyPictures", f"the number of a batch must be in [0, {n - 1}]", place))
    return place


def _described(pictures, shape):
    height, width, channels = shape
    classes = [] if pictures.class_names is None else [_count(len(pictures.class_names), "class", "classes")]
    validation = [] if pictures.validation is None else [f"{len(pictures.validation.y):,} for validation"]
    skipped = [f"{len(pictures.skipped):,} skipped"] if pictures.skipped else []
    what = f"{_count(len(pictures.y), 'picture')} of {height} x {width}, {images.COLORS[channels]}"
    return f"<{type(pictures).__name__}: {', '.join([what, *classes, *validation, *skipped])}>"


def _count(number, one, many=None):
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


# ---- names of classes ----


def class_name(text):
    """The name of a folder or of a label as a class's: one form of every accent, and nothing that cannot be printed."""
    name = unicodedata.normalize("NFC", text)
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


def numbering(where, found, class_names):
    """(names of the classes, {name: number}) of the set of names that there are.

    ``class_names``: the list that must have them all, and says their order, or None for the alphabet's.
    """
    if class_names is None:
        names = sorted(found)
    else:
        names = _check.class_names(where, "class_names", class_names)
        unknown = sorted(found - set(names))
        if unknown:
            near = _check.nearest(unknown[0], names)
            fix = f"Did you mean {near!r}?" if near else ""
            raise ValueError(_check.message(where, "class_names must have every class that there is", unknown[0], fix))
    return names, {name: number for number, name in enumerate(names)}


# ---- from files to pictures ----


def collected(choice, path, files, y, class_names, skipped, said=(), stacklevel=3):
    """``Pictures`` or ``LazyPictures`` of the files (paths) with the labels or numbers y.

    ``skipped``: what is known to be unusable; ``said``: further sentences for the one warning there is.
    DataError, which names ``path``, if nothing can be read.
    """
    y, skipped = np.asarray(y), list(skipped)
    read = images.look if choice.lazy else lambda file: images.read(file, choice.shape, choice.fit)
    x = None if choice.lazy else np.empty((len(files), *choice.shape), np.uint8)
    good = []
    with warnings.catch_warnings(action="ignore"):  # Pillow's, of what is odd about a file
        for number, file in enumerate(files):
            try:
                found = read(file)
            except (DataError, OSError) as error:
                skipped.append((file, error.what if isinstance(error, DataError) else error.strerror or str(error)))
                continue
            if x is not None:
                x[len(good)] = found
            good.append(number)
    if not good:
        why = f"; {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise DataError(path, f"holds no picture that can be read{why}")
    y, files = y[good], [files[number] for number in good]
    first, second = _divided(choice, y, class_names is not None)
    made = []
    for chosen in (second, first):
        if chosen is None:
            made.append(None)
            continue
        rest = y[chosen], class_names, [files[number] for number in chosen]
        more = (skipped, made[0]) if made else ((), None)
        lazy = choice.lazy
        made.append(LazyPictures(choice, *rest, *more) if lazy else Pictures(x[chosen], *rest, *more, choice.fit))
    _warn(choice.where, path, skipped, [*_of_classes(class_names, y), *said], stacklevel + 1)
    return made[1]


def _divided(choice, y, classes):
    """(numbers of the samples to train on, of those to validate on or None)."""
    if not choice.validation_split:
        return order(len(y), choice.seed), None

    def by(labels):
        return parts(choice.where, len(y), labels, choice.validation_split, choice.seed, "validation_split")

    if classes:
        return by(y)
    with contextlib.suppress(ValueError):  # whole numbers that count or measure something are seldom twice the same
        return by(classes_of(y))
    return by(None)


def _of_classes(class_names, y):
    """Sentences about classes without pictures."""
    if class_names is None:
        return
    counts = np.bincount(y, minlength=len(class_names))
    empty = [repr(name) for name, count in zip(class_names, counts, strict=True) if not count]
    if empty:
        listed = ", ".join(empty[:_SHOWN]) + (", ..." if len(empty) > _SHOWN else "")
        yield f"there is no picture of {'class' if len(empty) == 1 else 'classes'} {listed}"


def _warn(where, path, skipped, said, stacklevel):
    sentences = list(said)
    if skipped:
        named = [f"{file}: {reason}" for file, reason in skipped[:_SHOWN]]
        more = [f"and {len(skipped) - _SHOWN:,} more in `skipped`"] if len(skipped) > _SHOWN else []
        sentences.insert(0, f"{_count(len(skipped), 'file')} skipped ({'; '.join([*named, *more])})")
    if sentences:
        warnings.warn(f"{where}: {path}: {'. '.join(s[:1].upper() + s[1:] for s in sentences)}", stacklevel=stacklevel)
