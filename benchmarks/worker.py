"""A process that runs a peer: ``python worker.py <module in peers/>``.

Reads one JSON list a line: ``["build", table, name, turn]``, then ``["run", calls]`` as often as
wanted, and answers one JSON object a line.  A run is a few steps to warm up, then as many as take
``turn`` seconds, of which it gives the mean; or so many calls, each timed alone.  ``["memory",
table, name, steps]`` measures memory in place of time, ``["score", table, name]`` how well the
row is learnt.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cases import TABLES, Unsupported, find

WARM_UP = 6  # turns


class Runner:
    """Repeats a step.  ``finish`` waits for the results of a peer that computes asynchronously."""

    def __init__(self, step: Callable[[], Any], finish: Callable[[Any], Any], turn: float) -> None:
        self.step, self.finish = step, finish
        self.timed(1)  # compilers compile here
        started, steps, seconds = time.perf_counter(), 1, self.timed(1)
        while time.perf_counter() - started < WARM_UP * turn:
            seconds = self.timed(steps)
            steps = max(1, min(2 * steps, round(turn / seconds)))
        self.steps = max(1, round(turn / seconds))

    def timed(self, steps: int) -> float:
        """Seconds per step, over so many steps."""
        step = self.step
        started = time.perf_counter()
        for _ in range(steps):
            result = step()
        self.finish(result)
        return (time.perf_counter() - started) / steps

    def run(self, calls: int = 0) -> list[float]:
        if self.steps > 1:
            self.timed(max(1, self.steps // 10))
        return self.each(calls) if calls else [self.timed(self.steps)]

    def each(self, calls: int) -> list[float]:
        """Seconds of every call."""
        step, finish, clock, times = self.step, self.finish, time.perf_counter_ns, [0] * calls
        for i in range(calls):
            started = clock()
            finish(step())
            times[i] = clock() - started
        return [1e-9 * nanoseconds for nanoseconds in times]


def resident(name: str) -> int:
    """Bytes of resident memory, by Linux: VmRSS is now, VmHWM the most so far.

    They do not count what is mapped from files, which is libraries' code."""
    lines = map(str.split, Path("/proc/self/status").read_text().splitlines())
    kilobytes = {words[0]: words[1] for words in lines if words[-1] == "kB"}
    return 1024 * (int(kilobytes[f"{name}:"]) - int(kilobytes["RssFile:"]))


def growth(step: Callable[[], Any], finish: Callable[[Any], Any], steps: int) -> int:
    """Bytes by which memory grows at most during these steps, the very first included."""
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    for _ in range(steps):
        finish(step())
    return resident("VmHWM") - before


def prepared(peer: Any, table: str, name: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """The row's step, and a function that waits for its result."""
    if not hasattr(peer, TABLES[table].function):
        raise Unsupported(f"{peer.__name__} has no row for {table}")
    step = getattr(peer, TABLES[table].function)(find(table, name))
    return step, getattr(peer, "finish", lambda result: None)


def main(module_name: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps what libraries print out of the answers
    runner = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            peer = importlib.import_module(f"peers.{module_name}")
            if request[0] == "build":
                runner, table, name, turn = None, *request[1:]  # the last case's memory goes first
                runner = Runner(*prepared(peer, table, name), turn)
                answer = {"steps": runner.steps}
            elif request[0] == "memory":
                table, name, steps = request[1:]
                answer = {"bytes": growth(*prepared(peer, table, name), steps)}
            elif request[0] == "score":
                answer = {"score": peer.score(find(*request[1:]))}
            else:
                assert runner is not None, "run before build"
                answer = {"seconds": runner.run(*request[1:])}
        except Unsupported as reason:
            answer = {"unsupported": str(reason)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
