"""Prediction, predict_mc: the reduction against loops, the samples against stand-ins of NumPy's."""

import copy
import math
import pickle
import tracemalloc

import numpy as np
import pytest
from compare import assert_close, assert_same_bits
from models import LABELS, X, compiled, network, same, softmax, whole_state
from running import use_threads

import minicnn as mc
from minicnn import layers
from minicnn.prediction import Prediction

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
            cut = Prediction.of_blocks(iter(blocks), samples[:, :0], kind, "mean", keep)
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
        prediction = Prediction.of_blocks(blocks(), np.empty((100, 0, 5), np.float32), "classes", "mean", False)
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

    assert_same_bits(Prediction.of_blocks(blocks(), samples[:, :0], "classes", "mean", True).samples, samples)


# ---- Monte-Carlo dropout: the reduction, over samples that a stand-in draws ----


def stand_in(model, x, n_samples, seed, batch_size, lent=None):
    """What ``montecarlo.samples`` yields, with masks of NumPy's: functions of (seed, layer, t, index in x)."""
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
    monkeypatch.setattr(mc.montecarlo, "samples", stand_in)


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
    with pytest.warns(UserWarning, match="all 50 samples are equal; does the model have a dropout layer") as caught:
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
    model.fit(X, LABELS, batch_size=5, epochs=2, verbose=0)
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
