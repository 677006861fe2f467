"""Comparisons of results, within a tolerance relative to a magnitude or bit for bit; and a check
that a call runs on several threads.

No comparison can pass by accident: a wrong type, shape, NaN or infinity fails, and the tolerance
scales with the expected numbers, so that zeros do not pass for them (test_compare.py).
"""

import os
import sys
import threading

import numpy as np

import fastnn

TOLERANCE = {np.dtype(np.float32): 2e-6, np.dtype(np.float64): 4e-15}


def wide(x):
    """x in the precision of the reference: float64 for float32, long double for float64."""
    return x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)


def check_like(actual, expected, dtype):
    """`actual` is an array of this dtype, with the shape, NaN and infinities of `expected`."""
    assert isinstance(actual, np.ndarray), f"expected an array, got {type(actual).__name__}"
    assert actual.dtype == np.dtype(dtype), f"expected {np.dtype(dtype)}, got {actual.dtype}"
    assert actual.shape == expected.shape, f"expected shape {expected.shape}, got {actual.shape}"
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected), "NaN in other places")
    infinite = np.isinf(expected)
    np.testing.assert_array_equal(actual[infinite], expected[infinite], "infinity differs")
    assert np.isfinite(actual[np.isfinite(expected)]).all(), "finite values became infinite"


def assert_close(actual, expected, dtype, magnitude=None, factor=1.0):
    """|actual - expected| <= factor * TOLERANCE * magnitude, element by element.

    magnitude: an array (such as |x| @ |w| for x @ w), or None for the largest finite |expected|.
    """
    expected = np.asarray(expected)
    check_like(actual, expected, dtype)
    finite = np.isfinite(expected)
    if magnitude is None:
        magnitude = np.abs(expected[finite]).max(initial=0.0)
    allowed = np.broadcast_to(factor * TOLERANCE[actual.dtype] * magnitude, expected.shape)
    error = np.abs(actual[finite] - expected[finite])
    worst = error / np.where(allowed[finite] == 0, np.finfo(actual.dtype).tiny, allowed[finite])
    assert (error <= allowed[finite]).all(), (
        f"off by up to {error.max():.3g}, {worst.max():.3g} times what is allowed, "
        f"at {np.argwhere(finite)[worst.argmax()]}"
    )


def assert_same_bits(actual, expected):
    """Equal bit for bit, signs of zeros included; any NaN equals any NaN."""
    check_like(actual, expected, expected.dtype)
    number = ~np.isnan(expected)
    natural = f"u{expected.dtype.itemsize}"
    differ = actual[number].view(natural) != expected[number].view(natural)
    assert not differ.any(), (
        f"{differ.sum()} of {differ.size} elements differ, first at "
        f"{np.argwhere(number)[differ.argmax()]}"
    )


def ulp_error(actual, exact):
    """|actual - exact| in units in the last place of `exact` (float64 or wider) rounded to
    actual's type; below the normal range the unit is the smallest denormal."""
    assert actual.shape == exact.shape
    unit = np.abs(np.spacing(np.abs(exact).astype(actual.dtype))).astype(np.longdouble)
    return np.abs(actual.astype(np.longdouble) - exact.astype(np.longdouble)) / unit


def _tasks():
    """This process's threads, read until two lists agree: one may lack some while a thread ends."""
    last, tasks = None, set()
    while tasks != last:
        last, tasks = tasks, set(os.listdir("/proc/self/task"))
    return tasks


def uses_threads(call):
    """Whether `call` has enough work for threads: in a new Python thread it starts a team of
    fastnn's own.  True outside Linux, where threads cannot be listed."""
    if sys.platform != "linux":
        return True
    started = set()

    def run():
        before = _tasks()
        with fastnn.runtime("own"), fastnn.threads(2):
            call()
        started.update(_tasks() - before)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return bool(started)
