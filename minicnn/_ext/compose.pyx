# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels that join the outputs of several layers, and take them apart: sums, and channels side by side.

Design: items are images or samples; a long one is done in parts of about 16,384 elements.
"""
from libc.string cimport memcpy

from minicnn._ext.plan cimport IMAGES, Array, Job, Kernel, submit
from minicnn._ext.runtime cimport LINEAR, RELU, chosen_leaves, plus, real, require, use_leaves

use_leaves(chosen_leaves())

cdef enum:
    PART = 16384  # elements of a part, about
    WORD = 16     # bytes that are moved at once
    LONG = 128    # bytes from which on memcpy is worth its call


# ---- sums ----

cdef struct Sum:
    Array a                  # (n, size)
    Array b                  # (n, size)
    Array y                  # (n, size)
    Py_ssize_t size, parts
    bint relu


cdef void add_parts(const Sum *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end
    for i in range(first, last):
        image, start, end = i // g.parts, g.size * (i % g.parts) // g.parts, g.size * (i % g.parts + 1) // g.parts
        plus(g.relu, <const real *> (g.a.data + image * g.a.step) + start,
             <const real *> (g.b.data + image * g.b.step) + start,
             <real *> (g.y.data + image * g.y.step) + start, end - start)


def add(const real[:, ::1] a not None, const real[:, ::1] b not None, int kind, real[:, ::1] y not None):
    """y = f(a + b) of n samples (n, size); y may be the same array as a or b.

    ``kind``: LINEAR or RELU, of activation.KINDS; the others are done by activation.forward afterwards.
    """
    cdef Py_ssize_t n = y.shape[0], size = y.shape[1], parts = max(<Py_ssize_t> 1, size // PART)
    require(a.shape[0] == n and a.shape[1] == size and b.shape[0] == n and b.shape[1] == size,
            "a and b must have the shape of y")
    require(kind == LINEAR or kind == RELU, "kind must be that of linear or relu")
    cdef Sum g = Sum(
        a=Array(<char *> &a[0, 0], size * sizeof(real)), b=Array(<char *> &b[0, 0], size * sizeof(real)),
        y=Array(<char *> &y[0, 0], size * sizeof(real)), size=size, parts=parts, relu=kind == RELU)
    cdef Job job = Job(kernel=<Kernel> add_parts[real], place=IMAGES, arrays=3, items=n, parts=parts, chunks=0,
                       scratch=0, work=n * size / 4.0)
    submit(&job, &g, sizeof(g))


# ---- channels ----

cdef struct Channels:
    Array x                     # (n, pixels, run)
    Array y                     # (n, pixels, row)
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
        image, start = i // g.parts, g.pixels * (i % g.parts) // g.parts
        end = g.pixels * (i % g.parts + 1) // g.parts
        move(g.x.data + image * g.x.step + start * g.run, g.run,
             g.y.data + image * g.y.step + start * g.row + g.first, g.row, g.run, end - start)


cdef void take_parts(const Channels *g, Py_ssize_t first, Py_ssize_t last, void *scratch) noexcept nogil:
    cdef Py_ssize_t i, image, start, end
    for i in range(first, last):
        image, start = i // g.parts, g.pixels * (i % g.parts) // g.parts
        end = g.pixels * (i % g.parts + 1) // g.parts
        move(g.y.data + image * g.y.step + start * g.row + g.first, g.row,
             g.x.data + image * g.x.step + start * g.run, g.run, g.run, end - start)


cdef int run_channels(Kernel kernel, const void *x, const Py_ssize_t *x_shape, const void *y,
                      const Py_ssize_t *y_shape, Py_ssize_t first, Py_ssize_t size) except -1:
    """x: the fewer channels; size: of an element in bytes."""
    cdef Py_ssize_t n = x_shape[0], pixels = x_shape[1], c = x_shape[2], total = y_shape[2]
    require(y_shape[0] == n and y_shape[1] == pixels, "y must have the images and pixels of x")
    require(0 <= first <= total - c, "y must have room for the channels of x from `first` on")
    cdef Channels g = Channels(
        x=Array(<char *> x, pixels * c * size), y=Array(<char *> y, pixels * total * size), pixels=pixels,
        parts=max(<Py_ssize_t> 1, min(pixels, pixels * c // PART)), run=c * size, row=total * size, first=first * size)
    cdef Job job = Job(kernel=kernel, place=IMAGES, arrays=2, items=n, parts=g.parts, chunks=0, scratch=0,
                       work=n * pixels * (1 + c / 4.0))
    return submit(&job, &g, sizeof(g))


def copy_channels(const real[:, :, ::1] x not None, real[:, :, ::1] y not None, Py_ssize_t first):
    """y[n, p, first + c] = x[n, p, c] for x (n, pixels, c), y (n, pixels, more); the rest of y stays what it was."""
    run_channels(<Kernel> copy_parts, &x[0, 0, 0], x.shape, &y[0, 0, 0], y.shape, first, sizeof(real))


def take_channels(const real[:, :, ::1] y not None, Py_ssize_t first, real[:, :, ::1] x not None):
    """x[n, p, c] = y[n, p, first + c], the reverse of copy_channels."""
    run_channels(<Kernel> take_parts, &x[0, 0, 0], x.shape, &y[0, 0, 0], y.shape, first, sizeof(real))
