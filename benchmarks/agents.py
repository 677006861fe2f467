"""An update of a soft actor-critic, as examples/sac.py makes it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from work import Work

DISCOUNT, TAU, RATE = 0.99, 0.005, 3e-4
STORED = 100_000  # steps in the memory that batches are drawn from


@dataclass(frozen=True)
class AgentUpdate:
    """Draw a batch; update twin critics, actor and temperature; move the targets.

    The actor gives mean and logarithm of the standard deviation of each action; a critic takes
    observations and actions.  All have two hidden layers, ReLU.
    """

    observed: int = 17
    actions: int = 6
    hidden: int = 256
    batch: int = 256

    @property
    def name(self) -> str:
        sizes = f"{self.hidden}-{self.hidden}, batch {self.batch}"
        return f"{sizes}, {self.observed} observations, {self.actions} actions"

    @property
    def critic(self) -> list[int]:
        return [self.observed + self.actions, self.hidden, self.hidden, 1]

    @property
    def actor(self) -> list[int]:
        return [self.observed, self.hidden, self.hidden, 2 * self.actions]

    def work(self) -> Work:
        """Products of the actor: forward twice, weights' and inputs' gradients; of each critic:
        forward thrice (once as target), weights' gradients, inputs' gradients twice, of which the
        first layer's are needed once, for the actions."""

        def operations(sizes: list[int]) -> list[int]:
            return [2 * self.batch * n * m for n, m in pairwise(sizes)]

        def parameters(sizes: list[int]) -> int:
            return sum(n * m + m for n, m in pairwise(sizes))

        actor, critic = operations(self.actor), operations(self.critic)
        to_actions = 2 * self.batch * self.actions * self.hidden
        trained = parameters(self.actor) + 2 * parameters(self.critic)
        return Work(
            4 * sum(actor) - actor[0] + 2 * (6 * sum(critic) - 2 * critic[0] + to_actions),
            24 * trained + 2 * 12 * parameters(self.critic),
            12 * trained + 2 * 4 * parameters(self.critic),
        )

    def data(self) -> tuple[np.ndarray, ...]:
        """Observations, actions in [-1, 1], rewards, following observations, ended (0 or 1)."""
        random = np.random.default_rng(0)
        seen, following = random.standard_normal((2, STORED, self.observed), dtype=np.float32)
        actions = random.uniform(-1, 1, (STORED, self.actions)).astype(np.float32)
        rewards = random.standard_normal((STORED, 1), dtype=np.float32)
        ended = (random.random((STORED, 1)) < 0.01).astype(np.float32)
        return seen, actions, rewards, following, ended


AGENTS = [AgentUpdate(), AgentUpdate(observed=3, actions=1, hidden=64, batch=64)]
