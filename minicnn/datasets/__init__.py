"""Data: real images that come with the package or lie in a folder, and the order in which training sees them.

``digits`` is embedded; ``mnist``, ``fashion_mnist``, ``kmnist``, ``cifar10`` and ``cifar100`` read the original files
from a folder, or download them, when ``load_data`` is called; ``info`` says which of them are here, ``fetch`` gets one.
``idx`` reads any IDX file.

Of pictures of one's own, ``image_folder`` reads a folder with one folder for each class, ``image_csv`` those that a
table names, and ``images`` one.  ``train_test_split`` divides arrays.
"""

from minicnn.datasets import cifar10, cifar100, digits, fashion_mnist, idx, images, kmnist, mnist
from minicnn.datasets.batching import batches, order, slices
from minicnn.datasets.catalogue import fetch, info
from minicnn.datasets.errors import DataError, DownloadError
from minicnn.datasets.folder import image_folder
from minicnn.datasets.pictures import LazyPictures, Pictures
from minicnn.datasets.split import train_test_split
from minicnn.datasets.table import image_csv

__all__ = [
    "DataError",
    "DownloadError",
    "LazyPictures",
    "Pictures",
    "batches",
    "cifar10",
    "cifar100",
    "digits",
    "fashion_mnist",
    "fetch",
    "idx",
    "image_csv",
    "image_folder",
    "images",
    "info",
    "kmnist",
    "mnist",
    "order",
    "slices",
    "train_test_split",
]
