"""What hidden units look for, with and without dropout, in the autoencoders of autoencoder.py."""

import numpy as np

from examples.dropout_paper import lab
from examples.dropout_paper.autoencoder import FULL, QUICK, here, specs, train
from examples.dropout_paper.report import Check, Report, figure, lower, table

__all__ = ["FULL", "PAPER", "QUICK", "TITLE", "here", "report", "specs", "train"]

TITLE = "5. Features"
PAPER = """Section 7.1, figure 7: both autoencoders reconstruct test images about equally well, but without dropout a
single hidden unit does not seem to detect anything, units have co-adapted; with dropout units detect edges, strokes and
spots in different parts of the image."""
EQUAL = """At p = 0.5 half of the units are away in every step, and about half of the 256 have died (they are never on,
see section 4): what is left is too small a net to reconstruct well."""
ALIKE = """Without dropout neighbouring weights go together too, over two or three pixels, as far as a stroke is wide.
What tells both apart, in the picture and in the last column, is where the weights are: everywhere, or in one stroke."""


def report(results, size):
    found = lab.means(results, "keep")
    head = ["p (kept)", "rate (dropped)", "squared error, thousandths", "with a tenth of the units removed",
            "times as much", "correlation of neighbouring weights", "in the best 1/16 of the image %"]  # fmt: skip
    rows = []
    for keep, of in found.items():
        rows.append([keep, 1 - keep, of["error"], of["error without a tenth"], f"{_factor(of):.1f}",
                     of["smoothness"], f"{of['concentration']:.1f}"])  # fmt: skip
    with_, without = found[0.5], found[1.0]
    worse = (with_["error"] / without["error"]).mean
    checks = [
        Check("both reconstruct about equally well: the errors differ by less than a fifth", 0.8 < worse < 1.25,
              f"{with_['error']} with dropout, {without['error']} without", EQUAL),
        lower("units depend less on one another: removing a tenth of them multiplies the error by less with dropout",
              _factor(with_), _factor(without), digits=".1f"),
        lower("features are strokes, not noise: neighbouring weights are more alike with dropout",
              without["smoothness"], with_["smoothness"], why=ALIKE),
        lower("and each looks at a smaller part of the image: more of its squared weights lie in its best window",
              without["concentration"], with_["concentration"], " %"),
    ]  # fmt: skip
    return Report([table(head, rows)], checks, {"features.png": lambda: _draw(results)})


def _factor(of):
    return of["error without a tenth"] / of["error"]


def _draw(results):
    made, axes = figure(8, 4.3, columns=2)
    shown = [result for result in results if result["pictures"]]
    for one, result in zip(axes, shown, strict=True):
        one.imshow(_mosaic(np.array(result["pictures"])), cmap="gray", vmin=-1, vmax=1)
        one.set(xticks=[], yticks=[], title="no dropout" if result["keep"] == 1 else f"dropout, p = {result['keep']}")
        one.spines[:].set_visible(False)
    return made


def _mosaic(images):
    """Images (n, side, side) in rows of the same length, each scaled by its largest weight, with a border."""
    images = images / np.abs(images).max((1, 2), keepdims=True)
    images = np.pad(images, ((0, 0), (0, 1), (0, 1)), constant_values=1)
    columns = int(len(images) ** 0.5)
    rows = [np.concatenate(images[i : i + columns], 1) for i in range(0, columns * columns, columns)]
    return np.concatenate(rows)
