"""`n_ensembles` of MLPClassifier and MLPRegressor: networks whose predictions are averaged."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn.base", reason="scikit-learn is not installed: fastnn.sklearn untested")

from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

import fastnn
import fastnn.sklearn as ours
from fastnn.sklearn import MLPClassifier, MLPRegressor
from perceptrons import cancer, counts, digits, fast, multilabel, outputs_of, plane

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CASES = {
    "digits": ("MLPClassifier", digits(), {}),
    "cancer": ("MLPClassifier", cancer(), {"early_stopping": True}),
    "L-BFGS": ("MLPClassifier", cancer(), {"solver": "lbfgs"}),
    "multilabel": ("MLPClassifier", multilabel(), {"dropout": 0.1}),
    "plane": ("MLPRegressor", plane(), {"batch_norm": True}),
    "counts": ("MLPRegressor", counts(2), {"loss": "poisson"}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_mean_of_networks_that_are_trained_alone(case):
    name, (X, y), settings = CASES[case]
    kind = getattr(ours, name)
    several = kind(**fast(n_ensembles=3, **settings)).fit(X, y)
    members = [several, *several.others_]
    alone = [kind(**fast(**settings | {"random_state": one.random_state})) for one in members]
    for one in alone:
        one.fit(X, y)
    found, wanted = outputs_of(several, X), [outputs_of(one, X) for one in alone]
    assert (found == np.mean(wanted, axis=0)).all()
    assert (alone[0].coefs_[0] == several.coefs_[0]).all()  # as without n_ensembles
    assert all((wanted[0] != other).any() for other in wanted[1:])
    if name == "MLPClassifier":
        chosen = found > 0.5 if case == "multilabel" else several.classes_[found.argmax(axis=1)]
        assert (several.predict(X) == chosen).all()
        np.testing.assert_allclose(
            np.exp(several.predict_log_proba(X)), found, rtol=1e-4, atol=1e-30
        )
    twin = pickle.loads(pickle.dumps(several))
    assert (outputs_of(twin, X) == found).all()
    assert (outputs_of(clone(several).fit(X, y), X) == found).all()
    assert several.get_params()["n_ensembles"] == 3


def test_hinge_averages_scores():
    X, y = digits()
    several = MLPClassifier(**fast(n_ensembles=3, loss="hinge")).fit(X, y)
    scores = [one.model_.predict(X) for one in (several, *several.others_)]
    assert (several.predict(X) == np.mean(scores, axis=0).argmax(axis=1)).all()


def test_random_states_that_are_no_numbers():
    X, y = plane()
    for state in (None, np.random.RandomState(0)):
        several = MLPRegressor(**fast(n_ensembles=3, random_state=state)).fit(X, y)
        members = [several, *several.others_]
        firsts = [one.coefs_[0] for one in members]
        assert all((firsts[0] != other).any() for other in firsts[1:])


def test_a_network_alone_has_no_others():
    X, y = plane()
    regressor = MLPRegressor(**fast(n_ensembles=2)).fit(X, y)
    regressor.set_params(n_ensembles=1).fit(X, y)
    assert not hasattr(regressor, "others_")
    assert (regressor.predict(X) == MLPRegressor(**fast()).fit(X, y).predict(X)).all()


@pytest.mark.parametrize("n_threads", [1, 2, None])
def test_threads_make_no_difference(n_threads):
    X, y = digits()
    found = MLPClassifier(**fast(n_ensembles=3, n_threads=n_threads)).fit(X, y)
    wanted = MLPClassifier(**fast(n_ensembles=3, n_threads=3)).fit(X, y)
    assert (found.predict_proba(X) == wanted.predict_proba(X)).all()


def test_weights_sparse_data_and_validation_reach_every_network():
    X, y = cancer()
    weight = np.where(np.arange(len(y)) % 2, 1.0, 0.0)
    several = MLPClassifier(**fast(n_ensembles=2, callbacks=[fastnn.Callback()]))
    several.fit(sparse.csr_matrix(X), y, weight, validation_data=(X, y))
    half = MLPClassifier(**fast(n_ensembles=2)).fit(X[1::2], y[1::2])
    np.testing.assert_allclose(several.predict_proba(X), half.predict_proba(X), rtol=1e-4)
    assert all(len(one.validation_loss_curve_) == 12 for one in (several, *several.others_))


def test_what_ensembles_cannot_do_is_refused():
    X, y = cancer()
    with pytest.raises(ValueError, match="n_ensembles: partial_fit needs 1, got 2"):
        MLPClassifier(**fast(n_ensembles=2)).partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="n_ensembles: warm_start needs 1, got 2"):
        MLPClassifier(**fast(n_ensembles=2, warm_start=True)).fit(X, y)
    with pytest.raises(ValueError, match="n_ensembles"):
        MLPClassifier(**fast(n_ensembles=0)).fit(X, y)


def test_cross_validation_in_processes():
    X, y = cancer()
    several = MLPClassifier(**fast(n_ensembles=2))
    assert (cross_val_score(several, X, y, n_jobs=2) == cross_val_score(several, X, y)).all()
