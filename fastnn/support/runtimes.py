"""Where threads come from, besides the calling one: fastnn's own workers or OpenMP.

``fastnn._openmp`` is imported when it is first asked for, and with it an OpenMP library."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from typing import Any

import fastnn._kernels as _kernels
from fastnn.support.overrides import Override

RUNTIMES = ("own", "openmp")

# How long threads wait awake between parallel regions: libgomp's so many rounds (about 20 us, as
# fastnn's workers), libomp's no milliseconds.  They wait for milliseconds else, or a fifth of a
# second, and whoever runs in between has a core less.
SHORT_WAITS = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}


def set_runtime(name: str) -> None:
    """Let the kernels of this process take their threads from `name`; results keep their bits.

    "own" are fastnn's workers, which step aside for other programs; "openmp" are those of the
    OpenMP library that this build uses (`build_info`), to which ``OMP_PLACES``, ``OMP_PROC_BIND``,
    ``OMP_THREAD_LIMIT`` and ``OMP_WAIT_POLICY`` apply. How many run, `set_num_threads` says for
    both. A call from inside a parallel region of that OpenMP library runs on the calling thread
    alone. In a process that was forked after ``import fastnn`` the runtime is "own", because
    OpenMP's threads do not survive a fork. The environment variable ``FASTNN_RUNTIME`` says what
    it is at first.

    Raises TypeError if `name` is no text, ValueError if it is another one, RuntimeError for
    "openmp" where this build or this process has no OpenMP.

    >>> before = get_runtime()
    >>> set_runtime("own")
    >>> get_runtime()
    'own'
    >>> set_runtime(before)
    """
    _kernels.set_runtime(_capsule(name))


def get_runtime() -> str:
    """Where the kernels that the calling thread runs take their threads from.

    >>> get_runtime() in ("own", "openmp")
    True
    """
    return _kernels.get_runtime()


class runtime(Override):
    """``with runtime(name):`` the kernels that the calling thread runs take threads from `name`.

    Other Python threads are not affected; blocks nest.  Raises as `set_runtime` does.

    >>> with runtime("own"):
    ...     get_runtime()
    'own'
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        _capsule(name)  # raises

    def _override(self) -> object:
        return _kernels.override_runtime(_capsule(self.name))

    def _restore(self, before: object) -> None:
        _kernels.override_runtime(before)


def built() -> list[str]:
    """The runtimes that this build of fastnn has."""
    return [name for name in RUNTIMES if name == "own" or find_spec("fastnn._openmp")]


def openmp_file() -> str:
    """The name of the OpenMP library's file, if `fastnn._openmp` has been imported; else ""."""
    module = sys.modules.get("fastnn._openmp")
    return os.path.basename(module.path) if module else ""


def set_default() -> None:
    """Take the runtime in FASTNN_RUNTIME."""
    wanted = os.environ.get("FASTNN_RUNTIME", "").strip().lower()
    if not wanted:
        return
    try:
        set_runtime(wanted)
    except (ValueError, RuntimeError) as error:
        problem = str(error).replace("runtime: ", "", 1)
        warnings.warn(f"FASTNN_RUNTIME: {problem}; own is used", RuntimeWarning, stacklevel=2)


_first_import = Lock()


@contextmanager
def _short_waits() -> Iterator[None]:
    """An OpenMP library that is loaded meanwhile waits briefly, unless the environment has said how
    long.  Its variables are set no longer than that, so that child processes do not get them."""
    said = any(name in os.environ for name in (*SHORT_WAITS, "OMP_WAIT_POLICY"))
    names = [] if said else list(SHORT_WAITS)
    try:
        os.environ.update({name: SHORT_WAITS[name] for name in names})
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)


def _capsule(name: Any) -> object:
    """The runtime of that name, for the kernels."""
    if not isinstance(name, str):
        raise TypeError(f"runtime: expected 'own' or 'openmp', got {type(name).__name__}")
    if name not in RUNTIMES:
        raise ValueError(f"runtime: expected 'own' or 'openmp', got {name[:40]!r}")
    if name == "own":
        return _kernels.OWN_RUNTIME
    if _kernels.is_forked():
        raise RuntimeError(
            "runtime: OpenMP's threads do not survive a fork, and this process was forked after "
            "`import fastnn`; take 'own', or start processes by spawn"
        )
    return _openmp().runtime


def _openmp() -> Any:
    """The extension, which is imported once."""
    with _first_import:
        if loaded := sys.modules.get("fastnn._openmp"):
            return loaded
        try:
            with _short_waits():
                return import_module("fastnn._openmp")
        except ImportError as error:
            raise RuntimeError(
                "runtime: this build of fastnn has no OpenMP, because its compiler did not take "
                f"-fopenmp or the library is missing ({error}); take 'own'"
            ) from None
