/* norm.h: sums over rows, one chain per column, and batch normalisation.
 *
 * A row of few columns fills no vector, and its sums would wait for each other.  So several rows side by side are taken
 * as one long row (`wide` in leaves.h), whose sums are added in halves at the end.  The loops take four short rows at a
 * time: the sums are then read and written a quarter as often as x.  Long ones are taken one by one: memory is fast
 * only where it is read in order.
 */
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

#undef FOUR_ROWS
