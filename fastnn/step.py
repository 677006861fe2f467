"""Training steps: run layer by layer the first time, replayed as one native call from then on.

While a step runs by hand, the kernels' calls are recorded into a program; replaying that does the
same on other rows and gives the same bits.  So `TrainStep._run` is the step's one definition, and
`GradientStep` has one for each half.  A program holds for one shape of the batch and one kind of
targets, and until a setting changes.  A layer, loss or optimizer of one's own is Python that cannot
be recorded: then every step runs by hand.
"""

from __future__ import annotations

import sys
import time
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn import _arrays, _chain, _checks, _kernels, _settings
from fastnn._layer import label
from fastnn._settings import Fixed, is_plain
from fastnn.layers import Dense, Sigmoid, Softmax
from fastnn.losses import SigmoidCrossEntropy, SoftmaxCrossEntropy
from fastnn.optimizers import NOT_FINITE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from fastnn.losses import Loss
    from fastnn.model import Sequential
    from fastnn.optimizers import Optimizer

    Array = NDArray[Any]
    # x's shape, targets' ndim, no weights, accumulate and the batches of the update
    _Key = tuple[tuple[int, ...], int, bool, int, int]

_PROGRAMS = 16  # kept, the oldest goes first: one for each shape of x and kind of targets
_REPLAY_SECONDS = 0.03  # between two looks at signals and progress

_FAULT = _kernels.HYPER["fault"]


class Samples(NamedTuple):
    """Rows to train on."""

    X: Array
    y: Array
    weight: Array | None


class _Step:
    """What both steps share: a model and its optimizer, replays, and what happens to a fault."""

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


class _Recording(NamedTuple):
    """A program with the arrays that it leaves its results in."""

    program: _kernels.Program
    outputs: Array
    value: NDArray[np.float64]


class TrainStep(_Step):
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
        if self._recorded:
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
        if self._accumulate == 1:
            yield from self._pass(data, order, batch_size, seen, rates)
            return
        group = batch_size * self._accumulate
        try:
            for start in range(0, len(order), group):
                part = order[start : start + group]
                self._group = -(-len(part) // batch_size)
                yield from self._pass(data, part, batch_size, seen, None)
                if rates is not None:
                    self.set_rate(rates[start // batch_size])
                self.flush()
        finally:
            self._group = self._accumulate
            self._forget()

    def _pass(
        self,
        data: Samples,
        order: NDArray[np.int64],
        batch_size: int,
        seen: list[Array] | None,
        rates: NDArray[np.float64] | None,
    ) -> Iterator[NDArray[np.float64]]:
        """`epoch`, each batch a step; a last short one has a recording of its own."""
        if not self._recorded:
            yield from self._pass_by_hand(data, order, batch_size, seen, rates)
            return
        whole = len(order) // batch_size * batch_size
        for first, end, rows in ((0, whole, batch_size), (whole, len(order), len(order) - whole)):
            if first < end:
                part = None if rates is None else rates[first // batch_size :]
                yield from self._replayed(data, order[first:end], rows, seen, part)

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
                _kernels.check_value(value, self._hyper)
                self._raise_fault(value)
                if program is not None:
                    program.take_rate(self._hyper)
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
                model._share[0] = 1.0
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

    def _pass_by_hand(
        self,
        data: Samples,
        order: NDArray[np.int64],
        batch_size: int,
        seen: list[Array] | None,
        rates: NDArray[np.float64] | None,
    ) -> Iterator[NDArray[np.float64]]:
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

    def _replayed(
        self,
        data: Samples,
        order: NDArray[np.int64],
        rows: int,
        seen: list[Array] | None,
        rates: NDArray[np.float64] | None,
    ) -> Iterator[NDArray[np.float64]]:
        """Batches of so many rows, many in one call: as many as take some tens of milliseconds."""
        losses, outputs = np.empty(len(order) // rows), None
        if seen is not None:
            outputs = np.empty((len(order), *self._outputs_shape(data.X)[1:]), self._model.dtype)
            seen.append(outputs)
        feed: dict[str, Any] = {"index": order, "outputs": outputs, "losses": losses}
        feed["rates"] = rates
        key = self._key((rows, *data.X.shape[1:]), data.y, data.weight)
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


@dataclass
class _Halves:
    """A step in two programs, between which the user makes the gradient."""

    forward: _kernels.Program | None
    outputs: Array
    saved: list[tuple[Any, ...] | None]  # what each layer keeps for its backward
    backward: _kernels.Program | None = None


class GradientStep(_Step):
    """A training step whose gradient you make yourself, as policy gradients and custom losses do.

    ``outputs = step.forward(xb)`` runs the model in training, ``step.backward(gradient)`` takes
    the gradient of your loss by these outputs, runs the model backward and updates it.  Both are
    recorded and replayed as in `TrainStep`.  `steps` counts the steps done.

    >>> import fastnn
    >>> model = fastnn.Sequential(fastnn.Dense(2, 1), seed=0)
    >>> step = GradientStep(model, fastnn.SGD(0.1))
    >>> x, wanted = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0], [2.0]])
    >>> for _ in range(200):
    ...     outputs = step.forward(x)
    ...     step.backward((outputs - wanted) / len(x))
    >>> bool(abs(model.predict(x) - wanted).max() < 0.1)
    True
    """

    def __init__(self, model: Sequential, optimizer: Optimizer) -> None:
        super().__init__(model, optimizer)
        self._half: _Halves | None = None
        self._passes = 0  # of the model, after this step's forward

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_half": None}

    def forward(self, xb: ArrayLike) -> Array:
        """The outputs for a batch, in training.

        Shapes: `xb` (batch, ...), the outputs (batch, out_features).  The next `forward` on a
        batch of that shape overwrites them, and until `backward` they must stay as they are.
        Raises as `Sequential.forward` does.
        """
        x = self._model._input(xb, "x")
        with self._model._hold:
            halves: _Halves | None = self._find(x.shape)
            if halves is None or halves.forward is None:
                halves = self._forward_by_hand(x)
            else:
                halves.forward.feed(x)
                self._replay(halves.forward)
            self._half, self._passes = halves, self._model._passes
            return halves.outputs.view()  # whose shape may be set

    def backward(self, gradient: ArrayLike) -> None:
        """Backward from the outputs' gradient, and the update.

        Shapes: `gradient` as the outputs of `forward`, once after each.  Raises RuntimeError
        without a `forward` before it, or if the model was trained otherwise since; ValueError for
        another shape; FloatingPointError where the update would be NaN or infinite: those
        parameters stay as they were.
        """
        halves = self._half
        if halves is None:
            raise RuntimeError("backward needs a forward(xb) of this step before each call")
        dy = _arrays.real_array(gradient, "gradient", self._model.dtype)
        if dy.shape != halves.outputs.shape:
            raise ValueError(
                f"gradient: expected the outputs' shape {halves.outputs.shape}, got {dy.shape}"
            )
        with self._model._hold:
            self._model._check_trainer()
            self._half = None
            if self._passes != self._model._passes:
                raise RuntimeError(
                    "the model has begun another training pass since this step's forward"
                )
            if halves.backward is None or self._changes != _settings.changes:
                self._backward_by_hand(halves, dy)
            else:
                halves.backward.feed(dy)
                self._replay(halves.backward)
            self.steps += 1

    def _forward_by_hand(self, x: Array) -> _Halves:
        model, program = self.model, self._new_program(x)
        with program or nullcontext():
            self._save_state()
            if program is not None:
                x = program.take("x", len(x))
            outputs = model.forward(x, training=True)
        halves = _Halves(program, outputs, [layer._saved for layer in model._path])
        if program is not None:
            self._keep(x.shape, halves)
        return halves

    def _backward_by_hand(self, halves: _Halves, dy: Array) -> None:
        model, program = self.model, self._new_program(dy)
        with program or nullcontext():
            if program is not None:
                dy = program.take("x", len(dy))
                for layer, saved in zip(model._path, halves.saved, strict=True):
                    layer._saved = saved
                model._pending = dy.shape
            try:
                model.backward(dy)
                self._optimizer.step(model)
            except FloatingPointError as error:
                raise self._diverged(error) from None
        halves.backward = program

    def _new_program(self, x: Array) -> _kernels.Program | None:
        """One that takes rows from x, or None where nothing can be recorded."""
        if not self._recorded:
            return None
        program = _kernels.Program(self._hyper, self._model._hold)
        program.feed(x)
        return program


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
            stacklevel=users_level(),
        )


def users_level() -> int:
    """The stacklevel with which a warning of the caller's shows the user's line."""
    frame, level = sys._getframe(1), 1
    between = ("fastnn.", "contextlib")  # the latter runs what ends a `with` of fastnn's
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(between):
        frame, level = frame.f_back, level + 1
    return level


def _trains_as_fastnn(model: Sequential) -> bool:
    """Whether nobody has put Python of his own into the model's training."""
    methods = (getattr(model, name) for name in ("forward", "backward", "update"))
    return all(method.__module__ == "fastnn.model" for method in methods)
