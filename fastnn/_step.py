"""What training steps share: a model and its optimizer, the programs that replay a step, and what
happens where a number is not finite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import _chain, _checks, _kernels, _settings
from fastnn._settings import Fixed, is_plain
from fastnn.optimizers import NOT_FINITE, Optimizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.model import Sequential

    Array = NDArray[Any]


_PROGRAMS = 16  # kept, the oldest goes first: one for each shape of x and kind of targets
_FAULT = _kernels.HYPER["fault"]


class Step:
    """The base of both steps."""

    model = Fixed["Sequential"]()
    optimizer = Fixed["Optimizer"]()
    recorded = Fixed[bool]()
    _model: Sequential
    _optimizer: Optimizer
    _recorded: bool

    def __init__(self, model: Sequential, optimizer: Optimizer, *others: object) -> None:
        _checks.parts(optimizer=optimizer, model=model)
        self.model, self.optimizer = model, optimizer
        self.steps, self._others = 0, others
        parts = (*(layer for layer, _ in _chain.walk(model.layers)), optimizer, *others)
        self.recorded = all(map(is_plain, parts)) and _trains_as_fastnn(model)
        self._hyper = optimizer.hyper if self.recorded else np.zeros(len(_kernels.HYPER))
        self._before = {name: np.empty_like(array) for name, array in model.state.items()}
        self._recordings: dict[Any, Any] = {}
        self._last: Any = None  # the recording of the last step
        self._changes = _settings.changes

    def _find(self, key: Any) -> Any:
        """The recording of that key, if there is one that still holds."""
        if self._changes != _settings.changes:
            self._recordings.clear()
            self._last, self._changes = None, _settings.changes
        return self._recordings.get(key)

    def _keep(self, key: Any, recording: Any) -> None:
        while len(self._recordings) >= _PROGRAMS:
            del self._recordings[next(iter(self._recordings))]
        self._recordings[key] = recording

    def _replay(
        self, program: _kernels.Program, steps: int = 1, value: Array | None = None
    ) -> None:
        """Steps on the rows that the program is fed with; value: where it leaves the loss.

        Between feeding and reading the results, the caller holds the model."""
        self._model._begin()
        done = program.replay(steps)
        if done < steps:
            self.steps += done
            try:
                self._raise_fault(value)
            except FloatingPointError as error:
                raise self._diverged(error) from None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_recordings": {}, "_last": None}  # a copy records anew

    def __repr__(self) -> str:
        model = f"{type(self._model).__name__} of {len(self._model.layers)} layers"
        others = "".join(f", {part!r}" for part in self._others)
        done = f"steps={self.steps}, recorded={self._recorded}"
        return f"<{type(self).__name__}: {model}, {self._optimizer!r}{others}, {done}>"

    def _save_state(self) -> None:
        for name, array in self._model.state.items():
            if self._recorded:
                _kernels.copy(self._before[name], array)
            else:  # one's own state may be of any shape
                self._before[name][...] = array

    def _restore_state(self) -> None:
        for name, array in self._model.state.items():
            array[...] = self._before[name]

    def _raise_fault(self, value: Array | None) -> None:
        """FloatingPointError if a kernel has met a number that is not finite."""
        fault = self._hyper[_FAULT]
        if fault:
            self._hyper[_FAULT] = 0.0
            what = NOT_FINITE
            if fault == _kernels.FAULT_VALUE and value is not None:
                what = f"the loss is {value[0]}"
            raise FloatingPointError(what)

    def _diverged(self, error: FloatingPointError) -> FloatingPointError:
        """The error to raise, after running statistics are those before the step again."""
        self._restore_state()
        rate = getattr(self._optimizer, "learning_rate", float("nan"))
        return FloatingPointError(
            f"step {self.steps + 1}: {error} at learning rate {rate:g}; "
            "the last finite parameters are kept"
        )


def _trains_as_fastnn(model: Sequential) -> bool:
    """Whether nobody has put Python of his own into the model's training."""
    methods = (getattr(model, name) for name in ("forward", "backward", "update"))
    return all(method.__module__ == "fastnn.model" for method in methods)
