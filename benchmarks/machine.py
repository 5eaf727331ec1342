"""What all parts share: facts about the machine, its limits, timing side by side, tables."""

import datetime
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

import minicnn as mc
from minicnn._ext.machinery import runtime


def facts():
    """The line that belongs above every table."""
    found = mc.versions()
    return (
        f"{cpu()}, {os.cpu_count()} CPUs, {found['instruction set']}, {threads_in_words(mc.get_num_threads())}; "
        f"minicnn {found['minicnn']} at {commit()}, Python {found['python']}, NumPy {found['numpy']}; "
        f"{datetime.date.today()}"
    )


def threads_in_words(n):
    return f"{n} thread{'s' if n > 1 else ''}"


def cpu():
    return cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_flags():
    """What the processor has beyond its base: {"avx2", "fma", ...}; empty where it is not told."""
    return set(cpuinfo("flags").split())


def cpuinfo(key):
    """What Linux says of the first processor, or ""."""
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.split(":")[1].strip() for line in file if line.startswith(key)), "")
    except OSError:
        return ""


def commit():
    """The short name of the commit, with a + if files differ from it."""
    try:
        name = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "minicnn", "setup.py")
    except (OSError, subprocess.CalledProcessError):
        return "no commit"
    return name + "+" * bool(changed)


def _git(*arguments):
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


class Others:
    """How much of the CPUs other programs, or other guests of the host, took inside a ``with``: figures of a busy
    machine should be seen for what they are."""

    def __enter__(self):
        self.busy, self.own, self.begin = self._busy(), self._own(), time.perf_counter()
        return self

    def __exit__(self, *error):
        self.seconds = time.perf_counter() - self.begin
        now = self._busy()
        self.taken = None if now is None else max(0.0, now - self.busy - (self._own() - self.own))

    def __str__(self):
        if self.taken is None:
            return "what other programs took is not known"
        return f"other programs took {100 * self.taken / self.seconds / os.cpu_count():.0f} % of the CPUs"

    @staticmethod
    def _busy():
        """CPU seconds of everybody since the start of the machine, stolen ones included; None where it is not Linux."""
        try:
            with open("/proc/stat") as file:
                user, nice, system, _, _, irq, softirq, stolen = map(int, file.readline().split()[1:9])
        except (OSError, ValueError):
            return None
        return (user + nice + system + irq + softirq + stolen) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def _own():
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system


class Limits:
    """What the machine can do with that many threads: multiply-adds out of registers, copies through memory."""

    def __init__(self, threads, quick):
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads)
        self.steps = 50_000 if quick else 3_000_000
        self.flops = 2 * self.steps * runtime.multiply_adds(0, 0, 0)[0] * threads
        source = np.ones((threads, (1 << (18 if quick else 24)) // threads), np.float32)
        self.copies = list(zip(np.empty_like(source), source, strict=True))
        self.bytes = 2 * source.nbytes  # each read once and written once

    def multiply_adds(self):
        list(self.pool.map(lambda _: self.chains(), range(self.threads)))

    def chains(self):
        """One thread's share of multiply_adds, in the calling thread."""
        runtime.multiply_adds(self.steps, 0.999, 0.001)

    def copy(self):
        list(self.pool.map(lambda pair: np.copyto(*pair), self.copies))  # NumPy copies without the GIL


def empty(shape):
    """A float32 array that begins on a line of the cache, as a model's parameters and a plan's arrays do."""
    size = math.prod(shape)
    room = np.empty(size + 16, np.float32)
    start = -room.ctypes.data % 64 // room.itemsize
    return room[start : start + size].reshape(shape)


def normal(rng, shape):
    """The same, of normal numbers."""
    return rng.standard_normal(shape, np.float32, empty(shape))


class Case(NamedTuple):
    """A kernel on given arrays; ``error`` compares what it left there with the reference."""

    name: str
    amount: float  # FLOPs or bytes
    run: Callable
    error: Callable


class Timing(NamedTuple):
    """Seconds of one call, and the distance of the quartiles as a fraction of them."""

    median: float
    spread: float


SETTLE = 0.015  # seconds in which OpenMP's threads look out for more work before they fall asleep


def side_by_side(cases, quick=False, rounds=15, burst=0.02, settle=SETTLE):
    """{name: Timing} for {name: function}, the cases taking turns, so that a disturbance meets all of them.

    A turn is: sleep until nobody's threads are awake, one call that is not counted, then as many as take ``burst``
    seconds, timed together; with ``burst`` 0, for long calls, a single one.
    """
    calls = {name: calls_for(function, 0 if quick else burst) for name, function in cases.items()}
    times = {name: [] for name in cases}
    for _ in range(2 if quick else rounds):
        for name, function in cases.items():
            if not quick:
                time.sleep(settle)
                if burst:
                    function()
            times[name].append(_seconds(function, calls[name]))
    return {name: Timing(statistics.median(values), _spread(values)) for name, values in times.items()}


def calls_for(function, burst):
    """How many calls take ``burst`` seconds."""
    function()  # memory, caches, threads
    return max(1, min(1000, round(burst / _seconds(function, 1))))


def cpu_seconds(function, calls):
    """CPU time of one call, of a function that runs in the calling thread alone."""
    begin = time.thread_time()
    for _ in range(calls):
        function()
    return (time.thread_time() - begin) / calls


def _seconds(function, calls):
    begin = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - begin) / calls


def _spread(values):
    if len(values) < 4:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / middle


def relative_error(found, want):
    """max |found - want| / max |want|."""
    return float(np.abs(found - want).max() / max(np.abs(want).max(), 1e-30))


def table(head, rows):
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def percent(fraction):
    return f"{100 * fraction:.0f} %"
