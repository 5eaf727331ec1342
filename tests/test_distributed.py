"""Ranks of MPI: the bits of one process at any number of them, files by one of them, and errors that end all."""

import contextlib
import importlib.metadata
import itertools
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
from test_layer_contract import new, shape_of

import minicnn as mc
import minicnn.cli.ranks
from minicnn import cells, distributed, layers, stream
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
        with contextlib.suppress(threading.BrokenBarrierError):  # another rank is beyond it, and has left with an error
            self.barrier.wait(60)

    def take_signals(self):
        pass

    def give_signals(self):
        pass

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


def with_ranks(given, chain=None, **more):
    """The model of ranks.py, distributed over ``Threads``, or None."""
    return distributed_over(given, ranks.model(False, chain, **more))


def distributed_over(given, model):
    if given is not None:
        model._put(ranks=given)
        model.engine.ranks = given
    return model


def trained(kind, given, dtype):
    chain = [*KINDS[kind](), layers.Flatten(), layers.Dense(4, activation="softmax")]
    model = with_ranks(given, chain, dtype=dtype)
    model.fit(ranks.X, ranks.LABELS, batch_size=70, verbose=0)
    return model.fingerprint(), model.history.history


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_layer_gives_the_bits_of_one_process(kind):
    for size, dtype in (2, "float32"), (5, "float64"):
        assert in_threads(size, lambda one: trained(kind, one, dtype)) == [trained(kind, None, dtype)] * size  # noqa: B023


@pytest.mark.parametrize("name", layers.__all__)
def test_every_layer_gives_the_bits_of_one_process(name):
    x = np.random.default_rng(5).random((70, *shape_of(name)))

    def found(given):
        model = mc.Sequential([new(name), layers.Flatten(), layers.Dense(5)], seed=3)
        model.build(x.shape[1:])
        model.compile(mc.optimizers.SGD(0.05, momentum=0.9, clipnorm=1.0), "sparse_categorical_crossentropy")
        distributed_over(given, model)
        history = model.fit(x, np.arange(70) % 5, 41, verbose=0, validation_split=0.2, class_weight={0: 2.0}).history
        return history, model.fingerprint(), model.predict(x, 16).tobytes()

    assert in_threads(3, found) == [found(None)] * 3


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


# ---- who reads what ----


class Counting:
    """Batches of 64, 64 and 19 samples, of which it counts the rows that are read; the others are NaN."""

    def __init__(self):
        self.read = 0
        self.batches = [(ranks.X[at : at + 64], ranks.LABELS[at : at + 64]) for at in (0, 64, 128)]

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, number):
        return self.read_rows(number, lambda n: slice(0, n))

    def read_rows(self, number, rows_of):
        x, y = self.batches[number]
        rows = rows_of(len(x))
        self.read += len(x[rows])
        found = np.full_like(x, np.nan)
        found[rows] = x[rows]
        return found, y


@pytest.mark.parametrize("size", [2, 3])
def test_a_rank_reads_its_part_of_data_that_can_be_read_in_parts(size):
    def found(given):
        model, data, test = with_ranks(given), Counting(), Counting()
        history = model.fit(data, epochs=3, verbose=0, validation_data=test).history
        outputs = model.predict(data)
        facts = model.fingerprint(), history, model.input_range, model.input_mean, outputs.tobytes()
        return facts, data.read, test.read

    def rows(n, rank):
        node, _ = nodes_of(n, size)[rank]
        return node.last - node.first

    (facts, *alone), together = found(None), in_threads(size, found)
    assert alone == [4 * 147, 3 * 147]
    assert [one for one, _, _ in together] == [facts] * size
    for rank, (_, read, tested) in enumerate(together):
        steps = 3 * (2 * rows(64, rank) + 19)  # all compute 19 samples
        own = sum((64, 64, 19)[rank::size])
        assert tested == 3 * own
        first = {64: 64 - rows(64, rank), 19: 0}  # the first batch is read whole: the mean of the inputs is that of it
        assert read - own - steps in first.values()


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_rank_reads_its_rows_of_a_memory_map(shuffle, tmp_path, monkeypatch):
    path, counts, take = tmp_path / "x.npy", {}, np.take
    np.save(path, ranks.X)

    def counting(array, rows, **more):
        if stream.on_disk(array):
            counts[more["out"].ctypes.data] = counts.get(more["out"].ctypes.data, 0) + len(rows)
        return take(array, rows, **more)

    def found(given):
        model, x = with_ranks(given), np.load(path, mmap_mode="r")
        history = model.fit(
            x, ranks.LABELS, 64, 2, verbose=0, shuffle=shuffle, validation_data=(x, ranks.LABELS)
        ).history
        return model.fingerprint(), history, model.input_range, model.input_mean, model.evaluate(x, ranks.LABELS, 10)

    alone = found(None)
    monkeypatch.setattr(np, "take", counting)
    assert in_threads(2, found) == [alone] * 2
    if shuffle:
        whole = 2 * 64 + 4 * 19  # each rank: its first batch, and those that all compute
        assert sum(counts.values()) == whole + 3 * 64


def test_where_the_loss_is_not_finite_all_ranks_name_the_layer():
    """Also those that have not the sample."""

    def found(given):
        model = with_ranks(given, [layers.Flatten(), layers.Dense(8), layers.Dense(4, activation="softmax")])
        x = ranks.X.copy()
        x[3] = 3e38
        with pytest.raises(FloatingPointError) as caught:
            model.fit([(x, ranks.LABELS)], verbose=0)
        return str(caught.value)

    assert in_threads(2, found) == [found(None)] * 2


def test_without_mpi4py_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r'^Sequential.distribute: needs mpi4py, .*pip install "minicnn\[mpi\]"'):
        mc.Sequential([layers.Dense(1)]).distribute()


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, (0, 1)),
        ({"PMI_SIZE": "4", "PMI_RANK": "3"}, (3, 4)),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, (0, 2)),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, (0, 1)),  # the script of a job, which runs once
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1"}, (0, 1)),  # a program that is to run four times
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1", "PMIX_RANK": "1"}, (1, 4)),
        ({"PMI_SIZE": "1", "PMI_RANK": "0"}, (0, 1)),
        ({"PMI_SIZE": "two", "PMI_RANK": "0"}, (0, 1)),
        ({"PMI_SIZE": "2", "PMI_RANK": "2"}, (0, 1)),
    ],
)
def test_a_launcher_is_known_by_its_variables(monkeypatch, variables, found):
    for name in itertools.chain(*minicnn.cli.ranks.LAUNCHERS):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert minicnn.cli.ranks.started_as() == found


@pytest.mark.parametrize("rank", [0, 1])
def test_the_command_line_under_mpiexec_says_once_what_to_install(monkeypatch, tmp_path, capsys, rank):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", str(rank))
    streams = sys.stdout, sys.stderr
    assert minicnn.cli.main(["train", "--out", str(tmp_path / "run")]) == 1
    assert (sys.stdout, sys.stderr) == streams
    out, err = capsys.readouterr()
    assert out == ""
    wanted = r'minicnn: error: minicnn train: needs mpi4py, .*pip install "minicnn\[mpi\]"\n' if rank == 0 else ""
    assert re.fullmatch(wanted, err)
    assert not list(tmp_path.iterdir())


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
        assert "the method must be the same on all ranks" in one["other call"][1]
        assert "all ranks must hold the same weights between epochs" in one["other weights"][1]
        assert one["stopped"] == 2
        assert one["communicators"] < 20
        assert one["fingerprint"] == found[0]["fingerprint"]


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_that_do_something_else_are_told(count):
    found, _ = results(count, "others")
    for name in found[0]:
        for one in found:
            kind, said = one[name]
            assert kind in ("ValueError", "RankError"), (name, kind, said)
            what = name.partition(": ")[2] or "method"
            if name == "predict: number":  # one of them is at its end
                assert "all ranks must do the same" in said
            else:
                assert re.search(rf"{what}( samples)? (must be the same on all ranks|between epochs)", said), (
                    name,
                    said,
                )


def test_interrupts_at_any_time_leave_nobody_waiting():
    found, _ = results(3, "interrupts")
    assert max(longest for longest, _ in found) < 20
    assert len({fingerprint for _, fingerprint in found}) == 1


def test_a_rank_that_never_answers_does_not_keep_the_others_from_ending():
    code, _, err = start(2, "asleep")
    assert code != 0
    assert "RankError: Sequential.fit: rank 1 of 2 did not answer within 0.3 s" in err


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


# ---- the command line ----


@pytest.fixture(scope="module")
def commands_alone(tmp_path_factory):
    """The results of one process: after 2 epochs, 3 and 1."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("alone"))
        for epochs in "231":
            status, out, _ = ranks.command("--epochs", epochs, "--json", "--out", f"run{epochs}")
            assert status == 0
            found.append(json.loads(out))
    return found


@pytest.mark.parametrize("count", [2, 3])
def test_the_command_line_trains_on_all_ranks_and_ends_on_all(commands_alone, tmp_path, count):
    found, _ = results(count, "commands", tmp_path)
    first = max(found, key=lambda one: len(one["whole"][1]))
    last = count - 1
    for name, status in (
        *(("whole", 0), ("again", 1), ("wrong", 2), ("other words", 1), ("no memory", 1), ("a fault", 1)),
        *(("other data", 1), ("interrupt", 130), ("resume", 0), ("overwrite", 0)),
    ):
        assert [one[name][0] for one in found] == [status] * count, (name, found)
        assert [one[name][1:] for one in found if one is not first] == [["", ""]] * last
    for name, expected in zip(("whole", "resume", "overwrite"), commands_alone, strict=True):
        got = json.loads(first[name][1])
        for key in ("fingerprint", "loss", "accuracy", "epochs", "samples", "seed"):
            assert got[key] == expected[key], (name, key)
        assert first[name][2].count("\nepoch ") == {"whole": 2, "resume": 2, "overwrite": 1}[name]
    raised = f"minicnn: error: minicnn train: rank {last} of {count} raised"
    for name, text in (
        ("again", "minicnn: error: minicnn-run-1: there is a run already"),
        ("other words", "minicnn: error: minicnn train: the command line must be the same on all ranks"),
        ("no memory", f"{raised} MemoryError: no room"),
        ("a fault", f"{raised} KeyError: 0"),
    ):
        assert first[name][2].startswith(text)
        assert first[name][2].count("\n") == 1
    assert first["wrong"][2].count("argument --epochs: invalid") == 1
    assert "the samples must be the same on all ranks" in first["other data"][2]
    assert "interrupted; what has been trained is in stopped" in first["interrupt"][2]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["minicnn-run-1", "other", "stopped"]
    assert (tmp_path / "stopped/history.json").read_text().count("accuracy") == 2


@pytest.mark.parametrize(("scenario", "rank"), [("silent", 1), ("first_is_silent", 0)])
def test_the_command_line_waits_for_no_rank_for_ever(tmp_path, scenario, rank):
    code, _, err = start(2, scenario, tmp_path)
    assert code != 0
    assert err.count(f"minicnn: error: minicnn train: rank {rank} of 2 did not answer within 0.3 s") == 1, err
    assert not (tmp_path / "never").exists()
