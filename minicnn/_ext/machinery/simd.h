/* simd.h: HOW the leaves run.  Instantiates them once per instruction set and type, and picks one set at run time.  The
 * words that vectors are written with stand here, or where the sets differ in simd_base.h, simd_avx2.h, simd_avx512.h.
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
#ifndef __clang__
#define MAY_BE_SMALL /* a part of a file can be compiled for size: FOR_SIZE */
#endif
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

/* ---- the sets ---- */
#include "philox.h" /* the scalar generator, for everybody */
#include "simd_base.h"
#ifdef MINICNN_X86
#include "simd_avx2.h"
#include "simd_avx512.h"
#endif

/* ---- the tables: a set, and the one whose double leaves it takes ---- */
#define LEAVES_FOR(S, D) {#S, &leaves_f32_##S, &leaves_f64_##D}
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
