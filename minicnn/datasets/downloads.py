"""Public data sets: where each is looked for, and how a missing one is downloaded.

Local files come first.  What is not here is fetched with pooch, an extra (``pip install "minicnn[datasets]"``), from
the first mirror that sends the right bytes: they are measured, hashed and read while they are in a temporary file, and
take their name only then.  Nothing happens at import, and nothing at all on the network where ``MINICNN_OFFLINE`` is
set.
"""

import os
from typing import Any, NamedTuple

from minicnn import _files, progress
from minicnn.datasets.errors import DataError, DownloadError

_TIMEOUT = (10, 60)  # seconds to connect, and between two pieces
_PIECE = 2**16  # bytes of a download at a time


class Remote(NamedTuple):
    """A file as it is published: its size in bytes, and the sums of the packed bytes, both of which must be right."""

    name: str
    size: int
    md5: str
    sha256: str


class Source(NamedTuple):
    """A public data set.

    ``folders`` are searched below the root of all data, the one called ``name`` among them, which downloads go to.
    ``locate(folder)`` gives the paths of its files in a folder, None where one is missing; ``inspect(name, path)``
    raises DataError unless the file ``path`` holds what ``name`` should.  ``wanted`` names the files for messages.
    """

    name: str
    folders: tuple
    files: tuple
    mirrors: tuple
    locate: Any
    inspect: Any
    wanted: str
    home: str
    licence: str
    citation: str
    class_names: tuple

    @property
    def size(self):
        """Bytes to download."""
        return sum(file.size for file in self.files)


def root():
    """The folder of all data: ``$MINICNN_DATA``, else pooch's cache for minicnn; None without either."""
    if data := os.environ.get("MINICNN_DATA"):
        return data
    try:
        import pooch
    except ImportError:
        return None
    return os.fspath(pooch.os_cache("minicnn"))


def is_offline():
    """Whether ``MINICNN_OFFLINE`` forbids downloads: set, and neither empty nor 0."""
    return os.environ.get("MINICNN_OFFLINE", "") not in ("", "0")


def folders_of(source):
    """Where a data set is looked for, in order."""
    data = root()
    return [] if data is None else [os.path.join(data, folder) if folder else data for folder in source.folders]


def located(source):
    """The paths of its files in the first folder that has them all; None where none has."""
    return next(filter(None, map(source.locate, folders_of(source))), None)


def files_of(source, path=None, verbose="auto", where=None):
    """The paths of a data set's files: those in the folder ``path``, or local ones, or downloaded ones.

    ``verbose`` as in ``fit``: 0 says nothing, 1 draws a bar for each file, 2 writes a line.  ``where`` begins messages.

    FileNotFoundError says what is missing, where it was looked for and how to get it, DownloadError, which is one, also
    what every mirror answered; ImportError without pooch; OSError if the folder cannot be written.
    """
    where = where or f"{source.name}.load_data"
    verbose = progress.verbosity(where, verbose)
    if path is not None:
        if found := source.locate(os.fspath(path)):
            return found
        raise FileNotFoundError(_missing(where, source, [os.fspath(path)]))
    if found := located(source):
        return found
    folders = folders_of(source)
    if is_offline():
        raise FileNotFoundError(_missing(where, source, folders, "MINICNN_OFFLINE forbids to download them"))
    try:
        import pooch  # noqa: F401 - whether it is here
    except ImportError as error:
        needed = 'downloading them needs pooch: pip install "minicnn[datasets]"'
        raise ImportError(_missing(where, source, folders, needed)) from error
    folder = os.path.join(root(), source.name)
    try:
        os.makedirs(folder, exist_ok=True)
        for file in source.files:
            if not os.path.isfile(os.path.join(folder, file.name)):
                _download(where, source, file, folder, verbose)
    except DownloadError:
        raise
    except OSError as error:  # of the disk: those of the network are in a DownloadError
        hint = "MINICNN_DATA names another folder for data"
        what = f"{where}: {error.strerror or error}; {source.size / 1e6:.0f} MB were to be downloaded. {hint}"
        raise OSError(error.errno, what, error.filename or folder) from error
    return source.locate(folder)


def _missing(where, source, folders, why=""):
    looked = ", ".join(folders) or "nowhere, because MINICNN_DATA is not set"
    if folders and not os.environ.get("MINICNN_DATA"):
        looked += " (MINICNN_DATA is not set)"
    return (
        f"{where}: needs the files {source.wanted}; looked in: {looked}. {why + '. ' if why else ''}"
        f"Get them from {source.home} ({source.size / 1e6:.0f} MB), put them into a folder DATA/{source.folders[0]} "
        "and set MINICNN_DATA=DATA, or give the folder itself as path"
    )


def _download(where, source, file, folder, verbose):
    """Downloads a file from the first mirror that sends it."""
    import requests
    import urllib3

    failures = []
    for mirror in source.mirrors:
        url = mirror + file.name
        if verbose == 2:
            progress.say(f"downloading {url} ({file.size / 1e6:.1f} MB)")
        sent = _Sent(file)
        try:
            with _files.replacing(os.path.join(folder, file.name)) as target:
                sent.file = target
                _transfer(url, sent, file, verbose == 1)
                target.flush()
                sent.check()
                source.inspect(file.name, target.name)
            return
        except DataError as error:  # only a wrong table of sums leads here
            failures.append(f"{url}: {error.what}")
        except _WrongBytes as error:
            failures.append(f"{url} {error}")
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:  # the last: of headers
            failures.append(f"{url} {_answer(error, sent)}")
    failed = ";\n  ".join(failures)
    raise DownloadError(
        f"{where}: {file.name} could not be downloaded:\n  {failed}.\n{_missing(where, source, folders_of(source))}"
    )


def _transfer(url, sent, file, bar):
    """Writes what the address sends into ``sent``."""
    import pooch

    responses = []

    def as_sent(response, **_):
        responses.append(response)
        sent.began = True
        # Some servers call a .gz file content that is packed for the way: it would arrive unpacked, with another sum.
        response.raw.headers.pop("Content-Encoding", None)

    if bar:
        bar = progress.bar(total=file.size, desc=file.name, unit="B", unit_scale=True)
    try:
        download = pooch.HTTPDownloader(
            progressbar=bar,
            chunk_size=_PIECE,
            timeout=_TIMEOUT,
            headers={"Accept-Encoding": "identity"},
            hooks={"response": as_sent},
        )
        download(url, sent, None)
    finally:
        if bar:
            bar.close()
        for response in responses:
            response.close()


class _WrongBytes(Exception):
    """A mirror answered, but with something else than the file."""


class _Sent:
    """What a mirror sends, written into ``file``, counted and hashed; no more than the published size is taken."""

    def __init__(self, published):
        import hashlib

        self.file = None
        self.published = published
        self.began = False
        self.size = 0
        self.head = b""
        self.sums = {"md5": hashlib.md5(usedforsecurity=False), "sha256": hashlib.sha256()}

    def write(self, piece):
        self.head = self.head or piece[:256]
        self.size += len(piece)
        if self.size > self.published.size:
            raise _WrongBytes(f"sent {self._kind()}more than the {self.published.size:,} bytes of the file")
        for each in self.sums.values():
            each.update(piece)
        self.file.write(piece)

    def flush(self):
        """pooch calls it after every piece; the file is flushed once, at its end."""

    def check(self):
        if self.size != self.published.size:
            raise _WrongBytes(f"sent {self._kind()}{self.size:,} bytes instead of {self.published.size:,}")
        for name, each in self.sums.items():
            right, found = getattr(self.published, name), each.hexdigest()
            if found != right:
                raise _WrongBytes(f"sent {self._kind()}other bytes: their {name} is {found} instead of {right}")

    def _kind(self):
        start = self.head.lstrip().lower()
        return "a page of HTML, " if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")) else ""


def _answer(error, sent):
    """What happened, in a few words."""
    response, kind = getattr(error, "response", None), type(error).__name__
    if response is not None:
        return f"answered {response.status_code} ({response.reason})"
    if sent.began:
        return f"broke off before all {sent.published.size:,} bytes were here ({kind})"
    text = f"could not be reached ({kind}: {error}"
    return f"{text[:300]})"
