"""The limit of a row: its operations and bytes at the rates that peak.c measures."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from work import Work

SOURCE = Path(__file__).with_name("peak.c")
CACHES = {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}  # where the system does not say
MEMORY = 256e6  # bytes that no cache holds


class Level(NamedTuple):
    """A cache or memory: how many bytes fit, and bytes a second."""

    name: str
    size: float
    update: float  # y += a x
    read: float


class Limits(NamedTuple):
    """The best rates of so many threads."""

    threads: int
    peaks: dict[int, float]  # FLOP/s of fused multiply-adds, by the vector's bytes
    levels: list[Level]

    @property
    def peak(self) -> float:
        return max(self.peaks.values())

    def level(self, size: float) -> Level:
        return next(level for level in self.levels if size <= level.size)

    def seconds(self, work: Work) -> float:
        """The limit of this work: its arithmetic or its traffic, whichever takes longer."""
        return max(work.operations / self.peak, self.moving(work))

    def moving(self, work: Work) -> float:
        level = self.level(work.size)
        return work.traffic / (level.read if work.reads else level.update)

    def bound(self, work: Work) -> str:
        """What decides the limit: "FMA", or the level that holds the arrays."""
        moves = self.moving(work) > work.operations / self.peak
        return self.level(work.size).name if moves else "FMA"

    def __str__(self) -> str:
        peaks = ", ".join(f"{8 * w} bit {rate / 1e9:.0f}" for w, rate in self.peaks.items())
        levels = ", ".join(f"{x.name} {x.update / 1e9:.0f}/{x.read / 1e9:.0f}" for x in self.levels)
        return f"{self.threads} threads: {peaks} GFLOP/s; update/read {levels} GB/s"


def caches(threads: int) -> dict[str, int]:
    """The bytes of each level that so many threads reach together."""
    sizes = dict(CACHES)
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        level, kind, size = (
            index.joinpath(x).read_text().strip() for x in ("level", "type", "size")
        )
        if kind != "Instruction" and f"L{level}" in sizes:
            sizes[f"L{level}"] = int(size.rstrip("K")) << 10
    return {name: size * (1 if name == "L3" else threads) for name, size in sizes.items()}


def compiled(folder: str) -> str:
    """peak.c as a program in that folder."""
    native = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
    program = f"{folder}/peak"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O3", native, "-pthread", SOURCE, "-o", program], check=True)
    return program


def measure(threads: int) -> Limits:
    """Each level is measured with arrays that fill half of it."""
    sizes = caches(threads)
    measured = [*(size / 2 for size in sizes.values()), MEMORY]
    with tempfile.TemporaryDirectory() as folder:
        command = [compiled(folder), str(threads), *(f"{size:.0f}" for size in measured)]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = [
        (kind, int(size), float(rate)) for kind, size, rate in map(str.split, lines.splitlines())
    ]
    rates = {kind: [rate for k, _, rate in found if k == kind] for kind in ("update", "read")}
    names, ends = [*sizes, "memory"], [*sizes.values(), float("inf")]
    levels = [Level(*level) for level in zip(names, ends, *rates.values(), strict=True)]
    return Limits(threads, {size: rate for kind, size, rate in found if kind == "fma"}, levels)
