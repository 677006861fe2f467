"""Which callbacks run where, and how the ranks stay the same behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn.mpi.alike import check_alike, of_callbacks
from fastnn.training.callbacks import Callback, takes
from fastnn.training.monitors import EarlyStopping, ReduceOnPlateau

if TYPE_CHECKING:
    from mpi4py import MPI

    from fastnn.training.run import Run

_EVERYWHERE = (EarlyStopping, ReduceOnPlateau)  # they follow what all ranks have, and write nothing


def on_this_rank(
    comm: MPI.Intracomm, callbacks: list[Callback], numbers: list[Any]
) -> list[Callback]:
    """Those callbacks that this rank tells: all on rank 0, elsewhere those that follow results.

    Rank 0's own come first, and what they log, set or stop is then told to all ranks.

    Raises ValueError where those that follow results are not the same on all ranks."""
    follow = [c for c in callbacks if type(c) in _EVERYWHERE]
    others = [c for c in callbacks if type(c) not in _EVERYWHERE]
    check_alike(comm, of_callbacks(follow))
    hooks = ("on_batch_begin", "on_batch_end")
    by_batch = comm.bcast(any(takes(c, hook) for c in others for hook in hooks))
    agree = (_AgreeByBatch if by_batch else _Agree)(comm, numbers)
    if comm.rank:
        return [agree, *follow]
    early = [c for c in others if not c._last]
    return [*early, agree, *follow, *(c for c in others if c._last)]


class _Agree(Callback):
    """Brings to all ranks what rank 0 has: the last epoch's results, with its times and what its
    callbacks logged, the numbers that a schedule may move, and whether the run is stopped."""

    def __init__(self, comm: MPI.Intracomm, numbers: list[Any]) -> None:
        self._comm, self._numbers = comm, numbers

    def _agree(self, run: Run) -> None:
        numbers = [number.value for number in self._numbers]
        results = run.results if run.epoch else {}
        stopped, its_numbers, its_results = self._comm.bcast((run.stopped, numbers, results))
        if self._comm.rank == 0:
            return
        run.stopped = stopped
        for number, mine, value in zip(self._numbers, numbers, its_numbers, strict=True):
            if mine != value:
                number.set(value)
        for name, value in its_results.items():
            if name in results:
                run.history[name][-1] = value
            else:
                run.log(name, value)

    def on_fit_begin(self, run: Run) -> None:
        run.columns[:] = self._comm.bcast(run.columns)
        self._agree(run)

    def on_epoch_begin(self, run: Run) -> None:
        self._agree(run)

    def on_epoch_end(self, run: Run) -> None:
        self._agree(run)


class _AgreeByBatch(_Agree):
    def on_batch_begin(self, run: Run) -> None:
        self._agree(run)

    def on_batch_end(self, run: Run) -> None:
        self._agree(run)
