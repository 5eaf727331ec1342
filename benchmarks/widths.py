"""Direct convolutions of every width against the peak of one thread: in a valley, vectors or tiles are half empty."""

from functools import partial

import numpy as np
import reference

import minicnn as mc
from benchmarks import plot
from benchmarks.machine import Limits, calls_for, cpu_seconds, empty, normal, relative_error, table
from minicnn._ext import conv

SIZE = 16  # pixels, with padding "same"
IMAGES = 32  # at most; two in each chunk of the sum for the weights' gradient
BLOCK = 384 << 10  # bytes of x and y at most, for the other two: the plan's block of images
KERNELS = (1, 3, 5, 7)
WIDTHS = (8, 12, 16, 20, 24, 32, 40, 48, 56, 64, 96, 128)
PASSES = ("forward", "input gradient", "weight gradient")
TEXT = """\
Direct convolution (`algorithm="exact"`) of {size}x{size} pixels with C channels and F filters, one thread: useful
multiply-adds in per cent of the peak, forward / input gradient / weight gradient. The best of {rounds} rounds through
the whole table, a millisecond each and CPU time: what the kernel can do when nobody else uses the core's caches. Every
kernel is compared with float64 first.
"""
TOLERANCE = 1e-5


def section(quick, plots):
    """Markdown: a table for each kernel, and what is lowest in it; the heat maps in a file of the folder ``plots``."""
    kernels, widths, rounds = (KERNELS[1:2], WIDTHS[:2], 1) if quick else (KERNELS, WIDTHS, 15)
    threads = mc.get_num_threads()
    mc.set_num_threads(1)
    try:
        shares = {k: heights(k, widths, rounds, quick) for k in kernels}
    finally:
        mc.set_num_threads(threads)
    parts = [TEXT.format(size=SIZE, rounds=rounds)]
    if plots is not None:
        parts.append(plot.widths(shares, widths, PASSES, plots))
    for k, cells in shares.items():
        rows = [[f"C = {c}", *(" ".join(f"{100 * s:.0f}" for s in cells[c, f]) for f in widths)] for c in widths]
        parts += [table([f"{k}x{k}", *(f"F = {f}" for f in widths)], rows), lowest(k, cells)]
    return "\n".join(parts)


def lowest(k, cells):
    """In words, the lowest cell of each pass."""
    found = [min((of[i], shape) for shape, of in cells.items()) for i in range(len(PASSES))]
    words = (f"{name} {100 * s:.0f} % ({c} -> {f})" for name, (s, (c, f)) in zip(PASSES, found, strict=True))
    return f"Lowest of {k}x{k}: {', '.join(words)}.\n"


def heights(k, widths, rounds, quick=False):
    """{(C, F): share of the peak of each pass}."""
    limit, most, rng = Limits(1, quick), IMAGES * SIZE**2 * max(widths), np.random.default_rng(0)
    sizes = (most, most, (k * max(widths)) ** 2, max(widths))
    sources, results = [normal(rng, (n,)) for n in sizes], [empty((n,)) for n in sizes]
    kernels = {}
    for c in widths:
        for f in widths:
            n = 2 if quick else IMAGES
            few = min(n, max(4, BLOCK // (4 * SIZE**2 * (c + f))))
            runs = passes((few, few, n), c, f, k, sources, results)
            kernels[c, f] = [(run, count, calls_for(run, 0 if quick else 0.001)) for run, count in runs]
    peak, best = 0, {shape: [0] * len(PASSES) for shape in kernels}
    for _ in range(rounds):
        for shape, runs in kernels.items():
            peak = max(peak, limit.flops / cpu_seconds(limit.chains, 1))
            speeds = [2 * n * (SIZE * k) ** 2 * np.prod(shape) / cpu_seconds(run, calls) for run, n, calls in runs]
            best[shape] = np.maximum(best[shape], speeds)
    return {shape: speeds / peak for shape, speeds in best.items()}


def passes(counts, c, f, k, sources, results):
    """(kernel, images) of each pass on the beginnings of these arrays, after a look at what it computes."""

    def begin(arrays, n):
        shapes = (n, SIZE, SIZE, c), (n, SIZE, SIZE, f), (k, k, c, f), (f,)
        return [array[: np.prod(shape)].reshape(shape) for array, shape in zip(arrays, shapes, strict=True)]

    geometry = (1, 1, k // 2, k // 2, 1, 1, 1)

    def forward(x, dy, kernel, bias, dx, y, dkernel, dbias):
        conv.forward(x, kernel, bias, y, geometry)

    def backward_input(x, dy, kernel, bias, dx, y, dkernel, dbias):
        conv.backward_input(dy, kernel, dx, geometry)

    def backward_params(x, dy, kernel, bias, dx, y, dkernel, dbias):
        conv.backward_params(x, dy, dkernel, dbias, geometry)

    one = [*begin(sources, 1), *begin(results, 1)]
    for run in (runs := (forward, backward_input, backward_params)):
        run(*one)
    x, dy, kernel, bias, dx, y, dkernel, _ = one
    want = *reference.conv2d_grad(x, kernel, dy, padding="same")[:2], reference.conv2d(x, kernel, bias, padding="same")
    error = max(map(relative_error, (dx, dkernel, y), want))
    assert error < TOLERANCE, f"{k}x{k}, {c} -> {f}: error {error}"
    return [(partial(run, *begin(sources, n), *begin(results, n)), n) for run, n in zip(runs, counts, strict=True)]
