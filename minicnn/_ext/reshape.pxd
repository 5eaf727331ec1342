# cython: language_level=3
"""One image into, and out of, a larger one with a border of zeros: for ZeroPadding2D, Cropping2D and convolution."""
from libc.string cimport memcpy, memset

from minicnn._ext.machinery.runtime cimport real


cdef inline void pad_image(const real *x, Py_ssize_t h, Py_ssize_t row, real *y, Py_ssize_t padded_h,
                           Py_ssize_t padded_row, Py_ssize_t top, Py_ssize_t left) noexcept nogil:
    """y = x with zeros around: h rows of `row` elements into padded_h of padded_row, cut off where y is smaller."""
    cdef Py_ssize_t r, width = min(row, padded_row - left)
    for r in range(padded_h):
        if r < top or r >= top + h or width <= 0:
            memset(y + r * padded_row, 0, padded_row * sizeof(real))
        else:
            memset(y + r * padded_row, 0, left * sizeof(real))
            memcpy(y + r * padded_row + left, x + (r - top) * row, width * sizeof(real))
            memset(y + r * padded_row + left + width, 0, (padded_row - left - width) * sizeof(real))


cdef inline void crop_image(const real *y, Py_ssize_t padded_h, Py_ssize_t padded_row, real *x, Py_ssize_t h,
                            Py_ssize_t row, Py_ssize_t top, Py_ssize_t left) noexcept nogil:
    """x = the inside of y, the reverse of pad_image; zeros where y was cut off."""
    cdef Py_ssize_t r, width = max(0, min(row, padded_row - left))
    for r in range(h):
        if r + top >= padded_h:
            width = 0
        if width > 0:
            memcpy(x + r * row, y + (r + top) * padded_row + left, width * sizeof(real))
        memset(x + r * row + width, 0, (row - width) * sizeof(real))
