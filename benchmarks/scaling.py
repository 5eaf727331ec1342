"""How the speed of training depends on threads, batch size, image size and channels."""

import minicnn as mc
from benchmarks import rivals, steps
from benchmarks.machine import side_by_side, table, threads_in_words
from benchmarks.models import MODELS

TITLE = "Scaling"
TEXT = """\
Training steps as above, in images a second; PyTorch is the better of its two layouts. Sizes and channels are those of a
network of two 3x3 convolutions with padding and as many filters as the image has channels, max-pool and dense 10.
"""


def run(quick=False, plots=None):
    counts = thread_counts(mc.get_num_threads())
    return "\n".join([
        TEXT,
        "### Threads, batch 128\n",
        table(["network", *(threads_in_words(n) for n in counts), *(f"speed-up with {n}" for n in counts[1:])],
              [threads(name, counts, quick) for name in (["digits"] if quick else MODELS)]),
        "### Batch size\n",
        beside("network, batch", batches(quick), quick),
        "### Size of the image, 32 channels, batch 32\n",
        beside("image", [(f"{s}x{s}", stack(s, 32), 32) for s in ((8,) if quick else (8, 16, 24, 32, 48, 64))], quick),
        "### Channels, 16x16, batch 32\n",
        beside("channels", [(c, stack(16, c), 32) for c in ((8,) if quick else (8, 16, 24, 32, 48, 64, 96, 128))],
               quick),
    ])  # fmt: skip


def thread_counts(most):
    """1, 2, 4 ... and the most that there are."""
    counts = [1]
    while 2 * counts[-1] < most:
        counts.append(2 * counts[-1])
    return [*counts, most] if most > 1 else counts


def threads(name, counts, quick):
    """The row of a network: images a second with each number of threads, and the gain over one."""
    count = 1 if quick else steps.SAMPLES // 128
    step = steps.epochs(*MODELS[name], 128, count)["minicnn"]

    def with_threads(n):
        mc.set_num_threads(n)
        step()

    try:
        times = side_by_side({n: lambda n=n: with_threads(n) for n in counts}, quick, rounds=9, burst=0)
    finally:
        mc.set_num_threads(counts[-1])
    speeds = [f"{128 * count / times[n].median:.0f}" for n in counts]
    return [name, *speeds, *(f"{times[1].median / times[n].median:.2f}" for n in counts[1:])]


def batches(quick):
    for name in ("digits", "keras_mnist"):
        for batch in (1, 8) if quick else (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
            yield f"{name}, {batch}", MODELS[name], batch


def stack(size, c):
    convolution = ("conv", c, 3, "same")
    return (size, size, c), [convolution, convolution, ("pool",), ("flatten",), ("dense", 10)]


def beside(head, cases, quick):
    """A table of images a second for (label, (shape, entries), batch)."""
    rows = []
    for label, network, batch in cases:
        count = 1 if quick else max(2, min(50, 256 // batch))
        times = side_by_side(steps.epochs(*network, batch, count), quick, rounds=7, burst=0)
        ours, theirs = times["minicnn"], steps.better(times, rivals.LAYOUTS)
        speeds = [f"{batch * count / timing.median:.0f}" if timing else "" for timing in (ours, theirs)]
        rows.append([label, *speeds, steps.shown(steps.ratio(theirs, ours))])
    return table([head, "minicnn", "PyTorch", "ratio"], rows)
