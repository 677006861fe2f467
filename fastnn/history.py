"""What training measured, epoch by epoch; `fit` writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class History(Mapping[str, list[float]]):
    """What `fit` measured, one number per finished epoch under each name.

    ``history.loss`` and ``history["loss"]`` are the same list.  The names: `loss` (the mean over
    the epoch's samples, computed while it trained, L2 penalty included), the metrics (from the same
    outputs), `validation_loss` (without penalty) and `validation_` metrics, `learning_rate` (the
    last step's), `seconds` (training only) and `samples_per_second`.  `interrupted` says whether
    Ctrl-C ended the training.

    >>> history = History()
    >>> history.append({"loss": 0.5, "seconds": 2.0})
    >>> history
    History(epochs=1, loss=0.5, seconds=2)
    >>> history.loss, history["seconds"], list(history)
    ([0.5], [2.0], ['loss', 'seconds'])
    """

    def __init__(self) -> None:
        self._columns: dict[str, list[float]] = {}
        self.interrupted = False

    def append(self, results: Mapping[str, float]) -> None:
        """Add one epoch's results."""
        for name, value in results.items():
            self._columns.setdefault(name, []).append(value)

    @property
    def epochs(self) -> int:
        """How many epochs were finished."""
        return max(map(len, self._columns.values()), default=0)

    def __getitem__(self, name: str) -> list[float]:
        return self._columns[name]

    def __getattr__(self, name: str) -> list[float]:
        columns: dict[str, list[float]] = self.__dict__.get("_columns", {})
        if name in columns:
            return columns[name]
        raise AttributeError(f"History has no {name!r}; it has {', '.join(columns) or 'no epoch'}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        last = "".join(f", {name}={values[-1]:.4g}" for name, values in self.items())
        return f"History(epochs={self.epochs}{last}{', interrupted' if self.interrupted else ''})"
