# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of BatchNormalization over x (R, C): R values of each of C channels.

Design: sums run down the columns in blocks of rows that fit the second-level cache, the block's size a function of C
alone; the blocks' means and squares are merged in order, in double (Chan, Golub and LeVeque, "Updating formulae and a
pairwise algorithm for computing sample variances", 1979), so that neither threads nor a large mean cost accuracy.
Items are these blocks.  The last argument of a kernel is its scratch memory; none is needed here, but it tells float
from double.
"""
from cython.parallel cimport prange
from libc.math cimport sqrt
from libc.string cimport memset

from minicnn._ext.runtime cimport (chosen_leaves, column_moments, column_products, column_sums, free_scratch, normalize,
                                   normalize_grad, real, require, take_scratch, team, use_leaves)

use_leaves(chosen_leaves())

cdef enum:
    BLOCK = 16384  # elements of a block of rows, about


cdef struct Norm:
    Py_ssize_t rows, c, block, blocks  # rows of x, channels, rows of a block, number of blocks
    const void *x                      # (rows, c)
    const void *dy                     # (rows, c)
    void *y                            # (rows, c): output, or dx
    void *first                        # (blocks, c): sums of d (block_statistics); sums of dy
    void *second                       # (blocks, c): sums of d^2; sums of (x - mean) dy
    void *mean                         # (c,): of the whole batch, and three factors of each channel (see the leaves)
    void *a
    void *b
    void *d


cdef void describe(Norm *g, Py_ssize_t rows, Py_ssize_t c) noexcept nogil:
    memset(g, 0, sizeof(Norm))
    g.rows, g.c = rows, c
    g.block = max(<Py_ssize_t> 1, BLOCK // max(c, <Py_ssize_t> 1))
    g.blocks = (rows + g.block - 1) // g.block


cdef void block_statistics(const Norm *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    """Sums of d and d^2 with d = x - the block's first row: that keeps them small where the mean is large."""
    cdef Py_ssize_t i
    cdef const real *x
    cdef real *sums
    cdef real *squares
    for i in range(first, last):
        x = <const real *> g.x + i * g.block * g.c
        sums = <real *> g.first + i * g.c
        squares = <real *> g.second + i * g.c
        memset(sums, 0, g.c * sizeof(real))
        memset(squares, 0, g.c * sizeof(real))
        column_moments(x, x, sums, squares, min(g.block, g.rows - i * g.block), g.c)


cdef void block_normalize(const Norm *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, start
    for i in range(first, last):
        start = i * g.block * g.c
        normalize(<const real *> g.x + start, <const real *> g.mean, <const real *> g.a, <const real *> g.b,
                  <real *> g.y + start, min(g.block, g.rows - i * g.block), g.c)


cdef void block_products(const Norm *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, rows, start
    cdef real *sums
    cdef real *products
    for i in range(first, last):
        rows = min(g.block, g.rows - i * g.block)
        start = i * g.block * g.c
        sums = <real *> g.first + i * g.c
        products = <real *> g.second + i * g.c
        memset(sums, 0, g.c * sizeof(real))
        memset(products, 0, g.c * sizeof(real))
        column_sums(<const real *> g.dy + start, sums, rows, g.c)
        column_products(<const real *> g.x + start, <const real *> g.dy + start, <const real *> g.mean, products, rows,
                        g.c)


cdef void block_gradient(const Norm *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, start
    for i in range(first, last):
        start = i * g.block * g.c
        normalize_grad(<const real *> g.x + start, <const real *> g.dy + start, <const real *> g.mean,
                       <const real *> g.a, <const real *> g.b, <const real *> g.d, <real *> g.y + start,
                       min(g.block, g.rows - i * g.block), g.c)


def forward_training(const real[:, ::1] x not None, const real[::1] gamma not None, const real[::1] beta not None,
                     double epsilon, double momentum, real[::1] mean not None, real[::1] inverse_std not None,
                     real[::1] moving_mean not None, real[::1] moving_variance not None, real[:, ::1] y not None):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta with the statistics of the batch (biased variance).

    Writes ``mean`` and ``inverse_std`` = 1 / sqrt(variance + epsilon) for backward, and moves the moving statistics:
    moving = momentum * moving + (1 - momentum) * batch.
    """
    cdef Norm g
    require(y.shape[0] == x.shape[0] and y.shape[1] == x.shape[1], "y must have the shape of x")
    require(gamma.shape[0] == x.shape[1] and beta.shape[0] == x.shape[1] and mean.shape[0] == x.shape[1]
            and inverse_std.shape[0] == x.shape[1] and moving_mean.shape[0] == x.shape[1]
            and moving_variance.shape[0] == x.shape[1], "every vector must have one value for each channel of x")
    describe(&g, x.shape[0], x.shape[1])
    cdef Py_ssize_t b, i, j
    cdef Py_ssize_t parts = team(g.blocks, <double> g.rows * g.c / 2)
    cdef double count, size, center, squares, delta, mean_d
    cdef real *memory = <real *> take_scratch((2 * g.blocks + 2) * g.c, sizeof(real))
    cdef real *a = memory + 2 * g.blocks * g.c
    g.x, g.y, g.first, g.second = &x[0, 0], &y[0, 0], memory, memory + g.blocks * g.c
    g.mean, g.a, g.b = &mean[0], a, <void *> &beta[0]
    try:
        for b in prange(parts, nogil=True, num_threads=parts, schedule="static"):
            block_statistics[real](&g, g.blocks * b // parts, g.blocks * (b + 1) // parts, <real *> NULL)
        for j in range(g.c):
            count = center = squares = 0
            for i in range(g.blocks):
                size = min(g.block, g.rows - i * g.block)
                mean_d = memory[i * g.c + j] / size
                delta = x[i * g.block, j] + mean_d - center
                squares += memory[(g.blocks + i) * g.c + j] - mean_d * mean_d * size
                squares += delta * delta * count * size / (count + size)
                center += delta * size / (count + size)
                count += size
            mean[j] = <real> center
            inverse_std[j] = <real> (1 / sqrt(squares / count + epsilon))
            a[j] = gamma[j] * inverse_std[j]
            moving_mean[j] = <real> (momentum * moving_mean[j] + (1 - momentum) * center)
            moving_variance[j] = <real> (momentum * moving_variance[j] + (1 - momentum) * squares / count)
        for b in prange(parts, nogil=True, num_threads=parts, schedule="static"):
            block_normalize[real](&g, g.blocks * b // parts, g.blocks * (b + 1) // parts, <real *> NULL)
    finally:
        free_scratch(memory)


def forward(const real[:, ::1] x not None, const real[::1] gamma not None, const real[::1] beta not None,
            double epsilon, const real[::1] mean not None, const real[::1] variance not None, real[:, ::1] y not None):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta with given statistics: what eval mode does."""
    cdef Norm g
    require(y.shape[0] == x.shape[0] and y.shape[1] == x.shape[1], "y must have the shape of x")
    require(gamma.shape[0] == x.shape[1] and beta.shape[0] == x.shape[1] and mean.shape[0] == x.shape[1]
            and variance.shape[0] == x.shape[1], "every vector must have one value for each channel of x")
    describe(&g, x.shape[0], x.shape[1])
    cdef Py_ssize_t b, j
    cdef Py_ssize_t parts = team(g.blocks, <double> g.rows * g.c / 4)
    cdef real *a
    if g.rows == 0:
        return
    a = <real *> take_scratch(g.c, sizeof(real))
    g.x, g.y, g.mean, g.a, g.b = &x[0, 0], &y[0, 0], <void *> &mean[0], a, <void *> &beta[0]
    try:
        for j in range(g.c):
            a[j] = <real> (gamma[j] / sqrt(variance[j] + epsilon))
        for b in prange(parts, nogil=True, num_threads=parts, schedule="static"):
            block_normalize[real](&g, g.blocks * b // parts, g.blocks * (b + 1) // parts, <real *> NULL)
    finally:
        free_scratch(a)


def backward(const real[:, ::1] x not None, const real[:, ::1] dy not None, const real[::1] gamma not None,
             const real[::1] mean not None, const real[::1] inverse_std not None, real[::1] dgamma not None,
             real[::1] dbeta not None, real[:, ::1] dx not None):
    """Gradients through the statistics of the batch (Ioffe and Szegedy, ICML 2015, section 3), with s = inverse_std:

    dbeta = sum dy;  dgamma = s sum (x - mean) dy;
    dx = gamma s (dy - dbeta / R - (x - mean) s dgamma / R).
    """
    cdef Norm g
    require(dy.shape[0] == x.shape[0] and dy.shape[1] == x.shape[1] and dx.shape[0] == x.shape[0]
            and dx.shape[1] == x.shape[1], "dy and dx must have the shape of x")
    require(gamma.shape[0] == x.shape[1] and mean.shape[0] == x.shape[1] and inverse_std.shape[0] == x.shape[1]
            and dgamma.shape[0] == x.shape[1] and dbeta.shape[0] == x.shape[1],
            "every vector must have one value for each channel of x")
    describe(&g, x.shape[0], x.shape[1])
    cdef Py_ssize_t b, i, j
    cdef Py_ssize_t parts = team(g.blocks, <double> g.rows * g.c / 2)
    cdef double sums, products
    cdef real *memory = <real *> take_scratch((2 * g.blocks + 3) * g.c, sizeof(real))
    cdef real *a = memory + 2 * g.blocks * g.c
    g.x, g.dy, g.y, g.first, g.second = &x[0, 0], &dy[0, 0], &dx[0, 0], memory, memory + g.blocks * g.c
    g.mean, g.a, g.b, g.d = <void *> &mean[0], a, a + g.c, a + 2 * g.c
    try:
        for b in prange(parts, nogil=True, num_threads=parts, schedule="static"):
            block_products[real](&g, g.blocks * b // parts, g.blocks * (b + 1) // parts, <real *> NULL)
        for j in range(g.c):
            sums = products = 0
            for i in range(g.blocks):
                sums += memory[i * g.c + j]
                products += memory[(g.blocks + i) * g.c + j]
            dbeta[j] = <real> sums
            dgamma[j] = <real> (products * inverse_std[j])
            a[j] = gamma[j] * inverse_std[j]
            a[g.c + j] = <real> (a[j] * products * inverse_std[j] * inverse_std[j] / g.rows)
            a[2 * g.c + j] = <real> (a[j] * sums / g.rows)
        for b in prange(parts, nogil=True, num_threads=parts, schedule="static"):
            block_gradient[real](&g, g.blocks * b // parts, g.blocks * (b + 1) // parts, <real *> NULL)
    finally:
        free_scratch(memory)
