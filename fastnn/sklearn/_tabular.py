"""Tabular: base of the two estimators for tables, an encoder and one or several networks.

Imports scikit-learn, and so is imported by fastnn.sklearn alone."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    _check_y,
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from fastnn.data.frames import Table
from fastnn.layers import activations
from fastnn.many import fit_many
from fastnn.recipe import Recipe
from fastnn.sklearn import _saved
from fastnn.sklearn._held import Score, hold_out
from fastnn.sklearn._rows import RowPredictor, as_array
from fastnn.support import checks
from fastnn.support.threads import threads
from fastnn.training.monitors import EarlyStopping

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from numpy.typing import NDArray
    from typing_extensions import Self

    from fastnn.data import TableEncoder
    from fastnn.history import History
    from fastnn.model import Sequential
    from fastnn.predictor import Ensemble, Predictor

    Array = NDArray[Any]

_FEW_ROWS = 100  # up to so many, neither their order nor how often each is written matters

_DIVERGED = (
    "training has diverged: the weights are not finite. X or y may contain large values, or "
    "learning_rate_init is too high."
)


def between(low: float, high: float | None, closed: str = "left", kind: type = Real) -> Interval:
    return Interval(kind, low, high, closed=closed)


class _Fitted(BaseEstimator):
    """The attributes that `fit` gives an estimator."""

    encoder_: TableEncoder
    models_: list[Sequential]
    histories_: list[History]
    best_epochs_: list[int]
    n_iter_: int
    n_features_in_: int


@dataclass(repr=False, eq=False)
class Tabular(_Fitted, ABC):
    """Base of both estimators, with the parameters that they have in common."""

    _recipe: ClassVar[Recipe] = Recipe()  # what is no parameter is as it says
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", between(1, None, kind=Integral)],
        "activation": [StrOptions(set(activations.ACTIVATIONS))],
        "n_ensembles": [between(1, None, kind=Integral)],
        "batch_size": [between(1, None, kind=Integral)],
        "learning_rate_init": [between(0, None, "neither")],
        "weight_decay": [between(0, None)],
        "dropout": [between(0, 1)],
        "max_iter": [between(1, None, kind=Integral)],
        "periodic_embedding": ["boolean"],
        "embedding_sigma": [between(0, None, "neither")],
        "front_scale": ["boolean"],
        "categorical_features": "no_validation",  # TableEncoder checks them
        "max_one_hot": [between(0, None, kind=Integral)],
        "validation_fraction": [between(0, 1)],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "callbacks": [list, tuple, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "n_threads": [between(1, None, kind=Integral), None],
    }

    hidden_layer_sizes: Any = Recipe.hidden_layer_sizes  # defaults stand there alone
    activation: str = Recipe.activation
    _: KW_ONLY
    n_ensembles: int = 1
    batch_size: int = 256
    learning_rate_init: float = Recipe.learning_rate
    weight_decay: float = Recipe.weight_decay
    dropout: float = Recipe.dropout
    max_iter: int = 256
    periodic_embedding: bool = Recipe.periodic_embedding
    embedding_sigma: float = Recipe.embedding_sigma
    front_scale: bool = Recipe.front_scale
    categorical_features: Any = "auto"
    max_one_hot: int = 8
    validation_fraction: float = 0.2
    scoring: Any = None
    callbacks: Any = None
    random_state: Any = None
    verbose: Any = False
    n_threads: int | None = None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    # ---- what the derived class says -----------------------------------------------------------

    def _learn_classes(self, y: Array) -> None:
        """Note the classes, those of rows of weight 0 too."""

    @abstractmethod
    def _learn_targets(self, y: Array) -> int:
        """Note the targets' scale and range; returns the number of outputs."""

    @abstractmethod
    def _targets(self, y: Array) -> Array:
        """Targets as the loss takes them."""

    @abstractmethod
    def _as_given(self, targets: Array) -> Array:
        """Such targets in the form in which y came."""

    @abstractmethod
    def _meaning(self, outputs: Array) -> Array:
        """What a network's outputs (n, outputs) mean, float64: probabilities or values."""

    @abstractmethod
    def _for_rows(self) -> tuple[Predictor, Callable[[Array], Any]]:
        """All networks, ready for single rows, and what makes a prediction of all their outputs."""

    @abstractmethod
    def _score_meaning(self, found: Array, targets: Array, weight: Array | None) -> float:
        """How good that is for such targets, where `scoring` is None; higher is better."""

    def _weighted(self, y: Array, weight: Array | None) -> Array | None:
        return weight

    def _labels(self, targets: Array) -> Array | None:
        """What is to be as frequent in the rows that are held out as in the others."""
        return None

    # ---- data ----------------------------------------------------------------------------------

    def _table(self, X: Any, y: Any = "no_validation", reset: bool = False) -> Any:
        """X as the encoder takes it, checked in scikit-learn's words."""
        if not hasattr(X, "columns"):
            X = check_array(
                as_array(X), dtype=None, ensure_all_finite="allow-nan", input_name="X",
                estimator=self,
            )  # fmt: skip
        validate_data(self, X, y, skip_check_array=True, reset=reset)
        return X

    def _read(self, X: Any, y: Any, weight: Any, reset: bool) -> tuple[Any, Array, Array | None]:
        """A checked table, y (n,) or (n, outputs) and weights, without rows of weight 0."""
        X = self._table(X, y, reset)
        y = _check_y(y, multi_output=True, y_numeric=not is_classifier(self), estimator=self)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        if reset:
            self._learn_classes(y)
        if weight is None:
            return X, y, None
        weight = _check_sample_weight(weight, X, dtype=np.float64, ensure_non_negative=True)
        used = np.flatnonzero(weight)
        if len(used) == 0:
            raise ValueError("Sample weights must contain at least one non-zero number.")
        if weight.sum() <= _FEW_ROWS and (weight == np.floor(weight)).all():
            used, weight = np.repeat(used, weight[used].astype(int)), None
        else:
            weight = weight[used]
        return _safe_indexing(X, used), y[used], weight

    def _held(self, validation_data: Any) -> tuple[Array, Array, Array | None] | None:
        """The rows of `validation_data`, encoded."""
        if validation_data is None:
            return None
        if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
            raise ValueError("validation_data: expected (X, y) or (X, y, sample_weight)")
        X, y, *rest = validation_data
        X, y, weight = self._read(X, y, rest[0] if rest else None, reset=False)
        return self.encoder_._encode(Table(X)), self._targets(y), weight

    # ---- training ------------------------------------------------------------------------------

    def _made(self) -> Recipe:
        """The recipe with this estimator's parameters."""
        sizes = self.hidden_layer_sizes
        sizes = tuple(sizes) if hasattr(sizes, "__iter__") else (sizes,)
        return replace(
            self._recipe,
            hidden_layer_sizes=tuple(
                checks.positive_int(size, "hidden_layer_sizes") for size in sizes
            ),
            activation=self.activation,
            learning_rate=self.learning_rate_init,
            weight_decay=self.weight_decay,
            dropout=self.dropout,
            label_smoothing=getattr(self, "label_smoothing", 0.0),
            periodic_embedding=self.periodic_embedding,
            embedding_sigma=self.embedding_sigma,
            front_scale=self.front_scale,
        )

    def _fit(self, X: Any, y: Any, sample_weight: Any, validation_data: Any) -> Any:
        X, y, weight = self._read(X, y, sample_weight, reset=True)
        outputs, recipe = self._learn_targets(y), self._made()
        self.encoder_ = recipe.encoder(self.categorical_features, self.max_one_hot)
        rows, weight = self.encoder_.fit_transform(X), self._weighted(y, weight)
        targets = self._targets(y)
        if weight is not None and not weight.all():  # those of a class of weight 0
            used = np.flatnonzero(weight)
            if len(used) == 0:
                raise ValueError("class_weight: the weights of all rows are 0")
            rows, targets, weight = rows[used], targets[used], weight[used]
        if len(rows) <= _FEW_ROWS:
            order = np.lexsort((*targets.reshape(len(rows), -1).T, *rows.T))
            rows, targets = rows[order], targets[order]
            weight = None if weight is None else weight[order]
        given = self._held(validation_data)
        random = check_random_state(self.random_state)
        split_seed, *seeds = random.randint(2**31 - 1, size=1 + self.n_ensembles).tolist()
        models, each = [], []
        with self._threads():
            for number, seed in enumerate(seeds):
                train, held = np.arange(len(rows)), given
                if given is None:
                    labels, fraction = self._labels(targets), self.validation_fraction
                    train, out = hold_out(len(rows), fraction, labels, number, split_seed)
                    held = rows[out], targets[out], None if weight is None else weight[out]
                data = rows[train], targets[train], None if weight is None else weight[train]
                models.append(recipe.begin(self.encoder_, outputs, data[0], seed))
                each.append(self._arguments(recipe, models[-1], data, held, number, seed))
            try:
                self.histories_ = fit_many(models, each=each)
            except FloatingPointError as error:
                raise ValueError(_DIVERGED) from error
        self.models_, self.n_iter_ = models, max(h.epochs for h in self.histories_)
        keepers = [[c for c in one["callbacks"] if type(c) is EarlyStopping] for one in each]
        self.best_epochs_ = [
            found[0].best_epoch if found else history.epochs
            for found, history in zip(keepers, self.histories_, strict=True)
        ]
        return self

    def _arguments(
        self, recipe: Recipe, model: Sequential, data: Any, held: Any, number: int, seed: int
    ) -> dict[str, Any]:
        """What `fit` of one of the networks is given."""
        X, y, weight = data
        callbacks = list(self.callbacks or ())
        if self.n_ensembles > 1:
            callbacks = copy.deepcopy(callbacks)
        if len(held[0]):
            prefix = f"network {number + 1}, " * (self.n_ensembles > 1)
            rows, targets, weights = held
            score = Score(self._scorer(), rows, targets, weights, prefix if self.verbose else None)
            callbacks = [score, recipe.keeper("validation_score"), *callbacks]
        return {
            "X": X,
            "y": y,
            "sample_weight": weight,
            "loss": recipe.loss(is_classifier(self)),
            "optimizer": recipe.optimizer(model),
            "schedule": recipe.schedule(),
            "epochs": self.max_iter,
            "batch_size": min(self.batch_size, len(X)),
            "drop_last": True,
            "seed": seed,
            "metrics": [],
            "callbacks": callbacks,
            "progress": False,
        }

    def _scorer(self) -> Any:
        """The function that `Score` calls."""
        if self.scoring is None:
            return lambda model, outputs, X, y, weight: self._score_meaning(
                self._meaning(outputs), y, weight
            )
        scorer = check_scoring(self, scoring=self.scoring)

        def score(model: Sequential, outputs: Array, X: Array, y: Array, weight: Any) -> float:
            weights = {} if weight is None else {"sample_weight": weight}
            return float(scorer(self._encoded(model), X, self._as_given(y), **weights))

        return score

    def _encoded(self, model: Sequential) -> Any:
        """This estimator as it would be with that model, for rows that are encoded."""
        other = object.__new__(type(self))
        other.__dict__.update({**self.__dict__, "models_": [model], "encoder_": None})
        return other

    def _threads(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.n_threads is None else threads(self.n_threads)

    # ---- files ---------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Write the estimator to a safe file: networks, encoder, the classes or the scale of the
        targets, and those parameters that are numbers, text, flags or lists of them.

        Nothing in such a file ever runs.  `fastnn.load` reads it too, as one `Sequential` with the
        encoder as its ``scaler``: several networks are then `Heads`.  Raises NotFittedError before
        `fit`, TypeError for classes or categories that are no text, numbers or flags, OSError if
        the file cannot be written.
        """
        check_is_fitted(self)
        _saved.save(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """The estimator that `save` wrote; ValueError for another file, OSError if there is none.

        It predicts with the bits that it had; ``histories_`` and callbacks are not in the file.
        """
        return _saved.load(cls, path)

    # ---- prediction ----------------------------------------------------------------------------

    @property
    def model_(self) -> Sequential:
        """The network, or the first of several; its inputs are what ``encoder_`` gives."""
        return self.models_[0]

    def predict_ensemble(self, X: Any) -> Array:
        """What each network alone predicts, float64: probabilities (n_ensembles, n, classes), or
        values (n_ensembles, n) or (n_ensembles, n, outputs).

        Its ``mean(axis=0)`` is the prediction of all, its ``std(axis=0)`` says how far they agree.
        """
        check_is_fitted(self)
        rows = X if self.encoder_ is None else self.encoder_._encode(Table(self._table(X)))
        return self._answers(rows)

    def _answers(self, rows: Array) -> Array:
        """What each network alone predicts for encoded rows."""
        with self._threads():
            return np.stack([self._meaning(model.predict(rows)) for model in self.models_])

    def predictor(self) -> RowPredictor:
        """Prediction of single rows, made ready for many calls: see `RowPredictor`."""
        check_is_fitted(self)
        return RowPredictor(self)

    @abstractmethod
    def _exported(self) -> Ensemble:
        """What `export_c` writes."""

    def feature_importances(
        self,
        X: Any,
        y: Any,
        *,
        scoring: Any = None,
        n_repeats: int = 5,
        sample_weight: Any = None,
        random_state: Any = None,
    ) -> dict[str, float]:
        """How much the score falls where a column is shuffled, by the column's name, the largest
        first: the mean of scikit-learn's `permutation_importance`.

        Give rows that `fit` has not seen.  Columns without names are x0, x1, ...
        """
        check_is_fitted(self)
        found = permutation_importance(
            self, X, y, scoring=scoring, n_repeats=n_repeats, random_state=random_state,
            sample_weight=sample_weight,
        ).importances_mean  # fmt: skip
        names = getattr(self, "feature_names_in_", [f"x{i}" for i in range(len(found))])
        return {str(names[i]): float(found[i]) for i in np.argsort(-found, kind="stable")}
