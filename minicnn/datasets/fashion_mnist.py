"""Fashion-MNIST: 60,000 + 10,000 grey pictures of clothing, 28 x 28, in the form of MNIST, and harder.

Source: H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
algorithms", 2017, arXiv:1708.07747; MIT licence.  The files (31 MB) are not part of the package.
"""

from minicnn.datasets import mnist_form

FILES = mnist_form.FILES
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

# Of the packed files: bytes, MD5 (from torchvision), SHA-256 (from TensorFlow Datasets).
PUBLISHED = (
    (26421880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    (29515, "25c81989df183df01b3e8a0aad5dffbe", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    (4422102, "bef4ecab320f06d8554ea6380940ec79", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    (5148, "bb300cfdad3c16e7a12a480ee83cd310", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
)
SOURCE = mnist_form.source(
    "fashion_mnist",
    ("fashion_mnist", "FashionMNIST/raw"),  # not the root itself: the files have the names of MNIST's
    PUBLISHED,
    (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
    home="https://github.com/zalandoresearch/fashion-mnist",
    licence="MIT",
    citation="H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST, 2017, arXiv:1708.07747",
    class_names=CLASSES,
)


def load_data(path=None, verbose="auto"):
    """((x, y), (x_test, y_test)): 60,000 pictures for training and 10,000 for testing, as the files have them.

    x: uint8 (n, 28, 28, 1), 0 (background) to 255; y: int64 (n,), 0 to 9, places in ``CLASSES``.  Begin a model with
    ``layers.Rescaling(1 / 255)``: scaling is never guessed.

    ``path`` is the folder with the four files, which have the names of MNIST's (``mnist.load_data``), plain or with
    ``.gz``.  By default they are looked for in ``$MINICNN_DATA/fashion_mnist`` and ``$MINICNN_DATA/FashionMNIST/raw``,
    without that variable in pooch's cache, and judged by their form: only the sums of the packed files are published.
    What is not there is downloaded (31 MB).  ``verbose`` and the errors are those of ``mnist.load_data``.
    """
    return mnist_form.load(SOURCE, path, verbose)
