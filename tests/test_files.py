"""Files that are written: there whole or not at all, also after errors and kills."""

import errno
import os
import stat
import subprocess
import sys

import pytest

from minicnn._files import write_atomically


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.npz"


def test_order_of_the_system_calls(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def traced_fsync(descriptor):
        calls.append("fsync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync file")
        if calls[-1] == "fsync file":
            assert os.fstat(descriptor).st_size == 5
        fsync(descriptor)

    def traced_replace(source, target):
        calls.append("replace")
        assert os.path.dirname(source) == os.path.dirname(target)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "replace", traced_replace)
    write_atomically(path, [b"he", b"llo"])
    assert path.read_bytes() == b"hello"
    assert calls == ["fsync file", "replace", "fsync folder"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["pieces", "fsync", "replace"])
def test_whatever_goes_wrong_the_old_file_stays(path, monkeypatch, place, error):
    path.write_bytes(b"old")

    def fail(*arguments):
        raise error

    def pieces():
        yield b"half"
        if place == "pieces":
            fail()

    if place != "pieces":
        monkeypatch.setattr(os, place, fail)
    with pytest.raises(type(error)):
        write_atomically(path, pieces())
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["m.npz"]


@pytest.mark.skipif(os.name != "posix", reason="permissions and links as POSIX has them")
def test_permissions_and_links(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "new", [b"1"])
        assert stat.S_IMODE(os.stat(tmp_path / "new").st_mode) == 0o640
        os.chmod(tmp_path / "new", 0o604)
        write_atomically(tmp_path / "new", [b"2"])
        assert stat.S_IMODE(os.stat(tmp_path / "new").st_mode) == 0o604
    finally:
        os.umask(before)
    (tmp_path / "folder").mkdir()
    os.symlink(tmp_path / "folder" / "target", tmp_path / "link")
    for content in (b"first", b"second"):
        write_atomically(tmp_path / "link", [content])
        assert os.path.islink(tmp_path / "link")
        assert (tmp_path / "folder" / "target").read_bytes() == content


def test_names_of_every_kind(tmp_path):
    for name in ("x" * 250, "ä" * 120, " ", "-", "a\nb", os.fsdecode(b"\xff.npz")):
        write_atomically(tmp_path / name, [b"1"])
        write_atomically(os.fsencode(tmp_path / name), [b"2"])
        assert (tmp_path / name).read_bytes() == b"2"
    assert len(os.listdir(tmp_path)) == 6
    with pytest.raises(TypeError):
        write_atomically(3, [b""])


@pytest.mark.skipif(os.name != "posix", reason="processes as POSIX has them")
def test_what_a_dead_process_left_is_swept_and_nothing_else(path, monkeypatch):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = []
    monkeypatch.setattr(os, "replace", lambda source, target: names.append(os.path.basename(source)))
    write_atomically(path, [b"1"])
    monkeypatch.undo()
    (temporary,) = names
    assert os.listdir(path.parent) == [temporary]
    dead = temporary.replace(f"-{os.getpid()}-", f"-{ended.pid}-")
    others = [temporary, temporary + "x", dead.replace("m.npz", "n.npz"), dead.replace(".m", "m"), "m.npz.tmp"]
    for name in [dead, *others]:
        (path.parent / name).write_bytes(b"left")
    write_atomically(path, [b"1"])
    assert sorted(os.listdir(path.parent)) == sorted([*others, "m.npz"])
