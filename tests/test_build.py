"""The native build: what setup.py does with compilers that are missing, or that cannot do OpenMP; a tree not built;
what tools/wheel.py finds wrong with a wheel.

One tiny module stands for all: it is built by the very class that builds minicnn's.
"""

import os
import pathlib
import platform
import runpy
import shutil
import subprocess
import sys
import sysconfig
import types
import zipfile

import pytest

import minicnn

setuptools = pytest.importorskip("setuptools", reason="setup.py needs setuptools")

ROOT = pathlib.Path(__file__).parents[1]
COMPILER = shutil.which((os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0])
needs_compiler = pytest.mark.skipif(COMPILER is None or os.name != "posix", reason="no C compiler with a posix driver")

TINY = """
#include <Python.h>
#include "threads.h"
#ifdef __FAST_MATH__
#define FAST 1
#else
#define FAST 0
#endif
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "tiny"};
PyMODINIT_FUNC PyInit_tiny(void) {
    PyObject *module = PyModule_Create(&definition);
    guard_forks();
    forked_with_pool = 0;
    PyModule_AddIntConstant(module, "openmp", MINICNN_OPENMP);
    PyModule_AddIntConstant(module, "fast", FAST);
    return module;
}
"""
# A compiler that does {what} when it meets -fopenmp, and is a good one otherwise.
SCRIPT = """#!/bin/sh
shared=no
for argument in "$@"; do [ "$argument" = -shared ] && shared=yes; done
for argument in "$@"; do
    shift
    if [ "$argument" = -fopenmp ]; then {what}; fi
    set -- "$@" "$argument"
done
exec {compiler} "$@"
"""
REJECTS = 'echo "error: unsupported option -fopenmp" >&2; exit 1'
IGNORES = "continue"
CANNOT_LINK = 'if [ $shared = yes ]; then echo "cannot find -lgomp" >&2; exit 1; fi'


@pytest.fixture
def build(monkeypatch, tmp_path):
    """A function that builds the tiny module as setup.py builds minicnn's; it returns the extension."""
    compiled = types.ModuleType("Cython.Build")
    compiled.cythonize = lambda extensions, **options: extensions
    monkeypatch.setitem(sys.modules, "Cython", types.ModuleType("Cython"))
    monkeypatch.setitem(sys.modules, "Cython.Build", compiled)
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: None)
    monkeypatch.chdir(tmp_path)
    for name in ("MINICNN_OPENMP", "CC", "CFLAGS", "LDFLAGS", "LDSHARED"):
        monkeypatch.delenv(name, raising=False)
    build_class = runpy.run_path(str(ROOT / "setup.py"))["Build"]
    pathlib.Path("tiny.c").write_text(TINY)

    def run():
        headers = [str(ROOT / "minicnn" / "_ext" / "machinery")]
        extension = setuptools.Extension("tiny", ["tiny.c"], include_dirs=headers)
        command = build_class(setuptools.Distribution({"name": "tiny", "ext_modules": [extension]}))
        command.build_lib = command.build_temp = str(tmp_path)
        command.ensure_finalized()
        command.run()
        return extension

    return run


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """A function that makes a compiler of our own the one that is found."""

    def make(what):
        script = tmp_path / "compiler"
        script.write_text(SCRIPT.format(what=what, compiler=COMPILER))
        script.chmod(0o755)
        monkeypatch.setenv("CC", str(script))

    return make


def tiny(expression):
    """The value of an expression after ``import tiny`` in another process."""
    code = f"import sys; sys.path.insert(0, '.'); import tiny; print({expression})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def flags(extension):
    return extension.extra_compile_args + extension.extra_link_args


# ---- the stable ABI, or not ----


@pytest.mark.parametrize("without_gil", [False, True])
def test_builds_without_gil_have_no_stable_abi(without_gil, build, monkeypatch):
    """They cannot load such modules, and refuse to compile them."""
    told, ask = {}, sysconfig.get_config_var
    answers = {"Py_GIL_DISABLED": without_gil}
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: answers[name] if name in answers else ask(name))
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: told.update(arguments))
    runpy.run_path(str(ROOT / "setup.py"))
    stable = not without_gil and sys.implementation.name == "cpython"
    assert told["ext_modules"]
    for module in told["ext_modules"]:
        assert module.py_limited_api is stable
        assert ("Py_LIMITED_API" in dict(module.define_macros)) is stable
    assert ("bdist_wheel" in told["options"]) is stable


# ---- OpenMP, or not ----


@needs_compiler
@pytest.mark.parametrize("what", [REJECTS, IGNORES, CANNOT_LINK], ids=["rejects", "ignores", "cannot link"])
def test_without_openmp_the_build_goes_on_and_says_so(what, build, compiler, capfd):
    compiler(what)
    extension = build()
    assert (
        "*** minicnn: this compiler cannot build OpenMP programs: the kernels use one thread" in capfd.readouterr().err
    )
    assert "-fopenmp" not in flags(extension)
    assert tiny("tiny.openmp") == "0"


@needs_compiler
def test_openmp_is_used_where_it_works(build, monkeypatch, capfd):
    program = pathlib.Path("probe.c")
    program.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
    if subprocess.run([COMPILER, "-fopenmp", program, "-o", "probe"], capture_output=True).returncode:
        pytest.skip("this compiler has no OpenMP")
    for wish in (None, "auto", "1"):
        if wish:
            monkeypatch.setenv("MINICNN_OPENMP", wish)
        extension = build()
        assert extension.extra_compile_args.count("-fopenmp") == 1
        assert "-fopenmp" in extension.extra_link_args
        assert "***" not in capfd.readouterr().err
    assert tiny("tiny.openmp") == "1"


@needs_compiler
def test_openmp_can_be_switched_off(build, monkeypatch, capfd):
    monkeypatch.setenv("MINICNN_OPENMP", "0")
    extension = build()
    assert "*** minicnn: built without OpenMP, as MINICNN_OPENMP=0 asks" in capfd.readouterr().err
    assert "-fopenmp" not in flags(extension)
    assert tiny("tiny.openmp") == "0"


@needs_compiler
def test_openmp_can_be_demanded(build, compiler, monkeypatch):
    monkeypatch.setenv("MINICNN_OPENMP", "1")
    compiler(REJECTS)
    with pytest.raises(SystemExit, match=r"^MINICNN_OPENMP=1, but this compiler cannot build OpenMP programs"):
        build()


@needs_compiler
@pytest.mark.parametrize("wish", ["yes", "", "2"])
def test_wishes_that_do_not_exist(wish, build, monkeypatch):
    monkeypatch.setenv("MINICNN_OPENMP", wish)
    with pytest.raises(SystemExit, match=f"^MINICNN_OPENMP must be auto, 0 or 1; got '{wish}'$"):
        build()


# ---- compilers and their flags ----


@pytest.mark.skipif(os.name != "posix", reason="CC is not read on Windows")
def test_without_a_compiler_the_build_says_what_to_install(build, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    with pytest.raises(SystemExit) as caught:
        build()
    text = str(caught.value)
    assert "minicnn needs a C compiler to build its kernels, and 'no-such-compiler' could not be run." in text
    assert "apt install gcc python3-dev" in text
    assert "xcode-select --install" in text
    assert "Visual Studio Build Tools" in text


@needs_compiler
def test_no_fast_mathematics_whatever_the_environment_says(build, monkeypatch):
    """It would switch subnormal numbers off in every process that imports minicnn."""
    for name in ("CFLAGS", "LDFLAGS"):
        monkeypatch.setenv(name, "-ffast-math")
    given = flags(build())
    assert not {"-ffast-math", "-Ofast", "-march=native"} & set(given)
    assert {"-ffp-contract=off", "-fno-math-errno", "-Os"} <= set(given)
    assert tiny("tiny.fast") == "0"
    assert tiny("sys.float_info.min / 2 > 0") == "True"


@needs_compiler
def test_the_interpreters_folder_is_not_written_into_modules(build, monkeypatch):
    monkeypatch.setenv("LDSHARED", f"{COMPILER} -shared -Wl,-rpath,/nowhere/lib")
    build()
    assert tiny("tiny.openmp") in "01"
    assert b"/nowhere/lib" not in next(pathlib.Path().glob("tiny.*.so")).read_bytes()


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="the symbols of glibc")
def test_symbols_that_glibc_renewed_are_asked_for_in_their_old_version(build):
    kept = '__attribute__((visibility("default"))) double renewed(double x) { return exp(x) + log(x) + pow(x, x); }'
    pathlib.Path("tiny.c").write_text(f"{TINY}\n#include <math.h>\n{kept}\n")
    build()
    command = ["nm", "-D", next(pathlib.Path().glob("tiny.*.so"))]
    symbols = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    old = "GLIBC_2.2.5" if platform.machine() == "x86_64" else "GLIBC_2.17"
    assert {f"exp@{old}", f"log@{old}", f"pow@{old}"} <= symbols
    assert not {symbol for symbol in symbols if symbol.endswith(("@GLIBC_2.29", "@GLIBC_2.34"))}


# ---- wheels ----


@pytest.fixture
def wheel(tmp_path):
    """A function that packs files, {name: content}, as a wheel of this name; and tools/wheel.py."""
    tools = runpy.run_path(str(ROOT / "tools" / "wheel.py"))

    def make(files, name="minicnn-1.0-cp311-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for inner, content in files.items():
                archive.writestr(inner, content)
        return list(tools["faults"](tmp_path / name))

    return make


def test_a_wheel_without_fault(wheel):
    assert wheel({"minicnn/__init__.py": "", "minicnn.libs/libgomp-0.so.1": ""}) == []


@pytest.mark.parametrize(("files", "fault"), [
    ({"minicnn/_ext/conv.c": ""}, "conv.c is of no use to users"),
    ({"minicnn/_ext/leaf.h": ""}, "leaf.h is of no use to users"),
    ({"tests/test_conv.py": ""}, "tests/test_conv.py is of no use to users"),
    ({"minicnn/big.npz": bytes(3 << 20)}, "bytes are more than"),
])  # fmt: skip
def test_files_that_do_not_belong_into_a_wheel(files, fault, wheel):
    (found,) = wheel(files)
    assert fault in found


@pytest.mark.parametrize("tag", ["cp311-cp311-manylinux_2_17_x86_64", "cp311-abi3-linux_x86_64", "py3-none-any"])
def test_names_that_are_not_for_everybody(tag, wheel):
    (found,) = wheel({"minicnn/__init__.py": ""}, f"minicnn-1.0-{tag}.whl")
    assert "is not that of a cp311-abi3 manylinux wheel" in found


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="about ELF files")
def test_modules_that_are_not_for_everybody(wheel, tmp_path):
    source, module = tmp_path / "odd.c", tmp_path / "odd.so"
    source.write_text("#include <math.h>\ndouble PyInit_odd(double x) { return exp(x); } int other;")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-Wl,-rpath,/home/me", source, "-o", module], check=True)
    found = " ".join(wheel({"minicnn/_ext/odd.cpython-311-x86_64-linux-gnu.so": module.read_bytes()}))
    for fault in (
        "is not for the stable ABI", "exports ['PyInit_odd', 'other']", "is not stripped", "libraries in /home/me",
        "uses the mathematics library without saying so",
    ):  # fmt: skip
        assert fault in found


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="about ELF files")
@pytest.mark.parametrize(("folder", "right"), [("_ext", "../.."), ("_ext/machinery", "../../..")])
def test_modules_find_the_libraries_of_the_wheel(folder, right, wheel, tmp_path):
    source, module = tmp_path / "odd.c", tmp_path / "odd.so"
    source.write_text("int PyInit_odd(void) { return 0; }")
    for way in ("../..", "../../.."):
        link = ["-shared", "-fPIC", "-s", f"-Wl,-rpath,$ORIGIN/{way}/minicnn.libs"]
        subprocess.run([COMPILER, *link, source, "-o", module], check=True)
        found = wheel({f"minicnn/{folder}/odd.abi3.so": module.read_bytes()})
        assert (found == []) is (way == right)


@pytest.mark.long
def test_the_wheel_of_this_tree():
    """The one that ``make wheel`` left in dist/: without it there is nothing to look through."""
    wheels = list((ROOT / "dist").glob("*.whl"))
    if not wheels:
        pytest.skip("there is no wheel: `make wheel` makes one")
    faults = runpy.run_path(str(ROOT / "tools" / "wheel.py"))["faults"]
    assert [fault for wheel in wheels for fault in faults(wheel)] == []


# ---- trees ----


def copy_of_the_sources(folder, *more):
    built = shutil.ignore_patterns("*.so", "*.pyd", "*.c", "__pycache__")
    shutil.copytree(ROOT / "minicnn", folder / "minicnn", ignore=built)
    for name in more:
        shutil.copy(ROOT / name, folder)
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_a_tree_that_is_not_built_says_how_to_build_it(tmp_path):
    environment = copy_of_the_sources(tmp_path)
    for statement in ("import minicnn", "from minicnn import layers", "import minicnn.model"):
        command = [sys.executable, "-c", statement]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith(
            "ImportError: minicnn's compiled modules are missing: this is a source tree that has not"
        )
        assert "`pip install -e .`" in last
        assert "During handling" not in done.stderr
    command = [sys.executable, "-m", "minicnn", "info"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert "`pip install -e .`" in done.stderr


@pytest.mark.long
@needs_compiler
@pytest.mark.parametrize("option", ["MINICNN_OPENMP=0", "MINICNN_NO_VECTOR=1"])
def test_a_whole_build(option, tmp_path):
    """Minutes.  Without OpenMP the bits are the same; without vectors it trains."""
    pytest.importorskip("Cython")
    environment = copy_of_the_sources(tmp_path, "setup.py", "pyproject.toml", "README.md", "LICENSE")
    name, value = option.split("=")
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=tmp_path, env=environment | {name: value}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import determinism; from minicnn._ext.machinery import runtime;"
        "print(runtime.__file__, runtime.openmp(), runtime.instruction_set(), determinism.fingerprint())"
    )
    command, empty = [sys.executable, "-c", code, str(ROOT / "tests")], tmp_path / "empty"
    empty.mkdir()
    fresh, ours = (
        subprocess.run(command, env=env, cwd=empty, capture_output=True, text=True, check=True).stdout.split()
        for env in (environment, os.environ | {"PYTHONPATH": str(pathlib.Path(minicnn.__file__).parents[1])})
    )
    assert fresh[0].startswith(str(tmp_path))
    assert not ours[0].startswith(str(tmp_path))
    if name == "MINICNN_OPENMP":
        assert fresh[1:] == ["False", *ours[2:]]
    else:
        assert fresh[2] == "base"
