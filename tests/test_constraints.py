"""Constraints against their formulas, and inside the step of an optimiser, also when it is interrupted."""

import copy
import json
import math

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from models import IMAGE, LABELS, Keep, X, trained, whole_state
from running import THREADS, dtypes, normal, use_threads
from test_interrupts import interrupt_at_line
from test_regularizers import written

import minicnn as mc
from minicnn import ModelFileError, constraints, layers, optimizers, saving
from minicnn._ext import optim
from minicnn.constraints import MaxNorm, NonNeg, UnitNorm
from minicnn.regularizers import L1, L2

MAKE = {
    "max_norm": lambda axis: MaxNorm(0.8, axis),
    "unit_norm": UnitNorm,
    "non_neg": lambda axis: NonNeg(),
}


def wanted(name, w, axes):
    if name == "non_neg":
        return reference.non_neg(w)
    return reference.max_norm(w, 0.8, axes) if name == "max_norm" else reference.unit_norm(w, axes)


# ---- the formulas ----


@pytest.mark.parametrize("name", sorted(MAKE))
@given(
    shape=st.lists(st.sampled_from([1, 2, 3, 5, 17, 130]), min_size=1, max_size=4).filter(
        lambda s: math.prod(s) < 20000
    ),
    chosen=st.integers(-1, 15),
    dtype=dtypes,
)
def test_against_the_formula(name, shape, chosen, dtype):
    """Every subset of the axes of every kind of shape; None is all but the last."""
    axes = tuple(range(len(shape) - 1)) if chosen < 0 else tuple(i for i in range(len(shape)) if chosen >> i & 1)
    axis = None if chosen < 0 else tuple(i - len(shape) * (chosen % 2) for i in axes)  # negative ones too
    w = normal(shape, dtype)
    before = w.copy()
    assert_close(MAKE[name](axis)(w), wanted(name, w, axes), tolerance(dtype), dtype)
    assert_same_bits(w, before)


def test_one_axis_may_be_a_number():
    w = normal((4, 5))
    for axis in (0, 1, -1):
        assert_same_bits(MaxNorm(0.5, axis)(w), MaxNorm(0.5, (axis,))(w))
    assert_same_bits(MaxNorm(0.5)(w), MaxNorm(0.5, 0)(w))
    assert_close(MaxNorm(0.5)(w[0]), np.clip(w[0], -0.5, 0.5), 1e-15)  # a bias: one weight for each unit


def test_small_norms_stay_to_the_bit():
    w = normal((30, 40), "float32") * np.float32(0.1)
    assert_same_bits(MaxNorm(10)(w), w)
    assert_same_bits(MaxNorm(0.5)(MaxNorm(2)(np.zeros((3, 4)))), np.zeros((3, 4)))


def test_values_that_are_not_finite():
    w = np.array([[np.nan, 1, -1], [2, -0.5, np.nan], [-np.inf, np.inf, -2]])
    assert np.array_equal(NonNeg()(w), [[np.nan, 1, 0], [2, 0, np.nan], [0, np.inf, 0]], equal_nan=True)
    spoiled = MaxNorm(1)(np.array([[np.nan, 3.0], [1.0, 4.0]]))
    assert np.isnan(spoiled[0, 0])
    assert_close(spoiled[:, 1], [0.6, 0.8], 1e-15)
    assert UnitNorm()(np.zeros((3, 2))).tolist() == [[0, 0]] * 3
    assert MaxNorm(0)(np.ones((2, 2))).tolist() == [[0, 0]] * 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(MAKE))
def test_the_bits_do_not_depend_on_the_threads(name, dtype):
    w, found = normal((3, 50, 300), dtype), []
    for threads in THREADS:
        use_threads(threads)
        found.append([MAKE[name](axis)(w) for axis in (None, 0, 2)])
    for other in found[1:]:
        for one, more in zip(found[0], other, strict=True):
            assert_same_bits(one, more)


# ---- arguments ----


@pytest.mark.parametrize(("value", "want"), [
    (None, "None"), ("max_norm", "MaxNorm(max_value=2.0, axis=None)"), ("non_neg", "NonNeg()"),
    ("unit_norm", "UnitNorm(axis=None)"), ("MaxNorm", "MaxNorm(max_value=2.0, axis=None)"),
    (MaxNorm(3, [0, 1]), "MaxNorm(max_value=3.0, axis=(0, 1))"),
    ({"name": "MaxNorm", "config": {"max_value": 1, "axis": [0, 1, 2]}}, "MaxNorm(max_value=1.0, axis=(0, 1, 2))"),
])  # fmt: skip
def test_get(value, want):
    assert repr(constraints.get("Dense", "kernel_constraint", value)) == want


class Own(constraints.Constraint):
    pass


@pytest.mark.parametrize(("value", "error", "message"), [
    ("maxnorm", ValueError, r"kernel_constraint must be one of .*; got 'maxnorm'. Did you mean 'max_norm'\?"),
    (MaxNorm, TypeError, r"kernel_constraint must be None, .*; got the class MaxNorm. Did you mean MaxNorm\(\)\?"),
    (np.abs, TypeError, r"kernel_constraint must be None, one of .* or a Constraint; got <ufunc 'absolute'> .*"),
    (Own(), TypeError, r"kernel_constraint must be MaxNorm, NonNeg, UnitNorm or None; got Own\(\) .*native call.*"),
    (L2(), TypeError, r"kernel_constraint must be None, one of .*; got L2\(l2=0.01\) \(L2\)"),
    ({"name": "L2", "config": {}}, ValueError, r"kernel_constraint: the name must be one of .*; got 'L2'"),
])  # fmt: skip
def test_wrong_arguments(value, error, message):
    for place in ("kernel", "bias"):
        with pytest.raises(error, match=f"^Dense: {message.replace('kernel', place)}$"):
            layers.Dense(3, **{f"{place}_constraint": value})


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: MaxNorm(-1), ValueError, "^MaxNorm: max_value must be a number >= 0; got -1$"),
    (lambda: MaxNorm(math.nan), ValueError, "^MaxNorm: max_value must be a number >= 0; got nan$"),
    (lambda: MaxNorm(axis=0.5), TypeError, r"^MaxNorm: axis must be a whole number; got 0.5 \(float\)$"),
    (lambda: UnitNorm(["0"]), TypeError, r"^UnitNorm: axis must be a whole number; got '0' \(str\)$"),
    (lambda: UnitNorm(max_value=1), TypeError, "^UnitNorm: the keywords are axis; got `max_value`"),
    (lambda: NonNeg()("abc"), TypeError, "^NonNeg: w must be an array of numbers"),
    (lambda: MaxNorm(1, 2)(np.ones((2, 2))), ValueError,
     "^MaxNorm: axis of MaxNorm must name axes of a parameter that has 2, each once; got 2$"),
])  # fmt: skip
def test_wrong_objects(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(("arguments", "ndim", "axis"), [
    ({"kernel_constraint": MaxNorm(1, 2)}, 2, r"2"), ({"kernel_constraint": MaxNorm(1, (0, -2))}, 2, r"\(0, -2\)"),
    ({"bias_constraint": UnitNorm(1)}, 1, r"1"),
])  # fmt: skip
def test_an_axis_that_is_not_there(arguments, ndim, axis):
    required = rf"^Dense: axis of \w+ must name axes of a parameter that has {ndim}, each once; got {axis}$"
    with pytest.raises(ValueError, match=required):
        layers.Dense(3, **arguments).build((4,), np.random.default_rng(0))


def test_more_axes_than_five_in_turn():
    assert MaxNorm(1, (0, 2))(np.ones((2, 2, 2, 2, 2))).shape == (2,) * 5
    with pytest.raises(ValueError, match="constraints: axis must split a shape into at most five groups of axes"):
        MaxNorm(1, (0, 2, 4))(np.ones((2,) * 6))


# ---- in a step ----


def chain():
    return [
        layers.Conv2D(5, 3, activation="relu", kernel_constraint=MaxNorm(0.5), bias_constraint=NonNeg()),
        layers.Dropout(0.3),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(7, activation="tanh", kernel_constraint="unit_norm", kernel_regularizer=L2(0.02)),
        layers.Dense(4, activation="softmax", kernel_constraint=NonNeg(), activity_regularizer=L1(0.02)),
    ]


def model_of(optimizer=None, dtype="float32"):
    model = mc.Sequential(chain(), seed=1, dtype=dtype)
    model.build(IMAGE)
    model.compile(optimizer or optimizers.Adam(0.05), "sparse_categorical_crossentropy", ["accuracy"])
    return model


def is_constrained(model):
    conv, _, _, _, dense, last = model.layers
    norms = np.sqrt(np.square(conv.params["kernel"], dtype=np.float64).sum((0, 1, 2)))
    units = np.sqrt(np.square(dense.params["kernel"], dtype=np.float64).sum(0))
    return bool(
        (norms < 0.5 * (1 + 1e-6)).all()
        and (conv.params["bias"] >= 0).all()
        and np.allclose(units, 1, rtol=1e-6)
        and (last.params["kernel"] >= 0).all()
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [
    lambda: optimizers.SGD(0.3), lambda: optimizers.SGD(0.3, 0.9, nesterov=True, weight_decay=0.1, clipnorm=0.5),
    lambda: optimizers.Adam(0.1), lambda: optimizers.AdamW(0.1),
])  # fmt: skip
def test_a_step_is_an_update_and_then_the_constraints(optimizer, dtype):
    model, free = model_of(optimizer(), dtype), model_of(optimizer(), dtype)
    for layer in free.layers:
        for name in ("kernel_constraint", "bias_constraint"):
            if hasattr(layer, name):
                setattr(layer, name, None)
    free.compile(optimizer(), "sparse_categorical_crossentropy", ["accuracy"])
    assert not is_constrained(model)  # initial values are not
    model.train_on_batch(X, LABELS)
    free.train_on_batch(X, LABELS)
    assert is_constrained(model)
    assert not is_constrained(free)
    for layer, other in zip(model.layers, free.layers, strict=True):
        for key, values in layer.params.items():
            rule = getattr(layer, f"{key}_constraint", None)
            assert_same_bits(values, other.params[key] if rule is None else rule(other.params[key]))


def test_training_keeps_the_constraints_and_the_bits_of_a_loop_by_hand():
    model, twin = model_of(), model_of()
    use_threads(2)
    model.fit(X, LABELS, batch_size=5, epochs=2, verbose=0)
    use_threads(1)
    for epoch in range(2):
        for x, y in mc.datasets.batches(X, LABELS, 5, 1, epoch):
            twin.train()
            _, gradient = twin.loss(twin.forward(x), y)
            twin.backward(gradient)
            twin.optimizer.step()
            assert is_constrained(twin)
    assert whole_state(model) == whole_state(twin)


def test_what_is_not_trained_is_not_constrained():
    model = model_of()
    model.layers[4].trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = model.layers[4].params["kernel"].copy()
    model.train_on_batch(X, LABELS)
    assert_same_bits(model.layers[4].params["kernel"], before)
    assert (model.layers[5].params["kernel"] >= 0).all()


def test_an_optimizer_alone_is_told_what_is_constrained():
    optimizer, w, g = optimizers.SGD(1.0, weight_decay=0.5), np.array([3.0, 4.0, -1.0]), np.zeros(3)
    segments = [("0.kernel", 0, 2, True, True), ("0.bias", 2, 1, True, True)]
    constrained = [("0.kernel", MaxNorm(1.0), 0, (2, 1)), ("0.bias", NonNeg(), 2, (1,))]
    optimizer.bind(w, g, segments, None, constrained)
    optimizer.exclude_from_weight_decay(["bias"])  # which binds again
    optimizer.step()
    assert_close(w, [0.6, 0.8, 0.0], 1e-15)
    optimizer.bind(w, g, segments)
    g[2] = 1.0
    optimizer.step()
    assert w[2] == -1.0
    assert copy.deepcopy(optimizer)._rules == (None, None)


def test_a_gradient_that_cannot_be_clipped_constrains_nothing():
    model = model_of(optimizers.SGD(0.1, clipnorm=1.0))
    before = model.parameters.copy()
    model.gradients[...] = np.nan
    with pytest.raises(FloatingPointError, match="Nothing was changed"):
        model.optimizer.step()
    assert_same_bits(model.parameters, before)


def test_an_interrupt_at_every_line_of_a_step():
    """Before every line of Python of three steps: never is a parameter updated and not constrained, nor a step torn."""

    def make():
        dense = layers.Dense(4, kernel_constraint=MaxNorm(0.5), kernel_regularizer="l1", activity_regularizer="l2")
        model = mc.Sequential([layers.Flatten(), dense], seed=1)
        model.build(IMAGE)
        model.compile(optimizers.Adam(0.05), "sparse_categorical_crossentropy")
        return model

    def largest_norm(model):
        return np.sqrt(np.square(model.layers[1].params["kernel"]).sum(0)).max()

    twin, states = make(), [whole_state(make())]
    twin.fit(X, LABELS, batch_size=5, verbose=0, callbacks=[Keep(states)])
    assert len(set(map(str, states))) == 4
    line, seen = 0, set()
    while True:
        model = make()
        if not interrupt_at_line(model, line):
            break
        steps = model.optimizer.iterations
        seen.add(steps)
        assert whole_state(model) == states[steps]
        assert (largest_norm(model) <= 0.5 * (1 + 1e-6)) == (steps > 0)
        line += 1
    assert line > 300
    assert seen == {0, 1, 2, 3}


def test_steps_and_constraints_are_one_native_call(monkeypatch):
    calls = []
    for name in ("step", "constrain"):
        function = getattr(optim, name)
        monkeypatch.setattr(optim, name, lambda *a, function=function, name=name: calls.append(name) or function(*a))
    model_of().train_on_batch(X, LABELS)
    assert calls == ["step"]


# ---- files ----


def test_files_keep_constraints(tmp_path):
    model = model_of()
    model.fit(X, LABELS, batch_size=5, verbose=0)
    saving.save_checkpoint(model, tmp_path / "run.npz", 1, {"loss": [1.0]})
    loaded, _, _ = saving.load_checkpoint(tmp_path / "run.npz")
    assert repr(loaded) == repr(model)
    for one in (model, loaded):
        one.fit(X, LABELS, batch_size=5, epochs=3, initial_epoch=1, verbose=0)
        assert is_constrained(one)
    assert whole_state(model) == whole_state(loaded)


HOSTILE = [
    "maxnorm", 1, {"name": "MaxNorm", "config": {"max_value": -1}}, {"name": "MaxNorm", "config": {"axis": 9}},
    {"name": "MaxNorm", "config": {"axis": [0, 0]}}, {"name": "UnitNorm", "config": {"axis": -(10**30)}},
    {"name": "NonNeg", "config": {"axis": 0}}, {"name": "Own", "config": {}}, {"name": "L2", "config": {}},
    {"name": "MaxNorm", "config": {"axis": [[0]]}}, {"name": "MaxNorm", "config": {"axis": {}}},
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE, ids=str)
@pytest.mark.parametrize("argument", ["kernel_constraint", "bias_constraint"])
def test_hostile_files(tmp_path, argument, value):
    path = written(tmp_path / "bad.npz", lambda config: config.update({argument: value}))
    with pytest.raises(ModelFileError, match=r"bad\.npz: does not describe a model that can be rebuilt"):
        mc.Sequential.load(path)


def test_configurations_are_ready_for_json():
    config = json.loads(json.dumps(model_of().get_config()))
    again = mc.Sequential.from_config(config)
    assert json.loads(json.dumps(again.get_config())) == config
    assert repr(again.layers[0].kernel_constraint) == "MaxNorm(max_value=0.5, axis=None)"
    assert trained().layers[0].kernel_constraint is None


def test_kerass_other_names():
    for name, cls in {
        "max_norm": constraints.MaxNorm,
        "non_neg": constraints.NonNeg,
        "unit_norm": constraints.UnitNorm,
    }.items():
        assert getattr(constraints, name) is cls
