#!/bin/bash
# tools/sanitize.sh FOLDER [quick]: builds a copy of the tree in FOLDER, which must not be there yet, with gcc's address and
# undefined-behaviour sanitizers, runs the tests in it and fails if a test does or anything was reported.
# quick: the kernels on one instruction set, bad input and damaged files.  All: everything, the kernels on every set.
# PYTHON names an interpreter with what the tests need; CC another gcc.  tools/sanitize.txt lists the tests left out.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=$(realpath -s "${PYTHON:-$root/.venv/bin/python}")
export CC=${CC:-gcc}

mkdir "$1" "$1/bin" "$1/reports" "$1/tree"
folder=$(realpath "$1")
if ! "$CC" -shared -fPIC -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined \
    "$root/tools/sanitize.c" -o "$folder/sanitize.so"; then
    echo "tools/sanitize.sh: needs a gcc with libasan and libubsan; got CC=$CC. Fedora: dnf install libasan libubsan" >&2
    exit 1
fi
chmod 1777 "$folder/reports" # tests give up their rights, and must be able to complain all the same
tar -C "$root" -c --exclude-vcs --exclude=./.make --exclude=./.venv --exclude=./build --exclude=./dist \
    --exclude='*.so' --exclude='./minicnn/_ext/*.c' --exclude=__pycache__ . | tar -C "$folder/tree" -x
cd "$folder/tree"
MINICNN_SANITIZE=1 "$python" -m pip wheel -q --no-deps -w "$folder" .
"$python" -m zipfile -e "$folder"/*.whl . # the modules, beside their sources

# pgrep, which joblib ends its workers with, hangs when it is loaded with the address sanitizer, whatever its options.
if pgrep=$(command -v pgrep); then
    printf '#!/bin/sh\nLD_PRELOAD= exec %s "$@"\n' "$pgrep" > "$folder/bin/pgrep"
    chmod +x "$folder/bin/pgrep"
fi
export PATH=$folder/bin:$PATH

# The interpreter is not instrumented, so the address sanitizer must be loaded first, and before it can see C++'s
# exceptions the library that throws them.  Reports go to files: a test that expects a process to fail cannot swallow them.
# detect_leaks=0: the interpreter has thousands of its own.  allocator_may_return_null: memory that cannot be had is tested.
# PYTHONMALLOC: Python's pools would hide what is beside a small object.
export LD_PRELOAD="$("$CC" -print-file-name=libasan.so) $("$CC" -print-file-name=libstdc++.so.6) $folder/sanitize.so"
export SANITIZER_REPORTS=$folder/reports/report PYTHONMALLOC=malloc PYTHONPATH=$PWD
export ASAN_OPTIONS=log_path=$SANITIZER_REPORTS:handle_abort=1:detect_leaks=0:allocator_may_return_null=1
export UBSAN_OPTIONS=log_path=$SANITIZER_REPORTS:print_stacktrace=1
"$python" -c 'from minicnn._ext.machinery import runtime; import sys; sys.exit(not runtime.__file__.startswith(sys.argv[1]))' "$PWD"
for fault in read_beyond overflow; do
    call="import ctypes; ctypes.CDLL(None).$fault"
    "$python" -c "$call(0)"
    if "$python" -c "$call(1)" 2> "$folder/stderr" || ! grep -q "$fault" "$folder"/reports/*; then
        echo "tools/sanitize.sh: a fault made on purpose, $fault in tools/sanitize.c, was not reported" >&2
        exit 1
    fi
    rm "$folder"/reports/*
done

left_out=$(sed -n 's/^\(tests[^ ]*\) .*/\1/p' tools/sanitize.txt)
# Test files, each in a process of its own, as many at once as there are CPUs.  No faulthandler: ASan says more.
run() { # SET FILE...
    echo "== instruction set: $1 =="
    export MINICNN_SIMD=$1
    printf 'tests/test_%s.py\n' "${@:2}" | grep -vxF "$left_out" | xargs -P "$(nproc)" -I{} \
        "$python" -m pytest -q -p no:cacheprovider -p no:faulthandler $(printf -- '--deselect=%s ' $left_out) {} || failed=yes
}
kernels="activation augment batch compose constraints conv dense depthwise dropconnect dropout gaussian losses montecarlo noise norm
    optimizers plan pool random regularizers reshape transpose winograd"
failed=
if [ "${2:-}" = quick ]; then
    run avx2 $kernels bad_input hostile_files runtime
else
    for set in base avx2; do run $set $kernels; done
    run avx512 $(ls tests | sed -n 's/^test_\(.*\)\.py$/\1/p')
fi

# What ASan says of memory that cannot be had is no error.
reports=$(grep -hv 'WARNING: AddressSanitizer failed to allocate' "$folder"/reports/* || true)
if [ "$reports" ]; then
    printf '%s\n\ntools/sanitize.sh: FAILED, see the reports above\n' "$reports" >&2
    exit 1
fi
if [ "$failed" ]; then
    echo "tools/sanitize.sh: FAILED: nothing was reported, but tests failed, see above" >&2
    exit 1
fi
echo "tools/sanitize.sh: nothing reported"
