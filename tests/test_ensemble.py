"""Prediction, Ensemble, predict_mc: the reduction against loops, processes against training here."""

import copy
import functools
import math
import pickle
import sys
import tracemalloc

import numpy as np
import pytest
from compare import assert_close, assert_same_bits
from models import IMAGE, LABELS, ONE_HOT, Halve, Hook, X, chain, compiled, whole_state
from running import use_threads

import minicnn as mc
from minicnn import layers
from minicnn.ensemble import Prediction

OF_CLASSES = ("votes", "predictive_entropy", "mutual_information", "classes")
ALL = ("mean", "std", *OF_CLASSES)


def probabilities(*shape, dtype="float32", seed=0):
    """Rows that sum to 1, some of them sure."""
    z = 3 * np.random.default_rng([seed, *shape]).standard_normal(shape)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    p[..., ::5, :] = np.eye(shape[-1])[z[..., ::5, :].argmax(-1)]
    return p.astype(dtype)


def sure_or_not(*shape, dtype="float32"):
    """Single probabilities, with 0, 1 and 0.5 among them."""
    p = np.random.default_rng(list(shape)).random(shape)
    p[..., ::3, :] = np.round(2 * p[..., ::3, :]) / 2
    return p.astype(dtype)


def entropy(row):
    return -math.fsum(p * math.log(p) for p in row if p > 0)


def twin(samples, kind):
    """The table of Prediction's docstring, in loops over Python's floats."""
    found = {name: [] for name in ALL}
    for of_one in np.asarray(samples, np.float64).transpose(1, 0, *range(2, samples.ndim)):
        rows = of_one.reshape(len(of_one), -1).tolist()
        mean = [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
        deviations = [
            math.fsum((p - m) ** 2 for p in c) / len(rows) for c, m in zip(zip(*rows, strict=True), mean, strict=True)
        ]
        found["mean"].append(np.reshape(mean, samples.shape[2:]))
        found["std"].append(np.reshape(np.sqrt(deviations), samples.shape[2:]))
        if kind == "binary":
            rows, mean = [[1 - p, p] for (p,) in rows], [1 - mean[0], mean[0]]
        chosen = [row.index(max(row)) for row in rows]
        found["votes"].append([chosen.count(k) for k in range(len(mean))])
        found["predictive_entropy"].append(entropy(mean))
        found["mutual_information"].append(entropy(mean) - math.fsum(map(entropy, rows)) / len(rows))
        found["classes"].append(mean.index(max(mean)))
    return {name: np.array(rows) for name, rows in found.items()}


CASES = [(1, 1, 2), (2, 5, 2), (3, 4, 10), (5, 12, 3), (50, 7, 10), (4, 6, 200), (3, 5, 1)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", CASES, ids=str)
def test_reduction_of_classes(shape, dtype):
    samples = probabilities(*shape, dtype=dtype)
    check_against_twin(samples, "classes")


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 6, 1), (9, 7, 1), (4, 5)], ids=str)
def test_reduction_of_yes_or_no(shape):
    samples = sure_or_not(*shape[:2], 1).reshape(shape)
    check_against_twin(samples, "binary")


def check_against_twin(samples, kind):
    prediction, right = Prediction(samples, kind), twin(samples, kind)
    for name in ("mean", "std", "predictive_entropy", "mutual_information"):
        found = getattr(prediction, name)
        assert found.dtype == np.float64
        assert found.shape == right[name].shape
        np.testing.assert_allclose(found, right[name], rtol=1e-12, atol=1e-14, err_msg=name)
    for name in ("votes", "classes"):
        assert getattr(prediction, name).dtype == np.int64
        np.testing.assert_array_equal(getattr(prediction, name), right[name], err_msg=name)
    assert (prediction.mutual_information >= 0).all()
    assert prediction.votes.sum() == samples.shape[0] * samples.shape[1]
    assert prediction.members == len(samples)


def test_numbers_that_are_known():
    """Two sure members that contradict each other: all uncertainty is disagreement.  Two that are unsure: none is."""
    torn, unsure = Prediction([[[1.0, 0, 0]], [[0, 1, 0]]]), Prediction([[[0.5, 0.5, 0]], [[0.5, 0.5, 0]]])
    for prediction, disagreement in ((torn, math.log(2)), (unsure, 0)):
        assert_same_bits(prediction.mean, np.array([[0.5, 0.5, 0]]))
        assert prediction.predictive_entropy == [math.log(2)]
        assert prediction.mutual_information == [disagreement]
        assert prediction.classes == [0]
    assert_same_bits(torn.std, np.array([[0.5, 0.5, 0]]))  # by T; by T - 1 it would be 0.707
    assert torn.votes.tolist() == [[1, 1, 0]]
    assert unsure.votes.tolist() == [[2, 0, 0]]  # a tie goes to the first class
    assert Prediction(np.eye(3)[[2, 0, 1]][:, None]).classes == [0]  # and thirds are equal, whichever came first
    half = Prediction([[[0.5]], [[0.5]]], "binary")
    assert half.votes.tolist() == [[2, 0]]
    assert half.classes == [0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("members", [1, 3, 7, 49])
def test_members_that_agree_have_no_spread_at_all(members, dtype):
    p = probabilities(1, 40, 10, dtype=dtype)
    prediction = Prediction(p.repeat(members, 0))
    assert not prediction.std.any()
    assert not prediction.mutual_information.any()
    assert_same_bits(prediction.mean, p[0].astype(np.float64))


def test_mutual_information_is_never_negative():
    p = probabilities(1, 200, 10, dtype="float64")
    samples = p * (1 + 1e-15 * np.random.default_rng(0).standard_normal((5, 200, 10)))
    rounded = twin(samples, "classes")["mutual_information"]
    assert (rounded < 0).any()  # what rounding makes of such samples
    assert (Prediction(samples).mutual_information >= 0).all()


def test_a_nan_stays_where_it_is():
    samples = probabilities(3, 6, 4)
    whole = Prediction(samples)
    samples[1, 2, 3] = samples[:, 4, 0] = np.nan
    prediction = Prediction(samples)
    assert np.isnan(prediction.mean[2]).tolist() == [False, False, False, True]
    assert np.isnan(prediction.std[2, 3])
    for name in ("predictive_entropy", "mutual_information"):
        assert np.isnan(getattr(prediction, name)).nonzero()[0].tolist() == [2, 4]
    assert prediction.votes.sum(1).tolist() == [3, 3, 2, 3, 0, 3]
    assert (prediction.classes == -1).nonzero()[0].tolist() == [2, 4]
    assert (Prediction(samples, how="vote").classes == -1).nonzero()[0].tolist() == [4]
    for name in ALL:
        assert_same_bits(getattr(prediction, name)[[0, 1, 3, 5]], getattr(whole, name)[[0, 1, 3, 5]])


def test_infinities_of_a_regression():
    prediction = Prediction([[[1.0], [np.inf], [2]], [[3.0], [1], [np.inf]]], "values")
    assert prediction.mean.ravel().tolist() == [2, np.inf, np.inf]
    assert prediction.std[0] == 1
    assert np.isnan(prediction.std[1:]).all()


def test_zeros_have_no_sign():
    """A ReLU gives -0 too, and of 0 and -0 a minimum may be either, here this one and there that."""
    zeros = np.where(np.random.default_rng(0).random((3, 40, 7)) < 0.9, -0.0, 0.0)
    assert not np.signbit(Prediction(zeros, "values").mean).any()


# ---- what can be asked ----


def test_vote_and_mean_differ():
    samples = np.array([[[0.4, 0.6]], [[0.4, 0.6]], [[0.9, 0.1]]])
    mean, vote = (Prediction(samples, how=how) for how in ("mean", "vote"))
    assert mean.classes == [0]
    assert vote.classes == [1]
    assert_same_bits(np.asarray(mean), mean.mean)
    assert np.asarray(vote).tolist() == [[1 / 3, 2 / 3]]
    single = Prediction(samples[..., 1:], "binary", "vote")
    assert np.asarray(single).tolist() == [[2 / 3]]  # in the shape of the mean
    assert single.classes == [1]
    assert np.asarray(Prediction(samples[..., 1], "binary", "vote")).tolist() == [2 / 3]


def test_as_an_array():
    prediction = Prediction(probabilities(2, 3, 4))
    assert len(prediction) == 3
    assert np.asarray(prediction, np.float32).dtype == np.float32
    mine = np.array(prediction)
    mine[...] = 7
    assert prediction.mean.max() <= 1
    assert mc.metrics.accuracy([0, 1, 2], prediction) in (0, 1 / 3, 2 / 3, 1)
    assert repr(prediction) == "<Prediction: 3 samples, 4 classes, mean of 2 members>"
    assert repr(Prediction(np.ones((2, 3, 4)), "values")) == "<Prediction: 3 samples, outputs (4,), mean of 2 members>"


@pytest.mark.parametrize("kind", ["values", "labels"])
def test_what_is_no_class_has_no_votes(kind):
    prediction = Prediction(np.array([[[0.0, 1]], [[1, 1]]]), kind)
    assert prediction.mean.tolist() == [[0.5, 1]]
    assert prediction.std.tolist() == [[0.5, 0]]
    for name in OF_CLASSES:
        assert not hasattr(prediction, name)
        with pytest.raises(AttributeError, match="the outputs must be probabilities of classes"):
            getattr(prediction, name)
    for one in (copy.copy(prediction), copy.deepcopy(prediction), pickle.loads(pickle.dumps(prediction))):
        assert_same_bits(one.mean, prediction.mean)
        assert one.kind == kind
        assert not hasattr(one, "votes")
    with pytest.raises(ValueError, match="voting needs probabilities"):
        Prediction(np.ones((1, 1, 2)), kind, "vote")


def test_bad_samples():
    for samples, kind, message in (
        (np.ones(3), "values", "shape (T, N, ...)"),
        (np.ones((0, 3)), "values", "at least one member; got shape (0, 3)"),
        (np.ones((2, 3)), "classes", "shape (T, N, K)"),
        (np.ones((2, 3, 0)), "classes", "shape (T, N, K)"),
        (np.ones((2, 3, 2)), "binary", "shape (T, N, 1)"),
        (np.array([[[-2.0, 3]]]), "classes", "probabilities must be in [0, 1]; got numbers from -2.0 to 3.0"),
        (np.array([[[1.1]]]), "binary", "probabilities must be in [0, 1]"),
        (np.ones((1, 1, 1)), "number", "kind must be one of 'classes', 'binary', 'labels', 'values'"),
    ):
        with pytest.raises(ValueError) as error:
            Prediction(samples, kind)
        assert message in str(error.value)
    with pytest.raises(TypeError, match="Prediction: samples must be an array of numbers"):
        Prediction([["a"]])
    with pytest.raises(ValueError, match=r"how must be one of 'mean', 'vote'; got 'means'. Did you mean 'mean'"):
        Prediction(np.ones((1, 1, 1)), how="means")


# ---- block by block ----


@pytest.mark.parametrize(
    ("samples", "kind"),
    [
        (probabilities(20, 33, 10), "classes"),
        (probabilities(20, 33, 1), "classes"),
        (probabilities(5, 33, 300, dtype="float64"), "classes"),
        (sure_or_not(20, 33, 1), "binary"),
        (sure_or_not(20, 33, 1)[..., 0], "binary"),
        (np.random.default_rng(0).standard_normal((20, 33, 2, 3)), "values"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.shape),
)
def test_bits_do_not_depend_on_the_blocks(samples, kind):
    names = ALL if kind in ("classes", "binary") else ALL[:2]
    whole = Prediction(samples, kind)
    for cuts in ([1, 2, 3, 20], [*range(1, 33)], [32]):
        blocks = np.split(samples, cuts, axis=1)
        for keep in (False, True):
            cut = Prediction._of(iter(blocks), samples[:, :0], kind, "mean", keep)
            for name in names:
                assert_same_bits(getattr(cut, name), getattr(whole, name))
            if keep:
                assert_same_bits(cut.samples, samples)
            else:
                assert cut.samples is None


def test_only_what_is_asked_for_is_held():
    """100 members and 20,000 samples would be 40 MB; the answer is 4 MB."""
    tables = [probabilities(100, 50, 5, seed=seed) for seed in range(2)]

    def blocks():
        memory = np.empty((100, 50, 5), np.float32)  # one block that is used again and again
        for number in range(400):
            memory[...] = tables[number % 2]
            yield memory

    tracemalloc.start()
    try:
        prediction = Prediction._of(blocks(), np.empty((100, 0, 5), np.float32), "classes", "mean", False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert prediction.mean.shape == (20_000, 5)
    assert peak < 20e6


def test_blocks_may_be_in_the_same_memory():
    samples = probabilities(3, 8, 4)

    def blocks():
        memory = np.empty((3, 2, 4), np.float32)
        for start in range(0, 8, 2):
            memory[...] = samples[:, start : start + 2]
            yield memory

    assert_same_bits(Prediction._of(blocks(), samples[:, :0], "classes", "mean", True).samples, samples)


# ---- what a model's outputs are ----


def own_loss(outputs, y):
    return float((outputs**2).mean()), 2 * outputs / outputs.size


def network(units, end, loss, seed=0, dtype="float32"):
    model = mc.Sequential([layers.Flatten(), layers.Dense(units, activation=end)], seed=seed, dtype=dtype)
    if loss is not None:
        model.compile("sgd", loss)
    model.build(IMAGE)
    return model


def softmax(z):
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def same(z):
    return z


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
        ([model, model], ValueError, "member 1 is there twice"),
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


# ---- Monte-Carlo dropout: the reduction, over samples that a stand-in draws ----


def stand_in(model, x, n_samples, seed, batch_size):
    """What ``Sequential._monte_carlo`` yields, with masks of NumPy's: functions of (seed, layer, t, index in x)."""
    step = 5 if batch_size is None else batch_size
    seed = model.seed if seed is None else seed
    memory = np.empty((n_samples, step, *model.output_shape), model.dtype)
    for start in range(0, len(x), step):
        part = slice(start, min(start + step, len(x)))
        outputs = memory[:, : part.stop - start]
        for t in range(n_samples):
            h = x[part].astype(model.dtype)
            for number, layer in enumerate(model.layers):
                h = layer.forward(h, training=False)
                if isinstance(layer, layers.Dropout):
                    draws = [np.random.default_rng([seed, number, t, i]) for i in range(*part.indices(len(x)))]
                    kept = np.stack([draw.random(h.shape[1:]) >= layer.rate for draw in draws])
                    h = (h * kept / (1 - layer.rate)).astype(model.dtype)
            outputs[t] = h
        yield part, outputs


@pytest.fixture
def samples_of_numpy(monkeypatch):
    monkeypatch.setattr(mc.Sequential, "_monte_carlo", stand_in, raising=False)


@pytest.mark.usefixtures("samples_of_numpy")
@pytest.mark.parametrize(("end", "function"), [("softmax", same), (None, softmax)])
def test_predict_mc_reduces_the_samples(end, function):
    model = compiled(end)
    state = whole_state(model)
    ((_, outputs),) = stand_in(model, X, 20, 3, 12)
    right = Prediction(function(outputs))
    found = model.predict_mc(X, 20, seed=3, return_samples=True)
    assert found.samples.shape == (20, 12, 4)
    assert found.samples.dtype == np.float32
    assert_close(found.samples, right.samples, 1e-6)
    assert found.how == "mean"
    assert found.members == 20
    assert (found.std > 0).all()
    for name in ("mean", "std", "predictive_entropy", "mutual_information"):
        assert_close(getattr(found, name), getattr(right, name), 1e-5)
    for batch_size in (1, 4, 100):
        other = model.predict_mc(X, 20, seed=3, batch_size=batch_size)
        assert other.samples is None
        for name in ALL:
            assert_same_bits(getattr(other, name), getattr(found, name))
    assert whole_state(model) == state
    assert model.training is False


@pytest.mark.usefixtures("samples_of_numpy")
def test_predict_mc_at_the_door():
    model = compiled()
    assert model.predict_mc(X).members == 50
    assert_same_bits(model.predict_mc(X, 3).mean, model.predict_mc(X, 3, seed=model.seed).mean)
    nothing = model.predict_mc(X[:0], 3, return_samples=True)
    assert nothing.samples.shape == (3, 0, 4)
    assert nothing.mean.shape == (0, 4)
    assert not model.predict_mc(X, n_samples=1).std.any()  # one sample has no spread: nothing to warn of
    for arguments, error, message in (
        ({"n_samples": 0}, ValueError, "Sequential.predict_mc: n_samples must be a whole number >= 1; got 0"),
        ({"n_samples": 2.0}, TypeError, "n_samples must be"),
        ({"seed": -1}, ValueError, "seed must be"),
        ({"batch_size": 0}, ValueError, "batch_size must be"),
        ({"return_samples": None}, TypeError, "return_samples must be"),
        ({"x": X[:, :2]}, ValueError, "Sequential.predict_mc: x must have shape (N, 6, 5, 2)"),
    ):
        with pytest.raises(error) as caught:
            model.predict_mc(**{"x": X, **arguments})
        assert message in str(caught.value)


@pytest.mark.usefixtures("samples_of_numpy")
def test_predict_mc_without_dropout_warns():
    model = network(4, "softmax", None)
    with pytest.warns(UserWarning, match="all 50 samples are equal; has the model a dropout layer") as caught:
        prediction = model.predict_mc(X)
    assert caught[0].filename == __file__
    assert not prediction.std.any()
    assert not prediction.mutual_information.any()
    assert_same_bits(prediction.mean, model.predict(X).astype(np.float64))
    model.predict_mc(X[:0])


# ---- Monte-Carlo dropout: the samples that the model draws ----


def test_predict_mc_is_repeatable():
    """A sample is a function of (model, seed, t, place in x), whatever the batches, the threads and the neighbours."""
    model = compiled()
    right = model.predict_mc(X, 12, seed=3, return_samples=True)
    assert (right.std > 0).all()
    assert (model.predict_mc(X, 12, seed=4).mean != right.mean).all()
    assert len(np.unique(right.samples[:, 0, 0])) > 6  # two masks may differ where ReLU gives 0 anyway
    others = X.copy()
    others[6:] += 1
    for threads in (1, 2, 3):
        use_threads(threads)
        for batch_size in (None, 1, 5):
            again = model.predict_mc(X, 12, seed=3, batch_size=batch_size, return_samples=True)
            assert_same_bits(again.samples, right.samples)
            assert_same_bits(again.mean, right.mean)
            fewer = model.predict_mc(others, 7, seed=3, batch_size=batch_size, return_samples=True)
            assert_same_bits(fewer.samples[:, :6], right.samples[:7, :6])
    twice = model.predict_mc(np.concatenate([X, X]), 12, seed=3, return_samples=True).samples
    assert_same_bits(twice[:, :12], right.samples)
    assert (twice[:, 12:] != twice[:, :12]).any(axis=(1, 2)).all()  # the same image in another place: other masks
    assert_same_bits(model.predict_mc(X, 12).mean, model.predict_mc(X, 12).mean)


def test_predict_mc_changes_nothing():
    model = compiled()
    model.fit(X, LABELS, **SETTINGS)
    state = whole_state(model)
    for mode in (False, True):
        model.train(mode)
        model.predict_mc(X, 5)
        assert model.training is mode
        assert whole_state(model) == state


def test_the_mean_of_thinned_networks_is_near_the_scaled_one():
    """Behind a dropout there is a linear layer only: then the mean over all masks is the scaled network, exactly."""
    model = mc.Sequential([layers.Flatten(), layers.Dropout(0.8), layers.Dense(3)], seed=2)
    model.compile("sgd", "mse")
    found, scaled = model.predict_mc(X, 4000), model.predict(X)
    error = np.abs(found.mean - scaled) / (found.std / np.sqrt(4000))
    assert error.max() < 4.5  # of 36 numbers
    assert (found.std > 0.1).all()


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
