"""Ensembles of estimators: several of one kind, of different random states, trained side by side.

Imports scikit-learn, and so is imported by fastnn.sklearn alone."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed

import fastnn._kernels as _kernels

E = TypeVar("E")


def fit_ensemble(
    estimator: E, incremental: bool, X: Any, y: Any, sample_weight: Any, validation_data: Any
) -> E:
    """Train as many clones as `estimator` has `n_ensembles`, each of one network, and let it become
    the first of them, with the others as ``others_``; returns it.

    The first begins as the estimator alone would.  The threads share the processors, and each clone
    has the bits that it has alone."""
    it: Any = estimator
    count, random = it.n_ensembles, it.random_state
    if incremental or it.warm_start:
        what = "partial_fit" if incremental else "warm_start"
        raise ValueError(f"n_ensembles: {what} needs 1, got {count}")
    seeds = check_random_state(random).randint(2**31 - 1, size=count).tolist()
    first = seeds[0] if random is None or hasattr(random, "randint") else random
    members = [
        clone(it).set_params(n_ensembles=1, random_state=seed) for seed in (first, *seeds[1:])
    ]
    threads = it.n_threads or _kernels.granted_threads()
    jobs = Parallel(n_jobs=min(count, threads), backend="threading")
    fits = (
        delayed(one.fit)(X, y, sample_weight, validation_data=validation_data) for one in members
    )
    member, *others = jobs(fits)
    vars(it).update(vars(member) | it.get_params(deep=False) | {"others_": others})
    return estimator


def mean_over(members: Any, results: Any) -> Any:
    """The mean of ``results(member)`` over the members."""
    found = [results(member) for member in members]
    return found[0] if len(found) == 1 else np.mean(found, axis=0)
