/* philox.h: Philox4x32-10, a counter-based random generator, and the mask bits that dropout draws from it.
 *
 * J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC11 (2011):
 * four 32-bit words are a function of a 128-bit counter and a 64-bit key, with no state between calls.
 */
#ifndef MINICNN_PHILOX_H
#define MINICNN_PHILOX_H
#include <stddef.h>
#include <stdint.h>

#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
#define PHILOX_W0 0x9E3779B9u
#define PHILOX_W1 0xBB67AE85u

/* Replaces the four counter words in c by four random words. */
static inline void philox(uint32_t c[4], uint64_t key)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++, k0 += PHILOX_W0, k1 += PHILOX_W1) {
        const uint64_t p0 = (uint64_t)PHILOX_M0 * c[0], p1 = (uint64_t)PHILOX_M1 * c[2];
        c[0] = (uint32_t)(p1 >> 32) ^ c[1] ^ k0;
        c[1] = (uint32_t)p1;
        c[2] = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
        c[3] = (uint32_t)p0;
    }
}
#endif

/* Draws `count` groups of 128 mask bits, from group `first` on; bit e of a group is set where its element is kept.
 *
 * Element e of group s is decided by 16 bits: by half e % 2 of word e / 32 of the block with the counter
 * (16 s + e % 32 / 2, step, stream).  It is kept if they are >= threshold, so a share of threshold / 65536 is dropped.
 * The order suits vectors of 16 blocks: one comparison of a whole word gives 32 neighbouring mask bits. */
#ifdef KEEP_BITS
TARGET static void ISA(keep_bits_)(uint32_t *keep, ptrdiff_t first, ptrdiff_t count, uint32_t threshold, uint64_t key,
                                   uint32_t step, uint32_t stream)
{
    for (ptrdiff_t s = 0; s < count; s++, keep += 4) {
        const uint64_t block = (uint64_t)(first + s) * 16;
#ifdef U32VEC
        U32VEC c[16 / U32LANES][4]; /* the 16 blocks of a group, side by side: their rounds fill each other's waits */
        UNROLL(4) for (int v = 0; v < 16 / U32LANES; v++) {
            c[v][0] = U32ADD(U32IOTA, U32SPLAT((uint32_t)block + (uint32_t)v * U32LANES));
            c[v][1] = U32SPLAT((uint32_t)(block >> 32));
            c[v][2] = U32SPLAT(step);
            c[v][3] = U32SPLAT(stream);
        }
        uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
        UNROLL(10) for (int round = 0; round < 10; round++, k0 += PHILOX_W0, k1 += PHILOX_W1)
            UNROLL(4) for (int v = 0; v < 16 / U32LANES; v++) {
                U32VEC hi0, lo0, hi1, lo1;
                U32MUL(PHILOX_M0, c[v][0], hi0, lo0);
                U32MUL(PHILOX_M1, c[v][2], hi1, lo1);
                c[v][0] = U32XOR(U32XOR(hi1, c[v][1]), U32SPLAT(k0));
                c[v][1] = lo1;
                c[v][2] = U32XOR(U32XOR(hi0, c[v][3]), U32SPLAT(k1));
                c[v][3] = lo0;
            }
        for (int w = 0; w < 4; w++) keep[w] = U16_AT_LEAST(c, w, threshold);
#else
        uint32_t kept[4] = {0, 0, 0, 0};
        for (uint32_t lane = 0; lane < 16; lane++) {
            uint32_t c[4] = {(uint32_t)block + lane, (uint32_t)(block >> 32), step, stream};
            philox(c, key);
            for (int w = 0; w < 4; w++) {
                kept[w] |= (uint32_t)((c[w] & 0xFFFFu) >= threshold) << (2 * lane);
                kept[w] |= (uint32_t)((c[w] >> 16) >= threshold) << (2 * lane + 1);
            }
        }
        for (int w = 0; w < 4; w++) keep[w] = kept[w];
#endif
    }
}
#undef KEEP_BITS
#undef U32VEC
#undef U32LANES
#undef U32IOTA
#undef U32SPLAT
#undef U32ADD
#undef U32XOR
#undef U32MUL
#undef U16_AT_LEAST
#endif
