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
    """Layers, output shapes and parameter counts in columns, and the total; `shape` is that of an
    input row, or None where it is unknown."""
    layers, dtype, chain = network.layers, network.dtype, network._chain
    rows = [("", "layer", "output", "parameters"), *_rows(chain, chain.in_features, None, shape)]
    columns = [max(map(len, column)) for column in zip(*rows, strict=True)]
    side = "<" if len(rows) - 1 > len(layers) else ">"  # with layers within layers: 3, 3.0, 3.1
    lines = [
        f"{row[0]:{side}{columns[0]}}  {row[1]:<{columns[1]}}  {row[2]:<{columns[2]}}  "
        f"{row[3]:>{columns[3]}}"
        for row in rows
    ]
    total = sum(map(_parameter_count, layers))
    frozen = sum(network.parameters[name].size for name in network._frozen())
    trainable = f"{total - frozen:,} of them trainable, " if frozen else ""
    products = f", products in {network.compute}" if network.compute else ""
    size = f"{_size(total * dtype.itemsize)} in {dtype.name}"
    lines.append(f"{total:,} parameters, {trainable}{size}{products}")
    return "\n".join(lines)


def _rows(
    chain: Chain, width: int | None, dims: int | None, shape: tuple[int, ...] | None
) -> Iterator[tuple[str, str, str, str]]:
    """A line of the table for each layer of a chain that takes rows of so many features (`width`)
    and dimensions, or of this shape; layers within a layer come right behind it."""
    for key, layer in zip(chain.names, chain.layers, strict=True):
        chains = inner_chains(layer)
        within = list[tuple[str, str, str, str]]()
        for inner, its in zip(chains, layer._inner_rows(shape) if chains else (), strict=True):
            within += (
                _rows(inner, its[-1], len(its), its) if its else _rows(inner, width, dims, its)
            )
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
