"""What a network is worth on rows whose targets are known, beside an answer that needs none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import metrics
from fastnn.commands import tables

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from numpy.typing import NDArray

    from fastnn.commands.tables import Part
    from fastnn.commands.trained import Trained

    Array = NDArray[Any]

_MOST_NUMBERS = 2**24  # results that `Score` keeps, 128 MiB of them


def measured(network: Trained, results: Array, targets: Array) -> dict[str, tuple[float, float]]:
    """Metrics of a network's results, and of the answer that looks at no row."""
    assert network.learnt is not None
    trivial = np.tile(network.learnt.trivial, (len(targets), 1))
    if network.classes is not None:
        tiny = np.finfo(np.float64).tiny
        results, trivial = np.log(np.maximum(results, tiny)), np.log(trivial)
        measures: dict[str, Callable[..., float]] = {
            "accuracy": metrics.accuracy,
            "balanced accuracy": metrics.balanced_accuracy,
            "log loss": metrics.log_loss,
        }
        if results.shape[1] == 2 and len(np.unique(targets)) == 2:
            measures["area under ROC"] = lambda outputs, y: metrics.auc(
                outputs[:, 1] - outputs[:, 0], y
            )
    else:
        measures = {
            "root mean squared error": metrics.root_mean_squared_error,
            "mean absolute error": metrics.mean_absolute_error,
        }
        if targets.min() < targets.max():
            measures["R²"] = metrics.r2
    return {
        name: (float(measure(results, targets)), float(measure(trivial, targets)))
        for name, measure in measures.items()
    }


def show(
    what: str, network: Trained, results: Array, targets: Array, file: TextIO | None = None
) -> None:
    """Print these metrics; `what` says of which rows."""
    assert network.learnt is not None
    other = "always the mean"
    if network.classes is not None:
        other = f"always {network.classes[network.learnt.trivial.argmax()]!r}"
    found = measured(network, results, targets)
    print(f"\n{f'On {len(targets)} {what}:':<44} {'network':>12}  {other:>16}", file=file)
    for name, values in found.items():
        print(f"  {name:<42} {values[0]:>12.4g}  {values[1]:>16.4g}", file=file)


class Score:
    """The report on a file of rows that has the targets, too, and is read part by part."""

    def __init__(self, network: Trained) -> None:
        self._network, self._room, self._wrong = network, _MOST_NUMBERS, ""
        self._found: list[tuple[Array, Array]] = []

    def add(self, part: Part | None, results: Array) -> None:
        """Rows of the file, and what the network says of them."""
        learnt = self._network.learnt
        if part is None or learnt is None or learnt.target not in part.columns or self._room <= 0:
            return
        try:
            targets = _targets(part, learnt.target, self._network.classes)
        except ValueError as error:
            self._room, self._wrong = 0, str(error)
            return
        known = ~np.isnan(targets)
        self._found.append((results[known], targets[known]))
        self._room -= results.size

    def show(self, path: str, file: TextIO) -> None:
        """Print the report, or why there is none; nothing where the file has no targets."""
        try:
            if self._wrong:
                raise ValueError(self._wrong)
            if sum(len(targets) for _, targets in self._found):
                self._show(file)
        except ValueError as error:  # also for infinity
            print(f"No report on the targets: {path}: {error}", file=file)

    def _show(self, file: TextIO) -> None:
        network = self._network
        results, targets = map(np.concatenate, zip(*self._found, strict=True))
        targets = targets[:, None] if network.classes is None else targets.astype(np.int64)
        rows = "first rows" if self._room <= 0 else "rows"
        assert network.learnt is not None
        what = f"{rows} whose {network.learnt.target!r} is known"
        show(what, network, results, targets, file)


def _targets(part: Part, name: str, classes: tuple[Any, ...] | None) -> Array:
    """A column as values or numbers of classes, float64, NaN where it is missing; ValueError for
    what is neither."""
    numbers = part.numbers(name)
    if classes is None:
        if numbers is None:
            raise ValueError(part.wrong(name))
        return numbers
    by_text = {str(label): i for i, label in enumerate(classes)}
    by_number = {float(text): i for text, i in by_text.items() if tables.reads_as_number(text)}
    found = np.full(len(part.places), np.nan)
    for row, text in enumerate(part.texts(name)):
        if text is not None:
            index = by_text.get(text)
            if index is None and numbers is not None:
                index = by_number.get(float(numbers[row]))
            if index is None:
                place = f"{part.word} {part.places[row]}: column {name!r}"
                raise ValueError(f"{place}: {text!r} is no class of the training")
            found[row] = index
    return found
