"""``fastnn train``: from a file to a network in a file, with what it is worth beside an answer that
needs no network."""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.commands import data as reading
from fastnn.commands import pictures, report
from fastnn.commands.trained import Learnt, Trained, check_files, say
from fastnn.data import Standardizer, TableEncoder, stratified_split
from fastnn.files import checkpoint
from fastnn.many import fit_many
from fastnn.recipe import Recipe
from fastnn.support.threads import threads
from fastnn.training.callbacks import Callback
from fastnn.training.monitors import EarlyStopping
from fastnn.training.progress import describe

if TYPE_CHECKING:
    from argparse import Namespace

    from numpy.typing import NDArray

    from fastnn.commands.data import Data, Goal
    from fastnn.history import History
    from fastnn.model import Sequential
    from fastnn.training.run import Run

    Array = NDArray[Any]

_FEWEST_ROWS = 10
_MANY_COLUMNS = 100  # so many are rather pixels than what a table has
_MOST_ROWS_SEEN = 10_000_000  # in all epochs of the default, but at least _FEWEST_EPOCHS
_FEWEST_EPOCHS = 16
_MOST_LINES = 20  # of progress, where there is no terminal

TABULAR = Recipe()
TABULAR_REGRESSION = replace(TABULAR, activation="mish", learning_rate=0.2)
DENSE = Recipe(  # Adam, ReLU and the usual initial weights
    hidden_layer_sizes=(256,),
    activation="relu",
    learning_rate=1e-3,
    dropout=0.2,
    label_smoothing=0.0,
    periodic_embedding=False,
    front_scale=False,
    parametric_activation=False,
    data_dependent_init=False,
    fan_in_factors=False,
    group_factors=False,
    learning_rate_schedule=False,
    dropout_schedule=False,
    weight_decay_schedule=False,
    beta2=0.999,
)


class Lines(Callback):
    """Some lines in the course of training, for logs, where a bar cannot be."""

    def __init__(self, epochs: int) -> None:
        self._every = -(-epochs // _MOST_LINES)

    def on_epoch_end(self, run: Run) -> None:
        if run.epoch % self._every == 0:
            results = {name: values[-1] for name, values in run.history.items()}
            say(f"epoch {run.epoch}  {describe(results)}")


@dataclass
class Plan:
    """How networks are trained: what the arguments say, and defaults that suit the data."""

    recipe: Recipe
    kind: str
    epochs: int
    batch_size: int
    patience: int | None
    fraction: float
    seed: int
    target: str
    options: Namespace

    @classmethod
    def of(cls, options: Namespace, found: Data, goal: Goal) -> Plan:
        rows, features = found.X.shape
        is_table = not isinstance(found.X, np.ndarray)
        kind = options.network
        if kind == "auto":
            kind = "tabular" if is_table and features <= _MANY_COLUMNS else "dense"
        tabular, large = kind == "tabular", rows >= 10_000
        if tabular:
            recipe = TABULAR if goal.classes else TABULAR_REGRESSION
            epochs, batch_size, patience = _MOST_ROWS_SEEN // rows, 256, None
            epochs = min(256, max(_FEWEST_EPOCHS, epochs))
        else:
            recipe = replace(DENSE, hidden_layer_sizes=(256, 256)) if large else DENSE
            epochs, batch_size, patience = 100, 128 if large else 32, 10
        given = {
            "hidden_layer_sizes": options.layers,
            "dropout": options.dropout,
            "learning_rate": options.learning_rate,
            "batch_norm": options.batch_norm or None,
        }
        recipe = replace(recipe, **{k: v for k, v in given.items() if v is not None})
        return cls(
            recipe,
            kind,
            options.epochs or epochs,
            options.batch_size or batch_size,
            options.patience or patience,
            options.validation,
            options.seed,
            found.target,
            options,
        )

    def begin(self, X: Any, targets: Array, goal: Goal, seed: int) -> Learner:
        """A network for these rows, of which it holds out a part."""
        train, held = split(targets, self.fraction, seed)
        encoder = self.recipe.encoder(_texts(X), 8)
        rows = encoder.fit_transform(X[train])
        scaler = None if goal.classes else Standardizer().fit(targets[train])
        outputs = len(goal.classes) if goal.classes else 1
        model = self.recipe.begin(encoder, outputs, rows, seed)
        model.scaler, model.target_scaler, model.classes = encoder, scaler, goal.classes
        y = targets if scaler is None else scaler.transform(targets)
        keeper = EarlyStopping(patience=self.patience)  # keeps the epoch of the least loss
        arguments = {
            "X": rows,
            "y": y[train],
            "validation_data": (encoder.transform(X[held]), y[held]),
            "loss": self.recipe.loss(goal.classes is not None),
            "optimizer": self.recipe.optimizer(model),
            "schedule": self.recipe.schedule() or None,
            "epochs": self.epochs,
            "batch_size": min(self.batch_size, len(train)),
            "class_weight": "balanced" if self.options.balanced else None,
            "seed": seed,
            "callbacks": [keeper],
        }
        learnt = Learnt.of(self.target, targets[train], goal.classes)
        return Learner(model, arguments, keeper, held, learnt)


@dataclass
class Learner:
    """A network, the arguments of its `fit`, the callback that keeps its best epoch, the rows that
    it holds out, and what is known of the targets that it learns from."""

    model: Sequential
    arguments: dict[str, Any]
    keeper: EarlyStopping
    held: Array
    learnt: Learnt

    def results(self, X: Any) -> tuple[Trained, Array]:
        """The network with what goes with it, and what it makes of these rows."""
        network = Trained(self.model, self.learnt)
        return network, network.results(X)


def _texts(X: Any) -> list[str] | None:
    """The names of a table's columns of text."""
    if isinstance(X, np.ndarray):
        return None
    return [name for name, array in X.arrays.items() if array.dtype.kind == "O"] or None


def split(targets: Array, fraction: float, seed: int) -> tuple[Array, Array]:
    """Rows to learn from and rows held out, of each class the same part."""
    labels = targets if targets.ndim == 1 else np.zeros(len(targets))
    return stratified_split(labels, fraction, seed)


def train(options: Namespace) -> int:
    """Run the command; returns the exit code."""
    picture = os.path.splitext(options.output)[0] + ".png" if options.output else ""
    if options.output and picture == options.output:
        raise ValueError(
            f"{picture}: the learning curves are called so; give the network another name"
        )
    check_files([options.data, options.test], [options.output, picture], options.force)
    found = reading.read(options, say)
    with nullcontext() if options.threads is None else threads(options.threads):
        try:
            return _train(options, found, picture)
        except ValueError as error:  # such as infinity in a column
            text = str(error)
            known = text.startswith(("--", found.name, options.test or found.name))
            raise ValueError(text if known else f"{found.name}: {text}") from None


def _train(options: Namespace, found: Data, picture: str) -> int:
    goal = reading.goal(found.y, options.task, found.target)
    targets = goal.targets(found.y, found.name)
    tests = None if found.test is None else goal.targets(found.test[1], options.test or found.name)
    if options.balanced and goal.classes is None:
        raise ValueError(f"--balanced: expected classes, but {found.target} is {goal.why}")
    if len(targets) < _FEWEST_ROWS:
        raise ValueError(f"{found.name}: expected {_FEWEST_ROWS} rows or more, got {len(targets)}")
    features, is_table = found.X.shape[1], not isinstance(found.X, np.ndarray)
    plan = Plan.of(options, found, goal)
    what = "classification" if goal.classes else "regression"
    print(f"{found.name}: {len(targets)} rows, {features} columns.")
    other = "regression" if goal.classes else "classification"
    otherwise = "" if options.task else f" (If not: --task {other})"
    print(f"{what.capitalize()}: {found.target} is {goal.why}.{otherwise}")
    learner = plan.begin(found.X, targets, goal, plan.seed)
    if found.test is not None:
        _check_rows(learner, found.test[0], options.test or found.name)
    if options.cv:
        _cross_validate(plan, found.X, targets, goal, options.cv)
    print(_described(plan, learner), flush=True)
    started = time.perf_counter()
    bar = not options.quiet and sys.stderr.isatty()
    if not (bar or options.quiet):
        learner.arguments["callbacks"].append(Lines(plan.epochs))
    failure = ""
    try:
        history = learner.model.fit(**learner.arguments, progress=bar)
    except FloatingPointError as error:  # the best epoch before it is kept
        failure = str(error).partition(";")[0]
        if not np.isfinite(learner.keeper.best):
            raise FloatingPointError(f"{failure}; nothing is saved") from None
        history = error.history  # type: ignore[attr-defined]
    seconds = time.perf_counter() - started
    kept = np.isfinite(learner.keeper.best)
    if kept:  # before anything is measured or printed, which may fail
        checkpoint.write_model(options.output, learner.model, learner.learnt.metadata())
    elif not history.interrupted:
        failure = "the loss on the rows held out is not finite after any epoch"
        raise FloatingPointError(f"{failure}; nothing is saved")
    if history.interrupted:
        print(f"Stopped by Ctrl-C after {history.epochs} epochs.", end=" ")
        print("The best of them is kept." if kept else "Nothing is saved.", flush=True)
        if not kept:
            return 130
    try:
        _report(options, learner, found, (targets, tests), history, seconds)
        if pictures.learning_curves(history, learner.keeper.best_epoch, picture):
            print(f"Saved {picture}: the learning curves.")
        new = "new.npz" if not is_table else "new.csv"
        print(f"Use it: fastnn predict {options.output} {new} -o predictions.csv", flush=True)
    except BrokenPipeError:
        raise
    except Exception:
        say(f"Saved {options.output}, though the report is not whole.")
        raise
    if failure:
        raise FloatingPointError(f"{failure}; {options.output} has the best epoch before it")
    return 130 if history.interrupted else 0


def _report(
    options: Namespace,
    learner: Learner,
    found: Data,
    targets: tuple[Array, Array | None],
    history: History,
    seconds: float,
) -> None:
    """Print what training has reached, on the rows held out and those of the test, if any."""
    best = f"epoch {learner.keeper.best_epoch} was the best"
    print(f"Trained {history.epochs} epochs in {seconds:.1f} s; {best} and is kept.")
    what = "rows held out, which chose the epoch"
    held, tests = targets[0][learner.held], targets[1]
    report.show(what, *learner.results(found.X[learner.held]), held)
    if found.test is not None and tests is not None:
        report.show("rows of the test", *learner.results(found.test[0]), tests)
    print(f"\nSaved {options.output}: the network, and what makes numbers of a row.")


def _check_rows(learner: Learner, X: Any, path: str) -> None:
    """ValueError, which names the file, for rows that the network cannot take."""
    encoder = learner.model.scaler
    assert isinstance(encoder, TableEncoder)
    if X.shape[1] != (features := encoder.n_features_in_):
        raise ValueError(f"{path}: expected {features} columns, as in training, got {X.shape[1]}")
    try:
        encoder.transform(X)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _described(plan: Plan, learner: Learner) -> str:
    recipe, arguments = plan.recipe, learner.arguments
    widths = "-".join(map(str, recipe.hidden_layer_sizes)) or "no hidden layer"
    extras = [f"dropout {recipe.dropout:g}"] * bool(recipe.dropout)
    extras += ["batch norm"] * recipe.batch_norm
    smoothing = getattr(arguments["loss"], "label_smoothing", 0.0)
    other = f"have label smoothing {smoothing:g}, the report at the end has none" * bool(smoothing)
    if learner.model.classes is None:
        other = "are of targets scaled to variance 1, the report is in their own unit"
    stop = f", until {plan.patience} are no better" if plan.patience else ""
    return (
        f"Network ({plan.kind}): {widths}, {', '.join([recipe.activation, *extras])}, "
        f"{sum(p.size for p in learner.model.parameters.values()):,} parameters.\n"
        f"It learns from {len(arguments['X'])} rows and is tried on {len(learner.held)}:\n"
        f"{plan.epochs} epochs{stop}, batches of {arguments['batch_size']}, seed {plan.seed}.\n"
        + (f"Losses on the way {other}.\n" if other else "")
    )


def _cross_validate(plan: Plan, X: Any, targets: Array, goal: Goal, folds: int) -> None:
    """Train as many networks, each on all folds but one, and print what they reach on that one."""
    if folds > len(targets) // 2:
        raise ValueError(f"--cv: expected at most half of {len(targets)} rows, got {folds}")
    print(f"Cross-validation: {folds} networks, each tried on rows that it has no part in ...")
    rest, tests = np.arange(len(targets)), []
    for left in range(folds, 1, -1):
        train, test = split(targets[rest], 1 / left, plan.seed)
        tests.append(rest[test])
        rest = rest[train]
    tests.append(rest)
    learners = []
    for number, test in enumerate(tests):
        others = np.setdiff1d(np.arange(len(targets)), test)
        learners.append(plan.begin(X[others], targets[others], goal, plan.seed + number))
    try:
        histories = fit_many(
            [one.model for one in learners], each=[one.arguments for one in learners]
        )
    except FloatingPointError as error:
        failure = str(error).partition(";")[0]
        raise FloatingPointError(f"cross-validation: {failure}; nothing is saved") from None
    if any(history.interrupted for history in histories):
        raise KeyboardInterrupt
    each = [
        report.measured(*one.results(X[test]), targets[test])
        for one, test in zip(learners, tests, strict=True)
    ]
    for name in each[0]:
        values = [found[name][0] for found in each if name in found]
        print(f"  {name:<30} {np.mean(values):.4g} ± {np.std(values):.2g}")
    print("  (mean and standard deviation over the folds)\n")
