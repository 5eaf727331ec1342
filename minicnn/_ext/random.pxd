# cython: language_level=3
"""The counter-based generator (philox.h) and what its counter words mean.

Philox4x32-10 with key = seed; counter = (block, low and high half), step, stream.  `stream` is the number of the layer
times 16 plus the purpose, so that no two users of one seed ever share a counter.
"""
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "philox.h" nogil:
    void philox(uint32_t *counter, uint64_t key)
