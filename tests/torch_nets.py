"""Random small networks of PyTorch, for tests of what comes from there; imported where torch is."""

import io

import torch
from hypothesis import strategies as st
from torch import nn


class Ways(nn.Module):
    """Several ways side by side: added, with a ReLU behind, or joined along the channels."""

    def __init__(self, ways, add):
        super().__init__()
        self.ways, self.add = nn.ModuleList(ways), add

    def forward(self, x):
        parts = [way(x) for way in self.ways]
        return torch.relu(sum(parts[1:], parts[0])) if self.add else torch.cat(parts, 1)


class Thinned(nn.Module):
    """The shortcut without parameters of residual networks: every second pixel, and channels of zeros."""

    def __init__(self, more):
        super().__init__()
        self.more = more

    def forward(self, x):
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))


class Mean(nn.Module):
    def __init__(self, keep):
        super().__init__()
        self.keep = keep

    def forward(self, x):
        return x.mean((2, 3), keepdim=self.keep)


def activations():
    plain = (
        nn.ReLU,
        nn.Tanh,
        nn.Sigmoid,
        nn.ReLU6,
        nn.Hardswish,
        nn.GELU,
        nn.SELU,
        nn.SiLU,
        nn.Softplus,
        nn.Hardsigmoid,
    )
    made = [st.just(one()) for one in (*plain, nn.Softsign, nn.CELU, nn.Hardtanh)]
    slopes = st.floats(0, 1, width=32)
    made += [slopes.map(nn.LeakyReLU), slopes.map(lambda a: nn.ELU(a + 0.1)), slopes.map(lambda a: nn.PReLU(init=a))]
    return st.one_of(*made)


@st.composite
def convolutions(draw, c, size):
    """(a module, channels, size) of a convolution that fits images of that many channels and that size."""
    k, s, d = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 1, 2])), draw(st.sampled_from([1, 1, 2]))
    p = draw(st.integers(0, (k - 1) * d))
    groups = draw(st.sampled_from([g for g in (1, 1, 2, c) if c % g == 0]))
    f = groups * draw(st.integers(1, 3))
    module = nn.Conv2d(c, f, k, s, p, d, groups, bias=draw(st.booleans()))
    return module, f, [(one + 2 * p - (k - 1) * d - 1) // s + 1 for one in size]


@st.composite
def poolings(draw, c, size):
    k, s = draw(st.sampled_from([2, 3])), draw(st.sampled_from([1, 2, 3]))
    p, ceil = draw(st.integers(0, k // 2)), draw(st.booleans())
    if draw(st.booleans()):
        module = nn.MaxPool2d(k, s, p, ceil_mode=ceil)
    else:
        module = nn.AvgPool2d(k, s, p, ceil_mode=ceil, count_include_pad=draw(st.booleans()))
    return module, c, list(module(torch.zeros(1, c, *size)).shape[2:]) if min(size) + 2 * p >= k else [0, 0]


@st.composite
def norms(draw, c, size):
    kind = draw(st.sampled_from(["batch", "batch", "group", "instance", "layer"]))
    if kind == "batch":
        module = nn.BatchNorm2d(c, eps=draw(st.sampled_from([1e-5, 1e-3])), affine=draw(st.booleans()))
        module.running_mean.uniform_(-0.5, 0.5), module.running_var.uniform_(0.5, 1.5)
    elif kind == "group":
        module = nn.GroupNorm(draw(st.sampled_from([g for g in (1, 2, 3, c) if c % g == 0])), c)
    elif kind == "instance":
        module = nn.InstanceNorm2d(c, affine=draw(st.booleans()))
    else:
        module = nn.LayerNorm([c, *size])
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -1, 1.5)
    return module, c, size


@st.composite
def blocks(draw, c, size):
    """Ways side by side that keep the size."""

    def way(f, more):
        parts = [nn.Conv2d(c, f, 3, padding=1), *([draw(activations()), nn.Conv2d(f, f, 1)] if more else [])]
        return nn.Sequential(*parts)

    if draw(st.booleans()):
        second = nn.Identity() if draw(st.booleans()) else way(c, False)
        return Ways([way(c, draw(st.booleans())), second], True), c, size
    if min(size) > 3 and draw(st.booleans()):
        more, half = draw(st.integers(1, 3)), [-(-one // 2) for one in size]
        return Ways([nn.Conv2d(c, c + more, 3, 2, 1), Thinned(more)], True), c + more, half
    more = draw(st.integers(1, 3))
    return Ways([way(more, draw(st.booleans())), nn.Identity()], False), c + more, size


@st.composite
def resizings(draw, c, size):
    kind = draw(st.sampled_from(["nearest", "bilinear", "transposed", "pad", "shuffle"]))
    if kind == "pad":
        sides = [draw(st.integers(0, 2)) for _ in range(4)]
        return nn.ZeroPad2d(sides), c, [size[0] + sides[2] + sides[3], size[1] + sides[0] + sides[1]]
    if kind == "shuffle":
        module = nn.Sequential(nn.Conv2d(c, 8, 1), nn.PixelShuffle(2))
        return module, 2, [2 * one for one in size]
    if kind == "transposed":
        k, s = draw(st.integers(2, 3)), draw(st.integers(1, 2))
        module = nn.ConvTranspose2d(c, 2, k, s, draw(st.integers(0, 1)), draw(st.integers(0, s - 1)))
        return module, 2, list(module(torch.zeros(1, c, *size)).shape[2:])
    return nn.Upsample(scale_factor=2, mode=kind), c, [2 * one for one in size]


@st.composite
def nets(draw, classes=3):
    """(a network in eval mode, the shape of a sample) with seeded random weights."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    c, size = draw(st.integers(1, 3)), [draw(st.integers(5, 9)), draw(st.integers(5, 9))]
    shape, modules = (c, *size), []
    for _ in range(draw(st.integers(1, 4))):
        made = draw(
            st.one_of(*(make(c, size) for make in (convolutions, convolutions, poolings, norms, blocks, resizings)))
        )
        if min(made[2]) < 1 or max(made[2]) > 24 or (isinstance(made[0], nn.InstanceNorm2d) and max(size) < 2):
            continue
        module, c, size = made
        modules.append(module)
        if draw(st.booleans()):
            modules.append(draw(activations()))
        if draw(st.integers(0, 4)) == 0:
            modules.append(nn.Dropout(0.25))
    end = draw(st.sampled_from(["flatten", "mean", "pool", "max", "image"]))
    if end != "image":
        head = {
            "flatten": [nn.Flatten()],
            "mean": [Mean(False)],
            "pool": [nn.AdaptiveAvgPool2d(1), nn.Flatten()],
            "max": [nn.AdaptiveMaxPool2d(1), nn.Flatten()],
        }[end]
        width = c * size[0] * size[1] if end == "flatten" else c
        modules += [*head, nn.Linear(width, 4), draw(activations()), nn.Linear(4, classes)]
        modules += draw(st.sampled_from([[], [nn.Softmax(1)], [nn.LogSoftmax(-1)]]))
    elif not modules:
        modules = [nn.Conv2d(c, 2, 1)]
    return nn.Sequential(*modules).eval(), shape


def export(net, shape, dynamo):
    """The bytes of the network's ONNX file, with an open batch."""
    x, name = torch.randn(2, *shape), "x"
    if dynamo:
        program = torch.onnx.export(net, (x,), dynamo=True, verbose=False, dynamic_shapes=({0: torch.export.Dim("n")},))
        return program.model_proto.SerializeToString()
    file = io.BytesIO()
    torch.onnx.export(net, x, file, dynamo=False, input_names=[name], dynamic_axes={name: {0: "n"}})
    return file.getvalue()
