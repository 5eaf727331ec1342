/* winograd.h: the five transforms of Winograd's convolution F(m x m, 3 x 3), m = 2 or 4 (Lavin and Gray, "Fast
 * algorithms for convolutional neural networks", 2016; and the transposed algorithm for the gradient of the kernel).
 *
 *     Y = A^T [ (G g G^T) . (B^T d B) ] A          d: n x n pixels (n = m + 2), g: the kernel, Y: m x m results
 *     dg = G^T [ (A dY A^T) . (B^T d B) ] G        . element by element, summed over channels or over tiles
 *
 *     m = 2:  B^T = 1  0 -1  0    G = 1    0    0      A^T = 1  1  1  0
 *                   0  1  1  0        1/2  1/2  1/2          0  1 -1 -1
 *                   0 -1  1  0        1/2 -1/2  1/2
 *                   0  1  0 -1        0    0    1
 *
 *     m = 4:  B^T = 4  0 -5  0  1  0    G =  1/4    0    0      A^T = 1  1  1  1  1  0
 *                   0 -4 -4  1  1  0        -1/6  -1/6 -1/6           0  1 -1  2 -2  0
 *                   0  4 -4 -1  1  0        -1/6   1/6 -1/6           0  1  1  4  4  0
 *                   0 -2 -1  2  1  0         1/24  1/12 1/6           0  1 -1  8 -8  1
 *                   0  2 -1 -2  1  0         1/24 -1/12 1/6
 *                   0  4  0 -5  0  1         0     0    1
 *
 * A vector holds one element of the square for as many channels as it has lanes.  Lines are transformed one by one: first
 * all columns, then all rows.  Every sum has a fixed order: the result does not depend on the width of the vectors.
 */

/* y = B^T x */
TARGET INLINE void NAME(b_t)(const int m, const VEC *x, const int s, VEC *y, const int t)
{
    if (m == 2) {
        y[0] = x[0] - x[2 * s];
        y[t] = x[s] + x[2 * s];
        y[2 * t] = x[2 * s] - x[s];
        y[3 * t] = x[s] - x[3 * s];
        return;
    }
    const VEC four = SPLAT(4), minus_four = SPLAT(-4), minus_five = SPLAT(-5);
    const VEC even = FMA_VEC(minus_four, x[2 * s], x[4 * s]), odd = FMA_VEC(minus_four, x[s], x[3 * s]);
    const VEC even2 = x[4 * s] - x[2 * s], odd2 = x[3 * s] - x[s];
    y[0] = FMA_VEC(four, x[0], FMA_VEC(minus_five, x[2 * s], x[4 * s]));
    y[t] = even + odd;
    y[2 * t] = even - odd;
    y[3 * t] = FMA_VEC(SPLAT(2), odd2, even2);
    y[4 * t] = FMA_VEC(SPLAT(-2), odd2, even2);
    y[5 * t] = FMA_VEC(four, x[s], FMA_VEC(minus_five, x[3 * s], x[5 * s]));
}

/* y = A^T x */
TARGET INLINE void NAME(a_t)(const int m, const VEC *x, const int s, VEC *y, const int t)
{
    const VEC even = x[s] + x[2 * s], odd = x[s] - x[2 * s];
    if (m == 2) {
        y[0] = x[0] + even;
        y[t] = odd - x[3 * s];
        return;
    }
    const VEC even2 = x[3 * s] + x[4 * s], odd2 = x[3 * s] - x[4 * s];
    y[0] = x[0] + even + even2;
    y[t] = FMA_VEC(SPLAT(2), odd2, odd);
    y[2 * t] = FMA_VEC(SPLAT(4), even2, even);
    y[3 * t] = FMA_VEC(SPLAT(8), odd2, odd) + x[5 * s];
}

/* y = A x */
TARGET INLINE void NAME(a)(const int m, const VEC *x, const int s, VEC *y, const int t)
{
    if (m == 2) {
        y[0] = x[0];
        y[t] = x[0] + x[s];
        y[2 * t] = x[0] - x[s];
        y[3 * t] = -x[s];
        return;
    }
    const VEC even = x[0] + x[2 * s], odd = x[s] + x[3 * s];
    const VEC even2 = FMA_VEC(SPLAT(4), x[2 * s], x[0]), odd2 = FMA_VEC(SPLAT(4), x[3 * s], x[s]);
    y[0] = x[0];
    y[t] = even + odd;
    y[2 * t] = even - odd;
    y[3 * t] = FMA_VEC(SPLAT(2), odd2, even2);
    y[4 * t] = FMA_VEC(SPLAT(-2), odd2, even2);
    y[5 * t] = x[3 * s];
}

/* y = G x */
TARGET INLINE void NAME(g)(const int m, const VEC *x, const int s, VEC *y, const int t)
{
    if (m == 2) {
        const VEC even = SPLAT(0.5) * (x[0] + x[2 * s]), odd = SPLAT(0.5) * x[s];
        y[0] = x[0];
        y[t] = even + odd;
        y[2 * t] = even - odd;
        y[3 * t] = x[2 * s];
        return;
    }
    const VEC sixth = SPLAT((REAL)1 / 6), even = sixth * (x[0] + x[2 * s]), odd = sixth * x[s];
    const VEC even2 = FMA_VEC(sixth, x[2 * s], SPLAT((REAL)1 / 24) * x[0]), odd2 = SPLAT((REAL)1 / 12) * x[s];
    y[0] = SPLAT(0.25) * x[0];
    y[t] = -even - odd;
    y[2 * t] = odd - even;
    y[3 * t] = even2 + odd2;
    y[4 * t] = even2 - odd2;
    y[5 * t] = x[2 * s];
}

/* y = G^T x */
TARGET INLINE void NAME(g_t)(const int m, const VEC *x, const int s, VEC *y, const int t)
{
    const VEC even = x[s] + x[2 * s], odd = x[s] - x[2 * s], half = SPLAT(0.5);
    if (m == 2) {
        y[0] = FMA_VEC(half, even, x[0]);
        y[t] = half * odd;
        y[2 * t] = FMA_VEC(half, even, x[3 * s]);
        return;
    }
    const VEC even2 = x[3 * s] + x[4 * s], odd2 = x[3 * s] - x[4 * s], sixth = SPLAT((REAL)1 / 6);
    y[0] = FMA_VEC(sixth, FMA_VEC(SPLAT(0.25), even2, -even), SPLAT(0.25) * x[0]);
    y[t] = sixth * FMA_VEC(half, odd2, -odd);
    y[2 * t] = FMA_VEC(sixth, even2 - even, x[5 * s]);
}

/* y = T x T^T: `from` x `from` vectors to `to` x `to` with T = LINE */
#define SQUARE(LINE, m, from, to, x, y)                                                                               \
    do {                                                                                                              \
        VEC half_done[36];                                                                                            \
        UNROLL(6) for (int q = 0; q < (from); q++) LINE(m, (x) + q, from, half_done + q, from);                       \
        UNROLL(6) for (int r = 0; r < (to); r++) LINE(m, half_done + r * (from), 1, (y) + r * (to), 1);               \
    } while (0)

/* v[k * step + c] = (T d T^T)[k] for d[i] = pixels[i][c], c < channels */
TARGET INLINE void NAME(into_domain)(const int kind, const int m, float *const *pixels, float *v, idx step,
                                     idx channels)
{
    const int from = kind == OF_IMAGE ? m + 2 : kind == OF_GRADIENT ? m : 3;
    for (idx c = 0; c < channels; c += VL) {
        VEC x[36], y[36];
        UNROLL(36) for (int i = 0; i < from * from; i++) x[i] = LOAD(pixels[i] + c);
        if (kind == OF_IMAGE) SQUARE(NAME(b_t), m, m + 2, m + 2, x, y);
        else if (kind == OF_GRADIENT) SQUARE(NAME(a), m, m, m + 2, x, y);
        else SQUARE(NAME(g), m, 3, m + 2, x, y);
        UNROLL(36) for (int k = 0; k < (m + 2) * (m + 2); k++) STORE(v + k * step + c, y[k]);
    }
}

/* pixels[i][c] = f((T v T^T)[i] + bias[c]) for v[k * step + c]; f is ReLU or nothing, bias may be NULL */
TARGET INLINE void NAME(out_of_domain)(const int kind, const int m, const float *v, idx step, const float *bias,
                                       const int relu, float *const *pixels, idx channels)
{
    const int to = kind == TO_IMAGE ? m : 3;
    for (idx c = 0; c < channels; c += VL) {
        VEC x[36], y[16];
        VEC b = SPLAT(0);
        if (bias) b = LOAD(bias + c);
        UNROLL(36) for (int k = 0; k < (m + 2) * (m + 2); k++) x[k] = LOAD(v + k * step + c);
        if (kind == TO_IMAGE) SQUARE(NAME(a_t), m, m + 2, m, x, y);
        else SQUARE(NAME(g_t), m, m + 2, 3, x, y);
        UNROLL(16) for (int i = 0; i < to * to; i++) {
            const VEC sum = y[i] + b;
            if (relu) STORE(pixels[i] + c, RELU_VEC(sum));
            else STORE(pixels[i] + c, sum);
        }
    }
}

/* One function for each transform and m. */
LEAF NAME(winograd_in)(int kind, int m, float *const *pixels, float *v, idx step, idx channels)
{
    if (kind == OF_IMAGE && m == 4) NAME(into_domain)(OF_IMAGE, 4, pixels, v, step, channels);
    else if (kind == OF_IMAGE) NAME(into_domain)(OF_IMAGE, 2, pixels, v, step, channels);
    else if (kind == OF_GRADIENT && m == 4) NAME(into_domain)(OF_GRADIENT, 4, pixels, v, step, channels);
    else if (kind == OF_GRADIENT) NAME(into_domain)(OF_GRADIENT, 2, pixels, v, step, channels);
    else if (m == 4) NAME(into_domain)(OF_KERNEL, 4, pixels, v, step, channels);
    else NAME(into_domain)(OF_KERNEL, 2, pixels, v, step, channels);
}

LEAF NAME(winograd_out)(int kind, int m, const float *v, idx step, const float *bias, int relu, float *const *pixels,
                        idx channels)
{
    if (kind == TO_IMAGE && m == 4 && relu) NAME(out_of_domain)(TO_IMAGE, 4, v, step, bias, 1, pixels, channels);
    else if (kind == TO_IMAGE && m == 4) NAME(out_of_domain)(TO_IMAGE, 4, v, step, bias, 0, pixels, channels);
    else if (kind == TO_IMAGE) NAME(out_of_domain)(TO_IMAGE, 2, v, step, bias, relu, pixels, channels);
    else if (m == 4) NAME(out_of_domain)(TO_KERNEL, 4, v, step, NULL, 0, pixels, channels);
    else NAME(out_of_domain)(TO_KERNEL, 2, v, step, NULL, 0, pixels, channels);
}

#undef SQUARE
