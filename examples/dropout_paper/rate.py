"""The effect of the rate: test and training error over the probability of keeping a unit."""

from examples.dropout_paper import lab
from examples.dropout_paper.report import Check, Report, curve, figure, lower, sign, table

TITLE = "1. The rate"
PAPER = """Section 7.3, figure 9: (a) with n units in every hidden layer, the test error is flat for 0.4 <= p <= 0.8 and
rises towards both ends; for small p the training error is high too, the net underfits. (b) With p n held fixed, so that
nets with small p have more units, small p does much less harm (for p = 0.1 the error falls from 2.7 % to 1.7 %); p near
0.6 is best, and 0.5 is close to it."""
FLAT = """From 0.5 to 0.8 it is flat. At 0.4 the net still underfits after so few steps: training images are wrong."""
NARROW = """The nets are narrow and the training is short: below p = 0.8 training images are still wrong, so that more
noise costs more than it gains."""
HARDLY = "After so few steps with so much noise both have hardly learned, and seeds differ much."
KEEPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
FULL = {"data": "mnist", "samples": 5_000, "epochs": 30, "units": 512, "expected": 64, "keeps": KEEPS}
QUICK = {"data": "digits", "samples": 600, "epochs": 80, "units": 128, "expected": 16, "keeps": (0.1, 0.5, 1.0)}


def here(size):
    return f"""Two hidden layers of ReLUs instead of three of 2048, no dropout at the inputs, {size["samples"]:,}
training images instead of 60,000, {size["epochs"]} epochs; (a) n = {size["units"]}, (b) p n = {size["expected"]}
instead of 256 and 512."""


def specs(size):
    common = {"data": size["data"], "samples": size["samples"], "epochs": size["epochs"]}
    fixed = [{**common, "kind": "n fixed", "keep": p, "units": size["units"]} for p in size["keeps"]]
    return fixed + [{**common, "kind": "p n fixed", "keep": p, "units": round(size["expected"] / p)}
                    for p in size["keeps"]]  # fmt: skip


def train(seed, data, samples, epochs, kind, keep, units):
    x, y = lab.sample(data, samples, seed)
    model = lab.network([units, units], seed, keep)
    lab.fit(model, x, y, epochs, lab.LEARNING_RATE * keep)
    return {"test": lab.error(model, *lab.data(data)["test"]), "train": lab.error(model, x, y)}


def report(results, size):
    found = lab.means(results, "kind", "keep")
    kinds = {kind: {p: found[kind, p] for p in size["keeps"]} for kind in ("n fixed", "p n fixed")}
    return Report([_table(kinds, size)], _checks(kinds), {"rate.svg": lambda: _draw(kinds)})


def _table(kinds, size):
    head = ["p (kept)", "rate (dropped)", "n fixed: test error %", "training error %", "units with p n fixed",
            "p n fixed: test error %", "training error %"]  # fmt: skip
    rows = []
    for p in size["keeps"]:
        fixed, scaled = kinds["n fixed"][p], kinds["p n fixed"][p]
        units = round(size["expected"] / p)
        rows.append([p, round(1 - p, 2), fixed["test"], fixed["train"], units, scaled["test"], scaled["train"]])
    return table(head, rows)


def _checks(kinds):
    fixed, scaled = ({p: numbers["test"] for p, numbers in kinds[kind].items()} for kind in kinds)
    low = min(fixed)
    best = {name: min((p for p in of if p < 1), key=lambda p: of[p].mean) for name, of in (("a", fixed), ("b", scaled))}
    middle = [value.mean for p, value in fixed.items() if 0.4 <= p <= 0.8]
    flat = (max(middle) - min(middle)) < 0.5 * (fixed[1.0].mean - min(middle))
    return [
        lower(f"(a) dropout helps: the test error at p = {best['a']} is below that at p = 1",
              fixed[best["a"]], fixed[1.0], " %"),
        lower(f"(a) small p does not: at p = {low} it is above that at p = 1", fixed[1.0], fixed[low], " %"),
        Check(f"(a) and so is the training error at p = {low}: more than 1 % is wrong",
              kinds["n fixed"][low]["train"].mean > 1, f"{kinds['n fixed'][low]['train']} %"),
        Check("(a) the curve is flat for 0.4 <= p <= 0.8: it varies there by less than half of what dropout gains",
              flat, f"from {min(middle):.2f} % to {max(middle):.2f} %; p = 1: {fixed[1.0]} %", FLAT),
        lower(f"(b) with p n fixed, small p does less harm: the test error at p = {low} is below that of (a)",
              scaled[low], fixed[low], " %", HARDLY),
        Check("(b) the best p is between 0.5 and 0.7", _near(scaled, best["b"]),
              f"best p = {best['b']}: {scaled[best['b']]} %; p = 0.5: {scaled[0.5]} %", NARROW),
    ]  # fmt: skip


def _near(errors, best):
    """Whether ``best`` is near 0.6; not decided where it is not, but not clearly better than 0.5 either."""
    return True if 0.5 <= best <= 0.7 else None if sign(errors[best] - errors[0.5]) == 0 else False


def _draw(kinds):
    made, panels = figure(9, 3.4, columns=2)
    top = 2 * max(found[1.0]["test"].mean for found in kinds.values())  # what is above it is named at the upper edge
    for axes, found, title in zip(panels, kinds.values(), ("(a) n fixed", "(b) p n fixed"), strict=True):
        for number, part in enumerate(("test", "train")):
            curve(axes, list(found), [numbers[part] for numbers in found.values()], f"{part} error", number)
        axes.set(title=title, xlabel="p, the probability of keeping a unit", ylabel="wrong, %", ylim=(-0.03 * top, top))
        axes.legend(frameon=False)
        for p, numbers in found.items():
            if numbers["test"].mean > top:
                text = f"p = {p}: {numbers['test'].mean:.0f} % (test), {numbers['train'].mean:.0f} % (train)"
                axes.annotate(text, (p, top), (24, -4), textcoords="offset points", va="top", fontsize=8)
        above = axes.secondary_xaxis("top", functions=(lambda p: 1 - p, lambda rate: 1 - rate))
        above.set_xlabel("rate of layers.Dropout = 1 - p")
    return made
