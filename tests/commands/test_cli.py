"""The command line."""

import os
import re
import subprocess
import sys

import pytest

import fastnn
from fastnn.commands import cli
from paths import PACKAGE


def test_demo(capsys):
    assert cli.main(["demo", "--epochs", "3", "--seed", "1"]) == 0
    out, err = capsys.readouterr()
    accuracy = re.search(r"accuracy +(\d+\.\d)%", out)
    assert accuracy and float(accuracy[1]) > 85
    for word in (
        "CC BY 4.0",
        "samples per second",
        "Dense(64",
        "parameters",
        "Adam(learning_rate=0.005)",
        "SoftmaxCrossEntropy(label_smoothing=0.1)",
        "3 epochs in batches of 32, seed 1",
    ):
        assert word in out  # fmt: skip
    assert "epoch 3/3" in err and "loss" in err


def test_info(capsys):
    assert cli.main(["info"]) == 0
    out, err = capsys.readouterr()
    assert fastnn.__version__ in out and fastnn.build_info()["isa"] in out and err == ""


@pytest.mark.parametrize("arguments", [
    [], ["demo", "--epochs", "0"], ["demo", "--seed", "-1"], ["demo", "--epochs", "many"],
    ["dance"], ["demo", "--rate", "1"],
])  # fmt: skip
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert "usage: fastnn" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["info", "demo"])
def test_a_closed_pipe_ends_it_quietly(command):
    """As `| head -1` does, but surely before anything is printed."""
    read, write = os.pipe()
    os.close(read)
    options = ["--epochs", "1"] if command == "demo" else []
    result = subprocess.run(
        [sys.executable, "-m", "fastnn", command, *options], stdout=write, stderr=subprocess.PIPE,
        text=True, timeout=60, cwd=PACKAGE.parent,
    )  # fmt: skip
    os.close(write)
    assert result.returncode == 141 and result.stderr == ""


def test_run_as_a_module():
    result = subprocess.run(
        [sys.executable, "-m", "fastnn", "--version"], text=True, capture_output=True, timeout=60,
        cwd=PACKAGE.parent,
    )  # fmt: skip
    assert result.returncode == 0 and fastnn.__version__ in result.stdout
