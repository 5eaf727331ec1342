"""Model files: exact round trips, the same bytes for the same model, and nothing but a sentence for anything else."""

import json
import os
import pickle
import re
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

import minicnn
from minicnn import ModelFileError, Sequential, archive, layers, optimizers, saving
from minicnn.document import describe, to_json


def small(dtype="float32", seed=5):
    """Built, with a state of every kind."""
    model = Sequential(
        [layers.Conv2D(2, 2), layers.BatchNormalization(), layers.Flatten(), layers.Dropout(0.25), layers.Dense(3)],
        seed=seed,
        dtype=dtype,
    )
    model.build((3, 3, 1))
    return model


def data(n=12):
    rng = np.random.default_rng(1)
    return rng.standard_normal((n, 3, 3, 1)).astype(np.float32), rng.integers(0, 3, n)


def trained(optimizer=None, **arguments):
    model = small(**arguments)
    optimizer = optimizer or optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy", "top_2_accuracy"])
    model.fit(*data(), batch_size=4, epochs=2, verbose=0)
    return model


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.npz"


class Scale(minicnn.Layer):
    """A custom layer: y = factor x, with a factor for each feature."""

    def __init__(self, start=1.0, dtype=None):
        super().__init__(dtype)
        self.start = start
        self.state["calls"] = 0

    def build(self, input_shape, rng):
        input_shape = super().build(input_shape, rng)
        self.add_param("factor", input_shape, lambda shape, rng: np.full(shape, self.start), rng)
        self.params["own"], self.grads["own"] = rng.standard_normal(2).astype(self.dtype), np.zeros(2, self.dtype)
        return input_shape

    def forward(self, x, training=False):
        return x * self.params["factor"]


# ---- round trips ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_comes_back_exactly(path, dtype):
    model = trained(dtype=dtype)
    model.save(path)
    loaded = Sequential.load(path)
    assert loaded.fingerprint() == model.fingerprint()
    assert loaded.get_config() == model.get_config()
    assert loaded.compile_config() == model.compile_config()
    assert loaded.layers[3].state == {"step": 6}
    assert not loaded.training
    before, after = model.state_dict(), loaded.state_dict()
    assert list(before) == list(after)
    for name, array in before.items():
        assert after[name].dtype == array.dtype
        np.testing.assert_array_equal(after[name], array)
    x, y = data()
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    assert loaded.evaluate(x, y) == model.evaluate(x, y)
    assert loaded.parameters.flags.writeable
    loaded.fit(x, y, verbose=0)
    assert loaded.fingerprint() != model.fingerprint()


def test_numpy_opens_the_file_and_zip_tools_too(path):
    model = trained()
    model.save(path)
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files if name != "model.json"}
    assert arrays.keys() == model.state_dict().keys()
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(arrays[name], array)
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}
        assert json.loads(file.read("model.json"))["format"] == 1


def test_the_same_model_gives_the_same_bytes(tmp_path):
    for name in "ab":
        trained().save(tmp_path / name)
    Sequential.load(tmp_path / "a").save(tmp_path / "c")
    contents = {(tmp_path / name).read_bytes() for name in "abc"}
    assert len(contents) == 1
    trained(seed=6).save(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() not in contents


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01, clipnorm=1.0),
        lambda: optimizers.Adam(optimizers.CosineDecay(0.01, 20)),
        lambda: optimizers.AdamW(0.01),
        lambda: optimizers.SGD(0.1),
        lambda: optimizers.Adam(0.01, amsgrad=True, clipvalue=0.1),
        lambda: optimizers.Nadam(optimizers.CosineDecayRestarts(0.01, 3)),
        lambda: optimizers.Adamax(optimizers.CosineDecay(0.001, 9, 0.1, 0.01, 5)),
        lambda: optimizers.RMSprop(optimizers.InverseTimeDecay(0.01, 3, 0.5), momentum=0.5, centered=True),
        lambda: optimizers.Adagrad(0.1, global_clipnorm=1.0),
        lambda: optimizers.Adadelta(1.0),
    ],
)
def test_a_run_goes_on_from_a_checkpoint_bit_for_bit(path, optimizer):
    x, y = data()
    straight = small()
    straight.compile(optimizer(), "sparse_categorical_crossentropy", ["accuracy"])
    whole = straight.fit(x, y, batch_size=5, epochs=4, verbose=0).history
    first = small()
    first.compile(optimizer(), "sparse_categorical_crossentropy", ["accuracy"])
    history = first.fit(x, y, batch_size=5, epochs=2, verbose=0).history
    saving.save_checkpoint(first, path, 2, history)
    second, epoch, found = saving.load_checkpoint(path)
    assert epoch == 2
    assert found == history
    rest = second.fit(x, y, batch_size=5, epochs=4, initial_epoch=2, verbose=0).history
    assert second.fingerprint() == straight.fingerprint()
    assert {name: found[name] + rest[name] for name in found} == whole
    assert second.optimizer.iterations == straight.optimizer.iterations
    assert saving.load_model(path).fingerprint() == first.fingerprint()


def test_history_may_hold_infinity(path):
    saving.save_checkpoint(trained(), path, 1, {"loss": [np.float32(0.1)], "val_loss": [float("inf")]})
    assert saving.load_checkpoint(path)[2] == {"loss": [float(np.float32(0.1))], "val_loss": [float("inf")]}


def test_frozen_layers_stay_frozen(path):
    model = small()
    model.layers[0].trainable = False
    model.save(path)
    assert [layer.trainable for layer in Sequential.load(path).layers] == [False, True, True, True, True]


def test_layers_of_ones_own(path):
    model = Sequential([layers.Flatten(), Scale(start=2.0)])
    model.build((2, 2, 1))
    model.layers[1].state["calls"] = 9
    model.save(path)
    with pytest.raises(ModelFileError, match=r"m\.npz: .*custom_layers; got 'Scale'"):
        Sequential.load(path)
    loaded = Sequential.load(path, custom_layers={"Scale": Scale})
    assert loaded.layers[1].state == {"calls": 9}
    assert loaded.fingerprint() == model.fingerprint()


def test_what_no_file_can_hold(path):
    model = small()
    model.compile("sgd", lambda outputs, y: (0.0, outputs), [lambda y, outputs: 0.0])
    model.save(path)
    assert Sequential.load(path).optimizer is None
    with pytest.raises(ValueError, match="save_checkpoint: the model must be compiled"):
        saving.save_checkpoint(model, path, 1, {})
    model = Sequential([layers.Dense(2, kernel_initializer=lambda shape, rng: np.zeros(shape))])
    model.build((2,))
    with pytest.raises(TypeError, match=r"Sequential\.save: the arguments of every layer must be ready for JSON"):
        model.save(path)
    with pytest.raises(RuntimeError):
        Sequential([layers.Dense(2)]).save(path)
    assert Sequential.load(path).optimizer is None  # the old file stayed


def test_a_model_that_went_wrong_does_not_replace_a_good_file(path):
    model = small()
    model.save(path)
    before = path.read_bytes()
    model.parameters[0] = np.nan
    with pytest.raises(ValueError, match=r"every parameter must be a number; got NaN in '0\.kernel'"):
        model.save(path)
    assert path.read_bytes() == before


# ---- accidents ----


def test_every_truncation_is_found(path):
    model = Sequential([layers.Dense(1)])
    model.build((2,))
    model.save(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match=r"m\.npz: is (empty|not a minicnn model file|truncated)"):
            saving.load_model(path)


@pytest.mark.parametrize("tail", [b"\0", b"PK", bytes(1000)])
def test_bytes_after_the_end_are_found(path, tail):
    small().save(path)
    path.write_bytes(path.read_bytes() + tail)
    with pytest.raises(ModelFileError, match="is truncated, or is not"):
        saving.load_model(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"1234567", "is not a minicnn model file"),
        (b"<!doctype html><html></html>", "is not a minicnn model file"),
        (pickle.dumps({"a": 1}), "is not a minicnn model file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is not a minicnn model file"),
        (b"PK\3\4", "is truncated, or is not a minicnn model file"),
        (b"PK\3\4" + bytes(500), "is truncated, or is not a minicnn model file"),
    ],
)
def test_foreign_files(path, content, message):
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=f"m.npz: {message}"):
        saving.load_model(path)


def test_foreign_archives(path):
    np.savez(path, a=np.zeros(3))
    with pytest.raises(ModelFileError, match="is truncated, or is not a minicnn model file"):
        saving.load_model(path)


def test_other_things_in_the_place_of_a_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        saving.load_model(tmp_path / "absent.npz")
    with pytest.raises(IsADirectoryError):
        saving.load_model(tmp_path)
    with pytest.raises(IsADirectoryError):
        small().save(tmp_path)
    with pytest.raises(FileNotFoundError):
        small().save("")
    with pytest.raises(FileNotFoundError):
        small().save(tmp_path / "absent" / "m.npz")
    small().save(tmp_path / "m.npz")
    before = (tmp_path / "m.npz").read_bytes()
    for path in ("m.npz/", "m.npz/.", "m.npz/../other.npz", "m.npz//"):
        for act in (small(seed=5).save, saving.load_model):
            with pytest.raises(NotADirectoryError):
                act(f"{tmp_path}/{path}")
    for path in ("new.npz/", "new.npz/."):
        with pytest.raises((IsADirectoryError, FileNotFoundError)):
            small().save(f"{tmp_path}/{path}")
        with pytest.raises(OSError, match="directory"):
            small().save(os.fsencode(f"{tmp_path}/{path}"))
    assert (tmp_path / "m.npz").read_bytes() == before
    assert os.listdir(tmp_path) == ["m.npz"]
    if os.path.exists("/proc/self/status"):  # a regular file that says that it is empty is not read: it may block
        with pytest.raises(ModelFileError, match="status: is empty"):
            saving.load_model("/proc/self/status")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ModelFileError, match="pipe: is not a regular file"):
            saving.load_model(tmp_path / "pipe")
        with pytest.raises(OSError, match="Not a regular file"):
            small().save(tmp_path / "pipe")
        assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


def test_a_model_file_is_no_checkpoint(path):
    trained().save(path)
    with pytest.raises(ModelFileError, match=r"m\.npz: is a model without the state of its training"):
        saving.load_checkpoint(path)


# ---- files made to hurt: whole and sealed as they should be, but with something else inside ----


def parts(checkpoint=True):
    """(document, arrays) of a checkpoint, to be changed."""
    model = trained()
    document, arrays = describe(model)
    if checkpoint:
        state = model.optimizer.get_state()
        arrays["optimizer/velocity"] = state.pop("velocity")
        document["checkpoint"] = {"epoch": 2, "history": {"loss": [1.0, 0.5]}, "optimizer": state}
    return json.loads(to_json(document)), arrays


def seal(path, members):
    path.write_bytes(b"".join(archive.sealed(archive.pack(members))))


def members_of(document, arrays):
    text = document if isinstance(document, bytes) else to_json(document)
    npy = {f"{n}.npy": archive.npy_header(a.dtype, a.shape) + a.tobytes() for n, a in arrays.items()}
    return {"model.json": text, **npy}


def refused(path, match):
    with pytest.raises(ModelFileError, match=match) as caught:
        saving.load_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 600 + len(str(path))


def test_what_the_hostile_files_are_made_of_is_good(path):
    seal(path, members_of(*parts()))
    model, epoch, history = saving.load_checkpoint(path)
    assert (epoch, history) == (2, {"loss": [1.0, 0.5]})
    assert model.fingerprint() == trained().fingerprint()


def change(*keys, to):
    """A function that puts ``to`` in a place of the document."""

    def edit(document, arrays):
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = to

    return edit


def drop(*keys):
    def edit(document, arrays):
        for key in keys[:-1]:
            document = document[key]
        del document[keys[-1]]

    return edit


def array(name, value):
    def edit(document, arrays):
        if value is None:
            del arrays[name]
        else:
            arrays[name] = value

    return edit


DENSE = ("model", "layers", 4)
NO_MODEL = "does not describe a model that can be rebuilt"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change("format", to=2), "has format 2, and this minicnn reads only 1: a newer minicnn is needed"),
        (change("format", to=10**30), "a newer minicnn is needed"),
        (change("format", to=0), "has no format that minicnn knows; got 0"),
        (change("format", to=True), "has no format that minicnn knows; got True"),
        (change("format", to="1"), "has no format that minicnn knows"),
        (drop("format"), "has no format"),
        (drop("compile"), "must hold .* as model.json"),
        (change("more", to=1), "must hold .* as model.json; got .*more"),
        (change("mo\nre\x1b[2J", to=1), "must hold .* as model.json; got .*mo re \\[2J"),
        (change("model", to=None), NO_MODEL),
        (change("model", to=[]), NO_MODEL),
        (drop("model", "seed"), NO_MODEL),
        (change("model", "seed", to=-1), "seed must be a whole number"),
        (change("model", "dtype", to="object"), "dtype must be 'float32' or 'float64'"),
        (change("model", "dtype", to="float64"), NO_MODEL),
        (change("model", "input_shape", to=None), NO_MODEL),
        (change("model", "input_shape", to=[3, 3]), NO_MODEL),
        (change("model", "input_shape", to=[3, -3, 1]), NO_MODEL),
        (change("model", "input_shape", to=[3, 3, 10**12]), r"must hold '0\.kernel' as <f4 \(2, 2, 1000000000000, 2\)"),
        (change("model", "input_shape", to=[10**9, 10**9, 1]), r"must hold '4\.kernel'"),
        (change("model", "layers", to=[]), NO_MODEL),
        (change("model", "layers", to="Dense"), NO_MODEL),
        (change(*DENSE, "layer", to="Evil"), r"be given in custom_layers; got 'Evil'"),
        (change(*DENSE, "layer", to="x" * 10**6), "be given in custom_layers"),
        (change(*DENSE, "layer", to="__import__"), "be given in custom_layers"),
        (change(*DENSE, "layer", to=["Dense"]), NO_MODEL),
        (change(*DENSE, "config", to=None), NO_MODEL),
        (change(*DENSE, "config", "evil", to=1), "`evil`"),
        (change(*DENSE, "config", "units", to=10**12), r"as <f4 \(8, 1000000000000\); got <f4 \(8, 3\)"),
        (change(*DENSE, "config", "units", to=10**400), r"must hold '4\.kernel'"),
        (change(*DENSE, "config", "units", to=4), r"must hold '4\.kernel' as <f4 \(8, 4\)"),
        (change(*DENSE, "config", "units", to=2.5), NO_MODEL),
        (change(*DENSE, "config", "activation", to="__import__('os').system('x')"), NO_MODEL),
        (change(*DENSE, "config", "use_bias", to=False), r"'optimizer/velocity' as <f4 \(96,\); got <f4 \(112,\)"),
        (change("model", "layers", 1, "layer", to="ReLU"), NO_MODEL),
        (change("state", to={}), r"must hold 3\.step as the state of the layers; got nothing"),
        (change("state", to=[3]), r"must hold 3\.step as the state of the layers; got list"),
        (change("state", "0.evil", to=1), r"must hold 3\.step as"),
        (change("state", "3.step", to=-1), r"must hold a whole number .* as '3\.step'; got -1"),
        (change("state", "3.step", to=2**63), "must hold a whole number"),
        (change("state", "3.step", to=2**62), r"must hold a whole number below 2\^62 as '3\.step'"),
        (change("checkpoint", "epoch", to=2**62), r"must hold a whole number below 2\^62 as 'epoch'"),
        (change("checkpoint", "optimizer", "iterations", to=2**62), r"below 2\^62 as 'iterations'"),
        (change("state", "3.step", to=1.0), "must hold a whole number"),
        (change("state", "3.step", to=True), "must hold a whole number"),
        (change("compile", to=3), NO_MODEL),
        (change("compile", "optimizer", "name", to="Evil"), NO_MODEL),
        (change("compile", "optimizer", "config", "learning_rate", to=float("nan")), NO_MODEL),
        (change("compile", "loss", "name", to="evil"), NO_MODEL),
        (change("compile", "metrics", to=["evil"]), NO_MODEL),
        (change("compile", to=None), NO_MODEL),
        (change("checkpoint", to=7), "must hold epoch, history, optimizer as the checkpoint; got int"),
        (change("checkpoint", "epoch", to=-1), "must hold a whole number .* as 'epoch'"),
        (change("checkpoint", "history", to=[1]), NO_MODEL),
        (change("checkpoint", "history", "loss", to="1"), "must hold a list of floats as the history of 'loss'"),
        (change("checkpoint", "history", "loss", to=[None]), "must hold a list of floats"),
        (change("checkpoint", "optimizer", to={}), "must hold iterations as the state of the optimiser"),
        (change("checkpoint", "optimizer", "iterations", to=-5), "must hold a whole number"),
        (change("checkpoint", to=None), r"has a member too many, 'optimizer/velocity\.npy'"),
        (array("4.kernel", None), r"lacks the array '4\.kernel'"),
        (array("1.moving_mean", None), r"lacks the array '1\.moving_mean'"),
        (array("optimizer/velocity", None), "lacks the array 'optimizer/velocity'"),
        (array("optimizer/velocity", np.zeros(3, "f4")), "must hold 'optimizer/velocity' as <f4"),
        (array("4.kernel", np.zeros((3, 8), "f4")), r"must hold '4\.kernel' as <f4 \(8, 3\); got <f4 \(3, 8\)"),
        (array("4.kernel", np.zeros((8, 3), "f8")), r"must hold '4\.kernel' as <f4 \(8, 3\); got <f8"),
        (array("4.kernel", np.zeros((8, 3), ">f4")), r"got >f4"),
        (array("4.kernel", np.zeros((8, 3), "i4")), r"got <i4"),
        (array("4.kernel", np.full((8, 3), np.nan, "f4")), r"holds NaN in '4\.kernel'"),
        (array("1.moving_variance", np.full(2, np.nan, "f4")), r"holds NaN in '1\.moving_variance'"),
        (array("5.kernel", np.zeros(2, "f4")), r"has a member too many, '5\.kernel\.npy'"),
        (array("../../evil", np.zeros(2, "f4")), "has a member too many"),
        (array("evil\0", np.zeros(2, "f4")), "has a member too many"),
        (array("x" * 60_000, np.zeros(2, "f4")), "has a member too many"),
    ],
)  # fmt: skip
def test_wrong_contents(path, edit, message):
    document, arrays = parts()
    edit(document, arrays)
    seal(path, members_of(document, arrays))
    refused(path, message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "model.json that is not JSON"),
        (b"{", "model.json that is not JSON"),
        (b"\xff\xfe", "model.json that is not JSON"),
        (b"[" * 200_000, "model.json that is not JSON"),
        (b"[]", "model.json that minicnn did not write"),
        (b"1" * 5000, "model.json that is not JSON"),
        (b'{"format": 1}', "model.json that minicnn did not write"),
        (b'{"format":1,"format":1}', "model.json that minicnn did not write"),
        (b'{"format":1}', "must hold format, minicnn, model"),
    ],
)
def test_wrong_json(path, text, message):
    seal(path, members_of(text, {}))
    refused(path, message)


@pytest.mark.parametrize("cut", [0, 1, 10, 64, 80, -1])
def test_wrong_npy_members(path, cut):
    members = members_of(*parts())
    members["4.bias.npy"] = members["4.bias.npy"][:cut]
    seal(path, members)
    refused(path, r"must hold '4\.bias' as <f4 \(3,\); got")


def test_a_pickle_in_the_place_of_an_array_is_not_opened(path, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    members = members_of(*parts())
    shape = np.empty(3, object)
    shape[:] = [Evil(), 1, 2]
    np.save(tmp_path / "evil.npy", shape, allow_pickle=True)
    for content in ((tmp_path / "evil.npy").read_bytes(), pickle.dumps(Evil())):
        members["4.bias.npy"] = content
        seal(path, members)
        refused(path, r"must hold '4\.bias'")
    assert not (tmp_path / "pwned").exists()


def test_headers_that_numpy_would_read_but_we_never_write(path):
    """A header may hold any Python literal for NumPy; here it is compared, never evaluated."""
    members = members_of(*parts())
    bias = members["4.bias.npy"]
    for before, after in [(b"(3,)", b"(3 )"), (b"False", b"True "), (b"\x01\x00", b"\x02\x00"), (b" \n", b"\n ")]:
        members["4.bias.npy"] = bias.replace(before, after, 1)
        assert members["4.bias.npy"] != bias
        seal(path, members)
        refused(path, r"must hold '4\.bias'")


def test_random_damage_under_a_good_seal_is_a_model_or_a_sentence(path):
    """Whatever stands in the file, under a digest that somebody has made fit: never another exception."""
    seal(path, members_of(*parts()))
    body = path.read_bytes()[:-79]
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(body)
        for place in rng.integers(0, len(body), rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(b"".join(archive.sealed([bytes(damaged)])))
        try:
            saving.load_checkpoint(path)
        except ModelFileError as error:
            assert str(path) in str(error)  # noqa: PT017 - a change in a gap of the header is no change


def test_random_json_under_a_good_seal_is_a_model_or_a_sentence(path):
    """Numbers, names and brackets of the architecture changed by chance, in an archive that is right."""
    document, arrays = parts()
    text = to_json(document)
    rng = np.random.default_rng(1)
    accepted = 0
    for _ in range(300):
        damaged = bytearray(text)
        for place in rng.integers(0, len(text), rng.integers(1, 3)):
            damaged[place] = rng.choice(list(b'0123456789-,:{}[]"eEtrufalsn'))
        seal(path, members_of(bytes(damaged), arrays))
        try:
            saving.load_checkpoint(path)
            accepted += 1
        except ModelFileError as error:
            assert str(path) in str(error)  # noqa: PT017
    assert accepted < 200  # another learning rate, say, is a model too


def test_too_large_for_the_format(path, monkeypatch):
    monkeypatch.setattr(archive, "LARGEST", 1000)
    with pytest.raises(ValueError, match="model files can have 4 GB"):
        trained().save(path)
    assert os.listdir(path.parent) == []
    path.write_bytes(bytes(2000))
    with pytest.raises(ModelFileError, match="more than 4 GB"):
        saving.load_model(path)


# ---- saves that do not end ----


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_while_saving(path):
    root = os.path.dirname(os.path.dirname(os.path.abspath(minicnn.__file__)))
    code = (
        f"import sys\nsys.path.insert(0, {root!r})\n"
        "from minicnn import Sequential, layers\n"
        "m = Sequential([layers.Dense(256)])\nm.build((512,))\n"
        "for i in range(10**6):\n m.parameters[:] = i\n m.save(sys.argv[1])\n print(i, flush=True)"
    )
    for pause in (0.0, 0.003, 0.01, 0.02):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        for _ in range(3):
            assert process.stdout.readline()
        time.sleep(pause)
        process.kill()
        rest = process.stdout.read().split()
        process.stdout.close()
        process.wait()
        values = np.unique(saving.load_model(path).parameters)
        assert len(values) == 1  # whole
        assert values[0] >= int(rest[-1] if rest else 2)  # and nothing lost that was said to be saved
    small().save(path)
    assert os.listdir(path.parent) == ["m.npz"]


@pytest.mark.parametrize("module", [saving, archive], ids=lambda module: module.__name__)
def test_the_source_evaluates_nothing(module):
    with open(module.__file__, encoding="utf-8") as file:
        source = file.read()
    assert not re.search(r"\beval\(|\bexec\(|import pickle|importlib|__import__|allow_pickle", source)


def test_a_file_of_the_first_version_loads_and_its_run_goes_on():
    """A checkpoint that minicnn wrote before its layers could hold layers."""
    x, y = np.random.default_rng(4).random((16, 9, 8, 2)).astype("f"), np.arange(16) % 3
    model, epoch, _ = saving.load_checkpoint(Path(__file__).parent / "data" / "checkpoint-0.1.0.npz")
    assert model.fingerprint() == "1e15b6481973b89436ac2501843c34fbd066fd9ac827b12467ca5c7869337f55"
    expected = [-0.3745882511138916, -0.2337590605020523, -0.16592618823051453]
    np.testing.assert_allclose(model.predict(x)[0], expected, rtol=1e-4)
    mean = [0.2817488784591357, 0.34106817841529846, 0.3771829505761464]  # the masks are those of then
    np.testing.assert_allclose(model.predict_mc(x, 3, seed=2).mean[0], mean, rtol=1e-4)
    assert [layer.trainable for layer in model.layers] == [number != 5 for number in range(len(model.layers))]
    model.fit(x, y, batch_size=4, epochs=3, initial_epoch=epoch, verbose=0)
    assert model.evaluate(x, y)[0] == pytest.approx(1.0622621747383467, rel=1e-3)
