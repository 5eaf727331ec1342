"""Processes end: after an error and on Ctrl-C, on machines too where joblib's loky finds nothing to end them with."""

import functools
import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from programs import alive, environment

import minicnn as mc

joblib = pytest.importorskip("joblib")
pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks for processes in /proc")


@pytest.fixture(params=["as it is", "bare"])
def machine(request, tmp_path, monkeypatch):
    """The environment of a process: of this machine, and of one that has neither pgrep nor psutil."""
    if request.param == "bare":
        (tmp_path / "psutil.py").write_text("raise ImportError('hidden')")
        (tmp_path / "bin").mkdir()
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return environment()


def start(machine, tmp_path, *arguments):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    return subprocess.Popen([sys.executable, *arguments], start_new_session=True, env=machine, **pipes)


def end(process):
    """(return code, stdout, stderr); fails if the process goes on, or leaves others behind."""
    try:
        out, err = process.communicate(timeout=60)
        for _ in range(300):  # joblib's watchman of files ends a moment after the last of the others
            if not alive(process.pid):
                break
            time.sleep(0.1)
        assert alive(process.pid) == []
    finally:
        if alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, err


FAILS = """
import os, subprocess, sys, time
import numpy as np
import minicnn as mc

class Starts(mc.Layer):
    def forward(self, x, training=False):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open("started", "x").close()
        time.sleep(600)

class Waits(mc.Layer):
    def forward(self, x, training=False):
        while not os.path.exists("started"):
            time.sleep(0.01)
        return x + 0

    def backward(self, dy):
        return dy

def build(seed):
    more = {1: [Waits()], 2: [Starts()]}.get(seed, [])
    model = mc.Sequential([mc.layers.Dense(1), *more], seed=seed)
    model.compile(mc.optimizers.SGD(1e30 if seed == 1 else 0.01), "mse")
    return model

ensemble = mc.Ensemble([build, build, build])
x = np.ones((64, 3), "f4")
try:
    ensemble.fit(x, x[:, :1], n_jobs=3, batch_size=4, epochs=3)
except FloatingPointError as error:
    print(error)
good = mc.Ensemble([build, build], seed=3)
good.fit(x, x[:, :1], n_jobs=2)
print("and again")
"""


def test_an_error_ends_all_processes(machine, tmp_path):
    """Also those that other members are still being trained in, and the processes that these have started."""
    with start(machine, tmp_path, "-c", FAILS) as process:
        code, out, err = end(process)
    lines = out.splitlines()
    assert (code, len(lines), err) == (0, 2, ""), (out, err)
    assert lines[0].startswith("Ensemble.fit: member 1: Sequential.fit: step ")
    assert lines[1] == "and again"


@pytest.mark.parametrize("whole_group", [True, False], ids=["terminal", "kill"])
def test_ctrl_c_ends_the_command(whole_group, machine, tmp_path):
    """As a terminal sends it, to all processes, and as kill does, to the first one."""
    command = ["-m", "minicnn", "tune", "--repeats", "500", "--epochs", "1", "--jobs", "2"]
    with start(machine, tmp_path, *command) as process:
        lines = iter(process.stderr.readline, "")
        assert any(line.startswith("run ") for line in lines)
        assert len(alive(process.pid)) > 2
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
        code, _, err = end(process)
    assert code == 130, err
    assert "Traceback" not in err
    assert "Warning" not in err


# ---- arrays that joblib hands over: read-only ones, from a megabyte on, and such as lie in a file ----


def large(optimizer, seed):
    """All that it remembers takes more than a megabyte an array: parameters, slots, moving statistics."""
    chain = [mc.layers.BatchNormalization(), mc.layers.Dense(2)]
    model = mc.Sequential(chain, seed=seed)
    model.compile(mc.optimizers.Adam() if optimizer == "adam" else mc.optimizers.SGD(1e-7, momentum=0.9), "mse")
    return model


WIDTH = 300_000
XY = np.random.default_rng(0).random((6, WIDTH), dtype=np.float32), np.ones((6, 2), np.float32)


def everything(model):
    slots = [(name, slot.tobytes()) for name, slot in sorted(model.optimizer.slots.items())]
    return model.fingerprint(), model.optimizer.iterations, slots


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_large_members_are_trained_in_processes_with_the_same_bits(optimizer):
    """Those that have been trained before, which is when there is something to remember."""
    found = []
    for jobs in (1, 2):
        ensemble = mc.Ensemble([functools.partial(large, optimizer)] * 2)
        ensemble.fit(*XY, batch_size=3, verbose=0)
        ensemble.fit(*XY, batch_size=3, verbose=0, n_jobs=jobs)
        ensemble.fit(*XY, batch_size=2, verbose=0)
        found.append([everything(member) for member in ensemble.members])
    assert found[0] == found[1]


@pytest.mark.parametrize("mode", [None, "r", "r+", "c"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_models_out_of_mapped_files_are_trained_apart_from_them(optimizer, mode, tmp_path):
    model, path = large(optimizer, 0), tmp_path / "model.joblib"
    model.fit(*XY, batch_size=3, verbose=0)
    joblib.dump(model, path)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    loaded = joblib.load(path, mmap_mode=mode)
    for one in (model, loaded):
        one.fit(*XY, batch_size=2, verbose=0)
    assert everything(loaded) == everything(model)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
