"""What `fit` shows while it runs: a bar or a line on a terminal, a line per epoch elsewhere.

All of it goes to stderr, so that a program's own output stays clean.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from fastnn.averages import ExponentialAverage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_INTERVAL = 0.1  # seconds between two drawings
_BAR = 20  # characters of the plain bar


class Silent:
    """A display that shows nothing; its methods are what every display is told."""

    def step(self, samples: int, losses: NDArray[np.float64]) -> None:
        """Some training steps are done, on `samples` rows in all, with these losses."""

    def epoch(self, results: Mapping[str, float]) -> None:
        """An epoch is done; `results` is its line of the history."""

    def close(self) -> None:
        """Training is over, whether it finished, failed or was interrupted."""


class Lines(Silent):
    """One line per epoch, for logs and pipes."""

    def __init__(self, stream: TextIO, epochs: int, done: int) -> None:
        self.stream, self.epochs, self.done = stream, epochs, done

    def epoch(self, results: Mapping[str, float]) -> None:
        self.done += 1
        print(f"{self.label(self.done)}  {describe(results)}", file=self.stream, flush=True)

    def label(self, epoch: int) -> str:
        return f"epoch {epoch:{len(str(self.epochs))}}/{self.epochs}"


class Live(Lines):
    """One line, rewritten a few times a second.  It shows the smoothed loss of the last steps, and
    at an epoch's end the epoch's."""

    def __init__(self, stream: TextIO, epochs: int, samples: int, done: int) -> None:
        super().__init__(stream, epochs, done)
        self.total, self.seen = epochs * samples, done * samples  # a total of 0 is unknown
        self.average, self.loss = ExponentialAverage(0.98), float("nan")
        self.results: dict[str, float] = {}
        self.next_drawing = 0.0

    def step(self, samples: int, losses: NDArray[np.float64]) -> None:
        self.seen += samples
        for loss in losses.tolist():
            self.loss = self.average.update(loss)
        if time.perf_counter() >= self.next_drawing:
            self.draw(self.label(self.done + 1))
            self.next_drawing = time.perf_counter() + _INTERVAL

    def epoch(self, results: Mapping[str, float]) -> None:
        self.done += 1
        self.loss = results["loss"]
        *_, last = measures(results)  # a line of 80 columns has room for one
        self.results = {last: results[last]} if last != "loss" else {}
        if self.done == self.epochs:
            self.draw(self.label(self.done))

    def describe(self) -> str:
        return describe({"loss": self.loss, **self.results})

    def draw(self, label: str) -> None:
        import shutil  # slow to import

        bar = f"{self.seen} rows"
        if self.total:
            filled = _BAR * self.seen // self.total
            bar = "#" * filled + "-" * (_BAR - filled)
        width = shutil.get_terminal_size().columns - 1
        line = f"{label} [{bar}] {self.describe()}"[:width].ljust(width)
        print(f"\r{line}", end="", file=self.stream, flush=True)

    def close(self) -> None:
        print(file=self.stream, flush=True)


class Tqdm(Live):
    """The same line as a bar of tqdm's, which adds the time left."""

    def __init__(
        self, bar_class: Any, stream: TextIO, epochs: int, samples: int, done: int
    ) -> None:
        super().__init__(stream, epochs, samples, done)
        layout = "{desc} |{bar:12}| {remaining} left{postfix}"  # fits 80 columns
        if not samples:
            layout = "{desc} {n_fmt} rows{postfix}"
        total = self.total or None
        self.bar = bar_class(total=total, bar_format=layout, file=stream, dynamic_ncols=True)

    def draw(self, label: str) -> None:
        self.bar.set_description_str(label, refresh=False)
        self.bar.set_postfix_str(self.describe(), refresh=False)
        self.bar.update(self.seen - self.bar.n)
        self.bar.refresh()

    def close(self) -> None:
        self.bar.close()


def display(progress: bool, epochs: int, samples: int, done: int = 0) -> Silent:
    """The display that suits stderr, terminal or file.  An epoch has `samples` rows (0: unknown),
    and `done` epochs were finished before a resume."""
    stream = sys.stderr
    if not progress or stream is None:
        return Silent()
    if not stream.isatty():
        return Lines(stream, epochs, done)
    try:
        from tqdm import tqdm
    except ImportError:
        return Live(stream, epochs, samples, done)
    return Tqdm(tqdm, stream, epochs, samples, done)


def measures(results: Mapping[str, float]) -> list[str]:
    """The names of losses and metrics among an epoch's results."""
    others = ("learning_rate", "seconds", "samples_per_second")
    return [name for name in results if name not in others]


def describe(results: Mapping[str, float]) -> str:
    """Losses and metrics in a line."""
    return "  ".join(f"{name} {results[name]:.4f}" for name in measures(results))
