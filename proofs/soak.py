"""Nothing grows: ``python proofs/soak.py [--rounds 10]``.

Ten thousand steps, a thousand models that are trained, predict, are saved, copied and dropped, and
a thousand recordings (each on another number of rows), in ten rounds.  After the first two rounds,
which fill the caches, memory must not grow by more than 2 MB, nor the number of threads or of open
files by one.  The exit status is 1 at a fault.  Linux."""

import argparse
import copy
import gc
import os
import resource
import sys
import tempfile

import numpy as np

import fastnn
from fastnn import BatchNorm, Dense, Dropout, ReLU, Sequential, TrainStep

MOST = 2_000_000  # bytes; one forgotten model a round has 100 times 90 kB
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((1200, 40)).astype(np.float32), RNG.integers(0, 3, 1200)


def model_of(seed):
    return Sequential(
        Dense(40, 200), BatchNorm(200), ReLU(), Dropout(0.2), Dense(200, 3), seed=seed
    )  # fmt: skip


def new_step():
    return TrainStep(model_of(0), fastnn.SoftmaxCrossEntropy(), fastnn.Adam(1e-3))


def steps(step):
    """1,000 steps of one recording."""
    for i in range(1000):
        at = i * 32 % 1024
        step(X[at : at + 32], Y[at : at + 32])


def models(folder):
    """100 models, each with all that one may do with it."""
    path = os.path.join(folder, "model")
    for seed in range(100):
        model = model_of(seed)
        model.fit(
            X[:128], Y[:128], loss=fastnn.SoftmaxCrossEntropy(), optimizer=fastnn.Adam(1e-3),
            epochs=2, progress=False, validation_data=(X[:32], Y[:32]),
        )  # fmt: skip
        predictor = model.predictor(16)
        predictor(X[:16])
        model.input_gradient(X[:16], 0)
        model.save(path)
        copy.deepcopy(fastnn.load(path)).predict(X[:5])


def recordings():
    """100 recordings of one step, each on another number of rows."""
    step = new_step()
    for rows in range(2, 102):
        for _ in range(2):
            step(X[:rows], Y[:rows])


def used():
    """Resident bytes, threads and open files of this process."""
    gc.collect()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * resource.getpagesize()
    return resident, len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    step, seen = new_step(), []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(rounds):
            steps(step)
            models(folder)
            recordings()
            seen.append(used())
            print("round {}: {:,} bytes, {} threads, {} files".format(i + 1, *seen[-1]), flush=True)
    begin, end = seen[min(1, rounds - 1)], seen[-1]
    if end[0] > begin[0] + MOST or end[1] > begin[1] or end[2] > begin[2]:
        sys.exit("FAULT: something grew")
    print(f"{1000 * rounds} steps, {100 * rounds} models, {100 * rounds} recordings: nothing grew")


if __name__ == "__main__":
    main()
