"""Packages that tests use where they are installed."""

import warnings

import pytest


def import_quietly(name):
    """The module; the test is skipped without it, and what it warns of at import is not heard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed")
