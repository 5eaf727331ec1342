"""Every kernel against the limit of the machine: multiply-adds for the convolutions, copies for all that moves data."""

import minicnn as mc
from benchmarks import arithmetic, streaming, widths
from benchmarks.machine import Limits, percent, side_by_side, table

TITLE = "Kernels beside what the machine can do"
TEXT = """\
The limits are measured in the same run, in turns with the kernels. *Peak*: chains of multiply-adds that never leave
the registers. *Copy*: NumPy's copy of 64 MB, bytes read and written. FLOPs of a convolution are 2 N OH OW F KH KW C for
each of forward, input gradient and weight gradient, also for algorithms that do fewer: Winograd may exceed the peak.
Bytes are those of every array that a kernel must read or write, once for every pass over it that cannot be saved.
*Error*: the largest difference to float64, over the largest value.
"""
TOLERANCE = 1e-4


def run(quick=False, plots=None):
    most = mc.get_num_threads()
    limits = [Limits(threads, quick) for threads in dict.fromkeys([1, most])]
    try:
        return "\n".join([
            TEXT,
            "### Limited by arithmetic\n",
            roofline(arithmetic.groups(quick), limits, "multiply_adds", "flops", ("GFLOP/s", "of peak"), quick),
            "### Limited by memory (arrays of 64 MB)\n",
            roofline(streaming.groups(quick), limits, "copy", "bytes", ("GB/s", "of copy"), quick),
            "### Of every width\n",
            widths.section(quick, plots),
        ])  # fmt: skip
    finally:
        mc.set_num_threads(most)


def roofline(groups, limits, limit, amount, units, quick):
    """A table of all kernels, beside the limit as it was while their group was measured."""
    rows = []
    for label, cases in groups:
        errors = {case.name: checked(label, case) for case in cases}
        cells = {case.name: [] for case in cases} | {"": []}
        for machine in limits:
            mc.set_num_threads(machine.threads)
            functions = {"": getattr(machine, limit)} | {case.name: case.run for case in cases}
            measured = side_by_side(functions, quick, rounds=9)
            best = getattr(machine, amount) / measured[""].median
            cells[""] += [f"{best / 1e9:.0f}", "", percent(measured[""].spread)]
            for case in cases:
                speed = case.amount / measured[case.name].median
                spread = percent(measured[case.name].spread)
                cells[case.name] += [f"{speed / 1e9:.1f}", percent(speed / best), spread]
        rows += [[label, name, *cells[name], f"{errors[name]:.0e}"] for name in errors]
        rows.append([label, "*the limit*", *cells[""], ""])
    heads = [head for m in limits for head in (f"{units[0]}, {m.threads} thr.", units[1], "spread")]
    return table(["shape", "kernel", *heads, "error"], rows)


def checked(label, case):
    """The error of a kernel, which must be small before its speed is of interest."""
    case.run()
    error = case.error()
    assert error < TOLERANCE, f"{label}, {case.name}: error {error}"
    return error
