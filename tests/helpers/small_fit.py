"""A small fit for tests of what goes along with one, and a callback that scripts its results."""

import numpy as np

import fastnn
from fastnn import Callback, Dense, MeanSquaredError, Sequential

X = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
Y = X @ np.array([[1.0], [2.0], [-1.0]], np.float32)


def network():
    return Sequential(Dense(3, 8, activation="tanh"), Dense(8, 1), seed=0)


def fit(*callbacks, model=None, epochs=6, **options):
    settings = {
        "loss": MeanSquaredError(), "optimizer": fastnn.SGD(0.05), "batch_size": 16,
        "progress": False, "validation_data": (X[:9], Y[:9]),
    }  # fmt: skip
    model = network() if model is None else model
    return model.fit(X, Y, epochs=epochs, callbacks=callbacks, **(settings | options))


class Scripted(Callback):
    """Replaces each epoch's validation loss by the next of `values`."""

    def __init__(self, *values):
        self.values = values

    def on_epoch_end(self, run):
        run.history["validation_loss"][-1] = self.values[run.epoch - 1]
