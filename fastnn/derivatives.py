"""Gradients of a network's outputs by its inputs, in evaluation.

The first call on a batch's shape records two programs, forward and backward; the next ones replay
them.  Both read the model's own parameters, so that they hold after every update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn._kernels as _kernels
from fastnn.support import arrays, checks, settings

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import ArrayLike, NDArray

    from fastnn.layers.layer import Pull
    from fastnn.network import Network

    Array: TypeAlias = NDArray[Any]
    Gradient: TypeAlias = ArrayLike | int | Callable[[Array], ArrayLike]

_MOST = 16  # shapes that are recorded; the oldest goes first
_ROWS = 4096  # times outputs, that go through a Jacobian's program together: all are in memory
_FEWEST = 16  # rows at least


class Derivatives:
    """What was recorded of one model.

    A thread that needs a recording takes it out of here and puts it back, so that any number of
    threads may work at the same time."""

    def __init__(self) -> None:
        self._idle: dict[Any, list[Any]] = {}

    def take(self, model: Network, x: Array, output: int | str | None = None) -> Any:
        """The recording for batches like x: of the gradient of one output, by its number, of
        "all", or of one that comes with every call."""
        key = x.shape, output
        try:
            found: Any = self._idle.get(key, []).pop()
        except IndexError:
            found = None
        if found is None or found.changes != settings.changes:
            found = _Halves(model, x) if output is None else _Whole(model, x, output)
            found.key, found.changes = key, settings.changes
        return found

    def put_back(self, found: Any) -> None:
        self._idle.setdefault(found.key, []).append(found)
        for key in [*self._idle][:-_MOST]:  # a list, as other threads may add shapes meanwhile
            self._idle.pop(key, None)


class _Halves:
    """A model's evaluation for batches like x and, once it is needed, its way back."""

    def __init__(self, model: Network, x: Array) -> None:
        self._shape = x.shape
        self._forward, self._backward = _kernels.Program(), _kernels.Program()
        self._forward.feed(x)
        with self._forward as program:
            self.outputs, pull = model._chain.vjp(program.take("x", len(x)))
            program.give(self.outputs)
        self._pull: Pull | None = pull

    def forward(self, x: Array) -> Array:
        """The outputs, which the next call overwrites."""
        self._forward.predict(x)
        return self.outputs.view()

    def backward(self, dy: Array) -> Array:
        """The inputs' gradient after `forward`."""
        dx = np.empty(self._shape, dy.dtype)
        if self._pull is not None:  # the first time
            pull, self._pull = self._pull, None
            self._backward.feed(dy)
            with self._backward as program:
                program.give(pull(program.take("x", len(dy))))
        self._backward.predict(dy, dx)
        return dx


class _Whole:
    """One way forward and, for one output or each, one back, in one program."""

    def __init__(self, model: Network, x: Array, output: int | str) -> None:
        self._program = _kernels.Program()
        self._program.feed(x)
        with self._program as program:
            y, pull = model._chain.vjp(program.take("x", len(x)))
            gradients = [*_ones(y)] if output == "all" else [_one(y, output)]
            if all(layer._pulls_several for layer, _ in model._chain.walk()):
                gradients = [np.concatenate(gradients)]  # one below the other, in one way back
            rows = [dx for dy in gradients for dx in pull(dy).reshape(-1, len(x), x[0].size)]
            program.give(_kernels.join_columns(rows))

    def run(self, x: Array, out: Array) -> None:
        self._program.predict(x, out.reshape(len(x), -1))


def _ones(outputs: Array) -> Iterator[Array]:
    """For each output of a row the gradient that is 1 there in all rows, else 0."""
    for place in np.ndindex(outputs.shape[1:]):
        dy = np.zeros_like(outputs)
        dy[(slice(None), *place)] = 1.0
        yield dy


def input_gradient(model: Network, known: Derivatives, x: ArrayLike, gradient: Gradient) -> Array:
    """See `Sequential.input_gradient`."""
    batch = model._input(x, "x")
    if not model._chain.native:
        return _by_hand(model, batch, gradient)
    if isinstance(gradient, int | np.integer):
        whole = known.take(model, batch, _output(model.output_shape(batch.shape[1:]), gradient))
        result = np.empty_like(batch)
        whole.run(batch, result)
        known.put_back(whole)
        return result
    recorded = known.take(model, batch)
    outputs = recorded.forward(batch)
    dx: Array = recorded.backward(_gradient_of(outputs, gradient))
    known.put_back(recorded)
    return dx


def _by_hand(model: Network, x: Array, gradient: Gradient) -> Array:
    """Layers of one's own train meanwhile; what their training changed is put back."""

    def run(x: Array) -> Array:
        touched = [*model.gradients.values(), *model.state.values()]
        before = [array.copy() for array in touched]
        with model._hold:
            model._begin()
            y, pull = model._chain.vjp(x)
            dx = pull(_gradient_of(y, gradient))
            for array, old in zip(touched, before, strict=True):
                array[...] = old
        return dx.copy()

    return _kernels.unrecorded(run, x)


def _output(shape: tuple[int, ...], number: Any) -> int:
    return checks.whole(number, "gradient", 0, shape[-1] - 1)


def _one(outputs: Array, output: Any) -> Array:
    """The gradient that is 1 at that output, at every position, and 0 elsewhere."""
    dy = np.zeros_like(outputs)
    dy[..., output] = 1.0
    return dy


def _gradient_of(outputs: Array, gradient: Gradient) -> Array:
    """The gradient by the outputs that the argument stands for."""
    if callable(gradient):
        gradient = gradient(outputs)
    elif isinstance(gradient, int | np.integer):
        return _one(outputs, _output(outputs.shape, gradient))
    return arrays.outputs_gradient(gradient, outputs.shape, outputs.dtype)


def jacobian(model: Network, known: Derivatives, x: ArrayLike) -> Array:
    """See `Sequential.jacobian`."""
    batch = model._input(x, "x")
    row = batch.shape[1:]
    if not model._chain.native:
        ones = list(_ones(model._evaluate(batch)))
        by_output = [_by_hand(model, batch, dy) for dy in ones]
        return np.stack(by_output, axis=1).reshape(len(batch), *ones[0].shape[1:], *row)
    outputs = model.output_shape(row)
    at_once = max(
        _FEWEST, model._chain.rows_at_once(row, _ROWS // math.prod(outputs), batch.itemsize)
    )
    result = np.empty((len(batch), *outputs, *row), batch.dtype)
    for start in range(0, len(batch), at_once):
        part = slice(start, start + at_once)
        recorded = known.take(model, batch[part], "all")
        recorded.run(batch[part], result[part])
        known.put_back(recorded)
    return result
