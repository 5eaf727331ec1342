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
TARGET INLINE void NAME(b_t)(const int m, const VEC *x, VEC *y)
{
    if (m == 2) {
        y[0] = x[0] - x[2];
        y[1] = x[1] + x[2];
        y[2] = x[2] - x[1];
        y[3] = x[1] - x[3];
        return;
    }
    const VEC four = SPLAT(4), minus_four = SPLAT(-4), minus_five = SPLAT(-5);
    const VEC even = FMA_VEC(minus_four, x[2], x[4]), odd = FMA_VEC(minus_four, x[1], x[3]);
    const VEC even2 = x[4] - x[2], odd2 = x[3] - x[1];
    y[0] = FMA_VEC(four, x[0], FMA_VEC(minus_five, x[2], x[4]));
    y[1] = even + odd;
    y[2] = even - odd;
    y[3] = FMA_VEC(SPLAT(2), odd2, even2);
    y[4] = FMA_VEC(SPLAT(-2), odd2, even2);
    y[5] = FMA_VEC(four, x[1], FMA_VEC(minus_five, x[3], x[5]));
}

/* y = A^T x */
TARGET INLINE void NAME(a_t)(const int m, const VEC *x, VEC *y)
{
    const VEC even = x[1] + x[2], odd = x[1] - x[2];
    if (m == 2) {
        y[0] = x[0] + even;
        y[1] = odd - x[3];
        return;
    }
    const VEC even2 = x[3] + x[4], odd2 = x[3] - x[4];
    y[0] = x[0] + even + even2;
    y[1] = FMA_VEC(SPLAT(2), odd2, odd);
    y[2] = FMA_VEC(SPLAT(4), even2, even);
    y[3] = FMA_VEC(SPLAT(8), odd2, odd) + x[5];
}

/* y = A x */
TARGET INLINE void NAME(a)(const int m, const VEC *x, VEC *y)
{
    if (m == 2) {
        y[0] = x[0];
        y[1] = x[0] + x[1];
        y[2] = x[0] - x[1];
        y[3] = -x[1];
        return;
    }
    const VEC even = x[0] + x[2], odd = x[1] + x[3];
    const VEC even2 = FMA_VEC(SPLAT(4), x[2], x[0]), odd2 = FMA_VEC(SPLAT(4), x[3], x[1]);
    y[0] = x[0];
    y[1] = even + odd;
    y[2] = even - odd;
    y[3] = FMA_VEC(SPLAT(2), odd2, even2);
    y[4] = FMA_VEC(SPLAT(-2), odd2, even2);
    y[5] = x[3];
}

/* y = G x */
TARGET INLINE void NAME(g)(const int m, const VEC *x, VEC *y)
{
    if (m == 2) {
        const VEC even = SPLAT(0.5) * (x[0] + x[2]), odd = SPLAT(0.5) * x[1];
        y[0] = x[0];
        y[1] = even + odd;
        y[2] = even - odd;
        y[3] = x[2];
        return;
    }
    const VEC sixth = SPLAT((REAL)1 / 6), even = sixth * (x[0] + x[2]), odd = sixth * x[1];
    const VEC even2 = FMA_VEC(sixth, x[2], SPLAT((REAL)1 / 24) * x[0]), odd2 = SPLAT((REAL)1 / 12) * x[1];
    y[0] = SPLAT(0.25) * x[0];
    y[1] = -even - odd;
    y[2] = odd - even;
    y[3] = even2 + odd2;
    y[4] = even2 - odd2;
    y[5] = x[2];
}

/* y = G^T x */
TARGET INLINE void NAME(g_t)(const int m, const VEC *x, VEC *y)
{
    const VEC even = x[1] + x[2], odd = x[1] - x[2], half = SPLAT(0.5);
    if (m == 2) {
        y[0] = FMA_VEC(half, even, x[0]);
        y[1] = half * odd;
        y[2] = FMA_VEC(half, even, x[3]);
        return;
    }
    const VEC even2 = x[3] + x[4], odd2 = x[3] - x[4], sixth = SPLAT((REAL)1 / 6);
    y[0] = FMA_VEC(sixth, FMA_VEC(SPLAT(0.25), even2, -even), SPLAT(0.25) * x[0]);
    y[1] = sixth * FMA_VEC(half, odd2, -odd);
    y[2] = FMA_VEC(sixth, even2 - even, x[5]);
}

/* T d T^T with T = LINE: columns of d, whose elements READ(i) gives, then rows, whose elements WRITE(i, value) takes */
#define SQUARE(LINE, m, from, to, READ, WRITE)                                                                        \
    do {                                                                                                              \
        VEC rows[6][6], line[6], done[6];                                                                             \
        UNROLL(6) for (int q = 0; q < (from); q++) {                                                                  \
            UNROLL(6) for (int r = 0; r < (from); r++) line[r] = READ(r * (from) + q);                                \
            LINE(m, line, done);                                                                                      \
            UNROLL(6) for (int r = 0; r < (to); r++) rows[r][q] = done[r];                                            \
        }                                                                                                             \
        UNROLL(6) for (int r = 0; r < (to); r++) {                                                                    \
            LINE(m, rows[r], done);                                                                                   \
            UNROLL(6) for (int q = 0; q < (to); q++) WRITE(r * (to) + q, done[q]);                                    \
        }                                                                                                             \
    } while (0)

/* v[k * step + c] = (T d T^T)[k] for d[i] = pixels[i][c], c < channels */
#define READ(i) LOAD(pixels[i] + c)
#define WRITE(k, value) STORE(v + (k) * step + c, value)
TARGET INLINE void NAME(into_domain)(const int kind, const int m, float *const *pixels, float *v, idx step,
                                     idx channels)
{
    for (idx c = 0; c < channels; c += VL) {
        if (kind == OF_IMAGE) SQUARE(NAME(b_t), m, m + 2, m + 2, READ, WRITE);
        else if (kind == OF_GRADIENT) SQUARE(NAME(a), m, m, m + 2, READ, WRITE);
        else SQUARE(NAME(g), m, 3, m + 2, READ, WRITE);
    }
}
#undef READ
#undef WRITE

/* pixels[i][c] = f((T v T^T)[i] + bias[c]) for v[k * step + c]; f is ReLU or nothing, bias may be NULL */
#define READ(k) LOAD(v + (k) * step + c)
#define WRITE(i, value)                                                                                               \
    do {                                                                                                              \
        const VEC sum = (value) + b;                                                                                  \
        if (relu) STORE(pixels[i] + c, RELU_VEC(sum));                                                                \
        else STORE(pixels[i] + c, sum);                                                                               \
    } while (0)
TARGET INLINE void NAME(out_of_domain)(const int kind, const int m, const float *v, idx step, const float *bias,
                                       const int relu, float *const *pixels, idx channels)
{
    for (idx c = 0; c < channels; c += VL) {
        VEC b = SPLAT(0);
        if (bias) b = LOAD(bias + c);
        if (kind == TO_IMAGE) SQUARE(NAME(a_t), m, m + 2, m, READ, WRITE);
        else SQUARE(NAME(g_t), m, m + 2, 3, READ, WRITE);
    }
}
#undef READ
#undef WRITE
#undef SQUARE

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
