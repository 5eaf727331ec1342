"""Depthwise convolution beside PyTorch's: each of its three passes."""

import numpy as np
import reference

import minicnn as mc
from benchmarks import rivals
from benchmarks.machine import percent, relative_error, side_by_side, table
from minicnn._ext import conv

TITLE = "Depthwise convolution"
TEXT = """\
Kernels of 3 x 3, a pixel of padding on each side, float32, batch 32: the passes alone, without the layer around them.
The shape is that of the image, its channels, and the filters of each. The gradient of the weights comes with that of
the bias. *PyTorch*: the same operators without autograd, in the better layout; *ratio*: of the medians, above 1 where
minicnn is faster.
"""
SHAPES = [(size, c, multiplier, stride) for size in (32, 14) for c, multiplier in ((32, 1), (128, 1), (32, 2))
          for stride in (1, 2)]  # fmt: skip
PASSES = ("forward", "input gradient", "weight gradient")
TOLERANCE = 1e-4


def run(quick=False, plots=None):
    rows, torch = [], rivals.have("torch")
    for size, c, multiplier, stride in SHAPES[1::5] if quick else SHAPES:
        arrays = make(2 if quick else 32, size, c, multiplier, stride)
        cases = {("", name): call for name, call in ours(arrays, stride).items()}
        for layout in rivals.LAYOUTS if torch else ():
            cases |= {(layout, name): call for name, call in theirs(arrays, stride, layout).items()}
        times = side_by_side(cases, quick, rounds=9)
        for name in PASSES:
            mine = times["", name]
            other = min(times[layout, name].median for layout in rivals.LAYOUTS) if torch else None
            shape = f"{size}x{size}, {c} x {multiplier}, stride {stride}"
            beside = [f"{other * 1e6:.0f}", f"{other / mine.median:.2f}"] if torch else ["", ""]
            rows.append([shape, name, f"{mine.median * 1e6:.0f}", percent(mine.spread), *beside])
    return TEXT + "\n" + table(["shape", "pass", "minicnn, us", "spread", "PyTorch, us", "ratio"], rows)


def make(n, size, c, multiplier, stride):
    """x, kernel, bias, dy."""
    rng, out, f = np.random.default_rng(0), -(-size // stride), c * multiplier
    shapes = (n, size, size, c), (3, 3, 1, f), (f,), (n, out, out, f)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def ours(arrays, stride):
    """{pass: function}, each of which has been checked."""
    x, kernel, bias, dy = arrays
    y, dx, dkernel, dbias = (np.empty_like(array) for array in (dy, x, kernel, bias))
    geometry, groups = (stride, stride, 1, 1, 1, 1, x.shape[3]), x.shape[3]
    calls = {
        "forward": lambda: conv.forward(x, kernel, bias, y, geometry),
        "input gradient": lambda: conv.backward_input(dy, kernel, dx, geometry),
        "weight gradient": lambda: conv.backward_params(x, dy, dkernel, dbias, geometry),
    }
    for call in calls.values():
        call()
    options = (stride, stride), ((1, 1), (1, 1))
    weights = kernel.reshape(3, 3, groups, -1)
    want = reference.depthwise_conv2d_grad(x, weights, dy, *options)
    pairs = [(y, reference.depthwise_conv2d(x, weights, bias, *options)), (dx, want[0])]
    pairs += [(dkernel, want[1].reshape(dkernel.shape)), (dbias, want[2])]
    for found, right in pairs:
        error = relative_error(found, right)
        assert error < TOLERANCE, f"depthwise: error {error}"
    return calls


def theirs(arrays, stride, layout):
    """The same in PyTorch."""
    import torch

    torch.set_num_threads(mc.get_num_threads())
    form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    x, dy = (torch.from_numpy(array).permute(0, 3, 1, 2).contiguous(memory_format=form) for array in arrays[::3])
    kernel = torch.from_numpy(arrays[1]).permute(3, 2, 0, 1).contiguous(memory_format=form)
    bias, c, f = torch.from_numpy(arrays[2]), x.shape[1], dy.shape[1]

    def gradients(*wanted):
        sizes = [f], [stride] * 2, [1, 1], [1, 1], False, [0, 0], c
        return torch.ops.aten.convolution_backward(dy, x, kernel, *sizes, list(wanted))

    want = reference.depthwise_conv2d(
        arrays[0], arrays[1].reshape(3, 3, c, -1), arrays[2], (stride, stride), ((1, 1), (1, 1))
    )
    found = torch.nn.functional.conv2d(x, kernel, bias, stride, 1, 1, c).permute(0, 2, 3, 1).numpy()
    assert relative_error(found, want) < TOLERANCE
    return {
        "forward": lambda: torch.nn.functional.conv2d(x, kernel, bias, stride, 1, 1, c),
        "input gradient": lambda: gradients(True, False, False),
        "weight gradient": lambda: gradients(False, True, True),
    }
