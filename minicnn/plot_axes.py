"""What all pictures need: Axes, colours, labels, legends.  matplotlib is imported where a figure is made."""

from minicnn import _check, metrics

TRAIN, VALIDATION, BEST, SIMPLE = "#0072b2", "#d55e00", "#009e73", "#aa4499"  # told apart by the colour-blind as well


def panels(where, ax, shape, size=None, **grid):
    """A list of Axes, row by row: those given, or those of a new figure of ``shape`` (rows, columns).

    With ``size``, in inches, the picture needs them all: as many must be given.
    """
    rows, columns = shape
    if ax is not None:
        panels = list(getattr(ax, "flat", ax)) if hasattr(ax, "__iter__") else [ax]
        if not panels or not all(hasattr(panel, "errorbar") for panel in panels):
            raise TypeError(_check.message(where, "ax must be matplotlib Axes, one or several", _check.kind(ax)))
        if size and len(panels) != rows * columns:
            raise ValueError(_check.message(where, f"ax must be {rows * columns} Axes", len(panels)))
        return panels
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plotting needs matplotlib: pip install "minicnn[plot]"') from error
    figure = Figure(figsize=size or (5.6 * columns, 5), layout="constrained")
    return list(figure.subplots(rows, columns, squeeze=False, **grid).flat)


def percent(measure):
    return 100 if "accuracy" in measure else 1


def label(panel, measure, xlabel, more=""):
    better = {"min": ": lower is better", "max": ": higher is better", None: ""}[metrics.better(measure)]
    name = measure.replace("_", " ")
    panel.set_title(name[:1].upper() + name[1:] + better)
    panel.set_xlabel(xlabel)
    panel.set_ylabel(name + (" in %" if percent(measure) > 1 else "") + more)
    panel.grid(axis="y", color="0.92")
    panel.set_axisbelow(True)


def logarithmic(panel, values):
    """A logarithmic axis, with plain numbers at it, where all values are above 0."""
    if not values or not min(values) > 0:
        return
    from matplotlib.ticker import LogLocator, NullFormatter

    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panel.yaxis.set_minor_formatter(NullFormatter())


def legend(panels, new_figure):
    """One legend below all panels of a new figure, one within each of the Axes that the caller gave."""
    if new_figure:
        panels[0].figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False
        )
    else:
        for panel in panels:
            panel.legend()
