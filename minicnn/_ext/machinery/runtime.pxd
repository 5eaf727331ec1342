# cython: language_level=3
"""What every kernel module shares: the leaves (leaves.h), the number of threads, scratch memory."""
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

ctypedef fused real:
    float
    double

cdef extern from "leaves.h" nogil:
    ctypedef struct Leaves_f32:
        int (*multiply_adds)(Py_ssize_t n, float x, float y, float *lanes) noexcept nogil
    ctypedef struct Leaves:
        const char *name
        const Leaves_f32 *f32
    ctypedef struct Tile:
        Py_ssize_t rows, a_row, c_row
        Py_ssize_t ka, a_a, b_a
        Py_ssize_t kb, a_k, b_k
        Py_ssize_t a_i, c_i
        int accumulate
    cdef enum:
        APART
    ctypedef struct Depthwise:
        Py_ssize_t count, n
        Py_ssize_t ka, x_a, w_a
        Py_ssize_t kb, x_b, w_b
        Py_ssize_t x_q, y_q
        Py_ssize_t x_ahead, fetch, y_ahead
    ctypedef struct Geometry:
        Py_ssize_t h, w, c, oh, ow, kh, kw, sh, sw, top, left
        bint bytes, whole
    ctypedef struct Windows:
        Py_ssize_t count, kh, kw, c, row, step, ahead, tap, tap_row
        bint bytes, edge
    cdef enum:
        MOST_LANES
    cdef enum Activation:
        LINEAR, RELU, LEAKY_RELU, BOUNDED_RELU, ELU, SELU, GELU, SWISH, HARD_SWISH, SIGMOID, HARD_SIGMOID, TANH
        SOFTPLUS, SOFTSIGN, EXPONENTIAL, ACTIVATIONS
    ctypedef struct Curve:
        int kind
        double slope, threshold, top
    cdef enum Method:
        SGD, MOMENTUM, NESTEROV, ADAM, AMSGRAD, NADAM, ADAMAX, RMSPROP, ADAGRAD, ADADELTA
    ctypedef struct Update:
        int method
        double rate, clip, beta_1, beta_2, epsilon, ahead
    cdef enum WinogradIn:
        OF_IMAGE, OF_GRADIENT, OF_KERNEL
    cdef enum WinogradOut:
        TO_IMAGE, TO_KERNEL

    void use_leaves(const Leaves *chosen)
    # The types stand for float or double: macros choose the leaf by the type of the argument that is written.
    void tiles(const Tile *t, Py_ssize_t m, Py_ssize_t n, const void *A, const void *B, const void *bias, void *C)
    void depthwise(const Depthwise *t, const void *x, const void *w, const void *bias, void *y)
    void depthwise_gradient(const Depthwise *t, const void *x, const void *dy, void *w)
    void add_to(const void *x, void *y, Py_ssize_t n)
    void plus(bint relu, const void *x, const void *y, void *z, Py_ssize_t n)
    void overlap_add(const void *x, void *y, Py_ssize_t rows, Py_ssize_t step, Py_ssize_t n)
    void affine(const void *x, double a, double b, void *y, Py_ssize_t n)
    void keep_bits(uint32_t *keep, Py_ssize_t first, Py_ssize_t count, uint32_t threshold, uint64_t key,
                   uint32_t step, uint32_t stream)
    void mask_scale(const void *x, const uint32_t *keep, Py_ssize_t offset, double scale, void *y, Py_ssize_t n)
    void mask_shift(const uint32_t *keep, Py_ssize_t offset, double shift, double dropped, void *y, Py_ssize_t n)
    Py_ssize_t drop_blocks(uint32_t *keep, uint32_t *spare, Py_ssize_t size, Py_ssize_t column, Py_ssize_t row,
                           Py_ssize_t block)
    void times(const void *x, const float *factor, void *y, Py_ssize_t n)
    void add_scaled(const void *x, double a, const float *z, void *y, Py_ssize_t n)
    void gaussian(float *factor, Py_ssize_t first, Py_ssize_t count, float mean, float sigma, uint64_t key,
                  uint32_t step, uint32_t stream)
    void winograd_in(int kind, int m, int r, float *const *pixels, float *v, Py_ssize_t step, Py_ssize_t channels)
    void winograd_out(int kind, int m, int r, const float *v, Py_ssize_t step, const float *bias, bint relu,
                      float *const *pixels, Py_ssize_t channels)
    void activate(const Curve *f, const void *x, void *y, Py_ssize_t n)
    void activate_grad(const Curve *f, const void *s, const void *dy, void *dx, Py_ssize_t n)
    void prelu(const void *x, const void *alpha, void *y, Py_ssize_t count, Py_ssize_t n)
    void prelu_grad(const void *x, const void *dy, const void *alpha, void *dx, void *sums, Py_ssize_t count,
                    Py_ssize_t n)
    void softmax_rows(const void *x, void *y, Py_ssize_t rows, Py_ssize_t n)
    double softmax_row(const void *x, void *y, Py_ssize_t n, double scale, double *rest)
    void softmax_rows_grad(const void *y, const void *dy, void *dx, Py_ssize_t rows, Py_ssize_t n)
    void log_softmax_rows(const void *x, void *y, Py_ssize_t rows, Py_ssize_t n)
    void log_softmax_rows_grad(const void *y, const void *dy, void *dx, Py_ssize_t rows, Py_ssize_t n)
    void max_windows(const Windows *v, const void *x, void *y, void *winner)
    void average_windows(const Windows *v, double share, const void *x, void *y)
    void max_spread(const Windows *v, const void *dy, const void *winner, void *dx)
    void average_spread(const Windows *v, double share, const void *dy, void *dx)
    void max_gather(const Geometry *g, Py_ssize_t row, bint edge, const void *dy, const void *winner, void *dx)
    void average_gather(const Geometry *g, Py_ssize_t row, bint edge, const void *dy, void *dx)
    void stretch(const void *x, const void *weights, Py_ssize_t times, void *y, Py_ssize_t pixels, Py_ssize_t n)
    void blend(const void *x, Py_ssize_t step, Py_ssize_t tap, const void *weights, Py_ssize_t count, void *y,
               Py_ssize_t pixels, Py_ssize_t n)
    void column_sums(const void *x, void *sums, Py_ssize_t rows, Py_ssize_t n)
    void column_moments(const void *x, const void *shift, void *sums, void *squares, Py_ssize_t rows, Py_ssize_t n)
    void column_products(const void *x, const void *dy, const void *mean, void *sums, void *products, Py_ssize_t rows,
                         Py_ssize_t n)
    Py_ssize_t wide(Py_ssize_t n)
    void normalize(const void *x, const void *mean, const void *a, const void *b, void *y, Py_ssize_t count,
                   Py_ssize_t n)
    void normalize_grad(const void *x, const void *dy, const void *mean, const void *a, const void *b,
                        const void *c, void *dx, Py_ssize_t count, Py_ssize_t n)
    void layer_norm(const void *x, Py_ssize_t x_row, const void *gamma, const void *beta, double epsilon, void *y,
                    Py_ssize_t y_row, void *kept, Py_ssize_t kept_row, Py_ssize_t rows, Py_ssize_t n)
    void layer_norm_grad(const void *x, Py_ssize_t x_row, const void *dy, Py_ssize_t dy_row, const void *gamma,
                         const void *kept, Py_ssize_t kept_row, void *dx, Py_ssize_t dx_row, void *dgamma, void *dbeta,
                         Py_ssize_t rows, Py_ssize_t n)
    # y[c, r] = x[r, c]: elements from one row to the next, then rows and columns of x
    void transpose(const void *x, Py_ssize_t x_row, Py_ssize_t rows, Py_ssize_t columns, void *y, Py_ssize_t y_row)
    void row_product(const void *x, Py_ssize_t d, const void *w, Py_ssize_t w_row, void *y, Py_ssize_t n)
    void kept_product(const void *x, Py_ssize_t rows, const void *w, const uint32_t *keep, Py_ssize_t offset, void *y,
                      Py_ssize_t n)
    void kept_gradients(const void *x, Py_ssize_t rows, const void *w, const void *dy, const uint32_t *keep,
                        Py_ssize_t offset, void *dw, void *dx, Py_ssize_t n)
    bint from_u8(const uint8_t *x, void *y, Py_ssize_t n)
    bint from_i64(const int64_t *x, void *y, Py_ssize_t n)
    bint from_f32(const float *x, void *y, Py_ssize_t n)
    bint from_f64(const double *x, void *y, Py_ssize_t n)
    void fetch_ahead(const void *p, Py_ssize_t bytes)
    double sum_absolute(const void *x, Py_ssize_t n)
    void add_slope(const void *x, double a, double b, void *y, Py_ssize_t n)
    void add_squares(const void *x, double *sums, Py_ssize_t n)
    void scale_each(void *x, const double *factors, Py_ssize_t n)
    double sum_squares(const void *x, Py_ssize_t n)
    void cut(const void *x, double limit, void *y, Py_ssize_t n)
    void update_weights(const Update *u, void *w, const void *gradient, void *a, void *b, void *c, double decay,
                        Py_ssize_t n)


# One product of matrices: C[i*c_i + j] = start + sum_{k < depth} A[i*a_i + k*a_k] * B[k*b_k + j].
cdef inline Tile matrix_tile(Py_ssize_t depth, Py_ssize_t a_k, Py_ssize_t b_k, Py_ssize_t a_i,
                             Py_ssize_t c_i) noexcept nogil:
    return Tile(rows=1, a_row=0, c_row=0, ka=1, a_a=0, b_a=0, kb=depth, a_k=a_k, b_k=b_k, a_i=a_i, c_i=c_i,
                accumulate=False)


cdef const Leaves *chosen_leaves() noexcept nogil
# Whether an array holds float64, and not float32: which of the two forms of a kernel its entry calls.  A `def` over a
# fused type would do that by itself, in 700 bytes of the wheel for each and 4 kB for each module that has one.
cdef int is_double(array) except -1
# ValueError unless `ok`: what a kernel's entry checks of the shapes, for the kernels themselves check nothing.
cdef inline int require(bint ok, str required) except -1:
    if not ok:
        raise ValueError(f"kernel: {required}")
    return 0

# What a kernel's entry is given as an activation: (kind, slope, threshold, top), or None for none.
cdef inline Curve curve_of(activation) except *:
    cdef Curve curve = Curve(LINEAR, 0, 0, 0)
    if activation is not None:
        curve.kind, curve.slope, curve.threshold, curve.top = activation
        require(0 <= curve.kind < ACTIVATIONS, "the kind of an activation must be one of KINDS")
    return curve

# How many threads a job of `items` independent parts is worth that takes one thread about `work` nanoseconds: a guess
# from the shapes, for a machine with AVX2 (32 multiply-adds or 4 elements of a plain loop in a nanosecond).
cdef int team(Py_ssize_t items, double work) noexcept nogil
# `count` elements of `size` bytes, 64-byte aligned, from malloc: MemoryError if there are none.  Freed by free_scratch.
cdef void *take_scratch(Py_ssize_t count, Py_ssize_t size) except NULL
cdef void free_scratch(void *memory) noexcept nogil
