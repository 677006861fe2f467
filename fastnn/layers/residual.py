"""Residual: two paths from the same input, whose outputs are added."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import fastnn._kernels as _kernels
from fastnn.layers.chain import Chain, check_layers, is_native, numbered
from fastnn.layers.layer import Arrays, Layer, Place, batch_of
from fastnn.support.settings import Fixed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastnn.layers.layer import Pull, SupportsForwardBackward

_HINT = "give a shortcut that changes x as f does"


class Residual(Layer):
    """y = x + f(x), where f is `layers` one after the other (K. He et al., 2015).

    `shortcut` is a layer for the other path, y = shortcut(x) + f(x): where f changes the shape, a
    dense layer or a convolution of 1x1 that changes it alike.  `layers` may be one `Sequential`,
    whose layers are copied with what they have learnt.

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

    layers = Fixed[tuple[Any, ...]]()
    shortcut = Fixed[Any]()

    def __init__(
        self,
        *layers: Layer | SupportsForwardBackward | Any,
        shortcut: Layer | SupportsForwardBackward | None = None,
    ) -> None:
        if len(layers) == 1 and isinstance(of_model := getattr(layers[0], "_chain", None), Chain):
            layers = copy.deepcopy(of_model.layers)
        self.layers, self.shortcut = layers, shortcut
        other = [] if shortcut is None else [("shortcut", shortcut)]
        try:
            check_layers([*numbered(layers), *other])
            self._chains = (Chain(layers), *(Chain((layer,), (name,)) for name, layer in other))
            self._join(*self._chains)
        except (TypeError, ValueError) as error:
            raise type(error)(f"Residual: {error}") from None
        inner = [*layers, *(layer for _, layer in other)]
        self.native = all(map(is_native, inner))
        self.random = any(getattr(layer, "random", False) for layer in inner)
        self.state = {
            name: array for chain in self._chains for name, array in chain.state().items()
        }

    def _join(self, f: Chain, shortcut: Chain | None = None) -> None:
        """Set the features and dimensions of inputs and outputs, as far as the paths say them."""
        if shortcut is None:
            has = "x has {} {}, but f(x) has {}; " + _HINT
            self.in_features = _same(f.in_features, f.out_features, has, "features")
            self.dimensions = _same(f.dimensions, f.out_dimensions, has, "dimensions")
            self.out_features = self.in_features
            return
        takes = "the shortcut takes {} {}, but f {}"
        self.in_features = _same(shortcut.in_features, f.in_features, takes, "features")
        self.dimensions = _same(shortcut.dimensions, f.dimensions, takes, "dimensions")
        gives = "the shortcut gives {} {}, but f(x) has {}"
        self.out_features = _same(shortcut.out_features, f.out_features, gives, "features")
        self.out_dimensions = _same(shortcut.out_dimensions, f.out_dimensions, gives, "dimensions")
        self._resizes = self.out_features is None

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            name: shape
            for chain in self._chains
            for name, shape in chain.parameter_shapes().items()
        }

    def _build(self, parameters: Arrays, gradients: Arrays, place: Place) -> None:
        super()._build(parameters, gradients, place)
        for chain in self._chains:
            chain.build(parameters, gradients, self.state, place, place.inner)

    def initialize(self, rng: np.random.Generator, activation: str) -> None:
        for chain in self._chains:
            chain.initialize(lambda i: rng, activation)

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
        if self._place is None:
            raise RuntimeError(f"{self!r} is part of no model yet: put it into a Sequential")
        f, *shortcut = self._chains
        y = f.forward(x, training)
        z = shortcut[0].forward(x, training) if shortcut else x
        if training:
            self._saved = tuple(chain.saved for chain in self._chains)
        self._check_sum(z.shape[1:], y.shape[1:])
        return _kernels.add(y, z)

    def _restore(self) -> tuple[Chain, ...]:
        """The paths, after their layers got back what they saved for this backward."""
        for chain, saved in zip(self._chains, self._take(), strict=True):
            chain.saved = saved
        return self._chains

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        f, *shortcut = self._restore()
        dx = f.backward(dy)
        return _kernels.add(dx, shortcut[0].backward(dy) if shortcut else dy)

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        (y, pull), *shortcut = (chain.vjp(x) for chain in self._chains)
        z, pull_shortcut = shortcut[0] if shortcut else (x, lambda dy: dy)
        self._check_sum(z.shape[1:], y.shape[1:])
        return _kernels.add(y, z), lambda dy: _kernels.add(pull(dy), pull_shortcut(dy))

    def backward_parameters(self, dy: NDArray[Any]) -> None:
        for chain in self._restore():
            chain.backward_parameters(dy)

    def _add_penalty(self, value: NDArray[np.float64], batch_size: int) -> None:
        for chain in self._chains:
            chain.add_penalty(value, batch_size)

    def _add_decay(self, batch_size: int) -> None:
        for chain in self._chains:
            chain.add_decay(batch_size)

    def __copy__(self) -> Residual:
        return copy.deepcopy(self)  # two of them cannot share a layer


def _same(x: int | None, y: int | None, message: str, what: str) -> int | None:
    """x or y, whichever is known; ValueError if both are and they differ."""
    if x is not None and y is not None and x != y:
        raise ValueError(message.format(x, what, y))
    return y if x is None else x
