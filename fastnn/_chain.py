"""Which layers may stand in a model and follow one another, and how a user's own fits in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import _arrays, _checks
from fastnn._layer import Layer, label
from fastnn._settings import is_plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastnn._layer import SupportsForwardBackward


class _Own(Layer):
    """A user's own layer, whose results are brought into the form that kernels take.

    It gets copies, since it may work in place, and what it is given is the user's array or what
    the layer before keeps for its backward."""

    def __init__(
        self,
        layer: Layer | SupportsForwardBackward,
        dtype: np.dtype[Any],
        following: tuple[Any, ...],
    ) -> None:
        self._layer, self._dtype = layer, dtype
        self._taker = _taker(following)
        self._shape: tuple[int, ...] = ()  # of the last inputs in training

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        if training:
            self._shape = x.shape
        name, rows = f"output of {label(self._layer)}", len(x)
        y = _arrays.real_array(self._layer.forward(x.copy(), training), name, self._dtype)
        if len(y) != rows:
            raise ValueError(f"{name}: expected {rows} rows as in its input, got shape {y.shape}")
        if self._taker is not None and y.shape[1:] != (self._taker.in_features,):
            raise ValueError(
                f"{name}: {label(self._taker)} behind it takes {self._taker.in_features} features, "
                f"got shape {y.shape}"
            )
        return y

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        name = f"input gradient of {label(self._layer)}"
        dx = _arrays.real_array(self._layer.backward(dy.copy()), name, self._dtype)
        if dx.shape != self._shape:
            raise ValueError(f"{name}: expected its input's shape {self._shape}, got {dx.shape}")
        return dx

    def backward_parameters(self, dy: NDArray[Any]) -> None:
        backward = getattr(self._layer, "backward_parameters", self._layer.backward)
        if backward.__module__.startswith("fastnn."):  # it would pass over the own `backward`
            backward = self._layer.backward
        backward(dy.copy())


def _taker(following: tuple[Any, ...]) -> Any:
    """The one of these layers that says how many features it takes from the layer before all."""
    for layer in following:
        if getattr(layer, "in_features", None) is not None:
            return layer
        if not isinstance(layer, Layer) or layer.out_features is not None:
            break
    return None


def native(layers: tuple[Layer | SupportsForwardBackward, ...], dtype: np.dtype[Any]) -> Layer:
    """The first of these layers, if it is fastnn's own, as it is; wrapped are all others: those of
    derived classes, and those with a `forward` or `backward` put on the layer itself."""
    layer, *following = layers
    if isinstance(layer, Layer) and layer.native and is_plain(layer):
        return layer
    return _Own(layer, dtype, tuple(following))


def check_layers(layers: tuple[Any, ...]) -> None:
    """Each is a layer of its own, and no other model's."""
    if not layers:
        raise ValueError("layers: expected at least one, got none")
    for i, layer in enumerate(layers):
        if isinstance(layer, list | tuple):
            raise TypeError(
                f"layer {i}: expected a layer, got a {type(layer).__name__}; write "
                "Sequential(*layers)"
            )
        if isinstance(layer, type):
            raise TypeError(f"layer {i}: expected a layer, got the class; write {layer.__name__}()")
        if not all(callable(getattr(layer, name, None)) for name in ("forward", "backward")):
            raise TypeError(f"layer {i}: expected a layer with forward and backward, got {layer!r}")
        if any(layer is other for other in layers[:i]):
            raise ValueError(f"layer {i}: {label(layer)} stands in the model twice")
        if isinstance(layer, Layer) and layer._place is not None:
            raise ValueError(
                f"layer {i}: {layer!r} is part of another model; give each its own, or a copy.copy"
            )


def parameter_shapes(i: int, layer: object) -> dict[str, tuple[int, ...]]:
    """What layer number `i` states, checked."""
    if not isinstance(layer, Layer):
        return {}
    shapes, who = layer.parameter_shapes(), f"parameter_shapes of layer {i}, {label(layer)}"
    wanted = "a dict of name: shape, a tuple of integers >= 1"
    if not isinstance(shapes, dict) or not all(isinstance(name, str) for name in shapes):
        raise TypeError(f"{who}: expected {wanted}, got {shapes!r}")
    for name, shape in shapes.items():
        if not isinstance(shape, tuple):
            raise TypeError(f"{who}: expected {wanted}, got {name!r}: {shape!r}")
        for length in shape:
            _checks.positive_int(length, f"{who}: {name!r}: {shape!r}")
    return shapes


def follow(layers: tuple[Any, ...]) -> tuple[int | None, int | None, int]:
    """How many features the model takes (None: any) and gives (None: as many as it takes, or
    unknown), and the layer that says what it takes.

    Raises ValueError where a layer takes another number than the one before gives."""
    taken, first = None, 0
    width: int | None = None
    giver, untouched = 0, True  # untouched: all layers so far give as many as they take
    for i, layer in enumerate(layers):
        takes = getattr(layer, "in_features", None)
        gives = getattr(layer, "out_features", None)
        if takes is not None and width is not None and takes != width:
            raise ValueError(
                f"layer {i}, {label(layer)}, takes {takes} features, "
                f"but layer {giver}, {label(layers[giver])}, gives {width}"
            )
        if takes is not None and taken is None and untouched:
            taken, first = takes, i
        if gives is not None:
            width, giver = gives, i
        elif not isinstance(layer, Layer):  # it does not say
            width = None
        elif takes is not None:
            width, giver = takes, i
        untouched = untouched and isinstance(layer, Layer) and gives is None
    return taken, width, first


def following(layers: tuple[Any, ...]) -> str:
    """The activation that the first of these layers feeds, looking past norms and dropout."""
    own = getattr(layers[0], "activation_name", None)
    if own not in (None, "linear"):
        return str(own)
    for layer in layers[1:]:
        name = getattr(layer, "activation_name", None)
        if name is not None:
            return str(name)
        if not isinstance(layer, Layer):
            break
    return "linear"
