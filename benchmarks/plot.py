"""The bars of RESULTS.md."""

from benchmarks import rivals

NAMES = (("step", 0, "step, batch 128, to PyTorch"), ("step", 1, "step, batch 32, to PyTorch"),
         ("predict", 0, "predict 128, to ONNX Runtime"), ("predict", 1, "predict 1, to ONNX Runtime"))  # fmt: skip
COLOURS = ("#1f4e79", "#7fa8d1", "#7f6000", "#d9b650")


def ratios(bars, folder):
    """Draws {network: {"step": ratios, "predict": ratios}} into ``folder``; returns the Markdown that shows it."""
    if not rivals.have("matplotlib"):
        return "(No plot: Matplotlib is not installed.)"
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes, width = figure.add_subplot(), 0.8 / len(NAMES)
    for i, (kind, batch, label) in enumerate(NAMES):
        places = [n + (i - (len(NAMES) - 1) / 2) * width for n in range(len(bars))]
        heights = [of[kind][batch] or 0 for of in bars.values()]
        axes.bar_label(axes.bar(places, heights, width, label=label, color=COLOURS[i]), fmt="%.1f", fontsize=7)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(bars)), list(bars))
    axes.set_ylabel("times as fast")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", fontsize=8, frameon=False, ncols=len(NAMES))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "minicnn"}):
        FigureCanvasSVG(figure).print_svg(folder / "ratios.svg", metadata={"Date": None})
    return "![How many times as fast as the others minicnn is](ratios.svg)"
