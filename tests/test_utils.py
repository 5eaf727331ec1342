"""One-hot rows, rows of length 1, and one seed for all."""

import random

import numpy as np
import pytest

import minicnn as mc
from minicnn import layers, utils


def test_rows_are_those_of_keras():
    rows = utils.to_categorical([0, 2, 1])
    assert rows.dtype == np.float64
    assert rows.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert utils.to_categorical([[0], [2]], 4).tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]
    assert utils.to_categorical(np.zeros((2, 3, 1), np.uint8), 2).shape == (2, 3, 2)
    assert utils.to_categorical(np.zeros((2, 3), bool)).shape == (2, 3, 1)
    assert utils.to_categorical([1.0, 0.0]).tolist() == [[0, 1], [1, 0]]
    assert utils.to_categorical(1, 3).tolist() == [0, 1, 0]
    assert utils.to_categorical([], 3).shape == (0, 3)


@pytest.mark.parametrize(("x", "classes", "error", "message"), [
    ([0, 3], 3, ValueError, r"x must be below num_classes=3; got 3"), ([-1], 3, ValueError, ".* >= 0; got -1"),
    ([0.5], None, ValueError, "x must be class numbers, whole and >= 0; got 0.5"), ([], None, ValueError, "needs num_"),
    ([float("nan")], None, ValueError, ".*; got nan"), ([1e300], None, ValueError, "x must be class numbers"),
    (["a"], None, TypeError, "x must be an array of numbers"), ([0], 0, ValueError, "num_classes must be"),
    ([0], 2.0, TypeError, "num_classes must be"), ([0], True, TypeError, "num_classes must be"),
])  # fmt: skip
def test_numbers_that_are_no_classes(x, classes, error, message):
    with pytest.raises(error, match=f"^utils.to_categorical: {message}"):
        utils.to_categorical(x, classes)


def test_normalize():
    assert utils.normalize([[3.0, 4.0], [0.0, 0.0]]).tolist() == [[0.6, 0.8], [0.0, 0.0]]
    assert utils.normalize([[3.0, 4.0]], axis=0).tolist() == [[1.0, 1.0]]
    assert utils.normalize([3, -1], order=1).tolist() == [0.75, -0.25]
    with pytest.raises(TypeError, match=r"^utils.normalize: x must be an array of numbers"):
        utils.normalize(["a"])


@pytest.fixture
def seeds():
    states = random.getstate(), np.random.get_state()
    yield
    utils.set_random_seed(0)
    random.setstate(states[0])
    np.random.set_state(states[1])


def test_one_seed_for_all(seeds):
    def drawn():
        model = mc.Sequential([mc.Input((3,)), layers.Dense(2)])
        return random.random(), np.random.random(), model.seed, model.fingerprint()

    utils.set_random_seed(7)
    first = drawn()
    assert first[2] == 7
    assert mc.Sequential(seed=3).seed == 3
    assert mc.Sequential.from_config({**mc.Sequential(seed=0).get_config()}).seed == 0
    assert first[3] == mc.Sequential([mc.Input((3,)), layers.Dense(2)], seed=7).fingerprint()
    assert drawn()[:2] != first[:2]
    utils.set_random_seed(7)
    assert drawn() == first
    utils.set_random_seed(8)
    assert all(a != b for a, b in zip(drawn(), first, strict=True))


def test_a_model_without_a_seed_may_stand_in_another_whatever_the_default_is(seeds):
    utils.set_random_seed(7)
    part = mc.Sequential([layers.Dense(2)])
    utils.set_random_seed(8)
    assert mc.Sequential([part, layers.Dense(1)]).seed == 8
    with pytest.raises(RuntimeError, match=r"takes the other one's seed"):
        mc.Sequential([mc.Sequential([layers.Dense(2)], seed=8)])


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (2**32, ValueError), (1.5, TypeError), (None, TypeError)]
)
def test_seeds_that_are_refused(seed, error, seeds):
    with pytest.raises(error, match=r"^utils.set_random_seed: seed must be a whole number in \[0, 4294967295\]"):
        utils.set_random_seed(seed)
    assert utils.default_seed() == 0


# ---- a base for data that give batches ----


def test_a_dataset_of_batches():
    class Data(utils.Sequence):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.ones((3, 4)), np.zeros(3)

    model = mc.Sequential([layers.Dense(2)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert model.fit(Data(), epochs=2, verbose=0).params["steps"] == 2
    assert model.fit(Data(workers=0), validation_data=Data(), verbose=0).epoch == [0]
    for wrong in ({"workers": 4}, {"use_multiprocessing": True}, {"workers": None}):
        with pytest.raises(
            ValueError, match=r"^Data: one thread prepares the next batch, so workers must be 1 or 0 .*; got w"
        ):
            Data(**wrong)
    for ask in (len, lambda data: data[0]):
        with pytest.raises(NotImplementedError, match=r"^PyDataset has no __"):
            ask(utils.PyDataset())
