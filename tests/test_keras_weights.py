"""Weights in Keras's files: that each comes to its layer, and what damaged and hostile files are told."""

import builtins
import contextlib

import numpy as np
import pytest
from keras_made import DATA, STORED, archive, dense, kernel, legacy, network, sequential, stored, weights

import minicnn as mc
from minicnn import interop, layers

h5py = pytest.importorskip("h5py")


def built(chain, shape=(4,)):
    model = mc.Sequential(chain)
    model.build(shape)
    return model


def of_dense(number, **more):
    return built([layers.Dense(4, use_bias=False, **more) for _ in range(number)])


@pytest.mark.parametrize("name", STORED)
def test_files_that_keras_wrote(name, tmp_path):
    data = np.load(DATA / "interop.npz")
    model = built(network(), data["x"].shape[1:])
    assert not np.allclose(model.predict(data["x"]), data["keras"], atol=1e-3)
    interop.load_keras_weights(model, str(stored(name, tmp_path)))
    np.testing.assert_allclose(model.predict(data["x"]), data["keras"], atol=1e-6)


# ---- in which order ----


def test_the_tenth_comes_behind_the_ninth(tmp_path):
    """HDF5 sorts names by letters: dense_10 stands before dense_2."""
    names = ["dense", *(f"dense_{number}" for number in range(1, 13))]
    model = of_dense(13)
    (tmp_path / "a.weights.h5").write_bytes(weights({name: [kernel(n)] for n, name in enumerate(names)}))
    (tmp_path / "a.h5").write_bytes(legacy({name: {f"{name}/kernel:0": kernel(n)} for n, name in enumerate(names)}))
    for path in tmp_path.iterdir():
        model.set_weights([np.zeros((4, 4))] * 13)
        interop.load_keras_weights(model, path)
        assert all(np.array_equal(array, kernel(n)) for n, array in enumerate(model.get_weights())), path


def test_more_than_ten_arrays_of_a_layer_and_names_in_pieces(tmp_path):
    """An attribute of HDF5 has at most 64 kB: Keras cuts long lists of names."""

    def cut(file):
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        for number in range(12):
            file.attrs[f"layer_names{number}"] = names[number : number + 1]

    names = [f"d{number}" for number in range(12)]
    (tmp_path / "a.h5").write_bytes(legacy({name: {"kernel:0": kernel(n)} for n, name in enumerate(names)}, write=cut))
    model = of_dense(12)
    interop.load_keras_weights(model, tmp_path / "a.h5")
    assert all(np.array_equal(array, kernel(n)) for n, array in enumerate(model.get_weights()))


def every(number, *shape):
    return [kernel(number + i, *one) for i, one in enumerate(shape)]


def all_kinds():
    """Every kind of layer that has weights, one of them in a chain of its own."""
    chain = [
        *(layers.Normalization(), layers.Conv2D(2, 1), layers.BatchNormalization(scale=False), layers.Dropout(0.5)),
        *(layers.SeparableConv2D(3, 1), layers.PReLU(shared_axes=[1, 2]), layers.Conv2DTranspose(2, 1)),
        *(layers.LayerNormalization(center=False), layers.GroupNormalization(1), layers.DepthwiseConv2D(1)),
        *(layers.Chain([layers.Flatten(), layers.Dense(3)]), layers.DropConnect(2, 0.5), layers.Temperature()),
    ]
    return built(chain, (2, 3, 2))


KINDS = {
    "normalization": [*every(0, (2,), (2,)), np.array(5)],
    "conv2d": every(3, (1, 1, 2, 2), (2,)),
    "batch_normalization": every(5, (2,), (2,), (2,)),
    "separable_conv2d": every(8, (1, 1, 2, 1), (1, 1, 2, 3), (3,)),
    "p_re_lu": every(11, (1, 1, 3)),
    "conv2d_transpose": every(12, (1, 1, 2, 3), (2,)),
    "layer_normalization": every(14, (2,)),
    "group_normalization": every(15, (2,), (2,)),
    "depthwise_conv2d": every(17, (1, 1, 2, 1), (2,)),
    "sequential/layers/dense": every(19, (12, 3), (3,)),
    "dense": every(21, (3, 2), (2,)),
}
NAMES = {  # in older files
    "normalization": ("mean", "variance", "count"),
    "batch_normalization": ("beta", "moving_mean", "moving_variance"),
    "separable_conv2d": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "p_re_lu": ("alpha",),
    "layer_normalization": ("gamma",),
    "group_normalization": ("gamma", "beta"),
    "depthwise_conv2d": ("depthwise_kernel", "bias"),
}


def test_every_kind_of_layer(tmp_path):
    older = {}
    for name, arrays in KINDS.items():
        place, _, own = name.partition("/layers/")
        names = NAMES.get(name, ("kernel", "bias"))
        older[place] = {f"{own or name}/{key}:0": array for key, array in zip(names, arrays, strict=True)}
    ignored = {"dropout/seed_generator": [np.zeros(2, np.uint32)]}
    (tmp_path / "a.weights.h5").write_bytes(weights(KINDS | ignored, lambda f: f.create_group("optimizer/vars")))
    (tmp_path / "a.h5").write_bytes(legacy(older))
    for path in tmp_path.iterdir():
        model = all_kinds()
        interop.load_keras_weights(model, path)
        *found, temperature = model.get_weights()
        wanted = [array for arrays in KINDS.values() for array in arrays]
        assert all(np.array_equal(a, b.reshape(a.shape)) for a, b in zip(found, wanted, strict=True)), path
        assert temperature == 1


def branches(**names):
    given = {key: {"name": name} for key, name in names.items()}
    body = [
        layers.Dense(4, use_bias=False, **given.get("a", {})),
        layers.Dense(4, use_bias=False, **given.get("b", {})),
    ]
    return built([layers.Residual(body, layers.Dense(4, use_bias=False, **given.get("c", {})))])


def test_layers_in_branches_are_found_by_their_names(tmp_path):
    """Their order in the file is Keras's own."""
    groups = {"dense": [kernel(0)], "dense_1": [kernel(1)], "dense_2": [kernel(2)]}
    own = dict(zip(groups, ("left", "right", "short"), strict=True))

    def name(file):
        for group, name in own.items():
            file[f"layers/{group}/vars"].attrs["name"] = name

    (tmp_path / "a.weights.h5").write_bytes(weights(groups, name))
    (tmp_path / "a.h5").write_bytes(legacy({own[key]: {f"{own[key]}/kernel:0": one[0]} for key, one in groups.items()}))
    for path in tmp_path.iterdir():
        model = branches(a="short", b="left", c="right")
        interop.load_keras_weights(model, path)
        assert [int(np.argmax([np.array_equal(kernel(n), a) for n in range(3)])) for a in model.get_weights()] == [
            2,
            0,
            1,
        ]
        refused(branches(), path, "each layer needs the name that it has in Keras", "'dense_1'")
        refused(branches(a="short", b="left", c="other"), path, "missing: Dense 'other'; left over: right")


# ---- what does not fit ----


def refused(model, path, *said):
    """ConversionError that says all of that, and nothing is changed."""
    before = model.fingerprint()
    with pytest.raises(interop.ConversionError) as caught:
        interop.load_keras_weights(model, path)
    assert model.fingerprint() == before
    assert not [word for word in (*said, str(path)) if word not in str(caught.value)], str(caught.value)


def test_what_does_not_fit_is_listed(tmp_path):
    path = tmp_path / "a.h5"
    three = {"dense": [kernel(0)], "dense_1": [kernel(1)], "dense_2": [kernel(2)]}
    path.write_bytes(weights(three))
    refused(of_dense(4), path, "missing: arrays of Dense 'dense_3'")
    refused(of_dense(2), path, "left over: dense_2")
    path.write_bytes(legacy({name: {f"{name}/kernel:0": one[0]} for name, one in three.items()}))
    refused(of_dense(4), path, "missing: arrays of Dense 'dense_3'")
    refused(of_dense(2), path, "left over: dense_2")
    refused(built([layers.Dense(4) for _ in range(3)]), path, "must hold kernel, bias for Dense", "got kernel")
    path.write_bytes(weights(three | {"dense": [kernel(0, 4, 5)]}))
    refused(of_dense(3), path, "real numbers of shape (4, 4) as /layers/dense/vars/0", "got float32 (4, 5)")
    path.write_bytes(weights(three | {"dense": [kernel(0), kernel(0, 4)]}))
    refused(of_dense(3), path, "must hold kernel for Dense 'dense' in 'dense'; got 0, 1")
    path.write_bytes(weights({**three, "dense/activation": [kernel(1)]}))
    refused(of_dense(3), path, "left over: dense/activation/vars/0")
    path.write_bytes(weights(three, lambda file: file.create_dataset("vars/0", data=kernel(1))))
    refused(of_dense(3), path, "left over: vars/0")
    path.write_bytes(weights(three | {"dense": [np.full((4, 4), np.nan)]}))
    refused(of_dense(3), path, "0.kernel must hold numbers; got nan")


def test_keras_does_not_count_the_samples_of_adapt(tmp_path):
    """Its count stays 0; here that would be a layer that was never adapted."""
    path, model = tmp_path / "a.weights.h5", built([layers.Normalization()], (2,))
    path.write_bytes(weights({"normalization": [np.ones(2), np.full(2, 4.0), np.array(0)]}))
    interop.load_keras_weights(model, path)
    assert np.array_equal(model.predict(np.array([[1, 5]])), [[0, 2]])


class Own(layers.Dense):
    """A custom layer."""


def test_models_in_a_model_of_two_kinds_are_not_guessed(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(weights({f"{name}/layers/dense": [kernel(0)] for name in ("sequential", "functional")}))
    chains = [layers.Chain([layers.Dense(4, use_bias=False)]) for _ in range(2)]
    refused(built(chains), path, "is ambiguous: Chain 'chain' may be any of sequential, functional")
    refused(built([Own(4)]), path, "nothing for a custom layer, Own")


# ---- damaged and hostile files ----


def deep(file):
    file["layers/dense/again"] = file["layers"]  # a group in itself


def outside(file):
    del file["layers/dense/vars/0"]
    layout = h5py.VirtualLayout((4, 4), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4, 4))
    file["layers/dense/vars"].create_virtual_dataset("0", layout)


def external(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_dataset("0", (4, 4), "f4", external=[("/etc/passwd", 0, 64)])


def chunked(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_dataset("0", (4, 4), "f4", maxshape=(None, None), chunks=(20_000, 20_000))


def another(value):
    def write(file):
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = value

    return write


HOSTILE = [
    (another(h5py.SoftLink("/layers/dense_1/vars/0")), "a link to somewhere else"),
    (another(h5py.ExternalLink("other.h5", "/x")), "a link to somewhere else"),
    (outside, "keeps its numbers in other files"),
    (external, "keeps its numbers in other files"),
    (chunked, "declares more numbers than it holds"),
    (deep, "groups in groups"),
    (another(np.array([["a"] * 4] * 4, dtype="S1")), "must hold real numbers of shape (4, 4)"),
    (another(np.zeros((4, 4), complex)), "must hold real numbers of shape (4, 4)"),
    (another(np.zeros((4, 4), [("a", "f4"), ("b", "f4")])), "must hold real numbers of shape (4, 4)"),
]


@pytest.mark.parametrize(("write", "said"), HOSTILE)
def test_hostile_files(tmp_path, write, said):
    path = tmp_path / "a.weights.h5"
    path.write_bytes(weights({"dense": [kernel(0)], "dense_1": [kernel(1)]}, write))
    refused(of_dense(2), path, said)


def test_archives_that_unfold_are_refused(tmp_path):
    import zipfile

    path = tmp_path / "a.keras"
    text = '{"a": "' + "0" * 2**24 + '"}'
    path.write_bytes(archive(text, weights({}), compression=zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 2**20
    refused(of_dense(1), path, "unfolds to more than 16777216 bytes in config.json")
    path.write_bytes(archive(sequential(dense("a")), bytes(2**26 + 2**20), compression=zipfile.ZIP_DEFLATED))
    refused(of_dense(1), path, "unfolds to more than", "in model.weights.h5")
    path.write_bytes(archive(sequential(dense("a")), b"").replace(b"model.weights.h5", b"model.weights.h6"))
    refused(of_dense(1), path, "it lacks model.weights.h5")


@pytest.mark.parametrize("name", STORED)
def test_damaged_files(name, tmp_path):
    """Cut off anywhere, with bytes changed anywhere: an error, or what was there."""
    whole, rng = stored(name, tmp_path).read_bytes(), np.random.default_rng(0)
    path, model = tmp_path / "a.h5", built(network(), (8, 8, 2))
    for _ in range(60):
        data = bytearray(whole[: int(rng.integers(len(whole)))] if rng.random() < 0.2 else whole)
        for place in rng.integers(0, max(1, len(data)), int(rng.integers(1, 9))):
            data[place : place + 1] = bytes([rng.integers(256)])
        path.write_bytes(data)
        for call in (lambda: interop.load_keras_weights(model, path), lambda: interop.from_keras(path)):
            with contextlib.suppress(interop.ConversionError):
                call()


def test_files_that_are_none(tmp_path):
    path = tmp_path / "a.h5"
    for data in (b"", b"PK\3\4", b"\x89HDF\r\n\x1a\n", b"text"):
        path.write_bytes(data)
        refused(of_dense(1), path, "is damaged, or no file of Keras's")
    path.write_bytes(weights({}, lambda file: file.pop("layers")))
    refused(of_dense(1), path, "is no file of Keras's: it has no layers")
    with pytest.raises(FileNotFoundError):
        interop.load_keras_weights(of_dense(1), tmp_path / "other.h5")
    with pytest.raises(RuntimeError, match=r"build\(input_shape\)"):
        interop.load_keras_weights(mc.Sequential([layers.Dense(2)]), path)


def test_h5py_is_an_extra(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *more, **named):
        if name == "h5py":
            raise ImportError(name)
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'load_keras_weights needs h5py: pip install "minicnn\[interop\]"'):
        interop.load_keras_weights(of_dense(1), tmp_path / "a.h5")
