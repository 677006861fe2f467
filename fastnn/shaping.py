"""Layers that give rows another shape, or join two paths."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from fastnn import _chain, _kernels
from fastnn._layer import Arrays, Layer, Place, Placed, batch_of, label
from fastnn._settings import Fixed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from fastnn._layer import SupportsForwardBackward
    from fastnn.model import Sequential


class Flatten(Layer):
    """All numbers of a row as features: what a dense layer takes behind images.

    Shapes: `x` (batch, ...), `y` (batch, features), features being the product of the others.
    Both ways it is a view, without any copy.

    >>> import numpy as np
    >>> from fastnn import Dense, Flatten, Sequential
    >>> Sequential(Flatten(), Dense(64, 10)).predict(np.zeros((3, 8, 8, 1))).shape
    (3, 10)
    """

    native = True
    out_dimensions = 1
    _resizes = True

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (math.prod(shape),)

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        if training:
            self._saved = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        return dy.reshape(self._take())


class Residual(Layer):
    """y = x + f(x), f being `layers` one after the other (K. He et al., 2015).

    `shortcut` is a layer for the other path, y = shortcut(x) + f(x): where f changes the shape, a
    dense layer or a convolution of 1x1 that changes it alike.  A `Sequential` may stand for the
    layers: its layers are copied, and begin anew.

    Shapes: `x` as the first layer takes it, `y` as the last gives it, and without a shortcut as
    `x`.  Names of parameters and state have the layer's number in front, as in ``"0.weight"``, or
    ``"shortcut.weight"``.

    Raises TypeError or ValueError for what is no layer, and where the two paths give other
    shapes: at once as far as that is known, else when data come.

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
    _path: Any = Placed()
    _transient = (*Layer._transient, "_path", "_aside")

    def __init__(
        self,
        *layers: Layer | SupportsForwardBackward | Sequential,
        shortcut: Layer | SupportsForwardBackward | None = None,
    ) -> None:
        from fastnn.model import Sequential  # which knows layers, as these do not know it

        if len(layers) == 1 and isinstance(layers[0], Sequential):
            layers = copy.deepcopy(layers[0].layers)
        self.layers, self.shortcut = layers, shortcut
        path = {str(i): layer for i, layer in enumerate(layers)}
        beside = {} if shortcut is None else {"shortcut": shortcut}
        self._parts = path | beside
        self._chains = (path, beside) if beside else (path,)
        try:
            _chain.check_layers(layers, **beside)
            self._join(*map(_chain.follow, self._paths()))
        except (TypeError, ValueError) as error:
            raise type(error)(f"Residual: {error}") from None
        self.native = all(map(_chain.is_native, self._parts.values()))
        self.random = any(getattr(part, "random", False) for part in self._parts.values())
        self.state = {
            f"{key}.{name}": array
            for key, part in self._own()
            for name, array in part.state.items()
        }

    def _join(self, f: _chain.Ends, aside: _chain.Ends | None = None) -> None:
        """What the layer takes and gives, as far as it is known, from its two paths."""
        if aside is None:
            has = "x has {} {}, but f(x) has {}; " + _HINT
            self.in_features = _same(f.in_features, f.out_features, has, "features")
            self.dimensions = _same(f.dimensions, f.out_dimensions, has, "dimensions")
            self.out_features = self.in_features
            return
        takes = "the shortcut takes {} {}, but f {}"
        self.in_features = _same(aside.in_features, f.in_features, takes, "features")
        self.dimensions = _same(aside.dimensions, f.dimensions, takes, "dimensions")
        gives = "the shortcut gives {} {}, but f(x) has {}"
        self.out_features = _same(aside.out_features, f.out_features, gives, "features")
        self.out_dimensions = _same(aside.out_dimensions, f.out_dimensions, gives, "dimensions")
        self._resizes = self.out_features is None

    def _paths(self) -> list[tuple[Any, ...]]:
        return [tuple(chain.values()) for chain in self._chains]

    def _own(self) -> Iterator[tuple[str, Layer]]:
        """The layers that have parameters and state, by the names they have here."""
        return ((key, part) for key, part in self._parts.items() if isinstance(part, Layer))

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            f"{key}.{name}": shape
            for key, part in self._own()
            for name, shape in _chain.parameter_shapes(key, part).items()
        }

    def build(
        self,
        parameters: dict[str, NDArray[Any]],
        gradients: dict[str, NDArray[Any]],
        place: Place,
    ) -> None:
        super().build(parameters, gradients, place)
        for key, part in self._own():
            if part.state:
                part.state = _under(key, self.state)
            inner = place._replace(position=next(place.inner))
            part.build(_under(key, parameters), _under(key, gradients), inner)
        path = self.layers
        self._path = [_chain.native(path[i:], place.dtype) for i in range(len(path))]
        self._aside = None
        if self.shortcut is not None:
            self._aside = _chain.native((self.shortcut,), place.dtype)

    def initialize(self, rng: np.random.Generator, activation: str) -> None:
        for path in self._paths():
            for i, layer in enumerate(path):
                if isinstance(layer, Layer):
                    layer.initialize(rng, _chain.following(path[i:], activation))

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_takes(shape)
        try:
            ends = [_chain.shapes_after(path, shape)[-1] for path in self._paths()]
        except ValueError as error:
            raise ValueError(f"Residual: {error}") from None
        y, x = ends if self.shortcut is not None else (ends[0], shape)
        if y is not None and x is not None:
            self._check_sum(x, y)
        return y or x or shape

    def _check_sum(self, x: tuple[int, ...], y: tuple[int, ...]) -> None:
        """ValueError for two paths whose rows have other shapes."""
        if x != y:
            what = "x has" if self.shortcut is None else "the shortcut gives"
            raise ValueError(
                f"Residual: {what} shape {batch_of(x)}, but f(x) {batch_of(y)}; {_HINT}"
            )

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        y, path, aside = x, self._path, self._aside
        for layer in path:
            y = layer.forward(y, training)
        z = x if aside is None else aside.forward(x, training)
        if training:
            self._saved = tuple(part._saved for part in self._placed())
        self._check_sum(z.shape[1:], y.shape[1:])
        return _kernels.add(y, z)

    def _placed(self) -> list[Layer]:
        return self._path if self._aside is None else [*self._path, self._aside]

    def _restore(self) -> None:
        """Give the layers back what they saved in the forward that this backward belongs to."""
        for part, saved in zip(self._placed(), self._take(), strict=True):
            part._saved = saved

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        self._restore()
        dx = dy
        for layer in reversed(self._path):
            dx = layer.backward(dx)
        return _kernels.add(dx, dy if self._aside is None else self._aside.backward(dy))

    def backward_parameters(self, dy: NDArray[Any]) -> None:
        self._restore()
        dx = dy
        for layer in self._path[:0:-1]:
            dx = layer.backward(dx)
        self._path[0].backward_parameters(dx)
        if self._aside is not None:
            self._aside.backward_parameters(dy)

    def add_penalty(self, value: NDArray[np.float64], batch_size: int) -> None:
        for _, part in self._own():
            part.add_penalty(value, batch_size)

    def __copy__(self) -> Residual:
        return copy.deepcopy(self)  # two of them cannot share a layer

    def __repr__(self) -> str:
        parts = [*map(label, self.layers)]
        if self.shortcut is not None:
            parts.append(f"shortcut={label(self.shortcut)}")
        return f"Residual({', '.join(parts)})"


_HINT = "give a shortcut that changes x as f does"


def _same(x: int | None, y: int | None, message: str, what: str) -> int | None:
    """The count of both paths, where it is known of one."""
    if x is not None and y is not None and x != y:
        raise ValueError(message.format(x, what, y))
    return y if x is None else x


def _under(key: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Those of one layer."""
    start = f"{key}."
    return Arrays({k[len(start) :]: a for k, a in arrays.items() if k.startswith(start)})
