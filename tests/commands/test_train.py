"""``fastnn train``: from a file to a file, and what it says of the network."""

import re
import signal
import struct

import numpy as np
import pytest

import fastnn
import passengers
from c_files import Compiled
from fastnn.commands import cli, train, trained

pd = pytest.importorskip("pandas")

QUICK = ("--epochs", "4", "--layers", "16", "--quiet")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    passengers.write("a.csv")
    return tmp_path


def run(*arguments):
    return cli.main([*map(str, arguments)])


def report(text):
    """The numbers of the report: of the network and of the trivial answer."""
    found = re.findall(r"^  (\S.*?) +(-?[\d.e-]+|nan) +(-?[\d.e-]+|nan)$", text, re.MULTILINE)
    return {name: (float(a), float(b)) for name, a, b in found}


def test_a_table_of_two_classes(folder, capsys):
    assert run("train", "a.csv", "--target", "survived", *QUICK[:2], "--seed", "3") == 0
    out, err = capsys.readouterr()
    assert "150 rows, 5 columns" in out and "Classification: survived is 2 classes" in out
    assert "'id' is left out" in err and "'name' is left out" in err
    assert err.count("epoch ") == 4  # no terminal: lines
    table = pd.read_csv("a.csv")
    y = (table.pop("survived") == "yes").to_numpy().astype(int)
    train_rows, held = fastnn.stratified_split(y, 0.2, seed=3)
    model = fastnn.load("model.safetensors")
    X = table[["class", "sex", "age", "fare", "port"]]
    outputs = model.predict(model.scaler.transform(X.iloc[held])).astype(float)
    likely = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    found, rate = report(out), y[train_rows].mean()
    right = likely.argmax(axis=1) == y[held]
    wanted = {
        "accuracy": (right.mean(), max((y[held] == 0).mean(), (y[held] == 1).mean())),
        "balanced accuracy": (np.mean([right[y[held] == c].mean() for c in (0, 1)]), 0.5),
        "log loss": (
            -np.log(likely[np.arange(len(held)), y[held]]).mean(),
            -np.log(np.where(y[held] == 1, rate, 1 - rate)).mean(),
        ),
    }
    pairs = (likely[y[held] == 1, 1][:, None] - likely[y[held] == 0, 1]).ravel()
    wanted["area under ROC"] = (np.mean(pairs > 0) + np.mean(pairs == 0) / 2, 0.5)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-3, err_msg=name)
    assert model.scaler.feature_names_in_.tolist() == list(X)
    center = X["fare"].iloc[train_rows].median()  # of the rows that it learns from, alone
    assert center in model.scaler.center_ and X["fare"].median() != center


def test_regression(folder, capsys):
    assert run("train", "a.csv", "--target", "fare", "--drop", "port", "--use", "id", *QUICK) == 0
    out, err = capsys.readouterr()
    table = pd.read_csv("a.csv")
    y = table["fare"].to_numpy()
    assert f"Regression: fare is numbers from {y.min():g} to {y.max():g}" in out
    assert "epoch" not in err
    train_rows, held = fastnn.stratified_split(np.zeros(len(y)), 0.2, seed=0)
    model = fastnn.load("model.safetensors")
    X = table[["id", "survived", "class", "sex", "age"]]
    outputs = model.predict(model.scaler.transform(X.iloc[held])).astype(float)
    values = (outputs * y[train_rows].std() + y[train_rows].mean())[:, 0]
    within = np.clip(values, y[train_rows].min(), y[train_rows].max())
    assert (within != values).any()
    mean = np.full(len(held), y[train_rows].mean())
    found = report(out)
    for i, answer in enumerate((within, mean)):
        error = answer - y[held]
        assert found["root mean squared error"][i] == pytest.approx(
            np.sqrt((error**2).mean()), rel=2e-3
        )
        assert found["mean absolute error"][i] == pytest.approx(np.abs(error).mean(), rel=2e-3)
        r2 = 1 - (error**2).sum() / ((y[held] - y[held].mean()) ** 2).sum()
        assert found["R²"][i] == pytest.approx(r2, rel=2e-3, abs=2e-4)
    table.drop(columns="fare").iloc[held].to_csv("new.csv")
    assert run("predict", "model.safetensors", "new.csv", "-o", "p.csv") == 0
    np.testing.assert_allclose(pd.read_csv("p.csv")["prediction"], within, rtol=1e-5)
    assert "On " not in capsys.readouterr().err  # as there are no targets
    compiled = Compiled(trained.read("model.safetensors").exported(), folder)
    codes = X.iloc[held].assign(survived=X["survived"] == "yes", sex=X["sex"] == "male")
    found = compiled(np.ascontiguousarray(codes, np.float64))[:, 0]
    np.testing.assert_allclose(found, within, rtol=1e-5)


def test_the_loss_while_it_learns(folder, capsys):
    """It is that of the report, or it is said why it is not."""
    assert run("train", "a.csv", "--target", "survived", *QUICK) == 0
    assert "Losses on the way have label smoothing 0.1, the report" in capsys.readouterr().out
    assert run("train", "a.csv", "--target", "fare", "--force", *QUICK) == 0
    assert "Losses on the way are of targets scaled to variance 1" in capsys.readouterr().out
    dense = ("--network", "dense", "--force", *QUICK[:4])
    assert run("train", "a.csv", "--target", "survived", *dense) == 0
    out, err = capsys.readouterr()
    assert "Losses on the way" not in out
    losses = [float(text) for text in re.findall(r"validation_loss (\S+)", err)]
    assert report(out)["log loss"][0] == pytest.approx(min(losses), rel=2e-3)


@pytest.mark.parametrize("network", ["tabular", "dense"])
def test_the_number_of_parameters_is_that_of_the_file(folder, capsys, network):
    assert run("train", "a.csv", "--target", "survived", *QUICK, "--network", network) == 0
    shown = re.search(r"([\d,]+) parameters", capsys.readouterr().out)[1]
    state = fastnn.load("model.safetensors").parameters
    assert int(shown.replace(",", "")) == sum(array.size for array in state.values())


def test_columns_between_commas(folder, capsys):
    table = pd.read_csv("a.csv").rename(columns={"port": "port, sea"})
    table.to_csv("b.csv", index=False)
    drop = ("--drop", "name, id", "--drop", "port, sea")
    assert run("train", "b.csv", "--target", "survived", *drop, *QUICK) == 0
    names = fastnn.load("model.safetensors").scaler.feature_names_in_.tolist()
    assert names == ["class", "sex", "age", "fare"]
    keep = ("--keep", "id,port, sea", "-o", "p.csv")
    assert run("predict", "model.safetensors", "b.csv", *keep) == 2
    assert "--keep: b.csv has no column 'port'" in capsys.readouterr().err
    keep = ("--keep", "id,age", "--keep", "port, sea", "-o", "p.csv")
    assert run("predict", "model.safetensors", "b.csv", *keep) == 0
    assert list(pd.read_csv("p.csv")) == ["id", "age", "port, sea", "prediction"]
    codes = ("--categorical", "class,sex", "--force")
    assert run("train", "a.csv", "--target", "survived", *codes, *QUICK) == 0
    scaler = fastnn.load("model.safetensors").scaler
    assert scaler.is_categorical_.tolist() == [True, True, False, False, True]


def test_the_arguments_of_the_network(folder, capsys):
    arguments = ("--layers", "8, 4", "--dropout", "0.25", "--batch-norm", "--learning-rate", "0.01")
    assert run("train", "a.csv", "--target", "survived", *QUICK, *arguments, "--threads", "1") == 0
    model = fastnn.load("model.safetensors")
    kinds = [type(layer).__name__ for layer in model.layers]
    widths = [layer.out_features for layer in model.layers if type(layer) is fastnn.Dense]
    assert widths == [8, 4, 2] and kinds.count("BatchNorm") == 2
    assert {layer.rate for layer in model.layers if type(layer) is fastnn.Dropout} == {0.25}
    assert "PeriodicEmbedding" in repr(model)
    dense = ("--network", "dense", "--force", "-o", "model.safetensors")
    assert run("train", "a.csv", "--target", "survived", *QUICK, *dense) == 0
    assert "PeriodicEmbedding" not in repr(fastnn.load("model.safetensors"))
    assert "epochs, until 10 are no better" in capsys.readouterr().out


def test_seeds(folder):
    states = []
    for seed in (1, 1, 2):
        run("train", "a.csv", "--target", "survived", *QUICK, "--seed", seed, "--force")
        states.append(fastnn.load("model.safetensors").flat_parameters.copy())
    assert (states[0] == states[1]).all() and (states[0] != states[2]).any()


def test_a_test_file_and_missing_targets(folder, capsys):
    table = pd.read_csv("a.csv")
    table.loc[:9, "survived"] = None
    table.to_csv("b.csv", index=False)
    table.iloc[::-1].iloc[:40].to_csv("test.csv", index=False)
    assert run("train", "b.csv", "--target", "survived", "--test", "test.csv", *QUICK) == 0
    out, err = capsys.readouterr()
    assert "10 rows have no 'survived'" in err and "140 rows, 5 columns" in out
    accuracy = report(out.split("On 40 rows of the test")[1])["accuracy"][0]
    assert run("predict", "model.safetensors", "test.csv", "-o", "p.csv") == 0
    answers = pd.read_csv("p.csv")["prediction"].to_numpy()
    assert accuracy == pytest.approx((answers == table["survived"].iloc[:-41:-1]).mean(), rel=1e-3)


def test_cross_validation(folder, capsys, monkeypatch):
    each = []
    begin = train.Plan.begin
    monkeypatch.setattr(
        train.Plan, "begin", lambda self, X, *rest: each.append(X) or begin(self, X, *rest)
    )
    assert run("train", "a.csv", "--target", "fare", "--cv", "4", "--use", "id", *QUICK) == 0
    all_rows, *folds = [set(X.arrays["id"].tolist()) for X in each]
    left_out = [all_rows - fold for fold in folds]
    assert len(all_rows) == 150 and set.union(*left_out) == all_rows
    assert sum(map(len, left_out)) == 150 and {len(rows) for rows in left_out} <= {37, 38}
    out = capsys.readouterr().out
    assert re.search(r"root mean squared error +[\d.]+ ± [\d.]+", out)


def test_idx_folders_npz_files_and_the_digits(folder, capsys):
    X, y = fastnn.datasets.digits()
    pixels = (X * 255).astype(np.uint8).reshape(-1, 8, 8)
    (folder / "idx").mkdir()
    for part, rows in ("train", slice(300)), ("t10k", slice(300, 400)):
        for kind, array, code in ("images-idx3", pixels, 3), ("labels-idx1", y, 1):
            chosen = array[rows].astype(np.uint8)
            header = bytes([0, 0, 8, code]) + struct.pack(f">{code}i", *chosen.shape)
            (folder / f"idx/{part}-{kind}-ubyte").write_bytes(header + chosen.tobytes())
    assert run("train", "idx", *QUICK) == 0
    out = capsys.readouterr().out
    assert "300 rows, 64 columns" in out and "On 100 rows of the test" in out
    model = fastnn.load("model.safetensors")
    assert model.classes == tuple(range(10))
    right = model.predict(model.scaler.transform(X[300:400])).argmax(axis=1) == y[300:400]
    assert report(out.split("test")[1])["accuracy"][0] == pytest.approx(right.mean(), abs=0.011)
    np.savez("a.npz", x_train=X[:200].reshape(-1, 8, 8), y_train=y[:200] * 0.5)
    assert run("train", "a.npz", "--force", *QUICK) == 0
    assert "Regression" in capsys.readouterr().out
    assert run("train", "--force", *QUICK) == 0
    assert "digits: 1797 rows" in capsys.readouterr().out


# ---- files that are not overwritten, not torn, and not what they should be ----


def test_nothing_is_overwritten(folder, capsys):
    (folder / "model.png").write_text("mine")
    assert run("train", "a.csv", "--target", "survived", *QUICK) == 2
    assert "model.png: is there already; --force replaces it" in capsys.readouterr().err
    assert (folder / "model.png").read_text() == "mine"
    assert not (folder / "model.safetensors").exists()
    assert run("train", "b.csv", "--target", "survived", *QUICK) == 2  # what is missing comes first
    assert "error: b.csv: No such file" in capsys.readouterr().err


def test_what_is_read_is_not_written_as_well(folder, capsys):
    before = (folder / "a.csv").read_bytes()
    assert run("train", "a.csv", "--target", "survived", "-o", "./a.csv", "--force") == 2
    assert "./a.csv: is read, and cannot be written as well" in capsys.readouterr().err
    assert (folder / "a.csv").read_bytes() == before


@pytest.mark.parametrize("epochs_done", [0, 2])
def test_ctrl_c_keeps_the_best_epoch_so_far(folder, capsys, monkeypatch, epochs_done):
    def press(self, run):
        if run.epoch == epochs_done:
            signal.raise_signal(signal.SIGINT)

    event = "on_epoch_end" if epochs_done else "on_fit_begin"
    monkeypatch.setattr(train.Lines, event, press)
    assert run("train", "a.csv", "--target", "survived", "--epochs", "9", "--layers", "8") == 130
    assert f"Stopped by Ctrl-C after {epochs_done} epochs" in capsys.readouterr().out
    assert (folder / "model.safetensors").exists() == bool(epochs_done)
    if epochs_done:
        fastnn.load("model.safetensors")


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (
            "x,y\n2020-01-02,1\n2020-02-03,2\n",
            (),
            r"a\.csv: column 'x' has dates, such as '2020-01",
        ),
        ("x,y\n1,1\n2,0\n", (), "expected 10 rows or more, got 2"),
        ("x,y\n" + "inf,1\n2,0\n" * 9, (), r"a\.csv: X contains infinity in column 'x'"),
        ("x,y\n" + "inf,1\n" * 9 + "2,0\n" * 9, (), r"a\.csv: X contains infinity in column 'x'"),
        ("x,y\n" + "-1e308,1\n1e308,0\n" * 9, (), r"a\.csv: X contains numbers of 1e\+150"),
        ("x,y\n1,1\n", ("--target", "z"), r"a\.csv: has no column 'z'; it has 'x', 'y'"),
        ("x,y\n1,1\n", ("--drop", "z"), r"a\.csv: has no column 'z'"),
        ("x,y\n1,1\n", ("--categorical", "z"), r"a\.csv: has no column 'z'"),
        ("x,y\n1,1\n", ("--drop", "y"), "--drop: 'y' is the target"),
        ("x,y\n1,\n2,\n", (), "--target: column 'y' is empty"),
        ("x,y\n" + "1,1.5\n2,2.5\n" * 9, ("--balanced",), "--balanced: expected classes"),
        ("y\n1\n2\n", (), "no column is left"),
        ("x,y\n" + "1,1\n2,0\n" * 9, ("-o", "nowhere/a"), "there is no folder 'nowhere'"),
        ("x,y\n" + "1,1\n2,0\n" * 9, ("--cv", "10"), "--cv: expected at most half"),
        ("x,y\n" + "1,1\n2,0\n" * 9, ("--test", "b.csv"), "b.csv: No such file"),
        ("x,y\n" + "1,1\n2,0\n" * 9, ("--learning-rate", "1e5", "--epochs", "30"), "learning rate"),
    ],
)
def test_errors_name_the_file_and_exit_with_2(folder, capsys, content, arguments, message):
    (folder / "a.csv").write_text(content)
    assert run("train", "a.csv", "--target", "y", "--quiet", *arguments) == 2
    err = capsys.readouterr().err
    assert re.search(f"^fastnn train: error: .*{message}", err, re.MULTILINE), err
    assert not (folder / "model.safetensors").exists()


def test_what_a_column_is_taken_for_is_said(folder, capsys):
    lines = [
        f"{i % 7},{'?' if i % 9 else 'x'},{i % 40 if i else 'none'},{i % 2}" for i in range(200)
    ]
    (folder / "a.csv").write_text("code,rare,n,y\n" + "\n".join(lines))
    assert run("train", "a.csv", "--target", "y", "--categorical", "code", *QUICK) == 0
    assert "Column 'n' is taken for text, because of 'none'" in capsys.readouterr().err
    assert run("train", "a.csv", "--target", "n", "--force", *QUICK) == 0  # as a target, too
    assert "Column 'n' is taken for text, because of 'none'" in capsys.readouterr().err
    assert run("train", "a.csv", "--target", "y", "--categorical", "code", "--force", *QUICK) == 0
    encoder = fastnn.load("model.safetensors").scaler
    assert encoder.is_categorical_.tolist() == [True, True, True]
    assert encoder.categories_[0] == [str(i) for i in range(7)]


def test_the_picture_needs_matplotlib(folder, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert run("train", "a.csv", "--target", "survived", *QUICK) == 0
    assert not (folder / "model.png").exists() and "model.png" not in capsys.readouterr().out


def test_the_picture_has_the_losses_of_all_epochs(folder):
    pytest.importorskip("matplotlib")
    assert run("train", "a.csv", "--target", "survived", *QUICK) == 0
    assert (folder / "model.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_marks_the_epoch_that_is_kept(folder, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    drawn = []
    monkeypatch.setattr(train.pictures, "_save", lambda figure, path: drawn.append(figure))
    assert run("train", "a.csv", "--target", "survived", *QUICK) == 0
    best = re.search(r"epoch (\d) was the best", capsys.readouterr().out)[1]
    lines = {line.get_label(): line for line in drawn[0].axes[0].lines}
    assert {"training", "validation"} < lines.keys()
    assert list(lines[f"best: epoch {best}"].get_xdata()) == [int(best)] * 2
