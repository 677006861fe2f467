"""Residual: two paths from the same input, whose outputs are added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fastnn._kernels as _kernels
from fastnn.layers.block import Block, as_layer
from fastnn.layers.layer import batch_of
from fastnn.support.settings import Fixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.layers.chain import Chain
    from fastnn.layers.layer import Layer, Pull, SupportsForwardBackward

_HINT = "give a shortcut that changes x as f does"


class Residual(Block):
    """y = x + f(x), where f is `layers` one after the other (K. He et al., 2015).

    `shortcut` is a layer for the other path, y = shortcut(x) + f(x): where f changes the shape, a
    dense layer or a convolution of 1x1 that changes it alike.  Either path may be a `Sequential`,
    whose layers are copied with what they have learnt (see `Block`).

    Shapes: `x` as the first layer takes it, `y` as the last returns it, without a shortcut the same
    as `x`.  Names of parameters and state begin with the layer's number, as ``"0.weight"``, or are
    like ``"shortcut.weight"``.

    Raises TypeError or ValueError for what is no layer, and if the two paths return different
    shapes: at once as far as these are known, else when data come.

    >>> from fastnn import Dense, ReLU, Residual, Sequential
    >>> model = Sequential(Residual(Dense(4, 4), ReLU(), Dense(4, 4)), Dense(4, 2))
    >>> list(model.parameters)
    ['0.0.weight', '0.0.bias', '0.2.weight', '0.2.bias', '1.weight', '1.bias']
    >>> Residual(Dense(4, 8))
    Traceback (most recent call last):
    ValueError: Residual: x has 4 features, but f(x) has 8; give a shortcut that changes x as f does
    """

    shortcut = Fixed[Any]()

    def __init__(
        self,
        *layers: Layer | SupportsForwardBackward | Any,
        shortcut: Layer | SupportsForwardBackward | Any | None = None,
    ) -> None:
        self.shortcut = as_layer(shortcut)
        if shortcut is None:
            self._contain(layers)
        else:
            self._contain(layers, shortcut=self.shortcut)

    def _join(self, f: Chain, shortcut: Chain | None = None) -> None:
        """Set the features and dimensions of inputs and outputs, as far as the paths say them."""
        if shortcut is None:
            has = "x has {} {}, but f(x) has {}; " + _HINT
            features = _same(f.in_features, f.out_features, has, "features")
            dimensions = _same(f.dimensions, f.out_dimensions, has, "dimensions")
            self._fix(in_features=features, out_features=features, dimensions=dimensions)
            return
        takes = "the shortcut takes {} {}, but f {}"
        gives = "the shortcut gives {} {}, but f(x) has {}"
        self._fix(
            in_features=_same(shortcut.in_features, f.in_features, takes, "features"),
            dimensions=_same(shortcut.dimensions, f.dimensions, takes, "dimensions"),
            out_features=_same(shortcut.out_features, f.out_features, gives, "features"),
            out_dimensions=_same(shortcut.out_dimensions, f.out_dimensions, gives, "dimensions"),
        )
        self._resizes = self.out_features is None

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_takes(shape)
        y, *z = (chain.shapes(shape, "Residual")[-1] for chain in self._chains)
        x = z[0] if z else shape
        if y is not None and x is not None:
            self._check_sum(x, y)
        return y or x or shape

    def _check_sum(self, x: tuple[int, ...], y: tuple[int, ...]) -> None:
        """Raise ValueError if the rows of the two paths have different shapes."""
        if x != y:
            what = "x has" if self.shortcut is None else "the shortcut gives"
            raise ValueError(
                f"Residual: {what} shape {batch_of(x)}, but f(x) {batch_of(y)}; {_HINT}"
            )

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        y, *shortcut = self._run([x] * len(self._chains), training)
        z = shortcut[0] if shortcut else x
        self._check_sum(z.shape[1:], y.shape[1:])
        return _kernels.add(y, z)

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        f, *shortcut = self._restore()
        dx = f.backward(dy)
        return _kernels.add(dx, shortcut[0].backward(dy) if shortcut else dy)

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        (y, pull), *shortcut = (chain.vjp(x) for chain in self._chains)
        z, pull_shortcut = shortcut[0] if shortcut else (x, lambda dy: dy)
        self._check_sum(z.shape[1:], y.shape[1:])
        return _kernels.add(y, z), lambda dy: _kernels.add(pull(dy), pull_shortcut(dy))


def _same(x: int | None, y: int | None, message: str, what: str) -> int | None:
    """x or y, whichever is known; ValueError if both are and they differ."""
    if x is not None and y is not None and x != y:
        raise ValueError(message.format(x, what, y))
    return y if x is None else x
