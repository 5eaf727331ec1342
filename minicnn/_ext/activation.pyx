# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of the activations: f and f' element by element, softmax row by row.

Design: items are samples, the parts of a long one about 16,384 elements; the formulas stand in activation.h.
"""
from minicnn._ext.plan cimport IMAGES, Array, Job, Kernel, submit
from minicnn._ext.runtime cimport (ELU, GELU, LEAKY_RELU, LINEAR, RELU, SIGMOID, TANH, activate, activate_grad,
                                   chosen_leaves, real, require, softmax_rows, softmax_rows_grad, use_leaves)

use_leaves(chosen_leaves())

KINDS = {"linear": LINEAR, "relu": RELU, "leaky_relu": LEAKY_RELU, "elu": ELU, "gelu": GELU, "sigmoid": SIGMOID,
         "tanh": TANH}

cdef enum:
    PART = 16384  # elements of a part, about


cdef struct Activate:
    Array s      # (n, rows, k): x forward; backward the output y, or for GELU the input x
    Array dy     # (n, rows, k); absent forward
    Array y      # (n, rows, k): output, or dx
    Py_ssize_t rows, k, parts  # element by element: rows of one
    int kind
    double slope


cdef Job job_of(Activate *g, Py_ssize_t n, double nanoseconds) noexcept:
    """A job over n samples that take `nanoseconds` an element; decides in how many parts each is cut."""
    cdef Py_ssize_t size = g.rows * g.k
    g.parts = max(<Py_ssize_t> 1, min(g.rows, size // PART))
    return Job(kernel=NULL, place=IMAGES, arrays=3, items=n, parts=g.parts, chunks=0, scratch=0,
               work=nanoseconds * n * size)


cdef inline Py_ssize_t first_row(const Activate *g, Py_ssize_t part) noexcept nogil:
    return g.rows * part // g.parts


cdef void activate_parts(const Activate *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end
    for i in range(first, last):
        image, start, end = i // g.parts, first_row(g, i % g.parts), first_row(g, i % g.parts + 1)
        activate(g.kind, <real> g.slope, <const real *> (g.s.data + image * g.s.step) + start,
                 <real *> (g.y.data + image * g.y.step) + start, end - start)


cdef void gradient_parts(const Activate *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end
    for i in range(first, last):
        image, start, end = i // g.parts, first_row(g, i % g.parts), first_row(g, i % g.parts + 1)
        activate_grad(g.kind, <real> g.slope, <const real *> (g.s.data + image * g.s.step) + start,
                      <const real *> (g.dy.data + image * g.dy.step) + start,
                      <real *> (g.y.data + image * g.y.step) + start, end - start)


cdef void softmax_parts(const Activate *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end, sample = g.rows * g.k * sizeof(real)
    if g.parts == 1 and g.s.step == sample and g.y.step == sample:  # side by side: the leaf takes short rows together
        softmax_rows(<const real *> (g.s.data + first * sample), <real *> (g.y.data + first * sample),
                     (last - first) * g.rows, g.k)
        return
    for i in range(first, last):
        image, start, end = i // g.parts, first_row(g, i % g.parts), first_row(g, i % g.parts + 1)
        softmax_rows(<const real *> (g.s.data + image * g.s.step) + start * g.k,
                     <real *> (g.y.data + image * g.y.step) + start * g.k, end - start, g.k)


cdef void softmax_gradient_parts(const Activate *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end
    for i in range(first, last):
        image, start, end = i // g.parts, first_row(g, i % g.parts), first_row(g, i % g.parts + 1)
        softmax_rows_grad(<const real *> (g.s.data + image * g.s.step) + start * g.k,
                          <const real *> (g.dy.data + image * g.dy.step) + start * g.k,
                          <real *> (g.y.data + image * g.y.step) + start * g.k, end - start, g.k)


def forward(int kind, double slope, const real[:, ::1] x not None, real[:, ::1] y not None):
    """y = f(x) of n samples (n, size); x and y may be the same array.  ``slope`` is LeakyReLU's."""
    cdef Py_ssize_t n = x.shape[0], step = x.shape[1] * sizeof(real)
    require(y.shape[0] == n and y.shape[1] == x.shape[1], "y must have the shape of x")
    cdef Activate g = Activate(
        s=Array(<char *> &x[0, 0], step), dy=Array(NULL, 0), y=Array(<char *> &y[0, 0], step),
        rows=x.shape[1], k=1, parts=1, kind=kind, slope=slope)
    cdef Job job = job_of(&g, n, 0.5)
    job.kernel = <Kernel> activate_parts[real]
    submit(&job, &g, sizeof(g))


def backward(int kind, double slope, const real[:, ::1] s not None, const real[:, ::1] dy not None,
             real[:, ::1] dx not None):
    """dx = dy f'(x) of n samples (n, size); ``s`` is the output y of forward, or its input x for "gelu".

    dx and dy may be the same array.
    """
    cdef Py_ssize_t n = dy.shape[0], step = dy.shape[1] * sizeof(real)
    require(s.shape[0] == n and dx.shape[0] == n and s.shape[1] == dy.shape[1] and dx.shape[1] == dy.shape[1],
            "s and dx must have the shape of dy")
    cdef Activate g = Activate(
        s=Array(<char *> &s[0, 0], step), dy=Array(<char *> &dy[0, 0], step), y=Array(<char *> &dx[0, 0], step),
        rows=dy.shape[1], k=1, parts=1, kind=kind, slope=slope)
    cdef Job job = job_of(&g, n, 0.5)
    job.kernel = <Kernel> gradient_parts[real]
    submit(&job, &g, sizeof(g))


def softmax(const real[:, :, ::1] x not None, real[:, :, ::1] y not None):
    """y = exp(x - max x) / sum exp(x - max x) along the last axis of (n, rows, k); x and y may be the same array."""
    cdef Py_ssize_t n = x.shape[0], step = x.shape[1] * x.shape[2] * sizeof(real)
    require(y.shape[0] == n and y.shape[1] == x.shape[1] and y.shape[2] == x.shape[2], "y must have the shape of x")
    require(x.shape[2] > 0, "softmax needs at least one number in a row")
    cdef Activate g = Activate(
        s=Array(<char *> &x[0, 0, 0], step), dy=Array(NULL, 0), y=Array(<char *> &y[0, 0, 0], step),
        rows=x.shape[1], k=x.shape[2], parts=1, kind=LINEAR, slope=0)
    cdef Job job = job_of(&g, n, 2.0)
    job.kernel = <Kernel> softmax_parts[real]
    submit(&job, &g, sizeof(g))


def softmax_backward(const real[:, :, ::1] y not None, const real[:, :, ::1] dy not None,
                     real[:, :, ::1] dx not None):
    """dx = y (dy - sum dy y) along the last axis of (n, rows, k); dx and dy may be the same array."""
    cdef Py_ssize_t n = y.shape[0], step = y.shape[1] * y.shape[2] * sizeof(real)
    require(dy.shape[0] == n and dy.shape[1] == y.shape[1] and dy.shape[2] == y.shape[2] and dx.shape[0] == n
            and dx.shape[1] == y.shape[1] and dx.shape[2] == y.shape[2], "dy and dx must have the shape of y")
    require(y.shape[2] > 0, "softmax needs at least one number in a row")
    cdef Activate g = Activate(
        s=Array(<char *> &y[0, 0, 0], step), dy=Array(<char *> &dy[0, 0, 0], step),
        y=Array(<char *> &dx[0, 0, 0], step),
        rows=y.shape[1], k=y.shape[2], parts=1, kind=LINEAR, slope=0)
    cdef Job job = job_of(&g, n, 2.0)
    job.kernel = <Kernel> softmax_gradient_parts[real]
    submit(&job, &g, sizeof(g))
