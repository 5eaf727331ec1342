/* peak.h: multiply-adds and nothing else, to find out how many of them this machine can do.
 *
 * n times twelve vectors, acc = acc * x + y, each a chain of its own: enough chains that no unit waits for a result, few
 * enough for 16 registers.  `lanes` receives the sum of all chains, lane by lane.  Returns how many chains there were,
 * each lane counted.  Only the benchmarks call it.
 */
TARGET NOINLINE static int NAME(multiply_adds)(idx n, REAL x, REAL y, REAL *lanes)
{
    const VEC a = SPLAT(x), b = SPLAT(y);
    VEC acc[12];
    UNROLL(12) for (int i = 0; i < 12; i++) acc[i] = SPLAT(i);
    for (; n > 0; n--) {
        UNROLL(12) for (int i = 0; i < 12; i++) acc[i] = FMA_VEC(acc[i], a, b);
    }
    UNROLL(12) for (int i = 1; i < 12; i++) acc[0] += acc[i];
    STORE(lanes, acc[0]);
    return 12 * VL;
}
