"""``fastnn predict``: a file of rows through a network, some rows at a time."""

from __future__ import annotations

import csv
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.commands import tables, trained
from fastnn.commands.data import npz
from fastnn.commands.report import Score
from fastnn.commands.tables import Frame, Part, listed
from fastnn.commands.trained import Trained, say
from fastnn.data import TableEncoder
from fastnn.files import safefile

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    Array = NDArray[Any]

_SHOWN = 3  # unknown categories named in a message
_COUNTED = 1000  # and so many told apart, as a file may have any number


def predict(options: Namespace) -> int:
    """Run the command; returns the exit code."""
    trained.check_files([options.model, options.data], [options.output], options.force)
    network = trained.read(options.model)
    if options.probabilities and network.classes is None:
        raise ValueError(f"--probabilities: {options.model} predicts values, not classes")
    rows, unknown, score = 0, Unknown(), Score(network)
    with _opened(options.output) as file:
        writer = csv.writer(file, lineterminator="\n")
        for part, kept, X in _parts(network, options, unknown):
            results = _results(network, options, X)
            if not rows:
                writer.writerow([*options.keep, *_header(network, options, results)])
            writer.writerows(zip(*kept, *_columns(network, options, results), strict=True))
            score.add(part, results)
            rows += len(results)
        if not rows:
            raise ValueError(f"{options.data}: expected rows below the header, found none")
    unknown.report()
    if options.output is not None:
        say(f"{rows} predictions in {options.output}.")
    score.show(options.data, sys.stderr)
    return 0


def _results(network: Trained, options: Namespace, X: Any) -> Array:
    try:
        return network.results(X)
    except ValueError as error:
        raise ValueError(f"{options.data}: {error}") from None


def _opened(path: str | None) -> AbstractContextManager[Any]:
    """The file to write; None is stdout."""
    if path is None:
        return nullcontext(sys.stdout)
    return safefile.replacing(path, encoding="utf-8")


# ---- what is written ---------------------------------------------------------------------------


def _header(network: Trained, options: Namespace, results: Array) -> list[str]:
    if network.classes is not None:
        each = [f"probability_{label}" for label in network.classes] * options.probabilities
        return ["prediction", *each]
    width = results.shape[1]
    return ["prediction"] if width == 1 else [f"prediction_{i}" for i in range(width)]


def _columns(network: Trained, options: Namespace, results: Array) -> list[list[Any]]:
    numbers = [[f"{x:.9g}" for x in column] for column in results.T.tolist()]
    if network.classes is None:
        return numbers
    labels = [network.classes[i] for i in results.argmax(axis=1).tolist()]
    return [labels, *(numbers if options.probabilities else [])]


# ---- what is read ------------------------------------------------------------------------------


class Unknown:
    """Counts categories that the training had not seen."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, dict[Any, None]] = {}  # in order, each once

    def add(self, name: str, item: Any) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1
        seen = self.examples.setdefault(name, {})
        if len(seen) < _COUNTED:
            seen[item] = None

    def report(self) -> None:
        for name, count in self.counts.items():
            items = list(self.examples[name])
            shown = ", ".join(map(repr, items[:_SHOWN])) + ", ..." * (len(items) > _SHOWN)
            rows = f"{count} rows have" if count > 1 else "1 row has"
            many = f"{len(items)}{' or more' * (len(items) == _COUNTED)} values"
            what = f"one of {many}" if len(items) > 1 else "a value"
            say(
                f"Column {name!r}: {rows} {what} that the training had not seen ({shown}), taken as"
                " missing."
            )


def _parts(
    network: Trained, options: Namespace, unknown: Unknown
) -> Iterator[tuple[Part | None, list[Any], Any]]:
    """Rows of the file, the columns to keep and rows as the network takes them, part by part."""
    path = options.data
    if path.lower().endswith(".npz"):
        if options.keep:
            raise ValueError(f"--keep: {path} has no columns' names")
        X = _only_array(network, path)
        for start in range(0, len(X), tables.PART_ROWS):
            yield None, [], X[start : start + tables.PART_ROWS]
        return
    names: list[str] | None = None
    for part in tables.parts(path, options.encoding):
        if names is None:
            options.keep = tables.chosen(options.keep, part.columns)
            names = _names(network, path, list(part.columns), options.keep)
        kept = [_as_written(part.columns[name]) for name in options.keep]
        yield part, kept, _rows(network, path, part, names, unknown)


def _as_written(items: Any) -> list[Any]:
    if not isinstance(items, np.ndarray):
        return list(items)
    whole = (items == np.floor(items)) & (np.abs(items) < 2**53)  # so not where one is missing
    return list(items.astype(np.int64) if whole.all() else items)


def _only_array(network: Trained, path: str) -> Array:
    """The rows in an NPZ file: X, x_test or images, or the only array."""
    arrays = npz(path)
    chosen: list[str] = [name for name in ("x", "x_test", "images", "data") if name in arrays]
    chosen = chosen or list(arrays)
    if len(chosen) != 1:
        raise ValueError(f"{path}: expected an array X, found {listed(arrays)}")
    X = arrays[chosen[0]]
    if isinstance(network.encoder, TableEncoder):
        X = X.reshape(len(X), -1) if X.ndim > 1 else X
        if X.ndim != 2 or X.shape[1] != network.n_features:
            wanted = f"{network.n_features} numbers in a row"
            raise ValueError(f"{path}: expected {wanted}, found shape {X.shape}")
    return X


def _names(network: Trained, path: str, there: list[str], keep: list[str]) -> list[str]:
    """The columns that the network takes, in its order."""
    if missing := [name for name in keep if name not in there]:
        hint = tables.similar(missing[0], there)
        raise ValueError(
            f"--keep: {path} has no column {missing[0]!r}; it has {listed(there)}{hint}"
        )
    if network.names is None:
        names = [name for name in there if name not in keep]
        if network.n_features is not None and len(names) != network.n_features:
            wanted = f"{network.n_features} columns, the network knows no names"
            raise ValueError(f"{path}: expected {wanted}, found {len(names)}")
        return names
    known = set(there)
    if missing := [name for name in network.names if name not in known]:
        others = sorted(known.difference(network.names), key=there.index)
        hints = filter(None, (tables.similar(name, others) for name in missing))
        raise ValueError(
            f"{path}: lacks columns of the training: {listed(missing)}{next(hints, '')} "
            "(Add what is unknown as an empty column.)"
        )
    return network.names


def _rows(
    network: Trained, path: str, part: Part, names: list[str], unknown: Unknown
) -> Frame | Array:
    """These columns as the network takes them: numbers, and categories as in training."""
    encoder = network.encoder
    categories: list[list[Any] | None] = [None] * len(names)
    if isinstance(encoder, TableEncoder):
        for i, items in zip(
            np.flatnonzero(encoder.is_categorical_), encoder.categories_, strict=True
        ):
            categories[i] = items
    found: dict[str, Array] = {}
    for name, known in zip(names, categories, strict=True):
        if known is None:
            numbers = part.numbers(name)
            if numbers is None:
                raise ValueError(f"{path}: {part.wrong(name)}")
            found[name] = numbers
        else:
            by_text = {str(item): item for item in known}
            found[name] = tables.objects(
                _known(by_text, text, name, unknown) for text in part.texts(name)
            )
    if network.names is not None:
        return Frame(found)
    return (
        np.stack([found[name].astype(object) for name in names], axis=1)
        if any(items is not None for items in categories)
        else np.stack([found[name] for name in names], axis=1)
    )


def _known(by_text: dict[str, Any], text: str | None, name: str, unknown: Unknown) -> Any:
    if text is None or text in by_text:
        return None if text is None else by_text[text]
    unknown.add(name, text)
    return None
