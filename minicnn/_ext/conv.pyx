# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of Conv2D: forward, gradient of the input, gradient of the parameters.

Design: all three are the tile (leaves.h) with other strides; none copies patches.  With NHWC images and HWIO kernels
the (kernel column, channel) pairs under one kernel row are contiguous in the image and in the kernel, so that one
`Tile` walks them as a single axis.  Dilated or grouped kernels break that axis up: there the tile is called for each
kernel row and group.  Depthwise kernels have nothing to sum over channels and work on vectors of channels instead.

    forward            M = output pixels of a row   N = filters    sum over kernel rows, (kernel column, channel)
    input gradient     M = output pixels of a row   N = channels   sum over kernel rows, filters; one kernel column
                                                                   after the other adds to its shifted place in dx
    kernel gradient    M = (kernel column, channel) N = filters    sum over output rows, output columns

Jobs: the first two go image by image, and a part of an image is one row of the result.  The gradient of the parameters
is summed chunk by chunk of the batch, and the chunks are added in order: the bits depend on the shapes alone.
"""
from libc.string cimport memcmp, memcpy, memset

from minicnn._ext cimport winograd
from minicnn._ext.machinery.jobs cimport (AFTER, BEFORE, CHUNKS, IMAGES, Array, Job, Kernel, Place, borrow, chunk_of,
                                          chunk_start, chunks_for, fixed, give_back, item, new_job, rows_at, submit)
from minicnn._ext.reshape cimport pad_image
from minicnn._ext.machinery.runtime cimport (LINEAR, Tile, activate, add_to, chosen_leaves, column_sums, curve_of,
                                             matrix_tile, multiply_add, overlap_add, real, require, tiles, use_leaves)
from minicnn._ext.winograd cimport AUTO, BACKWARD_INPUT, BACKWARD_PARAMS, EXACT, F2, F4, FORWARD

use_leaves(chosen_leaves())

cdef enum:
    SLICE = 2048  # elements of the parameters' gradient that a thread adds up at a time


cdef enum:
    LARGEST = 1 << 30  # of any length: no product of two overflows

cdef double MOST_PADDED = 2.0 ** 58  # elements

PASSES = {"forward": FORWARD, "backward_input": BACKWARD_INPUT, "backward_params": BACKWARD_PARAMS}


cdef int describe(Conv *g, const Py_ssize_t *x_shape, const Py_ssize_t *kernel_shape, const Py_ssize_t *y_shape,
                  geometry) except -1:
    memset(g, 0, sizeof(Conv))
    g.n, g.h, g.w, g.c = x_shape[0], x_shape[1], x_shape[2], x_shape[3]
    g.kh, g.kw, g.cg, g.f = kernel_shape[0], kernel_shape[1], kernel_shape[2], kernel_shape[3]
    g.oh, g.ow = y_shape[1], y_shape[2]
    g.sh, g.sw, g.top, g.left, g.dh, g.dw, g.groups = geometry
    require(0 < g.h <= LARGEST and 0 < g.w <= LARGEST and 0 < g.oh <= LARGEST and 0 < g.ow <= LARGEST and g.c > 0
            and g.f > 0, "images must have 1 to 2^30 rows and columns, and a channel")
    require(0 < g.kh <= LARGEST and 0 < g.kw <= LARGEST and 0 < g.sh <= LARGEST and 0 < g.sw <= LARGEST
            and 0 < g.dh <= LARGEST and 0 < g.dw <= LARGEST and g.groups > 0,
            "kernels, strides, dilations and groups must be 1 to 2^30")
    require(0 <= g.top <= LARGEST and 0 <= g.left <= LARGEST, "paddings must be 0 to 2^30")
    g.fg = g.f // g.groups
    g.ph = (g.oh - 1) * g.sh + (g.kh - 1) * g.dh + 1
    g.pw = (g.ow - 1) * g.sw + (g.kw - 1) * g.dw + 1
    g.padded = g.top > 0 or g.left > 0 or g.ph > g.h or g.pw > g.w
    require(not g.padded or <double> g.ph * g.pw * g.c < MOST_PADDED, "the padded image must have a size that exists")
    g.row = (g.pw if g.padded else g.w) * g.c
    g.depthwise = g.cg == 1 and g.fg == 1
    require(y_shape[0] == g.n and y_shape[3] == g.f, "y must have the images of x and the filters of the kernel")
    require(g.cg * g.groups == g.c and g.fg * g.groups == g.f, "channels and filters must fit the groups")
    return 0


ALGORITHMS = {"exact": EXACT, "auto": AUTO, "F2": F2, "F4": F4}


def algorithm_of(pass_, x_shape, kernel_shape, y_shape, geometry, int algorithm):
    """"direct", "F2" or "F4": what `algorithm` (see forward) means for these shapes in float32.

    pass_ is "forward", "backward_input" or "backward_params".
    """
    cdef Conv g
    cdef Py_ssize_t[4] x = x_shape
    cdef Py_ssize_t[4] kernel = kernel_shape
    cdef Py_ssize_t[4] y = y_shape
    describe(&g, x, kernel, y, geometry)
    return {0: "direct", 2: "F2", 4: "F4"}[winograd.tile_size(&g, PASSES[pass_], algorithm)]


cdef void bind(Conv *g, const real *x, const real *kernel, const real *bias, const real *y) noexcept nogil:
    g.arrays.x, g.arrays.y = rows_at(x, g.h * g.w * g.c), rows_at(y, g.oh * g.ow * g.f)
    g.arrays.kernel, g.arrays.bias = fixed(kernel), fixed(bias)


cdef Job a_job(const Conv *g, Kernel kernel, Place place, Py_ssize_t items) noexcept nogil:
    """The work is that of a pass over the batch (see `team`)."""
    return new_job(kernel, place, sizeof(g.arrays), items,
                   (<double> g.n) * g.oh * g.ow * g.f * g.kh * g.kw * g.cg / 32 + g.n * g.oh * g.ow)


cdef const real *image(const Conv *g, Py_ssize_t i, Py_ssize_t row, Py_ssize_t rows, real *pad) noexcept nogil:
    """Rows of image i as the kernel passes over them, zeros included; in `pad` where there are zeros."""
    cdef const real *x = <const real *> item(g.arrays.x, i)
    if not g.padded:
        return x + row * g.row
    pad_image(x, g.h, g.w * g.c, pad, rows, g.row, g.top - row, g.left * g.c)
    return pad


# ---- forward ----

cdef void forward_rows(const Conv *g, Py_ssize_t first, Py_ssize_t last, real *pad) noexcept nogil:
    """Output rows, counted through all images."""
    cdef Py_ssize_t row, rows, part = first
    cdef const real *x
    cdef real *y
    while part < last:
        row = part % g.oh
        rows = min(g.oh - row, last - part)
        x = image(g, part // g.oh, row * g.sh, (rows - 1) * g.sh + (g.kh - 1) * g.dh + 1, pad)
        y = <real *> item(g.arrays.y, part // g.oh) + row * g.ow * g.f
        if g.depthwise:
            forward_depthwise(g, rows, x, y)
        else:
            forward_tiles(g, rows, x, y)
        if g.curve.kind != LINEAR:
            activate(&g.curve, y, y, rows * g.ow * g.f)
        part += rows


cdef void forward_tiles(const Conv *g, Py_ssize_t rows, const real *x, real *y) noexcept nogil:
    cdef Py_ssize_t a, group
    cdef const real *kernel = <const real *> g.arrays.kernel.data
    cdef const real *bias = <const real *> g.arrays.bias.data
    cdef Tile t
    t.rows, t.a_row, t.c_row = rows, g.sh * g.row, g.ow * g.f
    t.a_i, t.c_i = g.sw * g.c, g.f
    t.a_k, t.b_k = 1, g.f
    if g.groups == 1 and g.dw == 1:
        t.ka, t.a_a, t.b_a = g.kh, g.dh * g.row, g.kw * g.c * g.f
        t.kb, t.accumulate = g.kw * g.c, False
        tiles(&t, g.ow, g.f, x, kernel, bias, y)
        return
    t.ka, t.a_a, t.b_a = g.kw, g.dw * g.c, g.cg * g.f
    t.kb = g.cg
    for group in range(g.groups):
        for a in range(g.kh):
            t.accumulate = a > 0
            tiles(&t, g.ow, g.fg, x + a * g.dh * g.row + group * g.cg, kernel + a * g.kw * g.cg * g.f + group * g.fg,
                  bias + group * g.fg if bias is not NULL and a == 0 else <const real *> NULL, y + group * g.fg)


cdef void forward_depthwise(const Conv *g, Py_ssize_t rows, const real *x, real *y) noexcept nogil:
    """One filter per channel: y[r, q] = bias + sum over taps of x[tap] * kernel[tap], vectors over the channels."""
    cdef Py_ssize_t r, q, a, b
    for r in range(rows):
        for q in range(g.ow):
            if g.arrays.bias.data is not NULL:
                memcpy(y, g.arrays.bias.data, g.f * sizeof(real))
            else:
                memset(y, 0, g.f * sizeof(real))
            for a in range(g.kh):
                for b in range(g.kw):
                    multiply_add(x + (r * g.sh + a * g.dh) * g.row + (q * g.sw + b * g.dw) * g.c,
                                 <const real *> g.arrays.kernel.data + (a * g.kw + b) * g.f, y, g.f)
            y += g.f


def forward(const real[:, :, :, ::1] x not None, const real[:, :, :, ::1] kernel not None, const real[::1] bias,
            real[:, :, :, ::1] y not None, geometry, activation=None, int algorithm=EXACT):
    """y = activation(convolution of x with kernel + bias).

    x (N, H, W, C), kernel (KH, KW, C / groups, F), bias (F,) or None, y (N, OH, OW, F); geometry is (stride height,
    width, rows of zeros above, columns of zeros to the left, dilation height, width, groups); ``activation``: ``curve_of``.

    algorithm: 0 for direct convolution, 1 for Winograd's where it is faster, 2 and 3 for its tiles of 2 x 2 and 4 x 4
    wherever they can be used: float32, kernels of 3 x 3, stride, dilation and groups 1, channels and filters multiples
    of 16.  A NaN or inf then reaches all pixels of a tile.
    """
    cdef Conv g
    describe(&g, x.shape, kernel.shape, y.shape, geometry)
    require(bias is None or bias.shape[0] == g.f, "bias must have one value for each filter")
    bind(&g, &x[0, 0, 0, 0], &kernel[0, 0, 0, 0], &bias[0] if bias is not None else <const real *> NULL,
         &y[0, 0, 0, 0])
    g.curve = curve_of(activation)
    if real is float:
        g.m = winograd.tile_size(&g, FORWARD, algorithm)
    if g.m > 0:
        forward_by_tiles(&g)
        return
    cdef Job job = a_job(&g, <Kernel> forward_rows[real], IMAGES, g.n)
    job.parts, job.scratch = g.oh, g.ph * g.row * sizeof(real) if g.padded else 0
    submit(&job, &g, sizeof(g))


cdef int forward_by_tiles(Conv *g) except -1:
    """Winograd's algorithm, for the input's gradient too."""
    cdef char *memory = borrow(winograd.derived_size(g), True)
    cdef Job job
    try:
        g.arrays.derived = fixed(memory)
        prepare(g, <Kernel> winograd.transform_kernel, (g.f if g.turned else g.c) // winograd.GROUP)
        job = a_job(g, <Kernel> winograd.forward_tile_rows, IMAGES, g.n)
        job.parts, job.scratch = winograd.tile_rows(g), winograd.forward_scratch(g)
        submit(&job, g, sizeof(Conv))
    finally:
        give_back(memory)
    return 0


# ---- gradient of the input ----

cdef void input_gradient_rows(const Conv *g, Py_ssize_t first, Py_ssize_t last, real *pad) noexcept nogil:
    """Rows of dx, counted through all images.

        dx[r, q sw + b dw] += sum over kernel rows a and filters of dy[(r - a dh) / sh, q] * kernel[a, b]

    The sum over kernel rows is gathered in registers, the kernel columns b are scattered one after the other: no
    zeros are multiplied and dy needs no padding.  `pad`: a row of the padded image, and behind it the products of
    input_gradient_columns.
    """
    cdef Py_ssize_t part, r, size = g.w * g.c, width = max(<Py_ssize_t> 0, min(size, g.row - g.left * g.c))
    cdef real *dx
    cdef real *target
    for part in range(first, last):
        dx = <real *> item(g.arrays.x, part // g.h) + part % g.h * size
        target = pad if g.padded else dx
        r = part % g.h + g.top
        memset(target, 0, g.row * sizeof(real))
        if r < g.ph:
            input_gradient_row(g, r, <const real *> item(g.arrays.y, part // g.h), target, pad + g.row)
        if g.padded:  # the window may reach less far than the image does
            memcpy(dx, pad + g.left * g.c, width * sizeof(real))
            memset(dx + width, 0, (size - width) * sizeof(real))


cdef void input_gradient_row(const Conv *g, Py_ssize_t r, const real *dy, real *dx, real *products) noexcept nogil:
    """Row r of one padded image's gradient."""
    cdef Py_ssize_t a, first = -1, step = 0, q = 0, count = 0
    for a in range(g.kh):  # the kernel rows under which r lies, at equal distances
        if r >= a * g.dh and (r - a * g.dh) % g.sh == 0 and (r - a * g.dh) // g.sh < g.oh:
            if first < 0:
                first, q = a, (r - a * g.dh) // g.sh
            elif step == 0:
                step = a - first
            count += 1
    if first < 0:
        return
    if g.depthwise:
        input_gradient_depthwise(g, first, step, count, dy + q * g.ow * g.f, dx)
    elif columns_together(g):
        input_gradient_columns(g, first, step, count, dy + q * g.ow * g.f, dx, products)
    else:
        input_gradient_tiles(g, first, step, count, dy + q * g.ow * g.f, dx)


cdef void input_gradient_tiles(const Conv *g, Py_ssize_t first, Py_ssize_t step, Py_ssize_t count, const real *dy,
                               real *dx) noexcept nogil:
    """`count` kernel rows from `first` on; dy: the row that lies under the first of them."""
    cdef Py_ssize_t b, group, taps = g.kw * g.groups * g.fg * g.cg
    cdef const real *kernel = <const real *> g.arrays.derived.data + first * taps
    cdef Tile t = matrix_tile(g.fg, 1, g.cg, g.f, g.sw * g.c)
    t.ka, t.a_a, t.b_a = count, -(step * g.dh // g.sh) * g.ow * g.f, step * taps
    t.accumulate = True
    for b in range(g.kw):
        for group in range(g.groups):
            tiles(&t, g.ow, g.cg, dy + group * g.fg, kernel + (b * g.groups + group) * g.fg * g.cg,
                  <const real *> NULL, dx + b * g.dw * g.c + group * g.cg)


cdef bint columns_together(const Conv *g) noexcept nogil:
    """Few channels fill no vector; the channels of all kernel columns, which lie side by side in dx, do."""
    return g.groups == 1 and g.dw == 1 and g.c < 16 and not g.depthwise


cdef void input_gradient_columns(const Conv *g, Py_ssize_t first, Py_ssize_t step, Py_ssize_t count, const real *dy,
                                 real *dx, real *products) noexcept nogil:
    """The same as input_gradient_tiles: the products of all kernel columns at once, then one pixel of dy after the
    other adds its run of (kernel column, channel) to dx."""
    cdef Py_ssize_t run = g.kw * g.c
    cdef Tile t = matrix_tile(g.f, 1, run, g.f, run)
    t.ka, t.a_a, t.b_a = count, -(step * g.dh // g.sh) * g.ow * g.f, step * g.f * run
    tiles(&t, g.ow, run, dy, <const real *> g.arrays.derived.data + first * g.f * run, <const real *> NULL, products)
    overlap_add(products, dx, g.ow, g.sw * g.c, run)


cdef void input_gradient_depthwise(const Conv *g, Py_ssize_t first, Py_ssize_t step, Py_ssize_t count,
                                   const real *dy, real *dx) noexcept nogil:
    cdef Py_ssize_t k, q, b
    for k in range(count):
        for q in range(g.ow):
            for b in range(g.kw):
                multiply_add(dy + (q - k * (step * g.dh // g.sh) * g.ow) * g.f,
                             <const real *> g.arrays.kernel.data + ((first + k * step) * g.kw + b) * g.f,
                             dx + (q * g.sw + b * g.dw) * g.c, g.f)


cdef void transpose_taps(const Conv *g, Py_ssize_t first, Py_ssize_t last, real *_scratch) noexcept nogil:
    """(kh, kw, cg, f) to (kh, kw, groups, fg, cg), so that the channels are the contiguous axis, or with all columns
    together to (kh, f, kw, c); items are taps.

    `derived` holds the result and behind it the kernel that it was made from: nothing is done for a tap that is still
    the same.  Made from that copy, so that both agree even if another thread trains the model meanwhile.
    """
    cdef Py_ssize_t tap, group, o, c, size = g.cg * g.f, run = g.cg
    cdef const real *kernel
    cdef real *transposed
    cdef real *source
    for tap in range(first, last):
        kernel = <const real *> g.arrays.kernel.data + tap * size
        transposed = <real *> g.arrays.derived.data + tap * size
        source = transposed + g.kh * g.kw * size
        if memcmp(source, kernel, size * sizeof(real)) == 0:
            continue
        memcpy(source, kernel, size * sizeof(real))
        if columns_together(g):
            run = g.kw * g.c
            transposed = <real *> g.arrays.derived.data + tap // g.kw * g.f * run + tap % g.kw * g.c
        for group in range(g.groups):
            for o in range(g.fg):
                for c in range(g.cg):
                    transposed[c] = source[c * g.f + group * g.fg + o]
                transposed += run


def backward_input(const real[:, :, :, ::1] dy not None, const real[:, :, :, ::1] kernel not None,
                   real[:, :, :, ::1] dx not None, geometry, int algorithm=EXACT):
    """dx (N, H, W, C) for dy (N, OH, OW, F), the gradient before the activation; the rest as in forward."""
    cdef Conv g
    cdef Job job
    cdef char *memory
    describe(&g, dx.shape, kernel.shape, dy.shape, geometry)
    bind(&g, &dx[0, 0, 0, 0], &kernel[0, 0, 0, 0], <const real *> NULL, &dy[0, 0, 0, 0])
    if real is float:
        g.m = winograd.tile_size(&g, BACKWARD_INPUT, algorithm)
    if g.m > 0:
        turn(&g)
        forward_by_tiles(&g)
        return
    memory = borrow(2 * kernel.size * sizeof(real), True)
    try:
        g.arrays.derived = fixed(memory)
        if not g.depthwise:
            prepare(&g, <Kernel> transpose_taps[real], g.kh * g.kw)
        job = a_job(&g, <Kernel> input_gradient_rows[real], IMAGES, g.n)
        job.parts = g.h
        job.scratch = (g.row + (g.ow * g.kw * g.c if columns_together(&g) else 0)) * sizeof(real)
        submit(&job, &g, sizeof(g))
    finally:
        give_back(memory)


cdef void turn(Conv *g) noexcept nogil:
    """The input's gradient as the forward pass of another convolution: of dy, with the kernel turned by 180 degrees."""
    cdef Array x = g.arrays.x
    cdef Py_ssize_t h = g.h, w = g.w, c = g.c
    g.arrays.x, g.h, g.w, g.c = g.arrays.y, g.oh, g.ow, g.f
    g.arrays.y, g.oh, g.ow, g.f = x, h, w, c
    g.top, g.left, g.turned = 2 - g.top, 2 - g.left, True


cdef int prepare(const Conv *g, Kernel kernel, Py_ssize_t items) except -1:
    """What is derived from the kernel alone."""
    cdef Conv alone = g[0]
    cdef Job job = a_job(g, kernel, BEFORE, items)
    alone.arrays.x, alone.arrays.y = fixed(NULL), fixed(NULL)
    job.work = <double> g.kh * g.kw * g.cg * g.f
    return submit(&job, &alone, sizeof(alone))


# ---- gradient of the parameters ----

cdef void parameter_gradient_images(const Conv *g, Py_ssize_t first, Py_ssize_t last, real *pad) noexcept nogil:
    """Kernel and bias gradients summed over a chunk of images, into its place in `derived`: (chunks, kernel + f)."""
    cdef Py_ssize_t i, chunk, size = g.kh * g.kw * g.cg * g.f
    cdef const real *x
    cdef const real *dy
    cdef real *partial
    for i in range(first, last):
        chunk = chunk_of(i, g.chunks, g.n)
        partial = <real *> g.arrays.derived.data + chunk * (size + g.f)
        if i == chunk_start(chunk, g.chunks, g.n):
            memset(partial, 0, (size + g.f) * sizeof(real))
        x = image(g, i, 0, g.ph, pad)
        dy = <const real *> item(g.arrays.y, i)
        column_sums(dy, partial + size, g.oh * g.ow, g.f)
        if g.depthwise:
            kernel_gradient_depthwise(g, x, dy, partial)
        else:
            kernel_gradient_tiles(g, x, dy, partial)


cdef void kernel_gradient_tiles(const Conv *g, const real *x, const real *dy, real *kernel) noexcept nogil:
    cdef Py_ssize_t a, group
    cdef Tile t
    t.ka, t.a_a, t.b_a = g.oh, g.sh * g.row, g.ow * g.f
    t.kb, t.a_k, t.b_k = g.ow, g.sw * g.c, g.f
    t.a_i, t.c_i, t.accumulate = 1, g.f, True
    if g.groups == 1 and g.dw == 1:
        t.rows, t.a_row, t.c_row = g.kh, g.dh * g.row, g.kw * g.c * g.f
        tiles(&t, g.kw * g.c, g.f, x, dy, <const real *> NULL, kernel)
        return
    t.rows, t.a_row, t.c_row = g.kw, g.dw * g.c, g.cg * g.f
    for group in range(g.groups):
        for a in range(g.kh):
            tiles(&t, g.cg, g.fg, x + a * g.dh * g.row + group * g.cg, dy + group * g.fg, <const real *> NULL,
                  kernel + a * g.kw * g.cg * g.f + group * g.fg)


cdef void kernel_gradient_depthwise(const Conv *g, const real *x, const real *dy, real *kernel) noexcept nogil:
    cdef Py_ssize_t r, q, a, b
    for r in range(g.oh):
        for q in range(g.ow):
            for a in range(g.kh):
                for b in range(g.kw):
                    multiply_add(x + (r * g.sh + a * g.dh) * g.row + (q * g.sw + b * g.dw) * g.c, dy,
                                 kernel + (a * g.kw + b) * g.f, g.f)
            dy += g.f


cdef void add_chunks(const Conv *g, Py_ssize_t first, Py_ssize_t last, real *_scratch) noexcept nogil:
    """The gradients of kernel and bias, which follow each other in a partial sum; items are slices of them."""
    cdef Py_ssize_t size = g.kh * g.kw * g.cg * g.f, low = first * SLICE, high = min(size + g.f, last * SLICE)
    if low < size:
        add_range(g, low, min(high, size), <real *> g.arrays.kernel.data + low)
    if high > size and g.arrays.bias.data is not NULL:
        low = max(low, size)
        add_range(g, low, high, <real *> g.arrays.bias.data + low - size)


cdef void add_range(const Conv *g, Py_ssize_t low, Py_ssize_t high, real *result) noexcept nogil:
    cdef Py_ssize_t chunk, size = g.kh * g.kw * g.cg * g.f + g.f
    memset(result, 0, (high - low) * sizeof(real))
    for chunk in range(g.chunks):
        if chunk_start(chunk, g.chunks, g.n) < chunk_start(chunk + 1, g.chunks, g.n):
            add_to(<const real *> g.arrays.derived.data + chunk * size + low, result, high - low)


def backward_params(const real[:, :, :, ::1] x not None, const real[:, :, :, ::1] dy not None,
                    real[:, :, :, ::1] dkernel not None, real[::1] dbias, geometry, int algorithm=EXACT):
    """Overwrites dkernel (KH, KW, C / groups, F) and dbias ((F,) or None); dy: the gradient before the activation."""
    cdef Conv g
    cdef Job job
    cdef Py_ssize_t size
    cdef char *memory
    describe(&g, x.shape, dkernel.shape, dy.shape, geometry)
    require(dbias is None or dbias.shape[0] == g.f, "dbias must have one value for each filter")
    bind(&g, &x[0, 0, 0, 0], &dkernel[0, 0, 0, 0], &dbias[0] if dbias is not None else <real *> NULL,
         &dy[0, 0, 0, 0])
    if real is float:
        g.m = winograd.tile_size(&g, BACKWARD_PARAMS, algorithm)
    size = dkernel.size + g.f
    g.chunks = chunks_for(size * sizeof(real))
    memory = borrow(g.chunks * size * sizeof(real), False)
    try:
        g.arrays.derived = fixed(memory)
        job = a_job(&g, <Kernel> parameter_gradient_images[real], CHUNKS, g.n)
        job.chunks, job.scratch = g.chunks, g.ph * g.row * sizeof(real) if g.padded else 0
        if g.m > 0:
            job.kernel, job.scratch = <Kernel> winograd.parameter_gradient_images, winograd.gradient_scratch(&g)
        submit(&job, &g, sizeof(g))
        add_up(&g, <Kernel> add_chunks[real])
    finally:
        give_back(memory)


cdef int add_up(const Conv *g, Kernel kernel) except -1:
    """The partial sums of all chunks."""
    cdef Py_ssize_t size = g.kh * g.kw * g.cg * g.f + g.f
    cdef Conv alone = g[0]
    cdef Job job = a_job(g, kernel, AFTER, (size + SLICE - 1) // SLICE)
    alone.arrays.x, alone.arrays.y = fixed(NULL), fixed(NULL)
    job.work = <double> g.chunks * size / 4
    return submit(&job, &alone, sizeof(alone))
