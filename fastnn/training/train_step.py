"""TrainStep: forward, loss, backward, update; many of them replayed in one native call."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import fastnn._kernels as _kernels
from fastnn.support import checks, settings
from fastnn.support.settings import Fixed, is_plain
from fastnn.training import scheduled
from fastnn.training.recording import Handover, Recorded, Unrecorded
from fastnn.training.samples import Samples, call_own, check_batch, check_ending
from fastnn.training.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike, NDArray

    from fastnn.losses import Loss
    from fastnn.network import Network
    from fastnn.optimizers import Optimizer
    from fastnn.training.scheduled import Table
    from fastnn.training.step import AnyProgram
    from fastnn.weight_averages import WeightAverage

    Array = NDArray[Any]
    # x's shape, targets' ndim, no weights, accumulate and the batches of the update
    _Key = tuple[tuple[int, ...], int, bool, int, int]

_REPLAY_SECONDS = 0.03  # between two looks at signals and progress


class _Pass(NamedTuple):
    """One pass over samples: the order of their rows, and how they become batches."""

    data: Samples
    order: NDArray[np.int64]
    batch_size: int
    number: int  # of batches; the last takes all rows that are left, be they few or many
    seen: list[Array] | None  # where outputs are appended, if they are wanted
    table: Table | None  # what is scheduled: a line for each batch
    before: Callable[[], None] | None  # called before each batch, which is then a call of its own

    def part(self, begin: int, end: int) -> _Pass:
        """This pass over the batches begin..end only."""
        size, end = self.batch_size, min(end, self.number)
        rows = slice(begin * size, None if end == self.number else end * size)
        table = None if self.table is None else self.table[begin:end]
        return self._replace(order=self.order[rows], number=end - begin, table=table)


class TrainStep(Step):
    """One training step: forward, loss, backward, update.

    ``step(xb, yb, sample_weight=None)`` returns the loss of the batch, the penalties of `l1` and
    `l2` included, as it was before the update.  `xb` is (batch, ...), `yb` what the loss takes,
    `sample_weight` (batch,), or with a number for each position.  `outputs` holds the model's
    outputs of the last step, `steps` the number of steps done.

    With `accumulate` = k only every k-th step updates, with the mean of the gradients of these k
    batches, each counted by its rows, or positions, and the gradient of the penalty: as one step on
    all of them does, but for batch norm and all weights, those of classes and of ignored targets
    too, which see one batch at a time.  `flush` updates with fewer, in the same way.  The loss of a
    batch has a k-th of the penalty.

    `average`, an `ExponentialMovingAverage`, takes in the weights after each update.

    The first step on a batch of some shape is recorded; those after it replay it without Python
    and give the same bits.  `recorded` says whether that can be: it needs layers, loss and
    optimizer of fastnn's own.

    Raises FloatingPointError when the loss is NaN or infinite, before anything is updated, or an
    update would be: those parameters stay as they were.  Running statistics are those before.
    TypeError or ValueError for an `accumulate` that is no integer >= 1 and for an `average` that
    takes no part in steps.

    >>> import fastnn
    >>> X, y = fastnn.datasets.digits()
    >>> model = fastnn.Sequential(fastnn.Dense(64, 10), seed=0)
    >>> step = TrainStep(model, fastnn.SoftmaxCrossEntropy(), fastnn.Adam(0.01))
    >>> losses = [step(X, y) for _ in range(20)]
    >>> losses[-1] < losses[0], step.recorded
    (True, True)
    """

    loss = Fixed["Loss"]()
    accumulate = Fixed[int]()
    _loss: Loss
    _accumulate: int

    def __init__(
        self,
        model: Network,
        loss: Loss,
        optimizer: Optimizer,
        accumulate: int = 1,
        *,
        average: WeightAverage | None = None,
    ) -> None:
        checks.objects(loss=loss)
        super().__init__(model, optimizer, loss, average=average)
        self.loss = loss
        self.accumulate = checks.positive_int(accumulate, "accumulate")
        check_ending(model, loss)
        self.numbers = scheduled.numbers_of(model, optimizer)  # what a schedule may move
        self._outputs: Array | None = None
        self._last: Recorded | None = None  # what the last step replayed
        self._group = self._accumulate  # batches that the next update is made from
        self._waiting = self._waiting_rows = 0  # batches, and rows, that it has so far
        self._waiting_positions = 0

    @property
    def outputs(self) -> Array | None:
        """The model's outputs of the last step, in training; None before the first."""
        return None if self._outputs is None else self._outputs.copy()

    @property
    def positions(self) -> int:
        """How many rows the last outputs have, or positions, each a row of the loss's mean."""
        return 0 if self._outputs is None else positions_of(self._outputs)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_last": None, "numbers": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.numbers = scheduled.numbers_of(self._model, self._optimizer)

    def __call__(
        self, xb: ArrayLike, yb: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        with self._model._hold:
            last = self._last
            if (
                last is not None
                and sample_weight is None
                and self._recording.changes == settings.changes
                and last.program.point(xb, yb, self._loss._largest)
            ):  # the same kind of batch again
                self._replay_steps(last, 1)
                value = last.value
                if self._waiting == self._accumulate:
                    self.flush()
            else:
                x = self._model._input(xb, "x")
                value = self._train(x, yb, sample_weight)
            return value.item()

    def train(self, data: Samples) -> float:
        """One step on samples that were checked; returns the loss."""
        if data.weight is None:
            return self(data.X, data.y)
        with self._model._hold:
            return float(self._train(data.X, data.y, data.weight)[0])

    def _train(self, x: Array, y: Any, weight: Any) -> NDArray[np.float64]:
        """One step on an x that was checked; returns the loss, in an array of one element."""
        if self._recorded:
            recorded = self._replay_once(check_batch(self._model, self._loss, x, y, weight))
            value = recorded.value
            # codes are checked, and some losses' targets changed, each time
            as_it_comes = not self._model._chain.codes and self._loss._direct
            self._last = recorded if as_it_comes else None
        else:
            value = self._run_once(Samples(x, y, weight, y), in_form=False)
        if self._waiting == self._accumulate:
            self.flush()
        return value

    def _train_checked(self, batch: Samples) -> NDArray[np.float64]:
        """One step on rows whose targets and weights the loss has seen; returns the loss."""
        return self._replay_once(batch).value if self._recorded else self._run_once(batch)

    def _replay_once(self, data: Samples) -> Recorded:
        key = self._key(data.X.shape, data)
        recorded: Recorded | None = self._recording.find(key)
        if recorded is None:
            return self._record(key, data)
        recorded.program.feed(data.X, data.targets, data.weight)
        self._replay_steps(recorded, 1)
        return recorded

    def _run_once(self, data: Samples, in_form: bool = True) -> NDArray[np.float64]:
        """One step by hand; `in_form` says whether the loss has seen targets and weights."""
        program = Unrecorded()
        program.feed(data.X, data.targets, data.weight)
        return self._run(program, len(data.X), data.weight is not None, in_form)

    def flush(self) -> None:
        """Update with the batches that an update waits for, if there are some, few as they are.

        >>> import fastnn
        >>> model = fastnn.Sequential(fastnn.Dense(1, 1, weight_init="zeros"), seed=0)
        >>> step = TrainStep(model, fastnn.MeanSquaredError(), fastnn.SGD(0.5), accumulate=4)
        >>> step([[1.0]], [1.0]), step([[1.0]], [3.0])
        (1.0, 9.0)
        >>> step.flush()
        >>> model.parameters["0.weight"]
        array([[2.]], dtype=float32)
        """
        if not self._waiting:
            return
        model = self._model
        with model._hold:
            try:
                self._take_mean(1 / self._waiting_positions)
                for name in model._frozen():  # perhaps only since these batches
                    model.gradients[name].fill(0.0)
                model._chain.add_decay(self._waiting_rows)
                self._update()
            except FloatingPointError as error:
                raise self._diverged(error) from None
            finally:
                self._forget()

    def _take_mean(self, scale: float) -> None:
        """Let the model's gradients be the sum that waits, times `scale`."""
        gradients = self._model.flat_gradients
        with np.errstate(over="ignore", invalid="ignore"):
            np.multiply(self._recording.sum_like(gradients), scale, out=gradients)

    @property
    def waiting(self) -> int:
        """The number of batches that the next update has so far."""
        return self._waiting

    def missing_penalty(self) -> float:
        """What the loss of each waiting batch, times its rows, lacks if the update is made now, as
        it was given the part of the penalty that a batch among `accumulate` has."""
        if not self._waiting:
            return 0.0
        return self._model.penalty(1) * (1 / self._waiting - 1 / self._group)

    def _forget(self) -> None:
        """Drop the gradients that wait for an update."""
        if self._recording.gradient_sum is not None:
            self._recording.gradient_sum.fill(0)
        self._waiting = self._waiting_rows = self._waiting_positions = 0

    def _diverged(self, error: FloatingPointError) -> FloatingPointError:
        self._forget()
        return super()._diverged(error)

    def take_over(self, handover: Handover) -> None:
        """Go on with what an earlier `fit` of the same model, loss and optimizer recorded."""
        if self._recorded:
            self._recording = handover.take(self._optimizer, *self._others) or self._recording

    def leave(self, handover: Handover) -> None:
        """Leave what was recorded to the next `fit`."""
        if self._recorded:
            handover.leave(self._recording, self._optimizer, *self._others)

    def set_numbers(self, line: NDArray[np.float64]) -> None:
        """Set what is scheduled to the numbers of a step."""
        for number, value in zip(self.numbers, line.tolist(), strict=True):
            if not math.isnan(value):
                number.set(value)

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
        """Train on the data's rows in that order; yields the losses of the batches since the last
        one.

        They are so many in number, all of `batch_size` rows but the last.  `table` has what is
        scheduled for each.  The outputs are appended to `seen`, unless it is None.  `before` is
        called before each batch, and then each batch is yielded by itself."""
        rows = _Pass(data, order, batch_size, number, seen, table, before)
        if self._accumulate == 1:
            yield from self._pass(rows)
            return
        try:
            for first in range(0, number, self._accumulate):
                part = rows.part(first, first + self._accumulate)
                self._group = part.number
                for losses in self._pass(part):
                    if self._waiting == self._group:
                        self.flush()
                    yield losses
        finally:
            self._group = self._accumulate
            self._forget()

    def _pass(self, rows: _Pass) -> Iterator[NDArray[np.float64]]:
        """Make each batch a step; a last one of another size has a program of its own."""
        if rows.before is not None or not self._recorded:
            yield from self._pass_one_by_one(rows)
            return
        last = rows.part(rows.number - 1, rows.number)
        whole = rows.number - (len(last.order) != rows.batch_size)
        if whole:
            yield from self._replayed(rows.part(0, whole))
        if whole < rows.number:
            yield from self._replayed(last._replace(batch_size=len(last.order)))

    # ---- the definition of a step --------------------------------------------------------------

    def _run(
        self, program: AnyProgram, rows: int, weighted: bool, in_form: bool = True
    ) -> NDArray[np.float64]:
        """One step on the program's next rows; returns the loss, in an array of one element."""
        model = self._model
        with model._hold:
            model._penalty_scale[0] = 1 / self._group
            self._save_state()
            try:
                for column, number in enumerate(self.numbers if self._recorded else ()):
                    program.take_rate(number.array, number.at, column)
                outputs = self._outputs = self._forward(program, rows)
                program.give(outputs)
                targets = program.take("targets", rows)
                weight = program.take("weights", rows) if weighted else None
                value, gradient = self._measure(outputs, targets, weight, in_form)
                model._chain.add_penalty(value, rows)
                _kernels.check_value(value, self._hyper)
                self._raise_fault(value)
                self._backward(gradient, rows)
                program.end_batch(value)
            except FloatingPointError as error:
                raise self._diverged(error) from None
            except Exception:
                self._restore_state()
                raise
            finally:
                model._penalty_scale[0], model._pending = 1.0, None  # no backward follows a step
        self._count(1, outputs)
        return value

    def _measure(
        self, outputs: Array, targets: Any, weight: Any, in_form: bool
    ) -> tuple[NDArray[np.float64], Array]:
        """The loss, in an array of one element, and its gradient."""
        if is_plain(self._loss):
            if not in_form:
                targets, weight = self._loss._in_form(outputs, targets, weight)
            return self._loss._measure(outputs, targets, weight)
        # one of the user's may write into the outputs, which metrics read later
        value, gradient = call_own(self._loss, outputs.copy(), targets, weight)
        return np.array([value], np.float64), gradient

    def _backward(self, gradient: Array, rows: int) -> None:
        if self._accumulate == 1:
            super()._backward(gradient, rows)
            return
        self._model._penalty_scale[0] = 0.0  # its gradient is added once, to the mean of the sum
        self._model.backward(gradient)
        gradients = self._model.flat_gradients
        _kernels.add_scaled(
            self._recording.sum_like(gradients), gradients, float(positions_of(gradient))
        )

    def _count(self, steps: int, outputs: Array) -> None:
        """Note that so many steps are done, each with outputs like these."""
        self.steps += steps
        if self._accumulate > 1:
            self._waiting += steps
            self._waiting_rows += steps * len(outputs)
            self._waiting_positions += steps * positions_of(outputs)

    def _pass_one_by_one(self, rows: _Pass) -> Iterator[NDArray[np.float64]]:
        for i in range(rows.number):
            if rows.table is not None:
                self.set_numbers(rows.table[i])
            if rows.before is not None:
                rows.before()
            batch = rows.data.rows(rows.part(i, i + 1).order)
            value = self._train_checked(batch)
            if rows.seen is not None and self._outputs is not None:
                rows.seen.append(self._outputs.copy())  # the next replay fills the same array
            yield value

    # ---- recorded ------------------------------------------------------------------------------

    def _key(self, shape: tuple[int, ...], data: Samples) -> _Key:
        """The kind of batch that a program holds for."""
        return shape, data.targets.ndim, data.weight is None, self._accumulate, self._group

    def _record(self, key: _Key, data: Samples, **feed: Any) -> Recorded:
        """Train on the first rows, as many as the key says, and keep what was recorded."""
        program: Any = self._new_program()
        program.feed(data.X, data.targets, data.weight, **feed)
        with program:
            value = self._run(program, key[0][0], data.weight is not None)
        assert self._outputs is not None
        recorded = Recorded(program, self._outputs, value)
        self._recording.add(key, recorded)
        return recorded

    def _replay_steps(self, recorded: Recorded, steps: int) -> None:
        self._outputs = recorded.outputs
        self._replay(recorded.program, steps, recorded.value)
        self._count(steps, recorded.outputs)

    def _replayed(self, rows: _Pass) -> Iterator[NDArray[np.float64]]:
        """Replay whole batches, many in one call: as many as take some tens of milliseconds."""
        data, order, batch_size, number, seen, table, _ = rows
        losses, outputs = np.empty(number), None
        if seen is not None:
            row = self._model._chain.output_row(data.X.shape[1:]) or ()
            outputs = np.empty((len(order), *row), self._model.dtype)
            seen.append(outputs)
        feed = {"index": order, "outputs": outputs, "losses": losses, "rates": table}
        key = self._key((batch_size, *data.X.shape[1:]), data)
        recorded, done = self._recording.find(key), 0
        if recorded is None:
            recorded, done = self._record(key, data, **feed), 1
            yield losses[:1]
        else:
            recorded.program.feed(data.X, data.targets, data.weight, **feed)
        seconds = 1.0  # a step's time, guessed so that the first replay is a single step
        while done < len(losses):
            steps = max(1, min(len(losses) - done, int(_REPLAY_SECONDS / seconds)))
            start = time.perf_counter()
            self._replay_steps(recorded, steps)
            seconds = (time.perf_counter() - start) / steps
            yield losses[done : done + steps]
            done += steps
        _let_go(recorded, data)

    def replay_epochs(
        self,
        data: Samples,
        orders: NDArray[np.int64],
        batch_size: int,
        number: int,
        seen: list[Array] | None,
    ) -> tuple[NDArray[np.float64], FloatingPointError | None] | None:
        """Epochs on the data's rows, each in its order of `orders` (epochs, rows), in one native
        call: the losses (epochs, number) of those that were finished, and the error that ended
        them, if one did; None, and nothing is done, where there are no programs for the batches.

        All is as in `epoch`, without `accumulate`; `seen` gets one or two arrays that begin with
        the epochs."""
        epochs, rows = orders.shape
        whole = number - (rows != number * batch_size)
        split = whole * batch_size
        parts = [(orders[:, :split], whole), (orders[:, split:], number - whole)]
        parts = [(order, steps) for order, steps in parts if steps]
        losses: list[Array] = []
        turns: list[Recorded] = []
        for order, steps in parts:
            key = self._key((order.shape[1] // steps, *data.X.shape[1:]), data)
            turns.append(self._recording.find(key))
        if any(recorded is None for recorded in turns):
            return None
        for (order, steps), recorded in zip(parts, turns, strict=True):
            losses.append(np.empty((epochs, steps)))
            feed = {"index": np.ascontiguousarray(order), "losses": losses[-1]}
            if seen is not None:
                row = recorded.outputs.shape[1:]
                seen.append(np.empty((*order.shape, *row), self._model.dtype))
                feed["outputs"] = seen[-1].reshape(order.size, *row)
            recorded.program.feed(data.X, data.targets, data.weight, **feed)
        before, fault = self.steps, None
        first, last = turns[0], turns[1] if len(turns) > 1 else None
        self._outputs = turns[-1].outputs
        try:
            self._replay(first.program, parts[0][1], first.value, last, epochs)
        except FloatingPointError as error:
            fault = error
        else:
            self._count(epochs * number, self._outputs)
        for recorded in turns:
            _let_go(recorded, data)
        return np.hstack(losses)[: (self.steps - before) // number], fault


def _let_go(recorded: Recorded, data: Samples) -> None:
    """Let the program point to copies, so that the data are free."""
    first: list[Any] = [data.X, data.targets, data.weight]
    copies: list[Any] = [None if array is None else array[:1].copy() for array in first]
    recorded.program.feed(*copies)


def positions_of(outputs: Array) -> int:
    """How many rows of a loss's mean the outputs have."""
    return len(outputs) if outputs.ndim < 3 else outputs.size // outputs.shape[-1]
