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
