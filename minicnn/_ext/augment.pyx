# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of the layers that augment images: they move them, change their colours, and erase rectangles.

Design: items are images.  What happens to an image is a function of a few random numbers of its own (`numbers`), which
the kernel draws when it runs: so the bits depend neither on threads nor on how a batch is cut, and backward, which
draws them again, needs no memory of what forward did.

To move an image is to say for every pixel of y where in x it comes from: an affine map, made of the random numbers by
one of the functions `flip` to `resize`.  Between the pixels of x numbers are interpolated, first between rows and then
between columns, or the nearest is taken; what lies outside of x is mirrored, repeated, clamped or a constant.  A pixel
that has no share is not looked at, as 0 times an inf is no number.  Where rows stay rows (all maps but rotations), rows
are interpolated as a whole, and runs of whole pixels are copied.  Backward adds every number of dy to the pixels that
it came from.

Colours are changed with the mean of each channel (contrast) or by a number that is added (brightness); what leaves the
range of the data is cut off there, and has no gradient.
"""
from libc.math cimport INFINITY, exp, floor, pi, sqrt
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from minicnn._ext.machinery.jobs cimport IMAGES, Array, Job, Kernel, fixed, item, new_job, rows_at, submit
from minicnn._ext.machinery.random cimport BESIDE, GROUP, Draw, index_of, is_draw, philox, step_of
from minicnn._ext.machinery.runtime cimport chosen_leaves, gaussian, is_double, real, require, use_leaves

use_leaves(chosen_leaves())

cdef enum:
    NUMBERS = 8  # random numbers of an image
    RANGES = 9   # of what is made of them

FLIP, TRANSLATION, ROTATION, ZOOM, CROP, RESIZE = range(6)
REFLECT, WRAP, CONSTANT, NEAREST = range(4)
CONTRAST, BRIGHTNESS = range(2)

cdef enum Motion:
    BY_FLIP, BY_TRANSLATION, BY_ROTATION, BY_ZOOM, BY_CROP, BY_RESIZE, MOTIONS

cdef enum Fill:
    BY_REFLECTION, BY_WRAPPING, BY_CONSTANT, BY_NEAREST, FILLS

cdef enum Colour:
    BY_CONTRAST, BY_BRIGHTNESS, COLOURS

cdef double FARTHEST = 1 << 30
cdef double SMALLEST = 1.0 / (1 << 24)  # share of a pixel; a place that is nearer to a pixel than that is the pixel


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


cdef double between(const double *range_, double u) noexcept nogil:
    return range_[0] + u * (range_[1] - range_[0])


# ---- motions ----

cdef struct Size:
    Py_ssize_t h, w


# Pixel (i, j) of y is what x has at row `row + row_i i + row_j j`, column `column + column_i i + column_j j`.
cdef struct Map:
    double row, row_i, row_j, column, column_i, column_j


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


cdef void angle_of(double turns, double *cosine, double *sine) noexcept nogil:
    """Of an angle in turns, by Taylor's series within an eighth of a turn, to 1e-16: what the C library gives may be
    other numbers on another machine.  Quarter turns are exact."""
    cdef double quarters = floor(4 * turns + 0.5), a = 2 * pi * (turns - quarters / 4), z = -a * a, c = 1, s = 1
    cdef int k, quarter = <int> (quarters - 4 * floor(quarters / 4))
    for k in range(9, 0, -1):
        c = 1 + c * z / ((2 * k - 1) * (2 * k))
        s = 1 + s * z / ((2 * k) * (2 * k + 1))
    s *= a
    cosine[0] = c if quarter == 0 else -s if quarter == 1 else -c if quarter == 2 else s
    sine[0] = s if quarter == 0 else c if quarter == 1 else -s if quarter == 2 else -c


cdef Map rotate(const double *u, const double *ranges, Size x, Size y) noexcept nogil:
    """`ranges`: of the angle, in turns, against the clock."""
    cdef double cosine, sine
    angle_of(between(ranges, u[0]), &cosine, &sine)
    return about_centre(cosine, sine, -sine, cosine, x)


cdef Map zoom(const double *u, const double *ranges, Size x, Size y) noexcept nogil:
    """`ranges`: of the growth of the part that is seen, in height and in width; whether both are the same."""
    return about_centre(1 + between(ranges, u[0]), 0, 0, 1 + between(ranges + 2, u[0 if ranges[4] else 1]), x)


cdef Map crop(const double *u, const double *ranges, Size x, Size y) noexcept nogil:
    return Map(floor(u[0] * (x.h - y.h + 1)), 1, 0, floor(u[1] * (x.w - y.w + 1)), 0, 1)


cdef Map resize(const double *ranges) noexcept nogil:
    """Nothing is drawn.  `ranges`: where the first row of y lies in x, from one to the next, the same of columns."""
    return Map(ranges[0], ranges[1], 0, ranges[2], 0, ranges[3])


cdef Map map_of(Motion motion, const Draw *draw, Py_ssize_t sample, const double *ranges, Size x,
                Size y) noexcept nogil:
    cdef double[NUMBERS] u
    cdef Map m
    cdef double *number = &m.row
    cdef int i
    numbers(draw, sample, u)
    if motion == BY_FLIP:
        m = flip(u, ranges, x, y)
    elif motion == BY_TRANSLATION:
        m = translate(u, ranges, x, y)
    elif motion == BY_ROTATION:
        m = rotate(u, ranges, x, y)
    elif motion == BY_ZOOM:
        m = zoom(u, ranges, x, y)
    elif motion == BY_RESIZE:
        m = resize(ranges)
    else:
        m = crop(u, ranges, x, y)
    for i in range(6):  # so that every place can be counted
        number[i] = min(max(number[i], -FARTHEST), FARTHEST)
    return m


# ---- places between pixels ----

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


cdef inline Py_ssize_t whole_below(double at) noexcept nogil:
    """The largest whole number <= at, without the C library."""
    cdef Py_ssize_t p = <Py_ssize_t> at
    return p - 1 if p > at else p


cdef inline Py_ssize_t split(double at, bint linear, double *share) noexcept nogil:
    """The pixel before the place, or on it, and the share of the one behind it."""
    cdef Py_ssize_t p = whole_below(at if linear else at + 0.5)
    share[0] = at - p if linear else 0
    if share[0] < SMALLEST:
        share[0] = 0
    elif share[0] > 1 - SMALLEST:
        p, share[0] = p + 1, 0
    return p


cdef inline Taps taps_at(double at, Py_ssize_t size, Fill fill, bint linear) noexcept nogil:
    cdef Taps taps
    cdef Py_ssize_t p = split(at, linear, &taps.share)
    taps.place[0] = inside(p, size, fill)
    taps.place[1] = inside(p + 1, size, fill) if taps.share else taps.place[0]
    return taps


cdef inline Taps row_taps(const Move *g, const Map *m, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    return taps_at(m.row + m.row_i * i + m.row_j * j, g.x.h, g.fill, g.linear)


cdef inline Taps column_taps(const Move *g, const Map *m, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    return taps_at(m.column + m.column_i * i + m.column_j * j, g.x.w, g.fill, g.linear)


cdef inline real mix(real a, real b, real share) noexcept nogil:
    return (1 - share) * a + share * b


# One, three, or any number of channels: for the first two there is no loop.

cdef inline void copy_pixel(const real *a, real *y, Py_ssize_t c) noexcept nogil:
    cdef Py_ssize_t k
    if c == 3:
        y[0], y[1], y[2] = a[0], a[1], a[2]
    elif c == 1:
        y[0] = a[0]
    else:
        for k in range(c):
            y[k] = a[k]


cdef inline void mix_two(const real *a, const real *b, real share, real *y, Py_ssize_t c) noexcept nogil:
    cdef Py_ssize_t k
    if c == 3:
        y[0], y[1], y[2] = mix(a[0], b[0], share), mix(a[1], b[1], share), mix(a[2], b[2], share)
    elif c == 1:
        y[0] = mix(a[0], b[0], share)
    else:
        for k in range(c):
            y[k] = mix(a[k], b[k], share)


cdef inline real mix_rows(const real *a, const real *b, const real *c, const real *d, real row_share, real share,
                          Py_ssize_t k) noexcept nogil:
    return mix(mix(a[k], c[k], row_share), mix(b[k], d[k], row_share), share)


cdef inline void mix_four(const real *a, const real *b, const real *c, const real *d, real row_share, real share,
                          real *y, Py_ssize_t n) noexcept nogil:
    """Of two pixels, a and b, and those below them, c and d."""
    cdef Py_ssize_t k
    if n == 3:
        y[0] = mix_rows(a, b, c, d, row_share, share, 0)
        y[1] = mix_rows(a, b, c, d, row_share, share, 1)
        y[2] = mix_rows(a, b, c, d, row_share, share, 2)
    elif n == 1:
        y[0] = mix_rows(a, b, c, d, row_share, share, 0)
    else:
        for k in range(n):
            y[k] = mix_rows(a, b, c, d, row_share, share, k)


# ---- images whose rows stay rows ----

cdef void cross_columns(const Move *g, const real *line, const real *outside, const Taps *columns, Py_ssize_t run,
                        Py_ssize_t end, real *y) noexcept nogil:
    """A row of y from one of x, or one between two; its pixels from `run` to `end` - 1 are neighbours in x."""
    cdef Py_ssize_t j = 0, c = g.c
    cdef const real *a
    cdef const real *b
    while j < g.y.w:
        a = line + columns[j].place[0] * c if columns[j].place[0] >= 0 else outside
        if j == run:
            memcpy(y + j * c, a, (end - run) * c * sizeof(real))
            j = end
            continue
        if columns[j].share:
            b = line + columns[j].place[1] * c if columns[j].place[1] >= 0 else outside
            mix_two(a, b, <real> columns[j].share, y + j * c, c)
        else:
            copy_pixel(a, y + j * c, c)
        j += 1


cdef void find_run(const Taps *columns, Py_ssize_t count, Py_ssize_t *run, Py_ssize_t *end) noexcept nogil:
    """The longest run of whole pixels that are neighbours in x too; (-1, -1) where none is longer than one."""
    cdef Py_ssize_t j, start = 0
    run[0] = end[0] = -1
    for j in range(1, count + 1):
        if (j == count or columns[j].share or columns[j - 1].share or columns[j - 1].place[0] < 0
                or columns[j].place[0] != columns[j - 1].place[0] + 1):
            if j - start > max(<Py_ssize_t> 1, end[0] - run[0]):
                run[0], end[0] = start, j
            start = j


cdef void move_rows(const Move *g, const Map *m, const real *x, real *y, Taps *columns, real *line,
                    const real *outside) noexcept nogil:
    """`outside`: a row of what lies outside; `columns`, `line`: scratch memory."""
    cdef Py_ssize_t i, j, e, run, end, row = g.x.w * g.c
    cdef Taps rows
    cdef const real *a
    cdef const real *b
    cdef real share
    for j in range(g.y.w):
        columns[j] = column_taps(g, m, 0, j)
    find_run(columns, g.y.w, &run, &end)
    for i in range(g.y.h):
        rows = row_taps(g, m, i, 0)
        a = x + rows.place[0] * row if rows.place[0] >= 0 else outside
        if rows.share:
            b = x + rows.place[1] * row if rows.place[1] >= 0 else outside
            share = <real> rows.share
            for e in range(row):
                line[e] = mix(a[e], b[e], share)
            a = line
        cross_columns(g, a, outside, columns, run, end, y)
        y += g.y.w * g.c


# ---- any images ----

cdef inline void move_pixel(const Move *g, const Taps *rows, const Taps *columns, const real *x, const real *outside,
                            real *y) noexcept nogil:
    cdef const real *corner[4]
    cdef Py_ssize_t a, b
    for a in range(2):
        for b in range(2):
            corner[2 * a + b] = outside
            if rows.place[a] >= 0 and columns.place[b] >= 0:
                corner[2 * a + b] = x + (rows.place[a] * g.x.w + columns.place[b]) * g.c
    if rows.share and columns.share:
        mix_four(corner[0], corner[1], corner[2], corner[3], <real> rows.share, <real> columns.share, y, g.c)
    elif rows.share:
        mix_two(corner[0], corner[2], <real> rows.share, y, g.c)
    elif columns.share:
        mix_two(corner[0], corner[1], <real> columns.share, y, g.c)
    else:
        copy_pixel(corner[0], y, g.c)


cdef void move_pixels(const Move *g, const Map *m, const real *x, real *y, const real *outside) noexcept nogil:
    cdef Py_ssize_t i, j, p, q, row = g.x.w * g.c, last_row = g.x.h - 1, last_column = g.x.w - 1
    cdef double at_row, at_column, row_share, share
    cdef const real *a
    cdef Taps rows, columns
    for i in range(g.y.h):
        at_row, at_column = m.row + m.row_i * i, m.column + m.column_i * i
        for j in range(g.y.w):
            p = split(at_row + m.row_j * j, g.linear, &row_share)
            q = split(at_column + m.column_j * j, g.linear, &share)
            if 0 <= p < last_row and 0 <= q < last_column and row_share and share:
                a = x + p * row + q * g.c
                mix_four(a, a + g.c, a + row, a + row + g.c, <real> row_share, <real> share, y, g.c)
            else:
                rows, columns = row_taps(g, m, i, j), column_taps(g, m, i, j)
                move_pixel(g, &rows, &columns, x, outside, y)
            y += g.c


cdef void move_images(const Move *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t sample, e, row = g.x.w * g.c
    cdef Map m
    cdef Taps *columns = <Taps *> scratch
    cdef real *line = <real *> (columns + g.y.w)
    cdef real *outside = line + row
    cdef const real *x
    cdef real *y
    for e in range(row):
        outside[e] = <real> g.value
    for sample in range(first, last):
        m = map_of(g.motion, <const Draw *> g.arrays.draw.data, sample, <const double *> g.arrays.ranges.data, g.x, g.y)
        x, y = <const real *> item(g.arrays.x, sample), <real *> item(g.arrays.y, sample)
        if m.row_j == 0 and m.column_i == 0:
            move_rows(g, &m, x, y, columns, line, outside)
        else:
            move_pixels(g, &m, x, y, outside)


cdef void move_gradients(const Move *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t sample, i, j, k, a, b
    cdef Map m
    cdef Taps rows, columns
    cdef real *dx
    cdef real *at
    cdef const real *dy
    cdef real row_share, share
    for sample in range(first, last):
        m = map_of(g.motion, <const Draw *> g.arrays.draw.data, sample, <const double *> g.arrays.ranges.data, g.x, g.y)
        dx, dy = <real *> item(g.arrays.x, sample), <const real *> item(g.arrays.y, sample)
        memset(dx, 0, g.x.h * g.x.w * g.c * sizeof(real))
        for i in range(g.y.h):
            for j in range(g.y.w):
                rows, columns = row_taps(g, &m, i, j), column_taps(g, &m, i, j)
                for a in range(2 if rows.share else 1):
                    row_share = <real> rows.share if a else 1 - <real> rows.share
                    for b in range(2 if columns.share else 1):
                        if rows.place[a] < 0 or columns.place[b] < 0:
                            continue
                        share = row_share * (<real> columns.share if b else 1 - <real> columns.share)
                        at = dx + (rows.place[a] * g.x.w + columns.place[b]) * g.c
                        for k in range(g.c):
                            at[k] += share * dy[k]
                dy += g.c


cdef int run_move(Kernel kernel, const real *x, const Py_ssize_t *x_shape, const real *y, const Py_ssize_t *y_shape,
                  const uint64_t[::1] draw, const double[::1] ranges, int motion, int fill, bint linear,
                  double value) except -1:
    cdef Move g
    cdef Job job
    memset(&g, 0, sizeof(g))
    require(0 <= motion < MOTIONS and 0 <= fill < FILLS, "there is no such motion, or no such way to fill")
    require_numbers(draw, ranges)
    require(y_shape[0] == x_shape[0] and y_shape[3] == x_shape[3], "y must have the images and the channels of x")
    g.x, g.y, g.c = Size(x_shape[1], x_shape[2]), Size(y_shape[1], y_shape[2]), x_shape[3]
    require(0 < g.x.h and 0 < g.x.w and 0 < g.c, "images must have pixels and channels")
    require(0 < g.y.h and 0 < g.y.w and (motion == BY_RESIZE or g.y.h <= g.x.h and g.y.w <= g.x.w)
            and (motion == BY_RESIZE or motion == BY_CROP or g.y.h == g.x.h and g.y.w == g.x.w),
            "y must have the size of x, or a smaller one if it is cut out of it")
    g.arrays.x, g.arrays.y = rows_at(x, g.x.h * g.x.w * g.c), rows_at(y, g.y.h * g.y.w * g.c)
    g.arrays.draw, g.arrays.ranges = fixed(&draw[0]), fixed(&ranges[0])
    g.motion, g.fill, g.linear, g.value = <Motion> motion, <Fill> fill, linear, value
    job = new_job(kernel, IMAGES, sizeof(g.arrays), x_shape[0], x_shape[0] * g.y.h * g.y.w * (2.0 + g.c))
    job.scratch = g.y.w * sizeof(Taps) + 2 * g.x.w * g.c * sizeof(real)
    return submit(&job, &g, sizeof(g))


cdef int require_numbers(const uint64_t[::1] draw, const double[::1] ranges) except -1:
    return require(is_draw(&draw[0], draw.shape[0]) and ranges.shape[0] == RANGES,
                   "draw must have 6 numbers, ranges 9")


def move(x not None, y not None, const uint64_t[::1] draw not None, const double[::1] ranges not None, int motion,
         int fill, bint linear, double value):
    """y (N, OH, OW, C): every image of x (N, H, W, C), moved as its random numbers say; OH, OW = H, W but for CROP
    and RESIZE.

    ``draw``: threshold (not read), seed, step, stream, first, period, as for Dropout.  ``ranges``: 9 numbers, the first
    of which are what the motion says.  ``fill``: what lies outside of x; ``value`` if that is CONSTANT.
    """
    if is_double(x):
        move_in[double](x, y, draw, ranges, motion, fill, linear, value)
    else:
        move_in[float](x, y, draw, ranges, motion, fill, linear, value)


cdef int move_in(const real[:, :, :, ::1] x, real[:, :, :, ::1] y, const uint64_t[::1] draw, const double[::1] ranges,
                 int motion, int fill, bint linear, double value) except -1:
    run_move[real](<Kernel> move_images[real], &x[0, 0, 0, 0], x.shape, &y[0, 0, 0, 0], y.shape, draw, ranges, motion,
                   fill, linear, value)


def move_backward(dy not None, dx not None, const uint64_t[::1] draw not None, const double[::1] ranges not None,
                  int motion, int fill, bint linear):
    """dx: of every number of x the sum of dy over the pixels it went to, times its share; the rest as for ``move``."""
    if is_double(dy):
        move_backward_in[double](dy, dx, draw, ranges, motion, fill, linear)
    else:
        move_backward_in[float](dy, dx, draw, ranges, motion, fill, linear)


cdef int move_backward_in(const real[:, :, :, ::1] dy, real[:, :, :, ::1] dx, const uint64_t[::1] draw,
                          const double[::1] ranges, int motion, int fill, bint linear) except -1:
    run_move[real](<Kernel> move_gradients[real], &dx[0, 0, 0, 0], dx.shape, &dy[0, 0, 0, 0], dy.shape, draw, ranges,
                   motion, fill, linear, 0)


def maps(double[:, ::1] m not None, const uint64_t[::1] draw not None, const double[::1] ranges not None, int motion,
         size, new_size):
    """m (N, 6): pixel (i, j) of y is what x has at row m[0] + m[1] i + m[2] j, column m[3] + m[4] i + m[5] j."""
    cdef Py_ssize_t sample
    cdef Size x = Size(size[0], size[1]), y = Size(new_size[0], new_size[1])
    require_numbers(draw, ranges)
    require(m.shape[1] == 6 and 0 <= motion < MOTIONS, "m must be (N, 6), motion one of MOTIONS")
    require(0 < y.h <= x.h and 0 < y.w <= x.w, "images must have pixels, those of y no more than those of x")
    for sample in range(m.shape[0]):
        (<Map *> &m[sample, 0])[0] = map_of(<Motion> motion, <const Draw *> &draw[0], sample, &ranges[0], x, y)


# ---- colours ----

cdef struct ColourArrays:
    Array x            # (n, h, w c)
    Array dy           # backward only
    Array y            # what is written: y, or dx
    Array draw         # a Draw, read when the kernel runs
    Array ranges       # (of the factor, two; the least and the largest number of an image; what a brightness of 1 adds)
    Array seen         # of the first image: (whether nobody has looked yet, the least, the largest number), or NULL


cdef struct Colours:
    ColourArrays arrays
    Py_ssize_t h, w, c
    Colour colour


cdef double factor_of(const Draw *draw, Py_ssize_t sample, const double *ranges) noexcept nogil:
    cdef double[NUMBERS] u
    numbers(draw, sample, u)
    return between(ranges, u[0])


cdef void channel_means(const Colours *g, const real *x, double *sums, real *mean) noexcept nogil:
    """`mean` (w c): of every channel of the image the mean, for every pixel of a row."""
    cdef Py_ssize_t i, e, row = g.w * g.c
    for e in range(row):
        sums[e] = x[e]
    for i in range(1, g.h):
        for e in range(row):
            sums[e] += x[i * row + e]
    for e in range(g.c, row):
        sums[e % g.c] += sums[e]
    for e in range(row):
        mean[e] = <real> (sums[e % g.c] / (g.h * g.w))


cdef inline real coloured(real x, real mean, real factor) noexcept nogil:
    return (x - mean) * factor + mean


cdef inline real within(real z, real low, real high) noexcept nogil:
    return low if z < low else high if z > high else z


cdef void look_at(const real *x, Py_ssize_t n, double *seen) noexcept nogil:
    cdef Py_ssize_t e
    seen[0], seen[1], seen[2] = 0, INFINITY, -INFINITY
    for e in range(n):
        seen[1], seen[2] = min(seen[1], <double> x[e]), max(seen[2], <double> x[e])


cdef void colour_images(const Colours *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t sample, i, e, row = g.w * g.c
    cdef const double *ranges = <const double *> g.arrays.ranges.data
    cdef real low = <real> ranges[2], high = <real> ranges[3], factor
    cdef double *sums = <double *> scratch
    cdef double *seen = <double *> g.arrays.seen.data
    cdef real *mean = <real *> (sums + row)
    cdef const real *x
    cdef real *y
    for sample in range(first, last):
        x, y = <const real *> item(g.arrays.x, sample), <real *> item(g.arrays.y, sample)
        if sample == 0 and seen is not NULL and seen[0]:
            look_at(x, g.h * row, seen)
        factor = <real> factor_of(<const Draw *> g.arrays.draw.data, sample, ranges)
        if g.colour == BY_BRIGHTNESS:
            factor = <real> (factor_of(<const Draw *> g.arrays.draw.data, sample, ranges) * ranges[4])
            for e in range(g.h * row):
                y[e] = within(x[e] + factor, low, high)
            continue
        channel_means(g, x, sums, mean)
        for i in range(g.h):
            for e in range(row):
                y[i * row + e] = within(coloured(x[i * row + e], mean[e], factor), low, high)


cdef void colour_gradients(const Colours *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    """dx = factor g + (1 - factor) mean(g) with g = dy where nothing was cut off, and 0 elsewhere; or dx = g."""
    cdef Py_ssize_t sample, i, e, row = g.w * g.c
    cdef const double *ranges = <const double *> g.arrays.ranges.data
    cdef real low = <real> ranges[2], high = <real> ranges[3], factor, z
    cdef double *sums = <double *> scratch
    cdef real *mean = <real *> (sums + row)
    cdef const real *x
    cdef const real *dy
    cdef real *dx
    for sample in range(first, last):
        x, dy = <const real *> item(g.arrays.x, sample), <const real *> item(g.arrays.dy, sample)
        dx = <real *> item(g.arrays.y, sample)
        factor = <real> factor_of(<const Draw *> g.arrays.draw.data, sample, ranges)
        if g.colour == BY_BRIGHTNESS:
            factor = <real> (factor_of(<const Draw *> g.arrays.draw.data, sample, ranges) * ranges[4])
            for e in range(g.h * row):
                z = x[e] + factor
                dx[e] = 0 if z < low or z > high else dy[e]
            continue
        channel_means(g, x, sums, mean)
        for i in range(g.h):
            for e in range(row):
                z = coloured(x[i * row + e], mean[e], factor)
                dx[i * row + e] = 0 if z < low or z > high else dy[i * row + e]
        channel_means(g, dx, sums, mean)
        for i in range(g.h):
            for e in range(row):
                dx[i * row + e] = coloured(dx[i * row + e], mean[e], factor)


cdef int run_colour(Kernel kernel, const real[:, :, :, ::1] x, const real *dy, const real[:, :, :, ::1] y,
                    const uint64_t[::1] draw, const double[::1] ranges, const double *seen, int colour) except -1:
    cdef Colours g
    cdef Job job
    cdef Py_ssize_t size = x.shape[1] * x.shape[2] * x.shape[3]
    memset(&g, 0, sizeof(g))
    require_numbers(draw, ranges)
    require(0 <= colour < COLOURS, "there is no such change of colours")
    require(same_shape(x, y) and size > 0, "y must have the shape (N, H, W, C) of x, with pixels and channels")
    g.h, g.w, g.c, g.colour = x.shape[1], x.shape[2], x.shape[3], <Colour> colour
    g.arrays.x, g.arrays.y = rows_at(&x[0, 0, 0, 0], size), rows_at(&y[0, 0, 0, 0], size)
    g.arrays.dy = rows_at(dy, size) if dy is not NULL else fixed(NULL)
    g.arrays.draw, g.arrays.ranges, g.arrays.seen = fixed(&draw[0]), fixed(&ranges[0]), fixed(seen)
    job = new_job(kernel, IMAGES, sizeof(g.arrays), x.shape[0], x.shape[0] * size * 1.0)
    job.scratch = g.w * g.c * (sizeof(double) + sizeof(real))
    return submit(&job, &g, sizeof(g))


cdef bint same_shape(const real[:, :, :, ::1] x, const real[:, :, :, ::1] y) noexcept:
    cdef int axis
    for axis in range(4):
        if x.shape[axis] != y.shape[axis]:
            return False
    return True


def colour(x not None, y not None, const uint64_t[::1] draw not None, const double[::1] ranges not None,
           double[::1] seen not None, int colour):
    """y (N, H, W, C): every image of x with another contrast or brightness, within ranges[2] and ranges[3].

    ``ranges``: 9 numbers: the bounds of the factor, those of y, and what a brightness of 1 adds.  ``seen`` (3,): where
    seen[0] is not 0, it becomes 0, and seen[1] and seen[2] the least and the largest number of the first image.
    """
    if is_double(x):
        colour_in[double](x, y, draw, ranges, seen, colour)
    else:
        colour_in[float](x, y, draw, ranges, seen, colour)


cdef int colour_in(const real[:, :, :, ::1] x, real[:, :, :, ::1] y, const uint64_t[::1] draw, const double[::1] ranges,
                   double[::1] seen, int colour) except -1:
    require(seen.shape[0] == 3, "seen must have 3 numbers")
    run_colour[real](<Kernel> colour_images[real], x, NULL, y, draw, ranges, &seen[0], colour)


def colour_backward(x not None, dy not None, dx not None, const uint64_t[::1] draw not None,
                    const double[::1] ranges not None, int colour):
    """dx for the x of ``colour``, which is read where something may be cut off."""
    if is_double(x):
        colour_backward_in[double](x, dy, dx, draw, ranges, colour)
    else:
        colour_backward_in[float](x, dy, dx, draw, ranges, colour)


cdef int colour_backward_in(const real[:, :, :, ::1] x, const real[:, :, :, ::1] dy, real[:, :, :, ::1] dx,
                            const uint64_t[::1] draw, const double[::1] ranges, int colour) except -1:
    require(same_shape(x, dy), "dy must have the shape of x")
    run_colour[real](<Kernel> colour_gradients[real], x, &dy[0, 0, 0, 0], dx, draw, ranges, NULL, colour)


def factors(double[::1] found not None, const uint64_t[::1] draw not None, const double[::1] ranges not None):
    """found (N,): the factor of every image, as ``colour`` draws it."""
    cdef Py_ssize_t sample
    require_numbers(draw, ranges)
    for sample in range(found.shape[0]):
        found[sample] = factor_of(<const Draw *> &draw[0], sample, &ranges[0])


# ---- erased rectangles ----

cdef struct EraseArrays:
    Array x            # (n, h, w c); in backward dy
    Array y
    Array draw         # a Draw, read when the kernel runs
    # Of the probability, two; of the share of the image; of the logarithm of height / width; the standard deviation of
    # noise; the least and the largest number that it may be
    Array ranges
    Array fill         # (c,), or NULL: noise
    Array seen         # as for colours


cdef struct Erase:
    EraseArrays arrays
    Size size
    Py_ssize_t c
    bint backward      # what is erased becomes 0


cdef struct Box:
    Py_ssize_t top, left, h, w


cdef Box box_of(const Draw *draw, Py_ssize_t sample, const double *ranges, Size x) noexcept nogil:
    """Of no height where nothing is erased.  A rectangle that is too long for the image becomes as long as it, and as
    much wider that the area stays."""
    cdef double[NUMBERS] u
    cdef double area, ratio, h, w
    cdef Box box = Box(0, 0, 0, 0)
    numbers(draw, sample, u)
    if u[0] >= between(ranges, u[1]):
        return box
    area, ratio = between(ranges + 2, u[2]) * x.h * x.w, exp(between(ranges + 4, u[3]))
    h, w = sqrt(area * ratio), sqrt(area / ratio)
    if h > x.h:
        h, w = x.h, area / x.h
    elif w > x.w:
        h, w = area / x.w, x.w
    box.h = min(max(<Py_ssize_t> floor(h + 0.5), <Py_ssize_t> 1), x.h)
    box.w = min(max(<Py_ssize_t> floor(w + 0.5), <Py_ssize_t> 1), x.w)
    box.top = <Py_ssize_t> (u[4] * (x.h - box.h + 1))
    box.left = <Py_ssize_t> (u[5] * (x.w - box.w + 1))
    return box


cdef void put_noise(const Draw *draw, Py_ssize_t sample, Py_ssize_t start, Py_ssize_t n, const double *ranges,
                    float *drawn, real *y) noexcept nogil:
    """n normal numbers, those of the elements from `start` on of all images that are counted, into y."""
    cdef Py_ssize_t group, e, first, end
    cdef real low = <real> ranges[7], high = <real> ranges[8]
    for group in range(start // GROUP, (start + n - 1) // GROUP + 1):
        gaussian(drawn, group, 1, 0, <float> ranges[6], draw.seed, step_of(draw, sample),
                 <uint32_t> draw.stream | BESIDE)
        first, end = max(start, group * GROUP), min(start + n, (group + 1) * GROUP)
        for e in range(first, end):
            y[e - start] = within(<real> drawn[e - group * GROUP], low, high)


cdef void erase_images(const Erase *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t sample, i, j, k, row = g.size.w * g.c, size = g.size.h * g.size.w * g.c
    cdef const Draw *draw = <const Draw *> g.arrays.draw.data
    cdef const double *ranges = <const double *> g.arrays.ranges.data
    cdef const double *fill = <const double *> g.arrays.fill.data
    cdef double *seen = <double *> g.arrays.seen.data
    cdef Box box
    cdef const real *x
    cdef real *y
    for sample in range(first, last):
        x, y = <const real *> item(g.arrays.x, sample), <real *> item(g.arrays.y, sample)
        if sample == 0 and seen is not NULL and seen[0]:
            look_at(x, size, seen)
        memcpy(y, x, size * sizeof(real))
        box = box_of(draw, sample, ranges, g.size)
        for i in range(box.top, box.top + box.h):
            if g.backward:
                memset(y + i * row + box.left * g.c, 0, box.w * g.c * sizeof(real))
            elif fill is NULL:
                put_noise[real](draw, sample, <Py_ssize_t> index_of(draw, sample, size) + i * row + box.left * g.c,
                                box.w * g.c, ranges, <float *> scratch, y + i * row + box.left * g.c)
            else:
                for j in range(box.left, box.left + box.w):
                    for k in range(g.c):
                        y[i * row + j * g.c + k] = <real> fill[k]


cdef int run_erase(const real[:, :, :, ::1] x, const real[:, :, :, ::1] y, const uint64_t[::1] draw,
                   const double[::1] ranges, const double[::1] fill, const double *seen, bint backward) except -1:
    cdef Erase g
    cdef Job job
    cdef Py_ssize_t size = x.shape[1] * x.shape[2] * x.shape[3]
    memset(&g, 0, sizeof(g))
    require_numbers(draw, ranges)
    require(same_shape(x, y) and size > 0, "y must have the shape (N, H, W, C) of x, with pixels and channels")
    require(fill is None or fill.shape[0] == x.shape[3], "fill must have a number for every channel")
    g.size, g.c, g.backward = Size(x.shape[1], x.shape[2]), x.shape[3], backward
    g.arrays.x, g.arrays.y = rows_at(&x[0, 0, 0, 0], size), rows_at(&y[0, 0, 0, 0], size)
    g.arrays.draw, g.arrays.ranges, g.arrays.seen = fixed(&draw[0]), fixed(&ranges[0]), fixed(seen)
    if fill is not None:
        g.arrays.fill = fixed(&fill[0])
    job = new_job(<Kernel> erase_images[real], IMAGES, sizeof(g.arrays), x.shape[0], x.shape[0] * size * 0.5)
    job.scratch = GROUP * sizeof(float)
    return submit(&job, &g, sizeof(g))


def erase(x not None, y not None, const uint64_t[::1] draw not None, const double[::1] ranges not None,
          const double[::1] fill, double[::1] seen not None):
    """y (N, H, W, C): x with a rectangle of every image, or of some, filled with ``fill`` (C,), or None: with noise.

    ``ranges``: 9 numbers: bounds of the probability, of the share of the image, of log(height / width); the noise's
    standard deviation and bounds.  ``seen`` as for ``colour``.
    """
    if is_double(x):
        erase_in[double](x, y, draw, ranges, fill, seen)
    else:
        erase_in[float](x, y, draw, ranges, fill, seen)


cdef int erase_in(const real[:, :, :, ::1] x, real[:, :, :, ::1] y, const uint64_t[::1] draw, const double[::1] ranges,
                  const double[::1] fill, double[::1] seen) except -1:
    require(seen.shape[0] == 3, "seen must have 3 numbers")
    run_erase[real](x, y, draw, ranges, fill, &seen[0], False)


def erase_backward(dy not None, dx not None, const uint64_t[::1] draw not None, const double[::1] ranges not None):
    """dx = dy with 0 in the rectangles."""
    if is_double(dy):
        run_erase[double](dy, dx, draw, ranges, None, NULL, True)
    else:
        run_erase[float](dy, dx, draw, ranges, None, NULL, True)


def boxes(double[:, ::1] found not None, const uint64_t[::1] draw not None, const double[::1] ranges not None, size):
    """found (N, 4): top, left, height and width of every rectangle, as ``erase`` draws it; zeros for none."""
    cdef Py_ssize_t sample
    cdef Box box
    require_numbers(draw, ranges)
    require(found.shape[1] == 4 and size[0] > 0 and size[1] > 0, "found must be (N, 4), images must have pixels")
    for sample in range(found.shape[0]):
        box = box_of(<const Draw *> &draw[0], sample, &ranges[0], Size(size[0], size[1]))
        found[sample, 0], found[sample, 1], found[sample, 2], found[sample, 3] = box.top, box.left, box.h, box.w
