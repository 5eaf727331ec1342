"""Pictures: what is in them, what they leave alone, and what is said without matplotlib."""

import io
import json
import math
import subprocess
import sys
import threading

import pytest
from test_tune import fake

import minicnn as mc
from minicnn import plot
from minicnn.training import History

figure_module = pytest.importorskip("matplotlib.figure")


def axes(count):
    return list(figure_module.Figure().subplots(1, count, squeeze=False).flat)


def texts(figure):
    """The legend's lines."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def drawn(panel, number):
    """(x, y, ends of the error bars or None) of an error-bar line."""
    line, _, bars = panel.containers[number]
    ends = [[point[1] for point in segment] for segment in bars[0].get_segments()] if bars else None
    return list(line.get_xdata()), list(line.get_ydata()), ends


VAL = {0: [5, 5, 5], 0.3: [3, 4, 5], 0.5: [4, 4.5, 5]}


def test_the_dropout_curve_of_losses():
    figure = fake(VAL).plot()
    assert isinstance(figure, figure_module.Figure)
    (panel,) = figure.axes
    rates, means, ends = drawn(panel, 1)
    assert (rates, means) == ([0, 0.3, 0.5], [5, 4, 4.5])
    assert ends[0] == [5, 5]
    assert ends[1] == pytest.approx([4 - 1 / math.sqrt(3), 4 + 1 / math.sqrt(3)])
    assert drawn(panel, 0)[1] == [0.25, 0.25, 0.25]
    assert texts(figure) == [
        "gap: overfitting",
        "best rate: 0.3",
        "one-standard-error rule: 0.5",
        "samples trained on ± standard error",
        "validation: samples not trained on ± standard error",
    ]
    lines = {line.get_label(): line.get_xdata()[0] for line in panel.lines if "rate" in str(line.get_label())}
    assert lines == {"best rate: 0.3": 0.3}
    assert panel.get_xlabel() == "dropout rate: the fraction dropped in training"
    assert panel.get_ylabel() == "loss, computed with nothing dropped"
    assert panel.get_yscale() == "log"
    assert [label.get_text() for label in panel.get_xticklabels()] == ["0", "0.3", "0.5"]


def test_the_dropout_curve_of_accuracies():
    curve = fake({0: [0.94, 0.96], 0.3: [0.95, 0.97], 0.9: [0.25, 0.25]}, select="accuracy")
    figure = plot.dropout_curve(curve)
    loss, accuracy = figure.axes
    assert loss.get_title() == "Loss: lower is better"
    assert accuracy.get_title() == "Accuracy: higher is better"
    assert drawn(accuracy, 1)[1] == pytest.approx([95, 96, 25])
    assert accuracy.get_ylim()[0] == pytest.approx(80)  # five times the error of the best
    assert [note.get_text() for note in accuracy.texts] == ["25 %"]
    close = fake({0: [0.94, 0.96], 0.3: [0.95, 0.97]}, select="accuracy").plot()
    assert close.axes[1].get_ylim()[0] > 90
    assert [*close.axes[1].texts] == []
    assert "best rate and one-standard-error rule: 0.3" in texts(close)


def test_one_run_a_rate_and_rates_that_failed():
    curve = fake({0: [5], 0.3: [3], 0.5: [4]})
    figure = curve.plot()
    assert drawn(figure.axes[0], 1)[2] is None
    assert [text for text in texts(figure) if "±" in text or "one-standard" in text] == []
    runs = [one | ({"error": "ValueError: no"} if one["rate"] == 0.3 else {}) for one in curve.runs]
    (panel,) = mc.tune.DropoutCurve(runs).plot().axes
    assert drawn(panel, 1)[:2] == ([0, 0.5], [5, 4])
    assert [(note.get_text(), note.xy[0]) for note in panel.texts] == [("failed: see the table", 0.3)]


def test_losses_below_zero_have_a_linear_axis():
    assert fake({0: [-1, -2], 0.5: [1, 2]}).plot().axes[0].get_yscale() == "linear"


def test_rates_that_lie_too_close_for_a_number_each():
    (panel,) = fake({0: [1, 2], 0.01: [1, 2], 1: [2, 3]}).plot().axes
    assert len(panel.get_xticks()) != 3


def test_a_picture_in_a_file(tmp_path):
    figure = fake(VAL).plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert isinstance(figure, figure_module.Figure)
    file = io.BytesIO()
    fake(VAL).plot(file)
    assert file.getvalue() == (tmp_path / "curve.png").read_bytes()


def test_axes_of_somebody_else():
    panels = axes(3)
    accurate = fake({0: [0.94, 0.96], 0.3: [0.95, 0.97]}, select="accuracy")
    assert plot.dropout_curve(accurate, panels[0]) is panels[0].figure
    assert panels[0].get_legend() is not None
    assert panels[0].figure.legends == []
    plot.dropout_curve(accurate, panels[1:])
    assert [panel.get_title() for panel in panels] == ["Loss: lower is better"] * 2 + ["Accuracy: higher is better"]
    accurate.plot(ax=figure_module.Figure().subplots(1, 2))  # an array
    for wrong in ("axes", 3, [], [1, 2], figure_module.Figure()):
        with pytest.raises(TypeError, match=r"^plot.dropout_curve: ax must be matplotlib Axes, one or several; got "):
            plot.dropout_curve(accurate, wrong)


HISTORY = {
    "loss": [2.0, 1.0], "accuracy": [0.5, 0.6], "learning_rate": [0.1, 0.1], "clean_loss": [1.5, 0.5],
    "clean_accuracy": [0.7, 0.8], "val_loss": [1.6, 0.7], "val_accuracy": [0.65, 0.7], "val_top_2": [0.9, 0.9],
    "top_2": [0.8, 0.8],
}  # fmt: skip


def test_history():
    found = History()
    for epoch in range(2):
        found.append(epoch, {name: values[epoch] for name, values in HISTORY.items()})
    for given in (found, HISTORY, json.loads(json.dumps(HISTORY))):
        figure = plot.history(given)
        assert [panel.get_title() for panel in figure.axes] == [
            "Loss: lower is better",
            "Accuracy: higher is better",
            "Top 2",
        ]
        loss, accuracy, _ = figure.axes
        assert [list(line.get_ydata()) for line in loss.lines] == [[2, 1], [1.5, 0.5], [1.6, 0.7]]
        assert [list(line.get_xdata()) for line in loss.lines] == 3 * [[1, 2]]
        assert list(accuracy.lines[1].get_ydata()) == [70, 80]
        assert accuracy.get_ylabel() == "accuracy in %"
        assert texts(figure) == [
            "while training: mean over the epoch, with dropout where there is any",
            "samples trained on: after the epoch, nothing dropped",
            "validation: after the epoch, nothing dropped",
        ]
    plain = plot.history({"loss": [2.0, 1.0], "accuracy": [0.5, 0.6]})
    assert len(plain.axes) == 2
    assert len(texts(plain)) == 1
    for wrong in ({}, History(), [1, 2], None):
        with pytest.raises(ValueError, match=r"^plot.history: history must be what fit returns after one epoch"):
            plot.history(wrong)


def test_no_backend_is_chosen_and_no_pyplot_imported():
    code = (
        "import sys, minicnn as mc, io; mc.plot.history({'loss': [2.0, 1.0]}).savefig(io.BytesIO());"
        "import matplotlib; print('matplotlib.pyplot' in sys.modules, matplotlib.rcParams._get_backend_or_none())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "None"]


def test_pictures_are_drawn_in_any_thread():
    sizes = []
    thread = threading.Thread(target=lambda: sizes.append(len(fake(VAL).plot().axes)))
    thread.start()
    thread.join()
    assert sizes == [1]


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (lambda: fake(VAL).plot(), lambda: plot.history(HISTORY)):
        with pytest.raises(ImportError, match=r'^plotting needs matplotlib: pip install "minicnn\[plot\]"$'):
            draw()
