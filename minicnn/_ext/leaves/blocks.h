/* blocks.h: DropBlock's mask: whole blocks are dropped where the bit of their first corner is.
 *
 * An image is one string of bits, row after row, pixel after pixel, channel after channel: to drop what stands one pixel
 * further, or one row further, is to shift the string by `channels` bits, or by a whole row.  No block crosses an edge,
 * so nothing is shifted into the next row.  Windows are doubled: of `block` cells with log2(block) shifts.
 */
#ifdef SINGLE
/* Bit p of `to` is that of `from` and that of `from` at p - step; before the first bit all is kept. */
TARGET INLINE void ISA(and_before_)(const uint32_t *RESTRICT from, uint32_t *RESTRICT to, idx words, idx step)
{
    const idx whole = step / 32;
    const uint32_t rest = (uint32_t)(step % 32);
    idx w = 0;
    for (; w < whole && w < words; w++) to[w] = from[w];
    if (w < words) {
        to[w] = from[w] & (from[0] << rest | ~(0xFFFFFFFFu << rest));
        w++;
    }
    if (rest)
        for (; w < words; w++) to[w] = from[w] & (from[w - whole] << rest | from[w - whole - 1] >> (32 - rest));
    else
        for (; w < words; w++) to[w] = from[w] & from[w - whole];
}

/* `keep`: `size` bits of an image, 0 where a block of block x block pixels has its first corner.  Drops the blocks and
 * returns how many bits are kept; those behind the last of the image are 0.  `column`, `row`: bits from one pixel, from
 * one row to the next; `spare`: as much memory again. */
TARGET NOINLINE static idx NAME(drop_blocks)(uint32_t *keep, uint32_t *spare, idx size, idx column, idx row, idx block)
{
    const idx words = (size + 31) / 32;
    uint32_t *now = keep, *next = spare;
    idx kept = 0;
    for (int axis = 0; axis < 2; axis++)
        for (idx span = 1, more; span < block; span += more) {
            more = span < block - span ? span : block - span;
            ISA(and_before_)(now, next, words, more * (axis ? row : column));
            uint32_t *other = now;
            now = next;
            next = other;
        }
    if (now != keep) memcpy(keep, now, (size_t)words * sizeof(uint32_t));
    if (size % 32) keep[words - 1] &= ~(0xFFFFFFFFu << size % 32);
    for (idx w = 0; w < words; w++) { /* the sum of 32 bits: of pairs, of fours, of bytes */
        uint32_t bits = keep[w] - (keep[w] >> 1 & 0x55555555u);
        bits = (bits & 0x33333333u) + (bits >> 2 & 0x33333333u);
        kept += ((bits + (bits >> 4)) & 0x0F0F0F0Fu) * 0x01010101u >> 24;
    }
    return kept;
}
#endif
