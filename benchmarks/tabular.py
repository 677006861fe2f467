"""Accuracy and time on real tables, beside the peers: ``python benchmarks/tabular.py``.

``fetch DATA`` downloads the tables (see data_sets.py), ``run DATA RESULTS`` trains the peers, each
in a process of its own, and appends a line of JSON to the file RESULTS for each training, so that a
run that was interrupted goes on; ``report RESULTS`` makes of it the tables of
docs/background/tabular.md.

Needs, beside fastnn and scikit-learn, ``pandas pyreadr pytabkit catboost lightgbm xgboost-cpu`` of
PyPI as far as they are to be compared, and apt-get for the tables of r-cran-mlbench.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

Predict = Callable[[Any], Any]  # a frame's probabilities (rows, classes), or values (rows,)

TREES, PATIENCE = 1000, 100  # of the boosted trees that stop early
SEEDS = 3
ROWS_AT_ONCE = 1000
TURNS = 5  # of timed predictions


WARM_UP = "saheart"  # a small data set, trained before times count


class Peer(NamedTuple):
    """A function ``(train, task, seed, threads, **settings) -> Predict`` of a module in peers/."""

    module: str
    function: str
    packages: tuple[str, ...]
    settings: dict[str, Any] = {}  # noqa: RUF012


PARTS: dict[str, dict[str, Any]] = {  # of fastnn's recipe, and how each is left out
    "robust scaling": {"robust_scaling": False},
    "periodic embedding": {"periodic_embedding": False},
    "front scale": {"front_scale": False},
    "factors of fan-in": {"fan_in_factors": False},
    "factors by group": {"group_factors": False},
    "parametric activation": {"parametric_activation": False},
    "initialisation from data": {"data_dependent_init": False},
    "schedule of the rate": {"learning_rate_schedule": False},
    "dropout": {"dropout": 0.0},
    "schedule of dropout": {"dropout_schedule": False},
    "weight decay": {"weight_decay": 0.0},
    "schedule of weight decay": {"weight_decay_schedule": False},
    "label smoothing": {"label_smoothing": 0.0},
    "beta2 of 0.95": {"beta2": 0.999},
    "the last best epoch": {"last_best_epoch": False},
}

PEERS = {
    "fastnn": Peer("fastnn_tables", "network", ("fastnn-cpu",)),
    "fastnn, 8": Peer("fastnn_tables", "network", ("fastnn-cpu",), {"n_ensembles": 8}),
    "RealMLP": Peer("pytabkit_tables", "realmlp", ("pytabkit", "torch")),
    "TabM": Peer("pytabkit_tables", "tabm", ("pytabkit", "torch")),
    "MLP": Peer("sklearn_tables", "mlp", ("scikit-learn",)),
    "HistGradientBoosting": Peer("sklearn_tables", "boosting", ("scikit-learn",)),
    "LightGBM": Peer("lightgbm_tables", "trees", ("lightgbm",)),
    "XGBoost": Peer("xgboost_tables", "trees", ("xgboost-cpu",)),
    "CatBoost": Peer("catboost_tables", "trees", ("catboost",)),
    "CatBoost, tuned": Peer("catboost_tables", "tuned", ("catboost",)),
}
ABLATIONS = {
    f"fastnn without {name}": Peer("fastnn_tables", "network", ("fastnn-cpu",), settings)
    for name, settings in PARTS.items()
}
ALL = PEERS | ABLATIONS


def scores(task: str, y: Any, predicted: Any) -> dict[str, float]:
    """For classes the part that is wrong, log loss and area under the ROC curve; for values the
    root of the mean squared error, and the same in units of the targets' standard deviation."""
    import numpy as np
    from sklearn.metrics import log_loss, roc_auc_score

    predicted = np.asarray(predicted, np.float64)
    if task == "regression":
        rmse = float(np.sqrt(np.mean((predicted.reshape(len(y)) - y) ** 2)))
        return {"error": rmse / float(np.std(y)), "rmse": rmse}
    predicted = predicted / predicted.sum(axis=1, keepdims=True)
    shown = predicted[:, 1] if task == "binary" else predicted
    return {
        "error": float(np.mean(predicted.argmax(axis=1) != y)),
        "log_loss": float(log_loss(y, predicted, labels=range(predicted.shape[1]))),
        "auc": float(roc_auc_score(y, shown, multi_class="ovr")),
    }


def seconds(predict: Predict, rows: Any) -> float:
    """The median of a few predictions, after a first one."""
    times = []
    for _ in range(1 + TURNS):
        started = time.perf_counter()
        predict(rows)
        times.append(time.perf_counter() - started)
    return median(times[1:])


def trial(peer: Peer, train: Any, test: Any, task: str, seed: int, options: Any) -> dict[str, Any]:
    """A training, and what it predicts of the other rows; times where they count."""
    import numpy as np

    fit = getattr(importlib.import_module(f"peers.{peer.module}"), peer.function)
    started, worked = time.perf_counter(), time.process_time()
    predict = fit(train, task, seed, options.threads, **peer.settings)
    result: dict[str, Any] = {"fit_seconds": time.perf_counter() - started}
    result["fit_cpu_seconds"] = time.process_time() - worked  # of all threads
    result |= scores(task, test.y, predict(test.X))
    if not options.untimed:
        many = test.X.iloc[np.arange(ROWS_AT_ONCE) % len(test.X)].reset_index(drop=True)
        result["predict_seconds"] = seconds(predict, many)
        result["row_seconds"] = seconds(predict, test.X.iloc[:1])
    return result


def done(path: Path) -> list[dict[str, Any]]:
    """The lines that a file of results has so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def jobs(options: argparse.Namespace, name: str) -> list[tuple[Any, int]]:
    """The data sets and seeds of which the file lacks this peer's result."""
    from data_sets import DATA_SETS

    there = {
        (line["data_set"], line["seed"])
        for line in done(options.results)
        if line["peer"] == name and line["timed"] != options.untimed
    }
    wanted = [(data, seed) for seed in options.seeds for data in DATA_SETS]
    chosen = set(options.only.split(",")) if options.only else {data.name for data in DATA_SETS}
    return [
        (data, seed)
        for data, seed in wanted
        if (data.name, seed) not in there and data.name in chosen
    ]


def installed(peer: Peer) -> dict[str, str] | None:
    """The versions of a peer's packages, or None if one is missing."""
    try:
        return {package: version(package) for package in peer.packages}
    except PackageNotFoundError:
        return None


def work(options: argparse.Namespace, name: str) -> None:
    """Runs all of one peer that is still to be done, in this process."""
    from data_sets import DATA_SETS, origins, split

    peer = ALL[name]
    versions = (installed(peer) or {}) | origins(options.data)
    if not options.untimed:
        (data,) = (data for data in DATA_SETS if data.name == WARM_UP)
        table = data.read(options.data)
        trial(peer, table, table, data.task, 0, options)
    for data, seed in jobs(options, name):
        train, test = split(data.read(options.data), data.task, seed)
        line = {
            "data_set": data.name,
            "task": data.task,
            "seed": seed,
            "peer": name,
            "versions": versions,
            "rows": len(train.y),
            "columns": train.X.shape[1],
            "threads": options.threads,
            "timed": not options.untimed,
        }
        try:
            line |= trial(peer, train, test, data.task, seed, options)
        except Exception as failure:
            line["failure"] = f"{type(failure).__name__}: {failure}"
        with options.results.open("a") as file:
            file.write(json.dumps(line) + "\n")


def run(options: argparse.Namespace) -> None:
    """Each peer in a new process, one after the other."""
    for name in options.peers or (ABLATIONS if options.ablate else PEERS):
        if installed(ALL[name]) is None:
            print(f"{name} is not installed")
        elif jobs(options, name):
            environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads))
            command = [sys.executable, *sys.argv, "--here", name]
            subprocess.run(command, check=False, env=environment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("fetch", help="download the data sets")
    command.add_argument("data", type=Path)
    command = commands.add_parser("run", help="train the peers")
    command.add_argument("data", type=Path)
    command.add_argument("results", type=Path)
    command.add_argument("--peers", nargs="+", choices=ALL, metavar="PEER")
    command.add_argument("--ablate", action="store_true", help="fastnn without each of its parts")
    command.add_argument("--seeds", nargs="+", type=int, default=range(SEEDS))
    command.add_argument("--only", default="", help="names of data sets, with commas between")
    command.add_argument("--threads", type=int, default=2)
    command.add_argument("--untimed", action="store_true", help="others work too: no times count")
    command.add_argument("--here", choices=ALL, help=argparse.SUPPRESS)
    command = commands.add_parser("report", help="the tables, as Markdown")
    command.add_argument("results", type=Path)
    command.add_argument("--seeds", nargs="+", type=int, help="of these alone, all by default")
    options = parser.parse_args()
    if options.command == "fetch":
        from data_sets import fetch

        fetch(options.data)
    elif options.command == "report":
        from tabular_report import report

        lines = done(options.results)
        wanted = options.seeds or {line["seed"] for line in lines}
        print(report([line for line in lines if line["seed"] in wanted]))
    elif options.here:
        work(options, options.here)
    else:
        run(options)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    # The peers import this file by its name: it is one module, not two.
    sys.modules["tabular"] = sys.modules["__main__"]
    main()
