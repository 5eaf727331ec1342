"""Keras's door to models: load_model, save_model, model_from_json."""

import json

import numpy as np
import pytest
from models import LABELS, Halve, X, trained

import minicnn as mc
from minicnn import layers, models


def test_a_model_goes_through_a_file(tmp_path):
    model = trained()
    models.save_model(model, tmp_path / "m.npz")
    again = models.load_model(tmp_path / "m.npz")
    assert np.array_equal(again.predict(X), model.predict(X))
    assert again.evaluate(X, LABELS) == model.evaluate(X, LABELS)
    with pytest.raises(TypeError, match=r"^models.save_model: model must be a Sequential; got 'm' \(str\)"):
        models.save_model("m", tmp_path / "m.npz")


def test_the_architecture_as_text():
    model = mc.Sequential([mc.Input((6, 5, 2)), layers.Conv2D(3, 3, name="c"), Halve()], seed=3, name="two")
    again = models.model_from_json(model.to_json(), {"Halve": Halve})
    assert again.get_config() == model.get_config()
    assert not again.built
    again.build((6, 5, 2))
    assert again.fingerprint() == model.fingerprint()
    assert json.loads(model.to_json())["class_name"] == "Sequential"


@pytest.mark.parametrize("text", [
    "", "{", "[]", '{"class_name": "Functional", "config": {}}', '{"class_name": "Sequential", "config": {}}',
    '{"class_name": "Sequential", "config": {"seed": -1, "dtype": "float32", "input_shape": null, "layers": []}}',
    '{"class_name": "Sequential", "config": []}',
])  # fmt: skip
def test_texts_that_describe_no_model(text):
    with pytest.raises(ValueError, match=r"^models.model_from_json: text must be what to_json gave; got "):
        models.model_from_json(text)
    with pytest.raises(TypeError, match=r"^models.model_from_json: text must be what to_json gave; got "):
        models.model_from_json(text.encode())
