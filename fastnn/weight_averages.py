"""Averages of a model's weights while it trains: over its steps or its epochs; and batch norm's
statistics for such weights.  (Averages of any numbers are in averages.py.)

Averaged weights often predict better than those of the last step.  An average has a vector of its
own beside the model's; `applied` exchanges the two."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn._kernels as _kernels
from fastnn.layers import BatchNorm
from fastnn.support import checks
from fastnn.support.arrays import aligned_zeros, writable
from fastnn.support.settings import Fixed, Guarded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import ArrayLike, NDArray

    from fastnn.network import Network

    Array = NDArray[Any]
    Arrays = Mapping[str, Any]

_STEP, _RATE = _kernels.HYPER["step"], _kernels.HYPER["mean_rate"]


class WeightAverage(Guarded):
    """Base of the averages a of the parameters p: a += r_t (p - a) at the update t = 1, 2, ...,
    with r_1 = 1.  A derived class sets r_t in `_advance`.

    It belongs to the first model that it averages."""

    each_step = False  # whether `fit` and steps update it, and not the ends of epochs
    _model: Network | None = None
    _statistics: dict[str, Array] | None = None  # those of training, while averages are applied

    def __init__(self) -> None:
        self._hyper = np.zeros(len(_kernels.HYPER))  # as an optimizer's: t and r_t are in it
        self._vector = np.zeros(0)  # the averages; while they are applied, the model's own weights

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._hyper, self._vector = writable(self._hyper), writable(self._vector)

    @property
    def updates(self) -> int:
        """How many updates it has averaged."""
        return int(self._hyper[_STEP])

    def _set_updates(self, count: int) -> None:
        self._hyper[_STEP] = count

    @property
    def is_applied(self) -> bool:
        """Whether the model has the averaged weights now, as within `applied`."""
        return self._statistics is not None

    @property
    def flat_parameters(self) -> Array:
        """The averaged weights in one vector, laid out as the model's `flat_parameters`.

        Raises RuntimeError before the first update."""
        if self._model is None:
            raise RuntimeError(f"{self!r} has averaged nothing yet")
        return self._model.flat_parameters if self.is_applied else self._vector

    def update(self, model: Network) -> None:
        """Take the model's present weights into the average.

        Raises ValueError for another model than the first, RuntimeError while averages are
        applied, or if another thread is training the model."""
        if not hasattr(model, "_hold"):
            raise TypeError(f"model: expected a Sequential, got {model!r}")
        if self._model is None:
            self._attach(model)
        self._check_model(model)
        self._check_not_applied("update")
        with model._hold:
            self._advance()
            rate = self._hyper[_RATE : _RATE + 1]
            for at in model._slices.values() if _kernels.recording() else [slice(None)]:
                _kernels.lerp(self._vector[at], model.flat_parameters[at], rate)

    def _check_not_applied(self, what: str) -> None:
        if self.is_applied:
            raise RuntimeError(
                f"{what}: the model has the averaged weights now; leave `applied`, or call "
                "put_back()"
            )

    def _check_model(self, model: Network) -> None:
        if model is not self._model:
            raise ValueError(
                f"model: {self!r} has averaged another model before; make one for each"
            )

    def _advance(self) -> None:
        """Set t and r_t for the next update."""
        raise NotImplementedError(f"{type(self).__name__} has no _advance")

    def _attach(self, model: Network) -> None:
        self._vector = aligned_zeros(model.flat_parameters.size, model.dtype)
        self._model = model

    @contextmanager
    def applied(self) -> Iterator[None]:
        """``with average.applied():`` the model has the averaged weights meanwhile.

        Afterwards it has its own again, also its running statistics, if `update_batch_norm` put
        those right for the average.  Raises RuntimeError before the first update."""
        if self._model is None or not self.updates:
            raise RuntimeError(f"applied: {self!r} has averaged nothing yet")
        if self.is_applied:
            yield
            return
        self._apply()
        try:
            yield
        finally:
            self.put_back()

    def put_back(self) -> None:
        """Give the model its own weights and running statistics, if it has the averaged ones.

        For a loop of your own that goes on from a checkpoint of `fit`."""
        if self._model is not None and self._statistics is not None:
            self._exchange(self._model)
            for name, array in self._model.state.items():
                array[...] = self._statistics[name]
            self._statistics = None

    # ---- in a training and its files -----------------------------------------------------------

    def _begin(self, model: Network) -> None:
        """Begin anew, with that model."""
        if self._model is None:
            self._attach(model)
        self._check_model(model)
        self._check_not_applied("fit")
        self._set_updates(0)

    @contextmanager
    def _training(self) -> Iterator[None]:
        """The model has its own weights meanwhile, and afterwards the averaged ones."""
        self.put_back()
        try:
            yield
        finally:
            self._apply()

    @contextmanager
    def _left_to_the_model(self) -> Iterator[None]:
        """In the end, the averaged weights are the model's own."""
        try:
            yield
        finally:
            if self._model is not None and self.is_applied:
                self._vector[...] = self._model.flat_parameters
                self._statistics = None

    def _end_epoch(self, epoch: int) -> None:
        """Epoch `epoch`, counted from 1, is done, and the model has its own weights."""

    def _apply(self) -> None:
        """Give the model the averaged weights, if there are some."""
        if self._model is not None and self.updates and not self.is_applied:
            self._statistics = {name: array.copy() for name, array in self._model.state.items()}
            self._exchange(self._model)

    def _exchange(self, model: Network) -> None:
        with model._hold:
            its = model.flat_parameters.copy()
            model.flat_parameters[...] = self._vector
            self._vector[...] = its

    def _arrays(self) -> dict[str, Array]:
        """Views of its vector, and the statistics of training, by names such as ``"0.weight"``."""
        if self._model is None:
            return {}
        parameters, slices = self._model.parameters, self._model._slices
        views = {
            name: self._vector[slices[name]].reshape(p.shape) for name, p in parameters.items()
        }
        return views | (self._statistics or {})

    def _restore(self, model: Network, updates: int, is_applied: bool, arrays: Arrays) -> None:
        """Become the average of that model whose `_arrays` these were."""
        if self._model is None:
            self._attach(model)
        self._check_model(model)
        self._set_updates(updates)
        self._statistics = {n: a.copy() for n, a in model.state.items()} if is_applied else None
        for name, array in self._arrays().items():
            array[...] = arrays[name]


def check_average(average: Any) -> None:
    """Raise TypeError for what is neither an average of weights nor None."""
    if average is not None and not isinstance(average, WeightAverage):
        raise TypeError(
            "average: expected None or an object such as fastnn.ExponentialMovingAverage(), got "
            f"{average!r}"
        )


class ExponentialMovingAverage(WeightAverage):
    """The moving average of the weights over the steps, a = decay a + (1 - decay) p, corrected for
    its start at 0: a / (1 - decay^t).

    `decay`, in [0, 1), averages about the last 1 / (1 - decay) steps.  The correction is Adam's
    (D. P. Kingma, J. Ba, 2015): the first average is the first weights.  Kept as r_t = (1 - decay)
    / (1 - decay^t), it is a += r_t (p - a), part of the recorded step.  ``fit(average=...)`` uses
    it for validation and keeps it at the end.  In a loop of your own give it to `TrainStep` or
    `GradientStep`, or call `update` after each step.

    Raises TypeError or ValueError for another `decay`.

    >>> import fastnn
    >>> X, y = fastnn.datasets.digits()
    >>> model = fastnn.Sequential(fastnn.Dense(64, 10), seed=0)
    >>> average = ExponentialMovingAverage(0.9)
    >>> loss = fastnn.SoftmaxCrossEntropy()
    >>> step = fastnn.TrainStep(model, loss, fastnn.SGD(2.0), average=average)
    >>> for xb, yb in fastnn.batches(X, y, batch_size=32):
    ...     value = step(xb, yb)
    >>> with average.applied():
    ...     averaged = model.evaluate(X, y, loss=loss)["loss"]
    >>> averaged < model.evaluate(X, y, loss=loss)["loss"]
    True
    """

    each_step = True
    decay = Fixed[float]()

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        self.decay = checks.fraction(decay, "decay")
        self._hyper[_kernels.HYPER["beta1"]] = self.decay

    def _advance(self) -> None:
        _kernels.advance_step(self._hyper)


class StochasticWeightAverage(WeightAverage):
    """The mean of the weights at the ends of the epochs from `start_epoch` on, counted from 1.

    P. Izmailov et al., 2018, Averaging weights leads to wider optima and better generalization; it
    is meant for a learning rate that stays high in these epochs.  For ``fit(average=...)``, which
    uses it for validation from then on and keeps it at the end; in a loop of your own call `update`
    after each of these epochs.

    Raises TypeError or ValueError for a `start_epoch` that is no integer >= 1.

    >>> import fastnn
    >>> model = fastnn.Sequential(fastnn.Dense(1, 1, weight_init="zeros"))
    >>> average = StochasticWeightAverage(start_epoch=2)
    >>> for weight in (1.0, 3.0):
    ...     model.parameters["0.weight"][...] = weight
    ...     average.update(model)
    >>> with average.applied():
    ...     print(model.parameters["0.weight"])
    [[2.]]
    """

    start_epoch = Fixed[int]()

    def __init__(self, start_epoch: int) -> None:
        super().__init__()
        self.start_epoch = checks.positive_int(start_epoch, "start_epoch")

    def _advance(self) -> None:
        self._hyper[_STEP] += 1.0
        self._hyper[_RATE] = 1.0 / self._hyper[_STEP]

    def _end_epoch(self, epoch: int) -> None:
        if self._model is not None and epoch >= self.start_epoch:
            self.update(self._model)


def update_batch_norm(model: Network, X: ArrayLike, batch_size: int = 32, seed: int = 0) -> None:
    """Compute batch norm's running statistics anew: the means over batches of `X`.

    For weights that were not trained as they are, such as averaged ones.  Rows go forward as in
    training, dropout included, in an order drawn from `seed`, once and `batch_size` at a time; the
    last batch has what is left, too.  Nothing else moves: no parameters, no count of passes on
    which dropout's masks depend, no statistics of frozen layers.

    Shapes: `X` (n, ...) as the model takes it.  Raises as `Sequential.forward` does, ValueError for
    a single row; the statistics are then as before.

    >>> import fastnn
    >>> X, y = fastnn.datasets.digits()
    >>> model = fastnn.Sequential(fastnn.Dense(64, 8), fastnn.BatchNorm(8), seed=0)
    >>> update_batch_norm(model, X)
    >>> x = model.layers[0].forward(X)
    >>> bool(abs(model.state["1.running_mean"] - x.mean(axis=0)).max() < 1e-5)
    True
    """
    batch_size, seed = checks.positive_int(batch_size, "batch_size"), checks.seed(seed)
    norms = moving_norms(model)
    X = X if isinstance(X, np.ndarray) else np.asarray(X)
    model._chain.check_input(X.shape, "X")
    with model.exclusive("update_batch_norm"):
        before = {name: array.copy() for name, array in model.state.items()}
        counter, trainer = model._counter.copy(), model._trainer
        momenta = [norm._momentum for norm in norms]
        moved = {id(array) for norm in norms for array in norm.state.values()}
        try:
            _average_batches(model, norms, X, batch_size, np.random.default_rng(seed))
        except BaseException:
            moved = set()
            raise
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm._momentum = momentum
            for name, array in model.state.items():
                if id(array) not in moved:
                    array[...] = before[name]
            model._counter[...], model._trainer, model._pending = counter, trainer, None
            model._chain.saved = (None,) * len(model.layers)


def moving_norms(model: Network) -> list[BatchNorm]:
    """The batch norms whose running statistics training moves."""
    layers = (layer for layer, _ in model._chain.walk())
    return [layer for layer in layers if isinstance(layer, BatchNorm) and layer.trainable]


def _average_batches(
    model: Network, norms: list[BatchNorm], X: Array, batch_size: int, rng: np.random.Generator
) -> None:
    """Let the running statistics become their means over all batches, each counted by its rows."""
    order = rng.permutation(len(X))
    for norm in norms:
        for array in norm.state.values():
            array[...] = 0.0
    number = max(1, len(X) // batch_size)
    for i in range(number):
        begin = i * batch_size
        end = len(X) if i + 1 == number else begin + batch_size
        for norm in norms:
            norm._momentum = (end - begin) / end  # read by the kernel alone: no setting changes
        model.forward(X[np.sort(order[begin:end])], training=True)
