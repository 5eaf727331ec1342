"""Optimisers against steps computed by hand and against a literal transcription of their formulas; schedules."""

import copy
import json
import math
import pickle

import numpy as np
import pytest
from compare import assert_close, assert_same_bits, tolerance
from running import use_threads

from minicnn import constraints, layers, optimizers
from minicnn._ext import optim

SEGMENTS = [  # name, offset, size, trainable, decayed; a gap of 3 before the third
    ("0.kernel", 0, 7, True, True),
    ("0.bias", 7, 3, True, True),
    ("1.gamma", 13, 4, True, False),
    ("2.kernel", 17, 5, False, True),
    ("3.kernel", 22, 2 * optim.BLOCK + 100, True, True),
]
LENGTH = 22 + 2 * optim.BLOCK + 100


def bound(optimizer, parameters, segments=None):
    """(parameters, gradients) of that dtype, tied to the optimiser; by default one trainable, decayed segment."""
    parameters = np.array(parameters)
    gradients = np.zeros_like(parameters)
    if segments is None:
        segments = [("0.kernel", 0, parameters.size, True, True)]
    optimizer.bind(parameters, gradients, segments)
    return parameters, gradients


def random_steps(n, steps, dtype):
    rng = np.random.default_rng(0)
    return rng.standard_normal(n).astype(dtype), rng.standard_normal((steps, n)).astype(dtype)


# ---- the formulas, transcribed ----


def clipped(g, clipnorm):
    norm = math.sqrt(math.fsum(x * x for x in g.tolist()))
    return g if clipnorm is None or norm <= clipnorm else g * (clipnorm / norm)


def sgd_twin(w, gradients, rate, momentum=0.0, nesterov=False, weight_decay=None, clipnorm=None):
    w, v = w.astype(np.float64), np.zeros(w.size)
    for g in gradients.astype(np.float64):
        g = clipped(g, clipnorm)
        w = w - rate * (weight_decay or 0) * w
        v = momentum * v - rate * g
        w = w + momentum * v - rate * g if nesterov else w + v
    return w


def adam_twin(w, gradients, rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7, weight_decay=None, clipnorm=None):
    w, m, v = w.astype(np.float64), np.zeros(w.size), np.zeros(w.size)
    for t, g in enumerate(gradients.astype(np.float64), 1):
        g = clipped(g, clipnorm)
        w = w - rate * (weight_decay or 0) * w
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        alpha = rate * math.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        w = w - alpha * m / (np.sqrt(v) + epsilon)
    return w


SGD_ARGUMENTS = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"nesterov": True},
    {"weight_decay": 0.1},
    {"momentum": 0.5, "weight_decay": 0.2, "clipnorm": 0.7},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "clipnorm": 1e9},
]
ADAM_ARGUMENTS = [
    {},
    {"beta_1": 0.0, "beta_2": 0.5},
    {"epsilon": 0.5},
    {"weight_decay": 0.2},
    {"beta_1": 0.8, "weight_decay": 0.1, "clipnorm": 0.7},
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("arguments", SGD_ARGUMENTS)
def test_sgd_against_the_formula(arguments, dtype):
    w, steps = random_steps(37, 6, dtype)
    optimizer = optimizers.SGD(0.1, **arguments)
    parameters, gradients = bound(optimizer, w)
    for g in steps:
        gradients[...] = g
        optimizer.step()
    assert optimizer.iterations == 6
    assert_close(parameters, sgd_twin(w, steps, 0.1, **arguments), tolerance(dtype, 6), dtype)
    assert_same_bits(gradients, steps[-1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("arguments", ADAM_ARGUMENTS)
def test_adam_against_the_formula(arguments, dtype):
    w, steps = random_steps(37, 6, dtype)
    optimizer = optimizers.Adam(0.05, **arguments)
    parameters, gradients = bound(optimizer, w)
    for g in steps:
        gradients[...] = g
        optimizer.step()
    assert optimizer.iterations == 6
    assert_close(parameters, adam_twin(w, steps, 0.05, **arguments), tolerance(dtype, 6), dtype)
    assert_same_bits(gradients, steps[-1])


# ---- steps by hand ----


def follow(optimizer, gradients, start=1.0):
    parameters, slots = bound(optimizer, [float(start)])
    seen = []
    for g in gradients:
        slots[...] = g
        optimizer.step()
        seen.append(parameters[0])
    return seen


def test_sgd_by_hand():
    # Rate 0.1, gradients 2 and -1: 1 - 0.2 = 0.8, 0.8 + 0.1 = 0.9.
    assert follow(optimizers.SGD(0.1), [2, -1]) == pytest.approx([0.8, 0.9], rel=1e-14)
    # Momentum 0.5: v = -0.2, w = 0.8; v = -0.1 + 0.1 = 0, w = 0.8; v = -0.3, w = 0.5.
    assert follow(optimizers.SGD(0.1, 0.5), [2, -1, 3]) == pytest.approx([0.8, 0.8, 0.5], rel=1e-14)
    # Nesterov: v = -0.2, w = 1 - 0.1 - 0.2 = 0.7; v = 0, w = 0.7 + 0.1 = 0.8; v = -0.3, w = 0.8 - 0.15 - 0.3 = 0.35.
    assert follow(optimizers.SGD(0.1, 0.5, True), [2, -1, 3]) == pytest.approx([0.7, 0.8, 0.35], rel=1e-14)
    # Weight decay 0.5: w = (1 - 0.05) - 0.2 = 0.75, then 0.75 * 0.95 + 0.1 = 0.8125.
    assert follow(optimizers.SGD(0.1, weight_decay=0.5), [2, -1]) == pytest.approx([0.75, 0.8125], rel=1e-14)


def test_adam_by_hand():
    # beta_1 = 0.5, beta_2 = 0.75, rate 0.1, gradients 2 and 4, epsilon as good as 0.
    # t = 1: m = 1, v = 1, alpha = 0.1 sqrt(0.25) / 0.5 = 0.1: w = 1 - 0.1 * 1 / 1 = 0.9.
    # t = 2: m = 0.5 + 2 = 2.5, v = 0.75 + 4 = 4.75, alpha = 0.1 sqrt(0.4375) / 0.75:
    #        w = 0.9 - 0.1 * 0.66143782776614765 / 0.75 * 2.5 / 2.1794494717703369 = 0.79883702190...
    want = [0.9, 0.9 - 0.1 * 0.66143782776614765 / 0.75 * 2.5 / 2.1794494717703369]
    assert follow(optimizers.Adam(0.1, 0.5, 0.75, epsilon=1e-12), [2, 4]) == pytest.approx(want, rel=1e-11)
    assert want[1] == pytest.approx(0.798837, abs=1e-6)
    # The first step is the rate in size whatever the gradient's; AdamW: 1 - 0.1 * 0.5 * 1 - 0.1.
    assert follow(optimizers.Adam(0.1, epsilon=1e-15), [1e-6]) == pytest.approx([0.9], rel=1e-7)
    assert follow(optimizers.AdamW(0.1, weight_decay=0.5, epsilon=1e-15), [3]) == pytest.approx([0.85], rel=1e-12)


def test_float32_adam_has_exact_betas():
    # 1 - 0.999 in float32 is off by 5e-5, which would show in the first step as 2e-5.
    optimizer = optimizers.Adam(0.5, epsilon=1e-12)
    parameters, gradients = bound(optimizer, np.zeros(1, np.float32))
    gradients[0] = 3
    optimizer.step()
    assert parameters[0] == pytest.approx(-0.5, rel=3e-7)
    assert optimizer.slots["v"][0] == pytest.approx(0.009, rel=3e-7)


def test_clipping_by_hand():
    # The gradient (3, 4) has norm 5: with clipnorm 1 it becomes (0.6, 0.8), with clipnorm 5 or more it stays.
    for clipnorm, want in ((1.0, [-0.6, -0.8]), (5.0, [-3, -4]), (7.0, [-3, -4]), (None, [-3, -4])):
        optimizer = optimizers.SGD(1.0, clipnorm=clipnorm)
        parameters, gradients = bound(optimizer, np.zeros(2), [("a", 0, 1, True, True), ("b", 1, 1, True, True)])
        gradients[...] = 3, 4
        optimizer.step()
        assert_close(parameters, want, 1e-15)


def test_only_trainable_gradients_count_for_the_norm():
    optimizer = optimizers.SGD(1.0, clipnorm=1.0)
    segments = [("a", 0, 1, True, True), ("b", 1, 1, False, True), ("c", 3, 1, True, True)]
    parameters, gradients = bound(optimizer, np.zeros(4), segments)
    gradients[...] = 3, np.nan, np.inf, 4
    optimizer.step()
    assert_close(parameters, [-0.6, 0, 0, -0.8], 1e-15)


# ---- segments ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", [optimizers.SGD, optimizers.Adam])
def test_only_the_trainable_segments_change(make, dtype):
    w, steps = random_steps(LENGTH, 2, dtype)
    optimizer = make(0.1, weight_decay=0.3)
    parameters, gradients = bound(optimizer, w, SEGMENTS)
    for g in steps:
        gradients[...] = g
        optimizer.step()
    twin = sgd_twin if make is optimizers.SGD else adam_twin
    want = w.astype(np.float64)
    for _, offset, size, trainable, decayed in SEGMENTS:
        part = slice(offset, offset + size)
        if trainable:
            want[part] = twin(w[part], steps[:, part], 0.1, weight_decay=0.3 if decayed else None)
    assert_close(parameters, want, tolerance(dtype, 2), dtype)
    for untouched in (slice(10, 13), slice(17, 22)):
        assert_same_bits(parameters[untouched], w[untouched])
        for slot in optimizer.slots.values():
            assert not slot[untouched].any()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("make", [optimizers.SGD, optimizers.AdamW])
def test_names_excluded_from_weight_decay(make, before):
    optimizer = make(0.1, weight_decay=0.5)
    if before:
        optimizer.exclude_from_weight_decay(["bias"])
    parameters, _ = bound(optimizer, np.ones(LENGTH), SEGMENTS)
    if not before:
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.exclude_from_weight_decay(var_names=["3.kern", "nothing"])
    optimizer.step()
    want = np.ones(LENGTH)
    want[:7] = 0.95  # what is left to decay: 0.kernel
    assert_close(parameters, want, 1e-15)
    again = optimizers.from_config(json.loads(json.dumps(optimizers.to_config(optimizer))))
    parameters, _ = bound(again, np.ones(LENGTH), SEGMENTS)
    again.step()
    assert_close(parameters, want, 1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizers.SGD(0.1, 0.9, clipnorm=1.0),
        lambda: optimizers.SGD(0.1, 0.9, True),
        lambda: optimizers.AdamW(clipnorm=1.0),
    ],
)
def test_bits_do_not_depend_on_the_number_of_threads(make, dtype):
    n = 5 * optim.BLOCK + 77
    w, steps = random_steps(n, 2, dtype)
    segments = [("0.kernel", 0, n - 500, True, True), ("0.bias", n - 400, 400, True, False)]
    results = []
    for threads in (1, 2, 3):
        use_threads(threads)
        optimizer = make()
        parameters, gradients = bound(optimizer, w, segments)
        for g in steps:
            gradients[...] = g
            optimizer.step()
        results.append((parameters, *optimizer.slots.values()))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert_same_bits(a, b)


def test_no_parameters_and_nothing_trainable():
    for segments in ([], [("0.kernel", 0, 3, False, True)]):
        for optimizer in (optimizers.SGD(clipnorm=1), optimizers.Adam(clipnorm=1)):
            parameters, gradients = bound(optimizer, np.ones(3), segments)
            gradients[...] = 1
            optimizer.step()
            assert parameters.tolist() == [1, 1, 1]
            assert optimizer.iterations == 1
    optimizer = optimizers.Adam()
    bound(optimizer, np.ones(0), [("0.kernel", 0, 0, True, True)])
    optimizer.step()


# ---- gradients that are not finite ----


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e200])
@pytest.mark.parametrize("make", [optimizers.SGD, optimizers.Adam])
def test_clipping_refuses_a_norm_that_is_not_finite(make, bad):
    optimizer = make(0.1, clipnorm=1.0)
    if make is optimizers.SGD:
        optimizer = make(0.1, 0.9, clipnorm=1.0)
    parameters, gradients = bound(optimizer, np.ones(LENGTH), SEGMENTS)
    gradients[...] = 0.5
    optimizer.step()
    before = parameters.copy(), optimizer.get_state()
    gradients[-1] = gradients[14] = bad
    with pytest.raises(FloatingPointError, match=r"\.step: the gradient of '1.gamma' must have a finite norm"):
        optimizer.step()
    assert_same_bits(parameters, before[0])
    assert optimizer.iterations == 1
    for name, slot in optimizer.slots.items():
        assert_same_bits(slot, before[1][name])


def test_without_clipping_bad_gradients_pass():
    optimizer = optimizers.SGD(0.1)
    parameters, gradients = bound(optimizer, np.ones(2))
    gradients[0] = np.nan
    optimizer.step()
    assert math.isnan(parameters[0])
    assert parameters[1] == 1


# ---- binding, state, copies ----


def test_a_step_needs_a_model():
    for optimizer in (optimizers.SGD(), optimizers.Adam()):
        assert optimizer.slots == {}
        with pytest.raises(RuntimeError, match=r"\.step: the optimizer belongs to no model yet"):
            optimizer.step()
        with pytest.raises(RuntimeError, match=r"\.set_state: the optimizer belongs to no model yet"):
            optimizer.set_state({"iterations": 0})


def test_slots():
    for optimizer, names in (
        (optimizers.SGD(), []),
        (optimizers.SGD(momentum=0.9), ["velocity"]),
        (optimizers.Adam(), ["m", "v"]),
    ):
        bound(optimizer, np.ones(3, np.float32))
        assert sorted(optimizer.slots) == names
        for slot in optimizer.slots.values():
            assert_same_bits(slot, np.zeros(3, np.float32))


def test_binding_again_keeps_the_slots_of_the_same_layout():
    optimizer = optimizers.Adam()
    _, gradients = bound(optimizer, np.ones(10), SEGMENTS[:2])
    gradients[...] = 1
    optimizer.step()
    kept = optimizer.get_state()
    frozen = [("0.kernel", 0, 7, False, True), ("0.bias", 7, 3, True, False)]
    bound(optimizer, np.ones(10), frozen)
    assert optimizer.iterations == 1
    assert_same_bits(optimizer.slots["m"], kept["m"])
    for parameters, segments in ((np.ones(10, np.float32), frozen), (np.ones(11), frozen), (np.ones(10), frozen[:1])):
        other = copy.deepcopy(optimizer)
        bound(other, parameters, segments)
        assert other.iterations == 0
        assert not other.slots["m"].any()
        assert other.slots["m"].dtype == parameters.dtype


def make_trained():
    optimizer = optimizers.Adam(0.1, clipnorm=3.0)
    parameters, gradients = bound(optimizer, np.linspace(-1, 1, 10), SEGMENTS[:2])
    for step in range(3):
        gradients[...] = np.cos(np.arange(10) + step)
        optimizer.step()
    return optimizer, parameters, gradients


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "state"])
def test_copies_go_on_with_the_same_bits(how):
    optimizer, parameters, gradients = make_trained()
    other_parameters, other_gradients = parameters.copy(), gradients.copy()
    if how == "state":
        other = optimizers.from_config(optimizers.to_config(optimizer))
        other.bind(other_parameters, other_gradients, SEGMENTS[:2])
        other.set_state(optimizer.get_state())
    else:
        other = copy.deepcopy(optimizer) if how == "deepcopy" else pickle.loads(pickle.dumps(optimizer))
        with pytest.raises(RuntimeError, match="belongs to no model"):
            other.step()
        other.bind(other_parameters, other_gradients, SEGMENTS[:2])
    assert other.iterations == 3
    for each in (optimizer, other):
        each.step()
        each.step()
    assert other.iterations == optimizer.iterations == 5
    assert_same_bits(other_parameters, parameters)
    for name, slot in optimizer.slots.items():
        assert_same_bits(other.slots[name], slot)
        assert not np.shares_memory(other.slots[name], slot)


def test_state_is_a_copy():
    optimizer, *_ = make_trained()
    state = optimizer.get_state()
    state["m"][...] = 7
    assert not (optimizer.slots["m"] == 7).any()


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"m": None}, ValueError, r"the entries \['iterations', 'm', 'v'\]; got \['iterations', 'v'\]"),
        ({"more": 1}, ValueError, "the state must have the entries"),
        ({"v": np.zeros(3)}, ValueError, r"v must be a float64 array of shape \(10,\); got float64 of shape \(3,\)"),
        ({"v": np.zeros(10, np.float32)}, ValueError, "got float32 of shape"),
        ({"iterations": -1}, ValueError, "iterations must be a whole number"),
        ({"iterations": 1.5}, TypeError, "iterations must be a whole number"),
    ],
)
def test_wrong_state(change, error, match):
    optimizer, *_ = make_trained()
    before = optimizer.get_state()
    state = {**before, "m": np.full(10, 5.0), **change}
    with pytest.raises(error, match=match):
        optimizer.set_state({name: value for name, value in state.items() if value is not None})
    assert optimizer.iterations == 3
    assert_same_bits(optimizer.slots["m"], before["m"])


@pytest.mark.parametrize(
    ("parameters", "gradients", "segments", "error", "match"),
    [
        ([1.0], np.ones(1), [], TypeError, r"SGD\.bind: parameters must be a contiguous vector"),
        (np.ones((2, 2)), np.ones((2, 2)), [], TypeError, "contiguous vector"),
        (np.ones(4), np.ones(8)[::2], [], TypeError, "gradients must be a contiguous vector"),
        (np.ones(2, int), np.ones(2, int), [], ValueError, "dtype must be 'float32' or 'float64'"),
        (np.ones(2), np.ones(2, np.float32), [], ValueError, "gradients must have dtype and length of parameters"),
        (np.ones(2), np.ones(3), [], ValueError, "gradients must have dtype and length of parameters"),
        (np.ones(2), np.ones(2), [("k", 1, 2, True, True)], ValueError, "segment 'k' must lie within the 2 parameters"),
        (np.ones(2), np.ones(2), [("k", -1, 2, True, True)], ValueError, "segment 'k' must lie within"),
    ],
)
def test_wrong_vectors(parameters, gradients, segments, error, match):
    with pytest.raises(error, match=match):
        optimizers.SGD().bind(parameters, gradients, segments)


# ---- learning rates ----


def test_learning_rate_can_be_read_and_replaced():
    optimizer = optimizers.SGD(0.5)
    assert (optimizer.learning_rate, optimizer.iterations) == (0.5, 0)
    parameters, gradients = bound(optimizer, np.zeros(1))
    gradients[0] = 1
    optimizer.step()
    optimizer.learning_rate = 2
    assert isinstance(optimizer.learning_rate, float)
    optimizer.step()
    assert parameters[0] == -2.5
    assert optimizer.get_config()["learning_rate"] == 2.0
    optimizer.learning_rate = optimizers.ExponentialDecay(1.0, 1, 0.5)
    assert optimizer.learning_rate == 0.25  # two steps done
    optimizer.learning_rate = 0
    optimizer.step()
    assert parameters[0] == -2.5


@pytest.mark.parametrize("make", [optimizers.SGD, optimizers.Adam, optimizers.AdamW])
def test_schedules_give_the_rate_of_every_step(make):
    rates = [0.5, 0.5, 0.25]  # of steps 0, 1, 2
    scheduled = make(optimizers.PiecewiseConstantDecay([1], [0.5, 0.25]))
    by_hand = make(0.5)
    results = []
    for optimizer in (scheduled, by_hand):
        parameters, gradients = bound(optimizer, np.ones(2))
        for rate in rates:
            if optimizer is by_hand:
                optimizer.learning_rate = rate
            assert optimizer.learning_rate == rate
            gradients[...] = 3, -1
            optimizer.step()
        results.append(parameters)
    assert_same_bits(*results)


def test_schedules_by_hand():
    decay = optimizers.ExponentialDecay(0.8, 10, 0.5)
    assert [decay(step) for step in (0, 5, 10, 20)] == pytest.approx([0.8, 0.8 * math.sqrt(0.5), 0.4, 0.2], rel=1e-15)
    stairs = optimizers.ExponentialDecay(0.8, 10, 0.5, staircase=True)
    assert [stairs(step) for step in (0, 9, 10, 19, 20)] == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2], rel=1e-15)
    cosine = optimizers.CosineDecay(2.0, 100, alpha=0.1)
    # 2 (0.9 (1 + cos) / 2 + 0.1) with cos = 1, 1/2, 0, -1 and what follows
    assert [cosine(step) for step in (0, 100 / 3, 50, 100, 500)] == pytest.approx([2, 1.55, 1.1, 0.2, 0.2], rel=1e-14)
    pieces = optimizers.PiecewiseConstantDecay([10, 20], [1.0, 0.5, 0.1])
    assert [pieces(step) for step in (0, 10, 11, 20, 21, 999)] == [1.0, 1.0, 0.5, 0.5, 0.1, 0.1]


SCHEDULES = [
    optimizers.ExponentialDecay(0.8, 10, 0.5, True),
    optimizers.CosineDecay(2.0, 100, 0.1),
    optimizers.PiecewiseConstantDecay((10, 20), (1, 0.5, 0.1)),
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_are_saved(schedule):
    optimizer = optimizers.SGD(schedule)
    config = json.loads(json.dumps(optimizers.to_config(optimizer)))
    again = optimizers.from_config(config)
    assert optimizers.to_config(again) == config
    assert repr(again) == repr(optimizer)
    again = type(schedule)(**schedule.get_config())
    for copied in (pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule), again):
        assert [copied(step) for step in range(30)] == [schedule(step) for step in range(30)]


def test_own_schedules():
    class Half(optimizers.Schedule):
        def __call__(self, step):
            return 0.5

    class Wrong(optimizers.Schedule):
        def __call__(self, step):
            return math.nan if step else 1.0

    assert optimizers.SGD(Half()).learning_rate == 0.5
    assert optimizers.to_config(optimizers.SGD(Half())) is None
    optimizer = optimizers.SGD(Wrong())
    parameters, _ = bound(optimizer, np.ones(1))
    optimizer.step()
    with pytest.raises(ValueError, match="SGD: Wrong: the learning rate of step 1 must be a number >= 0; got nan"):
        optimizer.step()
    assert parameters[0] == 1
    with pytest.raises(NotImplementedError):
        optimizers.Schedule()(0)


@pytest.mark.parametrize("staircase", [False, True])
def test_a_schedule_that_overflows(staircase):
    decay = optimizers.ExponentialDecay(0.1, 1, 1.5, staircase)
    assert decay(1700) == pytest.approx(math.exp(math.log(0.1) + 1700 * math.log(1.5)), rel=1e-9)
    for step in (1800, 10**5):
        with pytest.raises(ValueError, match=rf"^ExponentialDecay: the rate of step {step} must be finite; got inf"):
            decay(step)
    with pytest.raises(ValueError, match=r"^ExponentialDecay: the rate of step 1 must be finite"):
        optimizers.ExponentialDecay(1e300, 1, 1e10)(1)  # without an OverflowError
    assert optimizers.ExponentialDecay(0.0, 1, 2.0)(10**6) == 0
    assert optimizers.ExponentialDecay(1e-300, 1, 1.5)(2000) == pytest.approx(1.5**1000 * 1e-300 * 1.5**1000, rel=1e-9)


class Own(optimizers.Schedule):
    def __init__(self, function):
        self.function = function

    def __call__(self, step):
        return self.function(step)


@pytest.mark.parametrize(("function", "error", "got"), [
    (lambda step: 2.0 ** (5000 + step), ValueError, "OverflowError"), (lambda step: math.nan, ValueError, "nan"),
    (lambda step: -0.5, ValueError, "-0.5"), (lambda step: np.float32(math.inf), ValueError, "inf"),
    (lambda step: np.array([0.5]), TypeError, "array"), (lambda step: None, TypeError, "None"),
    (lambda step: np.array(True), TypeError, "True"),
])  # fmt: skip
def test_wrong_rates_of_schedules(function, error, got):
    optimizer = optimizers.SGD(Own(function))
    parameters, _ = bound(optimizer, np.ones(1))
    message = rf"^SGD: Own: the learning rate of step 0 must be a number .*; got .*{got}"
    with pytest.raises(error, match=message):
        optimizer.step()
    with pytest.raises(error, match=rf"^Dropout: Own: the rate of step 0 must be a number .*; got .*{got}"):
        layers.Dropout(Own(function))
    layer = layers.Dropout(Own(lambda step: function(step) if step else 0.5))
    layer.build((3,), None)
    layer.forward(np.ones((2, 3), np.float32), training=True)
    with pytest.raises(error, match=rf"^Dropout: Own: the rate of step 1 must be a number .*; got .*{got}"):
        layer.forward(np.ones((2, 3), np.float32), training=True)
    assert parameters[0] == 1


@pytest.mark.parametrize("rate", [np.float32(0.25), np.array(0.25), np.float16(0.25), 0.25])
def test_rates_of_numpys_kinds(rate):
    optimizer = optimizers.SGD(Own(lambda step: rate))
    assert optimizer.learning_rate == 0.25
    assert type(optimizer.learning_rate) is float


# ---- arguments ----

ALL = [optimizers.SGD, optimizers.Adam, optimizers.AdamW]


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("argument", ["learning_rate", "weight_decay", "clipnorm"])
def test_wrong_numbers(make, argument):
    for value in (-1, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"^{make.__name__}: {argument} must be a number >=? 0; got"):
            make(**{argument: value})
    for value in ("0.1", True, [0.1]):
        with pytest.raises(TypeError, match=rf"^{make.__name__}: {argument} must be a number"):
            make(**{argument: value})


@pytest.mark.parametrize(
    ("make", "arguments", "error", "match"),
    [
        (optimizers.SGD, {"momentum": -1}, ValueError, r"SGD: momentum must be a number in \[0, 1\); got -1"),
        (optimizers.SGD, {"momentum": 1}, ValueError, "momentum"),
        (optimizers.SGD, {"momentum": 2}, ValueError, "momentum"),
        (optimizers.SGD, {"momentum": None}, TypeError, "momentum"),
        (optimizers.SGD, {"nesterov": 1}, TypeError, "nesterov must be True or False"),
        (optimizers.SGD, {"clipnorm": 0}, ValueError, "clipnorm must be a number > 0"),
        (optimizers.SGD, {"learning_rate": None}, TypeError, "learning_rate must be a number >= 0 or a schedule"),
        (optimizers.SGD, {"learning_rate": lambda step: 1.0}, TypeError, "a number >= 0 or a schedule"),
        (optimizers.SGD, {"learning_rate": {"name": "Cosine", "config": {}}}, ValueError, "Did you mean 'CosineDecay'"),
        (optimizers.SGD, {"learningrate": 1}, TypeError, "Did you mean `learning_rate`"),
        (optimizers.Adam, {"beta_1": 1}, ValueError, r"Adam: beta_1 must be a number in \[0, 1\)"),
        (optimizers.Adam, {"beta_2": -0.1}, ValueError, "beta_2"),
        (optimizers.Adam, {"epsilon": 0}, ValueError, "epsilon must be a number >= 1e-30"),
        (optimizers.AdamW, {"epsilon": "1"}, TypeError, "AdamW: epsilon"),
    ],
)
def test_wrong_arguments(make, arguments, error, match):
    with pytest.raises(error, match=match):
        make(**arguments)


@pytest.mark.parametrize(
    ("make", "arguments", "error", "match"),
    [
        (optimizers.ExponentialDecay, (-1, 1, 1), ValueError, "initial_learning_rate must be a number >= 0"),
        (optimizers.ExponentialDecay, (1, 0, 1), ValueError, "decay_steps must be a whole number >= 1"),
        (optimizers.ExponentialDecay, (1, 1, 0), ValueError, "decay_rate must be a number > 0"),
        (optimizers.ExponentialDecay, (1, 1, 1, 1), TypeError, "staircase must be True or False"),
        (optimizers.CosineDecay, (1, 2.5), TypeError, "decay_steps"),
        (optimizers.CosineDecay, (1, 2, 2), ValueError, r"alpha must be a number in \[0, 1\]"),
        (optimizers.PiecewiseConstantDecay, ([2, 2], [1, 1, 1]), ValueError, r"boundaries must grow; got \[2, 2\]"),
        (optimizers.PiecewiseConstantDecay, ([2], [1]), ValueError, "one more entry than the 1 boundaries"),
        (optimizers.PiecewiseConstantDecay, (2, [1]), TypeError, "boundaries must be a list"),
        (optimizers.PiecewiseConstantDecay, ([], [-1]), ValueError, "a value must be a number >= 0"),
    ],
)
def test_wrong_schedules(make, arguments, error, match):
    with pytest.raises(error, match=match):
        make(*arguments)


def test_wrong_exclusions():
    for names in ("bias", [1], None):
        with pytest.raises(TypeError, match=r"SGD\.exclude_from_weight_decay: var_names must be a list of strings"):
            optimizers.SGD().exclude_from_weight_decay(names)


def test_defaults_are_keras():
    assert optimizers.SGD().get_config() == {
        "learning_rate": 0.01, "momentum": 0.0, "nesterov": False, "weight_decay": None, "clipnorm": None
    }  # fmt: skip
    adam = {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "clipnorm": None}
    assert optimizers.Adam().get_config() == {**adam, "weight_decay": None}
    assert optimizers.AdamW().get_config() == {**adam, "weight_decay": 0.004}


@pytest.mark.parametrize("make", ALL)
def test_names_and_configs(make):
    for name in (make.__name__, make.__name__.lower()):
        assert type(optimizers.get(name)) is make
    optimizer = make(0.2, weight_decay=0.1, clipnorm=2)
    assert optimizers.get(optimizer) is optimizer
    again = optimizers.from_config(json.loads(json.dumps(optimizers.to_config(optimizer))))
    assert type(again) is make
    assert again.get_config() == optimizer.get_config() == make(**optimizer.get_config()).get_config()


def test_unknown_optimizers():
    with pytest.raises(ValueError, match=r"got 'adm'\. Did you mean 'adam'\?"):
        optimizers.get("adm")
    with pytest.raises(TypeError, match=r"got the class SGD\. Did you mean SGD\(\)\?"):
        optimizers.get(optimizers.SGD)
    with pytest.raises(TypeError, match="the optimizer must be one of"):
        optimizers.get(0.1)
    with pytest.raises(ValueError, match="the name must be one of"):
        optimizers.from_config({"name": "RMSprop", "config": {}})
    with pytest.raises(ValueError, match='a dictionary with "name" and "config"'):
        optimizers.from_config({"name": "SGD"})

    class Own(optimizers.SGD):
        pass

    assert optimizers.to_config(Own()) is None


# ---- what is public and may be replaced ----


@pytest.mark.parametrize(
    "slot",
    [np.zeros(3, np.float32), np.zeros(0, np.float32), np.zeros(64), np.zeros((1, 64), np.float32), None, [0.0] * 64],
    ids=["short", "empty", "dtype", "shape", "None", "list"],
)
@pytest.mark.parametrize(
    ("make", "name"),
    [(lambda: optimizers.SGD(0.1, momentum=0.9), "velocity"), (optimizers.Adam, "m"), (optimizers.AdamW, "v")],
)
def test_slots_of_another_kind_are_refused(make, name, slot):
    """They would be written beside, or be taken for no momentum at all.  Also where ``Values`` was got around."""
    optimizer, w, g = make(), np.ones(64, np.float32), np.ones(64, np.float32)
    optimizer.bind(w, g, [("0.kernel", 0, 64, True, True)])
    optimizer.step()
    before, good = w.copy(), optimizer.slots[name]
    for change in (lambda: dict.__setitem__(optimizer.slots, name, slot), lambda: dict.clear(optimizer.slots)):
        change()
        with pytest.raises(ValueError, match=r"\.step: slots\['\w+'\] must be an array"):
            optimizer.step()
    assert optimizer.iterations == 1
    np.testing.assert_array_equal(w, before)
    assert good.shape == (64,)


@pytest.mark.parametrize("offset", [-1, 10**7, 61])
def test_constraints_beside_the_parameters(offset):
    optimizer, w = optimizers.SGD(), np.ones(64, np.float32)
    with pytest.raises(ValueError, match="must lie within the 64 parameters"):
        optimizer.bind(w, w.copy(), [("k", 0, 64, True, True)], None, [("k", constraints.MaxNorm(1), offset, (2, 2))])
    with pytest.raises(ValueError, match="must lie within the 64 parameters"):
        optimizer.bind(w, w.copy(), [("k", 0, 64, True, True)], None, [("k", constraints.MaxNorm(1), 0, (9, 9))])


def test_counts_of_steps_that_would_overflow():
    optimizer, w = optimizers.SGD(), np.ones(64, np.float32)
    optimizer.bind(w, w.copy(), [("k", 0, 64, True, True)])
    with pytest.raises(ValueError, match="iterations must be a whole number"):
        optimizer.set_state({"iterations": 2**62})
    optimizer.set_state({"iterations": 2**62 - 1})
    optimizer.step()
    assert optimizer.iterations == 2**62
