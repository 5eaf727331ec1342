"""One seed, one result: at every number of threads, on AVX2 and AVX-512, in every process and in every order."""

import os
import subprocess
import sys

import determinism
import pytest
from running import use_threads

from minicnn import layers
from minicnn._ext.machinery import runtime


def elsewhere(**environment):
    """(instruction set, fingerprint in float32, in float64) from another process."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import determinism; from minicnn._ext.machinery import runtime;"
        "print(runtime.instruction_set(), *map(determinism.fingerprint, ['float32', 'float64']))"
    )
    command = [sys.executable, "-c", code, os.path.dirname(__file__)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_every_compiled_layer_stands_in_a_chain():
    used = {type(make()).__name__ for chain in determinism.CHAINS for make in chain}
    assert used >= {name for name in layers.__all__ if getattr(layers, name).compiled}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_number_of_threads_changes_no_bit(dtype):
    want = determinism.fingerprint(dtype)
    for threads in (1, 2, 3, 8):
        use_threads(threads)
        assert determinism.fingerprint(dtype) == want, f"{threads} threads"


def test_the_fingerprint_sees_one_bit(monkeypatch):
    want = determinism.fingerprint()

    class Flipping(layers.Dense):
        def forward(self, x, training=False):
            y = super().forward(x, training)
            if training and self.units == 37:
                y.view("u4")[...] ^= 1
            return y

    monkeypatch.setattr(layers, "Dense", Flipping)
    assert determinism.fingerprint() != want


def test_another_process_gives_the_same_bits():
    here = [runtime.instruction_set(), *map(determinism.fingerprint, ["float32", "float64"])]
    assert elsewhere(MINICNN_NUM_THREADS="2", PYTHONHASHSEED="1") == here
    assert here[1] != here[2]


def test_what_lies_in_memory_before_changes_no_bit():
    """glibc fills all that is allocated with a byte, which neither sanitizer looks after: what is read was written."""
    first, second = (elsewhere(MALLOC_PERTURB_=byte, PYTHONMALLOC="malloc") for byte in ("1", "254"))
    assert first == second == elsewhere()


def test_avx2_and_avx512_give_the_same_bits():
    wide, narrow = (elsewhere(MINICNN_SIMD=name) for name in ("avx512", "avx2"))
    if wide[0] != "avx512":
        pytest.skip("this machine has no AVX-512")
    assert narrow == ["avx2", *wide[1:]]
