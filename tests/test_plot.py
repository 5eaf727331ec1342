"""Pictures: what is in them, what they leave alone, and what is said without matplotlib."""

import io
import itertools
import json
import math
import subprocess
import sys
import threading

import numpy as np
import pytest
from test_tune import fake

import minicnn as mc
from minicnn import layers, plot, thinning
from minicnn.training import History

figure_module = pytest.importorskip("matplotlib.figure")
import matplotlib.style  # noqa: E402
from matplotlib.colors import to_rgb  # noqa: E402
from matplotlib.text import Text  # noqa: E402


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
        with pytest.raises(TypeError, match=r"^plot.dropout_curve: curve must be a tune.DropoutCurve; got "):
            plot.dropout_curve(wrong)
        with pytest.raises(TypeError, match=r"^plot.dropout_curve: ax must be matplotlib Axes, one or several; got "):
            plot.dropout_curve(accurate, wrong)


HISTORY = {
    "loss": [2.0, 1.0], "accuracy": [0.5, 0.6], "learning_rate": [0.1, 0.1], "clean_loss": [1.5, 0.5],
    "clean_accuracy": [0.7, 0.8], "val_loss": [1.6, 0.7], "val_accuracy": [0.65, 0.7], "val_top_2": [0.9, 0.9],
    "top_2": [0.8, 0.8],
}  # fmt: skip


def test_the_history_shows_metrics_by_the_names_that_were_given():
    numbers = {"loss": [2.0], "acc": [0.5], "learning_rate": [0.1], "val_loss": [2.0], "inaccuracy": [0.5]}
    figure = plot.history(numbers | {"val_inaccuracy": [0.5], "recall/cat": [0.5], "val_recall/cat": [0.5]})
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["Loss: lower is better", "Acc: higher is better", "Inaccuracy"]


def test_numbers_of_every_second_epoch_stand_where_they_belong():
    history = mc.callbacks.History()
    for epoch in range(2, 6):
        history.append(epoch, {"loss": 2.0} | ({"val_loss": 3.0} if epoch % 2 else {}))
    lines = [list(line.get_xdata()) for line in plot.history(history).axes[0].get_lines()]
    assert lines == [[3, 4, 5, 6], [4, 6]]
    lines = [list(line.get_xdata()) for line in plot.history(history.history).axes[0].get_lines()]
    assert lines == [[1, 2, 3, 4], [1, 2]]


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
        with pytest.raises(ValueError, match=r"^plot.history: history must be what fit returns after at least one"):
            plot.history(wrong)


def test_the_learning_rate_has_a_panel_where_it_changes():
    numbers = {"loss": [2.0, 1.5, 1.0], "learning_rate": [0.1, 0.1, 0.01], "val_loss": [2.0, 1.0, 1.0]}
    figure = plot.history(numbers)
    assert [panel.get_title() for panel in figure.axes] == ["Loss: lower is better", "Learning rate"]
    assert [list(line.get_ydata()) for line in figure.axes[1].lines] == [[0.1, 0.1, 0.01]]
    assert figure.axes[1].get_yscale() == "log"
    assert len(texts(figure)) == 2
    (panel,) = plot.history(numbers | {"learning_rate": [0.1] * 3}).axes
    assert panel.get_xlabel() == "epoch (learning rate 0.1 in all of them)"
    many = plot.history(numbers | {f"val_m{n}": [1.0] for n in range(3)} | {f"m{n}": [1.0] for n in range(3)})
    assert len(many.axes) == 5  # in two rows
    assert {panel.get_subplotspec().rowspan.start for panel in many.axes} == {0, 1}


@pytest.mark.parametrize("lost", [math.nan, math.inf, None])
def test_epochs_without_a_number_are_marked(lost):
    (panel,) = plot.history({"loss": [2.0, lost, 1.0, lost]}).axes
    line, crosses = panel.lines
    np.testing.assert_array_equal(line.get_ydata(), [2, np.nan, 1, np.nan])
    assert list(crosses.get_xdata()) == [2, 4]
    assert [text.get_text() for text in panel.texts] == ["crosses: not finite"]
    panel.figure.savefig(io.BytesIO(), dpi=40)
    plot.history({"loss": [lost]}).savefig(io.BytesIO(), dpi=40)


# ---- dropout itself ----

IMAGE = np.array([[0, 2.0, 4], [1, 0, 0]])
KEEP = np.array([[True, False, True], [True, True, False]])
GREY, ORANGE = 0.93, (0.902, 0.624, 0.0)


def drawn_mask(pixels):
    """True where a picture (H, W, 3) shows something else than orange, or white, which is no part of the mask."""
    return ~np.isclose(pixels, ORANGE).all(-1)


def trained_layer(layer, shape, n=2):
    layer.build(shape, np.random.default_rng(0))
    layer.forward(np.ones((n, *shape)), training=True)
    return layer


def test_a_mask_on_an_image():
    figure = plot.mask(KEEP, IMAGE)
    assert isinstance(figure, figure_module.Figure)
    (panel,) = figure.axes
    pixels = np.asarray(panel.images[0].get_array())
    grey = [[GREY, None, 0], [0.75 * GREY, GREY, None]]
    for (i, j), kept in np.ndenumerate(KEEP):
        assert pixels[i, j] == pytest.approx([grey[i][j]] * 3 if kept else ORANGE), (i, j)
    assert panel.get_title() == "2 of 6 dropped (33 %)"
    patches = {patch.get_label(): patch.get_facecolor() for patch in figure.legends[0].get_patches()}
    assert list(patches) == ["kept", "dropped: 0"]
    assert patches["dropped: 0"][:3] == ORANGE
    for given in (KEEP[..., None], KEEP[None, ..., None]):
        image = IMAGE[..., None] if given.ndim == 3 else IMAGE[None, ..., None]
        np.testing.assert_array_equal(plot.mask(given, image).axes[0].images[0].get_array(), pixels)


def test_the_mask_of_a_layer():
    layer = trained_layer(layers.Dropout(0.5, seed=2), (4, 5, 1))
    pixels = np.asarray(plot.mask(layer).axes[0].images[0].get_array())
    np.testing.assert_array_equal(drawn_mask(pixels), layer.last_mask[0, ..., 0])
    assert (pixels[drawn_mask(pixels)] == 0.2).all()
    units = trained_layer(layers.Dropout(0.5, seed=2), (30,))
    np.testing.assert_array_equal(drawn_mask(plot.mask(units).axes[0].images[0].get_array()), units.last_mask[:1])
    blank = np.asarray(
        plot.mask(KEEP, np.zeros((2, 3))).axes[0].images[0].get_array()
    )  # no division by its largest value, 0
    assert blank[0, 0] == pytest.approx([GREY] * 3)


@pytest.mark.parametrize(("layer", "dropped"), [
    (layers.DropBlock2D(0.4, 2, seed=1), "dropped: 0"), (layers.StochasticDepth(0.4, seed=1), "dropped: 0"),
    (layers.AlphaDropout(0.4, seed=1), "dropped"),
])  # fmt: skip
def test_masks_of_the_other_members(layer, dropped):
    """What AlphaDropout drops is not 0."""
    layer = trained_layer(layer, (4, 5, 1))
    one, maps = plot.mask(layer), plot.feature_maps(np.ones((4, 5, 1)), {"it": layer})
    for figure, panel in ((one, one.axes[0]), (maps, maps.axes[1])):
        pixels = np.asarray(panel.images[0].get_array())
        np.testing.assert_array_equal(drawn_mask(pixels), layer.last_mask[0, ..., 0])
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["kept", dropped]


def test_feature_maps_and_their_masks():
    maps = np.random.default_rng(0).random((4, 3, 5))
    maps[..., 2] = 0
    pixelwise = trained_layer(layers.Dropout(0.4, seed=1), maps.shape)
    channelwise = trained_layer(layers.SpatialDropout2D(0.4, seed=1), maps.shape)
    whole = int((~channelwise.last_mask[0]).all((0, 1)).sum())
    assert 0 < whole < 5
    figure = plot.feature_maps(maps, {"pixels": pixelwise, "channels": channelwise})
    masks = [np.ones(maps.shape, bool), pixelwise.last_mask[0], channelwise.last_mask[0]]
    for panel, keep in zip(figure.axes, masks, strict=True):
        strip = panel.images[0].get_array()
        assert strip.shape == (4, 5 * 4 - 1, 3)
        for channel in range(5):
            part = strip[:, 4 * channel : 4 * channel + 3]
            np.testing.assert_array_equal(drawn_mask(part), keep[..., channel])
            grey = GREY * (1 - maps[..., channel] / (maps[..., channel].max() or 1))
            np.testing.assert_allclose(part[keep[..., channel]][:, 0], grey[keep[..., channel]])
            assert (strip[:, 4 * channel + 3 : 4 * channel + 4] == 1).all()  # a white gap
        assert list(panel.get_xticks()) == [1, 5, 9, 13, 17]
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    share = 100 * (~masks[1]).mean()
    assert titles[1] == f"pixels: {share:.0f} % of all values dropped, 0 of 5 channels dropped whole"
    assert titles[2] == f"channels: {20 * whole} % of all values dropped, {whole} of 5 channels dropped whole"


def test_the_sums_behind_dropout():
    figure = plot.scaling(0.2, units=40, samples=500, seed=3)
    sums = thinning.sums_of_ones(0.2, 40, 500, 3)
    assert [panel.get_title(loc="left").split(":")[0] for panel in figure.axes] == [
        "Nothing scaled", "Classical", "Inverted",
    ]  # fmt: skip
    for panel, (training, evaluation), right in zip(figure.axes, sums.values(), (40, 32, 40), strict=True):
        bars = [bar for bar in panel.patches if bar.get_height()]
        centres = [bar.get_x() + bar.get_width() / 2 for bar in bars]
        values, counts = np.unique(training.round(9), return_counts=True)
        np.testing.assert_allclose(centres, values)
        np.testing.assert_allclose([bar.get_height() for bar in bars], counts / 5)
        assert panel.lines[0].get_xdata()[0] == evaluation == pytest.approx(right)
        line, label = (text.get_text() for text in panel.get_legend().get_texts())
        assert line == f"evaluation: always {right}"
        assert label == f"training: mean {training.mean():.1f}, standard deviation {training.std():.1f}"


SAMPLES = np.array([  # (T, N, K)
    [[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]],
    [[0.1, 0.8, 0.1], [0.1, 0.2, 0.7]],
    [[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]],
    [[0.9, 0.1, 0.0], [0.0, 0.1, 0.9]],
])  # fmt: skip


def test_thinned_networks_and_their_votes():
    prediction, scaled = mc.Prediction(SAMPLES), np.array([[0.8, 0.1, 0.1], [0.0, 0.3, 0.7]])
    figure = plot.thinned(prediction, np.ones((2, 3, 3, 1)) * IMAGE[0, :, None], scaled, [0, 2], shown=3)
    panels = [panel for panel in figure.axes if panel.get_ylabel() != "probability"]  # without the colour bars
    for number, (image, each, every) in enumerate(np.reshape(panels, (2, 3))):
        assert image.images[0].get_array().tolist() == 3 * [[0, 2, 4]] or number > 2
        assert image.get_title() == f"image {number + 1}: class {[0, 2][number]}"
        np.testing.assert_array_equal(each.images[0].get_array(), SAMPLES[:3, number])
        assert list(each.lines[0].get_xdata()) == SAMPLES[:3, number].argmax(1).tolist()
        assert list(each.lines[0].get_ydata()) == [0, 1, 2]
        assert each.get_title() == "3 of 4 networks (dot: its vote)"
        heights = np.reshape([bar.get_height() for bar in every.patches], (3, 3))
        votes = [[75, 25, 0], [0, 25, 75]][number]
        np.testing.assert_allclose(heights, [votes, 100 * SAMPLES[:, number].mean(0), 100 * scaled[number]])
        centres = np.reshape([bar.get_x() + bar.get_width() / 2 for bar in every.patches], (3, 3))
        assert (centres.round() == [0, 1, 2]).all()
        assert every.get_title() == f"votes of all 4: {['3 for 0, 1 for 1', '3 for 2, 1 for 1'][number]}"
        assert [text.get_text() for text in every.get_legend().get_texts()] == [
            "share of the votes", "mean probability", "scaled network (predict)",
        ]  # fmt: skip
    plain = plot.thinned(prediction, np.ones((2, 3, 3)))
    assert len(plain.axes[2].patches) == 6
    assert plain.axes[0].get_title() == "image 1"


def averaging(repeats=2):
    accuracy, log_loss = np.array([[0.5, 0.75], [0.7, 0.85]]), np.array([[1.0, 0.5], [0.8, 0.3]])
    mean = np.array([[0.7, 0.3], [0.4, 0.6], [0.2, 0.8]])
    scaled = np.array([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9]])
    labels = np.array([0, 0, 1])
    return thinning.AveragingCurve(
        np.array([1, 9]), accuracy[:repeats], log_loss[:repeats], 0.8, 0.4, mean, scaled, labels
    )


def test_averages_beside_the_scaled_network():
    accuracy, loss, images = plot.mc_against_scaled(averaging()).axes
    for panel, means, half, scaled in ((accuracy, [60, 80], [10, 5], 80), (loss, [0.9, 0.4], [0.1, 0.1], 0.4)):
        counts, heights, ends = drawn(panel, 0)
        assert counts == [1, 9]
        np.testing.assert_allclose(heights, means)
        np.testing.assert_allclose(ends, np.transpose([np.subtract(means, half), np.add(means, half)]))
        line = next(line for line in panel.lines if str(line.get_label()).startswith("scaled"))
        assert line.get_ydata() == pytest.approx([scaled, scaled])
        assert panel.get_xscale() == "log"
        assert [tick.get_text() for tick in panel.get_xticklabels()] == ["1", "9"]
    assert accuracy.get_title() == "Accuracy: higher is better\n60.0 % for k = 1, 80.0 % for k = 9"
    assert loss.get_title() == "Log loss: lower is better\n0.900 for k = 1, 0.400 for k = 9"
    diagonal, same, another = images.lines
    assert (list(diagonal.get_xdata()), list(diagonal.get_ydata())) == ([0, 1], [0, 1])
    assert (list(same.get_xdata()), list(same.get_ydata())) == ([0.9, 0.9], [0.7, 0.8])
    assert (list(another.get_xdata()), list(another.get_ydata())) == ([0.6], [0.4])
    assert [line.get_label() for line in (same, another)] == ["same class: 2 of 3", "another class: 1 of 3"]
    once = plot.mc_against_scaled(averaging(repeats=1)).axes[0]
    assert drawn(once, 0)[2] is None
    assert "mean of k" in [text.get_text() for text in once.get_legend().get_texts()]


def ablated(accuracy, rescaled, name="Dense"):
    return thinning.AblationCurve(3, name, 8, np.array([0, 4, 6]), np.array(accuracy), np.array(rescaled))


def test_ablation():
    first = ablated([[0.9, 0.8, 0.5], [0.9, 0.6, 0.3]], [[0.9, 0.8, 0.6], [0.9, 0.7, 0.6]])
    second = ablated([[0.8, 0.4, 0.1], [0.8, 0.2, 0.1]], [[0.8, 0.4, 0.1], [0.8, 0.2, 0.1]])
    (panel,) = plot.ablation({"with": first, "without": second}).axes
    for number, means in enumerate(([90, 70, 40], [80, 30, 10])):
        shares, heights, ends = drawn(panel, number)
        assert shares == [0, 50, 75]
        np.testing.assert_allclose(heights, means)
        np.testing.assert_allclose(np.diff(ends)[1], 20)  # twice the standard error of two that differ by 20
    dotted = [line.get_ydata() for line in panel.lines if line.get_linestyle() == ":" and len(line.get_xdata())]
    np.testing.assert_allclose(dotted, [[90, 75, 60], [80, 30, 10]])
    assert [text.get_text() for text in panel.get_legend().get_texts()] == [
        "with ± standard error, 2 draws",
        "without ± standard error, 2 draws",
        "dotted: the other units times 1 / (1 - share set to 0)",
    ]
    assert panel.get_xlabel() == "% of the 8 units of layer 3 (Dense) set to 0"
    (alone,) = plot.ablation(ablated([[0.9, 0.8, 0.5]], [[0.9, 0.8, 0.6]], "Conv2D"), rescaled=False).axes
    assert [text.get_text() for text in alone.get_legend().get_texts()] == ["accuracy"]
    assert alone.get_xlabel() == "% of the 8 channels of layer 3 (Conv2D) set to 0"
    assert drawn(alone, 0)[2] is None


PREDICTION = mc.Prediction(SAMPLES)
PICTURES = {  # of each, how many Axes it needs
    "mask": (1, lambda ax: plot.mask(KEEP, IMAGE, ax=ax)),
    "feature_maps": (2, lambda ax: plot.feature_maps(IMAGE[..., None], {"a": KEEP[..., None]}, ax=ax)),
    "scaling": (3, lambda ax: plot.scaling(samples=10, ax=ax)),
    "thinned": (6, lambda ax: plot.thinned(PREDICTION, np.ones((2, 3, 3)), ax=ax)),
    "mc_against_scaled": (3, lambda ax: plot.mc_against_scaled(averaging(), ax=ax)),
    "ablation": (1, lambda ax: plot.ablation(ablated([[0.9, 0.8, 0.5]], [[0.9, 0.8, 0.6]]), ax=ax)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_dropout_in_axes_of_somebody_else(name):
    count, draw = PICTURES[name]
    panels = axes(count)
    assert draw(panels[0] if count == 1 else panels) is panels[0].figure
    assert all(panel.has_data() for panel in panels)
    with pytest.raises(ValueError, match=rf"^plot.{name}: ax must be {count} Axes; got {count + 1}$"):
        draw(axes(count + 1))
    with pytest.raises(TypeError, match=rf"^plot.{name}: ax must be matplotlib Axes"):
        draw("here")
    draw(None).savefig(io.BytesIO(), dpi=40)  # nothing in it that cannot be drawn, such as text without room


@pytest.mark.parametrize(
    ("draw", "error", "text"),
    [
        (lambda: plot.mask(IMAGE), TypeError, "array of bool or a layer"),
        (lambda: plot.mask(layers.ReLU()), TypeError, "array of bool or a layer"),
        (lambda: plot.mask(layers.Dropout(0.5)), RuntimeError, r"last_mask: needs forward\(x, training=True\)"),
        (lambda: plot.mask(KEEP, IMAGE.T), ValueError, r"image must have the mask's shape \(2, 3\); got \(3, 2\)"),
        (lambda: plot.mask(np.ones((0, 3), bool)), ValueError, r"mask must have shape .*; got shape \(0, 3\)"),
        (lambda: plot.mask(np.ones((2, 2, 3), bool)), ValueError, "plot.feature_maps shows channels"),
        (lambda: plot.feature_maps(IMAGE[..., None], KEEP), TypeError, "masks must be a dict"),
        (lambda: plot.feature_maps(IMAGE, {"a": KEEP}), ValueError, r"one shape \(H, W, C\); got \(2, 3\), \(2, 3\)"),
        (lambda: plot.feature_maps(IMAGE[..., None], {"a": KEEP[1:, :, None]}), ValueError, "one shape"),
        (lambda: plot.scaling(rate=0), ValueError, r"rate must be a number in \(0, 1\)"),
        (lambda: plot.scaling(samples=0), ValueError, "samples must be a whole number >= 1"),
        (lambda: plot.thinned(SAMPLES, IMAGE), ValueError, "prediction must be one of classes that has its samples"),
        (lambda: plot.thinned(mc.Prediction(SAMPLES, "values"), np.ones((2, 3, 3))), ValueError, "one of classes"),
        (lambda: plot.thinned(PREDICTION, np.ones((3, 4, 4))), ValueError, "x must be the 2 images"),
        (lambda: plot.thinned(PREDICTION, np.ones((2, 4, 4, 3))), ValueError, "an image must have shape"),
        (lambda: plot.thinned(PREDICTION, np.ones((2, 3, 3)), SAMPLES), ValueError, r"scaled must have shape \(2, 3\)"),
        (
            lambda: plot.thinned(PREDICTION, np.ones((2, 3, 3)), labels=[1]),
            ValueError,
            r"labels must have shape \(2,\)",
        ),
        (lambda: plot.thinned(PREDICTION, np.ones((2, 3, 3)), shown=0), ValueError, "shown must be a whole number"),
        (lambda: plot.ablation({}), TypeError, "AblationCurve"),
        (lambda: plot.ablation([1, 2]), TypeError, "AblationCurve"),
        (lambda: plot.mc_against_scaled(PREDICTION), TypeError, "AveragingCurve"),
    ],
)
def test_wrong_arguments_of_pictures_of_dropout(draw, error, text):
    with pytest.raises(error, match=text):
        draw()


# ---- what all have in common ----


def test_the_confusion_matrix():
    figure = plot.confusion_matrix([[3, 1, 0], [0, 0, 0], [0, 2, 4]], ["cat", "a dog", "eel"])
    (panel,) = figure.axes
    assert [(text.get_position(), text.get_text()) for text in panel.texts] == [
        ((0, 0), "3"), ((1, 0), "1"), ((1, 2), "2"), ((2, 2), "4"),
    ]  # fmt: skip
    np.testing.assert_allclose(panel.images[0].get_array(), [[0.75, 0.25, 0], [0, 0, 0], [0, 1 / 3, 2 / 3]])
    for axis in (panel.xaxis, panel.yaxis):
        assert [label.get_text() for label in axis.get_ticklabels()] == ["cat", "a dog", "eel"]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("taken for", "true class")
    assert panel.get_title() == "70.0 % of 10 are right"
    (own,) = axes(1)
    assert plot.confusion_matrix(np.eye(40, dtype=int), ax=own) is own.figure
    assert not own.texts
    assert own.get_yticklabels()[39].get_text() == "39"


@pytest.mark.parametrize(("normalize", "shares", "written"), [
    ("true", [[0.75, 0.25], [0, 1]], ["75", "25", "100"]),
    ("pred", [[1, 0.5], [0, 0.5]], ["100", "50", "50"]),
    ("all", [[0.6, 0.2], [0, 0.2]], ["60", "20", "20"]),
])  # fmt: skip
def test_a_normalised_confusion_matrix(normalize, shares, written):
    (panel,) = plot.confusion_matrix([[3, 1], [0, 1]], normalize=normalize).axes
    np.testing.assert_allclose(panel.images[0].get_array(), shares)
    assert [text.get_text() for text in panel.texts] == written
    assert panel.get_title().startswith("80.0 % of 5 are right\ncells: % of ")
    with pytest.raises(ValueError, match=r"^plot.confusion_matrix: normalize must be one of .*Did you mean 'pred'"):
        plot.confusion_matrix([[1]], normalize="predicted")


def test_names_of_many_classes_do_not_touch():
    figure = plot.confusion_matrix(np.eye(100, dtype=int), [f"a long name of class {n}" for n in range(100)])
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(upper.y0 >= lower.y1 for upper, lower in itertools.pairwise(boxes))
    assert min(box.x0 for box in boxes) > 0


# ---- light and dark ----


def contrast(one, other):
    """Of two colours, as WCAG 2 has it: 1 to 21."""
    lights = []
    for colour in (one, other):
        channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        lights.append(np.dot([0.2126, 0.7152, 0.0722], channels))
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.parametrize("name", ["light", "dark", "dark_background"])
def test_everything_can_be_read_in_all_themes(name):
    with matplotlib.style.context(name) if name == "dark_background" else plot.theme(name):
        figures = [
            plot.history(HISTORY | {"learning_rate": [0.1, 0.2]}), plot.confusion_matrix([[3, 1], [9, 1]]),
            plot.reliability({"one": RIGHT, "other": SURE}), plot.scaling(samples=10), fake(VAL).plot(),
            plot.learning_rates(finder_of([2.5, 2.4, 1.5, 1.0])), plot.architecture(mc.Sequential([layers.Dense(1)])),
        ]  # fmt: skip
    for figure in figures:  # drawn when the theme is over
        figure.draw_without_rendering()
        paper = figure.get_facecolor()
        assert (sum(to_rgb(paper)) < 1) == (name != "light")
        for text in figure.findobj(Text):
            behind = paper
            if text.axes and text.axes.images and text in [*text.axes.texts]:
                (image,), (x, y) = text.axes.images, text.get_position()
                behind = image.cmap(float(image.norm(float(image.get_array()[y, x]))))
            assert not text.get_text() or contrast(text.get_color(), behind) > 4.5, text
        for panel in figure.axes:
            assert to_rgb(panel.get_facecolor()) == to_rgb(paper)
            for line in panel.lines:
                assert contrast(line.get_color(), paper) > 1.8, line
    with pytest.raises(ValueError, match=r"^plot.theme: name must be one of 'light', 'dark'; got 'drak'"):
        plot.theme("drak")


NAMES = ["$\\frac{x$", "a $x$ \\$", "$"]


@pytest.mark.parametrize("parses", [True, False])
def test_names_with_dollars_are_no_formulas(parses):
    """In every picture that shows names of somebody's own."""
    one, two = NAMES[:2]
    model = mc.Sequential([layers.Conv2D(2, 2), layers.Flatten(), layers.Dense(3)], seed=0, name=one)
    model.layers[0].name = two
    model.build((4, 4, 1))
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.class_names = NAMES
    x, y = np.random.default_rng(0).random((4, 4, 4, 1)), model.predict(np.zeros((4, 4, 4, 1))).argmin(1)
    curve = thinning.AblationCurve("0", "Conv2D", 2, np.array([0, 1]), np.ones((2, 2)), np.ones((2, 2)))
    with matplotlib.rc_context({"text.parse_math": parses}):
        figures = {
            plot.history({"loss": [1.0], one: [0.5], f"val_{one}": [0.5]}): [one],
            plot.confusion_matrix(np.eye(3, dtype=int), NAMES): NAMES,
            plot.mistakes(model, x, y): [two],
            plot.saliency(model, x[0], 1): [two],
            plot.architecture(model): [one, two],
            plot.reliability({one: RIGHT}): [one],
            plot.ablation({one: curve}): [one],
            plot.feature_maps(np.ones((2, 2, 1)), {two: np.ones((2, 2, 1), bool)}): [two],
        }
    for figure, names in figures.items():
        picture = io.StringIO()
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            figure.savefig(picture, format="svg")
        for name in names:
            assert name in picture.getvalue()


# ---- what is no picture ----


@pytest.mark.parametrize(("matrix", "names", "text"), [
    ([[1, 2]], None, r"matrix must be square and hold counts, .*; got shape \(1, 2\)"),
    ([1, 2], None, "must be square"),
    (np.zeros((0, 0)), None, "must be square"),
    ([[1, -1], [0, 0]], None, "must be square"),
    ([[1, 0], [0, 1]], ["a"], "class_names must have 2 names"),
])  # fmt: skip
def test_what_is_no_confusion_matrix(matrix, names, text):
    with pytest.raises(ValueError, match=f"plot.confusion_matrix: .*{text}"):
        plot.confusion_matrix(matrix, names)


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
    pictures = [lambda draw=draw: draw(None) for _, draw in PICTURES.values()]
    for draw in (lambda: fake(VAL).plot(), lambda: plot.history(HISTORY), *pictures):
        with pytest.raises(ImportError, match=r'^plotting needs matplotlib: pip install "minicnn\[plot\]"$'):
            draw()


# ---- calibration ----

RIGHT = mc.calibration.reliability_curve([1, 0, 1, 1], [0.9, 0.2, 0.7, 0.6], 4)  # (0, 1/4], (1/2, 3/4], (3/4, 1]
SURE = mc.calibration.reliability_curve([0, 0, 0, 1], [0.9, 0.2, 0.7, 0.6], 4)


def rectangles(panel):
    return [[(bar.get_x(), bar.get_width(), bar.get_y(), bar.get_height()) for bar in one] for one in panel.containers]


def test_the_reliability_diagram():
    figure = plot.reliability({"one": RIGHT, "other": SURE})
    one, other, share, _ = figure.axes
    accuracy, gap = rectangles(one)
    assert accuracy == [(0, 25, 0, 0), (50, 25, 0, 100), (75, 25, 0, 100)]  # the bin from 25 to 50 % is empty
    np.testing.assert_allclose(gap, [(0, 25, 0, 20), (50, 25, 100, -35), (75, 25, 100, -10)])
    assert rectangles(share) == [[(0, 25, 0, 25), (50, 25, 0, 50), (75, 25, 0, 25)]]
    assert one.get_title() == "one\nECE 25.0 %, underconfident by 25.0 %"  # (20 + 2 * 35 + 10) / 4, both
    assert other.get_title() == "other\nECE 35.0 %, overconfident by 25.0 %"  # (20 + 2 * 15 + 90) / 4, -20 + ...
    assert sorted(texts(figure)) == ["accuracy", "calibrated", "gap to the mean confidence"]
    assert [panel.get_ylabel() for panel in figure.axes] == ["accuracy in %", "", "samples in %", ""]
    assert [panel.get_xlabel() for panel in figure.axes] == ["", "", "confidence in %", "confidence in %"]
    (line,) = one.lines
    assert list(line.get_xdata()) == list(line.get_ydata()) == [0, 100]


def test_the_reliability_diagram_in_given_axes():
    (panel,) = axes(1)
    assert plot.reliability(RIGHT, panel) is panel.figure
    assert len(panel.containers) == 2
    assert panel.get_xlabel() == "confidence in %"
    assert len(panel.get_legend().get_texts()) == 3
    with pytest.raises(ValueError, match=r"^plot\.reliability: ax must be 2 Axes; got 1$"):
        plot.reliability({"one": RIGHT, "other": SURE}, panel)


@pytest.mark.parametrize("curves", [None, {}, [RIGHT], {"one": 0.5}, 3])
def test_no_reliability_curves(curves):
    with pytest.raises(TypeError, match=r"^plot\.reliability: curves must be a ReliabilityCurve or a dict"):
        plot.reliability(curves)


# ---- learning rates ----


def finder_of(losses):
    """A test of learning rates that has seen these losses."""
    finder = mc.callbacks.LearningRateFinder()
    finder.rates, finder.losses, finder.smoothed = [10.0**n for n in range(-6, len(losses) - 6)], losses, [*losses]
    return finder


def test_learning_rates():
    figure = plot.learning_rates(finder_of([2.5, 2.4, 1.5, 1.0, 2.0, 900.0]))
    (panel,) = figure.axes
    assert panel.get_xscale() == "log"
    points, smoothed, suggested = panel.lines
    assert list(points.get_xdata()) == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    assert list(smoothed.get_ydata()) == [2.5, 2.4, 1.5, 1.0, 2.0, 900.0]
    assert suggested.get_xdata()[0] == pytest.approx(1e-4)
    assert "suggestion, a tenth of where it is lowest: 0.0001" in texts(figure)
    low, high = panel.get_ylim()
    assert low < 1.0 < 2.5 < high < 10  # a loss that explodes does not squeeze the rest
    (given,) = axes(1)
    assert plot.learning_rates(finder_of([1.0, 2.0, 3.0]), given) is given.figure
    assert len(given.lines) == 2  # no suggestion
    with pytest.raises(TypeError, match=r"^plot.learning_rates: finder must be a callbacks.LearningRateFinder"):
        plot.learning_rates([1.0])
    with pytest.raises(ValueError, match=r"^plot.learning_rates: finder must have seen a fit.*Give it to fit first$"):
        plot.learning_rates(mc.callbacks.LearningRateFinder())
