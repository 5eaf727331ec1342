# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of the activations: f and f' element by element, softmax row by row.

Design: blocks of 16,384 elements, or of rows with about as many, are the items; the formulas stand in leaf.h.
"""
from cython.parallel cimport prange

from minicnn._ext.runtime cimport (ELU, GELU, LEAKY_RELU, LINEAR, RELU, SIGMOID, TANH, activate, activate_grad,
                                   chosen_leaves, real, require, softmax_rows, softmax_rows_grad, team, use_leaves)

use_leaves(chosen_leaves())

KINDS = {"linear": LINEAR, "relu": RELU, "leaky_relu": LEAKY_RELU, "elu": ELU, "gelu": GELU, "sigmoid": SIGMOID,
         "tanh": TANH}

cdef enum:
    BLOCK = 16384


def forward(int kind, double slope, const real[::1] x not None, real[::1] y not None):
    """y = f(x); x and y may be the same array.  ``slope`` is LeakyReLU's."""
    cdef Py_ssize_t n = x.shape[0], items = (n + BLOCK - 1) // BLOCK, b
    require(y.shape[0] == n, "y must have the length of x")
    cdef int threads = team(items, n / 2.0)
    for b in prange(items, nogil=True, num_threads=threads, schedule="static"):
        activate(kind, <real> slope, &x[0] + b * BLOCK, &y[0] + b * BLOCK, min(<Py_ssize_t> BLOCK, n - b * BLOCK))


def backward(int kind, double slope, const real[::1] s not None, const real[::1] dy not None, real[::1] dx not None):
    """dx = dy f'(x); ``s`` is the output y of forward, or its input x for "gelu".  dx and dy may be the same array."""
    cdef Py_ssize_t n = dy.shape[0], items = (n + BLOCK - 1) // BLOCK, b
    require(s.shape[0] == n and dx.shape[0] == n, "s and dx must have the length of dy")
    cdef int threads = team(items, n / 2.0)
    for b in prange(items, nogil=True, num_threads=threads, schedule="static"):
        activate_grad(kind, <real> slope, &s[0] + b * BLOCK, &dy[0] + b * BLOCK, &dx[0] + b * BLOCK,
                      min(<Py_ssize_t> BLOCK, n - b * BLOCK))


def softmax(const real[:, ::1] x not None, real[:, ::1] y not None):
    """y = exp(x - max x) / sum exp(x - max x) along the last axis of (rows, n); x and y may be the same array."""
    cdef Py_ssize_t rows = x.shape[0], n = x.shape[1], block = max(1, BLOCK // max(n, 1)), b
    require(y.shape[0] == rows and y.shape[1] == n, "y must have the shape of x")
    cdef Py_ssize_t items = (rows + block - 1) // block
    cdef int threads = team(items, rows * n * 2.0)
    for b in prange(items, nogil=True, num_threads=threads, schedule="static"):
        softmax_rows(&x[0, 0] + b * block * n, &y[0, 0] + b * block * n, min(block, rows - b * block), n)


def softmax_backward(const real[:, ::1] y not None, const real[:, ::1] dy not None, real[:, ::1] dx not None):
    """dx = y (dy - sum dy y) along the last axis; dx and dy may be the same array."""
    cdef Py_ssize_t rows = y.shape[0], n = y.shape[1], block = max(1, BLOCK // max(n, 1)), b
    require(dy.shape[0] == rows and dy.shape[1] == n and dx.shape[0] == rows and dx.shape[1] == n,
            "dy and dx must have the shape of y")
    cdef Py_ssize_t items = (rows + block - 1) // block
    cdef int threads = team(items, rows * n * 2.0)
    for b in prange(items, nogil=True, num_threads=threads, schedule="static"):
        softmax_rows_grad(&y[0, 0] + b * block * n, &dy[0, 0] + b * block * n, &dx[0, 0] + b * block * n,
                          min(block, rows - b * block), n)
