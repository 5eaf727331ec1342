"""CIFAR-10: 50,000 + 10,000 colour pictures of 32 x 32 in ten classes, read from its binary version.

A record is one byte of label and 3,072 of pixels: the red ones row by row, then green, then blue.  Source: A.
Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.  The archive (170 MB) is not part of the
package: it, or its files, are read from a folder, or it is downloaded.
"""

from minicnn.datasets import cifar_form

FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
FOLDER = "cifar-10-batches-bin"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

FORM = cifar_form.Form("cifar-10-binary.tar.gz", FOLDER, FILES[:5], FILES[5], (CLASSES,))
SOURCE = FORM.source(
    "cifar10",
    (FOLDER, "cifar10", ""),
    170052171,
    "c32a1d4ab5d03f1284b67883e8d87530",  # from the home page
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",  # from TensorFlow Datasets
    (
        "https://www.cs.toronto.edu/~kriz/",
        "https://cave.cs.toronto.edu/kriz/",
        "https://storage.googleapis.com/mirror.tensorflow.org/www.cs.toronto.edu/~kriz/",
    ),
    home="https://www.cs.toronto.edu/~kriz/cifar.html",
    licence="none is stated; the authors ask to be cited",
    citation='A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009',
    class_names=CLASSES,
)


def load_data(path=None, verbose="auto"):
    """((x, y), (x_test, y_test)): 50,000 pictures for training and 10,000 for testing, as the files have them.

    x: uint8 (n, 32, 32, 3), red, green, blue from 0 to 255; y: int64 (n,), 0 to 9, places in ``CLASSES``.  Begin a
    model with ``layers.Rescaling(1 / 255)``: scaling is never guessed.

    ``path`` is the folder with ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``, or with
    ``cifar-10-binary.tar.gz``, which holds them.  By default they are looked for in
    ``$MINICNN_DATA/cifar-10-batches-bin``, ``$MINICNN_DATA/cifar10`` and ``$MINICNN_DATA``, without that variable in
    pooch's cache, and judged by their form: only the sums of the archive are published.  What is not there is
    downloaded (170 MB).  The version for Python, which is a pickle and could run code, is never read.  ``verbose`` and
    the errors are those of ``mnist.load_data``.
    """
    (x, labels), (x_test, labels_test) = FORM.load(SOURCE, path, verbose)
    return (x, labels[:, 0]), (x_test, labels_test[:, 0])
