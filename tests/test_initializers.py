"""Initial values: which distribution, how wide, and how often which number."""

import copy
import inspect
import json
import math
import pickle
import re

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
    constant = name in ("zeros", "ones", "constant", "identity")
    assert np.array_equal(draw(name, (20, 30)), draw(name, (20, 30), seed=1)) is constant


def test_the_names_are_those_of_keras():
    assert set(initializers.NAMES) == {
        "zeros", "ones", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal",
        "constant", "identity", "orthogonal", "random_normal", "random_uniform", "truncated_normal", "variance_scaling",
    }  # fmt: skip


@pytest.mark.parametrize("name", initializers.NAMES)
@pytest.mark.parametrize("make", [lambda **more: layers.Dense(7, **more), lambda **more: layers.Conv2D(7, 3, **more)])
def test_layers_use_the_initializer_that_they_are_given(name, make):
    if name == "identity" and isinstance(make(), layers.Conv2D):
        pytest.skip("not for kernels with four axes")
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


# ---- objects ----

CLASSES = [getattr(initializers, name) for name in initializers.__all__ if name not in ("Initializer", "get")]
RANDOM = [cls for cls in CLASSES if "seed" in inspect.signature(cls).parameters]


def snake(name):
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()


@pytest.mark.parametrize("cls", CLASSES)
def test_every_name_of_a_class(cls):
    """HeNormal(), he_normal(), "he_normal" and "HeNormal" draw the same numbers."""
    assert getattr(initializers, snake(cls.__name__)) is cls
    want = draw(snake(cls.__name__), (20, 30), seed=4)
    assert np.array_equal(draw(cls.__name__, (20, 30), seed=4), want)
    assert np.array_equal(draw(cls(), (20, 30), seed=4), want)


@pytest.mark.parametrize(("old", "name"), [
    ("zero", "zeros"), ("one", "ones"), ("normal", "random_normal"), ("uniform", "random_uniform"),
])  # fmt: skip
def test_kerass_short_names(old, name):
    assert np.array_equal(draw(old, (20, 30)), draw(name, (20, 30)))


OLD_VALUES = {  # the first two of (3, 4) at seed 0, as they have always been
    "zeros": (0.0, 0.0),
    "ones": (1.0, 1.0),
    "glorot_uniform": (0.2536037660419317, -0.426272175264201),
    "glorot_normal": (0.07640253467784175, -0.08027621609945294),
    "he_uniform": (0.38738615147100774, -0.6511415032672279),
    "he_normal": (0.11670679948256611, -0.12262394559345859),
    "lecun_uniform": (0.2739233746429085, -0.4604265724722594),
    "lecun_normal": (0.08252416932470115, -0.08670822346498483),
}


@pytest.mark.parametrize("name", OLD_VALUES)
def test_old_models_get_their_old_values(name):
    assert tuple(draw(name, (3, 4)).ravel()[:2]) == OLD_VALUES[name]


def test_defaults_and_their_order_are_kerass():
    for cls, want in {
        initializers.Zeros: {}, initializers.Ones: {}, initializers.Constant: {"value": 0.0},
        initializers.Identity: {"gain": 1.0}, initializers.Orthogonal: {"gain": 1.0, "seed": None},
        initializers.RandomNormal: {"mean": 0.0, "stddev": 0.05, "seed": None},
        initializers.TruncatedNormal: {"mean": 0.0, "stddev": 0.05, "seed": None},
        initializers.RandomUniform: {"minval": -0.05, "maxval": 0.05, "seed": None},
        initializers.VarianceScaling:
            {"scale": 1.0, "mode": "fan_in", "distribution": "truncated_normal", "seed": None},
        **{cls: {"seed": None} for cls in CLASSES if re.match("He|Lecun|Glorot", cls.__name__)},
    }.items():  # fmt: skip
        assert list(cls().get_config().items()) == list(want.items())


def test_distributions():
    n = 200_000
    normal = draw(initializers.RandomNormal(2.0, 0.5), (n,))
    assert abs(normal.mean() - 2) < 5 * 0.5 / math.sqrt(n)
    assert abs(normal.var() / 0.25 - 1) < 5 * math.sqrt(2 / n)
    assert np.abs(normal - 2).max() > 3 * 0.5
    cut = draw(initializers.TruncatedNormal(2.0, 0.5), (n,))
    assert 0.999 < np.abs(cut - 2).max() <= 1
    assert abs(cut.var() / (0.25 * 0.87962566103423978**2) - 1) < 5 * math.sqrt(2 / n)
    uniform = draw(initializers.RandomUniform(-1.0, 3.0), (n,))
    assert -1 <= uniform.min() < -0.999
    assert 2.999 < uniform.max() <= 3
    assert abs(uniform.var() / (16 / 12) - 1) < 5 * math.sqrt(0.8 / n)
    assert (draw(initializers.Constant(0.3), (2, 3)) == 0.3).all()
    assert np.array_equal(draw(initializers.Identity(2), (2, 3)), [[2, 0, 0], [0, 2, 0]])


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("distribution", ["truncated_normal", "untruncated_normal", "uniform"])
def test_variance_scaling(mode, distribution):
    values = draw(initializers.VarianceScaling(3.0, mode, distribution), (2, 3, 40, 300))
    variance = 3.0 / {"fan_in": 240, "fan_out": 1800, "fan_avg": 1020}[mode]
    widest = {"truncated_normal": 2 / 0.87962566103423978, "untruncated_normal": math.inf, "uniform": math.sqrt(3)}
    assert abs(values.var() / variance - 1) < 5 * math.sqrt(2 / values.size)
    assert np.abs(values).max() <= widest[distribution] * math.sqrt(variance)
    assert np.abs(values).max() > {"uniform": 1.7, "truncated_normal": 2.2}.get(distribution, 3) * math.sqrt(variance)


def test_normal_is_the_truncated_one():
    named = initializers.VarianceScaling(distribution="normal")
    assert named.distribution == "truncated_normal"


@pytest.mark.parametrize("shape", [(1, 1), (7, 7), (30, 4), (4, 30), (3, 2, 5, 8), (2, 2, 3, 50), (130, 120)])
def test_orthogonal(shape):
    """Orthonormal columns, or rows; the QR factor whose other one has a positive diagonal, of the same numbers."""
    values = draw(initializers.Orthogonal(3.0), shape)
    assert values.shape == shape
    matrix = values.reshape(-1, shape[-1]) / 3
    matrix = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    assert np.abs(matrix.T @ matrix - np.eye(matrix.shape[1])).max() < 1e-14
    q, r = np.linalg.qr(np.random.default_rng(0).standard_normal(matrix.shape))
    assert np.abs(q * np.sign(np.diag(r)) - matrix).max() < 1e-11


@pytest.mark.parametrize("cls", RANDOM)
def test_a_seed_of_ones_own(cls):
    """The numbers of that seed every time, whatever the model's generator is, of which none are taken."""
    initializer, rng = cls(seed=7), np.random.default_rng(3)
    first = initializer((5, 4), rng)
    assert np.array_equal(first, initializer((5, 4)))
    assert np.array_equal(first, cls()((5, 4), np.random.default_rng(7)))
    assert rng.random() == np.random.default_rng(3).random()
    model = mc.Sequential([layers.Dense(4, kernel_initializer=cls(seed=7)) for _ in range(2)], seed=1)
    model.build((4,))
    assert np.array_equal(model.layers[0].params["kernel"], model.layers[1].params["kernel"])
    with pytest.raises(TypeError, match=rf"^{cls.__name__}: without a seed it needs a numpy.random.Generator"):
        cls()((5, 4))


@pytest.mark.parametrize("cls", CLASSES)
def test_files_keep_objects(cls, tmp_path):
    initializer = cls(seed=3) if cls in RANDOM else cls()
    bias = initializers.Constant(0.25)
    parts = [layers.Dense(4, kernel_initializer=initializer, bias_initializer=bias)]
    if cls is not initializers.Identity:
        parts = [layers.Conv2D(3, 2, kernel_initializer=initializer, bias_initializer=bias), layers.Flatten(), *parts]
    model = mc.Sequential(parts, seed=1)
    model.build((5,) if cls is initializers.Identity else (4, 4, 2))
    assert (model.layers[0].params["bias"] == 0.25).all()
    model.save(tmp_path / "m.npz")
    again = mc.Sequential.load(tmp_path / "m.npz")
    assert again.get_config() == model.get_config()
    assert again.fingerprint() == model.fingerprint()
    assert repr(again.layers[0].kernel_initializer) == repr(initializer)
    config = json.loads(json.dumps(model.layers[0].get_config()))
    fresh = mc.Sequential([type(parts[0])(**config)], seed=1)
    fresh.build(model.input_shape)
    assert np.array_equal(fresh.layers[0].params["kernel"], model.layers[0].params["kernel"])
    for other in (copy.deepcopy(initializer), pickle.loads(pickle.dumps(initializer))):
        assert np.array_equal(draw(other, (4, 5)), draw(initializer, (4, 5)))


class Own(initializers.Initializer):
    def __call__(self, shape, rng):
        return np.full(shape, 0.5)


def test_a_class_of_ones_own(tmp_path):
    model = mc.Sequential([layers.Dense(4, kernel_initializer=Own())])
    model.build((3,))
    assert (model.layers[0].params["kernel"] == 0.5).all()
    with pytest.raises(TypeError, match="must be ready for JSON"):
        model.save(tmp_path / "m.npz")
    with pytest.raises(NotImplementedError):
        initializers.Initializer()((2,), None)


# ---- the bias ----

MAKERS = [lambda **more: layers.Dense(4, **more), lambda **more: layers.Conv2D(4, 2, **more),
          lambda **more: layers.DropConnect(4, **more)]  # fmt: skip


@pytest.mark.parametrize("make", MAKERS)
def test_bias_initializer(make):
    """After the kernel, with what the generator gives next; the zeros of the default take nothing from it."""
    shape = (5, 5, 3) if isinstance(make(), layers.Conv2D) else (6,)
    model, plain = (mc.Sequential([make(**more)], seed=2) for more in ({"bias_initializer": "random_normal"}, {}))
    for one in (model, plain):
        one.build(shape)
    layer, rng = model.layers[0], np.random.default_rng(2)
    kernel = draw_next("glorot_uniform", layer.params["kernel"].shape, rng)
    assert np.array_equal(layer.params["kernel"], kernel)
    assert np.array_equal(plain.layers[0].params["kernel"], kernel)
    assert np.array_equal(layer.params["bias"], draw_next("random_normal", (4,), rng))
    assert not plain.layers[0].params["bias"].any()
    assert make().get_config()["bias_initializer"] == "zeros"
    names = list(inspect.signature(type(layer)).parameters)
    assert names[names.index("kernel_initializer") + 1] == "bias_initializer"


def draw_next(name, shape, rng):
    return initializers.get("Test", name)(shape, rng).astype(np.float32)


def test_initializers_that_do_not_fit():
    for initializer, words in (
        ("orthogonal", r"Orthogonal: a parameter must have two axes or more; got \(4,\)"),
        ("identity", r"Identity: a parameter must have two axes; got \(4,\)"),
    ):
        with pytest.raises(ValueError, match=words):
            mc.Sequential([layers.Dense(4, bias_initializer=initializer)]).build((3,))


# ---- arguments ----


def keras_function(shape, dtype=None):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(("make", "error", "words"), [
    (lambda: initializers.Constant("1"), TypeError, "Constant: value must be a number"),
    (lambda: initializers.Constant(math.nan), ValueError, "Constant: value must be a number; got nan"),
    (lambda: initializers.RandomNormal(stddev=-1), ValueError, "RandomNormal: stddev must be a number >= 0; got -1"),
    (lambda: initializers.TruncatedNormal(math.inf), ValueError, "TruncatedNormal: mean must be a number; got inf"),
    (lambda: initializers.RandomUniform(1, 0), ValueError, "RandomUniform: maxval must not be less than minval, and"),
    (lambda: initializers.RandomUniform(-1e308, 1e308), ValueError, "their difference a number; got minval=-1e+308"),
    (lambda: initializers.VarianceScaling(0), ValueError, "VarianceScaling: scale must be a number > 0; got 0"),
    (lambda: initializers.VarianceScaling(mode="fan"), ValueError, "VarianceScaling: mode must be one of 'fan_in'"),
    (lambda: initializers.VarianceScaling(distribution=1), TypeError, "distribution must be one of"),
    (lambda: initializers.HeNormal(seed=-1), ValueError, "HeNormal: seed must be a whole number in [0, "),
    (lambda: initializers.HeNormal(seed=1.0), TypeError, "HeNormal: seed must be a whole number"),
    (lambda: initializers.HeNormal(sed=1), TypeError, "Did you mean `seed`?"),
    (lambda: initializers.Orthogonal(None), TypeError, "Orthogonal: gain must be a number"),
    (lambda: layers.Dense(3, kernel_initializer=initializers.HeNormal), TypeError,
     "initializer must be a name, an Initializer or a function (shape, rng) -> array; got the class HeNormal"),
    (lambda: layers.Dense(3, bias_initializer=initializers.he_normal), TypeError, "Did you mean HeNormal()?"),
    (lambda: layers.Dense(3, bias_initializer="zeross"), ValueError, "Did you mean 'zeros'?"),
    (lambda: layers.Dense(3, bias_initializer=None), TypeError, "Dense: an initializer must be one of"),
    (lambda: layers.Dense(3, kernel_initializer=keras_function), TypeError, "got one with the arguments shape, dtype"),
    (lambda: layers.Dense(3, kernel_initializer={"name": "HeNorml", "config": {}}), ValueError,
     "Dense: an initializer: the name must be one of 'Zeros', 'Ones'"),
])  # fmt: skip
def test_wrong_arguments(make, error, words):
    with pytest.raises(error) as caught:
        make()
    assert words in str(caught.value)


def test_an_initializer_stays_what_it_is():
    layer = layers.Dense(3, kernel_initializer=initializers.HeNormal())
    with pytest.raises(AttributeError, match="is fixed when the object is made"):
        layer.kernel_initializer.seed = 3
    with pytest.raises(AttributeError, match="is fixed when the object is made"):
        layer.bias_initializer = "ones"
