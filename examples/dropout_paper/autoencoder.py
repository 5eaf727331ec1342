"""The autoencoder of features.py and sparsity.py, with and without dropout on its one hidden layer of ReLUs."""

import numpy as np

import minicnn as mc
from examples.dropout_paper import lab
from minicnn import layers

FULL = {"data": "mnist", "samples": 20_000, "epochs": 30, "units": 256}
QUICK = {"data": "digits", "samples": 600, "epochs": 200, "units": 32}
BINS = np.linspace(0, 5, 51)  # of the histogram of activations; what is higher counts into the last
SHOWN = 64  # features in the picture


def here(size):
    return f"""{size["units"]} ReLUs between the pixels and a linear layer that gives them back, squared error, Adam,
{size["samples"]:,} training images, {size["epochs"]} epochs; p = 0.5 on the hidden layer, or no dropout."""


def specs(size):
    return [{**size, "keep": keep} for keep in (1.0, 0.5)]


def train(seed, data, samples, epochs, units, keep):
    x, _ = lab.sample(data, samples, seed)
    x_test, _ = lab.data(data)["test"]
    encoder = layers.Dense(units, activation="relu", kernel_initializer=_small)
    chain = [encoder, layers.Dropout(1 - keep), layers.Dense(x.shape[1])]
    model = mc.Sequential(chain, seed=seed)
    steps = epochs * len(mc.datasets.slices(len(x), lab.BATCH_SIZE))
    model.compile(mc.optimizers.Adam(mc.optimizers.CosineDecay(0.001, steps)), "mean_squared_error")
    model.fit(x, x, lab.BATCH_SIZE, epochs, verbose=0)
    hidden = model.outputs(x_test)[0]
    return {**_activations(hidden), **_features(model, hidden, x_test, seed)}


def _small(shape, rng):
    """Initial values too small to be seen among what was learned, also where a pixel is never ink."""
    return 0.01 * rng.standard_normal(shape)


def _activations(hidden):
    """How much of the hidden layer is on, (N, units): in mean, unit by unit, and as a histogram of all."""
    hidden = hidden[:, hidden.any(0)]  # some ReLUs die in training: they never come on, and say nothing
    counts, _ = np.histogram(np.minimum(hidden, BINS[-1]), BINS)
    return {
        "mean activation": float(hidden.mean()),
        "zeros": 100 * float((hidden == 0).mean()),
        "mean of each unit": hidden.mean(0).round(3).tolist(),
        "histogram": (counts / hidden.size).tolist(),
    }


def _features(model, hidden, x, seed):
    """What the weights of a hidden unit look like, and how much the output depends on single units."""
    kernel = model.layers[0].params["kernel"].T  # (units, pixels)
    side = round(kernel.shape[1] ** 0.5)
    images = kernel[hidden.any(0)].reshape(-1, side, side)
    removed = hidden * (np.random.default_rng(seed).permutation(hidden.shape[1]) >= hidden.shape[1] // 10)
    return {
        "units alive": len(images),
        "error": _squared_error(model, hidden, x),
        "error without a tenth": _squared_error(model, removed.astype(np.float32), x),
        "smoothness": float(np.mean([_smoothness(image) for image in images])),
        "concentration": float(np.mean([_concentration(image) for image in images])),
        "pictures": images[:SHOWN].round(3).tolist() if seed == 0 else None,
    }


def _squared_error(model, hidden, x):
    """The mean squared error of what the last layer makes of ``hidden``, in thousandths."""
    return 1000 * float(((model.layers[-1].forward(hidden) - x) ** 2).mean())


def _smoothness(image):
    """The correlation of neighbouring weights: 0 for noise, near 1 for strokes and spots."""
    pairs = [(image[:, 1:], image[:, :-1]), (image[1:], image[:-1])]
    return float(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]))


def _concentration(image):
    """The share in percent of the squared weights in the best window of a quarter of the height and the width."""
    window = max(2, len(image) // 4)
    squares = np.lib.stride_tricks.sliding_window_view(image**2, (window, window)).sum((-1, -2))
    return 100 * float(squares.max() / (image**2).sum())
