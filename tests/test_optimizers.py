"""Optimisers against steps computed by hand and against a literal transcription of their formulas; schedules."""

import copy
import inspect
import json
import math
import pickle

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from running import use_threads

import minicnn as mc
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


METHOD_CLASSES = [
    optimizers.SGD,
    optimizers.Adam,
    optimizers.AdamW,
    optimizers.Nadam,
    optimizers.Adamax,
    optimizers.RMSprop,
    optimizers.Adagrad,
    optimizers.Adadelta,
]
METHODS = {  # every method of the kernel, and all that RMSprop may remember
    "sgd": optimizers.SGD,
    "momentum": lambda *a, **k: optimizers.SGD(*a, momentum=0.9, **k),
    "nesterov": lambda *a, **k: optimizers.SGD(*a, momentum=0.9, nesterov=True, **k),
    "adam": optimizers.Adam,
    "amsgrad": lambda *a, **k: optimizers.Adam(*a, amsgrad=True, **k),
    "nadam": optimizers.Nadam,
    "adamax": optimizers.Adamax,
    "rmsprop": optimizers.RMSprop,
    "rmsprop with momentum": lambda *a, **k: optimizers.RMSprop(*a, momentum=0.9, **k),
    "rmsprop, centered": lambda *a, **k: optimizers.RMSprop(*a, centered=True, **k),
    "rmsprop with both": lambda *a, **k: optimizers.RMSprop(*a, momentum=0.9, centered=True, **k),
    "adagrad": optimizers.Adagrad,
    "adadelta": optimizers.Adadelta,
}


def test_every_method_is_among_them():
    assert set(optim.METHODS) <= set(METHODS)
    assert set(optimizers._CLASSES.values()) == set(METHOD_CLASSES)


# ---- against the formulas ----

CASES = [  # of the same names in minicnn and in reference.py
    *[("SGD", arguments) for arguments in (
        {}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"nesterov": True}, {"weight_decay": 0.1},
        {"momentum": 0.5, "weight_decay": 0.2, "clipnorm": 0.7}, {"clipvalue": 0.3, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "clipnorm": 1e9},
        {"momentum": 0.9, "clipvalue": 0.3}, {"momentum": 0.9, "nesterov": True, "clipvalue": 0.3},
    )],
    *[(name, arguments) for name in ("Adam", "AdamW", "Nadam", "Adamax") for arguments in (
        {"weight_decay": None}, {"beta_1": 0.0, "beta_2": 0.5}, {"epsilon": 0.5, "weight_decay": 0.2},
        {"beta_1": 0.8, "weight_decay": 0.1, "clipnorm": 0.7}, {"clipvalue": 0.3, "weight_decay": None},
    )],
    ("Adam", {"amsgrad": True, "beta_2": 0.5}),
    ("AdamW", {"amsgrad": True, "beta_2": 0.7, "clipvalue": 0.3}),
    *[("RMSprop", {"momentum": momentum, "centered": centered, **more}) for momentum in (0.0, 0.8)
      for centered in (False, True) for more in ({}, {"rho": 0.5, "weight_decay": 0.1, "clipnorm": 0.7})],
    ("RMSprop", {"epsilon": 0.5, "clipvalue": 0.3}),
    ("Adagrad", {}), ("Adagrad", {"initial_accumulator_value": 0.0, "weight_decay": 0.1, "clipnorm": 0.7}),
    ("Adagrad", {"epsilon": 0.5, "clipvalue": 0.3}),
    ("Adadelta", {}), ("Adadelta", {"rho": 0.5, "epsilon": 0.01, "weight_decay": 0.1, "clipnorm": 0.7}),
    ("Adadelta", {"clipvalue": 0.3}),
]  # fmt: skip


def twin(name, w, gradients, rate, **arguments):
    if name == "AdamW":
        name, arguments = "Adam", {"weight_decay": 0.004, **arguments}
    return getattr(reference, name.lower())(w, gradients, rate, **arguments)


def steps_of(optimizer, w, gradients, segments=None):
    """The parameters after a step with each of the gradients."""
    parameters, place = bound(optimizer, w, segments)
    for g in gradients:
        place[...] = g
        optimizer.step()
        assert_same_bits(place, np.asarray(g, place.dtype))
    assert optimizer.iterations == len(gradients)
    return parameters


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_against_the_formula(name, arguments, dtype):
    w, steps = random_steps(37, 6, dtype)
    parameters = steps_of(getattr(optimizers, name)(0.05, **arguments), w, steps)
    # centred, the root is one of a difference, whose error is that of what is subtracted
    loss = 20 if arguments.get("centered") else 1
    want = twin(name, w, steps, 0.05, **arguments)
    assert_close(parameters, want, loss * tolerance(dtype, 6), dtype)
    assert np.abs(want - w).max() > 1e-3 or name == "Adadelta"


@pytest.mark.parametrize("name", ["Nadam", "Adam"])
def test_many_steps(name):
    """Nadam's products come from a table, which ends."""
    w, steps = random_steps(3, 2500, np.float64)
    assert_close(steps_of(getattr(optimizers, name)(0.01), w, steps), twin(name, w, steps, 0.01), 1e-9)
    w, steps = w.astype(np.float32), steps.astype(np.float32)
    assert_close(steps_of(getattr(optimizers, name)(0.01), w, steps), twin(name, w, steps, 0.01), 1e-4)


TORCH = [  # ours, with its arguments; torch's, with its own: where the formulas agree
    ("SGD", {"momentum": 0.9}, "SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True}, "SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adam", {}, "Adam", {}),
    ("Adam", {"amsgrad": True, "beta_2": 0.5}, "Adam", {"amsgrad": True, "betas": (0.9, 0.5)}),
    ("AdamW", {"weight_decay": 0.2}, "AdamW", {"weight_decay": 0.2}),
    ("Nadam", {}, "NAdam", {"momentum_decay": 1.0}),
    ("Adamax", {}, "Adamax", {}),
    ("RMSprop", {}, "RMSprop", {"alpha": 0.9}),
    ("RMSprop", {"momentum": 0.5, "centered": True}, "RMSprop", {"alpha": 0.9, "momentum": 0.5, "centered": True}),
    ("Adagrad", {"initial_accumulator_value": 0.3}, "Adagrad", {"initial_accumulator_value": 0.3}),
    ("Adadelta", {"rho": 0.9, "epsilon": 1e-6}, "Adadelta", {"rho": 0.9, "eps": 1e-6}),
]


@pytest.mark.parametrize(("name", "arguments", "theirs", "their_arguments"), TORCH)
def test_against_torch(name, arguments, theirs, their_arguments):
    torch = pytest.importorskip("torch")
    w, steps = random_steps(37, 6, np.float64)
    small = {} if name in ("SGD", "Adadelta") else {"epsilon": 1e-20}  # what stands elsewhere there
    parameter = torch.nn.Parameter(torch.from_numpy(w.copy()))
    their_small = {"eps": 1e-20} if small else {}
    optimizer = getattr(torch.optim, theirs)([parameter], lr=0.05, **their_small, **their_arguments)
    for g in steps:
        parameter.grad = torch.from_numpy(g.copy())
        optimizer.step()
    parameters = steps_of(getattr(optimizers, name)(0.05, **small, **arguments), w, steps)
    assert_close(parameters, parameter.detach().numpy(), 1e-9)


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


def test_nadam_by_hand():
    # beta_1 = 0.5, beta_2 = 0.75, rate 0.1, gradient 2 at t = 1, epsilon as good as 0:
    # u_1 = 0.5 (1 - 0.48) = 0.26, u_2 = 0.5 (1 - 0.4608) = 0.2696, U_1 = 0.26, U_2 = 0.070096; m = 1, v / 0.25 = 4.
    want = 1 - 0.1 * (0.2696 * 1 / (1 - 0.070096) + 0.74 * 2 / 0.74) / 2
    assert follow(optimizers.Nadam(0.1, 0.5, 0.75, epsilon=1e-15), [2]) == pytest.approx([want], rel=1e-12)


def test_adamax_by_hand():
    # beta_1 = 0.5, beta_2 = 0.75: m = 1, u = 2: 1 - 0.1 / 0.5 * 1 / 2 = 0.9;
    # then gradient 1: m = 1, u = max(1.5, 1): 0.9 - 0.1 / 0.75 / 1.5.
    want = [0.9, 0.9 - 0.1 / 0.75 / 1.5]
    assert follow(optimizers.Adamax(0.1, 0.5, 0.75, epsilon=1e-15), [2, 1]) == pytest.approx(want, rel=1e-12)


def test_amsgrad_by_hand():
    # beta_1 = 0, beta_2 = 0.5, gradients 2 and 0.2: v = 2, then 1.02; v_hat stays 2.
    want = [0.9, 0.9 - 0.1 * math.sqrt(0.75) * 0.2 / math.sqrt(2)]
    found = follow(optimizers.Adam(0.1, 0, 0.5, 1e-15, amsgrad=True), [2, 0.2])
    assert found == pytest.approx(want, rel=1e-12)


def test_rmsprop_by_hand():
    # rho = 0.75, epsilon 5 under the root, gradient 4: velocity = 4, 4 / sqrt(4 + 5) = 4 / 3.
    assert follow(optimizers.RMSprop(0.3, 0.75, epsilon=5), [4]) == pytest.approx([1 - 0.4], rel=1e-14)
    # With momentum 0.5 a second step, gradient 0: velocity = 3, momentum = 0.2.
    assert follow(optimizers.RMSprop(0.3, 0.75, 0.5, 5), [4, 0]) == pytest.approx([0.6, 0.4], rel=1e-14)
    # Centred: average 1, 4 - 1 + 1 = 4 under the root.
    assert follow(optimizers.RMSprop(0.3, 0.75, 0, 1, True), [4]) == pytest.approx([1 - 0.6], rel=1e-14)


def test_adagrad_and_adadelta_by_hand():
    # 7 + 3^2 = 16 under the root, then 16 + 33 = 49.
    want = [1 - 0.1 * 3 / 4, 1 - 0.1 * 3 / 4 - 0.1 * math.sqrt(33) / 7]
    assert follow(optimizers.Adagrad(0.1, 7, 1e-15), [3, math.sqrt(33)]) == pytest.approx(want, rel=1e-12)
    # rho = 0.5, epsilon = 1: accumulated_grad = 8, change = 1 / 3 * 4; the mean of its square 8 / 9; then gradient 0.
    optimizer = optimizers.Adadelta(0.3, 0.5, 1)
    assert follow(optimizer, [4]) == pytest.approx([1 - 0.4], rel=1e-14)
    assert optimizer.slots["accumulated_delta_var"][0] == pytest.approx(8 / 9, rel=1e-14)
    assert optimizer.slots["accumulated_grad"][0] == 8


def test_rmsprop_centered_at_a_constant_gradient():
    """The variance goes to 0, and what rounding makes of it must not be the root of a negative number."""
    g = np.linspace(1e3, 1e5, 64, dtype=np.float32)
    optimizer = optimizers.RMSprop(1e-3, centered=True)
    parameters = steps_of(optimizer, np.zeros(64, np.float32), [10 * g] * 3 + [g] * 400)
    assert (optimizer.slots["velocity"] < optimizer.slots["average_gradient"].astype(np.float64) ** 2).any()
    assert np.isfinite(parameters).all()


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


def test_clipping_by_value():
    optimizer = optimizers.SGD(1.0, clipvalue=2)
    assert_close(steps_of(optimizer, np.zeros(6), [[3, -5, 2, -2, 0.5, np.inf]]), [-2, 2, -2, 2, -0.5, -2], 1e-15)
    optimizer.clipvalue = 0.25  # from the next step on
    optimizer.step()
    assert optimizer.get_config()["clipvalue"] == 0.25
    optimizer.clipvalue = None
    optimizer.clipnorm = 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", METHODS)
def test_clipping_makes_no_number_of_a_nan(name, dtype):
    optimizer = METHODS[name](0.1, clipvalue=0.5)
    w = np.ones(40, dtype)
    g = np.full(40, 0.1, dtype)
    g[[3, 17, 39]] = np.nan
    parameters = steps_of(optimizer, w, [g])
    assert np.isnan(parameters).nonzero()[0].tolist() == [3, 17, 39]


def test_global_clipnorm_is_clipnorm():
    """Keras's word for it; and of the three words one may be given."""
    optimizer = optimizers.RMSprop(global_clipnorm=2)
    assert optimizer.clipnorm == optimizer.global_clipnorm == optimizer.get_config()["clipnorm"] == 2
    assert "global_clipnorm" not in optimizer.get_config()
    optimizer.global_clipnorm = 3
    assert optimizer.clipnorm == 3
    optimizer.global_clipnorm = None
    assert optimizer.clipnorm is None
    with pytest.raises(ValueError, match="SGD: global_clipnorm must be a number > 0; got -1"):
        optimizers.SGD(global_clipnorm=-1)


@pytest.mark.parametrize("make", METHOD_CLASSES)
def test_one_way_of_clipping(make):
    words = {"clipnorm": 1, "clipvalue": 2, "global_clipnorm": 3}
    for left in words:
        two = {word: value for word, value in words.items() if word != left}
        with pytest.raises(ValueError, match="only one of clipnorm, clipvalue and global_clipnorm may be given; got"):
            make(**two)
    for word, other in (("clipnorm", "clipvalue"), ("clipvalue", "clipnorm"), ("clipvalue", "global_clipnorm")):
        optimizer = make(**{word: 1})
        with pytest.raises(ValueError, match="only one of"):
            setattr(optimizer, other, 2)
        assert (optimizer.clipnorm, optimizer.clipvalue) == ((1, None) if word == "clipnorm" else (None, 1))


# ---- segments ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", METHOD_CLASSES)
def test_only_the_trainable_segments_change(make, dtype):
    w, steps = random_steps(LENGTH, 2, dtype)
    optimizer = make(0.1, weight_decay=0.3, clipvalue=1.5)
    parameters = steps_of(optimizer, w, steps, SEGMENTS)
    want = w.astype(np.float64)
    for _, offset, size, trainable, decayed in SEGMENTS:
        part = slice(offset, offset + size)
        if trainable:
            common = {"weight_decay": 0.3 if decayed else None, "clipvalue": 1.5}
            want[part] = twin(make.__name__, w[part], steps[:, part], 0.1, **common)
    assert_close(parameters, want, tolerance(dtype, 2), dtype)
    for untouched in (slice(10, 13), slice(17, 22)):
        assert_same_bits(parameters[untouched], w[untouched])
        for name, slot in optimizer.slots.items():
            assert (slot[untouched] == (dtype(0.1) if name == "accumulator" else 0)).all()


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
        lambda: optimizers.Adam(amsgrad=True),
        optimizers.Nadam,
        optimizers.Adamax,
        lambda: optimizers.RMSprop(momentum=0.5, centered=True, clipvalue=0.5),
        optimizers.Adagrad,
        optimizers.Adadelta,
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
@pytest.mark.parametrize("make", METHOD_CLASSES)
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
        (optimizers.AdamW(amsgrad=True), ["m", "v", "v_hat"]),
        (optimizers.Nadam(), ["m", "v"]),
        (optimizers.Adamax(), ["m", "u"]),
        (optimizers.RMSprop(), ["velocity"]),
        (optimizers.RMSprop(momentum=0.5, centered=True), ["average_gradient", "momentum", "velocity"]),
        (optimizers.Adadelta(), ["accumulated_delta_var", "accumulated_grad"]),
    ):
        bound(optimizer, np.ones(3, np.float32))
        assert sorted(optimizer.slots) == names
        for slot in optimizer.slots.values():
            assert_same_bits(slot, np.zeros(3, np.float32))


def test_adagrads_slot_begins_with_its_value():
    optimizer = optimizers.Adagrad(initial_accumulator_value=2.5)
    bound(optimizer, np.ones(3, np.float32))
    assert_same_bits(optimizer.slots["accumulator"], np.full(3, 2.5, np.float32))


@pytest.mark.parametrize(
    ("make", "choice", "slot"),
    [
        (optimizers.SGD, {"momentum": 0.5}, "velocity"),
        (optimizers.RMSprop, {"momentum": 0.5}, "momentum"),
        (optimizers.RMSprop, {"centered": True}, "average_gradient"),
        (optimizers.Adam, {"amsgrad": True}, "v_hat"),
    ],
)
def test_what_is_remembered_may_be_chosen_while_training(make, choice, slot):
    """The slot comes, with zeros, and goes; all others stay."""
    optimizer = make(0.1)
    _, gradients = bound(optimizer, np.ones(3))
    gradients[...] = 1
    optimizer.step()
    before = optimizer.get_state()
    ((name, value),) = choice.items()
    setattr(optimizer, name, value)
    assert not optimizer.slots[slot].any()
    optimizer.step()
    assert optimizer.slots[slot].any()
    assert set(optimizer.slots) == {slot, *before} - {"iterations"}
    setattr(optimizer, name, type(value)(0))
    assert set(optimizer.slots) == set(before) - {"iterations"}


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


def make_trained(make=optimizers.Adam):
    optimizer = make(0.1, clipnorm=3.0)
    parameters, gradients = bound(optimizer, np.linspace(-1, 1, 10), SEGMENTS[:2])
    for step in range(3):
        gradients[...] = np.cos(np.arange(10) + step)
        optimizer.step()
    return optimizer, parameters, gradients


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "state"])
@pytest.mark.parametrize("method", METHODS)
def test_copies_go_on_with_the_same_bits(how, method):
    optimizer, parameters, gradients = make_trained(METHODS[method])
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


@pytest.mark.parametrize("make", METHOD_CLASSES)
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
    inverse = optimizers.InverseTimeDecay(0.8, 10, 2.0)
    assert [inverse(step) for step in (0, 5, 10, 35)] == pytest.approx([0.8, 0.4, 0.8 / 3, 0.1], rel=1e-15)
    stairs = optimizers.InverseTimeDecay(0.8, 10, 2.0, staircase=True)
    assert [stairs(step) for step in (0, 9, 10, 19, 30)] == pytest.approx([0.8, 0.8, 0.8 / 3, 0.8 / 3, 0.8 / 7])
    pieces = optimizers.PiecewiseConstantDecay([10, 20], [1.0, 0.5, 0.1])
    assert [pieces(step) for step in (0, 10, 11, 20, 21, 999)] == [1.0, 1.0, 0.5, 0.5, 0.1, 0.1]


def test_a_warm_up():
    warm = optimizers.CosineDecay(1.0, 100, 0.1, warmup_target=3.0, warmup_steps=10)
    assert [warm(step) for step in (0, 5, 9)] == pytest.approx([1, 2, 2.8], rel=1e-14)
    decay = optimizers.CosineDecay(3.0, 100, 0.1)
    assert [warm(10 + step) for step in (0, 1, 50, 100, 999)] == [decay(step) for step in (0, 1, 50, 100, 999)]
    down = optimizers.CosineDecay(1.0, 100, warmup_target=0.5, warmup_steps=2)
    assert [down(step) for step in (0, 1, 2)] == [1.0, 0.75, 0.5]


def test_a_warm_up_into_any_schedule():
    """A straight line to what follows, which goes on as if it had always been there."""
    decay = optimizers.ExponentialDecay(1.0, 10, 0.5)
    warm = optimizers.LinearWarmup(decay, 10, 0.1)
    assert [warm(step) for step in (0, 5, 9)] == pytest.approx([0.1, 0.3, 0.46], rel=1e-14)
    assert [warm(step) for step in (10, 11, 99)] == [decay(step) for step in (10, 11, 99)]
    plain = optimizers.LinearWarmup(2.0, 4)
    assert [plain(step) for step in (0, 1, 3, 4, 99)] == [0, 0.5, 1.5, 2, 2]


def test_steps_down():
    steps = optimizers.StepLR(0.8, 10, 0.5)
    assert [steps(step) for step in (0, 9, 10, 19, 20)] == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2], rel=1e-15)
    assert optimizers.StepLR(1.0, 1)(2) == pytest.approx(0.01)


def cycle_of_torch(step, top, steps, share, div, final, three):
    """torch's OneCycleLR, written from its source: phases [end, from, to], cosine."""
    first = top / div
    phases = [[share * steps - 1, first, top], [steps - 1, top, first / final]]
    if three:
        phases = [phases[0], [2 * share * steps - 2, top, first], [steps - 1, first, first / final]]
    start = 0.0
    for end, a, b in phases:
        if step <= end or end == steps - 1:
            return b + (a - b) / 2 * (1 + math.cos(math.pi * (step - start) / (end - start)))
        start = end


@pytest.mark.parametrize("three", [False, True])
def test_one_cycle_is_that_of_torch(three):
    for given in ((1.0, 10, 0.3, 25.0, 1e4), (0.5, 97, 0.41, 10.0, 100.0), (2.0, 4, 0.1, 25.0, 1e4)):
        top, steps, share, div, final = given
        schedule = optimizers.OneCycleLR(top, steps, share, "cos", div, final, three)
        for step in range(steps):
            assert schedule(step) == pytest.approx(cycle_of_torch(step, *given, three), rel=1e-12), step
        assert schedule(steps) == schedule(10 * steps) == top / div / final
    line = optimizers.OneCycleLR(1.0, 21, 6 / 21, "linear", 2.0, 5.0)
    assert [line(step) for step in (0, 1, 5, 20)] == pytest.approx([0.5, 0.6, 1.0, 0.1])
    assert optimizers.OneCycleLR(1.0, 10)(2) == 1.0
    assert optimizers.OneCycleLR(1.0, 1)(0) == 1 / 25e4


@pytest.mark.parametrize("t_mul", [1, 1.5, 2, 3.7, 1000])
def test_restarts(t_mul):
    """Periods one after the other, each a CosineDecay of its own."""
    schedule = optimizers.CosineDecayRestarts(0.8, 10, t_mul, m_mul=0.5, alpha=0.1)
    begin, length, height = 0.0, 10.0, 1.0
    for _ in range(6):
        for step in {math.ceil(begin), math.ceil(begin) + 1, int(begin + length / 3), math.ceil(begin + length) - 1}:
            share = (step - begin) / length
            want = 0.8 * (0.9 * height * (1 + math.cos(math.pi * share)) / 2 + 0.1)
            assert schedule(step) == pytest.approx(want, rel=1e-9), step
        begin, length, height = begin + length, length * t_mul, height / 2
    assert schedule(0) == pytest.approx(0.8)
    assert schedule(10) == pytest.approx(0.8 * 0.55)  # the first restart


def test_restarts_at_the_ends():
    near_one = optimizers.CosineDecayRestarts(1.0, 1, 1 + 2**-52)
    assert all(0 <= near_one(step) <= 1 for step in (0, 1, 5, 10**6, 2**62))
    assert 0 <= optimizers.CosineDecayRestarts(1.0, 1, 1000)(2**62) <= 1
    grows = optimizers.CosineDecayRestarts(1.0, 1, 1, m_mul=10)
    assert grows(3) == pytest.approx(1000)
    for step in (400, 2**62):
        with pytest.raises(ValueError, match=f"CosineDecayRestarts: the rate of step {step} must be finite; got inf"):
            grows(step)
    assert optimizers.CosineDecayRestarts(0.0, 1, 1, m_mul=10)(400) == 0


def test_schedules_have_kerass_path():
    assert mc.optimizers.schedules.CosineDecay is mc.schedules.CosineDecay is optimizers.CosineDecay
    assert mc.optimizers.schedules.InverseTimeDecay is optimizers.InverseTimeDecay


SCHEDULES = [
    optimizers.CosineDecay(0.5, 100, 0.1, 2.0, 10),
    optimizers.CosineDecayRestarts(0.5, 3, 1.5, 0.9, 0.1),
    optimizers.InverseTimeDecay(0.5, 3, 0.7, True),
    optimizers.ExponentialDecay(0.8, 10, 0.5, True),
    optimizers.CosineDecay(2.0, 100, 0.1),
    optimizers.PiecewiseConstantDecay((10, 20), (1, 0.5, 0.1)),
    optimizers.StepLR(0.8, 10, 0.5),
    optimizers.LinearWarmup(optimizers.LinearWarmup(optimizers.StepLR(0.8, 10), 5, 0.1), 3),
    optimizers.LinearWarmup(0.8, 5),
    optimizers.OneCycleLR(0.8, 20, 0.4, "linear", 10.0, 100.0, True),
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


@pytest.mark.parametrize("make", METHOD_CLASSES)
@pytest.mark.parametrize("argument", ["learning_rate", "weight_decay", "clipnorm", "clipvalue"])
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
        (optimizers.Adam, {"amsgrad": 0.01}, TypeError, "Adam: amsgrad must be True or False"),
        (optimizers.RMSprop, {"rho": 1}, ValueError, r"RMSprop: rho must be a number in \[0, 1\)"),
        (optimizers.RMSprop, {"momentum": -0.1}, ValueError, "RMSprop: momentum"),
        (optimizers.RMSprop, {"centered": 1}, TypeError, "RMSprop: centered must be True or False"),
        (optimizers.RMSprop, {"epsilon": 0}, ValueError, "RMSprop: epsilon must be a number >= 1e-30"),
        (optimizers.Adagrad, {"initial_accumulator_value": -1}, ValueError, r"must be a number in \[0, 1e\+30\]"),
        (optimizers.Adadelta, {"rho": math.nan}, ValueError, "Adadelta: rho"),
        (optimizers.Nadam, {"beta_1": 1}, ValueError, "Nadam: beta_1"),
        (optimizers.SGD, {"use_ema": True}, TypeError, "got `use_ema`. No moving average of weights is kept"),
        (optimizers.Adam, {"gradient_accumulation_steps": 2}, TypeError, "Gradients are not accumulated"),
        (optimizers.Adam, {"loss_scale_factor": 2}, TypeError, "Losses are not scaled"),
        (optimizers.Adam, {"lr": 2}, TypeError, "Did you mean `learning_rate`"),
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
        (
            optimizers.CosineDecay,
            (1, 2, 0, 0.5),
            ValueError,
            "warmup_target and warmup_steps need each other; got warm",
        ),
        (optimizers.CosineDecay, (1, 2, 0, None, 3), ValueError, "warmup_target=None, warmup_steps=3"),
        (optimizers.CosineDecay, (1, 2, 0, -1, 3), ValueError, "warmup_target must be a number >= 0"),
        (optimizers.CosineDecayRestarts, (1, 0), ValueError, "first_decay_steps must be a whole number >= 1"),
        (optimizers.CosineDecayRestarts, (1, 1, 0.5), ValueError, r"t_mul must be a number in \[1, 1000\]"),
        (optimizers.CosineDecayRestarts, (1, 1, 2, 0), ValueError, "m_mul must be a number > 0"),
        (optimizers.InverseTimeDecay, (1, 1, -1), ValueError, "decay_rate must be a number >= 0"),
        (optimizers.InverseTimeDecay, (1, 1, 1, 0), TypeError, "staircase must be True or False"),
        (optimizers.StepLR, (1, 0), ValueError, "step_size must be a whole number >= 1"),
        (optimizers.StepLR, (1, 1, 1.5), ValueError, r"gamma must be a number in \(0, 1\]"),
        (optimizers.LinearWarmup, (1, 0), ValueError, "warmup_steps must be a whole number >= 1"),
        (optimizers.LinearWarmup, ("cosine", 1), TypeError, "after_warmup_lr_sched must be a number >= 0"),
        (optimizers.LinearWarmup, ({"name": "x"}, 1), ValueError, "LinearWarmup: after_warmup_lr_sched: config"),
        (optimizers.OneCycleLR, (1, 0), ValueError, "total_steps must be a whole number >= 1"),
        (optimizers.OneCycleLR, (1, 9, 0.6, "cos", 25, 1e4, True), ValueError, "pct_start must be at most 0.5 with th"),
        (optimizers.OneCycleLR, (1, 9, 1.0), ValueError, r"pct_start must be a number in \(0, 1\)"),
        (optimizers.OneCycleLR, (1, 9, 0.3, "cosine"), ValueError, "anneal_strategy .*Did you mean 'cos'"),
        (optimizers.PiecewiseConstantDecay, ([2, 2], [1, 1, 1]), ValueError, r"boundaries must grow; got \[2, 2\]"),
        (optimizers.PiecewiseConstantDecay, ([2], [1]), ValueError, "one more entry than the 1 boundaries"),
        (optimizers.PiecewiseConstantDecay, (2, [1]), TypeError, "boundaries must be a list"),
        (optimizers.PiecewiseConstantDecay, ([], [-1]), ValueError, "a value must be a number >= 0"),
    ],
)
def test_wrong_schedules(make, arguments, error, match):
    with pytest.raises(error, match=match):
        make(*arguments)


def test_a_schedule_of_ones_own_after_a_warm_up_is_in_no_file():
    class Own(optimizers.Schedule):
        def __call__(self, step):
            return -1.0 if step > 5 else 1.0

    warm = optimizers.LinearWarmup(Own(), 3)
    assert optimizers.to_config(optimizers.SGD(warm)) is None
    assert warm(4) == 1.0
    with pytest.raises(ValueError, match=r"^LinearWarmup: Own: the rate of step 6 must be a number >= 0"):
        warm(6)


def test_wrong_exclusions():
    for names in ("bias", [1], None):
        with pytest.raises(TypeError, match=r"SGD\.exclude_from_weight_decay: var_names must be a list of strings"):
            optimizers.SGD().exclude_from_weight_decay(names)


def test_defaults_and_their_order_are_kerass():
    """As in its 3.15; ``clipnorm`` stands for what is ``global_clipnorm`` there."""
    clips, moments = {"clipnorm": None, "clipvalue": None}, {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
    rate, end = {"learning_rate": 0.001}, {"weight_decay": None, **clips}
    for optimizer, want in (
        (optimizers.SGD(), {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False, **end}),
        (optimizers.Adam(), {**rate, **moments, "amsgrad": False, **end}),
        (optimizers.AdamW(), {**rate, "weight_decay": 0.004, **moments, "amsgrad": False, **clips}),
        (optimizers.Nadam(), {**rate, **moments, **end}),
        (optimizers.Adamax(), {**rate, **moments, **end}),
        (optimizers.RMSprop(), {**rate, "rho": 0.9, "momentum": 0.0, "epsilon": 1e-7, "centered": False, **end}),
        (optimizers.Adagrad(), {**rate, "initial_accumulator_value": 0.1, "epsilon": 1e-7, **end}),
        (optimizers.Adadelta(), {**rate, "rho": 0.95, "epsilon": 1e-7, **end}),
    ):
        assert list(optimizer.get_config().items()) == list(want.items())
        assert list(inspect.signature(type(optimizer)).parameters) == [*want, "global_clipnorm"]


def test_lr_is_told_learning_rate():
    optimizer = optimizers.SGD(0.1)
    for use in (lambda: optimizer.lr, lambda: setattr(optimizer, "lr", 0.2)):
        with pytest.raises(AttributeError, match=r"^SGD: .*; got lr\. Did you mean `learning_rate`\?$"):
            use()
    assert not hasattr(optimizer, "lr")
    with pytest.raises(AttributeError, match="has no attribute 'anything'"):
        _ = optimizer.anything


@pytest.mark.parametrize("make", METHOD_CLASSES)
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
        optimizers.from_config({"name": "Lion", "config": {}})
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
    [
        (lambda: optimizers.SGD(0.1, momentum=0.9), "velocity"),
        (optimizers.Adam, "m"),
        (optimizers.AdamW, "v"),
        (lambda: optimizers.Adam(amsgrad=True), "v_hat"),
    ],
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
