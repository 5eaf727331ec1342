"""How much memory training needs, beside PyTorch: the peak resident size of a process that does nothing else."""

import json
import subprocess
import sys

from benchmarks import rivals
from benchmarks.machine import table
from benchmarks.models import MODELS, in_minicnn, samples

TITLE = "Memory of training at batch 128, MB"
TEXT = """\
The peak resident size of a fresh process that trains for 8 steps on 512 images (VmHWM of Linux), and how much of it was
there after the imports. PyTorch: the layout that needs less.
"""
BATCH = 128


def run(quick=False, plots=None):
    rows = []
    for name in ("digits",) if quick else MODELS:
        ours = measured(name, "minicnn")
        theirs = [measured(name, layout) for layout in rivals.LAYOUTS] if rivals.have("torch") else []
        rows.append([name, *(megabytes(size) for size in ours), *(megabytes(size) for size in min(theirs, default=()))])
    head = ["network", "minicnn", "of it imports"] + ["PyTorch", "of it imports"] * rivals.have("torch")
    return TEXT + "\n" + table(head, rows)


def megabytes(size):
    return "" if size is None else f"{size / 1e6:.0f}"


def measured(name, who):
    """[peak, after the imports] in bytes, of a separate process."""
    command = [sys.executable, "-m", "benchmarks.memory", name, who]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def train(name, who):
    """What that process does."""
    shape, entries = MODELS[name]
    if who != "minicnn":
        import torch
    imported = peak()
    x, y = samples(shape, 4 * BATCH)
    if who == "minicnn":
        in_minicnn(entries).fit(x, y, batch_size=BATCH, epochs=2, verbose=0)
    else:
        twin = rivals.Torch(entries, shape, who)
        for _ in range(2):
            twin.epoch(twin.tensor(x), torch.from_numpy(y), BATCH)
    print(json.dumps([peak(), imported]))


def peak():
    """The most memory that this process ever held, in bytes; None where there is no /proc."""
    try:
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


if __name__ == "__main__":
    train(*sys.argv[1:])
