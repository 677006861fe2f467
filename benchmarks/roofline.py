"""How far fastnn is from this machine's limits: ``python benchmarks/roofline.py``.

Writes roofline.png, rate against arithmetic intensity under the measured roofs, and performance.md,
every row's distance to its limit, in docs/background/.  What stands there under "What was tried"
remains.  Needs matplotlib; takes two minutes.
"""

from __future__ import annotations

import argparse
from datetime import date
from math import atan, degrees
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot

from cases import TABLES, Kernel
from compare import machine, microseconds
from limits import Limits, measure
from race import THREADS, Race
from work import Work

SHOWN = (
    *("train", "other", "cnn", "predict", "cnnpredict", "fit"),
    *("product", "grid", "conv", "kernel", "elementwise"),
)
NOMINAL = 8  # operations an element that a kernel is drawn with; they shift it along its roof
KINDS = {  # tables: label, colour, marker
    ("grid", "product"): ("matrix products", "#9aa5b1", "o"),
    ("conv",): ("convolutions", "#8073ac", "v"),
    ("kernel", "elementwise"): (f"kernels ({NOMINAL} operations an element)", "#e08214", "^"),
    ("predict", "cnnpredict"): ("inference", "#1b7837", "D"),
    ("train", "other", "cnn", "fit"): ("training", "#2166ac", "s"),
}
DOCS = Path(__file__).parent.parent / "docs"
TRIED = "\n## What was tried\n"


class Point(NamedTuple):
    table: str
    case: Any
    work: Work
    seconds: float

    @property
    def operations(self) -> float:
        if isinstance(self.case, Kernel):
            return NOMINAL * self.case.rows * self.case.features
        return self.work.operations

    @property
    def at(self) -> tuple[float, float]:
        """Operations a byte, and GFLOP/s."""
        return self.operations / self.work.traffic, self.operations / self.seconds / 1e9


def measured(race: Race, tables: tuple[str, ...]) -> list[Point]:
    """fastnn alone on every row."""
    points = []
    for table in tables:
        for case in TABLES[table].cases:
            times = race.run(table, case.name, ["fastnn"])["fastnn"]
            if isinstance(times, Exception):
                raise times
            points.append(Point(table, case, TABLES[table].work(case), median(times)))
    return points


def draw_roofs(axes: Any, limits: Limits) -> None:
    (left, right), peak = axes.get_xlim(), limits.peak / 1e9
    axes.plot([left, right], [peak] * 2, color="black", linewidth=1.2)
    text = f"fused multiply-add, {limits.threads} threads: {peak:.0f} GFLOP/s"
    axes.annotate(text, (right, peak), (-4, 4), textcoords="offset points", ha="right")
    for level in limits.levels:
        rate = level.update / 1e9
        axes.plot([left, peak / rate], [left * rate, peak], color="black", linewidth=0.8)
        axes.text(
            *(1.1 * left, 1.15 * left * rate, f"{level.name} {rate:,.0f} GB/s"),
            rotation=degrees(atan(rate)),
            rotation_mode="anchor",
            transform_rotates_text=True,
            fontsize=8,
        )


def draw(points: list[Point], limits: Limits, path: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(11, 7), layout="constrained")
    axes.set(xscale="log", yscale="log", xlabel="operations a byte", ylabel="GFLOP/s")
    axes.set(xlim=(0.05, 2000), ylim=(0.2, 2 * limits.peak / 1e9))
    draw_roofs(axes, limits)
    for tables, (label, colour, marker) in KINDS.items():
        chosen = [point for point in points if point.table in tables]
        size = 12 if "grid" in tables else 34
        x, y = zip(*(point.at for point in chosen), strict=True) if chosen else ([], [])
        axes.scatter(x, y, size, colour, marker=marker, label=label, linewidths=0, alpha=0.85)
    named = [point for point in points if point.table == "train"]
    for i, point in enumerate(sorted(named, key=lambda point: -point.at[1])):
        axes.annotate(
            f"{'-'.join(map(str, point.case.sizes))}, batch {point.case.batch}",
            *(point.at, (0.99, 0.8 - 0.05 * i), "data", "axes fraction"),
            ha="right",
            fontsize=9,
            arrowprops={"arrowstyle": "-", "color": "#2166ac", "linewidth": 0.5},
        )
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)


def table(points: list[Point], limits: Limits) -> list[str]:
    lines = ["| | microseconds | limit | bound by | reached |", "|---|---|---|---|---|"]
    for point in points:
        limit = limits.seconds(point.work)
        cells = [point.case.name, microseconds(point.seconds), microseconds(limit)]
        cells += [limits.bound(point.work), f"{limit / point.seconds:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def report(points: list[Point], limits: list[Limits]) -> str:
    lines = [
        "# Distance to the limits",
        "",
        f"Written by `benchmarks/roofline.py` on {date.today()}: {machine()}.",
        "`benchmarks/README.md` says how this is measured and what a limit is.",
        "The machine's rates, where update is `y += a x` and read is a sum:",
        "",
        *(f"- {limit}" for limit in limits),
        "",
        "![Rate against arithmetic intensity under the measured roofs](roofline.png)",
    ]
    for name in SHOWN:
        chosen = [point for point in points if point.table == name]
        if chosen:
            lines += ["", f"## {TABLES[name].title}", "", *table(chosen, limits[-1])]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", default=SHOWN, help=f"of {', '.join(SHOWN)}")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every row")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--out", type=Path, default=DOCS)
    options = parser.parse_args()
    limits = [measure(threads) for threads in sorted({1, options.threads})]
    with Race(options.threads, options.rounds) as race:
        points = measured(race, tuple(options.tables))
    draw(points, limits[-1], options.out / "roofline.png")
    path = options.out / "performance.md"
    _, heading, tried = (path.read_text("utf-8") if path.exists() else "").partition(TRIED)
    path.write_text(report(points, limits) + heading + tried, encoding="utf-8")


if __name__ == "__main__":
    main()
