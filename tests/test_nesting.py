"""Layers that hold layers, in a model: names, training in one plan, files, samples, and what is refused."""

import copy
import dataclasses
import json
import pickle
import re
import tracemalloc

import numpy as np
import pytest
from compare import assert_same_bits
from running import at_once, normal, use_threads

import minicnn as mc
from minicnn import layers, saving, thinning, training
from minicnn.cli import main
from minicnn.layer import in_python, path_of
from minicnn.plan import Plan
from minicnn.testing import GradientError, gradcheck
from minicnn.tree import walk

SHAPE = (6, 6, 3)
X = normal((24, *SHAPE), "float32", 7)
Y = np.arange(24) % 4


def convolution(filters=4, **more):
    return layers.Conv2D(filters, 3, padding="same", **more)


def nested(seed=3, dtype="float32", **more):
    """Every composite, one in another, with everything in them that a step has to care for."""
    model = mc.Sequential(
        [
            convolution(activation="relu"),
            layers.Residual(
                [
                    convolution(use_bias=False),
                    layers.BatchNormalization(),
                    layers.ReLU(),
                    layers.Dropout(0.3),
                    layers.Residual(convolution(kernel_regularizer="l2", activity_regularizer="l1")),
                ],
                [layers.Conv2D(4, 1, kernel_constraint="max_norm")],
                activation="relu",
            ),
            layers.Concurrent(
                [[], [convolution(3, activation="relu"), layers.SpatialDropout2D(0.4)], layers.Conv2D(2, 1)]
            ),
            layers.Chain([convolution(5, activation="relu"), layers.MaxPooling2D(2), layers.GaussianDropout(0.2)]),
            layers.Flatten(),
            layers.Dense(4, "softmax"),
        ],
        seed=seed,
        dtype=dtype,
        **more,
    )
    model.compile(mc.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy", ["accuracy"])
    return model


def trained(model=None, epochs=2):
    model = nested() if model is None else model
    model.fit(X, Y, 8, epochs, verbose=0)
    return model


# ---- names ----


def test_names_are_paths_in_the_order_of_the_walk():
    model = nested()
    model.build(SHAPE)
    assert list(model.state_dict()) == [
        *("0.kernel", "0.bias"),
        *("1.body.0.kernel", "1.body.1.gamma", "1.body.1.beta", "1.body.1.moving_mean", "1.body.1.moving_variance"),
        *("1.body.4.body.0.kernel", "1.body.4.body.0.bias", "1.shortcut.0.kernel", "1.shortcut.0.bias"),
        *("2.branches.1.0.kernel", "2.branches.1.0.bias", "2.branches.2.0.kernel", "2.branches.2.0.bias"),
        *("3.layers.0.kernel", "3.layers.0.bias", "5.kernel", "5.bias"),
    ]
    for path, layer in walk(model.layers):
        assert path_of(layer) == path
        assert model.get_layer(path) is model.get_layer(name=path) is layer
        assert layer.in_chain == (path != "5")
    assert model.get_layer(index=-1) is model.layers[-1]
    streams = [layer.stream for _, layer in walk(model.layers)]
    assert streams == [(3, number) for number in range(len(streams))]
    assert model.count_params() == sum(array.size for name, array in model.state_dict().items() if "moving" not in name)


def test_get_layer_says_what_there_is():
    model = nested()
    for arguments, error, message in (
        ({"name": "1.body.9"}, ValueError, "name must be the path of a layer; got '1.body.9'"),
        ({"name": "1.bdy.0"}, ValueError, "Did you mean '1.body.0'"),
        ({"name": 1}, TypeError, "name must be the path of a layer; got 1"),
        ({"index": 6}, ValueError, r"index must be a whole number in \[-6, 5\]; got 6"),
        ({}, ValueError, "needs either name or index"),
        ({"name": "0", "index": 0}, ValueError, "needs either name or index"),
    ):
        with pytest.raises(error, match=message):
            model.get_layer(**arguments)


def test_a_flat_model_keeps_its_names_and_streams():
    model = mc.Sequential([layers.Dense(3), layers.Dropout(0.2), layers.Dense(2)], seed=5)
    model.build((4,))
    assert list(model.state_dict()) == ["0.kernel", "0.bias", "2.kernel", "2.bias"]
    assert [layer.stream for layer in model.layers] == [(5, 0), (5, 1), (5, 2)]


def test_the_summary_has_indented_rows_and_counts_nothing_twice():
    model = nested()
    model.build(SHAPE)
    text = model.summary_text()
    assert "\n  1.body.0 Conv2D" in text
    assert "\n    1.body.4.body.0 Conv2D" in text
    total = next(line for line in text.splitlines() if line.startswith("total"))
    assert f"{model.count_params():,}" in total
    assert f"{sum(layer.multiply_adds() for layer in model.layers):,}" in total
    parts = [layer for path, layer in walk(model.layers) if not layer.parts]
    assert sum(layer.multiply_adds() for layer in model.layers) == sum(layer.multiply_adds() for layer in parts)


# ---- training ----


def by_hand(model, epochs=2):
    for epoch in range(epochs):
        order = mc.datasets.order(len(X), model.seed, epoch)
        for start in range(0, len(X), 8):
            chosen = order[start : start + 8]
            _, gradient = model.train().loss(model.forward(X[chosen]), Y[chosen])
            model.backward(gradient)
            model.optimizer.step()
    return model


def layer_by_layer(model, epochs=2):
    """Without any plan, and without the short cuts of a chain."""
    for epoch in range(epochs):
        order = mc.datasets.order(len(X), model.seed, epoch)
        for start in range(0, len(X), 8):
            chosen = order[start : start + 8]
            with mc.recording.collect_penalties():
                y = X[chosen]
                for layer in model.layers:
                    y = layer.forward(y, training=True)
            reading = model.reading
            _, gradient = reading.compute_loss(y, Y[chosen])
            for layer in reversed(model.layers):
                gradient = layer.gradient(gradient, layer is model.layers[-1])
            model.engine.add_penalty_gradients()
            model.optimizer.step()
    return model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_plan_by_hand_and_layer_by_layer_give_the_same_bits(dtype):
    want = trained(nested(dtype=dtype))
    assert not any(map(in_python, want.layers))
    for run in (by_hand, layer_by_layer):
        model = nested(dtype=dtype)
        model.build(SHAPE)
        assert run(model).fingerprint() == want.fingerprint()


def test_the_number_of_threads_does_not_matter():
    found = []
    for threads in (1, 2, 3):
        use_threads(threads)
        found.append(trained().fingerprint())
    assert len(set(found)) == 1


def test_everything_learns():
    model = nested()
    model.build(SHAPE)
    before = model.state_dict()
    trained(model)
    assert [name for name, array in model.state_dict().items() if np.array_equal(array, before[name])] == []


def test_copies_files_and_resumed_runs_are_the_same_model(tmp_path):
    model = trained()
    model.save(tmp_path / "m.npz")
    saving.save_checkpoint(model, tmp_path / "c.npz", 2, model.history.history)
    resumed, epoch, _ = saving.load_checkpoint(tmp_path / "c.npz")
    assert epoch == 2
    others = [mc.Sequential.load(tmp_path / "m.npz"), copy.deepcopy(model), pickle.loads(pickle.dumps(model)), resumed]
    outputs, mean = model.predict(X), model.predict_mc(X, 4, seed=1).mean
    for other in others:
        assert other.get_config() == model.get_config()
        assert repr(other) == repr(model)
        assert other.fingerprint() == model.fingerprint()
        assert_same_bits(other.predict(X), outputs)
        assert_same_bits(other.predict_mc(X, 4, seed=1).mean, mean)
    for other in [model, *others[1:]]:
        other.fit(X, Y, 8, epochs=3, initial_epoch=2, verbose=0)
    assert len({other.fingerprint() for other in [model, *others[1:], trained(epochs=3)]}) == 1


def test_outputs_has_one_array_for_each_layer_of_the_model():
    model = trained()
    found = model.outputs(X)
    assert [array.shape[1:] for array in found] == [layer.output_shape for layer in model.layers]
    assert_same_bits(found[-1], model.predict(X))


def test_a_composite_adds_and_joins():
    inner = convolution()
    model = mc.Sequential([layers.Residual(inner), layers.Concurrent([[], layers.Conv2D(2, 1)])])
    model.build((6, 6, 4))
    x = normal((5, 6, 6, 4), "float32")
    first, second = model.outputs(x)
    assert_same_bits(first, inner.forward(x) + x)
    assert_same_bits(second[..., :4], first)
    assert_same_bits(second[..., 4:], model.get_layer("1.branches.1.0").forward(first))


# ---- noise ----


def test_every_mask_has_a_stream_of_its_own():
    body = [layers.Dropout(0.5) for _ in range(3)]
    model = mc.Sequential([layers.Residual(body), layers.Concurrent([layers.Dropout(0.5), layers.Dropout(0.5)])])
    model.train()(np.ones((4, 50)))
    masks = [layer.last_mask for _, layer in walk(model.layers) if hasattr(layer, "last_mask")]
    assert len(masks) == 5
    for i, one in enumerate(masks):
        assert not any(np.array_equal(one, other) for other in masks[:i])


def test_monte_carlo_drops_in_branches_and_does_not_depend_on_the_batch():
    model = trained()
    found = [model.predict_mc(X, 6, seed=2, batch_size=size, return_samples=True).samples for size in (None, 1, 7, 24)]
    assert len({array.tobytes() for array in found[0]}) == 6
    for other in found[1:]:
        assert_same_bits(other, found[0])
    before = model.fingerprint()
    assert model.predict_mc(X, 3).std.any()
    assert model.fingerprint() == before


def test_an_ensemble_and_ablation_take_them():
    ensemble = mc.Ensemble([nested(seed=1), nested(seed=2)])
    ensemble.fit(X, Y, batch_size=8, epochs=1, verbose=0)
    assert ensemble.predict(X).mean.shape == (24, 4)
    model = ensemble.members[0]
    curve = thinning.ablation_curve(model, X, Y, layer=1, fractions=(0, 1), repeats=1)
    assert curve.accuracy.shape == (1, 2)
    with pytest.raises(ValueError, match="layer must be one of the model's"):
        thinning.ablation_curve(model, X, Y, layer=model.get_layer("1.body.0"))


def test_an_ensemble_is_trained_in_processes():
    pytest.importorskip("joblib")
    found = []
    for processes in (1, 2):
        ensemble = mc.Ensemble([nested(seed=1), nested(seed=2)])
        inner = ensemble.members[0].get_layer("1.body.0")
        ensemble.fit(X, Y, n_jobs=processes, batch_size=8, epochs=1, verbose=0)
        assert ensemble.members[0].get_layer("1.body.0") is inner
        ensemble.fit(X, Y, batch_size=8, epochs=1, verbose=0)
        found.append([member.fingerprint() for member in ensemble.members])
    assert found[0] == found[1]


def test_the_first_array_is_looked_at_as_for_a_flat_model():
    model = mc.Sequential([layers.Residual([convolution(28)])])
    with pytest.warns(UserWarning, match="Channels come last here"):
        model.predict(np.zeros((2, 3, 28, 28)))


def test_a_batch_too_small_for_what_is_inside_is_refused_before_the_first_step():
    model = naive(layers.Residual([layers.Dense(4), layers.BatchNormalization()]))
    with pytest.raises(ValueError, match=r"in training layer 0\.body\.1, BatchNormalization, needs at least 2"):
        model.fit(FLAT, LABELS, 1, verbose=0)
    model.layers[0].freeze()
    model.fit(FLAT, LABELS, 1, verbose=0)


def test_the_command_line_sums_up(tmp_path, capsys):
    model = nested()
    model.build(SHAPE)
    model.save(tmp_path / "m.npz")
    assert main(["summary", str(tmp_path / "m.npz"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert sum(row["params"] for row in report["layers"]) == report["params"]
    assert report["layers"][1]["parts"]["body.4"]["parts"]["body.0"]["layer"] == "Conv2D"


# ---- what is frozen, regularised ----


def test_a_composite_that_is_not_trainable_keeps_what_is_in_it():
    model = nested()
    model.build(SHAPE)
    model.layers[1].trainable = False
    assert not model.get_layer("1.body.4.body.0").trainable
    before = model.state_dict()
    trained(model)
    same = {name for name, array in model.state_dict().items() if np.array_equal(array, before[name])}
    assert same == {name for name in before if name.startswith("1.") and "moving" not in name}
    assert model.penalty() == 0
    again = mc.Sequential.from_config(model.get_config())
    assert [layer.trainable for _, layer in walk(again.layers)] == [layer.trainable for _, layer in walk(model.layers)]
    model.get_layer("1.body.0").trainable = True  # within one that is not
    assert not {segment[0]: segment[3] for segment in model.segments}["1.body.0.kernel"]
    model.layers[1].trainable = True
    assert all(segment[3] for segment in model.segments)
    assert model.penalty() > 0


def test_what_is_frozen_normalises_as_in_evaluation(tmp_path):
    model = trained()
    model.layers[1].freeze()
    before = model.state_dict()
    normalization = model.get_layer("1.body.1")
    x = normal((5, *normalization.input_shape), "float32")
    assert_same_bits(normalization.forward(x, training=True), normalization.forward(x))
    trained(model)
    same = {name for name, array in model.state_dict().items() if np.array_equal(array, before[name])}
    assert same == {name for name in before if name.startswith("1.")}
    model.save(tmp_path / "m.npz")
    assert mc.Sequential.load(tmp_path / "m.npz").get_layer("1.body.1").inference
    model.layers[1].unfreeze()
    assert not normalization.inference
    before = model.state_dict()
    trained(model)
    assert not any(np.array_equal(array, before[name]) for name, array in model.state_dict().items())


def test_penalties_of_what_is_inside_count():
    model = nested()
    model.build(SHAPE)
    kernel = model.get_layer("1.body.4.body.0").params["kernel"]
    assert model.penalty() == pytest.approx(0.01 * (kernel.astype(float) ** 2).sum(), rel=1e-6)


# ---- gradients ----


def test_gradients_are_checked_and_named():
    report = gradcheck(nested(), X[:3].astype(float))
    assert {"1.body.4.body.0.kernel", "2.branches.1.0.bias", "3.layers.0.kernel"} <= set(
        re.findall(r"\S+", str(report))
    )

    class Wrong(layers.Dense):
        def backward(self, dy):
            dx = super().backward(dy)
            self.grads["kernel"] *= 2
            return dx

    model = mc.Sequential([layers.Residual([Wrong(4)]), layers.Dense(3)])
    with pytest.raises(GradientError, match=r"^layer 0\.body\.0: Wrong: gradient of kernel at .*factor 2"):
        gradcheck(model, normal((5, 4)))


# ---- custom layers that hold layers ----


class Naive(mc.Layer):
    """Written as examples/own_layer.py teaches, with layers in a list, a tuple and a dictionary."""

    def __init__(self, units=4):
        super().__init__()
        self.units = units
        self.body = [layers.Dense(units, "tanh")]
        self.more = (layers.Dense(units),)
        self.by_name = {"last": layers.Dense(units)}

    def build(self, input_shape, rng):
        shape = super().build(input_shape, rng)
        for layer in self.inner():
            shape = layer.build(shape, rng)
        return shape

    def inner(self):
        return [*self.body, *self.more, self.by_name["last"]]

    def forward(self, x, training=False):
        y = x
        for layer in self.inner():
            y = layer.forward(y, training=training)
        return y + x

    def backward(self, dy):
        dx = dy
        for layer in reversed(self.inner()):
            dx = layer.backward(dx)
        return dx + dy


NAMES = ["0.body.0", "0.more.0", "0.by_name.last"]
FLAT, LABELS = normal((24, 4), "float32", 3), np.arange(24) % 3


def naive(layer=None):
    model = mc.Sequential([layer or Naive(), layers.Dense(3)], seed=2)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


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


class MadeInBuild(mc.Layer):
    """Makes its layer when it is built, when the model has told all others where they stand."""

    def build(self, input_shape, rng):
        shape = super().build(input_shape, rng)
        self.inner = layers.Dense(shape[-1], dtype=self.dtype)
        return self.inner.build(shape, rng)

    def forward(self, x, training=False):
        return self.inner.forward(x, training=training)

    def backward(self, dy):
        return self.inner.backward(dy)


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


# ---- models in models ----


def test_a_model_in_a_model_is_a_chain_of_its_layers():
    inner = mc.Sequential([layers.Dense(4, "relu"), layers.Dropout(0.2)])
    model = mc.Sequential([inner, layers.Dense(3)])
    model.add(mc.Sequential([layers.Softmax()]))
    assert [type(layer).__name__ for layer in model.layers] == ["Chain", "Dense", "Chain"]
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(FLAT, LABELS, verbose=0)
    assert next(iter(model.state_dict())) == "0.layers.0.kernel"
    assert not model.outputs_are_logits
    np.testing.assert_allclose(model.predict_proba(FLAT).sum(-1), 1, rtol=1e-6)
    assert layers.Residual(mc.Sequential([layers.Dense(4)])).body[0].units == 4


def test_a_built_model_in_a_model_says_what_to_do():
    for inner in (mc.Sequential([layers.Input((4,)), layers.Dense(4)]), mc.Sequential([layers.Dense(4)])):
        inner.build((4,))
        for take in (lambda: mc.Sequential([inner]), lambda: layers.Residual(inner), lambda: layers.Chain([inner])):  # noqa: B023
            with pytest.raises(RuntimeError, match=r"Sequential: only a model without Input.* Leave out its Input"):
                take()


def test_a_model_in_an_attribute_is_refused():
    layer = Naive()
    layer.body = [mc.Sequential([layers.Dense(4)])]
    with pytest.raises(TypeError, match=r"^Naive: a layer can hold layers, but no model; body\.0 is one"):
        mc.Sequential([layer])


# ---- what is refused ----


def test_a_layer_stands_in_one_place_and_both_are_named():
    one = layers.Dense(4)
    holder = Naive()
    holder.more = [one]
    looped = Naive()
    looped.body = [looped]
    for make, places in (
        (lambda: mc.Sequential([one, layers.Residual([one])]), "places '0' and '1.body.0'"),
        (lambda: mc.Sequential([layers.Residual([one]), holder]), "places '0.body.0' and '1.more.0'"),
        (lambda: layers.Residual([one], [one]), "places 'body.0' and 'shortcut.0'"),
        (lambda: layers.Concurrent([[one], [one]]), "places 'branches.0.0' and 'branches.1.0'"),
        (lambda: mc.Sequential([looped]), "places '0' and '0.body.0'"),
    ):
        with pytest.raises(ValueError, match=f": a layer can stand in one place only; got it in the {places}"):
            make()
    model = mc.Sequential([layers.Dense(2)])
    for entry in (layers.Chain([model.layers[0]]), model.layers[0]):
        with pytest.raises(ValueError, match="one place only"):
            model.add(entry)
    built = mc.Sequential([layers.Dense(4)])
    built.build((4,))
    with pytest.raises(ValueError, match="one place only"):
        layers.Residual(built.layers[0])


def test_shapes_that_do_not_fit_name_both_sides():
    for layer, message in (
        (layers.Residual([convolution(5)]), r"body's output shape \(6, 6, 5\); got \(6, 6, 3\)\. Give a shortcut"),
        (layers.Residual([convolution(5)], [convolution(7)]), r"shortcut must .* \(6, 6, 5\); got \(6, 6, 7\)$"),
        (
            layers.Concurrent([[], [layers.MaxPooling2D(2)]]),
            r"branch 0 gives \(6, 6, 3\); got \(3, 3, 3\) from branch 1$",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            mc.Sequential([layer]).build(SHAPE)
        model = mc.Sequential([layer])
        with pytest.raises(ValueError, match=message):  # and nothing of it is left
            model.predict(X)
    deep = mc.Sequential([layers.Chain([layers.Residual([layers.Flatten(), convolution()])])])
    with pytest.raises(ValueError, match=r"layer 0: layers\.0: body\.1: Conv2D: one sample must have an image"):
        deep.build(SHAPE)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: layers.Residual([]), ValueError, "Residual: body must have at least one layer"),
        (lambda: layers.Residual([layers.ReLU]), TypeError, r"Did you mean ReLU\(\)"),
        (lambda: layers.Residual("relu"), TypeError, "Residual: body: every entry must be a layer; got 'relu'"),
        (lambda: layers.Residual(convolution(), activation="rely"), ValueError, "activation must be"),
        (lambda: layers.Concurrent([]), ValueError, "at least one branch"),
        (lambda: layers.Concurrent(layers.ReLU()), TypeError, "branches must be a list of branches"),
        (lambda: layers.Concurrent([[3]]), TypeError, r"Concurrent: branches\[0\]: every entry must be a layer; got 3"),
        (lambda: layers.Chain([None]), TypeError, "Chain: layers: every entry must be a layer; got None"),
        (lambda: layers.Chain([layers.Input((3,))]), TypeError, "Chain: layers: every entry must be a layer"),
    ],
)
def test_what_is_no_layer_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_parts_cannot_be_exchanged():
    model = nested()
    for path, name in (("1", "body"), ("1", "shortcut"), ("2", "branches"), ("3", "layers")):
        with pytest.raises(AttributeError, match="is fixed when the object is made"):
            setattr(model.get_layer(path), name, [layers.ReLU()])
    model.build(SHAPE)
    with pytest.raises(AttributeError, match="stays while the layer is in a model"):
        model.get_layer("1.body.0").stream = (3, 7)


def test_a_residual_of_nothing_else_hands_on():
    model = mc.Sequential([layers.Chain([]), layers.Concurrent([[], []]), layers.Residual([layers.Dropout(0.0)])])
    model.build((4,))
    x = FLAT[:5]
    assert_same_bits(model.predict(x), 2 * np.concatenate([x, x], -1))
    y = model.train()(x)
    assert_same_bits(model.backward(np.ones_like(y)), np.full((5, 4), 4, "f"))


# ---- what their outputs are ----


@pytest.mark.parametrize(
    ("ends", "function"),
    [
        ([layers.Chain([layers.Dense(3), layers.Softmax()])], "softmax"),
        ([layers.Chain([layers.Dense(3, "softmax"), layers.Flatten()])], "softmax"),
        ([layers.Dense(3, "softmax"), layers.Chain([])], "softmax"),
        ([layers.Chain([layers.Dense(3, "softmax"), layers.Rescaling(2.0)])], None),
        ([layers.Residual(layers.Dense(4, "softmax"))], "linear"),
        ([layers.Residual(layers.Dense(4), activation="softmax")], "softmax"),
        ([layers.Concurrent([layers.Dense(2, "sigmoid"), layers.Dense(1, "sigmoid")])], "sigmoid"),
        ([layers.Concurrent([layers.Dense(2, "softmax"), layers.Dense(3, "softmax")])], None),
        ([layers.Concurrent([layers.Dense(2, "relu"), layers.Dense(1)])], "linear"),
        ([layers.Dense(3, "softmax"), layers.Concurrent([[], layers.Dense(1)])], None),
        ([layers.Dense(3, "softmax"), layers.Concurrent([[], []])], "softmax"),
    ],
)
def test_what_comes_out_is_known(ends, function):
    model = mc.Sequential(copy.deepcopy(ends))
    model.build((4,))
    if function is None:
        with pytest.raises(ValueError, match="it must be known whether the outputs are logits or probabilities"):
            model.outputs_are_logits  # noqa: B018
    else:
        assert model.outputs_are_logits == (function == "linear")


def test_noise_at_the_end_of_a_chain_warns():
    with pytest.warns(UserWarning, match=r"layer 0\.layers\.1, Dropout, is the last one"):
        mc.Sequential([layers.Chain([layers.Dense(2), layers.Dropout(0.5)])]).build((4,))
    with pytest.warns(UserWarning, match=r"layer 0\.body\.0, Dense: a softmax over one value"):
        mc.Sequential([layers.Residual(layers.Dense(1, "softmax"))]).build((1,))


# ---- what a hostile user tried ----


class Holding(mc.Layer):
    """Runs the layers that ``hold(self)`` gives, which it has put somewhere."""

    def __init__(self, put):
        super().__init__()
        self._put_them = put

    def build(self, input_shape, rng):
        self.chain = []
        shape = super().build(input_shape, rng)
        self.inner = self._put_them(self)
        for layer in self.inner():
            shape = layer.build(shape, rng)
        return shape

    def forward(self, x, training=False):
        for layer in self.inner():
            x = layer.forward(x, training=training)
        return x


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


class Taking(mc.Layer):
    """Takes layers as arguments: one, a list, a dictionary; and makes a composite by itself."""

    def __init__(self, one, several, named, rate=0.1):
        super().__init__()
        self.one, self.several, self.named, self.rate = one, several, named, rate
        self.made = layers.Residual([layers.Conv2D(3, 3, padding="same"), layers.BatchNormalization()])
        self.pool = layers.AveragePooling2D(2, strides=1, padding="same")

    def inner(self):
        return [self.one, *self.several, *self.named.values(), self.made, self.pool]

    def build(self, input_shape, rng):
        shape = super().build(input_shape, rng)
        for layer in self.inner():
            shape = layer.build(shape, rng)
        return shape

    def forward(self, x, training=False):
        for layer in self.inner():
            x = layer.forward(x, training=training)
        return x

    def backward(self, dy):
        for layer in reversed(self.inner()):
            dy = layer.backward(dy)
        return dy


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


def test_dictionaries_of_arguments_with_other_keys_than_strings_are_refused(tmp_path):
    layer = taking()
    layer.named = {2: layers.Dense(3), 10: layers.Dense(3)}
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


def test_unfreeze_gives_back_what_freeze_took():
    model = mc.Sequential([layers.BatchNormalization(inference=True), layers.BatchNormalization(), layers.Dense(2)])
    model.build((3,))
    for _ in range(2):
        model.freeze()
        model.freeze()
        assert [layer.inference for layer in model.layers[:2]] == [True, True]
        model.unfreeze()
        assert [layer.inference for layer in model.layers[:2]] == [True, False]
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
    layer.numbers.append(layers.Dense(4))  # where none was when the model was built: seen when something is set
    layer.units = 4
    with pytest.raises(RuntimeError, match=r"in 0\.numbers\.1000"):
        model.predict(FLAT)


def test_a_model_without_parameters_can_be_evaluated_and_fitted():
    model = mc.Sequential([layers.Chain([layers.Flatten()]), layers.Softmax()])
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = model.evaluate(FLAT, LABELS)
    assert model.fit(FLAT, LABELS, verbose=0).history["loss"] == [pytest.approx(before)]


def test_chains_take_what_can_be_iterated():
    assert len(layers.Chain(layers.Dense(3) for _ in range(3)).layers) == 3


# ---- plans ----


def test_all_of_it_is_one_section_and_additions_run_in_the_stretch_of_their_neighbours():
    """In evaluation nothing but both ends of a residual block is kept for the whole batch."""
    model = mc.Sequential([layers.Residual([convolution(3, activation="relu"), convolution(3)], activation="relu")])
    model.build(SHAPE)
    joined = mc.Sequential([layers.Concurrent([[], [convolution(3)], [convolution(3), layers.ReLU()]])])
    joined.build(SHAPE)
    for each in (model, joined):
        plan = Plan(each.engine, 64, training=False)
        assert len(plan._sections) == 1
        image = 64 * 6 * 6 * 3 * 4
        large = [buffer for buffer in plan._recorded.buffers if buffer.size >= image and buffer.first >= 0]
        kept = [buffer for buffer in large if not buffer.private]
        assert len(large) > 2
        assert len(kept) == 2
        assert all(buffer.pinned for buffer in kept)
    trained_by = Plan(nested_built().engine, 8, training=True)
    assert len(trained_by._sections) == 1


def nested_built():
    model = nested()
    model.build(SHAPE)
    return model


def test_a_step_takes_no_memory():
    model = nested_built()
    step, mean, chosen = training.Step(model, X, Y, None), training.Means(model), np.arange(8)
    for _ in range(3):
        step.run(chosen, mean, str)
    tracemalloc.start()
    try:
        step.run(chosen, mean, str)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(5):
            step.run(chosen, mean, str)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 6000 < np.prod((8, 6, 6, 9)) * 4  # numbers and small objects; not the output of a layer


def test_the_rate_of_a_nested_dropout_is_tuned():
    def build(rate, seed):
        model = mc.Sequential([layers.Residual([layers.Dense(4), layers.Dropout(rate)]), layers.Dense(3)], seed=seed)
        model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
        return model

    curve = mc.tune.dropout_curve(build, FLAT, LABELS, rates=(0, 0.5), cv=2, epochs=1, verbose=0)
    assert curve.best_rate in (0, 0.5)
