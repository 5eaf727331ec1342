"""scikit-learn's face: its checks, its wrappers, every backend of joblib's, and what nobody should get away with."""

import copy
import functools
import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import minicnn as mc
from minicnn import layers, optimizers

pytest.importorskip("sklearn")

import joblib
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, BaggingRegressor, VotingClassifier
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from minicnn.sklearn import EXPECTED_FAILED_CHECKS, CNNClassifier, CNNRegressor

(DIGITS, LABELS), (TEST, TEST_LABELS) = mc.datasets.digits.load_data()
X, Y, TEST, TEST_LABELS = DIGITS[:300], LABELS[:300], TEST[:150], TEST_LABELS[:150]
FLAT, FLAT_TEST = X.reshape(300, -1), TEST.reshape(150, -1)
NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
SMALL = {
    "conv_filters": (4,), "hidden_layer_sizes": (16,), "learning_rate_init": 0.01, "max_iter": 6, "random_state": 0,
    "dropout": 0.2,
}  # fmt: skip
SIX, SIX_Y = FLAT[:60, :6], Y[:60] % 3


def classifier(**more):
    return CNNClassifier(**SMALL | more)


def regressor(**more):
    return CNNRegressor(**SMALL | more)


def fingerprint(estimator):
    return estimator.model_.fingerprint()


# ---- scikit-learn's checks ----


SKIPPED = {  # without SCIPY_ARRAY_API, and without pandas
    "check_array_api_input",
    "check_sample_weights_pandas_series",
    "check_classifier_data_not_an_array",
    "check_regressor_data_not_an_array",
}


@pytest.mark.parametrize("cls", [CNNClassifier, CNNRegressor])
def test_check_estimator(cls):
    status = {}
    for one in check_estimator(cls(max_iter=10), expected_failed_checks=EXPECTED_FAILED_CHECKS, on_skip=None):
        status.setdefault(one["status"], set()).add(one["check_name"])
    assert status.pop("xfail") == {*EXPECTED_FAILED_CHECKS} == {"check_sample_weight_equivalence_on_dense_data"}
    assert len(status.pop("passed")) > 45
    assert status.pop("skipped", set()) <= SKIPPED
    assert not status


@pytest.mark.long
def test_check_estimator_with_all_that_it_can_use():
    pytest.importorskip("pandas")
    code = """
import minicnn as mc
from sklearn.utils.estimator_checks import check_estimator
for estimator in (mc.sklearn.CNNClassifier(), mc.sklearn.CNNRegressor()):
    found = check_estimator(estimator, expected_failed_checks=mc.sklearn.EXPECTED_FAILED_CHECKS)
    assert sorted({one["status"] for one in found}) == ["passed", "xfail"], found
"""
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=600)


def test_without_scikit_learn_there_is_a_sentence(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "minicnn.sklearn")
    monkeypatch.delattr(mc, "sklearn", raising=False)
    module = mc.sklearn  # it can be looked at
    assert module.__all__ == ["EXPECTED_FAILED_CHECKS", "CNNClassifier", "CNNRegressor"]
    for cls in (module.CNNClassifier, module.CNNRegressor):
        with pytest.raises(ImportError, match=r'needs scikit-learn .*pip install "minicnn\[sklearn\]"'):
            cls(max_iter=3)


def test_arguments_stand_in_the_order_of_the_contract():
    names = [*CNNClassifier().get_params(deep=False)]
    assert sorted([*CNNRegressor().get_params(), "class_weight"]) == names
    one = CNNClassifier((8,), 5, (7,), 0.1, (4, 4), "tanh", "sgd", 0.1, 16, 3, True, 0.2, True, "balanced", 1, 2)
    given = "conv_filters kernel_size hidden_layer_sizes dropout image_shape activation optimizer learning_rate_init "
    given += "batch_size max_iter early_stopping validation_fraction warm_start class_weight random_state verbose"
    values = (8,), 5, (7,), 0.1, (4, 4), "tanh", "sgd", 0.1, 16, 3, True, 0.2, True, "balanced", 1, 2
    assert [getattr(one, name) for name in given.split()] == [*values]


# ---- samples and labels of every kind ----


def test_pictures_of_every_form_are_the_same():
    wanted = fingerprint(classifier().fit(X, Y))
    for x in (X[..., 0], X.astype(np.float64), np.asfortranarray(X), X.tolist()):
        assert fingerprint(classifier().fit(x, Y)) == wanted
    flat = classifier(image_shape=(8, 8)).fit(FLAT, Y)
    assert fingerprint(flat) == wanted
    pictures = classifier(image_shape=(8, 8)).fit(X, Y)
    for one in (flat, pictures, pictures.partial_fit(FLAT, Y), flat.partial_fit(X, Y)):
        assert (one.predict(TEST) == one.predict(FLAT_TEST)).all()
    assert fingerprint(flat) == fingerprint(pictures)
    assert flat.model_.input_shape == (8, 8, 1)
    assert len(classifier().fit(FLAT, Y).model_.layers) == 4  # no convolutions


def test_bytes_learn_like_fractions():
    scores = [classifier(max_iter=15).fit(x, Y).score(test, TEST_LABELS) for x, test in (
        (X, TEST), ((X * 255).astype(np.uint8), (TEST * 255).astype(np.uint8)))]  # fmt: skip
    assert min(scores) > 0.85
    assert abs(scores[0] - scores[1]) < 0.05


def test_labels_of_every_kind():
    wanted = classifier().fit(X, Y).predict(TEST)
    for y in (NAMES[Y], NAMES[Y].astype(object), NAMES[Y].tolist()):
        one = classifier().fit(X, y)
        assert one.classes_.tolist() == sorted(NAMES)
        assert one.model_.class_names == sorted(NAMES)
        assert one.score(TEST, NAMES[TEST_LABELS]) > 0.7
    shifted = classifier().fit(X, 3.0 * Y - 7)
    assert (shifted.predict(TEST) == 3.0 * wanted - 7).all()


def test_probabilities():
    one = classifier().fit(X, Y)
    p = one.predict_proba(TEST)
    assert p.dtype == np.float64
    assert abs(p.sum(axis=1) - 1).max() < 1e-15
    np.testing.assert_allclose(p, one.model_.predict(TEST), rtol=1e-6)
    np.testing.assert_allclose(np.exp(one.predict_log_proba(TEST)), p)
    np.testing.assert_allclose(one.decision_function(TEST), np.log(p))
    assert (one.classes_[one.decision_function(TEST).argmax(1)] == one.predict(TEST)).all()
    two = classifier().fit(X, Y > 4)
    p = two.predict_proba(TEST)
    np.testing.assert_allclose(two.decision_function(TEST), np.log(p[:, 1] / p[:, 0]), rtol=1e-6)


def test_several_labels():
    rows = np.stack([Y % 2, Y > 4, Y % 3 == 0], 1).astype(int)
    one = classifier(max_iter=15).fit(X, rows)
    p = one.predict_proba(X)
    assert p.shape == one.decision_function(X).shape == (300, 3)
    assert (one.predict(X) == (p > 0.5)).all()
    assert one.score(X, rows) > 0.7
    assert (one.classes_ == [0, 1, 2]).all()
    import scipy.sparse

    assert fingerprint(classifier(max_iter=15).fit(X, scipy.sparse.csr_matrix(rows))) == fingerprint(one)
    parts = classifier()
    for _ in range(2):
        parts.partial_fit(X, rows, classes=range(3))
    assert fingerprint(parts) == fingerprint(classifier(max_iter=2).fit(X, rows))


def test_numbers_keep_their_unit():
    y = 1e6 + 3e4 * Y
    one = regressor(max_iter=20, dropout=0).fit(X, y)
    assert one.score(TEST, 1e6 + 3e4 * TEST_LABELS) > 0.6
    assert one.predict(TEST).shape == (150,)
    both = regressor(max_iter=20, dropout=0).fit(X, np.stack([y, -1e-5 * Y], 1))
    assert both.predict(TEST).shape == (150, 2)
    assert r2_score(TEST_LABELS, both.predict(TEST)[:, 1] / -1e-5) > 0.6
    assert abs(regressor().fit(SIX, np.full(60, 7.0)).predict(SIX) - 7).max() < 2  # a deviation of 0


def test_a_column_is_warned_of():
    for one in (classifier(), regressor()):
        with pytest.warns(DataConversionWarning, match="column-vector"):
            one.fit(SIX, SIX_Y[:, None])
        assert one.predict(SIX).shape == (60,)


def test_a_feature_that_was_constant():
    """It is not divided by next to nothing where it is another number later."""
    constant = np.c_[SIX, np.ones(60)]
    one = classifier(max_iter=20).fit(constant, SIX_Y)
    constant[:, -1] = 1.01
    assert one.score(constant, SIX_Y) > 0.6


# ---- in pieces, again, copied ----


@pytest.mark.parametrize("more", [{}, {"optimizer": "sgd", "dropout": 0.5}], ids=["adam", "sgd"])
def test_pieces_are_one_fit(more):
    whole = classifier(max_iter=4, **more).fit(X, NAMES[Y])
    warm, parts = classifier(max_iter=2, warm_start=True, **more), classifier(**more)
    warm.fit(X, NAMES[Y])
    kept = pickle.loads(pickle.dumps(warm))
    for one in (warm, kept):
        one.fit(X, NAMES[Y])
    for _ in range(4):
        parts.partial_fit(X, NAMES[Y], classes=NAMES)
    for one in (warm, kept, parts):
        assert fingerprint(one) == fingerprint(whole)
        assert one.loss_curve_ == whole.loss_curve_
        assert one.n_iter_ == len(one.loss_curve_) == 4
        assert one.loss_ == whole.loss_curve_[-1]
        assert one.best_loss_ == min(whole.loss_curve_)
    assert fingerprint(classifier(max_iter=2, **more).fit(X, Y).fit(X, Y)) != fingerprint(whole)  # without warm_start


def test_numbers_in_pieces():
    warm, parts = regressor(max_iter=2, warm_start=True), regressor()
    for _ in range(2):
        warm.fit(X, Y)
    for _ in range(4):
        parts.partial_fit(X, Y)
    assert fingerprint(warm) == fingerprint(parts) == fingerprint(regressor(max_iter=4).fit(X, Y))


def test_copies():
    one = classifier().fit(X, Y)
    assert fingerprint(clone(one).fit(X, Y)) == fingerprint(one)
    for copied in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
        assert fingerprint(copied) == fingerprint(one)
        assert (copied.predict_proba(TEST) == one.predict_proba(TEST)).all()
    deep = copy.deepcopy(one).partial_fit(X, Y)  # it has the moments
    with pytest.warns(UserWarning, match="moments"):
        slim = pickle.loads(pickle.dumps(one)).partial_fit(X, Y)
    assert fingerprint(slim) != fingerprint(deep) == fingerprint(classifier(max_iter=7).fit(X, Y))


def test_pickles_are_slim():
    for cls in (classifier, regressor):
        one = cls(hidden_layer_sizes=(256,)).fit(X, Y)
        parameters = 4 * one.model_.count_params()
        assert len(pickle.dumps(one)) < parameters + 8000
        warm = one.set_params(warm_start=True)
        assert 3 * parameters < len(pickle.dumps(warm)) < 3 * parameters + 8000  # two moments of Adam
    assert np.count_nonzero(one.model_.gradients)  # the estimator itself keeps what it has


def test_memory_maps_that_cannot_be_written_to(tmp_path):
    joblib.dump(classifier(warm_start=True).fit(X, Y), tmp_path / "estimator")
    joblib.dump(FLAT, tmp_path / "x")
    mapped, x = (joblib.load(tmp_path / name, mmap_mode="r") for name in ("estimator", "x"))
    assert not x.flags.writeable
    wanted = classifier(max_iter=12).fit(X, Y)
    assert fingerprint(mapped.fit(X, Y)) == fingerprint(wanted)
    assert fingerprint(classifier(image_shape=(8, 8), max_iter=12).fit(x, Y)) == fingerprint(wanted)


def test_random_states():
    same = [fingerprint(classifier(random_state=seed).fit(SIX, SIX_Y)) for seed in (5, np.int64(5))]
    assert same[0] == same[1]
    assert classifier(random_state=5).fit(SIX, SIX_Y).model_.seed == 5
    state = np.random.RandomState(0)
    first, second = (fingerprint(classifier(random_state=state).fit(SIX, SIX_Y)) for _ in range(2))
    assert first != second
    assert fingerprint(classifier(random_state=np.random.RandomState(0)).fit(SIX, SIX_Y)) == first
    fits = []
    for seed in (0, 0, 1):
        np.random.seed(seed)
        fits.append(fingerprint(classifier(random_state=None).fit(SIX, SIX_Y)))
    assert fits[0] == fits[1] != fits[2]


# ---- weights ----


def test_weights():
    weights = np.r_[np.zeros(30), np.ones(30)]
    some = fingerprint(classifier().fit(SIX[30:], SIX_Y[30:]))
    assert fingerprint(classifier().fit(SIX, SIX_Y, sample_weight=7.0 * weights)) == some  # none is as not there
    by_class = {0: 5.0, 2: 0.5}
    wanted = fingerprint(classifier().fit(SIX, SIX_Y, np.array([5.0, 1.0, 0.5])[SIX_Y]))
    assert fingerprint(classifier(class_weight=by_class).fit(SIX, SIX_Y)) == wanted
    assert fingerprint(classifier(class_weight={"zero": 5, "two": 0.5}).fit(SIX, NAMES[SIX_Y])) != some
    counts = np.bincount(SIX_Y)
    wanted = fingerprint(classifier().fit(SIX, SIX_Y, (60 / 3 / counts)[SIX_Y]))
    assert fingerprint(classifier(class_weight="balanced").fit(SIX, SIX_Y)) == wanted
    parts = classifier(class_weight=by_class)
    for _ in range(2):
        parts.partial_fit(SIX, SIX_Y, range(3), weights + 1)
    both = (weights + 1) * np.array([5.0, 1.0, 0.5])[SIX_Y]
    assert fingerprint(parts) == fingerprint(classifier(max_iter=2).fit(SIX, SIX_Y, both))
    part = classifier(class_weight="balanced").fit(SIX[30:], SIX_Y[30:])  # counts what is there
    assert fingerprint(classifier(class_weight="balanced").fit(SIX, SIX_Y, weights)) == fingerprint(part)
    warm = classifier(class_weight="balanced", warm_start=True).fit(SIX, SIX_Y)
    assert warm.fit(SIX[SIX_Y < 2], SIX_Y[SIX_Y < 2]).n_iter_ == 12  # one class is not there
    y = np.where(weights == 0, 1e9, SIX_Y)
    assert fingerprint(regressor().fit(SIX, y, weights)) == fingerprint(regressor().fit(SIX[30:], SIX_Y[30:]))


@pytest.mark.parametrize("factor", [2.0**1018, 2.0**-1040])
def test_weights_of_which_the_sum_is_no_number(factor):
    """Only proportions count."""
    weights = np.arange(1, 61) % 16
    for one, again in ((classifier(), classifier()), (regressor(), regressor())):
        assert fingerprint(one.fit(SIX, SIX_Y, weights * factor)) == fingerprint(again.fit(SIX, SIX_Y, weights))


@pytest.mark.parametrize("factor", [2.0**900, 2.0**-900])
def test_numbers_of_which_the_squares_are_none(factor):
    wanted = regressor().fit(SIX, SIX_Y).predict(SIX)
    np.testing.assert_array_equal(regressor().fit(SIX, SIX_Y * factor).predict(SIX), wanted * factor)


# ---- early stopping ----


@pytest.mark.parametrize("cls", [classifier, regressor])
def test_early_stopping(cls):
    one = cls(early_stopping=True, max_iter=99, n_iter_no_change=4, validation_fraction=0.3).fit(X, Y)
    assert one.n_iter_ == len(one.loss_curve_) == len(one.validation_scores_) < 99
    assert one.best_validation_score_ == max(one.validation_scores_)
    assert one.best_loss_ is None
    best = int(np.argmax(one.validation_scores_))
    again = cls(early_stopping=True, max_iter=best + 1, validation_fraction=0.3).fit(X, Y)
    assert fingerprint(again) == fingerprint(one)  # the weights of the best epoch
    assert again.validation_scores_ == one.validation_scores_[: best + 1]
    weighed = cls(early_stopping=True, max_iter=2).fit(X, Y, sample_weight=np.r_[np.ones(200), np.zeros(100)])
    assert fingerprint(weighed) == fingerprint(cls(early_stopping=True, max_iter=2).fit(X[:200], Y[:200]))
    assert cls().fit(SIX, SIX_Y).validation_scores_ is None


def test_early_stopping_counts_from_the_last_rise():
    one = classifier(early_stopping=True, max_iter=50, n_iter_no_change=3, tol=2.0).fit(X, Y)
    assert one.n_iter_ == 4  # nothing rises by 2 after the first


def test_early_stopping_sets_the_same_share_of_each_class_aside():
    for x, y in ((X, np.r_[0, Y[1:] % 2 + 1]), (X[:30], Y[:30])):  # a class of one; 3 samples for 10 classes
        with pytest.raises(ValueError, match="CNNClassifier: validation_fraction must leave samples of each class"):
            classifier(early_stopping=True).fit(x, y)


def test_early_stopping_with_several_labels():
    rows = np.stack([Y % 2, Y > 4], 1)
    one = classifier(early_stopping=True).fit(X, rows)
    assert one.validation_scores_[-1] <= 1


# ---- networks of one's own ----


def own(input_shape, classes, dropout, seed):
    return mc.Sequential([layers.Flatten(), layers.Dropout(dropout), layers.Dense(classes)], seed=seed)


def test_build():
    one = classifier(build=own).fit(X, Y)
    assert one.model_.seed == 0
    assert one.model_.layers[1].rate == 0.2
    assert isinstance(one.model_.optimizer, optimizers.Adam)
    assert one.model_.optimizer.learning_rate == 0.01
    np.testing.assert_allclose(one.predict_proba(TEST), one.model_.predict_proba(TEST), rtol=1e-6)  # of logits
    listed = classifier(build=lambda classes: [layers.Flatten(), layers.Dense(classes)], random_state=3).fit(X, Y)
    assert listed.model_.seed == 3
    assert classifier(build=mc.networks.small, max_iter=1).fit(X, Y).model_.output_shape == (10,)

    def compiled():
        model = mc.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10, "softmax")], seed=1)
        model.compile(optimizers.SGD(0.5), "sparse_categorical_crossentropy")
        return model

    assert isinstance(classifier(build=compiled).fit(X, Y).model_.optimizer, optimizers.SGD)
    numbers = regressor(build=lambda outputs: [layers.Flatten(), layers.Dense(outputs)]).fit(X, np.stack([Y, -Y], 1))
    assert numbers.predict(TEST).shape == (150, 2)


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_build_of_a_yes_or_no(activation):
    one = classifier(build=lambda: [layers.Flatten(), layers.Dense(1, activation)]).fit(X, NAMES[Y % 2])
    p = one.predict_proba(TEST)
    assert p.shape == (150, 2)
    assert (one.predict(TEST) == NAMES[:2][::-1][(p[:, 1] > 0.5).astype(int)]).all()  # "one" comes first
    assert one.score(TEST, NAMES[TEST_LABELS % 2]) > 0.7


def test_build_must_make_a_new_model():
    """One that is shared by the fits of a cross-validation has learned what it is tested on."""
    shared = mc.Sequential([layers.Flatten(), layers.Dense(10)])
    one = classifier(build=lambda: shared).fit(X, Y)
    learned = fingerprint(one)
    for estimator in (one, clone(one)):
        with pytest.raises(ValueError, match="build must return a new model whenever it is called"):
            estimator.fit(X, Y)
    assert fingerprint(one) == learned
    assert classifier(build=lambda: copy.deepcopy(shared)).fit(X, Y).score(X, Y) > 0.8  # goes on from its weights


def test_batches_whose_rest_is_one():
    """Batch normalisation cannot train on one sample, and folds decide the sizes."""
    network = lambda: [layers.Flatten(), layers.BatchNormalization(), layers.Dense(3, "softmax")]  # noqa: E731
    assert classifier(build=network, batch_size=59).fit(SIX, SIX_Y).n_iter_ == 6
    assert len(cross_val_score(classifier(build=network, batch_size=13), SIX, SIX_Y, cv=3)) == 3


# ---- wrappers ----


def test_wrappers():
    pictures, flat = classifier(max_iter=8), classifier(max_iter=8, image_shape=(8, 8))
    fits = [
        (make_pipeline(StandardScaler(), flat), FLAT, FLAT_TEST),
        (VotingClassifier([(str(seed), classifier(random_state=seed)) for seed in range(2)], voting="soft"), X, TEST),
        (CalibratedClassifierCV(pictures, cv=2), X, TEST),
        (BaggingClassifier(flat, 2, random_state=0), FLAT, FLAT_TEST),
        (AdaBoostClassifier(flat, n_estimators=2, random_state=0), FLAT, FLAT_TEST),
    ]
    for one, x, test in fits:
        assert one.fit(x, Y).score(test, TEST_LABELS) > 0.75, one
    numbers = BaggingRegressor(regressor(image_shape=(8, 8)), 2, random_state=0).fit(FLAT, Y)
    assert numbers.score(FLAT_TEST, TEST_LABELS) > 0
    assert (cross_val_predict(pictures, X, Y, cv=3, method="predict_proba").argmax(axis=1) == Y).mean() > 0.8


def search():
    found = GridSearchCV(classifier(max_iter=2), {"dropout": [0, 0.3, 0.8]}, cv=2).fit(X, Y)
    return found.cv_results_["mean_test_score"].tolist()


@functools.cache
def serial():
    return search()


@pytest.mark.parametrize("backend", ["threading", "multiprocessing", pytest.param("loky", marks=pytest.mark.long)])
def test_grid_search_scores_are_the_same_in_every_backend(backend):
    with joblib.parallel_config(backend, n_jobs=2):
        assert search() == serial()


def test_grid_search_in_dask():
    distributed = pytest.importorskip("distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None)
        with client, joblib.parallel_config("dask"):
            assert search() == serial()


# ---- what nobody gets away with ----


WITH_NAN = np.where(SIX > 0.9, np.nan, SIX)


@pytest.mark.parametrize(("x", "y", "error", "text"), [
    (WITH_NAN, SIX_Y, ValueError, "Input X contains NaN"),
    (np.where(SIX > 0.9, np.inf, SIX), SIX_Y, ValueError, "infinity"),
    (np.where(X > 0.9, np.nan, X), Y, ValueError, "Input X contains NaN"),
    (SIX.astype(str), SIX_Y, ValueError, "numeric"), (np.full((60, 2), "a", object), SIX_Y, ValueError, "float"),
    (SIX + 1j, SIX_Y, ValueError, "Complex"), (SIX[0], SIX_Y, ValueError, "2D array"),
    (np.zeros((60, 3), "M8[s]"), SIX_Y, TypeError, "X must be an array of numbers"),
    (np.ma.masked_greater(SIX, 0.9), SIX_Y, TypeError, "X must have no masked entries"),
    (np.zeros((60, 2, 2, 2, 2)), SIX_Y, ValueError, r"X must be .* got X of shape \(60, 2, 2, 2, 2\)"),
    (np.zeros((60, 0, 4)), SIX_Y, ValueError, "X must be"), (SIX[:0], SIX_Y[:0], ValueError, "0 sample"),
    (SIX, SIX_Y[:5], ValueError, "inconsistent numbers of samples"), (SIX, None, ValueError, "requires y"),
    (SIX, np.zeros(60), ValueError, "at least 2 classes; got 1 class"), (SIX[:1], [3], ValueError, "got 1 class"),
    (SIX, SIX_Y + 0.5, ValueError, "Unknown label type"), (SIX, np.c_[SIX_Y, SIX_Y], ValueError, "one label"),
    (SIX, np.where(SIX_Y, np.nan, 1), ValueError, "Input y contains NaN"),
    (SIX.astype(float) * 1e200, SIX_Y, ValueError, "overflow"),
])  # fmt: skip
def test_bad_samples(x, y, error, text):
    with pytest.raises(error, match=text), np.errstate(all="ignore"):
        classifier().fit(x, y)


@pytest.mark.parametrize("y", [SIX_Y.astype(str), SIX_Y.astype("M8[D]")])
def test_bad_numbers(y):
    with pytest.raises(TypeError, match="CNNRegressor: y must be an array of numbers"):
        regressor().fit(SIX, y)


def test_what_fails_leaves_what_was_learned(monkeypatch):
    """Classes, scales and shapes belong to the network that is there, also after a fit that stopped in the middle."""
    one, numbers = classifier().fit(X, Y), regressor().fit(X, Y)
    known = [one.predict_proba(TEST), numbers.predict(TEST)], vars(one).keys()
    with pytest.raises(ValueError, match="got 1 class"):
        one.fit(X, 0 * Y)
    for estimator in (one, numbers):
        with pytest.raises(ValueError, match="rate must be"):
            estimator.set_params(dropout=7).fit(X[:, :4], 1000 * (Y % 3))
        estimator.set_params(dropout=0.2)

        def interrupted(*args, **more):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(mc.Sequential, "fit", interrupted)
            with pytest.raises(KeyboardInterrupt):
                estimator.fit(X[:, :4], 1000 * (Y % 3))
    np.testing.assert_array_equal(one.predict_proba(TEST), known[0][0])
    np.testing.assert_array_equal(numbers.predict(TEST), known[0][1])
    assert vars(one).keys() == known[1]
    assert one.n_iter_ == 6
    assert (one.classes_ == np.arange(10)).all()


def test_training_that_diverges():
    for one in (classifier(early_stopping=True), regressor(early_stopping=True)):
        one.set_params(optimizer="sgd", learning_rate_init=1e35)
        with pytest.raises(FloatingPointError, match="Lower the learning rate"):
            one.fit(X, Y)
        with pytest.raises(ValueError, match=f"{type(one).__name__}: .*it diverged"):
            one.set_params(batch_size=300).fit(X, Y)  # after the only step


def test_features_of_which_float32_leaves_nothing():
    x = SIX.astype(float)
    noise = np.random.default_rng(0).standard_normal(60)
    for column, said in (
        (1e-9 * noise, "mean .*e-11 and deviation .*e-.* in feature 6. Scale X first"),
        (1e9 + noise, "mean 1e.09"),
    ):
        for one in (regressor(max_iter=1), classifier(max_iter=1)):
            text = f"{type(one).__name__}: the features of X should vary .*{said}"
            with pytest.warns(UserWarning, match=text) as found:
                one.fit(np.c_[x, column], SIX_Y)
            assert found[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regressor(max_iter=1).fit(np.c_[x, 1e5 + noise, 0.1 + 1e-17 * noise, np.full(60, 0.1)], SIX_Y)  # all is well


def test_sparse_samples():
    import scipy.sparse

    with pytest.raises(TypeError, match="Sparse data"):
        classifier().fit(scipy.sparse.csr_matrix(SIX), SIX_Y)


@pytest.mark.parametrize(("given", "error", "text"), [
    ({"image_shape": (8, 9)}, ValueError, "image_shape, .8, 9., or be flat ones of 72|of 72 numbers"),
    ({"image_shape": (64,)}, ValueError, "image_shape .H, W."), ({"image_shape": "8x8"}, TypeError, "image_shape"),
    ({"image_shape": (-1, 8)}, ValueError, "image_shape must be a whole number >= 1; got -1"),
    ({"conv_filters": (0,)}, ValueError, "CNNClassifier: every one of conv_filters"),
    ({"hidden_layer_sizes": (1.5,)}, TypeError, "every one of hidden_layer_sizes"),
    ({"kernel_size": 0, "image_shape": (8, 8)}, ValueError, "kernel_size"),
        ({"dropout": 1.5}, ValueError, "rate must be a number in"),
    ({"activation": "relux"}, ValueError, "Did you mean 'relu'"), ({"optimizer": "adamm"}, ValueError, "'adam'"),
    ({"learning_rate_init": -1}, ValueError, "learning_rate"), ({"batch_size": 0}, ValueError, "batch_size"),
    ({"optimizer": optimizers.SGD(0.1)}, ValueError, "learning_rate_init goes with the name"),
    ({"max_iter": 0}, ValueError, "max_iter must be a whole number >= 1"), ({"tol": -1}, ValueError, "tol must be"),
    ({"early_stopping": "yes"}, TypeError, "early_stopping"), ({"warm_start": 2}, TypeError, "warm_start"),
    ({"validation_fraction": 1}, ValueError, "validation_fraction"),
    ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change"), ({"random_state": -1}, ValueError, "Seed"),
    ({"random_state": np.random.default_rng(0)}, ValueError, "cannot be used to seed"),
    ({"class_weight": "balance"}, ValueError, "CNNClassifier: class_weight must be a dictionary"),
    ({"class_weight": [1, 2]}, ValueError, "CNNClassifier: class_weight must be a dictionary"),
    ({"class_weight": {0: -1}}, ValueError, r"class_weight\[0\] must be a number >= 0"),
    ({"class_weight": {0: "a"}}, TypeError, r"class_weight\[0\] must be a number >= 0"),
    ({"class_weight": {99: 1}}, ValueError, "are not in class_weight"), ({"verbose": 7}, ValueError, "verbose"),
    ({"build": 3}, TypeError, "build must be a function"), ({"build": lambda: 3}, TypeError, "build must be a func"),
    ({"build": lambda q: 3}, TypeError, "the parameters of build may be input_shape, outputs, .* got q"),
    ({"build": lambda: [layers.Dense(4)]}, ValueError, r"10 outputs; got one with \(4,\)"),
    ({"early_stopping": True, "validation_fraction": 0.001}, ValueError, "test_size|at least 2 samples"),
])  # fmt: skip
def test_bad_arguments(given, error, text):
    with pytest.raises(error, match=text):
        classifier(**given).fit(FLAT, Y)


@pytest.mark.parametrize(("weights", "text"), [
    (-np.ones(60), ">= 0"), (np.zeros(60), "not all zero"), (np.full(60, np.nan), "finite"), (np.ones(5), "shape"),
    (np.ones((60, 1)), "shape"),
])  # fmt: skip
def test_bad_weights(weights, text):
    for one in (classifier(), regressor()):
        with pytest.raises(ValueError, match=f"{type(one).__name__}: .*weights .*{text}"):
            one.fit(SIX, SIX_Y, weights)


def test_bad_predictions():
    flat, pictures, numbers = classifier().fit(FLAT, Y), classifier().fit(X, Y), regressor().fit(FLAT, Y)
    for one, x, text in (
        (flat, FLAT[:, :5], "X has 5 features, but CNNClassifier is expecting 64"),
        (flat, X, r"shape \(64,\), as it had in fit; got \(8, 8, 1\)"), (pictures, X[:, :5], r"got \(5, 8, 1\)"),
        (pictures, X[:, :, :5], r"shape \(8, 8, 1\), as"), (pictures, FLAT, r"got \(64,\). .* image_shape"),
        (pictures, np.where(X > 0.9, np.nan, X), "Input X contains NaN"),
        (flat, FLAT.astype(float) * 1e300, "not finite for sample 0"),
        (numbers, FLAT.astype(float) * 1e300, "not finite for sample 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            one.predict(x)
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(classifier(), method)(None)
    with pytest.raises(NotFittedError):
        regressor().predict(X)


def test_bad_pieces():
    one = classifier().partial_fit(SIX, SIX_Y, range(3))
    warm = classifier(warm_start=True).fit(SIX, SIX_Y)
    several = np.eye(3, dtype=int)[SIX_Y]
    for call, text in (
        (lambda: classifier().partial_fit(SIX, SIX_Y), "first partial_fit needs classes"),
        (lambda: classifier().partial_fit(SIX, SIX_Y, [1]), "got 1 class"),
        (lambda: one.partial_fit(SIX, SIX_Y, range(4)), "classes must stay"),
        (lambda: one.partial_fit(SIX, SIX_Y + 1), r"y must have the classes \[0 1 2\] alone; got .*3"),
        (lambda: one.partial_fit(SIX[:, :2], SIX_Y), "2 features"),
        (lambda: one.partial_fit(SIX, several), "one label for each sample, as in the first call"),
        (lambda: classifier().partial_fit(SIX, several, range(4)), "rows of 0 and 1 for 4 labels"),
        (lambda: classifier(class_weight="balanced").partial_fit(SIX, SIX_Y, range(3)), "class_weight must be a dict"),
        (lambda: classifier(class_weight={0: 2}).fit(SIX, several), "class_weight goes with one label"),
        (lambda: classifier(early_stopping=True).partial_fit(SIX, SIX_Y, range(3)), "without early_stopping"),
        (lambda: warm.fit(SIX, SIX_Y + 1), "y must have the classes"),
        (lambda: warm.set_params(dropout=0.7).fit(SIX, SIX_Y), "dropout must stay 0.2, .* got 0.7"),
        (lambda: regressor().partial_fit(SIX, SIX_Y).partial_fit(SIX, several), "y must have 1 outputs"),
        (lambda: regressor().fit(SIX, np.r_[1.7e308, -1.7e308, SIX_Y[2:]]), "deviation that float64 holds"),
    ):
        with pytest.raises(ValueError, match=text):
            call()
    warm.set_params(dropout=0.2, learning_rate_init=0.5).fit(SIX, SIX_Y)
    assert warm.model_.optimizer.learning_rate == 0.5
    assert warm.n_iter_ == 12


def test_pictures_with_channels_first_are_warned_of():
    with pytest.warns(UserWarning, match="Channels come last"):
        classifier(max_iter=1).fit(np.random.default_rng(0).random((20, 3, 8, 8)), np.arange(20) % 2)


def test_little_networks():
    for given in ({"conv_filters": ()}, {"hidden_layer_sizes": ()}, {"hidden_layer_sizes": 5, "conv_filters": 4},
                  {"hidden_layer_sizes": np.array([5, 4])}, {"conv_filters": (2,) * 5}, {"kernel_size": (3, 1)},
                  {"activation": layers.LeakyReLU(0.1)}, {"activation": "logistic"}, {"activation": "identity"},
                  {"optimizer": optimizers.SGD(0.1), "learning_rate_init": 0.001}, {"batch_size": 10**6},
                  {"learning_rate_init": mc.schedules.ExponentialDecay(0.01, 5, 0.9)}, {"dropout": 1}):  # fmt: skip
        one = clone(classifier(**{"max_iter": 1} | given)).fit(X, Y)
        assert pickle.loads(pickle.dumps(one)).predict(TEST[:2]).shape == (2,), given
