"""Tables in files: CSV by Python's own reader, Parquet by pyarrow, some rows at a time, so that a
file may be larger than memory.

A column is numbers (float64, NaN where they are missing) or text, and nothing is guessed row by
row: one text makes a column text."""

from __future__ import annotations

import csv
import difflib
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn.support import columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

PART_ROWS = 16384
MISSING = frozenset(
    ["", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "NULL", "null", "None"]
)
_LONGEST_FIELD = 2**20


class Column(NamedTuple):
    """A column as polars has it."""

    array: Array

    def to_numpy(self) -> Array:
        return self.array


class Frame:
    """Columns of one length by their names, as `TableEncoder` takes tables: float64 arrays, NaN
    where a number is missing, or arrays of objects, None where one is."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self.arrays = dict(arrays)
        self.columns = list(self.arrays)
        self.shape = len(next(iter(self.arrays.values()), ())), len(self.columns)

    def get_column(self, name: str) -> Column:
        return Column(self.arrays[name])

    def __getitem__(self, rows: Array | slice) -> Frame:
        """These rows."""
        return Frame({name: array[rows] for name, array in self.arrays.items()})

    def __len__(self) -> int:
        return self.shape[0]


class Part(NamedTuple):
    """Consecutive rows of a file: by name an array of numbers or a list of text, the word for a row
    ("line" or "row"), the number of each, and whether numbers have a decimal comma."""

    columns: dict[str, Any]
    word: str
    places: Sequence[int]
    comma: bool = False

    def numbers(self, name: str) -> Array | None:
        """The column as numbers; None if it has text."""
        items = self.columns[name]
        if isinstance(items, np.ndarray):
            return items
        try:
            return _as_numbers(items, self.comma)
        except ValueError:
            return None

    def texts(self, name: str) -> list[str | None]:
        """The column as text, None for what is missing."""
        items = self.columns[name]
        if isinstance(items, np.ndarray):
            whole = [int(x) if x.is_integer() else x for x in items.tolist()]
            return [None if x != x else str(x) for x in whole]
        return [None if item in MISSING else item for item in items]

    def wrong(self, name: str) -> str:
        """The first item that is no number, and where it stands."""
        for place, item in zip(self.places, self.columns[name], strict=True):
            try:
                _as_numbers([item], self.comma)
            except ValueError:
                return f"{self.word} {place}: column {name!r}: expected a number, got {item!r}"
        raise AssertionError("all items are numbers")


def _as_numbers(items: list[str], comma: bool) -> Array:
    """Numbers, NaN for what is missing; ValueError for text."""
    whole = "".join(items)
    if "_" in whole or not whole.isascii():  # `float` would take 1_000 and other alphabets' digits
        raise ValueError(whole)
    if comma:
        items = [item.replace(",", ".") for item in items]
    nan = np.nan
    return np.array([nan if item in MISSING else float(item) for item in items])


def parts(path: str, encoding: str = "utf-8") -> Iterator[Part]:
    """The rows of a CSV or Parquet file; "-" is CSV from standard input.

    OSError or ValueError, which name the file and the line, for what cannot be read."""
    is_parquet = path.lower().endswith((".parquet", ".pq"))
    return _parquet_parts(path) if is_parquet else _csv_parts(path, encoding)


def read(path: str, encoding: str, texts: Sequence[str] = ()) -> Frame:
    """A whole file; columns in `texts` are text whatever they hold.

    A second pass is made only where a column that began with numbers turns out to have text."""
    known = set(texts)
    while True:
        found: dict[str, list[Array]] = {}
        late = False
        cache: dict[str | None, str | None] = {}  # one string for all that are equal
        for part in parts(path, encoding):
            for name in part.columns:
                pieces = found.setdefault(name, [])
                numbers = None if name in known else part.numbers(name)
                if numbers is None:
                    late |= name not in known and bool(pieces)
                    known.add(name)
                    numbers = objects(cache.setdefault(t, t) for t in part.texts(name))
                pieces.append(numbers)
        if late:
            continue
        if unknown := sorted(set(texts) - found.keys()):
            raise ValueError(f"{path}: has no column {unknown[0]!r}; it has {listed(found)}")
        if not found:
            raise ValueError(f"{path}: expected rows below the header, found none")
        return Frame({name: np.concatenate(pieces) for name, pieces in found.items()})


def objects(items: Any) -> Array:
    """An array (n,) of objects, whatever these are."""
    items = list(items)
    array = np.empty(len(items), object)
    array[:] = items
    return array


def listed(names: Any) -> str:
    """Some names for a message."""
    names = [repr(name) for name in names]
    return ", ".join(names[:8]) + f" and {len(names) - 8} more" * (len(names) > 8)


def chosen(given: Sequence[str], there: Any) -> list[str]:
    """The columns that an option names: each alone, or several between commas where no column has
    that whole name."""
    apart = (
        [name] if name in there else [part.strip() for part in name.split(",")] for name in given
    )
    return list(dict.fromkeys(itertools.chain.from_iterable(apart)))


def similar(name: str, there: Any) -> str:
    """ "; did you mean 'age'?" where a name differs by little, else ""."""
    lower = {other.lower(): other for other in there}
    found = difflib.get_close_matches(name.lower(), lower, 1)
    return f"; did you mean {lower[found[0]]!r}?" if found else ""


def unreadable(path: str, kind: str, error: Exception) -> ValueError:
    """The error for a damaged file, from that of a library."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return ValueError(f"{path}: no {kind} file that can be read ({text})")


# ---- CSV ---------------------------------------------------------------------------------------


def _csv_parts(path: str, encoding: str) -> Iterator[Part]:
    csv.field_size_limit(_LONGEST_FIELD)
    if path != "-":
        _check_regular(path)
    try:
        "".encode(encoding)
    except (LookupError, UnicodeError) as error:
        raise ValueError(f"--encoding: {error}") from None
    marked = "utf-8-sig" if encoding == "utf-8" else encoding  # skips a mark that Excel writes
    source: Any = {"file": 0, "closefd": False} if path == "-" else {"file": path}
    with open(**source, encoding=marked, newline="") as file:
        reader = None
        try:
            first = file.readline()
            delimiter = max(
                ",;\t|", key=lambda mark: len(next(csv.reader([first], delimiter=mark)))
            )
            lines = itertools.chain([first], file)
            reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
            header = _header(path, next(reader, []))
            while rows := list(itertools.islice(_numbered(reader), PART_ROWS)):
                places, items = zip(*rows, strict=True)
                for place, row in rows:
                    if len(row) != len(header):
                        wanted = f"{len(header)} fields, as in the header"
                        raise ValueError(f"{path}: line {place}: expected {wanted}, got {len(row)}")
                stripped = (list(map(str.strip, column)) for column in zip(*items, strict=True))
                named = dict(zip(header, stripped, strict=True))
                yield Part(named, "line", places, comma=delimiter == ";")
        except UnicodeError as error:
            why = error.reason if isinstance(error, UnicodeDecodeError) else error
            raise ValueError(
                f"{path}: not {encoding} text ({why}); name its --encoding, such as "
                "latin-1 or utf-16"
            ) from None
        except csv.Error as error:
            line = 1 if reader is None else reader.line_num
            raise ValueError(f"{path}: line {line}: {error}") from None


def _check_regular(path: str) -> None:
    """ValueError for a folder, and for a pipe, which could not be read twice."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path}: expected a regular file")


def _numbered(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of their last line, without empty lines."""
    return ((reader.line_num, row) for row in reader if row)


def _header(path: str, names: list[str]) -> list[str]:
    names = [name.strip() or f"column {i}" for i, name in enumerate(names, 1)]
    if not names:
        raise ValueError(f"{path}: line 1: expected the columns' names, found nothing")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{path}: line 1: two columns are called {twice[0]!r}")
    if all(reads_as_number(name) for name in names):
        got = f"only numbers, {listed(names)}"
        raise ValueError(f"{path}: line 1: expected the columns' names, found {got}")
    return names


def reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# ---- Parquet -----------------------------------------------------------------------------------


def _parquet_parts(path: str) -> Iterator[Part]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ImportError(f"{path}: Parquet files need pyarrow: pip install pyarrow") from None
    _check_regular(path)
    with open(path, "rb") as opened:  # for Python's words where it cannot be
        try:
            file = pq.ParquetFile(opened)
            done = 0
            for batch in file.iter_batches(batch_size=PART_ROWS):
                named = {}
                for field, array in zip(batch.schema, batch.columns, strict=True):
                    named[str(field.name)] = _plain(path, field, array)
                yield Part(named, "row", range(done + 1, done + len(batch) + 1))
                done += len(batch)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise unreadable(path, "Parquet", error) from None


def _plain(path: str, field: Any, array: Any) -> Any:
    """A column of Parquet as float64 numbers or as a list of text."""
    import pyarrow as pa

    kind = field.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        try:
            numbers = array.cast(pa.float64())
        except pa.ArrowInvalid:  # integers beyond 2**53 stay text, as CSV files have them
            return ["" if item is None else str(item) for item in array.to_pylist()]
        return np.array(numbers.to_numpy(zero_copy_only=False), np.float64)
    if pa.types.is_temporal(kind):
        raise ValueError(f"{path}: column {field.name!r}: {kind}{columns.TIMES}")
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary)
    if any(check(kind) for check in (*texts, pa.types.is_boolean, pa.types.is_null)):
        return ["" if item is None else str(item) for item in array.to_pylist()]
    raise ValueError(f"{path}: column {field.name!r}: expected numbers or text, got {kind}")
