"""The tree: who may import whom, what stands where, and what the compiled floor must not do."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minicnn
from minicnn import layers

PACKAGE = Path(minicnn.__file__).parent
TESTS = Path(__file__).parent

# Every part of the package and the parts that it may import, at the top of a file or within a function.
BASE = {"_check", "_ext"}
MAY_IMPORT = {
    "_check": set(),
    "_files": {"_check"},
    "_ext": {"_ext"},
    "initializers": {"_check", "configured", "settings"},
    "keras_words": {"_check"},
    "utils": {"_check"},
    "settings": {"_check"},
    "configured": {"_check", "keras_words", "settings"},
    "inputs": {"_check"},
    "schedules": {"_check", "configured", "settings"},
    "tree": {"_check", "settings"},
    "cells": {"_ext"},
    "recording": {"_ext", "cells"},
    "layer": BASE | {"keras_words", "settings", "tree"},
    "chain": {"layer", "tree"},
    "plan": BASE | {"chain", "layer", "recording", "tree"},
    "montecarlo": {"_check", "layer", "layers", "plan", "tree"},
    "layers": BASE
    | {
        "cells",
        "chain",
        "configured",
        "constraints",
        "initializers",
        "layer",
        "layers",
        "recording",
        "regularizers",
        "schedules",
        "settings",
        "stream",
        "tree",
    },
    "activations": {"_check", "layers"},
    "augment": BASE | {"configured", "settings"},
    "targets": BASE,
    "losses": BASE | {"cells", "configured", "settings", "targets"},
    "metric": {"_check", "configured", "settings", "targets"},
    "scores": {"_check", "losses", "metric", "settings", "targets"},
    "metrics": BASE | {"configured", "losses", "metric", "notebook", "scores", "settings", "targets"},
    "regularizers": BASE | {"configured", "settings"},
    "constraints": BASE | {"configured", "settings"},
    "optimizers": BASE | {"configured", "constraints", "schedules", "settings"},
    "datasets": BASE | {"_files", "datasets", "progress"},
    "dropout_check": {"_check", "layer", "layers", "schedules"},
    "verdicts": set(),
    "testing": {"_check", "dropout_check", "layer", "notebook", "recording", "settings", "tree", "verdicts"},
    "callbacks": {"_check", "_files", "document", "metrics", "notebook", "progress", "schedules"},
    "archive": {"_files"},
    # __init__ for the version that stands in every file
    "document": {
        "__init__",
        "_check",
        "_files",
        "archive",
        "layer",
        "layers",
        "losses",
        "metrics",
        "optimizers",
        "settings",
        "tree",
    },
    "saving": {"document", "model"},
    "outputs": BASE | {"chain", "layers", "losses", "metric", "tree"},
    "stream": {"_check", "datasets"},
    "intake": {"_check", "datasets", "metrics", "stream", "targets"},
    "passes": {"_check", "intake", "stream"},
    "progress": {"_check"},
    "resume": {"_check", "_files", "callbacks", "document", "inputs", "layer", "settings", "stream", "tree"},
    "training": BASE
    | {
        "augment",
        "callbacks",
        "configured",
        "datasets",
        "inputs",
        "intake",
        "layer",
        "layers",
        "losses",
        "metrics",
        "passes",
        "progress",
        "resume",
        "stream",
        "targets",
    },
    "parameters": {"_check", "layer", "regularizers", "settings", "tree"},
    "distributed": {"_check", "cells", "layer", "plan", "recording", "tree"},
    "engine": BASE | {"chain", "layer", "montecarlo", "parameters", "plan", "recording", "tree"},
    "model": {
        "_check",
        "advice",
        "chain",
        "distributed",
        "document",
        "engine",
        "inputs",
        "intake",
        "interop",
        "keras_words",
        "layer",
        "layers",
        "losses",
        "metrics",
        "optimizers",
        "outputs",
        "prediction",
        "settings",
        "summary",
        "training",
        "tree",
        "utils",
    },
    "models": {"_check", "model"},
    "advice": {"layers", "outputs"},
    "summary": {"layer", "notebook", "tree"},
    "notebook": set(),  # plot by its name
    "prediction": {"_check", "layer", "montecarlo", "resume", "tree"},
    "ensemble": {"_check", "intake", "model", "prediction", "processes", "targets", "training"},
    "thinning": {"_check", "layer", "layers", "metrics", "notebook", "targets"},
    "calibration": {"_check", "layer", "layers", "model", "notebook", "outputs", "prediction", "targets"},
    "processes": BASE,
    "plot_axes": {"_check", "metrics"},
    "plot_calibration": {"_check", "calibration", "plot_axes"},
    "plot_dropout": {"_check", "layers", "plot_axes", "thinning"},
    "plot_images": {"_check", "intake", "layer", "layers", "model", "plot_axes", "targets", "tree"},
    "plot_architecture": {"_check", "layer", "layers", "model", "plot_axes", "summary", "tree"},
    "plot": {
        "_check",
        "metrics",
        "plot_architecture",
        "plot_axes",
        "plot_calibration",
        "plot_dropout",
        "plot_images",
        "thinning",
    },
    "tune": {
        "_check",
        "_files",
        "datasets",
        "intake",
        "losses",
        "metrics",
        "model",
        "notebook",
        "plot",
        "processes",
        "progress",
    },
    "networks": {"_check", "layers", "regularizers"},
    "interop": {
        *("__init__", "_check", "_files", "inputs", "interop", "layer", "layers", "model", "outputs", "settings"),
        "tree",
    },
    "sklearn": {"_check", "callbacks", "layers", "model", "optimizers", "targets", "tree"},
}
FREE = {"__init__", "__main__", "cli"}  # these see everything


def python_files():
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def part(path):
    """minicnn/layers/conv.py -> layers, minicnn/model.py -> model."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def internal_imports(path):
    """The parts of minicnn that a file imports, as (part, line)."""
    package = ["minicnn", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" if module == "minicnn" else module for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "minicnn":
                rest = name.split(".")[1:]
                known = rest and ((PACKAGE / rest[0]).is_dir() or (PACKAGE / f"{rest[0]}.py").exists())
                yield (rest[0] if known else "__init__"), node.lineno


def breaches(path):
    allowed = MAY_IMPORT[part(path)]
    return [f"{path}:{line} imports {name}" for name, line in internal_imports(path) if name not in allowed]


@pytest.mark.parametrize("path", [path for path in python_files() if part(path) not in FREE], ids=str)
def test_imports_point_one_way(path):
    assert part(path) in MAY_IMPORT, f"{path} is new: say in this test what it may import"
    assert breaches(path) == []


def test_a_breach_is_seen(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "layers").mkdir()
    (tmp_path / "model.py").touch()
    file = tmp_path / "layers" / "own.py"
    for line in ("import minicnn.model", "from minicnn import model", "from ..model import x"):
        for text in (line, f"def f():\n    {line}"):
            file.write_text(text)
            assert len(breaches(file)) == 1, text
    file.write_text("import numpy\nfrom minicnn.layers import conv\nfrom . import dense")
    assert breaches(file) == []


def modules_imported(path):
    """The modules of minicnn that a file imports, at the top or within a function, as dotted names."""
    files = {".".join(file.relative_to(PACKAGE).with_suffix("").parts) for file in python_files()}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "minicnn" and not node.level:
            base = node.module.split(".")[1:]
            for alias in node.names:
                name = ".".join([*base, alias.name])
                yield name if name in files else ".".join(base)


def test_no_circle_of_imports():
    """Neither at the top of files nor through imports within functions; but __init__ imports all of its package."""
    arrows = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): {*modules_imported(path)} for path in python_files()
    }
    assert "layer" in arrows["model"]
    assert "document" in arrows["model"]
    while arrows:
        ends = [name for name, imported in arrows.items() if not imported & (arrows.keys() - {name})]
        assert ends, f"a circle among {sorted(arrows)}"
        for name in ends:
            del arrows[name]


# ---- no module enters another by a private name ----


def private_doors(path):
    """Private attributes that a file asks of something but itself, and private names that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    mine = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    mine |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    mine |= {node.attr for node in attributes if isinstance(node.ctx, ast.Store) and _is_self(node.value)}
    for node in attributes:
        if re.match("_[^_]", node.attr) and node.attr not in mine and not _is_self(node.value):
            yield f"{path}:{node.lineno} {ast.unparse(node)}"
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module != "minicnn":
            yield from (f"{path}:{node.lineno} {a.name}" for a in node.names if re.match("_[^_]", a.name))


def _is_self(node):
    """self, cls or super()."""
    if isinstance(node, ast.Call):
        node = node.func
    return isinstance(node, ast.Name) and node.id in ("self", "cls", "super")


@pytest.mark.parametrize("path", python_files(), ids=str)
def test_no_module_enters_another_by_a_private_name(path):
    assert [*private_doors(path)] == []


def test_a_private_door_is_seen(tmp_path):
    file = tmp_path / "own.py"
    for text in ("model._lock", "x = model.layers[0]._kept", "model._mode = 1", "from minicnn.model import _bind"):
        file.write_text(text)
        assert len([*private_doors(file)]) == 1, text
    file.write_text("class A:\n    def f(self, other):\n        self._x = other._x\nsuper()._y")
    assert [*private_doors(file)] == []


def third_party(path):
    """Imports at the top of a file that are neither the standard library nor minicnn."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        yield from (name for name in names if name.split(".")[0] not in {*sys.stdlib_module_names, "minicnn"})


@pytest.mark.parametrize("path", python_files(), ids=str)
def test_only_numpy_is_imported_early(path):
    assert {name.split(".")[0] for name in third_party(path)} <= {"numpy"}


def test_importing_minicnn_imports_nothing_optional():
    optional = {
        "tqdm",
        "PIL",
        "matplotlib",
        "joblib",
        "pooch",
        "requests",
        "argparse",
        "sklearn",
        "jinja2",
        "markupsafe",
        "onnx",
        "onnxruntime",
        "h5py",
        "safetensors",
        "mpi4py",
    }
    code = f"import sys, minicnn; print({optional} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


# ---- the compiled floor ----

EXT = PACKAGE / "_ext"
CYTHON = sorted([*EXT.rglob("*.pyx"), *EXT.rglob("*.pxd")])
KERNELS = sorted(path.stem for path in EXT.glob("*.pyx"))
LEAVES = sorted(EXT.glob("leaves/*"))


def test_the_sources_are_here():
    assert {"conv", "dense", "dropout", "pool", "activation", "norm", "loss", "optim"} <= set(KERNELS)
    assert {"runtime", "jobs", "plan", "random"} <= {path.stem for path in EXT.glob("machinery/*.pyx")}
    assert {"leaf.h", "leaves.h", "tile.h"} <= {path.name for path in LEAVES}


def test_every_folder_holds_one_kind_of_thing():
    """Kernels call leaves; machinery and leaves know no kernel, and leaves no machinery."""
    assert {path.suffix for path in LEAVES} == {".h"}
    assert not [*EXT.glob("*.h")]
    for name in KERNELS:
        assert "use_leaves(chosen_leaves())" in (EXT / f"{name}.pyx").read_text(encoding="utf-8"), name
    for path in CYTHON:
        if path.parent != EXT:
            cimported = re.findall(r"\bminicnn\._ext\b(?!\.machinery)", path.read_text(encoding="utf-8"))
            assert not cimported, path
    for path in LEAVES:
        for header in re.findall(r'#include "(.*)"', path.read_text(encoding="utf-8")):
            assert (EXT / "leaves" / header).exists(), (path, header)


@pytest.mark.parametrize("path", CYTHON, ids=lambda path: path.name)
def test_compiled_modules_keep_to_themselves(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"^\s*(cimport|import|from)\s+numpy", text, re.M), "typed memoryviews suffice"
    imported = re.findall(r"^\s*(?:from\s+(minicnn[\w.]*)\s+c?import|c?import\s+(minicnn[\w.]*))", text, re.M)
    assert all((a or b).startswith("minicnn._ext") for a, b in imported), imported


@pytest.mark.parametrize("path", [path for path in CYTHON if path.suffix == ".pyx"], ids=lambda path: path.name)
def test_every_parallel_loop_asks_how_many_threads(path):
    text = path.read_text(encoding="utf-8")
    for call in re.findall(r"in prange\(([^\n]*)", text):
        assert "num_threads=" in call, call
    assert "prange" not in text or "team" in text


STRUCT = re.compile(r"^(?:cdef|ctypedef) struct (\w+):\n((?: {4}.*\n|\n)+)", re.M)


def miscounted(text):
    """What in a module could make a job's number of arrays wrong: a plan would take other numbers for addresses."""
    structs = {name: re.findall(r"^ {4}(\w+)[ *]+(\w+)", body, re.M) for name, body in STRUCT.findall(text)}
    for name, members in structs.items():
        kinds = [kind for kind, _ in members]
        if name.endswith("Arrays"):
            yield from (f"{name} holds a {kind}" for kind in kinds if kind != "Array")
        elif "Array" in kinds:
            yield f"{name} has an Array beside those at its head"
        elif any(kind.endswith("Arrays") for kind in kinds[1:]):
            yield f"{name} does not begin with its arrays"
    yield from re.findall(r"\bJob\([^)]|\.arrays = \d|\barrays=", text)
    for size in re.findall(r"\bnew_job\(<?[^,]+,[^,]+, ([^,]+),", text):
        if not re.fullmatch(r"sizeof\(\w+\.arrays\)", size):
            yield f"new_job with {size}"


@pytest.mark.parametrize("path", [path for path in CYTHON if path.stem != "jobs"], ids=lambda path: path.name)
def test_the_compiler_counts_the_arrays_of_a_job(path):
    assert list(miscounted(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("text", [
    "cdef struct PoolArrays:\n    Array x\n    Py_ssize_t n\n", "cdef struct Pool:\n    Array x\n    int n\n",
    "cdef struct Pool:\n    PoolArrays arrays\n    Array more\n",
    "cdef struct Pool:\n    int n\n    PoolArrays arrays\n",
    "job = Job(kernel, IMAGES, 2, n, 1, 0, 0, work)", "job = Job(kernel=kernel, arrays=2)", "job.arrays = 2",
    "job = new_job(<Kernel> run[real], IMAGES, 32, n, work)", "job = new_job(kernel, IMAGES, sizeof(Pool), n, work)",
])  # fmt: skip
def test_a_wrong_number_of_arrays_is_seen(text):
    assert list(miscounted(text)) != []


def test_a_right_number_of_arrays_is_none():
    text = "cdef struct PoolArrays:\n    Array x\n\n\ncdef struct Pool:\n    PoolArrays arrays\n    int n\n\n\n"
    assert list(miscounted(text + "job = new_job(<Kernel> f[real], IMAGES, sizeof(g.arrays), n, work)\n")) == []


@pytest.mark.parametrize("path", [path for path in CYTHON if path.suffix == ".pyx"], ids=lambda path: path.name)
def test_every_compiled_module_has_a_stub(path):
    assert path.with_suffix(".pyi").exists()


def test_a_leaf_has_one_name_on_all_floors():
    """In the list of leaves.h, where it is written, in the macro that chooses it by type, and for Cython."""
    text = "".join(path.read_text(encoding="utf-8") for path in LEAVES)
    declared = (EXT / "machinery" / "runtime.pxd").read_text(encoding="utf-8")
    listed = re.findall(r"^ {4}L\(\w+, (\w+), \(", text, re.M)
    assert len(listed) > 40
    for name in listed:
        assert re.search(rf"\bNAME\({name}\)\(|^CAST_FROM\(\w+, {name},", text, re.M), f"{name} is not written"
        assert re.search(rf"^    \w+(?: \w+)* {name}\(|\(\*{name}\)\(", declared, re.M), f"{name} is not in runtime.pxd"
        if name != "multiply_adds":  # of the table alone
            choice = rf"^#define {name}\((?:.|\\\n)*?(?:FOR\(\w+, {name}\)|LEAVES->f32->{name})\("
            assert re.search(choice, text, re.M), f"{name} has no macro"


def fused_entries(text):
    """Functions for Python that are written over a fused type."""
    fused = "|".join(["real", *re.findall(r"^ctypedef fused (\w+)", text, re.M)])
    for name, arguments in re.findall(r"^def (\w+)\(([^)]*)\)", text, re.M):
        if re.search(rf"\b(?:{fused})\b[\[ ]", arguments):
            yield name


@pytest.mark.parametrize("path", [path for path in CYTHON if path.suffix == ".pyx"], ids=lambda path: path.name)
def test_entries_choose_float_or_double_by_is_double(path):
    """The dispatcher that Cython makes otherwise costs 4 kB of the wheel in each module (docs/wheels.md)."""
    assert [*fused_entries(path.read_text(encoding="utf-8"))] == []


def test_an_entry_over_a_fused_type_is_seen():
    assert [*fused_entries("def f(a,\n      const real[::1] x not None):\n    pass\n")] == ["f"]
    assert [*fused_entries("ctypedef fused number:\n    int\n\ndef f(number x):\n    pass\n")] == ["f"]
    assert [*fused_entries("cdef int f(real x):\n    pass\n\ndef g(double[::1] real):\n    pass\n")] == []


def parameters_of(function):
    """The names of the parameters, and whether each may be left out."""
    given = function.args.posonlyargs + function.args.args
    return [(one.arg, place >= len(given) - len(function.args.defaults)) for place, one in enumerate(given)]


@pytest.mark.parametrize("path", sorted(EXT.rglob("*.pyi")), ids=lambda path: path.name)
def test_signatures_are_those_of_the_stubs(path):
    module = importlib.import_module(".".join(["minicnn", *path.relative_to(PACKAGE).with_suffix("").parts]))
    functions = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    for node in functions:
        found = inspect.signature(getattr(module, node.name)).parameters.values()
        assert [(one.name, one.default is not one.empty) for one in found] == parameters_of(node), node.name


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.name)
def test_leaves_know_no_threads_no_allocation_no_python(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\b(malloc|calloc|free|omp_\w+|Py\w*_\w+)\s*\(|#pragma omp", text)


# ---- same stem on every floor ----


# Of every file with a layer of the registry: whether its layers are compiled.
COMPUTING = {
    PACKAGE / "layers" / f"{cls.__module__.rpartition('.')[2]}.py": cls.compiled
    for cls in (getattr(layers, name) for name in layers.__all__)
}


SHARED = {  # layers that run on the kernels of others
    "alpha_dropout": "dropout",
    "depthwise": "conv",
    "drop_block": "dropout",
    "normalization": "norm",
    "resizing": "augment",
    "stochastic_depth": "dropout",
    "temperature": "reshape",
    "transpose": "conv",
}


@pytest.mark.parametrize("path", COMPUTING, ids=lambda path: path.stem)
def test_every_layer_file_has_a_kernel_and_a_test(path):
    assert (EXT / f"{SHARED.get(path.stem, path.stem)}.pyx").exists() or not COMPUTING[path]
    assert (TESTS / f"test_{path.stem}.py").exists()


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()
