"""The table that `Sequential.summary` returns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fastnn.layers.chain import inner_chains, known_after, shape_after
from fastnn.layers.layer import Layer, batch_of
from fastnn.support.settings import label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastnn.layers.chain import Chain
    from fastnn.network import Network


def table(network: Network, shape: tuple[int, ...] | None = None) -> str:
    """Layers, output shapes and parameter counts in columns, and the sum; `shape` is that of an
    input row, if it is known."""
    layers, dtype = network.layers, network.dtype
    chain = network._chain
    rows = [("", "layer", "output", "parameters"), *_rows(chain, chain.in_features, None, shape)]
    columns = [max(map(len, column)) for column in zip(*rows, strict=True)]
    side = "<" if len(rows) - 1 > len(layers) else ">"  # numbers like 3.0, or whole ones
    lines = [
        f"{row[0]:{side}{columns[0]}}  {row[1]:<{columns[1]}}  {row[2]:<{columns[2]}}  "
        f"{row[3]:>{columns[3]}}"
        for row in rows
    ]
    total = sum(map(_parameter_count, layers))
    lines.append(f"{total:,} parameters, {_size(total * dtype.itemsize)} in {dtype.name}")
    return "\n".join(lines)


def _rows(
    chain: Chain, width: int | None, dims: int | None, shape: tuple[int, ...] | None
) -> Iterator[tuple[str, str, str, str]]:
    """The table's rows for a chain that takes rows of so many features and dimensions, or of this
    shape; layers within a layer come behind it."""
    for key, layer in zip(chain.names, chain.layers, strict=True):
        chains = inner_chains(layer)
        within = [row for inner in chains for row in _rows(inner, width, dims, shape)]
        width, dims = known_after(layer, width, dims)
        shape = None if shape is None else shape_after(layer, shape)
        output = shape or ("?",) * ((dims or 1) - 1) + ("?" if width is None else width,)
        name = type(layer).__name__ if chains else label(layer)
        yield key, name, batch_of(output), f"{_parameter_count(layer):,}"
        for number, layer_name, its_output, count in within:
            yield f"{key}.{number}", layer_name, its_output, count


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
