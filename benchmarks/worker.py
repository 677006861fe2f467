"""A peer in a process of its own: ``python worker.py <module in peers/>``.

Reads one JSON list a line: ``["build", table, name]``, then ``["run"]`` as often as wanted, and
answers one JSON object a line.  A run is a few steps to warm up, then as many as take TURN seconds.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from cases import Unsupported, find

TURN = 0.05
WARM_UP = 0.3


class Runner:
    """Repeats a step.  ``finish`` waits for the results of a peer that computes asynchronously."""

    def __init__(self, step: Callable[[], Any], finish: Callable[[Any], Any]) -> None:
        self.step, self.finish = step, finish
        self.timed(1)  # compilers compile here
        started, steps, seconds = time.perf_counter(), 1, self.timed(1)
        while time.perf_counter() - started < WARM_UP:
            seconds = self.timed(steps)
            steps = max(1, min(2 * steps, round(TURN / seconds)))
        self.steps = max(1, round(TURN / seconds))

    def timed(self, steps: int) -> float:
        """Seconds per step, over so many steps."""
        step = self.step
        started = time.perf_counter()
        for _ in range(steps):
            result = step()
        self.finish(result)
        return (time.perf_counter() - started) / steps

    def run(self) -> float:
        self.timed(max(1, self.steps // 10))
        return self.timed(self.steps)


def main(module_name: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not stand between the answers
    runner = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            peer = importlib.import_module(f"peers.{module_name}")
            if request[0] == "build":
                runner, table, name = None, *request[1:]  # the last case's memory goes first
                if not hasattr(peer, table):
                    raise Unsupported(f"{module_name} has no row for {table}")
                step = getattr(peer, table)(find(table, name))
                runner = Runner(step, getattr(peer, "finish", lambda result: None))
                answer = {"steps": runner.steps}
            else:
                assert runner is not None, "run before build"
                answer = {"seconds": runner.run()}
        except Unsupported as reason:
            answer = {"unsupported": str(reason)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
