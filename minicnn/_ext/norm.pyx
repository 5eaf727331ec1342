# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of BatchNormalization over x (N, rows of a sample, C): R = N rows values of each of C channels.

Design: three jobs each way.  Sums run down the columns in blocks of rows, which are a function of the shapes alone:
parts of an image where images are long, so that a plan sums up an image while it is in the cache, or else parts of the
rows of a cell of the batch (jobs.pxd).  The blocks' means and squares are merged in double (Chan, Golub and LeVeque,
"Updating formulae and a pairwise algorithm for computing sample variances", 1979), in order within a cell and then cell
by cell in the tree, so that neither threads nor a large mean cost accuracy.  Then images are normalised, each channel
with factors that the merging job has written.

Of a node of a batch `forward_training` and `backward` make the sums alone, and in a second call, given those of the
whole batch, which other processes have had a part in, the rest.

The factors of a channel stand in "lists" of `width` values (`wide` in leaves.h): those of all channels, over and over.

LayerNormalization and GroupNormalization, whose statistics are of one sample: one job each way takes image after
image, and while it is in the cache sums it up and normalises it.  Backward has the gradients of gamma and beta summed
chunk by chunk of the batch (jobs.pxd), row after row, and another job adds the chunks.  What is one row is summed in
vectors along it; the channels of a group in images are summed up like those of a batch, column by column, then merged.
"""
from libc.math cimport sqrt
from libc.string cimport memcpy, memset

from minicnn._ext.machinery.jobs cimport (AFTER, BEFORE, CHUNKS, IMAGES, WHOLE, Array, Cell, Job, Kernel, Place,
                                          add_tree, borrow, cell_of, cell_start, cells_for, chunks_for, fixed,
                                          give_back, item, new_job, part_start, parts_for, rows_at, spare_for, submit)
from minicnn._ext.machinery.runtime cimport (chosen_leaves, column_moments, column_products, column_sums, is_double,
                                             layer_norm, layer_norm_grad, normalize, normalize_grad, real, require,
                                             use_leaves, wide)

use_leaves(chosen_leaves())

cdef enum:
    BLOCK = 16384  # elements of a block of rows, at most but for one row
    LONG = 4096    # elements of an image from which on it has blocks of its own
    DEEP = 32      # and rows: to merge a block takes about as long as to sum up some rows of it
    KEPT = 3       # numbers that are kept of each mean and variance: m, t, s (`layer_norm` in norm.h)
    SLICE = 4096   # numbers that are taken together, parameters or those of several samples


cdef struct Shape:
    Py_ssize_t n, rows, c      # samples, rows of one, channels
    Py_ssize_t cells           # of the batch
    bint by_image              # blocks are parts of images, or else of the rows of a cell
    Py_ssize_t height          # rows of a block, at most
    Py_ssize_t cuts            # blocks of an image, or of the largest cell
    Py_ssize_t blocks          # in all; a small cell may have fewer than its place has
    Py_ssize_t width           # of a list of factors


cdef struct SumArrays:
    Array x
    Array dy             # backward
    Array mean           # (c,), backward
    Array partials       # (2, blocks, c) double: mean and sum of squares around it; sums of dy and of (x - mean) dy


cdef struct Sums:
    SumArrays arrays
    Shape shape


cdef struct MergeArrays:
    Array partials       # as in SumArrays
    Array factors        # lists: mean, a, b; backward mean, a, b, d (as in `normalize`, `normalize_grad`)
    Array gamma          # all others: (c,)
    Array beta           # forward
    Array mean
    Array inverse_std    # in eval mode absent
    Array first          # moving mean; backward dgamma
    Array second         # moving variance; backward dbeta
    Array sums           # (1 + 2 c,) double: rows and what is merged, of the node or of the batch; or absent


cdef struct Merge:
    MergeArrays arrays
    Shape shape
    double epsilon, momentum
    bint own, alone      # the sums are merged here; and nothing else is done


cdef struct ApplyArrays:
    Array x
    Array dy             # backward
    Array factors
    Array y              # output, or dx


cdef struct Apply:
    ApplyArrays arrays
    Shape shape


cdef Shape shape_of(const Py_ssize_t *x_shape) except *:
    cdef Shape s
    require(x_shape[2] > 0, "x must have at least one channel")
    s.n, s.rows, s.c, s.cells = x_shape[0], x_shape[1], x_shape[2], cells_for(x_shape[0])
    s.by_image = s.rows >= DEEP and s.rows * s.c >= LONG
    s.height = max(<Py_ssize_t> 1, BLOCK // s.c)
    s.cuts = cuts_of(&s, s.rows if s.by_image else cell_start(1, s.cells, s.n) * s.rows)
    s.blocks = (s.n if s.by_image else s.cells) * s.cuts
    s.width = wide(s.c)
    return s


cdef inline Py_ssize_t cuts_of(const Shape *s, Py_ssize_t rows) noexcept nogil:
    return max(<Py_ssize_t> 1, (rows + s.height - 1) // s.height)


cdef Py_ssize_t block_rows(const Shape *s, Py_ssize_t i, Py_ssize_t *first) noexcept nogil:
    """How many rows block i has, and the first, counted through its image or through all of the batch."""
    cdef Py_ssize_t k = i % s.cuts, start = 0, length = s.rows, cuts = s.cuts
    if not s.by_image:
        start = cell_start(i // s.cuts, s.cells, s.n) * s.rows
        length = cell_start(i // s.cuts + 1, s.cells, s.n) * s.rows - start
        cuts = cuts_of(s, length)
    first[0] = start + part_start(k, cuts, length)
    return part_start(k + 1, cuts, length) - part_start(k, cuts, length) if k < cuts else 0


cdef inline Py_ssize_t first_block(const Shape *s, Py_ssize_t cell) noexcept nogil:
    return (cell_start(cell, s.cells, s.n) if s.by_image else cell) * s.cuts


cdef inline const real *block_of(Array array, const Shape *s, Py_ssize_t i, Py_ssize_t row,
                                 const real *_as) noexcept nogil:
    """Where block i begins, whose first row is `row`."""
    return <const real *> item(array, i // s.cuts if s.by_image else 0) + row * s.c


cdef void block_moments(const Sums *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    """Sums of d and d^2 with d = x - the block's first row: that keeps them small where the mean is large."""
    cdef Py_ssize_t i, j, c = g.shape.c, row, rows
    cdef const real *x
    cdef double *means = <double *> g.arrays.partials.data
    cdef double *squares = means + g.shape.blocks * c
    for i in range(first, last):
        rows = block_rows(&g.shape, i, &row)
        if rows == 0:
            continue
        x = block_of[real](g.arrays.x, &g.shape, i, row, scratch)
        column_moments(x, x, scratch, scratch + c, rows, c)
        for j in range(c):
            means[i * c + j] = x[j] + <double> scratch[j] / rows
            squares[i * c + j] = scratch[c + j] - <double> scratch[j] * scratch[j] / rows


cdef void block_products(const Sums *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, j, c = g.shape.c, row, rows
    cdef double *sums = <double *> g.arrays.partials.data
    cdef double *products = sums + g.shape.blocks * c
    for i in range(first, last):
        rows = block_rows(&g.shape, i, &row)
        column_products(block_of[real](g.arrays.x, &g.shape, i, row, scratch),
                        block_of[real](g.arrays.dy, &g.shape, i, row, scratch), <const real *> g.arrays.mean.data,
                        scratch, scratch + c, rows, c)
        for j in range(c):
            sums[i * c + j] = scratch[j]
            products[i * c + j] = scratch[c + j]


cdef void repeat(real *factors, Py_ssize_t c, Py_ssize_t width, int lists) noexcept nogil:
    """Of each list the first C values are there; now all."""
    cdef Py_ssize_t k, j
    for k in range(lists):
        for j in range(c, width):
            factors[k * width + j] = factors[k * width + j - c]


cdef double join(double *means, double *squares, double count, const double *more_means, const double *more_squares,
                 double more, Py_ssize_t c) noexcept nogil:
    """Chan's update: mean and sum of squares around it of `count` rows, and now of `more` others too.  Returns how many
    rows these are."""
    cdef Py_ssize_t j
    cdef double share, delta
    if more > 0:
        share = more / (count + more)
        for j in range(c):
            delta = more_means[j] - means[j]
            squares[j] += more_squares[j] + delta * delta * (count * share)
            means[j] += delta * share
    return count + more


cdef double merge_moments(const Merge *g, Py_ssize_t cell, Py_ssize_t cells, double *center) noexcept nogil:
    """Mean and sum of squares of some cells, 2 C numbers, and as many behind them for every level of the tree."""
    cdef Py_ssize_t i, row, c = g.shape.c
    cdef double count = 0, more
    cdef const double *means = <const double *> g.arrays.partials.data
    cdef const double *squares = means + g.shape.blocks * c
    if cells > 1:
        cells //= 2
        count = merge_moments(g, cell, cells, center)
        more = merge_moments(g, cell + cells, cells, center + 2 * c)
        return join(center, center + c, count, center + 2 * c, center + 3 * c, more, c)
    memset(center, 0, 2 * c * sizeof(double))
    for i in range(first_block(&g.shape, cell), first_block(&g.shape, cell + 1)):
        count = join(center, center + c, count, means + i * c, squares + i * c, block_rows(&g.shape, i, &row), c)
    return count


cdef void merge_sums(const Merge *g, Py_ssize_t cell, Py_ssize_t cells, double *sums, const real *_as) noexcept nogil:
    """Of some cells the sums of dy and (x - mean) dy, 2 C numbers, and behind them the gradients, 2 C of the working
    type; and as much again for every level of the tree."""
    cdef Py_ssize_t i, j, c = g.shape.c
    cdef const double *partials = <const double *> g.arrays.partials.data
    cdef double *products = sums + c
    cdef double *more = sums + 4 * c
    cdef real *gradients = <real *> (sums + 2 * c)
    cdef real *more_gradients = <real *> (more + 2 * c)
    if cells > 1:
        cells //= 2
        merge_sums(g, cell, cells, sums, _as)
        merge_sums(g, cell + cells, cells, more, _as)
        for j in range(2 * c):
            sums[j] += more[j]
            gradients[j] += more_gradients[j]
        return
    memset(sums, 0, 2 * c * sizeof(double))
    for i in range(first_block(&g.shape, cell), first_block(&g.shape, cell + 1)):
        for j in range(c):
            sums[j] += partials[i * c + j]
            products[j] += partials[(g.shape.blocks + i) * c + j]
    for j in range(c):
        gradients[j] = <real> (products[j] * (<const real *> g.arrays.inverse_std.data)[j])
        gradients[c + j] = <real> sums[j]


cdef void forward_factors(const Merge *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    """From the statistics of the batch: what backward needs, the moving statistics, the factors."""
    cdef Py_ssize_t j, c = g.shape.c, width = g.shape.width
    cdef double *found = <double *> scratch
    cdef double *sums = <double *> g.arrays.sums.data
    cdef double variance
    cdef real *factors = <real *> g.arrays.factors.data
    cdef real *mean = <real *> g.arrays.mean.data
    cdef real *inverse_std = <real *> g.arrays.inverse_std.data
    cdef real *moving_mean = <real *> g.arrays.first.data
    cdef real *moving_variance = <real *> g.arrays.second.data
    if g.own:
        sums[0] = merge_moments(g, 0, g.shape.cells, found)
        memcpy(sums + 1, found, 2 * c * sizeof(double))
    if g.alone:
        return
    for j in range(c):
        variance = sums[1 + c + j] / sums[0]
        mean[j] = <real> sums[1 + j]
        inverse_std[j] = <real> (1 / sqrt(variance + g.epsilon))
        moving_mean[j] = <real> (g.momentum * moving_mean[j] + (1 - g.momentum) * sums[1 + j])
        moving_variance[j] = <real> (g.momentum * moving_variance[j] + (1 - g.momentum) * variance)
        factors[j] = mean[j]
        factors[width + j] = (<const real *> g.arrays.gamma.data)[j] * inverse_std[j]
        factors[2 * width + j] = (<const real *> g.arrays.beta.data)[j]
    repeat(factors, c, width, 3)


cdef void eval_factors(const Merge *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t j, width = g.shape.width
    cdef real *factors = <real *> g.arrays.factors.data
    for j in range(g.shape.c):
        factors[j] = (<const real *> g.arrays.first.data)[j]
        factors[width + j] = <real> ((<const real *> g.arrays.gamma.data)[j]
                                     / sqrt((<const real *> g.arrays.second.data)[j] + g.epsilon))
        factors[2 * width + j] = (<const real *> g.arrays.beta.data)[j]
    repeat(factors, g.shape.c, width, 3)


cdef void backward_factors(const Merge *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    """And, where the sums are made here, the gradients of gamma and beta."""
    cdef Py_ssize_t j, c = g.shape.c, width = g.shape.width
    cdef double *found = <double *> scratch
    cdef double *sums = <double *> g.arrays.sums.data
    cdef double a, s
    cdef real *factors = <real *> g.arrays.factors.data
    if g.own:
        merge_sums(g, 0, g.shape.cells, found, scratch)
        sums[0] = g.shape.n * g.shape.rows
        memcpy(sums + 1, found, 2 * c * sizeof(double))
        memcpy(g.arrays.first.data, found + 2 * c, c * sizeof(real))
        memcpy(g.arrays.second.data, <real *> (found + 2 * c) + c, c * sizeof(real))
    if g.alone:
        return
    for j in range(c):
        s = (<const real *> g.arrays.inverse_std.data)[j]
        a = (<const real *> g.arrays.gamma.data)[j] * s
        factors[j] = (<const real *> g.arrays.mean.data)[j]
        factors[width + j] = <real> a
        factors[2 * width + j] = <real> (a * sums[1 + c + j] * s * s / sums[0])
        factors[3 * width + j] = <real> (a * sums[1 + j] / sums[0])
    repeat(factors, c, width, 4)


cdef void normalize_images(const Apply *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, width = g.shape.width
    cdef const real *factors = <const real *> g.arrays.factors.data
    for i in range(first, last):
        normalize(<const real *> item(g.arrays.x, i), factors, factors + width, factors + 2 * width,
                  <real *> item(g.arrays.y, i), g.shape.rows * g.shape.c, width)


cdef void gradient_images(const Apply *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, width = g.shape.width
    cdef const real *factors = <const real *> g.arrays.factors.data
    for i in range(first, last):
        normalize_grad(<const real *> item(g.arrays.x, i), <const real *> item(g.arrays.dy, i), factors,
                       factors + width, factors + 2 * width, factors + 3 * width,
                       <real *> item(g.arrays.y, i), g.shape.rows * g.shape.c, width)


# ---- jobs ----

cdef int sum_up(Kernel kernel, const Sums *g, Py_ssize_t size) except -1:
    cdef const Shape *s = &g.shape
    cdef Job job = new_job(kernel, WHOLE, sizeof(g.arrays), s.blocks, s.n * s.rows * s.c / 4.0)
    if s.by_image:
        job.place, job.items, job.parts = IMAGES, s.n, s.cuts
    job.scratch = 2 * s.c * size
    return submit(&job, g, sizeof(Sums))


cdef int merge(Kernel kernel, Place place, const Merge *g) except -1:
    cdef Py_ssize_t c = g.shape.c
    cdef Job job = new_job(kernel, place, sizeof(g.arrays), 1, g.shape.blocks * c + 10.0 * c)
    job.scratch = (4 * c + spare_for(g.shape.cells, 4 * c)) * sizeof(double)
    return submit(&job, g, sizeof(Merge))


cdef int apply(Kernel kernel, const Apply *g) except -1:
    cdef const Shape *s = &g.shape
    cdef Job job = new_job(kernel, IMAGES, sizeof(g.arrays), s.n, s.n * s.rows * s.c / 4.0)
    return submit(&job, g, sizeof(Apply))


cdef int begin(Merge *g, const Shape *s, char *partials, char *factors, const double[::1] sums, bint alone) except -1:
    """Where the sums are: those of the batch, given by others, or to be made of the blocks' (`own`)."""
    require((sums is None and not alone) or (sums is not None and sums.shape[0] == 1 + 2 * s.c),
            "sums must have 1 + 2 C numbers")
    memset(g, 0, sizeof(Merge))
    g.shape, g.own, g.alone = s[0], alone or sums is None, alone
    g.arrays.sums = fixed(partials + 2 * s.blocks * s.c * sizeof(double)) if sums is None else fixed(&sums[0])
    g.arrays.partials, g.arrays.factors = fixed(partials), fixed(factors)
    return 0


def join_statistics(double[::1] sums not None, const double[::1] more not None):
    """Adds to the sums of ``forward_training`` of some samples those of others that follow them."""
    cdef Py_ssize_t c = sums.shape[0] // 2
    require(sums.shape[0] % 2 == 1 and more.shape[0] == sums.shape[0], "both must have 1 + 2 C numbers")
    sums[0] = join(&sums[0] + 1, &sums[0] + 1 + c, sums[0], &more[0] + 1, &more[0] + 1 + c, more[0], c)


def forward_training(x not None, gamma not None, beta not None, double epsilon, double momentum, mean not None,
                     inverse_std not None, moving_mean not None, moving_variance not None, y, double[::1] sums=None):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta with the statistics of the batch (biased variance).

    x, y: (N, rows of a sample, C).  Writes ``mean`` and ``inverse_std`` = 1 / sqrt(variance + epsilon) for backward,
    and moves the moving statistics: moving = momentum * moving + (1 - momentum) * batch.

    Where x is not all of the batch: y None writes nothing but ``sums`` (1 + 2 C,) of x, which are the rows R and of
    each channel the mean and the sum of squares around it; with y, ``sums`` are those of the batch.
    """
    if is_double(x):
        forward_training_in[double](x, gamma, beta, epsilon, momentum, mean, inverse_std, moving_mean, moving_variance,
                                    y, sums)
    else:
        forward_training_in[float](x, gamma, beta, epsilon, momentum, mean, inverse_std, moving_mean, moving_variance,
                                   y, sums)


cdef int forward_training_in(const real[:, :, ::1] x, const real[::1] gamma, const real[::1] beta, double epsilon,
                             double momentum, real[::1] mean, real[::1] inverse_std, real[::1] moving_mean,
                             real[::1] moving_variance, real[:, :, ::1] y, double[::1] sums) except -1:
    cdef Shape s = shape_of(x.shape)
    require(y is None or (y.shape[0] == s.n and y.shape[1] == s.rows and y.shape[2] == s.c),
            "y must have the shape of x")
    require(gamma.shape[0] == s.c and beta.shape[0] == s.c and mean.shape[0] == s.c and inverse_std.shape[0] == s.c
            and moving_mean.shape[0] == s.c and moving_variance.shape[0] == s.c,
            "every vector must have one value for each channel of x")
    cdef Array images = rows_at(&x[0, 0, 0], s.rows * s.c)
    cdef char *partials = borrow((2 * s.blocks * s.c + 1 + 2 * s.c) * sizeof(double), False)
    cdef char *factors = NULL
    cdef Sums blocks
    cdef Merge g
    cdef Apply last
    try:
        factors = borrow(3 * s.width * sizeof(real), False)
        begin(&g, &s, partials, factors, sums, y is None)
        blocks.arrays.x, blocks.arrays.dy, blocks.arrays.mean = images, fixed(NULL), fixed(NULL)
        blocks.arrays.partials, blocks.shape = g.arrays.partials, s
        g.arrays.gamma, g.arrays.beta, g.arrays.mean = fixed(&gamma[0]), fixed(&beta[0]), fixed(&mean[0])
        g.arrays.inverse_std, g.arrays.first = fixed(&inverse_std[0]), fixed(&moving_mean[0])
        g.arrays.second, g.epsilon, g.momentum = fixed(&moving_variance[0]), epsilon, momentum
        if g.own:
            sum_up(<Kernel> block_moments[real], &blocks, sizeof(real))
        merge(<Kernel> forward_factors[real], WHOLE, &g)
        if y is not None:
            last.arrays.x, last.arrays.dy, last.arrays.factors = images, fixed(NULL), fixed(factors)
            last.arrays.y, last.shape = rows_at(<const real *> &y[0, 0, 0], s.rows * s.c), s
            apply(<Kernel> normalize_images[real], &last)
    finally:
        give_back(partials)
        give_back(factors)


def forward(x not None, gamma not None, beta not None, double epsilon, mean not None, variance not None, y not None):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta with given statistics: what eval mode does."""
    if is_double(x):
        forward_in[double](x, gamma, beta, epsilon, mean, variance, y)
    else:
        forward_in[float](x, gamma, beta, epsilon, mean, variance, y)


cdef int forward_in(const real[:, :, ::1] x, const real[::1] gamma, const real[::1] beta, double epsilon,
                    const real[::1] mean, const real[::1] variance, real[:, :, ::1] y) except -1:
    cdef Shape s = shape_of(x.shape)
    require(y.shape[0] == s.n and y.shape[1] == s.rows and y.shape[2] == s.c, "y must have the shape of x")
    require(gamma.shape[0] == s.c and beta.shape[0] == s.c and mean.shape[0] == s.c and variance.shape[0] == s.c,
            "every vector must have one value for each channel of x")
    cdef Array images = rows_at(&x[0, 0, 0], s.rows * s.c), results = rows_at(<const real *> &y[0, 0, 0], s.rows * s.c)
    cdef char *factors = borrow(3 * s.width * sizeof(real), False)
    cdef Merge g
    cdef Apply last
    begin(&g, &s, NULL, factors, None, False)
    g.arrays.sums, g.arrays.gamma, g.arrays.beta = fixed(NULL), fixed(&gamma[0]), fixed(&beta[0])
    g.arrays.first, g.arrays.second, g.epsilon = fixed(&mean[0]), fixed(&variance[0]), epsilon
    last.arrays.x, last.arrays.dy, last.arrays.factors = images, fixed(NULL), fixed(factors)
    last.arrays.y, last.shape = results, s
    try:
        merge(<Kernel> eval_factors[real], BEFORE, &g)
        apply(<Kernel> normalize_images[real], &last)
    finally:
        give_back(factors)


def backward(x not None, dy not None, gamma not None, mean not None, inverse_std not None, dgamma not None,
             dbeta not None, dx, double[::1] sums=None):
    """Gradients through the statistics of the batch (Ioffe and Szegedy, ICML 2015, section 3), with s = inverse_std:

    dbeta = sum dy;  dgamma = s sum (x - mean) dy;
    dx = gamma s (dy - dbeta / R - (x - mean) s dgamma / R).

    Where x is not all of the batch: dx None writes dgamma and dbeta, which are parts of the batch's, and ``sums``
    (1 + 2 C,), the rows R and of each channel sum dy and sum (x - mean) dy; with dx, ``sums`` are those of the batch,
    and dgamma and dbeta are left alone.
    """
    if is_double(x):
        backward_in[double](x, dy, gamma, mean, inverse_std, dgamma, dbeta, dx, sums)
    else:
        backward_in[float](x, dy, gamma, mean, inverse_std, dgamma, dbeta, dx, sums)


cdef int backward_in(const real[:, :, ::1] x, const real[:, :, ::1] dy, const real[::1] gamma, const real[::1] mean,
                     const real[::1] inverse_std, real[::1] dgamma, real[::1] dbeta, real[:, :, ::1] dx,
                     double[::1] sums) except -1:
    cdef Shape s = shape_of(x.shape)
    require(dy.shape[0] == s.n and dy.shape[1] == s.rows and dy.shape[2] == s.c
            and (dx is None or (dx.shape[0] == s.n and dx.shape[1] == s.rows and dx.shape[2] == s.c)),
            "dy and dx must have the shape of x")
    require(gamma.shape[0] == s.c and mean.shape[0] == s.c and inverse_std.shape[0] == s.c
            and dgamma.shape[0] == s.c and dbeta.shape[0] == s.c,
            "every vector must have one value for each channel of x")
    cdef Array images = rows_at(&x[0, 0, 0], s.rows * s.c), slopes = rows_at(&dy[0, 0, 0], s.rows * s.c)
    cdef char *partials = borrow((2 * s.blocks * s.c + 1 + 2 * s.c) * sizeof(double), False)
    cdef char *factors = NULL
    cdef Sums blocks
    cdef Merge g
    cdef Apply last
    try:
        factors = borrow(4 * s.width * sizeof(real), False)
        begin(&g, &s, partials, factors, sums, dx is None)
        blocks.arrays.x, blocks.arrays.dy, blocks.arrays.mean = images, slopes, fixed(&mean[0])
        blocks.arrays.partials, blocks.shape = g.arrays.partials, s
        g.arrays.gamma, g.arrays.mean, g.arrays.inverse_std = fixed(&gamma[0]), fixed(&mean[0]), fixed(&inverse_std[0])
        g.arrays.first, g.arrays.second = fixed(&dgamma[0]), fixed(&dbeta[0])
        if g.own:
            sum_up(<Kernel> block_products[real], &blocks, sizeof(real))
        merge(<Kernel> backward_factors[real], WHOLE, &g)
        if dx is not None:
            last.arrays.x, last.arrays.dy, last.arrays.factors = images, slopes, fixed(factors)
            last.arrays.y, last.shape = rows_at(<const real *> &dx[0, 0, 0], s.rows * s.c), s
            apply(<Kernel> gradient_images[real], &last)
    finally:
        give_back(partials)
        give_back(factors)


# ---- statistics of one sample ----

cdef struct SampleArrays:
    Array x
    Array dy         # backward
    Array gamma      # (size,)
    Array beta       # (size,), forward
    Array kept       # (n, means and variances of a sample, KEPT)
    Array partials   # (chunks, 2, size): sums for dgamma and dbeta, backward
    Array y          # output, or dx


cdef struct Sample:
    SampleArrays arrays
    Py_ssize_t n, rows      # samples, rows of one
    Py_ssize_t length       # of a row that is normalised; groups: channels of a pixel
    Py_ssize_t period       # rows until gamma begins again: 1, or all rows of a sample
    Py_ssize_t groups       # of channels
    Py_ssize_t width        # of a list of factors
    Py_ssize_t size         # parameters
    Py_ssize_t parts, chunks
    double epsilon


cdef struct MergedArrays:
    Array partials
    Array dgamma     # (size,), or NULL
    Array dbeta


cdef struct Merged:
    MergedArrays arrays
    Py_ssize_t n, size, chunks


cdef inline Py_ssize_t row_of(Array array, const real *_as) noexcept nogil:
    """Elements from one image to the next."""
    return array.step // <Py_ssize_t> sizeof(real)


cdef inline real *partial_of(const Sample *g, Py_ssize_t image, const real *_as) noexcept nogil:
    """The partial sums that an image's are added to, zero at first."""
    cdef Cell chunk = cell_of(image, g.chunks, g.n)
    cdef real *partial = <real *> g.arrays.partials.data + chunk.number * 2 * g.size
    if image == chunk.first:
        memset(partial, 0, 2 * g.size * sizeof(real))
    return partial


# Rows: where gamma is another for each row of a sample, or samples are one row, the same rows of some samples are taken
# together.

cdef inline Py_ssize_t images_together(const Sample *g) noexcept nogil:
    """So many that they stay in the cache from row to row."""
    return max(<Py_ssize_t> 16, SLICE // g.size)


cdef void forward_rows(const Sample *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, k, image, start, end, n = g.length
    cdef const real *gamma = <const real *> g.arrays.gamma.data
    cdef const real *beta = <const real *> g.arrays.beta.data
    while g.period == g.rows and first < last:
        end = min(last, first + images_together(g))
        for k in range(g.rows):
            layer_norm(<const real *> item(g.arrays.x, first) + k * n, row_of(g.arrays.x, scratch), gamma + k * n,
                       beta + k * n, <real> g.epsilon, <real *> item(g.arrays.y, first) + k * n,
                       row_of(g.arrays.y, scratch), <real *> item(g.arrays.kept, first) + k * KEPT,
                       row_of(g.arrays.kept, scratch), end - first, n)
        first = end
    for i in range(first, last):
        image, start = i // g.parts, part_start(i % g.parts, g.parts, g.rows)
        end = part_start(i % g.parts + 1, g.parts, g.rows)
        layer_norm(<const real *> item(g.arrays.x, image) + start * n, n, gamma, beta, <real> g.epsilon,
                   <real *> item(g.arrays.y, image) + start * n, n,
                   <real *> item(g.arrays.kept, image) + start * KEPT, KEPT, end - start, n)


cdef void backward_rows(const Sample *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i = first, k, end, n = g.length
    cdef const real *gamma = <const real *> g.arrays.gamma.data
    cdef real *sums
    while i < last:
        sums, end = partial_of(g, i, scratch), i + 1
        if g.period != g.rows:
            layer_norm_grad(<const real *> item(g.arrays.x, i), n, <const real *> item(g.arrays.dy, i), n, gamma,
                            <const real *> item(g.arrays.kept, i), KEPT, <real *> item(g.arrays.y, i), n, sums,
                            sums + g.size, g.rows, n)
        else:
            end = min(last, i + images_together(g), cell_of(i, g.chunks, g.n).end)
            for k in range(g.rows):
                layer_norm_grad(<const real *> item(g.arrays.x, i) + k * n, row_of(g.arrays.x, scratch),
                                <const real *> item(g.arrays.dy, i) + k * n, row_of(g.arrays.dy, scratch),
                                gamma + k * n, <const real *> item(g.arrays.kept, i) + k * KEPT,
                                row_of(g.arrays.kept, scratch), <real *> item(g.arrays.y, i) + k * n,
                                row_of(g.arrays.y, scratch), sums + k * n, sums + g.size + k * n, end - i, n)
        i = end


# Groups of channels in images.  Scratch memory: two sums of each channel in double, then the lists of factors, then
# three numbers of each channel.

cdef inline Py_ssize_t group_scratch(const Sample *g, Py_ssize_t size) noexcept nogil:
    return 2 * g.length * sizeof(double) + (4 * g.width + 3 * g.length) * size


cdef inline Py_ssize_t blocks_of(const Sample *g) noexcept nogil:
    """Into which the rows are cut for sums over them."""
    return (g.rows * g.length + BLOCK - 1) // BLOCK


cdef inline void scale(real *x, real factor, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        x[i] *= factor


cdef void channel_moments(const Sample *g, const real *x, double *sums, double *squares,
                          real *shift) noexcept nogil:
    """Of each channel the sums of d and d^2 with d = x - shift.

    The shift is the mean of the first eighth of the rows: (shift - mean)^2 is then at most 8 times the variance, by
    Cauchy and Schwarz, whatever the values are, and the sums are small enough.
    """
    cdef Py_ssize_t j, c = g.length, block, row, rows = (g.rows + 7) // 8
    memset(shift, 0, c * sizeof(real))
    memset(sums, 0, 2 * c * sizeof(double))
    column_sums(x, shift, rows, c)
    scale(shift, <real> (1.0 / rows), c)
    for block in range(blocks_of(g)):
        row = part_start(block, blocks_of(g), g.rows)
        column_moments(x + row * c, shift, shift + c, shift + 2 * c,
                       part_start(block + 1, blocks_of(g), g.rows) - row, c)
        for j in range(c):
            sums[j] += shift[c + j]
            squares[j] += shift[2 * c + j]


cdef void keep_statistics(const Sample *g, const double *sums, const double *squares, const real *shift,
                          real *kept) noexcept nogil:
    """Merges the channels of each group: their means around that of the first, and the squares around them."""
    cdef Py_ssize_t _, j, d = g.length // g.groups
    cdef double mean, off, square, inverse_std, rows = g.rows, share = 1 / rows, of_group = 1.0 / d
    for _ in range(g.groups):
        mean = square = 0
        for j in range(d):
            mean += shift[j] - <double> shift[0] + sums[j] * share
        mean *= of_group
        for j in range(d):
            off = sums[j] * share
            square += squares[j] - sums[j] * off
            off += shift[j] - <double> shift[0] - mean
            square += off * off * rows
        mean += shift[0]
        inverse_std = 1 / sqrt(max(<double> 0, square * share * of_group) + g.epsilon)
        kept[0] = <real> mean
        kept[1] = <real> (-(mean - kept[0]) * inverse_std)
        kept[2] = <real> inverse_std
        kept, shift, sums, squares = kept + KEPT, shift + d, sums + d, squares + d


cdef void forward_groups(const Sample *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, j, k, c = g.length, d = c // g.groups, width = g.width
    cdef double *sums = <double *> scratch
    cdef real *factors = <real *> (sums + 2 * c)
    cdef real m, t, s
    cdef const real *x
    cdef const real *gamma = <const real *> g.arrays.gamma.data
    cdef const real *beta = <const real *> g.arrays.beta.data
    cdef real *kept
    for i in range(first, last):
        x = <const real *> item(g.arrays.x, i)
        channel_moments(g, x, sums, sums + c, factors + 4 * width)
        kept = <real *> item(g.arrays.kept, i)
        keep_statistics(g, sums, sums + c, factors + 4 * width, kept)
        for k in range(g.groups):
            m, t, s = kept[KEPT * k], kept[KEPT * k + 1], kept[KEPT * k + 2]
            for j in range(k * d, (k + 1) * d):
                factors[j], factors[width + j], factors[2 * width + j] = m, gamma[j] * s, beta[j] + gamma[j] * t
        repeat(factors, c, width, 3)
        normalize(x, factors, factors + width, factors + 2 * width, <real *> item(g.arrays.y, i), g.rows * c, width)


cdef void backward_groups(const Sample *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, j, k, block, row, c = g.length, d = c // g.groups, width = g.width
    cdef double *sums = <double *> scratch
    cdef double *products = sums + c
    cdef double sum, product, s, t, share = 1.0 / (d * g.rows)
    cdef real *factors = <real *> (sums + 2 * c)
    cdef real *mean = factors + 4 * width
    cdef real *partial
    cdef const real *x
    cdef const real *dy
    cdef const real *kept
    cdef const real *gamma = <const real *> g.arrays.gamma.data
    for i in range(first, last):
        partial = partial_of(g, i, scratch)
        x, dy = <const real *> item(g.arrays.x, i), <const real *> item(g.arrays.dy, i)
        kept = <const real *> item(g.arrays.kept, i)
        for k in range(g.groups):
            for j in range(k * d, (k + 1) * d):
                mean[j] = kept[KEPT * k]
        memset(sums, 0, 2 * c * sizeof(double))
        for block in range(blocks_of(g)):
            row = part_start(block, blocks_of(g), g.rows)
            column_products(x + row * c, dy + row * c, mean, mean + c, mean + 2 * c,
                            part_start(block + 1, blocks_of(g), g.rows) - row, c)
            for j in range(c):
                sums[j] += mean[c + j]
                products[j] += mean[2 * c + j]
        for k in range(g.groups):
            t, s, sum, product = kept[KEPT * k + 1], kept[KEPT * k + 2], 0, 0
            for j in range(k * d, (k + 1) * d):
                products[j] = s * products[j] + t * sums[j]  # of dy and (x - mean) s
                sum += gamma[j] * sums[j]
                product += gamma[j] * products[j]
                partial[j] += <real> products[j]
                partial[g.size + j] += <real> sums[j]
            sum, product = sum * share, s * product * share
            for j in range(k * d, (k + 1) * d):
                factors[j] = mean[j]
                factors[width + j] = <real> (gamma[j] * s)
                factors[2 * width + j] = <real> (s * product)
                factors[3 * width + j] = <real> (s * sum + t * product)
        repeat(factors, c, width, 4)
        normalize_grad(x, dy, factors, factors + width, factors + 2 * width, factors + 3 * width,
                       <real *> item(g.arrays.y, i), g.rows * c, width)


cdef void add_chunks(const Merged *g, Py_ssize_t first, Py_ssize_t last, real *spare) noexcept nogil:
    """Items are slices of dgamma and dbeta."""
    cdef Py_ssize_t i, k, low
    cdef real *results[2]
    results[0], results[1] = <real *> g.arrays.dgamma.data, <real *> g.arrays.dbeta.data
    for i in range(first, last):
        low = i * SLICE
        for k in range(2):
            if results[k] is not NULL:
                add_tree(<const real *> g.arrays.partials.data + k * g.size + low, 2 * g.size, g.chunks, g.n,
                         results[k] + low, spare, min(<Py_ssize_t> SLICE, g.size - low))


cdef int describe(Sample *g, const Py_ssize_t *x_shape, Py_ssize_t size, Py_ssize_t groups) except -1:
    """`groups` 0: whole rows are normalised; otherwise the channels of a sample, whose rows are its pixels."""
    require(x_shape[1] > 0 and x_shape[2] > 0, "a sample must not be empty")
    require(groups == 0 or (groups > 0 and x_shape[2] % groups == 0), "groups must divide the channels")
    require(size == x_shape[2], "gamma must have one value for each number of a row")
    g.n, g.rows, g.length, g.groups, g.period = x_shape[0], x_shape[1], x_shape[2], groups, 1
    g.size, g.width, g.epsilon, g.parts, g.chunks = size, wide(size), 0, 1, 1
    if groups > 0 and g.rows == 1:  # one pixel: a group is a row
        g.rows, g.length, g.period, g.groups = groups, size // groups, groups, 0
    return 0


cdef inline Py_ssize_t statistics_of(const Sample *g) noexcept nogil:
    """Means and variances of a sample."""
    return g.groups if g.groups > 0 else g.rows


def normalize_samples(x not None, Py_ssize_t groups, gamma not None, beta not None, double epsilon, kept not None,
                      y not None):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta with statistics of one sample (biased variance).

    x, y: (N, rows of a sample, C); gamma, beta: (C,).  ``groups`` 0: of each row by itself, ``kept`` (N, rows, 3).
    Otherwise of each of so many groups of channels in all rows together, ``kept`` (N, groups, 3).  What is kept is for
    ``normalize_samples_backward``.
    """
    if is_double(x):
        normalize_samples_in[double](x, groups, gamma, beta, epsilon, kept, y)
    else:
        normalize_samples_in[float](x, groups, gamma, beta, epsilon, kept, y)


cdef int normalize_samples_in(const real[:, :, ::1] x, Py_ssize_t groups, const real[::1] gamma, const real[::1] beta,
                              double epsilon, real[:, :, ::1] kept, real[:, :, ::1] y) except -1:
    cdef Sample g
    cdef Job job
    cdef Kernel kernel
    describe(&g, x.shape, gamma.shape[0], groups)
    require(y.shape[0] == x.shape[0] and y.shape[1] == x.shape[1] and y.shape[2] == x.shape[2],
            "y must have the shape of x")
    require(beta.shape[0] == g.size, "beta must have the shape of gamma")
    require(kept.shape[0] == g.n and kept.shape[1] == statistics_of(&g) and kept.shape[2] == KEPT,
            "kept must have three numbers for each mean and variance")
    g.epsilon = epsilon
    g.arrays.x, g.arrays.y = rows_at(&x[0, 0, 0], g.rows * g.length), rows_at(<const real *> &y[0, 0, 0],
                                                                              g.rows * g.length)
    g.arrays.kept = rows_at(<const real *> &kept[0, 0, 0], kept.shape[1] * KEPT)
    g.arrays.gamma, g.arrays.beta, g.arrays.dy = fixed(&gamma[0]), fixed(&beta[0]), fixed(NULL)
    g.arrays.partials = fixed(NULL)
    if g.groups == 0 and g.period != g.rows:
        g.parts = min(g.rows, parts_for(g.rows * g.length))
    kernel = <Kernel> forward_rows[real] if g.groups == 0 else <Kernel> forward_groups[real]
    job = new_job(kernel, IMAGES, sizeof(g.arrays), g.n, g.n * g.rows * g.length / 2.5)
    job.parts, job.scratch = g.parts, group_scratch(&g, sizeof(real)) if g.groups else 0
    submit(&job, &g, sizeof(g))


def normalize_samples_backward(x not None, dy not None, Py_ssize_t groups, gamma not None, kept not None, dgamma, dbeta,
                               dx not None):
    """Gradients through the statistics of each sample, with z = (x - mean) s, s = 1 / sqrt(variance + epsilon), and M
    the mean over all that has one mean:

    dbeta = sum dy;  dgamma = sum dy z;  dx = s (gamma dy - M(gamma dy) - z M(gamma dy z)).

    ``kept``: of ``normalize_samples``.  dgamma, dbeta: overwritten, or None where they are not wanted.
    """
    if is_double(x):
        normalize_samples_backward_in[double](x, dy, groups, gamma, kept, dgamma, dbeta, dx)
    else:
        normalize_samples_backward_in[float](x, dy, groups, gamma, kept, dgamma, dbeta, dx)


cdef int normalize_samples_backward_in(const real[:, :, ::1] x, const real[:, :, ::1] dy, Py_ssize_t groups,
                                       const real[::1] gamma, const real[:, :, ::1] kept, real[::1] dgamma,
                                       real[::1] dbeta, real[:, :, ::1] dx) except -1:
    cdef Sample g
    cdef Merged merged
    cdef Job job
    cdef Kernel kernel
    cdef char *partials
    describe(&g, x.shape, gamma.shape[0], groups)
    require(dy.shape[0] == g.n and dy.shape[1] == x.shape[1] and dy.shape[2] == x.shape[2] and dx.shape[0] == g.n
            and dx.shape[1] == x.shape[1] and dx.shape[2] == x.shape[2], "dy and dx must have the shape of x")
    require(kept.shape[0] == g.n and kept.shape[1] == statistics_of(&g) and kept.shape[2] == KEPT,
            "kept must have three numbers for each mean and variance")
    require((dgamma is None or dgamma.shape[0] == g.size) and (dbeta is None or dbeta.shape[0] == g.size),
            "dgamma and dbeta must have the shape of gamma")
    g.chunks = chunks_for(g.n, 2 * g.size * sizeof(real))
    partials = borrow(g.chunks * 2 * g.size * sizeof(real), False)
    try:
        g.arrays.x, g.arrays.dy = rows_at(&x[0, 0, 0], g.rows * g.length), rows_at(&dy[0, 0, 0], g.rows * g.length)
        g.arrays.y = rows_at(<const real *> &dx[0, 0, 0], g.rows * g.length)
        g.arrays.kept = rows_at(&kept[0, 0, 0], kept.shape[1] * KEPT)
        g.arrays.gamma, g.arrays.beta, g.arrays.partials = fixed(&gamma[0]), fixed(NULL), fixed(partials)
        kernel = <Kernel> backward_rows[real] if g.groups == 0 else <Kernel> backward_groups[real]
        job = new_job(kernel, CHUNKS, sizeof(g.arrays), g.n, g.n * g.rows * g.length / 1.5)
        job.chunks, job.scratch = g.chunks, group_scratch(&g, sizeof(real)) if g.groups else 0
        submit(&job, &g, sizeof(g))
        if dgamma is not None or dbeta is not None:
            merged.arrays.partials = fixed(partials)
            merged.arrays.dgamma = fixed(NULL if dgamma is None else &dgamma[0])
            merged.arrays.dbeta = fixed(NULL if dbeta is None else &dbeta[0])
            merged.n, merged.size, merged.chunks = g.n, g.size, g.chunks
            job = new_job(<Kernel> add_chunks[real], AFTER, sizeof(merged.arrays), (g.size + SLICE - 1) // SLICE,
                          g.chunks * g.size / 2.0)
            job.scratch = spare_for(g.chunks, SLICE) * sizeof(real)
            submit(&job, &merged, sizeof(merged))
    finally:
        give_back(partials)
