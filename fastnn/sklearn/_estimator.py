"""Perceptron: base of the two scikit-learn estimators, a `Sequential` made from settings, trained
by its `fit` or by L-BFGS, and shown as ``coefs_`` and ``intercepts_``.

Imports scikit-learn, and so is imported by fastnn.sklearn alone."""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer_names
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from fastnn import optimizers
from fastnn.layers import (
    Activation,
    BatchNorm,
    Dense,
    Dropout,
    Layer,
    activations,
)
from fastnn.model import Sequential
from fastnn.predictor import Ensemble
from fastnn.sklearn import _lbfgs, _rows, _tables
from fastnn.sklearn._batches import WeightedBatches, set_penalty
from fastnn.sklearn._epochs import Epochs
from fastnn.sklearn._members import fit_ensemble
from fastnn.sklearn._saved import side_by_side
from fastnn.sklearn._scoring import Scoring
from fastnn.sklearn._task import LINKS, Task
from fastnn.support import arrays
from fastnn.support.threads import threads
from fastnn.training.samples import Samples, count_batches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.data import TableEncoder

    Array = NDArray[Any]

STOCHASTIC = ("sgd", "adam")
_NAMES = {"identity": "linear", "logistic": "sigmoid"}  # scikit-learn's names: fastnn's
_FEW_ROWS = 100  # up to so many rows, training is in float64: see `_exact`
_SPARSE_ROWS = 1024  # so many rows of a sparse X are made dense at a time, to predict
_NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)


def _at_least(low: int, closed: str = "left", kind: type = Real, high: int | None = None) -> Any:
    return Interval(kind, low, high, closed=closed)


class _Fitted(BaseEstimator):
    """The attributes that `fit` gives an estimator."""

    model_: Sequential
    encoder_: TableEncoder
    coefs_: list[Array]
    intercepts_: list[Array]
    loss_curve_: list[float]
    validation_loss_curve_: list[float]
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    best_loss_: float | None
    _task: Task
    _optimizer: optimizers.Optimizer
    _best: dict[str, Array] | None  # the state that scored best


@dataclass(repr=False, eq=False)
class Perceptron(_Fitted, ABC):
    """Base of both estimators, with the parameters that they have in common."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", _at_least(1, kind=Integral)],
        "activation": [StrOptions({*_NAMES, *activations.ACTIVATIONS}), Activation],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [_at_least(0)],
        "batch_size": [StrOptions({"auto"}), _at_least(1, kind=Integral)],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [_at_least(0, "neither")],
        "power_t": [_at_least(0)],
        "max_iter": [_at_least(1, kind=Integral)],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [_at_least(0)],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [_at_least(0, "both", high=1)],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [_at_least(0, high=1)],
        "beta_1": [_at_least(0, high=1)],
        "beta_2": [_at_least(0, high=1)],
        "epsilon": [_at_least(0, "neither")],
        "n_iter_no_change": [_at_least(1, kind=Integral), Options(Real, {np.inf})],
        "max_fun": [_at_least(1, kind=Integral)],
        "dropout": [_at_least(0, high=1)],
        "batch_norm": ["boolean"],
        "callbacks": [list, tuple, None],
        "categorical_features": ["array-like", StrOptions({"auto", "from_dtype"}), None],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "dtype": "no_validation",  # NumPy has many names for a type, which fastnn checks itself
        "n_threads": [_at_least(1, kind=Integral), None],
        "n_ensembles": [_at_least(1, kind=Integral)],
    }

    loss: Any = "squared_error"
    hidden_layer_sizes: Any = (100,)
    activation: Any = "relu"
    _: KW_ONLY
    solver: str = "adam"
    alpha: float = 0.0001
    batch_size: Any = "auto"
    learning_rate: str = "constant"
    learning_rate_init: float = 0.001
    power_t: float = 0.5
    max_iter: int = 200
    shuffle: bool = True
    random_state: Any = None
    tol: float = 1e-4
    verbose: Any = False
    warm_start: bool = False
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    n_iter_no_change: float = 10
    max_fun: int = 15000
    dropout: float = 0.0
    batch_norm: bool = False
    callbacks: Any = None
    scoring: Any = None
    categorical_features: Any = None
    dtype: Any = "float32"
    n_threads: int | None = None
    n_ensembles: int = 1

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        takes_tables = self.categorical_features is not None
        tags.input_tags.sparse = not takes_tables
        tags.input_tags.allow_nan = tags.input_tags.categorical = takes_tables
        tags.input_tags.string = takes_tables
        return tags

    # ---- what the derived class says -----------------------------------------------------------

    @abstractmethod
    def _get_ready(self, y: Array, first: bool, incremental: bool) -> Task:
        """The task that these targets state; their classes or outputs are noted."""

    @abstractmethod
    def _targets(self, y: Array) -> Array:
        """Targets in the form that the loss takes."""

    @abstractmethod
    def _as_given(self, targets: Array) -> Array:
        """Such targets in the form in which y came."""

    def _class_weights(self, y: Array, data: Samples, incremental: bool) -> Array | None:
        return None

    def _constant(self, data: Samples) -> float:
        """A constant that scikit-learn's loss includes and fastnn's does not."""
        return 0.0

    @abstractmethod
    def _score_outputs(self, outputs: Array, targets: Array, weight: Array | None) -> float:
        """The score of the network's outputs; higher is better."""

    # ---- data ----------------------------------------------------------------------------------

    def _validate(self, X: Any, y: Any, reset: bool) -> tuple[Any, Array]:
        if self._takes_tables(reset):
            y = _tables.check_targets(self, X, y)
            if reset:
                given = self.categorical_features
                self.encoder_ = _tables.encoder_for(X, given, self._data_type())
            X = _tables.encode(self, X, reset)
        else:
            X, y = validate_data(
                self,
                X,
                y,
                accept_sparse=["csr", "csc"],
                multi_output=True,
                y_numeric=not is_classifier(self),
                dtype=self._data_type(),
                reset=reset,
            )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _takes_tables(self, reset: bool) -> bool:
        """Whether the network's rows are what a `TableEncoder` makes of X."""
        return self.categorical_features is not None if reset else "encoder_" in self.__dict__

    def _data_type(self) -> np.dtype[Any]:
        dtype = arrays.real_dtype(self.dtype)
        return np.dtype(np.float64) if self.solver == "lbfgs" else dtype

    def _samples(self, X: Any, y: Array, weight: Any) -> Samples:
        """Rows made dense, with targets as the loss takes them and checked weights."""
        dense = X.toarray() if hasattr(X, "toarray") else X
        if weight is not None:
            weight = _check_sample_weight(weight, X, dtype=X.dtype)
            if (weight < 0).any():
                raise ValueError("Negative values in data passed to `sample_weight`.")
        targets = self._targets(y)
        return Samples(np.ascontiguousarray(dense), targets, weight, targets)

    def _held_out(self, validation_data: Any) -> Samples | None:
        if validation_data is None:
            return None
        if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
            raise ValueError(
                "validation_data: expected (X, y) or (X, y, sample_weight), "
                f"got {arrays.describe(validation_data)}"
            )
        X, y, *weight = validation_data
        X, y = self._validate(X, y, reset=False)
        return self._samples(X, y, weight[0] if weight else None)

    def _split(
        self, data: Samples, random: Any, incremental: bool = False
    ) -> tuple[Samples, Samples]:
        """Training and validation rows, the same that scikit-learn would choose."""
        stratify = data.y > 0 if is_classifier(self) and self.n_outputs_ == 1 else None
        if incremental and stratify is not None and stratify.sum() in (1, len(stratify) - 1):
            stratify = None  # a batch may have one row of a class
        parts = train_test_split(
            np.arange(len(data.X)),
            random_state=random,
            test_size=self.validation_fraction,
            stratify=stratify,
        )
        if len(parts[1]) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        train, held = (data.rows(rows) for rows in parts)
        return train, held

    # ---- the network ---------------------------------------------------------------------------

    def _layer_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _draw(self, sizes: list[int], random: Any) -> None:
        """Draw the parameters that training begins with: for one random state the same as
        scikit-learn's (X. Glorot, Y. Bengio, 2010)."""
        name = getattr(self.activation, "activation_name", self.activation)
        factor = 2.0 if name in ("logistic", "sigmoid") else 6.0
        self.coefs_, self.intercepts_ = [], []
        for n, m in pairwise(sizes):
            bound = np.sqrt(factor / (n + m))
            self.coefs_.append(random.uniform(-bound, bound, (n, m)))
            self.intercepts_.append(random.uniform(-bound, bound, m))

    def _network(self, dtype: Any, seed: int = 0) -> Sequential:
        """A network with layers of the shapes in coefs_, whose values are not yet in it."""
        *hidden, (n, m) = (np.shape(weight) for weight in self.coefs_)
        layers = [layer for shape in hidden for layer in self._hidden(*shape)]
        encoder = self.__dict__.get("encoder_")
        model = Sequential(*_tables.front(encoder), *layers, Dense(n, m), seed=seed, dtype=dtype)
        model.scaler = encoder
        return model

    def _hidden(self, n: int, m: int) -> list[Layer]:
        """The layers of fastnn that make one hidden layer."""
        activation = self.activation
        if isinstance(activation, Activation):
            activation = copy.deepcopy(activation)  # a model takes each only once
        else:
            activation = activations.resolve(_NAMES.get(activation, activation), "activation")
        layers: list[Layer] = [Dense(n, m, activation)]
        if self.batch_norm:
            layers = [Dense(n, m), BatchNorm(m), activation]
        return [*layers, Dropout(self.dropout)] if self.dropout else layers

    def _current(self, seed: int = 0) -> Sequential:
        """The network with the values of coefs_ and intercepts_, which the user may have set."""
        model = self.__dict__.get("model_")
        shapes = [np.shape(weight) for weight in self.coefs_]
        if model is None or [layer.weight.shape for layer in _dense(model)] != shapes:
            model = self._network(self.dtype, seed)
        for name, own in _shown(model).items():
            given = getattr(self, name)
            if not isinstance(given, list):
                setattr(self, name, given := list(given))
            for i, array in enumerate(own):
                if given[i] is not array:
                    array[...] = given[i]
                    given[i] = array
        self.model_ = model
        return model

    def _with(self, model: Sequential) -> Any:
        """This estimator as it would be with that model, for scorers, which are given arrays."""
        other = object.__new__(type(self))
        other.__dict__.update({**self.__dict__, "model_": model, **_shown(model)})
        other.__dict__.pop("feature_names_in_", None)
        if (encoder := other.__dict__.pop("encoder_", None)) is not None:
            other.n_features_in_ = encoder.output_features_
        return other

    def _renewed(self, seed: int) -> Sequential:
        """A network made from the settings as they are now, with the parameters so far."""
        before = self._current() if "model_" in self.__dict__ else None
        self.__dict__.pop("model_", None)
        model = self._current(seed)
        if before is not None:  # coefs_ have the rest: what is not theirs are statistics and codes
            kept = {**before.state, **_first_layer(before)}
            for name, array in {**model.state, **_first_layer(model)}.items():
                if name in kept and kept[name].shape == array.shape:
                    array[...] = kept[name]
        return model

    # ---- training ------------------------------------------------------------------------------

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation_data: Any,
        incremental: bool = False,
    ) -> Any:
        if self.n_ensembles > 1:
            return fit_ensemble(self, incremental, X, y, sample_weight, validation_data)
        self.__dict__.pop("others_", None)
        sizes = self._layer_sizes()
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        if first:
            self.__dict__.pop("encoder_", None)
            self._fitted_type = _tables.fitted_type(X, self.solver)
        X, y = self._validate(X, y, reset=first)
        task = self._get_ready(y, first, incremental)
        if first or not incremental:
            self._task = task
        data = self._weighted(self._samples(X, y, sample_weight), y, incremental)
        random = check_random_state(self.random_state)
        if first:
            tables = self._takes_tables(False)
            features = _tables.width(self.encoder_) if tables else X.shape[1]
            self._begin([features, *sizes, task.outputs], random)
        with self._threads():
            if self.solver == "lbfgs":
                self._check_whole(validation_data)
                self._fit_lbfgs(data, random)
            else:
                held = self._held_out(validation_data)
                self._fit_stochastic(data, held, random, incremental)
        if not np.isfinite(self.model_.flat_parameters).all():
            raise ValueError(_NOT_FINITE)
        return self

    def _members(self) -> list[Any]:
        """The estimators whose predictions are averaged."""
        return [self, *self.__dict__.get("others_", ())]

    def _weighted(self, data: Samples, y: Array, incremental: bool) -> Samples:
        """The samples weighted by class too, without rows of weight 0."""
        balance, weight = self._class_weights(y, data, incremental), data.weight
        if balance is not None:
            weight = balance if weight is None else weight * balance
        if weight is None:
            return data
        used, data = weight != 0, data._replace(weight=weight)
        if not used.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")
        return data if used.all() else data.rows(used)

    def _begin(self, sizes: list[int], random: Any) -> None:
        self.n_iter_ = self.t_ = 0
        self.n_layers_, self.n_outputs_ = len(sizes), sizes[-1]
        self.out_activation_ = self._task.link
        for name in ("model_", "_optimizer"):
            self.__dict__.pop(name, None)
        self._draw(sizes, random)
        if self.solver in STOCHASTIC:
            stopping = self.early_stopping
            self.loss_curve_, self.validation_loss_curve_ = [], []
            self.validation_scores_ = [] if stopping else None
            self.best_validation_score_ = -np.inf if stopping else None
            self.best_loss_ = None if stopping else np.inf
            self._no_improvement_count, self._best = 0, None

    def _exported(self) -> Ensemble:
        """What `export_c` writes."""
        check_is_fitted(self)
        members = self._members()
        joined = side_by_side([one._current() for one in members])
        joined.scaler = self.__dict__.get("encoder_")
        classes = self.__dict__.get("classes_")
        labels = None if classes is None else classes.tolist()
        return Ensemble(joined, len(members), self.out_activation_, labels)

    def predictor(self) -> _rows.RowPredictor:
        """Prediction of single rows, made ready for many calls: see `RowPredictor`."""
        check_is_fitted(self)
        return _rows.RowPredictor(self)

    def _for_rows(self) -> Any:
        models = [one._current() for one in self._members()]
        return _rows.linked(models, self.out_activation_, self.n_outputs_, is_classifier(self))

    def _threads(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.n_threads is None else threads(self.n_threads)

    def _check_whole(self, validation_data: Any) -> None:
        """Refuse what L-BFGS cannot do: it has no epochs, and its loss must not vary."""
        settings = {"dropout": self.dropout, "callbacks": self.callbacks}
        for name, value in {**settings, "validation_data": validation_data is not None}.items():
            if value:
                raise ValueError(f"{name}: needs solver='sgd' or 'adam', got 'lbfgs'")

    def _fit_lbfgs(self, data: Samples, random: Any) -> None:
        model, task = self._renewed(_seed(random)), self._task
        exact = self._exact(model)
        set_penalty(_dense(exact), self.alpha / task.scale, data.weight)
        result, loss, penalty = _lbfgs.train(
            exact, task.loss, data, task.scale,
            maxfun=self.max_fun, maxiter=self.max_iter, gtol=self.tol,
        )  # fmt: skip
        model.load_state_dict(exact.state_dict())
        self.n_iter_ = _check_optimize_result("lbfgs", result, self.max_iter)
        self.converged_ = bool(result.success)
        self.loss_ = task.reported * loss + task.scale * penalty + self._constant(data)

    def _fit_stochastic(
        self, data: Samples, held: Samples | None, random: Any, incremental: bool
    ) -> None:
        if self.early_stopping and held is None:
            # with a number for random_state, every call holds out the same rows of the same data
            state = self.random_state if incremental else random
            data, held = self._split(data, state, incremental)
        seed = _seed(random)
        if incremental and hasattr(self, "_optimizer"):
            model = self._current()
            if self._optimizer._model is not model:  # coefs_ had new shapes, so it was made anew
                self._optimizer = self._new_optimizer()
        else:
            model, self._optimizer = self._renewed(seed), self._new_optimizer()
        few = len(data.X) <= _FEW_ROWS and not incremental and model.dtype != np.float64
        trained = self._exact(model) if few else model
        self.n_iter_ = 0
        rule = self._run(trained, data, held, seed, incremental)
        self._finish(trained, rule, incremental)
        if few:
            model.load_state_dict(trained.state_dict())
            del self._optimizer  # it belongs to the network in float64

    def _exact(self, model: Sequential) -> Sequential:
        """The same network in float64: line searches need it, and for few rows it costs little and
        makes a weight of 2 exactly the same as a row that comes twice."""
        exact = self._network(np.float64, model.seed)
        exact.load_state_dict(model.state_dict())
        return exact

    def _run(
        self, model: Sequential, data: Samples, held: Samples | None, seed: int, incremental: bool
    ) -> Epochs:
        batch_size = self._batch_size(len(data.X))
        rows = self._rows(model, data, batch_size, seed)
        rule = Epochs(self, data, batch_size, held, rows["X"], Scoring(self))
        try:
            history = model.fit(
                **rows,
                loss=self._task.loss,
                optimizer=self._optimizer,
                epochs=1 if incremental else self.max_iter,
                metrics=[],
                progress=False,
                callbacks=[rule, *(self.callbacks or ())],
            )
        except FloatingPointError as error:
            if incremental or not self.early_stopping:
                raise ValueError(_NOT_FINITE) from error
            rule.diverge()
            return rule
        if history.interrupted:
            warnings.warn("Training interrupted by user.", stacklevel=2)
        return rule

    def _rows(self, model: Sequential, data: Samples, batch_size: int, seed: int) -> dict[str, Any]:
        """The data as arguments of `fit`, with the penalty set: by each batch, if these differ."""
        layers, alpha = _dense(model), self.alpha / self._task.scale
        set_penalty(layers, alpha, data.weight)
        several = batch_size < len(data.X)  # else the order changes no more than rounding
        order = {"batch_size": batch_size, "shuffle": bool(self.shuffle and several), "seed": seed}
        weight = data.weight
        if weight is None or not several or np.ptp(weight) == 0:
            return {"X": data.X, "y": data.y, "sample_weight": weight, **order}
        steps = count_batches(model, data.X.shape, batch_size)
        return {"X": WeightedBatches(data, steps, layers, alpha, self._constant, **order)}

    def _finish(self, model: Sequential, rule: Epochs, incremental: bool) -> None:
        self.converged_ = rule.converged
        if not incremental and not rule.converged and self.n_iter_ == self.max_iter:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=2,
            )
        if self._best is not None and (rule.converged or not incremental):
            model.load_state_dict(self._best)
            self._best = None
            if incremental:
                self._no_improvement_count = 0

    def _batch_size(self, rows: int) -> int:
        if self.batch_size != "auto":
            if self.batch_size > rows:
                warnings.warn(
                    "Got `batch_size` less than 1 or larger than sample size. It is going to be "
                    "clipped",
                    stacklevel=2,
                )
            return min(int(self.batch_size), rows)
        return min(200, rows)

    def _new_optimizer(self) -> optimizers.Optimizer:
        """An optimizer for fastnn's loss, whose gradient is 1 / scale times scikit-learn's."""
        limits, scale = np.finfo(arrays.real_dtype(self.dtype)), self._task.scale
        if self.solver == "adam":
            eps = max(self.epsilon / scale, float(limits.tiny))
            rate = self.learning_rate_init
            return optimizers.Adam(rate, beta1=self.beta_1, beta2=self.beta_2, eps=eps)
        rate = self.learning_rate_init * scale
        if self.momentum == 0:
            return optimizers.SGD(rate)
        beta = min(self.momentum, 1 - float(limits.epsneg))  # scikit-learn allows 1
        return optimizers.Momentum(rate, beta=beta, nesterov=self.nesterovs_momentum)

    # ---- prediction ----------------------------------------------------------------------------

    def _outputs(self, X: Any, as_given: bool = False) -> Array:
        """The network's outputs for X: logits; `as_given` in the type that scikit-learn's have, but
        never a narrower one than the network's."""
        check_is_fitted(self)
        model = self._current()
        given = np.result_type(self.__dict__.get("_fitted_type", np.float32), *_tables.types(X))
        if self._takes_tables(False):
            X = _tables.encode(self, X)
        else:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=model.dtype, reset=False)
        with self._threads():
            if hasattr(X, "toarray"):
                X = X.tocsr()
                parts = range(0, X.shape[0], _SPARSE_ROWS)
                outputs = np.concatenate(
                    [model.predict(X[start : start + _SPARSE_ROWS].toarray()) for start in parts]
                )
            else:
                outputs = model.predict(X)
        return outputs.astype(np.result_type(outputs, given), copy=False) if as_given else outputs

    def _linked(self, outputs: Array) -> Array:
        return cast("Array", LINKS[self.out_activation_](outputs))

    # ---- copies --------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        if hasattr(self, "coefs_"):
            self._current()
        state = dict(super().__getstate__())
        if "coefs_" in state:  # views of the model's arrays, which `__setstate__` makes again
            del state["coefs_"], state["intercepts_"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "model_" in state:
            self.__dict__.update(_shown(self.model_))


def _dense(model: Sequential) -> list[Dense]:
    return [layer for layer in model.layers if isinstance(layer, Dense)]


def _first_layer(model: Sequential) -> dict[str, Array]:
    """The parameters of the model's first layer, which holds the features of codes, if any."""
    return {name: array for name, array in model.parameters.items() if name.startswith("0.")}


def _shown(model: Sequential) -> dict[str, list[Array]]:
    """The model's arrays under scikit-learn's names."""
    layers = _dense(model)
    return {
        "coefs_": [layer.weight for layer in layers],
        "intercepts_": [cast("Array", layer.bias) for layer in layers],
    }


def _seed(random: Any) -> int:
    return int(random.randint(2**31 - 1))
