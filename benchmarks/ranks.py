"""Ranks of MPI: two of one thread beside one process of two, what their messages cost, and what more would bring.

Starts ``mpiexec`` by itself.  Before anything is timed, the ranks must have the fingerprint of a plain ``fit``.
"""

import functools
import importlib.metadata
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

import minicnn as mc
from benchmarks.machine import percent, table
from benchmarks.models import MODELS, in_minicnn, samples
from minicnn import cells
from minicnn.distributed import SLICED, nodes_of
from minicnn.layers import BatchNormalization
from minicnn.tree import walk

TITLE = "Ranks of MPI"
TEXT = """\
Epochs of ten steps of `fit(verbose=0)` at batch {batch}, in ms a step; both have given the same fingerprint before.
*Two ranks* have one thread each, *one process* has two; they take turns on this machine, over shared memory. *Exchange*
is the time within the exchanges of outputs, batch statistics and gradients, adding up included: of the rank that waits
less, and of the one that waits more, for the other's computation.
"""
ON_PAPER = """\
### On paper: more ranks

Nothing of this was measured with more than two ranks. A rank is a core like this machine's. Its step of n samples takes
a + b n, from steps of {small} and {batch} samples by one thread: that is the computation, of the largest part of the
batch. An exchange takes latency * log2(ranks) + bytes / bandwidth, and for every other rank, to which a message goes,
{overhead:.0f} us, which is what one exchange of 8 bytes took here between two ranks. A step has one exchange of the
outputs, two of the gradients (slices, then their sums), and two for each BatchNormalization; the bytes are those that a
rank receives. Assumed: {networks}; no rank is late, and
nothing else is on the network. A batch has as many parts as docs/distributed.md says: ranks beyond them do not count.

{detailed} at batch {large}, against one rank:
"""
PAYS = """\
The smallest batch, a power of two, at which so many ranks have at least half of so many times the speed of one ("-":
none up to {most}); each for {names}:
"""
SIX = ("lenet5", "keras_mnist", "torch_mnist", "keras_cifar", "norm_48_96", "resnet20")
BATCH, SMALL, LARGE, MOST, COUNTS = 128, 16, 1024, 65536, (4, 8, 16, 32, 64)
SAMPLES = 1280  # of the epoch that is timed
MARK = "measured: "  # libraries print lines of their own


class Network(NamedTuple):
    """An assumption: seconds, and bytes a second."""

    name: str
    latency: float
    bandwidth: float

    def __str__(self):
        return f"{self.name} with {1e6 * self.latency:.0f} us and {self.bandwidth / 1e9:.0f} GB/s"


NETWORKS = Network("Ethernet", 30e-6, 1e9), Network("InfiniBand", 2e-6, 10e9)


def run(quick=False, plots=None):
    if mpiexec() is None:
        return 'Not measured: mpi4py or mpich is not installed (extra "test").\n'
    found = {name: measured(name, quick) for name in (["digits"] if quick else SIX)}
    overhead = statistics.median(one["swap"] for one in found.values())
    detailed = "digits" if quick else "keras_cifar"
    facts = {"small": SMALL, "batch": BATCH, "overhead": 1e6 * overhead, "large": LARGE, "most": MOST}
    facts |= {
        "detailed": detailed,
        "networks": ", ".join(map(str, NETWORKS)),
        "names": ", ".join(one.name for one in NETWORKS),
    }
    return "\n".join([
        TEXT.format(**facts),
        table(["network", "two ranks", "one process", "speed of the ranks", "exchange", "share of the step", "messages",
               "kB received"], [measured_row(name, one) for name, one in found.items()]),
        ON_PAPER.format(**facts),
        table(["ranks", "computation, ms", *(f"exchange, ms, {one.name}" for one in NETWORKS),
               *(f"speed-up, {one.name}" for one in NETWORKS)],
              [paper_row(count, Model(found[detailed], overhead)) for count in COUNTS]),
        PAYS.format(**facts),
        table(["network", *(f"{count} ranks" for count in COUNTS)],
              [[name, *(smallest(count, Model(one, overhead)) for count in COUNTS)] for name, one in found.items()]),
    ])  # fmt: skip


def measured_row(name, one):
    ms = [f"{1e3 * one[key]:.3g}" for key in ("ranks", "process")]
    exchange = " to ".join(f"{1e3 * seconds:.2g}" for seconds in one["exchange"])
    share = " to ".join(percent(seconds / one["ranks"]) for seconds in one["exchange"])
    speed = f"{one['process'] / one['ranks']:.2f}"
    return [name, *ms, speed, exchange, share, f"{one['messages']:.0f}", f"{one['bytes'] / 1e3:.0f}"]


# ---- on paper ----


class Model:
    """The time of a step by the formulas of the text."""

    def __init__(self, one, overhead):
        self.one, self.overhead = one, overhead
        self.each = (one["alone"][1] - one["alone"][0]) / (BATCH - SMALL)
        self.fixed = max(0.0, one["alone"][0] - SMALL * self.each)

    def computation(self, batch, ranks=1):
        most = max(node.last - node.first for node, _ in nodes_of(batch, ranks))
        return self.fixed + self.each * most

    def exchange(self, batch, ranks, network):
        gradients, norms = self.one["gradients"], self.one["norms"]
        others, sliced = (ranks - 1) / ranks, ranks >= SLICED
        received = 4 * 10 * batch * others + gradients * (2 * others if sliced else ranks - 1)
        number = 1 + (2 if sliced else 1) + 2 * norms
        once = network.latency * math.log2(ranks) + self.overhead * (ranks - 1)
        return number * once + received / network.bandwidth

    def speed_up(self, batch, ranks, network):
        together = self.computation(batch, ranks) + self.exchange(batch, ranks, network)
        return self.computation(batch) / together


def paper_row(ranks, model):
    exchange = [f"{1e3 * model.exchange(LARGE, ranks, one):.2f}" for one in NETWORKS]
    gain = [f"{model.speed_up(LARGE, ranks, one):.1f}" for one in NETWORKS]
    return [ranks, f"{1e3 * model.computation(LARGE, ranks):.1f}", *exchange, *gain]


def smallest(ranks, model):
    batches = [*itertools.takewhile(lambda n: n <= MOST, (1 << k for k in range(4, 32)))]
    enough = [n for n in batches if 1 << cells.levels(n) >= ranks]
    found = [next((n for n in enough if model.speed_up(n, ranks, one) >= ranks / 2), "-") for one in NETWORKS]
    return ", ".join(map(str, found))


# ---- measured ----


@functools.cache
def mpiexec():
    """The one of the wheel mpich; None without it or mpi4py."""
    try:
        importlib.metadata.distribution("mpi4py")
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    path = next((Path(one.locate()).resolve() for one in files if one.name == "mpiexec"), None)
    return path if path is not None and path.exists() else None


def measured(name, quick):
    """What the first of two ranks has found, seconds a step."""
    path = mpiexec()
    libraries = [str(path.parent.parent / "lib"), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    environment = os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(libraries), "UCX_LOG_LEVEL": "fatal"}
    command = [path, "-n", "2", sys.executable, "-m", "benchmarks.ranks", name, str(int(quick))]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    return json.JSONDecoder().raw_decode(done.stdout.partition(MARK)[2])[0]


class Clock:
    """Times what ranks exchange: seconds, messages and bytes received since ``start``."""

    def __init__(self, ranks):
        self.depth = 0
        for name in ("swap", "collect", "add_up"):  # the last two call the first
            setattr(ranks, name, self.timed(getattr(ranks, name), name == "swap"))

    def start(self):
        self.seconds, self.messages, self.bytes = 0.0, 0, 0

    def timed(self, method, counts):
        def call(*arguments):
            if counts:
                out, into = arguments
                self.messages += sum(one is not None for one in out) - 1
                self.bytes += sum(one.nbytes for one in into[1:] if one is not None)
            begin, self.depth = time.perf_counter(), self.depth + 1
            try:
                return method(*arguments)
            finally:
                self.depth -= 1
                if not self.depth:
                    self.seconds += time.perf_counter() - begin

        return call


def rank(name, quick):
    """One of the two ranks; the first one also is the process that is compared."""
    from mpi4py import MPI

    comm, count, rounds = MPI.COMM_WORLD, 2 if quick else SAMPLES // BATCH, 2 if quick else 7
    shape, entries = MODELS[name]
    x, y = samples(shape, BATCH * count)
    together, alone = (in_minicnn(entries) for _ in range(2))
    for model in (together, alone):
        model.build(shape)
    together.distribute(comm)
    swap = small_swap(together.ranks)
    clock = Clock(together.ranks)

    def timed(model, threads, batch=BATCH):
        mc.set_num_threads(threads)
        begin = time.perf_counter()
        model.fit(x[: batch * count], y[: batch * count], batch, verbose=0)
        return (time.perf_counter() - begin) / count

    clock.start()
    times = {"ranks": [timed(together, 1)], "process": [], "small": [], "one": []}
    if not comm.rank:
        timed(alone, 2)
        assert together.fingerprint() == alone.fingerprint(), f"{name}: the ranks have not the weights of one process"
    exchange = []
    for number in range(rounds + 1):
        quiet(comm)
        clock.start()
        times["ranks"].append(timed(together, 1))
        exchange.append(clock.seconds / count)
        quiet(comm)
        if not comm.rank:
            times["process"].append(timed(alone, 2))
            times["small"].append(timed(alone, 1, SMALL))
            if number % 3 == 0:
                times["one"].append(timed(alone, 1))
    quiet(comm)
    of_both = comm.gather(exchange)
    if comm.rank:
        return
    found = {key: statistics.median(values[1:] or values) for key, values in times.items()}
    pairs = [sorted(pair) for pair in zip(*of_both, strict=True)][1:]
    norms = sum(isinstance(layer, BatchNormalization) for _, layer in walk(together.layers))
    found |= {"exchange": [statistics.median(one) for one in zip(*pairs, strict=True)], "swap": swap, "norms": norms}
    found |= {
        "messages": clock.messages / count,
        "bytes": clock.bytes / count,
        "gradients": 4 * together.count_params(),
    }
    print(MARK + json.dumps(found | {"alone": [found["small"], found["one"]]}), flush=True)


def small_swap(ranks, count=500):
    """Seconds of one exchange of 8 bytes."""
    out, into = np.zeros(1), [np.empty(1) for _ in range(ranks.size)]
    with ranks.together("benchmarks.ranks"):
        begin = time.perf_counter()
        for _ in range(count):
            ranks.swap([out] * ranks.size, into)
        return (time.perf_counter() - begin) / count


def quiet(comm):
    """A barrier that leaves the CPU to others."""
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(0.002)


if __name__ == "__main__":
    rank(sys.argv[1], sys.argv[2] == "1")
