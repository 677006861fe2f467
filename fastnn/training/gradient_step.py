"""A training step in two halves, between which the user makes the gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn.support import arrays
from fastnn.training.step import Step

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastnn.network import Network
    from fastnn.optimizers import Optimizer
    from fastnn.weight_averages import WeightAverage

    Array = NDArray[Any]


class _Halves:
    """A step in two programs, between which the user makes the gradient."""

    def __init__(self, forward: Any, outputs: Array, saved: tuple[Any, ...]) -> None:
        self.forward, self.outputs = forward, outputs
        self.saved = saved  # what each layer saved for its backward
        # by whether the inputs' gradient is wanted, once it has run so: a program, that gradient
        self.backward: dict[bool, tuple[Any, Array | None]] = {}


class GradientStep(Step):
    """A training step whose gradient you make yourself, as policy gradients and custom losses do.

    ``outputs = step.forward(xb)`` runs the model in training, ``step.backward(gradient)`` takes
    the gradient of your loss by these outputs, runs the model backward and updates it.  Both are
    recorded and replayed as in `TrainStep`.  `steps` counts the steps done; `average` is as there.

    Raises TypeError for what is no model, optimizer or average, ValueError for an average that
    takes no part in steps.

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

    def __init__(
        self, model: Network, optimizer: Optimizer, *, average: WeightAverage | None = None
    ) -> None:
        super().__init__(model, optimizer, average=average)
        self._halves: _Halves | None = None  # of a forward that awaits its backward
        self._passes = 0  # the model's training passes after that forward

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_halves": None}

    def forward(self, xb: ArrayLike) -> Array:
        """The outputs for a batch, in training.

        Shapes: `xb` (batch, ...), the outputs (batch, out_features).  The next `forward` on a
        batch of that shape overwrites them, and until `backward` they must stay as they are.
        Raises as `Sequential.forward` does.
        """
        x = self._model._input(xb, "x")
        with self._model._hold:
            halves: _Halves | None = self._recording.find(x.shape)
            if halves is None:
                halves = self._run_forward(x)
            else:
                halves.forward.feed(x)
                self._replay(halves.forward)
            self._halves, self._passes = halves, self._model._passes
            self._model._pending = None  # the backward is this step's
            return halves.outputs.view()  # whose shape may be set

    def backward(self, gradient: ArrayLike, input_gradient: bool = False) -> Array | None:
        """Backward from the outputs' gradient, and the update.

        Shapes: `gradient` as the outputs of `forward`, once after each.  Returns None, or with
        `input_gradient` the gradient of `xb` before the update, which a later `backward` on that
        shape overwrites.

        Raises RuntimeError without a `forward` before it, or if the model was trained otherwise
        since; ValueError for another shape; FloatingPointError where the update would be NaN or
        infinite: those parameters stay as they were.
        """
        halves = self._halves
        if halves is None:
            raise RuntimeError("backward needs a forward(xb) of this step before each call")
        dy = arrays.outputs_gradient(gradient, halves.outputs.shape, self._model.dtype)
        with self._model._hold:
            self._model._check_trainer()
            self._halves = None
            if self._passes != self._model._passes:
                raise RuntimeError(
                    "the model has begun another training pass since this step's forward"
                )
            known = halves.backward.get(input_gradient) if self._recording.holds else None
            if known is None:
                dx = self._run_backward(halves, dy, input_gradient)
            else:
                program, dx = known
                program.feed(dy)
                self._replay(program)
            self.steps += 1
            return None if dx is None else dx.view()

    def _run_forward(self, x: Array) -> _Halves:
        """The first half by hand, recorded if that can be."""
        program = self._new_program()
        program.feed(x)
        with program:
            self._save_state()
            outputs = self._forward(program, len(x))
        halves = _Halves(program, outputs, self._model._chain.saved)
        if self._recorded:
            self._recording.add(x.shape, halves)
        return halves

    def _run_backward(self, halves: _Halves, dy: Array, input_gradient: bool) -> Array | None:
        """The second half by hand, recorded if that can be."""
        model, program = self._model, self._new_program()
        model._chain.saved, model._pending = halves.saved, dy.shape
        program.feed(dy)
        with program:
            try:
                dx = model.backward(program.take("x", len(dy)), input_gradient)
                self._update()
            except FloatingPointError as error:
                raise self._diverged(error) from None
        halves.backward[input_gradient] = program, dx
        return dx
