# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of Dense: forward, and both gradients in one pass over the weights.

Design: the tile (leaves.h) on packed blocks.  Rows of x lie a power of two apart in many networks and would fall on the
same cache lines, so x and W are copied block by block into scratch before they are multiplied.

Items: forward, a block of rows times a panel of 32 output columns; backward, a block of 112 rows of W.  Every output is
one sum in the order of its index: the bits do not depend on the threads.
"""
from libc.string cimport memcpy

from minicnn._ext.plan cimport WHOLE, Array, Job, Kernel, submit
from minicnn._ext.runtime cimport (LINEAR, Tile, activate, chosen_leaves, real, require, tiles, use_leaves)

use_leaves(chosen_leaves())

cdef enum:
    PANEL = 32          # columns of W at a time: two vectors of AVX-512
    DEPTH = 256         # inputs at a time: a packed panel of 32 KB
    DEPTH_STRIDE = 272  # of packed rows of x: 17 cache lines, so that neighbouring rows use different sets
    W_ROWS = 112        # rows of W at a time in backward: 8 tiles of 14


cdef struct Forward:
    Array x                    # (n, d)
    Array w                    # (d, m)
    Array bias                 # (m,)
    Array y                    # (n, m)
    Py_ssize_t n, d, m         # samples, inputs, outputs
    Py_ssize_t rows, panels    # rows of x in an item; panels of a block of rows
    int activation
    double slope


cdef struct Backward:
    Array x                    # (n, d)
    Array w                    # (d, m)
    Array dy                   # (n, m)
    Array dw                   # (d, m)
    Array dbias                # (m,)
    Array dx                   # (n, d)
    Py_ssize_t n, d, m


cdef void forward_items(const Forward *g, Py_ssize_t first, Py_ssize_t last, real *memory) noexcept nogil:
    """Items are numbered block of rows by block of rows; x is packed once for all panels of a block."""
    cdef Py_ssize_t block, panel, low, high, row, rows, slab, k, depth, r, column, columns
    cdef const real *bias = <const real *> g.bias.data
    cdef real *xs = memory
    cdef real *ws = memory + g.rows * DEPTH_STRIDE
    cdef Tile t
    t.rows, t.a_row, t.c_row = 1, 0, 0
    t.ka, t.a_a, t.b_a = 1, 0, 0
    t.a_k, t.b_k, t.a_i, t.c_i = 1, PANEL, DEPTH_STRIDE, g.m
    for block in range(first // g.panels, (last + g.panels - 1) // g.panels):
        low, high = max(first, block * g.panels), min(last, (block + 1) * g.panels)
        row = block * g.rows
        rows = min(g.rows, g.n - row)
        for slab in range((g.d + DEPTH - 1) // DEPTH):
            k = slab * DEPTH
            depth = min(<Py_ssize_t> DEPTH, g.d - k)
            for r in range(rows):
                memcpy(xs + r * DEPTH_STRIDE, <const real *> g.x.data + (row + r) * g.d + k, depth * sizeof(real))
            for panel in range(low - block * g.panels, high - block * g.panels):
                column = panel * PANEL
                columns = min(<Py_ssize_t> PANEL, g.m - column)
                for r in range(depth):
                    memcpy(ws + r * PANEL, <const real *> g.w.data + (k + r) * g.m + column, columns * sizeof(real))
                t.kb, t.accumulate = depth, k > 0
                tiles(&t, rows, columns, xs, ws, bias + column if bias is not NULL and k == 0 else <const real *> NULL,
                      <real *> g.y.data + row * g.m + column)
        if g.activation != LINEAR:
            column = (low - block * g.panels) * PANEL
            columns = min(g.m, (high - block * g.panels) * PANEL) - column
            finish(g, <real *> g.y.data + row * g.m + column, rows, columns)


cdef void finish(const Forward *g, real *y, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """y = activation(y), while it is in the cache."""
    cdef Py_ssize_t r
    if columns == g.m:
        activate(g.activation, <real> g.slope, y, y, rows * g.m)
    else:
        for r in range(rows):
            activate(g.activation, <real> g.slope, y + r * g.m, y + r * g.m, columns)


def forward(const real[:, ::1] x not None, const real[:, ::1] w not None, const real[::1] bias,
            real[:, ::1] y not None, int activation=LINEAR, double slope=0.0):
    """y = activation(x w + bias) for x (N, D), w (D, M), bias (M,) or None, y (N, M)."""
    cdef Forward g
    cdef Job job
    cdef Py_ssize_t scratch, items
    g.n, g.d, g.m = x.shape[0], x.shape[1], w.shape[1]
    require(w.shape[0] == g.d and y.shape[0] == g.n and y.shape[1] == g.m, "w must be (D, M) and y (N, M)")
    require(bias is None or bias.shape[0] == g.m, "bias must have one value for each output")
    g.x, g.y = rows_at(&x[0, 0], g.d), rows_at(&y[0, 0], g.m)
    g.w, g.bias = Array(<char *> &w[0, 0], 0), Array(NULL, 0)
    if bias is not None:
        g.bias.data = <char *> &bias[0]
    g.activation, g.slope = activation, slope
    g.panels = (g.m + PANEL - 1) // PANEL
    g.rows = max(<Py_ssize_t> 1, min(g.n, <Py_ssize_t> (128 if g.panels > 1 else 32)))  # one panel: share rows out
    items = (g.n + g.rows - 1) // g.rows * g.panels
    scratch = (g.rows * DEPTH_STRIDE + DEPTH * PANEL) * sizeof(real)
    job = Job(<Kernel> forward_items[real], WHOLE, 4, items, 1, 0, scratch, <double> g.n * g.d * g.m / 32)
    submit(&job, &g, sizeof(g))


cdef void backward_items(const Backward *g, Py_ssize_t first, Py_ssize_t last, real *memory) noexcept nogil:
    """dW = x^T dy and dx = dy W^T for blocks of rows of W, which stay in the cache for both."""
    cdef Py_ssize_t item, row, rows, r
    cdef real *xs = memory
    cdef real *ws = memory + g.n * W_ROWS
    cdef Tile t
    t.rows, t.a_row, t.c_row = 1, 0, 0
    t.ka, t.a_a, t.b_a = 1, 0, 0
    t.accumulate = False
    if first == 0 and g.dbias.data is not NULL:
        bias_gradient(g, <real *> g.dbias.data)
    for item in range(first, last):
        row = item * W_ROWS
        rows = min(<Py_ssize_t> W_ROWS, g.d - row)
        for r in range(g.n):
            memcpy(xs + r * W_ROWS, <const real *> g.x.data + r * g.d + row, rows * sizeof(real))
        t.kb, t.a_k, t.b_k, t.a_i, t.c_i = g.n, W_ROWS, g.m, 1, g.m
        tiles(&t, rows, g.m, xs, <const real *> g.dy.data, <const real *> NULL, <real *> g.dw.data + row * g.m)
        if g.dx.data is not NULL:
            input_gradient(g, row, rows, ws)


cdef void input_gradient(const Backward *g, Py_ssize_t row, Py_ssize_t rows, real *ws) noexcept nogil:
    """dx[:, row : row + rows] = dy W[row : row + rows]^T, in panels of W transposed."""
    cdef Py_ssize_t panel, column, columns, k, j
    cdef const real *w
    cdef Tile t
    t.rows, t.a_row, t.c_row = 1, 0, 0
    t.ka, t.a_a, t.b_a = 1, 0, 0
    t.kb, t.a_k, t.b_k, t.a_i, t.c_i, t.accumulate = g.m, 1, PANEL, g.m, g.d, False
    for panel in range((rows + PANEL - 1) // PANEL):
        column = panel * PANEL
        columns = min(<Py_ssize_t> PANEL, rows - column)
        for j in range(columns):
            w = <const real *> g.w.data + (row + column + j) * g.m
            for k in range(g.m):
                ws[k * PANEL + j] = w[k]
        tiles(&t, g.n, columns, <const real *> g.dy.data, ws, <const real *> NULL, <real *> g.dx.data + row + column)


cdef void bias_gradient(const Backward *g, real *dbias) noexcept nogil:
    """The sum of the rows of dy: their product with ones."""
    cdef real one = 1
    cdef Tile t
    t.rows, t.a_row, t.c_row = 1, 0, 0
    t.ka, t.a_a, t.b_a = 1, 0, 0
    t.kb, t.a_k, t.b_k, t.a_i, t.c_i, t.accumulate = g.n, 0, g.m, 1, g.m, False
    tiles(&t, 1, g.m, &one, <const real *> g.dy.data, <const real *> NULL, dbias)


def backward(const real[:, ::1] x not None, const real[:, ::1] w not None, const real[:, ::1] dy not None,
             real[:, ::1] dw not None, real[::1] dbias, real[:, ::1] dx):
    """Overwrites dw (D, M), dbias ((M,) or None) and dx ((N, D) or None: not wanted) for dy (N, M)."""
    cdef Backward g
    cdef Job job
    cdef Py_ssize_t items, scratch
    g.n, g.d, g.m = x.shape[0], x.shape[1], w.shape[1]
    require(w.shape[0] == g.d and dw.shape[0] == g.d and dw.shape[1] == g.m, "w and dw must be (D, M)")
    require(dy.shape[0] == g.n and dy.shape[1] == g.m, "dy must be (N, M)")
    require(dx is None or (dx.shape[0] == g.n and dx.shape[1] == g.d), "dx must be (N, D)")
    require(dbias is None or dbias.shape[0] == g.m, "dbias must have one value for each output")
    g.x, g.dy, g.dx = rows_at(&x[0, 0], g.d), rows_at(&dy[0, 0], g.m), rows_at(<const real *> NULL, g.d)
    g.w, g.dw, g.dbias = Array(<char *> &w[0, 0], 0), Array(<char *> &dw[0, 0], 0), Array(NULL, 0)
    if dx is not None:
        g.dx.data = <char *> &dx[0, 0]
    if dbias is not None:
        g.dbias.data = <char *> &dbias[0]
    items = (g.d + W_ROWS - 1) // W_ROWS
    scratch = (g.n * W_ROWS + g.m * PANEL) * sizeof(real)
    job = Job(<Kernel> backward_items[real], WHOLE, 6, items, 1, 0, scratch, <double> g.n * g.d * g.m / 16)
    submit(&job, &g, sizeof(g))


cdef Array rows_at(const real *data, Py_ssize_t width) noexcept:
    """An array of rows of `width` values."""
    return Array(<char *> data, width * sizeof(real))
