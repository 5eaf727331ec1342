"""The data sets by name: which there are, whether each is here, and how to get it."""

import os
from typing import NamedTuple

from minicnn import _check
from minicnn.datasets import cifar10, cifar100, digits, downloads, fashion_mnist, kmnist, mnist

_MODULES = {
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "kmnist": kmnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
}
NAMES = ("digits", *_MODULES)


class Info(NamedTuple):
    """What is known of a data set.

    ``name``; ``here``: whether ``load_data`` would find it without a download; ``files``: their paths, if so;
    ``looked_in``: the folders, in order; ``size``: bytes to download, of the embedded digits those of the file;
    ``home``: a page about it; ``licence``; ``citation``; ``class_names``: what the labels 0, 1, ... mean.
    """

    name: str
    here: bool
    files: tuple
    looked_in: tuple
    size: int
    home: str
    licence: str
    citation: str
    class_names: tuple


def info(name=None):
    """The ``Info`` of a data set; without a name those of all, {name: Info}.  Reads no data, and no network."""
    if name is None:
        return {each: info(each) for each in NAMES}
    name = _check.choice("datasets.info", "name", name, NAMES)
    if name == "digits":
        size, folder = os.path.getsize(digits.FILE), os.path.dirname(digits.FILE)
        about = (digits.HOME, digits.LICENCE, digits.CITATION, tuple("0123456789"))
        return Info(name, True, (digits.FILE,), (folder,), size, *about)
    source = _MODULES[name].SOURCE
    files, folders = downloads.located(source), downloads.folders_of(source)
    about = (source.home, source.licence, source.citation, source.class_names)
    return Info(name, files is not None, tuple(files or ()), tuple(folders), source.size, *about)


def fetch(name, verbose="auto"):
    """Downloads a data set unless it is here; the paths of its files, which ``load_data`` then finds.

    ``name`` is one of ``info()``; ``verbose`` and the errors are those of ``mnist.load_data``.
    """
    name = _check.choice("datasets.fetch", "name", name, NAMES)
    if name == "digits":
        return [digits.FILE]
    return downloads.files_of(_MODULES[name].SOURCE, None, verbose, "datasets.fetch")
