"""Logistic regression with fastnn, compared with the known optimum.

A `Dense(n, 1)` and the sigmoid cross-entropy is logistic regression.  Its loss is convex, so
there is one best loss; Newton's method finds it to the last digit, and training must reach it.
"""

import numpy as np

import fastnn
from fastnn import Dense, Sequential


def make_data(n=300, seed=0):
    """X (n, 2) and y (n,) of 0 and 1: two clouds that overlap."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = rng.normal(size=(n, 2)) + 1.2 * y[:, None] * [1.0, -0.5]
    return X, y.astype(float)


def loss_of(w, X, y):
    """Mean cross-entropy of the weights and bias in `w` (3,)."""
    logits = X @ w[:-1] + w[-1]
    return np.mean(np.logaddexp(0, logits) - y * logits)


def newton(X, y, iterations=20):
    """The best weights and bias (3,), by iteratively reweighted least squares."""
    A = np.column_stack([X, np.ones(len(X))])
    w = np.zeros(A.shape[1])
    for _ in range(iterations):
        p = 1 / (1 + np.exp(-A @ w))
        w += np.linalg.solve(A.T @ (A * (p * (1 - p))[:, None]), A.T @ (y - p))
    return w


def train(X, y, steps=1000):
    """The same by gradient descent; returns weights and bias (3,), and the model."""
    model = Sequential(Dense(X.shape[1], 1), dtype="float64", seed=0)
    step = fastnn.TrainStep(model, fastnn.SigmoidCrossEntropy(), fastnn.Momentum(1.0, beta=0.8))
    for _ in range(steps):
        step(X, y[:, None])
    weight, bias = model.parameters["0.weight"][:, 0], model.parameters["0.bias"]
    return np.concatenate([weight, bias]), model


def main():
    X, y = make_data()
    best, (trained, model) = newton(X, y), train(X, y)
    for name, w in ("Newton", best), ("fastnn", trained):
        print(f"{name:7} loss {loss_of(w, X, y):.12f}  weights and bias {w}")
    print(f"accuracy {np.mean((model.predict(X)[:, 0] > 0) == y):.1%}")


if __name__ == "__main__":
    main()
