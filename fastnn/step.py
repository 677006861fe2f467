"""Training steps: run layer by layer the first time, replayed as one native call from then on.

While a step runs by hand, the kernels' calls are recorded into a program; replaying that does the
same on other rows and gives the same bits.  So `TrainStep._run` is the step's one definition, and
`GradientStep` has one for each half.  A program holds for one shape of the batch and one kind of
targets, and until a setting changes.  A layer, loss or optimizer of one's own is Python that cannot
be recorded: then every step runs by hand.
"""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn import _arrays, _checks, _kernels, _settings
from fastnn._layer import label
from fastnn._settings import Fixed
from fastnn._step import Step
from fastnn.layers import Dense, Sigmoid, Softmax
from fastnn.losses import SigmoidCrossEntropy, SoftmaxCrossEntropy
from fastnn.optimizers import Optimizer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from fastnn.losses import Loss
    from fastnn.model import Sequential

    Array = NDArray[Any]
    # x's shape, targets' ndim, no weights, accumulate and the batches of the update
    _Key = tuple[tuple[int, ...], int, bool, int, int]


_REPLAY_SECONDS = 0.03  # between two looks at signals and progress


class Samples(NamedTuple):
    """Rows to train on."""

    X: Array
    y: Array
    weight: Array | None


class _Rows(NamedTuple):
    """What `TrainStep.epoch` is given."""

    data: Samples
    order: NDArray[np.int64]
    batch_size: int
    seen: list[Array] | None
    rates: NDArray[np.float64] | None

    def part(self, begin: int, end: int) -> _Rows:
        """The same of rows begin..end of the order; begin is that of a batch."""
        rates = None if self.rates is None else self.rates[begin // self.batch_size :]
        return self._replace(order=self.order[begin:end], rates=rates)


class _Recording(NamedTuple):
    """A program with the arrays that it leaves its results in."""

    program: _kernels.Program
    outputs: Array
    value: NDArray[np.float64]


class TrainStep(Step):
    """One training step: forward, loss, backward, update.

    ``step(xb, yb, sample_weight=None)`` returns the loss of the batch, the model's L2 penalty
    included, as it was before the update.  `xb` is (batch, ...), `yb` what the loss takes,
    `sample_weight` (batch,).  `outputs` holds the model's outputs of the last step, `steps`
    the number of steps done.

    With `accumulate` = k only every k-th step updates, with the mean of the gradients of these k
    batches, each counted by its rows: as one step on all of them does, but for batch norm and
    sample weights, which see one batch at a time.

    The first step on a batch of some shape is recorded; those after it replay it without Python
    and give the same bits.  `recorded` says whether that can be: it needs layers, loss and
    optimizer of fastnn's own.

    Raises FloatingPointError when the loss is NaN or infinite, before anything is updated, or an
    update would be: those parameters stay as they were.  Running statistics are those before.
    TypeError or ValueError for an `accumulate` that is no integer >= 1.

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
        self, model: Sequential, loss: Loss, optimizer: Optimizer, accumulate: int = 1
    ) -> None:
        _checks.parts(loss=loss)
        super().__init__(model, optimizer, loss)
        self.loss = loss
        self.accumulate = _checks.positive_int(accumulate, "accumulate")
        _check_ending(model, loss)
        self._outputs: Array | None = None
        self._group = self._accumulate  # batches that the next update is made from
        self._sum: Array | None = None  # Σ rows gradients of those that it waits for
        self._waiting = self._waiting_rows = 0

    @property
    def outputs(self) -> Array | None:
        """The model's outputs of the last step, in training; None before the first."""
        return None if self._outputs is None else self._outputs.copy()

    def __call__(
        self, xb: ArrayLike, yb: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        with self._model._hold:
            last: _Recording | None = self._last
            if (
                last is not None
                and sample_weight is None
                and self._changes == _settings.changes
                and last.program.point(xb, yb, self._loss._largest)
            ):  # the same kind of batch again
                self._replay_steps(last, 1)
                value = last.value
            else:
                value = self._step(xb, yb, sample_weight)
            if self._waiting == self._accumulate:
                self.flush()
            return float(value[0])

    def _step(
        self, xb: ArrayLike, yb: ArrayLike, sample_weight: ArrayLike | None
    ) -> NDArray[np.float64]:
        x = self._model._input(xb, "x")
        if not self._recorded:
            return self._run(x, yb, sample_weight)
        y, weight = self._prepare(x, yb, sample_weight)
        key = self._key(x.shape, y, weight)
        recording = self._find(key)
        if recording is None:
            recording = self._record(key, Samples(x, y, weight))
        else:
            recording.program.feed(x, y, weight)
            self._replay_steps(recording, 1)
        if self._model._codes is None:  # codes are looked at each time
            self._last = recording
        value: NDArray[np.float64] = recording.value
        return value

    def flush(self) -> None:
        """Update with the batches that an update waits for, if there are some, few as they are."""
        if not self._waiting or self._sum is None:
            return
        model, share = self._model, 1 / self._waiting_rows
        with model._hold:
            try:
                with np.errstate(over="ignore", invalid="ignore"):
                    np.multiply(self._sum, share, out=model.flat_gradients)
                self._optimizer.step(model)
            except FloatingPointError as error:
                raise self._diverged(error) from None
            finally:
                self._forget()

    def _forget(self) -> None:
        """No update waits for anything."""
        if self._sum is not None:
            self._sum.fill(0)
        self._waiting = self._waiting_rows = 0

    def _diverged(self, error: FloatingPointError) -> FloatingPointError:
        self._forget()
        return super()._diverged(error)

    def set_rate(self, rate: float) -> None:
        """Give the optimizer a learning rate, which may be 0 here."""
        if isinstance(self._optimizer, Optimizer):
            self._optimizer._set(learning_rate=rate)
        else:
            self._optimizer.learning_rate = rate

    def take_over(self) -> None:
        """Go on with what the last `fit` of the same model, loss and optimizer recorded."""
        if not self._recorded:
            return
        kept, self._optimizer._kept = self._optimizer._kept, None  # not for a fit within this one
        if kept is not None and self._optimizer._model is self._model and kept[0] is self._loss:
            self.__dict__.update(kept[1])

    def leave(self) -> None:
        """Leave what was recorded to the next `fit`.  It dies with the optimizer, whose vectors it
        is about."""
        if self._recorded:
            names = ("_recordings", "_before", "_changes", "_sum")
            self._optimizer._kept = (self._loss, {name: self.__dict__[name] for name in names})

    def prepare(self, data: Samples) -> Samples:
        """Samples as `epoch` takes them, their targets checked."""
        if not self._recorded:
            return data
        return Samples(data.X, *self._prepare(data.X, data.y, data.weight))

    def epoch(
        self,
        data: Samples,
        order: NDArray[np.int64],
        batch_size: int,
        seen: list[Array] | None,
        rates: NDArray[np.float64] | None = None,
    ) -> Iterator[NDArray[np.float64]]:
        """Train on data's rows in that order: yields the losses of the batches since the last one.

        `rates` are the batches' learning rates.  The outputs are appended to `seen`, unless it is
        None."""
        rows = _Rows(data, order, batch_size, seen, rates)
        if self._accumulate == 1:
            yield from self._pass(rows)
            return
        group = batch_size * self._accumulate
        try:
            for start in range(0, len(order), group):
                part = rows.part(start, start + group)
                self._group = -(-len(part.order) // batch_size)
                yield from self._pass(part._replace(rates=None))
                if part.rates is not None:
                    self.set_rate(part.rates[self._group - 1])
                self.flush()
        finally:
            self._group = self._accumulate
            self._forget()

    def _pass(self, rows: _Rows) -> Iterator[NDArray[np.float64]]:
        """Each batch a step; a last short one has a recording of its own."""
        if not self._recorded:
            yield from self._pass_by_hand(rows)
            return
        whole, left = len(rows.order) // rows.batch_size, len(rows.order) % rows.batch_size
        if whole:
            yield from self._replayed(rows.part(0, whole * rows.batch_size))
        if left:
            last = rows.part(whole * rows.batch_size, len(rows.order))
            yield from self._replayed(last._replace(batch_size=left))

    def _run(
        self,
        x: Array,
        y: ArrayLike,
        weight: ArrayLike | None,
        program: _kernels.Program | None = None,
    ) -> NDArray[np.float64]:
        """A step on these rows, or on as many that the program is fed with; returns the loss."""
        model, rows = self._model, len(x)
        model._share[0] = 1 / self._group
        with model._hold:
            self._save_state()
            try:
                if program is not None:
                    x, y = program.take("x", rows), program.take("targets", rows)
                    weight = None if weight is None else program.take("weights", rows)
                self._outputs = outputs = model.forward(x, training=True)
                if program is not None:
                    program.give(outputs)
                value, gradient = self._evaluate(outputs, y, weight)
                model._add_penalty(value, rows)
                if program is not None:
                    program.take_rate(self._hyper)
                _kernels.check_value(value, self._hyper)
                self._raise_fault(value)
                model.backward(gradient)
                if self._accumulate == 1:
                    self._optimizer.step(model)
                else:
                    self._add_gradients(rows)
                if program is not None:
                    program.end_batch(value)
            except FloatingPointError as error:
                raise self._diverged(error) from None
            except Exception:
                self._restore_state()
                raise
            finally:
                model._share[0], model._pending = 1.0, None  # no backward follows a step
        self._count(1, rows)
        return value

    def _add_gradients(self, rows: int) -> None:
        """Keep the gradients for the update that waits for them."""
        gradients = self._model.flat_gradients
        if self._sum is None:
            self._sum = _arrays.aligned_zeros(gradients.size, gradients.dtype)
        _kernels.add_scaled(self._sum, gradients, float(rows))

    def _count(self, steps: int, rows: int) -> None:
        """So many steps are done, each on so many rows."""
        self.steps += steps
        if self._accumulate > 1:
            self._waiting += steps
            self._waiting_rows += steps * rows

    def _evaluate(
        self, outputs: Array, y: ArrayLike, weight: ArrayLike | None
    ) -> tuple[NDArray[np.float64], Array]:
        if self._recorded:  # then they have been prepared
            return self._loss._measure(outputs, y, weight)  # type: ignore[arg-type]
        value, gradient = self._loss(outputs, y, weight)
        return np.array([value], np.float64), gradient

    def _pass_by_hand(self, rows: _Rows) -> Iterator[NDArray[np.float64]]:
        data, order, batch_size, seen, rates = rows
        for start in range(0, len(order), batch_size):
            if rates is not None:
                self.set_rate(rates[start // batch_size])
            index = order[start : start + batch_size]
            weight = None if data.weight is None else data.weight.take(index)
            value = self._run(data.X.take(index, axis=0), data.y.take(index, axis=0), weight)
            if seen is not None and self._outputs is not None:
                seen.append(self._outputs)
            yield value

    # ---- recorded ------------------------------------------------------------------------------

    def _prepare(
        self, x: Array, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[Array, Array | None]:
        """Targets and weights in the kernel's form, checked."""
        outputs = np.empty(self._outputs_shape(x), self._model.dtype)
        return self._loss._prepare(outputs, y, sample_weight)

    def _outputs_shape(self, x: Array) -> tuple[int, ...]:
        return len(x), *(self._model._shape_after(x.shape[1:]) or ())

    def _key(self, shape: tuple[int, ...], y: Array, weight: Array | None) -> _Key:
        return shape, y.ndim, weight is None, self._accumulate, self._group

    def _record(self, key: _Key, data: Samples, **feed: Any) -> _Recording:
        """Train on the first rows, as many as the key says, and keep the recording."""
        program = _kernels.Program(self._hyper, self._model._hold)
        program.feed(*data, **feed)
        with program:
            value = self._run(data.X[: key[0][0]], data.y, data.weight, program)
        assert self._outputs is not None
        recording = _Recording(program, self._outputs, value)
        self._keep(key, recording)
        return recording

    def _replay_steps(self, recording: _Recording, steps: int) -> None:
        self._outputs = recording.outputs
        self._replay(recording.program, steps, recording.value)
        self._count(steps, len(recording.outputs))

    def _replayed(self, rows: _Rows) -> Iterator[NDArray[np.float64]]:
        """Whole batches, many in one call: as many as take some tens of milliseconds."""
        data, order, batch_size, seen, rates = rows
        losses, outputs = np.empty(len(order) // batch_size), None
        if seen is not None:
            outputs = np.empty((len(order), *self._outputs_shape(data.X)[1:]), self._model.dtype)
            seen.append(outputs)
        feed = {"index": order, "outputs": outputs, "losses": losses, "rates": rates}
        key = self._key((batch_size, *data.X.shape[1:]), data.y, data.weight)
        recording, done = self._find(key), 0
        if recording is None:
            recording, done = self._record(key, data, **feed), 1
            yield losses[:1]
        else:
            recording.program.feed(*data, **feed)
        seconds = 1.0  # that a step takes: not known yet, so begin with one
        while done < len(losses):
            steps = max(1, min(len(losses) - done, int(_REPLAY_SECONDS / seconds)))
            start = time.perf_counter()
            self._replay_steps(recording, steps)
            seconds = (time.perf_counter() - start) / steps
            yield losses[done : done + steps]
            done += steps
        row = (None if array is None else array[:1].copy() for array in data)
        recording.program.feed(*row)  # and the data are free


def _check_ending(model: Sequential, loss: Loss) -> None:
    """Warn of a network that ends in what its loss applies itself: it would learn badly."""
    if not isinstance(loss, SoftmaxCrossEntropy | SigmoidCrossEntropy):
        return
    last, place = model.layers[-1], f"layer {len(model.layers) - 1}"
    activation = last.activation if isinstance(last, Dense) else last
    if isinstance(activation, Softmax | Sigmoid):
        what = f"the activation of {place}" if isinstance(last, Dense) else place
        warnings.warn(
            f"{loss!r} takes logits, but the model ends in {activation!r}: remove {what}, "
            f"{label(last)}",
            UserWarning,
            stacklevel=_checks.users_level(),
        )
