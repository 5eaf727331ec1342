"""What the environment, the affinity and the control groups let this process have: threads, CPUs, stacks.

In Python, unlike the rest of this folder: it is read once, at import, and compiled it would take ten times the room.
"""

import math
import os
import re
import sys
import warnings

CGROUPS = "/sys/fs/cgroup"


def threads_wanted():
    """What MINICNN_NUM_THREADS says, else OMP_NUM_THREADS; None where neither is a number of threads.

    The first is ours: RuntimeWarning where it is set to anything else (empty is not set); a program whose environment
    is wrong still starts.  The second is OpenMP's, a list such as "4,2" perhaps: what cannot be used is passed over.
    """
    ours = os.environ.get("MINICNN_NUM_THREADS", "").strip()
    wanted = _whole_number(ours) if "," not in ours else None
    if ours and wanted is None:
        required = "MINICNN_NUM_THREADS must be a whole number of threads, 1 or more"
        warnings.warn(f"{required}; got {ours[:80]!r}. It is passed over", RuntimeWarning, stacklevel=2)
    return wanted or _whole_number(os.environ.get("OMP_NUM_THREADS", ""))


def cpus(bound=0):
    """The CPUs that affinity and control group leave us; ``bound``: to how many OpenMP binds threads, 0 if to none."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(bound or affinity, cgroup_quota() or sys.maxsize)


def cgroup_quota():
    """The CPUs that the control groups grant (version 2, or 1), rounded up; None where there is no limit."""
    quotas = [quota for group in _cgroups() if (quota := _quota_of(group)) is not None]
    return min(quotas, default=None)


def stack_size():
    """Bytes of the stack that OMP_STACKSIZE asks for ("16M"; without a unit, kilobytes), 0 for none."""
    for name in ("OMP_STACKSIZE", "GOMP_STACKSIZE"):
        found = re.fullmatch(r"\s*([0-9]{1,18})\s*([bkmg]?)\s*", os.environ.get(name, ""), re.I | re.A)
        if found:
            return min(int(found[1]) << {"b": 0, "m": 20, "g": 30}.get(found[2].lower(), 10), sys.maxsize)
    return 0


def _whole_number(text):
    """The first of a comma-separated list as an integer >= 1, else None: OMP_NUM_THREADS may be "4,2"."""
    first = text.split(",")[0].strip()
    return int(first) if first.isascii() and first.isdigit() and 0 < len(first) < 10 and int(first) > 0 else None


def _cgroups():
    """The folders of this process's group and of all that it lies in.

    In a container its own path may be the one outside: then only the root is there, which is the container's group.
    """
    folders = [CGROUPS, f"{CGROUPS}/cpu"]
    for line in _words("/proc/self/cgroup"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "" or "cpu" in controllers.split(","):
            folder = folders[controllers != ""]
            for name in path.strip("/").split("/"):
                folder = f"{folder}/{name}"
                folders.append(folder)
    return folders


def _quota_of(folder):
    """The quota of one control group in CPUs, None where it sets none."""
    words = _words(f"{folder}/cpu.max") or [
        word for name in ("quota", "period") for word in _words(f"{folder}/cpu.cfs_{name}_us")
    ]
    try:
        quota, period = map(int, words)
        return max(1, math.ceil(quota / period)) if quota > 0 else None
    except (ValueError, ZeroDivisionError):  # "max": no limit
        return None


def _words(path):
    try:
        with open(path) as file:
            return file.read().split()
    except (OSError, ValueError):
        return []
