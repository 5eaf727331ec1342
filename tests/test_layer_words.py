"""What every layer's constructor takes besides its own arguments: a name, and the shape of a first layer's samples; and
the weights of one layer as a list."""

import copy
import pickle

import numpy as np
import pytest
from compare import assert_same_bits
from running import build
from test_layer_contract import TABLE, every_layer, new

import minicnn as mc
from minicnn import initializers, layers


class Custom(mc.Layer):
    """Knows nothing of names; doubles its input."""

    def forward(self, x, training=False):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


class KerasLike(mc.Layer):
    """Hands on what it does not know, as layers for Keras do."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    forward, backward = Custom.forward, Custom.backward


class Named(Custom):
    """Takes a name itself."""

    def __init__(self, name=None):
        super().__init__(name=name)


CUSTOM = {"Custom": Custom, "KerasLike": KerasLike, "Named": Named}


def net(**words):
    return mc.Sequential(
        [
            layers.Conv2D(4, 3, activation="relu", **words),
            layers.Residual([layers.Conv2D(4, 1, name="inner"), layers.Conv2D(4, 1)]),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(3, name="head"),
        ]
    )


def copies(model, folder, custom_layers=None):
    model.save(folder / "m.npz")
    yield mc.Sequential.load(folder / "m.npz", custom_layers)
    yield mc.Sequential.from_config(model.get_config(), custom_layers)
    yield copy.deepcopy(model)
    yield pickle.loads(pickle.dumps(model))


# ---- names ----


@every_layer
def test_every_layer_takes_a_name_and_a_shape(name):
    arguments, shape = TABLE[name]
    layer = getattr(layers, name)(**arguments, name="mine", input_shape=shape)
    assert layer.name == "mine"
    assert "name='mine'" in repr(layer)
    model = mc.Sequential([layer, layers.Flatten(), layers.Dense(2)])
    assert model.input_shape == shape  # built at once, as with an Input
    assert model.get_layer("mine") is layer


def test_names_are_those_of_keras():
    model = net()
    names = [layer.name for layer in model.layers]
    assert names == ["conv2d", "residual", "batch_normalization", "flatten", "head"]
    assert [model.get_layer(f"1.body.{i}").name for i in range(2)] == ["inner", "conv2d_1"]
    for name in [*names, "inner", "conv2d_1"]:
        assert model.get_layer(name).name == model.get_layer(name=name).name == name
    assert [layers.MaxPooling2D().name, layers.GlobalAveragePooling2D().name, layers.ReLU().name] == [
        "max_pooling2d",
        "global_average_pooling2d",
        "re_lu",
    ]


def test_a_given_name_is_not_given_again():
    model = mc.Sequential([layers.Dense(2), layers.Dense(2, name="dense"), layers.Dense(2)])
    assert [layer.name for layer in model.layers] == ["dense_1", "dense", "dense_2"]


def test_names_live_in_files_and_copies(tmp_path):
    model = net(name="first")
    model.build((6, 6, 1))
    assert "0 Conv2D 'first'" in model.summary_text()
    assert "'batch_normalization'" not in model.summary_text()
    for other in copies(model, tmp_path):
        assert [layer.name for layer in other.layers] == [layer.name for layer in model.layers]
        assert other.get_layer("inner").filters == 4
        assert other.get_config() == model.get_config()


def test_a_path_comes_before_a_name():
    model = net()
    assert model.get_layer("1.body.0").name == "inner"
    for name in ("1", "0.kernel", "12"):
        with pytest.raises(ValueError, match="Dense: name must be a word that no path begins with"):
            layers.Dense(3, name=name)


@pytest.mark.parametrize("name", ["", " ", "a\nb", 3, b"a", True])
def test_a_name_is_a_word(name):
    with pytest.raises((TypeError, ValueError), match="Dense: name must be a word"):
        layers.Dense(3, name=name)


def test_two_layers_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"same name 'a'; got the layers '0' and '1\.body\.0'"):
        mc.Sequential([layers.Dense(3, name="a"), layers.Residual(layers.Dense(3, name="a"))])
    model = mc.Sequential([layers.Dense(3, name="a"), layers.Dense(3)])
    model.layers[1].name = "a"
    with pytest.raises(ValueError, match="same name 'a'"):
        model.build((3,))
    model.layers[1].name = "b"
    model.build((3,))
    with pytest.raises(AttributeError, match=r"Dense\.name: stays while the layer is in a model"):
        model.layers[1].name = "c"
    assert model.get_layer("b") is model.layers[1]


def test_custom_layers_have_names_too(tmp_path):
    model = mc.Sequential([
        Custom(name="a", input_shape=(3,)), KerasLike(2, name="b"), Named(name="c"), Named(), layers.Dense(2),
    ])  # fmt: skip
    assert [layer.name for layer in model.layers] == ["a", "b", "c", "named", "dense"]
    for other in copies(model, tmp_path, CUSTOM):
        assert [layer.name for layer in other.layers] == ["a", "b", "c", "named", "dense"]
        assert [layer.get_config().get("name") for layer in other.layers] == [None, None, "c", None, None]


# ---- the shape of a first layer's samples ----


@pytest.mark.parametrize("words", [{"input_shape": (6,)}, {"input_dim": 6}, {"input_shape": [None, 6]}])
def test_a_first_layer_says_the_shape_of_the_samples(words, tmp_path):
    model, twin = mc.Sequential([layers.Dense(4, **words)]), mc.Sequential([layers.Input((6,)), layers.Dense(4)])
    assert model.built
    assert model.fingerprint() == twin.fingerprint()
    for other in copies(model, tmp_path):
        assert other.get_config() == model.get_config()
        assert_same_bits(other.predict(np.ones((2, 6))), model.predict(np.ones((2, 6))))


def test_a_model_that_grows_is_built_when_it_is_needed():
    model = mc.Sequential()
    model.add(layers.Dense(4, input_shape=(6,)))
    model.add(layers.Dense(3))
    assert not model.built
    assert model.count_params() == 4 * 7 + 3 * 5
    assert mc.Sequential.from_config(model.get_config()).count_params() == model.count_params()


def test_a_shape_that_is_not_true_is_an_error():
    with pytest.raises(ValueError, match=r"layer 1: Dense: input_shape is said to be \(7,\) .*; got \(4,\)"):
        mc.Sequential([layers.Input((6,)), layers.Dense(4), layers.Dense(2, input_shape=(7,))])
    model = mc.Sequential([layers.Input((6,)), layers.Dense(4, input_shape=(6,)), layers.Dense(2, input_dim=4)])
    assert model.output_shape == (2,)
    with pytest.raises(ValueError, match="needs either input_shape or input_dim"):
        layers.Dense(2, input_shape=(7,), input_dim=7)
    for words in ({"input_dim": (3,)}, {"input_dim": 0}, {"input_shape": (None, None, 3)}, {"input_shape": "3"}):
        with pytest.raises((TypeError, ValueError), match="Dense: "):
            layers.Dense(2, **words)


def test_words_that_nobody_knows_are_still_refused():
    with pytest.raises(TypeError, match=r"Did you mean `input_shape`\?"):
        layers.Dense(2, input_shapes=(3,))
    with pytest.raises(TypeError, match="the keywords are dtype, name, input_shape, input_dim; got `nam`"):
        Custom(nam="a")


# ---- the weights of one layer ----


def test_the_weights_of_a_layer_are_a_list_and_go_back():
    model, other = net(), net()
    model.build((6, 6, 1))
    other.build((6, 6, 1))
    for layer in model.layers:
        layer.set_weights([np.full(array.shape, 0.5) + k for k, array in enumerate(layer.get_weights())])
    assert [array.shape for array in model.layers[0].get_weights()] == [(3, 3, 1, 4), (4,)]
    assert len(model.layers[1].get_weights()) == 4
    assert [array[0] for array in model.layers[2].get_weights()] == [0.5, 1.5, 2.5, 3.5]
    assert model.layers[3].get_weights() == []
    assert [array.tobytes() for layer in model.layers for array in layer.get_weights()] != [
        array.tobytes() for layer in other.layers for array in layer.get_weights()
    ]
    for mine, its in zip(model.layers, other.layers, strict=True):
        its.set_weights(mine.get_weights())
    assert other.fingerprint() == model.fingerprint()
    model.layers[0].get_weights()[0][...] = 7  # a copy
    assert other.fingerprint() == model.fingerprint()


def test_weights_that_do_not_fit_change_nothing():
    model = net()
    with pytest.raises(RuntimeError, match=r"Conv2D\.get_weights: needs build"):
        model.layers[0].get_weights()
    model.build((6, 6, 1))
    before, (kernel, bias) = model.fingerprint(), model.layers[0].get_weights()
    for weights in ([kernel], [kernel, bias, bias], [kernel, kernel], [kernel + 1, "a"], kernel, None):
        with pytest.raises((TypeError, ValueError), match=r"Conv2D\.set_weights: "):
            model.layers[0].set_weights(weights)
    assert model.fingerprint() == before


def test_weights_may_be_views_of_the_weights():
    """What is written is what was given, whatever is overwritten on the way."""
    model = mc.Sequential([layers.Dense(4, input_dim=4), layers.Dense(4)], seed=1)
    model.set_weights([k + np.ones(a.shape) for k, a in enumerate(model.get_weights())])
    before, live = model.get_weights(), model.weights
    model.set_weights([live[2], live[3], live[0], live[1]])
    assert_same_bits(np.array([w[0] for w in model.get_weights()[1::2]]), np.array([before[3][0], before[1][0]]))
    assert_same_bits(model.get_weights()[2], before[0])
    layer = build(layers.LayerNormalization(), (3,))
    layer.set_weights([[1.0, 2, 3], [4.0, 5, 6]])
    layer.set_weights(layer.get_weights()[::-1])
    gamma, beta = layer.params.values()
    layer.set_weights([beta, gamma])
    assert [gamma.tolist(), beta.tolist()] == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(("value", "message"), [
    (np.nan, "must hold numbers; got nan"), (1e300, r"must hold numbers that float32 has; got 1e\+300"),
])  # fmt: skip
def test_weights_that_are_no_numbers_of_the_dtype_change_nothing(value, message):
    model = mc.Sequential([layers.Dense(2, input_dim=2)])
    before, bad = model.fingerprint(), [np.zeros((2, 2)), np.array([0, value])]
    for thing in (model, model.layers[0]):
        with pytest.raises(ValueError, match=message):
            thing.set_weights(bad)
    with pytest.raises(ValueError, match=message):
        model.load_state_dict({"0.kernel": bad[0], "0.bias": bad[1]})
    assert model.fingerprint() == before


# ---- an older word for an argument ----


def test_an_argument_of_another_name_in_an_older_file():
    entry = {"layer": "Activation", "config": {"name": "tanh", "dtype": None}, "trainable": True}
    config = net().get_config() | {"layers": [entry]}
    assert mc.Sequential.from_config(config).layers[0].activation == "tanh"
    assert new("Activation").name == "activation"


# ---- brothers ----


def test_entries_may_be_views_of_one_another():
    """Of params, of a state and of an optimiser: what is written is what was given."""
    model = mc.Sequential([layers.BatchNormalization(), layers.Dense(2)])
    model.compile("adam", "mse")
    model.fit(np.arange(12.0).reshape(4, 3), np.ones((4, 2)), verbose=0)
    layer, slots = model.layers[0], model.optimizer.slots
    layer.params["beta"] = [1, 2, 3]
    for values, a, b in (
        (layer.params, "gamma", "beta"),
        (layer.state, "moving_mean", "moving_variance"),
        (slots, "m", "v"),
    ):
        before = values[a].copy(), values[b].copy()
        assert not np.array_equal(*before)
        values.update({a: values[b], b: values[a]})
        assert [values[a].tobytes(), values[b].tobytes()] == [before[1].tobytes(), before[0].tobytes()]
    before = slots["m"].copy(), slots["v"].copy()
    model.optimizer.set_state({"iterations": 1, "m": slots["v"], "v": slots["m"]})
    assert [slots["m"].tobytes(), slots["v"].tobytes()] == [before[1].tobytes(), before[0].tobytes()]


@pytest.mark.parametrize(("made", "message"), [
    (lambda shape: np.full(shape, 1e300), r"Dense: kernel must hold numbers that float32 has; got 1e\+300"),
    (lambda shape: np.full(shape, np.nan), "Dense: kernel must hold numbers; got nan"),
    (lambda shape: np.full(shape, 1j), "Dense: kernel must be an array of numbers"),
    (lambda shape: np.full(shape, "ab"), "Dense: kernel must be an array of numbers"),
])  # fmt: skip
def test_an_initialiser_gives_numbers_of_the_dtype(made, message):
    with pytest.raises((TypeError, ValueError), match=message):
        build(layers.Dense(2, kernel_initializer=lambda shape, rng: made(shape)), (3,))


def test_an_initialisers_array_stays_its_own():
    kept = np.ones((3, 3), np.float32)
    a, b = (build(layers.Dense(3, kernel_initializer=lambda shape, rng: kept), (3,)) for _ in range(2))
    a.set_weights([np.zeros((3, 3)), np.zeros(3)])
    assert kept.all()
    assert b.params["kernel"].all()


def test_an_argument_input_shape_is_what_was_given():
    class Mine(layers.Dense):
        def __init__(self, units, input_shape=None):
            super().__init__(units, input_shape=input_shape)

    model = mc.Sequential([Mine(3), Mine(2, input_shape=(3,))])
    model.build((5,))
    assert [layer.get_config() for layer in model.layers] == [
        {"units": 3, "input_shape": None},
        {"units": 2, "input_shape": (3,)},
    ]


def test_a_custom_object_need_not_keep_its_arguments():
    class Twice(initializers.Constant):
        def __init__(self, half):
            super().__init__(2 * half)

    assert repr(layers.Dense(3, kernel_initializer=Twice(2))) == "Dense(3, kernel_initializer=Twice())"
    assert Twice(2).get_config() == {}
