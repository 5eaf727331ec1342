"""Layers that hold layers, in a model: names, training in one plan, files, samples, and what is refused."""

import copy
import json
import pickle
import re
import tracemalloc

import numpy as np
import pytest
from compare import assert_same_bits
from nesting import FLAT, LABELS, SHAPE, Naive, X, Y, convolution, naive, nested, nested_built, trained
from running import normal, use_threads

import minicnn as mc
from minicnn import layers, saving, thinning, training
from minicnn.cli import main
from minicnn.layer import in_python, is_frozen, path_of
from minicnn.plan import Plan
from minicnn.testing import GradientError, gradcheck
from minicnn.tree import walk

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
        ({"name": "1.body.9"}, ValueError, "name must be the path or the name of a layer; got '1.body.9'"),
        ({"name": "1.bdy.0"}, ValueError, "Did you mean '1.body.0'"),
        ({"name": "1.body"}, ValueError, r"There are 1\.body\.0, 1\.body\.1, .*1\.body\.4\.body\.0$"),
        ({"name": 1}, TypeError, "name must be the path or the name of a layer; got 1"),
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
    assert "not trained" not in text
    model.layers[1].trainable = False
    frozen = [line.split()[0] for line in model.summary_text().splitlines() if "not trained" in line]
    assert frozen == ["1", "1.body.0", "1.body.1", "1.body.4", "1.body.4.body.0", "1.shortcut.0"]
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
    again = mc.Sequential.load(tmp_path / "m.npz")
    for each in (again, copy.deepcopy(again), copy.deepcopy(model)):
        assert is_frozen(each.get_layer("1.body.1"))
        each.layers[1].unfreeze()
        assert not is_frozen(each.get_layer("1.body.1"))
        other = each.state_dict()
        trained(each)
        assert not any(np.array_equal(array, other[name]) for name, array in each.state_dict().items())
    model.layers[1].unfreeze()
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
