"""scikit-learn's `MLPClassifier` and `MLPRegressor`, trained by fastnn: change the import line.

They take the same arguments, show the same attributes and give the same warnings and errors; for a
`random_state` they begin with the same parameters and hold out the same rows, though they shuffle
in another order.  Different are

- the type: float32, so that ``coefs_`` and `predict_proba` are, unless `dtype` is "float64"; but
  `predict` of a regressor and `predict_proba` of multilabel targets give scikit-learn's type,
  float64 for all but float32 data.  With 100 rows or fewer `fit` computes in float64 and rounds the
  outcome, and solver="lbfgs" always does, so that a weight of 2 is the same as a row that comes
  twice;
- Adam's `epsilon`, which is added to the corrected root and not before its correction;
- ``loss_`` of several outputs under squared error, within the change of the penalty in an epoch;
- with sample weights, the batches, which rows of weight 0 are not part of.

`from_sklearn` and `to_sklearn` turn one that is fitted into the other.

What they can do besides stands behind the parameters that scikit-learn has.  Needs scikit-learn
(``pip install scikit-learn``), which ``import fastnn`` does not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if find_spec("sklearn") is None:  # said before SciPy is missed, which comes with it
    raise ImportError("fastnn.sklearn needs scikit-learn: pip install scikit-learn")
from scipy.sparse import csr_matrix
from scipy.special import log_expit, log_softmax, xlogy
from sklearn import neural_network
from sklearn.base import ClassifierMixin, RegressorMixin, _fit_context
from sklearn.metrics import d2_pinball_score, r2_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    type_of_target,
    unique_labels,
)

from fastnn.losses import (
    Hinge,
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    Poisson,
    Quantile,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from fastnn.sklearn._convert import convert_from, convert_to
from fastnn.sklearn._estimator import STOCHASTIC, Perceptron
from fastnn.sklearn._members import mean_over
from fastnn.sklearn._realmlp import TabularClassifier, TabularRegressor, search_space
from fastnn.sklearn._task import Task
from fastnn.support import arrays, checks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastnn.training.samples import Samples

    Array = NDArray[Any]

__all__ = [
    "MLPClassifier",
    "MLPRegressor",
    "TabularClassifier",
    "TabularRegressor",
    "from_sklearn",
    "search_space",
    "to_sklearn",
]


def _is_stochastic(estimator: Any) -> bool:
    if estimator.solver not in STOCHASTIC:
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers. "
            f"{estimator.solver} is not stochastic."
        )
    return True


def _has_probabilities(estimator: Any) -> bool:
    if estimator.loss == "hinge" or isinstance(estimator.loss, Hinge):
        raise AttributeError("the hinge loss gives scores, no probabilities")
    return True


def _weight_by_number(by_class: Any, classes: list[Any]) -> Array:
    """The weight of each of these classes, 1 for those that are not named, also where a batch lacks
    them; ValueError for others, unless all are named."""
    if not isinstance(by_class, dict):
        raise TypeError(f"class_weight: expected a dict of weights by class, got {by_class!r}")
    others = [label for label in by_class if label not in classes]
    if others and not all(label in by_class for label in classes):
        raise ValueError(f"class_weight: expected classes among {classes}, got {others}")
    weights = (by_class.get(label, 1.0) for label in classes)
    return np.array([checks.not_negative(weight, "class_weight") for weight in weights])


def _with_largest_at(column: Array, logarithms: Array) -> Array:
    """The same, each row's first largest in that column: they differ by rounding there."""
    largest = logarithms.max(axis=1, keepdims=True)
    before = np.arange(logarithms.shape[1]) < column[:, None]
    np.minimum(logarithms, np.nextafter(largest, -np.inf), out=logarithms, where=before)
    np.put_along_axis(logarithms, column[:, None], largest, axis=1)
    return logarithms


@dataclass(repr=False, eq=False)
class MLPClassifier(ClassifierMixin, Perceptron):
    """A dense network that classifies: softmax outputs, or logistic ones for two classes and for
    multilabel targets, an indicator (n, classes).

    Parameters of scikit-learn, in its order:

    - `hidden_layer_sizes`: the widths of the hidden layers; () for none.
    - `activation`: behind each of them, "identity", "logistic", "tanh" or "relu"; or any
      activation of fastnn, by its name ("gelu", "silu", ...) or as an object.
    - `solver`: "adam"; "sgd", with momentum; or "lbfgs", for small data: all rows at once.
    - `alpha`: the L2 penalty of a batch is alpha / (2 rows) Σ weight²; with `sample_weight` or
      `class_weight` these are summed in place of the rows.
    - `batch_size`: rows in a step; "auto" is 200, or all if they are fewer.
    - `learning_rate`, for "sgd": "constant"; "invscaling", learning_rate_init / t^power_t, t being
      the rows seen so far; "adaptive", a fifth of it each time that training would stop.
    - `learning_rate_init`, `power_t`.
    - `max_iter`: epochs at most; for "lbfgs" iterations, with `max_fun` evaluations.
    - `shuffle`: whether each epoch has its own order of the rows.
    - `random_state`: an int, a RandomState or None, for NumPy's global one.  It decides how the
      parameters begin, what is held out, the order of the rows, and what dropout drops.
    - `tol`, `n_iter_no_change`: training stops after more than `n_iter_no_change` epochs in a row
      that do not lower the best loss by `tol`, or do not raise the best score by it where
      `early_stopping` is set.  For "lbfgs" `tol` is the gradient's.
    - `verbose`: prints each epoch's loss.
    - `warm_start`: `fit` goes on with the parameters that the last one left.
    - `momentum`, `nesterovs_momentum`, for "sgd".
    - `early_stopping`: holds out `validation_fraction` of the rows, or takes `validation_data`,
      scores them after each epoch and ends with the parameters that scored best.
    - `beta_1`, `beta_2`, `epsilon`, for "adam".

    Parameters of fastnn:

    - `loss`: "log_loss"; "hinge", which gives no probabilities; or an object,
      ``SoftmaxCrossEntropy(label_smoothing=0.1)``, ``SigmoidCrossEntropy()``, ``Hinge()``.
    - `class_weight`: a dict of weights by class, 1 for those that it does not name, or "balanced",
      which makes all classes weigh the same; for multilabel targets a list of dicts, ``{1: 5.0}``,
      one a label, whose product is the row's weight (a weight for each label is `pos_weight` of a
      `SigmoidCrossEntropy`, given as `loss`).  It multiplies `sample_weight`, but not that of
      `validation_data`.  It moves probabilities: the network learns p w / Σ p w, for p the
      probabilities in the data and w the weights, so that classes are chosen as if they were as
      frequent as weighted.  Divided by w, and by their sum then, they are p again.
    - `dropout`: the probability of dropping, behind each hidden layer.
    - `batch_norm`: whether each hidden layer's sums are normalised before its activation.
    - `callbacks`: a list of `fastnn.Callback` objects, told of every epoch; their ``run.model`` is
      the network that is being trained.
    - `scoring`: by what `early_stopping` scores, a scorer of scikit-learn's by name ("roc_auc", of
      more than two classes "roc_auc_ovr", "neg_log_loss", "f1_macro") or a function
      ``scorer(estimator, X, y)``; None is the estimator's own ``score``.  ``validation_scores_``,
      ``best_validation_score_`` and `tol` are then in its units.  As in scikit-learn's other
      estimators, it gets the weights of the held-out rows, those of classes included, as
      ``sample_weight`` where there are some, and may refuse them.
    - `categorical_features`: None; or which columns of X hold categories, by index, name or mask,
      as in `HistGradientBoostingClassifier`, or "auto", all but numbers.  X is then a table, a
      DataFrame or an array, which ``encoder_``, a `fastnn.TableEncoder`, makes ready: numbers get
      mean 0 and standard deviation 1, without weights, and may be missing; up to 8 categories
      become columns of 0 and 1; of more, each has 8 features that are learnt, without penalty.
      ``coefs_`` begin behind these.  In `partial_fit` the rows of the first call say how numbers
      are scaled and which categories there are.
    - `dtype`: "float32" or "float64".
    - `n_threads`: of training and prediction; None for `fastnn.get_num_threads`, which jobs of
      joblib's, threads as well as processes, share.
    - `n_ensembles`: so many networks of different random states, trained side by side, whose
      probabilities (of "hinge" scores, of regressors values) are averaged.  All attributes are
      those of the first, which is trained as it would be alone but for None as `random_state`;
      ``others_`` has the others, as estimators of one network each.  With `early_stopping` each
      holds out rows of its own.  Not for `warm_start` and `partial_fit`.

    With "lbfgs" there are no `dropout`, `callbacks` and `validation_data`.

    Attributes of scikit-learn: ``classes_``, ``n_features_in_``, ``feature_names_in_``,
    ``n_outputs_``, ``n_layers_``, ``out_activation_``; ``n_iter_``, epochs or iterations done;
    ``t_``, rows seen; ``loss_``, ``best_loss_``, ``loss_curve_``; ``validation_scores_``,
    ``best_validation_score_``.  ``coefs_`` and ``intercepts_`` are lists of the network's own
    arrays: what is written into them, or put in their place, is what predicts and trains on.

    Attributes of fastnn: ``model_``, the `Sequential`, whose outputs are logits, and whose `scaler`
    is ``encoder_``, where there is one; ``validation_loss_curve_``, of what was held out;
    ``converged_``, whether the last call ended because nothing got better.

    X (n, features) may be sparse (CSR or CSC) without `categorical_features`: `fit` makes it dense
    as a whole, prediction 1024 rows at a time.  All errors are scikit-learn's, ValueError or
    TypeError; NotFittedError to predict before `fit`.

    >>> import fastnn
    >>> X, y = fastnn.datasets.digits()
    >>> classifier = MLPClassifier(dropout=0.2, early_stopping=True, random_state=0)
    >>> classifier.fit(X[:1500], y[:1500]).score(X[1500:], y[1500:]) > 0.88
    True
    >>> classifier.predict_proba(X[1500:]).shape
    (297, 10)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Perceptron._parameter_constraints,
        "loss": [
            StrOptions({"log_loss", "hinge"}),
            SoftmaxCrossEntropy,
            SigmoidCrossEntropy,
            Hinge,
        ],
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
    }

    loss: Any = field(default="log_loss", kw_only=True)
    class_weight: Any = field(default=None, kw_only=True)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None
    ) -> MLPClassifier:
        """Train on X (n, features) and y; returns self.

        `sample_weight` (n,), not negative.  `validation_data`, ``(X, y)`` or ``(X, y,
        sample_weight)``, gives ``validation_loss_curve_``, and with `early_stopping` stands for
        the rows that would be held out.  It is an argument of `fit`, as all data are, so that
        clones and grid searches do without; the steps before in a pipeline do not transform it.
        """
        self._fit(X, y, sample_weight, validation_data)
        return self

    @available_if(_is_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        classes: Any = None,
        *,
        validation_data: Any = None,
    ) -> MLPClassifier:
        """Train one epoch more on these rows; returns self.

        `classes` names all classes, in the first call; the rest is as in `fit`.  With
        `early_stopping` every call scores `validation_data`, or rows of its own that it holds out
        (for an int as `random_state` the same of the same rows).  ``converged_`` says when the
        score has not got better any more: the parameters are then the best so far.
        """
        if _check_partial_fit_first_call(self, classes):
            multilabel = type_of_target(y, input_name="y").startswith("multilabel")
            self._learn_classes(y if multilabel else np.asarray(classes))
        self._fit(X, y, sample_weight, validation_data, incremental=True)
        return self

    def predict(self, X: Any) -> Array:
        """The classes, (n,), or for multilabel an indicator (n, classes)."""
        several = len(self._members()) > 1
        if several and self.out_activation_ != "identity":
            likely = self.predict_proba(X)  # of two labels the second, as of two classes
            outputs = likely - 0.5 if self._kind == "multilabel" else likely
        else:
            outputs = mean_over(self._members(), lambda one: one._outputs(X))
        if self._kind == "multilabel":
            indicator = (outputs > 0).astype(int)
            return csr_matrix(indicator) if self._sparse else indicator
        chosen = outputs.argmax(axis=1) if outputs.shape[1] > 1 else outputs[:, 0] > 0
        # a single class still has two outputs
        return self.classes_[np.minimum(chosen, len(self.classes_) - 1)]

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, (n, classes), in the order of `classes_`; for multilabel
        targets that of each label, float64 unless X, here and in `fit`, was float32."""
        return mean_over(self._members(), lambda one: one._likely(X))

    def _likely(self, X: Any) -> Array:
        """The probabilities by this network alone."""
        likely = self._linked(self._outputs(X, as_given=self._several_labels()))
        return np.hstack([1 - likely, likely]) if self.n_outputs_ == 1 else likely

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: Any) -> Array:
        """The logarithms of `predict_proba`, finite where that is 0; the largest of a row stands
        where that of `predict_proba` does."""
        if len(self._members()) > 1:
            likely = self.predict_proba(X)
            return np.log(np.maximum(likely, np.finfo(likely.dtype).tiny))
        several = self._several_labels()
        outputs = self._outputs(X, as_given=several)
        likely = self._linked(outputs)
        if self.out_activation_ == "softmax":
            logarithms = log_softmax(outputs, axis=1)
        elif several:  # of a row, several may be 1 but for rounding, and then are 1 here too
            logarithms = np.log(likely, where=likely > 0, out=log_expit(outputs))
        else:
            likely, outputs = np.hstack([1 - likely, likely]), np.hstack([-outputs, outputs])
            logarithms = log_expit(outputs)
        return _with_largest_at(likely.argmax(axis=1), logarithms)

    def _several_labels(self) -> bool:
        return self.__dict__.get("_kind") == "multilabel"  # there is none before fit

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _get_ready(self, y: Any, first: bool, incremental: bool) -> Task:
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._learn_classes(y)
        elif self.warm_start and not incremental:  # a part of the data may lack classes
            classes = unique_labels(y)
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the "
                    f"previous call to fit. Previously got {self.classes_}, `y` has {classes}"
                )
        return self._make_task()

    def _learn_classes(self, y: Any) -> None:
        kind = type_of_target(y, input_name="y")
        if "multioutput" in kind:
            raise ValueError("Multioutput target data is not supported with label binarization")
        plain = kind in ("binary", "multiclass")
        self.classes_ = np.unique(y) if plain else unique_labels(y)  # or an error for other kinds
        self._kind, self._sparse = kind.split("-")[0], hasattr(y, "toarray")

    def _make_task(self) -> Task:
        loss, kind, classes = self.loss, self._kind, len(self.classes_)
        if loss == "hinge":
            loss = Hinge()
        elif loss == "log_loss":
            loss = SoftmaxCrossEntropy() if kind == "multiclass" else SigmoidCrossEntropy()
        if not isinstance(loss, SigmoidCrossEntropy):
            if kind == "multilabel":
                raise ValueError(
                    "loss: multilabel targets need 'log_loss' or a SigmoidCrossEntropy, got "
                    f"{self.loss!r}"
                )
            link = "softmax" if isinstance(loss, SoftmaxCrossEntropy) else "identity"
            return Task(loss, link, max(2, classes))
        if kind == "multiclass":
            raise ValueError(f"loss: {classes} classes need 'log_loss', got {self.loss!r}")
        outputs = 1 if kind == "binary" else classes
        return Task(loss, "logistic", outputs, scale=outputs, reported=outputs)

    def _targets(self, y: Any) -> Array:
        """The numbers of the labels, (n,), or for logistic outputs an indicator, (n, outputs)."""
        if self._kind == "multilabel":
            known = y.ndim == 2 and y.shape[1] == len(self.classes_)
            labels = y.toarray() if hasattr(y, "toarray") else y
        else:
            labels = np.searchsorted(self.classes_, y)
            labels = np.minimum(labels, len(self.classes_) - 1)
            known = (self.classes_[labels] == y).all()
        if not known:
            raise ValueError(
                "`y` has classes not in `self.classes_`. "
                f"`self.classes_` has {self.classes_}. 'y' has {unique_labels(y)}."
            )
        if isinstance(self._task.loss, SigmoidCrossEntropy):
            return labels.reshape(len(labels), -1).astype(self._data_type())
        return labels

    def _as_given(self, targets: Array) -> Array:
        if self._kind == "multilabel":
            return targets.astype(int)
        return self.classes_[targets.reshape(len(targets)).astype(int)]

    def _class_weights(self, y: Any, data: Samples, incremental: bool) -> Array | None:
        given = self.class_weight
        if given is None:
            return None
        if incremental and given == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit, which sees a part of "
                "the data: state a dict, as from sklearn.utils.class_weight.compute_class_weight"
            )
        number, several = (
            data.y.reshape(len(data.y), -1).astype(np.intp),
            self._kind == "multilabel",
        )
        if isinstance(given, dict) and not several:
            weight = _weight_by_number(given, self.classes_.tolist())[number[:, 0]]
        elif several and isinstance(given, list) and len(given) == number.shape[1]:
            labels = zip(given, number.T, strict=True)
            columns = [_weight_by_number(by_class, [0, 1])[label] for by_class, label in labels]
            weight = np.prod(columns, axis=0)
        else:
            weight = compute_sample_weight(given, y)
        return arrays.cast(weight, self._data_type(), "class_weight")

    def _score_outputs(self, outputs: Array, targets: Array, weight: Array | None) -> float:
        if targets.ndim == 1:
            right = outputs.argmax(axis=1) == targets
        else:
            right = ((outputs > 0) == (targets > 0.5)).all(axis=1)
        return float(np.average(right, weights=weight))


@dataclass(repr=False, eq=False)
class MLPRegressor(RegressorMixin, Perceptron):
    """A dense network for regression, y (n,) or (n, outputs).

    Parameters and attributes are those of `MLPClassifier`, without `class_weight` and
    ``classes_``, and with

    - `loss`, the first: "squared_error", "poisson" (of counts; the network gives the logarithm of
      their mean), "absolute_error", "huber"; or any loss of fastnn or of your own, an object, whose
      ``loss_`` is then as fastnn defines it.

    Scores are R², and with ``Quantile(q)`` their like for quantiles, D².

    Networks learn best where the targets have mean 0 and standard deviation 1.  That is not done
    inside, for `alpha`, `tol` and ``loss_`` would then mean something other than scikit-learn's:
    ``TransformedTargetRegressor(MLPRegressor(), transformer=StandardScaler())`` of
    `sklearn.compose` does it, at any offset.

    >>> X = np.random.default_rng(0).uniform(-1, 1, (500, 2))
    >>> y = X[:, 0] * X[:, 1]
    >>> regressor = MLPRegressor("huber", activation="gelu", solver="lbfgs", random_state=0)
    >>> regressor.fit(X[:400], y[:400]).score(X[400:], y[400:]) > 0.99
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Perceptron._parameter_constraints,
        "loss": [
            StrOptions({"squared_error", "poisson", "absolute_error", "huber"}),
            Loss,
            callable,
        ],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None
    ) -> MLPRegressor:
        """Train on X (n, features) and y; returns self.

        `sample_weight` (n,), not negative.  `validation_data`, ``(X, y)`` or ``(X, y,
        sample_weight)``, gives ``validation_loss_curve_``, and with `early_stopping` stands for
        the rows that would be held out.  It is an argument of `fit`, as all data are, so that
        clones and grid searches do without; the steps before in a pipeline do not transform it.
        """
        self._fit(X, y, sample_weight, validation_data)
        return self

    @available_if(_is_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None
    ) -> MLPRegressor:
        """Train one epoch more on these rows; returns self.  `MLPClassifier.partial_fit` tells of
        `early_stopping`."""
        self._fit(X, y, sample_weight, validation_data, incremental=True)
        return self

    def predict(self, X: Any) -> Array:
        """Predicted values, (n,), or (n, outputs) for several; float64 unless X, here and in `fit`,
        was float32."""
        values = mean_over(self._members(), lambda one: one._linked(one._outputs(X, as_given=True)))
        return values.ravel() if values.shape[1] == 1 else values

    def _get_ready(self, y: Array, first: bool, incremental: bool) -> Task:
        outputs, loss = 1 if y.ndim == 1 else y.shape[1], self.loss
        if loss == "squared_error":
            return Task(MeanSquaredError(), "identity", outputs, scale=outputs / 2, reported=0.5)
        if loss == "poisson":
            return Task(Poisson(), "exp", outputs, scale=outputs, reported=outputs)
        if isinstance(loss, str):
            loss = MeanAbsoluteError() if loss == "absolute_error" else Huber()
        checks.objects(loss=loss)
        if isinstance(loss, Quantile) and isinstance(loss.q, tuple):
            raise ValueError(f"loss: expected a Quantile of one q, got {loss!r}")
        return Task(loss, "exp" if isinstance(loss, Poisson) else "identity", outputs)

    def _targets(self, y: Array) -> Array:
        return arrays.cast(y, self._data_type(), "y").reshape(len(y), -1)

    def _as_given(self, targets: Array) -> Array:
        return targets.ravel() if targets.shape[1] == 1 else targets

    def _constant(self, data: Samples) -> float:
        if self.loss != "poisson":
            return 0.0
        y = data.y.astype(np.float64)
        return float(np.average(xlogy(y, y) - y, axis=0, weights=data.weight).sum())

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R², or for `Quantile` scikit-learn's `d2_pinball_score`, of the predictions for X."""
        return self._score(self.predict(X), y, sample_weight)

    def _score_outputs(self, outputs: Array, targets: Array, weight: Array | None) -> float:
        return self._score(self._linked(outputs), targets, weight)

    def _score(self, predicted: Array, y: Any, weight: Any) -> float:
        if isinstance(self.loss, Quantile):
            q = self.loss.q
            return float(d2_pinball_score(y, predicted, alpha=q, sample_weight=weight))
        return float(r2_score(y, predicted, sample_weight=weight))


def from_sklearn(fitted: Any) -> MLPClassifier | MLPRegressor:
    """fastnn's estimator from a fitted one of scikit-learn's: the same settings, attributes and
    predictions; its `predictor` predicts single rows many times as fast.

    `fitted` is a `sklearn.neural_network.MLPClassifier` or `MLPRegressor`, which stays as it is.
    The type, `dtype`, is that of its ``coefs_``.  `fit`, `partial_fit` and `warm_start` go on from
    its parameters; the optimizer's averages begin anew.  Of a pipeline convert the last step.

    Raises TypeError for anything else, NotFittedError before `fit`, ValueError for ``coefs_`` that
    do not follow its settings.

    >>> from sklearn.neural_network import MLPRegressor as Theirs
    >>> X = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    >>> theirs = Theirs(solver="lbfgs", random_state=0).fit(X, X[:, 0] * X[:, 1])
    >>> np.allclose(from_sklearn(theirs).predict(X), theirs.predict(X))
    True
    """
    return convert_from(fitted, {theirs: ours for ours, theirs in _THEIRS.items()})


def to_sklearn(estimator: MLPClassifier | MLPRegressor) -> Any:
    """scikit-learn's estimator from a fitted one of fastnn's: the same settings, attributes and
    predictions; the inverse of `from_sklearn`.

    Raises ValueError, which names it, for a setting that scikit-learn's lacks: other activations
    and losses, `batch_norm`, `dropout`, `class_weight`, `callbacks`, `scoring`,
    `categorical_features`, `n_ensembles`.  What concerns training alone can be put back before, as
    in ``estimator.set_params(dropout=0)``.  TypeError for what is not `MLPClassifier` or
    `MLPRegressor` of fastnn's, NotFittedError before `fit`.

    >>> X = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    >>> ours = MLPRegressor(solver="lbfgs", random_state=0).fit(X, X[:, 0] * X[:, 1])
    >>> np.allclose(to_sklearn(ours).predict(X), ours.predict(X), atol=1e-6)
    True
    """
    return convert_to(estimator, _THEIRS)


_THEIRS: dict[type, type] = {
    MLPClassifier: neural_network.MLPClassifier,
    MLPRegressor: neural_network.MLPRegressor,
}
