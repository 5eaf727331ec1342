"""UpSampling2D, Conv2DTranspose and Permute beside PyTorch, layer by layer."""

import numpy as np

import minicnn as mc
from benchmarks import rivals
from benchmarks.machine import relative_error, side_by_side, table
from minicnn import layers

TITLE = "Layers that enlarge and permute, beside PyTorch"
TEXT = """\
One layer alone, forward in evaluation and forward with backward in training, in ms for a batch of 64; PyTorch with NHWC
in memory ("channels_last"). Both return new arrays. Ratios above 1: PyTorch takes so many times as long.
"""
CASES = (  # (shape of an image, layer)
    ((16, 16, 64), lambda: layers.UpSampling2D()),
    ((32, 32, 16), lambda: layers.UpSampling2D()),
    ((16, 16, 64), lambda: layers.UpSampling2D(2, "bilinear")),
    ((32, 32, 3), lambda: layers.UpSampling2D(2, "bilinear")),
    ((14, 14, 64), lambda: layers.Conv2DTranspose(32, 4, 2, "same")),
    ((28, 28, 32), lambda: layers.Conv2DTranspose(1, 3, 1, "same")),
    ((28, 28, 32), lambda: layers.Conv2DTranspose(32, 3, 1, "same")),
    ((32, 32, 64), lambda: layers.Permute((3, 1, 2))),
)
N = 64


def run(quick=False, plots=None):
    rows = [row(shape, make(), quick) for shape, make in (CASES[::3] if quick else CASES)]
    return f"{TEXT}\n" + table(["image", "layer", "forward", "with backward", "ratio", "ratio"], rows)


def row(shape, layer, quick):
    rng = np.random.default_rng(0)
    layer.build(shape, rng)
    x = rng.standard_normal((2 if quick else N, *shape), np.float32)
    dy = rng.standard_normal((len(x), *layer.output_shape), np.float32)
    cases = {"forward": lambda: layer.forward(x), "step": lambda: step(layer, x, dy)}
    if rivals.have("torch"):
        theirs, theirs_step = in_torch(layer, x, dy)
        assert relative_error(theirs(), layer.forward(x)) < 1e-4
        assert relative_error(theirs_step(), step(layer, x, dy)) < 1e-4
        cases |= {"theirs": theirs, "their step": theirs_step}
    times = {name: timing.median for name, timing in side_by_side(cases, quick).items()}
    ratios = ["", ""]
    if "theirs" in times:
        ratios = [f"{times['theirs'] / times['forward']:.1f}", f"{times['their step'] / times['step']:.1f}"]
    return [f"{shape}", repr(layer), *(f"{1000 * times[name]:.2f}" for name in ("forward", "step")), *ratios]


def step(layer, x, dy):
    """dx of a training step."""
    layer.forward(x, training=True)
    return layer.backward(dy)


def in_torch(layer, x, dy):
    """(forward, step) of the same layer; both return arrays in our order."""
    import torch

    torch.set_num_threads(mc.get_num_threads())
    function, parameters = function_of(layer)
    images = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_(True)
    permutes = isinstance(layer, layers.Permute)
    if permutes:
        images = torch.from_numpy(x).requires_grad_(True)
    gradient = torch.from_numpy(dy) if permutes else torch.from_numpy(dy).permute(0, 3, 1, 2)

    def ours(tensor):
        return (tensor if permutes else tensor.permute(0, 2, 3, 1)).detach().numpy()

    def forward():
        with torch.no_grad():
            return ours(function(images))

    def both():
        return ours(torch.autograd.grad(function(images), [images, *parameters], gradient)[0])

    return forward, both


def function_of(layer):
    """(function, its parameters) in PyTorch; every "same" of ``CASES`` cuts the same from all sides."""
    import torch

    if isinstance(layer, layers.Permute):
        return lambda images: images.permute(0, *layer.dims).contiguous(), []
    if isinstance(layer, layers.UpSampling2D):
        more = {"align_corners": False} if layer.interpolation == "bilinear" else {}
        enlarge = torch.nn.functional.interpolate
        return lambda images: enlarge(images, scale_factor=layer.size, mode=layer.interpolation, **more), []
    kernel, bias = (torch.tensor(layer.params[name]) for name in ("kernel", "bias"))
    kernel = kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last).requires_grad_(True)
    bias.requires_grad_(True)
    cut = tuple((size - stride) // 2 for size, stride in zip(layer.kernel_size, layer.strides, strict=True))
    turned = torch.nn.functional.conv_transpose2d
    return lambda images: turned(images, kernel, bias, layer.strides, cut), [kernel, bias]
