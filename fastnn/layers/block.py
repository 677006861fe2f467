"""Block: layers one after the other as one layer, and the base of all layers made of layers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from fastnn.layers.chain import Chain, check_layers, is_native, numbered
from fastnn.layers.layer import Arrays, Layer, Place
from fastnn.support.settings import Fixed

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from fastnn.layers.layer import Pull, SupportsForwardBackward


class Block(Layer):
    """y = f(x), where f is `layers` one after the other: a part of a network as one layer.

    A `Sequential` among the layers of a model, a `Block` or a `Residual` becomes a `Block` of
    copies of its layers with what they have learnt; where it is the only one in a `Block` or
    `Residual`, these take its layers themselves.  Its seed, dtype, l1 and l2 no longer count,
    but those of the model of which the block becomes part.

    Shapes: `x` as the first layer takes it, `y` as the last returns it.  Names of parameters and
    state begin with the layer's number, as ``"0.weight"``.

    Raises TypeError or ValueError for what is no layer, and where the layers' sizes do not follow
    one another.

    >>> from fastnn import Block, Dense, ReLU, Sequential
    >>> model = Sequential(Block(Dense(3, 4), ReLU()), Sequential(Dense(4, 4), Dense(4, 2)))
    >>> list(model.parameters)
    ['0.0.weight', '0.0.bias', '1.0.weight', '1.0.bias', '1.1.weight', '1.1.bias']
    >>> model.layers[0]
    Block(Dense(3, 4), ReLU())
    """

    layers = Fixed[tuple[Any, ...]]()
    _pulls_several = True

    def __init__(self, *layers: Layer | SupportsForwardBackward | Any) -> None:
        self._contain(layers)

    def _contain(self, layers: tuple[Any, ...], **others: Any) -> None:
        """Take the layers of one path, and for each other path its only layer by its name."""
        if len(layers) == 1 and (its := _layers_of(layers[0])):
            layers = its
        self.layers = tuple(map(as_layer, layers))
        named = [*numbered(self.layers), *others.items()]
        self._set_paths(
            named, ((self.layers, None), *(((layer,), (name,)) for name, layer in others.items()))
        )

    def _set_paths(self, named: list[tuple[str, Any]], paths: Iterable[tuple[Any, Any]]) -> None:
        """Take the paths, each its layers and their names (None: numbers); `named` are all layers
        with their names for messages."""
        inner = [layer for _, layer in named]
        try:
            check_layers(named)
            self._chains = tuple(Chain(*path) for path in paths)
            self._join(*self._chains)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{type(self).__name__}: {error}") from None
        self._fix(
            native=all(map(is_native, inner)),
            random=any(getattr(layer, "random", False) for layer in inner),
        )
        self.state = {
            name: array for chain in self._chains for name, array in chain.state().items()
        }

    def _join(self, f: Chain) -> None:
        """Set the features and dimensions of inputs and outputs, as far as the layers say them."""
        self._fix(
            in_features=f.in_features,
            out_features=f.out_features,
            dimensions=f.dimensions,
            out_dimensions=f.out_dimensions,
            activation_name=f.first_activation(),
        )
        self._resizes, self._states, self._code_columns = f.resizes, f.states, f.codes

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
        f: Chain = self._chains[0]
        after = f.shapes(shape, "Block")[-1]
        if after is None:
            raise RuntimeError(f"output_shape: a layer in {self!r} does not say its own")
        return after

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        return self._run([x], training)[0]

    def _run(self, inputs: list[NDArray[Any]], training: bool) -> list[NDArray[Any]]:
        """The outputs of all paths, each from its input; in training what their layers save is kept
        for `backward`."""
        if self._place is None:
            raise RuntimeError(f"{self!r} is part of no model yet: put it into a Sequential")
        pairs = zip(self._chains, inputs, strict=True)
        outputs = [chain.forward(x, training) for chain, x in pairs]
        if training:
            self._saved = tuple(chain.saved for chain in self._chains)
        return outputs

    def _restore(self) -> tuple[Chain, ...]:
        """The paths, after their layers got back what they saved for this backward."""
        for chain, saved in zip(self._chains, self._take(), strict=True):
            chain.saved = saved
        return self._chains

    def backward(self, dy: NDArray[Any]) -> NDArray[Any]:
        return self._restore()[0].backward(dy)

    def _vjp(self, x: NDArray[Any]) -> tuple[NDArray[Any], Pull]:
        f: Chain = self._chains[0]
        return f.vjp(x)

    def backward_parameters(self, dy: NDArray[Any]) -> None:
        for chain in self._restore():
            chain.backward_parameters(dy)

    def _add_penalty(self, value: NDArray[np.float64], batch_size: int) -> None:
        for chain in self._chains:
            chain.add_penalty(value, batch_size)

    def _add_decay(self, batch_size: int) -> None:
        for chain in self._chains:
            chain.add_decay(batch_size)

    def __copy__(self) -> Block:
        return copy.deepcopy(self)  # two of them cannot share a layer


def as_layer(part: Any) -> Any:
    """The layer itself, or for a `Sequential` a `Block` of copies of its layers."""
    layers = _layers_of(part)
    return Block(*layers) if layers else part


def _layers_of(part: Any) -> tuple[Any, ...]:
    """Copies of the layers of a `Sequential`, with what they have learnt; () for anything else,
    also for a model whose class has a forward or backward of its own."""
    chain = getattr(part, "_chain", None)
    if isinstance(chain, Chain) and part._trains_natively():
        return copy.deepcopy(chain.layers)
    return ()


def plain_layers(layers: tuple[Any, ...]) -> list[Any]:
    """The layers in the order in which they run, those of blocks in place of the blocks."""
    plain = []
    for layer in layers:
        plain += plain_layers(layer.layers) if type(layer) is Block else [layer]
    return plain
