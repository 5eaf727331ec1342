/* pool.h: rows of pooling windows (`Windows` in leaves.h), a vector of channels at a time.
 *
 * The taps of a window are taken in the order of their numbers; best, winner and sums stay in registers.  From VL
 * channels on, the last vector of a pixel overlaps the one before.  With fewer, a vector reaches into the pixels that
 * follow: what it writes there is overwritten, since pixels are written in the order of their addresses.  Only where an
 * image ends (`edge`) are such vectors cut off.
 *
 * MAX, TWO, LONG, NV, BYTES, PART are constants wherever these functions are inlined: maximum or average, a 2x2 window,
 * a large one, vectors taken at a time (large windows would else be walked through once for each), winners in bytes,
 * cut-off vectors.
 */
#ifdef SINGLE
typedef int32_t NAME(lane);
#else
typedef int64_t NAME(lane);
#endif

#ifndef MINICNN_NO_VECTOR
#define UNALIGNED(type, name) typedef type name __attribute__((vector_size(VL * sizeof(type)), may_alias, aligned(1)));
typedef NAME(lane) NAME(lanes) __attribute__((vector_size(VL * sizeof(REAL)), may_alias));
UNALIGNED(uint8_t, NAME(taps_8))
UNALIGNED(int32_t, NAME(taps_32))
#undef UNALIGNED
#define LANES_OF(x) ((LANES){0} + (NAME(lane))(x))
#define CONVERT(v, type) __builtin_convertvector(v, type)
/* The new value is better: larger, or the first NaN. */
#define BETTER(x, best) (~((x) <= (best)) & ((best) == (best)))
#ifndef SELECT
#define SELECT(type, mask, yes, no) ((type)(((LANES)(yes) & (mask)) | ((LANES)(no) & ~(mask))))
#endif
#else
typedef NAME(lane) NAME(lanes);
typedef uint8_t NAME(taps_8);
typedef int32_t NAME(taps_32);
#define LANES_OF(x) ((LANES)(x))
#define CONVERT(v, type) ((type)(v))
#define BETTER(x, best) (!((x) <= (best)) && (best) == (best))
#define SELECT(type, mask, yes, no) ((mask) ? (yes) : (no))
#endif
#define LANES NAME(lanes)
#ifndef LOAD_BYTES /* VL bytes to lanes and back; gcc 12 would take them one by one where there is an instruction */
#define LOAD_BYTES(p) CONVERT(*(const NAME(taps_8) *)(p), LANES)
#define STORE_BYTES(p, lanes) *(NAME(taps_8) *)(p) = CONVERT(lanes, NAME(taps_8))
#endif

TARGET INLINE VEC NAME(load_some)(const int PART, const REAL *p, MASK mask)
{
    (void)mask;
    return PART ? LOAD_PART(p, mask) : LOAD(p);
}

TARGET INLINE void NAME(store_some)(const int PART, REAL *p, MASK mask, VEC v)
{
    (void)mask;
    if (PART) STORE_PART(p, mask, v);
    else STORE(p, v);
}

/* VL winners from element i on, the first n of them if PART */
TARGET INLINE LANES NAME(load_taps)(const int BYTES, const int PART, const void *winner, idx i, idx n)
{
    const uint8_t *from = (const uint8_t *)winner + (BYTES ? i : 4 * i);
    uint8_t some[4 * VL] = {0};
    if (PART) from = (const uint8_t *)memcpy(some, from, (size_t)(BYTES ? n : 4 * n));
    return BYTES ? (LANES)LOAD_BYTES(from) : CONVERT(*(const NAME(taps_32) *)from, LANES);
}

TARGET INLINE void NAME(store_taps)(const int BYTES, const int PART, void *winner, idx i, idx n, LANES taps)
{
    uint8_t *to = (uint8_t *)winner + (BYTES ? i : 4 * i), some[4 * VL];
    if (BYTES) STORE_BYTES(PART ? some : to, taps);
    else *(NAME(taps_32) *)(PART ? some : to) = CONVERT(taps, NAME(taps_32));
    if (PART) memcpy(to, some, (size_t)(BYTES ? n : 4 * n));
}

/* for every nv vectors of channels: j is the first one */
#define VECTORS(nv) for (idx j = 0, end = c > (nv)*VL ? c - (nv)*VL : 0;; j = j + (nv)*VL < end ? j + (nv)*VL : end)
#define LAST_VECTORS if (j == end) break
#ifdef HALF_WIDTH
#define LEAVE_NARROW(c, leaf, ...)                                                                                    \
    if ((c) <= VL / 2) {                                                                                              \
        JOIN(leaf, JOIN(_, JOIN(TYPE, _avx2)))(__VA_ARGS__);                                                          \
        return;                                                                                                       \
    }
#else
#define LEAVE_NARROW(c, leaf, ...)
#endif

/* ---- forward ---- */

#define RUN 16 /* pixels of a row that are added as they are; so are a window's rows, if there are no more of them */

/* Several rows of x are read side by side, which the hardware takes for no pattern: so the rows that follow are fetched
 * in the order of memory, a part with each of the `count` windows. */
TARGET INLINE void NAME(fetch)(const Windows v, const REAL *x, idx q)
{
    const char *first = (const char *)(x + v.ahead + q * (v.ahead / v.count));
    for (idx byte = 0; byte < v.ahead / v.count * (idx)sizeof(REAL); byte += 64) PREFETCH(first + byte);
}

TARGET INLINE void NAME(take_tap)(const int NV, const int PART, const REAL *from, MASK mask, idx number, VEC *best,
                                  LANES *won)
{
    const LANES tap = LANES_OF(number);
    UNROLL(4) for (int i = 0; i < NV; i++) {
        const VEC next = NAME(load_some)(PART, from + i * VL, mask);
        const LANES better = BETTER(next, best[i]);
        best[i] = SELECT(VEC, better, next, best[i]);
        won[i] = SELECT(LANES, better, tap, won[i]);
    }
}

TARGET INLINE void NAME(max_row)(const int TWO, const int NV, const int BYTES, const int PART, const Windows v,
                                 const REAL *x, REAL *y, void *winner)
{
    const idx c = v.c;
    const MASK mask = MASK_OF(c);
    for (idx q = 0; q < v.count; q++) {
        NAME(fetch)(v, x, q);
        VECTORS(NV) {
            VEC best[4];
            LANES won[4];
            const REAL *from = x + q * v.step + j;
            UNROLL(4) for (int i = 0; i < NV; i++) {
                best[i] = NAME(load_some)(PART, from + i * VL, mask);
                won[i] = LANES_OF(v.tap);
            }
            if (TWO) { /* by hand: gcc would count to two in loops, which takes 2.5 times as long */
                NAME(take_tap)(NV, PART, from + c, mask, v.tap + 1, best, won);
                NAME(take_tap)(NV, PART, from + v.row, mask, v.tap + v.tap_row, best, won);
                NAME(take_tap)(NV, PART, from + v.row + c, mask, v.tap + v.tap_row + 1, best, won);
            }
            for (idx a = 0; !TWO && a < v.kh; a++)
                for (idx b = a == 0; b < v.kw; b++)
                    NAME(take_tap)(NV, PART, from + a * v.row + b * c, mask, v.tap + a * v.tap_row + b, best, won);
            UNROLL(4) for (int i = 0; i < NV; i++) {
                NAME(store_some)(PART, y + q * c + j + i * VL, mask, best[i]);
                NAME(store_taps)(BYTES, PART, winner, q * c + j + i * VL, c, won[i]);
            }
            LAST_VECTORS;
        }
    }
}

/* y = the maxima of a row of windows of x, winner = the numbers of their taps; the first of equals, the first NaN */
LEAF NAME(max_windows)(const Windows *v, const REAL *x, REAL *y, void *winner)
{
    LEAVE_NARROW(v->c, max_windows, v, x, y, winner)
    const int two = v->kh == 2 && v->kw == 2, part = v->edge && v->c < VL;
    if (!v->bytes && part) NAME(max_row)(0, 1, 0, 1, *v, x, y, winner);
    else if (!v->bytes) NAME(max_row)(0, 1, 0, 0, *v, x, y, winner);
    else if (part) NAME(max_row)(0, 1, 1, 1, *v, x, y, winner);
    else if (two) NAME(max_row)(1, 1, 1, 0, *v, x, y, winner);
    else if (v->c >= 4 * VL) NAME(max_row)(0, 4, 1, 0, *v, x, y, winner);
    else NAME(max_row)(0, 1, 1, 0, *v, x, y, winner);
}

/* total += x, where lost is what rounding added to total before (W. Kahan, "Further remarks on reducing truncation
 * errors", CACM 8(1), 1965); of an infinite total it is NaN and does not count */
TARGET INLINE void NAME(add_exactly)(VEC *total, VEC *lost, VEC x)
{
    const VEC part = x - *lost, sum = *total + part, rest = (sum - *total) - part;
    *lost = SELECT(VEC, rest == rest, rest, SPLAT(0));
    *total = sum;
}

TARGET INLINE void NAME(average_row)(const int TWO, const int LONG, const int NV, const int PART, const Windows v,
                                     REAL share, const REAL *x, REAL *y)
{
    const idx kh = TWO ? 2 : v.kh, kw = TWO ? 2 : v.kw, c = v.c;
    const MASK mask = MASK_OF(c);
    for (idx q = 0; q < v.count; q++) {
        NAME(fetch)(v, x, q);
        VECTORS(NV) {
            VEC total[4], lost[4], sum[4];
            const REAL *from = x + q * v.step + j;
            UNROLL(4) for (int i = 0; i < NV; i++) total[i] = lost[i] = SPLAT(0);
            for (idx a = 0; a < kh; a++) {
                for (idx b = 0, end_of_run = kw; b < kw;) {
                    if (LONG) end_of_run = b + RUN < kw ? b + RUN : kw;
                    UNROLL(4) for (int i = 0; i < NV; i++) sum[i] = SPLAT(0);
                    for (; b < end_of_run; b++)
                        UNROLL(4) for (int i = 0; i < NV; i++)
                            sum[i] += NAME(load_some)(PART, from + a * v.row + b * c + i * VL, mask);
                    UNROLL(4) for (int i = 0; i < NV; i++) {
                        if (LONG) NAME(add_exactly)(&total[i], &lost[i], sum[i]);
                        else total[i] += sum[i];
                    }
                }
            }
            UNROLL(4) for (int i = 0; i < NV; i++)
                NAME(store_some)(PART, y + q * c + j + i * VL, mask, total[i] * SPLAT(share));
            LAST_VECTORS;
        }
    }
}

/* y = share * the sums of a row of windows of x, each row of a window for itself.  Of large windows runs of a row are
 * added up so that no bit of them is lost: one long sum in float would lose up to a per cent. */
LEAF NAME(average_windows)(const Windows *v, REAL share, const REAL *x, REAL *y)
{
    LEAVE_NARROW(v->c, average_windows, v, share, x, y)
    const int two = v->kh == 2 && v->kw == 2, part = v->edge && v->c < VL, big = v->kh > RUN || v->kw > RUN;
    if (big && part) NAME(average_row)(0, 1, 1, 1, *v, share, x, y);
    else if (big && v->c >= 4 * VL) NAME(average_row)(0, 1, 4, 0, *v, share, x, y);
    else if (big) NAME(average_row)(0, 1, 1, 0, *v, share, x, y);
    else if (part) NAME(average_row)(0, 0, 1, 1, *v, share, x, y);
    else if (two) NAME(average_row)(1, 0, 1, 0, *v, share, x, y);
    else if (v->c >= 4 * VL) NAME(average_row)(0, 0, 4, 0, *v, share, x, y);
    else NAME(average_row)(0, 0, 1, 0, *v, share, x, y);
}

/* ---- backward where every pixel lies in one window: each is written once ---- */

TARGET INLINE void NAME(spread_row)(const int MAX, const int TWO, const int BYTES, const int PART, const Windows v,
                                    REAL share, const REAL *dy, const void *winner, REAL *dx)
{
    const idx kh = TWO ? 2 : v.kh, kw = TWO ? 2 : v.kw, c = v.c;
    const MASK mask = MASK_OF(c);
    for (idx a = 0; a < kh; a++) {
        for (idx q = 0; q < v.count; q++) {
            VECTORS(1) {
                const VEC g = NAME(load_some)(PART, dy + q * c + j, mask);
                LANES won = LANES_OF(0);
                if (MAX) won = NAME(load_taps)(BYTES, PART, winner, q * c + j, c);
                REAL *to = dx + a * v.row + q * v.step + j;
                for (idx b = 0; b < kw; b++) {
                    VEC part = g * SPLAT(share);
                    if (MAX) part = SELECT(VEC, won == LANES_OF(v.tap + a * v.tap_row + b), g, SPLAT(0));
                    NAME(store_some)(PART, to + b * c, mask, part);
                }
                LAST_VECTORS;
            }
        }
    }
}

/* dx = dy at the winner of each window, 0 at its other pixels */
LEAF NAME(max_spread)(const Windows *v, const REAL *dy, const void *winner, REAL *dx)
{
    LEAVE_NARROW(v->c, max_spread, v, dy, winner, dx)
    const int two = v->kh == 2 && v->kw == 2, part = v->edge && v->c < VL;
    if (!v->bytes && part) NAME(spread_row)(1, 0, 0, 1, *v, 0, dy, winner, dx);
    else if (!v->bytes) NAME(spread_row)(1, 0, 0, 0, *v, 0, dy, winner, dx);
    else if (part) NAME(spread_row)(1, 0, 1, 1, *v, 0, dy, winner, dx);
    else if (two) NAME(spread_row)(1, 1, 1, 0, *v, 0, dy, winner, dx);
    else NAME(spread_row)(1, 0, 1, 0, *v, 0, dy, winner, dx);
}

/* dx = share * dy at every pixel of each window */
LEAF NAME(average_spread)(const Windows *v, REAL share, const REAL *dy, REAL *dx)
{
    LEAVE_NARROW(v->c, average_spread, v, share, dy, dx)
    const int two = v->kh == 2 && v->kw == 2, part = v->edge && v->c < VL;
    if (part) NAME(spread_row)(0, 0, 1, 1, *v, share, dy, NULL, dx);
    else if (two) NAME(spread_row)(0, 1, 1, 0, *v, share, dy, NULL, dx);
    else NAME(spread_row)(0, 0, 1, 0, *v, share, dy, NULL, dx);
}

/* ---- backward where windows overlap, are cut off or leave gaps: a pixel gathers from the windows it lies in ---- */

/* 1 / the number of pixels of window (r, q) that count */
TARGET INLINE REAL NAME(share)(const Geometry g, idx r, idx q)
{
    if (g.whole) return 1 / (REAL)(g.kh * g.kw);
    const idx row = r * g.sh - g.top, column = q * g.sw - g.left;
    const idx rows = (row + g.kh < g.h ? row + g.kh : g.h) - (row > 0 ? row : 0);
    const idx columns = (column + g.kw < g.w ? column + g.kw : g.w) - (column > 0 ? column : 0);
    return 1 / (REAL)(rows * columns);
}

TARGET INLINE void NAME(gather_row)(const int MAX, const int BYTES, const int PART, const Geometry g, idx row,
                                    const REAL *dy, const void *winner, REAL *dx)
{
    const idx c = g.c, below = row + g.top, r1 = below / g.sh < g.oh ? below / g.sh + 1 : g.oh;
    const MASK mask = MASK_OF(c);
    idx r0 = 0, q0 = 0, q1 = 0; /* pixel x lies in the windows r0 <= r < r1, q0 <= q < q1 */
    while (r0 < r1 && r0 * g.sh + g.kh <= below) r0++;
    for (idx x = g.left; x < g.left + g.w; x++, dx += c) {
        while (q1 < g.ow && q1 * g.sw <= x) q1++;
        while (q0 < q1 && q0 * g.sw + g.kw <= x) q0++;
        VECTORS(1) {
            VEC sum = SPLAT(0);
            for (idx r = r0; r < r1; r++) {
                for (idx q = q0; q < q1; q++) {
                    const idx i = (r * g.ow + q) * c + j, tap = (below - r * g.sh) * g.kw + x - q * g.sw;
                    const VEC part = NAME(load_some)(PART, dy + i, mask);
                    if (MAX) {
                        const LANES here = NAME(load_taps)(BYTES, PART, winner, i, c) == LANES_OF(tap);
                        sum += SELECT(VEC, here, part, SPLAT(0));
                    } else
                        sum = FMA_VEC(SPLAT(NAME(share)(g, r, q)), part, sum);
                }
            }
            NAME(store_some)(PART, dx + j, mask, sum);
            LAST_VECTORS;
        }
    }
}

/* One row of dx: the sum of dy of all windows that the pixel won.  `edge` as in Windows. */
LEAF NAME(max_gather)(const Geometry *g, idx row, int edge, const REAL *dy, const void *winner, REAL *dx)
{
    LEAVE_NARROW(g->c, max_gather, g, row, edge, dy, winner, dx)
    const int part = edge && g->c < VL;
    if (g->bytes && part) NAME(gather_row)(1, 1, 1, *g, row, dy, winner, dx);
    else if (g->bytes) NAME(gather_row)(1, 1, 0, *g, row, dy, winner, dx);
    else if (part) NAME(gather_row)(1, 0, 1, *g, row, dy, winner, dx);
    else NAME(gather_row)(1, 0, 0, *g, row, dy, winner, dx);
}

/* One row of dx: the sum of dy / (pixels of the window) of all windows that the pixel lies in. */
LEAF NAME(average_gather)(const Geometry *g, idx row, int edge, const REAL *dy, REAL *dx)
{
    LEAVE_NARROW(g->c, average_gather, g, row, edge, dy, dx)
    if (edge && g->c < VL) NAME(gather_row)(0, 1, 1, *g, row, dy, NULL, dx);
    else NAME(gather_row)(0, 1, 0, *g, row, dy, NULL, dx);
}

#undef VECTORS
#undef LAST_VECTORS
#undef LEAVE_NARROW
#undef LANES
#undef RUN
#undef LANES_OF
#undef CONVERT
#undef BETTER
