/* matrix.h: what dense layers need beside the tile. */

/* ---- a matrix, transposed in blocks of VL x VL that stay in registers ----
 *
 * Interleaving vector i with vector i + VL/2, for all i, rotates the bits of (row, column) by one place; after log2(VL)
 * rounds rows and columns have changed places. */
#ifdef LOW
TARGET INLINE void NAME(transpose_block)(const int PART, const REAL *x, idx x_row, idx rows, idx columns, REAL *y,
                                         idx y_row)
{
    const MASK read = MASK_OF(columns), write = MASK_OF(rows);
    VEC a[VL], b[VL];
    (void)read;
    (void)write;
    UNROLL(16) for (int i = 0; i < VL; i++) {
        a[i] = SPLAT(0);
        if (!PART) a[i] = LOAD(x + i * x_row);
        else if (i < rows) a[i] = LOAD_PART(x + i * x_row, read);
    }
    UNROLL(4) for (int round = 1; round < VL; round *= 2) {
        UNROLL(16) for (int i = 0; i < VL; i++) b[i] = a[i];
        UNROLL(8) for (int i = 0; i < VL / 2; i++) {
            a[2 * i] = (VEC)LOW(b[i], b[i + VL / 2]);
            a[2 * i + 1] = (VEC)HIGH(b[i], b[i + VL / 2]);
        }
    }
    UNROLL(16) for (int i = 0; i < VL; i++) {
        if (!PART) STORE(y + i * y_row, a[i]);
        else if (i < columns) STORE_PART(y + i * y_row, write, a[i]);
    }
}
#endif

/* y[c*y_row + r] = x[r*x_row + c] for r < rows, c < columns */
TARGET NOINLINE static void NAME(transpose)(const REAL *RESTRICT x, idx x_row, idx rows, idx columns, REAL *RESTRICT y,
                                            idx y_row)
{
#ifdef LOW
    for (idx r = 0; r < rows; r += VL)
        for (idx c = 0; c < columns; c += VL) {
            const REAL *from = x + r * x_row + c;
            REAL *to = y + c * y_row + r;
            if (rows - r >= VL && columns - c >= VL) NAME(transpose_block)(0, from, x_row, VL, VL, to, y_row);
            else NAME(transpose_block)(1, from, x_row, rows - r, columns - c, to, y_row);
        }
#else
    for (idx r = 0; r < rows; r++)
        for (idx c = 0; c < columns; c++) y[c * y_row + r] = x[r * x_row + c];
#endif
}

#ifdef LOW
/* The sums of VL vectors: interleaving two of them pairs the lanes of each, as in the transposed block above. */
TARGET INLINE VEC NAME(sums_of)(VEC *a)
{
    UNROLL(4) for (int half = VL / 2; half; half /= 2)
        UNROLL(8) for (int i = 0; i < half; i++)
            a[i] = (VEC)LOW(a[i], a[i + half]) + (VEC)HIGH(a[i], a[i + half]);
    return a[0];
}
#endif

/* ---- one row times a matrix ----
 *
 * The tile would have one or two chains of multiply-adds, each waiting for itself; here eight vectors are under way.
 * Every output is one chain in the order of k, as in the tile: a sample has the same bits alone as in a batch. */
TARGET INLINE void NAME(row_vectors)(const int NV, const int PART, const REAL *x, idx d, const REAL *w, idx w_row,
                                     REAL *y, MASK mask)
{
    VEC acc[8];
    UNROLL(8) for (int j = 0; j < NV; j++)
        acc[j] = PART && j == NV - 1 ? LOAD_PART(y + VL * j, mask) : LOAD(y + VL * j);
    for (idx k = 0; k < d; k++, w += w_row) {
        const VEC v = SPLAT(x[k]);
        UNROLL(8) for (int j = 0; j < NV; j++)
            acc[j] = FMA_VEC(v, PART && j == NV - 1 ? LOAD_PART(w + VL * j, mask) : LOAD(w + VL * j), acc[j]);
    }
    UNROLL(8) for (int j = 0; j < NV; j++) {
        if (PART && j == NV - 1) STORE_PART(y + VL * j, mask, acc[j]);
        else STORE(y + VL * j, acc[j]);
    }
}

/* y[j] += sum_{k < d} x[k] * w[k*w_row + j] for j < n */
TARGET NOINLINE static void NAME(row_product)(const REAL *x, idx d, const REAL *w, idx w_row, REAL *y, idx n)
{
#define CASE(nv)                                                                                                      \
    case 2 * nv: NAME(row_vectors)(nv, 0, x, d, w + j, w_row, y + j, mask); break;                                    \
    case 2 * nv + 1: NAME(row_vectors)(nv, 1, x, d, w + j, w_row, y + j, mask); break;
    for (idx j = 0; j < n; j += 8 * VL) {
        const idx left = n - j < 8 * VL ? n - j : 8 * VL, vectors = (left + VL - 1) / VL;
        const MASK mask = MASK_OF(left - (vectors - 1) * VL);
        (void)mask;
        switch (2 * vectors + (left % VL != 0)) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
    }
#undef CASE
}

/* ---- products of which a mask keeps some terms ----
 *
 * Term (r, j) of a block of `rows` rows of n weights has bit offset + r*n + j of `keep`, and is selected, not multiplied
 * by 0: what is dropped may be NaN.  Words that lie up to 16 bits behind the last bit are read too. */
TARGET INLINE uint32_t NAME(bits_at)(const uint32_t *keep, idx place)
{
    const size_t word = (size_t)place / 32, bit = (size_t)place % 32;
    return (uint32_t)((keep[word] | (uint64_t)keep[word + 1] << 32) >> bit);
}

#if defined(MASK_FROM) && defined(LOW)
#define KEPT_VECTORS
TARGET INLINE void NAME(kept_vectors)(const int NV, const REAL *x, idx rows, const REAL *w, idx n, const uint32_t *keep,
                                      idx place, REAL *y, MASK part)
{
    VEC acc[8];
    UNROLL(8) for (int j = 0; j < NV; j++) acc[j] = j == NV - 1 ? LOAD_PART(y + VL * j, part) : LOAD(y + VL * j);
    for (idx r = 0; r < rows; r++, w += n, place += n) {
        const VEC v = SPLAT(x[r]);
        UNROLL(8) for (int j = 0; j < NV; j++) {
            const MASK kept = MASK_FROM(NAME(bits_at)(keep, place + VL * j));
            acc[j] = FMA_KEPT(kept, v, j == NV - 1 ? LOAD_PART(w + VL * j, part) : LOAD(w + VL * j), acc[j]);
        }
    }
    UNROLL(8) for (int j = 0; j < NV; j++) {
        if (j == NV - 1) STORE_PART(y + VL * j, part, acc[j]);
        else STORE(y + VL * j, acc[j]);
    }
}
#endif

/* y[j] += sum_r x[r] w[r*n + j], of the terms that are kept; every output one chain in the order of r */
TARGET NOINLINE static void NAME(kept_product)(const REAL *x, idx rows, const REAL *w, const uint32_t *keep, idx offset,
                                               REAL *y, idx n)
{
#ifdef KEPT_VECTORS
#define CASE(nv) case nv: NAME(kept_vectors)(nv, x, rows, w + j, n, keep, offset + j, y + j, part); break;
    for (idx j = 0; j < n; j += 8 * VL) {
        const idx left = n - j < 8 * VL ? n - j : 8 * VL, vectors = (left + VL - 1) / VL;
        const MASK part = MASK_OF(left - (vectors - 1) * VL);
        switch (vectors) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
    }
#undef CASE
#else
    for (idx r = 0; r < rows; r++, w += n, offset += n)
        for (idx j = 0; j < n; j++) y[j] = NAME(bits_at)(keep, offset + j) & 1 ? FMA(x[r], w[j], y[j]) : y[j];
#endif
}

#ifdef KEPT_VECTORS
/* One row of kept_gradients; returns its 16 lanes, added until VL are left. */
TARGET INLINE VEC NAME(kept_row)(VEC x, const REAL *w, const REAL *dy, const uint32_t *keep, idx place, REAL *dw, idx n,
                                 const MASK *part)
{
    VEC sums[16 / VL];
    UNROLL(4) for (int l = 0; l < 16 / VL; l++) sums[l] = SPLAT(0);
    for (idx j = 0; j < n; j += 16)
        UNROLL(4) for (int l = 0; l < 16 / VL; l++) {
            const idx at = j + VL * l;
            const MASK kept = MASK_FROM(NAME(bits_at)(keep, place + at));
            const VEC g = LOAD(dy + at);
            STORE(dw + at, FMA_KEPT(kept, x, g, LOAD(dw + at)));
            sums[l] = FMA_KEPT(kept, g, j + 16 <= n ? LOAD(w + at) : LOAD_PART(w + at, part[l]), sums[l]);
        }
    UNROLL(2) for (int half = 8 / VL; half; half /= 2)
        UNROLL(2) for (int l = 0; l < half; l++) sums[l] += sums[l + half];
    return sums[0];
}

#endif

/* Both gradients of kept_product for one sample, of the terms that are kept: dw[r*wide + j] += x[r] dy[j] and
 * dx[r] = sum_j dy[j] w[r*n + j], in 16 lanes that are added in pairs.  `wide` is n rounded up to 16; dy must have zeros
 * behind n. */
TARGET NOINLINE static void NAME(kept_gradients)(const REAL *x, idx rows, const REAL *w, const REAL *dy,
                                                 const uint32_t *keep, idx offset, REAL *dw, REAL *dx, idx n)
{
    const idx wide = (n + 15) / 16 * 16;
#ifdef KEPT_VECTORS
    MASK part[16 / VL];
    UNROLL(4) for (int l = 0; l < 16 / VL; l++) part[l] = MASK_OF(n % 16 > VL * l ? n % 16 - VL * l : 0);
    for (idx first = 0; first < rows; first += VL) {
        const idx some = rows - first < VL ? rows - first : VL;
        VEC sums[VL];
        for (idx r = 0; r < VL; r++) sums[r] = SPLAT(0);
        for (idx r = 0; r < some; r++, w += n, dw += wide, offset += n)
            sums[r] = NAME(kept_row)(SPLAT(x[first + r]), w, dy, keep, offset, dw, n, part);
        STORE_PART(dx + first, MASK_OF(some), NAME(sums_of)(sums));
    }
#else
    for (idx r = 0; r < rows; r++, w += n, dw += wide, offset += n) {
        REAL lanes[16] = {0};
        for (idx j = 0; j < n; j++)
            if (NAME(bits_at)(keep, offset + j) & 1) {
                dw[j] = FMA(x[r], dy[j], dw[j]);
                lanes[j % 16] = FMA(dy[j], w[j], lanes[j % 16]);
            }
        for (int half = 8; half; half /= 2)
            for (int l = 0; l < half; l++) lanes[l] += lanes[l + half];
        dx[r] = lanes[0];
    }
#endif
}
#undef KEPT_VECTORS
