"""How the learning rate was chosen: on the validation part, which nothing else in this folder trains on."""

from examples.dropout_paper import lab
from examples.dropout_paper.report import Check, Report, curve, figure, sign, table

TITLE = "0. The learning rate of all the others"
PAPER = """Appendix A.2: dropout makes gradients noisy, so that they tend to cancel one another; a dropout net should
have 10 to 100 times the learning rate of a standard net, or a momentum of 0.95 to 0.99, and max-norm to hold its
weights down."""
LARGER = """It is half as large, at least as minicnn counts. In the paper's way of scaling 0.1 for p = 0.5 would be 0.4,
twice what is best without dropout: larger, but not 10 times."""
NOTE = """In these short trainings about twice that is best for every p: none is favoured by the rule."""
FULL = {"data": "mnist", "samples": 3_000, "epochs": 20, "units": 512, "keeps": (0.1, 0.5, 1.0),
        "rates": (0.01, 0.02, 0.05, 0.1, 0.2)}  # fmt: skip
QUICK = {"data": "digits", "samples": 400, "epochs": 40, "units": 128, "keeps": (0.5, 1.0), "rates": (0.05, 0.1)}


def here(size):
    return f"""{lab.chain(size)}, momentum {lab.MOMENTUM}, batches of {lab.BATCH_SIZE}, {size["samples"]:,} training
images, {size["epochs"]} epochs, no max-norm; the error is that on the last {lab.VALIDATION[size["data"]]:,} images of
the training part. All other experiments take the learning rate {lab.LEARNING_RATE} p, which falls to 0 along a cosine.
(minicnn divides by p in training, where the paper multiplies by p in testing: a step with the learning rate r there is
one with p² r here.)"""


def specs(size):
    common = {name: size[name] for name in ("data", "samples", "epochs", "units")}
    return [{**common, "keep": keep, "learning_rate": rate} for keep in size["keeps"] for rate in size["rates"]]


def train(seed, data, samples, epochs, units, keep, learning_rate):
    x, y = lab.sample(data, samples, seed)
    model = lab.network([units, units], seed, keep)
    lab.fit(model, x, y, epochs, learning_rate)
    return {"validation": lab.error(model, *lab.data(data)["validation"])}


def report(results, size):
    found = lab.means(results, "keep", "learning_rate")
    head = ["p (kept)", *(f"learning rate {rate}: validation error %" for rate in size["rates"])]
    rows = [[keep, *(found[keep, rate]["validation"] for rate in size["rates"])] for keep in size["keeps"]]
    return Report([table(head, rows)], _checks(found, size), {"settings.svg": lambda: _draw(found, size)})


def _checks(found, size):
    checks = []
    for keep in size["keeps"]:
        best = min(size["rates"], key=lambda rate: found[keep, rate]["validation"].mean)
        rule = min(size["rates"], key=lambda rate: abs(rate - lab.LEARNING_RATE * keep))
        value, lowest = (found[keep, rate]["validation"] for rate in (rule, best))
        checks.append(Check(f"p = {keep}: the rule's {rule} is within a tenth of the best of these errors",
                            value.mean <= 1.1 * lowest.mean, f"{value} % against {lowest} % at {best}"))  # fmt: skip
    return [*checks, _larger(found, size)]


def _larger(found, size):
    """Whether the best learning rate is larger for p = 0.5 than for p = 1, and clearly better than the latter."""
    with_, without = (min(size["rates"], key=lambda rate: found[keep, rate]["validation"].mean) for keep in (0.5, 1.0))
    clear = sign(found[0.5, without]["validation"] - found[0.5, with_]["validation"]) == 1
    outcome = with_ > without if clear or with_ == without else None
    return Check("a dropout net wants a larger learning rate", outcome,
                 f"best is {with_} for p = 0.5 and {without} for p = 1", LARGER)  # fmt: skip


def _draw(found, size):
    made, (axes,) = figure()
    for number, keep in enumerate(size["keeps"]):
        curve(axes, size["rates"], [found[keep, rate]["validation"] for rate in size["rates"]], f"p = {keep}", number)
    axes.set(xscale="log", yscale="log", xlabel="learning rate of the first step", ylabel="validation error, %")
    axes.set_xticks(size["rates"], map(str, size["rates"]))
    axes.set_yticks([5, 10, 20, 50, 90], ["5", "10", "20", "50", "90"])
    axes.minorticks_off()
    axes.legend(frameon=False)
    return made
