# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of the layers that move or rescale numbers: ZeroPadding2D, Cropping2D and Rescaling.

Design: items are images or samples; a long sample is rescaled in parts of about 16,384 elements.
"""
from minicnn._ext.machinery.jobs cimport (IMAGES, Array, Job, Kernel, item, new_job, part_start, parts_for, rows_at,
                                          submit)
from minicnn._ext.machinery.runtime cimport affine, chosen_leaves, real, require, use_leaves

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


def pad(const real[:, :, :, ::1] x not None, real[:, :, :, ::1] y not None, Py_ssize_t top, Py_ssize_t left):
    """y[n, top + h, left + w, c] = x[n, h, w, c], zeros elsewhere; y is the larger one."""
    cdef Border g = describe[real](&x[0, 0, 0, 0], x.shape, &y[0, 0, 0, 0], y.shape, top, left)
    cdef Job job = new_job(<Kernel> pad_images[real], IMAGES, sizeof(g.arrays), x.shape[0],
                           x.shape[0] * g.padded_h * g.padded_row / 4.0)
    submit(&job, &g, sizeof(g))


def crop(const real[:, :, :, ::1] y not None, real[:, :, :, ::1] x not None, Py_ssize_t top, Py_ssize_t left):
    """x[n, h, w, c] = y[n, top + h, left + w, c]; y is the larger one."""
    cdef Border g = describe[real](&x[0, 0, 0, 0], x.shape, &y[0, 0, 0, 0], y.shape, top, left)
    cdef Job job = new_job(<Kernel> crop_images[real], IMAGES, sizeof(g.arrays), x.shape[0],
                           x.shape[0] * g.h * g.row / 4.0)
    submit(&job, &g, sizeof(g))


cdef struct RescaleArrays:
    Array x                  # (n, size)
    Array y                  # (n, size)


cdef struct Rescale:
    RescaleArrays arrays
    Py_ssize_t size, parts
    double scale, offset


cdef void rescale_parts(const Rescale *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end
    for i in range(first, last):
        image, start = i // g.parts, part_start(i % g.parts, g.parts, g.size)
        end = part_start(i % g.parts + 1, g.parts, g.size)
        affine(<const real *> item(g.arrays.x, image) + start, <real> g.scale, <real> g.offset,
               <real *> item(g.arrays.y, image) + start, end - start)


def rescale(const real[:, ::1] x not None, double scale, double offset, real[:, ::1] y not None):
    """y = scale * x + offset, element by element, of n samples (n, size)."""
    cdef Py_ssize_t n = x.shape[0], size = x.shape[1], parts = parts_for(size)
    cdef Rescale g
    require(y.shape[0] == n and y.shape[1] == size, "y must have the shape of x")
    g.arrays.x, g.arrays.y = rows_at(&x[0, 0], size), rows_at(<const real *> &y[0, 0], size)
    g.size, g.parts, g.scale, g.offset = size, parts, scale, offset
    cdef Job job = new_job(<Kernel> rescale_parts[real], IMAGES, sizeof(g.arrays), n, n * size / 4.0)
    job.parts = parts
    submit(&job, &g, sizeof(g))
