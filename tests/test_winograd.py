"""Winograd's convolution against the reference and against direct convolution: every border, tile and share of work."""

import os
import subprocess
import sys

import numpy as np
import pytest
import reference
from compare import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from programs import output_of
from running import THREADS, borders, normal, use_threads

import minicnn as mc
from minicnn import layers
from minicnn._ext import activation, conv
from minicnn._ext.machinery import runtime

EXACT, AUTO, F2, F4 = range(4)
# Largest error relative to the largest value, by the size of the kernel: what docs and docstrings promise of "auto".
BOUNDS = {3: 2e-6, 5: 8e-6}
RELU = activation.KINDS["relu"]
TILES = [(F2, 3), (F4, 3), (F4, 5)]  # the algorithms: F(2x2, 3x3), F(4x4, 3x3), F(4x4, 5x5)
each = pytest.mark.parametrize(("algorithm", "size"), TILES)


def arrays(n, h, w, c, f, padding="valid", size=3):
    """x, kernel, bias, dy and the geometry; ``padding``: also ((top, bottom), (left, right))."""
    half = size // 2 if padding == "same" else 0
    (top, bottom), (left, right) = ((half, half), (half, half)) if isinstance(padding, str) else padding
    dy_shape = n, h - size + 1 + top + bottom, w - size + 1 + left + right, f
    shapes = (n, h, w, c), (size, size, c, f), (f,), dy_shape
    x, kernel, bias, dy = (normal(shape, "float32", i) for i, shape in enumerate(shapes))
    return x, kernel, bias, dy, (1, 1, top, left, 1, 1, 1)


def run(x, kernel, bias, dy, geometry, algorithm, kind=0):
    """All results of all passes, every array full of NaN beforehand."""
    y, dx, dkernel, dbias = (np.full_like(array, np.nan) for array in (dy, x, kernel, bias))
    conv.forward(x, kernel, bias, y, geometry, (kind, 0.0, 0.0, 0.0), algorithm)
    conv.backward_input(dy, kernel, dx, geometry, algorithm)
    conv.backward_params(x, dy, dkernel, dbias, geometry, algorithm)
    return {"y": y, "dx": dx, "kernel": dkernel, "bias": dbias}


def check(case, algorithm):
    x, kernel, bias, dy, geometry = case
    padding = tuple(  # what of it there is on the other side follows from the shapes
        (before, dy.shape[axis] + len(kernel) - 1 - x.shape[axis] - before)
        for axis, before in ((1, geometry[2]), (2, geometry[3]))
    )
    want = dict(zip(("dx", "kernel", "bias"), reference.conv2d_grad(x, kernel, dy, padding=padding), strict=True))
    want["y"] = reference.conv2d(x, kernel, bias, padding=padding)
    for name, got in run(*case, algorithm).items():
        # A sum may cancel: its terms are as large as the square root of their number.
        scale = max(np.abs(want[name]).max(initial=0), len(kernel) * kernel.shape[3] ** 0.5)
        assert np.abs(got - want[name]).max(initial=0) <= BOUNDS[len(kernel)] * scale, name


channels = st.integers(8, 60)


@given(
    st.sampled_from(TILES), st.integers(0, 5), st.integers(1, 14), st.integers(1, 14), channels, channels,
    st.sampled_from(["valid", "same"]),
)  # fmt: skip
def test_every_shape(tiles, n, oh, ow, c, f, padding):
    algorithm, size = tiles
    grow = size - 1 if padding == "valid" else 0
    check(arrays(n, oh + grow, ow + grow, c, f, padding, size), algorithm)


@each
@pytest.mark.parametrize(("n", "image", "c", "f", "padding"), [
    (1, 32, 32, 32, "valid"), (35, 6, 16, 32, "valid"), (17, 13, 32, 16, "valid"), (1, 12, 40, 56, "same"),
    (1, 12, 200, 24, "same"), (2, 9, 12, 136, "valid"),
])  # fmt: skip
def test_layers_of_usual_networks(algorithm, size, n, image, c, f, padding):
    check(arrays(n, image, image, c, f, padding, size), algorithm)


@given(st.sampled_from(TILES), st.integers(0, 3), st.integers(1, 9), st.integers(1, 9), borders)
def test_every_padding(tiles, n, h, w, padding):
    algorithm, size = tiles
    grow = [max(0, size - pixels - sum(sides)) for pixels, sides in zip((h, w), padding, strict=True)]
    check(arrays(n, h + grow[0], w + grow[1], 9, 20, padding, size), algorithm)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_auto_keeps_its_promise(size, seed):
    """Random shapes, long sums among them; the inputs are what a layer gets: pixels, sums, or those after a ReLU."""
    draw = np.random.default_rng([size, seed]).integers
    n, h, w, c, f = (int(draw(low, high)) for low, high in ((1, 4), (12, 25), (12, 25), (10, 100), (10, 100)))
    x, kernel, bias, dy, geometry = arrays(n, h, w, c, f, "same", size)
    x = (x, np.maximum(x, 0), np.abs(x) % 1)[seed % 3]
    shapes = x.shape, kernel.shape, dy.shape
    assert {conv.algorithm_of(name, *shapes, geometry, AUTO) for name in conv.PASSES} == {"F4"}
    want = dict(zip(("dx", "kernel", "bias"), reference.conv2d_grad(x, kernel, dy, padding="same"), strict=True))
    want["y"] = reference.conv2d(x, kernel, bias, padding="same")
    for name, got in run(x, kernel, bias, dy, geometry, AUTO).items():
        assert np.abs(got - want[name]).max() <= BOUNDS[size] * np.abs(want[name]).max(), name


@each
@pytest.mark.parametrize("filters", [8, 20, 32])
def test_no_bias(algorithm, size, filters):
    x, kernel, _, dy, geometry = arrays(2, 7, 9, 16, filters, "same", size)
    both = run(x, kernel, np.zeros(filters, "f"), dy, geometry, algorithm)
    y, dkernel = np.empty_like(dy), np.empty_like(kernel)
    conv.forward(x, kernel, None, y, geometry, None, algorithm)
    conv.backward_params(x, dy, dkernel, None, geometry, algorithm)
    assert_same_bits(y, both["y"])
    assert_same_bits(dkernel, both["kernel"])


@each
@pytest.mark.parametrize("kind", ["relu", "leaky_relu", "tanh", "sigmoid"])
def test_activation(algorithm, size, kind):
    """The same bits as the activation of the plain result, also where a share of the work ends within an image."""
    case = arrays(3, 9, 6, 16, 18, "same", size)
    z, y = (np.empty_like(case[3]) for _ in range(2))
    conv.forward(*case[:3], z, case[4], None, algorithm)
    activation.forward((activation.KINDS[kind], 0.3, 0.0, 0.0), z.reshape(3, -1), z.reshape(3, -1))
    for threads in THREADS:
        use_threads(threads)
        conv.forward(*case[:3], y, case[4], (activation.KINDS[kind], 0.3, 0.0, 0.0), algorithm)
        assert_same_bits(y, z)


@each
@pytest.mark.parametrize(("n", "h", "w", "padding"), [
    (1, 17, 11, "valid"), (1, 8, 8, "same"), (2, 13, 5, "same"), (7, 6, 7, "valid"), (16, 5, 5, "same"),
    (37, 6, 9, "valid"),
])  # fmt: skip
def test_same_bits_at_any_thread_count(algorithm, size, n, h, w, padding):
    case = arrays(n, h, w, 52, 44, padding, size)
    results = []
    for threads in THREADS:
        use_threads(threads)
        results.append(run(*case, algorithm, RELU))
    for other in results[1:]:
        for name, array in results[0].items():
            assert_same_bits(array, other[name])


def test_an_image_does_not_depend_on_its_batch():
    x, kernel, bias, dy, geometry = arrays(9, 10, 7, 16, 21)
    whole = run(x, kernel, bias, dy, geometry, F4)
    for i in (0, 4, 8):
        alone = run(x[i : i + 1], kernel, bias, dy[i : i + 1], geometry, F4)
        for name in ("y", "dx"):
            assert_same_bits(alone[name][0], whole[name][i])


def digest():
    """A hash of all results; the process that is compared prints it."""
    import hashlib

    found = hashlib.sha256()
    for algorithm, size in TILES:
        for c, f in ((32, 48), (13, 60), (9, 12)):
            for array in run(*arrays(5, 11, 14, c, f, "same", size), algorithm, RELU).values():
                found.update(array.tobytes())
    return found.hexdigest()


def test_avx2_and_avx512_give_the_same_bits():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_winograd; from minicnn._ext.machinery import runtime;"
        "print(runtime.instruction_set(), test_winograd.digest())"
    )
    found = []
    for name in ("avx512", "avx2"):
        command = [sys.executable, "-c", code, os.path.dirname(__file__)]
        environment = os.environ | {"MINICNN_SIMD": name}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.split())
    if found[0][0] != "avx512":
        pytest.skip("this machine has no AVX-512")
    assert found[1] == ["avx2", found[0][1]]


def test_a_nan_stays_within_its_tiles():
    x, kernel, bias, dy, geometry = arrays(2, 12, 12, 16, 16, "same")
    x[1, 5, 5, 3] = np.nan
    y = run(x, kernel, bias, dy, geometry, F4, RELU)["y"]
    want = np.zeros((2, 12, 12), bool)
    want[1, 4:8, 4:8] = True
    assert (np.isnan(y) == want[..., None]).all()


def chosen(oh, ow, algorithm=AUTO, pass_="forward", c=32, f=32, padding=0, kernel=3, **changes):
    """What `algorithm` means for an output of (oh, ow)."""
    geometry = {"sh": 1, "sw": 1, "top": padding, "left": padding, "dh": 1, "dw": 1, "groups": 1} | changes
    grow = kernel - 1 - 2 * padding
    shapes = (1, oh + grow, ow + grow, c), (kernel, kernel, c // geometry["groups"], f), (1, oh, ow, f)
    return conv.algorithm_of(pass_, *shapes, tuple(geometry.values()), algorithm)


@pytest.mark.parametrize("pass_", list(conv.PASSES))
def test_auto_takes_f4_for_usual_sizes(pass_):
    for size in (8, 11, 13, 15, 24, 28, 30):
        for kernel in (3, 5):
            assert chosen(size, size, pass_=pass_, kernel=kernel) == "F4"
            assert chosen(size, size, pass_=pass_, padding=kernel // 2, kernel=kernel) == "F4"
            assert chosen(size, size, EXACT, pass_, kernel=kernel) == "direct"
        assert chosen(size, size, F2, pass_) == "F2"


def test_auto_for_tiny_images():
    assert [chosen(size, size) for size in range(1, 8)] == ["direct", "F2", "F4", "F4", "direct", "F4", "F4"]
    assert [chosen(size, size, kernel=5) for size in range(1, 5)] == ["direct", "direct", "F4", "F4"]
    assert [chosen(size, size, pass_="backward_input") for size in (3, 4, 6)] == ["direct", "direct", "F4"]
    assert chosen(18, 2) == "F2"


def test_auto_for_few_channels():
    for kernel, least in ((3, {8: 9, 12: 9, 16: 8}), (5, {8: 9, 12: 8, 16: 8})):
        for c, filters in least.items():
            found = [chosen(14, 14, c=c, f=f, padding=kernel // 2, kernel=kernel) for f in (7, 8, 9, 12, 40)]
            assert found == ["F4" if f >= filters else "direct" for f in (7, 8, 9, 12, 40)], (kernel, c)
        assert chosen(14, 14, c=7, f=64, kernel=kernel) == "direct"


@pytest.mark.parametrize("unfit", [
    {"c": 7}, {"f": 7}, {"kernel": 4}, {"kernel": 7}, {"kernel": 1}, {"sh": 2}, {"sw": 2}, {"dh": 2}, {"dw": 2},
    {"groups": 2},
])  # fmt: skip
@pytest.mark.parametrize("algorithm", [AUTO, F2, F4])
def test_what_winograd_cannot_do_is_direct(algorithm, unfit):
    assert chosen(12, 12, algorithm, **unfit) == "direct"


def test_there_is_no_f2_for_5x5():
    assert chosen(12, 12, F2, kernel=5) == "direct"


def test_a_rectangle_is_direct():
    geometry = (1, 1, 0, 0, 1, 1, 1)
    for kernel in ((3, 5), (5, 3)):
        y = 20 - kernel[0], 20 - kernel[1]
        assert conv.algorithm_of("forward", (1, 19, 19, 32), (*kernel, 32, 32), (1, *y, 32), geometry, F4) == "direct"


def test_double_precision_is_direct():
    case = [array.astype("float64") for array in arrays(1, 8, 8, 16, 16)[:4]]
    exact, fast = (run(*case, (1, 1, 0, 0, 1, 1, 1), algorithm) for algorithm in (EXACT, F4))
    for name, array in exact.items():
        assert_same_bits(array, fast[name])


def test_what_training_makes_of_it():
    """One network from five seeds, trained by "auto" and by "exact": predictions differ by less than those of seeds."""
    (x, labels), _ = mc.datasets.digits.load_data()
    x, labels = x[:256], labels[:256]

    def trained(seed, algorithm):
        model = mc.Sequential(
            [layers.Conv2D(16, 3, padding="same", activation="relu"), layers.Conv2D(16, 5, padding="same"),
             layers.ReLU(), layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(10)],
            seed=seed, algorithm=algorithm,
        )  # fmt: skip
        model.compile(mc.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy")
        model.fit(x, labels, batch_size=64, epochs=10, verbose=0)
        return model.predict(x)

    auto, exact = ([trained(seed, name) for seed in range(5)] for name in ("auto", "exact"))
    apart = [np.abs(a - b).mean() for a, b in zip(auto, exact, strict=True)]
    seeds = [np.abs(a - b).mean() for i, a in enumerate(exact) for b in exact[:i]]
    assert 0 < max(apart) < min(seeds) / 4


@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_threads_share_the_tiles_of_one_image(activation):
    """11 x 13 pixels are 3 rows of 4 tiles, which no number of threads but 1, 2, 3, 4, 6 and 12 shares out evenly."""
    assert chosen(11, 13, c=16, f=16, padding=1) == "F4"
    x = np.random.default_rng(0).standard_normal((1, 11, 13, 16)).astype(np.float32)
    model = mc.Sequential([layers.Conv2D(16, 3, padding="same", activation=activation)], seed=0)
    found = []
    for threads in (1, 2, 3, 5, 7):
        use_threads(threads)
        found.append((model.predict(x), model.outputs(x)[0]))
    for by_plan, by_hand in found:
        assert_same_bits(by_plan, found[0][0])
        assert_same_bits(by_hand, found[0][0])


COUNTED = """
import os
import numpy as np
import minicnn as mc
from minicnn._ext import conv
from minicnn._ext.machinery import runtime

n, c, f = 4, 64, 32
x, dx = np.ones((n, 16, 16, c), np.float32), np.empty((n, 16, 16, c), np.float32)
dy, y = np.ones((n, 16, 16, f), np.float32), np.empty((n, 16, 16, f), np.float32)
kernel, geometry = np.ones((3, 3, c, f), np.float32), (1, 1, 1, 1, 1, 1, 1)
passes = {
    "forward": lambda algorithm: conv.forward(x, kernel, None, y, geometry, algorithm=algorithm),
    "input": lambda algorithm: conv.backward_input(dy, kernel, dx, geometry, algorithm),
    "weights": lambda algorithm: conv.backward_params(x, dy, np.empty_like(kernel), None, geometry, algorithm),
}
runtime.set_yielding(False)
runtime.set_grain(n * 16 * 16 * 9 * c * f / 32 / 2.2)
mc.set_num_threads(2)
before = len(os.listdir("/proc/self/task"))
for run in passes.values():
    run(conv.ALGORITHMS["F4"])
    print(len(os.listdir("/proc/self/task")) - before)
passes["forward"](conv.ALGORITHMS["exact"])
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or not runtime.openmp(), reason="threads cannot be counted")
def test_the_work_of_a_job_is_what_winograd_does():
    """Where direct convolution is just worth two threads, 2.6 times less of it is not."""
    assert output_of("-c", COUNTED).split() == ["0", "0", "0", "1"]
