"""``minicnn predict``."""

import json
import math
import os
import warnings

import numpy as np

from minicnn import _files, datasets, prediction
from minicnn.cli import models, sources, words
from minicnn.cli.scale import Scale
from minicnn.datasets import folder, images


def predict(options):
    """Prints the most probable classes of every picture; the status is 1 if a file cannot be classified."""
    model = models.load(options.model)
    require_classes(options.model, model)
    asked = _Asked(model, Scale(model, options.invert), sources.fit_for(model, options.fit), options.top)
    found, status = [], 0
    others = []
    for path, reason, within in _files_of(options.files):
        try:
            if reason is not None:
                raise datasets.DataError(path, reason)
            entries = asked.entries(path, path.lower().endswith(".npy") and not within)
        except words.FAILURES as error:
            if within and folder.is_other(path):
                others.append(path)
                continue
            said = words.sentence(error)
            said, status = said if said.startswith(path) else f"{path}: {said}", 1
            entries = [{"file": path, "error": said}]
            words.note(f"error: {said}")
        found += entries
        for entry in [] if options.json else [entry for entry in entries if "error" not in entry]:
            place = entry["file"] if entry.get("index") is None else f"{entry['file']}[{entry['index']}]"
            words.show("\t".join([words.plain(place), *(f"{name}\t{p:.4f}" for name, p in entry["top"])]))
    if others:
        words.note(f"note: {words.count(len(others), 'file')} left out as no picture, such as {others[0]}")
    if options.json:
        words.show(json.dumps(found))
    return status


def require_classes(path, model):
    """ValueError for a model whose outputs are no probabilities of classes."""
    if len(model.output_shape) != 1:
        raise ValueError(f"{path}: predict needs a model with one row of outputs; got {model.output_shape}")
    kind = model.output_kind
    if kind == "labels" or (kind == "values" and model.loss_function is not None):
        needed = f"predict needs {prediction.KINDS['classes']}, or {prediction.KINDS['binary']}"
        raise ValueError(f"{path}: {needed}; got {prediction.KINDS[kind]}. Use Sequential.predict")


def _files_of(given):
    """(path, None, whether it lies in a folder) of the files that were given and of those in folders, (path, reason,
    False) of what cannot be entered."""
    for path in given:
        if not os.path.isdir(path):
            yield path, None, False
            continue
        skipped, pictures = [], False
        for file in folder.files_in(path, path, skipped):
            pictures = pictures or not folder.is_other(file) or images.is_picture(file)
            yield file, None, True
        yield from ((file, reason, False) for file, reason in skipped)
        if not pictures and not skipped:
            yield path, "there is no picture in this folder", False


class _Asked:
    """A model that is asked about files."""

    def __init__(self, model, scale, fit, top):
        self.model, self.scale, self.fit, self.top, self.resized = model, scale, fit, top, False

    def entries(self, path, numbered):
        """What is found in one file; ``numbered``: it is a .npy."""
        x, single = self._npy(path) if numbered else (self._picture(path), True)
        try:
            probabilities = self.model.predict_proba(x)
        except (ValueError, TypeError) as error:
            raise datasets.DataError(path, error) from error
        if not len(probabilities):
            raise datasets.DataError(path, f"must hold an image at least; got shape {x.shape}")
        if not np.isfinite(probabilities).all():
            raise datasets.DataError(path, "leads to outputs that are not finite; does it contain NaN or infinity?")
        found = []
        for index, row in enumerate(probabilities):
            row = row if len(row) > 1 else np.array([1 - row[0], row[0]])
            order = sorted(range(len(row)), key=lambda k: -row[k])[: self.top]  # of equal ones the first
            top = [[self._name(k), float(row[k])] for k in order]
            entry = {"file": path} | ({"index": None if single else index} if numbered else {})
            found.append(entry | {"class": top[0][0], "probability": top[0][1], "top": top})
        return found

    def _name(self, k):
        return k if self.model.class_names is None else self.model.class_names[k]

    def _picture(self, path):
        """A picture as a batch of one."""
        shape = self.model.input_shape
        keeping = {f"{fit}_to_aspect_ratio": self.fit == fit for fit in ("crop", "pad")}
        with warnings.catch_warnings(action="ignore"):  # Pillow's, of what is odd about a file
            image = images.read_image(path, shape, **keeping)
            found = shape[:2] if self.resized else images.look(path)
        if found != shape[:2]:
            self.resized = True
            words.note(f"note: {sources.resized(path, found, shape[:2], self.fit)}")
        return self.scale.of_picture(path, image)[None]

    def _npy(self, path):
        """(the array in a .npy file as a batch for the model, whether it is just one image)."""
        array, shape = _mapped(path), self.model.input_shape
        single = shape in (array.shape, (*array.shape, 1))
        return self.scale.of_array(path, array[None] if single else array), single


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
