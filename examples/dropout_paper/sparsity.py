"""How many hidden units are on, with and without dropout, in the autoencoders of autoencoder.py."""

from examples.dropout_paper import lab
from examples.dropout_paper.autoencoder import BINS, FULL, QUICK, here, specs, train
from examples.dropout_paper.report import COLOURS, Check, Report, figure, lower, table

__all__ = ["FULL", "PAPER", "QUICK", "TITLE", "here", "report", "specs", "train"]

TITLE = "4. Sparsity"
PAPER = """Section 7.2, figure 8: as a side effect the activations of hidden units become sparse. Without dropout units
have a mean activation of about 2.0 and the histogram of all activations has a huge mode away from zero; with dropout
the mean activation is about 0.7, and the histogram has a sharp peak at zero."""
MODE = ""


def report(results, size):
    found = lab.means(results, "keep")
    head = ["p (kept)", "rate (dropped)", "mean activation", "zeros %", "units that are ever on"]
    rows = [[keep, 1 - keep, f"{of['mean activation']:.3f}", f"{of['zeros']:.1f}", f"{of['units alive']:.0f}"]
            for keep, of in found.items()]  # fmt: skip
    with_, without = found[0.5], found[1.0]
    bins = {keep: _histogram(results, keep) for keep in found}
    checks = [
        lower("the mean activation is lower with dropout", with_["mean activation"], without["mean activation"]),
        lower("fewer units are on: more of the activations are zero", without["zeros"], with_["zeros"], " %"),
        Check("with dropout the histogram falls from a peak at zero: no bin is higher than the first",
              bins[0.5][0] == max(bins[0.5]), f"{100 * bins[0.5][0]:.0f} % in the first bin"),
        Check("without dropout its highest bin is away from zero", bins[1.0][0] != max(bins[1.0]),
              f"{100 * bins[1.0][0]:.0f} % in the first bin, which holds the zeros", MODE),
    ]  # fmt: skip
    return Report([table(head, rows)], checks, {"sparsity.svg": lambda: _draw(results, bins)})


def _histogram(results, keep):
    """The shares of the bins, over all seeds."""
    return [
        sum(column) / len(column)
        for column in zip(*(r["histogram"] for r in results if r["keep"] == keep), strict=True)
    ]


def _draw(results, bins):
    made, (means, all_) = figure(9, 3.4, columns=2)
    middles, width = (BINS[1:] + BINS[:-1]) / 2, BINS[1] - BINS[0]
    for number, (keep, shares) in enumerate(bins.items()):
        label = "no dropout" if keep == 1 else f"p = {keep} (rate {1 - keep})"
        units = [mean for result in results if result["keep"] == keep for mean in result["mean of each unit"]]
        means.hist(units, BINS, alpha=0.6, color=COLOURS[number], label=label)
        all_.bar(middles, shares, width, alpha=0.6, color=COLOURS[number], label=label)
    means.set(title="mean activation of a unit", xlabel="mean over the test images", ylabel="units, all seeds")
    all_.set(title="all activations", xlabel="activation", ylabel="share", yscale="log", ylim=(1e-4, 1))
    means.legend(frameon=False)
    return made
