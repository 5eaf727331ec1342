"""What the command line trains: networks, their data, and the settings where no option says otherwise."""

from typing import Any, NamedTuple

from minicnn import datasets, layers, optimizers
from minicnn.model import Sequential

LOSS = "sparse_categorical_crossentropy"


def digits_cnn(dropout):
    """For 8 x 8 grey values in [0, 1]; ``dropout`` is the rate before the last layer, half of it after the pooling."""
    return [
        layers.Conv2D(16, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(2),
        layers.Dropout(dropout / 2),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dropout(dropout),
        layers.Dense(10, activation="softmax"),
    ]


def mnist_cnn(dropout):
    """For 28 x 28 grey values 0 to 255; ``dropout`` as in ``digits_cnn``."""
    return [
        layers.Rescaling(1 / 255),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Dropout(dropout / 2),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dropout(dropout),
        layers.Dense(10, activation="softmax"),
    ]


class Task(NamedTuple):
    """A data set with its network; ``settings`` are the options of ``train`` by name.

    ``lr_decay``: the factor of the learning rate from epoch to epoch.  The rate depends on the step alone, so that a
    run which --resume continues equals one that was that long from the start.
    """

    network: Any
    image: tuple
    settings: dict
    lr_decay: float


TASKS = {
    "digits": Task(
        digits_cnn,
        (8, 8, 1),
        {"epochs": 30, "batch_size": 32, "lr": 0.05, "momentum": 0.9, "dropout": 0.5, "seed": 0},
        lr_decay=0.93,
    ),
    "mnist": Task(
        mnist_cnn,
        (28, 28, 1),
        {"epochs": 5, "batch_size": 64, "lr": 0.05, "momentum": 0.9, "dropout": 0.5, "seed": 0},
        lr_decay=0.6,
    ),
}


def model(task, rate, seed, settings, samples):
    """The task's network with the dropout rate ``rate``, compiled for training on so many samples."""
    chain = Sequential(task.network(rate), seed=seed)
    steps = len(datasets.slices(samples, settings["batch_size"]))
    schedule = optimizers.ExponentialDecay(settings["lr"], steps, task.lr_decay)
    chain.compile(optimizers.SGD(schedule, settings["momentum"]), LOSS, ["accuracy"])
    chain.build(task.image)
    return chain


def load_data(name, folder):
    """((x, y), (x_test, y_test)) of a task; ``folder`` is where MNIST's files are, None for the usual place."""
    if name == "mnist":
        return datasets.mnist.load_data(folder)
    if folder is not None:
        raise ValueError("--data-dir is for --data mnist; the digits are part of minicnn")
    return datasets.digits.load_data()
