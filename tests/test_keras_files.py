"""Models in Keras's files: against Keras over random networks where it is installed, else those that it has written."""

import json
import os
import re
import tracemalloc

import hypothesis
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_made import (
    DATA,
    STORED,
    archive,
    called,
    dense,
    entry,
    functional,
    kernel,
    legacy,
    sequential,
    stored,
    weights,
)

import minicnn as mc
from minicnn import interop, layers
from minicnn.interop import keras_files

h5py = pytest.importorskip("h5py")


@pytest.mark.parametrize("name", STORED[:2])
def test_files_that_keras_wrote(name, tmp_path):
    data, path = np.load(DATA / "interop.npz"), stored(name, tmp_path)
    model = interop.from_keras(path)
    np.testing.assert_allclose(model.predict(data["x"]), data["keras"], atol=1e-6)
    assert [type(layer).__name__ for layer in model.layers] == [
        *("Conv2D", "BatchNormalization", "DepthwiseConv2D", "Flatten", "Dense"),
    ]
    assert (
        model.get_layer("depthwise_conv2d").activation
        == layers.Conv2D(1, 1, activation=layers.LeakyReLU(0.2)).activation
    )
    model.save(tmp_path / "ours.npz")
    assert mc.Sequential.load(tmp_path / "ours.npz").fingerprint() == model.fingerprint()


def test_a_file_of_weights_alone_says_what_to_do(tmp_path):
    with pytest.raises(interop.ConversionError, match="has weights alone: make the model, and take them by load_keras"):
        interop.from_keras(stored("keras.weights.h5", tmp_path))


# ---- against Keras ----


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


def network(keras, pick):
    """A list of layers; ``pick``: draws one of its arguments.  (No strategy: Keras's layers draw seeds.)"""
    kl, found, c = keras.layers, [], pick(1, 2, 3)
    h, w = shape = pick(6, 8, 9), pick(6, 7)
    found.append(keras.Input((*shape, c)))
    words = ("relu", "gelu", "silu", "elu", "leaky_relu", "selu", "hard_sigmoid", "hard_silu", "relu6", "softplus",
             "softsign", "exponential", "log_softmax", "softmax", "tanh", "sigmoid", "linear", None)  # fmt: skip

    def activation():
        return pick(*words, kl.LeakyReLU(negative_slope=0.4), kl.ReLU(max_value=1.0, threshold=0.1))

    for _ in range(pick(1, 2, 3, 4)):
        what = pick("conv", "depthwise", "separable", "transposed", "batch", "group", "layer", "max", "average", "up",
                    "pad", "crop", "drop", "prelu", "activation", "rescaling", "normalization", "resizing", "permute",
                    "augment")  # fmt: skip
        same, bias = pick("same", "valid"), pick(True, False)
        if what in ("conv", "depthwise", "separable"):
            step = pick({}, {"strides": 2}, {"dilation_rate": 2})
            if "strides" not in step and what == "conv":
                step["groups"] = pick(1, c)
            same = same if min(h, w) > 5 else "same"
            more = {"padding": same, "use_bias": bias, "activation": activation(), **step}
            if what == "conv":
                found.append(kl.Conv2D(2 * c, pick(1, 2, 3), **more))
            elif what == "depthwise":
                found.append(kl.DepthwiseConv2D(3, depth_multiplier=pick(1, 2), **more))
            else:
                found.append(kl.SeparableConv2D(3, 3, depth_multiplier=pick(1, 2), **more))
        elif what == "transposed":
            more = {"padding": same, "use_bias": bias, "activation": activation()}
            found.append(kl.Conv2DTranspose(2, pick(1, 2, 3), pick(1, 2), output_padding=None, **more))
        elif what == "batch":
            found.append(kl.BatchNormalization(center=bias, scale=pick(True, False), epsilon=0.01))
        elif what == "group":
            found.append(kl.GroupNormalization(pick(1, -1, c), center=bias))
        elif what == "layer":
            found.append(kl.LayerNormalization(pick(-1, [1, 2, 3], [2, 3]), scale=bias))
        elif what in ("max", "average"):
            kind = kl.MaxPooling2D if what == "max" else kl.AveragePooling2D
            found.append(kind(2, pick(None, 1), padding="same"))
        elif what == "up" and h * w < 100:
            found.append(kl.UpSampling2D(2, interpolation=pick("nearest", "bilinear")))
        elif what == "pad":
            found.append(kl.ZeroPadding2D(pick(1, (0, 1), ((1, 0), (2, 1)))))
        elif what == "crop" and min(h, w) > 3:
            found.append(kl.Cropping2D(((1, 0), (0, 1))))
        elif what == "drop":
            found.append(pick(kl.Dropout(0.3), kl.SpatialDropout2D(0.2), kl.GaussianDropout(0.2), kl.GaussianNoise(1.0),
                              kl.AlphaDropout(0.1)))  # fmt: skip
        elif what == "prelu":
            found.append(kl.PReLU(shared_axes=pick(None, [1, 2], [1, 2, 3])))
        elif what == "activation":
            found.append(
                pick(kl.Activation(pick(*words[:-1])), kl.ReLU(6.0), kl.LeakyReLU(), kl.ELU(0.5), kl.Softmax())
            )
        elif what == "rescaling":
            found.append(kl.Rescaling(0.5, 1))
        elif what == "normalization":
            layer = kl.Normalization(axis=-1)
            layer.adapt(np.random.default_rng(0).normal(1, 2, (5, h, w, c)))
            found.append(layer)
        elif what == "resizing":
            found.append(kl.Resizing(5, 6, interpolation=pick("nearest", "bilinear")))
        elif what == "permute":
            found.append(kl.Permute((2, 1, 3)))
        elif what == "augment":
            found.append(pick(kl.RandomFlip(), kl.RandomRotation(0.1), kl.RandomZoom(0.2), kl.RandomContrast(0.1),
                              kl.RandomTranslation(0.1, 0.2)))  # fmt: skip
        _, h, w, c = keras.Sequential(found).output_shape
    found.append(pick(kl.Flatten(), kl.GlobalAveragePooling2D(), kl.GlobalMaxPooling2D(), kl.Reshape((-1,))))
    inner = [kl.Dense(pick(2, 3), use_bias=pick(True, False)), kl.BatchNormalization(), kl.Dense(3, activation())]
    found += [keras.Sequential(inner)] if pick(True, False) else inner
    return found


theirs = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras's, by NumPy


@theirs
@settings(max_examples=25, phases=[hypothesis.Phase.generate])  # a network takes a second: what fails is seen as it is
@given(st.data())
def test_random_networks_predict_what_they_predict_in_keras(keras, tmp_path_factory, data):
    chain = network(keras, lambda *values: data.draw(st.sampled_from(values)))
    folder = tmp_path_factory.mktemp("keras")
    first, *rest = chain
    if data.draw(st.booleans()):
        y = first
        for layer in rest:
            y = layer(y)
        model = keras.Model(first, y)
    else:
        model = keras.Sequential(chain)
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    for variable in model.weights:
        if not re.search("count|seed|normalization/(mean|variance)", variable.path):
            low = 0.3 if re.search("variance", variable.path) else -0.4
            variable.assign(rng.uniform(low, low + 1, variable.shape))
    x = rng.normal(size=(3, *model.input_shape[1:])).astype(np.float32)
    y = keras.ops.convert_to_numpy(model(x, training=False))
    if data.draw(st.booleans()):
        model.compile("adam", "mse")
    for name in ("a.keras", "a.h5"):
        model.save(folder / name)
        ours = interop.from_keras(folder / name)
        np.testing.assert_allclose(ours.predict(x), y, rtol=0, atol=1e-5 * max(1, np.abs(y).max()))
        other = mc.Sequential.from_config(ours.get_config())
        other.build(x.shape[1:])
        interop.load_keras_weights(other, folder / name)
        assert other.fingerprint() == ours.fingerprint()


MINIMAL = {
    **{"AveragePooling2D": [2], "MaxPooling2D": [2]},
    **{"Activation": ["relu"], "AlphaDropout": [0.1], "Conv2D": [2, 3], "Conv2DTranspose": [2, 3], "Dense": [3]},
    **{
        "DepthwiseConv2D": [3],
        "Dropout": [0.1],
        "GaussianDropout": [0.1],
        "GaussianNoise": [0.1],
        "Permute": [(2, 1, 3)],
    },
    **{"GroupNormalization": [1], "RandomBrightness": [0.1], "RandomContrast": [0.1], "RandomCrop": [4, 4]},
    **{"RandomRotation": [0.1], "RandomTranslation": [0.1, 0.1], "RandomZoom": [0.1], "Rescaling": [0.1]},
    **{"Reshape": [(-1,)], "Resizing": [4, 4], "SeparableConv2D": [2, 3], "SpatialDropout2D": [0.1]},
    **{"Cropping2D": [((1, 0), (0, 1))], "Normalization": [-1, 0.5, 2.0]},
}


@theirs
@pytest.mark.parametrize("name", sorted(keras_files.SAME))
def test_every_class_of_keras_is_taken_with_its_defaults(name, keras, tmp_path):
    layer = getattr(keras.layers, name)(*MINIMAL.get(name, []))
    keras.Sequential([keras.Input((6, 6, 3)), layer]).save(tmp_path / "a.keras")
    model = interop.from_keras(tmp_path / "a.keras")
    assert type(model.layers[0]) is getattr(layers, name)


# ---- what is said, and what cannot be said ----


def from_config(config, tmp_path, groups=None, **more):
    (tmp_path / "a.keras").write_bytes(archive(config, weights(groups or {}), **more))
    return interop.from_keras(tmp_path / "a.keras")


def test_arguments_are_taken(tmp_path):
    config = sequential(
        dense("first", kernel_regularizer={"class_name": "L1L2", "config": {"l1": 0.5, "l2": 0.25}}, trainable=False,
              kernel_initializer={"class_name": "Custom", "config": {}}),
        entry("BatchNormalization", "norm", axis=[1], momentum=0.9, epsilon=0.1, renorm=False, center=True, scale=True),
        entry("Activation", "act", activation="leaky_relu"), entry("Identity", "same"),
        dense("last", kernel_constraint={"class_name": "MaxNorm", "config": {"max_value": 3, "axis": 0}},
              lora_rank=None),
    )  # fmt: skip
    found = {"dense": [kernel(0)], "dense_1": [kernel(1)], "batch_normalization": [kernel(n, 4) ** 2 for n in range(4)]}
    model = from_config(config, tmp_path, found)
    first, norm, act, same, last = model.layers
    assert (first.kernel_regularizer.l1, first.kernel_regularizer.l2, first.trainable) == (0.5, 0.25, False)
    assert (norm.momentum, norm.epsilon, norm.axis) == (0.9, 0.1, 1)
    assert (act.slope, same.activation) == (0.2, "linear")
    assert (last.kernel_constraint.max_value, last.kernel_constraint.axis) == (3, 0)
    assert (model.name, [layer.name for layer in model.layers]) == ("net", ["first", "norm", "act", "same", "last"])


def test_float64(tmp_path):
    policy = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float64"}}
    assert from_config(sequential(dense("a", dtype=policy)), tmp_path, {"dense": [kernel(0)]}).dtype == np.float64
    refused(
        sequential(dense("a", dtype=policy), dense("b", dtype="float32")), tmp_path, "layer b (Dense): dtype must be"
    )


def refused(config, tmp_path, *said, **more):
    with pytest.raises(interop.ConversionError) as caught:
        from_config(config, tmp_path, **more)
    said = (*said, f"interop.from_keras: {tmp_path / 'a.keras'}")
    assert not [word for word in said if word not in str(caught.value)], str(caught.value)


LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wEAAAAAAAAAAAAAAAEAAAACAAAAQwAAAHMIAAAAfABkARMAUwA="}}
CONV = {"filters": 2, "kernel_size": [1, 1]}


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (entry("Lambda", "mine", function=LAMBDA), "layer mine (Lambda): it would need code, and none is run"),
        (entry("Dense", "mine", units=3) | {"registered_name": "own>Dense"}, "layer mine (Dense): it would need code"),
        (entry("Dense", "mine", units=3) | {"module": "own.layers"}, "layer mine (Dense): it would need code"),
        (entry("LSTM", "mine", units=3), "layer mine (LSTM): minicnn has no such layer"),
        (entry("Chain", "mine", layers=[]), "layer mine (Chain): minicnn has no such layer"),
        (
            entry("Conv2D", "c", **CONV, data_format="channels_first"),
            "layer c (Conv2D): data_format must be 'channels_la",
        ),
        (entry("Conv2D", "c", **CONV, padding="causal"), "layer c (Conv2D): Conv2D: padding must be one of"),
        (entry("Conv2D", "c", **CONV, dtype="mixed_float16"), "layer c (Conv2D): dtype must be float32 or float64"),
        (entry("Dense", "d", units=2, lora_rank=3), "layer d (Dense): minicnn has no argument lora_rank; got 3"),
        (entry("Dense", "d", units=2, activation="mish"), "layer d (Dense): activation: minicnn has no 'mish'"),
        (
            entry("Dense", "d", units=2, activation={"class_name": "function", "config": "f"}),
            "layer d (Dense): activation",
        ),
        (
            entry("Dense", "d", units=2, kernel_regularizer={"class_name": "Own", "config": {}}),
            "layer d (Dense): Dense: ke",
        ),
        (entry("BatchNormalization", "b", renorm=True), "layer b (BatchNormalization): renorm must be False"),
        (entry("Softmax", "s", axis=1), "layer s (Softmax): Softmax: axis must be -1"),
        (
            entry("UpSampling2D", "u", interpolation="bicubic"),
            "layer u (UpSampling2D): UpSampling2D: interpolation must",
        ),
        (entry("Resizing", "r", height=2, width=2, antialias=True), "layer r (Resizing): antialias must be False"),
        (entry("ZeroPadding2D", "z", padding=3), "a model that cannot be built here"),
    ],
)
def test_what_cannot_be_said_is_named(layer, said, tmp_path):
    refused(sequential(layer), tmp_path, said)


@pytest.mark.parametrize("kind", ["Average", "Max"])
def test_a_pooling_that_keeps_its_axes(kind, tmp_path):
    pooling, conv = entry(f"Global{kind}Pooling2D", "g", keepdims=True), entry("Conv2D", "c", **CONV)
    groups = {"conv2d": [kernel(0, 1, 1, 3, 2), kernel(1, 2)]}
    model = from_config(sequential(pooling, conv, shape=(4, 5, 3)), tmp_path, groups)
    x = kernel(2, 2, 4, 5, 3)
    pooled = x.mean((1, 2)) if kind == "Average" else x.max((1, 2))
    wanted = pooled @ kernel(0, 1, 1, 3, 2)[0, 0] + kernel(1, 2)
    np.testing.assert_allclose(model.predict(x), wanted[:, None, None], atol=1e-6)


def test_the_first_hard_sigmoid_is_another_function(tmp_path):
    config = sequential(entry("Dense", "d", units=4, activation="hard_sigmoid", use_bias=False))
    refused(config, tmp_path, "layer d (Dense): activation: the hard_sigmoid of Keras before 3", version="2.15.0")
    (tmp_path / "a.h5").write_bytes(legacy({"d": {"d/kernel:0": kernel(0)}}, config))
    with pytest.raises(interop.ConversionError, match="hard_sigmoid of Keras before 3"):
        interop.from_keras(tmp_path / "a.h5")
    assert from_config(config, tmp_path, {"dense": [kernel(0)]}).layers[0].activation == "hard_sigmoid"


def test_files_of_keras_2(tmp_path):
    """Other words for shapes, and for slopes; models in a model, whose moving statistics come last."""
    inner = {"class_name": "Sequential", "config": {"name": "inner", "layers": [
        {"class_name": "BatchNormalization", "config": {"name": "bn", "axis": [1], "momentum": 0.9, "epsilon": 0.1}},
        {"class_name": "Dense", "config": {"name": "d", "units": 4, "activation": "linear"}}]}}  # fmt: skip
    config = {"class_name": "Sequential", "config": {"name": "outer", "layers": [
        {"class_name": "Dense", "config": {"name": "a", "units": 4, "batch_input_shape": [None, 4], "use_bias": False,
                                           "dtype": "float32", "trainable": True}},
        {"class_name": "LeakyReLU", "config": {"name": "l", "alpha": 0.3}}, inner]}}  # fmt: skip
    moments = {f"bn/{key}:0": kernel(n, 4) ** 2 for n, key in enumerate(("gamma", "beta", "moving_mean"))}
    arrays = {"a": {"a/kernel:0": kernel(0)}, "l": {}, "inner": {
        "bn/gamma:0": moments["bn/gamma:0"], "bn/beta:0": moments["bn/beta:0"], "d/kernel:0": kernel(6),
        "d/bias:0": kernel(7, 4), "bn/moving_mean:0": moments["bn/moving_mean:0"],
        "bn/moving_variance:0": kernel(8, 4) ** 2}}  # fmt: skip
    (tmp_path / "a.h5").write_bytes(legacy(arrays, config, version="2.9.0"))
    model = interop.from_keras(tmp_path / "a.h5")
    state = model.state_dict()
    assert model.layers[1].slope == 0.3
    assert np.array_equal(state["0.kernel"], kernel(0))
    assert np.array_equal(state["2.layers.0.moving_mean"], moments["bn/moving_mean:0"])
    assert np.array_equal(state["2.layers.0.moving_variance"], kernel(8, 4) ** 2)
    assert np.array_equal(state["2.layers.1.bias"], kernel(7, 4))


def test_a_functional_model_that_is_a_chain(tmp_path):
    """Of Keras 3 and of Keras 2, which say in other words what a layer is called with."""
    b, a = called(dense("b"), "a"), called(dense("a"), "input")
    model = from_config(functional(a, b, last="b"), tmp_path, {"dense": [kernel(0)], "dense_1": [kernel(1)]})
    assert [layer.name for layer in model.layers] == ["a", "b"]
    assert all(np.array_equal(array, kernel(n)) for n, array in enumerate(model.get_weights()))
    older = json.loads(json.dumps(functional(a, b, last="b")))
    older["class_name"] = "Model"
    for one, before in zip(older["config"]["layers"][1:], ("input", "a"), strict=True):
        one["inbound_nodes"] = [[[before, 0, 0, {}]]]
    model = from_config(older, tmp_path, {"dense": [kernel(0)], "dense_1": [kernel(1)]})
    assert [layer.name for layer in model.layers] == ["a", "b"]


def joined(name, *inputs, cls="Add", **config):
    return called(entry(cls, name, **config), *inputs)


def test_ways_that_meet(tmp_path):
    """Groups are counted in the order of the file, which no way has: a, c, b, d, e."""
    entries = [called(dense("a"), "input"), called(dense("c"), "fork"), called(dense("b"), "a"),
               joined("plus", "b", "input"), called(entry("Dropout", "fork", rate=0.5), "plus"),
               joined("side", "d", "c", "fork", cls="Concatenate", axis=1), called(dense("d", 2), "fork"),
               called(dense("e", 10), "side"), joined("twice", "e", "e"),
               joined("three", "twice", "side", "side")]  # fmt: skip
    arrays = [kernel(0), kernel(1), kernel(2), kernel(3, 4, 2), kernel(4, 10, 10)]
    groups = {f"dense_{number}" if number else "dense": [array] for number, array in enumerate(arrays)}
    a, c, b, d, e = arrays
    model = from_config(functional(*entries, last="three"), tmp_path, groups)
    x = kernel(5, 3, 4)
    fork = x @ a @ b + x
    side = np.concatenate([fork @ d, fork @ c, fork], 1)
    np.testing.assert_allclose(model.predict(x), 2 * side @ e + side + side, atol=1e-5)
    assert [type(layer).__name__ for layer in model.layers] == ["Residual", "Dropout", "Concurrent", "Residual"]
    assert [layer.name for layer in model.layers] == ["plus", "fork", "side", "three"]
    assert model.get_layer("0.body.1").name == "b"
    older = json.loads(json.dumps(functional(*entries, last="three")))  # as Keras 2 says it
    for one in older["config"]["layers"]:
        found = [two["config"]["keras_history"] for node in one["inbound_nodes"] for two in np.ravel(node["args"])]
        one["inbound_nodes"] = [[[*history, {}] for history in found]] if found else []
    assert from_config(older, tmp_path, groups).fingerprint() == model.fingerprint()
    names = {name: {f"{name}/kernel:0": array} for name, array in zip("acbde", arrays, strict=True)}
    names |= {"three": {}, "plus": {}}
    (tmp_path / "a.h5").write_bytes(legacy(names, functional(*entries, last="three")))
    assert interop.from_keras(tmp_path / "a.h5").fingerprint() == model.fingerprint()
    other = mc.Sequential.from_config(model.get_config())
    other.build((4,))
    interop.load_keras_weights(other, tmp_path / "a.h5")
    assert other.fingerprint() == model.fingerprint()


def test_ways_within_a_model_in_a_model(tmp_path):
    inner = functional(called(dense("b"), "input"), called(dense("c"), "input"), joined("plus", "b", "c"), last="plus")
    inner["config"]["name"] = "inner"
    config = functional(called(dense("a"), "input"), called(inner, "a"), joined("sum", "input", "inner"), last="sum")
    a, b, c = kernel(0), kernel(1), kernel(2)
    x = kernel(3, 2, 4)
    wanted = x + x @ a @ b + x @ a @ c
    groups = {"functional/layers/dense": [b], "functional/layers/dense_1": [c], "dense": [a]}
    np.testing.assert_allclose(from_config(config, tmp_path, groups).predict(x), wanted, atol=1e-5)
    stored = {"a": {"a/kernel": a}, "inner": {"b/kernel": b, "c/kernel": c}}
    (tmp_path / "a.h5").write_bytes(legacy(stored, config))
    model = interop.from_keras(tmp_path / "a.h5")
    np.testing.assert_allclose(model.predict(x), wanted, atol=1e-5)
    other = mc.Sequential.from_config(model.get_config())
    other.build((4,))
    interop.load_keras_weights(other, tmp_path / "a.h5")
    assert other.fingerprint() == model.fingerprint()


@theirs
@pytest.mark.parametrize("name", ["a.keras", "a.h5"])
def test_residual_networks_predict_what_they_predict_in_keras(name, keras, tmp_path):
    kl = keras.layers
    x = start = keras.Input((6, 7, 3))
    for filters in (3, 4):
        body = kl.BatchNormalization()(kl.Conv2D(filters, 3, padding="same", activation="relu")(x))
        body = kl.Conv2D(filters, 3, padding="same")(body)
        x = kl.ReLU()(body + x if filters == 3 else kl.Add()([kl.Conv2D(filters, 1)(x), body]))
        x = kl.Concatenate()([x, kl.Conv2D(2, 1)(x), kl.AveragePooling2D(3, strides=1, padding="same")(x)])
    model = keras.Model(start, kl.Dense(3)(kl.GlobalAveragePooling2D()(x)))
    model.set_weights([np.abs(kernel(number, *array.shape)) for number, array in enumerate(model.get_weights())])
    model.save(tmp_path / name)
    x = kernel(0, 2, 6, 7, 3)
    y = keras.ops.convert_to_numpy(model(x, training=False))
    np.testing.assert_allclose(interop.from_keras(tmp_path / name).predict(x), y, rtol=1e-5)


@pytest.mark.parametrize(
    ("entries", "last", "said"),
    [
        (
            [called(dense("a"), "input"), called(dense("b"), "a"), joined("p", "input", "b"), joined("q", "p", "a")],
            "q",
            "layer a (Dense): b and q follow it, on ways that meet others in between",
        ),
        (
            [called(dense("a"), "input"), called(dense("b"), "input")],
            "b",
            "layer a (Dense): there is no way from it to the output",
        ),
        ([called(dense("a"), "b"), called(dense("b"), "a")], "b", "layer a (Dense): there is no way from the input"),
        ([called(dense("a"), "input", "input")], "a", "layer a (Dense): it has 2 inputs"),
        ([joined("p", "input")], "p", "layer p (Add): it has 1 inputs"),
        ([called(dense("a"), "input"), called(dense("a"), "a")], "a", "layer net (Functional): two of its layers have"),
        ([called(dense("a"), "nobody")], "a", "is damaged"),
        ([called(dense("a"), "input", training=True)], "a", "layer a (Dense): it is called with training=True"),
        (
            [joined("p", "input", "input", cls="Multiply")],
            "p",
            "layer p (Multiply): it has 2 inputs, which only Add and Concatenate may have here",
        ),
        (
            [called(entry("Add", "p"), "input") | {"inbound_nodes": [{"args": [3.0], "kwargs": {}}]}],
            "p",
            "layer p (Add): it is called with what is no tensor: 3.0",
        ),
        (
            [
                called(entry("Reshape", "r", target_shape=[2, 2]), "input"),
                joined("p", "r", "r", cls="Concatenate", axis=1),
            ],
            "p",
            "layer p (Concatenate): axis must be the last one; got 1",
        ),
    ],
)
def test_ways_that_layers_cannot_say(entries, last, said, tmp_path):
    groups = {} if "axis" in said else {"dense": [kernel(0)], "dense_1": [kernel(1)]}
    refused(functional(*entries, last=last), tmp_path, said, groups=groups)


def test_models_with_several_outputs(tmp_path):
    more = functional(called(dense("a"), "input"), last="a")
    more["config"]["output_layers"] = [["a", 0, 0], ["input", 0, 0]]
    refused(more, tmp_path, "layer net (Functional): a model has one input and one output here; it has 2 outputs")


def test_a_file_that_has_more_layers_than_anybody_reads(tmp_path):
    refused(sequential(*[entry("Flatten")] * 10_000), tmp_path, "layer net (Sequential): there are more than 10000")


def test_a_variance_is_no_negative_number(tmp_path):
    groups = {"batch_normalization": [kernel(0, 4), kernel(1, 4), kernel(2, 4), -np.ones(4)]}
    config = sequential(entry("BatchNormalization", "norm", axis=[1]))
    refused(config, tmp_path, "0.moving_variance must be >= 0", groups=groups)


def test_quantized_weights_are_no_numbers(tmp_path):
    policy = {"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8", "source_name": "float32"}}
    refused(sequential(dense("a", dtype=policy)), tmp_path, "layer a (Dense): dtype must be", "'Quantized")


def test_the_shape_of_a_sample_must_be_known(tmp_path):
    refused(sequential(dense("a"), shape=(None, 4)), tmp_path, "does not say the shape of a sample: got [None, 4]")
    config = sequential(dense("a"))
    del config["config"]["layers"][0]
    refused(config, tmp_path, "does not say the shape of a sample: got None")
    config["build_config"] = {"input_shape": [None, 4]}
    assert from_config(config, tmp_path, {"dense": [kernel(0)]}).input_shape == (4,)


def test_a_model_of_another_class(tmp_path):
    refused(
        sequential() | {"class_name": "Own"}, tmp_path, "layer net (Own): a model of another class would need its code"
    )
    refused(sequential() | {"registered_name": "own>Sequential"}, tmp_path, "a model of another class")


@pytest.mark.parametrize("config", ["", "[]", "{}", "nul", "[" * 100_000, '{"class_name": "Sequential"}'])
def test_configurations_that_are_none(config, tmp_path):
    refused(config, tmp_path, "is damaged, or no file of Keras's")


def test_what_a_file_does_not_hold_is_not_allocated(tmp_path):
    """Neither where the model wants it, nor where an array of the file says so without having the numbers."""

    def write(file):
        file["layers/dense/vars"].create_dataset("0", (10_000, 1_000_000), "f4")

    (tmp_path / "a.keras").write_bytes(archive(sequential(dense("a", 1_000_000), shape=(10_000,)), b""))
    tracemalloc.start()
    refused(sequential(dense("a", 10**12)), tmp_path, "must hold", groups={"dense": [kernel(0)]})
    (tmp_path / "a.keras").write_bytes(
        archive(sequential(dense("a", 1_000_000), shape=(10_000,)), weights({"dense": []}, write))
    )
    with pytest.raises(interop.ConversionError, match="declares more numbers than it holds"):
        interop.from_keras(tmp_path / "a.keras")
    refused(sequential(entry("Flatten", "f"), shape=(10_000, 10_000, 3)), tmp_path, "more than 67108864 numbers")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
