# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of Dense: forward, and both gradients in one pass over the weights.

Design: the tile (leaves.h) on packed blocks.  Rows of x lie a power of two apart in many networks and would fall on the
same cache lines, so x and W are copied block by block into scratch before they are multiplied.

Items: forward, a block of rows times a panel of 32 output columns; backward, a block of 112 rows of W.  Every output is
one sum in the order of its index: the bits do not depend on the threads.
"""
from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from minicnn._ext.runtime cimport (Tile, chosen_leaves, column_sums, free_scratch, real, require, take_scratch, team,
                                   tiles, use_leaves)

use_leaves(chosen_leaves())

cdef enum:
    PANEL = 32          # columns of W at a time: two vectors of AVX-512
    DEPTH = 256         # inputs at a time: a packed panel of 32 KB
    DEPTH_STRIDE = 272  # of packed rows of x: 17 cache lines, so that neighbouring rows use different sets
    W_ROWS = 112        # rows of W at a time in backward: 8 tiles of 14


cdef struct Dense:
    Py_ssize_t n, d, m         # samples, inputs, outputs
    Py_ssize_t rows, panels    # forward: rows of x in an item; panels of a block of rows
    const void *x              # (n, d)
    const void *w              # (d, m)
    const void *bias           # (m,) or NULL
    const void *dy             # (n, m)
    void *y                    # (n, m)
    void *dx                   # (n, d) or NULL
    void *dw                   # (d, m)


cdef void forward_items(const Dense *g, Py_ssize_t first, Py_ssize_t last, real *memory) noexcept nogil:
    """Items are numbered block of rows by block of rows; x is packed once for all panels of a block."""
    cdef Py_ssize_t block, panel, low, high, row, rows, slab, k, depth, r, column, columns
    cdef const real *bias = <const real *> g.bias
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
                memcpy(xs + r * DEPTH_STRIDE, <const real *> g.x + (row + r) * g.d + k, depth * sizeof(real))
            for panel in range(low - block * g.panels, high - block * g.panels):
                column = panel * PANEL
                columns = min(<Py_ssize_t> PANEL, g.m - column)
                for r in range(depth):
                    memcpy(ws + r * PANEL, <const real *> g.w + (k + r) * g.m + column, columns * sizeof(real))
                t.kb, t.accumulate = depth, k > 0
                tiles(&t, rows, columns, xs, ws, bias + column if bias is not NULL and k == 0 else <const real *> NULL,
                      <real *> g.y + row * g.m + column)


def forward(const real[:, ::1] x not None, const real[:, ::1] w not None, const real[::1] bias,
            real[:, ::1] y not None):
    """y = x w + bias for x (N, D), w (D, M), bias (M,) or None, y (N, M)."""
    cdef Dense g
    cdef Py_ssize_t b, items, blocks, size
    cdef real *memory
    g.n, g.d, g.m = x.shape[0], x.shape[1], w.shape[1]
    require(w.shape[0] == g.d and y.shape[0] == g.n and y.shape[1] == g.m, "w must be (D, M) and y (N, M)")
    require(bias is None or bias.shape[0] == g.m, "bias must have one value for each output")
    if g.n == 0:
        return
    g.x, g.w, g.y = &x[0, 0], &w[0, 0], &y[0, 0]
    g.bias = NULL
    if bias is not None:
        g.bias = &bias[0]
    g.panels = (g.m + PANEL - 1) // PANEL
    g.rows = min(g.n, <Py_ssize_t> (128 if g.panels > 1 else 32))  # a single panel leaves only rows to share out
    items = (g.n + g.rows - 1) // g.rows * g.panels
    blocks = team(items, <double> g.n * g.d * g.m / 32)
    size = g.rows * DEPTH_STRIDE + DEPTH * PANEL
    memory = <real *> take_scratch(blocks * size, sizeof(real))
    try:
        for b in prange(blocks, nogil=True, num_threads=blocks, schedule="static"):
            forward_items[real](&g, items * b // blocks, items * (b + 1) // blocks, memory + b * size)
    finally:
        free_scratch(memory)


cdef void backward_items(const Dense *g, Py_ssize_t first, Py_ssize_t last, real *memory) noexcept nogil:
    """dW = x^T dy and dx = dy W^T for blocks of rows of W, which stay in the cache for both."""
    cdef Py_ssize_t item, row, rows, r
    cdef real *xs = memory
    cdef real *ws = memory + g.n * W_ROWS
    cdef Tile t
    t.rows, t.a_row, t.c_row = 1, 0, 0
    t.ka, t.a_a, t.b_a = 1, 0, 0
    t.accumulate = False
    for item in range(first, last):
        row = item * W_ROWS
        rows = min(<Py_ssize_t> W_ROWS, g.d - row)
        for r in range(g.n):
            memcpy(xs + r * W_ROWS, <const real *> g.x + r * g.d + row, rows * sizeof(real))
        t.kb, t.a_k, t.b_k, t.a_i, t.c_i = g.n, W_ROWS, g.m, 1, g.m
        tiles(&t, rows, g.m, xs, <const real *> g.dy, <const real *> NULL, <real *> g.dw + row * g.m)
        if g.dx is not NULL:
            input_gradient(g, row, rows, ws)


cdef void input_gradient(const Dense *g, Py_ssize_t row, Py_ssize_t rows, real *ws) noexcept nogil:
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
            w = <const real *> g.w + (row + column + j) * g.m
            for k in range(g.m):
                ws[k * PANEL + j] = w[k]
        tiles(&t, g.n, columns, <const real *> g.dy, ws, <const real *> NULL, <real *> g.dx + row + column)


def backward(const real[:, ::1] x not None, const real[:, ::1] w not None, const real[:, ::1] dy not None,
             real[:, ::1] dw not None, real[::1] dbias, real[:, ::1] dx):
    """Overwrites dw (D, M), dbias ((M,) or None) and dx ((N, D) or None: not wanted) for dy (N, M)."""
    cdef Dense g
    cdef Py_ssize_t b, items, blocks, size
    cdef real *memory
    g.n, g.d, g.m = x.shape[0], x.shape[1], w.shape[1]
    require(w.shape[0] == g.d and dw.shape[0] == g.d and dw.shape[1] == g.m, "w and dw must be (D, M)")
    require(dy.shape[0] == g.n and dy.shape[1] == g.m, "dy must be (N, M)")
    require(dx is None or (dx.shape[0] == g.n and dx.shape[1] == g.d), "dx must be (N, D)")
    require(dbias is None or dbias.shape[0] == g.m, "dbias must have one value for each output")
    if dbias is not None:
        memset(&dbias[0], 0, g.m * sizeof(real))
    if g.n == 0:
        memset(&dw[0, 0], 0, g.d * g.m * sizeof(real))
        return
    g.x, g.w, g.dy, g.dw = &x[0, 0], &w[0, 0], &dy[0, 0], &dw[0, 0]
    g.dx = NULL
    if dx is not None:
        g.dx = &dx[0, 0]
    if dbias is not None:
        column_sums(&dy[0, 0], &dbias[0], g.n, g.m)
    items = (g.d + W_ROWS - 1) // W_ROWS
    blocks = team(items, <double> g.n * g.d * g.m / 16)
    size = g.n * W_ROWS + g.m * PANEL
    memory = <real *> take_scratch(blocks * size, sizeof(real))
    try:
        for b in prange(blocks, nogil=True, num_threads=blocks, schedule="static"):
            backward_items[real](&g, items * b // blocks, items * (b + 1) // blocks, memory + b * size)
    finally:
        free_scratch(memory)
