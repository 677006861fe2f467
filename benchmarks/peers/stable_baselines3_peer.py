"""stable-baselines3: `SAC.train`, one update a call, from a memory that is full."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger

from agents import DISCOUNT, RATE, STORED, TAU, AgentUpdate

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


class Spaces(gymnasium.Env):
    """What SAC asks of an environment before it trains."""

    def __init__(self, case: AgentUpdate) -> None:
        box = gymnasium.spaces.Box
        self.observation_space = box(-np.inf, np.inf, (case.observed,), np.float32)
        self.action_space = box(-1, 1, (case.actions,), np.float32)


def sac(case: AgentUpdate) -> Callable[[], Any]:
    agent = SAC(
        "MlpPolicy",
        Spaces(case),
        learning_rate=RATE,
        buffer_size=STORED,
        tau=TAU,
        gamma=DISCOUNT,
        policy_kwargs={"net_arch": [case.hidden] * 2},
        seed=0,
        device="cpu",
    )
    agent.set_logger(Logger(None, []))
    memory = agent.replay_buffer
    seen, actions, rewards, following, ended = case.data()
    memory.observations[:, 0], memory.next_observations[:, 0] = seen, following
    memory.actions[:, 0] = actions
    memory.rewards[:], memory.dones[:], memory.full = rewards, ended, True
    return lambda: agent.train(gradient_steps=1, batch_size=case.batch)
