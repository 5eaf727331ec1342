"""Whether the masks look like independent coins: chi-square and runs tests over long masks.

All seeds are fixed, so nothing here is a matter of luck from run to run.  Every test gives standard scores z that are
normal for fair coins; hundreds of them are looked at together: the largest, and the sum of their squares, which is
chi-square distributed.  Broken generators at the end of the file show that the tests see what they are for.
"""

import itertools
import math

import numpy as np
import pytest

from minicnn import layers
from minicnn._ext import dropout as kernels

N = 1 << 17  # bits of a mask
RATES = [1 / 65536, 0.01, 0.1, 0.25, 0.3, 0.5, 0.75, 0.8, 0.9, 0.99, 65535 / 65536]
SEEDS = [0, 1, 2, 3, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 2, 2**64 - 1]
STEPS = [0, 1, 2, 3, 1000, 2**31, 2**32 - 2, 2**32 - 1]
NUMBERS = [0, 1, 2, 3, 17, 1000]  # of layers
LAGS = [1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 33, 64, 100, 127, 128, 129, 256, 512, 1000, 2048, 4096, 8192, 65536]


def mask(rate=0.5, seed=0, number=0, step=0, purpose=0, n=N):
    """The first n bits, True where kept."""
    words = np.empty(n // 32, np.uint32)
    threshold = min(max(round(rate * 65536), 1), 65535)
    kernels.mask(words, np.array([threshold, seed, step, number * 16 + purpose, 0, 1], np.uint64))
    return np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little").astype(bool)


def kept_share(rate):
    return 1 - min(max(round(rate * 65536), 1), 65535) / 65536


# ---- standard scores ----


def frequency(bits, p):
    """Of the number kept."""
    return (bits.sum() - len(bits) * p) / math.sqrt(len(bits) * p * (1 - p))


def runs(bits):
    """Of the number of runs, given how many are kept (Wald and Wolfowitz, Ann. Math. Statist. 11, 1940)."""
    n, kept = len(bits), int(bits.sum())
    pairs = 2 * kept * (n - kept) / n
    count = 1 + np.count_nonzero(bits[1:] != bits[:-1])
    return (count - 1 - pairs) / math.sqrt(pairs * (pairs - 1) / (n - 1))


def agreement(a, b, p):
    """Of the correlation of two masks."""
    return ((a - p) * (b - p)).sum() / (math.sqrt(len(a)) * p * (1 - p))


def chi_square(observed, expected):
    """Of Pearson's sum over cells, by Wilson and Hilferty's cube root (Proc. Nat. Acad. Sci. 17, 1931)."""
    free = observed.size - 1
    value = ((observed - expected) ** 2 / expected).sum()
    return ((value / free) ** (1 / 3) - (1 - 2 / (9 * free))) / math.sqrt(2 / (9 * free))


def suspicious(scores):
    """What is wrong with standard scores that should be independent and normal; "" if nothing is."""
    scores = np.asarray(scores)
    largest = np.abs(scores).max()
    if not math.erfc(largest / math.sqrt(2)) * len(scores) > 1e-4:
        return f"the largest of {len(scores)} scores is {largest:.1f}"
    free = len(scores)
    spread = (((scores**2).sum() / free) ** (1 / 3) - (1 - 2 / (9 * free))) / math.sqrt(2 / (9 * free))
    return f"the squares of {free} scores add up to {(scores**2).sum():.0f}" if abs(spread) > 4 else ""


def unremarkable(scores):
    assert suspicious(scores) == ""


# ---- one mask ----

MANY = [  # rates, seeds, layers, steps
    *itertools.product([0.1, 0.5, 0.8], SEEDS, [0, 3], [0, 5]),
    *itertools.product(RATES[1:-1], [0], NUMBERS, [0]),
    *itertools.product(RATES[1:-1], [7], [0], STEPS),
]


def test_as_many_are_dropped_as_the_rate_says():
    unremarkable([frequency(mask(*case), kept_share(case[0])) for case in MANY])


@pytest.mark.parametrize("rate", [1 / 65536, 65535 / 65536])
def test_the_rarest_decisions(rate):
    """One in 65,536: of 2^22, 64 are expected."""
    unremarkable([frequency(mask(rate, seed, n=1 << 22), kept_share(rate)) for seed in range(12)])


def test_runs_are_as_long_as_those_of_coins():
    unremarkable([runs(mask(*case)) for case in MANY])


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("kept", [True, False])
def test_lengths_of_runs_are_geometric(rate, kept):
    scores = []
    for seed in range(10):
        bits = mask(rate, seed) == kept
        ends = np.flatnonzero(np.diff(np.concatenate([[False], bits, [False]]).astype(np.int8)))
        lengths = ends[1::2] - ends[::2]
        p = kept_share(rate) if kept else 1 - kept_share(rate)
        longest = max(2, int(math.log(20 / len(lengths)) / math.log(p)))  # cells with 20 or more expected
        observed = np.bincount(np.minimum(lengths, longest), minlength=longest + 1)[1:]
        share = (1 - p) * p ** np.arange(longest)
        share[-1] = p ** (longest - 1)
        scores.append(chi_square(observed, len(lengths) * share))
    unremarkable(scores)


@pytest.mark.parametrize("period", [2, 4, 8, 16, 32, 64, 128, 512, 1000, 4096])
def test_no_place_is_preferred(period):
    """Bits of the generator's words and groups, columns of a dense layer: all are kept equally often."""
    scores = []
    for rate, seed in itertools.product([0.1, 0.5, 0.8], range(5)):
        bits = mask(rate, seed)
        rows = bits[: len(bits) // period * period].reshape(-1, period)
        p = kept_share(rate)
        scores += [*((rows.sum(0) - len(rows) * p) / math.sqrt(len(rows) * p * (1 - p)))]
    unremarkable(scores)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_neighbours_and_those_far_apart_are_independent(rate):
    p = kept_share(rate)
    bits = mask(rate, seed=1)
    unremarkable([agreement(bits[:-lag], bits[lag:], p) for lag in LAGS])


def test_all_patterns_of_eight_are_equally_frequent():
    scores = []
    for seed, number, step in itertools.product(SEEDS, [0, 1], [0, 1]):
        patterns = np.bincount(np.packbits(mask(0.5, seed, number, step)), minlength=256)
        scores.append(chi_square(patterns, N / 8 / 256))
    unremarkable(scores)


# ---- two masks ----


def neighbours():
    """Pairs of (seed, layer, step, purpose) that differ in one of them by as little as possible."""
    for seed, number, step in itertools.product([0, 1, 12345], [0, 1, 5], [0, 1, 99]):
        here = (seed, number, step, 0)
        yield here, (seed + 1, number, step, 0)
        yield here, (seed, number + 1, step, 0)
        yield here, (seed, number, step + 1, 0)
        yield here, (seed, number, step, 1)
    for bit in range(64):
        yield (7, 0, 0, 0), (7 ^ 1 << bit, 0, 0, 0)
    for bit in range(32):
        yield (7, 0, 7, 0), (7, 0, 7 ^ 1 << bit, 0)
    for bit in range(20):
        yield (7, 7, 0, 0), (7, 7 ^ 1 << bit, 0, 0)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_layers_steps_seeds_and_purposes_are_independent(rate):
    p = kept_share(rate)
    unremarkable([agreement(mask(rate, *a), mask(rate, *b), p) for a, b in neighbours()])


def test_no_mask_is_a_shifted_other():
    """Element e of step t against element e + lag of step t + 1: a counter that ran on would show here."""
    now, later = mask(0.5, 3, 0, 10), mask(0.5, 3, 0, 11)
    scores = [agreement(now[:-lag], later[lag:], 0.5) for lag in LAGS]
    scores += [agreement(now[lag:], later[:-lag], 0.5) for lag in LAGS]
    unremarkable(scores)


def test_the_number_dropped_in_a_unit_is_binomial():
    """Over the 200 steps of a layer with 512 units and 8 samples."""
    layer = layers.Dropout(0.3)
    layer.build((512,), np.random.default_rng(0))
    x = np.ones((8, 512), np.float32)
    dropped = sum((layer.forward(x, training=True) == 0).sum(0) for _ in range(200))
    scores = (dropped - 1600 * 0.3) / math.sqrt(1600 * 0.3 * 0.7)
    unremarkable(scores)


@pytest.mark.parametrize("make", [
    lambda: layers.SpatialDropout2D(0.3),
    lambda: layers.AlphaDropout(0.3, noise_shape=(None, 1, 1, None)),
    lambda: layers.Dropout(0.3, noise_shape=(None, 1, 1, None)),
    lambda: layers.Dropout(0.3, noise_shape=(None, None, 1, None)),
    lambda: layers.Dropout(0.3),
])  # fmt: skip
def test_decisions_of_a_layer_are_coins(make):
    """The decisions of a layer, one after the other through the batch, over some steps."""
    layer = make()
    layer.build((3, 4, 24), np.random.default_rng(0))
    x, scores = np.ones((400, 3, 4, 24), np.float32), []
    for _ in range(8):
        layer.forward(x, training=True)
        keep = layer.last_mask
        wishes = layer.noise_shape or (None,) * 4
        decisions = keep[tuple(slice(1) if wish == 1 else slice(None) for wish in wishes)].ravel()
        scores += [frequency(decisions, kept_share(0.3)), runs(decisions)]
    unremarkable(scores)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_branches_are_left_out_like_coins(rate):
    """Of the samples of a batch, one after the other, and of the steps of a layer that decides once a step."""
    row, batch = layers.StochasticDepth(rate), layers.StochasticDepth(rate, "batch")
    scores, decisions = [], []
    for layer in (row, batch):
        layer.build((2, 3), np.random.default_rng(0))
    for _ in range(8):
        row.forward(np.ones((8192, 2, 3), np.float32), training=True)
        keep = row.last_mask
        assert (keep == keep[:, :1, :1]).all()
        scores += [frequency(keep[:, 0, 0], kept_share(rate)), runs(keep[:, 0, 0])]
    for _ in range(4000):
        decisions.append(batch.forward(np.ones((2, 2, 3), np.float32), training=True)[0, 0, 0] != 0)
    unremarkable([*scores, frequency(np.array(decisions), kept_share(rate)), runs(np.array(decisions))])


@pytest.mark.parametrize("block", [1, 2, 5])
def test_blocks_begin_like_coins(block):
    """Where blocks begin cannot be seen where they overlap; whether a pixel is kept is the same coin at pixels that no
    block covers together."""
    height, width, rate = 4 * block, 6 * block, 0.5
    layer, scores = layers.DropBlock2D(rate, block), []
    layer.build((height, width, 8), np.random.default_rng(0))
    gamma = rate / block**2 * height * width / ((height - block + 1) * (width - block + 1))
    dropped = round(gamma * 65536) / 65536
    p = (1 - dropped) ** (block * block)  # of a pixel over which block x block of them may begin
    for _ in range(8):
        layer.forward(np.ones((200, height, width, 8), np.float32), training=True)
        apart = layer.last_mask[:, block - 1 : height - block + 1 : block, block - 1 : width - block + 1 : block]
        scores += [frequency(apart.ravel(), p), runs(apart.ravel())]
        unremarkable((apart.sum((0, 3)).ravel() - 1600 * p) / math.sqrt(1600 * p * (1 - p)))
    unremarkable(scores)


# ---- what the tests see ----

BROKEN = {
    "one bit in 128 is always kept": lambda bits: np.where(np.arange(N) % 128 == 77, True, bits),
    "every bit is drawn twice": lambda bits: np.repeat(bits[: N // 2], 2),
    "half of the words are those of the other half": lambda bits: np.concatenate([bits[: N // 2]] * 2),
    "one in a hundred is dropped as well": lambda bits: bits & (np.arange(N) % 100 != 0),
    "neighbours avoid each other": lambda bits: bits & ~(np.roll(bits, 1) & (np.arange(N) % 50 == 0)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_generator_is_seen(name):
    found = []
    for seed in range(5):
        bits = BROKEN[name](mask(0.5, seed))
        rows = bits.reshape(-1, 128)
        places = (rows.sum(0) - len(rows) / 2) / math.sqrt(len(rows) / 4)
        found += [frequency(bits, 0.5), runs(bits), *(agreement(bits[:-lag], bits[lag:], 0.5) for lag in LAGS), *places]
    assert suspicious(found)


def test_masks_that_depend_on_each_other_are_seen():
    a = mask(0.5, 1)
    assert suspicious([agreement(a, a, 0.5)])
    assert suspicious([agreement(a, np.where(np.arange(N) % 20 == 0, a, mask(0.5, 2)), 0.5)])
    assert not suspicious([agreement(a, mask(0.5, 2), 0.5)])
