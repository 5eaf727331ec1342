/* leaf.h: WHAT the kernels compute, one contiguous run at a time: no threads, no allocation, no Python.
 *
 * Included by simd.h once per instruction set and type (REAL is float or double).  A leaf is a plain loop that the
 * compiler vectorises; where the order of a sum matters it is fixed by the text, never by the width of the vectors.
 * FMA(a, b, c) is a*b + c with one rounding where the set has it, so that AVX2 and AVX-512 give the same bits.
 */
DECLARE_VECTOR

#ifdef PARTS_THROUGH_MEMORY /* no masked loads: a part of a vector is copied, `mask` is its number of lanes */
#define MASK idx
#define MASK_OF(n) ((n) < VL ? (n) : VL)
#define LOAD_PART(p, mask) NAME(load_part)(p, mask)
#define STORE_PART(p, mask, v) NAME(store_part)(p, mask, v)
INLINE VEC NAME(load_part)(const REAL *p, idx n)
{
    REAL lanes[VL];
    for (idx l = 0; l < VL; l++) lanes[l] = l < n ? p[l] : 0;
    return LOAD(lanes);
}
INLINE void NAME(store_part)(REAL *p, idx n, VEC v)
{
    REAL lanes[VL];
    STORE(lanes, v);
    for (idx l = 0; l < n; l++) p[l] = lanes[l];
}
#endif

#include "tile.h"
#include "matrix.h"
#ifdef SINGLE
#include "peak.h"
#endif

#define LEAF TARGET NOINLINE static void
#define LOOP for (idx i = 0; i < n; i++)
#define ROWS for (idx r = 0; r < rows; r++)

/* ---- plain arithmetic ---- */

/* y += x * w */
LEAF NAME(multiply_add)(const REAL *RESTRICT x, const REAL *RESTRICT w, REAL *RESTRICT y, idx n)
{
    LOOP y[i] = FMA(x[i], w[i], y[i]);
}

/* y += x */
LEAF NAME(add)(const REAL *RESTRICT x, REAL *RESTRICT y, idx n)
{
    LOOP y[i] += x[i];
}

/* y += a x */
LEAF NAME(add_scaled)(const REAL *RESTRICT x, REAL a, REAL *RESTRICT y, idx n)
{
    LOOP y[i] = FMA(a, x[i], y[i]);
}

/* y = a x + b */
LEAF NAME(affine)(const REAL *RESTRICT x, REAL a, REAL b, REAL *RESTRICT y, idx n)
{
    LOOP y[i] = FMA(a, x[i], b);
}

/* ---- dropout ---- */

/* y = x * scale where the bit of `keep` is set, else exactly 0 (selected, not multiplied: 0 for inf and NaN as well);
 * element i has bit offset + i.  One loop for forward (x -> y) and for backward (dy -> dx). */
LEAF NAME(mask_scale)(const REAL *RESTRICT x, const uint32_t *RESTRICT keep, idx offset, REAL scale, REAL *RESTRICT y,
                      idx n)
{
    idx i = 0;
    for (; i < n && (offset + i) % 32; i++) y[i] = keep[(offset + i) / 32] >> ((offset + i) % 32) & 1 ? x[i] * scale : 0;
    for (keep += (offset + i) / 32; i + 32 <= n; i += 32) {
        const uint32_t bits = *keep++;
        for (uint32_t b = 0; b < 32; b++) y[i + b] = bits >> b & 1 ? x[i + b] * scale : 0;
    }
    for (uint32_t b = 0; i < n; i++, b++) y[i] = *keep >> b & 1 ? x[i] * scale : 0;
}

/* ---- activations ---- */

#ifdef SINGLE
/* Own functions in single precision, so that a loop over them is vectorised and rounds alike everywhere.  NaN passes
 * through.  The polynomial of exp is that of S. Moshier's Cephes library (expf.c). */

/* exp(r) - 1 for |r| <= ln(2)/2 */
TARGET INLINE float ISA(expm1_near_0_)(float r)
{
    float p = 1.9875691500e-4f;
    p = FMA(p, r, 1.3981999507e-3f);
    p = FMA(p, r, 8.3334519073e-3f);
    p = FMA(p, r, 4.1665795894e-2f);
    p = FMA(p, r, 1.6666665459e-1f);
    p = FMA(p, r, 5.0000001201e-1f);
    return FMA(p, r * r, r);
}
/* exp(r) - 1 with x = k ln(2) + r, and 2^(k + up), which must not be subnormal, in `power` */
TARGET INLINE float ISA(split_)(float x, uint32_t up, float *power)
{
    const float rounder = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded to an integer, its lowest bits */
    union { float f; uint32_t i; } shifted = {FMA(x, 1.44269504088896341f, rounder)};
    const float k = shifted.f - rounder;
    const float r = FMA(k, 2.12194440e-4f, FMA(k, -0.693359375f, x));
    shifted.i = (shifted.i + up + 127) << 23;
    *power = shifted.f;
    return ISA(expm1_near_0_)(r);
}
/* exp(x) for x <= 0, with all that is subnormal */
TARGET INLINE float ISA(exp_)(float x)
{
    float power;
    const float p = ISA(split_)(x < -104.0f ? -104.0f : x, 24, &power);
    return (1.0f + p) * power * 5.9604644775390625e-8f; /* 2^-24 */
}
/* exp(x) - 1 for x <= 0 */
TARGET INLINE float ISA(expm1_)(float x)
{
    float power;
    const float p = ISA(split_)(x < -87.0f ? -87.0f : x, 0, &power);
    return FMA(power, p, power - 1.0f);
}
/* tanh |x| = (1 - e) / (1 + e) with e = exp(-2 |x|) */
TARGET INLINE float ISA(tanh_)(float x)
{
    const float m = ISA(expm1_)(-2.0f * fabsf(x));
    return copysignf(m / (m + 2.0f), x);
}
/* Phi(x), the normal distribution, and exp(-x^2 / 2).  Below 0 it is exp(-t^2 / 2) R(t) with t = -x; R is a polynomial of
 * our own in w = 1 / (1 + 0.3 t), fitted for the smallest relative error on [0, 14.5], where Phi ends in single precision.
 * Within 6e-7 relative down to 2^-126. */
TARGET INLINE float ISA(normal_)(float x, float *power)
{
    const float t = fabsf(x) > 15.0f ? 15.0f : fabsf(x), w = 1.0f / FMA(0.3f, t, 1.0f), square = t * t;
    float p = 3.8407404e-2f;
    p = FMA(p, w, -1.69307514e-1f);
    p = FMA(p, w, 2.2895188e-1f);
    p = FMA(p, w, -7.68397695e-2f);
    p = FMA(p, w, 1.42765343e-1f);
    p = FMA(p, w, 9.45858371e-2f);
    p = FMA(p, w, 1.21945269e-1f);
    p = FMA(p, w, 1.19484206e-1f);
    p = FMA(p, w, 7.37242969e-6f);
    const float e = ISA(exp_)(-0.5f * square), lost = FMA(t, t, -square); /* of t^2 by rounding */
    *power = FMA(e, -0.5f * lost, e);
    return x < 0 ? p * *power : 1.0f - p * *power;
}
#define EXP ISA(exp_)
#define EXPM1 ISA(expm1_)
#define TANH_ ISA(tanh_)
#define NORMAL ISA(normal_)
#define SQRT sqrtf
#define FABS fabsf
#else
TARGET INLINE double ISA(normal_f64_)(double x, double *power)
{
    *power = exp(-0.5 * x * x);
    return 0.5 * erfc(-x * 0.70710678118654752440);
}
#define EXP exp
#define EXPM1 expm1
#define TANH_ tanh
#define NORMAL ISA(normal_f64_)
#define SQRT sqrt
#define FABS fabs
#endif

#define INV_SQRT_2PI ((REAL)0.39894228040143267794)
#define GELU_END ((REAL)40) /* below -40 x Phi(x) is 0 in double too, and -inf * 0 is no limit */

/* y = f(x), in place too.  A NaN stays a NaN. */
LEAF NAME(activate)(int kind, REAL slope, const REAL *x, REAL *y, idx n)
{
    switch (kind) {
    case RELU: LOOP y[i] = x[i] < 0 ? 0 : x[i]; break;
    case LEAKY_RELU: LOOP y[i] = x[i] < 0 ? slope * x[i] : x[i]; break;
    case ELU: LOOP y[i] = x[i] < 0 ? EXPM1(x[i]) : x[i]; break;
    case GELU:
        LOOP {
            REAL power;
            const REAL share = NORMAL(x[i], &power);
            y[i] = x[i] < -GELU_END ? 0 : x[i] * share;
        }
        break;
    case SIGMOID:
        LOOP {
            const REAL e = EXP(-FABS(x[i]));
            y[i] = (x[i] < 0 ? e : 1) / (1 + e);
        }
        break;
    case TANH: LOOP y[i] = TANH_(x[i]); break;
    default: if (y != x) LOOP y[i] = x[i];
    }
}

/* dx = dy f'(x), from s: the output y = f(x), or for GELU the input x; dx may be dy. */
LEAF NAME(activate_grad)(int kind, REAL slope, const REAL *s, const REAL *dy, REAL *dx, idx n)
{
    switch (kind) {
    case RELU: LOOP dx[i] = s[i] > 0 ? dy[i] : 0; break;
    case LEAKY_RELU: LOOP dx[i] = s[i] > 0 ? dy[i] : slope * dy[i]; break;
    case ELU: LOOP dx[i] = s[i] > 0 ? dy[i] : dy[i] * (s[i] + 1); break;
    case GELU:
        LOOP {
            const REAL inside = s[i] < -GELU_END ? -GELU_END : s[i] > GELU_END ? GELU_END : s[i];
            REAL power;
            const REAL share = NORMAL(inside, &power);
            dx[i] = dy[i] * FMA(inside, power * INV_SQRT_2PI, share);
        }
        break;
    case SIGMOID: LOOP dx[i] = dy[i] * (s[i] * (1 - s[i])); break;
    case TANH: LOOP dx[i] = dy[i] * (1 - s[i] * s[i]); break;
    default: if (dx != dy) LOOP dx[i] = dy[i];
    }
}

#define EACH_LANE for (int l = 0; l < 16; l++)

/* The largest of x, in 16 lanes; a NaN may be passed over. */
TARGET INLINE REAL NAME(highest)(const REAL *x, idx n)
{
    REAL lanes[16], found = x[0];
    idx i = 0;
    EACH_LANE lanes[l] = found;
    for (; i + 16 <= n; i += 16) EACH_LANE lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
    for (; i < n; i++) found = x[i] > found ? x[i] : found;
    EACH_LANE found = lanes[l] > found ? lanes[l] : found;
    return found;
}

/* The sum of those below 1, in double, in 16 lanes that are added in order; and how many are 1 or more. */
TARGET INLINE double NAME(sum_below_1)(const REAL *x, idx n, idx *ones)
{
    double lanes[16] = {0}, sum = 0;
    idx i = 0, count = 0;
    LOOP count += x[i] >= 1;
    for (; i + 16 <= n; i += 16) EACH_LANE lanes[l] += x[i + l] >= 1 ? 0 : x[i + l];
    for (int l = 0; i < n; i++, l++) lanes[l] += x[i] >= 1 ? 0 : x[i];
    EACH_LANE sum += lanes[l];
    *ones = count;
    return sum;
}

/* y = scale exp(x - max) / sum exp(x - max) for a row of n.  Returns max; `rest` is the sum without one term that is 1,
 * so that log1p(rest) is exact where the others are tiny. */
TARGET NOINLINE static REAL NAME(softmax_row)(const REAL *x, REAL *y, idx n, double scale, double *rest)
{
    const REAL highest = NAME(highest)(x, n);
    idx ones;
    LOOP y[i] = EXP(x[i] - highest);
    *rest = NAME(sum_below_1)(y, n, &ones);
    *rest += (double)(ones - 1);
    const REAL factor = (REAL)(scale / (1 + *rest));
    LOOP y[i] *= factor;
    return highest;
}

/* sum x in double, in 16 lanes that are added in order */
TARGET INLINE double NAME(sum)(const REAL *x, idx n)
{
    double lanes[16] = {0}, sum = 0;
    idx i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++) lanes[l] += (double)x[i + l];
    for (; i < n; i++) sum += (double)x[i];
    if (n >= 16)
        for (int l = 0; l < 16; l++) sum += lanes[l];
    return sum;
}

/* sum x y, the same way */
TARGET INLINE double NAME(dot)(const REAL *x, const REAL *y, idx n)
{
    double lanes[16] = {0}, sum = 0;
    idx i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++) lanes[l] += (double)x[i + l] * y[i + l];
    for (; i < n; i++) sum += (double)x[i] * y[i];
    if (n >= 16)
        for (int l = 0; l < 16; l++) sum += lanes[l];
    return sum;
}

/* y = exp(x - max) / sum exp(x - max), row by row of n; rows of few elements are exponentiated together */
LEAF NAME(softmax)(const REAL *x, REAL *y, idx rows, idx n)
{
    const idx most = n < 512 ? 1024 / n : 1;
    while (rows > 0) {
        const idx some = rows < most ? rows : most;
        for (idx r = 0; r < some; r++) {
            const REAL highest = NAME(highest)(x + r * n, n);
            for (idx i = r * n; i < (r + 1) * n; i++) y[i] = x[i] - highest;
        }
        for (idx i = 0; i < some * n; i++) y[i] = EXP(y[i]);
        for (idx r = 0; r < some; r++) {
            const REAL inverse = (REAL)(1 / NAME(sum)(y + r * n, n));
            for (idx i = r * n; i < (r + 1) * n; i++) y[i] *= inverse;
        }
        x += some * n;
        y += some * n;
        rows -= some;
    }
}

/* dx = y (dy - sum dy y), row by row */
LEAF NAME(softmax_grad)(const REAL *y, const REAL *dy, REAL *dx, idx rows, idx n)
{
    ROWS {
        const REAL mean = (REAL)NAME(dot)(dy, y, n);
        LOOP dx[i] = y[i] * (dy[i] - mean);
        y += n;
        dy += n;
        dx += n;
    }
}

#include "pool.h"

/* ---- sums over rows, one chain per column; batch normalisation ----
 * A row of few columns fills no vector, and its sums would wait for each other.  So several rows side by side are taken
 * as one long row (`wide` in leaves.h), whose sums are added in halves at the end.  The loops take four short rows at a
 * time: the sums are then read and written a quarter as often as x.  Not of long ones: memory is read in order, or at half
 * its speed. */
#define FOUR_ROWS (n < 128 && count >= 4 * n)

/* sums[0..n) = the sums over the repetitions of n columns within w, w = n 2^k; overwrites the rest */
TARGET INLINE void NAME(fold)(REAL *sums, idx w, idx n)
{
    while (w > n) {
        w /= 2;
        for (idx i = 0; i < w; i++) sums[i] += sums[w + i];
    }
}

/* y[0..w) = x[0..n) over and over */
TARGET INLINE void NAME(repeat)(const REAL *x, idx n, REAL *y, idx w)
{
    for (idx i = 0; i < w; i += n)
        for (idx j = 0; j < n; j++) y[i + j] = x[j];
}

/* sums += sum of x, which has `count` elements in rows of n, the last one perhaps not whole */
TARGET INLINE void NAME(sums_wide)(const REAL *RESTRICT x, REAL *RESTRICT sums, idx count, idx n)
{
    for (; FOUR_ROWS; count -= 4 * n, x += 4 * n)
        LOOP sums[i] = sums[i] + x[i] + x[n + i] + x[2 * n + i] + x[3 * n + i];
    for (; count > 0; count -= n, x += n)
        for (idx i = 0; i < (n < count ? n : count); i++) sums[i] += x[i];
}

/* sums += sum_r x */
LEAF NAME(column_sums)(const REAL *RESTRICT x, REAL *RESTRICT sums, idx rows, idx n)
{
    REAL lanes[WIDEST];
    const idx w = wide(n);
    if (w == n) {
        NAME(sums_wide)(x, sums, rows * n, n);
        return;
    }
    for (idx i = 0; i < w; i++) lanes[i] = 0;
    NAME(sums_wide)(x, lanes, rows * n, w);
    NAME(fold)(lanes, w, n);
    LOOP sums[i] += lanes[i];
}

TARGET INLINE void NAME(moments_wide)(const REAL *RESTRICT x, const REAL *RESTRICT shift, REAL *RESTRICT sums,
                                      REAL *RESTRICT squares, idx count, idx n)
{
    for (; FOUR_ROWS; count -= 4 * n, x += 4 * n)
        LOOP {
            const REAL d0 = x[i] - shift[i], d1 = x[n + i] - shift[i], d2 = x[2 * n + i] - shift[i],
                       d3 = x[3 * n + i] - shift[i];
            sums[i] = sums[i] + d0 + d1 + d2 + d3;
            squares[i] = FMA(d3, d3, FMA(d2, d2, FMA(d1, d1, FMA(d0, d0, squares[i]))));
        }
    for (; count > 0; count -= n, x += n)
        for (idx i = 0; i < (n < count ? n : count); i++) {
            const REAL d = x[i] - shift[i];
            sums[i] += d;
            squares[i] = FMA(d, d, squares[i]);
        }
}

/* sums = sum_r d, squares = sum_r d^2 with d = x - shift */
LEAF NAME(column_moments)(const REAL *RESTRICT x, const REAL *RESTRICT shift, REAL *RESTRICT sums,
                          REAL *RESTRICT squares, idx rows, idx n)
{
    REAL shifts[WIDEST], s[WIDEST], q[WIDEST];
    const idx w = wide(n);
    if (w == n) {
        LOOP sums[i] = squares[i] = 0;
        NAME(moments_wide)(x, shift, sums, squares, rows * n, n);
        return;
    }
    NAME(repeat)(shift, n, shifts, w);
    for (idx i = 0; i < w; i++) s[i] = q[i] = 0;
    NAME(moments_wide)(x, shifts, s, q, rows * n, w);
    NAME(fold)(s, w, n);
    NAME(fold)(q, w, n);
    LOOP sums[i] = s[i];
    LOOP squares[i] = q[i];
}

TARGET INLINE void NAME(products_wide)(const REAL *RESTRICT x, const REAL *RESTRICT dy, const REAL *RESTRICT mean,
                                       REAL *RESTRICT sums, REAL *RESTRICT products, idx count, idx n)
{
    for (; FOUR_ROWS; count -= 4 * n, x += 4 * n, dy += 4 * n)
        LOOP {
            const REAL d0 = x[i] - mean[i], d1 = x[n + i] - mean[i], d2 = x[2 * n + i] - mean[i],
                       d3 = x[3 * n + i] - mean[i];
            const REAL g0 = dy[i], g1 = dy[n + i], g2 = dy[2 * n + i], g3 = dy[3 * n + i];
            sums[i] = sums[i] + g0 + g1 + g2 + g3;
            products[i] = FMA(d3, g3, FMA(d2, g2, FMA(d1, g1, FMA(d0, g0, products[i]))));
        }
    for (; count > 0; count -= n, x += n, dy += n)
        for (idx i = 0; i < (n < count ? n : count); i++) {
            sums[i] += dy[i];
            products[i] = FMA(x[i] - mean[i], dy[i], products[i]);
        }
}

/* sums = sum_r dy, products = sum_r (x - mean) dy */
LEAF NAME(column_products)(const REAL *RESTRICT x, const REAL *RESTRICT dy, const REAL *RESTRICT mean,
                           REAL *RESTRICT sums, REAL *RESTRICT products, idx rows, idx n)
{
    REAL means[WIDEST], s[WIDEST], p[WIDEST];
    const idx w = wide(n);
    if (w == n) {
        LOOP sums[i] = products[i] = 0;
        NAME(products_wide)(x, dy, mean, sums, products, rows * n, n);
        return;
    }
    NAME(repeat)(mean, n, means, w);
    for (idx i = 0; i < w; i++) s[i] = p[i] = 0;
    NAME(products_wide)(x, dy, means, s, p, rows * n, w);
    NAME(fold)(s, w, n);
    NAME(fold)(p, w, n);
    LOOP sums[i] = s[i];
    LOOP products[i] = p[i];
}

/* y = a (x - mean) + b for `count` elements; mean, a, b: n values each, of n columns or of n / c rows of c columns */
LEAF NAME(normalize)(const REAL *RESTRICT x, const REAL *RESTRICT mean, const REAL *RESTRICT a,
                     const REAL *RESTRICT b, REAL *RESTRICT y, idx count, idx n)
{
    for (; count > 0; count -= n, x += n, y += n)
        for (idx i = 0; i < (n < count ? n : count); i++) y[i] = FMA(a[i], x[i] - mean[i], b[i]);
}

/* dx = a dy - b (x - mean) - c, the same way */
LEAF NAME(normalize_grad)(const REAL *RESTRICT x, const REAL *RESTRICT dy, const REAL *RESTRICT mean,
                          const REAL *RESTRICT a, const REAL *RESTRICT b, const REAL *RESTRICT c, REAL *RESTRICT dx,
                          idx count, idx n)
{
    for (; count > 0; count -= n, x += n, dy += n, dx += n)
        for (idx i = 0; i < (n < count ? n : count); i++)
            dx[i] = FMA(a[i], dy[i], FMA(-b[i], x[i] - mean[i], -c[i]));
}

/* ---- numbers of a batch in the working type; 0 if one of them is not finite in it ---- */

#define CAST_FROM(T, name, CHECKED)                                                                                   \
    TARGET NOINLINE static int NAME(name)(const T *RESTRICT x, REAL *RESTRICT y, idx n)                               \
    {                                                                                                                 \
        int bad = 0;                                                                                                  \
        LOOP {                                                                                                        \
            const REAL value = (REAL)x[i];                                                                            \
            y[i] = value;                                                                                             \
            if (CHECKED) bad |= !(value - value == 0);                                                                \
        }                                                                                                             \
        return !bad;                                                                                                  \
    }
CAST_FROM(uint8_t, from_u8, 0)
CAST_FROM(int64_t, from_i64, 0)
CAST_FROM(float, from_f32, 1)
CAST_FROM(double, from_f64, 1)
#undef CAST_FROM

/* ---- optimisers ---- */

/* sum x^2 in double, in 16 lanes that are added in order */
TARGET NOINLINE static double NAME(sum_squares)(const REAL *x, idx n)
{
    double lanes[16] = {0}, sum = 0;
    idx i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++) lanes[l] += (double)x[i + l] * x[i + l];
    for (int l = 0; i < n; i++, l++) lanes[l] += (double)x[i] * x[i];
    for (int l = 0; l < 16; l++) sum += lanes[l];
    return sum;
}

/* w -= decay w;  v = momentum v - rate clip g;  w += v, or momentum v - rate clip g with Nesterov.
 * v may be NULL where momentum is 0. */
LEAF NAME(sgd)(REAL *RESTRICT w, REAL *RESTRICT v, const REAL *RESTRICT g, idx n, REAL rate, REAL momentum,
               int nesterov, REAL decay, REAL clip)
{
    const REAL step = -rate * clip;
    if (!v)
        LOOP w[i] = FMA(step, g[i], FMA(-decay, w[i], w[i]));
    else if (nesterov)
        LOOP {
            v[i] = FMA(momentum, v[i], step * g[i]);
            w[i] = FMA(-decay, w[i], w[i]) + FMA(momentum, v[i], step * g[i]);
        }
    else
        LOOP {
            v[i] = FMA(momentum, v[i], step * g[i]);
            w[i] = FMA(-decay, w[i], w[i]) + v[i];
        }
}

/* w -= decay w;  m += rest_1 (g - m);  v += rest_2 (g^2 - v);  w -= rate m / (sqrt(v) + epsilon),
 * with g = clip * gradient and the bias corrections already in `rate`.  rest = 1 - beta comes from the caller, who has
 * it in double: 1 - 0.999f is off by 5e-5. */
LEAF NAME(adam)(REAL *RESTRICT w, REAL *RESTRICT m, REAL *RESTRICT v, const REAL *RESTRICT gradient, idx n, REAL rate,
                REAL rest_1, REAL rest_2, REAL epsilon, REAL decay, REAL clip)
{
    LOOP {
        const REAL g = clip * gradient[i];
        m[i] = FMA(rest_1, g - m[i], m[i]);
        v[i] = FMA(rest_2, FMA(g, g, -v[i]), v[i]);
        w[i] = FMA(-decay, w[i], w[i]) - rate * m[i] / (SQRT(v[i]) + epsilon);
    }
}

#ifdef SINGLE
#include "winograd.h"
#endif

#undef LEAF
#undef LOOP
#undef EACH_LANE
#undef ROWS
#undef FOUR_ROWS
#undef EXP
#undef EXPM1
#undef TANH_
#undef NORMAL
#undef FABS
#undef GELU_END
#undef SQRT
#undef INV_SQRT_2PI

#undef REAL
#undef TYPE
#undef SINGLE
#undef VL
#undef HALF_WIDTH
#undef SPLAT
#undef FMA
#undef FMA_VEC
#undef MASK
#undef MASK_OF
#undef LOAD_PART
#undef STORE_PART
