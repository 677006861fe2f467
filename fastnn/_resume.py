"""A training that goes on in `fit` from a checkpoint: what was saved, put into the user's objects.

The model must be of the same architecture and the optimizer of the same rule; what may be set at
any time, such as a learning rate or dropout's, is taken from the checkpoint."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fastnn import _chain, _describe, persistence
from fastnn._layer import label
from fastnn._settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from fastnn.callbacks import Run
    from fastnn.model import Sequential
    from fastnn.optimizers import Optimizer
    from fastnn.persistence import Checkpoint


def restore(path: str | PathLike[str], run: Run) -> None:
    """Put the checkpoint into the run's model, optimizer, order and history.

    Raises as `load_checkpoint` does, and one ValueError that lists all that differs: nothing is
    changed then."""
    persistence.check_savable(run.model, run.optimizer)
    saved = persistence.load_checkpoint(path)
    if faults := [*_differences(run, saved)]:
        raise ValueError(f"resume: {os.fsdecode(path)} differs: {'; '.join(faults)}")
    assert saved.history is not None
    run.model.load_state_dict(saved.model.state_dict())  # raises before it changes anything
    run.model._counter[...] = saved.model._counter
    _copy_settings(run.model, saved.model)
    _copy_optimizer(run.optimizer, saved.optimizer, run.model)
    if run.order is not None and saved.order is not None:
        run.order.load_state_dict(saved.order)
    run.history = saved.history
    run.history.interrupted = False


def _differences(run: Run, saved: Checkpoint) -> Iterator[str]:
    mine, others = run.model, saved.model
    for name in ("seed", "dtype", "l2"):
        yield from _differ(name, getattr(mine, name), getattr(others, name))
    yield from _differ("number of layers", len(mine.layers), len(others.layers))
    for i, (layer, other) in enumerate(zip(mine.layers, others.layers, strict=False)):
        if _fixed(_describe.describe(layer, f"layer {i}")) != _fixed(_describe.describe(other, "")):
            yield f"layer {i} is {label(layer)}, in the file {label(other)}"
    rules = [type(optimizer).__name__ for optimizer in (run.optimizer, saved.optimizer)]
    yield from _differ("optimizer", *rules)
    if saved.history is None:
        yield "the file has no history"
    elif saved.history.epochs:
        yield from _differ("history", run.columns, list(saved.history))
    if run.order is not None and saved.order is not None:
        yield from _differ("number of rows", len(run.order.arrays[0]), saved.order["rows"])
    elif run.order is not None:
        yield "the file has no order of the rows"
    elif saved.order is not None:
        yield "the batches are your own, in the file those of arrays"


def _differ(what: str, mine: Any, other: Any) -> Iterator[str]:
    if mine != other:
        yield f"{what} is {mine}, in the file {other}"


def _fixed(described: Any) -> Any:
    """Of a described layer, what cannot be set later, without how it began."""
    if isinstance(described, list):
        return [_fixed(part) for part in described]
    if not isinstance(described, dict):
        return described
    may = settings(_describe.PARTS[described["type"]])
    return {
        name: _fixed(value)
        for name, value in described.items()
        if name not in may and not name.endswith("_init")
    }


def _copy_settings(model: Sequential, saved: Sequential) -> None:
    """Of layers, those within others and activations within layers too."""
    for (layer, _), (other, _) in zip(
        _chain.walk(model.layers), _chain.walk(saved.layers), strict=True
    ):
        _set_all(layer, other)
        if hasattr(layer, "activation"):
            _set_all(layer.activation, other.activation)


def _set_all(part: object, other: object) -> None:
    for name in settings(type(part)):
        setattr(part, name, getattr(other, name))


def _copy_optimizer(optimizer: Optimizer, saved: Optimizer, model: Sequential) -> None:
    _set_all(optimizer, saved)
    if optimizer._model is None and saved._model is not None:
        optimizer._attach(model)
    kept = saved._kept_arrays()
    for name, array in optimizer._kept_arrays().items():
        array[...] = kept.get(name, 0.0)
    optimizer._set(step=saved._get("step"))
