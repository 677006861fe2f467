"""Resume: a training goes on in `fit` from a checkpoint, in the user's own objects.

The model must be of the same architecture and the optimizer of the same rule; what may be set at
any time, such as a learning rate or dropout's, is taken from the checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastnn.files import checkpoint, describe
from fastnn.network import BELONGINGS, Network
from fastnn.schedules import Schedule
from fastnn.support.settings import label, settable
from fastnn.training.run import LAST_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from fastnn.history import History
    from fastnn.optimizers import Optimizer
    from fastnn.training.run import Run


def restore(path: str | PathLike[str], run: Run) -> None:
    """Put the checkpoint into the run's model, optimizer, order and history.

    Raises as `load_checkpoint` does, and one ValueError that lists all that differs: nothing is
    changed then."""
    checkpoint.check_savable(run.model, run.optimizer)
    model, optimizer, order, history, fit = checkpoint.read_training(path, Network)
    faults = [*_differences(run, model, optimizer, order, history)]
    faults += _other_arguments(run.arguments, fit.arguments)
    faults += _differ("average", run.average, fit.average)
    if faults:
        raise ValueError(f"resume: {os.fsdecode(path)} differs: {'; '.join(faults)}")
    assert history is not None
    run.model.load_state_dict(model.state_dict())  # raises before it changes anything
    run.model._counter[...] = model._counter
    for name in BELONGINGS:
        if (saved := getattr(model, name)) is not None:
            setattr(run.model, name, saved)
    _copy_settings(run.model, model)
    _copy_optimizer(run.optimizer, optimizer, run.model)
    if run.order is not None and order is not None:
        run.order.load_state_dict(order)
    run.take_history(history)
    run.restored = fit.kept
    if run.average is not None and fit.average is not None and fit.average.updates:
        its = fit.average
        run.average._restore(run.model, its.updates, its.is_applied, its._arrays())


def arguments_of(
    loss: Any, schedule: Any, weighted: bool, class_weight: Any, **others: Any
) -> dict[str, Any]:
    """Those arguments of `fit` that must be the same after a resume, as what a file can hold.

    Of functions no more is known than their names, of weights than that there were some; of a loss
    its class, since its settings may change."""
    if isinstance(class_weight, Mapping):
        labels = sorted(class_weight, key=str)
        class_weight = str({str(label): float(class_weight[label]) for label in labels})
    if isinstance(schedule, Mapping):
        schedule = str({kind: _named(schedule[kind]) for kind in sorted(schedule)})
    elif schedule is not None:
        schedule = _named(schedule)
    named = {"loss": type(loss).__name__, "schedule": schedule, "class_weight": class_weight}
    return named | {"sample_weight": "given" if weighted else None} | others


def _named(schedule: Any) -> str:
    name: str = getattr(schedule, "__name__", type(schedule).__name__)
    return repr(schedule) if isinstance(schedule, Schedule) else name


def _differences(
    run: Run,
    others: Network,
    optimizer: Optimizer,
    order: dict[str, int] | None,
    history: History | None,
) -> Iterator[str]:
    """Say in words, one by one, what of the run differs from the file."""
    mine = run.model
    for name in ("seed", "dtype", "l1", "l2", "compute"):
        yield from _differ(name, getattr(mine, name), getattr(others, name))
    yield from _differ("number of layers", len(mine.layers), len(others.layers))
    for i, (layer, other) in enumerate(zip(mine.layers, others.layers, strict=False)):
        if _fixed(describe.describe(layer, f"layer {i}")) != _fixed(describe.describe(other, "")):
            yield f"layer {i} is {label(layer)}, in the file {label(other)}"
    yield from _differ("optimizer", type(run.optimizer).__name__, type(optimizer).__name__)
    if history is None:
        yield "the file has no history"
    elif history.epochs:
        yield from _differ("history", run.columns, _own_columns(history))
    if run.order is not None and order is not None:
        yield from _differ("number of rows", len(run.order.arrays[0]), order["rows"])
    elif run.order is not None:
        yield "the file has no order of the rows"
    elif order is not None:
        yield "the batches are your own, in the file those of arrays"


def _other_arguments(mine: dict[str, Any], others: dict[str, Any] | None) -> Iterator[str]:
    """The same of arguments; nothing is known of those of files of older versions."""
    if others is not None:
        for name in {**mine, **others}:
            yield from _differ(name, mine.get(name), others.get(name))


def _own_columns(history: History) -> list[str]:
    """The names of what `fit` itself has measured; callbacks log behind them."""
    names = list(history)
    return names[: names.index(LAST_COLUMN) + 1] if LAST_COLUMN in names else names


def _differ(what: str, mine: Any, other: Any) -> Iterator[str]:
    if mine != other and repr(mine) != repr(other):
        yield f"{what} is {mine}, in the file {other}"


def _fixed(described: Any) -> Any:
    """A layer's description without its settings, which may differ, and without its initializers,
    which have done their work."""
    if isinstance(described, list):
        return [_fixed(part) for part in described]
    if not isinstance(described, dict):
        return described
    may = settable(describe.PARTS[described["type"]])
    return {
        name: _fixed(value)
        for name, value in described.items()
        if name not in may and not name.endswith("_init")
    }


def _copy_settings(model: Network, saved: Network) -> None:
    """Copy the settings of all layers, also of those within others, and of their activations."""
    for (layer, _), (other, _) in zip(model._chain.walk(), saved._chain.walk(), strict=True):
        _set_all(layer, other)
        if hasattr(layer, "activation"):
            _set_all(layer.activation, other.activation)


def _set_all(part: object, other: object) -> None:
    for name in settable(type(part)):
        setattr(part, name, getattr(other, name))


def _copy_optimizer(optimizer: Optimizer, saved: Optimizer, model: Network) -> None:
    _set_all(optimizer, saved)
    if optimizer._model is None and saved._model is not None:
        optimizer._attach(model)
    its = saved._arrays()
    for name, array in optimizer._arrays().items():
        array[...] = its.get(name, 0.0)
    optimizer._set(step=saved._get("step"))
