"""A custom layer: PReLU in NumPy, its gradient check, a mistake in it, and its place in a network.

    y = x where x > 0, else slope * x        one slope for every channel, and it is learned

    dL/dx = dy where x > 0, else slope * dy          dL/dslope = sum of dy * x over all places where x <= 0

K. He, X. Zhang, S. Ren, J. Sun, "Delving Deep into Rectifiers", ICCV 2015, section 2.1.
"""

import argparse

import numpy as np

import minicnn as mc
from minicnn import layers


class PReLU(mc.Layer):
    """max(x, 0) + slope * min(x, 0).  x, y: (N, ..., C); slope: (C,), at first all ``initial``."""

    # What comes out is what came in, changed: at the end of a chain logits stay logits, and the loss knows it.  A layer
    # that makes probabilities says "softmax" or "sigmoid"; one that makes logits of any input, "linear".
    output_function = "changed"

    def __init__(self, initial=0.25, dtype=None):
        super().__init__(dtype)
        self.initial = float(initial)  # kept under the argument's name: get_config finds it, and files can hold it

    def build(self, input_shape, rng):
        input_shape = super().build(input_shape, rng)
        self.add_param("slope", input_shape[-1:], lambda shape, rng: np.full(shape, self.initial), rng)
        return input_shape

    def forward(self, x, training=False):
        x = self.check_input(x)
        if training:
            self.keep(len(x), x)  # what backward needs; an evaluation keeps nothing
        return np.where(x > 0, x, self.params["slope"] * x)

    def backward(self, dy):
        dy, (x,) = self.check_gradient(dy)
        self.grads["slope"][...] = np.where(x > 0, 0, dy * x).sum(tuple(range(x.ndim - 1)))  # over all but channels
        return np.where(x > 0, dy, self.params["slope"] * dy)


class WrongPReLU(PReLU):
    """With the dL/dx of ReLU.  A network still learns with it, only worse: nobody notices, but the check does."""

    def backward(self, dy):
        dy, (x,) = self.check_gradient(dy)
        self.grads["slope"][...] = np.where(x > 0, 0, dy * x).sum(tuple(range(x.ndim - 1)))
        return np.where(x > 0, dy, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 epochs instead of 30")
    epochs = 5 if parser.parse_args().quick else 30

    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3))  # any random numbers will do
    print("PReLU is right:", mc.testing.gradcheck(PReLU(), x), sep="\n")
    try:
        mc.testing.gradcheck(WrongPReLU(), x)
    except mc.testing.GradientError as error:
        print("\nWrongPReLU is not:", error, sep="\n")

    (x, y), (x_test, y_test) = mc.datasets.digits.load_data()
    model = mc.Sequential([
        layers.Conv2D(16, 3, padding="same"),
        PReLU(),
        layers.MaxPooling2D(2),
        layers.Dropout(0.25),
        layers.Flatten(),
        layers.Dense(64),
        PReLU(),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ], seed=0)  # fmt: skip
    sgd = mc.optimizers.SGD(learning_rate=0.05, momentum=0.9)
    model.compile(sgd, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=64, epochs=epochs)
    _, accuracy = model.evaluate(x_test, y_test)
    print(f"\ntest accuracy with PReLU in the middle of the chain: {100 * accuracy:.1f} %")
    print("slopes of the first, which began at 0.25:", model.layers[1].params["slope"].round(2), sep="\n")


if __name__ == "__main__":
    main()
