# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The kernel of Dropout: y = x * scale where the mask keeps, 0 where it drops.

Design: one kernel serves forward (x -> y, drawing the mask) and backward (dy -> dx, with the mask that forward drew),
so a backward that forgets the mask or the scale cannot be written.  The mask takes one bit an element.  It is drawn in
groups of 128 from the counter-based generator (philox.h): a bit depends on seed, stream, step and the element's index
alone.  Items are blocks of 4,096 elements, whose mask is still in the first-level cache when it is applied.
"""
from cython.parallel cimport prange
from libc.stdint cimport uint32_t, uint64_t

from minicnn._ext.runtime cimport chosen_leaves, keep_bits, mask_scale, real, require, team, use_leaves

use_leaves(chosen_leaves())

cdef enum:
    GROUP = 128   # mask bits that are drawn together (philox.h)
    BLOCK = 4096  # elements of an item, a multiple of GROUP


cdef struct Mask:
    uint32_t threshold   # an element is kept if its 16 random bits are >= threshold
    uint64_t seed
    uint32_t step, stream


cdef void mask_and_scale(const real *x, uint32_t *keep, real *y, Py_ssize_t n, double scale, const Mask *draw,
                         Py_ssize_t item) noexcept nogil:
    """One item of n elements in all; draws its mask first unless `draw` is NULL."""
    cdef Py_ssize_t start = item * BLOCK, size = min(<Py_ssize_t> BLOCK, n - item * BLOCK)
    if draw is not NULL:
        keep_bits(keep + start // 32, start // GROUP, (size + GROUP - 1) // GROUP, draw.threshold, draw.seed, draw.step,
                  draw.stream)
    mask_scale(x + start, keep + start // 32, <real> scale, y + start, size)


def words(Py_ssize_t n):
    """The length of the mask of n elements, in words of 32 bits: whole groups."""
    return (n + GROUP - 1) // GROUP * (GROUP // 32)


def forward(const real[::1] x not None, uint32_t[::1] keep not None, real[::1] y not None, double scale,
            uint32_t threshold, uint64_t seed, uint32_t step, uint32_t stream):
    """Draws the mask into ``keep`` (words(N) words; element i is bit i % 32 of word i // 32) and applies it:

    y = x * scale where the mask keeps, else 0.

    An element is dropped with probability threshold / 65536.
    """
    cdef Mask draw = Mask(threshold, seed, step, stream)
    cdef Py_ssize_t n = x.shape[0], items = (n + BLOCK - 1) // BLOCK, item
    require(y.shape[0] == n and keep.shape[0] == words(n), "y must have the length of x, and keep words(N)")
    cdef int threads = team(items, n / 2.0)
    for item in prange(items, nogil=True, num_threads=threads, schedule="static"):
        mask_and_scale(&x[0], &keep[0], &y[0], n, scale, &draw, item)


def backward(const real[::1] dy not None, uint32_t[::1] keep not None, real[::1] dx not None, double scale):
    """dx = dy * scale where ``keep`` keeps, else 0: the loop of forward, with the mask that forward drew."""
    cdef Py_ssize_t n = dy.shape[0], items = (n + BLOCK - 1) // BLOCK, item
    require(dx.shape[0] == n and keep.shape[0] == words(n), "dx must have the length of dy, and keep words(N)")
    cdef int threads = team(items, n / 4.0)
    for item in prange(items, nogil=True, num_threads=threads, schedule="static"):
        mask_and_scale(&dy[0], &keep[0], &dx[0], n, scale, NULL, item)


def draw(uint32_t[::1] keep not None, uint32_t threshold, uint64_t seed, uint32_t step, uint32_t stream):
    """Draws the mask alone, again as forward drew it."""
    cdef Py_ssize_t groups = keep.shape[0] * 32 // GROUP
    if groups:
        with nogil:
            keep_bits(&keep[0], 0, groups, threshold, seed, step, stream)
