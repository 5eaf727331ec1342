# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of DropConnect: Dense with a mask over the weights, another one for every sample.

Design: N D M decisions are made for a batch, and drawing them is most of the work: so no bit is drawn twice within a
pass, and none is stored from forward to backward, which makes them again.  Both passes go through blocks of rows of W,
4,096 weights or so, whose bits are used while they are in the first-level cache.

Items: forward, a sample, every output one sum in the order of D; backward, a block of rows of W, where dW is made
cell by cell of the batch (jobs.pxd) and dx over M in fixed lanes (matrix.h).  So the bits do not depend on the threads.
"""
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset

from minicnn._ext.machinery.jobs cimport (LINE, PAGE, WHOLE, Array, Job, Kernel, cells_for, first_half, fixed, lines,
                                          new_job, rows_at, spare_for, submit)
from minicnn._ext.machinery.random cimport ALWAYS, GROUP, Draw, draw_bits, index_of, is_draw, words_for
from minicnn._ext.machinery.runtime cimport (LINEAR, Curve, activate, add_to, affine, chosen_leaves, column_sums,
                                             curve_of, is_double, kept_gradients, kept_product, real, require,
                                             use_leaves)

use_leaves(chosen_leaves())

cdef enum:
    BLOCK = 4096  # weights of a block of rows, at most, if a row is not longer


cdef struct ForwardArrays:
    Array x                    # (n, d)
    Array w                    # (d, m)
    Array bias                 # (m,)
    Array y                    # (n, m)
    Array draw                 # a Draw, read when the kernel runs
    Array scale                # one number


cdef struct Forward:
    ForwardArrays arrays
    Py_ssize_t n, d, m         # samples, inputs, outputs
    Curve curve


cdef struct BackwardArrays:
    Array x                    # (n, d)
    Array w                    # (d, m)
    Array dy                   # (n, m)
    Array dw                   # (d, m)
    Array dbias                # (m,)
    Array dx                   # (n, d)
    Array draw                 # the Draw of forward
    Array scale                # one number


cdef struct Backward:
    BackwardArrays arrays
    Py_ssize_t n, d, m, cells


cdef Py_ssize_t rows_of_block(Py_ssize_t d, Py_ssize_t m) noexcept nogil:
    return min(d, max(<Py_ssize_t> 1, BLOCK // m))


cdef Py_ssize_t bits_size(Py_ssize_t d, Py_ssize_t m) noexcept nogil:
    """Bytes for the bits of a block, and a word behind them, which the leaves read too."""
    return lines((words_for(rows_of_block(d, m) * m) + 1) * sizeof(uint32_t))


cdef Py_ssize_t draw_block(uint32_t *keep, const Draw *draw, Py_ssize_t sample, Py_ssize_t row, Py_ssize_t rows,
                           Py_ssize_t d, Py_ssize_t m) noexcept nogil:
    """Draws the bits of some rows of W for a sample; returns the place of the first."""
    cdef Py_ssize_t element = <Py_ssize_t> index_of(draw, sample, d * m) + row * m
    if draw.threshold:
        draw_bits(keep, element, rows * m, draw, sample)
    else:
        memset(keep, 0xFF, words_for(rows * m) * sizeof(uint32_t))
    return element % GROUP


# ---- forward ----

cdef void forward_samples(const Forward *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    """All samples go through a block of rows of W before the next: W is read from memory once."""
    cdef Py_ssize_t block, row, rows = rows_of_block(g.d, g.m), blocks = (g.d + rows - 1) // rows, sample, offset
    cdef const Draw *draw = <const Draw *> g.arrays.draw.data
    cdef uint32_t *keep = <uint32_t *> scratch
    cdef const real *x = <const real *> g.arrays.x.data
    cdef real *y = <real *> g.arrays.y.data
    memset(y + first * g.m, 0, (last - first) * g.m * sizeof(real))
    for block in range(blocks if draw.threshold != ALWAYS else 0):
        row = block * rows
        for sample in range(first, last):
            offset = draw_block(keep, draw, sample, row, min(rows, g.d - row), g.d, g.m)
            kept_product(x + sample * g.d + row, min(rows, g.d - row), <const real *> g.arrays.w.data + row * g.m, keep,
                         offset, y + sample * g.m, g.m)
    for sample in range(first, last):
        finish(g, y + sample * g.m)


cdef void finish(const Forward *g, real *y) noexcept nogil:
    """y = activation(scale y + bias)"""
    cdef Py_ssize_t j
    cdef real scale = <real> (<const double *> g.arrays.scale.data)[0]
    cdef const real *bias = <const real *> g.arrays.bias.data
    for j in range(g.m):
        y[j] = scale * y[j] + (bias[j] if bias is not NULL else <real> 0)
    if g.curve.kind != LINEAR:
        activate(&g.curve, y, y, g.m)


def forward(x not None, w not None, bias, y not None, const uint64_t[::1] draw not None,
            const double[::1] scale not None, activation=None):
    """y = activation(scale (x (w * keep)) + bias) for x (N, D), w (D, M), bias (M,) or None, y (N, M).

    ``keep`` is drawn for every sample: decision d * M + m of D * M.  ``draw``: threshold, seed, step, stream, first,
    period, as in dropout.pyx; with threshold 0 nothing is drawn and all is kept, with 65536 y = activation(bias).
    """
    if is_double(x):
        forward_in[double](x, w, bias, y, draw, scale, activation)
    else:
        forward_in[float](x, w, bias, y, draw, scale, activation)


cdef int forward_in(const real[:, ::1] x, const real[:, ::1] w, const real[::1] bias, real[:, ::1] y,
                    const uint64_t[::1] draw, const double[::1] scale, activation) except -1:
    cdef Forward g
    cdef Job job
    g.n, g.d, g.m = x.shape[0], x.shape[1], w.shape[1]
    require(w.shape[0] == g.d and y.shape[0] == g.n and y.shape[1] == g.m, "w must be (D, M) and y (N, M)")
    require(g.d > 0 and g.m > 0, "w must not be empty")
    require(bias is None or bias.shape[0] == g.m, "bias must have one value for each output")
    require(is_draw(&draw[0], draw.shape[0]) and scale.shape[0] == 1, "draw must have 6 numbers and scale 1")
    g.arrays.x, g.arrays.y = rows_at(&x[0, 0], g.d), rows_at(<const real *> &y[0, 0], g.m)
    g.arrays.w, g.arrays.bias = fixed(&w[0, 0]), fixed(<const real *> NULL if bias is None else &bias[0])
    g.arrays.draw, g.arrays.scale = fixed(&draw[0]), fixed(&scale[0])
    g.curve = curve_of(activation)
    job = new_job(<Kernel> forward_samples[real], WHOLE, sizeof(g.arrays), g.n, <double> g.n * g.d * g.m / 3)
    job.scratch = bits_size(g.d, g.m)
    submit(&job, &g, sizeof(g))


# ---- backward ----

cdef inline Py_ssize_t wide(Py_ssize_t m) noexcept nogil:
    """A row of dW in scratch memory: whole vectors, so that none is stored in part."""
    return (m + 15) // 16 * 16


cdef void backward_blocks(const Backward *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t block, row, rows = rows_of_block(g.d, g.m)
    if first == 0 and g.arrays.dbias.data is not NULL:
        bias_gradient(g, g.cells, 0, g.n, <real *> g.arrays.dbias.data, scratch)
    for block in range(first, last):
        row = block * rows
        gradients(g, row, min(rows, g.d - row), <char *> scratch, <real *> g.arrays.dw.data)


cdef void bias_gradient(const Backward *g, Py_ssize_t cells, Py_ssize_t first, Py_ssize_t n, real *sum,
                        real *spare) noexcept nogil:
    if cells > 1:
        bias_gradient(g, cells // 2, first, first_half(n), sum, spare)
        bias_gradient(g, cells // 2, first + first_half(n), n - first_half(n), spare, spare + g.m)
        add_to(<const real *> spare, sum, g.m)
        return
    memset(sum, 0, g.m * sizeof(real))
    column_sums(<const real *> g.arrays.dy.data + first * g.m, sum, n, g.m)


cdef void gradients(const Backward *g, Py_ssize_t row, Py_ssize_t rows, char *scratch, real *dw) noexcept nogil:
    """dw and dx of some rows of W: both are sums over scale * dy."""
    cdef Py_ssize_t r
    cdef real *dy = <real *> (scratch + bits_size(g.d, g.m))
    cdef real *sums = <real *> away_from(<const real *> g.arrays.w.data + row * g.m, scratch + bits_size(g.d, g.m)
                                         + lines((wide(g.m) + rows) * sizeof(real)))
    memset(dy, 0, (wide(g.m) + rows) * sizeof(real))  # and dx
    of_cells(g, g.cells, 0, g.n, row, rows, <uint32_t *> scratch, dy, sums)
    for r in range(rows):
        memcpy(dw + (row + r) * g.m, sums + r * wide(g.m), g.m * sizeof(real))


cdef void of_cells(const Backward *g, Py_ssize_t cells, Py_ssize_t first, Py_ssize_t n, Py_ssize_t row, Py_ssize_t rows,
                   uint32_t *keep, real *dy, real *sums) noexcept nogil:
    """The sums of n samples, and their rows of dx, which are made behind dy."""
    cdef Py_ssize_t sample, offset, size = rows * wide(g.m)
    cdef const Draw *draw = <const Draw *> g.arrays.draw.data
    cdef real scale = <real> (<const double *> g.arrays.scale.data)[0]
    cdef real *dx = dy + wide(g.m)
    if cells > 1:
        of_cells(g, cells // 2, first, first_half(n), row, rows, keep, dy, sums)
        of_cells(g, cells // 2, first + first_half(n), n - first_half(n), row, rows, keep, dy, sums + size)
        add_to(<const real *> sums + size, sums, size)
        return
    memset(sums, 0, size * sizeof(real))
    for sample in range(first, first + n):
        if draw.threshold != ALWAYS:
            affine(<const real *> g.arrays.dy.data + sample * g.m, scale, <real> 0, dy, g.m)
            offset = draw_block(keep, draw, sample, row, rows, g.d, g.m)
            kept_gradients(<const real *> g.arrays.x.data + sample * g.d + row, rows,
                           <const real *> g.arrays.w.data + row * g.m, dy, keep, offset, sums, dx, g.m)
        if g.arrays.dx.data is not NULL:
            memcpy(<real *> g.arrays.dx.data + sample * g.d + row, dx, rows * sizeof(real))


cdef inline char *away_from(const void *w, char *memory) noexcept nogil:
    """An address within the next page that is not near w's place in its page: a processor takes a read for one of what
    was just written where the lower 12 bits of the addresses are the same, and waits."""
    cdef uintptr_t wanted = <uintptr_t> w + 17 * LINE - <uintptr_t> memory
    return memory + wanted % PAGE // LINE * LINE


def backward(x not None, w not None, dy not None, dw not None, dbias, dx, const uint64_t[::1] draw not None,
             const double[::1] scale not None):
    """Overwrites dw (D, M), dbias ((M,) or None) and dx ((N, D) or None: not wanted) for dy (N, M).

    ``draw`` and ``scale`` are those of ``forward``, whose mask is made again.
    """
    if is_double(x):
        backward_in[double](x, w, dy, dw, dbias, dx, draw, scale)
    else:
        backward_in[float](x, w, dy, dw, dbias, dx, draw, scale)


cdef int backward_in(const real[:, ::1] x, const real[:, ::1] w, const real[:, ::1] dy, real[:, ::1] dw,
                     real[::1] dbias, real[:, ::1] dx, const uint64_t[::1] draw, const double[::1] scale) except -1:
    cdef Backward g
    cdef Job job
    cdef Py_ssize_t rows, size
    g.n, g.d, g.m = x.shape[0], x.shape[1], w.shape[1]
    require(w.shape[0] == g.d and dw.shape[0] == g.d and dw.shape[1] == g.m, "w and dw must be (D, M)")
    require(g.d > 0 and g.m > 0, "w must not be empty")
    require(dy.shape[0] == g.n and dy.shape[1] == g.m, "dy must be (N, M)")
    require(dx is None or (dx.shape[0] == g.n and dx.shape[1] == g.d), "dx must be (N, D)")
    require(dbias is None or dbias.shape[0] == g.m, "dbias must have one value for each output")
    require(is_draw(&draw[0], draw.shape[0]) and scale.shape[0] == 1, "draw must have 6 numbers and scale 1")
    g.arrays.x, g.arrays.dy = rows_at(&x[0, 0], g.d), rows_at(&dy[0, 0], g.m)
    g.arrays.w, g.arrays.dw = fixed(&w[0, 0]), fixed(&dw[0, 0])
    g.arrays.dx = rows_at(<const real *> NULL if dx is None else <const real *> &dx[0, 0], g.d)
    g.arrays.dbias = fixed(NULL if dbias is None else &dbias[0])
    g.arrays.draw, g.arrays.scale = fixed(&draw[0]), fixed(&scale[0])
    rows = rows_of_block(g.d, g.m)
    g.cells = cells_for(g.n)
    size = rows * wide(g.m)
    size = max((size + spare_for(g.cells, size)) * sizeof(real) + bits_size(g.d, g.m) + PAGE
               + lines((wide(g.m) + rows) * sizeof(real)), spare_for(g.cells, g.m) * sizeof(real))
    job = new_job(<Kernel> backward_blocks[real], WHOLE, sizeof(g.arrays), (g.d + rows - 1) // rows,
                  <double> g.n * g.d * g.m / 2.5)
    job.scratch = size
    submit(&job, &g, sizeof(g))
