"""A training step in two halves, between which the user makes the gradient."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastnn import _arrays, _kernels, _settings
from fastnn._step import Step
from fastnn.optimizers import Optimizer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastnn.model import Sequential

    Array = NDArray[Any]


@dataclass
class _Halves:
    """A step in two programs, between which the user makes the gradient."""

    forward: _kernels.Program | None
    outputs: Array
    saved: list[tuple[Any, ...] | None]  # what each layer keeps for its backward
    backward: _kernels.Program | None = None


class GradientStep(Step):
    """A training step whose gradient you make yourself, as policy gradients and custom losses do.

    ``outputs = step.forward(xb)`` runs the model in training, ``step.backward(gradient)`` takes
    the gradient of your loss by these outputs, runs the model backward and updates it.  Both are
    recorded and replayed as in `TrainStep`.  `steps` counts the steps done.

    >>> import fastnn
    >>> model = fastnn.Sequential(fastnn.Dense(2, 1), seed=0)
    >>> step = GradientStep(model, fastnn.SGD(0.1))
    >>> x, wanted = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0], [2.0]])
    >>> for _ in range(200):
    ...     outputs = step.forward(x)
    ...     step.backward((outputs - wanted) / len(x))
    >>> bool(abs(model.predict(x) - wanted).max() < 0.1)
    True
    """

    def __init__(self, model: Sequential, optimizer: Optimizer) -> None:
        super().__init__(model, optimizer)
        self._half: _Halves | None = None
        self._passes = 0  # of the model, after this step's forward

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_half": None}

    def forward(self, xb: ArrayLike) -> Array:
        """The outputs for a batch, in training.

        Shapes: `xb` (batch, ...), the outputs (batch, out_features).  The next `forward` on a
        batch of that shape overwrites them, and until `backward` they must stay as they are.
        Raises as `Sequential.forward` does.
        """
        x = self._model._input(xb, "x")
        with self._model._hold:
            halves: _Halves | None = self._find(x.shape)
            if halves is None or halves.forward is None:
                halves = self._forward_by_hand(x)
            else:
                halves.forward.feed(x)
                self._replay(halves.forward)
            self._half, self._passes = halves, self._model._passes
            return halves.outputs.view()  # whose shape may be set

    def backward(self, gradient: ArrayLike) -> None:
        """Backward from the outputs' gradient, and the update.

        Shapes: `gradient` as the outputs of `forward`, once after each.  Raises RuntimeError
        without a `forward` before it, or if the model was trained otherwise since; ValueError for
        another shape; FloatingPointError where the update would be NaN or infinite: those
        parameters stay as they were.
        """
        halves = self._half
        if halves is None:
            raise RuntimeError("backward needs a forward(xb) of this step before each call")
        dy = _arrays.real_array(gradient, "gradient", self._model.dtype)
        if dy.shape != halves.outputs.shape:
            raise ValueError(
                f"gradient: expected the outputs' shape {halves.outputs.shape}, got {dy.shape}"
            )
        with self._model._hold:
            self._model._check_trainer()
            self._half = None
            if self._passes != self._model._passes:
                raise RuntimeError(
                    "the model has begun another training pass since this step's forward"
                )
            if halves.backward is None or self._changes != _settings.changes:
                self._backward_by_hand(halves, dy)
            else:
                halves.backward.feed(dy)
                self._replay(halves.backward)
            self.steps += 1

    def _forward_by_hand(self, x: Array) -> _Halves:
        model, program = self.model, self._new_program(x)
        with program or nullcontext():
            self._save_state()
            if program is not None:
                x = program.take("x", len(x))
            outputs = model.forward(x, training=True)
        halves = _Halves(program, outputs, [layer._saved for layer in model._path])
        if program is not None:
            self._keep(x.shape, halves)
        return halves

    def _backward_by_hand(self, halves: _Halves, dy: Array) -> None:
        model, program = self.model, self._new_program(dy)
        with program or nullcontext():
            if program is not None:
                dy = program.take("x", len(dy))
                for layer, saved in zip(model._path, halves.saved, strict=True):
                    layer._saved = saved
                model._pending = dy.shape
            try:
                model.backward(dy)
                self._optimizer.step(model)
            except FloatingPointError as error:
                raise self._diverged(error) from None
        halves.backward = program

    def _new_program(self, x: Array) -> _kernels.Program | None:
        """One that takes rows from x, or None where nothing can be recorded."""
        if not self._recorded:
            return None
        program = _kernels.Program(self._hyper, self._model._hold)
        program.feed(x)
        return program
