"""Many trainings at once: `fit_many` spreads them over the threads.

Each training is a `fit` as it is; here is only who runs which, and what ends them."""

from __future__ import annotations

import contextvars
import copy
import inspect
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import fastnn._kernels as _kernels
from fastnn.data import batches
from fastnn.history import History
from fastnn.model import Sequential
from fastnn.support import checks
from fastnn.support.runtimes import get_runtime, runtime
from fastnn.support.threads import threads
from fastnn.training.interrupts import CtrlC, following

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_OWN = ("loss", "optimizer", "schedule", "average", "callbacks")  # each model has one of its own


def fit_many(
    models: Iterable[Sequential],
    X: ArrayLike | Iterable[Sequence[ArrayLike]] | None = None,
    y: ArrayLike | None = None,
    *,
    each: Iterable[Mapping[str, Any]] | None = None,
    **arguments: Any,
) -> list[History]:
    """Train many models, as ``model.fit(X, y, **arguments)`` trains one; returns their histories.

    The trainings are spread over the threads, one to each, so that small networks use them all.
    Each has the bits that it has alone.

    Parameters
    ----------
    models : `Sequential` models, trained in place; they may differ in everything
    X, y : as in `Sequential.fit`, for all models
    each : a dict for each model, of what it has of its own: any of `fit`'s arguments, X and y too
    arguments : those of `fit`, for all models
        Each model has a copy of its own of a `loss`, `optimizer`, `schedule`, `average`,
        `callbacks` and batches in place of arrays; to look at one of these afterwards, give it in
        `each`.  `progress` is False unless told otherwise.

    Callbacks, and losses and layers of your own, may be called in any thread, at the same time as
    those of other models.

    Ctrl-C ends all trainings as it ends one: those that have not begun have an empty history.

    Raises
    ------
    TypeError, ValueError
        Before the first step: for what are no models, for one that comes twice, for another number
        of dicts, for arguments that `fit` does not have, and for a callback or batches that cannot
        be copied.
    What `fit` raises
        Where trainings fail, the others go on to their ends.  The error of the first of them is
        raised then: a note says which model it was, and which others failed; its attribute
        `histories` has all histories, `errors` the errors by the model's number.

    Examples
    --------
    The best of some learning rates:

    >>> import fastnn, numpy as np
    >>> X, y = fastnn.datasets.digits()
    >>> def network(seed):
    ...     return fastnn.Sequential(
    ...         fastnn.Dense(64, 16, activation="relu"), fastnn.Dense(16, 10), seed=seed
    ...     )
    >>> rates = [1e-3, 1e-2, 1e-1]
    >>> histories = fastnn.fit_many(
    ...     [network(0) for _ in rates], X, y, loss=fastnn.SoftmaxCrossEntropy(), epochs=3,
    ...     validation_split=0.2, each=[{"optimizer": fastnn.Adam(rate)} for rate in rates],
    ... )
    >>> best = min(range(3), key=lambda i: histories[i].validation_loss[-1])
    >>> rates[best]
    0.01

    Bagging: each network is trained on rows drawn with replacement, and the mean of their
    probabilities is better than those of one:

    >>> models, rng = [network(seed) for seed in range(8)], np.random.default_rng(0)
    >>> rows = [rng.integers(0, 1500, 1500) for _ in models]
    >>> _ = fastnn.fit_many(
    ...     models, loss=fastnn.SoftmaxCrossEntropy(), optimizer=fastnn.Adam(1e-2), epochs=5,
    ...     each=[{"X": X[drawn], "y": y[drawn], "seed": i} for i, drawn in enumerate(rows)],
    ... )
    >>> outputs = [model.predict(X[1500:]) for model in models]
    >>> mean = np.mean([fastnn.Softmax().forward(logits) for logits in outputs], axis=0)
    >>> alone = np.mean([fastnn.metrics.accuracy(logits, y[1500:]) for logits in outputs])
    >>> bool(fastnn.metrics.accuracy(mean, y[1500:]) > alone)
    True
    """
    models = list(models)
    tasks = _arguments_of_each(models, X, y, each, arguments)
    with CtrlC() as ctrl_c:
        trainings = _Trainings(models, tasks, ctrl_c)
        trainings.run()
    for history in trainings.histories:
        history.interrupted |= ctrl_c.pressed and not history.epochs
    if trainings.errors:
        trainings.fail()
    return trainings.histories


class _Trainings:
    """Trainings that threads take one after the other, with their histories and errors."""

    def __init__(
        self, models: list[Sequential], tasks: list[dict[str, Any]], ctrl_c: CtrlC
    ) -> None:
        self.histories = [History() for _ in models]
        self.errors: dict[int, Exception] = {}
        self._models, self._tasks, self._ctrl_c = models, tasks, ctrl_c
        self._next, self._taking = 0, threading.Lock()
        self._threads = _kernels.granted_threads()
        self._workers = min(self._threads, len(models))
        self._ended: BaseException | None = None  # what ended a worker, such as SystemExit

    def run(self) -> None:
        """Run all, in this thread and as many others as there are."""
        name = get_runtime()
        others = [
            threading.Thread(
                target=contextvars.copy_context().run, args=(self._work, name), daemon=True
            )
            for _ in range(self._workers - 1)
        ]
        for other in others:
            other.start()
        try:
            self._work(name)
            for other in others:
                other.join()
        except BaseException:
            self._ctrl_c.pressed = True  # the others end after their steps
            raise
        finally:
            for other in others:
                other.join()
        if self._ended is not None:
            raise self._ended

    def _work(self, runtime_name: str) -> None:
        with following(self._ctrl_c), runtime(runtime_name):
            try:
                while (number := self._take()) is not None:
                    self._train(number)
            except BaseException as error:
                self._ended, self._ctrl_c.pressed = error, True

    def _take(self) -> int | None:
        with self._taking:
            if self._next == len(self._models) or self._ctrl_c.pressed:
                return None
            self._next += 1
            return self._next - 1

    def _train(self, number: int) -> None:
        share = max(1, self._threads // min(self._workers, len(self._models) - number))
        try:
            with threads(share):
                self.histories[number] = self._models[number].fit(**self._tasks[number])
        except Exception as error:
            kept: Any = getattr(error, "history", self.histories[number])
            self.histories[number] = kept
            self.errors[number] = error

    def fail(self) -> None:
        """Raise the first error."""
        first, *others = sorted(self.errors)
        error: Any = self.errors[first]
        also = f"; so did those of models {', '.join(map(str, others))}" if others else ""
        checks.note(error, f"the training of model {first} of {len(self._models)} has failed{also}")
        error.histories = self.histories
        error.errors = {number: self.errors[number] for number in (first, *others)}
        raise error


def _arguments_of_each(
    models: list[Any],
    X: Any,
    y: Any,
    each: Iterable[Mapping[str, Any]] | None,
    arguments: dict[str, Any],
) -> list[dict[str, Any]]:
    """What `fit` is called with, for each model; TypeError or ValueError for what is none."""
    for i, model in enumerate(models):
        if not isinstance(model, Sequential):
            raise TypeError(f"models: expected Sequential models, got {model!r} as number {i}")
    numbers = {id(model): i for i, model in reversed(list(enumerate(models)))}
    for i, model in enumerate(models):
        if numbers[id(model)] != i:
            raise ValueError(
                f"models: expected different ones, got the same as {numbers[id(model)]} and {i}; "
                "give copy.deepcopy(model)"
            )
    own = [{} for _ in models] if each is None else list(each)
    if len(own) != len(models):
        raise ValueError(f"each: expected {len(models)} dicts, one for each model, got {len(own)}")
    shared = arguments | {"X": X, "y": y}
    known = inspect.signature(Sequential.fit).parameters.keys() - {"self"}
    _check_names("arguments", shared, known)
    if not isinstance(shared.get("callbacks", ()), Sequential) and hasattr(
        shared.get("callbacks"), "__iter__"
    ):
        shared["callbacks"] = list(shared["callbacks"])
    tasks = []
    for i, its in enumerate(own):
        if not isinstance(its, Mapping):
            raise TypeError(f"each: expected dicts, got {its!r} as number {i}")
        _check_names(f"each[{i}]", its, known)
        common = {name: value for name, value in shared.items() if name not in its}
        tasks.append({"progress": False} | _copied(common) | dict(its))
    return tasks


def _check_names(what: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            raise TypeError(f"{what}: expected arguments of Sequential.fit, got {name!r}")


def _copied(common: dict[str, Any]) -> dict[str, Any]:
    """The arguments for all models, with copies of the objects that a training changes."""
    copied = dict(common)
    for name, value in common.items():
        if name in _OWN or _gives_batches(value):
            held = {id(array): array for array in getattr(value, "arrays", ())}
            try:  # the rows of fastnn.batches are not copied
                copied[name] = copy.deepcopy(value, held)
            except TypeError as error:
                raise TypeError(
                    f"{name}: expected what each model can have a copy of, got {value!r}; give "
                    f"each model its own in `each` ({error})"
                ) from None
    return copied


def _gives_batches(value: Any) -> bool:
    """Whether it may have a state that a pass over it changes."""
    if isinstance(value, batches):
        return True
    plain = isinstance(value, list | tuple | str | bytes | Mapping) or hasattr(value, "__array__")
    return isinstance(value, Iterable) and not plain
