"""What all benchmarks share: the facts about the machine, and timing side by side."""

import datetime
import os
import platform
import statistics
import subprocess
import time

import minicnn as mc


def facts():
    """One paragraph that belongs above every table."""
    found = mc.versions()
    return (
        f"{cpu()}, {os.cpu_count()} cores, {found['instruction set']}, {found['threads']} threads, "
        f"minicnn {found['minicnn']} at {commit()}, Python {found['python']}, NumPy {found['numpy']}, "
        f"{datetime.date.today()}\n"
    )


def cpu():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit():
    try:
        shown = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "no commit"
    return shown.stdout.strip()


def side_by_side(cases, repeats, calls=1):
    """{name: (median seconds of one call, spread)} for {name: function}, the cases taking turns.

    Taking turns, a disturbance of the machine meets all of them.  ``calls``: calls that are timed together, for short
    ones.  spread: the distance of the quartiles, as a fraction of the median.
    """
    times = {name: [] for name in cases}
    for function in cases.values():
        function()  # once unmeasured: memory, caches, threads
    for _ in range(repeats):
        for name, function in cases.items():
            begin = time.perf_counter()
            for _ in range(calls):
                function()
            times[name].append((time.perf_counter() - begin) / calls)
    return {name: (statistics.median(values), _spread(values)) for name, values in times.items()}


def _spread(values):
    if len(values) < 4:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / middle


def table(head, rows):
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"
