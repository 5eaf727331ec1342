# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of the layers that move or rescale numbers: ZeroPadding2D and Rescaling.

Design: images are the items of padding and cropping, blocks of 16,384 elements those of rescaling.
"""
from cython.parallel cimport prange

from minicnn._ext.runtime cimport affine, chosen_leaves, real, require, team, use_leaves

use_leaves(chosen_leaves())

cdef enum:
    BLOCK = 16384


def pad(const real[:, :, :, ::1] x not None, real[:, :, :, ::1] y not None, Py_ssize_t top, Py_ssize_t left):
    """y[n, top + h, left + w, c] = x[n, h, w, c], zeros elsewhere; y is the larger one."""
    cdef Py_ssize_t n = x.shape[0], c = x.shape[3], i
    cdef Py_ssize_t h = x.shape[1], row = x.shape[2] * c, padded_h = y.shape[1], padded_row = y.shape[2] * c
    cdef const real *source = &x[0, 0, 0, 0]
    cdef real *target = &y[0, 0, 0, 0]
    require(y.shape[0] == n and y.shape[3] == c and top + h <= padded_h and left * c + row <= padded_row,
            "y must have room for the images of x")
    cdef int threads = team(n, n * padded_h * padded_row / 4.0)
    for i in prange(n, nogil=True, num_threads=threads, schedule="static"):
        pad_image(source + i * h * row, h, row, target + i * padded_h * padded_row, padded_h, padded_row, top, left * c)


def crop(const real[:, :, :, ::1] y not None, real[:, :, :, ::1] x not None, Py_ssize_t top, Py_ssize_t left):
    """x[n, h, w, c] = y[n, top + h, left + w, c]; y is the larger one."""
    cdef Py_ssize_t n = x.shape[0], c = x.shape[3], i
    cdef Py_ssize_t h = x.shape[1], row = x.shape[2] * c, padded_h = y.shape[1], padded_row = y.shape[2] * c
    cdef const real *source = &y[0, 0, 0, 0]
    cdef real *target = &x[0, 0, 0, 0]
    require(y.shape[0] == n and y.shape[3] == c and top + h <= padded_h and left * c + row <= padded_row,
            "y must have room for the images of x")
    cdef int threads = team(n, n * h * row / 4.0)
    for i in prange(n, nogil=True, num_threads=threads, schedule="static"):
        crop_image(source + i * padded_h * padded_row, padded_h, padded_row, target + i * h * row, h, row, top,
                   left * c)


def rescale(const real[::1] x not None, double scale, double offset, real[::1] y not None):
    """y = scale * x + offset, element by element."""
    cdef Py_ssize_t n = x.shape[0], blocks = (n + BLOCK - 1) // BLOCK, b
    cdef const real *source = &x[0]
    cdef real *target = &y[0]
    require(y.shape[0] == n, "y must have the length of x")
    cdef int threads = team(blocks, n / 4.0)
    for b in prange(blocks, nogil=True, num_threads=threads, schedule="static"):
        affine(source + b * BLOCK, <real> scale, <real> offset, target + b * BLOCK, min(BLOCK, n - b * BLOCK))
