/* simd_avx512.h: the words of AVX-512, for float alone: double is there for proofs, which 40 kB in the wheel would not
 * make better. */
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
#define FMA_FOUR(a, b, c) ((NAME(four))_mm_fmadd_ps((__m128)(a), (__m128)(b), (__m128)(c)))
#define MASK __mmask8
#define MASK_OF(n) ((__mmask8)((n) < 8 ? (1u << (n)) - 1 : 0xFFu))
#define LOAD_PART(p, mask) ((VEC)_mm256_maskz_loadu_ps(mask, p))
#define STORE_PART(p, mask, v) _mm256_mask_storeu_ps(p, mask, (__m256)(v))
DECLARE_VECTOR
#include "tile.h"
#include "leaf_end.h"
#undef SET

#define SET avx512

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
#define FMA_FOUR(a, b, c) ((NAME(four))_mm_fmadd_ps((__m128)(a), (__m128)(b), (__m128)(c)))
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
