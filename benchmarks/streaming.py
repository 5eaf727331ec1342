"""The kernels that move data and compute little on the way, with the bytes that they must read and write."""

import numpy as np
import reference

from benchmarks import dropout, rivals
from benchmarks.machine import Case, relative_error
from minicnn import optimizers
from minicnn._ext import activation, batch, gaussian, loss, norm, pool, reshape
from minicnn.layers.activation import LEAKY_RELU_SLOPE, Function

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
    yield "PReLU, 16x16 pixels, 64 channels", prelu(n >> 14, 256, 64, True, rng)
    yield "PReLU, 16,384 elements", prelu(n >> 14, 256, 64, False, rng)
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
    for size, c in ((32, 32), (64, 3)):
        yield f"{size}x{size}x{c}, twice", upsampling(max(1, n // (4 * size * size * c)), size, c, rng)
    for shape, dims in (((32, 32, 64), (3, 1, 2)), ((64, 32, 32), (2, 3, 1)), ((64, 64, 16), (2, 1, 3))):
        yield f"{shape}, axes {dims}", permutation(max(1, n // (shape[0] * shape[1] * shape[2])), shape, dims, rng)
    yield from updates(n, rng)
    for kind in (np.uint8, np.float32):
        yield f"28x28x1 {kind.__name__}", gather(n // 784, kind, rng)


def normal(rng, *shape):
    return rng.standard_normal(shape, np.float32)


def rescale(n, rng):
    x, y = normal(rng, SAMPLES, n // SAMPLES), np.empty((SAMPLES, n // SAMPLES), np.float32)
    return [Case("rescale", 8 * n, lambda: reshape.rescale(x, 0.5, 2.0, y),
                 lambda: relative_error(y[SOME], 0.5 * x[SOME] + 2.0))]  # fmt: skip


def elementwise(name, n, rng):
    shape, function = (SAMPLES, n // SAMPLES), Function(name)
    x, dy, y, dx = normal(rng, *shape), normal(rng, *shape), *np.empty((2, *shape), np.float32)
    few = slice(None, None, 97), slice(None, None, 97)  # the reference is slow
    curve, saved, slope = function.curve, x if function.needs_input else y, LEAKY_RELU_SLOPE
    return [
        Case("forward", 8 * n, lambda: activation.forward(curve, x, y),
             lambda: relative_error(y[few], reference.activation(name, x[few], slope))),
        Case("backward", 12 * n, lambda: activation.backward(curve, saved, dy, dx),
             lambda: relative_error(dx[few], reference.activation_grad(name, x[few], dy[few], slope))),
    ]  # fmt: skip


def prelu(n, pixels, c, shared, rng):
    """One alpha for each channel, or for each element."""
    x, dy, y, dx = normal(rng, n, pixels * c), normal(rng, n, pixels * c), *np.empty((2, n, pixels * c), np.float32)
    alpha = normal(rng, c if shared else pixels * c)
    places, dalpha = np.arange(len(alpha)), np.empty_like(alpha)

    def images(a):
        return a.reshape(n, pixels, c)

    def backward_error():
        alphas = alpha.reshape(-1, c)
        found = reference.prelu_grad(images(x), alphas, images(dy))
        return max(relative_error(images(dx)[SOME], found[0][SOME]), relative_error(dalpha, found[1].reshape(-1)))

    return [
        Case("forward", 8 * x.size, lambda: activation.prelu(x, alpha, places, y),
             lambda: relative_error(images(y)[SOME], reference.prelu(images(x)[SOME], alpha.reshape(-1, c)))),
        Case("backward", 12 * x.size, lambda: activation.prelu_backward(x, dy, alpha, places, dalpha, dx),
             backward_error),
    ]  # fmt: skip


def softmax(k, n, rng):
    x, dy, y, logs, dx = normal(rng, n, 1, k), normal(rng, n, 1, k), *np.empty((3, n, 1, k), np.float32)
    labels, losses, gradient = rng.integers(0, k, n), np.empty(n), np.empty((n, k), np.float32)
    target, logits = reference.one_hot(labels[SOME], k), x.reshape(n, k)

    def cross_entropy_error():
        want = reference.softmax_cross_entropy(logits[SOME], target)[1] * len(target)
        return relative_error(n * gradient[SOME], want)

    def rows(kind, numbers, given, gamma):
        how = (loss.ROW_KINDS[kind], logits, numbers, given, None, 1.0, 0.0, gamma, np.ones(1), True)
        return lambda: loss.rows(*how, gradient, losses)

    def rows_error(twin, *arguments):
        want = reference.behind_softmax(twin, logits[SOME], target, *arguments)[1] * len(target)
        return relative_error(n * gradient[SOME], want)

    rows_of_targets = reference.one_hot(labels, k).astype(np.float32)
    return [
        Case("softmax", 8 * n * k, lambda: activation.softmax(x, y),
             lambda: relative_error(y[SOME], reference.softmax(x[SOME]))),
        Case("softmax backward", 12 * n * k, lambda: activation.softmax_backward(y, dy, dx),
             lambda: relative_error(dx[SOME], reference.softmax_grad(x[SOME], dy[SOME]))),
        Case("log-softmax", 8 * n * k, lambda: activation.log_softmax(x, logs),
             lambda: relative_error(logs[SOME], reference.log_softmax(x[SOME]))),
        Case("log-softmax backward", 12 * n * k, lambda: activation.log_softmax_backward(logs, dy, dx),
             lambda: relative_error(dx[SOME], reference.log_softmax_grad(x[SOME], dy[SOME]))),
        Case("softmax and cross-entropy, loss and gradient", 8 * n * k + 16 * n,
             lambda: loss.softmax_crossentropy(logits, labels, None, None, 1.0, 0.0, True, gradient, losses),
             cross_entropy_error),
        Case("softmax and focal cross-entropy, gamma 2", 8 * n * k + 16 * n,
             rows("categorical_focal", labels, None, 2.0),
             lambda: rows_error(reference.categorical_focal, 1.0, 2.0)),
        Case("softmax and divergence, of rows", 12 * n * k + 8 * n, rows("kl_divergence", None, rows_of_targets, 0.0),
             lambda: rows_error(reference.kl_divergence)),
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


def upsampling(n, size, c, rng):
    x, dx = normal(rng, n, size, size, c), np.empty((n, size, size, c), np.float32)
    dy, y = normal(rng, n, 2 * size, 2 * size, c), np.empty((n, 2 * size, 2 * size, c), np.float32)
    few, amount, cases, factors = slice(None, None, max(1, n // 4)), x.nbytes + y.nbytes, [], (2, 2)
    for name in ("nearest", "bilinear"):
        linear = name == "bilinear"
        cases += [
            Case(f"upsampling forward, {name}", amount, lambda linear=linear: reshape.upsample(x, y, factors, linear),
                 lambda name=name: relative_error(y[few], reference.up_sampling2d(x[few], factors, name))),
            Case(f"upsampling backward, {name}", amount,
                 lambda linear=linear: reshape.upsample_backward(dy, dx, factors, linear),
                 lambda name=name: relative_error(
                     dx[few], reference.up_sampling2d_grad(x[few], dy[few], factors, name))),
        ]  # fmt: skip
    return cases


def permutation(n, shape, dims, rng):
    x, order = normal(rng, n, *shape), tuple(axis - 1 for axis in dims)
    y = np.empty_like(np.ascontiguousarray(reference.permute(x, dims)))
    flat, out = x.reshape(n, -1), y.reshape(n, -1)
    return [Case("permute", 2 * x.nbytes, lambda: reshape.permute(flat, out, shape, order),
                 lambda: relative_error(y[SOME], reference.permute(x[SOME], dims)))]  # fmt: skip


OPTIMISERS = [  # name, class and arguments of ours and of torch's, arrays that are remembered
    ("SGD", "SGD", {}, "SGD", {"fused": True}, 0),
    ("SGD with momentum", "SGD", {"momentum": 0.9}, "SGD", {"momentum": 0.9, "fused": True}, 1),
    ("Adam", "Adam", {}, "Adam", {"fused": True}, 2),
    ("AMSGrad", "Adam", {"amsgrad": True}, "Adam", {"amsgrad": True, "fused": True}, 3),
    ("Nadam", "Nadam", {}, "NAdam", {"momentum_decay": 1.0}, 2),
    ("Adamax", "Adamax", {}, "Adamax", {}, 2),
    ("RMSprop", "RMSprop", {}, "RMSprop", {"alpha": 0.9}, 1),
    ("RMSprop, centred, momentum", "RMSprop", {"centered": True, "momentum": 0.9}, "RMSprop",
     {"alpha": 0.9, "centered": True, "momentum": 0.9}, 3),
    ("Adagrad", "Adagrad", {}, "Adagrad", {"initial_accumulator_value": 0.1, "fused": True}, 1),
    ("Adadelta", "Adadelta", {}, "Adadelta", {"rho": 0.95, "eps": 1e-7}, 2),
]  # fmt: skip


def updates(n, rng):
    """An optimiser at a time, beside torch's, in its fused form where it has one."""
    start, gradients = normal(rng, n), normal(rng, n)
    gradients += np.copysign(np.float32(0.1), gradients)  # a small one is where the epsilons stand
    for name, kind, arguments, theirs, more, slots in OPTIMISERS:
        want = getattr(reference, kind.lower())(start[SOME], gradients[None, SOME], 0.25, **arguments)
        parameters, amount = start.copy(), (12 + 8 * slots) * n
        optimizer = getattr(optimizers, kind)(0.25, **arguments)
        optimizer.bind(parameters, gradients, [("w", 0, n, True, True)])
        cases = [Case(name, amount, optimizer.step, error_of(parameters, want))]
        if rivals.have("torch"):
            their_parameters = start.copy()
            step = rivals.torch_step(theirs, their_parameters, gradients, lr=0.25, **more)
            cases.append(Case("PyTorch's", amount, step, error_of(their_parameters, want)))
        yield f"optimiser, {n >> 20} M", cases


def error_of(parameters, want):
    return lambda: relative_error(parameters[SOME], want)


def gather(n, kind, rng):
    source, order = (255 * rng.random((n, 784))).astype(kind), rng.permutation(n)
    out = np.empty((n, 784), np.float32)
    return [Case("gather a batch as float32", source.nbytes + out.nbytes, lambda: batch.gather(source, order, out),
                 lambda: relative_error(out[SOME], source[order[SOME]]))]  # fmt: skip
