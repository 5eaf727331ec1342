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
#ifdef SINGLE /* included by leaf.h */
#ifdef U64VEC
/* The four words of 2 * U64LANES blocks in order.  They are worked on in lanes of 64 bits of which the lower half counts:
 * a multiplication leaves its high word in the upper half, and the next one ignores whatever stands there.  c[0] has the
 * even blocks and c[1] the odd ones, so that joining them puts the words in order. */
TARGET INLINE void ISA(philox_)(uint64_t block, uint32_t step, uint32_t stream, const uint64_t (*keys)[2], U64VEC *words)
{
    U64VEC c[2][4];
    UNROLL(2) for (uint32_t v = 0; v < 2; v++) {
        c[v][0] = U64ADD(U64IOTA2, U64SPLAT((uint32_t)block + v));
        c[v][1] = U64SPLAT(block >> 32);
        c[v][2] = U64SPLAT(step);
        c[v][3] = U64SPLAT(stream);
    }
    UNROLL(10) for (int round = 0; round < 10; round++)
        UNROLL(2) for (int v = 0; v < 2; v++) {
            const U64VEC p0 = U32MUL(c[v][0], U64SPLAT(PHILOX_M0)), p1 = U32MUL(c[v][2], U64SPLAT(PHILOX_M1));
            c[v][0] = U64XOR3(U64HIGH(p1), c[v][1], U64SPLAT(keys[round][0]));
            c[v][1] = p1;
            c[v][2] = U64XOR3(U64HIGH(p0), c[v][3], U64SPLAT(keys[round][1]));
            c[v][3] = p0;
        }
    UNROLL(4) for (int w = 0; w < 4; w++) words[w] = U32JOIN(c[0][w], c[1][w]);
}

TARGET INLINE void ISA(round_keys_)(uint64_t key, uint64_t (*keys)[2])
{
    for (uint32_t round = 0; round < 10; round++) {
        keys[round][0] = (uint32_t)key + round * PHILOX_W0;
        keys[round][1] = (uint32_t)(key >> 32) + round * PHILOX_W1;
    }
}
#endif

/* words[w][l] is word w of block `block` + l, for 16 blocks that begin at a multiple of 16. */
TARGET INLINE void ISA(philox_16_)(uint64_t block, uint64_t key, uint32_t step, uint32_t stream, uint32_t words[4][16])
{
#ifdef U64VEC
    uint64_t keys[10][2];
    ISA(round_keys_)(key, keys);
    UNROLL(2) for (int v = 0; v < 16; v += 2 * U64LANES) {
        U64VEC some[4];
        ISA(philox_)(block + (uint64_t)v, step, stream, (const uint64_t (*)[2])keys, some);
        UNROLL(4) for (int w = 0; w < 4; w++) memcpy(words[w] + v, &some[w], sizeof(U64VEC));
    }
#else
    for (uint32_t lane = 0; lane < 16; lane++) {
        uint32_t c[4] = {(uint32_t)block + lane, (uint32_t)(block >> 32), step, stream};
        philox(c, key);
        for (int w = 0; w < 4; w++) words[w][lane] = c[w];
    }
#endif
}

LEAF NAME(keep_bits)(uint32_t *keep, idx first, idx count, uint32_t threshold, uint64_t key, uint32_t step,
                     uint32_t stream)
{
#ifdef U64VEC
    uint64_t keys[10][2];
    ISA(round_keys_)(key, keys);
#endif
    for (idx s = 0; s < count; s++, keep += 4) {
        const uint64_t block = (uint64_t)(first + s) * 16;
#ifdef U64VEC
        U64VEC words[16 / (2 * U64LANES)][4];
        UNROLL(2) for (int v = 0; v < 16 / (2 * U64LANES); v++)
            ISA(philox_)(block + (uint64_t)v * 2 * U64LANES, step, stream, (const uint64_t (*)[2])keys, words[v]);
        UNROLL(4) for (int w = 0; w < 4; w++) keep[w] = U16_AT_LEAST(words, w, threshold);
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
#endif
