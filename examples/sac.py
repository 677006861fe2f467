"""Swing a pendulum up with a soft actor-critic, in about a minute.

T. Haarnoja et al., "Soft actor-critic algorithms and applications", 2018.  The actor gives a normal
distribution of actions, squashed by tanh; twin critics say what an action is worth, the smaller of
both counts; the entropy of the actions is worth something too, at a temperature that is learnt.
"""

import argparse
import copy
import time

import numpy as np

import fastnn
from environments import Pendulum, returns
from fastnn import Dense, Sequential

DISCOUNT, TAU, BATCH, RATE, WARM_UP = 0.99, 0.005, 256, 1e-3, 100


def network(inputs, outputs, seed, hidden=256):
    return Sequential(
        Dense(inputs, hidden, activation="relu"),
        Dense(hidden, hidden, activation="relu"),
        Dense(hidden, outputs),
        seed=seed,
    )


class Memory:
    """The last steps: each row is observation, action, reward, following observation, ended."""

    def __init__(self, size, observed, actions, seed):
        self.rows = np.zeros((size, 2 * observed + actions + 2), np.float32)
        self.cuts = np.cumsum([observed, actions, 1, observed])
        self.rng, self.stored = np.random.default_rng(seed), 0

    def store(self, *parts):
        for row in np.column_stack(parts):
            self.rows[self.stored % len(self.rows)] = row
            self.stored += 1

    def sample(self, number):
        picked = self.rng.integers(min(self.stored, len(self.rows)), size=number)
        return np.split(self.rows[picked], self.cuts, axis=1)


class Agent:
    def __init__(self, observed, actions, seed=0):
        self.rng = np.random.default_rng(seed)
        self.actor = network(observed, 2 * actions, seed)
        self.critics = [network(observed + actions, 1, seed + 1 + i) for i in range(2)]
        self.targets = copy.deepcopy(self.critics)
        self.actor_step = fastnn.GradientStep(self.actor, fastnn.Adam(RATE))
        self.critic_steps = [fastnn.GradientStep(c, fastnn.Adam(RATE)) for c in self.critics]
        self.log_temperature, self.m, self.s, self.t = 0.0, 0.0, 0.0, 0

    def act(self, observations):
        """The actions in [-1, 1] that are best on average, for a test."""
        mean, _ = np.split(self.actor.predict(observations), 2, axis=1)
        return np.tanh(mean)

    def explore(self, observations):
        return squashed(self.actor.predict(observations), self.rng)[0]

    def update(self, observations, actions, rewards, following, ended):
        temperature = np.exp(self.log_temperature)
        # critics
        a, log_p, _ = squashed(self.actor.predict(following), self.rng)
        x = np.concatenate([following, a], axis=1)
        q = np.minimum(*(target.predict(x) for target in self.targets))
        goal = rewards + DISCOUNT * (1 - ended) * (q - temperature * log_p)
        x = np.concatenate([observations, actions], axis=1)
        for step in self.critic_steps:
            step.backward((step.forward(x) - goal) / len(x))
        # actor
        a, log_p, (eps, std, free) = squashed(self.actor_step.forward(observations), self.rng)
        x = np.concatenate([observations, a], axis=1)
        q1, q2 = (c.forward(x, training=True) for c in self.critics)
        smaller = q1 < q2
        g = self.critics[0].backward(smaller.astype(np.float32), input_gradient=True)
        g += self.critics[1].backward((~smaller).astype(np.float32), input_gradient=True)
        g = g[:, observations.shape[1] :]
        du = 2 * temperature * a - g * (1 - a * a)
        dlog = (du * std * eps - temperature) * free
        self.actor_step.backward(np.concatenate([du, dlog], axis=1) / len(x))
        # temperature
        gradient = -(log_p.mean() - a.shape[1])
        self.t += 1
        self.m += 0.1 * (gradient - self.m)
        self.s += 0.001 * (gradient**2 - self.s)
        self.log_temperature -= (
            RATE * self.m / (1 - 0.9**self.t) / (np.sqrt(self.s / (1 - 0.999**self.t)) + 1e-8)
        )
        for target, critic in zip(self.targets, self.critics, strict=True):
            target.flat_parameters[...] += TAU * (critic.flat_parameters - target.flat_parameters)


def squashed(outputs, rng):
    mean, log_std = np.split(outputs, 2, axis=1)
    free = (log_std > -20) & (log_std < 2)
    std = np.exp(np.clip(log_std, -20, 2))
    eps = rng.standard_normal(mean.shape, np.float32)
    u = mean + std * eps
    a = np.tanh(u)
    log_p = -0.5 * eps**2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    log_p -= 2 * (np.log(2) - u - np.logaddexp(0, -2 * u))
    return a, log_p.sum(axis=1, keepdims=True), (eps, std, free)


def train(steps=20_000, seed=0, progress=True):
    task, memory = Pendulum(1, seed), Memory(steps, 3, 1, seed)
    agent = Agent(3, 1, seed)
    for step in range(steps):
        seen = task.observations
        a = agent.rng.uniform(-1, 1, (1, 1)) if step < WARM_UP else agent.explore(seen)
        rewards, following, ended, over = task.step(Pendulum.torque * a)
        memory.store(seen, a, rewards, following, ended)
        if step >= WARM_UP:
            agent.update(*memory.sample(BATCH))
        if progress and (step + 1) % 2000 == 0:
            r = returns(Pendulum, lambda x: Pendulum.torque * agent.act(x), 750)
            print(step + 1, r.mean(), r.std(), r[:100].mean(), np.exp(agent.log_temperature), flush=True)
    return agent


if __name__ == "__main__":
    import sys
    t = time.time()
    train(seed=int(sys.argv[1]))
    print(time.time() - t)
