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


def fit_members(estimator: E, *data: Any, **more: Any) -> list[E]:
    """As many clones as `estimator` has `n_ensembles`, each of one network, after `fit`.

    The first begins as the estimator alone would.  The threads share the processors, and each clone
    has the bits that it has alone."""
    parameters: Any = estimator
    count, random = parameters.n_ensembles, parameters.random_state
    seeds = check_random_state(random).randint(2**31 - 1, size=count).tolist()
    first = seeds[0] if random is None or hasattr(random, "randint") else random
    members = [
        clone(parameters).set_params(n_ensembles=1, random_state=seed)
        for seed in (first, *seeds[1:])
    ]
    threads = parameters.n_threads or _kernels.granted_threads()
    jobs = Parallel(n_jobs=min(count, threads), backend="threading")
    return list(jobs(delayed(member.fit)(*data, **more) for member in members))


def mean_over(members: Any, results: Any) -> Any:
    """The mean of ``results(member)`` over the members."""
    found = [results(member) for member in members]
    return found[0] if len(found) == 1 else np.mean(found, axis=0)
