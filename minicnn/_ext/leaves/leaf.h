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

/* w -= decay w;  v = momentum v - rate clip g;  w += v, or momentum v - rate clip g with Nesterov.
 * v may be NULL where momentum is 0. */
LEAF NAME(sgd_update)(REAL *RESTRICT w, REAL *RESTRICT v, const REAL *RESTRICT g, idx n, REAL rate, REAL momentum,
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
LEAF NAME(adam_update)(REAL *RESTRICT w, REAL *RESTRICT m, REAL *RESTRICT v, const REAL *RESTRICT gradient, idx n,
                       REAL rate, REAL rest_1, REAL rest_2, REAL epsilon, REAL decay, REAL clip)
{
    LOOP {
        const REAL g = clip * gradient[i];
        m[i] = FMA(rest_1, g - m[i], m[i]);
        v[i] = FMA(rest_2, FMA(g, g, -v[i]), v[i]);
        w[i] = FMA(-decay, w[i], w[i]) - rate * m[i] / (SQRT(v[i]) + epsilon);
    }
}

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

#undef LEAF
#undef LOOP
#undef ROWS
#undef SQRT
#include "leaf_end.h"
