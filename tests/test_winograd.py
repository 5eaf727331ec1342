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
from running import THREADS, borders, normal, use_threads

from minicnn._ext import activation, conv

EXACT, AUTO, F2, F4 = range(4)
# Largest error relative to the largest value, somewhat above what is measured: forward and input, then parameters.
BOUNDS = {F2: (2e-6, 4e-6), F4: (2e-5, 5e-5)}
RELU = activation.KINDS["relu"]


BORDERS = {"valid": ((0, 0), (0, 0)), "same": ((1, 1), (1, 1))}


def arrays(n, h, w, c, f, padding="valid"):
    """x, kernel, bias, dy and the geometry; ``padding``: also ((top, bottom), (left, right))."""
    (top, bottom), (left, right) = BORDERS.get(padding, padding)
    shape = n, h - 2 + top + bottom, w - 2 + left + right, f
    x, kernel, bias, dy = (normal(s, "float32", i) for i, s in enumerate([(n, h, w, c), (3, 3, c, f), (f,), shape]))
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
        (before, dy.shape[axis] + 2 - x.shape[axis] - before) for axis, before in ((1, geometry[2]), (2, geometry[3]))
    )
    want = dict(zip(("dx", "kernel", "bias"), reference.conv2d_grad(x, kernel, dy, padding=padding), strict=True))
    want["y"] = reference.conv2d(x, kernel, bias, padding=padding)
    near, far = BOUNDS[algorithm]
    for name, got in run(*case, algorithm).items():
        # A sum may cancel: its terms are as large as the square root of their number.
        scale = max(np.abs(want[name]).max(initial=0), 3 * kernel.shape[3] ** 0.5)
        assert np.abs(got - want[name]).max(initial=0) <= (far if name == "kernel" else near) * scale, name


@given(
    st.sampled_from([F2, F4]), st.integers(0, 5), st.integers(1, 14), st.integers(1, 14),
    st.sampled_from([16, 32, 48]), st.sampled_from([16, 32, 80]), st.sampled_from(["valid", "same"]),
)  # fmt: skip
def test_every_shape(algorithm, n, oh, ow, c, f, padding):
    grow = 2 if padding == "valid" else 0
    check(arrays(n, oh + grow, ow + grow, c, f, padding), algorithm)


@pytest.mark.parametrize("algorithm", [F2, F4])
@pytest.mark.parametrize(("n", "image", "c", "f", "padding"), [
    (2, 32, 32, 32, "valid"), (2, 15, 64, 64, "same"), (35, 5, 16, 32, "valid"), (17, 13, 32, 16, "valid"),
])  # fmt: skip
def test_layers_of_usual_networks(algorithm, n, image, c, f, padding):
    check(arrays(n, image, image, c, f, padding), algorithm)


@given(st.sampled_from([F2, F4]), st.integers(0, 3), st.integers(1, 9), st.integers(1, 9), borders)
def test_every_padding(algorithm, n, h, w, padding):
    grow = [max(0, 3 - size - sum(sides)) for size, sides in zip((h, w), padding, strict=True)]
    check(arrays(n, h + grow[0], w + grow[1], 16, 32, padding), algorithm)


@pytest.mark.parametrize("algorithm", [F2, F4])
def test_no_bias(algorithm):
    x, kernel, _, dy, geometry = arrays(2, 7, 9, 16, 32, "same")
    both = run(x, kernel, np.zeros(32, "f"), dy, geometry, algorithm)
    y, dkernel = np.empty_like(dy), np.empty_like(kernel)
    conv.forward(x, kernel, None, y, geometry, None, algorithm)
    conv.backward_params(x, dy, dkernel, None, geometry, algorithm)
    assert_same_bits(y, both["y"])
    assert_same_bits(dkernel, both["kernel"])


@pytest.mark.parametrize("algorithm", [F2, F4])
@pytest.mark.parametrize("kind", ["relu", "leaky_relu", "tanh", "sigmoid"])
def test_activation(algorithm, kind):
    """The same bits as the activation of the plain result, also where a share of the work ends within an image."""
    case = arrays(3, 9, 6, 16, 16, "same")
    z, y = (np.empty_like(case[3]) for _ in range(2))
    conv.forward(*case[:3], z, case[4], None, algorithm)
    activation.forward((activation.KINDS[kind], 0.3, 0.0, 0.0), z.reshape(3, -1), z.reshape(3, -1))
    for threads in THREADS:
        use_threads(threads)
        conv.forward(*case[:3], y, case[4], (activation.KINDS[kind], 0.3, 0.0, 0.0), algorithm)
        assert_same_bits(y, z)


@pytest.mark.parametrize("algorithm", [F2, F4])
@pytest.mark.parametrize(("n", "h", "w", "padding"), [
    (1, 17, 11, "valid"), (1, 8, 8, "same"), (2, 13, 5, "same"), (7, 6, 7, "valid"), (16, 5, 5, "same"),
    (37, 6, 9, "valid"),
])  # fmt: skip
def test_same_bits_at_any_thread_count(algorithm, n, h, w, padding):
    case = arrays(n, h, w, 16, 48, padding)
    results = []
    for threads in THREADS:
        use_threads(threads)
        results.append(run(*case, algorithm, RELU))
    for other in results[1:]:
        for name, array in results[0].items():
            assert_same_bits(array, other[name])


def test_an_image_does_not_depend_on_its_batch():
    x, kernel, bias, dy, geometry = arrays(9, 10, 7, 16, 16)
    whole = run(x, kernel, bias, dy, geometry, F4)
    for i in (0, 4, 8):
        alone = run(x[i : i + 1], kernel, bias, dy[i : i + 1], geometry, F4)
        for name in ("y", "dx"):
            assert_same_bits(alone[name][0], whole[name][i])


def digest():
    """A hash of all results; the process that is compared prints it."""
    import hashlib

    found = hashlib.sha256()
    for algorithm in (F2, F4):
        for array in run(*arrays(5, 11, 14, 32, 48, "same"), algorithm, RELU).values():
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


@pytest.mark.parametrize("pass_", ["forward", "backward_input", "backward_params"])
def test_auto_takes_f4_for_usual_sizes(pass_):
    for size in (8, 11, 13, 15, 24, 28, 30):
        assert chosen(size, size, pass_=pass_) == "F4"
        assert chosen(size, size, pass_=pass_, padding=1) == "F4"
        assert chosen(size, size, EXACT, pass_) == "direct"
        assert chosen(size, size, F2, pass_) == "F2"


def test_auto_for_tiny_images():
    assert [chosen(size, size) for size in range(1, 8)] == ["direct", "F2", "F4", "F4", "direct", "F2", "F4"]
    assert [chosen(size, size, pass_="backward_input") for size in (3, 4, 6)] == ["direct", "direct", "F4"]


@pytest.mark.parametrize("unfit", [
    {"c": 24}, {"f": 40}, {"kernel": 5}, {"kernel": 1}, {"sh": 2}, {"sw": 2}, {"dh": 2}, {"dw": 2}, {"groups": 2},
])  # fmt: skip
@pytest.mark.parametrize("algorithm", [AUTO, F2, F4])
def test_what_winograd_cannot_do_is_direct(algorithm, unfit):
    assert chosen(12, 12, algorithm, **unfit) == "direct"


def test_double_precision_is_direct():
    case = [array.astype("float64") for array in arrays(1, 8, 8, 16, 16)[:4]]
    exact, fast = (run(*case, (1, 1, 0, 0, 1, 1, 1), algorithm) for algorithm in (EXACT, F4))
    for name, array in exact.items():
        assert_same_bits(array, fast[name])
