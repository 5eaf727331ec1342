/* gaussian.h: normal random numbers from the words of philox.h, for noise.
 *
 * G. E. P. Box, M. E. Muller, "A note on the generation of random normal deviates", Ann. Math. Statist. 29(2), 1958:
 * of two uniform numbers u and v, sqrt(-2 ln u) cos(2 pi v) and sqrt(-2 ln u) sin(2 pi v) are normal and independent.
 * One 32-bit word gives both: u has 16 bits, and v a quarter turn in 14 bits and the signs of cosine and sine.
 */

/* -ln((k + 1/2) / 65536) for k < 65536, within 1.2e-6 relative.  The polynomials here are our own, fitted for the
 * smallest largest error: this one is ln(1 + t) / t between sqrt(1/2) and sqrt(2). */
TARGET INLINE float ISA(minus_log_)(uint32_t k)
{
    union { float f; int32_t i; } m = {(float)(int32_t)(2 * k + 1)}; /* exact: 17 bits */
    const int32_t e = (m.i - 0x3F3504F3) >> 23;                       /* 0x3F3504F3: sqrt(1/2) */
    m.i -= (int32_t)((uint32_t)e << 23);
    const float t = m.f - 1.0f;
    float p = 1.18961047e-1f;
    p = FMA(p, t, -1.86678536e-1f);
    p = FMA(p, t, 2.04963294e-1f);
    p = FMA(p, t, -2.49097443e-1f);
    p = FMA(p, t, 3.33145089e-1f);
    p = FMA(p, t, -5.00011129e-1f);
    p = FMA(p, t, 1.00000097f);
    return FMA((float)(17 - e), 0.693147181f, -(p * t));
}

/* Two normal numbers, within 4e-6, from one word.  Its upper half says where on the circle they are: the angle is
 * (pi/2) (1/2 + a) in the first quarter, -1/2 < a < 1/2 in steps of 2^-14, and the two highest bits are the signs.
 * With c, s = cos, sin((pi/2) a) cosine and sine of the angle are (c - s) / sqrt(2) and (c + s) / sqrt(2). */
TARGET INLINE void ISA(normal_pair_)(uint32_t word, float *first, float *second)
{
    const float radius = sqrtf(ISA(minus_log_)(word & 0xFFFFu)); /* over sqrt(2) */
    const float a = FMA((float)(int32_t)(word >> 16 & 0x3FFFu), 6.103515625e-5f, -0.499969482421875f);
    const float square = a * a;
    const float s = a * FMA(FMA(7.76673940e-2f, square, -6.45711990e-1f), square, 1.57078847f);
    const float c = FMA(FMA(FMA(-2.04083615e-2f, square, 2.53598648e-1f), square, -1.23369701f), square, 0.999999972f);
    union { float f; uint32_t i; } one = {radius * (c - s)}, other = {radius * (c + s)};
    one.i ^= word & 0x80000000u;
    other.i ^= word << 1 & 0x80000000u;
    *first = one.f;
    *second = other.f;
}

/* factor = mean + sigma z for `count` groups of 128 elements, from group `first` on.
 *
 * Element e of group s, e = 32 w + l (+ 16), gets the cosine (the sine) of word w of the block with the counter
 * (16 s + l, step, stream), l < 16: pairs are 16 elements apart, as suits vectors of any width. */
LEAF NAME(gaussian)(float *RESTRICT factor, idx first, idx count, float mean, float sigma, uint64_t key,
                    uint32_t step, uint32_t stream)
{
    uint32_t words[4][16];
    for (idx s = first; s < first + count; s++) {
        ISA(philox_16_)((uint64_t)s * 16, key, step, stream, words);
        for (int w = 0; w < 4; w++, factor += 32)
            for (int l = 0; l < 16; l++) {
                float cosine, sine;
                ISA(normal_pair_)(words[w][l], &cosine, &sine);
                factor[l] = FMA(sigma, cosine, mean);
                factor[l + 16] = FMA(sigma, sine, mean);
            }
    }
}
