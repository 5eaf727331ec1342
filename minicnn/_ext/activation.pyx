# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of the activations: f and f' element by element, softmax row by row, and PReLU, which has parameters.

Design: items are samples, the parts of a long one about 16,384 elements; the formulas stand in activation.h.  PReLU's
alpha is repeated into one list that the samples are walked along with; the sums for its gradient are made sample by
sample, chunk by chunk of the batch, and added in the tree of jobs.pxd, so that the bits do not depend on the threads.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from minicnn._ext.machinery.jobs cimport (AFTER, BEFORE, CHUNKS, IMAGES, PART, Array, Cell, Job, Kernel, borrow,
                                          cell_of, chunks_for, first_half, fixed, give_back, item, new_job, part_start,
                                          parts_for, rows_at, spare_for, submit)
from minicnn._ext.machinery.runtime cimport (BOUNDED_RELU, ELU, EXPONENTIAL, GELU, HARD_SIGMOID, HARD_SWISH, LEAKY_RELU,
                                             LINEAR, RELU, SELU, SIGMOID, SOFTPLUS, SOFTSIGN, SWISH, TANH, Curve,
                                             activate, activate_grad, add_to, chosen_leaves, curve_of, is_double,
                                             log_softmax_rows, log_softmax_rows_grad, prelu_grad, real, require,
                                             softmax_rows, softmax_rows_grad, use_leaves, wide)
from minicnn._ext.machinery.runtime cimport prelu as prelu_leaf

use_leaves(chosen_leaves())

# relu6 is the best known one of its kind: see ReLU.
KINDS = {"linear": LINEAR, "relu": RELU, "leaky_relu": LEAKY_RELU, "relu6": BOUNDED_RELU, "elu": ELU, "selu": SELU,
         "gelu": GELU, "swish": SWISH, "hard_swish": HARD_SWISH, "sigmoid": SIGMOID, "hard_sigmoid": HARD_SIGMOID,
         "tanh": TANH, "softplus": SOFTPLUS, "softsign": SOFTSIGN, "exponential": EXPONENTIAL}

cdef struct ActivateArrays:
    Array s      # (n, rows, k): x forward; backward the output y, or the input x (activate_grad)
    Array dy     # (n, rows, k); absent forward
    Array y      # (n, rows, k): output, or dx


cdef struct Activate:
    ActivateArrays arrays
    Py_ssize_t rows, k, parts  # element by element: rows of one
    Curve curve
    bint logarithms            # of softmax


cdef int run(Kernel kernel, Activate *g, const real *s, const real *dy, const real *y, Py_ssize_t n, Py_ssize_t rows,
             Py_ssize_t k, double nanoseconds) except -1:
    """On n samples that take `nanoseconds` an element; decides in how many parts each is cut."""
    cdef Py_ssize_t size = rows * k
    cdef Job job = new_job(kernel, IMAGES, sizeof(g.arrays), n, nanoseconds * n * size)
    g.arrays.s, g.arrays.dy, g.arrays.y = rows_at(s, size), rows_at(dy, size), rows_at(y, size)
    g.rows, g.k, g.parts = rows, k, max(<Py_ssize_t> 1, min(rows, parts_for(size)))
    job.parts = g.parts
    return submit(&job, g, sizeof(Activate))


cdef void activate_parts(const Activate *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end
    for i in range(first, last):
        image, start = i // g.parts, part_start(i % g.parts, g.parts, g.rows)
        end = part_start(i % g.parts + 1, g.parts, g.rows)
        activate(&g.curve, <const real *> item(g.arrays.s, image) + start,
                 <real *> item(g.arrays.y, image) + start, end - start)


cdef void gradient_parts(const Activate *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end
    for i in range(first, last):
        image, start = i // g.parts, part_start(i % g.parts, g.parts, g.rows)
        end = part_start(i % g.parts + 1, g.parts, g.rows)
        activate_grad(&g.curve, <const real *> item(g.arrays.s, image) + start,
                      <const real *> item(g.arrays.dy, image) + start,
                      <real *> item(g.arrays.y, image) + start, end - start)


cdef inline void some_rows(const Activate *g, const real *x, real *y, Py_ssize_t rows) noexcept nogil:
    if g.logarithms:
        log_softmax_rows(x, y, rows, g.k)
    else:
        softmax_rows(x, y, rows, g.k)


cdef inline void some_rows_grad(const Activate *g, const real *y, const real *dy, real *dx,
                                Py_ssize_t rows) noexcept nogil:
    if g.logarithms:
        log_softmax_rows_grad(y, dy, dx, rows, g.k)
    else:
        softmax_rows_grad(y, dy, dx, rows, g.k)


cdef void softmax_parts(const Activate *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end, sample = g.rows * g.k * sizeof(real)
    # Side by side: the leaf takes short rows together.
    if g.parts == 1 and g.arrays.s.step == sample and g.arrays.y.step == sample:
        some_rows(g, <const real *> (g.arrays.s.data + first * sample), <real *> (g.arrays.y.data + first * sample),
                  (last - first) * g.rows)
        return
    for i in range(first, last):
        image, start = i // g.parts, part_start(i % g.parts, g.parts, g.rows)
        end = part_start(i % g.parts + 1, g.parts, g.rows)
        some_rows(g, <const real *> item(g.arrays.s, image) + start * g.k,
                  <real *> item(g.arrays.y, image) + start * g.k, end - start)


cdef void softmax_gradient_parts(const Activate *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end, sample = g.rows * g.k * sizeof(real)
    if g.parts == 1 and g.arrays.s.step == sample and g.arrays.dy.step == sample and g.arrays.y.step == sample:
        some_rows_grad(g, <const real *> (g.arrays.s.data + first * sample),
                       <const real *> (g.arrays.dy.data + first * sample),
                       <real *> (g.arrays.y.data + first * sample), (last - first) * g.rows)
        return
    for i in range(first, last):
        image, start = i // g.parts, part_start(i % g.parts, g.parts, g.rows)
        end = part_start(i % g.parts + 1, g.parts, g.rows)
        some_rows_grad(g, <const real *> item(g.arrays.s, image) + start * g.k,
                       <const real *> item(g.arrays.dy, image) + start * g.k,
                       <real *> item(g.arrays.y, image) + start * g.k, end - start)


def forward(activation, x not None, y not None):
    """y = f(x) of n samples (n, size); x and y may be the same array.  ``activation``: ``curve_of``."""
    if is_double(x):
        forward_in[double](activation, x, y)
    else:
        forward_in[float](activation, x, y)


cdef int forward_in(activation, const real[:, ::1] x, real[:, ::1] y) except -1:
    cdef Activate g
    require(y.shape[0] == x.shape[0] and y.shape[1] == x.shape[1], "y must have the shape of x")
    g.curve, g.logarithms = curve_of(activation), False
    run[real](<Kernel> activate_parts[real], &g, &x[0, 0], NULL, &y[0, 0], x.shape[0], x.shape[1], 1, 0.5)


def backward(activation, s not None, dy not None, dx not None):
    """dx = dy f'(x) of n samples (n, size); ``s`` is the output y of forward, or its input x for "gelu", "swish" and
    "hard_swish".

    dx and dy may be the same array.
    """
    if is_double(s):
        backward_in[double](activation, s, dy, dx)
    else:
        backward_in[float](activation, s, dy, dx)


cdef int backward_in(activation, const real[:, ::1] s, const real[:, ::1] dy, real[:, ::1] dx) except -1:
    cdef Py_ssize_t n = dy.shape[0], size = dy.shape[1]
    cdef Activate g
    require(s.shape[0] == n and dx.shape[0] == n and s.shape[1] == size and dx.shape[1] == size,
            "s and dx must have the shape of dy")
    g.curve, g.logarithms = curve_of(activation), False
    run[real](<Kernel> gradient_parts[real], &g, &s[0, 0], &dy[0, 0], &dx[0, 0], n, size, 1, 0.5)


cdef int run_rows(Kernel kernel, bint logarithms, const real[:, :, ::1] x, const real[:, :, ::1] y) except -1:
    cdef Activate g
    require(y.shape[0] == x.shape[0] and y.shape[1] == x.shape[1] and y.shape[2] == x.shape[2],
            "y must have the shape of x")
    require(x.shape[2] > 0, "softmax needs at least one number in a row")
    g.curve, g.logarithms = curve_of(None), logarithms
    return run[real](kernel, &g, &x[0, 0, 0], NULL, &y[0, 0, 0], x.shape[0], x.shape[1], x.shape[2], 2.0)


cdef int run_rows_backward(Kernel kernel, bint logarithms, const real[:, :, ::1] y, const real[:, :, ::1] dy,
                           const real[:, :, ::1] dx) except -1:
    cdef Py_ssize_t n = y.shape[0]
    cdef Activate g
    require(dy.shape[0] == n and dy.shape[1] == y.shape[1] and dy.shape[2] == y.shape[2] and dx.shape[0] == n
            and dx.shape[1] == y.shape[1] and dx.shape[2] == y.shape[2], "dy and dx must have the shape of y")
    require(y.shape[2] > 0, "softmax needs at least one number in a row")
    g.curve, g.logarithms = curve_of(None), logarithms
    return run[real](kernel, &g, &y[0, 0, 0], &dy[0, 0, 0], &dx[0, 0, 0], n, y.shape[1], y.shape[2], 2.0)


def softmax(x not None, y not None):
    """y = exp(x - max x) / sum exp(x - max x) along the last axis of (n, rows, k); x and y may be the same array."""
    if is_double(x):
        run_rows[double](<Kernel> softmax_parts[double], False, x, y)
    else:
        run_rows[float](<Kernel> softmax_parts[float], False, x, y)


def softmax_backward(y not None, dy not None, dx not None):
    """dx = y (dy - sum dy y) along the last axis of (n, rows, k); dx and dy may be the same array."""
    if is_double(y):
        run_rows_backward[double](<Kernel> softmax_gradient_parts[double], False, y, dy, dx)
    else:
        run_rows_backward[float](<Kernel> softmax_gradient_parts[float], False, y, dy, dx)


def log_softmax(x not None, y not None):
    """y = x - log sum exp x along the last axis of (n, rows, k); x and y may be the same array."""
    if is_double(x):
        run_rows[double](<Kernel> softmax_parts[double], True, x, y)
    else:
        run_rows[float](<Kernel> softmax_parts[float], True, x, y)


def log_softmax_backward(y not None, dy not None, dx not None):
    """dx = dy - exp(y) sum dy along the last axis of (n, rows, k); dx and dy may be the same array."""
    if is_double(y):
        run_rows_backward[double](<Kernel> softmax_gradient_parts[double], True, y, dy, dx)
    else:
        run_rows_backward[float](<Kernel> softmax_gradient_parts[float], True, y, dy, dx)


# ---- PReLU ----

cdef struct PreluArrays:
    Array x         # (n, size)
    Array dy        # backward
    Array y         # y, or dx or absent
    Array alpha     # (count,)
    Array places    # (period,) int64: which alpha an element of a sample has; they repeat behind the last
    Array list      # (width,): the alphas of the elements, over and over
    Array partials  # backward: (chunks, period) double
    Array dalpha    # backward: (count,)


cdef struct Prelu:
    PreluArrays arrays
    Py_ssize_t n, size, period, width, count, chunks


cdef void fill_list(const Prelu *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i
    cdef const real *alpha = <const real *> g.arrays.alpha.data
    cdef const int64_t *places = <const int64_t *> g.arrays.places.data
    cdef real *values = <real *> g.arrays.list.data
    for i in range(g.period):
        values[i] = alpha[places[i]]
    for i in range(g.period, g.width):
        values[i] = values[i - g.period]


cdef void prelu_samples(const Prelu *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(first, last):
        prelu_leaf(<const real *> item(g.arrays.x, i), <const real *> g.arrays.list.data,
                   <real *> item(g.arrays.y, i), g.size, g.width)


cdef void add_sums(const Prelu *g, real *sums, double *partial) noexcept nogil:
    """And begins them anew."""
    cdef Py_ssize_t j, k
    for k in range(g.width // g.period):
        for j in range(g.period):
            partial[j] += sums[k * g.period + j]
    memset(sums, 0, g.width * sizeof(real))


cdef void prelu_gradient_samples(const Prelu *g, Py_ssize_t first, Py_ssize_t last, real *sums) noexcept nogil:
    """Sums in the working type, of about 64 numbers each or of a piece of a sample, about PART elements; those in
    double.  They stay in scratch memory from call to call in a chunk."""
    cdef Cell chunk
    cdef Py_ssize_t i, start, done, piece = max(<Py_ssize_t> 1, PART // g.width) * g.width
    cdef Py_ssize_t together = max(<Py_ssize_t> 1, 64 * g.width // g.size)  # samples
    cdef double *partial
    cdef real *dx
    for i in range(first, last):
        chunk = cell_of(i, g.chunks, g.n)
        partial = <double *> g.arrays.partials.data + chunk.number * g.period
        if i == chunk.first:
            memset(partial, 0, g.period * sizeof(double))
            memset(sums, 0, g.width * sizeof(real))
        start = 0
        while start < g.size:
            dx = NULL if g.arrays.y.data is NULL else <real *> item(g.arrays.y, i) + start
            prelu_grad(<const real *> item(g.arrays.x, i) + start, <const real *> item(g.arrays.dy, i) + start,
                       <const real *> g.arrays.list.data, dx, sums, min(piece, g.size - start), g.width)
            start += piece
            if start < g.size:
                add_sums(g, sums, partial)
        done = i + 1 - chunk.first
        if g.size > piece or done % together == 0 or i + 1 == chunk.end:
            add_sums(g, sums, partial)


cdef void add_partials(const Prelu *g, Py_ssize_t chunk, Py_ssize_t chunks, Py_ssize_t n, double *totals, real *sum,
                       real *spare) noexcept nogil:
    """sum[:count] = the sum over the chunks from `chunk` on, which are n samples: the tree of jobs.pxd."""
    cdef Py_ssize_t i
    cdef const double *partial = <const double *> g.arrays.partials.data + chunk * g.period
    cdef const int64_t *places = <const int64_t *> g.arrays.places.data
    if chunks > 1 and n > 1:
        chunks //= 2
        add_partials(g, chunk, chunks, first_half(n), totals, sum, spare)
        add_partials(g, chunk + chunks, chunks, n - first_half(n), totals, spare, spare + g.count)
        add_to(<const real *> spare, sum, g.count)
        return
    memset(totals, 0, g.count * sizeof(double))
    for i in range(g.period if n > 0 else 0):
        totals[places[i]] += partial[i]
    for i in range(g.count):
        sum[i] = <real> totals[i]


cdef void write_dalpha(const Prelu *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef double *totals = <double *> scratch
    add_partials(g, 0, g.chunks, g.n, totals, <real *> g.arrays.dalpha.data, <real *> (totals + g.count))


cdef Prelu describe(const real[:, ::1] x, const real[::1] alpha, const int64_t[::1] places, char *values) except *:
    cdef Prelu g
    g.n, g.size, g.period, g.count = x.shape[0], x.shape[1], places.shape[0], alpha.shape[0]
    g.width, g.chunks = wide(g.period), chunks_for(g.n, g.period * sizeof(double))
    g.arrays.x, g.arrays.dy, g.arrays.y = rows_at(&x[0, 0], g.size), fixed(NULL), fixed(NULL)
    g.arrays.alpha, g.arrays.places, g.arrays.list = fixed(&alpha[0]), fixed(&places[0]), fixed(values)
    g.arrays.partials, g.arrays.dalpha = fixed(NULL), fixed(NULL)
    return g


cdef int require_places(const real[:, ::1] x, const real[::1] alpha, const int64_t[::1] places) except -1:
    cdef Py_ssize_t i
    require(0 < places.shape[0] <= x.shape[1] and x.shape[1] % places.shape[0] == 0,
            "places must be those of a part of a sample that repeats")
    for i in range(places.shape[0]):
        require(0 <= places[i] < alpha.shape[0], "places must be those of alphas")
    return 0


cdef int submit_list(const Prelu *g, Kernel kernel) except -1:
    cdef Prelu alone = g[0]
    cdef Job job = new_job(kernel, BEFORE, sizeof(g.arrays), 1, g.width)
    alone.arrays.x = alone.arrays.dy = alone.arrays.y = fixed(NULL)
    return submit(&job, &alone, sizeof(alone))


def prelu(x not None, alpha not None, const int64_t[::1] places not None, y not None):
    """y = x for x > 0, alpha[places] x otherwise, of n samples (n, size).

    ``places``, a divisor of ``size`` in length: the alpha of each element of a sample, over and over.
    """
    if is_double(x):
        prelu_in[double](x, alpha, places, y)
    else:
        prelu_in[float](x, alpha, places, y)


cdef int prelu_in(const real[:, ::1] x, const real[::1] alpha, const int64_t[::1] places, real[:, ::1] y) except -1:
    require(y.shape[0] == x.shape[0] and y.shape[1] == x.shape[1], "y must have the shape of x")
    require_places(x, alpha, places)
    cdef char *values = borrow(wide(places.shape[0]) * sizeof(real), False)
    cdef Prelu g
    cdef Job job
    try:
        g = describe(x, alpha, places, values)
        g.arrays.y = rows_at(<const real *> &y[0, 0], g.size)
        submit_list(&g, <Kernel> fill_list[real])
        job = new_job(<Kernel> prelu_samples[real], IMAGES, sizeof(g.arrays), g.n, 0.25 * g.n * g.size)
        submit(&job, &g, sizeof(g))
    finally:
        give_back(values)


def prelu_backward(x not None, dy not None, alpha not None, const int64_t[::1] places not None, dalpha not None, dx):
    """Overwrites dx (n, size), or None, with dy for x > 0, alpha[places] dy otherwise; and dalpha with the sums of x dy
    where x is not > 0, over the samples and the elements that share an alpha."""
    if is_double(x):
        prelu_backward_in[double](x, dy, alpha, places, dalpha, dx)
    else:
        prelu_backward_in[float](x, dy, alpha, places, dalpha, dx)


cdef int prelu_backward_in(const real[:, ::1] x, const real[:, ::1] dy, const real[::1] alpha,
                           const int64_t[::1] places, real[::1] dalpha, real[:, ::1] dx) except -1:
    require(dy.shape[0] == x.shape[0] and dy.shape[1] == x.shape[1], "dy must have the shape of x")
    require(dx is None or (dx.shape[0] == x.shape[0] and dx.shape[1] == x.shape[1]), "dx must have the shape of x")
    require(dalpha.shape[0] == alpha.shape[0], "dalpha must have the shape of alpha")
    require_places(x, alpha, places)
    cdef Py_ssize_t width = wide(places.shape[0])
    cdef char *values = borrow(width * sizeof(real), False)
    cdef char *partials = NULL
    cdef Prelu g
    cdef Job job
    try:
        g = describe(x, alpha, places, values)
        partials = borrow(g.chunks * g.period * sizeof(double), False)
        g.arrays.dy, g.arrays.partials = rows_at(&dy[0, 0], g.size), fixed(partials)
        g.arrays.dalpha = fixed(&dalpha[0])
        g.arrays.y = rows_at(<const real *> NULL if dx is None else <const real *> &dx[0, 0], g.size)
        submit_list(&g, <Kernel> fill_list[real])
        job = new_job(<Kernel> prelu_gradient_samples[real], CHUNKS, sizeof(g.arrays), g.n, 0.5 * g.n * g.size)
        job.chunks, job.scratch = g.chunks, width * sizeof(real)
        submit(&job, &g, sizeof(g))
        g.arrays.x = g.arrays.dy = g.arrays.y = fixed(NULL)
        job = new_job(<Kernel> write_dalpha[real], AFTER, sizeof(g.arrays), 1, g.chunks * g.period)
        job.scratch = g.count * sizeof(double) + spare_for(g.chunks, g.count) * sizeof(real)
        submit(&job, &g, sizeof(g))
    finally:
        give_back(partials)
        give_back(values)
