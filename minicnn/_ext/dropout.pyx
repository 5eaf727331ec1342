# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The kernels of Dropout and DropBlock2D: y = x * scale where the mask keeps, 0 where it drops.

Design: one kernel serves forward (x -> y, drawing the mask) and backward (dy -> dx, with the mask that forward drew),
so a backward that forgets the mask or the scale cannot be written.  The mask takes one bit an element.  It is drawn in
groups of 128 from the counter-based generator (philox.h): a bit depends on seed, stream, step and the element's index
in the batch alone.  Samples are the items, in parts of at most 4,096 elements, whose mask is still in the first-level
cache when it is applied; a group at the border of two parts is drawn for both.

Where elements share a decision (whole channels, say), as many bits as there are decisions are drawn, and each is spread
over the elements that share it (spread.h); then a sample is one part, and the rest is the same.  AlphaDropout, which
puts another number than 0, moves what came out, while it is in the first-level cache.

DropBlock2D draws a bit for every place of a block and drops the blocks (blocks.h); a sample is scaled by what is left
of it, so its mask is made as a whole, and kept with the number of elements that it keeps.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from minicnn._ext.machinery.jobs cimport (IMAGES, Array, Job, Kernel, fixed, item, new_job, recorded, rows_at,
                                          share_out, submit)
from minicnn._ext.machinery.random cimport ALWAYS, GROUP, Draw, draw_bits, index_of, is_draw, words_for
from minicnn._ext.machinery.runtime cimport (affine, chosen_leaves, drop_blocks, is_double, keep_bits, mask_scale,
                                             mask_shift, real, require, team, use_leaves)

use_leaves(chosen_leaves())

cdef enum:
    PART = 4096  # elements of a part, at most

cdef double LOWEST = -1.0507009873554805 * 1.6732632423543772  # SELU's, for x -> -infinity


cdef extern from "spread.h" nogil:
    enum:
        MOST_AXES
    ctypedef struct Sharing:
        Py_ssize_t axes
        Py_ssize_t *size
        int *shared
        int by_the_batch
        Py_ssize_t decisions
    Py_ssize_t spread(const Sharing *sharing, Py_ssize_t axis, const uint32_t *drawn, Py_ssize_t *decision,
                      uint32_t *keep, Py_ssize_t place)
    void copy_bits(uint32_t *to, Py_ssize_t place, const uint32_t *from_, Py_ssize_t start, Py_ssize_t bits)


cdef struct DropoutArrays:
    Array x            # (n, size): input, or in backward the gradient of the output
    Array y            # (n, size)
    Array keep         # (n, parts * words): the mask, bit by bit
    Array draw         # a Draw, read when the kernel runs
    Array scale        # one number


cdef struct Dropout:
    DropoutArrays arrays
    Py_ssize_t size    # of a sample
    Py_ssize_t parts   # of a sample
    bint drawing       # forward
    bint alpha         # AlphaDropout's forward
    Sharing sharing


cdef Py_ssize_t part_words(Py_ssize_t size) noexcept nogil:
    """Words of the mask of one part."""
    return words_for(min(size, <Py_ssize_t> PART))


cdef Py_ssize_t part_count(Py_ssize_t size) noexcept nogil:
    return (size + PART - 1) // PART


cdef void mask_and_scale(const Dropout *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t part, sample, start, size, element
    cdef const Draw *draw = <const Draw *> g.arrays.draw.data
    cdef uint64_t threshold = draw.threshold
    cdef double shift
    cdef real scale = <real> (<const double *> g.arrays.scale.data)[0]
    cdef const real *x
    cdef real *y
    cdef uint32_t *keep
    for part in range(first, last):
        sample, start = part // g.parts, part % g.parts * PART
        size = g.size if g.sharing.axes else min(<Py_ssize_t> PART, g.size - start)
        x = <const real *> item(g.arrays.x, sample) + start
        y = <real *> item(g.arrays.y, sample) + start
        keep = <uint32_t *> item(g.arrays.keep, sample) + part % g.parts * part_words(g.size)
        element = <Py_ssize_t> index_of(draw, sample, g.size) + start
        if threshold == 0:
            memcpy(y, x, size * sizeof(real))
        elif threshold == ALWAYS:
            memset(y, 0, size * sizeof(real))
        elif g.sharing.axes:
            if g.drawing:
                draw_shared(&g.sharing, draw, sample, <uint32_t *> scratch, keep)
            mask_scale(x, keep, 0, scale, y, size)
        else:
            if g.drawing:
                draw_bits(keep, element, size, draw, sample)
            mask_scale(x, keep, element % GROUP, scale, y, size)
        if g.alpha and 0 < threshold < ALWAYS:
            shift = -scale * LOWEST * threshold / ALWAYS
            mask_shift(keep, 0 if g.sharing.axes else element % GROUP, <real> shift, <real> (scale * LOWEST + shift), y,
                       size)


# ---- decisions that elements share ----

cdef void draw_shared(const Sharing *sharing, const Draw *draw, Py_ssize_t sample, uint32_t *drawn,
                      uint32_t *keep) noexcept nogil:
    """Draws a sample's decisions and spreads them over its elements, from bit 0 of ``keep`` on."""
    cdef uint64_t first = index_of(draw, 0 if sharing.by_the_batch else sample, sharing.decisions)
    cdef Py_ssize_t decision = <Py_ssize_t> (first % GROUP)
    if sharing.by_the_batch:
        first = decision = 0
    draw_bits(drawn, <Py_ssize_t> first, sharing.decisions, draw, sample)
    spread(sharing, 0, drawn, &decision, keep, 0)


cdef int understand(object sharing, Py_ssize_t size, Sharing *found) except -1:
    """Takes ``sharing`` as ``forward`` describes it; neighbours of one kind are joined."""
    cdef Py_ssize_t elements = 1
    memset(found, 0, sizeof(Sharing))
    if sharing is None:
        return 0
    found.by_the_batch, axes = sharing
    found.decisions = 1
    for length, shared in axes:
        require(0 < length <= size // elements, "the axes must be those of a sample")
        elements *= length
        found.decisions *= 1 if shared else length
        if found.axes and found.shared[found.axes - 1] == <bint> shared:
            found.size[found.axes - 1] *= length
            continue
        require(found.axes < MOST_AXES, "a sample may have 64 axes at most")
        found.size[found.axes], found.shared[found.axes] = length, shared
        found.axes += 1
    require(elements == size, "the axes must be those of a sample")
    return 0


# ---- the entries ----

cdef int run(const real[:, ::1] x, uint32_t[:, ::1] keep, real[:, ::1] y, const uint64_t[::1] draw,
             const double[::1] scale, object sharing, bint drawing, bint alpha=False) except -1:
    cdef Py_ssize_t n = x.shape[0], size = x.shape[1]
    cdef Dropout g
    cdef Job job
    require(y.shape[0] == n and y.shape[1] == size, "the output must have the shape (N, D) of the input")
    require(keep.shape[0] == n and keep.shape[1] == words(size, sharing), "keep must be (N, words(D))")
    require(is_draw(&draw[0], draw.shape[0]) and scale.shape[0] == 1, "draw must have 6 numbers and scale 1")
    if n * size == 0:
        return 0
    g.arrays.x, g.arrays.y = rows_at(&x[0, 0], size), rows_at(<const real *> &y[0, 0], size)
    g.arrays.keep = Array(<char *> &keep[0, 0], keep.shape[1] * sizeof(uint32_t))
    g.arrays.draw, g.arrays.scale = fixed(&draw[0]), fixed(&scale[0])
    understand(sharing, size, &g.sharing)
    g.size, g.parts, g.drawing, g.alpha = size, 1 if g.sharing.axes else part_count(size), drawing, alpha
    job = new_job(<Kernel> mask_and_scale[real], IMAGES, sizeof(g.arrays), n, n * size / (2.0 if drawing else 4.0))
    job.parts = g.parts
    if g.sharing.axes:
        job.scratch, job.work = words_for(g.sharing.decisions) * sizeof(uint32_t), n * size / 4.0
        return submit(&job, &g, sizeof(g))
    if not recorded(&job, &g, sizeof(g)):
        with nogil:
            share_out(<Kernel> mask_and_scale[real], &g, n * g.parts, team(n * g.parts, job.work))
    return 0


def words(Py_ssize_t size, sharing=None):
    """Words of 32 bits that the mask of one sample takes, of ``size`` elements."""
    return part_count(size) * part_words(size) if sharing is None else size // 32 + 1


def forward(x not None, uint32_t[:, ::1] keep not None, y not None, const uint64_t[::1] draw not None,
            const double[::1] scale not None, sharing=None, bint alpha=False):
    """Draws the mask into ``keep`` (N, words(D)) and applies it to x (N, D): y = x * scale where it keeps, else 0.

    ``draw``: threshold, seed, step, stream, first, period.  A decision is to drop with probability threshold / 65536;
    with 0 nothing is drawn and y = x, with 65536 y = 0.  Row s of x has the mask of sample first + s % period in step
    ``step`` + s // period.  ``sharing``: None, every element has a decision of its own; or (whether all samples have
    the mask of the first, ((length, whether it is shared), ... for every axis of a sample)).

    ``alpha``: for AlphaDropout, y = x * scale + b where it keeps, else scale * a + b, with a SELU's lowest value and
    b = -scale * a * threshold / 65536.
    """
    if is_double(x):
        run[double](x, keep, y, draw, scale, sharing, True, alpha)
    else:
        run[float](x, keep, y, draw, scale, sharing, True, alpha)


def backward(dy not None, uint32_t[:, ::1] keep not None, dx not None, const uint64_t[::1] draw not None,
             const double[::1] scale not None, sharing=None):
    """dx = dy * scale where ``keep`` keeps, else 0: the loop of forward, with the mask that forward drew."""
    if is_double(dy):
        run[double](dy, keep, dx, draw, scale, sharing, False)
    else:
        run[float](dy, keep, dx, draw, scale, sharing, False)


def scale(x not None, const double[::1] factor not None, y not None):
    """y = factor[0] * x for x (N, D), 0 where the factor is: what evaluation does in the classical mode."""
    if is_double(x):
        scale_in[double](x, factor, y)
    else:
        scale_in[float](x, factor, y)


cdef int scale_in(const real[:, ::1] x, const double[::1] factor, real[:, ::1] y) except -1:
    cdef Dropout g
    cdef Job job
    require(y.shape[0] == x.shape[0] and y.shape[1] == x.shape[1], "y must have the shape (N, D) of x")
    require(factor.shape[0] == 1, "factor must have 1 number")
    if x.shape[0] * x.shape[1] == 0:
        return 0
    memset(&g, 0, sizeof(g))
    g.arrays.x, g.arrays.y = rows_at(&x[0, 0], x.shape[1]), rows_at(<const real *> &y[0, 0], x.shape[1])
    g.arrays.scale, g.size = fixed(&factor[0]), x.shape[1]
    job = new_job(<Kernel> scale_samples[real], IMAGES, sizeof(g.arrays), x.shape[0], x.shape[0] * x.shape[1] / 4.0)
    submit(&job, &g, sizeof(g))


cdef void scale_samples(const Dropout *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t i
    cdef double factor = (<const double *> g.arrays.scale.data)[0]
    for i in range(first, last):
        if factor == 0:  # 0 * inf would be NaN
            memset(item(g.arrays.y, i), 0, g.size * sizeof(real))
        elif factor == 1:  # 1 * -0.0 + 0 would be 0.0
            memcpy(item(g.arrays.y, i), item(g.arrays.x, i), g.size * sizeof(real))
        else:
            affine(<const real *> item(g.arrays.x, i), <real> factor, <real> 0, <real *> item(g.arrays.y, i), g.size)


def mask(uint32_t[::1] keep not None, const uint64_t[::1] draw not None):
    """Draws the mask of len(keep) * 32 decisions (whole groups), as forward does from sample 0 of step ``step`` on.

    Decision i is bit i % 32 of word i // 32.
    """
    cdef Py_ssize_t groups = keep.shape[0] * 32 // GROUP
    cdef const Draw *lot = <const Draw *> &draw[0]
    require(is_draw(&draw[0], draw.shape[0]), "draw must have 6 numbers")
    if groups:
        with nogil:
            keep_bits(&keep[0], 0, groups, <uint32_t> lot.threshold, lot.seed, <uint32_t> lot.step,
                      <uint32_t> lot.stream)


# ---- blocks ----

cdef struct BlocksArrays:
    Array x            # (n, size): input, or in backward the gradient of the output
    Array y            # (n, size)
    Array keep         # (n, block_words): the mask, bit by bit; at the end how many elements it keeps
    Array draw         # a Draw, read when the kernel runs


cdef struct Blocks:
    BlocksArrays arrays
    Py_ssize_t height, width, channels, block
    bint drawing       # forward


cdef Py_ssize_t corners(const Blocks *g) noexcept nogil:
    """Of the blocks that fit into an image: the decisions of a sample."""
    return (g.height - g.block + 1) * (g.width - g.block + 1) * g.channels


cdef void blocks_and_scale(const Blocks *g, Py_ssize_t first, Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t sample, size = g.height * g.width * g.channels
    cdef const Draw *draw = <const Draw *> g.arrays.draw.data
    cdef const real *x
    cdef real *y
    cdef uint32_t *keep
    for sample in range(first, last):
        x, y = <const real *> item(g.arrays.x, sample), <real *> item(g.arrays.y, sample)
        keep = <uint32_t *> item(g.arrays.keep, sample)
        if draw.threshold == 0:
            memcpy(y, x, size * sizeof(real))
        elif draw.threshold == ALWAYS:
            memset(y, 0, size * sizeof(real))
        else:
            if g.drawing:
                draw_blocks(g, draw, sample, <uint32_t *> scratch, keep)
            mask_scale(x, keep, 0, <real> (size / <double> max(keep[size // 32 + 1], 1)), y, size)


cdef void draw_blocks(const Blocks *g, const Draw *draw, Py_ssize_t sample, uint32_t *drawn,
                      uint32_t *keep) noexcept nogil:
    """Draws where blocks begin, puts these bits where the corners are in the image, and drops the blocks."""
    cdef Py_ssize_t row = g.width * g.channels, size = g.height * row, count = corners(g), i
    cdef Py_ssize_t rows = g.height - g.block + 1, wide = (g.width - g.block + 1) * g.channels
    cdef uint64_t first = index_of(draw, sample, count)
    draw_bits(drawn, <Py_ssize_t> first, count, draw, sample)
    memset(keep, 0xFF, (size // 32 + 1) * sizeof(uint32_t))
    for i in range(rows):
        copy_bits(keep, i * row, drawn, <Py_ssize_t> (first % GROUP) + i * wide, wide)
    keep[size // 32 + 1] = <uint32_t> drop_blocks(keep, drawn + words_for(count), size, g.channels, row, g.block)


def block_words(Py_ssize_t size):
    """Words of 32 bits that the mask of one sample of ``size`` elements takes in ``blocks``."""
    return size // 32 + 2


def blocks(x not None, uint32_t[:, ::1] keep not None, y not None, const uint64_t[::1] draw not None, shape,
           Py_ssize_t block, bint drawing):
    """Draws a mask of blocks into ``keep`` (N, block_words(D)) if ``drawing``, and applies it to x (N, D):
    y = x * scale where it keeps, else 0, with scale = D / (elements that it keeps in the sample).

    ``draw``: as for ``forward``; a decision is whether a block begins there.  ``shape``: (H, W, C), H W C = D;
    ``block``: the side of a block, 1 <= block <= H, W.  Backward is the same without ``drawing``, on dy.
    """
    if is_double(x):
        blocks_in[double](x, keep, y, draw, shape, block, drawing)
    else:
        blocks_in[float](x, keep, y, draw, shape, block, drawing)


cdef int blocks_in(const real[:, ::1] x, uint32_t[:, ::1] keep, real[:, ::1] y, const uint64_t[::1] draw, shape,
                   Py_ssize_t block, bint drawing) except -1:
    cdef Py_ssize_t n = x.shape[0], size = x.shape[1]
    cdef Blocks g
    cdef Job job
    g.height, g.width, g.channels = shape
    g.block, g.drawing = block, drawing
    require(y.shape[0] == n and y.shape[1] == size, "y must have the shape (N, D) of x")
    require(keep.shape[0] == n and keep.shape[1] == block_words(size), "keep must be (N, block_words(D))")
    require(is_draw(&draw[0], draw.shape[0]), "draw must have 6 numbers")
    if n * size == 0:
        return 0
    require(size < <Py_ssize_t> 1 << 32, "a sample must have less than 2^32 elements")
    require(0 < g.height <= size and 0 < g.width <= size // g.height, "the axes must be those of a sample")
    require(0 < g.channels <= size // (g.height * g.width) and g.height * g.width * g.channels == size,
            "the axes must be those of a sample")
    require(0 < block <= min(g.height, g.width), "a block must fit into an image")
    g.arrays.x, g.arrays.y = rows_at(&x[0, 0], size), rows_at(<const real *> &y[0, 0], size)
    g.arrays.keep = Array(<char *> &keep[0, 0], keep.shape[1] * sizeof(uint32_t))
    g.arrays.draw = fixed(&draw[0])
    job = new_job(<Kernel> blocks_and_scale[real], IMAGES, sizeof(g.arrays), n, n * size / (1.5 if drawing else 4.0))
    job.scratch = (words_for(corners(&g)) + size // 32 + 1) * sizeof(uint32_t) if drawing else 0
    submit(&job, &g, sizeof(g))
