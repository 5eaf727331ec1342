"""Files of weights alone."""

import json
import os

import numpy as np
import pytest
from models import X, compiled, small, trained

import minicnn as mc
from minicnn import archive, layers, saving


def test_weights_go_through_a_file(tmp_path):
    model, again = trained(), small()
    model.save_weights(tmp_path / "w.npz")
    assert again.fingerprint() != model.fingerprint()
    again.load_weights(tmp_path / "w.npz")
    assert again.fingerprint() == model.fingerprint()
    assert np.array_equal(again.predict(X), model.predict(X))
    model.save_weights(os.fsencode(tmp_path / "w2.npz"))
    assert (tmp_path / "w.npz").read_bytes() == (tmp_path / "w2.npz").read_bytes()
    with np.load(tmp_path / "w.npz") as found:
        assert {name for name in found.files if name.endswith((".kernel", ".bias"))} <= set(model.state_dict())
        assert np.array_equal(found["0.kernel"], model.state_dict()["0.kernel"])


def test_the_weights_of_whole_models_are_taken_too(tmp_path):
    model = trained()
    model.save(tmp_path / "m.npz")
    saving.save_checkpoint(model, tmp_path / "c.npz", 2, {})
    for name in ("m.npz", "c.npz"):
        again = compiled()
        again.load_weights(tmp_path / name)
        assert again.fingerprint() == model.fingerprint()
        assert again.optimizer.iterations == 0


def test_a_file_of_weights_is_no_model(tmp_path):
    trained().save_weights(tmp_path / "w.npz")
    for load in (mc.Sequential.load, saving.load_checkpoint, saving.load_model):
        with pytest.raises(
            mc.ModelFileError, match=r"w.npz: holds weights alone: make the model, and take them by load_"
        ):
            load(tmp_path / "w.npz")


def other(**changes):
    make = {"filters": 3, "units": 4, "dtype": "float32", "more": []} | changes
    chain = [
        layers.Conv2D(make["filters"], 3, activation="relu"), layers.Dropout(0.3), layers.BatchNormalization(),
        layers.Flatten(), layers.Dense(make["units"]), *make["more"],
    ]  # fmt: skip
    return mc.Sequential([mc.Input((6, 5, 2)), *chain], dtype=make["dtype"])


@pytest.mark.parametrize(("model", "message"), [
    (other(filters=2), r"must hold '0.kernel' as <f4 \(3, 3, 2, 2\); got <f4 \(3, 3, 2, 3\)"),
    (other(dtype="float64"), "must hold '0.kernel' as <f8"),
    (other(more=[layers.Dense(2)]), "lacks the array '5.kernel'"),
    (mc.Sequential([mc.Input((6, 5, 2)), layers.Conv2D(3, 3)]), "has an array that this model has not, '2.gamma'"),
])  # fmt: skip
def test_weights_of_another_model_change_nothing(model, message, tmp_path):
    trained().save_weights(tmp_path / "w.npz")
    before = model.fingerprint()
    with pytest.raises(mc.ModelFileError, match=f"w.npz: {message}"):
        model.load_weights(tmp_path / "w.npz")
    assert model.fingerprint() == before


def packed(members):
    return b"".join(archive.sealed(archive.pack(members)))


GOOD = {"format": 1, "minicnn": "0.1.0", "holds": "weights"}


@pytest.mark.parametrize(("change", "message"), [
    (lambda m: {name: m[name] for name in m if name != "weights.json"}, "has neither weights nor a model in it"),
    (lambda m: m | {"weights.json": b"{"}, "has a weights.json that is not JSON"),
    (lambda m: m | {"weights.json": b"[]"}, "has a weights.json that minicnn did not write"),
    (lambda m: m | {"weights.json": b'{"format": 1}'}, "has a weights.json that minicnn did not write"),
    (lambda m: m | {"weights.json": to_json(GOOD | {"format": 2})}, "has format 2, and this minicnn reads only 1"),
    (lambda m: m | {"weights.json": to_json(GOOD | {"more": 1})}, "must hold format, minicnn, holds as weights.json"),
    (lambda m: m | {"9.kernel.npy": m["0.kernel.npy"]}, "has an array that this model has not, '9.kernel'"),
    (lambda m: m | {"0.bias.npy": m["0.bias.npy"][:-1]}, "must hold '0.bias'"),
    (lambda m: m | {"0.bias.npy": m["0.bias.npy"][:-12] + np.full(3, np.nan, "<f4").tobytes()}, "holds NaN in '0.b"),
])  # fmt: skip
def test_damaged_files_change_nothing(change, message, tmp_path):
    model = trained()
    model.save_weights(tmp_path / "w.npz")
    members = {name: bytes(data) for name, data in archive.unpack((tmp_path / "w.npz").read_bytes()).items()}
    (tmp_path / "bad.npz").write_bytes(packed(change(members)))
    before = model.fingerprint()
    with pytest.raises(mc.ModelFileError, match=f"bad.npz: {message}"):
        model.load_weights(tmp_path / "bad.npz")
    assert model.fingerprint() == before


def to_json(document):
    return json.dumps(document, separators=(",", ":")).encode()


def test_cut_off_files_are_found(tmp_path):
    model = trained()
    model.save_weights(tmp_path / "w.npz")
    whole = (tmp_path / "w.npz").read_bytes()
    for end in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.npz").write_bytes(whole[:end])
        with pytest.raises(mc.ModelFileError, match=r"cut.npz: is "):
            model.load_weights(tmp_path / "cut.npz")
    with pytest.raises(FileNotFoundError):
        model.load_weights(tmp_path / "nothing.npz")


def test_what_is_no_number_is_not_written(tmp_path):
    model = trained()
    model.save_weights(tmp_path / "w.npz")
    before = (tmp_path / "w.npz").read_bytes()
    model.weights[0][...] = np.nan
    with pytest.raises(
        ValueError, match=r"^Sequential.save_weights: every parameter must be a number; got NaN in '0.ke"
    ):
        model.save_weights(tmp_path / "w.npz")
    assert (tmp_path / "w.npz").read_bytes() == before


@pytest.mark.parametrize("ending", [".keras", ".h5", ".weights.h5", ".HDF5"])
def test_names_of_other_formats_are_refused(ending, tmp_path):
    model = trained()
    path = tmp_path / f"m{ending}"
    for save in (model.save, model.save_weights, lambda path: saving.save_checkpoint(model, path, 1, {})):
        with pytest.raises(ValueError, match=r"the file is a .npz, and its name must not say that it is .*/m.npz'$"):
            save(path)
    assert not [*tmp_path.iterdir()]


def test_before_build(tmp_path):
    for method in ("save_weights", "load_weights"):
        with pytest.raises(RuntimeError, match=rf"^Sequential.{method}: needs build"):
            getattr(mc.Sequential([layers.Dense(1)]), method)(tmp_path / "w.npz")
