"""The node tests of ONNX's backend, asked of ``from_onnx``: ``python tests/onnx_nodes.py`` writes their table into
docs/onnx.md, where a test compares it.

Their inputs but the first are constants; images go in and come out with their channels last.
"""

import importlib
import pkgutil
import re
import warnings
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import onnx

from minicnn.interop import ConversionError, from_onnx
from minicnn.interop.onnx_layers import TABLE

DOCS = Path(__file__).resolve().parent.parent / "docs" / "onnx.md"
BEGIN, END = "<!-- tests/onnx_nodes.py writes this table -->\n", "<!-- end of the table -->\n"
FLOATS = (1, 11)
SLOW = {"averagepool", "maxpool"}  # modules that take seconds to make their arrays
OTHERS = {"attention", "image_decoder", "lppool", "softmax_cross_entropy_loss"}  # slow, too, and without a layer


def cases(without):
    """The tests of a single node whose operator is known and whose first input is of a type that layers compute in."""
    from onnx.backend.test.case import node

    with warnings.catch_warnings(action="ignore"):
        for module in pkgutil.iter_modules(node.__path__):
            if module.name not in without:
                importlib.import_module(f"{node.__name__}.{module.name}")
    for case in list(node._NodeTestCases):
        graph = case.model.graph
        known = len(graph.node) == 1 and graph.node[0].op_type in TABLE and graph.input
        if known and graph.input[0].type.tensor_type.elem_type in FLOATS:
            yield case


def outcome(case):
    """ "" where the model gives what it must, "wrong", or why it is refused."""
    arrays, (wanted, *_) = case.data_sets[0]
    names = [one.name for one in case.model.graph.input]
    try:
        model = from_onnx(case.model, dict(zip(names[1:], arrays[1:], strict=True)))
    except ConversionError as error:
        return re.sub(r"^the model: from_onnx: (\w+ '[^']*': |input '[^']*': )?|; got .*| \(: .*", "", str(error))
    x, wanted = (
        onnx.numpy_helper.to_array(one) if isinstance(one, onnx.TensorProto) else one for one in (arrays[0], wanted)
    )
    y = model.predict(x.transpose(0, 2, 3, 1) if x.ndim == 4 else x)
    y = y.transpose(0, 3, 1, 2) if y.ndim == 4 else y
    right = y.shape == wanted.shape and np.allclose(y, wanted, case.rtol, case.atol, equal_nan=True)
    return "" if right else "wrong"


def outcomes(without=OTHERS):
    """{operator: Counter of outcomes}."""
    found = defaultdict(Counter)
    for case in cases(without):
        found[case.model.graph.node[0].op_type][outcome(case)] += 1
    return found


def rows(found):
    """The lines of the table for operators that layers have."""
    for operator, counts in sorted(found.items()):
        if counts[""]:
            why = "; ".join(f"{count}: {reason}" for reason, count in sorted(counts.items()) if reason)
            yield f"| {operator} | {counts['']} of {counts.total()} | {why} |"


def text(found):
    passed, wrong = (sum(one[which] for one in found.values()) for which in ("", "wrong"))
    total = sum(map(Counter.total, found.values()))
    none = [f"{operator} ({counts.total()})" for operator, counts in sorted(found.items()) if not counts[""]]
    return "\n".join(
        [
            f"onnx {onnx.__version__} has {total} of them for operators that the reader knows, in float32 and float64: "
            f"{passed} pass, {wrong or 'none'} is computed wrongly, the others are refused:",
            "\n| operator | pass | refused |\n|---|---|---|",
            *rows(found),
            f"\nNone of {', '.join(none)}: they have several outputs, join constants with data, or stand only within "
            "activations that are known.\n",
        ]
    )


if __name__ == "__main__":
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    made = text(outcomes())
    DOCS.write_text(before + BEGIN + made + END + rest.partition(END)[2], encoding="utf-8")
