"""Training steps: run layer by layer the first time, replayed as one native call from then on.

While a step runs by hand, the kernels' calls are recorded into a program; replaying that does the
same on other rows and gives the same bits.  So each step has one definition: `Step` has its two
halves, forward and backward, and `TrainStep` the loss between them.  A layer, loss or optimizer of
one's own is Python that cannot be recorded: then every step runs by hand.
"""

from __future__ import annotations

import copy
import time
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import fastnn._kernels as _kernels
from fastnn.layers import Block, Dense, Sigmoid, Softmax
from fastnn.losses import SigmoidCrossEntropy, SoftmaxCrossEntropy
from fastnn.optimizers import NOT_FINITE, Optimizer
from fastnn.support import checks, settings
from fastnn.support.settings import Fixed, is_plain, label
from fastnn.training.recording import Handover, Recording, Unrecorded
from fastnn.training.samples import Samples, call_own, check_batch
from fastnn.weight_averages import check_average

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike, NDArray

    from fastnn.losses import Loss
    from fastnn.network import Network
    from fastnn.weight_averages import WeightAverage

    Array = NDArray[Any]
    AnyProgram = _kernels.Program | Unrecorded
    # x's shape, targets' ndim, no weights, accumulate and the batches of the update
    _Key = tuple[tuple[int, ...], int, bool, int, int]

_REPLAY_SECONDS = 0.03  # between two looks at signals and progress
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
        self, program: _kernels.Program, steps: int = 1, value: Array | None = None
    ) -> None:
        """Run the program on the rows that it was fed with; `value` is where it leaves the loss.

        From feeding it to reading the results, the caller holds the model."""
        self._check_weights()
        self._model._begin()
        averaged = 0 if self._average is None else self._average.updates
        done = program.replay(steps)
        if done < steps:
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


class _Recorded(NamedTuple):
    """A step's program with the arrays that it leaves its results in."""

    program: _kernels.Program
    outputs: Array
    value: NDArray[np.float64]


class _Pass(NamedTuple):
    """One pass over samples: the order of their rows, and how they become batches."""

    data: Samples
    order: NDArray[np.int64]
    batch_size: int
    number: int  # of batches; the last takes all rows that are left, be they few or many
    seen: list[Array] | None  # where outputs are appended, if they are wanted
    rates: NDArray[np.float64] | None  # the learning rates of the batches
    before: Callable[[], None] | None  # called before each batch, which is then a call of its own

    def part(self, begin: int, end: int) -> _Pass:
        """This pass over the batches begin..end only."""
        size, end = self.batch_size, min(end, self.number)
        rows = slice(begin * size, None if end == self.number else end * size)
        rates = None if self.rates is None else self.rates[begin:end]
        return self._replace(order=self.order[rows], number=end - begin, rates=rates)


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
        _check_ending(model, loss)
        self._outputs: Array | None = None
        self._last: _Recorded | None = None  # what the last step replayed
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
        return 0 if self._outputs is None else _positions(self._outputs)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_last": None}

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
            return float(value[0])

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

    def _replay_once(self, data: Samples) -> _Recorded:
        key = self._key(data.X.shape, data)
        recorded: _Recorded | None = self._recording.find(key)
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
        gradient_sum = self._recording.gradient_sum
        if not self._waiting or gradient_sum is None:
            return
        model, scale = self._model, 1 / self._waiting_positions
        with model._hold:
            try:
                with np.errstate(over="ignore", invalid="ignore"):
                    np.multiply(gradient_sum, scale, out=model.flat_gradients)
                for name in model._frozen():  # perhaps only since these batches
                    model.gradients[name].fill(0.0)
                model._chain.add_decay(self._waiting_rows)
                self._update()
            except FloatingPointError as error:
                raise self._diverged(error) from None
            finally:
                self._forget()

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

    def set_rate(self, rate: float) -> None:
        """Give the optimizer a learning rate, which may be 0 here."""
        if isinstance(self._optimizer, Optimizer):
            self._optimizer._set(learning_rate=rate)
        else:
            self._optimizer.learning_rate = rate

    def epoch(
        self,
        data: Samples,
        order: NDArray[np.int64],
        batch_size: int,
        number: int,
        seen: list[Array] | None,
        rates: NDArray[np.float64] | None = None,
        before: Callable[[], None] | None = None,
    ) -> Iterator[NDArray[np.float64]]:
        """Train on the data's rows in that order; yields the losses of the batches since the last
        one.

        They are so many in number, all of `batch_size` rows but the last.  `rates` are the batches'
        learning rates.  The outputs are appended to `seen`, unless it is None.  `before` is called
        before each batch, and then each batch is yielded by itself."""
        rows = _Pass(data, order, batch_size, number, seen, rates, before)
        if self._accumulate == 1:
            yield from self._pass(rows)
            return
        try:
            for first in range(0, number, self._accumulate):
                part = rows.part(first, first + self._accumulate)
                self._group = part.number
                for losses in self._pass(part._replace(rates=None)):
                    if self._waiting == self._group:
                        if part.rates is not None:
                            self.set_rate(part.rates[self._group - 1])
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
                outputs = self._outputs = self._forward(program, rows)
                program.give(outputs)
                targets = program.take("targets", rows)
                weight = program.take("weights", rows) if weighted else None
                value, gradient = self._measure(outputs, targets, weight, in_form)
                model._chain.add_penalty(value, rows)
                program.take_rate(self._hyper)
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
            self._recording.sum_like(gradients), gradients, float(_positions(gradient))
        )

    def _count(self, steps: int, outputs: Array) -> None:
        """Note that so many steps are done, each with outputs like these."""
        self.steps += steps
        if self._accumulate > 1:
            self._waiting += steps
            self._waiting_rows += steps * len(outputs)
            self._waiting_positions += steps * _positions(outputs)

    def _pass_one_by_one(self, rows: _Pass) -> Iterator[NDArray[np.float64]]:
        for i in range(rows.number):
            if rows.rates is not None:
                self.set_rate(rows.rates[i])
            if rows.before is not None:
                rows.before()
            batch = rows.data.rows(rows.part(i, i + 1).order)
            value = self._replay_once(batch).value if self._recorded else self._run_once(batch)
            if rows.seen is not None and self._outputs is not None:
                rows.seen.append(self._outputs.copy())  # the next replay fills the same array
            yield value

    # ---- recorded ------------------------------------------------------------------------------

    def _key(self, shape: tuple[int, ...], data: Samples) -> _Key:
        """The kind of batch that a program holds for."""
        return shape, data.targets.ndim, data.weight is None, self._accumulate, self._group

    def _record(self, key: _Key, data: Samples, **feed: Any) -> _Recorded:
        """Train on the first rows, as many as the key says, and keep what was recorded."""
        program: Any = self._new_program()
        program.feed(data.X, data.targets, data.weight, **feed)
        with program:
            value = self._run(program, key[0][0], data.weight is not None)
        assert self._outputs is not None
        recorded = _Recorded(program, self._outputs, value)
        self._recording.add(key, recorded)
        return recorded

    def _replay_steps(self, recorded: _Recorded, steps: int) -> None:
        self._outputs = recorded.outputs
        self._replay(recorded.program, steps, recorded.value)
        self._count(steps, recorded.outputs)

    def _replayed(self, rows: _Pass) -> Iterator[NDArray[np.float64]]:
        """Replay whole batches, many in one call: as many as take some tens of milliseconds."""
        data, order, batch_size, number, seen, rates, _ = rows
        losses, outputs = np.empty(number), None
        if seen is not None:
            row = self._model._chain.output_row(data.X.shape[1:]) or ()
            outputs = np.empty((len(order), *row), self._model.dtype)
            seen.append(outputs)
        feed = {"index": order, "outputs": outputs, "losses": losses, "rates": rates}
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
        first = (data.X, data.targets, data.weight)
        recorded.program.feed(*(None if array is None else array[:1].copy() for array in first))
        # now the program points to copies, and the data are free


def _positions(outputs: Array) -> int:
    """How many rows of a loss's mean the outputs have."""
    return len(outputs) if outputs.ndim < 3 else outputs.size // outputs.shape[-1]


def _check_ending(model: Network, loss: Loss) -> None:
    """Warn of a model that ends in what its loss applies itself: it would learn badly."""
    if not isinstance(loss, SoftmaxCrossEntropy | SigmoidCrossEntropy):
        return
    last, place = model.layers[-1], f"layer {len(model.layers) - 1}"
    while type(last) is Block:
        last, place = last.layers[-1], f"{place}.{len(last.layers) - 1}"
    activation = last.activation if isinstance(last, Dense) else last
    if isinstance(activation, Softmax | Sigmoid):
        what = f"the activation of {place}" if isinstance(last, Dense) else place
        warnings.warn(
            f"{loss!r} takes logits, but the model ends in {activation!r}: remove {what}, "
            f"{label(last)}",
            UserWarning,
            stacklevel=checks.users_level(),
        )
