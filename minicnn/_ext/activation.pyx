# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of the activations: f and f' element by element, softmax row by row.

Design: items are samples, the parts of a long one about 16,384 elements; the formulas stand in activation.h.
"""
from minicnn._ext.machinery.jobs cimport (IMAGES, Array, Job, Kernel, item, new_job, part_start, parts_for, rows_at,
                                          submit)
from minicnn._ext.machinery.runtime cimport (ELU, GELU, LEAKY_RELU, LINEAR, RELU, SIGMOID, TANH, activate,
                                             activate_grad, chosen_leaves, real, require, softmax_rows,
                                             softmax_rows_grad, use_leaves)

use_leaves(chosen_leaves())

KINDS = {"linear": LINEAR, "relu": RELU, "leaky_relu": LEAKY_RELU, "elu": ELU, "gelu": GELU, "sigmoid": SIGMOID,
         "tanh": TANH}

cdef struct ActivateArrays:
    Array s      # (n, rows, k): x forward; backward the output y, or for GELU the input x
    Array dy     # (n, rows, k); absent forward
    Array y      # (n, rows, k): output, or dx


cdef struct Activate:
    ActivateArrays arrays
    Py_ssize_t rows, k, parts  # element by element: rows of one
    int kind
    double slope


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
        activate(g.kind, <real> g.slope, <const real *> item(g.arrays.s, image) + start,
                 <real *> item(g.arrays.y, image) + start, end - start)


cdef void gradient_parts(const Activate *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end
    for i in range(first, last):
        image, start = i // g.parts, part_start(i % g.parts, g.parts, g.rows)
        end = part_start(i % g.parts + 1, g.parts, g.rows)
        activate_grad(g.kind, <real> g.slope, <const real *> item(g.arrays.s, image) + start,
                      <const real *> item(g.arrays.dy, image) + start,
                      <real *> item(g.arrays.y, image) + start, end - start)


cdef void softmax_parts(const Activate *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end, sample = g.rows * g.k * sizeof(real)
    # Side by side: the leaf takes short rows together.
    if g.parts == 1 and g.arrays.s.step == sample and g.arrays.y.step == sample:
        softmax_rows(<const real *> (g.arrays.s.data + first * sample), <real *> (g.arrays.y.data + first * sample),
                     (last - first) * g.rows, g.k)
        return
    for i in range(first, last):
        image, start = i // g.parts, part_start(i % g.parts, g.parts, g.rows)
        end = part_start(i % g.parts + 1, g.parts, g.rows)
        softmax_rows(<const real *> item(g.arrays.s, image) + start * g.k,
                     <real *> item(g.arrays.y, image) + start * g.k, end - start, g.k)


cdef void softmax_gradient_parts(const Activate *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end
    for i in range(first, last):
        image, start = i // g.parts, part_start(i % g.parts, g.parts, g.rows)
        end = part_start(i % g.parts + 1, g.parts, g.rows)
        softmax_rows_grad(<const real *> item(g.arrays.s, image) + start * g.k,
                          <const real *> item(g.arrays.dy, image) + start * g.k,
                          <real *> item(g.arrays.y, image) + start * g.k, end - start, g.k)


def forward(int kind, double slope, const real[:, ::1] x not None, real[:, ::1] y not None):
    """y = f(x) of n samples (n, size); x and y may be the same array.  ``slope`` is LeakyReLU's."""
    cdef Activate g
    require(y.shape[0] == x.shape[0] and y.shape[1] == x.shape[1], "y must have the shape of x")
    g.kind, g.slope = kind, slope
    run[real](<Kernel> activate_parts[real], &g, &x[0, 0], NULL, &y[0, 0], x.shape[0], x.shape[1], 1, 0.5)


def backward(int kind, double slope, const real[:, ::1] s not None, const real[:, ::1] dy not None,
             real[:, ::1] dx not None):
    """dx = dy f'(x) of n samples (n, size); ``s`` is the output y of forward, or its input x for "gelu".

    dx and dy may be the same array.
    """
    cdef Py_ssize_t n = dy.shape[0], size = dy.shape[1]
    cdef Activate g
    require(s.shape[0] == n and dx.shape[0] == n and s.shape[1] == size and dx.shape[1] == size,
            "s and dx must have the shape of dy")
    g.kind, g.slope = kind, slope
    run[real](<Kernel> gradient_parts[real], &g, &s[0, 0], &dy[0, 0], &dx[0, 0], n, size, 1, 0.5)


def softmax(const real[:, :, ::1] x not None, real[:, :, ::1] y not None):
    """y = exp(x - max x) / sum exp(x - max x) along the last axis of (n, rows, k); x and y may be the same array."""
    cdef Py_ssize_t n = x.shape[0]
    cdef Activate g
    require(y.shape[0] == n and y.shape[1] == x.shape[1] and y.shape[2] == x.shape[2], "y must have the shape of x")
    require(x.shape[2] > 0, "softmax needs at least one number in a row")
    g.kind, g.slope = LINEAR, 0
    run[real](<Kernel> softmax_parts[real], &g, &x[0, 0, 0], NULL, &y[0, 0, 0], n, x.shape[1], x.shape[2], 2.0)


def softmax_backward(const real[:, :, ::1] y not None, const real[:, :, ::1] dy not None,
                     real[:, :, ::1] dx not None):
    """dx = y (dy - sum dy y) along the last axis of (n, rows, k); dx and dy may be the same array."""
    cdef Py_ssize_t n = y.shape[0]
    cdef Activate g
    require(dy.shape[0] == n and dy.shape[1] == y.shape[1] and dy.shape[2] == y.shape[2] and dx.shape[0] == n
            and dx.shape[1] == y.shape[1] and dx.shape[2] == y.shape[2], "dy and dx must have the shape of y")
    require(y.shape[2] > 0, "softmax needs at least one number in a row")
    g.kind, g.slope = LINEAR, 0
    run[real](<Kernel> softmax_gradient_parts[real], &g, &y[0, 0, 0], &dy[0, 0, 0], &dx[0, 0, 0], n, y.shape[1],
              y.shape[2], 2.0)
