"""What is recorded of a training step: its programs, and how the next `fit` takes them over."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from fastnn.support import settings
from fastnn.support.arrays import aligned_zeros, writable

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    import fastnn._kernels as _kernels
    from fastnn.network import Network
    from fastnn.optimizers import Optimizer

    Array = NDArray[Any]
    Parts = tuple[object, ...]

_MOST = 16  # programs in a recording, one for each kind of batch; the oldest goes first


class Unrecorded:
    """Stands in for a program where a step cannot be recorded: it gives what it was fed."""

    def __enter__(self) -> Unrecorded:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def feed(self, x: Any, targets: Any = None, weights: Any = None) -> None:
        self._fed = {"x": x, "targets": targets, "weights": weights}

    def take(self, name: str, rows: int) -> Any:
        return self._fed[name]

    def give(self, outputs: Array) -> None: ...
    def take_rate(self, rates: Array, index: int, column: int) -> None: ...
    def end_batch(self, value: Array) -> None: ...


class Recorded(NamedTuple):
    """A step's program with the arrays that it leaves its results in."""

    program: _kernels.Program
    outputs: Array
    value: NDArray[np.float64]


class Recording:
    """All that a step has recorded: an entry with programs for each kind of batch, and the arrays
    that these programs share.

    A program is about one model, loss and optimizer.  It holds for one shape of the batch and one
    kind of targets, which its key says, and until a setting changes."""

    def __init__(self, network: Network) -> None:
        # the running statistics before the step, which an error brings back
        self.before = {name: np.empty_like(array) for name, array in network.state.items()}
        self.gradient_sum: Array | None = None  # Σ rows gradients, which wait for an update
        self._entries: dict[Hashable, Any] = {}
        self.changes = settings.changes  # when the entries were recorded

    def __getstate__(self) -> dict[str, Any]:
        """A copy has arrays of its own, and records anew."""
        before = {name: array.copy() for name, array in self.before.items()}
        total = None if self.gradient_sum is None else self.gradient_sum.copy()
        return {**vars(self), "before": before, "gradient_sum": total, "_entries": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.before = {name: writable(array) for name, array in self.before.items()}
        if self.gradient_sum is not None:
            self.gradient_sum = writable(self.gradient_sum)

    @property
    def holds(self) -> bool:
        """Whether no setting has changed since the entries were recorded."""
        return self.changes == settings.changes

    def find(self, key: Hashable) -> Any:
        """The entry of that key, None if there is none that still holds."""
        if not self.holds:
            self._entries.clear()
            self.changes = settings.changes
        return self._entries.get(key)

    def add(self, key: Hashable, entry: Any) -> None:
        """Keep an entry, and drop the oldest where there are too many."""
        while len(self._entries) >= _MOST:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = entry

    def sum_like(self, gradients: Array) -> Array:
        """The vector that sums gradients, zeros at first."""
        if self.gradient_sum is None:
            self.gradient_sum = aligned_zeros(gradients.size, gradients.dtype)
        return self.gradient_sum


class Handover:
    """Where a `fit` leaves its recording for the next one of the same model, loss, optimizer and
    average.

    A recording goes with the optimizer, into whose vectors its programs write."""

    def __init__(self) -> None:
        self._left: WeakKeyDictionary[Optimizer, tuple[Parts, Recording]] = WeakKeyDictionary()

    def leave(self, recording: Recording, optimizer: Optimizer, *others: object) -> None:
        """Keep the recording for the next `fit` with that optimizer, loss and average."""
        self._left[optimizer] = others, recording

    def take(self, optimizer: Optimizer, *others: object) -> Recording | None:
        """The recording for that optimizer, loss and average, if it was left; a `fit` within this
        one does not find it any more."""
        its, recording = self._left.pop(optimizer, ((), None))
        same = len(its) == len(others) and all(map(operator.is_, its, others))
        return recording if same else None
