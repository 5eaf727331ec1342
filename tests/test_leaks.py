"""Memory that is given back: the same work again and again takes no more of it."""

import gc
import sys

import pytest
from models import LABELS, X, chain
from programs import output_of

import minicnn as mc

MOST = 1 << 20  # bytes of growth


def cycle(path):
    """Builds, trains, saves, loads and deletes a model, on plans of several sizes."""
    model = mc.Sequential(chain(), seed=1)
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    model.fit(X, LABELS, batch_size=5, validation_split=0.2, verbose=0)
    model.predict(X[:3])
    model.loss(model.forward(X, training=True), LABELS)
    mc.saving.save_checkpoint(model, path, 1, model.history.history)
    loaded, _, _ = mc.saving.load_checkpoint(path)
    loaded.evaluate(X, LABELS)
    try:
        loaded.fit(X, LABELS[:3])
    except ValueError:
        pass
    else:
        raise AssertionError


def resident():
    """Bytes of memory that the process has now."""
    gc.collect()
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss_Anon:")) << 10


def main(cycles, path):
    """Prints by how many bytes the memory grows over the cycles, after as many that fill caches and tables."""
    for _ in range(max(20, cycles)):
        cycle(path)
    before = resident()
    for _ in range(cycles):
        cycle(path)
    print(resident() - before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory of a process as Linux tells it")
@pytest.mark.parametrize("cycles", [40, pytest.param(200, marks=pytest.mark.long)])
def test_models_that_come_and_go_leave_nothing(cycles, tmp_path):
    code = f"import test_leaks; test_leaks.main({cycles}, {str(tmp_path / 'm.npz')!r})"
    assert int(output_of("-c", code)) < MOST
