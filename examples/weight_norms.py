"""Dropout and its cousins on the digits: what L2, dropout and max-norm do to the weights, and to the test accuracy."""

import argparse

import numpy as np

import minicnn as mc
from minicnn import layers
from minicnn.constraints import MaxNorm
from minicnn.regularizers import L2

SEEDS = range(5)
# name: (regulariser of the kernels, rates of dropout, constraint of the kernels).  The numbers were chosen on the last
# fifth of the training part, not on the test part.
SETTINGS = {
    "none": (None, (0.0, 0.0), None),
    "L2(0.0003)": (L2(0.0003), (0.0, 0.0), None),
    "dropout": (None, (0.25, 0.5), None),
    "MaxNorm(1.5)": (None, (0.0, 0.0), MaxNorm(1.5)),
    "dropout, MaxNorm(1.5)": (None, (0.25, 0.5), MaxNorm(1.5)),
}


def network(seed, regularizer, rates, constraint):
    of_kernel = {"kernel_regularizer": regularizer, "kernel_constraint": constraint}
    model = mc.Sequential([
        layers.Conv2D(16, 3, padding="same", activation="relu", **of_kernel),
        layers.MaxPooling2D(2),
        layers.Dropout(rates[0]),
        layers.Flatten(),
        layers.Dense(64, activation="relu", **of_kernel),
        layers.Dropout(rates[1]),
        layers.Dense(10, activation="softmax", **of_kernel),
    ], seed=seed)  # fmt: skip
    model.compile(mc.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy", ["accuracy"])
    return model


def train(epochs, seed, setting):
    """(test accuracy in %, norms of the three kernels after the last epoch, penalty that is part of the loss)."""
    (x, y), (x_test, y_test) = mc.datasets.digits.load_data()
    model = network(seed, *setting)
    history = model.fit(x, y, 64, epochs, verbose=0, callbacks=[mc.callbacks.WeightNorms()]).history
    _, accuracy = model.evaluate(x_test, y_test)
    norms = [values[-1] for name, values in history.items() if name.endswith(".kernel")]
    return [100 * accuracy, *norms, model.penalty()]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 epochs instead of 60")
    epochs = 3 if parser.parse_args().quick else 60
    print(f"{epochs} epochs, mean and standard deviation over {len(SEEDS)} seeds\n")
    print(f"{'':<21} {'test accuracy':>15} {'norm conv':>12} {'norm dense':>12} {'norm last':>12} {'penalty':>8}")
    for name, setting in SETTINGS.items():
        runs = np.array([train(epochs, seed, setting) for seed in SEEDS])
        (accuracy, *norms, penalty), (spread, *spreads, _) = runs.mean(0), runs.std(0, ddof=1)
        shown = " ".join(f"{norm:6.2f} ± {more:3.2f}" for norm, more in zip(norms, spreads, strict=True))
        print(f"{name:<21} {accuracy:6.2f} ± {spread:4.2f} % {shown} {penalty:8.4f}")


if __name__ == "__main__":
    main()
