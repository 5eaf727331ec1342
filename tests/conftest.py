"""Settings and fixtures of the whole suite."""

import os
import signal

import hypothesis
import pytest

from minicnn._ext.machinery import runtime

# The same examples in every run: a failure on one machine is a failure on all.  `--hypothesis-profile=long` searches.
COMMON = {"deadline": None, "database": None, "print_blob": True}
hypothesis.settings.register_profile("default", max_examples=100, derandomize=True, **COMMON)
hypothesis.settings.register_profile("long", max_examples=1000, **COMMON)
hypothesis.settings.load_profile("default")

os.environ["MINICNN_OFFLINE"] = "1"  # tests that download take it back: test_downloads.py, from a server of their own

# A shell without job control starts what it puts into the background deaf to Ctrl-C, and all children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _threads_as_before():
    """No test leaves changed how many threads there are and when they are used."""
    before = runtime.get_num_threads()
    yield
    runtime.set_num_threads(before)
    runtime.set_grain(runtime.DEFAULT_GRAIN)
    runtime.set_yielding(True)
