# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of the regularisers: l1 sum |w| + l2 sum w^2, and its gradient l1 sign(w) + 2 l2 w.

Design: for parameters the items are pieces of the flat vector, as in optim.pyx; for the outputs of a layer they are
samples, and each sample has a penalty of its own, so that a plan may take block after block of them.  Sums are made in
double, in the leaves' lanes, and those of pieces are added in order, of samples in the tree of jobs.pxd: no bit depends
on the threads.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from minicnn._ext.machinery.jobs cimport (IMAGES, Array, Job, Kernel, cells_for, fixed, item, new_job, part_start,
                                          parts_for, rows_at, share_out, submit, sum_of)
from minicnn._ext.machinery.runtime cimport (add_slope, chosen_leaves, free_scratch, is_double, real, require,
                                             sum_absolute, sum_squares, take_scratch, team, use_leaves)

use_leaves(chosen_leaves())

BLOCK = 16384  # elements of a piece of the flat vector

cdef inline double penalty(const real *w, Py_ssize_t n, double l1, double l2) noexcept nogil:
    return (l1 * sum_absolute(w, n) if l1 != 0 else 0) + (l2 * sum_squares(w, n) if l2 != 0 else 0)


# ---- parameters ----

cdef struct Pieces:
    const void *w            # real; so is the next
    void *gradient
    double *found            # of each piece
    const int64_t *pieces    # (count, 2)
    const double *rates      # (count, 2)


cdef int describe(Pieces *a, Py_ssize_t length, const int64_t[:, ::1] pieces, const double[:, ::1] rates) except -1:
    cdef Py_ssize_t p
    require(pieces.shape[1] == 2 and rates.shape[1] == 2 and rates.shape[0] == pieces.shape[0],
            "pieces and rates must have rows of two")
    for p in range(pieces.shape[0]):
        require(0 <= pieces[p, 0] <= length and 0 <= pieces[p, 1] <= length - pieces[p, 0],
                "every piece must lie within the parameters")
    a.w, a.gradient, a.found, a.pieces, a.rates = NULL, NULL, NULL, &pieces[0, 0], &rates[0, 0]
    return 0


cdef void piece_penalties(const Pieces *a, Py_ssize_t first, Py_ssize_t last, real *_scratch) noexcept nogil:
    cdef Py_ssize_t p
    for p in range(first, last):
        a.found[p] = penalty(<const real *> a.w + a.pieces[2 * p], a.pieces[2 * p + 1], a.rates[2 * p],
                             a.rates[2 * p + 1])


cdef void piece_slopes(const Pieces *a, Py_ssize_t first, Py_ssize_t last, real *_scratch) noexcept nogil:
    cdef Py_ssize_t p
    for p in range(first, last):
        add_slope(<const real *> a.w + a.pieces[2 * p], <real> a.rates[2 * p], <real> (2 * a.rates[2 * p + 1]),
                  <real *> a.gradient + a.pieces[2 * p], a.pieces[2 * p + 1])


def value(parameters not None, const int64_t[:, ::1] pieces not None, const double[:, ::1] rates not None):
    """The sum of the penalties of all pieces, rows (offset, size) of the flat vector with rows (l1, l2) of rates."""
    if is_double(parameters):
        return value_in[double](parameters, pieces, rates)
    return value_in[float](parameters, pieces, rates)


cdef double value_in(const real[::1] parameters, const int64_t[:, ::1] pieces,
                     const double[:, ::1] rates) except? -1:
    cdef Py_ssize_t count = pieces.shape[0], p
    cdef double total = 0
    cdef Pieces a
    describe(&a, parameters.shape[0], pieces, rates)
    if count == 0:
        return 0.0
    a.w, a.found = &parameters[0], <double *> take_scratch(count, sizeof(double))
    with nogil:
        share_out(<Kernel> piece_penalties[real], &a, count, team(count, parameters.shape[0] / 8.0))
    for p in range(count):
        total += a.found[p]
    free_scratch(a.found)
    return total


def add_gradients(parameters not None, gradients not None, const int64_t[:, ::1] pieces not None,
                  const double[:, ::1] rates not None):
    """gradients += l1 sign(w) + 2 l2 w, piece by piece; arguments as for ``value``."""
    if is_double(parameters):
        add_gradients_in[double](parameters, gradients, pieces, rates)
    else:
        add_gradients_in[float](parameters, gradients, pieces, rates)


cdef int add_gradients_in(const real[::1] parameters, real[::1] gradients, const int64_t[:, ::1] pieces,
                          const double[:, ::1] rates) except -1:
    cdef Py_ssize_t count = pieces.shape[0]
    cdef Pieces a
    describe(&a, parameters.shape[0], pieces, rates)
    require(gradients.shape[0] == parameters.shape[0], "gradients must have the length of parameters")
    if count:
        a.w, a.gradient = &parameters[0], &gradients[0]
        with nogil:
            share_out(<Kernel> piece_slopes[real], &a, count, team(count, parameters.shape[0] / 4.0))


# ---- outputs ----

cdef struct OutputArrays:
    Array y      # (n, size)
    Array dy     # (n, size); absent forward, and may be in backward
    Array out    # forward (n,), in double; backward (n, size)


cdef struct Outputs:
    OutputArrays arrays
    Py_ssize_t size, parts
    double a, b  # l1 and l2; backward what sign(y) and y are multiplied by


cdef void sample_penalties(const Outputs *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(first, last):
        (<double *> item(g.arrays.out, i))[0] = penalty(<const real *> item(g.arrays.y, i), g.size, g.a, g.b)


cdef void slope_parts(const Outputs *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, sample, start, end, size
    cdef real *out
    for i in range(first, last):
        sample, start = i // g.parts, part_start(i % g.parts, g.parts, g.size)
        end = part_start(i % g.parts + 1, g.parts, g.size)
        out = <real *> item(g.arrays.out, sample) + start
        size = (end - start) * sizeof(real)
        if g.arrays.dy.data is NULL:
            memset(out, 0, size)
        else:
            memcpy(out, <const real *> item(g.arrays.dy, sample) + start, size)
        add_slope(<const real *> item(g.arrays.y, sample) + start, <real> g.a, <real> g.b, out, end - start)


def of_samples(y not None, double l1, double l2, double[::1] found not None):
    """found[n] = l1 sum |y[n]| + l2 sum y[n]^2 for y (N, size)."""
    if is_double(y):
        of_samples_in[double](y, l1, l2, found)
    else:
        of_samples_in[float](y, l1, l2, found)


cdef int of_samples_in(const real[:, ::1] y, double l1, double l2, double[::1] found) except -1:
    cdef Py_ssize_t n = y.shape[0], size = y.shape[1]
    cdef Outputs g
    require(found.shape[0] == n, "found must have an entry for each sample of y")
    if n == 0:
        return 0
    g.arrays.y, g.arrays.dy, g.arrays.out = rows_at(&y[0, 0], size), fixed(NULL), rows_at(<const double *> &found[0], 1)
    g.size, g.parts, g.a, g.b = size, 1, l1, l2
    cdef Job job = new_job(<Kernel> sample_penalties[real], IMAGES, sizeof(g.arrays), n, n * size / 8.0)
    submit(&job, &g, sizeof(g))


def slope(y not None, dy, double a, double b, out not None):
    """out = dy + a sign(y) + b y, all (N, size); ``dy`` may be None for zeros."""
    if is_double(y):
        slope_in[double](y, dy, a, b, out)
    else:
        slope_in[float](y, dy, a, b, out)


cdef int slope_in(const real[:, ::1] y, const real[:, ::1] dy, double a, double b, real[:, ::1] out) except -1:
    cdef Py_ssize_t n = y.shape[0], size = y.shape[1]
    cdef Outputs g
    require(out.shape[0] == n and out.shape[1] == size, "out must have the shape of y")
    require(dy is None or (dy.shape[0] == n and dy.shape[1] == size), "dy must have the shape of y")
    if n == 0:
        return 0
    g.arrays.y, g.arrays.out = rows_at(&y[0, 0], size), rows_at(<const real *> &out[0, 0], size)
    g.arrays.dy = rows_at(<const real *> NULL if dy is None else &dy[0, 0], size)
    g.size, g.parts, g.a, g.b = size, parts_for(size), a, b
    cdef Job job = new_job(<Kernel> slope_parts[real], IMAGES, sizeof(g.arrays), n, n * size / 4.0)
    job.parts = g.parts
    submit(&job, &g, sizeof(g))


def total(const double[::1] found not None, const double[::1] weights=None):
    """The sum over the samples of a batch, or of a node, of a number each, times its weight unless there are none."""
    cdef Py_ssize_t n = found.shape[0]
    require(weights is None or weights.shape[0] == n, "weights must have an entry for each sample")
    return sum_of(&found[0], <const double *> NULL if weights is None else &weights[0], cells_for(n), n)
