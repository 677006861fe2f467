"""``fastnn info`` and ``fastnn bench``: what this build and this machine are and reach."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn._kernels as _kernels
from fastnn.layers import Dense, ReLU, Tanh
from fastnn.losses import SoftmaxCrossEntropy
from fastnn.model import Sequential
from fastnn.optimizers import Adam
from fastnn.support.threads import build_info, get_num_threads
from fastnn.training.train_step import TrainStep

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

_NETWORKS = (  # name, widths, rows in a batch
    ("4-64-64-2 tanh, batch 64", (4, 64, 64, 2), Tanh, 64),
    ("784-128-10 ReLU, batch 32", (784, 128, 10), ReLU, 32),
    ("64-256-256-256-2 ReLU, batch 256", (64, 256, 256, 256, 2), ReLU, 256),
)
_PEER_ACTIVATIONS = {Tanh: "tanh", ReLU: "relu"}


def info(options: Namespace) -> int:
    """Print `build_info`, a line each."""
    for name, value in build_info().items():
        shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        print(f"{name + ':':<14} {shown}")
    return 0


def bench(options: Namespace) -> int:
    """Measure for some seconds; the least time of many counts."""
    print(f"fastnn {build_info()['version']}, {_kernels.get_isa()}, {get_num_threads()} threads\n")
    seconds = options.seconds
    n = 1024
    x, model = np.ones((n, n), np.float32), Sequential(Dense(n, n, bias=False), seed=0)
    predictor = model.predictor(n)
    flops = 2 * n**3 / _least(lambda: predictor(x), seconds)
    print(f"{'matrix product, 1024 x 1024 x 1024, float32':<46} {flops / 1e9:10.1f} GFLOP/s")
    big = np.ones(2**25, np.float32)
    copy = np.empty_like(big)
    rate = 2 * big.nbytes / _least(lambda: np.copyto(copy, big), seconds)
    print(f"{'memory, copying 134 MB on one thread':<46} {rate / 1e9:10.1f} GB/s")
    policy = Sequential(Dense(4, 64), Tanh(), Dense(64, 64), Tanh(), Dense(64, 2), seed=0)
    act, row = policy.predictor(), np.ones((1, 4), np.float32)
    print(f"{'one row through 4-64-64-2':<46} {_least(lambda: act(row), seconds) * 1e6:10.2f} us")
    peers = [peer for peer in (_sklearn, _torch) if (peer.__name__[1:] in options.peers)]
    print(f"\n{'one training step (forward, loss, backward, Adam)':<46}")
    for name, widths, activation, batch in _NETWORKS:
        rng = np.random.default_rng(0)
        X = rng.standard_normal((batch, widths[0])).astype(np.float32)
        y = rng.integers(0, widths[-1], batch)
        y[: widths[-1]] = np.arange(widths[-1])
        ours = _least(_fastnn(widths, activation, X, y), seconds)
        line = f"{name:<46} {ours * 1e6:10.1f} us"
        for peer in peers:
            if (step := peer(widths, activation, X, y)) is not None:
                line += f"   {peer.__name__[1:]} x{_least(step, seconds) / ours:.1f}"
        print(line, flush=True)
    return 0


def _least(call: Callable[[], object], seconds: float) -> float:
    """The least time of a call among as many as fit into so many seconds, in seconds."""
    least, end = np.inf, time.perf_counter() + seconds
    call()
    while time.perf_counter() < end or least == np.inf:
        begin = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - begin)
    return float(least)


def _fastnn(widths: Any, activation: Any, X: Any, y: Any) -> Callable[[], object]:
    layers: list[Any] = []
    for before, after in itertools.pairwise(widths):
        layers += [activation()] * bool(layers) + [Dense(before, after)]
    step = TrainStep(Sequential(*layers, seed=0), SoftmaxCrossEntropy(), Adam())
    return lambda: step(X, y)


def _sklearn(widths: Any, activation: Any, X: Any, y: Any) -> Callable[[], object] | None:
    try:
        from sklearn.neural_network import MLPClassifier
    except ImportError:
        return None
    peer = MLPClassifier(widths[1:-1], activation=_PEER_ACTIVATIONS[activation], batch_size=len(X))
    peer.partial_fit(X, y, classes=np.unique(y))
    return lambda: peer.partial_fit(X, y)


def _torch(widths: Any, activation: Any, X: Any, y: Any) -> Callable[[], object] | None:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(get_num_threads())
    layers: list[Any] = []
    for before, after in itertools.pairwise(widths):
        layers += [getattr(torch.nn, activation.__name__)()] * bool(layers)
        layers.append(torch.nn.Linear(before, after))
    model, loss = torch.nn.Sequential(*layers), torch.nn.CrossEntropyLoss()
    optimizer, rows, labels = torch.optim.Adam(model.parameters()), *map(torch.from_numpy, (X, y))

    def step() -> None:
        optimizer.zero_grad()
        loss(model(rows), labels).backward()
        optimizer.step()

    return step
