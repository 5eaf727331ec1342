# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of the layers that move or rescale numbers: ZeroPadding2D and Rescaling.

Design: items are images or samples; a long sample is rescaled in parts of about 16,384 elements.
"""
from minicnn._ext.plan cimport IMAGES, Array, Job, Kernel, submit
from minicnn._ext.runtime cimport affine, chosen_leaves, real, require, use_leaves

use_leaves(chosen_leaves())

cdef enum:
    PART = 16384


cdef struct Border:
    Array inner                       # (n, h, row)
    Array outer                       # (n, padded_h, padded_row)
    Py_ssize_t h, row                 # a row is its pixels with all their channels
    Py_ssize_t padded_h, padded_row
    Py_ssize_t top, left


cdef void pad_images(const Border *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(first, last):
        pad_image(<const real *> (g.inner.data + i * g.inner.step), g.h, g.row,
                  <real *> (g.outer.data + i * g.outer.step), g.padded_h, g.padded_row, g.top, g.left)


cdef void crop_images(const Border *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(first, last):
        crop_image(<const real *> (g.outer.data + i * g.outer.step), g.padded_h, g.padded_row,
                   <real *> (g.inner.data + i * g.inner.step), g.h, g.row, g.top, g.left)


cdef Border describe(const char *x, const Py_ssize_t *x_shape, const char *y, const Py_ssize_t *y_shape,
                     Py_ssize_t top, Py_ssize_t left, Py_ssize_t size) except *:
    """x: the smaller images; size: of an element in bytes."""
    cdef Py_ssize_t c = x_shape[3]
    require(y_shape[0] == x_shape[0] and y_shape[3] == c and 0 <= top <= y_shape[1] - x_shape[1]
            and 0 <= left <= y_shape[2] - x_shape[2], "y must have room for the images of x")
    return Border(
        inner=Array(<char *> x, x_shape[1] * x_shape[2] * c * size),
        outer=Array(<char *> y, y_shape[1] * y_shape[2] * c * size), h=x_shape[1], row=x_shape[2] * c,
        padded_h=y_shape[1], padded_row=y_shape[2] * c, top=top, left=left * c)


def pad(const real[:, :, :, ::1] x not None, real[:, :, :, ::1] y not None, Py_ssize_t top, Py_ssize_t left):
    """y[n, top + h, left + w, c] = x[n, h, w, c], zeros elsewhere; y is the larger one."""
    cdef Border g = describe(<const char *> &x[0, 0, 0, 0], x.shape, <char *> &y[0, 0, 0, 0], y.shape, top, left,
                             sizeof(real))
    cdef Job job = Job(kernel=<Kernel> pad_images[real], place=IMAGES, arrays=2, items=x.shape[0], parts=1, chunks=0,
                       scratch=0, work=x.shape[0] * g.padded_h * g.padded_row / 4.0)
    submit(&job, &g, sizeof(g))


def crop(const real[:, :, :, ::1] y not None, real[:, :, :, ::1] x not None, Py_ssize_t top, Py_ssize_t left):
    """x[n, h, w, c] = y[n, top + h, left + w, c]; y is the larger one."""
    cdef Border g = describe(<char *> &x[0, 0, 0, 0], x.shape, <const char *> &y[0, 0, 0, 0], y.shape, top, left,
                             sizeof(real))
    cdef Job job = Job(kernel=<Kernel> crop_images[real], place=IMAGES, arrays=2, items=x.shape[0], parts=1, chunks=0,
                       scratch=0, work=x.shape[0] * g.h * g.row / 4.0)
    submit(&job, &g, sizeof(g))


cdef struct Rescale:
    Array x                  # (n, size)
    Array y                  # (n, size)
    Py_ssize_t size, parts
    double scale, offset


cdef void rescale_parts(const Rescale *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end
    for i in range(first, last):
        image, start, end = i // g.parts, g.size * (i % g.parts) // g.parts, g.size * (i % g.parts + 1) // g.parts
        affine(<const real *> (g.x.data + image * g.x.step) + start, <real> g.scale, <real> g.offset,
               <real *> (g.y.data + image * g.y.step) + start, end - start)


def rescale(const real[:, ::1] x not None, double scale, double offset, real[:, ::1] y not None):
    """y = scale * x + offset, element by element, of n samples (n, size)."""
    cdef Py_ssize_t n = x.shape[0], size = x.shape[1], parts = max(<Py_ssize_t> 1, size // PART)
    require(y.shape[0] == n and y.shape[1] == size, "y must have the shape of x")
    cdef Rescale g = Rescale(
        x=Array(<char *> &x[0, 0], size * sizeof(real)), y=Array(<char *> &y[0, 0], size * sizeof(real)), size=size,
        parts=parts, scale=scale, offset=offset)
    cdef Job job = Job(kernel=<Kernel> rescale_parts[real], place=IMAGES, arrays=2, items=n, parts=parts, chunks=0,
                       scratch=0, work=n * size / 4.0)
    submit(&job, &g, sizeof(g))
