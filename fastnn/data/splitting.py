"""Rows for training and rows for the test, at random by a seed (NumPy's PCG64)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastnn.support import checks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def stratified_split(
    y: ArrayLike, test_fraction: float = 0.2, seed: int = 0
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split rows at random, each class in the same proportion: ``(train, test)`` row numbers.

    `y` (n,) holds one label a row, of any sortable kind.  ``round(test_fraction * n)`` rows are for
    the test, ``test_fraction`` of each class, rounded down or up.  Both results are sorted and
    depend on `y`, `test_fraction` and `seed` only.

    Raises ValueError for a `test_fraction` outside (0, 1), if either result would be empty, and for
    labels that cannot be sorted, as where some are missing.

    >>> train, test = stratified_split([0, 0, 0, 0, 1, 1, 1, 1], test_fraction=0.25)
    >>> len(train), len(test), bool(test[0] < 4 <= test[1])
    (6, 2, True)
    """
    labels = np.asarray(y)
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"y: expected labels of shape (n,) with n >= 1, got {labels.shape}")
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction: expected a number in (0, 1), got {test_fraction!r}")
    try:
        _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    except TypeError as error:  # such as None among them
        raise ValueError(f"y: expected labels that can be sorted ({error})") from None
    total = round(test_fraction * len(labels))
    if not 0 < total < len(labels):
        rows = f"{test_fraction!r} of {len(labels)} rows"
        raise ValueError(f"test_fraction: {rows} would leave a part empty")
    exact = test_fraction * counts
    take = np.floor(exact).astype(np.intp)
    most_lacking = np.argsort(take - exact, kind="stable")
    take[most_lacking[: total - take.sum()]] += 1

    shuffled = np.random.Generator(np.random.PCG64(checks.seed(seed))).permutation(len(labels))
    is_test = np.zeros(len(labels), dtype=bool)
    for label, count in enumerate(take):
        is_test[shuffled[classes[shuffled] == label][:count]] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)
