"""The guide's terms and their Chinese names: docs/guide/glossary.md has those of all pages."""

import re
import unicodedata

import pytest

from paths import ROOT

GLOSSARY = ROOT / "docs/guide/glossary.md"
PAGES = sorted(set(GLOSSARY.parent.glob("*.md")) - {GLOSSARY})
CHINESE = r"[\u4e00-\u9fff]"
PLURALS = [("^", ""), ("s$", ""), ("es$", ""), ("ies$", "y")]  # the first leaves words as they are


def introduced(text):
    """The terms that a page introduces, as **term** (中文), each with its Chinese name."""
    found = re.findall(rf"\*\*([^*]+)\*\*\s+\(([^),]*{CHINESE}[^),]*)", text)
    return [(" ".join(term.casefold().split()), name) for term, name in found]


def glossary():
    """The rows of its tables: (term, page, Chinese name) and (Chinese name, pinyin, term, page)."""
    text, link = GLOSSARY.read_text(encoding="utf-8"), r"\[(.+)\]\((.+)\)"
    to_chinese = re.findall(rf"^\| {link} \| (.+) \| .+ \|$", text, re.MULTILINE)
    to_english = re.findall(rf"^\| (.+) \| (.+) \| {link} \|$", text, re.MULTILINE)
    assert text.count("\n| ") == len(to_chinese) + len(to_english) + 2  # two lines of headings
    return to_chinese, to_english


def letters(word):
    """A word's letters without their tones and accents, by which words are sorted."""
    return "".join(c for c in unicodedata.normalize("NFD", word.casefold()) if c.isalnum())


def test_terms_are_found():
    text = "A **bold\nword** (粗体 1, that is\nthick), **others** (without one), **Two**\n(二)."
    assert introduced(text) == [("bold word", "粗体 1"), ("two", "二")]


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_it_has_the_terms_of(page):
    """Each in the singular, with its Chinese name and a link to the one page that introduces it."""
    text = page.read_text(encoding="utf-8")
    rows = [(term.casefold(), link, name) for term, link, name in glossary()[0]]
    for term, name in introduced(text):
        singular = [re.sub(*plural, term) for plural in PLURALS]
        assert any((each, page.name, name) in rows for each in singular), f"{term} ({name})"
    for name in re.findall(rf"{CHINESE}+", text):
        assert any(name in known for *_, known in rows), name


def test_both_ways():
    """Both tables have the same terms, in order; the page that a term's link leads to names it."""
    to_chinese, to_english = glossary()
    assert sorted(to_chinese) == sorted((term, page, name) for name, _, term, page in to_english)
    assert len({term for term, *_ in to_chinese}) == len(to_chinese) > 100
    for words in ([term for term, *_ in to_chinese], [pinyin for _, pinyin, *_ in to_english]):
        assert words == sorted(words, key=letters)
    for term, page, name in to_chinese:
        text = (GLOSSARY.parent / page).read_text(encoding="utf-8")
        assert name in text, f"{term}: {page} does not say {name}"
