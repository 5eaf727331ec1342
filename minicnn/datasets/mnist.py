"""MNIST: 60,000 + 10,000 handwritten digits of 28 x 28 pixels, read from the original IDX files.

Source: Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits"; L. Bottou et al., ICPR 1994.  The
files (11 MB) are not part of the package.
"""

import os

import numpy as np

from minicnn.datasets import idx
from minicnn.datasets.errors import DataError

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CLASSES = 10


def load_data(path=None):
    """((x, y), (x_test, y_test)): 60,000 images for training and 10,000 for testing, as the files have them.

    x: uint8 (n, 28, 28, 1), grey values 0 (paper) to 255 (ink); y: int64 (n,), 0 to 9.  Begin a model with
    ``layers.Rescaling(1 / 255)``: scaling is never guessed.

    ``path`` is the folder with the four files ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
    ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, plain or with ``.gz``; by default ``$MINICNN_DATA/mnist``
    or else ``$MINICNN_DATA``.  FileNotFoundError says where it looked and where the files are to be had; DataError
    names a file that is damaged or does not fit.
    """
    files = _find(path)
    return _pair(*files[:2]), _pair(*files[2:])


def _find(path):
    """The paths of the four files in the first folder that has them all."""
    if path is not None:
        folders = [os.fspath(path)]
    elif data := os.environ.get("MINICNN_DATA"):
        folders = [os.path.join(data, "mnist"), data]
    else:
        folders = []
    for folder in folders:
        found = [_file(folder, name) for name in FILES]
        if all(found):
            return found
    looked = ", ".join(folders) or "nowhere, because MINICNN_DATA is not set"
    raise FileNotFoundError(
        f"mnist.load_data: needs the files {', '.join(FILES)} (plain or .gz); looked in: {looked}. Get them from "
        "https://ossci-datasets.s3.amazonaws.com/mnist/ (11 MB), put them into a folder DATA/mnist and set "
        "MINICNN_DATA=DATA, or give the folder itself as path"
    )


def _file(folder, name):
    """The file, plain or packed; some copies of the data set write a dot for the last dash but one."""
    stem, suffix = name.split("-idx")
    for candidate in (name, f"{stem}.idx{suffix}"):
        for ending in ("", ".gz"):
            if os.path.isfile(file := os.path.join(folder, candidate + ending)):
                return file
    return None


def _pair(image_file, label_file):
    x, y = idx.read(image_file), idx.read(label_file)
    if x.dtype != np.uint8 or x.shape[1:] != (28, 28):
        raise DataError(image_file, f"must hold uint8 images of shape (n, 28, 28); got {x.dtype} {x.shape}")
    if y.dtype != np.uint8 or y.ndim != 1:
        raise DataError(label_file, f"must hold uint8 labels of shape (n,); got {y.dtype} {y.shape}")
    if len(x) != len(y):
        needed = f"one label for each of the {len(x)} images in {image_file}"
        raise DataError(label_file, f"must hold {needed}; got {len(y)}")
    if y.size and y.max() >= CLASSES:
        raise DataError(label_file, f"must hold labels from 0 to 9; got {y.max()}")
    return x[..., None], y.astype(np.int64)
