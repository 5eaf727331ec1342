"""Files: only regular files are opened, and a file that is written is there whole or not at all.

A pipe without a writer makes its reader wait for ever, one without a reader its writer, and a device may have no end.
"""

import contextlib
import errno
import os
import platform
import re
import stat
import zlib

from minicnn import _check


def open_regular(path, refused):
    """(binary file to be read, its size in bytes) of a regular file; ``refused(what)`` is raised for any other.

    Never waits.  OSError, such as IsADirectoryError, if it cannot be opened.  A file of size 0 counts as empty: some
    files in /proc have that size, and block their reader.  So read no more than the size, and one byte more to see
    whether the file has grown.
    """
    path = os.fspath(path)
    _require_regular(path, os.stat(path), refused)  # before it is opened: opening alone does things to some devices
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        about = os.fstat(descriptor)
        _require_regular(path, about, refused)  # what was opened: the path may name another file by now
        return os.fdopen(descriptor, "rb"), about.st_size
    except BaseException:
        os.close(descriptor)
        raise


def mode_of(path):
    """The permissions of a file that is to be written; None if there is none yet.

    OSError if there is something else than a regular file, or if the path is that of a folder ("x/", "x/.").
    """
    path = os.fsdecode(path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if not path:
            raise
        if os.path.basename(path) in ("", os.curdir, os.pardir):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", path)
    return stat.S_IMODE(mode)


OTHERS = {".keras": "Keras's", ".h5": "HDF5", ".hdf5": "HDF5"}  # endings that other programs go by


def require_own_name(where, path):
    """ValueError for the name of a file that says another format than ours, a .npz: others could not open it."""
    name = os.fsdecode(path)
    ending = os.path.splitext(name)[1].lower()
    if ending in OTHERS:
        stem = name[: -len(ending)].removesuffix(".weights")
        required = f"the file is a .npz, and its name must not say that it is {OTHERS[ending]}"
        raise ValueError(_check.message(where, required, name, f"Call it {stem + '.npz'!r}"))


def write_atomically(path, pieces):
    """Writes the bytes to ``path`` so that a reader sees the old file or the new one, whole, also after a crash."""
    with replacing(path) as file:
        for piece in pieces:
            file.write(piece)


@contextlib.contextmanager
def replacing(path):
    """A binary file to be written, which takes the place of ``path`` when the ``with`` block ends without an error.

    It is a temporary file in the same folder, ``name``, and is flushed to the disk before it takes the name (a link's
    target is replaced, not the link).  The permissions are those of the old file, or what the umask gives.  On any
    failure, OSError or Ctrl-C, the old file stays; what a killed process left behind is removed by the next write.
    """
    mode = mode_of(path)  # of the path as it was given: the real one has no slash at its end
    path = os.path.realpath(os.fsdecode(path))
    folder, prefix = _place(path)
    _sweep(folder, prefix)
    temporary = os.path.join(folder, f"{prefix}{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            if mode is not None:
                os.chmod(temporary, mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename == temporary:
            error.filename = path  # the name that the caller knows
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _require_regular(path, about, refused):
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(about.st_mode):
        raise refused("is not a regular file")


def remove(path):
    """Removes a file of ``write_atomically``, if it is there, and what killed processes left of it."""
    path = os.path.realpath(os.fsdecode(path))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    _sweep(*_place(path))


def _place(path):
    """(folder, how the names of temporary files begin) for the real path of a file."""
    folder, name = os.path.split(path)
    return folder, f".{name[:32]}-{zlib.crc32(platform.node().encode()):08x}-"  # processes have numbers on one computer


def _sweep(folder, prefix):
    """Removes temporary files of processes that have ended."""
    if os.name != "posix":  # there os.kill(pid, 0) would end the process
        return
    pattern = re.compile(re.escape(prefix) + r"(\d{1,9})-[0-9a-f]{8}\.tmp")
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if found := pattern.fullmatch(name):
                try:
                    os.kill(int(found[1]), 0)
                except ProcessLookupError:
                    os.unlink(os.path.join(folder, name))
                except OSError:
                    pass  # somebody else's, and alive
