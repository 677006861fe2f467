"""Which layers may stand in a model and follow one another, and how a user's own fits in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fastnn import _arrays, _checks
from fastnn._layer import Layer, axis_name, batch_of, label, shape_text
from fastnn._settings import is_plain

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        if self._taker is not None and y.shape[-1] != self._taker.in_features:
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


def is_native(layer: object) -> bool:
    """Whether it is fastnn's own, in all its parts, only runs kernels, and nobody has put a
    `forward` or `backward` on it."""
    return isinstance(layer, Layer) and layer.native and is_plain(layer)


def native(layers: tuple[Layer | SupportsForwardBackward, ...], dtype: np.dtype[Any]) -> Layer:
    """The first of these layers, if it is native, as it is; all others are wrapped."""
    layer, *following = layers
    if is_native(layer):
        return layer  # type: ignore[return-value]
    return _Own(layer, dtype, tuple(following))


def walk(
    layers: tuple[Any, ...], shape: tuple[int, ...] | None = None
) -> Iterator[tuple[Any, tuple[int, ...] | None]]:
    """All layers, those within others behind these, each with the shape of the rows that it takes
    where the chain takes `shape`, or None where that is unknown."""
    for layer in layers:
        yield layer, shape
        if isinstance(layer, Layer):
            for chain in layer._chains:
                yield from walk(tuple(chain.values()), shape)
        shape = None if shape is None else shape_after(layer, shape)


def check_layers(layers: tuple[Any, ...], **others: Any) -> None:
    """Each is a layer of its own, and no other model's; `others` go by their names."""
    if not layers:
        raise ValueError("layers: expected at least one, got none")
    seen: set[int] = set()
    for who, layer in [*((f"layer {i}", layer) for i, layer in enumerate(layers)), *others.items()]:
        if isinstance(layer, list | tuple):
            raise TypeError(
                f"{who}: expected a layer, got a {type(layer).__name__}; write Sequential(*layers)"
            )
        if isinstance(layer, type):
            raise TypeError(f"{who}: expected a layer, got the class; write {layer.__name__}()")
        if not all(callable(getattr(layer, name, None)) for name in ("forward", "backward")):
            raise TypeError(f"{who}: expected a layer with forward and backward, got {layer!r}")
        parts = [part for part, _ in walk((layer,))]
        for part in parts:
            if isinstance(part, Layer) and part._place is not None:
                raise ValueError(
                    f"{who}: {part!r} is part of another model; give each its own, or a copy.copy"
                )
            if id(part) in seen:
                raise ValueError(f"{who}: {label(part)} stands in the model twice")
        seen.update(map(id, parts))


def parameter_shapes(i: int | str, layer: object) -> dict[str, tuple[int, ...]]:
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


class Ends(NamedTuple):
    """What is known of a chain before data come: features and dimensions of a row that it takes
    (None: any), and of one that it gives (None: as it takes, or unknown)."""

    in_features: int | None
    dimensions: int | None
    out_features: int | None
    out_dimensions: int | None
    first_sized: int  # the layer that says what features the chain takes


def follow(layers: tuple[Any, ...]) -> Ends:
    """The ends of the chain.

    Raises ValueError where a layer takes other features or dimensions than the one before gives."""
    taken: int | None = None
    needed: int | None = None
    width: int | None = None
    dims: int | None = None
    first = giver = shaper = 0
    same_width = same_dims = True  # all layers so far give what they take
    for i, layer in enumerate(layers):
        takes, gives, needs, leaves = _stated(layer)
        _check_next(layers, i, width, giver, dims, shaper)
        if same_width and taken is None and takes is not None:
            taken, first = takes, i
        needed = needs if same_dims and needed is None else needed
        giver = giver if takes is None and gives is None else i
        shaper = shaper if needs is None and leaves is None else i
        width, dims = known_after(layer, width, dims)
        ours = isinstance(layer, Layer)  # others do not say
        same_width &= ours and gives is None and not layer._resizes
        same_dims &= ours and leaves is None
    return Ends(taken, needed, width, dims, first)


def _stated(layer: Any) -> tuple[int | None, int | None, int | None, int | None]:
    """Features that it takes and gives, dimensions that it takes and gives."""
    takes, gives = getattr(layer, "in_features", None), getattr(layer, "out_features", None)
    if not isinstance(layer, Layer):
        return takes, gives, None, None
    return takes, gives, layer.dimensions, layer.out_dimensions


def _check_next(
    layers: tuple[Any, ...], i: int, width: int | None, giver: int, dims: int | None, shaper: int
) -> None:
    """Layer i against what comes to it: `width` from layer `giver`, `dims` from layer `shaper`."""
    takes, _, needs, _ = _stated(layers[i])
    who = f"layer {i}, {label(layers[i])}, takes"
    if needs is not None and dims is not None and needs != dims:
        hint = f": put Flatten() or GlobalAvgPool{dims - 1}D() between them" if needs == 1 else ""
        raise ValueError(
            f"{who} {shape_text(needs, takes)}, but layer {shaper}, {label(layers[shaper])}, "
            f"gives {shape_text(dims, width)}{hint}"
        )
    if takes is not None and width is not None and takes != width:
        raise ValueError(
            f"{who} {takes} {axis_name(needs)}, but layer {giver}, {label(layers[giver])}, "
            f"gives {width}"
        )


def known_after(layer: Any, width: int | None, dims: int | None) -> tuple[int | None, int | None]:
    """The features and dimensions that a layer gives, from those that it takes; None: unknown."""
    takes, gives, needs, leaves = _stated(layer)
    if not isinstance(layer, Layer):
        return gives, None
    if gives is None and not layer._resizes:
        gives = width if takes is None else takes
    return gives, next((known for known in (leaves, dims, needs) if known is not None), None)


def shape_after(layer: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape of a row's outputs, None where the layer does not say."""
    if not isinstance(layer, Layer):
        return None
    after, name = layer.output_shape(shape), f"output_shape of {label(layer)}"
    if not isinstance(after, tuple) or not after:
        raise TypeError(f"{name}: expected a tuple of integers >= 1, got {after!r}")
    return tuple(_checks.positive_int(length, name) for length in after)


def shapes_after(layers: tuple[Any, ...], shape: tuple[int, ...]) -> list[tuple[int, ...] | None]:
    """The shapes of all layers' outputs for rows of that shape; None from where it is unknown.

    Raises ValueError at the first layer that does not take what comes."""
    shapes: list[tuple[int, ...] | None] = [shape]
    for i, layer in enumerate(layers):
        before = shapes[-1]
        try:
            shapes.append(None if before is None else shape_after(layer, before))
        except ValueError as error:
            came = f" (after {label(layers[i - 1])} of {batch_of(shapes[-2] or ())})" if i else ""
            raise ValueError(f"layer {i}, {error}{came}") from None
    return shapes[1:]


def following(layers: tuple[Any, ...], behind: str = "linear") -> str:
    """The activation that the first of these layers feeds, looking past norms and dropout; `behind`
    is the one behind them all."""
    own = getattr(layers[0], "activation_name", None)
    if own not in (None, "linear"):
        return str(own)
    for layer in layers[1:]:
        name = getattr(layer, "activation_name", None)
        if name is not None:
            return str(name)
        if not isinstance(layer, Layer):
            return "linear"
    return behind
