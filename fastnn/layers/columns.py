"""Columns: ranges of the input's columns, each through a layer of its own, side by side again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn._kernels as _kernels
from fastnn.layers.block import Block, as_layer
from fastnn.layers.chain import known_after
from fastnn.layers.layer import batch_of, shape_text
from fastnn.support import checks
from fastnn.support.settings import Fixed, label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fastnn.layers.chain import Chain
    from fastnn.layers.layer import Layer, Pull, SupportsForwardBackward


class Columns(Block):
    """y = the outputs of each part for its own columns of x, side by side.

    `parts` are pairs (width, layer): the first takes the first `width` columns, the next those
    behind them.  A layer of None leaves its columns as they are; several layers are a `Block` or a
    `Sequential` (see `Block`).  An `Embedding` may come first in a part, if nothing comes before
    the `Columns`: of a table's columns some are codes then and the others numbers, in one array.
    Only the former are checked to be codes; they have no gradient, and in that of x are 0.

    Shapes: `x` (batch, the sum of the widths), `y` (batch, the sum of the parts' out_features).
    Names of parameters and state begin with the part's number, as ``"2.0.weight"``.

    Raises TypeError or ValueError for what is no pair of an integer >= 1 and a layer or None, and
    where a layer does not take as many columns or does not return rows of one dimension.

    >>> import numpy as np
    >>> from fastnn import Block, Columns, Dense, Embedding, Flatten, Scale, Sequential
    >>> codes = Block(Embedding(30, 8), Flatten())
    >>> columns = Columns((3, Scale(3)), (2, None), (2, codes))     # 3 + 2 numbers, 2 codes
    >>> columns.in_features, columns.out_features
    (7, 21)
    >>> model = Sequential(columns, Dense(21, 1))
    >>> list(model.parameters)
    ['0.0.scale', '0.2.0.weight', '1.weight', '1.bias']
    >>> model.predict([[0.1, 0.2, 0.3, 0.4, 0.5, 7, 29]]).shape
    (1, 1)
    """

    parts = Fixed[tuple[tuple[int, Any], ...]]()

    def __init__(self, *parts: tuple[int, Layer | SupportsForwardBackward | Any | None]) -> None:
        self.parts = tuple(_part(part, i) for i, part in enumerate(parts))
        if not parts:
            raise ValueError("Columns: parts: expected at least one, got none")
        numbers = [i for i, (_, layer) in enumerate(self.parts) if layer is not None]
        self.layers = tuple(self.parts[i][1] for i in numbers)
        named = zip((f"part {i}" for i in numbers), self.layers, strict=True)
        paths = (((self.parts[i][1],), (str(i),)) for i in numbers)
        self._set_paths(list(named), paths)

    def _join(self, *paths: Chain) -> None:
        """Check that each path takes its columns, and set the features of inputs and outputs."""
        ends, first, codes = [], 0, list[tuple[Any, slice]]()
        for path, (width, layer) in zip(self._each(paths), self.parts, strict=True):
            ends.append(width if path is None else _width_after(path, layer, width))
            for embedding, columns in path.codes if path else ():
                inner = range(first, first + width)[columns]
                codes.append((embedding, slice(inner.start, inner.stop)))
            first += width
        known = [end for end in ends if end is not None]
        self._widths = tuple(width for width, _ in self.parts)
        self._fix(
            in_features=first,
            dimensions=1,
            out_features=sum(known) if len(known) == len(ends) else None,
            out_dimensions=1,
            activation_name="linear",
        )
        self._resizes, self._states = self.out_features is None, all(path.states for path in paths)
        self._code_columns = tuple(codes)

    def _each(self, of_paths: Any) -> Iterator[Any]:
        """For each part the next item of `of_paths`, or None where it has no layer."""
        remaining = iter(of_paths)
        return (None if layer is None else next(remaining) for _, layer in self.parts)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_takes(shape)
        if self.out_features is None:
            raise RuntimeError(f"output_shape: a layer in {self!r} does not say its own")
        return (self.out_features,)

    def _inner_rows(self, row: tuple[int, ...] | None) -> list[tuple[int, ...] | None]:
        return [(width,) for width, layer in self.parts if layer is not None]

    def _take_apart(self, x: NDArray[Any]) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """The columns of each part, and of each part that has a layer."""
        parts = _kernels.split_columns(x, self._widths)
        pairs = zip(parts, self.parts, strict=True)
        return parts, [part for part, (_, layer) in pairs if layer is not None]

    def _side_by_side(self, parts: list[NDArray[Any]], outputs: list[NDArray[Any]]) -> NDArray[Any]:
        """The outputs of those parts that have a layer, with the others' columns between them."""
        pairs = zip(self._each(outputs), parts, self.parts, strict=True)
        ys = [part if y is None else y for y, part, _ in pairs]
        for y, (_, layer) in zip(ys, self.parts, strict=True):
            if y.ndim != 2:
                raise ValueError(f"Columns: {_no_row(layer, y.shape[1:])}")
        return _kernels.join_columns(ys)

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        parts, inputs = self._take_apart(x)
        outputs = self._run(inputs, training)
        if training:  # the widths beside what `_run` has saved
            widths = self._widths_after(outputs)
            self._saved = self._saved, widths
        return self._side_by_side(parts, outputs)

    def _widths_after(self, outputs: Any) -> tuple[int, ...]:
        pairs = zip(self._each(outputs), self._widths, strict=True)
        return tuple(width if y is None else y.shape[-1] for y, width in pairs)

    def _split(self, dy: NDArray[Any]) -> list[tuple[Chain | None, NDArray[Any]]]:
        """Each path (None for no layer), restored for its backward, with its outputs' gradient."""
        self._saved, widths = self._take()  # the former for `_restore`
        paths = self._each(self._restore())
        return list(zip(paths, _kernels.split_columns(dy, widths), strict=True))

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        parts = []
        for (path, its), width in zip(self._split(dy), self._widths, strict=True):
            if path is None:
                parts.append(its)
            elif path.takes_codes:
                path.backward_parameters(its)
                parts.append(_zeros(its, width))
            else:
                parts.append(path.backward(its))
        return _kernels.join_columns(parts)

    def backward_parameters(self, dy: NDArray[Any]) -> None:
        for path, its in self._split(dy):
            if path is not None:
                path.backward_parameters(its)

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        parts, inputs = self._take_apart(x)
        outputs: list[NDArray[Any]] = []
        pulls: list[Pull] = []
        for path, its in zip(self._chains, inputs, strict=True):
            y, pull = path.vjp(its)
            outputs.append(y)
            width = its.shape[1]
            pulls.append(partial(_zeros, width=width) if path.takes_codes else pull)
        widths = self._widths_after(outputs)

        def pull_all(dy: NDArray[Any]) -> NDArray[Any]:
            pairs = zip(self._each(pulls), _kernels.split_columns(dy, widths), strict=True)
            return _kernels.join_columns(
                [its if pull is None else pull(its) for pull, its in pairs]
            )

        return self._side_by_side(parts, outputs), pull_all


def _part(part: Any, i: int) -> tuple[int, Any]:
    """A pair of a width and a layer or None, checked as far as the chains do not."""
    if not isinstance(part, tuple) or len(part) != 2:
        raise TypeError(
            f"Columns: part {i}: expected a pair (width, layer), the layer None for columns that "
            f"stay as they are, got {label(part)}"
        )
    width, layer = part
    return checks.positive_int(width, f"Columns: width of part {i}"), as_layer(layer)


def _zeros(dy: NDArray[Any], width: int) -> NDArray[Any]:
    """The gradient of so many columns of codes."""
    return np.zeros((len(dy), width), dy.dtype)


def _width_after(path: Chain, layer: Any, width: int) -> int | None:
    """How many features a layer gives for so many columns; None where it does not say that.

    ValueError where it takes other rows, or gives rows of more than one dimension."""
    if path.in_features not in (None, width) or path.dimensions not in (None, 1):
        takes = shape_text(path.dimensions, path.in_features)
        raise ValueError(f"{label(layer)} takes {takes}, but its part has {width} columns")
    if not path.states:
        return known_after(layer, width, 1)[0]
    shape = path.shapes((width,))[-1]
    if shape is not None and len(shape) != 1:
        raise ValueError(_no_row(layer, shape))
    return None if shape is None else shape[0]


def _no_row(layer: Any, shape: tuple[int, ...]) -> str:
    return (
        f"{label(layer)} gives {batch_of(shape)}, expected (batch, features): "
        "put Flatten() behind it, in a Block"
    )
