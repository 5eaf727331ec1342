"""CONTRIBUTING.md tells the truth about how a layer is added: one is added by exactly the files that it names."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

LAYER = '''"""A layer that only this test knows."""

from minicnn.layer import Layer


class Doubling(Layer):
    """y = 2 x;  dx = 2 dy.  x, y: (N, ...)."""

    output_function = "changed"

    def __init__(self, dtype=None):
        super().__init__(dtype)

    def forward(self, x, training=False):
        x = self.check_input(x)
        if training:
            self.keep(len(x))
        return 2 * x

    def backward(self, dy):
        dy, _ = self.check_gradient(dy)
        return 2 * dy
'''
TWIN = """

def doubling(x):
    return x + x
"""
TEST = """import reference
from compare import assert_close
from running import build, normal

from minicnn import layers


def test_against_the_twin():
    x = normal((3, 4))
    assert_close(build(layers.Doubling(dtype="float64"), (4,)).forward(x), reference.doubling(x), 1e-12)
"""


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def files_named(text):
    """The files of the numbered list below "A layer in Python touches"."""
    steps = re.split(r"^\d\. ", text.partition("A layer in Python touches")[2].partition("\n\n")[2], flags=re.M)[1:]
    return {re.match(r"`([^`]+)`", step)[1] for step in steps}


def test_a_layer_in_python_is_added_by_the_files_that_are_named(tmp_path):
    for folder in ("minicnn", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.c"))
    for name in ("CONTRIBUTING.md", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    named = {name.replace("x.py", "doubling.py") for name in files_named((ROOT / "CONTRIBUTING.md").read_text())}
    (tmp_path / "minicnn/layers/doubling.py").write_text(LAYER)
    registry = tmp_path / "minicnn/layers/__init__.py"
    edit(
        registry,
        "from minicnn.layers.dropconnect",
        "from minicnn.layers.doubling import Doubling\nfrom minicnn.layers.dropconnect",
    )
    edit(registry, '    "DropConnect",', '    "Doubling",\n    "DropConnect",')
    edit(
        tmp_path / "minicnn/interop/onnx_writer.py",
        "    layers.Dense: _dense,",
        '    layers.Dense: _dense,\n    layers.Doubling: lambda g, layer, x: g.put("Mul", x, 2.0),',
    )
    twins = tmp_path / "tests/reference.py"
    twins.write_text(twins.read_text() + TWIN)
    (tmp_path / "tests/test_doubling.py").write_text(TEST)
    edit(
        tmp_path / "tests/test_layer_contract.py",
        '    "DropConnect": (',
        '    "Doubling": ({}, (5, 3)),\n    "DropConnect": (',
    )
    changed = {
        str(path.relative_to(tmp_path))
        for path in tmp_path.rglob("*.py")
        if not (ROOT / path.relative_to(tmp_path)).exists()
        or path.read_bytes() != (ROOT / path.relative_to(tmp_path)).read_bytes()
    }
    assert changed == named
    chosen = "Doubling or doubling or table or architecture or determinism or import"
    stems = (
        *("doubling", "layer_contract", "architecture", "determinism", "settings", "outputs", "plan", "reference"),
        "onnx_writer",
    )
    files = [f"tests/test_{stem}.py" for stem in stems]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *files],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-1000:]
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) > 100
