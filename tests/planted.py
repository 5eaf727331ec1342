"""Layers in NumPy with a mistake to choose: what a student's backward looks like.  ``fault=None`` is right."""

import numpy as np

from minicnn.layer import Layer


def normal_init(shape, rng):
    return 0.5 * rng.standard_normal(shape)


class Faulty(Layer):
    """``faults``: names of mistakes, "dx..." in dx, "dk..." in the kernel's gradient, "db..." in the bias's."""

    def __init__(self, *faults, **options):
        super().__init__()
        self.faults = set(faults)
        vars(self).update(options)

    def has(self, fault):
        return fault in self.faults

    def backward(self, dy):
        dx = self.plain_backward(dy)
        for name, gradient in self.grads.items():
            if self.has("dk decay") and name == "kernel":
                gradient += 0.02 * self.params[name]
        if self.has("dx integers"):
            dx = dx.astype(int)
        if dx is not None:
            dx = dx * (0.37 if self.has("dx 0.37") else -1 if self.has("dx sign") else 0 if self.has("dx zero") else 1)
        return dx


class Conv(Faulty):
    """y[n, i, j] = sum over taps of xp[n, s i + a, s j + b] @ K[a, b] + bias, xp: x with ``pad`` zeros around it.

    The parameter is K with its axes in the ``order``, and as a ``matrix`` its first three, or last three, are one.
    """

    size, filters, pad, stride, relu = (3, 3), 5, (1, 1), 1, False
    order, matrix = (0, 1, 2, 3), False

    def build(self, input_shape, rng):
        h, w, c = super().build(input_shape, rng)
        kh, kw = self.size
        self.add_param("kernel", self.stored(np.empty((kh, kw, c, self.filters))).shape, normal_init, rng)
        self.add_param("bias", (self.filters,), normal_init, rng)
        (p, q), s = self.pad, self.stride
        return (h + 2 * p - kh) // s + 1, (w + 2 * q - kw) // s + 1, self.filters

    def stored(self, kernel):
        """A kernel (KH, KW, C, F) as the parameter is."""
        array = kernel.transpose(self.order)
        if not self.matrix:
            return array
        return array.reshape(array.shape[0], -1) if self.order[0] == 3 else array.reshape(-1, array.shape[-1])

    def kernel(self):
        """The parameter as (KH, KW, C, F)."""
        shape = np.array([*self.size, self.input_shape[-1], self.filters])[list(self.order)]
        return self.params["kernel"].reshape(shape).transpose(np.argsort(self.order))

    def window(self, a, b):
        """The slices of xp that tap (a, b) reads."""
        oh, ow, _ = self.output_shape
        s = self.stride
        return (slice(None), slice(a, a + s * (oh - 1) + 1, s), slice(b, b + s * (ow - 1) + 1, s))

    def forward(self, x, training=False):
        (p, q), kernel = self.pad, self.kernel()
        self.xp = np.pad(x, ((0, 0), (p, p), (q, q), (0, 0)))
        taps = np.ndindex(self.size)
        z = sum(self.xp[self.window(a, b)] @ kernel[a, b] for a, b in taps) + self.params["bias"]
        self.z = z
        return np.maximum(z, 0) if self.relu else z

    def plain_backward(self, dy):
        (kh, kw), (p, q), has = self.size, self.pad, self.has
        dy = dy.transpose(3, 0, 1, 2).reshape(dy.shape) if has("dy reshaped") else dy
        dz = dy * (self.z > 0) if self.relu and not has("no relu") else dy
        kernel = self.kernel()
        used = kernel[::-1, ::-1] if has("dx turned") else kernel.swapaxes(0, 1) if has("dx transposed") else kernel
        used = kernel[::-1] if has("dx turned rows") else kernel.swapaxes(2, 3) if has("dx channels") else used
        dxp, dk = np.zeros_like(self.xp), np.zeros(kernel.shape)
        for a, b in np.ndindex(kh, kw):
            if has("dx ="):
                dxp[self.window(a, b)] = dz @ used[a, b].T
            else:
                dxp[self.window(a, b)] += dz @ used[a, b].T
            dk[a, b] = np.einsum("nijc,nijf->cf", self.xp[self.window(a, b)], dz)
        if has("dx = windows"):  # a loop over places of y, each writing its window
            for i, j in np.ndindex(dz.shape[1:3]):
                s = self.stride
                dxp[:, s * i : s * i + kh, s * j : s * j + kw] = np.einsum("nf,abcf->nabc", dz[:, i, j], kernel)
        if has("dx but last"):
            dxp[:] = 0
            for a, b in np.ndindex(kh, kw):
                cut = dz.copy()
                cut[:, -1] = cut[:, :, -1] = 0
                dxp[self.window(a, b)] += cut @ used[a, b].T
        if has("dk last window"):
            for a, b in np.ndindex(kh, kw):
                x = self.xp[self.window(a, b)]
                dk[a, b] = x[:, -1, -1].T @ dz[:, -1, -1]
        if has("dk last sample"):
            for a, b in np.ndindex(kh, kw):
                x = self.xp[self.window(a, b)]
                dk[a, b] = np.einsum("ijc,ijf->cf", x[-1], dz[-1])
        dk = dk[::-1, ::-1] if has("dk turned") else dk.swapaxes(0, 1) if has("dk transposed") else dk
        db = dz.sum((0, 1, 2))
        db = dz[0].sum((0, 1)) if has("db sample 0") else dz.mean((0, 1, 2)) if has("db mean") else db
        db = dz.sum((1, 2, 3)) if has("db axes") else dz.mean((1, 2)).sum(0) if has("db mean of places") else db
        db = dz.sum() if has("db all") else db
        dk = dk / len(dy) if has("dk / n") else dk
        self.grads["kernel"][...] = self.stored(0.37 * dk if has("dk 0.37") else dk)
        self.grads["bias"][...] = db
        _, h, w, _ = self.xp.shape
        i, j = (0, 0) if has("dx cut") else (2 * p, 2 * q) if has("dx cut end") else (p, q)
        dx = dxp[:, i : i + h - 2 * p, j : j + w - 2 * q].copy()
        if has("dx border"):
            dx[:, :1] = dx[:, -1:] = dx[:, :, :1] = dx[:, :, -1:] = 0
        if has("dx border doubled"):
            dx[:, 0] *= 2
            dx[:, -1] *= 2
        if has("dx sample 0"):
            dx[1:] = 0
        return None if has("dx none") else dx


class Dense(Faulty):
    """y = f(x W + b), f the identity, tanh or relu."""

    units, f = 4, None

    def build(self, input_shape, rng):
        (d,) = super().build(input_shape, rng)
        self.add_param("kernel", (d, self.units), normal_init, rng)
        self.add_param("bias", (self.units,), lambda shape, rng: np.zeros(shape), rng)
        return (self.units,)

    def forward(self, x, training=False):
        self.x, z = x, x @ self.params["kernel"] + self.params["bias"]
        self.slope = {None: np.ones_like(z), "tanh": 1 - np.tanh(z) ** 2, "relu": 1.0 * (z > 0)}[self.f]
        self.y = {None: z, "tanh": np.tanh(z), "relu": np.maximum(z, 0)}[self.f]
        return self.y.copy()

    def plain_backward(self, dy):
        has, kernel = self.has, self.params["kernel"]
        dy = np.ones_like(dy) if has("no dy") else dy
        dz = dy if has("no slope") else dy * (self.y if has("slope y") else self.slope)
        dk, db = self.x.T @ dz, dz.sum(0)
        dk = dk.T if has("dk transposed") else self.x[:1].T @ dz[:1] if has("dk sample 0") else dk
        dk = self.x[1:].T @ dz[1:] if has("dk but sample 0") else dk
        self.grads["kernel"][...] = dk * (0.37 if has("dk 0.37") else 1 / 3 if has("dk third") else 1)
        db = dz.sum(1) if has("db axes") else dz[-1] if has("db last sample") else db
        db = db[:1] if has("db first unit") else db
        self.grads["bias"][...] = dz.mean() if has("db mean of all") else db
        return dz @ (kernel if has("dx not transposed") else kernel.T)


class Norm(Faulty):
    """y = gamma (x - mean) / sqrt(var + eps) + beta, over ``axes``: of the batch, or with (1, 2) of each sample."""

    axes, eps = (0,), 1e-3

    def build(self, input_shape, rng):
        shape = super().build(input_shape, rng)
        self.add_param("gamma", shape[-1:], lambda shape, rng: np.ones(shape), rng)
        self.add_param("beta", shape[-1:], lambda shape, rng: np.zeros(shape), rng)
        return shape

    def forward(self, x, training=False):
        self.x, self.mean = x, x.mean(self.axes, keepdims=True)
        self.sd = np.sqrt(x.var(self.axes, keepdims=True) + self.eps)
        self.xhat = (x - self.mean) / self.sd
        return self.params["gamma"] * self.xhat + self.params["beta"]

    def plain_backward(self, dy):
        has, over = self.has, tuple(range(dy.ndim - 1))
        dgamma, dbeta = (dy * (self.x if has("dg x") else self.xhat)).sum(over), dy.sum(over)
        self.grads["gamma"][...] = dbeta if has("dg beta") else dgamma
        self.grads["beta"][...] = dbeta
        d = dy * (1 if has("dx gamma") else self.params["gamma"])
        mean, variance = (d.mean(self.axes, keepdims=True), self.xhat * (d * self.xhat).mean(self.axes, keepdims=True))
        if has("dx sum for mean"):
            mean = d.sum(self.axes, keepdims=True)
        return (d - mean * (not has("dx mean")) - variance * (not has("dx variance"))) / self.sd


class Softmax(Faulty):
    """y = softmax(x) along the last axis."""

    def forward(self, x, training=False):
        e = np.exp(x - x.max(-1, keepdims=True))
        self.y = e / e.sum(-1, keepdims=True)
        return self.y.copy()

    def plain_backward(self, dy):
        y = self.y
        if self.has("dx diagonal"):
            return y * (1 - y) * dy
        if self.has("dx y dy"):
            return y * dy
        if self.has("dx wrong sum"):
            return y * (dy - (y * dy).sum(0))
        if self.has("dx mean for sum"):
            return y * (dy - (y * dy).mean(-1, keepdims=True))
        return (1 if self.has("dx no y") else y) * (dy - (y * dy).sum(-1, keepdims=True))


class ReLU(Faulty):
    def forward(self, x, training=False):
        self.x = x
        return np.maximum(x, 0)

    def plain_backward(self, dy):
        if self.has("dx mask of dy"):
            return dy * (dy > 0)
        if self.has("dx turned round"):
            return dy * (self.x <= 0)
        return dy.copy() if self.has("dx no mask") else dy * (self.x > 0)


class Pool(Faulty):
    """The largest or the mean of windows that overlap where the stride is less than the size."""

    size, stride, largest = 3, 2, True
    moved = {"dx tile": (0, 2, 1, 4, 3, 5), "dx in windows": (0, 1, 4, 3, 2, 5), "dx of windows": (0, 3, 2, 1, 4, 5)}

    def build(self, input_shape, rng):
        h, w, c = super().build(input_shape, rng)
        return (h - self.size) // self.stride + 1, (w - self.size) // self.stride + 1, c

    def places(self):
        for i, j in np.ndindex(*self.output_shape[:2]):
            a, b = self.stride * i, self.stride * j
            yield i, j, (slice(None), slice(a, a + self.size), slice(b, b + self.size))

    def forward(self, x, training=False):
        self.x, y = x, np.empty((len(x), *self.output_shape), x.dtype)
        for i, j, window in self.places():
            y[:, i, j] = x[window].max((1, 2)) if self.largest else x[window].mean((1, 2))
        return y

    def plain_backward(self, dy):
        dx = np.zeros_like(self.x)
        for i, j, window in self.places():
            x = self.x[window]
            share = x == x.max((1, 2), keepdims=True) if self.largest else np.full(x.shape, 1 / self.size**2)
            if self.has("dx no mean"):
                share = np.ones(x.shape)
            part = share * dy[:, i : i + 1, j : j + 1]
            if self.has("dx ="):
                dx[window] = part
            elif self.has("dx = at the largest"):
                dx[window] = np.where(share, part, dx[window])
            else:
                dx[window] += part
        for fault, axes in self.moved.items():
            if self.has(fault):
                (n, h, w, c), k = dx.shape, self.size
                dx = dx.reshape(n, h // k, k, w // k, k, c).transpose(axes).reshape(n, h, w, c)
        return dx


def gradients_with(layer, x, faults):
    """{name: gradient} of such a layer that is built, with its parameters and these mistakes instead of its own."""
    twin = type(layer)(*faults, **{name: value for name, value in vars(layer).items() if name in vars(type(layer))})
    twin.dtype = np.dtype(np.float64)
    twin.build(x.shape[1:], np.random.default_rng(0))
    for name, array in layer.params.items():
        twin.params[name][...] = array
    y = twin.forward(x, training=True)
    dx = twin.backward(np.random.default_rng(1).standard_normal(y.shape))
    return {"x": np.nan if dx is None else dx} | {name: array.copy() for name, array in twin.grads.items()}
