"""What stands before the first layer and behind the last: scalers, the encoder of a table, and what
an estimator makes of its networks' outputs; and how the header tells of it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastnn.data import TableEncoder
from fastnn.export.program import Behind, Buffer, Program, Value, literal
from fastnn.network import Network
from fastnn.predictor import Ensemble
from fastnn.support import checks, columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.data import Standardizer


class Estimator(Protocol):
    """An estimator of fastnn.sklearn."""

    def _exported(self) -> Ensemble: ...


# ---- what is exported ----


def exported(model: object, scalers: bool) -> Ensemble:
    """The networks that are written, and what is made of their outputs."""
    if isinstance(model, Network):
        return Ensemble(model, classes=model.classes)
    its = getattr(model, "_exported", None)
    if its is None or isinstance(model, type):
        raise TypeError(
            f"model: expected a Sequential or an estimator of fastnn.sklearn, got {model!r}"
        )
    if not scalers:
        raise ValueError("scalers: expected True for an estimator, got False; export its model_")
    found: Ensemble = its()
    return found


def row_shape(model: Network, shape: tuple[int, ...] | None, scaler: Any) -> tuple[int, ...]:
    """The shape of the rows that the layers take: `shape`, or the only one there is."""
    if not model._chain.native:
        raise TypeError(f"model: expected layers of fastnn's own, got {model!r}")
    if shape is None and model.in_features is None and isinstance(scaler, TableEncoder):
        shape = (scaler.output_features_,)  # an embedding takes any width
    if shape is None:
        if model._chain.dimensions != 1 or model.in_features is None:
            raise ValueError(
                "shape: expected that of a row, such as (28, 28, 1), since the model takes rows of "
                "several shapes; got None"
            )
        shape = (model.in_features,)
    shape = checks.shape(shape, "shape")
    try:
        model.output_shape(shape)
    except ValueError as error:
        raise ValueError(f"shape: expected a row's, its channels last: {error}") from None
    return shape


# ---- before the layers ----


def add_scaler(
    scaler: Standardizer | TableEncoder | None, x: Value, shape: tuple[int, ...], program: Program
) -> Value:
    """Rows of that shape, which the layers take, of x as the user gives it."""
    if scaler is None:
        return x
    if isinstance(scaler, TableEncoder):
        check_features("scaler", scaler.output_features_, shape)
        return _add_encoder(scaler, x, program)
    check_features("scaler", len(scaler.mean), shape)
    value = program.new(x.shape)
    piece = "standardize" + "_to_float" * (scaler.dtype == np.float32)
    program.call(piece, x, value, x.rows, x.shape[-1], *_statistics(scaler, program))
    return value


def check_features(name: str, features: int, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless a scaler of so many features fits rows of that shape."""
    if features != shape[-1]:
        raise ValueError(
            f"{name}: expected one of {shape[-1]} features, got {features}; with "
            "scalers=False it is left out"
        )


def _statistics(scaler: Standardizer, program: Program) -> list[str]:
    return [program.array(each, "double") for each in (scaler.mean, scaler.std)]


def _add_encoder(encoder: TableEncoder, x: Value, program: Program) -> Value:
    y = program.new((encoder.output_features_,))
    clip = literal(0.0 if encoder.clip is None else encoder.clip)
    if encoder.numeric_ or encoder._hot is not None:
        to_float = encoder.dtype.itemsize < program.dtype.itemsize
        program.pieces.add("encoded" + "_to_float" * to_float)
    program.note(f"TableEncoder of ({x.size})")

    def doubles(*arrays: NDArray[Any]) -> list[str]:
        return [program.array(array, "double") for array in arrays]

    if n := encoder.numeric_:
        gaps = np.zeros(n, np.int32)
        gaps[encoder._gaps] = n + np.arange(len(encoder._gaps))
        at = [program.array(array, "int") for array in (encoder._numeric.astype(np.int32), gaps)]
        numbers = doubles(encoder.fill_, encoder.center_, encoder.scale_)
        program.call("encode_numbers", x, n, *at, *numbers, clip, y)
    if each := encoder._columns:
        known = [category_numbers(encoder, column)[0] for column in each]
        places = [
            [column.i for column in each],
            [len(column.numbers) for column in each],
            [_first_code(column) for column in each],
            [column.first for column in each],
        ]
        at = [program.array(np.array(place, np.int32), "int") for place in places]
        flat = doubles(np.concatenate([*known, [0.0] * (not any(map(len, known)))]))
        program.call("encode_categories", x, len(each), *at, *flat, y)
    if encoder._hot is not None:
        first, hot = Behind(y, encoder.numeric_), doubles(*encoder._hot)
        program.call("rescale", first, encoder.one_hot_, *hot, clip)
    return y


def _first_code(column: Any) -> int:
    """The code of what is unknown; -1 if the column's categories have columns of their own."""
    return -1 if column.is_few else int(column.values[0])


def category_numbers(encoder: TableEncoder, column: Any) -> tuple[NDArray[np.float64], bool]:
    """The ascending numbers that stand for a column's categories, and whether these are numbers
    themselves: else their places in `categories_`.  ValueError for numbers that are no doubles."""
    items = list(column.numbers)
    if not items or not all(columns.is_number(type(item)) for item in items):
        return np.arange(float(len(items))), False
    try:
        found = [float(item) for item in items]
    except OverflowError:
        found = [np.inf]
    if found != items or not np.isfinite(found).all() or (np.diff(found) <= 0).any():
        raise ValueError(
            f"scaler: column {column_names(encoder)[column.i]!r}: expected categories that C's "
            "double holds, in ascending order; turn them into text before fit"
        )
    return np.array(found), True


# ---- behind the layers ----


def add_outputs(
    ensemble: Ensemble, scaler: Standardizer | None, value: Value, program: Program
) -> Value:
    """y, of the outputs of all networks side by side."""
    value, networks = program.own(value), ensemble.networks
    value = _add_link(ensemble.link, value, networks, program)
    if networks == 1 and ensemble.limits is None and not program.entry_double:
        if scaler is not None:
            check_features("target_scaler", len(scaler.mean), value.shape)
            statistics = _statistics(scaler, program)
            program.call("restore", value, value.rows, value.shape[-1], *statistics)
        value.buffer.name = "y"
        return value
    n = value.size // networks
    y = Value(Buffer(0, n, "y", shared=True), value.shape if networks == 1 else (n,))
    if scaler is None:
        program.call("average", value, networks, n, y)
        return y
    check_features("target_scaler", len(scaler.mean), y.shape)
    limits = ensemble.limits
    if limits is None:
        limits = np.array([[-np.inf], [np.inf]]) + np.zeros(len(scaler.mean))
    each = [np.tile(array, y.rows) for array in (scaler.mean, scaler.std, *limits)]
    numbers = [program.array(array, "double") for array in each]
    program.call("average_of_values", value, networks, n, *numbers, y)
    return y


def _add_link(link: str, value: Value, networks: int, program: Program) -> Value:
    """The results of networks side by side, of their outputs."""
    if link == "softmax":
        program.call("softmax", value, networks, value.size // networks)
    elif link == "logistic":
        program.call("sigmoid", value, value.size)
        if value.size == networks:  # of two classes the second
            likely, value = value, program.new((2 * networks,))
            program.call("two_classes", likely, networks, value)
            program.release(likely)
    elif link == "exp":
        program.call("exponentials", value, value.size)
    return value


# ---- what the header says ----


def column_names(encoder: TableEncoder) -> list[str]:
    """The names of a table's columns."""
    default = [f"x{i}" for i in range(encoder.n_features_in_)]
    return list(getattr(encoder, "feature_names_in_", default))


def description(scaler: Any, ensemble: Ensemble) -> str:
    """Lines of a comment: what x and y are, where there is more to say than how many numbers."""
    lines = []
    if isinstance(scaler, TableEncoder):
        lines += ["x is a row of a table; NaN is what is missing"]
        names, by_column = column_names(scaler), {column.i: column for column in scaler._columns}
        for i, name in enumerate(names):
            column = by_column.get(i)
            if column is None:
                lines.append(f"x[{i}] {quoted(name)}: a number")
            elif category_numbers(scaler, column)[1]:
                lines.append(f"x[{i}] {quoted(name)}: a category, which is a number")
            else:
                lines.append(
                    f"x[{i}] {quoted(name)}: the number of a category, others being unknown"
                )
                lines += [f"  {j} {quoted(item)}" for j, item in enumerate(column.numbers)]
    if ensemble.classes is not None:
        likely = ensemble.link in ("softmax", "logistic")
        what = "the probability of" if likely else "the output for"
        lines += [f"y[{j}] {what} {quoted(item)}" for j, item in enumerate(ensemble.classes)]
    return "".join(f" * {line}\n" for line in lines) + " *\n" * bool(lines)


def quoted(item: Any) -> str:
    """A name as JSON in ASCII, in which nothing ends a comment, begins one or is a trigraph."""
    item = item.item() if isinstance(item, np.generic) else item
    text = json.dumps(item if isinstance(item, str | int | float) else str(item))
    return re.sub(r"(?<=\*)/|/(?=\*)|\?(?=\?)|\x7f", lambda found: f"\\u{ord(found[0]):04x}", text)
