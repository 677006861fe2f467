"""A Sphinx extension: the pages of docs/ as they stand in the tree become pages of the site.

Before a page is read,
- the blocks of a page of the guide or the reference are run, and the pictures that they draw laid
  beside it, so that what the site shows was made by the page's own code;
- the pages that a section's index links, in the order of the links, become what the site's
  sidebar lists under it;
- a link to a file of the repository outside docs/ leads to a page that shows the file.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

import pages
import public_names

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
_LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\(((?:\.\./)+[^()\s#]*)(?:#[^()\s]*)?\)")
_SIBLING = re.compile(r"\]\(([\w/-]+)\.md\)")
_ITEM = re.compile(r"^- \[[^\]]*\]\(([\w-]+)\.md\).*(?:\n  .*)*", re.MULTILINE)


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    page = DOCS / f"{name}.md"
    section = name.partition("/")[0]
    text = source[0]
    if section in ("guide", "reference") and pages.blocks(text):
        _draw(page, text)
    if page.stem == "index":
        text = _with_contents(_with_names(text, page) if section == "reference" else text, page)
    text = _LINK.sub(lambda link: _to_file(app.env, page, link), text)
    source[0] = public_names.directives(text)


def _draw(page: Path, text: str) -> None:
    """Runs a page and lays the pictures that it shows beside it."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")  # the same picture, the same bytes
    with tempfile.TemporaryDirectory() as folder, matplotlib.rc_context({"svg.hashsalt": "fastnn"}):
        pages.run(page, pages.blocks(text), Path(folder))
        pyplot.close("all")
        for picture in pages.pictures(text):
            drawn = Path(folder, picture)
            if not drawn.is_file():
                raise ExtensionError(f"{page} shows {picture}, which none of its blocks saves")
            shutil.copyfile(drawn, page.parent / picture)


def _with_contents(text: str, index: Path) -> str:
    """A section's index with a table of contents from its links; the text shows them itself."""
    linked = [name for name in _SIBLING.findall(text) if (index.parent / f"{name}.md").is_file()]
    entries = "\n".join(dict.fromkeys(linked))
    return f"{text}\n\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n"


def _with_names(text: str, index: Path) -> str:
    """The reference's index, with the names of each page below its link."""

    def item(found: re.Match[str]) -> str:
        page = index.parent / f"{found[1]}.md"
        names = public_names.listed(page.read_text(encoding="utf-8"))
        links = ", ".join(f"{{py:obj}}`~{name}`" for name in names)
        return f"{found[0]}\n\n  {links}\n"

    return _ITEM.sub(item, text)


def _to_file(env: BuildEnvironment, page: Path, link: re.Match[str]) -> str:
    """A link out of docs/, as one to the page that shows the file; other links as they are."""
    target = Path(os.path.normpath(page.parent / link[2]))
    if target.is_relative_to(DOCS):
        return link[0]
    if not target.exists() or not target.is_relative_to(ROOT) or target == ROOT:
        raise ExtensionError(f"{page} links {link[2]}, which is no file of the repository")
    _shown(env).setdefault(env.docname, set()).add(target.relative_to(ROOT).as_posix())
    url = os.path.relpath(DOCS / "files" / target.relative_to(ROOT), page.parent)
    return f'<a class="reference internal" href="{Path(url).as_posix()}.html">{link[1]}</a>'


def _shown(env: BuildEnvironment) -> dict[str, set[str]]:
    """The files and folders of the repository that each page links."""
    if not hasattr(env, "fastnn_shown"):
        env.fastnn_shown = {}  # type: ignore[attr-defined]
    return env.fastnn_shown  # type: ignore[attr-defined,no-any-return]


def _purge(app: Sphinx, env: BuildEnvironment, name: str) -> None:
    _shown(env).pop(name, None)


def _merge(app: Sphinx, env: BuildEnvironment, names: set[str], other: BuildEnvironment) -> None:
    _shown(env).update({name: of for name, of in _shown(other).items() if name in names})


def _pages_of_files(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each file that is linked, and for those of a folder that is."""
    paths = {path for of in _shown(app.env).values() for path in of}
    folders = {path: _files(ROOT / path) for path in paths if (ROOT / path).is_dir()}
    for path in sorted(paths.union(*folders.values())):
        body = _listing(path, folders[path]) if path in folders else _code(ROOT / path)
        heading = f"<h1>{html.escape(path)}</h1>\n"
        yield f"files/{path}", {"title": path, "body": heading + body}, "page.html"


def _files(folder: Path) -> list[str]:
    """The files that lie in a folder, but for those that tools leave there."""
    return [
        path.relative_to(ROOT).as_posix()
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix not in {".so", ".pyc", ".png", ".npz"}
    ]


def _listing(folder: str, files: list[str]) -> str:
    items = (
        f'<li><a href="{Path(folder).name}/{Path(path).name}.html">{Path(path).name}</a></li>'
        for path in files
    )
    return f"<ul>\n{chr(10).join(items)}\n</ul>\n"


def _code(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    try:
        lexer = get_lexer_for_filename(path.name)
    except ClassNotFound:
        return f"<pre>{html.escape(text)}</pre>"
    return str(highlight(text, lexer, HtmlFormatter(cssclass="highlight")))


def setup(app: Sphinx) -> dict[str, bool | int]:
    app.connect("source-read", _read)
    app.connect("env-purge-doc", _purge)
    app.connect("env-merge-info", _merge)
    app.connect("html-collect-pages", _pages_of_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "env_version": 1}
