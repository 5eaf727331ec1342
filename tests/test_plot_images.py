"""Pictures of what a model sees: mistakes, filters, feature maps, saliency."""

import io

import numpy as np
import pytest

import minicnn as mc
from minicnn import layers, plot

figure_module = pytest.importorskip("matplotlib.figure")

RNG = np.random.default_rng(0)
GREY, COLOUR = RNG.random((6, 5, 5, 1)), RNG.random((4, 5, 5, 3))


def model_of(*chain, shape=(5, 5, 1), **more):
    return mc.Sequential([layers.Input(shape), *chain], seed=1, **more)


def classifier(*chain, shape=(5, 5, 1), classes=3, **more):
    return model_of(*chain, layers.Flatten(), layers.Dense(classes, activation="softmax"), shape=shape, **more)


def saying(p):
    """A model whose probabilities for GREY[i] are p[i]: of images that differ in one pixel."""
    model = model_of(layers.Flatten(), layers.Dense(len(p[0]), use_bias=False, activation="softmax"), dtype="float64")
    images = np.zeros((len(p), 5, 5, 1))
    images.reshape(len(p), -1)[range(len(p)), range(len(p))] = 1
    model.layers[1].params["kernel"][: len(p)] = np.log(p)
    return model, images


def titles(figure):
    return [panel.get_title() for panel in figure.axes]


# ---- mistakes ----


def test_the_worst_mistake_comes_first():
    model, x = saying([[0.7, 0.2, 0.1], [0.05, 0.9, 0.05], [0.5, 0.1, 0.4], [0.2, 0.2, 0.6]])
    figure = plot.mistakes(model, x, [2, 0, 2, 2])
    assert titles(figure) == [
        "taken for 1: 90 %\nis 0: 5.0 %",
        "taken for 0: 70 %\nis 2: 10.0 %",
        "taken for 0: 50 %\nis 2: 40 %",
    ]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), x[1, ..., 0])
    assert figure.get_suptitle() == "3 of 4 are wrong"
    model.class_names = ["cat", "a dog that barks at night", "eel"]
    figure = plot.mistakes(model, x[..., 0], np.eye(3)[[2, 0, 2, 2]], count=1)
    assert titles(figure) == ["taken for a dog that …: 90 %\nis cat: 5.0 %"]
    assert figure.get_suptitle() == "3 of 4 are wrong: the worst 1"
    assert plot.mistakes(model, x, [0, 0, 0, 2]).get_suptitle() == "1 of 4 is wrong"
    model.class_names = ["a dog that barks", "a dog that bites", "eel"]  # which look the same where they are cut off
    assert titles(plot.mistakes(model, x, [0, 0, 0, 2])) == ["taken for 1 a dog tha…: 90 %\nis 0 a dog tha…: 5.0 %"]
    own = list(figure_module.Figure().subplots(1, 4))
    assert plot.mistakes(model, x, [0, 0, 0, 2], ["x", "y", "z"], ax=own) is own[0].figure
    assert [panel.get_title() for panel in own] == ["taken for y: 90 %\nis x: 5.0 %", "", "", ""]


def test_mistakes_where_there_are_none_and_of_one_probability():
    model, x = saying([[0.9, 0.1], [0.2, 0.8]])
    figure = plot.mistakes(model, x, [0, 1])
    assert figure.get_suptitle() == "0 of 2 are wrong"
    assert not figure.axes[0].images
    model = model_of(layers.Flatten(), layers.Dense(1, activation="sigmoid"))
    p = model.predict(GREY)[:, 0]
    figure = plot.mistakes(model, GREY, np.asarray(p <= 0.5, int))
    assert figure.get_suptitle() == "6 of 6 are wrong"
    surest = np.abs(p - 0.5).argmax()
    np.testing.assert_allclose(
        figure.axes[0].images[0].get_array(), (GREY[surest, ..., 0] - GREY.min()) / np.ptp(GREY), rtol=1e-12
    )


def test_mistakes_of_pictures(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(2):
            image.fromarray(np.full((5, 5, 3), 40 * number, np.uint8)).save(tmp_path / name / f"{number}.png")
    data = mc.datasets.image_folder(tmp_path, image_size=5)
    model = classifier(shape=(5, 5, 3), classes=2)
    model.class_names = data.class_names
    figure = plot.mistakes(model, data)
    assert len(figure.axes) == 2  # of two pictures that are the same and of different classes one is wrong
    assert figure.axes[0].images[0].get_array().shape == (5, 5, 3)


# ---- filters ----


def test_filters_over_one_channel_and_over_three():
    model = classifier(layers.Conv2D(4, 3), layers.Conv2D(5, 2))
    kernel = model.layers[0].params["kernel"]
    (panel,) = plot.filters(model).axes
    strip = np.ma.filled(panel.images[0].get_array(), np.nan)
    assert strip.shape == (3, 4 * 4 - 1)
    np.testing.assert_array_equal(strip[:, :3], kernel[..., 0, 0])
    np.testing.assert_array_equal(strip[:, 12:], kernel[..., 0, 3])
    assert np.isnan(strip[:, 3]).all()
    assert panel.images[0].get_clim() == (-np.abs(kernel).max(), np.abs(kernel).max())
    assert panel.get_title() == f"layer 0, Conv2D: 4 filters\nlargest weight {np.abs(kernel).max():.2g}"
    colour = classifier(layers.Conv2D(2, 3), shape=(5, 5, 3))
    kernel = colour.layers[0].params["kernel"]
    strip = plot.filters(colour).axes[0].images[0].get_array()
    np.testing.assert_allclose(strip[:, :3, :3], 0.5 + kernel[..., 0] / (2 * np.abs(kernel).max()), rtol=1e-6)
    assert (strip[:, 3, 3] == 0).all()  # the gap is transparent


def test_filters_over_other_channels_are_a_table():
    model = classifier(layers.Conv2D(20, 1), layers.Conv2D(18, 2, name="second"))
    kernel = model.layers[1].params["kernel"]
    for layer in ("second", 1, "1", model.layers[1]):
        (panel,) = plot.filters(model, layer).axes
        strip = np.ma.filled(panel.images[0].get_array(), np.nan)
        assert strip.shape == (16 * 3 - 1, 16 * 3 - 1)
        np.testing.assert_array_equal(strip[3:5, 6:8], kernel[..., 2, 1])
    assert panel.get_title().startswith("layer 1, Conv2D: 18 filters, the first 16\n")
    assert panel.get_xlabel() == "channel of the input: the first 16 of 20"


def test_filters_of_the_other_convolutions():
    depthwise = layers.DepthwiseConv2D(3, depth_multiplier=2)
    transposed = layers.Conv2DTranspose(3, 2)
    model = classifier(layers.Conv2D(2, 1), depthwise, transposed, layers.Residual([layers.SeparableConv2D(3, 1)]))
    (panel,) = plot.filters(model, depthwise).axes
    strip = np.ma.filled(panel.images[0].get_array(), np.nan)
    np.testing.assert_array_equal(strip[:, 4:7], depthwise.params["kernel"][..., 0, 1])
    assert panel.get_title().startswith("layer 1, DepthwiseConv2D: 4 filters")
    (panel,) = plot.filters(model, transposed).axes
    np.testing.assert_array_equal(
        np.ma.filled(panel.images[0].get_array(), np.nan)[3:5, 6:8], transposed.params["kernel"][..., 1, 2]
    )
    assert plot.filters(model, 3).axes[0].get_title().startswith("layer 3.body.0.depthwise, ")


# ---- feature maps ----


def test_feature_maps_of_a_layer():
    model = classifier(
        layers.Conv2D(3, 2, activation="relu"), layers.Dropout(0.5), layers.Residual([layers.Conv2D(3, 1, name="in")])
    )
    outputs = model.outputs(GREY[:1])
    (panel,) = plot.feature_maps(model, GREY[0]).axes
    np.testing.assert_array_equal(panel.images[0].get_array()[:, 5:9], outputs[0][0, ..., 1])
    assert panel.get_title().startswith("layer 0, Conv2D: 3 feature maps\nfrom 0, dark, to ")
    before = model.fingerprint(), model.predict(GREY).tobytes()
    inner = model.get_layer("in")
    (panel,) = plot.feature_maps(model, GREY[..., 0], "in").axes
    np.testing.assert_array_equal(panel.images[0].get_array()[:, :4], inner.forward(outputs[1])[0, ..., 0])
    assert "forward" not in vars(inner)
    assert (model.fingerprint(), model.predict(GREY).tobytes()) == before
    (own,) = figure_module.Figure().subplots(1, 1, squeeze=False).flat
    assert plot.feature_maps(model, GREY[0], 1, ax=own) is own.figure


# ---- saliency ----


NOISE = {
    "none": [],
    "dropout": [layers.Dropout(0.5), layers.SpatialDropout2D(0.3), layers.GaussianDropout(0.5)],
    "classical": [layers.Dropout(0.5, mode="classical"), layers.AlphaDropout(0.2), layers.DropBlock2D(0.3, 2)],
    "augmentation": [layers.RandomFlip(), layers.RandomCrop(4, 3), layers.RandomContrast(0.5, (0, 1))],
    "moving statistics": [layers.BatchNormalization(), layers.GaussianNoise(1.0)],
    "penalty": [layers.Conv2D(2, 1, activity_regularizer="l2")],
    "within": [layers.Residual([layers.Conv2D(3, 1), layers.StochasticDepth(0.5), layers.Dropout(0.5, "classical")])],
}


@pytest.mark.parametrize("noise", NOISE)
def test_saliency_is_the_gradient_in_evaluation(noise):
    """Against central differences of ``predict``."""
    model = model_of(
        layers.Conv2D(3, 2, padding="same", activation="tanh"),
        *[layer.__class__(**layer.get_config()) for layer in NOISE[noise]],
        layers.Flatten(),
        layers.DropConnect(6, 0.5, "classical", activation="tanh"),
        layers.Dense(3),
        dtype="float64",
    )
    for _, layer in mc.tree.walk(model.layers):
        if "moving_mean" in layer.state:
            layer.state["moving_mean"][...], layer.state["moving_variance"][...] = 0.3, 2.0
    before, x = model.fingerprint(), GREY[:2]
    found = plot.saliency_map(model, x, 1)
    slopes = np.zeros(x.shape)
    for place in np.ndindex(x.shape[1:]):
        moved = np.zeros(x.shape)
        moved[(slice(None), *place)] = 1e-5
        slopes[(slice(None), *place)] = (model.predict(x + moved) - model.predict(x - moved))[:, 1] / 2e-5
    np.testing.assert_allclose(found, np.abs(slopes[..., 0]), rtol=1e-5, atol=1e-9)
    assert found.max() > 0
    assert model.fingerprint() == before
    assert model.input_range is None


def test_saliency_before_the_softmax_and_of_several_channels():
    logits = model_of(layers.Flatten(), layers.Dense(3), shape=(5, 5, 3), dtype="float64")
    ends = model_of(layers.Flatten(), layers.Dense(3, activation="softmax"), shape=(5, 5, 3), dtype="float64")
    kernel = logits.layers[1].params["kernel"].reshape(5, 5, 3, 3)
    for model in (logits, ends):
        for chosen, classes in ((2, [2] * 4), ([0, 1, 2, 0], [0, 1, 2, 0])):
            expected = [np.abs(kernel[..., k]).max(-1) for k in classes]
            np.testing.assert_allclose(plot.saliency_map(model, COLOUR, chosen), expected, rtol=1e-12)
        best = model.predict(COLOUR).argmax(1)
        expected = [np.abs(kernel[..., k]).max(-1) for k in best]
        np.testing.assert_allclose(plot.saliency_map(model, COLOUR, samples=3), expected, rtol=1e-12)  # linear
    curved = classifier(layers.Conv2D(2, 3, activation="tanh"))
    smooth = plot.saliency_map(curved, GREY, samples=2, noise=0.5)
    np.testing.assert_array_equal(plot.saliency_map(curved, GREY, samples=2, noise=0.5), smooth)
    assert not np.allclose(plot.saliency_map(curved, GREY, samples=2, noise=0.5, seed=1), smooth)
    np.testing.assert_allclose(plot.saliency_map(curved, GREY, samples=2, noise=0), plot.saliency_map(curved, GREY))


def test_the_picture_of_saliency():
    model = classifier(layers.Conv2D(2, 3))
    model.class_names = ["a", "b", "c"]
    figure = plot.saliency(model, GREY[:2], [2, 0])
    assert titles(figure) == ["image 1", "what counts for c", "image 2", "what counts for a"]
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), plot.saliency_map(model, GREY[:2], [2, 0])[1])
    assert len(plot.saliency(model, GREY[0, ..., 0]).axes) == 2
    yes = model_of(layers.Flatten(), layers.Dense(1, activation="sigmoid"))
    assert titles(plot.saliency(yes, GREY[0]))[1] == "what counts for 1"


# ---- what all have in common ----

MODEL = classifier(layers.Conv2D(2, 3), layers.Dense(2))
FLAT = mc.Sequential([layers.Input((4,)), layers.Dense(3, activation="softmax")])
NUMBERS = model_of(layers.Flatten(), layers.Dense(2))
PICTURES = {  # of each, how many Axes it needs
    "filters": (1, lambda ax: plot.filters(MODEL, ax=ax)),
    "feature_maps": (1, lambda ax: plot.feature_maps(MODEL, GREY[0], ax=ax)),
    "saliency": (4, lambda ax: plot.saliency(MODEL, GREY[:2], ax=ax)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_in_axes_of_somebody_else(name):
    count, draw = PICTURES[name]
    panels = list(figure_module.Figure().subplots(1, count, squeeze=False).flat)
    assert draw(panels) is panels[0].figure
    assert all(panel.images for panel in panels)
    with pytest.raises(ValueError, match=rf"^plot.{name}: ax must be {count} Axes; got {count + 1}$"):
        draw(list(figure_module.Figure().subplots(1, count + 1)))
    with pytest.raises(TypeError, match=rf"^plot.{name}: ax must be matplotlib Axes"):
        draw("here")
    draw(None).savefig(io.BytesIO(), dpi=40)


@pytest.mark.parametrize(
    ("draw", "error", "text"),
    [
        (lambda: plot.filters(3), TypeError, "plot.filters: model must be a Sequential; got 3"),
        (lambda: plot.mistakes("x", GREY, [0]), TypeError, "plot.mistakes: model must be a Sequential"),
        (lambda: plot.saliency(None, GREY), TypeError, "plot.saliency: model must be"),
        (lambda: plot.feature_maps(None, GREY), TypeError, "plot.feature_maps: model must be"),
        (lambda: plot.filters(mc.Sequential([layers.Conv2D(2, 3)])), RuntimeError, "needs a model that is built"),
        (lambda: plot.filters(FLAT), ValueError, "plot.filters: layer must be a convolution; got none in the model"),
        (lambda: plot.filters(MODEL, 2), ValueError, "layer must be a convolution; got Flatten"),
        (lambda: plot.filters(MODEL, 9), ValueError, "index must be a whole number in"),
        (lambda: plot.filters(MODEL, "conv"), ValueError, "name must be the path or the name of a layer"),
        (lambda: plot.filters(MODEL, layers.Conv2D(1, 1)), ValueError, "layer must be one of the model's"),
        (lambda: plot.feature_maps(MODEL, GREY[0], 2), ValueError, r"one that gives images .*; got Flatten"),
        (
            lambda: plot.feature_maps(FLAT, GREY),
            ValueError,
            r"must take images \(height, width, .*; got one of",
        ),
        (lambda: plot.feature_maps(MODEL, COLOUR), ValueError, r"x must be images \(N, 5, 5, 1\).*got shape \(4, 5, 5"),
        (lambda: plot.feature_maps(MODEL, GREY[:0]), ValueError, "at least one"),
        (lambda: plot.saliency(MODEL, GREY * np.nan), ValueError, "x must be finite; got NaN or infinity"),
        (lambda: plot.saliency(MODEL, "cat.png"), TypeError, "x must be an array of numbers"),
        (lambda: plot.saliency(MODEL, np.zeros((65, 5, 5))), ValueError, "x must be at most 64 images; got 65"),
        (lambda: plot.saliency_map(MODEL, GREY, 3), ValueError, r"labels must be whole numbers in \[0, 2\]; got 3"),
        (lambda: plot.saliency_map(MODEL, GREY, [1, 2]), ValueError, "class_number must be a whole number, or 6 of"),
        (lambda: plot.saliency_map(MODEL, GREY, samples=-1), ValueError, "samples must be a whole number"),
        (lambda: plot.saliency_map(MODEL, GREY, noise=np.nan), ValueError, "noise must be a number >= 0"),
        (lambda: plot.saliency_map(model_of(layers.ReLU()), GREY), ValueError, "must give one row of numbers"),
        (lambda: plot.mistakes(MODEL, GREY, [0] * 5), ValueError, "plot.mistakes: .*6"),
        (lambda: plot.mistakes(MODEL, GREY, [3] * 6), ValueError, "plot.mistakes: "),
        (lambda: plot.mistakes(MODEL, GREY, [0] * 6, count=0), ValueError, "count must be a whole number >= 1"),
        (lambda: plot.mistakes(MODEL, GREY, [0] * 6, ["a"]), ValueError, "class_names must have 3 names"),
        (lambda: plot.mistakes(MODEL, GREY), TypeError, "plot.mistakes: y must be an array"),
    ],
)
def test_wrong_arguments(draw, error, text):
    with pytest.raises(error, match=text):
        draw()


def test_mistakes_of_a_model_of_numbers():
    model = model_of(layers.Flatten(), layers.Dense(2))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"model must tell classes apart; got \(2,\) values a sample"):
        plot.mistakes(model, GREY, [0] * 6)
