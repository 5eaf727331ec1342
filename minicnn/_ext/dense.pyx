# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of Dense: forward, and both gradients in one pass over the weights.

Design: all three are the tile (leaves.h) with other strides, on the arrays as they lie in memory.  Only what the tile
cannot read well is copied: rows of x a multiple of a page apart, which all fall on the same lines of the cache; and
blocks of W, transposed, for the gradient of the input.  The gradient of a narrow W (ten classes) would leave vectors of
outputs half empty: it is made transposed, in vectors of inputs.  A single row of x has a leaf of its own.

Items: forward, a block of rows times 32 columns of the output; backward, a block of rows of W.  Every output is one sum
in the order of its index: the bits depend neither on the threads nor on the other samples of the batch.  The gradients
of W and bias are sums over the batch, made cell by cell (jobs.pxd): a block of them stays in the cache meanwhile.
"""
from libc.string cimport memcpy, memset

from minicnn._ext.machinery.jobs cimport (PAGE, WHOLE, Array, Job, Kernel, cells_for, first_half, fixed, new_job,
                                          rows_at, spare_for, submit)
from minicnn._ext.machinery.runtime cimport (APART, LINEAR, Curve, Tile, activate, add_to, chosen_leaves, curve_of,
                                             is_double, matrix_tile, real, require, row_product, tiles, transpose,
                                             use_leaves)

use_leaves(chosen_leaves())

cdef enum:
    PANEL = 32          # columns in an item of forward: two vectors of AVX-512
    ROWS = 64           # rows in an item of forward, at most; of a narrow output, half as many
    DEPTH = 256         # inputs at a time in forward: a panel of that many rows of W is 32 KB
    DEPTH_STRIDE = 272  # of copied rows of x: 17 lines of the cache, so that neighbouring rows use different sets
    W_ROWS = 64         # rows of W in an item of backward
    W_COLUMNS = 32      # of W, whose gradient is summed at a time
    W_STRIDE = 80       # of copied and transposed blocks: 5 lines


cdef struct ForwardArrays:
    Array x                    # (n, d)
    Array w                    # (d, m)
    Array bias                 # (m,)
    Array y                    # (n, m)


cdef struct Forward:
    ForwardArrays arrays
    Py_ssize_t n, d, m         # samples, inputs, outputs
    Py_ssize_t blocks, panels  # of rows, of columns
    Curve curve


cdef struct BackwardArrays:
    Array x                    # (n, d)
    Array w                    # (d, m)
    Array dy                   # (n, m)
    Array dw                   # (d, m)
    Array dbias                # (m,)
    Array dx                   # (n, d)


cdef struct Backward:
    BackwardArrays arrays
    Py_ssize_t n, d, m
    Py_ssize_t rows, cells     # rows of a sample; cells of the batch


cdef inline bint collide(Py_ssize_t rows, Py_ssize_t stride) noexcept nogil:
    """Whether so many rows would displace each other from a cache of eight ways."""
    return rows > 8 and stride % PAGE == 0


# ---- forward ----

cdef void forward_items(const Forward *g, Py_ssize_t first, Py_ssize_t last, real *memory) noexcept nogil:
    """Items are numbered block of rows by block of rows: those of one block are one wide panel."""
    cdef Py_ssize_t block, row, rows, column, columns
    for block in range(first // g.panels, (last + g.panels - 1) // g.panels):
        row = g.n * block // g.blocks
        rows = g.n * (block + 1) // g.blocks - row
        column = max(<Py_ssize_t> 0, first - block * g.panels) * PANEL
        columns = min(g.m, (last - block * g.panels) * PANEL) - column
        forward_area(g, row, rows, column, columns, memory)
        if g.curve.kind != LINEAR:
            activate_area(g, <real *> g.arrays.y.data + row * g.m + column, rows, columns)


cdef void forward_area(const Forward *g, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t column, Py_ssize_t columns,
                       real *copy) noexcept nogil:
    """y[row : row + rows, column : column + columns], a slab of inputs after the other."""
    cdef Py_ssize_t slab, k, r, depth
    cdef const real *x = <const real *> g.arrays.x.data + row * g.d
    cdef const real *w = <const real *> g.arrays.w.data + column
    cdef const real *bias = <const real *> g.arrays.bias.data
    cdef real *y = <real *> g.arrays.y.data + row * g.m + column
    cdef bint copied = columns > PANEL and collide(rows, g.d * sizeof(real))
    cdef Tile t = matrix_tile(DEPTH, 1, g.m, DEPTH_STRIDE if copied else g.d, g.m)
    if bias is not NULL:
        bias += column
    if rows == 1:
        if bias is NULL:
            memset(y, 0, columns * sizeof(real))
        else:
            memcpy(y, bias, columns * sizeof(real))
        row_product(x, g.d, w, g.m, y, columns)
        return
    for slab in range((g.d + DEPTH - 1) // DEPTH):
        k = slab * DEPTH
        depth = min(<Py_ssize_t> DEPTH, g.d - k)
        if copied:
            for r in range(rows):
                memcpy(copy + r * DEPTH_STRIDE, x + r * g.d + k, depth * sizeof(real))
        t.kb, t.accumulate = depth, k > 0
        tiles(&t, rows, columns, <const real *> copy if copied else x + k, w + k * g.m,
              bias if k == 0 else <const real *> NULL, y)


cdef void activate_area(const Forward *g, real *y, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """y = activation(y), while it is in the cache."""
    cdef Py_ssize_t r
    if columns == g.m:
        activate(&g.curve, y, y, rows * g.m)
    else:
        for r in range(rows):
            activate(&g.curve, y + r * g.m, y + r * g.m, columns)


def forward(x not None, w not None, bias, y not None, activation=None):
    """y = activation(x w + bias) for x (N, D), w (D, M), bias (M,) or None, y (N, M); ``activation``: ``curve_of``."""
    if is_double(x):
        forward_in[double](x, w, bias, y, activation)
    else:
        forward_in[float](x, w, bias, y, activation)


cdef int forward_in(const real[:, ::1] x, const real[:, ::1] w, const real[::1] bias, real[:, ::1] y,
                    activation) except -1:
    cdef Forward g
    cdef Job job
    cdef double work
    g.n, g.d, g.m = x.shape[0], x.shape[1], w.shape[1]
    require(w.shape[0] == g.d and y.shape[0] == g.n and y.shape[1] == g.m, "w must be (D, M) and y (N, M)")
    require(bias is None or bias.shape[0] == g.m, "bias must have one value for each output")
    g.arrays.x, g.arrays.y = rows_at(&x[0, 0], g.d), rows_at(<const real *> &y[0, 0], g.m)
    g.arrays.w, g.arrays.bias = fixed(&w[0, 0]), fixed(<const real *> NULL if bias is None else &bias[0])
    g.curve = curve_of(activation)
    g.panels = (g.m + PANEL - 1) // PANEL
    g.blocks = (g.n + ROWS - 1) // ROWS if g.panels > 1 else (2 * g.n + ROWS - 1) // ROWS
    work = (g.n + 4.0) * g.d * g.m / 32  # W has to be read, even for one row
    job = new_job(<Kernel> forward_items[real], WHOLE, sizeof(g.arrays), g.blocks * g.panels, work)
    job.scratch = ROWS * DEPTH_STRIDE * sizeof(real)
    submit(&job, &g, sizeof(g))


# ---- backward ----

cdef void backward_items(const Backward *g, Py_ssize_t first, Py_ssize_t last, real *memory) noexcept nogil:
    """Blocks of rows of W, which stay in the cache for both gradients."""
    cdef Py_ssize_t item, row, rows
    if first == 0 and g.arrays.dbias.data is not NULL:
        bias_gradient(g, <real *> g.arrays.dbias.data, memory)
    for item in range(first, last):
        row = item * W_ROWS
        rows = min(<Py_ssize_t> W_ROWS, g.d - row)
        if g.m < PANEL:
            narrow_weight_gradient(g, row, rows, memory)
        else:
            weight_gradient(g, row, rows, memory)
        if g.arrays.dx.data is not NULL:
            input_gradient(g, row, rows, memory)


cdef void product(const Backward *g, Py_ssize_t cells, Py_ssize_t n, const real *a, Py_ssize_t a_step,
                  Py_ssize_t height, const real *b, Py_ssize_t b_step, Py_ssize_t width, real *sum, Py_ssize_t row,
                  real *spare) noexcept nogil:
    """sum (height, width) = a^T b over n samples, in the tree: `a_step`, `b_step` elements from one of their rows to
    the next, `row` of the sum.  What is added to it lies in the spare memory, which stays in the cache."""
    cdef Py_ssize_t i, half = first_half(n), before = half * g.rows
    cdef Tile t = matrix_tile(n * g.rows, a_step, b_step, 1, row)
    if cells == 1:
        tiles(&t, height, width, a, b, <const real *> NULL, sum)
        return
    product(g, cells // 2, half, a, a_step, height, b, b_step, width, sum, row, spare)
    a, b = a + before * a_step, b + before * b_step
    if cells == 2 and width % 8 == 0 and real is float:  # the second is added in registers
        t.kb, t.accumulate = (n - half) * g.rows, APART
        tiles(&t, height, width, a, b, <const real *> NULL, sum)
        return
    product(g, cells // 2, n - half, a, a_step, height, b, b_step, width, spare, width, spare + height * width)
    if row == width:
        add_to(<const real *> spare, sum, height * width)
        return
    for i in range(height):
        add_to(<const real *> spare + i * width, sum + i * row, width)


cdef void weight_gradient(const Backward *g, Py_ssize_t row, Py_ssize_t rows, real *copy) noexcept nogil:
    """dW = x^T dy"""
    cdef Py_ssize_t r, column
    cdef const real *x = <const real *> g.arrays.x.data + row
    cdef bint copied = collide(g.n, g.d * sizeof(real))
    if copied:
        for r in range(g.n):
            memcpy(copy + r * W_STRIDE, x + r * g.d, rows * sizeof(real))
    for r in range((g.m + W_COLUMNS - 1) // W_COLUMNS):
        column = r * W_COLUMNS
        product(g, g.cells, g.n // g.rows, <const real *> copy if copied else x, W_STRIDE if copied else g.d, rows,
                <const real *> g.arrays.dy.data + column, g.m, min(<Py_ssize_t> W_COLUMNS, g.m - column),
                <real *> g.arrays.dw.data + row * g.m + column, g.m, copy + (g.n * W_STRIDE if copied else 0))


cdef void narrow_weight_gradient(const Backward *g, Py_ssize_t row, Py_ssize_t rows, real *copy) noexcept nogil:
    """dW^T = dy^T x, and then transposed"""
    product(g, g.cells, g.n // g.rows, <const real *> g.arrays.dy.data, g.m, g.m, <const real *> g.arrays.x.data + row,
            g.d, rows, copy, rows, copy + g.m * rows)
    transpose(copy, rows, g.m, rows, <real *> g.arrays.dw.data + row * g.m, g.m)


cdef void input_gradient(const Backward *g, Py_ssize_t row, Py_ssize_t rows, real *transposed) noexcept nogil:
    """dx = dy W^T"""
    cdef Tile t = matrix_tile(g.m, 1, W_STRIDE, g.m, g.d)
    transpose(<const real *> g.arrays.w.data + row * g.m, g.m, rows, g.m, transposed, W_STRIDE)
    tiles(&t, g.n, rows, <const real *> g.arrays.dy.data, transposed, <const real *> NULL,
          <real *> g.arrays.dx.data + row)


cdef void bias_gradient(const Backward *g, real *dbias, real *spare) noexcept nogil:
    """The sum of the rows of dy: a row of ones times dy."""
    cdef real one = 1
    product(g, g.cells, g.n // g.rows, &one, 0, 1, <const real *> g.arrays.dy.data, g.m, g.m, dbias, g.m, spare)


def backward(x not None, w not None, dy not None, dw not None, dbias, dx, Py_ssize_t rows=1):
    """Overwrites dw (D, M), dbias ((M,) or None) and dx ((N, D) or None: not wanted) for dy (N, M).

    ``rows``: of x that are one sample.
    """
    if is_double(x):
        backward_in[double](x, w, dy, dw, dbias, dx, rows)
    else:
        backward_in[float](x, w, dy, dw, dbias, dx, rows)


cdef int backward_in(const real[:, ::1] x, const real[:, ::1] w, const real[:, ::1] dy, real[:, ::1] dw,
                     real[::1] dbias, real[:, ::1] dx, Py_ssize_t rows) except -1:
    cdef Backward g
    cdef Job job
    cdef Py_ssize_t area
    g.n, g.d, g.m = x.shape[0], x.shape[1], w.shape[1]
    require(w.shape[0] == g.d and dw.shape[0] == g.d and dw.shape[1] == g.m, "w and dw must be (D, M)")
    require(dy.shape[0] == g.n and dy.shape[1] == g.m, "dy must be (N, M)")
    require(dx is None or (dx.shape[0] == g.n and dx.shape[1] == g.d), "dx must be (N, D)")
    require(dbias is None or dbias.shape[0] == g.m, "dbias must have one value for each output")
    require(rows > 0 and g.n % rows == 0, "rows must be those of a sample")
    g.rows, g.cells = rows, cells_for(g.n // rows)
    g.arrays.x, g.arrays.dy = rows_at(&x[0, 0], g.d), rows_at(&dy[0, 0], g.m)
    g.arrays.w, g.arrays.dw = fixed(&w[0, 0]), fixed(&dw[0, 0])
    g.arrays.dx = rows_at(<const real *> NULL if dx is None else <const real *> &dx[0, 0], g.d)
    g.arrays.dbias = fixed(NULL if dbias is None else &dbias[0])
    job = new_job(<Kernel> backward_items[real], WHOLE, sizeof(g.arrays), (g.d + W_ROWS - 1) // W_ROWS,
                  <double> g.n * g.d * g.m / 16)
    area = W_ROWS * min(g.m, <Py_ssize_t> W_COLUMNS)  # of a sum; bias_gradient has one of m, in the same place
    job.scratch = max(g.n * W_STRIDE + area + spare_for(g.cells, max(area, g.m)), g.m * W_STRIDE) * sizeof(real)
    submit(&job, &g, sizeof(g))
