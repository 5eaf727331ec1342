"""The networks of models.py in PyTorch and ONNX Runtime, with the weights of a model of minicnn.

Both take their arrays as (N, C, H, W); PyTorch's "channels_last" means that shape with NHWC in memory, and "bfloat16"
the same with its products in that type (autocast).  Neither package is imported before it is needed, and neither must
be there.
"""

import contextlib
import importlib.util
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import machine
from minicnn import get_num_threads, layers
from minicnn.tree import walk

LAYOUTS = ("contiguous", "channels_last")


def have(*packages):
    return all(importlib.util.find_spec(package) for package in packages)


def multiplies_bfloat16():
    """Whether the processor does; elsewhere PyTorch computes every product in other ways, up to 20 times as slowly."""
    return bool({"avx512_bf16", "amx_bf16"} & machine.cpu_flags())


# ---- PyTorch ----


class Torch:
    """The network as an nn.Sequential in training mode, with the weights of ``model``."""

    def __init__(self, entries, shape, layout, model=None):
        import torch

        torch.set_num_threads(get_num_threads())
        self.last, self.half = layout != "contiguous", layout == "bfloat16"
        self.net = modules(entries, shape, exact=model is not None).train()
        if self.last:
            self.net = self.net.to(memory_format=torch.channels_last)
        if model is not None:
            copy_weights(model, self.net)
        self.sgd = torch.optim.SGD(self.net.parameters(), lr=0.001, momentum=0.9)
        self.loss = torch.nn.CrossEntropyLoss()

    def tensor(self, x):
        """x (N, H, W, C) in this layout."""
        import torch

        images = torch.from_numpy(x).permute(0, 3, 1, 2)
        return images if self.last else images.contiguous()

    def epoch(self, images, labels, batch):
        """What ``fit`` does in an epoch: all samples once, in random order; returns the mean loss."""
        import torch

        total, order = 0.0, torch.randperm(len(labels))
        nhwc = images.permute(0, 2, 3, 1) if self.last else images
        for chosen in order.split(batch):
            part = nhwc.index_select(0, chosen)
            self.sgd.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16) if self.half else contextlib.nullcontext():
                value = self.loss(self.net(part.permute(0, 3, 1, 2) if self.last else part), labels[chosen])
            value.backward()
            self.sgd.step()
            total += value.item() * len(chosen)
        return total / len(labels)

    def predict(self, images):
        """The outputs as an array; call ``net.eval()`` before."""
        import torch

        with torch.inference_mode():
            return self.net(images).numpy()


def torch_step(name, parameters, gradients, **arguments):
    """The step of torch.optim's ``name`` on a flat vector, in place."""
    import torch

    torch.set_num_threads(get_num_threads())
    parameter = torch.nn.Parameter(torch.from_numpy(parameters))
    parameter.grad = torch.from_numpy(gradients)
    return getattr(torch.optim, name)([parameter], **arguments).step


def modules(entries, input_shape, exact):
    """``exact``: with the padding of ours, where a stride is 2; otherwise with the one that is usual in PyTorch."""
    from torch import nn

    h, w, c = input_shape
    chain, flat = [], None
    for place, (kind, *arguments) in enumerate(entries):
        if kind == "conv":
            filters, size, padding = arguments
            chain.append(nn.Conv2d(c, filters, size, padding="same" if padding == "same" else 0))
            c = filters
            if padding == "valid":
                h, w = h - size + 1, w - size + 1
            if entries[place + 1 :][:1] != [("norm",)]:
                chain.append(nn.ReLU())
        elif kind == "norm":
            chain += [norm(c), nn.ReLU()]
        elif kind == "block":
            chain.append(block(c, *arguments, exact))
            c, stride = arguments
            h, w = -(-h // stride), -(-w // stride)
        elif kind == "average":
            chain += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
            flat = c
        elif kind == "pool":
            chain.append(nn.MaxPool2d(2))
            h, w = h // 2, w // 2
        elif kind == "flatten":
            chain.append(nn.Flatten())
            flat = h * w * c
        elif kind == "dropout":
            chain.append(nn.Dropout(*arguments))
        else:
            chain.append(nn.Linear(flat, *arguments))
            flat = arguments[0]
            if place < len(entries) - 1:
                chain.append(nn.ReLU())
    return nn.Sequential(*chain)


def norm(channels):
    from torch import nn

    return nn.BatchNorm2d(channels, momentum=0.01, eps=1e-3)


def block(channels, filters, stride, exact):
    """Its modules stand in the order of the layers of models.block: body, then shortcut."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            below = exact and stride > 1  # "same" pads an even image at the bottom and at the right only
            self.body = nn.Sequential(
                nn.ZeroPad2d((0, 1, 0, 1)) if below else nn.Identity(),
                nn.Conv2d(channels, filters, 3, stride, padding=0 if below else 1, bias=False),
                norm(filters),
                nn.ReLU(),
                nn.Conv2d(filters, filters, 3, padding=1, bias=False),
                norm(filters),
            )
            around = nn.Sequential(nn.Conv2d(channels, filters, 1, stride, bias=False), norm(filters))
            self.shortcut = around if stride > 1 else nn.Identity()

        def forward(self, x):
            return torch.relu(self.body(x) + self.shortcut(x))

    return Block()


def copy_weights(model, net):
    """Puts our parameters and moving statistics into the modules."""
    import torch

    theirs = [module for module in net.modules() if list(module.parameters(recurse=False))]
    with torch.no_grad():
        for (layer, kernel), module in zip(channels_first(model), theirs, strict=True):
            if isinstance(layer, layers.BatchNormalization):
                values = (layer.params["gamma"], layer.params["beta"],
                          layer.state["moving_mean"], layer.state["moving_variance"])  # fmt: skip
                places = module.weight, module.bias, module.running_mean, module.running_var
            else:
                values, places = (kernel, layer.params.get("bias")), (module.weight, module.bias)
            for place, value in zip(places, values, strict=True):
                if value is not None:
                    place.copy_(torch.from_numpy(np.array(value)))


def channels_first(model):
    """(layer, kernel as others want it or None) of every layer that has parameters.

    Ours are (KH, KW, C, F) and (D, M), theirs (F, C, KH, KW) and (M, D), and our Flatten orders its outputs by
    (H, W, C), theirs by (C, H, W).
    """
    flattened = None
    for _, layer in walk(model.layers):
        if isinstance(layer, layers.Flatten):
            flattened = layer.input_shape
        if not layer.params:
            continue
        kernel = layer.params.get("kernel")
        if kernel is not None and kernel.ndim == 4:
            kernel = kernel.transpose(3, 2, 0, 1)
        elif kernel is not None and flattened:
            kernel, flattened = kernel.reshape(*flattened, -1).transpose(3, 2, 0, 1).reshape(kernel.shape[1], -1), None
        elif kernel is not None:
            kernel = kernel.T
        yield layer, kernel


# ---- ONNX Runtime ----


class Onnx:
    """The network for prediction, run by ONNX Runtime with that many threads."""

    def __init__(self, model, threads, spinning=True):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            model.export(path, input_layout="NCHW", input_name="x")
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def predict(self, x):
        """x (N, C, H, W)."""
        return self.session.run(None, {"x": x})[0]
