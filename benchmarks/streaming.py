"""The kernels that move data and compute little on the way, with the bytes that they must read and write."""

import numpy as np
import reference

from benchmarks import dropout
from benchmarks.machine import Case, relative_error
from minicnn import optimizers
from minicnn._ext import activation, batch, gaussian, loss, norm, pool, reshape
from minicnn.layers.activation import LEAKY_RELU_SLOPE

SAMPLES = 256  # in which the elements are given
SOME = slice(None, None, 7)  # of them are compared, where each is computed by itself


def groups(quick):
    """(label, kernels) one after the other, so that the arrays of one group at a time are in memory."""
    n = 1 << (16 if quick else 24)
    rng = np.random.default_rng(0)
    yield "x -> a x + b", rescale(n, rng)
    for name in activation.KINDS:
        if name != "linear":
            yield name, elementwise(name, n, rng)
    for classes in (10, 1000):
        yield f"{classes} classes", softmax(classes, n // classes, rng)
    yield "dropout, rate 0.25", drop(n, rng)
    yield "32x32x32, 2x2", pooling(n >> 15, 32, 32, rng)
    yield "13x13x64, 2x2", pooling(max(1, n // (13 * 13 * 64)), 13, 64, rng)
    for channels in (32, 48):
        yield f"batch norm, {channels} channels", normalisation(n // channels // 64, channels, rng)
    for length in (32, 64, 256, 1024):
        yield f"layer norm, rows of {length}", of_samples(max(1, n // length // 256), 256, length, 0, rng)
    for size, channels, count in ((32, 32, 8), (8, 64, 32)):
        label = f"group norm, {size}x{size}x{channels}, {count} groups"
        yield label, of_samples(max(1, n // (size * size * channels)), size * size, channels, count, rng)
    yield "normal noise", noise(n, rng)
    yield "8x8x16, a frame of 1", frame(n >> 10, rng)
    yield "optimiser", updates(n, rng)
    for kind in (np.uint8, np.float32):
        yield f"28x28x1 {kind.__name__}", gather(n // 784, kind, rng)


def normal(rng, *shape):
    return rng.standard_normal(shape, np.float32)


def rescale(n, rng):
    x, y = normal(rng, SAMPLES, n // SAMPLES), np.empty((SAMPLES, n // SAMPLES), np.float32)
    return [Case("rescale", 8 * n, lambda: reshape.rescale(x, 0.5, 2.0, y),
                 lambda: relative_error(y[SOME], 0.5 * x[SOME] + 2.0))]  # fmt: skip


def elementwise(name, n, rng):
    shape, kind = (SAMPLES, n // SAMPLES), activation.KINDS[name]
    x, dy, y, dx = normal(rng, *shape), normal(rng, *shape), *np.empty((2, *shape), np.float32)
    few = slice(None, None, 97), slice(None, None, 97)  # the reference is slow
    saved, slope = x if name == "gelu" else y, LEAKY_RELU_SLOPE
    return [
        Case("forward", 8 * n, lambda: activation.forward(kind, slope, x, y),
             lambda: relative_error(y[few], reference.activation(name, x[few], slope))),
        Case("backward", 12 * n, lambda: activation.backward(kind, slope, saved, dy, dx),
             lambda: relative_error(dx[few], reference.activation_grad(name, x[few], dy[few], slope))),
    ]  # fmt: skip


def softmax(k, n, rng):
    x, dy, y, dx = normal(rng, n, 1, k), normal(rng, n, 1, k), *np.empty((2, n, 1, k), np.float32)
    labels, losses, gradient = rng.integers(0, k, n), np.empty(n), np.empty((n, k), np.float32)
    target, logits = reference.one_hot(labels[SOME], k), x.reshape(n, k)

    def cross_entropy_error():
        want = reference.softmax_cross_entropy(logits[SOME], target)[1] * len(target)
        return relative_error(n * gradient[SOME], want)

    return [
        Case("softmax", 8 * n * k, lambda: activation.softmax(x, y),
             lambda: relative_error(y[SOME], reference.softmax(x[SOME]))),
        Case("softmax backward", 12 * n * k, lambda: activation.softmax_backward(y, dy, dx),
             lambda: relative_error(dx[SOME], reference.softmax_grad(x[SOME], dy[SOME]))),
        Case("softmax and cross-entropy, loss and gradient", 8 * n * k + 16 * n,
             lambda: loss.softmax_crossentropy(logits, labels, None, None, 1.0, 0.0, True, gradient, losses),
             cross_entropy_error),
    ]  # fmt: skip


def drop(n, rng):
    forward, backward, error = dropout.kernel(normal(rng, SAMPLES, n // SAMPLES))
    return [Case("forward", 8 * n + n / 8, forward, error), Case("backward", 8 * n + n / 8, backward, error)]


def pooling(n, size, c, rng):
    out, geometry = size // 2, (2, 2, 2, 2, 0, 0)
    x, dx = normal(rng, n, size, size, c), np.empty((n, size, size, c), np.float32)
    dy, y = normal(rng, n, out, out, c), np.empty((n, out, out, c), np.float32)
    winner, few = np.empty(y.shape, np.uint8), slice(None, None, max(1, n // 4))
    return [
        Case("max-pool forward", x.nbytes + y.nbytes + winner.nbytes, lambda: pool.max_forward(x, y, winner, geometry),
             lambda: relative_error(y[few], reference.max_pool2d(x[few]))),
        Case("max-pool backward", dy.nbytes + winner.nbytes + dx.nbytes,
             lambda: pool.max_backward(dy, winner, dx, geometry),
             lambda: relative_error(dx[few], reference.max_pool2d_grad(x[few], dy[few]))),
        Case("average-pool forward", x.nbytes + y.nbytes, lambda: pool.average_forward(x, y, geometry),
             lambda: relative_error(y[few], reference.average_pool2d(x[few]))),
        Case("average-pool backward", dy.nbytes + dx.nbytes, lambda: pool.average_backward(dy, dx, geometry),
             lambda: relative_error(dx[few], reference.average_pool2d_grad(x[few], dy[few]))),
    ]  # fmt: skip


def normalisation(n, c, rng):
    x, dy, y, dx = normal(rng, n, 64, c), normal(rng, n, 64, c), *np.empty((2, n, 64, c), np.float32)
    gamma, beta = normal(rng, 2, c)
    mean, inverse_std, dgamma, dbeta, moving_mean, moving_variance = np.ones((6, c), np.float32)
    return [
        Case("forward in training", 12 * x.size,  # the statistics are a pass of their own
             lambda: norm.forward_training(x, gamma, beta, 1e-3, 0.99, mean, inverse_std, moving_mean,
                                           moving_variance, y),
             lambda: relative_error(y, reference.batch_norm(x, gamma, beta)[0])),
        Case("backward", 20 * x.size, lambda: norm.backward(x, dy, gamma, mean, inverse_std, dgamma, dbeta, dx),
             lambda: relative_error(dx, reference.batch_norm_grad(x, gamma, dy)[0])),
        Case("forward in evaluation", 8 * x.size,
             lambda: norm.forward(x, gamma, beta, 1e-3, moving_mean, moving_variance, y),
             lambda: relative_error(y, reference.batch_norm_eval(x, gamma, beta, moving_mean, moving_variance))),
    ]  # fmt: skip


def of_samples(n, rows, c, count, rng):
    """Layer normalisation for a count of 0, otherwise group normalisation with so many groups."""
    x, dy, y, dx = normal(rng, n, rows, c), normal(rng, n, rows, c), *np.empty((2, n, rows, c), np.float32)
    (gamma, beta), (dgamma, dbeta) = normal(rng, 2, c), np.empty((2, c), np.float32)
    kept, few = np.empty((n, count or rows, 3), np.float32), slice(None, None, max(1, n // 4))

    if count:
        want = lambda: reference.group_norm(x[few], gamma, beta, count)  # noqa: E731
        slope = lambda: reference.group_norm_grad(x[few], gamma, dy[few], count)[0]  # noqa: E731
    else:
        want = lambda: reference.layer_norm(x[few], gamma, beta)  # noqa: E731
        slope = lambda: reference.layer_norm_grad(x[few], gamma, dy[few])[0]  # noqa: E731
    return [
        Case("forward", 8 * x.size, lambda: norm.normalize_samples(x, count, gamma, beta, 1e-3, kept, y),
             lambda: relative_error(y[few], want())),
        Case("backward", 12 * x.size,
             lambda: norm.normalize_samples_backward(x, dy, count, gamma, kept, dgamma, dbeta, dx),
             lambda: relative_error(dx[few], slope())),
    ]  # fmt: skip


def noise(n, rng):
    x, y, sigma = normal(rng, SAMPLES, n // SAMPLES), np.empty((SAMPLES, n // SAMPLES), np.float32), np.array([0.5])
    draw, few = np.array([1, 5, 0, 48, 0, 1 << 62], np.uint64), (0, slice(None, 200))  # layer 3 of a model of seed 5
    factors = reference.gaussian_factors(5, 3, 0, (200,), 0.5)
    return [
        Case("added", 8 * n, lambda: gaussian.add(x, y, draw, sigma),
             lambda: relative_error(y[few], x[few] + factors - 1)),
        Case("multiplied", 8 * n, lambda: gaussian.multiply(x, y, draw, sigma),
             lambda: relative_error(y[few], x[few] * factors)),
    ]  # fmt: skip


def frame(n, rng):
    small, large = normal(rng, n, 8, 8, 16), np.empty((n, 10, 10, 16), np.float32)
    again, size = np.empty_like(small), 2 * small.nbytes
    return [
        Case("pad", small.nbytes + large.nbytes, lambda: reshape.pad(small, large, 1, 1),
             lambda: relative_error(large, reference.zero_padding2d(small, ((1, 1), (1, 1))))),
        Case("crop", size, lambda: reshape.crop(large, again, 1, 1), lambda: relative_error(again, small)),
    ]  # fmt: skip


def updates(n, rng):
    start, gradients = normal(rng, n), normal(rng, n)

    def case(name, optimizer, amount, change):
        """``change``: of a parameter at the first step, as a function of its gradient."""
        parameters = start.copy()
        optimizer.bind(parameters, gradients, [("w", 0, n, True, True)])
        return Case(name, amount, optimizer.step,
                    lambda: relative_error(parameters[SOME], start[SOME] + change(gradients[SOME])))  # fmt: skip

    def adam(g):
        g = g.astype(np.float64)
        return -0.25 * np.sqrt(0.001) * g / (np.sqrt(0.001 * g * g) + 1e-7)

    return [
        case("SGD", optimizers.SGD(0.25), 12 * n, lambda g: -0.25 * g),
        case("SGD with momentum", optimizers.SGD(0.25, momentum=0.9), 20 * n, lambda g: -0.25 * g),
        case("Adam", optimizers.Adam(0.25), 28 * n, adam),
    ]


def gather(n, kind, rng):
    source, order = (255 * rng.random((n, 784))).astype(kind), rng.permutation(n)
    out = np.empty((n, 784), np.float32)
    return [Case("gather a batch as float32", source.nbytes + out.nbytes, lambda: batch.gather(source, order, out),
                 lambda: relative_error(out[SOME], source[order[SOME]]))]  # fmt: skip
