"""Averaging over k thinned nets against one net with scaled weights."""

import numpy as np

from examples.dropout_paper import lab
from examples.dropout_paper.report import COLOURS, Check, Report, curve, figure, lower, table

TITLE = "3. Monte-Carlo averaging against weight scaling"
PAPER = """Section 7.5, figure 11: the exact way to test a dropout net is to average the outputs of k thinned nets,
drawn as in training. With about k = 50 that is as good as the one net with scaled weights, and beyond it slightly
better, well within one standard deviation."""
BEYOND = ""
FULL = {"data": "mnist", "units": 256, "samples": 5_000, "epochs": 40, "draws": 200,
        "counts": (1, 2, 5, 10, 20, 50, 100)}  # fmt: skip
QUICK = {"data": "digits", "units": 128, "samples": 600, "epochs": 100, "draws": 50, "counts": (1, 2, 5, 10, 25)}
ENOUGH = 50


def here(size):
    return f"""{lab.chain(size)}, p = 0.5 in hidden layers and {lab.KEEP_INPUT} at the inputs, {size["samples"]:,}
training images, {size["epochs"]} epochs. `predict_mc` draws {size["draws"]} thinned nets of each trained net; k of them
are averaged, in as many separate groups as there are. The standard deviation is that over the groups, the standard
error that over the trained nets."""


def specs(size):
    return [{name: value for name, value in size.items() if name != "counts"} | {"counts": list(size["counts"])}]


def train(seed, data, units, samples, epochs, draws, counts):
    x, y = lab.sample(data, samples, seed)
    x_test, y_test = lab.data(data)["test"]
    model = lab.network([units, units], seed, 0.5, lab.KEEP_INPUT)
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
    found = lab.means(results, "keep" if "keep" in results[0] else "data")[size["data"]]
    head = ["test", "error %", "standard deviation over groups", "loss"]
    rows = [["weight scaling (rate 0.5, 0.2 at the inputs)", found["scaled error"], "", f"{found['scaled loss']:.4f}"]]
    for k in size["counts"]:
        deviation = f"{found[f'deviation {k}'].mean:.3f}"
        rows.append([f"mean of k = {k}", found[f"error {k}"], deviation, f"{found[f'loss {k}']:.4f}"])
    return Report([table(head, rows)], _checks(found, size), {"averaging.svg": lambda: _draw(found, size)})


def _checks(found, size):
    first, most = size["counts"][0], size["counts"][-1]
    enough = min(size["counts"], key=lambda k: abs(k - ENOUGH))
    scaled, distance = found["scaled error"], found[f"error {enough}"] - found["scaled error"]
    later, deviation = found[f"error {most}"] - scaled, found[f"deviation {most}"].mean
    return [
        lower(f"weight scaling beats the mean of k = {first}", scaled, found[f"error {first}"], " %"),
        Check(f"about k = {enough} averaging is as good as weight scaling: within one standard deviation or below",
              distance.mean <= found[f"deviation {enough}"].mean,
              f"difference {distance:.3f} points, standard deviation {found[f'deviation {enough}'].mean:.3f}"),
        lower(f"with k = {most} it is better than weight scaling", found[f"error {most}"], scaled, " %", BEYOND, ".3f"),
        Check("and that difference is smaller than one standard deviation", abs(later.mean) < deviation,
              f"{later:.3f} points, standard deviation {deviation:.3f}"),
    ]  # fmt: skip


def _draw(found, size):
    made, (errors, losses) = figure(9, 3.4, columns=2)
    counts = size["counts"]
    for axes, name in ((errors, "error"), (losses, "loss")):
        curve(axes, counts, [found[f"{name} {k}"] for k in counts], "mean of k thinned nets")
        scaled = found[f"scaled {name}"]
        axes.axhline(scaled.mean, color=COLOURS[1], label="weight scaling")
        axes.axhspan(scaled.mean - scaled.se, scaled.mean + scaled.se, color=COLOURS[1], alpha=0.2, linewidth=0)
        axes.set(title=f"test {name}", xscale="log", xlabel="k", ylabel="wrong, %" if name == "error" else "")
        axes.set_xticks(counts, map(str, counts))
        axes.minorticks_off()
    errors.legend(frameon=False)
    return made
