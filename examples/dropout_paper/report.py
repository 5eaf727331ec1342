"""From numbers to Markdown: tables, pictures, and checks that say whether a finding of the paper holds."""

import datetime
import io
import os
import platform
import re
import textwrap
from pathlib import Path
from typing import NamedTuple

import minicnn as mc

FOLDER = Path(__file__).parent
HEAD = """# Results

Written by `python -m examples.dropout_paper --write`; do not edit by hand. p is the paper's probability of *keeping* a
unit, rate = 1 - p the argument of `layers.Dropout`. Figures are means over seeds ± standard errors of the mean; every
seed has its own initial values, masks, order and, where fewer than all are used, training images. "Holds", "does not
hold" and "not decided" are computed from the figures: a difference counts if it is larger than three standard errors
of itself, taken seed by seed. CPU seconds are those of a shared machine: compare them within one table only.

"""
CLEAR = 3  # standard errors; with five seeds 2.8 would be the 95 % of Student's t


class Check(NamedTuple):
    """One statement of the paper, what became of it here, and the figures behind that.

    ``outcome``: True, False or None for not decided; ``why`` is said where it is not True.
    """

    claim: str
    outcome: bool | None
    figures: str
    why: str = ""

    def __str__(self):
        word = {True: "Holds", False: "Does not hold", None: "Not decided"}[self.outcome]
        return f"- **{word}:** {self.claim} ({self.figures}).{self._why()}"

    def _why(self):
        return "" if self.outcome or not self.why else f" {' '.join(self.why.split())}"


class Report(NamedTuple):
    """What an experiment makes of its results: ``pictures`` maps a file name to a function that draws the figure."""

    tables: list
    checks: list
    pictures: dict


def sign(difference):
    """1 or -1 where a ``lab.Mean`` is clearly above or below 0, else 0 (also for a single seed)."""
    if difference.mean == 0 or not abs(difference.mean) > CLEAR * difference.se:
        return 0
    return 1 if difference.mean > 0 else -1


def lower(claim, a, b, unit="", why="", digits=".2f"):
    """The check that ``a`` is lower than ``b``."""
    outcome = {-1: True, 0: None, 1: False}[sign(a - b)]
    return Check(claim, outcome, f"{a:{digits}}{unit} against {b:{digits}}{unit}", why)


def between(claim, value, low, high, unit="", why=""):
    """The check that ``value`` lies between ``low`` and ``high``; not decided if it is outside, but not clearly."""
    outside = max(low - value.mean, value.mean - high)
    outcome = True if outside <= 0 else False if outside > CLEAR * value.se else None
    return Check(claim, outcome, f"{value}{unit}", why)


def change(difference):
    """A difference with its sign: "-0.0147 ± 0.0021"."""
    return f"{difference.mean:+.4f}" + f" ± {difference.se:.4f}" * (len(difference.values) > 1)


def table(head, rows):
    """A Markdown table, its columns aligned."""
    lines = [[str(cell) for cell in line] for line in (head, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)


def section(name, experiment, size, results, report, seeds, jobs, pictures=True):
    """The text of one experiment."""
    cost = sum(result["cpu seconds"] for result in results)
    shown = [f"![{experiment.TITLE}]({file})" for file in report.pictures] if pictures else []
    quick = size is experiment.QUICK
    note = "" if quick else getattr(experiment, "NOTE", "")  # notes and reasons are about the full runs
    checks = [check._replace(why="") if quick else check for check in report.checks]
    command = f"python -m examples.dropout_paper {name} --seeds {seeds}{' --quick' * quick}"
    return "\n\n".join([
        f"## {experiment.TITLE}",
        textwrap.fill(f"**The paper.** {experiment.PAPER}", 120, break_on_hyphens=False),
        textwrap.fill(f"**Here.** {experiment.here(size)} {seeds} seeds. {note}".strip(), 120, break_on_hyphens=False),
        *report.tables,
        *shown,
        "\n".join(map(str, checks)),
        f"`{command}`: {len(results)} trainings, {cost:.0f} CPU seconds, on {machine(jobs)}.",
    ])  # fmt: skip


def machine(jobs):
    found = mc.versions()
    return (
        f"{cpu()}, {os.cpu_count()} CPUs, {found['instruction set']}, {jobs} process{'es' * (jobs > 1)} of one thread; "
        f"minicnn {found['minicnn']}, Python {found['python']}, NumPy {found['numpy']}; {datetime.date.today()}"
    )


def several(jobs):
    return f"{jobs} process{'es' if jobs > 1 else ''}"


def cpu():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


# ---- the file ----


def put(names, name, text, file=FOLDER / "RESULTS.md"):
    """Replaces or adds the section ``name``; sections stand in the order of ``names``."""
    sections = {**read(file), name: text.strip() + "\n"}
    body = "\n".join(f"<!-- {one} -->\n{sections[one]}" for one in names if one in sections)
    file.write_text(f"{HEAD}{summary(sections, names)}\n\n{body}")


def summary(sections, names):
    """A table of how many findings of each section hold."""
    words = ("Holds", "Does not hold", "Not decided")
    titles = {name: re.match("## (.*)", text)[1] for name, text in sections.items()}
    return table(["", *words], [[titles[name], *(sections[name].count(f"**{word}:**") for word in words)]
                                for name in names if name in sections])  # fmt: skip


def read(file):
    """{name: text} of the sections that the file has."""
    text = file.read_text() if file.exists() else ""
    parts = [part.partition(" -->\n") for part in text.split("\n<!-- ")[1:]]
    return {name: content.strip() + "\n" for name, _, content in parts}


# ---- pictures ----

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa4499")  # told apart by the colour-blind as well


def figure(width=7.0, height=3.2, columns=1):
    """(figure, its axes); matplotlib is imported here and needs no screen."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('pictures need matplotlib: pip install "minicnn[plot]"') from None
    made = Figure(figsize=(width, height), layout="constrained")
    axes = made.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return made, axes


def curve(axes, x, values, label, number=0):
    """A line through ``lab.Mean``s with their standard errors as bars."""
    y, bars = [value.mean for value in values], [value.se for value in values]
    axes.errorbar(x, y, bars, fmt="-o", color=COLOURS[number], label=label, capsize=3, markersize=4, linewidth=1.4)


def band(axes, x, values, label, number=0):
    """The same for many points: the standard errors as a band around the line."""
    low, high = [value.mean - value.se for value in values], [value.mean + value.se for value in values]
    axes.plot(x, [value.mean for value in values], color=COLOURS[number], label=label, linewidth=1.4)
    axes.fill_between(x, low, high, color=COLOURS[number], alpha=0.25, linewidth=0)


def save(drawn, path):
    """Writes an SVG, or a small PNG in shades of grey, with the same bytes for the same picture."""
    import matplotlib

    if path.suffix == ".svg":
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "minicnn"}):
            drawn.savefig(path, metadata={"Date": None})
        return
    from PIL import Image  # matplotlib needs it too

    file = io.BytesIO()
    drawn.savefig(file, dpi=80)
    Image.open(file).convert("L").quantize(16).save(path, optimize=True)
