"""Plain dropout beside the other members of its family, each with the rate that was best on the validation part."""

import minicnn as mc
from examples import r_drop
from examples.dropout_paper import lab
from examples.dropout_paper.report import COLOURS, Check, Report, change, figure, lower, sign, table
from minicnn import layers
from minicnn.schedules import CurriculumDropout, EarlyDropout, LateDropout

TITLE = "9. Dropout's family"
PAPER = """Each of these found itself better than dropout, or a help beside it, on data and nets of its own: dropout of
whole channels (Tompson et al. 2015) and of blocks (Ghiasi et al. 2018), Gaussian noise (section 10 of the dropout
paper: at least as good), alpha dropout with SELU (Klambauer et al. 2017), DropConnect (Wan et al. 2013), curriculum
dropout (Morerio et al. 2017), early and late dropout (Liu et al. 2023), R-Drop (Liang et al. 2021)."""
SEEDS = 10
NOTE = """With ten others on two sets, and only three rates each, a difference of three standard errors is to be taken
with care: rates between and below those might close it (the lowest was often the best)."""
FULL = {"rates": (0.3, 0.5, 0.7), "sets": {"digits": {"samples": 1_000, "epochs": 40, "channels": 16},
                                           "mnist": {"samples": 1_000, "epochs": 20, "channels": 8}}}  # fmt: skip
QUICK = {"rates": (0.3, 0.5), "sets": {"digits": {"samples": 300, "epochs": 3, "channels": 4}}}
UNITS = 64
SIDES = {"digits": 8, "mnist": 28}
ALPHAS = {"R-Drop, alpha 0.3": 0.3, "R-Drop, alpha 1": 1.0}
PLAIN, NOTHING = "dropout", "nothing"


def dropout(rate):
    """What all others change: (what follows the pooling, the dense layer and what follows it)."""
    return [layers.Dropout(rate / 2)], [layers.Dense(UNITS, activation="relu"), layers.Dropout(rate)]


def with_schedule(schedule):
    """Dropout whose rates follow ``schedule(rate)``."""

    def of(rate):
        pooled, dense = dropout(rate)
        for layer in (pooled[0], dense[1]):
            layer.rate = schedule(layer.rate)
        return pooled, dense

    return of


def spatial(rate):
    return [layers.SpatialDropout2D(rate / 2)], dropout(rate)[1]


def gaussian(rate):
    return [layers.GaussianDropout(rate / 2)], [layers.Dense(UNITS, activation="relu"), layers.GaussianDropout(rate)]


def block(rate):
    return [layers.DropBlock2D(rate / 2, block_size=2)], dropout(rate)[1]


def alpha(rate):
    hidden = layers.Dense(UNITS, activation="selu", kernel_initializer="lecun_normal")
    return dropout(rate)[0], [hidden, layers.AlphaDropout(rate)]


def dropconnect(rate):
    return dropout(rate)[0], [layers.DropConnect(UNITS, rate, activation="relu")]


MEMBERS = {
    NOTHING: lambda rate: ([], [layers.Dense(UNITS, activation="relu")]),
    PLAIN: dropout,
    "SpatialDropout2D": spatial,
    "DropBlock2D": block,
    "GaussianDropout": gaussian,
    "AlphaDropout": alpha,
    "DropConnect": dropconnect,
    "curriculum dropout": with_schedule(CurriculumDropout),
    "early dropout": with_schedule(lambda rate: EarlyDropout(rate, 0.5)),
    "late dropout": with_schedule(lambda rate: LateDropout(rate, 0.5)),
    **dict.fromkeys(ALPHAS, dropout),
}


def here(size):
    sets = " and ".join(
        f"{name}, {of['channels']} channels, {of['samples']:,} training images, {of['epochs']} epochs"
        for name, of in size["sets"].items()
    )
    rates = ", ".join(map(str, size["rates"]))
    return f"""A convolution, pooling, {UNITS} ReLUs and the 10 outputs ({sets}). A rate r, one of {rates},
means dropout of r / 2 behind the pooling and of r before the last layer. The members take the place of both of these
layers (GaussianDropout), of the first (SpatialDropout2D, DropBlock2D with blocks of 2 x 2), or of the dense layer and
the second (DropConnect; AlphaDropout, with SELU instead of ReLU). Early and late: the first and the second half of the
run. R-Drop is that of
[examples/r_drop.py](../r_drop.py), with dropout. Of each member the rate with the lowest mean validation loss was
chosen, and only that one is tested."""


def specs(size):
    return [
        {"data": data, **of, "member": member, "rate": rate}
        for data, of in size["sets"].items()
        for member in MEMBERS
        for rate in (size["rates"] if member != NOTHING else (0.0,))
    ]


def images(x, data):
    return x.reshape(-1, SIDES[data], SIDES[data], 1)


def train(seed, data, samples, epochs, channels, member, rate):
    x, y = lab.sample(data, samples, seed)
    x = images(x, data)
    pooled, dense = MEMBERS[member](rate)
    model = mc.Sequential([
        layers.Conv2D(channels, 3, padding="same", activation="relu"), layers.MaxPooling2D(2), *pooled,
        layers.Flatten(), *dense, layers.Dense(10),
    ], seed=seed)  # fmt: skip
    model.build(x.shape[1:])
    if member in ALPHAS:
        steps = epochs * len(mc.datasets.slices(len(x), lab.BATCH_SIZE))
        schedule = mc.optimizers.CosineDecay(lab.LEARNING_RATE, steps)
        model.compile(mc.optimizers.SGD(schedule, lab.MOMENTUM), lab.LOSS)
        r_drop.train(model, x, y, epochs, ALPHAS[member], lab.BATCH_SIZE)
    else:
        lab.fit(model, x, y, epochs, lab.LEARNING_RATE)
    found = {}
    for part in ("validation", "test"):
        x, y = lab.data(data)[part]
        found[f"{part} loss"] = float(model.evaluate(images(x, data), y, batch_size=500))
        found[part] = lab.error(model, images(x, data), y)
    return found


def report(results, size):
    found, tables, checks, changes = lab.means(results, "data", "member", "rate"), [], [], {}
    for data in size["sets"]:
        chosen = {member: _best(found, data, member) for member in MEMBERS}
        of = {member: found[data, member, rate] for member, rate in chosen.items()}
        changes[data] = {member: of[member]["test loss"] - of[PLAIN]["test loss"] for member in MEMBERS}
        tables.append(_table(data, chosen, of, changes[data]))
        checks += _checks(data, of, changes[data])
    if len(changes) > 1:
        checks.append(_everywhere(changes))
    return Report(tables, checks, {"family.svg": lambda: _draw(changes)})


def _best(found, data, member):
    """The rate with the lowest validation loss; the test part has no say in it."""
    rates = [rate for of, which, rate in found if (of, which) == (data, member)]
    return min(rates, key=lambda rate: found[data, member, rate]["validation loss"].mean)


def _table(data, chosen, of, changes):
    head = [data, "chosen rate", "validation loss", "test loss", "less that of dropout, paired", "", "test error %"]
    rows = [
        [member, rate or "", f"{of[member]['validation loss']:.4f}", f"{of[member]['test loss']:.4f}",
         *((change(changes[member]), _word(changes[member])) if member != PLAIN else ("", "")), of[member]["test"]]
        for member, rate in chosen.items()
    ]  # fmt: skip
    return table(head, rows)


def _word(difference):
    return {-1: "better", 0: "equal within its error", 1: "worse"}[sign(difference)]


def _better(changes):
    return [member for member in MEMBERS if member != PLAIN and sign(changes[member]) == -1]


def _everywhere(changes):
    """The check that no member is better on all sets."""
    better = {data: _better(of) for data, of in changes.items()}
    common = set.intersection(*map(set, better.values()))
    figures = "; ".join(f"clearly better on {data}: {', '.join(of) or 'none'}" for data, of in better.items())
    return Check("what beats plain dropout on one of the sets does not do so on the other", not common, figures)


def _checks(data, of, changes):
    better = _better(changes)
    others = [member for member in MEMBERS if member not in (PLAIN, NOTHING)]
    nearest = min(others, key=lambda member: changes[member].mean)
    figures = f"best is {nearest}: {change(changes[nearest])} in the test loss"
    why = f"Clearly better: {', '.join(better)}."
    return [
        lower(f"{data}: dropout beats nothing in the test loss", of[PLAIN]["test loss"], of[NOTHING]["test loss"],
              digits=".4f"),
        Check(f"{data}: nothing in the family beats plain dropout beyond its own error", not better, figures, why),
    ]  # fmt: skip


def _draw(changes):
    made, panels = figure(9, 3.2, columns=len(changes))
    for axes, (data, of) in zip(panels, changes.items(), strict=True):
        shown = [member for member in of if member != PLAIN]
        for number, member in enumerate(shown):
            colour = COLOURS[{-1: 0, 0: 2, 1: 1}[sign(of[member])]]
            axes.errorbar(of[member].mean, number, xerr=of[member].se, fmt="o", color=colour, capsize=3)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(shown)), shown)
        axes.invert_yaxis()
        axes.set(title=data, xlabel="test loss less that of dropout, paired")
    return made
