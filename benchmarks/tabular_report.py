"""The tables of docs/background/tabular.md, of the lines that tabular.py wrote.

An error is the part of test rows put into a wrong class, or of a regression the root of the mean
squared error over the standard deviation of the targets; that of a data set is the mean over seeds.
Times are of runs on a quiet machine alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import mean, median
from typing import Any

import numpy as np
from scipy.stats import rankdata, wilcoxon

Line = dict[str, Any]

OWN = "fastnn"
WITHOUT = "fastnn without "


class Results:
    """Means over seeds, by peer and data set."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.failures: list[Line] = []
        self.lines: dict[tuple[str, str, int, bool], Line] = {}
        for line in lines:
            if "failure" in line:
                self.failures.append(line)
            else:
                key = line["peer"], line["data_set"], line["seed"], line["timed"]
                self.lines[key] = line
        self.tasks = {line["data_set"]: line["task"] for line in self.lines.values()}
        self.peers = list(dict.fromkeys(line["peer"] for line in self.lines.values()))

    def values(self, peer: str, data_set: str, name: str, timed: bool = False) -> list[float]:
        """The number of that name by seed; of timed runs alone, or of these before others."""
        found: dict[int, float] = {}
        for (one, where, seed, was_timed), line in self.lines.items():
            fits = (one, where) == (peer, data_set) and was_timed >= timed and name in line
            if fits and (was_timed or seed not in found):
                found[seed] = line[name]
        return [found[seed] for seed in sorted(found)]

    def mean(self, peer: str, data_set: str, name: str = "error", timed: bool = False) -> float:
        return mean(self.values(peer, data_set, name, timed))

    def seeds(self, peer: str, data_set: str) -> set[int]:
        return {key[2] for key in self.lines if key[:2] == (peer, data_set)}

    def common(self, peers: Iterable[str]) -> list[str]:
        """The data sets that all of these have, with the same seeds."""

        def same(data_set: str) -> bool:
            seeds = [self.seeds(peer, data_set) for peer in peers]
            return bool(seeds[0]) and all(one == seeds[0] for one in seeds)

        return [data_set for data_set in self.tasks if same(data_set)]

    def timed(self, peer: str, data_sets: list[str], name: str = "fit_seconds") -> list[float]:
        """A mean for each data set, or nothing if one was not timed."""
        times = [self.values(peer, data_set, name, timed=True) for data_set in data_sets]
        return [mean(one) for one in times] if times and all(times) else []


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def relative(own: float, other: float) -> float:
    """How much worse, in units of the mean of the two: 0 for equal ones, also for two zeros."""
    return 2 * (own - other) / (own + other) if own != other else 0.0


def groups(results: Results) -> list[tuple[list[str], list[str]]]:
    """The peers that ran most data sets, with these; then each that ran fewer beside those, with
    its own data sets."""
    peers = [peer for peer in results.peers if not peer.startswith(WITHOUT)]
    wide = {peer: results.common([peer]) for peer in peers}
    most = max(map(len, wide.values()), default=0)
    full = [peer for peer in peers if len(wide[peer]) == most]
    found = [(full, results.common(full))]
    for peer in peers:
        if peer not in full:
            together = [*full, peer]
            found.append((together, results.common(together)))
    return [(peers, data_sets) for peers, data_sets in found if data_sets]


def ranks(results: Results, peers: list[str], data_sets: list[str]) -> dict[str, float]:
    """The mean rank by error; equal errors share theirs. Of fastnn's variants only the first stands
    beside the other peers, and each of the others in its place."""
    own = [peer for peer in peers if peer.startswith(OWN)]
    others = [peer for peer in peers if peer not in own]
    found: dict[str, float] = {}
    for variant in own or [None]:
        ranked = others if variant is None else [*others, variant]
        errors = np.array([[results.mean(peer, one) for peer in ranked] for one in data_sets])
        means = rankdata(errors, axis=1).mean(axis=0)
        found = dict(zip(ranked, means, strict=True)) | found
    return found


def front(results: Results, peers: list[str], data_sets: list[str]) -> dict[str, int]:
    """On how many data sets nobody is both as accurate and faster, or as fast and more accurate."""
    times = {peer: results.timed(peer, data_sets) for peer in peers}
    timed = [peer for peer in peers if times[peer]]
    count = dict.fromkeys(timed, 0)
    for place, data_set in enumerate(data_sets):
        points = {peer: (results.mean(peer, data_set), times[peer][place]) for peer in timed}
        for peer, (error, seconds) in points.items():
            beaten = any(
                e <= error and s <= seconds for e, s in points.values() if (e, s) != points[peer]
            )
            count[peer] += not beaten
    return count


def peers_table(results: Results, peers: list[str], data_sets: list[str]) -> str:
    classes = [one for one in data_sets if results.tasks[one] != "regression"]
    values = [one for one in data_sets if results.tasks[one] == "regression"]
    rank, on_front = ranks(results, peers, data_sets), front(results, peers, data_sets)

    def over(peer: str, which: list[str], name: str, scale: float, digits: int) -> str:
        if not which:
            return "-"
        return f"{scale * mean(results.mean(peer, one, name) for one in which):.{digits}f}"

    def times(peer: str) -> list[str]:
        fits = results.timed(peer, data_sets)
        if not fits:
            return ["-"] * 5
        many = results.timed(peer, data_sets, "predict_seconds")
        row = results.timed(peer, data_sets, "row_seconds")
        return [
            number(sum(fits)),
            number(median(fits)),
            number(1e3 * median(many)),
            number(1e3 * median(row)),
            f"{on_front[peer]}",
        ]

    head = ["", "mean rank", "error, %", "log loss", "AUC", "nRMSE"]
    head += ["fit, all, s", "median, s", "1000 rows, ms", "one row, ms", "on the front"]
    rows = [
        [
            peer,
            f"{rank[peer]:.2f}",
            over(peer, classes, "error", 100, 2),
            over(peer, classes, "log_loss", 1, 4),
            over(peer, classes, "auc", 1, 4),
            over(peer, values, "error", 1, 4),
            *times(peer),
        ]
        for peer in sorted(peers, key=rank.__getitem__)
    ]
    return table(head, rows)


def paired(results: Results, own: str, other: str, data_sets: list[str]) -> list[str]:
    """Cells: on how many data sets better, equal and worse, the mean difference, the test's p."""
    pairs = [(results.mean(own, one), results.mean(other, one)) for one in data_sets]
    differences = [relative(*pair) for pair in pairs]
    p = wilcoxon(differences).pvalue if any(differences) else 1.0
    counts = [sum(d < 0 for d in differences), sum(d == 0 for d in differences)]
    better, equal = counts
    worse = len(differences) - better - equal
    return [f"{better} / {equal} / {worse}", f"{mean(differences):+.1%}", f"{p:.2g}"]


def ratios(results: Results, own: str, other: str, data_sets: list[str]) -> list[str]:
    """Cells: the other's time of fit divided by one's own, median and least."""
    times = results.timed(own, data_sets), results.timed(other, data_sets)
    if not all(times):
        return ["-", "-"]
    found = [theirs / mine for mine, theirs in zip(*times, strict=True)]
    return [number(median(found)), number(min(found))]


def paired_table(results: Results, own: str, others: list[str]) -> str:
    """One peer beside others, each on the data sets that both have."""
    rows = []
    for other in others:
        data_sets = results.common([own, other])
        if data_sets:
            cells = paired(results, own, other, data_sets)
            rows.append(
                [other, f"{len(data_sets)}", *cells, *ratios(results, own, other, data_sets)]
            )
    head = [f"{own} beside", "data sets", "better / equal / worse", "difference", "p"]
    return table([*head, "times the fit, median", "least"], rows)


def losses(results: Results, own: str, peers: list[str], data_sets: list[str]) -> str:
    """The data sets on which one peer's error is above the best one's by a twentieth or more."""

    def row(data_set: str) -> tuple[float, list[str]]:
        others = [peer for peer in peers if not peer.startswith(OWN)]
        errors = {peer: results.mean(peer, data_set) for peer in others}
        best = min(errors, key=errors.__getitem__)
        mine, behind = (
            results.mean(own, data_set),
            relative(results.mean(own, data_set), errors[best]),
        )
        return behind, [data_set, f"{mine:.4f}", f"{errors[best]:.4f}", best, f"{behind:+.1%}"]

    found = sorted((row(one) for one in data_sets), reverse=True)
    rows = [cells for behind, cells in found if behind >= 0.05]
    return table(["", own, "best other", "of", "behind"], rows) if rows else "None."


def each_table(results: Results, peers: list[str], data_sets: list[str]) -> str:
    """Every data set's error, and the seconds of its fit where they were measured."""

    def cell(peer: str, data_set: str, best: float) -> str:
        error = results.mean(peer, data_set)
        text = f"**{error:.4f}**" if error == best else f"{error:.4f}"
        seconds = results.values(peer, data_set, "fit_seconds", timed=True)
        return f"{text} ({number(mean(seconds))} s)" if seconds else text

    rows = []
    for one in data_sets:
        best = min(results.mean(peer, one) for peer in peers)
        rows.append([one, *(cell(peer, one, best) for peer in peers)])
    return table(["", *peers], rows)


def ablation(results: Results) -> str:
    """What each part of the recipe is worth: the error without it, beside the whole."""
    rows = []
    for peer in results.peers:
        if peer.startswith(WITHOUT):
            data_sets = results.common([OWN, peer])
            cells = [peer.removeprefix(WITHOUT), f"{len(data_sets)}"]
            kinds: list[Callable[[str], bool]] = [
                lambda task: task != "regression",
                lambda task: task == "regression",
            ]
            for kind in kinds:
                chosen = [one for one in data_sets if kind(results.tasks[one])]
                cells += paired(results, peer, OWN, chosen) if chosen else ["-"] * 3
            rows.append(cells)
    head = ["without", "data sets"]
    for kind in ("classes", "regression"):
        head += [f"{kind}: better / equal / worse", "difference", "p"]
    return table(head, rows)


def report(lines: list[Line]) -> str:
    """All tables, as Markdown."""
    results, parts = Results(lines), []
    own = [peer for peer in results.peers if peer.startswith(OWN) and not peer.startswith(WITHOUT)]
    for place, (peers, data_sets) in enumerate(groups(results)):
        seeds = len(results.seeds(peers[0], data_sets[0]))
        title = f"{len(data_sets)} data sets, {seeds} seed{'s' * (seeds > 1)}"
        title += f", those of {peers[-1]}" if place else ""
        parts += [f"### {title}", peers_table(results, peers, data_sets)]
        if not place:
            others = [peer for peer in results.peers if not peer.startswith(OWN)]
            parts += [paired_table(results, peer, others) for peer in own]
            for peer in own if len(peers) > len(own) else []:
                parts += [f"### Where {peer} loses", losses(results, peer, peers, data_sets)]
            parts += ["### Each data set", each_table(results, peers, data_sets)]
    if any(peer.startswith(WITHOUT) for peer in results.peers):
        parts += ["### The parts of the recipe", ablation(results)]
    for line in results.failures:
        parts.append(f"{line['peer']} failed on {line['data_set']}: {line['failure']}")
    versions = {k: v for line in lines for k, v in line["versions"].items()}
    parts.append("Versions: " + ", ".join(f"{name} {one}" for name, one in versions.items()) + ".")
    return "\n\n".join(parts)
