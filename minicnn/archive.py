"""A zip archive: the same members give the same bytes, and reading trusts nothing.

Nothing is compressed and all times are fixed.  The zip comment, the seal, holds the SHA-256 of everything before it.
``unpack`` takes only what ``pack`` and ``sealed`` would have written: the digest finds every accident, and the archive,
packed again from what was found in it, must have the same digest.
"""

import hashlib
import struct
import zlib

from minicnn import _files

LARGEST = 2**32 - 2**16  # bytes; beyond it a zip archive needs another layout
_SEAL = b"minicnn sha256 "
_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
_VERSION, _FLAGS, _STORED, _TIME, _DATE = 20, 0x800, 0, 0, 0x21  # names in UTF-8; 1980-01-01, the first day of zip


class Refused(Exception):
    """What is wrong with the file that is being read; the caller adds its name."""


def npy_header(dtype, shape):
    """What begins a .npy file of format 1.0: numpy.lib.format describes it."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {tuple(shape)}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("ascii")


def pack(members):
    """The bytes of a zip archive up to its comment, piece by piece, for {name: bytes}."""
    names = {name: name.encode("utf-8") for name in members}
    size = sum(76 + 2 * len(encoded) + len(members[name]) for name, encoded in names.items()) + 22
    if size > LARGEST or len(members) > 2**16 - 2:
        raise ValueError(f"model files can have 4 GB and 65,534 arrays; got {size} bytes and {len(members) - 1} arrays")
    offset, directory = 0, b""
    for name, data in members.items():
        encoded = names[name]
        about = _FLAGS, _STORED, _TIME, _DATE, zlib.crc32(data), len(data), len(data), len(encoded), 0
        yield _LOCAL.pack(b"PK\3\4", _VERSION, *about) + encoded
        yield data
        directory += _CENTRAL.pack(b"PK\1\2", _VERSION, _VERSION, *about, 0, 0, 0, 0, offset) + encoded
        offset += _LOCAL.size + len(encoded) + len(data)
    comment = len(_SEAL) + 64
    yield directory + _END.pack(b"PK\5\6", 0, 0, len(members), len(members), len(directory), offset, comment)


def _digest(pieces):
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest().encode("ascii")


def sealed(pieces):
    """The pieces, then the zip comment with their digest."""
    pieces = list(pieces)
    return [*pieces, _SEAL + _digest(pieces)]


def read(path):
    """All bytes of a regular file; a pipe or a device might never end."""
    file, size = _files.open_regular(path, Refused)
    with file:
        if size > LARGEST:
            raise Refused("is not a minicnn model file: it has more than 4 GB")
        return file.read(size)


def unpack(data):
    """{name: bytes} of a file that ``pack`` and ``sealed`` made, and of no other."""
    if not data:
        raise Refused("is empty")
    if not data.startswith(b"PK\3\4"):
        raise Refused("is not a minicnn model file")
    body, seal, stated = memoryview(data)[: -len(_SEAL) - 64], data[-len(_SEAL) - 64 : -64], data[-64:]
    if seal != _SEAL:
        raise Refused("is truncated, or is not a minicnn model file")
    if _digest([body]) != stated:
        raise Refused("is damaged: its bytes do not have the SHA-256 that it states")
    try:
        members = _members(body)
        canonical = _digest(pack(members)) == stated
    except (ValueError, struct.error) as error:
        raise Refused(f"is not a zip archive that minicnn wrote ({error})") from error
    if not canonical:
        raise Refused("is not laid out as minicnn writes its files")
    return members


def _members(body):
    members, start = {}, 0
    while body[start : start + 4] == b"PK\3\4":
        *_, size, _, length, _ = _LOCAL.unpack_from(body, start)
        begin = start + _LOCAL.size + length
        members[str(body[start + _LOCAL.size : begin], "utf-8")] = body[begin : begin + size]
        start = begin + size
    return members
