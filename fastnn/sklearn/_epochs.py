"""What scikit-learn's neural networks do after each epoch: they write down the loss, score what was
held out, set the learning rate and decide whether to go on.  Imports nothing of scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.sklearn._batches import WeightedBatches
from fastnn.training.callbacks import Callback
from fastnn.training.samples import count_batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastnn.sklearn._task import Task
    from fastnn.training.run import Run
    from fastnn.training.samples import Samples

_SMALLEST_RATE = 1e-6  # the adaptive learning rate is lowered no further
_LEAST_RATE = 1e-30  # no learning rate is: float32 could not hold it, and no weight notices


class Epochs(Callback):
    """After each epoch, writes the attributes of `estimator` and scores the rows in `held` by
    `scoring(model, outputs, held)`.  `rows` is what it trains on: where that is `WeightedBatches`,
    they know the constant in the loss."""

    def __init__(
        self,
        estimator: Any,
        data: Samples,
        batch_size: int,
        held: Samples | None,
        rows: Any,
        scoring: Callable[[Any, Any, Samples], float],
    ) -> None:
        self.estimator, self.held, self.scoring = estimator, held, scoring
        self.task: Task = estimator._task
        self.rows, self._shape, self._batch_size = len(data.X), data.X.shape, batch_size
        self._rows = rows if isinstance(rows, WeightedBatches) else None
        self._constant: float = estimator._constant(data)
        self.held_constant = 0.0 if held is None else estimator._constant(held)
        self.converged = False

    def on_fit_begin(self, run: Run) -> None:
        # an epoch's mean loss holds so many times the penalty of a batch of one row
        self.penalties = count_batches(run.model, self._shape, self._batch_size) / self.rows
        if self.held is not None:
            names = ["validation_loss", "validation_score"]
            run.columns += names if self.estimator.early_stopping else names[:1]
        if self.estimator.early_stopping and self.estimator._best is None:
            self.estimator._best = run.model.state_dict()

    def on_epoch_end(self, run: Run) -> None:
        estimator, loss = self.estimator, self._loss(run)
        self._note(loss)
        if self.held is not None:
            self._score(run, self.held)
        if not estimator.early_stopping:
            self._count(loss > estimator.best_loss_ - estimator.tol)
            estimator.best_loss_ = min(loss, estimator.best_loss_)
        if estimator.solver == "sgd" and estimator.learning_rate == "invscaling":
            rate = estimator.learning_rate_init / (estimator.t_ + 1) ** estimator.power_t
            self._set_rate(run.optimizer, rate)
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            self._no_better(run)

    def diverge(self) -> None:
        """Note the epochs that are left of a fit with early stopping as scikit-learn does, which
        goes on with parameters that are not finite: none is any better."""
        estimator = self.estimator
        while estimator.n_iter_ < estimator.max_iter:
            self._note(np.nan)
            estimator.validation_loss_curve_.append(np.nan)
            estimator.validation_scores_.append(np.nan)
            self._say("Validation score: nan")
        estimator._no_improvement_count = 0

    def _note(self, loss: float) -> None:
        """Count an epoch, and write down its loss."""
        estimator = self.estimator
        estimator.n_iter_ += 1
        estimator.t_ += self.rows
        estimator.loss_ = loss
        estimator.loss_curve_.append(loss)
        self._say(f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")

    def _loss(self, run: Run) -> float:
        """The epoch's loss as scikit-learn defines it."""
        value, scale, reported = run.history["loss"][-1], self.task.scale, self.task.reported
        constant = self._constant if self._rows is None else self._rows.constant
        if scale == reported:
            return scale * value + constant
        penalty = run.model.penalty(1) * self.penalties
        return reported * (value - penalty) + scale * penalty + constant

    def _score(self, run: Run, held: Samples) -> None:
        """Measure the held-out rows: their loss, and with early stopping their score."""
        estimator = self.estimator
        outputs = run.model.predict(held.X)
        value = self.task.reported * run.loss(outputs, held.y, held.weight)[0] + self.held_constant
        estimator.validation_loss_curve_.append(value)
        run.log("validation_loss", value)
        if not estimator.early_stopping:
            return
        score = self.scoring(run.model, outputs, held)
        estimator.validation_scores_.append(score)
        run.log("validation_score", score)
        self._say(f"Validation score: {score:f}")
        self._count(score < estimator.best_validation_score_ + estimator.tol)
        if score > estimator.best_validation_score_:
            estimator.best_validation_score_ = score
            estimator._best = run.model.state_dict()

    def _count(self, is_worse: bool) -> None:
        estimator = self.estimator
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if is_worse else 0

    def _no_better(self, run: Run) -> None:
        estimator = self.estimator
        what = "Validation score" if estimator.early_stopping else "Training loss"
        text = f"{what} did not improve more than tol={estimator.tol:f}"
        text += f" for {estimator.n_iter_no_change} consecutive epochs."
        rate = run.optimizer.learning_rate / self.task.scale
        if estimator.solver == "sgd" and estimator.learning_rate == "adaptive":
            if rate > _SMALLEST_RATE:
                self._set_rate(run.optimizer, rate / 5)
                estimator._no_improvement_count = 0
                self._say(f"{text} Setting learning rate to {rate / 5:f}")
                return
            text += " Learning rate too small."
        self._say(f"{text} Stopping.")
        self.converged = True
        run.stop()

    def _say(self, text: str) -> None:
        if self.estimator.verbose:
            print(text)

    def _set_rate(self, optimizer: Any, rate: float) -> None:
        """Change the learning rate, but not the effect of past gradients: scikit-learn's velocity
        includes the rate that each gradient came with, fastnn's does not."""
        before = optimizer.learning_rate
        after = max(rate * self.task.scale, min(before, _LEAST_RATE))
        optimizer.learning_rate = after
        for velocity in optimizer._buffers:
            velocity *= before / after
