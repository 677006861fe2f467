"""What training measured, epoch by epoch; `fit` writes it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class History(dict[str, list[float]]):
    """What `fit` measured, one number per finished epoch under each name.

    ``history.loss`` and ``history["loss"]`` are the same list.  The names: `loss` (the mean over
    the epoch's samples, computed while it trained, penalties included), the metrics (from the same
    outputs), `validation_loss` (without penalty) and `validation_` metrics, `learning_rate` (the
    last step's), `seconds` (training only) and `samples_per_second`; then what callbacks log.
    All columns are equally long: an epoch without a result of some name has NaN there, as those
    between two validations have with `validation_every`.
    `interrupted` says whether Ctrl-C ended the training.

    It is a dict of lists, so that ``json.dumps(history)`` and ``pandas.DataFrame(history)`` do what
    they do with one.

    >>> import json
    >>> history = History()
    >>> history.append({"loss": 0.5, "seconds": 2.0})
    >>> history
    History(epochs=1, loss=0.5, seconds=2)
    >>> history.loss, history["seconds"], list(history)
    ([0.5], [2.0], ['loss', 'seconds'])
    >>> json.dumps(history)
    '{"loss": [0.5], "seconds": [2.0]}'
    """

    def __init__(self) -> None:
        super().__init__()
        self.interrupted = False

    def append(self, results: Mapping[str, float]) -> None:
        """Add one epoch's results."""
        done = self.epochs
        for name in {**self, **results}:
            column = self.setdefault(name, [])
            column += [math.nan] * (done - len(column))
            column.append(float(results.get(name, math.nan)))

    @property
    def epochs(self) -> int:
        """How many epochs were finished."""
        return max(map(len, self.values()), default=0)

    def __getattr__(self, name: str) -> list[float]:
        if name in self:
            return self[name]
        raise AttributeError(self._lacks(name))

    def __missing__(self, name: str) -> list[float]:
        raise KeyError(self._lacks(name))

    def _lacks(self, name: str) -> str:
        return f"History has no {name!r}; it has {', '.join(self) or 'no epoch'}"

    def __repr__(self) -> str:
        last = "".join(f", {name}={values[-1]:.4g}" for name, values in self.items())
        return f"History(epochs={self.epochs}{last}{', interrupted' if self.interrupted else ''})"
