"""What the dropout family has in common, for every member of it, within models and out of them."""

import copy

import numpy as np
import pytest
from compare import assert_same_bits
from running import build, normal

import minicnn as mc
from minicnn import layers, schedules
from minicnn.layers.noise import Noise

RISING = schedules.PolynomialDecay(0.0, 4, 1.0)  # 0, 0.25, 0.5, 0.75, 1, 1, ...
FAMILY = {
    "Dropout": lambda rate, **more: layers.Dropout(rate, **more),
    "classical": lambda rate, **more: layers.Dropout(rate, mode="classical", **more),
    "rows": lambda rate, **more: layers.Dropout(rate, noise_shape=(None, 1, None, 1), **more),
    "SpatialDropout2D": lambda rate, **more: layers.SpatialDropout2D(rate, **more),
    "StochasticDepth": lambda rate, **more: layers.StochasticDepth(rate, **more),
    "StochasticDepth, batch": lambda rate, **more: layers.StochasticDepth(rate, "batch", **more),
    "AlphaDropout": lambda rate, **more: layers.AlphaDropout(rate, **more),
    "DropBlock2D": lambda rate, **more: layers.DropBlock2D(rate, 2, **more),
    "GaussianDropout": lambda rate, **more: layers.GaussianDropout(rate, **more),
    "DropConnect": lambda rate, **more: layers.DropConnect(6, rate, **more),
    "DropConnect, classical": lambda rate, **more: layers.DropConnect(6, rate, mode="classical", **more),
}
IMAGES, LABELS = normal((24, 4, 3, 5), "float32"), np.arange(24) % 3

every_member = pytest.mark.parametrize("name", FAMILY)


def model_of(name, rate=0.4, seed=7, **more):
    member = FAMILY[name](rate, **more)
    flat = isinstance(member, layers.DropConnect)
    model = mc.Sequential(
        [*([layers.Flatten()] if flat else []), layers.Dense(5), member, layers.Flatten(), layers.Dense(3)], seed=seed
    )
    model.compile(mc.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    model.build(IMAGES.shape[1:])
    return model, member


def test_the_family_is_complete():
    names = {name for name in layers.__all__ if issubclass(getattr(layers, name), Noise)}
    assert names == {type(make(0.5)).__name__ for make in FAMILY.values()}


@every_member
def test_backward_of_a_forward_before_a_step_at_another_rate_is_refused(name):
    """It would take the numbers of the later one: no error would be worse than this one."""
    model, member = model_of(name)
    _, gradient = model.loss(model.forward(IMAGES, training=True), LABELS)
    member.rate = 0.7
    model.train_on_batch(IMAGES, LABELS)
    with pytest.raises(RuntimeError, match=r"backward: needs forward\(x, training=True\) before it"):
        model.backward(gradient)


@pytest.mark.parametrize("name", ["GaussianDropout", "DropConnect"])
def test_backward_of_a_forward_before_another_step_is_refused(name):
    """Where the numbers are drawn again; a mask that was kept (Dropout) is that of its own forward."""
    model, _ = model_of(name)
    _, gradient = model.loss(model.forward(IMAGES, training=True), LABELS)
    model.train_on_batch(IMAGES, LABELS)
    with pytest.raises(RuntimeError, match=r"backward: needs forward\(x, training=True\) before it"):
        model.backward(gradient)


@every_member
@pytest.mark.parametrize("rate", [0.3, RISING])
def test_fit_by_hand_and_in_pieces_give_the_same_bits(name, rate):
    whole, _ = model_of(name, rate)
    whole.fit(IMAGES, LABELS, batch_size=7, epochs=3, verbose=0)
    pieces, _ = model_of(name, rate)
    for epoch in range(3):
        pieces = copy.deepcopy(pieces)
        pieces.fit(IMAGES, LABELS, batch_size=7, epochs=epoch + 1, initial_epoch=epoch, verbose=0)
    by_hand, _ = model_of(name, rate)
    layer_by_layer, _ = model_of(name, rate)
    for epoch in range(3):
        for x, y in mc.datasets.batches(IMAGES, LABELS, batch_size=7, seed=7, epoch=epoch):
            by_hand.backward(by_hand.loss(by_hand.forward(x, training=True), y)[1])
            by_hand.optimizer.step()
            outputs = x
            for layer in layer_by_layer.layers:
                outputs = layer.forward(outputs, training=True)
            gradient = layer_by_layer.loss(outputs, y)[1]
            for layer in reversed(layer_by_layer.layers):
                gradient = layer.backward(gradient)
            layer_by_layer.optimizer.step()
    for other in (pieces, by_hand, layer_by_layer):
        assert other.fingerprint() == whole.fingerprint()


@every_member
def test_a_resumed_run_goes_on_bit_for_bit(name, tmp_path):
    whole, _ = model_of(name)
    whole.fit(IMAGES, LABELS, batch_size=7, epochs=2, verbose=0)
    first, _ = model_of(name)
    first.fit(IMAGES, LABELS, batch_size=7, epochs=1, verbose=0)
    mc.saving.save_checkpoint(first, tmp_path / "run.npz", 1, {})
    resumed, epoch, _ = mc.saving.load_checkpoint(tmp_path / "run.npz")
    resumed.fit(IMAGES, LABELS, batch_size=7, epochs=2, initial_epoch=epoch, verbose=0)
    assert resumed.fingerprint() == whole.fingerprint()


@every_member
def test_a_rate_that_goes_by_the_run_goes_on_where_it_was(name, tmp_path):
    """Of every member: in the whole run, and where it was stopped and resumed from a file, also what is predicted."""

    class Stop(mc.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 0

    def fit(model, first=0, **more):
        model.fit(IMAGES, LABELS, batch_size=7, epochs=2, initial_epoch=first, verbose=0, **more)

    schedule = schedules.CurriculumDropout(0.4, gamma=3)
    (whole, member), (first, stopped), (plain, _) = (model_of(name, rate) for rate in (schedule, schedule, 0.4))
    fit(plain)
    fit(whole)
    fit(first, callbacks=[Stop()])
    assert [one.current_rate for one in (stopped, member)] == [schedule.at(3 / 8), schedule.at(7 / 8)]
    mc.saving.save_checkpoint(first, tmp_path / "run.npz", 1, {})
    resumed, epoch, _ = mc.saving.load_checkpoint(tmp_path / "run.npz")
    assert_same_bits(resumed.predict(IMAGES), first.predict(IMAGES))
    assert_same_bits(resumed.predict_mc(IMAGES, 3).mean, first.predict_mc(IMAGES, 3).mean)
    fit(resumed, epoch)
    assert resumed.fingerprint() == whole.fingerprint() != plain.fingerprint()
    assert_same_bits(resumed.predict(IMAGES), whole.predict(IMAGES))


@every_member
def test_a_changed_rate_is_followed(name):
    """Also by a model that has recorded its step."""
    changed, member = model_of(name, 0.9)
    changed.train_on_batch(IMAGES, LABELS)
    member.rate = 0.2
    changed.set_weights(model_of(name)[0].get_weights())
    fresh, other = model_of(name, 0.2)
    other.state["step"] = 1
    changed.optimizer.set_state(fresh.optimizer.get_state())
    for model in (changed, fresh):
        model.train_on_batch(IMAGES, LABELS)
    assert changed.fingerprint() == fresh.fingerprint()


@every_member
def test_a_frozen_mask_stays(name):
    member = FAMILY[name](0.5)
    shape = (12,) if isinstance(member, layers.DropConnect) else (4, 3, 5)
    build(member, shape)
    x = normal((6, *shape), "float32")
    first = member.forward(x, training=True)
    member.freeze_mask()
    mask = member.last_mask
    assert_same_bits(member.forward(x, training=True), first)
    assert_same_bits(member.last_mask, mask)
    member.unfreeze_mask()
    assert any((member.forward(x, training=True) != first).any() for _ in range(8))
    assert member.state["step"] >= 2


@every_member
def test_own_seed_and_seed_of_the_model(name):
    def outputs(model_seed, seed=None):
        model, member = model_of(name, seed=model_seed)
        member.seed = seed
        model.set_weights(model_of(name)[0].get_weights())
        return np.array([model.forward(IMAGES, training=True) for _ in range(8)])  # of which one may drop nothing

    assert_same_bits(outputs(1), outputs(1))
    assert (outputs(1) != outputs(2)).any()
    assert_same_bits(outputs(1, seed=5), outputs(2, seed=5))
    assert_same_bits(outputs(1, seed=2), outputs(2))


@every_member
def test_last_mask_before_the_first_forward(name):
    with pytest.raises(RuntimeError, match=r"last_mask: needs forward\(x, training=True\) before it"):
        _ = FAMILY[name](0.5).last_mask


@every_member
@pytest.mark.parametrize(("rate", "error"), [(-0.1, ValueError), (1.1, ValueError), (float("nan"), ValueError),
                                             ("0.5", TypeError), (True, TypeError), (None, TypeError)])  # fmt: skip
def test_wrong_rates(name, rate, error):
    kind = type(FAMILY[name](0.5)).__name__
    with pytest.raises(error, match=rf"^{kind}: rate must be a number in \[0, 1\]; got "):
        FAMILY[name](rate)
