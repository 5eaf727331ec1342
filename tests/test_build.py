"""The native build: what setup.py does with compilers that are missing, or that cannot do OpenMP; a tree not built.

One tiny module stands for all: it is built by the very class that builds minicnn's.
"""

import os
import pathlib
import runpy
import shutil
import subprocess
import sys
import sysconfig
import types

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
        extension = setuptools.Extension("tiny", ["tiny.c"], include_dirs=[str(ROOT / "minicnn" / "_ext")])
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
        "import sys; sys.path.insert(0, sys.argv[1]); import determinism; from minicnn._ext import runtime;"
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
