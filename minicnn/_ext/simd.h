/* simd.h: HOW the leaves run.  Instantiates them once per instruction set and type, and picks one set at run time.
 *
 * Included by `runtime` alone.  On x86-64 with gcc or clang there are three sets: `base` (SSE2), `avx2` (with FMA) and
 * `avx512` (float; double is avx2's); elsewhere `base` is what the compiler's vectors give (NEON on arm64).  Without
 * vector extensions (MSVC, or MINICNN_NO_VECTOR) a vector has one lane and the same text is plain C.
 */
#include "leaves.h"
#include <math.h>
#include <string.h>

#if defined(_MSC_VER) && !defined(__clang__)
#define MINICNN_NO_VECTOR
#define INLINE static __forceinline
#define NOINLINE __declspec(noinline)
#define UNROLL(n)
#define RESTRICT __restrict
#define PREFETCH(p) (void)(p)
#else
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
#define RESTRICT __restrict__
#define PREFETCH(p) __builtin_prefetch(p)
#define PRAGMA(text) _Pragma(#text)
#ifdef __clang__ /* clang 14 takes gcc's pragma but does not unroll fully with it: 40 % of the speed */
#define UNROLL(n) PRAGMA(clang loop unroll(full))
#else
#define UNROLL(n) PRAGMA(GCC unroll n)
#endif
#endif

#if defined(__x86_64__) && !defined(MINICNN_NO_VECTOR)
#define MINICNN_X86
#include <immintrin.h>
#endif

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define CASES_FOR_(n) CASES_##n
#define CASES_FOR(n) CASES_FOR_(n)
#define SQUARES_FOR_(n) SQUARES_##n
#define SQUARES_FOR(n) SQUARES_FOR_(n)
#define NAME(x) JOIN(JOIN(x, _), JOIN(TYPE, JOIN(_, SET)))
#define ISA(x) JOIN(x, SET)

#ifndef MINICNN_NO_VECTOR
#define DECLARE_VECTOR                                                                                                \
    typedef REAL NAME(vec) __attribute__((vector_size(VL * sizeof(REAL)), may_alias));                                \
    typedef REAL NAME(vec_u) __attribute__((vector_size(VL * sizeof(REAL)), may_alias, aligned(sizeof(REAL))));
#define LOAD(p) (*(const NAME(vec_u) *)(p))
#define STORE(p, v) (*(NAME(vec_u) *)(p) = (v))
#define RELU_VEC(v) ((VEC)(~((v) < 0) & (__typeof__((v) < 0))(v))) /* a NaN stays */
#else
#define DECLARE_VECTOR typedef REAL NAME(vec);
#define LOAD(p) (*(p))
#define STORE(p, v) (*(p) = (v))
#define RELU_VEC(v) ((v) < 0 ? 0 : (v))
#endif
#define VEC NAME(vec)

/* The lanes of two vectors in turn: of their lower and of their higher halves. */
#if !defined(MINICNN_NO_VECTOR) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define LOW_2 0, 2
#define LOW_4 0, 4, 1, 5
#define LOW_8 0, 8, 1, 9, 2, 10, 3, 11
#define LOW_16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_2 1, 3
#define HIGH_4 2, 6, 3, 7
#define HIGH_8 4, 12, 5, 13, 6, 14, 7, 15
#define HIGH_16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define LOW(a, b) __builtin_shufflevector(a, b, JOIN(LOW_, VL))
#define HIGH(a, b) __builtin_shufflevector(a, b, JOIN(HIGH_, VL))
#endif
#endif

/* Each inclusion of philox.h and leaf.h below uses up (undefines) the parameters that stand above it. */

/* ---- base: what every machine of this architecture has; no fused multiply-add ---- */
#include "philox.h" /* the scalar generator, for everybody */
#define SET base
#define TARGET
#define KEEP_BITS
#include "philox.h"
#define PARTS_THROUGH_MEMORY

#define REAL float
#define TYPE f32
#define WIDE 6
#define NARROW 12
#define AREA 12
#define SINGLE
#ifdef MINICNN_NO_VECTOR
#define VL 1
#define SPLAT(x) ((REAL)(x))
#else
#define VL 4
#define SPLAT(x) (((VEC){0}) + (REAL)(x))
#endif
#define FMA(a, b, c) ((a) * (b) + (c))
#define FMA_VEC FMA
#include "leaf.h"

#define REAL double
#define TYPE f64
#define WIDE 4
#define NARROW 6
#define AREA 6
#ifdef MINICNN_NO_VECTOR
#define VL 1
#define SPLAT(x) ((REAL)(x))
#else
#define VL 2
#define SPLAT(x) (((VEC){0}) + (REAL)(x))
#endif
#define FMA(a, b, c) ((a) * (b) + (c))
#define FMA_VEC FMA
#include "leaf.h"

#undef PARTS_THROUGH_MEMORY
#undef SET
#undef TARGET

#ifdef MINICNN_X86
/* ---- AVX2 with FMA ---- */
static const int32_t FIRST_LANES[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

#define SET avx2
#define TARGET __attribute__((target("avx2,fma")))

TARGET INLINE uint32_t u16_at_least_avx2(__m256i a, __m256i b, uint32_t threshold)
{
    const __m256i t = _mm256_set1_epi16((short)threshold);
    a = _mm256_cmpeq_epi16(_mm256_max_epu16(a, t), a); /* a >= t, unsigned */
    b = _mm256_cmpeq_epi16(_mm256_max_epu16(b, t), b);
    /* packs works within halves: 0xD8 puts a's eight pairs before b's */
    return (uint32_t)_mm256_movemask_epi8(_mm256_permute4x64_epi64(_mm256_packs_epi16(a, b), 0xD8));
}
/* Lanes that are all less than 256, as bytes; and four bytes at p. */
TARGET INLINE void store_bytes_32_avx2(void *p, __m256i lanes)
{
    const __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(halves, halves));
}
TARGET INLINE void store_bytes_64_avx2(void *p, __m256i lanes)
{
    const __m256i evens = _mm256_permutevar8x32_epi32(lanes, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
    const __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(evens), _mm256_castsi256_si128(evens));
    const int four = _mm_cvtsi128_si32(_mm_packus_epi16(halves, halves));
    memcpy(p, &four, 4);
}
/* All ones in the lanes whose bit is set. */
TARGET INLINE __m256i lanes_of_32_avx2(uint32_t bits)
{
    const __m256i places = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)bits), places), places);
}
TARGET INLINE __m256i lanes_of_64_avx2(uint32_t bits)
{
    const __m256i places = _mm256_setr_epi64x(1, 2, 4, 8);
    return _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x((long long)bits), places), places);
}
TARGET INLINE __m128i four_bytes_avx2(const void *p)
{
    int four;
    memcpy(&four, p, 4);
    return _mm_cvtsi32_si128(four);
}
#define KEEP_BITS
#define U64VEC __m256i
#define U64LANES 4
#define U64IOTA2 _mm256_setr_epi64x(0, 2, 4, 6)
#define U64SPLAT(x) _mm256_set1_epi64x((long long)(x))
#define U64ADD _mm256_add_epi64
#define U64HIGH(x) _mm256_srli_epi64(x, 32)
#define U64XOR3(x, y, z) _mm256_xor_si256(_mm256_xor_si256(x, y), z)
#define U32MUL _mm256_mul_epu32
#define U32JOIN(even, odd) _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA)
#define U16_AT_LEAST(c, w, t) u16_at_least_avx2(c[0][w], c[1][w], t)
#include "philox.h"

#define REAL float
#define TYPE f32
#define WIDE 6
#define NARROW 12
#define AREA 12
#define UNIT_KINDS
#define SINGLE
#define VL 8
#define SPLAT(x) ((VEC)_mm256_set1_ps(x))
#define FMA(a, b, c) __builtin_fmaf(a, b, c)
#define FMA_VEC(a, b, c) ((VEC)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define MASK __m256i
#define MASK_OF(n) _mm256_loadu_si256((const __m256i *)(FIRST_LANES + 8 - ((n) < 8 ? (n) : 8)))
#define LOAD_PART(p, mask) ((VEC)_mm256_maskload_ps(p, mask))
#define STORE_PART(p, mask, v) _mm256_maskstore_ps(p, mask, (__m256)(v))
#define SELECT(type, mask, yes, no) ((type)_mm256_blendv_epi8((__m256i)(no), (__m256i)(yes), (__m256i)(mask)))
#define MASK_FROM(bits) lanes_of_32_avx2(bits)
#define FMA_KEPT(mask, a, b, c) SELECT(VEC, mask, FMA_VEC(a, b, c), c)
#define LOAD_BYTES(p) _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p)))
#define STORE_BYTES(p, lanes) store_bytes_32_avx2(p, (__m256i)(lanes))
#include "leaf.h"

#define REAL double
#define TYPE f64
#define WIDE 4
#define NARROW 6
#define AREA 6
#define VL 4
#define SPLAT(x) ((VEC)_mm256_set1_pd(x))
#define FMA(a, b, c) __builtin_fma(a, b, c)
#define FMA_VEC(a, b, c) ((VEC)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#define MASK __m256i
#define MASK_OF(n) _mm256_loadu_si256((const __m256i *)(FIRST_LANES + 8 - ((n) < 4 ? 2 * (n) : 8)))
#define LOAD_PART(p, mask) ((VEC)_mm256_maskload_pd(p, mask))
#define STORE_PART(p, mask, v) _mm256_maskstore_pd(p, mask, (__m256d)(v))
#define SELECT(type, mask, yes, no) ((type)_mm256_blendv_epi8((__m256i)(no), (__m256i)(yes), (__m256i)(mask)))
#define MASK_FROM(bits) lanes_of_64_avx2(bits)
#define FMA_KEPT(mask, a, b, c) SELECT(VEC, mask, FMA_VEC(a, b, c), c)
#define LOAD_BYTES(p) _mm256_cvtepu8_epi64(four_bytes_avx2(p))
#define STORE_BYTES(p, lanes) store_bytes_64_avx2(p, (__m256i)(lanes))
#include "leaf.h"

#undef SET
#undef TARGET

/* ---- AVX-512, for float alone: double is there for proofs, which 40 kB in the wheel would not make better ---- */
#ifdef __clang__
#define TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")))
#else /* gcc would vectorise plain loops with half the width */
#define TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,prefer-vector-width=512")))
#endif

/* Half as wide, for tiles of few columns, with the registers and masks of AVX-512. */
#define FREE_MASKS
#define SET avx512half

#define REAL float
#define TYPE f32
#define WIDE 0
#define NARROW 14
#define AREA 28
#define UNIT_KINDS
#define VL 8
#define SPLAT(x) ((VEC)_mm256_set1_ps(x))
#define FMA_VEC(a, b, c) ((VEC)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define MASK __mmask8
#define MASK_OF(n) ((__mmask8)((n) < 8 ? (1u << (n)) - 1 : 0xFFu))
#define LOAD_PART(p, mask) ((VEC)_mm256_maskz_loadu_ps(mask, p))
#define STORE_PART(p, mask, v) _mm256_mask_storeu_ps(p, mask, (__m256)(v))
DECLARE_VECTOR
#include "tile.h"
#undef REAL
#undef TYPE
#undef WIDE
#undef NARROW
#undef AREA
#undef UNIT_KINDS
#undef VL
#undef SPLAT
#undef FMA_VEC
#undef MASK
#undef MASK_OF
#undef LOAD_PART
#undef STORE_PART
#undef SET

#define SET avx512

#define KEEP_BITS
#define U64VEC __m512i
#define U64LANES 8
#define U64IOTA2 _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14)
#define U64SPLAT(x) _mm512_set1_epi64((long long)(x))
#define U64ADD _mm512_add_epi64
#define U64HIGH(x) _mm512_srli_epi64(x, 32)
#define U64XOR3(x, y, z) _mm512_ternarylogic_epi64(x, y, z, 0x96)
#define U32MUL _mm512_mul_epu32
#define U32JOIN(even, odd) _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32))
#define U16_AT_LEAST(c, w, t) _mm512_cmpge_epu16_mask(c[0][w], _mm512_set1_epi16((short)(t)))
#include "philox.h"

#define REAL float
#define TYPE f32
#define WIDE 14
#define NARROW 14
#define AREA 14
#define UNIT_KINDS
#define SINGLE
#define VL 16
#define HALF_WIDTH tiles_f32_avx512half
#define SPLAT(x) ((VEC)_mm512_set1_ps(x))
#define FMA(a, b, c) __builtin_fmaf(a, b, c)
#define FMA_VEC(a, b, c) ((VEC)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define MASK __mmask16
#define MASK_OF(n) ((__mmask16)((n) < 16 ? (1u << (n)) - 1 : 0xFFFFu))
#define LOAD_PART(p, mask) ((VEC)_mm512_maskz_loadu_ps(mask, p))
#define STORE_PART(p, mask, v) _mm512_mask_storeu_ps(p, mask, (__m512)(v))
#define MASK_FROM(bits) ((__mmask16)(bits))
#define FMA_KEPT(mask, a, b, c) ((VEC)_mm512_mask3_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c), mask))
#define LOAD_BYTES(p) _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(p)))
#define STORE_BYTES(p, lanes) _mm_storeu_si128((__m128i *)(p), _mm512_cvtepi32_epi8((__m512i)(lanes)))
#include "leaf.h"

#undef FREE_MASKS
#undef SET
#undef TARGET
#endif /* MINICNN_X86 */

/* ---- the tables: a set, and the one whose double leaves it takes ---- */
#define TABLE_OF(T, S)                                                                                                \
    {                                                                                                                 \
        tiles_##T##_##S, multiply_add_##T##_##S, add_##T##_##S, plus_##T##_##S, overlap_add_##T##_##S,                \
            affine_##T##_##S, mask_scale_##T##_##S, times_##T##_##S, activate_##T##_##S, activate_grad_##T##_##S,     \
            softmax_##T##_##S, softmax_row_##T##_##S, softmax_grad_##T##_##S, max_windows_##T##_##S,                  \
            average_windows_##T##_##S, max_spread_##T##_##S, average_spread_##T##_##S, max_gather_##T##_##S,          \
            average_gather_##T##_##S, column_sums_##T##_##S, column_moments_##T##_##S, column_products_##T##_##S,     \
            normalize_##T##_##S, normalize_grad_##T##_##S, transpose_##T##_##S, row_product_##T##_##S,                \
            kept_product_##T##_##S, kept_gradients_##T##_##S, from_u8_##T##_##S, from_i64_##T##_##S,                  \
            from_f32_##T##_##S, from_f64_##T##_##S, sum_absolute_##T##_##S, add_slope_##T##_##S,                      \
            add_squares_##T##_##S, scale_each_##T##_##S, sum_squares_##T##_##S, sgd_##T##_##S, adam_##T##_##S         \
    }
#define LEAVES_FOR(S, D)                                                                                              \
    {                                                                                                                 \
        #S, keep_bits_##S, gaussian_##S, multiply_adds_f32_##S, winograd_in_f32_##S, winograd_out_f32_##S,            \
            TABLE_OF(f32, S), TABLE_OF(f64, D)                                                                        \
    }
static const Leaves LEAVES_BASE = LEAVES_FOR(base, base);
#ifdef MINICNN_X86
static const Leaves LEAVES_AVX2 = LEAVES_FOR(avx2, avx2);
static const Leaves LEAVES_AVX512 = LEAVES_FOR(avx512, avx2);
#endif

/* The best set of this machine that is not above `limit` (0 base, 1 avx2, 2 avx512). */
static const Leaves *choose_leaves(int limit)
{
#ifdef MINICNN_X86
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (limit >= 2 && avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        return &LEAVES_AVX512;
    if (limit >= 1 && avx2) return &LEAVES_AVX2;
#endif
    (void)limit;
    return &LEAVES_BASE;
}
