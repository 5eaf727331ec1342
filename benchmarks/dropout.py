"""The dropout family beside NumPy, PyTorch and the plain loop y = scale * x, in and out of the caches.

DropConnect, which makes a decision for every product of a dense layer, has its own table.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import reference

from benchmarks import rivals
from benchmarks.machine import percent, relative_error, side_by_side, table
from minicnn import get_num_threads, layers
from minicnn._ext import dropconnect, dropout, gaussian, reshape

TITLE = "Dropout"
TEXT = """\
Rate 0.25, float32; billions of elements a second. *Kernel*: the result goes into an array that is there already, as it
does within a model. *Layer*: a call by hand, whose result is a new array, as those of NumPy and PyTorch are. The last
column is the share of the plain loop y = scale * x, which draws no random numbers. *Channels*: SpatialDropout2D with 32
channels; *rows*: one decision for 64 neighbouring elements; *samples*: StochasticDepth; *alpha*: AlphaDropout, whose
backward is Dropout's; *blocks*: DropBlock2D of 7 x 7 pixels with 32 channels. GaussianDropout's kernel serves backward
too, which makes the noise again.
"""
CONNECT_TEXT = """\
DropConnect, rate 0.5, float32; billions of decisions a second, of N D M in each pass. The last column is the share of
drawing the bits alone.
"""
RATE = 0.25
BLOCK = 7
DRAW = np.array([RATE * 65536, 7, 0, 0, 0, 2**62], np.uint64)  # threshold, seed, step, stream, first, period
SCALE = np.array([1 / (1 - RATE)])
# Samples and their sizes: within the caches of a core, within those of the chip, in memory.
SIZES = {"64 Ki": (16, 1 << 12), "1.25 Mi": (128, 10 << 10), "32 Mi": (128, 1 << 18)}
LOOP = "y = scale * x"
CONNECTED = {"64, 784 -> 128": (64, 784, 128), "64, 1024 -> 512": (64, 1024, 512), "256, 200 -> 30": (256, 200, 30)}
BITS = "drawing alone"


def run(quick=False, plots=None):
    rows = []
    for label, shape in list(SIZES.items())[: 1 if quick else None]:
        measured = side_by_side(cases(*shape), quick)
        for name, (seconds, spread) in measured.items():
            share = measured[LOOP].median / seconds
            rows.append([label, name, f"{np.prod(shape) / seconds / 1e9:.2f}", percent(spread), f"{share:.2f}"])
    elementwise = table(["elements", "what", "10^9 / s", "spread", "of the loop"], rows)
    return f"{TEXT}\n{elementwise}\n{CONNECT_TEXT}\n{connected(quick)}"


def connected(quick):
    rows = []
    for label, shape in list(CONNECTED.items())[: 1 if quick else None]:
        measured = side_by_side(connected_cases(*shape), quick)
        for name, (seconds, spread) in measured.items():
            share = measured[BITS].median / seconds
            rows.append([label, name, f"{np.prod(shape) / seconds / 1e9:.2f}", percent(spread), f"{share:.2f}"])
    return table(["N, D -> M", "what", "10^9 / s", "spread", "of drawing"], rows)


def kernel(x, axes=None):
    """(forward, backward, error) of the kernel on x (N, D); the gradient that comes back is x as well.

    ``axes``: ((length, whether a decision is shared), ...) of a sample; None: every element has its own.
    """
    sharing = axes and (False, axes)
    y, mask = np.empty_like(x), np.empty((len(x), dropout.words(x.shape[1], sharing)), np.uint32)
    own = [length for length, shared in axes or ((x.shape[1], False),) if not shared]
    shape = [1 if shared else length for length, shared in axes or ((x.shape[1], False),)]
    count = len(x) * int(np.prod(own))
    keep = drawn(count)[:count].reshape(len(x), *shape)
    assert (keep.reshape(-1)[:1024] == reference.dropout_mask(7, 0, 0, (1024,), RATE)[:count]).all()
    whole = [length for length, _ in axes or ((x.shape[1], False),)]
    keep = np.broadcast_to(keep, (len(x), *whole)).reshape(x.shape)

    def forward():
        dropout.forward(x, mask, y, DRAW, SCALE, sharing)

    def backward():
        dropout.backward(x, mask, y, DRAW, SCALE, sharing)

    def error():
        return relative_error(y, np.where(keep, x * np.float32(SCALE[0]), 0))

    return forward, backward, error


def alpha(x):
    """(forward, error) of AlphaDropout's kernel."""
    y, mask = np.empty_like(x), np.empty((len(x), dropout.words(x.shape[1])), np.uint32)
    scale = np.array([((1 - RATE) * (1 + RATE * reference.SELU_LOWEST**2)) ** -0.5])

    def error():
        keep = drawn(x.size)[: x.size].reshape(x.shape)[:2]
        return relative_error(y[:2], reference.alpha_dropout(x[:2], keep, RATE))

    return lambda: dropout.forward(x, mask, y, DRAW, scale, None, True), error


def blocks(x):
    """(forward, backward, error) of DropBlock2D's kernel."""
    height = 1 << int(np.log2(x.shape[1] // 32)) // 2
    shape = height, x.shape[1] // 32 // height, 32
    layer = layers.DropBlock2D(RATE, BLOCK, seed=int(DRAW[1]))
    layer.build(shape, np.random.default_rng(0))
    layer.forward(np.zeros((1, *shape)), training=True)
    y, mask = np.empty_like(x), np.empty((len(x), dropout.block_words(x.shape[1])), np.uint32)
    draw = DRAW.copy()
    draw[0] = layer._draw[0]

    def error():
        keep = layer.last_mask
        assert (
            keep == reference.drop_block_mask(int(DRAW[1]), 0, 0, keep.shape, RATE, BLOCK)
        ).all() or x.size > 1 << 20
        return relative_error(y[0], (x[0].reshape(shape) * keep[0] * (keep.size / keep.sum())).ravel())

    def run(drawing):
        return lambda: dropout.blocks(x, mask, y, draw, shape, BLOCK, drawing)

    return run(True), run(False), error


def drawn(n):
    """The mask of at least n elements as booleans."""
    words = np.empty(-(-n // 128) * 4, np.uint32)
    dropout.mask(words, DRAW)
    return np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little").astype(bool)


def proved(forward, backward, error):
    for function in (forward, backward):
        function()
        assert error() == 0
    return forward, backward


def cases(n, d):
    rng = np.random.default_rng(0)
    x, y, layer = rng.standard_normal((n, d), np.float32), np.empty((n, d), np.float32), layers.Dropout(RATE)
    layer.build((d,), rng)
    check(layer, x)
    forward, backward = proved(*kernel(x))
    channels, channels_backward = proved(*kernel(x, ((d // 32, True), (32, False))))
    rows, _ = proved(*kernel(x, ((d // 64, False), (64, True))))
    samples, _ = proved(*kernel(x, ((d, True),)))
    alpha_forward, error = alpha(x)
    alpha_forward()
    assert error() < 1e-6
    blocks_forward, blocks_backward, error = blocks(x)
    for function in (blocks_forward, blocks_backward):
        function()
        assert error() < 1e-6
    noise = np.empty(x.size // 128 * 128, np.float32)
    gaussian.multiply(x, y, DRAW, SCALE)
    gaussian.factors(noise, DRAW, SCALE[0])
    assert relative_error(noise[:1024], reference.gaussian_factors(7, 0, 0, (1024,), SCALE[0])) < 1e-5
    assert (y.ravel()[: len(noise)] == x.ravel()[: len(noise)] * noise).all()

    def both():
        layer.forward(x, training=True)
        layer.backward(x)

    return {
        LOOP: lambda: reshape.rescale(x, SCALE[0], 0.0, y),
        "minicnn's kernel, forward": forward,
        "minicnn's kernel, backward": backward,
        "minicnn's layer, forward": lambda: layer.forward(x, training=True),
        "minicnn's layer, forward and backward": both,
        "minicnn's kernel, channels, forward": channels,
        "minicnn's kernel, channels, backward": channels_backward,
        "minicnn's kernel, rows, forward": rows,
        "minicnn's kernel, samples, forward": samples,
        "minicnn's kernel, alpha, forward": alpha_forward,
        "minicnn's kernel, blocks, forward": blocks_forward,
        "minicnn's kernel, blocks, backward": blocks_backward,
        "minicnn's kernel, Gaussian": lambda: gaussian.multiply(x, y, DRAW, SCALE),
        "NumPy forward, rng.random and np.where": lambda: np.where(
            rng.random(x.shape, np.float32) >= RATE, x * np.float32(SCALE[0]), 0
        ),
        "NumPy Gaussian, rng.standard_normal": lambda: (
            x * (1 + np.float32(SCALE[0]) * rng.standard_normal(x.shape, np.float32))
        ),
        **(in_torch(x) if rivals.have("torch") else {}),
    }


def in_torch(x):
    import torch

    torch.set_num_threads(get_num_threads())
    images, dy = torch.from_numpy(x).requires_grad_(), torch.from_numpy(x)
    kept = torch.nn.functional.dropout(images, RATE, training=True)
    constant = torch.from_numpy(x)
    return {
        "PyTorch forward": lambda: torch.nn.functional.dropout(constant, RATE, training=True),
        "PyTorch backward": lambda: torch.autograd.grad(kept, images, dy, retain_graph=True),
        "PyTorch Gaussian, randn": lambda: constant * (1 + SCALE[0] * torch.randn(constant.shape)),
    }


def connected_cases(n, d, m):
    rng = np.random.default_rng(0)
    x, w, dy = (rng.standard_normal(shape, np.float32) for shape in ((n, d), (d, m), (n, m)))
    y, dw, dx, words = np.empty_like(dy), np.empty_like(w), np.empty_like(x), np.empty(n * d * m // 32, np.uint32)
    draw, two = np.array([1 << 15, 7, 0, 0, 0, 2**62], np.uint64), np.array([2.0])
    dropout.mask(words, draw)
    keep = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little").astype(bool).reshape(n, d, m)
    assert (keep.reshape(-1)[:1024] == reference.dropout_mask(7, 0, 0, (1024,), 0.5)).all()
    dropconnect.forward(x, w, None, y, draw, two)
    assert relative_error(y, 2 * np.einsum("nd,dm,ndm->nm", x, w, keep)) < 1e-5
    dropconnect.backward(x, w, dy, dw, None, dx, draw, two)
    assert relative_error(dx, 2 * np.einsum("nm,dm,ndm->nd", dy, w, keep)) < 1e-5
    assert relative_error(dw, 2 * np.einsum("nd,nm,ndm->dm", x, dy, keep)) < 1e-5
    parts, pool = np.array_split(words, get_num_threads()), ThreadPoolExecutor(get_num_threads())
    return {
        BITS: lambda: list(pool.map(lambda part: dropout.mask(part, draw), parts)),
        "minicnn's kernel, forward": lambda: dropconnect.forward(x, w, None, y, draw, two),
        "minicnn's kernel, backward": lambda: dropconnect.backward(x, w, dy, dw, None, dx, draw, two),
        "NumPy forward, rng.random and einsum": lambda: np.einsum(
            "nd,ndm->nm", x, w * (rng.random((n, d, m), np.float32) >= 0.5), optimize=True
        ),
        **(connected_in_torch(x, w) if rivals.have("torch") else {}),
    }


def connected_in_torch(x, w):
    import torch

    torch.set_num_threads(get_num_threads())
    rows, weights = torch.from_numpy(x)[:, None], torch.from_numpy(w)
    shape = len(x), *w.shape
    return {"PyTorch forward": lambda: torch.bmm(rows, weights * (torch.rand(shape) >= 0.5))}


def check(layer, x):
    """Against the formula, given the mask; and the fraction dropped against its binomial bound."""
    y, keep = layer.forward(x, training=True), layer.last_mask
    want = np.where(keep, x * np.float32(1 / (1 - RATE)), 0)
    assert (y == want).all()
    assert (layer.backward(x) == want).all()
    assert abs((1 - keep.mean()) - RATE) < 5 * np.sqrt(RATE * (1 - RATE) / x.size) + 1e-5
