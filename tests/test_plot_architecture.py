"""The picture of a model: every layer is in it, in its place, and nothing overlaps."""

import io

import pytest

import minicnn as mc
from minicnn import layers, plot

figure_module = pytest.importorskip("matplotlib.figure")


def boxes(panel):
    """[(left, right, top, bottom)] of boxes and frames, and the lines of text with their places."""
    found = [patch.get_extents().transformed(panel.transData.inverted()) for patch in panel.patches]
    return [(box.x0, box.x1, min(box.y0, box.y1), max(box.y0, box.y1)) for box in found if box.width > 0.6]


def texts(panel):
    return [text.get_text() for text in panel.texts if text.get_text()]


def nested():
    return mc.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Conv2D(4, 3, strides=2, padding="same", activation=layers.ELU(0.1), name="in"),
            layers.Concurrent([[layers.Conv2D(3, 1), layers.ReLU()], [], [layers.Residual([layers.Dropout(0.5)])]]),
            layers.Chain([layers.Residual([layers.Conv2D(8, 1)], [layers.Conv2D(8, 1)], activation="relu")]),
            layers.Chain([]),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(mc.schedules.EarlyDropout(0.5, 0.3)),
            layers.Dense(10, activation="softmax"),
        ],
        name="net",
    )


def test_every_layer_is_in_it():
    model = nested()
    model.layers[0].freeze()
    (panel,) = plot.architecture(model).axes
    assert panel.get_title() == "net: 8 layers, 649 parameters"
    assert texts(panel) == [
        "input 8 x 8 x 3",
        "0  Conv2D 'in' 4, 3x3, /2, same, ELU",
        "4 x 4 x 4, 112 parameters, not trained",
        "1  Concurrent",
        "4 x 4 x 11, 15 parameters",
        "branches.0.0  Conv2D 3, 1x1",
        "4 x 4 x 3, 15 parameters",
        "branches.0.1  ReLU",
        "4 x 4 x 3",
        "branches.2.0  Residual",
        "4 x 4 x 4",
        "body.0  Dropout rate 0.5",
        "4 x 4 x 4",
        "+",
        "concat",
        "2  Chain",
        "4 x 4 x 8, 192 parameters",
        "layers.0  Residual relu",
        "4 x 4 x 8, 192 parameters",
        "body.0  Conv2D 8, 1x1",
        "4 x 4 x 8, 96 parameters",
        "shortcut.0  Conv2D 8, 1x1",
        "4 x 4 x 8, 96 parameters",
        "+",
        "3  Chain",
        "4 x 4 x 8",
        "4  MaxPooling2D 2x2",
        "2 x 2 x 8",
        "5  Flatten",
        "32",
        "6  Dropout rate EarlyDropout",
        "32",
        "7  Dense 10, softmax",
        "10, 330 parameters",
    ]


@pytest.mark.parametrize("name", ["nested", "resnet20", "long"])
def test_nothing_overlaps_or_lies_outside(name):
    shape = (16, 16, 3)
    model = {
        "nested": nested,
        "resnet20": lambda: mc.Sequential([layers.Input(shape), *mc.networks.resnet20(shape)]),
        "long": lambda: mc.Sequential([layers.Input((2,)), *(layers.Dense(2) for _ in range(40))]),
    }[name]()
    figure = plot.architecture(model)
    (panel,) = figure.axes
    figure.draw_without_rendering()
    found = boxes(panel)
    count = len(mc.tree.walk(model.layers)) + 1
    assert len(found) == count
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    for number, (x0, x1, y0, y1) in enumerate(found):
        assert left <= x0 < x1 <= right
        assert top <= y0 < y1 <= bottom
        for a0, a1, b0, b1 in found[:number]:
            apart = x1 <= a0 or a1 <= x0 or y1 <= b0 or b1 <= y0
            within = a0 <= x0 and x1 <= a1 and b0 <= y0 and y1 <= b1
            assert apart or within
    width, height = figure.get_size_inches()
    assert max(width, height) < 16
    for text in panel.texts:  # within the figure, and so wide at most as a box
        extent = text.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
        assert -0.01 <= extent.x0 < extent.x1 <= width + 0.01, text
        assert extent.width < 2.5, text


def test_a_model_that_is_not_built_and_axes_of_somebody_else():
    figure = plot.architecture(mc.Sequential([layers.Dense(3)]))
    assert figure.axes[0].get_title() == "1 layer, not built"
    assert texts(figure.axes[0]) == ["input", "0  Dense 3", "not built"]
    panel = figure_module.Figure((4, 4)).subplots()
    assert plot.architecture(nested(), ax=panel) is panel.figure
    assert max(text.get_fontsize() for text in panel.texts if text.get_text()) < 7.5
    panel.figure.savefig(io.BytesIO(), dpi=40)


def test_custom_layers_are_boxes():
    class Own(layers.Composite):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(3)
            self.units = "many"

        def build(self, input_shape, rng):
            return self.build_part(self.inner, super().build(input_shape, rng), rng)

    (panel,) = plot.architecture(mc.Sequential([layers.Input((2,)), Own()])).axes
    assert texts(panel)[1:] == ["0  Own many", "3, 9 parameters"]


@pytest.mark.parametrize(("model", "error", "text"), [
    (3, TypeError, r"^plot.architecture: model must be a Sequential; got 3"),
    (layers.Dense(3), TypeError, "model must be a Sequential"),
    (mc.Sequential(), ValueError, "model must have at least one layer; got 0"),
])  # fmt: skip
def test_what_is_no_model(model, error, text):
    with pytest.raises(error, match=text):
        plot.architecture(model)
