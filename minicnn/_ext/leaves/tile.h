/* tile.h: the one product that convolution and dense layers are made of (its formula stands at `Tile` in leaves.h).
 *
 * A block of G x M x (NV*VL) outputs stays in registers for the whole reduction: each step loads NV vectors of B and
 * multiplies them with G x M broadcast values of A.  Every output is one chain of fused multiply-adds in the order of
 * (a, k), so that the result does not depend on how an area is cut into blocks, nor on the width of the vectors.
 *
 * G is 1, or it takes so many of `rows` at once, where M alone is too small: all taps of a kernel of one channel.
 *
 * APART is for Winograd's products alone, so not every kind has it (that would be 15 kB of the wheel): see leaves.h.
 *
 * G, M, NV, UNIT_I and PART are constants wherever `tile` is inlined: the accumulators must be a fixed array and the
 * loops over it fully unrolled, or the compiler leaves them in memory (measured: 35 % of the speed).
 */
#ifdef STORE_PARTS
#define IN_PIECES PART
#else
#define IN_PIECES 0
#define STORE_PARTS(to, step, mask, parts, n) (void)(parts)
#endif
#ifdef FREE_MASKS
#define MAY_BE_APART (G == 1 && sizeof(REAL) == sizeof(float))
#else
#define MAY_BE_APART (G == 1 && sizeof(REAL) == sizeof(float) && !PART)
#endif
TARGET INLINE void NAME(tile)(const int G, const int M, const int NV, const int UNIT_I, const int PART, const Tile *t,
                              const REAL *A, const REAL *B, const REAL *bias, REAL *C, MASK mask)
{
#ifdef UNIT_KINDS /* then a_i or a_k is known to be 1, but not which with three vectors */
    const idx a_i = UNIT_I ? 1 : t->a_i, a_k = UNIT_I || NV == 3 ? t->a_k : 1;
#else
    const idx a_i = UNIT_I ? 1 : t->a_i, a_k = t->a_k;
#endif
    const idx b_k = t->b_k, c_i = t->c_i;
    const idx a_g = t->a_row, c_g = t->c_row;
    for (idx r = 0; r < t->rows; r += G, A += G * a_g, C += G * c_g) {
        VEC acc[28];
        UNROLL(28) for (int i = 0; i < G * M; i++) {
            UNROLL(3) for (int j = 0; j < NV; j++) {
                const REAL *from = bias ? bias + VL * j : C + i / M * c_g + i % M * c_i + VL * j;
                if (!bias && t->accumulate != 1) acc[i * NV + j] = SPLAT(0);
                else acc[i * NV + j] = PART && j == NV - 1 ? LOAD_PART(from, mask) : LOAD(from);
            }
        }
        for (idx a = 0; a < t->ka; a++) {
            const REAL *pa = A + a * t->a_a, *pb = B + a * t->b_a;
            for (idx k = t->kb; k > 0; k--, pa += a_k, pb += b_k) {
                VEC b[3];
                UNROLL(3) for (int j = 0; j < NV; j++)
                    b[j] = PART && j == NV - 1 ? LOAD_PART(pb + VL * j, mask) : LOAD(pb + VL * j);
                UNROLL(28) for (int i = 0; i < G * M; i++) {
                    VEC x = SPLAT(pa[i / M * a_g + i % M * a_i]);
                    UNROLL(3) for (int j = 0; j < NV; j++) acc[i * NV + j] = FMA_VEC(x, b[j], acc[i * NV + j]);
                }
            }
        }
        if (MAY_BE_APART && t->accumulate == APART) {
            UNROLL(28) for (int i = 0; i < G * M; i++) {
                UNROLL(3) for (int j = 0; j < NV; j++) {
                    const REAL *from = C + i / M * c_g + i % M * c_i + VL * j;
                    acc[i * NV + j] += PART && j == NV - 1 ? LOAD_PART(from, mask) : LOAD(from);
                }
            }
        }
        VEC last[28]; /* of each row, where parts are stored in pieces */
        UNROLL(28) for (int i = 0; i < G * M; i++) {
            UNROLL(3) for (int j = 0; j < NV; j++) {
                REAL *to = C + i / M * c_g + i % M * c_i + VL * j;
                if (IN_PIECES && j == NV - 1) last[i] = acc[i * NV + j];
                else if (PART && j == NV - 1) STORE_PART(to, mask, acc[i * NV + j]);
                else STORE(to, acc[i * NV + j]);
            }
        }
        for (int g = 0; IN_PIECES && g < G; g++)
            STORE_PARTS(C + g * c_g + VL * (NV - 1), c_i, mask, last + g * M, M);
    }
}

/* The tile as one function per kind, by the number m of its rows: at most WIDE with two vectors of columns, or NARROW
 * with one; in the square kinds m x m, at most AREA together.  A set whose WIDE is 0 is for one vector of columns only.
 * With three vectors it is THREE high, or one less: a last vector alone would load a value of A for each multiply-add. */
#define CASE(m) case m: NAME(tile)(1, m, NV, UNIT_I, PART, t, A, B, bias, C, mask); break;
#define CASES_4 CASE(1) CASE(2) CASE(3) CASE(4)
#define CASES_6 CASES_4 CASE(5) CASE(6)
#define CASES_12 CASES_6 CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#define CASES_14 CASES_12 CASE(13) CASE(14)
#define SQUARE_CASE(m) case m: NAME(tile)(m, m, NV, UNIT_I, PART, t, A, B, bias, C, mask); break;
#define SQUARES_4 SQUARE_CASE(2)
#define SQUARES_6 SQUARES_4
#define SQUARES_12 SQUARES_6 SQUARE_CASE(3)
#define SQUARES_14 SQUARES_12
#define SQUARES_28 SQUARES_14 SQUARE_CASE(4) SQUARE_CASE(5)
#define TILE_OF(name, nv, unit_i, part, cases)                                                                        \
    TARGET NOINLINE static void NAME(name)(int m, const Tile *t, const REAL *A, const REAL *B, const REAL *bias,      \
                                           REAL *C, MASK mask)                                                        \
    {                                                                                                                 \
        enum { NV = nv, UNIT_I = unit_i, PART = part };                                                               \
        (void)mask;                                                                                                   \
        switch (m) { cases }                                                                                          \
    }
/* The kinds there are.  Through a mask of all lanes whole vectors are as fast where FREE_MASKS says so.  Known to step by
 * one from row to row of A is worth a kind of its own in float (measured: 11 to 16 % with one input channel), else not. */
#ifdef FREE_MASKS
#define KIND(name, nv, unit_i, cases) TILE_OF(name##_part, nv, unit_i, 1, cases)
#define PAIR(name) {NAME(name##_part), NAME(name##_part)}
#else
#define KIND(name, nv, unit_i, cases) TILE_OF(name, nv, unit_i, 0, cases) TILE_OF(name##_part, nv, unit_i, 1, cases)
#define PAIR(name) {NAME(name), NAME(name##_part)}
#endif
KIND(narrow, 1, 0, CASES_FOR(NARROW))
KIND(narrow_square, 1, 1, SQUARES_FOR(AREA))
#ifdef UNIT_KINDS
KIND(narrow_unit, 1, 1, CASES_FOR(NARROW))
#define UNIT(name) PAIR(name##_unit)
#else
#define UNIT(name) PAIR(name)
#endif
#if WIDE
KIND(wide, 2, 0, CASES_FOR(WIDE))
KIND(wide_square, 2, 1, SQUARES_FOR(WIDE))
#ifdef UNIT_KINDS
KIND(wide_unit, 2, 1, CASES_FOR(WIDE))
#endif
#endif
#ifdef THREE
KIND(three, 3, 0, CASE(3) CASE(4))
#endif
#undef KIND
#undef TILE_OF
#undef SQUARES_28
#undef SQUARES_14
#undef SQUARES_12
#undef SQUARES_6
#undef SQUARES_4
#undef SQUARE_CASE
#undef CASES_14
#undef CASES_12
#undef CASES_6
#undef CASES_4
#undef CASE

/* Any m x n area: panels of two vectors of columns, each cut into blocks of nearly equal height.  What is empty of a
 * vector costs as much as what is full, and a vector without a neighbour more: what is left over behind a panel goes to
 * vectors half as wide, if there are some and they are enough, or is taken with the panel, three vectors wide. */
TARGET static void NAME(tiles)(const Tile *t, idx m, idx n, const REAL *A, const REAL *B, const REAL *bias, REAL *C)
{
    typedef void (*Kind)(int, const Tile *, const REAL *, const REAL *, const REAL *, REAL *, MASK);
    static const Kind kinds[][3][2] = {
        {PAIR(narrow), UNIT(narrow), PAIR(narrow_square)},
#if WIDE
        {PAIR(wide), UNIT(wide), PAIR(wide_square)},
#endif
    };
#ifdef THREE
    static const Kind three[] = PAIR(three);
#endif
    if (m == 0) return; /* no block to divide by */
    for (idx j = 0, width; j < n; j += width) {
        const idx left = n - j;
        int wide = left > VL, more = 0;
#ifdef HALF_WIDTH
        if (left <= VL / 2) { HALF_WIDTH(t, m, left, A, B + j, bias ? bias + j : NULL, C + j); return; }
        if (m >= 6) wide = left > VL + VL / 2; /* else one vector of columns has too few rows to keep all units busy */
#endif
#ifdef THREE
        more = left > 2 * VL && left <= 3 * VL && m >= (THREE - 1) * ((m + THREE - 1) / THREE);
#endif
        width = (1 + wide + more) * VL;
        const int part = left < width;
        const MASK mask = MASK_OF(left - width + VL);
        const int square = t->a_i == 1 && t->rows == m && m > 1 && m * m <= (wide ? WIDE : AREA);
        idx highest = wide ? WIDE : NARROW;
        Kind kind = kinds[wide][square ? 2 : t->a_i == 1][part];
#ifdef THREE
        if (more) highest = THREE, kind = three[part];
#endif
        const idx blocks = (m + highest - 1) / highest;
        const idx low = m / blocks, over = m % blocks; /* m * b / blocks, without a division for each block */
        for (idx i = 0, height, rest = 0; i < m; i += height) {
            rest += over;
            height = low + (rest >= blocks);
            if (rest >= blocks) rest -= blocks;
            kind((int)height, t, A + i * t->a_i, B + j, bias ? bias + j : NULL, C + i * t->c_i + j, mask);
        }
    }
}
#undef PAIR
#undef UNIT
#undef MAY_BE_APART
#undef IN_PIECES
