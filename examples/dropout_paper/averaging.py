"""Averaging over k thinned nets against one net with scaled weights."""

import numpy as np

from examples.dropout_paper import lab
from examples.dropout_paper.report import COLOURS, Check, Report, curve, figure, lower, table

TITLE = "3. Monte-Carlo averaging against weight scaling"
PAPER = """Section 7.5, figure 11: the exact way to test a dropout net is to average the outputs of k thinned nets,
drawn as in training. With about k = 50 that is as good as the one net with scaled weights, and beyond it slightly
better, well within one standard deviation."""
LATER = {
    "inputs dropped too": """It stays behind at any k: thinned nets that see four fifths of an image are less sure of
it, and so is their mean (its loss is higher too); the whole net sees all of it. With inputs kept it catches up.""",
    "inputs kept": "The errors are equal. What averaging does improve is the loss of its probabilities, see the table.",
}
FULL = {"data": "mnist", "units": 256, "samples": 5_000, "epochs": 40, "draws": 200,
        "counts": (1, 2, 5, 10, 20, 50, 100)}  # fmt: skip
QUICK = {"data": "digits", "units": 128, "samples": 600, "epochs": 100, "draws": 50, "counts": (1, 2, 5, 10, 25)}
ENOUGH = 50
INPUTS = {lab.KEEP_INPUT: "inputs dropped too", 1.0: "inputs kept"}


def here(size):
    return f"""{lab.chain(size)}, p = 0.5 in hidden layers, inputs dropped (p = {lab.KEEP_INPUT}) or kept,
{size["samples"]:,} training images, {size["epochs"]} epochs. `predict_mc` draws {size["draws"]} thinned nets of each
trained net; k of them are averaged, in as many separate groups as there are. The standard deviation is that over the
groups, the standard error that over the trained nets."""


def specs(size):
    return [{**size, "counts": list(size["counts"]), "keep_input": keep_input} for keep_input in INPUTS]


def train(seed, data, units, samples, epochs, draws, counts, keep_input):
    x, y = lab.sample(data, samples, seed)
    x_test, y_test = lab.data(data)["test"]
    model = lab.network([units, units], seed, 0.5, keep_input)
    lab.fit(model, x, y, epochs, lab.LEARNING_RATE * 0.5)
    thinned = model.predict_mc(x_test, draws, seed, return_samples=True).samples  # (draws, N, classes)
    found = {"scaled error": lab.error(model, x_test, y_test), "scaled loss": _loss(model.predict(x_test), y_test)}
    for k in counts:
        groups = [thinned[i : i + k].mean(0) for i in range(0, draws - k + 1, k)]
        errors = [100 * float((group.argmax(1) != y_test).mean()) for group in groups]
        found |= {f"error {k}": float(np.mean(errors)), f"deviation {k}": float(np.std(errors, ddof=1)),
                  f"loss {k}": float(np.mean([_loss(group, y_test) for group in groups]))}  # fmt: skip
    return found


def _loss(probabilities, y):
    """The mean negative logarithm of the probability of the right class."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(y)), y], 1e-12)).mean())


def report(results, size):
    found, counts = lab.means(results, "keep_input"), size["counts"]
    tables = [_table(found[keep_input], name, counts) for keep_input, name in INPUTS.items()]
    checks = [
        check for keep_input, name in INPUTS.items() for check in _checks(found[keep_input], name, size["counts"])
    ]
    return Report(tables, checks, {"averaging.svg": lambda: _draw(found, counts)})


def _table(found, name, counts):
    rows = [["weight scaling", found["scaled error"], "", f"{found['scaled loss']:.4f}"]]
    for k in counts:
        deviation = f"{found[f'deviation {k}'].mean:.3f}"
        rows.append([f"mean of k = {k}", found[f"error {k}"], deviation, f"{found[f'loss {k}']:.4f}"])
    return table([name, "test error %", "standard deviation over groups", "test loss"], rows)


def _checks(found, name, counts):
    enough, most = min(counts, key=lambda k: abs(k - ENOUGH)), counts[-1]
    scaled, distance = found["scaled error"], found[f"error {enough}"] - found["scaled error"]
    later, deviation = found[f"error {most}"] - scaled, found[f"deviation {most}"].mean
    return [
        lower(f"{name}: weight scaling beats the mean of k = 1", scaled, found["error 1"], " %"),
        Check(f"{name}: with k = {enough} averaging is as good, within one standard deviation or below",
              distance.mean <= found[f"deviation {enough}"].mean,
              f"difference {distance:.3f} points, standard deviation {found[f'deviation {enough}'].mean:.3f}",
              LATER[name]),
        lower(f"{name}: with k = {most} it is better than weight scaling",
              found[f"error {most}"], scaled, " %", LATER[name], ".3f"),
        Check(f"{name}: and that difference is smaller than one standard deviation", abs(later.mean) < deviation,
              f"{later:.3f} points, standard deviation {deviation:.3f}"),
    ]  # fmt: skip


def _draw(found, counts):
    made, panels = figure(9, 3.4, columns=2)
    for axes, (keep_input, name) in zip(panels, INPUTS.items(), strict=True):
        numbers = found[keep_input]
        curve(axes, counts, [numbers[f"error {k}"] for k in counts], "mean of k thinned nets")
        scaled = numbers["scaled error"]
        axes.axhline(scaled.mean, color=COLOURS[1], label="weight scaling")
        axes.axhspan(scaled.mean - scaled.se, scaled.mean + scaled.se, color=COLOURS[1], alpha=0.2, linewidth=0)
        axes.set(title=name, xscale="log", xlabel="k", ylabel="wrong on the test images, %")
        axes.set_xticks(counts, map(str, counts))
        axes.minorticks_off()
        axes.legend(frameon=False)
    return made
