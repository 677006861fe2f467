"""PyTorch's soft actor-critic by hand: no gradient is computed that nobody needs, fused Adam."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from agents import DISCOUNT, RATE, TAU, AgentUpdate


def network(sizes: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n, m in pairwise(sizes):
        layers += [nn.Linear(n, m), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def squashed(outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Actions in [-1, 1], and the logarithms of their densities; with log sqrt(2 pi) and log 2."""
    mean, log_std = outputs.chunk(2, dim=1)
    log_std = log_std.clamp(-20, 2)
    noise = torch.randn_like(mean)
    u = mean + log_std.exp() * noise
    log_density = -0.5 * noise**2 - log_std - 0.9189385
    log_density -= 2 * (0.6931472 - u - functional.softplus(-2 * u))
    return u.tanh(), log_density.sum(1, keepdim=True)


def sac(case: AgentUpdate) -> Callable[[], Any]:
    torch.manual_seed(0)
    memory = [torch.from_numpy(array) for array in case.data()]
    actor, critics = network(case.actor), [network(case.critic) for _ in range(2)]
    targets = copy.deepcopy(critics)
    log_temperature = torch.zeros(1, requires_grad=True)
    actor_parameters = list(actor.parameters())
    critic_parameters, target_parameters = (
        [p for model in models for p in model.parameters()] for models in (critics, targets)
    )
    groups = actor_parameters, critic_parameters, [log_temperature]
    optimizers = [torch.optim.Adam(group, lr=RATE, fused=True) for group in groups]
    actor_optimizer, critic_optimizer, temperature_optimizer = optimizers

    def lesser(models: list[nn.Sequential], seen: torch.Tensor, action: torch.Tensor) -> Any:
        x = torch.cat([seen, action], dim=1)
        return torch.minimum(*(model(x) for model in models))

    def step() -> None:
        rows = torch.randint(len(memory[0]), (case.batch,))
        seen, actions, rewards, following, ended = (array[rows] for array in memory)
        with torch.no_grad():
            temperature = log_temperature.exp()
            action, log_density = squashed(actor(following))
            q = lesser(targets, following, action) - temperature * log_density
            goal = rewards + DISCOUNT * (1 - ended) * q
        x = torch.cat([seen, actions], dim=1)
        critic_optimizer.zero_grad(set_to_none=True)
        (0.5 * sum(functional.mse_loss(critic(x), goal) for critic in critics)).backward()
        critic_optimizer.step()
        action, log_density = squashed(actor(seen))
        actor_optimizer.zero_grad(set_to_none=True)
        loss = (temperature * log_density - lesser(critics, seen, action)).mean()
        loss.backward(inputs=actor_parameters)
        actor_optimizer.step()
        temperature_optimizer.zero_grad(set_to_none=True)
        log_temperature.grad = -(log_density.detach().mean(0) - case.actions)
        temperature_optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(target_parameters, critic_parameters, TAU)

    return step
