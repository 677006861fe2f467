"""Step: base of the training steps, the two halves that each has, and what ends one.

While a step runs by hand, the kernels' calls are recorded into a program; replaying that does the
same on other rows and gives the same bits.  So each step has one definition: `Step` has its two
halves, forward and backward, `TrainStep` the loss between them and `GradientStep` whatever the user
does there.  A layer, loss or optimizer of one's own is Python that cannot be recorded: then every
step runs by hand.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn._kernels as _kernels
from fastnn.optimizers import NOT_FINITE
from fastnn.support import checks
from fastnn.support.settings import Fixed, is_plain
from fastnn.training.recording import Recorded, Recording, Unrecorded
from fastnn.weight_averages import check_average

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.network import Network
    from fastnn.optimizers import Optimizer
    from fastnn.weight_averages import WeightAverage

    Array = NDArray[Any]
    AnyProgram = _kernels.Program | Unrecorded

_FAULT = _kernels.HYPER["fault"]


class Step:
    """Base of both steps: a model and its optimizer, the two halves of a step, and what happens
    where a number is not finite."""

    model = Fixed["Network"]()
    optimizer = Fixed["Optimizer"]()
    recorded = Fixed[bool]()
    _model: Network
    _optimizer: Optimizer
    _recorded: bool

    def __init__(
        self,
        model: Network,
        optimizer: Optimizer,
        *others: object,
        average: WeightAverage | None = None,
    ) -> None:
        checks.objects(optimizer=optimizer, model=model)
        check_average(average)
        if average is not None and not average.each_step:
            raise ValueError(f"average: {average!r} takes no part in steps; call its update")
        self.model, self.optimizer, self._average = model, optimizer, average
        others = others if average is None else (*others, average)
        self.steps, self._others = 0, others
        parts = (*(layer for layer, _ in model._chain.walk()), optimizer, *others)
        self.recorded = all(map(is_plain, parts)) and model._trains_natively()
        self._hyper = optimizer.hyper if self.recorded else np.zeros(len(_kernels.HYPER))
        self._recording = Recording(model)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_recording": copy.copy(self._recording)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._recorded:  # the optimizer may have made its vectors anew
            self._hyper = self._optimizer.hyper

    def __repr__(self) -> str:
        model = f"{type(self._model).__name__} of {len(self._model.layers)} layers"
        others = "".join(f", {part!r}" for part in self._others)
        done = f"steps={self.steps}, recorded={self._recorded}"
        return f"<{type(self).__name__}: {model}, {self._optimizer!r}{others}, {done}>"

    def _new_program(self) -> AnyProgram:
        """A program to record into, or what stands in for it where nothing can be recorded."""
        return _kernels.Program(self._hyper, self._model._hold) if self._recorded else Unrecorded()

    # ---- the two halves of a step --------------------------------------------------------------

    def _check_weights(self) -> None:
        """Raise RuntimeError where the model has averaged weights, which no step may train."""
        if self._average is not None:
            self._average._check_not_applied("a training step")

    def _forward(self, program: AnyProgram, rows: int) -> Array:
        """The outputs in training for the program's next rows."""
        self._check_weights()
        return self._model.forward(program.take("x", rows), training=True)

    def _backward(self, gradient: Array, rows: int) -> None:
        """Backward from the outputs' gradient, and the update."""
        self._model.backward(gradient)
        self._update()

    def _update(self) -> None:
        """Update the model from its gradients, and the average of its weights."""
        self._optimizer.step(self._model)
        if self._average is not None:
            self._average.update(self._model)

    def _replay(
        self,
        program: _kernels.Program,
        steps: int = 1,
        value: Array | None = None,
        last: Recorded | None = None,
        rounds: int = 1,
    ) -> None:
        """Run the program on the rows that it was fed with, and `last` once, if there is one, all
        that so many rounds; `value` is where it leaves the loss.

        From feeding it to reading the results, the caller holds the model."""
        averaged = 0
        if self._average is not None:
            self._check_weights()
            averaged = self._average.updates
        self._model._begin()
        wanted, end = steps * rounds, None
        if last is not None:
            wanted, end = wanted + rounds, last.program
        done = program.replay(steps, end, rounds)
        if done == wanted:
            return
        if last is not None and done % (steps + 1) == steps:
            value = last.value
        self.steps += done
        if self._average is not None:  # the step with the fault may have been counted
            self._average._set_updates(min(self._average.updates, averaged + done))
        try:
            self._raise_fault(value)
        except FloatingPointError as error:
            raise self._diverged(error) from None

    # ---- faults --------------------------------------------------------------------------------

    def _save_state(self) -> None:
        before = self._recording.before
        for name, array in self._model.state.items():
            if self._recorded:
                _kernels.copy(before[name], array)
            else:  # one's own state may be of any shape
                before[name][...] = array

    def _restore_state(self) -> None:
        for name, array in self._model.state.items():
            array[...] = self._recording.before[name]

    def _raise_fault(self, value: Array | None) -> None:
        """Raise FloatingPointError if a kernel has met a number that is not finite."""
        fault = self._hyper[_FAULT]
        if fault:
            self._hyper[_FAULT] = 0.0
            what = NOT_FINITE
            if fault == _kernels.FAULT_VALUE and value is not None:
                what = f"the loss is {value[0]}"
            raise FloatingPointError(what)

    def _diverged(self, error: FloatingPointError) -> FloatingPointError:
        """Restore the running statistics from before the step; returns the error to raise."""
        self._restore_state()
        rate = getattr(self._optimizer, "learning_rate", float("nan"))
        return FloatingPointError(
            f"step {self.steps + 1}: {error} at learning rate {rate:g}; "
            "the last finite parameters are kept"
        )
