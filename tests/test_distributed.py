"""Ranks of MPI: the bits of one process at any number of them, files by one of them, and errors that end all."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
import ranks
from programs import TESTS, environment

import minicnn as mc
from minicnn import cells, distributed, layers
from minicnn.distributed import nodes_of

# ---- without MPI: who computes what ----


@pytest.mark.parametrize(("n", "count"), [(1, 3), (4, 4), (20, 3), (43, 2), (128, 5), (128, 64), (5000, 7)])
def test_nodes_that_count_are_the_batch(n, count):
    found = nodes_of(n, count)
    counted = [node for node, counts in found if counts]
    assert len(found) == count
    assert [node.first for node in counted] == [0, *(node.last for node in counted[:-1])]
    assert counted[-1].last == n
    assert cells.combine([(node, node.last - node.first) for node in counted], lambda a, b: a + b) == n
    assert len(counted) == min(count, 1 << cells.levels(n))
    assert all(node in counted for node, _ in found)


class Threads(distributed.Ranks):
    """Ranks that are threads of this process."""

    def __init__(self, rank, size, board, barrier):
        self.rank, self.size, self.first, self.where = rank, size, rank == 0, None
        self.board, self.barrier, self._warned, self._broken = board, barrier, False, False

    def swap(self, out, into):
        self.board[self.rank] = out
        self.barrier.wait(60)
        for rank in range(self.size):
            if rank != self.rank and into[rank] is not None:
                into[rank][...] = self.board[rank][self.rank]
        self.barrier.wait(60)

    def leave(self, error):
        self.where = None
        if error is not None:
            self.barrier.abort()


def in_threads(size, function):
    """What ``function(ranks)`` returns in each thread."""
    board, barrier, found = [None] * size, threading.Barrier(size), [None] * size

    def work(rank):
        try:
            found[rank] = function(Threads(rank, size, board, barrier))
        except BaseException as error:
            found[rank] = error
            barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


KINDS = {
    "convolutions": lambda: [
        layers.Conv2D(16, 3, activation="swish"),
        layers.DepthwiseConv2D(3),
        layers.SeparableConv2D(5, 3, padding="same"),
        layers.Conv2DTranspose(4, 3, strides=2),
        layers.Conv2D(4, 1, kernel_constraint="max_norm"),
    ],
    "normalizations": lambda: [
        layers.LayerNormalization(),
        layers.GroupNormalization(1),
        layers.Concurrent([[layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization()], [layers.PReLU()]]),
        layers.BatchNormalization(center=False),
    ],
    "noise": lambda: [
        layers.Residual([layers.Conv2D(3, 3, padding="same"), layers.StochasticDepth(0.5)]),
        layers.StochasticDepth(0.5, mode="batch"),
        layers.DropBlock2D(0.3, 3),
        layers.Dropout(0.3, noise_shape=(1, None, None, None)),
        layers.Flatten(),
        layers.GaussianNoise(0.1),
        layers.DropConnect(9, 0.5),
        layers.AlphaDropout(0.2),
        layers.GaussianDropout(0.2),
    ],
    "augmentation": lambda: [
        layers.RandomTranslation(0.1, 0.1),
        layers.RandomRotation(0.1),
        layers.RandomZoom(0.1),
        layers.RandomCrop(6, 6),
        layers.RandomContrast(0.2, value_range=(0, 1)),
        layers.RandomErasing(0.5, value_range=(0, 1)),
        layers.UpSampling2D(2),
        layers.AveragePooling2D(2),
        layers.GlobalMaxPooling2D(),
    ],
}


def trained(kind, given, dtype):
    model = ranks.model(False, [*KINDS[kind](), layers.Flatten(), layers.Dense(4, activation="softmax")], dtype=dtype)
    if given is not None:
        model._put(ranks=given)
        model.engine.ranks = given
    model.fit(ranks.X, ranks.LABELS, batch_size=70, verbose=0)
    return model.fingerprint(), model.history.history


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_layer_gives_the_bits_of_one_process(kind):
    for size, dtype in (2, "float32"), (5, "float64"):
        assert in_threads(size, lambda one: trained(kind, one, dtype)) == [trained(kind, None, dtype)] * size  # noqa: B023


class Custom(mc.layer.Layer):
    def build(self, input_shape, rng):
        return super().build(input_shape, rng)

    def forward(self, x, training=False):
        return x - x.mean(0) if training else x

    def backward(self, dy):
        return dy - dy.mean(0)


def test_custom_layers_are_computed_by_all_and_said():
    KINDS["custom"] = lambda: [Custom()]
    try:
        alone = trained("custom", None, "float32")
        with pytest.warns(UserWarning, match="each rank computes whole batches: Custom runs in Python"):
            found = in_threads(2, lambda one: trained("custom", one, "float32"))
    finally:
        del KINDS["custom"]
    assert found == [alone] * 2


def test_without_mpi4py_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r'^Sequential.distribute: needs mpi4py, .*pip install "minicnn\[mpi\]"'):
        mc.Sequential([layers.Dense(1)]).distribute()


# ---- with it ----


def mpiexec():
    """The one of the wheel mpich, and the folder of its library."""
    try:
        importlib.metadata.distribution("mpi4py")
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs mpi4py and mpich")
    path = next((one.locate() for one in files if one.name == "mpiexec"), None)
    if path is None or not os.path.exists(path):
        pytest.skip("needs mpich's mpiexec")
    path = os.path.realpath(path)
    return path, os.path.join(os.path.dirname(os.path.dirname(path)), "lib")


def start(count, scenario, folder="."):
    """(return code, what each rank has printed, stderr)."""
    path, libraries = mpiexec()
    command = [path, "-n", str(count), sys.executable, str(TESTS / "ranks.py"), scenario, str(folder)]
    more = {"UCX_LOG_LEVEL": "fatal"}  # it complains of machines without /sys, between the lines
    more |= {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, [libraries, os.environ.get("LD_LIBRARY_PATH")]))}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment(MINICNN_NUM_THREADS="1", **more)
    )
    parts = done.stdout.split(ranks.MARK)[1:] if done.returncode == 0 else []  # two lines may have become one
    return done.returncode, [json.JSONDecoder().raw_decode(part)[0] for part in parts], done.stderr


def results(count, scenario, folder="."):
    code, found, err = start(count, scenario, folder)
    assert code == 0, err
    assert len(found) == count
    return found, err


@pytest.fixture(scope="module")
def alone():
    return json.loads(json.dumps(ranks.nets(False, None)))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_any_number_of_ranks_gives_the_bits_of_one_process(alone, count):
    found, err = results(count, "nets")
    assert found == [alone] * count
    assert not re.search("Warning|Traceback|minicnn", err), err  # MPI may have something to say of the machine


def test_an_error_on_one_rank_ends_all():
    count = 3
    found, _ = results(count, "errors")
    *others, last = sorted(found, key=lambda one: one["argument"][0] == "ValueError")
    told = f"Sequential.fit: rank {count - 1} of {count} raised "
    of_rank = f"on rank {count - 1} of {count}; the others have left Sequential.fit with it"
    for name, kind, text in (
        ("argument", "ValueError", "Sequential.fit: batch_size must be a whole number >= 1; got 0"),
        ("bad data", "ValueError", "Sequential.fit: batch 0 of epoch 0: x must be finite in float32"),
        ("hook", "OSError", "disk full"),
        ("interrupt", "KeyboardInterrupt", ""),
    ):
        assert last[name][0] == kind
        assert last[name][1].startswith(text)
        assert of_rank in last[name]
        for other in others:
            assert other[name][0] == "RankError"
            assert other[name][1].startswith(f"{told}{kind}: {text}")
    for one in found:
        assert "the arguments must be the same on all ranks" in one["other argument"][1]
        assert "all ranks must do the same" in one["other call"][1]
        assert "all ranks must hold the same weights after an epoch" in one["other weights"][1]
        assert one["stopped"] == 2
        assert one["fingerprint"] == found[0]["fingerprint"]


def test_a_rank_that_does_not_answer_is_named():
    found, _ = results(2, "late")
    assert found == ["Sequential.fit: rank 1 of 2 did not answer within 0.3 s"] * 2


def test_a_rank_that_is_killed_ends_the_job():
    code, _, _ = start(2, "killed")
    assert code != 0


def test_a_run_goes_on_at_another_number_of_ranks(tmp_path):
    for name in ("alone", "ranks"):
        (tmp_path / name).mkdir()
    alone = json.loads(json.dumps(ranks.resumed(False, tmp_path / "alone")))
    stopped, err = results(2, "stopped", tmp_path / "ranks")
    assert err.count("epoch 1/4") == 1  # by the first rank alone
    assert err.count("saved") <= 2
    assert stopped[0] != alone
    found, err = results(3, "resumed", tmp_path / "ranks")
    assert found == [alone] * 3
    assert err.count("epoch 4/4") == 1
    assert (tmp_path / "ranks/log.csv").read_text() == (tmp_path / "alone/log.csv").read_text()
    models = [mc.Sequential.load(tmp_path / name / "best.npz").fingerprint() for name in ("alone", "ranks")]
    assert models[0] == models[1]
    assert not (tmp_path / "ranks/backup").exists()
    assert np.isfinite(alone[2])
