# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Winograd's convolution F(m x m, 3 x 3) for kernels of 3 x 3, stride 1: fewer multiplications, more additions.

Design: the result is cut into tiles of m x m pixels, each of which sees n x n pixels of the image (n = m + 2).  The
transforms (winograd.h) turn the convolution of a tile into n x n separate products, so that for a block of tiles each
of these positions is one matrix product, made by `tiles`:

    forward           M[k] (tiles, filters)    = V[k] (tiles, channels) U[k] (channels, filters)   for k < n n
    input gradient    the same with dy for x and the kernel turned by 180 degrees: the forward pass of another Conv
    kernel gradient   S[k] (channels, filters) += V[k]^T (channels, tiles) D[k] (tiles, filters)

V, M, D and S are the transformed pixels, results, gradients of results, and sum over a chunk of the batch; U is the
transformed kernel.  Nothing is padded: a tile is a table of pointers to its pixels, and those that lie outside of the
image point to zeros when they are read and to a spare place when they are written.

Every output is one chain of sums in an order that does not depend on the blocks: the bits depend on the shapes alone.
"""
from libc.string cimport memcmp, memcpy, memset

from minicnn._ext.conv cimport Conv, biases
from minicnn._ext.machinery.jobs cimport LINE, chunk_of, chunk_start, item
from minicnn._ext.machinery.runtime cimport (LINEAR, OF_GRADIENT, OF_IMAGE, OF_KERNEL, RELU, TO_IMAGE, TO_KERNEL, Tile,
                                             activate, chosen_leaves, column_sums, matrix_tile, tiles, use_leaves,
                                             winograd_in, winograd_out)

use_leaves(chosen_leaves())

cdef enum:
    BLOCK = 28  # tiles at a time: two tiles' height of AVX-512, and V and M stay in the cache
    GAP = 16    # elements between the positions of a block, so that they do not fall on the same cache lines


cdef int tile_size(const Conv *g, Pass which, int algorithm) noexcept nogil:
    cdef bint fits = g.kh == 3 and g.kw == 3 and g.sh == 1 and g.sw == 1 and g.dh == 1 and g.dw == 1 and g.groups == 1
    cdef Py_ssize_t h = g.h if which == BACKWARD_INPUT else g.oh, w = g.w if which == BACKWARD_INPUT else g.ow
    cdef Py_ssize_t direct = 9 * g.oh * g.ow  # products for each pair of a channel and a filter
    cdef Py_ssize_t by_2 = 16 * ((h + 1) // 2) * ((w + 1) // 2), by_4 = 36 * ((h + 3) // 4) * ((w + 3) // 4)
    if algorithm == EXACT or not fits or g.c % GROUP or g.f % GROUP:
        return 0
    if algorithm == F2 or algorithm == F4:
        return 2 if algorithm == F2 else 4
    if 8 * min(by_2, by_4) > 5 * direct:  # measured: the transforms take about as long as 60 % of the products
        return 0
    return 2 if by_2 <= by_4 else 4


cdef Py_ssize_t positions(const Conv *g) noexcept nogil:
    return (g.m + 2) * (g.m + 2)


cdef Py_ssize_t step_of(Py_ssize_t channels) noexcept nogil:
    """Elements from one position of a block of tiles to the next."""
    return BLOCK * channels + GAP


cdef void window(float **pixels, float *image, Py_ssize_t h, Py_ssize_t w, Py_ssize_t c, Py_ssize_t top,
                 Py_ssize_t left, Py_ssize_t size, float *outside) noexcept nogil:
    """Pointers to the size x size pixels of an image from (top, left) on."""
    cdef Py_ssize_t r, q, low = min(size, max(<Py_ssize_t> 0, -left)), high = max(low, min(size, w - left))
    cdef float *row
    for r in range(top, top + size):
        if r < 0 or r >= h:
            for q in range(size):
                pixels[q] = outside
        else:
            row = image + (r * w + left) * c
            for q in range(low):
                pixels[q] = outside
            for q in range(low, high):
                pixels[q] = row + q * c
            for q in range(high, size):
                pixels[q] = outside
        pixels += size


cdef void image_tile(const Conv *g, Py_ssize_t tile, float **pixels, float *zeros) noexcept nogil:
    """The pixels of x that a tile sees; tiles are counted through all images."""
    cdef Py_ssize_t columns = tile_columns(g), row = tile // columns, rows = tile_rows(g)
    window(pixels, <float *> item(g.arrays.x, row // rows), g.h, g.w, g.c, row % rows * g.m - g.top,
           tile % columns * g.m - g.left, g.m + 2, zeros)


cdef void result_tile(const Conv *g, Py_ssize_t tile, float **pixels, float *outside) noexcept nogil:
    """The pixels of y that a tile makes."""
    cdef Py_ssize_t columns = tile_columns(g), row = tile // columns, rows = tile_rows(g)
    window(pixels, <float *> item(g.arrays.y, row // rows), g.oh, g.ow, g.f, row % rows * g.m,
           tile % columns * g.m, g.m, outside)


# ---- forward ----

cdef Py_ssize_t forward_scratch(const Conv *g) noexcept nogil:
    return (max(g.c, g.f) + positions(g) * (step_of(g.c) + step_of(g.f))) * sizeof(float)


cdef void forward_tile_rows(const Conv *g, Py_ssize_t first, Py_ssize_t last, char *scratch) noexcept nogil:
    cdef Py_ssize_t low = first * tile_columns(g), count = last * tile_columns(g) - low, b, row, rows, part = first
    cdef Py_ssize_t blocks = (count + BLOCK - 1) // BLOCK
    cdef float *y
    for b in range(blocks):
        forward_block(g, low + count * b // blocks, low + count * (b + 1) // blocks, <float *> scratch)
    while part < last and g.curve.kind != LINEAR and g.curve.kind != RELU:
        row = part % tile_rows(g)
        rows = min(tile_rows(g) - row, last - part)
        y = <float *> item(g.arrays.y, part // tile_rows(g)) + row * g.m * g.ow * g.f
        activate(&g.curve, y, y, min(rows * g.m, g.oh - row * g.m) * g.ow * g.f)
        part += rows


cdef void forward_block(const Conv *g, Py_ssize_t low, Py_ssize_t high, float *scratch) noexcept nogil:
    """Tiles `low` to `high` - 1, at most BLOCK."""
    cdef Py_ssize_t t, v_step = step_of(g.c), m_step = step_of(g.f)
    cdef float *outside = scratch
    cdef float *v = outside + max(g.c, g.f)
    cdef float *m = v + positions(g) * v_step
    cdef float *pixels[36]
    memset(outside, 0, g.c * sizeof(float))
    for t in range(high - low):
        image_tile(g, low + t, pixels, outside)
        winograd_in(OF_IMAGE, g.m, pixels, v + t * g.c, v_step, g.c)
    multiply(g, high - low, v, m)
    for t in range(high - low):
        result_tile(g, low + t, pixels, outside)
        winograd_out(TO_IMAGE, g.m, m + t * g.f, m_step, <const float *> g.arrays.bias.data, g.curve.kind == RELU,
                     pixels, g.f)


cdef void multiply(const Conv *g, Py_ssize_t count, const float *v, float *m) noexcept nogil:
    """M[k] = V[k] U[k] for every position k of `count` tiles."""
    cdef Py_ssize_t k, v_step = step_of(g.c), m_step = step_of(g.f)
    cdef Tile t = matrix_tile(g.c, 1, g.f, g.c, g.f)
    for k in range(positions(g)):
        tiles(&t, count, g.f, v + k * v_step, <const float *> g.arrays.derived.data + k * g.c * g.f,
              <const float *> NULL, m + k * m_step)


# ---- the kernel ----

cdef Py_ssize_t derived_size(const Conv *g) noexcept nogil:
    return (positions(g) + 9) * g.c * g.f * sizeof(float)


cdef void transform_kernel(const Conv *g, Py_ssize_t first, Py_ssize_t last, char *_scratch) noexcept nogil:
    """`derived` holds the result (n n, c, f) and behind it the kernel that it was made from: groups of channels of the
    kernel that are still the same are left alone.  For the turned kernel c and f are those of the result.  Made from
    that copy, so that both agree even if another thread trains the model meanwhile."""
    cdef Py_ssize_t group, tap, filters = g.c if g.turned else g.f, channels = g.f if g.turned else g.c
    cdef Py_ssize_t size = GROUP * filters
    cdef const float *kernel
    cdef float *source
    cdef bint changed
    for group in range(first, last):
        kernel = <const float *> g.arrays.kernel.data + group * size
        source = kernel_copy(g) + group * size
        changed = False
        for tap in range(9):
            changed |= memcmp(source + tap * channels * filters, kernel + tap * channels * filters,
                              size * sizeof(float)) != 0
        if not changed:
            continue
        for tap in range(9):
            memcpy(source + tap * channels * filters, kernel + tap * channels * filters, size * sizeof(float))
        if g.turned:
            transform_turned(g, group * GROUP)
        else:
            transform_straight(g, group * GROUP)


cdef inline float *kernel_copy(const Conv *g) noexcept nogil:
    return <float *> g.arrays.derived.data + positions(g) * g.c * g.f


cdef void transform_straight(const Conv *g, Py_ssize_t channel) noexcept nogil:
    """A group of 16 channels from `channel` on."""
    cdef Py_ssize_t c, tap
    cdef float *taps[9]
    for c in range(channel, channel + GROUP):
        for tap in range(9):
            taps[tap] = kernel_copy(g) + (tap * g.c + c) * g.f
        winograd_in(OF_KERNEL, g.m, taps, <float *> g.arrays.derived.data + c * g.f, g.c * g.f, g.f)


cdef void transform_turned(const Conv *g, Py_ssize_t channel) noexcept nogil:
    """A group of 16 channels of the kernel, which are the results here: its filters are the channels."""
    cdef Py_ssize_t c, o, tap
    cdef float[9][GROUP] values
    cdef float *taps[9]
    for tap in range(9):
        taps[tap] = values[8 - tap]
    for o in range(g.c):
        for tap in range(9):
            for c in range(GROUP):
                values[tap][c] = kernel_copy(g)[(tap * g.f + channel + c) * g.c + o]
        winograd_in(OF_KERNEL, g.m, taps, <float *> g.arrays.derived.data + o * g.f + channel, g.c * g.f, GROUP)


# ---- gradient of the parameters ----

cdef struct Sum:
    Py_ssize_t count  # tiles that wait to be multiplied
    bint begun        # s holds a sum
    float *s          # (n n, c, f)
    float *v          # (n n, BLOCK, c) with GAPs
    float *d          # (n n, BLOCK, f) with GAPs
    float *zeros


cdef Py_ssize_t gradient_scratch(const Conv *g) noexcept nogil:
    cdef Py_ssize_t numbers = positions(g) * (g.c * g.f + step_of(g.c) + step_of(g.f)) + max(g.c, g.f)
    return sizeof(Sum) + LINE + numbers * sizeof(float)


cdef void parameter_gradient_images(const Conv *g, Py_ssize_t first, Py_ssize_t last, char *scratch) noexcept nogil:
    """The scratch memory holds the sum of a chunk and the tiles that do not fill a block yet, from call to call."""
    cdef Py_ssize_t i, tile, chunk, count = tile_rows(g) * tile_columns(g), kernel = 9 * g.c * g.f
    cdef Sum *sum = <Sum *> scratch
    cdef float *partial
    for i in range(first, last):
        chunk = chunk_of(i, g.chunks, g.n)
        partial = <float *> g.arrays.derived.data + chunk * (kernel + biases(g))
        if i == chunk_start(chunk, g.chunks, g.n):
            begin(g, sum)
            memset(partial, 0, (kernel + biases(g)) * sizeof(float))
        if g.transposed:
            column_sums(<const float *> item(g.arrays.x, i), partial + kernel, g.h * g.w, g.c)
        for tile in range(i * count, (i + 1) * count):
            add_tile(g, tile, sum, partial + kernel)
        if i + 1 == chunk_start(chunk + 1, g.chunks, g.n):
            if sum.count > 0:
                add_block(g, sum, partial + kernel)
            finish(g, sum, partial)


cdef void begin(const Conv *g, Sum *sum) noexcept nogil:
    sum.count, sum.begun = 0, False
    sum.s = <float *> (<char *> sum + LINE)
    sum.v = sum.s + positions(g) * g.c * g.f
    sum.d = sum.v + positions(g) * step_of(g.c)
    sum.zeros = sum.d + positions(g) * step_of(g.f)
    memset(sum.zeros, 0, max(g.c, g.f) * sizeof(float))


cdef void add_tile(const Conv *g, Py_ssize_t tile, Sum *sum, float *bias) noexcept nogil:
    cdef float *pixels[36]
    image_tile(g, tile, pixels, sum.zeros)
    winograd_in(OF_IMAGE, g.m, pixels, sum.v + sum.count * g.c, step_of(g.c), g.c)
    result_tile(g, tile, pixels, sum.zeros)
    winograd_in(OF_GRADIENT, g.m, pixels, sum.d + sum.count * g.f, step_of(g.f), g.f)
    sum.count += 1
    if sum.count == BLOCK:
        add_block(g, sum, bias)


cdef void add_block(const Conv *g, Sum *sum, float *bias) noexcept nogil:
    """S[k] += V[k]^T D[k]; and D at the points (1, 1) is the sum of a tile's pixels, the bias's gradient."""
    cdef Py_ssize_t k
    cdef Tile t = matrix_tile(sum.count, g.c, g.f, 1, g.f)
    t.accumulate = sum.begun
    for k in range(positions(g)):
        tiles(&t, g.c, g.f, sum.v + k * step_of(g.c), sum.d + k * step_of(g.f), <const float *> NULL,
              sum.s + k * g.c * g.f)
    if not g.transposed:
        column_sums(<const float *> sum.d + (g.m + 3) * step_of(g.f), bias, sum.count, g.f)
    sum.count, sum.begun = 0, True


cdef void finish(const Conv *g, Sum *sum, float *kernel) noexcept nogil:
    """Out of Winograd's domain, into the partial sum of the chunk."""
    cdef Py_ssize_t tap, size = g.c * g.f
    cdef float *taps[9]
    for tap in range(9):
        taps[tap] = kernel + tap * size
    winograd_out(TO_KERNEL, g.m, sum.s, size, <const float *> NULL, False, taps, size)
