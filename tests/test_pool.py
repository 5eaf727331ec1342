"""The pooling layers against the reference."""

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from running import at_every_thread_count, batches, build, channels, dtypes, inputs, layouts, normal, run, sizes

from minicnn import layers
from minicnn._ext import pool as kernels
from minicnn.testing import gradcheck

POOLS = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}
GLOBAL = {"max": layers.GlobalMaxPooling2D, "average": layers.GlobalAveragePooling2D}
NONE = np.random.default_rng(0)


@st.composite
def pools(draw):
    """(pool_size, strides, padding) and the shape of an image that suits them."""
    image = draw(sizes), draw(sizes), draw(channels)
    padding = draw(st.sampled_from(["valid", "same", "given"]))
    size = tuple(draw(st.integers(1, 6 if padding == "same" else min(6, axis))) for axis in image[:2])
    strides = draw(st.none() | st.tuples(st.integers(1, 5), st.integers(1, 5)))
    if padding == "given":  # less than a window before the image, and after it so much that the last one sees a pixel
        padding = tuple((draw(st.integers(0, window - 1)), draw(st.integers(0, window - 1))) for window in size)
    return (size, strides, padding), image


def ties(x):
    """Few different values, so that the windows have several maxima."""
    return np.round(x)


@pytest.mark.parametrize("kind", ["max", "average"])
@given(pools(), batches, dtypes, layouts, st.booleans(), st.booleans())
def test_pool(kind, case, n, dtype, layout, tied, whole):
    """``whole``: of an average, count_include_pad."""
    arguments, image = case
    more = {"count_include_pad": whole} if kind == "average" else {}
    layer = build(POOLS[kind](*arguments, **more, dtype=dtype), image)
    x, dy = inputs(layer, n, dtype)
    x = ties(x) if tied else x
    got = run(layer, x, dy, layout)
    options = layer.pool_size, layer.strides, layer.padding, *more.values()
    forward, backward = getattr(reference, f"{kind}_pool2d"), getattr(reference, f"{kind}_pool2d_grad")
    area = layer.pool_size[0] * layer.pool_size[1]
    rtol = 0 if kind == "max" else tolerance(dtype, area)
    assert_close(got["y"], forward(x, *options), rtol, dtype, np.abs(x).max(initial=0))
    scale = backward(x, np.abs(dy), *options).max(initial=0)
    assert_close(got["dx"], backward(x, dy, *options), tolerance(dtype, area), dtype, scale)


def test_pools_against_torch():
    """MaxPool2d(3, 2, padding=1) is MaxPooling2D(3, 2, padding=1)."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = normal((2, 7, 10, 5), "float32")
    for size, strides, padding in [(3, 2, 1), ((3, 4), (1, 2), (1, 2)), (2, 3, 1), (5, 1, 2)]:
        ours_and_theirs = [
            (layers.MaxPooling2D(size, strides, padding), lambda x, *more: functional.max_pool2d(x, *more)),
            (layers.AveragePooling2D(size, strides, padding, True), lambda x, *more: functional.avg_pool2d(x, *more)),
            (layers.AveragePooling2D(size, strides, padding),
             lambda x, *more: functional.avg_pool2d(x, *more, count_include_pad=False)),
        ]  # fmt: skip
        for layer, theirs in ours_and_theirs:
            images = torch.from_numpy(x).requires_grad_()
            y = theirs(images.permute(0, 3, 1, 2), size, strides, padding).permute(0, 2, 3, 1)
            dy = normal(y.shape, "float32", 1)
            y.backward(torch.from_numpy(dy))
            got = run(build(layer, x.shape[1:]), x, dy)
            assert_close(got["y"], y.detach().numpy(), 1e-6)
            assert_close(got["dx"], images.grad.numpy(), 1e-6)


@pytest.mark.parametrize("kind", ["max", "average"])
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 6), st.integers(0, 9))
def test_a_window_that_sees_padding_alone_is_refused(kind, size, window, stride, before, after):
    """Exactly those windows, on both axes."""
    out = (before + size + after - window) // stride + 1
    sees = [set(range(i * stride, i * stride + window)) & set(range(before, before + size)) for i in range(out)]
    for axis in (0, 1):
        shape, pool, strides, padding = [4, 4, 1], [1, 1], [1, 1], [0, (0, 0)]
        shape[axis], pool[axis], strides[axis], padding[axis] = size, window, stride, (before, after)
        layer = POOLS[kind](pool, strides, padding)
        if out < 1:
            message = r"Pooling2D: an image with its padding \(\(.* must be at least as large as pool_size"
        elif all(sees):
            assert layer.build(shape, NONE)[axis] == out
            continue
        else:
            message = r"Pooling2D: every window \(.* must see a pixel of the image \(.*, not padding alone; got \(\("
        with pytest.raises(ValueError, match=message):
            layer.build(shape, NONE)


def test_ceil_mode_is_said_by_padding():
    message = "got `ceil_mode`. `padding` does it: .* makes room for the last windows$"
    for pool in POOLS.values():
        with pytest.raises(TypeError, match=message):
            pool(2, ceil_mode=True)
        assert build(pool(2, padding=((0, 1), (0, 1))), (5, 6, 1)).output_shape == (3, 3, 1)
    with pytest.raises(TypeError, match=r"got `ceil_mode`$"):
        layers.Dense(3, ceil_mode=True)


@pytest.mark.parametrize("kind", ["max", "average"])
@given(sizes, sizes, channels, batches, dtypes, layouts)
def test_global_pool(kind, h, w, c, n, dtype, layout):
    layer = build(GLOBAL[kind](dtype=dtype), (h, w, c))
    x, dy = inputs(layer, n, dtype)
    got = run(layer, x, dy, layout)
    rtol = 0 if kind == "max" else tolerance(dtype, h * w)
    want = getattr(reference, f"global_{kind}_pool2d")(x)
    assert_close(got["y"], want, rtol, dtype, np.abs(x).max(initial=0))
    want = getattr(reference, f"global_{kind}_pool2d_grad")(x, dy)
    assert_close(got["dx"], want, tolerance(dtype), dtype, np.abs(want).max(initial=0))


@pytest.mark.parametrize("layer", [
    layers.MaxPooling2D(2), layers.MaxPooling2D(3, 2, "same"), layers.AveragePooling2D((2, 3), 1),
    layers.AveragePooling2D(3, 2, "same"), layers.MaxPooling2D(3, 2, ((2, 1), (0, 2))),
    layers.AveragePooling2D(3, 2, 1, count_include_pad=True), layers.GlobalMaxPooling2D(),
    layers.GlobalAveragePooling2D(),
], ids=repr)  # fmt: skip
def test_gradient_by_finite_differences(layer):
    assert gradcheck(layer, normal((2, 5, 6, 3)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [
    lambda dtype: layers.MaxPooling2D(3, 2, "same", dtype=dtype), lambda dtype: layers.GlobalMaxPooling2D(dtype=dtype),
    lambda dtype: layers.AveragePooling2D(2, dtype=dtype), lambda dtype: layers.GlobalAveragePooling2D(dtype=dtype),
])  # fmt: skip
def test_same_bits_at_any_thread_count(make, dtype):
    shape = (30, 29, 20)
    layer = build(make(dtype), shape)
    first, *others = at_every_thread_count(lambda: build(make(dtype), shape), *inputs(layer, 11, dtype))
    for other in others:
        for name, array in first.items():
            assert_same_bits(array, other[name])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("c", [1, 5, 16, 70])
@pytest.mark.parametrize(("size", "strides"), [((17, 16), (1, 2)), ((17, 16), None), ((16, 16), (3, 1))])
@pytest.mark.parametrize("kind", ["max", "average"])
def test_windows_of_more_and_less_than_a_byte(kind, size, strides, c, dtype):
    """A maximum remembers one of 256 places in a byte, one of 272 in four."""
    layer = build(POOLS[kind](size, strides, "same", dtype=dtype), (20, 33, c))
    x, dy = inputs(layer, 2, dtype)
    got = run(layer, x, dy)
    options = layer.pool_size, layer.strides, "same"
    area = size[0] * size[1]
    rtol = 0 if kind == "max" else tolerance(dtype, area)
    want = getattr(reference, f"{kind}_pool2d")(x, *options)
    assert_close(got["y"], want, rtol, dtype, np.abs(x).max())
    backward = getattr(reference, f"{kind}_pool2d_grad")
    scale = backward(x, np.abs(dy), *options).max()
    assert_close(got["dx"], backward(x, dy, *options), tolerance(dtype, area), dtype, scale)


def middle(array):
    """A copy with an image of NaN (or 255) on each side, and the view of the images between."""
    wide = np.full((len(array) + 2, *array.shape[1:]), np.nan if array.dtype.kind == "f" else 255, array.dtype)
    wide[1:-1] = array
    return wide, wide[1:-1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("geometry", [(2, 2, 2, 2, 0, 0), (3, 2, 3, 2, 0, 0), (3, 3, 2, 2, 1, 1), (2, 2, 3, 3, 0, 0)])
@pytest.mark.parametrize("c", [1, 2, 3, 6, 7, 8, 9, 15, 16, 17, 40])
@pytest.mark.parametrize("size", [(2, 2), (4, 4), (7, 5), (9, 8)])
def test_nothing_is_written_outside_the_images(size, c, geometry, dtype):
    """Few channels are written a vector at a time, and vectors must not reach into the neighbours' images."""
    kh, kw, sh, sw, top, left = geometry
    h, w = size
    oh, ow = max(1, (h + top - kh) // sh + 1), max(1, (w + left - kw) // sw + 1)
    x, y = normal((2, h, w, c), dtype), np.zeros((2, oh, ow, c), dtype)
    for taps in (np.uint8, np.int32):
        (_, x_in), (all_y, y_in), (all_winner, winner) = middle(x), middle(y), middle(np.zeros(y.shape, taps))
        kernels.max_forward(x_in, y_in, winner, geometry)
        (_, dy), (all_dx, dx) = middle(normal(y.shape, dtype, 1)), middle(x)
        kernels.max_backward(dy, winner, dx, geometry)
        for around in (all_y, all_dx):
            assert np.isnan(around[[0, -1]]).all()
            assert np.isfinite(around[1:-1]).all()
        assert (all_winner[[0, -1]] == 255).all()
    (all_y, y_in), (all_dx, dx) = middle(y), middle(x)
    kernels.average_forward(x_in, y_in, geometry)
    kernels.average_backward(dy, dx, geometry)
    for around in (all_y, all_dx):
        assert np.isnan(around[[0, -1]]).all()
        assert np.isfinite(around[1:-1]).all()


def test_a_byte_is_not_enough_for_a_large_window():
    x, y = np.zeros((1, 17, 16, 2)), np.zeros((1, 1, 1, 2))
    with pytest.raises(ValueError, match="winner must be int32 where a window has more than 256 pixels"):
        kernels.max_forward(x, y, np.zeros(y.shape, np.uint8), (17, 16, 1, 1, 0, 0))


# ---- what must be exact ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("c", [1, 3, 8, 16, 21, 40])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_nan_passes_max_pooling(place, c, dtype):
    """Wherever it stands in the window; the others of the batch are untouched, and it takes the gradient."""
    layer = build(layers.MaxPooling2D(2, dtype=dtype), (4, 4, c))
    x = normal((2, 4, 4, c), dtype)
    at = 1, 2 + place // 2, place % 2, c - 1
    x[at] = np.nan
    y = layer.forward(x, training=True)
    want = np.zeros(y.shape, bool)
    want[1, 1, 0, c - 1] = True
    assert (np.isnan(y) == want).all()
    dx = layer.backward(np.ones_like(y))
    assert dx[at] == 1
    assert dx.sum() == y.size


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("c", [1, 6, 16, 33])
@pytest.mark.parametrize(("pool", "strides"), [(2, 2), (3, 2), (3, 1), (4, 4)])
def test_the_first_nan_and_the_first_of_equals_win(pool, strides, c, dtype):
    """In windows of few different values, NaN and infinities among them: with the gradient it is seen who won."""
    x = np.random.default_rng(1).choice(
        [-np.inf, -1, 0, -0.0, 1, np.inf, np.nan], (3, 9, 10, c), p=[0.3, *[0.1] * 5, 0.2]
    )
    layer = build(layers.MaxPooling2D(pool, strides, dtype=dtype), x.shape[1:])
    y = layer.forward(x, training=True)
    dy = np.arange(1, y.size + 1).reshape(y.shape)
    assert_close(y, reference.max_pool2d(x, layer.pool_size, layer.strides), 0)
    assert_close(layer.backward(dy), reference.max_pool2d_grad(x, dy, layer.pool_size, layer.strides), 0)


def test_infinities_pass_max_pooling():
    layer = build(layers.GlobalMaxPooling2D(), (2, 2, 3))
    x = np.zeros((1, 2, 2, 3), np.float32)
    x[0, ..., 0], x[0, 1, 1, 1], x[0, 0, 0, 2] = -np.inf, np.inf, -np.inf
    assert layer.forward(x).tolist() == [[-np.inf, np.inf, 0]]


def test_the_first_of_equals_wins():
    layer = build(layers.MaxPooling2D(2, 1), (2, 3, 1))
    layer.forward(np.ones((1, 2, 3, 1)), training=True)
    dx = layer.backward(np.array([1.0, 10.0]).reshape(1, 1, 2, 1))
    assert dx[0, ..., 0].tolist() == [[1, 10, 0], [0, 0, 0]]


def test_padding_never_wins_and_never_dilutes():
    x = -np.ones((1, 3, 3, 5))
    for pool in POOLS.values():
        layer = build(pool(2, padding="same"), (3, 3, 5))
        assert (layer.forward(x) == -1).all()
        assert layer.forward(x).shape == (1, 2, 2, 5)


def test_windows_that_overlap_add_their_gradients():
    layer = build(layers.MaxPooling2D(3, 1), (5, 5, 1))
    x = np.zeros((1, 5, 5, 1))
    x[0, 2, 2] = 1  # in all nine windows
    layer.forward(x, training=True)
    assert layer.backward(np.ones((1, 3, 3, 1)))[0, 2, 2, 0] == 9


def test_strides_default_to_the_window():
    assert layers.MaxPooling2D().strides == (2, 2)
    assert layers.AveragePooling2D((3, 2)).strides == (3, 2)
    assert layers.MaxPooling2D(3).build((7, 7, 2), NONE) == (2, 2, 2)
    assert layers.MaxPooling2D(3, padding="same").build((7, 7, 2), NONE) == (3, 3, 2)


@pytest.mark.parametrize(("kind", "name"), [("max", "MaxPooling2D"), ("average", "AveragePooling2D")])
@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((0,), ValueError, "pool_size must be a whole number >= 1; got 0"),
    ((2.5,), TypeError, r"pool_size must be a whole number >= 1; got 2.5 \(float\)"),
    (((2, 2, 2),), ValueError, "pool_size must be a whole number or a pair of them"),
    ((2, 0), ValueError, "strides must be a whole number >= 1; got 0"),
    ((2, 2, -1), ValueError, "padding must be a whole number >= 0; got -1"),
    ((2, 2, "full"), ValueError, "padding must be one of 'valid', 'same'; got 'full'"),
])  # fmt: skip
def test_wrong_arguments(kind, name, arguments, error, message):
    with pytest.raises(error, match=f"^{name}: {message}"):
        POOLS[kind](*arguments)


@pytest.mark.parametrize(("pool", "image", "message"), [
    (layers.MaxPooling2D(3), (2, 5, 1), r"MaxPooling2D: an image must .* pool_size \(3, 3\); got \(2, 5, 1\)"),
    (layers.AveragePooling2D(), (4, 4), r"AveragePooling2D: one sample must have an image .*; got \(4, 4\)"),
    (layers.GlobalMaxPooling2D(), (4,), r"GlobalMaxPooling2D: one sample must have an image"),
    (layers.GlobalAveragePooling2D(), (4, 4, 1, 1), r"GlobalAveragePooling2D: one sample must have an image"),
])  # fmt: skip
def test_wrong_images(pool, image, message):
    with pytest.raises(ValueError, match=message):
        pool.build(image, NONE)


def test_the_average_of_a_large_image():
    layer = layers.GlobalAveragePooling2D()
    layer.build((512, 512, 1), None)
    y = layer.forward(np.full((1, 512, 512, 1), 0.1, np.float32))
    assert abs(y[0, 0] / np.float32(0.1) - 1) < 2e-5


def test_a_window_that_no_image_needs():
    with pytest.raises(ValueError, match="MaxPooling2D: pool_size must be at most 32768; got 1099511627776"):
        layers.MaxPooling2D(2**40)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("h", "w", "c"),
    [(17, 1, 3), (16, 16, 1), (1, 33, 40), (300, 20, 20), (512, 512, 1), (4096, 4096, 1), (1, 10**6, 1), (10**6, 1, 3)],
)
def test_averages_of_large_windows_lose_nothing(h, w, c, dtype):
    """Equal numbers, whose roundings all go the same way, and others: no error but that of a run of 16 pixels."""
    for x in (np.full((1, h, w, c), 0.1, dtype), normal((1, h, w, c)).astype(dtype) + np.dtype(dtype).type(1)):
        y = np.empty((1, 1, 1, c), dtype)
        kernels.average_forward(x, y, (h, w, 1, 1, 0, 0))
        exact = x.reshape(-1, c).T.copy().mean(1, dtype=np.longdouble)  # in pairs, since they are neighbours
        assert (np.abs(y[0, 0, 0] - exact) <= 8 * np.finfo(dtype).eps * np.abs(exact)).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_an_average_of_a_large_window_is_what_is_in_it(value):
    x = np.ones((1, 40, 50, 3), np.float32)
    x[0, 5, 7, 1] = value
    y = np.empty((1, 1, 1, 3), np.float32)
    kernels.average_forward(x, y, (40, 50, 1, 1, 0, 0))
    np.testing.assert_array_equal(y[0, 0, 0], [1, value, 1])
