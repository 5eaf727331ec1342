/* leaves.h: the list of inner loops that every kernel calls.
 *
 * One table per instruction set; `runtime` picks one at import and hands it to the other modules.  A leaf exists for
 * float and for double; the macros at the end choose by the type of a pointer argument, so that a Cython function over
 * `real` has one body.  What each leaf computes is said where it is written: leaf.h and the files that it includes.
 */
#ifndef MINICNN_LEAVES_H
#define MINICNN_LEAVES_H

#include <stddef.h>
#include <stdint.h>

typedef ptrdiff_t idx;

/* One shape for every product of the library (convolution forward, both of its gradients, dense):
 *
 *   C[r*c_row + i*c_i + j] = start + sum_{a < ka} sum_{k < kb}  A[r*a_row + i*a_i + a*a_a + k*a_k] * B[a*b_a + k*b_k + j]
 *
 * for r < rows, i < m, j < n.  `start` is bias[j], or C itself if `accumulate` is 1, or 0; if it is APART the sum begins at
 * 0 and is added to C at its end, for a long sum whose parts are to make small errors (float, one row, n a multiple of 8).
 * Either a_i or a_k must be 1. */
enum { APART = 2 };
typedef struct {
    idx rows, a_row, c_row;
    idx ka, a_a, b_a;
    idx kb, a_k, b_k;
    idx a_i, c_i;
    int accumulate;
} Tile;

/* Depthwise convolution: `count` pixels of n channels, which see ka x kb taps; strides in elements. */
typedef struct {
    idx count, n;
    idx ka, x_a, w_a; /* rows of taps: from one to the next in the image, in the kernel */
    idx kb, x_b, w_b; /* columns of taps */
    idx x_q, y_q;     /* from one pixel to the next in the image, in the result */
    idx x_ahead, fetch, y_ahead; /* to what is read next, `fetch` elements of it for each pixel; to the next result */
} Depthwise;

/* Pooling: images h x w with c channels, outputs oh x ow, windows kh x kw, strides, padding above and to the left. */
typedef struct {
    idx h, w, c, oh, ow, kh, kw, sh, sw, top, left;
    int bytes; /* the numbers of taps, row * kw + column, fill bytes; else int32 */
    int whole; /* an average is over all taps of a window, not only those in the image */
} Geometry;

/* `count` windows side by side, as far as they lie in the image.  Strides in elements; `edge`: there are less than
 * MOST_LANES elements after the last window in its image, or after the last output. */
enum { MOST_LANES = 16 };
typedef struct {
    idx count, kh, kw, c;
    idx row, step;    /* of x from one row to the next; from one window to the next */
    idx ahead;        /* from one row of windows to the next */
    idx tap, tap_row; /* number of the first tap; from one row of taps to the next */
    int bytes, edge;
} Windows;

/* An activation: its kind, and the numbers of those kinds that have some (layers/activation.py). */
enum Activation {
    LINEAR, RELU, LEAKY_RELU, BOUNDED_RELU, ELU, SELU, GELU, SWISH, HARD_SWISH, SIGMOID, HARD_SIGMOID, TANH, SOFTPLUS,
    SOFTSIGN, EXPONENTIAL, ACTIVATIONS
};
typedef struct {
    int kind;
    double slope, threshold, top; /* slope: ELU's alpha, too; top: the largest value, NaN for none */
} Curve;

/* Optimisers: the methods, and the numbers of one step of one of them (leaf.h says what they do). */
enum Method { SGD, MOMENTUM, NESTEROV, ADAM, AMSGRAD, NADAM, ADAMAX, RMSPROP, ADAGRAD, ADADELTA };
typedef struct {
    int method;
    double rate, clip;
    double beta_1, beta_2; /* what stays of the first moment or of the momentum; of the second */
    double epsilon, ahead; /* ahead: Nadam's rate of m; `rate` is then that of g */
} Update;

/* How many columns are taken as one row where rows have n of them: those of 2^k rows, so that they fill several vectors
 * and (but for large n) the last one too. */
enum { WIDEST = 512 };
static inline idx wide(idx n)
{
    while (n > 0 && (n < 64 || (n % 8 && n < WIDEST / 2))) n *= 2;
    return n;
}
/* Winograd's transforms (winograd.h): of what into its domain, and to what back. */
enum WinogradIn { OF_IMAGE, OF_GRADIENT, OF_KERNEL };
enum WinogradOut { TO_IMAGE, TO_KERNEL };

/* Every leaf once, under the name that it has everywhere: result, name, arguments.  The structs of pointers are made of
 * these lists, and so is each set's own table, at the end of leaf.h. */
#define EACH_LEAF(L, REAL)                                                                                            \
    L(void, tiles, (const Tile *t, idx m, idx n, const REAL *A, const REAL *B, const REAL *bias, REAL *C))            \
    L(void, depthwise, (const Depthwise *t, const REAL *x, const REAL *w, const REAL *bias, REAL *y))                 \
    L(void, depthwise_gradient, (const Depthwise *t, const REAL *x, const REAL *dy, REAL *w))                         \
    L(void, add_to, (const REAL *x, REAL *y, idx n))                                                                  \
    L(void, plus, (int relu, const REAL *x, const REAL *y, REAL *z, idx n))                                           \
    L(void, overlap_add, (const REAL *x, REAL *y, idx rows, idx step, idx n))                                         \
    L(void, affine, (const REAL *x, REAL a, REAL b, REAL *y, idx n))                                                  \
    L(void, mask_scale, (const REAL *x, const uint32_t *keep, idx offset, REAL scale, REAL *y, idx n))                \
    L(void, mask_shift, (const uint32_t *keep, idx offset, REAL shift, REAL dropped, REAL *y, idx n))                 \
    L(void, times, (const REAL *x, const float *factor, REAL *y, idx n))                                              \
    L(void, add_scaled, (const REAL *x, REAL a, const float *z, REAL *y, idx n))                                      \
    L(void, activate, (const Curve *f, const REAL *x, REAL *y, idx n))                                                \
    L(void, activate_grad, (const Curve *f, const REAL *s, const REAL *dy, REAL *dx, idx n))                          \
    L(void, prelu, (const REAL *x, const REAL *alpha, REAL *y, idx count, idx n))                                     \
    L(void, prelu_grad, (const REAL *x, const REAL *dy, const REAL *alpha, REAL *dx, REAL *sums, idx count, idx n))   \
    L(void, softmax_rows, (const REAL *x, REAL *y, idx rows, idx n))                                                  \
    L(REAL, softmax_row, (const REAL *x, REAL *y, idx n, double scale, double *rest))                                 \
    L(void, softmax_rows_grad, (const REAL *y, const REAL *dy, REAL *dx, idx rows, idx n))                            \
    L(void, log_softmax_rows, (const REAL *x, REAL *y, idx rows, idx n))                                              \
    L(void, log_softmax_rows_grad, (const REAL *y, const REAL *dy, REAL *dx, idx rows, idx n))                        \
    L(void, max_windows, (const Windows *v, const REAL *x, REAL *y, void *winner))                                    \
    L(void, average_windows, (const Windows *v, REAL share, const REAL *x, REAL *y))                                  \
    L(void, max_spread, (const Windows *v, const REAL *dy, const void *winner, REAL *dx))                             \
    L(void, average_spread, (const Windows *v, REAL share, const REAL *dy, REAL *dx))                                 \
    L(void, max_gather, (const Geometry *g, idx row, int edge, const REAL *dy, const void *winner, REAL *dx))         \
    L(void, average_gather, (const Geometry *g, idx row, int edge, const REAL *dy, REAL *dx))                         \
    L(void, stretch, (const REAL *x, const REAL *weights, idx times, REAL *y, idx pixels, idx n))                     \
    L(void, blend, (const REAL *x, idx step, idx tap, const REAL *weights, idx count, REAL *y, idx pixels, idx n))    \
    L(void, column_sums, (const REAL *x, REAL *sums, idx rows, idx n))                                                \
    L(void, column_moments, (const REAL *x, const REAL *shift, REAL *sums, REAL *squares, idx rows, idx n))           \
    L(void, column_products, (const REAL *x, const REAL *dy, const REAL *mean, REAL *sums, REAL *products, idx rows,  \
                              idx n))                                                                                 \
    L(void, normalize, (const REAL *x, const REAL *mean, const REAL *a, const REAL *b, REAL *y, idx count, idx n))    \
    L(void, normalize_grad, (const REAL *x, const REAL *dy, const REAL *mean, const REAL *a, const REAL *b,           \
                             const REAL *c, REAL *dx, idx count, idx n))                                              \
    L(void, layer_norm, (const REAL *x, idx x_row, const REAL *gamma, const REAL *beta, REAL epsilon, REAL *y,        \
                         idx y_row, REAL *kept, idx kept_row, idx rows, idx n))                                       \
    L(void, layer_norm_grad, (const REAL *x, idx x_row, const REAL *dy, idx dy_row, const REAL *gamma,                \
                              const REAL *kept, idx kept_row, REAL *dx, idx dx_row, REAL *dgamma, REAL *dbeta,        \
                              idx rows, idx n))                                                                       \
    L(void, transpose, (const REAL *x, idx x_row, idx rows, idx columns, REAL *y, idx y_row))                         \
    L(void, row_product, (const REAL *x, idx d, const REAL *w, idx w_row, REAL *y, idx n))                            \
    L(void, kept_product, (const REAL *x, idx rows, const REAL *w, const uint32_t *keep, idx offset, REAL *y, idx n)) \
    L(void, kept_gradients, (const REAL *x, idx rows, const REAL *w, const REAL *dy, const uint32_t *keep,            \
                             idx offset, REAL *dw, REAL *dx, idx n))                                                  \
    L(int, from_u8, (const uint8_t *x, REAL *y, idx n))                                                               \
    L(int, from_i64, (const int64_t *x, REAL *y, idx n))                                                              \
    L(int, from_f32, (const float *x, REAL *y, idx n))                                                                \
    L(int, from_f64, (const double *x, REAL *y, idx n))                                                               \
    L(double, sum_absolute, (const REAL *x, idx n))                                                                   \
    L(void, add_slope, (const REAL *x, REAL a, REAL b, REAL *y, idx n))                                               \
    L(void, add_squares, (const REAL *x, double *sums, idx n))                                                        \
    L(void, scale_each, (REAL *x, const double *factors, idx n))                                                      \
    L(double, sum_squares, (const REAL *x, idx n))                                                                    \
    L(void, cut, (const REAL *x, REAL limit, REAL *y, idx n))                                                          \
    L(void, update_weights, (const Update *u, REAL *w, const REAL *gradient, REAL *a, REAL *b, REAL *c, REAL decay,   \
                             idx n))

/* Those that exist for float alone, or have nothing to do with the type. */
#define EACH_SINGLE_LEAF(L)                                                                                           \
    L(void, keep_bits, (uint32_t *keep, idx first, idx count, uint32_t threshold, uint64_t key, uint32_t step,        \
                        uint32_t stream))                                                                             \
    L(idx, drop_blocks, (uint32_t *keep, uint32_t *spare, idx size, idx column, idx row, idx block))                  \
    L(void, gaussian, (float *factor, idx first, idx count, float mean, float sigma, uint64_t key, uint32_t step,     \
                       uint32_t stream))                                                                              \
    L(int, multiply_adds, (idx n, float x, float y, float *lanes))                                                    \
    L(void, winograd_in, (int kind, int m, int r, float *const *pixels, float *v, idx step, idx channels))            \
    L(void, winograd_out, (int kind, int m, int r, const float *v, idx step, const float *bias, int relu,             \
                           float *const *pixels, idx channels))

#define POINTER(result, name, arguments) result (*name) arguments;
typedef struct { EACH_LEAF(POINTER, float) EACH_SINGLE_LEAF(POINTER) } Leaves_f32;
typedef struct { EACH_LEAF(POINTER, double) } Leaves_f64;
#undef POINTER

typedef struct {
    const char *name;
    const Leaves_f32 *f32;
    const Leaves_f64 *f64;
} Leaves;

/* Each module that calls leaves keeps its own pointer to the chosen table and sets it while it is imported. */
static const Leaves *LEAVES;
static inline void use_leaves(const Leaves *chosen) { LEAVES = chosen; }

/* Asks for the lines of memory that will be read soon. */
static inline void fetch_ahead(const void *p, idx bytes)
{
#if defined(__GNUC__)
    for (idx i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)p + i);
#else
    (void)p;
    (void)bytes;
#endif
}

#define FOR(p, leaf)                                                                                                  \
    _Generic((p), float *: LEAVES->f32->leaf, const float *: LEAVES->f32->leaf, double *: LEAVES->f64->leaf,          \
             const double *: LEAVES->f64->leaf)

#define tiles(t, m, n, A, B, bias, C) FOR(C, tiles)(t, m, n, A, B, bias, C)
#define depthwise(t, x, w, bias, y) FOR(y, depthwise)(t, x, w, bias, y)
#define depthwise_gradient(t, x, dy, w) FOR(w, depthwise_gradient)(t, x, dy, w)
#define add_to(x, y, n) FOR(y, add_to)(x, y, n)
#define plus(relu, x, y, z, n) FOR(z, plus)(relu, x, y, z, n)
#define overlap_add(x, y, rows, step, n) FOR(y, overlap_add)(x, y, rows, step, n)
#define affine(x, a, b, y, n) FOR(y, affine)(x, a, b, y, n)
#define mask_scale(x, keep, offset, scale, y, n) FOR(y, mask_scale)(x, keep, offset, scale, y, n)
#define keep_bits(keep, first, count, threshold, key, step, stream)                                                   \
    LEAVES->f32->keep_bits(keep, first, count, threshold, key, step, stream)
#define mask_shift(keep, offset, shift, dropped, y, n) FOR(y, mask_shift)(keep, offset, shift, dropped, y, n)
#define drop_blocks(keep, spare, size, column, row, block)                                                            \
    LEAVES->f32->drop_blocks(keep, spare, size, column, row, block)
#define times(x, factor, y, n) FOR(y, times)(x, factor, y, n)
#define add_scaled(x, a, z, y, n) FOR(y, add_scaled)(x, a, z, y, n)
#define gaussian(factor, first, count, mean, sigma, key, step, stream)                                                \
    LEAVES->f32->gaussian(factor, first, count, mean, sigma, key, step, stream)
#define winograd_in(kind, m, r, pixels, v, step, channels)                                                            \
    LEAVES->f32->winograd_in(kind, m, r, pixels, v, step, channels)
#define winograd_out(kind, m, r, v, step, bias, relu, pixels, channels)                                               \
    LEAVES->f32->winograd_out(kind, m, r, v, step, bias, relu, pixels, channels)
#define activate(f, x, y, n) FOR(y, activate)(f, x, y, n)
#define activate_grad(f, s, dy, dx, n) FOR(dx, activate_grad)(f, s, dy, dx, n)
#define prelu(x, alpha, y, count, n) FOR(y, prelu)(x, alpha, y, count, n)
#define prelu_grad(x, dy, alpha, dx, sums, count, n) FOR(sums, prelu_grad)(x, dy, alpha, dx, sums, count, n)
#define softmax_rows(x, y, rows, n) FOR(y, softmax_rows)(x, y, rows, n)
#define softmax_row(x, y, n, scale, rest) FOR(y, softmax_row)(x, y, n, scale, rest)
#define softmax_rows_grad(y, dy, dx, rows, n) FOR(dx, softmax_rows_grad)(y, dy, dx, rows, n)
#define log_softmax_rows(x, y, rows, n) FOR(y, log_softmax_rows)(x, y, rows, n)
#define log_softmax_rows_grad(y, dy, dx, rows, n) FOR(dx, log_softmax_rows_grad)(y, dy, dx, rows, n)
#define max_windows(v, x, y, winner) FOR(y, max_windows)(v, x, y, winner)
#define average_windows(v, share, x, y) FOR(y, average_windows)(v, share, x, y)
#define max_spread(v, dy, winner, dx) FOR(dx, max_spread)(v, dy, winner, dx)
#define average_spread(v, share, dy, dx) FOR(dx, average_spread)(v, share, dy, dx)
#define max_gather(g, row, edge, dy, winner, dx) FOR(dx, max_gather)(g, row, edge, dy, winner, dx)
#define average_gather(g, row, edge, dy, dx) FOR(dx, average_gather)(g, row, edge, dy, dx)
#define stretch(x, weights, times, y, pixels, n) FOR(y, stretch)(x, weights, times, y, pixels, n)
#define blend(x, step, tap, weights, count, y, pixels, n) FOR(y, blend)(x, step, tap, weights, count, y, pixels, n)
#define column_sums(x, sums, rows, n) FOR(sums, column_sums)(x, sums, rows, n)
#define column_moments(x, shift, sums, squares, rows, n)                                                              \
    FOR(sums, column_moments)(x, shift, sums, squares, rows, n)
#define column_products(x, dy, mean, sums, products, rows, n)                                                         \
    FOR(sums, column_products)(x, dy, mean, sums, products, rows, n)
#define normalize(x, mean, a, b, y, count, n) FOR(y, normalize)(x, mean, a, b, y, count, n)
#define normalize_grad(x, dy, mean, a, b, c, dx, count, n) FOR(dx, normalize_grad)(x, dy, mean, a, b, c, dx, count, n)
#define layer_norm(x, x_row, gamma, beta, epsilon, y, y_row, kept, kept_row, rows, n)                                 \
    FOR(y, layer_norm)(x, x_row, gamma, beta, epsilon, y, y_row, kept, kept_row, rows, n)
#define layer_norm_grad(x, x_row, dy, dy_row, gamma, kept, kept_row, dx, dx_row, dgamma, dbeta, rows, n)              \
    FOR(dx, layer_norm_grad)(x, x_row, dy, dy_row, gamma, kept, kept_row, dx, dx_row, dgamma, dbeta, rows, n)
#define transpose(x, x_row, rows, columns, y, y_row) FOR(y, transpose)(x, x_row, rows, columns, y, y_row)
#define row_product(x, d, w, w_row, y, n) FOR(y, row_product)(x, d, w, w_row, y, n)
#define kept_product(x, rows, w, keep, offset, y, n) FOR(y, kept_product)(x, rows, w, keep, offset, y, n)
#define kept_gradients(x, rows, w, dy, keep, offset, dw, dx, n)                                                       \
    FOR(dw, kept_gradients)(x, rows, w, dy, keep, offset, dw, dx, n)
#define from_u8(x, y, n) FOR(y, from_u8)(x, y, n)
#define from_i64(x, y, n) FOR(y, from_i64)(x, y, n)
#define from_f32(x, y, n) FOR(y, from_f32)(x, y, n)
#define from_f64(x, y, n) FOR(y, from_f64)(x, y, n)
#define sum_absolute(x, n) FOR(x, sum_absolute)(x, n)
#define add_slope(x, a, b, y, n) FOR(y, add_slope)(x, a, b, y, n)
#define add_squares(x, sums, n) FOR(x, add_squares)(x, sums, n)
#define scale_each(x, factors, n) FOR(x, scale_each)(x, factors, n)
#define sum_squares(x, n) FOR(x, sum_squares)(x, n)
#define cut(x, limit, y, n) FOR(y, cut)(x, limit, y, n)
#define update_weights(u, w, gradient, a, b, c, decay, n)                                                             \
    FOR(w, update_weights)(u, w, gradient, a, b, c, decay, n)

#endif
