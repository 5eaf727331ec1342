"""The small models and data on which the tests of the model, of training and of callbacks run."""

import numpy as np

import minicnn as mc
from minicnn import layers
from minicnn.callbacks import Callback
from minicnn.layer import Layer

IMAGE = (6, 5, 2)
X = np.random.default_rng(7).random((12, *IMAGE)).astype(np.float32)
LABELS = np.arange(12) % 4
ONE_HOT = np.eye(4)[LABELS]


def chain(end="softmax"):
    """Every kind of layer that matters here: with parameters, with random numbers, with moving statistics."""
    return [
        layers.Conv2D(3, 3, activation="relu"),
        layers.Dropout(0.3),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(4, activation=end),
    ]


def small(end="softmax", **more):
    """Built, not compiled."""
    model = mc.Sequential(chain(end), seed=1, **more)
    model.build(IMAGE)
    return model


def compiled(end="softmax", loss="sparse_categorical_crossentropy", optimizer=None, **more):
    model = small(end, **more)
    model.compile(mc.optimizers.Adam(0.01) if optimizer is None else optimizer, loss, ["accuracy"])
    return model


def trained(*arguments, **more):
    """After two epochs of three steps."""
    model = compiled(*arguments, **more)
    model.fit(X, LABELS, batch_size=5, epochs=2, verbose=0)
    return model


def whole_state(model):
    """All that a step changes, as bytes: parameters, moving statistics, counters, the optimiser's slots."""
    state = dict(model.state_dict())
    state |= {f"{i}.{key}": np.array(value) for i, one in enumerate(model.layers) for key, value in one.state.items()}
    state |= {f"optimizer.{key}": np.array(value) for key, value in model.optimizer.get_state().items()}
    return {key: array.tobytes() for key, array in state.items()}


class Halve(Layer):
    """y = x / 2, in Python."""

    output_function = "changed"

    def forward(self, x, training=False):
        return x / 2

    def backward(self, dy):
        return dy / 2


class Hook(Callback):
    """Calls a function at the end of every step."""

    def __init__(self, function):
        self.function = function

    def on_train_batch_end(self, batch, logs=None):
        self.function(self.model)


class Keep(Callback):
    """Keeps the whole state after every step."""

    def __init__(self, states):
        self.states = states

    def on_train_batch_end(self, batch, logs=None):
        self.states.append(whole_state(self.model))


def network(units, end, loss, seed=0, dtype="float32"):
    model = mc.Sequential([layers.Flatten(), layers.Dense(units, activation=end)], seed=seed, dtype=dtype)
    if loss is not None:
        model.compile("sgd", loss)
    model.build(IMAGE)
    return model


def softmax(z):
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def same(z):
    return z
