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
    settings = {"GAMMA": DISCOUNT, "OPTIMIZER_ALPHA": RATE, "COLLECT_EPISODE_STATS": False}
    settings |= {"STEP_LIMIT": FOREVER, "REPLAY_BUFFER_CAP": STORED, "enable_evaluation": False}
    for part in ("ACTOR", "CRITIC"):
        settings |= {f"{part}_BATCH_SIZE": case.batch, f"{part}_HIDDEN_DIM": case.hidden}
        settings |= {f"{part}_POLYAK": 1 - TAU}
    name = f"fastnn_{case.observed}_{case.actions}"
    module = SAC(lambda: Rows(case), interface_name=name, **settings)
    state = module.State(0)
    for _ in range(2 * case.batch):  # until it updates
        state.step()
    return state.step
