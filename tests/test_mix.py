"""Pairs of samples (augment.py) and training on them: against their twins, by hand, from all kinds of data."""

import hashlib
import math

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from models import Hook
from running import use_threads

import minicnn as mc
from minicnn import augment, layers, losses, metrics, optimizers, saving
from minicnn.augment import CutMix, MixUp
from minicnn.callbacks import BackupAndRestore

SHAPE, N, K = (6, 5, 2), 24, 4
X = np.random.default_rng(3).random((N, *SHAPE)).astype(np.float32)
Y = np.arange(N) % K
ONE_HOT = np.eye(K)[Y]
WEIGHTS = np.linspace(0.25, 2, N)
KINDS = {"mixup": MixUp(0.7), "cutmix": CutMix(1.0)}
# Of two samples, and of 3,000: what they are on every machine.
PINNED = [2.1887077111815145e-07, 0.012625663107570018]
DIGEST = "90f82bf12232e1af95b5d531f8d91a459cd500264b8eea037176b00a6bb3c2eb"
every_kind = pytest.mark.parametrize("kind", KINDS)


def network(loss="sparse_categorical_crossentropy", metric=(), units=K, activation="softmax", dtype="float32", **more):
    model = mc.Sequential([
        layers.Conv2D(3, 3, activation="tanh"), layers.Flatten(), layers.Dense(units, activation=activation),
    ], seed=5, dtype=dtype)  # fmt: skip
    model.build(SHAPE)
    model.compile(more.get("optimizer", "sgd"), loss, list(metric))
    return model


def step_on(model, y, mix, **more):
    """The logs of one step over all samples in their order, what was drawn, and the outputs of the mixed samples."""
    pairs = mix.draw(N, SHAPE, model.optimizer.iterations, model.seed)
    outputs = model.predict(pairs.inputs(X.astype(model.dtype))).astype(np.float64)
    logs = model.fit(X, y, N, verbose=0, shuffle=False, mix=mix, **more).history
    return {name: values[0] for name, values in logs.items()}, pairs, outputs


def by_hand(model, x, y, mix, batch_size, epochs=1):
    for epoch in range(epochs):
        for xb, yb in mc.datasets.batches(x, y, batch_size, model.seed, epoch):
            pairs = mix.draw(len(xb), model.input_shape, model.optimizer.iterations, model.seed)
            model.train()
            outputs = model.forward(pairs.inputs(xb))
            _, mine = model.loss(outputs, yb, pairs.shares)
            _, theirs = model.loss(outputs, yb[pairs.partners], 1 - pairs.shares)
            model.backward(mine + theirs)
            model.optimizer.step()
    return model.eval().fingerprint()


# ---- what is drawn ----

alphas = st.one_of(st.floats(0.05, 20), st.sampled_from([1e-9, 1e-3, 1.0, 1e6]))
seeds = st.integers(0, 2**64 - 1)


@given(st.integers(0, 12), st.integers(1, 9), st.integers(1, 9), seeds, st.integers(0, 2**40), alphas)
def test_against_the_twins(n, h, w, seed, step, alpha):
    up, cut = (cls(alpha).draw(n, (h, w, 2), step, seed) for cls in (MixUp, CutMix))
    low = step % 2**32
    wanted = reference.permutation(n, seed, low, 3 + 8)
    assert up.partners.tolist() == cut.partners.tolist() == wanted
    u = [[reference.pair_number(seed, low, index, which) for which in range(4)] for index in range(n)]
    shares = [reference.symmetric_beta(alpha, *one[:2]) for one in u]
    assert_close(up.shares, np.reshape(shares, n), 2e-12)
    clear = [abs(side * math.sqrt(1 - s) % 1 - 0.5) > 1e-9 for s in shares for side in (h, w)]
    if all(clear):  # of rounding halves both ways are right
        boxes = [reference.cut_box(s, *one[2:], h, w) for s, one in zip(shares, u, strict=True)]
        assert cut.boxes.tolist() == [list(box) for box in boxes]
        assert_close(cut.shares, 1 - np.reshape([box[2] * box[3] for box in boxes], n) / (h * w), 1e-15)
    x = np.random.default_rng(0).random((n, h, w, 2))
    for pairs in (up, cut):
        assert_close(pairs.inputs(x), reference.mixed(x, *pairs), 1e-14)


def test_the_same_bits_on_every_machine():
    """No logarithm, power or cosine of a library."""
    text = b"".join(
        MixUp(alpha).draw(500, (1,), step, 2**40 + 3).shares.tobytes() for alpha in (0.1, 1, 7) for step in (0, 9)
    )
    assert MixUp(0.2).draw(2, (1,), 4, 1).shares.tolist() == PINNED
    assert hashlib.sha256(text).hexdigest() == DIGEST


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 4.0])
def test_shares_have_the_law_of_beta(alpha):
    found = MixUp(alpha).draw(40_000, (1,), 0).shares
    wanted = np.random.default_rng(1).beta(alpha, alpha, 400_000)
    assert abs(found.mean() - 0.5) < 5 * found.std() / 200
    assert abs(found.var() / (1 / (8 * alpha + 4)) - 1) < 0.05
    for level in (0.05, 0.2, 0.4, 0.5, 0.7, 0.95):
        below = (found < np.quantile(wanted, level)).mean()
        assert abs(below - level) < 5 * math.sqrt(level * (1 - level) * (1 / 40_000 + 1 / 400_000))


def test_every_sample_has_every_partner_equally_often():
    counts = np.zeros((5, 5))
    for step in range(600):
        counts[np.arange(5), KINDS["mixup"].draw(5, (1,), step, 7).partners] += 1
    assert np.abs(counts - 120).max() < 5 * math.sqrt(600 * 0.2 * 0.8)


def test_boxes_have_the_area_that_the_shares_say():
    pairs = CutMix().draw(3000, (40, 30, 1), 0, 2)
    top, left, height, width = pairs.boxes.T
    assert_close(pairs.shares, 1 - height * width / 1200, 1e-15)
    assert min(top.min(), left.min(), (40 - top - height).min(), (30 - left - width).min()) == 0
    whole = (top > 0) & (left > 0) & (top + height < 40) & (left + width < 30)
    assert np.abs((height * 0.75 - width)[whole]).max() <= 1
    assert whole.mean() > 0.1


@every_kind
def test_draws_depend_on_seed_step_and_index_alone(kind):
    mix = KINDS[kind]
    first = mix.draw(9, SHAPE, 4, 1)
    for seed, step in ((1, 5), (2, 4), (2**40 + 1, 4)):
        other = mix.draw(9, SHAPE, step, seed)
        assert other.partners.tolist() != first.partners.tolist()
        assert (other.shares != first.shares).mean() > 0.5
    fewer = mix.draw(5, SHAPE, 4, 1)
    assert_same_bits(fewer.shares, first.shares[:5].copy())
    own = type(mix)(mix.alpha, seed=1)
    assert_same_bits(own.draw(9, SHAPE, 4, 77).shares, first.shares)
    assert_same_bits(mix.draw(9, SHAPE, 4 + 2**32, 1).shares, first.shares)


@every_kind
def test_mixing_is_linear_and_keeps_what_is_equal(kind):
    pairs, rng = KINDS[kind].draw(8, SHAPE, 0), np.random.default_rng(0)
    a, b = rng.random((2, 8, *SHAPE))
    assert_close(pairs.inputs(2 * a - 3 * b), 2 * pairs.inputs(a) - 3 * pairs.inputs(b), 1e-14, scale=5)
    same = np.full((8, *SHAPE), 0.1, np.float32)
    assert_same_bits(pairs.inputs(same), same)
    before = a.copy()
    assert pairs.inputs(a.astype(np.float32)).dtype == pairs.inputs((255 * a).astype(np.uint8)).dtype == np.float32
    assert_same_bits(a, before)


def test_the_answer_with_the_larger_share():
    for y in (Y, ONE_HOT):
        pairs = augment.Pairs(np.array([2, 0, 1]), np.array([0.3, 0.5, 0.9]))
        assert pairs.larger(y[:3]).tolist() == [y[2].tolist(), y[1].tolist(), y[2].tolist()]
    assert pairs.targets([1.0, 2.0, 4.0]).tolist() == [1 * 0.3 + 4 * 0.7, 1.5, 4 * 0.9 + 2 * (1 - 0.9)]


def test_a_cut_copies_bits():
    pairs = CutMix().draw(8, SHAPE, 0)
    y = pairs.inputs(X[:8])
    for n in range(8):
        top, left, height, width = pairs.boxes[n]
        inside = np.zeros(SHAPE, bool)
        inside[top : top + height, left : left + width] = True
        assert_same_bits(y[n], np.where(inside, X[pairs.partners[n]], X[n]))


# ---- the loss and its gradient ----


@every_kind
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_classes_is_that_of_the_mixed_targets(kind, smoothing):
    """Class numbers and one-hot rows alike: -sum_k t_k log p_k with the mixed t."""
    for loss, y in (
        (losses.SparseCategoricalCrossentropy(smoothing), Y),
        (losses.CategoricalCrossentropy(smoothing), ONE_HOT),
    ):
        logs, pairs, outputs = step_on(network(loss, dtype="float64"), y, KINDS[kind])
        t = (1 - smoothing) * pairs.targets(ONE_HOT) + smoothing / K
        assert math.isclose(logs["loss"], -(t * np.log(outputs)).sum(1).mean(), rel_tol=1e-12)


@every_kind
def test_the_loss_of_answers_is_that_of_the_mixed_targets(kind):
    y = Y % 2
    model = network("binary_crossentropy", ["accuracy"], 1, "sigmoid", "float64")
    logs, pairs, outputs = step_on(model, y, KINDS[kind])
    t, p = pairs.targets(y), outputs[:, 0]
    assert math.isclose(logs["loss"], -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(), rel_tol=1e-12)
    assert math.isclose(logs["accuracy"], ((p > 0.5) == pairs.larger(y)).mean())


@every_kind
def test_weights_stay_with_their_samples(kind):
    """s w[n] l(y[n]) + (1 - s) w[p] l(y[p]), with the product of both kinds of weights; and so are metrics."""
    weights = WEIGHTS * np.where(Y == 1, 3.0, 1.0)
    model = network(metric=["sparse_categorical_crossentropy", "accuracy"], dtype="float64")
    logs, pairs, outputs = step_on(model, Y, KINDS[kind], sample_weight=WEIGHTS, class_weight={1: 3.0})
    mine, theirs = pairs.shares * weights, (1 - pairs.shares) * weights[pairs.partners]
    losses_of = -np.log(outputs)
    every = mine * losses_of[np.arange(N), Y] + theirs * losses_of[np.arange(N), Y[pairs.partners]]
    assert math.isclose(logs["loss"], every.mean(), rel_tol=1e-12)
    assert math.isclose(logs["sparse_categorical_crossentropy"], every.sum() / (mine + theirs).sum(), rel_tol=1e-12)
    right = outputs.argmax(1) == pairs.larger(Y)
    assert math.isclose(logs["accuracy"], ((mine + theirs) * right).sum() / (mine + theirs).sum(), rel_tol=1e-12)


@every_kind
@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "cosine_similarity"])
def test_a_loss_of_numbers_is_that_of_the_mixed_target(kind, loss):
    y = np.random.default_rng(9).normal(size=(N, 3))

    def off_by_more_than_1(y_true, y_pred):
        return float((np.abs(y_true - y_pred) > 1).mean())

    model = network(loss, ["mae", off_by_more_than_1], 3, None, "float64")
    logs, pairs, outputs = step_on(model, y, KINDS[kind])
    t = pairs.targets(y)
    assert_close(t, reference.mixed(y, pairs.partners, pairs.shares), 1e-14, scale=4)
    assert math.isclose(logs["loss"], losses.get(loss)(outputs, t)[0], rel_tol=1e-12)
    assert math.isclose(logs["mae"], np.abs(t - outputs).mean(), rel_tol=1e-12)
    assert math.isclose(logs["off_by_more_than_1"], off_by_more_than_1(t, outputs))


def test_accuracy_beside_a_loss_of_numbers():
    logs, pairs, outputs = step_on(network("mse", ["accuracy", metrics.TopKAccuracy(2)]), ONE_HOT, KINDS["mixup"])
    assert math.isclose(logs["accuracy"], (outputs.argmax(1) == pairs.larger(Y)).mean())
    logs, pairs, outputs = step_on(network("mse", ["binary_accuracy"], 1, "sigmoid"), Y % 2, KINDS["mixup"])
    assert math.isclose(logs["binary_accuracy"], ((outputs[:, 0] > 0.5) == pairs.larger(Y % 2)).mean())


def test_a_custom_loss_gets_the_mixed_targets():
    seen = []

    def squares(y_true, y_pred):
        seen.append(y_true)
        return float(((y_pred - y_true) ** 2).mean()), 2 * (y_pred - y_true) / y_true.size

    logs, pairs, outputs = step_on(network(squares, dtype="float64"), ONE_HOT, KINDS["mixup"])
    assert_close(seen[0], pairs.targets(ONE_HOT), 1e-15)
    assert math.isclose(logs["loss"], ((outputs - pairs.targets(ONE_HOT)) ** 2).mean(), rel_tol=1e-12)


@every_kind
@pytest.mark.parametrize(("loss", "y"), [
    ("sparse_categorical_crossentropy", Y), ("kl_divergence", ONE_HOT), ("categorical_hinge", ONE_HOT),
    ("categorical_focal_crossentropy", ONE_HOT), ("mse", ONE_HOT), ("binary_crossentropy", ONE_HOT),
    ("binary_focal_crossentropy", ONE_HOT), ("hinge", ONE_HOT), ("poisson", ONE_HOT),
])  # fmt: skip
def test_the_gradient_of_the_mixed_loss(kind, loss, y):
    """What a step of SGD(1) takes off the parameters, against differences of what fit logs as the loss."""
    model = network(loss, dtype="float64", optimizer=optimizers.SGD(1.0))
    start, rng = model.parameters.copy(), np.random.default_rng(0)
    mix = type(KINDS[kind])(0.6)

    def loss_at(parameters):
        model.compile(optimizers.SGD(1.0), loss)  # counts from 0: the same pairs
        model.parameters[...] = parameters
        return step_on(model, y, mix, sample_weight=None if loss in ("mse", "poisson") else WEIGHTS)[0]["loss"]

    loss_at(start)
    gradient, h = start - model.parameters, 1e-5
    for _ in range(3):
        direction = rng.normal(size=start.size)
        slope = (loss_at(start + h * direction) - loss_at(start - h * direction)) / (2 * h)
        assert math.isclose(slope, gradient @ direction, rel_tol=1e-6, abs_tol=1e-8)


# ---- training ----


@every_kind
def test_fit_is_the_loop_by_hand(kind):
    fitted, hand = network(optimizer="adam"), network(optimizer="adam")
    fitted.fit(X, Y, 7, 3, verbose=0, mix=KINDS[kind])
    assert by_hand(hand, X, Y, KINDS[kind], 7, 3) == fitted.fingerprint()
    plain = network(optimizer="adam")
    plain.fit(X, Y, 7, 3, verbose=0)
    assert plain.fingerprint() != fitted.fingerprint()


def test_words_and_seeds():
    def trained(mix):
        model = network()
        model.fit(X, Y, 8, verbose=0, mix=mix)
        return model.fingerprint()

    assert augment.mixup is MixUp
    assert augment.cutmix is CutMix
    assert trained("mixup") == trained(mc.augment.mixup(0.2)) == trained(MixUp(seed=5)) != trained(MixUp(seed=6))
    assert trained("cutmix") == trained(mc.augment.cutmix()) != trained("mixup")
    assert trained(augment.NAMES["mixup"](0.4)) == trained(MixUp(alpha=0.4))


@every_kind
def test_other_threads(kind):
    found = []
    for threads in (1, 2):
        use_threads(threads)
        model = network()
        model.fit(X, Y, 10, 2, verbose=0, mix=KINDS[kind])
        found.append(model.fingerprint())
    assert found[0] == found[1]


class Batches:
    def __init__(self, *arrays):
        self.arrays = arrays

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return tuple(array[8 * i : 8 * i + 8] for array in self.arrays)


def test_all_kinds_of_data(tmp_path):
    bytes_ = (255 * X).astype(np.uint8)
    on_disk = np.memmap(tmp_path / "x", np.uint8, "w+", shape=bytes_.shape)
    on_disk[...] = bytes_

    def trained(x, y, **more):
        model = network()
        history = model.fit(x, y, epochs=2, verbose=0, shuffle=False, mix="cutmix", **more).history
        return model.fingerprint(), history["loss"]

    wanted = trained(bytes_, Y, batch_size=8)
    assert wanted == trained(bytes_.astype(np.float32), Y, batch_size=8)
    assert wanted == trained(bytes_.astype(np.float64), Y, batch_size=8)
    assert wanted == trained(np.asfortranarray(bytes_.astype(np.float64)), Y, batch_size=8)
    assert wanted == trained(on_disk, Y, batch_size=8)
    assert wanted == trained(Batches(bytes_, Y), None)
    endless = (Batches(bytes_, Y)[i % 3] for i in range(6))
    assert wanted == trained(endless, None, steps_per_epoch=3)
    weighted = trained(bytes_, Y, batch_size=8, sample_weight=WEIGHTS)
    assert weighted == trained(Batches(bytes_, Y, WEIGHTS), None)
    assert weighted != wanted


@every_kind
def test_runs_in_pieces(kind, tmp_path):
    """Interrupted in the middle of an epoch, and continued from a checkpoint."""
    straight = network(optimizer="adam", metric=["accuracy"])
    history = straight.fit(X, Y, 5, 3, verbose=0, mix=KINDS[kind]).history

    def press(model):
        if model.optimizer.iterations == 7:
            raise KeyboardInterrupt

    stopped, resumed = (network(optimizer="adam", metric=["accuracy"]) for _ in range(2))
    backup = BackupAndRestore(tmp_path / "backup", save_freq=1)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(X, Y, 5, 3, verbose=0, mix=KINDS[kind], callbacks=[backup, Hook(press)])
    with pytest.raises(ValueError, match=r"with mix"):
        network(optimizer="adam", metric=["accuracy"]).fit(
            X, Y, 5, 3, verbose=0, mix=type(KINDS[kind])(0.1), callbacks=[backup]
        )
    assert resumed.fit(X, Y, 5, 3, verbose=0, mix=KINDS[kind], callbacks=[backup]).history == history
    assert resumed.fingerprint() == straight.fingerprint()

    pieces = network(optimizer="adam")
    pieces.fit(X, Y, 5, 1, verbose=0, mix=KINDS[kind])
    saving.save_checkpoint(pieces, tmp_path / "one.npz", 1, {})
    pieces, _, _ = saving.load_checkpoint(tmp_path / "one.npz")
    pieces.fit(X, Y, 5, 3, verbose=0, mix=KINDS[kind], initial_epoch=1)
    assert pieces.fingerprint() == straight.fingerprint()


def test_evaluations_see_no_mixing():
    model = network(metric=["accuracy"])
    logs = model.fit(
        X, Y, 8, verbose=0, mix="mixup", clean_train_metrics=True, validation_data=(X[:9], Y[:9]), sample_weight=WEIGHTS
    ).history
    assert [logs["clean_loss"][0], logs["clean_accuracy"][0]] == model.evaluate(X, Y, 8, sample_weight=WEIGHTS)
    assert [logs["val_loss"][0], logs["val_accuracy"][0]] == model.evaluate(X[:9], Y[:9], 8)
    assert model.input_range == (float(X.min()), float(X.max()))


def test_mixup_takes_all_samples_and_outputs():
    model = mc.Sequential([layers.Dense(3), layers.Dense(K)], seed=1)
    model.compile("sgd", losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X.reshape(N, -1), Y, 8, verbose=0, mix="mixup")
    maps = mc.Sequential([layers.Conv2D(2, 3, padding="same", activation="sigmoid")], seed=1)
    maps.compile("sgd", "binary_crossentropy", ["accuracy"])
    maps.fit(X, (X > 0.5).astype(np.uint8), 8, verbose=0, mix="mixup")


def test_members_of_an_ensemble_have_pairs_of_their_own():
    def members():
        return [mc.Sequential([layers.Flatten(), layers.Dense(K, activation="softmax")], seed=seed) for seed in (0, 1)]

    ensemble, alone = mc.Ensemble(members()), members()
    for model in [*ensemble.members, *alone]:
        model.compile("sgd", "sparse_categorical_crossentropy")
    ensemble.fit(X, Y, batch_size=8, verbose=0, mix="mixup")
    for member, model in zip(ensemble.members, alone, strict=True):
        model.fit(X, Y, batch_size=8, verbose=0, mix="mixup")
        assert member.fingerprint() == model.fingerprint()


# ---- what is refused ----


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: MixUp(0), ValueError, r"^MixUp: alpha must be a number > 0; got 0$"),
    (lambda: MixUp(-0.1), ValueError, "MixUp: alpha"), (lambda: CutMix(math.nan), ValueError, "CutMix: alpha"),
    (lambda: CutMix(math.inf), ValueError, "CutMix: alpha"), (lambda: MixUp("0.2"), TypeError, "MixUp: alpha"),
    (lambda: MixUp(True), TypeError, "alpha"), (lambda: MixUp(None), TypeError, "alpha"),
    (lambda: MixUp((0.2, 0.3)), TypeError, "alpha"), (lambda: MixUp(seed=-1), ValueError, "seed"),
    (lambda: MixUp(seed=1.5), TypeError, "seed"),
    (lambda: CutMix(factor=1.0), TypeError, r"CutMix: the keywords are alpha, seed; got `factor`"),
    (lambda: setattr(MixUp(), "alpha", 0.3), AttributeError, r"MixUp\.alpha: is fixed"),
    (lambda: MixUp().draw(-1, SHAPE, 0), ValueError, r"MixUp\.draw: n"),
    (lambda: MixUp().draw(4, SHAPE, 0.5), TypeError, r"MixUp\.draw: step"),
    (lambda: MixUp().draw(4, SHAPE, 0, -1), ValueError, r"MixUp\.draw: seed"),
    (lambda: CutMix().draw(4, (9,), 0), ValueError, r"^CutMix\.draw: cutmix needs images.*; got \(9,\)\. mixup takes"),
    (lambda: MixUp().draw(4, SHAPE, 0).inputs(X[:3]), ValueError, r"^Pairs\.inputs: x must have shape \(4, \.\.\.\)"),
    (lambda: CutMix().draw(4, SHAPE, 0).inputs(X[:4, 0]), ValueError, r"shape \(4, height, width, channels\)"),
    (lambda: MixUp().draw(4, SHAPE, 0).inputs("abc"), TypeError, r"Pairs\.inputs: x"),
    (lambda: MixUp().draw(4, SHAPE, 0).targets(["a"] * 4), TypeError, r"Pairs\.targets: y"),
    (lambda: MixUp().draw(4, SHAPE, 0).targets(Y[:5]), ValueError, r"^Pairs\.targets: y must have shape \(4, \.\.\.\)"),
    (lambda: MixUp().draw(4, SHAPE, 0).larger(Y[:3]), ValueError, r"^Pairs\.larger: y must have shape \(4, .*\(3,\)$"),
    (lambda: MixUp().draw(1, SHAPE, 0).targets(2.0), ValueError, r"y must have shape \(1, \.\.\.\); got shape \(\)$"),
    (lambda: CutMix().draw(9, (60, 60, 2), 0).inputs(X[:9]), ValueError, r"the size for which the boxes were drawn; g"),
])  # fmt: skip
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def squares(y_true, y_pred):
    return float(((y_pred - y_true) ** 2).mean()), 2 * (y_pred - y_true) / y_true.size


@pytest.mark.parametrize(("make", "y", "more", "error", "message"), [
    (network, Y, {"mix": "mix"}, ValueError, r"^Sequential\.fit: mix must be one of 'mixup', 'cutmix'"),
    (network, Y, {"mix": 0.2}, TypeError, r"^Sequential\.fit: mix must be None, one of 'mixup', 'cutmix' or a Mix"),
    (network, Y, {"mix": MixUp}, TypeError, r"got the class MixUp\. Did you mean MixUp\(\)\?"),
    (network, Y, {"mix": True}, TypeError, r"^Sequential\.fit: mix must be"),
    (network, Y, {"mix": "mixup", "batch_size": 1}, ValueError, r"with mix batches must have at least 2 samples; got"),
    (lambda: network("mse"), ONE_HOT, {"mix": "mixup", "sample_weight": WEIGHTS}, ValueError,
     r"^Sequential\.fit: mix takes no sample or class weights with 'mean_squared_error'"),
    (lambda: network("mse"), ONE_HOT, {"mix": "mixup", "class_weight": {1: 2.0}}, ValueError, "takes no sample or"),
    (lambda: network(squares, units=1, activation=None), Y, {"mix": "mixup"}, TypeError,
     r"^Sequential\.fit: mix hands the mixed targets to the custom loss 'squares': they must be floats; got dtype int"),
])  # fmt: skip
def test_bad_fits_change_nothing(make, y, more, error, message):
    model = make()
    before = model.fingerprint()
    with pytest.raises(error, match=message):
        model.fit(X, y, verbose=0, **more)
    assert model.fingerprint() == before
    assert model.optimizer.iterations == 0


def test_cutmix_needs_images_and_one_answer():
    flat = mc.Sequential([layers.Dense(K, activation="softmax")], seed=0)
    flat.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"^Sequential\.fit: cutmix needs images"):
        flat.fit(X.reshape(N, -1), Y, verbose=0, mix="cutmix")
    maps = mc.Sequential([layers.Conv2D(2, 3, padding="same", activation="sigmoid")], seed=1)
    maps.compile("sgd", "binary_crossentropy")
    with pytest.raises(ValueError, match=r"^Sequential\.fit: cutmix needs one answer for an image"):
        maps.fit(X, X, verbose=0, mix="cutmix")


def test_a_number_that_is_not_finite_is_found_in_its_own_sample():
    x = X.copy()
    x[13, 2, 2, 1] = np.nan
    with pytest.raises(ValueError, match=r"got NaN or infinity in sample 13"):
        network().fit(x, Y, 8, verbose=0, mix="mixup")
