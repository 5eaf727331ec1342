"""MNIST: a convolutional network with dropout learns to read 28 x 28 pixel digits.

python examples/mnist.py                     # reads MNIST from $MINICNN_DATA/mnist, or downloads it: docs/data.md
python examples/mnist.py --data-dir FOLDER   # the four files of MNIST, or others in their form
python examples/mnist.py --validate          # how the settings below were chosen: nothing here sees the test part
python examples/mnist.py --quick             # seconds; without MNIST at hand it takes the embedded digits instead
"""

import argparse
import math
import sys

import numpy as np

import minicnn as mc
from minicnn import layers

EPOCHS = 10
BATCH_SIZE = 64
LEARNING_RATE = 0.05  # of the first step; it falls to 0 along a cosine
MOMENTUM = 0.9


def network(seed):
    return mc.Sequential([
        layers.Rescaling(1 / 255),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Dropout(0.25),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ], seed=seed)  # fmt: skip


def enlarged_digits():
    """The embedded 8 x 8 digits in the form of MNIST: every pixel becomes 3 x 3, with a border of 2."""
    parts = []
    for x, y in mc.datasets.digits.load_data():
        large = np.pad(np.kron(x, np.ones((1, 3, 3, 1))), ((0, 0), (2, 2), (2, 2), (0, 0)))
        parts.append((np.rint(255 * large).astype(np.uint8), y))
    return parts


def load(folder, quick):
    if quick and folder is None and not mc.datasets.info("mnist").here:
        print("MNIST is not at hand: these are the embedded 8 x 8 digits, enlarged to 28 x 28")
        return enlarged_digits()
    try:
        (x, y), test = mc.datasets.mnist.load_data(folder)
    except (FileNotFoundError, ImportError) as error:  # the latter says what downloads need
        sys.exit(str(error))
    return ((x[:3000], y[:3000]) if quick else (x, y)), test


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", help="folder with MNIST's four files (default: $MINICNN_DATA/mnist, or a download)"
    )
    parser.add_argument("--epochs", type=int, help=f"default {EPOCHS}, or 4 with --quick")
    parser.add_argument("--seed", type=int, default=0, help="of initial values, masks and order; default 0")
    parser.add_argument("--validate", action="store_true", help="test on the last sixth of the training part instead")
    parser.add_argument("--quick", action="store_true", help="at most 3,000 images for training")
    options = parser.parse_args()

    (x, y), (x_test, y_test) = load(options.data_dir, options.quick)
    if options.validate:
        cut = len(x) - len(x) // 6  # of MNIST's 60,000: 50,000 to train on, 10,000 to choose settings with
        (x, y), (x_test, y_test) = (x[:cut], y[:cut]), (x[cut:], y[cut:])
    epochs = options.epochs if options.epochs is not None else 4 if options.quick else EPOCHS
    steps = epochs * math.ceil(len(x) / BATCH_SIZE)

    model = network(options.seed)
    rate = mc.optimizers.CosineDecay(LEARNING_RATE, steps)
    model.compile(mc.optimizers.SGD(rate, MOMENTUM), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, BATCH_SIZE, epochs, validation_data=(x_test, y_test) if options.validate else None)

    loss, accuracy = model.evaluate(x_test, y_test, batch_size=256)
    part = "validation" if options.validate else "test"
    wrong = round(len(x_test) * (1 - accuracy))
    print(f"trained on {len(x):,} images, {epochs} epochs")
    print(f"{part} loss {loss:.4f}, {part} accuracy {100 * accuracy:.2f} % ({wrong} of {len(x_test):,} wrong)")


if __name__ == "__main__":
    main()
