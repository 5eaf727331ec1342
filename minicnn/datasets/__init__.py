"""Data: real images that come with the package or lie in a folder, and the order in which training sees them.

``digits`` is embedded, ``mnist`` and ``cifar10`` read the original files from disk, ``idx`` reads any IDX file.  Of
pictures of one's own, ``image_folder`` reads a folder with one folder for each class, ``image_csv`` those that a table
names, and ``images`` one; ``train_test_split`` divides arrays.  Nothing here touches the network.
"""

from minicnn.datasets import cifar10, digits, idx, images, mnist
from minicnn.datasets.batching import batches, order, slices
from minicnn.datasets.errors import DataError
from minicnn.datasets.folder import image_folder
from minicnn.datasets.pictures import LazyPictures, Pictures
from minicnn.datasets.split import train_test_split
from minicnn.datasets.table import image_csv

__all__ = [
    "DataError",
    "LazyPictures",
    "Pictures",
    "batches",
    "cifar10",
    "digits",
    "idx",
    "image_csv",
    "image_folder",
    "images",
    "mnist",
    "order",
    "slices",
    "train_test_split",
]
