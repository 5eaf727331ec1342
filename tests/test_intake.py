"""What fit, train_on_batch and evaluate are given: refused before anything is done, divided, cut into batches."""

import math

import numpy as np
import pytest
from models import LABELS, ONE_HOT, X, chain, compiled, small, trained, whole_state

import minicnn as mc
from minicnn import layers
from minicnn.callbacks import Callback

FIT = {"batch_size": 5, "epochs": 2, "verbose": 0}


# ---- x and y ----


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
def test_x_and_y_that_are_refused(method):
    for model in (compiled(), mc.Sequential(chain())):
        model.compile("sgd", "sparse_categorical_crossentropy")
        call = getattr(model, method)
        message = f"^Sequential.{method}: x and y must have the same number of samples; got 12 and 11$"
        with pytest.raises(ValueError, match=message):
            call(X, LABELS[:11])
        with pytest.raises(ValueError, match=f"^Sequential.{method}: x must have at least one sample; got shape"):
            call(X[:0], LABELS[:0])
        with pytest.raises(ValueError, match=f"^Sequential.{method}: y must have a batch axis; got shape"):
            call(X, 3)
        with pytest.raises(TypeError, match=f"^Sequential.{method}: y must have no masked entries; got a masked array"):
            call(X, np.ma.masked_array(LABELS, LABELS == 2))
        assert model.built is (model.input_shape is not None)
    with pytest.raises(RuntimeError, match=rf"^Sequential.{method}: needs compile\(optimizer, loss\) before it$"):
        getattr(small(), method)(X, LABELS)
    assert not mc.Sequential(chain()).built


def test_lengths_are_compared_before_anything_is_built():
    model = mc.Sequential(chain())
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="same number of samples"):
        model.fit(X, LABELS[:5])
    assert not model.built


@pytest.mark.parametrize("y", [
    LABELS.astype(np.uint64), LABELS.astype(np.int8), LABELS.astype(float), LABELS[:, None], LABELS.tolist(),
    LABELS.astype(">i4"), LABELS.astype(np.float16),
], ids=["uint64", "int8", "whole floats", "column", "list", "big-endian", "float16"])  # fmt: skip
def test_labels_of_every_kind(y):
    model = compiled()
    model.fit(X, y, **FIT)
    assert whole_state(model) == whole_state(trained())


@pytest.mark.parametrize(("wrong", "error"), [
    (4, ValueError), (-1, ValueError), (-100, ValueError), (0.5, ValueError), (math.nan, ValueError),
    (2**40, ValueError), ("3", TypeError),
])  # fmt: skip
@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
def test_a_wrong_label_is_found_before_the_first_step(method, wrong, error):
    """And named by its place in y, not in a batch."""
    y = LABELS.astype(object)
    y[10] = wrong
    y = np.array(y.tolist())
    model = compiled()
    before = whole_state(model)
    message = (
        r"labels must be whole numbers in \[0, 3\]; got .* at index 10" if error is ValueError else "y must be an array"
    )
    with pytest.raises(error, match=rf"^Sequential.{method}: {message}"):
        getattr(model, method)(X, y)
    assert whole_state(model) == before


def test_a_wrong_row_of_targets_is_found_before_the_first_step():
    for wrong in (0.5, -1, math.nan):
        model, y = compiled("softmax", "categorical_crossentropy"), ONE_HOT.copy()
        y[10, 2] += wrong
        before = whole_state(model)
        with pytest.raises(ValueError, match=r"^Sequential.fit: .*targets .*; got .* at index \(?10"):
            model.fit(X, y, batch_size=5, verbose=0)
        assert whole_state(model) == before
    for y in (LABELS, ONE_HOT[:, :3], ONE_HOT[..., None]):
        with pytest.raises(ValueError, match=r"^Sequential.fit: y must be one-hot rows of shape \(N, 4\); got shape"):
            compiled("softmax", "categorical_crossentropy").fit(X, y, verbose=0)


@pytest.mark.parametrize("y", [None, {0: 1}, (one for one in range(12)), {1, 2}], ids=["None", "dict", "iter", "set"])
@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_targets_that_are_no_array(method, y):
    with pytest.raises(TypeError, match=rf"^Sequential.{method}: (y must be an array|x and y must be arrays); got"):
        getattr(compiled(), method)(X, y)


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
def test_targets_that_are_ragged(method):
    with pytest.raises(
        ValueError, match=rf"^Sequential.{method}: y must be a rectangular array of numbers; got a ragg"
    ):
        getattr(compiled(), method)(X, [[1]] * 11 + [[1, 2]])


@pytest.mark.parametrize(("loss", "wrong", "words"), [
    ("mse", np.nan, "y must be finite; got nan"), ("huber", np.inf, "y must be finite; got inf"),
    ("cosine_similarity", -np.inf, "y must be finite; got -inf"), ("poisson", np.nan, "y must be numbers >= 0; got"),
    ("binary_crossentropy", 1.5, r"y must be in \[0, 1\]; got 1.5"), ("hinge", 3.0, "y must be 1 for a yes and"),
])  # fmt: skip
def test_a_wrong_number_is_found_before_the_first_step(loss, wrong, words):
    model, y = compiled("sigmoid", loss), ONE_HOT.copy()
    y[11, 1] = wrong
    before = whole_state(model)
    with pytest.raises(ValueError, match=rf"^Sequential.fit: {words}.* at index \(11, 1\)"):
        model.fit(X, y, batch_size=5, verbose=0)
    assert whole_state(model) == before


class Batches:
    """Gives batches; nobody may ask for them."""

    def __len__(self):
        return 10**9

    def __getitem__(self, i):
        raise AssertionError(i)


@pytest.mark.parametrize("data", [Batches(), iter([(X, LABELS)])], ids=["sequence", "iterator"])
@pytest.mark.parametrize("method", ["predict_mc", "predict_on_batch", "outputs", "forward"])
def test_methods_that_take_arrays_only(method, data):
    match = (
        rf"^Sequential.{method}: x must be an array; got .*, which gives one thing after the other\. Give it one batch"
    )
    with pytest.raises(TypeError, match=match):
        getattr(compiled(), method)(data)


@pytest.mark.parametrize("method", ["train_on_batch", "test_on_batch"])
def test_methods_of_one_batch(method):
    with pytest.raises(TypeError, match=rf"^Sequential.{method}: x must be an array; got Batches, which gives"):
        getattr(compiled(), method)(Batches(), None)
    with pytest.raises(TypeError, match=rf"^Sequential.{method}: y must be an array; got Batches, which gives"):
        getattr(compiled(), method)(X, Batches())


# ---- the last batch ----


def with_norm(image=False):
    first = [] if image else [layers.Flatten()]
    model = mc.Sequential(
        [*first, layers.BatchNormalization(), *([layers.Flatten()] if image else []), layers.Dense(4)]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


class Sizes(Callback):
    """How many samples each step had, and what was said before."""

    def __init__(self):
        self.found = []

    def on_train_batch_begin(self, batch, logs=None):
        forward = self.model.engine.training

        def plan(n):
            self.found.append(n)
            return forward(n)

        self.model.engine.training = plan

    def on_train_batch_end(self, batch, logs=None):
        del self.model.engine.training


@pytest.mark.parametrize("drop_last", [None, False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 5, 11, 12, 13])
def test_the_batches_of_fit_are_those_of_datasets(batch_size, drop_last):
    fitted, looped, sizes = compiled(), compiled(), Sizes()
    if drop_last and batch_size == 13:
        with pytest.raises(
            ValueError, match=r"^Sequential.fit: with drop_last=True .* batch_size = 13 samples; got 12"
        ):
            fitted.fit(X, LABELS, batch_size, drop_last=drop_last)
        return
    fitted.fit(X, LABELS, batch_size, epochs=2, verbose=0, drop_last=drop_last, callbacks=[sizes])
    wanted = []
    for epoch in range(2):
        for xb, yb in mc.datasets.batches(X, LABELS, batch_size, fitted.seed, epoch, drop_last=drop_last):
            _, gradient = looped.loss(looped.train().forward(xb), yb)
            looped.backward(gradient)
            looped.optimizer.step()
            wanted.append(len(xb))
    assert sizes.found == wanted
    assert sizes.params["steps"] == len(wanted) / 2 == fitted.optimizer.iterations / 2
    assert whole_state(fitted) == whole_state(looped)


def test_a_last_sample_joins_the_batch_before_it():
    model, sizes = with_norm(), Sizes()
    model.fit(X, LABELS, batch_size=11, verbose=0, callbacks=[sizes])
    assert sizes.found == [12]
    model.fit(X[:9], LABELS[:9], batch_size=4, verbose=0, callbacks=[sizes])
    assert sizes.found == [12, 4, 5]
    model.fit(X[:9], LABELS[:9], batch_size=4, verbose=0, drop_last=True, callbacks=[sizes])
    assert sizes.found == [12, 4, 5, 4, 4]


@pytest.mark.parametrize("more", [{"batch_size": 1}, {"batch_size": 11, "drop_last": False}, {"n": 1}])
def test_a_batch_that_is_too_small_is_known_before_the_first_step(more):
    more = {"epochs": 2, "verbose": 0} | more
    x, y = X[: more.get("n", 12)], LABELS[: more.pop("n", 12)]
    model = with_norm()
    before, history = model.build(X.shape[1:]) or whole_state(model), model.history
    match = (
        "^Sequential.fit: in training layer 1, BatchNormalization, needs at least 2 samples in every batch; got 1 in"
    )
    with pytest.raises(ValueError, match=match):
        model.fit(x, y, **more)
    assert whole_state(model) == before
    assert model.history is history
    with_norm(image=True).fit(x, y, **more)  # several values of a channel in one sample


def test_a_layer_of_ones_own_says_how_many_samples_it_needs():
    class Pairs(mc.Layer):
        def smallest_batch(self):
            return 4

        def forward(self, x, training=False):
            return x

        def backward(self, dy):
            return dy

    model = mc.Sequential([Pairs(), layers.Flatten(), layers.Dense(4)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(X, LABELS, batch_size=8, verbose=0)
    with pytest.raises(ValueError, match="layer 0, Pairs, needs at least 4 samples in every batch; got 2 in one"):
        model.fit(X, LABELS, batch_size=5, verbose=0)
    assert model.evaluate(X, LABELS, batch_size=5) > 0


# ---- a class that is left out ----


SORTED = np.sort(LABELS)


@pytest.mark.parametrize(("units", "loss", "y", "missing"), [
    (4, "sparse_categorical_crossentropy", SORTED, "class 3"),
    (4, "sparse_categorical_crossentropy", SORTED[:, None], "class 3"),
    (4, "sparse_categorical_crossentropy", SORTED // 3 + SORTED // 2, "class 2"),
    (4, "categorical_crossentropy", np.eye(4)[SORTED], "class 3"),
    (1, "binary_crossentropy", np.arange(12) > 8, "class 1"),
    (1, "binary_crossentropy", (np.arange(12.0) > 8)[:, None], "class 1"),
    (1, "binary_crossentropy", np.linspace(0, 1, 12), None),  # probabilities
    (4, "binary_crossentropy", np.eye(4)[SORTED], None),  # each by itself a yes or no
    (4, "mse", np.eye(4)[SORTED], None),
    (1, "mse", np.arange(12.0), None),
])  # fmt: skip
def test_a_split_that_leaves_no_sample_of_a_class(units, loss, y, missing):
    model = mc.Sequential([layers.Flatten(), layers.Dense(units)])
    model.compile("sgd", loss)
    if missing is None:
        model.fit(X, y, **FIT, validation_split=0.25)
    else:
        match = rf"^Sequential.fit: .* all of {missing}: none is left to train on. Shuffle x and y before"
        with pytest.warns(UserWarning, match=match) as caught:
            model.fit(X, y, **FIT, validation_split=0.25)
        assert caught[0].filename == __file__
    order = np.random.default_rng(0).permutation(12)
    model.fit(X[order], y[order], **FIT, validation_split=0.25)
    model.fit(X, y, **FIT, validation_data=(X, y))
