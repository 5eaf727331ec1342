"""Sequential and arrays: every kind is welcome, none is copied as a whole, what is returned is the caller's."""

import concurrent.futures
import itertools
import threading
import tracemalloc

import numpy as np
import pytest
from compare import assert_same_bits
from models import IMAGE, LABELS, Halve, X, small, trained
from running import normal

import minicnn as mc
from minicnn import layers

# ---- arrays at the door ----


def _memmap(folder, x):
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


def _frozen(x):
    x = x.copy()
    x.flags.writeable = False
    return x


KINDS = {
    "uint8": (lambda x, _: x.astype(np.uint8)),
    "int64": (lambda x, _: x.astype(np.int64)),
    "bool": (lambda x, _: x.astype(bool)),
    "float16": (lambda x, _: x.astype(np.float16)),
    "float64": (lambda x, _: x.astype(np.float64)),
    "longdouble": (lambda x, _: x.astype(np.longdouble)),
    "big-endian": (lambda x, _: x.astype(">f4")),
    "list": (lambda x, _: x.tolist()),
    "Fortran": (lambda x, _: np.asfortranarray(x)),
    "negative strides": (lambda x, _: x[::-1, ::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1, ::-1]),
    "zero strides": (lambda x, _: np.broadcast_to(x[:1], x.shape)),
    "read-only": (lambda x, _: _frozen(x)),
    "read-only memory map": (lambda x, folder: _memmap(folder, x)),
    "masked, nothing masked": (lambda x, _: np.ma.masked_array(x, mask=False)),
    "memoryview": (lambda x, _: memoryview(x)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_array_is_welcome(kind, tmp_path):
    ones = (X > 0.5).astype(np.float32)
    if kind == "zero strides":
        ones[:] = ones[0]
    given = KINDS[kind](ones, tmp_path)
    plain, other = trained(), trained()
    assert_same_bits(other.predict(given), plain.predict(ones))
    assert_same_bits(other.forward(given), plain.forward(ones))
    assert other.evaluate(given, LABELS) == plain.evaluate(ones, LABELS)
    for model, x in ((plain, ones), (other, given)):
        model.fit(x, LABELS, batch_size=5, epochs=2, verbose=0)
        model.train_on_batch(x, LABELS)
    assert other.fingerprint() == plain.fingerprint()
    assert_same_bits(np.asarray(given).astype(np.float32), ones)


@pytest.mark.parametrize("make", [
    lambda x: x.astype(str), lambda x: x.astype(object), lambda x: x + 1j, lambda x: None,
    lambda x: np.ma.masked_array(x, x > 0.5), lambda x: np.full(x.shape, np.datetime64("2020")),
    lambda x: x.view([("a", "f4")]),
], ids=["text", "object", "complex", "None", "masked", "date", "structured"])  # fmt: skip
def test_other_kinds_are_refused(make):
    model = trained()
    fingerprint = model.fingerprint()
    for method, *more in (
        ("predict",),
        ("forward",),
        ("fit", LABELS),
        ("evaluate", LABELS),
        ("train_on_batch", LABELS),
    ):
        with pytest.raises(TypeError, match=f"^Sequential.{method}: x must "):
            getattr(model, method)(make(X), *more)
    with pytest.raises(
        ValueError, match=r"^Sequential.predict: x must be a rectangular array of numbers; got a ragged one"
    ):
        model.predict([[1.0], [1.0, 2.0]])
    assert model.fingerprint() == fingerprint


def test_nothing_is_cast_as_a_whole():
    """1,500 images of 16 KB: 25 MB, which would be 98 MB as float32."""
    model = mc.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(2, activation="softmax")])
    x, y = np.zeros((1500, 128, 128, 1), np.uint8), np.zeros(1500, np.int64)
    model.compile("sgd", "sparse_categorical_crossentropy")
    tracemalloc.start()
    try:
        model.predict(x)
        model.evaluate(x, y)
        model.fit(x, y, epochs=1, validation_split=0.5, verbose=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40e6


def test_an_empty_batch():
    model = trained()
    for outputs in (model.predict(X[:0]), model.predict(X[:0], batch_size=3), model.predict_proba(X[:0]), model(X[:0])):
        assert outputs.shape == (0, 4)
        assert outputs.dtype == np.float32


# ---- predict ----


def test_the_size_of_a_batch_changes_nothing():
    model, x = trained(), normal((300, *IMAGE))
    want = model.predict(x)
    for size in (1, 7, 256, 299, 1000):
        assert_same_bits(model.predict(x, batch_size=size), want)
    for size, error in ((0, ValueError), (-1, ValueError), (2.5, TypeError), ("3", TypeError), (True, TypeError)):
        with pytest.raises(error, match=r"^Sequential.predict: batch_size must be a whole number >= 1; got "):
            model.predict(x, batch_size=size)


@pytest.mark.filterwarnings("ignore:Sequential. layer 0, Dropout, is the last")
@pytest.mark.parametrize("make", [
    lambda: mc.Sequential([layers.Dropout(0.5)]), lambda: mc.Sequential([layers.Flatten()]),
    lambda: mc.Sequential([layers.Dropout(0.0), layers.Flatten(), layers.Reshape((-1,))]),
    lambda: mc.Sequential([layers.Activation("linear"), layers.Dropout(0)]), small,
    lambda: mc.Sequential([layers.Rescaling(1.0), layers.Flatten()]),
])  # fmt: skip
def test_what_is_returned_is_the_callers(make):
    """Nothing shares memory with x, dy, another call's result or the model; so all of it may be written to."""
    model, x = make(), X.copy()
    returned = [x, *(model.forward(x, training=mode) for mode in (False, False, True, True)), model.predict(x)]
    want, dy = returned[-1].copy(), np.ones_like(returned[1])
    returned += [dy, model.backward(dy, at="outputs"), *model.outputs(x)[-1:]]
    assert_same_bits(x, X)
    for one, other in itertools.combinations(returned, 2):
        assert not np.shares_memory(one, other)
    for array in returned[1:]:
        array[...] = np.nan
    assert_same_bits(model.predict(x), want)


def test_the_output_of_every_layer():
    model = trained()
    found = model.outputs(X)
    assert [array.shape[1:] for array in found] == [layer.output_shape for layer in model.layers]
    assert_same_bits(found[-1], model.predict(X))
    assert_same_bits(found[0], model.layers[0].forward(X))
    for one, other in itertools.combinations([X, *found], 2):
        assert not np.shares_memory(one, other)
    assert model.training is False
    with pytest.raises(RuntimeError):
        model.backward(found[-1])


def test_eight_threads_predict_at_once():
    model = trained()
    x = normal((64, *IMAGE))
    want = model.predict(x)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for outputs in pool.map(lambda size: model.predict(x, batch_size=size), [5, 9, 64, 1] * 8):
            assert_same_bits(outputs, want)


def test_threads_that_predict_first_build_once():
    class Slow(Halve):
        def build(self, input_shape, rng):
            inside.append(1)
            met.wait(0.2)  # leaves the others time to come in as well
            return super().build(input_shape, rng)

    inside, met = [], threading.Event()
    model = mc.Sequential([layers.Flatten(), Slow(), layers.Dense(3)], seed=1)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: model.predict(X), range(8)))
    assert inside == [1]
    for outputs in results:
        assert_same_bits(outputs, model.predict(X))
