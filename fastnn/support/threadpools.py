"""How threadpoolctl sees and limits fastnn's threads, beside those of NumPy, OpenMP and others.

Nothing here imports threadpoolctl: fastnn registers with it when the program has it, or later, as
soon as the program imports it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

import fastnn._kernels as _kernels
from fastnn._version import __version__

NAME = "threadpoolctl"


def register() -> None:
    """Register with threadpoolctl, now or when it is imported."""
    if NAME in sys.modules:
        _register_with(sys.modules[NAME])
    elif not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())


class _Watch:
    """Finds no module, but lets fastnn register after the import of threadpoolctl.  (No subclass of
    importlib.abc's finder, whose import would take 4 ms.)"""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != NAME:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _register_with(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _register_with(threadpoolctl: ModuleType) -> None:
    """Make fastnn's controller known; versions before 3.2 cannot be told."""
    if not hasattr(threadpoolctl, "register"):
        return

    class FastnnController(threadpoolctl.LibController):  # type: ignore[misc, name-defined]
        """The threads that the calling thread's kernels may use."""

        user_api = internal_api = "fastnn"
        filename_prefixes = ("_kernels",)
        check_symbols = ("fnn_threads",)  # other packages have modules of that name

        def get_num_threads(self) -> int:
            return _kernels.get_threads()

        def set_num_threads(self, num_threads: int) -> None:
            """As `fastnn.threads` does: for the calling thread, so that threads that set and
            restore limits by turns do not restore one another's."""
            _kernels.override_threads(0)
            if num_threads != _kernels.get_threads():
                _kernels.override_threads(max(1, min(num_threads, _kernels.MAX_THREADS)))

        def get_version(self) -> str:
            return __version__

        def set_additional_attributes(self) -> None:
            self.runtime = _kernels.get_runtime()

    threadpoolctl.register(FastnnController)
