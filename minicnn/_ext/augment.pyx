# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of the layers that augment images: they move them, change their colours, and erase rectangles.

Design: items are images.  What happens to an image is a function of a few random numbers of its own (`numbers`), which
the kernel draws when it runs: so the bits depend neither on threads nor on how a batch is cut, and backward, which
draws them again, needs no memory of what forward did.

To move an image is to say for every pixel of y where in x it comes from: an affine map, made of the random numbers by
one of the functions `flip` to `crop`.  Between the pixels of x numbers are interpolated along both axes, or the nearest
is taken; what lies outside of x is mirrored, repeated, clamped or a constant, tap by tap.  A tap with the weight 0 is not
looked at, as 0 times an inf is no number.  Backward adds every number of dy to the taps that it came from.
"""
from libc.math cimport cos, floor, pi, sin
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from minicnn._ext.machinery.jobs cimport IMAGES, Array, Job, Kernel, fixed, item, new_job, rows_at, submit
from minicnn._ext.machinery.random cimport Draw, is_draw, philox, step_of
from minicnn._ext.machinery.runtime cimport chosen_leaves, real, require, use_leaves

use_leaves(chosen_leaves())

cdef enum:
    NUMBERS = 8  # random numbers of an image
    RANGES = 5   # of what is made of them

FLIP, TRANSLATION, ROTATION, ZOOM, CROP = range(5)
REFLECT, WRAP, CONSTANT, NEAREST = range(4)
CONTRAST, BRIGHTNESS = range(2)

cdef enum Motion:
    BY_FLIP, BY_TRANSLATION, BY_ROTATION, BY_ZOOM, BY_CROP, MOTIONS

cdef enum Fill:
    BY_REFLECTION, BY_WRAPPING, BY_CONSTANT, BY_NEAREST, FILLS


cdef void numbers(const Draw *draw, Py_ssize_t sample, double *u) noexcept nogil:
    """Eight numbers in [0, 1), multiples of 2^-32, of a sample in its step."""
    cdef uint64_t block = 2 * (draw.first + <uint64_t> sample % draw.period)
    cdef uint32_t[4] c
    cdef int half, i
    for half in range(2):
        c[0], c[1] = <uint32_t> (block + half), <uint32_t> ((block + half) >> 32)
        c[2], c[3] = step_of(draw, sample), <uint32_t> draw.stream
        philox(c, draw.seed)
        for i in range(4):
            u[4 * half + i] = c[i] / 4294967296.0


# ---- motions ----

cdef struct Size:
    Py_ssize_t h, w


# Pixel (i, j) of y is what x has at row `row + row_i i + row_j j`, column `column + column_i i + column_j j`.
cdef struct Map:
    double row, row_i, row_j, column, column_i, column_j


cdef double between(const double *range_, double u) noexcept nogil:
    return range_[0] + u * (range_[1] - range_[0])


cdef Map flip(const double *u, const double *ranges, Size x, Size y) noexcept nogil:
    """`ranges`: whether from left to right, whether from top to bottom; each for every second image."""
    cdef Map m = Map(0, 1, 0, 0, 0, 1)
    if ranges[0] and u[0] < 0.5:
        m.column, m.column_j = x.w - 1, -1
    if ranges[1] and u[1] < 0.5:
        m.row, m.row_i = x.h - 1, -1
    return m


cdef Map translate(const double *u, const double *ranges, Size x, Size y) noexcept nogil:
    """`ranges`: of the way down, and to the right, in heights and widths."""
    return Map(-between(ranges, u[0]) * x.h, 1, 0, -between(ranges + 2, u[1]) * x.w, 0, 1)


cdef Map about_centre(double row_i, double row_j, double column_i, double column_j, Size x) noexcept nogil:
    cdef double i = (x.h - 1) / 2.0, j = (x.w - 1) / 2.0
    return Map(i - row_i * i - row_j * j, row_i, row_j, j - column_i * i - column_j * j, column_i, column_j)


cdef Map rotate(const double *u, const double *ranges, Size x, Size y) noexcept nogil:
    """`ranges`: of the angle, in turns, against the clock."""
    cdef double angle = 2 * pi * between(ranges, u[0])
    return about_centre(cos(angle), sin(angle), -sin(angle), cos(angle), x)


cdef Map zoom(const double *u, const double *ranges, Size x, Size y) noexcept nogil:
    """`ranges`: of the growth of the part that is seen, in height and in width; whether both are the same."""
    return about_centre(1 + between(ranges, u[0]), 0, 0, 1 + between(ranges + 2, u[0 if ranges[4] else 1]), x)


cdef Map crop(const double *u, const double *ranges, Size x, Size y) noexcept nogil:
    return Map(floor(u[0] * (x.h - y.h + 1)), 1, 0, floor(u[1] * (x.w - y.w + 1)), 0, 1)


cdef Map map_of(Motion motion, const Draw *draw, Py_ssize_t sample, const double *ranges, Size x, Size y) noexcept nogil:
    cdef double[NUMBERS] u
    numbers(draw, sample, u)
    if motion == BY_FLIP:
        return flip(u, ranges, x, y)
    if motion == BY_TRANSLATION:
        return translate(u, ranges, x, y)
    if motion == BY_ROTATION:
        return rotate(u, ranges, x, y)
    if motion == BY_ZOOM:
        return zoom(u, ranges, x, y)
    return crop(u, ranges, x, y)


# ---- pixels between pixels ----

cdef struct MoveArrays:
    Array x            # (n, h, w, c); in backward its gradient, which is written
    Array y            # (n, oh, ow, c)
    Array draw         # a Draw, read when the kernel runs
    Array ranges       # of the random numbers, as the motion wants them


cdef struct Move:
    MoveArrays arrays
    Size x, y
    Py_ssize_t c
    Motion motion
    Fill fill
    bint linear
    double value       # of what lies outside, if it is constant


# Along one axis: a number is (1 - share) that of place[0] and share that of place[1]; a place of -1 is outside.
cdef struct Taps:
    Py_ssize_t[2] place
    double share


cdef inline Py_ssize_t inside(Py_ssize_t p, Py_ssize_t size, Fill fill) noexcept nogil:
    """The place in 0 .. size - 1 that stands for p."""
    if 0 <= p < size:
        return p
    if fill == BY_CONSTANT:
        return -1
    if fill == BY_NEAREST:
        return 0 if p < 0 else size - 1
    if fill == BY_WRAPPING:
        p %= size
        return p + size if p < 0 else p
    p %= 2 * size
    if p < 0:
        p += 2 * size
    return p if p < size else 2 * size - 1 - p


cdef inline Taps taps_at(double at, Py_ssize_t size, Fill fill, bint linear) noexcept nogil:
    cdef Taps taps
    cdef double low
    cdef Py_ssize_t p
    at = min(max(at, -1e15), 1e15)
    low = floor(at if linear else at + 0.5)
    p = <Py_ssize_t> low
    taps.share = at - low if linear else 0
    taps.place[0] = inside(p, size, fill)
    taps.place[1] = inside(p + 1, size, fill) if taps.share else taps.place[0]
    return taps


cdef inline int taps_of(const Move *g, const Map *m, Py_ssize_t i, Py_ssize_t j, Py_ssize_t *place,
                        double *weight) noexcept nogil:
    """How many taps pixel (i, j) of y has, which pixels of x they are (-1: none of them), and their weights."""
    cdef Taps rows = taps_at(m.row + m.row_i * i + m.row_j * j, g.x.h, g.fill, g.linear)
    cdef Taps columns = taps_at(m.column + m.column_i * i + m.column_j * j, g.x.w, g.fill, g.linear)
    cdef int count = 0, a, b
    for a in range(2 if rows.share else 1):
        for b in range(2 if columns.share else 1):
            place[count] = -1
            if rows.place[a] >= 0 and columns.place[b] >= 0:
                place[count] = (rows.place[a] * g.x.w + columns.place[b]) * g.c
            weight[count] = (rows.share if a else 1 - rows.share) * (columns.share if b else 1 - columns.share)
            count += 1
    return count


cdef void move_images(const Move *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t sample, i, j, k
    cdef Py_ssize_t[4] place
    cdef double[4] weight
    cdef int count, tap
    cdef Map m
    cdef const real *x
    cdef real *y
    cdef real share
    for sample in range(first, last):
        m = map_of(g.motion, <const Draw *> g.arrays.draw.data, sample, <const double *> g.arrays.ranges.data, g.x, g.y)
        x, y = <const real *> item(g.arrays.x, sample), <real *> item(g.arrays.y, sample)
        for i in range(g.y.h):
            for j in range(g.y.w):
                count = taps_of(g, &m, i, j, place, weight)
                for tap in range(count):
                    share = <real> weight[tap]
                    for k in range(g.c):
                        y[k] = (<real> 0 if tap == 0 else y[k]) + share * (
                            x[place[tap] + k] if place[tap] >= 0 else <real> g.value)
                y += g.c


cdef void move_gradients(const Move *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t sample, i, j, k
    cdef Py_ssize_t[4] place
    cdef double[4] weight
    cdef int count, tap
    cdef Map m
    cdef real *dx
    cdef const real *dy
    cdef real share
    for sample in range(first, last):
        m = map_of(g.motion, <const Draw *> g.arrays.draw.data, sample, <const double *> g.arrays.ranges.data, g.x, g.y)
        dx, dy = <real *> item(g.arrays.x, sample), <const real *> item(g.arrays.y, sample)
        memset(dx, 0, g.x.h * g.x.w * g.c * sizeof(real))
        for i in range(g.y.h):
            for j in range(g.y.w):
                count = taps_of(g, &m, i, j, place, weight)
                for tap in range(count):
                    if place[tap] >= 0:
                        share = <real> weight[tap]
                        for k in range(g.c):
                            dx[place[tap] + k] += share * dy[k]
                dy += g.c


cdef int run_move(Kernel kernel, const real *x, const Py_ssize_t *x_shape, const real *y, const Py_ssize_t *y_shape,
                  const uint64_t[::1] draw, const double[::1] ranges, int motion, int fill, bint linear,
                  double value) except -1:
    cdef Move g
    cdef Job job
    memset(&g, 0, sizeof(g))
    require(0 <= motion < MOTIONS and 0 <= fill < FILLS, "there is no such motion, or no such way to fill")
    require(is_draw(&draw[0], draw.shape[0]) and ranges.shape[0] == RANGES, "draw must have 6 numbers, ranges 5")
    require(y_shape[0] == x_shape[0] and y_shape[3] == x_shape[3], "y must have the images and the channels of x")
    g.x, g.y, g.c = Size(x_shape[1], x_shape[2]), Size(y_shape[1], y_shape[2]), x_shape[3]
    require(0 < g.x.h and 0 < g.x.w and 0 < g.c, "images must have pixels and channels")
    require(g.y.h == g.x.h and g.y.w == g.x.w if motion != BY_CROP else 0 < g.y.h <= g.x.h and 0 < g.y.w <= g.x.w,
            "y must have the size of x, or a smaller one if it is cut out of it")
    g.arrays.x, g.arrays.y = rows_at(x, g.x.h * g.x.w * g.c), rows_at(y, g.y.h * g.y.w * g.c)
    g.arrays.draw, g.arrays.ranges = fixed(&draw[0]), fixed(&ranges[0])
    g.motion, g.fill, g.linear, g.value = <Motion> motion, <Fill> fill, linear, value
    job = new_job(kernel, IMAGES, sizeof(g.arrays), x_shape[0], x_shape[0] * g.y.h * g.y.w * (10.0 + 2 * g.c))
    return submit(&job, &g, sizeof(g))


def move(const real[:, :, :, ::1] x not None, real[:, :, :, ::1] y not None, const uint64_t[::1] draw not None,
         const double[::1] ranges not None, int motion, int fill, bint linear, double value):
    """y (N, OH, OW, C): every image of x (N, H, W, C), moved as its random numbers say; OH, OW = H, W but for CROP.

    ``draw``: threshold (not read), seed, step, stream, first, period, as for Dropout.  ``ranges``: 5 numbers, what they
    are says the motion.  ``fill``: what lies outside of x; ``value`` if that is CONSTANT.
    """
    run_move[real](<Kernel> move_images[real], &x[0, 0, 0, 0], x.shape, &y[0, 0, 0, 0], y.shape, draw, ranges, motion,
                   fill, linear, value)


def move_backward(const real[:, :, :, ::1] dy not None, real[:, :, :, ::1] dx not None,
                  const uint64_t[::1] draw not None, const double[::1] ranges not None, int motion, int fill,
                  bint linear):
    """dx: of every number of x the sum of dy over the taps it was, each with its weight; the rest as for ``move``."""
    run_move[real](<Kernel> move_gradients[real], &dx[0, 0, 0, 0], dx.shape, &dy[0, 0, 0, 0], dy.shape, draw, ranges,
                   motion, fill, linear, 0)


def maps(double[:, ::1] m not None, const uint64_t[::1] draw not None, const double[::1] ranges not None, int motion,
         size, new_size):
    """m (N, 6): pixel (i, j) of y is what x has at row m[0] + m[1] i + m[2] j, column m[3] + m[4] i + m[5] j."""
    cdef Py_ssize_t sample
    cdef Size x = Size(size[0], size[1]), y = Size(new_size[0], new_size[1])
    require(m.shape[1] == 6 and is_draw(&draw[0], draw.shape[0]) and ranges.shape[0] == RANGES
            and 0 <= motion < MOTIONS, "m must be (N, 6), draw must have 6 numbers, ranges 5")
    for sample in range(m.shape[0]):
        (<Map *> &m[sample, 0])[0] = map_of(<Motion> motion, <const Draw *> &draw[0], sample, &ranges[0], x, y)
