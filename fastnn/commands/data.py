"""Data to train on, from whatever file it is in: rows, targets, and rows for a test, if any."""

from __future__ import annotations

import math
import os
import re
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn import datasets
from fastnn.commands import tables
from fastnn.commands.tables import Frame, listed
from fastnn.support import columns

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]

_FEW_CLASSES = 20  # so many whole numbers are rather classes than amounts
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([ T].*)?|\d{1,2}[-/.]\d{1,2}[-/.](\d\d){1,2}( .*)?"
)
_PARTS = (("x", "y"), ("x_train", "y_train"), ("images", "labels"), ("data", "target"))


class Data(NamedTuple):
    """Rows (a `Frame` or an array) and targets (n,), numbers or objects; those of a test, if any;
    and what they are called."""

    X: Any
    y: Array
    test: tuple[Any, Array] | None
    name: str
    target: str


def read(options: Namespace, say: Callable[[str], None]) -> Data:
    """The data that the arguments of ``fastnn train`` name; `say` is told what is left out."""
    path = options.data
    if path is None:
        X, y = datasets.digits()
        return Data(X, y.astype(float), None, "digits", "the digit")
    if os.path.isdir(path) or path.lower().endswith(".npz"):
        if options.target or options.drop or options.categorical or options.use:
            raise ValueError(f"{path}: has no columns' names, as --target and --drop expect")
        X, y, test = _idx(path) if os.path.isdir(path) else _npz_pairs(path)
        if options.test:
            test = _npz_pairs(options.test)[:2]
        return Data(X, y, test, path, "y")
    return _table(path, options, say)


def _table(path: str, options: Namespace, say: Callable[[str], None]) -> Data:
    if options.target is None:
        raise ValueError(f"{path}: which column is to be predicted? Say --target NAME")
    if path == "-":
        raise ValueError("-: training reads its data more than once, and needs a file")
    there = next((list(part.columns) for part in tables.parts(path, options.encoding)), [])
    for name in ("drop", "use", "categorical"):
        setattr(options, name, tables.chosen(getattr(options, name), there))
    if options.target in options.drop:
        raise ValueError(f"--drop: {options.target!r} is the target")
    frame = tables.read(path, options.encoding, options.categorical)
    _check_names(path, frame, [options.target, *options.drop, *options.use])
    X, y = _split(frame, options, say)
    if y.dtype.kind == "O" and options.target not in options.categorical:
        _note_numbers(options.target, set(y.tolist()), say)
    X = Frame({name: X.arrays[name] for name in _used(path, X, options, say)})
    test = None
    if options.test:
        texts = [name for name, array in frame.arrays.items() if array.dtype.kind == "O"]
        other = tables.read(options.test, options.encoding, texts)
        _check_names(options.test, other, [options.target, *X.columns])
        for name in set(X.columns) - set(texts):
            if other.arrays[name].dtype.kind == "O":
                raise ValueError(f"{options.test}: column {name!r}: text where {path} has numbers")
        rest, targets = _split(other, options, say)
        test = Frame({name: rest.arrays[name] for name in X.columns}), targets
    return Data(X, y, test, path, options.target)


def _check_names(path: str, frame: Frame, names: list[str]) -> None:
    if unknown := [name for name in names if name not in frame.columns]:
        there = listed(frame.columns)
        hint = tables.similar(unknown[0], frame.columns)
        raise ValueError(f"{path}: has no column {unknown[0]!r}; it has {there}{hint}")


def _split(frame: Frame, options: Namespace, say: Callable[[str], None]) -> tuple[Frame, Array]:
    """The columns and the target of the rows that have one."""
    arrays = dict(frame.arrays)
    y = arrays.pop(options.target)
    for name in options.drop:
        arrays.pop(name, None)
    known = np.array([t == t and t is not None for t in y.tolist()], bool)
    if not known.all():
        say(f"{np.count_nonzero(~known)} rows have no {options.target!r} and are left out.")
    if not known.any():
        raise ValueError(f"--target: column {options.target!r} is empty")
    return Frame(arrays)[known], y[known]


def _used(path: str, X: Frame, options: Namespace, say: Callable[[str], None]) -> list[str]:
    """The columns that may tell something: no counters of rows and no names of single rows.

    ValueError for dates."""
    used = []
    for name, array in X.arrays.items():
        if array.dtype.kind == "O":
            items = {item for item in array.tolist() if item is not None}
            dates = [item for item in items if _DATE.fullmatch(item)]
            if len(dates) > 0.9 * len(items):
                raise ValueError(
                    f"{path}: column {name!r} has dates, such as {min(dates)!r}{columns.TIMES}, or "
                    f"leave it out: --drop {_quoted(name)}"
                )
            if name not in options.categorical:
                _note_numbers(name, items, say)
            single, what = len(items) > max(20, len(X) / 2), f"{len(items)} different texts"
        else:
            with np.errstate(over="ignore", invalid="ignore"):  # of 1e308 and infinite numbers
                steps = np.diff(array)
            single, what = len(X) > 2 and bool((steps == 1).all()), "numbers of the rows"
        if single and name not in options.use and name not in options.categorical:
            say(f"Column {name!r} is left out: {what}. (--use {_quoted(name)} takes it.)")
        else:
            used.append(name)
    if not used:
        raise ValueError(f"{path}: no column is left beside the target")
    return used


def _note_numbers(name: str, items: set[str], say: Callable[[str], None]) -> None:
    """Tell of a column that is text because of a few texts among its numbers."""
    texts = [item for item in items if not tables.reads_as_number(item)]
    if 0 < len(texts) <= len(items) / 10:
        shown = listed(sorted(texts)[:3])
        say(f"Column {name!r} is taken for text, because of {shown} among its numbers.")


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.-]+", name) else f"'{name}'"


# ---- arrays ------------------------------------------------------------------------------------


def _idx(folder: str) -> tuple[Array, Array, tuple[Array, Array]]:
    (X, y), (X_test, y_test) = datasets.idx(folder)
    return X, y.astype(float), (X_test, y_test.astype(float))


def _npz_pairs(path: str) -> tuple[Array, Array, tuple[Array, Array] | None]:
    """X (n, features), y (n,) and those of a test, by the usual names."""
    arrays = npz(path)
    for names in _PARTS:
        if all(name in arrays for name in names):
            X, y = (arrays[name] for name in names)
            test = [arrays.get(name.replace("train", "test")) for name in names]
            has_test = names[0] == "x_train" and all(part is not None for part in test)
            return *_pair(path, X, y), _pair(path, *test) if has_test else None
    wanted = "X and y, or x_train, y_train, x_test and y_test"
    raise ValueError(f"{path}: expected arrays {wanted}, found {listed(arrays)}")


def _pair(path: str, X: Any, y: Any) -> tuple[Array, Array]:
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if X.ndim < 2 or y.ndim != 1 or len(X) != len(y) or 0 in X.shape:
        wanted = "X (n, ...) and y (n,)"
        raise ValueError(f"{path}: expected {wanted}, found shapes {X.shape} and {y.shape}")
    if y.dtype.kind not in "biufU" or X.dtype.kind not in "biuf":
        raise ValueError(f"{path}: expected numbers, found types {X.dtype} and {y.dtype}")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError(f"{path}: y contains NaN or infinity")
    targets = tables.objects(y.tolist()) if y.dtype.kind == "U" else y.astype(float)
    return X.reshape(len(X), -1), targets


def npz(path: str) -> dict[str, Array]:
    """The arrays of an NPZ file by their names in small letters.

    Nothing in it runs, and no memory is taken by its word: an array is as large as what is there.
    ValueError, which names the file, for one that is damaged or made up."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = {}
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    with archive.open(info) as file:
                        found[info.filename[:-4].lower()] = _npy(file)
        return found
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # of zipfile, zlib and NumPy, many kinds
        raise tables.unreadable(path, "NPZ", error) from None


def _npy(file: Any) -> Array:
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version} of the format")
    shape, fortran, dtype = readers[version](file)
    wanted = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0:
        raise ValueError(f"an array of shape {shape}")
    data = file.read(wanted + 1)  # one more tells of any number more
    if len(data) != wanted:
        got = f"{len(data)}{' or more' * (len(data) > wanted)}"
        raise ValueError(f"an array of shape {shape} has {got} bytes, not {wanted}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


# ---- what is to be learnt ----------------------------------------------------------------------


class Goal(NamedTuple):
    """The classes in their order, or None for regression; and words that say how it was told."""

    classes: tuple[Any, ...] | None
    why: str

    def targets(self, y: Array, path: str) -> Array:
        """Targets as the loss takes them: numbers of classes, or float64 (n, 1)."""
        if self.classes is None:
            if y.dtype.kind == "O":
                raise ValueError(f"{path}: targets: expected numbers, got {y[0]!r}")
            if not np.isfinite(y.astype(np.float64)).all():
                raise ValueError(f"{path}: targets: expected finite numbers, got infinity")
            return y.astype(np.float64)[:, None]
        numbers = {label: i for i, label in enumerate(self.classes)}
        numeric_text = y.dtype.kind != "O" and isinstance(self.classes[0], str)
        labels = list(map(repr, y.tolist())) if numeric_text else _labels(y)
        if unknown := sorted({str(label) for label in labels if label not in numbers}):
            raise ValueError(f"{path}: targets: {unknown[0]!r} is no class of the training")
        return np.array([numbers[label] for label in labels], np.int64)


def goal(y: Array, task: str | None, target: str) -> Goal:
    """What such targets ask for; ValueError where that makes no sense."""
    text = y.dtype.kind == "O"
    if not text and not np.isfinite(y).all():
        raise ValueError(f"--target: {target} contains infinity")
    labels = _labels(y) if text or task != "regression" else []
    classes = sorted(set(labels), key=lambda label: (isinstance(label, str), label))
    whole = not text and all(isinstance(label, int) for label in classes)
    few = len(classes) <= min(_FEW_CLASSES, max(2, len(y) / 5))
    if task == "regression" or (task is None and not text and not (whole and few)):
        if text:
            raise ValueError(f"--task regression: {target} is text, such as {labels[0]!r}")
        if y.min() == y.max():
            raise ValueError(f"--target: {target} is {y[0]:g} in all rows")
        return Goal(None, f"numbers from {y.min():g} to {y.max():g}")
    if len(classes) < 2:
        raise ValueError(f"--target: {target} is {classes[0]!r} in all rows")
    if len(classes) > max(2, len(y) / 2):
        raise ValueError(
            f"--target: {target} has {len(classes)} different values in {len(y)} rows, too many to "
            "be classes" + ("; --task regression predicts numbers" if not text else "")
        )
    return Goal(tuple(classes), f"{len(classes)} classes: {listed(classes)}")


def _labels(y: Array) -> list[Any]:
    """Targets as labels: text, or whole numbers, or where some are not whole their text."""
    items: list[Any] = y.tolist()
    if y.dtype.kind == "O":
        return items
    if all(item.is_integer() and abs(item) < 2**53 for item in items):
        return [int(item) for item in items]
    return [repr(item) for item in items]
