"""CIFAR-10: 50,000 + 10,000 colour pictures of 32 x 32 in ten classes, read from the files of its binary version.

A record is one byte of label and 3,072 of pixels: the red ones row by row, then green, then blue.  Source: A.
Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.  The files (184 MB) are not part of the
package.
"""

import os

import numpy as np

from minicnn import _files
from minicnn.datasets.errors import DataError

FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
FOLDER = "cifar-10-batches-bin"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE, CHANNELS = 32, 3
RECORD = 1 + SIDE * SIDE * CHANNELS


def load_data(path=None):
    """((x, y), (x_test, y_test)): 50,000 pictures for training and 10,000 for testing, as the files have them.

    x: uint8 (n, 32, 32, 3), red, green, blue from 0 to 255; y: int64 (n,), 0 to 9, places in ``CLASSES``.  Begin a
    model with ``layers.Rescaling(1 / 255)``: scaling is never guessed.

    ``path`` is the folder with ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``; by default
    ``$MINICNN_DATA/cifar-10-batches-bin`` or else ``$MINICNN_DATA``.  FileNotFoundError says where it looked and where
    the files are to be had; DataError names a file that is damaged.
    """
    *training, test = map(_read, _find(path))
    x, y = (np.concatenate(parts) for parts in zip(*training, strict=True))
    return (x, y), test


def _find(path):
    """The paths of the files in the first folder that has them all."""
    if path is not None:
        folders = [os.fspath(path)]
    elif data := os.environ.get("MINICNN_DATA"):
        folders = [os.path.join(data, FOLDER), data]
    else:
        folders = []
    for folder in folders:
        found = [os.path.join(folder, name) for name in FILES]
        if all(map(os.path.isfile, found)):
            return found
    looked = ", ".join(folders) or "nowhere, because MINICNN_DATA is not set"
    raise FileNotFoundError(
        f"cifar10.load_data: needs the files {', '.join(FILES)}; looked in: {looked}. Get the binary version from "
        f"https://www.cs.toronto.edu/~kriz/cifar.html (162 MB), unpack it as DATA/{FOLDER} and set MINICNN_DATA=DATA, "
        "or give the folder itself as path"
    )


def _read(path):
    """(pictures, labels) of one file."""
    file, size = _files.open_regular(path, lambda what: DataError(path, what))
    with file:
        data = np.frombuffer(file.read(), np.uint8)
    if len(data) != size or not size or size % RECORD:
        raise DataError(path, f"must hold records of {RECORD} bytes, a label and a picture each; got {len(data)} bytes")
    records = data.reshape(-1, RECORD)
    labels = records[:, 0].astype(np.int64)
    wrong = np.flatnonzero(labels >= len(CLASSES))
    if len(wrong):
        raise DataError(path, f"must have labels from 0 to 9; got {labels[wrong[0]]} in record {wrong[0]}")
    pictures = records[:, 1:].reshape(-1, CHANNELS, SIDE, SIDE)
    return np.ascontiguousarray(pictures.transpose(0, 2, 3, 1)), labels
