"""Rows in batches, in an order that follows from a seed (NumPy's PCG64) on every machine alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.support import arrays, checks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray


class batches:
    """The rows of `X` and `y` in batches of `batch_size`; the last one may be shorter.

    Each pass over the object is one epoch and yields ``(xb, yb)``, or ``(xb, yb, wb)`` with a
    `sample_weight`: new C-contiguous arrays of the dtypes that came in.  With `shuffle` every
    epoch has another order; the orders of the first, second, ... epoch depend on `seed` and
    ``len(X)`` only, so that another object with the same seed repeats them.  `drop_last` leaves
    out a last short batch.  ``len()`` is the number of batches in an epoch.

    Shapes: `X` (n, ...), `y` (n, ...), `sample_weight` (n,).
    Raises TypeError or ValueError for what is no array of numbers, for no rows, for lengths that
    differ, for a `batch_size` that is no positive integer and for flags that are none.

    >>> X, y = np.arange(10.0).reshape(5, 2), np.arange(5)
    >>> for xb, yb in batches(X, y, batch_size=2, shuffle=False):
    ...     print(yb, xb.shape)
    [0 1] (2, 2)
    [2 3] (2, 2)
    [4] (1, 2)
    """

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        sample_weight: ArrayLike | None = None,
    ) -> None:
        named = {"X": arrays.numeric_array(X, "X"), "y": arrays.numeric_array(y, "y")}
        if sample_weight is not None:
            named["sample_weight"] = arrays.numeric_array(sample_weight, "sample_weight")
        arrays.same_length(**named)
        self.arrays = tuple(named.values())
        self.batch_size = checks.positive_int(batch_size, "batch_size")
        self.shuffle = checks.flag(shuffle, "shuffle")
        self.drop_last = checks.flag(drop_last, "drop_last")
        self._generator = np.random.Generator(np.random.PCG64(checks.seed(seed)))

    def __len__(self) -> int:
        n: int = self.arrays[0].shape[0]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[tuple[NDArray[Any], ...]]:
        rows, size = self.permutation(), self.batch_size
        for start in range(0, len(self) * size, size):
            index = rows[start : start + size]
            yield tuple(array.take(index, axis=0) for array in self.arrays)

    def permutation(self) -> NDArray[np.int64]:
        """The row numbers in the order of the next epoch; each call begins one."""
        n = len(self.arrays[0])
        rows = self._generator.permutation(n) if self.shuffle else np.arange(n)
        return rows.astype(np.int64, copy=False)

    def state_dict(self) -> dict[str, int]:
        """The state of the shuffling: `load_state_dict` of another object with as many rows
        continues from there.

        Take it between two passes: one that has begun has its order already.

        >>> first, second = batches([[0.0]] * 9, [0] * 9), batches([[0.0]] * 9, [0] * 9)
        >>> _ = first.permutation()
        >>> second.load_state_dict(first.state_dict())
        >>> bool((first.permutation() == second.permutation()).all())
        True
        """
        state: Any = self._generator.bit_generator.state
        rest = {name: int(state[name]) for name in ("has_uint32", "uinteger")}
        return {"rows": len(self.arrays[0]), **state["state"], **rest}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from a result of `state_dict`.

        Raises TypeError or ValueError for anything else, or another number of rows, and then
        changes nothing.
        """
        state = check_order(state)
        if state["rows"] != len(self.arrays[0]):
            raise ValueError(
                f"state: expected one of {len(self.arrays[0])} rows, got one of {state['rows']}"
            )
        self._generator.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {name: state[name] for name in ("state", "inc")},
            **{name: state[name] for name in ("has_uint32", "uinteger")},
        }


_ORDER = {  # the numbers of a state, and how large each may be
    "rows": 2**63 - 1,
    "state": 2**128 - 1,
    "inc": 2**128 - 1,
    "has_uint32": 1,
    "uinteger": 2**32 - 1,
}


def check_order(state: Any) -> dict[str, int]:
    """A result of `batches.state_dict`, as plain numbers; TypeError or ValueError otherwise."""
    if not isinstance(state, Mapping) or state.keys() != _ORDER.keys():
        raise ValueError(
            f"state: expected what batches.state_dict() gives, {', '.join(_ORDER)}, got {state!r}"
        )
    checked = {name: checks.whole(state[name], name, 0, most) for name, most in _ORDER.items()}
    if checked["inc"] % 2 == 0:
        raise ValueError(f"inc: expected an odd number, as all generators have, got {state['inc']}")
    checks.positive_int(checked["rows"], "rows")
    return checked
