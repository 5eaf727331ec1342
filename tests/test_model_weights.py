"""Sequential's weights: where they lie, how they are read and set; descriptions; copies."""

import copy
import json
import pickle
import re

import numpy as np
import pytest
from compare import assert_same_bits
from models import IMAGE, LABELS, X, chain, small, trained

import minicnn as mc
from minicnn import layers

# ---- parameters lie in one vector ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_hold_views_of_the_flat_vectors(dtype):
    model = mc.Sequential([*chain()[:-1], layers.Dense(7), layers.Dense(1)], dtype=dtype)
    model.build(IMAGE)
    model.compile("sgd", "mse")
    names = [name for name, *_ in model.segments]
    assert names == ["0.kernel", "0.bias", "2.gamma", "2.beta", "4.kernel", "4.bias", "5.kernel", "5.bias"]
    end = 0
    for (name, offset, size, trainable, decayed), key in zip(model.segments, names, strict=True):
        layer, parameter = model.layers[int(key.split(".")[0])], key.split(".")[1]
        assert offset * model.dtype.itemsize % 64 == 0
        assert offset >= end
        assert trainable is decayed is True
        for vector, arrays in ((model.parameters, layer.params), (model.gradients, layer.grads)):
            view = arrays[parameter]
            assert view.size == size
            assert view.ctypes.data == vector.ctypes.data + offset * vector.itemsize, name
            assert view.ctypes.data % 64 == 0
            assert view.flags.c_contiguous
        end = offset + size
    assert model.parameters.shape == model.gradients.shape
    assert model.parameters.size >= end == sum(model.segments[-1][1:3])
    model.layers[4].params["kernel"][0, 0] = 42
    assert 42 in model.parameters


# ---- weights ----


def test_state_dict_names_and_copies():
    model = trained()
    state = model.state_dict()
    want = ["0.kernel", "0.bias", "2.gamma", "2.beta", "2.moving_mean", "2.moving_variance", "4.kernel", "4.bias"]
    assert list(state) == want
    assert state["0.kernel"].shape == (3, 3, 2, 3)
    assert state["2.moving_mean"].any()
    fingerprint = model.fingerprint()
    for array in (*state.values(), *model.get_weights()):
        array[...] = 0
    assert model.fingerprint() == fingerprint
    deep = mc.Sequential([layers.Dense(1) for _ in range(11)])
    deep.build((1,))
    assert [int(name.split(".")[0]) for name in deep.state_dict()] == sorted([*range(11), *range(11)])


def test_weights_go_from_one_model_to_another():
    source = trained()
    for load in (
        lambda model: model.load_state_dict(source.state_dict()),
        lambda model: model.set_weights(source.get_weights()),
        lambda model: model.set_weights(tuple(array.astype(np.float64) for array in source.get_weights())),
        lambda model: model.set_weights([array.tolist() for array in source.get_weights()]),
    ):
        model = small()
        vector = model.parameters
        load(model)
        assert model.fingerprint() == source.fingerprint()
        assert_same_bits(model.predict(X), source.predict(X))
        assert model.parameters is vector


def test_load_state_dict_is_strict_or_not():
    source, model = trained(), small()
    initial = model.state_dict()
    partial = {"4.bias": source.state_dict()["4.bias"], "9.kernel": np.zeros(3)}
    message = r"the names must be the model's; missing: \['0.kernel', .*\], unknown: \['9.kernel'\]$"
    with pytest.raises(ValueError, match=f"^Sequential.load_state_dict: {message}"):
        model.load_state_dict(partial)
    assert model.fingerprint() == small().fingerprint()
    missing, unknown = model.load_state_dict(partial, strict=False)
    assert sorted(missing) == sorted(set(initial) - {"4.bias"})
    assert unknown == ["9.kernel"]
    assert_same_bits(model.state_dict()["4.bias"], partial["4.bias"])
    assert_same_bits(model.state_dict()["4.kernel"], initial["4.kernel"])
    assert small().load_state_dict(source.state_dict()) == ([], [])


@pytest.mark.parametrize("name", ["0.kernel", "2.moving_variance", "4.bias"])
@pytest.mark.parametrize(("spoil", "error", "message"), [
    (lambda a: a[..., None], ValueError, r"must have shape \(.*\); got shape \("),
    (lambda a: a[..., :1], ValueError, r"must have shape \(.*\); got shape \("),
    (lambda a: np.where(a == a.flat[-1], np.nan, a), ValueError, "must hold numbers; got nan"),
    (lambda a: a.astype(str), TypeError, "must be an array of numbers"),
    (lambda a: a + 1j, TypeError, "must be an array of numbers"),
    (lambda a: None, TypeError, "must be an array of numbers"),
], ids=["axis", "size", "NaN", "text", "complex", "None"])  # fmt: skip
def test_nothing_is_loaded_by_halves(name, spoil, error, message):
    model, state = small(), trained().state_dict()
    before = model.fingerprint()
    state[name] = spoil(state[name])
    for load in (
        lambda: model.load_state_dict(state),
        lambda: model.load_state_dict(state, strict=False),
        lambda: model.set_weights(list(state.values())),
    ):
        with pytest.raises(error, match=f"^Sequential.load_state_dict: {re.escape(name)} {message}"):
            load()
        assert model.fingerprint() == before


def test_weights_of_the_wrong_number_or_kind():
    model = small()
    with pytest.raises(ValueError, match=r"^Sequential.set_weights: needs 8 arrays; got 7$"):
        model.set_weights(model.get_weights()[1:])
    with pytest.raises(TypeError, match=r"^Sequential.set_weights: needs a list of arrays; got 3 \(int\)$"):
        model.set_weights(3)
    with pytest.raises(TypeError, match=r"^Sequential.load_state_dict: d must be a dictionary of arrays; got "):
        model.load_state_dict(model.get_weights())


def test_fingerprint():
    model = small()
    assert re.fullmatch("[0-9a-f]{64}", model.fingerprint())
    assert model.fingerprint() == small().fingerprint() == copy.deepcopy(model).fingerprint()
    fingerprints = {model.fingerprint(), small(dtype="float64").fingerprint()}
    for name in model.state_dict():
        number, key = name.split(".")
        layer = model.layers[int(number)]
        words = {**layer.params, **layer.state}[key].reshape(-1).view(np.uint32)
        words[-1] ^= 1  # the last bit of the last number
        fingerprints.add(model.fingerprint())
        words[-1] ^= 1
    assert len(fingerprints) == 2 + len(model.state_dict())
    assert model.fingerprint() in fingerprints
    zeros = []
    for units, shape in ((6, (4,)), (4, (6,))):  # the same bytes in other shapes
        zeros.append(mc.Sequential([layers.Dense(units, use_bias=False, kernel_initializer="zeros")]))
        zeros[-1].build(shape)
    assert zeros[0].fingerprint() != zeros[1].fingerprint()
    one = mc.Sequential([layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    one.build((1,))
    # sha256(b"0.kernel (1, 1) float32\n\x00\x00\x80\x3f"), computed outside of minicnn
    assert one.fingerprint() == "da0fa24ba32197571b50b989ac600529a67f826dbf740c97cb7c9ade28749ef7"


# ---- descriptions ----


def test_summary(capsys):
    model = mc.Sequential([
        layers.Conv2D(8, 3, padding="same", activation="relu"), layers.MaxPooling2D(2), layers.Dropout(0.25),
        layers.Flatten(), layers.Dense(10, activation="softmax"),
    ])  # fmt: skip
    model.build((8, 8, 1))
    text = """\
layer           output shape  params   share  multiply-adds
-----------------------------------------------------------
0 Conv2D        (8, 8, 8)         80   5.8 %          4,608
1 MaxPooling2D  (4, 4, 8)          0                      0
2 Dropout       (4, 4, 8)          0                      0
3 Flatten       (128,)             0                      0
4 Dense         (10,)          1,290  94.2 %          1,280
-----------------------------------------------------------
total           (8, 8, 1) ->   1,370                  5,888"""
    assert model.summary_text() == text
    assert model.summary() is None
    captured = capsys.readouterr()
    assert captured.out == text + "\n"
    assert captured.err == ""
    assert model.count_params() == 3 * 3 * 8 + 8 + 128 * 10 + 10
    bare = mc.Sequential([layers.Flatten()])
    bare.build((2, 2))
    assert "100" not in bare.summary_text()


def test_multiply_adds():
    model = mc.Sequential([layers.Conv2D(6, 3, strides=2, groups=2), layers.BatchNormalization(), layers.Dense(5)])
    model.build((9, 7, 4))
    assert [layer.multiply_adds() for layer in model.layers] == [4 * 3 * 3 * 3 * 2 * 6, 0, 4 * 3 * 6 * 5]


def test_configuration():
    model = small()
    model.layers[0].trainable = False
    config = json.loads(json.dumps(model.get_config()))
    again = mc.Sequential.from_config(config)
    assert not again.built
    assert again.layers[0].trainable is False
    assert again.fingerprint() == model.fingerprint()  # built from the shape that it declares
    assert json.loads(json.dumps(again.get_config())) == config
    unbuilt = mc.Sequential(chain(), seed=5, dtype="float64")
    again = mc.Sequential.from_config(json.loads(json.dumps(unbuilt.get_config())))
    assert (again.seed, again.dtype, again.built) == (5, np.float64, False)
    assert repr(again) == repr(unbuilt)
    config["layers"][1]["layer"] = "Dropuot"
    with pytest.raises(
        ValueError, match=r"^Sequential.from_config: every layer must be one of minicnn's or be given in"
    ):
        mc.Sequential.from_config(config)


def test_repr():
    model = mc.Sequential([layers.Dense(8, activation="relu"), layers.Dropout(0.5), layers.Dense(3)], seed=2)
    assert repr(model) == ("Sequential([Dense(8, activation='relu'), Dropout(0.5), Dense(3)], seed=2, dtype='float32')")


# ---- copies ----

DUPLICATES = {"deepcopy": copy.deepcopy, "copy": copy.copy, "pickle": lambda model: pickle.loads(pickle.dumps(model))}


@pytest.mark.parametrize("how", DUPLICATES)
@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW"])
def test_training_goes_on_on_a_copy_bit_for_bit(how, optimizer):
    model = small()
    options = {"momentum": 0.9} if optimizer == "SGD" else {}
    model.compile(getattr(mc.optimizers, optimizer)(0.01, **options), "sparse_categorical_crossentropy", ["accuracy"])
    model.fit(X, LABELS, batch_size=5, epochs=2, verbose=0)
    model.train()
    other = DUPLICATES[how](model)
    assert other.training is True
    assert other.fingerprint() == model.fingerprint()
    assert_same_bits(other.predict(X), model.predict(X))
    before = other.fingerprint()
    history = model.fit(X, LABELS, batch_size=5, epochs=4, initial_epoch=2, verbose=0).history
    assert other.fingerprint() == before != model.fingerprint()
    assert other.fit(X, LABELS, batch_size=5, epochs=4, initial_epoch=2, verbose=0).history == history
    assert other.fingerprint() == model.fingerprint()
    assert other.optimizer.iterations == model.optimizer.iterations == 12
    assert not np.shares_memory(other.parameters, model.parameters)
    assert all(layer.params["kernel"].base is not None for layer in other.layers if "kernel" in layer.params)
    assert np.shares_memory(other.layers[0].params["kernel"], other.parameters)
    assert other.layers[0].params["kernel"].ctypes.data % 64 == 0


def test_a_copy_of_a_model_that_is_not_built():
    model = copy.deepcopy(mc.Sequential(chain(), seed=1))
    assert model.predict(X).shape == (12, 4)
    assert model.fingerprint() == small().fingerprint()
