# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of BatchNormalization over x (N, rows of a sample, C): R = N rows values of each of C channels.

Design: three jobs each way.  Sums run down the columns in blocks of rows, which are a function of the shapes alone:
parts of an image where images are long, so that a plan sums up an image while it is in the cache, or else parts of the
batch's R rows.  The blocks' means and squares are merged in order, in double (Chan, Golub and LeVeque, "Updating
formulae and a pairwise algorithm for computing sample variances", 1979), so that neither threads nor a large mean cost
accuracy.  Then images are normalised, each channel with factors that the merging job has written.

The factors of a channel stand in "lists" of `width` values (`wide` in leaves.h): those of all channels, over and over.
"""
from libc.math cimport sqrt
from libc.string cimport memset

from minicnn._ext.machinery.jobs cimport (BEFORE, IMAGES, WHOLE, Array, Job, Kernel, Place, borrow, fixed, give_back,
                                          item, new_job, part_start, rows_at, submit)
from minicnn._ext.machinery.runtime cimport (chosen_leaves, column_moments, column_products, normalize, normalize_grad,
                                             real, require, use_leaves, wide)

use_leaves(chosen_leaves())

cdef enum:
    BLOCK = 16384  # elements of a block of rows, at most but for one row
    LONG = 4096    # elements of an image from which on it has blocks of its own
    DEEP = 32      # and rows: to merge a block takes about as long as to sum up some rows of it


cdef struct Shape:
    Py_ssize_t n, rows, c      # samples, rows of one, channels
    Py_ssize_t length, cuts    # rows that are cut into blocks, those of one image or of all, and into how many
    Py_ssize_t blocks          # in all
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


cdef struct Merge:
    MergeArrays arrays
    Shape shape
    double epsilon, momentum


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
    s.n, s.rows, s.c = x_shape[0], x_shape[1], x_shape[2]
    cdef bint by_image = s.rows >= DEEP and s.rows * s.c >= LONG
    cdef Py_ssize_t block = max(<Py_ssize_t> 1, BLOCK // s.c)
    s.length = s.rows if by_image else s.n * s.rows
    s.cuts = (s.length + block - 1) // block
    s.blocks = s.n * s.cuts if by_image else s.cuts
    s.width = wide(s.c)
    return s


cdef inline Py_ssize_t block_start(const Shape *s, Py_ssize_t i) noexcept nogil:
    return part_start(i % s.cuts, s.cuts, s.length)


cdef inline Py_ssize_t block_rows(const Shape *s, Py_ssize_t i) noexcept nogil:
    return part_start(i % s.cuts + 1, s.cuts, s.length) - block_start(s, i)


cdef inline const real *block_of(Array array, const Shape *s, Py_ssize_t i, const real *_as) noexcept nogil:
    """Where block i begins; without blocks of their own all images are one, which is image 0."""
    return <const real *> item(array, i // s.cuts) + block_start(s, i) * s.c


cdef void block_moments(const Sums *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    """Sums of d and d^2 with d = x - the block's first row: that keeps them small where the mean is large."""
    cdef Py_ssize_t i, j, c = g.shape.c, rows
    cdef const real *x
    cdef double *means = <double *> g.arrays.partials.data
    cdef double *squares = means + g.shape.blocks * c
    for i in range(first, last):
        x = block_of[real](g.arrays.x, &g.shape, i, scratch)
        rows = block_rows(&g.shape, i)
        column_moments(x, x, scratch, scratch + c, rows, c)
        for j in range(c):
            means[i * c + j] = x[j] + <double> scratch[j] / rows
            squares[i * c + j] = scratch[c + j] - <double> scratch[j] * scratch[j] / rows


cdef void block_products(const Sums *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, j, c = g.shape.c
    cdef double *sums = <double *> g.arrays.partials.data
    cdef double *products = sums + g.shape.blocks * c
    for i in range(first, last):
        column_products(block_of[real](g.arrays.x, &g.shape, i, scratch),
                        block_of[real](g.arrays.dy, &g.shape, i, scratch), <const real *> g.arrays.mean.data,
                        scratch, scratch + c, block_rows(&g.shape, i), c)
        for j in range(c):
            sums[i * c + j] = scratch[j]
            products[i * c + j] = scratch[c + j]


cdef void repeat(real *factors, const Shape *s, int lists) noexcept nogil:
    """Of each list the first C values are there; now all."""
    cdef Py_ssize_t k, j
    for k in range(lists):
        for j in range(s.c, s.width):
            factors[k * s.width + j] = factors[k * s.width + j - s.c]


cdef void merge_statistics(const Merge *g, Py_ssize_t first, Py_ssize_t last, double *center) noexcept nogil:
    """Chan's update, block by block: mean and sum of squares of all rows, in scratch memory for 2 C."""
    cdef Py_ssize_t i, j, c = g.shape.c
    cdef double count = 0, size, share, delta
    cdef double *squares = center + c
    cdef const double *block_means = <const double *> g.arrays.partials.data
    cdef const double *block_squares = block_means + g.shape.blocks * c
    memset(center, 0, 2 * c * sizeof(double))
    for i in range(g.shape.blocks):
        size = block_rows(&g.shape, i)
        share = size / (count + size)
        for j in range(c):
            delta = block_means[i * c + j] - center[j]
            squares[j] += block_squares[i * c + j] + delta * delta * (count * share)
            center[j] += delta * share
        count += size


cdef void forward_factors(const Merge *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    """From the statistics of the batch: what backward needs, the moving statistics, the factors."""
    cdef Py_ssize_t j, width = g.shape.width
    cdef double *center = <double *> scratch
    cdef double variance
    cdef real *factors = <real *> g.arrays.factors.data
    cdef real *mean = <real *> g.arrays.mean.data
    cdef real *inverse_std = <real *> g.arrays.inverse_std.data
    cdef real *moving_mean = <real *> g.arrays.first.data
    cdef real *moving_variance = <real *> g.arrays.second.data
    merge_statistics(g, first, last, center)
    for j in range(g.shape.c):
        variance = center[g.shape.c + j] / (g.shape.n * g.shape.rows)
        mean[j] = <real> center[j]
        inverse_std[j] = <real> (1 / sqrt(variance + g.epsilon))
        moving_mean[j] = <real> (g.momentum * moving_mean[j] + (1 - g.momentum) * center[j])
        moving_variance[j] = <real> (g.momentum * moving_variance[j] + (1 - g.momentum) * variance)
        factors[j] = mean[j]
        factors[width + j] = (<const real *> g.arrays.gamma.data)[j] * inverse_std[j]
        factors[2 * width + j] = (<const real *> g.arrays.beta.data)[j]
    repeat(factors, &g.shape, 3)


cdef void eval_factors(const Merge *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t j, width = g.shape.width
    cdef real *factors = <real *> g.arrays.factors.data
    for j in range(g.shape.c):
        factors[j] = (<const real *> g.arrays.first.data)[j]
        factors[width + j] = <real> ((<const real *> g.arrays.gamma.data)[j]
                                     / sqrt((<const real *> g.arrays.second.data)[j] + g.epsilon))
        factors[2 * width + j] = (<const real *> g.arrays.beta.data)[j]
    repeat(factors, &g.shape, 3)


cdef void backward_factors(const Merge *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, j, c = g.shape.c, width = g.shape.width
    cdef double a, s, count = g.shape.n * g.shape.rows
    cdef double *sums = <double *> scratch
    cdef double *products = sums + c
    cdef const double *partials = <const double *> g.arrays.partials.data
    cdef real *factors = <real *> g.arrays.factors.data
    memset(sums, 0, 2 * c * sizeof(double))
    for i in range(g.shape.blocks):
        for j in range(c):
            sums[j] += partials[i * c + j]
            products[j] += partials[(g.shape.blocks + i) * c + j]
    for j in range(c):
        s = (<const real *> g.arrays.inverse_std.data)[j]
        a = (<const real *> g.arrays.gamma.data)[j] * s
        (<real *> g.arrays.first.data)[j] = <real> (products[j] * s)
        (<real *> g.arrays.second.data)[j] = <real> sums[j]
        factors[j] = (<const real *> g.arrays.mean.data)[j]
        factors[width + j] = <real> a
        factors[2 * width + j] = <real> (a * products[j] * s * s / count)
        factors[3 * width + j] = <real> (a * sums[j] / count)
    repeat(factors, &g.shape, 4)


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
    if s.length == s.rows:
        job.place, job.items, job.parts = IMAGES, s.n, s.cuts
    job.scratch = 2 * s.c * size
    return submit(&job, g, sizeof(Sums))


cdef int merge(Kernel kernel, Place place, const Merge *g) except -1:
    cdef Job job = new_job(kernel, place, sizeof(g.arrays), 1, g.shape.blocks * g.shape.c + 10.0 * g.shape.c)
    job.scratch = 2 * g.shape.c * sizeof(double)
    return submit(&job, g, sizeof(Merge))


cdef int apply(Kernel kernel, const Apply *g) except -1:
    cdef const Shape *s = &g.shape
    cdef Job job = new_job(kernel, IMAGES, sizeof(g.arrays), s.n, s.n * s.rows * s.c / 4.0)
    return submit(&job, g, sizeof(Apply))


def forward_training(const real[:, :, ::1] x not None, const real[::1] gamma not None, const real[::1] beta not None,
                     double epsilon, double momentum, real[::1] mean not None, real[::1] inverse_std not None,
                     real[::1] moving_mean not None, real[::1] moving_variance not None,
                     real[:, :, ::1] y not None):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta with the statistics of the batch (biased variance).

    x, y: (N, rows of a sample, C).  Writes ``mean`` and ``inverse_std`` = 1 / sqrt(variance + epsilon) for backward,
    and moves the moving statistics: moving = momentum * moving + (1 - momentum) * batch.
    """
    cdef Shape s = shape_of(x.shape)
    require(y.shape[0] == s.n and y.shape[1] == s.rows and y.shape[2] == s.c, "y must have the shape of x")
    require(gamma.shape[0] == s.c and beta.shape[0] == s.c and mean.shape[0] == s.c and inverse_std.shape[0] == s.c
            and moving_mean.shape[0] == s.c and moving_variance.shape[0] == s.c,
            "every vector must have one value for each channel of x")
    cdef Array images = rows_at(&x[0, 0, 0], s.rows * s.c), results = rows_at(<const real *> &y[0, 0, 0], s.rows * s.c)
    cdef char *partials = borrow(2 * s.blocks * s.c * sizeof(double), False)
    cdef char *factors = NULL
    cdef Sums sums
    cdef Merge g
    cdef Apply last
    try:
        factors = borrow(3 * s.width * sizeof(real), False)
        sums.arrays.x, sums.arrays.dy, sums.arrays.mean = images, fixed(NULL), fixed(NULL)
        sums.arrays.partials, sums.shape = fixed(partials), s
        g.arrays.partials, g.arrays.factors, g.arrays.gamma = fixed(partials), fixed(factors), fixed(&gamma[0])
        g.arrays.beta, g.arrays.mean = fixed(&beta[0]), fixed(&mean[0])
        g.arrays.inverse_std, g.arrays.first = fixed(&inverse_std[0]), fixed(&moving_mean[0])
        g.arrays.second = fixed(&moving_variance[0])
        g.shape, g.epsilon, g.momentum = s, epsilon, momentum
        last.arrays.x, last.arrays.dy, last.arrays.factors = images, fixed(NULL), fixed(factors)
        last.arrays.y, last.shape = results, s
        sum_up(<Kernel> block_moments[real], &sums, sizeof(real))
        merge(<Kernel> forward_factors[real], WHOLE, &g)
        apply(<Kernel> normalize_images[real], &last)
    finally:
        give_back(partials)
        give_back(factors)


def forward(const real[:, :, ::1] x not None, const real[::1] gamma not None, const real[::1] beta not None,
            double epsilon, const real[::1] mean not None, const real[::1] variance not None,
            real[:, :, ::1] y not None):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta with given statistics: what eval mode does."""
    cdef Shape s = shape_of(x.shape)
    require(y.shape[0] == s.n and y.shape[1] == s.rows and y.shape[2] == s.c, "y must have the shape of x")
    require(gamma.shape[0] == s.c and beta.shape[0] == s.c and mean.shape[0] == s.c and variance.shape[0] == s.c,
            "every vector must have one value for each channel of x")
    cdef Array images = rows_at(&x[0, 0, 0], s.rows * s.c), results = rows_at(<const real *> &y[0, 0, 0], s.rows * s.c)
    cdef char *factors = borrow(3 * s.width * sizeof(real), False)
    cdef Merge g
    cdef Apply last
    g.arrays.partials, g.arrays.factors, g.arrays.gamma = fixed(NULL), fixed(factors), fixed(&gamma[0])
    g.arrays.beta, g.arrays.mean, g.arrays.inverse_std = fixed(&beta[0]), fixed(NULL), fixed(NULL)
    g.arrays.first, g.arrays.second = fixed(&mean[0]), fixed(&variance[0])
    g.shape, g.epsilon, g.momentum = s, epsilon, 0
    last.arrays.x, last.arrays.dy, last.arrays.factors = images, fixed(NULL), fixed(factors)
    last.arrays.y, last.shape = results, s
    try:
        merge(<Kernel> eval_factors[real], BEFORE, &g)
        apply(<Kernel> normalize_images[real], &last)
    finally:
        give_back(factors)


def backward(const real[:, :, ::1] x not None, const real[:, :, ::1] dy not None, const real[::1] gamma not None,
             const real[::1] mean not None, const real[::1] inverse_std not None, real[::1] dgamma not None,
             real[::1] dbeta not None, real[:, :, ::1] dx not None):
    """Gradients through the statistics of the batch (Ioffe and Szegedy, ICML 2015, section 3), with s = inverse_std:

    dbeta = sum dy;  dgamma = s sum (x - mean) dy;
    dx = gamma s (dy - dbeta / R - (x - mean) s dgamma / R).
    """
    cdef Shape s = shape_of(x.shape)
    require(dy.shape[0] == s.n and dy.shape[1] == s.rows and dy.shape[2] == s.c and dx.shape[0] == s.n
            and dx.shape[1] == s.rows and dx.shape[2] == s.c, "dy and dx must have the shape of x")
    require(gamma.shape[0] == s.c and mean.shape[0] == s.c and inverse_std.shape[0] == s.c
            and dgamma.shape[0] == s.c and dbeta.shape[0] == s.c,
            "every vector must have one value for each channel of x")
    cdef Array images = rows_at(&x[0, 0, 0], s.rows * s.c), gradients = rows_at(&dy[0, 0, 0], s.rows * s.c)
    cdef Array results = rows_at(<const real *> &dx[0, 0, 0], s.rows * s.c)
    cdef char *partials = borrow(2 * s.blocks * s.c * sizeof(double), False)
    cdef char *factors = NULL
    cdef Sums sums
    cdef Merge g
    cdef Apply last
    try:
        factors = borrow(4 * s.width * sizeof(real), False)
        sums.arrays.x, sums.arrays.dy, sums.arrays.mean = images, gradients, fixed(&mean[0])
        sums.arrays.partials, sums.shape = fixed(partials), s
        g.arrays.partials, g.arrays.factors, g.arrays.gamma = fixed(partials), fixed(factors), fixed(&gamma[0])
        g.arrays.beta, g.arrays.mean = fixed(NULL), fixed(&mean[0])
        g.arrays.inverse_std, g.arrays.first = fixed(&inverse_std[0]), fixed(&dgamma[0])
        g.arrays.second = fixed(&dbeta[0])
        g.shape, g.epsilon, g.momentum = s, 0, 0
        last.arrays.x, last.arrays.dy, last.arrays.factors = images, gradients, fixed(factors)
        last.arrays.y, last.shape = results, s
        sum_up(<Kernel> block_products[real], &sums, sizeof(real))
        merge(<Kernel> backward_factors[real], WHOLE, &g)
        apply(<Kernel> gradient_images[real], &last)
    finally:
        give_back(partials)
        give_back(factors)
