"""What ``import minicnn`` costs on top of NumPy's own import."""

import os
import statistics
import subprocess
import sys

from benchmarks.machine import table

SCRIPT = "import time, numpy; begin = time.perf_counter(); import {0}; print(time.perf_counter() - begin)"


def run(quick=False):
    times = {name: [seconds(name) for _ in range(4 if quick else 16)][1:] for name in ("minicnn", "tqdm")}
    print("## Import on top of NumPy, ms (median, fastest; tqdm for comparison: imported when a bar is drawn)\n")
    print(table(["module", "median", "fastest"], [
        [name, f"{statistics.median(values) * 1e3:.1f}", f"{min(values) * 1e3:.1f}"] for name, values in times.items()
    ]))  # fmt: skip


def seconds(module):
    """With compiled bytecode, as pip leaves it: the first run writes it where that is not forbidden."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", SCRIPT.format(module)]
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
