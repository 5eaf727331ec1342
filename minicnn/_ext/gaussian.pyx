# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The kernel of GaussianDropout, y = x * (1 + sigma * z), and of GaussianNoise, y = x + sigma * z, with normal z that
is made again wherever it is needed.

Design: one kernel serves both, and of the first forward (x -> y) and backward (dy -> dx).  The noise takes no memory:
it is a function of seed, stream, step and the element's index (gaussian.h).  It is drawn for a block of 1,024 elements
at a time and used while it is in the first-level cache; what the block is for is fetched from memory meanwhile.
Samples are the items, in parts of at most 16,384 elements.  Short samples that follow each other share a block.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from minicnn._ext.machinery.jobs cimport IMAGES, Array, Job, Kernel, fixed, item, new_job, rows_at, submit
from minicnn._ext.machinery.random cimport ALWAYS, GROUP, Draw, index_of, is_draw, step_of
from minicnn._ext.machinery.runtime cimport (add_scaled, chosen_leaves, fetch_ahead, gaussian, is_double, real, require,
                                             times, use_leaves)

use_leaves(chosen_leaves())

cdef enum:
    BLOCK = 8     # groups of a block
    PART = 16384  # elements of a part, at most


cdef struct NoiseArrays:
    Array x            # (n, size): input, or in backward the gradient of the output
    Array y            # (n, size)
    Array draw         # a Draw, read when the kernel runs
    Array sigma        # one number


cdef struct Noise:
    NoiseArrays arrays
    Py_ssize_t size    # of a sample
    Py_ssize_t parts   # of a sample
    bint added         # instead of multiplied


cdef void noise_parts(const Noise *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    """The factors that were drawn last are those of the groups `block` to `end` - 1 in a `step`."""
    cdef Py_ssize_t part, sample, start, size, n, group, most, block = 0, end = 0
    cdef const Draw *draw = <const Draw *> g.arrays.draw.data
    cdef double sigma = (<const double *> g.arrays.sigma.data)[0]
    cdef float mean = 0 if g.added else 1, deviation = 1 if g.added else <float> sigma
    cdef uint32_t step = 0
    cdef float *factor = <float *> scratch
    cdef const real *x
    cdef real *y
    for part in range(first, last):
        sample, start = part // g.parts, part % g.parts * PART
        size = min(<Py_ssize_t> PART, g.size - start)
        x = <const real *> item(g.arrays.x, sample) + start
        y = <real *> item(g.arrays.y, sample) + start
        if draw.threshold == 0:
            memcpy(y, x, size * sizeof(real))
            continue
        if draw.threshold == ALWAYS:
            memset(y, 0, size * sizeof(real))
            continue
        if step_of(draw, sample) != step:
            step, end = step_of(draw, sample), 0
        start += <Py_ssize_t> index_of(draw, sample, g.size)
        most = start + (last - part) * min(<Py_ssize_t> PART, g.size)  # the last element of this call, at most
        while size:
            group = start // GROUP
            if group >= end:
                block, end = group, min(group + BLOCK, (most + GROUP - 1) // GROUP)
                n = min(size, end * GROUP - start)
                fetch_ahead(x, n * sizeof(real))
                fetch_ahead(y, n * sizeof(real))
                gaussian(factor, block, end - block, mean, deviation, draw.seed, step, <uint32_t> draw.stream)
            n = min(size, end * GROUP - start)
            if g.added:
                add_scaled(x, <real> sigma, factor + start - block * GROUP, y, n)
            else:
                times(x, factor + start - block * GROUP, y, n)
            x, y, start, size = x + n, y + n, start + n, size - n


cdef int run(const real[:, ::1] x, real[:, ::1] y, const uint64_t[::1] draw, const double[::1] sigma,
             bint added) except -1:
    cdef Py_ssize_t n = x.shape[0], size = x.shape[1], parts = (size + PART - 1) // PART
    cdef Noise g
    cdef Job job
    require(y.shape[0] == n and y.shape[1] == size, "y must have the shape (N, D) of x")
    require(is_draw(&draw[0], draw.shape[0]) and sigma.shape[0] == 1, "draw must have 6 numbers and sigma 1")
    if n * size == 0:
        return 0
    g.arrays.x, g.arrays.y = rows_at(&x[0, 0], size), rows_at(<const real *> &y[0, 0], size)
    g.arrays.draw, g.arrays.sigma = fixed(&draw[0]), fixed(&sigma[0])
    g.size, g.parts, g.added = size, parts, added
    job = new_job(<Kernel> noise_parts[real], IMAGES, sizeof(g.arrays), n, n * size / 1.5)
    job.parts, job.scratch = parts, BLOCK * GROUP * sizeof(float)
    return submit(&job, &g, sizeof(g))


def multiply(x not None, y not None, const uint64_t[::1] draw not None, const double[::1] sigma not None):
    """y = x * (1 + sigma * z) for x (N, D); forward and, on gradients, backward.

    ``draw``: threshold, seed, step, stream, first, period.  A threshold of 0 means y = x and one of 65536 y = 0, and
    nothing is drawn; otherwise its value does not matter.  Row s of x has the noise of sample first + s % period in
    step ``step`` + s // period.
    """
    if is_double(x):
        run[double](x, y, draw, sigma, False)
    else:
        run[float](x, y, draw, sigma, False)


def add(x not None, y not None, const uint64_t[::1] draw not None, const double[::1] sigma not None):
    """y = x + sigma * z for x (N, D); ``draw`` as for ``multiply``, with a threshold of 0 or 1."""
    if is_double(x):
        run[double](x, y, draw, sigma, True)
    else:
        run[float](x, y, draw, sigma, True)


def factors(float[::1] factor not None, const uint64_t[::1] draw not None, double sigma, double mean=1.0):
    """mean + sigma * z for len(factor) elements (whole groups of 128), as ``multiply`` draws it.

    With a mean of 0: what ``add`` adds.
    """
    cdef const Draw *lot = <const Draw *> &draw[0]
    require(is_draw(&draw[0], draw.shape[0]), "draw must have 6 numbers")
    if factor.shape[0] >= GROUP:
        with nogil:
            gaussian(&factor[0], 0, factor.shape[0] // GROUP, <float> mean, <float> sigma, lot.seed,
                     <uint32_t> lot.step, <uint32_t> lot.stream)
