"""The form of MNIST, which Fashion-MNIST and KMNIST share: four IDX files of 28 x 28 images and their labels."""

import os

import numpy as np

from minicnn.datasets import downloads, idx
from minicnn.datasets.errors import DataError

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CLASSES = 10


def locate(folder):
    """The paths of the four files in a folder, plain or packed; None if one is missing."""
    found = [_file(folder, name) for name in FILES]
    return found if all(found) else None


def inspect(name, path):
    """DataError unless ``path`` holds what the file ``name`` should: images, or labels."""
    (_images if "images" in name else _labels)(path)


def source(name, folders, files, mirrors, **about):
    """The ``downloads.Source`` of a data set in this form; ``files``: (size, md5, sha256) of each of ``FILES``."""
    remotes = tuple(downloads.Remote(f"{file}.gz", *published) for file, published in zip(FILES, files, strict=True))
    wanted = f"{', '.join(FILES)} (plain or .gz)"
    return downloads.Source(name, folders, remotes, mirrors, locate, inspect, wanted, **about)


def load(source, path, verbose, unpacked=()):
    """((x, y), (x_test, y_test)) of a data set in this form.

    ``unpacked``: for each of ``FILES`` how many items it has and the SHA-256 of its unpacked bytes.  A file that was
    found, not named by ``path``, and has that many items must have these bytes.
    """
    files = downloads.files_of(source, path, verbose)
    parts = []
    for images, labels in (files[:2], files[2:]):
        x, y = _images(images), _labels(labels)
        if len(x) != len(y):
            raise DataError(labels, f"must hold one label for each of the {len(x)} images in {images}; got {len(y)}")
        parts += [x, y]
    if path is None:
        for file, array, (n, right) in zip(files, parts, unpacked, strict=bool(unpacked)):
            found = _unpacked_sum(array) if len(array) == n else right
            if found != right:
                required = f"must hold the bytes of {source.name}, unpacked of SHA-256 {right}"
                fix = "It is damaged, or of another data set: to read that, give its folder as path"
                raise DataError(file, f"{required}; got {found}. {fix}")
    x, y, x_test, y_test = parts
    return (x[..., None], y.astype(np.int64)), (x_test[..., None], y_test.astype(np.int64))


def _file(folder, name):
    """The file, plain or packed; some copies of the data set write a dot for the last dash but one."""
    stem, suffix = name.split("-idx")
    for candidate in (name, f"{stem}.idx{suffix}"):
        for ending in ("", ".gz"):
            if os.path.isfile(file := os.path.join(folder, candidate + ending)):
                return file
    return None


def _images(path):
    x = idx.read(path)
    if x.dtype != np.uint8 or x.shape[1:] != (28, 28):
        raise DataError(path, f"must hold uint8 images of shape (n, 28, 28); got {x.dtype} {x.shape}")
    return x


def _labels(path):
    y = idx.read(path)
    if y.dtype != np.uint8 or y.ndim != 1:
        raise DataError(path, f"must hold uint8 labels of shape (n,); got {y.dtype} {y.shape}")
    if y.size and y.max() >= CLASSES:
        raise DataError(path, f"must hold labels from 0 to 9; got {y.max()}")
    return y


def _unpacked_sum(array):
    """SHA-256 of the unpacked IDX file that holds the array of bytes."""
    import hashlib

    total = hashlib.sha256(bytes([0, 0, 0x08, array.ndim]) + np.array(array.shape, ">u4").tobytes())
    total.update(array)
    return total.hexdigest()
