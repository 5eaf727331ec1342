"""What ``fit`` costs beside the steps themselves, and what data that give batches cost beside arrays.

Before anything is timed, all must train the same network to the same bits.
"""

import contextlib
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import table
from benchmarks.models import MODELS, in_minicnn, samples
from minicnn import callbacks, datasets, training

TITLE = "The cost of fit, training steps of lenet5 at batch 128"
TEXT = """\
*Bare* is a loop of nothing but steps: a batch that lies ready is copied into the plan, forward, loss, backward, update.
Epochs have 100 steps (those of MNIST have 469), and a call of `fit` has three.
`fit` draws an order, gathers the samples, checks them, computes the accuracy and the means, and keeps a history; the
rows add what they name. A *sequence* gives batches that lie ready, copied by a thread. Times are those of the fastest
of many turns. Each turn stands between two of bare, which the ratio is to: the median of the turns and their quartiles,
for other programs come and go. `fit` alone, which is to stay below 1.03, has five turns where the others have one.
"""
NETWORK, BATCH, EPOCHS, TURNS, OFTEN = "lenet5", 128, 3, 8, 5


def run(quick=False, plots=None):
    steps = 2 if quick else 100
    with tempfile.TemporaryDirectory() as folder:
        cases = made(steps, Path(folder))
        prints = {name: case() for name, case in cases.items()}
        assert len(set(prints.values())) == 1, f"not the same bits: {prints}"
        bare, times, ratios = cases.pop("bare"), {}, {name: [] for name in cases}
        before = timed(bare, times, "bare")
        for _ in range(2 if quick else TURNS):
            for name, case in [("fit", cases["fit"])] * (0 if quick else OFTEN - 1) + [*cases.items()]:
                seconds, after = timed(case, times, name), timed(bare, times, "bare")
                ratios[name].append(2 * seconds / (before + after))
                before = after
    rows = [["bare", milliseconds(times["bare"], steps), "1", ""]]
    for name, found in ratios.items():
        low, middle, high = statistics.quantiles(found, n=4)
        rows.append([name, milliseconds(times[name], steps), f"{middle:.3f}", f"{low:.3f} to {high:.3f}"])
    return TEXT + "\n" + table(["", "ms a step", "ratio", "quartiles"], rows)


def milliseconds(times, steps):
    return f"{min(times) / steps / EPOCHS * 1e3:.3g}"


def timed(case, times, name):
    """The seconds that the case takes, which are added to its list."""
    begin = time.perf_counter()
    case()
    seconds = time.perf_counter() - begin
    times.setdefault(name, []).append(seconds)
    return seconds


def made(steps, folder):
    """{name: function that trains for some epochs and returns the fingerprint}."""
    shape, entries = MODELS[NETWORK]
    x, y = samples(shape, BATCH * steps)
    np.save(folder / "x.npy", x)
    on_disk = np.load(folder / "x.npy", mmap_mode="r")
    orders = [datasets.order(len(x), 0, epoch).reshape(steps, BATCH) for epoch in range(EPOCHS)]
    ready = [(x[rows], y[rows]) for order in orders for rows in order]

    def fitting(*given, **more):
        model = compiled(shape, entries)

        def case():
            with contextlib.redirect_stderr(io.StringIO()):
                model.fit(*given, epochs=EPOCHS, **{"verbose": 0} | more)
            return model.fingerprint()

        return case

    bare = compiled(shape, entries)
    return {
        "bare": lambda: loop(bare, ready),
        "fit": fitting(x, y, BATCH),
        "fit, a callback": fitting(x, y, BATCH, callbacks=callbacks.LambdaCallback(on_epoch_end=print_nothing)),
        "fit, a line an epoch": fitting(x, y, BATCH, verbose=2),
        "fit, a bar": fitting(x, y, BATCH, verbose=1),
        "fit, a memory map": fitting(on_disk, y, BATCH),
        "fit, a sequence": fitting(Ready(ready, steps), shuffle=False),
    }


def compiled(shape, entries):
    model = in_minicnn(entries)
    model.compile(model.optimizer, model.loss_function, ["accuracy"])
    model.build(shape)
    return model


def loop(model, ready):
    engine, optimizer = model.engine, model.optimizer
    for x, y in ready:
        plan = engine.training(len(x))
        np.copyto(plan.x, x)
        outputs = plan.forward()
        training.loss(model, outputs, y, None, 0.0, (plan.dy, plan.losses))
        plan.backward()
        optimizer.step()
    return model.fingerprint()


class Ready:
    """The batches of the loop, epoch by epoch."""

    def __init__(self, batches, steps):
        self.batches, self.steps = batches, steps

    def __len__(self):
        return self.steps

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __getitem__(self, i):
        return self.batches[self.epoch * self.steps + i]


def print_nothing(epoch, logs):
    sys.stderr.write("")
