"""Gathering batches against NumPy's indexing."""

import numpy as np
import pytest
from compare import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from running import THREADS, use_threads

from minicnn._ext import batch

KINDS = [np.uint8, np.int64, np.float32, np.float64]
REALS = [np.float32, np.float64]


def samples(n, size, kind, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(kind).kind == "f":
        return rng.standard_normal((n, size)).astype(kind)
    return rng.integers(0, 256 if kind is np.uint8 else 2**40, (n, size)).astype(kind)


def gather(source, order, dtype):
    out = np.full((len(order), source.shape[1]), np.nan, dtype)
    return batch.gather(source, np.array(order, np.int64), out), out


@given(st.integers(1, 9), st.integers(0, 150), st.integers(0, 20), st.sampled_from(KINDS), st.sampled_from(REALS))
def test_every_kind_and_size(n, size, count, kind, dtype):
    source = samples(n, size, kind)
    order = np.random.default_rng(count).integers(0, n, count)
    bad, out = gather(source, order, dtype)
    assert bad == -1
    assert_same_bits(out, source[order].astype(dtype))


@pytest.mark.parametrize("dtype", REALS)
def test_all_bytes(dtype):
    source = np.arange(256, dtype=np.uint8).reshape(1, 256)
    assert_same_bits(gather(source, [0], dtype)[1], np.arange(256, dtype=dtype).reshape(1, 256))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_cannot_be_written(kind, dtype):
    source = samples(5, 7, kind)
    source.flags.writeable = False
    assert_same_bits(gather(source, [4, 0, 4], dtype)[1], source[[4, 0, 4]].astype(dtype))


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 17, 36])
def test_the_first_sample_that_is_not_finite(wrong, column, kind, dtype, threads):
    use_threads(threads)
    source = samples(40, 37, kind)
    source[[11, 25], column] = wrong
    order = np.random.default_rng(3).permutation(40)
    bad, out = gather(source, order, dtype)
    assert bad == min(np.flatnonzero(np.isin(order, [11, 25])))
    assert_same_bits(out, source[order].astype(dtype))
    assert gather(source, order[: bad + 1], dtype)[0] == bad
    assert gather(source, order[:bad], dtype)[0] == -1


def test_what_is_too_large_for_float32():
    source = np.array([[1.0, 3.4e38], [1e39, 0.0], [0.0, -1e39], [0.0, 1e-50]])
    assert gather(source, [0, 3, 2, 1], np.float32)[0] == 2
    assert gather(source, [0, 3], np.float32)[0] == -1
    assert gather(source, [0, 3, 2, 1], np.float64)[0] == -1


@pytest.mark.parametrize("wrong", [-1, 6, 2**40, -(2**63)])
def test_an_index_out_of_range_and_nothing_is_written(wrong):
    out = np.full((3, 4), 7, np.float32)
    order = np.array([0, wrong, 5])
    with pytest.raises(ValueError, match=rf"kernel: order must hold numbers from 0 to 5; got {wrong} at index 1"):
        batch.gather(np.zeros((6, 4), np.uint8), order, out)
    assert (out == 7).all()
    labels = np.full(3, 7)
    with pytest.raises(ValueError, match="kernel: order must hold numbers from 0 to 5"):
        batch.gather_labels(np.zeros(6, np.int64), order, labels)
    assert (labels == 7).all()


def test_wrong_shapes():
    source, order = np.zeros((6, 4), np.uint8), np.zeros(3, np.int64)
    for shape in ((2, 4), (4, 4), (3, 5), (3, 3)):
        with pytest.raises(ValueError, match="kernel: out must have the rows of order and the columns of source"):
            batch.gather(source, order, np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="kernel: out must have the length of order"):
        batch.gather_labels(np.zeros(6, np.int64), order, np.zeros(4, np.int64))


def test_labels():
    source, order = np.arange(100, 110), np.array([3, 0, 9, 3])
    out = np.zeros(4, np.int64)
    batch.gather_labels(source, order, out)
    assert_same_bits(out, source[order])
    batch.gather_labels(source, order[:0], out[:0])
