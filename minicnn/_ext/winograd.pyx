# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Winograd's convolution F(m x m, r x r), stride 1: fewer multiplications, more additions.

Design: the result is cut into tiles of m x m pixels, each of which sees n x n pixels of the image (n = m + r - 1).  The
transforms (leaves/winograd.h) turn the convolution of a tile into n x n separate products, so that for a block of tiles
each of these positions is one matrix product, made by `tiles`:

    forward           M[k] (tiles, filters)    = V[k] (tiles, channels) U[k] (channels, filters)   for k < n n
    input gradient    the same with dy for x and the kernel turned by 180 degrees: the forward pass of another Conv
    kernel gradient   S[k] (channels, filters) += V[k]^T (channels, tiles) D[k] (tiles, filters)

V, M, D and S are the transformed pixels, results, gradients of results, and sum over a chunk of the batch; U is the
transformed kernel.  No image is padded: a tile is a table of pointers to its pixels, and those that lie outside of the
image point to zeros when they are read and to a spare place when they are written.  In the transformed domain the
channels are: their rows are a few elements longer (see `padded`), so that the products need no masks.

Long sums would spoil what the transforms leave of the digits, so they are made in parts that begin at 0: of so many
channels (see `chain`), and of a block of tiles (see `summed`).  Neither depends on how the work is shared out: the bits
depend on the shapes alone.
"""
from libc.string cimport memcmp, memcpy, memset

from minicnn._ext.conv cimport Conv, biases
from minicnn._ext.machinery.jobs cimport LINE, Cell, cell_of, item
from minicnn._ext.machinery.runtime cimport (APART, LINEAR, OF_GRADIENT, OF_IMAGE, OF_KERNEL, RELU, TO_IMAGE,
                                             TO_KERNEL, Tile, activate, chosen_leaves, column_sums, matrix_tile,
                                             tiles, use_leaves, winograd_in, winograd_out)

use_leaves(chosen_leaves())

cdef enum:
    BLOCK = 28           # tiles at a time: two tiles' height of AVX-512, and V and M stay in the cache
    LARGE = 1 << 20      # elements of U
    GAP = 16             # elements between positions, so that they do not fall on the same cache lines
    GROUP = 16           # channels of the kernel that are transformed at a time, or up to twice as many
    LEAST = 8            # channels and filters that there must be: the lanes of the widest vector without masks
    MOST_POSITIONS = 64  # n x n of the largest algorithm
    MOST_TAPS = 25       # r x r


# The algorithms that there are, and what the transforms of one tile cost for each 16 channels that go in and filters
# that come out: in multiply-adds of vectors of 16, measured with AVX-512 (with AVX2 everything takes twice as many).
cdef struct Choice:
    int algorithm, m, r
    double channels, filters

cdef Choice[3] CHOICES = [
    Choice(algorithm=F4, m=4, r=5, channels=600, filters=270),
    Choice(algorithm=F4, m=4, r=3, channels=300, filters=190),
    Choice(algorithm=F2, m=2, r=3, channels=140, filters=90),
]
# Measured: direct convolution keeps this share of the peak busy, the products of a tile that one.
cdef double DIRECT = 0.9, PRODUCTS = 0.85
cdef double WORTH = 0.85  # of direct convolution's time: what Winograd's may take at most, where that is estimated


cdef double tile_cost(const Conv *g, const Choice *by) noexcept nogil:
    """Of one tile, in multiply-adds of vectors of 16."""
    return (<double> (by.m + by.r - 1) ** 2 * g.c * padded(g.f) / 16 / PRODUCTS
            + by.channels * ((g.c + 15) // 16) + by.filters * ((g.f + 15) // 16))


cdef double work(const Conv *g) noexcept nogil:
    cdef int k = 0
    while CHOICES[k].m != g.m or CHOICES[k].r != g.kh:
        k += 1
    return g.n * tile_rows(g) * tile_columns(g) * tile_cost(g, &CHOICES[k]) / 2


cdef int tile_size(const Conv *g, Pass which, int algorithm) noexcept nogil:
    """The first of the fastest; by the shapes of one image alone, so that all machines choose the same."""
    cdef bint fits = g.kh == g.kw and g.sh == 1 and g.sw == 1 and g.dh == 1 and g.dw == 1 and g.groups == 1
    cdef Py_ssize_t h = g.h if which == BACKWARD_INPUT else g.oh, w = g.w if which == BACKWARD_INPUT else g.ow
    cdef double best, cost
    cdef int k, m = 0
    if algorithm == EXACT or not fits or g.c < LEAST or g.f < LEAST:
        return 0
    best = WORTH * g.oh * g.ow * g.kh * g.kw * (<double> g.c * padded(g.f) / 16) / DIRECT
    for k in range(3):
        if CHOICES[k].r != g.kh:
            continue
        if algorithm == CHOICES[k].algorithm:
            return CHOICES[k].m
        cost = <double> ((h + CHOICES[k].m - 1) // CHOICES[k].m) * ((w + CHOICES[k].m - 1) // CHOICES[k].m) * (
            tile_cost(g, &CHOICES[k]))
        if algorithm == AUTO and cost < best:
            best, m = cost, CHOICES[k].m
    return m


cdef inline Py_ssize_t seen(const Conv *g) noexcept nogil:
    """Rows and columns of pixels that a tile sees, n."""
    return g.m + g.kh - 1


cdef inline Py_ssize_t positions(const Conv *g) noexcept nogil:
    return seen(g) * seen(g)


cdef inline Py_ssize_t padded(Py_ssize_t channels) noexcept nogil:
    """Elements of a row of channels in the transformed domain: whole vectors of AVX2, half ones of AVX-512."""
    return (channels + LEAST - 1) // LEAST * LEAST


cdef inline Py_ssize_t kernel_step(const Conv *g) noexcept nogil:
    """Elements from one position of U, or of S, to the next."""
    return g.c * padded(g.f) + GAP


cdef inline Py_ssize_t domain_size(const Conv *g) noexcept nogil:
    """Elements of U, and of S."""
    return positions(g) * kernel_step(g)


# How long a sum may be, and how many tiles a block has in the kernel's gradient, where S passes by for every block.
# Measured are then errors of at most 1.6e-6 of the largest value for 3 x 3, and of 6.6e-6 for 5 x 5, whose transforms
# lose more.
cdef inline Py_ssize_t chain(const Conv *g) noexcept nogil:
    return 48 if g.kh == 3 else 32


cdef inline Py_ssize_t summed(const Conv *g) noexcept nogil:
    return 2 * BLOCK if g.kh == 3 else BLOCK


# Tiles at a time going forward: U, if it is larger than the caches, passes by for every block.
cdef inline Py_ssize_t block(const Conv *g) noexcept nogil:
    return 2 * BLOCK if domain_size(g) > LARGE else BLOCK


cdef inline Py_ssize_t step_of(Py_ssize_t count, Py_ssize_t channels) noexcept nogil:
    """Elements from one position of a block of `count` tiles to the next."""
    return count * padded(channels) + GAP


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
           tile % columns * g.m - g.left, seen(g), zeros)


cdef void result_tile(const Conv *g, Py_ssize_t tile, float **pixels, float *outside) noexcept nogil:
    """The pixels of y that a tile makes."""
    cdef Py_ssize_t columns = tile_columns(g), row = tile // columns, rows = tile_rows(g)
    window(pixels, <float *> item(g.arrays.y, row // rows), g.oh, g.ow, g.f, row % rows * g.m,
           tile % columns * g.m, g.m, outside)


# ---- forward ----

cdef Py_ssize_t forward_scratch(const Conv *g) noexcept nogil:
    return (max(g.c, g.f) + positions(g) * (step_of(block(g), g.c) + step_of(block(g), g.f))) * sizeof(float)


cdef bint by_rows(const Conv *g) noexcept nogil:
    """Whether the activation is taken of whole rows; a ReLU is a part of the transform."""
    return g.curve.kind != LINEAR and g.curve.kind != RELU


cdef Py_ssize_t forward_parts(const Conv *g) noexcept nogil:
    return tile_rows(g) if by_rows(g) else tile_rows(g) * tile_columns(g)


cdef void forward_tiles(const Conv *g, Py_ssize_t first, Py_ssize_t last, char *scratch) noexcept nogil:
    cdef Py_ssize_t low = first, count = last - first, b, row, rows, part = first
    cdef Py_ssize_t blocks
    cdef float *y
    if by_rows(g):
        low, count = first * tile_columns(g), count * tile_columns(g)
    blocks = (count + block(g) - 1) // block(g)
    for b in range(blocks):
        forward_block(g, low + count * b // blocks, low + count * (b + 1) // blocks, <float *> scratch)
    while part < last and by_rows(g):
        row = part % tile_rows(g)
        rows = min(tile_rows(g) - row, last - part)
        y = <float *> item(g.arrays.y, part // tile_rows(g)) + row * g.m * g.ow * g.f
        activate(&g.curve, y, y, min(rows * g.m, g.oh - row * g.m) * g.ow * g.f)
        part += rows


cdef void forward_block(const Conv *g, Py_ssize_t low, Py_ssize_t high, float *scratch) noexcept nogil:
    """Tiles `low` to `high` - 1, at most block(g)."""
    cdef Py_ssize_t t
    cdef float *outside = scratch
    cdef float *v = outside + max(g.c, g.f)
    cdef float *m = v + positions(g) * step_of(block(g), g.c)
    cdef float *pixels[MOST_POSITIONS]
    memset(outside, 0, g.c * sizeof(float))
    for t in range(high - low):
        image_tile(g, low + t, pixels, outside)
        winograd_in(OF_IMAGE, g.m, g.kh, pixels, v + t * padded(g.c), step_of(block(g), g.c), g.c)
    multiply(g, high - low, v, m)
    for t in range(high - low):
        result_tile(g, low + t, pixels, outside)
        winograd_out(TO_IMAGE, g.m, g.kh, m + t * padded(g.f), step_of(block(g), g.f),
                     <const float *> g.arrays.bias.data, g.curve.kind == RELU, pixels, g.f)


cdef void multiply(const Conv *g, Py_ssize_t count, const float *v, float *m) noexcept nogil:
    """M[k] = V[k] U[k] for every position k of `count` tiles."""
    cdef Py_ssize_t k, part, low, parts = (g.c + chain(g) - 1) // chain(g), row = padded(g.f)
    cdef Tile t = matrix_tile(g.c, 1, row, padded(g.c), row)
    for k in range(positions(g)):
        for part in range(parts):
            low = g.c * part // parts
            t.kb, t.accumulate = g.c * (part + 1) // parts - low, APART if part > 0 else 0
            tiles(&t, count, row, v + k * step_of(block(g), g.c) + low,
                  <const float *> g.arrays.derived.data + k * kernel_step(g) + low * row, <const float *> NULL,
                  m + k * step_of(block(g), g.f))


# ---- the kernel ----

cdef Py_ssize_t derived_size(const Conv *g) noexcept nogil:
    return (domain_size(g) + g.kh * g.kw * g.c * g.f) * sizeof(float)


cdef Py_ssize_t kernel_groups(const Conv *g) noexcept nogil:
    return max(<Py_ssize_t> 1, (g.f if g.turned else g.c) // GROUP)


cdef void transform_kernel(const Conv *g, Py_ssize_t first, Py_ssize_t last, char *_scratch) noexcept nogil:
    """`derived` holds the result (n n, c, padded f, with GAPs) and behind it the kernel that it was made from: groups
    of channels of the kernel that are still the same are left alone.  For the turned kernel c and f are those of the
    result.  Made from that copy, so that both agree even if another thread trains the model meanwhile."""
    cdef Py_ssize_t group, tap, filters = g.c if g.turned else g.f, channels = g.f if g.turned else g.c
    cdef Py_ssize_t low, high, size
    cdef const float *kernel = <const float *> g.arrays.kernel.data
    cdef bint changed
    for group in range(first, last):
        low, high = channels * group // kernel_groups(g), channels * (group + 1) // kernel_groups(g)
        size = (high - low) * filters * sizeof(float)
        changed = False
        for tap in range(g.kh * g.kw):
            changed |= memcmp(kernel_copy(g) + (tap * channels + low) * filters,
                              kernel + (tap * channels + low) * filters, size) != 0
        if not changed:
            continue
        for tap in range(g.kh * g.kw):
            memcpy(kernel_copy(g) + (tap * channels + low) * filters, kernel + (tap * channels + low) * filters, size)
        if g.turned:
            transform_turned(g, low, high)
        else:
            transform_straight(g, low, high)


cdef inline float *kernel_copy(const Conv *g) noexcept nogil:
    return <float *> g.arrays.derived.data + domain_size(g)


cdef void transform_straight(const Conv *g, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    """Channels `low` to `high` - 1."""
    cdef Py_ssize_t c, tap
    cdef float *taps[MOST_TAPS]
    for c in range(low, high):
        for tap in range(g.kh * g.kw):
            taps[tap] = kernel_copy(g) + (tap * g.c + c) * g.f
        winograd_in(OF_KERNEL, g.m, g.kh, taps, <float *> g.arrays.derived.data + c * padded(g.f), kernel_step(g),
                    g.f)


cdef void transform_turned(const Conv *g, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    """Channels of the kernel, which are the results here: its filters are the channels."""
    cdef Py_ssize_t c, o, tap, last = g.kh * g.kw - 1
    cdef float[MOST_TAPS][2 * GROUP] values
    cdef float *taps[MOST_TAPS]
    for tap in range(last + 1):
        taps[tap] = values[last - tap]
    for o in range(g.c):
        for tap in range(last + 1):
            for c in range(high - low):
                values[tap][c] = kernel_copy(g)[(tap * g.f + low + c) * g.c + o]
        winograd_in(OF_KERNEL, g.m, g.kh, taps, <float *> g.arrays.derived.data + o * padded(g.f) + low,
                    kernel_step(g), high - low)


# ---- gradient of the parameters ----

cdef struct Sum:
    Py_ssize_t count  # tiles that wait to be multiplied
    bint begun        # s holds a sum
    float *s          # (n n, c, padded f) with GAPs
    float *v          # (n n, summed, padded c) with GAPs
    float *d          # (n n, summed, padded f) with GAPs
    float *zeros


cdef Py_ssize_t gradient_scratch(const Conv *g) noexcept nogil:
    cdef Py_ssize_t block = positions(g) * (step_of(summed(g), g.c) + step_of(summed(g), g.f))
    return sizeof(Sum) + LINE + (domain_size(g) + block + max(g.c, g.f)) * sizeof(float)


cdef void parameter_gradient_images(const Conv *g, Py_ssize_t first, Py_ssize_t last, char *scratch) noexcept nogil:
    """The scratch memory holds the sum of a chunk and the tiles that do not fill a block yet, from call to call."""
    cdef Py_ssize_t i, tile, count = tile_rows(g) * tile_columns(g), kernel = g.kh * g.kw * g.c * g.f
    cdef Sum *sum = <Sum *> scratch
    cdef Cell chunk
    cdef float *partial
    for i in range(first, last):
        chunk = cell_of(i, g.chunks, g.n)
        partial = <float *> g.arrays.derived.data + chunk.number * (kernel + biases(g))
        if i == chunk.first:
            begin(g, sum)
            memset(partial, 0, (kernel + biases(g)) * sizeof(float))
        if g.transposed:
            column_sums(<const float *> item(g.arrays.x, i), partial + kernel, g.h * g.w, g.c)
        else:
            column_sums(<const float *> item(g.arrays.y, i), partial + kernel, g.oh * g.ow, g.f)
        for tile in range(i * count, (i + 1) * count):
            add_tile(g, tile, sum)
        if i + 1 == chunk.end:
            if sum.count > 0:
                add_block(g, sum)
            finish(g, sum, partial)


cdef void begin(const Conv *g, Sum *sum) noexcept nogil:
    sum.count, sum.begun = 0, False
    sum.s = <float *> (<char *> sum + LINE)
    sum.v = sum.s + domain_size(g)
    sum.d = sum.v + positions(g) * step_of(summed(g), g.c)
    sum.zeros = sum.d + positions(g) * step_of(summed(g), g.f)
    memset(sum.zeros, 0, max(g.c, g.f) * sizeof(float))
    if padded(g.f) > g.f:  # no transform writes there, and what is left of others there might be slow numbers
        memset(sum.d, 0, positions(g) * step_of(summed(g), g.f) * sizeof(float))


cdef void add_tile(const Conv *g, Py_ssize_t tile, Sum *sum) noexcept nogil:
    cdef float *pixels[MOST_POSITIONS]
    image_tile(g, tile, pixels, sum.zeros)
    winograd_in(OF_IMAGE, g.m, g.kh, pixels, sum.v + sum.count * padded(g.c), step_of(summed(g), g.c), g.c)
    result_tile(g, tile, pixels, sum.zeros)
    winograd_in(OF_GRADIENT, g.m, g.kh, pixels, sum.d + sum.count * padded(g.f), step_of(summed(g), g.f), g.f)
    sum.count += 1
    if sum.count == summed(g):
        add_block(g, sum)


cdef void add_block(const Conv *g, Sum *sum) noexcept nogil:
    """S[k] += V[k]^T D[k]."""
    cdef Py_ssize_t k, row = padded(g.f)
    cdef Tile t = matrix_tile(sum.count, padded(g.c), row, 1, row)
    t.accumulate = APART if sum.begun else 0
    for k in range(positions(g)):
        tiles(&t, g.c, row, sum.v + k * step_of(summed(g), g.c), sum.d + k * step_of(summed(g), g.f),
              <const float *> NULL, sum.s + k * kernel_step(g))
    sum.count, sum.begun = 0, True


cdef void finish(const Conv *g, Sum *sum, float *kernel) noexcept nogil:
    """Out of Winograd's domain, into the partial sum of the chunk."""
    cdef Py_ssize_t tap, c
    cdef float *taps[MOST_TAPS]
    for c in range(g.c):
        for tap in range(g.kh * g.kw):
            taps[tap] = kernel + (tap * g.c + c) * g.f
        winograd_out(TO_KERNEL, g.m, g.kh, sum.s + c * padded(g.f), kernel_step(g), <const float *> NULL, False, taps,
                     g.f)
