"""DropBlock2D: whole blocks, in every channel others, and every sample scaled by what is left of itself."""

import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits
from hypothesis import example, given
from hypothesis import strategies as st
from running import at_every_thread_count, build, channels, dtypes, inputs, layouts, normal, run, steps_layer_by_layer

import minicnn as mc
from minicnn import layers, schedules
from minicnn._ext.machinery import runtime
from minicnn.layers import DropBlock2D
from minicnn.testing import gradcheck

SEED, NUMBER = 7, 3
SHAPE = (9, 8, 5)


def blocks(rate, block_size=3, shape=SHAPE, **arguments):
    layer = DropBlock2D(rate, block_size, **arguments)
    layer.stream = SEED, NUMBER
    return build(layer, shape)


def gamma_of(rate, block, height, width):
    return rate / block**2 * height * width / ((height - block + 1) * (width - block + 1))


# ---- the formula ----


@given(st.integers(1, 12), st.integers(1, 12), channels, st.integers(1, 12), st.integers(0, 4),
       st.sampled_from([0.1, 0.5, 0.9]), dtypes, layouts)  # fmt: skip
@example(7, 7, 32, 3, 2, 0.3, "float32", "C")
@example(6, 5, 64, 5, 2, 0.3, "float32", "C")
@example(1, 1, 1, 1, 3, 0.5, "float64", "C")
def test_against_the_reference(height, width, count, block, n, rate, dtype, layout):
    """Strings of bits that end anywhere in a word, shifted by whole words and by parts of them."""
    block = min(block, height, width)
    layer = blocks(rate, block, (height, width, count), dtype=dtype)
    x, dy = inputs(layer, n, dtype)
    rtol = 2 * np.finfo(dtype).eps
    for step in range(2):
        keep = reference.drop_block_mask(SEED, NUMBER, step, x.shape, rate, block)
        got = run(layer, x, dy, layout)
        assert_same_bits(layer.last_mask, keep)
        assert_close(got["y"], reference.drop_block(x, keep), rtol, dtype)
        assert_close(got["dx"], reference.drop_block_grad(x, keep, dy), rtol, dtype)
    assert_same_bits(layer.forward(x), x)


@pytest.mark.parametrize("block", [1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 17, 31])
def test_blocks_of_every_size(block):
    layer = blocks(0.4, block, (33, 31, 3))
    y = layer.forward(np.ones((2, 33, 31, 3)), training=True)
    keep = reference.drop_block_mask(SEED, NUMBER, 0, y.shape, 0.4, block)
    assert not keep.all()
    assert_same_bits(y != 0, keep)


@pytest.mark.parametrize("rate", [0.1, 0.8])
def test_where_blocks_begin_is_decided_with_probability_gamma(rate):
    """A pixel in the middle is kept where none of the B^2 blocks over it begins, one at a corner where one does not."""
    n, (h, w, c), block = 4000, SHAPE, 3
    layer = blocks(rate)
    layer.forward(np.ones((n, *SHAPE), np.float32), training=True)
    share, gamma = layer.last_mask.mean((0, 3)), gamma_of(rate, block, h, w)
    for place, over in (((4, 4), 9), ((0, 0), 1), ((h - 1, w - 1), 1), ((0, 4), 3), ((4, 0), 3), ((1, 1), 4)):
        want = (1 - gamma) ** over
        assert abs(share[place] - want) < 5 * math.sqrt(want * (1 - want) / (n * c)) + over / 131072


def test_as_small_blocks_in_a_large_image_about_1_less_exp_of_minus_the_rate_is_dropped():
    layer = blocks(0.3, 3, (100, 100, 4))
    layer.forward(np.ones((8, 100, 100, 4), np.float32), training=True)
    assert abs((~layer.last_mask).mean() - (1 - math.exp(-0.3))) < 0.01


def test_blocks_of_one_pixel_are_dropout_but_for_the_scale():
    one, other = blocks(0.3, 1), layers.Dropout(0.3)
    other.stream = SEED, NUMBER
    build(other, SHAPE)
    x = np.ones((5, *SHAPE), np.float32)
    y, z = one.forward(x, training=True), other.forward(x, training=True)
    assert_same_bits(y != 0, z != 0)
    assert np.abs(y - z).max() < 0.1


# ---- the scale ----


@pytest.mark.parametrize("rate", [0.1, 0.8])
def test_the_factors_of_every_sample_have_the_mean_1(rate):
    layer = blocks(rate, dtype="float64")
    ones = np.ones((30, *SHAPE))
    y = layer.forward(ones, training=True)
    assert_close(y.mean((1, 2, 3)), np.ones(30), 1e-14)
    for sample, keep in zip(y, layer.last_mask, strict=True):
        assert_same_bits(sample, np.where(keep, keep.size / keep.sum(), 0))
    assert len(np.unique(y)) > 10  # each has its own
    assert_same_bits(layer.backward(ones), y)


def test_a_sample_does_not_depend_on_the_others():
    x = normal((20, *SHAPE), "float32")
    found = blocks(0.5).forward(x, training=True)
    assert_same_bits(blocks(0.5).forward(x[:7], training=True), found[:7])
    x[7:] = np.nan
    assert_same_bits(blocks(0.5).forward(x, training=True)[:7], found[:7])


def test_a_sample_of_which_nothing_is_left_is_0():
    """Images of one block: it is dropped or not.  A scale of 1/0 would make them NaN."""
    layer = blocks(0.7, 4, (4, 4, 1))
    x = np.full((50, 4, 4, 1), np.inf, np.float32)
    y = layer.forward(x, training=True)
    keep = layer.last_mask
    gone = ~keep.any((1, 2, 3))
    assert 20 < gone.sum() < 50
    assert_same_bits(y[gone], np.zeros_like(y[gone]))
    assert_same_bits(layer.backward(x)[gone], np.zeros_like(y[gone]))
    assert_same_bits(y[~gone], x[~gone])


@pytest.mark.parametrize("rate", [0, 1])
@pytest.mark.parametrize("block", [1, 3])
def test_the_ends_are_exact(rate, block):
    layer, x = blocks(rate, block), normal((6, *SHAPE), "float32")
    x[0, 0, 0, :4] = np.nan, np.inf, -np.inf, -0.0
    want = np.zeros_like(x) if rate else x
    assert_same_bits(layer.forward(x, training=True), want)
    assert_same_bits(layer.backward(x), want)
    assert_same_bits(layer.last_mask, np.full(x.shape, not rate))
    assert layer.state == {"step": 1}
    assert_same_bits(layer.forward(x), x)


def test_rates_near_the_ends_neither_keep_nor_drop_all():
    layer = blocks(1e-12, 3, (40, 40, 8))
    layer.forward(np.ones((40, 40, 40, 8), np.float32), training=True)
    corners = 40 * 38 * 38 * 8 / 65536
    assert abs((~layer.last_mask).sum() / 9 - corners) < 5 * math.sqrt(corners)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_dropped_nan_and_inf_become_0(value):
    layer = blocks(0.5)
    y = layer.forward(np.full((9, *SHAPE), value), training=True)
    keep = layer.last_mask
    for array in (y, layer.backward(y)):
        assert_same_bits(array[~keep], np.zeros((~keep).sum(), np.float32))
        assert not np.isfinite(array[keep]).any()


@pytest.mark.parametrize("rate", [0, 0.3, 1])
def test_gradient_through_the_frozen_mask(rate):
    assert gradcheck(blocks(rate), normal((3, *SHAPE)))


# ---- the bits ----


def test_same_bits_at_any_thread_count():
    x, dy = inputs(blocks(0.3), 37, "float32")
    first, *others = at_every_thread_count(lambda: blocks(0.3), x, dy)
    for other in others:
        for name in first:
            assert_same_bits(first[name], other[name])


def fingerprint():
    found = hashlib.sha256()
    for shape, block in (((9, 8, 5), 3), ((33, 31, 32), 7), ((5, 6, 33), 5), ((8, 8, 64), 4)):
        for dtype in ("float32", "float64"):
            layer = blocks(0.3, block, shape, dtype=dtype)
            for array in run(layer, *inputs(layer, 3, dtype)).values():
                found.update(array.tobytes())
            alpha = build(layers.AlphaDropout(0.3, seed=1, dtype=dtype), shape)
            for array in run(alpha, *inputs(alpha, 3, dtype)).values():
                found.update(array.tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("name", runtime.INSTRUCTION_SETS)
def test_same_bits_on_every_instruction_set(name):
    """Of AlphaDropout, too, whose leaf has no other test of it: additions are not fused."""
    code = "import sys; sys.path[:0] = sys.argv[1:]; import test_drop_block; print(test_drop_block.fingerprint())"
    paths = map(os.path.dirname, (__file__, os.path.dirname(mc.__file__)))
    result = subprocess.run(
        [sys.executable, "-c", code, *paths], env=os.environ | {"MINICNN_SIMD": name}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert result.stdout.strip() == fingerprint()


# ---- in models ----


def model_of(rate, block_size=3):
    model = mc.Sequential(
        [layers.Conv2D(5, 3, padding="same"), DropBlock2D(rate, block_size), layers.Flatten(), layers.Dense(3)],
        seed=SEED,
    )
    model.compile(mc.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    model.build((9, 8, 2))
    return model


X, LABELS = normal((60, 9, 8, 2), "float32"), np.arange(60) % 3


@pytest.mark.parametrize("rate", [0.3, schedules.PolynomialDecay(0.0, 4, 1.0)])
def test_a_plan_and_layer_by_layer_give_the_same_bits(rate):
    planned, by_hand = model_of(rate), model_of(rate)
    planned.fit(X, LABELS, batch_size=10, epochs=1, shuffle=False, verbose=0)
    for _ in steps_layer_by_layer(by_hand, X, LABELS, 10):
        pass
    assert planned.fingerprint() == by_hand.fingerprint()


def test_samples_have_the_masks_of_the_reference():
    model = model_of(0.4)
    h, weights = model.outputs(X)[0], model.state_dict()
    found = [model.predict_mc(X, 4, return_samples=True, batch_size=size).samples for size in (7, 60)]
    assert_same_bits(*found)
    for t in range(4):
        keep = reference.drop_block_mask(SEED, 1, t, h.shape, 0.4, 3, purpose=1)
        flat = reference.drop_block(h, keep).reshape(len(X), -1)
        z = reference.dense(flat, weights["3.kernel"], weights["3.bias"])
        assert_close(found[0][t], reference.softmax(z), 1e-5)


def test_a_block_size_that_is_set_between_the_steps():
    model = model_of(0.5)
    layer = model.layers[1]
    for block in (3, 1, 8, 2):
        layer.block_size = block
        layer.state["step"] = 4
        model.forward(X, training=True)
        keep = reference.drop_block_mask(SEED, 1, 4, (60, 9, 8, 5), 0.5, block)
        assert_same_bits(layer.last_mask, keep)
    with pytest.raises(ValueError, match=r"^DropBlock2D: block_size must fit into an image of 9 x 8 pixels; got 9$"):
        layer.block_size = 9
    assert layer.block_size == 2
    layer.block_size = 3
    with pytest.raises(RuntimeError, match=r"^DropBlock2D.backward: needs forward"):
        layer.backward(np.ones((60, 9, 8, 5)))
    with pytest.raises(RuntimeError, match=r"^DropBlock2D.last_mask: needs forward"):
        _ = layer.last_mask


def test_a_block_that_does_not_fit():
    """torchvision takes the largest that does; here nobody trains with another size than the one written."""
    with pytest.raises(ValueError, match=r"^DropBlock2D: block_size must fit into an image of 4 x 9 pixels; got 5$"):
        build(DropBlock2D(0.1, 5), (4, 9, 3))
    build(DropBlock2D(0.1, 4), (4, 9, 3))


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError), (True, TypeError),
                                             ("3", TypeError), (None, TypeError), ((3, 3), TypeError)])  # fmt: skip
def test_wrong_block_sizes(size, error):
    with pytest.raises(error, match=r"^DropBlock2D: block_size must be a whole number >= 1; got "):
        DropBlock2D(0.1, size)


def test_samples_that_are_no_images():
    with pytest.raises(
        ValueError, match=r"^DropBlock2D: one sample must have an image \(height, width, channels\); got"
    ):
        build(DropBlock2D(0.1, 1), (9,))
