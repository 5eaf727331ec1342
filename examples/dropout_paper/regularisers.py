"""Dropout beside other regularisers, each with the strength that was best on the validation part."""

import minicnn as mc
from examples.dropout_paper import lab
from examples.dropout_paper.report import COLOURS, Report, figure, lower, table

TITLE = "6. Dropout and other regularisers"
PAPER = """Section 6.5, table 9: test errors of a 784-1024-1024-2048-10 net on MNIST: L2 1.62 %, L2 with L1 1.60 %,
L2 with KL-sparsity 1.55 %, max-norm 1.35 %, dropout + L2 1.25 %, dropout + max-norm 1.05 %."""
SMALL = "What a weight penalty gains here is smaller than the differences between seeds."
EQUAL = """The three nets with dropout are equal within their errors: max-norm helps by permitting larger learning
rates, of which only two are tried here."""
WHY = {("nothing", "L2"): SMALL, ("nothing", "L1"): SMALL, ("dropout", "dropout + max-norm"): EQUAL,
       ("dropout + L2", "dropout + max-norm"): EQUAL}  # fmt: skip
NOTE = """A first run, with 256 units, 5,000 images and 30 epochs, was too short for dropout: its test error was
4.48 ± 0.06 %, that of max-norm 3.95 ± 0.08 %, and 4.40 ± 0.08 % that of nothing."""
STRENGTHS = {
    "nothing": (0,),
    "L2": (3e-4, 1e-3, 3e-3),
    "L1": (1e-5, 3e-5, 1e-4),
    "max-norm": (0.5, 0.7, 1),
    "dropout": (0,),
    "dropout + L2": (3e-5, 1e-4, 3e-4),
    "dropout + max-norm": (0.7, 1, 1.5),
}
FULL = {"data": "mnist", "units": 512, "samples": 2_000, "epochs": 50, "strengths": STRENGTHS, "factors": (1, 2)}
QUICK = {"data": "digits", "units": 128, "samples": 600, "epochs": 30,
         "strengths": {method: of[:2] for method, of in STRENGTHS.items()}, "factors": (1, 2)}  # fmt: skip
PAPERS = {"L2": 1.62, "max-norm": 1.35, "dropout + L2": 1.25, "dropout + max-norm": 1.05}


def here(size):
    return f"""{lab.chain(size)}, {size["samples"]:,} training images instead of 60,000, {size["epochs"]} epochs; the
regulariser is on the hidden layers; dropout is p = 0.5 there and {lab.KEEP_INPUT} at the inputs. Every setting of the
grid below was trained with every seed; of each method the one with the lowest mean error on the validation images
({lab.VALIDATION[size["data"]]:,} of the training part, never trained on) was chosen, and only that one is tested. L1
and L2 are the factors of the penalty, max-norm is the largest norm of a unit's incoming weights, and the learning rate
is that of all experiments, or twice that."""


def specs(size):
    common = {name: size[name] for name in ("data", "samples", "epochs", "units")}
    return [{**common, "method": method, "strength": strength, "factor": factor}
            for method, of in size["strengths"].items() for strength in of for factor in size["factors"]]  # fmt: skip


def train(seed, data, samples, epochs, units, method, strength, factor):
    x, y = lab.sample(data, samples, seed)
    keep, keep_input = (0.5, lab.KEEP_INPUT) if "dropout" in method else (1.0, 1.0)
    model = lab.network([units, units], seed, keep, keep_input, **_arguments(method, strength))
    lab.fit(model, x, y, epochs, lab.LEARNING_RATE * keep * factor)
    return {part: lab.error(model, *lab.data(data)[part]) for part in ("validation", "test")}


def _arguments(method, strength):
    """What the hidden layers are given for it."""
    last = method.rpartition(" ")[2]
    if last == "max-norm":
        return {"kernel_constraint": mc.constraints.MaxNorm(strength)}
    if last in ("L1", "L2"):
        return {"kernel_regularizer": getattr(mc.regularizers, last)(strength)}
    return {}


def report(results, size):
    found = lab.means(results, "method", "strength", "factor")
    chosen = {method: _best(found, method) for method in size["strengths"]}
    tested = {method: found[setting]["test"] for method, setting in chosen.items()}
    head = ["method", "strength", *(f"validation error %, {factor} x learning rate" for factor in size["factors"])]
    grid = [[method, _strength(strength), *(found[method, strength, by]["validation"] for by in size["factors"])]
            for method, of in size["strengths"].items() for strength in of]  # fmt: skip
    rows = [[method, _strength(chosen[method][1]), chosen[method][2], tested[method], PAPERS.get(method, "")]
            for method in tested]  # fmt: skip
    tests = table(["method", "chosen strength", "x learning rate", "test error %", "the paper's test error %"], rows)
    return Report([table(head, grid), tests], _checks(tested), {"regularisers.svg": lambda: _draw(tested)})


def _best(found, method):
    """(method, strength, factor) with the lowest validation error; the test error has no say in it."""
    return min((key for key in found if key[0] == method), key=lambda key: found[key]["validation"].mean)


def _strength(strength):
    return f"{strength:g}" if strength else ""


def _checks(tested):
    others = ("L2", "L1", "max-norm")
    best = min(others, key=lambda method: tested[method].mean)
    both = "dropout + max-norm"
    pairs = [
        *(("nothing", method) for method in (*others, "dropout")),
        ("L2", "max-norm"),
        (best, "dropout"),
        ("max-norm", "dropout + L2"),
        ("dropout + L2", both),
        ("dropout", both),
    ]
    return [lower(f"{better} beats {worse}", tested[better], tested[worse], " %", WHY.get((worse, better), ""))
            for worse, better in pairs]  # fmt: skip


def _draw(tested):
    made, (axes,) = figure(7, 3.2)
    for number, (method, error) in enumerate(tested.items()):
        axes.barh(number, error.mean, xerr=error.se, color=COLOURS["dropout" in method], capsize=3)
        axes.annotate(
            f"{error.mean:.2f}", (error.mean + error.se, number), (6, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(tested)), list(tested))
    axes.invert_yaxis()
    axes.set(xlabel="test error, %")
    return made
