"""Curves and ensembles on every backend of joblib's: the same bits, errors as they are, and nobody left behind."""

import contextlib
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from programs import alive, environment, run

import minicnn as mc
from minicnn import processes
from minicnn.tune import dropout_curve

joblib = pytest.importorskip("joblib")

X = np.random.default_rng(0).random((40, 5), np.float32)
Y = np.arange(40) % 2
CURVE = {"rates": (0, 0.5), "cv": 2, "epochs": 3, "batch_size": 8, "verbose": 0}
FIT = {"epochs": 3, "batch_size": 8, "verbose": 0}


class AtTheEnd(joblib.parallel.ThreadingBackend):
    """One that gives no result before all are there, as that of ray does."""

    supports_return_generator = False


joblib.register_parallel_backend("at the end", AtTheEnd)
HERE = ("threading", "at the end")
OURS = ("loky", "multiprocessing", *HERE)


@pytest.fixture(scope="module")
def cluster():
    """The client of two workers of dask, of one thread each."""
    distributed = pytest.importorskip("distributed")
    with local_cluster(distributed) as client:
        yield client


@contextlib.contextmanager
def local_cluster(distributed):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
            yield client


@pytest.fixture(params=[*OURS, "dask"])
def backend(request):
    """A context in which a backend is active that has two workers."""
    if request.param == "dask":
        return joblib.parallel_config("dask", client=request.getfixturevalue("cluster"))
    return joblib.parallel_config(request.param, n_jobs=2)


def build(rate, seed):
    model = mc.Sequential([mc.layers.Dense(6), mc.layers.Dropout(rate), mc.layers.Dense(2)], seed=seed)
    model.compile(mc.optimizers.Adam(0.01), "sparse_categorical_crossentropy", ["accuracy"])
    return model


@functools.cache
def serial():
    return json.dumps(dropout_curve(build, X, Y, **CURVE).to_dict())


def test_the_curve_has_the_bits_of_one_process(backend):
    """By the active backend alone, and with n_jobs; and this process is as it was before."""
    mc.set_num_threads(3)
    lines = []
    with backend:
        found = dropout_curve(lambda rate, seed: build(rate, seed), X, Y, **CURVE)
        more = processes.run_all("test", abs, [-1, -2, -3], -1, done=lines.append)
    assert json.dumps(found.to_dict()) == serial()
    assert sorted(more) == sorted(lines) == [1, 2, 3]
    assert mc.get_num_threads() == 3


def test_progress_is_said_here(backend, capsys):
    with backend:
        dropout_curve(build, X, Y, **CURVE | {"verbose": 2})
    assert capsys.readouterr().err.count("\nrun ") == 3


def test_without_a_backend_no_n_jobs_is_one(monkeypatch):
    assert processes.how_many("test", None, 5) == (1, None)
    monkeypatch.setitem(sys.modules, "joblib", None)
    assert processes.how_many("test", None, 5) == (1, None)


class Own(mc.Layer):
    """A custom layer, which a process cannot import."""

    def forward(self, x, training=False):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


def members():
    ensemble = mc.Ensemble([functools.partial(build, 0.3)] * 3)
    ensemble.members[1] = mc.Sequential([Own(), *ensemble.members[1].layers], seed=5)
    ensemble.members[1].compile("sgd", "sparse_categorical_crossentropy")
    return ensemble


@pytest.mark.parametrize("bootstrap", [False, True])
def test_members_have_the_bits_of_one_process(backend, bootstrap):
    more = FIT | {"bootstrap": bootstrap, "validation_data": (X[:10], Y[:10]), "sample_weight": np.arange(1.0, 41)}
    alone, there = members(), members()
    objects, layers, before = [*there.members], [*there.members[0].layers], X.tobytes()
    expected = alone.fit(X, Y, n_jobs=1, **more)
    with backend:
        found = there.fit(X, Y, **more)
        with pytest.raises(ValueError, match="callbacks need n_jobs=1"):
            there.fit(X, Y, **more, callbacks=[mc.callbacks.Callback()])
    assert [one.history for one in found] == [one.history for one in expected]
    assert [one.fingerprint() for one in there.members] == [one.fingerprint() for one in alone.members]
    assert all(one is other for one, other in zip(objects, there.members, strict=True))
    assert all(one is other for one, other in zip(layers, there.members[0].layers, strict=True))
    assert X.tobytes() == before


# ---- errors ----


class TwoWords(Exception):
    """Cannot be made of its own arguments, and so not be read from a pickle."""

    def __init__(self, one, two):
        super().__init__(one + two)


def test_an_error_arrives_as_itself_with_its_place(backend):
    def fails_here(task):
        if task == 2:
            raise LookupError("gone")
        return task

    with backend, pytest.raises(LookupError, match=r"^'?gone'?$") as caught:
        processes.run_all("test", fails_here, range(50), 2)
    assert "fails_here" in "".join(map(str, [caught.getrepr(chain=True), caught.value.__cause__]))
    with backend:
        assert sorted(processes.run_all("test", abs, [-3, 1], 2)) == [1, 3]


def test_an_error_that_cannot_be_sent_says_what_it_was(backend):
    def fails(task):
        raise TwoWords("no ", "disk")

    with backend, pytest.raises((TwoWords, RuntimeError), match="no disk") as caught:
        processes.run_all("test", fails, range(4), 2)
    if not isinstance(caught.value, TwoWords):
        assert str(caught.value) == "TwoWords: no disk"
        assert "in fails" in caught.value.__notes__[0]


def test_a_member_that_fails_is_named_and_none_is_trained(backend):
    ensemble = mc.Ensemble([functools.partial(build, 0.3)] * 2)
    for member, rate in zip(ensemble.members, (0.01, 1e30), strict=True):
        member.compile(mc.optimizers.SGD(rate), "mse")
        member.build((5,))
    before = [one.fingerprint() for one in ensemble.members]
    with backend, pytest.raises(FloatingPointError, match=r"^Ensemble.fit: member 1: Sequential.fit: step "):
        ensemble.fit(X, np.eye(2)[Y], **FIT | {"epochs": 50})
    assert [one.fingerprint() for one in ensemble.members] == before
    ensemble.members[0].fit(X, np.eye(2)[Y], **FIT)


@pytest.mark.parametrize("name", ["loky", "dask"])
def test_what_cannot_be_sent_is_refused_before_anything_is(name, request):
    active = {"client": request.getfixturevalue("cluster")} if name == "dask" else {"n_jobs": 2}
    ensemble = mc.Ensemble([functools.partial(build, 0.3)] * 2)
    ensemble.members[1] = members().members[1]
    ensemble.members[1].layers[0].lock = threading.Lock()
    with joblib.parallel_config(name, **active), pytest.raises(TypeError, match=r"Ensemble.fit: member 1 must be pick"):
        ensemble.fit(X, Y, **FIT)


@pytest.mark.parametrize("backend", HERE, indirect=True)
def test_threads_stop_when_nobody_wants_their_results(backend):
    working, ended = threading.Event(), threading.Event()

    def task(number):
        if number:
            assert working.wait(60)
            raise LookupError("enough")
        try:
            working.set()
            while True:
                time.sleep(0.001)
        finally:
            ended.set()

    with backend, pytest.raises(LookupError, match="enough"):
        processes.run_all("test", task, range(2), 2)
    assert ended.wait(60)


@pytest.mark.parametrize("backend", HERE, indirect=True)
def test_what_threads_share_need_not_be_picklable(backend):
    lock = threading.Lock()

    def locked(rate, seed):
        with lock:
            return build(rate, seed)

    with backend:
        assert json.dumps(dropout_curve(locked, X, Y, **CURVE).to_dict()) == serial()


# ---- threads, and what is sent ----


def test_the_threads_are_divided_and_what_was_comes_back(backend):
    mc.set_num_threads(4)
    with backend:
        assert processes.run_all("test", lambda task: mc.get_num_threads(), range(5), 2) == [2] * 5
    assert mc.get_num_threads() == 4


def test_a_limit_of_threads_is_kept():
    mc.set_num_threads(6)
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        assert processes.run_all("test", lambda task: mc.get_num_threads(), range(3), None) == [1] * 3


class Counted:
    """Counts how often it is sent."""

    sent = 0

    def __reduce__(self):
        type(self).sent += 1
        return Counted, ()


def test_a_single_task_is_dasks(cluster):
    with joblib.parallel_config("dask", client=cluster):
        assert processes.run_all("test", lambda task: os.getpid(), [0], None) != [os.getpid()]
        assert processes.run_all("test", lambda task: os.getpid(), [0], 1) == [os.getpid()]
        assert processes.run_all("test", abs, [], None) == []


def test_what_all_tasks_need_is_sent_to_dask_once(cluster):
    with joblib.parallel_config("dask", client=cluster):
        found = processes.run_all("test", lambda what, task: type(what).__name__, range(20), -1, shared=(Counted(),))
    assert found == ["Counted"] * 20
    assert Counted.sent <= 2


# ---- those that die, and Ctrl-C ----


PROGRAM = """
import contextlib, os, sys, threading, time, joblib
import minicnn as mc
from minicnn import processes

def build(rate, seed):
    model = mc.Sequential([mc.layers.Dense(2)], seed=seed)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model

def dies(*arguments):
    os.kill(os.getpid(), 9)

def dies_once(path, task):
    with contextlib.suppress(FileExistsError):
        open(path, "x").close()
        os.kill(os.getpid(), 9)
    return task

def main(what, name):
    x, y = [[0.0], [1.0]] * 6, [0, 1] * 6
    with contextlib.ExitStack() as stack:
        active = {"n_jobs": 2}
        if name == "dask":
            from distributed import Client
            workers = 1 if what == "data are lost" else 2
            client = stack.enter_context(Client(n_workers=workers, threads_per_worker=1, dashboard_address=None))
            active = {"wait_for_workers_timeout": 1 if what == "no workers" else 10}
        stack.enter_context(joblib.parallel_config(name, **active))
        if what == "forever":
            mc.tune.dropout_curve(build, x, y, repeats=100, epochs=1000, verbose=2)
        elif what == "once":
            print(sorted(processes.run_all("test", dies_once, range(4), None, shared=["died"])))
        elif what == "data are lost":
            processes.run_all("test", dies, range(4), None, shared=[x])
        elif what == "no workers":
            client.submit(abs, 1).result()
            threading.Timer(0.5, client.cluster.scale, [0]).start()
            processes.run_all("test", time.sleep, [600, 600], None)
        else:
            processes.run_all("test", dies, range(4), -1)

if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        print("interrupted")
    except Exception as error:
        print(type(error).__name__, error)
"""
proc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks for processes in /proc")


@pytest.fixture
def program(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path / "program.py"


def skip_without(name):
    if name == "dask" and not importlib.util.find_spec("distributed"):
        pytest.skip("distributed is not installed")


def none_is_left(session):
    for _ in range(300):  # joblib's watchman of files ends a moment after the last of the others
        if not alive(session):
            return True
        time.sleep(0.1)
    return False


@proc
@pytest.mark.parametrize("name", ["threading", "multiprocessing", "dask"])  # test_tune.py has loky
def test_ctrl_c_ends_all(name, program):
    skip_without(name)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment()}
    command = [sys.executable, program, "forever", name]
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        try:
            lines = iter(process.stderr.readline, "")
            assert any(line.startswith("run ") for line in lines)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            assert (process.returncode, out) == (0, "interrupted\n"), err
            assert none_is_left(process.pid)
        finally:
            if alive(process.pid):
                os.killpg(process.pid, signal.SIGKILL)


@proc
@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("once", "[0, 1, 2, 3]"),
        ("data are lost", "RuntimeError the cluster of dask has dropped tasks"),
        ("no workers", "TimeoutError the cluster of dask has had no worker for 1 s"),
    ],
)
def test_dask_loses_workers(what, says, program, monkeypatch):
    """One that was killed is replaced; where nobody can go on there is an error."""
    skip_without("dask")
    monkeypatch.chdir(program.parent)
    code, out, err = run(program, what, "dask", timeout=60)
    assert (code, out[: len(says)]) == (0, says), err


@proc
@pytest.mark.parametrize(("name", "error"), [("loky", "TerminatedWorkerError"), ("multiprocessing", "TerminatedWorker"),
                                             ("dask", "KilledWorker")])  # fmt: skip
def test_workers_that_die_are_an_error(name, error, program):
    """One that is killed by others, dask replaces; here every one is that gets the task."""
    skip_without(name)
    code, out, err = run(program, "dies", name, timeout=60)
    assert (code, out[: len(error)]) == (0, error), err
