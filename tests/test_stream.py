"""Data larger than memory: sequences, loaders, iterators and memory maps train as arrays do, bit for bit."""

import itertools
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from models import LABELS, Hook, X, compiled, whole_state

import minicnn as mc
from minicnn import layers
from minicnn.callbacks import Callback

FIT = {"epochs": 2, "verbose": 0}
SIZE = 5
CUTS = [slice(0, 5), slice(5, 10), slice(10, 12)]  # of an epoch of arrays
WEIGHTS = np.linspace(0.5, 1.5, len(X))


def parts(weights=False):
    return [(X[cut], LABELS[cut], *([WEIGHTS[cut]] if weights else [])) for cut in CUTS]


class Items:
    """A sequence; keeps what was asked of it."""

    def __init__(self, batches=None, workers=1):
        self.batches, self.workers, self.asked = parts() if batches is None else batches, workers, []

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        self.asked.append(i)
        return self.batches[i]

    def on_epoch_end(self):
        self.asked.append("end")


class Loader:
    """Can be iterated again and again."""

    def __init__(self, batches=None, length=3):
        self.batches, self.length = parts() if batches is None else batches, length

    def __len__(self):
        return self.length

    def __iter__(self):
        return iter(self.batches)


class Tensor:
    """What np.asarray takes, as a tensor of PyTorch."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype)


def endless(weights=False):
    return itertools.cycle(parts(weights))


def fitted(*arguments, model=None, **more):
    model = compiled() if model is None else model
    history = model.fit(*arguments, **FIT | more).history
    return whole_state(model), history, model.input_range


def threads():
    return [one for one in threading.enumerate() if one.name == "minicnn data"]


@pytest.fixture(autouse=True)
def no_thread_is_left_behind():
    yield
    assert threads() == []


# ---- the same bits as with arrays ----


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("kind", ["items", "inline", "list", "loader", "tensors", "iterator", "map"])
def test_batches_are_arrays_bit_for_bit(kind, weights, tmp_path):
    arrays = {"sample_weight": WEIGHTS} if weights else {}
    want = fitted(X, LABELS, batch_size=SIZE, shuffle=False, **arrays)
    given, more = parts(weights), {"shuffle": False}
    if kind == "map":
        np.save(tmp_path / "x.npy", X)
        found = fitted(np.load(tmp_path / "x.npy", mmap_mode="r"), LABELS, SIZE, **more, **arrays)
    elif kind == "iterator":
        found = fitted(endless(weights), steps_per_epoch=3)
    elif kind == "tensors":
        found = fitted(Loader([[Tensor(one) for one in batch] for batch in given]))
    else:
        made = {"items": Items(given), "inline": Items(given, workers=0), "list": given, "loader": Loader(given)}
        found = fitted(made[kind], **more)
    assert found == want


@pytest.mark.parametrize("steps", [None, 2, 7])
@pytest.mark.parametrize("mode", ["r", "c", None])
def test_shuffled_rows_of_a_memory_map(mode, steps, tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", LABELS)
    more = {"batch_size": SIZE, "steps_per_epoch": steps, "class_weight": {0: 2.0}}
    want = fitted(X, LABELS, **more)
    found = fitted(np.load(tmp_path / "x.npy", mmap_mode=mode), np.load(tmp_path / "y.npy", mmap_mode=mode), **more)
    assert found == want
