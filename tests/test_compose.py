"""Sums of two arrays and channels side by side, against NumPy."""

import numpy as np
import pytest
from compare import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from running import THREADS, normal, use_threads

from minicnn._ext import activation, compose
from minicnn._ext.activation import KINDS
from minicnn._ext.machinery import plan

DTYPES = ["float32", "float64"]
batches, dtypes, threads = st.sampled_from([0, 1, 2, 3, 5]), st.sampled_from(DTYPES), st.sampled_from(THREADS)
channels = st.sampled_from([0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 33, 63, 64, 65, 130])


def total(a, b, kind, into=None):
    y = np.full_like(a, np.nan) if into is None else into
    compose.add(a, b, KINDS[kind], y)
    return y


def by_numpy(a, b, kind):
    y = a + b
    return np.where(y < 0, a.dtype.type(0), y) if kind == "relu" else y


@given(
    batches, st.sampled_from([0, 1, 3, 7, 8, 33, 1000, 40_000]), dtypes, st.sampled_from(["linear", "relu"]), threads
)
def test_sums(n, size, dtype, kind, count):
    use_threads(count)
    a, b = normal((n, size), dtype), normal((n, size), dtype, 1)
    want = by_numpy(a, b, kind)
    assert_same_bits(total(a, b, kind), want)
    for place in (0, 1):
        pair = [a.copy(), b.copy()]
        assert_same_bits(total(*pair, kind, pair[place]), want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_of_a_sum_is_that_of_the_activation(dtype):
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 5e-324, 3e38], dtype)
    a, b = (x.reshape(1, -1) for x in np.meshgrid(special, special))
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    with np.errstate(invalid="ignore", over="ignore"):
        want = a + b
    activation.forward((KINDS["relu"], 0.0, 0.0, 0.0), want.copy(), want)
    assert_same_bits(total(a, b, "relu"), want)


@given(
    batches, st.sampled_from([0, 1, 2, 5, 49, 900]), channels, st.integers(0, 40), st.integers(0, 40), dtypes, threads
)
def test_channels(n, pixels, c, before, behind, dtype, count):
    use_threads(count)
    x, y = normal((n, pixels, c), dtype), normal((n, pixels, before + c + behind), dtype, 1)
    want, taken = y.copy(), np.full_like(x, np.nan)
    want[:, :, before : before + c] = x
    compose.copy_channels(x, y, before)
    assert_same_bits(y, want)
    compose.take_channels(y, before, taken)
    assert_same_bits(taken, x)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("n", [1, 40])
def test_in_a_plan(n, count):
    """Joined, added in place and taken apart in memory that each thread has for a block of images."""
    use_threads(count)
    x, out = normal((n, 900, 3), "float32"), np.zeros((n, 900, 4), np.float32)

    def work():
        doubled, joined = np.zeros_like(x), np.zeros((n, 900, 6), np.float32)
        for array in (doubled, joined):
            plan.register(array)
        compose.add(x.reshape(n, -1), x.reshape(n, -1), KINDS["linear"], doubled.reshape(n, -1))
        compose.copy_channels(doubled, joined, 3)
        compose.copy_channels(x, joined, 0)
        compose.add(joined.reshape(n, -1), joined.reshape(n, -1), KINDS["relu"], joined.reshape(n, -1))
        compose.take_channels(joined, 2, out)

    work()
    want = out.copy()
    assert_same_bits(want, np.maximum(np.concatenate([2 * x, 4 * x], axis=2), 0)[:, :, 2:])
    recorded = plan.Plan()
    for array in (x, out):
        recorded.use(array)
    number = recorded.record(work)
    recorded.lay_out()
    assert recorded.workspace_size == 0
    for _ in range(2):
        out[...] = np.nan
        recorded.run(number)
        assert_same_bits(out, want)
