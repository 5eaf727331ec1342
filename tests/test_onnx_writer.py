"""Sequential.export: onnxruntime makes of the file what predict makes of the model, at every opset and layout."""

import contextlib
import json
import math
import os

import numpy as np
import pytest
from compare import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from models import Halve
from running import arrays_of
from test_layer_contract import TABLE, new

import minicnn as mc
from minicnn import layers, networks
from minicnn.interop import ConversionError, onnx_writer
from minicnn.layers.activation import NAMES, OTHER_NAMES

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

NEWEST = onnx.defs.onnx_opset_version()
OPSETS = (13, 17, 21, NEWEST)
EXACT, AUTO = 1e-6, 1e-5  # of the largest value
IMAGE = (6, 7, 4)


def session(proto):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def samples(shape, n=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype("f")


def fed(x, layout):
    return x.transpose(0, 3, 1, 2) if layout == "NCHW" else x


def kinds(proto):
    return [node.op_type for node in proto.graph.node]


def model_of(chain, shape, seed=0, **more):
    """Built, with random numbers in all its parameters and moving statistics: those of a new model hide mistakes."""
    model = mc.Sequential(chain, seed=seed, **{"algorithm": "exact"} | more)
    model.build(shape)
    rng = np.random.default_rng([seed, 3])
    for layer in model.layers:
        for name, array in arrays_of(layer, "params"):
            fan = max(1, array.size // array.shape[-1]) if name.endswith("kernel") else 4
            array[...] = rng.normal(size=array.shape) / math.sqrt(fan)
    for name, array in zip(model.state_dict(), model.weights, strict=True):
        if name.endswith("moving_variance"):
            array[...] = rng.uniform(0.5, 2, array.shape)
        elif name.endswith("moving_mean"):
            array[...] = rng.normal(size=array.shape) / 2
    return model


def assert_equal(model, n=3, within=EXACT, **more):
    """The file that was compared."""
    proto = onnx_writer.proto(model, **more)
    x = samples(model.input_shape, n)
    (found,) = session(proto).run(None, {"input": fed(x, more.get("input_layout"))})
    wanted = model.predict(x)
    assert found.dtype == np.float32
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=within * max(np.abs(wanted).max(initial=0), 1e-6))
    return proto


# ---- layer by layer ----


def test_every_layer_and_every_activation_stands_in_the_tables():
    assert set(onnx_writer.TABLE) == {getattr(layers, name) for name in layers.__all__}
    assert set(onnx_writer.ACTIVATIONS) == {*NAMES, *onnx_writer.ACTIVATIONS} - OTHER_NAMES.keys()


@pytest.mark.filterwarnings("ignore:.* puts noise on the model's outputs")
@pytest.mark.parametrize("name", sorted(TABLE))
def test_every_layer_alone(name):
    model = model_of([new(name)], TABLE[name][1])
    for opset in OPSETS:
        for layout in ("NHWC", "NCHW")[: 2 if len(model.input_shape) == 3 else 1]:
            assert_equal(model, opset=opset, input_layout=layout)


@pytest.mark.parametrize("opset", [13, NEWEST])
def test_every_activation_of_another_layer(opset):
    given = [*NAMES, layers.ReLU(2.0), layers.ReLU(None, 0.2, 0.3), layers.ReLU(0.5, 0, 0.3), layers.ReLU(1, 0.1)]
    given += [layers.LeakyReLU(0.3), layers.ELU(0.5)]
    branches = [[layers.Dense(5, activation)] for activation in given]
    assert_equal(model_of([layers.Concurrent(branches)], (4,)), opset=opset)
    branches = [[layers.Conv2D(2, 1, activation=name)] for name in NAMES]
    assert_equal(model_of([layers.Concurrent(branches)], IMAGE), opset=opset)


CASES = {
    "same, strides beyond the kernel": [layers.Conv2D(5, 2, (3, 4), "same")],
    "padding that no window reaches": [layers.Conv2D(5, 3, 4, ((0, 3), (1, 2)))],
    "even kernels": [layers.Conv2D(5, (2, 4), padding="same", dilation_rate=(2, 1))],
    "a pool whose last rows are padding": [layers.MaxPooling2D(3, 4, ((1, 2), (1, 1)))],
    "a mean over real pixels": [layers.AveragePooling2D(3, 2, "same")],
    "transposed, same": [layers.Conv2DTranspose(3, (4, 2), (3, 2), "same")],
    "transposed, strides beyond the kernel": [layers.Conv2DTranspose(3, 1, 3)],
    "transposed, with more rows": [layers.Conv2DTranspose(3, 4, (2, 3), "same", (1, 2))],
    "transposed, cut": [layers.Conv2DTranspose(3, 3, 2, ((2, 0), (1, 3)), (0, 1))],
    "dropconnect as it trains": [layers.Flatten(), layers.DropConnect(4, 0.3)],
    "prelu on a flat image": [layers.Conv2D(3, 3), layers.Flatten(), layers.PReLU(), layers.Dense(2)],
    "norms on a flat image": [
        *(layers.Conv2D(3, 3), layers.Flatten(), layers.BatchNormalization(), layers.LayerNormalization()),
        *(layers.Normalization(mean=np.arange(60.0), variance=np.arange(60.0) + 1), layers.Softmax(), layers.Dense(2)),
    ],
    "groups on a flat image": [layers.Conv2D(4, 3), layers.Flatten(), layers.GroupNormalization(5), layers.Dense(2)],
    "groups of one channel": [layers.GroupNormalization(-1)],
    "groups of rows": [layers.Reshape((7, 24)), layers.GroupNormalization(3)],
    "norms of images": [layers.Conv2D(4, 3), layers.LayerNormalization([1, 2, 3]), layers.LayerNormalization()],
    "a norm of rows of images": [layers.LayerNormalization([2, 3], center=False)],
    "norms of 2 axes": [layers.Reshape((42, 4)), layers.BatchNormalization(scale=False), layers.Dense(3)],
    "an image of a flat image": [layers.Conv2D(3, 3), layers.Flatten(), layers.Reshape((5, 12)), layers.Dense(3)],
    "a flat image at the end": [layers.Conv2D(3, 3), layers.Flatten()],
    "a flat image of one pixel": [layers.Conv2D(3, (6, 7)), layers.Flatten(), layers.Dense(2)],
    "a flat image of one channel": [layers.Conv2D(1, 3), layers.Flatten(), layers.Dense(2)],
    "flat images that meet": [
        layers.Conv2D(3, 3),
        layers.Flatten(),
        layers.Residual([layers.Dense(60)]),
        layers.Concurrent([[], [layers.Dense(3)], [layers.ReLU()]]),
    ],
    "flat images alike that meet": [
        *(layers.Conv2D(3, 3), layers.Flatten(), layers.Concurrent([[], [layers.ReLU()]]), layers.Dense(3)),
    ],
    "axes in another order": [layers.Conv2D(3, 3), layers.Permute((2, 3, 1)), layers.Permute((3, 1, 2))],
    "a softmax of images, before a dense layer": [layers.Conv2D(3, 3), layers.Softmax(), layers.Dense(2, "softmax")],
    "4 axes": [layers.Reshape((2, 3, 7, 4)), layers.BatchNormalization(), layers.Dense(3), layers.PReLU()],
    "classical, in evaluation": [
        *(layers.Dropout(0.3, "classical"), layers.SpatialDropout2D(0.3, "classical"), layers.Conv2D(2, 1)),
    ],
    "nearest, larger": [layers.UpSampling2D((3, 2)), layers.Resizing(5, 9, "nearest")],
    "nearest, where float32 would miss": [layers.Resizing(5, 6, "nearest")],
    "bilinear": [layers.Resizing(11, 3), layers.UpSampling2D(3, "bilinear"), layers.Resizing(8, 8)],
    "nothing": [layers.Conv2D(2, 1), layers.Chain([]), layers.Concurrent([[]])],
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_places_where_the_order_or_the_size_matters(name):
    model = model_of([type(one)(**one.get_config()) for one in CASES[name]], IMAGE)
    for opset, layout in ((13, "NHWC"), (17, "NCHW"), (NEWEST, "NHWC")):
        assert_equal(model, opset=opset, input_layout=layout)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 4), (2, 3, 2, 2)])
def test_samples_that_are_no_images(shape):
    chain = [layers.Rescaling(2.0, 1), layers.Temperature(3.0), layers.Tanh(), layers.Flatten(), layers.Dense(2)]
    assert_equal(model_of(chain, shape))


# ---- random networks ----

SIZES = st.integers(1, 3)
NAME = st.sampled_from([None, "relu", "gelu", "tanh", "hard_swish", "softmax", "elu"])
PADDING = st.sampled_from(["valid", "same", 1, ((0, 1), (1, 0))])


def _conv(draw, kind, *arguments, **more):
    sizes = {name: (draw(SIZES), draw(SIZES)) for name in ("kernel_size", "strides")}
    chosen = {"padding": draw(PADDING), "activation": draw(NAME), "use_bias": draw(st.booleans())}
    return lambda: kind(*arguments, **sizes, **chosen, **more)


def _pool(draw, kind, **more):
    size, padding = (draw(SIZES), draw(SIZES)), draw(st.sampled_from(["valid", "same"]))
    strides = draw(st.none() | SIZES)
    return lambda: kind(size, strides, padding, **more)


def _always(make):
    return lambda draw: make


ROWS = [  # (draw) -> a function that makes the layer
    lambda draw: (lambda units, name: lambda: layers.Dense(units, name))(draw(st.integers(1, 9)), draw(NAME)),
    lambda draw: (lambda name: lambda: layers.Activation(name))(draw(st.sampled_from(NAMES))),
    _always(layers.BatchNormalization),
    _always(layers.LayerNormalization),
    _always(layers.PReLU),
    _always(lambda: layers.GroupNormalization(1)),
    _always(lambda: layers.Dropout(0.3, "classical")),
    _always(lambda: layers.GaussianNoise(0.3)),
    _always(lambda: layers.Rescaling(0.7, 0.1)),
    _always(lambda: layers.Temperature(1.7)),
    _always(lambda: layers.Normalization(mean=0.3, variance=2.0)),
    _always(lambda: layers.Concurrent([[], [layers.ReLU()]])),
    _always(lambda: layers.Residual([layers.Chain([layers.Softplus()])], activation="relu")),
]
IMAGES = [
    *ROWS,
    lambda draw: _conv(draw, layers.Conv2D, draw(st.integers(1, 5))),
    lambda draw: _conv(draw, layers.Conv2D, 4, groups=2),
    lambda draw: _conv(draw, layers.DepthwiseConv2D, depth_multiplier=draw(st.integers(1, 2))),
    lambda draw: _conv(draw, layers.SeparableConv2D, 3),
    lambda draw: _conv(draw, layers.Conv2DTranspose, 3),
    lambda draw: _pool(draw, layers.MaxPooling2D),
    lambda draw: _pool(draw, layers.AveragePooling2D, count_include_pad=draw(st.booleans())),
    lambda draw: (lambda m, how: lambda: layers.UpSampling2D(m, how))(
        draw(SIZES), draw(st.sampled_from(["nearest", "bilinear"]))
    ),
    lambda draw: (lambda h, w: lambda: layers.Resizing(h, w))(draw(st.integers(1, 9)), draw(st.integers(1, 9))),
    _always(lambda: layers.GroupNormalization(-1)),
    _always(lambda: layers.PReLU(shared_axes=[1, 2])),
    _always(lambda: layers.SpatialDropout2D(0.3)),
    _always(lambda: layers.RandomFlip()),
    _always(lambda: layers.ZeroPadding2D(((1, 0), (0, 2)))),
    _always(lambda: layers.Cropping2D(((1, 0), (0, 1)))),
    _always(lambda: layers.Permute((2, 1, 3))),
    _always(lambda: layers.Permute((3, 1, 2))),
    _always(lambda: layers.Residual([layers.Conv2D(3, 3, padding="same")], [layers.Conv2D(3, 1)], "relu")),
    _always(lambda: layers.Concurrent([[layers.Conv2D(2, 1)], [layers.BatchNormalization()], []])),
]
TO_ROWS = [layers.Flatten, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D]


@st.composite
def networks_at_random(draw):
    """(functions that make the layers, shape of a sample)."""
    shape = given = draw(st.sampled_from([(6, 7, 3), (5, 5, 1), (4, 1, 2), (7,), (3, 4)]))
    made = []
    for number in range(draw(st.integers(1, 7))):
        if len(shape) == 3 and number and draw(st.integers(0, 5)) == 0:
            make = draw(st.sampled_from(TO_ROWS))
        else:
            make = draw(st.sampled_from(IMAGES if len(shape) == 3 else ROWS))(draw)
        with contextlib.suppress(ValueError):  # a layer that the shape does not suit
            found = make().build(shape, np.random.default_rng(0))
            if math.prod(found) < 3000:
                made, shape = [*made, make], found
    return made or [layers.Flatten], given


@pytest.mark.filterwarnings("ignore:.*(puts noise|one value|softmax|before a layer)")
@given(networks_at_random(), st.sampled_from(OPSETS), st.booleans(), st.integers(0, 99), st.booleans())
def test_networks_at_random(network, opset, fixed, seed, exact):
    made, shape = network
    algorithm, within = ("exact", EXACT) if exact else ("auto", AUTO)
    model = model_of([make() for make in made], shape, seed, algorithm=algorithm)
    layout = "NCHW" if len(shape) == 3 and seed % 2 else "NHWC"
    assert_equal(model, 3, within, opset=opset, input_layout=layout, batch_size=3 if fixed else None)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_known_networks_have_at_most_one_transpose(name):
    for shape, layout, most in (((12, 12, 3), "NHWC", 1), ((12, 12, 3), "NCHW", 0), ((12, 12, 1), "NHWC", 0)):
        model = model_of([layers.Rescaling(1 / 255), *networks.NETWORKS[name](shape)], shape)
        assert kinds(assert_equal(model, input_layout=layout)).count("Transpose") <= most


def test_winograd_stays_within_its_bound():
    chain = [layers.Conv2D(16, 3, activation="relu"), layers.Conv2D(16, 5), layers.GlobalAveragePooling2D()]
    assert_equal(model_of(chain, (20, 20, 12), algorithm="auto"), within=AUTO)


def test_the_nodes_that_an_opset_has():
    def found(layer, opset):
        return kinds(assert_equal(model_of([layer], IMAGE), opset=opset))

    assert "LayerNormalization" in found(layers.LayerNormalization(), 17)
    assert "ReduceMean" in found(layers.LayerNormalization(), 16)
    assert "Gelu" in found(layers.GELU(), 20)
    assert "Erf" in found(layers.GELU(), 19)
    assert "HardSwish" in found(layers.HardSwish(), 14)
    assert "HardSigmoid" in found(layers.HardSwish(), 13)


@pytest.mark.parametrize("layer", [layers.GroupNormalization(2), layers.GroupNormalization(-1)])
def test_groups_with_a_large_mean(layer):
    """Where the node GroupNormalization is wrong in the third digit."""
    model = model_of([layers.Rescaling(1, 100), layer], IMAGE)
    assert_equal(model, within=AUTO, opset=NEWEST)


# ---- what is in the file ----


def small(end="softmax", **more):
    chain = [layers.Conv2D(3, 3, activation="relu"), layers.Dropout(0.3), layers.Flatten(), layers.Dense(4, end)]
    return model_of(chain, (6, 5, 2), **more)


def test_versions_names_and_what_the_file_says(tmp_path):
    model = small(name="fine")
    model.class_names, model.image_fit = ["a", "b ü", "c", "d"], "pad"
    model.forward(np.linspace(0, 255, 2 * 60).reshape(2, 6, 5, 2), training=True)
    model.export(tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert proto.ir_version == 8
    assert [(one.domain, one.version) for one in proto.opset_import] == [("", 17)]
    assert (proto.producer_name, proto.producer_version, proto.graph.name) == ("minicnn", mc.__version__, "fine")
    about = {one.key: one.value for one in proto.metadata_props}
    assert json.loads(about.pop("class_names")) == model.class_names
    assert json.loads(about.pop("input_range")) == [0, 255]
    assert json.loads(about.pop("input_mean")) == pytest.approx(127.5)
    fixed = {"image_fit": "pad", "input_layout": "NHWC", "minicnn_version": mc.__version__}
    assert about == fixed | {"fingerprint": model.fingerprint()}
    assert {node.name.partition("/")[0] for node in proto.graph.node} >= {"conv2d", "dense"}
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in proto.graph.initializer}
    assert_same_bits(arrays["0.kernel"], model.state_dict()["0.kernel"].transpose(3, 2, 0, 1))
    assert_same_bits(arrays["3.bias"], model.state_dict()["3.bias"])


def test_what_is_not_known_is_not_said():
    about = {one.key for one in onnx_writer.proto(small()).metadata_props}
    assert about == {"input_layout", "fingerprint", "minicnn_version"}


@pytest.mark.parametrize("opset", range(13, NEWEST + 1))
def test_every_opset_has_a_format_that_holds_it(opset):
    proto = assert_equal(small(), opset=opset)
    assert proto.opset_import[0].version == opset
    assert proto.ir_version == (8 if opset < 19 else onnx.helper.find_min_ir_version_for(proto.opset_import))


def test_free_and_fixed_batches():
    model, x = small(), samples((6, 5, 2), 5)
    free, fixed = session(onnx_writer.proto(model)), session(onnx_writer.proto(model, batch_size=5))
    assert free.get_inputs()[0].shape == ["N", 6, 5, 2]
    assert free.get_outputs()[0].shape == ["N", 4]
    assert fixed.get_inputs()[0].shape == [5, 6, 5, 2]
    assert fixed.get_outputs()[0].shape == [5, 4]
    assert_same_bits(free.run(None, {"input": x})[0], fixed.run(None, {"input": x})[0])
    for n in (0, 1):
        assert free.run(None, {"input": x[:n]})[0].shape == (n, 4)
    with pytest.raises(Exception, match="Got: 4 Expected: 5"):
        fixed.run(None, {"input": x[:4]})


def test_names_of_input_and_output(tmp_path):
    small().export(tmp_path / "m", input_name="0.kernel", output_name="dense/Gemm")
    found = session(onnx.load(tmp_path / "m"))
    assert [one.name for one in (*found.get_inputs(), *found.get_outputs())] == ["0.kernel", "dense/Gemm"]
    x = samples((6, 5, 2))
    np.testing.assert_allclose(found.run(None, {"0.kernel": x})[0], small().predict(x), atol=1e-6)


@pytest.mark.parametrize("end", [None, "softmax", "sigmoid", "log_softmax"])
def test_logits_stay_logits(end):
    assert_equal(small(end))


def test_float64_is_cast_with_a_word():
    model = small(dtype="float64")
    with pytest.warns(UserWarning, match="Sequential.export: a float64 model is cast to float32"):
        assert_equal(model)
    model.layers[3].params["bias"][1] = 1e39
    with (
        pytest.warns(UserWarning, match="is cast"),
        pytest.raises(ConversionError, match=r"such as float32 holds; got 1e\+39 in 3.bias"),
    ):
        onnx_writer.proto(model)


def test_bits_are_the_same_and_the_model_stays_what_it_is(tmp_path):
    model, paths = small(), [tmp_path / "a", tmp_path / "b"]
    before = model.fingerprint()
    for path in paths:
        model.export(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert model.fingerprint() == before


# ---- noise in every run ----

NOISE = [
    layers.Dropout(0.4),
    layers.Dropout(0.4, "classical"),
    layers.Dropout(0.4, noise_shape=(None, None, 1, None)),
    layers.Dropout(0.4, noise_shape=(1, None, None, None)),
    layers.SpatialDropout2D(0.4),
    layers.SpatialDropout2D(0.4, "classical"),
    layers.AlphaDropout(0.4),
    layers.AlphaDropout(0.4, (None, 1, 1, None)),
    layers.StochasticDepth(0.4),
    layers.StochasticDepth(0.4, "batch"),
    layers.GaussianDropout(0.4),
    layers.GaussianNoise(0.4),
]


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("layer", NOISE, ids=repr)
def test_noise_has_the_statistics_of_training(layer, layout):
    """Behind another layer, for there onnxruntime takes out a Dropout whose mask is not used."""
    shape, n, times = (3, 4, 5), 20, 200
    noise = type(layer)(**layer.get_config())
    model = mc.Sequential([layers.Rescaling(2.0), noise, layers.Rescaling(1.0, 0.1), layers.Conv2D(5, 1)])
    model.build(shape)
    model.layers[-1].params["kernel"][0, 0] = np.eye(5)
    x = np.full((n, *shape), 0.4, "f")
    fixed = n if layout == "NCHW" else None
    running = session(onnx_writer.proto(model, training=True, input_layout=layout, batch_size=fixed))
    runs = np.stack([running.run(None, {"input": fed(x, layout)})[0] for _ in range(times)])
    mine = np.stack([model.predict_mc(x, 1, seed=seed, return_samples=True).samples[0] for seed in range(times)])
    independent = runs.size
    if not type(layer).__name__.startswith("Gaussian"):
        values = [np.unique(np.round(found, 4)) for found in (runs, mine)]  # the same two
        np.testing.assert_allclose(*values, atol=2e-4)
        for axis in range(1, 5):  # and shared along the same axes
            shared = [bool((found.max(axis) == found.min(axis)).all()) for found in (runs, mine)]
            assert shared[0] == shared[1] == (noise.noise_shape is not None and noise.noise_shape[axis - 1] == 1)
            independent //= runs.shape[axis] if shared[0] else 1
    tolerance = 6 * mine.std() / math.sqrt(independent)
    assert abs(runs.mean() - mine.mean()) < 2 * tolerance
    assert abs(runs.std() - mine.std()) < 2 * tolerance
    assert (runs[1:] != runs[:-1]).mean() > 0.2  # others in every run
    evaluated = session(onnx_writer.proto(model)).run(None, {"input": x})[0]
    np.testing.assert_allclose(evaluated, model.predict(x), rtol=1e-6)


@pytest.mark.parametrize("layer", [layers.Dropout(0.0), layers.GaussianNoise(0.0), layers.DropBlock2D(0.0, 2)])
def test_noise_of_rate_0_vanishes(layer):
    assert kinds(onnx_writer.proto(model_of([layer, layers.ReLU()], IMAGE), training=True)) == ["Relu"]


@pytest.mark.parametrize("layer", [layers.Dropout(1.0), layers.GaussianDropout(1.0), layers.SpatialDropout2D(1.0)])
def test_noise_of_rate_1_leaves_nothing(layer):
    model = model_of([layer, layers.Conv2D(2, 1, use_bias=False)], IMAGE)
    assert not session(onnx_writer.proto(model, training=True)).run(None, {"input": samples(IMAGE)})[0].any()


def test_only_dropout_is_noisy_with_training():
    """Moving statistics normalise, as in predict_mc."""
    model = model_of([layers.BatchNormalization(), layers.Dropout(0.0), layers.Flatten(), layers.Dense(3)], IMAGE)
    assert_equal(model, training=True)


@pytest.mark.parametrize("layer", [
    layers.DropBlock2D(0.3, 2), layers.RandomFlip(), layers.RandomTranslation(0.1, 0.1), layers.RandomRotation(0.1),
    layers.RandomZoom(0.1), layers.RandomCrop(4, 4), layers.RandomContrast(0.1), layers.RandomBrightness(0.1),
    layers.RandomErasing(), layers.Reshape((-1,)),
], ids=lambda layer: type(layer).__name__)  # fmt: skip
def test_noise_that_onnx_has_not(layer):
    chain = [layer, layers.Flatten(), *([layers.DropConnect(4)] if isinstance(layer, layers.Reshape) else [])]
    path, name = ("2", "DropConnect") if len(chain) == 3 else ("0", type(layer).__name__)
    model = model_of([layers.Chain(chain), layers.Dense(2)], IMAGE)
    with pytest.raises(
        ConversionError, match=rf"^Sequential.export: every layer must .* layer 0.layers.{path}, {name}: "
    ):
        onnx_writer.proto(model, training=True)
    assert_equal(model)


def test_normal_numbers_need_an_opset_that_runtimes_draw_them_in():
    model = model_of([layers.GaussianDropout(0.3), layers.Flatten(), layers.Dense(2)], IMAGE)
    with pytest.raises(ConversionError, match=r"layer 0, GaussianDropout: .* in opset 22; say opset=21 or less"):
        onnx_writer.proto(model, opset=22, training=True)


# ---- what cannot be written ----


class Own(layers.Dense):
    """A subclass may compute something else."""


def test_custom_layers_are_named():
    for layer, name in ((Halve(), "Halve"), (Own(3), "Own")):
        model = model_of([layers.Flatten(), layers.Residual([layer], [layers.Dense(3)])], (1, 1, 3))
        with pytest.raises(
            ConversionError, match=rf"got layer 1.body.0, {name}: ONNX has no equal for a layer of one's"
        ):
            model.export(os.devnull + "x")
    model = small()
    vars(model.layers[0])["forward"] = model.layers[0].forward
    with pytest.raises(ValueError, match="got layer 0, Conv2D: it has a method of its own in the place of its class's"):
        onnx_writer.proto(model)


def test_a_layer_without_an_entry_is_seen(monkeypatch):
    monkeypatch.delitem(onnx_writer.TABLE, layers.Flatten)
    with pytest.raises(AssertionError):
        test_every_layer_and_every_activation_stands_in_the_tables()


def test_a_normalization_that_is_not_adapted():
    with pytest.raises(RuntimeError, match="Normalization: is not adapted"):
        onnx_writer.proto(model_of([layers.Normalization()], IMAGE))


@pytest.mark.parametrize(("more", "error", "message"), [
    ({"opset": 12}, ValueError, f"opset must be a whole number in \\[13, {NEWEST}\\]; got 12"),
    ({"opset": NEWEST + 1}, ValueError, "opset must be"),
    ({"opset": "17"}, TypeError, "opset must be"),
    ({"opset": True}, TypeError, "opset must be"),
    ({"opset": 17.0}, TypeError, "opset must be"),
    ({"input_layout": "nchw"}, ValueError, "input_layout must be one of 'NHWC', 'NCHW'; got 'nchw'"),
    ({"input_layout": None}, TypeError, "input_layout must be one of"),
    ({"batch_size": 0}, ValueError, "batch_size must be a whole number >= 1"),
    ({"batch_size": True}, TypeError, "batch_size must be"),
    ({"training": 1}, TypeError, "training must be True or False"),
    ({"input_name": ""}, ValueError, "input_name must have letters"),
    ({"output_name": 3}, TypeError, "output_name must be a string"),
    ({"output_name": "input"}, ValueError, "input_name and output_name must differ; got 'input'"),
    ({"format": "onnx"}, TypeError, "takes no such keyword; got `format`. In minicnn: the format is ONNX"),
])  # fmt: skip
def test_wrong_arguments(more, error, message, tmp_path):
    with pytest.raises(error, match=f"^Sequential.export: {message}"):
        small().export(tmp_path / "m.onnx", **more)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("path", [None, 3, b"m.onnx", ["m.onnx"]])
def test_a_path_of_another_kind(path):
    with pytest.raises(TypeError, match=r"^Sequential.export: path must be a string or a path of pathlib; got "):
        small().export(path)


def test_places_where_no_file_can_be(tmp_path):
    with pytest.raises(IsADirectoryError):
        small().export(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no such folder: .*nowhere"):
        small().export(tmp_path / "nowhere" / "m.onnx")
    with pytest.raises(FileNotFoundError):
        small().export("")


def test_an_old_file_stays_where_the_new_one_cannot_be_written(tmp_path):
    path = tmp_path / "model of any name"
    small().export(str(path))
    before = path.read_bytes()
    with pytest.raises(ConversionError):
        model_of([Halve()], (3,)).export(path)
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_models_that_are_not_built_and_flat_ones_with_channels():
    with pytest.raises(RuntimeError, match=r"^Sequential.export: needs build"):
        mc.Sequential([layers.Dense(3)]).export("m.onnx")
    with pytest.raises(ValueError, match=r"input_layout='NCHW' is for images .*; got samples of shape \(3,\)"):
        onnx_writer.proto(model_of([layers.Dense(2)], (3,)), input_layout="NCHW")


def test_without_onnx_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r'^Sequential.export needs onnx: pip install "minicnn\[onnx\]"'):
        small().export(tmp_path / "m.onnx")


def test_models_that_are_too_large(monkeypatch):
    monkeypatch.setattr(onnx_writer, "MOST_BYTES", 100)
    with pytest.raises(ConversionError, match="a file of ONNX holds less than 2 GiB; got "):
        onnx_writer.proto(small())
