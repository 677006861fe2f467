"""Runs the Python blocks of a page, in order and in one namespace, as its reader does.

The pages are Markdown.  What a block prints is compared with the ```text block that follows it at
once, so that every number there is computed again wherever the page is run; without such a block
it is printed.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

_FENCE = re.compile(r"^```([^`\n]*)\n(.*?)^```\n?", re.DOTALL | re.MULTILINE)
_PICTURE = re.compile(r"^!\[[^\]]*\]\(([\w-]+\.(?:svg|png))\)", re.MULTILINE)


class Block(NamedTuple):
    """A Python block: what it is, on which line it begins, and what it is said to print."""

    code: str
    line: int
    printed: str | None = None


class Mismatch(AssertionError):
    """A block prints something else than its page says."""


def blocks(text: str) -> list[Block]:
    """The Python blocks of a page."""
    found: list[Block] = []
    end = -1  # of the last Python block
    for fence in _FENCE.finditer(text):
        language, code = fence.groups()
        if language == "python":
            found.append(Block(code, text.count("\n", 0, fence.start()) + 2))
            end = fence.end()
        elif language == "text" and end >= 0 and not text[end : fence.start()].strip():
            found[-1] = found[-1]._replace(printed=code)
    return found


def pictures(text: str) -> list[str]:
    """The files of the pictures that a page shows and its blocks save."""
    return _PICTURE.findall(text)


def run(page: Path, chosen: Iterable[Block], folder: Path, **given: Any) -> dict[str, Any]:
    """The namespace after these blocks of a page, run in a folder; raises `Mismatch`."""
    namespace = {"__name__": "page", **given}
    with _within(folder):
        for block in chosen:
            lines = "\n" * (block.line - 1)  # a traceback names the page's own line
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(lines + block.code, str(page), "exec"), namespace)
            if block.printed is None:
                print(printed.getvalue(), end="")
            elif _tidy(printed.getvalue()) != _tidy(block.printed):
                raise Mismatch(
                    f"{page}, line {block.line}: the page says\n{block.printed}"
                    f"and the block prints\n{printed.getvalue()}"
                )
    return namespace


def _tidy(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").splitlines()]


@contextlib.contextmanager
def _within(folder: Path) -> Iterator[None]:
    before = Path.cwd()  # contextlib.chdir is of Python 3.11
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
