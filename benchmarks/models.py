"""The networks that are measured, for minicnn; rivals.py makes the same of them for others.

A network is a list of entries: ("conv", filters, kernel, padding), ("pool",), ("norm",), ("dropout", rate),
("flatten",), ("dense", units), ("average",) over all pixels, and ("block", filters, stride): two convolutions of 3 x 3
without bias, each with its "norm", and a way around both, which is a convolution of 1 x 1 with its "norm" where the
stride is not 1.  A ReLU follows every convolution (after its "norm", if it has one), the sum of a block in place of its
second convolution, and every dense layer but the last.
"""

import numpy as np

from minicnn import Sequential, layers, optimizers

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
    "resnet20": ((32, 32, 3), [
        ("conv", 16, 3, "same"), ("norm",), *[("block", 16, 1)] * 3, ("block", 32, 2), *[("block", 32, 1)] * 2,
        ("block", 64, 2), *[("block", 64, 1)] * 2, ("average",), ("dense", 10),
    ]),
    "digits": ((8, 8, 1), [
        ("conv", 16, 3, "same"), ("pool",), ("dropout", 0.25), ("flatten",), ("dense", 64), ("dropout", 0.5),
        ("dense", 10),
    ]),
}  # fmt: skip


def drawn(seed):
    """A network for which nobody tuned a kernel: the size of the image, kernels and filters are random."""
    rng = np.random.default_rng(seed)
    size, entries = int(rng.integers(20, 33)), []
    for place in range(int(rng.integers(3, 5))):
        kernel, filters = int(rng.choice([3, 5])), 4 * int(rng.integers(4, 17))
        entries += [("conv", filters, kernel, "same")] + [("norm",)] * int(rng.integers(2))
        entries += [("pool",)] * (place % 2)
    return (size, size, int(rng.choice([1, 3]))), [*entries, ("flatten",), ("dense", 10)]


RANDOM = {f"random_{seed}": drawn(seed) for seed in (1, 2)}
MADE_BY = {
    "pool": layers.MaxPooling2D,
    "dropout": layers.Dropout,
    "flatten": layers.Flatten,
    "average": layers.GlobalAveragePooling2D,
}


def in_minicnn(entries, seed=0, **options):
    """A model, compiled for SGD with momentum and cross-entropy on logits; ``options`` are Sequential's."""
    model = Sequential(chain(entries), seed=seed, **options)
    model.compile(optimizers.SGD(0.001, momentum=0.9), "sparse_categorical_crossentropy")
    return model


def chain(entries):
    made = []
    for place, (kind, *arguments) in enumerate(entries):
        normed = entries[place + 1 :][:1] == [("norm",)]
        if kind == "conv":
            filters, size, padding = arguments
            made.append(layers.Conv2D(filters, size, padding=padding, activation=None if normed else "relu"))
        elif kind == "norm":
            made += [layers.BatchNormalization(), layers.ReLU()]
        elif kind == "block":
            made.append(block(*arguments))
        elif kind == "dense":
            made.append(layers.Dense(*arguments, activation="relu" if place < len(entries) - 1 else None))
        else:
            made.append(MADE_BY[kind](*arguments))
    return made


def block(filters, stride):
    def normed(size, strides=1):
        convolution = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)
        return [convolution, layers.BatchNormalization()]

    body = [*normed(3, stride), layers.ReLU(), *normed(3)]
    return layers.Residual(body, normed(1, stride) if stride > 1 else None, activation="relu")


def samples(shape, n, seed=0):
    """Random images and labels: (x, y)."""
    rng = np.random.default_rng(seed)
    return rng.random((n, *shape), np.float32), rng.integers(0, 10, n)
