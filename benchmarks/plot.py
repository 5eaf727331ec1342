"""The pictures of RESULTS.md."""

from benchmarks import rivals

NAMES = (("step", 0, "step, batch 128, to PyTorch"), ("step", 1, "step, batch 32, to PyTorch"),
         ("predict", 0, "predict 128, to ONNX Runtime"), ("predict", 1, "predict 1, to ONNX Runtime"))  # fmt: skip
NO_PLOT = "(No plot: Matplotlib is not installed.)"
COLOURS = ("#1f4e79", "#7fa8d1", "#7f6000", "#d9b650")


def ratios(bars, folder):
    """Draws {network: {"step": ratios, "predict": ratios}} into ``folder``; returns the Markdown that shows it."""
    if not rivals.have("matplotlib"):
        return NO_PLOT
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
    write(figure, folder / "ratios.svg")
    return "![How many times as fast as the others minicnn is](ratios.svg)"


def widths(shares, of, passes, folder):
    """Draws {kernel: {(C, F): share of the peak of each pass}}, C and F in ``of``, as heat maps; as ``ratios``."""
    if not rivals.have("matplotlib"):
        return NO_PLOT
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.7 * len(shares)), layout="constrained")
    for row, (k, cells) in zip(figure.subplots(len(shares), len(passes), squeeze=False), shares.items(), strict=True):
        for i, (axes, name) in enumerate(zip(row, passes, strict=True)):
            heights = [[100 * cells[c, f][i] for f in of] for c in of]
            image = axes.imshow(heights, vmin=30, vmax=100, origin="lower", cmap="viridis")
            axes.set_title(f"{k}x{k}, {name}", fontsize=8)
            axes.set_xticks(range(len(of)), of, fontsize=5)
            axes.set_yticks(range(len(of)), of, fontsize=5)
        row[0].set_ylabel("channels", fontsize=7)
    for axes in figure.axes[-len(passes) :]:
        axes.set_xlabel("filters", fontsize=7)
    figure.colorbar(image, ax=figure.axes, shrink=0.6, label="per cent of the peak")
    write(figure, folder / "widths.svg")
    return "![Share of the peak by channels and filters](widths.svg)\n"


def write(figure, file):
    """As SVG, the same bytes for the same figure."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "minicnn"}):
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
