"""Training: the loop over epochs around `TrainStep`, with its history and callbacks.

`fit` checks its input before the first step, so that an error leaves the model as it was.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn import weight_averages
from fastnn.measures import chosen_metrics, is_own
from fastnn.support import checks
from fastnn.support.settings import is_plain, label
from fastnn.training import faults, progress, resume, scheduled
from fastnn.training.callbacks import checked_callbacks, takes
from fastnn.training.interrupts import CtrlC
from fastnn.training.run import LAST_COLUMN, Run
from fastnn.training.samples import call_own, check_samples
from fastnn.training.sources import Rows, Stream, make_source
from fastnn.training.train_step import TrainStep
from fastnn.training.validation import make_validation, split_off

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray

    from fastnn.history import History
    from fastnn.losses import Loss
    from fastnn.measures import Measure, Metric
    from fastnn.network import Network
    from fastnn.optimizers import Optimizer
    from fastnn.training.callbacks import Callback
    from fastnn.training.recording import Handover
    from fastnn.training.samples import Samples
    from fastnn.training.scheduled import AnySchedule, Table
    from fastnn.training.sources import Source
    from fastnn.training.validation import Validation
    from fastnn.weight_averages import WeightAverage

    Array = NDArray[Any]


def fit(
    model: Network,
    handover: Handover,
    X: Any,
    y: ArrayLike | None,
    *,
    loss: Loss,
    optimizer: Optimizer,
    epochs: int,
    batch_size: int,
    validation_data: Any,
    validation_split: float | None,
    validation_every: int,
    steps_per_epoch: int | None,
    shuffle: bool,
    drop_last: bool,
    seed: int,
    sample_weight: ArrayLike | None,
    class_weight: Mapping[int, float] | str | None,
    metrics: Sequence[str | Metric] | None,
    schedule: AnySchedule | None,
    accumulate: int,
    average: WeightAverage | None,
    callbacks: Iterable[Callback],
    resume_from: str | PathLike[str] | None,
    show_progress: bool,
    distributed: Any,
) -> History:
    """`Sequential.fit`, where all arguments are explained; through `handover` one fit of the model
    leaves its recording to the next."""
    world = _world(distributed)
    epochs = checks.positive_int(epochs, "epochs")
    batch_size = checks.positive_int(batch_size, "batch_size")
    validation_every = checks.positive_int(validation_every, "validation_every")
    if steps_per_epoch is not None:
        steps_per_epoch = checks.positive_int(steps_per_epoch, "steps_per_epoch")
    checks.flag(shuffle, "shuffle")
    checks.flag(show_progress, "progress")
    checks.objects(loss=loss, optimizer=optimizer, model=model)
    chosen, callbacks = chosen_metrics(metrics, loss), checked_callbacks(callbacks)
    with model.exclusive("fit"), world.fitting():
        weight_averages.check_average(average)
        by_steps = average if average is not None and average.each_step else None
        step = world.step(model, loss, optimizer, accumulate, average=by_steps)
        held, weighted = None, sample_weight is not None
        if validation_split is not None:
            if validation_data is not None:
                raise ValueError("validation_split: expected None beside validation_data")
            validation_split = checks.proportion(validation_split, "validation_split")
            data, held = split_off(model, loss, X, y, sample_weight, validation_split, seed)
            X, y, sample_weight = data.X, data.y, data.metric_weight  # the loss adds its own
        source = make_source(
            model, loss, X, y, epochs, batch_size, shuffle, seed, sample_weight, class_weight,
            checks.flag(drop_last, "drop_last"), steps_per_epoch, world.stream,
        )  # fmt: skip
        scheduled.check(schedule, step.numbers, optimizer, source.steps)
        validation = held or make_validation(model, loss, validation_data, epochs, validation_every)
        step.take_over(handover)
        columns = _columns(chosen, validation)
        as_before = resume.arguments_of(
            loss, schedule, weighted, class_weight, batch_size=batch_size, shuffle=shuffle,
            drop_last=drop_last, accumulate=step.accumulate,
            steps_per_epoch=None if steps_per_epoch is None else source.steps,
            validation_every=validation_every, validation_split=validation_split,
            seed=None if validation_split is None else int(seed),
        )  # fmt: skip
        run = Run(
            model, loss, optimizer, epochs, source.order, columns, as_before, validation_every
        )
        if average is not None:
            average._begin(model)
            run.average = average
        if resume_from is not None:
            resume.restore(world.here(resume_from), run)
            if isinstance(source, Stream) and run.epoch < epochs:
                source.skip(run.epoch)
        world.check(run, source)
        told = world.callbacks(callbacks, run, step)
        training = _Training(step, source, schedule, chosen, validation)
        display = progress.display(
            show_progress and world.rank == 0, epochs, source.rows, run.epoch
        )
        with (
            nullcontext() if average is None else average._left_to_the_model(),
            faults.keep_history(run),
            CtrlC() as ctrl_c,
            closing(display),
            _telling(told, run),
        ):
            _run_epochs(run, training, told, display, ctrl_c)
        run.history.interrupted = ctrl_c.pressed
        if not ctrl_c.pressed:
            step.leave(handover)
    return run.history


class Alone:
    """The world of a training in one process; what `fastnn.mpi.World` does for several."""

    rank = 0
    step = TrainStep
    stream = Stream

    def fitting(self) -> AbstractContextManager[None]:
        """A block around the whole training."""
        return nullcontext()

    def here(self, path: Any) -> Any:
        """A path where this process finds the file of that path."""
        return path

    def check(self, run: Run, source: Source) -> None:
        """Raise ValueError where processes differ in what they train."""

    def callbacks(self, callbacks: list[Callback], run: Run, step: TrainStep) -> list[Callback]:
        """Those that this process tells."""
        return callbacks


def _world(distributed: Any) -> Any:
    """The world of a `fit`; a single process goes on as it does without one."""
    if distributed is None:
        return Alone()
    if not hasattr(distributed, "fitting"):
        raise TypeError(f"distributed: expected a fastnn.mpi.World or None, got {distributed!r}")
    return distributed if distributed.size > 1 else Alone()


class _Training(NamedTuple):
    """What the epochs of a `fit` have in common."""

    step: TrainStep
    source: Source
    schedule: AnySchedule | None
    metrics: Mapping[str, Measure]
    validation: Validation | None


def _run_epochs(
    run: Run,
    training: _Training,
    callbacks: list[Callback],
    display: progress.Silent,
    ctrl_c: CtrlC,
) -> None:
    """Train until all epochs are done, a callback stops the run or Ctrl-C is pressed."""
    step, source, schedule, metrics, validation = training
    batches = _Batches(run, callbacks, step)
    looked_at, norms_are_right = validation is not None or bool(callbacks), True
    first = run.epoch  # which is timed, and whose steps are recorded
    together = not looked_at and _can_train_together(run, training, display)
    while run.epoch < run.epochs and not (run.stopped or ctrl_c.pressed):
        if together and run.epoch > first and _train_together(run, training):
            continue
        _tell(callbacks, "on_epoch_begin", run)
        norms_are_right = False
        with (
            _naming(run.epoch + 1),
            scheduled.of_epoch(schedule, step.numbers, run, source.steps) as table,
            nullcontext() if run.average is None else run.average._training(),
        ):
            results = _train_epoch(step, source, table, metrics, display, ctrl_c, batches)
            if run.average is not None and results is not None:
                run.average._end_epoch(run.epoch + 1)
        if results is None:
            break
        if looked_at:
            _update_norms(run, source)
            norms_are_right = True
        if validation is not None and (run.stopped or run.due(run.epoch + 1)):
            predicted = validation.predict(ctrl_c)
            if predicted is None:
                break
            measured = _measure(run.loss, *predicted, metrics)
            results |= {f"validation_{name}": v for name, v in measured.items()}
        run.record(results)
        _tell(callbacks, "on_epoch_end", run)
        display.epoch(run.measured)
    if not norms_are_right:
        _update_norms(run, source)


_TOGETHER_SECONDS = 0.03  # of epochs in one native call, between two looks at Ctrl-C
_TOGETHER_MOST = 500  # of them, as beside other programs they may take many times as long


def _can_train_together(run: Run, training: _Training, display: progress.Silent) -> bool:
    """Whether several epochs may be one native call: where nothing but validation and callbacks
    could look at one of them before the next, or change what it takes."""
    step, source, schedule, metrics, _ = training
    own = schedule is None and run.average is None and all(map(is_own, metrics.values()))
    silent = type(display) is progress.Silent
    return own and silent and isinstance(source, Rows) and step.recorded and step.accumulate == 1


def _train_together(run: Run, training: _Training) -> bool:
    """Train as many epochs as take some tens of milliseconds; False if nothing was done."""
    step, source, _, metrics, _ = training
    seconds = run.history.seconds[-1]
    number = min(run.epochs - run.epoch, _TOGETHER_MOST, int(_TOGETHER_SECONDS / seconds))
    if number < 2 or not isinstance(source, Rows):
        return False
    start = time.perf_counter()
    epochs = source.epochs(step, number, bool(metrics))
    if epochs is None:
        return False
    seconds = (time.perf_counter() - start) / number
    try:
        for losses, seen in epochs:
            run.record(_results(step, source, losses, seen, metrics, seconds))
    except FloatingPointError as error:
        raise FloatingPointError(f"epoch {run.epoch + 1}, {error}") from None
    return True


def _update_norms(run: Run, source: Source) -> None:
    """Compute batch norm's statistics anew, if the model has averaged weights."""
    is_applied = run.average is not None and run.average.is_applied
    if is_applied and weight_averages.moving_norms(run.model):
        source.update_batch_norm(run.model)


class _Batches:
    """What happens around the batches of an epoch, where a callback wants to know of them."""

    def __init__(self, run: Run, callbacks: list[Callback], step: TrainStep) -> None:
        hooks = ("on_batch_begin", "on_batch_end")
        told = [callback for callback in callbacks if any(takes(callback, h) for h in hooks)]
        self._run, self._callbacks, self._step = run, told, step
        self.before = self._begin if told else None

    def begin_epoch(self) -> None:
        self._run.batch, self._run.batch_loss = 0, float("nan")
        self._stopped = self._run.stopped  # after this epoch, which is then trained whole

    def _begin(self) -> None:
        _tell(self._callbacks, "on_batch_begin", self._run)

    def end(self, losses: NDArray[np.float64]) -> bool:
        """Note the losses of the batches that are done; whether the epoch ends with them."""
        run = self._run
        run.batch += len(losses)
        run.batch_loss = float(losses[-1])
        _tell(self._callbacks, "on_batch_end", run)
        return run.stopped and not self._stopped and not self._step.waiting


def _columns(metrics: Mapping[str, Measure], validation: Validation | None) -> list[str]:
    """The history's columns, in their order."""
    measured = ["loss", *metrics]
    validated = [f"validation_{name}" for name in measured] if validation is not None else []
    columns = [*measured, *validated, "learning_rate", "seconds", LAST_COLUMN]
    for name in metrics:
        if columns.count(name) > 1:
            raise ValueError(f"metrics: {name!r} is the name of another result")
    return columns


@contextmanager
def _telling(callbacks: list[Callback], run: Run) -> Iterator[None]:
    """Tell the callbacks that training begins; those that were told so hear of its end too."""
    with ExitStack() as ends:  # all hear of the end, also where one of them raises
        begun: list[Callback] = []
        try:
            for callback in callbacks:
                callback._enter()
                ends.callback(callback._leave)
                begun.append(callback)
                _tell([callback], "on_fit_begin", run)
            run.restored = {}
            yield
        finally:
            for callback in reversed(begun):
                ends.callback(_tell, [callback], "on_fit_end", run)


def _tell(callbacks: list[Callback], hook: str, run: Run) -> None:
    """Call that method of the callbacks; an error out of it says whose it was."""
    for callback in callbacks:
        with faults.named(f"{label(callback)}.{hook}", run):
            getattr(callback, hook)(run)


def evaluate(
    model: Network,
    X: ArrayLike,
    y: ArrayLike,
    loss: Loss,
    metrics: Sequence[str | Metric] | None,
    sample_weight: ArrayLike | None,
    batch_size: int,
) -> dict[str, float]:
    """`Sequential.evaluate`, where all arguments are explained."""
    checks.objects(loss=loss)
    chosen = chosen_metrics(metrics, loss)
    data = check_samples(model, loss, X, y, sample_weight)
    return _measure(loss, model.predict(data.X, batch_size), data, chosen)


def _train_epoch(
    step: TrainStep,
    source: Source,
    table: Table | None,
    metrics: Mapping[str, Measure],
    display: progress.Silent,
    ctrl_c: CtrlC,
    batches: _Batches,
) -> dict[str, float] | None:
    """One pass over the data: its results, or None where Ctrl-C ended it.

    The outputs are kept, so that the metrics are computed once an epoch.
    """
    start = time.perf_counter()
    seen: list[Array] | None = [] if metrics else None
    losses: list[NDArray[np.float64]] = []
    batches.begin_epoch()
    for rows, part in source.epoch(step, table, seen, batches.before):
        losses.append(part.copy())
        display.step(rows, part)
        ended = batches.end(part)
        if ctrl_c.pressed and not source.finished:
            return None
        if ended:
            break
    seconds = time.perf_counter() - start
    return _results(step, source, np.concatenate(losses), seen, metrics, seconds)


def _results(
    step: TrainStep,
    source: Source,
    losses: NDArray[np.float64],
    seen: list[Array] | None,
    metrics: Mapping[str, Measure],
    seconds: float,
) -> dict[str, float]:
    """An epoch's line of the history, from the losses of its batches and the outputs seen."""
    results = {"loss": source.mean_loss(losses)}
    if seen:
        measured = source.measured(seen)
        results |= {name: metric(*measured) for name, metric in metrics.items()}
    rate = getattr(step.optimizer, "learning_rate", float("nan"))
    speed = {"seconds": seconds, "samples_per_second": source.done / seconds}
    return results | {"learning_rate": float(rate)} | speed


def _measure(
    loss: Loss, outputs: Array, data: Samples, metrics: Mapping[str, Measure]
) -> dict[str, float]:
    if is_plain(loss):
        value = loss.evaluate(outputs, data.targets, data.weight)[0]
    else:  # it may write into its arguments
        value = call_own(loss, outputs.copy(), data.y.copy(), data.weight)[0]
    measured = outputs, data.y, data.metric_weight
    return {"loss": value} | {name: metric(*measured) for name, metric in metrics.items()}


@contextmanager
def _naming(epoch: int) -> Iterator[None]:
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"epoch {epoch}, {error}") from None
