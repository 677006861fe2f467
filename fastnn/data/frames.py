"""Tables in the forms in which they come, one column at a time: as numbers or as items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.support import columns

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Table:
    """The columns of a DataFrame (pandas, polars) or of a two-dimensional array or list.

    `shape` is (rows, columns), `names` what a DataFrame calls its columns, or None.

    Raises TypeError or ValueError for what is no table: one without rows or columns, of another
    number of dimensions, sparse, masked, of complex numbers or records."""

    def __init__(self, X: Any) -> None:
        named = getattr(X, "columns", None)
        self.names = None if named is None else list(named)
        self.array: NDArray[Any] | None = None
        if named is None or not (hasattr(X, "iloc") or hasattr(X, "get_column")):
            self.array = X = _array(X)
        self._X = X
        self.shape: tuple[int, int] = X.shape
        if 0 in self.shape:
            what = "sample(s)" if self.shape[0] == 0 else "feature(s)"
            raise ValueError(
                f"X: expected rows and columns, found 0 {what} (shape={self.shape}) while a "
                "minimum of 1 is required."
            )

    def column(self, i: int) -> Any:
        """Column i: an array, or a Series of pandas; both have `dtype` and `tolist`."""
        if self.array is not None:
            return self.array[:, i]
        if hasattr(self._X, "iloc"):
            return self._X.iloc[:, i]
        return self._X.get_column(self._X.columns[i]).to_numpy()

    def where(self, i: int) -> str:
        """The words for where column i is, in messages."""
        return f" in column {i if self.names is None else self.names[i]!r}"

    def is_categorical(self, i: int) -> bool:
        """Whether column i holds anything but numbers, or only truth values.

        ValueError for dates, times and complex numbers."""
        dtype = self.column(i).dtype
        if dtype.kind in "Mmc":
            self._refuse(i, f"dtype {dtype}", columns.TIMES if dtype.kind != "c" else "")
        if dtype.kind != "O" or dtype.name == "category":
            return dtype.kind not in "iuf"
        kinds = {kind for kind in set(map(type, self.items(i))) if not columns.is_missing(kind)}
        if any(map(columns.is_time, kinds)):
            self._refuse(i, "dates or times", columns.TIMES)
        return kinds in ({bool}, {np.bool_}) or not all(map(columns.is_number, kinds))

    def items(self, i: int) -> list[Any]:
        """The items of column i as Python objects; what is missing stays what it is."""
        found: list[Any] = self.column(i).tolist()
        return found

    def distinct(self, i: int) -> tuple[list[Any], NDArray[Any] | None]:
        """The items of column i; or those that it may have, and which of them, or -1 for what is
        missing, stands in each row, as a column of pandas' "category" knows it."""
        column = self.column(i)
        if self.array is None and column.dtype.name == "category":
            return column.cat.categories.tolist(), column.cat.codes.to_numpy()
        return column.tolist(), None

    def numbers(self, i: int) -> tuple[NDArray[np.float64], np.dtype[Any]]:
        """The numbers of column i, NaN where they are missing, and the type that they came in."""
        column = self.column(i)
        dtype = column.dtype
        if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
            return np.asarray(column, np.float64), dtype
        if dtype.kind in "biuf":  # pandas' own, which know what is missing
            kept = np.dtype(np.float64 if dtype.kind == "f" else np.int64)
            return column.to_numpy(dtype=np.float64, na_value=np.nan), kept
        items = column.tolist()
        kinds = {kind: columns.is_missing(kind) for kind in set(map(type, items))}
        for kind, is_missing in kinds.items():
            if not (is_missing or columns.is_number(kind)):
                first = next(item for item in items if type(item) is kind)
                advice = ", which is not among the categorical_features"
                advice = columns.TIMES if columns.is_time(kind) else advice
                self._refuse(i, columns.shown(first), advice)
        try:
            found = [float("nan") if kinds[type(item)] else float(item) for item in items]
        except OverflowError:
            raise ValueError(f"X contains values too large for float64{self.where(i)}") from None
        return np.array(found), np.dtype(np.float64)

    def matrix(self, index: NDArray[np.intp]) -> NDArray[Any]:
        """These columns as numbers, (rows, columns), NaN where they are missing."""
        if self.array is not None and self.array.dtype.kind in "biuf":
            return self.array if len(index) == self.shape[1] else self.array[:, index]
        if self.array is not None:  # all at once where the objects are nothing but floats
            items = self.array[:, index].ravel().tolist()
            if set(map(type, items)) <= {float}:
                return np.array(items).reshape(-1, len(index))
        found = np.empty((self.shape[0], len(index)))
        for j, i in enumerate(index.tolist()):
            found[:, j] = self.numbers(i)[0]
        return found

    def _refuse(self, i: int, got: str, advice: str) -> None:
        raise ValueError(f"X: expected real numbers, got {got}{self.where(i)}{advice}")


def _array(X: Any) -> NDArray[Any]:
    """A two-dimensional array of numbers or objects."""
    if type(X) is not np.ndarray:
        if hasattr(X, "toarray"):
            raise TypeError("X: a sparse matrix; write .toarray()")
        if isinstance(X, np.ma.MaskedArray):
            raise TypeError("X: a masked array would lose its mask; fill or drop the entries")
        try:
            array = np.asarray(X)
            if array.dtype.kind in "US" and not hasattr(X, "__array__"):
                array = np.asarray(X, object)  # else numbers beside text become text
        except (RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"X: {type(X).__name__} gives no array ({error})") from None
        X = array
    if X.ndim != 2:
        raise ValueError(
            f"X: expected shape (rows, columns), got {X.shape}. Reshape your data: "
            "array.reshape(-1, 1) is one column, array.reshape(1, -1) one row"
        )
    if X.dtype.kind in "cV":
        what = "Complex data not supported" if X.dtype.kind == "c" else "records have no columns"
        raise ValueError(f"X: expected numbers or objects, got dtype {X.dtype}: {what}")
    return X  # type: ignore[no-any-return]
