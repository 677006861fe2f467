"""The comparisons fail when they must: zeros, NaN or a wrong shape never pass."""

import numpy as np
import pytest

from compare import assert_close, assert_same_bits, ulp_error


def close(actual, expected):
    assert_close(actual, expected, expected.dtype)


GOOD = np.linspace(-2, 3, 12, dtype=np.float32).reshape(3, 4)


def changed(index, value):
    array = GOOD.copy()
    array[index] = value
    return array


WRONG = {
    "zeros": np.zeros_like(GOOD),
    "one zero": changed((2, 3), 0),
    "NaN everywhere": np.full_like(GOOD, np.nan),
    "one NaN": changed((1, 1), np.nan),
    "infinity": changed((0, 2), np.inf),
    "opposite sign": -GOOD,
    "wrong shape": GOOD.reshape(4, 3),
    "a shape that broadcasts": GOOD[:1],
    "wrong dtype": GOOD.astype(np.float64),
    "a little off": changed((2, 3), GOOD[2, 3] * (1 + 1e-5)),
    "not an array": GOOD.tolist(),
    "a NumPy scalar": GOOD[0, 0],
}


@pytest.mark.parametrize("check", [close, assert_same_bits])
@pytest.mark.parametrize("wrong", WRONG)
def test_helpers_fail_on_what_is_wrong(check, wrong):
    check(GOOD.copy(), GOOD)
    with pytest.raises(AssertionError):
        check(WRONG[wrong], GOOD)


@pytest.mark.parametrize("check", [close, assert_same_bits])
def test_helpers_fail_where_nan_or_infinity_was_expected(check):
    expected = changed((0, 0), np.nan)
    expected[1, 0], expected[1, 1] = np.inf, -np.inf
    check(expected.copy(), expected)
    for index, value in [((0, 0), 1.0), ((1, 0), -np.inf), ((1, 1), 3e38), ((1, 0), np.nan)]:
        actual = expected.copy()
        actual[index] = value
        with pytest.raises(AssertionError):
            check(actual, expected)


def test_a_magnitude_of_zero_allows_nothing():
    zeros = np.zeros(3)
    close(zeros, zeros)
    with pytest.raises(AssertionError):
        close(zeros + 1e-300, zeros)


def test_same_bits_sees_the_last_bit_and_the_sign_of_zero():
    for index, value in [((0, 0), np.nextafter(GOOD[0, 0], np.float32(9)))]:
        with pytest.raises(AssertionError):
            assert_same_bits(changed(index, value), GOOD)
    with pytest.raises(AssertionError):
        assert_same_bits(np.array([-0.0]), np.array([0.0]))


def test_ulp_error_counts_units_in_the_last_place():
    one = np.float32([1.0, 1.0, 1e-45])
    exact = np.array([1 + 2.0**-23, 1 - 2.0**-24, 0.0], np.longdouble)
    np.testing.assert_allclose(ulp_error(one, exact).astype(float), [1, 1, 1], rtol=1e-6)
