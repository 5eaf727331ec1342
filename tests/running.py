"""How the tests run a layer: built, forward and backward, on arrays that lie in memory in every possible way."""

import concurrent.futures
import threading

import numpy as np
from hypothesis import strategies as st

from minicnn import chain
from minicnn._ext.machinery import runtime
from minicnn.tree import walk

THREADS = (1, 2, 3)


def build(layer, input_shape, seed=0):
    """The layer, built, with random values in all its parameters (a bias of zeros hides mistakes)."""
    layer.build(input_shape, np.random.default_rng(seed))
    rng = np.random.default_rng([seed, 1])
    for _, values in arrays_of(layer, "params"):
        values[...] = rng.standard_normal(values.shape)
    return layer


def arrays_of(layer, kind):
    """[(name, array)] of a layer's "params" or "grads" and those of the layers in it."""
    inner = [(f"{path}.{key}", array) for path, one in walk(layer.parts) for key, array in getattr(one, kind).items()]
    return [*getattr(layer, kind).items(), *inner]


def run(layer, x, dy, layout="C"):
    """{"y", "dx", and the gradient of every parameter by name} of one training step, arrays in memory as ``layout``."""
    x, dy = LAYOUTS[layout](x), LAYOUTS[layout](dy)
    y = layer.forward(x, training=True)
    for _, gradient in arrays_of(layer, "grads"):
        gradient[...] = np.nan  # whatever backward leaves unwritten is seen
    dx = layer.backward(dy)
    return {"y": y, "dx": dx, **{name: gradient.copy() for name, gradient in arrays_of(layer, "grads")}}


def backward_calls(model):
    """{number: (at_logits, wanted)}, last layer first: what each layer's ``gradient`` is called with."""
    last, logits = len(model.layers) - 1, chain.enters_at_softmax(model.layers)
    return {number: (logits and number == last, True) for number in range(last, -1, -1)}


def steps_layer_by_layer(model, x, y, batch_size):
    """Trains on the samples in order without a plan, layer after layer by hand; stops after every step."""
    for start in range(0, len(x), batch_size):
        outputs = x[start : start + batch_size]
        for layer in model.layers:
            outputs = layer.forward(outputs, training=True)
        _, gradient = model.loss(outputs, y[start : start + batch_size])
        for layer in reversed(model.layers):
            gradient = layer.backward(gradient)
        model.optimizer.step()
        yield


def normal(shape, dtype="float64", seed=0):
    return np.random.default_rng([seed, 2]).standard_normal(shape).astype(dtype)


def inputs(layer, n, dtype, seed=0):
    """Random (x, dy) for n samples of a layer that is built."""
    return normal((n, *layer.input_shape), dtype, seed), normal((n, *layer.output_shape), dtype, seed + 1)


def use_threads(n):
    """Kernels take n threads from now on, however little there is to do, also when other processes want the CPUs."""
    runtime.set_num_threads(n)
    runtime.set_grain(1)
    runtime.set_yielding(False)
    assert not runtime.openmp() or runtime.threads_for(n, 1000) == n


def at_every_thread_count(make, x, dy):
    """The results of ``run`` on a new layer for each number of threads, however little there is to do."""
    results = []
    for threads in THREADS:
        use_threads(threads)
        results.append(run(make(), x, dy))
    return results


def at_once(count, function):
    """What ``function(i)`` returns in ``count`` threads of Python that begin at the same time."""
    barrier = threading.Barrier(count)

    def run(i):
        barrier.wait(60)
        return function(i)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return [*pool.map(run, range(count))]


# ---- the same numbers, otherwise in memory ----


def _unaligned(x):
    raw = np.empty(x.nbytes + 1, np.uint8)
    copy = raw[1:].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


def _read_only(x):
    copy = x.copy()
    copy.flags.writeable = False
    return copy


def _every_other(x):
    wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def _reversed(x):
    return x[(slice(None, None, -1),) * x.ndim].copy()[(slice(None, None, -1),) * x.ndim]


LAYOUTS = {
    "C": lambda x: x,
    "Fortran": np.asfortranarray,
    "negative strides": _reversed,
    "every other": _every_other,
    "read-only": _read_only,
    "unaligned": _unaligned,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "longdouble": lambda x: x.astype(np.longdouble),
}
# What a padding may be, larger than most windows.
borders = st.tuples(*[st.tuples(st.integers(0, 8), st.integers(0, 8))] * 2)
layouts = st.sampled_from(sorted(LAYOUTS))
dtypes = st.sampled_from(["float32", "float64"])
batches = st.sampled_from([0, 1, 2, 3, 5])
# Around the widths of vectors (4, 8, 16) and tiles (14, 32), and odd ones.
channels = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 23, 31, 32, 33, 40])
sizes = st.integers(1, 40)
