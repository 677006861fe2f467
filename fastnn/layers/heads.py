"""Heads: several paths from the same input, whose outputs lie side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fastnn._kernels as _kernels
from fastnn.layers.block import Block, as_layer
from fastnn.layers.chain import numbered
from fastnn.layers.layer import batch_of
from fastnn.support.settings import label

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.layers.chain import Chain
    from fastnn.layers.layer import Layer, Pull, SupportsForwardBackward


class Heads(Block):
    """y = the outputs of all `layers` for the same x, side by side on the last axis.

    Each is a head: one layer, or several as a `Block` or a `Sequential` (see there): policy and
    value over one trunk, or two critics in one model.  Gradients of the heads are added up.

    Shapes: `x` (batch, ..., in_features) as each head takes it, `y` (batch, ..., the sum of their
    out_features); ``np.split(y, [n], axis=-1)`` gives them back.  Names of parameters and state
    begin with the head's number, as ``"0.weight"`` or ``"1.0.weight"``.

    Raises TypeError or ValueError for what is no layer, and if heads take different shapes, or
    return shapes that differ in more than the last axis: at once as far as these are known, else
    when data come.

    >>> from fastnn import Dense, Heads, Sequential
    >>> model = Sequential(Dense(4, 64, activation="tanh"), Heads(Dense(64, 2), Dense(64, 1)))
    >>> outputs = model.forward([[0.0, 1.0, 2.0, 3.0]])
    >>> logits, value = outputs[:, :2], outputs[:, 2]
    >>> list(model.parameters)
    ['0.weight', '0.bias', '1.0.weight', '1.0.bias', '1.1.weight', '1.1.bias']
    """

    def __init__(self, *layers: Layer | SupportsForwardBackward | Any) -> None:
        self.layers = tuple(map(as_layer, layers))
        paths = (((layer,), (str(i),)) for i, layer in enumerate(self.layers))
        self._set_paths(list(numbered(self.layers)), paths)

    def _join(self, *heads: Chain) -> None:
        """Set the features and dimensions of inputs and outputs, as far as the heads say them."""
        if not heads:
            raise ValueError("layers: expected at least one, got none")
        widths = [head.out_features for head in heads]
        known = [width for width in widths if width is not None]
        self._fix(
            in_features=_common("takes", "features", [head.in_features for head in heads]),
            dimensions=_common("takes", "dimensions", [head.dimensions for head in heads]),
            out_features=sum(known) if len(known) == len(widths) else None,
            out_dimensions=_common("gives", "dimensions", [head.out_dimensions for head in heads]),
            activation_name=heads[0].first_activation(),
        )
        self._resizes = self.out_features is None
        self._states = all(head.states for head in heads)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_takes(shape)
        shapes = [head.shapes(shape, "Heads")[-1] for head in self._chains]
        known = [after for after in shapes if after is not None]
        if len(known) < len(shapes):
            raise RuntimeError(f"output_shape: a layer in {self!r} does not say its own")
        self._check_rows(known)
        return (*known[0][:-1], sum(after[-1] for after in known))

    def _check_rows(self, shapes: list[tuple[int, ...]]) -> None:
        """Raise ValueError if the shapes of the heads' rows differ in more than the last axis."""
        for layer, shape in zip(self.layers, shapes, strict=True):
            if shape[:-1] != shapes[0][:-1]:
                raise ValueError(
                    f"Heads: {label(self.layers[0])} gives shape {batch_of(shapes[0])}, but "
                    f"{label(layer)} {batch_of(shape)}; only the last axis may differ"
                )

    def _side_by_side(self, outputs: list[NDArray[Any]]) -> NDArray[Any]:
        self._check_rows([y.shape[1:] for y in outputs])
        return _kernels.join_columns(outputs)

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        outputs = self._run([x] * len(self._chains), training)
        if training:  # the widths beside what `_run` has saved
            self._saved = self._saved, tuple(y.shape[-1] for y in outputs)
        return self._side_by_side(outputs)

    def _split(self, dy: NDArray[Any]) -> list[tuple[Chain, NDArray[Any]]]:
        """Each head, restored for its backward, with the gradient of its outputs."""
        self._saved, widths = self._take()  # the former for `_restore`
        return list(zip(self._restore(), _kernels.split_columns(dy, widths), strict=True))

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        (first, its), *others = self._split(dy)
        dx = first.backward(its)
        for head, its in others:
            dx = _kernels.add(dx, head.backward(its))
        return dx

    def backward_parameters(self, dy: NDArray[Any]) -> None:
        for head, its in self._split(dy):
            head.backward_parameters(its)

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        outputs, pulls = zip(*(head.vjp(x) for head in self._chains), strict=True)
        widths = tuple(y.shape[-1] for y in outputs)

        def pull_all(dy: NDArray[Any]) -> NDArray[Any]:
            parts = _kernels.split_columns(dy, widths)
            dx: NDArray[Any] = pulls[0](parts[0])
            for pull, its in zip(pulls[1:], parts[1:], strict=True):
                dx = _kernels.add(dx, pull(its))
            return dx

        return self._side_by_side(list(outputs)), pull_all


def _common(verb: str, what: str, numbers: list[int | None]) -> int | None:
    """The number that all heads have which know theirs; ValueError if two differ."""
    known = [(i, number) for i, number in enumerate(numbers) if number is not None]
    for i, number in known:
        if number != known[0][1]:
            raise ValueError(
                f"layer {known[0][0]} {verb} {known[0][1]} {what}, but layer {i} {verb} {number}"
            )
    return known[0][1] if known else None
