"""Trainings in processes and threads of every kind, and where threads or memory cannot be had:

    python proofs/processes.py [--limits 100]

Processes that are forked, spawned, from a fork server and loky's (where joblib is installed), and
pools of threads, train to the same bits.  Where no thread can be started, a training runs on the
calling one, with the same bits; where memory cannot be had, it ends by an exception, never by a
signal.  The exit status is 1 at the first fault, after two minutes without an end too.  Linux."""

import argparse
import collections
import concurrent.futures
import hashlib
import multiprocessing
import os
import resource
import signal
import sys
import warnings

import numpy as np
import safetensors.numpy  # noqa: F401  (here, so that a save needs no memory for it)

import fastnn
from fastnn import BatchNorm, Dense, Dropout, ReLU, Sequential

NOBODY = 65534
SAVED = f"/dev/shm/fastnn-{os.getpid()}"
JOBS, WORKERS = 8, 4
REFUSED = 3  # exit status of a process that was refused memory
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((700, 100)).astype(np.float32), RNG.integers(0, 3, 700)


def check(holds, what):
    if not holds:
        sys.exit(f"FAULT: {what}")


def trained(seed, threads=3, width=300):
    """The hash of a training, which has work for several threads."""
    model = Sequential(
        Dense(100, width), BatchNorm(width), ReLU(), Dropout(0.2), Dense(width, 3), seed=seed
    )  # fmt: skip
    with fastnn.threads(threads):
        model.fit(
            X, Y, loss=fastnn.SoftmaxCrossEntropy(), optimizer=fastnn.Adam(0.01), epochs=2,
            batch_size=128, progress=False,
        )  # fmt: skip
        predictor = model.predictor(64)
        return hashlib.sha256(
            model.flat_parameters.tobytes() + predictor(X[:64]).tobytes()
        ).hexdigest()


def pools():
    """Each kind of pool: its name and what opens it."""
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        yield method, concurrent.futures.ProcessPoolExecutor(WORKERS, mp_context=context)
    yield "threads", concurrent.futures.ThreadPoolExecutor(WORKERS)
    try:
        from joblib.externals.loky import ProcessPoolExecutor
    except ImportError:
        print("loky is not installed: left out")
    else:
        yield "loky", ProcessPoolExecutor(WORKERS)


def forked(work):
    """How a process that does the work ends: its exit status, or minus its signal."""
    child = os.fork()
    if not child:
        signal.alarm(120)  # a process that hangs is killed by SIGALRM
        code = 1
        try:
            work()
            code = 0
        except MemoryError:
            code = REFUSED
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def without_threads(expected):
    """No thread can be started: one may not have more of them, or they may not have memory."""

    def no_more():
        if os.geteuid() == 0:  # to whom the limit does not apply
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        try:
            import threading

            threading.Thread(target=lambda: None).start()
        except RuntimeError:
            pass
        else:
            raise AssertionError("a thread could be started all the same")
        assert trained(0) == expected[0], "other bits without threads"

    check(forked(no_more) == 0, "a training where no thread can be started")


def address_space():
    """Bytes of memory that this process has a claim to."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def limited(more, work):
    """How the work ends where a process may have so many more bytes of memory than it has."""

    def run():
        limit = address_space() + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        work()

    return forked(run)


WORK = {
    "train": lambda: trained(0, width=20_000),
    "save": lambda: fastnn.save(Sequential(Dense(2000, 2000)), SAVED),
    "convolution": lambda: Sequential(
        fastnn.Conv2D(8, 64, 3, padding="same"), fastnn.Conv2D(64, 64, 3, padding="same")
    ).input_gradient(np.ones((100, 28, 28, 8), np.float32), lambda y: y),
    "predict": lambda: Sequential(Dense(100, 2500), Dense(2500, 2500)).predict(X),
}  # fmt: skip


def without_memory(limits):
    """Works with ever more memory, from none: each ends well or by a MemoryError."""
    for name, work in WORK.items():
        ends = collections.Counter()
        for i in range(limits):
            more = int(
                2**27 * (i / limits) ** 2
            )  # most limits are small ones, where most is refused
            code = limited(more, work)
            check(code in (0, REFUSED), f"{name} with {more} bytes more: exit status {code}")
            ends[code] += 1
        print(
            f"{name}: of {limits} limits of memory {ends[REFUSED]} gave a MemoryError", flush=True
        )
        check(ends[REFUSED], f"{name}: no limit was felt")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limits", type=int, default=100, help="of memory, for each kind of work")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # later Pythons warn of every fork while threads run
    expected = [trained(seed, threads=1) for seed in range(JOBS)]
    check([trained(seed) for seed in range(JOBS)] == expected, "threads changed bits")
    for name, pool in pools():
        with pool:
            found = list(pool.map(trained, range(JOBS), timeout=120))
        check(found == expected, f"{name}: other bits")
        print(f"{name}: {JOBS} trainings in {WORKERS} workers, the same bits", flush=True)
    without_threads(expected)
    print("no thread can be started: the same bits", flush=True)
    try:
        without_memory(options.limits)
    finally:
        if os.path.exists(SAVED):
            os.unlink(SAVED)


if __name__ == "__main__":
    main()
