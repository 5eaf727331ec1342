"""The kernels that multiply: convolutions and dense layers, with the FLOPs they are asked for."""

import numpy as np
import reference

from benchmarks.machine import Case, empty, normal, relative_error
from minicnn._ext import conv, dense
from minicnn.layers.activation import Function

# (size of the image, channels, filters, size of the kernel, padding): those of the networks in models.py, and larger.
CONVOLUTIONS = (
    (28, 1, 6, 5, "same"), (14, 6, 16, 5, "valid"), (28, 1, 32, 3, "valid"), (32, 3, 32, 3, "same"),
    (32, 32, 32, 3, "valid"), (26, 32, 64, 3, "valid"), (13, 32, 64, 3, "valid"), (15, 32, 64, 3, "same"),
    (15, 64, 64, 3, "valid"), (28, 64, 64, 3, "same"), (16, 48, 96, 3, "same"),
    (12, 40, 56, 3, "same"), (24, 24, 40, 5, "same"), (14, 64, 64, 5, "same"),
)  # fmt: skip
# (size of the image, channels, filters, size of the kernel, stride), padding "same": of decoders and generators.
TRANSPOSED = ((7, 64, 64, 3, 2), (14, 64, 32, 3, 2), (8, 128, 64, 4, 2), (28, 32, 1, 3, 1), (28, 64, 64, 3, 1))
DENSE = ((400, 120), (1600, 10), (1600, 512), (9216, 128))  # (inputs, outputs), for a batch of 128
ALGORITHMS = {"direct": ("exact", None), "F(2x2, 3x3)": ("F2", 3), "F(4x4, 3x3)": ("F4", 3), "F(4x4, 5x5)": ("F4", 5)}


def groups(quick):
    """(shape, its kernels) one after the other, so that the arrays of one group at a time are in memory."""
    for size, c, f, k, padding in CONVOLUTIONS[1::4] if quick else CONVOLUTIONS:
        yield f"{size}x{size}, {c} -> {f}, {k}x{k} {padding}", convolution(2 if quick else 64, size, c, f, k, padding)
    for size, c, f, k, stride in TRANSPOSED[1:2] if quick else TRANSPOSED:
        label = f"{size}x{size}, {c} -> {f}, {k}x{k}, stride {stride}, transposed"
        yield label, transposed(2 if quick else 64, size, c, f, k, stride)
    for d, m in DENSE[:1] if quick else DENSE:
        yield f"dense, 128 x {d} -> {m}", fully_connected(8 if quick else 128, d, m)


def convolution(n, size, c, f, k, padding):
    rng = np.random.default_rng(0)
    before, _, out = reference.window_grid(size, k, 1, padding)
    x, dx = normal(rng, (n, size, size, c)), empty((n, size, size, c))
    dy, y = normal(rng, (n, out, out, f)), empty((n, out, out, f))
    kernel, dkernel = normal(rng, (k, k, c, f)), empty((k, k, c, f))
    bias, dbias = normal(rng, (f,)), empty((f,))
    geometry, flops = (1, 1, before, before, 1, 1, 1), 2 * n * out * out * f * k * k * c
    want = reference.conv2d(x, kernel, bias, padding=padding)
    want_dx, want_dkernel, _ = reference.conv2d_grad(x, kernel, dy, padding=padding)

    def passes(name, number):
        yield Case(f"forward, {name}", flops, lambda: conv.forward(x, kernel, bias, y, geometry, algorithm=number),
                   lambda: relative_error(y, want))  # fmt: skip
        if c > 3:  # nobody asks for the gradient of an image
            yield Case(f"input gradient, {name}", flops,
                       lambda: conv.backward_input(dy, kernel, dx, geometry, algorithm=number),
                       lambda: relative_error(dx, want_dx))  # fmt: skip
        yield Case(f"weight gradient, {name}", flops,
                   lambda: conv.backward_params(x, dy, dkernel, dbias, geometry, algorithm=number),
                   lambda: relative_error(dkernel, want_dkernel))  # fmt: skip

    return [case for name, number in algorithms(k, c, f) for case in passes(name, number)]


def transposed(n, size, c, f, k, stride):
    """The input's gradient of a convolution, alone and with the bias and the ReLU of a transposed convolution's forward
    pass; its other two passes are those of a convolution."""
    rng = np.random.default_rng(0)
    cut, out = reference.transposed_grid(size, k, stride, "same", None)
    x, y = normal(rng, (n, size, size, c)), empty((n, out, out, f))
    kernel, bias = normal(rng, (k, k, f, c)), normal(rng, (f,))
    geometry, flops = (stride, stride, cut, cut, 1, 1, 1), 2 * x.size * f * k * k
    want, auto = reference.conv2d_transpose(x, kernel, None, (out, out), (cut, cut), (stride, stride)), 1
    relu = Function("relu").curve
    return [
        Case("input gradient", flops, lambda: conv.backward_input(x, kernel, y, geometry, auto),
             lambda: relative_error(y, want)),
        Case("with bias and ReLU", flops, lambda: conv.backward_input(x, kernel, y, geometry, auto, bias, relu),
             lambda: relative_error(y, np.maximum(want + bias, 0))),
    ]  # fmt: skip


def algorithms(k, c, f):
    """(name, number) of the algorithms that there are for a shape."""
    fit = [name for name, (_, size) in ALGORITHMS.items() if size is None or (size == k and min(c, f) >= 8)]
    return [(name, conv.ALGORITHMS[ALGORITHMS[name][0]]) for name in fit]


def fully_connected(n, d, m):
    rng = np.random.default_rng(0)
    x, dx = normal(rng, (n, d)), empty((n, d))
    w, dw = normal(rng, (d, m)), empty((d, m))
    dy, y = normal(rng, (n, m)), empty((n, m))
    bias, dbias = normal(rng, (m,)), empty((m,))
    want, grads = reference.dense(x, w, bias), reference.dense_grad(x, w, dy)
    return [
        Case("forward", 2 * n * d * m, lambda: dense.forward(x, w, bias, y), lambda: relative_error(y, want)),
        Case("backward", 4 * n * d * m, lambda: dense.backward(x, w, dy, dw, dbias, dx),
             lambda: max(relative_error(dx, grads[0]), relative_error(dw, grads[1]))),
    ]  # fmt: skip
