"""A model's scalers and classes in its file: settings, categories as JSON, numbers as tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.data import Standardizer, TableEncoder
from fastnn.data.belongings import check_classes, check_scaler, check_target_scaler
from fastnn.files.describe import check_keys
from fastnn.support import arrays, checks

if TYPE_CHECKING:
    from fastnn.network import Network

    Arrays = dict[str, Any]

_CHECKS = {"scaler": check_scaler, "target_scaler": check_target_scaler}
_DTYPES = ("float32", "float64")
_TABLE = ("type", "arguments", "names", "columns", "indicators")
_ARGUMENTS = tuple(TableEncoder().get_params())
_STATISTICS = ("center", "scale", "fill")
_PLAIN = (str, int, float, bool)  # categories of these types come back from JSON as they were


def describe(model: Network) -> tuple[dict[str, Any], Arrays]:
    """The model's scalers and classes as JSON, and copies of the scalers' arrays.

    Raises TypeError or ValueError for those that a file cannot hold."""
    described: dict[str, Any] = {}
    tensors: Arrays = {}
    for name, check in _CHECKS.items():
        scaler = check(getattr(model, name), name)
        if isinstance(scaler, TableEncoder):
            described[name] = _describe_table(scaler, name)
            numbers = zip(_STATISTICS, (scaler.center_, scaler.scale_, scaler.fill_), strict=True)
            tensors |= {f"{name}.{part}": array.copy() for part, array in numbers if array.size}
            if scaler._hot is not None:
                tensors[f"{name}.one_hot"] = scaler._hot.copy()
        elif scaler is not None:
            described[name] = {"dtype": scaler.dtype.name}
            tensors |= {f"{name}.mean": scaler.mean.copy(), f"{name}.std": scaler.std.copy()}
    if model.classes is not None:
        described["classes"] = list(model.classes)
    return described, tensors


def make(described: dict[str, Any], tensors: Arrays) -> dict[str, Any]:
    """What was described, by name; the scalers' tensors are removed from `tensors`."""
    belongings: dict[str, Any] = {}
    for name, check in _CHECKS.items():
        if name in described:
            found = described[name]
            is_table = isinstance(found, dict) and "type" in found and name == "scaler"
            scaler = (_make_table if is_table else _make_standardizer)(name, found, tensors)
            belongings[name] = check(scaler, name)
    if "classes" in described:
        belongings["classes"] = check_classes(_list(described["classes"], "classes"), "classes")
    return belongings


def _make_standardizer(name: str, described: Any, tensors: Arrays) -> Standardizer:
    check_keys(described, name, ("dtype",), ("dtype",))
    scaler = Standardizer(checks.choice(described["dtype"], f"{name}: dtype", _DTYPES))
    scaler.mean, scaler.std = _take(name, ("mean", "std"), tensors)
    return scaler


# ---- TableEncoder ------------------------------------------------------------------------------


def _describe_table(encoder: TableEncoder, name: str) -> dict[str, Any]:
    given = encoder.categorical_features
    plain = given if given is None or isinstance(given, str) else np.asarray(given).tolist()
    names = vars(encoder).get("feature_names_in_")
    columns: list[Any] = [None] * encoder.n_features_in_
    for column, items in zip(encoder._columns, encoder.categories_, strict=True):
        for item in items:
            if type(item) not in _PLAIN or (isinstance(item, float) and math.isinf(item)):
                raise TypeError(
                    f"{name}: expected categories that are text, finite numbers or truth values, "
                    f"got {item!r} in column {column.i}; others cannot be saved in a safe file"
                )
        columns[column.i] = {"categories": items, "one_hot": column.is_few}
    return {
        "type": "TableEncoder",
        "arguments": {
            **encoder.get_params(),
            "categorical_features": plain,
            "dtype": encoder.dtype.name,
        },
        "names": None if names is None else names.tolist(),
        "columns": columns,
        "indicators": encoder._gaps.tolist(),
    }


def _make_table(name: str, described: Any, tensors: Arrays) -> TableEncoder:
    check_keys(described, name, _TABLE, _TABLE)
    checks.choice(described["type"], f"{name}: type", ["TableEncoder"])
    check_keys(described["arguments"], f"{name}: arguments", _ARGUMENTS, _ARGUMENTS)
    checks.choice(described["arguments"]["dtype"], f"{name}: dtype", _DTYPES)
    encoder = TableEncoder(**described["arguments"])
    chosen = encoder.categorical_features
    if not (chosen is None or isinstance(chosen, str) or _is_list_of(chosen, (int, str, bool))):
        raise ValueError(f"{name}: expected a list of categorical_features, found {chosen!r}")
    columns, names = _list(described["columns"], f"{name}: columns"), described["names"]
    categories, few = _categories(columns, name)
    if names is not None and (not _is_list_of(names, (str,)) or len(names) != len(columns)):
        raise ValueError(f"{name}: expected {len(columns)} names of columns, found {names!r}")
    mask = np.array([column is not None for column in columns], bool)
    numeric = int(np.count_nonzero(~mask))
    scales = np.zeros((3, numeric))
    if numeric:
        for part, array in zip(scales, _take(name, _STATISTICS, tensors), strict=True):
            if array.dtype != np.float64 or array.shape != (numeric,):
                got = arrays.describe(array)
                raise ValueError(f"{name}: expected {numeric} float64 numbers, found {got}")
            part[:] = array
    center, scale, fill = scales
    if not (np.isfinite(center) & np.isfinite(fill) & (scale > 0)).all():
        raise ValueError(f"{name}: expected finite centres and scales > 0")
    gaps = _list(described["indicators"], f"{name}: indicators")
    gaps = [checks.whole(j, f"{name}: indicators", 0, numeric - 1) for j in gaps]
    if gaps != sorted(set(gaps)):
        raise ValueError(f"{name}: expected indicators in order, found {gaps}")
    encoder._set(names, mask, scales, gaps, categories, few)
    if encoder.scale_one_hot and encoder.one_hot_:
        (hot,) = _take(name, ("one_hot",), tensors)
        if hot.dtype != np.float64 or hot.shape != (2, encoder.one_hot_):
            raise ValueError(
                f"{name}: expected (2, {encoder.one_hot_}) float64 numbers for one_hot"
            )
        if not (np.isfinite(hot[0]) & (hot[1] > 0)).all():
            raise ValueError(f"{name}: expected finite centres and scales > 0 for one_hot")
        encoder._hot = hot
    return encoder


def _categories(columns: list[Any], name: str) -> tuple[list[list[Any]], list[bool]]:
    """The categories of the columns that have some, and whether these have columns of their own."""
    keys = ("categories", "one_hot")
    described = [column for column in columns if column is not None]
    for column in described:
        check_keys(column, f"{name}: columns", keys, keys)
        checks.flag(column["one_hot"], f"{name}: one_hot")
        items = column["categories"]
        good = _is_list_of(items, _PLAIN) and len(set(items)) == len(items)
        if not good or any(isinstance(item, float) and math.isinf(item) for item in items):
            raise ValueError(
                f"{name}: expected categories that are text, finite numbers or truth values, each "
                f"once, found {items!r}"
            )
    return [c["categories"] for c in described], [c["one_hot"] for c in described]


def _is_list_of(found: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(found, list) and all(type(item) in kinds for item in found)


def _take(name: str, parts: tuple[str, ...], tensors: Arrays) -> list[Any]:
    """These tensors, which are removed."""
    for part in parts:
        if f"{name}.{part}" not in tensors:
            raise ValueError(f"{name}: expected a tensor {name + '.' + part!r}")
    return [tensors.pop(f"{name}.{part}") for part in parts]


def _list(found: Any, name: str) -> list[Any]:
    if not isinstance(found, list):
        raise ValueError(f"{name}: expected a list, found {found!r}")
    return found
