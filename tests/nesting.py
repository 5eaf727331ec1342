"""Models and custom layers that hold layers, for the tests of them."""

import numpy as np
from running import normal

import minicnn as mc
from minicnn import layers

SHAPE = (6, 6, 3)
X = normal((24, *SHAPE), "float32", 7)
Y = np.arange(24) % 4


def convolution(filters=4, **more):
    return layers.Conv2D(filters, 3, padding="same", **more)


def nested(seed=3, dtype="float32", **more):
    """Every composite, one in another, with everything in them that a step has to care for."""
    model = mc.Sequential(
        [
            convolution(activation="relu"),
            layers.Residual(
                [
                    convolution(use_bias=False),
                    layers.BatchNormalization(),
                    layers.ReLU(),
                    layers.Dropout(0.3),
                    layers.Residual(convolution(kernel_regularizer="l2", activity_regularizer="l1")),
                ],
                [layers.Conv2D(4, 1, kernel_constraint="max_norm")],
                activation="relu",
            ),
            layers.Concurrent(
                [[], [convolution(3, activation="relu"), layers.SpatialDropout2D(0.4)], layers.Conv2D(2, 1)]
            ),
            layers.Chain([convolution(5, activation="relu"), layers.MaxPooling2D(2), layers.GaussianDropout(0.2)]),
            layers.Flatten(),
            layers.Dense(4, "softmax"),
        ],
        seed=seed,
        dtype=dtype,
        **more,
    )
    model.compile(mc.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy", ["accuracy"])
    return model


def trained(model=None, epochs=2):
    model = nested() if model is None else model
    model.fit(X, Y, 8, epochs, verbose=0)
    return model


class Holder(mc.Layer):
    """Runs the layers of ``inner()`` one after the other."""

    def build(self, input_shape, rng):
        shape = super().build(input_shape, rng)
        for layer in self.inner():
            shape = layer.build(shape, rng)
        return shape

    def forward(self, x, training=False):
        for layer in self.inner():
            x = layer.forward(x, training=training)
        return x

    def backward(self, dy):
        for layer in reversed(self.inner()):
            dy = layer.backward(dy)
        return dy


class Naive(Holder):
    """Written as examples/own_layer.py teaches, with layers in a list, a tuple and a dictionary."""

    def __init__(self, units=4):
        super().__init__()
        self.units = units
        self.body = [layers.Dense(units, "tanh")]
        self.more = (layers.Dense(units),)
        self.by_name = {"last": layers.Dense(units)}

    def inner(self):
        return [*self.body, *self.more, self.by_name["last"]]

    def forward(self, x, training=False):
        return super().forward(x, training) + x

    def backward(self, dy):
        return super().backward(dy) + dy


NAMES = ["0.body.0", "0.more.0", "0.by_name.last"]
FLAT, LABELS = normal((24, 4), "float32", 3), np.arange(24) % 3


def naive(layer=None):
    model = mc.Sequential([layer or Naive(), layers.Dense(3)], seed=2)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


class MadeInBuild(mc.Layer):
    """Makes its layer when it is built, when the model has told all others where they stand."""

    def build(self, input_shape, rng):
        shape = super().build(input_shape, rng)
        self.inner = layers.Dense(shape[-1], dtype=self.dtype)
        return self.inner.build(shape, rng)

    def forward(self, x, training=False):
        return self.inner.forward(x, training=training)

    def backward(self, dy):
        return self.inner.backward(dy)


def nested_built():
    model = nested()
    model.build(SHAPE)
    return model
