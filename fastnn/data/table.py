"""TableEncoder: tables of numbers, categories and missing values as rows for networks."""

from __future__ import annotations

import warnings
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn._kernels as _kernels
from fastnn.data.frames import Table
from fastnn.data.standardizer import PART_ROWS, moments
from fastnn.data.transformer import Transformer
from fastnn.support import arrays, checks, columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    Numbers = NDArray[np.float64]
    Rule = Callable[[Numbers, np.dtype[Any]], "tuple[float, float, float]"]

_FAR = 1e150  # so many scales from the centre: squares overflow beyond
# As arrays, which NumPy's functions take 0.4 us sooner than numbers: a row takes some 10.
_LEAST, _MOST = np.array(-_FAR), np.array(_FAR)
_EXACT_FLOAT32 = 2**24  # float32 holds all integers up to this one


class TableEncoder(Transformer):
    """A table of numbers, categories and missing values as one array of rows for a network.

    `X` is a DataFrame (pandas or polars) or a two-dimensional array or list.  The result, (rows,
    `output_features_`) of `dtype`, has these columns side by side, each group in the order of X:

    1. `numeric_` columns: the numbers, each centred and divided as `scaling` says, then brought
       smoothly between -clip and clip: ``x / sqrt(1 + (x / clip)**2)``.  "robust": (x - median) /
       (third - first quartile), or half the range where the quartiles are equal.  "standard": mean
       and standard deviation.  None: as they are.  ``clip=None`` clips nothing.  A constant column
       becomes 0.  What is missing counts as the median (with "standard" the mean).
    2. `one_hot_` columns: first, for numbers of which some were missing in `fit`, whether they are
       (1 or 0), unless ``add_indicator=False``.  Then the categories of every column that has at
       most `max_one_hot` of them, one column each, which is 1 or 0; two categories share one
       column, which is -1 for the first and 1 for the second.  What is missing, or was not seen in
       `fit`, is 0 everywhere.  With `scale_one_hot` all these are then centred, divided and clipped
       as if they were numbers, so that rare ones stand out, as in RealMLP.
    3. `codes_` columns: for every column with more categories their codes, whole numbers below
       `n_codes_`, those of each column behind those of the column before, so that one `Embedding`
       serves all.  The first code of a column is for what is missing or was not seen.

    Categories may be any hashable objects.  They are sorted: numbers, then others by type and text.
    `categorical_features` says which columns hold them.  "auto" (or "from_dtype"): those of text,
    of truth values and of pandas' "category", with a warning for text that is nearly all numbers.
    Or, as in scikit-learn's `HistGradientBoostingClassifier`, an array of the indices or names of
    all of them, or a mask; None for no column.

    Scaling and clipping are those of RealMLP (D. Holzmüller, L. Grinsztajn, I. Steinwart, 2024).
    They are computed in float64 and rounded once.

    Attributes after `fit`, beside these: `is_categorical_`, a mask of X's columns; `categories_`, a
    list of lists; `center_`, `scale_` and `fill_`, float64 (numeric_,), `scale_` being infinite for
    constant columns, `fill_` what stands for a missing number; `n_features_in_`;
    `feature_names_in_`, for DataFrames.  It works in the pipelines of scikit-learn, where `y` means
    nothing, and a model may keep it as its `scaler`.

    Raises ValueError for infinity, dates, text in a column of numbers, other columns than in `fit`
    and more codes than `dtype` tells apart; TypeError for categories that are not hashable;
    RuntimeError for use before `fit`.

    >>> X = [[1.0, "red", "a"], [2.0, "blue", "b"], [5.0, "red", "c"], [None, None, "d"]]
    >>> encoder = TableEncoder(max_one_hot=3).fit(X)
    >>> encoder.numeric_, encoder.one_hot_, encoder.codes_, encoder.n_codes_
    (1, 2, 1, 5)
    >>> encoder.get_feature_names_out().tolist()
    ['x0', 'missingindicator_x0', 'x1_red', 'x2']
    >>> encoder.transform([[2.0, "blue", "a"], [None, "green", "e"]])
    array([[ 0.,  0., -1.,  1.],
           [ 0.,  1.,  0.,  0.]], dtype=float32)
    """

    is_categorical_: NDArray[np.bool_]
    categories_: list[list[Any]]
    center_: Numbers
    scale_: Numbers
    fill_: Numbers
    numeric_: int
    one_hot_: int
    codes_: int
    n_codes_: int
    output_features_: int
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]
    _hot: NDArray[np.float64] | None  # centre and scale of the columns of 1 and 0

    def __init__(
        self,
        categorical_features: Any = "auto",
        *,
        max_one_hot: int = 8,
        scaling: str | None = "robust",
        clip: float | None = 3.0,
        add_indicator: bool = True,
        scale_one_hot: bool = False,
        dtype: DTypeLike = "float32",
    ) -> None:
        if isinstance(categorical_features, str):
            checks.choice(categorical_features, "categorical_features", ["auto", "from_dtype"])
        self.categorical_features = categorical_features
        self.max_one_hot = checks.whole(max_one_hot, "max_one_hot", 0)
        if scaling is not None:
            checks.choice(scaling, "scaling", _SCALINGS)
        self.scaling = scaling
        self.clip = None if clip is None else checks.positive(clip, "clip")
        self.add_indicator = checks.flag(add_indicator, "add_indicator")
        self.scale_one_hot = checks.flag(scale_one_hot, "scale_one_hot")
        self.dtype = arrays.real_dtype(dtype)

    # ---- fit -----------------------------------------------------------------------------------

    def fit(self, X: Any, y: object = None) -> TableEncoder:
        table = Table(X)
        mask = self._mask(table)
        rule = _SCALINGS[self.scaling] if self.scaling is not None else _as_they_are
        scales, has_gaps = np.zeros((3, np.count_nonzero(~mask))), []
        for j, i in enumerate(np.flatnonzero(~mask).tolist()):
            numbers, dtype = table.numbers(i)
            missing = np.isnan(numbers)
            has_gaps.append(bool(missing.any()))
            present = numbers[~missing] if has_gaps[-1] else numbers
            if present.size and not np.abs(present).max() < _FAR:
                what = "infinity" if np.isinf(present).any() else f"numbers of {_FAR} and more"
                raise ValueError(f"X contains {what}{table.where(i)}")
            scales[:, j] = rule(present, dtype) if present.size else (0.0, np.inf, 0.0)
        scales += 0.0  # so that no 0 has a sign, which would follow from the order of rows
        categories = [_categories(table, i) for i in np.flatnonzero(mask).tolist()]
        few = [len(items) <= self.max_one_hot for items in categories]
        if isinstance(self.categorical_features, str):
            for i, items in zip(np.flatnonzero(mask).tolist(), categories, strict=True):
                if len(items) > self.max_one_hot:
                    _warn_of_numbers(items, table.where(i))
        gaps = np.flatnonzero(has_gaps).tolist() if self.add_indicator else []
        self._set(table.names, mask, scales, gaps, categories, few)
        if self.scale_one_hot and self.one_hot_:
            columns = self._encode(table)[:, self._one_hot].astype(np.float64)
            found = [rule(column, columns.dtype)[:2] for column in columns.T]
            self._hot = np.array(found).T
        return self

    def _mask(self, table: Table) -> NDArray[np.bool_]:
        """Which columns hold categories."""
        features, given = table.shape[1], self.categorical_features
        mask = np.zeros(features, bool)
        if isinstance(given, str):  # "auto", and as scikit-learn calls it
            mask[:] = [table.is_categorical(i) for i in range(features)]
            return mask
        chosen = np.asarray([] if given is None else given)
        if chosen.size == 0:
            return mask
        if chosen.ndim == 1 and chosen.dtype.kind == "b" and len(chosen) == features:
            return chosen.copy()
        if chosen.ndim == 1 and chosen.dtype.kind in "iu":
            if chosen.min() >= 0 and chosen.max() < features:
                mask[chosen] = True
                return mask
        elif chosen.ndim == 1 and chosen.dtype.kind in "UO" and table.names is not None:
            if not (unknown := [name for name in chosen.tolist() if name not in table.names]):
                mask[:] = [name in chosen.tolist() for name in table.names]
                return mask
            there = ", ".join(map(repr, table.names[:9])) + ", ..." * (len(table.names) > 9)
            raise ValueError(
                f"categorical_features: expected names of columns, {there}, got {unknown}"
            )
        raise ValueError(
            f"categorical_features: expected 'auto', None, indices below {features}, a mask of "
            f"{features} or names of a DataFrame's columns, got {given!r}"
        )

    def _set(
        self,
        names: Sequence[Any] | None,
        mask: NDArray[np.bool_],
        scales: Numbers,
        gaps: list[int],
        categories: list[list[Any]],
        few: list[bool],
    ) -> None:
        """Take what `fit` found, or a file holds: for the numbers centre, scale and filling, and of
        which the result says whether they are missing; for the others their categories, and whether
        these have columns of their own."""
        each = list(zip(np.flatnonzero(mask).tolist(), categories, few, strict=True))
        widths = [1 if len(items) == 2 else len(items) for _, items, is_few in each if is_few]
        n_codes = sum(len(items) + 1 for _, items, is_few in each if not is_few)
        numeric, one_hot = scales.shape[1], len(gaps) + sum(widths)
        if self.dtype.itemsize == 4 and n_codes > _EXACT_FLOAT32:
            raise ValueError(f"X: {n_codes} codes; float32 tells 2^24 apart, use dtype='float64'")
        output = numeric + one_hot + len(few) - sum(few)
        if output == 0:
            raise ValueError("X: expected numbers or categories, all are missing")
        self.n_features_in_, self.is_categorical_ = len(mask), mask
        vars(self).pop("feature_names_in_", None)
        if names is not None and all(isinstance(name, str) for name in names):
            self.feature_names_in_ = np.array(names, object)
        self.center_, self.scale_, self.fill_ = scales
        self.categories_ = categories
        self.numeric_, self.one_hot_, self.output_features_ = numeric, one_hot, output
        self._one_hot, self._hot = slice(numeric, numeric + one_hot), None
        self.codes_, self.n_codes_ = len(few) - sum(few), n_codes
        self._numeric, self._gaps = np.flatnonzero(~mask), np.array(gaps, np.intp)
        self._columns, shift = [], 0
        hot, code = numeric + len(gaps), numeric + one_hot
        for i, items, is_few in each:
            column = _Categories(i, items, is_few, hot if is_few else code, shift)
            self._columns.append(column)
            hot, code = hot + column.width * is_few, code + (not is_few)
            shift += 0 if is_few else len(items) + 1

    # ---- transform -----------------------------------------------------------------------------

    def transform(self, X: Any) -> Any:
        """The rows for a network, a new array; or what `set_output` asks for."""
        self._check_fitted("transform")
        return self._as_asked(self.encode(X), X)

    def encode(self, X: Any) -> NDArray[Any]:
        """What `transform` gives after `fit`, always as an array."""
        table = Table(X)
        self._check_columns(table)
        return self._encode(table)

    def _encode(self, table: Table) -> NDArray[Any]:
        rows = table.shape[0]
        out = np.empty((rows, self.output_features_), self.dtype)
        if self.numeric_:
            numbers = table.matrix(self._numeric)
            for start in range(0, rows, PART_ROWS):
                part = numbers[start : start + PART_ROWS].astype(np.float64, order="C")
                self._scale(part, out[start : start + PART_ROWS], table)
        for column in self._columns:
            column.write(table, out)
        if self._hot is not None:
            columns = out[:, self._one_hot].astype(np.float64)
            out[:, self._one_hot] = self._clipped(columns, *self._hot)
        return out

    def _scale(self, part: Numbers, out: NDArray[Any], table: Table) -> None:
        """Write the numbers, scaled and clipped, and what is missing of them into rows of the
        result; `part` is overwritten."""
        gaps = len(self._gaps)
        if gaps:
            out[:, self.numeric_ : self.numeric_ + gaps] = 0
        if not _kernels.all_finite(part):
            missing = np.isnan(part)
            if (wrong := np.isinf(part)).any():
                i = self._numeric[np.flatnonzero(wrong.any(axis=0))[0]]
                raise ValueError(f"X contains infinity{table.where(int(i))}")
            np.copyto(part, self.fill_, where=missing)
            if gaps:
                out[:, self.numeric_ : self.numeric_ + gaps] = missing[:, self._gaps]
        with np.errstate(over="ignore"):
            part = self._clipped(part, self.center_, self.scale_)
            if self.clip is None:
                part = arrays.cast(part, self.dtype, "X, scaled,")
            out[:, : self.numeric_] = part

    def _clipped(self, part: Numbers, center: Numbers, scale: Numbers) -> Numbers:
        """The same array, centred, divided and clipped."""
        part -= center
        part /= scale
        if self.clip is not None:
            np.minimum(part, _MOST, out=part)
            np.maximum(part, _LEAST, out=part)
            square = part / self.clip
            square *= square
            square += 1.0
            part /= np.sqrt(square, out=square)
        return part

    def _check_columns(self, table: Table) -> None:
        """Raise ValueError unless these are the columns of `fit`; the words are scikit-learn's."""
        name, mine = type(self).__name__, getattr(self, "feature_names_in_", None)
        if mine is not None or table.names is not None:
            named = table.names is not None and all(isinstance(n, str) for n in table.names)
            if mine is not None and named:
                self._check_names(table.names or [], mine.tolist())
            elif mine is not None:
                lacks = f"X does not have valid feature names, but {name} was fitted with"
                warnings.warn(f"{lacks} feature names", stacklevel=checks.users_level())
            elif named:
                has = f"X has feature names, but {name} was fitted without feature names"
                warnings.warn(has, stacklevel=checks.users_level())
        if table.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {table.shape[1]} features, but {name} is expecting "
                f"{self.n_features_in_} features as input"
            )

    def _check_names(self, names: list[str], mine: list[str]) -> None:
        if names == mine:
            return
        message = "The feature names should match those that were passed during fit.\n"
        for what, found in (
            ("unseen at fit time", sorted(set(names) - set(mine))),
            ("seen at fit time, yet now missing", sorted(set(mine) - set(names))),
        ):
            if found:
                shown = [f"- {name}\n" for name in found[:5]] + ["- ...\n"] * (len(found) > 5)
                message += f"Feature names {what}:\n{''.join(shown)}"
        if set(names) == set(mine):
            message += "Feature names must be in the same order as they were in fit.\n"
        raise ValueError(message)

    # ---- what scikit-learn asks its transformers ----

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """The names of the result's columns: of numbers and codes that of X's column, of what is
        missing ``missingindicator_age``, of categories ``city_Rome`` (of two, the second).

        X's columns have the names of the DataFrame in `fit`, else `input_features`, else x0, x1,
        ...  Raises ValueError for other names or another number of them, RuntimeError before `fit`.
        """
        self._check_fitted("get_feature_names_out")
        mine = getattr(self, "feature_names_in_", None)
        if input_features is None:
            default = [f"x{i}" for i in range(self.n_features_in_)]
            names = np.array(default, object) if mine is None else mine
        else:
            names = np.asarray(input_features, object)
            if mine is not None and names.tolist() != mine.tolist():
                raise ValueError("input_features is not equal to feature_names_in_")
            if names.shape != (self.n_features_in_,):
                raise ValueError(
                    "input_features should have length equal to number of features "
                    f"({self.n_features_in_}), got {len(names)}"
                )
        numeric = names[self._numeric].tolist()
        out = [*numeric, *(f"missingindicator_{numeric[j]}" for j in self._gaps)]
        for column in self._columns:
            if column.is_few:
                out += [f"{names[column.i]}_{item}" for item in column.numbers][-column.width :]
        codes = [names[column.i] for column in self._columns if not column.is_few]
        return np.array(out + codes, object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_in_")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            input_tags=InputTags(allow_nan=True, categorical=True, string=True),
        )


class _Categories:
    """How the categories of column `i` stand in the result: from column `first` on, in columns of
    their own (`is_few`) or as codes from `shift` on."""

    def __init__(self, i: int, items: list[Any], is_few: bool, first: int, shift: int) -> None:
        self.i, self.is_few, self.first = i, is_few, first
        self.numbers = {item: number for number, item in enumerate(items, 1)}
        n = len(items)
        self.width = 1 if n == 2 or not is_few else n
        self.values: NDArray[Any] | None = None  # what stands for each number, 0 being the others'
        self.places = np.arange(1, n + 1)  # the numbers that have a column of their own
        if n == 2 and is_few:
            self.values = np.array([0, -1, 1])
        elif not is_few:
            self.values = np.arange(shift, shift + n + 1)

    def write(self, table: Table, out: NDArray[Any]) -> None:
        try:
            items, which = table.distinct(self.i)
            index = np.fromiter(map(self.numbers.get, items, repeat(0)), np.intp, len(items))
        except TypeError as error:
            raise _not_hashable(error, table.where(self.i)) from None
        if which is not None:
            index = np.append(index, 0)[which]
        if self.values is not None:
            out[:, self.first] = self.values[index]
        else:
            out[:, self.first : self.first + self.width] = index[:, None] == self.places


def _not_hashable(error: TypeError, where: str) -> TypeError:
    return TypeError(f"X: expected categories that are hashable, got an {error}{where}")


def _categories(table: Table, i: int) -> list[Any]:
    """The categories of a column, sorted, without what is missing."""
    try:
        items, which = table.distinct(i)
        found = set(items if which is None else (items[j] for j in np.unique(which) if j >= 0))
    except TypeError as error:
        raise _not_hashable(error, table.where(i)) from None
    plain = {item.item() if isinstance(item, _SCALARS) else item for item in found}
    present = [item for item in plain if not (columns.is_missing(type(item)) or item != item)]
    return sorted(present, key=_sort_key)


def _warn_of_numbers(items: list[Any], where: str) -> None:
    """Warn of categories that are numbers, but for a few such as "?"."""
    texts = [item for item in items if not _reads_as_number(item)]
    if 0 < len(texts) <= len(items) / 10:
        warnings.warn(
            f"X: {len(items) - len(texts)} numbers and {len(texts)} texts, such as {texts[0]!r}"
            f"{where}: all are taken for categories; make the texts missing "
            "(pandas.to_numeric(column, errors='coerce')), or name the column in "
            "categorical_features",
            UserWarning,
            stacklevel=checks.users_level(),
        )


def _reads_as_number(item: Any) -> bool:
    try:
        float(item)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


_SCALARS = (np.bool_, np.integer, np.floating, np.str_)  # their like in Python is equal


def _sort_key(item: Any) -> tuple[Any, ...]:
    kind = type(item)
    return (0, item) if columns.is_number(kind) else (1, kind.__name__, str(item))


# ---- how numbers are scaled: their centre and scale, and what stands for a missing one ----


def _robust(numbers: Numbers, dtype: np.dtype[Any]) -> tuple[float, float, float]:
    low, first, middle, third, high = np.quantile(numbers, [0, 0.25, 0.5, 0.75, 1]).tolist()
    spreads = np.array([third - first, (high - low) / 2])
    varies = ~arrays.is_constant(spreads**2, np.array(middle), len(numbers), dtype)
    return middle, float(spreads[varies.argmax()]) if varies.any() else np.inf, middle


def _standard(numbers: Numbers, dtype: np.dtype[Any]) -> tuple[float, float, float]:
    (mean,), (std,) = moments(numbers[:, None], dtype)
    return mean, std or np.inf, mean


def _as_they_are(numbers: Numbers, dtype: np.dtype[Any]) -> tuple[float, float, float]:
    return 0.0, 1.0, float(np.median(numbers))


_SCALINGS: dict[str, Rule] = {"robust": _robust, "standard": _standard}
