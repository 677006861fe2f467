"""Cosine, logarithm and power in float64 by +, -, * and /, which round alike everywhere; those of
NumPy and of the C library differ in a last bit from machine to machine.

The polynomials are those of csrc/math.inc, which says what they approximate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

_SIN = (
    0.10085633036793828, -0.71772358005240099, 3.8199270504679104, -15.094641620509320,
    42.058693923785214, -76.705859752798497, 81.605249276073406, -41.341702240399756, 2.443e-16,
)  # fmt: skip
_LOG = (
    0.14802231423805132, 0.15313441735794323, 0.18183587434592455, 0.22222198139806376,
    0.28571428746537775, 0.39999999999396008, 0.66666666666667374,
)  # fmt: skip
_EXP = (
    2.0884905911168825e-09, 2.5109407634475016e-08, 2.7557368191040598e-07, 2.7557243255159008e-06,
    2.4801587219577724e-05, 0.00019841269886954359, 0.0013888888888932433, 0.0083333333333213567,
    0.041666666666666595, 0.16666666666666677, 0.5,
)  # fmt: skip
_TURN = 6.283185307179586
_LN2 = 0.6931471805599453


def cos_turns(t: ArrayLike) -> Array:
    """cos(2 pi t), to 4e-16.

    >>> cos_turns([0.0, 0.25, 0.5, 1.0])
    array([ 1.,  0., -1.,  1.])
    """
    t = np.asarray(t, np.float64)
    q = 0.25 - np.abs(t - np.rint(t))  # of a quarter turn's sine
    return np.asarray(q * _TURN + q * np.polyval(_SIN, q * q))


def log2(x: ArrayLike) -> Array:
    """The logarithm of numbers > 0, to 4e-16 of it; of powers of 2 exactly.

    >>> log2([0.25, 1.0, 8.0])
    array([-2.,  0.,  3.])
    """
    m, exponent = np.frexp(np.asarray(x, np.float64))
    small = m < 0.7071067811865476
    f = np.where(small, 2 * m, m) - 1
    s = f / (f + 2)
    return np.asarray(exponent - small + (2 * s + s * (s * s) * np.polyval(_LOG, s * s)) / _LN2)


def power(base: float, exponent: ArrayLike) -> Array:
    """base^exponent for a base > 0; 0 or infinity beyond float64's range.

    The relative error is about 1e-16, times the number of binary digits left or right of 1.

    >>> power(0.5, [0, 1, 3, 10_000])
    array([1.   , 0.5  , 0.125, 0.   ])
    """
    y = np.clip(np.asarray(exponent, np.float64) * log2(base), -2000, 2000)
    whole = np.rint(y)
    r = (y - whole) * _LN2
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.ldexp(1 + (r + r * r * np.polyval(_EXP, r)), whole.astype(np.intc)))
