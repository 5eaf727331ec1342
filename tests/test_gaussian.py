"""GaussianDropout: its noise is normal, its own for every element, sample and step, and made again in backward."""

import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from running import dtypes, normal, use_threads

import minicnn
from minicnn._ext import gaussian as kernel
from minicnn._ext import runtime

SEED, NUMBER, ALL = 7, 3, 1 << 62
WITHIN = 5e-6  # of z, in float32, from the exact one


def draw_of(seed=SEED, number=NUMBER, step=0, first=0, period=ALL, threshold=1):
    return np.array([threshold, seed, step, 16 * number, first, period], np.uint64)


def multiplied(x, sigma, draw):
    y = np.full_like(x, np.nan)
    kernel.multiply(x, y, draw, np.array([sigma]))
    return y


def standard_normal(n):
    """z of n elements of the kernel's noise, n a multiple of 128."""
    z = np.empty(n, np.float32)
    kernel.factors(z, draw_of(), 1.0)
    return z.astype(np.float64) - 1


# ---- the kernel ----


@given(st.integers(0, 2**64 - 1), st.integers(0, 1000), st.integers(0, 2**32 - 1), st.floats(0, 10),
       st.integers(1, 5), st.integers(1, 300), dtypes)  # fmt: skip
def test_the_noise_is_a_function_of_seed_layer_step_and_index(seed, number, step, sigma, n, size, dtype):
    x = normal((n, size), dtype)
    y = multiplied(x, sigma, draw_of(seed, number, step))
    want = reference.gaussian_factors(seed, number, step, x.shape, sigma)
    # 6e-8: the factor is rounded to float32
    assert np.abs(y / x - want).max() <= WITHIN * sigma + 3e-7 * np.abs(want).max()


def test_the_same_factors_in_both_types():
    x = normal((5, 999), "float32")
    factors = np.empty(5 * 999 // 128 * 128 + 128, np.float32)
    kernel.factors(factors, draw_of(), 0.7)
    factors = factors[: x.size].reshape(x.shape)
    assert_same_bits(multiplied(x, 0.7, draw_of()), x * factors)
    assert_same_bits(multiplied(x.astype(np.float64), 0.7, draw_of()), x * factors.astype(np.float64))


@pytest.mark.parametrize("size", [1, 7, 100, 128, 1000, 20_000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_are_numbered_by_first_and_period(size, dtype):
    """Monte-Carlo samples of the same data stand in one batch: each has a step of its own."""
    x, first, period = normal((11, size), dtype), 5, 3
    y = multiplied(x, 0.5, draw_of(step=2**32 - 2, first=first, period=period))
    for row in range(11):
        step, index = (2**32 - 2 + row // period) % 2**32, first + row % period
        alone = multiplied(x[row : row + 1], 0.5, draw_of(step=step, first=index))
        assert_same_bits(y[row : row + 1], alone)
    whole = multiplied(np.ones((first + period, size), dtype), 0.5, draw_of(step=2**32 - 2))
    assert_same_bits(multiplied(np.ones((period, size), dtype), 0.5, draw_of(step=2**32 - 2, first=first)),
                     whole[first:])  # fmt: skip


@pytest.mark.parametrize("shape", [(37, 5003), (400, 10), (3, 40_001)])
def test_same_bits_at_any_thread_count(shape):
    x, found = normal(shape, "float32"), []
    for threads in (1, 2, 3, 8):
        use_threads(threads)
        found.append(multiplied(x, 0.5, draw_of()))
    for other in found[1:]:
        assert_same_bits(found[0], other)


def noise():
    """A fingerprint of noise of many sizes."""
    found = hashlib.sha256()
    for n in (1, 127, 128, 129, 5000):
        for dtype in ("float32", "float64"):
            found.update(multiplied(np.ones((3, n), dtype), 0.5, draw_of()).tobytes())
    return found.hexdigest()


def noise_on(name):
    code = "import sys; sys.path[:0] = sys.argv[1:]; import test_gaussian; print(test_gaussian.noise())"
    paths = map(os.path.dirname, (__file__, os.path.dirname(minicnn.__file__)))
    result = subprocess.run(
        [sys.executable, "-c", code, *paths], env=os.environ | {"MINICNN_SIMD": name}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return result.stdout.strip()


@pytest.mark.skipif("avx512" not in runtime.INSTRUCTION_SETS, reason="needs AVX-512")
def test_same_noise_with_avx2_and_avx512():
    assert noise_on("avx2") == noise_on("avx512")


def test_the_ends_draw_nothing():
    x = normal((3, 500), "float32")
    x[0, :3] = np.nan, np.inf, -np.inf
    assert_same_bits(multiplied(x, np.nan, draw_of(threshold=0)), x)
    assert_same_bits(multiplied(x, np.nan, draw_of(threshold=65536)), np.zeros_like(x))
    assert_close(multiplied(x, 0.0, draw_of()), x, 0)


@pytest.mark.parametrize("wrong", [
    lambda x, y, draw, sigma: (x, y[:2], draw, sigma), lambda x, y, draw, sigma: (x, y, draw[:5], sigma),
    lambda x, y, draw, sigma: (x, y, draw * 0, sigma), lambda x, y, draw, sigma: (x, y, draw, np.ones(2)),
])  # fmt: skip
def test_the_kernel_checks_its_arguments(wrong):
    x = normal((3, 5), "float32")
    with pytest.raises(ValueError, match=r"^kernel: "):
        kernel.multiply(*wrong(x, x.copy(), draw_of(), np.ones(1)))


# ---- the distribution ----

MANY = 1 << 21


def test_moments():
    """Of n normal numbers the k-th moment has a standard deviation of sqrt((m_2k - m_k^2) / n)."""
    z = standard_normal(MANY)
    for power, moment, deviation in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs((z**power).mean() - moment) < 5 * math.sqrt(deviation / MANY), power


def test_the_whole_distribution():
    """Kolmogorov and Smirnov's distance D has P(sqrt(n) D > 2) = 0.0007; Anderson and Darling's A^2 P(> 6) = 0.001."""
    z = np.sort(standard_normal(MANY // 8))
    n, place = len(z), np.arange(len(z))
    below = np.array([math.erfc(-value / math.sqrt(2)) / 2 for value in z])
    distance = max((below - place / n).max(), ((place + 1) / n - below).max())
    assert math.sqrt(n) * distance < 2
    assert -n - ((2 * place + 1) * (np.log(below) + np.log1p(-below[::-1]))).mean() < 6


@pytest.mark.parametrize("bound", [3, 3.5, 4])
def test_tails(bound):
    share = math.erfc(bound / math.sqrt(2))
    z = standard_normal(MANY)
    assert abs(np.count_nonzero(np.abs(z) > bound) - MANY * share) < 5 * math.sqrt(MANY * share)
    assert np.abs(z).max() <= math.sqrt(2 * math.log(2**17)) * (1 + 1e-6)


def test_pairs_of_one_word_are_independent():
    """Correlation 0 of the values, of their sizes and of their signs; and at any other distance."""
    z = standard_normal(MANY)
    first, second = z.reshape(-1, 2, 16)[:, 0].ravel(), z.reshape(-1, 2, 16)[:, 1].ravel()
    for of in (np.copy, np.abs, np.square, np.sign, lambda z: z > 1.5):
        assert abs(np.corrcoef(of(first), of(second))[0, 1]) < 5 / math.sqrt(len(first))
    for shift in (1, 15, 16, 17, 32, 128):
        assert abs(np.corrcoef(z[shift:], z[:-shift])[0, 1]) < 5 / math.sqrt(MANY)
    quarter, size = np.arctan2(second, first), np.hypot(first, second)
    assert abs(np.corrcoef(np.cos(4 * quarter), size)[0, 1]) < 5 / math.sqrt(len(first))
