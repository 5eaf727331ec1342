#!/bin/bash
# tools/sanitize.sh FOLDER [quick]: builds a copy of the tree with gcc's address and undefined-behaviour sanitizers in
# FOLDER and runs the tests of the compiled floor with it; quick: the kernels and the plan, about 6 minutes on two cores.
# PYTHON names an interpreter with what the tests need.  Nothing is suppressed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=$(realpath -s "${PYTHON:-$root/.venv/bin/python}")
mkdir -p "$1"
folder=$(realpath "$1")

tar -C "$root" -c --exclude='*.so' --exclude='*.c' --exclude=__pycache__ minicnn tests examples setup.py pyproject.toml README.md LICENSE |
    tar -C "$folder" -x
cd "$folder"
MINICNN_SANITIZE=1 "$python" setup.py -q build_ext --inplace

# The interpreter itself is not instrumented: the sanitizers' libraries must come first.  Leaks: it has its own, thousands.
# PYTHONMALLOC: Python's pools would hide what is beside an array.  Memory errors are tested: they must not end the process.
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONMALLOC=malloc
export UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH=$folder
"$python" -c 'from minicnn._ext import runtime; import sys; sys.exit(not runtime.__file__.startswith(sys.argv[1]))' "$folder"

kernels="conv winograd dense dropout pool activation norm reshape losses optimizers batch random plan"
if [ "${2:-}" = quick ]; then
    sets=avx2 others=runtime
else
    sets="base avx2 avx512" others="runtime model model_arrays model_weights training layer_contract determinism saving"
fi
for set in $sets; do
    echo "== $set =="
    MINICNN_SIMD=$set "$python" -m pytest -q -x -p no:cacheprovider $(printf 'tests/test_%s.py ' $kernels)
done
"$python" -m pytest -q -x -p no:cacheprovider $(printf 'tests/test_%s.py ' $others)
