"""The base class of layers, and the place that a model tells a layer.

A layer without parameters needs no base class: `forward` and `backward` are enough."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from fastnn.support import checks
from fastnn.support.arrays import describe
from fastnn.support.settings import Guarded, Setting, label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeAlias

    from numpy.typing import NDArray

    Pull: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]  # from dy to dx

_EMPTY: Mapping[str, Any] = MappingProxyType({})


class Arrays(dict[str, Any]):
    """The arrays that a model made for a layer, by name: to be written into, not replaced."""

    def __setitem__(self, name: str, array: Any) -> None:
        if name not in self or self[name] is not array:  # arrays[name] += 1 sets the same array
            raise ValueError(
                f"{name}: expected values written into the array that the model made, as in "
                f"[{name!r}][...] = values; got {describe(array)}"
            )

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise ValueError(f"{', '.join(self)}: these arrays stay; write into them, as in [...] = 0")

    __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


class _Views:
    """A layer's mapping of arrays; empty until a model makes them."""

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
    """A layer's state, which the layer may set until it is part of a model."""

    def __set__(self, layer: Layer, arrays: Mapping[str, NDArray[Any]]) -> None:
        if layer._place is not None:
            raise AttributeError(
                f"state of {label(layer)}: part of a model now; write into the arrays, as in "
                "layer.state[name][...] = values"
            )
        layer._model_state = arrays


class Placed:
    """An attribute that a layer gets from its model, or has between forward and backward.

    The value in the layer's ``__dict__`` hides this object, so that reading it costs nothing.
    Copies and pickles leave such attributes out, as a copy belongs to no model."""

    def __init__(self, *default: Any) -> None:
        self.default = default  # the value outside a model; without one, reading it is an error

    def __get__(self, layer: Layer | None, owner: type[Layer]) -> Any:
        if layer is None:
            return self
        if self.default:
            return self.default[0]
        raise RuntimeError(f"{layer!r} is part of no model yet: put it into a Sequential")


class _Trainable(Setting[bool]):
    """Whether training changes a layer's parameters; for a layer of layers, those of any within.

    Setting that of a layer of layers sets it in all of them."""

    def __init__(self) -> None:
        super().__init__(checks.flag)

    def __get__(self, layer: object | None, owner: type) -> Any:
        if not isinstance(layer, Layer):
            return self
        within = layer._within()
        return any(inner.trainable for inner in within) if within else layer._trainable

    def __set__(self, layer: object, value: bool) -> None:
        assert isinstance(layer, Layer)
        super().__set__(layer, value)
        for inner in layer._within():
            inner.trainable = value
        if not value:
            layer._zero_gradients()


class Place(NamedTuple):
    """What a model tells a layer: its position, and what the whole model has in common."""

    position: int  # the layer's number in the model, or within another layer one from `inner`
    dtype: np.dtype[Any]
    seed: int
    counter: NDArray[np.uint64]  # (1,): training passes begun, the step in dropout's masks
    l1: float  # lambda, for layers without an l1 of theirs
    l2: float  # the same for l2
    penalty_scale: NDArray[np.float64]  # (1,): the part of the penalty that a batch bears
    inner: Iterator[int]  # positions for layers within others, from 2^32 - 1 downwards
    bfloat16: bool  # dense products round their operands to it


class SupportsForwardBackward(Protocol):
    """The methods that every layer has, even without the base class `Layer`."""

    def forward(self, x: Any, training: bool = False, /) -> Any: ...
    def backward(self, dy: Any, /) -> Any: ...


class Layer(Guarded):
    """Base class of layers; derive from it to write one whose parameters a model trains.

    `forward(x, training=False)` returns the outputs, and in training saves what `backward` needs;
    `backward(dy)` sets (not adds) the arrays in `gradients` and returns the inputs' gradient.
    Shapes: `x` (batch, ..., in_features), `dy` like the outputs, (batch, ..., out_features).

    A derived class returns its parameters' shapes from `parameter_shapes`, fills them in
    `initialize`, and uses ``self.parameters[name]`` and ``self.gradients[name]``: views of the
    model's flat vectors, which optimizers update, `state_dict` saves and `gradcheck` checks.
    `in_features` is None for a layer that takes any number of features, `out_features` is None for
    one that returns as many as it takes.  `dimensions` and `out_dimensions` are likewise the
    dimensions of a row: 1 features, 2 (length, channels), 3 (height, width, channels).  A layer
    whose outputs have another shape overrides `output_shape`.  A class with `forward` and
    `backward` but without this base works in a model too; the model does not train its parameters.

    With ``layer.trainable = False``, which may be set at any time, a layer is frozen: training
    computes no gradients for its parameters, which stay as they are bit for bit, with the
    optimizer's numbers for them; `gradients` are 0, it has no part in the L1 and L2 penalties, and
    a batch norm normalises with its running statistics, which do not move.  Layers before the first
    that is trained have no backward at all.  Dropout drops as before.  Of a layer made of
    layers, such as `Residual`, it is True if one within is trained; setting it sets that of all
    within.  A layer of your own is not updated while it is frozen; if it has a state
    that training moves, it must look at ``self.trainable`` itself.

    In a model, `x` and `dy` are copies that the layer may change and hold.  What it returns may
    have any real type, but must have as many rows as `x`, and from `backward` the shape of `x`:
    else the model raises ValueError.

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
    trainable = _Trainable()
    _trainable = True

    # the activation that layers before this one are initialised for; None: that of a later layer
    activation_name: str | None = None
    native = False  # only runs kernels, so that its results need no conversion and no check
    random = False  # reads the model's counter in training

    _resizes = False  # out_features None means "unknown before data come", not "as it takes"
    _code_columns: Any = ()  # pairs: an embedding, and where in x its codes are (slice)
    _states = True  # says what it returns, with all layers within
    _pulls_several = False  # the pull of `_vjp` takes several dy below one another as well
    _chains: tuple[Any, ...] = ()  # a `Chain` for each path of layers within this one

    _place: Any = Placed(None)
    _saved: Any = Placed(None)  # what the last forward in training saved for backward
    _model_parameters: Any = Placed(_EMPTY)
    _model_gradients: Any = Placed(_EMPTY)
    _model_state: Mapping[str, NDArray[Any]] = _EMPTY
    _learnt: Mapping[str, NDArray[Any]] | None = None  # the parameters of which it is a copy

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter by its name, in the order in which they lie in memory."""
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

    def _fix(self, **attributes: Any) -> None:
        """Set attributes that the classes of fastnn's let nobody set later; for constructors."""
        vars(self).update(attributes)

    def _check_takes(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless `shape` is that of a row which the layer takes."""
        features, dimensions = self.in_features, self.dimensions
        if dimensions is not None and len(shape) != dimensions:
            raise ValueError(
                f"{label(self)} takes {shape_text(dimensions, features)}, got {batch_of(shape)}"
            )
        if features is not None and shape[-1] != features:
            what = axis_name(len(shape))
            raise ValueError(f"{label(self)} takes {features} {what}, got {shape[-1]}")

    def _build(self, parameters: Arrays, gradients: Arrays, place: Place) -> None:
        """Take the arrays and the place from the model; a copy of the model does it again.

        Where a class declares ``_weight = Placed()``, that attribute becomes
        ``parameters["weight"]``, and ``_dweight`` its gradient; the state's arrays likewise."""
        self._model_parameters, self._model_gradients, self._place = parameters, gradients, place
        kind, arrays = type(self), parameters | self.state
        views = {f"_{name}": array for name, array in arrays.items()}
        views |= {f"_d{name}": array for name, array in gradients.items()}
        for name in views.keys() - vars(Layer).keys():  # `_saved` and the like are something else
            if isinstance(getattr(kind, name, None), Placed):
                vars(self)[name] = views[name]

    def initialize(self, rng: np.random.Generator, activation: str) -> None:
        """Fill `parameters` and reset `state`; `activation` is the name of the one that follows."""

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def backward_parameters(self, dy: NDArray[Any]) -> None:
        """Set `gradients` as `backward` does, where nobody needs the inputs' gradient."""
        self.backward(dy)

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        """The outputs in evaluation, and the function that takes their gradient `dy` to that of
        `x`: it may be called again, and neither of the two changes anything in the layer.

        This one is for layers of one's own, which save for backward in training alone: it trains,
        and changes what these change."""
        return self.forward(x, True), self.backward

    def _within(self) -> list[Layer]:
        """The layers within this one that may have parameters."""
        return [layer for chain in self._chains for _, _, layer in chain.stateful()]

    def _inner_rows(self, row: tuple[int, ...] | None) -> list[tuple[int, ...] | None]:
        """For each of `_chains` the shape of the rows that it takes where the layer takes `row`."""
        return [row] * len(self._chains)

    def _zero_gradients(self) -> None:
        for gradient in self.gradients.values():
            gradient[...] = 0.0

    def _add_penalty(self, value: NDArray[np.float64], batch_size: int) -> None:
        """Add the L1 and L2 penalty of the parameters to ``value[0]``, the loss of a batch."""

    def _add_decay(self, batch_size: int) -> None:
        """Add the gradient of the L1 and L2 penalty to `gradients`."""

    def _take(self) -> tuple[Any, ...]:
        """What the last forward in training saved, for one backward: then the layer forgets it."""
        saved: tuple[Any, ...] | None = self._saved
        if saved is None:
            raise RuntimeError(f"{self!r}: backward needs a forward in training before it")
        self._saved = None
        return saved

    def __getstate__(self) -> dict[str, Any]:
        """All attributes but those of a model, to which a copy does not belong; the parameters are
        kept as what it has learnt, with which a model that takes the copy begins."""
        kind, all_of_it = type(self), vars(self).items()
        state = {k: v for k, v in all_of_it if not isinstance(getattr(kind, k, 0), Placed)}
        if self.state:
            state["_model_state"] = {name: array.copy() for name, array in self.state.items()}
        if self._place is not None and not self._chains:  # those within keep their own
            state["_learnt"] = {name: array.copy() for name, array in self.parameters.items()}
        return state


class Pure(Layer):
    """Base of the layers that compute the same in training as in evaluation, from nothing but x."""

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        y, pull = self._vjp(x)
        if training:
            self._saved = (pull,)
        return y

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        (pull,) = self._take()
        return pull(dy)  # type: ignore[no-any-return]


def axis_name(dimensions: int | None) -> str:
    """What the last axis of a row with so many dimensions is called."""
    return "channels" if dimensions is not None and dimensions > 1 else "features"


def shape_text(dimensions: int | None, features: int | None) -> str:
    """The shape, in words, of a batch whose rows have so many dimensions (None: any number)."""
    between = {2: "length, ", 3: "height, width, "}.get(dimensions or 1, "")
    if dimensions is None and features is not None:
        between = "..., "
    return f"(batch, {between}{features or axis_name(dimensions)})"


def batch_of(shape: tuple[Any, ...]) -> str:
    """The shape, in words, of a batch whose rows have that shape."""
    return f"(batch, {', '.join(map(str, shape))})"


class Named:
    """An attribute that is the array of that name in a layer's `parameters` or `state`."""

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
        if self._arrays(layer).get(self.name) is not value:  # the same one: after += in place
            raise ValueError(
                f"{self.name}: expected values written into the layer's array, as in "
                f"layer.{self.name}[...] = values; got {describe(value)}"
            )
