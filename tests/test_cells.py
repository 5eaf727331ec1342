"""The tree of sums: what nodes of a batch give alone, combined, is what the batch gives, to the last bit."""

import threading

import numpy as np
import pytest
from compare import assert_same_bits
from running import THREADS, arrays_of, build, inputs, normal, run, use_threads
from test_layer_contract import TABLE

import minicnn as mc
from minicnn import cells, layers, losses, regularizers
from minicnn._ext import conv as kernels
from minicnn._ext import dropconnect, penalty
from minicnn._ext.machinery import jobs
from minicnn.layer import is_ours
from minicnn.plan import Workspace
from minicnn.tree import walk

SIZES = (*(int(n) for n in np.random.default_rng(1).choice(np.arange(1, 71), 4, replace=False)), 33, 70, 128, 259)


def nodes_of(n, parts):
    return [node for nodes in cells.share_out(n, parts) for node in nodes]


def together(nodes, work):
    """[work(node) of each], every one in a thread of its own that knows its node; what one of them needs of all others
    they exchange."""
    barrier, handed_in, found = threading.Barrier(len(nodes)), {}, {}

    def of(node):
        def exchange(sums, join):
            handed_in[node] = sums.copy()
            barrier.wait(30)
            total = cells.combine([(one, handed_in[one].copy()) for one in nodes], join)
            barrier.wait(30)
            sums[:] = total

        try:
            with cells.node(node, exchange):
                found[node] = work(node)
        except BaseException:
            barrier.abort()
            raise

    threads = [threading.Thread(target=of, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[node] for node in nodes]


def assert_nodes_make_the_batch(make, n, parts, dtype="float32"):
    """Outputs and dx are those rows of the batch's, gradients of parameters parts of a sum."""
    whole = make()
    x, dy = inputs(whole, n, dtype)
    expected = run(whole, x, dy)
    nodes = nodes_of(n, parts)
    found = together(nodes, lambda node: run(make(), x[node.first : node.last], dy[node.first : node.last]))
    for name, array in expected.items():
        if name in ("y", "dx"):
            combined = np.concatenate([one[name] for one in found])
        else:
            combined = cells.combine(zip(nodes, [one[name] for one in found], strict=True), np.add)
        assert_same_bits(combined, array)


# ---- every layer ----


def of_table(name, dtype="float32"):
    """A layer of the contract's table that draws nothing (what is drawn takes another argument, the first sample)."""
    arguments, shape = TABLE[name]
    layer = build(getattr(layers, name)(**arguments | {"dtype": dtype}), shape)
    for _, one in walk([layer]):
        if hasattr(one, "rate"):
            one.rate = 0.0
    return layer


WITH_PARAMETERS = [name for name in layers.__all__ if name in TABLE and arrays_of(of_table(name), "params")]


def test_no_layer_with_parameters_escapes():
    assert set(layers.__all__) <= TABLE.keys()
    classes = {type(one) for name in WITH_PARAMETERS for _, one in walk([of_table(name)]) if one.params}
    assert {"BatchNormalization", "Conv2D", "Dense", "DropConnect", "PReLU"} <= {one.__name__ for one in classes}
    assert all(map(is_ours, classes))


@pytest.mark.parametrize("name", WITH_PARAMETERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layer(name, dtype):
    for place, n in enumerate(SIZES[:3] if dtype == "float64" else SIZES):
        assert_nodes_make_the_batch(lambda: of_table(name, dtype), n, 2 + place % 4, dtype)


# ---- every kernel, in its ways ----

CASES = {
    "dense of ten": (lambda **k: layers.Dense(10, **k), (70,)),
    "dense, two panels": (lambda **k: layers.Dense(200, **k), (67,)),
    "dense, columns that fill no vector": (lambda **k: layers.Dense(45, use_bias=False, **k), (67,)),
    "dense, rows of x that collide": (lambda **k: layers.Dense(40, **k), (1024,)),
    "dense, several rows in a sample": (lambda **k: layers.Dense(33, **k), (5, 3, 20)),
    "conv, direct": (lambda **k: layers.Conv2D(16, 3, algorithm="exact", **k), (9, 9, 16)),
    "conv, F2": (lambda **k: layers.Conv2D(32, 3, **k), (4, 4, 32)),
    "conv, F4": (lambda **k: layers.Conv2D(24, 3, padding="same", **k), (12, 11, 20)),
    "conv, 5x5": (lambda **k: layers.Conv2D(12, 5, padding="same", **k), (12, 11, 12)),
    "conv, 1x1": (lambda **k: layers.Conv2D(20, 1, **k), (5, 4, 12)),
    "conv, one channel": (lambda **k: layers.Conv2D(6, 5, **k), (9, 8, 1)),
    "conv, groups": (lambda **k: layers.Conv2D(6, 3, groups=3, strides=2, **k), (7, 7, 6)),
    "conv, more parameters than pixels": (lambda **k: layers.Conv2D(150, 3, use_bias=False, **k), (3, 3, 33)),
    "depthwise": (lambda **k: layers.DepthwiseConv2D(3, depth_multiplier=2, **k), (7, 6, 5)),
    "transposed": (lambda **k: layers.Conv2DTranspose(9, 3, strides=2, **k), (5, 4, 8)),
    "transposed, F4": (lambda **k: layers.Conv2DTranspose(16, 3, **k), (12, 12, 16)),
    "prelu of channels": (lambda **k: layers.PReLU("he_normal", shared_axes=[1, 2], **k), (9, 8, 5)),
    "prelu of elements": (lambda **k: layers.PReLU("he_normal", **k), (4, 3, 5)),
    "batch norm of vectors": (lambda **k: layers.BatchNormalization(**k), (40,)),
    "batch norm, many blocks": (lambda **k: layers.BatchNormalization(**k), (20, 300)),
    "batch norm of images": (lambda **k: layers.BatchNormalization(**k), (33, 26, 5)),
    "batch norm, inference": (lambda **k: layers.BatchNormalization(inference=True, **k), (4, 5, 6)),
    "layer norm of rows": (lambda **k: layers.LayerNormalization(**k), (5, 6, 7)),
    "layer norm of vectors": (lambda **k: layers.LayerNormalization(**k), (50,)),
    "layer norm of images": (lambda **k: layers.LayerNormalization([1, 2, 3], **k), (5, 6, 7)),
    "group norm of images": (lambda **k: layers.GroupNormalization(3, **k), (5, 6, 9)),
    "group norm of vectors": (lambda **k: layers.GroupNormalization(3, **k), (48,)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernel(case, dtype):
    make, shape = CASES[case]
    for place, n in enumerate(SIZES[-3:-1] if dtype == "float64" else SIZES):
        n = n if n > 1 or len(shape) > 1 else 2  # of one vector there are no statistics
        assert_nodes_make_the_batch(lambda: build(make(dtype=dtype), shape), n, 5 - place % 4, dtype)


def test_the_cases_of_winograd_are_what_they_say():
    for case, algorithm in (("F2", "F2"), ("F4", "F4"), ("5x5", "F4"), ("direct", "direct")):
        make, shape = CASES[f"conv, {case}"]
        layer = build(make(), shape)
        shapes = (1, *shape), layer.params["kernel"].shape, (1, *layer.output_shape)
        top = (1, 1, *[(layer.params["kernel"].shape[0] - 1) // 2 * (layer.padding == "same")] * 2, 1, 1, 1)
        number = kernels.ALGORITHMS[layer.algorithm or "auto"]
        assert kernels.algorithm_of("backward_params", *shapes, top, number) == algorithm


@pytest.mark.parametrize("case", CASES)
def test_threads_share_out_a_node_as_they_do_a_batch(case):
    make, shape = CASES[case]
    layer = build(make(), shape)
    x, dy = inputs(layer, 67, "float32")
    found = []
    for threads in THREADS:
        use_threads(threads)
        with cells.node(cells.Node(67, 134, 1, 134)):
            found.append(run(layer, x, dy))
    for other in found[1:]:
        for name, array in other.items():
            assert_same_bits(array, found[0][name])


def test_what_is_drawn_for_a_node_are_the_batchs_numbers():
    n, d, m = 67, 30, 40
    x, w, dy = (normal(shape, "float32", seed) for seed, shape in enumerate([(n, d), (d, m), (n, m)]))

    def gradients(node):
        rows = slice(node.first, node.last)
        draw = np.array([20000, 5, 2, 16, node.first, 1 << 62], np.uint64)
        dw, dbias, dx = np.empty_like(w), np.empty(m, np.float32), np.empty_like(x[rows])
        dropconnect.backward(x[rows], w, dy[rows], dw, dbias, dx, draw, np.array([1.5]))
        return dw, dbias

    whole = gradients(cells.Node(0, n, 0, n))
    for parts in (2, 3):
        nodes = nodes_of(n, parts)
        found = together(nodes, gradients)
        for place, expected in enumerate(whole):
            sums = zip(nodes, [one[place] for one in found], strict=True)
            assert_same_bits(cells.combine(sums, np.add), expected)


# ---- what is one number of a batch ----


@pytest.mark.parametrize("name", [name for name in losses.__all__ if isinstance(getattr(losses, name), type)])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss(name, weighted):
    if name == "Loss":
        pytest.skip("what all losses have in common")
    loss = getattr(losses, name)()
    for n in SIZES:
        outputs = 1 / (1 + np.exp(-normal((n, 5), "float32")))
        y = np.arange(n) % 5
        if "Sparse" not in name:
            y = np.eye(5, dtype=np.float32)[y]
        weights = np.random.default_rng(n).random(n) if weighted else None
        for compute in (loss, loss.of_probabilities) if hasattr(loss, "of_probabilities") else (loss,):
            value, gradient = compute(outputs, y, weights)
            nodes = nodes_of(n, 3)

            def part(node, compute=compute, outputs=outputs, y=y, weights=weights):
                rows = slice(node.first, node.last)
                return compute(outputs[rows], y[rows], None if weights is None else weights[rows])

            found = together(nodes, part)
            assert_same_bits(np.concatenate([slopes for _, slopes in found]), gradient)
            total = cells.combine(zip(nodes, [one for one, _ in found], strict=True), float.__add__)
            assert (total if len(nodes) == 1 else total / n) == value


def test_sums_of_penalties():
    for n in SIZES:
        found, weights = normal((2, n), seed=n)
        for some in (None, weights):
            sums = []
            for node in nodes_of(n, 3):
                with cells.node(node):
                    rows = slice(node.first, node.last)
                    sums.append((node, penalty.total(found[rows], None if some is None else some[rows])))
            assert cells.combine(sums, float.__add__) == penalty.total(found, some)


# ---- whole networks ----


LOSS = losses.SparseCategoricalCrossentropy(from_logits=True)


def network():
    model = mc.Sequential(
        [
            layers.Conv2D(9, 3, padding="same"),
            layers.BatchNormalization(),
            layers.PReLU("he_normal", shared_axes=[1, 2]),
            layers.Residual([layers.Conv2D(9, 3, padding="same", activation="relu"), layers.LayerNormalization()]),
            layers.MaxPooling2D(2),
            layers.SeparableConv2D(10, 3),
            layers.Flatten(),
            layers.Dense(37, activation="tanh", activity_regularizer=regularizers.L2(0.1)),
            layers.BatchNormalization(),
            layers.Dense(5),
        ],
        seed=3,
    )
    model.compile("sgd", LOSS)
    model.build((12, 11, 3))
    return model


def step(model, x, y):
    """(loss, penalty of outputs, gradients, moving statistics) of a step by a plan that is run twice."""
    plan = Workspace(training=True).plan(model.engine, len(x))
    for _ in range(2):
        plan.take(x)
        value, plan.dy[...] = LOSS(plan.forward(), y)
        plan.backward()
    states = [array.copy() for layer in model.layers for array in layer.state.values()]
    return value, plan.activity_penalty(), model.gradients.copy(), states


@pytest.mark.parametrize("n", [33, 67])
def test_network(n):
    x, y = normal((n, 12, 11, 3), "float32"), np.arange(n) % 5
    value, penalized, gradients, states = step(network(), x, y)
    for parts in (2, 3, 4):
        nodes = nodes_of(n, parts)
        found = together(nodes, lambda node: step(network(), x[node.first : node.last], y[node.first : node.last]))

        def combined(place, nodes=nodes, found=found):
            return cells.combine(
                [(node, one[place]) for node, one in zip(nodes, found, strict=True)], lambda a, b: a + b
            )

        assert combined(0) / n == value
        assert combined(1) / n == penalized
        assert_same_bits(combined(2), gradients)
        for one in found:
            for array, expected in zip(one[3], states, strict=True):
                assert_same_bits(array, expected)


# ---- cells.py ----


@pytest.mark.parametrize("n", [0, 1, 31, 32, 63, 64, 127, 128, 255, 256, 1000, 5000])
def test_nodes_are_runs_of_whole_cells(n):
    size = 1 << cells.levels(n)
    assert size == min(64, 1 << max(0, n.bit_length() - (5 if n < 128 else 6)))
    smallest = [node.last - node.first for node in nodes_of(n, 64)]
    assert len(smallest) == size
    assert max(smallest) - min(smallest) <= 1
    for parts in (1, 2, 3, 4, 7, 64):
        shared = cells.share_out(n, parts)
        assert len(shared) == parts
        nodes = [node for one in shared for node in one]
        assert [node.first for node in nodes] == [0, *(node.last for node in nodes[:-1])]
        assert nodes[-1].last == n
        counts = [sum(size >> node.level for node in one) for one in shared]
        assert max(counts) - min(counts) <= 1
        assert cells.combine([(node, node.last - node.first) for node in nodes], int.__add__) == n
    assert [len(one) for one in cells.share_out(n, size)] == [1] * size


def test_nodes_that_are_missing_are_seen():
    nodes = nodes_of(80, 3)
    for some in (nodes[1:], nodes[:-1], nodes[:1], []):
        with pytest.raises(ValueError, match="all nodes of a batch"):
            cells.combine([(node, 1.0) for node in some], float.__add__)


def test_a_node_ends_with_its_block_and_is_the_threads_own():
    outer, inner, seen = cells.Node(0, 40, 1, 80), cells.Node(0, 20, 2, 80), []

    def within():
        with cells.node(inner):
            seen.append((cells.samples_of_batch(20), cells.exchange_of_thread()))
            thread = threading.Thread(target=lambda: seen.append(cells.samples_of_batch(20)))
            thread.start()
            thread.join()
            raise KeyError

    with cells.node(outer, print):
        with pytest.raises(KeyError):
            within()
        assert cells.exchange_of_thread() is print
        assert jobs.set_node(80, 1) == (80, 1)
    assert cells.samples_of_batch(20) == 20
    assert seen == [(80, None), 20]


@pytest.mark.parametrize("wrong", [(80, 3), (31, 1), (80, -1), (-1, 0), (0, 1)])
def test_a_node_that_no_batch_has_is_refused(wrong):
    with pytest.raises(ValueError, match="level must be"):
        jobs.set_node(*wrong)
    assert jobs.set_node(0, 0) == (0, 0)
