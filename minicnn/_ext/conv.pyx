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

Items: images for the first two.  For the gradient of the parameters the batch is cut into at most 16 chunks, whose
partial sums are added in order: the bits depend on the shapes alone, not on the threads.
"""
from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from minicnn._ext.reshape cimport crop_image, pad_image
from minicnn._ext.runtime cimport (LINEAR, Tile, activate, add_to, chosen_leaves, column_sums, free_scratch,
                                   multiply_add, real, require, take_scratch, team, tiles, use_leaves)

use_leaves(chosen_leaves())

cdef enum:
    MOST_CHUNKS = 16
    MOST_CHUNK_BYTES = 32 << 20  # all partial sums of one layer together


cdef struct Conv:
    Py_ssize_t n, h, w, c            # images: count, height, width, channels
    Py_ssize_t kh, kw, cg            # kernel: height, width, channels of a group
    Py_ssize_t oh, ow, f, fg         # output: height, width, filters, filters of a group
    Py_ssize_t sh, sw, dh, dw        # strides, dilation
    Py_ssize_t top, left, groups     # rows and columns of zeros before the image
    Py_ssize_t ph, pw                # extent of the image that the kernel passes over, zeros included
    bint padded                      # that extent reaches beyond the image: work on a padded copy
    Py_ssize_t row                   # elements of a row of the image or of its padded copy
    Py_ssize_t pad_size              # elements of the padded copy, 0 where there is none
    Py_ssize_t chunks                # of the batch, for the gradient of the parameters
    bint depthwise
    int activation
    double slope
    const void *x                    # (n, h, w, c)
    const void *kernel               # (kh, kw, cg, f); for the input gradient transposed: (kh, kw, groups, fg, cg)
    const void *bias                 # (f,) or NULL
    void *y                          # (n, oh, ow, f), output or its gradient
    void *dx                         # (n, h, w, c)
    void *partials                   # (chunks, kh, kw, cg, f) and then (chunks, f)


cdef int describe(Conv *g, const Py_ssize_t *x_shape, const Py_ssize_t *kernel_shape, const Py_ssize_t *y_shape,
                  geometry) except -1:
    memset(g, 0, sizeof(Conv))
    g.n, g.h, g.w, g.c = x_shape[0], x_shape[1], x_shape[2], x_shape[3]
    g.kh, g.kw, g.cg, g.f = kernel_shape[0], kernel_shape[1], kernel_shape[2], kernel_shape[3]
    g.oh, g.ow = y_shape[1], y_shape[2]
    g.sh, g.sw, g.top, g.left, g.dh, g.dw, g.groups = geometry
    g.fg = g.f // g.groups
    g.ph = (g.oh - 1) * g.sh + (g.kh - 1) * g.dh + 1
    g.pw = (g.ow - 1) * g.sw + (g.kw - 1) * g.dw + 1
    g.padded = g.top > 0 or g.left > 0 or g.ph > g.h or g.pw > g.w
    g.row = (g.pw if g.padded else g.w) * g.c
    g.pad_size = g.ph * g.row if g.padded else 0
    g.depthwise = g.cg == 1 and g.fg == 1
    require(y_shape[0] == g.n and y_shape[3] == g.f, "y must have the images of x and the filters of the kernel")
    require(g.cg * g.groups == g.c and g.fg * g.groups == g.f, "channels and filters must fit the groups")
    return 0


cdef double cost(const Conv *g) noexcept nogil:
    """Nanoseconds of one pass over the batch, about (see `team`)."""
    return (<double> g.n) * g.oh * g.ow * g.f * g.kh * g.kw * g.cg / 32 + g.n * g.oh * g.ow


cdef const real *image(const Conv *g, Py_ssize_t i, real *pad) noexcept nogil:
    """Image i, or its padded copy in `pad`."""
    cdef const real *x = <const real *> g.x + i * g.h * g.w * g.c
    if not g.padded:
        return x
    pad_image(x, g.h, g.w * g.c, pad, g.ph, g.row, g.top, g.left * g.c)
    return pad


# ---- forward ----

cdef void forward_images(const Conv *g, Py_ssize_t first, Py_ssize_t last, real *pad) noexcept nogil:
    cdef Py_ssize_t i, a, group
    cdef const real *x
    cdef const real *kernel = <const real *> g.kernel
    cdef const real *bias = <const real *> g.bias
    cdef real *y
    cdef Tile t
    t.rows, t.a_row, t.c_row = g.oh, g.sh * g.row, g.ow * g.f
    t.a_i, t.c_i = g.sw * g.c, g.f
    t.a_k, t.b_k = 1, g.f
    for i in range(first, last):
        x = image[real](g, i, pad)
        y = <real *> g.y + i * g.oh * g.ow * g.f
        if g.depthwise:
            forward_depthwise(g, x, kernel, bias, y)
        elif g.groups == 1 and g.dw == 1:
            t.ka, t.a_a, t.b_a = g.kh, g.dh * g.row, g.kw * g.c * g.f
            t.kb, t.accumulate = g.kw * g.c, False
            tiles(&t, g.ow, g.f, x, kernel, bias, y)
        else:
            t.ka, t.a_a, t.b_a = g.kw, g.dw * g.c, g.cg * g.f
            t.kb = g.cg
            for group in range(g.groups):
                for a in range(g.kh):
                    t.accumulate = a > 0
                    tiles(&t, g.ow, g.fg, x + a * g.dh * g.row + group * g.cg,
                          kernel + a * g.kw * g.cg * g.f + group * g.fg,
                          bias + group * g.fg if bias is not NULL and a == 0 else <const real *> NULL, y + group * g.fg)
        if g.activation != LINEAR:
            activate(g.activation, <real> g.slope, y, y, g.oh * g.ow * g.f)


cdef void forward_depthwise(const Conv *g, const real *x, const real *kernel, const real *bias, real *y) noexcept nogil:
    """One filter per channel: y[r, q] = bias + sum over taps of x[tap] * kernel[tap], vectors over the channels."""
    cdef Py_ssize_t r, q, a, b
    for r in range(g.oh):
        for q in range(g.ow):
            if bias is not NULL:
                memcpy(y, bias, g.f * sizeof(real))
            else:
                memset(y, 0, g.f * sizeof(real))
            for a in range(g.kh):
                for b in range(g.kw):
                    multiply_add(x + (r * g.sh + a * g.dh) * g.row + (q * g.sw + b * g.dw) * g.c,
                                 kernel + (a * g.kw + b) * g.f, y, g.f)
            y += g.f


def forward(const real[:, :, :, ::1] x not None, const real[:, :, :, ::1] kernel not None, const real[::1] bias,
            real[:, :, :, ::1] y not None, geometry, int activation=LINEAR, double slope=0.0):
    """y = activation(convolution of x with kernel + bias).

    x (N, H, W, C), kernel (KH, KW, C / groups, F), bias (F,) or None, y (N, OH, OW, F); geometry is (stride height,
    width, rows of zeros above, columns of zeros to the left, dilation height, width, groups).
    """
    cdef Conv g
    cdef Py_ssize_t b, blocks
    cdef real *pads = NULL
    describe(&g, x.shape, kernel.shape, y.shape, geometry)
    if g.n == 0:
        return
    g.x, g.kernel, g.y = &x[0, 0, 0, 0], &kernel[0, 0, 0, 0], &y[0, 0, 0, 0]
    g.bias = NULL
    if bias is not None:
        require(bias.shape[0] == g.f, "bias must have one value for each filter")
        g.bias = &bias[0]
    g.activation, g.slope = activation, slope
    blocks = team(g.n, cost(&g))
    try:
        pads = <real *> take_scratch(blocks * g.pad_size, sizeof(real))
        for b in prange(blocks, nogil=True, num_threads=blocks, schedule="static"):
            forward_images[real](&g, g.n * b // blocks, g.n * (b + 1) // blocks, pads + b * g.pad_size)
    finally:
        free_scratch(pads)


# ---- gradient of the input ----

cdef void input_gradient_images(const Conv *g, Py_ssize_t first, Py_ssize_t last, real *pad) noexcept nogil:
    """dx[r, q sw + b dw] += sum over kernel rows a and filters of dy[(r - a dh) / sh, q] * kernel[a, b].

    The sum over kernel rows is gathered in registers, the kernel columns b are scattered one after the other: no
    zeros are multiplied and dy needs no padding.
    """
    cdef Py_ssize_t i, r, size = g.h * g.w * g.c
    cdef real *dx
    cdef real *target
    cdef const real *dy
    for i in range(first, last):
        dx = <real *> g.dx + i * size
        dy = <const real *> g.y + i * g.oh * g.ow * g.f
        target = pad if g.padded else dx
        memset(target, 0, (g.ph * g.row if g.padded else size) * sizeof(real))
        if g.depthwise:
            input_gradient_depthwise(g, dy, target)
        else:
            for r in range(g.ph):
                input_gradient_row(g, r, dy, target + r * g.row)
        if g.padded:
            crop_image(<const real *> target, g.ph, g.row, dx, g.h, g.w * g.c, g.top, g.left * g.c)


cdef void input_gradient_row(const Conv *g, Py_ssize_t r, const real *dy, real *dx) noexcept nogil:
    """Row r of one padded image's gradient."""
    cdef Py_ssize_t a, b, group, first = -1, step = 0, q = 0, taps = g.kw * g.groups * g.fg * g.cg
    cdef Tile t
    t.rows, t.a_row, t.c_row = 1, 0, 0
    t.ka = 0
    for a in range(g.kh):  # the kernel rows under which r lies, at equal distances
        if r >= a * g.dh and (r - a * g.dh) % g.sh == 0 and (r - a * g.dh) // g.sh < g.oh:
            if first < 0:
                first, q = a, (r - a * g.dh) // g.sh
            elif step == 0:
                step = a - first
            t.ka += 1
    if first < 0:
        return
    t.a_a, t.b_a = -(step * g.dh // g.sh) * g.ow * g.f, step * taps
    t.kb, t.a_k, t.b_k = g.fg, 1, g.cg
    t.a_i, t.c_i, t.accumulate = g.f, g.sw * g.c, True
    for b in range(g.kw):
        for group in range(g.groups):
            tiles(&t, g.ow, g.cg, dy + q * g.ow * g.f + group * g.fg,
                  <const real *> g.kernel + first * taps + (b * g.groups + group) * g.fg * g.cg, <const real *> NULL,
                  dx + b * g.dw * g.c + group * g.cg)


cdef void input_gradient_depthwise(const Conv *g, const real *dy, real *dx) noexcept nogil:
    cdef Py_ssize_t r, q, a, b
    for r in range(g.oh):
        for q in range(g.ow):
            for a in range(g.kh):
                for b in range(g.kw):
                    multiply_add(dy, <const real *> g.kernel + (a * g.kw + b) * g.f,
                                 dx + (r * g.sh + a * g.dh) * g.row + (q * g.sw + b * g.dw) * g.c, g.f)
            dy += g.f


cdef void transpose_kernel(const Conv *g, const real *kernel, real *transposed) noexcept nogil:
    """(kh, kw, cg, f) to (kh, kw, groups, fg, cg), so that the channels are the contiguous axis."""
    cdef Py_ssize_t _tap, group, o, c
    for _tap in range(g.kh * g.kw):
        for group in range(g.groups):
            for o in range(g.fg):
                for c in range(g.cg):
                    transposed[c] = kernel[c * g.f + group * g.fg + o]
                transposed += g.cg
        kernel += g.cg * g.f


def backward_input(const real[:, :, :, ::1] dy not None, const real[:, :, :, ::1] kernel not None,
                   real[:, :, :, ::1] dx not None, geometry):
    """dx (N, H, W, C) for dy (N, OH, OW, F), the gradient before the activation; `geometry` as in forward."""
    cdef Conv g
    cdef Py_ssize_t b, blocks, size
    cdef real *memory
    cdef real *pads
    describe(&g, dx.shape, kernel.shape, dy.shape, geometry)
    if g.n == 0:
        return
    g.y, g.dx = <void *> &dy[0, 0, 0, 0], &dx[0, 0, 0, 0]
    blocks, size = team(g.n, cost(&g)), kernel.size
    memory = <real *> take_scratch(size + blocks * g.pad_size, sizeof(real))
    pads = memory + size
    try:
        transpose_kernel(&g, &kernel[0, 0, 0, 0], memory)
        g.kernel = memory
        for b in prange(blocks, nogil=True, num_threads=blocks, schedule="static"):
            input_gradient_images[real](&g, g.n * b // blocks, g.n * (b + 1) // blocks, pads + b * g.pad_size)
    finally:
        free_scratch(memory)


# ---- gradient of the parameters ----

cdef void parameter_gradient_chunk(const Conv *g, Py_ssize_t chunk, real *pad) noexcept nogil:
    """Kernel and bias gradients summed over the images of one chunk, into its place in `partials`."""
    cdef Py_ssize_t i, a, group, size = g.kh * g.kw * g.cg * g.f
    cdef real *kernel = <real *> g.partials + chunk * size
    cdef real *bias = <real *> g.partials + g.chunks * size + chunk * g.f
    cdef const real *x
    cdef const real *dy
    cdef Tile t
    memset(kernel, 0, size * sizeof(real))
    memset(bias, 0, g.f * sizeof(real))
    t.ka, t.a_a, t.b_a = g.oh, g.sh * g.row, g.ow * g.f
    t.kb, t.a_k, t.b_k = g.ow, g.sw * g.c, g.f
    t.a_i, t.c_i, t.accumulate = 1, g.f, True
    for i in range(g.n * chunk // g.chunks, g.n * (chunk + 1) // g.chunks):
        x = image[real](g, i, pad)
        dy = <const real *> g.y + i * g.oh * g.ow * g.f
        column_sums(dy, bias, g.oh * g.ow, g.f)
        if g.depthwise:
            kernel_gradient_depthwise(g, x, dy, kernel)
        elif g.groups == 1 and g.dw == 1:
            t.rows, t.a_row, t.c_row = g.kh, g.dh * g.row, g.kw * g.c * g.f
            tiles(&t, g.kw * g.c, g.f, x, dy, <const real *> NULL, kernel)
        else:
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


def backward_params(const real[:, :, :, ::1] x not None, const real[:, :, :, ::1] dy not None,
                    real[:, :, :, ::1] dkernel not None, real[::1] dbias, geometry):
    """Overwrites dkernel (KH, KW, C / groups, F) and dbias ((F,) or None); dy: the gradient before the activation."""
    cdef Conv g
    cdef Py_ssize_t b, chunk, blocks, size = dkernel.size
    cdef real *memory
    cdef real *pads
    describe(&g, x.shape, dkernel.shape, dy.shape, geometry)
    memset(&dkernel[0, 0, 0, 0], 0, size * sizeof(real))
    if dbias is not None:
        require(dbias.shape[0] == g.f, "dbias must have one value for each filter")
        memset(&dbias[0], 0, g.f * sizeof(real))
    if g.n == 0:
        return
    g.x, g.y = &x[0, 0, 0, 0], <void *> &dy[0, 0, 0, 0]
    g.chunks = max(1, min(MOST_CHUNKS, g.n, MOST_CHUNK_BYTES // (size * <Py_ssize_t> sizeof(real))))
    blocks = team(g.chunks, cost(&g))
    memory = <real *> take_scratch(g.chunks * (size + g.f) + blocks * g.pad_size, sizeof(real))
    pads = memory + g.chunks * (size + g.f)
    g.partials = memory
    try:
        for b in prange(blocks, nogil=True, num_threads=blocks, schedule="static"):
            run_chunks[real](&g, g.chunks * b // blocks, g.chunks * (b + 1) // blocks, pads + b * g.pad_size)
        for chunk in range(g.chunks):
            add_to(memory + chunk * size, &dkernel[0, 0, 0, 0], size)
            if dbias is not None:
                add_to(memory + g.chunks * size + chunk * g.f, &dbias[0], g.f)
    finally:
        free_scratch(memory)


cdef void run_chunks(const Conv *g, Py_ssize_t first, Py_ssize_t last, real *pad) noexcept nogil:
    cdef Py_ssize_t chunk
    for chunk in range(first, last):
        parameter_gradient_chunk(g, chunk, pad)
