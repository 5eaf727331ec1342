"""The range of a model's training inputs: what is remembered, where it goes along, and what pictures become by it."""

import copy
import json
import pickle

import numpy as np
import pytest

import minicnn as mc
from minicnn import inputs, layers, saving
from minicnn.document import describe, write


def model_of(seed=0, dtype="float32"):
    model = mc.Sequential([layers.Flatten(), layers.Dense(3, activation="softmax")], seed=seed, dtype=dtype)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.build((4, 4, 1))
    return model


def data(low, high, n=12, dtype=np.float64):
    """n samples that hold both ends, and the middle elsewhere."""
    x = np.full((n, 4, 4, 1), (low + high) / 2, dtype)
    x[n // 2, 1, 1], x[-1, -1, -1] = low, high
    return x, np.arange(n) % 3


# ---- what is remembered ----


def test_nothing_is_known_before_training():
    model = model_of()
    x, y = data(-3, 5)
    model.predict(x)
    model.evaluate(x, y)
    model.forward(x)
    model.predict_proba(x)
    model.outputs(x)
    assert model.input_range is None
    assert model.input_mean is None


@pytest.mark.parametrize("dtype", ["u1", "i1", "i8", "f2", "f4", "f8", ">f4", "?"])
def test_fit_remembers_the_ends_and_the_mean(dtype):
    model, (x, y) = model_of(), data(0, 1 if dtype == "?" else 100, dtype=dtype)
    model.fit(x, y, batch_size=5, epochs=2, verbose=0)
    assert model.input_range == (0, x.max())
    assert {type(value) for value in (*model.input_range, model.input_mean)} == {float}
    assert model.input_mean == pytest.approx(x.mean(dtype=np.float64))


def test_numbers_are_those_that_were_given_not_what_float32_makes_of_them():
    model, (x, y) = model_of(), data(0.1, 0.7)
    model.fit(x, y, verbose=0)
    assert model.input_range == (0.1, 0.7)


def test_every_way_of_training_and_their_union():
    by_batch, by_hand, both = model_of(), model_of(), model_of()
    x, y = data(-1, 2)
    by_batch.train_on_batch(x, y)
    by_hand.train().forward(x)
    both.forward(x, training=True)
    assert by_batch.input_range == by_hand.input_range == both.input_range == (-1, 2)
    assert by_batch.input_mean == by_hand.input_mean == pytest.approx(x.mean())
    both.fit(data(0, 7)[0], y, verbose=0)
    both.train_on_batch(*data(-0.5, 0.5))
    both.train().forward(data(-4, 0)[0])
    assert both.input_range == (-4, 7)
    assert both.input_mean == by_batch.input_mean  # of the data with which training began


def test_validation_data_do_not_count():
    model, (x, y) = model_of(), data(0, 1)
    model.fit(x, y, validation_data=data(-9, 9), verbose=0)
    assert model.input_range == (0, 1)
    other = model_of()
    other.fit(np.concatenate([x, data(-9, 9, 4)[0]]), np.arange(16) % 3, validation_split=0.25, verbose=0)
    assert other.input_range == (0, 1)


def test_a_step_that_fails_leaves_no_trace():
    model, (x, y) = model_of(), data(0, 1)
    model.fit(x, y, verbose=0)
    x[3, 0, 0] = np.inf
    x[4, 0, 0] = 50
    for train in (lambda: model.fit(x, y, verbose=0), lambda: model.train_on_batch(x, y)):
        with pytest.raises(ValueError, match="x must be finite"):
            train()
    assert model.input_range == (0, 1)


def test_numbers_that_are_not_finite_do_not_count():
    x = data(-1, 2)[0]
    x[0, 0, 0], x[1, 1, 0], x[2, 2, 2], x[3, 0, 0] = np.nan, np.inf, -np.inf, 1e39
    assert inputs.look(x, np.dtype("f4"))[:2] == (-1, 2)
    assert inputs.look(x, np.dtype("f8"))[:2] == (-1, 1e39)
    assert inputs.look(np.full((2, 3), np.nan), np.dtype("f4")) is None
    assert inputs.look(np.empty((0, 3)), np.dtype("f4")) is None
    assert inputs.look(np.empty((3, 0)), np.dtype("f4")) is None
    assert inputs.look(np.full((9, 9), 1e308), np.dtype("f8")) == (1e308, 1e308, 1e308)  # the sum is infinite


def test_a_look_in_blocks(monkeypatch):
    x = np.random.default_rng(0).standard_normal((50, 7))
    whole = inputs.look(x, np.dtype("f8"))
    monkeypatch.setattr(inputs, "BLOCK", 20)
    blocks = inputs.look(x, np.dtype("f8"))
    assert whole[:2] == blocks[:2] == (x.min(), x.max())
    assert blocks.mean == pytest.approx(x.mean())
    assert inputs.look(x[::-2, ::3], np.dtype("f8"), mean=False) == (x[::-2, ::3].min(), x[::-2, ::3].max(), None)


def test_training_in_pieces_is_one_fit():
    (x, y), straight, pieces = data(0, 3), model_of(), model_of()
    straight.fit(x, y, epochs=4, verbose=0)
    pieces.fit(x, y, epochs=1, verbose=0)
    pieces.fit(x, y, epochs=4, initial_epoch=1, verbose=0)
    assert straight.get_config() == pieces.get_config()


def test_it_goes_along(tmp_path):
    model, (x, y) = model_of(), data(-2, 6)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.npz")
    saving.save_checkpoint(model, tmp_path / "c.npz", 1, {})
    others = [
        mc.Sequential.load(tmp_path / "m.npz"),
        saving.load_checkpoint(tmp_path / "c.npz")[0],
        mc.Sequential.from_config(json.loads(json.dumps(model.get_config()))),
        copy.copy(model),
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
    ]
    for other in others:
        assert (other.input_range, other.input_mean) == ((-2, 6), model.input_mean)
    others[0].train().forward(data(0, 9)[0])
    assert (others[0].input_range, model.input_range) == ((-2, 9), (-2, 6))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_members_of_an_ensemble(n_jobs):
    if n_jobs > 1:
        pytest.importorskip("joblib")
    (x, y), ensemble = data(0, 255, dtype=np.uint8), mc.Ensemble([model_of(0), model_of(1)])
    ensemble.fit(x, y, verbose=0, n_jobs=n_jobs)
    assert [member.input_range for member in ensemble.members] == [(0, 255)] * 2
    assert ensemble.members[0].input_mean == pytest.approx(x.mean())


def test_it_cannot_be_set():
    model = model_of()
    for name in ("input_range", "input_mean"):
        with pytest.raises(AttributeError):
            setattr(model, name, (0, 1))


@pytest.mark.parametrize(
    ("ends", "mean", "error"),
    [
        ([1, 0], None, ValueError),
        ([0, float("nan")], None, ValueError),
        ([float("-inf"), 0], None, ValueError),
        ([0, 10**400], None, ValueError),
        ([0], None, ValueError),
        ([0, 1, 2], None, ValueError),
        ([0, "1"], None, TypeError),
        ([0, True], None, TypeError),
        ([0, None], None, TypeError),
        ("01", None, ValueError),
        ({"0": 1, "1": 2}, None, ValueError),
        (5, None, ValueError),
        ([0, 1], 1.5, ValueError),
        ([0, 1], -1, ValueError),
        ([0, 1], "0", TypeError),
        (None, 0.5, ValueError),
    ],
)
def test_ranges_that_cannot_be_are_refused(ends, mean, error, tmp_path):
    config = model_of().get_config() | {"input_range": ends, "input_mean": mean}
    with pytest.raises(error, match=r"Sequential\.from_config: .*input_(range|mean)"):
        mc.Sequential.from_config(config)
    document, arrays = describe(model_of())
    document["model"] = config
    write(tmp_path / "m.npz", document, arrays)
    with pytest.raises(mc.ModelFileError, match=r"input_(range|mean)"):
        mc.Sequential.load(tmp_path / "m.npz")


def test_files_of_the_first_version_do_not_know_it(tmp_path):
    document, arrays = describe(model_of())
    del document["model"]["input_range"], document["model"]["input_mean"]
    write(tmp_path / "old.npz", document, arrays)
    assert mc.Sequential.load(tmp_path / "old.npz").input_range is None


# ---- what pictures become ----


@pytest.mark.parametrize(
    ("low", "high", "ends"),
    [
        (0, 255, (0, 255)),
        (0, 254, (0, 255)),
        (3, 201, (0, 255)),
        (200, 255, (0, 255)),
        (0, 127.5, (0, 255)),
        (0, 127, (0, 127)),
        (-2.5, 257.5, (0, 255)),  # resizing overshoots
        (-2.6, 255, (-2.6, 255)),
        (0, 1, (0, 1)),
        (0, 0.996, (0, 1)),
        (0.1, 0.5, (0, 1)),
        (0, 0.49, (0, 0.49)),
        (-0.01, 1.01, (0, 1)),
        (-0.02, 1, (-0.02, 1)),
        (0, 16, (0, 16)),
        (0, 15, (0, 16)),
        (0, 8, (0, 16)),
        (0, 7.9, (0, 7.9)),
        (-1, 1, (-1, 1)),
        (-0.99, 0.6, (-1, 1)),
        (-1, 0.49, (-1, 0.49)),
        (-0.5, 0.5, (-0.5, 0.5)),
        (-0.5, 0.25, (-0.5, 0.5)),
        (-128, 127, (-128, 127)),
        (-127.5, 127.5, (-128, 127)),
        (0, 65535, (0, 65535)),
        (0, 40000, (0, 65535)),
        (-0.4242, 2.8215, (-0.4242, 2.8215)),  # MNIST, standardised
        (-0.3, 0.7, (-0.3, 0.7)),  # less the mean
        (-104, 151, (-104, 151)),
        (-1e30, 1e30, (-1e30, 1e30)),
        (0, 0, None),
        (-3, -3, None),
        (1, 1, (0, 1)),
        (255, 255, (0, 255)),
    ],
)
def test_the_range_of_pictures(low, high, ends):
    assert inputs.picture_range(low, high) == ends


def test_bytes_become_what_programs_make_of_them():
    values = np.arange(256, dtype=np.uint8)
    assert inputs.from_bytes(values, (0.0, 255.0)) is values
    np.testing.assert_array_equal(inputs.from_bytes(values, (0.0, 1.0)), values / 255)
    np.testing.assert_allclose(inputs.from_bytes(values, (-1.0, 1.0)), values / 127.5 - 1, atol=1e-15)
    np.testing.assert_allclose(inputs.from_bytes(values, (0.0, 16.0)), values / 255 * 16)
    for ends in ((-0.4242, 2.8215), (-1.0, 1.0), (0.0, 16.0)):
        np.testing.assert_allclose(inputs.from_bytes(values[[0, 255]], ends), ends)


@pytest.mark.parametrize(
    ("mean", "expected", "inverted"),
    [(0.3, 0.3, False), (0.7, 0.3, True), (0.5, 0.3, False), (0.51, 0.3, False), (0.53, 0.3, True), (0.1, 0.3, False),
     (0.3, 0.7, True), (0.7, 0.7, False), (0.9, 0.41, False), (0.1, 0.5, False), (1.0, 0.0, True)],
)  # fmt: skip
def test_negatives(mean, expected, inverted):
    assert inputs.looks_inverted(mean, expected, (0, 1)) is inverted
    assert inputs.looks_inverted(2 * mean - 1, 2 * expected - 1, (-1, 1)) is inverted
