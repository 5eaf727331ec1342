"""Checks of targets and weights, where no loss stands before them (test_losses.py has what losses refuse)."""

import math

import numpy as np
import pytest
from compare import assert_close, assert_same_bits

from minicnn import losses, targets


def test_class_numbers_of_labels_and_of_one_hot_rows():
    right = np.array([0, 2, 1, 2])
    for y in ([0, 2, 1, 2], [[0], [2], [1], [2]], [0.0, 2.0, 1.0, 2.0], np.eye(3)[right]):
        assert_same_bits(targets.class_numbers("f", y, 4, 3), right)
    with pytest.raises(ValueError, match=r"^f: labels must be whole numbers in \[0, 1\]; got 2 at index 1"):
        targets.class_numbers("f", right, 4, 2)
    with pytest.raises(ValueError, match=r"^f: y must have the 3 samples of the outputs; got 4"):
        targets.class_numbers("f", right, 3)


def test_class_weights_stand_where_they_always_stood():
    assert losses.class_weights is targets.class_weights


def test_class_weights():
    for y in ([0, 2, 1, 2], [[0], [2], [1], [2]], np.eye(3)[[0, 2, 1, 2]], [0.0, 2.0, 1.0, 2.0]):
        assert_close(targets.class_weights("fit", y, {0: 3, 2: 0.5}), [3, 0.5, 1, 0.5], 0, np.float64)
    assert_close(targets.class_weights("fit", [[1], [0]], {np.int64(1): 2}), [2.0, 1.0], 0)


@pytest.mark.parametrize(
    ("weights", "y", "error", "match"),
    [
        ([1, 2], [0, 1], TypeError, "^fit: class_weight must be a dictionary from class numbers to weights"),
        ({"0": 1}, [0, 1], TypeError, "a class of class_weight must be a whole number >= 0; got '0'"),
        ({-1: 1}, [0, 1], ValueError, "a class of class_weight"),
        ({0.5: 1}, [0, 1], ValueError, "a class of class_weight must be a whole number >= 0; got 0.5"),
        ({0: -1}, [0, 1], ValueError, "the weight of class 0 must be a number >= 0; got -1"),
        ({0: math.nan}, [0, 1], ValueError, "got nan"),
        ({0: "x"}, [0, 1], TypeError, "the weight of class 0"),
        ({0: 1}, [0.5, 1], ValueError, "labels must be whole numbers >= 0; got 0.5 at index 0"),
        ({0: 1}, ["a", "b"], TypeError, "Number the classes"),
        ({0: 1}, [[0.5, 0.2]], ValueError, "must sum to 1"),
    ],
)
def test_wrong_class_weights(weights, y, error, match):
    with pytest.raises(error, match=match):
        targets.class_weights("fit", y, weights)
