"""The scripts of examples/from_keras, run as they are, on a few pictures in the files of MNIST and CIFAR-10."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_datasets import idx_bytes, write_cifar10

import minicnn as mc
from minicnn.datasets import cifar10, mnist

SCRIPTS = Path(__file__).resolve().parent.parent / "examples" / "from_keras"


@pytest.fixture
def data(tmp_path):
    """A folder with both data sets: pictures of bars, whose place is the class."""
    (tmp_path / "mnist").mkdir()
    for images, labels, n in ((*mnist.FILES[:2], 1200), (*mnist.FILES[2:], 100)):
        x, y = bars(n, 28, 1)
        (tmp_path / "mnist" / images).write_bytes(idx_bytes(x[..., 0]))
        (tmp_path / "mnist" / labels).write_bytes(idx_bytes(y))
    (tmp_path / cifar10.FOLDER).mkdir()
    write_cifar10(tmp_path / cifar10.FOLDER, *bars(20, 32, 3))
    return tmp_path


def bars(n, side, channels):
    y = np.arange(n, dtype=np.uint8) % 10
    x = np.zeros((n, side, side, channels), np.uint8)
    for image, label in zip(x, y, strict=True):
        image[:, 2 * label + 4 : 2 * label + 6] = 255
    return x, y


def run(name, data):
    package = os.path.dirname(os.path.dirname(mc.__file__))
    environment = os.environ | {"PYTHONPATH": package, "PYTHONWARNINGS": "error", "MINICNN_DATA": str(data)}
    command = [sys.executable, str(SCRIPTS / name)]
    result = subprocess.run(command, cwd=data, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(("name", "least"), [("mnist_convnet.py", 0.9), ("cifar10_cnn.py", 0.0), ("residual.py", 0.0)])
def test_a_script_runs_as_it_is(name, least, data):
    """The two for CIFAR-10 see too few pictures here to learn anything: they run, and print a number."""
    out = run(name, data)
    accuracy = float(re.search(r"^Test accuracy: ([\d.e-]+)$", out, re.MULTILINE)[1])
    assert accuracy >= least
    assert re.search(r"^Test loss: [\d.e-]+$", out, re.MULTILINE)


def test_every_script_is_run_here():
    assert sorted(path.name for path in SCRIPTS.iterdir() if path.suffix) == [
        "cifar10_cnn.py", "mnist_convnet.py", "residual.py",
    ]  # fmt: skip


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.name)
def test_only_imports_are_ours(path):
    """The rest of a script is Keras's own, but for the block of the residual one."""
    _, _, code = path.read_text(encoding="utf-8").partition('"""\n\n')
    ours = [line for line in code.splitlines() if "minicnn" in line or "Residual" in line]
    residual = ["    return layers.Residual("] if path.name == "residual.py" else []
    assert [line for line in ours if not re.match("import |from ", line)] == residual
