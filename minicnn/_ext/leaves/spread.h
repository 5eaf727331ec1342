/* spread.h: a mask in which elements share decisions (whole channels, whole rows): few bits are drawn, and each is
 * spread over the elements that share it.  Whole words are copied, what is there is doubled: no loop over elements. */
#ifndef MINICNN_SPREAD_H
#define MINICNN_SPREAD_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MOST_AXES 64 /* as many as NumPy's arrays have */

/* The axes of a sample.  Along a shared one all elements have one decision; no two neighbours are of one kind. */
typedef struct {
    ptrdiff_t axes; /* 0: every element has a decision of its own */
    ptrdiff_t size[MOST_AXES];
    int shared[MOST_AXES];
    int by_the_batch;    /* every sample has the mask of the first */
    ptrdiff_t decisions; /* of a sample */
} Sharing;

/* Puts the `bits` lowest bits of `word`, at most up to the end of a word of `to`, at `place`. */
static inline void put_bits(uint32_t *to, ptrdiff_t place, uint32_t word, ptrdiff_t bits)
{
    const uint32_t at = (uint32_t)(place % 32), mask = 0xFFFFFFFFu >> (32 - bits) << at;
    to[place / 32] = (to[place / 32] & ~mask) | (word << at & mask);
}

/* Copies `bits` bits from one place to another, up to a word at a time; what lies around them stays. */
static void copy_bits(uint32_t *to, ptrdiff_t place, const uint32_t *from, ptrdiff_t start, ptrdiff_t bits)
{
    if (place % 32 == 0 && start % 32 == 0) {
        const ptrdiff_t words = bits / 32;
        memcpy(to + place / 32, from + start / 32, (size_t)words * 4);
        place += words * 32;
        start += words * 32;
        bits -= words * 32;
    }
    while (bits > 0) {
        const ptrdiff_t room = 32 - place % 32, take = bits < room ? bits : room;
        const uint32_t shift = (uint32_t)(start % 32);
        uint32_t word = from[start / 32] >> shift;
        if (shift + take > 32) word |= from[start / 32 + 1] << (32 - shift);
        put_bits(to, place, word, take);
        place += take;
        start += take;
        bits -= take;
    }
}

/* Gives `bits` bits the value of one. */
static void fill_bits(uint32_t *to, ptrdiff_t place, int value, ptrdiff_t bits)
{
    while (bits > 0) {
        if (place % 32 == 0 && bits >= 32) {
            const ptrdiff_t words = bits / 32;
            memset(to + place / 32, value ? 0xFF : 0, (size_t)words * 4);
            place += words * 32;
            bits -= words * 32;
            continue;
        }
        const ptrdiff_t room = 32 - place % 32, take = bits < room ? bits : room;
        put_bits(to, place, value ? 0xFFFFFFFFu : 0, take);
        place += take;
        bits -= take;
    }
}

/* Repeats the bits at `place` behind themselves. */
static void repeat_bits(uint32_t *words, ptrdiff_t place, ptrdiff_t bits, ptrdiff_t times)
{
    for (ptrdiff_t done = bits, all = bits * times; done < all;) {
        const ptrdiff_t more = done < all - done ? done : all - done;
        copy_bits(words, place + done, words, place, more);
        done += more;
    }
}

/* Writes the mask along the axes from `axis` on to `keep`, from bit `place` on, and returns how many bits that are;
 * takes the decisions from `drawn`, in order, from bit `*decision` on. */
static ptrdiff_t spread(const Sharing *s, ptrdiff_t axis, const uint32_t *drawn, ptrdiff_t *decision, uint32_t *keep,
                        ptrdiff_t place)
{
    ptrdiff_t bits = 0;
    if (axis == s->axes - 1 && s->shared[axis]) {
        bits = s->size[axis];
        fill_bits(keep, place, drawn[*decision / 32] >> *decision % 32 & 1, bits);
        *decision += 1;
    } else if (axis == s->axes - 1) {
        bits = s->size[axis];
        copy_bits(keep, place, drawn, *decision, bits);
        *decision += bits;
    } else if (s->shared[axis]) {
        const ptrdiff_t once = spread(s, axis + 1, drawn, decision, keep, place);
        repeat_bits(keep, place, once, s->size[axis]);
        bits = once * s->size[axis];
    } else {
        for (ptrdiff_t i = 0; i < s->size[axis]; i++) bits += spread(s, axis + 1, drawn, decision, keep, place + bits);
    }
    return bits;
}
#endif
