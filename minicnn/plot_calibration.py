"""The picture of how sure a network is, beside how often it is right.  ``plot`` has it."""

import numpy as np

from minicnn import _check, plot_axes
from minicnn.calibration import ReliabilityCurve
from minicnn.plot_axes import VALIDATION

LIGHT = "#8cbadb"  # a blue on which the hatching can be seen


def reliability(curves, ax=None):
    """The reliability diagram: accuracy over confidence in bins, the gap between both, and below it the share of the
    samples in each bin.  Bars below the diagonal are of a network that is too sure, above it of one not sure enough.

    ``curves``: {name: ``calibration.ReliabilityCurve``}, or one.  ``ax``: an Axes for each, of the diagram alone; None
    makes a figure with both, side by side.
    """
    where = "plot.reliability"
    curves = curves if isinstance(curves, dict) else {"Reliability": curves}
    if not curves or not all(isinstance(curve, ReliabilityCurve) for curve in curves.values()):
        required = "curves must be a ReliabilityCurve or a dict {name: ReliabilityCurve}"
        raise TypeError(_check.message(where, required, _check.kind(curves)))
    if ax is None:
        size, heights = (max(4.4 * len(curves), 5.6), 6), {"height_ratios": [3.2, 1]}
        panels = plot_axes.panels(where, None, (2, len(curves)), size, gridspec_kw=heights, sharex=True, sharey="row")
    else:
        panels = plot_axes.panels(where, ax, (1, len(curves)), (0, 0))
    for number, (name, curve) in enumerate(curves.items()):
        _diagram(panels[number], name, curve)
        if ax is None:
            _shares(panels[len(curves) + number], curve)
        else:
            panels[number].set_xlabel("confidence in %")
    for panel in panels[:1] + panels[len(curves) : len(curves) + 1]:
        panel.set_ylabel("accuracy in %" if panel is panels[0] else "samples in %")
    plot_axes.legend(panels[: len(curves)], new_figure=ax is None)
    return panels[0].figure


def _bars(curve):
    """The left edges and widths, in %, of the bins that have samples; and which they are."""
    filled = curve.count > 0
    return 100 * curve.edges[:-1][filled], 100 * np.diff(curve.edges)[filled], filled


def _diagram(panel, name, curve):
    left, width, filled = _bars(curve)
    accuracy, confidence = 100 * curve.accuracy[filled], 100 * curve.confidence[filled]
    edge = {"align": "edge", "edgecolor": plot_axes.ink(panel, 0), "linewidth": 0.5}
    panel.bar(left, accuracy, width, color=LIGHT, label="accuracy", **edge)
    gap = {"align": "edge", "facecolor": "none", "edgecolor": VALIDATION, "hatch": "////", "linewidth": 1}
    panel.bar(left, confidence - accuracy, width, accuracy, label="gap to the mean confidence", **gap)
    panel.plot([0, 100], [0, 100], "--", color=plot_axes.ink(panel, 0.85), linewidth=1, zorder=3, label="calibrated")
    said = "over" if curve.overconfidence > 0 else "under"
    line = f"ECE {100 * curve.ece:.1f} %, {said}confident by {100 * abs(curve.overconfidence):.1f} %"
    panel.set(title=f"{plot_axes.named(name)}\n{line}", xlim=(0, 100), ylim=(0, 100))


def _shares(panel, curve):
    left, width, filled = _bars(curve)
    share = 100 * curve.count[filled] / curve.count.sum()
    paper, grey = plot_axes.ink(panel, 0), plot_axes.ink(panel, 0.5)
    panel.bar(left, share, width, color=grey, align="edge", edgecolor=paper, linewidth=0.5)
    panel.set(xlabel="confidence in %", ylim=(0, 100))
