/* tile.h: the one product that convolution and dense layers are made of (its formula stands at `Tile` in leaves.h).
 *
 * A block of M x (NV*VL) outputs stays in registers for the whole reduction: each step loads NV vectors of B and
 * multiplies them with M broadcast values of A.  Every output is one chain of fused multiply-adds in the order of
 * (a, k), so that the result does not depend on how an area is cut into blocks, nor on the width of the vectors.
 *
 * M, NV, UNIT_I and PART are constants wherever `tile` is inlined: the accumulators must be a fixed array and the
 * loops over it fully unrolled, or the compiler leaves them in memory (measured: 35 % of the speed).
 */
TARGET INLINE void NAME(tile)(const int M, const int NV, const int UNIT_I, const int PART, const Tile *t,
                              const REAL *A, const REAL *B, const REAL *bias, REAL *C, MASK mask)
{
    const idx a_i = UNIT_I ? 1 : t->a_i, a_k = UNIT_I ? t->a_k : 1, b_k = t->b_k, c_i = t->c_i;
    for (idx r = 0; r < t->rows; r++, A += t->a_row, C += t->c_row) {
        VEC acc[28];
        UNROLL(28) for (int i = 0; i < M; i++) {
            UNROLL(2) for (int j = 0; j < NV; j++) {
                const REAL *from = bias ? bias + VL * j : C + i * c_i + VL * j;
                if (!bias && !t->accumulate) acc[i * NV + j] = SPLAT(0);
                else acc[i * NV + j] = PART && j == NV - 1 ? LOAD_PART(from, mask) : LOAD(from);
            }
        }
        for (idx a = 0; a < t->ka; a++) {
            const REAL *pa = A + a * t->a_a, *pb = B + a * t->b_a;
            for (idx k = t->kb; k > 0; k--, pa += a_k, pb += b_k) {
                VEC b[2];
                UNROLL(2) for (int j = 0; j < NV; j++)
                    b[j] = PART && j == NV - 1 ? LOAD_PART(pb + VL * j, mask) : LOAD(pb + VL * j);
                UNROLL(28) for (int i = 0; i < M; i++) {
                    VEC x = SPLAT(pa[i * a_i]);
                    UNROLL(2) for (int j = 0; j < NV; j++) acc[i * NV + j] = FMA_VEC(x, b[j], acc[i * NV + j]);
                }
            }
        }
        UNROLL(28) for (int i = 0; i < M; i++) {
            UNROLL(2) for (int j = 0; j < NV; j++) {
                REAL *to = C + i * c_i + VL * j;
                if (PART && j == NV - 1) STORE_PART(to, mask, acc[i * NV + j]);
                else STORE(to, acc[i * NV + j]);
            }
        }
    }
}

/* The tile with m rows, as one function per kind: the widest block has WIDE rows of two vectors or NARROW of one. */
#define CASE(m) case m: NAME(tile)(m, NV_, UNIT_I_, PART_, t, A, B, bias, C, mask); break;
#define CASES_6 CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#define CASES_12 CASES_6 CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#define CASES_14 CASES_12 CASE(13) CASE(14)
#define TILE_OF(name)                                                                                                 \
    TARGET NOINLINE static void NAME(name)(int m, const Tile *t, const REAL *A, const REAL *B, const REAL *bias,      \
                                           REAL *C, MASK mask)                                                        \
    {                                                                                                                 \
        (void)mask;                                                                                                   \
        switch (m) { CASES }                                                                                          \
    }

#define NV_ 2
#define CASES CASES_FOR(WIDE)
#define UNIT_I_ 0
#define PART_ 0
TILE_OF(tile_wide)
#undef PART_
#define PART_ 1
TILE_OF(tile_wide_part)
#undef UNIT_I_
#define UNIT_I_ 1
TILE_OF(tile_wide_unit_part)
#undef PART_
#define PART_ 0
TILE_OF(tile_wide_unit)
#undef CASES
#undef NV_
#define NV_ 1
#define CASES CASES_FOR(NARROW)
TILE_OF(tile_narrow_unit)
#undef PART_
#define PART_ 1
TILE_OF(tile_narrow_unit_part)
#undef UNIT_I_
#define UNIT_I_ 0
TILE_OF(tile_narrow_part)
#undef PART_
#define PART_ 0
TILE_OF(tile_narrow)
#undef PART_
#undef UNIT_I_
#undef CASES
#undef NV_
#undef TILE_OF
#undef CASES_14
#undef CASES_12
#undef CASES_6
#undef CASE

/* Any m x n area: panels of two vectors of columns, each cut into blocks of nearly equal height. */
TARGET static void NAME(tiles)(const Tile *t, idx m, idx n, const REAL *A, const REAL *B, const REAL *bias, REAL *C)
{
#ifdef HALF_WIDTH /* eight columns or fewer: half as wide a vector wastes half as much */
    if (n <= VL / 2) { HALF_WIDTH(t, m, n, A, B, bias, C); return; }
#endif
    for (idx j = 0; j < n; j += 2 * VL) {
        const idx left = n - j;
        const int wide = left > VL, part = wide ? left < 2 * VL : left < VL;
        const MASK mask = MASK_OF(left - wide * VL);
        void (*const kind[8])(int, const Tile *, const REAL *, const REAL *, const REAL *, REAL *, MASK) = {
            NAME(tile_narrow), NAME(tile_narrow_part), NAME(tile_narrow_unit), NAME(tile_narrow_unit_part),
            NAME(tile_wide),   NAME(tile_wide_part),   NAME(tile_wide_unit),   NAME(tile_wide_unit_part)};
        const int unit = t->a_i == 1 && t->a_k != 1;
        const idx highest = wide ? WIDE : NARROW, blocks = (m + highest - 1) / highest;
        for (idx b = 0; b < blocks; b++) {
            const idx i = m * b / blocks, height = m * (b + 1) / blocks - i;
            kind[wide * 4 + unit * 2 + part]((int)height, t, A + i * t->a_i, B + j, bias ? bias + j : NULL,
                                             C + i * t->c_i + j, mask);
        }
    }
}
