"""Cosine, logarithm and power of +, -, * and / alone; their bits are in the published hashes."""

import math

import numpy as np
import pytest

from fastnn.support import exact

EPS = np.finfo(np.float64).eps


def test_cosine():
    t = np.linspace(-3, 3, 6001)
    expected = [math.cos(2 * math.pi * math.remainder(x, 1.0)) for x in t.tolist()]
    np.testing.assert_allclose(exact.cos_turns(t), expected, rtol=0, atol=4e-16)


def test_logarithm():
    x = np.concatenate([np.linspace(0.5, 20, 4001), np.logspace(-300, 300, 4001)])
    expected = [math.log2(value) for value in x.tolist()]
    np.testing.assert_allclose(exact.log2(x), expected, rtol=4e-16)


@pytest.mark.parametrize("base", [1.0, 0.999, 0.5, 0.1, 1e-5, 5e-324])
def test_power(base):
    t = np.linspace(0, 10, 1001)
    expected = np.array([math.pow(base, value) for value in t.tolist()])
    normal = expected > 1e-307
    digits = 1 + np.abs(np.log2(expected[normal]))
    error = np.abs(exact.power(base, t)[normal] - expected[normal]) / expected[normal]
    assert (error <= 2 * EPS * digits).all()
    np.testing.assert_allclose(exact.power(base, t)[~normal], expected[~normal], atol=1e-307)


def test_whole_powers_of_two_are_exact():
    assert exact.log2(2.0**-1074) == -1074 and exact.log2(2.0**1000) == 1000
    assert (exact.power(0.5, np.arange(1000)) == 2.0 ** -np.arange(1000)).all()
    assert exact.power(0.5, 5000) == 0 and exact.power(1.0, 1e9) == 1
