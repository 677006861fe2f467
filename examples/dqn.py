"""Balance a pole on a cart with deep Q-learning
V. Mnih et al., "Human-level control through deep reinforcement learning", 2015;
H. van Hasselt et al. Double, 2016.
"""
import argparse
import copy

import numpy as np

import fastnn
from environments import CartPole, returns
from fastnn import Dense, Sequential

RATE, BATCH, DISCOUNT, TAU, WARM_UP, CARTS = 2e-3, 128, 0.99, 0.01, 1000, 4
EXPLORE, LEAST = 0.16, 0.04

def network(seed):
    return Sequential(
        Dense(4, 128, activation="relu"), Dense(128, 128, activation="relu"), Dense(128, 2),
        seed=seed,
    )

def train(steps=50_000, seed=0, progress=True):
    rng, task = np.random.default_rng(seed), CartPole(CARTS, seed)
    model = network(seed)
    target = copy.deepcopy(model)
    learn = fastnn.GradientStep(model, fastnn.Adam(RATE, clip_norm=10))
    rows = np.zeros((steps, 4 + 1 + 1 + 4 + 1), np.float32)
    stored = 0
    while stored < steps:
        done = stored / steps
        seen = task.observations
        random = rng.random(CARTS) < max(LEAST, 1 - done / EXPLORE)
        a = np.where(random, rng.integers(2, size=CARTS), model.predict(seen).argmax(axis=1))
        rewards, following, ended, over = task.step(a)
        rows[stored : stored + CARTS] = np.column_stack([seen, a, rewards, following, ended])
        stored += CARTS
        if stored < WARM_UP:
            continue
        learn.optimizer.learning_rate = RATE * (1 - done)
        for _ in range(2):
            x, a, r, x2, ended = np.split(rows[rng.integers(stored, size=BATCH)], [4, 5, 6, 10], axis=1)
            best = model.predict(x2).argmax(axis=1, keepdims=True)
            goal = r + DISCOUNT * (1 - ended) * np.take_along_axis(target.predict(x2), best, 1)
            q = learn.forward(x)
            taken = np.arange(2) == a
            learn.backward(np.clip(q - goal, -1, 1) * taken / BATCH)
            target.flat_parameters[...] += TAU * (model.flat_parameters - target.flat_parameters)
        if progress and stored % 5000 == 0:
            r = returns(CartPole, lambda x: model.predict(x).argmax(axis=1))
            print(stored, r.mean(), r.min(), flush=True)
    return model

if __name__ == "__main__":
    import sys, time
    for s in range(4):
        t = time.time()
        train(seed=s)
        print(time.time() - t)
