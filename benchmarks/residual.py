"""What a way around layers costs: two convolutions in a ``Residual`` beside the same two without it."""

import numpy as np

from benchmarks.machine import percent, side_by_side, table
from benchmarks.models import samples
from benchmarks.steps import fitting
from minicnn import Sequential, layers, optimizers

TITLE = "The cost of a way around layers"
TEXT = """\
Two convolutions of 3 x 3 with 32 channels on images of 32 x 32 with 32 channels, the first with a ReLU, alone and as
the body of a `Residual`; float32, batch 128. *Training step*: a `fit` with global average pooling and ten classes
behind them. *Forward, backward*: `model.forward` and `model.backward` of these layers alone, with the gradient of their
input, which in a step only layers behind others make; there the way around adds twice, once each way. The ratio is of
the medians: at most 1.06 is wanted.
"""
SHAPE, BATCH = (32, 32, 32), 128


def run(quick=False, plots=None):
    batch, rows = 4 if quick else BATCH, []
    check(batch)
    for what, case in (("training step", step), ("forward, backward", both_ways)):
        times = side_by_side({around: case(batch, around) for around in (False, True)}, quick, rounds=25, burst=0)
        alone, residual = times[False], times[True]
        rows.append([
            what, f"{alone.median * 1e3:.3g}", percent(alone.spread), f"{residual.median * 1e3:.3g}",
            percent(residual.spread), f"{residual.median / alone.median:.3f}",
        ])  # fmt: skip
    return TEXT + "\n" + table(["what", "alone, ms", "spread", "residual, ms", "spread", "ratio"], rows)


def convolutions(around):
    body = [layers.Conv2D(32, 3, padding="same", activation="relu"), layers.Conv2D(32, 3, padding="same")]
    return [layers.Residual(body)] if around else body


def step(batch, around):
    model = Sequential([*convolutions(around), layers.GlobalAveragePooling2D(), layers.Dense(10)], seed=0)
    model.compile(optimizers.SGD(0.001, momentum=0.9), "sparse_categorical_crossentropy")
    return fitting(model, *samples(SHAPE, batch), batch)


def both_ways(batch, around, weights=None):
    model = Sequential(convolutions(around), seed=0)
    model.build(SHAPE)
    model.set_weights(model.get_weights() if weights is None else weights)
    model.train()
    x, _ = samples(SHAPE, batch)
    return lambda: (model.forward(x), model.backward(x))  # x is the gradient of y, too


def check(batch):
    """The way around is there: with the same weights it adds x to the outputs, and the gradient of y to that of x."""
    plain = Sequential(convolutions(False), seed=1)
    plain.build(SHAPE)
    x, _ = samples(SHAPE, batch)
    pairs = zip(*(both_ways(batch, around, plain.get_weights())() for around in (False, True)), strict=True)
    for alone, residual in pairs:
        error = np.abs(residual - alone - x).max()
        assert error < 1e-4, f"residual: what the way around adds is wrong by {error}"
