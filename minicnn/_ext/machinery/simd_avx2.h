/* simd_avx2.h: the words of AVX2 with FMA. */
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
/* The first lanes of n vectors, piece by piece: a masked store takes as long as nine whole ones on AMD before Zen 4. */
TARGET NOINLINE static void store_parts_f32_avx2(float *p, idx step, __m256i mask, const void *parts, int n)
{
    const int all = _mm256_movemask_ps((__m256)mask), low = all > 15 ? all >> 4 : all;
    for (int i = 0; i < n; i++, p += step) {
        const float *from = (const float *)parts + 8 * i;
        float *to = p;
        if (all > 15) {
            _mm_storeu_ps(to, _mm_loadu_ps(from));
            to += 4, from += 4;
        }
        if (low == 15) _mm_storeu_ps(to, _mm_loadu_ps(from));
        else {
            if (low & 2) _mm_storel_epi64((__m128i *)to, _mm_loadl_epi64((const __m128i *)from));
            if (low & 2) to += 2, from += 2;
            if (low == 1 || low == 7) *to = *from;
        }
    }
}
TARGET NOINLINE static void store_parts_f64_avx2(double *p, idx step, __m256i mask, const void *parts, int n)
{
    const int all = _mm256_movemask_pd((__m256d)mask), low = all > 3 ? all >> 2 : all;
    for (int i = 0; i < n; i++, p += step) {
        const double *from = (const double *)parts + 4 * i;
        double *to = p;
        if (all > 3) {
            _mm_storeu_pd(to, _mm_loadu_pd(from));
            to += 2, from += 2;
        }
        if (low == 3) _mm_storeu_pd(to, _mm_loadu_pd(from));
        else if (low) *to = *from;
    }
}
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

#define REAL float
#define TYPE f32
#define WIDE 6
#define NARROW 12
#define AREA 12
#define THREE 4
#define UNIT_KINDS
#define SINGLE
#define VL 8
#define SPLAT(x) ((VEC)_mm256_set1_ps(x))
#define FMA(a, b, c) __builtin_fmaf(a, b, c)
#define FMA_VEC(a, b, c) ((VEC)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define FMA_FOUR(a, b, c) ((NAME(four))_mm_fmadd_ps((__m128)(a), (__m128)(b), (__m128)(c)))
#define MASK __m256i
#define MASK_OF(n) _mm256_loadu_si256((const __m256i *)(FIRST_LANES + 8 - ((n) < 8 ? (n) : 8)))
#define LOAD_PART(p, mask) ((VEC)_mm256_maskload_ps(p, mask))
#define STORE_PARTS store_parts_f32_avx2
#define STORE_PART(p, mask, v) STORE_PARTS(p, 0, mask, (const VEC[1]){v}, 1)
#define SELECT(type, mask, yes, no) ((type)_mm256_blendv_epi8((__m256i)(no), (__m256i)(yes), (__m256i)(mask)))
#define MASK_FROM(bits) lanes_of_32_avx2(bits)
#define FMA_KEPT(mask, a, b, c) SELECT(VEC, mask, FMA_VEC(a, b, c), c)
#define LOAD_BYTES(p) _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p)))
#define STORE_BYTES(p, lanes) store_bytes_32_avx2(p, (__m256i)(lanes))
#include "leaf.h"

#ifdef MAY_BE_SMALL
#define FOR_SIZE /* float64 is there for proofs */
#endif
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
#define STORE_PARTS store_parts_f64_avx2
#define STORE_PART(p, mask, v) STORE_PARTS(p, 0, mask, (const VEC[1]){v}, 1)
#define SELECT(type, mask, yes, no) ((type)_mm256_blendv_epi8((__m256i)(no), (__m256i)(yes), (__m256i)(mask)))
#define MASK_FROM(bits) lanes_of_64_avx2(bits)
#define FMA_KEPT(mask, a, b, c) SELECT(VEC, mask, FMA_VEC(a, b, c), c)
#define LOAD_BYTES(p) _mm256_cvtepu8_epi64(four_bytes_avx2(p))
#define STORE_BYTES(p, lanes) store_bytes_64_avx2(p, (__m256i)(lanes))
#include "leaf.h"

#undef FOR_SIZE
#undef SET
#undef TARGET
