/* simd_base.h: the words of what every machine of this architecture has; no fused multiply-add. */
#define SET base
#define TARGET
#define PARTS_THROUGH_MEMORY
#if defined __GNUC__ && !defined __clang__
#define FOR_SIZE /* machines without AVX2 are older than 2013: right, and 40 kB less for all others */
#endif

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
#undef FOR_SIZE
#undef SET
#undef TARGET
