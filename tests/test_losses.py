"""Losses against the float64 twin, against finite differences, and against wrong input."""

import copy
import functools
import json
import math
import pickle

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from running import use_threads

from minicnn import losses

STEP = 1e-5
SPARSE, DENSE = losses.SparseCategoricalCrossentropy, losses.CategoricalCrossentropy


def uniform(low, high, *shape, seed=0):
    return np.random.default_rng(seed).uniform(low, high, shape)


def one_hot_case(n=6, k=4):
    """Logits, soft targets and weights: (N, K), (N, K), (N,)."""
    targets = uniform(0, 1, n, k, seed=1)
    return 3 * uniform(-1, 1, n, k), targets / targets.sum(1, keepdims=True), uniform(0, 2, n, seed=2)


# Every loss on (outputs, y) of shape (N, 3, 2), with from_logits, and its twin in reference.py.
def apart(*shape):
    """Errors of both signs that keep clear of 0 and of 1, the corners of MAE and Huber."""
    size = np.where(uniform(0, 1, *shape, seed=3) < 0.5, uniform(0.1, 0.9, *shape), uniform(1.1, 3, *shape, seed=4))
    return size * np.where(uniform(0, 1, *shape, seed=5) < 0.5, 1, -1)


ELEMENTWISE = {
    "mse": (losses.MeanSquaredError(), False, reference.mean_squared_error),
    "mae": (losses.MeanAbsoluteError(), False, reference.mean_absolute_error),
    "huber": (losses.Huber(), False, reference.huber),
    "huber2": (losses.Huber(delta=2.0), False, lambda o, y, weights: reference.huber(o, y, 2.0, weights)),
    "binary": (losses.BinaryCrossentropy(), False, reference.binary_cross_entropy),
    "binary_logits": (losses.BinaryCrossentropy(), True, reference.sigmoid_binary_cross_entropy),
    "binary_focal": (losses.BinaryFocalCrossentropy(), False, reference.binary_focal),
    "binary_focal_balanced": (
        losses.BinaryFocalCrossentropy(True, 0.3, 0.5),
        False,
        lambda p, y, weights: reference.binary_focal(p, y, 0.3, 0.5, weights),
    ),
    "binary_focal_logits": (
        losses.BinaryFocalCrossentropy(True, gamma=1.0),
        True,
        lambda z, y, weights: reference.sigmoid_binary_focal(z, y, 0.25, 1.0, weights),
    ),
    "hinge": (losses.Hinge(), False, reference.hinge),
    "squared_hinge": (losses.SquaredHinge(), False, lambda o, y, weights: reference.hinge(o, y, weights, 2)),
    "log_cosh": (losses.LogCosh(), False, reference.log_cosh),
    "mape": (losses.MeanAbsolutePercentageError(), False, reference.mean_absolute_percentage_error),
    "counts_msle": (losses.MeanSquaredLogarithmicError(), False, reference.mean_squared_logarithmic_error),
    "counts_poisson": (losses.Poisson(), False, reference.poisson),
}
FOCAL = losses.CategoricalFocalCrossentropy
ROWS = {  # the losses of rows behind a softmax, and their twins of probabilities
    "focal": (FOCAL(), reference.categorical_focal),
    "focal_each": (
        FOCAL([0.1, 0.4, 0, 2], 1.0),
        lambda p, y, weights: reference.categorical_focal(p, y, np.array([0.1, 0.4, 0, 2]), 1.0, weights),
    ),
    "focal_smoothed": (
        FOCAL(1, 0.5, label_smoothing=0.1),
        lambda p, y, weights: reference.categorical_focal(p, reference.smooth(y, 0.1), 1, 0.5, weights),
    ),
    "divergence": (losses.KLDivergence(), reference.kl_divergence),
}


def elementwise_case(name, n=5, shape=(3, 2)):
    if name.startswith("counts"):
        return uniform(0.1, 4, n, *shape), uniform(0, 3, n, *shape, seed=1)
    if name.endswith("hinge"):
        return uniform(-3, 3, n, *shape), np.where(uniform(0, 1, n, *shape, seed=1) < 0.5, -1.0, 1.0)
    if not name.startswith("binary"):
        y = uniform(-1, 1, n, *shape, seed=6)
        return y + apart(n, *shape), y
    low, high = (-6, 6) if name.endswith("logits") else (0.02, 0.98)
    return uniform(low, high, n, *shape), uniform(0, 1, n, *shape, seed=1)


def central_differences(f, x):
    gradient = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        value = x[place]
        x[place] = value + STEP
        above = f(x)
        x[place] = value - STEP
        gradient[place] = (above - f(x)) / (2 * STEP)
        x[place] = value
    return gradient


# ---- values and gradients ----


def test_cross_entropy_by_hand():
    # Logits (0, log 3) are probabilities (1/4, 3/4).  Labels 1 and 0: l = -log(3/4), -log(1/4).
    # Value: (log(4/3) + log 4) / 2 = log(16/3) / 2; gradient: (p - one_hot) / 2.
    logits = np.array([[0.0, math.log(3)]] * 2)
    for outputs, from_logits in ((logits, True), (np.array([[0.25, 0.75]] * 2), False)):
        value, gradient = SPARSE()(outputs, [1, 0], from_logits=from_logits)
        assert isinstance(value, float)
        assert value == pytest.approx(math.log(16 / 3) / 2, rel=1e-14)
        assert_close(gradient, [[0.125, -0.125], [-0.375, 0.375]], 1e-14, np.float64)


def test_label_smoothing_by_hand():
    # s = 0.2 over K = 2 makes the targets of label 0 (0.9, 0.1); p = (1/4, 3/4).
    value, gradient = SPARSE(label_smoothing=0.2)(np.array([[0.25, 0.75]]), [0])
    assert value == pytest.approx(-0.9 * math.log(0.25) - 0.1 * math.log(0.75), rel=1e-14)
    assert_close(gradient, [[0.25 - 0.9, 0.75 - 0.1]], 1e-14)
    # Binary: a label 1 becomes 0.9.
    value, gradient = losses.BinaryCrossentropy(label_smoothing=0.2)(np.array([[0.25]]), [1])
    assert value == pytest.approx(-0.9 * math.log(0.25) - 0.1 * math.log(0.75), rel=1e-14)
    assert_close(gradient, [[(0.25 - 0.9) / (0.25 * 0.75)]], 1e-13)


def test_elementwise_by_hand():
    # Errors d = 0.5 and -3 of one sample.  MSE (0.25 + 9) / 2, gradient 2 d / 2; MAE 3.5 / 2, sign(d) / 2;
    # Huber with delta 1 (0.125 + 1 (3 - 0.5)) / 2, gradient (0.5, -1) / 2.
    outputs, y = np.array([[1.5, -2.0]]), [[1, 1]]
    for name, value, gradient in (
        ("mse", 4.625, [[0.5, -3]]),
        ("mae", 1.75, [[0.5, -0.5]]),
        ("huber", 1.3125, [[0.25, -0.5]]),
    ):
        got = losses.get(name)(outputs, y)
        assert got[0] == pytest.approx(value, rel=1e-15)
        assert_close(got[1], gradient, 1e-15)


def test_mae_and_mse_have_no_slope_where_they_are_zero():
    for name in ("mae", "mse", "huber"):
        value, gradient = losses.get(name)(np.ones((2, 3)), np.ones((2, 3)))
        assert value == 0
        assert not gradient.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("from_logits", [False, True])
def test_categorical_cross_entropy(dtype, weighted, smoothing, from_logits):
    logits, targets, weights = one_hot_case()
    logits, targets = logits.astype(dtype), targets.astype(dtype)
    weights = weights if weighted else None
    outputs = logits if from_logits else reference.softmax(logits).astype(dtype)
    want = reference.softmax_cross_entropy(logits, reference.smooth(targets.astype(np.float64), smoothing), weights)
    value, gradient = DENSE(label_smoothing=smoothing)(outputs, targets, weights, from_logits)
    rtol = tolerance(dtype, logits.shape[1])
    assert value == pytest.approx(want[0], rel=rtol)
    assert_close(gradient, want[1], rtol, dtype, scale=1 / len(logits))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("from_logits", [False, True])
def test_sparse_and_one_hot_labels_are_the_same(smoothing, from_logits):
    logits, _, weights = one_hot_case()
    outputs = logits if from_logits else reference.softmax(logits)
    y = np.array([0, 3, 1, 1, 2, 0])
    sparse = SPARSE(smoothing)(outputs, y, weights, from_logits)
    dense = DENSE(smoothing)(outputs, reference.one_hot(y, 4), weights, from_logits)
    assert sparse[0] == dense[0]
    assert_close(sparse[1], dense[1], 1e-15)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("from_logits", [False, True])
def test_fused_gradient_is_the_one_at_the_logits(smoothing, from_logits):
    logits, targets, weights = one_hot_case()
    loss = DENSE(smoothing)

    def outputs(z):
        return z if from_logits else reference.softmax(z)

    gradient = loss(outputs(logits), targets, weights, from_logits)[1]
    differences = central_differences(lambda z: loss(outputs(z), targets, weights, from_logits)[0], logits)
    assert loss.gradient_at == "logits"
    assert loss.fuses_softmax
    assert_close(gradient, differences, 1e-8)


def test_gradient_for_rows_that_sum_to_one_only_nearly():
    # The derivative of -sum t log p is p sum t - t: exact also where sum t is not exactly 1.
    logits, targets, _ = one_hot_case()
    targets = targets * 1.0009
    gradient = DENSE()(logits, targets, from_logits=True)[1]
    differences = central_differences(lambda z: DENSE()(z, targets, from_logits=True)[0], logits)
    assert_close(gradient, differences, 1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name, weighted, dtype):
    loss, from_logits, twin = ELEMENTWISE[name]
    outputs, y = (array.astype(dtype) for array in elementwise_case(name))
    weights = uniform(0, 2, len(y)) if weighted else None
    want = twin(outputs, y, weights=weights)
    value, gradient = loss(outputs, y, weights, from_logits)
    assert value == pytest.approx(want[0], rel=tolerance(dtype))
    assert_close(gradient, want[1], tolerance(dtype), dtype)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_gradient(name):
    loss, from_logits, _ = ELEMENTWISE[name]
    outputs, y = elementwise_case(name)
    weights = uniform(-1, 2, len(y))
    gradient = loss(outputs, y, weights, from_logits)[1]
    differences = central_differences(lambda o: loss(o, y, weights, from_logits)[0], outputs)
    assert loss.gradient_at == "outputs"
    assert not loss.fuses_softmax
    assert_close(gradient, differences, 1e-7)


@pytest.mark.parametrize("from_logits", [False, True])
def test_binary_smoothing(from_logits):
    outputs, y = elementwise_case("binary_logits" if from_logits else "binary")
    twin = reference.sigmoid_binary_cross_entropy if from_logits else reference.binary_cross_entropy
    want = twin(outputs, y * 0.9 + 0.05)
    value, gradient = losses.BinaryCrossentropy(0.1)(outputs, y, from_logits=from_logits)
    assert value == pytest.approx(want[0], rel=1e-13)
    assert_close(gradient, want[1], 1e-13)


@given(st.sampled_from([np.float32, np.float64]), st.integers(1, 40), st.integers(2, 70), st.booleans(), st.booleans())
def test_cross_entropy_of_many_shapes(dtype, n, k, weighted, from_logits):
    logits = uniform(-5, 5, n, k, seed=n * 41 + k).astype(dtype)
    y = np.random.default_rng(k).integers(0, k, n)
    weights = uniform(0, 2, n) if weighted else None
    outputs = logits if from_logits else reference.softmax(logits).astype(dtype)
    want = reference.softmax_cross_entropy(logits, reference.one_hot(y, k), weights)
    value, gradient = SPARSE()(outputs, y, weights, from_logits)
    assert value == pytest.approx(want[0], rel=tolerance(dtype, k), abs=tolerance(dtype, k))
    assert_close(gradient, want[1], tolerance(dtype, k), dtype, scale=2 / n)


@given(st.sampled_from(sorted(ELEMENTWISE)), st.integers(1, 40), st.lists(st.integers(1, 12), max_size=3))
def test_elementwise_of_many_shapes(name, n, shape):
    loss, from_logits, twin = ELEMENTWISE[name]
    outputs, y = elementwise_case(name, n, tuple(shape))
    want = twin(outputs, y, weights=None)
    value, gradient = loss(outputs, y, from_logits=from_logits)
    assert value == pytest.approx(want[0], rel=1e-12)
    assert_close(gradient, want[1], 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("name", ROWS)
def test_rows_behind_a_softmax(name, from_logits, dtype):
    loss, twin = ROWS[name]
    logits, targets, weights = one_hot_case()
    logits = logits.astype(dtype)
    outputs = logits if from_logits else reference.softmax(logits).astype(dtype)
    for y, w in ((targets, weights), (np.eye(4)[[0, 3, 1, 1, 2, 0]], None)):
        want = reference.behind_softmax(twin, logits, y, weights=w)
        value, gradient = loss(outputs, y, w, from_logits)
        assert value == pytest.approx(want[0], rel=tolerance(dtype, 16))
        assert_close(gradient, want[1], tolerance(dtype, 16), dtype)
    assert (loss.gradient_at, loss.fuses_softmax) == ("logits", True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["categorical_hinge", "cosine_similarity"])
def test_rows(name, dtype):
    loss, twin = losses.get(name), getattr(reference, name)
    outputs, targets, weights = one_hot_case(n=9, k=5)
    outputs, targets = outputs.astype(dtype), targets.astype(dtype)
    for y, w in ((targets, weights), (np.eye(5, dtype=dtype)[np.arange(9) % 5], None)):
        want = twin(outputs, y, w)
        value, gradient = loss(outputs, y, w)
        assert value == pytest.approx(want[0], rel=tolerance(dtype, 5))
        assert_close(gradient, want[1], tolerance(dtype, 5), dtype)
    assert loss.gradient_at == "outputs"


@pytest.mark.parametrize("name", [*ROWS, "categorical_hinge", "cosine_similarity"])
def test_gradient_of_rows(name):
    """By differences of the value itself; behind a softmax where the loss is fused with one."""
    loss = ROWS[name][0] if name in ROWS else losses.get(name)
    outputs, targets, weights = one_hot_case()
    for from_logits in (True, False):
        seen = reference.softmax if loss.fuses_softmax and not from_logits else np.array
        gradient = loss(seen(outputs), targets, weights, from_logits)[1]
        want = central_differences(lambda z: loss(seen(z), targets, weights, from_logits)[0], outputs)  # noqa: B023
        assert_close(gradient, want, 1e-7)


@given(st.sampled_from(sorted(ROWS)), st.integers(1, 30), st.booleans())
def test_rows_of_many_shapes(name, n, from_logits):
    loss, twin = ROWS[name]
    k = 4 if "each" in name else n % 37 + 2
    logits, y = uniform(-5, 5, n, k, seed=n), np.eye(k)[np.random.default_rng(n).integers(0, k, n)]
    want = reference.behind_softmax(twin, logits, y, weights=None)
    value, gradient = loss(logits if from_logits else reference.softmax(logits), y, None, from_logits)
    assert value == pytest.approx(want[0], rel=1e-10)
    assert_close(gradient, want[1], 1e-10, scale=1 / n)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("from_logits", [False, True])
def test_focal_losses_without_focus_are_cross_entropies_to_the_bit(from_logits, dtype):
    logits, targets, weights = one_hot_case()
    p, targets = reference.softmax(logits).astype(dtype), targets.astype(dtype)
    outputs = logits.astype(dtype) if from_logits else p
    for focal, plain in (
        (FOCAL(1, 0, label_smoothing=0.1), DENSE(0.1)),
        (losses.BinaryFocalCrossentropy(gamma=0, label_smoothing=0.1), losses.BinaryCrossentropy(0.1)),
    ):
        found, want = (loss(outputs, targets, weights, from_logits) for loss in (focal, plain))
        assert found[0] == want[0]
        assert_same_bits(found[1], want[1])
    half, want = losses.BinaryFocalCrossentropy(True, 0.5, 0), losses.BinaryCrossentropy()
    assert half(p, targets)[0] == pytest.approx(want(p, targets)[0] / 2, rel=1e-14)


def test_focal_losses_of_class_numbers():
    logits, _, weights = one_hot_case()
    y = np.array([0, 3, 1, 1, 2, 0])
    for smoothing in (0.0, 0.1):
        sparse = losses.SparseCategoricalFocalCrossentropy([1, 2, 3, 4], 1.5, label_smoothing=smoothing)
        dense = FOCAL([1, 2, 3, 4], 1.5, label_smoothing=smoothing)
        found, want = sparse(logits, y, weights, True), dense(logits, np.eye(4)[y], weights, True)
        assert found[0] == want[0]
        assert_same_bits(found[1], want[1])
    with pytest.raises(ValueError, match=r"^SparseCategoricalFocalCrossentropy: labels must be .*; got 4 at index 0"):
        sparse(logits, y + 4)
    with pytest.raises(ValueError, match=r'^CategoricalFocalCrossentropy: .* "sparse_categorical_crossentropy"'):
        dense(logits, y)


def test_losses_of_keras_by_hand():
    # Margins: 1 - 1 * 0.5, 1 + 1 * 0.2; the 0 is taken for -1.
    for y in ([[1, -1]], [[1, 0]], [[True, False]]):
        for name, value, gradient in (("hinge", 0.85, [[-0.5, 0.5]]), ("squared_hinge", 0.845, [[-0.5, 1.2]])):
            found = losses.get(name)(np.array([[0.5, 0.2]]), y)
            assert found[0] == pytest.approx(value, rel=1e-14)
            assert_close(found[1], gradient, 1e-14)
    # The inner maximum of a one-hot row counts the right class as 0: max(0, -2, -3) = 0.
    assert losses.CategoricalHinge()(np.array([[0.5, -2.0, -3.0]]), [[1, 0, 0]])[0] == 0.5
    assert losses.CategoricalHinge()(np.array([[0.5, 0.25, -3.0]]), [[1, 0, 0]])[0] == 0.75
    value, gradient = losses.CategoricalHinge()(np.array([[0.0, 2.0, 2.0]]), [[1, 0, 0]])
    assert value == 3
    assert_close(gradient, [[-1, 1, 0]], 0)  # of equal ones the first
    assert losses.CosineSimilarity()(np.array([[3.0, 4.0]]), [[3, 4]])[0] == pytest.approx(-1, rel=1e-15)
    # Of Lin's paper: p_t = 0.9 with gamma = 2 costs a hundred times less than the cross-entropy.
    value = losses.BinaryFocalCrossentropy()(np.array([[0.9]]), [[1]])[0]
    assert value == pytest.approx(-0.01 * math.log(0.9), rel=1e-12)
    value = FOCAL()(np.array([[0.9, 0.1]]), [[1, 0]])[0]
    assert value == pytest.approx(-0.25 * 0.01 * math.log(0.9), rel=1e-12)
    assert losses.Poisson()(np.array([[0.0, 2.0]]), [[0, 1]])[0] == pytest.approx((2 - math.log(2)) / 2, rel=1e-6)


def test_the_losses_of_torch():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    z, t, _ = one_hot_case()
    y = np.array([0, 3, 1, 1, 2, 0])
    positive = np.abs(z) + 0.1
    for loss, outputs, targets, its in (
        (losses.KLDivergence(), z, t, lambda o, t: F.kl_div(o.log_softmax(1), t, reduction="batchmean")),
        (losses.SparseCategoricalFocalCrossentropy(1, 0), z, y, F.cross_entropy),
        (losses.BinaryFocalCrossentropy(gamma=0), z, t, F.binary_cross_entropy_with_logits),
        (losses.Poisson(), positive, t, lambda o, t: F.poisson_nll_loss(o, t, log_input=False, eps=1e-7)),
        (losses.CosineSimilarity(), z, t, lambda o, t: -F.cosine_similarity(o, t).mean()),
        (losses.SquaredHinge(), z, 2 * (t > 0.3) - 1.0, lambda o, t: (1 - o * t).clamp(min=0).square().mean()),
    ):
        theirs = torch.tensor(outputs, requires_grad=True)
        want = its(theirs, torch.tensor(targets))
        want.backward()
        value, gradient = loss(outputs, targets, None, loss.needs_from_logits)
        assert value == pytest.approx(want.item(), rel=1e-6)
        assert_close(gradient, theirs.grad.numpy(), 1e-6)


def test_weights_divide_by_the_number_of_samples():
    # Keras's sum_over_batch_size: weights (2, 0) of two samples with l = 1 and 9 give (2 * 1 + 0 * 9) / 2.
    outputs, y = np.array([[1.0], [3.0]]), [[0], [0]]
    value, gradient = losses.MeanSquaredError()(outputs, y, weights=[2, 0])
    assert value == 1
    assert_close(gradient, [[2.0], [0.0]], 0)
    value, gradient = losses.MeanSquaredError()(outputs, y, weights=[-1, 1])
    assert value == 4
    assert_close(gradient, [[-1.0], [3.0]], 0)


def test_bits_do_not_depend_on_the_number_of_threads():
    z, y = uniform(-5, 5, 2000, 10).astype(np.float32), np.random.default_rng(0).integers(0, 10, 2000)
    p = uniform(0.1, 0.9, 2000, 10).astype(np.float32)
    calls = [
        lambda: SPARSE(0.1)(z, y, uniform(0, 1, 2000), from_logits=True),
        lambda: losses.BinaryCrossentropy()(p, p[::-1]),
        lambda: losses.BinaryFocalCrossentropy()(z, p[::-1], from_logits=True),
        lambda: losses.SparseCategoricalFocalCrossentropy()(z, y, uniform(0, 1, 2000), from_logits=True),
    ]
    for call in calls:
        results = []
        for threads in (1, 2, 3):
            use_threads(threads)
            results.append(call())
        for value, gradient in results[1:]:
            assert value == results[0][0]
            assert_same_bits(gradient, results[0][1])


# ---- the ends of the range ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_extreme_logits(dtype, smoothing):
    z = np.array([[1e30, -1e30, 0], [-1e30, 1e30, 0], [1e30, 1e30, 1e30]], dtype)
    for loss, y in ((SPARSE(smoothing), [0, 0, 2]), (DENSE(smoothing), np.eye(3)[[0, 0, 2]])):
        value, gradient = loss(z, y, from_logits=True)
        assert math.isfinite(value)
        assert np.isfinite(gradient).all()
    # Without smoothing: l = 0, 2e30 and log 3.
    value, gradient = SPARSE()(z[[0, 2]], [0, 2], from_logits=True)
    assert value == pytest.approx(math.log(3) / 2, rel=1e-6)
    assert_close(gradient, [[0, 0, 0], [1 / 6, 1 / 6, -1 / 3]], 1e-6)
    assert SPARSE()(z[[1]], [0], from_logits=True)[0] == pytest.approx(2e30)


def test_logits_keep_small_losses():
    # p of the right class is 1 in float64, but the loss is log(1 + exp(-40)), nearly exp(-40).
    assert SPARSE()([[40.0, 0.0]], [0], from_logits=True)[0] == pytest.approx(math.exp(-40), rel=1e-12, abs=0)
    for place in (0, 16, 39):  # as many terms as fill several vectors, and single precision
        z = np.zeros((1, 40), np.float32)
        z[0, place] = 40
        for loss, y in ((SPARSE(), [place]), (DENSE(), np.eye(40)[[place]])):
            value, gradient = loss(z, y, from_logits=True)
            assert value == pytest.approx(39 * math.exp(-40), rel=1e-6, abs=0)
            assert gradient[0, place - 1] == pytest.approx(math.exp(-40), rel=1e-6, abs=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [2, 15, 16, 17, 33])
def test_equal_logits(k, dtype):
    """The largest term is there several times over."""
    value, gradient = SPARSE()(np.full((3, k), 5, dtype), [0, 1, k - 1], from_logits=True)
    assert value == pytest.approx(math.log(k), rel=1e-14)
    assert_close(gradient, (1 / k - np.eye(k)[[0, 1, k - 1]]) / 3, tolerance(dtype), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_impossible_probabilities_are_clipped(dtype):
    value, gradient = SPARSE()(np.array([[1, 0]], dtype), [1])
    assert value == pytest.approx(-math.log(1e-7), rel=1e-12)
    assert_close(gradient, [[1, -1]], 0)
    value, gradient = losses.BinaryCrossentropy()(np.array([[0, 1, 0, 1]], dtype), [[1, 0, 0, 1]])
    assert value == pytest.approx((-2 * math.log(1e-7) - 2 * math.log1p(-1e-7)) / 4, rel=1e-6)
    assert np.isfinite(gradient).all()
    assert gradient[0, 0] < 0 < gradient[0, 1]  # still learns


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_binary_logits(dtype):
    z = np.array([[1e30, -1e30, 1e30, -1e30]], dtype)
    value, gradient = losses.BinaryCrossentropy()(z, [[1, 0, 0, 1]], from_logits=True)
    assert value == pytest.approx(2e30 / 4, rel=1e-6)
    assert_close(gradient, [[0, 0, 0.25, -0.25]], 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0, 3.7])
def test_focal_losses_are_finite_at_the_ends(gamma, dtype):
    z = np.array([[1e30, -1e30, 0], [-1e30, 1e30, 0], [800, 0, -800], [1e30, 1e30, 1e30]], dtype)
    p = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0, 0, 1]], dtype)
    binary, one_of = losses.BinaryFocalCrossentropy(gamma=gamma), FOCAL(1, gamma)
    for y in (np.eye(3)[[0, 0, 2, 1]], np.eye(3)[[0, 1, 0, 2]]):
        for loss in (one_of, binary, FOCAL(gamma=gamma, label_smoothing=0.1), losses.KLDivergence()):
            for outputs, from_logits in ((z, True), (p, False)):
                value, gradient = loss(outputs, y, from_logits=from_logits)
                assert math.isfinite(value)
                assert np.isfinite(gradient).all()
    # Wrong: the slope of the cross-entropy, since the share that is wrong is 1; right: 0, and so is what gamma adds.
    gradient = one_of(z[:2], np.eye(3)[[0, 0]], from_logits=True)[1]
    assert_close(gradient, [[0, 0, 0], [-0.5, 0.5, 0]], 0)
    gradient = binary(z[:2, :2], [[1, 0], [1, 0]], from_logits=True)[1]
    assert_close(gradient, [[0, 0], [-0.25, 0.25]], 0)
    gradient = one_of(p[:2], np.eye(3)[[0, 0]])[1]
    assert_close(gradient, [[0, 0, 0], [-0.5, 0.5, 0]], 1e-5 * (1 + gamma))
    assert binary(p[:2, :1], [[1], [1]])[1][1, 0] < 0  # still learns


def test_focal_losses_keep_small_numbers():
    """Of float32 logits: 1 - p is exp(-36), not 0, though p rounds to 1 in float64 as well."""
    small = math.exp(-36)
    value, gradient = FOCAL(1, 1)(np.array([[36, 0]], np.float32), [[1, 0]], from_logits=True)
    assert value == pytest.approx(small**2, rel=1e-6, abs=0)
    assert gradient[0, 1] == pytest.approx(2 * small**2, rel=1e-6, abs=0)
    value, gradient = losses.BinaryFocalCrossentropy(gamma=1)(np.array([[36]], np.float32), [[1]], from_logits=True)
    assert value == pytest.approx(small**2, rel=1e-6, abs=0)
    assert gradient[0, 0] == pytest.approx(-2 * small**2, rel=1e-6, abs=0)


def test_log_cosh_of_small_and_of_large_errors():
    for d, value in ((1e-9, 0.5e-18), (0.5, 0.12011450695827752), (1 - 1e-12, math.log(math.cosh(1))), (1e30, 1e30)):
        for sign in (1, -1):
            found, gradient = losses.LogCosh()(np.array([[sign * d]]), [[0]])
            assert found == pytest.approx(value, rel=1e-9, abs=0)
            assert gradient[0, 0] == pytest.approx(sign * math.tanh(d), rel=1e-14, abs=0)


def test_what_counts_as_a_small_number():
    value, gradient = losses.MeanAbsolutePercentageError()(np.array([[1.0, 2.0]]), [[0, 2]])
    assert value == pytest.approx(0.5e9)
    assert gradient[0, 0] == pytest.approx(0.5e9)
    value, gradient = losses.MeanSquaredLogarithmicError()(np.array([[-3.0, 0.0]]), [[0, math.e - 1]])
    assert value == pytest.approx(0.5, rel=1e-6)
    assert_close(gradient, [[0, 0]], 0)
    value, gradient = losses.CosineSimilarity()(np.array([[0.0, 0.0], [1, 1]]), [[3, 4], [0, 0]])
    assert value == 0
    assert_close(gradient, [[-0.3e7, -0.4e7], [0, 0]], 1e-14)
    assert math.isnan(losses.Poisson()(np.array([[-1.0]]), [[1]])[0])  # which fit reports


@pytest.mark.parametrize("name", sorted({loss.name for loss in losses.NAMES.values()}))
def test_nan_outputs_give_nan_in_every_loss(name):
    loss = losses.get(name)
    y = [0, 1] if name.startswith("sparse") else [[1, 0, 0], [0, 1, 0]]
    for from_logits in {False, loss.needs_from_logits}:
        for k in (0, 1) if from_logits or not loss.fuses_softmax or "divergence" in name else (0,):
            outputs = np.full((2, 3), 0.4)
            outputs[0, k] = np.nan
            value, gradient = loss(outputs, y, from_logits=from_logits)
            assert math.isnan(value)
            assert np.isfinite(gradient[1]).all()


@pytest.mark.parametrize("from_logits", [False, True])
def test_nan_outputs_give_nan(from_logits):
    for k in range(3):
        outputs = np.full((1, 3), 1 / 3)
        outputs[0, k] = np.nan
        if from_logits or k == 0:
            assert math.isnan(SPARSE()(outputs, [0], from_logits=from_logits)[0])
        assert math.isnan(losses.BinaryCrossentropy()(outputs, [[0, 1, 1]], from_logits=from_logits)[0])
        assert math.isnan(losses.MeanSquaredError()(outputs, [[0, 1, 1]])[0])


# ---- what is welcome ----


@pytest.mark.parametrize("y", [np.array([0, 2, 1], kind) for kind in "bBhHiIlLqQfde"] + [[0, 2, 1], [[0], [2], [1]]])
def test_kinds_of_labels(y):
    z = uniform(-1, 1, 3, 3)
    assert SPARSE()(z, y)[0] == SPARSE()(z, np.array([0, 2, 1]))[0]


def test_bool_labels():
    assert SPARSE()([[0.5, 0.5]] * 2, [True, False])[0] == pytest.approx(math.log(2))


@pytest.mark.parametrize("name", ["mse", "mae", "huber", "binary_crossentropy"])
def test_last_axis_of_one_may_be_left_out_but_nothing_is_broadcast(name):
    loss, outputs, y = losses.get(name), uniform(0.1, 0.9, 4, 1), np.array([0, 1, 1, 0])
    value, gradient = loss(outputs, y)
    assert gradient.shape == (4, 1)
    assert value == loss(outputs, y[:, None])[0] == loss(outputs[:, 0], y)[0] == loss(outputs[:, 0], y[:, None])[0]
    for shape in ((1,), (4, 4), (1, 4), (4, 2), (4, 1, 2), ()):
        with pytest.raises(ValueError, match=r"y must have"):
            loss(outputs, np.ones(shape))


def test_inputs_of_any_layout_are_read_and_never_written():
    z, y, w = uniform(-1, 1, 6, 4).astype(np.float32), np.array([0, 3, 1, 1, 2, 0]), uniform(0, 1, 6)
    want = SPARSE()(z, y, w, True)
    strided = np.zeros((12, 8), np.float32)[::2, ::2]
    strided[...] = z
    for outputs in (np.asfortranarray(z), strided, z.astype(">f4")):
        value, gradient = SPARSE()(outputs, y, w, True)
        assert value == want[0]
        assert_same_bits(gradient, want[1])
    for array in (z, y, w):
        array.flags.writeable = False
    again = SPARSE()(z, y, w, True)
    assert_same_bits(again[1], want[1])
    assert not np.shares_memory(again[1], want[1])


def test_other_kinds_of_outputs_are_computed_in_float64():
    value, gradient = losses.MeanSquaredError()([[1, 2]], [[0, 0]])
    assert (value, gradient.dtype) == (2.5, np.float64)
    assert losses.MeanSquaredError()(np.ones((1, 2), np.float16), [[0, 0]])[1].dtype == np.float64


# ---- what is refused ----


@pytest.mark.parametrize(
    ("y", "error", "match"),
    [
        ([0, 1, 3], ValueError, r"^SparseCategoricalCrossentropy: labels must be whole numbers in \[0, 2\]; got 3 at"),
        ([0, -1, 5], ValueError, "got -1 at index 1"),
        ([-100, -100, -100], ValueError, "got -100 at index 0"),
        ([0, 0.5, 1], ValueError, "got 0.5 at index 1"),
        ([0, 1, np.nan], ValueError, "got nan at index 2"),
        ([np.inf, 1, 0], ValueError, "got inf at index 0"),
        (np.array([0, 2**32, 1]), ValueError, "got 4294967296 at index 1"),
        (np.array([2**64 - 1, 0, 1], np.uint64), ValueError, "got 18446744073709551615 at index 0"),
        (["cat", "dog", "cat"], TypeError, r"<U3\. Number the classes from 0, for instance with np.unique"),
        (np.array([0, 1, None]), TypeError, "dtype object. Number"),
        (np.array([0j, 1, 2]), TypeError, r"dtype complex128$"),
        ([0, 1], ValueError, "y must have the 3 samples of the outputs; got 2"),
        (np.eye(3), ValueError, 'got shape \\(3, 3\\). One-hot rows need "categorical_crossentropy"'),
        (np.zeros((3, 1, 1)), ValueError, r"y must be class numbers of shape \(N,\) or \(N, 1\)"),
        (0, ValueError, r"got shape \(\)"),
        ([[0], [1, 2], [3]], ValueError, "ragged"),
        (np.ma.array([0, 1, 2], mask=[0, 0, 1]), TypeError, "masked"),
    ],
)
def test_wrong_labels(y, error, match):
    with pytest.raises(error, match=match):
        SPARSE()(np.full((3, 3), 1 / 3), y)


@pytest.mark.parametrize(
    ("y", "error", "match"),
    [
        ([0, 1], ValueError, 'got shape \\(2,\\). Class numbers need "sparse_categorical_crossentropy"'),
        ([[0], [1]], ValueError, "Class numbers need"),
        (np.eye(3)[:2], ValueError, r"one-hot rows of shape \(N, 2\); got shape \(2, 3\)$"),
        ([[1, 0], [0.5, 0.4]], ValueError, "the targets of a sample must sum to 1; got 0.9 at index 1"),
        ([[1, 0], [1, 1]], ValueError, "must sum to 1; got 2.0 at index 1"),
        ([[1, 0], [-0.5, 1.5]], ValueError, r"targets must be numbers >= 0; got -0.5 at index \(1, 0\)"),
        ([[1, 0], [np.nan, 1]], ValueError, r"got nan at index \(1, 0\)"),
        (np.eye(2)[[0, 1, 1]], ValueError, "y must have the 2 samples of the outputs; got 3"),
        ([["a", "b"], ["c", "d"]], TypeError, "Number the classes"),
    ],
)
def test_wrong_targets(y, error, match):
    with pytest.raises(error, match=match):
        DENSE()(np.full((2, 2), 0.5), y)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        ([[0.5], [1.5]], r"BinaryCrossentropy: y must be in \[0, 1\]; got 1.5 at index \(1, 0\)"),
        ([-1, 1], r"must be in \[0, 1\]; got -1.0 at index"),
        ([0, np.nan], "y must be finite"),
    ],
)
def test_wrong_binary_targets(y, match):
    with pytest.raises(ValueError, match=match):
        losses.BinaryCrossentropy()(np.full((2, 1), 0.5), y)


@pytest.mark.parametrize(("y", "match"), [
    ([[0.5], [1]], r"^(Hinge|Sq.*): y must be 1 for a yes and -1 for a no, or 1 and 0; got 0.5 at index \(0, 0\)"),
    ([1, 2], r"got 2.0 at index \(1, 0\)"), ([-1, 0], r"or 1 and 0, not both; got 0.0 at index \(1, 0\)"),
    ([1, np.nan], "y must be finite"), ([1, 1, 1], "y must have the 2 samples"), ([[1, 0], [0, 1]], "the shape"),
])  # fmt: skip
def test_wrong_targets_of_a_hinge(y, match):
    for loss in (losses.Hinge(), losses.SquaredHinge()):
        with pytest.raises(ValueError, match=match):
            loss(np.full((2, 1), 0.5), y)


def test_wrong_targets_of_the_others():
    for loss in (losses.Poisson(), losses.MeanSquaredLogarithmicError()):
        with pytest.raises(ValueError, match=rf"^{type(loss).__name__}: y must be numbers >= 0; got -1.0 at index"):
            loss(np.ones((2, 1)), [0, -1])
    for loss in (losses.KLDivergence(), losses.CategoricalHinge(), FOCAL()):
        name = type(loss).__name__
        with pytest.raises(ValueError, match=f"^{name}: the targets of a sample must sum to 1; got 2.0 at index 1"):
            loss(np.full((2, 2), 0.5), [[1, 0], [1, 1]])
        with pytest.raises(ValueError, match=f'^{name}: .* Class numbers need "sparse_categorical_crossentropy"'):
            loss(np.full((2, 2), 0.5), [0, 1])
    for loss, fix in ((FOCAL(), "binary_focal_crossentropy"), (losses.CategoricalHinge(), "hinge")):
        with pytest.raises(ValueError, match=rf'at least 2 classes; got shape \(2, 1\)\. One output needs "{fix}"'):
            loss(np.full((2, 1), 0.5), [0, 1])
    with pytest.raises(ValueError, match=r"^CosineSimilarity: .* K >= 2: one number has no direction"):
        losses.CosineSimilarity()(np.ones((2, 1)), [0, 1])


def test_numbers_too_large_for_float32_are_refused():
    with pytest.raises(ValueError, match=r"y must be finite in float32; got 1e\+39 at index \(0, 1\)"):
        losses.MeanSquaredError()(np.zeros((1, 2), np.float32), [[1.0, 1e39]])


@pytest.mark.parametrize(
    ("outputs", "match"),
    [
        (np.zeros((0, 3)), "outputs must hold at least one sample"),
        (np.float64(1.0), "outputs must hold at least one sample"),
        (np.zeros((3, 1)), r'at least 2 classes; got shape \(3, 1\). One output needs "binary_crossentropy"'),
        (np.zeros(3), "at least 2 classes"),
        (np.zeros((3, 2, 2)), r"got shape \(3, 2, 2\)$"),
    ],
)
def test_wrong_outputs(outputs, match):
    with pytest.raises(ValueError, match=match):
        SPARSE()(outputs, [0, 1, 1])


@pytest.mark.parametrize(
    ("weights", "error", "match"),
    [
        ([1, 2, 3], ValueError, r"sample weights must have shape \(2,\), one for each sample; got shape \(3,\)"),
        ([[1], [2]], ValueError, r"got shape \(2, 1\)"),
        ([1, np.nan], ValueError, "sample weights must be finite; got nan at index 1"),
        ([np.inf, 1], ValueError, "got inf at index 0"),
        (["1", "2"], TypeError, "sample weights must be an array of numbers"),
    ],
)
def test_wrong_weights(weights, error, match):
    with pytest.raises(error, match=match):
        losses.MeanSquaredError()([[1.0], [2.0]], [1, 2], weights)


@pytest.mark.parametrize("make", [SPARSE, DENSE, losses.BinaryCrossentropy])
def test_wrong_smoothing(make):
    for value in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=rf"^{make.__name__}: label_smoothing must be a number in \[0, 1\]"):
            make(value)
    for value in ("0.1", None, True):
        with pytest.raises(TypeError, match="label_smoothing must be a number"):
            make(label_smoothing=value)


def test_wrong_arguments():
    for value in (0, -1, math.inf):
        with pytest.raises(ValueError, match="Huber: delta must be a number > 0"):
            losses.Huber(value)
    with pytest.raises(TypeError, match=r"got `smoothing`\. Did you mean `label_smoothing`\?"):
        SPARSE(smoothing=0.1)
    with pytest.raises(TypeError, match="MeanSquaredError: the keywords are"):
        losses.MeanSquaredError(delta=1)


@pytest.mark.parametrize(("make", "error", "match"), [
    (lambda: FOCAL(-1), ValueError, "CategoricalFocalCrossentropy: alpha must be a number >= 0; got -1"),
    (lambda: FOCAL([0.5, math.nan]), ValueError, "every number of alpha must be a number >= 0; got nan"),
    (lambda: FOCAL("0.25"), TypeError, "alpha must be a number"), (lambda: FOCAL(True), TypeError, "alpha must be"),
    (lambda: FOCAL([0.5, "1"]), TypeError, "every number of alpha"),
    (lambda: FOCAL([1, 2, 3])(np.ones((1, 2)), [[1, 0]]), ValueError, r"one for each of the 2 classes; got \(1\.0, 2"),
    (lambda: FOCAL([])(np.ones((1, 2)), [[1, 0]]), ValueError, r"one for each of the 2 classes; got \(\)"),
    (lambda: FOCAL(gamma=-0.1), ValueError, "gamma must be a number >= 0; got -0.1"),
    (lambda: FOCAL(gamma=math.inf), ValueError, "gamma must be a number >= 0; got inf"),
    (lambda: FOCAL(from_logits=1), TypeError, "from_logits must be 'auto', True or False; got 1"),
    (lambda: FOCAL(axis=-1), TypeError, "got `axis`"),
    (lambda: losses.BinaryFocalCrossentropy(1), TypeError, "apply_class_balancing must be True or False"),
    (lambda: losses.BinaryFocalCrossentropy(alpha=1.1), ValueError, r"alpha must be a number in \[0, 1\]; got 1.1"),
    (lambda: losses.BinaryFocalCrossentropy(gamma=None), TypeError, "gamma must be a number"),
    (lambda: losses.KLDivergence("yes"), ValueError, "from_logits must be 'auto', True or False"),
    (lambda: losses.CosineSimilarity(0), ValueError, "axis must be -1 or 1, the last of the outputs"),
    (lambda: losses.CosineSimilarity(True), TypeError, "axis must be a whole number"),
])  # fmt: skip
def test_wrong_arguments_of_losses(make, error, match):
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize("make", sorted({*losses.NAMES.values()}, key=lambda one: one.name))
def test_words_of_keras(make):
    assert make(reduction="sum_over_batch_size").get_config() == make().get_config()
    assert "reduction" not in make().get_config()
    for value, error in (("sum", ValueError), (None, ValueError), ("none", ValueError), (1, TypeError)):
        with pytest.raises(
            error, match=rf"^{make.__name__}: reduction must be 'sum_over_batch_size', the mean .*; got"
        ):
            make(reduction=value)
    with pytest.raises(TypeError, match=rf"^{make.__name__}: a loss has no name: logs call it \"loss\"; got name='x'"):
        make(name="x")
    with pytest.raises(TypeError, match=rf"^{make.__name__}: a loss has no dtype"):
        make(dtype="float32")
    with pytest.raises(TypeError, match=rf"got the class {make.__name__}\. Did you mean {make.__name__}\(\)\?"):
        losses.get(make)


# ---- a custom loss ----


def test_own_function():
    def cubed(outputs, y):
        d = outputs - y
        return np.abs(d**3).mean(), 3 * d * np.abs(d) / d.size

    loss = losses.get(cubed)
    value, gradient = loss(np.full((2, 2), 3, np.float32), [[1, 1], [1, 1]])
    assert (loss.name, loss.gradient_at, loss.fuses_softmax) == ("cubed", "outputs", False)
    assert (value, type(value)) == (8.0, float)
    assert_close(gradient, np.full((2, 2), 3.0), 0, np.float32)
    assert losses.to_config(loss) is None
    with pytest.raises(ValueError, match="loss cubed: a custom loss takes no sample or class weights"):
        loss(np.ones((2, 2)), np.ones((2, 2)), weights=[1, 1])


@pytest.mark.parametrize(
    ("result", "error", "match"),
    [
        (1.0, TypeError, r"loss <lambda>: the function must return \(value, gradient\); got 1.0 \(float\)"),
        ((1.0, np.ones((2, 2)), 3), TypeError, "must return"),
        ((np.ones(2), np.ones((2, 2))), TypeError, "the value must be one number"),
        (("1", np.ones((2, 2))), TypeError, "the value must be one number"),
        ((None, np.ones((2, 2))), TypeError, "the value must be one number"),
        ((1.0, np.ones(2)), ValueError, r"the gradient must have the shape \(2, 2\) of the outputs; got shape \(2,\)"),
        ((1.0, "no"), TypeError, "the gradient must be an array of numbers"),
    ],
)
def test_own_function_that_is_wrong(result, error, match):
    with pytest.raises(error, match=match):
        losses.get(lambda outputs, y: result)(np.ones((2, 2)), np.ones(2))


def own(y, outputs):
    return float((outputs - y).sum()), np.full_like(outputs, 3.0)


@pytest.mark.parametrize("function", [
    own, lambda outputs, y: own(y, outputs), lambda y_true, y_pred: own(y_true, y_pred),
    lambda y_pred, y_true: own(y_true, y_pred), lambda o, y: own(y, o), lambda p, t: own(t, p), lambda y, p: own(y, p),
    lambda a, y: own(y, a), lambda a, y_pred: own(a, y_pred), lambda outputs, a: own(a, outputs),
    lambda target, a: own(target, a), lambda a, labels: own(labels, a), lambda y, y_hat: own(y, y_hat),
    functools.partial(lambda scale, logits, y: own(y, logits), 2.0), lambda Y, Y_pred: own(Y, Y_pred),
])  # fmt: skip
def test_the_names_of_the_parameters_tell_the_order(function):
    value, gradient = losses.get(function)(np.full((2, 1), 5.0), np.ones((2, 1)))
    assert value == 8.0
    assert (gradient == 3).all()


@pytest.mark.parametrize("function", [
    lambda a, b: own(a, b), lambda y, d: own(d, y), lambda t, x: own(t, x), lambda y, t: own(t, y),
    lambda *given: own(*given), lambda outputs, y_pred: own(y_pred, outputs), lambda y: own(y, y), max,
    lambda predicted_labels, b: own(b, predicted_labels), lambda *, outputs, y: own(y, outputs),
])  # fmt: skip
def test_a_loss_whose_parameters_do_not_tell_is_refused(function):
    message = r"^loss .*: the names of the parameters must say which is which; got .*\. Name them \(y, outputs\)"
    with pytest.raises(TypeError, match=message):
        losses.get(function)


# ---- names, files, copies ----

NAMES = {
    "sparse_categorical_crossentropy": SPARSE,
    "categorical_crossentropy": DENSE,
    "binary_crossentropy": losses.BinaryCrossentropy,
    "mean_squared_error": losses.MeanSquaredError,
    "mse": losses.MeanSquaredError,
    "mean_absolute_error": losses.MeanAbsoluteError,
    "mae": losses.MeanAbsoluteError,
    "huber": losses.Huber,
    "msle": losses.MeanSquaredLogarithmicError,
    "mape": losses.MeanAbsolutePercentageError,
    "bce": losses.BinaryCrossentropy,
    "kld": losses.KLDivergence,
    "KLD": losses.KLDivergence,
    "MSE": losses.MeanSquaredError,
    "kl_divergence": losses.KLDivergence,
    "kullback_leibler_divergence": losses.KLDivergence,
    "log_cosh": losses.LogCosh,
    "logcosh": losses.LogCosh,
    "hinge": losses.Hinge,
    "squared_hinge": losses.SquaredHinge,
    "categorical_hinge": losses.CategoricalHinge,
    "binary_focal_crossentropy": losses.BinaryFocalCrossentropy,
    "categorical_focal_crossentropy": FOCAL,
    "poisson": losses.Poisson,
    "cosine_similarity": losses.CosineSimilarity,
    "MeanSquaredError": losses.MeanSquaredError,
}


def test_every_class_has_its_name():
    ours = {getattr(losses, name) for name in losses.__all__ if isinstance(getattr(losses, name), type)} - {losses.Loss}
    assert {*losses.NAMES.values()} == ours
    assert all(losses.NAMES[loss.__name__] is loss for loss in ours)


@pytest.mark.parametrize("name", NAMES)
def test_names(name):
    loss = losses.get(name)
    assert type(loss) is NAMES[name]
    assert type(losses.get(loss.name)) is type(loss)
    assert losses.get(loss) is loss


@pytest.mark.parametrize(
    "loss",
    [SPARSE(0.1), DENSE(0.2), losses.BinaryCrossentropy(0.3), losses.Huber(2.5), losses.MeanSquaredError(),
     FOCAL([0.5, 1], 1.5, True, 0.1), FOCAL(0.5), losses.BinaryFocalCrossentropy(True, 0.5, 1, False, 0.1),
     losses.KLDivergence(True), losses.CosineSimilarity(1), losses.Hinge()],
)  # fmt: skip
def test_config_and_copies(loss):
    for twin in (
        losses.from_config(json.loads(json.dumps(losses.to_config(loss)))),
        copy.deepcopy(loss),
        pickle.loads(pickle.dumps(loss)),
        type(loss)(**loss.get_config()),
    ):
        assert type(twin) is type(loss)
        assert twin.get_config() == loss.get_config()
        assert repr(twin) == repr(loss)


def test_unknown_losses():
    with pytest.raises(ValueError, match=r"Did you mean 'sparse_categorical_crossentropy'\?"):
        losses.get("sparse_categorical_cross_entropy")
    with pytest.raises(TypeError, match=r"got the class Huber\. Did you mean Huber\(\)\?"):
        losses.get(losses.Huber)
    with pytest.raises(TypeError, match="the loss must be"):
        losses.get(dict)
    with pytest.raises(TypeError, match="the loss must be one of"):
        losses.get(None)
    with pytest.raises(ValueError, match="the loss must be one of"):
        losses.from_config({"name": "nll", "config": {}})
    with pytest.raises(TypeError, match="the keywords are delta"):
        losses.from_config({"name": "huber", "config": {"gamma": 1}})
    for config in (None, {}, {"name": "mse"}, {"name": "mse", "config": []}, {"name": "mse", "config": {}, "more": 1}):
        with pytest.raises(ValueError, match='a dictionary with "name" and "config"'):
            losses.from_config(config)
