"""Linear regression with fastnn, compared with the closed form.

A `Dense(n, 1)` without activation and the mean squared error is linear regression.  Trained on
the whole set at once it must reach the weights that the normal equations give.
"""

import numpy as np

import fastnn
from fastnn import Dense, Sequential


def make_data(n=200, seed=0):
    """X (n, 3) and y (n,): a plane with noise, known weights."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    y = X @ [1.5, -2.0, 0.5] + 3.0 + 0.3 * rng.normal(size=n)
    return X, y


def closed_form(X, y):
    """Weights (3,) and bias with the least squared error, by NumPy's least squares."""
    solution, *_ = np.linalg.lstsq(np.column_stack([X, np.ones(len(X))]), y)
    return solution[:-1], solution[-1]


def train(X, y, steps=500):
    """The same by gradient descent."""
    model = Sequential(Dense(X.shape[1], 1), dtype="float64", seed=0)
    step = fastnn.TrainStep(model, fastnn.MeanSquaredError(), fastnn.Momentum(0.1, beta=0.8))
    for _ in range(steps):
        step(X, y)
    return model.parameters["0.weight"][:, 0], model.parameters["0.bias"][0]


def main():
    X, y = make_data()
    for name, (weight, bias) in ("closed form", closed_form(X, y)), ("fastnn", train(X, y)):
        print(f"{name:12} weight {np.array2string(weight, precision=8)}  bias {bias:.8f}")


if __name__ == "__main__":
    main()
