"""The table that `Sequential.summary` returns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn._layer import Layer, label


def table(layers: Sequence[Any], in_features: int | None, dtype: np.dtype[Any]) -> str:
    """Layers, output shapes and parameter counts in columns, and the sum."""
    rows, total, width = [("", "layer", "output", "parameters")], 0, in_features
    for i, layer in enumerate(layers):
        width = _width_after(layer, width)
        count = _parameter_count(layer)
        total += count
        output = f"(batch, {'?' if width is None else width})"
        rows.append((str(i), label(layer), output, f"{count:,}"))
    columns = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"{row[0]:>{columns[0]}}  {row[1]:<{columns[1]}}  {row[2]:<{columns[2]}}  "
        f"{row[3]:>{columns[3]}}"
        for row in rows
    ]
    lines.append(f"{total:,} parameters, {_size(total * dtype.itemsize)} in {dtype.name}")
    return "\n".join(lines)


def _width_after(layer: Any, width: int | None) -> int | None:
    """How many features come out, None where the layer does not say."""
    gives: int | None = getattr(layer, "out_features", None)
    if gives is None and isinstance(layer, Layer):
        return width
    return gives


def _parameter_count(layer: Any) -> int:
    if not isinstance(layer, Layer):
        return 0
    return sum(math.prod(shape) for shape in layer.parameter_shapes().values())


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
