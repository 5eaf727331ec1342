"""The judge on trial: every gradient of reference.py by finite differences, every forward pass a second way."""

import math

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits

RTOL = 1e-8  # a hundred times better than the 1e-6 that the library promises
STEP = 1e-5


def finite_differences(f, array, r):
    """d/d array of sum(f() * r), f reading ``array``; central differences, error of the order STEP^2."""
    gradient = np.zeros(array.shape)
    for place in np.ndindex(array.shape):
        value = array[place]
        array[place] = value + STEP
        above = f().copy()
        array[place] = value - STEP
        gradient[place] = ((above - f()) * r).sum() / (2 * STEP)
        array[place] = value
    return gradient


def prove(forward, backward, *arrays):
    """``backward(dy)`` gives the gradients for ``arrays``, all of which ``forward()`` reads."""
    dy = np.random.default_rng(1).standard_normal(forward().shape)
    gradients = backward(dy)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    assert len(gradients) == len(arrays)
    for gradient, array in zip(gradients, arrays, strict=True):
        assert_close(np.asarray(gradient), finite_differences(forward, array, dy), RTOL, scale=np.abs(gradient).max())


def spread(shape, gap=0.01):
    """Random values at least ``gap`` apart from each other and from 0: no corner within a finite step."""
    size = math.prod(shape)
    values = (np.arange(size) - size / 2 + 0.25) * max(gap, 4 / size)
    return np.random.default_rng(2).permutation(values).reshape(shape)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


CONVOLUTIONS = [  # image, kernel, strides, padding, dilation, groups
    ((5, 6, 3), (3, 2, 3, 4), (1, 1), "valid", (1, 1), 1),
    ((5, 6, 3), (3, 2, 3, 4), (2, 3), "same", (1, 1), 1),
    ((7, 5, 2), (2, 3, 2, 3), (1, 1), "same", (3, 2), 1),
    ((7, 6, 2), (3, 3, 2, 2), (2, 1), "valid", (2, 1), 1),
    ((4, 4, 6), (3, 3, 2, 3), (1, 1), "same", (1, 1), 3),
    ((4, 5, 3), (2, 2, 1, 6), (2, 2), "same", (1, 1), 3),
    ((1, 1, 2), (5, 4, 2, 2), (1, 1), "same", (1, 1), 1),
    ((4, 5, 2), (3, 2, 2, 3), (2, 1), ((4, 0), (1, 3)), (1, 2), 1),
]


@pytest.mark.parametrize(("image", "kernel", "strides", "padding", "dilation", "groups"), CONVOLUTIONS)
def test_conv2d_gradient(image, kernel, strides, padding, dilation, groups):
    x, k, b = normal(2, *image), normal(*kernel, seed=1), normal(kernel[3], seed=2)
    options = (strides, padding, dilation, groups)
    prove(lambda: reference.conv2d(x, k, b, *options), lambda dy: reference.conv2d_grad(x, k, dy, *options), x, k, b)


@pytest.mark.parametrize(("image", "kernel", "strides", "padding", "dilation", "groups"), CONVOLUTIONS)
def test_conv2d_forward_against_einsum_over_sliding_windows(image, kernel, strides, padding, dilation, groups):
    x, k, b = normal(2, *image), normal(*kernel, seed=1), normal(kernel[3], seed=2)
    padded, reach = x, [d * (size - 1) + 1 for d, size in zip(dilation, kernel[:2], strict=True)]
    if isinstance(padding, tuple):
        padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    elif padding == "same":  # cells missing for ceil(size / stride) windows; more of them at the end
        missing = [max(0, (-(-n // s) - 1) * s + r - n) for n, s, r in zip(image, strides, reach, strict=False)]
        padded = np.pad(x, ((0, 0), *((m // 2, (m + 1) // 2) for m in missing), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, (1, 2))
    windows = windows[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]
    n, oh, ow, _, kh, kw = windows.shape
    grouped = windows.reshape(n, oh, ow, groups, -1, kh, kw)
    want = np.einsum("nijgcab,abcgf->nijgf", grouped, k.reshape(*kernel[:3], groups, -1)).reshape(n, oh, ow, -1) + b
    assert_close(reference.conv2d(x, k, b, strides, padding, dilation, groups), want, 1e-13)


def test_conv2d_by_hand():
    x = np.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    kernel = np.array([[1.0, 0.0], [0.0, -1.0]]).reshape(2, 2, 1, 1)  # each value minus its lower right neighbour
    assert reference.conv2d(x, kernel)[0, ..., 0].tolist() == [[-4, -4], [-4, -4]]
    # "same" with an even kernel: the odd row and column of zeros come last
    assert reference.conv2d(x, kernel, padding="same")[0, ..., 0].tolist() == [[-4, -4, 3], [-4, -4, 6], [7, 8, 9]]


@pytest.mark.parametrize(("size", "window", "stride", "want"), [
    (5, 3, 1, (1, 1, 5)), (5, 2, 1, (0, 1, 5)), (5, 3, 2, (1, 1, 3)), (6, 3, 2, (0, 1, 3)), (7, 2, 3, (0, 1, 3)),
    (4, 1, 3, (0, 0, 2)), (1, 7, 1, (3, 3, 1)),
])  # fmt: skip
def test_same_padding_by_hand(size, window, stride, want):
    assert reference.window_grid(size, window, stride, "same") == want


def test_depthwise_conv2d():
    """Its gradients by finite differences; and it is a convolution with a group for each channel."""
    x, k, b = normal(2, 5, 6, 3), normal(3, 2, 3, 2, seed=1), normal(6, seed=2)
    options = (2, 1), ((2, 0), (1, 1)), (1, 2)
    forward, backward = reference.depthwise_conv2d, reference.depthwise_conv2d_grad
    prove(lambda: forward(x, k, b, *options), lambda dy: backward(x, k, dy, *options), x, k, b)
    assert_close(forward(x, k, b, *options), reference.conv2d(x, k.reshape(3, 2, 1, 6), b, *options, 3), 1e-13)


def test_separable_conv2d_gradient():
    x, k, p, b = normal(2, 4, 5, 2), normal(3, 2, 2, 2, seed=1), normal(1, 1, 4, 3, seed=2), normal(3, seed=3)
    options = (1, 2), "same", (1, 1)
    forward, backward = reference.separable_conv2d, reference.separable_conv2d_grad
    prove(lambda: forward(x, k, p, b, *options), lambda dy: backward(x, k, p, dy, *options), x, k, p, b)


def test_cropping2d_gradient():
    x, sides = normal(2, 5, 4, 2), ((1, 2), (0, 1))
    prove(lambda: reference.cropping2d(x, sides), lambda dy: reference.cropping2d_grad(x, sides, dy), x)


def test_average_of_whole_windows():
    x, options = normal(2, 4, 5, 2), ((3, 2), (2, 1), ((1, 1), (1, 0)), True)
    forward, backward = reference.average_pool2d, reference.average_pool2d_grad
    prove(lambda: forward(x, *options), lambda dy: backward(x, dy, *options), x)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 0), (0, 0)))
    assert_close(forward(x, *options), forward(padded, *options[:2]), 1e-13)


def test_dense_gradient():
    x, k, b = normal(3, 5), normal(5, 4, seed=1), normal(4, seed=2)
    prove(lambda: reference.dense(x, k, b), lambda dy: reference.dense_grad(x, k, dy), x, k, b)


POOLS = [((6, 6), (2, 2), (2, 2), "valid"), ((5, 7), (3, 2), (2, 1), "valid"), ((5, 7), (3, 4), (2, 3), "same"),
         ((4, 5), (2, 2), (3, 3), "same"), ((3, 3), (5, 5), (1, 1), "same"),
         ((5, 6), (3, 3), (2, 2), ((1, 2), (2, 0)))]  # fmt: skip


@pytest.mark.parametrize(("image", "pool", "strides", "padding"), POOLS)
@pytest.mark.parametrize("kind", ["max", "average"])
def test_pool_gradient(kind, image, pool, strides, padding):
    x, options = spread((2, *image, 3)), (pool, strides, padding)
    forward, backward = getattr(reference, f"{kind}_pool2d"), getattr(reference, f"{kind}_pool2d_grad")
    prove(lambda: forward(x, *options), lambda dy: backward(x, dy, *options), x)


def test_pools_by_hand():
    x = np.array([[1.0, 2, 5], [4, 3, 0], [7, 7, 6]]).reshape(1, 3, 3, 1)
    assert reference.max_pool2d(x, (2, 2), (1, 1))[0, ..., 0].tolist() == [[4, 5], [7, 7]]
    assert reference.max_pool2d(x, (2, 2), (2, 2), "same")[0, ..., 0].tolist() == [[4, 5], [7, 6]]
    assert reference.average_pool2d(x, (2, 2), (2, 2), "same")[0, ..., 0].tolist() == [[2.5, 2.5], [7, 6]]
    dx = reference.max_pool2d_grad(x, np.ones((1, 2, 2, 1)), (2, 2), (1, 1))  # the first of the two sevens wins...
    assert dx[0, ..., 0].tolist() == [[0, 0, 1], [1, 0, 0], [1, 1, 0]]  # ...in its window; the second in another


def test_max_pool_negative_values_beside_padding():
    x = -np.ones((1, 3, 3, 1))
    assert (reference.max_pool2d(x, (2, 2), (2, 2), "same") == -1).all()


@pytest.mark.parametrize("kind", ["max", "average"])
def test_global_pool_gradient(kind):
    x = spread((2, 3, 4, 5))
    forward = getattr(reference, f"global_{kind}_pool2d")
    prove(lambda: forward(x), lambda dy: getattr(reference, f"global_{kind}_pool2d_grad")(x, dy), x)


@pytest.mark.parametrize("name", [*reference.ACTIVATIONS, *reference.ROWS])
def test_activation_gradient(name):
    x = spread((4, 9))
    prove(lambda: reference.activation(name, x, 0.3), lambda dy: reference.activation_grad(name, x, dy, slope=0.3), x)


@pytest.mark.parametrize(("name", "want"), [
    ("linear", (-1, 0, 2)), ("relu", (0, 0, 2)), ("leaky_relu", (-0.3, 0, 2)), ("elu", (math.exp(-1) - 1, 0, 2)),
    ("gelu", (-0.15865525393145707, 0, 1.9544997361036416)), ("tanh", (math.tanh(-1), 0, math.tanh(2))),
    ("sigmoid", (1 / (1 + math.e), 0.5, 1 / (1 + math.exp(-2)))),
    ("softmax", [math.exp(z) / (math.exp(-1) + 1 + math.exp(2)) for z in (-1, 0, 2)]),
    ("log_softmax", [z - math.log(math.exp(-1) + 1 + math.exp(2)) for z in (-1, 0, 2)]),
    ("relu6", (0, 0, 2)), ("selu", (1.7580993408473766 * (math.exp(-1) - 1), 0, 2 * 1.0507009873554805)),
    ("swish", (-1 / (1 + math.e), 0, 2 / (1 + math.exp(-2)))), ("hard_swish", (-1 / 3, 0, 5 / 3)),
    ("hard_sigmoid", (1 / 3, 0.5, 5 / 6)), ("softsign", (-0.5, 0, 2 / 3)), ("exponential", (1 / math.e, 1, math.e**2)),
    ("softplus", (math.log(1 + 1 / math.e), math.log(2), math.log(1 + math.e**2))),
])  # fmt: skip
def test_activations_by_hand(name, want):
    """-1, 0 and 2; for GELU x Phi(x) with Phi(-1) = 0.158655 and Phi(2) = 0.977250 from tables."""
    assert_close(reference.activation(name, np.array([-1.0, 0.0, 2.0]), 0.3), np.array(want, np.float64), 1e-12)


def test_relu_and_prelu_gradients():
    x, keras = spread((4, 9)), (1.5, 0.3, 0.5)
    prove(lambda: reference.relu(x, *keras), lambda dy: reference.relu_grad(x, dy, *keras), x)
    assert_close(reference.relu(np.array([-1.0, 0.4, 1, 2]), *keras), np.array([-0.45, -0.03, 1, 1.5]), 1e-12)
    x, alpha = spread((4, 3, 2)), normal(1, 2, seed=1)
    prove(lambda: reference.prelu(x, alpha), lambda dy: reference.prelu_grad(x, alpha, dy), x, alpha)
    assert_close(reference.prelu(np.array([[-2.0, 3]]), np.array([0.25, 9])), np.array([[-0.5, 3]]), 1e-12)


@pytest.mark.parametrize("shape", [(6, 4), (3, 2, 3, 4)])
def test_batch_norm_gradient(shape):
    x, gamma, beta = normal(*shape), normal(shape[-1], seed=1), normal(shape[-1], seed=2)
    prove(
        lambda: reference.batch_norm(x, gamma, beta)[0], lambda dy: reference.batch_norm_grad(x, gamma, dy),
        x, gamma, beta,
    )  # fmt: skip


@pytest.mark.parametrize(("shape", "of_gamma"), [((3, 5), (5,)), ((2, 3, 4), (4,)), ((2, 3, 4), (3, 4))])
def test_layer_norm_gradient(shape, of_gamma):
    x, gamma, beta = normal(*shape), normal(*of_gamma, seed=1), normal(*of_gamma, seed=2)
    prove(
        lambda: reference.layer_norm(x, gamma, beta), lambda dy: reference.layer_norm_grad(x, gamma, dy), x, gamma, beta
    )  # fmt: skip


@pytest.mark.parametrize(("shape", "groups"), [((3, 6), 2), ((2, 2, 2, 6), 3), ((2, 3, 4), 4)])
def test_group_norm_gradient(shape, groups):
    x, gamma, beta = normal(*shape), normal(shape[-1], seed=1), normal(shape[-1], seed=2)
    prove(
        lambda: reference.group_norm(x, gamma, beta, groups),
        lambda dy: reference.group_norm_grad(x, gamma, dy, groups), x, gamma, beta,
    )  # fmt: skip


def test_batch_norm_normalises():
    x = 3 + 2 * normal(50, 4)
    y, mean, variance = reference.batch_norm(x, np.ones(4), np.zeros(4), epsilon=0.0)
    assert_close(y.mean(0), np.zeros(4), 1e-12, scale=1.0)
    assert_close((y * y).mean(0), np.ones(4), 1e-12)
    assert_close(mean, x.sum(0) / 50, 1e-12)
    assert_close(variance, ((x - mean) ** 2).sum(0) / 50, 1e-12)
    assert_close(reference.batch_norm_eval(x, np.ones(4), np.zeros(4), mean, variance, 0.0), y, 1e-12)
    assert reference.moving(2.0, 4.0, 0.75) == 2.5


TRANSPOSED = [  # size, window, stride, padding, output_padding, dilation
    (3, 3, 2, "valid", None, 1), (3, 2, 3, "same", None, 2), (2, 3, 2, "same", 1, 1), (4, 3, 1, (1, 2), 0, 1),
]  # fmt: skip


@pytest.mark.parametrize(("size", "window", "stride", "padding", "extra", "dilation"), TRANSPOSED)
def test_transposed_convolution_gradient(size, window, stride, padding, extra, dilation):
    top, oh = reference.transposed_grid(size, window, stride, padding, extra, dilation)
    cut, shape, more = (top, 1), (oh, 6), ((stride, 2), (dilation, 1))
    x, kernel, bias = normal(2, size, 3, 2), normal(window, 3, 4, 2, seed=1), normal(4, seed=2)
    prove(lambda: reference.conv2d_transpose(x, kernel, bias, shape, cut, *more),
          lambda dy: reference.conv2d_transpose_grad(x, kernel, dy, cut, *more), x, kernel, bias)  # fmt: skip


@pytest.mark.parametrize(("size", "window", "stride", "dilation"), [(6, 3, 2, 1), (7, 2, 3, 1), (5, 3, 1, 2)])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_transposed_convolution_is_a_gradient(size, window, stride, dilation, padding):
    """Of the convolution with the same arguments, whose output it takes back to its input's size, if none is left."""
    small = reference.window_grid(size, window, stride, padding, dilation)[2]
    top, out = reference.transposed_grid(small, window, stride, padding, None, dilation)
    x, kernel = normal(1, small, 4, 2), normal(window, 1, 3, 2, seed=1)
    options = (stride, 1), padding, (dilation, 1)
    want = reference.conv2d_grad(np.zeros((1, out, 4, 3)), kernel, x, *options)[0]
    assert_close(
        reference.conv2d_transpose(x, kernel, None, (out, 4), (top, 0), (stride, 1), (dilation, 1)), want, 1e-12
    )


def test_upsampling_and_permutation_gradients():
    x, two = normal(2, 3, 4, 2), normal(2, 3, 1, 2)
    for array in (x, two):
        for size, name in (((2, 3), "nearest"), ((3, 2), "bilinear"), ((1, 4), "bilinear")):
            prove(lambda array=array, size=size, name=name: reference.up_sampling2d(array, size, name),
                  lambda dy, array=array, size=size, name=name: reference.up_sampling2d_grad(array, dy, size, name),
                  array)  # fmt: skip
    assert_same_bits(reference.up_sampling2d(x, (2, 3)), x.repeat(2, 1).repeat(3, 2))
    assert_close(reference.up_sampling2d(np.ones((1, 3, 4, 1)), (3, 4), "bilinear"), np.ones((1, 9, 16, 1)), 1e-12)
    prove(lambda: reference.permute(x, (3, 1, 2)), lambda dy: reference.permute_grad(dy, (3, 1, 2)), x)
    assert reference.permute(x, (3, 1, 2)).shape == (2, 2, 3, 4)


def test_rescaling_and_padding_gradients():
    x, padding = normal(2, 3, 4, 2), ((1, 2), (0, 3))
    prove(lambda: reference.rescaling(x, 0.25, -1.0), lambda dy: reference.rescaling_grad(x, 0.25, dy), x)
    prove(lambda: reference.zero_padding2d(x, padding), lambda dy: reference.zero_padding2d_grad(x, padding, dy), x)
    assert reference.zero_padding2d(x, padding).shape == (2, 6, 7, 2)


@pytest.mark.parametrize("mode", ["inverted", "classical"])
def test_dropout_gradient(mode):
    x, keep = normal(4, 6), normal(4, 6, seed=1) > -0.5
    prove(lambda: reference.dropout(x, keep, 0.2, mode), lambda dy: reference.dropout_grad(x, keep, 0.2, dy, mode), x)
    assert_close(reference.dropout(x, keep, 0.2), np.where(keep, x / 0.8, 0), 1e-15)
    assert_same_bits(reference.dropout(x, keep, 0.2, "classical"), np.where(keep, x, 0))


def test_gradients_of_the_other_masks():
    x, keep = normal(3, 4, 5, 2), normal(3, 4, 5, 2, seed=1) > -0.5
    rows = np.array([True, False, True])
    prove(
        lambda: reference.stochastic_depth(x, rows, 0.2),
        lambda dy: reference.stochastic_depth_grad(x, rows, 0.2, dy),
        x,
    )
    prove(lambda: reference.alpha_dropout(x, keep, 0.2), lambda dy: reference.alpha_dropout_grad(x, keep, 0.2, dy), x)
    prove(lambda: reference.drop_block(x, keep), lambda dy: reference.drop_block_grad(x, keep, dy), x)
    assert_close(reference.stochastic_depth(x, rows, 0.2), x / 0.8 * rows[:, None, None, None], 1e-15)
    assert_close(reference.drop_block(np.ones((3, 4, 5, 2)), keep).mean((1, 2, 3)), np.ones(3), 1e-14)


def test_alpha_dropout_keeps_mean_and_variance_of_what_has_0_and_1():
    """Of the exact expectation over keep, for x of two values, -1 and 1."""
    for rate in (0.125, 0.5, 0.75):
        x = np.array([-1.0, 1.0])
        kept, dropped = (reference.alpha_dropout(x, np.full(2, keep), rate) for keep in (True, False))
        mean = ((1 - rate) * kept + rate * dropped).mean()
        assert abs(mean) < 1e-15
        assert abs(((1 - rate) * kept**2 + rate * dropped**2).mean() - 1) < 1e-14


def test_blocks_of_the_mask_by_hand():
    """One corner in a hundred or so, in images of 5 x 6 in 2 channels."""
    keep = reference.drop_block_mask(seed=3, number=1, step=0, shape=(20, 5, 6, 2), rate=0.3, block=3)
    corners = reference.dropout_mask(3, 1, 0, (20, 3, 4, 2), 0.3 / 9 * 30 / 12)
    s, i, j, c = np.argwhere(~corners)[0]
    assert not keep[s, i : i + 3, j : j + 3, c].any()
    assert (keep[corners.all((1, 2, 3))]).all()
    assert keep.all((1, 2)).any(), "one of the channels should be whole"


PHILOX_VECTORS = [  # the known answers that Salmon et al. publish with Random123 (kat_vectors, philox4x32 10)
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]  # fmt: skip


@pytest.mark.parametrize(("counter", "key", "want"), PHILOX_VECTORS)
def test_philox_published_vectors(counter, key, want):
    assert reference.philox(counter, key) == want


def test_dropout_mask_element_by_element():
    mask = reference.dropout_mask(seed=3 + (5 << 32), number=2, step=7, shape=(2, 150), rate=0.3).ravel()
    for e, word, half, block in [(0, 0, 0, 0), (1, 0, 1, 0), (33, 1, 1, 0), (127, 3, 1, 15), (299, 1, 1, 37)]:
        draw = reference.philox((block, 0, 7, 32), (3, 5))[word] >> 16 * half & 0xFFFF
        assert mask[e] == (draw >= round(0.3 * 65536)), e
    assert abs(mask.mean() - 0.7) < 5 * math.sqrt(0.21 / 300)


# ---- losses ----

WEIGHTS = np.array([0.5, 2.0, 0.0, 1.5])
TARGETS = reference.one_hot(np.array([2, 0, 4, 2]), 5)
BINARY = np.array([[0.0, 1], [1, 1], [0, 0], [1, 0]])
LOSSES = [  # loss(outputs, weights), outputs
    (lambda z, w: reference.softmax_cross_entropy(z, TARGETS, w), normal(4, 5)),
    (lambda z, w: reference.softmax_cross_entropy(z, reference.smooth(TARGETS, 0.1), w), normal(4, 5)),
    (lambda p, w: reference.cross_entropy(p, TARGETS, w), reference.softmax(normal(4, 5))),
    (lambda p, w: reference.binary_cross_entropy(p, BINARY, w), reference.softmax(normal(4, 2))),
    (lambda z, w: reference.sigmoid_binary_cross_entropy(z, BINARY, w), 3 * normal(4, 2)),
    (lambda o, w: reference.mean_squared_error(o, np.ones((4, 2, 3)), w), normal(4, 2, 3)),
    (lambda o, w: reference.mean_absolute_error(o, np.zeros((4, 6)), w), spread((4, 6))),
    (lambda o, w: reference.huber(o, np.zeros((4, 6)), 0.7, w), spread((4, 6))),
    (lambda o, w: reference.mean_absolute_percentage_error(o, np.full((4, 6), 2.0), w), spread((4, 6)) + 2),
    (lambda o, w: reference.mean_squared_logarithmic_error(o, np.ones((4, 6)), w), np.abs(spread((4, 6)))),
    (lambda o, w: reference.log_cosh(o, np.ones((4, 6)), w), spread((4, 6))),
    (lambda o, w: reference.poisson(o, np.ones((4, 6)), w), np.abs(spread((4, 6))) + 1),
    (lambda o, w: reference.hinge(o, 2 * BINARY - 1, w), normal(4, 2)),
    (lambda o, w: reference.hinge(o, 2 * BINARY - 1, w, 2), normal(4, 2)),
    (lambda o, w: reference.categorical_hinge(o, TARGETS, w), normal(4, 5)),
    (lambda o, w: reference.cosine_similarity(o, TARGETS + 0.5, w), normal(4, 5)),
    (lambda p, w: reference.kl_divergence(p, TARGETS, w), reference.softmax(normal(4, 5))),
    (lambda p, w: reference.binary_focal(p, BINARY, weights=w), reference.softmax(normal(4, 2))),
    (lambda p, w: reference.binary_focal(p, BINARY, 0.3, 0.5, w), reference.softmax(normal(4, 2))),
    (lambda z, w: reference.sigmoid_binary_focal(z, BINARY, 0.3, 1.5, w), 3 * normal(4, 2)),
    (lambda p, w: reference.categorical_focal(p, TARGETS, weights=w), reference.softmax(normal(4, 5))),
    (lambda z, w: reference.behind_softmax(reference.categorical_focal, z, TARGETS, 0.3, 1.5, w), normal(4, 5)),
]


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize("case", range(len(LOSSES)))
def test_loss_gradient(case, weights):
    loss, outputs = LOSSES[case]
    outputs = outputs.copy()
    gradient = loss(outputs, weights)[1]
    numeric = finite_differences(lambda: np.array(loss(outputs, weights)[0]), outputs, 1.0)
    assert_close(gradient, numeric, RTOL)


def test_losses_by_hand():
    half = np.array([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])
    target = reference.one_hot([0, 1], 3)
    value, _ = reference.cross_entropy(half, target)
    assert value == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert reference.softmax_cross_entropy(np.log(half), target)[0] == pytest.approx(value)
    weighted = reference.cross_entropy(half, target, [1, 3])[0]
    assert weighted == pytest.approx((math.log(2) + 3 * math.log(4)) / 2)  # over N, not over the sum of the weights
    assert reference.smooth(target, 0.3).tolist()[0] == pytest.approx([0.8, 0.1, 0.1])
    d = np.array([[0.5, -2.0]])
    assert reference.mean_squared_error(d, np.zeros((1, 2)))[0] == pytest.approx((0.25 + 4) / 2)
    assert reference.mean_absolute_error(d, np.zeros((1, 2)))[0] == pytest.approx(1.25)
    assert reference.huber(d, np.zeros((1, 2)))[0] == pytest.approx((0.125 + 1.5) / 2)
    assert reference.mean_absolute_percentage_error(d, np.full((1, 2), 2.0))[0] == pytest.approx((75 + 200) / 2)
    assert reference.log_cosh(d, np.zeros((1, 2)))[0] == pytest.approx((math.log(math.cosh(0.5)) + 1.3250027473578) / 2)
    signs = np.array([[1.0, -1.0]])  # margins 0.5 and -1
    assert reference.hinge(d, signs)[0] == 0.25
    assert reference.hinge(d, signs, power=2)[0] == 0.125
    assert reference.categorical_hinge(d, np.array([[0.0, 1.0]]))[0] == 1 + 0.5 + 2
    assert reference.cosine_similarity(np.array([[3.0, 4.0]]), signs)[0] == pytest.approx(0.2 / math.sqrt(2))
    counts = np.array([[3.0, 0.0]])
    assert reference.poisson(counts + 1, counts)[0] == pytest.approx((4 - 3 * math.log(4) + 1) / 2)
    assert reference.mean_squared_logarithmic_error(counts + 4, counts)[0] == pytest.approx(
        (math.log(2) ** 2 + math.log(5) ** 2) / 2
    )
    assert reference.kl_divergence(half, half[::-1])[0] == pytest.approx(0.25 * math.log(2))
    p, y = np.array([[0.8, 0.4]]), np.array([[1.0, 0.0]])
    value = reference.binary_cross_entropy(p, y)[0]
    assert value == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    assert reference.sigmoid_binary_cross_entropy(np.log(p / (1 - p)), y)[0] == pytest.approx(value)
    focal = -(0.2**2 * 0.3 * math.log(0.8) + 0.4**2 * 0.7 * math.log(0.6)) / 2
    assert reference.binary_focal(p, y, 0.3)[0] == pytest.approx(focal)
    focal = -0.25 * (0.5**2 * math.log(0.5) + 0.75**2 * math.log(0.25)) / 2
    assert reference.categorical_focal(half, target)[0] == pytest.approx(focal)


def test_softmax_cross_entropy_is_the_two_steps_in_one():
    z = normal(4, 5)
    value, at_logits = reference.softmax_cross_entropy(z, TARGETS, WEIGHTS)
    p = reference.softmax(z)
    separate, at_p = reference.cross_entropy(p, TARGETS, WEIGHTS)
    assert value == pytest.approx(separate)
    assert_close(reference.softmax_grad(z, at_p), at_logits, 1e-12)


@pytest.mark.parametrize(("l1", "l2"), [(0.3, 0.0), (0.0, 0.7), (0.2, 0.5)])
def test_penalty_gradient(l1, l2):
    w = spread((3, 4, 5))
    prove(lambda: np.array([reference.penalty(w, l1, l2)]), lambda r: r[0] * reference.penalty_grad(w, l1, l2), w)
    prove(
        lambda: np.array([reference.activity_penalty(w, l1, l2)]),
        lambda r: r[0] * reference.activity_penalty_grad(w, l1, l2),
        w,
    )


def test_penalties_by_hand():
    w = np.array([[3.0, -1.0], [0.0, 2.0]])
    assert reference.penalty(w, l1=0.5) == 3
    assert reference.penalty(w, l2=0.5) == 7
    assert reference.activity_penalty(w, 1, 1) == (4 + 10 + 2 + 4) / 2
    assert reference.penalty_grad(w, 0.5, 1).tolist() == [[6.5, -2.5], [0, 4.5]]


def test_constraints_by_hand():
    w = np.array([[3.0, -0.3], [4.0, 0.4]])
    assert_close(reference.max_norm(w, 1.0, 0), [[0.6, -0.3], [0.8, 0.4]], 1e-15)
    assert_close(reference.unit_norm(w, 0), [[0.6, -0.6], [0.8, 0.8]], 1e-6)
    assert_close(reference.max_norm(w, 1.0, (0, 1)), w / math.sqrt(25.25), 1e-15)
    assert reference.non_neg(w).tolist() == [[3, 0], [4, 0.4]]
    assert reference.max_norm(np.zeros((2, 2)), 1.0, 0).tolist() == [[0, 0], [0, 0]]
