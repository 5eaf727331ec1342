"""The benchmarks run, say what they compared, and time nothing that is wrong.  How fast anything is, is not tested."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minicnn as mc

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def benchmarks(monkeypatch):
    """The package, with nothing else installed than minicnn needs."""
    monkeypatch.syspath_prepend(ROOT)
    import benchmarks
    from benchmarks import rivals

    monkeypatch.setattr(rivals, "have", lambda *packages: False)
    return benchmarks


def command(*arguments):
    paths = os.pathsep.join([str(Path(mc.__file__).resolve().parent.parent), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONWARNINGS": "error", "MINICNN_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], env=environment, capture_output=True, text=True, timeout=300
    )


def rows(text, first):
    """The rows of a Markdown table whose first cell begins with ``first``."""
    return [line for line in text.splitlines() if line.startswith(f"| {first}")]


def test_kernels_on_the_command_line():
    result = command("kernels", "--quick")
    assert result.returncode == 0, result.stderr
    assert re.search(r", 1 thread; minicnn [\d.]+ at ", result.stdout)
    assert len(rows(result.stdout, "26x26, 32 -> 64")) == 10  # three passes, three algorithms, and the limit
    for kernel in ("relu", "dropout", "32x32x32, 2x2", "batch norm, 48", "optimiser", "10 classes"):
        assert len(rows(result.stdout, kernel)) >= 2, kernel
    assert re.search(r"^\| C = 12 \| \d+ \d+ \d+ \| \d+ \d+ \d+ \|$", result.stdout, re.MULTILINE)  # every width
    assert "Lowest of 3x3: forward " in result.stdout
    for error in re.findall(r"\| (\d)e([+-]\d\d) \|$", result.stdout, re.MULTILINE):
        assert float(f"{error[0]}e{error[1]}") < 1e-4


def test_an_unknown_name_on_the_command_line():
    result = command("kernel")
    assert result.returncode == 2
    assert "there is no part 'kernel'; the parts are kernels, layers, " in result.stderr


@pytest.mark.parametrize(("part", "networks"), [("steps", ["lenet5", "digits"]), ("scaling", ["keras_mnist, 8", "8x8"]),
                                                ("dropout", ["64 Ki"]), ("contention", ["digits"]),
                                                ("imports", ["minicnn"]),
                                                ("residual", ["training step", "forward, backward"]),
                                                ("layers", ["SELU"]), ("fit", ["bare", "fit, a sequence"]),
                                                ("augment", ["RandomZoom(0.2)"]),
                                                ("depthwise", ["14x14, 32 x 2"]),
                                                ("sklearn_fit", ["MLP 64"])])  # fmt: skip
def test_parts_run_without_the_packages_that_are_compared(benchmarks, part, networks):
    from benchmarks.__main__ import section

    text = section(part, quick=True, plots=None)
    for network in networks:
        assert rows(text, network), network
    if part == "steps":
        assert "Not installed, so not in the tables: PyTorch, ONNX Runtime, its graphs." in text


def test_ranks_or_what_is_missing_for_them(benchmarks, monkeypatch):
    """One process and two ranks, started by the part itself, have the same fingerprint."""
    from benchmarks import ranks

    monkeypatch.chdir(ROOT)
    text = ranks.run(quick=True)
    if ranks.mpiexec() is None:
        assert text.startswith("Not measured: ")
        return
    assert len(rows(text, "digits")) == 2  # measured, and on paper
    assert [len(rows(text, f"{count} |")) for count in ranks.COUNTS] == [1] * 5


def test_ranks_on_paper(benchmarks):
    """By hand: 8 ranks, a step of 1 ms + 0.1 ms a sample, 4 MB of gradients, one BatchNormalization."""
    from benchmarks import ranks

    one = {"alone": [1e-3 + 16e-4, 1e-3 + 128e-4], "gradients": 4_000_000, "norms": 1}
    model = ranks.Model(one, overhead=1e-5)
    network = ranks.Network("", latency=1e-4, bandwidth=1e9)
    assert model.computation(1024, 8) == pytest.approx(1e-3 + 128e-4)
    received = (4 * 10 * 1024 + 2 * 4_000_000) * 7 / 8
    assert model.exchange(1024, 8, network) == pytest.approx(5 * (3 * 1e-4 + 7 * 1e-5) + received / 1e9)
    assert model.speed_up(1024, 1, network._replace(latency=0)) == pytest.approx(1, abs=0.01)
    assert ranks.smallest(64, ranks.Model(one | {"alone": [1, 1]}, 1.0)) == "-, -"


def test_memory_is_that_of_another_process(benchmarks, monkeypatch):
    from benchmarks import memory

    monkeypatch.chdir(ROOT)
    if memory.peak() is None:
        pytest.skip("no /proc")
    peak, imported = memory.measured("digits", "minicnn")
    assert 10e6 < imported < peak < 1e9


def test_a_wrong_result_is_not_timed(benchmarks):
    from benchmarks import kernels
    from benchmarks.machine import Case, relative_error

    found, want = np.array([1.0, 2.0]), np.array([1.0, 2.001])
    case = Case("kernel", 1, lambda: None, lambda: relative_error(found, want))
    with pytest.raises(AssertionError, match=r"shape, kernel: error 0\.0004"):
        kernels.checked("shape", case)


@pytest.mark.parametrize(
    ("dropped", "message"),
    [(1, "what the way around adds is wrong by"), (0, "rate 1 leaves the way around alone")],
)
def test_a_residual_that_adds_nothing_is_not_timed(benchmarks, monkeypatch, dropped, message):
    from benchmarks import residual

    x, _ = residual.samples(residual.SHAPE, 4)

    def both_ways(batch, kind, *arguments, **more):
        return lambda: [dropped * x if kind == residual.DEPTH else np.zeros(1)] * 2

    monkeypatch.setattr(residual, "both_ways", both_ways)
    with pytest.raises(AssertionError, match=message):
        residual.check(4)


def test_the_residual_network_runs(benchmarks):
    from benchmarks.models import MODELS, in_minicnn, samples

    shape, entries = MODELS["resnet20"]
    model = in_minicnn(entries)
    model.fit(*samples(shape, 4), batch_size=4, epochs=1, verbose=0)
    assert model.count_params() == 272_474 + 16  # those of examples/resnet.py, and a bias


def test_side_by_side_takes_turns_and_gives_medians(benchmarks):
    from benchmarks.machine import side_by_side

    calls = []
    times = side_by_side({"a": lambda: calls.append("a"), "b": lambda: [calls.append("b"), time.sleep(0.002)]},
                         rounds=5, burst=0)  # fmt: skip
    assert "".join(calls) == "aa" + "bb" + "ab" * 5  # how long a call takes, then the turns
    assert times["b"].median >= 0.002
    assert times["b"].spread >= 0


def test_sections_are_replaced_one_by_one(benchmarks, tmp_path):
    from benchmarks import results

    file, names = tmp_path / "RESULTS.md", ("a", "b", "c")
    file.write_text("# As it was before\n")
    results.put(names, "c", "## C\n\nthree", file)
    results.put(names, "a", "## A\n\none", file)
    results.put(names, "c", "## C\n\nthirty", file)
    assert results.read(file) == {"a": "## A\n\none\n", "c": "## C\n\nthirty\n"}
    assert file.read_text() == results.HEAD + "<!-- a -->\n## A\n\none\n\n<!-- c -->\n## C\n\nthirty\n"


def test_the_time_of_others_is_not_ours(benchmarks):
    from benchmarks.machine import Others

    with Others() as others:
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
    assert re.fullmatch(r"other programs took \d+ % of the CPUs|what other programs took is not known", str(others))
