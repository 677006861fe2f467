"""The table that `Sequential.summary` returns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import _chain
from fastnn._layer import Layer, batch_of, label


def table(
    layers: Sequence[Any],
    in_features: int | None,
    dtype: np.dtype[Any],
    shapes: Sequence[tuple[int, ...] | None] | None = None,
) -> str:
    """Layers, output shapes and parameter counts in columns, and the sum."""
    rows, total = [("", "layer", "output", "parameters")], 0
    width, dims = in_features, None
    for i, layer in enumerate(layers):
        width, dims = _chain.known_after(layer, width, dims)
        shape = shapes[i] if shapes else None
        output = batch_of(shape or ("?",) * ((dims or 1) - 1) + ("?" if width is None else width,))
        count = _parameter_count(layer)
        total += count
        rows.append((str(i), label(layer), output, f"{count:,}"))
    columns = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"{row[0]:>{columns[0]}}  {row[1]:<{columns[1]}}  {row[2]:<{columns[2]}}  "
        f"{row[3]:>{columns[3]}}"
        for row in rows
    ]
    lines.append(f"{total:,} parameters, {_size(total * dtype.itemsize)} in {dtype.name}")
    return "\n".join(lines)


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
