"""Ctrl-C at any moment of `fit`: ``python proofs/interrupts.py [--presses 1000] [--seed 0]``.

Another thread sends SIGINT at a random moment of a training: replayed, in Python, or with averaged
weights, and a checkpoint after each epoch.  Afterwards the history is that of the epochs that
ended, the model predicts, and resumed from the checkpoint it ends with the bits of a training that
nobody interrupted.  The exit status is 1 at the first fault, and after a minute without an end."""

import argparse
import collections
import faulthandler
import math
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

import fastnn
from fastnn import BatchNorm, Callback, Dense, Dropout, ModelCheckpoint, ReLU, Sequential
from fastnn.training import interrupts

EPOCHS, ROWS = 4, 2000
MEMORY = "/dev/shm"  # where a file takes no time, so that most presses meet a step
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((ROWS, 20)).astype(np.float32), RNG.integers(0, 3, ROWS)


LOSS = fastnn.SoftmaxCrossEntropy()


def own_loss(outputs, targets, sample_weight=None):
    """A loss of the user's, with which no step is recorded."""
    return LOSS(outputs, targets, sample_weight)


class EachBatch(Callback):
    """Wants to know of every batch, so that none is replayed together with others."""

    def on_batch_end(self, run):
        pass


# kind of training -> its loss, its callbacks, its average
KINDS = {
    "replayed": (LOSS, [], lambda: None),
    "batch by batch": (LOSS, [EachBatch()], lambda: None),
    "in Python": (own_loss, [], lambda: None),
    "averaged": (LOSS, [], lambda: fastnn.ExponentialMovingAverage(0.9)),
}


def train(kind, path, **more):
    """A new model, and the function that trains it."""
    loss, callbacks, average = KINDS[kind]
    model = Sequential(Dense(20, 60), BatchNorm(60), ReLU(), Dropout(0.2), Dense(60, 3), seed=1)
    return model, lambda: model.fit(
        X, Y, loss=loss, optimizer=fastnn.Adam(0.01), epochs=EPOCHS, batch_size=16,
        callbacks=[ModelCheckpoint(path), *callbacks], average=average(), progress=False, **more,
    )  # fmt: skip


def check(holds, what):
    if not holds:
        sys.exit(f"FAULT: {what}")


def pressed(fit, seconds):
    """The history of a fit at which Ctrl-C is pressed after some seconds, or None if it was raised
    (before the fit had begun, or after its end)."""
    interrupts._last_press = -math.inf  # each is a first press
    begun = threading.Event()

    def press():
        begun.wait()
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGINT)

    thread, history = threading.Thread(target=press), None
    thread.start()
    try:
        begun.set()
        history = fit()
        thread.join()
        time.sleep(0)  # a late one is raised here
    except KeyboardInterrupt:
        pass
    thread.join()
    return history


def trial(kind, path, moment, expected):
    """What became of one press."""
    path.unlink(missing_ok=True)
    model, fit = train(kind, path)
    history = pressed(fit, moment)
    check(not list(path.parent.glob(".*")), "a temporary file was left")
    check(np.isfinite(model.predict(X)).all(), "the model does not predict")
    losses, bits = expected
    if history is not None:
        check(
            history.get("loss", []) == losses[: history.epochs],
            f"{kind}: the history is another one",
        )
        check(history.interrupted or history.epochs == EPOCHS, f"{kind}: it ended too early")
    resume = {"resume": path} if path.exists() else {}
    again, fit = train(kind, path, **resume)
    rest = fit()
    check(rest["loss"] == losses, f"{kind}: the resumed history is another one")
    check(again.flat_parameters.tobytes() == bits, f"{kind}: the resumed bits are others")
    if history is None:
        return "KeyboardInterrupt outside"
    return f"after epoch {history.epochs}" if history.interrupted else "too late"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presses", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.setswitchinterval(1e-4)  # so that the thread that presses is punctual
    chance, seen, expected = random.Random(options.seed), collections.Counter(), {}
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as folder:
        path, lasted = Path(folder) / "training", {}
        for kind in KINDS:
            model, fit = train(kind, path)
            begin = time.perf_counter()
            history = fit()
            lasted[kind] = time.perf_counter() - begin
            expected[kind] = history["loss"], model.flat_parameters.tobytes()
            path.unlink()
        for i in range(options.presses):
            kind = list(KINDS)[i % len(KINDS)]
            faulthandler.dump_traceback_later(60, exit=True)
            moment = 1.1 * lasted[kind] * chance.random()
            seen[trial(kind, path, moment, expected[kind])] += 1
            faulthandler.cancel_dump_traceback_later()
    counts = ", ".join(f"{name}: {seen[name]}" for name in sorted(seen))
    print(f"seed {options.seed}, {options.presses} presses: no fault ({counts})")


if __name__ == "__main__":
    main()
