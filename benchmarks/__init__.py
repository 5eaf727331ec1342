"""Benchmarks: ``python -m benchmarks [NAME ...]``.  Every result is checked against a reference before it is timed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))  # reference.py judges here too
