"""Pictures of what minicnn measures, drawn with matplotlib: ``pip install "minicnn[plot]"``.

Every function returns a ``matplotlib.figure.Figure``.  None shows it, chooses a backend or touches pyplot: write it
with ``figure.savefig(path)``, or let a notebook display it.  ``ax=None`` makes a new figure; otherwise the given Axes
are drawn into.
"""

import itertools
import math

import numpy as np

from minicnn import _check, metrics, plot_axes, plot_dropout, plot_images
from minicnn.plot_architecture import architecture
from minicnn.plot_axes import BEST, SIMPLE, TRAIN, VALIDATION, theme
from minicnn.plot_calibration import reliability
from minicnn.plot_dropout import ablation, mask, mc_against_scaled, scaling, thinned
from minicnn.plot_images import filters, mistakes, saliency, saliency_map
from minicnn.thinning import ablation_curve, averaging_curve

__all__ = [
    "ablation",
    "ablation_curve",
    "architecture",
    "averaging_curve",
    "confusion_matrix",
    "dropout_curve",
    "feature_maps",
    "filters",
    "history",
    "learning_rates",
    "mask",
    "mc_against_scaled",
    "mistakes",
    "reliability",
    "saliency",
    "saliency_map",
    "scaling",
    "theme",
    "thinned",
]


SUMS = {"true": 1, "pred": 0, "all": (0, 1)}  # the axes over which a confusion matrix is summed to be normalised
MOST_COUNTS = 30  # classes: with more, the numbers in the squares could not be read


# ---- the dropout rate ----


def dropout_curve(curve, ax=None):
    """Loss and accuracy over the dropout rate, in training and validation, with standard errors and both chosen rates.

    ``curve``: a ``tune.DropoutCurve``.  ``ax``: one Axes for the loss, or two, for loss and accuracy; None makes a
    figure with one panel for each of them that the models have.  The loss is drawn on a logarithmic axis where all of
    it is above 0.  Accuracies that are far below the best are only marked, with their number, at the lower edge.
    """
    if not hasattr(curve, "table"):
        raise TypeError(_check.message("plot.dropout_curve", "curve must be a tune.DropoutCurve", _check.kind(curve)))
    measures = ["loss", "accuracy"] if "val_accuracy" in curve.table[0] else ["loss"]
    panels = plot_axes.panels("plot.dropout_curve", ax, (1, len(measures)))
    for panel, measure in zip(panels, measures, strict=False):
        rows = [row for row in curve.table if not math.isnan(row[f"val_{measure}"])]
        _means(panel, rows, measure)
        _chosen_rates(panel, curve)
        plot_axes.label(
            panel, measure, "dropout rate: the fraction dropped in training", ", computed with nothing dropped"
        )
        if measure == "loss":
            plot_axes.logarithmic(panel, [row[f"{part}_loss"] for row in rows for part in ("train", "val")])
        else:
            _cut_off(panel, rows)
    plot_axes.legend(panels, new_figure=ax is None)
    return panels[0].figure


def _means(panel, rows, measure):
    """Training and validation over the rate, with standard errors, and the gap between them."""
    factor = plot_axes.percent(measure)
    rates, drawn = [row["rate"] for row in rows], []
    for part, label, colour, marker in (
        ("train", "samples trained on", TRAIN, "s"),
        ("val", "validation: samples not trained on", VALIDATION, "o"),
    ):
        name = f"{part}_{measure}"
        means, errors = ([factor * row[key] for row in rows] for key in (name, f"{name}_se"))
        if any(map(math.isnan, errors)):  # one run a rate
            errors = None
        else:
            label += " ± standard error"
        panel.errorbar(rates, means, errors, label=label, color=colour, marker=marker, capsize=3)
        drawn.append(means)
    panel.fill_between(rates, *drawn, color=plot_axes.ink(panel, 0.1), zorder=0, label="gap: overfitting")


def _chosen_rates(panel, curve):
    """Vertical lines at both chosen rates; a word at those where a run failed, and so there is no mean."""
    rates = [row["rate"] for row in curve.table]
    if min((b - a for a, b in itertools.pairwise(rates)), default=1) > 0.04 * (rates[-1] - rates[0]):
        panel.set_xticks(rates, [f"{rate:g}" for rate in rates])
    for row in curve.table:
        if row["failed"]:
            place = {"xycoords": ("data", "axes fraction"), "ha": "center", "rotation": "vertical"}
            panel.annotate("failed: see the table", (row["rate"], 0.02), **place)
    best, simple = curve.best_rate, curve.one_standard_error_rate
    together = best == simple
    for rate, label, colour, style in (
        (best, "best rate and one-standard-error rule" if together else "best rate", BEST, "--"),
        (None if together else simple, "one-standard-error rule", SIMPLE, ":"),
    ):
        if rate is not None:
            panel.axvline(rate, label=f"{label}: {rate:g}", color=colour, linestyle=style, linewidth=2, zorder=1)


def _cut_off(panel, rows):
    """Keeps one bad rate from squeezing all others into a line: the axis ends at five times the error of the best."""
    accuracies = [100 * row["val_accuracy"] for row in rows]
    lowest = 100 - 5 * (100 - max(accuracies, default=0))
    if not rows or min(accuracies) >= lowest:
        return
    panel.set_ylim(lowest, 100 + 0.05 * (100 - lowest))
    for row, accuracy in zip(rows, accuracies, strict=True):
        if accuracy < lowest:
            place = {"xytext": (0, 14), "textcoords": "offset points", "ha": "center", "color": VALIDATION}
            arrow = {"arrowstyle": "->", "color": VALIDATION}
            panel.annotate(f"{accuracy:.0f} %", (row["rate"], lowest), arrowprops=arrow, **place)


# ---- one training ----


def history(history, ax=None):
    """Loss and metrics over the epochs: in training, with nothing dropped (clean_...), and in validation (val_...); and
    the learning rate, in a panel of its own where it changes.

    ``history``: what ``fit`` returns, or its dict of lists, such as a history.json holds, which are drawn from epoch 1
    on.  ``ax``: one Axes for the loss, or several, for the loss, the metrics in the order of the history, and the
    learning rate; None makes a figure with one panel for each of them, but not for the metrics of each class
    ("recall/cat"), which may be many.  Numbers that are not finite are crosses at the lower edge.
    """
    numbers = getattr(history, "history", history)
    if not isinstance(numbers, dict) or "loss" not in numbers:
        required = "history must be what fit returns after at least one epoch, or its dict of lists"
        raise ValueError(_check.message("plot.history", required, numbers))
    logs = [name for name in numbers if not name.startswith(("clean_", "val_"))]  # these are lines in the same panels
    logs = [name for name in logs if "/" not in name]
    names = [name for name in logs if metrics.better(name) or f"val_{name}" in numbers or f"clean_{name}" in numbers]
    rates = [value for value in numbers.get("learning_rate", []) if value is not None]
    names += ["learning_rate"] * (len(set(rates)) > 1)
    columns = min(len(names), 3)
    panels = plot_axes.panels("plot.history", ax, (-(-len(names) // columns), columns), count=len(names))
    for panel, name in zip(panels, names, strict=False):
        shown = []
        for key, label, colour, style in (
            (name, "while training: mean over the epoch, with dropout where there is any", TRAIN, ":"),
            (f"clean_{name}", "samples trained on: after the epoch, nothing dropped", TRAIN, "-"),
            (f"val_{name}", "validation: after the epoch, nothing dropped", VALIDATION, "-"),
        ):
            values = [plot_axes.percent(name) * _number(value) for value in numbers.get(key, [])]
            if values:
                marker = "." if 1 < len(values) < 40 else "o" if len(values) == 1 else ""
                epochs = history.epochs_of(key) if hasattr(history, "epochs_of") else []
                epochs = epochs if len(epochs) == len(values) else range(len(values))
                epochs = [epoch + 1 for epoch in epochs]
                style, colour = ("-", plot_axes.ink(panel, 0.6)) if name == "learning_rate" else (style, colour)
                panel.plot(epochs, values, style, label=label, color=colour, marker=marker)
                lost = [epoch for epoch, value in zip(epochs, values, strict=True) if math.isnan(value)]
                if lost:
                    at_the_edge = {"transform": panel.get_xaxis_transform(), "clip_on": False}
                    panel.plot(lost, [0] * len(lost), "x", color=colour, **at_the_edge)
            shown += values
        plot_axes.label(panel, name, "epoch")
        panel.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        finite = [value for value in shown if math.isfinite(value)]
        if name in ("loss", "learning_rate"):
            plot_axes.logarithmic(panel, finite)
        if len(finite) < len(shown):
            panel.text(0.5, 0.5, "crosses: not finite", transform=panel.transAxes, ha="center", va="center")
    if len(set(rates)) == 1:
        panels[0].set_xlabel(f"epoch (learning rate {rates[0]:g} in all of them)")
    plot_axes.legend(panels, new_figure=ax is None)
    return panels[0].figure


def _number(value):
    """A number of a history; NaN for None, which stands in a file for what is not finite, and for infinity."""
    return value if value is not None and math.isfinite(value) else math.nan


# ---- what is taken for what ----


def confusion_matrix(matrix, class_names=None, ax=None, normalize=None):
    """How many samples of each class, a row, were taken for each class, a column; the bluer, the larger the share of
    the row.

    ``matrix``: what ``metrics.confusion_matrix`` gives.  ``class_names``: the names in the order of the numbers, such
    as ``model.class_names``; None for the numbers.  ``ax``: one Axes to draw into; None makes a figure.
    ``normalize``: None for counts, or, as in scikit-learn, "true" for % of the row, "pred" of the column, "all" of all
    samples, which the colours then follow.
    """
    where = "plot.confusion_matrix"
    counts = _check.numeric_array(where, "matrix", matrix)
    if counts.ndim != 2 or not 0 < len(counts) == counts.shape[1] or not (counts >= 0).all():
        required = "matrix must be square and hold counts, as metrics.confusion_matrix gives them"
        raise ValueError(_check.message(where, required, _check.shape_of(counts)))
    n = len(counts)
    names = [str(number) for number in range(n)]
    if class_names is not None:
        names = _check.class_names(where, "class_names", class_names, n)
    names = plot_axes.all_named(names, 18)
    if normalize is not None:
        _check.choice(where, "normalize", normalize, tuple(SUMS))
    letters = max(len(name) for name in names)
    side = min(14, max(3.6, 1.6 + 0.09 * letters + 0.55 * n))
    panel, *_ = plot_axes.panels(where, ax, (1, 1), None if ax is not None else (side, side))
    sums = counts.sum(SUMS.get(normalize, 1), keepdims=True)
    shares = counts / np.where(sums > 0, sums, 1)
    colours = plot_axes.shades(panel)
    panel.imshow(shares, cmap=colours, vmin=0, vmax=1 if normalize != "all" else shares.max() or 1)
    written = counts if normalize is None else 100 * shares
    for (row, column), count in np.ndenumerate(written if n <= MOST_COUNTS else ()):
        if count:
            colour = plot_axes.readable_on(colours(panel.images[0].norm(shares[row, column])))
            text = f"{count:g}" if normalize is None else f"{count:.0f}" if count >= 10 else f"{count:.1f}"
            panel.text(column, row, text, ha="center", va="center", color=colour, fontsize=min(10, 40 / len(text)))
    small = {"fontsize": min(10, 72 * 0.8 * (side - 1.6 - 0.09 * letters) / n)}
    panel.set_xticks(range(n), names, rotation="horizontal" if max(map(len, names)) < 4 else "vertical", **small)
    panel.set_yticks(range(n), names, **small)
    panel.set_xlabel("taken for")
    panel.set_ylabel("true class")
    right = counts.trace() / max(counts.sum(), 1)
    unit = {"true": "\ncells: % of the row", "pred": "\ncells: % of the column", "all": "\ncells: % of all"}
    panel.set_title(f"{100 * right:.1f} % of {counts.sum():,} are right{unit.get(normalize, '')}")
    return panel.figure


# ---- feature maps ----


def feature_maps(model, x, layer=None, ax=None):
    """What the channels of a layer make of one image, with nothing dropped: ``feature_maps(model, image, layer)``; or
    what masks leave of given maps: ``feature_maps(maps, {name: mask})``.

    - ``x``: an image (H, W, C), or a batch, of which the first is taken.  ``layer``: its number, path or name, or
      itself; None for the first convolution.  Of more than 64 channels the first 64 are drawn.  ``ax``: one Axes.
    - ``maps``: (H, W, C) >= 0, dark = large, drawn side by side: all kept in the first row, then a row for each mask
      (H, W, C), or of a layer its latest; of batches the first sample.  ``ax``: an Axes for each row.
    """
    if isinstance(model, list | np.ndarray):
        return plot_dropout.feature_maps(model, x, ax)
    return plot_images.feature_maps(model, x, layer, ax)


# ---- learning rates ----


def learning_rates(finder, ax=None):
    """The losses of a test of learning rates over the rate: of each step, smoothed, and the suggested rate.

    ``finder``: a ``callbacks.LearningRateFinder`` after its ``fit``.  ``ax``: one Axes; None makes a figure.
    """
    where = "plot.learning_rates"
    if not hasattr(finder, "smoothed"):
        required = "finder must be a callbacks.LearningRateFinder"
        raise TypeError(_check.message(where, required, _check.kind(finder)))
    if not finder.rates:
        raise ValueError(_check.message(where, "finder must have seen a fit", finder.rates, "Give it to fit first"))
    panel, *_ = plot_axes.panels(where, ax, (1, 1), (6.4, 5) if ax is None else None)
    panel.plot(finder.rates, finder.losses, ".", label="loss of one batch", color=plot_axes.ink(panel, 0.35))
    panel.plot(finder.rates, finder.smoothed, label="smoothed", color=TRAIN, linewidth=2)
    if finder.suggestion is not None:
        label = f"suggestion, a tenth of where it is lowest: {finder.suggestion:.2g}"
        panel.axvline(finder.suggestion, label=label, color=BEST, linestyle="--", linewidth=2, zorder=1)
    plot_axes.label(panel, "loss", "learning rate, larger from step to step")
    panel.set_xscale("log")
    low, high = min(finder.smoothed), max(finder.smoothed[0], *finder.losses[: 1 + len(finder.losses) // 2])
    space = 0.15 * (high - low) or 0.1
    panel.set_ylim(min(low, *finder.losses) - space, high + 2 * space)  # the last ones may be huge
    plot_axes.legend([panel], new_figure=ax is None)
    return panel.figure
