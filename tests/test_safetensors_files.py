"""Files of safetensors: what is in them, that nothing is scrambled, and what damaged ones are told."""

import builtins
import json

import numpy as np
import pytest

import minicnn as mc
from minicnn import interop, layers

safetensors = pytest.importorskip("safetensors.numpy")


class Turned(mc.Layer):
    """Has statistics that do not lie in the order of their shape."""

    output_function = "changed"

    def build(self, input_shape, rng):
        shape = super().build(input_shape, rng)
        self.state["turned"] = np.arange(12.0).reshape(3, 4).T
        return shape

    def forward(self, x, training=False):
        return x


def made(seed=0, dtype="float32"):
    chain = [layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(), layers.Flatten(), layers.Dense(3)]
    model = mc.Sequential(chain, dtype=dtype)
    model.build((6, 5, 2))
    rng = np.random.default_rng(seed)
    model.load_state_dict({name: rng.uniform(0.2, 1.2, a.shape) for name, a in model.state_dict().items()})
    return model


def header(path):
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_come_back(tmp_path, dtype):
    path, model, other = tmp_path / "w.safetensors", made(dtype=dtype), made(1, dtype)
    model.class_names = ["a", "b", 'c "d"']
    interop.save_safetensors(model, path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    interop.load_safetensors(other, str(path))
    assert other.fingerprint() == model.fingerprint()
    about = header(path)
    assert {*about} - {"__metadata__"} == {*model.state_dict()}
    about = about["__metadata__"]
    assert (about["format"], about["fingerprint"]) == ("minicnn", model.fingerprint())
    assert json.loads(about["class_names"]) == model.class_names


def test_the_library_itself_reads_the_same(tmp_path):
    interop.save_safetensors(made(), tmp_path / "w")
    found = safetensors.load_file(tmp_path / "w")
    assert all(np.array_equal(found[name], array) for name, array in made().state_dict().items())
    assert "class_names" not in header(tmp_path / "w")["__metadata__"]


def test_transposed_views_are_not_scrambled(tmp_path):
    """The library writes the memory of an array, whatever its strides say."""
    model = mc.Sequential([Turned(), layers.Dense(2)])
    model.build((4,))
    interop.save_safetensors(model, tmp_path / "w")
    assert np.array_equal(safetensors.load_file(tmp_path / "w")["0.turned"], np.arange(12.0).reshape(3, 4).T)
    state = interop.to_torch(made())
    again = safetensors.load(safetensors.save(state))
    assert all(np.array_equal(again[name], array) for name, array in state.items())


def test_bfloat16_and_float16(tmp_path):
    model, arrays = made(), made(1).state_dict()
    arrays = {name: (array.view(np.uint32) & 0xFFFF0000).view(np.float32) for name, array in arrays.items()}
    data = safetensors.save({name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in arrays.items()})
    (tmp_path / "w").write_bytes(_as_bf16(data))
    interop.load_safetensors(model, tmp_path / "w")
    assert all(np.array_equal(found, arrays[name]) for name, found in model.state_dict().items())
    (tmp_path / "w").write_bytes(safetensors.save({name: a.astype(np.float16) for name, a in arrays.items()}))
    interop.load_safetensors(model, tmp_path / "w")
    assert all(np.array_equal(a, arrays[n].astype(np.float16)) for n, a in model.state_dict().items())


def _as_bf16(data):
    """The file with another word for what its numbers are."""
    size = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + size].rstrip(b" ").replace(b'"U16"', b'"BF16"')
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def refused(model, path, *said):
    before = model.fingerprint()
    with pytest.raises(interop.ConversionError) as caught:
        interop.load_safetensors(model, path)
    assert model.fingerprint() == before
    assert not [word for word in said if word not in str(caught.value)], str(caught.value)


def test_what_does_not_fit_is_listed(tmp_path):
    path, model, arrays = tmp_path / "w", made(), made(1).state_dict()
    less = {name: array for name, array in arrays.items() if name not in ("0.bias", "1.gamma")}
    path.write_bytes(safetensors.save(less | {"9.kernel": np.ones(3)}))
    refused(model, path, "missing: 0.bias, 1.gamma; left over: 9.kernel")
    path.write_bytes(safetensors.save(interop.to_torch(made())))
    refused(model, path, "0.kernel", "interop.load_torch takes PyTorch's names")
    path.write_bytes(safetensors.save(arrays | {"0.bias": np.ones(5, np.float32)}))
    refused(model, path, "0.bias must have shape (4,); got shape (5,)")
    path.write_bytes(safetensors.save(arrays | {"0.bias": np.full(4, np.nan)}))
    refused(model, path, "0.bias must hold numbers")
    path.write_bytes(safetensors.save(arrays | {"1.moving_variance": np.array([1, 1, -1, 1.0])}))
    refused(model, path, "1.moving_variance must be >= 0, of which a root is taken; got -1.0")
    path.write_bytes(safetensors.save(arrays | {"0.bias": np.ones(4, np.complex64)}))
    refused(model, path, "must hold '0.bias' as real numbers; got C64")


def test_damaged_files(tmp_path):
    path, model = tmp_path / "w", made()
    interop.save_safetensors(model, path)
    data = path.read_bytes()
    for wrong in (b"", data[:50], data[:-1], data + b"0", b"\xff" * 8 + data[8:], data[:8] + b"[" + data[9:],
                  data.replace(b"[3]", b"[3000000000000]", 1)):  # fmt: skip
        path.write_bytes(wrong)
        refused(model, path, f"interop.load_safetensors: {path} is damaged, or no file of safetensors")
    long = b'{"__metadata__": {"a": "' + b"x" * 2**22 + b'"}}  '  # the library would make many times as much of it
    path.write_bytes(len(long).to_bytes(8, "little") + long)
    refused(model, path, "is damaged, or no file of safetensors: its header has 41943")
    with pytest.raises(FileNotFoundError):
        interop.load_safetensors(model, tmp_path / "none")


def test_what_is_needed_is_said(tmp_path, monkeypatch):
    with pytest.raises(TypeError, match=r"interop.save_safetensors: model must be a Sequential"):
        interop.save_safetensors({}, tmp_path / "w")
    with pytest.raises(RuntimeError, match=r"build\(input_shape\)"):
        interop.save_safetensors(mc.Sequential([layers.Dense(2)]), tmp_path / "w")
    real = builtins.__import__

    def without(name, *more, **named):
        if name.partition(".")[0] == "safetensors":
            raise ImportError(name)
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'save_safetensors needs safetensors: pip install "minicnn\[interop\]"'):
        interop.save_safetensors(made(), tmp_path / "w")
    assert not [*tmp_path.iterdir()]
