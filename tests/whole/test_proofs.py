"""The proofs, each a short while: that they run, and that they find a fault."""

import os
import subprocess
import sys

import numpy as np
import pytest

import drawn
import random_networks
from paths import PACKAGE, ROOT

SHORT = {
    "random_networks.py": ("--networks", "4"),
    "saves.py": ("--kills", "10"),
    "interrupts.py": ("--presses", "8"),
    "processes.py": ("--limits", "3"),
    "soak.py": ("--rounds", "1"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", SHORT)
def test_a_proof_in_short(name, tmp_path):
    result = subprocess.run(
        [sys.executable, ROOT / "proofs" / name, *SHORT[name]], text=True, capture_output=True,
        timeout=300, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def a_wrong_bit(monkeypatch):
    """Dropout trains to another last bit where it runs on seven threads."""
    right = random_networks.trained

    def wrong(its, way, isa, runtime, threads):
        found = right(its, way, isa, runtime, threads)
        if threads == 7 and any(name == "dropout" for name, *_ in its["layers"]):
            found["predictions"].view(np.uint8).ravel()[0] ^= 1
        return found

    monkeypatch.setattr(random_networks, "trained", wrong)


def test_a_wrong_bit_is_found_and_its_network_made_small(a_wrong_bit):
    its = {**drawn.draw(3), "kind": "features", "optimizer": "adam", "accumulate": 2}
    its["layers"] = [["dense", 16, 2], ["dropout", 8, 1], ["batch norm", 3, 0], ["dense", 5, 4]]
    its |= {"rows": 33, "batch_size": 16, "dtype": "float32", "loss": "squared"}
    run = ("replayed", "portable", "own", 7)
    assert random_networks.parting(its, [(*run[:3], 3)]) is None
    assert random_networks.parting(its, [run]) == (run, "predictions")
    small = random_networks.shrunk(its, run)
    assert [name for name, *_ in small["layers"]] == ["dropout"]
    assert small["optimizer"] == "sgd" and small["rows"] == small["epochs"] == 1
    assert not drawn.OPTIONS.keys() & small.keys()


def test_a_description_is_repeated_exactly():
    for seed in range(30):
        assert drawn.draw(seed) == drawn.draw(seed) != drawn.draw(seed + 1)
