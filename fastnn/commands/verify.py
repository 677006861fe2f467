"""``fastnn verify``: does this machine compute the bits that fastnn computes everywhere?

The published hashes are in hashes.json.  They change only by a decision: after a change of bits
``fastnn verify --hashes`` prints the new file, and CHANGELOG.md names the change."""

from __future__ import annotations

import json
import platform
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

import fastnn._kernels as _kernels
from fastnn._version import __version__
from fastnn.commands import trainings
from fastnn.support import runtimes
from fastnn.support.threads import threads

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator

    Hashes = dict[str, dict[str, str]]  # kind -> training and dtype, or what is drawn -> hashes

THREADS = 1, 2, 3, 7
_FMA, _PORTABLE, _NUMPY = "fma", "portable", "numpy"


def verify(options: Namespace) -> int:
    """Compare with the published hashes, or print this machine's."""
    if options.hashes:
        print(text(computed()), end="")
        return 0
    print(
        f"fastnn {__version__}, NumPy {np.__version__}, {platform.machine()}: "
        f"{len(trainings.TRAININGS)} trainings in {' and '.join(trainings.DTYPES)}, "
        f"on {', '.join(map(str, THREADS))} threads"
    )
    wanted, differences, here = published(), [], _runtimes()
    for isa in reversed(_kernels.isa_levels()):
        for runtime in here:
            found = difference(isa, runtime, wanted)
            _say(f"{isa}, threads: {runtime}", found)
            differences.append(found)
    found = _parting(drawn().items(), wanted[_NUMPY])
    _say("what NumPy draws and computes", found)
    if any(differences):
        print("Not the same bits: compiled code differs from that of other machines.")
    elif found:
        print(f"The same bits as everywhere, but not from a seed: NumPy {np.__version__} differs.")
    else:
        print("The same bits as everywhere.")
    return int(bool(found) or any(differences))


def _runtimes() -> list[str]:
    """The runtimes of this build whose library is on this machine."""
    found = []
    for name in runtimes.built():
        try:
            runtimes.runtime(name)
            found.append(name)
        except RuntimeError:
            print(f"  threads: {name:<21} left out: its library is not on this machine")
    return found


def _say(what: str, difference: str) -> None:
    print(f"  {what:<30} {'differs: ' + difference if difference else 'the same'}", flush=True)


def published() -> Hashes:
    """The hashes that hold on every machine."""
    found: Hashes = json.loads(files(__package__).joinpath("hashes.json").read_text("utf-8"))
    return found


def text(hashes: Hashes) -> str:
    """The hashes as the file has them."""
    return json.dumps(hashes, indent=0) + "\n"


def computed() -> Hashes:
    """This machine's hashes, from its best instruction set and portable code.

    Raises ValueError where there is no instruction set with fused multiply-adds."""
    best = _kernels.isa_levels()[-1]
    if best == _PORTABLE:
        raise ValueError("hashes: this machine has no instruction set with fused multiply-adds")
    return {
        _FMA: dict(_trained(best, "own", 1)),
        _PORTABLE: dict(_trained(_PORTABLE, "own", 1)),
        _NUMPY: drawn(),
    }


def drawn() -> dict[str, str]:
    """The hashes of what NumPy draws and computes."""
    return {name: trainings.digest(*make()) for name, make in trainings.DRAWN.items()}


def difference(isa: str, runtime: str, wanted: Hashes) -> str:
    """Where the first training parts from the published hashes, or "" if none does."""
    kind = _PORTABLE if isa == _PORTABLE else _FMA
    for n in THREADS:
        found = _parting(_trained(isa, runtime, n), wanted[kind])
        if found:
            return f"{found}, on {n} thread{'s' * (n > 1)}"
    return ""


def _trained(isa: str, runtime: str, n: int) -> Iterator[tuple[str, str]]:
    """Each training with its hashes."""
    before = _kernels.get_isa()
    for name, training in trainings.TRAININGS.items():
        for dtype in training.dtypes:
            woken = _kernels.set_wake_work(0)  # little work, too, is for all threads
            _kernels.set_isa(isa)
            try:
                with threads(n), runtimes.runtime(runtime):
                    hashes = trainings.hashes(training, dtype)
            finally:
                _kernels.set_isa(before)
                _kernels.set_wake_work(woken)
            yield f"{name}, {dtype}", " ".join(hashes[part] for part in trainings.PARTS)


def _parting(found: Iterable[tuple[str, str]], wanted: dict[str, str]) -> str:
    """The first place where hashes are not as published, or ""."""
    for name, hashes in found:
        its, other = hashes.split(), wanted.get(name, "").split()
        if its == other:
            continue
        if len(its) != len(trainings.PARTS) or len(other) != len(its):
            return name
        part = next(part for part, a, b in zip(trainings.PARTS, its, other, strict=True) if a != b)
        return f"{name}, first in: {part}"
    return ""
