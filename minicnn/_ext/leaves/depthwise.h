/* depthwise.h: convolution of every channel by itself (`Depthwise` in leaves.h), a vector of channels at a time.
 *
 * Forward, a run of pixels keeps its sums in registers: each tap loads one vector of the kernel and multiplies it with
 * that many pixels.  The kernel's gradient keeps the sums of a block of taps in registers, and walks over the pixels.
 * Every sum is one chain in the order of its text, so that it depends neither on the blocks nor on the width of vectors.
 *
 * Q, KA, KB and PART are constants wherever these functions are inlined: pixels, rows and columns of taps at a time, and
 * a last vector that is cut off.
 */
/* The rows of a window are read side by side, a piece of each pixel at a time, which the hardware takes for no pattern:
 * so what the next row of results needs is fetched in the order of memory, a part with each pixel. */
TARGET INLINE void NAME(depthwise_fetch)(const Depthwise *t, const REAL *x, const REAL *y, idx pixels)
{
    const idx line = 64 / (idx)sizeof(REAL);
    for (idx i = 0; i < pixels * t->fetch; i += line) PREFETCH(x + t->x_ahead + i);
    for (idx q = 0; q < pixels; q++)
        for (idx i = 0; i < t->n; i += line) PREFETCH(y + t->y_ahead + q * t->y_q + i);
}

#define PIXELS 8
TARGET INLINE void NAME(depthwise_block)(const int Q, const int PART, const Depthwise *t, const REAL *x, const REAL *w,
                                         const REAL *bias, REAL *y, MASK mask)
{
    const idx x_q = t->x_q, x_b = t->x_b, w_b = t->w_b, y_q = t->y_q;
    VEC acc[PIXELS], start = SPLAT(0);
    (void)mask;
    if (bias) start = PART ? LOAD_PART(bias, mask) : LOAD(bias);
    UNROLL(8) for (int q = 0; q < Q; q++) acc[q] = start;
    for (idx a = 0; a < t->ka; a++) {
        const REAL *from = x + a * t->x_a, *tap = w + a * t->w_a;
        for (idx b = t->kb; b > 0; b--, from += x_b, tap += w_b) {
            const VEC weight = PART ? LOAD_PART(tap, mask) : LOAD(tap);
            UNROLL(8) for (int q = 0; q < Q; q++) {
                const VEC pixel = PART ? LOAD_PART(from + q * x_q, mask) : LOAD(from + q * x_q);
                acc[q] = FMA_VEC(pixel, weight, acc[q]);
            }
        }
    }
    UNROLL(8) for (int q = 0; q < Q; q++) {
        if (PART) STORE_PART(y + q * y_q, mask, acc[q]);
        else STORE(y + q * y_q, acc[q]);
    }
}

#define CASE(q) /* all channels of q pixels */                                                                         \
    case q:                                                                                                           \
        for (j = 0; j < whole; j += VL)                                                                               \
            NAME(depthwise_block)(q, 0, t, x + j, w + j, bias ? bias + j : NULL, y + j, mask);                        \
        if (j < n) NAME(depthwise_block)(q, 1, t, x + j, w + j, bias ? bias + j : NULL, y + j, mask);                 \
        break;

/* y[q, j] = bias[j] + sum over the taps (a, b) of x[q, a, b, j] * w[a, b, j]; bias may be NULL */
TARGET NOINLINE static void NAME(depthwise)(const Depthwise *t, const REAL *x, const REAL *w, const REAL *bias, REAL *y)
{
    const idx n = t->n, whole = n - n % VL, blocks = (t->count + PIXELS - 1) / PIXELS;
    const MASK mask = MASK_OF(n - whole);
    (void)mask;
    for (idx block = 0; block < blocks; block++) {
        const idx pixels = t->count * (block + 1) / blocks - t->count * block / blocks;
        idx j;
        NAME(depthwise_fetch)(t, x, y, pixels);
        switch (pixels) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
        x += pixels * t->x_q;
        y += pixels * t->y_q;
    }
}
#undef CASE
#undef PIXELS

TARGET INLINE void NAME(depthwise_taps)(const int KA, const int KB, const int PART, const Depthwise *t, const REAL *x,
                                        const REAL *dy, REAL *w, MASK mask)
{
    const idx x_a = t->x_a, x_b = t->x_b, w_a = t->w_a, w_b = t->w_b;
    VEC acc[12];
    (void)mask;
    UNROLL(12) for (int i = 0; i < KA * KB; i++) {
        const REAL *from = w + i / KB * w_a + i % KB * w_b;
        acc[i] = PART ? LOAD_PART(from, mask) : LOAD(from);
    }
    for (idx q = t->count; q > 0; q--, x += t->x_q, dy += t->y_q) {
        const VEC slope = PART ? LOAD_PART(dy, mask) : LOAD(dy);
        UNROLL(12) for (int i = 0; i < KA * KB; i++) {
            const REAL *from = x + i / KB * x_a + i % KB * x_b;
            acc[i] = FMA_VEC(PART ? LOAD_PART(from, mask) : LOAD(from), slope, acc[i]);
        }
    }
    UNROLL(12) for (int i = 0; i < KA * KB; i++) {
        REAL *to = w + i / KB * w_a + i % KB * w_b;
        if (PART) STORE_PART(to, mask, acc[i]);
        else STORE(to, acc[i]);
    }
}

#define CASE(ka, kb) /* all channels of ka x kb taps */                                                                \
    case 4 * ka + kb:                                                                                                 \
        for (j = 0; j < whole; j += VL) NAME(depthwise_taps)(ka, kb, 0, t, from + j, dy + j, to + j, mask);           \
        if (j < n) NAME(depthwise_taps)(ka, kb, 1, t, from + j, dy + j, to + j, mask);                                \
        break;
#define CASES(ka) CASE(ka, 1) CASE(ka, 2) CASE(ka, 3) CASE(ka, 4)

/* w[a, b, j] += sum over the pixels q of x[q, a, b, j] * dy[q, j] */
TARGET NOINLINE static void NAME(depthwise_gradient)(const Depthwise *t, const REAL *x, const REAL *dy, REAL *w)
{
    const idx n = t->n, whole = n - n % VL, rows = (t->ka + 2) / 3, columns = (t->kb + 3) / 4;
    const MASK mask = MASK_OF(n - whole);
    (void)mask;
    NAME(depthwise_fetch)(t, x, dy, t->count);
    for (idx r = 0; r < rows; r++) {
        for (idx c = 0; c < columns; c++) { /* blocks of nearly equal size */
            const idx a = t->ka * r / rows, b = t->kb * c / columns;
            const idx ka = t->ka * (r + 1) / rows - a, kb = t->kb * (c + 1) / columns - b;
            const REAL *from = x + a * t->x_a + b * t->x_b;
            REAL *to = w + a * t->w_a + b * t->w_b;
            idx j;
            switch (4 * ka + kb) { CASES(1) CASES(2) CASES(3) }
        }
    }
}
#undef CASES
#undef CASE
