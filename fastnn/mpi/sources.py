"""Shares: batches that each process makes for itself, as the source of one training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from mpi4py import MPI

from fastnn.data import batches
from fastnn.mpi.step import TrainStep
from fastnn.training.sources import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from fastnn.mpi.rounds import Told
    from fastnn.training import train_step
    from fastnn.training.scheduled import Table
    from fastnn.training.sources import Losses


class Shares(Stream):
    """The batches of all ranks: a round has one of rank 0, one of rank 1 and so on."""

    def __init__(self, comm: MPI.Intracomm, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._comm = comm
        steps = comm.allgather(self.steps)
        self.steps = sum(steps) if all(steps) else 0
        self.order = None  # of batches, each rank has one of its own: see `skip`

    def epoch(
        self,
        step: train_step.TrainStep,
        table: Table | None,
        seen: list[NDArray[Any]] | None,
        before: Callable[[], None] | None,
    ) -> Iterator[Losses]:
        """As with one process; yields the rows and the losses of a round."""
        assert isinstance(step, TrainStep)
        self._begin_epoch()
        parts, done, full = self._parts(), 0, True
        while True:
            part = next(parts, None)
            data = None if part is None else part[1]
            if before is not None and self._comm.allreduce(part is not None, MPI.LOR):
                before()
            step.scheduled = None if table is None else (table, done)
            if part is None:
                step.idle()
            else:
                self._train(step, part[1], part[0], done + self._comm.rank, table, None)
            told = step.told
            assert told is not None
            if not told.has.any():
                break
            self._check_even(told, full)
            n, full = told.batches, bool(told.has.all())
            done += n
            self._sizes += told.rows[:n].tolist()
            self._weights += told.counted[:n].tolist()
            if seen is not None:
                mine = None if data is None else (step.outputs, data.y, data.metric_weight)
                for outputs, y, weight in filter(None, self._comm.allgather(mine)):
                    seen.append(outputs)
                    self._targets.append(y)
                    self._metric_weights.append(weight)
            yield int(told.rows[:n].sum()), told.losses[:n]
        self._end_epoch(step)

    def skip(self, epochs: int) -> None:
        super().skip(epochs)
        if isinstance(self._data, batches) and not self._per_epoch:
            for _ in range(epochs):
                self._data.permutation()

    def _check_even(self, told: Told, full: bool) -> None:
        """Raise ValueError unless each rank has as many batches as the one before it, or one
        fewer."""
        last = int(np.flatnonzero(told.has)[-1])
        if not full or not told.has[: last + 1].all():
            first = int(np.flatnonzero(~told.has)[0]) if not told.has.all() else 0
            short, long = (first, last) if first != last else (self._comm.size - 1, 0)
            raise ValueError(
                f"X: rank {long} has more batches than rank {short}, expected as many on each "
                "rank as on the one before it, or one fewer"
            )
