"""The command ``fastnn``: a demonstration on real digits, and what this build is made of.

Exit codes: 0 done, 2 wrong usage (from argparse), 130 interrupted by Ctrl-C, 141 nobody reads the
output any more.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnn
from fastnn import BatchNorm, Dense, Dropout, History, ReLU, Sequential

_SHADES = " .:-=+*#%@"
_SHOWN = 4  # digits drawn side by side

EPOCHS, BATCH = 30, 32


def network(seed: int) -> Sequential:
    """The demonstration's network, 64-256-10 with batch norm and dropout.

    Sizes and rates were chosen on splits of other seeds than those that results are told for.
    """
    return Sequential(
        Dense(64, 256), BatchNorm(256), ReLU(), Dropout(0.5), Dense(256, 10), seed=seed
    )


LOSS = fastnn.SoftmaxCrossEntropy(label_smoothing=0.1)


def optimizer() -> fastnn.Adam:
    """A new optimizer for the demonstration."""
    return fastnn.Adam(5e-3)


def train_network(
    model: Sequential,
    X: NDArray[Any],
    y: NDArray[Any],
    epochs: int = EPOCHS,
    seed: int = 0,
    progress: bool = True,
) -> History:
    """Train a network with the loss, the optimizer and the batches of the demonstration."""
    return model.fit(
        X,
        y,
        loss=LOSS,
        optimizer=optimizer(),
        epochs=epochs,
        batch_size=BATCH,
        seed=seed,
        progress=progress,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="fastnn", description="Neural networks on CPUs, at the speed of the hardware."
    )
    parser.add_argument("--version", action="version", version=f"fastnn {fastnn.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("info", help="print what this build and this machine have")
    demo_parser = commands.add_parser("demo", help="train a network on handwritten digits")
    demo_parser.add_argument("--seed", type=int, default=0, help="of split, start and order")
    demo_parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"default {EPOCHS}")
    options = parser.parse_args(arguments)
    if options.command == "demo" and options.seed < 0:
        demo_parser.error("--seed: expected 0 or more")
    if options.command == "demo" and options.epochs < 1:
        demo_parser.error("--epochs: expected 1 or more")
    try:
        code = info() if options.command == "info" else demo(options.seed, options.epochs)
        sys.stdout.flush()
    except BrokenPipeError:  # as in `fastnn demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's last flush
        return 141
    return code


def info() -> int:
    """Print `build_info`, a line each."""
    for name, value in fastnn.build_info().items():
        shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        print(f"{name + ':':<12} {shown}")
    return 0


def demo(seed: int = 0, epochs: int = EPOCHS, progress: bool = True) -> int:
    """Train on four fifths of the shipped digits and report on the fifth held out."""
    X, y = fastnn.datasets.digits()
    train, test = fastnn.stratified_split(y, test_fraction=0.2, seed=seed)
    print(f"{len(X)} handwritten digits, 8x8 pixels each (UCI ML Repository, CC BY 4.0).")
    print(f"The network learns from {len(train)} of them. The other {len(test)} are held out:")
    print("it does not see those before the exam at the end.\n")
    model = network(seed)
    print(f"{model.summary()}\n")
    print(f"{LOSS!r}, {optimizer()!r},")
    print(f"{epochs} epochs in batches of {BATCH}, seed {seed}.\n", flush=True)

    history = train_network(model, X[train], y[train], epochs, seed, progress)
    if history.interrupted:
        print("\nStopped by Ctrl-C.")
        return 130
    logits = model.predict(X[test])
    right = int((logits.argmax(axis=1) == y[test]).sum())
    seconds = sum(history.seconds)
    score = f"{right / len(test):.1%} ({right} of {len(test)} digits read right)"
    print(f"\nHeld-out accuracy   {score}")
    print(f"Training time       {seconds:.2f} s for {epochs} passes over the {len(train)} digits")
    print(f"Speed               {epochs * len(train) / seconds:,.0f} samples per second\n")
    print("Some of the held-out digits, and what the network reads:\n")
    print(_drawn(X[test], logits, y[test]))
    return 0


def _drawn(X: NDArray[Any], logits: NDArray[Any], y: NDArray[Any]) -> str:
    """Some digits side by side, each over the network's answer; a misread one, if any, is last."""
    read = logits.argmax(axis=1)
    wrong = np.flatnonzero(read != y)[:1]
    chosen = [*np.flatnonzero(read == y)[: _SHOWN - len(wrong)], *wrong]
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    level = (X[chosen] * (len(_SHADES) - 1)).round().astype(int).reshape(-1, 8, 8)
    lines = [
        "   ".join("".join(_SHADES[pixel] * 2 for pixel in image[row]) for image in level)
        for row in range(8)
    ]
    captions = [
        f"{read[i]}, {chances[i, read[i]]:.0%} sure" + ("" if read[i] == y[i] else f" (is {y[i]})")
        for i in chosen
    ]
    return "\n".join([*lines, "", "   ".join(caption.ljust(16) for caption in captions)])
