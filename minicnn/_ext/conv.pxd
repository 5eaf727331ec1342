# cython: language_level=3
"""What conv.pyx and winograd.pyx share: the arguments of their kernels."""
from minicnn._ext.machinery.jobs cimport Array
from minicnn._ext.machinery.runtime cimport Curve


cdef struct ConvArrays:
    Array x                          # (n, h, w, c), or its gradient
    Array y                          # (n, oh, ow, f), or its gradient
    Array kernel                     # (kh, kw, cg, f), or its gradient
    Array bias                       # (f,), or its gradient; or absent
    Array derived                    # of the kernel, or partial sums: see the kernels


cdef struct Conv:
    ConvArrays arrays
    Py_ssize_t n, h, w, c            # images: count, height, width, channels
    Py_ssize_t kh, kw, cg            # kernel: height, width, channels of a group
    Py_ssize_t oh, ow, f, fg         # output: height, width, filters, filters of a group
    Py_ssize_t sh, sw, dh, dw        # strides, dilation
    Py_ssize_t top, left, groups     # rows and columns of zeros before the image
    Py_ssize_t ph, pw                # extent of the image that the kernel passes over, zeros included
    bint padded                      # that extent reaches beyond the image: work on a padded copy
    Py_ssize_t row                   # elements of a row of the image or of its padded copy
    Py_ssize_t chunks                # of the batch, for the gradient of the parameters
    bint depthwise
    int m                            # Winograd's tiles are m x m results; 0: direct convolution
    bint turned                      # derive from the kernel turned by 180 degrees, channels and filters exchanged
    Curve curve                      # the activation
    bint transposed                  # of a transposed convolution: the gradient of the bias is the sum of x, not of y


cdef inline Py_ssize_t biases(const Conv *g) noexcept nogil:
    """Values of the bias whose gradient follows that of the kernel in a partial sum."""
    return g.c if g.transposed else g.f
