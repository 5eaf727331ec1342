"""Files that programs name: opened only where they are regular ones.

A pipe without a writer lets its reader wait for ever, one without a reader its writer, and a device may have no end.
"""

import errno
import os
import stat


def open_regular(path, refused):
    """(binary file to be read, its size in bytes) of a regular file; ``refused(what)`` is raised for any other.

    Waits for nobody.  OSError if it cannot be opened, IsADirectoryError among them.  What says that it has no bytes has
    none: some files in /proc do, and block whoever reads them.  So read no more than the size, and a byte to see
    whether it grows.
    """
    path = os.fspath(path)
    _require_regular(path, os.stat(path), refused)  # before it is opened: opening alone does things to some devices
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        about = os.fstat(descriptor)
        _require_regular(path, about, refused)  # what was opened: it may be another one than a moment ago
        return os.fdopen(descriptor, "rb"), about.st_size
    except BaseException:
        os.close(descriptor)
        raise


def mode_of(path):
    """The permissions of a file that is to be written; None if there is none yet.

    OSError if there is something that is no regular file, or if the path is one of a folder ("x/", "x/.").
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


def _require_regular(path, about, refused):
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(about.st_mode):
        raise refused("is not a regular file")
