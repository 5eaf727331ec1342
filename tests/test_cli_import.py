"""``minicnn import``, and the verbs that read models from files of ONNX."""

import json

import numpy as np
import pytest

from minicnn import Sequential, layers
from minicnn.cli import main

pytest.importorskip("onnx")


@pytest.fixture
def model(tmp_path, monkeypatch):
    """In a file, m.onnx; beside it x.npy."""
    monkeypatch.chdir(tmp_path)
    made = Sequential([layers.Conv2D(3, 3, activation="relu"), layers.Flatten(), layers.Dense(2, activation="softmax")])
    made.build((8, 8, 1))
    made.class_names = ["yes", "no"]
    made.export("m.onnx")
    np.save("x.npy", np.random.default_rng(0).random((3, 8, 8, 1)))
    return made


def test_import_writes_a_model_that_predicts_the_same(model, capsys):
    assert main(["import", "m.onnx", "m.npz"]) == 0
    assert capsys.readouterr().out == "m.npz\n"
    x = np.load("x.npy")
    np.testing.assert_allclose(Sequential.load("m.npz").predict(x), model.predict(x), atol=1e-6)
    assert main(["import", "m.onnx", "m.npz", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == {"file": "m.onnx", "model": "m.npz", "input_shape": [8, 8, 1], "params": model.count_params()}


def test_verbs_read_onnx(model, capsys):
    assert main(["predict", "m.onnx", "x.npy", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    x = np.load("x.npy")
    np.testing.assert_allclose([one["probability"] for one in found], model.predict(x).max(axis=1), atol=1e-5)
    assert {one["class"] for one in found} <= {"yes", "no"}
    assert main(["summary", "m.onnx"]) == 0
    assert capsys.readouterr().out == model.summary_text() + "\n"
    for name in ("yes", "no"):
        pytest.importorskip("PIL.Image").fromarray(np.full((8, 8), 9, np.uint8)).save(f"{name}.png")
    with open("t.csv", "w") as file:
        file.write("file,label\nyes.png,yes\nno.png,no\n")
    assert main(["evaluate", "m.onnx", "t.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 0.5


def test_what_is_wrong_is_one_line(model, capsys):
    with open("bad.onnx", "wb") as file:
        file.write(b"nothing of the kind")
    for words, said in (
        (["import", "bad.onnx", "m.npz"], "bad.onnx: must be an ONNX file"),
        (["predict", "bad.onnx", "x.npy"], "bad.onnx: must be an ONNX file"),
        (["import", "absent.onnx", "m.npz"], "absent.onnx: No such file"),
        (["import", ".", "m.npz"], "Is a directory"),
    ):
        assert main(words) == 1
        errors = capsys.readouterr().err
        assert said in errors
        assert errors.count("\n") == 1
    with pytest.raises(SystemExit) as caught:
        main(["import", "m.onnx", "m.onnx"])
    assert caught.value.code == 2
    assert "another file" in capsys.readouterr().err
