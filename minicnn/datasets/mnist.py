"""MNIST: 60,000 + 10,000 handwritten digits of 28 x 28 pixels, read from the original IDX files.

Source: Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits"; L. Bottou et al., ICPR 1994.  The
files (12 MB) are not part of the package: they are read from a folder, or downloaded.
"""

from minicnn.datasets import mnist_form

FILES, CLASSES = mnist_form.FILES, mnist_form.CLASSES

# Of the packed files: bytes, MD5 (from torchvision), SHA-256 (from TensorFlow Datasets).
PUBLISHED = (
    (9912422, "f68b3c2dcbeaaa9fbdd348bbdeb94873", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    (28881, "d53e105ee54ea40749a09fcbcd1e9432", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    (1648877, "9fb629c4189551a2d022fa330f9573f3", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    (4542, "ec29112dd5afa0611ce80d1b7f02629c", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
)
SOURCE = mnist_form.source(
    "mnist",
    ("mnist", "", "MNIST/raw"),  # the last is torchvision's
    PUBLISHED,
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    home="https://ossci-datasets.s3.amazonaws.com/mnist/",
    licence="CC BY-SA 3.0",
    citation='Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits", 1998',
    class_names=tuple("0123456789"),
)
# Of the unpacked files, which others pack in other ways: (items, SHA-256).
UNPACKED = (
    (60_000, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    (60_000, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    (10_000, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    (10_000, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)


def load_data(path=None, verbose="auto"):
    """((x, y), (x_test, y_test)): 60,000 images for training and 10,000 for testing, as the files have them.

    x: uint8 (n, 28, 28, 1), grey values 0 (paper) to 255 (ink); y: int64 (n,), 0 to 9.  Begin a model with
    ``layers.Rescaling(1 / 255)``: scaling is never guessed.

    ``path`` is the folder with the four files ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
    ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, plain or with ``.gz``, which may hold other images in
    this form.  By default they are looked for in ``$MINICNN_DATA/mnist``, ``$MINICNN_DATA`` and
    ``$MINICNN_DATA/MNIST/raw``, without that variable in pooch's cache; files of 60,000 and 10,000 items must be
    MNIST's, by the sums of their unpacked bytes.  What is not there is downloaded (12 MB): docs/data.md.

    ``verbose`` is about the download, as in ``fit``: 0 says nothing, 1 draws bars, 2 writes lines, "auto" is 1 at a
    terminal and else 2.

    FileNotFoundError says where it looked and where the files are to be had (DownloadError, which is one, what became
    of the download), ImportError that pooch is missing; DataError names a file that is damaged or does not fit.
    """
    return mnist_form.load(SOURCE, path, verbose, UNPACKED)
