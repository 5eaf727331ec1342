"""Schedules that go by the run: their formulas, what they refuse, and how ``fit`` and files tell them where they are.

(The others are tested with the optimisers, and what every dropout layer makes of a schedule in test_noise.py.)
"""

import copy
import json
import math
import os
import pickle
import warnings

import numpy as np
import pytest
from running import normal, use_threads

import minicnn as mc
from minicnn import layers, optimizers, schedules
from minicnn.schedules import CurriculumDropout, EarlyDropout, LateDropout

X, Y = normal((60, 8)), np.arange(60) % 3
FIT = {"batch_size": 10, "verbose": 0}  # 6 steps an epoch
ALL = [EarlyDropout(0.5, 0.4), EarlyDropout(0.5, 0.4, linear=True), LateDropout(0.5, 0.4), CurriculumDropout(0.5)]
every_one = pytest.mark.parametrize("schedule", ALL, ids=repr)


def model_of(rate, **more):
    model = mc.Sequential([layers.Dense(40), layers.Dropout(rate, **more), layers.Dense(3)], seed=2)
    model.compile(mc.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    return model


class Rates(mc.callbacks.Callback):
    """The rate of every step."""

    def on_train_begin(self, logs=None):
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.model.layers[1].current_rate)


def rates_of(model, **fit):
    rates = Rates()
    model.fit(X, Y, **FIT, **fit, callbacks=[rates])
    return rates.seen


def sampled(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # early dropout is over: all samples are equal
        return model.predict_mc(X, 2).mean


# ---- the formulas ----


def test_early_dropout_by_hand():
    assert [EarlyDropout(0.5, 0.3, total_steps=10)(step) for step in (0, 2, 3, 9, 10, 99)] == [0.5, 0.5, 0, 0, 0, 0]
    line = EarlyDropout(0.5, 0.4, linear=True, total_steps=10)
    assert [line(step) for step in range(6)] == pytest.approx([0.5, 0.375, 0.25, 0.125, 0, 0])
    assert [EarlyDropout(0.5, 1, total_steps=4)(step) for step in (0, 3)] == [0.5, 0.5]
    for linear in (False, True):
        assert EarlyDropout(0.5, 0, linear, total_steps=4)(0) == 0


def test_late_dropout_by_hand():
    assert [LateDropout(0.5, 0.3, total_steps=10)(step) for step in (0, 2, 3, 9, 10, 99)] == [0, 0, 0.5, 0.5, 0.5, 0.5]
    assert LateDropout(0.5, 0, total_steps=4)(0) == 0.5


def test_curriculum_dropout_by_hand():
    """With the letters of the paper: theta(t) = (1 - p) exp(-gamma t) + p of the units are kept, gamma = 10 / T."""
    T, p = 1000, 0.5
    schedule = CurriculumDropout(1 - p, total_steps=T)
    for t in (0, 1, 70, 500, 1000):
        assert 1 - schedule(t) == pytest.approx((1 - p) * math.exp(-10 / T * t) + p, rel=1e-12)
    assert schedule(0) == 0
    assert schedule(70) > 0.25 > schedule(69)  # half of the rate after 7 % of the run
    assert schedule(5000) == schedule(1000) > 0.5 - 5e-5 / 2
    assert CurriculumDropout(0.5, gamma=1, total_steps=10)(5) == pytest.approx(0.5 * (1 - math.exp(-0.5)))


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: EarlyDropout(1.5, 0.5), ValueError, r"EarlyDropout: rate must be a number in \[0, 1\]; got 1.5"),
    (lambda: EarlyDropout(0.5, -0.1), ValueError, r"EarlyDropout: fraction must be a number in \[0, 1\]; got -0.1"),
    (lambda: EarlyDropout(0.5, 50), ValueError, r"EarlyDropout: fraction must be a number in \[0, 1\]; got 50"),
    (lambda: EarlyDropout(0.5, math.nan), ValueError, r"EarlyDropout: fraction must .*; got nan"),
    (lambda: EarlyDropout("0.5", 0.5), TypeError, r"EarlyDropout: rate must be a number"),
    (lambda: EarlyDropout(0.5, 0.5, 1), TypeError, r"EarlyDropout: linear must be True or False"),
    (lambda: EarlyDropout(0.5, 0.5, total_steps=0), ValueError, r"EarlyDropout: total_steps must be .* >= 1"),
    (lambda: LateDropout(0.5, True), TypeError, r"LateDropout: fraction must be a number in \[0, 1\]"),
    (lambda: LateDropout(math.inf, 0.5), ValueError, r"LateDropout: rate must be a number in \[0, 1\]; got inf"),
    (lambda: LateDropout(0.5, 0.5, 2.5), TypeError, r"LateDropout: total_steps must be a whole number"),
    (lambda: CurriculumDropout(-0.5), ValueError, r"CurriculumDropout: rate must be a number in \[0, 1\]"),
    (lambda: CurriculumDropout(0.5, 0), ValueError, r"CurriculumDropout: gamma must be a number > 0; got 0"),
    (lambda: CurriculumDropout(0.5, math.inf), ValueError, r"CurriculumDropout: gamma must be .*; got inf"),
    (lambda: schedules.RunSchedule().at(0), NotImplementedError, "RunSchedule has no at"),
])  # fmt: skip
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()


@every_one
@pytest.mark.parametrize("total_steps", [None, 7])
def test_they_are_described_by_their_arguments(schedule, total_steps):
    schedule = type(schedule)(**{**schedule.get_config(), "total_steps": total_steps})
    config = json.loads(json.dumps(schedules.to_config(schedule)))
    for again in (
        schedules.from_config("here", config),
        pickle.loads(pickle.dumps(schedule)),
        copy.deepcopy(schedule),
        eval(repr(schedule), vars(schedules)),
    ):
        assert schedules.to_config(again) == config
        assert [again.at(share / 9) for share in range(10)] == [schedule.at(share / 9) for share in range(10)]


# ---- the run ----


@every_one
def test_the_run_is_all_epochs_of_fit(schedule):
    model = model_of(schedule)
    assert model.layers[1].current_rate == schedule.at(0)
    assert rates_of(model, epochs=3) == [schedule.at(step / 18) for step in range(18)]
    assert model.layers[1].state == {"step": 18, "place": 18, "run": 18}
    assert len(set(rates_of(model_of(schedule), epochs=3, drop_last=True))) > 1


@every_one
def test_the_run_has_as_many_steps_as_there_are_batches(schedule):
    rates = Rates()
    model_of(schedule).fit(X[:41], Y[:41], **FIT, epochs=2, drop_last=True, callbacks=[rates])
    assert rates.seen == [schedule.at(step / 8) for step in range(8)]


@pytest.mark.parametrize("mode", ["inverted", "classical"])
@every_one
def test_an_interrupted_run_goes_on_bit_for_bit(schedule, mode, tmp_path):
    """Whether it was stopped after an epoch and resumed from a file or a copy, or died within one."""

    class Stop(mc.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    class Die(mc.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    whole, first = model_of(schedule, mode=mode), model_of(schedule, mode=mode)
    rates = rates_of(whole, epochs=4)
    first.fit(X, Y, **FIT, epochs=4, callbacks=[Stop()])
    mc.saving.save_checkpoint(first, tmp_path / "run.npz", 2, {})
    resumed, epoch, _ = mc.saving.load_checkpoint(tmp_path / "run.npz")
    for model in (resumed, copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert model.layers[1].state == first.layers[1].state
        assert (model.predict(X) == first.predict(X)).all()  # in the classical mode it is scaled by the rate
        assert (sampled(model) == sampled(first)).all()
        assert rates_of(model, epochs=4, initial_epoch=epoch) == rates[12:]
        assert model.fingerprint() == whole.fingerprint()
        assert (model.predict(X) == whole.predict(X)).all()
    dead, _, _ = mc.saving.load_checkpoint(tmp_path / "run.npz")
    with pytest.raises(KeyboardInterrupt):
        dead.fit(X, Y, **FIT, epochs=4, initial_epoch=2, callbacks=[Die()])
    with pytest.raises(RuntimeError, match="only fit knows"):  # that fit is over
        dead.train_on_batch(X, Y)
    dead, _, _ = mc.saving.load_checkpoint(tmp_path / "run.npz")
    assert rates_of(dead, epochs=4, initial_epoch=2) == rates[12:]


def test_a_second_fit_is_a_run_of_its_own():
    schedule = CurriculumDropout(0.5)
    model = model_of(schedule)
    assert rates_of(model, epochs=2) == rates_of(model, epochs=2) == [schedule.at(step / 12) for step in range(12)]
    assert model.layers[1].state == {"step": 24, "place": 12, "run": 12}


def test_a_run_that_is_resumed_at_another_length_is_warned_of():
    schedule = CurriculumDropout(0.5)
    model = model_of(schedule)
    model.fit(X, Y, **FIT, epochs=2)
    message = (
        r"^Sequential.fit: step 12 goes on with a run of 12 steps, which now has 24: the rate of dropout may "
        "jump. Give every fit of a run the same epochs, or its schedule total_steps$"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        rates = rates_of(model, epochs=4, initial_epoch=2)
    assert caught[0].filename == __file__
    assert rates == [schedule.at(step / 24) for step in range(12, 24)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rates_of(model_of(0.3), epochs=4)
        rates_of(model, epochs=3)  # a new run


def test_total_steps_are_the_layers_own():
    """In fit, by hand and in pieces of any length; beyond them the rate stays."""
    schedule = EarlyDropout(0.5, 0.5, linear=True, total_steps=16)
    want = [schedule(step) for step in range(18)]
    assert want[7] > want[8] == want[17] == 0
    whole, pieces, by_hand = (model_of(schedule) for _ in range(3))
    assert rates_of(whole, epochs=3) == want
    assert whole.layers[1].state == {"step": 18}
    assert [rate for epoch in range(3) for rate in rates_of(pieces, epochs=epoch + 1, initial_epoch=epoch)] == want
    for epoch in range(3):
        for x, y in mc.datasets.batches(X, Y, batch_size=10, seed=2, epoch=epoch):
            by_hand.train_on_batch(x, y)
    assert whole.fingerprint() == pieces.fingerprint() == by_hand.fingerprint()


def test_without_fit_or_total_steps_there_is_no_guess():
    model = model_of(EarlyDropout(0.5, 0.5))
    message = (
        "^Dropout: rate: EarlyDropout goes by the length of the run, which only fit knows. Elsewhere give it "
        "total_steps(\nat .*)?$"
    )
    for _ in range(2):
        with pytest.raises(RuntimeError, match=message):
            model.train_on_batch(X, Y)
        with pytest.raises(RuntimeError, match=message):
            model.forward(X, training=True)
        assert model.layers[1].state == {"step": 0, "place": 0, "run": 0}
        assert model.optimizer.iterations == 0
        model.fit(X, Y, **FIT, epochs=0)
    model.fit(X, Y, **FIT)
    with pytest.raises(RuntimeError, match=message):
        model.train_on_batch(X, Y)
    assert model.layers[1].state == {"step": 6, "place": 6, "run": 6}
    with pytest.raises(ValueError, match=r"^EarlyDropout: total_steps must be given where no fit .*; got None$"):
        EarlyDropout(0.5, 0.5)(3)
    assert model.predict(X).shape == (60, 3)


def test_a_copy_made_during_fit_does_not_take_part_in_it():
    class Copy(mc.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.copy = copy.deepcopy(self.model)

    hook = Copy()
    model_of(LateDropout(0.5, 0.5)).fit(X, Y, **FIT, callbacks=[hook])
    with pytest.raises(RuntimeError, match="only fit knows"):
        hook.copy.train_on_batch(X, Y)


def test_a_learning_rate_needs_total_steps():
    """Which only a layer is told."""
    with pytest.raises(ValueError, match=r"^SGD: learning_rate must be a schedule of steps; got EarlyDropout"):
        optimizers.SGD(EarlyDropout(0.5, 0.5))
    optimizer = optimizers.SGD(EarlyDropout(0.5, 0.5, total_steps=10))
    assert optimizer.learning_rate == 0.5
    with pytest.raises(ValueError, match=r"^Adam: learning_rate must be a schedule of steps"):
        optimizers.Adam().learning_rate = CurriculumDropout(0.5)


def test_a_rate_that_is_assigned_later_counts_from_the_next_step_on(tmp_path):
    """Between fits and within one, to and from a schedule that goes by the run; files follow."""

    class Change(mc.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.layers[1].rate = [0.2, LateDropout(0.5, 0.4), CurriculumDropout(0.5, total_steps=99)][epoch]

    model = model_of(0.3)
    seen, curriculum = rates_of(model, epochs=1), CurriculumDropout(0.5, total_steps=99)
    rates = Rates()
    model.fit(X, Y, **FIT, epochs=3, callbacks=[Change(), rates])
    want = [0.3] * 6 + [0.2] * 6 + [0, 0, 0.5, 0.5, 0.5, 0.5] + [curriculum(6 + step) for step in range(12, 18)]
    assert seen + rates.seen == want
    for rate, state in ((LateDropout(0.5, 0.4), {"place": 0, "run": 0, "step": 24}), (0.3, {"step": 24})):
        model.layers[1].rate = rate
        model.save(tmp_path / "model.npz")
        assert model.layers[1].state == mc.Sequential.load(tmp_path / "model.npz").layers[1].state == state


def test_a_frozen_mask_keeps_its_rate(tmp_path):
    """Also in a model that was loaded; thawed, the layer is where the run is."""

    class Hold(mc.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch in (2, 4):
                getattr(self.model.layers[1], "freeze_mask" if batch == 2 else "unfreeze_mask")()

    schedule, rates = CurriculumDropout(0.5), Rates()
    model = model_of(schedule)
    model.fit(X, Y, **FIT, callbacks=[Hold(), rates])
    assert rates.seen == [schedule.at(step / 6) for step in (0, 1, 1, 1, 4, 5)]
    model.layers[1].freeze_mask()
    model.save(tmp_path / "model.npz")
    loaded = mc.Sequential.load(tmp_path / "model.npz")
    loaded.layers[1].freeze_mask()
    for one in (model, loaded):
        one.forward(X, training=True)  # needs no fit: it is the latest step again
        assert one.layers[1].current_rate == schedule.at(5 / 6)


def test_a_step_that_failed_is_done_again_at_the_same_place():
    class Fail(mc.losses.Loss):
        left = 3

        def compute(self, y, outputs):
            self.left -= 1
            if self.left == 0:
                raise ZeroDivisionError
            return float(outputs.sum()), np.ones_like(outputs) / len(outputs)

    model = model_of(CurriculumDropout(0.5))
    fails = Fail()
    model.compile("sgd", lambda y, outputs: fails.compute(y, outputs))
    with pytest.raises(ZeroDivisionError):
        model.fit(X, Y, **FIT)
    assert model.layers[1].state == {"step": 2, "place": 2, "run": 6}
    assert model.layers[1].current_rate == CurriculumDropout(0.5).at(1 / 6)


def test_a_schedule_of_ones_own():
    class Middle(schedules.RunSchedule):
        def __init__(self):  # without super: it goes by the run
            pass

        def at(self, share):
            return 0.5 if 0.25 <= share < 0.75 else 2.0 * (share > 0.9)

    model = model_of(Middle())
    with pytest.raises(ValueError, match=r"Dropout: Middle: the rate of step 11 of 12 must be a number in \[0, 1\]"):
        model.fit(X, Y, **FIT, epochs=2)
    assert model.layers[1].state == {"step": 11, "place": 11, "run": 12}
    assert not schedules.is_known(Middle())
    with pytest.raises(TypeError, match="ready for JSON"):
        model.save(os.devnull)


def test_the_bits_do_not_depend_on_threads():
    found = set()
    for threads in (1, 2, 3):
        use_threads(threads)
        model = model_of(CurriculumDropout(0.5))
        model.fit(X, Y, **FIT, epochs=2)
        found.add(model.fingerprint())
    assert len(found) == 1


def test_a_run_in_a_plan_is_the_run_step_by_step():
    """The same layers in Python, which no plan records."""

    class InPython(layers.Dropout):
        pass

    schedule = EarlyDropout(0.5, 0.5, linear=True)
    planned = model_of(schedule)
    by_hand = mc.Sequential([layers.Dense(40), InPython(schedule), layers.Dense(3)], seed=2)
    by_hand.compile(mc.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    for model in (planned, by_hand):
        model.fit(X, Y, **FIT, epochs=2)
    assert planned.fingerprint() == by_hand.fingerprint()
