"""What all pictures need: Axes, colours, labels, legends.  matplotlib is imported where a figure is made.

Lines and bars have fixed colours, which can be read on white and on black; all else is mixed of the two colours that
the active style of matplotlib has for paper and text, or that ``theme`` sets.
"""

import functools
import io

from minicnn import _check, metrics

TRAIN, VALIDATION, BEST, SIMPLE = "#0072b2", "#d55e00", "#009e73", "#aa4499"  # told apart by the colour-blind as well
LIGHT = "#56b4e9"  # a blue for large areas on black
THEMES = {"light": ("#ffffff", "#1a1a1a"), "dark": ("#15181c", "#e8e8e8")}  # paper, text
PAPERS = "figure.facecolor", "axes.facecolor", "legend.facecolor"
INKS = "text.color", "axes.labelcolor", "axes.titlecolor", "axes.edgecolor", "xtick.color", "ytick.color"


def theme(name):
    """A context for pictures on white, "light", or on black, "dark": ``with mc.plot.theme("dark"): ...``

    Without it they have the colours of the style of matplotlib that is active.
    """
    paper, ink = THEMES[_check.choice("plot.theme", "name", name, tuple(THEMES))]
    return _matplotlib().rc_context(dict.fromkeys(PAPERS, paper) | dict.fromkeys(INKS, ink) | INHERITED)


INHERITED = {"xtick.labelcolor": "inherit", "ytick.labelcolor": "inherit", "savefig.facecolor": "auto"}


def _matplotlib():
    try:
        import matplotlib.figure
    except ImportError as error:
        raise ImportError('plotting needs matplotlib: pip install "minicnn[plot]"') from error
    return matplotlib


def panels(where, ax, shape, size=None, count=None, **grid):
    """A list of Axes, row by row: those given, or those of a new figure of ``shape`` (rows, columns).

    With ``size``, in inches, the picture needs them all: as many must be given.  ``count``: how many are needed, where
    they are fewer than the grid has.
    """
    rows, columns = shape
    count = rows * columns if count is None else count
    if ax is not None:
        panels = list(getattr(ax, "flat", ax)) if hasattr(ax, "__iter__") else [ax]
        if not panels or not all(hasattr(panel, "errorbar") for panel in panels):
            raise TypeError(_check.message(where, "ax must be matplotlib Axes, one or several", _check.kind(ax)))
        if size and len(panels) != count:
            raise ValueError(_check.message(where, f"ax must be {count} Axes", len(panels)))
        return panels
    matplotlib = _matplotlib()
    figure = matplotlib.figure.Figure(figsize=size or (5.6 * columns, 5 * rows), layout="constrained")
    vars(figure)["_repr_png_"] = functools.partial(_png, figure)  # for notebooks, which know figures by pyplot alone
    panels = list(figure.subplots(rows, columns, squeeze=False, **grid).flat)
    for panel in panels[count:]:
        panel.remove()
    for panel in panels[:count]:  # ticks are made when they are drawn, perhaps in another style
        for axis in "xy":
            panel.tick_params(axis, colors=matplotlib.rcParams[f"{axis}tick.color"])
    return panels[:count]


def _png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    return file.getvalue()


def ink(panel, share=1.0):
    """A colour between that of the paper, 0, and that of the text, 1."""
    from matplotlib.colors import to_rgb

    paper, text = (to_rgb(colour) for colour in (_paper(panel), panel.xaxis.label.get_color()))
    return tuple((1 - share) * a + share * b for a, b in zip(paper, text, strict=True))


def _paper(panel):
    """What is behind: the first ground that is not transparent."""
    from matplotlib.colors import to_rgba

    grounds = panel.get_facecolor(), panel.figure.get_facecolor(), "white"
    return next(ground for ground in grounds if to_rgba(ground)[3])


def shades(panel):
    """The colours of shares: from the paper at 0 to blue at 1, faster at first, where mistakes are."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    paper = ink(panel, 0)
    full = to_rgb(TRAIN if readable_on(paper) == "black" else LIGHT)
    some = [0.7 * a + 0.3 * b for a, b in zip(paper, full, strict=True)]
    return LinearSegmentedColormap.from_list("shares", [(0, paper), (0.12, some), (1, full)])


def readable_on(colour):
    """Black or white, what can be read on a colour."""
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in colour[:3])
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "white"  # equal contrasts (WCAG 2)


def percent(measure):
    return 100 if "accuracy" in measure else 1


def label(panel, measure, xlabel, more=""):
    better = {"min": ": lower is better", "max": ": higher is better", None: ""}[metrics.better(measure)]
    name = named(measure.replace("_", " "))
    panel.set_title(name[:1].upper() + name[1:] + better)
    panel.set_xlabel(xlabel)
    panel.set_ylabel(name + (" in %" if percent(measure) > 1 else "") + more)
    panel.grid(axis="y", color=ink(panel, 0.1))
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
        wide = panels[0].figure.get_figwidth() > 8
        panels[0].figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2 if wide else 1, frameon=False
        )
    else:
        for panel in panels:
            panel.legend()


def named(name, letters=None):
    """A name of somebody's own as a text of a picture, which shows it as it stands, at most so many ``letters`` of it:
    between two dollars matplotlib would read a formula."""
    name = name if letters is None or len(name) <= letters else f"{name[: letters - 1]}…"
    return name.replace("$", r"\$") if _matplotlib().rcParams["text.parse_math"] else name


def all_named(names, letters):
    """``named`` for all of these; with their numbers in front where names that are cut off would look the same."""
    short = [named(name, letters) for name in names]
    if len({*short}) == len({*names}):
        return short
    return [named(f"{number} {name}", letters) for number, name in enumerate(names)]
