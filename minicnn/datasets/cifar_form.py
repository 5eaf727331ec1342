"""The binary form of CIFAR-10 and CIFAR-100, from files or from their archive.

A record is a byte for each label and 3,072 of pixels: the red ones row by row, then green, then blue.  The archive is
read member by member: nothing is unpacked to the disk, and nothing in it can choose where something is written.
"""

import os
from typing import NamedTuple

import numpy as np

from minicnn import _files
from minicnn.datasets import downloads
from minicnn.datasets.errors import DataError

SIDE, CHANNELS = 32, 3
PIXELS = SIDE * SIDE * CHANNELS
_MOST = 300_000_000  # bytes that an archive may unpack to; the real ones have 184 million
_PIECE = 2**20


class Form(NamedTuple):
    """``folder`` of the archive; the ``training`` files and the one of the ``test``; the classes of each label."""

    archive: str
    folder: str
    training: tuple
    test: str
    classes: tuple

    @property
    def files(self):
        return (*self.training, self.test)

    def locate(self, folder):
        """The paths of all files in a folder, or of the archive alone; None if neither is there."""
        found = [os.path.join(folder, name) for name in self.files]
        if all(map(os.path.isfile, found)):
            return found
        archive = os.path.join(folder, self.archive)
        return [archive] if os.path.isfile(archive) else None

    def inspect(self, name, path):
        """DataError unless ``path`` is an archive with all files."""
        for file, data in self._members(path).items():
            self._parse(f"{path}: {file}", data)

    def source(self, name, folders, size, md5, sha256, mirrors, **about):
        """The ``downloads.Source`` of a data set in this form."""
        remote = downloads.Remote(self.archive, size, md5, sha256)
        wanted = f"{', '.join(self.files)}, or {self.archive} with them"
        return downloads.Source(name, folders, (remote,), mirrors, self.locate, self.inspect, wanted, **about)

    def load(self, source, path, verbose):
        """((x, labels), (x_test, labels_test)); labels: int64 (n, labels of a record)."""
        files = downloads.files_of(source, path, verbose)
        if len(files) == 1 and os.path.basename(files[0]) == self.archive:
            members = self._members(files[0])
            parts = [self._parse(f"{files[0]}: {name}", members.pop(name)) for name in self.files]
        else:
            parts = [self._parse(file, _bytes(file)) for file in files]
        *training, test = parts
        x, labels = (np.concatenate(arrays) for arrays in zip(*training, strict=True))
        return (x, labels), test

    def _parse(self, path, data):
        """(pictures, labels) of the bytes of one file."""
        n = len(self.classes)
        record, labels = n + PIXELS, "a label" if n == 1 else f"{n} labels"
        if not len(data) or len(data) % record:
            required = f"must hold records of {record} bytes, {labels} and a picture each"
            raise DataError(path, f"{required}; got {len(data)} bytes")
        records = np.frombuffer(data, np.uint8).reshape(-1, record)
        found = records[:, :n].astype(np.int64)
        for column, classes in zip(found.T, self.classes, strict=True):
            wrong = np.flatnonzero(column >= len(classes))
            if len(wrong):
                required = f"must have labels from 0 to {len(classes) - 1}"
                raise DataError(path, f"{required}; got {column[wrong[0]]} in record {wrong[0]}")
        pictures = records[:, n:].reshape(-1, CHANNELS, SIDE, SIDE)
        return np.ascontiguousarray(pictures.transpose(0, 2, 3, 1)), found

    def _members(self, path):
        """{name: bytes} of the files in the archive; DataError for anything that such an archive has not."""
        import gzip  # late, for the sake of ``import minicnn``
        import tarfile
        import zlib

        found = {}
        raw, _ = _files.open_regular(path, lambda what: DataError(path, what))
        with raw:
            unpacked = _Bounded(path, gzip.GzipFile(fileobj=raw))
            try:
                with tarfile.open(fileobj=unpacked, mode="r|", bufsize=_PIECE) as archive:
                    for member in archive:
                        name = self._name(path, member)
                        if name in found:
                            raise DataError(path, f"has {member.name!r} twice")
                        if name in self.files:
                            found[name] = archive.extractfile(member).read()
                while unpacked.read(_PIECE):  # to the end, where gzip compares its own sum
                    pass
            except DataError:
                raise
            except EOFError as error:
                raise DataError(path, "the gzip data are truncated") from error
            except (gzip.BadGzipFile, zlib.error) as error:
                raise DataError(path, f"the gzip data are damaged ({error})") from error
            except (tarfile.TarError, ValueError, OverflowError) as error:  # the latter two from damaged headers
                raise DataError(path, f"is not a readable tar archive ({error})") from error
        if missing := [name for name in self.files if name not in found]:
            raise DataError(path, f"must hold the files {', '.join(self.files)}; {', '.join(missing)} is not in it")
        return found

    def _name(self, path, member):
        """The name of a member within the folder, "" of the folder itself; DataError for anything else."""
        full = member.name.removeprefix("./").rstrip("/")
        folder, _, name = full.rpartition("/")
        if member.isdir() and full == self.folder:
            return ""
        if not (member.isreg() and folder == self.folder) or member.issparse():
            kind = "the link" if member.issym() or member.islnk() else "the entry"
            required = f"must hold nothing but files in {self.folder}/"
            raise DataError(path, f"{required}; got {kind} {member.name!r}")
        return name


class _Bounded:
    """A stream to be read that ends with DataError where it would never end, or fill the memory."""

    def __init__(self, path, file):
        self.path, self.file, self.size = path, file, 0

    def read(self, size):
        data = self.file.read(size)
        self.size += len(data)
        if self.size > _MOST:
            raise DataError(self.path, f"unpacks to more than {_MOST // 10**6} MB")
        return data


def _bytes(path):
    file, size = _files.open_regular(path, lambda what: DataError(path, what))
    with file:
        return file.read(size + 1) if size else b""  # one more: a file that has grown has no whole records
