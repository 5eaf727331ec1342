"""Children of every kind that train and predict: ``python forking.py SCENARIO ROUNDS``, run by test_fork.py.

A file of its own, because processes that do not begin as a copy of their parent import what they are to run.
"""

import concurrent.futures
import contextlib
import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings

import numpy as np
from running import use_threads

import minicnn as mc
from minicnn import layers
from minicnn._ext.machinery import runtime

HANGING = 60  # seconds for a child that needs a hundredth of one; at the start of an interpreter, a few
X = np.random.default_rng(0).random((24, 6, 6, 2), dtype=np.float32)
LABELS = np.arange(24) % 4


def work(_=None):
    """Trains and predicts in two threads; what comes out, as one number."""
    use_threads(2)
    model = mc.Sequential(
        [layers.Conv2D(4, 3, activation="relu"), layers.Dropout(0.5), layers.Flatten(), layers.Dense(4)], seed=1
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(X, LABELS, batch_size=12, verbose=0)
    assert not runtime.openmp() or runtime.threads_for(10, 1e9) == 2, "a child must work in parallel too"
    return hashlib.sha256(model.predict(X)).hexdigest() + model.fingerprint()


# ---- os.fork ----


def in_a_fork(function):
    """What the function returns in a forked child; the child is killed and the test fails if it takes too long."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, function().encode())
        finally:
            os._exit(0)
    os.close(write)
    end = time.monotonic() + HANGING
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            sys.exit("a child hangs")
        time.sleep(0.0005)
    with open(read, "rb") as pipe:
        return pipe.read().decode()


def fork():
    work()
    yield in_a_fork(work)
    yield work()  # the parent goes on as well


def fork_before_any_region():
    """The child of a parent that has no threads yet; the process that calls this must not have worked before."""
    yield in_a_fork(lambda: in_a_fork(work))


def nested_fork():
    work()
    yield in_a_fork(lambda: work() and in_a_fork(lambda: work() and in_a_fork(work)))


def fork_from_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.extend([work(), in_a_fork(work)]))
    thread.start()
    thread.join()
    yield from found
    yield in_a_fork(work)


def fork_of_a_child_with_threads():
    """The child works in threads of its own only."""
    work()
    yield in_a_fork(lambda: thread_pool(2)[0])


def thread_pool(workers):
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return [*pool.map(work, range(workers))]


@contextlib.contextmanager
def busy_threads(count):
    """Threads that train without a pause."""
    ended, found = threading.Event(), set()

    def train():
        while not ended.is_set():
            found.add(work())

    threads = [threading.Thread(target=train) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert found == {work()}, "other bits in the threads that were busy"


# ---- processes of the standard library and of joblib ----


def _send(pipe):
    pipe.send(work())
    pipe.close()


def process(method):
    work()
    context = multiprocessing.get_context(method)
    read, write = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(write,))
    child.start()
    write.close()
    assert read.poll(HANGING), "a child hangs"
    yield read.recv()
    child.join(HANGING)
    assert child.exitcode == 0


def pool():
    work()
    with multiprocessing.get_context("fork").Pool(2) as children:
        yield from children.map_async(work, range(4)).get(HANGING)


def process_executor():
    work()
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as children:
        yield from children.map(work, range(4), timeout=HANGING)


def thread_executor():
    work()
    yield from thread_pool(4)


def loky():
    import joblib
    from joblib.externals.loky import get_reusable_executor

    work()
    yield from joblib.Parallel(n_jobs=2, timeout=HANGING)(joblib.delayed(work)(i) for i in range(4))
    get_reusable_executor().shutdown(wait=True)


# name: (scenario, threads that are busy meanwhile)
SCENARIOS = {
    "fork": (fork, 0),
    "fork before any region": (fork_before_any_region, 0),
    "nested fork": (nested_fork, 0),
    "fork from a thread": (fork_from_a_thread, 0),
    "fork during regions of other threads": (fork, 2),
    "fork, then threads in the child": (fork_of_a_child_with_threads, 0),
    "multiprocessing, fork": (lambda: process("fork"), 0),
    "multiprocessing, fork during regions of other threads": (lambda: process("fork"), 2),
    "multiprocessing, spawn": (lambda: process("spawn"), 0),
    "multiprocessing, forkserver": (lambda: process("forkserver"), 0),
    "multiprocessing pool": (pool, 0),
    "executor of processes": (process_executor, 0),
    "executor of threads": (thread_executor, 0),
    "joblib": (loky, 0),
}


def main(name, rounds):
    scenario, busy = SCENARIOS[name]
    with busy_threads(busy) if busy else contextlib.nullcontext(), warnings.catch_warnings():
        # From Python 3.12 on a fork beside other threads is warned of.  Of our own there are none at that moment.
        warnings.filterwarnings("ignore" if busy else "error", category=DeprecationWarning)
        found = [value for _ in range(rounds) for value in scenario()]
    want = work()
    assert found.count(want) == len(found) >= rounds, f"other bits in {len(found) - found.count(want)} of {len(found)}"
    print(f"{name}: {rounds} rounds, {len(found)} results, all the same", flush=True)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        name, rounds = argument.split("=")
        main(name, int(rounds))
