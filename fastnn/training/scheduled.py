"""Scheduled: the numbers that change with every step of a training, and by which schedules.

They are the optimizer's learning rate and weight decay and the rates of all dropout.  Kernels read
them when they run, so that replayed steps take them from a table of the epoch's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import fastnn._kernels as _kernels
from fastnn import schedules
from fastnn.layers import Dropout
from fastnn.optimizers import Optimizer
from fastnn.support.settings import label
from fastnn.training import faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fastnn.network import Network
    from fastnn.training.run import Run

    AnySchedule = schedules.Factors | Mapping[str, schedules.Factors]
    Table = NDArray[np.float64]  # (steps, numbers): NaN where a number stays as it is

KINDS = ("learning_rate", "weight_decay", "dropout")
_HIGHEST_DROPOUT = 65535 / 65536  # what masks can do


class Number(NamedTuple):
    """A number that a schedule may move."""

    kind: str
    owner: Any
    array: Any  # where kernels read it, float64; None for an optimizer of the user's
    at: int = 0  # its index there

    @property
    def value(self) -> float:
        found = getattr(self.owner, self.kind) if self.array is None else self.array[self.at]
        return float(found)

    def set(self, value: float) -> None:
        """Set it, where a schedule's 0 is no error."""
        if self.array is None:
            setattr(self.owner, self.kind, value)
        else:
            self.array[self.at] = value


def numbers_of(model: Network, optimizer: Any) -> list[Number]:
    """What may be scheduled of a model and its optimizer."""
    found = []
    for kind in ("learning_rate", "weight_decay"):
        if hasattr(optimizer, kind):
            ours = isinstance(optimizer, Optimizer)
            array = optimizer.hyper if ours else None
            found.append(Number(kind, optimizer, array, _kernels.HYPER[kind]))
    for layer, _ in model._chain.walk():
        if isinstance(layer, Dropout):
            found.append(Number("dropout", layer, layer._rate))
    return found


def by_kind(schedule: AnySchedule | None) -> dict[str, schedules.Factors]:
    """The schedules by what they are of; a single one is that of the learning rate."""
    if schedule is None:
        return {}
    return dict(schedule) if isinstance(schedule, Mapping) else {"learning_rate": schedule}


def check(schedule: AnySchedule | None, numbers: list[Number], optimizer: Any, steps: int) -> None:
    """Raise TypeError or ValueError for what is no schedule, or for one of what is not there."""
    for kind, factors in by_kind(schedule).items():
        name = f"schedule: {kind!r}" if isinstance(schedule, Mapping) else "schedule"
        if kind not in KINDS:
            raise ValueError(f"schedule: expected schedules of {', '.join(KINDS)}, got {kind!r}")
        if isinstance(factors, type) or not callable(factors):
            wanted = f"{name}: expected a function of t and epochs, or such as fastnn.Cosine()"
            raise TypeError(f"{wanted}, got {factors!r}")
        if not any(number.kind == kind for number in numbers):
            if kind == "dropout":
                raise ValueError(f"{name}: the model has no Dropout")
            raise TypeError(f"schedule: {optimizer!r} has no {kind}")
        if not steps:
            raise ValueError("schedule: needs to know the steps of an epoch; give X a __len__")


@contextmanager
def of_epoch(
    schedule: AnySchedule | None, numbers: list[Number], run: Run, steps: int
) -> Iterator[Table | None]:
    """The numbers of an epoch, for each step; afterwards they have their own values again."""
    if not (of_kind := by_kind(schedule)):
        yield None
        return
    own = np.array([number.value for number in numbers])
    table = np.full((steps, len(numbers)), math.nan)
    for kind, factors in of_kind.items():
        columns = np.array([number.kind == kind for number in numbers])
        most, what = float(np.finfo(run.model.dtype).max), kind.replace("_", " ")
        if kind == "dropout":
            most, what = max(_HIGHEST_DROPOUT, own[columns].max()), "rate of dropout"
        with faults.named(f"the schedule {getattr(factors, '__name__', label(factors))}", run):
            table[:, columns] = schedules.rates(
                factors, own[columns], run.epoch, run.epochs, steps, most, what
            )
    try:
        yield table
    finally:
        for number, value in zip(numbers, own.tolist(), strict=True):
            if number.kind in of_kind:
                number.set(value)
