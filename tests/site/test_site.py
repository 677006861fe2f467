"""The built site: its links lead somewhere, it loads nothing from elsewhere, all names are in it.

Left out where there is no built site; CONTRIBUTING.md has the command that builds it.
"""

import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

import public_names
from paths import ROOT

SITE = ROOT / "build/site"
pytestmark = pytest.mark.skipif(
    not (SITE / "index.html").is_file(), reason="no site in build/site: CONTRIBUTING.md builds it"
)


class Page(HTMLParser):
    """What a page links, what it loads, and which anchors it has."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        for key in "href", "src", "srcset", "data", "poster":
            if attributes.get(key):
                kept = self.links if (tag, key) == ("a", "href") else self.loads
                kept.append(attributes[key])


@pytest.fixture(scope="module")
def site():
    return {
        path.relative_to(SITE).as_posix(): Page(path.read_text(encoding="utf-8"))
        for path in SITE.rglob("*.html")
    }


def test_every_link_leads_to_a_page_and_an_anchor(site):
    lost, followed = [], 0
    for name, page in site.items():
        for link in page.links + page.loads:
            address = urlsplit(link)
            if address.scheme in ("http", "https", "mailto", "data"):
                continue
            target = (SITE / name).parent / unquote(address.path) if address.path else SITE / name
            found = target.resolve()
            inside = found.is_relative_to(SITE.resolve()) and found.is_file()
            if inside and address.fragment and found.suffix == ".html":
                other = site[found.relative_to(SITE.resolve()).as_posix()]
                inside = unquote(address.fragment) in other.anchors
            followed += 1
            if not inside:
                lost.append(f"{name}: {link}")
    assert followed > 1000 and lost == []


def test_nothing_is_loaded_from_elsewhere(site):
    foreign = re.compile(r"^(https?:)?//")
    assert [load for page in site.values() for load in page.loads if foreign.match(load)] == []
    calls = re.compile(
        r"""(?:@import|url\(|fetch\(|\.open\(|src\s*=)\s*["']?(?:https?:)?//[^)"']*"""
    )
    files = [path for kind in ("css", "js") for path in SITE.rglob(f"*.{kind}")]
    assert len(files) > 5
    for path in files:
        assert calls.findall(path.read_text(encoding="utf-8")) == [], path


def test_the_reference_has_every_public_name(site):
    anchors = set().union(
        *(page.anchors for name, page in site.items() if name.startswith("reference/"))
    )
    pages = (ROOT / "docs/reference").glob("*.md")
    names = [name for page in pages for name in public_names.listed(page.read_text("utf-8"))]
    classes = [name for name in names if isinstance(public_names.resolve(name), type)]
    names += [
        f"{of}.{name}" for of in classes for name in public_names.members(public_names.resolve(of))
    ]
    assert len(names) > 200 and set(names) - anchors - modules(anchors) == set()


def modules(anchors):
    return {anchor.removeprefix("module-") for anchor in anchors if anchor.startswith("module-")}


def test_chinese_terms_are_words_of_the_search():
    text = (SITE / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    guide = "".join(page.read_text("utf-8") for page in (ROOT / "docs/guide").glob("*.md"))
    terms = set(re.findall(r"\(([\u4e00-\u9fff]+)\)", guide))
    assert len(terms) > 5 and terms - index["terms"].keys() - index["titleterms"].keys() == set()
