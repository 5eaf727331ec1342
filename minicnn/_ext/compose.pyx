# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels that join the outputs of several layers, and take them apart: sums, and channels side by side.

Design: items are images or samples; a long one is done in parts of about 16,384 elements.
"""
from libc.string cimport memcpy

from minicnn._ext.machinery.jobs cimport (IMAGES, Array, Job, Kernel, item, new_job, part_start, parts_for, rows_at,
                                          submit)
from minicnn._ext.machinery.runtime cimport LINEAR, RELU, chosen_leaves, is_double, plus, real, require, use_leaves

use_leaves(chosen_leaves())

cdef enum:
    WORD = 16   # bytes that are moved at once
    LONG = 128  # bytes from which on memcpy is worth its call


# ---- sums ----

cdef struct SumArrays:
    Array a                  # (n, size)
    Array b                  # (n, size)
    Array y                  # (n, size)


cdef struct Sum:
    SumArrays arrays
    Py_ssize_t size, parts
    bint relu


cdef void add_parts(const Sum *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end
    for i in range(first, last):
        image, start = i // g.parts, part_start(i % g.parts, g.parts, g.size)
        end = part_start(i % g.parts + 1, g.parts, g.size)
        plus(g.relu, <const real *> item(g.arrays.a, image) + start, <const real *> item(g.arrays.b, image) + start,
             <real *> item(g.arrays.y, image) + start, end - start)


def add(a not None, b not None, int kind, y not None):
    """y = f(a + b) of n samples (n, size); y may be the same array as a or b.

    ``kind``: LINEAR or RELU, of activation.KINDS; the others are done by activation.forward afterwards.
    """
    if is_double(a):
        add_in[double](a, b, kind, y)
    else:
        add_in[float](a, b, kind, y)


cdef int add_in(const real[:, ::1] a, const real[:, ::1] b, int kind, real[:, ::1] y) except -1:
    cdef Py_ssize_t n = y.shape[0], size = y.shape[1], parts = parts_for(size)
    cdef Sum g
    require(a.shape[0] == n and a.shape[1] == size and b.shape[0] == n and b.shape[1] == size,
            "a and b must have the shape of y")
    require(kind == LINEAR or kind == RELU, "kind must be that of linear or relu")
    g.arrays.a, g.arrays.b, g.arrays.y = rows_at(&a[0, 0], size), rows_at(&b[0, 0], size), rows_at(&y[0, 0], size)
    g.size, g.parts, g.relu = size, parts, kind == RELU
    cdef Job job = new_job(<Kernel> add_parts[real], IMAGES, sizeof(g.arrays), n, n * size / 4.0)
    job.parts = parts
    submit(&job, &g, sizeof(g))


# ---- channels ----

cdef struct ChannelArrays:
    Array x                     # (n, pixels, run)
    Array y                     # (n, pixels, row)


cdef struct Channels:
    ChannelArrays arrays
    Py_ssize_t pixels, parts
    Py_ssize_t run, row, first  # bytes: of a pixel of x, of a pixel of y, and where in it the channels of x begin


cdef inline void move(const char *x, Py_ssize_t x_step, char *y, Py_ssize_t y_step, Py_ssize_t run,
                      Py_ssize_t pixels) noexcept nogil:
    """Runs of `run` bytes, a multiple of 4.  The last word of a run begins where it ends with the run."""
    cdef Py_ssize_t _p, k
    for _p in range(pixels):
        if run > LONG:
            memcpy(y, x, run)
        elif run >= WORD:
            k = 0
            while k < run - WORD:
                memcpy(y + k, x + k, WORD)
                k += WORD
            memcpy(y + run - WORD, x + run - WORD, WORD)
        else:
            k = 0
            while k < run:
                memcpy(y + k, x + k, 4)
                k += 4
        x += x_step
        y += y_step


cdef void copy_parts(const Channels *g, Py_ssize_t first, Py_ssize_t last, void *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end
    for i in range(first, last):
        image, start = i // g.parts, part_start(i % g.parts, g.parts, g.pixels)
        end = part_start(i % g.parts + 1, g.parts, g.pixels)
        move(item(g.arrays.x, image) + start * g.run, g.run, item(g.arrays.y, image) + start * g.row + g.first, g.row,
             g.run, end - start)


cdef void take_parts(const Channels *g, Py_ssize_t first, Py_ssize_t last, void *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end
    for i in range(first, last):
        image, start = i // g.parts, part_start(i % g.parts, g.parts, g.pixels)
        end = part_start(i % g.parts + 1, g.parts, g.pixels)
        move(item(g.arrays.y, image) + start * g.row + g.first, g.row, item(g.arrays.x, image) + start * g.run, g.run,
             g.run, end - start)


cdef int run_channels(Kernel kernel, const void *x, const Py_ssize_t *x_shape, const void *y,
                      const Py_ssize_t *y_shape, Py_ssize_t first, Py_ssize_t size) except -1:
    """x: the fewer channels; size: of an element in bytes."""
    cdef Py_ssize_t n = x_shape[0], pixels = x_shape[1], c = x_shape[2], total = y_shape[2]
    cdef Channels g
    require(y_shape[0] == n and y_shape[1] == pixels, "y must have the images and pixels of x")
    require(0 <= first <= total - c, "y must have room for the channels of x from `first` on")
    g.pixels, g.parts = pixels, max(<Py_ssize_t> 1, min(pixels, parts_for(pixels * c)))
    g.run, g.row, g.first = c * size, total * size, first * size
    g.arrays.x, g.arrays.y = Array(<char *> x, pixels * g.run), Array(<char *> y, pixels * g.row)
    cdef Job job = new_job(kernel, IMAGES, sizeof(g.arrays), n, n * pixels * (1 + c / 4.0))
    job.parts = g.parts
    return submit(&job, &g, sizeof(g))


def copy_channels(x not None, y not None, Py_ssize_t first):
    """y[n, p, first + c] = x[n, p, c] for x (n, pixels, c), y (n, pixels, more); the rest of y stays what it was."""
    if is_double(x):
        copy_channels_in[double](x, y, first)
    else:
        copy_channels_in[float](x, y, first)


cdef int copy_channels_in(const real[:, :, ::1] x, real[:, :, ::1] y, Py_ssize_t first) except -1:
    run_channels(<Kernel> copy_parts, &x[0, 0, 0], x.shape, &y[0, 0, 0], y.shape, first, sizeof(real))


def take_channels(y not None, Py_ssize_t first, x not None):
    """x[n, p, c] = y[n, p, first + c], the reverse of copy_channels."""
    if is_double(y):
        take_channels_in[double](y, first, x)
    else:
        take_channels_in[float](y, first, x)


cdef int take_channels_in(const real[:, :, ::1] y, Py_ssize_t first, real[:, :, ::1] x) except -1:
    run_channels(<Kernel> take_parts, &x[0, 0, 0], x.shape, &y[0, 0, 0], y.shape, first, sizeof(real))
