# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of the layers that move or rescale numbers: padding, cropping, Rescaling, Temperature, UpSampling2D, Permute.

Design: items are images or samples; a long sample is rescaled in parts of about 16,384 elements.

Upsampling goes row by row, first along one axis, then along the other (resize.h).  Forward the rows of x are stretched
once each and then repeated or mixed into the rows of y; backward each row of dx gathers the rows of dy that have a
share of it, and then the columns: every number is written once.

A permutation is cut down to few axes: those of length 1 go, and those that stay neighbours become one.  If the last
axis stays the last, runs of it are copied; otherwise matrices are transposed, between the axis that was the last and
the one that becomes it.
"""
from libc.string cimport memcpy, memset

from minicnn._ext.machinery.jobs cimport (IMAGES, Array, Job, Kernel, fixed, item, new_job, part_start, parts_for,
                                          rows_at, submit)
from minicnn._ext.machinery.runtime cimport (MOST_LANES, Windows, affine, average_windows, blend, chosen_leaves,
                                             is_double, real, require, stretch, transpose, use_leaves)

use_leaves(chosen_leaves())

cdef struct BorderArrays:
    Array inner                       # (n, h, row)
    Array outer                       # (n, padded_h, padded_row)


cdef struct Border:
    BorderArrays arrays
    Py_ssize_t h, row                 # a row is its pixels with all their channels
    Py_ssize_t padded_h, padded_row
    Py_ssize_t top, left


cdef void pad_images(const Border *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(first, last):
        pad_image(<const real *> item(g.arrays.inner, i), g.h, g.row, <real *> item(g.arrays.outer, i), g.padded_h,
                  g.padded_row, g.top, g.left)


cdef void crop_images(const Border *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(first, last):
        crop_image(<const real *> item(g.arrays.outer, i), g.padded_h, g.padded_row, <real *> item(g.arrays.inner, i),
                   g.h, g.row, g.top, g.left)


cdef Border describe(const real *x, const Py_ssize_t *x_shape, const real *y, const Py_ssize_t *y_shape,
                     Py_ssize_t top, Py_ssize_t left) except *:
    """x: the smaller images."""
    cdef Py_ssize_t c = x_shape[3]
    cdef Border g
    require(y_shape[0] == x_shape[0] and y_shape[3] == c and 0 <= top <= y_shape[1] - x_shape[1]
            and 0 <= left <= y_shape[2] - x_shape[2], "y must have room for the images of x")
    g.h, g.row, g.padded_h, g.padded_row = x_shape[1], x_shape[2] * c, y_shape[1], y_shape[2] * c
    g.top, g.left = top, left * c
    g.arrays.inner, g.arrays.outer = rows_at(x, g.h * g.row), rows_at(y, g.padded_h * g.padded_row)
    return g


def pad(x not None, y not None, Py_ssize_t top, Py_ssize_t left):
    """y[n, top + h, left + w, c] = x[n, h, w, c], zeros elsewhere; y is the larger one."""
    if is_double(x):
        pad_in[double](x, y, top, left)
    else:
        pad_in[float](x, y, top, left)


cdef int pad_in(const real[:, :, :, ::1] x, real[:, :, :, ::1] y, Py_ssize_t top, Py_ssize_t left) except -1:
    cdef Border g = describe[real](&x[0, 0, 0, 0], x.shape, &y[0, 0, 0, 0], y.shape, top, left)
    cdef Job job = new_job(<Kernel> pad_images[real], IMAGES, sizeof(g.arrays), x.shape[0],
                           x.shape[0] * g.padded_h * g.padded_row / 4.0)
    submit(&job, &g, sizeof(g))


def crop(y not None, x not None, Py_ssize_t top, Py_ssize_t left):
    """x[n, h, w, c] = y[n, top + h, left + w, c]; y is the larger one."""
    if is_double(y):
        crop_in[double](y, x, top, left)
    else:
        crop_in[float](y, x, top, left)


cdef int crop_in(const real[:, :, :, ::1] y, real[:, :, :, ::1] x, Py_ssize_t top, Py_ssize_t left) except -1:
    cdef Border g = describe[real](&x[0, 0, 0, 0], x.shape, &y[0, 0, 0, 0], y.shape, top, left)
    cdef Job job = new_job(<Kernel> crop_images[real], IMAGES, sizeof(g.arrays), x.shape[0],
                           x.shape[0] * g.h * g.row / 4.0)
    submit(&job, &g, sizeof(g))


cdef struct RescaleArrays:
    Array x                  # (n, size)
    Array y                  # (n, size)
    Array divisor            # (1,) double; absent for a scale that stays


cdef struct Rescale:
    RescaleArrays arrays
    Py_ssize_t size, parts
    double scale, offset


cdef void rescale_parts(const Rescale *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end
    cdef double scale = g.scale
    if g.arrays.divisor.data is not NULL:
        scale = 1 / (<const double *> g.arrays.divisor.data)[0]
    for i in range(first, last):
        image, start = i // g.parts, part_start(i % g.parts, g.parts, g.size)
        end = part_start(i % g.parts + 1, g.parts, g.size)
        affine(<const real *> item(g.arrays.x, image) + start, <real> scale, <real> g.offset,
               <real *> item(g.arrays.y, image) + start, end - start)


cdef int submit_rescaling(const real[:, ::1] x, real[:, ::1] y, Rescale *g) except -1:
    cdef Py_ssize_t n = x.shape[0], size = x.shape[1]
    require(y.shape[0] == n and y.shape[1] == size, "y must have the shape of x")
    g.arrays.x, g.arrays.y = rows_at(&x[0, 0], size), rows_at(<const real *> &y[0, 0], size)
    g.size, g.parts = size, parts_for(size)
    cdef Job job = new_job(<Kernel> rescale_parts[real], IMAGES, sizeof(g.arrays), n, n * size / 4.0)
    job.parts = g.parts
    return submit(&job, g, sizeof(Rescale))


def rescale(x not None, double scale, double offset, y not None):
    """y = scale * x + offset, element by element, of n samples (n, size)."""
    if is_double(x):
        rescale_in[double](x, scale, offset, y)
    else:
        rescale_in[float](x, scale, offset, y)


cdef int rescale_in(const real[:, ::1] x, double scale, double offset, real[:, ::1] y) except -1:
    cdef Rescale g
    g.scale, g.offset, g.arrays.divisor = scale, offset, fixed(NULL)
    submit_rescaling(x, y, &g)


def divide(x not None, const double[::1] divisor not None, y not None):
    """y = x * (1 / divisor[0]), element by element, of n samples (n, size); a plan divides by what is there when it
    runs."""
    if is_double(x):
        divide_in[double](x, divisor, y)
    else:
        divide_in[float](x, divisor, y)


cdef int divide_in(const real[:, ::1] x, const double[::1] divisor, real[:, ::1] y) except -1:
    require(divisor.shape[0] == 1, "divisor must be one number")
    cdef Rescale g
    g.scale, g.offset, g.arrays.divisor = 1.0, -0.0, fixed(&divisor[0])  # x + -0.0 keeps the sign of a 0
    submit_rescaling(x, y, &g)


# ---- upsampling ----

cdef enum:
    LARGEST = 1 << 30  # of any length: no product of two overflows
    WINDOWS = 16       # channels from which on the leaf of the average pooling sums up copies in fewer passes


cdef struct UpsampleArrays:
    Array x                  # (n, h, w, c), or its gradient
    Array y                  # (n, h sh, w sw, c), or its gradient


cdef struct Upsample:
    UpsampleArrays arrays
    Py_ssize_t h, w, c, sh, sw
    bint linear


cdef inline Py_ssize_t lines_of(Py_ssize_t elements) noexcept nogil:
    """Elements, rounded up to whole lines of the cache, with room for a vector behind them."""
    return (elements + 2 * MOST_LANES - 1) // MOST_LANES * MOST_LANES


cdef Py_ssize_t place(Py_ssize_t o, Py_ssize_t size, Py_ssize_t times) noexcept nogil:
    """Where the centre of output o lies between those of the inputs, counted in steps of 1 / (2 times) input."""
    return min(max(<Py_ssize_t> 0, 2 * o + 1 - times), 2 * times * (size - 1))


cdef Py_ssize_t shares(Py_ssize_t i, Py_ssize_t size, Py_ssize_t times, bint linear, real *weights,
                       Py_ssize_t *first) noexcept nogil:
    """How many outputs, from `first` on, have a share of input i along an axis, and their weights."""
    cdef Py_ssize_t o, at, end = (i + 1) * times
    first[0] = i * times
    if linear:
        first[0] = (i - 1) * times + (times - 1) // 2 + 1 if i > 0 else 0
        end = end + times // 2 if i < size - 1 else size * times
    for o in range(first[0], end):
        weights[o - first[0]] = 1
        if linear:
            at = place(o, size, times) - 2 * times * i
            weights[o - first[0]] = <real> ((2 * times - max(at, -at)) / (2.0 * times))
    return end - first[0]


cdef void upsample_rows(const Upsample *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    """Rows of x, counted through all images, each with the rows of y that lie from its centre to the next, or are its
    copies.  Scratch: two rows that are stretched already, and the weights between two pixels of x."""
    cdef Py_ssize_t i, copy, part, row = g.w * g.sw * g.c
    cdef const real *x
    cdef real *y
    cdef real *weights = scratch + 2 * lines_of(row)
    if g.linear:
        weights_between(g.sw, weights)
    for part in range(first, last):
        i = part % g.h
        x = <const real *> item(g.arrays.x, part // g.h) + i * g.w * g.c
        y = <real *> item(g.arrays.y, part // g.h)
        if g.linear:
            if part == first or i == 0:
                stretch_linearly(g, x, weights, scratch + i % 2 * lines_of(row))
            linear_rows(g, i, x, weights, scratch, y)
        else:
            y += i * g.sh * row
            stretch(x, <const real *> NULL, g.sw, y, g.w, g.c)
            for copy in range(1, g.sh):
                memcpy(y + copy * row, y, row * sizeof(real))


cdef void weights_between(Py_ssize_t times, real *weights) noexcept nogil:
    """Of an input and the next one, for each of the outputs from the one's centre, or behind it, on."""
    cdef Py_ssize_t b
    for b in range(times):
        weights[2 * b + 1] = <real> ((2 * b + 1 - times % 2) / (2.0 * times))
        weights[2 * b] = <real> ((2 * times - (2 * b + 1 - times % 2)) / (2.0 * times))


cdef void stretch_linearly(const Upsample *g, const real *x, const real *weights, real *y) noexcept nogil:
    """One row of x along its columns: before the first centre and behind the last one there is nothing to mix."""
    cdef Py_ssize_t before = g.sw // 2 * g.c
    stretch(x, <const real *> NULL, g.sw // 2, y, 1, g.c)
    stretch(x, weights, g.sw, y + before, g.w - 1, g.c)
    stretch(x + (g.w - 1) * g.c, <const real *> NULL, g.sw - g.sw // 2, y + before + (g.w - 1) * g.sw * g.c, 1, g.c)


cdef void linear_rows(const Upsample *g, Py_ssize_t i, const real *x, const real *weights, real *stretched,
                      real *y) noexcept nogil:
    """The rows of y from the centre of row i of x on (for the first one those before it, too) to that of the next.

    `stretched`: row i in place i % 2; the next one is put into the other.
    """
    cdef Py_ssize_t o, at, row = g.w * g.sw * g.c, apart = lines_of(row)
    cdef Py_ssize_t low = i * g.sh + g.sh // 2 if i > 0 else 0
    cdef Py_ssize_t high = (i + 1) * g.sh + g.sh // 2 if i < g.h - 1 else g.h * g.sh
    cdef const real *here = stretched + i % 2 * apart
    cdef real[2] shares_of_both
    if i < g.h - 1:
        stretch_linearly(g, x + g.w * g.c, weights, stretched + (i + 1) % 2 * apart)
    for o in range(low, high):
        at = place(o, g.h, g.sh) - 2 * g.sh * i
        if at == 0:
            memcpy(y + o * row, here, row * sizeof(real))
        else:
            shares_of_both[0] = <real> ((2 * g.sh - at) / (2.0 * g.sh))
            shares_of_both[1] = <real> (at / (2.0 * g.sh))
            blend(here, 0, apart if i % 2 == 0 else -apart, <const real *> shares_of_both, 2, y + o * row, 1, row)


cdef void upsample_gradient_rows(const Upsample *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    """Rows of dx, counted through all images.  Scratch: a row of dy summed up, and the weights of a row, of the columns
    of the first, of an inner, and of the last pixel.  Copies of many channels are windows of a pool."""
    cdef Py_ssize_t part, start, count, row = g.w * g.sw * g.c, columns = 2 * g.sw + 1
    cdef Py_ssize_t[3] starts
    cdef Py_ssize_t[3] counts
    cdef real *dx
    cdef real *weights = scratch + lines_of(row)
    cdef real *at_columns = weights + 2 * g.sh + 1
    cdef Windows windows = Windows(count=g.w, kh=g.sh, kw=g.sw, c=g.c, row=row, step=g.sw * g.c, ahead=g.sh * row,
                                   tap=0, tap_row=g.sw, bytes=True, edge=True)
    for part in range(3):
        counts[part] = shares(g.w - 1 if part == 2 else min(part, g.w - 1), g.w, g.sw, g.linear,
                              at_columns + part * columns, &starts[part])
    for part in range(first, last):
        dx = <real *> item(g.arrays.x, part // g.h) + part % g.h * g.w * g.c
        if g.c >= WINDOWS and not g.linear:
            average_windows(&windows, 1.0, <const real *> item(g.arrays.y, part // g.h) + part % g.h * g.sh * row, dx)
            continue
        count = shares(part % g.h, g.h, g.sh, g.linear, weights, &start)
        blend(<const real *> item(g.arrays.y, part // g.h) + start * row, 0, row, <const real *> weights, count,
              scratch, 1, row)
        gather_columns(g, scratch, at_columns, columns, starts, counts, dx)


cdef void gather_columns(const Upsample *g, const real *sums, const real *weights, Py_ssize_t apart,
                         const Py_ssize_t *starts, const Py_ssize_t *counts, real *dx) noexcept nogil:
    """A row of dx from one of the sums of rows."""
    cdef Py_ssize_t c = g.c, step = g.sw * g.c
    if not g.linear:
        blend(sums, step, c, weights, g.sw, dx, g.w, c)
        return
    blend(sums, step, c, weights, counts[0], dx, 1, c)
    if g.w > 2:
        blend(sums + starts[1] * c, step, c, weights + apart, counts[1], dx + c, g.w - 2, c)
    if g.w > 1:
        blend(sums + starts[2] * c, step, c, weights + 2 * apart, counts[2], dx + (g.w - 1) * c, 1, c)


cdef int run_upsample(Kernel kernel, const real *x, const Py_ssize_t *x_shape, const real *y, const Py_ssize_t *y_shape,
                      size, bint linear, Py_ssize_t scratch) except -1:
    """`scratch`: elements for each time that a pixel is repeated in both directions, besides two rows."""
    cdef Upsample g
    cdef Job job
    memset(&g, 0, sizeof(g))
    g.h, g.w, g.c = x_shape[1], x_shape[2], x_shape[3]
    g.sh, g.sw = size
    g.linear = linear
    require(0 < g.h <= LARGEST and 0 < g.w <= LARGEST and 0 < g.c, "images must have 1 to 2^30 rows and columns")
    require(0 < g.sh <= LARGEST and 0 < g.sw <= LARGEST, "sizes must be 1 to 2^30")
    require(y_shape[0] == x_shape[0] and y_shape[1] == g.h * g.sh and y_shape[2] == g.w * g.sw and y_shape[3] == g.c,
            "y must have the images of x, so many times as high and wide")
    g.arrays.x, g.arrays.y = rows_at(x, g.h * g.w * g.c), rows_at(y, g.h * g.sh * g.w * g.sw * g.c)
    job = new_job(kernel, IMAGES, sizeof(g.arrays), x_shape[0],
                  (<double> x_shape[0]) * g.h * g.sh * g.w * g.sw * g.c / (2 if linear else 4))
    job.parts = g.h
    job.scratch = (2 * lines_of(g.w * g.sw * g.c) + scratch * (g.sh + g.sw + 1)) * sizeof(real)
    return submit(&job, &g, sizeof(g))


def upsample(x not None, y not None, size, bint linear):
    """y (N, H SH, W SW, C) = x (N, H, W, C) with every pixel in size = (SH, SW) copies; ``linear``: values between the
    pixels' centres are interpolated along both axes, those outside of them are those of the nearest."""
    if is_double(x):
        upsample_in[double](x, y, size, linear)
    else:
        upsample_in[float](x, y, size, linear)


cdef int upsample_in(const real[:, :, :, ::1] x, real[:, :, :, ::1] y, size, bint linear) except -1:
    run_upsample[real](<Kernel> upsample_rows[real], &x[0, 0, 0, 0], x.shape, &y[0, 0, 0, 0], y.shape, size, linear, 2)


def upsample_backward(dy not None, dx not None, size, bint linear):
    """dx: of every pixel the sum of dy over its copies, each with its share in them; the rest as in upsample."""
    if is_double(dy):
        upsample_backward_in[double](dy, dx, size, linear)
    else:
        upsample_backward_in[float](dy, dx, size, linear)


cdef int upsample_backward_in(const real[:, :, :, ::1] dy, real[:, :, :, ::1] dx, size, bint linear) except -1:
    run_upsample[real](<Kernel> upsample_gradient_rows[real], &dx[0, 0, 0, 0], dx.shape, &dy[0, 0, 0, 0], dy.shape,
                       size, linear, 7)


# ---- permutations of the axes ----

cdef enum:
    MOST_AXES = 64    # as many as NumPy's arrays have
    MOST_LONG = 32    # of more than one entry: more of them are 2^33 elements or more
    BLOCK = 64        # rows and columns of a block of a matrix that stay in the cache
    FEW = 4           # rows or columns, fewer than which fill no vector


cdef struct PermuteArrays:
    Array x                  # (n, size)
    Array y                  # (n, size)


cdef struct Permute:
    PermuteArrays arrays
    Py_ssize_t axes                   # of y that are walked along: all but those of the matrices or runs
    Py_ssize_t[MOST_LONG] sizes, steps, jumps  # their lengths; from one entry to the next in x and in y
    Py_ssize_t parts                  # of a sample: entries of these axes, times pieces
    Py_ssize_t pieces                 # of a matrix: blocks of columns, or of rows where runs are copied
    Py_ssize_t run                    # elements that lie side by side in x and y; 1: a matrix is transposed
    Py_ssize_t rows, x_row            # of a matrix of x, or runs
    Py_ssize_t columns, y_row         # its columns are rows of y; or from one run to the next in y


cdef void permute_parts(const Permute *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t part, axis, rest, piece, x_at = 0, y_at = 0
    cdef Py_ssize_t[MOST_LONG] place
    cdef const real *x
    cdef real *y
    for part in range(first, last):
        piece = part % g.pieces
        if part == first or part % g.parts == 0:
            rest, x_at, y_at = part % g.parts // g.pieces, 0, 0
            for axis in range(g.axes - 1, -1, -1):
                place[axis] = rest % g.sizes[axis]
                rest //= g.sizes[axis]
                x_at += place[axis] * g.steps[axis]
                y_at += place[axis] * g.jumps[axis]
        elif piece == 0:
            for axis in range(g.axes - 1, -1, -1):  # the next entry
                place[axis] += 1
                x_at += g.steps[axis]
                y_at += g.jumps[axis]
                if place[axis] < g.sizes[axis]:
                    break
                place[axis] = 0
                x_at -= g.sizes[axis] * g.steps[axis]
                y_at -= g.sizes[axis] * g.jumps[axis]
        x = <const real *> item(g.arrays.x, part // g.parts) + x_at
        y = <real *> item(g.arrays.y, part // g.parts) + y_at
        if g.run > 1:
            copy_runs(g, piece * BLOCK, min(g.rows, (piece + 1) * BLOCK), x, y)
        else:
            transpose_columns(g, piece * BLOCK, min(g.columns, (piece + 1) * BLOCK), x, y)


cdef void copy_runs(const Permute *g, Py_ssize_t low, Py_ssize_t high, const real *x, real *y) noexcept nogil:
    cdef Py_ssize_t r, i
    for r in range(low, high):
        if g.run >= 16:
            memcpy(y + r * g.y_row, x + r * g.x_row, g.run * sizeof(real))
        else:
            for i in range(g.run):
                y[r * g.y_row + i] = x[r * g.x_row + i]


cdef void transpose_columns(const Permute *g, Py_ssize_t low, Py_ssize_t high, const real *x, real *y) noexcept nogil:
    """Columns low to high - 1 of a matrix of x, which are rows of y."""
    cdef Py_ssize_t r, c, first = 0, rows
    while first < g.rows:
        rows = min(<Py_ssize_t> BLOCK, g.rows - first)
        if rows < FEW:
            for r in range(first, first + rows):
                for c in range(low, high):
                    y[c * g.y_row + r] = x[r * g.x_row + c]
        elif high - low < FEW:
            for c in range(low, high):
                for r in range(first, first + rows):
                    y[c * g.y_row + r] = x[r * g.x_row + c]
        else:
            transpose(x + first * g.x_row + low, g.x_row, rows, high - low, y + low * g.y_row + first, g.y_row)
        first += rows


cdef int describe_permutation(Permute *g, sizes, order, Py_ssize_t size) except -1:
    """`sizes` of the axes of a sample of x; axis k of y is axis order[k] of x."""
    cdef Py_ssize_t k, axis, last = -1, total = 1, count = len(sizes)
    cdef Py_ssize_t[MOST_AXES] lengths, strides, kept, spans
    memset(g, 0, sizeof(Permute))
    require(0 < count <= MOST_AXES and sorted(order) == list(range(count)), "order must name every axis once")
    for axis in range(count - 1, -1, -1):
        lengths[axis], strides[axis] = sizes[axis], total
        require(0 < lengths[axis] <= size // total, "sizes must be those of x")
        total *= lengths[axis]
    require(total == size, "sizes must be those of x")
    count = 0
    for axis in order:  # axes of y, merged where they follow each other in x as well
        if lengths[axis] == 1:
            continue
        if count > 0 and kept[count - 1] == lengths[axis] * strides[axis]:
            spans[count - 1] *= lengths[axis]
            kept[count - 1] = strides[axis]
        else:
            spans[count], kept[count] = lengths[axis], strides[axis]
            count += 1
    require(count <= MOST_LONG, "at most 32 axes may have more than one entry")
    if count == 0:
        spans[0], kept[0], count = 1, 1, 1
    if kept[count - 1] == 1:
        g.run, g.rows, g.columns, last = spans[count - 1], 1, 1, count - 2
        if last >= 0:
            g.rows, g.x_row, g.y_row = spans[last], kept[last], g.run
        g.pieces = (g.rows + BLOCK - 1) // BLOCK
    else:  # the last axis of y is the rows of matrices in x, the last axis of x is their columns
        total = g.rows = spans[count - 1]
        g.run, g.x_row = 1, kept[count - 1]
        for k in range(count - 2, -1, -1):
            if kept[k] == 1:
                last, g.columns, g.y_row = k, spans[k], total
            total *= spans[k]
        g.pieces = (g.columns + BLOCK - 1) // BLOCK
    total, g.parts = size, g.pieces
    for k in range(count - 1):
        total //= spans[k]
        if k != last:
            g.sizes[g.axes], g.steps[g.axes], g.jumps[g.axes] = spans[k], kept[k], total
            g.axes += 1
            g.parts *= spans[k]
    return 0


def permute(x not None, y not None, sizes, order):
    """y = the samples of x (n, size), which have axes of these sizes, with the axes in that order: axis k of y is axis
    order[k] of x, from 0 on."""
    if is_double(x):
        permute_in[double](x, y, sizes, order)
    else:
        permute_in[float](x, y, sizes, order)


cdef int permute_in(const real[:, ::1] x, real[:, ::1] y, sizes, order) except -1:
    cdef Permute g
    cdef Job job
    describe_permutation(&g, sizes, order, x.shape[1])
    require(y.shape[0] == x.shape[0] and y.shape[1] == x.shape[1], "y must have the shape of x")
    g.arrays.x, g.arrays.y = rows_at(&x[0, 0], x.shape[1]), rows_at(<const real *> &y[0, 0], x.shape[1])
    job = new_job(<Kernel> permute_parts[real], IMAGES, sizeof(g.arrays), x.shape[0],
                  (<double> x.shape[0]) * x.shape[1])
    job.parts = g.parts
    submit(&job, &g, sizeof(g))
