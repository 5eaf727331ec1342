# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Batches: samples gathered from a data set, in any order, and cast to the working type.

Design: the items are the samples of the batch.  Every number is looked at once, while it is cast: a sample that holds
NaN, infinity or a number too large for the working type is found without a pass of its own.
"""
from cython.parallel cimport prange
from libc.stdint cimport int64_t, uint8_t

from minicnn._ext.machinery.runtime cimport (chosen_leaves, fetch_ahead, from_f32, from_f64, from_i64, from_u8,
                                             is_double, real, require, team, use_leaves)

use_leaves(chosen_leaves())

# Samples lie anywhere in memory.  The hardware cannot guess where the next one begins, but soon follows what is read.
cdef enum:
    AHEAD = 2         # samples
    BEGINNING = 1024  # bytes of a sample


ctypedef fused number:
    uint8_t
    int64_t
    float
    double


def gather(source not None, const int64_t[::1] order not None, out not None):
    """out[i] = source[order[i]] for source (N, size) and out (n, size).

    Returns -1, or the smallest i of which a number is not finite in the type of ``out``.  ValueError if an index is
    not in [0, N): then nothing has been written.
    """
    if is_double(out):
        return gather_in[double](source, order, out)
    return gather_in[float](source, order, out)


cdef Py_ssize_t gather_in(source, const int64_t[::1] order, real[:, ::1] out) except -2:
    view = memoryview(source)
    if view.itemsize == 1:
        return gather_from[uint8_t, real](source, order, out)
    if view.itemsize == 4:
        return gather_from[float, real](source, order, out)
    if view.format == "d":
        return gather_from[double, real](source, order, out)
    return gather_from[int64_t, real](source, order, out)


cdef Py_ssize_t gather_from(const number[:, ::1] source, const int64_t[::1] order, real[:, ::1] out) except -2:
    cdef Py_ssize_t i, b, n = order.shape[0], size = source.shape[1]
    cdef int threads, bad = 0
    require(out.shape[0] == n and out.shape[1] == size, "out must have the rows of order and the columns of source")
    check_order(order, source.shape[0])
    threads = team(n, n * size * <double> (sizeof(number) + sizeof(real)) / 16)
    if threads == 1:
        with nogil:
            bad = not gather_rows(source, order, out, 0, n)
    else:
        for b in prange(threads, nogil=True, num_threads=threads, schedule="static"):
            bad |= not gather_rows(source, order, out, n * b // threads, n * (b + 1) // threads)
    if bad:
        for i in range(n):
            if not gather_rows(source, order, out, i, i + 1):
                return i
    return -1


def gather_labels(const int64_t[::1] source not None, const int64_t[::1] order not None, int64_t[::1] out not None):
    """out[i] = source[order[i]]; ValueError as for gather."""
    cdef Py_ssize_t i
    require(out.shape[0] == order.shape[0], "out must have the length of order")
    check_order(order, source.shape[0])
    for i in range(order.shape[0]):
        out[i] = source[order[i]]


cdef int check_order(const int64_t[::1] order, Py_ssize_t count) except -1:
    cdef Py_ssize_t i
    for i in range(order.shape[0]):
        if not 0 <= order[i] < count:
            raise ValueError(f"kernel: order must hold numbers from 0 to {count - 1}; got {order[i]} at index {i}")
    return 0


cdef bint gather_rows(const number[:, ::1] source, const int64_t[::1] order, real[:, ::1] out, Py_ssize_t first,
                      Py_ssize_t last) noexcept nogil:
    """Whether all numbers of these samples are finite in the type of `out`."""
    cdef Py_ssize_t i, size = source.shape[1]
    cdef bint finite = True
    cdef const number *x
    cdef real *y
    for i in range(first, last):
        x, y = &source[order[i], 0], &out[i, 0]
        if i + AHEAD < last:
            fetch_ahead(&source[order[i + AHEAD], 0], min(<Py_ssize_t> BEGINNING, size * <Py_ssize_t> sizeof(number)))
        if number is uint8_t:
            finite &= from_u8(x, y, size)
        elif number is int64_t:
            finite &= from_i64(x, y, size)
        elif number is float:
            finite &= from_f32(x, y, size)
        else:
            finite &= from_f64(x, y, size)
    return finite
