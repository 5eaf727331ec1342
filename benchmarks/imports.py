"""What ``import minicnn`` costs on top of NumPy's own import, and how large its wheel is."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from benchmarks import rivals
from benchmarks.machine import table

TITLE = "Import and size"
SCRIPT = "import time, numpy; begin = time.perf_counter(); import {0}; print(time.perf_counter() - begin)"
ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("minicnn", "pyproject.toml", "setup.py", "README.md", "LICENSE")


def run(quick=False, plots=None):
    modules = ["minicnn", "tqdm", *(name for name in ("onnxruntime", "torch") if rivals.have(name))]
    times = {name: [seconds(name) for _ in range(3 if quick else 16)][1:] for name in modules[: 1 if quick else None]}
    text = "Import on top of NumPy, ms (minicnn imports tqdm when it draws its first bar)\n\n" + table(
        ["module", "median", "fastest"],
        [[name, f"{statistics.median(of) * 1e3:.1f}", f"{min(of) * 1e3:.1f}"] for name, of in times.items()],
    )
    return text if quick else f"{text}\n{wheel()}"


def seconds(module):
    """With compiled bytecode, as pip leaves it: the first run writes it where that is not forbidden."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", SCRIPT.format(module)]
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def wheel():
    """One sentence on the wheel that pip builds from these sources, in a separate folder."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        source.mkdir()
        for name in SOURCES:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, source / name)
        for built in [*source.rglob("*.so"), *source.rglob("*.c")]:
            built.unlink()
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", folder, str(source)]
        subprocess.run(command, check=True)
        (file,) = Path(folder).glob("*.whl")
        unpacked = sum(info.file_size for info in zipfile.ZipFile(file).infolist())
        return f"The wheel has {file.stat().st_size / 1e6:.2f} MB, {unpacked / 1e6:.2f} MB when installed.\n"
