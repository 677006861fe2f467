"""Swing a pendulum up with a soft actor-critic, in two minutes: ``python sac.py``.

T. Haarnoja et al., "Soft actor-critic algorithms and applications", 2018.  The actor gives a normal
distribution of actions, squashed into [-1, 1] by tanh.  Twin critics say what an action is worth;
the smaller of the two counts, so that errors do not feed on themselves.  Acting at random is worth
something too: its entropy at a temperature, which is learnt, so that there is as much as wanted.
"""

import argparse
import copy

import numpy as np

import fastnn
from environments import Pendulum, returns
from fastnn import Dense, Heads, Sequential

RATE, BATCH, DISCOUNT, TAU = 1e-3, 256, 0.99, 0.005
WARM_UP = 100  # steps at random before the first update


def network(inputs, outputs, hidden, seed):
    return Sequential(
        Dense(inputs, hidden, activation="relu"),
        Dense(hidden, hidden, activation="relu"),
        Dense(hidden, outputs),
        seed=seed,
    )


class Memory:
    """The last `size` steps, from which batches are drawn."""

    def __init__(self, size, observed, actions, seed=0):
        self.rows = np.zeros((size, 2 * observed + actions + 2), np.float32)
        self.ends = np.cumsum([observed + actions, 1, observed])
        self.rng, self.stored = np.random.default_rng(seed), 0

    def store(self, observations, actions, rewards, following, ended):
        new = np.column_stack([observations, actions, rewards, following, ended])
        self.rows[(self.stored + np.arange(len(new))) % len(self.rows)] = new
        self.stored += len(new)

    def sample(self, number):
        """Observations with actions, rewards, following observations, ended: a row for each."""
        index = self.rng.integers(min(self.stored, len(self.rows)), size=number)
        return np.split(self.rows[index], self.ends, axis=1)


class Squashed:
    """`actions` tanh(mean + std noise), drawn from an actor's outputs (batch, 2 actions), which are
    the means and the logarithms of std, and the logarithms of their densities (batch, 1)."""

    def __init__(self, outputs, rng):
        mean, log_std = np.split(outputs, 2, axis=1)
        clipped = np.clip(log_std, -20, 2)
        noise = rng.standard_normal(mean.shape, np.float32)
        self.free, self.spread = clipped == log_std, np.exp(clipped) * noise
        u = mean + self.spread
        self.actions, far = np.tanh(u), 2 * abs(u)
        log_slope = np.log(4) - far - 2 * np.log1p(np.exp(-far))  # of tanh: log(1 - tanh(u)^2)
        log_density = -0.5 * (noise * noise + np.log(2 * np.pi)) - clipped - log_slope
        self.log_density = log_density.sum(axis=1, keepdims=True)

    def backward(self, dactions, dlog_density):
        """The gradient of the outputs, from that of actions and log densities."""
        a = self.actions
        du = dactions * (1 - a * a) + dlog_density * 2 * a
        return np.concatenate([du, self.free * (du * self.spread - dlog_density)], axis=1)


class Agent:
    """It gives actions in [-1, 1]."""

    def __init__(self, observed, actions, hidden=256, seed=0, optimizer=lambda: fastnn.Adam(RATE)):
        self.rng, self.observed, self.wanted = np.random.default_rng(seed), observed, -actions
        self.actor = network(observed, 2 * actions, hidden, seed)
        critics = (network(observed + actions, 1, hidden, seed + i) for i in (1, 2))
        self.critics = Sequential(Heads(*critics))
        self.targets = copy.deepcopy(self.critics)
        self.actor_step = fastnn.GradientStep(self.actor, optimizer())
        self.critic_step = fastnn.GradientStep(self.critics, optimizer())
        self.log_temperature, self.temperature_optimizer = fastnn.Vector([0.0]), optimizer()

    def explore(self, observations):
        return Squashed(self.actor.predict(observations), self.rng).actions

    def best(self, observations):
        """The middle of the distribution."""
        return np.tanh(np.split(self.actor.predict(observations), 2, axis=1)[0])

    def update(self, pairs, rewards, following, ended):
        temperature = np.exp(self.log_temperature.values)
        self.update_critics(temperature, pairs, rewards, following, ended)
        log_density = self.update_actor(temperature, pairs[:, : self.observed])
        # the temperature rises where the entropy is smaller than wanted
        self.log_temperature.gradient = [-(log_density.mean() + self.wanted)]
        self.temperature_optimizer.step(self.log_temperature)
        self.targets.lerp(self.critics, TAU)

    def update_critics(self, temperature, pairs, rewards, following, ended):
        """Towards the reward and what follows is worth, as the slow targets see it."""
        then = Squashed(self.actor.predict(following), self.rng)
        x = np.concatenate([following, then.actions], axis=1)
        worth = self.targets.predict(x).min(axis=1, keepdims=True)
        goal = rewards + DISCOUNT * (1 - ended) * (worth - temperature * then.log_density)
        self.critic_step.backward((self.critic_step.forward(pairs) - goal) / len(goal))

    def update_actor(self, temperature, observations):
        """Down the gradient of the mean of temperature * log density - the smaller worth."""
        drawn = Squashed(self.actor_step.forward(observations), self.rng)
        x = np.concatenate([observations, drawn.actions], axis=1)
        which = np.eye(2, dtype=np.float32) / -len(x)
        dx = self.critics.input_gradient(x, lambda worth: which[worth.argmin(axis=1)])
        dactions = dx[:, self.observed :]
        self.actor_step.backward(drawn.backward(dactions, temperature / len(x)))
        return drawn.log_density


def test(agent, episodes=100):
    """The return of each of so many episodes of the agent's best actions."""
    return returns(Pendulum, lambda x: Pendulum.torque * agent.best(x), episodes)


def train(steps=20_000, seed=0, hidden=256, progress=True):
    """Returns the agent after so many steps of one pendulum."""
    task, memory, agent = Pendulum(1, seed), Memory(steps, 3, 1, seed), Agent(3, 1, hidden, seed)
    for step in range(steps):
        seen = task.observations
        warm = step >= WARM_UP
        actions = agent.explore(seen) if warm else agent.rng.uniform(-1, 1, (1, 1))
        memory.store(seen, actions, *task.step(Pendulum.torque * actions)[:3])
        if warm:
            agent.update(*memory.sample(BATCH))
        if progress and (step + 1) % 2000 == 0:
            print(
                f"step {step + 1:6}: mean return of 100 episodes {test(agent).mean():7.1f}",
                flush=True,
            )
    return agent


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    result = test(train(options.steps, options.seed))
    print(f"returns of 100 episodes: {result.mean():.1f} +- {result.std():.1f}")


if __name__ == "__main__":
    main()
