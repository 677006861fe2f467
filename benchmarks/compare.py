"""Tables beside the peers and the limit, as Markdown: ``python benchmarks/compare.py [TABLE...]``.

The races of ``pytest benchmarks --benchmark-only``, and the tables that it does not run. In
brackets stands a peer's time divided by fastnn's: 2.0 takes twice as long. *Best* is this figure of
the fastest peer. *Limit* is the row's work at this machine's rates, measured in the same run, for
data in registers (FMA) or where the arrays lie.
"""

from __future__ import annotations

import argparse
import platform
from math import exp, log
from statistics import median

from cases import TABLES
from limits import Limits, measure
from race import PEERS, THREADS, Race, cpu, installed, release

PLAIN = [table for table in TABLES if table not in ("grid", "kernel", "conv", "many")]


def race_row(race: Race, table: str, name: str) -> dict[str, list[float]]:
    """The seconds of each installed peer that can run the row."""
    results = race.run(table, name, [peer for peer in TABLES[table].peers if installed(peer)])
    for result in results.values():
        if isinstance(result, RuntimeError):
            raise result
    return {peer: times for peer, times in results.items() if isinstance(times, list)}


def microseconds(seconds: float) -> str:
    value = seconds * 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def best(times: dict[str, list[float]]) -> list[float]:
    """The fastest peer's time in units of fastnn's, if any; fastnn's own variants are no peers."""
    peers = [median(t) for peer, t in times.items() if PEERS[peer].package != "fastnn-cpu"]
    return [min(peers) / median(times["fastnn"])] if peers else []


def row(table: str, times: dict[str, list[float]], bound: str, limit: float) -> list[str]:
    def text(peer: str) -> str:
        tail = ""
        if TABLES[table].calls:
            tail = f" / {microseconds(sorted(times[peer])[len(times[peer]) * 999 // 1000])}"
        return microseconds(median(times[peer])) + tail

    own = median(times["fastnn"])
    cells = [text("fastnn"), f"{microseconds(limit)} {bound}", f"{limit / own:.0%}"]
    for peer in TABLES[table].peers[1:]:
        if installed(peer):
            there = peer in times
            cells.append(f"{text(peer)} ({median(times[peer]) / own:.2f})" if there else "-")
    return cells


def summary(ratios: list[float]) -> str:
    if not ratios:
        return ""
    mean = exp(sum(map(log, ratios)) / len(ratios))
    below = ", ".join(f"below {x}: {sum(ratio < x for ratio in ratios)}" for x in (0.9, 0.8))
    return (
        f"\nThe fastest peer in units of fastnn, {len(ratios)} rows: geometric mean {mean:.2f}, "
        f"worst {min(ratios):.2f}, {below}.\n"
    )


def show(race: Race, table: str, limits: Limits, only: str) -> None:
    entry, ratios = TABLES[table], []
    peers = [peer for peer in entry.peers[1:] if installed(peer)]
    head = ["", "fastnn", "limit", "reached", *peers, "best"]
    print(f"\n{entry.title}, microseconds (times fastnn's):\n")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for case in entry.cases:
        if only in case.name:
            times, work = race_row(race, table, case.name), entry.work(case)
            cells = row(table, times, limits.bound(work), limits.seconds(work))
            cells += [f"{ratio:.2f}" for ratio in best(times)] or ["-"]
            ratios += best(times)
            print(f"| {case.name} | {' | '.join(cells)} |", flush=True)
    print(summary(ratios), end="")


def show_memory(race: Race, table: str, only: str) -> None:
    """Prints MiB, without a limit."""
    entry = TABLES[table]
    peers = [peer for peer in entry.peers if installed(peer)]
    print(f"\n{entry.title}, MiB (times fastnn's):\n")
    print(f"|  | {' | '.join(peers)} |\n|{'---|' * (len(peers) + 1)}")
    for case in entry.cases:
        if only in case.name:
            used = {peer: median(x) for peer, x in race_row(race, table, case.name).items()}
            cells = [f"{x / 2**20:.1f} ({x / used['fastnn']:.2f})" for x in used.values()]
            print(f"| {case.name} | {' | '.join(cells)} |", flush=True)


def show_estimators(race: Race, table: str, only: str) -> None:
    """Prints milliseconds and scores, without a limit."""
    entry = TABLES[table]
    peers = [peer for peer in entry.peers if installed(peer)]
    head = ["", *peers, *(f"score of {peer}" for peer in peers)]
    print(f"\n{entry.title}, milliseconds (times fastnn's):\n")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for case in entry.cases:
        if only in case.name:
            times = {peer: median(x) for peer, x in race_row(race, table, case.name).items()}
            cells = [f"{1e3 * x:,.3g} ({x / times['fastnn']:.2f})" for x in times.values()]
            cells += [f"{race.score(table, case.name, peer):.4f}" for peer in times]
            print(f"| {case.name} | {' | '.join(cells)} |", flush=True)


def machine() -> str:
    """The CPU and the versions of the peers."""
    named = [cpu().get(key, "") for key in ("model name", "cpu family", "model")]
    packages = {PEERS[peer].package for peer in PEERS if installed(peer)} - {"fastnn-cpu"}
    versions = ", ".join(f"{package} {release(package)}" for package in sorted(packages))
    return f"{platform.machine()}, {' '.join(named)} (name, family, model); {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "tables", nargs="*", help=f"of {', '.join(TABLES)}; the default is {', '.join(PLAIN)}"
    )
    parser.add_argument("-k", dest="only", default="", help="rows whose name contains this")
    parser.add_argument("--rounds", type=int, help="turns of each peer; else the table's own")
    parser.add_argument("--threads", type=int, default=THREADS)
    options = parser.parse_args()
    print(f"{machine()}\n")
    for threads in sorted({1, options.threads}):
        limits = measure(threads)
        print(f"Limits, {limits}", flush=True)
    with Race(options.threads, options.rounds) as race:
        for table in options.tables or PLAIN:
            if TABLES[table].steps:
                show_memory(race, table, options.only)
            elif TABLES[table].scores:
                show_estimators(race, table, options.only)
            else:
                show(race, table, limits, options.only)
    print(f"\nMeanwhile the processes of others ran for {race.disturbed:.1f} s.")


if __name__ == "__main__":
    main()
