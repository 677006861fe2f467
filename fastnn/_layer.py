"""What a layer is: the base class of all that have parameters, and how a model takes it in.

A layer without parameters needs no base class: `forward` and `backward` are enough."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from fastnn import _arrays
from fastnn._settings import Guarded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

_EMPTY: Mapping[str, Any] = MappingProxyType({})


class Arrays(dict[str, Any]):
    """Arrays by name that the model made: to be written into, not replaced."""

    def __setitem__(self, name: str, array: Any) -> None:
        if name not in self or self[name] is not array:  # the same one: after += in place
            raise ValueError(
                f"{name}: expected values written into the array that the model made, as in "
                f"[{name!r}][...] = values; got {_arrays.describe(array)}"
            )

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise ValueError(f"{', '.join(self)}: these arrays stay; write into them, as in [...] = 0")

    __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


class _Views:
    """A mapping of arrays that the model makes, empty until then."""

    def __set_name__(self, owner: type[Layer], name: str) -> None:
        self.name = name

    def __get__(self, layer: Layer | None, owner: type[Layer]) -> Any:
        return self if layer is None else getattr(layer, f"_model_{self.name}")

    def __set__(self, layer: Layer, arrays: Mapping[str, NDArray[Any]]) -> None:
        raise AttributeError(
            f"{self.name} of {label(layer)}: the model makes them; state the shapes in "
            "parameter_shapes, fill them in initialize and write into them, as in [...] = values"
        )


class _State(_Views):
    """A layer states its own before it is part of a model."""

    def __set__(self, layer: Layer, arrays: Mapping[str, NDArray[Any]]) -> None:
        if layer._place is not None:
            raise AttributeError(
                f"state of {label(layer)}: part of a model now; write into the arrays, as in "
                "layer.state[name][...] = values"
            )
        layer._model_state = arrays


class Placed:
    """An attribute that a layer gets from its model, which then hides this."""

    def __get__(self, layer: Layer | None, owner: type[Layer]) -> Any:
        if layer is None:
            return self
        raise RuntimeError(f"{layer!r} is part of no model yet: put it into a Sequential")


class Place(NamedTuple):
    """What a model tells a layer about the place that it gets."""

    position: int  # of the layer in the model; of one within another see `inner`
    dtype: np.dtype[Any]
    seed: int  # of the model
    counter: NDArray[np.uint64]  # (1,): training passes begun, the step in dropout's masks
    l2: float  # the model's lambda, for layers that state none
    share: NDArray[np.float64]  # (1,): of the penalty, that a batch bears
    inner: Iterator[int]  # positions for layers within others, from 2^32 - 1 downwards


class SupportsForwardBackward(Protocol):
    """The least that a layer of one's own is."""

    def forward(self, x: Any, training: bool = False, /) -> Any: ...
    def backward(self, dy: Any, /) -> Any: ...


class Layer(Guarded):
    """Base class of layers; derive from it to write one whose parameters a model trains.

    `forward(x, training=False)` returns the outputs, and in training keeps what `backward` needs;
    `backward(dy)` sets (not adds) the arrays in `gradients` and returns the inputs' gradient.
    Shapes: `x` (batch, ..., in_features), `dy` like the outputs, (batch, ..., out_features).

    A derived class states its parameters' shapes in `parameter_shapes`, fills them in
    `initialize`, and uses ``self.parameters[name]`` and ``self.gradients[name]``: views of the
    model's flat buffers, which optimizers update, `state_dict` saves and `gradcheck` checks.
    `in_features` is None for a layer that takes any number, `out_features` is None for one that
    gives as many as it takes.  `dimensions` and `out_dimensions` say likewise how many dimensions a
    row has, the batch not counted: 1 features, 2 (length, channels), 3 (height, width, channels).
    Where the outputs' shape follows otherwise from the inputs', `output_shape` says how.  A class
    with `forward` and `backward` alone, without this base, works in a model too, but its
    parameters, if it has any, are its own affair.

    In a model, `x` and `dy` are copies that the layer may change and keep.  What it returns may
    have any real type, but as many rows as `x`, and from `backward` its shape: ValueError else.

    >>> from fastnn import Dense, Layer, Sequential
    >>> class Scale(Layer):
    ...     def __init__(self, features):
    ...         self.in_features = self.out_features = features
    ...     def parameter_shapes(self):
    ...         return {"scale": (self.in_features,)}
    ...     def initialize(self, rng, activation):
    ...         self.parameters["scale"][:] = 1.0
    ...     def forward(self, x, training=False):
    ...         if training:
    ...             self.x = x
    ...         return x * self.parameters["scale"]
    ...     def backward(self, dy):
    ...         self.gradients["scale"][:] = (dy * self.x).sum(axis=0)
    ...         return dy * self.parameters["scale"]
    >>> model = Sequential(Dense(3, 4), Scale(4))
    >>> list(model.parameters)
    ['0.weight', '0.bias', '1.scale']
    """

    in_features: int | None = None
    out_features: int | None = None
    dimensions: int | None = None
    out_dimensions: int | None = None
    parameters = _Views()
    gradients = _Views()
    state = _State()  # saved with the model, but not trained

    # the activation that a layer before this one should be initialised for; None: look past it
    activation_name: str | None = None
    native = False  # only runs kernels: what it returns is fit for the next one as it is
    random = False  # reads the model's counter in training

    _resizes = False  # how many features it gives is unknown before data come
    _chains: tuple[Mapping[str, Any], ...] = ()  # of the layers within this one, by name

    _place: Place | None = None
    _saved: tuple[Any, ...] | None = None
    _model_parameters: Mapping[str, NDArray[Any]] = _EMPTY
    _model_gradients: Mapping[str, NDArray[Any]] = _EMPTY
    _model_state: Mapping[str, NDArray[Any]] = _EMPTY
    _transient: tuple[str, ...] = ("_model_parameters", "_model_gradients", "_place", "_saved")

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter, in the order in which they lie in memory."""
        return {}

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The outputs' shape for inputs of that shape, both without the batch.

        Raises ValueError for a shape that the layer does not take.

        >>> from fastnn import Dense
        >>> Dense(3, 5).output_shape((3,))
        (5,)
        """
        self._check_takes(shape)
        return shape if self.out_features is None else (*shape[:-1], self.out_features)

    def _check_takes(self, shape: tuple[int, ...]) -> None:
        """ValueError for inputs of other dimensions, features or channels; no batch in `shape`."""
        features, dimensions = self.in_features, self.dimensions
        if dimensions is not None and len(shape) != dimensions:
            raise ValueError(
                f"{label(self)} takes {shape_text(dimensions, features)}, got {batch_of(shape)}"
            )
        if features is not None and shape[-1] != features:
            what = axis_name(len(shape))
            raise ValueError(f"{label(self)} takes {features} {what}, got {shape[-1]}")

    def build(
        self,
        parameters: dict[str, NDArray[Any]],
        gradients: dict[str, NDArray[Any]],
        place: Place,
    ) -> None:
        """Take in the views that the model made; called again for each copy of the model."""
        self._model_parameters, self._model_gradients, self._place = parameters, gradients, place

    def initialize(self, rng: np.random.Generator, activation: str) -> None:
        """Fill `parameters` and make `state` anew; `activation` is the one that follows."""

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def backward_parameters(self, dy: NDArray[Any]) -> None:
        """`backward` where nobody needs the inputs' gradient."""
        self.backward(dy)

    def add_penalty(self, value: NDArray[np.float64], batch_size: int) -> None:
        """Add to ``value[0]``, the loss of a batch, what the layer's parameters cost."""

    def _take(self) -> tuple[Any, ...]:
        """What the training forward saved, given up."""
        saved: tuple[Any, ...] | None = self._saved
        if saved is None:
            raise RuntimeError(f"{self!r}: backward needs a forward in training before it")
        self._saved = None
        return saved

    def __getstate__(self) -> dict[str, Any]:
        """A copy belongs to no model: the model that is copied with it builds it again."""
        kept = {k: v for k, v in self.__dict__.items() if k not in self._transient}
        if self.state:
            kept["_model_state"] = {name: array.copy() for name, array in self.state.items()}
        return kept

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def label(layer: object) -> str:
    """How messages and tables show a layer, a user's own included."""
    plain = type(layer).__repr__ is object.__repr__
    return f"{type(layer).__name__}()" if plain else repr(layer)


def axis_name(dimensions: int | None) -> str:
    """What the last of so many dimensions holds."""
    return "channels" if dimensions is not None and dimensions > 1 else "features"


def shape_text(dimensions: int | None, features: int | None) -> str:
    """The shape of a batch of rows of so many dimensions, None being any number of them."""
    between = {2: "length, ", 3: "height, width, "}.get(dimensions or 1, "")
    if dimensions is None and features is not None:
        between = "..., "
    return f"(batch, {between}{features or axis_name(dimensions)})"


def batch_of(shape: tuple[Any, ...]) -> str:
    """The shape of a batch of rows of that shape."""
    return f"(batch, {', '.join(map(str, shape))})"


class Named:
    """An array of a layer's `parameters` or `state` as an attribute of the same name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __set_name__(self, owner: type[Layer], name: str) -> None:
        self.name = name

    def _arrays(self, layer: Layer) -> dict[str, NDArray[Any]]:
        if layer._place is None:
            raise RuntimeError(f"{layer!r} has no {self.name} before it is part of a model")
        arrays: dict[str, NDArray[Any]] = getattr(layer, self.kind)
        return arrays

    def __get__(self, layer: Layer | None, owner: type[Layer]) -> Any:
        return self if layer is None else self._arrays(layer).get(self.name)

    def __set__(self, layer: Layer, value: NDArray[Any]) -> None:
        self._arrays(layer)[self.name] = value  # refuses another array than it has
