"""How training on several processes scales: measured here, and a model of it to 1,024 ranks.

``python benchmarks/scale.py [RANKS...]`` on an otherwise idle machine, with mpi4py and mpirun; 1, 2
and 4 ranks unless told, one thread each.  All times are the best of many, in milliseconds.  The
model (docs/background/scale.md): an update of R ranks, each with a batch, takes

    t(R) = batch + round + latency (2 (R - 1) + log2 R) + bytes 2 (R - 1) / R / bandwidth

`batch` is a step of one process, `round` what a round costs beside it; latency and bandwidth are
fitted to exchanges of vectors of many sizes.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

FEATURES, BATCH = (784, 512, 512, 10), 128
VECTORS = tuple(4**k for k in range(3, 12))  # elements
NETWORKS = {  # latency in µs and bandwidth in GB/s that are typical of them, to compare
    "Ethernet, 10 Gbit/s, TCP": (20.0, 1.1),
    "InfiniBand, 100 Gbit/s": (2.0, 11.0),
}
TABLE, LARGER = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024), 8


def network():
    import fastnn

    pairs = list(pairwise(FEATURES))
    hidden = [fastnn.Dense(*pair, activation="relu") for pair in pairs[:-1]]
    return fastnn.Sequential(*hidden, fastnn.Dense(*pairs[-1]), seed=0)


def best(function, seconds=3.0, least=20):
    """The least time of many calls, in ms."""
    times, end = [], time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return 1e3 * min(times)


def steps(make):
    """A step on the same batch again and again."""
    import fastnn

    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, FEATURES[0])).astype(np.float32)
    y = rng.integers(0, FEATURES[-1], BATCH)
    step = make(network(), fastnn.SoftmaxCrossEntropy(), fastnn.Adam(1e-3))
    return lambda: step(x, y)


def rank():
    """What one rank measures; rank 0 prints it."""
    import fastnn
    from fastnn.mpi import TrainStep, World, rounds

    world, told = World(), {}
    number = 200  # all ranks make as many
    told["step"] = best(steps(lambda *parts: TrainStep(world, *parts)), 0, number)
    if world.size == 1:
        told["batch"] = best(steps(fastnn.TrainStep), 0, number)
    has = 1.0, 1, 1, 0.5, 1, 0.0, 0.0
    told["exchanges"] = []
    for size in VECTORS:
        vector = np.ones(size, np.float32)
        total = world.sum_of(vector)

        def exchange(total=total):
            total.add(rounds.tell(world.comm, has))
            total.take_mean(1.0)

        told["exchanges"].append((4 * size, best(exchange, 0, number)))
    if world.rank == 0:
        print(json.dumps(told), flush=True)


def measure(ranks):
    mpirun = shutil.which("mpirun", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    version = subprocess.run([mpirun, "--version"], capture_output=True, text=True).stdout
    extra = ["--allow-run-as-root", "--oversubscribe"] if "Open MPI" in version else []
    command = [mpirun, *extra, "-n", str(ranks), sys.executable, __file__, "rank"]
    environment = os.environ | {"FASTNN_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def messages(ranks):
    """How many latencies an update has."""
    return 2 * (ranks - 1) + math.log2(ranks)


def moved(ranks, size):
    """How many of the vector's bytes a rank sends."""
    return 2 * (ranks - 1) / ranks * size


def fitted(measured):
    """Latency (ms) and bandwidth (bytes a ms), by least squares of the relative errors of what
    exchanges take longer than on one rank."""
    alone = dict(measured[1]["exchanges"])
    rows, times = [], []
    for ranks, told in measured.items():
        for size, taken in told["exchanges"] if ranks > 1 else ():
            rest = max(taken - alone[size], 0.02 * taken)
            rows.append([messages(ranks) / rest, moved(ranks, size) / rest])
            times.append(1.0)
    latency, inverse = np.linalg.lstsq(np.array(rows), np.array(times), rcond=None)[0]
    return max(latency, 1e-5), 1 / max(inverse, 1e-12)


def report(measured):
    batch, alone = measured[1]["batch"], measured[1]["step"]
    size = 4 * sum((inputs + 1) * outputs for inputs, outputs in pairwise(FEATURES))
    latency, bandwidth = fitted(measured) if len(measured) > 1 else (1e-3, 1e7)

    def model(ranks, latency, bandwidth, times=1):
        """A step where each rank's batch has so many times the rows."""
        if ranks == 1:
            return times * batch
        rest = alone - batch + latency * messages(ranks) + moved(ranks, size) / bandwidth
        return times * batch + rest

    name = "-".join(map(str, FEATURES))
    print(f"{name}, {BATCH} rows a rank, float32, Adam, one thread a rank: {size:,} bytes go round")
    print(f"a step of one process {batch:.2f} ms; as a round of one rank {alone:.2f} ms\n")
    print("| ranks | step, ms | efficiency | the model says, ms |\n|---|---|---|---|")
    for ranks, told in measured.items():
        step = batch if ranks == 1 else told["step"]
        says = model(ranks, latency, bandwidth)
        print(f"| {ranks} | {step:.2f} | {batch / step:.0%} | {says:.2f} |")
    print(f"\nfitted here: {1e3 * latency:.1f} µs, {bandwidth / 1e6:.1f} GB/s.  Elsewhere:\n")
    columns = [(name, rows) for rows in (1, LARGER) for name in NETWORKS]
    heads = (f"{name}; {BATCH * rows} rows" for name, rows in columns)
    print("| ranks | " + " | ".join(heads) + " |")
    print("|---" * (1 + len(columns)) + "|")
    for ranks in TABLE:
        cells = []
        for name, rows in columns:
            us, gb = NETWORKS[name]
            cells.append(f"{rows * batch / model(ranks, us / 1e3, gb * 1e6, rows):.0%}")
        print(f"| {ranks:,} | " + " | ".join(cells) + " |")


def main():
    ranks = tuple(map(int, sys.argv[1:])) or (1, 2, 4)
    report({number: measure(number) for number in sorted({1, *ranks})})


if __name__ == "__main__":
    rank() if sys.argv[1:] == ["rank"] else main()
