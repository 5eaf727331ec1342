"""CIFAR-100: 50,000 + 10,000 colour pictures of 32 x 32 in 100 classes, five of them in each of 20 coarse ones.

A record is the coarse label, the fine label and 3,072 bytes of pixels: the red ones row by row, then green, then blue.
Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.  The archive (169 MB) is not part
of the package: it, or its files, are read from a folder, or it is downloaded.
"""

from minicnn import _check
from minicnn.datasets import cifar_form

FILES = ("train.bin", "test.bin")
FOLDER = "cifar-100-binary"
CLASSES = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
    "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
    "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest",
    "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard",
    "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid",
    "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine", "possum",
    "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper",
    "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone",
    "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf",
    "woman", "worm",
)  # fmt: skip
COARSE_CLASSES = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables", "household_electrical_devices",
    "household_furniture", "insects", "large_carnivores", "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes", "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates",
    "people", "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
)  # fmt: skip

FORM = cifar_form.Form("cifar-100-binary.tar.gz", FOLDER, FILES[:1], FILES[1], (COARSE_CLASSES, CLASSES))
SOURCE = FORM.source(
    "cifar100",
    (FOLDER, "cifar100"),  # not the root itself: "train.bin" could be anything
    168513733,
    "03b5dce01913d631647c71ecec9e9cb8",  # from the home page
    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",  # from TensorFlow Datasets
    ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"),
    home="https://www.cs.toronto.edu/~kriz/cifar.html",
    licence="none is stated; the authors ask to be cited",
    citation='A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009',
    class_names=CLASSES,
)


def load_data(label_mode="fine", path=None, verbose="auto"):
    """((x, y), (x_test, y_test)): 50,000 pictures for training and 10,000 for testing, as the files have them.

    x: uint8 (n, 32, 32, 3), red, green, blue from 0 to 255; y: int64 (n,).  ``label_mode``: "fine", 0 to 99, places in
    ``CLASSES``, or "coarse", 0 to 19, places in ``COARSE_CLASSES``.  Begin a model with ``layers.Rescaling(1 / 255)``:
    scaling is never guessed.

    ``path`` is the folder with ``train.bin`` and ``test.bin``, or with ``cifar-100-binary.tar.gz``, which holds them.
    By default they are looked for in ``$MINICNN_DATA/cifar-100-binary`` and ``$MINICNN_DATA/cifar100``, without that
    variable in pooch's cache, and judged by their form: only the sums of the archive are published.  What is not there
    is downloaded (169 MB).  The version for Python, which is a pickle and could run code, is never read.  ``verbose``
    and the errors are those of ``mnist.load_data``.
    """
    column = ("coarse", "fine").index(_check.choice("cifar100.load_data", "label_mode", label_mode, ("fine", "coarse")))
    (x, labels), (x_test, labels_test) = FORM.load(SOURCE, path, verbose)
    return (x, labels[:, column].copy()), (x_test, labels_test[:, column].copy())
