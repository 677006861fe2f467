"""TrainStep of several processes: each has a batch of its own, all make the same update."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn._kernels as _kernels
from fastnn.layers import BatchNorm, Block
from fastnn.mpi import rounds
from fastnn.mpi.alike import check_alike, of_step
from fastnn.training import train_step
from fastnn.training.samples import counted
from fastnn.weight_averages import moving_norms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from fastnn.losses import Loss
    from fastnn.mpi.ranks import Ranks
    from fastnn.network import Network
    from fastnn.optimizers import Optimizer
    from fastnn.training.recording import Recorded
    from fastnn.training.samples import Samples
    from fastnn.training.scheduled import Table
    from fastnn.training.step import AnyProgram
    from fastnn.weight_averages import WeightAverage

    Array = NDArray[Any]


class TrainStep(train_step.TrainStep):
    """A training step of all ranks of `world`: ``step(xb, yb)`` with a batch on each of them.

    The batches of a round are those of rank 0, 1, 2 and so on, in this order; with `accumulate` = k
    an update is made after k rounds.  Everything is, to the bit, what ``fastnn.TrainStep`` with
    ``accumulate=k * world.size`` makes of these batches one after the other.  Every rank must make
    it of the same model, loss and optimizer, call it equally often, and gets the loss of its own
    batch.  Layers of your own are not recorded, as ever, and must draw no random numbers.

    Raises as `fastnn.TrainStep` does, and ValueError where ranks differ, or for a layer of your own
    with a state, which nobody could bring together; a number that is not finite, on any rank, is a
    FloatingPointError on all of them.

    >>> import fastnn, fastnn.mpi
    >>> X, y = fastnn.datasets.digits()
    >>> model = fastnn.Sequential(fastnn.Dense(64, 10), seed=0)
    >>> world = fastnn.mpi.World()
    >>> step = TrainStep(world, model, fastnn.SoftmaxCrossEntropy(), fastnn.Adam(0.01))
    >>> mine = slice(world.rank, None, world.size)  # every rank has other rows
    >>> losses = [step(X[mine], y[mine]) for _ in range(20)]
    >>> losses[-1] < losses[0], step.steps // world.size
    (True, 20)
    """

    def __init__(
        self,
        world: Ranks,
        model: Network,
        loss: Loss,
        optimizer: Optimizer,
        accumulate: int = 1,
        *,
        average: WeightAverage | None = None,
    ) -> None:
        super().__init__(model, loss, optimizer, accumulate * world.size, average=average)
        for layer, _ in model._chain.walk():
            if layer.state and not isinstance(layer, BatchNorm | Block):
                raise ValueError(f"model: {layer!r} has a state, which ranks cannot bring together")
        with world.meeting():
            check_alike(world.comm, of_step(model, loss, optimizer, average))
        self._world, self._comm = world, world.comm
        self._sum = world.sum_of(model.flat_gradients)
        self._data: Samples | None = None  # the batch that runs, where it was checked before
        self._place = 0  # of that batch in its round, from its beginning until all are told of it
        self._passes_before = 0  # training passes that were counted before the round
        self._statistics: list[tuple[Array, Array, float]] = []  # running, before, momentum
        self._before_last: list[tuple[Array, Array]] = []  # statistics before the last batch
        self.told: rounds.Told | None = None  # what the ranks told of the last round
        # what is scheduled for each batch, and how many there were before the round
        self.scheduled: tuple[Table, int] | None = None

    # ---- one batch -----------------------------------------------------------------------------

    def train(self, data: Samples) -> float:
        self._data = data
        try:
            return super().train(data)
        finally:
            self._data = None

    def _run(
        self, program: AnyProgram, rows: int, weighted: bool, in_form: bool = True
    ) -> NDArray[np.float64]:
        norms = moving_norms(self._model)
        momenta = [norm._momentum for norm in norms]
        with self._pass_of_a_round():
            try:
                for norm in norms:  # the running statistics become those of the batch alone
                    norm._momentum = 1.0
                value = super()._run(program, rows, weighted, in_form)
            finally:
                for norm, momentum in zip(norms, momenta, strict=True):
                    norm._momentum = momentum
        _kernels.unrecorded(self._end_round, value)
        return value

    def _replay_steps(self, recorded: Recorded, steps: int) -> None:
        with self._pass_of_a_round():
            super()._replay_steps(recorded, steps)
        self._end_round(recorded.value)

    @contextmanager
    def _pass_of_a_round(self) -> Iterator[None]:
        """Around this rank's pass, whose fault the others hear of."""
        self._begin_round(self._world.rank)
        try:
            yield
        except FloatingPointError as error:
            self._end_round(None, fault=str(error))
            raise
        except BaseException:
            self._model._counter[0] = self._passes_before
            for running, before, _ in self._statistics:
                running[...] = before
            raise

    def idle(self) -> None:
        """Take part in a round without a batch."""
        self._begin_round(0)
        self._end_round(None)

    def _begin_round(self, place: int) -> None:
        """Take a place in the round: dropout's masks are those of the batch's number."""
        model = self._model
        self._place, self._passes_before = place, int(model._counter[0])
        if model._random:
            model._counter[0] += np.uint64(place)
        self._statistics = [
            (array, array.copy(), norm._momentum)
            for norm in moving_norms(model)
            for array in (norm._running_mean, norm._running_var)
        ]
        for running, *_ in self._statistics:  # 0 times what was there is 0, not NaN
            running.fill(0.0)

    def _end_round(self, value: NDArray[np.float64] | None, fault: str = "") -> None:
        """Tell the others of this rank's batch, None: it had none, and hear of theirs.

        Raises FloatingPointError on all ranks where one of them says what fault it met."""
        model, outputs, data = self._model, self._outputs, self._data
        numbers = [0.0] * 5
        if value is not None and outputs is not None:
            rows, positions = len(outputs), train_step.positions_of(outputs)
            weight = positions if data is None else counted(self._loss, data, positions)
            numbers = [1.0, rows, positions, float(value[0]), weight]
        elif fault:
            numbers[0] = 1.0
        interrupted = self._world.interrupted
        with self._world.meeting():
            told = rounds.tell(self._comm, (*numbers, float(bool(fault)), float(interrupted)))
        self._world.hear(told)
        self.told, self._place, done = told, 0, told.batches
        self._move_statistics(done)
        if not told.has.any():
            return
        if self.scheduled is not None and done:  # an update takes the numbers of its last batch
            table, before = self.scheduled
            self.set_numbers(table[before + done - 1])
        failed = bool(told.failed.any())
        if model._random:
            model._counter[0] = np.uint64(self._passes_before + done + failed)
        self.steps += done
        if failed:
            self._forget()
            raise FloatingPointError(next(filter(None, self._comm.allgather(fault))))
        self._sum.add(told)
        self._waiting += done
        self._waiting_rows += int(told.rows[:done].sum())
        self._waiting_positions += int(told.positions[:done].sum())

    def _move_statistics(self, done: int) -> None:
        """Move batch norm's running statistics by those of the batches, in their order."""
        if not self._statistics:
            return
        mine = np.concatenate([running for running, _, _ in self._statistics])
        got = np.empty((self._comm.size, mine.size), mine.dtype)
        self._comm.Allgather(mine, got)
        begin, self._before_last = 0, []
        for running, before, momentum in self._statistics:
            part = slice(begin, begin := begin + running.size)
            for i, batch in enumerate(got[:done, part]):
                if i == done - 1:
                    self._before_last.append((running, before.copy()))
                before *= before.dtype.type(1.0 - momentum)  # as the kernel does, to the bit
                _kernels.add_scaled(before, batch, momentum)
            running[...] = before

    # ---- what the single process does differently ----------------------------------------------

    def _backward(self, gradient: Array, rows: int) -> None:
        self._model._penalty_scale[0] = 0.0  # its gradient is added once, to the mean of the sum
        self._model.backward(gradient)

    def _restore_state(self) -> None:
        for running, before in self._before_last:
            running[...] = before

    def _count(self, steps: int, outputs: Array) -> None:
        """Nothing: the batches of all ranks are counted when the round ends."""

    def _key(self, shape: tuple[int, ...], data: Samples) -> Any:
        return *super()._key(shape, data), "a rank's"

    def _diverged(self, error: FloatingPointError) -> FloatingPointError:
        self.steps += self._place
        try:
            return super()._diverged(error)
        finally:
            self.steps -= self._place

    def _take_mean(self, scale: float) -> None:
        self._sum.take_mean(scale)

    def _forget(self) -> None:
        super()._forget()
        self._sum.own.fill(0)

    def epoch(
        self,
        data: Samples,
        order: NDArray[np.int64],
        batch_size: int,
        number: int,
        seen: list[Array] | None,
        table: Table | None = None,
        before: Callable[[], None] | None = None,
    ) -> Iterator[NDArray[np.float64]]:
        """As one process does it, but that a round is what a batch is there: `before` is called
        before it, and its losses are yielded together."""
        ranks, rank = self._world.size, self._world.rank
        row = self._model._chain.output_row(data.X.shape[1:]) or ()
        try:
            for first in range(0, number, self._accumulate):
                end = min(first + self._accumulate, number)
                self._group = end - first
                for begin in range(first, end, ranks):
                    last, mine = min(begin + ranks, end) - 1, begin + rank
                    if table is not None:
                        self.set_numbers(table[min(mine, last)])
                    if before is not None:
                        before()
                    if mine <= last:
                        stop = None if mine + 1 == number else (mine + 1) * batch_size
                        self._train_checked(data.rows(order[mine * batch_size : stop]))
                    else:
                        self.idle()
                    if table is not None:
                        self.set_numbers(table[last])
                    assert self.told is not None
                    if seen is not None:
                        mine_seen = self._outputs if mine <= last else None
                        seen.append(
                            rounds.all_outputs(self._comm, mine_seen, self.told, row, data.X.dtype)
                        )
                    if self._waiting == self._group:
                        self.flush()
                    yield self.told.losses[: last + 1 - begin]
        finally:
            self._group = self._accumulate
            self._forget()
