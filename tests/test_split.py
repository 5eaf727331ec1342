"""Dividing samples: sizes as scikit-learn's, every class in both parts, the same parts everywhere."""

import math

import numpy as np
import pytest

from minicnn import datasets
from minicnn.datasets import train_test_split


def divided(y, **arguments):
    """(y of the training part, y of the test part), after a look at what must hold of every split."""
    x = np.arange(len(y)) * 10
    x_train, x_test, y_train, y_test = train_test_split(x, y, **arguments)
    assert sorted([*x_train, *x_test]) == x.tolist()
    np.testing.assert_array_equal(np.asarray(y)[x_train // 10], y_train)
    np.testing.assert_array_equal(np.asarray(y)[x_test // 10], y_test)
    return y_train, y_test


# sizes of scikit-learn 1.5: ceil of the product as floats compute it
@pytest.mark.parametrize(("n", "size", "count"), [
    (10, 0.2, 2), (11, 0.2, 3), (100, 0.07, 8), (7, 0.5, 4), (10, 3, 3), (2, 1, 1), (10, np.int64(4), 4), (30, 0.1, 3),
])  # fmt: skip
@pytest.mark.parametrize("stratify", [True, False, None])
def test_sizes(n, size, count, stratify):
    training, test = divided(np.zeros(n, int), test_size=size, stratify=stratify)
    assert (len(training), len(test)) == (n - count, count)


@pytest.mark.parametrize("counts", [(50, 30, 20), (2, 2, 96), (1, 2, 3, 40), (5, 5), (33, 33, 34), (7, 1), (3, 97)])
@pytest.mark.parametrize("size", [0.2, 0.1, 0.5, 0.34])
def test_every_class_has_its_share_of_both_parts(counts, size):
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)) * 2 + 5, counts))
    n, wanted = len(y), math.ceil(size * len(y))
    if wanted < sum(count > 1 for count in counts):
        with pytest.raises(ValueError, match="Choose a larger test_size, or stratify=False"):
            divided(y, test_size=size)
        return
    _, test = divided(y, test_size=size)
    assert len(test) == wanted
    for number, count in enumerate(counts):
        share = (test == number * 2 + 5).sum()
        assert share == 0 if count == 1 else 1 <= share <= count - 1
        if 1 not in counts and 2 not in counts:
            assert abs(share - size * count) <= 1 + len(counts) / n


def test_equal_remainders_go_to_the_first():
    with pytest.raises(ValueError, match=r"a sample of each of the 4 classes on both sides: at least 4 of 20"):
        divided(np.repeat([0, 1, 2, 3], 5), test_size=3)
    _, test = divided(np.repeat([0, 1, 2, 3], 5), test_size=6)
    assert np.bincount(test).tolist() == [2, 2, 1, 1]


def test_the_order_is_that_of_the_seed():
    y = np.arange(40) % 4
    train, test, *_ = train_test_split(np.arange(40), y, seed=7)
    order = datasets.order(40, 7)
    assert train.tolist() == [number for number in order if number in train]
    assert test.tolist() == [number for number in order if number in test]
    assert train.tolist() != sorted(train)
    plain, first, *_ = train_test_split(np.arange(40), y, stratify=False, seed=7)
    assert [*first, *plain] == order.tolist()
    first, second, *_ = train_test_split(np.arange(8), [0, 1] * 4, 0.25, seed=3)
    assert (first.tolist(), second.tolist()) == ([4, 0, 3, 6, 5, 7], [2, 1])  # on every machine
    assert train_test_split(np.arange(40), y, seed=8)[0].tolist() != train.tolist()


@pytest.mark.parametrize("labels", [
    np.array(["b", "a", "c"] * 10, object),
    np.array(["b", "a", "c"] * 10), ["b", "a", "c"] * 10, np.array([3.0, -1.0, 2.0] * 10), np.eye(3)[[0, 1, 2] * 10],
    np.array([[4], [9], [7]] * 10), np.array([True, False, False] * 10),
])  # fmt: skip
def test_what_counts_as_classes(labels):
    _, test = divided(labels, test_size=6)
    rows, counts = np.unique(test, axis=0, return_counts=True)
    assert counts.tolist() == ([2, 2, 2] if len(rows) == 3 else [4, 2])


@pytest.mark.parametrize(
    "y", [np.linspace(0, 1, 20), np.linspace(0, 1, 40).reshape(20, 2), np.ones((20, 2)), [np.nan] * 20]
)
def test_a_regression_is_divided_plainly(y):
    want = train_test_split(np.arange(20), y, stratify=False)
    for one, other in zip(train_test_split(np.arange(20), y), want, strict=True):
        np.testing.assert_array_equal(one, other)


def test_labels_of_their_own():
    labels = np.array(["a", "b"] * 10)
    x, y = np.arange(20), np.linspace(0, 1, 20)
    _, test, *_ = train_test_split(x, y, 0.2, labels)
    assert np.unique(labels[test], return_counts=True)[1].tolist() == [2, 2]


def test_a_memory_map_and_pictures(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(30 * 4).reshape(30, 2, 2))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    x_train, x_test, _, y_test = train_test_split(x, np.arange(30) % 3)
    assert not isinstance(x_train.base, np.memmap)
    assert (x_test[:, 0, 0] // 4 % 3 == y_test).all()


@pytest.mark.parametrize(("arguments", "error", "text"), [
    (([1, 2], [1, 2, 3]), ValueError, "the same number of samples; got 2 and 3"),
    (([1, 2], [1, 2], 2), ValueError, "test_size must leave samples on both sides of 2; got 2"),
    (([1, 2], [1, 1], 0.9), ValueError, "test_size must leave samples on both sides of 2; got 0.9"),
    (([1], [1]), ValueError, "both sides of 1"),
    (([], []), ValueError, "both sides of 0"),
    (([1, 2], [1, 2]), ValueError, "a class of two samples or more to divide; got 2 samples in as many classes. stra"),
    (([1, 2], [1, 1], 0), ValueError, "test_size must be a whole number >= 1; got 0"),
    (([1, 2], [1, 1], 1.0), ValueError, r"test_size must be a number in \(0, 1\); got 1.0"),
    (([1, 2], [1, 1], True), TypeError, r"test_size must be a number in \(0, 1\); got True \(bool\)"),
    (([1, 2], [1, 1], float("nan")), ValueError, "got nan"),
    (([1, 2], [1, 1], 0.5, "yes"), ValueError, "stratify must have a batch axis|stratify must be"),
    (([1, 2], [1, 1], 0.5, [0.5, 0.7]), ValueError, "stratify must be True, False, or one label for each of the 2"),
    (([1, 2], [1, 1], 0.5, True, -1), ValueError, r"^datasets\.train_test_split: seed must be a whole number in \[0, "),
    (([1, 2], [1, 1], 0.5, True, 0.0), TypeError, r"^datasets\.train_test_split: seed must be a whole number"),
    ((5, [1, 1]), ValueError, "x must have a batch axis"),
    (([1, 2], [None, 1]), TypeError, "y must be an array of numbers"),
    (([[1], [1, 2]], [1, 1]), ValueError, "x must be a rectangular array"),
    (([1, 2], np.array(["a", 1], object)), TypeError, "y must be an array of numbers"),
])  # fmt: skip
def test_bad_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        train_test_split(*arguments)
