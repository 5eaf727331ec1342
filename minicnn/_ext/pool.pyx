# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of the pooling layers; the global ones are pools whose window is the image.

Design: items are images, walked a row of windows at a time (pool.h).  Taps outside the image are skipped: a maximum
never sees the padding, an average divides by the real pixels, or by all taps of a window.  A maximum remembers the
number of its tap, row * KW + column, in a byte where a window has no more than 256.  Backward writes every pixel once:
windows that tile the image spread their gradient, elsewhere each pixel gathers from the windows that it lies in.
"""
from libc.stdint cimport int32_t, uint8_t
from libc.string cimport memset

from minicnn._ext.machinery.jobs cimport IMAGES, Array, Job, Kernel, item, new_job, rows_at, submit
from minicnn._ext.machinery.runtime cimport (MOST_LANES, Geometry, Windows, average_gather, average_spread,
                                             average_windows, chosen_leaves, is_double, max_gather, max_spread,
                                             max_windows, real, require, use_leaves)

use_leaves(chosen_leaves())

cdef enum:
    LARGEST = 1 << 30  # of any length: no product of two overflows


cdef struct PoolArrays:
    Array x            # (n, h, w, c), input or its gradient
    Array y            # (n, oh, ow, c), output or its gradient
    Array winner       # (n, oh, ow, c), numbers of taps; absent for averages


cdef struct Pool:
    PoolArrays arrays
    Geometry at
    bint tiled         # the windows are whole and lie side by side


cdef Windows windows_at(const Geometry *g, Py_ssize_t r, Py_ssize_t q, Py_ssize_t *pixel) noexcept nogil:
    """The windows of output row r from column q on, up to the next that is cut off by the image's side.

    `pixel`: where the first tap stands in the image.
    """
    cdef Windows v
    cdef Py_ssize_t row = r * g.sh - g.top, column = q * g.sw - g.left, last
    cdef Py_ssize_t a0 = max(<Py_ssize_t> 0, -row), b0 = max(<Py_ssize_t> 0, -column)
    v.kh, v.kw = min(g.kh, g.h - row) - a0, min(g.kw, g.w - column) - b0
    v.count = 1
    if v.kw == g.kw:
        v.count = min(g.ow - q, (g.w - g.kw - column) // g.sw + 1)
    v.c, v.row, v.step, v.ahead = g.c, g.w * g.c, g.sw * g.c, g.sh * g.w * g.c
    v.tap, v.tap_row, v.bytes = a0 * g.kw + b0, g.kw, g.bytes
    pixel[0] = (row + a0) * g.w + column + b0
    last = pixel[0] + (v.kh - 1) * g.w + (v.count - 1) * g.sw + v.kw - 1
    v.edge = ((g.h * g.w - 1 - last) * g.c < MOST_LANES
              or (g.oh * g.ow - r * g.ow - q - v.count) * g.c < MOST_LANES)
    return v


cdef void max_images(const Pool *p, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef const Geometry *g = &p.at
    cdef Py_ssize_t i, r, q, pixel, out
    cdef Windows v
    for i in range(first, last):
        for r in range(g.oh):
            q = 0
            while q < g.ow:
                v, out = windows_at(g, r, q, &pixel), (r * g.ow + q) * g.c
                max_windows(&v, <const real *> item(p.arrays.x, i) + pixel * g.c,
                            <real *> item(p.arrays.y, i) + out, winners(p, i, out))
                q += v.count


cdef inline char *winners(const Pool *p, Py_ssize_t i, Py_ssize_t out) noexcept nogil:
    return item(p.arrays.winner, i) + out * (sizeof(uint8_t) if p.at.bytes else sizeof(int32_t))


cdef inline double share_of(const Geometry *g, const Windows *v) noexcept nogil:
    return 1.0 / (g.kh * g.kw if g.whole else v.kh * v.kw)


cdef void average_images(const Pool *p, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef const Geometry *g = &p.at
    cdef Py_ssize_t i, r, q, pixel
    cdef Windows v
    for i in range(first, last):
        for r in range(g.oh):
            q = 0
            while q < g.ow:
                v = windows_at(g, r, q, &pixel)
                average_windows(&v, share_of(g, &v), <const real *> item(p.arrays.x, i) + pixel * g.c,
                                <real *> item(p.arrays.y, i) + (r * g.ow + q) * g.c)
                q += v.count


cdef void clear_uncovered(const Geometry *g, real *dx) noexcept nogil:
    """Where windows tile the image: what they leave at the right and at the bottom."""
    cdef Py_ssize_t r, width = g.ow * g.kw, height = g.oh * g.kh
    if width < g.w:
        for r in range(height):
            memset(dx + (r * g.w + width) * g.c, 0, (g.w - width) * g.c * sizeof(real))
    memset(dx + height * g.w * g.c, 0, (g.h - height) * g.w * g.c * sizeof(real))


cdef bint at_edge(const Geometry *g, Py_ssize_t row) noexcept nogil:
    """Whether a vector of a row of dx, or of the outputs whose windows it lies in, may reach beyond the image."""
    cdef Py_ssize_t r = min(g.oh, (row + g.top) // g.sh + 1)
    return (g.h - 1 - row) * g.w * g.c < MOST_LANES or (g.oh - r) * g.ow * g.c < MOST_LANES


cdef void max_gradient_images(const Pool *p, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef const Geometry *g = &p.at
    cdef Py_ssize_t i, r, pixel
    cdef Windows v
    cdef real *dx
    cdef const real *dy
    for i in range(first, last):
        dx, dy = <real *> item(p.arrays.x, i), <const real *> item(p.arrays.y, i)
        if p.tiled:
            for r in range(g.oh):
                v = windows_at(g, r, 0, &pixel)
                max_spread(&v, dy + r * g.ow * g.c, winners(p, i, r * g.ow * g.c), dx + pixel * g.c)
            clear_uncovered(g, dx)
        else:
            for r in range(g.h):
                max_gather(g, r, at_edge(g, r), dy, winners(p, i, 0), dx + r * g.w * g.c)


cdef void average_gradient_images(const Pool *p, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef const Geometry *g = &p.at
    cdef Py_ssize_t i, r, pixel
    cdef Windows v
    cdef real *dx
    cdef const real *dy
    for i in range(first, last):
        dx, dy = <real *> item(p.arrays.x, i), <const real *> item(p.arrays.y, i)
        if p.tiled:
            for r in range(g.oh):
                v = windows_at(g, r, 0, &pixel)
                average_spread(&v, share_of(g, &v), dy + r * g.ow * g.c, dx + pixel * g.c)
            clear_uncovered(g, dx)
        else:
            for r in range(g.h):
                average_gather(g, r, at_edge(g, r), dy, dx + r * g.w * g.c)


cdef int describe(Pool *p, const real *x, const Py_ssize_t *x_shape, const real *y, const Py_ssize_t *y_shape,
                  geometry) except -1:
    cdef Geometry *g = &p.at
    require(x_shape[0] == y_shape[0] and x_shape[3] == y_shape[3], "y must have the images and channels of x")
    memset(p, 0, sizeof(Pool))
    g.h, g.w, g.c = x_shape[1], x_shape[2], x_shape[3]
    g.oh, g.ow = y_shape[1], y_shape[2]
    g.kh, g.kw, g.sh, g.sw, g.top, g.left = geometry
    require(0 < g.h <= LARGEST and 0 < g.w <= LARGEST and 0 < g.oh <= LARGEST and 0 < g.ow <= LARGEST and g.c > 0,
            "images must have 1 to 2^30 rows and columns, and a channel")
    require(0 < g.kh <= LARGEST and 0 < g.kw <= LARGEST and 0 < g.sh <= LARGEST and 0 < g.sw <= LARGEST
            and 0 <= g.top and 0 <= g.left, "windows and strides must be 1 to 2^30, and paddings not negative")
    require((g.oh - 1) * g.sh - g.top < g.h and (g.ow - 1) * g.sw - g.left < g.w and g.top < g.kh and g.left < g.kw,
            "every window must overlap the image")
    p.tiled = (g.top == 0 and g.left == 0 and g.oh * g.kh <= g.h and g.ow * g.kw <= g.w
               and (g.sh == g.kh or g.oh == 1) and (g.sw == g.kw or g.ow == 1))
    p.arrays.x, p.arrays.y = rows_at(x, g.h * g.w * g.c), rows_at(y, g.oh * g.ow * g.c)
    return 0


cdef int add_winner(Pool *p, winner, bint written, Py_ssize_t n) except -1:
    """`winner`: (n, OH, OW, C), uint8 or int32."""
    cdef const uint8_t[:, :, :, ::1] small
    cdef const int32_t[:, :, :, ::1] large
    view = memoryview(winner)
    require(not (written and view.readonly), "winner must be writable")
    if view.itemsize == 1:
        small = winner
        require(p.at.kh * p.at.kw <= 256, "winner must be int32 where a window has more than 256 pixels")
        return place_winner(p, &small[0, 0, 0, 0], small.shape, n, 1)
    large = winner
    return place_winner(p, &large[0, 0, 0, 0], large.shape, n, sizeof(int32_t))


cdef int place_winner(Pool *p, const void *winner, const Py_ssize_t *shape, Py_ssize_t n, Py_ssize_t size) except -1:
    cdef Geometry *g = &p.at
    require(shape[0] == n and shape[1] == g.oh and shape[2] == g.ow and shape[3] == g.c,
            "winner must have the shape of y")
    g.bytes = size == 1
    p.arrays.winner = Array(<char *> winner, g.oh * g.ow * g.c * size)
    return 0


cdef int run(Kernel kernel, const Pool *p, Py_ssize_t n) except -1:
    cdef const Geometry *g = &p.at
    cdef Job job = new_job(kernel, IMAGES, sizeof(p.arrays), n,
                           (<double> n) * g.c * (g.oh * g.ow * g.kh * g.kw + g.h * g.w) / 8)
    return submit(&job, p, sizeof(Pool))


def max_forward(x not None, y not None, winner not None, geometry):
    """y (N, OH, OW, C) = the maxima of the windows of x (N, H, W, C); ``winner`` = their taps, row * KW + column.

    ``winner`` is uint8, or int32 where a window has more than 256 pixels.  geometry is (window height, width, stride
    height, width, rows of padding above, columns of padding to the left).
    """
    if is_double(x):
        max_forward_in[double](x, y, winner, geometry)
    else:
        max_forward_in[float](x, y, winner, geometry)


cdef int max_forward_in(const real[:, :, :, ::1] x, real[:, :, :, ::1] y, winner, geometry) except -1:
    cdef Pool p
    describe[real](&p, &x[0, 0, 0, 0], x.shape, &y[0, 0, 0, 0], y.shape, geometry)
    add_winner(&p, winner, True, y.shape[0])
    run(<Kernel> max_images[real], &p, x.shape[0])


def max_backward(dy not None, winner not None, dx not None, geometry):
    """dx: each output's gradient goes to the input that was its maximum."""
    if is_double(dy):
        max_backward_in[double](dy, winner, dx, geometry)
    else:
        max_backward_in[float](dy, winner, dx, geometry)


cdef int max_backward_in(const real[:, :, :, ::1] dy, winner, real[:, :, :, ::1] dx, geometry) except -1:
    cdef Pool p
    describe[real](&p, &dx[0, 0, 0, 0], dx.shape, &dy[0, 0, 0, 0], dy.shape, geometry)
    add_winner(&p, winner, False, dy.shape[0])
    run(<Kernel> max_gradient_images[real], &p, dx.shape[0])


def average_forward(x not None, y not None, geometry, bint whole=False):
    """y (N, OH, OW, C) = the means of the real pixels of each window of x (N, H, W, C), or with ``whole`` their sums
    divided by the window's size; geometry as in max_forward."""
    if is_double(x):
        average_forward_in[double](x, y, geometry, whole)
    else:
        average_forward_in[float](x, y, geometry, whole)


cdef int average_forward_in(const real[:, :, :, ::1] x, real[:, :, :, ::1] y, geometry, bint whole) except -1:
    cdef Pool p
    describe[real](&p, &x[0, 0, 0, 0], x.shape, &y[0, 0, 0, 0], y.shape, geometry)
    p.at.whole = whole
    run(<Kernel> average_images[real], &p, x.shape[0])


def average_backward(dy not None, dx not None, geometry, bint whole=False):
    """dx: each output's gradient in equal parts to the pixels of its window, those of padding lost with ``whole``."""
    if is_double(dy):
        average_backward_in[double](dy, dx, geometry, whole)
    else:
        average_backward_in[float](dy, dx, geometry, whole)


cdef int average_backward_in(const real[:, :, :, ::1] dy, real[:, :, :, ::1] dx, geometry, bint whole) except -1:
    cdef Pool p
    describe[real](&p, &dx[0, 0, 0, 0], dx.shape, &dy[0, 0, 0, 0], dy.shape, geometry)
    p.at.whole = whole
    run(<Kernel> average_gradient_images[real], &p, dx.shape[0])
