"""Where Python meets the sources before the installed package: the latter is taken.

That is so in a clone after ``pip install .``: the folder ``fastnn`` stands where Python starts, and
holds no extension."""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec


def use_installed(sources: str) -> bool:
    """Put the installed package in the place of the one in this folder, if that is not built.

    Raises ImportError where none is installed."""
    if find_spec("fastnn._kernels") is not None:
        return False
    parent = os.path.realpath(os.path.dirname(sources))
    elsewhere = [entry for entry in sys.path if os.path.realpath(entry or ".") != parent]
    spec = PathFinder.find_spec("fastnn", elsewhere)
    if spec is None or spec.loader is None:
        raise ImportError(
            f"fastnn is not installed, and {sources} holds its sources, not yet built: run "
            "`pip install .` beside that folder"
        )
    for name in [name for name in sys.modules if name.startswith("fastnn.")]:
        del sys.modules[name]
    module = sys.modules["fastnn"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return True
