"""Resizing: against its twin, PyTorch's interpolate, and what Keras documents."""

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from running import at_every_thread_count, batches, build, dtypes, inputs, layouts, normal, run, steps_layer_by_layer

import minicnn as mc
from minicnn import layers
from minicnn.testing import gradcheck

sides = st.integers(1, 13)
few_channels = st.sampled_from([1, 2, 3, 4, 5])
methods = st.sampled_from(["bilinear", "nearest"])


@given(sides, sides, few_channels, sides, sides, methods, st.booleans(), batches, dtypes, layouts)
def test_resizing(h, w, c, height, width, interpolation, crop, n, dtype, layout):
    layer = build(layers.Resizing(height, width, interpolation, crop, dtype=dtype), (h, w, c))
    assert layer.output_shape == (height, width, c)
    x, dy = inputs(layer, n, dtype)
    got = run(layer, x, dy, layout)
    more = interpolation, crop
    y, dx = reference.resizing(x, height, width, *more), reference.resizing_grad(x, height, width, dy, *more)
    if interpolation == "nearest":
        assert_same_bits(got["y"], y.astype(dtype))
    assert_close(got["y"], y, 2 * tolerance(dtype), dtype, np.abs(x).max(initial=0))
    scale = reference.resizing_grad(x, height, width, np.abs(dy), *more).max(initial=0)
    assert_close(got["dx"], dx, 2 * tolerance(dtype, height * width), dtype, scale)
    assert_same_bits(layer.forward(x), got["y"])  # in evaluation the same


def line(layer, *numbers):
    layer.dtype = "float64"
    return build(layer, (1, len(numbers), 1)).forward(np.reshape(numbers, (1, 1, -1, 1)).astype(float)).ravel().tolist()


def test_by_hand():
    assert line(layers.Resizing(1, 6), 1, 3, 7) == [1, 1.5, 2.5, 4, 6, 7]  # as UpSampling2D(2)
    assert line(layers.Resizing(1, 2), 1, 3, 7, 9) == [2, 8]
    assert line(layers.Resizing(1, 1), 1, 3, 7) == [3]
    assert line(layers.Resizing(1, 3, "nearest"), *range(32)) == [5, 16, 26]  # (1 + 1/2) 32/3 is 16, not a little less
    assert line(layers.Resizing(1, 5, "nearest"), 1, 2, 3) == [1, 1, 2, 3, 3]
    assert layers.Resizing(3, 4).interpolation == "bilinear"


@pytest.mark.parametrize("new", [3, 5, 6, 7, 10, 12, 48])
def test_halves_are_rounded_up_however_they_are_summed(new):
    for size in (1, 2, 3, 21, 32, 33, 96, 30000):
        x = np.arange(float(size)).reshape(1, 1, size, 1)
        got = build(layers.Resizing(1, new, "nearest", dtype="float64"), (1, size, 1)).forward(x).ravel()
        assert got.tolist() == [(2 * i + 1) * size // (2 * new) for i in range(new)]


def test_the_aspect_ratio():
    """The middle of what is too long; a square of 4 x 8 is its columns 2 to 5."""
    x = np.arange(32.0).reshape(1, 4, 8, 1)
    layer = build(layers.Resizing(2, 2, "nearest", crop_to_aspect_ratio=True, dtype="float64"), (4, 8, 1))
    assert layer.forward(x)[0, ..., 0].tolist() == [[x[0, 1, 3, 0], x[0, 1, 5, 0]], [x[0, 3, 3, 0], x[0, 3, 5, 0]]]
    layer = build(layers.Resizing(4, 4, crop_to_aspect_ratio=True, dtype="float64"), (4, 8, 1))
    assert_same_bits(layer.forward(x), x[:, :, 2:6].copy())
    tall = build(layers.Resizing(1, 100, crop_to_aspect_ratio=True), (3, 3, 1))  # less than a row: one
    assert tall.forward(x[:, :3, :3]).shape == (1, 1, 100, 1)


def test_nothing_beyond_the_cut_is_seen():
    x = np.full((1, 4, 9, 1), np.nan)
    x[:, :, 2:6] = 1
    layer = build(layers.Resizing(7, 7, crop_to_aspect_ratio=True), (4, 9, 1))
    assert np.isfinite(layer.forward(x)).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize(("shape", "new"), [((6, 5, 3), (9, 4)), ((7, 11, 1), (3, 5)), ((4, 4, 2), (8, 12))])
def test_pytorch_has_the_same(shape, new, interpolation):
    torch = pytest.importorskip("torch")
    layer = build(layers.Resizing(*new, interpolation, dtype="float64"), shape)
    x, dy = inputs(layer, 2, "float64")
    got = run(layer, x, dy)
    image = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    more = {"mode": "nearest-exact"} if interpolation == "nearest" else {"mode": "bilinear", "align_corners": False}
    y = torch.nn.functional.interpolate(image, new, **more)
    y.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    assert_close(got["y"], y.detach().numpy().transpose(0, 2, 3, 1), 1e-12)
    assert_close(got["dx"], image.grad.numpy().transpose(0, 2, 3, 1), 1e-12)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_gradients(interpolation):
    for new in ((3, 9), (7, 4)):
        assert gradcheck(build(layers.Resizing(*new, interpolation, True), (5, 6, 2)), normal((2, 5, 6, 2)))


def test_the_size_that_is_there_changes_no_bit():
    x = normal((3, 5, 6, 4), "float32")
    for interpolation in ("bilinear", "nearest"):
        assert_same_bits(build(layers.Resizing(5, 6, interpolation), (5, 6, 4)).forward(x), x)


def test_in_a_plan_and_at_any_number_of_threads():
    x, y = normal((20, 6, 9, 2), "float32"), np.arange(20) % 3

    def model():
        body = [
            layers.Conv2D(3, 2),
            layers.Resizing(7, 4, crop_to_aspect_ratio=True),
            layers.Flatten(),
            layers.Dense(3),
        ]
        made = mc.Sequential([layers.Resizing(8, 8, crop_to_aspect_ratio=True), *body], seed=1)
        made.compile("sgd", "sparse_categorical_crossentropy")
        made.build((6, 9, 2))
        return made

    planned, by_hand = model(), model()
    planned.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    for _ in steps_layer_by_layer(by_hand, x, y, batch_size=8):
        pass
    assert planned.fingerprint() == by_hand.fingerprint()
    dy = normal((20, 4, 11, 2), "float32", 1)
    first, *others = at_every_thread_count(lambda: build(layers.Resizing(4, 11, "bilinear", True), (6, 9, 2)), x, dy)
    for other in others:
        for name, value in first.items():
            assert_same_bits(value, other[name])


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: layers.Resizing(0, 3), ValueError, r"Resizing: height must be a whole number in \[1, 32768\]; got 0"),
    (lambda: layers.Resizing(3, 2.0), TypeError, "Resizing: width must be a whole number in"),
    (lambda: layers.Resizing(3, True), TypeError, "Resizing: width must be a whole number in"),
    (lambda: layers.Resizing(3, 3, "bicubic"), ValueError, "Resizing: interpolation must be one of"),
    (lambda: layers.Resizing(3, 3, "bilinaer"), ValueError, r"Resizing: .*\. Did you mean 'bilinear'\?"),
    (lambda: layers.Resizing(3, 3, crop_to_aspect_ratio=1), TypeError, "Resizing: crop_to_aspect_ratio must be True"),
    (lambda: layers.Resizing(3, 3, antialias=True), TypeError, "Resizing: the keywords are .*; got `antialias`"),
    (lambda: build(layers.Resizing(3, 3), (4, 4)), ValueError, "Resizing: one sample must have an image"),
    (lambda: build(layers.Resizing(2**15, 2**15), (4, 4, 3)), ValueError, "Resizing: an image of the output must"),
])  # fmt: skip
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()
