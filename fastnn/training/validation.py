"""Validation: the rows that `fit` measures but does not train on, held in arrays or given batch by
batch; and how they are split off.

Between its parts Ctrl-C is looked for."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterable, Mapping, Sized
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.data import batches, stratified_split
from fastnn.support import arrays, checks
from fastnn.support.settings import is_plain
from fastnn.training.samples import (
    Samples,
    check_part,
    check_samples,
    check_targets_alike,
    counting_rows,
    labels_of,
)
from fastnn.training.sources import check_begins_anew, own_batch, together

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from fastnn.losses import Loss
    from fastnn.network import Network
    from fastnn.training.interrupts import CtrlC

    Array = NDArray[Any]
    Predicted = tuple[Array, Samples]  # the outputs, and the samples that belong to them

_FEW, _MOST = 32, 1024  # rows predicted between two looks at Ctrl-C: at first, and at most
_SECONDS = 0.1  # what they may take
_NO_X = np.empty((0, 0))
_MANY = 100_000  # batches without an end, after which a warning says that it is waited for


class Predicting:
    """Predicts as many rows at a time as take a tenth of a second, so that Ctrl-C is heard.

    Where a layer is the user's, its bits may depend on the number of rows: it stays the same."""

    def __init__(self, model: Network) -> None:
        self._model, self._adapts = model, model._chain.native
        self._rows = _FEW if self._adapts else _MOST

    def __call__(self, X: Array, ctrl_c: CtrlC) -> Array | None:
        """The outputs for X; None where Ctrl-C came."""
        outputs: list[Array] = []
        done = 0
        while done < len(X):
            if ctrl_c.pressed:
                return None
            start = time.perf_counter()
            outputs.append(self._model.predict(X[done : done + self._rows]))
            done += len(outputs[-1])
            if self._adapts:
                self._adapt(time.perf_counter() - start)
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    def _adapt(self, seconds: float) -> None:
        if seconds > _SECONDS:
            self._rows = max(1, self._rows // 2)
        elif seconds < _SECONDS / 4:
            self._rows = min(_MOST, 2 * self._rows)


class Held:
    """Rows in arrays."""

    def __init__(self, model: Network, data: Samples) -> None:
        self._data, self._predict = data, Predicting(model)

    def predict(self, ctrl_c: CtrlC) -> Predicted | None:
        """The outputs for all rows, and these; None where Ctrl-C came."""
        outputs = self._predict(self._data.X, ctrl_c)
        return None if outputs is None else (outputs, self._data)


class Given:
    """Batches that an iterable of the user's gives, one pass a validation.

    Outputs, targets and weights are kept to its end, and measured as if they had been arrays; X is
    not."""

    def __init__(self, model: Network, loss: Loss, data: Iterable[Any]) -> None:
        self._model, self._loss, self._data = model, loss, data
        if type(data) is batches:  # an order would change the last bits of the loss
            ordered = copy.copy(data)
            ordered.shuffle = False
            self._data = ordered
        self._predict = Predicting(model)

    def predict(self, ctrl_c: CtrlC) -> Predicted | None:
        """The outputs for all rows, and these without X; None where Ctrl-C came."""
        outputs: list[Array] = []
        parts: list[Samples] = []
        row: tuple[int, ...] = ()  # the shape of the first batch's
        for where, data in self._parts():
            found = self._predict(data.X, ctrl_c)
            if found is None:
                return None
            if is_plain(self._loss):
                try:
                    targets, weight = self._loss._in_form(found, data.y, data.weight)
                    data = data._replace(targets=targets, weight=weight)
                except ValueError as error:
                    raise ValueError(f"{where}y: {error}") from None
            row = row if parts else data.X.shape[1:]
            if parts and data.X.shape[1:] == row:
                check_targets_alike(data.y.shape[1:], parts[0].y.shape[1:], where)
            outputs.append(found)  # the user may use the memory of the rest again
            parts.append(Samples(_NO_X, *map(copy.copy, data[1:])))
        return _joined(outputs, parts) if parts else None

    def _parts(self) -> Iterator[tuple[str, Samples]]:
        """The batches, checked, without rows of weight 0; each with how messages about it begin."""
        number = rows = 0
        for number, batch in enumerate(self._batches(), 1):
            where = f"validation batch {number}: "
            x, y, weight = own_batch(batch, where)
            data = check_part(self._model, self._loss, x, y, weight, None, where)
            data = counting_rows(self._loss, data)
            rows += len(data.X)
            if len(data.X):
                yield where, data
        if not number:
            raise ValueError("validation_data: expected batches, got none")
        if not rows:
            raise ValueError("validation sample_weight: all weights are 0")

    def _batches(self) -> Iterator[Any]:
        """Those of a pass: as many as the data's `len`, where it has one."""
        if isinstance(self._data, Sized):
            yield from islice(self._data, len(self._data))
            return
        for number, batch in enumerate(self._data, 1):
            if number == _MANY:
                warnings.warn(
                    f"validation_data: has given {number} batches in this validation and goes on; "
                    "an endless iterable needs a __len__",
                    UserWarning,
                    stacklevel=checks.users_level(),
                )
            yield batch


Validation = Held | Given


def _joined(outputs: list[Array], parts: list[Samples]) -> Predicted:
    """All outputs and rows of the parts, in new arrays."""
    _, y, weights, targets, of_metrics = map(list, zip(*parts, strict=True))
    predicted, all_y, metric_weight = together(outputs, y, of_metrics)
    _, all_targets, weight = together(outputs, targets, weights)
    return predicted, Samples(_NO_X, all_y, weight, all_targets, metric_weight)


def make_validation(
    model: Network, loss: Loss, validation_data: Any, epochs: int, every: int
) -> Validation | None:
    """What `fit` measures: a tuple of arrays, or any other iterable of batches."""
    if validation_data is None:
        if every > 1:
            raise ValueError("validation_every: needs validation_data or validation_split")
        return None
    data, wanted = validation_data, "validation_data: expected (X, y) or (X, y, sample_weight)"
    if _is_own(data):
        check_begins_anew(data, "validation_data", -(-epochs // every), "validations")
        return Given(model, loss, data)
    if not isinstance(data, tuple | list):
        raise ValueError(f"{wanted}, or an iterable of such batches, got {arrays.describe(data)}")
    if len(data) not in (2, 3):
        raise ValueError(f"{wanted}, got {len(data)} parts")
    X, y, *weight = data
    held = check_samples(model, loss, X, y, weight[0] if weight else None, where="validation ")
    return Held(model, held)


def _is_own(data: Any) -> bool:
    """Whether it is an iterable of batches, as a list of tuples is, rather than arrays."""
    if isinstance(data, list):
        return bool(data) and all(isinstance(batch, tuple) for batch in data)
    arrays_or_text = isinstance(data, tuple | str | bytes | Mapping) or hasattr(data, "__array__")
    return isinstance(data, Iterable) and not arrays_or_text


def split_off(
    model: Network,
    loss: Loss,
    X: ArrayLike,
    y: ArrayLike | None,
    sample_weight: ArrayLike | None,
    fraction: float,
    seed: int,
) -> tuple[Samples, Held]:
    """The rows to train on, and those that are held out: of each class so many, for a loss that
    classifies."""
    if y is None:
        raise ValueError("validation_split: needs arrays; give validation_data with an iterable")
    data = check_samples(model, loss, X, y, sample_weight)
    n = len(data.X)
    if not 0 < round(fraction * n) < n:
        raise ValueError(f"validation_split: {fraction} of {n} rows would leave a part empty")
    labels = labels_of(data.y, loss)
    classes = np.zeros(n) if labels is None or labels.ndim > 1 else labels
    train, held = stratified_split(classes, fraction, seed)
    return data.rows(train), Held(model, data.rows(held))
