"""Dropout: its formula, its random numbers, and the bugs that other projects shipped.

Always at rates 0.1 and 0.8 at least: at 0.5 a layer that keeps what it should drop looks right.
"""

import copy
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
from running import at_every_thread_count, build, dtypes, inputs, layouts, normal, run, steps_layer_by_layer

import minicnn as mc
from minicnn import layers, schedules
from minicnn._ext import dropout as kernels
from minicnn._ext.machinery import runtime
from minicnn.layers import Dropout, SpatialDropout2D
from minicnn.testing import GradientError, gradcheck

RATES = [0.1, 0.8]
ONES = np.ones((100, 200), np.float32)
SEED, NUMBER = 7, 3


def dropout(rate, shape=(200,), **arguments):
    layer = Dropout(rate, **arguments)
    layer.stream = SEED, NUMBER
    return build(layer, shape)


def refuse(*arguments):
    raise AssertionError("a random number was drawn")


@pytest.fixture
def no_random_numbers(monkeypatch):
    """A generator that raises when it is asked."""
    kernel = sys.modules["minicnn._ext.dropout"]
    for name in ("forward", "mask"):
        monkeypatch.setattr(kernel, name, refuse)


# ---- the formula ----


@given(st.lists(st.integers(1, 30), max_size=3), st.integers(0, 9), st.sampled_from([0.1, 0.5, 0.8, 0.999]),
       st.sampled_from(["inverted", "classical"]), dtypes, layouts)  # fmt: skip
def test_against_the_reference(shape, n, rate, mode, dtype, layout):
    layer = dropout(rate, tuple(shape), mode=mode, dtype=dtype)
    x, dy = inputs(layer, n, dtype)
    for step in range(2):
        keep = reference.dropout_mask(SEED, NUMBER, step, x.shape, rate)
        got = run(layer, x, dy, layout)
        rtol = 2 * np.finfo(dtype).eps
        assert_close(got["y"], reference.dropout(x, keep, rate, mode), rtol, dtype)
        assert_close(got["dx"], reference.dropout_grad(x, keep, rate, dy, mode), rtol, dtype)
        assert_same_bits(layer.last_mask, keep)
        assert layer.state == {"step": step + 1}
    want = x if mode == "inverted" else x.astype(np.float64) * (1 - rate)
    assert_close(layer.forward(x), want, rtol, dtype)


words = st.integers(0, 2**32 - 1)


@given(st.integers(0, 2**64 - 1), st.integers(0, 1000), words, st.integers(1, 999), st.integers(1, 700))
def test_mask_is_a_function_of_seed_layer_step_and_index(seed, number, step, permille, n):
    layer = Dropout(permille / 1000)
    layer.stream = seed, number
    build(layer, (n,))
    layer.state["step"] = step
    layer.forward(np.ones((1, n)), training=True)
    assert_same_bits(layer.last_mask, reference.dropout_mask(seed, number, step, (1, n), permille / 1000))


@pytest.mark.parametrize("rate", RATES)
def test_rate_is_the_fraction_dropped(rate):
    """The number kept is binomial: beyond 5 standard deviations once in two million masks.  (tiny-dnn keeps `rate`.)"""
    y = dropout(rate).forward(ONES, training=True)
    kept = np.count_nonzero(y)
    assert abs(kept - ONES.size * (1 - rate)) < 5 * math.sqrt(ONES.size * rate * (1 - rate))


@pytest.mark.parametrize("rate", RATES)
def test_every_sample_every_unit_and_every_step_has_its_own_chance(rate):
    layer = dropout(rate)
    kept = np.zeros((30, *ONES.shape))
    for step in kept:
        step[...] = layer.forward(ONES, training=True) != 0
    for axes in ((0, 1), (0, 2), (1, 2)):
        share = kept.mean(axes)
        draws = kept.size / share.size
        assert np.abs(share - (1 - rate)).max() < 5 * math.sqrt(rate * (1 - rate) / draws)
    # neighbours in every direction are independent: the correlation of n pairs is 0 with a deviation of 1/sqrt(n)
    centred = (kept - kept.mean()) / kept.std()
    for axis in range(3):
        pairs = np.take(centred, range(1, kept.shape[axis]), axis) * np.take(centred, range(kept.shape[axis] - 1), axis)
        assert abs(pairs.mean()) < 5 / math.sqrt(pairs.size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rate", [*RATES, 0.3])
def test_the_exact_set_of_values(rate, dtype):
    """0 and exactly 1 / (1 - rate), forward and backward."""
    layer = dropout(rate, dtype=dtype)
    scale = np.dtype(dtype).type(1 / (1 - rate))
    assert set(np.unique(layer.forward(ONES, training=True))) == {0, scale}
    assert set(np.unique(layer.backward(ONES))) == {0, scale}
    layer = dropout(rate, dtype=dtype, mode="classical")
    assert set(np.unique(layer.forward(ONES, training=True))) == {0, 1}
    assert set(np.unique(layer.backward(ONES))) == {0, 1}
    assert set(np.unique(layer.forward(ONES))) == {np.dtype(dtype).type(1 - rate)}


@pytest.mark.parametrize("rate", RATES)
def test_the_mean_is_kept(rate):
    layer, deviation = dropout(rate), math.sqrt(rate / (1 - rate) / (50 * ONES.size))
    mean = np.mean([layer.forward(ONES, training=True).mean(dtype=np.float64) for _ in range(50)])
    assert abs(mean - 1) < 5 * deviation + 8e-6 / (1 - rate)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("mode", ["inverted", "classical"])
def test_backward_reuses_mask_and_scale(rate, mode):
    """With dy = x, dx is y to the bit.  (numpy-ml forgets the mask, tiny-dnn the scale.)"""
    layer, x = dropout(rate, mode=mode), normal(ONES.shape, "float32")
    assert_same_bits(layer.forward(x, training=True), layer.backward(x))


def test_backward_uses_the_mask_of_its_own_forward():
    """Whatever comes between: evaluation, asking for the mask, another seed."""
    layer, x = dropout(0.4), normal(ONES.shape, "float32")
    y = layer.forward(x, training=True)
    layer.forward(x)
    assert layer.last_mask.any()
    layer.stream = 99, 99
    layer.state["step"] = 1000
    assert_same_bits(layer.backward(x), y)


@pytest.mark.parametrize("rate", [0, *RATES, 1])
@pytest.mark.parametrize("mode", ["inverted", "classical"])
def test_gradient_through_the_frozen_mask(rate, mode):
    assert gradcheck(dropout(rate, (30,), mode=mode), normal((4, 30)))


def test_the_usual_mistakes_are_caught():
    class NoMask(Dropout):
        def backward(self, dy):
            super().backward(dy)
            return dy / (1 - self.rate)

    class NoScale(Dropout):
        def backward(self, dy):
            return super().backward(dy) * (1 - self.rate)

    class DropsInBackward(Dropout):
        def backward(self, dy):
            self.forward(dy, training=True)
            return super().backward(dy)

    no_scale = r"off by the constant factor 0.2: is 1/\(1 - rate\) missing"
    for wrong, message in ((NoMask, "is the mask applied in backward"), (NoScale, no_scale)):
        with pytest.raises(GradientError, match=message):
            gradcheck(wrong(0.8), normal((3, 20)))
    layer = build(DropsInBackward(0.8), (200,))
    assert (layer.forward(ONES, training=True) != layer.backward(ONES)).any()


# ---- evaluation ----


@pytest.mark.parametrize("rate", [0, *RATES, 1])
def test_evaluation_draws_nothing_and_passes_all(rate, no_random_numbers):
    layer, x = dropout(rate), normal(ONES.shape, "float32")
    assert_same_bits(layer.forward(x), x)
    assert_same_bits(layer.forward(x, training=False), x)
    assert layer.state == {"step": 0}


@pytest.mark.parametrize("rate", RATES)
def test_training_does_ask_the_generator(rate, no_random_numbers):
    with pytest.raises(AssertionError, match="a random number was drawn"):
        dropout(rate).forward(ONES, training=True)


def test_evaluating_in_the_middle_of_training_changes_nothing():
    def train(evaluate):
        layer, results = dropout(0.3), []
        for _ in range(3):
            results.append(layer.forward(ONES, training=True))
            if evaluate:
                layer.forward(ONES[:7])
            results.append(layer.backward(ONES))
            if evaluate:
                layer.forward(ONES)
            results.append(layer.last_mask)
        return results

    for plain, disturbed in zip(train(False), train(True), strict=True):
        assert_same_bits(plain, disturbed)


def test_classical_evaluation_scales():
    for rate in RATES:
        y = dropout(rate, mode="classical").forward(ONES)
        assert (y == np.float32(1 - rate)).all()


# ---- decisions that elements share ----

SHAPE = (5, 7, 18)
NOISE_SHAPES = [
    (None, 1, 1, None), (None, 1, 1, 18), (None, 5, 1, 1), (None, 1, 7, 1), (None, 5, 7, 1), (None, 1, 7, 18),
    (None, 5, 1, 18), (1, None, None, None), (1, 1, 1, None), (1, 5, 1, 1), (None, 1, 1, 1), (1, 1, 1, 1),
    (None, None, None, None),
]  # fmt: skip


def drawn_shape(noise_shape, shape):
    return tuple(1 if wish == 1 else axis for wish, axis in zip(noise_shape, shape, strict=True))


@pytest.mark.parametrize("noise_shape", NOISE_SHAPES, ids=str)
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("mode", ["inverted", "classical"])
def test_shared_decisions_against_the_reference(noise_shape, rate, mode):
    """As many decisions are drawn as the noise shape has elements, in its order, and broadcast, as NumPy would."""
    layer = dropout(rate, SHAPE, noise_shape=noise_shape, mode=mode)
    x, dy = inputs(layer, 4, "float32")
    for step in range(2):
        keep = reference.dropout_mask(SEED, NUMBER, step, drawn_shape(noise_shape, x.shape), rate)
        keep = np.broadcast_to(keep, x.shape)
        got = run(layer, x, dy)
        assert_same_bits(layer.last_mask, keep)
        assert_close(got["y"], reference.dropout(x, keep, rate, mode), 1e-6)
        assert_close(got["dx"], reference.dropout_grad(x, keep, rate, dy, mode), 1e-6)
        assert (got["y"][~keep] == 0).all()


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=5), st.integers(1, 4), st.booleans())
def test_shared_decisions_of_any_shape(axes, n, by_the_batch):
    shape = tuple(length for length, _ in axes)
    noise_shape = (1 if by_the_batch else None, *(1 if shared else None for _, shared in axes))
    if math.prod(shape) > 20_000:
        return
    layer = dropout(0.5, shape, noise_shape=noise_shape)
    x = np.ones((n, *shape), np.float32)
    keep = reference.dropout_mask(SEED, NUMBER, 0, drawn_shape(noise_shape, x.shape), 0.5)
    assert_same_bits(layer.forward(x, training=True) != 0, np.broadcast_to(keep, x.shape).copy())


@pytest.mark.parametrize("noise_shape", [(None, 1, 1, None), (1, None, None, None)])
def test_shared_decisions_at_any_thread_count(noise_shape):
    def make():
        return dropout(0.3, SHAPE, noise_shape=noise_shape)

    x, dy = inputs(make(), 9, "float32")
    one, *others = at_every_thread_count(make, x, dy)
    for other in others:
        for name in one:
            assert_same_bits(one[name], other[name])


def test_spatial_dropout_drops_whole_channels():
    layer = SpatialDropout2D(0.4)
    layer.stream = SEED, NUMBER
    layer = build(layer, (6, 5, 64))
    y = layer.forward(np.ones((50, 6, 5, 64)), training=True)
    assert (y == y[:, :1, :1]).all()
    kept = (y[:, 0, 0] != 0).mean()
    assert abs(kept - 0.6) < 5 * math.sqrt(0.4 * 0.6 / (50 * 64))
    assert set(np.unique(y)) == {0, np.float32(1 / 0.6)}
    same = dropout(0.4, (6, 5, 64), noise_shape=(None, 1, 1, None))
    assert_same_bits(same.forward(np.ones((50, 6, 5, 64)), training=True), y)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_shared_decisions_select(value):
    layer = dropout(0.5, (3, 3, 8), noise_shape=(None, 1, 1, None))
    y = layer.forward(np.full((20, 3, 3, 8), value), training=True)
    assert (y[~layer.last_mask] == 0).all()
    assert not np.isfinite(y[layer.last_mask]).any()


@pytest.mark.parametrize(("noise_shape", "error", "message"), [
    (3, TypeError, r"noise_shape must have None or a whole number >= 1 for every axis of x.*; got 3 \(int\)"),
    ((), ValueError, "noise_shape must have None or a whole number .*; got \\(\\)"),
    ((None, 0), ValueError, "an entry of noise_shape must be a whole number >= 1; got 0"),
    ((None, 1.5), TypeError, r"an entry of noise_shape must be a whole number >= 1; got 1.5 \(float\)"),
    ((4, None), ValueError, r"noise_shape\[0\], of the batch, must be None or 1; got \(4, None\)"),
])  # fmt: skip
def test_wrong_noise_shapes(noise_shape, error, message):
    with pytest.raises(error, match=f"^Dropout: {message}"):
        Dropout(0.5, noise_shape=noise_shape)


@pytest.mark.parametrize(("noise_shape", "message"), [
    ((None, 1), r"noise_shape must have 3 entries, the batch first, for x of shape \(N, 4, 6\); got \(None, 1\)"),
    ((None, 2, 6), r"noise_shape must have None, 1 or 4 for an axis of length 4; got \(None, 2, 6\)"),
])  # fmt: skip
def test_noise_shapes_that_do_not_fit(noise_shape, message):
    with pytest.raises(ValueError, match=f"^Dropout: {message}"):
        build(Dropout(0.5, noise_shape=noise_shape), (4, 6))


# ---- a rate that follows a schedule ----

RISING = schedules.PolynomialDecay(0.0, 4, 1.0)  # 0, 0.25, 0.5, 0.75, 1, 1, ...


@pytest.mark.parametrize("mode", ["inverted", "classical"])
def test_the_rate_follows_its_schedule(mode):
    layer = dropout(RISING, mode=mode)
    assert layer.current_rate == 0
    for step, rate in enumerate([0, 0.25, 0.5, 0.75, 1, 1]):
        y = layer.forward(ONES, training=True)
        assert layer.current_rate == rate
        if 0 < rate < 1:
            assert_same_bits(layer.last_mask, reference.dropout_mask(SEED, NUMBER, step, ONES.shape, rate))
        factor = 1 / (1 - rate) if mode == "inverted" and rate < 1 else 1
        assert_same_bits(y, np.where(layer.last_mask, np.float32(factor), np.float32(0)))
        assert_same_bits(layer.backward(ONES), y)
        share = 1 - rate if mode == "classical" else 1
        assert (layer.forward(ONES) == np.float32(share)).all()
    assert not y.any()


@pytest.mark.parametrize("mode", ["inverted", "classical"])
def test_a_schedule_within_a_recorded_plan(mode):
    """The plan is recorded at the first rate and has to follow the later ones."""

    def model():
        chain = [layers.Dense(40), layers.Dropout(RISING, mode=mode), layers.Dense(3)]
        made = mc.Sequential(chain, seed=2)
        made.compile("sgd", "sparse_categorical_crossentropy")
        made.build((8,))
        return made

    x, y = normal((60, 8)), np.arange(60) % 3
    planned, by_hand = model(), model()
    planned.fit(x, y, batch_size=10, epochs=1, shuffle=False, verbose=0)
    for _ in steps_layer_by_layer(by_hand, x, y, batch_size=10):
        pass
    assert planned.layers[1].current_rate == 1
    assert planned.fingerprint() == by_hand.fingerprint()
    assert_same_bits(planned.predict(x), by_hand.layers[2].forward(by_hand.layers[1].forward(
        by_hand.layers[0].forward(x))))  # fmt: skip


def test_a_schedule_is_saved(tmp_path):
    model = mc.Sequential([layers.Dense(4), layers.Dropout(RISING), layers.Dense(2)])
    model.build((3,))
    model.save(tmp_path / "model.npz")
    rate = mc.Sequential.load(tmp_path / "model.npz").layers[1].rate
    assert isinstance(rate, schedules.PolynomialDecay)
    assert [rate(step) for step in range(5)] == [0, 0.25, 0.5, 0.75, 1]


def test_a_schedule_of_ones_own():
    class Own(schedules.Schedule):
        def __call__(self, step):
            return 0.5 if step < 2 else 2

    layer = dropout(Own())
    layer.forward(ONES, training=True)
    layer.forward(ONES, training=True)
    with pytest.raises(ValueError, match=r"^Dropout: Own: the rate of step 2 must be a number in \[0, 1\]; got 2$"):
        layer.forward(ONES, training=True)
    model = mc.Sequential([layers.Dense(4), layers.Dropout(Own()), layers.Dense(2)])
    model.build((3,))
    with pytest.raises(TypeError):
        model.save(os.devnull)


def test_a_rate_that_is_set_later_is_checked():
    layer = dropout(0.3)
    layer.rate = 0.8
    assert_same_bits(layer.forward(ONES, training=True) != 0, reference.dropout_mask(SEED, NUMBER, 0, ONES.shape, 0.8))
    with pytest.raises(ValueError, match=r"^Dropout: rate must be a number in \[0, 1\]; got 1.5$"):
        layer.rate = 1.5
    assert layer.rate == 0.8


def test_a_seed_that_is_set_later_is_checked():
    layer = dropout(0.3)
    layer.seed = 5
    assert_same_bits(layer.forward(ONES, training=True) != 0, reference.dropout_mask(5, NUMBER, 0, ONES.shape, 0.3))
    with pytest.raises(
        ValueError, match=r"^Dropout: seed must be a whole number in \[0, 18446744073709551615\]; got -1$"
    ):
        layer.seed = -1
    assert layer.seed == 5


@pytest.mark.parametrize("make", [dropout, lambda rate: build(layers.DropConnect(3, rate, use_bias=False), (5,))])
def test_a_mode_that_is_set_later_is_checked(make):
    layer = make(0.5)
    with pytest.raises(ValueError, match=r"^(Dropout|DropConnect): mode must be one of 'inverted', 'classical'"):
        layer.mode = "classic"
    assert layer.mode == "inverted"
    x = np.ones((2, *layer.input_shape), np.float32)
    y = layer.forward(x)
    layer.mode = "classical"
    assert_same_bits(layer.forward(x), y / 2)


@pytest.mark.parametrize(
    ("before", "after"), [(None, (None, 1, None)), ((None, 1, None), None), ((1, 1, 1), [1, 4, 1])]
)
def test_a_noise_shape_that_is_set_later(before, after):
    x = np.ones((3, 4, 6), np.float32)
    layer, other = (dropout(0.5, (4, 6), noise_shape=noise_shape) for noise_shape in (before, after))
    layer.forward(x, training=True)
    layer.noise_shape = after
    with pytest.raises(RuntimeError, match=r"^Dropout.backward: needs forward"):
        layer.backward(x)  # of a mask that had another shape
    with pytest.raises(RuntimeError, match=r"^Dropout.last_mask: needs forward"):
        _ = layer.last_mask
    for one in (layer, other):
        one.state["step"] = 5
    assert_same_bits(layer.forward(x, training=True), other.forward(x, training=True))
    assert_same_bits(layer.last_mask, other.last_mask)
    assert_same_bits(layer.backward(x) != 0, layer.last_mask)
    assert layer.noise_shape == other.noise_shape
    with pytest.raises(ValueError, match=r"^Dropout: noise_shape must have None, 1 or 4 for an axis of length 4"):
        layer.noise_shape = (None, 2, None)
    assert layer.noise_shape == other.noise_shape


def test_a_noise_shape_that_is_set_between_the_steps_of_a_model():
    layer, x, rows = Dropout(0.5), np.ones((6, 8)), []
    model = mc.Sequential([layer, layers.Flatten()]).train()
    for noise_shape in ((1, None), None, (None, 1)):
        layer.noise_shape = noise_shape
        kept = model.forward(x) != 0
        assert_same_bits(kept, layer.last_mask)
        rows.append(((kept == kept[0]).all(), (kept == kept[:, :1]).all()))
    assert rows == [(True, False), (False, False), (False, True)]


def test_a_schedule_that_fails_counts_no_step():
    layer = dropout(schedules.PiecewiseConstantDecay([0], [0.5, 1.5]))
    layer.forward(ONES, training=True)
    mask = layer.last_mask
    for _ in range(2):
        with pytest.raises(ValueError, match=r"the rate of step 1 must be a number in \[0, 1\]; got 1.5"):
            layer.forward(ONES, training=True)
    assert layer.state == {"step": 1}
    assert_same_bits(layer.last_mask, mask)


# ---- the worked example of the source texts ----


@pytest.mark.parametrize(("mode", "training", "evaluation"), [("inverted", 100, 100), ("classical", 70, 70)])
def test_a_hundred_inputs_at_rate_0_3(mode, training, evaluation):
    """100 inputs of 1, rate 0.3: 70 are kept on average; a sum of 70, or of 70 / 0.7 = 100; and so in evaluation."""
    layer = dropout(0.3, (100,), mode=mode, dtype="float64")
    n = 20_000
    y = layer.forward(np.ones((n, 100)), training=True)
    kept = layer.last_mask.sum(axis=1)
    deviation = math.sqrt(100 * 0.3 * 0.7)
    assert abs(kept.mean() - 70) < 5 * deviation / math.sqrt(n)
    assert abs(kept.std() - deviation) < 5 * deviation / math.sqrt(2 * n)
    scale = 1 / 0.7 if mode == "inverted" else 1
    assert np.allclose(y.sum(axis=1), kept * scale, rtol=1e-12)
    assert abs(y.sum(axis=1).mean() - training) < 5 * scale * deviation / math.sqrt(n)
    assert layer.forward(np.ones((1, 100))).sum() == pytest.approx(evaluation, abs=1e-10)


@pytest.mark.parametrize("make", [
    lambda mode: Dropout(0.3, mode=mode),
    lambda mode: SpatialDropout2D(0.3, mode=mode),
    lambda mode: Dropout(0.8, noise_shape=(None, None, 1, 1), mode=mode),
])  # fmt: skip
def test_both_modes_agree_in_expectation(make):
    """Within a mode, training has on average what evaluation gives; and both modes drop the same elements."""
    x = normal((1, 4, 4, 3)) + 3
    masks = []
    for mode in ("inverted", "classical"):
        layer = build(make(mode), (4, 4, 3))
        y, n = layer.forward(np.repeat(x, 40_000, axis=0), training=True), 40_000
        masks.append(layer.last_mask)
        error = y.std(axis=0) / math.sqrt(n)
        assert (np.abs(y.mean(axis=0) - layer.forward(x)[0]) < 5 * error + 1e-5 * np.abs(x[0])).all()
    assert_same_bits(*masks)


# ---- the ends of the range ----


def mask_was_written(layer, x):
    """Whether a training forward draws: the kernel writes a mask where it draws one, and nowhere else."""
    before = np.full((len(x), kernels.words(x[0].size)), 0xA5A5A5A5, np.uint32)
    after, y = before.copy(), np.empty_like(x)
    kernels.forward(x, after, y, layer._draw, layer._scale)
    return not np.array_equal(before, after)


def test_mask_was_written_is_true_where_a_mask_is_drawn():
    layer = dropout(0.5)
    layer.forward(ONES, training=True)
    assert mask_was_written(layer, ONES)


@pytest.mark.parametrize("mode", ["inverted", "classical"])
def test_rate_0_is_the_identity_and_draws_nothing(mode):
    layer, x = dropout(0, mode=mode), normal(ONES.shape, "float32")
    x[0, :2] = np.nan, np.inf
    assert_same_bits(layer.forward(x, training=True), x)
    assert_same_bits(layer.backward(x), x)
    assert_same_bits(layer.forward(x), x)
    assert layer.last_mask.all()
    assert layer.state == {"step": 1}
    assert not mask_was_written(layer, x)


@pytest.mark.parametrize("mode", ["inverted", "classical"])
def test_rate_1_gives_exact_zeros_and_draws_nothing(mode):
    layer, x = dropout(1, mode=mode), normal(ONES.shape, "float32")
    x[0, :3] = np.nan, np.inf, -np.inf
    zeros = np.zeros_like(x)
    assert_same_bits(layer.forward(x, training=True), zeros)
    assert_same_bits(layer.backward(x), zeros)
    assert not layer.last_mask.any()
    assert layer.state == {"step": 1}
    assert not mask_was_written(layer, x)
    assert_same_bits(layer.forward(x), x if mode == "inverted" else zeros)


@pytest.mark.parametrize(("rate", "kept"), [(1e-12, 1 - 1 / 65536), (1 - 1e-12, 1 / 65536)])
def test_rates_near_the_ends_neither_keep_nor_drop_all(rate, kept):
    layer = build(Dropout(rate, mode="classical"), (500_000,))
    layer.forward(np.ones((4, 500_000), np.float32), training=True)
    share = layer.last_mask.mean()
    assert abs(share - kept) < 5 * math.sqrt(kept * (1 - kept) / 2e6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rate", RATES)
def test_dropped_nan_and_inf_become_0(rate, dtype):
    """Selected, not multiplied: 0 * inf would be NaN.  Kept ones stay what they are."""
    for value in (np.nan, np.inf, -np.inf):
        layer, x = dropout(rate, dtype=dtype), np.full(ONES.shape, value, dtype)
        y = layer.forward(x, training=True)
        dx, keep = layer.backward(x), layer.last_mask
        for array in (y, dx):
            assert_same_bits(array[~keep], np.zeros(np.count_nonzero(~keep), dtype))
            assert_close(array[keep], x[keep], 0)


# ---- where the mask comes from ----


@pytest.mark.parametrize("rate", RATES)
def test_same_bits_at_any_thread_count(rate):
    x, dy = normal((37, 5003), "float32"), normal((37, 5003), "float32", 1)
    first, *others = at_every_thread_count(lambda: dropout(rate, (5003,)), x, dy)
    for other in others:
        assert_same_bits(first["y"], other["y"])
        assert_same_bits(first["dx"], other["dx"])


def masks():
    """A fingerprint of masks of many sizes, at rates that exercise both ends of the comparison."""
    found = hashlib.sha256()
    for rate in (1e-9, 0.1, 0.5, 0.8, 1 - 1e-9):
        for n in (1, 127, 128, 129, 5000):
            layer = dropout(rate, (n,))
            layer.forward(np.ones((3, n)), training=True)
            found.update(layer.last_mask.tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("name", runtime.INSTRUCTION_SETS)
def test_same_mask_on_every_instruction_set(name):
    code = "import sys; sys.path[:0] = sys.argv[1:]; import test_dropout; print(test_dropout.masks())"
    paths = map(os.path.dirname, (__file__, os.path.dirname(mc.__file__)))
    result = subprocess.run(
        [sys.executable, "-c", code, *paths], env=os.environ | {"MINICNN_SIMD": name}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert result.stdout.strip() == masks()


def test_masks_differ_between_steps_layers_and_seeds():
    found = []
    for seed in (1, 2, 2**40):
        for number in (0, 1):
            layer = Dropout(0.5)
            layer.stream = seed, number
            build(layer, (200,))
            for _ in range(3):
                layer.forward(ONES, training=True)
                found.append(layer.last_mask)
    for i, one in enumerate(found):
        for other in found[:i]:
            assert abs(np.mean(one == other) - 0.5) < 5 * 0.5 / math.sqrt(one.size)


def test_own_seed_overrides_that_of_the_model():
    own, of_model = Dropout(0.5, seed=SEED), Dropout(0.5)
    own.stream, of_model.stream = (123, NUMBER), (SEED, NUMBER)
    x = normal((5, 60))
    assert_same_bits(build(own, (60,)).forward(x, training=True), build(of_model, (60,)).forward(x, training=True))


def test_the_first_samples_of_a_larger_batch_have_the_same_mask():
    small, large = dropout(0.5), dropout(0.5)
    assert_same_bits(small.forward(ONES[:33], training=True), large.forward(ONES, training=True)[:33])


def test_a_resumed_run_goes_on_bit_for_bit():
    one = dropout(0.5)
    for _ in range(3):
        one.forward(ONES, training=True)
    other = dropout(0.5)
    other.state.update(one.state)
    assert_same_bits(one.forward(ONES, training=True), other.forward(ONES, training=True))


def test_the_step_wraps_at_32_bits():
    layer = dropout(0.5)
    layer.state["step"] = 2**32
    layer.forward(ONES, training=True)
    assert_same_bits(layer.last_mask, reference.dropout_mask(SEED, NUMBER, 0, ONES.shape, 0.5))


# ---- last_mask and freeze_mask ----


def test_last_mask_is_that_of_the_latest_training_forward():
    layer = dropout(0.5)
    with pytest.raises(RuntimeError, match=r"Dropout.last_mask: needs forward\(x, training=True\) before it"):
        _ = layer.last_mask
    y = layer.forward(ONES, training=True)
    mask = layer.last_mask
    assert mask.dtype == bool
    assert_same_bits(mask, y != 0)
    mask[...] = False  # the caller's own
    assert_same_bits(layer.last_mask, y != 0)
    layer.backward(ONES)
    layer.forward(ONES[:3])
    assert_same_bits(layer.last_mask, y != 0)
    assert_same_bits(layer.forward(ONES[:9], training=True) != 0, layer.last_mask)


def test_freeze_mask_holds_the_mask_still():
    layer, free = dropout(0.5), dropout(0.5)
    first = [free.forward(ONES, training=True) for _ in range(3)]
    assert_same_bits(layer.forward(ONES, training=True), first[0])
    layer.freeze_mask()
    mask = layer.last_mask
    for _ in range(3):
        assert_same_bits(layer.forward(ONES, training=True), first[0])
        assert_same_bits(layer.backward(ONES), first[0])
        assert (layer.last_mask == mask).all()
    assert layer.state == {"step": 1}
    layer.unfreeze_mask()
    for want in first[1:]:
        assert_same_bits(layer.forward(ONES, training=True), want)
    assert layer.state == {"step": 3}


def test_a_frozen_mask_whose_first_step_was_taken_back():
    """What ``fit`` does with an interrupted step: it puts the state back."""
    layer, free = dropout(0.5), dropout(0.5)
    first = free.forward(ONES, training=True)
    layer.freeze_mask()
    for _ in range(2):
        layer.forward(ONES, training=True)
        layer.state["step"] = 0
    assert_same_bits(layer.forward(ONES, training=True), first)
    assert_same_bits(layer.forward(ONES, training=True), first)
    assert layer.state == {"step": 1}


def test_a_frozen_mask_is_that_of_the_latest_step_in_a_resumed_run_too():
    layer, resumed = dropout(0.5), dropout(0.5)
    for _ in range(3):
        y = layer.forward(ONES, training=True)
    resumed.state.update(layer.state)
    for one in (layer, resumed):
        one.freeze_mask()
        for _ in range(2):
            assert_same_bits(one.forward(ONES, training=True), y)
        one.unfreeze_mask()
    assert_same_bits(layer.forward(ONES, training=True), resumed.forward(ONES, training=True))


def test_a_copy_goes_its_own_way():
    layer = dropout(0.5)
    layer.forward(ONES, training=True)
    other = copy.deepcopy(layer)
    want = layer.forward(ONES, training=True)
    assert other.state == {"step": 1}
    assert_same_bits(other.forward(ONES, training=True), want)


# ---- in company ----


def test_a_unit_dropped_for_the_whole_batch_gets_a_zero_weight_gradient():
    before, after = build(layers.Dense(40), (9,), 1), build(layers.Dense(5), (40,), 2)
    layer = dropout(0.8, (40,))
    x, dy = normal((4, 9), "float32"), normal((4, 5), "float32", 1)
    y = layer.forward(before.forward(x, training=True), training=True)
    after.forward(y, training=True)
    before.backward(layer.backward(after.backward(dy)))
    idle = ~layer.last_mask.any(0)
    assert 5 < np.count_nonzero(idle) < 35  # 0.8^4 = 41 % of 40 units are expected
    assert (after.grads["kernel"][idle] == 0).all()
    assert (before.grads["kernel"][:, idle] == 0).all()
    assert (before.grads["bias"][idle] == 0).all()
    assert (after.grads["kernel"][~idle] != 0).all()
    assert (before.grads["kernel"][:, ~idle] != 0).all()


@pytest.mark.parametrize(("rate", "error"), [
    (float("nan"), ValueError), (-0.1, ValueError), (1.1, ValueError), (float("inf"), ValueError), (2, ValueError),
    (True, TypeError), ("0.5", TypeError), (None, TypeError), ([0.5], TypeError), (0.5j, TypeError),
])  # fmt: skip
def test_wrong_rates(rate, error):
    with pytest.raises(error, match=r"^Dropout: rate must be a number in \[0, 1\]; got ") as caught:
        Dropout(rate)
    assert repr(rate) in str(caught.value)


@pytest.mark.parametrize(("keywords", "error", "message"), [
    ({"mode": "invert"}, ValueError, "mode must be one of .*; got 'invert'. Did you mean 'inverted'"),
    ({"seed": -1}, ValueError, r"seed must be a whole number in \[0, 18446744073709551615\]; got -1"),
    ({"seed": 2**64}, ValueError, r"seed must be a whole number in .*; got 18446744073709551616"),
    ({"seed": 1.5}, TypeError, r"seed must be a whole number .*; got 1.5 \(float\)"),
    ({"nois_shape": (1,)}, TypeError, "the keywords are rate, .*; got `nois_shape`. Did you mean `noise_shape`"),
])  # fmt: skip
def test_wrong_keywords(keywords, error, message):
    with pytest.raises(error, match=f"^Dropout: {message}"):
        Dropout(0.5, **keywords)
