"""Sequential: how it is built, its mode, forward and backward, its losses, custom layers."""

import copy
import pickle
import re
import sys

import numpy as np
import pytest
from compare import assert_close, assert_same_bits
from models import IMAGE, LABELS, ONE_HOT, Halve, X, chain, compiled, small, trained
from running import normal

import minicnn as mc
from minicnn import layers, losses
from minicnn.testing import gradcheck

# ---- built in every way ----


def test_every_way_to_build_gives_the_same_model():
    explicit = small()
    models = [mc.Sequential([layers.Input(IMAGE), *chain()], seed=1)]
    assert models[0].built
    for call in (
        lambda model: model.build((None, *IMAGE)),
        lambda model: model.build(list(IMAGE)),
        lambda model: model.predict(X),
        lambda model: model.forward(X),
        lambda model: model(X),
        lambda model: model.outputs(X),
        lambda model: model.evaluate(X, LABELS),
        lambda model: model.predict(X[:0]),
    ):
        models.append(mc.Sequential(chain(), seed=1))
        models[-1].compile("sgd", "sparse_categorical_crossentropy")
        assert not models[-1].built
        call(models[-1])
    lazy = mc.Sequential(seed=1)
    for layer in (layers.Input(IMAGE), *chain()):
        lazy.add(layer)
    assert not lazy.built
    lazy.count_params()
    for model in (*models, lazy):
        assert model.built
        assert model.input_shape == IMAGE
        assert model.output_shape == (4,)
        assert model.fingerprint() == explicit.fingerprint()


def test_fit_builds():
    by_fit, by_hand = mc.Sequential(chain(), seed=1), small()
    for model in (by_fit, by_hand):
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(X, LABELS, verbose=0)
    assert by_fit.fingerprint() == by_hand.fingerprint()


def test_seed_chooses_the_initial_values():
    fingerprints = {
        mc.Sequential([layers.Input(IMAGE), *chain()], seed=seed).fingerprint() for seed in (0, 1, 2**64 - 1)
    }
    assert len(fingerprints) == 3


@pytest.mark.filterwarnings("ignore:Sequential. layer 1, Dropout, is the last")
def test_masks_are_a_function_of_the_seed_and_the_place():
    def masks(seed, layer_seed=None):
        model = mc.Sequential([layers.Dropout(0.5, seed=layer_seed), layers.Dropout(0.5)], seed=seed)
        model.forward(X, training=True)
        return [layer.last_mask.tobytes() for layer in model.layers]

    assert masks(3) == masks(3)
    assert len({*masks(3), *masks(4), *masks(3 + 2**40)}) == 6
    assert masks(3, layer_seed=9)[0] == masks(4, layer_seed=9)[0]


@pytest.mark.parametrize(
    "first", [[], [layers.Rescaling(0.5)], [layers.ReLU()], [layers.BatchNormalization()], [layers.Dropout(0.5)]],
    ids=["Conv2D", "Rescaling", "ReLU", "BatchNormalization", "Dropout"],
)  # fmt: skip
def test_grey_images_need_no_axis_of_channels(first):
    model = mc.Sequential([*copy.deepcopy(first), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3)])
    grey = X[..., 0]
    outputs = model.predict(grey)
    assert model.input_shape == (6, 5, 1)
    assert_same_bits(model.predict(grey[..., None]), outputs)
    assert_same_bits(model.forward(grey), outputs)


def test_a_chain_without_images_takes_three_axes_as_they_are():
    model = mc.Sequential([layers.Flatten(), layers.Dense(3)])
    model.predict(X[..., 0])
    assert model.input_shape == (6, 5)
    points = mc.Sequential([layers.Dense(3)])
    points.build((1,))
    assert points.predict(np.arange(5.0)).shape == (5, 3)


def test_building_again():
    model = small()
    before = model.fingerprint()
    model.build(IMAGE)
    model.build((None, *IMAGE))
    assert model.fingerprint() == before
    with pytest.raises(ValueError, match=r"^Sequential.build: input_shape must stay \(6, 5, 2\); got \(6, 5, 3\)$"):
        model.build((6, 5, 3))
    assert model.fingerprint() == before


def test_a_failed_build_leaves_everything_unbuilt():
    parts = [layers.Conv2D(3, 3), layers.BatchNormalization(), layers.Flatten(), layers.Conv2D(3, 3)]
    model = mc.Sequential(parts)
    before = [pickle.dumps(layer) for layer in parts]
    message = (
        r"^Sequential.build: layer 3: Conv2D: one sample must have an image \(height, width, channels\); got \(36,\)"
    )
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            model.build(IMAGE)
        assert not model.built
        assert model.input_shape is None
        assert model.parameters is None
        assert [pickle.dumps(layer) for layer in parts] == before
    rest = mc.Sequential(parts[:3], dtype="float64")  # another dtype, another model: free again
    rest.build(IMAGE)
    assert rest.built


def test_a_build_that_is_interrupted_leaves_everything_unbuilt():
    class Interrupted(Halve):
        def build(self, input_shape, rng):
            super().build(input_shape, rng)
            raise KeyboardInterrupt

    parts = [layers.Dense(3), Interrupted()]
    model = mc.Sequential(parts)
    with pytest.raises(KeyboardInterrupt):
        model.build((4,))
    assert not model.built
    assert all(layer.input_shape is None and not layer.params for layer in parts)
    mc.Sequential(parts[:1]).build((5,))


def test_dtype_goes_down_to_the_layers():
    model = small(dtype="float64")
    assert model.dtype == model.parameters.dtype == model.gradients.dtype == np.float64
    assert all(layer.dtype == np.float64 for layer in model.layers)
    assert all(array.dtype == np.float64 for array in model.state_dict().values())
    assert model.predict(X).dtype == model.forward(X).dtype == np.float64
    assert small().predict(X).dtype == np.float32
    assert_close(small().predict(X), model.predict(X), 1e-5)
    mixed = mc.Sequential([layers.Dense(3, dtype="float64")])
    with pytest.raises(
        ValueError, match=r"^Sequential.build: layer 0: dtype: must be the model's, float32; got 'float64'$"
    ):
        mixed.build((4,))


# ---- what is refused ----


def test_entries_that_are_no_layers():
    for entry, shown in (("relu", "'relu'"), (None, "None"), (3, "3")):
        with pytest.raises(TypeError, match=f"^Sequential: every entry must be a layer; got {shown}$"):
            mc.Sequential([entry])
    with pytest.raises(TypeError, match=r"^Sequential: every entry must be a layer; got .*Did you mean ReLU\(\)\?$"):
        mc.Sequential([layers.ReLU])
    for chain_, shown in ((3, "3 \\(int\\)"), (None, "None"), (layers.ReLU(), "ReLU\\(\\)"), (layers.ReLU, "<class ")):
        with pytest.raises(TypeError, match=f"^Sequential: layers must be a list of layers; got {shown}"):
            mc.Sequential(chain_)


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (2**64, ValueError), (1.5, TypeError), ("a", TypeError),
                                             (True, TypeError)])  # fmt: skip
def test_seeds_that_are_refused(seed, error):
    with pytest.raises(error, match=r"^Sequential: seed must be a whole number in \[0, 18446744073709551615\]; got "):
        mc.Sequential([layers.Dense(3)], seed=seed)


def test_a_layer_stands_in_one_place():
    layer = layers.Dense(3)
    with pytest.raises(
        ValueError, match=r"^Dense: a layer can stand in one place only; got it in the places '0' and '2'. Make a new"
    ):
        mc.Sequential([layer, layers.ReLU(), layer])
    first, second = mc.Sequential([layer]), mc.Sequential([layers.Flatten(), layer])
    first.build((4,))
    fingerprint = first.fingerprint()
    with pytest.raises(
        ValueError, match=r"^Sequential.build: layer 1: Dense: a layer can stand in one model only; got"
    ):
        second.build((2, 2))
    assert not second.built
    assert second.layers[0].input_shape is None
    assert first.fingerprint() == fingerprint
    assert np.shares_memory(layer.params["kernel"], first.parameters)
    with pytest.raises(ValueError, match=r"^Sequential: a layer can stand in one place only"):
        mc.Sequential([layer])


def test_adding():
    model = mc.Sequential()
    with pytest.raises(ValueError, match=r"^Sequential.build: the model must have at least one layer; got none$"):
        model.build((3,))
    model.add(layers.Dense(3))
    with pytest.raises(ValueError, match=r"^Sequential: Input must be the first entry, once; got Input\(\(4,\)\)$"):
        model.add(layers.Input(4))
    model.build((4,))
    with pytest.raises(RuntimeError, match=r"^Sequential.add: layers must be added before the model is built$"):
        model.add(layers.ReLU())
    with pytest.raises(ValueError, match="Input must be the first entry, once"):
        mc.Sequential([layers.Input(4), layers.Input(4)])


def test_before_it_is_built():
    model = mc.Sequential(chain())
    for method in ("count_params", "state_dict", "fingerprint", "get_weights"):
        with pytest.raises(RuntimeError, match=r"needs build\(input_shape\), fit, predict or forward before it$"):
            getattr(model, method)()
    with pytest.raises(RuntimeError, match=r"^Sequential.save: needs build"):
        model.save("never.npz")
    with pytest.raises(RuntimeError, match=r"^Sequential.load_state_dict: needs build"):
        model.load_state_dict({})
    with pytest.raises(RuntimeError, match=r"^Sequential.backward: needs forward in training mode before it$"):
        model.backward(X)


@pytest.mark.parametrize("shape", [(6, 5, 2), (3, 6, 5), (3, 6, 5, 3), (3, 5, 6, 2), (3, 6, 5, 2, 2), (), (0,)])
def test_wrong_shapes(shape):
    model, message = small(), re.escape(f"x must have shape (N, 6, 5, 2); got shape {shape}")
    for method in ("predict", "forward", "outputs"):
        with pytest.raises(ValueError, match=f"^Sequential.{method}: {message}$"):
            getattr(model, method)(np.zeros(shape))
    with pytest.raises(ValueError, match=r"^Sequential.predict: x must have a batch axis; got shape"):
        mc.Sequential(chain()).predict(3.0)


def test_channels_first_are_recognised():
    message = r"got shape \(3, 2, 6, 5\). Channels come last here: x.transpose\(0, 2, 3, 1\)$"
    with pytest.raises(ValueError, match=message):
        small().predict(np.zeros((3, 2, 6, 5)))


# ---- the mode ----


def test_the_mode():
    model = small()
    assert model.training is False
    assert model.train() is model
    assert model.training is True
    assert model.eval() is model
    assert model.training is False
    assert model.train(False).training is False
    for mode in (None, 1, "yes"):
        with pytest.raises(TypeError, match=r"^Sequential.train: mode must be True or False; got"):
            model.train(mode)
        if mode is not None:
            with pytest.raises(TypeError, match=r"^Sequential.forward: training must be True or False; got"):
                model.forward(X, training=mode)


def test_forward_follows_the_mode_unless_told():
    one, other = small(), small()
    assert_same_bits(one.forward(X), other.forward(X, training=False))
    assert_same_bits(one.forward(X), one.predict(X))
    one.train()
    assert_same_bits(one.forward(X), other.forward(X, training=True))
    assert other.training is False
    dropped = one.forward(X)
    assert not np.array_equal(dropped, one.forward(X, training=False))
    assert one.layers[1].state["step"] == 2


# ---- forward and backward ----


@pytest.mark.parametrize("end", ["softmax", None, "sigmoid"])
def test_gradients_by_finite_differences(end):
    assert gradcheck(small(end), normal((4, *IMAGE)))


def gradients_of(model, call):
    """(dx, gradients) of one training forward on a copy, and ``call(model, outputs)`` for the backward."""
    model = copy.deepcopy(model)
    model.gradients[:] = np.nan
    for layer in model.layers:  # what lies between the views is nobody's
        for gradient in layer.grads.values():
            gradient[...] = np.nan
    dx = call(model, model.forward(X, training=True))
    return dx, {f"{i}.{key}": gradient for i, layer in enumerate(model.layers) for key, gradient in layer.grads.items()}


@pytest.mark.parametrize("end", ["softmax", None, "relu", "gelu"])
def test_without_the_input_gradient_the_others_are_the_same(end):
    model = trained(end, "sparse_categorical_crossentropy" if end != "relu" else lambda o, y: (0.0, np.ones_like(o)))
    dx, full = gradients_of(model, lambda m, o: m.backward(m.loss(o, LABELS)[1]))
    none, params = gradients_of(model, lambda m, o: m.backward(m.loss(o, LABELS)[1], input_gradient=False))
    assert none is None
    assert dx.shape == X.shape
    for name in full:
        assert np.isfinite(full[name]).all()
        assert_same_bits(full[name], params[name])


def test_only_parameters_below_need_no_gradient():
    """Layers before the first parameters are left alone; a model without any does nothing."""
    model = mc.Sequential([layers.Rescaling(2.0), layers.Flatten(), layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    _, gradient = model.loss(model.forward(X, training=True), LABELS % 2)
    model.layers[0].backward = model.layers[1].backward = None
    assert model.backward(gradient, input_gradient=False) is None
    bare = mc.Sequential([layers.Flatten(), layers.Softmax()])
    bare.forward(X, training=True)
    assert bare.backward(np.zeros((12, 60)), input_gradient=False) is None


def test_a_gradient_at_the_outputs_is_the_chain_rule_through_softmax():
    model = trained()
    dy = normal((12, 4), "float32")
    p = []

    def at_outputs(m, outputs):
        p.append(outputs.astype(np.float64))
        return m.backward(dy, at="outputs")

    dx, at_o = gradients_of(model, at_outputs)
    dz = (p[0] * (dy - (dy * p[0]).sum(1, keepdims=True))).astype(np.float32)
    dx_logits, at_l = gradients_of(model, lambda m, o: m.backward(dz))
    assert_close(dx, dx_logits, 1e-5)
    for name in at_o:
        assert_close(at_o[name], at_l[name], 1e-5)
    with pytest.raises(
        ValueError, match=r"^Sequential.backward: at must be one of 'outputs'; got 'output'. Did you mean"
    ):
        model.backward(dy, at="output")


@pytest.mark.parametrize("end", [None, "sigmoid", "tanh"])
def test_elsewhere_at_outputs_is_the_default(end):
    model, dy = small(end), normal((12, 4), "float32")
    dx, default = gradients_of(model, lambda m, o: m.backward(dy))
    dx_outputs, at_outputs = gradients_of(model, lambda m, o: m.backward(dy, at="outputs"))
    assert_same_bits(dx, dx_outputs)
    for name in default:
        assert_same_bits(default[name], at_outputs[name])


def test_backward_needs_one_training_forward():
    model, dy = small(), np.zeros((12, 4))
    for _ in range(2):
        model.forward(X)
        for more in ({}, {"at": "outputs"}, {"input_gradient": False}):
            with pytest.raises(RuntimeError, match=r"needs forward\(x, training=True\) before it"):
                model.backward(dy, **more)
        model.forward(X, training=True)
        model.predict(X[:3])  # keeps nothing, and hurts nothing
        model.backward(dy)


# ---- the loss knows the last layer ----

ENDS = {
    "softmax and sparse cross-entropy": ("softmax", "sparse_categorical_crossentropy", LABELS),
    "softmax and cross-entropy": ("softmax", "categorical_crossentropy", ONE_HOT),
    "softmax and squared error": ("softmax", "mse", ONE_HOT),
    "softmax and binary cross-entropy": ("softmax", "binary_crossentropy", ONE_HOT),
    "logits and sparse cross-entropy": (None, "sparse_categorical_crossentropy", LABELS),
    "logits and binary cross-entropy": (None, "binary_crossentropy", ONE_HOT),
    "sigmoid and binary cross-entropy": ("sigmoid", "binary_crossentropy", ONE_HOT),
    "linear and squared error": (None, "mse", normal((12, 4))),
    "tanh and absolute error": ("tanh", "mae", normal((12, 4))),
    "softmax and a function": ("softmax", lambda o, y: ((o**2 * y).mean(), 2 * o * y / o.size), ONE_HOT),
}


@pytest.mark.parametrize("separate", [False, True], ids=["activation", "layer"])
@pytest.mark.parametrize("name", ENDS)
def test_the_gradient_of_the_loss_for_every_ending(name, separate):
    """value(parameters) along a random direction has the slope that ``loss`` and ``backward`` say."""
    end, loss, y = ENDS[name]
    if separate:
        last = [layers.Dense(4), *([] if end is None else [layers.Activation(end)])]
    else:
        last = [layers.Dense(4, activation=end)]
    model = mc.Sequential([layers.Flatten(), layers.Dense(5, activation="tanh"), *last], seed=3, dtype="float64")
    model.compile("sgd", loss)
    value, gradient = model.loss(model.forward(X, training=True), y)
    assert gradient.shape == (12, 4)
    model.backward(gradient)
    direction, start, h = normal(model.parameters.shape), model.parameters.copy(), 1e-5
    slope = model.gradients @ direction
    sides = []
    for sign in (1, -1):
        model.parameters[:] = start + sign * h * direction
        sides.append(model.loss(model.forward(X), y)[0])
    assert abs((sides[0] - sides[1]) / (2 * h) - slope) < 1e-7 * max(1, abs(slope))
    assert abs(slope) > 1e-4
    assert sides[1] != value != sides[0]


def test_the_value_of_the_loss_for_both_spellings_of_cross_entropy():
    probabilities, logits = small("softmax"), small(None)
    assert logits.outputs_are_logits
    assert not probabilities.outputs_are_logits
    for model in (probabilities, logits):
        model.compile("sgd", "sparse_categorical_crossentropy")
    p = probabilities.predict(X).astype(np.float64)
    want = -np.log(p[np.arange(12), LABELS]).mean()
    assert probabilities.loss(probabilities.forward(X), LABELS)[0] == pytest.approx(want, rel=1e-6)
    assert logits.loss(logits.forward(X), LABELS)[0] == pytest.approx(want, rel=1e-6)
    weights = np.arange(12)
    want = -(weights * np.log(p[np.arange(12), LABELS])).mean()
    assert logits.loss(logits.forward(X), LABELS, weights)[0] == pytest.approx(want, rel=1e-6)


def test_probabilities():
    logits, binary = small(None), mc.Sequential([layers.Flatten(), layers.Dense(1)])
    assert_close(logits.predict_proba(X), small("softmax").predict(X), 1e-6)
    assert_same_bits(small("softmax").predict_proba(X), small("softmax").predict(X))
    assert_same_bits(small("sigmoid").predict_proba(X), small("sigmoid").predict(X))
    assert_close(binary.predict_proba(X), 1 / (1 + np.exp(-binary.predict(X).astype(np.float64))), 1e-6)
    assert logits.predict_proba(X[:0]).shape == (0, 4)


def test_the_gradient_of_a_loss_of_ones_own_is_not_written_to():
    held = np.linspace(-1, 1, 48, dtype=np.float32).reshape(12, 4)
    model = small()
    model.compile("sgd", lambda outputs, y: (1.0, held))
    _, gradient = model.loss(model.forward(X, training=True), LABELS)
    assert_same_bits(held, np.linspace(-1, 1, 48, dtype=np.float32).reshape(12, 4))
    assert not np.shares_memory(gradient, held)
    held.flags.writeable = False
    assert_same_bits(model.loss(model.forward(X), LABELS)[1], model.loss(model.forward(X), LABELS)[1])


def test_compile():
    model = trained()
    fingerprint, optimizer = model.fingerprint(), model.optimizer
    model.compile("sgd", "mse", "accuracy")
    assert model.fingerprint() == fingerprint
    assert type(model.optimizer) is mc.optimizers.SGD
    assert isinstance(model.loss_function, losses.MeanSquaredError)
    assert [metric.name for metric in model.metrics] == ["accuracy"]
    with pytest.raises(ValueError, match=r"^Sequential.compile: loss must be given, such as .*; got None$"):
        model.compile("sgd")
    for wrong in ({"optimizer": "sdg"}, {"loss": "msse"}, {"metrics": ["acuracy"]}):
        with pytest.raises(ValueError, match="Did you mean"):
            model.compile(**{"optimizer": "adam", "loss": "mae", **wrong})
    assert isinstance(model.loss_function, losses.MeanSquaredError)  # nothing was changed
    model.compile(optimizer, "sparse_categorical_crossentropy")  # its old one, with its slots
    assert optimizer.iterations == 6
    with pytest.raises(RuntimeError, match=r"^Sequential.loss: needs compile\(optimizer, loss\) before it$"):
        small().loss(X, LABELS)


def test_an_optimizer_trains_one_model():
    """With two it would step the second when the first is trained, and nothing would say so."""
    one, other, unbuilt = small(), small(), mc.Sequential(chain())
    optimizer = mc.optimizers.SGD(0.1)
    one.compile(optimizer, "sparse_categorical_crossentropy")
    one.compile(optimizer, "sparse_categorical_crossentropy")
    for model in (other, unbuilt):
        with pytest.raises(ValueError, match=r"^Sequential.compile: an optimizer can train one model only; got SGD\("):
            model.compile(optimizer, "sparse_categorical_crossentropy")
        assert model.optimizer is None
    shared = mc.optimizers.SGD(0.1)
    first, second = mc.Sequential(chain()), mc.Sequential(chain())
    for model in (first, second):
        model.compile(shared, "sparse_categorical_crossentropy")
    first.build(IMAGE)
    with pytest.raises(ValueError, match=r"^Sequential.build: an optimizer can train one model only; got SGD\("):
        second.build(IMAGE)
    assert not second.built


def test_layers_that_are_not_trainable_stay_as_they_are():
    model = small()
    model.layers[0].trainable = False
    model.compile(mc.optimizers.SGD(0.1, weight_decay=0.1), "sparse_categorical_crossentropy")
    before = model.state_dict()
    model.fit(X, LABELS, verbose=0)
    after = model.state_dict()
    assert_same_bits(before["0.kernel"], after["0.kernel"])
    assert not np.array_equal(before["4.kernel"], after["4.kernel"])
    model.layers[0].trainable, model.layers[4].trainable = True, False
    model.compile(model.optimizer, "sparse_categorical_crossentropy")
    model.fit(X, LABELS, verbose=0)
    assert_same_bits(after["4.kernel"], model.state_dict()["4.kernel"])
    assert not np.array_equal(after["0.kernel"], model.state_dict()["0.kernel"])


# ---- custom layers ----


def test_a_python_layer_in_the_middle():
    parts = chain()
    own = mc.Sequential([*parts[:1], Halve(), *parts[1:]], seed=1)
    assert gradcheck(own, normal((4, *IMAGE)))
    parts = chain()
    ours = mc.Sequential([*parts[:1], layers.Rescaling(0.5), *parts[1:]], seed=1)
    for model in (own, ours):
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(X, LABELS, batch_size=5, epochs=2, verbose=0)
    assert own.fingerprint() == ours.fingerprint()
    again = mc.Sequential.from_config(own.get_config(), custom_layers={"Halve": Halve})
    again.build(IMAGE)
    again.load_state_dict(own.state_dict())
    assert_same_bits(again.predict(X), own.predict(X))


# ---- every ending with every loss ----

ENDINGS = ("softmax", "sigmoid", "tanh", None)
LOSSES = (
    *("sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy", "mse", "mae", "huber"),
    *("categorical_focal_crossentropy", "binary_focal_crossentropy", "kl_divergence", "cosine_similarity"),
    *("hinge", "squared_hinge", "categorical_hinge", "log_cosh"),
)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("end", ENDINGS)
def test_the_gradient_of_every_loss_behind_every_ending(end, loss):
    """d loss / d parameters by finite differences of ``model.loss`` itself, not of a sum of outputs."""
    model = mc.Sequential([layers.Dense(4, activation=end)], seed=2, dtype="float64")
    model.compile("sgd", loss)
    rng = np.random.default_rng(3)
    x, labels, weights = rng.standard_normal((5, 3)), np.array([0, 3, 1, 1, 2]), rng.uniform(0.5, 2, 5)
    y = labels if loss.startswith("sparse") else np.eye(4)[labels]
    model.train()
    _, gradient = model.loss(model.forward(x), y, weights)
    model.backward(gradient)
    want, step = np.empty_like(model.gradients), 1e-6
    for i in range(len(want)):
        values = []
        for sign in (1, -1):
            model.parameters[i] += sign * step
            values.append(model.loss(model.forward(x), y, weights)[0])
            model.parameters[i] -= sign * step
        want[i] = (values[0] - values[1]) / (2 * step)
    assert np.abs(want).max() > 1e-3
    np.testing.assert_allclose(model.gradients, want, atol=1e-7)


# ---- custom layers ----


class ThreeTimes(layers.Dense):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["kernel"][...] *= 3
        return dx


def test_the_backward_of_a_subclass_is_called_in_the_first_place():
    x, y, steps = np.ones((2, 3), np.float32), np.zeros((2, 2)), []
    for first in (layers.Dense, ThreeTimes):
        model = mc.Sequential([first(4), layers.Dense(2)], seed=0)
        model.compile(mc.optimizers.SGD(0.1), "mse")
        model.build((3,))
        before = model.layers[0].params["kernel"].copy()
        model.train_on_batch(x, y)
        steps.append(before - model.layers[0].params["kernel"])
    np.testing.assert_allclose(steps[1], 3 * steps[0], rtol=1e-5)


class Tempered(layers.Softmax):
    """softmax(x / 4)."""

    def forward(self, x, training=False):
        return super().forward(np.asarray(x) / 4, training)

    def backward(self, dy):
        return super().backward(dy) / 4


def test_the_backward_of_a_subclass_is_called_at_the_end():
    model = mc.Sequential([layers.Dense(3), Tempered()], seed=0, dtype="float64")
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = np.random.default_rng(0).standard_normal((4, 2)), np.array([0, 1, 2, 2])
    model.train()
    _, gradient = model.loss(model.forward(x), y)
    model.backward(gradient)
    kernel, analytic = model.layers[0].params["kernel"], model.layers[0].grads["kernel"].copy()
    values = []
    for step in (1e-6, -2e-6):
        kernel[0, 0] += step
        values.append(model.loss(model.forward(x), y)[0])
    assert analytic[0, 0] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6)


class Assigns(mc.Layer):
    """y = x w, with gradients that are assigned instead of written."""

    def build(self, input_shape, rng):
        super().build(input_shape, rng)
        self.add_param("w", (*input_shape, 2), lambda shape, rng: np.ones(shape), rng)
        return (2,)

    def forward(self, x, training=False):
        self.x = x
        return x @ self.params["w"]

    def backward(self, dy):
        self.grads["w"] = self.x.T @ dy
        return dy @ self.params["w"].T


def test_gradients_that_a_layer_assigns_train_it():
    model = mc.Sequential([Assigns()])
    model.compile(mc.optimizers.SGD(0.5), "mse")
    model.train_on_batch(np.ones((1, 3)), np.zeros((1, 2)))
    assert model.layers[0].params["w"].ravel().tolist() == [1 - 0.5 * 3] * 6
    with pytest.raises(ValueError, match=r"Assigns: grads\['w'\] must keep its shape \(3, 2\); got shape \(2, 2\)"):
        model.layers[0].grads["w"] = np.zeros((2, 2))


def test_arrays_that_a_loop_of_ones_own_assigns_before_the_step():
    """Clipped gradients and constrained parameters, assigned or written: the step sees both."""

    def change(array, name, function, assign):
        if assign:
            array[name] = function(array[name]).astype(np.float64)
        else:
            array[name][...] = function(array[name])

    models = [trained(optimizer="sgd") for _ in range(2)]
    for model, assign in zip(models, (True, False), strict=True):
        before = model.fingerprint()
        model.train()
        _, gradient = model.loss(model.forward(X), LABELS)
        model.backward(gradient)
        for layer in model.layers:
            for name in layer.params:
                change(layer.grads, name, lambda g: np.clip(g, -1e-3, 1e-3), assign)
                change(layer.params, name, lambda w: np.clip(w, -0.25, 0.25), assign)
        model.optimizer.step()
        assert model.fingerprint() != before
    assert models[0].fingerprint() == models[1].fingerprint()


def test_weights_are_not_loaded_into_an_array_that_somebody_assigned():
    model = small()
    weights, mine = model.get_weights(), np.ones_like(model.layers[0].params["kernel"])
    before, mine.flags.writeable = model.fingerprint(), False
    model.layers[0].params["kernel"] = mine
    model.set_weights(weights)
    assert model.fingerprint() == before
    model.layers[0].params["kernel"] = mine.astype(np.float64)
    assert model.state_dict()["0.kernel"].dtype == np.float32


def test_an_output_of_another_shape_than_declared():
    class Narrow(mc.Layer):
        def build(self, input_shape, rng):
            super().build(input_shape, rng)
            return (3,)

        def forward(self, x, training=False):
            return x[:, :1]

    with pytest.raises(ValueError, match=r"Narrow\.forward: forward must return the shape that build declared"):
        mc.Sequential([Narrow()]).predict(np.ones((2, 4)))


def test_probabilities_of_samples_without_an_axis():
    model = mc.Sequential([layers.Dense(1), layers.Reshape(())])
    probabilities = model.predict_proba(np.zeros((4, 2)))
    assert probabilities.tolist() == [0.5] * 4


# ---- dropout at the end ----


@pytest.mark.parametrize("chain", [
    [layers.Dense(3), layers.Dropout(0.5)],
    [layers.Dense(3), layers.Dropout(0.5), layers.Softmax()],
    [layers.Dropout(0.5)],
    [layers.Dense(3), layers.GaussianDropout(0.5), layers.Softmax()],
    [layers.Dense(3), layers.GaussianNoise(0.5)],
    [layers.Reshape((2, 2, 1)), layers.SpatialDropout2D(0.5)],
    [layers.Reshape((2, 2, 1)), layers.DropBlock2D(0.5, 2)],
    [layers.Dense(3), layers.AlphaDropout(0.5), layers.Softmax()],
    [layers.Dense(3), layers.StochasticDepth(0.5)],
])  # fmt: skip
def test_dropout_as_the_last_layer_warns(chain):
    number, name = next((i, type(layer).__name__) for i, layer in enumerate(chain)
                        if hasattr(layer, "seed"))  # fmt: skip
    with pytest.warns(UserWarning, match=f"^Sequential: layer {number}, {name}, is the last one except for"):
        mc.Sequential(copy.deepcopy(chain)).build((4,))


@pytest.mark.parametrize("chain", [
    [layers.Dropout(0.5), layers.Dense(3), layers.Softmax()],
    [layers.Dense(3), layers.Dropout(0.5), layers.BatchNormalization()],
    [layers.DropConnect(3, 0.5), layers.Softmax()],
    [layers.Residual([layers.Dense(4), layers.StochasticDepth(0.5)])],
])  # fmt: skip
def test_dropout_before_other_layers_does_not_warn(chain):
    mc.Sequential(copy.deepcopy(chain)).build((4,))


def test_many_layers_are_added_and_built_in_linear_time():
    """Counted in calls, the steps of generators included: twice as many layers take about twice as many."""

    def calls(count):
        seen, chain = [], [layers.ReLU() for _ in range(count)]
        sys.setprofile(lambda frame, event, argument: seen.append(event) if event == "call" else None)
        try:
            model = mc.Sequential(chain)
            model.build((1,))
            mc.Sequential.from_config(model.get_config())
        finally:
            sys.setprofile(None)
        return len(seen)

    assert calls(800) < 2.2 * calls(400)


def images_model(*first):
    chain = [*first, layers.Conv2D(2, 1), layers.GlobalAveragePooling2D(), layers.Dense(2)]
    model = mc.Sequential(chain)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize("first", [[], [layers.Rescaling], [layers.MaxPooling2D]], ids=str)
@pytest.mark.parametrize(("shape", "match"), [
    ((8, 8, 1), r"^Sequential.predict: x of shape \(8, 8, 1\) is taken as 8 grey images of 8 x 1 pixels.* x\[None\]$"),
    ((9, 8, 3), r"^Sequential.predict: x of shape \(9, 8, 3\) is taken as 9 grey images of 8 x 3 pixels.* x\[None\]$"),
    ((4, 3, 9, 9), r"images of 3 x 9 pixels with 9 channels. Channels come last here: x.transpose\(0, 2, 3, 1\)$"),
    ((4, 1, 9, 9), r"images of 1 x 9 pixels with 9 channels. Channels come last here: x.transpose\(0, 2, 3, 1\)$"),
])  # fmt: skip
def test_shapes_that_are_hardly_meant(first, shape, match):
    """The first array decides what the model is built for."""
    model = images_model(*(one(1) for one in first))
    with pytest.warns(UserWarning, match=match) as caught:
        model.predict(np.zeros(shape))
    assert [one.filename for one in caught] == [__file__]
    model.predict(np.zeros(shape))  # now that is its shape


@pytest.mark.parametrize(
    "shape", [(8, 8, 8), (2, 8, 3), (8, 1, 3), (4, 9, 9, 3), (4, 9, 9, 1), (4, 3, 9, 8), (4, 3, 3, 3), (4, 2, 9, 9)]
)
def test_shapes_that_may_be_meant(shape):
    images_model().predict(np.zeros(shape))
    flat = mc.Sequential([layers.Flatten(), layers.Dense(2)])
    flat.predict(np.zeros(shape))
    declared = images_model(layers.Input(shape[1:] if len(shape) == 4 else (*shape[1:], 1)))
    declared.predict(np.zeros(shape))


def test_no_word_about_axes_where_no_layer_asks_for_images():
    for shape in ((8, 8, 1), (4, 3, 9, 9)):
        mc.Sequential([layers.Flatten(), layers.Dense(2)]).predict(np.zeros(shape))


@pytest.mark.parametrize("value", ["no", "False", 0, 1, None])
def test_switches_are_true_or_false(value):
    """Text that says "no" is true in Python."""
    model, x, y = small(), np.zeros((2, *IMAGE), np.float32), np.zeros(2, int)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train().forward(x)
    outputs = model.eval().forward(x)
    calls = {
        "return_dict": lambda: model.evaluate(x, y, return_dict=value),
        "return_samples": lambda: model.predict_mc(x, 2, return_samples=value),
        "input_gradient": lambda: model.backward(outputs, input_gradient=value),
        "mode": lambda: model.train(value),
        "strict": lambda: model.load_state_dict(model.state_dict(), strict=value),
        "shuffle": lambda: mc.datasets.batches(x, y, shuffle=value),
        "from_logits": lambda: mc.losses.MeanSquaredError()(outputs, outputs, from_logits=value),
    }
    if value is not None:
        calls["training"] = lambda: model.forward(x, training=value)
        calls["drop_last"] = lambda: mc.datasets.batches(x, y, drop_last=value)
    for name, call in calls.items():
        with pytest.raises(TypeError, match=f"{name} must be True(,| or) False"):
            call()
    with pytest.raises(TypeError, match="from_logits must be True or False"):
        mc.metrics.Accuracy().update(outputs, y, from_logits=value)
    with pytest.raises(TypeError, match="rescaled must be True or False"):
        mc.plot.ablation({}, rescaled=value)


# ---- Keras's words ----


def test_the_name_of_a_model_goes_everywhere(tmp_path):
    model = small(name="digits")
    model.save(tmp_path / "m.npz")
    others = [mc.Sequential.load(tmp_path / "m.npz"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    assert [other.name for other in others] == ["digits"] * 3
    assert model.summary_text().splitlines()[0] == "model 'digits'"
    assert "name='digits'" in repr(model)
    model.name = "other"
    assert "model 'other'" in model.summary_text()
    model.name = None
    assert model.summary_text().startswith("layer ")
    assert "name" not in model.get_config()
    assert mc.Sequential([mc.Sequential([layers.Dense(1)], name="part")]).get_layer("part") is not None


@pytest.mark.parametrize(("name", "error"), [(1, TypeError), ("", ValueError), (" ", ValueError), ("a\nb", ValueError)])
def test_names_that_are_refused(name, error):
    with pytest.raises(error, match=r"^Sequential: name must "):
        mc.Sequential(name=name)


def test_the_summary_of_what_is_not_built():
    lines = []
    mc.Sequential([layers.Residual([layers.Dense(3)]), layers.Dense(2, name="last")], name="m").summary(lines.append)
    assert lines[0] == "model 'm'"
    assert [line.split() for line in lines[3:6]] == [
        ["0", "Residual", "?", "?", "?"], ["0.body.0", "Dense", "?", "?", "?"], ["1", "Dense", "'last'", "?", "?", "?"],
    ]  # fmt: skip
    assert lines[-1].split() == ["not", "built", "?", "?", "?"]
    declared = mc.Sequential([layers.Dense(3, input_shape=(4,))])
    assert "(4,) ->" in declared.summary_text()  # it is built for that


def test_weights_are_the_arrays_themselves():
    model = small()
    names = list(model.state_dict())
    assert len(model.weights) == len(names)
    assert all(np.array_equal(a, b) for a, b in zip(model.weights, model.get_weights(), strict=True))
    trained_ones = [names[i] for i, a in enumerate(model.weights) if any(a is b for b in model.trainable_weights)]
    assert trained_ones == [name for name in names if "moving" not in name]
    assert len(model.non_trainable_weights) == 2
    model.layers[0].trainable = False
    assert len(model.trainable_variables) + 2 == len(trained_ones)
    assert len(model.non_trainable_variables) == 4
    assert len(model.variables) == len(names)
    before = model.predict(X)
    model.variables[0][...] = 0
    assert not np.array_equal(model.predict(X), before)
    assert not model.state_dict()["0.kernel"].any()
    for name in ("weights", "trainable_weights", "non_trainable_weights", "variables"):
        with pytest.raises(RuntimeError, match=r"needs build"):
            getattr(mc.Sequential([layers.Dense(1)]), name)
        with pytest.raises(AttributeError, match=r"cannot be assigned"):
            setattr(model, name, [])


def test_pop():
    model = mc.Sequential([layers.Dense(3, input_shape=(4,)), layers.Dense(2)])
    assert not model.built or model.output_shape == (2,)
    model = mc.Sequential()
    first, last = layers.Dense(3, input_shape=(4,)), layers.Dense(2)
    for layer in (first, last):
        model.add(layer)
    assert model.pop() is last
    assert model.layers == (first,)
    assert model.pop() is first
    model.add(layers.Dense(5))
    model.build((7,))  # the shape went with the layer that had said it
    with pytest.raises(RuntimeError, match=r"^Sequential.pop: layers must be taken out before the model is built"):
        model.pop()
    assert len(model.layers) == 1
    with pytest.raises(ValueError, match=r"^Sequential.pop: the model must have at least one layer; got none"):
        mc.Sequential().pop()


def test_one_batch():
    model = compiled()
    assert np.array_equal(model.predict_on_batch(X), model.predict(X))
    assert model.predict_on_batch(X[:0]).shape == (0, 4)
    assert model.test_on_batch(X, LABELS) == model.evaluate(X, LABELS, batch_size=len(X))
    weights = np.arange(12.0)
    found = model.test_on_batch(X, LABELS, weights, return_dict=True)
    assert found == model.evaluate(X, LABELS, len(X), True, weights)
    assert list(found) == model.metrics_names == ["loss", "accuracy"]
    assert small().metrics_names == []
    with pytest.raises(RuntimeError, match=r"^Sequential.test_on_batch: needs compile"):
        small().test_on_batch(X, LABELS)
    with pytest.raises(ValueError, match=r"^Sequential.test_on_batch: "):
        model.test_on_batch(X, LABELS[:3])


def test_a_text_of_json_needs_arguments_for_json():
    class Odd(Halve):
        def __init__(self, what):
            super().__init__()
            self.what = what

    with pytest.raises(TypeError, match=r"^Sequential.to_json: the arguments of every layer must be ready for JSON"):
        mc.Sequential([Odd({1, 2})]).to_json()
