"""TabularClassifier and TabularRegressor: networks for tables that are good without tuning.

Imports scikit-learn, and so is imported by fastnn.sklearn alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin, RegressorMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from fastnn.data import Standardizer
from fastnn.layers import Softmax
from fastnn.predictor import Ensemble
from fastnn.recipe import Recipe
from fastnn.sklearn import _rows
from fastnn.sklearn._saved import side_by_side, with_belongings
from fastnn.sklearn._tabular import Tabular, between

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fastnn.predictor import Predictor

    Array = NDArray[Any]


@dataclass(repr=False, eq=False)
class TabularClassifier(ClassifierMixin, Tabular):
    """A network that classifies the rows of a table: numbers, categories and missing values.

    It is RealMLP-TD (D. Holzmüller, L. Grinsztajn, I. Steinwart, 2024, arXiv 2407.04491), whose
    settings were chosen on other data to be good on yours without any tuning.  Numbers are
    centred, scaled and softly clipped, and get learnt periodic features; categories become columns
    of 0 and 1 or learnt features (see `fastnn.data.TableEncoder`); the network begins as suits the
    rows, and its learning rate goes up and down four times.

    X is a DataFrame, a list of rows or an array, of objects too; columns of numbers that are codes
    are named by `categorical_features`.  NaN and None are missing values; categories that `fit` has
    not seen count as missing.  It may not be sparse.

    Parameters:

    - `hidden_layer_sizes`, `activation`: the widths of the hidden layers, and the name of any
      activation of fastnn's, each with a learnt strength for every unit.
    - `n_ensembles`: so many networks of different seeds, whose probabilities are averaged.  Each
      holds out other rows, as in a cross-validation.  They are trained side by side.
    - `batch_size`; an epoch leaves out a last batch that would be shorter.
    - `learning_rate_init`, `weight_decay`, `dropout`: the highest values in training.
    - `max_iter`: epochs, all of which are trained; the best one is kept.
    - `label_smoothing`: this part of a label's probability goes to all classes alike.
    - `periodic_embedding`, `embedding_sigma`: whether numbers get periodic features, and the
      standard deviation of their frequencies: larger ones for sharper steps.
    - `front_scale`: whether a learnt factor multiplies each feature.
    - `categorical_features`, `max_one_hot`: see `fastnn.data.TableEncoder`.
    - `validation_fraction`: of the rows, held out to choose the best epoch, of each class the same
      part; 0 keeps the last epoch.
    - `scoring`: by what it is chosen, a scorer of scikit-learn's by name ("neg_log_loss",
      "roc_auc", ...) or a function ``scorer(estimator, X, y)``, whose X is encoded; None is the
      accuracy.  Of epochs that are equally good, the last one is kept.
    - `class_weight`: a dict of weights by class, or "balanced"; it multiplies `sample_weight`, also
      of the rows that are held out.
    - `callbacks`: a list of `fastnn.Callback` objects, told of every epoch; several networks get
      copies.  ``fastnn.EarlyStopping("validation_score", patience=20)`` ends training early.
    - `random_state`: an int, a RandomState or None; it decides everything that is random.
    - `verbose`: prints each epoch's loss and score.
    - `n_threads`: of training and prediction; None for `fastnn.get_num_threads`, which jobs of
      joblib's, threads as well as processes, share.

    Attributes: ``classes_``, ``n_features_in_``, ``feature_names_in_``; ``encoder_``, the
    `TableEncoder`; ``models_``, the networks, each a `Sequential` that takes what the encoder
    gives, and ``model_``, the first; ``histories_``, what each had after every epoch
    (``validation_loss``, ``validation_score``); ``best_epochs_``, those that are kept, from 1;
    ``n_iter_``, the most epochs that any had.

    With 100 rows or fewer the order of the rows makes no difference, and a weight of 2 is the same
    as a row that comes twice.  All errors are scikit-learn's, ValueError or TypeError;
    NotFittedError to predict before `fit`.

    >>> import fastnn
    >>> X, y = fastnn.datasets.digits()
    >>> classifier = TabularClassifier(max_iter=20, random_state=0).fit(X[:1500], y[:1500])
    >>> classifier.score(X[1500:], y[1500:]) > 0.9
    True
    >>> classifier.predict_proba(X[1500:]).shape
    (297, 10)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Tabular._parameter_constraints,
        "label_smoothing": [between(0, 1)],
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    label_smoothing: float = field(default=Recipe.label_smoothing, kw_only=True)
    class_weight: Any = field(default=None, kw_only=True)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None
    ) -> TabularClassifier:
        """Train on X (n, features) and y (n,); returns self.

        `sample_weight` (n,), not negative.  `validation_data`, ``(X, y)`` or ``(X, y,
        sample_weight)``, chooses the best epoch in place of rows that are held out.
        """
        return self._fit(X, y, sample_weight, validation_data)

    def predict(self, X: Any) -> Array:
        """The classes, (n,)."""
        chosen = self.predict_proba(X).argmax(axis=1)
        return self.classes_[chosen]

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, float64 (n, classes), in the order of ``classes_``."""
        return self.predict_ensemble(X).mean(axis=0)

    def _learn_classes(self, y: Array) -> None:
        check_classification_targets(y)
        if y.ndim > 1:
            raise ValueError(f"y: expected one label a row, (n,), got an array of shape {y.shape}")
        self.classes_ = np.unique(y)

    def _learn_targets(self, y: Array) -> int:
        return len(self.classes_)

    def _targets(self, y: Array) -> Array:
        numbers = np.minimum(np.searchsorted(self.classes_, y), len(self.classes_) - 1)
        if (others := self.classes_[numbers] != y).any():
            raise ValueError(f"y: expected classes among {self.classes_}, got {y[others][0]!r}")
        return numbers

    def _as_given(self, targets: Array) -> Array:
        return self.classes_[targets]

    def _labels(self, targets: Array) -> Array:
        return targets

    def _weighted(self, y: Array, weight: Array | None) -> Array | None:
        if self.class_weight is None:
            return weight
        by_class = compute_sample_weight(self.class_weight, y)
        return by_class if weight is None else weight * by_class

    def _meaning(self, outputs: Array) -> Array:
        return softmax(outputs.astype(np.float64), axis=1)

    def _for_rows(self) -> tuple[Predictor, Callable[[Array], Any]]:
        predictor = side_by_side(self.models_, Softmax).predictor()
        return predictor, partial(_rows.averaged, len(self.models_))

    def _exported(self) -> Ensemble:
        check_is_fitted(self)
        joined, classes = with_belongings(self), self.classes_.tolist()
        return Ensemble(joined, len(self.models_), "softmax", classes)

    def _score_meaning(self, found: Array, targets: Array, weight: Array | None) -> float:
        right = float(np.average(found.argmax(axis=1) == targets, weights=weight))
        return round(right, 6)  # rounding, and rows that hardly weigh, are no difference


@dataclass(repr=False, eq=False)
class TabularRegressor(RegressorMixin, Tabular):
    """A network for regression on the rows of a table, y (n,) or (n, outputs).

    Parameters and attributes are those of `TabularClassifier`, without `label_smoothing`,
    `class_weight` and ``classes_``.  Targets are brought to mean 0 and standard deviation 1, and
    predictions back; no prediction lies outside of the range of the targets in `fit`.  The epoch
    with the least mean squared error on the rows that are held out is kept, unless `scoring` says
    otherwise.

    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-1, 1, (500, 3))
    >>> y = np.where(X[:, 0] > 0, X[:, 1], X[:, 2])
    >>> regressor = TabularRegressor(max_iter=100, random_state=0).fit(X[:400], y[:400])
    >>> regressor.score(X[400:], y[400:]) > 0.9
    True
    """

    activation: str = "mish"
    learning_rate_init: float = field(default=0.2, kw_only=True)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None
    ) -> TabularRegressor:
        """Train on X (n, features) and y (n,) or (n, outputs); returns self.

        `sample_weight` (n,), not negative.  `validation_data`, ``(X, y)`` or ``(X, y,
        sample_weight)``, chooses the best epoch in place of rows that are held out.
        """
        return self._fit(X, y, sample_weight, validation_data)

    def predict(self, X: Any) -> Array:
        """Predicted values, float64 (n,), or (n, outputs) for several."""
        return self.predict_ensemble(X).mean(axis=0)

    def _learn_targets(self, y: Array) -> int:
        columns = np.sort(y.reshape(len(y), -1).astype(np.float64), axis=0)  # in any order of rows
        try:
            self.target_scaler_ = Standardizer().fit(columns)
        except ValueError:  # which speaks of X
            raise ValueError("y: too large, its variance overflows float64") from None
        self.target_range_ = np.stack([columns.min(axis=0), columns.max(axis=0)])
        self._is_flat = y.ndim == 1
        return columns.shape[1]

    def _targets(self, y: Array) -> Array:
        return self.target_scaler_.transform(y.reshape(len(y), -1))

    def _as_given(self, targets: Array) -> Array:
        values = self.target_scaler_.inverse_transform(targets)
        return values[:, 0] if self._is_flat else values

    def _meaning(self, outputs: Array) -> Array:
        values = self.target_scaler_.inverse_transform(outputs)
        values = np.clip(values, *self.target_range_)
        return values[:, 0] if self._is_flat else values

    def _for_rows(self) -> tuple[Predictor, Callable[[Array], Any]]:
        predictor, networks = side_by_side(self.models_).predictor(), len(self.models_)
        scaler, limits, is_flat = self.target_scaler_, self.target_range_, self._is_flat
        if is_flat and networks == 1:
            std, mean, least, most = (
                float(array[0]) for array in (scaler.std, scaler.mean, *limits)
            )
            return predictor, partial(_rows.one_value, std, mean, least, most)
        return predictor, partial(_rows.values, networks, scaler.std, scaler.mean, limits, is_flat)

    def _exported(self) -> Ensemble:
        check_is_fitted(self)
        return Ensemble(with_belongings(self), len(self.models_), limits=self.target_range_)

    def _score_meaning(self, found: Array, targets: Array, weight: Array | None) -> float:
        error = (found - self._as_given(targets)) ** 2
        return -float(np.average(error.reshape(len(error), -1).mean(axis=1), weights=weight))


def search_space(estimator: Tabular) -> dict[str, Any]:
    """Distributions of an estimator's parameters for scikit-learn's random searches.

    It is the search space that was published with RealMLP, but for two other kinds of embeddings of
    numbers, in place of which the periodic one is tried more often.  Lists have their elements as
    often as they are likely.  Raises TypeError for another estimator; in a pipeline each name needs
    the step's before it, as in ``tabularclassifier__dropout``.

    >>> from sklearn.model_selection import ParameterSampler
    >>> settings = ParameterSampler(search_space(TabularRegressor()), 20, random_state=0)
    >>> all(0.02 <= tried["learning_rate_init"] <= 0.3 for tried in settings)
    True
    """
    from scipy.stats import loguniform

    if not isinstance(estimator, Tabular):
        wanted = "estimator: expected a TabularClassifier or a TabularRegressor"
        raise TypeError(f"{wanted}, got {type(estimator).__name__}")
    space = {
        "hidden_layer_sizes": [(256,) * 3] * 3 + [(64,) * 5] + [(512,)],
        "activation": ["relu", "selu", "mish"],
        "learning_rate_init": loguniform(0.02, 0.3),
        "weight_decay": [0.0, 0.02],
        "dropout": [0.0] * 3 + [0.15] * 5 + [0.3] * 2,
        "periodic_embedding": [False] + [True] * 3,
        "embedding_sigma": loguniform(0.05, 0.5),
        "front_scale": [True] * 3 + [False] * 2,
    }
    if isinstance(estimator, TabularClassifier):
        space["label_smoothing"] = [0.0] * 3 + [0.1] * 7
    return space
