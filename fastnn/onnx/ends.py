"""What stands in an ONNX file before the first layer and behind the last: scalers, the encoder of a
table, and what an estimator makes of its networks' outputs."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn.data import TableEncoder
from fastnn.data.table import _FAR
from fastnn.export.ends import category_numbers, check_features
from fastnn.onnx.graph import Graph, Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.data import Standardizer
    from fastnn.predictor import Ensemble

_DOUBLE = np.dtype(np.float64)


def _cast(name: str, graph: Graph, *types: np.dtype[Any]) -> str:
    """The value of the first of these types as the last, by way of those between."""
    for before, after in pairwise(types):
        name = name if before == after else graph.cast(name, after)
    return name


# ---- before the layers ----


def add_scaler(
    scaler: Standardizer | TableEncoder | None, x: Value, shape: tuple[int, ...], graph: Graph
) -> Value:
    """Rows of that shape, which the layers take, of x as the user gives it."""
    if scaler is None:
        return x
    with graph.within("scaler"):
        if isinstance(scaler, TableEncoder):
            check_features("scaler", scaler.output_features_, shape)
            y = _add_encoder(scaler, x.name, graph)
            return Value(_cast(y, graph, _DOUBLE, scaler.dtype, graph.dtype), shape)
        check_features("scaler", len(scaler.mean), shape)
        y = _cast(x.name, graph, graph.dtype, _DOUBLE)
        y = graph.add("Sub", y, graph.along("mean", scaler.mean, x))
        y = graph.add("Div", y, graph.along("std", scaler.std, x))
        return x._replace(name=_cast(y, graph, _DOUBLE, scaler.dtype, graph.dtype))


def _add_encoder(encoder: TableEncoder, x: str, graph: Graph) -> str:
    """The rows of `TableEncoder.transform` in double, of x in double, where NaN is what is missing
    and categories are numbers (`category_numbers`)."""
    numbers, hot, codes = list[str](), list[str](), list[str]()
    if encoder.numeric_:
        numeric = graph.array("numeric", encoder._numeric.astype(np.int64))
        value = graph.add("Gather", x, numeric, axis=1)
        missing = graph.add("IsNaN", value)
        value = graph.add("Where", missing, graph.array("fill", encoder.fill_), value)
        statistics = {"center": encoder.center_, "scale": encoder.scale_}
        numbers.append(_clipped(value, statistics, encoder.clip, graph))
        if len(encoder._gaps):
            gaps = graph.array("gaps", encoder._gaps.astype(np.int64))
            hot.append(graph.cast(graph.add("Gather", missing, gaps, axis=1), _DOUBLE))
    for column in encoder._columns:
        if column.width and column.numbers:
            (hot if column.is_few else codes).append(_add_categories(encoder, column, x, graph))
        elif column.width:
            raise ValueError("scaler: a column of codes without a category cannot be written")
    if encoder._hot is not None:
        statistics = dict(zip(("hot_center", "hot_scale"), encoder._hot, strict=True))
        hot = [_clipped(_join(hot, graph), statistics, encoder.clip, graph)]
    return _join([*numbers, *hot, *codes], graph)


def _join(parts: list[str], graph: Graph) -> str:
    return parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)


def _clipped(
    x: str, statistics: dict[str, NDArray[np.float64]], clip: float | None, graph: Graph
) -> str:
    """(x - center) / scale, brought smoothly between -clip and clip as in `TableEncoder`."""
    center, scale = (graph.array(name, array) for name, array in statistics.items())
    y = graph.add("Div", graph.add("Sub", x, center), scale)
    if clip is None:
        return y
    y = graph.add("Min", y, graph.constant(_FAR, _DOUBLE))
    y = graph.add("Max", y, graph.constant(-_FAR, _DOUBLE))
    square = graph.add("Div", y, graph.constant(clip, _DOUBLE))
    square = graph.add("Add", graph.add("Mul", square, square), graph.constant(1, _DOUBLE))
    return graph.add("Div", y, graph.add("Sqrt", square))


def _add_categories(encoder: TableEncoder, column: Any, x: str, graph: Graph) -> str:
    """The columns of a column's categories: 1 for the row's own, or the number that stands for
    it."""
    its = graph.add("Gather", x, graph.constant([column.i], np.int64), axis=1)
    known = graph.array(f"{column.i}.categories", category_numbers(encoder, column)[0])
    hot = graph.cast(graph.add("Equal", its, known), _DOUBLE)
    if column.values is None:
        return hot
    unknown, *others = column.values.tolist()
    change = graph.array(f"{column.i}.values", np.array(others, float)[:, None] - unknown)
    return graph.add("Add", graph.add("MatMul", hot, change), graph.constant(unknown, _DOUBLE))


# ---- behind the layers ----


class Result(NamedTuple):
    """One output of the file."""

    name: str  # by default
    value: str
    dtype: np.dtype[Any]  # that of objects for texts
    dims: list[int]  # of a row


def add_results(
    ensemble: Ensemble,
    scaler: Standardizer | None,
    y: Value,
    *,
    is_estimator: bool,
    exact: bool,
    graph: Graph,
) -> list[Result]:
    """The outputs, of those of all networks side by side; `exact`: values stay double."""
    networks, link = ensemble.networks, ensemble.link
    if networks > 1:
        shape = networks, y.shape[-1] // networks
        y = Value(graph.add("Reshape", y.name, graph.constant([0, *shape], np.int64)), shape)
    is_multilabel = link == "logistic" and y.shape[-1] > 1
    y, dtype = _add_link(link, y, graph), graph.dtype
    if scaler is not None:
        check_features("target_scaler", len(scaler.mean), y.shape)
        y, dtype = _add_values(scaler, ensemble.limits, y, graph), _DOUBLE
    if networks > 1:
        y = Value(graph.add("ReduceMean", y.name, axes=[1], keepdims=0), y.shape[1:])
    if not exact:
        y, dtype = y._replace(name=_cast(y.name, graph, dtype, graph.dtype)), graph.dtype
    result = Result("variable" if is_estimator else "output", y.name, dtype, y.dims)
    classes = ensemble.classes
    if is_multilabel:
        label = graph.cast(graph.add("Greater", y.name, graph.constant(0.5)), np.int64)
        labels = Result("output_label", label, np.dtype(np.int64), y.dims)
    elif classes is not None and (is_estimator or y.shape == (len(classes),)):
        labels = _add_labels(classes, y, graph)
    else:
        return [result]
    if not is_estimator:
        return [result, labels]
    name = "output_score" if link == "identity" else "output_probability"
    return [labels, result._replace(name=name)]


def _add_link(link: str, y: Value, graph: Graph) -> Value:
    """The results of networks, of their outputs."""
    if link == "softmax":
        return y._replace(name=graph.add("Softmax", y.name, axis=-1))
    if link == "exp":
        return y._replace(name=graph.add("Exp", y.name))
    if link != "logistic":
        return y
    likely = graph.add("Sigmoid", y.name)
    if y.shape[-1] > 1:
        return y._replace(name=likely)
    other = graph.add("Sub", graph.constant(1), likely)  # of two classes the first
    return Value(graph.add("Concat", other, likely, axis=-1), (*y.shape[:-1], 2))


def _add_values(scaler: Standardizer, limits: Any, y: Value, graph: Graph) -> Value:
    """The values in double, in their own unit and within the limits."""
    with graph.within("target_scaler"):
        value = _cast(y.name, graph, graph.dtype, _DOUBLE)
        value = graph.add("Mul", value, graph.along("std", scaler.std, y))
        value = graph.add("Add", value, graph.along("mean", scaler.mean, y))
        if limits is not None:
            value = graph.add("Max", value, graph.array("least", limits[0]))
            value = graph.add("Min", value, graph.array("most", limits[1]))
    return y._replace(name=value)


def _add_labels(classes: Any, y: Value, graph: Graph) -> Result:
    """The class of the largest output; of one class alone there are two probabilities."""
    names = _label_array(classes)
    which = graph.add("ArgMax", y.name, axis=1, keepdims=0)
    names_of_columns = graph.array("classes", np.resize(names, y.shape))
    label = graph.add("Gather", names_of_columns, which, axis=0)
    return Result("output_label", label, names.dtype, [])


def _label_array(classes: Any) -> NDArray[Any]:
    """Classes as ONNX has them: texts, integers, truth values or doubles; TypeError for others."""
    kinds = {type(item) for item in classes}
    for kind, dtype in ((str, object), (int, np.int64), (bool, np.bool_), (float, np.float64)):
        if kinds == {kind}:
            with suppress(OverflowError, UnicodeEncodeError):
                return np.array([x.encode() if kind is str else x for x in classes], dtype)
    raise TypeError(
        "model: expected classes that are all texts, integers of 64 bits, truth values or numbers, "
        f"got {list(classes)!r:.200}"
    )
