"""Files that are damaged on purpose, knowing their structure, and saves that end in the middle.

Reading gives what was saved or one exception; it never takes much more memory than the file has bytes.
"""

import copy
import errno
import gzip
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from determinism import CHAINS
from models import LABELS, X, compiled
from programs import run

import minicnn as mc
from minicnn import ModelFileError, archive, datasets, saving
from minicnn._files import write_atomically
from minicnn.datasets import DataError
from minicnn.document import describe, to_json, write

posix = pytest.mark.skipif(os.name != "posix", reason="processes, permissions and limits as POSIX has them")
forks = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # beside threads, of which the child uses none
rounds = pytest.mark.parametrize("rounds", [2000, pytest.param(100_000, marks=pytest.mark.long)])


def in_child(function):
    """The exit status of a forked child that calls the function: 0 if it returns, 1 if it raises."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def put(path, data):
    """A new file: to write over an old one takes a file system many times as long."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def with_little_memory(call):
    """Evaluates the call in a new process that can take 32 MB more than it begins with; (status, errors)."""
    code, _, errors = run("-c", f"from test_hostile_files import *\nlimit_memory()\n{call}", timeout=3600)
    return code, errors


def limit_memory():
    if sys.platform.startswith("linux"):
        import resource

        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (32 << 20), -1))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as Linux has them")
def test_the_limit_on_memory_is_felt():
    code, errors = with_little_memory("np.ones(20 << 20, np.uint8); np.ones(40 << 20, np.uint8)")
    assert (code, "Unable to allocate 40.0 MiB" in errors) == (1, True)


# ---- model files ----

VALUES = [None, True, False, 0, 1, -1, 2, 3, 7, 2**15, 2**31, 2**32 - 1, 2**53, 2**63, 10**12, 10**30, -(2**63), 0.5,
          -0.5, 1e308, float("inf"), float("nan"), "", "a", "x" * 5000, "relu", "same", "softmax", "\0", "../../etc",
          "__class__", "é\ud800", [], {}, [[]], [3, 3], [0, 0], [10**9, 10**9, 1], [1] * 1000, {"a": 1}, "float64",
          "float16", "object", "Dense", "Flatten", "Dropout", "Evil"]  # fmt: skip


SECOND = [
    lambda: mc.layers.RandomTranslation(0.1, (-0.2, 0.3), "wrap"),
    lambda: mc.layers.RandomErasing((0.2, 0.5), fill_value=0.5, value_range=None),
    lambda: mc.layers.Reshape((4, 4, 2)),
    lambda: mc.layers.Conv2D(3, 2, kernel_initializer="he_normal", use_bias=False),
    lambda: mc.layers.LeakyReLU(0.1),
    lambda: mc.layers.Dropout(0.5, mode="classical"),
    lambda: mc.layers.SpatialDropout2D(0.2),
    lambda: mc.layers.DropBlock2D(0.2, 2),
    lambda: mc.layers.StochasticDepth(0.2, "batch"),
    lambda: mc.layers.AlphaDropout(0.2, noise_shape=(None, 1, 1, None)),
    lambda: mc.layers.GaussianDropout(0.3, seed=4),
    lambda: mc.layers.GroupNormalization(3, gamma_regularizer="l2"),
    lambda: mc.layers.LayerNormalization([2, 3], scale=False),
    lambda: mc.layers.GaussianNoise(0.1),
    lambda: mc.layers.Flatten(),
    lambda: mc.layers.DropConnect(6, 0.5, activation="tanh", kernel_regularizer="l2"),
    lambda: mc.layers.ReLU(1.0, 0.1),
    lambda: mc.layers.PReLU(alpha_constraint="max_norm"),
    lambda: mc.layers.Dense(6, activation=mc.layers.LeakyReLU(0.3)),
    lambda: mc.layers.Reshape((2, 3, 1)),
    lambda: mc.layers.GELU(),
    lambda: mc.layers.Activation("sigmoid"),
    lambda: mc.layers.GlobalMaxPooling2D(),
    lambda: mc.layers.Sigmoid(),
]


def sources():
    """(document, arrays) of checkpoints with every kind of layer."""
    models = [compiled(), compiled(optimizer=mc.optimizers.SGD(0.1, momentum=0.9, clipnorm=1.0))]
    models[0].fit(X, LABELS, batch_size=5, verbose=0)
    for chain, shape in ((CHAINS[0], (13, 11, 3)), (SECOND, (8, 4, 1))):  # the second of CHAINS is too large for this
        model = mc.Sequential([make() for make in chain], seed=3)
        model.compile(mc.optimizers.AdamW(mc.optimizers.CosineDecay(0.01, 20)), "huber")
        model.build(shape)
        models.append(model)
    for model in models:
        document, arrays = describe(model)
        state = model.optimizer.get_state()
        arrays |= {f"optimizer/{name}": value for name, value in state.items() if isinstance(value, np.ndarray)}
        counters = {name: value for name, value in state.items() if not isinstance(value, np.ndarray)}
        document["checkpoint"] = {"epoch": 2, "history": {"loss": [1.0, 0.5]}, "optimizer": counters}
        yield json.loads(to_json(document)), arrays


def places(node):
    """(container, key) of everything in a document."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield node, key
        if isinstance(value, dict | list):
            yield from places(value)


def damage_document(rng, document):
    container, key = rng.choice([*places(document)])
    kind = rng.randrange(6)
    if kind < 3:
        container[key] = copy.deepcopy(rng.choice(VALUES))
    elif kind == 3 and isinstance(container[key], int | float):
        container[key] = container[key] * rng.choice([2, -1, 10**6]) + rng.choice([1, 0, 0.5])
    elif kind == 4:
        del container[key]
    elif isinstance(container, dict):
        container[rng.choice(["", "units", "evil", "rate", "kernel_size", str(key) + "x"])] = container[key]
    else:
        container.insert(rng.randrange(len(container) + 1), copy.deepcopy(container[key]))


def damage_members(rng, members):
    name, other = rng.choice([*members]), rng.choice([*members])
    data = bytearray(members[name] or b"\0")
    kind = rng.randrange(7)
    if kind == 0:
        members[name], members[other] = members[other], members[name]
    elif kind == 1:
        del members[name]
    elif kind == 2:
        members[rng.choice(["x.npy", "../evil.npy", "", "é.npy", name + "x", "9.kernel.npy"])] = members[name]
    elif kind == 3:
        members[name] = bytes(data[: rng.randrange(len(data) + 1)])
    elif kind == 4:
        members[name] = bytes(data) + rng.randbytes(rng.choice([1, 4, 64]))
    elif kind == 5:  # in the header of an array, or at the beginning of the document
        data[rng.randrange(min(128, len(data)))] = rng.randrange(256)
        members[name] = bytes(data)
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        members[name] = bytes(data)


def damage_bytes(rng, data):
    """Of the archive: lengths, names, directory; places of the zip structure more often than others."""
    data = bytearray(data)
    marks = [found.start() for found in re.finditer(rb"PK[\1\3\5]", bytes(data))]
    start = rng.choice(marks) + rng.randrange(46) if rng.random() < 0.7 else rng.randrange(len(data))
    start = min(start, len(data) - 1)
    kind = rng.randrange(5)
    if kind < 2:
        data[start : start + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\1\0\0\0", rng.randbytes(4)])
    elif kind == 2:
        data[start] ^= 1 << rng.randrange(8)
    elif kind == 3:
        del data[start : start + rng.choice([1, 4, 50])]
    else:
        data[start:start] = data[start : start + rng.choice([1, 46, 200])]
    return bytes(data)


def damaged_file(rng, document, arrays):
    """Bytes of a file, most with a digest that fits what is in it."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice([0, 1, 1, 1, 2])):
        damage_document(rng, document)
    text = json.dumps(document, separators=(",", ":")).encode("ascii")
    npy = {f"{name}.npy": archive.npy_header(a.dtype, a.shape) + a.tobytes() for name, a in arrays.items()}
    members = {"model.json": text, **npy}
    for _ in range(rng.choice([0, 0, 1, 2])):
        damage_members(rng, members)
    body = b"".join(archive.pack(members))
    if rng.random() < 0.25:
        body = damage_bytes(rng, body)
    data = b"".join(archive.sealed([body]))
    return damage_bytes(rng, data) if rng.random() < 0.05 else data


@rounds
def test_damaged_checkpoints_are_models_or_sentences(rounds, tmp_path):
    assert with_little_memory(f"load_damaged({rounds}, Path({str(tmp_path / 'm.npz')!r}))") == (0, "")


def load_damaged(rounds, path):
    rng, kinds, refused = random.Random(1), [*sources()], 0
    for turn in range(rounds):
        put(path, damaged_file(rng, *kinds[turn % len(kinds)]))
        said = refusal(saving.load_checkpoint, path, ModelFileError)
        refused += said is not None
        assert said is None or len(said) < 1000 + len(str(path)), said
    assert 0.5 * rounds < refused < 0.99 * rounds  # some changes are another right model: the damage reaches all depths


def refusal(read, path, error):
    """The one line that an exception says of a file, None if it can be read; another exception is not caught."""
    try:
        read(path)
    except error as caught:
        said = str(caught)
        if said.startswith(f"{path}: ") and "\n" not in said:
            return said
        raise
    return None


# ---- data files ----


def idx_bytes(array):
    codes = {"u1": 0x08, "i2": 0x0B, "f4": 0x0D}
    head = bytes([0, 0, codes[array.dtype.str[1:]], array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def damage_idx(rng, data):
    """The head of the file more often than the values."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2])):
        kind, start = rng.randrange(5), rng.randrange(min(16, len(data)) if rng.random() < 0.7 else len(data))
        if kind == 0:
            data[start] = rng.choice([0, 1, 8, 9, 13, 14, 255, rng.randrange(256)])
        elif kind == 1:
            data[start : start + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\0\0\1\0", rng.randbytes(4)])
        elif kind == 2:
            del data[rng.randrange(len(data)) :]
        elif kind == 3:
            data += rng.randbytes(rng.choice([1, 100]))
        else:
            data[start] ^= 1 << rng.randrange(8)
        data = data or bytearray(b"\0")
    return bytes(data)


@rounds
def test_damaged_idx_files_are_arrays_or_sentences(rounds, tmp_path):
    assert with_little_memory(f"read_damaged({rounds}, Path({str(tmp_path / 'x.idx')!r}))") == (0, "")


def read_damaged(rounds, path):
    rng = random.Random(2)
    arrays = np.arange(60, dtype="u1").reshape(3, 4, 5), np.arange(60, dtype="f4"), np.ones((6, 10), "i2")
    refused = 0
    for turn in range(rounds):
        data, inside = idx_bytes(arrays[turn % 3]), rng.random() < 0.5  # of the packed data, or before they are packed
        data = damage_idx(rng, data) if inside else data
        data = gzip.compress(data, mtime=0) if turn % 2 else data
        put(path, data if inside else damage_idx(rng, data))
        refused += refusal(datasets.idx.read, path, DataError) is not None
    assert refused > 0.5 * rounds


def peak_memory(call):
    """By how many megabytes the call raises what a new process has taken at most; ``call`` may end in DataError."""
    code = (
        "import PIL.Image, PIL.PngImagePlugin\nfrom minicnn.datasets import DataError, idx, images\n"
        "peak = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) / 1024\nbefore = peak()\n"
        f"try: {call}\nexcept DataError: pass\nprint(peak() - before)"
    )
    status, out, errors = run("-c", code, timeout=300)
    assert (status, errors) == (0, "")
    return float(out)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc as Linux has it")
@pytest.mark.parametrize(
    ("mode", "size", "channels", "most"),
    [
        ("L", (7000, 7000), 1, 100),
        ("I;16", (7000, 7000), 1, 220),
        ("P", (7000, 7000), 1, 200),
        ("RGBA", (7000, 7000), 1, 320),
        ("RGBA", (1500, 32000), 3, 480),
        ("L", (1, 10_000_000), 1, 20),
    ],
)
def test_the_memory_that_a_picture_takes(mode, size, channels, most, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    picture, about = pillow.new(mode, size), {"transparency": 0} if mode in ("P", "I;16") else {}
    picture.save(tmp_path / "x.png", compress_level=1, **about)
    assert peak_memory(f"images.read_image({str(tmp_path / 'x.png')!r}, (8, 8, {channels}))") < most


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc as Linux has it")
@pytest.mark.parametrize("dtype", ["u1", ">f4"])
def test_the_memory_that_a_packed_idx_file_takes(dtype, tmp_path):
    pytest.importorskip("PIL.Image")
    with gzip.open(tmp_path / "x.gz", "wb", 1) as file:
        file.write(idx_bytes(np.zeros(100 << 20 >> (dtype == ">f4") * 2, dtype)))
    assert peak_memory(f"idx.read({str(tmp_path / 'x.gz')!r})") < 120


@pytest.mark.parametrize("rounds", [300, pytest.param(20_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "webp", "tiff", "ppm", "tga"])
@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it can still read
def test_damaged_images_are_images_or_sentences(rounds, ending, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    rng, path = random.Random(3), tmp_path / f"x.{ending}"
    pillow.fromarray(np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)).save(path)
    whole, refused = path.read_bytes(), 0
    for _ in range(rounds):
        put(path, damage_image(rng, whole))
        refused += refusal(read_picture, path, DataError) is not None
    assert refused > 0.2 * rounds


def read_picture(path):
    found = datasets.images.read_image(path, (12, 9, 3))
    assert found.shape == (12, 9, 3)
    assert found.dtype == np.uint8


def damage_image(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 3])):
        start = rng.randrange(min(len(data), 60) if rng.random() < 0.6 else len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[start] = rng.randrange(256)
        elif kind == 1:
            data[start : start + 4] = rng.randbytes(4)
        elif kind == 2:
            del data[start : start + rng.choice([1, 20, 10**6])]
        else:
            data[start:start] = rng.randbytes(rng.choice([1, 50]))
        data = data or bytearray(b"\0")
    return bytes(data)


# ---- no pickle ----


def test_no_file_of_the_package_knows_pickle():
    """Files are read without running anything in them.  ``copy`` and ``__getstate__`` are for models in memory."""
    package = Path(mc.__file__).parent
    for path in [*package.rglob("*.py"), *package.rglob("*.pyx")]:
        if path.name in ("processes.py", "distributed.py"):  # what processes of one program send each other
            continue
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"(?:import|from)\s+(?:\w+,\s*)*(?:c?[pP]ickle|dill|shelve|marshal|joblib)\b", text)
        assert not found, path
        assert not re.search(r"allow_pickle\s*=\s*(?!False)", text), path
        for call in re.findall(r"np\.load\([^\n]*", text):
            assert "allow_pickle=False" in call, f"{path}: {call}"


# ---- saves that do not end ----

SIZE = 300_000  # parameters: a save takes a few milliseconds


def filled(value):
    model = mc.Sequential([mc.layers.Dense(SIZE // 300, use_bias=False)])
    model.build((300,))
    model.parameters[:] = value
    return model


def save_for_ever(path, begun):
    model = filled(0)
    number = 0
    while True:
        number += 1
        model.parameters[:] = number
        write(path, *describe(model))  # without reading it first, which would take most of the time
        os.write(begun, number.to_bytes(8, "little"))


@posix
@pytest.mark.parametrize("kills", [25, pytest.param(500, marks=pytest.mark.long)])
@forks
def test_a_save_that_is_killed(kills, tmp_path):
    """The old file or the new one, whole; nothing lost that was said to be saved; no rubbish after the next save."""
    path, rng, left = tmp_path / "m.npz", random.Random(4), 0
    for _ in range(kills):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                save_for_ever(path, write)
            finally:
                os._exit(1)
        os.close(write)
        os.read(read, 8)  # the first is done
        time.sleep(rng.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with open(read, "rb") as pipe:
            said = pipe.read()
        last = int.from_bytes(said[-8:], "little") if said else 1
        values = np.unique(saving.load_model(path).parameters)
        assert len(values) == 1, "a torn file"
        assert last <= values[0] <= last + 1, "a save that was reported is lost"
        left += len(os.listdir(tmp_path)) - 1
    filled(0).save(path)
    assert os.listdir(tmp_path) == ["m.npz"]
    assert left > 0, "no kill hit a save: the test proves nothing"


def assert_save_fails(path, error, number):
    """Saving says that it failed, with the name; the old file stays whole and nothing is left beside it."""
    before, beside = path.read_bytes(), sorted(os.listdir(path.parent))
    with pytest.raises(error) as caught:
        filled(2).save(path)
    assert caught.value.errno == number
    assert caught.value.filename in (None, str(path)), "the name of the temporary file says nothing to anybody"
    assert path.read_bytes() == before
    assert sorted(os.listdir(path.parent)) == beside
    assert saving.load_model(path).parameters[0] == 1


@posix
@forks
def test_a_file_that_may_not_become_so_large(tmp_path):
    import resource

    path = tmp_path / "m.npz"
    filled(1).save(path)

    def save():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE, SIZE))
        assert_save_fails(path, OSError, errno.EFBIG)

    assert in_child(save) == 0


@posix
def test_a_disk_that_is_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by the administrator only")
    try:
        filled(1).save(disk / "m.npz")
        assert_save_fails(disk / "m.npz", OSError, errno.ENOSPC)
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.fixture
def folder():
    """A folder that everybody may read and only its owner may write into."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    path.chmod(0o755)
    shutil.rmtree(path)


@posix
@forks
def test_a_folder_that_may_not_be_written(folder):
    path = folder / "m.npz"
    filled(1).save(path)
    path.chmod(0o644)
    folder.chmod(0o555)

    def save():
        if os.getuid() == 0:  # whom no permission stops
            os.setgid(65534)
            os.setuid(65534)
        assert_save_fails(path, PermissionError, errno.EACCES)

    assert in_child(save) == 0


@posix
def test_a_folder_that_vanishes_during_a_save(tmp_path):
    path = tmp_path / "folder" / "m.npz"
    path.parent.mkdir()

    def pieces():
        yield b"a"
        shutil.rmtree(path.parent)
        yield b"b"

    with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
        write_atomically(path, pieces())
    assert not path.parent.exists()
    with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
        filled(1).save(path)
    path.parent.mkdir()
    filled(1).save(path)
    assert stat.S_ISREG(path.stat().st_mode)
