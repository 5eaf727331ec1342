"""Initial values: which distribution, how wide, and how often which number."""

import math

import numpy as np
import pytest

import minicnn as mc
from minicnn import initializers, layers

SHAPES = {  # shape of a parameter: (fan_in, fan_out)
    (300, 200): (300, 200),
    (3, 5, 40, 60): (3 * 5 * 40, 3 * 5 * 60),
    (1, 1, 200, 100): (200, 100),
    (30000,): (30000, 30000),
}
VARIANCE = {"glorot": lambda i, o: 2 / (i + o), "he": lambda i, o: 2 / i, "lecun": lambda i, o: 1 / i}


def draw(name, shape, seed=0):
    return initializers.get("Test", name)(shape, np.random.default_rng(seed))


@pytest.mark.parametrize(("shape", "fans"), [*SHAPES.items(), ((), (1, 1)), ((2, 3, 4, 5, 6), (120, 144))])
def test_fans(shape, fans):
    assert initializers.fans(shape) == fans


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scheme", VARIANCE)
def test_uniform_values(scheme, shape):
    """Mean, variance and extremes of a uniform distribution on [-a, a] with a^2 / 3 = the variance."""
    variance = VARIANCE[scheme](*SHAPES[shape])
    values, bound = draw(f"{scheme}_uniform", shape), math.sqrt(3 * variance)
    assert values.shape == shape
    assert np.abs(values).max() <= bound
    assert np.abs(values).max() > 0.999 * bound
    assert abs(values.mean()) < 5 * math.sqrt(variance / values.size)
    # The variance of the square of a uniform variable is 4/5 of its variance squared.
    assert abs(values.var() / variance - 1) < 5 * math.sqrt(0.8 / values.size)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scheme", VARIANCE)
def test_normal_values(scheme, shape):
    """Cut at two standard deviations of the normal distribution, with the right variance after the cut."""
    variance = VARIANCE[scheme](*SHAPES[shape])
    values = draw(f"{scheme}_normal", shape)
    cut = 2 * math.sqrt(variance) / 0.87962566103423978
    assert values.shape == shape
    assert 0.98 * cut < np.abs(values).max() <= cut
    assert abs(values.mean()) < 5 * math.sqrt(variance / values.size)
    assert abs(values.var() / variance - 1) < 5 * math.sqrt(2 / values.size)
    inside = (np.abs(values) < cut / 2).mean()  # of a normal variable within 2 deviations, those within 1
    share = math.erf(1 / math.sqrt(2)) / math.erf(2 / math.sqrt(2))
    assert abs(inside - share) < 5 * math.sqrt(share * (1 - share) / values.size)


def test_no_value_of_a_small_parameter_lies_beyond_the_cut():
    cut = 2 * math.sqrt(2 / 3) / 0.87962566103423978
    values = np.array([draw("he_normal", (3, 4), seed) for seed in range(200)])
    assert 0.98 * cut < np.abs(values).max() <= cut


def test_the_width_after_the_cut():
    """std^2 of a standard normal variable within [-2, 2]: 1 - 2 * 2 phi(2) / P(|z| < 2)."""
    phi = math.exp(-2) / math.sqrt(2 * math.pi)
    std = math.sqrt(1 - 4 * phi / math.erf(2 / math.sqrt(2)))
    assert pytest.approx(std, rel=1e-14) == initializers._STD_OF_CUT_NORMAL


def test_constants():
    assert (draw("zeros", (3, 4)) == 0).all()
    assert (draw("ones", (3, 4)) == 1).all()
    assert draw("zeros", (3, 4)).shape == draw("ones", (3, 4)).shape == (3, 4)


@pytest.mark.parametrize("name", initializers.NAMES)
def test_values_are_a_function_of_the_seed(name):
    assert np.array_equal(draw(name, (20, 30)), draw(name, (20, 30)))
    assert np.array_equal(draw(name, (20, 30)), draw(name, (20, 30), seed=1)) is (name in ("zeros", "ones"))


def test_the_names_are_those_of_keras():
    assert set(initializers.NAMES) == {
        "zeros", "ones", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal",
    }  # fmt: skip


@pytest.mark.parametrize("name", initializers.NAMES)
@pytest.mark.parametrize("make", [lambda **more: layers.Dense(7, **more), lambda **more: layers.Conv2D(7, 3, **more)])
def test_layers_use_the_initializer_that_they_are_given(name, make):
    model = mc.Sequential([make(kernel_initializer=name)], seed=4)
    model.build((5, 6, 3))
    layer = model.layers[0]
    want = initializers.get("Test", name)(layer.params["kernel"].shape, np.random.default_rng(4))
    assert np.array_equal(layer.params["kernel"], want.astype(np.float32))
    assert (layer.params["bias"] == 0).all()


def test_a_function_of_ones_own():
    def eye(shape, rng):
        return np.eye(*shape)

    assert initializers.get("Test", eye) is eye
    model = mc.Sequential([layers.Dense(4, kernel_initializer=eye)])
    x = np.arange(8.0).reshape(2, 4)
    assert np.array_equal(model.predict(x), x)


@pytest.mark.parametrize(("name", "error", "message"), [
    ("glorot", ValueError, "Did you mean 'glorot_"), ("he_norm", ValueError, "Did you mean 'he_normal'?"),
    ("xavier", ValueError, "got 'xavier'"), (3, TypeError, "got 3"), (None, TypeError, "got None"),
])  # fmt: skip
def test_names_that_do_not_exist(name, error, message):
    with pytest.raises(error) as caught:
        layers.Dense(4, kernel_initializer=name)
    assert str(caught.value).startswith("Dense: an initializer must be one of 'zeros', 'ones', 'glorot_uniform', ")
    assert message in str(caught.value)
