"""The effect of the size of the training set, with and without dropout."""

from examples.dropout_paper import lab
from examples.dropout_paper.report import Check, Report, curve, figure, lower, sign, table

TITLE = "2. The size of the training set"
PAPER = """Section 7.4, figure 10: with very few images (100, 500) dropout gives no improvement, the net can fit them in
spite of the noise; as the set grows the gain grows, up to a point, and then declines."""
WHY = {
    500: """Why, we do not know: with dropout no training image is wrong either, so the net fits them in spite of the
noise, as in the paper, and yet what it learns is better.""",
    50_000: """The training is too short for it: training images are still wrong, and a dropout net takes 2 to 3 times
as long to be at its best (section 7). The paper's net has two to four times as many units, too.""",
}
NOTE = """With half as many epochs for the last two dropout gained nothing at 10,000 images (3.32 % against 3.27 %) and
lost more at 50,000 (2.22 % against 1.61 %)."""
# Images: epochs.  The fewer images, the more epochs, though not so many that all get equally many steps.
FULL = {"data": "mnist", "units": 512, "epochs": {100: 300, 500: 150, 1_000: 100, 5_000: 30, 10_000: 40, 50_000: 16}}
QUICK = {"data": "digits", "units": 128, "epochs": {100: 200, 300: 100, 1_000: 50}}


def here(size):
    epochs = ", ".join(f"{n:,} for {images:,}" for images, n in size["epochs"].items())
    return f"""{lab.chain(size)} instead of 784-1024-1024-2048-10; dropout as in the paper, p = 0.5 in hidden layers and
{lab.KEEP_INPUT} at the inputs. Epochs for so many images: {epochs}."""


def specs(size):
    return [{"data": size["data"], "units": size["units"], "samples": samples, "epochs": epochs, "keep": keep}
            for samples, epochs in size["epochs"].items() for keep in (1.0, 0.5)]  # fmt: skip


def train(seed, data, units, samples, epochs, keep):
    x, y = lab.sample(data, samples, seed)
    model = lab.network([units, units], seed, keep, lab.KEEP_INPUT if keep < 1 else 1.0)
    lab.fit(model, x, y, epochs, lab.LEARNING_RATE * keep)
    return {"test": lab.error(model, *lab.data(data)["test"]), "train": lab.error(model, x, y)}


def report(results, size):
    found = lab.means(results, "samples", "keep")
    pairs = {n: (found[n, 1.0]["test"], found[n, 0.5]["test"]) for n in size["epochs"]}
    gains = {n: without - with_ for n, (without, with_) in pairs.items()}
    shares = {n: (without - with_) / without for n, (without, with_) in pairs.items()}
    head = ["training images", "test error % without", "with dropout", "gain, points", "gain, % of the errors",
            "training error % without", "with"]  # fmt: skip
    rows = [[f"{n:,}", *pairs[n], gains[n], percent(shares[n]), found[n, 1.0]["train"], found[n, 0.5]["train"]]
            for n in pairs]  # fmt: skip
    return Report([table(head, rows)], _checks(pairs, gains, shares), {"size.svg": lambda: _draw(pairs, shares)})


def percent(share):
    return f"{100 * share.mean:.0f} ± {100 * share.se:.0f}"


def _checks(pairs, gains, shares):
    sizes = list(pairs)
    best = max(sizes, key=lambda n: shares[n].mean)
    checks = [
        Check(f"with {n} images dropout gives no improvement", _none(gains[n]), f"gain {gains[n]} points",
              WHY.get(n, "")) for n in sizes if n <= 500
    ]  # fmt: skip
    return [
        *checks,
        *(lower(f"with {n:,} images dropout helps", *reversed(pairs[n]), " %", WHY.get(n, ""))
          for n in sizes if n > 500),
        _turn(f"the share of errors that dropout removes is larger with {best:,} images than with {sizes[0]:,}",
              sizes[0], best, shares),
        _turn(f"and it has declined again with {sizes[-1]:,}", sizes[-1], best, shares),
    ]  # fmt: skip


def _none(gain):
    """Whether there is no gain; not decided where there seems to be one that is not clear."""
    return True if gain.mean <= 0 else {1: False, 0: None}[sign(gain)]


def _turn(claim, n, best, shares):
    """The check that less is gained with n images than with ``best`` images, where most is gained."""
    if n == best:
        return Check(claim, False, f"nowhere is it larger than with {n:,}, {percent(shares[n])} %")
    figures = f"{percent(shares[n])} % against {percent(shares[best])} %"
    return lower(claim, shares[n], shares[best])._replace(figures=figures)


def _draw(pairs, shares):
    made, (errors, gain) = figure(9, 3.4, columns=2)
    for number, name in enumerate(("without dropout", "with dropout")):
        curve(errors, list(pairs), [pair[number] for pair in pairs.values()], name, number)
    errors.set(title="test error", xscale="log", yscale="log", xlabel="training images", ylabel="wrong, %")
    errors.set_yticks([2, 3, 5, 10, 20], ["2", "3", "5", "10", "20"])
    errors.minorticks_off()
    errors.legend(frameon=False)
    curve(gain, list(shares), list(shares.values()), "", 2)
    gain.axhline(0, color="black", linewidth=0.8)
    gain.set(title="share of the errors that dropout removes", xscale="log", xlabel="training images")
    gain.minorticks_off()
    gain.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    return made
