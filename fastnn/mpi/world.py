"""World: the processes that train together, and what `fit` needs of them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from fastnn.mpi.alike import check_alike, of_fit, of_step
from fastnn.mpi.callbacks import on_this_rank
from fastnn.mpi.ranks import Ranks
from fastnn.mpi.sources import Shares
from fastnn.mpi.step import TrainStep

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastnn.training.callbacks import Callback
    from fastnn.training.run import Run
    from fastnn.training.sources import Source


class World(Ranks):
    """All processes that ``mpirun`` has started, each with a number, its `rank`, below `size`.

    ``model.fit(..., distributed=World())`` trains on all of them.  Where the launcher gives several
    ranks the same cores they share them, unless ``FASTNN_NUM_THREADS`` or ``OMP_NUM_THREADS`` says
    how many threads a rank has.  An error that a rank does not catch ends all ranks.  `comm`, an
    intracommunicator of mpi4py, chooses other processes than all.

    Raises TypeError for another `comm`.

    >>> import fastnn.mpi
    >>> world = fastnn.mpi.World()
    >>> world.rank < world.size
    True
    """

    def __repr__(self) -> str:
        return f"<World: rank {self.rank} of {self.size}>"

    def own(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield every `size`-th of these batches, from the `rank`-th on: this rank's own, where all
        ranks can make all batches in the same order.

        >>> import fastnn.mpi
        >>> world = fastnn.mpi.World()
        >>> len(list(world.own(range(100 * world.size))))
        100
        """
        return islice(batches, self.rank, None, self.size)

    # ---- what `fit` asks for (see training/loop.py) --------------------------------------------

    def step(self, *arguments: Any, **options: Any) -> TrainStep:
        return TrainStep(self, *arguments, **options)

    def stream(self, *arguments: Any) -> Shares:
        return Shares(self.comm, *arguments)

    def callbacks(self, callbacks: list[Callback], run: Run, step: Any) -> list[Callback]:
        return on_this_rank(self.comm, callbacks, step.numbers)

    def check(self, run: Run, source: Source) -> None:
        """Raise ValueError where ranks differ in what they train, or in how."""
        told = of_step(run.model, run.loss, run.optimizer, run.average)
        check_alike(self.comm, told | of_fit(run, source))
