"""The rows of cases.py that are measured by turns, beside the peers, as pytest-benchmark's groups.

A peer times itself in its own process (race.py), so the clock that pytest-benchmark reads shows
the peer's seconds: each round moves it on by the seconds per step of one turn.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cases import TABLES, Unsupported
from race import PEERS, Race, installed

GROUPS = (
    *("product", "train", "other", "predict", "elementwise", "kernel"),
    *("cnn", "cnnpredict"),
)
now = 0.0


def clock() -> float:
    """Seconds that peers have reported."""
    return now


def advance(seconds: float) -> None:
    global now
    now += seconds


@pytest.fixture(scope="session")
def race() -> Iterator[Race]:
    with Race() as race:
        yield race


@pytest.fixture(scope="session")
def results() -> dict[tuple[str, str], dict]:
    """The results of each row's race, which runs for all peers when the first is tested."""
    return {}


def chosen_peers(items: list[pytest.Item], table: str, name: str) -> list[str]:
    """The installed peers whose tests of this row were selected."""
    selected = [item.callspec.params for item in items if hasattr(item, "callspec")]
    peers = [p["peer"] for p in selected if (p["table"], p["name"]) == (table, name)]
    return [peer for peer in peers if installed(peer)]


@pytest.mark.benchmark(timer=clock)
@pytest.mark.parametrize(
    ("table", "name", "peer"),
    [
        pytest.param(table, case.name, peer, id=f"{table}: {case.name} [{peer}]")
        for table in GROUPS
        for case in TABLES[table].cases
        for peer in TABLES[table].peers
    ],
)
def bench_row(benchmark, request, race, results, table, name, peer):
    if not installed(peer):
        pytest.skip(f"{PEERS[peer].package} is not installed")
    if (table, name) not in results:
        peers = chosen_peers(request.session.items, table, name)
        results[table, name] = race.run(table, name, peers)
    seconds = results[table, name][peer]
    if isinstance(seconds, Unsupported):
        pytest.skip(str(seconds))
    if isinstance(seconds, Exception):
        raise seconds
    benchmark.group = f"{table}: {name}"
    benchmark.name = peer
    turns = iter(seconds)
    benchmark.pedantic(advance, setup=lambda: ((next(turns),), {}), rounds=len(seconds))
