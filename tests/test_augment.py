"""The layers that augment images: against their twins, against Keras's documented semantics, in plans and files."""

import math

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from running import (
    at_every_thread_count,
    batches,
    build,
    dtypes,
    inputs,
    layouts,
    normal,
    run,
    steps_layer_by_layer,
    use_threads,
)

import minicnn as mc
from minicnn import layers, saving
from minicnn._ext.machinery.random import philox4x32
from minicnn.layers.random import new_lot
from minicnn.montecarlo import Sampler
from minicnn.testing import gradcheck

SEED, NUMBER = 2**33 + 7, 5
KINDS = {  # a layer of every kind, of images in [0, 1]
    "flip": lambda: layers.RandomFlip(),
    "translation": lambda: layers.RandomTranslation(0.3, (-0.1, 0.4)),
    "rotation": lambda: layers.RandomRotation(0.3),
    "zoom": lambda: layers.RandomZoom(0.4, (-0.5, 0.1)),
    "crop": lambda: layers.RandomCrop(5, 4),
    "contrast": lambda: layers.RandomContrast(0.5, (0, 1)),
    "brightness": lambda: layers.RandomBrightness(0.4, (0, 1)),
    "erasing": lambda: layers.RandomErasing(0.7, value_range=(0, 1)),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
FILLS, WAYS = ("reflect", "wrap", "constant", "nearest"), ("bilinear", "nearest")


def placed(layer, shape=None):
    layer.stream = SEED, NUMBER
    return layer if shape is None else build(layer, shape)


def images(shape, dtype="float32", seed=0):
    return np.random.default_rng([seed, 3]).random(shape).astype(dtype)


def numbers(n, step=0, purpose=0):
    return [reference.image_numbers(SEED, NUMBER, step, index, purpose) for index in range(n)]


def only(layer, image):
    """What a training forward makes of one image (H, W)."""
    layer.dtype = "float64"
    x = np.array(image, float)[None, ..., None]
    return build(layer, x.shape[1:]).forward(x, training=True)[0, ..., 0].tolist()


# ---- against the twins ----

small = st.integers(1, 9)
few_channels = st.sampled_from([1, 2, 3, 4, 5])
bounds = st.one_of(st.floats(0, 1), st.tuples(st.floats(-1, 1), st.floats(-1, 1)))


def spread(value):
    return tuple(sorted(value)) if isinstance(value, tuple) else (-value, value)


def test_the_numbers_of_an_image_are_philoxs():
    block = philox4x32((6, 0, 4, NUMBER * 16), (SEED & 0xFFFFFFFF, SEED >> 32))
    assert reference.image_numbers(SEED, NUMBER, 4, 3)[:4] == [word / 2**32 for word in block]
    layer = placed(layers.RandomBrightness((0, 1), None), (1, 1, 1))
    for _ in range(5):
        layer.forward(np.zeros((4, 1, 1, 1)), training=True)
    assert layer.last_factors[3] == block[0] / 2**32


@st.composite
def motions(draw):
    """(layer, its twin's map of the numbers of an image, (h, w), how it is filled)."""
    h, w = size = draw(small), draw(small)
    filling = {"fill_mode": draw(st.sampled_from(FILLS)), "interpolation": draw(st.sampled_from(WAYS))}
    first, second, filled = draw(bounds), draw(bounds), filling | {"fill_value": draw(st.sampled_from([0.0, -1.5]))}
    kind = draw(st.sampled_from(["flip", "translation", "rotation", "zoom", "crop"]))
    if kind == "flip":
        mode = draw(st.sampled_from(["horizontal", "vertical", "horizontal_and_vertical"]))
        axes = mode != "vertical", mode != "horizontal"
        return layers.RandomFlip(mode), lambda u: reference.flip_map(u, h, w, *axes), size, {}
    if kind == "crop":
        new = draw(st.integers(1, h)), draw(st.integers(1, w))
        return layers.RandomCrop(*new), lambda u: reference.crop_map(u, h, w, *new), size, {}
    if kind == "translation":
        layer = layers.RandomTranslation(first, second, **filled)
        return layer, lambda u: reference.translation_map(u, h, w, spread(first), spread(second)), size, filled
    if kind == "rotation":
        layer = layers.RandomRotation(first, **filled)
        return layer, lambda u: reference.rotation_map(u, h, w, spread(first)), size, filled
    second = draw(st.sampled_from([None, second]))
    width = None if second is None else spread(second)
    return (
        layers.RandomZoom(first, second, **filled),
        lambda u: reference.zoom_map(u, h, w, spread(first), width),
        size,
        filled,
    )


@given(motions(), batches, few_channels, dtypes, layouts)
def test_motions(motion, n, c, dtype, layout):
    layer, twin, size, filled = motion
    layer.dtype = dtype
    build(placed(layer), (*size, c))
    x, dy = inputs(layer, n, dtype)
    for step in range(2):
        got, maps = run(layer, x, dy, layout), [twin(u) for u in numbers(n, step)]
        y = reference.moved(x, maps, layer.output_shape[:2], **filled)
        assert_close(got["y"], y, tolerance(dtype), dtype, scale=10)
        back = {word: filled[word] for word in ("fill_mode", "interpolation") if word in filled}
        dx = reference.moved_grad(dy, maps, size, **back)
        assert_close(got["dx"], dx, tolerance(dtype, math.prod(size)), dtype, scale=10 * math.prod(size))
        assert_close(layer.last_maps, np.reshape(maps, (n, 2, 3)), 1e-13, "float64", scale=50)
    assert layer.state == {"step": 2}
    if type(layer) is not layers.RandomCrop:
        assert_same_bits(layer.forward(x), x)


limits = st.sampled_from([None, (-0.5, 0.75), (-5.0, 5.0)])


def cut(limits):
    return (-np.inf, np.inf) if limits is None else limits


@pytest.mark.filterwarnings("ignore:Random")  # one pixel tells little of a range
@given(small, small, few_channels, batches, st.floats(0, 1), st.floats(0, 3), limits, dtypes, layouts)
def test_contrast(h, w, c, n, below, above, limits, dtype, layout):
    layer = placed(layers.RandomContrast((below, above), limits, dtype=dtype), (h, w, c))
    x, dy = np.clip(images((n, h, w, c), dtype), *cut(limits)), normal((n, h, w, c), dtype)
    for step in range(2):
        got, factors = run(layer, x, dy, layout), [1 - below + (below + above) * u[0] for u in numbers(n, step)]
        assert_close(got["y"], reference.contrast(x, factors, *cut(limits)), tolerance(dtype, 9), dtype, scale=10)
        z = reference.contrast(x, factors)
        clear = all((abs(z - limit) > 1e-5).all() for limit in cut(limits))  # on the edge both are right
        if clear:
            dx = reference.contrast_grad(x, factors, dy, *cut(limits))
            assert_close(got["dx"], dx, tolerance(dtype, h * w), dtype, scale=40)
        assert_close(layer.last_factors, np.array(factors, "f8").reshape(n), 1e-14, scale=4)


@pytest.mark.filterwarnings("ignore:Random")  # one pixel tells little of a range
@given(small, small, few_channels, batches, bounds, limits, dtypes, layouts)
def test_brightness(h, w, c, n, factor, limits, dtype, layout):
    layer = placed(layers.RandomBrightness(factor, limits, dtype=dtype), (h, w, c))
    x, dy = np.clip(images((n, h, w, c), dtype), *cut(limits)), normal((n, h, w, c), dtype)
    low, high = spread(factor)
    for step in range(2):
        got, factors = run(layer, x, dy, layout), np.array([low + (high - low) * u[0] for u in numbers(n, step)], "f8")
        shifts = factors * (1 if limits is None else limits[1] - limits[0])
        assert_close(got["y"], reference.brightness(x, shifts, *cut(limits)), tolerance(dtype), dtype, scale=10)
        z = reference.brightness(x, shifts)
        if all((abs(z - limit) > 1e-5).all() for limit in cut(limits)):
            assert_close(got["dx"], reference.brightness_grad(x, shifts, dy, *cut(limits)), 0, dtype)
        assert_close(layer.last_factors, factors.reshape(n), 1e-14, scale=2)


shares = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda pair: tuple(sorted(pair)))


@pytest.mark.filterwarnings("ignore:Random")  # one pixel tells little of a range
@given(small, small, few_channels, batches, st.one_of(st.floats(0, 1), shares), shares, st.booleans(), limits, dtypes)
def test_erasing(h, w, c, n, factor, scale, noise, limits, dtype):
    fill = None if noise else tuple(np.linspace(-0.5, 0.75, c).tolist())
    layer = placed(layers.RandomErasing(factor, scale, fill, limits, ratio=(0.4, 3), dtype=dtype), (h, w, c))
    x, dy = np.clip(images((n, h, w, c), dtype), *cut(limits)), normal((n, h, w, c), dtype)
    chances = tuple(sorted(factor)) if isinstance(factor, tuple) else (factor, factor)
    for step in range(2):
        got = run(layer, x, dy)
        boxes = [reference.erased_box(u, h, w, chances, scale, (0.4, 3)) for u in numbers(n, step)]
        if noise:
            z = reference.gaussian_factors(SEED, NUMBER, step, x.shape, 1.0, purpose=8) - 1
            fill = np.clip(z * (1 if limits is None else limits[1]), *cut(limits))
        assert layer.last_boxes.tolist() == [list(box) for box in boxes]
        assert_close(got["y"], reference.erased(x, boxes, fill), 4e-6, dtype, scale=5)
        assert_same_bits(got["dx"], reference.erased(dy, boxes, 0.0).astype(dtype))
        kept = reference.erased(np.ones_like(x), boxes, 0.0) == 1
        assert_same_bits(got["y"][kept], x[kept])


# ---- Keras's documented semantics, point by point (docs/augmentation.md) ----

ROW = [[1, 2, 3, 4]]
PICTURE = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_flips():
    x = np.arange(9.0).reshape(1, 3, 3, 1).repeat(400, axis=0)
    for mode, ways in (("horizontal", [(1, -1)]), ("vertical", [(-1, 1)]), (None, [(1, -1), (-1, 1), (-1, -1)])):
        layer = placed(layers.RandomFlip(mode) if mode else layers.RandomFlip(), (3, 3, 1))
        y = layer.forward(x, training=True)
        found = [(y == x[:, ::i, ::j]).all((1, 2, 3)) for i, j in [(1, 1), *ways]]
        assert sum(found).tolist() == [1] * 400
        for one in found:
            assert abs(one.mean() - 1 / len(found)) < 5 * math.sqrt(0.25 / 400)


def test_translation_is_positive_down_and_to_the_right():
    down = layers.RandomTranslation((1 / 3, 1 / 3), (0, 0), "constant", fill_value=9)
    assert only(down, PICTURE) == [[9, 9, 9], [1, 2, 3], [4, 5, 6]]
    right = layers.RandomTranslation((0, 0), (1 / 3, 1 / 3), "constant")
    assert only(right, PICTURE) == [[0, 1, 2], [0, 4, 5], [0, 7, 8]]
    up_and_left = layers.RandomTranslation((-1 / 3, -1 / 3), (-2 / 3, -2 / 3), "constant")
    assert only(up_and_left, PICTURE) == [[6, 0, 0], [9, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(("fill_mode", "row"), [
    ("reflect", [4, 3, 2, 1, 1, 2, 3, 4]), ("wrap", [5, 6, 7, 8, 1, 2, 3, 4]), ("constant", [0.5] * 4 + [1, 2, 3, 4]),
    ("nearest", [1, 1, 1, 1, 1, 2, 3, 4]),
])  # fmt: skip
def test_fill_modes(fill_mode, row):
    layer = layers.RandomTranslation(0, (0.5, 0.5), fill_mode, fill_value=0.5)
    assert only(layer, [[1, 2, 3, 4, 5, 6, 7, 8]]) == [row]


def test_between_pixels():
    assert only(layers.RandomTranslation(0, (0.125, 0.125), "nearest"), ROW) == [[1, 1.5, 2.5, 3.5]]
    assert only(layers.RandomTranslation(0, (0.1, 0.1), "nearest", "nearest"), ROW) == [[1, 2, 3, 4]]
    assert only(layers.RandomTranslation(0, (0.15, 0.15), "nearest", "nearest"), ROW) == [[1, 1, 2, 3]]
    assert only(layers.RandomTranslation(0, (0.125, 0.125), "constant"), ROW) == [[0.5, 1.5, 2.5, 3.5]]


def test_rotation_is_in_turns_and_positive_against_the_clock():
    assert only(layers.RandomRotation((0.25, 0.25)), PICTURE) == np.rot90(PICTURE).tolist()
    assert only(layers.RandomRotation((-0.25, -0.25)), PICTURE) == np.rot90(PICTURE, -1).tolist()
    assert only(layers.RandomRotation((0.5, 0.5)), ROW) == [[4, 3, 2, 1]]
    assert only(layers.RandomRotation((1, 1)), PICTURE) == PICTURE
    assert only(layers.RandomRotation((0.25, 0.25), "constant", fill_value=7), [[1, 2, 3]]) == [[7, 2, 7]]


def test_a_positive_zoom_is_out():
    out = layers.RandomZoom((1, 1), (1, 1), "constant")
    assert only(out, [[1, 2, 3, 4, 5]]) == [[0, 1, 3, 5, 0]]
    assert only(layers.RandomZoom((-0.5, -0.5)), [[1, 2, 3, 4, 5]]) == [[2, 2.5, 3, 3.5, 4]]
    height = layers.RandomZoom((1, 1), (0, 0), "constant")
    assert only(height, [[1, 2], [3, 4], [5, 6]]) == [[0, 0], [3, 4], [0, 0]]
    assert only(layers.RandomZoom((-1, -1)), PICTURE) == [[5] * 3] * 3


def test_zoom_of_one_factor_keeps_the_aspect_ratio():
    layer = placed(layers.RandomZoom(0.4), (6, 9, 1))
    layer.forward(np.zeros((50, 6, 9, 1)), training=True)
    maps = layer.last_maps
    assert_same_bits(maps[:, 0, 0].copy(), maps[:, 1, 1].copy())
    assert np.ptp(maps[:, 0, 0]) > 0.5
    layer.width_factor = 0.4
    layer.forward(np.zeros((50, 6, 9, 1)), training=True)
    assert (layer.last_maps[:, 0, 0] != layer.last_maps[:, 1, 1]).all()


def test_bounds_come_in_any_order():
    one, other = (placed(layers.RandomZoom(pair), (4, 4, 1)) for pair in ((-0.3, -0.2), (-0.2, -0.3)))
    x = images((9, 4, 4, 1))
    assert_same_bits(one.forward(x, training=True), other.forward(x, training=True))
    assert ((one.last_maps[:, 0, 0] >= 0.7) & (one.last_maps[:, 0, 0] <= 0.8)).all()


def test_a_crop_is_everywhere_in_training_and_in_the_middle_in_evaluation():
    x = np.arange(20.0).reshape(1, 4, 5, 1).repeat(600, axis=0)
    layer = placed(layers.RandomCrop(2, 4), (4, 5, 1))
    y = layer.forward(x, training=True)
    places, counts = np.unique(y[:, 0, 0, 0], return_counts=True)
    assert places.tolist() == [0, 1, 5, 6, 10, 11]
    assert np.abs(counts - 100).max() < 5 * math.sqrt(600 * 1 / 6 * 5 / 6)
    assert (y - y[:, :1, :1] == [[[0], [1], [2], [3]], [[5], [6], [7], [8]]]).all()
    assert layer.forward(x[:1])[0, :, :, 0].tolist() == [[5, 6, 7, 8], [10, 11, 12, 13]]
    assert placed(layers.RandomCrop(4, 5), (4, 5, 1)).forward(x, training=True).tolist() == x.tolist()


def test_contrast_keeps_the_mean_of_every_channel_and_is_clipped():
    x = images((1, 6, 6, 3)) * [1, 50, 200]
    layer = build(layers.RandomContrast((1, 0), None), (6, 6, 3))
    y = layer.forward(x, training=True)
    assert_close(y.mean((1, 2)), x.mean((1, 2)), 1e-6)
    assert_close(y.std((1, 2)), x.std((1, 2)) * layer.last_factors, 1e-5)
    assert 0 <= layer.last_factors[0] < 1
    assert only(layers.RandomContrast((0, 100), (0, 10)), [[1, 9]]) == [[0, 10]]


def test_brightness_is_in_parts_of_the_range():
    assert only(layers.RandomBrightness((0.1, 0.1)), [[0, 100, 250]]) == [[25.5, 125.5, 255]]
    assert only(layers.RandomBrightness((-1, -1)), [[0, 100, 250]]) == [[0, 0, 0]]
    assert only(layers.RandomBrightness((1, 1)), [[0, 100, 250]]) == [[255] * 3]
    assert only(layers.RandomBrightness((-0.25, -0.25), (-1, 1)), [[-1, 0, 1]]) == [[-1, -0.5, 0.5]]
    assert only(layers.RandomBrightness((0.5, 0.5), None), [[0, 100, 250]]) == [[0.5, 100.5, 250.5]]


def test_rectangles_have_the_probability_the_area_and_the_ratio():
    layer = placed(layers.RandomErasing(0.5, (0.1, 0.2), 0.0, None, ratio=(0.5, 2)), (60, 80, 1))
    layer.forward(np.zeros((500, 60, 80, 1), "f"), training=True)
    top, left, height, width = layer.last_boxes.T
    have = height > 0
    assert abs(have.mean() - 0.5) < 5 * math.sqrt(0.25 / 500)
    share, ratio = (height * width / 4800)[have], (height / np.maximum(width, 1))[have]
    assert 0.095 < share.min() < 0.11 < 0.19 < share.max() < 0.205
    assert 0.48 < ratio.min() < 0.6 < 1.8 < ratio.max() < 2.08
    assert abs(np.log(ratio).mean()) < 5 * math.log(2) / math.sqrt(3 * have.sum())
    assert (top + height).max() <= 60
    assert (left + width).max() <= 80
    assert min(top[have].min(), left[have].min()) < 4
    for probability, count in ((0.0, 0), (1.0, 500)):
        layer.factor = probability
        layer.forward(np.zeros((500, 60, 80, 1), "f"), training=True)
        assert (layer.last_boxes[:, 2] > 0).sum() == count


# ---- bits ----


def test_whole_pixels_are_copied_and_neighbours_not_looked_at():
    x = normal((1, 5, 6, 3), "float32")
    x[0, 0, :5] = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-42], "f")[:, None]
    layer = build(layers.RandomTranslation((0.2, 0.2), (-1 / 6, -1 / 6), "wrap"), (5, 6, 3))
    assert_same_bits(layer.forward(x, training=True), np.roll(x, (1, -1), (1, 2)))
    back = build(layers.RandomRotation((0.5, 0.5)), (5, 6, 3))
    assert_same_bits(back.forward(x, training=True), np.ascontiguousarray(x[:, ::-1, ::-1]))
    half = build(layers.RandomTranslation((0, 0), (-1 / 12, -1 / 12), "wrap"), (5, 6, 3)).forward(x, training=True)
    assert np.isfinite(half[0, 1:]).all()


@every_kind
def test_every_thread_count(kind):
    make = lambda: placed(KINDS[kind](), (9, 7, 3))  # noqa: E731
    x, dy = images((37, 9, 7, 3)), normal((37, *make().output_shape), "float32")
    first, *others = at_every_thread_count(make, x, dy)
    assert (first["y"] != make().forward(x)).any()
    for other in others:
        assert_same_bits(first["y"], other["y"])
        assert_same_bits(first["dx"], other["dx"])


@every_kind
def test_any_split_of_the_data(kind):
    """What ``augmented`` draws for a lot is a function of sample and place in the data alone, and not training's."""
    layer, x, lot = placed(KINDS[kind](), (6, 7, 3)), images((7, 6, 7, 3)), new_lot()
    training = layer.forward(x, training=True)
    found = []
    for number in range(3):
        layer.settle_sample(lot, None, number, 0, 7)
        found.append(layer.augmented(x, lot))
    layer.settle_sample(lot, None, 0, 0, 7)
    assert_same_bits(layer.augmented(np.concatenate([x] * 3), lot), np.concatenate(found))
    assert_same_bits(placed(KINDS[kind](), (6, 7, 3)).augmented(x, lot), found[0])  # one that was never trained
    for first, n in ((0, 3), (3, 4)):
        layer.settle_sample(lot, None, 1, first, n)
        assert_same_bits(layer.augmented(x[first : first + n], lot), found[1][first : first + n])
    for i, one in enumerate([training, *found]):
        for other in [training, *found][:i]:
            assert (one != other).any()
    assert layer.state == {"step": 1}
    assert layer.augmented(x[:0], lot).shape == (0, *layer.output_shape)
    layer.backward(np.ones_like(training))  # what it kept is there


@every_kind
def test_freezing_and_counting_on(kind):
    layer, free, late = (placed(KINDS[kind](), (6, 7, 3)) for _ in range(3))
    x = images((8, 6, 7, 3))
    wanted = [free.forward(x, training=True) for _ in range(3)]
    assert (wanted[0] != wanted[1]).any()
    layer.freeze_mask()
    for _ in range(2):
        assert_same_bits(layer.forward(x, training=True), wanted[0])
    assert layer.state == {"step": 1}
    layer.unfreeze_mask()
    assert_same_bits(layer.forward(x, training=True), wanted[1])
    late.state["step"] = 2
    assert_same_bits(late.forward(x, training=True), wanted[2])


def test_images_layers_steps_and_seeds_differ():
    found = []
    for seed, number in ((1, 0), (1, 1), (2, 0), (2**40, 0)):
        layer = layers.RandomBrightness(0.5, None)
        layer.stream = seed, number
        build(layer, (1, 1, 1))
        for _ in range(2):
            layer.forward(np.zeros((300, 1, 1, 1)), training=True)
            found.append(layer.last_factors)
    for i, one in enumerate(found):
        assert len(np.unique(one)) == 300
        assert abs(one.mean()) < 5 * math.sqrt(1 / 12 / 300)
        for other in found[:i]:
            assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(300)


# ---- gradients ----


@pytest.mark.parametrize("make", [
    *KINDS.values(), lambda: layers.RandomContrast((0.2, 2.0), (0.2, 0.8)),
    lambda: layers.RandomBrightness(0.5, (0.2, 0.8)), lambda: layers.RandomRotation(1.0, "constant", fill_value=3.0),
    lambda: layers.RandomZoom(0.5, None, "wrap"), lambda: layers.RandomTranslation(0.5, 0.5, "nearest"),
])  # fmt: skip
def test_gradients(make):
    layer = build(make(), (6, 7, 2))
    if isinstance(layer, layers.RandomContrast | layers.RandomBrightness):
        x = np.clip(images((3, 6, 7, 2), "float64"), 0.2, 0.8) * 0.99 + 0.005
    else:
        x = images((3, 6, 7, 2), "float64")
    assert gradcheck(layer, x)


def test_gradients_through_a_model():
    model = mc.Sequential([
        layers.Conv2D(3, 3, activation="tanh"), layers.RandomRotation(0.2), layers.RandomFlip(),
        layers.RandomContrast(0.5, (-1, 1)), layers.RandomErasing(fill_value=0.25, value_range=None),
        layers.RandomCrop(4, 4), layers.Flatten(), layers.Dense(2),
    ], seed=1)  # fmt: skip
    assert gradcheck(model, images((3, 8, 8, 1)) - 0.5)


# ---- in models ----


def chain(*first):
    """A model that begins with a layer of every kind, or with others."""
    first = first or [make() for make in KINDS.values()]
    model = mc.Sequential([*first, layers.Flatten(), layers.Dropout(0.2), layers.Dense(3)], seed=4)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.build((6, 7, 2))
    return model


X, Y = images((40, 6, 7, 2)), np.arange(40) % 3


def test_evaluation_and_predictions_see_no_augmentation():
    """As if there were seven layers that do nothing, and a cut out of the middle."""
    model = chain()
    model.fit(X, Y, epochs=1, verbose=0)
    nothing = [layers.Reshape((5, 4, 2)) for _ in range(len(KINDS) - 1)]
    plain = chain(layers.Cropping2D(((0, 1), (1, 2))), *nothing)
    plain.set_weights(model.get_weights())
    counters = [layer.state.get("step") for layer in model.layers]
    assert_same_bits(model.predict(X), plain.predict(X))
    assert model.evaluate(X, Y) == plain.evaluate(X, Y)
    found, want = (one.predict_mc(X, n_samples=3, seed=2, return_samples=True).samples for one in (model, plain))
    assert_same_bits(found, want)
    assert (found[0] != found[1]).any()
    assert [layer.state.get("step") for layer in model.layers] == counters


def test_monte_carlo_takes_no_augmentation_for_noise():
    """What stands before the first noise is computed once: behind the augmentation as well."""
    model = chain()
    assert Sampler(model.engine).cut == len(KINDS) + 1
    quiet = mc.Sequential([layers.RandomFlip(), layers.Flatten(), layers.Dense(3)], seed=1)
    quiet.build((6, 7, 2))
    with pytest.warns(UserWarning, match="all 3 samples are equal"):
        samples = quiet.predict_mc(X, n_samples=3, return_samples=True).samples
    assert_same_bits(samples[0], quiet.predict(X))


def test_plans_follow_settings_and_resumed_runs_their_counters(tmp_path):
    planned, by_hand, pieces = chain(), chain(), chain()
    for change in range(3):
        for model in (planned, by_hand, pieces):
            model.layers[0].mode = ("horizontal", "vertical", "horizontal_and_vertical")[change]
            model.layers[2].factor = (0.1, (0.2, 0.3), 0)[change]
            model.layers[3].fill_mode = FILLS[change]
            model.layers[5].value_range = ((0, 1), None, (0.1, 0.9))[change]
            model.layers[7].fill_value = (None, 0.25, (0.1, 0.2))[change]
        planned.fit(X, Y, batch_size=16, epochs=1, shuffle=False, verbose=0)
        for _ in steps_layer_by_layer(by_hand, X, Y, batch_size=16):
            pass
        pieces.fit(X, Y, batch_size=16, epochs=1, shuffle=False, verbose=0)
        saving.save_checkpoint(pieces, tmp_path / "run.npz", change, {})
        pieces, _, _ = saving.load_checkpoint(tmp_path / "run.npz")
    assert planned.fingerprint() == by_hand.fingerprint() == pieces.fingerprint()
    assert planned.layers[3].state["step"] == 9


@pytest.mark.parametrize("simd", [1, 2])
def test_the_same_bits_with_other_threads_in_a_plan(simd):
    found = []
    for threads in (1, simd):
        use_threads(threads)
        model = chain()
        model.fit(X, Y, batch_size=16, epochs=1, verbose=0)
        found.append(model.fingerprint())
    assert found[0] == found[1]


# ---- the range of the data ----

RANGED = {
    "contrast": lambda *more: layers.RandomContrast(0.3, *more),
    "brightness": lambda *more: layers.RandomBrightness(0.3, *more),
    "erasing": lambda *more: layers.RandomErasing(1.0, (0.1, 0.3), None, *more),
}
ranged = pytest.mark.parametrize("kind", RANGED)
WARNING = r"^Random\w+: value_range is \(.*\), but the first image has numbers from .*\. Say the range of the data"


@ranged
@pytest.mark.parametrize(
    ("scale", "shift", "value_range"), [(1, 0, (0, 255)), (2, -1, (0, 255)), (255, 0, (0, 1)), (6, -3, (0, 255))]
)
def test_a_wrong_range_is_said_once(kind, scale, shift, value_range):
    layer, x = build(RANGED[kind](value_range), (6, 7, 2)), scale * X + shift
    with pytest.warns(UserWarning, match=WARNING):
        layer.forward(x, training=True)
    layer.forward(x, training=True)


@ranged
def test_a_right_range_is_no_matter(kind, recwarn):
    for scale, shift, value_range in (
        (1, 0, (0, 1)),
        (255, 0, (0, 255)),
        (2, -1, (-1, 1)),
        (30, 0, None),
        (0.5, 0, (0, 1)),
    ):
        layer = build(RANGED[kind](value_range), (6, 7, 2))
        for x in (np.zeros_like(X), scale * X + shift, scale * X + shift):
            layer.forward(x, training=True)
    assert not recwarn


@ranged
def test_an_image_of_one_colour_says_nothing_of_the_range(kind, recwarn):
    layer = build(RANGED[kind](), (6, 7, 2))
    layer.forward(np.zeros_like(X), training=True)
    assert not recwarn
    with pytest.warns(UserWarning, match=WARNING):
        layer.forward(X, training=True)


@ranged
def test_a_wrong_range_is_said_in_a_plan(kind):
    model = mc.Sequential([layers.Rescaling(1 / 255), RANGED[kind](), layers.Flatten(), layers.Dense(3)], seed=4)
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.warns(UserWarning, match=WARNING):
        model.fit(255 * X, Y, batch_size=16, epochs=1, verbose=0)


# ---- arguments ----

L = layers


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: L.RandomFlip("both"), ValueError, "RandomFlip: mode must be one of 'horizontal_and_vertical', "),
    (lambda: L.RandomFlip(True), TypeError, "RandomFlip: mode must be one of"),
    (lambda: L.RandomFlip(seed=-1), ValueError, "RandomFlip: seed must be"),
    (lambda: L.RandomTranslation(1.1, 0), ValueError, r"RandomTranslation: height_factor must be a number in \[-1, "),
    (lambda: L.RandomTranslation(0, (0, 2)), ValueError, "RandomTranslation: a bound of width_factor must be"),
    (lambda: L.RandomTranslation(0, None), TypeError, "RandomTranslation: width_factor must be a number"),
    (lambda: L.RandomTranslation(0, 0, "mirror"), ValueError, "RandomTranslation: fill_mode must be one of 'reflect'"),
    (lambda: L.RandomTranslation(0, 0, "wrap", "cubic"), ValueError, "RandomTranslation: interpolation must be"),
    (lambda: L.RandomTranslation(0, 0, fill_value=math.inf), ValueError, "RandomTranslation: fill_value must be"),
    (lambda: L.RandomRotation(math.nan), ValueError, "RandomRotation: factor must be a number"),
    (lambda: L.RandomRotation(True), TypeError, "RandomRotation: factor must be a number"),
    (lambda: L.RandomRotation("0.1"), TypeError, "RandomRotation: factor must be a number"),
    (lambda: L.RandomRotation((0.1,)), ValueError, "RandomRotation: factor must be a number or a pair"),
    (lambda: L.RandomRotation((0.1, None)), TypeError, "RandomRotation: a bound of factor must be"),
    (lambda: L.RandomZoom(-2), ValueError, "RandomZoom: height_factor must be"),
    (lambda: L.RandomZoom(0, "0"), TypeError, "RandomZoom: width_factor must be"),
    (lambda: L.RandomCrop(0, 1), ValueError, "RandomCrop: height must be a whole number in"),
    (lambda: L.RandomCrop(1, 1.5), TypeError, "RandomCrop: width must be a whole number in"),
    (lambda: build(L.RandomCrop(4, 9), (4, 8, 1)), ValueError, r"RandomCrop: images must have at least 4 x 9 pixels; "
     r"got \(4, 8, 1\)"),
    (lambda: L.RandomContrast(1.5), ValueError, r"RandomContrast: factor must be a number in \[0, 1\]"),
    (lambda: L.RandomContrast((1.5, 1)), ValueError, "RandomContrast: the first number of factor must be"),
    (lambda: L.RandomContrast((0.5, -1)), ValueError, "RandomContrast: a bound of factor must be"),
    (lambda: L.RandomContrast(0.5, (1, 0)), ValueError, "RandomContrast: value_range must be two numbers, the lower"),
    (lambda: L.RandomContrast(0.5, 255), TypeError, "RandomContrast: value_range must be two numbers"),
    (lambda: L.RandomBrightness(0.5, (0, 1, 2)), ValueError, "RandomBrightness: value_range must be two numbers"),
    (lambda: L.RandomBrightness(0.5, (0, math.inf)), ValueError, "RandomBrightness: a number of value_range must be"),
    (lambda: L.RandomBrightness(-1.5), ValueError, "RandomBrightness: factor must be"),
    (lambda: L.RandomErasing(-0.5), ValueError, "RandomErasing: factor must be"),
    (lambda: L.RandomErasing(1.0, 0.5), TypeError, "RandomErasing: scale must be two numbers"),
    (lambda: L.RandomErasing(1.0, (0.5, 0.2)), ValueError, "RandomErasing: scale must be two numbers, the lower one"),
    (lambda: L.RandomErasing(1.0, (0.5, 1.2)), ValueError, "RandomErasing: a number of scale must be"),
    (lambda: L.RandomErasing(fill_value=300), ValueError, r"RandomErasing: fill_value must lie in value_range, \(0"),
    (lambda: L.RandomErasing(fill_value="random"), TypeError, "RandomErasing: fill_value must be a number"),
    (lambda: L.RandomErasing(fill_value=()), ValueError, "RandomErasing: fill_value must have a number for every"),
    (lambda: L.RandomErasing(ratio=(0, 2)), ValueError, "RandomErasing: a number of ratio must be a number > 0"),
    (lambda: build(L.RandomErasing(fill_value=(1, 2)), (4, 4, 3)), ValueError, "RandomErasing: fill_value must have a "
     "number for every channel, 3"),
    (lambda: build(L.RandomFlip(), (4, 4)), ValueError, "RandomFlip: one sample must have an image"),
])  # fmt: skip
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()


def test_settings_that_must_agree_stay_as_they_were():
    layer = build(layers.RandomErasing(fill_value=(1, 2, 200)), (4, 4, 3))
    for name, value in (("value_range", (0, 1)), ("fill_value", 300), ("fill_value", (1, 2))):
        before = layer.get_config()
        with pytest.raises(ValueError, match="RandomErasing: fill_value must "):
            setattr(layer, name, value)
        assert layer.get_config() == before
    layer.fill_value = 7
    y = layer.forward(np.full((5, 4, 4, 3), 100.0), training=True)
    assert set(np.unique(y)) == {7, 100}


@pytest.mark.parametrize(("kind", "what"), [
    ("flip", "last_maps"), ("crop", "last_maps"), ("contrast", "last_factors"), ("erasing", "last_boxes"),
])  # fmt: skip
def test_what_was_drawn_needs_a_training_forward(kind, what):
    layer = build(KINDS[kind](), (6, 7, 3))
    layer.forward(images((2, 6, 7, 3)))
    with pytest.raises(RuntimeError, match=rf"{what}: needs forward\(x, training=True\) before it"):
        getattr(layer, what)


# ---- test-time augmentation ----


def network(*first, seed=SEED):
    """What augments, then what has noise and statistics."""
    model = mc.Sequential([
        *first, layers.Conv2D(3, 3, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.5),
        layers.Flatten(), layers.Dense(3, activation="softmax"),
    ], seed=seed)  # fmt: skip
    model.build((6, 7, 2))
    return model


def mirrored(x, t, number):
    """Test-time sample t of RandomFlip("horizontal") as layer ``number``: purpose 1, and step t."""
    found = x.copy()
    for index in range(len(x)):
        if reference.image_numbers(SEED, number, t, index, 1)[0] < 0.5:
            found[index] = x[index, :, ::-1]
    return found


@pytest.mark.parametrize("own", [True, False])
def test_tta_is_the_mean_over_looks_at_augmented_images(own):
    flip = layers.RandomFlip("horizontal")
    model = network(flip) if own else network()
    found = model.predict_tta(X, 5, return_samples=True, augment=None if own else flip)
    for t in range(5):
        assert_close(found.samples[t], model.predict(mirrored(X, t, 0 if own else 5)), 1e-6)
    assert_close(found.mean, found.samples.mean(axis=0, dtype=np.float64), 1e-12)
    assert found.std.any()
    assert found.members == 5
    assert len(found) == len(found.classes) == len(X)
    assert flip.input_shape is None or own  # a layer that was lent is as it was
    assert (model.predict_tta(X, 5, seed=1, augment=None if own else flip).mean != found.mean).any()


def test_tta_changes_nothing_and_has_no_noise():
    model = network(layers.Residual([layers.RandomFlip("horizontal"), layers.Dropout(0.5)]))
    weights, states = model.fingerprint(), [dict(layer.state) for layer in model.layers[0].body]
    still = network(layers.Residual([layers.RandomFlip("horizontal"), layers.Dropout(0.0)]))
    found = [one.predict_tta(X, 3, return_samples=True).samples for one in (model, still)]
    assert_same_bits(found[0], found[1])
    assert (found[0][0] != found[0][1]).any()
    assert model.fingerprint() == weights
    assert [dict(layer.state) for layer in model.layers[0].body] == states == [{"step": 0}, {"step": 0}]
    assert_same_bits(model.predict(X), still.predict(X))


@pytest.mark.parametrize(
    "augment", [None, [make() for make in (KINDS["rotation"], KINDS["erasing"], KINDS["contrast"])]]
)
def test_tta_depends_on_neither_batches_nor_threads(augment):
    found = []
    for batch_size, threads in ((None, 1), (1, 1), (7, 2), (39, 3)):
        use_threads(threads)
        model = network(*[make() for name, make in KINDS.items() if name != "crop"])
        found.append(model.predict_tta(X, 9, 3, batch_size, True, augment).samples)
        assert_same_bits(found[-1], found[0])
        assert_same_bits(model.predict_tta(X[:3], 9, 3, batch_size, True, augment).samples, found[0][:, :3])


def test_tta_with_other_layers_leaves_the_models_own_out():
    """A border and a crop: the same as without what the model begins with."""
    crop = [layers.ZeroPadding2D(2), layers.RandomCrop(6, 7)]
    own, plain = network(layers.RandomErasing(value_range=(0, 1)), layers.RandomFlip()), network()
    plain.set_weights(own.get_weights())
    found = own.predict_tta(X, 4, return_samples=True, augment=crop).samples
    for t in range(4):
        moved = np.zeros_like(X)
        wide = np.pad(X, ((0, 0), (2, 2), (2, 2), (0, 0)))
        for index in range(len(X)):
            u = reference.image_numbers(SEED, 8, t, index, 1)  # own has layers 0 to 6, the border is 7
            top, left = int(u[0] * 5), int(u[1] * 5)
            moved[index] = wide[index, top : top + 6, left : left + 7]
        assert_close(found[t], plain.predict(moved), 1e-6)
    assert crop[1].input_shape is None
    assert own.predict_tta(X[:0], 4, augment=crop).mean.shape == (0, 3)


def test_tta_says_that_all_are_equal_and_that_the_range_is_wrong():
    with pytest.warns(
        UserWarning, match=r"^Sequential.predict_tta: all 3 samples are equal; do the augmentation layers"
    ):
        network().predict_tta(X, 3, augment=layers.RandomTranslation(0, 0))
    for n_samples in (2, 40):  # in one pass, and in several
        with pytest.warns(UserWarning, match=WARNING):
            network().predict_tta(2 * X, n_samples, augment=layers.RandomBrightness(0.3, (0, 1)))


class Holds(mc.Layer):
    def __init__(self):
        super().__init__()
        self.flip = layers.RandomFlip()

    def build(self, input_shape, rng):
        return self.flip.build(super().build(input_shape, rng), rng)

    def forward(self, x, training=False):
        return self.flip.forward(x, training)


OTHER_SHAPE = r"augment must keep the shape of the model's inputs, \(6, 7, 2\); got \(3, 3, 2\)"
HOW = r"the model must have a layer that augments images; got Conv2D, .*\. Say which to use: predict_tta\(x, augment="


def tta(augment):
    return lambda: network().predict_tta(X, augment=augment)


@pytest.mark.parametrize(("call", "error", "message"), [
    (tta(None), ValueError, HOW),
    (lambda: network(L.RandomFlip()).predict_tta(X, 0), ValueError, "n_samples must be a whole number >= 1; got 0"),
    (tta("flip"), TypeError, r"augment must be a layer or a list of layers; got 'flip' \(str\)"),
    (tta([L.RandomFlip]), TypeError, r"every entry must be a layer; got .*Did you mean RandomFlip\(\)\?"),
    (tta([]), ValueError, r"augment must hold a layer that augments images, such as layers.RandomFlip; got \[\]"),
    (tta(L.Rescaling(2)), ValueError, r"augment must hold a layer that augments images, .*; got Rescaling\(2.0\)"),
    (tta(L.RandomCrop(3, 3)), ValueError, OTHER_SHAPE),
    (tta([L.RandomFlip(), L.Dropout(0.5)]), ValueError, "augment must hold .*others without parameters and noise; got"),
    (tta(L.Conv2D(2, 3, padding="same")), ValueError, "augment must hold .* without parameters and noise; got Conv2D"),
    (lambda: network(Holds()).predict_tta(X), TypeError, r"a layer that holds one that augments, 0.flip, must say how"),
])  # fmt: skip
def test_wrong_arguments_of_tta(call, error, message):
    with pytest.raises(error, match=f"^Sequential.predict_tta:? ?(augment: )?{message}"):
        call()
