"""``fastnn demo``: a network learns to read the digits that ship with the package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import datasets
from fastnn.data import stratified_split
from fastnn.layers import BatchNorm, Dense, Dropout, ReLU
from fastnn.losses import SoftmaxCrossEntropy
from fastnn.model import Sequential
from fastnn.optimizers import Adam

if TYPE_CHECKING:
    from argparse import Namespace

    from numpy.typing import NDArray

_SHADES = " .:-=+*#%@"
_SHOWN = 4  # digits drawn side by side

BATCH = 32


def network(seed: int) -> Sequential:
    """The demonstration's network, 64-256-10 with batch norm and dropout.

    Sizes and rates were chosen on splits of other seeds than those that results are told for.
    """
    return Sequential(
        Dense(64, 256), BatchNorm(256), ReLU(), Dropout(0.5), Dense(256, 10), seed=seed
    )


LOSS = SoftmaxCrossEntropy(label_smoothing=0.1)


def optimizer() -> Adam:
    """A new optimizer for the demonstration."""
    return Adam(5e-3)


def run(options: Namespace) -> int:
    """Train on four fifths of the shipped digits and report on the fifth held out."""
    seed, epochs = options.seed, options.epochs
    X, y = datasets.digits()
    train, test = stratified_split(y, test_fraction=0.2, seed=seed)
    print(f"{len(X)} handwritten digits, 8x8 pixels each (UCI ML Repository, CC BY 4.0).")
    print(f"The network learns from {len(train)} of them. The other {len(test)} are held out:")
    print("it does not see those before the exam at the end.\n")
    model = network(seed)
    print(f"{model.summary()}\n")
    print(f"{LOSS!r}, {optimizer()!r},")
    print(f"{epochs} epochs in batches of {BATCH}, seed {seed}.\n", flush=True)

    history = model.fit(
        X[train],
        y[train],
        loss=LOSS,
        optimizer=optimizer(),
        epochs=epochs,
        batch_size=BATCH,
        seed=seed,
    )
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
