"""check_dropout: dropout of all kinds passes, every planted mistake is named, and nothing else is.

``--hypothesis-profile=long`` plants ten times as many combinations.
"""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicnn as mc
from minicnn import layers, testing
from minicnn.layer import Layer
from minicnn.testing import DropoutError, check_dropout, gradcheck

SCALES = {  # mistakes: r -> (in training, in evaluation)
    "both": lambda r: (1 / (1 - r), 1 - r),
    "by rate": lambda r: (1 / r, 1),
    "no scale": lambda r: (1, 1),
    "multiplied": lambda r: (1 - r, 1),
    "2": lambda r: (2, 1),
    "evaluation by rate": lambda r: (1, r),
    "evaluation 0.5": lambda r: (1, 0.5),
    "squared": lambda r: (1 / (1 - r) ** 2, 1),
    "1.1": lambda r: (1.1 / (1 - r), 1),
    "whole": lambda r: (int(1 / (1 - r)), 1),
}


class Drop(Layer):
    """Inverted dropout in NumPy, or classical, with mistakes to choose."""

    def __init__(self, rate=0.5, faults=(), mode="inverted"):
        super().__init__()
        self.rate, self.faults, self.mode = rate, faults, mode
        self.rng = np.random.default_rng(5)

    def draw(self, shape):
        has, drawn = self.faults.__contains__, self.rng.random(shape)
        if has("steps"):
            drawn = np.random.default_rng(0).random(shape)
        if has("batch"):
            drawn = np.broadcast_to(drawn[:1], shape)
        if has("sample"):
            drawn = np.broadcast_to(drawn.reshape(len(drawn), -1)[:, :1].reshape(-1, *[1] * (len(shape) - 1)), shape)
        drawn = drawn.copy()  # what was spread cannot be written to
        if has("pairs"):
            drawn[1::2] = drawn[: 2 * (len(drawn) // 2) : 2]
        if has("halves"):
            drawn = np.resize(drawn[: shape[0] // 2], shape)
        if has("count"):
            drawn = drawn.argsort(-1).argsort(-1) / shape[-1]
        if has("first unit"):
            drawn[:, 0] = 1
        if has("normal"):
            drawn = self.rng.standard_normal(shape)
        rate = 1 - self.rate if has("exchanged") else 0.5 if has("always 0.5") else self.rate
        keep = drawn >= rate
        return keep & (self.rng.random(shape) >= rate) if has("two masks") else keep

    def scales(self):
        """(in training, in evaluation)."""
        r, has = self.rate, self.faults.__contains__
        found = next((make(r) for fault, make in SCALES.items() if has(fault)), None)
        if found is not None:
            return found
        return (1, 1 - r) if self.mode == "classical" else (1 / (1 - r), 1)

    def forward(self, x, training=False):
        has, (scale, evaluation) = self.faults.__contains__, self.scales()
        if has("modes"):
            training = not training
        if has("evaluation drops") and not training:
            return np.where(self.draw(x.shape), x * scale, 0)
        if not training:
            return x * evaluation
        self.before = getattr(self, "mask", None)
        self.mask = self.draw(x.shape)
        if has("of x"):
            self.mask = np.abs(x) - 0.5 >= self.rate  # of which just as many are
        if has("nothing dropped"):
            self.mask = np.ones(x.shape, bool)
        return np.where(self.mask, x * (scale if not has("noise") else self.rng.random(x.shape)), 0)

    def backward(self, dy):
        has, scale, mask = self.faults.__contains__, self.scales()[0], self.mask
        scale = 1 if has("backward: no scale") else scale**2 if has("backward: scale twice") else scale
        if has("backward: new mask"):
            mask = self.draw(dy.shape)
        if has("backward: rolled mask"):
            mask = np.roll(mask, 1, -1)
        if has("backward: mask of sample 0"):
            mask = np.broadcast_to(mask[:1], dy.shape)
        if has("backward: first mask"):
            mask = self.first = getattr(self, "first", mask)
        if has("backward: mean"):
            scale = scale / len(dy)
        if has("backward: inverse mask"):
            mask = ~mask
        if has("backward: old mask") and self.before is not None:
            mask = self.before
        if has("backward: no mask"):
            mask = True
        return None if has("backward: nothing") else np.where(mask, dy * scale, 0)


MISTAKES = {
    "exchanged": "keep and drop exchanged: 0.",
    "both": "scaled in training and in evaluation: divided by 1 - rate in the one, multiplied by it in the other",
    "by rate": "divided by the rate, where it should be divided by 1 - rate",
    "batch": "one mask for the whole batch: all samples drop the same units",
    "steps": "one mask for all steps: every training forward drops the same units",
    "backward: no scale": "scale missing in backward: forward multiplies by",
    "backward: no mask": "mask missing in backward: dropped units get a gradient",
    "backward: new mask": "new mask in backward: it is not that of forward",
    "evaluation drops": "dropping in evaluation: with training=False",
    "no scale": "scale missing: what is kept is not scaled in training, and evaluation is not scaled either",
    "sample": "one decision for all units of a sample",
    "pairs": "the decisions of different samples hang together",
    "halves": "the decisions of different samples hang together",
    "count": "of the 100 units of every sample are kept",
    "first unit": "unit 0 is kept 100% of the time",
    "always 0.5": "half of the values are kept at every rate",
    "two masks": "two masks, one upon the other",
    "multiplied": "multiplied by 1 - rate in training, where it should be divided by it",
    "2": "the scale is 2 at every rate",
    "evaluation by rate": "evaluation multiplies by the rate, where it should multiply by 1 - rate",
    "evaluation 0.5": "evaluation multiplies by 0.5 at every rate",
    "squared": r"scaled twice in training: divided by (1 - rate)^2",
    "1.1": "scaled wrongly: the factor is",
    "whole": "the scale is cut off to a whole number: is the mask an array of integers? (the factor is 1 in training",
    "normal": "normal numbers are compared with the rate, where uniform ones",
    "of x": "the mask is made of x: the same x drops the same units in every step",
    "modes": "dropping in evaluation, and nothing is dropped in training: are the two exchanged?",
    "nothing dropped": "nothing is dropped in training at rate",
    "noise": "what is kept is not x times one number",
    "backward: inverse mask": "the mask is turned round in backward",
    "backward: old mask": "backward has the mask of the step before",
    "backward: scale twice": "scale applied twice in backward",
    "backward: rolled mask": "another mask in backward: it is not that of forward",
    "backward: mask of sample 0": "one mask for the whole batch in backward",
    "backward: first mask": "one mask for all steps in backward",
    "backward: mean": "divided by the batch size 64 in backward",
    "backward: nothing": "backward must return dx of the shape of x, (64, 100); got None; is `return dx` missing?",
}


def mistake_of(layer, **arguments):
    with pytest.raises(DropoutError) as caught:
        check_dropout(layer, **arguments)
    return str(caught.value)


@pytest.mark.parametrize("fault", MISTAKES)
def test_every_mistake_is_named(fault):
    """At rate 0.5, too, where several mistakes hide; and no other is named."""
    message = mistake_of(Drop(0.5, (fault,)))
    assert message.startswith(f"Drop: {MISTAKES[fault]}" if fault != "count" else "Drop: always the same number, 50 of")
    assert [said for said in MISTAKES.values() if said in message and said != MISTAKES[fault]] == []


def test_all_mistakes_are_listed():
    message = mistake_of(Drop(0.3, ("exchanged", "batch", "no scale", "backward: no mask")))
    assert message.count("\n- ") == 4
    for fault in ("exchanged", "batch", "no scale", "backward: no mask"):
        assert f"\n- {MISTAKES[fault]}" in message


def test_a_rate_that_is_taken_for_the_fraction_kept():
    def by_keep_prob(x, rate, training):
        return x * (np.random.random(x.shape) < rate) / rate if training else x

    assert mistake_of(by_keep_prob).startswith("by_keep_prob: keep and drop exchanged: ")
    assert "\n" not in mistake_of(by_keep_prob)  # the scale is right for that


def test_decisions_that_hang_together_in_no_one_way():
    """Each sample has the mask of the one before, moved by one unit: it is not that steps hang together."""

    class Moved(Drop):
        def draw(self, shape):
            drawn = self.rng.random(shape[1])
            return np.stack([np.roll(drawn, i) for i in range(shape[0])]) >= self.rate

    for rate in (0.3, 0.5):
        message = mistake_of(Moved(rate))
        assert message.startswith("Moved: the decisions hang together: 0.")
        assert "the share kept" not in message


# ---- what is right ----


RATE_1 = "rate 1 is refused: ZeroDi"


@pytest.mark.parametrize("layer", [
    layers.Dropout(0.5), layers.Dropout(0.3, "classical"), layers.Dropout(0.02, seed=3), layers.Dropout(0.0),
    layers.Dropout(1), layers.Dropout(0.4, noise_shape=(None, 1)), layers.Dropout(0.4, noise_shape=(1, None)),
    layers.SpatialDropout2D(0.3), layers.SpatialDropout2D(0.3, "classical"),
    layers.StochasticDepth(0.3), Drop(0.5), Drop(0.1, mode="classical"),
], ids=repr)  # fmt: skip
def test_dropout_passes(layer):
    found = check_dropout(layer)
    assert found
    assert found.mode == ("classical" if layer.mode == "classical" else "inverted")
    assert set(found.kept) >= {0.2, 0.7}
    if isinstance(layer, Drop):
        assert [note[:25] for note in found.notes] in (
            ["it has no freeze_mask(), "],
            ["it has no freeze_mask(), ", RATE_1],
        )
    else:
        assert found.notes == ()
        assert "0.7" in str(found)


def test_shared_decisions_are_told():
    assert check_dropout(layers.SpatialDropout2D(0.3)).shared == (1, 2)
    assert check_dropout(layers.Dropout(0.3)).shared == ()


def test_a_layer_that_takes_the_fraction_kept():
    class Kept(Drop):
        def __init__(self, keep_prob=0.5):
            super().__init__(1 - keep_prob)
            self.keep_prob = keep_prob

    assert sorted(check_dropout(Kept(0.8)).kept) == pytest.approx([0.2, 0.7])
    assert sorted(check_dropout(Kept(0.5)).kept) == [0.2, 0.5, 0.7]

    class Exchanged(Kept):
        def draw(self, shape):
            return ~super().draw(shape)

    assert mistake_of(Exchanged(0.5)).startswith("Exchanged: keep and drop exchanged")


def test_a_mask_in_half_precision():
    class Half(Drop):
        def forward(self, x, training=False):
            if not training:
                return x
            self.scaled = (self.draw(x.shape) / (1 - self.rate)).astype(np.float16)
            return x * self.scaled

        def backward(self, dy):
            return dy * self.scaled

    assert check_dropout(Half(0.3))


class Global(Drop):
    def draw(self, shape):
        return np.random.random(shape) >= self.rate


class Plain:
    """No subclass of Layer; keeps what it needs in __init__, and multiplies."""

    def __init__(self, rate):
        self.rate, self.keep_prob = rate, 1 - rate

    def forward(self, x, training):
        if not training:
            return x
        self.mask = (np.random.rand(*x.shape) < self.keep_prob) / self.keep_prob
        return x * self.mask

    def backward(self, dy):
        return dy * self.mask


def test_students_layers_and_their_notes():
    before = np.random.get_state()[1].copy(), random.getstate()
    check_dropout(Global(0.5))
    notes = check_dropout(Plain(0.5)).notes
    assert [note[:14] for note in notes] == ["it has no free", "a NaN that is ", "at rate 1 exac"]
    assert (np.random.get_state()[1] == before[0]).all()
    assert random.getstate() == before[1]


def test_a_rate_that_cannot_be_changed_is_checked_alone():
    """What __init__ made of the rate stays: set to another one an honest layer would be accused."""

    class Fixed(Plain):
        def __init__(self):
            super().__init__(0.5)

    notes = check_dropout(Fixed()).notes
    assert notes[0].startswith("checked at rate 0.5 alone, where keeping and dropping are alike")


def test_rates_that_are_said_otherwise():
    class OfTheClass(Global):
        rate = 0.5

        def __init__(self):
            self.keep_prob = 1 - self.rate  # which goes along

        def draw(self, shape):
            return np.random.random(shape) < self.keep_prob

        faults, mode = (), "inverted"

    class ByAnotherName(OfTheClass):
        def __init__(self, drop=0.5):
            self.rate = drop
            super().__init__()

    class Exchanged(ByAnotherName):
        def draw(self, shape):
            return ~super().draw(shape)

    for layer in (OfTheClass(), ByAnotherName(), ByAnotherName(0.1)):
        assert set(check_dropout(layer).kept) == {layer.rate, 0.2, 0.7}
    assert mistake_of(Exchanged()).startswith("Exchanged: keep and drop exchanged")


def test_functions():
    def right(x, rate, training):
        return np.where(np.random.random(x.shape) >= rate, x / (1 - rate), 0) if training else x

    found = check_dropout(right)
    assert sorted(found.kept) == [0.2, 0.5, 0.7]
    assert found.notes == ("a function has no backward: gradients were not checked",)
    assert 0.9 in check_dropout(right, shape=(8, 3, 3, 4), rate=0.9).kept
    assert "dropping in evaluation" in mistake_of(lambda x, rate, training: right(x, rate, True))


def test_a_layer_is_left_as_it_is():
    layer = layers.Dropout(0.3)
    layer.build((7,), np.random.default_rng(0))
    layer.freeze_mask()
    assert check_dropout(layer).shape == (64, 7)
    assert layer.state["step"] == 0
    assert layer.rate == 0.3


def test_a_mask_that_freeze_mask_does_not_hold():
    class Loose(Drop):
        def freeze_mask(self):
            pass

    assert mistake_of(Loose(0.3)).startswith("Loose: freeze_mask does not hold the mask")


def test_backward_that_raises_is_a_mistake():
    class Raises(Drop):
        def backward(self, dy):
            return dy * self.msak

    assert "backward raised AttributeError" in mistake_of(Raises(0.3))


def test_forward_without_training():
    class Always(Layer):
        rate = 0.3

        def forward(self, x):
            return x

    sentence = "Always.forward must take `training`: def forward(self, x, training=False)"
    assert mistake_of(Always()) == sentence
    with pytest.raises(testing.GradientError, match=r"Always\.forward must take `training`"):
        gradcheck(Always(), np.ones((2, 3)))
    with pytest.raises(TypeError, match=r"Always\.forward must take `training`"):
        mc.Sequential([Always()])


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((layers.GaussianDropout(0.5),), TypeError, "must drop units: .* got GaussianDropout.0.5.. It multiplies"),
    ((layers.AlphaDropout(0.5),), TypeError, "must drop units: .* becomes alpha'"),
    ((layers.DropConnect(3, 0.5),), TypeError, "must drop units: .* It drops weights"),
    ((layers.DropBlock2D(0.5, 2),), TypeError, "must drop units: .* for blocks"),
    ((layers.GaussianNoise(0.5),), TypeError, "must drop units: .* adds"),
    ((layers.Dropout,), TypeError, "Make an instance"),
    ((mc.Sequential([layers.Dropout(0.5)]),), TypeError, "layer must be a layer, or a function"),
    ((3,), TypeError, "layer must be a layer, or a function"),
    ((layers.Dense(3),), TypeError, "rate, the fraction dropped, must be said"),
    ((layers.Dropout(mc.schedules.EarlyDropout(0.5, 0.1)),), TypeError, "the layer's rate must be a number"),
    ((layers.Dropout(0.5), 3), TypeError, "shape must be"),
    ((layers.Dropout(0.5), (1, 5)), ValueError, "shape must be"),
    ((layers.Dropout(0.5), (4, 5.0)), TypeError, "every axis of shape"),
    ((layers.Dropout(0.5), (4, 5), 1.5), ValueError, "rate must be a number"),
    ((layers.Dropout(0.5), (4, 5), "half"), TypeError, "rate must be a number"),
])  # fmt: skip
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^check_dropout: .*{message}"):
        check_dropout(*arguments)


# ---- nothing false, and nobody accused ----

SETTINGS = {
    "rate": st.floats(0.03, 0.97),
    "shape": st.sampled_from([(64, 100), (2, 3), (300, 1), (8, 4, 4, 3), (5, 40), (16, 6, 7)]),
    "mode": st.sampled_from(["inverted", "classical"]),
}  # fmt: skip


def budget(share):
    return settings(max_examples=max(1, int(settings.default.max_examples * share)))


@budget(0.1)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from([Drop, Global, Plain, layers.Dropout]), **SETTINGS)
def test_no_right_layer_is_accused(seed, kind, rate, shape, mode):
    layer = kind(rate) if kind in (Plain, Global) else kind(rate, mode=mode)
    if kind is Drop:
        layer.rng = np.random.default_rng(seed)
    assert check_dropout(layer, shape)


@budget(0.1)
@given(faults=st.lists(st.sampled_from(sorted(MISTAKES)), min_size=1, max_size=3, unique=True), **SETTINGS)
def test_no_verdict_is_false(faults, rate, shape, mode):
    if sum(fault in SCALES for fault in faults) > 1:  # the first of them is the one that acts
        faults = [*(fault for fault in faults if fault not in SCALES), "both"]
    try:
        check_dropout(Drop(rate, tuple(faults), mode), shape)
    except DropoutError as error:
        message = str(error)
    else:
        return  # some need many units to be seen, or undo one another
    # Two of these are the third; these have one sentence.
    alike = [{"modes", "evaluation drops", "nothing dropped"}, {"pairs", "halves"}]
    if shape[0] == 2 or shape[1:] == (1,):  # one unit, or one pair
        alike.append({"pairs", "halves", "sample", "batch"})
    for fault, said in MISTAKES.items():
        if said in message and fault not in faults:
            same = any(fault in group and group & set(faults) for group in alike)
            old = fault == "backward: old mask" and {"backward: new mask", "steps"} & set(faults)
            few = fault == "nothing dropped" and "steps" in faults  # of one step's mask all may be kept
            assert same or old or few, f"{fault} was not planted, but {faults}: {message}"
