/* activation.h: f and f' of the activations, element by element, and softmax, row by row.
 *
 * In single precision exp and what is made of it are our own, so that a loop over them is vectorised and rounds alike
 * everywhere; in double they are the C library's.
 */
#ifdef SINGLE
/* The polynomial of exp is that of S. Moshier's Cephes library (expf.c).  NaN passes through all of these. */

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
/* exp(x) for any x: infinite from 88.73 on.  2^k is multiplied in two halves, for it may be neither a number nor 0. */
TARGET INLINE float ISA(exp_any_)(float x)
{
    const float inside = x < -104.0f ? -104.0f : x > 89.0f ? 89.0f : x, rounder = 12582912.0f; /* as in split */
    union { float f; int32_t i; } shifted = {FMA(inside, 1.44269504088896341f, rounder)}, low, high;
    const float k = shifted.f - rounder;
    const float p = ISA(expm1_near_0_)(FMA(k, 2.12194440e-4f, FMA(k, -0.693359375f, inside)));
    const int32_t whole = shifted.i - 0x4b400000, half = whole >> 1; /* k as an integer */
    low.i = (int32_t)((uint32_t)(half + 127) << 23);
    high.i = (int32_t)((uint32_t)(whole - half + 127) << 23);
    return (1.0f + p) * low.f * high.f;
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
/* log(1 + u) for 0 <= u <= 1 is 2 atanh(t / 2) with t = u / (1 + u / 2): t + t^3 Q(t^2) with a polynomial Q of our own,
 * fitted for the smallest relative error, 5e-9; with rounding 2e-7 relative, of subnormal u too. */
TARGET INLINE float ISA(log1p_)(float u)
{
    const float t = u / FMA(0.5f, u, 1.0f), square = t * t;
    float p = 5.47109114e-4f;
    p = FMA(p, square, 2.1876411e-3f);
    p = FMA(p, square, 1.25067271e-2f);
    p = FMA(p, square, 8.33330229e-2f);
    return FMA(p * square, t, t);
}
/* The same for any u >= 0: 1 + u = 2^k (1 + f) with 0 <= f <= 1, but for rounding. */
TARGET INLINE float ISA(log1p_any_)(float u)
{
    union { float f; uint32_t i; } sum = {1.0f + u}, power;
    const int32_t k = (int32_t)(sum.i >> 23) - 127;
    power.i = (uint32_t)(127 - k) << 23;
    return FMA((float)k, 0.693147180559945309f, ISA(log1p_)(FMA(u, power.f, power.f - 1.0f)));
}
/* Phi(x), the normal distribution, and exp(-x^2 / 2).  Below 0 it is exp(-t^2 / 2) R(t) with t = -x; R is a polynomial
 * of our own in w = 1 / (1 + 0.3 t), fitted for the smallest relative error on [0, 14.5]; there Phi ends in single
 * precision.  Within 1e-6 relative down to 2^-126; 4e-6 far below 0 where FMA rounds twice. */
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
#define EXP_ANY ISA(exp_any_)
#define EXPM1 ISA(expm1_)
#define LOG1P ISA(log1p_)
#define LOG1P_ANY ISA(log1p_any_)
#define TANH_ ISA(tanh_)
#define NORMAL ISA(normal_)
#define FABS fabsf
#else
TARGET INLINE double ISA(normal_f64_)(double x, double *power)
{
    *power = exp(-0.5 * x * x);
    return 0.5 * erfc(-x * 0.70710678118654752440);
}
#define EXP exp
#define EXP_ANY exp
#define EXPM1 expm1
#define LOG1P log1p
#define LOG1P_ANY log1p
#define TANH_ tanh
#define NORMAL ISA(normal_f64_)
#define FABS fabs
#endif

#define INV_SQRT_2PI ((REAL)0.39894228040143267794)
#define GELU_END ((REAL)40) /* below -40 x Phi(x) is 0 in double too, and -inf * 0 is no limit */

#define SELU_SCALE ((REAL)1.0507009873554804934193349852946)
#define SELU_END ((REAL)1.7580993408473768599402175208123) /* scale alpha: the limit far below 0 is its negative */
#define SWISH_END ((REAL)1500) /* beyond it x exp(-|x|) is 0 in double too, and -inf * 0 is no limit */
#define SOFTSIGN_END ((REAL)1e30) /* and inf / inf is none */

/* y = f(x), in place too.  A NaN stays a NaN. */
LEAF NAME(activate)(const Curve *f, const REAL *x, REAL *y, idx n)
{
    const REAL slope = (REAL)f->slope, threshold = (REAL)f->threshold, top = (REAL)f->top;
    switch (f->kind) {
    case RELU: LOOP y[i] = x[i] < 0 ? 0 : x[i]; break;
    case LEAKY_RELU: LOOP y[i] = x[i] < 0 ? slope * x[i] : x[i]; break;
    case BOUNDED_RELU:
        if (slope == 0) LOOP y[i] = x[i] <= threshold ? 0 : x[i] > top ? top : x[i]; /* not slope * -inf */
        else LOOP y[i] = x[i] <= threshold ? slope * (x[i] - threshold) : x[i] > top ? top : x[i];
        break;
    case ELU: LOOP y[i] = x[i] < 0 ? slope * EXPM1(x[i]) : x[i]; break;
    case SELU: LOOP y[i] = x[i] < 0 ? SELU_END * EXPM1(x[i]) : SELU_SCALE * x[i]; break;
    case GELU:
        LOOP {
            REAL power;
            const REAL share = NORMAL(x[i], &power);
            y[i] = x[i] < -GELU_END ? 0 : x[i] * share;
        }
        break;
    case SWISH: /* by exp(-|x| / 2), twice: exp(-|x|) may be subnormal where x exp(-|x|) is not */
        LOOP {
            const REAL inside = x[i] < -SWISH_END ? -SWISH_END : x[i], e = EXP((REAL)-0.5 * FABS(inside));
            const REAL half = inside < 0 ? e : 1;
            y[i] = inside * half / FMA(e, e, 1) * half;
        }
        break;
    case HARD_SWISH:
        LOOP y[i] = x[i] <= -3 ? 0 : x[i] >= 3 ? x[i] : x[i] * ((x[i] + 3) * (REAL)(1.0 / 6));
        break;
    case SIGMOID:
        LOOP {
            const REAL e = EXP(-FABS(x[i]));
            y[i] = (x[i] < 0 ? e : 1) / (1 + e);
        }
        break;
    case HARD_SIGMOID: LOOP y[i] = x[i] <= -3 ? 0 : x[i] >= 3 ? 1 : (x[i] + 3) * (REAL)(1.0 / 6); break;
    case TANH: LOOP y[i] = TANH_(x[i]); break;
    case SOFTPLUS: LOOP y[i] = LOG1P(EXP(-FABS(x[i]))) + (x[i] > 0 ? x[i] : 0); break;
    case SOFTSIGN:
        LOOP {
            const REAL inside = x[i] > SOFTSIGN_END ? SOFTSIGN_END : x[i] < -SOFTSIGN_END ? -SOFTSIGN_END : x[i];
            y[i] = inside / (1 + FABS(inside));
        }
        break;
    case EXPONENTIAL: LOOP y[i] = EXP_ANY(x[i]); break;
    default: if (y != x) LOOP y[i] = x[i];
    }
}

/* dx = dy f'(x), from s: the output y = f(x), or for GELU, SWISH and HARD_SWISH the input x; dx may be dy. */
LEAF NAME(activate_grad)(const Curve *f, const REAL *s, const REAL *dy, REAL *dx, idx n)
{
    const REAL slope = (REAL)f->slope, top = (REAL)f->top;
    switch (f->kind) {
    case RELU: LOOP dx[i] = s[i] > 0 ? dy[i] : 0; break;
    case LEAKY_RELU: LOOP dx[i] = s[i] > 0 ? dy[i] : slope * dy[i]; break;
    case BOUNDED_RELU: LOOP dx[i] = s[i] >= top ? 0 : s[i] > 0 ? dy[i] : slope * dy[i]; break;
    case ELU: LOOP dx[i] = s[i] > 0 ? dy[i] : dy[i] * (s[i] + slope); break;
    case SELU: LOOP dx[i] = dy[i] * (s[i] > 0 ? SELU_SCALE : s[i] + SELU_END); break;
    case GELU:
        LOOP {
            const REAL inside = s[i] < -GELU_END ? -GELU_END : s[i] > GELU_END ? GELU_END : s[i];
            REAL power;
            const REAL share = NORMAL(inside, &power);
            dx[i] = dy[i] * FMA(inside, power * INV_SQRT_2PI, share);
        }
        break;
    case SWISH: /* sigmoid(x) (1 + x sigmoid(-x)), by the same exp(-|x| / 2) */
        LOOP {
            const REAL inside = s[i] < -SWISH_END ? -SWISH_END : s[i] > SWISH_END ? SWISH_END : s[i];
            const REAL e = EXP((REAL)-0.5 * FABS(inside)), half = inside < 0 ? e : 1, high = 1 / FMA(e, e, 1);
            dx[i] = dy[i] * (half * high * FMA(inside, inside < 0 ? high : e * e * high, 1) * half);
        }
        break;
    case HARD_SWISH:
        LOOP dx[i] = s[i] <= -3 ? 0 : s[i] >= 3 ? dy[i] : dy[i] * FMA(s[i], (REAL)(1.0 / 3), (REAL)0.5);
        break;
    case SIGMOID: LOOP dx[i] = dy[i] * (s[i] * (1 - s[i])); break;
    case HARD_SIGMOID: LOOP dx[i] = s[i] <= 0 || s[i] >= 1 ? 0 : dy[i] * (REAL)(1.0 / 6); break;
    case TANH: LOOP dx[i] = dy[i] * (1 - s[i] * s[i]); break;
    case SOFTPLUS: LOOP dx[i] = -dy[i] * EXPM1(-s[i]); break; /* sigmoid(x) = 1 - exp(-y) */
    case SOFTSIGN:
        LOOP {
            const REAL rest = 1 - FABS(s[i]);
            dx[i] = dy[i] * (rest * rest);
        }
        break;
    case EXPONENTIAL: LOOP dx[i] = dy[i] * s[i]; break;
    default: if (dx != dy) LOOP dx[i] = dy[i];
    }
}

/* ---- PReLU: `alpha` has n values, which repeat along the `count` elements ---- */

/* y = x for x > 0, else alpha x */
LEAF NAME(prelu)(const REAL *RESTRICT x, const REAL *RESTRICT alpha, REAL *RESTRICT y, idx count, idx n)
{
    for (; count > 0; count -= n, x += n, y += n)
        for (idx i = 0; i < (n < count ? n : count); i++) y[i] = x[i] < 0 ? alpha[i] * x[i] : x[i];
}

/* dx = dy for x > 0, else alpha dy; sums += x dy where not x > 0.  dx may be NULL. */
LEAF NAME(prelu_grad)(const REAL *RESTRICT x, const REAL *RESTRICT dy, const REAL *RESTRICT alpha, REAL *RESTRICT dx,
                      REAL *RESTRICT sums, idx count, idx n)
{
    for (; count > 0; count -= n, x += n, dy += n) {
        const idx some = n < count ? n : count;
        if (!dx) {
            for (idx i = 0; i < some; i++) sums[i] += x[i] > 0 ? 0 : x[i] * dy[i];
            continue;
        }
        for (idx i = 0; i < some; i++) {
            sums[i] += x[i] > 0 ? 0 : x[i] * dy[i];
            dx[i] = (x[i] > 0 ? 1 : alpha[i]) * dy[i];
        }
        dx += n;
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
        EACH_LANE lanes[l] += (double)x[i + l];
    for (; i < n; i++) sum += (double)x[i];
    if (n >= 16)
        EACH_LANE sum += lanes[l];
    return sum;
}

/* sum x y, the same way */
TARGET INLINE double NAME(dot)(const REAL *x, const REAL *y, idx n)
{
    double lanes[16] = {0}, sum = 0;
    idx i = 0;
    for (; i + 16 <= n; i += 16)
        EACH_LANE lanes[l] += (double)x[i + l] * y[i + l];
    for (; i < n; i++) sum += (double)x[i] * y[i];
    if (n >= 16)
        EACH_LANE sum += lanes[l];
    return sum;
}

/* y = exp(x - max) / sum exp(x - max), row by row of n; rows of few elements are exponentiated together */
LEAF NAME(softmax_rows)(const REAL *x, REAL *y, idx rows, idx n)
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
LEAF NAME(softmax_rows_grad)(const REAL *y, const REAL *dy, REAL *dx, idx rows, idx n)
{
    ROWS {
        const REAL mean = (REAL)NAME(dot)(dy, y, n);
        LOOP dx[i] = y[i] * (dy[i] - mean);
        y += n;
        dy += n;
        dx += n;
    }
}

/* y = x - log sum exp(x), row by row of n: x - max - log1p(r), where r is the sum of exp(x - max) without one term that
 * is 1, so that the largest y is exact where the others' shares are tiny.  Rows of up to 64 elements are done side by
 * side, one in each lane of the vectors. */
TARGET INLINE void NAME(log_softmax_short)(const REAL *x, REAL *y, idx rows, idx n)
{
    enum { LANES = 16 };
    REAL turned[64 * LANES], highest[LANES], rest[LANES];
    double sums[LANES];
    for (idx l = 0; l < n * LANES; l++) turned[l] = 0;
    for (; rows > 0; rows -= LANES, x += LANES * n, y += LANES * n) {
        const idx some = rows < LANES ? rows : LANES;
        NAME(transpose)(x, n, some, n, turned, LANES);
        EACH_LANE highest[l] = turned[l], sums[l] = -1;
        for (const REAL *t = turned; t < turned + n * LANES; t += LANES)
            EACH_LANE highest[l] = t[l] > highest[l] ? t[l] : highest[l];
        EACH_LANE rest[l] = 0;
        for (REAL *t = turned; t < turned + n * LANES; t += LANES)
            EACH_LANE {
                t[l] -= highest[l];
                const REAL power = EXP(t[l]);
                rest[l] += power >= 1 ? 0 : power;
                sums[l] += power >= 1 ? 1 : 0;
            }
        EACH_LANE rest[l] = LOG1P_ANY((REAL)(sums[l] + (double)rest[l]));
        for (REAL *t = turned; t < turned + n * LANES; t += LANES) EACH_LANE t[l] -= rest[l];
        NAME(transpose)(turned, LANES, n, some, y, n);
    }
}

LEAF NAME(log_softmax_rows)(const REAL *x, REAL *y, idx rows, idx n)
{
    REAL powers[1024];
    if (n <= 64) {
        NAME(log_softmax_short)(x, y, rows, n);
        return;
    }
    ROWS {
        const REAL highest = NAME(highest)(x, n);
        double sum = 0;
        idx all = 0, ones;
        for (idx from = 0; from < n; from += 1024) {
            const idx part = n - from < 1024 ? n - from : 1024;
            for (idx i = 0; i < part; i++) powers[i] = EXP(x[from + i] - highest);
            sum += NAME(sum_below_1)(powers, part, &ones);
            all += ones;
        }
        REAL rest = (REAL)(sum + (double)(all - 1));
        rest = LOG1P_ANY(rest);
        LOOP y[i] = x[i] - highest - rest;
        x += n;
        y += n;
    }
}

/* dx = dy - exp(y) sum dy, row by row */
LEAF NAME(log_softmax_rows_grad)(const REAL *y, const REAL *dy, REAL *dx, idx rows, idx n)
{
    REAL powers[1024];
    const idx most = n < 512 ? 1024 / n : 1;
    while (rows > 0) {
        const idx some = rows < most ? rows : most;
        if (n < 512)
            for (idx i = 0; i < some * n; i++) powers[i] = EXP(y[i]);
        for (idx r = 0; r < some; r++) {
            const REAL sum = (REAL)NAME(sum)(dy + r * n, n);
            if (n < 512)
                for (idx i = r * n; i < (r + 1) * n; i++) dx[i] = FMA(-sum, powers[i], dy[i]);
            else
                for (idx i = 0; i < n; i++) dx[i] = FMA(-sum, EXP(y[i]), dy[i]);
        }
        y += some * n;
        dy += some * n;
        dx += some * n;
        rows -= some;
    }
}

#undef EXP
#undef EXP_ANY
#undef EXPM1
#undef LOG1P
#undef LOG1P_ANY
#undef TANH_
#undef NORMAL
#undef FABS
#undef GELU_END
#undef SELU_SCALE
#undef SELU_END
#undef SWISH_END
#undef SOFTSIGN_END
#undef INV_SQRT_2PI

#undef EACH_LANE
