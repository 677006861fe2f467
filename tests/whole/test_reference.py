"""The reference and the overview have every public name, and the front page runs.

The pages of the reference run where the site is built."""

import importlib
import re

import pytest

import fastnn
import pages
import public_names
from optional import import_quietly
from paths import ROOT

REFERENCE = {page.stem: page for page in (ROOT / "docs/reference").glob("*.md")}
NEEDS = {
    "fastnn.sklearn": "sklearn",
    "fastnn.onnx": "onnx",
    "fastnn.keras": "h5py",
    "fastnn.mpi": "mpi4py",
}


def listed(stem):
    return public_names.listed(REFERENCE[stem].read_text(encoding="utf-8"))


def listed_names():
    """Those of all pages but the ones whose modules need other libraries."""
    wings = {wing.rpartition(".")[2] for wing in NEEDS}
    return [name for stem in REFERENCE if stem not in wings for name in listed(stem)]


def test_every_public_name_is_in_the_reference_once():
    names = listed_names()
    assert len(set(names)) == len(names)
    own = {f"fastnn.{name}" for name in fastnn.__all__} - {"fastnn.__version__"}
    assert own - set(names) == set()


@pytest.mark.parametrize("wing", [wing for wing in public_names.WINGS if wing not in NEEDS])
def test_wings_are_in_the_reference(wing):
    module = importlib.import_module(wing)
    own = {f"{wing}.{name}" for name in public_names.names(module)}
    assert own and own | {wing} <= set(listed_names())


@pytest.mark.parametrize("wing, library", NEEDS.items())
def test_wings_that_need_libraries_are_in_the_reference(wing, library):
    import_quietly(library)
    names = set(listed(wing.rpartition(".")[2]))
    own = {f"{wing}.{name}" for name in importlib.import_module(wing).__all__}
    assert own and own | {wing} == names


def test_the_overview_names_every_part():
    text = (ROOT / "docs/overview.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:fastnn\.)?(\w+)", text))
    assert set(fastnn.__all__) - {"__version__"} - named == set()


def test_front_page(tmp_path):
    page = ROOT / "docs/index.md"
    blocks = pages.blocks(page.read_text(encoding="utf-8"))
    assert pages.run(page, blocks, tmp_path)["right"] > 0.9
