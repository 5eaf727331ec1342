"""The comparison helper, itself tested with wrong arrays: a test that cannot fail proves nothing."""

import numpy as np
import pytest
from compare import assert_close, assert_same_bits, tolerance

WANT = np.array([[1.0, -4.0], [0.0, 2.0]])


def test_accepts_what_is_within_the_tolerance():
    assert_close(WANT + 3e-6, WANT, 1e-6)
    assert_close((WANT + 3e-6).astype(np.float32), WANT, 1e-6, np.float32)
    assert_close(np.zeros((0, 3)), np.zeros((0, 3)), 0)
    assert_close(np.array([np.nan, np.inf, 1]), np.array([np.nan, np.inf, 1]), 0)
    assert_close(np.array([1e-9]), np.array([0.0]), 1e-6, scale=1.0)


@pytest.mark.parametrize(("got", "why"), [
    (WANT + 5e-6, "error"), (WANT * [[1, 1], [1, 1.01]], "error"), (np.zeros((2, 2)), "error"),
    (-WANT, "error"), (WANT.T, "error"), (WANT.ravel(), "shape"), (WANT[None], "shape"), (WANT[:0], "shape"),
    (WANT.tolist(), "array"), (np.where(WANT == 0, np.nan, WANT), "NaN"), (np.full((2, 2), np.nan), "NaN"),
    (np.where(WANT == 1, np.inf, WANT), r"\+inf"), (np.where(WANT == 1, -np.inf, WANT), "-inf"),
])  # fmt: skip
def test_refuses_wrong_arrays(got, why):
    with pytest.raises(AssertionError, match=why):
        assert_close(got, WANT, 1e-6)


def test_refuses_a_wrong_dtype():
    with pytest.raises(AssertionError, match="dtype float64 instead of float32"):
        assert_close(WANT, WANT, 1e-6, np.float32)


def test_refuses_a_number_where_nan_or_inf_belongs():
    with pytest.raises(AssertionError, match=r"NaN in one .* \(1,\)"):
        assert_close(np.array([1.0, 2.0]), np.array([1.0, np.nan]), 1e-6)
    with pytest.raises(AssertionError, match="inf in one"):
        assert_close(np.array([1.0, np.inf]), np.array([1.0, -np.inf]), 1e-6)


def test_zeros_are_compared_exactly():
    with pytest.raises(AssertionError, match="error"):
        assert_close(np.array([0.0, 1e-30]), np.zeros(2), 1e-6)


def test_message_names_the_worst_place():
    with pytest.raises(AssertionError, match=r"at \(1, 0\): got .*0\.5.*, want .*0\.0"):
        assert_close(np.array([[1.0, -4.1], [0.5, 2.0]]), WANT, 1e-6)


def test_tolerance_grows_with_the_sum_in_float32_only():
    assert tolerance(np.float32, 10_000) > 10 * tolerance("float32", 1) > 1e-7
    assert tolerance(np.float32, 10_000) < 2e-5
    assert tolerance(np.float64, 10_000) == tolerance(np.float64) == 1e-10


def test_same_bits():
    assert_same_bits(np.array([np.nan, -0.0]), np.array([np.nan, -0.0]))
    for b in (np.array([0.0, 1.0]), np.array([-0.0, np.nextafter(1.0, 2)]), np.array([-0.0, 1.0], np.float32)):
        with pytest.raises(AssertionError):
            assert_same_bits(np.array([-0.0, 1.0]), b)
    with pytest.raises(AssertionError, match=r"1 of 2 differ, first at \(1,\)"):
        assert_same_bits(np.array([1, 2]), np.array([1, 3]))
