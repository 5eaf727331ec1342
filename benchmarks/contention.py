"""Beside busy processes and libraries with threads of their own: what the second thread is worth there."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

import minicnn as mc
from benchmarks import rivals
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
COMPANY = """\
### In company

A step of training, and a prediction of 128 images, each right after the neighbour: processes that are busy, and some
that give way (`nice`); PyTorch, or a session of ONNX Runtime, that predicts the same images in this process between
two of ours (not timed). ONNX Runtime's threads spin for a while after each run, unless they are told not to.
*Two threads*: of how many calls the default gave a second thread to. The rest as above, in calls a second.
"""
POLICIES = {"spin": {}, "sleep": {"OMP_WAIT_POLICY": "passive"}}
SETTLE = 0.5  # seconds until the library has seen how busy the machine is
NEIGHBOURS = ("nobody", "1 busy", "2 busy", "1 nice", "2 nice", "PyTorch", "ONNX Runtime, spinning",
              "ONNX Runtime, not spinning", "a pause of 0.2 s")  # fmt: skip


def needed(neighbour):
    """The packages without which it cannot be."""
    return ("torch",) if neighbour == "PyTorch" else ("onnx", "onnxruntime") if "ONNX" in neighbour else ()


def run(quick=False, plots=None):
    names = ["digits"] if quick else ["lenet5", "keras_mnist", "digits"]
    counts = [0, 1] if quick else sorted({0, 1, os.cpu_count()})
    most = mc.get_num_threads()
    rows = []
    for policy in ["spin"] if quick else POLICIES:
        for name in names:
            for busy in counts:
                rows.append([name, policy, busy, *cells(measured(name, policy, busy, quick))])
    parts = [TEXT, table(["network", "waiting", "busy processes", *parts_of_head(most)], rows), COMPANY]
    head = ["neighbour", "call", "two threads", *parts_of_head(most)]
    rows = []
    for neighbour in NEIGHBOURS[:2] if quick else [n for n in NEIGHBOURS if rivals.have(*needed(n))]:
        for call, found in measured("keras_mnist", "spin", neighbour, quick).items():
            rows.append([neighbour, call, f"{100 * found['two']:.0f} %", *cells(found)])
    return "\n".join([*parts, table(head, rows)])


def parts_of_head(most):
    return ["1 thread", threads_in_words(most), "always", "default / 1", "always / 1"]


def cells(speeds):
    one, default, always = (speeds[name] for name in ("one", "default", "always"))
    return [f"{one:.0f}", f"{default:.0f}", f"{always:.0f}", f"{default / one:.2f}", f"{always / one:.2f}"]


def measured(name, policy, beside, quick):
    """What ``speeds`` or ``in_company`` say in a process of its own: the policy is read when OpenMP loads.

    ``beside``: how many busy processes, or one of NEIGHBOURS.
    """
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"} | POLICIES[policy]
    command = [sys.executable, "-m", "benchmarks.contention", name, str(int(quick)), str(beside)]
    nice = ["nice", "-n", "19"] * str(beside).endswith("nice")
    count = int(str(beside)[0]) if str(beside)[0].isdigit() else 0
    with processes_that_are_busy(count, nice):
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


@contextlib.contextmanager
def processes_that_are_busy(count, before=()):
    busy = [subprocess.Popen([*before, sys.executable, "-c", "while True: pass"]) for _ in range(count)]
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


def in_company(name, neighbour, quick):
    """{call: {"one", "default", "always": calls a second, "two": the share of calls that the default gives two}}."""
    shape, entries = MODELS[name]
    x, y = samples(shape, 128)
    model = in_minicnn(entries)
    calls = {"a step": lambda: model.train_on_batch(x, y), "a prediction": lambda: model.predict(x)}
    model.build(shape)
    meet, found = meeting(neighbour, model, x), {}
    for label, call in calls.items():
        times, twos = {"one": [], "default": [], "always": []}, []
        for turn in range(1 if quick else 60):
            for who, seconds in times.items():
                mc.set_num_threads(1 if who == "one" else 2)
                runtime.set_yielding(who != "always")
                meet()
                if who == "default":
                    twos.append(runtime.threads_for(1000, 1e9) > 1)
                begin = time.perf_counter()
                call()
                if turn >= 10 or quick:  # before that the library finds out
                    seconds.append(time.perf_counter() - begin)
        found[label] = {who: 1 / statistics.median(seconds) for who, seconds in times.items()} | {"two": np.mean(twos)}
    return found


def meeting(neighbour, model, x):
    """What happens between two calls of ours."""
    if neighbour == "PyTorch":
        import torch

        kernel, planes = torch.ones(64, 1, 3, 3), torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
        torch.set_num_threads(2)
        return lambda: torch.nn.functional.conv2d(planes, kernel)
    if "ONNX" in neighbour:
        session = rivals.Onnx(model, 2, spinning=neighbour.endswith(", spinning"))
        planes = x.transpose(0, 3, 1, 2).copy()
        return lambda: session.predict(planes)
    return lambda: time.sleep(0.2 if "pause" in neighbour else 0)


if __name__ == "__main__":
    name, quick, beside = sys.argv[1], sys.argv[2] == "1", sys.argv[3]
    print(json.dumps(speeds(name, quick) if beside.isdigit() else in_company(name, beside, quick)))
