"""What dropout costs: epochs and seconds until a loss or an error is reached, with and without."""

import time

import minicnn as mc
from examples.dropout_paper import lab
from examples.dropout_paper.report import Check, Report, band, between, figure, lower, table

TITLE = "7. What dropout costs"
PAPER = """Section 10: a dropout net typically takes 2 to 3 times longer to train than a standard net of the same
architecture, because the updates are noisy: every training case trains another thinned net."""
FULL = {"data": "mnist", "samples": 10_000, "epochs": 40, "units": 256, "keeps": (1.0, 0.8, 0.5)}
QUICK = {"data": "digits", "samples": 600, "epochs": 60, "units": 128, "keeps": (1.0, 0.5)}
# (curve, goal); the goal None is the curve's own lowest.
GOALS = (("train loss", 0.1), ("train loss", 0.03), ("train loss", 0.01), ("validation loss", 0.2),
         ("validation loss", 0.15), ("validation loss", None), ("validation error", 5), ("validation error", 4)
         )  # fmt: skip
COMPARED = (("train loss", 0.01), ("validation loss", None), ("validation error", 4))  # is it 2 to 3 times as long?
SAME = """To an error that both reach the dropout net is no slower, although it fits the training set more slowly: more
of what it learns holds for other images. It needs the additional epochs for what only it reaches."""


def here(size):
    return f"""{lab.chain(size)}, {size["samples"]:,} training images, {size["epochs"]} epochs at a constant learning
rate of {lab.LEARNING_RATE / 5} for all, no dropout at the inputs. Losses are those of the whole net, nothing dropped,
after every epoch; the time is that of the training steps alone, in CPU seconds of one thread. A figure in brackets
counts the seeds that got there. The goal "own lowest validation loss" was added after the first curves had been
seen."""


def specs(size):
    common = {name: size[name] for name in ("data", "samples", "epochs", "units")}
    return [{**common, "keep": keep} for keep in size["keeps"]]


class Watch(mc.callbacks.Callback):
    """The curves of one training, and the seconds that its steps took."""

    def __init__(self, **parts):
        self.parts, self.seconds, self.curves = parts, 0.0, {}

    def on_epoch_begin(self, epoch, logs=None):
        self.begin = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds += time.process_time() - self.begin
        for part, (x, y) in self.parts.items():
            loss, accuracy = self.model.evaluate(x, y, batch_size=500)
            self.curves.setdefault(f"{part} loss", []).append(round(loss, 5))
            self.curves.setdefault(f"{part} error", []).append(round(100 * (1 - accuracy), 3))


def train(seed, data, samples, epochs, units, keep):
    x, y = lab.sample(data, samples, seed)
    watch = Watch(train=(x, y), validation=lab.data(data)["validation"])
    model = lab.network([units, units], seed, keep)
    model.compile(mc.optimizers.SGD(lab.LEARNING_RATE / 5, lab.MOMENTUM), lab.LOSS, ["accuracy"])
    model.fit(x, y, lab.BATCH_SIZE, epochs, verbose=0, callbacks=[watch])
    lowest = {f"lowest {name}": min(watch.curves[name]) for name in ("validation loss", "validation error")}
    return {"curves": watch.curves, "seconds an epoch": watch.seconds / epochs, **lowest}


def reached(curve, goal):
    """The number of the first epoch, from 1, that ends at or below the goal; None if none does."""
    return next((number for number, value in enumerate(curve, 1) if value <= goal), None)


def report(results, size):
    found = lab.means(results, "keep")
    curves = {keep: [r["curves"] for r in results if r["keep"] == keep] for keep in found}
    epochs = {goal: {keep: _epochs(curves[keep], *goal) for keep in found} for goal in GOALS}
    tables = [_table_of_epochs(found, epochs), _table_of_costs(found)]
    return Report(tables, _checks(found, epochs), {"convergence.svg": lambda: _draw(curves)})


def _epochs(curves, name, goal):
    """The first epochs that reach the goal, of the seeds that do; without a goal the epoch of the lowest value."""
    goals = [min(curve[name]) if goal is None else goal for curve in curves]
    found = [reached(curve[name], goal) for curve, goal in zip(curves, goals, strict=True)]
    return [number for number in found if number]


def _words(name, goal):
    return f"own lowest {name}" if goal is None else f"{name} {goal}" + " %" * ("error" in name)


def _table_of_epochs(found, epochs):
    head = ["epochs until", *(f"p = {keep} (rate {1 - keep:.1f})" for keep in found)]
    seeds = len(found[1.0]["cpu seconds"].values)
    return table(head, [[_words(*goal), *(_first(of[keep], seeds) for keep in found)] for goal, of in epochs.items()])


def _first(epochs, seeds):
    if not epochs:
        return "not reached"
    return f"{lab.Mean(epochs):.1f}" + (f" ({len(epochs)})" if len(epochs) < seeds else "")


def _table_of_costs(found):
    head = ["", *(f"p = {keep} (rate {1 - keep:.1f})" for keep in found)]
    names = {"seconds an epoch": ".3f", "lowest validation loss": ".4f", "lowest validation error": ".2f"}
    rows = [[name + " %" * ("error" in name), *(f"{of[name]:{digits}}" for of in found.values())]
            for name, digits in names.items()]  # fmt: skip
    return table(head, rows)


def _checks(found, epochs):
    checks = []
    for goal in COMPARED:
        without, with_ = epochs[goal][1.0], epochs[goal][0.5]
        if len(without) == len(with_) == len(found[0.5]["seconds an epoch"].values):
            factor = lab.Mean(with_) / lab.Mean(without)
            claim = f"until {_words(*goal)} a net with p = 0.5 takes 2 to 3 times as many epochs"
            checks.append(between(claim, factor, 2, 3, " times as many", SAME * (goal[0] == "validation error")))
    return [
        *checks,
        lower("dropout pays for it: the lowest validation loss is lower with p = 0.5",
              found[0.5]["lowest validation loss"], found[1.0]["lowest validation loss"], digits=".4f"),
        Check("an epoch itself costs less than a tenth more with dropout",
              (found[0.5]["seconds an epoch"] / found[1.0]["seconds an epoch"]).mean < 1.1,
              f"{found[0.5]['seconds an epoch'] / found[1.0]['seconds an epoch']:.2f} times the time"),
    ]  # fmt: skip


def _draw(curves):
    made, axes = figure(9, 3.4, columns=2)
    for one, name in zip(axes, ("train loss", "validation loss"), strict=True):
        for number, (keep, of) in enumerate(curves.items()):
            epochs = range(1, len(of[0][name]) + 1)
            values = [lab.Mean(curve[name][epoch - 1] for curve in of) for epoch in epochs]
            label = "no dropout" if keep == 1 else f"p = {keep} (rate {1 - keep:.1f})"
            band(one, epochs, values, label, number)
        one.set(title=name, xlabel="epoch", yscale="log")
        one.yaxis.set_major_formatter("{x:g}")
        one.yaxis.set_minor_formatter("{x:g}" if name == "validation loss" else "")
        one.legend(frameon=False)
    return made
