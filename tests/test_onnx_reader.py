"""``interop.from_onnx`` against the node tests of ONNX, against files of PyTorch and Keras, and against bad files."""

import math
import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import run

from minicnn import Sequential, layers
from minicnn.interop import ConversionError, from_onnx, onnx_fold, onnx_values, onnx_writer

onnx = pytest.importorskip("onnx")

import onnx_nodes  # noqa: E402
import test_onnx_writer as writing  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

FILES = sorted((Path(__file__).parent / "data" / "onnx").glob("*.onnx"))
RNG = np.random.default_rng(7)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), f"the {op}", **attributes)


def graph(nodes, shape=("N", 2, 5, 6), out=None, opset=17, kind=TensorProto.FLOAT, more=(), **arrays):
    """A model with the input x and the output y."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape), *more],
        [helper.make_tensor_value_info("y", kind, out)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def f(*shape):
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def reference(model, x):
    """What onnx's own evaluator makes of it."""
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run(None, {"x": x})[0]


def assert_equal(model, kinds=None, first=True, shape=None, within=1e-5, **more):
    """``from_onnx`` gives what the evaluator does; returns the model.  ``first``: channels of the graph's images."""
    made = from_onnx(model, **more)
    x = f(3, *(shape or made.input_shape))
    fed = x.transpose(0, 3, 1, 2) if first and x.ndim == 4 else x
    wanted = reference(model, fed)
    wanted = wanted.transpose(0, 2, 3, 1) if first and wanted.ndim == 4 else wanted
    np.testing.assert_allclose(made.predict(x), wanted, rtol=within, atol=within)
    if kinds is not None:
        assert [type(layer).__name__ for layer in made.layers] == kinds.split()
    return made


def refused(model, *words, **more):
    with pytest.raises(ConversionError) as caught:
        from_onnx(model, **more)
    for word in words:
        assert word in str(caught.value)


# ---- the node tests of ONNX, the table in docs/onnx.md ----


def compare(without):
    found = onnx_nodes.outcomes(without)
    assert not [operator for operator, counts in found.items() if counts["wrong"]]
    assert sum(counts[""] for counts in found.values()) > 100
    text = onnx_nodes.DOCS.read_text(encoding="utf-8")
    if f"onnx {onnx.__version__} has" in text:  # another version has other tests
        assert [row for row in onnx_nodes.rows(found) if row not in text] == []
    return found, text


def test_no_node_test_is_computed_wrongly_and_the_table_is_current():
    compare(onnx_nodes.OTHERS | onnx_nodes.SLOW)


@pytest.mark.long
def test_the_whole_table():
    found, text = compare(onnx_nodes.OTHERS)
    if f"onnx {onnx.__version__} has" in text:
        assert onnx_nodes.text(found) in text


# ---- files of PyTorch and Keras ----


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_stored_files(path):
    with np.load(path.parent / "expected.npz") as expected:
        x, y = expected[f"{path.stem}.x"], expected[f"{path.stem}.y"]
    model = from_onnx(path)
    assert model.input_shape == x.shape[1:]
    np.testing.assert_allclose(model.predict(x), y, rtol=1e-5, atol=1e-5)


def test_what_stored_files_become(tmp_path):
    def kinds(name):
        model = from_onnx(next(path for path in FILES if path.stem == name))
        model.save(tmp_path / "m.npz")  # its layers are such as files hold
        x = f(2, *model.input_shape)
        np.testing.assert_array_equal(Sequential.load(tmp_path / "m.npz").predict(x), model.predict(x))
        return " ".join(type(layer).__name__ for layer in model.layers)

    assert kinds("torch_block_dynamo") == "Residual Concurrent Conv2D GlobalAveragePooling2D Softmax"
    cnn = "Conv2D MaxPooling2D DepthwiseConv2D GroupNormalization GELU AveragePooling2D HardSwish Flatten Dense"
    assert kinds("torch_cnn_legacy") == f"{cnn} BatchNormalization PReLU Dense"
    assert kinds("torch_cnn_dynamo") == f"{cnn} PReLU Dense"
    branches = "Rescaling Conv2D BatchNormalization Residual Concurrent MaxPooling2D Flatten Dense"
    assert kinds("keras_branches") == branches


def torch_nets():
    pytest.importorskip("torch")
    import torch_nets

    return torch_nets


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("dynamo", "examples"),
    [(False, 25), (True, 4), *(pytest.param(dynamo, 300, marks=pytest.mark.long) for dynamo in (False, True))],
)
def test_torch_nets_at_random(dynamo, examples):
    nets = torch_nets()
    import torch

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(nets.nets())
    def check(made):
        net, shape = made
        try:
            data = nets.export(net, shape, dynamo)
        except Exception as error:  # PyTorch's own, of layers that its older exporter has not
            assert "torch" in type(error).__module__  # noqa: PT017
            return
        x = torch.randn(3, *shape)
        with torch.no_grad():
            y = net(x).numpy()
        y = y.transpose(0, 2, 3, 1) if y.ndim == 4 else y
        found = from_onnx(data).predict(x.numpy().transpose(0, 2, 3, 1))
        np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-5 * max(1, abs(y).max()))

    check()


# ---- and back: what Sequential.export writes ----


@pytest.mark.filterwarnings("ignore:.*(puts noise|one value|softmax|before a layer)")
@settings(max_examples=40, deadline=None)
@given(writing.networks_at_random(), st.sampled_from(writing.OPSETS), st.integers(0, 9))
def test_exported_models_come_back(network, opset, seed):
    made, shape = network
    model = writing.model_of([make() for make in made], shape, seed, algorithm="exact")
    proto = onnx_writer.proto(model, opset, "NCHW" if seed % 2 and len(shape) == 3 else "NHWC")
    found, x = from_onnx(proto), writing.samples(model.input_shape)
    wanted = model.predict(x)
    np.testing.assert_allclose(found.predict(x), wanted, atol=2e-6 * max(abs(wanted).max(), 1e-3), rtol=0)


def test_what_a_model_knows_comes_back(tmp_path):
    model = Sequential([layers.Flatten(), layers.Dense(3, activation="softmax")], seed=1)
    model.build((4, 5, 2))
    model.class_names, model.image_fit = ["a", "b", "c"], "pad"
    model.forward(f(3, 4, 5, 2), training=True)
    model.export(tmp_path / "m.onnx")
    found = from_onnx(tmp_path / "m.onnx")
    for name in ("class_names", "image_fit", "input_range", "input_mean"):
        assert getattr(found, name) == getattr(model, name) is not None
    proto = onnx.load(tmp_path / "m.onnx")
    next(one for one in proto.metadata_props if one.key == "class_names").value = '["a"]'
    refused(proto, "metadata")
    proto.producer_name = "another"  # then it means whatever it means
    assert from_onnx(proto, input_layout="NHWC").class_names is None


# ---- the order of axes ----


def test_a_flatten_is_in_the_order_of_the_graph():
    flat = [node("Flatten", "x", "r")]
    dense = [*flat, node("Gemm", "r w", "y")]
    assert_equal(graph(dense, w=f(60, 3)), "Flatten Dense")
    assert_equal(graph([*flat, node("Relu", "r", "y")]), "Permute Flatten ReLU")
    scaled = graph([*flat, node("Mul", "r s", "m"), node("Relu", "m", "y")], s=f(60))
    assert_equal(scaled)
    between = [*flat, node("Dropout", "r", "d"), node("Mul", "d s", "m"), node("Gemm", "m w", "y")]
    assert_equal(graph(between, w=f(60, 3), s=f(1, 60)))
    norm = node("BatchNormalization", "r g b m v", "n")
    arrays = {"g": f(60), "b": f(60), "m": f(60), "v": f(60) ** 2}
    assert_equal(graph([*flat, norm, node("MatMul", "n w", "y")], w=f(60, 3), **arrays))
    assert_equal(graph([*flat, node("LayerNormalization", "r g b", "n"), node("MatMul", "n w", "y")],
                       w=f(60, 3), g=f(60), b=f(60)))  # fmt: skip
    joined = [*flat, node("Concat", "r r", "c", axis=1), node("MatMul", "c w", "y")]
    assert_equal(graph(joined, w=f(120, 3)))
    back = [*dense[:1], node("Reshape", "r s", "i"), node("Conv", "i w", "y")]
    assert_equal(graph(back, s=np.array([0, 2, 5, 6]), w=f(3, 2, 3, 3)), "Conv2D")
    other = [*dense[:1], node("Reshape", "r s", "i"), node("Conv", "i w", "y")]
    assert_equal(graph(other, s=np.array([-1, 4, 3, 5]), w=f(3, 4, 3, 3)))


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
@pytest.mark.parametrize("op", ["Softmax", "Concat", "ReduceMean", "Split"])
def test_any_axis_but_the_batch(op, axis):
    conv = node("Conv", "x w", "c")
    then = {
        "Softmax": [node("Softmax", "c", "y", axis=axis)],
        "Concat": [node("Relu", "c", "r"), node("Concat", "c r c", "y", axis=axis)],
        "ReduceMean": [node("ReduceMean", "c", "y", axes=[axis], keepdims=0)],
        "Split": [node("Split", "c s", "a b", axis=axis), node("Concat", "b a", "y", axis=axis)],
    }[op]
    made = graph([conv, *then], w=f(4, 2, 2, 3), **({"s": np.array([1, 3])} if op == "Split" else {}))
    assert_equal(made)


@pytest.mark.parametrize("axes", [[1], [2], [3], [1, 2], [1, 3], [2, 3], [1, 2, 3]])
def test_images_of_means_come_out_with_their_channels_last(axes):
    made = assert_equal(graph([node("ReduceMean", "x", "y", axes=axes)]), input_layout="NCHW")
    kept = (1 if axis in axes else size for axis, size in zip((2, 3, 1), made.input_shape, strict=True))
    assert made.output_shape == tuple(kept)


def test_graphs_with_channels_last():
    turn = [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Conv", "t w", "c")]
    turned = [*turn, node("Transpose", "c", "y", perm=[0, 2, 3, 1])]
    shape = ("N", 5, 6, 2)
    assert assert_equal(graph(turned, shape, w=f(3, 2, 3, 3)), "Conv2D", first=False).input_shape == (5, 6, 2)
    bias = [node("Add", "x b", "a"), node("Relu", "a", "y")]
    assert assert_equal(graph(bias, shape, b=f(2)), "Normalization ReLU", first=False).input_shape == (5, 6, 2)
    assert from_onnx(graph(bias, ("N", 2, 5, 6), b=f(2, 1, 1))).input_shape == (5, 6, 2)
    turned = [*turn[:1], node("Relu", "t", "r"), node("Transpose", "r", "y", perm=[0, 3, 2, 1])]
    made = from_onnx(graph(turned, shape), input_layout="NHWC")
    x = f(2, 5, 6, 2)
    np.testing.assert_array_equal(made.predict(x), np.maximum(x, 0).transpose(0, 2, 1, 3))


def test_the_layout_of_an_input_that_no_node_tells():
    flat = [node("Flatten", "x", "r"), node("MatMul", "r w", "y")]
    assert from_onnx(graph(flat, ("N", 3, 8, 8), w=f(192, 2))).input_shape == (8, 8, 3)
    assert from_onnx(graph(flat, ("N", 8, 8, 3), w=f(192, 2))).input_shape == (8, 8, 3)
    assert from_onnx(graph(flat, ("N", 8, 8, 3), w=f(192, 2)), input_layout="NCHW").input_shape == (8, 3, 8)
    marked = graph(flat, ("N", 6, 4, 8), w=f(192, 2))
    assert from_onnx(marked).input_shape == (4, 8, 6)
    marked.graph.input[0].type.tensor_type.shape.dim[3].denotation = "DATA_CHANNEL"
    assert from_onnx(marked).input_shape == (6, 4, 8)
    with pytest.raises(ValueError, match="input_layout"):
        from_onnx(marked, input_layout="HWCN")


def wrote(made, producer):
    made.producer_name = producer
    return made


SEEMING = {  # what some write for channels and others for rows or columns, of (N, 2, 5, 6)
    **{f"Concat {axis}": ([node("Concat", "x x", "a", axis=axis)], {}) for axis in (2, 3, -1)},
    **{f"Softmax {axis}": ([node("Softmax", "x", "a", axis=axis)], {}) for axis in (2, 3)},
    **{f"Add {b}": ([node("Add", "x b", "a")], {"b": f(*b)}) for b in ((6,), (5, 1), (1, 1, 1, 6))},
    "MatMul": ([node("MatMul", "x b", "a")], {"b": f(6, 4)}),
    "MatMul from left": ([node("MatMul", "b x", "a")], {"b": f(4, 5)}),
    "PRelu": ([node("PRelu", "x b", "a")], {"b": f(6)}),
    "LayerNormalization": ([node("LayerNormalization", "x b", "a")], {"b": f(6)}),
    "circular": ([node("Slice", "x m1 end two", "p"), node("Concat", "p x", "a", axis=2)],
                 {"m1": np.array([-1]), "end": np.array([99]), "two": np.array([2])}),
    "sorted": ([node("Transpose", "x", "t", perm=[0, 2, 1, 3]), node("Relu", "t", "r"),
                node("Transpose", "r", "a", perm=[0, 2, 1, 3])], {}),
}  # fmt: skip


@pytest.mark.parametrize("case", SEEMING)
def test_what_is_defined_with_channels_outweighs_what_seems_to_have_them(case):
    """And PyTorch's graphs have them first, also where nothing is."""
    nodes, arrays = SEEMING[case]
    assert_equal(graph([*nodes, node("Conv", "a w", "y")], w=f(3, 2, 1, 1), **arrays), shape=(5, 6, 2))
    ends = [node("ReduceMean", "a", "m", axes=[2, 3], keepdims=0), node("Softmax", "m", "y")]
    assert_equal(graph([*nodes, *ends], **arrays), shape=(5, 6, 2))
    alone = wrote(graph([*nodes, node("Relu", "a", "y")], **arrays), "pytorch")
    assert assert_equal(alone, shape=(5, 6, 2)).input_shape == (5, 6, 2)


def test_a_softmax_behind_a_mean_says_nothing_of_the_input():
    nodes = [node("ReduceMean", "x", "m", axes=[3], keepdims=0), node("Softmax", "m", "y", axis=2)]
    assert from_onnx(graph(nodes)).input_shape == (5, 6, 2)


def test_the_layout_of_those_who_wrote_the_graph():
    flat = [node("Flatten", "x", "r"), node("MatMul", "r w", "y")]
    cast = [node("Cast", "x", "c", to=1), node("Flatten", "c", "r"), flat[1]]  # as Keras has it, through PyTorch
    for shape in ((8, 8, 3), (7, 5, 3), (4, 4, 4)):
        w = f(math.prod(shape), 2)
        first = (*shape[1:], shape[0])
        assert from_onnx(wrote(graph(flat, ("N", *shape), w=w), "pytorch")).input_shape == first
        assert from_onnx(wrote(graph(cast, ("N", *shape), w=w), "pytorch")).input_shape == shape
        assert from_onnx(wrote(graph(flat, ("N", *shape), w=w), "tf2onnx")).input_shape == shape


def test_equal_axes_of_which_nothing_says_which_are_channels():
    """All data would fit both ways of reading the graph, and one of them be wrong."""
    flat = graph([node("Flatten", "x", "r"), node("MatMul", "r w", "y")], ("N", 4, 4, 4), w=f(64, 2))
    refused(flat, "input 'x'", 'input_layout="NCHW"')
    refused(graph([node("Add", "x b", "y")], ("N", 4, 4, 4), b=f(4)), "input 'x'")
    for layout in ("NCHW", "NHWC"):
        assert_equal(flat, first=layout == "NCHW", input_layout=layout)
    assert_equal(graph([node("Conv", "x w", "y")], ("N", 4, 4, 4), w=f(2, 4, 3, 3)))
    assert_equal(graph([node("Relu", "x", "y")], ("N", 1, 1, 1)))


def test_other_numbers_of_axes_stay_as_they_are():
    conv = [node("Conv", "x w b", "c", pads=[1, 0], strides=[2]), node("MaxPool", "c", "y", kernel_shape=[2])]
    assert_equal(graph(conv, ("N", 3, 9), w=f(4, 3, 3), b=f(4)))
    norm = [node("BatchNormalization", "x g b m v", "n"), node("GlobalAveragePool", "n", "y")]
    arrays = {"g": f(3), "b": f(3), "m": f(3), "v": f(3) ** 2}
    for shape in (("N", 3, 4), ("N", 3, 4, 5), ("N", 3, 2, 4, 5)):
        assert_equal(graph(norm, shape, **arrays))
    assert_equal(graph([*norm[:1], node("Identity", "n", "y")], ("N", 3), **arrays), "BatchNormalization")
    assert_equal(graph([node("MatMul", "x w", "y")], ("N", 3, 4), w=f(4, 2)), "Dense")
    assert_equal(graph([node("MatMul", "w x", "y")], ("N", 3, 4), w=f(2, 3)))


# ---- branches ----


def conv(source, made, arrays, c=2, k=3):
    arrays[f"w{made}"] = f(c, 2, k, k)
    return node("Conv", f"{source} w{made}", made, pads=[k // 2] * 4)


def test_branches():
    arrays = {}
    nodes = [conv("x", "a", arrays), node("Relu", "a", "b"), conv("b", "c", arrays), conv("b", "d", arrays, k=1),
             node("Add", "c d", "e"), node("Add", "e b", "s"), node("Relu", "s", "t"),
             node("Concat", "t b", "u", axis=1), node("Sub", "u u2", "y"), node("Mul", "u half", "u2")]  # fmt: skip
    nodes[-1], nodes[-2] = nodes[-2], nodes[-1]
    made = assert_equal(graph(nodes, half=np.float32(0.5), **arrays), "Conv2D Concurrent Residual")
    assert type(made.get_layer("1.branches.0.0")).__name__ == "Residual"
    assert made.get_layer("1.branches.0.0").activation == "relu"
    twice = assert_equal(graph([conv("x", "a", arrays), node("Add", "a a", "y")], wa=arrays["wa"]), "Conv2D Rescaling")
    assert twice.layers[1].scale == 2
    mean = [conv("x", "a", arrays), node("Relu", "a", "b"), node("Mean", "a b x", "y")]
    assert_equal(graph(mean, wa=arrays["wa"]))


def test_dense_networks_are_chains_of_concurrents():
    arrays = {}
    nodes = [conv("x", "a", arrays)]
    for number, letter in enumerate("bcd"):
        parts = " ".join("abcd"[: number + 1])
        source = "a" if number == 0 else f"j{letter}"
        nodes += [node("Concat", parts, f"j{letter}", axis=1)] if number else []
        arrays[f"w{letter}"] = f(2, 2 * (number + 1), 3, 3)
        nodes += [node("Conv", f"{source} w{letter}", letter, pads=[1] * 4)]
    made = assert_equal(graph([*nodes, node("Concat", "a b c d", "y", axis=1)], **arrays))
    assert [type(layer).__name__ for layer in made.layers] == ["Conv2D", "Concurrent", "Concurrent", "Concurrent"]
    assert made.count_params() == sum(array.size for array in arrays.values())


def test_neighbours_of_a_concat_that_split_later_are_one_branch():
    arrays = {}
    nodes = [conv("x", "a", arrays), conv("a", "b", arrays), node("Relu", "b", "c"), node("Tanh", "b", "d"),
             node("Concat", "x c d a", "y", axis=1)]  # fmt: skip
    made = assert_equal(graph(nodes, **arrays), "Concurrent")
    assert type(made.get_layer("0.branches.1.1.branches.0.1")).__name__ == "Concurrent"


def test_a_graph_that_no_chain_holds_names_the_node():
    arrays = {}
    nodes = [conv("x", "a", arrays), conv("a", "b", arrays), conv("a", "c", arrays), conv("b", "d", arrays),
             node("Add", "d c", "e"), node("Add", "e b", "y")]  # fmt: skip
    assert_equal(graph([*nodes[:4], node("Add", "d b", "e"), node("Add", "e c", "y")], **arrays))
    crossed = [*nodes[:4], node("Add", "b c", "s"), conv("s", "e", arrays), node("Add", "d e", "y")]
    refused(graph(crossed, **arrays), "Add 'the Add'", "no chain can hold", "Conv 'the Conv'")
    gate = [conv("x", "a", arrays), node("GlobalAveragePool", "a", "g"), node("Mul", "a g", "y")]
    refused(graph(gate, wa=arrays["wa"]), "Mul 'the Mul'", "multiplies")


def test_layers_within_layers_are_bounded(monkeypatch):
    nodes = [node("Relu", "x", "a0")]
    for number in range(60):
        nodes.append(node("Add", f"a{number} x", f"a{number + 1}"))
    refused(graph([*nodes, node("Relu", "a60", "y")]), "at most 40 others")


# ---- what is written as several nodes ----


def numbers(**more):
    return {name: np.float32(value) for name, value in more.items()}


SPELLED = {
    "GELU": ([node("Div", "x r", "a"), node("Erf", "a", "b"), node("Add", "b one", "c"), node("Mul", "x c", "d"),
              node("Mul", "d half", "y")], numbers(r=math.sqrt(2), one=1, half=0.5)),
    "GELU ": ([node("Mul", "x half", "h"), node("Mul", "x r", "a"), node("Erf", "a", "b"), node("Add", "one b", "c"),
               node("Mul", "c h", "y")], numbers(r=math.sqrt(0.5), one=1, half=0.5)),
    "Swish": ([node("Sigmoid", "x", "a"), node("Mul", "a x", "y")], {}),
    "HardSwish": ([node("Add", "x three", "a"), node("Clip", "a zero six", "b"), node("Mul", "x b", "c"),
                   node("Div", "c six", "y")], numbers(three=3, zero=0, six=6)),
    "HardSwish ": ([node("HardSigmoid", "x", "a", alpha=1 / 6), node("Mul", "x a", "y")], {}),
    "Activation": ([node("Abs", "x", "a"), node("Add", "a one", "b"), node("Div", "x b", "y")], numbers(one=1)),
    "ReLU": ([node("Greater", "x t", "a"), node("Min", "x six", "b"), node("Sub", "x t", "c"), node("Mul", "c s", "d"),
              node("Where", "a b d", "y")], numbers(t=0.2, six=0.5, s=0.25)),
    "Softplus": ([node("Softplus", "x", "a"), node("Greater", "x t", "b"), node("Where", "b x a", "y")], numbers(t=20)),
    "LayerNormalization": ([node("ReduceMean", "x", "m", axes=[-1]), node("Sub", "x m", "a"), node("Pow", "a two", "b"),
                            node("ReduceMean", "b", "c", axes=[-1]), node("Add", "c e", "d"), node("Sqrt", "d", "s"),
                            node("Div", "a s", "n"), node("Mul", "n g", "o"), node("Add", "o h", "y")],
                           numbers(two=2, e=1e-3) | {"g": f(6), "h": f(6)}),
    "Rescaling": ([node("Div", "x a", "b"), node("Sub", "b c", "d"), node("Neg", "d", "y")], numbers(a=4, c=0.5)),
    "Rescaling ReLU Rescaling ReLU Rescaling": ([node("Max", "x low", "a"), node("Min", "a high", "y")],
                                                numbers(low=-0.5, high=99)),
    "ELU Rescaling": ([node("Selu", "x", "y", alpha=2.0, gamma=3.0)], {}),
    "SELU": ([node("Selu", "x", "y")], {}),
    "Rescaling GELU": ([node("Mul", "x two", "p"), node("Add", "p three", "q"), node("Div", "q r", "a"),
                        node("Erf", "a", "b"), node("Add", "b one", "c"), node("Mul", "q c", "d"),
                        node("Mul", "d half", "y")], numbers(two=2, three=3, r=math.sqrt(2), one=1, half=0.5)),
    "Swish Rescaling GELU": ([node("Sigmoid", "x", "p"), node("Mul", "x p", "s"), node("Mul", "s two", "q"),
                              node("Div", "q r", "a"), node("Erf", "a", "b"), node("Add", "b one", "c"),
                              node("Mul", "q c", "d"), node("Mul", "d half", "y")],
                             numbers(two=2, r=math.sqrt(2), one=1, half=0.5)),
}  # fmt: skip


@pytest.mark.parametrize("kinds", SPELLED)
def test_activations_and_norms_spelled_out(kinds):
    nodes, arrays = SPELLED[kinds]
    assert_equal(graph(nodes, ("N", 6), **arrays), kinds)


@pytest.mark.parametrize("t", [0.0, 0.25])
@pytest.mark.parametrize("op", ["Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
def test_a_choice_between_a_value_and_nothing(op, t):
    """x > t ? x : 0, however it is said; with >= only where that is the same."""
    values = "v x" if op[:4] == "Less" else "x v"
    made = graph([node(op, "x t", "c"), node("Where", f"c {values}", "y")], ("N", 6), **numbers(t=t, v=0))
    if t and op in ("GreaterOrEqual", "Less"):
        refused(made, "Where 'the Where'")
    else:
        x = np.float32([[-1, 0, 0.125, 0.25, 0.5, 1]])
        np.testing.assert_array_equal(assert_equal(made, "ReLU").predict(x), reference(made, x))
    refused(graph([node(op, "x t", "c"), node("Where", f"c {values}", "y")], ("N", 6), **numbers(t=t, v=1)), "Where")


@pytest.mark.parametrize(("groups", "each"), [(2, 1), (2, 3), (4, 2)])
def test_transposed_convolutions_of_groups_are_branches(groups, each):
    more = {"strides": [2, 3], "output_padding": [1, 0], "pads": [1, 0, 0, 1]}
    v, w, b = f(4, 2, 1, 1), f(4, each, 3, 2), f(groups * each)
    whole = [
        node("Conv", "x v", "a"),
        node("ConvTranspose", "a w b", "t", group=groups, **more),
        node("Relu", "t", "y"),
    ]
    made = from_onnx(graph(whole, v=v, w=w, b=b))
    assert [type(layer).__name__ for layer in made.layers] == ["Conv2D", "Concurrent", "ReLU"]
    arrays = {"v": v, "s": np.full(groups, 4 // groups)}  # onnx's evaluator has other groups than its node tests
    parts, ends = [*"abcd"[:groups]], [f"{part}t" for part in "abcd"[:groups]]
    nodes = [whole[0], node("Split", "a s", " ".join(f"{part}0" for part in parts), axis=1)]
    for place, part in enumerate(parts):
        arrays[f"{part}w"], arrays[f"{part}b"] = np.split(w, groups)[place], np.split(b, groups)[place]
        nodes.append(node("ConvTranspose", f"{part}0 {part}w {part}b", ends[place], **more))
    nodes += [node("Concat", " ".join(ends), "t", axis=1), whole[2]]
    x = f(2, 5, 6, 2)
    wanted = reference(graph(nodes, **arrays), x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(made.predict(x), wanted, rtol=1e-5, atol=1e-5)


def test_a_pattern_with_another_number_is_no_activation():
    nodes, arrays = SPELLED["GELU"]
    refused(graph(nodes, ("N", 6), **arrays | numbers(r=1.5)), "Erf 'the Erf'")
    nodes, arrays = SPELLED["HardSwish"]
    refused(graph(nodes, ("N", 6), **arrays | numbers(three=2)), "Mul 'the Mul'")
    nodes, arrays = SPELLED["Softplus"]
    refused(graph(nodes, ("N", 6), **arrays | numbers(t=1)), "Where 'the Where'")
    nodes, arrays = SPELLED["ReLU"]
    refused(graph(nodes, ("N", 6), **arrays | numbers(t=-0.2)), "Where 'the Where'")


def test_bias_and_batch_norm_as_arithmetic():
    arrays = {"w": f(3, 2, 3, 3), "b": f(1, 3, 1, 1), "m": f(3, 1, 1), "g": f(3, 1, 1), "h": f(3, 1, 1)}
    nodes = [node("Conv", "x w", "c"), node("Add", "b c", "d"), node("Relu", "d", "r"), node("Sub", "r m", "s"),
             node("Mul", "s g", "t"), node("Add", "t h", "y")]  # fmt: skip
    made = assert_equal(graph(nodes, **arrays), "Conv2D BatchNormalization")
    assert made.layers[0].use_bias
    assert made.layers[0].activation == "relu"
    every = [node("Mul", "x a", "b"), node("Add", "b c", "y")]
    assert_equal(graph(every, a=f(2, 5, 6), c=f(2, 5, 6)), "Flatten BatchNormalization Reshape")
    assert_equal(graph([node("Add", "x c", "y")], c=f(1, 2, 5, 6)), "Normalization")


def test_padding_before_a_layer():
    pads = np.array([0, 0, 1, 0, 0, 0, 2, 1])
    nodes = [node("Pad", "x p", "a"), node("Conv", "a w", "y", pads=[0, 1, 0, 1])]
    made = assert_equal(graph(nodes, p=pads, w=f(3, 2, 3, 3)), "Conv2D")
    assert made.layers[0].padding == ((1, 2), (1, 2))
    for value, mode in ((-math.inf, "constant"), (0.0, "edge")):
        nodes = [node("Pad", "x p v", "a", mode=mode), node("MaxPool", "a", "y", kernel_shape=[3, 3], strides=[2, 2])]
        arrays = {"p": pads, "v": np.float32(value)}
        assert_equal(graph(nodes, **arrays), "MaxPooling2D")
        refused(graph([nodes[0], node("Relu", "a", "y")], **arrays), "Pad 'the Pad'")


@pytest.mark.parametrize("counted", [0, 1])
def test_a_mean_of_two_pixels_padded_with_one_of_them(counted):
    """As Keras writes AveragePooling2D(2, padding="same")."""
    pads = np.array([0, 0, 0, 0, 0, 0, 1, 0])
    pad = node("Pad", "x p", "a", mode="edge")
    more = {"strides": [2, 2], "count_include_pad": counted}
    assert_equal(graph([pad, node("AveragePool", "a", "y", kernel_shape=[2, 2], **more)], p=pads), "AveragePooling2D")
    for window, own in (([3, 2], {}), ([2, 2], {"pads": [0, 1, 0, 0]}), ([2, 2], {"ceil_mode": 1})):
        pool = node("AveragePool", "a", "y", kernel_shape=window, **more, **own)
        refused(graph([pad, pool], p=pads), "Pad 'the Pad'")
    refused(graph([pad, node("AveragePool", "a", "y", kernel_shape=[2, 2], **more)], p=2 * pads), "Pad 'the Pad'")


def test_repeated_pixels():
    """As Keras writes UpSampling2D."""
    nodes = [node("Unsqueeze", "x two", "u"), node("Expand", "u s", "e"), node("Reshape", "e r", "v"),
             node("Conv", "v w", "y")]  # fmt: skip
    arrays = {"two": np.array([3]), "s": np.array([1, 2, 5, 3, 6]), "r": np.array([0, 2, 15, 6]), "w": f(3, 2, 2, 2)}
    assert_equal(graph(nodes, opset=13, **arrays))
    mean = [node("ReduceMean", "x", "m", axes=[1, 3]), node("Expand", "m s", "y")]
    assert_equal(graph(mean, s=np.array([4, 1, 3])), shape=(5, 6, 2), input_layout="NCHW")
    for bad in ([3, 1, 1, 1], [1, 1, 1, 1, 1], [4, 6], [2**40, 1, 1], [0, 1, 1]):
        refused(graph(mean, s=np.array(bad)), "Expand 'the Expand'", input_layout="NCHW")


def test_remainders_of_constants():
    nodes = [node("Mod", "a b", "c", fmod=1), node("Mod", "d e", "g", fmod=0), node("Add", "x c", "v"),
             node("Reshape", "v s", "y")]  # fmt: skip
    arrays = {"a": f(6), "b": f(6), "d": np.array([-5]), "e": np.array([3]), "s": np.array([0, 2, 3])}
    assert_equal(graph(nodes[:1] + nodes[2:], ("N", 6), **arrays), first=False)
    nodes = [nodes[1], node("ReduceProd", "s3 ax", "p", keepdims=1, noop_with_empty_axes=0),
             node("Concat", "z g p", "s", axis=0), node("Reshape", "x s", "y")]  # fmt: skip
    arrays |= {"z": np.array([0]), "s3": np.array([6, 1]), "ax": np.array([0])}
    del arrays["s"]
    assert from_onnx(graph(nodes, ("N", 6), opset=18, **arrays)).output_shape == (1, 6)


def test_shape_arithmetic_is_computed():
    nodes = [node("Shape", "x", "s"), node("Gather", "s i0", "n"), node("Unsqueeze", "n ax", "n1"),
             node("Slice", "s one two", "c"), node("Mul", "c three", "c3"), node("ReduceProd", "s3", "p", keepdims=1),
             node("Concat", "n1 c3 m1", "t", axis=0), node("Reshape", "x t", "y")]  # fmt: skip
    nodes.insert(5, node("Slice", "s one end", "s3"))
    arrays = {"i0": np.array(0), "ax": np.array([0]), "one": np.array([1]), "two": np.array([2]),
              "three": np.array([3]), "end": np.array([4]), "m1": np.array([-1])}  # fmt: skip
    assert_equal(graph(nodes, ("N", 2, 3, 6), **arrays))
    nodes[4] = node("Mul", "s three", "c3")
    refused(graph(nodes, ("N", 2, 3, 6), **arrays), "number of samples")


def test_shapes_of_a_known_number_of_samples():
    nodes = [node("Shape", "x", "s"), node("Gather", "s i0", "n"), node("Unsqueeze", "n ax", "n1"),
             node("Concat", "n1 m1", "t", axis=0), node("Reshape", "x t", "y")]  # fmt: skip
    made = graph(nodes, (3, 2, 5, 6), i0=np.array(0), ax=np.array([0]), m1=np.array([-1]))
    assert_equal(made, "Permute Flatten")


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_a_window_beyond_the_image_where_the_number_of_windows_is_rounded_up(op):
    pool = [node(op, "x", "y", kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)]
    x = f(2, 2, 1, 2)
    made = from_onnx(graph(pool, ("N", 2, 2, 1)))
    x = x.reshape(2, 2, 1, 2)
    wanted = x.max((1, 2)) if op == "MaxPool" else x.mean((1, 2))
    np.testing.assert_allclose(made.predict(x), wanted[:, None, None], rtol=1e-6)
    refused(graph([node(op, "x", "y", kernel_shape=[4, 4], strides=[2, 2], ceil_mode=1)], ("N", 2, 2, 2)), "windows")


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("rows", "columns", "height", "width"), [(10, 12, 3, 5), (18, 6, 5, 7), (5, 5, 7, 6)])
def test_nearest_pixels_where_two_are_as_near(rows, columns, height, width, turned):
    """Runtimes find them in float32, ``Sequential.export`` writes such places, and they come back."""
    resize = layers.Resizing(height, width, interpolation="nearest")
    model = Sequential([layers.Permute((3, 1, 2)), resize] if turned else [resize])
    model.build((columns, 2, rows) if turned else (rows, columns, 2))
    x = f(2, *model.input_shape)
    for layout in ("NHWC", "NCHW"):
        found = from_onnx(onnx_writer.proto(model, 17, layout))
        np.testing.assert_array_equal(found.predict(x), model.predict(x))


# ---- what is refused, and why ----


def test_constants_for_inputs():
    two = graph([node("Gemm", "x w", "y")], ("N", 3), more=[helper.make_tensor_value_info("w", 1, (3, 2))])
    w = f(3, 2)
    x = f(4, 3)
    np.testing.assert_allclose(from_onnx(two, {"w": w}).predict(x), x @ w, rtol=1e-6)
    refused(two, "one input", "['x', 'w']", "constants")
    refused(two, "inputs of the graph, x, w", constants={"v": w})
    refused(two, "input 'w'", "[3, 2]", constants={"w": w.T})
    refused(two, "array of numbers", constants={"w": "w"})
    with pytest.raises(TypeError, match="constants must be a dictionary"):
        from_onnx(two, [w])


REFUSALS = {
    "an operator": ([node("Det", "x", "y")], {}, "Det 'the Det': no layer computes"),
    "no operator": ([node("Nothing", "x", "y")], {}, "no such operator"),
    "a domain": ([helper.make_node("Relu", ["x"], ["y"], domain="com.x")], {}, "domain 'com.x'"),
    "an attribute": ([node("Relu", "x", "y", alpha=1.0)], {}, "Relu 'the Relu': has no attribute 'alpha'"),
    "one that is not read": ([node("Constant", "", "c", value_string="a"), node("Mul", "x c", "y")], {}, "one value"),
    "its type": ([node("Flatten", "x", "y", axis=1.0)], {}, "'axis' must be of type INT"),
    "inputs": ([node("Conv", "x", "y")], {}, "must have 2 to 3 inputs"),
    "order": ([node("Relu", "a", "y"), node("Relu", "x", "a")], {}, "made by a node before it"),
    "no input": ([node("Relu", "z", "y")], {}, "made by a node before it"),
    "a constant output": ([node("Identity", "w", "y")], {"w": f(3)}, "the output 'y' must be made of the input 'x'"),
    "a second output": ([node("MaxPool", "x", "a y", kernel_shape=[2, 2])], {}, "gives one value only"),
    "training": ([node("Dropout", "x r t", "y")], {"r": np.float32(0.5), "t": np.array(True)}, "in training only"),
    "weights": ([node("Conv", "x w", "y")], {"w": f(3, 5, 3, 3)}, "must fit 2 channels"),
    "kernel_shape": ([node("Conv", "x w", "y", kernel_shape=[2, 2])], {"w": f(3, 2, 3, 3)}, "kernel_shape must be"),
    "a window": ([node("Conv", "x w", "y")], {"w": f(3, 2, 9, 3)}, "windows of 9 must fit into 5"),
    "pads twice": ([node("Conv", "x w", "y", pads=[1] * 4, auto_pad="VALID")], {"w": f(1, 2, 3, 3)}, "either"),
    "the batch": ([node("Transpose", "x", "y", perm=[1, 0, 2, 3])], {}, "Transpose 'the Transpose': must leave"),
    "another batch": ([node("Reshape", "x s", "y")], {"s": np.array([60, -1])}, "must leave the samples"),
    "a matrix": ([node("MatMul", "x w", "y")], {"w": f(2, 6, 3)}, "one matrix for all"),
    "data by data": ([node("MatMul", "x x", "y")], {}, "constant matrix"),
    "a group": ([node("ConvTranspose", "x w", "y", group=3)], {"w": f(2, 1, 3, 3)}, "must divide the 2 channels"),
    "a variance": ([node("BatchNormalization", "x w w w w", "y")], {"w": np.float32([-1, -2])}, "variances"),
    "a dilation": ([node("MaxPool", "x", "y", kernel_shape=[2, 2], dilations=[2, 2])], {}, "dilation"),
    "corners": ([node("Resize", "x  s", "y", coordinate_transformation_mode="align_corners", mode="linear")],
                {"s": np.float32([1, 1, 2, 2])}, "centres of their squares"),
    "a half": ([node("Relu", "x", "a"), node("Cast", "a", "y", to=10)], {}, "must stay float32"),
    "nan": ([node("MatMul", "x w", "y")], {"w": np.full((6, 2), np.nan, np.float32)}, "nan"),
    "an operator's name": ([node("\x1b[31m\n", "x", "y")], {}, r"from_onnx: '\x1b[31m\n' '"),
    "quantized": ([node("DequantizeLinear", "w s", "v"), node("MatMul", "x v", "y")],
                  {"w": np.ones((6, 2), np.int8), "s": np.float32(1)}, "is no arithmetic of constants"),
    "two names": ([node("Relu", "x", "a"), node("Relu", "x", "a"), node("Relu", "a", "y")], {}, "name of its own"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_name_the_node_and_say_why(case):
    nodes, arrays, words = REFUSALS[case]
    if case == "corners":
        nodes = [helper.make_node("Resize", ["x", "", "s"], ["y"], "the Resize", **{
            "coordinate_transformation_mode": "align_corners", "mode": "linear"})]  # fmt: skip
    refused(graph(nodes, **arrays), words, "the model: from_onnx")


def test_graphs_within_nodes():
    inner = helper.make_graph([node("Relu", "x", "z")], "i", [], [helper.make_tensor_value_info("z", 1, None)])
    nodes = [node("If", "c", "y", then_branch=inner, else_branch=inner), node("Relu", "x", "z2")]
    refused(graph(nodes, c=np.array(True)), "graphs within nodes")


def test_inputs_and_outputs():
    relu = [node("Relu", "x", "y")]
    assert from_onnx(graph(relu, ("N", 2, "H", "W")), input_shape=(4, 5, 2)).output_shape == (4, 5, 2)
    refused(graph(relu, ("N", 2, "H", "W")), "input 'x'", "input_shape")
    refused(graph(relu, ("N", 2, "H", "W")), "must fit", input_shape=(4, 5, 3))
    refused(graph(relu, ("N", 2, 0, 3)), "input 'x'")
    refused(graph(relu, ()), "input 'x'")
    refused(graph(relu, ("N", 3), ("N", 4)), "output 'y'", "(None, 4)")
    refused(graph(relu, kind=TensorProto.FLOAT16), "float16")
    refused(graph(relu, kind=TensorProto.STRING), "type")
    refused(graph(relu, opset=6), "opset must be from 7")
    refused(graph(relu, opset=999), "opset must be from 7")
    double = from_onnx(graph(relu, kind=TensorProto.DOUBLE))
    assert double.dtype == np.float64
    cast = graph([node("Cast", "x", "a", to=1), node("Relu", "a", "y")], kind=TensorProto.UINT8)
    cast.graph.output[0].type.tensor_type.elem_type = 1
    assert from_onnx(cast).predict(np.full((1, 5, 6, 2), 200, np.uint8)).max() == 200
    refused(graph(relu, kind=TensorProto.UINT8), "float32 and float64")
    more = graph(relu)
    more.graph.output.append(helper.make_tensor_value_info("x", 1, None))
    refused(more, "one output", "['y', 'x']")


# ---- hostile files ----


def test_files_that_are_none(tmp_path, monkeypatch):
    good = FILES[0].read_bytes()
    for name, content in {"empty": b"", "text": b"# not a model\n" * 40, "short": good[: len(good) // 2]}.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, str(tmp_path / name), "ONNX")
    with pytest.raises(IsADirectoryError):
        from_onnx(tmp_path)
    with pytest.raises(FileNotFoundError):
        from_onnx(tmp_path / "absent")
    with pytest.raises(TypeError, match="path of a file"):
        from_onnx(3)
    refused(b"", "empty")
    refused(onnx.ModelProto(), "a graph")
    for name in ("onnx", "onnx.defs"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "minicnn\[onnx\]"'):
        from_onnx(FILES[0])


def test_sizes_are_compared_before_anything_is_taken():
    made = graph([node("MatMul", "x w", "y")], ("N", 6), w=f(6, 2))
    for dims in ([10**6, 10**6], [2**62, 2**62], [-1, 6], [6, 3], [1] * 40):
        huge = onnx.ModelProto.FromString(made.SerializeToString())
        del huge.graph.initializer[0].dims[:]
        huge.graph.initializer[0].dims.extend(dims)
        refused(huge, "tensor 'w'")
    for count in (10**12, 2**62, -1):
        nodes = [node("ConstantOfShape", "s", "w"), node("MatMul", "x w", "y")]
        refused(graph(nodes, ("N", 6), s=np.array([6, count])), "ConstantOfShape 'the ConstantOfShape'")
    nodes = [node("Expand", "c s", "a"), node("Concat", " ".join(["a"] * 50), "b", axis=0), node("Add", "x b", "y")]
    refused(graph(nodes, ("N", 6), c=np.float32(1), s=np.array([2**20])), "less than 32 MB")
    nodes = [node("Range", "a b c", "r"), node("Add", "x r", "y")]
    arrays = {"a": np.array(0), "b": np.array(10**15), "c": np.array(1)}
    refused(graph(nodes, ("N", 6), **arrays), "Range 'the Range'")
    wide = graph([node("PRelu", "x w", "y")], ("N", 10**6, 10**6), w=f(10**6, 1)[:, :])
    refused(wide, "2097152 numbers")
    from_onnx(graph([node("Relu", "x", "y")], ("N", 10**6, 10**6)))  # takes nothing


def chain_of(count, *made, shape=("N", 3), **arrays):
    """A graph of a long chain; ``made``: (operator, inputs, attributes) of a link, which takes "-"."""
    nodes, last = [], "x"
    for _ in range(count):
        for op, inputs, attributes in made:
            inputs = [last if one == "-" else one for one in inputs.split()]
            nodes.append(helper.make_node(op, inputs, [f"v{len(nodes)}"], **attributes))
            last = nodes[-1].output[0]
    nodes[-1].output[0] = "y"
    return graph(nodes, shape, **arrays)


SMALL = {  # files of some kB that took hundreds of MB, with so many links
    "numbers": lambda: chain_of(1200, ("Mul", "- c", {}), **numbers(c=1.001)),
    "shapes": lambda: chain_of(1200, ("Reshape", "- a", {}), ("Reshape", "- b", {}), shape=("N", 3, 4, 5),
                               a=np.array([0, 5, 4, 3]), b=np.array([0, 3, 4, 5])),
    "one matrix": lambda: chain_of(60, ("Gemm", "- w", {"alpha": 1.5}), shape=("N", 700), w=f(700, 700)),
    "the same matrix": lambda: chain_of(60, ("Gemm", "- w", {}), shape=("N", 700), w=f(700, 700)),
    "one bias": lambda: chain_of(200, ("Relu", "-", {}), ("Add", "- c", {}), shape=("N", 10**5), c=f(1, 10**5)),
    "slopes": lambda: chain_of(60, ("PRelu", "- c", {}), shape=("N", 10**6), c=f(1, 10**6)),
    "one number": lambda: chain_of(60, ("LayerNormalization", "- c", {}), shape=("N", 2**20), c=f(1)),
    "nodes": lambda: chain_of(30_000, ("Relu", "-", {})),
}  # fmt: skip


@pytest.mark.parametrize("case", SMALL)
def test_memory_is_what_the_file_explains(case):
    import tracemalloc

    data = SMALL[case]().SerializeToString()
    tracemalloc.start()
    try:
        from_onnx(data)
    except ConversionError as error:
        assert not isinstance(error.__cause__, MemoryError)  # noqa: PT017
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < len(data) + (64 << 20)


def test_weights_that_are_used_twice_are_read():
    w = f(20, 20)
    twice = graph([node("MatMul", "x w", "a"), node("MatMul", "a w", "y")], ("N", 20), w=w)
    assert assert_equal(twice, "Dense Dense").count_params() == 800
    refused(SMALL["the same matrix"](), "weights must take at most 16 MB more than the file holds")
    refused(chain_of(10_001, ("Relu", "-", {})), "at most 10,000 nodes")


def test_functions_do_not_stand_for_operators():
    made = graph([node("Relu", "x", "y")])
    inner = [helper.make_node("Tanh", ["a"], ["b"])]
    made.functions.append(helper.make_function("", "Relu", ["a"], ["b"], inner, [helper.make_opsetid("", 17)]))
    refused(made, "functions", "Relu")


def external(made, **entries):
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return made


def test_external_data_are_read_on_request_and_only_in_the_folder(tmp_path):
    w, folder = f(6, 2), tmp_path / "m"
    folder.mkdir()
    (folder / "w.bin").write_bytes(b"1234" + w.tobytes())
    (tmp_path / "out.bin").write_bytes(b"1234" + w.tobytes())

    def stored(**entries):
        made = external(graph([node("MatMul", "x w", "y")], ("N", 6), w=w), **entries)
        (folder / "m.onnx").write_bytes(made.SerializeToString())
        return folder / "m.onnx"

    x = f(3, 6)
    path = stored(location="w.bin", offset=4, length=48)
    refused(path, "external_data=True", "w.bin")
    np.testing.assert_allclose(from_onnx(path, external_data=True).predict(x), x @ w, rtol=1e-6)
    refused(path.read_bytes(), "external_data=True", external_data=True)  # in which folder?
    places = ["../out.bin", str(tmp_path / "out.bin"), "", ".", "absent.bin", "w.bin/", "x\0y", "sub/../w.bin"]
    if hasattr(os, "symlink"):
        os.symlink(tmp_path / "out.bin", folder / "link.bin")
        places.append("link.bin")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")
        places.append("pipe")
    for place in places:
        refused(stored(location=place, offset=4, length=48), "tensor 'w'", external_data=True)
    for entries in ({"offset": 5}, {"offset": -1}, {"length": 47}, {"offset": "x"}, {"offset": 2**62}, {"other": 1}):
        refused(stored(**{"location": "w.bin", "offset": 4} | entries), "tensor 'w'", external_data=True)


SEEDS = pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.long)])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as Linux has them")
@SEEDS
def test_mutated_files(count):
    """Each gives a model or a ConversionError, and takes no more than its size and 64 MB."""
    code = f"from test_onnx_reader import *\nmutations({count})"
    status, out, errors = run("-W", "ignore", "-c", code, timeout=3600)
    assert status == 0, errors[-2000:]
    models, refusals = map(int, out.split())
    assert models + refusals == count
    assert models > count / 20
    assert refusals > count / 3


def mutations(count):
    import resource
    import tracemalloc

    files = [path.read_bytes() for path in FILES]
    for data in files:
        from_onnx(data)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), -1))
    models = 0
    for number in range(count):
        rng = random.Random(number)
        data = mutated(rng, rng.choice(files))
        if number % 10 == 0:
            tracemalloc.start()
        try:
            from_onnx(data)
            models += 1
        except ConversionError as error:
            if isinstance(error.__cause__, MemoryError):
                raise AssertionError(f"too much memory in {number}") from error
        if number % 10 == 0:
            assert tracemalloc.get_traced_memory()[1] < len(data) + (64 << 20), number
            tracemalloc.stop()
    print(models, count - models)


WHOLE = [0, 1, 2, 3, -1, 127, 10**6, 10**12, 2**31 - 1, 2**31, 2**63 - 1, -(2**63)]
REAL = [0.0, 1.0, -1.0, 1e30, math.nan, math.inf]


def mutated(rng, data):
    """Bytes of a file in which bytes, or fields of its protobuf, are changed, taken out or repeated."""
    if rng.random() < 0.3:
        found = bytearray(data)
        for _ in range(rng.choice([1, 1, 2, 5])):
            place = rng.randrange(len(found))
            found[place : place + rng.choice([0, 1, 1, 20])] = bytes(
                rng.randrange(256) for _ in range(rng.randrange(4))
            )
        return bytes(found[: rng.randrange(len(found))] if rng.random() < 0.1 else found)
    model = onnx.ModelProto.FromString(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        message, field = rng.choice(list(fields(model)))
        values = getattr(message, field.name)
        kinds = {field.CPPTYPE_FLOAT: REAL, field.CPPTYPE_DOUBLE: REAL}
        try:
            if field.message_type is not None or isinstance(values, str | bytes):
                _rearrange(rng, message, field, values)
            elif hasattr(values, "__len__"):
                values[rng.randrange(len(values))] = rng.choice(kinds.get(field.cpp_type, WHOLE))
            else:
                setattr(message, field.name, rng.choice(kinds.get(field.cpp_type, WHOLE)))
        except (ValueError, TypeError):  # what the field cannot hold
            message.ClearField(field.name)
    return model.SerializeToString()


def _rearrange(rng, message, field, values):
    if isinstance(values, str | bytes):
        operators = sorted({*onnx_fold.__dict__["_FUNCTIONS"], *onnx_nodes.TABLE, "If", "Loop"})
        word = rng.choice(operators) if field.name == "op_type" else values[: rng.randrange(len(values) + 1)]
        setattr(message, field.name, word)
    elif not hasattr(values, "add") or rng.random() < 0.3:
        message.ClearField(field.name)
    else:
        one, other = rng.choice(values), rng.choice(values)
        (values.add() if rng.random() < 0.3 else one).CopyFrom(other)


def fields(message):
    """(message, field) of all fields that are set."""
    for field, value in message.ListFields():
        yield message, field
        if field.message_type is not None:
            for one in value if hasattr(value, "add") else [value]:
                yield from fields(one)


# ---- the pieces ----


def test_steps_that_undo_each_other_vanish():
    step = onnx_values.Step
    turn = step(layers.Permute, (3, 4, 5), {"dims": (3, 1, 2)}, {})
    back = step(layers.Permute, (4, 5, 3), {"dims": (2, 3, 1)}, {})
    flat, image = step(layers.Flatten, (60,), {}, {}), step(layers.Reshape, (4, 5, 3), {"target_shape": (4, 5, 3)}, {})
    assert onnx_values.tidy((4, 5, 3), [turn, back, flat, image]) == []
    other = step(layers.Reshape, (6, 10), {"target_shape": (6, 10)}, {})
    (left,) = onnx_values.tidy((4, 5, 3), [flat, image, flat, other])
    assert (left.name, left.shape) == ("Reshape", (6, 10))
