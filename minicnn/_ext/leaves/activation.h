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
#define EXPM1 ISA(expm1_)
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
#define EXPM1 expm1
#define TANH_ tanh
#define NORMAL ISA(normal_f64_)
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

#undef EXP
#undef EXPM1
#undef TANH_
#undef NORMAL
#undef FABS
#undef GELU_END
#undef INV_SQRT_2PI

#undef EACH_LANE
