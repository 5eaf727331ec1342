"""KMNIST (Kuzushiji-MNIST): 60,000 + 10,000 characters of cursive Japanese, 28 x 28, in the form of MNIST, and harder.

Source: T. Clanuwat et al., "Deep Learning for Classical Japanese Literature", 2018, arXiv:1812.01718: "KMNIST Dataset"
(created by CODH), adapted from "Kuzushiji Dataset" (created by NIJL and others), doi:10.20676/00000341; CC BY-SA 4.0.
The files (21 MB) are not part of the package.
"""

from minicnn.datasets import mnist_form

FILES = mnist_form.FILES
CLASSES = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")

# Of the packed files: bytes, MD5 (from torchvision), SHA-256 (from TensorFlow Datasets).
PUBLISHED = (
    (18165135, "bdb82020997e1d708af4cf47b453dcf7", "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
    (29497, "e144d726b3acfaa3e44228e80efcd344", "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
    (3041136, "5c965bf0a639b31b8f53240b1b52f4d7", "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
    (5120, "7320c461ea6c1c855c0b718fb2a4b134", "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
)
SOURCE = mnist_form.source(
    "kmnist",
    ("kmnist", "KMNIST/raw"),  # not the root itself: the files have the names of MNIST's
    PUBLISHED,
    ("https://codh.rois.ac.jp/kmnist/dataset/kmnist/", "http://codh.rois.ac.jp/kmnist/dataset/kmnist/"),
    home="https://github.com/rois-codh/kmnist",
    licence="CC BY-SA 4.0",
    citation='"KMNIST Dataset" (created by CODH), adapted from "Kuzushiji Dataset" (created by NIJL and others), '
    "doi:10.20676/00000341; T. Clanuwat et al., 2018, arXiv:1812.01718",
    class_names=CLASSES,
)


def load_data(path=None, verbose="auto"):
    """((x, y), (x_test, y_test)): 60,000 characters for training and 10,000 for testing, as the files have them.

    x: uint8 (n, 28, 28, 1), 0 (background) to 255; y: int64 (n,), 0 to 9, places in ``CLASSES``.  Begin a model with
    ``layers.Rescaling(1 / 255)``: scaling is never guessed.

    ``path`` is the folder with the four files, which have the names of MNIST's (``mnist.load_data``), plain or with
    ``.gz``.  By default they are looked for in ``$MINICNN_DATA/kmnist`` and ``$MINICNN_DATA/KMNIST/raw``, without that
    variable in pooch's cache, and judged by their form: only the sums of the packed files are published.  What is not
    there is downloaded (21 MB).  ``verbose`` and the errors are those of ``mnist.load_data``.
    """
    return mnist_form.load(SOURCE, path, verbose)
