"""The float64 NumPy twin of every layer and loss: the formulas, as plainly as they can be written.

It shares no code with minicnn and is the judge of its kernels; ``test_reference.py`` proves it by finite differences.
Letters: N batch; H W C in; OH OW F out; KH KW kernel; D in, M out features.  ``f(x, ...)`` is a forward pass and
``f_grad(x, ..., dy)`` its backward pass: the gradients of sum(f(x, ...) * dy), in the order of f's array arguments.
"""

import math

import numpy as np

# ---- windows: what "valid", "same" and ((top, bottom), (left, right)) mean along one axis ----


def window_grid(size, window, stride, padding, dilation=1):
    """(cells added before, cells added after, number of windows) along an axis of ``size`` cells; ``padding`` of that
    axis: a word, or the cells before and after."""
    reach = (window - 1) * dilation + 1
    if not isinstance(padding, str):
        return *padding, (padding[0] + size + padding[1] - reach) // stride + 1
    if padding == "valid":
        return 0, 0, (size - reach) // stride + 1
    count = math.ceil(size / stride)
    missing = max(0, (count - 1) * stride + reach - size)
    return missing // 2, missing - missing // 2, count  # the odd cell at the end


def _taps(kh, kw, oh, ow, strides, dilation):
    """For every cell (a, b) of the kernel the slices of padded rows and columns that it meets."""
    for a in range(kh):
        for b in range(kw):
            rows = slice(a * dilation[0], a * dilation[0] + (oh - 1) * strides[0] + 1, strides[0])
            columns = slice(b * dilation[1], b * dilation[1] + (ow - 1) * strides[1] + 1, strides[1])
            yield a, b, (slice(None), rows, columns)


def _along(padding, axis):
    return padding if isinstance(padding, str) else padding[axis]


def _grids(x, kernel, strides, padding, dilation):
    return [window_grid(x.shape[i + 1], kernel.shape[i], strides[i], _along(padding, i), dilation[i]) for i in (0, 1)]


# ---- convolution and dense ----


def conv2d(x, kernel, bias=None, strides=(1, 1), padding="valid", dilation=(1, 1), groups=1):
    """y[n,i,j,f] = bias[f] + sum_{a,b,c} xp[n, i sh + a dh, j sw + b dw, c] kernel[a,b,c,f], xp = x padded.

    With groups, the filters of group g (F/groups of them) see the channels of group g (C/groups of them).
    """
    (top, bottom, oh), (left, right, ow) = _grids(x, kernel, strides, padding, dilation)
    xp = np.pad(x.astype(np.float64), ((0, 0), (top, bottom), (left, right), (0, 0)))
    c, f = kernel.shape[2], kernel.shape[3] // groups
    y = np.zeros((len(x), oh, ow, kernel.shape[3]))
    for a, b, window in _taps(*kernel.shape[:2], oh, ow, strides, dilation):
        for g in range(groups):
            filters = slice(g * f, (g + 1) * f)
            y[..., filters] += xp[window][..., g * c : (g + 1) * c] @ kernel[a, b, :, filters].astype(np.float64)
    return y if bias is None else y + bias


def conv2d_grad(x, kernel, dy, strides=(1, 1), padding="valid", dilation=(1, 1), groups=1):
    """(dx, dkernel, dbias)."""
    (top, bottom, oh), (left, right, ow) = _grids(x, kernel, strides, padding, dilation)
    xp = np.pad(x.astype(np.float64), ((0, 0), (top, bottom), (left, right), (0, 0)))
    dy = dy.astype(np.float64)
    dxp, dkernel = np.zeros_like(xp), np.zeros(kernel.shape)
    c, f = kernel.shape[2], kernel.shape[3] // groups
    for a, b, window in _taps(*kernel.shape[:2], oh, ow, strides, dilation):
        for g in range(groups):
            channels, filters = slice(g * c, (g + 1) * c), slice(g * f, (g + 1) * f)
            part = dy[..., filters]
            dkernel[a, b, :, filters] = np.tensordot(xp[window][..., channels], part, axes=([0, 1, 2], [0, 1, 2]))
            dxp[window][..., channels] += part @ kernel[a, b, :, filters].astype(np.float64).T
    dx = dxp[:, top : top + x.shape[1], left : left + x.shape[2]]
    return dx, dkernel, dy.sum((0, 1, 2))


def depthwise_conv2d(x, kernel, bias=None, strides=(1, 1), padding="valid", dilation=(1, 1)):
    """y[n,i,j,c M + m] = bias[c M + m] + sum_{a,b} xp[n, i sh + a dh, j sw + b dw, c] kernel[a,b,c,m], m < M."""
    (top, bottom, oh), (left, right, ow) = _grids(x, kernel, strides, padding, dilation)
    xp = np.pad(x.astype(np.float64), ((0, 0), (top, bottom), (left, right), (0, 0)))
    y = np.zeros((len(x), oh, ow, *kernel.shape[2:]))
    for a, b, window in _taps(*kernel.shape[:2], oh, ow, strides, dilation):
        y += xp[window][..., None] * kernel[a, b].astype(np.float64)
    y = y.reshape(*y.shape[:3], kernel.shape[2] * kernel.shape[3])
    return y if bias is None else y + bias


def depthwise_conv2d_grad(x, kernel, dy, strides=(1, 1), padding="valid", dilation=(1, 1)):
    """(dx, dkernel, dbias)."""
    (top, bottom, oh), (left, right, ow) = _grids(x, kernel, strides, padding, dilation)
    xp = np.pad(x.astype(np.float64), ((0, 0), (top, bottom), (left, right), (0, 0)))
    dxp, dkernel = np.zeros_like(xp), np.zeros(kernel.shape)
    each = dy.astype(np.float64).reshape(*dy.shape[:3], *kernel.shape[2:])
    for a, b, window in _taps(*kernel.shape[:2], oh, ow, strides, dilation):
        dkernel[a, b] = (xp[window][..., None] * each).sum((0, 1, 2))
        dxp[window] += (each * kernel[a, b].astype(np.float64)).sum(-1)
    dx = dxp[:, top : top + x.shape[1], left : left + x.shape[2]]
    return dx, dkernel, dy.astype(np.float64).sum((0, 1, 2))


def separable_conv2d(x, depthwise, pointwise, bias=None, strides=(1, 1), padding="valid", dilation=(1, 1)):
    """The depthwise convolution, then y[n,i,j,f] = bias[f] + sum_c u[n,i,j,c] pointwise[0,0,c,f]."""
    return conv2d(depthwise_conv2d(x, depthwise, None, strides, padding, dilation), pointwise, bias)


def separable_conv2d_grad(x, depthwise, pointwise, dy, strides=(1, 1), padding="valid", dilation=(1, 1)):
    """(dx, ddepthwise, dpointwise, dbias)."""
    u = depthwise_conv2d(x, depthwise, None, strides, padding, dilation)
    du, dpointwise, dbias = conv2d_grad(u, pointwise, dy)
    dx, ddepthwise, _ = depthwise_conv2d_grad(x, depthwise, du, strides, padding, dilation)
    return dx, ddepthwise, dpointwise, dbias


def transposed_grid(size, window, stride, padding, extra, dilation=1):
    """(cells cut off before, number of cells) along an axis of the output of a transposed convolution.

    In Keras 3's words: ``size`` cells, with stride - 1 zeros between them and so many zeros before and after, are
    convolved with the turned kernel.  ``padding`` may also be (cells cut off before, after).
    """
    reach = (window - 1) * dilation + 1
    if padding == "valid":
        before, after = reach - 1, reach - 1 + (max(reach, stride) - reach if extra is None else extra)
    elif padding == "same":
        total = stride + reach - 2 if extra is None else reach + reach % 2 - 2 + extra
        before = min(math.ceil(total / 2), reach - 1)
        after = total - before
    else:
        before, after = reach - 1 - padding[0], reach - 1 - padding[1] + (extra or 0)
    return reach - 1 - before, (size - 1) * stride + 1 + before + after - (reach - 1)


def conv2d_transpose(x, kernel, bias, shape, cut, strides=(1, 1), dilation=(1, 1)):
    """Every pixel of x adds its row of the kernel to the window at (i sh - top, j sw - left) of an output of ``shape``.

    y[n, i sh + a dh - top, j sw + b dw - left, f] += sum_c x[n,i,j,c] kernel[a,b,f,c], and bias[f]; cut = (top, left).
    """
    x, kernel = x.astype(np.float64), kernel.astype(np.float64)
    y = np.zeros((len(x), *shape, kernel.shape[2]))
    for a, b, here, there in _scattered(x, kernel, shape, cut, strides, dilation):
        y[there] += x[here] @ kernel[a, b].T
    return y if bias is None else y + bias


def conv2d_transpose_grad(x, kernel, dy, cut, strides=(1, 1), dilation=(1, 1)):
    """(dx, dkernel, dbias)."""
    x, kernel, dy = (array.astype(np.float64) for array in (x, kernel, dy))
    dx, dkernel = np.zeros_like(x), np.zeros_like(kernel)
    for a, b, here, there in _scattered(x, kernel, dy.shape[1:3], cut, strides, dilation):
        dx[here] += dy[there] @ kernel[a, b]
        dkernel[a, b] = np.tensordot(dy[there], x[here], axes=([0, 1, 2], [0, 1, 2]))
    return dx, dkernel, dy.sum((0, 1, 2))


def _scattered(x, kernel, shape, cut, strides, dilation):
    """For every cell (a, b) of the kernel the pixels of x that it takes to a pixel of y, and those."""
    for a in range(kernel.shape[0]):
        for b in range(kernel.shape[1]):
            at = [np.arange(x.shape[1 + i]) * strides[i] + (a, b)[i] * dilation[i] - cut[i] for i in (0, 1)]
            inside = [np.flatnonzero((at[i] >= 0) & (at[i] < shape[i])) for i in (0, 1)]
            yield (
                a,
                b,
                (slice(None), *np.ix_(inside[0], inside[1])),
                (slice(None), *np.ix_(at[0][inside[0]], at[1][inside[1]])),
            )


def dense(x, kernel, bias=None):
    """y[n,m] = bias[m] + sum_d x[n,d] kernel[d,m]."""
    y = x.astype(np.float64) @ kernel.astype(np.float64)
    return y if bias is None else y + bias


def dense_grad(x, kernel, dy):
    """(dx, dkernel, dbias)."""
    x, kernel, dy = (array.astype(np.float64) for array in (x, kernel, dy))
    return dy @ kernel.T, x.T @ dy, dy.sum(0)


# ---- pooling: windows hold real pixels only, padding counts for nothing ----


def _windows(x, pool, strides, padding):
    """(i, j, rows, columns) of every window, clipped to the image."""
    top, _, oh = window_grid(x.shape[1], pool[0], strides[0], _along(padding, 0))
    left, _, ow = window_grid(x.shape[2], pool[1], strides[1], _along(padding, 1))
    for i in range(oh):
        for j in range(ow):
            row, column = i * strides[0] - top, j * strides[1] - left
            rows = slice(max(row, 0), min(row + pool[0], x.shape[1]))
            yield i, j, rows, slice(max(column, 0), min(column + pool[1], x.shape[2]))


def _pooled_shape(x, pool, strides, padding):
    oh = window_grid(x.shape[1], pool[0], strides[0], _along(padding, 0))[2]
    return len(x), oh, window_grid(x.shape[2], pool[1], strides[1], _along(padding, 1))[2], x.shape[3]


def max_pool2d(x, pool=(2, 2), strides=(2, 2), padding="valid"):
    """The largest value of every window; NaN if there is one."""
    y = np.zeros(_pooled_shape(x, pool, strides, padding))
    for i, j, rows, columns in _windows(x, pool, strides, padding):
        y[:, i, j] = x[:, rows, columns].max((1, 2))
    return y


def max_pool2d_grad(x, dy, pool=(2, 2), strides=(2, 2), padding="valid"):
    """dx: every window gives its dy to its largest value, the first of equals in row order (or to its first NaN)."""
    dx = np.zeros(x.shape)
    samples, channels = np.ix_(range(x.shape[0]), range(x.shape[3]))
    for i, j, rows, columns in _windows(x, pool, strides, padding):
        window = x[:, rows, columns]
        first = window.reshape(len(x), window.shape[1] * window.shape[2], x.shape[3]).argmax(1)
        a, b = np.divmod(first, window.shape[2])
        dx[samples, rows.start + a, columns.start + b, channels] += dy[:, i, j]
    return dx


def average_pool2d(x, pool=(2, 2), strides=(2, 2), padding="valid", whole=False):
    """The mean of the real pixels of every window; with ``whole`` their sum, divided by the size of the window."""
    y = np.zeros(_pooled_shape(x, pool, strides, padding))
    for i, j, rows, columns in _windows(x, pool, strides, padding):
        area = pool[0] * pool[1] if whole else (rows.stop - rows.start) * (columns.stop - columns.start)
        y[:, i, j] = x[:, rows, columns].astype(np.float64).sum((1, 2)) / area
    return y


def average_pool2d_grad(x, dy, pool=(2, 2), strides=(2, 2), padding="valid", whole=False):
    dx = np.zeros(x.shape)
    for i, j, rows, columns in _windows(x, pool, strides, padding):
        area = pool[0] * pool[1] if whole else (rows.stop - rows.start) * (columns.stop - columns.start)
        dx[:, rows, columns] += dy[:, i : i + 1, j : j + 1].astype(np.float64) / area
    return dx


def global_max_pool2d(x):
    return x.astype(np.float64).max((1, 2))


def global_max_pool2d_grad(x, dy):
    return max_pool2d_grad(x, dy[:, None, None], x.shape[1:3], x.shape[1:3])


def global_average_pool2d(x):
    return x.astype(np.float64).mean((1, 2))


def global_average_pool2d_grad(x, dy):
    return np.broadcast_to(dy[:, None, None].astype(np.float64) / (x.shape[1] * x.shape[2]), x.shape)


# ---- activations: f and its derivative, element by element; at the corner of ReLU and LeakyReLU the left one, where a
# bound is reached 0, and where HardSwish becomes x, 1 ----

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _where_positive(x, positive, otherwise):
    return np.where(x > 0, positive, otherwise)


def _normal_density(x):
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _sigmoid(x):
    return np.where(x > 0, 1.0, np.exp(-np.abs(x))) / (1 + np.exp(-np.abs(x)))


SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def _inside(x, low, high, value, otherwise=0.0):
    return np.where((x > low) & (x < high), value, otherwise)


def relu(x, max_value=None, negative_slope=0.0, threshold=0.0):
    """Keras's formula; see layers.ReLU."""
    return np.where(x > threshold, np.minimum(x, np.inf if max_value is None else max_value),
                    negative_slope * (x - threshold))  # fmt: skip


def relu_grad(x, dy, max_value=None, negative_slope=0.0, threshold=0.0):
    return dy * np.where(x > threshold, x < (np.inf if max_value is None else max_value), negative_slope)


def prelu(x, alpha):
    """alpha: the shape of a sample, with 1 along shared axes."""
    return np.where(x > 0, x, alpha * x)


def prelu_grad(x, alpha, dy):
    """(dx, dalpha)."""
    x, dy = x.astype(np.float64), dy.astype(np.float64)
    shared = tuple(axis + 1 for axis, size in enumerate(alpha.shape) if size == 1)
    dalpha = np.where(x > 0, 0, x * dy).sum((0, *shared), keepdims=True)[0]
    return np.where(x > 0, dy, alpha * dy), dalpha


ACTIVATIONS = {  # name: (f(x, slope), f'(x, slope)); only leaky_relu has a slope
    "linear": (lambda x, slope: x, lambda x, slope: np.ones_like(x)),
    "relu": (lambda x, slope: np.maximum(x, 0), lambda x, slope: _where_positive(x, 1.0, 0.0)),
    "leaky_relu": (lambda x, slope: _where_positive(x, x, slope * x), lambda x, slope: _where_positive(x, 1.0, slope)),
    "elu": (
        lambda x, slope: _where_positive(x, x, np.expm1(np.minimum(x, 0))),
        lambda x, slope: _where_positive(x, 1.0, np.exp(np.minimum(x, 0))),
    ),
    "gelu": (
        lambda x, slope: x * (1 + _erf(x / math.sqrt(2))) / 2,
        lambda x, slope: (1 + _erf(x / math.sqrt(2))) / 2 + x * _normal_density(x),
    ),
    "sigmoid": (lambda x, slope: _sigmoid(x), lambda x, slope: _sigmoid(x) * _sigmoid(-x)),
    "tanh": (lambda x, slope: np.tanh(x), lambda x, slope: 1 - np.tanh(x) ** 2),
    "relu6": (lambda x, slope: np.clip(x, 0, 6), lambda x, slope: _inside(x, 0, 6, 1.0)),
    "selu": (
        lambda x, slope: SELU_SCALE * _where_positive(x, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
        lambda x, slope: SELU_SCALE * _where_positive(x, 1.0, SELU_ALPHA * np.exp(np.minimum(x, 0))),
    ),
    "swish": (lambda x, slope: x * _sigmoid(x), lambda x, slope: _sigmoid(x) * (1 + x * _sigmoid(-x))),
    "hard_swish": (
        lambda x, slope: x * np.clip(x + 3, 0, 6) / 6,
        lambda x, slope: _inside(x, -3, 3, (2 * x + 3) / 6, np.where(x < 0, 0.0, 1.0)),
    ),
    "hard_sigmoid": (lambda x, slope: np.clip(x + 3, 0, 6) / 6, lambda x, slope: _inside(x, -3, 3, 1 / 6)),
    "softplus": (lambda x, slope: np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0), lambda x, slope: _sigmoid(x)),
    "softsign": (lambda x, slope: x / (1 + np.abs(x)), lambda x, slope: 1 / (1 + np.abs(x)) ** 2),
    "exponential": (lambda x, slope: np.exp(x), lambda x, slope: np.exp(x)),
}
ROWS = ("softmax", "log_softmax")  # along the last axis


def activation(name, x, slope=0.0):
    if name in ROWS:
        return {"softmax": softmax, "log_softmax": log_softmax}[name](x)
    return ACTIVATIONS[name][0](x.astype(np.float64), slope)


def activation_grad(name, x, dy, slope=0.0):
    if name in ROWS:
        return {"softmax": softmax_grad, "log_softmax": log_softmax_grad}[name](x, dy)
    return ACTIVATIONS[name][1](x.astype(np.float64), slope) * dy


def softmax(x):
    """p = exp(x) / sum exp(x) along the last axis."""
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_grad(x, dy):
    """dx_k = p_k (dy_k - sum_l p_l dy_l)."""
    p = softmax(x)
    return p * (dy - (p * dy).sum(-1, keepdims=True))


def log_softmax(x):
    """log p = x - max - log(1 + r), r = the sum of exp(x - max) but for the largest term."""
    z = np.sort(x.astype(np.float64) - x.max(-1, keepdims=True), -1)
    return x.astype(np.float64) - x.max(-1, keepdims=True) - np.log1p(np.exp(z[..., :-1]).sum(-1, keepdims=True))


def log_softmax_grad(x, dy):
    """dx_k = dy_k - p_k sum_l dy_l."""
    return dy - softmax(x) * dy.astype(np.float64).sum(-1, keepdims=True)


# ---- batch normalisation: over all axes but the last ----


def batch_norm(x, gamma, beta, epsilon=1e-3):
    """(y, mean, variance): y = gamma (x - mean) / sqrt(variance + epsilon) + beta with the batch's biased variance."""
    x = x.astype(np.float64)
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axes), x.var(axes)
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta, mean, variance


def batch_norm_grad(x, gamma, dy, epsilon=1e-3):
    """(dx, dgamma, dbeta).  With z = (x - mean) / s, s = sqrt(variance + epsilon), and M(.) the mean over the batch:

    dx = gamma / s (dy - M(dy) - z M(dy z)), since mean and variance depend on x too.
    """
    x, dy = x.astype(np.float64), dy.astype(np.float64)
    axes = tuple(range(x.ndim - 1))
    s = np.sqrt(x.var(axes) + epsilon)
    z = (x - x.mean(axes)) / s
    dx = gamma / s * (dy - dy.mean(axes) - z * (dy * z).mean(axes))
    return dx, (dy * z).sum(axes), dy.sum(axes)


def _each_sample(x, groups):
    """x (N, ..., C) as (N, pixels, groups, channels of a group)."""
    return x.astype(np.float64).reshape(len(x), math.prod(x.shape[1:-1]), groups, x.shape[-1] // groups)


def _standardized(x, axes, epsilon):
    """(z, s): z = (x - mean) s, s = 1 / sqrt(variance + epsilon), with mean and biased variance over these axes."""
    s = 1 / np.sqrt(x.var(axes, keepdims=True) + epsilon)
    return (x - x.mean(axes, keepdims=True)) * s, s


def _through_statistics(z, s, g, axes):
    """dx for g = dL/dz: mean and variance depend on x too."""
    return s * (g - g.mean(axes, keepdims=True) - z * (g * z).mean(axes, keepdims=True))


def layer_norm(x, gamma, beta, epsilon=1e-3):
    """y = gamma z + beta with statistics of each sample over the last axes, those that gamma has."""
    axes = tuple(range(x.ndim - gamma.ndim, x.ndim))
    return gamma * _standardized(x.astype(np.float64), axes, epsilon)[0] + beta


def layer_norm_grad(x, gamma, dy, epsilon=1e-3):
    """(dx, dgamma, dbeta)."""
    axes, others = tuple(range(x.ndim - gamma.ndim, x.ndim)), tuple(range(x.ndim - gamma.ndim))
    (z, s), dy = _standardized(x.astype(np.float64), axes, epsilon), dy.astype(np.float64)
    return _through_statistics(z, s, gamma * dy, axes), (dy * z).sum(others), dy.sum(others)


def group_norm(x, gamma, beta, groups, epsilon=1e-3):
    """y = gamma z + beta with statistics of each sample over all pixels and the channels of a group."""
    z, _ = _standardized(_each_sample(x, groups), (1, 3), epsilon)
    return gamma * z.reshape(x.shape) + beta


def group_norm_grad(x, gamma, dy, groups, epsilon=1e-3):
    """(dx, dgamma, dbeta)."""
    z, s = _standardized(_each_sample(x, groups), (1, 3), epsilon)
    dx = _through_statistics(z, s, _each_sample(gamma * dy.astype(np.float64), groups), (1, 3)).reshape(x.shape)
    others, dy = tuple(range(x.ndim - 1)), dy.astype(np.float64)
    return dx, (dy * z.reshape(x.shape)).sum(others), dy.sum(others)


def batch_norm_eval(x, gamma, beta, moving_mean, moving_variance, epsilon=1e-3):
    return gamma * (x.astype(np.float64) - moving_mean) / np.sqrt(moving_variance + epsilon) + beta


def moving(old, batch, momentum=0.99):
    return momentum * old + (1 - momentum) * batch


# ---- shapes and scales ----


def rescaling(x, scale, offset=0.0):
    return scale * x.astype(np.float64) + offset


def rescaling_grad(x, scale, dy):
    return scale * dy.astype(np.float64)


def temperature(x, t):
    return x.astype(np.float64) / t


def temperature_grad(x, t, dy):
    return dy.astype(np.float64) / t


def zero_padding2d(x, padding):
    return np.pad(x, ((0, 0), *padding, (0, 0)))


def zero_padding2d_grad(x, padding, dy):
    (top, _), (left, _) = padding
    return dy[:, top : top + x.shape[1], left : left + x.shape[2]]


def cropping2d(x, cropping):
    (top, bottom), (left, right) = cropping
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


def cropping2d_grad(x, cropping, dy):
    return np.pad(dy, ((0, 0), *cropping, (0, 0)))


def _upsampling_weights(size, times, interpolation):
    """(size * times, size): the share of each pixel in each output along an axis."""
    weights = np.zeros((size * times, size))
    for o in range(size * times):
        if interpolation == "nearest":
            weights[o, o // times] = 1
            continue
        s = min(max((o + 0.5) / times - 0.5, 0), size - 1)
        for k in range(size):
            weights[o, k] = max(0, 1 - abs(s - k))
    return weights


def up_sampling2d(x, size=(2, 2), interpolation="nearest"):
    rows, columns = (_upsampling_weights(x.shape[1 + i], size[i], interpolation) for i in (0, 1))
    return np.einsum("ik,jl,nklc->nijc", rows, columns, x.astype(np.float64))


def up_sampling2d_grad(x, dy, size=(2, 2), interpolation="nearest"):
    rows, columns = (_upsampling_weights(x.shape[1 + i], size[i], interpolation) for i in (0, 1))
    return np.einsum("ik,jl,nijc->nklc", rows, columns, dy.astype(np.float64))


def permute(x, dims):
    """Axis k of y is axis dims[k - 1] of x, for k >= 1."""
    return x.transpose(0, *dims)


def permute_grad(dy, dims):
    return np.moveaxis(dy, range(1, dy.ndim), dims)


# ---- dropout, and the random numbers behind its mask ----


def dropout(x, keep, rate, mode="inverted"):
    """Training: x / (1 - rate) where kept, 0 where dropped; without the scale in classical mode."""
    y = np.zeros(x.shape)
    y[keep] = x[keep].astype(np.float64) * (1 / (1 - rate) if mode == "inverted" else 1.0)
    return y


def dropout_grad(x, keep, rate, dy, mode="inverted"):
    """dx: the same mask and the same scale on dy."""
    return dropout(dy, keep, rate, mode)


def stochastic_depth(x, keep, rate):
    """Training: sample n is x[n] / (1 - rate) where keep[n], else 0.  keep: (N,)."""
    return np.array([x[n].astype(np.float64) / (1 - rate) if keep[n] else np.zeros(x[n].shape) for n in range(len(x))])


def stochastic_depth_grad(x, keep, rate, dy):
    return stochastic_depth(dy, keep, rate)


SELU_LOWEST = -1.0507009873554805 * 1.6732632423543772


def alpha_dropout(x, keep, rate):
    """Training: a (x where kept, else alpha') + b, with b made of the rate that is drawn, a whole number of 1/65536."""
    drawn = min(max(round(rate * 65536), 1), 65535) / 65536
    a = 1 / math.sqrt((1 - rate) * (1 + rate * SELU_LOWEST**2))
    y = np.full(x.shape, a * SELU_LOWEST)
    y[keep] = a * x[keep].astype(np.float64)
    return y - a * SELU_LOWEST * drawn


def alpha_dropout_grad(x, keep, rate, dy):
    """dx: a dy where kept, else 0."""
    dx = np.zeros(dy.shape)
    dx[keep] = dy[keep].astype(np.float64) / math.sqrt((1 - rate) * (1 + rate * SELU_LOWEST**2))
    return dx


def drop_block_mask(seed, number, step, shape, rate, block, purpose=0):
    """True = kept, for images of ``shape`` (N, H, W, C): no block whose first corner was drawn covers it."""
    n, h, w, c = shape
    gamma = rate / block**2 * h * w / ((h - block + 1) * (w - block + 1))
    corners = dropout_mask(seed, number, step, (n, h - block + 1, w - block + 1, c), gamma, purpose)
    keep = np.ones(shape, bool)
    for s, i, j, channel in np.argwhere(~corners):
        keep[s, i : i + block, j : j + block, channel] = False
    return keep


def drop_block(x, keep):
    """Training: every sample by itself, times (its elements) / (those that it keeps)."""
    y = np.zeros(x.shape)
    for s, kept in enumerate(keep):
        y[s][kept] = x[s][kept].astype(np.float64) * (kept.size / max(kept.sum(), 1))
    return y


def drop_block_grad(x, keep, dy):
    return drop_block(dy, keep)


def dropconnect(x, kernel, keep, rate, bias=None, mode="inverted"):
    """y[n,m] = bias[m] + scale sum_d x[n,d] kernel[d,m] over the weights that keep[n,d,m] keeps."""
    kept = np.zeros(keep.shape)
    kept[keep] = (x.astype(np.float64)[:, :, None] * kernel.astype(np.float64))[keep]
    y = kept.sum(1) * (1 / (1 - rate) if mode == "inverted" else 1.0)
    return y if bias is None else y + bias


def dropconnect_grad(x, kernel, keep, rate, dy, mode="inverted"):
    """(dx, dkernel, dbias)."""
    x, kernel, dy = (array.astype(np.float64) for array in (x, kernel, dy))
    scaled = dy * (1 / (1 - rate) if mode == "inverted" else 1.0)
    dx = np.einsum("nm,dm,ndm->nd", scaled, kernel, keep)
    return dx, np.einsum("nd,nm,ndm->dm", x, scaled, keep), dy.sum(0)


def philox(counter, key):
    """Philox4x32-10: four random words for a counter of four 32-bit words and a key of two (Salmon et al., SC11, 2011).

    A round maps (L0, R0, L1, R1) to (hi(M1 L1) ^ R0 ^ k0, lo(M1 L1), hi(M0 L0) ^ R1 ^ k1, lo(M0 L0)); between rounds
    the key words grow by the golden ratio and by sqrt(3) - 1, as 32-bit fractions.
    """
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [second >> 32 ^ c[1] ^ k[0], second & 0xFFFFFFFF, first >> 32 ^ c[3] ^ k[1], first & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return tuple(c)


def dropout_mask(seed, number, step, shape, rate, purpose=0):
    """True = kept, for layer ``number`` of a model with ``seed`` in training forward ``step``; 0 < rate < 1.

    ``purpose``: 0 for training; 1 for Monte-Carlo sample ``step`` of the whole data.

    Element e of the batch, in group s = e // 128 with e % 128 = 32 w + 2 l + h, is decided by half h (0 the low one) of
    word w of the block with counter (16 s + l in two words, step, stream): kept if those 16 bits are >= the threshold.
    """
    threshold = min(max(round(rate * 65536), 1), 65535)
    stream, key = number * 16 + purpose, (seed & 0xFFFFFFFF, seed >> 32)
    keep = np.zeros(math.prod(shape), bool)
    for first in range(0, len(keep), 128):
        for lane in range(16):
            block = first // 8 + lane
            words = philox((block & 0xFFFFFFFF, block >> 32, step, stream), key)
            for w in range(4):
                for half in range(2):
                    e = first + 32 * w + 2 * lane + half
                    if e < len(keep):
                        keep[e] = (words[w] >> 16 * half & 0xFFFF) >= threshold
    return keep.reshape(shape)


def gaussian_factors(seed, number, step, shape, sigma, purpose=0):
    """1 + sigma z, z normal (Box and Muller 1958), for layer ``number`` of a model with ``seed`` in a training forward.

    Element e of the batch, in group s = e // 128 with e % 128 = 32 w + 16 h + l, gets the cosine (h = 0) or the sine
    (h = 1) of word w of the block with counter (16 s + l in two words, step, stream): the word's low half k gives the
    radius sqrt(-2 log((k + 1/2) / 65536)), the next 14 bits j the angle (j + 1/2) / 16384 of a quarter turn, bit 31 the
    sign of the cosine and bit 30 that of the sine.
    """
    stream, key = number * 16 + purpose, (seed & 0xFFFFFFFF, seed >> 32)
    factors = np.zeros(math.prod(shape))
    for first in range(0, len(factors), 128):
        for lane in range(16):
            block = first // 8 + lane
            words = philox((block & 0xFFFFFFFF, block >> 32, step, stream), key)
            for w in range(4):
                radius = math.sqrt(-2 * math.log(((words[w] & 0xFFFF) + 0.5) / 65536))
                angle = ((words[w] >> 16 & 0x3FFF) + 0.5) / 16384 * math.pi / 2
                for half, value in enumerate((math.cos(angle), math.sin(angle))):
                    e, sign = first + 32 * w + 16 * half + lane, -1 if words[w] >> (31 - half) & 1 else 1
                    if e < len(factors):
                        factors[e] = 1 + sigma * radius * sign * value
    return factors.reshape(shape)


# ---- augmentation ----


def image_numbers(seed, number, step, index, purpose=0):
    """Eight numbers in [0, 1) of image ``index`` of a batch, for layer ``number`` of a model with ``seed`` in training
    forward ``step``: the words of the blocks with the counters (2 index, step, stream) and (2 index + 1, ...)."""
    key, stream = (seed & 0xFFFFFFFF, seed >> 32), number * 16 + purpose
    blocks = (2 * index, 2 * index + 1)
    return [w / 2**32 for block in blocks for w in philox((block & 0xFFFFFFFF, block >> 32, step, stream), key)]


def _drawn(bounds, u):
    return bounds[0] + (bounds[1] - bounds[0]) * u


def flip_map(u, h, w, horizontal, vertical):
    """As all maps: pixel (i, j) of y is what x has at (row, column) = map @ (i, j, 1)."""
    rows = [-1, 0, h - 1] if vertical and u[1] < 0.5 else [1, 0, 0]
    return np.array([rows, [0, -1, w - 1] if horizontal and u[0] < 0.5 else [0, 1, 0]], float)


def translation_map(u, h, w, heights, widths):
    return np.array([[1, 0, -_drawn(heights, u[0]) * h], [0, 1, -_drawn(widths, u[1]) * w]], float)


def _about_centre(matrix, h, w):
    centre = np.array([(h - 1) / 2, (w - 1) / 2])
    return np.column_stack([matrix, centre - matrix @ centre])


def rotation_map(u, h, w, turns):
    angle = 2 * math.pi * _drawn(turns, u[0])
    a, b = round(math.cos(angle), 15), round(math.sin(angle), 15)  # quarter turns are exact
    return _about_centre(np.array([[a, b], [-b, a]]), h, w)


def zoom_map(u, h, w, heights, widths=None):
    zooms = _drawn(heights, u[0]), _drawn(heights, u[0]) if widths is None else _drawn(widths, u[1])
    return _about_centre(np.diag([1 + zooms[0], 1 + zooms[1]]), h, w)


def crop_map(u, h, w, height, width):
    return np.array([[1, 0, int(u[0] * (h - height + 1))], [0, 1, int(u[1] * (w - width + 1))]], float)


def _shares(at, size, fill_mode, interpolation):
    """[(place along an axis of that size, or None outside of it; its share)] of a place between pixels."""
    if abs(at - round(at)) < 2**-24:
        shares = [(round(at), 1.0)]
    elif interpolation == "nearest":
        shares = [(math.floor(at + 0.5), 1.0)]
    else:
        shares = [(math.floor(at), 1 - (at - math.floor(at))), (math.floor(at) + 1, at - math.floor(at))]
    if fill_mode == "constant":
        return [(place if 0 <= place < size else None, share) for place, share in shares]
    margin = 2 + math.ceil(abs(at)) + size
    extended = np.pad(np.arange(size), margin, {"reflect": "symmetric", "wrap": "wrap", "nearest": "edge"}[fill_mode])
    return [(int(extended[margin + place]), share) for place, share in shares]


def _moving(matrix, size, new_size, fill_mode, interpolation):
    """(share of every pixel of x in every pixel of y, (OH OW, H W); share of what lies outside, (OH OW,))."""
    (h, w), (oh, ow) = size, new_size
    shares, outside = np.zeros((oh * ow, h * w)), np.zeros(oh * ow)
    for i in range(oh):
        for j in range(ow):
            row, column = matrix @ (i, j, 1)
            for k, a in _shares(row, h, fill_mode, interpolation):
                for m, b in _shares(column, w, fill_mode, interpolation):
                    if k is None or m is None:
                        outside[i * ow + j] += a * b
                    else:
                        shares[i * ow + j, k * w + m] += a * b
    return shares, outside


def moved(x, maps, new_size, fill_mode="reflect", interpolation="bilinear", fill_value=0.0):
    """Every image of x (N, H, W, C) under its map, (N, 2, 3)."""
    y = []
    for image, matrix in zip(x.astype(np.float64), maps, strict=True):
        shares, outside = _moving(matrix, image.shape[:2], new_size, fill_mode, interpolation)
        y.append(shares @ image.reshape(-1, x.shape[3]) + fill_value * outside[:, None])
    return np.reshape(y, (len(x), *new_size, x.shape[3]))


def moved_grad(dy, maps, size, fill_mode="reflect", interpolation="bilinear"):
    dx = []
    for image, matrix in zip(dy.astype(np.float64), maps, strict=True):
        shares, _ = _moving(matrix, size, image.shape[:2], fill_mode, interpolation)
        dx.append(shares.T @ image.reshape(-1, dy.shape[3]))
    return np.reshape(dx, (len(dy), *size, dy.shape[3]))


def contrast(x, factors, low=-np.inf, high=np.inf):
    """(x - mean) f + mean, with the mean of a channel of an image, cut to [low, high]."""
    x, f = x.astype(np.float64), np.reshape(factors, (-1, 1, 1, 1))
    return np.clip(f * x + (1 - f) * x.mean((1, 2), keepdims=True), low, high)


def contrast_grad(x, factors, dy, low=-np.inf, high=np.inf):
    z, f = contrast(x, factors), np.reshape(factors, (-1, 1, 1, 1))
    g = np.where((z >= low) & (z <= high), dy, 0.0)
    return f * g + (1 - f) * g.mean((1, 2), keepdims=True)


def brightness(x, shifts, low=-np.inf, high=np.inf):
    return np.clip(x.astype(np.float64) + np.reshape(shifts, (-1, 1, 1, 1)), low, high)


def brightness_grad(x, shifts, dy, low=-np.inf, high=np.inf):
    z = brightness(x, shifts)
    return np.where((z >= low) & (z <= high), dy, 0.0)


def erased_box(u, h, w, probabilities, scale, ratio):
    """(top, left, height, width) of the rectangle of an image with these numbers, zeros for none."""
    if u[0] >= _drawn(probabilities, u[1]):
        return 0, 0, 0, 0
    area, r = _drawn(scale, u[2]) * h * w, ratio[0] * (ratio[1] / ratio[0]) ** u[3]
    height, width = math.sqrt(area * r), math.sqrt(area / r)
    if height > h:
        height, width = h, area / h
    if width > w:
        height, width = area / w, w
    height, width = max(1, math.floor(height + 0.5)), max(1, math.floor(width + 0.5))
    return math.floor(u[4] * (h - height + 1)), math.floor(u[5] * (w - width + 1)), height, width


def erased(x, boxes, fill):
    """``fill``: what broadcasts to the shape of x."""
    y, fill = x.astype(np.float64), np.broadcast_to(fill, x.shape)
    for n, (top, left, height, width) in enumerate(boxes):
        part = n, slice(top, top + height), slice(left, left + width)
        y[part] = fill[part]
    return y


# ---- pairs of samples ----


def permutation(n, seed, step, stream):
    """Fisher and Yates' shuffle of 0 ... n - 1 with the words of the counters (i, step, stream)."""
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        low, high, *_ = philox((i, 0, step, stream), (seed & 0xFFFFFFFF, seed >> 32))
        j = (low + (high << 32)) % (i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def pair_number(seed, step, index, which):
    """Number ``which`` of sample ``index``: a word of the block 2 (which 2^48 + index) of purpose 3."""
    block = 2 * ((which << 48) + index)
    return philox((block & 0xFFFFFFFF, block >> 32, step, 3), (seed & 0xFFFFFFFF, seed >> 32))[0] / 2**32


def symmetric_beta(alpha, u, v):
    """Devroye's: 1/2 + S / (2 sqrt(1 + 1 / ((u^(-1/alpha) - 1) cos^2(2 pi v)))) with the cosine's sign."""
    u, v = u + 2.0**-33, v + 2.0**-33
    exponent = -math.log(u) / alpha
    q = (math.exp(exponent) - 1) * math.cos(2 * math.pi * v) ** 2 if exponent < 700 else math.inf
    size = 1 / math.sqrt(1 + 1 / q) if q else 0.0
    return 0.5 + math.copysign(size, math.cos(2 * math.pi * v)) / 2


def cut_box(share, down, right, h, w):
    """top, left, height, width."""
    ends = []
    for length, place in ((h, down), (w, right)):
        side = math.floor(length * math.sqrt(1 - share) + 0.5)
        first = math.floor(length * place) - side // 2
        ends += [max(first, 0), min(first + side, length)]
    return ends[0], ends[2], ends[1] - ends[0], ends[3] - ends[2]


def mixed(x, partners, shares, boxes=None):
    """Of every sample s x[n] + (1 - s) x[p]; with boxes x[n] outside of them and x[p] inside."""
    y = np.array(x, np.float64)
    for n, p in enumerate(partners):
        if boxes is None:
            y[n] = shares[n] * np.float64(x[n]) + (1 - shares[n]) * np.float64(x[p])
        else:
            top, left, height, width = boxes[n]
            y[n, top : top + height, left : left + width] = x[p, top : top + height, left : left + width]
    return y


# ---- regularisers and constraints ----


def penalty(w, l1=0.0, l2=0.0):
    """l1 sum |w| + l2 sum w^2."""
    w = w.astype(np.float64)
    return l1 * np.abs(w).sum() + l2 * (w * w).sum()


def penalty_grad(w, l1=0.0, l2=0.0):
    return l1 * np.sign(w.astype(np.float64)) + 2 * l2 * w


def activity_penalty(y, l1=0.0, l2=0.0):
    """The mean over the samples of the penalty of one sample's output."""
    return np.mean([penalty(one, l1, l2) for one in y])


def activity_penalty_grad(y, l1=0.0, l2=0.0):
    return penalty_grad(y, l1, l2) / len(y)


def _norms(w, axes):
    return np.sqrt((w.astype(np.float64) ** 2).sum(axes, keepdims=True))


def max_norm(w, max_value, axes):
    """w with its norms over ``axes`` cut to max_value."""
    norms = _norms(w, axes)
    return w * np.where(norms > max_value, max_value / np.where(norms > 0, norms, 1), 1)


def unit_norm(w, axes):
    return w / (_norms(w, axes) + 1e-7)


def non_neg(w):
    return np.where(w < 0, 0, w)


# ---- losses: (value, gradient at the outputs), value = (1/N) sum_n w_n l_n ----


def one_hot(labels, classes):
    return np.eye(classes)[labels]


def smooth(target, amount):
    """Label smoothing: a share ``amount`` of every target is spread evenly over all K classes."""
    return target * (1 - amount) + amount / target.shape[-1]


def _weighted(per_sample, per_output, weights):
    """(value, gradient) from l_n and dl_n/doutputs."""
    n = len(per_sample)
    w = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    return float((w * per_sample).sum() / n), per_output * w.reshape(-1, *[1] * (per_output.ndim - 1)) / n


def cross_entropy(p, target, weights=None):
    """l_n = -sum_k target_k log p_k, from probabilities."""
    p = p.astype(np.float64)
    return _weighted(-(target * np.log(p)).sum(-1), -target / p, weights)


def softmax_cross_entropy(logits, target, weights=None):
    """The same from logits: l_n = sum_k target_k (log sum_l exp(z_l) - z_k), for targets that sum to 1."""
    z = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    log_sum = np.log(np.exp(z).sum(-1, keepdims=True))
    return _weighted((target * (log_sum - z)).sum(-1), softmax(logits) - target, weights)


def _mean_over_sample(per_value, per_output, weights):
    values = per_value.reshape(len(per_value), -1)
    return _weighted(values.mean(1), per_output / values.shape[1], weights)


def binary_cross_entropy(p, y, weights=None):
    """l_n = mean of -(y log p + (1 - y) log(1 - p)) over the outputs of a sample."""
    p, y = p.astype(np.float64), y.astype(np.float64)
    return _mean_over_sample(-(y * np.log(p) + (1 - y) * np.log(1 - p)), (p - y) / (p * (1 - p)), weights)


def sigmoid_binary_cross_entropy(z, y, weights=None):
    """The same from logits: log(1 + exp(z)) - y z, without overflow."""
    z, y = z.astype(np.float64), y.astype(np.float64)
    return _mean_over_sample(np.log1p(np.exp(-np.abs(z))) + np.maximum(z, 0) - y * z, _sigmoid(z) - y, weights)


def mean_squared_error(outputs, y, weights=None):
    d = outputs.astype(np.float64) - y
    return _mean_over_sample(d * d, 2 * d, weights)


def mean_absolute_error(outputs, y, weights=None):
    d = outputs.astype(np.float64) - y
    return _mean_over_sample(np.abs(d), np.sign(d), weights)


def huber(outputs, y, delta=1.0, weights=None):
    """d^2 / 2 for |d| <= delta, delta (|d| - delta / 2) beyond."""
    d = outputs.astype(np.float64) - y
    near = np.abs(d) <= delta
    value = np.where(near, d * d / 2, delta * (np.abs(d) - delta / 2))
    return _mean_over_sample(value, np.where(near, d, delta * np.sign(d)), weights)


def mean_absolute_percentage_error(outputs, y, weights=None):
    d, size = outputs.astype(np.float64) - y, np.maximum(np.abs(y), 1e-7)
    return _mean_over_sample(100 * np.abs(d) / size, 100 * np.sign(d) / size, weights)


def mean_squared_logarithmic_error(outputs, y, weights=None):
    """(log(1 + o) - log(1 + y))^2 for outputs above 1e-7."""
    d = np.log(1 + outputs.astype(np.float64)) - np.log(1 + np.maximum(y, 1e-7))
    return _mean_over_sample(d * d, 2 * d / (1 + outputs), weights)


def log_cosh(outputs, y, weights=None):
    d = outputs.astype(np.float64) - y
    return _mean_over_sample(np.logaddexp(d, -d) - np.log(2), np.tanh(d), weights)


def poisson(outputs, y, weights=None):
    o = outputs.astype(np.float64)
    return _mean_over_sample(o - y * np.log(o + 1e-7), 1 - y / (o + 1e-7), weights)


def hinge(outputs, y, weights=None, power=1):
    """max(1 - y o, 0) to the ``power`` 1 or 2, for y of 1 and -1."""
    margin = np.maximum(1 - outputs.astype(np.float64) * y, 0)
    return _mean_over_sample(margin**power, -y * (margin > 0) * (power * margin ** (power - 1)), weights)


def categorical_hinge(outputs, y, weights=None):
    """max(1 + max_k (1 - y_k) o_k - sum_k y_k o_k, 0)."""
    o, gradient, values = outputs.astype(np.float64), np.zeros(outputs.shape), []
    for n in range(len(o)):
        others = (1 - y[n]) * o[n]
        values.append(max(1 + others.max() - (y[n] * o[n]).sum(), 0))
        if values[-1] > 0:
            gradient[n] = -y[n]
            gradient[n, others.argmax()] += 1 - y[n, others.argmax()]
    return _weighted(np.array(values), gradient, weights)


def cosine_similarity(outputs, y, weights=None):
    """Minus the cosine of the angle."""
    o = outputs.astype(np.float64)
    of_outputs, of_y = (np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-7) for rows in (o, y))
    a, b = o / of_outputs, y / of_y
    cosine = (a * b).sum(1)
    return _weighted(-cosine, (a * cosine[:, None] - b) / of_outputs, weights)


def kl_divergence(p, target, weights=None):
    """sum_k t_k log(t_k / p_k), t and p cut to [1e-7, 1]."""
    t, p = np.clip(target, 1e-7, 1), np.clip(p.astype(np.float64), 1e-7, 1)
    return _weighted((t * np.log(t / p)).sum(1), -t / p, weights)


def binary_focal(p, y, alpha=None, gamma=2.0, weights=None):
    """a (1 - p_t)^gamma times the cross-entropy, p_t = y p + (1 - y) (1 - p), a = y alpha + (1 - y) (1 - alpha)."""
    p, y = p.astype(np.float64), y.astype(np.float64)
    a = 1.0 if alpha is None else y * alpha + (1 - y) * (1 - alpha)
    wrong, entropy = 1 - (y * p + (1 - y) * (1 - p)), -(y * np.log(p) + (1 - y) * np.log(1 - p))
    inner = gamma * wrong ** (gamma - 1) * (1 - 2 * y) * entropy + wrong**gamma * (p - y) / (p * (1 - p))
    return _mean_over_sample(a * wrong**gamma * entropy, a * inner, weights)


def sigmoid_binary_focal(z, y, alpha=None, gamma=2.0, weights=None):
    p = _sigmoid(z.astype(np.float64))
    value, gradient = binary_focal(p, y, alpha, gamma, weights)
    return value, gradient * p * (1 - p)


def categorical_focal(p, target, alpha=0.25, gamma=2.0, weights=None):
    """-sum_k alpha_k t_k (1 - p_k)^gamma log p_k, from probabilities."""
    p = p.astype(np.float64)
    slope = -gamma * (1 - p) ** (gamma - 1) * np.log(p) + (1 - p) ** gamma / p
    return _weighted(-(alpha * target * (1 - p) ** gamma * np.log(p)).sum(1), -alpha * target * slope, weights)


def behind_softmax(loss, logits, *arguments, **named):
    """(value, gradient at the logits) of a ``loss`` of probabilities."""
    value, gradient = loss(softmax(logits.astype(np.float64)), *arguments, **named)
    return value, softmax_grad(logits.astype(np.float64), gradient)


# ---- optimisers: the parameters after all steps; t counts from 1, r is the rate ----


def _steps(w, gradients, r, weight_decay, clipnorm, clipvalue):
    """Before every step: (t, clipped gradient, w decayed); the caller sends the new w."""
    w = w.astype(np.float64)
    for t, g in enumerate(gradients.astype(np.float64), 1):
        if clipnorm is not None:
            norm = math.sqrt(math.fsum(x * x for x in g.tolist()))
            g = g * (clipnorm / norm) if norm > clipnorm else g
        if clipvalue is not None:
            g = np.clip(g, -clipvalue, clipvalue)
        w = yield t, g, w - r * (weight_decay or 0) * w
    yield None, None, w


def _optimize(update, w, gradients, r, weight_decay=None, clipnorm=None, clipvalue=None):
    """``update``: (t, g, slots) -> what is subtracted from w; it changes the dictionary of slots, which begin at 0."""
    steps, slots = _steps(w, gradients, r, weight_decay, clipnorm, clipvalue), {}
    t, g, w = next(steps)
    while t is not None:
        t, g, w = steps.send(w - update(t, g, slots))
    return w


def _follow(slots, name, beta, x):
    """The running mean slots[name], one step on."""
    slots[name] = beta * slots.get(name, 0.0) + (1 - beta) * x
    return slots[name]


def sgd(w, gradients, r, momentum=0.0, nesterov=False, **common):
    def update(t, g, slots):
        v = slots["v"] = momentum * slots.get("v", 0.0) - r * g
        return -(momentum * v - r * g) if nesterov else -v

    return _optimize(update, w, gradients, r, **common)


def adam(w, gradients, r, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False, **common):
    def update(t, g, slots):
        m, v = _follow(slots, "m", beta_1, g), _follow(slots, "v", beta_2, g * g)
        if amsgrad:
            v = slots["v_hat"] = np.maximum(slots.get("v_hat", 0.0), v)
        return r * math.sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (np.sqrt(v) + epsilon)

    return _optimize(update, w, gradients, r, **common)


def nadam(w, gradients, r, beta_1=0.9, beta_2=0.999, epsilon=1e-7, **common):
    def update(t, g, slots):
        u, u_next = (beta_1 * (1 - 0.96**s / 2) for s in (t, t + 1))
        product = slots["product"] = slots.get("product", 1.0) * u
        m, v = _follow(slots, "m", beta_1, g), _follow(slots, "v", beta_2, g * g)
        m_hat = u_next * m / (1 - product * u_next) + (1 - u) * g / (1 - product)
        return r * m_hat / (np.sqrt(v / (1 - beta_2**t)) + epsilon)

    return _optimize(update, w, gradients, r, **common)


def adamax(w, gradients, r, beta_1=0.9, beta_2=0.999, epsilon=1e-7, **common):
    def update(t, g, slots):
        m = _follow(slots, "m", beta_1, g)
        u = slots["u"] = np.maximum(beta_2 * slots.get("u", 0.0), np.abs(g))
        return r * m / ((1 - beta_1**t) * (u + epsilon))

    return _optimize(update, w, gradients, r, **common)


def rmsprop(w, gradients, r, rho=0.9, momentum=0.0, epsilon=1e-7, centered=False, **common):
    def update(t, g, slots):
        square = _follow(slots, "velocity", rho, g * g)
        if centered:
            square = square - _follow(slots, "average", rho, g) ** 2
        slots["momentum"] = momentum * slots.get("momentum", 0.0) + r * g / np.sqrt(square + epsilon)
        return slots["momentum"]

    return _optimize(update, w, gradients, r, **common)


def adagrad(w, gradients, r, initial_accumulator_value=0.1, epsilon=1e-7, **common):
    def update(t, g, slots):
        slots["sum"] = slots.get("sum", initial_accumulator_value) + g * g
        return r * g / np.sqrt(slots["sum"] + epsilon)

    return _optimize(update, w, gradients, r, **common)


def adadelta(w, gradients, r, rho=0.95, epsilon=1e-7, **common):
    def update(t, g, slots):
        square = _follow(slots, "g", rho, g * g)
        change = np.sqrt(slots.get("delta", 0.0) + epsilon) / np.sqrt(square + epsilon) * g
        _follow(slots, "delta", rho, change * change)
        return r * change

    return _optimize(update, w, gradients, r, **common)
