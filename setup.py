"""The native build, and nothing else: everything that can be said in pyproject.toml stands there.

Environment: MINICNN_OPENMP=auto (default: use OpenMP if it works) | 1 (fail without it) | 0 (one thread);
MINICNN_NO_VECTOR=1 builds the plain C leaves that compilers without vector extensions get;
MINICNN_SANITIZE=1 builds with the address and undefined-behaviour sanitizers, for `make sanitize`.
"""

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, ExecError, LinkError

EXT = Path("minicnn/_ext")
HEADERS = [EXT / "leaves", EXT / "machinery"]
PROBE = """
#ifndef _OPENMP
#error this compiler ignored the OpenMP flag
#endif
#include <omp.h>
int minicnn_probe(void) { return omp_get_max_threads(); }
"""
NO_COMPILER = """
minicnn needs a C compiler to build its kernels, and {compiler!r} could not be run.
  Debian, Ubuntu:  apt install gcc python3-dev
  Fedora, RHEL:    dnf install gcc python3-devel
  macOS:           xcode-select --install
  Windows:         the "Desktop development with C++" part of Visual Studio Build Tools
"""


def notice(text):
    print(f"\n*** minicnn: {text} ***\n", file=sys.stderr)


# One wheel for every CPython from 3.11 on: the stable ABI.  The builds without GIL have none yet.
STABLE_ABI = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
# The leaves, in `runtime`, are for speed; the others call them and are for size, but where they move memory themselves.
# -O3 would make more copies of the leaves' loops: 40 kB of the wheel, by which one of 120 kernels gains (measured).
VECTORISED = ["-O2", "-ftree-vectorize", "-fvect-cost-model=dynamic"]
LEVEL = {"runtime": VECTORISED, "reshape": ["-O2"], "compose": ["-O2"], "winograd": ["-O2"]}
# What -Os leaves on, and yet makes code longer or harder to compress (measured: 2 to 3 %).
GLUE = ["-Os", "-fno-schedule-insns2", "-fno-gcse", "-fno-tree-dominator-opts", "-fno-jump-tables"]
# With -Os gcc copies and clears by an instruction of x86 that takes longer to begin than a row of an image takes the C
# library (measured: padding images of 8x8 pixels was a seventh of a prediction).
BY_LIBRARY = "-mstringop-strategy=libcall"
SMALL = ["-ffunction-sections", "-fdata-sections", "-fno-asynchronous-unwind-tables", "-fno-plt"]
TIGHT = ["-Wl,--gc-sections", "-Wl,--strip-all", "-Wl,--build-id=none", "-Wl,-z,noseparate-code"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]


class Build(build_ext):
    """Finds the compiler, its flags and whether OpenMP works, then builds all modules in parallel."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        self.require_compiler()
        msvc = self.compiler.compiler_type == "msvc"
        compile_args, link_args = self.openmp_flags(msvc)
        more = self.msvc_flags() if msvc else self.gcc_flags()
        for extension in self.extensions:
            level = [] if msvc else LEVEL.get(extension.name.split(".")[-1], GLUE)
            extension.extra_compile_args = [*level, *compile_args, *more[0]]
            extension.extra_link_args = [*link_args, *more[1]]
            extension.libraries = [] if msvc else ["m"]
        super().build_extensions()

    def msvc_flags(self):
        return ["/O2", "/std:c11", "/fp:precise"], []

    def gcc_flags(self):
        """(compiler's, linker's) for gcc and clang."""
        # No -ffast-math, ever (the last flag undoes one from CFLAGS): at link time it would switch subnormal numbers
        # off in the whole process.  Contraction off: the leaves say where a multiply-add is fused.
        safe = ["-fno-fast-math"]
        compile_args = [
            "-g0",
            *safe,
            "-fno-math-errno",
            "-fno-trapping-math",
            "-ffp-contract=off",
            "-fvisibility=hidden",
            "-Wno-unused-function",  # what unpacks strings, in every module
        ]
        if hasattr(self.compiler, "linker_so"):  # where this interpreter lies is of no use on other machines
            self.compiler.linker_so = [word for word in self.compiler.linker_so if not word.startswith("-Wl,-rpath")]
        if os.environ.get("MINICNN_SANITIZE") == "1":  # -fwrapv, which Python sets, would hide overflows
            return [*compile_args, "-O1", "-g1", "-fno-wrapv", "-fstrict-overflow", *SANITIZERS], [*safe, *SANITIZERS]
        if sys.platform != "linux":
            return compile_args, safe
        compile_args += [*SMALL, *([BY_LIBRARY] if self.builds("int minicnn_probe;", [BY_LIBRARY], []) else [])]
        if "linux-gnu" in (sysconfig.get_config_var("HOST_GNU_TYPE") or ""):
            compile_args += ["-include", "glibc.h"]
        return compile_args, [*safe, *TIGHT]

    def copy_extensions_to_source(self):
        super().copy_extensions_to_source()
        for extension in self.extensions:  # Python would prefer one that an older build left there to the .abi3.so
            old = Path(extension.name.replace(".", "/") + sysconfig.get_config_var("EXT_SUFFIX"))
            if extension.py_limited_api:
                old.unlink(missing_ok=True)

    def require_compiler(self):
        compiler = getattr(self.compiler, "compiler", None)  # MSVC's class finds its own and explains itself
        if compiler and shutil.which(compiler[0]) is None:
            raise SystemExit(NO_COMPILER.format(compiler=compiler[0]))

    def openmp_flags(self, msvc):
        wish = os.environ.get("MINICNN_OPENMP", "auto")
        if wish not in ("auto", "0", "1"):
            raise SystemExit(f"MINICNN_OPENMP must be auto, 0 or 1; got {wish!r}")
        if wish == "0":
            notice("built without OpenMP, as MINICNN_OPENMP=0 asks: the kernels use one thread")
            return [], []
        if msvc:
            flags = ["/openmp"], []
        elif sys.platform == "darwin":
            flags = ["-Xpreprocessor", "-fopenmp"], ["-lomp"]
        else:
            flags = ["-fopenmp"], ["-fopenmp"]
        if self.builds(PROBE, *flags):
            return flags
        if wish == "1":
            raise SystemExit("MINICNN_OPENMP=1, but this compiler cannot build OpenMP programs (gcc can)")
        notice(
            "this compiler cannot build OpenMP programs: the kernels use one thread (MINICNN_OPENMP=0 says so at once)"
        )
        return [], []

    def builds(self, source, compile_args, link_args):
        """Compiles and links a small shared library; does not run it, so that cross-compiling works."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "probe.c")
            file.write_text(source)
            try:
                objects = self.compiler.compile([str(file)], output_dir=folder, extra_postargs=compile_args)
                self.compiler.link_shared_object(objects, str(Path(folder, "probe.so")), extra_postargs=link_args)
            except (CompileError, LinkError, ExecError):
                return False
        return True


def extensions():
    # Cython would pack its strings so that the wheel's own, better, packing finds nothing left to do.
    macros = [("CYTHON_COMPRESS_STRINGS", "0")]
    if STABLE_ABI:
        macros.append(("Py_LIMITED_API", "0x030B0000"))
    if os.environ.get("MINICNN_NO_VECTOR") == "1":
        macros.append(("MINICNN_NO_VECTOR", None))
    common = {"define_macros": macros, "py_limited_api": STABLE_ABI}
    common["include_dirs"] = [str(folder) for folder in HEADERS]
    common["depends"] = [str(path) for folder in HEADERS for path in sorted(folder.glob("*.h"))]
    sources = [*sorted(EXT.rglob("*.pyx")), Path(SHARED.replace(".", "/") + ".c")]
    return [Extension(".".join(path.with_suffix("").parts), [str(path)], **common) for path in sources]


SHARED = "minicnn._ext.machinery._cyutility"  # Cython's memoryviews, once instead of in every module (generated)
UNUSED = ["CythonFunction", "PythonClasses"]  # not in it: a lambda or a class in a module, which need them, cannot be
DIRECTIVES = {
    "freethreading_compatible": True,
    "autotestdict": False,
    # Built-in functions in place of Cython's own kind, which every module would have to bring along.  Their
    # signatures, for help() and inspect, stand in their docstrings, as those of Python's own modules do.
    "binding": False,
    "embedsignature": True,
    "embedsignature.format": "clinic",
}

setup(
    ext_modules=cythonize(
        extensions(),
        compiler_directives=DIRECTIVES,
        shared_utility_qualified_name=SHARED,
        shared_utility_features_disabled=UNUSED,
    ),
    cmdclass={"build_ext": Build},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
)
