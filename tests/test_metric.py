"""What every metric is: the protocol, and sums without an error of rounding."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minicnn as mc
from minicnn import metric, metrics

NUMBERS = st.lists(st.floats(-1e200, 1e200), max_size=30)


@given(NUMBERS, NUMBERS)
def test_sums_are_exact(first, second):
    parts = metric.exactly(metric.exactly([], first), second)
    assert sum(map(Fraction, parts)) == sum(map(Fraction, [*first, *second]))
    assert metric.rounded(parts) == float(sum(map(Fraction, [*first, *second])))
    assert len(parts) <= 40


def test_sums_that_are_no_numbers():
    big = 1e308
    for values, want in (([math.inf, 1], math.inf), ([math.nan], math.nan), ([math.inf, -math.inf], math.nan),
                         ([big, big], math.inf), ([-big, -big], -math.inf), ([], 0.0)):  # fmt: skip
        assert metric.rounded(metric.exactly([], values)) == pytest.approx(want, nan_ok=True)
        found = metric.rounded(metric.exactly(metric.exactly([], values), [2.0]))
        assert found == pytest.approx(want + 2, nan_ok=True)


NAMES = ["accuracy", "top_2_accuracy", "mae", "rmse", "cosine_similarity", "categorical_crossentropy", "r2_score"]
NAMES += ["precision", "auc", "f1"]


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_is_the_same_in_batches_of_any_size(name):
    rng = np.random.default_rng(0)
    outputs, y, weights = rng.random((41, 4)).astype(np.float32), np.eye(4)[rng.integers(0, 4, 41)], rng.random(41)
    outputs /= outputs.sum(1, keepdims=True)
    found = set()
    for size in (1, 4, 17, 41):
        one = metrics.get(name)
        for start in range(0, 41, size):
            part = slice(start, start + size)
            one.update(outputs[part], y[part], weights[part])
            again = metrics.get(name)
            again.set_state(one.get_state())
            one = again
        found.add(one.result())
    assert len(found) == 1
    assert math.isfinite(found.pop())
    one.reset()
    assert math.isnan(one.result())


class Largest(mc.metrics.Metric):
    """A metric of one's own, that no mean over batches gives."""

    name, better = "largest", "min"

    def reset(self):
        self.worst = 0.0

    def update(self, outputs, y, weights=None, from_logits=False):
        self.worst = max(self.worst, float(abs(outputs - y).max()))

    def result(self):
        return self.worst


def test_a_metric_of_ones_own():
    x, y = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20.0)[:, None]
    model = mc.Sequential([mc.layers.Dense(1)], dtype="float64")
    model.compile("sgd", "mse", [Largest(), "mae"])
    found = model.evaluate(x, y, batch_size=3, return_dict=True)
    assert found["largest"] == abs(model.predict(x) - y).max()
    model.fit(x, y, verbose=0, callbacks=[mc.callbacks.EarlyStopping("largest")])
    bare = type("Bare", (mc.metrics.Metric,), {})()
    with pytest.raises(NotImplementedError, match=r"^Bare has no update\(outputs, y, weights, from_logits\)"):
        bare.update([1.0], [1])
    with pytest.raises(NotImplementedError, match=r"^Bare has no result\(\)"):
        bare.result()
    half = type("Half", (mc.metrics.PerSample,), {})()
    with pytest.raises(NotImplementedError, match=r"^Half has no _values"):
        half.update([1.0], [1])
