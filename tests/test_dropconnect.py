"""DropConnect: Dense with a mask over the weights, a different one for every sample, and the same in backward."""

import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from running import (
    at_every_thread_count,
    build,
    channels,
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
from minicnn._ext import dropconnect as kernels
from minicnn._ext.machinery import runtime
from minicnn.layers import DropConnect
from minicnn.layers.random import new_lot
from minicnn.testing import GradientError, gradcheck

SEED, NUMBER = 7, 3
RATES = [0.1, 0.8]


def dropconnect(units, rate, inputs, **arguments):
    layer = DropConnect(units, rate, **arguments)
    layer.stream = SEED, NUMBER
    return build(layer, (inputs,))


def check(layer, got, x, dy, keep):
    """What ``run`` returned, against the reference with a given mask; errors relative to the size of the terms."""
    w, rate, mode = layer.params["kernel"], layer.rate, layer.mode
    n, d, m = keep.shape
    factor = 1 / (1 - rate) if mode == "inverted" else 1
    y = reference.dropconnect(x, w, keep, rate, layer.params.get("bias"), mode)
    dx, dkernel, dbias = reference.dropconnect_grad(x, w, keep, rate, dy, mode)
    sizes = [max(np.abs(array).max(initial=0), 1) for array in (x, w, dy)]
    for name, want, terms in (("y", y, d), ("dx", dx, m), ("kernel", dkernel, n)):
        pair = {"y": sizes[:2], "dx": sizes[1:], "kernel": sizes[::2]}[name]
        scale = factor * math.sqrt(terms) * math.prod(pair) + 10
        assert_close(got[name], want, tolerance(layer.dtype, terms), layer.dtype, scale=scale)
    if layer.use_bias:
        assert_close(got["bias"], dbias, tolerance(layer.dtype, n), layer.dtype, scale=n * sizes[2])


# ---- the formula ----


@given(channels, st.integers(1, 40), st.integers(0, 4), st.sampled_from([0.1, 0.5, 0.8]),
       st.sampled_from(["inverted", "classical"]), st.booleans(), dtypes, layouts)  # fmt: skip
def test_against_the_reference(m, d, n, rate, mode, use_bias, dtype, layout):
    layer = dropconnect(m, rate, d, mode=mode, use_bias=use_bias, dtype=dtype)
    x, dy = inputs(layer, n, dtype)
    for step in range(2):
        keep = reference.dropout_mask(SEED, NUMBER, step, (n, d, m), rate)
        check(layer, run(layer, x, dy, layout), x, dy, keep)
        assert_same_bits(layer.last_mask, keep)
        assert layer.state == {"step": step + 1}
    bias = layer.params.get("bias")
    want = reference.dense(x, (1 - rate if mode == "classical" else 1) * layer.params["kernel"].astype(float), bias)
    assert_close(layer.forward(x), want, tolerance(dtype, d), dtype, scale=5 * math.sqrt(d) + 5)


@pytest.mark.parametrize(("d", "m"), [(70, 130), (9, 1000), (3, 5000), (1000, 3), (333, 100), (130, 64), (1, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_blocks_and_long_rows(d, m, dtype):
    layer = dropconnect(m, 0.4, d, dtype=dtype)
    x, dy = inputs(layer, 3, dtype)
    got = run(layer, x, dy)
    check(layer, got, x, dy, layer.last_mask)


def test_the_mask_is_that_of_dropout_over_all_weights():
    """Of each sample D * M neighbouring decisions; the reference draws them one by one."""
    layer = dropconnect(33, 0.3, 50)
    layer.state["step"] = 2**32 + 5
    layer.forward(normal((4, 50)), training=True)
    assert_same_bits(layer.last_mask, reference.dropout_mask(SEED, NUMBER, 5, (4, 50, 33), 0.3))


@pytest.mark.parametrize("rate", RATES)
def test_the_fraction_dropped(rate):
    """For every sample, every input and every output, within five binomial standard deviations."""
    layer = dropconnect(60, rate, 50)
    kept = []
    for _ in range(4):
        layer.forward(np.ones((40, 50)), training=True)
        kept.append(layer.last_mask)
    kept = np.concatenate(kept)
    for axes in ((0, 1, 2), (1, 2), (0, 2), (0, 1), (0,)):
        share = kept.mean(axes)
        draws = kept.size / share.size
        assert np.abs(share - (1 - rate)).max() < 5 * math.sqrt(rate * (1 - rate) / draws) + 1e-5


@pytest.mark.parametrize("mode", ["inverted", "classical"])
def test_the_mean_is_what_evaluation_gives(mode):
    n = 20_000
    layer, x = dropconnect(20, 0.8, 30, mode=mode), normal((1, 30), "float32")
    y = layer.forward(np.repeat(x, n, axis=0), training=True).astype(np.float64)
    assert (np.abs(y.mean(0) - layer.forward(x)[0]) < 5 * y.std(0) / math.sqrt(n) + 1e-3).all()


@pytest.mark.parametrize("rate", [0, *RATES, 1])
@pytest.mark.parametrize("mode", ["inverted", "classical"])
@pytest.mark.parametrize("activation", [None, "relu", "gelu", "softmax"])
def test_gradient_through_the_frozen_mask(rate, mode, activation):
    assert gradcheck(dropconnect(19, rate, 23, mode=mode, activation=activation), normal((3, 23)))


def test_the_usual_mistakes_are_caught():
    class NoMask(DropConnect):
        def _linear_gradient(self, x, dz, input_gradient):
            self._draw[0] = 0
            return super()._linear_gradient(x, dz, input_gradient)

    class NoScale(DropConnect):
        def _linear_gradient(self, x, dz, input_gradient):
            self._scale[0] = 1
            return super()._linear_gradient(x, dz, input_gradient)

    class OtherMask(DropConnect):
        def _linear_gradient(self, x, dz, input_gradient):
            self._draw[2] += np.uint64(1)
            return super()._linear_gradient(x, dz, input_gradient)

    for wrong in (NoMask, NoScale, OtherMask):
        with pytest.raises(GradientError):
            gradcheck(wrong(5, 0.8), normal((3, 20)))


def test_the_activation_is_taken_of_the_whole_sum():
    x = normal((5, 40), "float32")
    plain, fused = dropconnect(17, 0.5, 40), dropconnect(17, 0.5, 40, activation="relu")
    assert_same_bits(fused.forward(x, training=True), np.maximum(plain.forward(x, training=True), 0))


# ---- the ends of the range ----


@pytest.mark.parametrize("mode", ["inverted", "classical"])
@pytest.mark.parametrize("shape", [(17, 40), (64, 256)])
def test_rate_0_is_dense_to_the_bit(mode, shape):
    d, m = shape
    layer, dense = dropconnect(m, 0, d, mode=mode, activation="relu"), build(layers.Dense(m, "relu"), (d,))
    x, dy = inputs(layer, 9, "float32")
    for one, other in zip(run(layer, x, dy).values(), run(dense, x, dy).values(), strict=True):
        assert_same_bits(one, other)
    assert_same_bits(layer.forward(x), dense.forward(x))
    assert layer.last_mask.all()
    assert layer.state == {"step": 1}


@pytest.mark.parametrize("mode", ["inverted", "classical"])
def test_rate_1_leaves_the_bias(mode):
    layer = dropconnect(17, 1, 40, mode=mode)
    x, dy = inputs(layer, 9, "float32")
    x[0, :3] = np.nan, np.inf, -np.inf
    layer.params["kernel"][2, :2] = np.nan, np.inf
    got = run(layer, x, dy)
    assert_same_bits(got["y"], np.repeat(layer.params["bias"][None], 9, axis=0))
    assert_same_bits(got["dx"], np.zeros_like(x))
    assert_same_bits(got["kernel"], np.zeros((40, 17), np.float32))
    assert_close(got["bias"], dy.sum(0, dtype=np.float64), 1e-5)
    assert not layer.last_mask.any()


def test_a_threshold_of_0_in_the_kernel_keeps_all():
    """Where a schedule comes by 0."""
    x, w, bias, dy = normal((5, 40)), normal((40, 17), seed=1), normal((17,), seed=2), normal((5, 17), seed=3)
    draw, one = np.array([0, 1, 2, 3, 0, 1 << 62], np.uint64), np.ones(1)
    y, dw, dbias, dx = np.empty((5, 17)), np.empty((40, 17)), np.empty(17), np.empty((5, 40))
    kernels.forward(x, w, bias, y, draw, one)
    kernels.backward(x, w, dy, dw, dbias, dx, draw, one)
    assert_close(y, reference.dense(x, w, bias), 1e-13)
    for got, want in zip((dx, dw, dbias), reference.dense_grad(x, w, dy), strict=True):
        assert_close(got, want, 1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m", [3, 16, 37])
def test_dropped_nan_and_inf_count_for_nothing(m, dtype):
    """Selected, not multiplied: 0 * inf would be NaN."""
    layer = dropconnect(m, 0.8, 20, dtype=dtype)
    x, dy = inputs(layer, 6, dtype)
    layer.params["kernel"][5] = np.inf
    layer.params["kernel"][6, ::2] = np.nan
    x[1, 7] = np.nan
    dy[2, 1] = np.inf
    got, keep, w = run(layer, x, dy), layer.last_mask, layer.params["kernel"]
    bad = {
        "y": (keep & ~np.isfinite(x[:, :, None] * w)).any(1),
        "dx": (keep & ~np.isfinite(dy[:, None] * w)).any(2),
        "kernel": (keep & ~np.isfinite(x[:, :, None] * dy[:, None])).any(0),
    }
    for name, where in bad.items():
        assert_same_bits(np.isfinite(got[name]), ~where)
        assert where.any()
        assert not where.all()


# ---- threads, instruction sets, plans ----


@pytest.mark.parametrize(("n", "d", "m"), [(37, 300, 41), (3, 40, 500)])
def test_same_bits_at_any_thread_count(n, d, m):
    layer = dropconnect(m, 0.3, d)
    x, dy = inputs(layer, n, "float32")
    results = at_every_thread_count(lambda: dropconnect(m, 0.3, d), x, dy)
    use_threads(8)
    results.append(run(dropconnect(m, 0.3, d), x, dy))
    for other in results[1:]:
        for name, values in results[0].items():
            assert_same_bits(values, other[name])


def passes():
    """A fingerprint of both passes at many widths."""
    found = hashlib.sha256()
    for m in (1, 7, 8, 16, 17, 33, 64, 100, 300):
        for dtype in ("float32", "float64"):
            layer = dropconnect(m, 0.3, 77, dtype=dtype)
            for array in run(layer, *inputs(layer, 3, dtype)).values():
                found.update(array.tobytes())
    return found.hexdigest()


@pytest.mark.skipif("avx512" not in runtime.INSTRUCTION_SETS, reason="needs AVX-512")
def test_same_bits_with_avx2_and_avx512():
    code = "import sys; sys.path[:0] = sys.argv[1:]; import test_dropconnect; print(test_dropconnect.passes())"
    paths = map(os.path.dirname, (__file__, os.path.dirname(minicnn.__file__)))
    command = [sys.executable, "-c", code, *paths]
    avx2, avx512 = (
        subprocess.run(command, env=os.environ | {"MINICNN_SIMD": name}, capture_output=True, text=True, check=True)
        for name in ("avx2", "avx512")
    )
    assert avx2.stdout == avx512.stdout


@pytest.mark.parametrize("mode", ["inverted", "classical"])
def test_a_schedule_within_a_recorded_plan(mode):
    """The plan is recorded at the first rate and has to follow the later ones, both ends included."""

    def model():
        rising = schedules.PolynomialDecay(0.0, 4, 1.0)  # 0, 0.25, 0.5, 0.75, 1, 1, ...
        chain = [DropConnect(40, rising, mode=mode, activation="relu"), layers.Dense(3)]
        made = minicnn.Sequential(chain, seed=2)
        made.compile("sgd", "sparse_categorical_crossentropy")
        made.build((8,))
        return made

    x, y = normal((60, 8)), np.arange(60) % 3
    planned, by_hand = model(), model()
    planned.fit(x, y, batch_size=10, epochs=1, shuffle=False, verbose=0)
    for _ in steps_layer_by_layer(by_hand, x, y, batch_size=10):
        assert by_hand.layers[0].last_mask.shape == (10, 8, 40)
    assert planned.layers[0].current_rate == 1
    assert planned.fingerprint() == by_hand.fingerprint()
    assert_same_bits(planned.predict(x), by_hand.layers[1].forward(by_hand.layers[0].forward(x)))


def test_in_a_trained_model():
    """One that has to be learnt, as the first layer and as a later one."""
    x = normal((200, 6), "float32")
    labels = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    chain = [DropConnect(64, 0.2, activation="relu"), DropConnect(64, 0.5, activation="relu"), layers.Dense(2)]
    model = minicnn.Sequential(chain, seed=3)
    model.compile(minicnn.optimizers.Adam(0.01), "sparse_categorical_crossentropy", ["accuracy"])
    model.fit(x, labels, batch_size=40, epochs=30, verbose=0)
    assert model.evaluate(x, labels)[1] > 0.93


# ---- the family's face ----


def test_backward_makes_the_mask_of_its_own_forward_again():
    """Whatever happens in between: evaluation, a Monte-Carlo sample, asking for the mask, another seed."""
    layer, other = dropconnect(17, 0.4, 40, mode="classical"), dropconnect(17, 0.4, 40, mode="classical")
    x, dy = inputs(layer, 9, "float32")
    want = run(other, x, dy)
    assert_same_bits(layer.forward(x, training=True), want["y"])
    layer.forward(x)
    lot = new_lot()
    layer.settle_sample(lot, 1, 0, 0, len(x))
    layer.sample(x, lot)
    assert layer.last_mask.any()
    layer.stream = 99, 99
    layer.state["step"] = 1000
    assert_same_bits(layer.backward(dy), want["dx"])
    assert_same_bits(layer.grads["kernel"], want["kernel"])


def test_monte_carlo_samples():
    """Every sample has a mask of its own, which is not that of training, at any cut into batches."""
    layer, x = dropconnect(17, 0.5, 40, activation="leaky_relu"), normal((6, 40), "float32")
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
            assert (one != other).mean() > 0.95
    assert layer.state == {"step": 1}


def test_freeze_mask_and_resume():
    layer, free, x = dropconnect(17, 0.5, 40), dropconnect(17, 0.5, 40), normal((9, 40), "float32")
    with pytest.raises(RuntimeError, match=r"^DropConnect.last_mask: needs forward\(x, training=True\) before it$"):
        _ = layer.last_mask
    wanted = [free.forward(x, training=True) for _ in range(3)]
    layer.freeze_mask()
    for _ in range(2):
        assert_same_bits(layer.forward(x, training=True), wanted[0])
    layer.unfreeze_mask()
    assert_same_bits(layer.forward(x, training=True), wanted[1])
    resumed = dropconnect(17, 0.5, 40)
    resumed.state.update(layer.state)
    assert_same_bits(resumed.forward(x, training=True), wanted[2])


def test_a_rate_that_is_set_between_forward_and_backward():
    for before, after in ((0.5, 0), (0, 0.5)):
        layer, other = dropconnect(17, before, 40), dropconnect(17, before, 40)
        x, dy = inputs(layer, 9, "float32")
        layer.forward(x, training=True)
        layer.rate = after
        assert_same_bits(layer.backward(dy), run(other, x, dy)["dx"])


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"^DropConnect: one sample must have one axis.*\(3, 4\). Put Flatten before$"):
        build(DropConnect(3), (3, 4))
    with pytest.raises(ValueError, match=r"^DropConnect: rate must be a number in \[0, 1\]; got 1.5$"):
        DropConnect(3, 1.5)
    with pytest.raises(ValueError, match=r"^DropConnect: units must be a whole number >= 1; got 0$"):
        DropConnect(0)
    with pytest.raises(ValueError, match=r"^DropConnect: mode must be one of .*Did you mean 'inverted'"):
        DropConnect(3, mode="invert")
    x, w = normal((5, 4)), normal((4, 3))
    for shapes in (((5, 4), (3, 3), (5, 3)), ((5, 4), (4, 3), (4, 3))):
        with pytest.raises(ValueError, match=r"^kernel: "):
            kernels.forward(x, np.ones(shapes[1]), None, np.ones(shapes[2]), np.ones(6, np.uint64), np.ones(1))
    with pytest.raises(ValueError, match=r"^kernel: draw"):
        kernels.forward(x, w, None, np.ones((5, 3)), np.zeros(6, np.uint64), np.ones(1))
