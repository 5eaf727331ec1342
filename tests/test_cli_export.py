"""``minicnn export``."""

import json
import os

import numpy as np
import pytest

from minicnn import Sequential, layers
from minicnn.cli import main

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


@pytest.fixture
def model(tmp_path, monkeypatch):
    """In a file, m.npz."""
    monkeypatch.chdir(tmp_path)
    chain = [layers.Conv2D(3, 3), layers.Dropout(0.5), layers.Flatten(), layers.Dense(2, activation="softmax")]
    made = Sequential(chain, name="fine")
    made.build((6, 5, 2))
    made.save("m.npz")
    return made


def outputs(path, x):
    return ort.InferenceSession(path).run(None, {"input": x})[0]


def test_export_writes_a_file_and_prints_its_name(model, capsys):
    assert main(["export", "m.npz", "m.onnx"]) == 0
    assert capsys.readouterr().out == "m.onnx\n"
    x = np.random.default_rng(0).random((4, 6, 5, 2)).astype("f")
    np.testing.assert_allclose(outputs("m.onnx", x), model.predict(x), atol=1e-6)


def test_the_options_and_json(model, capsys):
    words = ["--opset", "13", "--layout", "NCHW", "--batch-size", "4", "--training", "--json"]
    assert main(["export", "m.npz", "m.onnx", *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report.pop("bytes") == os.path.getsize("m.onnx")
    chosen = {"opset": 13, "input_layout": "NCHW", "batch_size": 4, "training": True}
    assert report == {"model": "m.npz", "file": "m.onnx", **chosen}
    assert onnx.load("m.onnx").opset_import[0].version == 13
    x = np.random.default_rng(0).random((4, 6, 5, 2)).astype("f").transpose(0, 3, 1, 2)
    assert (outputs("m.onnx", x) != outputs("m.onnx", x[::-1])[::-1]).any()  # noisy
    assert "Dropout" in [node.op_type for node in onnx.load("m.onnx").graph.node]


def test_a_float64_model_is_a_note(model, capsys):
    made = Sequential([layers.Dense(2)], dtype="float64")
    made.build((3,))
    made.save("d.npz")
    assert main(["export", "d.npz", "d.onnx"]) == 0
    said = capsys.readouterr()
    assert said.out == "d.onnx\n"
    assert "minicnn: warning: Sequential.export: a float64 model is cast to float32" in said.err


@pytest.mark.parametrize(("words", "message"), [
    (["m.npz", "no/m.onnx"], "no: There is no such folder"),
    (["m.npz", "."], ".: Is a directory"),
    (["absent.npz", "m.onnx"], "absent.npz: No such file or directory"),
    (["m.npz", "m.onnx", "--opset", "99"], "opset must be a whole number in [13, "),
])  # fmt: skip
def test_what_fails(model, words, message, capsys):
    assert main(["export", *words]) == 1
    assert message in capsys.readouterr().err
    assert not os.path.exists("m.onnx")


@pytest.mark.parametrize(("words", "message"), [
    (["m.npz"], "required: OUT"),
    (["m.npz", ""], "must be the path of a file"),
    (["m.npz", "m.onnx", "--opset", "12"], "must be at least 13"),
    (["m.npz", "m.onnx", "--layout", "NCWH"], "invalid choice: 'NCWH'"),
    (["m.npz", "m.onnx", "--batch-size", "0"], "must be at least 1"),
    (["m.npz", "./m.npz"], "OUT must be another file than the model, m.npz"),
])  # fmt: skip
def test_wrong_usage(model, words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["export", *words])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert Sequential.load("m.npz").fingerprint() == model.fingerprint()


def test_help_says_what_is_needed(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    assert "Needs onnx" in " ".join(capsys.readouterr().out.split())
