"""A Sphinx extension: how the docstrings of fastnn read, told to Sphinx.

They are written for `help()`: single backticks mark names, an indented paragraph is a table or
code, "Shapes:" and "Raises" begin what they say.  Stars and bars are themselves.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils import unescape
from sphinx import addnodes
from sphinx.application import Sphinx

from public_names import WINGS, members, names, resolve

_MARKED = re.compile(r"(``.+?``|`.+?`)", re.DOTALL)  # what stands in backticks
_BEGINS = re.compile(r"^(Shapes:?|Raises|Returns|Source:|Licence:)(?= )", re.MULTILINE)
_ITEM = re.compile(r"\s*(-|\d+\.) ")
_SECTION = re.compile(r"^(Parameters|Raises|Examples)\n-+\n", re.MULTILINE)
_ENTRY = re.compile(r"^([\w*][\w*, ]*?)(?: : (.*))?$")


def tidy(lines: list[str]) -> list[str]:
    """The lines of a docstring as reStructuredText."""
    title, *rest = re.split(_SECTION, "\n".join(lines))
    done = _paragraphs(title)
    for heading, text in zip(rest[::2], rest[1::2], strict=True):
        entries, after = ("", text) if heading == "Examples" else _entries(text)
        done += [f"**{heading}**", *_paragraphs(entries), *_paragraphs(after)]
    return [*"\n\n".join(done).split("\n"), ""]


def _paragraphs(text: str) -> list[str]:
    text = re.sub(r"(?<=[.)])\n(?=(Raises|Shapes:|Returns) )", "\n\n", text)
    done: list[str] = []
    before = ""
    for paragraph in filter(str.strip, re.split(r"\n\s*\n", text.strip("\n"))):
        if paragraph.lstrip().startswith(">>>"):
            done.append(paragraph)
        elif paragraph.startswith("    ") and not _ITEM.match(before):
            done += ["::", paragraph]
        else:
            done.append(_escaped(paragraph))
        before = paragraph
    return done


def _entries(text: str) -> tuple[str, str]:
    """A section's entries, ``name : what`` with more below, as a list; and what comes after it."""
    lines = text.split("\n")
    items: list[str] = []
    for i, line in enumerate(lines):
        entry = _ENTRY.match(line)
        if line.startswith(" ") or not line:
            more = line.strip()
            if more[:1].isupper() and items[-1].startswith("- ") and items[-1][-1] not in ".:":
                items[-1] += "."  # a sentence of its own
            items.append(f"  {more}" if more else "")
        elif entry and (entry[2] or lines[i + 1].startswith(" ")):
            items.append(f"- ``{entry[1]}``: {entry[2] or ''}".rstrip())
        else:
            return "\n".join(items), "\n".join(lines[i:])
    return "\n".join(items), ""


def _escaped(paragraph: str) -> str:
    parts = _MARKED.split(paragraph)
    for i in range(0, len(parts), 2):  # those outside backticks
        part = re.sub(r"([\\*|])", r"\\\1", parts[i])
        parts[i] = re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", part)
    return _BEGINS.sub(r"**\1**", "".join(parts))


def _process(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    if name.startswith("fastnn"):
        lines[:] = tidy(lines)


class _Names:
    """All documented names, found out when the first is looked for."""

    def __init__(self) -> None:
        self._all: set[str] = set()

    def find(self, text: str, module: str, owner: str) -> str | None:
        """The full name of what a docstring of this module and class calls `text`."""
        if not self._all:
            for of in ("fastnn", *WINGS):
                self._all.add(of)
                for name in names(resolve(of)):
                    self._all.add(f"{of}.{name}")
                    value = getattr(resolve(of), name)
                    if isinstance(value, type):
                        self._all.update(f"{of}.{name}.{member}" for member in members(value))
            self._all -= {"fastnn", "fastnn.__version__"}
        places = [f"{module}.{owner}." if owner else "", f"{module}.", "fastnn.", ""]
        # what users call most stands in a class that docstrings do not name
        if text in ("fit", "predict", "evaluate") and module != "fastnn.sklearn":
            places.append("fastnn.Sequential.")
        candidates = [place + text for place in places]
        found = next((name for name in candidates if name in self._all), None)
        return None if found == module else found


_known = _Names()


def name_role(
    role: str, raw: str, text: str, line: int, inliner: Any, options: Any = None, content: Any = ()
) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """What stands in single backticks: code, and a link where it is a public name."""
    code = nodes.literal(raw, unescape(text), classes=["py", "py-obj"])
    context = inliner.document.settings.env.ref_context
    module, owner = context.get("py:module") or "fastnn", context.get("py:class") or ""
    full = _known.find(unescape(text), module, owner)
    if full is None:
        return [code], []
    link = addnodes.pending_xref(
        raw, code, refdomain="py", reftype="obj", reftarget=full, refexplicit=True
    )
    link["refdoc"] = inliner.document.settings.env.docname
    return [link], []


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _process)
    app.add_role("name", name_role)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
