"""Data larger than memory: sequences, loaders, iterators and memory maps train as arrays do, bit for bit."""

import contextlib
import itertools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from models import LABELS, Hook, Keep, X, compiled, whole_state

import minicnn as mc
from minicnn import layers
from minicnn.callbacks import Callback

FIT = {"epochs": 2, "verbose": 0}
SIZE = 5
CUTS = [slice(0, 5), slice(5, 10), slice(10, 12)]  # of an epoch of arrays
WEIGHTS = np.linspace(0.5, 1.5, len(X))


def parts(weights=False):
    return [(X[cut], LABELS[cut], *([WEIGHTS[cut]] if weights else [])) for cut in CUTS]


class Items:
    """A sequence; keeps what was asked of it."""

    def __init__(self, batches=None, workers=1):
        self.batches, self.workers, self.asked = parts() if batches is None else batches, workers, []

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        self.asked.append(i)
        return self.batches[i]

    def on_epoch_end(self):
        self.asked.append("end")


class Loader:
    """Can be iterated again and again."""

    def __init__(self, batches=None, length=3):
        self.batches, self.length = parts() if batches is None else batches, length

    def __len__(self):
        return self.length

    def __iter__(self):
        return iter(self.batches)


class Tensor:
    """What np.asarray takes, as a tensor of PyTorch."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype)


def endless(weights=False):
    return itertools.cycle(parts(weights))


def fitted(*arguments, model=None, **more):
    model = compiled() if model is None else model
    history = model.fit(*arguments, **FIT | more).history
    return whole_state(model), history, model.input_range


def threads():
    return [one for one in threading.enumerate() if one.name == "minicnn data"]


@pytest.fixture(autouse=True)
def no_thread_is_left_behind():
    yield
    assert threads() == []


# ---- the same bits as with arrays ----


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("kind", ["items", "inline", "list", "loader", "tensors", "iterator", "map"])
def test_batches_are_arrays_bit_for_bit(kind, weights, tmp_path):
    arrays = {"sample_weight": WEIGHTS} if weights else {}
    want = fitted(X, LABELS, batch_size=SIZE, shuffle=False, **arrays)
    given, more = parts(weights), {"shuffle": False}
    if kind == "map":
        np.save(tmp_path / "x.npy", X)
        found = fitted(np.load(tmp_path / "x.npy", mmap_mode="r"), LABELS, SIZE, **more, **arrays)
    elif kind == "iterator":
        found = fitted(endless(weights), steps_per_epoch=3)
    elif kind == "tensors":
        found = fitted(Loader([[Tensor(one) for one in batch] for batch in given]))
    else:
        made = {"items": Items(given), "inline": Items(given, workers=0), "list": given, "loader": Loader(given)}
        found = fitted(made[kind], **more)
    assert found == want


@pytest.mark.parametrize("steps", [None, 2, 7])
@pytest.mark.parametrize("mode", ["r", "c", None])
def test_shuffled_rows_of_a_memory_map(mode, steps, tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", LABELS)
    more = {"batch_size": SIZE, "steps_per_epoch": steps, "class_weight": {0: 2.0}}
    want = fitted(X, LABELS, **more)
    found = fitted(np.load(tmp_path / "x.npy", mmap_mode=mode), np.load(tmp_path / "y.npy", mmap_mode=mode), **more)
    assert found == want


@pytest.mark.parametrize("steps", [None, 2, 4])
def test_the_order_of_items_is_a_function_of_seed_and_pass(steps):
    items = Items()
    model = compiled()
    history = model.fit(items, epochs=3, steps_per_epoch=steps, verbose=0)
    visits = [i for visit in range(4) for i in [*mc.datasets.order(3, model.seed, visit).tolist(), "end"]]
    assert items.asked == visits[: 4 * (steps or 3) * 3 // 3]
    assert history.params["steps"] == (steps or 3)
    assert model.optimizer.iterations == 3 * (steps or 3)


def test_steps_of_arrays_go_through_the_passes_without_a_gap():
    seen = []

    def loss(outputs, y):
        seen.extend(y.tolist())
        return 0.0, np.zeros_like(outputs)

    model = compiled()
    model.compile("sgd", loss)
    model.fit(X, np.arange(12), SIZE, epochs=2, steps_per_epoch=4, verbose=0)
    orders = np.concatenate([mc.datasets.order(12, 1, visit) for visit in range(3)])
    assert seen == orders.tolist()[: 12 + 12 + 10]


class Epochs(Items):
    """Gives other samples in every epoch, whose number it is told."""

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __getitem__(self, i):
        x, y = self.batches[i]
        return x * (1 + self.epoch), y


@pytest.mark.parametrize("kind", ["items", "steps", "loader", "map"])
def test_training_in_pieces_is_one_fit_bit_for_bit(kind, tmp_path):
    np.save(tmp_path / "x.npy", X)

    def given():
        if kind == "map":
            return np.load(tmp_path / "x.npy", mmap_mode="r"), LABELS, SIZE
        return (Loader() if kind == "loader" else Epochs(),)

    more = {"verbose": 0, "steps_per_epoch": 2 if kind == "steps" else None}
    whole, pieces = compiled(), compiled()
    whole.fit(*given(), epochs=4, **more)
    pieces.fit(*given(), epochs=1, **more)
    pieces.fit(*given(), epochs=4, initial_epoch=1, **more)
    assert whole_state(pieces) == whole_state(whole)


def test_a_loader_that_begins_in_the_middle_leaves_what_was_before():
    whole, pieces = compiled(), compiled()
    whole.fit(Loader(), epochs=3, steps_per_epoch=2, verbose=0)
    pieces.fit(Loader(), epochs=2, steps_per_epoch=2, verbose=0)
    pieces.fit(Loader(), epochs=3, initial_epoch=2, steps_per_epoch=2, verbose=0)
    assert whole_state(pieces) == whole_state(whole)


def test_an_iterator_gives_no_more_than_is_asked_for():
    taken = []
    batches = (taken.append(i) or parts()[i % 3] for i in range(100))
    model = compiled()
    model.fit(batches, epochs=2, steps_per_epoch=3, verbose=0)
    assert len(taken) == 6
    model.fit(batches, epochs=4, initial_epoch=2, steps_per_epoch=3, verbose=0)
    assert len(taken) == 12
    whole = compiled()
    whole.fit(endless(), epochs=4, steps_per_epoch=3, verbose=0)
    assert whole_state(model) == whole_state(whole)


def test_a_buffer_that_is_filled_again_is_not_shared():
    """The thread fills it while the model computes with what was in it."""
    x, y = np.empty_like(X[:5]), np.empty_like(LABELS[:5])

    def reusing():
        for i in itertools.count():
            x[...], y[...] = X[i % 2 * 5 :][:5], LABELS[i % 2 * 5 :][:5]
            yield x, y
            x[...], y[...] = 7, 0

    want = fitted(X[:10], LABELS[:10], batch_size=5, shuffle=False)
    assert fitted(reusing(), steps_per_epoch=2) == want


@pytest.mark.parametrize("data", [Items, lambda: Loader(), endless], ids=["items", "loader", "iterator"])
def test_a_model_that_is_not_built_learns_its_shapes(data):
    built, fresh = compiled(), compiled()
    fresh = mc.Sequential.from_config({**fresh.get_config(), "input_shape": None})
    fresh.compile(mc.optimizers.Adam(0.01), "sparse_categorical_crossentropy", ["accuracy"])
    assert not fresh.built
    more = {"steps_per_epoch": 3}
    assert fitted(data(), model=fresh, **more) == fitted(data(), model=built, **more)


def test_class_weights_and_sample_weights():
    more = {"class_weight": {0: 2.0, 3: 0.5}, "shuffle": False}
    want = fitted(X, LABELS, batch_size=SIZE, sample_weight=WEIGHTS, **more)
    assert fitted(parts(weights=True), **more) == want
    assert fitted([(*batch, None) for batch in parts()], shuffle=False) == fitted(parts(), shuffle=False)
    for wrong, error in (({-1: 1.0}, ValueError), ([1.0], TypeError), ({0: -1.0}, ValueError)):
        items = Items()
        with pytest.raises(error, match=r"^Sequential.fit: .*class"):
            compiled().fit(items, class_weight=wrong, verbose=0)
        assert items.asked == []
    with pytest.raises(ValueError, match=r"^Sequential.fit: batch 0 of epoch 0: a class of class_weight must be"):
        compiled().fit(Items(), class_weight={4: 1.0}, verbose=0)


# ---- evaluation and prediction ----


@pytest.mark.parametrize("make", [Items, Loader, lambda: iter(parts()), parts, lambda: Items(workers=0)])
def test_evaluate_takes_the_same(make):
    model = compiled()
    want = [model.evaluate(*batch) for batch in parts()]
    assert model.evaluate(make()) == pytest.approx(np.average(want, 0, [5, 5, 2]), rel=1e-6)
    assert model.evaluate(make(), steps=2) == model.evaluate(X[:10], LABELS[:10], SIZE)
    assert model.evaluate(X, LABELS, SIZE, steps=2) == model.evaluate(X[:10], LABELS[:10], SIZE)


@pytest.mark.parametrize("kind", ["x", "tuple", "list", "column"])
def test_predict_takes_the_same(kind):
    model = compiled()
    forms = {
        "x": lambda x, y: x,
        "tuple": lambda x, y: (x, y),
        "list": lambda x, y: [x, y],
        "column": lambda x, y: (x,),
    }
    batches = [forms[kind](*batch) for batch in parts()]
    want = model.predict(X)
    for data in (Items(batches), Loader(batches), iter(batches)):
        assert np.array_equal(model.predict(data), want)
    assert np.array_equal(model.predict(Items(batches), steps=1), want[:5])
    assert np.array_equal(model.predict(X, 5, steps=2), want[:10])
    fresh = mc.Sequential([layers.Flatten(), layers.Dense(3)])
    assert fresh.predict(iter(batches)).shape == (12, 3)


def test_validation_data_that_give_batches():
    want = fitted(parts(), shuffle=False, validation_data=(X, LABELS), validation_batch_size=SIZE)[1]
    for data, more in ((Items(), {}), (Loader(), {}), (parts(), {}), (endless(), {"validation_steps": 3})):
        assert fitted(parts(), shuffle=False, validation_data=data, **more)[1] == want
    first = [fitted(X, LABELS, validation_data=data, validation_steps=1)[1]["val_loss"]
             for data in (Items(), Loader(), (X[:5], LABELS[:5]))]  # fmt: skip
    assert first[0] == first[1] == first[2]
    history = fitted(Items(), clean_train_metrics=True, validation_data=Items())[1]
    assert history["clean_loss"] == history["val_loss"]


def test_items_are_told_of_epochs_of_training_alone():
    items, validation = Items(), Items()
    compiled().fit(items, epochs=2, validation_data=validation, verbose=0)
    compiled().evaluate(items)
    assert items.asked.count("end") == 2
    assert validation.asked == [0, 1, 2] * 2


def test_the_bar_knows_the_steps(capsys):
    model = compiled()
    model.fit(endless(), steps_per_epoch=3, verbose=1)
    model.evaluate(Items(), verbose=1)
    model.predict(iter(parts()), verbose=1)
    shown = capsys.readouterr().err
    assert shown.count("3/3") >= 2
    assert "3step" in shown


# ---- what is refused, and what goes wrong ----


@pytest.mark.parametrize("more", [
    {"y": LABELS}, {"batch_size": 5}, {"validation_split": 0.5}, {"sample_weight": WEIGHTS}, {"drop_last": True},
    {"validation_batch_size": 5, "validation_data": parts()}, {"validation_steps": 2},
])  # fmt: skip
@pytest.mark.parametrize("make", [Items, endless])
def test_arguments_that_go_with_arrays(make, more):
    model, data = compiled(), make()
    before = whole_state(model)
    name = "validation_steps" if "validation_steps" in more else next(iter(more))
    with pytest.raises(ValueError, match=rf"^Sequential.fit: {name} "):
        model.fit(data, steps_per_epoch=3, verbose=0, **more)
    assert whole_state(model) == before


def test_data_that_are_known_to_have_no_end_need_steps():
    model = compiled()
    for data in (endless(), itertools.repeat(parts()[0])):
        for method in (model.evaluate, model.predict):
            with pytest.raises(
                ValueError, match=r"^Sequential\..*: steps must be given with data that have no end; got"
            ):
                method(data)
            method(data, steps=2)
    assert model.predict(itertools.repeat(X[:5], 3)).shape == (15, 4)


class Endless:
    """A loader of whose end nothing is known, or that has none; ``length`` as it says."""

    def __init__(self, until, length=None):
        self.until, self.length = until, length

    def __len__(self):
        if self.length is None:
            raise TypeError
        return self.length

    def __iter__(self):
        return itertools.islice(endless(), self.until)


@pytest.mark.parametrize(("method", "kind"), [
    *itertools.product(["evaluate", "predict"], ["loader", "generator", "its length is wrong", "longer than usual"]),
    ("validation", "loader"), ("clean", "loader"), ("fit", "its length is wrong"), ("fit", "longer than usual"),
])  # fmt: skip
def test_a_pass_that_does_not_end_says_so(method, kind, monkeypatch):
    """Once, after many batches, in the name of the line that began it."""
    monkeypatch.setattr(mc.stream, "LONG", 4)
    model, length = compiled(), {"its length is wrong": 3, "longer than usual": 6}.get(kind)

    def run(count):
        data = itertools.islice(endless(), count) if kind == "generator" else Endless(count, length)
        if method in ("evaluate", "predict"):
            return getattr(model, method)(data)
        if method == "validation":
            return model.fit(Items(), validation_data=data, verbose=0)
        more = {"steps_per_epoch": 2, "clean_train_metrics": True} if method == "clean" else {}
        return model.fit(data, verbose=0, **more)

    most = max(4, length or 0)
    where = rf"^Sequential\.{method if method in ('evaluate', 'predict') else 'fit'}: batch {most}\b"
    found = rf"{where}.*, and no end yet\. .* need steps \(in fit: "
    other = pytest.warns(UserWarning, match="[0-9] batches") if length else contextlib.nullcontext()
    with other, pytest.warns(UserWarning, match=found) as caught:
        run(most + 3)
    (said,) = [one for one in caught if "no end yet" in str(one.message)]
    assert said.filename == __file__
    if length is None:
        run(most)  # as many are no reason to say anything
        model.evaluate(endless(), steps=9)


class Long(Items):
    """Says that it has very many batches."""

    def __init__(self, length):
        super().__init__()
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        return super().__getitem__(i % 3)


def test_very_many_batches_take_no_memory():
    """A length that is no length: the usual way to give data without an end as a sequence."""
    model, more = compiled(), {"steps_per_epoch": 3, "verbose": 0}
    required = f"there must be at most {2**28} batches to be shuffled, whose order is in memory; got {10**9}"
    before = whole_state(model)
    with pytest.raises(ValueError, match=rf"^Sequential\.fit: {required}\. Give shuffle=False, or a smaller length$"):
        model.fit(Long(10**9), **more)
    assert whole_state(model) == before
    model.fit(Long(10**9), shuffle=False, validation_data=Long(2**62), validation_steps=2, **more)
    assert whole_state(model) == fitted(Items(), shuffle=False, epochs=1)[0]
    assert model.predict(Long(2**62), steps=3).shape == (12, 4)
    with pytest.raises(
        ValueError, match=r"^Sequential\.fit: the length of the data must be at most 9223372036854775807"
    ):
        model.fit(Long(2**70), **more)


def test_very_many_rows_on_disk_are_not_shuffled(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", X)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    monkeypatch.setattr(mc.stream, "MOST_SHUFFLED", 11)
    with pytest.raises(ValueError, match=r"^Sequential\.fit: there must be at most 11 samples to be shuffled"):
        compiled().fit(x, LABELS, verbose=0)
    assert fitted(x, LABELS, SIZE, shuffle=False) == fitted(X, LABELS, SIZE, shuffle=False)


def test_very_many_rows_in_memory_are_cut_one_by_one():
    """Those of np.broadcast_to take none."""
    x = np.broadcast_to(X[:1], (2**50, *X.shape[1:]))
    assert compiled().predict(x, steps=2, batch_size=5).shape == (10, 4)
    with pytest.raises(MemoryError):  # of y, of which all must be looked at
        compiled().fit(x, np.broadcast_to(LABELS[:1], 2**50), steps_per_epoch=2, verbose=0)


def test_what_is_refused_before_the_first_step():
    model = compiled()
    with pytest.raises(ValueError, match=r"^Sequential.fit: steps_per_epoch must be given with data .*; got cycle"):
        model.fit(endless(), verbose=0)
    with pytest.raises(ValueError, match=r"^Sequential.fit: validation_steps must be given with .*; got cycle"):
        model.fit(Items(), validation_data=endless(), verbose=0)
    with pytest.raises(ValueError, match=r"^Sequential.fit: clean_train_metrics needs data that can be read again"):
        model.fit(endless(), steps_per_epoch=3, clean_train_metrics=True, verbose=0)
    with pytest.raises(ValueError, match=r"^Sequential.evaluate: batch_size must be left out"):
        model.evaluate(Items(), batch_size=3)
    with pytest.raises(ValueError, match=r"^Sequential.predict: batch_size must be left out"):
        model.predict(Items(), 3)
    with pytest.raises(ValueError, match=r"^Sequential.evaluate: steps must be a whole number in \[1, 3\]; got 4"):
        model.evaluate(Items(), steps=4)
    for empty in (Items([]), Loader([], 0), iter([])):
        with pytest.raises(ValueError, match=r"^Sequential.fit: the data must give at least one batch"):
            model.fit(empty, steps_per_epoch=2, verbose=0)
        with pytest.raises(ValueError, match=r"^Sequential.evaluate: .* at least one batch"):
            model.evaluate(empty)
    for wrong, error in ((0, ValueError), (2.5, TypeError), (True, TypeError)):
        for name in ("steps_per_epoch", "validation_steps"):
            with pytest.raises(error, match=rf"^Sequential.fit: {name} must be a whole number >= 1; got"):
                model.fit(X, LABELS, validation_data=(X, LABELS), verbose=0, **{name: wrong})
    for nothing in ({"a": 1}, "abc", 5, None, (X, LABELS)):
        with pytest.raises(TypeError, match=r"^Sequential.fit: x and y must be arrays; got"):
            model.fit(nothing, verbose=0)


X5, Y5 = X[:5], LABELS[:5]
BAD = np.where(np.arange(X5.size).reshape(X5.shape) == 200, np.nan, X5)


@pytest.mark.parametrize(("batch", "error", "words"), [
    (None, TypeError, r"the data must give \(x, y\) or \(x, y, sample_weight\); got None"),
    ((X5,), TypeError, r"the data must give \(x, y\) .*; got a tuple of length 1"),
    (X5, TypeError, r"the data must give \(x, y\) .*; got ndarray"),
    ({"x": X5}, TypeError, r"the data must give .*; got dict"),
    ((X5, Y5, None, None), TypeError, "the data must give .*; got a tuple of length 4"),
    ((X5.astype(object), Y5), TypeError, "x must be an array of numbers .*; got ndarray with dtype object"),
    (([[1, 2], [3]], Y5), ValueError, "x must be a rectangular array of numbers"),
    ((X5[..., :1], Y5), ValueError, r"x must have shape \(N, 6, 5, 2\); got shape \(5, 6, 5, 1\)"),
    ((X5[0], Y5[0]), ValueError, "y must have a batch axis"),
    ((X5, Y5[:4]), ValueError, "x and y must have the same number of samples; got 5 and 4"),
    ((X5[:0], Y5[:0]), ValueError, "x must have at least one sample"),
    ((X5, Y5 + 9), ValueError, r"labels must be whole numbers in \[0, 3\]; got 9 at index 0"),
    ((X5, np.array(["a"] * 5)), TypeError, "y must be an array of numbers"),
    ((X5, np.ma.masked_array(Y5, Y5 == 2)), TypeError, "y must have no masked entries"),
    ((np.ma.masked_array(X5, X5 > 0.5), Y5), TypeError, "x must have no masked entries"),
    ((X5, Y5, np.ones(4)), ValueError, r"sample weights must have shape \(5,\)"),
    ((X5, Y5, np.full(5, np.nan)), ValueError, "sample weights must be finite"),
    ((BAD, Y5), ValueError, "x must be finite in float32; got NaN or infinity in sample 3$"),
    ((X5, None), TypeError, "y must be an array; got NoneType"),
    ((X5, {0: 1}), TypeError, "y must be an array; got dict"),
    ((X5, [[1], [1, 2], [1], [1], [1]]), ValueError, "y must be a rectangular array of numbers; got a ragged one"),
    ((X5, Y5, 1.0), ValueError, r"sample weights must have shape \(5,\), .*; got shape \(\)"),
    ((X5, Y5, {0: 1.0}), TypeError, "sample weights must be an array of numbers .*; got dict"),
    ((X5, np.eye(4)[Y5]), ValueError, r"y must be class numbers of shape \(N,\) .*; got shape \(5, 4\)"),
    ((X5.transpose(0, 3, 1, 2), Y5), ValueError, r"x must have shape .*Channels come last here"),
    ((X5[:1], Y5[:1]), None, None),
    ((X5.astype(">f8"), Y5.astype(bool), None), None, None),
])  # fmt: skip
@pytest.mark.parametrize("make", [Items, Loader, iter])
def test_a_wrong_batch_is_named(make, batch, error, words):
    model, states = compiled(), []
    batches = [*parts()[:2], batch]
    for _ in range(2):  # and it can be fitted again
        model.fit(Items(), verbose=0)
        before = model.optimizer.iterations
        more = {"steps_per_epoch": 3, "shuffle": False, "verbose": 0, "class_weight": {0: 2.0}}
        if error is None:
            model.fit(make(batches), **more)
            continue
        with pytest.raises(error, match=rf"^Sequential.fit: batch 2 of epoch 0: {words}"):
            model.fit(make(batches), **more, callbacks=Keep(states))
        assert model.optimizer.iterations == before + 2
        assert model.training is False
        assert whole_state(model) == states[-1]
    if error is not None and "finite in float32" not in words:
        with pytest.raises(error, match=rf"^Sequential.evaluate: batch 2: {words}"):
            model.evaluate(make(batches))


@pytest.mark.parametrize("kind", ["x", "(x, y)"])
@pytest.mark.parametrize("make", [Items, Loader, iter])
def test_a_batch_of_no_sample_is_named(make, kind):
    batches = [batch[0] if kind == "x" else batch for batch in [*parts()[:2], (X[:0], LABELS[:0])]]
    for method in ("predict", "predict_proba"):
        match = (
            r"^Sequential.predict: batch 2: x must have at least one sample in every batch; got shape \(0, 6, 5, 2\)$"
        )
        with pytest.raises(ValueError, match=match):
            getattr(compiled(), method)(make(batches))
    with pytest.raises(ValueError, match=r"^Sequential.fit: batch 2 of the validation samples: x must have at least"):
        compiled().fit(X, LABELS, verbose=0, validation_data=make([*parts()[:2], (X[:0], LABELS[:0])]),
                       validation_steps=3)  # fmt: skip
    assert compiled().predict(X[:0]).shape == (0, 4)


@pytest.mark.parametrize("wrong", [np.nan, 1e300])
def test_a_wrong_number_in_the_targets_of_a_batch(wrong):
    """Found before the step, or in it: either way the batch is named."""
    y = np.eye(4)[LABELS]
    model, states, bad = compiled("linear", "mse"), [], y[10:].copy()
    bad[1, 2] = wrong
    batches = [(X[cut], y[cut]) for cut in CUTS[:2]] + [(X[10:], bad)]
    with pytest.raises(ValueError, match=r"y must be finite.*; got .* at index \(1, 2\)") as caught:
        model.fit(batches, shuffle=False, verbose=0, callbacks=Keep(states))
    assert "Sequential.fit: batch 2 of epoch 0" in "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert whole_state(model) == states[1]
    assert len(states) == 2
    with pytest.raises(ValueError, match="y must be finite") as caught:
        model.evaluate(batches)
    assert "Sequential.evaluate: batch 2" in "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


def test_a_batch_that_is_too_small_for_a_layer():
    model = mc.Sequential([layers.Flatten(), layers.BatchNormalization(), layers.Dense(4)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    words = "in training layer 1, BatchNormalization, needs at least 2 samples in every batch; got 1"
    with pytest.raises(ValueError, match=rf"^Sequential.fit: batch 1 of epoch 0: {words}"):
        model.fit([parts()[0], (X[:1], LABELS[:1])], shuffle=False, verbose=0)


def test_a_map_names_the_sample_and_weights_must_not_sum_to_nothing(tmp_path):
    x = X.copy()
    x[10, 2, 3, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    model = compiled()
    step = mc.datasets.order(12, 1, 0).tolist().index(10) // 5
    message = f"^Sequential.fit: step {step} of epoch 0: x must be finite in float32; got NaN or infinity in sample 10$"
    with pytest.raises(ValueError, match=message):
        model.fit(np.load(tmp_path / "x.npy", mmap_mode="r"), LABELS, SIZE, verbose=0)
    nothing = [(*batch, np.zeros(len(batch[1]))) for batch in parts()]
    for method, words in (("fit", "training "), ("evaluate", "")):
        with pytest.raises(ValueError, match=rf"^Sequential.{method}: the weights of the {words}samples must not sum"):
            getattr(model, method)(nothing, verbose=0)
    model.fit(nothing[:1] + parts()[1:], verbose=0)


@pytest.mark.parametrize(("given", "epochs"), [(4, 1), (3, 1), (5, 1)])
def test_an_iterator_that_ends_early(given, epochs):
    model = compiled()
    message = rf"^Sequential.fit: the data ended after {given % 3} of the 3 batches of epoch 1, and training with them"
    with pytest.warns(UserWarning, match=message) as caught:
        history = model.fit(itertools.islice(endless(), given), epochs=5, steps_per_epoch=3, verbose=0)
    assert caught[0].filename == __file__
    assert history.epoch == [0, 1][: 2 if given % 3 else 1]
    assert model.optimizer.iterations == given
    with pytest.warns(UserWarning, match=r"^Sequential.evaluate: the samples ended after 2 of 3 batches"):
        model.evaluate(iter(parts()[:2]), steps=3)


@pytest.mark.parametrize("length", [2, 4])
def test_a_loader_whose_length_is_wrong(length):
    model = compiled()
    with pytest.warns(UserWarning, match=rf"^Sequential.fit: the data gave 3 batches in epoch .* says {length}"):
        history = model.fit(Loader(length=length), epochs=2, verbose=0)
    assert history.epoch == [0, 1]
    assert model.optimizer.iterations == 6


class Broken(Exception):
    pass


@pytest.mark.parametrize("workers", [0, 1])
def test_an_exception_that_is_raised_again_has_one_note(workers):
    error, model = Broken("stored"), compiled()

    class Stored(Items):
        def __getitem__(self, i):
            if len(self.asked) == at:
                raise error
            return super().__getitem__(i)

    for at in (0, 1, 1, 2):
        with pytest.raises(Broken) as caught:
            model.fit(Stored(workers=workers), shuffle=False, verbose=0)
        assert caught.value is error
        assert error.__notes__ == [f"in batch {at} of epoch 0, item {at} of the data"]


class Tensorless:
    """An array that cannot become one of NumPy's."""

    shape = (5, 6, 5, 2)

    def __array__(self, dtype=None, copy=None):
        raise Broken("on another device")


def test_an_exception_of_an_array_has_its_place_too():
    with pytest.raises(Broken) as caught:
        compiled().fit(Items([*parts()[:2], (Tensorless(), Y5)]), shuffle=False, verbose=0)
    assert caught.value.__notes__ == ["in batch 2 of epoch 0, item 2 of the data"]


@pytest.mark.parametrize("error", [Broken("here"), KeyboardInterrupt(), IndexError("there"), StopIteration()], ids=repr)
@pytest.mark.parametrize("workers", [0, 1])
def test_an_exception_in_the_data_arrives_as_itself(error, workers):
    class Items2(Items):
        def __getitem__(self, i):
            if len(self.asked) == 6:  # two epochs of two batches and two ends
                raise error
            return super().__getitem__(i)

    kind = RuntimeError if isinstance(error, StopIteration) else type(error)
    model, states = compiled(), []
    items = Items2(parts()[:2], workers=workers)
    with pytest.raises(kind) as caught:
        model.fit(items, epochs=3, verbose=0, shuffle=False, callbacks=[Hook(lambda m: states.append(whole_state(m)))])
    found = caught.value.__cause__ if kind is RuntimeError else caught.value
    assert found is error
    assert caught.value.__notes__ == ["in batch 0 of epoch 2, item 0 of the data"]
    assert whole_state(model) == states[-1]
    assert len(states) == 4
    assert model.training is False
    error.__notes__ = []
    model.fit(Items(), verbose=0)


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt])
def test_a_consumer_that_stops_early(error):
    class Stop(Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                raise error

    model, data = compiled(), endless()
    for _ in range(2):
        with pytest.raises(error):
            model.fit(data, steps_per_epoch=10, verbose=0, callbacks=[Stop()])
        assert threads() == []
    model.fit(data, steps_per_epoch=3, verbose=0)
    stopper = mc.callbacks.EarlyStopping("loss", patience=0, min_delta=100.0)
    assert len(model.fit(data, epochs=9, steps_per_epoch=3, verbose=0, callbacks=stopper).epoch) == 2


def test_an_interrupt_while_the_next_batch_is_waited_for():
    code = """
import itertools, os, signal, threading, time, numpy as np, minicnn as mc
def slow():
    yield x, y
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    time.sleep(0.6)
    yield x, y
x, y = np.ones((4, 3), "f4"), np.arange(4)
model = mc.Sequential([mc.layers.Dense(4)])
model.compile("sgd", "sparse_categorical_crossentropy")
try:
    model.fit(slow(), steps_per_epoch=9, verbose=0)
except KeyboardInterrupt:
    print(model.optimizer.iterations, threading.active_count())
"""
    assert run(code).split() == ["1", "1"]


def test_data_that_never_come_do_not_hold_up_the_end(monkeypatch):
    monkeypatch.setattr(mc.stream, "PATIENCE", 0.01)
    release = threading.Event()

    def blocked():
        yield from parts()[:1]
        release.wait(30)
        yield from parts()

    def stop(model):
        raise Broken

    with pytest.raises(Broken) as caught:
        compiled().fit(blocked(), steps_per_epoch=3, verbose=0, callbacks=[Hook(stop)])
    assert "the data are still at work" in caught.value.__notes__[0]
    (left,) = threads()
    release.set()
    left.join(30)


def test_the_next_batch_is_prepared_while_the_model_computes():
    asked, met = threading.Event(), []

    class Watching(Items):
        def __getitem__(self, i):
            if i == 1:
                asked.set()
            return super().__getitem__(i)

    class Wait(Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 0:
                met.append(asked.wait(30))

    compiled().fit(Watching(), shuffle=False, verbose=0, callbacks=Wait())
    assert met == [True]
    names = []

    class Where(Items):
        def __getitem__(self, i):
            names.append(threading.current_thread() is threading.main_thread())
            return super().__getitem__(i)

    compiled().fit(Where(workers=0), verbose=0)
    compiled().fit(Where(), verbose=0)
    assert names == [True] * 3 + [False] * 3


def test_error_states_of_numpy_hold_for_the_data():
    class Divides(Items):
        def __getitem__(self, i):
            np.ones(1) / np.zeros(1)
            return super().__getitem__(i)

    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        compiled().fit(Divides(), verbose=0)
    with np.errstate(divide="ignore"):
        compiled().fit(Divides(), verbose=0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_in_the_middle():
    """The child has no thread for the data: it says so instead of waiting for ever, and can begin anew."""
    code = """
import os, numpy as np, minicnn as mc
x, y = np.ones((4, 3), "f4"), np.arange(4)
model = mc.Sequential([mc.layers.Dense(4)])
model.compile("sgd", "sparse_categorical_crossentropy")
batches, child = [(x, y)] * 3, []
def fork(batch, logs):
    if batch == 1:
        child.append(os.fork())
try:
    model.fit(batches, epochs=2, verbose=0, callbacks=mc.callbacks.LambdaCallback(on_train_batch_end=fork))
except RuntimeError as error:
    assert child[-1] == 0 and "a fork of it cannot go on" in str(error)
    model.fit(batches, verbose=0)
    os._exit(7)
print([os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in child])
"""
    assert run(code, "-W", "ignore::DeprecationWarning").strip() == "[7, 7]"


def run(code, *options):
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- memory ----


def test_two_gigabytes_train_in_constant_memory(tmp_path):
    """A sparse file; neither private memory nor pages of the file that were looked at come near its size."""
    code = f"""
import threading, numpy as np, minicnn as mc
from minicnn import layers
def resident():
    with open("/proc/self/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    return [int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")]
n = 2**31 // (4 * 784)
path = {str(tmp_path / "x.npy")!r}
np.lib.format.open_memmap(path, "w+", np.float32, (n, 28, 28, 1)).flush()
x, y = np.load(path, mmap_mode="r"), np.arange(n) % 10
rows = np.lib.format.open_memmap(path + "y", "w+", np.float32, (n, 10, 30))
model = mc.Sequential([layers.Flatten(), layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
model.fit(np.zeros((128, 28, 28, 1), "f4"), np.arange(128) % 10, 128, verbose=0)
before, found, over = resident(), [], threading.Event()
def watch():
    while not over.wait(0.002):
        found.append(resident())
thread = threading.Thread(target=watch, daemon=True)
thread.start()
more = {{"batch_size": 128, "steps_per_epoch": 3, "verbose": 0}}
model.fit(x, y, epochs=2, class_weight={{0: 2.0}}, validation_split=0.5, validation_steps=2, **more)
model.fit(x, y, epochs=1, shuffle=False, validation_data=(x, y), validation_steps=2, **more)
model.fit(x[::-1], y, epochs=1, **more)
model.evaluate(x, y, steps=3)
model.predict(x, steps=3)
model.train_on_batch(x[:128], y[:128])
model = mc.Sequential([layers.Flatten(), layers.Dense(300, activation="sigmoid"), layers.Reshape((10, 30))])
model.compile("adam", "poisson")
model.evaluate(x, rows, steps=1)
model.fit(x, rows, epochs=1, **more)
over.set()
thread.join()
assert model.input_range == (0.0, 0.0)
print(*[max(sizes) - first for sizes, first in zip(zip(*found), before)])
"""
    if not os.path.exists("/proc/self/status"):
        pytest.skip("no /proc")
    private, of_the_file = map(float, run(code).split())
    assert private < 200, private
    assert of_the_file < 500  # Linux reads around what is asked for


# ---- runs that were stopped ----


@pytest.mark.parametrize("kind", ["items", "told", "loader", "iterator", "map", "steps"])
@pytest.mark.parametrize("freq", ["epoch", 2])
@pytest.mark.parametrize("last", [4, 7])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(kind, freq, last, tmp_path):
    np.save(tmp_path / "x.npy", X)
    more = {"verbose": 0, "epochs": 4, "steps_per_epoch": {"iterator": 3, "steps": 4}.get(kind)}

    def run(*callbacks):
        model = compiled()
        made = {"items": Items, "told": Epochs, "loader": Loader, "iterator": endless, "steps": Items}
        given = (made[kind](),) if kind != "map" else (np.load(tmp_path / "x.npy", mmap_mode="r"), LABELS, SIZE)
        model.fit(*given, **more, callbacks=[*callbacks])
        return model

    def stop(model):
        if model.optimizer.iterations == last:
            raise Broken

    whole = run()
    backup = [mc.callbacks.BackupAndRestore(str(tmp_path / "backup"), freq) for _ in range(2)]
    with pytest.raises(Broken):
        run(Hook(stop), backup[0])
    model = run(Hook(lambda model: None), backup[1])
    assert whole_state(model) == whole_state(whole)
    assert model.history.history == whole.history.history
