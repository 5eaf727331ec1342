"""The networks that are compared, for minicnn and, layer by layer the same, for PyTorch.

A network is a list of entries: ("conv", filters, kernel, padding), ("pool",), ("norm",), ("dropout", rate),
("flatten",), ("dense", units).  A ReLU follows every convolution (after its "norm", if it has one) and every dense
layer but the last.
"""

from minicnn import Sequential, layers

MODELS = {
    "lenet5": ((28, 28, 1), [
        ("conv", 6, 5, "same"), ("pool",), ("conv", 16, 5, "valid"), ("pool",), ("flatten",),
        ("dense", 120), ("dense", 84), ("dense", 10),
    ]),
    "keras_mnist": ((28, 28, 1), [
        ("conv", 32, 3, "valid"), ("pool",), ("conv", 64, 3, "valid"), ("pool",), ("flatten",), ("dropout", 0.5),
        ("dense", 10),
    ]),
    "torch_mnist": ((28, 28, 1), [
        ("conv", 32, 3, "valid"), ("conv", 64, 3, "valid"), ("pool",), ("dropout", 0.25), ("flatten",),
        ("dense", 128), ("dropout", 0.5), ("dense", 10),
    ]),
    "keras_cifar": ((32, 32, 3), [
        ("conv", 32, 3, "same"), ("conv", 32, 3, "valid"), ("pool",), ("dropout", 0.25),
        ("conv", 64, 3, "same"), ("conv", 64, 3, "valid"), ("pool",), ("dropout", 0.25), ("flatten",),
        ("dense", 512), ("dropout", 0.5), ("dense", 10),
    ]),
    "norm_48_96": ((32, 32, 3), [
        ("conv", 48, 3, "same"), ("norm",), ("pool",), ("conv", 96, 3, "same"), ("norm",), ("pool",), ("flatten",),
        ("dense", 10),
    ]),
    "digits": ((8, 8, 1), [
        ("conv", 16, 3, "same"), ("pool",), ("dropout", 0.25), ("flatten",), ("dense", 64), ("dropout", 0.5),
        ("dense", 10),
    ]),
}  # fmt: skip


def in_minicnn(entries, seed=0):
    chain = []
    for place, (kind, *arguments) in enumerate(entries):
        normed = entries[place + 1 :][:1] == [("norm",)]
        if kind == "conv":
            filters, size, padding = arguments
            chain.append(layers.Conv2D(filters, size, padding=padding, activation=None if normed else "relu"))
        elif kind == "norm":
            chain += [layers.BatchNormalization(), layers.ReLU()]
        elif kind == "dense":
            chain.append(layers.Dense(*arguments, activation="relu" if place < len(entries) - 1 else None))
        else:
            make = {"pool": layers.MaxPooling2D, "dropout": layers.Dropout, "flatten": layers.Flatten}
            chain.append(make[kind](*arguments))
    return Sequential(chain, seed=seed)


def in_torch(entries, input_shape):
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
            chain += [nn.BatchNorm2d(c, momentum=0.01, eps=1e-3), nn.ReLU()]
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
