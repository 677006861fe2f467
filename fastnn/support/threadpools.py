"""How threadpoolctl sees and limits fastnn's threads, beside those of NumPy, OpenMP and others.

Nothing here imports threadpoolctl: fastnn registers with it when the program has it, or later, as
soon as the program imports it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from threading import local
from types import ModuleType
from typing import Any

import fastnn._kernels as _kernels
from fastnn._version import __version__

NAME = "threadpoolctl"


def register() -> None:
    """Register with threadpoolctl, now if the program has it, and whenever it is imported."""
    if NAME in sys.modules:
        _register_with(sys.modules[NAME])
    if not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())


class _Watch:
    """Finds threadpoolctl as the other finders do, with a loader that lets fastnn register.  (No
    subclass of importlib.abc's finder, whose import would take 4 ms.)"""

    def __init__(self) -> None:
        self.asks = local()  # the others, whether this thread does so

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != NAME or getattr(self.asks, "others", False):
            return None
        self.asks.others = True
        try:
            spec = find_spec(name)
        finally:
            self.asks.others = False
        if spec is None or isinstance(spec.loader, _Loader):  # as in a reload
            return spec
        if hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


class _Loader:
    """Another loader, after which fastnn registers."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _register_with(module)


def _register_with(threadpoolctl: Any) -> None:
    """Make fastnn's controller known; versions before 3.2 cannot be told."""
    if not (hasattr(threadpoolctl, "register") and hasattr(threadpoolctl, "LibController")):
        return

    outermost = local()  # by thread: what the first limit has replaced, and what that came to

    class FastnnController(threadpoolctl.LibController):  # type: ignore[misc]
        """The threads that the calling thread's kernels may use."""

        user_api = internal_api = "fastnn"
        filename_prefixes = ("_kernels",)
        check_symbols = ("fnn_threads",)  # other packages have modules of that name

        def get_num_threads(self) -> int:
            return _kernels.get_threads()

        def set_num_threads(self, num_threads: int) -> None:
            """As `fastnn.threads` does: for the calling thread, so that threads that set and
            restore limits by turns do not restore one another's.  The number that held before
            the first limit is set as it was, for this thread alone or for the process."""
            held = _kernels.get_threads()
            before, outside = getattr(outermost, "limit", (0, 0))
            if num_threads == outside:
                _kernels.override_threads(before)
                del outermost.limit
            elif num_threads != held:
                set_before = _kernels.override_threads(
                    max(1, min(num_threads, _kernels.MAX_THREADS))
                )
                if not outside:
                    outermost.limit = set_before, held

        def get_version(self) -> str:
            return __version__

        def set_additional_attributes(self) -> None:
            self.runtime = _kernels.get_runtime()

    threadpoolctl.register(FastnnController)
