"""What tabular estimators do with rows that are held out: which these are, and how good a network
is on them after each epoch.  Imports nothing of scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.training.callbacks import Callback

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fastnn.training.run import Run

    Array = NDArray[Any]
    Scorer = Callable[[Any, Array, Array, Array, "Array | None"], float]


def hold_out(
    n: int, fraction: float, labels: Array | None, number: int, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rows that the network with that number trains on, and those that it does not see.

    The rows are shuffled and, where there are labels, sorted by these; then at equal distances one
    is held out, beginning with each network at another: the first 1 / fraction of them are a
    cross-validation, for the next ones the rows are shuffled anew.  Of each class one is not held
    out; of two rows or more one is, unless each is the only one of its class."""
    if n < 2 or fraction == 0:
        return np.arange(n), np.arange(0)
    shuffle, shift = divmod(number, max(1, int(1 / fraction)))
    order = np.random.Generator(np.random.PCG64([seed, shuffle])).permutation(n)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    held = np.diff(np.floor((np.arange(n + 1) + shift) * fraction)) > 0
    if held.all() or not held.any():
        held[shift % n] ^= True
    is_held = np.zeros(n, bool)
    is_held[order[held]] = True
    if labels is not None:
        classes, first = np.unique(labels[order], return_index=True)
        lost = np.setdiff1d(classes, labels[~is_held])
        is_held[order[first[np.isin(classes, lost)]]] = False
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


class Score(Callback):
    """After each epoch logs ``validation_loss`` and ``validation_score``: the loss of the rows that
    were held out, and what `scorer(model, outputs, X, y, weight)` makes of the outputs for them."""

    def __init__(
        self, scorer: Scorer, X: Array, y: Array, weight: Array | None, prefix: str | None
    ) -> None:
        self._scorer, self._held, self._prefix = scorer, (X, y, weight), prefix

    def on_fit_begin(self, run: Run) -> None:
        run.columns += ["validation_loss", "validation_score"]

    def on_epoch_end(self, run: Run) -> None:
        X, y, weight = self._held
        outputs = run.model.predict(X)
        run.log("validation_loss", run.loss(outputs, y, weight)[0])
        score = self._scorer(run.model, outputs, X, y, weight)
        run.log("validation_score", score)
        if self._prefix is not None:
            loss = run.results["loss"]
            print(f"{self._prefix}epoch {run.epoch}, loss = {loss:.6f}, score = {score:.6f}")
