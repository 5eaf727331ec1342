/* winograd.h: the five transforms of Winograd's convolution F(m x m, r x r) (Lavin and Gray, "Fast algorithms for
 * convolutional neural networks", 2016; and the transposed algorithm for the gradient of the kernel).
 *
 *     Y = A^T [ (G g G^T) . (B^T d B) ] A          d: n x n pixels (n = m + r - 1), g: the kernel, Y: m x m results
 *     dg = G^T [ (A dY A^T) . (B^T d B) ] G        . element by element, summed over channels or over tiles
 *
 * All of it follows from n - 1 points and infinity.  With  N_i = product of (p_i - p_j) over the other points:
 *
 *     A[i, k] = p_i^k        G[i, k] = p_i^k / N_i        B^T[i, k]: the coefficient of x^k in the product of (x - p_j)
 *     in the row of infinity  A and G have a 1 in their last column, and the product is over all points
 *
 * The points are 0 and pairs +-p, so that rows come in pairs too: those of A and G are e(p^2) +- p o(p^2), with e the even
 * and o the odd powers, and in B^T  x (x +- p) Q(x^2), with Q the product of (x^2 - q^2) over the other pairs.
 *
 * A vector holds one element of the square for as many channels as it has lanes.  Lines are transformed one by one: first
 * all columns, then all rows.  Every sum has a fixed order: the result does not depend on the width of the vectors.
 */

#ifndef MINICNN_POINTS
#define MINICNN_POINTS
typedef struct {
    double p[3];         /* one of each pair */
    double q[3][3];      /* of each pair: Q's coefficients, from the constant on */
    double all[4];       /* of the product of (x^2 - p^2) over all pairs; the constant is N of the point 0 */
    double share[3];     /* 1 / N of each pair */
} Points;
#define LESS(a, b) ((a) * (a) - (b) * (b))
#define SHARE(p, others) 1 / (2 * (p) * (p) * (others))
/* The points for 1, 2 and 3 pairs: n = 4, 6 and 8.  Those that make the smallest errors are near 1, apart from each other,
 * and have squares that are exact in float (docs/kernels.md). */
#define PAIR_1(a) {{a}, {{1}}, {-(a) * (a), 1}, {SHARE(a, 1)}}
#define OF_TWO(a, b) {(a) * (a) * (b) * (b), -((a) * (a) + (b) * (b)), 1} /* (x^2 - a^2) (x^2 - b^2) */
#define PAIRS_2(a, b)                                                                                                 \
    {{a, b}, {{-(b) * (b), 1}, {-(a) * (a), 1}}, OF_TWO(a, b), {SHARE(a, LESS(a, b)), SHARE(b, LESS(b, a))}}
#define PAIRS_3(a, b, c)                                                                                              \
    {{a, b, c}, {OF_TWO(b, c), OF_TWO(a, c), OF_TWO(a, b)},                                                           \
     {-(a) * (a) * (b) * (b) * (c) * (c), (a) * (a) * (b) * (b) + (a) * (a) * (c) * (c) + (b) * (b) * (c) * (c),      \
      -((a) * (a) + (b) * (b) + (c) * (c)), 1},                                                                       \
     {SHARE(a, LESS(a, b) * LESS(a, c)), SHARE(b, LESS(b, a) * LESS(b, c)), SHARE(c, LESS(c, a) * LESS(c, b))}}
static const Points POINTS[] = {PAIR_1(1.), PAIRS_2(0.75, 1.5), PAIRS_3(0.5, 1., 2.)};
#undef LESS
#undef SHARE
#undef PAIR_1
#undef PAIRS_2
#undef PAIRS_3
#undef OF_TWO
#endif

#define PAIRS UNROLL(3) for (int j = 0; j < (n - 2) / 2; j++)
#define KNOWN(x) SPLAT((REAL)(x)) /* a constant, where n is one */

/* y = B^T x */
TARGET INLINE void NAME(b_t)(const int n, const VEC *x, VEC *y)
{
    const Points *t = &POINTS[n / 2 - 2];
    VEC first = x[n - 2], last = x[n - 1];
    UNROLL(3) for (int k = 0; k < (n - 2) / 2; k++) {
        first = FMA_VEC(KNOWN(t->all[k]), x[2 * k], first);
        last = FMA_VEC(KNOWN(t->all[k]), x[2 * k + 1], last);
    }
    y[0] = first;
    PAIRS {
        VEC even = x[n - 2], odd = x[n - 3];
        UNROLL(2) for (int k = 0; k < (n - 4) / 2; k++) {
            even = FMA_VEC(KNOWN(t->q[j][k]), x[2 * k + 2], even);
            odd = FMA_VEC(KNOWN(t->q[j][k]), x[2 * k + 1], odd);
        }
        y[2 * j + 1] = FMA_VEC(KNOWN(t->p[j]), odd, even);
        y[2 * j + 2] = FMA_VEC(KNOWN(-t->p[j]), odd, even);
    }
    y[n - 1] = last;
}

/* y = A x, the values at all points of a polynomial with `count` coefficients; with `shares` each times 1 / N: y = G x */
TARGET INLINE void NAME(values)(const int n, const int count, const int shares, const VEC *x, VEC *y)
{
    const Points *t = &POINTS[n / 2 - 2];
    y[0] = x[0];
    if (shares) y[0] *= KNOWN(1 / t->all[0]);
    PAIRS {
        VEC even = x[(count - 1) / 2 * 2], odd = x[count / 2 * 2 - 1];
        UNROLL(2) for (int k = (count - 1) / 2 * 2 - 2; k >= 0; k -= 2)
            even = FMA_VEC(KNOWN(t->p[j] * t->p[j]), even, x[k]);
        UNROLL(2) for (int k = count / 2 * 2 - 3; k >= 0; k -= 2)
            odd = FMA_VEC(KNOWN(t->p[j] * t->p[j]), odd, x[k]);
        y[2 * j + 1] = FMA_VEC(KNOWN(t->p[j]), odd, even);
        y[2 * j + 2] = FMA_VEC(KNOWN(-t->p[j]), odd, even);
        if (shares) y[2 * j + 1] *= KNOWN(t->share[j]), y[2 * j + 2] *= KNOWN(t->share[j]);
    }
    y[n - 1] = x[count - 1];
}

/* y = A^T x, `count` elements; with `shares` y = G^T x */
TARGET INLINE void NAME(coefficients)(const int n, const int count, const int shares, const VEC *x, VEC *y)
{
    const Points *t = &POINTS[n / 2 - 2];
    VEC first = x[0], sums[2][3];
    if (shares) first *= KNOWN(1 / t->all[0]);
    PAIRS {
        sums[0][j] = x[2 * j + 1] + x[2 * j + 2];
        sums[1][j] = x[2 * j + 1] - x[2 * j + 2];
        if (shares) sums[0][j] *= KNOWN(t->share[j]), sums[1][j] *= KNOWN(t->share[j]);
    }
    UNROLL(5) for (int k = 0; k < count; k++) {
        VEC sum = k ? x[n - 1] : first;
        PAIRS {
            double power = 1;
            UNROLL(5) for (int i = 0; i < k; i++) power *= t->p[j];
            if (j == 0 && k > 0 && k < count - 1) sum = KNOWN(power) * sums[k % 2][j];
            else sum = FMA_VEC(KNOWN(power), sums[k % 2][j], sum);
        }
        y[k] = sum;
    }
}
#undef PAIRS
#undef KNOWN

/* T d T^T with T = LINE: columns of d, whose elements READ(i) gives, then rows, whose elements WRITE(i, value) takes.  The
 * loops over lines stay loops: there are more elements than registers, and a copy for each line is slower and long. */
#define SQUARE(LINE, from, to, READ, WRITE)                                                                           \
    do {                                                                                                              \
        VEC rows[8][8], line[8], done[8];                                                                             \
        UNROLL(1) for (int q = 0; q < (from); q++) {                                                                  \
            UNROLL(8) for (int r = 0; r < (from); r++) line[r] = READ(r * (from) + q);                                \
            LINE(line, done);                                                                                         \
            UNROLL(8) for (int r = 0; r < (to); r++) rows[r][q] = done[r];                                            \
        }                                                                                                             \
        UNROLL(1) for (int r = 0; r < (to); r++) {                                                                    \
            UNROLL(8) for (int q = 0; q < (from); q++) line[q] = rows[r][q];                                          \
            LINE(line, done);                                                                                         \
            UNROLL(8) for (int q = 0; q < (to); q++) WRITE(r * (to) + q, done[q]);                                    \
        }                                                                                                             \
    } while (0)

/* Channels in vectors.  A part of one is taken through a mask where that is free; else the last vector begins where it
 * just fits, and what it shares with the one before is done twice: there must be as many channels as lanes. */
#ifdef FREE_MASKS
#define CHANNELS(c) for (idx c = 0; c < channels; c += VL)
#define USE_MASK(c) const MASK mask = MASK_OF(channels - (c));
#define TAKE(p) LOAD_PART(p, mask)
#define GIVE(p, x) STORE_PART(p, mask, x)
#else
#define CHANNELS(c) for (idx c = 0, end = 0; end < channels; end += VL, c = end > channels - VL ? channels - VL : end)
#define USE_MASK(c)
#define TAKE(p) LOAD(p)
#define GIVE(p, x) STORE(p, x)
#endif

/* v[k * step + c] = (T d T^T)[k] for d[i] = pixels[i][c], c < channels */
#define READ(i) TAKE(pixels[i] + c)
#define WRITE(k, value) GIVE(v + (k) * step + c, value)
#define B_T(x, y) NAME(b_t)(n, x, y)
#define A(x, y) NAME(values)(n, m, 0, x, y)
#define G(x, y) NAME(values)(n, r_, 1, x, y)
TARGET INLINE void NAME(into_domain)(const int kind, const int m, const int r_, float *const *pixels, float *v,
                                     idx step, idx channels)
{
    const int n = m + r_ - 1;
    CHANNELS(c) {
        USE_MASK(c)
        if (kind == OF_IMAGE) SQUARE(B_T, n, n, READ, WRITE);
        else if (kind == OF_GRADIENT) SQUARE(A, m, n, READ, WRITE);
        else SQUARE(G, r_, n, READ, WRITE);
    }
}
#undef READ
#undef WRITE
#undef B_T
#undef A
#undef G

/* pixels[i][c] = f((T v T^T)[i] + bias[c]) for v[k * step + c]; f is ReLU or nothing, bias may be NULL */
#define READ(k) TAKE(v + (k) * step + c)
#define WRITE(i, value)                                                                                               \
    do {                                                                                                              \
        VEC sum = (value) + b;                                                                                        \
        if (relu) sum = RELU_VEC(sum);                                                                                \
        GIVE(pixels[i] + c, sum);                                                                                     \
    } while (0)
#define A_T(x, y) NAME(coefficients)(n, m, 0, x, y)
#define G_T(x, y) NAME(coefficients)(n, r_, 1, x, y)
TARGET INLINE void NAME(out_of_domain)(const int kind, const int m, const int r_, const float *v, idx step,
                                       const float *bias, int relu, float *const *pixels, idx channels)
{
    const int n = m + r_ - 1;
    CHANNELS(c) {
        USE_MASK(c)
        VEC b = SPLAT(0);
        if (bias) b = TAKE(bias + c);
        if (kind == TO_IMAGE) SQUARE(A_T, n, m, READ, WRITE);
        else SQUARE(G_T, n, r_, READ, WRITE);
    }
}
#undef READ
#undef WRITE
#undef A_T
#undef G_T
#undef SQUARE
#undef CHANNELS
#undef USE_MASK
#undef TAKE
#undef GIVE

/* One function for each transform and algorithm. */
#define INTO(m, r) NAME(into_domain)(kind, m, r, pixels, v, step, channels)
#define OUT(m, r) NAME(out_of_domain)(kind, m, r, v, step, bias, relu, pixels, channels)
#define EACH_ALGORITHM(DO)                                                                                            \
    if (r == 5) DO(4, 5);                                                                                             \
    else if (m == 4) DO(4, 3);                                                                                        \
    else DO(2, 3);
LEAF NAME(winograd_in)(int kind, int m, int r, float *const *pixels, float *v, idx step, idx channels)
{
    EACH_ALGORITHM(INTO)
}

LEAF NAME(winograd_out)(int kind, int m, int r, const float *v, idx step, const float *bias, int relu,
                        float *const *pixels, idx channels)
{
    EACH_ALGORITHM(OUT)
}
#undef INTO
#undef OUT
#undef EACH_ALGORITHM
