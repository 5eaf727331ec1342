"""IDX, the file format of MNIST: a magic number that says dtype and rank, the sizes, then the values, big-endian.

    00 00 | type: 1 byte | rank: 1 byte | rank sizes of 4 bytes | values, last axis fastest

The layout is described on the MNIST page of Y. LeCun, C. Cortes and C. Burges.  Files may be packed with gzip.
"""

import math
import sys

import numpy as np

from minicnn import _files
from minicnn.datasets.errors import DataError

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_PIECE = 2**20  # bytes read at a time: gzip makes an object of what it is asked for
_DEFLATE_RATIO = 1032  # of unpacked to packed bytes; deflate cannot do better (RFC 1951: 258 bytes from 2 bits)


def read(path):
    """The array in the IDX file ``path``, plain or gzip, in the byte order of this machine.

    Reads exactly as many bytes as the header declares, and takes memory only if the file can hold them.  DataError,
    which names the file, if it is not IDX or not a regular file, is truncated or damaged, or has more bytes after the
    values; OSError if it cannot be read at all.
    """
    import gzip  # late, for the sake of ``import minicnn``
    import zlib

    raw, size = _files.open_regular(path, lambda what: DataError(path, what))
    with raw:
        packed = size > 0 and raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        available = size * (_DEFLATE_RATIO if packed else 1)
        try:
            return _parse(path, gzip.GzipFile(fileobj=raw) if packed else raw, available)
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(path, f"the gzip data are damaged ({error})") from error
        except EOFError as error:
            raise DataError(path, "the gzip data are truncated") from error


def _parse(path, file, available):
    magic = file.read(4) if available else b""
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or not 1 <= magic[3] <= 8:
        raise DataError(path, f"must begin with an IDX magic number; got {magic.hex(' ') or 'an empty file'}")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(path, "is truncated within its header")
    shape = tuple(map(int, np.frombuffer(sizes, ">u4")))
    dtype = np.dtype(_DTYPES[magic[2]])
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > available:
        raise DataError(path, f"is truncated: the header declares {shape}, {wanted} bytes, more than the file can hold")
    if math.prod(axis for axis in shape if axis) * dtype.itemsize > sys.maxsize:  # empty: NumPy leaves the zeros out
        raise DataError(path, f"declares {shape}, more than an array can have")
    values = np.empty(wanted, np.uint8)
    found = _fill(file, values)
    if found < wanted:
        raise DataError(path, f"is truncated: the header declares {shape}, {wanted} bytes; got {found}")
    if file.read(1):  # in a gzip file this also makes the reader compare the checksum
        raise DataError(path, f"has more bytes after the {wanted} that its header declares")
    found, native = values.view(dtype).reshape(shape), dtype.newbyteorder("=")
    return found if dtype == native else found.byteswap(inplace=True).view(native)


def _fill(file, values):
    """Reads into ``values`` until it is full or the file ends; the number of bytes."""
    view, done = memoryview(values), 0
    while done < len(view) and (count := file.readinto(view[done : done + _PIECE])):
        done += count
    return done
