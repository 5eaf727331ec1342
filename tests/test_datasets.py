"""The data sets: what is in them, and that damaged files are refused by name."""

import gzip
import hashlib
import io
import os
import socket
import struct
import subprocess
import sys
import tarfile
import tracemalloc

import numpy as np
import pytest

from minicnn import datasets
from minicnn.datasets import DataError, batches, cifar10, cifar100, digits, idx, images, mnist, order, slices

# ---- digits ----


def test_digits_are_the_uci_file_in_its_order():
    (x, y), (x_test, y_test) = digits.load_data()
    assert [x.shape, y.shape, x_test.shape, y_test.shape] == [(1297, 8, 8, 1), (1297,), (500, 8, 8, 1), (500,)]
    assert {a.dtype for a in (x, x_test)} == {np.dtype("float32")}
    assert {a.dtype for a in (y, y_test)} == {np.dtype("int64")}
    grey = np.concatenate([x, x_test]) * 16
    labels = np.concatenate([y, y_test])
    assert grey.min() == 0
    assert grey.max() == 16
    assert (grey == np.rint(grey)).all()
    # UCI's own count of every class in the test part; the hash is that of its lines, 64 values and the label.
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    rows = np.column_stack([grey.reshape(1797, 64), labels]).astype(np.uint8)
    lines = "".join(",".join(map(str, row)) + "\n" for row in rows)
    assert hashlib.md5(lines.encode()).hexdigest() == "a0339c30a8a5312a1b6f9e5c719dcce5"


def test_digits_are_fresh_at_every_call():
    first = digits.load_data()
    arrays = [a for part in first for a in part]
    assert all(a.flags.owndata and a.flags.writeable and a.flags.c_contiguous for a in arrays)
    for array in arrays:
        array[...] = 7
    (x, y), (x_test, y_test) = digits.load_data()
    assert x.max() == x_test.max() == 1
    assert y.max() == y_test.max() == 9


# ---- idx ----


def idx_bytes(array, code=None):
    codes = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
    code = codes[array.dtype.str[1:]] if code is None else code
    head = struct.pack(">HBB", 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_idx_round_trip(tmp_path, dtype, pack):
    array = (np.arange(2 * 3 * 4).reshape(2, 3, 4) * 5).astype(dtype)
    file = tmp_path / "a.idx"
    file.write_bytes(pack(idx_bytes(array)))
    found = idx.read(file)
    assert found.dtype == np.dtype(dtype)
    assert found.dtype.isnative
    assert found.flags.writeable
    np.testing.assert_array_equal(found, array)


def test_idx_with_no_items_is_empty(tmp_path):
    file = tmp_path / "none"
    file.write_bytes(idx_bytes(np.zeros((0, 28, 28), np.uint8)))
    assert idx.read(file).shape == (0, 28, 28)
    file.write_bytes(b"\0\0\x0b\x03" + bytes(4) + b"\x20\0\0\0\xff\xff\xff\xff")  # one value less than 2^61
    found = idx.read(file)
    assert (found.shape, found.dtype) == ((0, 2**29, 2**32 - 1), np.int16)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_every_truncation_of_an_idx_file_is_refused(tmp_path, pack):
    file = tmp_path / "cut.idx"
    whole = pack(idx_bytes(np.arange(20, dtype=np.uint8).reshape(4, 5)))
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.idx: "):
            idx.read(file)


def test_a_flipped_bit_in_a_gzip_file_never_changes_the_values(tmp_path):
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    whole, file = gzip.compress(idx_bytes(array), mtime=0), tmp_path / "f.gz"
    refused = 0
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(idx.read(file), array)
        except DataError as error:
            assert "f.gz" in str(error)  # noqa: PT017 - either outcome is right, but for other values
            refused += 1
    assert refused > 8 * (len(whole) - 10)  # time stamp, operating system and such in gzip's header say nothing


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "magic number; got an empty file"),
        (b"<!doctype html>", "magic number; got 3c 21 64 6f"),
        (b"\0\0\x07\x01\0\0\0\0", "magic number"),
        (b"\0\0\x08\x00", "magic number"),
        (b"\0\0\x08\xff" + b"\0" * 2000, "magic number"),
        (b"\0\0\x08\x03\0\0\0\1", "truncated within its header"),
        (b"\0\0\x08\x01\0\0\0\2abc", "has more bytes after the 2 that"),
        (b"\0\0\x0e\x08" + b"\xff" * 32, "more than the file can hold"),
        (gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12), "more than the file can hold"),
        (gzip.compress(idx_bytes(np.arange(9, dtype=np.uint8))) + b"\0tail", "gzip data are damaged"),
        (b"\0\0\x08\x03" + bytes(4) + b"\xff" * 8, "more than an array can have"),
        (b"\0\0\x08\x03" + b"\xff" * 4 + bytes(4) + b"\xff" * 4, "more than an array can have"),
        (b"\0\0\x0e\x03" + b"\x40\0\0\0" * 2 + bytes(4), "more than an array can have"),
        (b"\0\0\x0b\x08" + b"\xff" * 28 + bytes(4), "more than an array can have"),
        (gzip.compress(b"\0\0\x0c\x03" + b"\xff" * 8 + bytes(4)), "more than an array can have"),
    ],
)
def test_hostile_idx_files(tmp_path, content, message):
    file = tmp_path / "x.idx"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        idx.read(file)
    assert str(file) in str(caught.value)


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    file = tmp_path / "bomb.gz"
    file.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x05hello" + bytes(20_000_000)))
    tracemalloc.start()
    with pytest.raises(DataError, match="has more bytes after the 5 that"):
        idx.read(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("read", [idx.read, lambda path: images.read_image(path, (8, 8, 1))], ids=["idx", "image"])
def test_what_cannot_be_opened_stays_an_os_error(tmp_path, read):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent")
    with pytest.raises(IsADirectoryError):
        read(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes as POSIX has them")
@pytest.mark.parametrize("read", [idx.read, lambda path: images.read_image(path, (8, 8, 1))], ids=["idx", "image"])
def test_what_could_go_on_for_ever_is_refused(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")  # without a writer: who opens it as a file waits for ever
    os.symlink("pipe", tmp_path / "link")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", tmp_path / "link", tmp_path / "socket", "/dev/zero", "/dev/null"):
            with pytest.raises(DataError, match=f"{path}: is not a regular file"):
                read(path)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux")
@pytest.mark.parametrize("read", [idx.read, lambda path: images.read_image(path, (8, 8, 1))], ids=["idx", "image"])
def test_what_says_that_it_is_empty_is_not_read(read):  # some files in /proc block their reader
    with pytest.raises(DataError, match="empty"):
        read("/proc/self/status")


# ---- mnist ----


def write_mnist(folder, pack=gzip.compress, ending=".gz", dash="-", n=(6, 3)):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part, count in zip(("train", "t10k"), n, strict=True):
        x, y = rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count, np.uint8)
        (folder / f"{part}-images{dash}idx3-ubyte{ending}").write_bytes(pack(idx_bytes(x)))
        (folder / f"{part}-labels{dash}idx1-ubyte{ending}").write_bytes(pack(idx_bytes(y)))


@pytest.mark.parametrize(("pack", "ending"), [(bytes, ""), (gzip.compress, ".gz")])
@pytest.mark.parametrize("dash", ["-", "."])
def test_mnist_from_a_folder(tmp_path, pack, ending, dash):
    write_mnist(tmp_path, pack, ending, dash)
    (x, y), (x_test, y_test) = mnist.load_data(tmp_path)
    assert x.shape == (6, 28, 28, 1)
    assert x_test.shape == (3, 28, 28, 1)
    assert {x.dtype, x_test.dtype} == {np.dtype("uint8")}
    assert {y.dtype, y_test.dtype} == {np.dtype("int64")}
    assert x.max() > 200
    assert y.shape == (6,)
    assert y_test.shape == (3,)


@pytest.mark.parametrize("below", ["mnist", "."])
def test_mnist_is_found_through_the_environment(tmp_path, monkeypatch, below):
    write_mnist(tmp_path / below)
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path))
    assert len(mnist.load_data()[0][0]) == 6


def test_mnist_not_found_says_where_it_looked_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("MINICNN_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)  # whose cache would be looked in
    with pytest.raises(FileNotFoundError, match=r"MINICNN_DATA is not set.*https://.*set\s+MINICNN_DATA"):
        mnist.load_data()
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        mnist.load_data()
    assert f"{tmp_path / 'mnist'}, {tmp_path}" in str(caught.value)
    write_mnist(tmp_path / "own")
    (tmp_path / "own" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="own"):
        mnist.load_data(tmp_path / "own")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-labels-idx1-ubyte.gz", np.zeros(5, np.uint8), r"train-labels.*one label for each of the 6 images"),
        ("train-labels-idx1-ubyte.gz", np.full(6, 10, np.uint8), r"train-labels.*labels from 0 to 9; got 10"),
        ("t10k-labels-idx1-ubyte.gz", np.zeros((3, 28, 28), np.uint8), r"t10k-labels.*labels of shape"),
        ("t10k-images-idx3-ubyte.gz", np.zeros(3, np.uint8), r"t10k-images.*images of shape"),
        ("t10k-images-idx3-ubyte.gz", np.zeros((3, 28, 28), np.int16), r"t10k-images.*uint8"),
    ],
)
def test_mnist_files_that_do_not_fit(tmp_path, name, array, message):
    write_mnist(tmp_path)
    (tmp_path / name).write_bytes(gzip.compress(idx_bytes(array)))
    with pytest.raises(DataError, match=message):
        mnist.load_data(tmp_path)


@pytest.mark.parametrize("pack", [bytes, lambda data: gzip.compress(data, 1), gzip.compress], ids=["plain", "1", "9"])
def test_mnist_is_known_by_its_unpacked_bytes(tmp_path, monkeypatch, pack):
    """Who packs the files again has other packed bytes; other images are not MNIST's, whatever the files are called."""
    write_mnist(tmp_path, bytes, "")
    contents = {name: (tmp_path / name).read_bytes() for name in mnist.FILES}
    sums = [hashlib.sha256(content).hexdigest() for content in contents.values()]
    monkeypatch.setattr(mnist, "UNPACKED", tuple(zip((6, 6, 3, 3), sums, strict=True)))
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path))
    for name, content in contents.items():
        (tmp_path / name).write_bytes(pack(content))
    right = mnist.load_data()[0][0]
    for name, content in contents.items():
        (tmp_path / name).write_bytes(pack(content[:-1] + bytes([content[-1] ^ 1])))
        message = "must hold the bytes of mnist, unpacked of SHA-256 [0-9a-f]{64}; got .* give its folder as path"
        with pytest.raises(DataError, match=f"{name}: {message}"):
            mnist.load_data()
        assert len(mnist.load_data(tmp_path)[0][0]) == 6  # whoever names the folder means it
        (tmp_path / name).write_bytes(pack(content))
    np.testing.assert_array_equal(mnist.load_data()[0][0], right)
    write_mnist(tmp_path, bytes, "", n=(5, 2))  # of another size: data of one's own
    assert len(mnist.load_data()[0][0]) == 5


# ---- order and batches ----


def test_order_is_a_permutation_that_seed_and_epoch_choose():
    orders = [order(100, seed, epoch) for seed in (0, 1, 2**64 - 1) for epoch in (0, 1, 2**32 - 1)]
    for found in orders:
        assert found.dtype == np.int64
        np.testing.assert_array_equal(np.sort(found), np.arange(100))
    assert len({found.tobytes() for found in orders}) == 9
    np.testing.assert_array_equal(order(100, 1, 1), orders[4])
    assert order(0).shape == (0,)
    assert order(1).tolist() == [0]


def test_the_order_never_changes():
    # Old runs must stay repeatable: these come from the first version.
    assert order(10, seed=0, epoch=0).tolist() == [1, 8, 5, 6, 3, 7, 0, 9, 2, 4]
    assert order(10, seed=3, epoch=2).tolist() == [9, 8, 2, 0, 7, 4, 3, 6, 5, 1]


def test_batches_follow_the_order():
    x, y = np.arange(50).reshape(10, 5), np.arange(10)
    parts = list(batches(x, y, batch_size=4, seed=5, epoch=2))
    assert [len(xb) for xb, _ in parts] == [4, 4, 2]
    rows = order(10, 5, 2)
    np.testing.assert_array_equal(np.concatenate([xb for xb, _ in parts]), x[rows])
    np.testing.assert_array_equal(np.concatenate([yb for _, yb in parts]), y[rows])
    plain = list(batches(x, y, batch_size=4, shuffle=False))
    np.testing.assert_array_equal(np.concatenate([xb for xb, _ in plain]), x)
    assert list(batches(x[:0], y[:0])) == []


@pytest.mark.parametrize(("n", "batch_size", "sizes", "kept", "dropped"), [
    (8, 4, [4, 4], [4, 4], [4, 4]), (9, 4, [4, 5], [4, 4, 1], [4, 4]), (10, 4, [4, 4, 2], [4, 4, 2], [4, 4]),
    (5, 4, [5], [4, 1], [4]), (3, 2, [3], [2, 1], [2]), (3, 1, [1, 1, 1], [1, 1, 1], [1, 1, 1]), (1, 1, [1], [1], [1]),
    (1, 4, [1], [1], None), (3, 4, [3], [3], None), (0, 4, [], [], []),
])  # fmt: skip
def test_slices(n, batch_size, sizes, kept, dropped):
    """A single sample that is left joins the batch before it; the slices follow each other from 0."""
    for drop_last, want in ((None, sizes), (False, kept), (True, dropped)):
        if want is None:
            match = f"^here: with drop_last=True there must be at least batch_size = {batch_size} samples; got {n}"
            with pytest.raises(ValueError, match=match):
                slices(n, batch_size, drop_last, "here")
            with pytest.raises(ValueError, match=r"^datasets\.batches: with drop_last=True there must be at least"):
                batches(np.arange(n), np.arange(n), batch_size, drop_last=True)
            continue
        found = slices(n, batch_size, drop_last)
        assert found == [*found] == found[:]
        assert (found == found[:-1]) is (want == [])
        assert [found[-1 - i] for i in range(len(want))] == [*reversed(found)]
        for beyond in (len(want), -len(want) - 1):
            with pytest.raises(IndexError):
                found[beyond]
        assert [part.stop - part.start for part in found] == want
        assert [part.start for part in found] == [0, *np.cumsum(want)][: len(found)]
        parts = [*batches(np.arange(n), np.arange(n), batch_size, seed=3, drop_last=drop_last)]
        assert [len(xb) for xb, _ in parts] == want
        assert [*np.concatenate([np.empty(0), *(xb for xb, _ in parts)])] == [*order(n, 3)[: sum(want)]]


def test_very_many_slices_take_no_memory():
    found = slices(2**50 + 1, 32)
    assert len(found) == 2**45
    assert found[-1] == slice(2**50 - 32, 2**50 + 1)
    assert repr(found) == f"<{2**45} slices of 32, to {2**50 + 1}>"
    x = np.broadcast_to(np.arange(3), (2**50, 3))
    assert next(batches(x, x, 4, shuffle=False))[0].shape == (4, 3)


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_are_fresh_arrays(shuffle):
    x, y = np.ones((4, 2)), np.ones(4)
    for xb, yb in batches(x, y, batch_size=2, shuffle=shuffle):
        xb[...] = yb[...] = 0
    assert x.all()
    assert y.all()


def test_batches_take_lists_and_read_only_memory_maps(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(12, dtype=np.uint8).reshape(6, 2))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    parts = list(batches(mapped, [0, 1, 2, 3, 4, 5], batch_size=6, shuffle=False))
    assert type(parts[0][0]) is np.ndarray
    assert parts[0][0].dtype == np.uint8
    assert parts[0][1].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, r"datasets\.batches: x and y must have the same number of samples; got shapes \(3,\) and \(2,\)",
         {"x": [1, 2, 3], "y": [1, 2]}),
        (ValueError, "same number of samples", {"x": 3, "y": 3}),
        (ValueError, "batch_size must be a whole number >= 1; got 0", {"batch_size": 0}),
        (TypeError, "batch_size", {"batch_size": 2.5}),
        (TypeError, "batch_size", {"batch_size": True}),
        (ValueError, "seed", {"seed": -1}),
        (ValueError, "seed", {"seed": 2**64}),
        (ValueError, "epoch", {"epoch": -1}),
        (TypeError, "shuffle", {"shuffle": None}),
        (TypeError, "x must be an array of numbers", {"x": ["a", "b"]}),
        (ValueError, "y must be a rectangular array", {"y": [[1], [2, 3]]}),
    ],
)  # fmt: skip
def test_batches_check_at_the_call_and_not_at_the_first_batch(error, message, arguments):
    with pytest.raises(error, match=message):
        batches(**{"x": [1, 2], "y": [1, 2], **arguments})


def test_order_checks_n():
    with pytest.raises(ValueError, match=r"datasets\.order: n must be a whole number >= 0; got -1"):
        order(-1)


# ---- images ----


@pytest.fixture
def pillow():
    return pytest.importorskip("PIL.Image")


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_images_come_as_grey_or_rgb(tmp_path, pillow, ending):
    file = tmp_path / f"a.{ending}"
    pillow.new("RGB", (6, 4), (200, 100, 0)).save(file)
    grey, colour = images.read_image(file, (4, 6, 1)), images.read_image(file, (4, 6, 3))
    assert grey.shape == (4, 6, 1)
    assert colour.shape == (4, 6, 3)
    assert {grey.dtype, colour.dtype} == {np.dtype("uint8")}
    assert np.abs(colour.astype(int) - [200, 100, 0]).max() <= 4
    assert np.abs(grey.astype(int) - round(0.299 * 200 + 0.587 * 100)).max() <= 4


def test_images_are_resized_to_means_of_areas(tmp_path, pillow):
    bits = np.random.default_rng(0).integers(0, 2, (8, 4, 8, 4)) * 240  # as the digits were made: means of 4 x 4 blocks
    pillow.fromarray(bits.reshape(32, 32).astype(np.uint8)).save(tmp_path / "big.png")
    np.testing.assert_array_equal(images.read_image(tmp_path / "big.png", (8, 8, 1))[..., 0], bits.mean((1, 3)))


def test_sixteen_bits_transparency_and_orientation(tmp_path, pillow):
    ramp = np.array([[0, 0x00FF], [0x1234, 0xFE01]], np.uint16)
    pillow.fromarray(ramp).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(images.read_image(tmp_path / "deep.png", (2, 2, 1))[..., 0], ramp >> 8)
    pillow.fromarray(np.zeros((2, 2, 4), np.uint8)).save(tmp_path / "clear.png")
    assert images.read_image(tmp_path / "clear.png", (2, 2, 1)).min() == 255
    turned = pillow.fromarray(np.array([[0, 0, 255, 255]] * 2, np.uint8).repeat(8, 0).repeat(8, 1))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    upright = images.read_image(tmp_path / "turned.jpg", (4, 2, 1))[..., 0]
    assert np.abs(upright.astype(int) - [[0, 0], [0, 0], [255, 255], [255, 255]]).max() < 10
    pillow.new("CMYK", (3, 3)).save(tmp_path / "cmyk.jpg")
    assert images.read_image(tmp_path / "cmyk.jpg", (3, 3, 3)).min() == 255


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16"])
def test_every_mode_becomes_every_number_of_channels(tmp_path, pillow, mode):
    pillow.new(mode, (3, 3), (90, 128, 128) if mode in ("YCbCr", "LAB") else None).save(tmp_path / "x.tiff")
    color = images.read_image(tmp_path / "x.tiff", (3, 3, 3))
    grey = np.asarray(pillow.fromarray(color).convert("L"))
    np.testing.assert_allclose(images.read_image(tmp_path / "x.tiff", (3, 3, 1))[..., 0].astype(int), grey, atol=1)
    rgba = images.read_image(tmp_path / "x.tiff", (3, 3, 4))
    assert (rgba[..., 3] == 0).all() if mode in ("LA", "RGBA") else (rgba[..., :3] == color).all()


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbagegarb", b"Exif\0\0", b"x", b"Exif\0\0MM\0*\xff\xff\xff\xff"])
@pytest.mark.filterwarnings("default")  # Pillow may warn of them
def test_damaged_exif_data_say_nothing(tmp_path, pillow, ending, exif):
    file, values = tmp_path / f"e.{ending}", np.full((8, 8), 200, np.uint8)
    pillow.fromarray(values).save(file, exif=exif)
    np.testing.assert_allclose(images.read_image(file, (8, 8, 1))[..., 0], values, atol=2)


@pytest.mark.parametrize("text", ["nonsense", "\nexif\n      4\nzzzz", "\nexif\n       8\n4578696600004d4d"])
def test_damaged_exif_data_in_text_say_nothing(tmp_path, pillow, text):
    about = pytest.importorskip("PIL.PngImagePlugin").PngInfo()
    about.add_text("Raw profile type exif", text)
    pillow.new("L", (8, 8), 200).save(tmp_path / "e.png", pnginfo=about)
    assert images.read_image(tmp_path / "e.png", (8, 8, 1)).min() == 200


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(tmp_path, pillow, orientation):
    ops = pytest.importorskip("PIL.ImageOps")
    picture = pillow.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8))
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "o.png", exif=exif)
    expected = np.asarray(ops.exif_transpose(pillow.open(tmp_path / "o.png")))
    np.testing.assert_array_equal(images.read_image(tmp_path / "o.png", expected.shape), expected)


def test_transparent_places_become_white_in_every_mode(tmp_path, pillow, monkeypatch):
    monkeypatch.setattr(images, "_STRIP", 10)  # several strips
    file, grey = tmp_path / "t.png", np.arange(35, dtype=np.uint8).reshape(5, 7)
    deep = grey.astype(np.uint16) * 256
    pillow.fromarray(deep).save(file, transparency=3 * 256)
    expected = np.where(grey == 3, 255, grey)
    np.testing.assert_array_equal(images.read_image(file, (5, 7, 1))[..., 0], expected)
    np.testing.assert_array_equal(images.read_image(file, (5, 7, 3))[..., 2], expected)
    pillow.fromarray(grey).save(file, transparency=3)
    np.testing.assert_array_equal(images.read_image(file, (5, 7, 1))[..., 0], expected)
    indexed = pillow.fromarray(grey, "L").convert("P")
    indexed.save(file, transparency=3)
    np.testing.assert_array_equal(images.read_image(file, (5, 7, 3))[..., 1], expected)
    alpha = np.stack([grey, np.where(grey == 3, 0, 255).astype(np.uint8)], -1)
    pillow.fromarray(alpha).save(file)
    np.testing.assert_array_equal(images.read_image(file, (5, 7, 1))[..., 0], expected)
    pillow.fromarray(np.stack([grey] * 3, -1)).save(file, transparency=(3, 3, 3))
    np.testing.assert_array_equal(images.read_image(file, (5, 7, 3))[..., 0], expected)


def area_means(values, height, width):
    """Exact means over areas, as numbers."""

    def weights(old, new):
        edges = np.arange(new + 1) * (old / new)
        shared = np.minimum(edges[1:, None], np.arange(1, old + 1)) - np.maximum(edges[:-1, None], np.arange(old))
        return np.maximum(shared, 0) / (old / new)

    down, across = weights(values.shape[0], height), weights(values.shape[1], width)
    return np.stack([down @ values[..., channel] @ across.T for channel in range(values.shape[2])], -1)


@pytest.mark.parametrize(("height", "width", "scale"), [(256, 256, 2), (300, 421, 2), (97, 130, 1), (330, 600, 4)])
@pytest.mark.parametrize("turned", [False, True])
def test_large_jpegs_are_decoded_small_and_no_worse(tmp_path, pillow, monkeypatch, height, width, scale, turned):
    rng, sizes = np.random.default_rng(0), []
    rough = [pillow.fromarray(rng.integers(0, 256, (n, n), np.uint8)).resize((width, height)) for n in (5, 23, 90)]
    values = np.stack([np.asarray(one) for one in rough], -1)
    picture, exif = pillow.fromarray(values), pillow.Exif()
    exif[0x0112] = 6 if turned else 1
    picture.save(tmp_path / "p.jpg", quality=95, exif=exif)
    whole = np.asarray(pillow.open(tmp_path / "p.jpg"))
    whole = np.ascontiguousarray(np.rot90(whole, -1)) if turned else whole
    flat = images._flat
    monkeypatch.setattr(
        images, "_flat", lambda path, picture, *rest: sizes.append(picture.size) or flat(path, picture, *rest)
    )
    for side in ((32, 32), (25, 45)):
        found = images.read_image(tmp_path / "p.jpg", (*side, 3))
        want = area_means(whole.astype(float), *side)
        resized = [pillow.fromarray(whole).resize(side[::-1], pillow.Resampling[way]) for way in ("BOX", "BILINEAR")]
        error, *theirs = (np.sqrt(np.mean((np.asarray(one, float) - want) ** 2)) for one in (found, *resized))
        assert error <= max(theirs)
    assert sizes[0] == (-(-width // scale), -(-height // scale))
    if (height, width) == (330, 600):
        shape = (60, 110, 3) if turned else (110, 60, 3)  # a tenth along one side, a third along the other
        images.read_image(tmp_path / "p.jpg", shape)
        assert sizes[-1] == (width, height)
    grey = images.read_image(tmp_path / "p.jpg", (32, 32, 1))[..., 0]  # is decoded without its colours
    colour = images.read_image(tmp_path / "p.jpg", (32, 32, 3)) @ [0.299, 0.587, 0.114]
    assert np.abs(grey - colour).mean() < 1


def test_proportions_are_kept_by_cropping_or_padding(tmp_path, pillow):
    values = np.arange(48, dtype=np.uint8).reshape(4, 12)[..., None].repeat(3, -1) + np.uint8(50)
    pillow.fromarray(values).save(tmp_path / "wide.png")
    pillow.fromarray(values.swapaxes(0, 1)).save(tmp_path / "tall.png")
    for name, turn in (("wide.png", lambda a: a), ("tall.png", lambda a: a.swapaxes(0, 1))):
        cropped = images.read_image(tmp_path / name, (4, 4, 3), crop_to_aspect_ratio=True)
        np.testing.assert_array_equal(turn(cropped), values[:, 4:8])
        padded = images.read_image(tmp_path / name, (12, 12, 3), pad_to_aspect_ratio=True)
        np.testing.assert_array_equal(turn(padded)[4:8], values)
        assert turn(padded)[:4].max() == turn(padded)[8:].max() == 0
        small = turn(images.read_image(tmp_path / name, (6, 6, 3), pad_to_aspect_ratio=True))
        np.testing.assert_allclose(small[2:4], values.reshape(2, 2, 6, 2, 3).mean((1, 3)), atol=0.5)
        assert small[:2].max() == small[4:].max() == 0
        same = [images.read_image(tmp_path / name, values.shape, **{how: True}) for how in
                ("crop_to_aspect_ratio", "pad_to_aspect_ratio")]  # fmt: skip
        if name == "wide.png":
            for one in same:
                np.testing.assert_array_equal(one, values)
    pillow.new("L", (3000, 2)).save(tmp_path / "thin.png")
    assert images.read_image(tmp_path / "thin.png", (8, 8, 1), pad_to_aspect_ratio=True).shape == (8, 8, 1)
    assert images.read_image(tmp_path / "thin.png", (8, 8, 1), crop_to_aspect_ratio=True).shape == (8, 8, 1)
    with pytest.raises(ValueError, match="of crop_to_aspect_ratio and pad_to_aspect_ratio only one can be True"):
        images.read_image(tmp_path / "wide.png", (8, 8, 1), True, True)


def test_small_pictures_grow_smoothly(tmp_path, pillow):
    pillow.fromarray(np.array([[0, 100]], np.uint8)).save(tmp_path / "s.png")
    row = images.read_image(tmp_path / "s.png", (1, 5, 1))[0, :, 0]
    assert row.tolist() == sorted(row)
    assert len(set(row.tolist())) > 2


def test_four_channels_keep_what_is_transparent(tmp_path, pillow):
    values = np.random.default_rng(0).integers(0, 256, (5, 5, 4), np.uint8)
    pillow.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.png", (5, 5, 4)), values)
    pillow.fromarray(values[..., 0]).save(tmp_path / "grey.png")
    assert (images.read_image(tmp_path / "grey.png", (5, 5, 4))[..., 3] == 255).all()
    padded = images.read_image(tmp_path / "a.png", (5, 9, 4), pad_to_aspect_ratio=True)
    assert padded[:, :2].max() == 0
    indexed = pillow.fromarray(values[..., 0]).convert("P")
    indexed.save(tmp_path / "p.gif", transparency=int(values[0, 0, 0]))
    assert images.read_image(tmp_path / "p.gif", (5, 5, 4))[0, 0, 3] == 0


def test_numbers_without_a_brightest_value_are_refused(tmp_path, pillow):
    pillow.fromarray(np.linspace(0, 1, 9, dtype=np.float32).reshape(3, 3)).save(tmp_path / "f.tiff")
    with pytest.raises(DataError, match=r"f\.tiff: holds 32-bit floats"):
        images.read_image(tmp_path / "f.tiff", (3, 3, 1))
    pillow.fromarray(np.full((3, 3), 2**20, np.int32)).save(tmp_path / "i.tiff")
    with pytest.raises(DataError, match=r"i\.tiff: holds 32-bit numbers"):
        images.read_image(tmp_path / "i.tiff", (3, 3, 3))
    pillow.fromarray(np.full((3, 3), 0x1234, np.int32)).save(tmp_path / "i.tiff")
    assert images.read_image(tmp_path / "i.tiff", (3, 3, 1)).max() == 0x12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_in_a_tiff_counts_once(tmp_path, pillow, orientation):
    ops = pytest.importorskip("PIL.ImageOps")
    picture = pillow.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8))
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "o.tiff", exif=exif)
    expected = np.asarray(ops.exif_transpose(pillow.open(tmp_path / "o.tiff")))
    np.testing.assert_array_equal(images.read_image(tmp_path / "o.tiff", expected.shape), expected)


def test_damaged_and_foreign_images_are_refused_by_name(tmp_path, pillow):
    rng = np.random.default_rng(0)
    pillow.fromarray(rng.integers(0, 256, (9, 9), np.uint8)).save(tmp_path / "whole.png")
    whole, file = (tmp_path / "whole.png").read_bytes(), tmp_path / "bad.png"
    for content in (b"", b"not an image", whole[:40], whole[: len(whole) // 2], b"GIF89a" + whole):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"bad\.png: is not a readable image"):
            images.read_image(file, (9, 9, 1))
    with pytest.raises(FileNotFoundError):
        images.read_image(tmp_path / "absent.png", (9, 9, 1))


def test_huge_images_are_refused_before_they_are_unpacked(tmp_path, pillow):
    pillow.new("1", (10_000, 6_000)).save(tmp_path / "huge.png")
    with pytest.raises(DataError, match="10000 x 6000 pixels"):
        images.read_image(tmp_path / "huge.png", (8, 8, 1))
    pillow.new("1", (1, 40_000)).save(tmp_path / "long.png")
    with pytest.raises(DataError, match="1 x 40000 pixels, more than 32768 along a side"):
        images.read_image(tmp_path / "long.png", (8, 8, 1))


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 2), (8, 8, 5), (64,)])
def test_models_that_take_no_images(tmp_path, shape):
    with pytest.raises(ValueError, match=r"shape must be \(height, width, 1\)"):
        images.read_image(tmp_path / "any.png", shape)


def test_without_pillow_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r'reading images needs Pillow: pip install "minicnn\[images\]"'):
        images.read_image(tmp_path / "any.png", (8, 8, 1))


def test_nothing_optional_is_imported_with_the_data_sets():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(datasets.__file__))))
    code = (
        f"import sys\nsys.path.insert(0, {root!r})\nimport minicnn.datasets\n"
        "assert not {'PIL', 'gzip', 'pooch', 'tarfile', 'urllib.request'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert datasets.__all__ == sorted(datasets.__all__)


# ---- cifar ----


def write_cifar10(folder, x, y):
    """The six files, with the same pictures in each."""
    records = np.concatenate([y[:, None].astype(np.uint8), x.transpose(0, 3, 1, 2).reshape(len(x), -1)], axis=1)
    for name in cifar10.FILES:
        (folder / name).write_bytes(records.tobytes())


def cifar_archive(form, n=2, seed=0, prefix=""):
    """The bytes of a .tar.gz like the published one, n pictures a file."""
    rng, buffer = np.random.default_rng(seed), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        folder = tarfile.TarInfo(prefix + form.folder)
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name in (*form.files, "readme.html"):
            labels = [rng.integers(0, len(classes), (n, 1)) for classes in form.classes]
            records = np.concatenate([*labels, rng.integers(0, 256, (n, 3072))], axis=1).astype(np.uint8).tobytes()
            member = tarfile.TarInfo(f"{prefix}{form.folder}/{name}")
            member.size = len(records)
            archive.addfile(member, io.BytesIO(records))
    return buffer.getvalue()


def test_cifar10_reads_the_binary_version(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (7, 32, 32, 3), np.uint8), rng.integers(0, 10, 7)
    folder = tmp_path / cifar10.FOLDER
    folder.mkdir()
    write_cifar10(folder, x, y)
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path))
    for (x_train, y_train), test in (cifar10.load_data(), cifar10.load_data(folder)):
        assert (x_train.shape, x_train.dtype, y_train.dtype) == ((35, 32, 32, 3), np.uint8, np.int64)
        assert np.array_equal(x_train, np.concatenate([x] * 5))
        assert np.array_equal(y_train, np.concatenate([y] * 5))
        assert np.array_equal(test[0], x)
        assert np.array_equal(test[1], y)
        assert x_train.flags.c_contiguous
        assert x_train.flags.writeable


@pytest.mark.parametrize("prefix", ["", "./"])
@pytest.mark.parametrize("module", [cifar10, cifar100])
def test_an_archive_is_read_as_its_files_are(tmp_path, monkeypatch, module, prefix):
    for folder in ("archive", "files"):
        (tmp_path / folder).mkdir()
    archive = tmp_path / "archive" / module.FORM.archive
    archive.write_bytes(cifar_archive(module.FORM, prefix=prefix))
    with tarfile.open(archive) as opened:
        for name in module.FILES:
            member = opened.extractfile(f"{prefix}{module.FOLDER}/{name}")
            (tmp_path / "files" / name).write_bytes(member.read())
    by_archive, by_files = (module.load_data(path=tmp_path / folder) for folder in ("archive", "files"))
    for part, other in zip(by_archive, by_files, strict=True):
        for array, same in zip(part, other, strict=True):
            np.testing.assert_array_equal(array, same)
            assert array.flags.writeable
            assert array.flags.c_contiguous
    assert len(by_archive[0][0]) == 2 * (len(module.FILES) - 1)
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path))
    (tmp_path / "archive").rename(tmp_path / module.SOURCE.name)
    np.testing.assert_array_equal(module.load_data()[1][0], by_files[1][0])


def test_cifar100_has_two_labels(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    coarse, fine = np.array([[19, 0, 7], [99, 3, 50]], np.uint8)
    records = np.concatenate([coarse[:, None], fine[:, None], x.transpose(0, 3, 1, 2).reshape(3, -1)], axis=1)
    for name in cifar100.FILES:
        (tmp_path / name).write_bytes(records.tobytes())
    for mode, labels in (("fine", fine), ("coarse", coarse)):
        for images_, y in cifar100.load_data(mode, tmp_path):
            np.testing.assert_array_equal(images_, x)
            np.testing.assert_array_equal(y, labels)
            assert y.dtype == np.int64
    np.testing.assert_array_equal(cifar100.load_data(path=tmp_path)[0][1], fine)
    for place, value, message in ((0, 20, "labels from 0 to 19; got 20 in record 2"), (1, 100, "0 to 99; got 100 in")):
        wrong = records.copy()
        wrong[2, place] = value
        (tmp_path / "test.bin").write_bytes(wrong.tobytes())
        with pytest.raises(DataError, match=rf"test\.bin: must have .*{message}"):
            cifar100.load_data(path=tmp_path)
    (tmp_path / "test.bin").write_bytes(bytes(3073))
    with pytest.raises(DataError, match="records of 3074 bytes, 2 labels and a picture each; got 3073"):
        cifar100.load_data(path=tmp_path)


def test_cifar10_says_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.delenv("MINICNN_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)  # whose cache would be looked in
    with pytest.raises(FileNotFoundError, match=r"looked in: nowhere, because MINICNN_DATA.*kriz/cifar\.html"):
        cifar10.load_data()
    write_cifar10(tmp_path, np.zeros((2, 32, 32, 3), np.uint8), np.array([3, 9]))
    for data, message in (
        (b"", "records of 3073 bytes, a label and a picture each; got 0 bytes"),
        (bytes(3072), "got 3072 bytes"),
        (bytes(3073) + b"\x0a" + bytes(3072), "labels from 0 to 9; got 10 in record 1"),
    ):
        (tmp_path / "data_batch_3.bin").write_bytes(data)
        with pytest.raises(DataError, match=rf"data_batch_3\.bin: .*{message}"):
            cifar10.load_data(tmp_path)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(FileNotFoundError, match="needs the files"):
        cifar10.load_data(tmp_path)
