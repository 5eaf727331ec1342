# cython: language_level=3
"""Winograd's convolution: kernels for the jobs of conv.pyx.  g.m says how large its tiles are; float32 alone."""
from minicnn._ext.conv cimport Conv

cdef enum Algorithm:
    EXACT  # direct convolution
    AUTO   # what is fastest: direct, or Winograd's tiles of 2 x 2 or 4 x 4
    F2     # those tiles, wherever they can be used
    F4

cdef enum Pass:
    FORWARD, BACKWARD_INPUT, BACKWARD_PARAMS

# What m is to be in float32, 0 for direct convolution: a function of the shapes of one image.
cdef int tile_size(const Conv *g, Pass which, int algorithm) noexcept nogil
# Nanoseconds of a pass over the batch, about, for g.m > 0 (see `team`): what is done, not what direct convolution does.
cdef double work(const Conv *g) noexcept nogil
# y = activation(convolution of x + bias), the kernel taken from `derived`.  Parts are counted through all images:
# forward_parts(g) tiles of each, of which threads get equally many of a small image, or rows of tiles.
cdef void forward_tiles(const Conv *g, Py_ssize_t first, Py_ssize_t last, char *scratch) noexcept nogil
cdef Py_ssize_t forward_parts(const Conv *g) noexcept nogil
cdef Py_ssize_t forward_scratch(const Conv *g) noexcept nogil
# Groups of channels of the kernel, kernel_groups(g) of them: into `derived`, where derived_size(g) bytes must be.
cdef void transform_kernel(const Conv *g, Py_ssize_t first, Py_ssize_t last, char *_scratch) noexcept nogil
cdef Py_ssize_t kernel_groups(const Conv *g) noexcept nogil
cdef Py_ssize_t derived_size(const Conv *g) noexcept nogil
# Images: gradients of kernel and bias, chunk by chunk, into the partial sums (chunks, kernel + f) in `derived`.
cdef void parameter_gradient_images(const Conv *g, Py_ssize_t first, Py_ssize_t last, char *scratch) noexcept nogil
cdef Py_ssize_t gradient_scratch(const Conv *g) noexcept nogil

# Rows of tiles of an image, and tiles in a row.
cdef inline Py_ssize_t tile_rows(const Conv *g) noexcept nogil:
    return (g.oh + g.m - 1) // g.m


cdef inline Py_ssize_t tile_columns(const Conv *g) noexcept nogil:
    return (g.ow + g.m - 1) // g.m
