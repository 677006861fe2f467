"""Chain: layers one after the other, in a model or within another layer.

It checks that neighbours fit together, computes the shape behind each layer, and runs them forward
and backward.  A layer of the user's is wrapped, which gives its results the form of the kernels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn._kernels as _kernels
from fastnn.layers.embedding import Embedding
from fastnn.layers.layer import Arrays, Layer, axis_name, batch_of, shape_text
from fastnn.support import arrays, checks, settings
from fastnn.support.settings import is_plain, label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import ArrayLike, NDArray

    from fastnn.layers.layer import Place, Pull

    Shape = tuple[int, ...]

_CACHE_BYTES = 2**22  # what one layer leaves for the next should fit into so much cache
_MOST_NUMBERS = 2**44  # of a row: no machine has memory for more


class Chain:
    """Layers of which each takes what the one before returns.

    The names of a layer's parameters begin with its name in `names`, by default its number.
    `in_features` and `dimensions` are those of the rows that the chain takes (None: any),
    `out_features` and `out_dimensions` those of the rows that it returns (None: the same, or
    unknown before data come).

    `states` is False where a layer within does not say what it returns, and `resizes` is True where
    `out_features` is None because of that, and not because all layers return as many as they take.

    Raises ValueError if a layer takes other features or dimensions than the one before returns."""

    def __init__(self, layers: tuple[Any, ...], names: tuple[str, ...] | None = None) -> None:
        if not layers:
            raise ValueError("layers: expected at least one, got none")
        self.layers = layers
        self.names = tuple(map(str, range(len(layers)))) if names is None else names
        first = layers[0]
        self.codes: tuple[tuple[Embedding, slice], ...] = (
            first._code_columns if isinstance(first, Layer) else ()
        )
        self.path: list[Layer] = []  # the layers to run, some of them wrapped, made by `build`
        self._first_trained, self._found_at = 0, -1  # and the count of settings' changes then
        self.checked_shape: Shape = ()  # the last batch's that passed `check_input`
        # The shapes of its rows and of their outputs (None: unknown) are one tuple, because other
        # threads may read them at any time.
        self._known: tuple[Shape, Shape | None] = ((), None)
        self._follow()

    def __reduce__(self) -> tuple[Any, ...]:
        return Chain, (self.layers, self.names)  # a copy belongs to no model

    # ---- which layer may follow which ----------------------------------------------------------

    def _follow(self) -> None:
        """Check that neighbours fit together, and set the chain's features and dimensions."""
        self.in_features: int | None = None
        self.dimensions: int | None = None
        width: int | None = None
        dims: int | None = None
        self._sized = giver = shaper = 0  # the layers that state in_features, width and dims
        same_width = same_dims = True  # all layers so far return as many as they take
        for i, layer in enumerate(self.layers):
            takes, gives, needs, leaves = _stated(layer)
            self._check_next(i, width, giver, dims, shaper)
            if same_width and self.in_features is None and takes is not None:
                self.in_features, self._sized = takes, i
            if same_dims and self.dimensions is None:
                self.dimensions = needs
            giver = giver if takes is None and gives is None else i
            shaper = shaper if needs is None and leaves is None else i
            width, dims = known_after(layer, width, dims)
            states = _states(layer)
            same_width &= states and gives is None and not layer._resizes
            same_dims &= states and leaves is None
        self.out_features, self.out_dimensions = width, dims
        self.states = all(map(_states, self.layers))
        self.resizes = width is None and not same_width

    def _check_next(
        self, i: int, width: int | None, giver: int, dims: int | None, shaper: int
    ) -> None:
        """Check that layer i takes the `width` features that layer `giver` returns, and the `dims`
        dimensions that layer `shaper` returns."""
        layers = self.layers
        takes, _, needs, _ = _stated(layers[i])
        if dims in (None, needs) and width in (None, takes):
            return  # without the layer's text, which takes longer than all else here
        who = f"layer {i}, {label(layers[i])}, takes"
        if needs is not None and dims is not None and needs != dims:
            pool = f"GlobalAvgPool{dims - 1}D()"
            hint = f": put Flatten() or {pool} between them" if needs == 1 else ""
            raise ValueError(
                f"{who} {shape_text(needs, takes)}, but layer {shaper}, {label(layers[shaper])}, "
                f"gives {shape_text(dims, width)}{hint}"
            )
        if takes is not None and width is not None and takes != width:
            raise ValueError(
                f"{who} {takes} {axis_name(needs)}, but layer {giver}, {label(layers[giver])}, "
                f"gives {width}"
            )

    def check_embeddings(self) -> None:
        """Raise ValueError for an embedding that does not take the model's own inputs."""
        first = [embedding for embedding, _ in self.codes]
        for layer, _ in self.walk():
            if isinstance(layer, Embedding) and layer not in first:
                raise ValueError(
                    f"{layer!r} takes codes, so it must be the model's first layer, or the first "
                    "of a range of Columns that is"
                )

    def check_codes(self, value: ArrayLike, name: str) -> None:
        """Raise ValueError, which names `name`, for a number that is no code where an embedding
        takes it; `value` is what the user passed, of a shape that was checked."""
        for embedding, columns in self.codes:
            its = value
            if columns != slice(None):
                its = arrays.numeric_array(value, name)[:, columns]
            embedding.check_codes(its, name)

    @property
    def takes_codes(self) -> bool:
        """Whether all its inputs are codes, so that they have no gradient."""
        return any(columns == slice(None) for _, columns in self.codes)

    def walk(self, row: Shape | None = None) -> Iterator[tuple[Any, Shape | None]]:
        """All layers, those within another right behind it, each with the shape of the rows that
        it takes if the chain takes `row`; None: unknown."""
        for layer in self.layers:
            yield layer, row
            if isinstance(layer, Layer):
                for chain, its in zip(layer._chains, layer._inner_rows(row), strict=True):
                    yield from chain.walk(its)
            row = None if row is None else shape_after(layer, row)

    def activation_after(self, i: int, behind: str = "linear") -> str:
        """The name of the activation of layer i, or else of the next layer that has one, past norms
        and dropout; `behind` is the one behind the chain."""
        layer = self.layers[i]
        name = None if inner_chains(layer) else getattr(layer, "activation_name", None)
        if name not in (None, "linear"):
            return str(name)
        return self.first_activation(i + 1) or behind

    def first_activation(self, start: int = 0) -> str | None:
        """The `activation_name` of the first layer from number `start` on that has one."""
        for layer in self.layers[start:]:
            name = getattr(layer, "activation_name", None)
            if name is not None:
                return str(name)
            if not isinstance(layer, Layer):
                return "linear"
        return None

    # ---- shapes --------------------------------------------------------------------------------

    def check_input(self, shape: Shape, name: str) -> None:
        """Raise ValueError, which names `name`, unless the layers take a batch of this shape."""
        row = shape[1:]
        if not row or row != self._known[0] or 0 in shape:
            self._check_ends(shape, name)
            self._known = row, self.shapes(row, name)[-1]
        self.checked_shape = shape

    def _check_ends(self, shape: Shape, name: str) -> None:
        """Check a batch's shape by `in_features` and `dimensions`, for the clearest message."""
        features, dimensions = self.in_features, self.dimensions
        if len(shape) < 2 or dimensions not in (None, len(shape) - 1):
            wanted = shape_text(dimensions, features)
            raise ValueError(f"{name}: expected shape {wanted}, got {shape}")
        if 0 in shape:
            raise ValueError(f"{name}: expected rows and features, got none: shape {shape}")
        if features is not None and shape[-1] != features:
            swapped = len(shape) > 2 and shape[1] == features
            hint = "; looks like NCHW: use fastnn.to_nhwc(x)" if swapped else ""
            raise ValueError(
                f"{name}: layer {self._sized}, {label(self.layers[self._sized])}, takes {features} "
                f"{axis_name(dimensions)}, got {shape[-1]} (shape {shape}){hint}"
            )

    def shapes(self, row: Shape, name: str = "") -> list[Shape | None]:
        """The shape of a row behind each layer; None from the first on that does not state it.

        Raises ValueError, which names `name`, at the first layer that does not take its inputs."""
        shapes: list[Shape | None] = [row]
        for i, layer in enumerate(self.layers):
            before = shapes[-1]
            try:
                shapes.append(None if before is None else shape_after(layer, before))
            except ValueError as error:
                came = batch_of(shapes[-2] or ()) if i else ""
                came = f" (after {label(self.layers[i - 1])} of {came})" if i else ""
                where = f"{name}: layer" if name else "layer"
                raise ValueError(f"{where} {i}, {error}{came}") from None
        return shapes[1:]

    def output_row(self, row: Shape) -> Shape | None:
        """The shape of the outputs for a row of that shape; None if a layer does not state it."""
        known, output_row = self._known
        return output_row if row == known else self.shapes(row, "x")[-1]

    def rows_at_once(self, row: Shape, most: int, itemsize: int) -> int:
        """How many rows, at most `most`, should go through all layers together: as many images as
        leave each layer's outputs in the cache for the next one."""
        if len(row) == 1:
            return most
        shapes = [*self.shapes(row, "x"), *(taken for _, taken in self.walk(row))]
        largest = max(math.prod(shape) for shape in shapes if shape)
        return min(most, max(_kernels.FEW_IMAGES, _CACHE_BYTES // (largest * itemsize)))

    # ---- parameters ----------------------------------------------------------------------------

    def stateful(self) -> Iterator[tuple[int, str, Layer]]:
        """(number, name, layer) for each layer that may have parameters and state."""
        for i, (name, layer) in enumerate(zip(self.names, self.layers, strict=True)):
            if isinstance(layer, Layer):
                yield i, name, layer

    def named(self) -> Iterator[tuple[str, Layer]]:
        """(name, layer) for each layer that may have parameters, those within others included; the
        names of its parameters begin with that name."""
        for _, name, layer in self.stateful():
            yield name, layer
            for chain in layer._chains:
                yield from ((f"{name}.{inner}", its) for inner, its in chain.named())

    def parameter_shapes(self) -> dict[str, Shape]:
        """The shapes of all parameters, checked, under names such as ``"0.weight"``."""
        return {
            f"{name}.{key}": shape
            for _, name, layer in self.stateful()
            for key, shape in _parameter_shapes(name, layer).items()
        }

    def state(self) -> dict[str, NDArray[Any]]:
        """The state of all layers, under names such as ``"1.running_mean"``."""
        return {
            f"{name}.{key}": array
            for _, name, layer in self.stateful()
            for key, array in layer.state.items()
        }

    def build(
        self,
        parameters: Mapping[str, NDArray[Any]],
        gradients: Mapping[str, NDArray[Any]],
        state: Mapping[str, NDArray[Any]],
        place: Place,
        positions: Iterator[int],
    ) -> None:
        """Hand each layer its arrays and its place, with the next number from `positions`."""
        views = [_by_layer(named) for named in (parameters, gradients, state)]
        for _, name, layer in self.stateful():
            its = [of_layers.get(name) or Arrays() for of_layers in views]
            if layer.state:
                layer.state = its[2]
            layer._build(its[0], its[1], place._replace(position=next(positions)))
        self.path = [
            layer if is_native(layer) else _Wrapped(layer, place.dtype, self.layers[i + 1 :])
            for i, layer in enumerate(self.layers)
        ]
        self.native = all(layer.native for layer in self.path)

    @property
    def first_trained(self) -> int:
        """The number of the first layer that needs its outputs' gradient, if not for those before;
        that of all layers if there is none."""
        if self._found_at != settings.changes or not self.native:  # of the user's, who knows
            pairs = enumerate(zip(self.layers, self.path, strict=True))
            self._first_trained = next((i for i, pair in pairs if _trains(*pair)), len(self.path))
            self._found_at = settings.changes
        return self._first_trained

    def frozen(self) -> Iterator[str]:
        """The names of the parameters that training does not change."""
        for name, layer in self.named():
            if not layer._chains and not layer._trainable:
                yield from (f"{name}.{key}" for key in layer.parameters)

    def initialize(
        self, generator: Callable[[int], np.random.Generator], behind: str = "linear"
    ) -> None:
        """Let the layers fill their parameters, layer i with the generator `generator(i)`; a layer
        that is a copy begins with what it has learnt."""
        for i, _, layer in self.stateful():
            if layer._learnt is None:
                layer.initialize(generator(i), self.activation_after(i, behind))
                continue
            for name, array in layer._learnt.items():
                layer.parameters[name][...] = array
            layer._learnt = None

    def add_penalty(self, value: NDArray[np.float64], batch_size: int) -> None:
        """Add the L1 and L2 penalty of all parameters to ``value[0]``, the loss of a batch."""
        for _, _, layer in self.stateful():
            layer._add_penalty(value, batch_size)

    def add_decay(self, batch_size: int) -> None:
        """Add the gradient of the L1 and L2 penalty to the parameters' gradients."""
        for _, _, layer in self.stateful():
            layer._add_decay(batch_size)

    # ---- forward and backward ------------------------------------------------------------------

    def forward(self, x: NDArray[Any], training: bool) -> NDArray[Any]:
        for layer in self.path:
            x = layer.forward(x, training)
        return x

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        """Set all gradients; returns that of the inputs."""
        for layer in reversed(self.path):
            dy = layer.backward(dy)
        return dy

    def backward_parameters(self, dy: NDArray[Any]) -> None:
        """Set all gradients, where nobody needs that of the inputs."""
        first = self.first_trained
        for layer in self.path[:first]:
            layer._saved = None
        for layer in self.path[:first:-1]:
            dy = layer.backward(dy)
        if first < len(self.path):
            self.path[first].backward_parameters(dy)

    def vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        """The outputs in evaluation, and the function that takes their gradient to that of x."""
        pulls = []
        for layer in self.path:
            x, pull = layer._vjp(x)
            pulls.append(pull)

        def pull_all(dy: NDArray[Any]) -> NDArray[Any]:
            for pull in reversed(pulls):
                dy = pull(dy)
            return dy

        return x, pull_all

    @property
    def saved(self) -> tuple[Any, ...]:
        """What each layer saved in its last forward in training; may be set again later."""
        return tuple(layer._saved for layer in self.path)

    @saved.setter
    def saved(self, saved: tuple[Any, ...]) -> None:
        for layer, its in zip(self.path, saved, strict=True):
            layer._saved = its


# ---- one layer ---------------------------------------------------------------------------------


def is_native(layer: object) -> bool:
    """Whether a layer, with all within it, is one of fastnn's, unchanged and run by kernels."""
    return isinstance(layer, Layer) and layer.native and is_plain(layer)


def _trains(layer: Any, run: Layer) -> bool:
    """Whether a layer needs its outputs' gradient for parameters of its own, or, as Python of the
    user's, for what nobody knows; `run` is what runs it, the layer or its wrapper."""
    if chains := inner_chains(layer):
        return any(chain.first_trained < len(chain.path) for chain in chains)
    if not getattr(layer, "trainable", True):
        return False
    return not run.native or bool(layer.parameters)


def inner_chains(layer: object) -> tuple[Chain, ...]:
    """The chains of layers within a layer, such as the paths of a `Residual`."""
    return layer._chains if isinstance(layer, Layer) else ()


def _states(layer: object) -> bool:
    """Whether a layer, with all within it, says what it returns: without the base `Layer` none
    does."""
    return isinstance(layer, Layer) and layer._states


def _stated(layer: Any) -> tuple[int | None, int | None, int | None, int | None]:
    """The features that a layer takes and returns, and the dimensions that it takes and returns."""
    takes, gives = getattr(layer, "in_features", None), getattr(layer, "out_features", None)
    if not isinstance(layer, Layer):
        return takes, gives, None, None
    return takes, gives, layer.dimensions, layer.out_dimensions


def known_after(layer: Any, width: int | None, dims: int | None) -> tuple[int | None, int | None]:
    """The features and dimensions behind a layer, from those before it; None: unknown."""
    takes, gives, needs, leaves = _stated(layer)
    if not _states(layer):
        return gives, leaves
    if gives is None and not layer._resizes:
        gives = width if takes is None else takes
    return gives, next((known for known in (leaves, dims, needs) if known is not None), None)


def shape_after(layer: Any, row: Shape) -> Shape | None:
    """The shape of a row behind a layer, from that before it; None where it does not state it."""
    if not _states(layer):
        return None
    after: Any = layer.output_shape(row)
    is_good = isinstance(after, tuple) and after
    if not (is_good and all(type(length) is int and length > 0 for length in after)):
        name = f"output_shape of {label(layer)}"  # made only here: a label takes long
        if not is_good:
            raise TypeError(f"{name}: expected a tuple of integers >= 1, got {after!r}")
        after = tuple(checks.positive_int(length, name) for length in after)
    if math.prod(after) > _MOST_NUMBERS:
        raise ValueError(f"{label(layer)} gives rows of {after}, more than memory can hold")
    return tuple(after)


def check_layers(named: Iterable[tuple[str, Any]]) -> None:
    """Raise TypeError or ValueError unless each of these (name for messages, layer) is a layer,
    occurs once and belongs to no model yet."""
    seen: set[int] = set()
    for who, layer in named:
        if isinstance(layer, list | tuple):
            raise TypeError(
                f"{who}: expected a layer, got a {type(layer).__name__}; write Sequential(*layers)"
            )
        if isinstance(layer, type):
            raise TypeError(f"{who}: expected a layer, got the class; write {layer.__name__}()")
        if isinstance(getattr(layer, "_chain", None), Chain):
            raise TypeError(
                f"{who}: expected a layer, got a {type(layer).__name__} with a forward, backward "
                "or update of its own; unpack copies of its layers, *copy.deepcopy(model.layers)"
            )
        if not all(callable(getattr(layer, name, None)) for name in ("forward", "backward")):
            raise TypeError(f"{who}: expected a layer with forward and backward, got {layer!r}")
        family = [layer, *(inner for chain in inner_chains(layer) for inner, _ in chain.walk())]
        for each in family:
            if isinstance(each, Layer) and each._place is not None:
                raise ValueError(
                    f"{who}: {each!r} is part of another model; give each its own, or a copy.copy"
                )
            if id(each) in seen:
                raise ValueError(f"{who}: {label(each)} stands in the model twice")
        seen.update(map(id, family))


def numbered(layers: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """The layers with the names that they have in messages."""
    return ((f"layer {i}", layer) for i, layer in enumerate(layers))


def _parameter_shapes(name: str, layer: Layer) -> dict[str, Shape]:
    """The result of the layer's `parameter_shapes`, checked."""
    shapes = layer.parameter_shapes()
    if type(shapes) is dict and all(map(_is_shape, shapes, shapes.values())):
        return shapes  # without the layer's text, which takes longer than all else here
    who = f"parameter_shapes of layer {name}, {label(layer)}"
    wanted = "a dict of name: shape, a tuple of integers >= 1"
    if not isinstance(shapes, dict) or not all(isinstance(key, str) for key in shapes):
        raise TypeError(f"{who}: expected {wanted}, got {shapes!r}")
    for key, shape in shapes.items():
        if not isinstance(shape, tuple):
            raise TypeError(f"{who}: expected {wanted}, got {key!r}: {shape!r}")
        for length in shape:
            checks.positive_int(length, f"{who}: {key!r}: {shape!r}")
    return shapes


def _is_shape(name: Any, shape: Any) -> bool:
    return (
        type(name) is str and type(shape) is tuple and all(type(n) is int and n > 0 for n in shape)
    )


def _by_layer(named: Mapping[str, NDArray[Any]]) -> dict[str, Arrays]:
    """The arrays of each layer, from names such as ``"0.weight"``."""
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in named.items():
        layer, _, key = name.partition(".")
        found.setdefault(layer, {})[key] = array
    return {layer: Arrays(its) for layer, its in found.items()}


class _Wrapped(Layer):
    """A layer of the user's, whose results are brought into the form that kernels take.

    It gets copies, since it may write into them: the array that comes is the caller's, or what
    the layer before saved for its backward."""

    def __init__(self, layer: Any, dtype: np.dtype[Any], following: tuple[Any, ...]) -> None:
        self._layer, self._dtype = layer, dtype
        self._taker = _taker(following)
        self._shape: Shape = ()  # that of the last inputs in training

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        if training:
            self._shape = x.shape
        name, rows = f"output of {label(self._layer)}", len(x)
        y = arrays.real_array(self._layer.forward(x.copy(), training), name, self._dtype)
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
        dx = arrays.real_array(self._layer.backward(dy.copy()), name, self._dtype)
        if dx.shape != self._shape:
            raise ValueError(f"{name}: expected its input's shape {self._shape}, got {dx.shape}")
        self._forget_frozen()
        return dx

    def backward_parameters(self, dy: NDArray[Any]) -> None:
        """Run the layer's `backward_parameters`, but `backward` where that one was overridden
        later: on the object, or in a class derived from the one that has the other."""
        name = "backward_parameters"
        getattr(self._layer, name if self._defines(name, "backward") else "backward")(dy.copy())
        self._forget_frozen()

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        if isinstance(self._layer, Layer) and self._defines("_vjp", "forward", "backward"):
            return self._layer._vjp(x.copy())  # one of ours, with others within it
        return super()._vjp(x)

    def _defines(self, name: str, *others: str) -> bool:
        """Whether the layer's method `name` was defined with `others` or later: it is where the
        first of all these is, on the object, in its class or in the next one above."""
        layer = self._layer
        holders = [getattr(layer, "__dict__", {}), *map(vars, type(layer).__mro__)]
        first: Any = next((h for h in holders if {name, *others} & h.keys()), ())
        return name in first

    def _forget_frozen(self) -> None:
        """Drop the gradients of a layer that is frozen, which it need not know."""
        if isinstance(self._layer, Layer) and not self._layer.trainable:
            self._layer._zero_gradients()


def _taker(following: tuple[Any, ...]) -> Any:
    """The first of these layers that states its in_features, if none before it changes them."""
    for layer in following:
        if getattr(layer, "in_features", None) is not None:
            return layer
        if not _states(layer) or layer.out_features is not None or layer._resizes:
            break
    return None
