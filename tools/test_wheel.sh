#!/bin/bash
# tools/test_wheel.sh WHEEL [INTERPRETER...]: the README's command and the tests against the installed wheel, where there
# is no source tree, no compiler, no network and no other package than those that minicnn and its tests need.
# Without interpreters: every CPython from 3.11 on that is found on PATH and in pyenv's folder.  Packages come with pip.
set -euo pipefail
wheel=$(realpath "$1")
shift
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
offline=""
if unshare --net true 2> /dev/null; then offline="unshare --net"; fi

found() {
    for version in 11 12 13 14 15; do
        for python in "python3.$version" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$version".*/bin/python; do
            if "$python" -c "" 2> /dev/null; then echo "$python" && break; fi
        done
    done
}

# Links to the machine's tools, in the folder $1, but for compilers and other Pythons.
tools_without_compilers() {
    mkdir "$1"
    for tool in /usr/sbin/* /usr/bin/* /sbin/* /bin/*; do
        case "${tool##*/}" in
            *cc | *gcc-* | *cc-[0-9]* | *[gc]++* | *clang* | c[89]9* | *cpp* | python* | pip*) ;;
            *) ln -sf "$tool" "$1" ;;
        esac
    done
}

try() {
    local python=$1 name there
    name=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
    there=$work/$name
    printf '\n== CPython %s (%s), %s ==\n' "$name" "$python" "${offline:-the network is there}"
    "$python" -m venv "$there"
    "$there/bin/python" -m pip download -q --only-binary :all: -d "$there/wheels" "$wheel[test]"
    mkdir "$there/empty" "$there/copy"
    cp -r "$root"/{tests,examples,benchmarks,docs,README.md,pyproject.toml} "$there/copy"  # pyproject.toml: pytest's settings
    tools_without_compilers "$there/tools"
    local alone="$offline env -i PATH=$there/bin:$there/tools HOME=$there/empty LANG=C.UTF-8"
    $alone python -m pip install -q --no-index --find-links "$there/wheels" "minicnn[test]"
    if (cd "$there/empty" && $alone sh -c 'command -v cc gcc clang') 2> /dev/null; then exit 1; fi
    (cd "$there/empty" && $alone minicnn train --out "$there/run" && $alone minicnn info)
    # The tests left out are about the sources: how they are built, who imports whom, what the texts quote.
    (cd "$there/copy" && $alone python -m pytest -q -p no:cacheprovider \
        --ignore-glob='*/test_'{build,architecture,docs,readme}.py)
}

if [ $# = 0 ]; then mapfile -t interpreters < <(found); else interpreters=("$@"); fi
for python in "${interpreters[@]}"; do try "$python"; done
