"""Balance a pole on a cart with deep Q-learning, in a minute: ``python dqn.py``.

V. Mnih et al., "Human-level control through deep reinforcement learning", 2015.  A network learns
what each action is worth: the rewards that follow, and what the best action will be worth then.
As in M. Hessel et al., "Rainbow", 2018, the actual rewards of several steps count before that, and
a second network, which follows the first one slowly, says what the best action is worth.
"""

import argparse
import copy

import numpy as np

import fastnn
from environments import CartPole, returns
from fastnn import Dense, Sequential

CARTS, UPDATES, BATCH, WARM_UP = 4, 2, 64, 1000  # updates after each push of the carts
RATE, DISCOUNT, TAU, AHEAD = 2e-3, 0.99, 0.05, 10  # rewards of so many steps ahead
RANDOM, LEARNT = 0.05, 0.16  # pushes at random, from that part of the training on

STEP = np.dtype([
    ("seen", np.float32, 4), ("action", int), ("reward", float), ("following", np.float32, 4),
    ("ended", bool), ("over", bool),
])  # fmt: skip


class Agent:
    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.model = Sequential(
            Dense(4, 128, activation="relu"),
            Dense(128, 128, activation="relu"),
            Dense(128, 2),
            seed=seed,
        )
        self.target = copy.deepcopy(self.model)
        self.step = fastnn.GradientStep(self.model, fastnn.Adam(RATE, clip_norm=10))

    def best(self, observations):
        return self.model.predict(observations).argmax(axis=1)

    def explore(self, observations, chance):
        """The best action, or with this chance any."""
        any_action = self.rng.integers(2, size=len(observations))
        is_random = self.rng.random(len(observations)) < chance
        return np.where(is_random, any_action, self.best(observations))

    def update(self, steps):
        """One step on batches (batch, AHEAD) of consecutive steps, each a STEP."""
        goal, first = self.goal(steps), steps[:, 0]
        worth = self.step.forward(first["seen"])
        taken = np.eye(2, dtype=np.float32)[first["action"]]
        self.step.backward((worth - goal) * taken / len(goal))
        self.target.lerp(self.model, TAU)

    def goal(self, steps):
        """(batch, 1): the rewards until the episode is over, and what follows the last of them."""
        over = steps["over"]
        last = np.where(over.any(axis=1), over.argmax(axis=1), AHEAD - 1)
        rewards = steps["reward"] * DISCOUNT ** np.arange(AHEAD)
        rewards = (rewards * (np.arange(AHEAD) <= last[:, None])).sum(axis=1)
        end = steps[np.arange(len(steps)), last]
        # the network chooses the action, the target says what it is worth: H. van Hasselt, 2016
        chosen = np.arange(len(steps)), self.best(end["following"])
        worth = self.target.predict(end["following"])[chosen]
        return (rewards + DISCOUNT ** (last + 1) * ~end["ended"] * worth)[:, None]


def train(steps=100_000, seed=0, progress=True):
    """Returns the agent after so many pushes."""
    task, agent = CartPole(CARTS, seed), Agent(seed)
    memory = np.zeros((steps // CARTS, CARTS), STEP)
    for t in range(len(memory)):
        done, seen = t / len(memory), task.observations
        actions = agent.explore(seen, max(RANDOM, 1 - done / LEARNT))
        for name, part in zip(STEP.names, (seen, actions, *task.step(actions)), strict=True):
            memory[name][t] = part
        agent.step.optimizer.learning_rate = RATE * (1 - done)
        for _ in range(UPDATES if CARTS * t > WARM_UP else 0):
            first = agent.rng.integers(t + 2 - AHEAD, size=(BATCH, 1))
            cart = agent.rng.integers(CARTS, size=(BATCH, 1))
            agent.update(memory[first + np.arange(AHEAD), cart])
        if progress and CARTS * (t + 1) % 10_000 == 0:
            mean = returns(CartPole, agent.best).mean()
            print(f"push {CARTS * (t + 1):6}: mean return of 100 episodes {mean:5.1f}", flush=True)
    return agent


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    agent = train(options.steps, options.seed)
    print(f"mean return of 100 episodes: {returns(CartPole, agent.best).mean():.1f} of 500")


if __name__ == "__main__":
    main()
