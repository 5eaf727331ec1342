/* resize.h: rows of pixels, each repeated or mixed with its neighbours: what UpSampling2D is made of.
 *
 * From VL channels on, the last vector of a pixel overlaps the one before.  With fewer, a vector reaches into the
 * pixels that follow: what it writes there is overwritten, since pixels are written in the order of their addresses;
 * the last pixels of a row are taken one number at a time.  Where a vector has more than four lanes (FMA_FOUR is
 * there), up to four channels, as the colours of a picture are, go in vectors of four.  Twice one channel is left to
 * the compiler, which puts vectors together and takes them apart.  MIX, NV and COUNT are constants wherever these
 * functions are inlined.
 */

#ifdef FMA_FOUR
typedef REAL NAME(four) __attribute__((vector_size(4 * sizeof(REAL)), may_alias, aligned(sizeof(REAL))));
#define LOAD_FOUR(p) (*(const NAME(four) *)(p))
#define STORE_FOUR(p, v) (*(NAME(four) *)(p) = (v))
#define SPLAT_FOUR(a) ((NAME(four)){a, a, a, a})

/* y[2p] = weights[0] x[p] + weights[1] x[p + 1], y[2p + 1] with weights[2] and [3], of pixels with up to four channels;
 * without MIX both are x[p].  Returns how many pixels were done, all but the last ones. */
TARGET INLINE idx NAME(stretch_four_twice)(const int MIX, const REAL *x, const REAL *weights, REAL *y, idx pixels,
                                           idx n)
{
    NAME(four) w[4];
    for (int k = 0; MIX && k < 4; k++) w[k] = SPLAT_FOUR(weights[k]);
    idx p = 0;
    for (; p < pixels && (pixels - p) * n >= 4; p++, x += n, y += 2 * n) {
        const NAME(four) left = LOAD_FOUR(x);
        NAME(four) first = left, second = left;
        if (MIX) {
            const NAME(four) right = LOAD_FOUR(x + n);
            first = FMA_FOUR(w[1], right, w[0] * left);
            second = FMA_FOUR(w[3], right, w[2] * left);
        }
        STORE_FOUR(y, first);
        STORE_FOUR(y + n, second);
    }
    return p;
}

/* As blend, of up to four channels and COUNT taps; returns how many pixels were done, all but the last ones. */
TARGET INLINE idx NAME(blend_four)(const int COUNT, const REAL *x, idx step, idx tap, const REAL *weights, REAL *y,
                                   idx pixels, idx n)
{
    NAME(four) w[4];
    for (int k = 0; k < COUNT; k++) w[k] = SPLAT_FOUR(weights[k]);
    idx p = 0;
    for (; p < pixels && (pixels - p) * n >= 4; p++, x += step, y += n) {
        NAME(four) sum = w[0] * LOAD_FOUR(x);
        UNROLL(4) for (int k = 1; k < COUNT; k++) sum = FMA_FOUR(w[k], LOAD_FOUR(x + k * tap), sum);
        STORE_FOUR(y, sum);
    }
    return p;
}
#endif

/* a * l + b * r with l or r alone where the other has no part in it: 0 times an inf is no number */
TARGET INLINE VEC NAME(mixed)(REAL a, VEC l, REAL b, VEC r)
{
    if (a == 0) return r;
    if (b == 0) return l;
    return FMA_VEC(SPLAT(b), r, SPLAT(a) * l);
}

LEAF NAME(repeat_twice)(const REAL *RESTRICT x, REAL *RESTRICT y, idx n)
{
    LOOP y[2 * i] = y[2 * i + 1] = x[i];
}

LEAF NAME(mix_twice)(const REAL *RESTRICT x, const REAL *RESTRICT weights, REAL *RESTRICT y, idx n)
{
    const REAL a = weights[0], b = weights[1], c = weights[2], d = weights[3];
    LOOP {
        y[2 * i] = FMA(b, x[i + 1], a * x[i]);
        y[2 * i + 1] = FMA(d, x[i + 1], c * x[i]);
    }
}

LEAF NAME(blend_pairs)(const REAL *RESTRICT x, const REAL *RESTRICT weights, REAL *RESTRICT y, idx n)
{
    const REAL a = weights[0], b = weights[1];
    LOOP y[i] = FMA(b, x[2 * i + 1], a * x[2 * i]);
}

LEAF NAME(blend_two_pairs)(const REAL *RESTRICT x, const REAL *RESTRICT weights, REAL *RESTRICT y, idx n)
{
    const REAL a = weights[0], b = weights[1], c = weights[2], d = weights[3];
    LOOP y[i] = FMA(d, x[2 * i + 3], FMA(c, x[2 * i + 2], FMA(b, x[2 * i + 1], a * x[2 * i])));
}

TARGET INLINE void NAME(stretch_row)(const int MIX, const REAL *x, const REAL *weights, idx times, REAL *y, idx pixels,
                                     idx n)
{
    idx p = 0;
    if (!MIX && n == 1 && times > 2)
        for (; p < pixels && (pixels - p - 1) * times >= VL; p++)
            for (idx b = 0; b < times; b += VL) STORE(y + p * times + b, SPLAT(x[p]));
#ifdef FMA_FOUR
    if (n <= 4 && times == 2) p = NAME(stretch_four_twice)(MIX, x, weights, y, pixels, n);
#endif
    for (; p < pixels && (pixels - p) * n >= VL; p++) {
        const REAL *from = x + p * n;
        REAL *to = y + p * times * n;
        for (idx j = 0, end = n > VL ? n - VL : 0;; j = j + VL < end ? j + VL : end) {
            const VEC left = LOAD(from + j);
            VEC right = left;
            if (MIX) right = LOAD(from + n + j);
            for (idx b = 0; b < times; b++) {
                VEC v = left;
                if (MIX) v = NAME(mixed)(weights[2 * b], left, weights[2 * b + 1], right);
                STORE(to + b * n + j, v);
            }
            if (j == end) break;
        }
    }
    for (; p < pixels; p++)
        for (idx b = 0; b < times; b++)
            for (idx j = 0; j < n; j++) {
                const REAL left = x[p * n + j];
                REAL v = left;
                if (MIX) {
                    const REAL right = x[(p + 1) * n + j], a = weights[2 * b], c = weights[2 * b + 1];
                    v = a == 0 ? right : c == 0 ? left : FMA(c, right, a * left);
                }
                y[(p * times + b) * n + j] = v;
            }
}

/* y[p*times + b] = weights[2b] x[p] + weights[2b + 1] x[p + 1] for p < pixels, b < times, of pixels with n channels;
 * without weights x[p].  What has the weight 0 is not looked at. */
LEAF NAME(stretch)(const REAL *x, const REAL *weights, idx times, REAL *y, idx pixels, idx n)
{
    if (n == 1 && times == 2 && weights) NAME(mix_twice)(x, weights, y, pixels);
    else if (n == 1 && times == 2) NAME(repeat_twice)(x, y, pixels);
    else if (weights) NAME(stretch_row)(1, x, weights, times, y, pixels, n);
    else NAME(stretch_row)(0, x, weights, times, y, pixels, n);
}

TARGET INLINE void NAME(blend_vectors)(const int NV, const REAL *x, idx tap, const REAL *weights, idx count, REAL *y)
{
    VEC sum[4];
    UNROLL(4) for (int i = 0; i < NV; i++) sum[i] = SPLAT(weights[0]) * LOAD(x + i * VL);
    for (idx k = 1; k < count; k++)
        UNROLL(4) for (int i = 0; i < NV; i++)
            sum[i] = FMA_VEC(SPLAT(weights[k]), LOAD(x + k * tap + i * VL), sum[i]);
    UNROLL(4) for (int i = 0; i < NV; i++) STORE(y + i * VL, sum[i]);
}

/* y[p*n + j] = sum_{k < count} weights[k] x[p*step + k*tap + j] for p < pixels, j < n, in the order of k.  With less
 * than VL channels up to VL numbers behind the last of x are read, too. */
LEAF NAME(blend)(const REAL *x, idx step, idx tap, const REAL *weights, idx count, REAL *y, idx pixels, idx n)
{
    idx p = 0;
    if (n == 1 && step == 2 && tap == 1 && (count == 2 || count == 4)) {
        if (count == 2) NAME(blend_pairs)(x, weights, y, pixels);
        else NAME(blend_two_pairs)(x, weights, y, pixels);
        return;
    }
#ifdef FMA_FOUR
    if (n <= 4 && count == 2) p = NAME(blend_four)(2, x, step, tap, weights, y, pixels, n);
    else if (n <= 4 && count == 4) p = NAME(blend_four)(4, x, step, tap, weights, y, pixels, n);
#endif
    for (; p < pixels && (pixels - p) * n >= VL; p++) {
        const REAL *from = x + p * step;
        REAL *to = y + p * n;
        idx j = 0;
        for (; j + 4 * VL <= n; j += 4 * VL) NAME(blend_vectors)(4, from + j, tap, weights, count, to + j);
        for (; j + VL <= n; j += VL) NAME(blend_vectors)(1, from + j, tap, weights, count, to + j);
        if (j < n) {
            if (n > VL) j = n - VL;
            NAME(blend_vectors)(1, from + j, tap, weights, count, to + j);
        }
    }
    for (; p < pixels; p++)
        for (idx j = 0; j < n; j++) {
            REAL sum = weights[0] * x[p * step + j];
            for (idx k = 1; k < count; k++) sum = FMA(weights[k], x[p * step + k * tap + j], sum);
            y[p * n + j] = sum;
        }
}
