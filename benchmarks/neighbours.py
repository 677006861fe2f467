"""Training beside others on the machine: ``python benchmarks/neighbours.py [TEST...]``.

What threads cost when others use the cores too, each figure beside the goal for fastnn (Linux
only):

    pair     a product of NumPy's and a training step by turns / the sum of the two alone
    beside   a step of it, of PyTorch and of scikit-learn by turns / the sum of the three alone
    served   a prediction and one of onnxruntime's by turns / the sum of the two alone
    busy     mean step beside a process that keeps one core busy / undisturbed
    four     four processes training at once / one after another, alone on the machine
    started  threads that steps too small for threads have started
"""

from __future__ import annotations

import importlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from statistics import mean, median
from typing import Any

import numpy as np

from cases import Network, Product, find
from race import PAUSE, PEERS, THREADS, Worker, environment, installed
from worker import Runner

TRAINERS = ["fastnn", "fastnn, OpenMP", "torch", "jax"]
STEPS = [("other", "784-512-512-10 relu, batch 128"), ("train", "784-128-10 relu, batch 32")]
CALLS = [("predict", f"784-512-512-10 relu, batch {batch}") for batch in (1, 1024)]
SMALL = [("other", "13-50-1 relu, batch 32")]
TURN, ROUNDS = 0.1, 3  # longer turns take minutes where a library collapses


def in_child(task: str, peer: str, *arguments: str) -> Any:
    """The result of function `task` in a new process, with the usual threads."""
    command = [sys.executable, __file__, task, PEERS[peer].module, *arguments]
    done = subprocess.run(
        command, env=environment(THREADS, peer), stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def prepare(module: str, table: str, name: str) -> tuple[Any, Any]:
    """The step, and a function that waits for its result."""
    peer = importlib.import_module(f"peers.{module}")
    network: Network = find(table, name)
    return peer.train(network), getattr(peer, "finish", lambda result: result)


def by_turns(*steps: Callable[[], Any]) -> float:
    """The time of all steps in a row, again and again, in units of the sum of each one's alone."""

    def all_steps() -> None:
        for step in steps:
            step()

    runners = [Runner(step, lambda result: None, TURN) for step in (all_steps, *steps)]
    times: list[list[float]] = [[] for _ in runners]
    for turn in range(ROUNDS):
        for i in random.Random(turn).sample(range(len(runners)), len(runners)):
            time.sleep(PAUSE)
            times[i] += runners[i].run()
    together, *alone = map(median, times)
    return together / sum(alone)


def child_pair(module: str, table: str, name: str) -> float:
    step, finish = prepare(module, table, name)
    a, b, c = Product("forward", 128, 784, 512).data()
    return by_turns(lambda: np.matmul(a, b, out=c), lambda: finish(step()))


def child_beside(module: str, table: str, name: str) -> float:
    peers = dict.fromkeys((module, "torch_peer", "sklearn_peer"))  # torch's figure is of two
    steps = [prepare(peer, table, name) for peer in peers]
    return by_turns(*(lambda step=step, end=end: end(step()) for step, end in steps))


def child_served(module: str, table: str, name: str) -> float:
    network = find(table, name)
    calls = [importlib.import_module(f"peers.{m}") for m in (module, "onnxruntime_peer")]
    return by_turns(*(peer.predict(network) for peer in calls))


def child_started(module: str, table: str, name: str) -> int:
    importlib.import_module(f"peers.{module}")
    before = len(os.listdir("/proc/self/task"))
    step, finish = prepare(module, table, name)
    for _ in range(200):
        finish(step())
    return len(os.listdir("/proc/self/task")) - before


@contextmanager
def busy_core() -> Iterator[None]:
    cpu = max(os.sched_getaffinity(0))
    spin = f"import os\nos.sched_setaffinity(0, [{cpu}])\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", spin])
    time.sleep(0.1)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        time.sleep(PAUSE)


def busy(peer: str, table: str, name: str) -> float:
    alone, disturbed = [], []
    with closing(Worker(peer, THREADS)) as worker:
        worker.ask("build", table, name, TURN)
        for _ in range(ROUNDS):
            alone += worker.ask("run")
            with busy_core():
                disturbed += worker.ask("run")
    return mean(disturbed) / mean(alone)


def four(peer: str, table: str, name: str) -> float:
    alone, together = [], []
    with ExitStack() as stack:
        workers = [stack.enter_context(closing(Worker(peer, THREADS))) for _ in range(4)]
        for worker in workers:
            worker.ask("build", table, name, TURN)
        for _ in range(ROUNDS):
            time.sleep(PAUSE)
            alone += workers[0].ask("run")
            for worker in workers:
                worker.send("run")
            together.append(max(worker.receive()[0] for worker in workers))
    return median(together) / (4 * median(alone))


# name: (title, goal, function that returns a peer's figure, steps)
TESTS = {
    "pair": ("by turns with NumPy's product", 1.3, "child_pair", STEPS),
    "beside": ("by turns with PyTorch and scikit-learn", 1.3, "child_beside", STEPS),
    "served": ("by turns with onnxruntime", 1.3, "child_served", CALLS),
    "busy": ("beside a busy core", 2.2, "busy", STEPS),
    "four": ("four processes at once", 1.3, "four", STEPS),
    "started": ("threads started", 0, "child_started", SMALL),
}


def main(chosen: list[str]) -> None:
    peers = [peer for peer in TRAINERS if installed(peer)]
    own = [peer for peer in peers if PEERS[peer].package == "fastnn-cpu"]
    only = {"child_served": own, "child_beside": [*own, "torch"]}
    print(f"| | goal | {' | '.join(peers)} |\n|{'---|' * (2 + len(peers))}")
    for title, goal, task, steps in (TESTS[test] for test in chosen or TESTS):
        for step in steps:
            figures = [
                in_child(task, peer, *step)
                if task.startswith("child")
                else globals()[task](peer, *step)
                for peer in only.get(task, peers)
            ]
            cells = " | ".join(f"{figure:.3g}" for figure in figures)
            print(f"| {title}: {step[1]} | {goal} | {cells} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1].startswith("child"):
        print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
    else:
        main(sys.argv[1:])
