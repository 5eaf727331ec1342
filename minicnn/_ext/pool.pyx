# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of the pooling layers; the global ones are pools whose window is the image.

Design: a window is walked position by position ("tap"), each time over all channels of one output pixel, which lie side
by side.  Taps outside the image are skipped: a maximum never sees the padding, an average divides by the real pixels.
Items are images.  The last argument of a kernel is its scratch memory; where none is needed it still tells float from
double.
"""
from libc.stdint cimport int32_t
from libc.string cimport memcpy, memset

from minicnn._ext.plan cimport IMAGES, Array, Job, Kernel, submit
from minicnn._ext.runtime cimport (add_scaled, add_to, affine, chosen_leaves, max_tap, max_untap, real, require,
                                   use_leaves)

use_leaves(chosen_leaves())


cdef struct Pool:
    Array x                     # (n, h, w, c), input or its gradient
    Array y                     # (n, oh, ow, c), output or its gradient
    Array winner                # (n, oh, ow, c): the tap that was the largest; absent for averages
    Py_ssize_t n, h, w, c       # images
    Py_ssize_t oh, ow           # output
    Py_ssize_t kh, kw, sh, sw   # window, strides
    Py_ssize_t top, left        # padding before the image


cdef struct Window:             # the part of one window that lies in the image
    Py_ssize_t a0, a1, b0, b1   # taps: rows a0 <= a < a1, columns b0 <= b < b1
    Py_ssize_t pixel            # of tap (0, 0); outside the image where the window begins in the padding
    double share                # of one tap in the average: 1 / number of taps


cdef Job job_of(const Pool *g, Py_ssize_t scratch) noexcept:
    return Job(kernel=NULL, place=IMAGES, arrays=3, items=g.n, parts=1, chunks=0, scratch=scratch,
               work=(<double> g.n) * g.oh * g.ow * g.c * g.kh * g.kw / 4)


cdef Window window_at(const Pool *g, Py_ssize_t r, Py_ssize_t q) noexcept nogil:
    cdef Window v
    cdef Py_ssize_t row = r * g.sh - g.top, column = q * g.sw - g.left
    v.a0, v.a1 = max(<Py_ssize_t> 0, -row), min(g.kh, g.h - row)
    v.b0, v.b1 = max(<Py_ssize_t> 0, -column), min(g.kw, g.w - column)
    v.pixel = row * g.w + column
    v.share = 1.0 / ((v.a1 - v.a0) * (v.b1 - v.b0))
    return v


cdef void max_images(const Pool *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, r, q, a, b, j
    cdef const real *x
    cdef real *y
    cdef int32_t *winner
    cdef Window v
    for i in range(first, last):
        x = <const real *> (g.x.data + i * g.x.step)
        y = <real *> (g.y.data + i * g.y.step)
        winner = <int32_t *> (g.winner.data + i * g.winner.step)
        for r in range(g.oh):
            for q in range(g.ow):
                v = window_at(g, r, q)
                memcpy(y, x + (v.pixel + v.a0 * g.w + v.b0) * g.c, g.c * sizeof(real))
                for j in range(g.c):
                    winner[j] = <int32_t> (v.a0 * g.kw + v.b0)
                for a in range(v.a0, v.a1):
                    for b in range(v.b0, v.b1):
                        if a > v.a0 or b > v.b0:
                            max_tap(x + (v.pixel + a * g.w + b) * g.c, y, winner, <int32_t> (a * g.kw + b), g.c)
                y += g.c
                winner += g.c


cdef void max_gradient_images(const Pool *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, r, q, a, b
    cdef real *dx
    cdef const real *dy
    cdef const int32_t *winner
    cdef Window v
    for i in range(first, last):
        dx = <real *> (g.x.data + i * g.x.step)
        dy = <const real *> (g.y.data + i * g.y.step)
        winner = <int32_t *> (g.winner.data + i * g.winner.step)
        memset(dx, 0, g.h * g.w * g.c * sizeof(real))
        for r in range(g.oh):
            for q in range(g.ow):
                v = window_at(g, r, q)
                for a in range(v.a0, v.a1):
                    for b in range(v.b0, v.b1):
                        max_untap(dy, winner, <int32_t> (a * g.kw + b), dx + (v.pixel + a * g.w + b) * g.c, g.c)
                dy += g.c
                winner += g.c


cdef void average_images(const Pool *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    """scratch: 2 C.  Large windows are summed row by row: one long sum in float32 would lose up to a per cent."""
    cdef Py_ssize_t i, r, q, a, b
    cdef bint into_rows = g.kw >= 8
    cdef const real *x
    cdef real *y
    cdef real *total = scratch
    cdef real *row = scratch + g.c
    cdef Window v
    for i in range(first, last):
        x = <const real *> (g.x.data + i * g.x.step)
        y = <real *> (g.y.data + i * g.y.step)
        for r in range(g.oh):
            for q in range(g.ow):
                v = window_at(g, r, q)
                memset(total, 0, g.c * sizeof(real))
                for a in range(v.a0, v.a1):
                    if into_rows:
                        memset(row, 0, g.c * sizeof(real))
                    for b in range(v.b0, v.b1):
                        add_to(x + (v.pixel + a * g.w + b) * g.c, row if into_rows else total, g.c)
                    if into_rows:
                        add_to(row, total, g.c)
                affine(total, <real> v.share, <real> 0, y, g.c)
                y += g.c


cdef void average_gradient_images(const Pool *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, r, q, a, b
    cdef real *dx
    cdef const real *dy
    cdef Window v
    for i in range(first, last):
        dx = <real *> (g.x.data + i * g.x.step)
        dy = <const real *> (g.y.data + i * g.y.step)
        memset(dx, 0, g.h * g.w * g.c * sizeof(real))
        for r in range(g.oh):
            for q in range(g.ow):
                v = window_at(g, r, q)
                for a in range(v.a0, v.a1):
                    for b in range(v.b0, v.b1):
                        add_scaled(dy, v.share, dx + (v.pixel + a * g.w + b) * g.c, g.c)
                dy += g.c


cdef int describe(Pool *g, const void *x, const Py_ssize_t *x_shape, const void *y, const Py_ssize_t *y_shape,
                  Py_ssize_t size, geometry) except -1:
    """size: of an element in bytes."""
    require(x_shape[0] == y_shape[0] and x_shape[3] == y_shape[3], "y must have the images and channels of x")
    memset(g, 0, sizeof(Pool))
    g.x = Array(<char *> x, x_shape[1] * x_shape[2] * x_shape[3] * size)
    g.y = Array(<char *> y, y_shape[1] * y_shape[2] * y_shape[3] * size)
    g.n, g.h, g.w, g.c = x_shape[0], x_shape[1], x_shape[2], x_shape[3]
    g.oh, g.ow = y_shape[1], y_shape[2]
    g.kh, g.kw, g.sh, g.sw, g.top, g.left = geometry
    require((g.oh - 1) * g.sh - g.top < g.h and (g.ow - 1) * g.sw - g.left < g.w and g.top < g.kh and g.left < g.kw,
            "every window must overlap the image")
    return 0


cdef int add_winner(Pool *g, const int32_t *winner, const Py_ssize_t *shape) except -1:
    require(shape[0] == g.n and shape[1] == g.oh and shape[2] == g.ow and shape[3] == g.c,
            "winner must have the shape of y")
    g.winner = Array(<char *> winner, g.oh * g.ow * g.c * sizeof(int32_t))
    return 0


def max_forward(const real[:, :, :, ::1] x not None, real[:, :, :, ::1] y not None,
                int32_t[:, :, :, ::1] winner not None, geometry):
    """y (N, OH, OW, C) = the maxima of the windows of x (N, H, W, C); ``winner`` = their taps, row * KW + column.

    geometry is (window height, width, stride height, width, rows of padding above, columns of padding to the left).
    """
    cdef Pool g
    describe(&g, &x[0, 0, 0, 0], x.shape, &y[0, 0, 0, 0], y.shape, sizeof(real), geometry)
    add_winner(&g, &winner[0, 0, 0, 0], winner.shape)
    cdef Job job = job_of(&g, 0)
    job.kernel = <Kernel> max_images[real]
    submit(&job, &g, sizeof(g))


def max_backward(const real[:, :, :, ::1] dy not None, const int32_t[:, :, :, ::1] winner not None,
                 real[:, :, :, ::1] dx not None, geometry):
    """dx: each output's gradient goes to the input that was its maximum."""
    cdef Pool g
    describe(&g, &dx[0, 0, 0, 0], dx.shape, &dy[0, 0, 0, 0], dy.shape, sizeof(real), geometry)
    add_winner(&g, &winner[0, 0, 0, 0], winner.shape)
    cdef Job job = job_of(&g, 0)
    job.kernel = <Kernel> max_gradient_images[real]
    submit(&job, &g, sizeof(g))


def average_forward(const real[:, :, :, ::1] x not None, real[:, :, :, ::1] y not None, geometry):
    """y (N, OH, OW, C) = the means of the real pixels of each window of x (N, H, W, C); geometry as in max_forward."""
    cdef Pool g
    describe(&g, &x[0, 0, 0, 0], x.shape, &y[0, 0, 0, 0], y.shape, sizeof(real), geometry)
    cdef Job job = job_of(&g, 2 * g.c * sizeof(real))
    job.kernel = <Kernel> average_images[real]
    submit(&job, &g, sizeof(g))


def average_backward(const real[:, :, :, ::1] dy not None, real[:, :, :, ::1] dx not None, geometry):
    """dx: each output's gradient in equal parts to the real pixels of its window."""
    cdef Pool g
    describe(&g, &dx[0, 0, 0, 0], dx.shape, &dy[0, 0, 0, 0], dy.shape, sizeof(real), geometry)
    cdef Job job = job_of(&g, 0)
    job.kernel = <Kernel> average_gradient_images[real]
    submit(&job, &g, sizeof(g))
