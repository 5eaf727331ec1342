/* norm.h: sums over rows, one chain per column, and batch normalisation; then layer normalisation, row by row.
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

/* ---- layer normalisation: rows of n elements, each with its own mean and variance ----
 *
 * A row is summed in 16 lanes, which are then added in halves: in the same order for vectors of any width.  Rows are
 * taken VL at a time, so that their lanes are added together (sums_of) and a square root is taken of all of them.
 * x_row and the like: elements from one row to the next. */
#define SUM_VECTORS (16 / VL)
#define TAKE(p, left) ((left) >= VL ? LOAD(p) : LOAD_PART(p, MASK_OF(left)))
#define EACH_SUM UNROLL(16) for (int l = 0; l < SUM_VECTORS; l++)

/* 16 lanes as VL */
TARGET INLINE VEC NAME(halves)(VEC *sums)
{
    UNROLL(4) for (int half = SUM_VECTORS / 2; half; half /= 2)
        UNROLL(8) for (int l = 0; l < half; l++) sums[l] += sums[l + half];
    return sums[0];
}

/* sums[r] = the sum of the lanes of a[r], r < VL */
TARGET INLINE void NAME(sum_lanes)(VEC *a, REAL *sums)
{
#ifdef LOW
    STORE(sums, NAME(sums_of)(a));
#else
    for (int r = 0; r < VL; r++) {
        REAL lanes[VL];
        STORE(lanes, a[r]);
        for (int half = VL / 2; half; half /= 2)
            for (int l = 0; l < half; l++) lanes[l] += lanes[l + half];
        sums[r] = lanes[0];
    }
#endif
}

/* sum x, in VL lanes */
TARGET INLINE VEC NAME(row_sum)(const REAL *x, idx n)
{
    VEC sums[SUM_VECTORS];
    idx i = 0;
    EACH_SUM sums[l] = SPLAT(0);
    for (; i + 16 <= n; i += 16) EACH_SUM sums[l] += LOAD(x + i + VL * l);
    EACH_SUM {
        const idx at = i + VL * l;
        if (at < n) sums[l] += TAKE(x + at, n - at);
    }
    return NAME(halves)(sums);
}

/* sum d and sum d^2 with d = x - mean, each in VL lanes */
TARGET INLINE void NAME(row_moments)(const REAL *x, REAL mean, idx n, VEC *sum, VEC *square)
{
    VEC sums[SUM_VECTORS], squares[SUM_VECTORS];
    const VEC m = SPLAT(mean);
    REAL means[VL];
    idx i = 0;
    STORE(means, m);
    EACH_SUM sums[l] = squares[l] = SPLAT(0);
    for (; i + 16 <= n; i += 16)
        EACH_SUM {
            const VEC d = LOAD(x + i + VL * l) - m;
            sums[l] += d;
            squares[l] = FMA_VEC(d, d, squares[l]);
        }
    EACH_SUM {
        const idx at = i + VL * l;
        if (at < n) {
            const VEC d = TAKE(x + at, n - at) - TAKE(means, n - at);
            sums[l] += d;
            squares[l] = FMA_VEC(d, d, squares[l]);
        }
    }
    *sum = NAME(halves)(sums);
    *square = NAME(halves)(squares);
}

/* y = gamma (s (x - m) + t) + beta */
TARGET INLINE void NAME(row_apply)(const REAL *x, REAL m, REAL t, REAL s, const REAL *gamma, const REAL *beta, REAL *y,
                                   idx n)
{
    const VEC mean = SPLAT(m), shift = SPLAT(t), scale = SPLAT(s);
    idx i = 0;
    for (; i + VL <= n; i += VL)
        STORE(y + i, FMA_VEC(LOAD(gamma + i), FMA_VEC(scale, LOAD(x + i) - mean, shift), LOAD(beta + i)));
    for (; i < n; i++) y[i] = FMA(gamma[i], FMA(s, x[i] - m, t), beta[i]);
}

/* y = gamma (x - mean) / sqrt(variance + epsilon) + beta, row by row.  Of each row three numbers are kept, if `kept` is
 * not NULL: m, t and s, with (x - mean) / sqrt(variance + epsilon) = s (x - m) + t.  m is the mean in REAL, and t what
 * it is off by: with a large mean x - m is exact, and m not near enough. */
LEAF NAME(layer_norm)(const REAL *x, idx x_row, const REAL *gamma, const REAL *beta, REAL epsilon, REAL *y, idx y_row,
                      REAL *kept, idx kept_row, idx rows, idx n)
{
    const idx most = n * VL <= 4096 ? VL : n < 4096 ? 4096 / n : 1; /* rows that stay in the first-level cache */
    const REAL count = (REAL)n;
    while (rows > 0) {
        const idx some = rows < most ? rows : most;
        VEC sums[VL], squares[VL];
        REAL m[VL], t[VL], s[VL];
        for (idx r = some; r < VL; r++) sums[r] = squares[r] = SPLAT(0);
        for (idx r = 0; r < some; r++) sums[r] = NAME(row_sum)(x + r * x_row, n);
        NAME(sum_lanes)(sums, m);
        for (int r = 0; r < VL; r++) m[r] /= count;
        for (idx r = 0; r < some; r++) NAME(row_moments)(x + r * x_row, m[r], n, sums + r, squares + r);
        for (idx r = some; r < VL; r++) sums[r] = SPLAT(0); /* once more: sum_lanes has used them up */
        NAME(sum_lanes)(sums, t);
        NAME(sum_lanes)(squares, s);
        for (int r = 0; r < VL; r++) {
            const REAL off = t[r] / count, variance = (s[r] - t[r] * off) / count;
            s[r] = 1 / SQRT((variance < 0 ? 0 : variance) + epsilon);
            t[r] = -off * s[r];
        }
        for (idx r = 0; r < some; r++) {
            NAME(row_apply)(x + r * x_row, m[r], t[r], s[r], gamma, beta, y + r * y_row, n);
            if (kept) {
                kept[0] = m[r];
                kept[1] = t[r];
                kept[2] = s[r];
                kept += kept_row;
            }
        }
        x += some * x_row;
        y += some * y_row;
        rows -= some;
    }
}

/* sum g and sum g z with g = gamma dy, z = s (x - m) + t, each in VL lanes */
TARGET INLINE void NAME(row_products)(const REAL *x, const REAL *dy, const REAL *gamma, REAL m, REAL t, REAL s, idx n,
                                      VEC *sum, VEC *product)
{
    VEC sums[SUM_VECTORS], products[SUM_VECTORS];
    const VEC mean = SPLAT(m), shift = SPLAT(t), scale = SPLAT(s);
    idx i = 0;
    EACH_SUM sums[l] = products[l] = SPLAT(0);
    for (; i + 16 <= n; i += 16)
        EACH_SUM {
            const VEC g = LOAD(gamma + i + VL * l) * LOAD(dy + i + VL * l);
            sums[l] += g;
            products[l] = FMA_VEC(g, FMA_VEC(scale, LOAD(x + i + VL * l) - mean, shift), products[l]);
        }
    EACH_SUM {
        const idx at = i + VL * l;
        if (at < n) {
            const VEC g = TAKE(gamma + at, n - at) * TAKE(dy + at, n - at);
            sums[l] += g;
            products[l] = FMA_VEC(g, FMA_VEC(scale, TAKE(x + at, n - at) - mean, shift), products[l]);
        }
    }
    *sum = NAME(halves)(sums);
    *product = NAME(halves)(products);
}

/* dx = s gamma dy + b z + a;  dgamma += dy z, dbeta += dy, row after row: for `count` rows at once, side by side */
TARGET INLINE void NAME(rows_grad)(const int count, const REAL *x, idx x_row, const REAL *dy, idx dy_row,
                                   const REAL *gamma, const REAL *m, const REAL *t, const REAL *s, const REAL *a,
                                   const REAL *b, REAL *dx, idx dx_row, REAL *dgamma, REAL *dbeta, idx n)
{
    idx i = 0;
    for (; i + VL <= n; i += VL) {
        const VEC factor = LOAD(gamma + i);
        VEC product = LOAD(dgamma + i), sum = LOAD(dbeta + i);
        UNROLL(4) for (int r = 0; r < count; r++) {
            const VEC e = LOAD(dy + r * dy_row + i);
            const VEC z = FMA_VEC(SPLAT(s[r]), LOAD(x + r * x_row + i) - SPLAT(m[r]), SPLAT(t[r]));
            STORE(dx + r * dx_row + i, FMA_VEC(SPLAT(s[r]), factor * e, FMA_VEC(SPLAT(b[r]), z, SPLAT(a[r]))));
            product = FMA_VEC(e, z, product);
            sum += e;
        }
        STORE(dgamma + i, product);
        STORE(dbeta + i, sum);
    }
    for (; i < n; i++)
        UNROLL(4) for (int r = 0; r < count; r++) {
            const REAL e = dy[r * dy_row + i], z = FMA(s[r], x[r * x_row + i] - m[r], t[r]);
            dx[r * dx_row + i] = FMA(s[r], gamma[i] * e, FMA(b[r], z, a[r]));
            dgamma[i] = FMA(e, z, dgamma[i]);
            dbeta[i] += e;
        }
}

/* dx = s (g - mean g - z mean (g z)) with g = gamma dy and z = s (x - m) + t, row by row, from what layer_norm kept;
 * dgamma += sum_r dy z, dbeta += sum_r dy, in the order of the rows. */
LEAF NAME(layer_norm_grad)(const REAL *x, idx x_row, const REAL *dy, idx dy_row, const REAL *gamma, const REAL *kept,
                           idx kept_row, REAL *dx, idx dx_row, REAL *dgamma, REAL *dbeta, idx rows, idx n)
{
    const idx most = n * VL <= 2048 ? VL : n < 2048 ? 2048 / n : 1;
    const REAL count = (REAL)n;
    while (rows > 0) {
        const idx some = rows < most ? rows : most;
        VEC sums[VL], products[VL];
        REAL m[VL], t[VL], s[VL], a[VL], b[VL];
        idx r;
        STORE(s, SPLAT(0));
        for (r = some; r < VL; r++) sums[r] = products[r] = SPLAT(0);
        for (r = 0; r < some; r++, kept += kept_row) {
            m[r] = kept[0];
            t[r] = kept[1];
            s[r] = kept[2];
            NAME(row_products)(x + r * x_row, dy + r * dy_row, gamma, m[r], t[r], s[r], n, sums + r, products + r);
        }
        NAME(sum_lanes)(sums, a);
        NAME(sum_lanes)(products, b);
        for (int k = 0; k < VL; k++) {
            a[k] *= -s[k] / count;
            b[k] *= -s[k] / count;
        }
#define GRAD(some_rows)                                                                                               \
    NAME(rows_grad)(some_rows, x + r * x_row, x_row, dy + r * dy_row, dy_row, gamma, m + r, t + r, s + r, a + r,       \
                    b + r, dx + r * dx_row, dx_row, dgamma, dbeta, n)
        for (r = 0; r + 4 <= some; r += 4) GRAD(4);
        for (; r < some; r++) GRAD(1);
#undef GRAD
        x += some * x_row;
        dy += some * dy_row;
        dx += some * dx_row;
        rows -= some;
    }
}

#undef SUM_VECTORS
#undef TAKE
#undef EACH_SUM
