"""What fit shows while it trains: lines, or a bar on a terminal."""

import io
import sys

import numpy as np
import pytest

import fastnn
from fastnn import Dense, Sequential, SoftmaxCrossEntropy

X = np.random.default_rng(0).standard_normal((50, 6))
Y = (X[:, 0] > X[:, 1]).astype(int) + (X[:, 2] > 1)
EPOCHS = 3


def fit(**options):
    return Sequential(Dense(6, 3), seed=1).fit(
        X, Y, loss=SoftmaxCrossEntropy(), optimizer=fastnn.Adam(0.01), epochs=EPOCHS,
        batch_size=16, **options,
    )  # fmt: skip


def test_progress_goes_to_stderr_as_lines_or_not_at_all(capsys):
    fit(progress=True, validation_data=(X, Y))
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == EPOCHS
    assert all(word in err for word in ("epoch 3/3", "loss", "accuracy", "validation_loss"))
    fit(progress=False)
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_a_terminal(tqdm, monkeypatch):
    """What a bar is drawn on.  No fixture: pytest takes sys.stderr back after these."""
    if tqdm:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


@pytest.mark.parametrize("tqdm", [True, False])
def test_progress_on_a_terminal(tqdm, monkeypatch):
    terminal = on_a_terminal(tqdm, monkeypatch)
    fit(progress=True)
    text = terminal.getvalue()
    assert "epoch 3/3" in text and "loss" in text and "\r" in text and text.endswith("\n")


@pytest.mark.parametrize("tqdm", [True, False])
def test_the_last_frame_shows_the_loss_of_the_history(tqdm, monkeypatch):
    terminal = on_a_terminal(tqdm, monkeypatch)
    history = fit(progress=True)
    last = terminal.getvalue().rstrip().rpartition("\r")[2]
    assert f"loss {history.loss[-1]:.4f}" in last
    assert f"accuracy {history.accuracy[-1]:.4f}" in last
