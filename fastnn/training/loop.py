"""Training: the loop over epochs around `TrainStep`, with its history and callbacks.

`fit` checks its input before the first step, so that an error leaves the model as it was.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn import schedules
from fastnn.measures import chosen_metrics
from fastnn.support import checks
from fastnn.support.settings import is_plain, label
from fastnn.training import faults, progress, resume
from fastnn.training.callbacks import checked_callbacks
from fastnn.training.interrupts import CtrlC
from fastnn.training.run import LAST_COLUMN, Run
from fastnn.training.samples import call_own, check_samples, check_validation
from fastnn.training.sources import make_source
from fastnn.training.step import TrainStep

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    from fastnn.training.sources import Source

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
    validation_data: tuple[ArrayLike, ...] | None,
    shuffle: bool,
    drop_last: bool,
    seed: int,
    sample_weight: ArrayLike | None,
    class_weight: Mapping[int, float] | str | None,
    metrics: Sequence[str | Metric] | None,
    schedule: schedules.Factors | None,
    accumulate: int,
    callbacks: Iterable[Callback],
    resume_from: str | PathLike[str] | None,
    show_progress: bool,
) -> History:
    """`Sequential.fit`, where all arguments are explained; through `handover` one fit of the model
    leaves its recording to the next."""
    epochs = checks.positive_int(epochs, "epochs")
    batch_size = checks.positive_int(batch_size, "batch_size")
    checks.objects(loss=loss, optimizer=optimizer, model=model)
    chosen, callbacks = chosen_metrics(metrics, loss), checked_callbacks(callbacks)
    with model.exclusive("fit"):
        step = TrainStep(model, loss, optimizer, accumulate)
        source = make_source(
            model, loss, X, y, epochs, batch_size, shuffle, seed, sample_weight, class_weight,
            checks.flag(drop_last, "drop_last"),
        )  # fmt: skip
        _check_schedule(schedule, optimizer, source)
        validation = check_validation(model, loss, validation_data)
        step.take_over(handover)
        run = Run(model, loss, optimizer, epochs, source.order, _columns(chosen, validation))
        if resume_from is not None:
            resume.restore(resume_from, run)
        training = _Training(step, source, schedule, chosen, validation)
        display = progress.display(show_progress, epochs, source.rows, run.epoch)
        with (
            faults.keep_history(run),
            CtrlC() as ctrl_c,
            closing(display),
            _telling(callbacks, run),
        ):
            _run_epochs(run, training, callbacks, display, ctrl_c)
        run.history.interrupted = ctrl_c.pressed
        if not ctrl_c.pressed:
            step.leave(handover)
    return run.history


_ROWS = 1024  # validated between two looks at Ctrl-C


class _Training(NamedTuple):
    """What the epochs of a `fit` have in common."""

    step: TrainStep
    source: Source
    schedule: schedules.Factors | None
    metrics: Mapping[str, Measure]
    validation: Samples | None


def _run_epochs(
    run: Run,
    training: _Training,
    callbacks: list[Callback],
    display: progress.Silent,
    ctrl_c: CtrlC,
) -> None:
    """Train until all epochs are done, a callback stops the run or Ctrl-C is pressed."""
    step, source, schedule, metrics, validation = training
    while run.epoch < run.epochs and not (run.stopped or ctrl_c.pressed):
        _tell(callbacks, "on_epoch_begin", run)
        with _naming(run.epoch + 1), _scheduled(schedule, run, source.steps) as rates:
            results = _train_epoch(step, source, rates, metrics, display, ctrl_c)
        if results is None:
            break
        if validation is not None:
            outputs = _predict(run.model, validation.X, ctrl_c)
            if outputs is None:
                break
            measured = _measure(run.loss, outputs, validation, metrics)
            results |= {f"validation_{name}": v for name, v in measured.items()}
        run.record(results)
        _tell(callbacks, "on_epoch_end", run)
        display.epoch(run.results)


def _columns(metrics: Mapping[str, Measure], validation: Samples | None) -> list[str]:
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
            yield
        finally:
            for callback in reversed(begun):
                ends.callback(_tell, [callback], "on_fit_end", run)


def _tell(callbacks: list[Callback], hook: str, run: Run) -> None:
    """Call that method of the callbacks; an error out of it says whose it was."""
    for callback in callbacks:
        with faults.named(f"{label(callback)}.{hook}", run):
            getattr(callback, hook)(run)


def _check_schedule(
    schedule: schedules.Factors | None, optimizer: Optimizer, source: Source
) -> None:
    if schedule is None:
        return
    if isinstance(schedule, type) or not callable(schedule):
        wanted = "schedule: expected a function of t and epochs, or such as fastnn.Cosine()"
        raise TypeError(f"{wanted}, got {schedule!r}")
    if not hasattr(optimizer, "learning_rate"):
        raise TypeError(f"schedule: {optimizer!r} has no learning_rate")
    if not source.steps:
        raise ValueError("schedule: needs to know the steps of an epoch; give X a __len__")


@contextmanager
def _scheduled(
    schedule: schedules.Factors | None, run: Run, steps: int
) -> Iterator[NDArray[np.float64] | None]:
    """The learning rates of an epoch; afterwards the optimizer has its own rate again."""
    if schedule is None:
        yield None
        return
    rate = run.optimizer.learning_rate
    largest = float(np.finfo(run.model.dtype).max)
    with faults.named(f"the schedule {getattr(schedule, '__name__', label(schedule))}", run):
        rates = schedules.rates(schedule, rate, run.epoch, run.epochs, steps, largest)
    try:
        yield rates
    finally:
        run.optimizer.learning_rate = rate


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
    rates: NDArray[np.float64] | None,
    metrics: Mapping[str, Measure],
    display: progress.Silent,
    ctrl_c: CtrlC,
) -> dict[str, float] | None:
    """One pass over the data: its results, or None where Ctrl-C ended it.

    The outputs are kept, so that the metrics are computed once an epoch.
    """
    start = time.perf_counter()
    seen: list[Array] | None = [] if metrics else None
    losses: list[NDArray[np.float64]] = []
    for rows, part in source.epoch(step, rates, seen):
        losses.append(part.copy())
        display.step(rows, part)
        if ctrl_c.pressed and not source.finished:
            return None
    seconds = time.perf_counter() - start
    results = {"loss": source.mean_loss(np.concatenate(losses))}
    if seen:
        measured = source.measured(seen)
        results |= {name: metric(*measured) for name, metric in metrics.items()}
    rate = getattr(step.optimizer, "learning_rate", float("nan"))
    speed = {"seconds": seconds, "samples_per_second": source.rows / seconds}
    return results | {"learning_rate": float(rate)} | speed


def _predict(model: Network, X: Array, ctrl_c: CtrlC) -> Array | None:
    """The predictions for X, in which Ctrl-C is looked for every few rows; None where it came."""
    outputs: list[Array] = []
    for start in range(0, len(X), _ROWS):
        if ctrl_c.pressed:
            return None
        outputs.append(model.predict(X[start : start + _ROWS]))
    return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)


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
