"""The proofs of kernels in proofs/ run, on a few numbers and shapes, and find what is wrong."""

import shutil
import subprocess
import sys
from itertools import islice

import pytest

import compiled
import functions
from paths import ROOT

needs_compiler = pytest.mark.skipif(
    shutil.which(compiled.COMPILER[0]) is None, reason="no C compiler"
)


@pytest.fixture(scope="module")
def judge():
    try:
        return functions.Judge(32)
    except SystemExit as error:
        if "mpfr" in str(error):
            pytest.skip("no MPFR")
        raise


@needs_compiler
def test_functions_are_within_their_bounds_and_a_wrong_bound_is_found(judge, monkeypatch):
    worst = {}
    for x in islice(functions.float32_blocks(1500), 20):
        judge.errors(x, worst)
    assert list(functions.report(judge, worst)) == []
    assert list(judge.special()) == []
    x = next(functions.float32_blocks(1))[:100]
    assert list(functions.judged_by_mpfr(judge, x)) == []
    monkeypatch.setitem(functions.ZONES, "exp", [(functions.INF, 0.1, 0.1)])
    monkeypatch.setitem(functions.AT_INFINITY, "tanh", (1, 1))
    isas = len(compiled.ISAS)
    assert [fault.split()[0] for fault in functions.report(judge, worst)] == ["exp"] * isas
    assert [fault.split()[0] for fault in judge.special()] == ["tanh"] * isas


@needs_compiler
def test_guard_pages_around_every_array():
    command = [sys.executable, str(ROOT / "proofs/guard_pages.py"), "--quick"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("no fault\n")
