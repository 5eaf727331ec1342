"""Whole training steps beside PyTorch, and predictions beside PyTorch and ONNX Runtime.

Before anything is timed, one step without dropout must change the weights as PyTorch's does, and the predictions of all
must agree.
"""

import numpy as np

from benchmarks import plot, rivals
from benchmarks.machine import percent, side_by_side, table
from benchmarks.models import MODELS, RANDOM, in_minicnn, samples
from minicnn import get_num_threads

TITLE = "Training steps and predictions"
TEXT = """\
A *step* is all of it: taking the samples of the batch out of the data by a random order, checks, forward, loss,
backward, SGD with momentum, the loss as a number. minicnn's is an epoch of `fit(verbose=0)` divided by its steps;
PyTorch's the usual loop, eager, with `index_select` for the batch; *bfloat16* is the same under `torch.autocast`,
channels_last. Data: random float32 images in memory, in each one's own layout. Networks named random were drawn, and
stand for those that no kernel was tuned for: {drawn}.

A *prediction* begins and ends with an array (`model.predict`, `net(images)` in inference mode, `session.run`). PyTorch
is the better of its two layouts, contiguous and channels_last; ONNX Runtime, for a single image, the better of one
thread and all. The last columns say how many times as fast minicnn is.
"""
NETWORKS = MODELS | RANDOM
ROOM = {"resnet20": 0.03}  # for rounding in a step; PyTorch's own is up to 1 % from one in double there
SAMPLES = 1280  # of the epoch that is timed
SETTLE = 0.1  # seconds: ONNX Runtime's threads look out for more work for 0.06 of them, now and then a little longer


def run(quick=False, plots=None):
    missing = [name for name, package in (("PyTorch", "torch"), ("ONNX Runtime", "onnxruntime"), ("its graphs", "onnx"))
               if not rivals.have(package)]  # fmt: skip
    notes = f"Not installed, so not in the tables: {', '.join(missing)}.\n" if missing else ""
    if not rivals.multiplies_bfloat16():
        notes += "This processor has no products of bfloat16: PyTorch emulates them, and is not timed with them.\n"
    steps, predictions, bars = [], [], {}
    for name in ("lenet5", "digits") if quick else NETWORKS:
        check(name, "auto")
        check(name, "exact")
        for batch in (128, 32):
            count = 1 if quick else SAMPLES // batch
            arguments = *NETWORKS[name], batch, count
            cases = epochs(*arguments) | exact(*arguments) | half(*arguments)
            times = side_by_side(cases, quick, rounds=9, burst=0)
            steps.append([name, batch, *step_cells(times, count, bars.setdefault(name, {}))])
        for images in (128, 1):
            times = side_by_side(prediction(name, images), quick, settle=SETTLE)
            predictions.append([name, images, *prediction_cells(times, bars[name])])
    if plots is not None:
        notes += plot.ratios(bars, plots) + "\n"
    drawn = "; ".join(f"{name} is {in_words(*network)}" for name, network in RANDOM.items())
    return "\n".join([
TEXT.format(drawn=drawn) + notes,
        "### Training step, ms\n",
        table(["network", "batch", "minicnn", "spread", "exact", "PyTorch", "spread", "bfloat16", "ratio", "exact",
               "to bfloat16"], steps),
        "### Prediction, ms\n",
        table(["network", "images", "minicnn", "spread", "PyTorch", "ONNX Runtime", "to PyTorch", "to ONNX Runtime"],
              predictions),
    ])  # fmt: skip


# ---- what is timed ----


def epochs(shape, entries, batch, steps):
    """{who: function that trains the network for an epoch of ``steps`` steps}."""
    x, y = samples(shape, batch * steps)
    cases = {"minicnn": fitting(in_minicnn(entries), x, y, batch)}
    if rivals.have("torch"):
        import torch

        for layout in rivals.LAYOUTS:
            twin = rivals.Torch(entries, shape, layout)
            cases[layout] = looping(twin, twin.tensor(x), torch.from_numpy(y), batch)
    return cases


def half(shape, entries, batch, steps):
    """The same for PyTorch's fastest: channels_last under autocast to bfloat16."""
    if not (rivals.have("torch") and rivals.multiplies_bfloat16()):
        return {}
    import torch

    x, y = samples(shape, batch * steps)
    twin = rivals.Torch(entries, shape, "bfloat16")
    return {"bfloat16": looping(twin, twin.tensor(x), torch.from_numpy(y), batch)}


def exact(shape, entries, batch, steps):
    """The same for minicnn with direct convolutions only."""
    return {"exact": fitting(in_minicnn(entries, algorithm="exact"), *samples(shape, batch * steps), batch)}


def fitting(model, x, y, batch):
    return lambda: model.fit(x, y, batch_size=batch, epochs=1, verbose=0)


def looping(twin, images, labels, batch):
    return lambda: twin.epoch(images, labels, batch)


def prediction(name, n):
    """{who: function that predicts n images}; all of them must say the same."""
    shape, entries = NETWORKS[name]
    x, _ = samples(shape, n)
    model = in_minicnn(entries)
    cases = {"minicnn": lambda: model.predict(x)}
    want = model.predict(x)
    if rivals.have("torch"):
        for layout in rivals.LAYOUTS:
            cases[layout] = asking(rivals.Torch(entries, shape, layout, model), x)
    if rivals.have("onnx", "onnxruntime"):
        planes = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        for threads in dict.fromkeys([1, get_num_threads()] if n == 1 else [get_num_threads()]):
            session = rivals.Onnx(model, threads)
            cases[f"onnx {threads}"] = lambda session=session: session.predict(planes)
    for who, predict in cases.items():
        assert np.abs(predict() - want).max() < 1e-3 * np.abs(want).max(), f"{name}: {who} predicts something else"
    return cases


def asking(twin, x):
    twin.net.eval()
    images = twin.tensor(x)
    return lambda: twin.predict(images)


def check(name, algorithm):
    """One step on one batch without dropout: the change of every parameter is PyTorch's, to 1 % of its length.

    That much room because in float32 two nearly equal pixels may swap places in a max-pool; more (``ROOM``) in a deep
    network, through which errors of rounding pass and open or close a few ReLUs.  1e-7: a bias before a norm has no
    gradient but rounding.
    """
    if not rivals.have("torch"):
        return
    import torch

    shape, entries = NETWORKS[name]
    entries = [entry for entry in entries if entry[0] != "dropout"]
    x, y = samples(shape, 32)
    model = in_minicnn(entries, algorithm=algorithm)
    model.build(shape)
    theirs, ours, before = (rivals.Torch(entries, shape, "contiguous", model) for _ in range(3))
    theirs.epoch(theirs.tensor(x), torch.from_numpy(y), len(y))
    model.train_on_batch(x, y)
    rivals.copy_weights(model, ours.net)
    nets = [[values.detach().numpy() for values in twin.net.parameters()] for twin in (theirs, ours, before)]
    for a, b, c in zip(*nets, strict=True):
        error, change = np.linalg.norm(a - b), np.linalg.norm(a - c)
        assert error < ROOM.get(name, 0.01) * change + 1e-7, (
            f"{name}: a step differs from PyTorch's by {error} of {change}"
        )


# ---- the tables ----


def in_words(shape, entries):
    """A network in a line: 24x24x1, conv 24 5x5, norm, pool, dense 10."""
    words = "x".join(map(str, shape))
    for kind, *arguments in entries:
        words += (
            f", {kind} {arguments[0]} {arguments[1]}x{arguments[1]}"
            if kind == "conv"
            else ", " + " ".join(map(str, [kind, *arguments]))
        )
    return words


def step_cells(times, steps, bars):
    """The cells of one row; adds its ratios to ``bars``."""
    ours, exact, theirs = times["minicnn"], times.get("exact"), better(times, rivals.LAYOUTS)
    half = times.get("bfloat16")
    bars.setdefault("step", []).append(ratio(theirs, ours))
    return [
        ms(ours, steps), percent(ours.spread), ms(exact, steps),
        ms(theirs, steps), percent(theirs.spread) if theirs else "", ms(half, steps),
        shown(ratio(theirs, ours)), shown(ratio(theirs, exact)), shown(ratio(half, ours)),
    ]  # fmt: skip


def prediction_cells(times, bars):
    ours, torch = times["minicnn"], better(times, rivals.LAYOUTS)
    onnx = better(times, [who for who in times if who.startswith("onnx")])
    bars.setdefault("predict", []).append(ratio(onnx, ours))
    return [ms(ours), percent(ours.spread), ms(torch), ms(onnx), shown(ratio(torch, ours)), shown(ratio(onnx, ours))]


def better(times, names):
    """The fastest of those that were measured, or None."""
    return min((times[name] for name in names if name in times), default=None)


def ratio(theirs, ours):
    return theirs.median / ours.median if theirs and ours else None


def ms(timing, steps=1):
    return f"{timing.median / steps * 1e3:.3g}" if timing else ""


def shown(number):
    return f"{number:.2f}" if number else ""
