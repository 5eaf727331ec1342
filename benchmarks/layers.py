"""Layers by themselves beside PyTorch's: what a layer costs that is not a whole network's affair."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import minicnn as mc
from benchmarks import rivals
from benchmarks.machine import percent, relative_error, side_by_side, table
from minicnn import layers

TITLE = "Layers beside PyTorch's"
TEXT = """\
One layer by itself, called by hand on float32 images, (N, H, W, C) here and the same memory as "channels_last" there.
*Forward* is that of evaluation; *training* a forward in training mode and the backward, with the gradients of input and
parameters. Each output and gradient is compared with PyTorch's first (the relative difference is *error*), random noise
by its spread only. *Ratio*: PyTorch's time over ours, so more than 1 is faster; *spread*: the quartiles of ours.
"""
TOLERANCE = 1e-4
IMAGES = (128, 32, 32, 32)  # 16.8 MB: out of cache with what is computed from it


class Pair(NamedTuple):
    """A layer, and the same in PyTorch."""

    name: str
    shape: tuple  # (N, H, W, C)
    ours: Callable  # () -> the layer, not built
    theirs: Callable  # (torch, torch.nn) -> a module, or a function of x
    weights: tuple = ()  # (our parameter, theirs, axes of ours in their order), for every parameter
    random: bool = False
    images: bool = True  # whether its outputs are (N, H, W, C), which PyTorch takes as (N, C, H, W)


def pairs(quick):
    """All pairs of the table."""
    n, h, w, c = (2, 8, 8, 16) if quick else IMAGES
    for name, ours, theirs in (
        ("ELU", layers.ELU, lambda torch, nn: nn.ELU()),
        ("GELU", layers.GELU, lambda torch, nn: nn.GELU()),
        ("HardSigmoid", layers.HardSigmoid, lambda torch, nn: nn.Hardsigmoid()),
        ("HardSwish", layers.HardSwish, lambda torch, nn: nn.Hardswish()),
        ("LeakyReLU", layers.LeakyReLU, lambda torch, nn: nn.LeakyReLU()),
        ("LogSoftmax", layers.LogSoftmax, lambda torch, nn: nn.LogSoftmax(1)),
        ("ReLU(max_value=6)", lambda: layers.ReLU(max_value=6), lambda torch, nn: nn.ReLU6()),
        ("SELU", layers.SELU, lambda torch, nn: nn.SELU()),
        ("Softplus", layers.Softplus, lambda torch, nn: nn.Softplus()),
        ("Swish", layers.Swish, lambda torch, nn: nn.SiLU()),
    ):
        yield Pair(name, (n, h, w, c), ours, theirs)
    yield Pair("PReLU, a slope for each channel", (n, h, w, c), lambda: layers.PReLU(shared_axes=(1, 2)),
               lambda torch, nn: nn.PReLU(c, init=0.0), (("alpha", "weight", None),))  # fmt: skip
    yield Pair("GaussianNoise(0.1)", (n, h, w, c), lambda: layers.GaussianNoise(0.1), noise, random=True)
    yield Pair("LayerNormalization", (n, h, w, c), layers.LayerNormalization, layer_norm(c),
               (("gamma", "weight", None), ("beta", "bias", None)))  # fmt: skip
    yield Pair("GroupNormalization(8)", (n, h, w, c), lambda: layers.GroupNormalization(8),
               lambda torch, nn: nn.GroupNorm(8, c, eps=1e-3),
               (("gamma", "weight", None), ("beta", "bias", None)))  # fmt: skip
    yield Pair("MaxPooling2D(3, 2, padding=1)", (n, h, w, c), lambda: layers.MaxPooling2D(3, 2, padding=1),
               lambda torch, nn: nn.MaxPool2d(3, 2, padding=1))  # fmt: skip
    yield Pair("AveragePooling2D(3, 2, padding=1)", (n, h, w, c), lambda: layers.AveragePooling2D(3, 2, padding=1),
               lambda torch, nn: nn.AvgPool2d(3, 2, padding=1, count_include_pad=False))  # fmt: skip
    small = (n, h // 2, w // 2, c)
    for way in ("nearest", "bilinear"):
        yield Pair(f"UpSampling2D(2, {way})", small, lambda way=way: layers.UpSampling2D(2, way),
                   lambda torch, nn, way=way: nn.Upsample(scale_factor=2, mode=way))  # fmt: skip
    yield Pair("Permute((3, 1, 2))", (n, h, w, c), lambda: layers.Permute((3, 1, 2)),
               lambda torch, nn: lambda x: x.permute(0, 3, 1, 2).contiguous(), images=False)  # fmt: skip
    for channels, side in ((32, 32), (128, 14)):
        shape = (n // 4 or 1, side, side, channels)
        yield Pair("DepthwiseConv2D(3)", shape, lambda: layers.DepthwiseConv2D(3, padding="same"),
                   lambda torch, nn, c=channels: nn.Conv2d(c, c, 3, padding=1, groups=c),
                   (("kernel", "weight", (2, 3, 0, 1)), ("bias", "bias", None)))  # fmt: skip
    for filters, side, size, strides in ((16, 16, 2, 2), (32, 16, 4, 2), (32, 32, 3, 1), (1, 32, 3, 1)):
        padding = "valid" if size == strides else "same"
        crop = 0 if size == strides else 1
        yield Pair(f"Conv2DTranspose({filters}, {size}, {strides})", (n // 4 or 1, side, side, 32),
                   lambda f=filters, k=size, s=strides, p=padding: layers.Conv2DTranspose(f, k, s, padding=p),
                   lambda torch, nn, f=filters, k=size, s=strides, p=crop: nn.ConvTranspose2d(32, f, k, s, padding=p),
                   (("kernel", "weight", (3, 2, 0, 1)), ("bias", "bias", None)))  # fmt: skip


def noise(torch, nn):
    class Noise(nn.Module):
        def forward(self, x):
            return x + 0.1 * torch.randn_like(x) if self.training else x

    return Noise()


def layer_norm(channels):
    """Over the channels, which are the last axis of the memory."""

    def make(torch, nn):
        class Norm(nn.LayerNorm):
            def forward(self, x):
                return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

        return Norm(channels, eps=1e-3)

    return make


def run(quick=False, plots=None):
    beside = rivals.have("torch")
    rows = [row(pair, beside, quick) for pair in pairs(quick)]
    heads = ["layer", "(N, H, W, C)"]
    for what in ("forward", "training"):
        heads += [f"{what}, ms", *(["torch, ms", "ratio"] if beside else []), "spread"]
    return f"{TEXT}\n{table([*heads, *(['error'] if beside else [])], rows)}"


def row(pair, beside, quick):
    ours = Ours(pair)
    cases = {"forward": ours.forward, "training": ours.training}
    error = []
    if beside:
        theirs = Theirs(pair, ours)
        error.append(f"{theirs.error(ours):.0e}")
        cases |= {"torch forward": theirs.forward, "torch training": theirs.training}
    found = side_by_side(cases, quick)
    cells = [pair.name, "x".join(map(str, pair.shape))]
    for what in ("forward", "training"):
        mine = found[what]
        cells.append(f"{1e3 * mine.median:.2f}")
        if beside:
            rival = found[f"torch {what}"].median
            cells += [f"{1e3 * rival:.2f}", f"{rival / mine.median:.2f}"]
        cells.append(percent(mine.spread))
    return [*cells, *error]


class Ours:
    """The layer of a pair with random parameters, as in the middle of a chain."""

    def __init__(self, pair):
        rng = np.random.default_rng(0)
        self.layer = pair.ours()
        self.layer.in_chain = True  # no copies for callers, as inside a model
        self.layer.build(pair.shape[1:], rng)
        self.x = rng.standard_normal(pair.shape, np.float32)
        self.dy = rng.standard_normal((len(self.x), *self.layer.output_shape), np.float32)
        for name in self.layer.params:
            self.layer.params[name][...] = rng.uniform(0.5, 1.5, self.layer.params[name].shape)

    def forward(self):
        return self.layer.forward(self.x)

    def training(self):
        y = self.layer.forward(self.x, training=True)
        return y, self.layer.backward(self.dy)


class Theirs:
    """PyTorch's of a pair, with the parameters of ours."""

    def __init__(self, pair, ours):
        import torch

        torch.set_num_threads(mc.get_num_threads())
        self.torch, self.pair = torch, pair
        self.module = pair.theirs(torch, torch.nn)
        if isinstance(self.module, torch.nn.Module):
            self.module.to(memory_format=torch.channels_last)
        self.x, self.dy = self.images(ours.x).requires_grad_(), self.images(ours.dy)
        with torch.no_grad():
            for name, theirs, axes in pair.weights:
                place = getattr(self.module, theirs)
                place.copy_(torch.from_numpy(in_their_order(ours.layer.params[name], axes, place.shape)))

    def images(self, array):
        tensor = self.torch.from_numpy(array)
        return tensor.permute(0, 3, 1, 2) if self.pair.images else tensor

    def mode(self, training):
        if isinstance(self.module, self.torch.nn.Module):
            self.module.train(training)

    def forward(self):
        self.mode(False)
        with self.torch.inference_mode():
            return self.module(self.x)

    def training(self):
        self.mode(True)
        self.x.grad = None
        for _, theirs, _ in self.pair.weights:
            getattr(self.module, theirs).grad = None
        y = self.module(self.x)
        y.backward(self.dy)
        return y, self.x.grad

    def error(self, ours):
        """The largest relative difference of outputs and gradients, which must be small."""
        y, dx = ours.training()
        mine, its = [y, dx], [*self.training()]
        its = [(a.permute(0, 2, 3, 1) if self.pair.images else a).detach().numpy() for a in its]
        for name, theirs, axes in self.pair.weights:
            grad = getattr(self.module, theirs).grad.numpy()
            mine.append(in_their_order(ours.layer.grads[name], axes, grad.shape))
            its.append(grad)
        if self.pair.random:
            mine, its = [np.std(y - ours.x), dx], [np.std(its[0] - ours.x), its[1]]
        found = max(relative_error(np.asarray(a), np.asarray(b)) for a, b in zip(mine, its, strict=True))
        assert found < (0.05 if self.pair.random else TOLERANCE), f"{self.pair.name}: error {found}"
        return found


def in_their_order(array, axes, shape):
    """A parameter of ours with PyTorch's axes."""
    return np.ascontiguousarray(array if axes is None else array.transpose(axes)).reshape(shape)
