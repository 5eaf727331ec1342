"""Downloads: from a server on this machine, which misbehaves in every way that a mirror, a network and a disk can."""

import contextlib
import errno
import gzip
import hashlib
import http.server
import io
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from test_datasets import cifar_archive, idx_bytes

import minicnn as mc
from minicnn import datasets
from minicnn.datasets import DownloadError, catalogue, cifar10, cifar100, downloads, fashion_mnist, kmnist, mnist

pooch = pytest.importorskip("pooch")
NAMES = ("mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100")


class Handler(http.server.BaseHTTPRequestHandler):
    """The first part of a path says what becomes of the file that the rest names."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        _, way, name = self.path.split("/")
        server.asked.append(self.path)
        data = server.files.get(name, b"")
        if way in ("404", "500", "503"):
            return self.answer(b"<html>no</html>", int(way), {"Content-Type": "text/html"})
        if way == "html":
            page = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"
            return self.answer(page, headers={"Content-Type": "text/html"})
        if way == "wrong":
            return self.answer(bytes([data[0] ^ 1]) + data[1:])
        if way == "short":
            return self.answer(data[:-1])
        if way == "long":
            return self.answer(data + bytes(2**20))
        if way == "encoded":  # as some servers do with every file that ends in .gz
            return self.answer(data, headers={"Content-Encoding": "x-gzip"})
        if way == "moved":
            return self.answer(b"", 302, {"Location": f"/good/{name}"})
        if way in ("cut", "held"):
            self.answer(data[: len(data) // 2], length=len(data))
            server.half.set()
            if way == "held":
                server.released.wait(60)
            self.close_connection = True
            return None
        if way == "odd":
            return self.answer(data, length="many")
        return self.answer(data)

    def answer(self, data, status=200, headers=None, length=None):
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(data)
            self.wfile.flush()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """On loopback, and asked directly whatever proxies this machine has; downloads are allowed."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.delenv("MINICNN_OFFLINE", raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.handle_error = lambda *_: None  # who has enough hangs up
        found.files, found.asked = {}, []
        found.half, found.released = threading.Event(), threading.Event()
        found.url = f"http://127.0.0.1:{found.server_port}"
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.released.set()
        found.shutdown()
        thread.join()


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The empty folder that MINICNN_DATA names."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("MINICNN_DATA", str(folder))
    return folder


def remote(name, content):
    """``content`` as a published file: what a real table says, with its own sums."""
    return downloads.Remote(name, len(content), hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest())


def files_of(name):
    """{file: bytes} of a small data set in the form of the real one."""
    rng = np.random.default_rng(0)
    if name == "cifar10":
        return {cifar10.FORM.archive: cifar_archive(cifar10.FORM)}
    if name == "cifar100":
        return {cifar100.FORM.archive: cifar_archive(cifar100.FORM)}
    x, y = rng.integers(0, 256, (6, 28, 28), np.uint8), rng.integers(0, 10, 6, np.uint8)
    arrays = (x, y, x[:3], y[:3])
    return {f"{file}.gz": gzip.compress(idx_bytes(a), mtime=0) for file, a in zip(mnist.FILES, arrays, strict=True)}


def publish(monkeypatch, server, name, *ways, files=None):
    """Makes the server the only mirrors of a data set, one for each way; the table of sums is that of its files."""
    files = files_of(name) if files is None else files
    server.files.update(files)
    module = getattr(datasets, name)
    mirrors = tuple(way if "://" in way else f"{server.url}/{way}/" for way in ways or ("good",))
    table = tuple(remote(file, content) for file, content in files.items())
    monkeypatch.setattr(module, "SOURCE", module.SOURCE._replace(files=table, mirrors=mirrors))
    return module


def left(folder):
    """The files below a folder, hidden and temporary ones too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


# ---- what is published ----


def test_the_tables_are_whole():
    """Sums of the right length, all of them different, from mirrors that are folders; the pictures' sizes are known."""
    sums, sources = [], [getattr(datasets, name).SOURCE for name in NAMES]
    for source in sources:
        assert source.name in source.folders
        assert len(source.mirrors) >= 2
        assert all(re.fullmatch(r"https?://[\w./~-]+/", mirror) for mirror in source.mirrors)
        assert source.mirrors[0].startswith("https://")
        for file in source.files:
            assert re.fullmatch(r"[0-9a-f]{32}", file.md5)
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            sums += [file.md5, file.sha256]
    assert len(sums) == len(set(sums)) == 2 * (3 * 4 + 2)
    assert [round(source.size / 1e6) for source in sources] == [12, 31, 21, 170, 169]
    assert [len(source.class_names) for source in sources] == [10, 10, 10, 10, 100]
    assert len(cifar100.COARSE_CLASSES) == 20
    assert list(cifar100.CLASSES) == sorted(set(cifar100.CLASSES))


def test_nothing_is_downloaded_at_import():
    """Not even what would be used to."""
    code = (
        "import sys, socket\nsocket.socket.connect = None\nimport minicnn.datasets\n"
        "print({'pooch', 'requests', 'tqdm', 'tarfile', 'hashlib', 'gzip'} & set(sys.modules))"
    )
    environment = {key: value for key, value in child_environment().items() if key != "MINICNN_OFFLINE"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "set()"


# ---- what goes well ----


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_is_downloaded_once(name, server, data, monkeypatch):
    module = publish(monkeypatch, server, name)
    (x, y), (x_test, y_test) = first = module.load_data(verbose=0)
    assert {x.dtype, x_test.dtype} == {np.dtype("uint8")}
    assert {y.dtype, y_test.dtype} == {np.dtype("int64")}
    assert x.shape[1:] == x_test.shape[1:] == ((32, 32, 3) if "cifar" in name else (28, 28, 1))
    assert y.shape == (len(x),)
    assert y_test.shape == (len(x_test),)
    assert left(data) == sorted(f"{name}/{file.name}" for file in module.SOURCE.files)
    for file in left(data):
        assert (data / file).read_bytes() == server.files[file.split("/")[1]]
    asked = len(server.asked)
    assert asked == len(module.SOURCE.files)
    again = module.load_data(verbose=0)
    folder = module.load_data(path=data / name, verbose=0)
    for other in (again, folder):
        assert all(np.array_equal(a, b) for p, q in zip(first, other, strict=True) for a, b in zip(p, q, strict=True))
    assert len(server.asked) == asked


@pytest.mark.parametrize("way", ["encoded", "moved"])
def test_ways_to_send_a_file(way, server, data, monkeypatch):
    module = publish(monkeypatch, server, "mnist", way)
    assert len(module.load_data(verbose=0)[0][0]) == 6


def test_only_what_is_missing_is_downloaded(server, data, monkeypatch):
    module = publish(monkeypatch, server, "kmnist")
    module.load_data(verbose=0)
    (data / "kmnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    server.asked.clear()
    module.load_data(verbose=0)
    assert server.asked == ["/good/t10k-labels-idx1-ubyte.gz"]


def test_without_minicnn_data_the_cache_of_pooch_is_used(server, tmp_path, monkeypatch):
    monkeypatch.delenv("MINICNN_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda program: tmp_path / "cache" / program)
    module = publish(monkeypatch, server, "mnist")
    module.load_data(verbose=0)
    assert len(left(tmp_path / "cache" / "minicnn" / "mnist")) == 4
    assert datasets.info("mnist").here


@pytest.mark.parametrize("bad", ["404", "500", "html", "wrong", "short", "long", "cut", "odd", "dead"])
def test_the_second_mirror_helps_out(bad, server, data, monkeypatch):
    module = publish(monkeypatch, server, "mnist", closed_port() if bad == "dead" else bad, "good")
    assert len(module.load_data(verbose=0)[0][0]) == 6
    assert left(data) == sorted(f"mnist/{file.name}" for file in module.SOURCE.files)


@pytest.mark.parametrize(("verbose", "pattern"), [
    (0, r"\A\Z"), (1, r"train-images-idx3-ubyte\.gz: 100%.*B"),
    (2, r"\Adownloading http://127\.0\.0\.1:\d+/good/train-images-idx3-ubyte\.gz \(0\.0 MB\)\n(downloading .*\n){3}\Z"),
    ("auto", r"\A(downloading .*\n){4}\Z"),  # stderr is no terminal here
])  # fmt: skip
def test_progress(verbose, pattern, server, data, monkeypatch, capsys):
    module = publish(monkeypatch, server, "mnist")
    module.load_data(verbose=verbose)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(pattern, err), err


@pytest.mark.parametrize("name", NAMES)
def test_wrong_arguments(name, data):
    load_data = getattr(datasets, name).load_data
    with pytest.raises(ValueError, match=rf"^{name}\.load_data: verbose must be 'auto', 0, 1 or 2; got 3$"):
        load_data(verbose=3)
    with pytest.raises(TypeError):
        load_data(verbose=0, path=3)
    if name == "cifar100":
        with pytest.raises(ValueError, match="label_mode must be one of 'fine', 'coarse'; got 'fin'"):
            load_data("fin")


# ---- what goes wrong ----


def closed_port():
    """An address where nobody answers."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}/"


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize(("way", "message"), [
    ("404", r"\.gz answered 404 \(Not Found\)"), ("500", r"answered 500 \(Internal Server Error\)"),
    ("html", r"sent a page of HTML, (\d+ bytes instead of [\d,]+|more than)"),
    ("wrong", r"sent other bytes: their md5 is [0-9a-f]{32} instead of [0-9a-f]{32}"),
    ("short", r"sent [\d,]+ bytes instead of [\d,]+"), ("long", r"sent more than the [\d,]+ bytes of the file"),
    ("cut", r"broke off before all [\d,]+ bytes were here \(\w+\)"), ("odd", r"broke off before all [\d,]+ bytes"),
])  # fmt: skip
def test_a_mirror_that_fails_is_named_and_leaves_nothing(name, way, message, server, data, monkeypatch):
    module = publish(monkeypatch, server, name, way)
    with pytest.raises(DownloadError, match=message) as caught:
        module.load_data(verbose=0)
    text = str(caught.value)
    assert text.startswith(f"{name}.load_data: {module.SOURCE.files[0].name} could not be downloaded:\n")
    assert f"{server.url}/{way}/" in text
    assert f"looked in: {data}{os.sep}" in text
    assert "set MINICNN_DATA=DATA" in text
    assert left(data) == []


def test_every_mirror_is_in_the_message(server, data, monkeypatch):
    dead = closed_port()
    module = publish(monkeypatch, server, "fashion_mnist", dead, "404", "html")
    with pytest.raises(DownloadError) as caught:
        module.load_data(verbose=0)
    found = re.findall(r"^  (http://\S+) (.*?)[;.]$", str(caught.value), re.MULTILINE)
    assert [url.rpartition("/")[0] + "/" for url, _ in found] == [dead, f"{server.url}/404/", f"{server.url}/html/"]
    assert found[0][1].startswith("could not be reached (ConnectionError: ")
    assert isinstance(caught.value, FileNotFoundError)  # what a script that has another plan catches
    assert left(data) == []


def test_md5_and_sha256_must_both_be_right(server, data, monkeypatch):
    module = publish(monkeypatch, server, "mnist")
    right = module.SOURCE
    for name in ("md5", "sha256"):
        first = right.files[0]._replace(**{name: "0" * len(getattr(right.files[0], name))})
        monkeypatch.setattr(module, "SOURCE", right._replace(files=(first, *right.files[1:])))
        with pytest.raises(DownloadError, match=f"their {name} is .* instead of 000"):
            module.load_data(verbose=0)
        assert left(data) == []


def test_the_real_tables_refuse_other_bytes(server, data, monkeypatch):
    """The table is the published one, and the mirror has files of its own."""
    for name in NAMES:
        module = getattr(datasets, name)
        server.files.update(files_of(name))
        monkeypatch.setattr(module, "SOURCE", module.SOURCE._replace(mirrors=(f"{server.url}/good/",)))
        with pytest.raises(DownloadError, match=r"sent [\d,]+ bytes instead of [\d,]+"):
            module.load_data(verbose=0)
    assert left(data) == []


def packed(members, cut=None):
    """A .tar.gz of (TarInfo or name, bytes)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, content in members:
            info = tarfile.TarInfo(info) if isinstance(info, str) else info
            if info.isreg():
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue()[:cut], mtime=0)


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


RECORD = bytes(3073)
WHOLE = [(f"{cifar10.FOLDER}/{name}", RECORD) for name in cifar10.FILES]


@pytest.mark.parametrize(("content", "message"), [
    (packed([*WHOLE, ("../evil.bin", b"x")]), r"nothing but files in cifar-10-batches-bin/; got the entry '\.\./evil"),
    (packed([*WHOLE, ("/tmp/evil.bin", b"x")]), "got the entry '/?tmp/evil.bin'"),
    (packed([*WHOLE, (f"{cifar10.FOLDER}/../../evil.bin", b"x")]), "nothing but files in"),
    (packed([*WHOLE, (f"{cifar10.FOLDER}/deep/a.bin", b"x")]), "nothing but files in"),
    (packed([*WHOLE[1:], (link(WHOLE[0][0], "/etc/passwd"), b"")]), r"got the link 'cifar-10-batches-bin/data_batch_1"),
    (packed([*WHOLE, (link(f"{cifar10.FOLDER}/x", WHOLE[0][0], tarfile.LNKTYPE), b"")]), "got the link"),
    (packed([*WHOLE, (link(f"{cifar10.FOLDER}/x", "", tarfile.FIFOTYPE), b"")]), "got the entry"),
    (packed([*WHOLE, (link(f"{cifar10.FOLDER}/x", "", tarfile.GNUTYPE_SPARSE), b"")]), "got the entry"),
    (packed([*WHOLE, WHOLE[2]]), "has 'cifar-10-batches-bin/data_batch_3.bin' twice"),
    (packed(WHOLE[:-2]), r"must hold the files .*; data_batch_5.bin, test_batch.bin is not in it"),
    (packed(WHOLE)[:-30], "gzip data are truncated"),
    (packed(WHOLE, cut=5000), "not a readable tar archive|is not in it"),
    (packed(WHOLE)[:-8] + bytes(8), "gzip data are damaged"),
    (b"not packed at all", "gzip data are damaged"), (gzip.compress(b"no archive" * 99), "not a readable tar archive"),
    (packed([*WHOLE[:-1], (WHOLE[-1][0], RECORD[1:])]), r"records of 3073 bytes.*; got 3072 bytes"),
    (packed([*WHOLE[:-1], (WHOLE[-1][0], b"\x0a" + RECORD[1:])]), "labels from 0 to 9; got 10 in record 0"),
])  # fmt: skip
def test_archives_that_are_not_what_they_should_be(content, message, server, data, tmp_path, monkeypatch):
    """With sums that fit, as if they had been published: refused before they are kept, and where they lie here."""
    module = publish(monkeypatch, server, "cifar10", files={cifar10.FORM.archive: content})
    before = left(tmp_path)
    with pytest.raises(DownloadError, match=message) as caught:
        module.load_data(verbose=0)
    assert ".tmp" not in str(caught.value)
    assert left(tmp_path) == before == []
    (data / cifar10.FORM.archive).write_bytes(content)
    with pytest.raises(datasets.DataError, match=rf"cifar-10-binary\.tar\.gz(: \w+\.bin)?: .*({message})"):
        module.load_data(verbose=0)
    assert left(tmp_path) == [f"data/{cifar10.FORM.archive}"]


def test_an_archive_is_read_to_its_end(tmp_path, monkeypatch):
    """Behind the last member as well: there stands gzip's own sum."""
    monkeypatch.setattr("minicnn.datasets.cifar_form._PIECE", 512)
    path = tmp_path / cifar10.FORM.archive
    path.write_bytes(packed(WHOLE)[:-8] + bytes(8))
    with pytest.raises(datasets.DataError, match="gzip data are damaged"):
        cifar10.load_data(tmp_path)


def test_an_archive_that_would_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("minicnn.datasets.cifar_form._MOST", 100_000)
    path = tmp_path / cifar10.FORM.archive
    for more in ([("readme.html", bytes(200_000))], [(str(n), bytes(50_000)) for n in range(9)]):
        path.write_bytes(packed([*WHOLE, *((f"{cifar10.FOLDER}/{name}", content) for name, content in more)]))
        with pytest.raises(datasets.DataError, match=r"unpacks to more than|got the entry .*readme\.html"):
            cifar10.load_data(tmp_path)


@pytest.mark.parametrize(("content", "message"), [
    (gzip.compress(idx_bytes(np.zeros((6, 28, 28), np.uint8)))[:-9], "gzip data are truncated"),
    (gzip.compress(b"no images"), "must begin with an IDX magic number"),
    (gzip.compress(idx_bytes(np.zeros((6, 32, 32), np.uint8))), "images of shape"),
])  # fmt: skip
def test_packed_images_that_are_not_what_they_should_be(content, message, server, data, monkeypatch):
    files = files_of("mnist") | {"train-images-idx3-ubyte.gz": content}
    module = publish(monkeypatch, server, "mnist", files=files)
    with pytest.raises(DownloadError, match=message):
        module.load_data(verbose=0)
    assert left(data) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk(code, server, data, monkeypatch):
    """Of the second piece that is written: it is not the mirror's fault, and no other one is asked."""

    class Full:
        def __init__(self, file):
            self.file, self.pieces = file, 0

        def write(self, piece):
            self.pieces += 1
            if self.pieces > 1:
                raise OSError(code, os.strerror(code))
            return self.file.write(piece)

        def __getattr__(self, name):
            return getattr(self.file, name)

    real = downloads._files.replacing

    @contextlib.contextmanager
    def replacing(path):
        with real(path) as file:
            yield Full(file)

    monkeypatch.setattr(downloads._files, "replacing", replacing)
    monkeypatch.setattr(downloads, "_PIECE", 1000)
    module = publish(monkeypatch, server, "mnist", "good", "moved")
    with pytest.raises(OSError, match=r"mnist\.load_data: .* were to be downloaded\. MINICNN_DATA names ano") as at:
        module.load_data(verbose=0)
    assert at.value.errno == code
    assert not isinstance(at.value, DownloadError)
    assert os.strerror(code) in str(at.value)
    assert len(server.asked) == 1
    assert left(data) == []


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of the size of files, as Linux has it")
def test_a_real_write_that_fails(server, data, monkeypatch):
    publish(monkeypatch, server, "mnist")
    code = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n" + child_code("mnist")
    result = child(code)
    assert result.returncode == 1
    assert re.search(r"OSError: \[Errno 27\] mnist\.load_data: File too large; .*were to be downloaded", result.stderr)
    assert left(data) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions, and not the one who is above them")
def test_a_folder_that_may_not_be_written(server, data, monkeypatch):
    publish(monkeypatch, server, "mnist")
    data.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match=r"mnist\.load_data: Permission denied; .*MINICNN_DATA names another"):
            mnist.load_data(verbose=0)
    finally:
        data.chmod(0o700)
    assert left(data) == []


@pytest.mark.parametrize("call", ["makedirs", "open"])
def test_no_permission(call, server, data, monkeypatch):
    """As the system says it, which lets the owner of everything write everywhere."""

    def refused(path, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    publish(monkeypatch, server, "mnist")
    if call == "makedirs":
        monkeypatch.setattr(os, "makedirs", refused)
    else:
        monkeypatch.setattr("minicnn._files.open", refused, raising=False)
    with pytest.raises(PermissionError, match=r"mnist\.load_data: Permission denied; .*MINICNN_DATA names another"):
        mnist.load_data(verbose=0)
    assert left(data) == []


def test_a_file_where_the_folder_should_be(server, data, monkeypatch):
    publish(monkeypatch, server, "mnist")
    (data / "mnist").write_text("a file")
    with pytest.raises(FileExistsError, match=r"mnist\.load_data: .*MINICNN_DATA names another folder"):
        mnist.load_data(verbose=0)
    assert left(data) == ["mnist"]


# ---- without the network, and without pooch ----


@pytest.mark.parametrize("name", NAMES)
def test_offline(name, server, data, monkeypatch):
    module = publish(monkeypatch, server, name)
    monkeypatch.setenv("MINICNN_OFFLINE", "1")
    for call, where in ((module.load_data, f"{name}.load_data"), (lambda: datasets.fetch(name), "datasets.fetch")):
        with pytest.raises(FileNotFoundError, match=f"^{where}: needs the files .*MINICNN_OFFLINE for") as caught:
            call()
        text = str(caught.value)
        assert f"looked in: {', '.join(downloads.folders_of(module.SOURCE))}. " in text
        assert all(file in text for file in module.FILES)
        assert f"Get them from {module.SOURCE.home} (" in text
        assert "set MINICNN_DATA=DATA, or give the folder itself as path" in text
        assert not isinstance(caught.value, DownloadError)
    assert server.asked == []
    assert [*data.iterdir()] == []


@pytest.mark.parametrize(("value", "offline"), [("", False), ("0", False), ("1", True), ("yes", True)])
def test_values_of_offline(value, offline, monkeypatch):
    monkeypatch.setenv("MINICNN_OFFLINE", value)
    assert downloads.is_offline() == offline


def test_offline_reads_what_is_here(server, data, monkeypatch):
    module = publish(monkeypatch, server, "cifar100")
    module.load_data(verbose=0)
    monkeypatch.setenv("MINICNN_OFFLINE", "1")
    module.load_data(verbose=0)
    assert datasets.fetch("cifar100") == [str(data / "cifar100" / cifar100.FORM.archive)]


@pytest.mark.parametrize("folder", [True, False])
def test_without_pooch_the_error_says_what_to_install(folder, server, data, monkeypatch):
    publish(monkeypatch, server, "mnist")
    monkeypatch.setitem(sys.modules, "pooch", None)
    if not folder:
        monkeypatch.delenv("MINICNN_DATA")
    looked = f"{data}{os.sep}mnist, " if folder else "nowhere, because MINICNN_DATA is not set"
    message = rf'looked in: {re.escape(looked)}.*downloading them needs pooch: pip install "minicnn\[datasets\]"'
    with pytest.raises(ImportError, match=message):
        mnist.load_data(verbose=0)
    assert server.asked == []
    assert datasets.info("mnist").looked_in == (tuple(downloads.folders_of(mnist.SOURCE)) if folder else ())


# ---- processes ----


def child_environment():
    root = os.path.dirname(os.path.dirname(os.path.abspath(mc.__file__)))
    return os.environ | {"PYTHONPATH": root, "PYTHONWARNINGS": "error"}


def child_code(name):
    """Loads a data set in another process, from the mirrors and with the table of this one."""
    source = getattr(datasets, name).SOURCE
    files = ", ".join(f"downloads.{file!r}" for file in source.files)
    return (
        f"from minicnn.datasets import downloads, {name} as module\n"
        f"module.SOURCE = module.SOURCE._replace(files=({files},), mirrors={source.mirrors!r})\n"
        "(x, y), test = module.load_data(verbose=0)\nprint(len(x))\n"
    )


def child(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=child_environment(), capture_output=True, text=True, timeout=60, check=False)


def test_two_processes_at_once(server, data, monkeypatch):
    """Both have half of the same file at the same time; both end well."""
    publish(monkeypatch, server, "cifar100", "both")
    half = threading.Barrier(2, timeout=60)
    answer = Handler.answer

    def together(self, content, status=200, headers=None, length=None):
        answer(self, content[:1000], status, headers, len(content))
        half.wait()
        self.wfile.write(content[1000:])

    monkeypatch.setattr(Handler, "answer", together)
    command = [sys.executable, "-c", child_code("cifar100")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, env=child_environment(), **pipes) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out == "2\n"
    assert len(server.asked) == 2
    assert left(data) == [f"cifar100/{cifar100.FORM.archive}"]
    assert (data / "cifar100" / cifar100.FORM.archive).read_bytes() == server.files[cifar100.FORM.archive]


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_download_that_is_stopped_in_the_middle(number, server, data, monkeypatch):
    """Ctrl-C leaves nothing; what a kill leaves is removed by the next download."""
    publish(monkeypatch, server, "cifar10", "held")
    with subprocess.Popen([sys.executable, "-c", child_code("cifar10")], env=child_environment(), stderr=-1) as process:
        assert server.half.wait(60)
        deadline = time.monotonic() + 60
        while not left(data) and time.monotonic() < deadline:  # the first piece is being written
            time.sleep(0.01)
        assert len(left(data)) == 1
        process.send_signal(number)
        error = process.stderr.read()
    if number == signal.SIGINT:
        assert b"KeyboardInterrupt" in error
        assert left(data) == []
    assert len(left(data)) == (number == signal.SIGKILL)
    publish(monkeypatch, server, "cifar10", "good")
    cifar10.load_data(verbose=0)
    assert left(data) == [f"cifar10/{cifar10.FORM.archive}"]


# ---- the catalogue ----


def test_info_says_what_there_is(server, data, monkeypatch):
    everything = datasets.info()
    assert [*everything] == ["digits", *NAMES] == [*catalogue.NAMES]
    assert all(each.name == name and each.licence and each.citation and each.size for name, each in everything.items())
    assert [name for name, each in everything.items() if each.here] == ["digits"]
    assert everything["digits"].size < 60_000
    assert everything["cifar10"].class_names == cifar10.CLASSES
    assert everything["mnist"].looked_in == tuple(str(data / part) for part in ("mnist", ".", "MNIST/raw"))
    module = publish(monkeypatch, server, "mnist")
    module.load_data(verbose=0)
    found = datasets.info("mnist")
    assert found.here
    assert [Path(file).name for file in found.files] == [file.name for file in module.SOURCE.files]
    assert found.size == sum(map(len, server.files.values()))
    with pytest.raises(ValueError, match=r"^datasets\.info: name must be one of 'digits', .*; got 'minst'. Did you"):
        datasets.info("minst")


def test_fetch_downloads_and_names_the_files(server, data, monkeypatch, capsys):
    module = publish(monkeypatch, server, "fashion_mnist")
    files = datasets.fetch("fashion_mnist", verbose=0)
    assert files == [str(data / "fashion_mnist" / file.name) for file in module.SOURCE.files]
    assert datasets.fetch("fashion_mnist") == files
    assert len(server.asked) == 4
    assert datasets.fetch("digits") == [datasets.digits.FILE]
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match=r"^datasets\.fetch: name must be one of 'digits'"):
        datasets.fetch("imagenet")


def test_layouts_of_torchvision_are_found(data):
    for module, folder in ((mnist, "MNIST"), (fashion_mnist, "FashionMNIST"), (kmnist, "KMNIST")):
        (data / folder / "raw").mkdir(parents=True)
        for name, content in files_of("mnist").items():
            (data / folder / "raw" / name.removesuffix(".gz")).write_bytes(gzip.decompress(content))
        assert len(module.load_data()[0][0]) == 6
        assert datasets.info(module.SOURCE.name).here
