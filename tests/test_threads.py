"""Many threads in one model, threads that cannot be had, and environments that OpenMP does not like."""

import concurrent.futures
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from models import LABELS, Hook, X, compiled, trained, whole_state
from programs import output_of, run
from running import at_once, use_threads

import minicnn as mc
from minicnn import Sequential, layers
from minicnn._ext.machinery import limits, runtime
from minicnn.engine import Engine

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and affinity as Linux has them")


# ---- Python's threads ----


@pytest.mark.parametrize("count", [1, 4, 16, pytest.param(64, marks=pytest.mark.long)])
@pytest.mark.parametrize("kernel_threads", [1, 2])
def test_threads_that_predict_with_one_model(count, kernel_threads):
    """Each with batches of its own sizes, so that plans are recorded and thrown away meanwhile."""
    use_threads(kernel_threads)
    model, rounds = trained(), 3 if count < 64 else 4000 // 64
    x = np.random.default_rng(1).random((count + 20, *X.shape[1:]), dtype=np.float32)
    want, before = model.predict(x), whole_state(model)

    def predict(i):
        return [
            (model.predict(x[i : i + 1 + (i + turn) % 20], batch_size=1 + (i * turn) % 7), 1 + (i + turn) % 20)
            for turn in range(rounds)
        ]

    for i, answers in enumerate(at_once(count, predict)):
        for answer, n in answers:
            np.testing.assert_array_equal(answer, want[i : i + n])
    assert whole_state(model) == before


def test_the_first_predictions_of_a_model_that_is_not_built():
    for _ in range(10):
        model = mc.Sequential([mc.layers.Flatten(), mc.layers.Dense(3)], seed=4)
        answers = at_once(8, lambda i, model=model: model.predict(X))
        for answer in answers:
            np.testing.assert_array_equal(answer, answers[0])
        assert np.ptp(answers[0]) > 0


def test_threads_that_train_a_model_each():
    """Every one of 8 threads trains its own model, and gets the bits of one alone."""
    use_threads(2)
    want = trained().fingerprint()
    assert at_once(8, lambda i: trained().fingerprint()) == [want] * 8


def test_predictions_and_evaluations_while_the_model_is_trained():
    """What they give is of some moment of the training; they do not disturb it."""
    use_threads(2)
    want, model, ended = trained(), compiled(), threading.Event()

    def look(_):
        while not ended.is_set():
            assert np.isfinite(model.predict(X)).all()
            assert np.isfinite(model.evaluate(X, LABELS)[0])

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        looking = [pool.submit(look, i) for i in range(2)]
        try:
            model.fit(X, LABELS, batch_size=5, epochs=2, verbose=0)
        finally:
            ended.set()
        for one in looking:
            one.result()
    assert whole_state(model) == whole_state(want)


def test_of_many_trainers_of_one_model_the_others_are_told():
    """One thread trains and stops within a step; fifteen others try meanwhile, and change nothing."""
    model, twin, inside, go_on = compiled(), compiled(), threading.Event(), threading.Event()

    def hold(_):
        inside.set()
        go_on.wait(60)

    def intrude(i):
        method = ("fit", "train_on_batch", "forward")[i % 3]
        arguments = {"fit": (X, LABELS), "train_on_batch": (X, LABELS), "forward": (X, True)}[method]
        with pytest.raises(RuntimeError, match=rf"^Sequential\.{method}: the model is being trained already, by anoth"):
            getattr(model, method)(*arguments)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        fit = {"batch_size": 5, "epochs": 2, "verbose": 0}
        training = pool.submit(model.fit, X, LABELS, **fit, callbacks=[Hook(hold)])
        try:
            assert inside.wait(60)
            at_once(15, intrude)
        finally:
            go_on.set()
        training.result()
    twin.fit(X, LABELS, **fit)
    assert whole_state(model) == whole_state(twin)


def test_weights_that_another_thread_sets_during_a_prediction():
    """What the prediction derives from them may be of both; the next one must see that it is."""
    model = mc.Sequential([mc.layers.Input((4, 4, 128)), mc.layers.Conv2D(128, 3, padding="same")], seed=1)
    x, kernel = np.random.default_rng(0).random((1, 4, 4, 128), np.float32), model.layers[0].params["kernel"]
    kernel[...] = np.round(kernel * 64)  # so that adding and taking away leaves no trace
    want, weights = model.predict(x), kernel[2, 2, ::16, 5]  # one of each group of channels
    for _ in range(100):
        predicted = threading.Event()

        def change(predicted=predicted):
            while not predicted.is_set():
                weights[...] += 1
                weights[...] -= 1

        def predict(predicted=predicted):
            model.predict(x)
            predicted.set()

        at_once(2, lambda i, both=(change, predict): both[i]())
        np.testing.assert_array_equal(model.predict(x), want)


class Assigning(layers.ReLU, compiled=True):
    """Assigns a parameter and a state of the layer behind it in every forward, as another thread might just then."""

    victim = None

    def forward(self, x, training=False):
        if self.victim is not None:
            for values in (self.victim.params, self.victim.state):
                for name in values:
                    values[name] = values[name].copy()
        return super().forward(x, training)


def test_what_is_assigned_while_a_plan_is_recorded():
    model = Sequential([Assigning(), layers.BatchNormalization(), layers.Dense(3)], seed=0)
    x = np.random.default_rng(0).normal(size=(9, 4)).astype("f")
    expected = model.predict(x)
    type(model.layers[0]).victim = model.layers[1]
    try:
        for n in range(1, 9):
            assert (model.predict(x[:n]) == expected[:n]).all()
    finally:
        type(model.layers[0]).victim = None


def test_a_fit_that_begins_as_another_one_ends():
    """The mode that it puts back is that of the time between them."""
    model, arrived, ended, exclusive = compiled(), threading.Event(), threading.Event(), Engine.hold

    def late(method, again=False):
        arrived.set()
        ended.wait(60)
        return exclusive(model.engine, method, again)

    def begin_the_other(_):
        if not arrived.is_set():
            model.engine.hold = late
            others.append(pool.submit(model.fit, X, LABELS, verbose=0))
            assert arrived.wait(60)

    others = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        try:
            model.fit(X, LABELS, verbose=0, callbacks=[Hook(begin_the_other)])
        finally:
            ended.set()
        others[0].result()
    assert not model.training


def test_plans_that_are_lent_do_not_come_back_after_all_were_forgotten():
    """They point to arrays that layers had before (Ensemble.fit in several processes)."""
    model = trained()
    engine = model.engine
    with engine.evaluation(3), engine.sampler():
        engine.forget_plans()
    assert not engine._idle
    assert not any(engine._idle_samplers.values())


# ---- threads that cannot be had ----

WORK = """
import os, sys, threading
import numpy as np
from forking import X, LABELS
from running import at_once
import minicnn as mc
from minicnn._ext.machinery import runtime
from minicnn import layers

def work():
    model = mc.Sequential([layers.Conv2D(4, 3, activation="relu"), layers.Dropout(0.5), layers.Flatten(),
                           layers.Dense(4)], seed=1)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(X, LABELS, batch_size=12, verbose=0)
    assert np.isfinite(model.predict(X)).all()
    return model.fingerprint()

def report(threads):
    runtime.set_grain(1)
    runtime.set_yielding(False)
    mc.set_num_threads(threads)
    found = [work(), work()]
    thread = threading.Thread(target=lambda: found.append(work()))
    try:
        thread.start()
        thread.join()
    except RuntimeError:  # Python cannot start one either
        pass
    assert len(set(found)) == 1, found
    print(found[0], runtime.threads_for(1000, 1e9))
"""


@pytest.fixture(scope="module")
def want():
    """The bits of one thread."""
    return output_of("-c", WORK + "report(1)").split()[0]


SINGLE = [
    ({"OMP_NUM_THREADS": "0"}, 4),
    ({"OMP_NUM_THREADS": "-3"}, 4),
    ({"OMP_NUM_THREADS": "abc"}, 4),
    ({"OMP_NUM_THREADS": "2,2"}, 4),
    ({"OMP_NUM_THREADS": "99999999999"}, 4),
    ({"OMP_STACKSIZE": "1"}, 4),
    ({"OMP_STACKSIZE": "abc"}, 4),
    ({"OMP_STACKSIZE": "64M"}, 4),
    ({"OMP_STACKSIZE": "100G"}, None),  # a machine with that much memory has the threads
    ({"GOMP_STACKSIZE": "900000000000"}, 1),
    ({"OMP_THREAD_LIMIT": "1"}, 4),
    ({"OMP_THREAD_LIMIT": "3"}, 4),
    ({"OMP_DYNAMIC": "true"}, 4),
    ({"OMP_PROC_BIND": "spread"}, 4),
    ({"OMP_WAIT_POLICY": "active"}, 4),
    ({"OMP_PLACES": "bad"}, 4),
    ({"OMP_PLACES": "{0}"}, 4),
    ({"GOMP_CPU_AFFINITY": "0"}, 4),
    ({"GOMP_CPU_AFFINITY": "5000"}, 4),
    ({"GOMP_CPU_AFFINITY": f"0 {os.cpu_count()}"}, None),
    ({"OMP_MAX_ACTIVE_LEVELS": "0"}, 4),
    ({"OMP_CANCELLATION": "true", "OMP_SCHEDULE": "dynamic,1", "OMP_NESTED": "true"}, 4),
]
NONSENSE = {"OMP_NUM_THREADS": "0", "OMP_STACKSIZE": "x", "OMP_THREAD_LIMIT": "-1", "OMP_PLACES": "bad",
            "OMP_DYNAMIC": "2", "OMP_WAIT_POLICY": "x", "OMP_PROC_BIND": "x", "OMP_SCHEDULE": "x"}  # fmt: skip
BOTH = [
    (NONSENSE, 4),
    ({"OMP_STACKSIZE": " 900000 G "}, 1),
    ({"GOMP_CPU_AFFINITY": f"{os.cpu_count()}"}, None),  # a CPU that is not there: refused, or silently left out
    ({"OMP_NUM_THREADS": "-3", "OMP_THREAD_LIMIT": "2", "OMP_DYNAMIC": "true", "OMP_PROC_BIND": "true"}, 4),
]


@pytest.mark.parametrize(
    ("variables", "threads"), [*BOTH, *(pytest.param(*row, marks=pytest.mark.long) for row in SINGLE)], ids=str
)
@linux
def test_environments_that_openmp_does_not_like(variables, threads, want):
    """Right answers from as many threads as can be had; the process goes on whatever they say."""
    found, used = output_of("-c", WORK + "report(4)", **variables).split()
    assert found == want
    if threads and runtime.openmp():
        assert int(used) == threads


LIMITED = (
    WORK
    + """
import resource
{before}
report({threads})
"""
)
# Unprivileged, for root may start as many as it likes; with one process allowed there is no room for a thread.  Such a
# user may not be allowed to read the installed packages: what is imported late is imported before.
NO_PROCESSES = """
import concurrent.futures.thread, hashlib, numpy.ma, numpy.random
if os.getuid() == 0:
    os.setgid(10**6 + os.getpid())
    os.setuid(10**6 + os.getpid())
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
"""
LITTLE_MEMORY = """
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (60 << 20), -1))
"""


@linux
@pytest.mark.parametrize(("before", "threads", "most"), [
    (NO_PROCESSES, 8, 1),
    ("mc.set_num_threads(2); runtime.set_grain(1); runtime.set_yielding(False); work()" + NO_PROCESSES, 8, 2),
    (LITTLE_MEMORY, 64, 63),
])  # fmt: skip
def test_limits_on_threads_and_memory(before, threads, most, want):
    found, used = output_of("-c", LIMITED.format(before=before, threads=threads)).split()
    assert found == want
    assert 1 <= int(used) <= most


@linux
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs a user who has no other process")
def test_a_pool_for_every_python_thread_within_the_limit():
    """libgomp keeps threads for each Python thread: 30 of those, and room for a few more, and none ends the process."""
    before = (
        NO_PROCESSES.replace("(1, 1)", "(40, 40)")
        + """
runtime.set_grain(1)
runtime.set_yielding(False)
mc.set_num_threads(4)
assert len(set(at_once(30, lambda i: work()))) == 1
"""
    )
    assert len(output_of("-c", LIMITED.format(before=before, threads=4)).split()) == 2


DEFAULT = "from minicnn._ext.machinery import runtime; print(runtime.default_num_threads())"


@linux
@pytest.mark.skipif(not runtime.openmp(), reason="there is nothing to bind")
def test_threads_that_openmp_binds():
    """Binding narrows the affinity of the thread that loads OpenMP to one CPU: the others are still ours."""
    cpus = len(os.sched_getaffinity(0))
    quota = limits.cgroup_quota() or cpus
    assert int(output_of("-c", DEFAULT, OMP_PROC_BIND="true")) == min(cpus, quota)
    assert int(output_of("-c", DEFAULT, GOMP_CPU_AFFINITY=str(min(os.sched_getaffinity(0))))) == 1


# ---- one thread ----

COUNTED = """
#include <unistd.h>
void GOMP_parallel(void (*f)(void *), void *data, unsigned threads, unsigned flags) { _exit(77); }
"""
EVERYTHING = """
import sys
import numpy as np
import minicnn as mc
from minicnn import layers, losses
from minicnn._ext.machinery import runtime

mc.set_num_threads(int(sys.argv[1]))
runtime.set_grain(1.0)
runtime.set_yielding(False)
x, y = np.random.default_rng(0).random((64, 8, 8, 3), dtype="f4"), np.arange(64) % 4
norm = mc.constraints.MaxNorm(1)
for optimizer in (mc.optimizers.SGD(0.1, momentum=0.9, clipnorm=0.1), mc.optimizers.Adam(clipnorm=0.1)):
    model = mc.Sequential([
        layers.Conv2D(16, 3, activation="relu", kernel_regularizer="l2", kernel_constraint=norm),
        layers.BatchNormalization(), layers.MaxPooling2D(2), layers.Dropout(0.5), layers.Flatten(),
        layers.Dense(4, kernel_constraint=norm)])
    model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
    model.fit(x, y, batch_size=16, epochs=1, verbose=0)
    model.evaluate(x, y)
    model.predict_mc(x, 2)
    model.forward(x, training=True)
    model.penalty()
    for layer in model.layers:
        x = layer.forward(x, training=True)
    losses.MeanSquaredError()(np.zeros((64, 4), "f4"), x)
    x = np.random.default_rng(0).random((64, 8, 8, 3), dtype="f4")
print("done")
"""


@linux
def test_one_thread_never_enters_openmp(tmp_path):
    """Where memory is short, gcc's OpenMP ends the process: so with one thread it is never entered."""
    if shutil.which("gcc") is None or not runtime.openmp():
        pytest.skip("needs gcc, and a build with OpenMP")
    (tmp_path / "counted.c").write_text(COUNTED)
    library = tmp_path / "counted.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "counted.c"], check=True)
    assert run("-c", EVERYTHING, 2, LD_PRELOAD=str(library))[0] == 77
    code, out, err = run("-c", EVERYTHING, 1, LD_PRELOAD=str(library))
    assert (code, out) == (0, "done\n"), err


NEIGHBOURS = """
import os, subprocess, sys, time
from minicnn._ext.machinery import runtime
cpus = os.cpu_count()
runtime.set_num_threads(cpus)
busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cpus)]
try:
    end = time.monotonic() + 60
    while runtime.threads_for(1000, 1e9) > 1 and time.monotonic() < end:
        time.sleep(0.01)
    print(runtime.threads_for(1000, 1e9))
    runtime.set_yielding(False)
    print(runtime.threads_for(1000, 1e9) == cpus)
finally:
    for process in busy:
        process.kill()
        process.wait()
"""


@linux
def test_busy_neighbours_leave_one_thread():
    if not runtime.openmp() or len(os.sched_getaffinity(0)) < max(2, os.cpu_count()):
        pytest.skip("needs a build with OpenMP, two CPUs and leave to use all")
    assert output_of("-c", NEIGHBOURS).split() == ["1", "True"]
