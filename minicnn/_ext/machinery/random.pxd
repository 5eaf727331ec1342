# cython: language_level=3
"""The counter-based generator (philox.h) and what its counter words mean.

Philox4x32-10 with key = seed; counter = (block, low and high half), step, stream.  `stream` is the number of the layer
times 16 plus the purpose, so that no two users of one seed ever share a counter.
"""
from libc.stdint cimport uint32_t, uint64_t

from minicnn._ext.machinery.runtime cimport keep_bits

cdef extern from "philox.h" nogil:
    void philox(uint32_t *counter, uint64_t key)

cdef enum:
    GROUP = 128      # decisions that are drawn together (philox.h)
    ALWAYS = 65536   # the threshold of rate 1: above every number of 16 bits
    BESIDE = 8       # added to the purpose of a stream: numbers of elements, where those of the stream are of images


# What noise is a function of: `draw` of a lot in layers/noise.py, an array of as many numbers.
cdef struct Draw:
    uint64_t threshold, seed, step, stream
    uint64_t first   # index of the batch's first sample
    uint64_t period  # samples, after which a batch begins again, a step later


cdef inline bint is_draw(const uint64_t *numbers, Py_ssize_t count) noexcept nogil:
    return count == <Py_ssize_t> (sizeof(Draw) // sizeof(uint64_t)) and (<const Draw *> numbers).period > 0


cdef inline uint64_t index_of(const Draw *draw, Py_ssize_t sample, Py_ssize_t size) noexcept nogil:
    """The index of a sample's first decision, of `size` each."""
    return (draw.first + <uint64_t> sample % draw.period) * <uint64_t> size


cdef inline uint32_t step_of(const Draw *draw, Py_ssize_t sample) noexcept nogil:
    return <uint32_t> (draw.step + <uint64_t> sample // draw.period)


cdef inline void draw_bits(uint32_t *keep, Py_ssize_t element, Py_ssize_t size, const Draw *draw,
                           Py_ssize_t sample) noexcept nogil:
    """The groups that hold the decisions element .. element + size - 1; the first is bit element % GROUP."""
    keep_bits(keep, element // GROUP, (element + size - 1) // GROUP - element // GROUP + 1,
              <uint32_t> draw.threshold, draw.seed, step_of(draw, sample), <uint32_t> draw.stream)


cdef inline Py_ssize_t words_for(Py_ssize_t size) noexcept nogil:
    """Of the groups that `size` decisions may touch, wherever they begin."""
    return ((size + GROUP - 2) // GROUP + 1) * (GROUP // 32)
