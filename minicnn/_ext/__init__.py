"""The compiled floor: kernels as Cython modules over the C leaves of ``leaf.h``.  Private; imports nothing of minicnn."""
