"""How the tests compare arrays: strict about shape, dtype and NaN, and with one measure of error.

The error of an array is max |got - want| / scale, where scale is max |want|.  Where terms cancel, a test passes the
size of the terms themselves as ``scale``: rounding errors are as large as they, however small the sum comes out.
"""

import numpy as np

FLOAT64_RTOL = 1e-10


def tolerance(dtype, terms=1):
    """Relative error allowed for a sum of ``terms`` products in ``dtype``, relative to the sum of their sizes.

    Rounding errors of a chain of n additions grow like sqrt(n) (Higham, "Accuracy and Stability of Numerical
    Algorithms", section 4.5); 4 more for products, scales and the way there.  float64 has the project's fixed 1e-10.
    """
    if np.dtype(dtype) == np.float64:
        return FLOAT64_RTOL
    return float(np.finfo(dtype).eps * (4 + terms**0.5))


def assert_close(got, want, rtol, dtype=None, scale=None):
    """Fails unless ``got`` is an array of want's shape (and of ``dtype``, if given) with an error of at most ``rtol``.

    NaN and infinities must stand exactly where ``want`` has them.  If ``want`` is all zeros and no scale is given,
    ``got`` must be all zeros.
    """
    want = np.asarray(want)
    assert isinstance(got, np.ndarray), f"an array is wanted, not {type(got).__name__}"
    assert got.shape == want.shape, f"shape {got.shape} instead of {want.shape}"
    assert dtype is None or got.dtype == np.dtype(dtype), f"dtype {got.dtype} instead of {np.dtype(dtype)}"
    finite = np.isfinite(want)
    for name, test in (("NaN", np.isnan), ("+inf", np.isposinf), ("-inf", np.isneginf)):
        wrong = np.argwhere(test(got) != test(want))
        assert len(wrong) == 0, f"{name} in one of both at {len(wrong)} places, first {tuple(wrong[0].tolist())}"
    if not finite.any():
        return
    exact = want[finite].astype(np.float64)
    errors = np.abs(got[finite].astype(np.float64) - exact)
    scale = np.abs(exact).max() if scale is None else scale
    worst = errors.argmax()
    place = tuple(np.argwhere(finite)[worst].tolist())
    assert errors[worst] <= rtol * scale, (
        f"error {errors[worst] / scale if scale else np.inf:.3g} > {rtol:.3g} (relative to {scale:.6g}) "
        f"at {place}: got {got[place]!r}, want {want[place]!r}"
    )


def assert_same_bits(a, b):
    """Fails unless both arrays have the same shape, dtype and bits; NaNs too."""
    assert a.shape == b.shape, f"shapes {a.shape} and {b.shape}"
    assert a.dtype == b.dtype, f"dtypes {a.dtype} and {b.dtype}"
    width = f"u{a.dtype.itemsize}"
    different = np.argwhere(np.ascontiguousarray(a).view(width) != np.ascontiguousarray(b).view(width))
    if len(different):
        place = tuple(different[0].tolist())
        raise AssertionError(f"{len(different)} of {a.size} differ, first at {place}: {a[place]!r} and {b[place]!r}")
