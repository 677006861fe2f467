"""Balance a pole on a cart with proximal policy optimization, in a few seconds.

J. Schulman et al., "Proximal policy optimization algorithms", 2017.  In reinforcement learning the
gradient comes from no loss: `GradientStep` gives the outputs, NumPy computes the policy's gradient,
and the step goes on with it.  The constants are those of RL Baselines3 Zoo for CartPole-v1.
"""

import argparse

import numpy as np

import fastnn
from environments import CartPole, returns
from fastnn import Dense, Sequential

CARTS, PUSHES = 8, 32  # carts at once, and pushes between two updates
EPOCHS, RATE, CLIP, DISCOUNT, TRACE = 20, 1e-3, 0.2, 0.98, 0.8


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def network(outputs, seed):
    return Sequential(
        Dense(4, 64, activation="tanh"),
        Dense(64, 64, activation="tanh"),
        Dense(64, outputs),
        seed=seed,
    )


def advantages(rewards, values, following_values, ended, over):
    """How much better it went than the critic's `values` (pushes, carts) predicted: generalized
    advantage estimation, J. Schulman et al., 2016."""
    surprise = rewards + DISCOUNT * ~ended * following_values - values
    result, later = np.zeros(surprise.shape), 0.0
    for t in reversed(range(len(surprise))):
        result[t] = later = surprise[t] + DISCOUNT * TRACE * ~over[t] * later
    return result


def train(steps=100_000, seed=0, progress=True):
    rng, task = np.random.default_rng(seed), CartPole(CARTS, seed)
    policy, value = network(2, seed), network(1, seed + 1)
    actor = fastnn.GradientStep(policy, fastnn.Adam(RATE, clip_norm=0.5))
    critic = fastnn.GradientStep(value, fastnn.Adam(RATE, clip_norm=0.5))
    updates = steps // (CARTS * PUSHES)
    for update in range(updates):
        left = 1 - update / updates
        actor.optimizer.learning_rate = critic.optimizer.learning_rate = RATE * left
        rollout = []
        for _ in range(PUSHES):
            seen = task.observations
            probability = softmax(policy.predict(seen))
            right = rng.random(CARTS) < probability[:, 1]
            chance = np.where(right, probability[:, 1], probability[:, 0])
            rollout.append((seen, right, chance, *task.step(right)))
        seen, right, chance, rewards, following, ended, over = map(np.array, zip(*rollout))
        v, v2 = (value.predict(x.reshape(-1, 4)).reshape(PUSHES, CARTS) for x in (seen, following))
        gain = advantages(rewards, v, v2, ended, over)
        goal = (v + gain).reshape(-1, 1)
        x, taken, chance, gain = seen.reshape(-1, 4), np.eye(2)[right.ravel().astype(int)], chance.reshape(-1, 1), gain.reshape(-1, 1)
        gain = (gain - gain.mean()) / (gain.std() + 1e-8)
        for _ in range(EPOCHS):
            p = softmax(actor.forward(x))
            ratio = (p * taken).sum(axis=1, keepdims=True) / chance
            free = np.where(gain > 0, ratio < 1 + CLIP * left, ratio > 1 - CLIP * left)
            actor.backward(gain * ratio * free * (p - taken) / len(x))
            critic.backward((critic.forward(x) - goal) / len(x))
        if progress and (update + 1) % (updates // 10) == 0:
            r = returns(CartPole, lambda x: policy.predict(x).argmax(axis=1))
            print((update+1) * CARTS * PUSHES, r.mean(), r.min(), flush=True)
    return policy

if __name__ == "__main__":
    import sys, time
    for s in range(4):
        t = time.time()
        train(seed=s)
        print(time.time() - t)
