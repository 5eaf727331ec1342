"""BatchNormalization, LayerNormalization and GroupNormalization against the reference."""

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits, tolerance
from hypothesis import given
from hypothesis import strategies as st
from running import LAYOUTS, at_every_thread_count, build, channels, dtypes, inputs, layouts, normal, run

import minicnn as mc
from minicnn import layers
from minicnn.testing import gradcheck

NONE = np.random.default_rng(0)
MOVING = ("moving_mean", "moving_variance")


def compare(layer, x, dy, got, spread=1.0):
    """y, the gradients and the new moving statistics; ``spread`` is |x| relative to its standard deviation."""
    gamma, beta, epsilon = layer.params["gamma"], layer.params["beta"], layer.epsilon
    rtol = tolerance(x.dtype, x.size // x.shape[-1])
    y, mean, variance = reference.batch_norm(x, gamma, beta, epsilon)
    assert_close(got["y"], y, rtol, x.dtype, spread * np.abs(y).max())
    wants = reference.batch_norm_grad(x, gamma, dy, epsilon)
    z = (x - mean) / np.sqrt(variance + epsilon)
    axes = tuple(range(x.ndim - 1))
    steepest = np.abs(gamma / np.sqrt(variance + epsilon)).max()
    scales = steepest * np.abs(dy).max(), np.abs(dy * z).sum(axes).max(), np.abs(dy).sum(axes).max()
    for name, want, scale in zip(("dx", "gamma", "beta"), wants, scales, strict=True):
        assert_close(got[name], want, 4 * rtol, x.dtype, spread * scale)
    for name, old, new in zip(MOVING, (0, 1), (mean, variance), strict=True):
        want = reference.moving(old, new, layer.momentum)
        assert_close(layer.state[name], want, rtol, x.dtype, spread * np.abs(want).max())


shapes = st.lists(st.integers(1, 12), max_size=2)


@given(shapes, channels, st.integers(2, 9), dtypes, layouts, st.sampled_from([0.9, 0.5]))
def test_training(shape, c, n, dtype, layout, momentum):
    layer = build(layers.BatchNormalization(momentum, dtype=dtype), (*shape, c))
    x, dy = inputs(layer, n, dtype)
    x = x * np.arange(1, c + 1, dtype=dtype) + np.arange(c, dtype=dtype)[::-1]  # another spread in every channel
    compare(layer, x, dy, run(layer, x, dy, layout), spread=10)


@given(shapes, channels, st.integers(0, 5), dtypes, layouts)
def test_evaluation(shape, c, n, dtype, layout):
    layer = build(layers.BatchNormalization(epsilon=0.01, dtype=dtype), (*shape, c))
    layer.state["moving_mean"][...] = normal(c, dtype, 3)
    layer.state["moving_variance"][...] = normal(c, dtype, 4) ** 2
    before = {name: values.copy() for name, values in layer.state.items()}
    x = normal((n, *shape, c), dtype)
    got = layer.forward(LAYOUTS[layout](x))
    want = reference.batch_norm_eval(x, layer.params["gamma"], layer.params["beta"], *before.values(), 0.01)
    assert_close(got, want, tolerance(dtype), dtype, 10 + np.abs(want).max(initial=0))
    for name, values in before.items():
        assert_same_bits(layer.state[name], values)


@pytest.mark.parametrize("shape", [(4,), (3, 2, 3), (1,)])
def test_gradient_by_finite_differences(shape):
    assert gradcheck(build(layers.BatchNormalization(), shape), normal((5, *shape)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(9, 8, 40), (50, 50, 3), (70, 60, 7), (700,)])
def test_same_bits_at_any_thread_count(shape, dtype):
    def make():
        made.append(build(layers.BatchNormalization(dtype=dtype), shape))
        return made[-1]

    made = []
    first, *others = at_every_thread_count(make, *inputs(make(), 40, dtype))
    for other, layer in zip(others, made[2:], strict=True):
        for name, array in first.items():
            assert_same_bits(array, other[name])
        for name in MOVING:
            assert_same_bits(made[1].state[name], layer.state[name])


@pytest.mark.parametrize("c", [1, 3, 16])
@pytest.mark.parametrize("mean", [0.0, 100.0, -1000.0])
def test_many_values_with_a_large_mean(mean, c):
    """100,000 values of each channel in float32: the errors must not grow with their number or with the mean.

    A mean of 1,000 standard deviations costs float32 a thousand times its epsilon, in x already, and no more.
    """
    layer = build(layers.BatchNormalization(), (100, 100, c))
    x, dy = inputs(layer, 10, "float32")
    x = (x + np.float32(mean)).astype(np.float32)
    got = run(layer, x, dy)
    want, _, _ = reference.batch_norm(x, layer.params["gamma"], layer.params["beta"])
    rtol = (20 + 2 * abs(mean)) * np.finfo(np.float32).eps
    assert_close(got["y"], want, rtol, np.float32)
    wants = reference.batch_norm_grad(x, layer.params["gamma"], dy)
    for name, gradient in zip(("dx", "gamma", "beta"), wants, strict=True):
        scale = np.abs(gradient).max() if name == "dx" else np.abs(dy).sum((0, 1, 2)).max()
        assert_close(got[name], gradient, rtol, np.float32, scale)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("c", [1, 5, 6, 15, 33, 48, 67, 100, 127, 128, 130, 300, 513])
def test_rows_that_are_taken_together(c, dtype):
    """Several blocks of rows, and in each some that are left over when they are taken several at a time."""
    layer = build(layers.BatchNormalization(dtype=dtype), (40_000 // 3 // c + 1, c))
    x, dy = inputs(layer, 3, dtype)
    compare(layer, x, dy, run(layer, x, dy), spread=10)
    want = reference.batch_norm_eval(x, layer.params["gamma"], layer.params["beta"], *layer.state.values())
    assert_close(layer.forward(x), want, tolerance(dtype), dtype, 10 + np.abs(want).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(31, 140), (32, 128), (64, 64), (33, 33, 5), (100, 83, 4), (40, 1000)])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_images_that_are_long_enough_for_blocks_of_their_own(n, shape, dtype):
    """On both sides of what is long enough, and images of several blocks."""
    layer = build(layers.BatchNormalization(dtype=dtype), shape)
    x, dy = inputs(layer, n, dtype)
    x = x + np.arange(n, dtype=dtype).reshape(n, *[1] * len(shape))  # another mean in every image
    compare(layer, x, dy, run(layer, x, dy), spread=10)


def test_a_constant_channel_stays_finite():
    layer = build(layers.BatchNormalization(), (4,))
    layer.params["beta"][...] = [1, 2, 3, 4]
    got = run(layer, np.full((6, 4), 7.5, np.float32), normal((6, 4), "float32"))
    assert_close(got["y"], np.broadcast_to([1.0, 2, 3, 4], (6, 4)), 1e-6)
    assert np.isfinite(got["dx"]).all()


def test_a_nan_stays_in_its_channel():
    layer = build(layers.BatchNormalization(), (6, 5))
    x = normal((3, 6, 5), "float32")
    x[1, 2, 3] = np.nan
    assert (np.isnan(layer.forward(x, training=True)) == (np.arange(5) == 3)).all()


def test_moving_statistics_by_hand():
    layer = build(layers.BatchNormalization(momentum=0.75, dtype="float64"), (1,))
    for batch in ([1.0, 3.0], [6.0, 6.0]):
        layer.forward(np.array(batch)[:, None], training=True)
    # means 2, 6 and biased variances 1, 0; from 0 and 1: 0.5 -> 1.875 and 1 -> 0.75
    assert layer.state["moving_mean"].tolist() == [1.875]
    assert layer.state["moving_variance"].tolist() == [0.75]
    for momentum, want in ((0.0, 2.0), (1.0, 0.0)):
        layer = build(layers.BatchNormalization(momentum, dtype="float64"), (1,))
        layer.forward(np.array([[1.0], [3.0]]), training=True)
        assert layer.state["moving_mean"].tolist() == [want]


def test_a_new_layer():
    layer = layers.BatchNormalization()
    assert layer.build((4, 3), NONE) == (4, 3)
    assert layer.params["gamma"].tolist() == [1, 1, 1]
    assert layer.params["beta"].tolist() == [0, 0, 0]
    assert layer.state["moving_mean"].tolist() == [0, 0, 0]
    assert layer.state["moving_variance"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("x", [np.ones((1, 3)), np.ones((0, 3))])
def test_one_value_is_too_few_to_train_on(x):
    layer = build(layers.BatchNormalization(), (3,))
    before = layer.state["moving_mean"].copy()
    with pytest.raises(ValueError, match=r"BatchNormalization.forward: training needs at least two .*; got shape"):
        layer.forward(x, training=True)
    assert_same_bits(layer.state["moving_mean"], before)
    assert layer.forward(x).shape == x.shape


def test_one_image_is_enough():
    layer = build(layers.BatchNormalization(), (4, 4, 2))
    x, dy = inputs(layer, 1, "float32")
    compare(layer, x, dy, run(layer, x, dy), spread=10)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((2,), ValueError, r"momentum must be a number in \[0, 1\]; got 2"),
    ((-0.1,), ValueError, r"momentum must be a number in \[0, 1\]; got -0.1"),
    ((None,), TypeError, r"momentum must be a number in \[0, 1\]; got None"),
    ((0.9, 0), ValueError, r"epsilon must be a number >= 1e-30; got 0"),
    ((0.9, float("inf")), ValueError, r"epsilon must be a number >= 1e-30; got inf"),
    ((True,), TypeError, r"momentum must be a number in \[0, 1\]; got True \(bool\)"),
    ((0.9, 0.1, False, 1), TypeError, r"center must be True or False; got 1 \(int\)"),
])  # fmt: skip
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^BatchNormalization: {message}"):
        layers.BatchNormalization(*arguments)


@pytest.mark.parametrize(("mean", "std"), [(1000.3, 0.1), (-1e4, 1.0), (0.0, 1e-3)])
def test_statistics_of_values_far_from_zero(mean, std):
    """One long sum in float32 would lose the variance of these."""
    x = (mean + std * np.random.default_rng(0).standard_normal((65_536, 1))).astype(np.float32)
    layer = layers.BatchNormalization(momentum=0.0)
    layer.build((1,), None)
    layer.forward(x, training=True)
    exact = x.astype(np.float64)
    assert abs(layer.state["moving_mean"][0] - exact.mean()) < 2e-3 * std + 1e-7 * abs(mean)
    assert abs(layer.state["moving_variance"][0] / exact.var() - 1) < 1e-3


def test_batch_normalization_without_gamma_or_beta():
    """As with ones or zeros that are not trained; the words after the older ones are Keras's."""
    x = normal((6, 5, 3), "float64")
    dy = normal((6, 5, 3), "float64", 1)
    full = layers.BatchNormalization(dtype="float64")
    full.build((5, 3), NONE)
    want = run(full, x, dy)
    for scale, center in ((False, True), (True, False), (False, False)):
        layer = layers.BatchNormalization(0.99, 1e-3, False, center, scale, dtype="float64")
        layer.build((5, 3), NONE)
        assert list(layer.params) == ["gamma"] * scale + ["beta"] * center
        for inference in (False, True):
            layer.inference = full.inference = inference
            for moved in (layer, full):
                moved.state.update(moving_mean=np.arange(3.0), moving_variance=np.arange(1.0, 4))
            got, want = run(layer, x, dy), run(full, x, dy)
            for name, array in got.items():
                assert_same_bits(array, want[name])


def test_initial_values():
    words = {"beta_initializer": "ones", "gamma_initializer": lambda shape, rng: np.full(shape, 3.0)}
    layer = layers.BatchNormalization(moving_mean_initializer="ones", moving_variance_initializer="zeros", **words)
    others = [layers.LayerNormalization(**words), layers.GroupNormalization(1, **words)]
    for one in (layer, *others):
        one.build((2,), NONE)
        assert one.params["gamma"].tolist() == [3, 3]
        assert one.params["beta"].tolist() == [1, 1]
    assert layer.state["moving_mean"].tolist() == [1, 1]
    assert layer.state["moving_variance"].tolist() == [0, 0]
    wrong = layers.BatchNormalization(moving_mean_initializer=lambda shape, rng: np.zeros(3))
    with pytest.raises(ValueError, match=r"moving_mean_initializer must return shape \(2,\); got shape \(3,\)$"):
        wrong.build((2,), NONE)


KINDS = (layers.BatchNormalization, layers.LayerNormalization, lambda **more: layers.GroupNormalization(1, **more))


@pytest.mark.parametrize("make", KINDS)
def test_penalties_and_constraints_of_gamma_and_beta(make):
    model = mc.Sequential([make(gamma_regularizer="l2", beta_constraint="non_neg"), layers.Dense(2)], seed=0)
    model.compile(mc.optimizers.SGD(1.0), "mse")
    x, y = normal((8, 3), "float32"), normal((8, 2), "float32", 1)
    model.build((3,))
    layer = model.layers[0]
    layer.params["gamma"][...] = [1, 2, 3]
    outputs = model.forward(x)
    loss, _ = model.loss(outputs, y)
    layer.gamma_regularizer = None
    assert abs(loss - model.loss(outputs, y)[0] - 0.01 * 14) < 1e-5
    for _ in range(3):
        model.train_on_batch(x, y)
        assert (layer.params["beta"] >= 0).all()
    layer.beta_constraint = None
    layer.params["beta"][...] = -1
    model.train_on_batch(x, y)
    assert (layer.params["beta"] < 0).any()


@pytest.mark.parametrize("make", KINDS)
def test_rules_of_a_parameter_that_is_not_there(make):
    for word, value, switch in (("beta_regularizer", "l2", "center"), ("gamma_constraint", "non_neg", "scale")):
        message = rf"{word} must be None without {switch}; got .*Say {switch}=True or leave it out$"
        with pytest.raises(ValueError, match=message):
            make(**{word: value, switch: False})
        layer = make(**{switch: False})
        with pytest.raises(ValueError, match=message):
            setattr(layer, word, value)


# ---- statistics of one sample ----

AXES = [((5,), -1), ((1,), -1), ((3, 4), 2), ((3, 4), [1, 2]), ((4, 3, 8), [-2, -1]), ((2, 3, 4), [1, 2, 3])]
LENGTHS = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 64, 100, 256, 1000, 5000]


def compare_sample(layer, x, dy, got, reach=1.0):
    """``reach``: how many times float32's accuracy an error may be."""
    gamma = layer.params["gamma"]
    more = (layer.groups if layer.groups > 0 else x.shape[-1],) if isinstance(layer, layers.GroupNormalization) else ()
    forward, backward = (reference.group_norm, reference.group_norm_grad) if more else (
        reference.layer_norm, reference.layer_norm_grad)  # fmt: skip
    terms = x.size // gamma.size
    rtol = reach * tolerance(x.dtype)
    assert_close(got["y"], forward(x, gamma, layer.params["beta"], *more, layer.epsilon), rtol, x.dtype)
    wants = backward(x, gamma, dy, *more, layer.epsilon)
    steepest = np.abs(dy).max() * np.abs(gamma).max()
    assert_close(got["dx"], wants[0], 4 * rtol, x.dtype, max(np.abs(wants[0]).max(), steepest))
    for name, want in zip(("gamma", "beta"), wants[1:], strict=True):
        assert_close(got[name], want, rtol * terms**0.5, x.dtype, np.abs(want).max() + np.abs(dy).max() * terms**0.5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "axis"), AXES)
def test_axes_of_layer_normalization(shape, axis, dtype):
    layer = build(layers.LayerNormalization(axis, 0.01, dtype=dtype), shape)
    for n in (1, 2, 5, 9):
        x, dy = inputs(layer, n, dtype)
        compare_sample(layer, 3 * x + 1, dy, run(layer, 3 * x + 1, dy), 4)
    assert_same_bits(layer.forward(x), layer.forward(x, training=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mean", [0, 1e4])
@pytest.mark.parametrize("length", LENGTHS)
def test_rows_of_all_lengths(length, mean, dtype):
    """A mean of 10,000 standard deviations costs nothing: the numbers are what they are, and x - mean is exact."""
    for rows in (1, 19):
        layer = build(layers.LayerNormalization(dtype=dtype), (rows, length))
        x, dy = inputs(layer, 5, dtype)
        x = (x + mean).astype(dtype)
        compare_sample(layer, x, dy, run(layer, x, dy), 4 * (1 + 10 * mean * (dtype == "float64")))


GROUPS = [((6,), 3), ((6,), -1), ((64,), 32), ((5, 6), 2), ((3, 4, 8), 1), ((3, 4, 8), -1), ((2, 2, 3, 6), 3),
          ((40, 50, 12), 4), ((1, 1, 40), 8), ((9, 300), 3)]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mean", [0, 1e4])
@pytest.mark.parametrize(("shape", "groups"), GROUPS)
def test_groups(shape, groups, mean, dtype):
    layer = build(layers.GroupNormalization(groups, epsilon=0.01, dtype=dtype), shape)
    for n in (1, 7):
        x, dy = inputs(layer, n, dtype)
        x = (x + mean + np.arange(shape[-1])).astype(dtype)
        compare_sample(layer, x, dy, run(layer, x, dy), 4 * (1 + 10 * mean * (dtype == "float64")))
    assert_same_bits(layer.forward(x), layer.forward(x, training=True))


def test_a_first_pixel_far_from_the_others():
    """What sums are made around is no single pixel: here it would cost three digits."""
    layer = build(layers.GroupNormalization(1), (64, 64, 2))
    x, dy = inputs(layer, 2, "float32")
    x[:, 0, 0] = 1e5
    compare_sample(layer, x, dy, run(layer, x, dy), 40)


@pytest.mark.parametrize("make", [
    lambda: layers.LayerNormalization(), lambda: layers.LayerNormalization([1, 2, 3]),
    lambda: layers.GroupNormalization(4), lambda: layers.GroupNormalization(-1),
])  # fmt: skip
@pytest.mark.parametrize("n", [1, 3, 40])
def test_statistics_of_samples_at_any_thread_count(make, n):
    shape = (9, 11, 12)
    first, *others = at_every_thread_count(lambda: build(make(), shape), *inputs(build(make(), shape), n, "float32"))
    for other in others:
        for name, array in first.items():
            assert_same_bits(array, other[name])


@pytest.mark.parametrize("make", [lambda: layers.LayerNormalization(), lambda: layers.GroupNormalization(2)])
def test_constant_rows_and_nan_stay_where_they_are(make):
    layer = build(make(), (3, 4))
    x = np.full((5, 3, 4), 7.5, np.float32)
    got = run(layer, x, normal(x.shape, "float32"))
    assert_close(got["y"], np.broadcast_to(layer.params["beta"], x.shape), 1e-6)
    assert np.isfinite(got["dx"]).all()
    x[2, 1, 0] = np.nan
    found = np.isnan(layer.forward(x))
    assert found[2, 1, 0]
    assert not np.delete(found, 2, axis=0).any()


WRONG = [
    (lambda: layers.LayerNormalization(0), "axis must be -1 or a list of last axes .*; got 0. Axis 0 is the batch"),
    (lambda: layers.LayerNormalization(1), "axis must be -1 or a list of last axes .*; got 1"),
    (lambda: layers.LayerNormalization([1, 3]), r"axis must be -1 or a list of last axes .*; got \(1, 3\)"),
    (lambda: layers.LayerNormalization([2, 1]), "axis must be"),
    (lambda: layers.LayerNormalization([3, 3]), "axis must"),
    (lambda: layers.LayerNormalization([0, 1, 2, 3]), "axis must be"),
    (lambda: layers.LayerNormalization(4), "axis must"),
    (lambda: layers.LayerNormalization([]), "axis must be a whole number or some of them"),
    (lambda: layers.GroupNormalization(5), "groups must divide the 8 channels; got 5. Choose a number"),
    (lambda: layers.GroupNormalization(), "groups must divide the 8 channels; got 32"),
    (lambda: layers.GroupNormalization(0), "groups must be a whole number >= 1, or -1"),
    (lambda: layers.GroupNormalization(-2), "groups must be a whole number >= 1, or -1"),
    (lambda: layers.GroupNormalization(2, 1), "axis must be -1 or 3, the last one: channels come last here; got 1"),
    (lambda: layers.BatchNormalization(axis=1), "axis must be -1 or 3, the last one: channels come last here; got 1"),
    (lambda: layers.BatchNormalization(axis=0), "axis must be -1 or 3"),
]


@pytest.mark.parametrize("place", range(len(WRONG)))
def test_axes_and_groups_that_do_not_fit(place):
    make, message = WRONG[place]
    with pytest.raises(ValueError, match=rf"^\w+Normalization: {message}"):
        make().build((4, 5, 8), NONE)


@pytest.mark.parametrize("arguments", [
    {"axis": "3"}, {"axis": None}, {"axis": True}, {"axis": [1.0]}, {"axis": -1.0}, {"center": None}, {"scale": "yes"},
    {"epsilon": "1"}, {"epsilon": True}, {"gamma_initializer": 3}, {"beta_regularizer": 0.1}, {"gamma_constraint": 1},
])  # fmt: skip
def test_the_wrong_kind_of_argument(arguments):
    for kind in (layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization):
        with pytest.raises(TypeError, match=rf"^{kind.__name__}: .*; got "):
            kind(**arguments)
    for groups in (2.0, True, "2", None):
        with pytest.raises(TypeError, match=r"^GroupNormalization: groups must be a whole number; got "):
            layers.GroupNormalization(groups)


def test_a_single_number_is_no_sample():
    for make in KINDS:
        with pytest.raises(ValueError, match="one sample must have at least one axis"):
            make().build((), NONE)


@pytest.mark.parametrize("groups", [None, 1, 4, 12])
@pytest.mark.parametrize("shape", [(6, 5, 12), (12,)])
def test_against_torch(shape, groups):
    torch = pytest.importorskip("torch")
    layer = layers.LayerNormalization() if groups is None else layers.GroupNormalization(groups)
    build(layer, shape)
    x, dy = inputs(layer, 5, "float32")
    theirs = torch.nn.LayerNorm(12, 1e-3) if groups is None else torch.nn.GroupNorm(groups, 12, 1e-3)
    with torch.no_grad():
        theirs.weight.copy_(torch.from_numpy(layer.params["gamma"]))
        theirs.bias.copy_(torch.from_numpy(layer.params["beta"]))
    last = (lambda t: t) if groups is None else (lambda t: t.movedim(1, -1))
    first = (lambda t: t) if groups is None else (lambda t: t.movedim(-1, 1))
    given = torch.from_numpy(x).requires_grad_(True)
    y = last(theirs(first(given)))
    y.backward(torch.from_numpy(dy))
    got = run(layer, x, dy)
    for name, want in (("y", y), ("dx", given.grad), ("gamma", theirs.weight.grad), ("beta", theirs.bias.grad)):
        want = want.detach().numpy()
        assert_close(got[name], want, 1e-5, scale=max(1, np.abs(want).max()))  # a group of one number has dx = 0


def test_no_variance_is_negative_and_no_epsilon_vanishes():
    with pytest.raises(ValueError, match="moving_variance_initializer must give numbers >= 0; got 'random_normal'"):
        build(layers.BatchNormalization(moving_variance_initializer="random_normal"), (4, 4, 6))
    for cls in (layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization):
        with pytest.raises(ValueError, match=f"{cls.__name__}: epsilon must be a number >= 1e-30; got 1e-46"):
            cls(epsilon=1e-46)
    for cls in (layers.LayerNormalization, lambda **more: layers.GroupNormalization(1, **more)):
        layer = build(cls(epsilon=1e-30), (4,))
        assert np.isfinite(layer.forward(np.ones((2, 4), np.float32))).all()
