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
from running import (
    at_every_thread_count,
    build,
    dtypes,
    inputs,
    layouts,
    normal,
    run,
    steps_layer_by_layer,
    use_threads,
)

import minicnn
from minicnn import layers, schedules
from minicnn._ext import gaussian as kernels
from minicnn._ext.machinery import runtime
from minicnn.layers import GaussianDropout, GaussianNoise
from minicnn.layers.random import new_lot
from minicnn.testing import GradientError, gradcheck

SEED, NUMBER, ALL = 7, 3, 1 << 62
WITHIN = 5e-6  # of z, in float32, from the exact one


def draw_of(seed=SEED, number=NUMBER, step=0, first=0, period=ALL, threshold=1):
    return np.array([threshold, seed, step, 16 * number, first, period], np.uint64)


def multiplied(x, sigma, draw):
    y = np.full_like(x, np.nan)
    kernels.multiply(x, y, draw, np.array([sigma]))
    return y


def standard_normal(n):
    """z of n elements of the kernel's noise, n a multiple of 128."""
    z = np.empty(n, np.float32)
    kernels.factors(z, draw_of(), 1.0)
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
    kernels.factors(factors, draw_of(), 0.7)
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
        kernels.multiply(*wrong(x, x.copy(), draw_of(), np.ones(1)))


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


# ---- the layer ----

RATES = [0.1, 0.8]
ONES = np.ones((100, 200), np.float32)


def gaussian(rate, shape=(200,), **arguments):
    layer = GaussianDropout(rate, **arguments)
    layer.stream = SEED, NUMBER
    return build(layer, shape)


def refuse(*arguments):
    raise AssertionError("a random number was drawn")


@given(st.lists(st.integers(1, 9), max_size=3), st.integers(0, 5), st.sampled_from([0.1, 0.5, 0.8, 0.999]), dtypes,
       layouts)  # fmt: skip
def test_against_the_reference(shape, n, rate, dtype, layout):
    layer, sigma = gaussian(rate, tuple(shape), dtype=dtype), math.sqrt(rate / (1 - rate))
    x, dy = inputs(layer, n, dtype)
    for step in range(2):
        factors = reference.gaussian_factors(SEED, NUMBER, step, x.shape, sigma)
        got = run(layer, x, dy, layout)
        largest = np.abs(factors).max(initial=1)
        for name, of in (("y", x), ("dx", dy)):
            assert_close(got[name], factors * of, 2e-6, dtype, scale=largest * np.abs(of).max(initial=1))
        assert_close(layer.last_mask, factors, 2e-6, dtype, scale=largest)
        assert layer.state == {"step": step + 1}
    assert_same_bits(layer.forward(x), x)


@pytest.mark.parametrize("rate", RATES)
def test_mean_and_variance_are_those_of_dropout(rate):
    n, variance = 50 * ONES.size, rate / (1 - rate)
    for layer, fourth in ((gaussian(rate), 3 * variance**2), (build(layers.Dropout(rate), (200,)), None)):
        y = np.array([layer.forward(ONES, training=True) for _ in range(50)], np.float64)
        assert abs(y.mean() - 1) < 5 * math.sqrt(variance / n) + 1e-4
        fourth = ((y - 1) ** 4).mean() if fourth is None else fourth
        assert abs(((y - 1) ** 2).mean() - variance) < 5 * math.sqrt((fourth - variance**2) / n) + 1e-3


def test_every_sample_every_unit_and_every_step_has_its_own_noise():
    layer = gaussian(0.5)
    z = np.array([layer.forward(ONES, training=True) for _ in range(30)], np.float64) - 1
    for axes in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(z.mean(axes)).max() < 5 / math.sqrt(z.size / z.mean(axes).size)
    for axis in range(3):
        pairs = np.take(z, range(1, z.shape[axis]), axis) * np.take(z, range(z.shape[axis] - 1), axis)
        assert abs(pairs.mean()) < 5 / math.sqrt(pairs.size)


def test_backward_makes_the_noise_of_its_own_forward_again():
    """Whatever happens in between: evaluation, a Monte-Carlo sample, asking for the factors, another seed."""
    layer, x = gaussian(0.4), normal(ONES.shape, "float32")
    y = layer.forward(x, training=True)
    layer.forward(x)
    lot = new_lot()
    layer.settle_sample(lot, 1, 0, 0, len(x))
    layer.sample(x, lot)
    assert layer.last_mask.any()
    layer.stream = 99, 99
    layer.state["step"] = 1000
    assert_same_bits(layer.backward(x), y)


@pytest.mark.parametrize("rate", [0, *RATES, 1])
def test_gradient_through_frozen_noise(rate):
    assert gradcheck(gaussian(rate, (30,)), normal((4, 30)))


def test_a_backward_without_the_noise_is_caught():
    class NoNoise(GaussianDropout):
        def backward(self, dy):
            super().backward(dy)
            return dy.copy()

    with pytest.raises(GradientError):
        gradcheck(NoNoise(0.5), normal((3, 20)))


@pytest.mark.parametrize("rate", [0, *RATES, 1])
def test_evaluation_draws_nothing_and_passes_all(rate, monkeypatch):
    layer, x = gaussian(rate), normal(ONES.shape, "float32")
    monkeypatch.setattr(kernels, "multiply", refuse)
    assert_same_bits(layer.forward(x), x)
    assert layer.state == {"step": 0}
    with pytest.raises(AssertionError, match="a random number was drawn"):
        layer.forward(x, training=True)


@pytest.mark.parametrize("rate", [0, 1])
def test_rates_0_and_1(rate):
    layer, x = gaussian(rate), normal(ONES.shape, "float32")
    x[0, :3] = np.nan, np.inf, -np.inf
    want = x if rate == 0 else np.zeros_like(x)
    assert_same_bits(layer.forward(x, training=True), want)
    assert_same_bits(layer.backward(x), want)
    assert_same_bits(layer.last_mask, np.full_like(x, 1 - rate))
    assert layer.state == {"step": 1}
    assert_same_bits(layer.forward(x), x)


def test_a_rate_near_1_gives_finite_factors():
    layer = gaussian(1 - 1e-12)
    y = layer.forward(ONES, training=True)
    assert np.isfinite(y).all()
    assert abs(y.std() / 1e6 - 1) < 5 / math.sqrt(2 * y.size)


def test_the_layer_at_every_thread_count():
    x, dy = normal((37, 5003), "float32"), normal((37, 5003), "float32", 1)
    first, *others = at_every_thread_count(lambda: gaussian(0.3, (5003,)), x, dy)
    for other in others:
        assert_same_bits(first["y"], other["y"])
        assert_same_bits(first["dx"], other["dx"])


def test_last_mask_and_freeze_mask():
    layer, free = gaussian(0.5), gaussian(0.5)
    with pytest.raises(RuntimeError, match=r"GaussianDropout.last_mask: needs forward\(x, training=True\) before it"):
        _ = layer.last_mask
    wanted = [free.forward(ONES, training=True) for _ in range(2)]
    layer.freeze_mask()
    for _ in range(3):
        assert_same_bits(layer.forward(ONES, training=True), wanted[0])
        assert_same_bits(layer.backward(ONES), wanted[0])
        assert_same_bits(layer.last_mask, wanted[0])
    assert layer.state == {"step": 1}
    layer.unfreeze_mask()
    assert_same_bits(layer.forward(ONES, training=True), wanted[1])
    assert_same_bits(layer.forward(ONES[:9], training=True), layer.last_mask)


def test_a_resumed_run_goes_on_bit_for_bit():
    one, other = gaussian(0.5), gaussian(0.5)
    for _ in range(3):
        one.forward(ONES, training=True)
    other.state.update(one.state)
    assert_same_bits(one.forward(ONES, training=True), other.forward(ONES, training=True))


def test_noise_differs_between_steps_layers_and_seeds():
    found = []
    for seed, number in ((1, 0), (1, 1), (2, 0), (2**40, 0)):
        layer = GaussianDropout(0.5)
        layer.stream = seed, number
        build(layer, (200,))
        found += [layer.forward(ONES, training=True).ravel() for _ in range(2)]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(one.size)


def test_monte_carlo_samples():
    """Every sample has numbers of its own, which are not those of training, at any cut into batches."""
    layer, x = gaussian(0.5, dtype="float32"), normal((6, 200), "float32")
    training, lot = layer.forward(x, training=True), new_lot()
    samples = []
    for number in range(3):
        layer.settle_sample(lot, None, number, 0, 6)
        samples.append(layer.sample(x, lot))
    layer.settle_sample(lot, None, 0, 0, 6)
    assert_same_bits(layer.sample(np.concatenate([x, x, x]), lot), np.concatenate(samples))
    layer.settle_sample(lot, None, 1, 2, 4)
    assert_same_bits(layer.sample(x[2:], lot), samples[1][2:])
    for i, one in enumerate([training, *samples]):
        for other in [training, *samples][:i]:
            assert (one != other).mean() > 0.99
    assert layer.state == {"step": 1}
    assert_same_bits(layer.backward(x), training)


def test_a_schedule_within_a_recorded_plan():
    """The plan is recorded at the first rate and has to follow the later ones, both ends included."""

    def model():
        rising = schedules.PolynomialDecay(0.0, 4, 1.0)  # 0, 0.25, 0.5, 0.75, 1, 1, ...
        made = minicnn.Sequential([layers.Dense(40), GaussianDropout(rising), layers.Dense(3)], seed=2)
        made.compile("sgd", "sparse_categorical_crossentropy")
        made.build((8,))
        return made

    x, y = normal((60, 8)), np.arange(60) % 3
    planned, by_hand = model(), model()
    planned.fit(x, y, batch_size=10, epochs=1, shuffle=False, verbose=0)
    for _ in steps_layer_by_layer(by_hand, x, y, batch_size=10):
        pass
    assert planned.layers[1].current_rate == 1
    assert not planned.layers[1].last_mask.any()
    assert planned.fingerprint() == by_hand.fingerprint()


@pytest.mark.parametrize(("rate", "error"), [
    (float("nan"), ValueError), (-0.1, ValueError), (1.1, ValueError), (True, TypeError), ("0.5", TypeError),
])  # fmt: skip
def test_wrong_rates(rate, error):
    with pytest.raises(error, match=r"^GaussianDropout: rate must be a number in \[0, 1\]; got "):
        GaussianDropout(rate)


# ---- noise that is added ----


def added(stddev, shape=(200,), **arguments):
    layer = GaussianNoise(stddev, **arguments)
    layer.stream = SEED, NUMBER
    return build(layer, shape)


@given(st.lists(st.integers(1, 9), max_size=3), st.integers(0, 5), st.sampled_from([1e-6, 0.3, 20.0]), dtypes, layouts)
def test_added_noise_against_the_reference(shape, n, stddev, dtype, layout):
    layer = added(stddev, tuple(shape), dtype=dtype)
    x, dy = inputs(layer, n, dtype)
    for step in range(2):
        noise = stddev * (reference.gaussian_factors(SEED, NUMBER, step, x.shape, 1.0) - 1)
        got = run(layer, x, dy, layout)
        scale = np.abs(x).max(initial=0) * np.finfo(dtype).eps + WITHIN * stddev
        assert_close(got["y"], x + noise, 1, dtype, scale)
        assert_same_bits(got["dx"], dy)
        assert_close(layer.last_noise, noise, 1, dtype, WITHIN * stddev)
        assert layer.state == {"step": step + 1}
    assert_same_bits(layer.forward(x), x)


@pytest.mark.parametrize("stddev", [0.01, 3.0])
def test_moments_of_added_noise(stddev):
    layer, n = added(stddev, dtype="float64"), 50 * ONES.size
    z = (np.array([layer.forward(ONES, training=True) for _ in range(50)]) - 1) / stddev
    assert abs(z.mean()) < 5 / math.sqrt(n)
    assert abs((z**2).mean() - 1) < 5 * math.sqrt(2 / n)
    for axis in range(3):  # steps, samples, units
        pairs = np.take(z, range(1, z.shape[axis]), axis) * np.take(z, range(z.shape[axis] - 1), axis)
        assert abs(pairs.mean()) < 5 / math.sqrt(pairs.size)


def test_no_noise_passes_all_and_draws_nothing(monkeypatch):
    layer, x = added(0), normal(ONES.shape, "float32")
    x[0, :3] = np.nan, np.inf, -np.inf
    assert_same_bits(layer.forward(x, training=True), x)
    assert_same_bits(layer.last_noise, np.zeros_like(x))
    layer = added(0.5)
    monkeypatch.setattr(kernels, "add", refuse)
    assert_same_bits(layer.forward(x), x)
    with pytest.raises(AssertionError, match="a random number was drawn"):
        layer.forward(x, training=True)


def test_frozen_noise_and_another_stddev():
    layer, free = added(0.5), added(0.5)
    with pytest.raises(RuntimeError, match=r"GaussianNoise.last_noise: needs forward\(x, training=True\) before it"):
        _ = layer.last_noise
    wanted = [free.forward(ONES, training=True) for _ in range(2)]
    layer.freeze_mask()
    for _ in range(2):
        assert_same_bits(layer.forward(ONES, training=True), wanted[0])
    noise = layer.last_noise
    layer.stddev = 1.0
    assert_close(layer.forward(ONES, training=True) - 1, 2 * noise, 1e-6)
    layer.stddev = 0.5
    layer.unfreeze_mask()
    assert_same_bits(layer.forward(ONES, training=True), wanted[1])
    with pytest.raises(ValueError, match=r"^GaussianNoise: stddev must be a number >= 0; got -1"):
        layer.stddev = -1


def test_added_noise_at_every_thread_count_and_in_monte_carlo():
    x, dy = normal((37, 5003), "float32"), normal((37, 5003), "float32", 1)
    first, *others = at_every_thread_count(lambda: added(0.3, (5003,)), x, dy)
    for other in others:
        assert_same_bits(first["y"], other["y"])
    model = minicnn.Sequential([GaussianNoise(0.3), layers.Dense(3)], seed=4)
    model.build((10,))
    samples = model.predict_mc(dy[:6, :10], n_samples=4, seed=1, return_samples=True).samples
    again = model.predict_mc(dy[:6, :10], n_samples=4, seed=1, return_samples=True, batch_size=4).samples
    assert_same_bits(samples, again)
    for i in range(4):
        assert all((samples[i] != samples[k]).all() for k in range(i))


def test_a_changed_stddev_is_followed_by_a_plan():
    def model():
        made = minicnn.Sequential([layers.Dense(40), GaussianNoise(0.5), layers.Dense(3)], seed=2)
        made.compile("sgd", "sparse_categorical_crossentropy")
        made.build((8,))
        return made

    x, y = normal((20, 8)), np.arange(20) % 3
    planned, by_hand = model(), model()
    for stddev in (0.5, 0.0, 2.0):
        planned.layers[1].stddev = by_hand.layers[1].stddev = stddev
        planned.fit(x, y, batch_size=10, epochs=1, shuffle=False, verbose=0)
        for _ in steps_layer_by_layer(by_hand, x, y, batch_size=10):
            pass
    assert planned.fingerprint() == by_hand.fingerprint()


@pytest.mark.parametrize(("stddev", "error"), [
    (float("nan"), ValueError), (float("inf"), ValueError), (-0.1, ValueError), (True, TypeError), ("1", TypeError),
    (None, TypeError),
])  # fmt: skip
def test_wrong_stddevs(stddev, error):
    with pytest.raises(error, match=r"^GaussianNoise: stddev must be a number >= 0; got "):
        GaussianNoise(stddev)
