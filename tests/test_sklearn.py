"""scikit-learn's face: its own checks, its wrappers, every backend of joblib's, and what nobody should get away with."""

import copy
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


@pytest.mark.parametrize("estimator", [CNNClassifier(max_iter=20), CNNRegressor(max_iter=20)], ids=["classes", "numbers"])
def test_check_estimator(estimator):
    """Without pandas and SCIPY_ARRAY_API two checks are skipped, and no more."""
    found = check_estimator(estimator, expected_failed_checks=EXPECTED_FAILED_CHECKS, on_skip=None)
    status = {}
    for one in found:
        status.setdefault(one["status"], set()).add(one["check_name"])
    assert status.pop("xfail") == {*EXPECTED_FAILED_CHECKS} == {"check_sample_weight_equivalence_on_dense_data"}
    assert len(status.pop("passed")) > 45
    assert status.pop("skipped", set()) <= {"check_array_api_input", "check_estimators_dtypes", *PANDAS}
    assert not status


PANDAS = {"check_sample_weights_pandas_series", "check_n_features_in_after_fitting", "check_dataframe_column_names_consistency"}


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
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=300)
