"""Averages of numbers that come one after the other."""

import math

import numpy as np
import pytest

import reference
from fastnn import ExponentialAverage


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999])
def test_exponential_average(beta, rng):
    values = rng.standard_normal(20)
    average = ExponentialAverage(beta)
    assert math.isnan(average.value)
    expected = reference.exponential_average(values, beta)
    got = [average.update(value) for value in values]
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)
    assert average.value == got[-1] and got[0] == pytest.approx(values[0])
    arrays = ExponentialAverage(beta)
    for value in values:
        result = arrays.update([value, -value])
    np.testing.assert_allclose(result, [expected[-1], -expected[-1]], rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="shape"):
        arrays.update(1.0)


@pytest.mark.parametrize("beta", [1, -0.1, np.nan, "a", None, True])
def test_exponential_average_refuses(beta):
    with pytest.raises((TypeError, ValueError), match="beta"):
        ExponentialAverage(beta)
