"""The public names of the package, as the pages of docs/reference list them.

A page says where its names stand by blocks of its own kind, which say what is documented there:

    ```{public} fastnn            the names that follow, of that module
    Dense Dropout
    ```

    ```{public} fastnn.plot       without names: what the module says of itself, and all of it
    ```
"""

from __future__ import annotations

import importlib
import re
from types import FunctionType, ModuleType
from typing import Any

BLOCK = re.compile(r"^```\{public\} ([\w.]+)\n(.*?)^```\n?", re.DOTALL | re.MULTILINE)
_KINDS = FunctionType, property, classmethod, staticmethod
# The modules whose names are public beside those of `fastnn` itself.
WINGS = [
    *("fastnn.datasets", "fastnn.initializers", "fastnn.keras", "fastnn.metrics", "fastnn.mpi"),
    *("fastnn.onnx", "fastnn.plot", "fastnn.sklearn", "fastnn.torch"),
]


def names(module: ModuleType) -> list[str]:
    """What a module calls public."""
    return list(module.__all__)


def members(of: type) -> list[str]:
    """Documented attributes of a class that it, or a base that is not public, defines."""
    found: dict[str, Any] = {}
    for base in of.__mro__:
        inherited = base is not of and getattr(importlib.import_module("fastnn"), base.__name__, 0)
        if inherited is base:
            break  # a public class: they stand there, and what comes after it belongs to it
        if base.__module__.partition(".")[0] == "fastnn":
            for name, value in vars(base).items():
                if not name.startswith("_") and isinstance(value, _KINDS) and value.__doc__:
                    found.setdefault(name, value)
    return list(found)


def listed(text: str) -> list[str]:
    """The full names that the blocks of a page list, a module before all of its names."""
    found = []
    for module, text_of_names in BLOCK.findall(text):
        chosen = text_of_names.split()
        if not chosen:
            found.append(module)
            chosen = names(importlib.import_module(module))
        found += [f"{module}.{name}" for name in chosen]
    return found


def resolve(full: str) -> Any:
    """The object of a full name."""
    try:
        return importlib.import_module(full)
    except ImportError:
        module, _, name = full.rpartition(".")
        return getattr(importlib.import_module(module), name)


def directives(text: str) -> str:
    """A page with its blocks as Sphinx' own directives."""

    def one(full: str) -> str:
        value = resolve(full)
        if isinstance(value, ModuleType):
            return f".. automodule:: {full}\n   :no-members:\n"
        if isinstance(value, type):
            text = f".. autoclass:: {full}\n"
            for name in members(value):
                kind = "property" if isinstance(getattr(value, name), property) else "method"
                text += f"\n   .. auto{kind}:: {full}.{name}\n"
            return text
        return f".. autofunction:: {full}\n"

    def block(found: re.Match[str]) -> str:
        return "```{eval-rst}\n" + "\n".join(map(one, listed(found[0]))) + "```\n"

    return BLOCK.sub(block, text)
