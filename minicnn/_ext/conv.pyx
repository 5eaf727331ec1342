# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels of Conv2D: forward, gradient of the input, gradient of the parameters.  Conv2DTranspose is the same three in
other roles: its forward pass is the input gradient, which can add a bias and an activation.

Design: all three are the tile (leaves.h) with other strides; none copies patches.  With NHWC images and HWIO kernels
the (kernel column, channel) pairs under one kernel row are contiguous in the image and in the kernel, so that one
`Tile` walks them as a single axis.  Dilated or grouped kernels break that axis up: there the tile is called for each
kernel row and group.  Depthwise kernels have nothing to sum over channels: see their own section below.

    forward            M = output pixels of a row   N = filters    sum over kernel rows, (kernel column, channel)
    input gradient     M = output pixels of a row   N = channels   sum over kernel rows, filters; one kernel column
                                                                   after the other adds to its shifted place in dx
    kernel gradient    M = (kernel column, channel) N = filters    sum over output rows, output columns

Jobs: the first two go image by image, and a part of an image is one row of the result.  The gradient of the parameters
is summed chunk by chunk of the batch, and the chunks are added in the tree of jobs.pxd: the bits depend on the shapes
alone.
"""
from libc.string cimport memcmp, memcpy, memset

from minicnn._ext cimport winograd
from minicnn._ext.machinery.jobs cimport (AFTER, BEFORE, CHUNKS, IMAGES, Array, Cell, Job, Kernel, Place, add_tree,
                                          borrow, cell_of, chunks_for, fixed, give_back, item, new_job, rows_at,
                                          spare_for, submit)
from minicnn._ext.reshape cimport pad_image
from minicnn._ext.machinery.runtime cimport (LINEAR, Depthwise, Tile, activate, chosen_leaves, column_sums, curve_of,
                                             depthwise, depthwise_gradient, is_double, matrix_tile, overlap_add, real,
                                             require, tiles, use_leaves)
from minicnn._ext.winograd cimport AUTO, BACKWARD_INPUT, BACKWARD_PARAMS, EXACT, F2, F4, FORWARD

use_leaves(chosen_leaves())

cdef enum:
    SLICE = 2048         # elements of the parameters' gradient that a thread adds up at a time
    PIXELS = 96          # of dy that the kernel's gradient takes at a time, where an image is larger than
    NEAR = 8192          # elements, a first-level cache, and a tile reads more than a line of each array for a pixel
    TERMS = 384          # of a sum at a time, forward: two vectors for each stay in a first-level cache for all rows
    SHORT = 14           # rows of fewer pixels leave tiles half empty
    MOST_MULTIPLES = 16  # filters of a channel that count as depthwise: with more, tiles fill their vectors


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
    g.depthwise = g.cg == 1 and (g.fg == 1 or (g.groups > 1 and g.fg <= MOST_MULTIPLES))
    require(y_shape[0] == g.n and y_shape[3] == g.f, "y must have the images of x and the filters of the kernel")
    require(g.cg * g.groups == g.c and g.fg * g.groups == g.f, "channels and filters must fit the groups")
    require(not g.depthwise or <double> g.h * g.w * g.f < MOST_PADDED, "the image must have a size that exists")
    return 0


# EXACT is 0, the default of the entries: their signatures can name only what Python can see.
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
    return new_job(kernel, place, sizeof(g.arrays), items, g.n * g.oh * g.ow + (
        winograd.work(g) if g.m > 0 else (<double> g.n) * g.oh * g.ow * g.f * g.kh * g.kw * g.cg / 32))


cdef const real *image(const Conv *g, Py_ssize_t i, Py_ssize_t row, Py_ssize_t rows, real *pad) noexcept nogil:
    """Rows of image i as the kernel passes over them, zeros included; in `pad` where there are zeros."""
    cdef const real *x = <const real *> item(g.arrays.x, i)
    if not g.padded:
        return x + row * g.row
    pad_image(x, g.h, g.w * g.c, pad, rows, g.row, g.top - row, g.left * g.c)
    return pad


cdef inline bint pointwise(const Conv *g) noexcept nogil:
    """1 x 1, one pixel for each: a product of matrices, to which the rows of an image are one long row."""
    return (g.kh == 1 and g.kw == 1 and g.sh == 1 and g.sw == 1 and g.groups == 1 and not g.padded
            and g.oh == g.h and g.ow == g.w)


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
        forward_tiles(g, rows, x, y)
        if g.curve.kind != LINEAR:
            activate(&g.curve, y, y, rows * g.ow * g.f)
        part += rows


cdef void forward_tiles(const Conv *g, Py_ssize_t rows, const real *x, real *y) noexcept nogil:
    cdef Py_ssize_t a, group, step
    cdef const real *kernel = <const real *> g.arrays.kernel.data
    cdef const real *bias = <const real *> g.arrays.bias.data
    cdef Tile t
    t.rows, t.a_row, t.c_row = rows, g.sh * g.row, g.ow * g.f
    t.a_i, t.c_i = g.sw * g.c, g.f
    t.a_k, t.b_k = 1, g.f
    if g.groups == 1 and g.dw == 1:
        t.a_a, t.b_a = g.dh * g.row, g.kw * g.c * g.f
        t.kb = g.kw * g.c
        if g.ow < SHORT and pointwise(g):  # a row would not fill the tiles
            t.rows = 1
        step = max(<Py_ssize_t> 1, TERMS // t.kb)
        for group in range((g.kh + step - 1) // step):  # some rows of the kernel at a time, every sum one chain
            a = group * step
            t.ka, t.accumulate = min(step, g.kh - a), a > 0
            tiles(&t, rows * g.ow // t.rows, g.f, x + a * t.a_a, kernel + a * t.b_a,
                  bias if a == 0 else <const real *> NULL, y)
        return
    t.ka, t.a_a, t.b_a = g.kw, g.dw * g.c, g.cg * g.f
    t.kb = g.cg
    for group in range(g.groups):
        for a in range(g.kh):
            t.accumulate = a > 0
            tiles(&t, g.ow, g.fg, x + a * g.dh * g.row + group * g.cg, kernel + a * g.kw * g.cg * g.f + group * g.fg,
                  bias + group * g.fg if bias is not NULL and a == 0 else <const real *> NULL, y + group * g.fg)


def forward(x not None, kernel not None, bias, y not None, geometry, activation=None, int algorithm=0):
    """y = activation(convolution of x with kernel + bias).

    x (N, H, W, C), kernel (KH, KW, C / groups, F), bias (F,) or None, y (N, OH, OW, F); geometry is (stride height,
    width, rows of zeros above, columns of zeros to the left, dilation height, width, groups); ``activation``:
    ``curve_of``.

    algorithm: 0 for direct convolution, 1 for Winograd's where it is faster, 2 and 3 for its tiles of 2 x 2 and 4 x 4
    wherever they can be used: float32, kernels of 3 x 3 or (4 x 4 only) 5 x 5, stride, dilation and groups 1, at least
    8 channels and filters.  A NaN or inf then reaches all pixels of a tile.
    """
    if is_double(x):
        forward_in[double](x, kernel, bias, y, geometry, activation, algorithm)
    else:
        forward_in[float](x, kernel, bias, y, geometry, activation, algorithm)


cdef int forward_in(const real[:, :, :, ::1] x, const real[:, :, :, ::1] kernel, const real[::1] bias,
                    real[:, :, :, ::1] y, geometry, activation, int algorithm) except -1:
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
        return 0
    cdef Job job = a_job(&g, <Kernel> forward_rows[real], IMAGES, g.n)
    job.parts, job.scratch = g.oh, g.ph * g.row * sizeof(real) if g.padded else 0
    if g.depthwise:
        job.kernel, job.scratch = <Kernel> depthwise_rows[real], multiplied_size(&g, g.h) * sizeof(real)
    submit(&job, &g, sizeof(g))


cdef int forward_by_tiles(Conv *g) except -1:
    """Winograd's algorithm, for the input's gradient too."""
    cdef char *memory = borrow(winograd.derived_size(g), True)
    cdef Job job
    try:
        g.arrays.derived = fixed(memory)
        prepare(g, <Kernel> winograd.transform_kernel, winograd.kernel_groups(g))
        job = a_job(g, <Kernel> winograd.forward_tiles, IMAGES, g.n)
        job.parts, job.scratch = winograd.forward_parts(g), winograd.forward_scratch(g)
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
    input_gradient_columns.  A bias is what the sums begin with; the activation is taken while the row is in the cache.
    """
    cdef Py_ssize_t part, r, size = g.w * g.c, width = max(<Py_ssize_t> 0, min(size, g.row - g.left * g.c))
    cdef real *dx
    cdef real *target
    for part in range(first, last):
        dx = <real *> item(g.arrays.x, part // g.h) + part % g.h * size
        target = pad if g.padded else dx
        r = part % g.h + g.top
        begin_row(g, target, g.row)
        if r < g.ph:
            input_gradient_row(g, r, <const real *> item(g.arrays.y, part // g.h), target, pad + g.row)
        if g.padded:  # the window may reach less far than the image does
            memcpy(dx, pad + g.left * g.c, width * sizeof(real))
            begin_row(g, dx + width, size - width)
        if g.curve.kind != LINEAR:
            activate(&g.curve, dx, dx, size)


cdef void begin_row(const Conv *g, real *row, Py_ssize_t size) noexcept nogil:
    """Whole pixels of zeros, or of the bias: what is there is doubled."""
    cdef Py_ssize_t done = g.c
    if g.arrays.bias.data is NULL:
        memset(row, 0, size * sizeof(real))
    elif size > 0:
        memcpy(row, g.arrays.bias.data, g.c * sizeof(real))
        while done < size:
            memcpy(row + done, row, min(done, size - done) * sizeof(real))
            done *= 2


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
    if columns_together(g):
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
    return g.groups == 1 and g.dw == 1 and g.c < 16


cdef void input_gradient_columns(const Conv *g, Py_ssize_t first, Py_ssize_t step, Py_ssize_t count, const real *dy,
                                 real *dx, real *products) noexcept nogil:
    """The same as input_gradient_tiles: the products of all kernel columns at once, then one pixel of dy after the
    other adds its run of (kernel column, channel) to dx."""
    cdef Py_ssize_t run = g.kw * g.c
    cdef Tile t = matrix_tile(g.f, 1, run, g.f, run)
    t.ka, t.a_a, t.b_a = count, -(step * g.dh // g.sh) * g.ow * g.f, step * g.f * run
    tiles(&t, g.ow, run, dy, <const real *> g.arrays.derived.data + first * g.f * run, <const real *> NULL, products)
    overlap_add(products, dx, g.ow, g.sw * g.c, run)


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


def backward_input(dy not None, kernel not None, dx not None, geometry, int algorithm=0, bias=None,
                   activation=None):
    """dx (N, H, W, C) for dy (N, OH, OW, F), the gradient before the activation; the rest as in forward.

    As the forward pass of a transposed convolution: dx = activation(that + bias), with a bias (C,).
    """
    if is_double(dy):
        backward_input_in[double](dy, kernel, dx, geometry, algorithm, bias, activation)
    else:
        backward_input_in[float](dy, kernel, dx, geometry, algorithm, bias, activation)


cdef int backward_input_in(const real[:, :, :, ::1] dy, const real[:, :, :, ::1] kernel, real[:, :, :, ::1] dx,
                           geometry, int algorithm, const real[::1] bias, activation) except -1:
    cdef Conv g
    cdef Job job
    cdef char *memory
    describe(&g, dx.shape, kernel.shape, dy.shape, geometry)
    require(bias is None or bias.shape[0] == g.c, "bias must have one value for each channel of dx")
    bind(&g, &dx[0, 0, 0, 0], &kernel[0, 0, 0, 0], &bias[0] if bias is not None else <const real *> NULL,
         &dy[0, 0, 0, 0])
    g.curve = curve_of(activation)
    if real is float:
        g.m = winograd.tile_size(&g, BACKWARD_INPUT, algorithm)
    if g.m > 0:
        turn(&g)
        forward_by_tiles(&g)
        return 0
    if g.depthwise:
        job = a_job(&g, <Kernel> depthwise_input_gradient_rows[real], IMAGES, g.n)
        job.parts, job.scratch = g.h, multiplied_size(&g, 1) * sizeof(real)
        submit(&job, &g, sizeof(g))
        return 0
    memory = borrow(2 * kernel.size * sizeof(real), True)
    try:
        g.arrays.derived = fixed(memory)
        prepare(&g, <Kernel> transpose_taps[real], g.kh * g.kw)
        if pointwise(&g):  # another one, of dy with the transposed kernel
            turn(&g)
            g.arrays.kernel, g.row = g.arrays.derived, g.w * g.c
            job = a_job(&g, <Kernel> forward_rows[real], IMAGES, g.n)
            job.parts = g.oh
            submit(&job, &g, sizeof(g))
            return 0
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
    g.cg, g.fg = g.c, g.f
    g.top, g.left, g.turned = g.kh - 1 - g.top, g.kw - 1 - g.left, True


cdef int prepare(const Conv *g, Kernel kernel, Py_ssize_t items) except -1:
    """What is derived from the kernel alone."""
    cdef Conv alone = g[0]
    cdef Job job = a_job(g, kernel, BEFORE, items)
    alone.arrays.x, alone.arrays.y = fixed(NULL), fixed(NULL)
    job.work = <double> g.kh * g.kw * g.cg * g.f
    return submit(&job, &alone, sizeof(alone))


# ---- gradient of the parameters ----

cdef void parameter_gradient_images(const Conv *g, Py_ssize_t first, Py_ssize_t last, real *pad) noexcept nogil:
    """Kernel and bias gradients summed over a chunk of images, into its place in `derived`: (chunks, kernel + bias)."""
    cdef Py_ssize_t i, size = g.kh * g.kw * g.cg * g.f
    cdef Cell chunk
    cdef const real *dy
    cdef real *partial
    for i in range(first, last):
        chunk = cell_of(i, g.chunks, g.n)
        partial = <real *> g.arrays.derived.data + chunk.number * (size + biases(g))
        if i == chunk.first:
            memset(partial, 0, (size + biases(g)) * sizeof(real))
        dy = <const real *> item(g.arrays.y, i)
        if g.transposed:
            column_sums(<const real *> item(g.arrays.x, i), partial + size, g.h * g.w, g.c)
        else:
            column_sums(dy, partial + size, g.oh * g.ow, g.f)
        if g.depthwise:
            depthwise_kernel_gradient(g, i, dy, partial, pad)
        else:
            kernel_gradient_tiles(g, image(g, i, 0, g.ph, pad), dy, partial)


cdef void kernel_gradient_tiles(const Conv *g, const real *x, const real *dy, real *kernel) noexcept nogil:
    """Some rows of dy at a time: what the next tile reads is then in the first-level cache.  A sum stays one chain."""
    cdef Py_ssize_t a, group, low = 0
    cdef Py_ssize_t step = max(<Py_ssize_t> 1, PIXELS // g.ow)
    cdef Tile t
    if g.c < (17 if g.f % 16 == 0 else 8) or (g.c + g.f) * g.oh * g.ow <= NEAR:
        step = g.oh
    t.ka, t.a_a, t.b_a = g.oh, g.sh * g.row, g.ow * g.f
    t.kb, t.a_k, t.b_k = g.ow, g.sw * g.c, g.f
    t.a_i, t.c_i, t.accumulate = 1, g.f, True
    if g.groups == 1 and g.dw == 1:
        t.rows, t.a_row, t.c_row = g.kh, g.dh * g.row, g.kw * g.c * g.f
        while low < g.oh:
            t.ka = min(step, g.oh - low)
            if pointwise(g):
                t.ka, t.kb = 1, t.ka * g.ow
            tiles(&t, g.kw * g.c, g.f, x + low * t.a_a, dy + low * t.b_a, <const real *> NULL, kernel)
            low += step
        return
    t.rows, t.a_row, t.c_row = g.kw, g.dw * g.c, g.cg * g.f
    for group in range(g.groups):
        for a in range(g.kh):
            tiles(&t, g.cg, g.fg, x + a * g.dh * g.row + group * g.cg, dy + group * g.fg, <const real *> NULL,
                  kernel + a * g.kw * g.cg * g.f + group * g.fg)


cdef void add_chunks(const Conv *g, Py_ssize_t first, Py_ssize_t last, real *spare) noexcept nogil:
    """The gradients of kernel and bias, which follow each other in a partial sum; items are slices of them."""
    cdef Py_ssize_t i, size = g.kh * g.kw * g.cg * g.f, low, high
    for i in range(first, last):
        low, high = i * SLICE, min(size + biases(g), (i + 1) * SLICE)
        if low < size:
            add_range(g, low, min(high, size), <real *> g.arrays.kernel.data + low, spare)
        if high > size and g.arrays.bias.data is not NULL:
            low = max(low, size)
            add_range(g, low, high, <real *> g.arrays.bias.data + low - size, spare)


cdef void add_range(const Conv *g, Py_ssize_t low, Py_ssize_t high, real *result, real *spare) noexcept nogil:
    add_tree(<const real *> g.arrays.derived.data + low, g.kh * g.kw * g.cg * g.f + biases(g), g.chunks, g.n, result,
             spare, high - low)


def backward_params(x not None, dy not None, dkernel not None, dbias, geometry, int algorithm=0,
                    bint transposed=False):
    """Overwrites dkernel (KH, KW, C / groups, F) and dbias ((F,) or None); dy: the gradient before the activation.

    ``transposed``: x is that gradient, of a transposed convolution, and dy its input; dbias is (C,), the sum of x.
    """
    if is_double(x):
        backward_params_in[double](x, dy, dkernel, dbias, geometry, algorithm, transposed)
    else:
        backward_params_in[float](x, dy, dkernel, dbias, geometry, algorithm, transposed)


cdef int backward_params_in(const real[:, :, :, ::1] x, const real[:, :, :, ::1] dy, real[:, :, :, ::1] dkernel,
                            real[::1] dbias, geometry, int algorithm, bint transposed) except -1:
    cdef Conv g
    cdef Job job
    cdef Py_ssize_t size
    cdef char *memory
    describe(&g, x.shape, dkernel.shape, dy.shape, geometry)
    g.transposed = transposed
    require(dbias is None or dbias.shape[0] == biases(&g), "dbias must have one value for each filter")
    bind(&g, &x[0, 0, 0, 0], &dkernel[0, 0, 0, 0], &dbias[0] if dbias is not None else <real *> NULL,
         &dy[0, 0, 0, 0])
    if real is float:
        g.m = winograd.tile_size(&g, BACKWARD_PARAMS, algorithm)
    size = dkernel.size + biases(&g)
    g.chunks = chunks_for(g.n, size * sizeof(real))
    memory = borrow(g.chunks * size * sizeof(real), False)
    try:
        g.arrays.derived = fixed(memory)
        job = a_job(&g, <Kernel> parameter_gradient_images[real], CHUNKS, g.n)
        job.chunks, job.scratch = g.chunks, g.ph * g.row * sizeof(real) if g.padded else 0
        if g.depthwise:
            job.scratch = multiplied_size(&g, g.h) * sizeof(real)
        if g.m > 0:
            job.kernel, job.scratch = <Kernel> winograd.parameter_gradient_images, winograd.gradient_scratch(&g)
        submit(&job, &g, sizeof(g))
        add_up(&g, <Kernel> add_chunks[real], sizeof(real))
    finally:
        give_back(memory)


cdef int add_up(const Conv *g, Kernel kernel, Py_ssize_t width) except -1:
    """The partial sums of all chunks."""
    cdef Py_ssize_t size = g.kh * g.kw * g.cg * g.f + biases(g)
    cdef Conv alone = g[0]
    cdef Job job = a_job(g, kernel, AFTER, (size + SLICE - 1) // SLICE)
    alone.arrays.x, alone.arrays.y = fixed(NULL), fixed(NULL)
    job.work, job.scratch = <double> g.chunks * size / 4, spare_for(g.chunks, SLICE) * width
    return submit(&job, &alone, sizeof(alone))


# ---- depthwise: one input channel in each group ----

# Nothing is summed over channels, so the leaves (depthwise.h) work on vectors of them, and nothing is padded: where a
# window reaches beyond the image, only those of its taps are taken that lie in it.  With several filters for each
# channel the image is copied first, every channel as often as it has filters: then each filter has its own channel.

cdef struct Line:
    # Result k of `count` along one axis sees the places first + k step + t tap of the source, for t < taps, as far as
    # they lie in [0, size).
    Py_ssize_t count, first, step, tap, taps, size


cdef void seen(const Line *v, Py_ssize_t k, Py_ssize_t *low, Py_ssize_t *high) noexcept nogil:
    """The taps that result k sees, `low` <= t < `high`."""
    cdef Py_ssize_t start = v.first + k * v.step, beyond = v.size - start, width = max(v.tap, -v.tap)
    if v.tap < 0:  # from the other side
        start, beyond = v.size - 1 - start, start + 1
    low[0] = min(v.taps, (width - 1 - start) // width if start < 0 else 0)
    high[0] = max(low[0], min(v.taps, (beyond + width - 1) // width if beyond > 0 else 0))


cdef void whole(const Line *v, Py_ssize_t *first, Py_ssize_t *last) noexcept nogil:
    """The results that see all taps, `first` <= k < `last`."""
    cdef Py_ssize_t reach = (v.taps - 1) * v.tap, low = -min(<Py_ssize_t> 0, reach) - v.first
    cdef Py_ssize_t high = v.size - max(<Py_ssize_t> 0, reach) - v.first
    first[0] = min(v.count, (low + v.step - 1) // v.step if low > 0 else 0)
    last[0] = max(first[0], min(v.count, (high + v.step - 1) // v.step if high > 0 else 0))


cdef void depthwise_line(const Line *rows, Py_ssize_t r, const Line *columns, Depthwise *t, const real *x,
                         Py_ssize_t row, real *kernel, const real *bias, real *y, bint gradient) noexcept nogil:
    """Result r of `rows` and all of `columns`: y from the source x, whose rows have `row` elements, or with `gradient`
    the kernel's from x and y.  `kernel` points to tap (0, 0) of both lines."""
    cdef Py_ssize_t q = 0, first, last, low, high, place
    seen(rows, r, &low, &high)
    t.ka = high - low
    if t.ka > 0:
        x += (rows.first + r * rows.step + low * rows.tap) * row
        kernel += low * t.w_a
    t.x_ahead = (max(<Py_ssize_t> 0, (rows.taps - 1) * rows.tap) - low * rows.tap + 1) * row
    whole(columns, &first, &last)
    while q < columns.count:
        if q == first and first < last:
            low, high, t.count = 0, columns.taps, last - first
        else:
            seen(columns, q, &low, &high)
            t.count = 1
        t.kb, place = high - low, columns.first + q * columns.step + low * columns.tap
        if t.ka == 0 or t.kb == 0:
            place = low = t.kb = 0
        if gradient:
            depthwise_gradient(t, x + place * t.n, y + q * t.y_q, kernel + low * t.w_b)
        else:
            depthwise(t, x + place * t.n, kernel + low * t.w_b, bias, y + q * t.y_q)
        q += t.count


cdef Depthwise taps_of(const Conv *g, const Line *rows, const Line *columns, Py_ssize_t row, Py_ssize_t y_q,
                       Py_ssize_t row_step, Py_ssize_t column_step) noexcept nogil:
    """Strides along both lines; the steps are those from one tap to the next in the kernel."""
    cdef Depthwise t
    t.count, t.n, t.ka, t.kb = 0, g.f, 0, 0
    t.x_a, t.w_a = rows.tap * row, row_step * g.kw * g.f
    t.x_b, t.w_b = columns.tap * g.f, column_step * g.f
    t.x_q, t.y_q = columns.step * g.f, y_q
    t.x_ahead, t.fetch, t.y_ahead = 0, rows.step * columns.step * g.f, 0
    return t


cdef Py_ssize_t multiplied_size(const Conv *g, Py_ssize_t rows) noexcept nogil:
    """Elements of rows of an image in which every channel stands once for each of its filters; 0 where it has one."""
    return rows * g.w * g.f if g.fg > 1 else 0


cdef const real *multiplied(const Conv *g, Py_ssize_t i, Py_ssize_t low, Py_ssize_t high, real *copy) noexcept nogil:
    """Rows `low` to `high` - 1 of image i, each channel once for each of its filters."""
    cdef const real *x = <const real *> item(g.arrays.x, i) + low * g.w * g.c
    cdef Py_ssize_t k, o
    if g.fg == 1:
        return x
    for k in range((high - low) * g.w * g.c):
        for o in range(g.fg):
            copy[k * g.fg + o] = x[k]
    return copy


cdef void depthwise_rows(const Conv *g, Py_ssize_t first, Py_ssize_t last, real *copy) noexcept nogil:
    """Output rows, counted through all images."""
    cdef Line rows = Line(count=g.oh, first=0, step=g.sh, tap=g.dh, taps=g.kh, size=0)
    cdef Line columns = Line(count=g.ow, first=-g.left, step=g.sw, tap=g.dw, taps=g.kw, size=g.w)
    cdef Py_ssize_t row = g.w * g.f, part = first, r, end, low
    cdef Depthwise t = taps_of(g, &rows, &columns, row, g.f, 1, 1)
    t.y_ahead = g.ow * g.f
    cdef const real *x
    cdef real *y
    while part < last:
        r = part % g.oh
        end = min(g.oh, r + last - part)
        low = min(g.h, max(<Py_ssize_t> 0, r * g.sh - g.top))
        rows.size = max(<Py_ssize_t> 0, min(g.h, (end - 1) * g.sh + (g.kh - 1) * g.dh + 1 - g.top) - low)
        rows.first = -g.top - low
        x = multiplied(g, part // g.oh, low, low + rows.size, copy)
        y = <real *> item(g.arrays.y, part // g.oh) + r * g.ow * g.f
        part += end - r
        while r < end:
            depthwise_line(&rows, r, &columns, &t, x, row, <real *> g.arrays.kernel.data,
                           <const real *> g.arrays.bias.data, y, False)
            if g.curve.kind != LINEAR:
                activate(&g.curve, y, y, g.ow * g.f)
            r, y = r + 1, y + g.ow * g.f


cdef Py_ssize_t taps_apart(Py_ssize_t stride, Py_ssize_t dilation) noexcept nogil:
    """How many taps on a place of the padded image lies under a tap of another window again."""
    cdef Py_ssize_t a = stride, b = dilation
    while b != 0:  # Euclid
        a, b = b, a % b
    return stride // a


cdef Py_ssize_t meeting(Py_ssize_t place, Py_ssize_t stride, Py_ssize_t dilation, Py_ssize_t window, Py_ssize_t out,
                        Line *line) noexcept nogil:
    """The first tap under which a place of the padded image lies.  `line`: the windows with that tap there, and, one
    tap after the other, those with the further ones; a stride on, it is the next window each."""
    cdef Py_ssize_t b = 0, apart = taps_apart(stride, dilation)
    while b < min(window, apart) and (place - b * dilation) % stride != 0:
        b += 1
    line.step, line.tap, line.taps, line.size = 1, -(apart * dilation // stride), 0, out
    if b == min(window, apart):
        line.first = 0
        return 0
    line.first, line.taps = (place - b * dilation) // stride, (window - b + apart - 1) // apart
    return b


cdef void depthwise_input_gradient_rows(const Conv *g, Py_ssize_t first, Py_ssize_t last, real *copy) noexcept nogil:
    """Rows of dx, counted through all images:

        dx[r, q] = sum over the taps (a, b) and the outputs (i, j) with i sh + a dh - top = r, j sw + b dw - left = q
                   of dy[i, j] kernel[a, b]

    and the bias, if there is one.  Pixels at a distance of sw see the same kernel columns; with stride 1 it is one run
    through dy with a turned kernel.
    """
    cdef Py_ssize_t part, place, a, b, k, o, row = g.ow * g.f
    cdef const real *bias = <const real *> g.arrays.bias.data
    cdef Line rows, columns
    cdef Depthwise t
    cdef real *dx
    cdef real *target
    for part in range(first, last):
        dx = <real *> item(g.arrays.x, part // g.h) + part % g.h * g.w * g.c
        target = dx if g.fg == 1 else copy
        rows.count = 1
        a = meeting(part % g.h + g.top, g.sh, g.dh, g.kh, g.oh, &rows)
        for place in range(min(g.sw, g.w)):
            columns.count = (g.w - place + g.sw - 1) // g.sw
            b = meeting(place + g.left, g.sw, g.dw, g.kw, g.ow, &columns)
            t = taps_of(g, &rows, &columns, row, g.sw * g.f, taps_apart(g.sh, g.dh), taps_apart(g.sw, g.dw))
            t.y_ahead = g.w * g.f
            depthwise_line(&rows, 0, &columns, &t, <const real *> item(g.arrays.y, part // g.h), row,
                           <real *> g.arrays.kernel.data + (a * g.kw + b) * g.f,
                           bias if g.fg == 1 else <const real *> NULL, target + place * g.f, False)
        if g.fg > 1:
            for k in range(g.w * g.c):
                dx[k] = copy[k * g.fg]
                for o in range(1, g.fg):
                    dx[k] += copy[k * g.fg + o]
                if bias is not NULL:
                    dx[k] += bias[k % g.c]
        if g.curve.kind != LINEAR:
            activate(&g.curve, dx, dx, g.w * g.c)


cdef void depthwise_kernel_gradient(const Conv *g, Py_ssize_t i, const real *dy, real *kernel,
                                    real *copy) noexcept nogil:
    """Adds image i's."""
    cdef Line rows = Line(count=g.oh, first=-g.top, step=g.sh, tap=g.dh, taps=g.kh, size=g.h)
    cdef Line columns = Line(count=g.ow, first=-g.left, step=g.sw, tap=g.dw, taps=g.kw, size=g.w)
    cdef Py_ssize_t r, row = g.w * g.f
    cdef Depthwise t = taps_of(g, &rows, &columns, row, g.f, 1, 1)
    t.y_ahead = g.ow * g.f
    cdef const real *x = multiplied(g, i, 0, g.h, copy)
    for r in range(g.oh):
        depthwise_line(&rows, r, &columns, &t, x, row, kernel, <const real *> NULL, <real *> dy + r * g.ow * g.f, True)
