"""Networks and products beside the peers, as Markdown tables: ``python benchmarks/compare.py``.

The same races as ``pytest benchmarks --benchmark-only``, with each peer's time divided by fastnn's
in brackets, and the distance to the limit: what the row's products would take at the rate of the
fastest large product that any peer reached in this run.
"""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import version
from statistics import median

from cases import TABLES, Network, Product
from race import PEERS, ROUNDS, RUNNERS, THREADS, Race, installed

TITLES = {
    "product": "Matrix products",
    "train": "Training step: forward, softmax cross-entropy, backward, Adam",
    "predict": "Inference, one call",
    "kernel": "Kernels",
}
LIMITED = ("product", "train")  # rows whose limit is the operations of their products
LARGE = [Product("forward", 256, 256, 256), Product("forward", 1008, 4096, 4096)]


def medians(race: Race, table: str, name: str) -> dict[str, float]:
    """Seconds of each installed peer that has such a row."""
    peers = [peer for peer in RUNNERS[table] if installed(peer)]
    results = race.run(table, name, peers)
    for result in results.values():
        if isinstance(result, RuntimeError):
            raise result
    return {peer: median(times) for peer, times in results.items() if isinstance(times, list)}


def microseconds(seconds: float) -> str:
    value = seconds * 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def row(case: Network | Product, seconds: dict[str, float], table: str, rate: float) -> list[str]:
    own = seconds["fastnn"]
    cells = [case.name, microseconds(own)]
    if table in LIMITED:
        limit = case.operations / rate
        cells += [microseconds(limit), f"{limit / own:.0%}"]
    for peer in RUNNERS[table][1:]:
        if installed(peer):
            theirs = seconds.get(peer)
            cells.append(f"{microseconds(theirs)} ({theirs / own:.1f})" if theirs else "-")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", help=f"of {', '.join(TABLES)}; all but the last")
    parser.add_argument("-k", dest="only", default="", help="rows whose name contains this")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=THREADS)
    options = parser.parse_args()
    print(f"{platform.machine()}, {options.threads} threads, medians of {options.rounds} rounds;")
    present = {PEERS[peer].package for peer in list(PEERS)[1:] if installed(peer)}
    print(", ".join(f"{package} {version(package)}" for package in sorted(present)))
    with Race(options.threads, options.rounds) as race:
        rates = [
            case.operations / min(medians(race, "product", case.name).values()) for case in LARGE
        ]
        print(f"limit: operations of the products at {max(rates) / 1e9:.0f} GFLOP/s")
        for table in options.tables or list(TITLES)[:-1]:
            peers = [peer for peer in RUNNERS[table][1:] if installed(peer)]
            head = ["", "fastnn", *(["limit", "reached"] if table in LIMITED else []), *peers]
            print(f"\n{TITLES[table]}, microseconds (times fastnn's):\n")
            print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
            for case in TABLES[table]:
                if options.only in case.name:
                    cells = row(case, medians(race, table, case.name), table, max(rates))
                    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
