"""Custom layers that hold layers: that they work without a word, and what a hostile user tried."""

import collections
import copy
import dataclasses
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from compare import assert_same_bits
from nesting import FLAT, LABELS, NAMES, SHAPE, Holder, MadeInBuild, Naive, X, Y, naive
from running import at_once

import minicnn as mc
from minicnn import layers, saving
from minicnn.layer import in_python, is_frozen, path_of
from minicnn.testing import gradcheck

# ---- custom layers that hold layers ----


def test_a_custom_layer_that_holds_layers_works_without_a_word(tmp_path):
    assert gradcheck(Naive(), FLAT[:5].astype(float))
    model = naive()
    model.build((4,))
    before = model.state_dict()
    assert list(before) == [f"{path}.{key}" for path in (*NAMES, "1") for key in ("kernel", "bias")]
    gradcheck(model, FLAT[:5].astype(float))
    model.fit(FLAT, LABELS, 8, 2, verbose=0)
    assert not any(np.array_equal(array, before[name]) for name, array in model.state_dict().items())
    model.save(tmp_path / "m.npz")
    again = mc.Sequential.load(tmp_path / "m.npz", {"Naive": Naive})
    assert again.fingerprint() == model.fingerprint()
    assert copy.deepcopy(model).fingerprint() == pickle.loads(pickle.dumps(model)).fingerprint() == model.fingerprint()


def test_what_was_set_in_a_part_that_the_constructor_makes_is_in_the_file(tmp_path):
    layer = Naive()
    layer.body[0].trainable = False
    layer.more[0].kernel_regularizer = "l2"
    model = naive(layer)
    model.build((4,))
    model.save(tmp_path / "m.npz")
    again = mc.Sequential.load(tmp_path / "m.npz", {"Naive": Naive})
    assert not again.get_layer("0.body.0").trainable
    assert again.penalty() == model.penalty() > 0


def test_a_layer_that_is_made_in_build_is_found(tmp_path):
    model = naive(MadeInBuild())
    model.fit(FLAT, LABELS, 8, 1, verbose=0)
    assert list(model.state_dict()) == ["0.inner.kernel", "0.inner.bias", "1.kernel", "1.bias"]
    model.save(tmp_path / "m.npz")
    again = mc.Sequential.load(tmp_path / "m.npz", {"MadeInBuild": MadeInBuild})
    assert again.fingerprint() == model.fingerprint()
    assert path_of(again.get_layer("0.inner")) == "0.inner"


def test_other_layers_than_those_that_were_built_are_an_error():
    model = naive()
    model.fit(FLAT, LABELS, 8, 1, verbose=0)
    model.layers[0].more = ()
    with pytest.raises(RuntimeError, match=r"^Naive: the layers that a layer holds stay .*; got .* in 0\.more\.0"):
        model.fit(FLAT, LABELS, 8, 1, verbose=0)
    with pytest.raises(RuntimeError, match="the layers that a layer holds stay"):
        model.predict(FLAT)


class Noisy(Naive):
    def __init__(self, rate=0.5):
        super().__init__()
        self.rate = rate
        self.more = (layers.Dropout(rate), layers.Dense(4))


class Gated(layers.Composite):
    """y = a(x) * b(x): written once for all modes."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b

    def build(self, input_shape, rng):
        shape = super().build(input_shape, rng)
        self.build_part(self.b, shape, rng)
        return self.build_part(self.a, shape, rng)

    def flow(self, x, call):
        a, b = call(self.a, x), call(self.b, x)
        return a * b, a, b

    def backward(self, dy):
        dy, (a, b) = self.check_gradient(dy)
        return self.backward_part(self.a, dy * b) + self.backward_part(self.b, dy * a)


def gated():
    return Gated([layers.Dense(4), layers.Dropout(0.4)], [layers.Dense(4, "sigmoid")])


def test_hidden_noise_is_an_error_for_monte_carlo():
    model = naive(Noisy())
    model.fit(FLAT, LABELS, 8, 1, verbose=0)
    with pytest.raises(TypeError, match=r"^Sequential.predict_mc: .*0\.more\.0.*Composite with flow"):
        model.predict_mc(FLAT, 3)
    outer = mc.Sequential([layers.Residual(Noisy()), layers.Dense(3)])
    outer.build((4,))
    with pytest.raises(TypeError, match=r"0\.body\.0\.more\.0"):
        outer.predict_mc(FLAT, 3)


def test_a_custom_composite_says_its_flow_once(tmp_path):
    gradcheck(gated(), FLAT[:5].astype(float))
    model = naive(layers.Residual(gated()))
    model.fit(FLAT, LABELS, 8, 2, verbose=0)
    samples = model.predict_mc(FLAT, 5, seed=1, return_samples=True).samples
    assert len({array.tobytes() for array in samples}) == 5
    assert_same_bits(samples, model.predict_mc(FLAT, 5, seed=1, batch_size=5, return_samples=True).samples)
    model.save(tmp_path / "m.npz")
    again = mc.Sequential.load(tmp_path / "m.npz", {"Gated": Gated})
    assert_same_bits(again.predict_mc(FLAT, 5, seed=1, return_samples=True).samples, samples)
    assert_same_bits(again.predict(FLAT), model.predict(FLAT))


def test_a_composite_that_holds_a_custom_layer_runs_as_python():
    model = mc.Sequential([layers.Residual([Naive()]), layers.Residual([layers.Dense(4)]), layers.Dense(3)], seed=1)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(FLAT, LABELS, 8, 1, verbose=0)
    assert [in_python(layer) for layer in model.layers] == [True, False, False]
    gradcheck(model, FLAT[:4].astype(float))


# ---- what a hostile user tried ----


class Holding(Holder):
    """Holds what ``put(self)`` has put somewhere; it returns a function that gives them."""

    def __init__(self, put):
        super().__init__()
        self._put_them = put

    def build(self, input_shape, rng):
        self.inner = self._put_them(self)
        return super().build(input_shape, rng)


def put_set(self):
    self.found = {layers.Dense(4)}
    return lambda: self.found


def put_object(self):
    self.found = np.array([layers.Dense(4), layers.Dense(4)], dtype=object)
    return lambda: self.found


def put_closure(self):
    dense = layers.Dense(4)
    return lambda: [dense]


@pytest.mark.parametrize("put", [put_set, put_object, put_closure])
def test_layers_where_nobody_looks_are_an_error(put):
    with pytest.raises(
        ValueError, match=r"layer 0: Holding: the layers that a layer holds must be in .*; got Dense somewhere"
    ):
        naive(Holding(put)).build((4,))


@pytest.mark.parametrize("key", ["a.b", "", "a/b", "../x", "\n", ("a",), 1.0, -1, True])
def test_keys_that_are_no_part_of_a_name_are_refused(key):
    layer = Naive()
    layer.by_name = {"last": layers.Dense(4), key: layers.Dense(4)}
    with pytest.raises(ValueError, match="keys of a dictionary that holds layers must be words"):
        mc.Sequential([layer])


def test_keys_that_give_one_name_are_refused():
    layer = Naive()
    layer.by_name = {"1x": 3, 1: layers.Dense(4), "last": layers.Dense(4)}
    assert "by_name.1" in layer.parts
    layer.by_name = [layers.Dense(4)]
    vars(layer)["by_name"] = {0: layers.Dense(4), "last": layers.Dense(4)}
    assert {"by_name.0", "by_name.last"} <= layer.parts.keys()


class Taking(Holder):
    """Takes layers as arguments: one, a list, a dictionary; and makes a composite by itself."""

    def __init__(self, one, several, named, rate=0.1):
        super().__init__()
        self.one, self.several, self.named, self.rate = one, several, named, rate
        self.made = layers.Residual([layers.Conv2D(3, 3, padding="same"), layers.BatchNormalization()])
        self.pool = layers.AveragePooling2D(2, strides=1, padding="same")

    def inner(self):
        return [self.one, *self.several, *self.named.values(), self.made, self.pool]


def taking():
    arguments = layers.Conv2D(3, (3, 2), padding="same"), [layers.MaxPooling2D(2, strides=1), layers.ZeroPadding2D(1)]
    return Taking(*arguments, {"b": layers.Conv2D(3, 1), "a": layers.Dense(3)})


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: None,
        lambda layer: layer.freeze(),
        lambda layer: setattr(layer.made.body[0], "kernel_regularizer", "l2"),
        lambda layer: setattr(layer.made.body[1], "momentum", 0.5),
        lambda layer: setattr(layer.named["b"], "trainable", False),
    ],
)
def test_whatever_a_custom_layer_holds_is_in_its_file(change, tmp_path):
    layer = taking()
    change(layer)
    model = mc.Sequential([layer, layers.Flatten(), layers.Dense(4)], seed=2)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(X, Y, 8, 1, verbose=0)
    saving.save_checkpoint(model, tmp_path / "m.npz", 1, {})
    again, _, _ = saving.load_checkpoint(tmp_path / "m.npz", {"Taking": Taking})
    assert again.get_config() == model.get_config()
    assert_same_bits(again.predict(X), model.predict(X))
    for each in (model, again):
        each.fit(X, Y, 8, 2, initial_epoch=1, verbose=0)
    assert again.fingerprint() == model.fingerprint()


@pytest.mark.parametrize("kind", [dict, collections.OrderedDict])
def test_dictionaries_of_arguments_with_other_keys_than_strings_are_refused(kind, tmp_path):
    layer = taking()
    layer.named = kind({2: layers.Dense(3), 10: layers.Dense(3)})
    model = mc.Sequential([layer])
    model.build(SHAPE)
    with pytest.raises(TypeError, match="must be strings, for a file keeps no others; got 2"):
        model.save(tmp_path / "m.npz")


def test_a_frozen_layer_freezes_what_it_makes_later():
    class Normalizing(MadeInBuild):
        def build(self, input_shape, rng):
            shape = mc.Layer.build(self, input_shape, rng)
            self.inner = layers.BatchNormalization()
            return self.inner.build(shape, rng)

    layer = Normalizing()
    layer.freeze()
    model = naive(layer)
    model.build((4,))
    before = model.state_dict()
    model.fit(FLAT, LABELS, 8, 1, verbose=0)
    after = model.state_dict()
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {"1.kernel", "1.bias"}


def test_flags_of_a_layer_that_is_made_in_build_are_in_the_file(tmp_path):
    model = naive(MadeInBuild())
    model.build((4,))
    model.get_layer("0.inner").trainable = False
    model.get_layer("0.inner").bias_regularizer = "l1"
    model.save(tmp_path / "m.npz")
    again = mc.Sequential.load(tmp_path / "m.npz", {"MadeInBuild": MadeInBuild})
    assert again.get_config() == model.get_config()
    assert not again.get_layer("0.inner").trainable


def test_masks_of_a_custom_layer_alone_differ():
    class Two(mc.Layer):
        def build(self, input_shape, rng):
            shape = super().build(input_shape, rng)
            self.drops = [layers.Dropout(0.5), layers.Dropout(0.5)]
            for drop in self.drops:
                drop.build(shape, rng)
            return shape

    two = Two()
    two.build((200,), np.random.default_rng(0))
    masks = [drop.forward(np.ones((2, 200)), training=True) > 0 for drop in two.drops]
    assert not np.array_equal(*masks)


def test_a_custom_layer_in_a_custom_layer_knows_its_shapes():
    class Outer(MadeInBuild):
        def build(self, input_shape, rng):
            shape = mc.Layer.build(self, input_shape, rng)
            self.inner = Wider(7)
            return self.inner.build(shape, rng)

    class Wider(mc.Layer):
        def __init__(self, units):
            super().__init__()
            self.units, self.dense = units, layers.Dense(units)

        def build(self, input_shape, rng):
            return self.dense.build(super().build(input_shape, rng), rng)

        def forward(self, x, training=False):
            x = self.check_input(x)
            if training:
                self.keep(len(x))
            return self.dense.forward(x, training)

        def backward(self, dy):
            return self.dense.backward(self.check_gradient(dy)[0])

    gradcheck(Outer(), FLAT[:4].astype(float))
    model = naive(Outer())
    model.fit(FLAT, LABELS, 8, 1, verbose=0)
    assert model.get_layer("0.inner").output_shape == (7,)


def test_a_held_layer_that_is_not_built_is_named():
    layer = Naive()
    layer.spare = layers.Residual(layers.Conv2D(3, 3))
    with pytest.raises(ValueError, match="layer 0: Naive: its build must build all layers that it holds; spare is not"):
        naive(layer).build((4,))


def test_a_sample_of_its_own_counts_beside_parts():
    class OwnNoise(Naive):
        def sample(self, x, lot):
            return self.forward(x) + np.arange(len(x))[:, None]

    model = mc.Sequential([OwnNoise(), layers.Dense(4), layers.Dropout(0.5), layers.Dense(3)], seed=2)
    model.build((4,))
    with_part = model.predict_mc(FLAT[:5], 2, seed=1).mean
    model.layers[2].rate = 0.0
    assert not np.array_equal(with_part, model.predict(FLAT[:5]))
    assert not np.array_equal(model.predict_mc(FLAT[:5], 2, seed=1).mean, model.predict(FLAT[:5]))


def test_processes_leave_references_to_layers_alone():
    pytest.importorskip("joblib")

    class Referring(Naive):
        def __init__(self):
            super().__init__()
            self.state_of_mine = {"calls": 0, "dense": self.body[0]}
            self.body = []

        def inner(self):
            return [self.state_of_mine["dense"], *self.more, self.by_name["last"]]

    found = []
    for processes in (1, 2):
        members = [naive(Referring()), naive(Referring())]
        members[1].build((4,))
        members[1].parameters[...] *= 2
        ensemble = mc.Ensemble(members)
        for _ in range(2):
            ensemble.fit(FLAT, LABELS, n_jobs=processes, batch_size=8, epochs=1, verbose=0)
        found.append([member.predict(FLAT) for member in ensemble.members])
    for one, other in zip(*found, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("settings", [{"seed": 7}, {"dtype": "float64"}, {"algorithm": "exact"}])
def test_settings_of_an_inner_model_are_not_dropped(settings):
    with pytest.raises(RuntimeError, match=f"takes the other one's {next(iter(settings))}"):
        mc.Sequential([mc.Sequential([layers.Dense(3)], **settings)])


def test_a_model_with_a_forward_of_its_own_is_no_chain():
    class Own(mc.Sequential):
        def forward(self, x, training=None):
            return 2 * super().forward(x, training)

    with pytest.raises(RuntimeError, match="a model with a forward of its own cannot stand in another one"):
        mc.Sequential([Own([layers.Dense(3)])])


def test_a_subclass_may_write_into_what_its_parts_give():
    class Doubling(layers.Residual):
        def flow(self, x, call):
            a = call(self.body, x)
            a *= 2
            return a + call(self.shortcut, x), a

        def backward(self, dy):
            dy, _ = self.check_gradient(dy)
            return self.backward_part(self.body, 2 * dy) + self.backward_part(self.shortcut, dy)

    gradcheck(Doubling([layers.Dense(4, "tanh")]), FLAT[:4].astype(float))
    gradcheck(mc.Sequential([Doubling([layers.Dense(4, "tanh")]), layers.Dense(3)]), FLAT[:4].astype(float))


def test_a_part_that_is_called_twice_is_an_error():
    class Siamese(layers.Composite):
        def __init__(self):
            super().__init__()
            self.tower = layers.Dense(3)

        def build(self, input_shape, rng):
            return self.build_part(self.tower, super().build(input_shape, rng), rng)

        def flow(self, x, call):
            return call(self.tower, x) + call(self.tower, -x)

    model = naive(Siamese())
    assert model.predict(FLAT).shape == (24, 3)
    with pytest.raises(
        RuntimeError, match=r"Siamese: in training a layer must be called once in a pass; got a second call of tower"
    ):
        model.fit(FLAT, LABELS, verbose=0)


def test_a_backward_that_was_replaced_is_called():
    calls = []
    model = mc.Sequential([layers.Dense(4), layers.Chain([layers.Dense(3, "softmax")])])
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.build((4,))
    for path in ("0", "1.layers.0"):
        layer = model.get_layer(path)
        layer.backward = lambda dy, layer=layer: calls.append(layer) or type(layer).backward(layer, dy)
    model.fit(FLAT, LABELS, 24, 1, verbose=0)
    assert calls == [model.get_layer("1.layers.0"), model.layers[0]]


def test_dtypes_in_a_composite_must_agree():
    with pytest.raises(ValueError, match="dtype: must be that of the layer around it, float64; got float32 of Dense"):
        layers.Residual([layers.Dense(4, dtype="float32")], dtype="float64").build((4,), np.random.default_rng(0))


def test_the_layer_whose_output_is_not_finite_is_named():
    model = mc.Sequential([layers.Residual([layers.Dense(4), layers.Chain([layers.Dense(4)])]), layers.Dense(3)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.build((4,))
    model.get_layer("0.body.1.layers.0").params["kernel"][...] = np.inf
    with pytest.raises(FloatingPointError, match=r"the output of layer 0\.body\.1\.layers\.0, Dense"):
        model.fit(FLAT, LABELS, verbose=0)


def test_custom_layers_in_custom_layers_do_not_double_the_file():
    def nest(depth):
        return Deep(nest(depth - 1) if depth else layers.Dense(4))

    class Deep(mc.Layer):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

    sizes = [len(json.dumps(mc.layer.to_config(nest(depth)))) for depth in (4, 8, 12)]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0]


def test_a_layer_of_another_model_is_not_taken_in_build():
    other = mc.Sequential([layers.Dense(4)])
    other.build((4,))

    class Stealing(MadeInBuild):
        def build(self, input_shape, rng):
            shape = mc.Layer.build(self, input_shape, rng)
            self.inner = other.layers[0]
            return self.inner.build(shape, rng)

    with pytest.raises(ValueError, match="Dense: a layer can stand in one model only"):
        naive(Stealing()).build((4,))
    assert np.shares_memory(other.layers[0].params["kernel"], other.parameters)


def test_a_part_that_became_another_layer_does_not_load(tmp_path):
    class Changing(Naive):
        last = layers.ReLU

        def __init__(self):
            super().__init__()
            self.more = (self.last(), layers.Dense(4))

    model = naive(Changing())
    model.build((4,))
    model.save(tmp_path / "m.npz")
    Changing.last = layers.Tanh
    with pytest.raises(mc.ModelFileError, match="must be a ReLU, as it was when it was saved"):
        mc.Sequential.load(tmp_path / "m.npz", {"Changing": Changing})


def test_freezing_leaves_the_argument_alone():
    model = mc.Sequential([layers.BatchNormalization(inference=True), layers.BatchNormalization(), layers.Dense(2)])
    model.build((3,))
    for _ in range(2):
        model.freeze()
        assert [layer.inference for layer in model.layers[:2]] == [True, False]
        assert all(map(is_frozen, model.layers))
        model.unfreeze()
        assert [layer.inference for layer in model.layers[:2]] == [True, False]
        assert not any(map(is_frozen, model.layers))
    layer = Naive()
    layer.inference = 3  # of a custom layer: whatever it is
    layer.freeze()
    assert layer.inference == 3


def test_a_copy_of_a_layer_is_on_its_own():
    model = mc.Sequential([layers.Dense(4, "relu"), layers.Dense(3)])
    model.build((4,))
    assert copy.deepcopy(model).layers[0].in_chain
    alone = copy.deepcopy(model.layers[0])
    assert not alone.in_chain
    y = alone.forward(FLAT, training=True)
    want = y > 0
    y[...] = 1
    alone.backward(np.ones_like(y))
    assert_same_bits(alone.grads["bias"], want.sum(0).astype("f"))


def test_a_cache_in_a_custom_layer_disturbs_no_other_thread():
    class Caching(Naive):
        def forward(self, x, training=False):
            setattr(self, f"cache{len(vars(self))}", {len(x): 0})
            return super().forward(x, training)

    model = naive(Caching())
    model.build((4,))
    at_once(4, lambda i: [model.predict(FLAT) for _ in range(50)])


def test_a_dataclass_may_be_a_layer():
    @dataclasses.dataclass
    class Doubling(mc.Layer):
        factor: float = 2.0

        def forward(self, x, training=False):
            return self.factor * self.check_input(x)

    model = mc.Sequential([layers.Dropout(0.5), Doubling(), layers.Residual(Doubling()), layers.Dense(3)])
    model.build((4,))
    assert model.predict_mc(FLAT, 3).std.any()


def test_a_layer_that_refers_back_is_refused():
    layer = Naive()
    layer.body[0] = Naive()
    layer.body[0].parent = layer
    with pytest.raises(ValueError, match="a layer can stand in one place only"):
        layer.trainable = False
    with pytest.raises(ValueError, match="a layer can stand in one place only"):
        mc.Sequential([layer])


def test_long_lists_of_numbers_are_not_searched_in_every_step(monkeypatch):
    layer = Naive()
    layer.numbers = list(range(1000))
    model = naive(layer)
    model.fit(FLAT, LABELS, 8, 1, verbose=0)
    searched = []
    monkeypatch.setattr(mc.Layer, "parts", property(lambda self: searched.append(self) or {}))
    model.engine.settle()
    assert searched == []
    monkeypatch.undo()
    for change in ({"numbers": [layers.Dense(4)]}, {"_more": layers.Dense(4)}, {"several": {"new": layers.Dense(4)}}):
        changed = naive()
        changed.fit(FLAT, LABELS, 8, 1, verbose=0)
        vars(changed.layers[0]).update(change)  # whatever the way
        with pytest.raises(RuntimeError, match=rf"in 0\.{next(iter(change))}"):
            changed.predict(FLAT)


SCRIPT = """
import numpy as np
import minicnn as mc
from minicnn import layers

class Scaled(mc.Layer):
    def build(self, input_shape, rng):
        self.inner = layers.Dense(4)
        return self.inner.build(super().build(input_shape, rng), rng)

    def forward(self, x, training=False):
        return self.inner.forward(x, training=training)

    def backward(self, dy):
        return self.inner.backward(dy)

if __name__ == "__main__":
    x, y = np.random.default_rng(0).normal(size=(24, 4)), np.arange(24) % 3
    found = []
    for processes in (1, 2):
        ensemble = mc.Ensemble([mc.Sequential([Scaled(), layers.Dense(3)], seed=seed) for seed in (1, 2)])
        for model in ensemble.members:
            model.compile("adam", "sparse_categorical_crossentropy")
        ensemble.fit(x, y, verbose=0, n_jobs=processes)
        found.append([model.fingerprint() for model in ensemble.members])
    print(found[0] == found[1])
"""


def test_a_custom_layer_of_a_script_is_trained_in_processes(tmp_path):
    pytest.importorskip("joblib")
    (tmp_path / "script.py").write_text(SCRIPT)
    result = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=False)
    assert result.stdout == "True\n", result.stderr


def test_settings_that_are_no_arguments_of_a_subclass_are_refused_by_save(tmp_path):
    class Block(layers.Residual):
        def __init__(self, units):
            super().__init__([layers.Dense(units)], activation="relu")
            self.units = units

    model = mc.Sequential([Block(4), layers.Dense(3)])
    model.build((4,))
    model.save(tmp_path / "m.npz")
    model.layers[0].activation = "tanh"
    with pytest.raises(ValueError, match=r"layer 0: Block: activation .* no argument .*; got 'tanh'"):
        model.save(tmp_path / "m.npz")


@pytest.mark.parametrize(("base", "arguments"), [
    (layers.Conv2D, (4, 3)), (layers.SeparableConv2D, (4, 3)), (layers.Conv2DTranspose, (4, 3)),
    (layers.Activation, (layers.LeakyReLU(0.3),)),
])  # fmt: skip
def test_a_subclass_without_the_argument_activation_is_saved(base, arguments, tmp_path):
    class Mine(base):
        def __init__(self, dtype=None):
            super().__init__(*arguments, dtype=dtype)

    model = mc.Sequential([Mine(), layers.Flatten(), layers.Dense(2)])
    model.build((6, 6, 2))
    assert "activation" not in model.layers[0].get_config()
    model.save(tmp_path / "m.npz")
    assert mc.Sequential.load(tmp_path / "m.npz", {"Mine": Mine}).fingerprint() == model.fingerprint()


def test_build_may_be_called_by_keywords():
    class Mine(mc.Layer):
        def build(self, shape, rng):
            return shape

    for named in ({"shape": (4,), "rng": None}, {"rng": None, "shape": (4,)}):
        layer = Mine(input_shape=(4,))
        assert layer.build(**named) == layer.input_shape == (4,)
        with pytest.raises(ValueError, match=r"input_shape is said to be \(5,\)"):
            Mine(input_shape=(5,)).build(**named)


def test_layers_without_a_build_of_their_own_are_found_or_refused(tmp_path):
    def put(self):
        self.found = {layers.GaussianDropout(0.5)}
        return lambda: self.found

    with pytest.raises(ValueError, match="got GaussianDropout somewhere else"):
        naive(Holding(put)).build((4,))


def test_a_layer_of_another_model_is_not_taken_unbuilt_either():
    other = mc.Sequential([layers.Dense(4)])
    other.build((4,))
    before = other.fingerprint()

    class Stealing(MadeInBuild):
        def build(self, input_shape, rng):
            self.inner = other.layers[0]
            return mc.Layer.build(self, input_shape, rng)

    with pytest.raises(ValueError, match="Dense: a layer can stand in one model only"):
        naive(Stealing()).build((4,))
    assert other.fingerprint() == before
    other.predict(FLAT)


def test_what_is_thrown_away_in_build_is_no_matter():
    class Probing(MadeInBuild):
        def build(self, input_shape, rng):
            probe = layers.Dense(7)
            probe.build(input_shape, rng)
            mc.Sequential([layers.Dense(3)]).build(input_shape)
            return super().build(input_shape, rng)

    model = naive(Probing())
    model.fit(FLAT, LABELS, verbose=0)
    assert list(model.state_dict()) == ["0.inner.kernel", "0.inner.bias", "1.kernel", "1.bias"]


def test_a_model_that_is_made_in_build_and_kept_is_refused():
    class Keeping(MadeInBuild):
        def build(self, input_shape, rng):
            self.hidden = {mc.Sequential([layers.Dense(3)])}
            for model in self.hidden:
                model.build(input_shape)
            return super().build(input_shape, rng)

    with pytest.raises(TypeError, match="a layer can hold layers, but no model"):
        naive(Keeping()).build((4,))


def test_more_layers_than_the_file_has_are_refused(tmp_path):
    class Growing(Naive):
        more_layers = ()

        def __init__(self):
            super().__init__()
            self.extra = [make() for make in self.more_layers]

    model = naive(Growing())
    model.build((4,))
    model.save(tmp_path / "m.npz")
    Growing.more_layers = (layers.ReLU,)
    with pytest.raises(mc.ModelFileError, match=r"extra\.0 was not there"):
        mc.Sequential.load(tmp_path / "m.npz", {"Growing": Growing})


def test_what_was_said_of_late_parts_stays(tmp_path):
    model = naive(MadeInBuild())
    model.build((4,))
    model.freeze()
    model.get_layer("0.inner").unfreeze()
    model.save(tmp_path / "m.npz")
    again = mc.Sequential.load(tmp_path / "m.npz", {"MadeInBuild": MadeInBuild})
    assert again.get_config() == model.get_config()
    unbuilt = mc.Sequential.from_config(model.get_config(), {"MadeInBuild": MadeInBuild})
    assert unbuilt.get_config() == model.get_config()
    model.freeze()
    thawed = mc.Sequential.from_config(model.get_config(), {"MadeInBuild": MadeInBuild})
    thawed.unfreeze()
    thawed.build((4,))
    assert thawed.get_layer("0.inner").trainable


def test_layers_and_numbers_in_one_argument_of_a_held_layer(tmp_path):
    class Mixed(mc.Layer):
        def __init__(self, things):
            super().__init__()
            self.things = things

        def build(self, input_shape, rng):
            return self.things["dense"].build(super().build(input_shape, rng), rng)

        def forward(self, x, training=False):
            return self.things["scale"] * self.things["dense"].forward(x, training=training)

    class Outer(MadeInBuild):
        def __init__(self):
            super().__init__()
            self.inner = Mixed({"dense": layers.Dense(4), "scale": 1.0})

        def build(self, input_shape, rng):
            return self.inner.build(mc.Layer.build(self, input_shape, rng), rng)

    layer = Outer()
    layer.inner.things["scale"] = 3.0
    layer.inner.things["dense"].bias_regularizer = "l2"
    model = naive(layer)
    model.build((4,))
    model.save(tmp_path / "m.npz")
    again = mc.Sequential.load(tmp_path / "m.npz", {"Outer": Outer, "Mixed": Mixed})
    assert_same_bits(again.predict(FLAT), model.predict(FLAT))
    assert again.get_config() == model.get_config()


def test_a_model_without_parameters_can_be_evaluated_and_fitted():
    model = mc.Sequential([layers.Chain([layers.Flatten()]), layers.Softmax()])
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = model.evaluate(FLAT, LABELS)
    assert model.fit(FLAT, LABELS, verbose=0).history["loss"] == [pytest.approx(before)]


def test_chains_take_what_can_be_iterated():
    assert len(layers.Chain(layers.Dense(3) for _ in range(3)).layers) == 3


def test_a_part_that_backward_forgets_is_named():
    class Forgetful(Gated):
        def backward(self, dy):
            dy, (_, b) = self.check_gradient(dy)
            return self.backward_part(self.a, dy * b)

    model = naive(Forgetful([layers.Dense(4), layers.Dropout(0.4)], [layers.Dense(4, "sigmoid")]))
    with pytest.raises(RuntimeError, match=r"^Forgetful.backward: must ask every part .*; got not b\.0\nat "):
        model.fit(FLAT, LABELS, verbose=0)


def test_what_flow_gives_back_and_takes_is_looked_at():
    class Nothing(layers.Composite):
        def __init__(self, part=None):
            super().__init__()
            self.part = part

        def flow(self, x, call):
            return call(self.part, x) if self.part is not None else None

    with pytest.raises(TypeError, match=r"^Nothing.flow: flow must return y, an array.*; got None"):
        naive(Nothing()).predict(FLAT)
    layer = Nothing()
    layer.build((4,), np.random.default_rng(0))
    vars(layer)["part"] = mc.Sequential([layers.Dense(3)])
    with pytest.raises(TypeError, match="a part must be a layer or a list of layers, not a model"):
        layer.forward(FLAT)
