"""The names of a model's classes: what may be assigned, and that they go where the model goes."""

import copy
import json
import pickle

import numpy as np
import pytest

import minicnn as mc
from minicnn import layers, metrics, models, saving
from minicnn.document import describe, write

NAMES = ["猫", "a dog", "eel"]


def model_of(units=3, activation="softmax", loss="sparse_categorical_crossentropy", build=True):
    model = mc.Sequential([layers.Flatten(), layers.Dense(units, activation=activation)])
    model.compile("sgd", loss)
    if build:
        model.build((2, 2, 1))
    return model


def test_they_go_along(tmp_path):
    model = model_of()
    assert model.class_names is None
    plain = model.get_config()
    model.class_names = tuple(NAMES)
    assert model.class_names == NAMES
    assert model.get_config().keys() - plain.keys() == {"class_names"}
    model.save(tmp_path / "m.npz")
    saving.save_checkpoint(model, tmp_path / "c.npz", 1, {})
    others = [
        mc.Sequential.load(tmp_path / "m.npz"),
        saving.load_checkpoint(tmp_path / "c.npz")[0],
        mc.Sequential.from_config(json.loads(json.dumps(model.get_config()))),
        models.model_from_json(model.to_json()),
        copy.copy(model),
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
    ]
    for other in others:
        assert other.class_names == NAMES
        assert other.class_names is not model.class_names
    others[0].class_names = None
    others[0].save(tmp_path / "none.npz")
    assert mc.Sequential.load(tmp_path / "none.npz").class_names is None
    assert model.class_names == NAMES


def test_how_pictures_were_prepared_goes_along(tmp_path):
    model = model_of()
    assert model.image_fit is None
    plain = model.get_config()
    model.image_fit = "crop"
    assert model.get_config().keys() - plain.keys() == {"image_fit"}
    model.save(tmp_path / "m.npz")
    for other in (mc.Sequential.load(tmp_path / "m.npz"), copy.copy(model), models.model_from_json(model.to_json())):
        assert other.image_fit == "crop"
    with pytest.raises(ValueError, match="image_fit must be one of 'stretch', 'crop', 'pad'; got 'cut'"):
        model.image_fit = "cut"
    document, arrays = describe(model)
    for nonsense in ("", "cut", 3, ["crop"], True):
        document["model"]["image_fit"] = nonsense
        write(tmp_path / "bad.npz", document, arrays)
        with pytest.raises(mc.ModelFileError, match=r"bad\.npz: does not describe a model.*image_fit"):
            mc.Sequential.load(tmp_path / "bad.npz")
    inner = model_of(build=False)
    inner.image_fit = "pad"
    with pytest.raises(RuntimeError, match="takes the other one's image_fit; got 'pad'"):
        mc.Sequential([inner])


def test_predictions_stay_numbers():
    model, x = model_of(), np.random.default_rng(0).random((5, 2, 2, 1))
    before = model.predict(x), model.fingerprint()
    model.class_names = NAMES
    np.testing.assert_array_equal(model.predict(x), before[0])
    assert model.fingerprint() == before[1]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_members_of_an_ensemble_keep_theirs(n_jobs):
    if n_jobs > 1:
        pytest.importorskip("joblib")
    ensemble = mc.Ensemble([model_of(), model_of()], seed=1)
    for seed, member in enumerate(ensemble.members):
        member.class_names = [f"{name}{seed}" for name in NAMES]
    ensemble.fit(
        np.random.default_rng(0).random((6, 2, 2, 1)), np.arange(6) % 3, bootstrap=True, verbose=0, n_jobs=n_jobs
    )
    assert [member.class_names[1] for member in ensemble.members] == ["a dog0", "a dog1"]


def test_class_weights_by_name():
    x, y = np.random.default_rng(0).random((12, 2, 2, 1)), np.arange(12) % 3
    trained = []
    for weights in ({1: 3.0, 2: 0.5}, {"a dog": 3.0, "eel": 0.5}, {"a dog": 3.0, 2: 0.5}, {}):
        model = model_of()
        model.class_names = NAMES
        model.fit(x, y, class_weight=weights, verbose=0)
        model.train_on_batch(x, y, class_weight=weights)
        ensemble = mc.Ensemble([copy.deepcopy(model)], seed=1)
        ensemble.fit(x, y, class_weight=weights, bootstrap=True, verbose=0)
        trained.append((model.fingerprint(), ensemble.members[0].fingerprint()))
    assert trained[0] == trained[1] == trained[2]
    assert not {*trained[0]} & {*trained[3]}
    for weights, said in (
        ({"a dig": 1.0}, "must be the number or the name of one; got 'a dig'. Did you mean 'a dog'"),
        ({"xyz": 1.0}, "got 'xyz'. There are '猫', 'a dog', 'eel'"),
        ({"eel": 1.0, 2: 1.0}, "one weight for each class; got two for 2"),
    ):
        with pytest.raises(ValueError, match=f"^Sequential.fit: .*{said}"):
            model.fit(x, y, class_weight=weights, verbose=0)
    model.class_names = None
    with pytest.raises(TypeError, match="a class of class_weight must be a whole number"):
        model.fit(x, y, class_weight={"eel": 1.0}, verbose=0)


@pytest.mark.parametrize(("names", "error", "text"), [
    (["a", "b"], ValueError, r"must have 3 names, one for each class; got \['a', 'b'\]"),
    ([], ValueError, "must have 3 names"),
    (["a", "b", "b"], ValueError, "must be different from each other; got 'b' twice"),
    ("abc", TypeError, r"must be a list of strings, in the order of the outputs; got 'abc' \(str\)"),
    ({"a": 0, "b": 1, "c": 2}, TypeError, "must be a list of strings"),
    (["a", "b", 3], TypeError, r"every one of class_names must be a string; got 3 \(int\)"),
    (["a", "b", ""], ValueError, "must have letters that can be printed"),
    (["a", "b", "c\n"], ValueError, "must have letters that can be printed"),
    (np.arange(3), TypeError, "must be a string; got 0"),
])  # fmt: skip
def test_what_they_must_be(names, error, text):
    model = model_of()
    model.class_names = NAMES
    with pytest.raises(error, match=text):
        model.class_names = names
    assert model.class_names == NAMES


def test_arrays_of_strings():
    model = model_of()
    model.class_names = np.array(["a", "b", "c"])
    assert model.class_names == ["a", "b", "c"]
    assert {type(name) for name in model.class_names} == {str}


def test_as_many_as_outputs():
    one = model_of(1, "sigmoid", "binary_crossentropy")
    one.class_names = ["no", "yes"]
    with pytest.raises(ValueError, match="must have 2 names"):
        one.class_names = ["yes"]
    images = mc.Sequential([layers.Conv2D(4, 1)])
    images.build((3, 3, 1))
    with pytest.raises(ValueError, match="must have 4 names"):
        images.class_names = NAMES


def test_named_before_it_is_built():
    model = model_of(build=False)
    model.class_names = ["a", "b"]
    with pytest.raises(
        ValueError, match=r"Sequential.build: Sequential: class_names must have 3 names.*got \['a', 'b'\]"
    ):
        model.build((2, 2, 1))
    assert not model.built
    assert model.layers[1].params == {}
    model.class_names = NAMES
    model.build((2, 2, 1))
    assert copy.deepcopy(model).class_names == NAMES


def test_a_list_that_is_changed_in_place_is_looked_at_again(tmp_path):
    model = model_of()
    model.class_names = NAMES
    model.class_names[0] = "cat"
    model.save(tmp_path / "m.npz")
    assert mc.Sequential.load(tmp_path / "m.npz").class_names == ["cat", "a dog", "eel"]
    model.class_names.append("fox")
    with pytest.raises(ValueError, match="must have 3 names"):
        model.save(tmp_path / "m.npz")


def test_a_model_with_names_is_more_than_its_layers():
    inner = model_of(build=False)
    inner.class_names = NAMES
    with pytest.raises(RuntimeError, match=r"takes the other one's class_names; got .*Leave out its class_names"):
        mc.Sequential([inner])


@pytest.mark.parametrize(
    "names", [[], ["a"], ["a", "a", "b"], "abc", [1, 2, 3], [["a"]], {"a": 1}, 5, ["a", "b", "\u0000"]]
)
def test_files_that_say_nonsense(tmp_path, names):
    model = model_of()
    document, arrays = describe(model)
    document["model"]["class_names"] = names
    write(tmp_path / "bad.npz", document, arrays)
    with pytest.raises(mc.ModelFileError, match=r"bad\.npz: does not describe a model.*class_names"):
        mc.Sequential.load(tmp_path / "bad.npz")


def test_confusion_matrices_take_names():
    true, outputs = [0, 1, 2, 1], np.eye(3)[[0, 2, 2, 1]]
    want = metrics.confusion_matrix(true, outputs)
    named = [NAMES[number] for number in true]
    for y_true in (true, named, np.array(named)):
        for y_pred in (outputs, outputs.argmax(1), [NAMES[number] for number in outputs.argmax(1)]):
            np.testing.assert_array_equal(metrics.confusion_matrix(y_true, y_pred, NAMES), want)
    assert metrics.confusion_matrix([0], [0], ["a", "b"]).shape == (2, 2)
    with pytest.raises(
        ValueError, match=r"must be among the names of the classes; got 'a dig'. Did you mean 'a dog'\?"
    ):
        metrics.confusion_matrix(["a dig"], ["eel"], NAMES)
    with pytest.raises(ValueError, match=r"labels must be .* \[0, 2\]; got 3"):
        metrics.confusion_matrix([3], [0], NAMES)
    with pytest.raises(ValueError, match="classes must be different"):
        metrics.confusion_matrix([0], [0], ["a", "a"])


def test_the_warning_of_a_class_left_out_calls_it_by_name():
    model = model_of()
    model.class_names = NAMES
    with pytest.warns(UserWarning, match="all of class 'eel': none is left to train on"):
        model.fit(
            np.random.default_rng(0).random((9, 2, 2, 1)), np.repeat([0, 1, 2], 3), validation_split=0.4, verbose=0
        )
