"""How a model's arrays lie in PyTorch: under which names, along which axes, in which order.

PyTorch's weights are (out, in), and its images have their channels first.  So a Flatten gives the
same numbers in another order there, which the layers behind it, up to a dense one, must undo.
Imports nothing of PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn.layers import (
    BatchNorm,
    Block,
    Conv1D,
    Conv2D,
    Dense,
    Embedding,
    Flatten,
    Layer,
    LayerNorm,
    Residual,
)
from fastnn.layers.chain import known_after
from fastnn.layers.pooling import _Pool
from fastnn.support import checks
from fastnn.support.settings import is_plain, label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fastnn.layers.chain import Chain
    from fastnn.model import Sequential

# the axes of fastnn's weight in PyTorch's order
_AXES: dict[type, tuple[int, ...]] = {Dense: (1, 0), Conv1D: (2, 1, 0), Conv2D: (3, 2, 0, 1)}
_NORM_NAMES = {"gamma": "weight", "beta": "bias"}
_KNOWN = (Dense, Conv1D, Conv2D, BatchNorm, LayerNorm, Embedding)


@dataclass(frozen=True)
class Row:
    """What is known of a row where a layer takes it: its dimensions, how many features or channels
    it has, whether PyTorch has the channels first (None: not certain), and, of images that were
    flattened, how many channels they had."""

    dimensions: int | None
    width: int | None
    channels_first: bool | None = True
    flattened: int | None = None


class Step(NamedTuple):
    """A layer, the name that its parameters' names begin with, and the row that it takes."""

    name: str
    layer: Layer
    row: Row

    def arrays(self) -> Iterator[Kept]:
        """What PyTorch keeps of the layer."""
        layer, kind = self.layer, type(self.layer)
        if (layer.parameters or layer.state) and kind not in _KNOWN:
            raise TypeError(f"model: layer {self.name}, {label(layer)}, has no like in PyTorch")
        order = self._order()
        for name, array in (*layer.parameters.items(), *layer.state.items()):
            weight = name == "weight"
            its = _NORM_NAMES.get(name, name)
            moved = order if weight or kind in (BatchNorm, LayerNorm) else None
            yield Kept(name, its, array, _AXES.get(kind) if weight else None, moved)

    def _order(self) -> NDArray[np.intp] | None:
        """Which of PyTorch's features each of the layer's is, where images were flattened."""
        channels, features = self.row.flattened, self.layer.in_features
        if channels is None or features is None:
            return None
        if features % channels:
            raise ValueError(
                f"model: layer {self.name}, {label(self.layer)}, takes {features} features of "
                f"flattened images of {channels} channels, which do not divide them"
            )
        return np.arange(features).reshape(channels, -1).T.ravel()


class Kept(NamedTuple):
    """An array of a layer, its name here and in PyTorch, and how one becomes the other."""

    name: str
    their_name: str
    array: NDArray[Any]
    axes: tuple[int, ...] | None
    order: NDArray[np.intp] | None

    def their_shape(self) -> tuple[int, ...]:
        shape = self.array.shape
        return shape if self.axes is None else tuple(shape[axis] for axis in self.axes)

    def theirs(self) -> NDArray[Any]:
        """A copy of the array as PyTorch has it."""
        array = self.array if self.order is None else self.array[np.argsort(self.order)]
        return (array if self.axes is None else array.transpose(self.axes)).copy("C")

    def ours(self, theirs: NDArray[Any]) -> NDArray[Any]:
        """A copy of PyTorch's array as the layer has it."""
        array = theirs if self.axes is None else theirs.transpose(np.argsort(self.axes))
        return (array if self.order is None else array[self.order]).copy("C")


def steps(model: Sequential, channels: int | None, dimensions: int | None = None) -> list[Step]:
    """The model's layers in the order of their parameters, those within others in their place.

    `channels` is how many the inputs have, where they are images that are flattened at once;
    `dimensions` are those of the rows, where no layer says it.
    Raises ValueError where the order of flattened features is not known, or nothing undoes it, and
    TypeError for a layer that is not fastnn's own."""
    chain = model._chain
    found: list[Step] = []
    if channels is not None:
        channels = checks.positive_int(channels, "channels")
    width = channels if chain.in_features is None else chain.in_features
    if channels not in (None, width):
        raise ValueError(f"channels: the model takes {width}, got {channels}")
    if chain.dimensions is not None:
        dimensions = chain.dimensions
    end = _follow(chain, Row(dimensions, width), "", found)
    if end.flattened is not None:
        raise ValueError(
            "model: images are flattened and no dense layer follows, so that its outputs are in "
            "another order than PyTorch's"
        )
    return found


def _follow(chain: Chain, row: Row, prefix: str, found: list[Step]) -> Row:
    for name, layer in zip(chain.names, chain.layers, strict=True):
        if not isinstance(layer, Layer) or not is_plain(layer):
            raise TypeError(f"model: expected layers of fastnn's own, got {label(layer)}")
        if layer._chains:
            row = _follow_paths(layer, row, f"{prefix}{name}.", found)
        else:
            step = Step(prefix + name, layer, row)
            found.append(step)
            row = _after(step)
    return row


def _follow_paths(layer: Layer, row: Row, prefix: str, found: list[Step]) -> Row:
    ends = [_follow(chain, row, prefix, found) for chain in layer._chains]
    if type(layer) is Block:
        return ends[0]
    if isinstance(layer, Residual) and layer.shortcut is None:
        ends.append(row)  # the other path
    if any(end.flattened is not None for end in ends):
        raise ValueError(
            f"model: {type(layer).__name__} joins features of flattened images, which PyTorch has "
            "in another order; put a dense layer between"
        )
    width, dimensions = known_after(layer, row.width, row.dimensions)
    return Row(dimensions, width, ends[0].channels_first)


def _after(step: Step) -> Row:
    """The row behind a layer."""
    layer, row = step.layer, step.row
    width, dimensions = known_after(layer, row.width, row.dimensions)
    first, flattened = row.channels_first, row.flattened
    if isinstance(layer, Flatten) and row.dimensions != 1:
        if first and row.width is None:
            raise ValueError(
                f"channels: layer {step.name}, Flatten(), takes inputs of unknown channels, which "
                "PyTorch has first; pass channels=1 for grey images and rows without channels"
            )
        if first is None:
            raise ValueError(
                f"model: layer {step.name}, Flatten(), stands behind an Embedding and a layer that "
                "takes its features first in PyTorch: in which order they come is not certain"
            )
        flattened = row.width if first and row.width != 1 else None
    elif isinstance(layer, Dense):
        flattened = None
    elif isinstance(layer, Embedding):
        first = False
    elif isinstance(layer, Conv1D | Conv2D):
        first = True
    elif isinstance(layer, BatchNorm | _Pool) and not first:
        first = None
    elif isinstance(layer, LayerNorm) and dimensions is None:
        dimensions = 1  # PyTorch's runs over the last axis, so that these are features
    return Row(dimensions, width, first, flattened)
