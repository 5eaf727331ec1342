"""The effect of the rate: test and training error over the probability of keeping a unit."""

from examples.dropout_paper import lab, report

TITLE = "1. The rate"
PAPER = """Section 7.3, figure 9: (a) with n units in every hidden layer, the test error is flat for 0.4 <= p <= 0.8 and
rises towards both ends; for small p the training error is high too, the net underfits. (b) With p n held fixed, so that
nets with small p have more units, small p does much less harm; p near 0.6 is best, and 0.5 is close to it."""
KEEPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
FULL = {"data": "mnist", "samples": 10_000, "epochs": 30, "units": 512, "expected": 128, "keeps": KEEPS}
QUICK = {"data": "digits", "samples": 400, "epochs": 3, "units": 64, "expected": 16, "keeps": (0.1, 0.5, 1.0)}


def here(size):
    return (
        f"Two hidden layers of ReLUs instead of three of 2048, no dropout at the inputs, {size['samples']:,} training "
        f"images instead of 60,000, {size['epochs']} epochs; (a) n = {size['units']}, (b) p n = {size['expected']}."
    )


def specs(size):
    common = {"data": size["data"], "samples": size["samples"], "epochs": size["epochs"]}
    fixed = [{**common, "kind": "n fixed", "keep": p, "units": size["units"]} for p in size["keeps"]]
    return fixed + [{**common, "kind": "p n fixed", "keep": p, "units": round(size["expected"] / p)}
                    for p in size["keeps"]]  # fmt: skip


def train(seed, data, samples, epochs, kind, keep, units):
    x, y = lab.sample(data, samples, seed)
    model = lab.network([units, units], seed, keep)
    lab.fit(model, x, y, epochs)
    return {"test": lab.error(model, *lab.data(data)["test"]), "train": lab.error(model, x, y)}
