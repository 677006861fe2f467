"""Which layers may stand in a model and follow one another, and how a user's own fits in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import _arrays
from fastnn._layer import Layer, label

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastnn._layer import SupportsForwardBackward


class _Own(Layer):
    """A user's own layer, whose results are brought into the form that kernels take."""

    def __init__(self, layer: Layer | SupportsForwardBackward, dtype: np.dtype[Any]) -> None:
        self.layer, self.dtype = layer, dtype

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        y = self.layer.forward(x, training)
        return _arrays.real_array(y, f"output of {label(self.layer)}", self.dtype)

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        dx = self.layer.backward(dy)
        return _arrays.real_array(dx, f"input gradient of {label(self.layer)}", self.dtype)

    def backward_parameters(self, dy: NDArray[Any]) -> None:
        if isinstance(self.layer, Layer):
            self.layer.backward_parameters(dy)
        else:
            self.layer.backward(dy)


def native(layer: Layer | SupportsForwardBackward, dtype: np.dtype[Any]) -> Layer:
    return layer if isinstance(layer, Layer) and layer.native else _Own(layer, dtype)


def check_layers(layers: tuple[Any, ...]) -> None:
    """Each is a layer of its own, and no other model's."""
    if not layers:
        raise ValueError("layers: expected at least one, got none")
    for i, layer in enumerate(layers):
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
