"""The compiled floor: Cython kernels over the C leaves of ``leaf.h``.  Private; imports nothing of minicnn."""
