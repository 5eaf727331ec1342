"""The counter-based generator and the order of samples drawn from it."""

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from test_reference import PHILOX_VECTORS

from minicnn._ext.machinery import random

WORD = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(("counter", "key", "want"), PHILOX_VECTORS)
def test_published_vectors(counter, key, want):
    assert random.philox4x32(counter, key) == want


@given(st.tuples(WORD, WORD, WORD, WORD), st.tuples(WORD, WORD))
def test_against_the_reference(counter, key):
    assert random.philox4x32(counter, key) == reference.philox(counter, key)


def test_purposes_never_share_a_stream():
    purposes = [random.TRAINING_MASK, random.MC_MASK, random.SHUFFLE, random.AUGMENTATION]
    assert len(set(purposes)) == 4
    assert all(0 <= purpose < 16 for purpose in purposes)  # stream = 16 * layer + purpose


def shuffled(n, seed=0, epoch=0, *stream):
    order = np.arange(n)
    random.shuffle(order, seed, epoch, *stream)
    return order


@given(st.integers(0, 300), st.integers(0, 2**64 - 1), WORD, WORD)
def test_shuffle_is_a_permutation_drawn_as_documented(n, seed, epoch, stream):
    want = reference.permutation(n, seed, epoch, random.SHUFFLE)
    assert sorted(want) == list(range(n))
    assert shuffled(n, seed, epoch).tolist() == want
    assert shuffled(n, seed, epoch, stream).tolist() == reference.permutation(n, seed, epoch, stream)


def test_shuffle_depends_on_seed_and_epoch():
    orders = [shuffled(50, seed, epoch).tolist() for seed in (0, 1, 2**40) for epoch in (0, 1, 2)]
    assert len({tuple(order) for order in orders}) == 9
    assert shuffled(50, 1, 2).tolist() == orders[5]


def test_shuffle_favours_no_place():
    """Over 3,000 epochs every one of 6 values comes to every place 500 times, give or take 5 standard deviations."""
    counts = np.zeros((6, 6), int)
    for epoch in range(3000):
        counts[np.arange(6), shuffled(6, 3, epoch)] += 1
    assert np.abs(counts - 500).max() < 5 * np.sqrt(3000 * 1 / 6 * 5 / 6)


def test_shuffle_refuses_what_it_cannot_shuffle():
    with pytest.raises((TypeError, ValueError)):
        random.shuffle(np.arange(4.0), 0, 0)
    with pytest.raises(TypeError):
        random.shuffle(None, 0, 0)
    with pytest.raises(OverflowError):
        random.shuffle(np.arange(4), -1, 0)
    frozen = np.arange(4)
    frozen.flags.writeable = False
    with pytest.raises(ValueError):
        random.shuffle(frozen, 0, 0)
