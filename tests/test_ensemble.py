"""Ensemble: members, bits in processes against training here, and what the outputs are read as."""

import copy
import functools
import pickle
import sys

import numpy as np
import pytest
from compare import assert_close, assert_same_bits
from models import IMAGE, LABELS, ONE_HOT, Halve, Hook, X, chain, compiled, network, same, sigmoid, softmax, whole_state
from running import use_threads

import minicnn as mc
from minicnn import layers
from minicnn.ensemble import Prediction

# ---- what a model's outputs are ----


def own_loss(outputs, y):
    return float((outputs**2).mean()), 2 * outputs / outputs.size


KINDS = [
    (4, "softmax", "sparse_categorical_crossentropy", "classes", same),
    (4, "softmax", "categorical_crossentropy", "classes", same),
    (4, "softmax", "mse", "classes", same),
    (4, "softmax", None, "classes", same),
    (4, None, "sparse_categorical_crossentropy", "classes", softmax),
    (4, None, "categorical_crossentropy", "classes", softmax),
    (1, "sigmoid", "binary_crossentropy", "binary", same),
    (1, "sigmoid", None, "binary", same),
    (1, None, "binary_crossentropy", "binary", sigmoid),
    (4, "sigmoid", "binary_crossentropy", "labels", same),
    (4, None, "binary_crossentropy", "labels", sigmoid),
    (4, None, "mse", "values", same),
    (1, None, "huber", "values", same),
    (4, "relu", "mae", "values", same),
    (4, None, own_loss, "values", same),
    (4, None, None, "values", same),
]


@pytest.mark.parametrize(("units", "end", "loss", "kind", "function"), KINDS)
def test_outputs_are_read_as_what_they_are(units, end, loss, kind, function):
    members = [network(units, end, loss, seed, dtype) for seed, dtype in enumerate(("float32", "float64"))]
    prediction = mc.Ensemble(members).predict(X, return_samples=True)
    assert prediction.kind == kind
    assert prediction.samples.shape == (2, len(X), units)
    assert prediction.samples.dtype == np.float64
    for member, outputs in zip(members, prediction.samples, strict=True):
        assert_close(outputs, function(member.predict(X).astype(np.float64)), 1e-6)
        if kind != "values":
            assert_same_bits(outputs, member.predict_proba(X).astype(np.float64))
    for batch_size in (1, 5):
        other = mc.Ensemble(members).predict(X, batch_size=batch_size)
        assert_same_bits(other.mean, prediction.mean)
        assert_same_bits(other.std, prediction.std)


# ---- Ensemble: members ----


def build(seed=5):
    model = mc.Sequential(chain(), seed=seed)
    model.compile(mc.optimizers.Adam(0.01), "sparse_categorical_crossentropy", ["accuracy"])
    return model


class WithoutSignature:
    """As a function in C may be."""

    __signature__ = "none"

    def __call__(self):
        return build(7)


def test_builders_that_do_not_say_what_they_take():
    assert [model.seed for model in mc.Ensemble([WithoutSignature(), lambda seed=7, /: build(seed)]).members] == [7, 7]


def test_builders_get_their_seed():
    made = mc.Ensemble([build, build, compiled(), lambda: build(), functools.partial(build, seed=9)], seed=3)
    assert [model.seed for model in made.members] == [3, 4, 1, 5, 9]
    assert len(made) == 5
    assert repr(made) == "<Ensemble of 5 members, seed 3>"
    assert [model.seed for model in mc.Ensemble([build] * 2, 2**64 - 2).members] == [2**64 - 2, 2**64 - 1]


def test_bad_members():
    model = compiled()
    for members, error, message in (
        (model, TypeError, "Ensemble: members must be a list"),
        ([], ValueError, "at least one entry"),
        ([model, model], ValueError, "member 1 must not be a model that is a member already"),
        ([model, "x"], TypeError, "member 1 must be a Sequential or a function that returns one; got 'x' (str)"),
        ([mc.Sequential], TypeError, "member 0 must be a Sequential or a function"),
        ([lambda: None], TypeError, "member 0 must be a Sequential or a function that returns one; got None"),
        ([model, lambda: layers.Dense(0)], ValueError, "Ensemble: member 1: Dense: units must be"),
    ):
        with pytest.raises(error) as caught:
            mc.Ensemble(members)
        assert message in str(caught.value)
    with pytest.raises(KeyError) as caught:
        mc.Ensemble([model, lambda: {}["gone"]])
    assert caught.value.__notes__ == ["Ensemble: this was member 1"]
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match="Ensemble: seed must be a whole number in"):
            mc.Ensemble([model], seed)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_data_that_give_batches_are_for_the_members(n_jobs):
    ensemble = mc.Ensemble([compiled()])
    before = [whole_state(model) for model in ensemble.members]
    for data in (iter([(X, LABELS)]), [(X, LABELS)].__iter__()):
        match = (
            r"^Ensemble.fit: x must be an array; got .*, which .*\. For data that give batches call fit of each of the"
        )
        with pytest.raises(TypeError, match=match):
            ensemble.fit(data, n_jobs=n_jobs)
        with pytest.raises(
            TypeError, match=r"^Ensemble.predict: member 0: Sequential.predict: x must be an array; got"
        ):
            ensemble.predict(data)
    assert [whole_state(model) for model in ensemble.members] == before


def test_pictures_stand_in_the_place_of_x_and_y():
    pictures = mc.datasets.Pictures(X, LABELS, None, [])
    one, other = mc.Ensemble([build, build]), mc.Ensemble([build, build])
    one.fit(X, LABELS, **SETTINGS)
    other.fit(pictures, **SETTINGS)
    assert [whole_state(model) for model in one.members] == [whole_state(model) for model in other.members]


# ---- Ensemble: fit ----

SETTINGS = {"batch_size": 5, "epochs": 2, "verbose": 0}


def test_every_member_is_trained_as_it_would_be_alone():
    alone = [build(0), build(1)]
    histories = [model.fit(X, LABELS, **SETTINGS) for model in alone]
    together = mc.Ensemble([build, build])
    found = together.fit(X, LABELS, **SETTINGS)
    assert [whole_state(model) for model in together.members] == [whole_state(model) for model in alone]
    assert [one.history for one in found] == [one.history for one in histories]


def with_frozen_mask(seed):
    model = build(seed)
    model.layers[1].freeze_mask()
    return model


@pytest.mark.parametrize("bootstrap", [False, True])
def test_processes_change_no_bit(bootstrap):
    here, there = (mc.Ensemble([build, build, with_frozen_mask], seed=2) for _ in range(2))
    for member in (*here.members, *there.members):
        member.train_on_batch(X, LABELS)  # from now on there is a plan for 12 samples
    parts = [[*parts_of(member)] for member in there.members]
    for more in ({"epochs": 2}, {"epochs": 3, "initial_epoch": 2}):
        arguments = {**SETTINGS, **more, "bootstrap": bootstrap, "validation_data": (X, LABELS)}
        expected, found = here.fit(X, LABELS, **arguments), there.fit(X, LABELS, n_jobs=2, **arguments)
        check_equal(here, there)
        assert [(one.epoch, one.history) for one in found] == [(one.epoch, one.history) for one in expected]
        assert [model.history for model in there.members] == found
    for member, before in zip(there.members, parts, strict=True):
        assert all(a is b for a, b in zip(parts_of(member), before, strict=True))
    for ensemble in (here, there):  # what comes afterwards goes on from the same place
        for member in ensemble.members:
            member.train_on_batch(X, LABELS)
        ensemble.fit(X, LABELS, batch_size=7, epochs=1, verbose=0)
    check_equal(here, there)
    for a, b in zip(here.members, there.members, strict=True):
        assert_same_bits(a.layers[1].last_mask, b.layers[1].last_mask)
        b.layers[4].params["bias"][0] += 1  # the arrays that a layer shows are those that the model uses
        assert (a.predict(X) != b.predict(X)).all()


def parts_of(model):
    """What somebody may hold on to."""
    yield from (model.optimizer, model.loss_function, model.parameters, model.gradients)
    for layer in model.layers:
        yield from (layer, *layer.params.values(), *layer.grads.values())


def check_equal(here, there):
    for a, b in zip(here.members, there.members, strict=True):
        assert_same_bits(a.parameters, b.parameters)
        assert whole_state(a) == whole_state(b)
        assert a.training is b.training is False
        assert_same_bits(a.predict(X), b.predict(X))


def test_large_arrays_reach_the_processes():
    """Above 1 MB joblib hands out a read-only map of a file."""
    x = np.random.default_rng(0).random((1500, *IMAGE, 4))[..., :2]
    here, there = (mc.Ensemble([build, build]) for _ in range(2))
    for ensemble, jobs in ((here, 1), (there, -1)):
        ensemble.fit(x[..., 0], np.arange(1500) % 4, n_jobs=jobs, batch_size=500, verbose=0)
    check_equal(here, there)


def steep(seed):
    model = mc.Sequential([layers.Flatten(), layers.Dense(8), layers.Dense(1)], seed=seed)
    model.compile(mc.optimizers.SGD(1e30 if seed else 0.01), "mse")
    return model


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_names_the_member(jobs):
    ensemble = mc.Ensemble([steep, steep])
    ensemble.members[0].build(IMAGE)
    before = ensemble.members[0].fingerprint()
    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match=r"Ensemble.fit: member 1: Sequential.fit: step \d of epoch"),
    ):
        ensemble.fit(X, np.ones(len(X)), n_jobs=jobs, batch_size=2, epochs=3, verbose=0)
    assert (ensemble.members[0].fingerprint() == before) is (jobs == 2)


def test_processes_share_the_threads_and_are_silent(monkeypatch, capfd):
    def threads(y, outputs):
        return mc.get_num_threads()

    monkeypatch.setenv("MINICNN_NUM_THREADS", "5")  # what the new processes inherit
    use_threads(6)
    members = [mc.Sequential([layers.Flatten(), Halve(), layers.Dense(4)], seed=seed) for seed in range(2)]
    for member in members:
        member.compile("sgd", "sparse_categorical_crossentropy", [threads])
    found = mc.Ensemble(members).fit(X, LABELS, n_jobs=2)
    assert [one.history["threads"] for one in found] == [[3], [3]]
    assert mc.get_num_threads() == 6
    assert capfd.readouterr() == ("", "")


def test_bad_arguments_before_anything_is_trained():
    ensemble = mc.Ensemble([build, build])
    ensemble.fit(X, LABELS, **SETTINGS)
    before = [whole_state(model) for model in ensemble.members]
    for arguments, error, message in (
        ({"epoch": 3}, TypeError, "Ensemble.fit: the keywords are"),
        ({"n_jobs": 0}, ValueError, "n_jobs must be a whole number other than 0; got 0"),
        ({"n_jobs": 1.5}, TypeError, "n_jobs must be"),
        ({"bootstrap": 1}, TypeError, "bootstrap must be True or False"),
        ({"bootstrap": True, "validation_split": 0.5}, ValueError, "bootstrap needs validation_data"),
        ({"n_jobs": 2, "callbacks": [Hook(print)]}, ValueError, "callbacks need n_jobs=1"),
        ({"sample_weight": np.ones(3)}, ValueError, "Ensemble.fit: member 0: Sequential.fit: sample weights"),
        ({"y": LABELS[:3]}, ValueError, "Ensemble.fit: member 0: Sequential.fit: x and y"),
        ({"y": LABELS[:3], "bootstrap": True}, ValueError, "x and y must have the same number of samples"),
        ({"x": X[:, :3]}, ValueError, "member 0: Sequential.fit: x must have shape"),
        ({"x": X[:0], "y": LABELS[:0], "bootstrap": True}, ValueError, "at least one sample"),
    ):
        with pytest.raises(error) as caught:
            ensemble.fit(**{"x": X, "y": LABELS, **SETTINGS, **arguments})
        assert message in str(caught.value)
    assert [whole_state(model) for model in ensemble.members] == before
    with pytest.raises(RuntimeError, match=r"Ensemble.fit: member 1 needs compile"):
        mc.Ensemble([build, lambda: mc.Sequential(chain())]).fit(X, LABELS)


def test_a_member_that_is_being_trained_already():
    ensemble, seen = mc.Ensemble([build, build]), []

    def again(model):
        with pytest.raises(RuntimeError, match=r"Ensemble.fit: member 0: Sequential.fit: the model is being trained"):
            ensemble.fit(X, LABELS, n_jobs=2)
        seen.append(model)

    ensemble.members[0].fit(X, LABELS, batch_size=12, verbose=0, callbacks=[Hook(again)])
    assert len(seen) == 1


def test_without_joblib(monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    ensemble = mc.Ensemble([build])
    with pytest.raises(ImportError, match=r'needs joblib: pip install "minicnn\[tune\]"'):
        ensemble.fit(X, LABELS, n_jobs=2)
    ensemble.fit(X, LABELS, verbose=0)


def test_callbacks_hear_every_member():
    seen = []
    ensemble = mc.Ensemble([build, build])
    ensemble.fit(X, LABELS, **SETTINGS, callbacks=[Hook(lambda model: seen.append(model.seed))])
    assert seen == [0] * 6 + [1] * 6


def test_bootstrap_trains_on_what_it_draws():
    weights = np.arange(1.0, 13)
    ensemble = mc.Ensemble([build, build], seed=4)
    ensemble.fit(X, LABELS, **SETTINGS, bootstrap=True, sample_weight=weights)
    for number, member in enumerate(ensemble.members):
        drawn = np.random.default_rng([4, number]).integers(0, 12, 12)
        alone = build(4 + number)
        alone.fit(X[drawn], LABELS[drawn], **SETTINGS, sample_weight=weights[drawn])
        assert whole_state(member) == whole_state(alone)


def test_twins_are_warned_of():
    twins = mc.Ensemble([build, lambda: build(1), lambda: build(0)])
    with pytest.warns(UserWarning, match="members 0 and 2 are the same network"):
        twins.fit(X, LABELS, **SETTINGS)
    assert_same_bits(twins.members[0].predict(X), twins.members[2].predict(X))
    other = build(0)
    other.compile("sgd", "sparse_categorical_crossentropy")
    mc.Ensemble([build, other]).fit(X, LABELS, **SETTINGS)  # the same layers, another optimiser: no warning
    mc.Ensemble([build(0), build(0)]).fit(X, LABELS, **SETTINGS, bootstrap=True)


# ---- Ensemble: predict ----


def test_predict():
    ensemble = mc.Ensemble([build, build, build])
    ensemble.fit(X, LABELS, **SETTINGS)
    samples = np.stack([model.predict(X) for model in ensemble.members])
    right = Prediction(samples)
    found = ensemble.predict(X, return_samples=True)
    assert_same_bits(found.samples, samples)
    vote = ensemble.predict(X, how="vote", batch_size=5)
    assert vote.samples is None
    assert vote.how == "vote"
    for prediction in (found, vote):
        for name in ("mean", "std", "votes", "predictive_entropy", "mutual_information"):
            assert_same_bits(getattr(prediction, name), getattr(right, name))
    assert_same_bits(np.asarray(vote), right.votes / 3)


def test_predict_takes_what_a_model_takes():
    ends = [layers.Dense(3, activation="softmax") for _ in range(2)]
    members = [mc.Sequential([layers.Conv2D(2, 3), layers.Flatten(), end], seed=s) for s, end in enumerate(ends)]
    ensemble = mc.Ensemble(members)
    x = np.arange(40, dtype=np.uint8).reshape(2, 4, 5)  # grey images build the model
    assert_same_bits(ensemble.predict(x.tolist()).mean, ensemble.predict(x[..., None]).mean)
    for keep in (False, True):
        nothing = ensemble.predict(x[:0], return_samples=keep)
        assert nothing.mean.shape == nothing.std.shape == nothing.votes.shape == (0, 3)
        assert nothing.classes.shape == nothing.mutual_information.shape == (0,)
        assert np.asarray(nothing).shape == (0, 3)
        assert keep == (nothing.samples is not None and nothing.samples.shape == (2, 0, 3))
    for arguments, error, message in (
        ({"x": np.ones((2, 3, 3))}, ValueError, "Ensemble.predict: member 0: Sequential.predict: x must have shape"),
        ({"how": "median"}, ValueError, "Ensemble.predict: how must be one of 'mean', 'vote'; got 'median'"),
        ({"batch_size": 0}, ValueError, "batch_size must be a whole number >= 1; got 0"),
        ({"return_samples": 1}, TypeError, "return_samples must be True or False"),
    ):
        with pytest.raises(error) as caught:
            ensemble.predict(**{"x": x, **arguments})
        assert message in str(caught.value)


def test_members_must_be_alike():
    required = r"Ensemble.predict: all members must give outputs of shape \(4,\) that are probabilities of the classes"
    for other in (network(3, "softmax", None), network(4, None, "mse")):
        with pytest.raises(ValueError, match=rf"{required}.*; got \([34],\), .* from member 1"):
            mc.Ensemble([network(4, "softmax", None), other]).predict(X)
    both = mc.Ensemble([network(4, "softmax", None), network(4, None, "categorical_crossentropy", 1)]).predict(X)
    assert both.kind == "classes"
    with pytest.raises(ValueError, match=r"Ensemble.predict: voting needs probabilities .*; got no probabilities"):
        mc.Ensemble([network(4, None, "mse")]).predict(X, how="vote")


def test_evaluate():
    ensemble = mc.Ensemble([build, build])
    ensemble.fit(X, LABELS, **SETTINGS)
    mean = ensemble.predict(X).mean
    found = ensemble.evaluate(X, LABELS, batch_size=5)
    assert found["loss"] == pytest.approx(-np.log(mean[np.arange(12), LABELS]).mean(), rel=1e-12)
    assert found["accuracy"] == (mean.argmax(1) == LABELS).mean()
    assert list(found) == ["loss", "accuracy"]
    yes_or_no = network(1, None, "binary_crossentropy")
    yes_or_no.metrics = [mc.metrics.Accuracy()]
    p, y = yes_or_no.predict_proba(X).astype(np.float64)[:, 0], LABELS % 2
    found = mc.Ensemble([yes_or_no]).evaluate(X, y)
    assert found["loss"] == pytest.approx(-np.where(y, np.log(p), np.log(1 - p)).mean(), rel=1e-6)
    assert found["accuracy"] == ((p > 0.5) == y).mean()
    values = network(4, None, "mse")
    assert mc.Ensemble([values]).evaluate(X, ONE_HOT)["loss"] == pytest.approx(values.evaluate(X, ONE_HOT), rel=1e-6)
    with pytest.raises(RuntimeError, match=r"Ensemble.evaluate: member 0 needs compile"):
        mc.Ensemble([network(4, "softmax", None)]).evaluate(X, LABELS)


def test_copies_go_on_alike():
    ensemble = mc.Ensemble([build, build], seed=6)
    ensemble.fit(X, LABELS, **SETTINGS)
    for twin_ in (copy.deepcopy(ensemble), pickle.loads(pickle.dumps(ensemble))):
        check_equal(ensemble, twin_)
        assert twin_.seed == 6
        twin_.fit(X, LABELS, **SETTINGS)
        assert (twin_.predict(X).mean != ensemble.predict(X).mean).any()


def test_several_yes_or_no_logits_become_probabilities_by_sigmoid():
    model = network(4, None, "binary_crossentropy")
    assert_close(model.predict_proba(X), sigmoid(model.predict(X).astype(np.float64)), 1e-6)


# ---- batches ----


def with_norm(seed):
    model = mc.Sequential([layers.Flatten(), layers.BatchNormalization(), layers.Dense(4)], seed=seed)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize("more", [{"batch_size": 1}, {"batch_size": 11, "drop_last": False},
                                  {"batch_size": 9, "validation_split": 1 / 6, "drop_last": False}])  # fmt: skip
def test_no_member_trains_where_a_batch_is_too_small_for_one(more):
    plain = mc.Sequential([layers.Flatten(), layers.Dense(4)])
    plain.compile("sgd", "sparse_categorical_crossentropy")
    ensemble = mc.Ensemble([plain, with_norm(1)])
    match = "^Ensemble.fit: member 1: .*layer 1, BatchNormalization, needs at least 2 samples in every batch"
    with pytest.raises(ValueError, match=match):
        ensemble.fit(X, LABELS, verbose=0, **more)
    assert [member.optimizer.iterations for member in ensemble.members] == [0, 0]


@pytest.mark.parametrize(("drop_last", "steps"), [(None, 1), (True, 1)])
def test_members_train_on_the_batches_of_fit(drop_last, steps):
    alone, ensemble = with_norm(0), mc.Ensemble([with_norm(0), with_norm(1)])
    alone.fit(X, LABELS, batch_size=11, verbose=0, drop_last=drop_last)
    ensemble.fit(X, LABELS, batch_size=11, verbose=0, drop_last=drop_last)
    assert ensemble.members[0].optimizer.iterations == steps
    assert whole_state(ensemble.members[0]) == whole_state(alone)


def test_a_class_that_a_member_has_not_drawn_is_no_reason_to_warn():
    y = np.arange(12) // 11  # one sample of class 1
    members = [mc.Sequential([layers.Flatten(), layers.Dense(2)], seed=seed) for seed in range(4)]
    for member in members:
        member.compile("sgd", "sparse_categorical_crossentropy")
    drawn = [np.random.default_rng([0, number]).integers(0, 12, 12) for number in range(4)]
    assert {bool((rows == 11).any()) for rows in drawn} == {True, False}
    mc.Ensemble(members).fit(X, y, bootstrap=True, class_weight={0: 2.0, 1: 3.0}, verbose=0)
    for seed, rows in enumerate(drawn):
        alone = mc.Sequential([layers.Flatten(), layers.Dense(2)], seed=seed)
        alone.compile("sgd", "sparse_categorical_crossentropy")
        alone.fit(X[rows], y[rows], sample_weight=np.array([2.0, 3.0])[y[rows]], verbose=0)
        assert alone.fingerprint() == members[seed].fingerprint()
    with pytest.warns(UserWarning, match="a weight for class 1, which no label in y has"):
        mc.Ensemble(members).fit(X, 0 * y, bootstrap=True, class_weight={1: 3.0}, verbose=0)
