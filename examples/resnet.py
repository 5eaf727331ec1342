"""A residual network of 20 layers, of convolutions with batch normalisation and ways around them, learns digits.

python examples/resnet.py                                       # half a minute, on the embedded digits
python examples/resnet.py --data mnist --data-dir FOLDER        # MNIST; without the option: docs/data.md
python examples/resnet.py --quick                               # seconds: 8 layers

The network is that of He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2,
which the paper trains on CIFAR-10 with shifted and mirrored images.  Where the shape changes, the way around is a
convolution of 1 x 1 (the paper's option B; on CIFAR-10 it pads with zeros there, option A).
"""

import argparse
import math
import sys

import numpy as np

import minicnn as mc
from minicnn import layers

EPOCHS = {"digits": 6, "mnist": 2}
BATCH_SIZE = 64
LEARNING_RATE = 0.1  # of the first step; it falls to 0 along a cosine
MOMENTUM = 0.9
PENALTY = 0.5e-4  # the paper's weight decay of 0.0001 as the factor of a sum of squares


def resnet(depth=20, classes=10, seed=0, widths=(16, 32, 64)):
    """A model for images of bytes (32, 32, 3), not compiled.  ``depth``: 2 + 6 times the blocks of each stage."""
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"resnet: depth must be 8, 14, 20, ...; got {depth}")
    chain = [layers.Rescaling(1 / 255), *convolution(widths[0]), layers.ReLU()]
    for stage, filters in enumerate(widths):
        for place in range((depth - 2) // 6):
            chain.append(block(filters, shrinks=stage > 0 and place == 0))
    return mc.Sequential([*chain, layers.GlobalAveragePooling2D(), layers.Dense(classes)], seed=seed)


def block(filters, shrinks):
    """y = relu(body(x) + x); one that ``shrinks`` takes every second pixel, and brings x to y's shape."""
    strides = 2 if shrinks else 1
    body = [*convolution(filters, strides=strides), layers.ReLU(), *convolution(filters)]
    shortcut = convolution(filters, size=1, strides=strides) if shrinks else None
    return layers.Residual(body, shortcut, activation="relu")


def convolution(filters, size=3, strides=1):
    """Without bias: the normalisation behind it would take it away again."""
    return [
        layers.Conv2D(
            filters,
            size,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            kernel_regularizer=mc.regularizers.L2(PENALTY),
        ),
        layers.BatchNormalization(momentum=0.9),  # the mean of the last ten batches or so: there are few
    ]


def load(name, folder):
    """((x, y), (x_test, y_test)), the images as bytes (n, 32, 32, 3) with three equal channels."""
    try:
        parts = mc.datasets.mnist.load_data(folder) if name == "mnist" else mc.datasets.digits.load_data()
    except (FileNotFoundError, ImportError) as error:  # the latter says what downloads need
        sys.exit(str(error))
    return [(in_colour(x), y) for x, y in parts]


def in_colour(x):
    """MNIST's 28 x 28 bytes get a border of 2; of the digits' 8 x 8 in [0, 1] every pixel becomes 4 x 4."""
    if x.dtype == np.uint8:
        large = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    else:
        large = np.kron(np.rint(255 * x).astype(np.uint8), np.ones((1, 4, 4, 1), np.uint8))
    return np.repeat(large, 3, axis=3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("digits", "mnist"), default="digits", help="default digits, embedded")
    parser.add_argument(
        "--data-dir", help="folder with MNIST's four files (default: $MINICNN_DATA/mnist, or a download)"
    )
    parser.add_argument("--depth", type=int, help="8, 14, 20, ...; default 20, or 8 with --quick")
    parser.add_argument("--epochs", type=int, help=f"default {EPOCHS['digits']}, of MNIST {EPOCHS['mnist']}")
    parser.add_argument("--seed", type=int, default=0, help="of initial values and order; default 0")
    parser.add_argument("--quick", action="store_true", help="8 layers, at most 3,000 images for training, 3 epochs")
    options = parser.parse_args()

    (x, y), (x_test, y_test) = load(options.data, options.data_dir)
    if options.quick:
        x, y, x_test, y_test = x[:3000], y[:3000], x_test[:1000], y_test[:1000]
    epochs = options.epochs if options.epochs is not None else 3 if options.quick else EPOCHS[options.data]
    steps = epochs * math.ceil(len(x) / BATCH_SIZE)

    depth = options.depth if options.depth is not None else 8 if options.quick else 20
    model = resnet(depth, seed=options.seed)
    rate = mc.optimizers.CosineDecay(LEARNING_RATE, steps)
    model.compile(mc.optimizers.SGD(rate, MOMENTUM), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, BATCH_SIZE, epochs)

    loss, accuracy = model.evaluate(x_test, y_test, batch_size=256)
    print(f"{depth} layers, {model.count_params():,} parameters, trained on {len(x):,} images, {epochs} epochs")
    print(f"test loss {loss:.4f}, test accuracy {100 * accuracy:.2f} %")


if __name__ == "__main__":
    main()
