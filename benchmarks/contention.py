"""Training beside other busy processes: what the second thread is worth when somebody else wants its CPU."""

import contextlib
import json
import os
import subprocess
import sys
import time

import minicnn as mc
from benchmarks.machine import side_by_side, table, threads_in_words
from benchmarks.models import MODELS, in_minicnn, samples
from benchmarks.steps import SAMPLES, fitting
from minicnn._ext.machinery import runtime

TITLE = "Contention"
TEXT = """\
Training, batch 128, in images a second, beside processes that do nothing but take a CPU each. "always" takes all
threads that there are; the default takes no more than there are CPUs that no other process wants. The waiting policy
is OpenMP's: whether threads that wait for others spin (its default) or sleep (`OMP_WAIT_POLICY=passive`). The last
columns are the speeds with all threads over the speed with one; beside as many busy processes as there are CPUs the
default is meant to reach 0.8.
"""
POLICIES = {"spin": {}, "sleep": {"OMP_WAIT_POLICY": "passive"}}
SETTLE = 0.5  # seconds until the library has seen how busy the machine is


def run(quick=False, plots=None):
    names = ["digits"] if quick else ["lenet5", "keras_mnist", "digits"]
    counts = [0, 1] if quick else sorted({0, 1, os.cpu_count()})
    most = mc.get_num_threads()
    rows = []
    for policy in ["spin"] if quick else POLICIES:
        for name in names:
            for busy in counts:
                rows.append([name, policy, busy, *cells(measured(name, policy, busy, quick))])
    head = ["network", "waiting", "busy processes", "1 thread", threads_in_words(most), "always", "default", "always"]
    return "\n".join([TEXT, table([*head[:6], *(f"{what} / 1" for what in head[6:])], rows)])


def cells(speeds):
    one, default, always = (speeds[name] for name in ("one", "default", "always"))
    return [f"{one:.0f}", f"{default:.0f}", f"{always:.0f}", f"{default / one:.2f}", f"{always / one:.2f}"]


def measured(name, policy, busy, quick):
    """Images a second, {"one", "default", "always"}, in a separate process: the policy is read when OpenMP loads."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"} | POLICIES[policy]
    command = [sys.executable, "-m", "benchmarks.contention", name, str(int(quick))]
    with processes_that_are_busy(busy):
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


@contextlib.contextmanager
def processes_that_are_busy(count):
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def speeds(name, quick):
    most, count = mc.get_num_threads(), 128 if quick else SAMPLES
    shape, entries = MODELS[name]
    step = fitting(in_minicnn(entries), *samples(shape, count), 128)

    def setting(threads, yielding):
        mc.set_num_threads(threads)
        runtime.set_yielding(yielding)
        step()

    cases = {
        "one": lambda: setting(1, True),
        "default": lambda: setting(most, True),
        "always": lambda: setting(most, False),
    }
    if not quick:
        end = time.monotonic() + SETTLE
        while time.monotonic() < end:
            cases["default"]()
    times = side_by_side(cases, quick, rounds=9, burst=0)
    return {name: count / timing.median for name, timing in times.items()}


if __name__ == "__main__":
    print(json.dumps(speeds(sys.argv[1], sys.argv[2] == "1")))
