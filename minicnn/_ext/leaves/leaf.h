/* leaf.h: WHAT the kernels compute, one contiguous run at a time: no threads, no allocation, no Python.
 *
 * Included once per instruction set and type (REAL is float or double) by simd_base.h and its like, which say with which
 * words vectors are written; at its end it uses them up (leaf_end.h).  A leaf is a plain loop that the
 * compiler vectorises; where the order of a sum matters it is fixed by the text, never by the width of the vectors.
 * FMA(a, b, c) is a*b + c with one rounding where the set has it, so that AVX2 and AVX-512 give the same bits.
 */
DECLARE_VECTOR

#ifdef PARTS_THROUGH_MEMORY /* no masked loads: a part of a vector is copied, `mask` is its number of lanes */
#define MASK idx
#define MASK_OF(n) ((n) < VL ? (n) : VL)
#define LOAD_PART(p, mask) NAME(load_part)(p, mask)
#define STORE_PART(p, mask, v) NAME(store_part)(p, mask, v)
NOINLINE static VEC NAME(load_part)(const REAL *p, idx n)
{
    REAL lanes[VL];
    for (idx l = 0; l < VL; l++) lanes[l] = l < n ? p[l] : 0;
    return LOAD(lanes);
}
NOINLINE static void NAME(store_part)(REAL *p, idx n, VEC v)
{
    REAL lanes[VL];
    STORE(lanes, v);
    for (idx l = 0; l < n; l++) p[l] = lanes[l];
}
#endif

#include "tile.h"
#include "matrix.h"
#ifdef FOR_SIZE /* the products above stay as fast as they are; the rest is as short as it can be */
#pragma GCC push_options
#pragma GCC optimize("Os")
#endif
#include "depthwise.h"
#ifdef SINGLE
#include "peak.h"
#endif

#define LEAF TARGET NOINLINE static void
#define LOOP for (idx i = 0; i < n; i++)
#define ROWS for (idx r = 0; r < rows; r++)

/* ---- plain arithmetic ---- */

/* y += x */
LEAF NAME(add_to)(const REAL *RESTRICT x, REAL *RESTRICT y, idx n)
{
    LOOP y[i] += x[i];
}

/* z = x + y, with `relu` 0 where that is negative (a NaN stays); z may be x or y */
LEAF NAME(plus)(int relu, const REAL *x, const REAL *y, REAL *z, idx n)
{
    if (relu) LOOP z[i] = x[i] + y[i] < 0 ? 0 : x[i] + y[i];
    else LOOP z[i] = x[i] + y[i];
}

/* y[r * step + i] += x[r * n + i], row by row: the rows of y may overlap */
LEAF NAME(overlap_add)(const REAL *RESTRICT x, REAL *RESTRICT y, idx rows, idx step, idx n)
{
    const idx whole = n - n % VL;
    const MASK mask = MASK_OF(n - whole);
    ROWS {
        const REAL *from = x + r * n;
        REAL *to = y + r * step;
        for (idx i = 0; i < whole; i += VL) STORE(to + i, LOAD(to + i) + LOAD(from + i));
        if (whole < n) STORE_PART(to + whole, mask, LOAD_PART(to + whole, mask) + LOAD_PART(from + whole, mask));
    }
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

/* y += shift where the bit of `keep` is set, else y = dropped; element i has bit offset + i. */
LEAF NAME(mask_shift)(const uint32_t *RESTRICT keep, idx offset, REAL shift, REAL dropped, REAL *RESTRICT y, idx n)
{
    idx i = 0;
    for (; i < n && (offset + i) % 32; i++)
        y[i] = keep[(offset + i) / 32] >> ((offset + i) % 32) & 1 ? y[i] + shift : dropped;
    for (keep += (offset + i) / 32; i + 32 <= n; i += 32) {
        const uint32_t bits = *keep++;
        for (uint32_t b = 0; b < 32; b++) y[i + b] = bits >> b & 1 ? y[i + b] + shift : dropped;
    }
    for (uint32_t b = 0; i < n; i++, b++) y[i] = *keep >> b & 1 ? y[i] + shift : dropped;
}

#include "blocks.h"

/* y = x * factor; the factors are float for either type */
LEAF NAME(times)(const REAL *RESTRICT x, const float *RESTRICT factor, REAL *RESTRICT y, idx n)
{
    LOOP y[i] = x[i] * (REAL)factor[i];
}

/* y = x + a z; z is float for either type */
LEAF NAME(add_scaled)(const REAL *RESTRICT x, REAL a, const float *RESTRICT z, REAL *RESTRICT y, idx n)
{
    LOOP y[i] = FMA(a, (REAL)z[i], x[i]);
}

#ifdef SINGLE
#define SQRT sqrtf
#else
#define SQRT sqrt
#endif

#include "activation.h"
#include "norm.h"
#include "pool.h"
#include "resize.h"

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

/* ---- penalties and constraints ---- */

/* sum |x| in double, in 16 lanes that are added in order */
TARGET NOINLINE static double NAME(sum_absolute)(const REAL *x, idx n)
{
    double lanes[16] = {0}, sum = 0;
    idx i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++) lanes[l] += fabs((double)x[i + l]);
    for (int l = 0; i < n; i++, l++) lanes[l] += fabs((double)x[i]);
    for (int l = 0; l < 16; l++) sum += lanes[l];
    return sum;
}

/* y += a sign(x) + b x, where sign(0) = 0 */
LEAF NAME(add_slope)(const REAL *RESTRICT x, REAL a, REAL b, REAL *RESTRICT y, idx n)
{
    LOOP y[i] += FMA(b, x[i], x[i] > 0 ? a : x[i] < 0 ? -a : 0);
}

/* sums += x^2 in double, element by element */
LEAF NAME(add_squares)(const REAL *RESTRICT x, double *RESTRICT sums, idx n)
{
    LOOP sums[i] += (double)x[i] * x[i];
}

/* x *= factors, in double */
LEAF NAME(scale_each)(REAL *RESTRICT x, const double *RESTRICT factors, idx n)
{
    LOOP x[i] = (REAL)(x[i] * factors[i]);
}

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

/* y = x cut to [-limit, limit]; a NaN stays */
LEAF NAME(cut)(const REAL *RESTRICT x, REAL limit, REAL *RESTRICT y, idx n)
{
    LOOP y[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
}

/* One step of `u->method` over n weights: w -= decay w, then what the method says, with g = clip * gradient.  a, b, c are
 * the method's slots, in the order of the comments; NULL where it has none.  rest = 1 - beta comes from the caller, who
 * has it in double: 1 - 0.999f is off by 5e-5.  The corrections for the first steps are in `rate`, `ahead` and `epsilon`
 * already. */
#define DECAYED FMA(-decay, w[i], w[i])
#define WITH_G LOOP { const REAL g = clip * gradient[i];
#define FOLLOW(mean, x) mean[i] = FMA(rest_1, (x) - mean[i], mean[i]);
#define FOLLOW_SQUARE(mean, x) mean[i] = FMA(rest_2, FMA(x, x, -mean[i]), mean[i]);
#define RMSPROP_LOOP(center, push)                                                                                    \
    WITH_G                                                                                                            \
        FOLLOW_SQUARE(a, g)                                                                                           \
        REAL square = a[i];                                                                                           \
        center                                                                                                        \
        const REAL change = rate * g / SQRT(square + epsilon);                                                        \
        push                                                                                                          \
    }
#define CENTER                                                                                                        \
    c[i] = FMA(rest_2, g - c[i], c[i]);                                                                               \
    square = FMA(-c[i], c[i], square);                                                                                \
    square = square < 0 ? 0 : square; /* rounding; a NaN stays */
#define PUSH w[i] = DECAYED - change;
#define PUSH_ON                                                                                                       \
    b[i] = FMA(beta_1, b[i], change);                                                                                 \
    w[i] = DECAYED - b[i];

LEAF NAME(update_weights)(const Update *u, REAL *RESTRICT w, const REAL *RESTRICT gradient, REAL *RESTRICT a,
                          REAL *RESTRICT b, REAL *RESTRICT c, REAL decay, idx n)
{
    const REAL rate = (REAL)u->rate, clip = (REAL)u->clip, step = -rate * clip;
    const REAL beta_1 = (REAL)u->beta_1, beta_2 = (REAL)u->beta_2, epsilon = (REAL)u->epsilon, ahead = (REAL)u->ahead;
    const REAL rest_1 = (REAL)(1 - u->beta_1), rest_2 = (REAL)(1 - u->beta_2);
    switch (u->method) {
    case SGD: LOOP w[i] = FMA(step, gradient[i], DECAYED); break;
    case MOMENTUM: /* velocity */
        LOOP {
            a[i] = FMA(beta_1, a[i], step * gradient[i]);
            w[i] = DECAYED + a[i];
        }
        break;
    case NESTEROV: /* velocity */
        LOOP {
            const REAL push = step * gradient[i];
            a[i] = FMA(beta_1, a[i], push);
            w[i] = DECAYED + FMA(beta_1, a[i], push);
        }
        break;
    case ADAM: /* m, v */
        WITH_G FOLLOW(a, g) FOLLOW_SQUARE(b, g) w[i] = DECAYED - rate * a[i] / (SQRT(b[i]) + epsilon); }
        break;
    case AMSGRAD: /* m, v, v_hat */
        WITH_G
            FOLLOW(a, g) FOLLOW_SQUARE(b, g)
            c[i] = c[i] >= b[i] ? c[i] : b[i];
            w[i] = DECAYED - rate * a[i] / (SQRT(c[i]) + epsilon);
        }
        break;
    case NADAM: /* m, v */
        WITH_G
            FOLLOW(a, g) FOLLOW_SQUARE(b, g)
            w[i] = DECAYED - FMA(ahead, a[i], rate * g) / (SQRT(b[i]) + epsilon);
        }
        break;
    case ADAMAX: /* m, u */
        WITH_G
            const REAL size = g < 0 ? -g : g, before = beta_2 * b[i];
            FOLLOW(a, g)
            b[i] = before >= size ? before : size;
            w[i] = DECAYED - rate * a[i] / (b[i] + epsilon);
        }
        break;
    case RMSPROP: /* velocity, momentum or NULL, average_gradient or NULL */
        if (b && c) RMSPROP_LOOP(CENTER, PUSH_ON)
        else if (b) RMSPROP_LOOP(, PUSH_ON)
        else if (c) RMSPROP_LOOP(CENTER, PUSH)
        else RMSPROP_LOOP(, PUSH)
        break;
    case ADAGRAD: /* accumulator */
        WITH_G
            a[i] = FMA(g, g, a[i]);
            w[i] = DECAYED - rate * g / SQRT(a[i] + epsilon);
        }
        break;
    case ADADELTA: /* accumulated_grad, accumulated_delta_var */
        WITH_G
            FOLLOW_SQUARE(a, g)
            const REAL change = SQRT(b[i] + epsilon) / SQRT(a[i] + epsilon) * g;
            FOLLOW_SQUARE(b, change)
            w[i] = DECAYED - rate * change;
        }
        break;
    }
}
#undef DECAYED
#undef WITH_G
#undef FOLLOW
#undef FOLLOW_SQUARE
#undef RMSPROP_LOOP
#undef CENTER
#undef PUSH
#undef PUSH_ON

/* ---- for float alone ---- */

#ifdef SINGLE
#include "philox.h"
#include "gaussian.h"
#include "winograd.h"
#define SINGLE_LEAVES EACH_SINGLE_LEAF(ENTRY)
#else
#define SINGLE_LEAVES
#endif

#define ENTRY(result, name, arguments) NAME(name),
static const JOIN(Leaves_, TYPE) NAME(leaves) = {EACH_LEAF(ENTRY, REAL) SINGLE_LEAVES};
#undef ENTRY
#undef SINGLE_LEAVES

#ifdef FOR_SIZE
#pragma GCC pop_options
#endif
#undef LEAF
#undef LOOP
#undef ROWS
#undef SQRT
#include "leaf_end.h"
