"""How many threads the kernels use, and which instruction set: the functions that set it, and the
defaults, which are read once from the environment and the machine.

No thread is started here: csrc/team.c does that at the first kernel that is worth it; who brings
them stands in runtimes.py."""

from __future__ import annotations

import math
import os
import sys
import warnings
from typing import Any

import numpy as np

import fastnn._kernels as _kernels
from fastnn._version import __version__
from fastnn.support import checks, runtimes, threadpools
from fastnn.support.overrides import Override


def set_num_threads(n: int) -> None:
    """Let the kernels of this process use `n` threads, 1 to 256; the results' bits do not change.

    Raises TypeError if `n` is no integer, ValueError if it is out of range.

    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    _kernels.set_threads(checks.whole(n, "n", 1, _kernels.MAX_THREADS))


def get_num_threads() -> int:
    """How many threads a kernel that the calling thread runs may use.

    Threads of this process, and processes forked from it, that work at the same time share them:
    each then uses fewer.

    >>> get_num_threads() >= 1
    True
    """
    return _kernels.get_threads()


class threads(Override):
    """``with threads(n):`` the kernels that the calling thread runs use `n` threads.

    Other Python threads are not affected; blocks nest.  Raises as `set_num_threads` does.

    >>> with threads(1):
    ...     get_num_threads()
    1
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = checks.whole(n, "n", 1, _kernels.MAX_THREADS)

    def _override(self) -> int:
        return _kernels.override_threads(self.n)

    def _restore(self, before: int) -> None:
        _kernels.override_threads(before)


def build_info() -> dict[str, Any]:
    """What this copy of fastnn is and how it runs: a dict for bug reports.

    The versions ``version``, ``numpy`` and ``python``; ``isa``, the instruction set in use,
    ``isa_available``, those of this machine, and ``isa_compiled``, those in the package, lowest
    first; ``bfloat16``, whether `isa` has an instruction for products of bfloat16 here (see
    `Sequential`); ``threads``, the count for the calling thread; ``runtime``, where it takes them
    from, ``runtimes``, those in the package, and ``openmp``, the OpenMP library once "openmp" was
    asked for, else ""; ``compiler``.

    >>> info = build_info()
    >>> info["isa"] in info["isa_available"]
    True
    """
    return {
        "version": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "numpy": np.__version__,
        "isa": _kernels.get_isa(),
        "isa_available": _kernels.isa_levels(),
        "isa_compiled": _kernels.isa_compiled(),
        "bfloat16": _kernels.has_bfloat16(),
        "threads": get_num_threads(),
        "runtime": runtimes.get_runtime(),
        "runtimes": runtimes.built(),
        "openmp": runtimes.openmp_file(),
        "compiler": _kernels.COMPILER,
    }


def _from_environment() -> int | None:
    """The count in FASTNN_NUM_THREADS or else in OMP_NUM_THREADS; None if neither is usable."""
    for name in ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").strip()
        if not text:
            continue
        # OpenMP takes a list, one count per level of nesting
        first = text.split(",")[0].strip() if name == "OMP_NUM_THREADS" else text
        if first.isascii() and first.isdigit() and 1 <= int(first[:9]) <= _kernels.MAX_THREADS:
            return int(first)
        warnings.warn(
            f"{name}: expected an integer from 1 to {_kernels.MAX_THREADS}, got {text[:40]!r}; "
            "it is ignored",
            RuntimeWarning,
            stacklevel=2,
        )
    return None


def _cpu_quota(root: str = "/") -> float:
    """How many CPUs' time the process's control group may use (Linux, v2 or v1), or infinity.

    A group's limit also binds the groups below it, so the least limit on the way up counts."""
    quota = math.inf
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder = os.path.join(root, "sys/fs/cgroup", "cpu" if controllers else "")
        # Inside a container the path may be the host's: groups that do not exist have no limit.
        names = [name for name in path.split("/") if name]
        for depth in range(len(names), -1, -1):
            group = os.path.join(folder, *names[:depth])
            quota = min(quota, _quota_of(group, bool(controllers)))
    return quota


def _quota_of(group: str, is_v1: bool) -> float:
    """The limit of one control group alone, in CPUs, or infinity."""
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if is_v1 else ("cpu.max",)
    try:
        allowed, period = " ".join(_read(os.path.join(group, name)) for name in names).split()
        return int(allowed) / int(period) if int(allowed) > 0 else math.inf
    except (ValueError, ZeroDivisionError):  # no such file, or "max"
        return math.inf


def _read(path: str) -> str:
    """The file's text, or "" if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _from_machine() -> int:
    """How many CPUs this process may use by its affinity and its quota, which is rounded up."""
    cpus = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        cpus = len(os.sched_getaffinity(0))
    quota = _cpu_quota()
    if quota < cpus:
        cpus = math.ceil(quota)
    return max(1, min(cpus, _kernels.MAX_THREADS))


def _set_isa() -> None:
    """Lower the instruction set to the one in FASTNN_ISA."""
    wanted = os.environ.get("FASTNN_ISA", "").strip().lower()
    levels = _kernels.isa_levels()
    if wanted in levels:
        _kernels.set_isa(wanted)
    elif wanted:
        warnings.warn(
            f"FASTNN_ISA: expected one of {', '.join(levels)}, got {wanted[:40]!r}; "
            f"{_kernels.get_isa()} is used",
            RuntimeWarning,
            stacklevel=2,
        )


def set_defaults() -> None:
    """Set threads, their runtime and the instruction set by environment and machine; `import
    fastnn` does it once."""
    _set_isa()
    threads = _from_environment() or _from_machine()  # before OpenMP binds this thread to one CPU
    runtimes.set_default()
    threadpools.register()
    _kernels.set_threads(threads)
