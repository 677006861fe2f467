"""Races of peers on one row: each in a separate process, turn by turn, in random order."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from ctypes.util import find_library
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from cases import TABLES, Unsupported


class Peer(NamedTuple):
    module: str  # in peers/
    package: str  # must be installed: a Python package, or a library
    threads: int | None = None  # instead of the race's
    variables: tuple[tuple[str, str], ...] = ()  # of its environment


PEERS = {
    "fastnn": Peer("fastnn_peer", "fastnn-cpu"),
    "fastnn bfloat16": Peer("fastnn_bfloat16_peer", "fastnn-cpu"),
    "fastnn predict": Peer("fastnn_predict_peer", "fastnn-cpu"),
    "fastnn estimator": Peer("fastnn_estimator_peer", "fastnn-cpu"),
    "fastnn, one thread": Peer("fastnn_peer", "fastnn-cpu", threads=1),
    "fastnn, OpenMP": Peer("fastnn_peer", "fastnn-cpu", variables=(("FASTNN_RUNTIME", "openmp"),)),
    "fastnn C": Peer("c_file_peer", "fastnn-cpu"),
    "NumPy by hand": Peer("numpy_peer", "numpy"),
    "torch": Peer("torch_peer", "torch"),
    "torch channels-last": Peer("torch_channels_last_peer", "torch"),
    "torch.compile": Peer("torch_compile_peer", "torch"),
    "torch.jit": Peer("torch_jit_peer", "torch"),
    "jax": Peer("jax_peer", "jax"),
    "joblib": Peer("joblib_peer", "joblib"),
    "scikit-learn": Peer("sklearn_peer", "scikit-learn"),
    "emlearn": Peer("emlearn_peer", "emlearn"),
    "onnxruntime": Peer("onnxruntime_peer", "onnxruntime"),
    "OpenVINO": Peer("openvino_peer", "openvino"),
    "FANN": Peer("fann_peer", "floatfann"),
    "stable-baselines3": Peer("stable_baselines3_peer", "stable-baselines3"),
    "rltools": Peer("rltools_peer", "rltools"),
}
THREADS = 2
PAUSE = 0.01  # seconds between turns

# Variables with these beginnings choose kernels, threads or waiting; peers do not get them.
TUNING = (
    *("FASTNN_", "OPENBLAS_", "GOTO_", "OMP_", "GOMP_", "KMP_", "MKL_", "ATEN_", "ONEDNN_"),
    *("DNNL_", "TORCH", "XLA_", "JAX_", "NPY_"),
)
THREAD_VARIABLES = [
    *("FASTNN_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    "NPROC",  # what XLA reads
]


def cpu() -> dict[str, str]:
    """What Linux tells about the first CPU; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}


def environment(threads: int, peer: str) -> dict[str, str]:
    """The caller's environment for this peer and so many threads, without what else tunes one.

    An exported OPENBLAS_CORETYPE=Haswell alone makes NumPy's products half as fast as they are
    on a CPU with full AVX-512 (one core, 256x256x256: 110 GFLOP/s in place of 212).
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(TUNING)}
    count = str(PEERS[peer].threads or threads)
    chosen = dict.fromkeys(THREAD_VARIABLES, count) | dict(PEERS[peer].variables)
    return {**kept, **chosen, "JAX_PLATFORMS": "cpu"}


def foreign_seconds() -> float:
    """Seconds that all cores worked, without this process and its ended children; Linux only."""
    try:
        ticks = [int(x) for x in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    except OSError:
        return float("nan")
    who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    own = sum(use.ru_utime + use.ru_stime for use in map(resource.getrusage, who))
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK") - own


def release(package: str) -> str:
    """The version of a Python package, "library" for a library of the system, or nothing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "library" if find_library(package) else ""


def installed(peer: str) -> bool:
    package = PEERS[peer].package
    return package == "fastnn-cpu" or bool(release(package))  # or the run fails, and says why


class Worker:
    """A process of worker.py, stopped except in its turns: NumPy's second thread spins for a tenth
    of a second after a product, and would take a core from the next peer."""

    def __init__(self, peer: str, threads: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), PEERS[peer].module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(threads, peer),
        )

    def ask(self, *request: Any) -> Any:
        self.send(*request)
        try:
            return self.receive()
        finally:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGSTOP)

    def send(self, *request: Any) -> None:
        self.process.send_signal(signal.SIGCONT)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended with status {self.process.wait()}")
        answer = json.loads(line)
        if "unsupported" in answer:
            raise Unsupported(answer["unsupported"])
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return next(iter(answer.values()))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait()


class Race:
    """Holds one worker per peer, started when first needed; a context manager.

    Afterwards `disturbed` is the seconds for which other processes ran meanwhile.
    """

    def __init__(self, threads: int = THREADS, rounds: int | None = None) -> None:
        self.threads, self.rounds = threads, rounds
        self.workers: dict[str, Worker] = {}

    def __enter__(self) -> Race:
        self.disturbed = -foreign_seconds()
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self.workers.values():
            worker.close()
        self.disturbed += foreign_seconds()

    def run(self, table: str, name: str, peers: list[str]) -> dict[str, list[float] | Exception]:
        """For each peer its seconds per step (one figure a round or a call) or bytes, or the
        error."""
        entry = TABLES[table]
        if entry.steps:
            return {peer: self.memory(table, name, peer) for peer in peers}
        results: dict[str, list[float] | Exception] = {}
        for peer in peers:
            if peer not in self.workers:
                self.workers[peer] = Worker(peer, self.threads)
            try:
                self.workers[peer].ask("build", table, name, entry.turn)
                results[peer] = []
            except (Unsupported, RuntimeError) as reason:
                results[peer] = reason
        order = [(peer, times) for peer, times in results.items() if isinstance(times, list)]
        for turn in range(self.rounds or entry.rounds):
            random.Random(turn).shuffle(order)
            for peer, times in order:
                time.sleep(PAUSE * (len(order) > 1))
                times += self.workers[peer].ask("run", entry.calls)
        return results

    def score(self, table: str, name: str, peer: str) -> float:
        """How well a peer that has run learns a row."""
        return float(self.workers[peer].ask("score", table, name))

    def memory(self, table: str, name: str, peer: str) -> list[float]:
        """Bytes that the first steps take, each time in a new process."""
        results = []
        for _ in range(self.rounds or TABLES[table].rounds):
            worker = Worker(peer, self.threads)
            try:
                results.append(worker.ask("memory", table, name, TABLES[table].steps))
            finally:
                worker.close()
        return results
