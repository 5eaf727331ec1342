"""fit, train_on_batch, evaluate: the loop and its arguments.  What stops it is in test_interrupts.py."""

import copy
import functools
import math

import numpy as np
import pytest
from compare import assert_close, assert_same_bits
from models import LABELS, ONE_HOT, Hook, X, compiled, small, trained, whole_state
from running import normal

import minicnn as mc
from minicnn import layers
from minicnn.callbacks import Callback

FIT = {"batch_size": 5, "epochs": 2, "verbose": 0}


def by_hand(model, x=X, y=LABELS, epochs=2, first=0):
    for epoch in range(first, epochs):
        for xb, yb in mc.datasets.batches(x, y, batch_size=5, seed=model.seed, epoch=epoch):
            model.train()
            _, gradient = model.loss(model.forward(xb), yb)
            model.backward(gradient)
            model.optimizer.step()
    return model.eval()


# ---- the same steps, in ``fit`` and in a loop by hand ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("end", "loss", "y"), [
    ("softmax", "sparse_categorical_crossentropy", LABELS), (None, "sparse_categorical_crossentropy", LABELS),
    ("softmax", "mse", ONE_HOT), ("sigmoid", "binary_crossentropy", ONE_HOT), (None, "huber", ONE_HOT),
])  # fmt: skip
def test_fit_is_the_loop_by_hand_bit_for_bit(end, loss, y, dtype):
    fitted, looped = compiled(end, loss, dtype=dtype), compiled(end, loss, dtype=dtype)
    fitted.metrics = []
    fitted.fit(X, y, **FIT)
    by_hand(looped, y=y)
    assert whole_state(fitted) == whole_state(looped)
    assert fitted.optimizer.iterations == 6


@pytest.mark.parametrize(("end", "loss", "y"), [
    ("softmax", "sparse_categorical_focal_crossentropy", LABELS), (None, "categorical_focal_crossentropy", ONE_HOT),
    ("softmax", "kl_divergence", ONE_HOT), ("sigmoid", "binary_focal_crossentropy", ONE_HOT),
    (None, "binary_focal_crossentropy", ONE_HOT), ("sigmoid", "categorical_focal_crossentropy", ONE_HOT),
    (None, "hinge", 2 * ONE_HOT - 1), ("tanh", "squared_hinge", ONE_HOT), (None, "categorical_hinge", ONE_HOT),
    (None, "log_cosh", ONE_HOT), ("sigmoid", "poisson", ONE_HOT), ("sigmoid", "msle", ONE_HOT),
    (None, "cosine_similarity", ONE_HOT), (None, "mape", 2 + ONE_HOT),
])  # fmt: skip
def test_every_loss_is_trained_down_in_plans_as_batch_by_batch(end, loss, y):
    fitted, stepped = (compiled(end, loss, mc.optimizers.Adam(0.01)) for _ in range(2))
    weights = np.linspace(0.5, 1.5, len(X))
    fitted.metrics = stepped.metrics = []
    history = fitted.fit(X, y, 4, 12, verbose=0, shuffle=False, sample_weight=weights, drop_last=False).history
    losses = []
    for _ in range(12):
        for start in range(0, len(X), 4):
            part = slice(start, start + 4)
            losses.append(stepped.train_on_batch(X[part], y[part], weights[part])["loss"])
    assert whole_state(fitted) == whole_state(stepped)
    assert history["loss"][-1] < history["loss"][0]
    assert history["loss"][0] == pytest.approx(np.dot(losses[:3], [4, 4, len(X) - 8]) / len(X), rel=1e-12)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW"])
def test_training_in_pieces_is_one_fit_bit_for_bit(optimizer):
    options = {"momentum": 0.9, "nesterov": True} if optimizer == "SGD" else {}
    schedule = mc.optimizers.ExponentialDecay(0.05, 3, 0.5)
    whole, pieces = (compiled(optimizer=getattr(mc.optimizers, optimizer)(schedule, **options)) for _ in range(2))
    want = whole.fit(X, LABELS, batch_size=5, epochs=5, verbose=0)
    found = [
        pieces.fit(X, LABELS, batch_size=5, epochs=last, initial_epoch=first, verbose=0)
        for first, last in ((0, 1), (1, 3), (3, 3), (3, 5))
    ]
    assert whole_state(pieces) == whole_state(whole)
    assert [epoch for history in found for epoch in history.epoch] == want.epoch == [0, 1, 2, 3, 4]
    assert [loss for history in found for loss in history.history.get("loss", [])] == want.history["loss"]


def test_the_order_is_a_function_of_seed_and_epoch():
    seen = []

    def loss(outputs, y):
        seen.append(y.tolist())
        return 0.0, np.zeros_like(outputs)

    for shuffle in (True, False):
        model = small()
        model.compile("sgd", loss)
        model.fit(X, np.arange(12), batch_size=5, epochs=2, verbose=0, shuffle=shuffle)
    orders = [mc.datasets.order(12, 1, epoch).tolist() for epoch in (0, 1)] + 2 * [list(range(12))]
    assert orders[0] != orders[1]
    assert seen == [order[part] for order in orders for part in (slice(0, 5), slice(5, 10), slice(10, 12))]


def test_a_batch_larger_than_the_data():
    one, other = compiled(), compiled()
    one.fit(X, LABELS, batch_size=12, verbose=0)
    other.fit(X, LABELS, batch_size=1000, verbose=0)
    assert whole_state(one) == whole_state(other)
    assert one.optimizer.iterations == 1


def test_train_on_batch_is_one_step():
    batch, fitted = compiled(), compiled()
    for mode in (False, True):
        batch.train(mode)
        logs = batch.train_on_batch(X, LABELS)
        assert batch.training is mode
    history = fitted.fit(X, LABELS, batch_size=12, epochs=2, shuffle=False, verbose=0).history
    assert whole_state(batch) == whole_state(fitted)
    assert logs == {"loss": history["loss"][1], "accuracy": history["accuracy"][1]}


# ---- what fit returns ----


def test_history():
    model = compiled(optimizer=mc.optimizers.SGD(0.01))
    history = model.fit(X, LABELS, batch_size=5, epochs=4, initial_epoch=1, validation_split=0.25, verbose=0)
    assert model.history is history
    assert history.epoch == [1, 2, 3]
    assert list(history.history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert all(len(numbers) == 3 for numbers in history.history.values())
    assert all(type(number) is float for numbers in history.history.values() for number in numbers)
    assert repr(history).startswith("History({'loss': [")


@pytest.mark.parametrize("optimizer", [
    mc.optimizers.Adam(0.01),
    mc.optimizers.SGD(0.01, momentum=0.9),
    mc.optimizers.SGD(mc.optimizers.CosineDecay(0.1, 9)),
])  # fmt: skip
def test_going_on_with_an_optimizer_that_begins_anew_is_said(optimizer):
    model = compiled(optimizer=optimizer)
    message = r"^Sequential.fit: initial_epoch=2 with a new .*start again.*save_optimizer=True"
    model.fit(X, LABELS, batch_size=5, epochs=2, initial_epoch=2, verbose=0)  # nothing to train, nothing to say
    with pytest.warns(UserWarning, match=message):
        model.fit(X, LABELS, batch_size=5, epochs=3, initial_epoch=2, verbose=0)
    model.fit(X, LABELS, batch_size=5, epochs=4, initial_epoch=3, verbose=0)  # goes on, without a word


def named(*metrics):
    model = compiled()
    model.compile("sgd", "sparse_categorical_crossentropy", list(metrics))
    return model


def test_metrics_are_logged_under_the_names_that_were_given():
    def score(y, outputs):
        return 0.25

    given = ["acc", "accuracy", "sparse_categorical_accuracy", "top_k_accuracy", "acc", score, score, lambda y, p: 1.0]
    given += [lambda y, p: 2.0, functools.partial(score)]
    given[3] = "top_2_accuracy"
    names = ["acc", "accuracy", "sparse_categorical_accuracy", "top_2_accuracy", "acc_1", "score", "score_1"]
    names += ["<lambda>", "<lambda>_1", "score_2"]
    model = named(*given)
    history = model.fit(X, LABELS, **FIT, validation_split=0.5).history
    assert list(history) == ["loss", *names, "val_loss", *(f"val_{name}" for name in names)]
    found = model.evaluate(X, LABELS)
    assert len(found) == 11
    assert found[1] == found[2] == found[3] == found[5]
    assert found[6:] == [0.25, 0.25, 1.0, 2.0, 0.25]
    assert list(model.train_on_batch(X, LABELS)) == ["loss", *names]


def test_a_number_does_not_take_the_name_of_another_metric():
    def f(y, p):
        return 1.0

    def f_1(y, p):
        return 2.0

    found = named(f, f, f_1).evaluate(X, LABELS, return_dict=True)
    assert {name: found[name] for name in ("f", "f_2", "f_1")} == {"f": 1.0, "f_2": 1.0, "f_1": 2.0}


@pytest.mark.parametrize("name", ["loss", "epoch", "learning_rate", "val_loss", "val_x", "clean_x", "norm/0.kernel"])
def test_names_that_other_logs_have_are_refused(name):
    def own(y, outputs):
        return 1.0

    own.__name__ = name
    for metric in (own, mc.metrics.Accuracy(name)):
        model = compiled()
        with pytest.raises(ValueError, match=rf"^Sequential.compile: a metric cannot be called .*; got '{name}'"):
            model.compile("sgd", "mse", [metric])
        assert [metric.name for metric in model.metrics] == ["accuracy"]


def test_files_keep_the_names_of_metrics(tmp_path):
    model = named("acc", "top_k_accuracy", mc.metrics.TopKAccuracy(3), mc.metrics.Accuracy("hits"), lambda y, p: 1.0)
    model.save(tmp_path / "m.npz")
    loaded = mc.Sequential.load(tmp_path / "m.npz")
    assert [metric.name for metric in loaded.metrics] == ["acc", "top_k_accuracy", "top_3_accuracy", "hits"]
    assert [getattr(metric, "k", None) for metric in loaded.metrics] == [None, 5, 3, None]


def test_the_loss_of_an_epoch_is_the_mean_over_its_samples():
    model, logs = compiled(), []
    model.fit(X, LABELS, **FIT, callbacks=[Hook(lambda model: logs.append(model.optimizer.iterations))])
    values, accuracies = [], []
    twin = compiled()
    for xb, yb in mc.datasets.batches(X, LABELS, 5, seed=1, epoch=0):
        found = twin.train_on_batch(xb, yb)
        values.append(found["loss"] * len(yb))
        accuracies.append(found["accuracy"] * len(yb))
    assert logs == [1, 2, 3, 4, 5, 6]
    assert model.history.history["loss"][0] == pytest.approx(sum(values) / 12, rel=1e-12)
    assert model.history.history["accuracy"][0] == pytest.approx(sum(accuracies) / 12, rel=1e-12)


def test_no_epochs():
    model = compiled()
    before = whole_state(model)
    for epochs, initial_epoch in ((0, 0), (2, 2), (1, 3)):
        history = model.fit(X, LABELS, epochs=epochs, initial_epoch=initial_epoch, verbose=0)
        assert (history.epoch, history.history) == ([], {})
    assert whole_state(model) == before


def test_metrics():
    def mean_output(y, outputs):
        return float(outputs.mean() + 0 * y.mean())

    model = small()
    top = mc.metrics.TopKAccuracy(2)
    model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy", top, mean_output])
    history = model.fit(X, LABELS, verbose=0, validation_data=(X, LABELS)).history
    names = ["loss", "accuracy", "top_2_accuracy", "mean_output"]
    assert list(history) == names + [f"val_{name}" for name in names]
    assert history["val_mean_output"][0] == pytest.approx(0.25, rel=1e-6)
    assert math.isnan(top.result())  # the metric that was given is a pattern, not the counter
    assert list(model.evaluate(X, LABELS, return_dict=True)) == names


# ---- evaluate ----


def test_the_forms_of_evaluate():
    model = trained()
    loss, accuracy = model.evaluate(X, LABELS)
    p = model.predict(X).astype(np.float64)
    assert loss == pytest.approx(-np.log(p[np.arange(12), LABELS]).mean(), rel=1e-6)
    assert accuracy == (p.argmax(1) == LABELS).mean()
    assert model.evaluate(X, LABELS, return_dict=True) == {"loss": loss, "accuracy": accuracy}
    for size in (1, 5, 12, 100):
        assert model.evaluate(X, LABELS, batch_size=size) == pytest.approx([loss, accuracy], rel=1e-6)
    weights = np.arange(12)
    weighted = -(weights * np.log(p[np.arange(12), LABELS])).mean()
    assert model.evaluate(X, LABELS, 5, sample_weight=weights)[0] == pytest.approx(weighted, rel=1e-6)
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert type(model.evaluate(X, LABELS)) is float
    for size, error in ((0, ValueError), (2.5, TypeError), (True, TypeError), ("3", TypeError)):
        with pytest.raises(error, match=r"^Sequential.evaluate: batch_size must be a whole number >= 1; got "):
            model.evaluate(X, LABELS, batch_size=size)


def test_predict_and_evaluate_in_the_middle_change_nothing():
    """Not the mode, not the masks to come, not a bit of what training arrives at."""

    def look(model):
        assert model.training is True
        before = whole_state(model)
        model.predict(X, batch_size=3)
        model.evaluate(X, LABELS)
        model.outputs(X)
        model.predict_proba(X)
        model(X, training=False)
        assert whole_state(model) == before
        assert model.training is True

    watched, plain = compiled(), compiled()
    watched.fit(X, LABELS, **FIT, callbacks=[Hook(look)])
    plain.fit(X, LABELS, **FIT)
    assert whole_state(watched) == whole_state(plain)
    by_step = compiled()
    by_step.forward(X, training=True)
    step = copy.deepcopy(by_step)
    look(by_step.train())
    for model in (by_step, step):
        model.backward(np.ones((12, 4)))
    assert_same_bits(by_step.gradients, step.gradients)


# ---- the mode ----


@pytest.mark.parametrize("mode", [True, False])
def test_fit_puts_the_mode_back(mode):
    model = compiled().train(mode)
    seen = []
    model.fit(X, LABELS, **FIT, callbacks=[Hook(lambda model: seen.append(model.training))])
    assert seen == 6 * [True]
    assert model.training is mode
    for error in (ValueError, KeyboardInterrupt, SystemExit):

        def fail(model, error=error):
            raise error

        with pytest.raises(error):
            model.fit(X, LABELS, **FIT, callbacks=[Hook(fail)])
        assert model.training is mode
    with pytest.raises(ValueError, match="batch_size"):
        model.fit(X, LABELS, batch_size=0)
    assert model.training is mode


# ---- validation ----


def test_validation_split_takes_the_last_samples():
    split, given, plain = compiled(), compiled(), compiled()
    one = split.fit(X, LABELS, **FIT, validation_split=0.3)  # 8 and 4 of 12
    two = given.fit(X[:8], LABELS[:8], **FIT, validation_data=(X[8:], LABELS[8:]))
    plain.fit(X[:8], LABELS[:8], **FIT)
    assert one.history == two.history
    assert whole_state(split) == whole_state(given) == whole_state(plain)
    loss, accuracy = split.evaluate(X[8:], LABELS[8:])
    assert one.history["val_loss"][1] == pytest.approx(loss, rel=1e-12)
    assert one.history["val_accuracy"][1] == accuracy


def test_validation_with_weights():
    weights = np.linspace(0, 2, 12)
    split, given = compiled(), compiled()
    one = split.fit(X, LABELS, **FIT, validation_split=0.3, sample_weight=weights)
    two = given.fit(
        X[:8], LABELS[:8], **FIT, sample_weight=weights[:8], validation_data=[X[8:], LABELS[8:], weights[8:]]
    )
    assert one.history == two.history
    loss = split.evaluate(X[8:], LABELS[8:], sample_weight=weights[8:])[0]
    assert one.history["val_loss"][1] == pytest.approx(loss, rel=1e-12)
    both = given.fit(X, LABELS, **FIT, validation_split=0.5, validation_data=(X[8:], LABELS[8:], None))
    assert len(both.history["val_loss"]) == 2  # validation_data wins, as in Keras


@pytest.mark.parametrize(("fraction", "error"), [
    (1.5, ValueError), (1, ValueError), (-0.1, ValueError), (math.nan, ValueError), (math.inf, ValueError),
    (0.999, ValueError), ("0.5", TypeError), (True, TypeError), (None, TypeError),
])  # fmt: skip
def test_validation_splits_that_are_refused(fraction, error):
    message = "must leave samples on both sides of 12" if fraction == 0.999 else r"must be a number in \[0, 1\)"
    with pytest.raises(error, match=f"^Sequential.fit: validation_split {message}; got "):
        compiled().fit(X, LABELS, validation_split=fraction, verbose=0)


def test_the_smallest_validation_split_is_one_sample():
    one, other = compiled(), compiled()
    one.fit(X, LABELS, validation_split=1e-9, verbose=0)
    other.fit(X[:11], LABELS[:11], verbose=0)
    assert one.fingerprint() == other.fingerprint()


def test_validation_data_that_is_refused():
    for data in (X, (X,), (X, LABELS, None, None), 3, "ab"):
        with pytest.raises(
            TypeError, match=r"^Sequential.fit: validation_data must be \(x, y\) or \(x, y, sample_weight\)"
        ):
            compiled().fit(X, LABELS, validation_data=data, verbose=0)
    for data in ((X, LABELS[:3]), (X[..., :1], LABELS), (X[:0], LABELS[:0]), (X, LABELS + 1)):
        model = compiled()
        before = whole_state(model)
        with pytest.raises(ValueError, match=r"^Sequential.fit: "):
            model.fit(X, LABELS, validation_data=data, verbose=0)
        assert whole_state(model) == before


# ---- the training samples with nothing dropped ----


class Logs(Callback):
    """At the end of every epoch: the logs, and what evaluate says of the samples at that time."""

    def __init__(self, *samples, **more):
        self.samples, self.more, self.seen = samples, more, []

    def on_epoch_end(self, epoch, logs=None):
        expected = self.model.evaluate(*self.samples, return_dict=True, **self.more)
        self.seen.append((dict(logs), {f"clean_{name}": value for name, value in expected.items()}))


@pytest.mark.parametrize("options", [{}, {"batch_size": 5}, {"batch_size": 5, "validation_split": 0.3}], ids=str)
def test_clean_metrics_are_those_of_evaluate_bit_for_bit(options):
    model, plain = compiled(), compiled()
    model.metrics.append(mc.metrics.TopKAccuracy(2))
    n = 8 if "validation_split" in options else 12
    watch = Logs(X[:n], LABELS[:n], batch_size=options.get("batch_size", 32))
    history = model.fit(X, LABELS, **options, epochs=3, verbose=0, callbacks=[watch], clean_train_metrics=True).history
    names = ["loss", "accuracy", "top_2_accuracy"]
    clean = [f"clean_{name}" for name in names]
    assert list(history) == names + clean + [f"val_{name}" for name in names if n == 8]
    assert len(watch.seen) == 3
    for epoch, (logs, expected) in enumerate(watch.seen):
        assert {name: logs[name] for name in clean} == expected == {name: history[name][epoch] for name in clean}
        assert logs["clean_loss"] != logs["loss"]
    without = plain.fit(X, LABELS, **options, epochs=3, verbose=0).history
    assert whole_state(model) == whole_state(plain)
    assert without == {name: values for name, values in history.items() if name in without}
    assert not any(name.startswith("clean_") for name in without)


def test_clean_metrics_count_the_samples_with_their_weights():
    """Those of the samples, as in validation: with the weights of classes both losses could not be compared."""
    model, weights = compiled(), np.linspace(0, 2, 12)
    watch = Logs(X[:8], LABELS[:8], batch_size=5, sample_weight=weights[:8])
    more = {"class_weight": {0: 2.0, 3: 0}, "sample_weight": weights, "validation_split": 0.3}
    model.fit(X, LABELS, **FIT, **more, callbacks=[watch], clean_train_metrics=True)
    assert len(watch.seen) == 2
    for logs, expected in watch.seen:
        assert {name: logs[name] for name in expected} == expected


def test_clean_metrics_can_be_monitored():
    model = compiled(optimizer=mc.optimizers.SGD(0.0))  # nothing improves
    model.layers[2].momentum = 1.0  # nor do moving statistics
    stop = mc.callbacks.EarlyStopping("clean_accuracy", patience=1)
    history = model.fit(X, LABELS, epochs=9, verbose=0, callbacks=[stop], clean_train_metrics=True)
    assert (stop.stopped_epoch, len(history.epoch)) == (1, 2)
    with pytest.raises(ValueError, match=r"clean_\.\.\. clean_train_metrics=True\); got \['accuracy', 'loss'\]"):
        model.fit(X, LABELS, verbose=0, callbacks=[stop])


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("mode", [True, False])
def test_clean_metrics_that_are_interrupted_leave_model_and_mode(error, mode):
    def fail_in_eval_mode(outputs, y):
        value, gradient = mse(outputs, y)
        if len(seen) == 3:  # after the three steps of the epoch
            raise error
        seen.append(value)
        return value, gradient

    mse, seen = mc.losses.get("mse"), []
    model, plain = compiled(None, fail_in_eval_mode).train(mode), compiled(None, "mse")
    model.metrics, plain.metrics = [], []
    with pytest.raises(error):
        model.fit(X, ONE_HOT, **FIT, clean_train_metrics=True)
    assert model.training is mode
    assert model.history.epoch == []
    plain.fit(X, ONE_HOT, batch_size=5, verbose=0)
    assert whole_state(model) == whole_state(plain)


# ---- weights of samples and classes ----


def test_class_weights_are_sample_weights():
    by_class, by_sample, both, product = (compiled() for _ in range(4))
    table = {0: 2.0, 1: 0.5, 3: 0}
    of_classes, weights = np.array([2.0, 0.5, 1, 0])[LABELS], np.linspace(0, 3, 12)
    by_class.fit(X, LABELS, **FIT, class_weight=table)
    by_sample.fit(X, LABELS, **FIT, sample_weight=of_classes)
    both.fit(X, LABELS, **FIT, class_weight=table, sample_weight=weights)
    product.fit(X, LABELS, **FIT, sample_weight=of_classes * weights)
    assert whole_state(by_class) == whole_state(by_sample)
    assert whole_state(both) == whole_state(product) != whole_state(by_class) != whole_state(trained())
    one_hot = compiled("softmax", "categorical_crossentropy")
    one_hot.fit(X, ONE_HOT, **FIT, class_weight=table)
    assert_close(one_hot.parameters, by_class.parameters, 1e-5)
    one, other = compiled(), compiled()
    one.train_on_batch(X, LABELS, class_weight=table)
    other.train_on_batch(X, LABELS, of_classes)
    assert whole_state(one) == whole_state(other)


@pytest.mark.parametrize("weights", [None, np.linspace(0, 2, 12)])
@pytest.mark.parametrize("table", [{0: 1.0, 1: 10.0}, {2: 0.0, 3: 0.0, 0: 0.0}])
def test_class_weights_are_for_training_alone(weights, table):
    """The validation is what ``evaluate`` gives, whether it was split off or given; samples keep their weights."""
    by_split, by_data, without = compiled(), compiled(), compiled()
    cut = [weights] * 2 if weights is None else [weights[:8], weights[8:]]
    split = by_split.fit(X, LABELS, **FIT, class_weight=table, sample_weight=weights, validation_split=1 / 3).history
    data = (X[8:], LABELS[8:], cut[1])
    given = by_data.fit(
        X[:8], LABELS[:8], **FIT, class_weight=table, sample_weight=cut[0], validation_data=data
    ).history
    assert split == given
    assert whole_state(by_split) == whole_state(by_data)
    found = by_split.evaluate(X[8:], LABELS[8:], 5, True, cut[1])
    assert {f"val_{name}": value for name, value in found.items()} == {
        name: values[-1] for name, values in split.items() if name.startswith("val_")
    }
    without.fit(X, LABELS, **FIT, sample_weight=weights, validation_split=1 / 3)
    assert whole_state(without) != whole_state(by_split)


@pytest.mark.parametrize(("end", "units", "loss", "y", "last"), [
    ("softmax", 4, "sparse_categorical_crossentropy", LABELS, 3),
    ("softmax", 4, "sparse_categorical_crossentropy", LABELS[:, None].astype(float), 3),
    ("softmax", 4, "categorical_crossentropy", ONE_HOT, 3),
    (None, 4, "categorical_crossentropy", ONE_HOT, 3),
    ("sigmoid", 4, "mse", ONE_HOT, 3),
    ("sigmoid", 1, "binary_crossentropy", LABELS % 2, 1),
    (None, 1, "binary_crossentropy", LABELS[:, None] % 2, 1),
])  # fmt: skip
def test_class_weights_of_what_is_no_class(end, units, loss, y, last):
    model = mc.Sequential([layers.Flatten(), layers.Dense(units, end)])
    model.compile("sgd", loss)
    before = model.build(X.shape[1:]) or model.fingerprint()
    for call in (model.fit, model.train_on_batch):
        for key in (last + 1, 100, -1, 0.5, math.nan, math.inf):
            match = (
                rf"^Sequential.{call.__name__}: a class of class_weight must be a whole number in \[0, {last}\]; got "
            )
            with pytest.raises(ValueError, match=match + str(key)):
                call(X, y, class_weight={0: 2.0, key: 3.0})
        for key in ("1", None, True):
            with pytest.raises(TypeError, match=rf"a class of class_weight must be .*\[0, {last}\]; got '?{key}"):
                call(X, y, class_weight={key: 3.0})
    assert model.fingerprint() == before
    model.train_on_batch(X, y, class_weight={np.float64(0): 2.0, np.int8(last): 3})


def test_class_weights_of_a_class_that_no_sample_has():
    y, models = np.where(LABELS == 2, 1, LABELS), [compiled() for _ in range(3)]
    match = "class_weight has a weight for class 2, which no label in y has"
    with pytest.warns(UserWarning, match=f"^Sequential.fit: {match}") as caught:
        models[0].fit(X, y, **FIT, class_weight={2: 5.0})
    assert caught[0].filename == __file__
    models[1].fit(X, y, **FIT)
    assert whole_state(models[0]) == whole_state(models[1])
    with pytest.warns(UserWarning, match=f"^Sequential.train_on_batch: {match}") as caught:
        models[0].train_on_batch(X, np.eye(4)[y].argmax(1), class_weight={2: 5.0, 1: 2.0})
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="a weight for classes 2, 3, which no label in y has"):
        models[0].train_on_batch(X[:2], y[:2], class_weight={2: 5.0, 3: 2.0})


def test_a_weight_of_zero_is_a_sample_that_is_not_there():
    """In a model without batch normalisation, whose statistics see all samples."""
    twins = []
    for _ in range(2):
        twins.append(mc.Sequential([layers.Flatten(), layers.Dense(4, activation="softmax")], seed=1))
        twins[-1].compile(mc.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    x = X.copy()
    x[3] = 1e6
    twins[0].fit(X, LABELS, batch_size=12, verbose=0, sample_weight=(np.arange(12) != 3).astype(float))
    twins[1].fit(x, LABELS, batch_size=12, verbose=0, sample_weight=(np.arange(12) != 3).astype(float))
    assert_close(twins[0].parameters, twins[1].parameters, 1e-5)


@pytest.mark.parametrize(("more", "error", "message"), [
    ({"sample_weight": np.ones(11)}, ValueError, "sample weights must have shape"),
    ({"sample_weight": np.ones((12, 1))}, ValueError, "sample weights must have shape"),
    ({"sample_weight": np.full(12, np.nan)}, ValueError, "sample weights must be finite"),
    ({"sample_weight": "heavy"}, TypeError, "sample weights must be an array"),
    ({"class_weight": [1, 2]}, TypeError, "class_weight must be a dictionary"),
    ({"class_weight": {"0": 1}}, TypeError, "a class of class_weight must be a whole number"),
    ({"class_weight": {0: -1}}, ValueError, "the weight of class 0 must be a number >= 0"),
    ({"class_weight": {0: math.nan}}, ValueError, "the weight of class 0 must be a number >= 0"),
])  # fmt: skip
def test_weights_that_are_refused(more, error, message):
    model = compiled()
    before = whole_state(model)
    for call in (model.fit, model.train_on_batch):
        with pytest.raises(error, match=message):
            call(X, LABELS, **more)
    assert whole_state(model) == before


# ---- arguments ----


@pytest.mark.parametrize(("more", "error"), [
    ({"batch_size": 0}, ValueError), ({"batch_size": -1}, ValueError), ({"batch_size": 2.5}, TypeError),
    ({"batch_size": "3"}, TypeError), ({"batch_size": True}, TypeError),
    ({"epochs": -1}, ValueError), ({"epochs": 1.0}, TypeError), ({"initial_epoch": -1}, ValueError),
    ({"initial_epoch": None}, TypeError), ({"verbose": 3}, ValueError), ({"verbose": "loud"}, ValueError),
    ({"callbacks": [print]}, TypeError), ({"callbacks": [Callback]}, TypeError),
    ({"callbacks": Callback}, TypeError), ({"callbacks": ["early"]}, TypeError),
    ({"clean_train_metrics": 1}, TypeError), ({"clean_train_metrics": "yes"}, TypeError),
    ({"shuffle": "False"}, TypeError), ({"shuffle": "batch"}, TypeError), ({"shuffle": 1}, TypeError),
    ({"shuffle": None}, TypeError), ({"drop_last": "no"}, TypeError), ({"drop_last": 1}, TypeError),
    ({"verbose": None}, ValueError), ({"verbose": [0]}, ValueError), ({"verbose": np.zeros(2)}, ValueError),
])  # fmt: skip
def test_arguments_that_are_refused(more, error):
    model = compiled()
    before, history = whole_state(model), model.history
    with pytest.raises(error, match=rf"^Sequential.fit: {next(iter(more))} must be .*; got "):
        model.fit(X, LABELS, **more)
    assert whole_state(model) == before
    assert model.history is history
    model.fit(X, LABELS, verbose=0)


# ---- in the end ----


def test_the_accuracy_of_a_real_problem():
    """Two classes that lie apart: training arrives."""
    x, y = normal((64, 8)), np.arange(64) % 2
    x[y == 1] += 3
    model = mc.Sequential([layers.Dense(8, activation="relu"), layers.Dropout(0.2), layers.Dense(2)], seed=0)
    model.compile(mc.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy", ["accuracy"])
    history = model.fit(x, y, batch_size=16, epochs=10, verbose=0).history
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    assert model.evaluate(x, y)[1] > 0.95


# ---- the place between backward and update ----


def test_gradients_are_reduced_before_the_update(monkeypatch):
    """Twice the gradient at half the rate is the same step: exactly, for both are powers of two."""
    plain, reduced = (trained_with(mc.optimizers.SGD(rate)) for rate in (0.5, 0.25))
    plain_loss = plain.train_on_batch(X, LABELS)

    def reduce(step):
        assert step.model is reduced
        step.model.gradients[...] *= 2

    monkeypatch.setattr(mc.training.Step, "reduce", reduce)
    assert reduced.train_on_batch(X, LABELS) == plain_loss
    assert reduced.fingerprint() == plain.fingerprint()


def test_a_step_that_fails_in_reduce_is_taken_back(monkeypatch):
    model = trained_with(mc.optimizers.SGD(0.5))
    before = whole_state(model)

    def reduce(step):
        raise ConnectionError("a rank is gone")

    monkeypatch.setattr(mc.training.Step, "reduce", reduce)
    with pytest.raises(ConnectionError, match="a rank is gone"):
        model.fit(X, LABELS, batch_size=5, verbose=0)
    assert whole_state(model) == before
    monkeypatch.undo()
    model.fit(X, LABELS, batch_size=5, verbose=0)


def trained_with(optimizer):
    model = compiled()
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


# ---- Keras's words of fit ----


def test_validation_data_in_batches_of_their_own(monkeypatch):
    sizes, over = [], mc.passes.over
    monkeypatch.setattr(mc.passes, "over", lambda *given: sizes.append((given[-1], given[3])) or over(*given))
    model = compiled()
    more = {"validation_data": (X, LABELS), "clean_train_metrics": True}
    history = model.fit(X, LABELS, **FIT, **more, validation_batch_size=7).history
    assert sizes == [("clean_", FIT["batch_size"]), ("val_", 7)]
    assert history["val_loss"] == pytest.approx(history["clean_loss"], rel=1e-6)


@pytest.mark.parametrize(("freq", "epochs"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3]), (9, []), ([1, 4], [0, 3]), ((), [])])
def test_how_often_is_validated(freq, epochs):
    model = compiled()
    more = FIT | {"epochs": 5, "validation_split": 0.5}
    history = model.fit(X, LABELS, **more, validation_freq=freq)
    assert history.epochs_of("val_loss") == epochs
    assert len(history.history.get("val_loss", [])) == len(epochs)
    assert history.epochs_of("loss") == history.epoch == [0, 1, 2, 3, 4]
    plain = compiled()
    plain.fit(X, LABELS, **more)
    assert model.fingerprint() == plain.fingerprint()


@pytest.mark.parametrize(("more", "error"), [
    ({"validation_freq": 0}, ValueError), ({"validation_freq": 1.5}, TypeError), ({"validation_freq": [0]}, ValueError),
    ({"validation_freq": ["a"]}, TypeError), ({"validation_batch_size": 0}, ValueError),
    ({"validation_batch_size": "7"}, TypeError),
])  # fmt: skip
def test_words_of_validation_that_are_refused(more, error):
    model = compiled()
    before = whole_state(model)
    with pytest.raises(error, match=rf"^Sequential.fit: .*{next(iter(more))} must be a whole number"):
        model.fit(X, LABELS, **FIT, validation_split=0.5, **more)
    assert whole_state(model) == before


@pytest.mark.parametrize(("x", "words"), [
    (X, "ndarray and no y. Give y"), ([X, LABELS], "list and no y"), ((X, LABELS), "tuple and no y"),
])  # fmt: skip
def test_x_alone_is_refused(x, words):
    with pytest.raises(TypeError, match=rf"^Sequential.fit: x and y must be arrays; got {words}"):
        compiled().fit(x, verbose=0)


def test_the_learning_rate_of_a_schedule_is_logged(tmp_path, capsys):
    def scheduled(rate, epochs=3, **words):
        model = compiled()
        model.compile(mc.optimizers.SGD(rate), "sparse_categorical_crossentropy")
        return model.fit(X, LABELS, batch_size=5, epochs=epochs, **words)

    steps = -(-len(X) // 5)
    schedule = mc.schedules.ExponentialDecay(0.1, 1, 0.5)
    whole = scheduled(schedule, verbose=2)
    assert whole.history["learning_rate"] == [schedule(epoch * steps) for epoch in range(3)]  # with which each began
    assert "learning_rate" not in capsys.readouterr().err
    assert "learning_rate" not in scheduled(0.1, verbose=0).history
    assigned = scheduled(
        0.5, verbose=0, callbacks=[mc.callbacks.LearningRateScheduler(lambda epoch: 0.1 / (1 + epoch))]
    )
    assert assigned.history["learning_rate"] == [0.1, 0.05, 0.1 / 3]

    def stop(batch, logs):
        if batch == 1 and len(seen) == 4:  # within the second epoch
            raise KeyboardInterrupt
        seen.append(batch)

    seen, backup = [], mc.callbacks.BackupAndRestore(tmp_path, save_freq=1)
    with pytest.raises(KeyboardInterrupt):
        scheduled(schedule, verbose=0, callbacks=[backup, mc.callbacks.LambdaCallback(on_train_batch_begin=stop)])
    assert len(seen) == 4
    resumed = scheduled(schedule, verbose=0, callbacks=[backup])
    assert resumed.history == whole.history
