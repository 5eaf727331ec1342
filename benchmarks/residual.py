"""What a way around layers costs: two convolutions in a ``Residual`` beside the same two without it, and with a
``StochasticDepth`` at the end of the body."""

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
DEPTH_TEXT = """\
The same `Residual` without and with `StochasticDepth(0.2)` as the last layer of its body. The branches are computed all
the same, those that are dropped, too, so that a ratio of about 1 is what can be had.
"""
SHAPE, BATCH = (32, 32, 32), 128
ALONE, AROUND, DEPTH = "alone", "residual", "with StochasticDepth"


def run(quick=False, plots=None):
    batch = 4 if quick else BATCH
    check(batch)
    around = table(
        ["what", "alone, ms", "spread", "residual, ms", "spread", "ratio"], pairs(ALONE, AROUND, batch, quick)
    )
    depth = pairs(AROUND, DEPTH, batch, quick)
    depth = table(["what", "residual, ms", "spread", "with StochasticDepth, ms", "spread", "ratio"], depth)
    return f"{TEXT}\n{around}\n{DEPTH_TEXT}\n{depth}"


def pairs(one, other, batch, quick):
    """The rows of a table."""
    for what, case in (("training step", step), ("forward, backward", both_ways)):
        times = side_by_side({kind: case(batch, kind) for kind in (one, other)}, quick, rounds=25, burst=0)
        first, second = times[one], times[other]
        yield [
            what, f"{first.median * 1e3:.3g}", percent(first.spread), f"{second.median * 1e3:.3g}",
            percent(second.spread), f"{second.median / first.median:.3f}",
        ]  # fmt: skip


def convolutions(kind, rate=0.2):
    body = [layers.Conv2D(32, 3, padding="same", activation="relu"), layers.Conv2D(32, 3, padding="same")]
    if kind == ALONE:
        return body
    return [layers.Residual([*body, layers.StochasticDepth(rate)] if kind == DEPTH else body)]


def step(batch, kind):
    model = Sequential([*convolutions(kind), layers.GlobalAveragePooling2D(), layers.Dense(10)], seed=0)
    model.compile(optimizers.SGD(0.001, momentum=0.9), "sparse_categorical_crossentropy")
    return fitting(model, *samples(SHAPE, batch), batch)


def both_ways(batch, kind, weights=None, rate=0.2):
    model = Sequential(convolutions(kind, rate), seed=0)
    model.build(SHAPE)
    model.set_weights(model.get_weights() if weights is None else weights)
    model.train()
    x, _ = samples(SHAPE, batch)
    return lambda: (model.forward(x), model.backward(x))  # x is the gradient of y, too


def check(batch):
    """The way around is there: with the same weights it adds x to the outputs, and the gradient of y to that of x; and
    nothing else where all of the body is dropped."""
    plain = Sequential(convolutions(ALONE), seed=1)
    plain.build(SHAPE)
    x, _ = samples(SHAPE, batch)
    found = [both_ways(batch, kind, plain.get_weights(), rate=1)() for kind in (ALONE, AROUND, DEPTH)]
    for alone, residual, dropped in zip(*found, strict=True):
        assert (dropped == x).all(), "residual: rate 1 leaves the way around alone"
        error = np.abs(residual - alone - x).max()
        assert error < 1e-4, f"residual: what the way around adds is wrong by {error}"
