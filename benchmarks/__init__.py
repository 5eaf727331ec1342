"""Benchmarks: ``python -m benchmarks NAME``.  Each checks its results against a reference before it times anything."""
