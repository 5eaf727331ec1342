"""Temperature: logits divided by one number, which is state: in plans, files, weights and copies."""

import copy
import pickle

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from running import batches, build, dtypes, inputs, layouts, normal, run

import minicnn as mc
from minicnn import layers

X = normal((40, 6), "float32")
Y = np.arange(40) % 3


@given(st.lists(st.integers(1, 12), max_size=3), st.floats(0.01, 100), batches, dtypes, layouts)
def test_against_the_twin(shape, t, n, dtype, layout):
    layer = build(layers.Temperature(t, dtype=dtype), tuple(shape))
    x, dy = inputs(layer, n, dtype)
    got = run(layer, x, dy, layout)
    assert_close(got["y"], reference.temperature(x, t), tolerance(dtype), dtype)
    assert_close(got["dx"], reference.temperature_grad(x, t, dy), tolerance(dtype), dtype)


def test_at_1_it_changes_no_bit():
    x = np.array([[0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4e38]], np.float32)
    assert_same_bits(build(layers.Temperature(), (7,)).forward(x), x)


def network(t=1.0, loss="sparse_categorical_crossentropy", dtype="float32"):
    chain = [layers.Dense(8, "relu"), layers.Dropout(0.3), layers.Dense(3), layers.Temperature(t), layers.Softmax()]
    model = mc.Sequential(chain, seed=1, dtype=dtype)
    model.compile(mc.optimizers.SGD(0.1), loss, ["accuracy"])
    model.build((6,))
    return model


def test_what_is_set_acts_in_every_plan_at_once():
    model, fresh = network(), network(2.5)
    before = model.predict(X), model.predict(X[:7]), model.predict_mc(X, 3).mean, model.evaluate(X, Y)
    for change in (
        lambda: setattr(model.layers[3], "temperature", 2.5),
        lambda: model.layers[3].state.update(temperature=[2.5]),
        lambda: model.load_state_dict(fresh.state_dict()),
        lambda: model.set_weights(fresh.get_weights()),
    ):
        model.layers[3].temperature = 1.0
        assert_same_bits(model.predict(X), before[0])
        change()
        assert model.layers[3].temperature == 2.5
        assert_same_bits(model.predict(X), fresh.predict(X))
        assert_same_bits(model.predict(X[:7]), fresh.predict(X[:7]))
        assert_same_bits(model.predict_mc(X, 3).mean, fresh.predict_mc(X, 3).mean)
        assert model.evaluate(X, Y) == fresh.evaluate(X, Y) != before[3]
        assert (model.predict(X).max(1) < before[0].max(1)).all()


def test_no_step_changes_it():
    model = network(4.0)
    model.fit(X, Y, epochs=2, verbose=0)
    assert model.layers[3].temperature == 4.0
    assert model.count_params() == 6 * 8 + 8 + 8 * 3 + 3
    assert [name for name in model.state_dict() if name.startswith("3.")] == ["3.temperature"]


def test_the_gradient_passes_through():
    model = mc.Sequential([layers.Dense(3), layers.Temperature(4.0), layers.Softmax()])
    assert mc.testing.gradcheck(model, X[:5])


def test_files_weights_and_copies_carry_it(tmp_path):
    model = network(2.5)
    model.save(tmp_path / "model.npz")
    model.save_weights(tmp_path / "weights.npz")
    same_code = network()
    same_code.load_weights(tmp_path / "weights.npz")
    described = mc.Sequential.from_config(model.get_config())
    assert described.layers[3].temperature == 2.5
    for other in (
        mc.Sequential.load(tmp_path / "model.npz"), same_code, copy.deepcopy(model), pickle.loads(pickle.dumps(model)),
    ):  # fmt: skip
        assert other.layers[3].temperature == 2.5
        assert_same_bits(other.predict(X), model.predict(X))
        assert other.fingerprint() == model.fingerprint() != network().fingerprint()


def test_a_copy_has_its_own():
    model = network(2.5)
    other = copy.deepcopy(model)
    other.layers[3].temperature = 1.0
    assert model.layers[3].temperature == 2.5


def test_a_change_between_forward_and_backward_needs_another_forward():
    layer = build(layers.Temperature(), (3,))
    layer.forward(X[:, :3], training=True)
    layer.temperature = 2
    with pytest.raises(RuntimeError, match=r"^Temperature\.backward: needs forward"):
        layer.backward(X[:, :3])


@pytest.mark.parametrize("t", [0, -1, 0.0, 1e-31, 1e31, float("nan"), float("inf")])
def test_out_of_range(t):
    with pytest.raises(ValueError, match=r"^Temperature: temperature must be a number in \[1e-30, 1e\+30\]; got "):
        layers.Temperature(t)


@pytest.mark.parametrize("t", [None, "1", True, [1.0], np.ones(1)])
def test_no_number(t):
    layer = layers.Temperature(3)
    with pytest.raises(TypeError, match=r"^Temperature: temperature must be a number in .*; got "):
        layer.temperature = t
    assert layer.temperature == 3.0
