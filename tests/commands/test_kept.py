"""What a training has reached is not lost, whatever comes after it; what could not be kept is
refused before it."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import fastnn
import passengers
from fastnn.commands import cli, train
from paths import PACKAGE

pd = pytest.importorskip("pandas")

QUICK = ("--target", "survived", "--epochs", "4", "--layers", "8")
MODEL = "model.safetensors"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    passengers.write("a.csv")
    return tmp_path


def run(*arguments):
    return cli.main(["train", "a.csv", *QUICK, *arguments])


def program(*arguments, **more):
    """The command in a process of its own, as shells start it."""
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)} | more.pop("env", {})
    return subprocess.run(
        [sys.executable, "-m", "fastnn", *arguments], env=environment, stderr=subprocess.PIPE,
        timeout=60, **more,
    )  # fmt: skip


@pytest.mark.parametrize("error", [ValueError("odd"), OSError(28, "No space left on device")])
def test_the_network_is_there_though_the_report_cannot_be_made(folder, capsys, monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(train.report, "show", fail)
    assert run("--quiet") == 2
    assert f"Saved {MODEL}, though the report is not whole." in capsys.readouterr().err
    fastnn.load(MODEL)


def test_letters_that_the_output_does_not_have(folder):
    result = program(
        "train", "a.csv", *QUICK, "--target", "fare", "--cv", "2",
        stdout=subprocess.PIPE, env={"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert b"  R? " in result.stdout and b" ? " in result.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"survived": "maybe"}, "targets: 'maybe' is no class of the training"),
        ({"fare": np.inf}, "X contains infinity in column 'fare'"),
    ],
)
def test_a_test_file_is_looked_at_before_training(folder, capsys, change, message):
    pd.read_csv("a.csv").assign(**change).to_csv("test.csv", index=False)
    assert run("--test", "test.csv", "--cv", "2") == 2
    out, err = capsys.readouterr()
    assert f"fastnn train: error: test.csv: {message}" in err and "epoch" not in err
    assert "Cross-validation" not in out


def test_targets_and_widths_of_a_test_file(folder, capsys):
    X, y = np.random.default_rng(0).random((40, 3)), np.linspace(0, 1, 40)
    np.savez("a.npz", X=X, y=y)
    np.savez("test.npz", X=X[:, :2], y=y)
    assert cli.main(["train", "a.npz", "--test", "test.npz", "--epochs", "2"]) == 2
    wanted = "error: test.npz: expected 3 columns, as in training, got 2"
    assert wanted in capsys.readouterr().err
    pd.DataFrame({"x": y, "y": y}).to_csv("b.csv", index=False)
    pd.DataFrame({"x": y, "y": y}).replace(1.0, np.inf).assign(x=y).to_csv("test.csv", index=False)
    assert cli.main(["train", "b.csv", "--target", "y", "--test", "test.csv"]) == 2
    wanted = "error: test.csv: targets: expected finite numbers, got infinity"
    assert wanted in capsys.readouterr().err
    assert not os.path.exists(MODEL)


@pytest.mark.parametrize("epochs_done", [0, 2])
def test_a_loss_that_becomes_nan_keeps_the_best_epoch_before(
    folder, capsys, monkeypatch, epochs_done
):
    states = []

    def poison(self, run):
        states.append(run.model.state_dict())
        if run.epoch == epochs_done:
            next(iter(run.model.parameters.values()))[...] = np.nan

    monkeypatch.setattr(train.Lines, "on_epoch_end" if epochs_done else "on_fit_begin", poison)
    assert run() == 2
    out, err = capsys.readouterr()
    if not epochs_done:
        assert "; nothing is saved" in err and not os.path.exists(MODEL)
        return
    assert "error: epoch 3, step " in err and f"; {MODEL} has the best epoch before it" in err
    best = 1 if "epoch 1 was the best" in out else 2
    saved = fastnn.load(MODEL).state_dict()
    for name, array in states[best - 1].items():
        np.testing.assert_array_equal(saved[name], array)


@pytest.mark.filterwarnings("ignore:monitor")
@pytest.mark.parametrize("interrupted", [False, True])
def test_nothing_is_saved_where_no_result_is_finite(folder, capsys, monkeypatch, interrupted):
    if interrupted:
        press = lambda self, run: signal.raise_signal(signal.SIGINT)  # noqa: E731
        monkeypatch.setattr(train.Lines, "on_epoch_end", press)
    (folder / "a.csv").write_text("x,y\n" + "\n".join(f"{i % 7},{i % 11}.5" for i in range(40)))
    wild = ("--learning-rate", "9e5", "--layers", ",".join(["64"] * 8), "--network", "dense")
    code = cli.main(["train", "a.csv", "--target", "y", *wild, "--epochs", str(1 + interrupted)])
    assert code == (130 if interrupted else 2)
    out, err = capsys.readouterr()
    assert ("Nothing is saved" if interrupted else "; nothing is saved") in out + err
    assert "was the best" not in out and not os.path.exists(MODEL)


@pytest.mark.filterwarnings("ignore:monitor")
def test_cross_validation_that_fails_says_so(folder, capsys):
    (folder / "a.csv").write_text("x,y\n" + "\n".join(f"{i % 7},{i % 11}.5" for i in range(40)))
    wild = ("--learning-rate", "9e5", "--layers", ",".join(["64"] * 8), "--network", "dense")
    assert cli.main(["train", "a.csv", "--target", "y", *wild, "--epochs", "9", "--cv", "2"]) == 2
    err = capsys.readouterr().err
    assert "error: cross-validation: epoch " in err and err.endswith("; nothing is saved\n")


def make(name):
    """Something that no file can be written to."""
    if name == "pipe":
        os.mkfifo(name)
    elif name == "dangling":
        os.symlink("nowhere/file", name)
    elif name == "loop":
        os.symlink("loop", name)
    elif name == "closed/a":
        os.mkdir("closed", 0o500)
    elif name == "mine":
        (open(name, "w").close(), os.chmod(name, 0o400))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "expected the name of a file, got ''"),
        ("pipe", "pipe: is there, and no regular file"),
        ("/dev/null", "/dev/null: is there, and no regular file"),
        ("dangling", "dangling: No such file or directory"),
        ("loop", "loop: Too many levels of symbolic links"),
        ("closed/a", "closed/a: Permission denied"),
        ("mine", "mine: Permission denied"),
        ("n" * 300, "n: File name too long"),
    ],
)
def test_where_nothing_can_be_written_is_said_before_training(
    folder, capsys, monkeypatch, name, message
):
    if message.endswith("denied") and os.geteuid() == 0:
        pytest.skip("nothing is denied to root")
    make(name)
    monkeypatch.setattr(train.reading, "read", None)
    assert run("-o", name, "--force") == 2
    assert f"{message}\n" in capsys.readouterr().err


def test_remarks_that_cannot_be_printed_do_not_end_training(folder):
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [sys.executable, "-m", "fastnn", "train", "a.csv", *QUICK], stdout=subprocess.DEVNULL,
        stderr=write, timeout=60, env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
    )  # fmt: skip
    os.close(write)
    assert result.returncode == 0
    fastnn.load(MODEL)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_closed_streams(folder, stream):
    closed = 1 if stream == "stdout" else 2
    shell = f'exec "$@" {closed}>&-'
    result = subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, "-m", "fastnn", "train", "a.csv", *QUICK],
        capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
    )  # fmt: skip
    if stream == "stdout":
        assert result.returncode == 2 and "standard output is closed" in result.stderr
        assert "Traceback" not in result.stderr
    else:
        assert result.returncode == 0 and "Saved" in result.stdout


def test_an_error_is_one_line(folder, capsys):
    assert run("--target", "a\nb\u2028c") == 2
    assert "error: " in (err := capsys.readouterr().err) and len(err.splitlines()) == 1
    (folder / "long.csv").write_text("x" * 100_000 + ",y\n1,2\n")  # its columns' names are said
    assert cli.main(["train", str(folder / "long.csv"), "--target", "z"]) == 2
    err = capsys.readouterr().err
    assert "long.csv: has no column 'z'; it has 'xxx" in err and len(err) < 3000
    assert cli.main(["train", "", "--target", "x"]) == 2
    assert "expected the name of a file, got ''" in capsys.readouterr().err
