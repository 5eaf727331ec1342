"""The archive: what it takes again is what it made, to the last byte."""

import zipfile

import numpy as np
import pytest

from minicnn import archive


@pytest.fixture
def members():
    """Of a model file: text, and arrays."""
    arrays = {"0.bias.npy": np.arange(3, dtype="<f4"), "1.kernel.npy": np.ones((2, 3), "<f8")}
    npy = {name: archive.npy_header(array.dtype, array.shape) + array.tobytes() for name, array in arrays.items()}
    return {"model.json": b"{}", **npy}


def whole(body):
    return b"".join(archive.sealed([body]))


def body_of(members):
    return b"".join(archive.pack(members))


def refused(data):
    with pytest.raises(archive.Refused, match=r"is not (laid out as minicnn|a zip archive that minicnn)"):
        archive.unpack(data)


def test_members_come_back(members):
    found = archive.unpack(whole(body_of(members)))
    assert [*found] == [*members]
    assert {name: bytes(data) for name, data in found.items()} == members


def test_every_flipped_bit_is_found(members):
    data = whole(body_of(members))
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(archive.Refused):
            archive.unpack(bytes(damaged))
    archive.unpack(data)


def rezip(path, members, change, **arguments):
    """The good archive, written again by zipfile with a difference, and sealed."""
    with zipfile.ZipFile(path, "w", **arguments) as file:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = file.compression
            change(file, info, content)
        file.comment = b"x" * 79
    return whole(path.read_bytes()[:-79])


def test_archives_that_minicnn_did_not_write(tmp_path, members):
    def plain(file, info, content):
        file.writestr(info, content)

    def twice(file, info, content):
        file.writestr(info, content)
        if info.filename == "0.bias.npy":
            with pytest.warns(UserWarning, match="Duplicate name"):
                file.writestr(info, content)

    def late(file, info, content):
        info.date_time = (2020, 1, 1, 0, 0, 0)
        file.writestr(info, content)

    def extra(file, info, content):
        info.extra = b"\x99\x99\x04\x00evil"
        file.writestr(info, content)

    def commented(file, info, content):
        info.comment = b"evil"
        file.writestr(info, content)

    for change in (plain, twice, late, extra, commented):
        refused(rezip(tmp_path / "m.npz", members, change))
    refused(rezip(tmp_path / "m.npz", members, plain, compression=zipfile.ZIP_DEFLATED))


def test_archives_with_holes_and_lies(members):
    body = body_of(members)
    central = body.index(b"PK\1\2")
    size = body[22:26]
    for wrong in (
        body[:central] + b"hole" + body[central:],
        body[:central],
        body.replace(size, b"\xff\xff\xff\xff", 1),
        body.replace(size, b"\0\0\0\0", 1),
        body[:30] + b"\xff" + body[31:],
        body[: central + 42] + b"\1" + body[central + 43 :],
        b"PK\3\4",
        b"PK\3\4" + bytes(26),
        b"PK\3\4" + bytes(26) + body,
    ):
        refused(whole(wrong))
