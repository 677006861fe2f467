"""rltools: a step of its loop, which is an update and a step of a trivial environment.

It compiles itself for the sizes, here with MKL, if mkl and mkl-include are installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from rltools import SAC

from agents import DISCOUNT, RATE, STORED, TAU, AgentUpdate

FOREVER = 10**9


class Rows(gymnasium.Env):
    """It shows stored observations one after the other."""

    spec = EnvSpec("Rows-v0", max_episode_steps=1000)

    def __init__(self, case: AgentUpdate) -> None:
        box = gymnasium.spaces.Box
        self.observation_space = box(-np.inf, np.inf, (case.observed,), np.float32)
        self.action_space = box(-1, 1, (case.actions,), np.float32)
        self.seen, _, self.rewards, *_ = case.data()
        self.i = 0

    def reset(self, **options: Any) -> tuple[np.ndarray, dict]:
        return self.seen[self.i], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.i = (self.i + 1) % len(self.seen)
        return self.seen[self.i], float(self.rewards[self.i, 0]), False, False, {}


def sac(case: AgentUpdate) -> Callable[[], Any]:
    module = SAC(
        lambda: Rows(case),
        **{"interface_name": f"fastnn_{case.observed}_{case.actions}", "enable_evaluation": False},
        **{"ACTOR_BATCH_SIZE": case.batch, "CRITIC_BATCH_SIZE": case.batch, "GAMMA": DISCOUNT},
        **{"ACTOR_HIDDEN_DIM": case.hidden, "CRITIC_HIDDEN_DIM": case.hidden},
        **{"ACTOR_POLYAK": 1 - TAU, "CRITIC_POLYAK": 1 - TAU, "OPTIMIZER_ALPHA": RATE},
        **{"STEP_LIMIT": FOREVER, "REPLAY_BUFFER_CAP": STORED},
        COLLECT_EPISODE_STATS=False,
    )
    state = module.State(0)
    for _ in range(2 * case.batch):  # until it updates
        state.step()
    return state.step
