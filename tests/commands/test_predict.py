"""``fastnn predict``, ``inspect``, ``export`` and ``bench``: what is done with a network's file."""

import csv
import json
import os
import pickle
import re
import shlex
import subprocess
import sys
import zipfile
from importlib.util import find_spec

import numpy as np
import pytest
from safetensors.numpy import load_file

import fastnn
import passengers
from c_files import Compiled
from fastnn import Conv2D, Dense, Flatten, Sequential
from fastnn.commands import cli, predict, report, tables, train, trained
from fastnn.files import safefile
from paths import ROOT

pd = pytest.importorskip("pandas")

TRAIN = ("train", "a.csv", "--target", "survived", "--epochs", "4", "--layers", "16", "--quiet")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The file of a network that is trained on passengers."""
    folder = tmp_path_factory.mktemp("model")
    passengers.write(folder / "a.csv")
    arguments = [str(folder / word) if word == "a.csv" else word for word in TRAIN]
    assert cli.main([*arguments, "-o", str(folder / "model.safetensors")]) == 0
    return str(folder / "model.safetensors")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def softmax(outputs):
    powers = np.exp(outputs.astype(float))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("part_rows", [7, 10_000])
def test_predictions_are_those_of_the_loaded_network(folder, model, monkeypatch, part_rows, capsys):
    monkeypatch.setattr(tables, "PART_ROWS", part_rows)
    rows = passengers.write("new.csv", rows=40, seed=1)
    table = pd.read_csv("new.csv")[["fare", "port", "name", "age", "sex", "class", "id"]]
    table.loc[3:8, "port"] = "Zürich"
    table.to_csv("new.csv", index=False)  # in another order, with a column more and one less
    arguments = ("--probabilities", "--keep", "id", "--keep", "name", "-o", "p.csv")
    assert cli.main(["predict", model, "new.csv", *arguments]) == 0
    out, err = capsys.readouterr()
    assert out == "" and "40 predictions in p.csv" in err
    unseen = "that the training had not seen"
    assert f"Column 'port': 6 rows have a value {unseen} ('Zürich'), taken as missing." in err
    with open("p.csv", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["id", "name", "prediction", "probability_no", "probability_yes"]
    assert [line[:2] for line in lines] == [[row["id"], row["name"]] for row in rows]
    loaded = fastnn.load(model)
    X = table[loaded.scaler.feature_names_in_].astype({"class": float})
    likely = softmax(loaded.predict(loaded.scaler.transform(X)))
    np.testing.assert_allclose(np.array([line[3:] for line in lines], float), likely, rtol=1e-6)
    assert [line[2] for line in lines] == [["no", "yes"][i] for i in likely.argmax(axis=1)]


def test_kept_numbers_that_are_no_whole_ones(folder, model):
    pytest.importorskip("pyarrow")
    table = pd.DataFrame(passengers.write("new.csv", rows=3)).drop(columns=["fare", "age"])
    table = table.assign(fare=1.0, age=2.0, n=[1, 2, 3], big=[1, 2**60 + 1, 3])
    table.assign(inf=[1.0, np.inf, -np.inf], far=[1.0, 2.0, 1e300]).to_parquet("new.parquet")
    keep = ("--keep", "n,big,inf,far", "-o", "p.csv")
    assert cli.main(["predict", model, "new.parquet", *keep]) == 0
    with open("p.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert [row[:4] for row in rows] == [
        ["n", "big", "inf", "far"],
        ["1", "1", "1.0", "1.0"],
        ["2", str(2**60 + 1), "inf", "2.0"],
        ["3", "3", "-inf", "1e+300"],
    ]


def test_predictions_on_standard_output(folder, model, capsys):
    passengers.write("new.csv", rows=3)
    assert cli.main(["predict", model, "new.csv"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "prediction" and set(out.splitlines()[1:]) <= {"yes", "no"}
    assert len(out.splitlines()) == 4 and "On 3 rows whose 'survived' is known" in err


@pytest.mark.parametrize("part_rows", [7, 10_000])
def test_a_file_that_has_the_targets_is_reported_on(folder, model, monkeypatch, part_rows, capsys):
    """As `train --test` does."""
    monkeypatch.setattr(tables, "PART_ROWS", part_rows)
    passengers.write("a.csv")
    passengers.write("test.csv", rows=40, seed=1)
    for target in ("survived", "fare"):
        output = ("-o", f"{target}.safetensors")
        arguments = [target if word == "survived" else word for word in TRAIN]
        assert cli.main([*arguments, "--test", "test.csv", *output]) == 0
        wanted = capsys.readouterr().out.split("On 40 rows of the test:")[1].split("\nSaved")[0]
        assert cli.main(["predict", output[1], "test.csv", "-o", f"{target}.csv"]) == 0
        found = capsys.readouterr().err.split(f"On 40 rows whose {target!r} is known:")[1]
        assert found.split() == wanted.split() and len(found.splitlines()) > 3


def test_targets_that_cannot_be_reported_on(folder, model, monkeypatch, capsys):
    passengers.write("a.csv", rows=10)
    table = pd.read_csv("a.csv")
    table.loc[:3, "survived"] = None
    table.to_csv("new.csv", index=False)
    assert cli.main(["predict", model, "new.csv", "-o", "p.csv"]) == 0
    assert "On 6 rows whose 'survived' is known" in capsys.readouterr().err
    monkeypatch.setattr(report, "_MOST_NUMBERS", 10)
    monkeypatch.setattr(tables, "PART_ROWS", 5)
    assert cli.main(["predict", model, "new.csv", "-o", "p.csv", "--force"]) == 0
    assert "On 1 first rows whose 'survived' is known" in capsys.readouterr().err
    table.loc[2, "survived"] = "maybe"
    table.to_csv("new.csv", index=False)
    assert cli.main(["predict", model, "new.csv", "-o", "p.csv", "--force"]) == 0
    err = capsys.readouterr().err
    where = "new.csv: line 4: column 'survived': 'maybe' is no class of the training"
    assert f"No report on the targets: {where}" in err and "On " not in err


@pytest.mark.parametrize(("classes", "items", "wanted"), [
    ((0, 1), ["1", "0.0", ""], [1, 0, np.nan]),
    (("1", "2", "x"), ["2", "1", "x"], [1, 0, 2]),
    (("0.5", "1.0"), ["1", ".5", "NA"], [1, 0, np.nan]),
    ((False, True), ["True", "False", "?"], [1, 0, np.nan]),
])  # fmt: skip
def test_how_classes_may_be_written(classes, items, wanted):
    part = tables.Part({"y": items}, "line", range(2, 5))
    np.testing.assert_array_equal(report._targets(part, "y", classes), wanted)


def test_standard_input(folder, model):
    """Is read as a file is, and once: it may be a pipe."""
    passengers.write("new.csv", rows=5)
    command = [sys.executable, "-m", "fastnn", "predict", model]
    text = (folder / "new.csv").read_text()
    results = [
        subprocess.run([*command, name], input=text, capture_output=True, text=True, timeout=60)
        for name in ("new.csv", "-")
    ]
    assert results[0].returncode == 0 and results[0].stdout.count("\n") == 6
    assert results[0].stdout == results[1].stdout and results[0].stderr == results[1].stderr
    assert cli.main(["train", "-", "--target", "survived"]) == 2


@pytest.mark.parametrize(("rows", "wanted"), [
    (["a"], "1 row has a value that"), (["a", "a"], "2 rows have a value that"),
    (list("abca"), "4 rows have one of 3 values that the training had not seen ('a', 'b', 'c'),"),
    ([*map(str, range(5000))], "5000 rows have one of 1000 or more values that"),
])  # fmt: skip
def test_unknown_categories_are_counted(rows, wanted, capsys):
    unknown = predict.Unknown()
    for item in rows:
        unknown.add("x", item)
    unknown.report()
    assert f"Column 'x': {wanted}" in capsys.readouterr().err


@pytest.mark.parametrize("classifies", [True, False])
def test_estimators(folder, classifies, capsys):
    """Their files may hold several networks, and categories that are numbers."""
    pytest.importorskip("sklearn.base")
    from fastnn.sklearn import TabularClassifier, TabularRegressor

    kind = TabularClassifier if classifies else TabularRegressor
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=60), "b": pd.Categorical(rng.integers(3, size=60))})
    y = X["a"] + X["b"].astype(int) > 1 if classifies else X["a"] * 2
    estimator = kind((8,), n_ensembles=2, max_iter=3, random_state=0).fit(X, y)
    estimator.save("e.safetensors")
    X.to_csv("new.csv", index=False)
    options = ["--probabilities"] if classifies else []
    assert cli.main(["predict", "e.safetensors", "new.csv", *options]) == 0
    out, err = capsys.readouterr()
    found = pd.read_csv(pd.io.common.StringIO(out))
    assert err == "" and (found["prediction"].dtype == bool) == classifies
    if classifies:
        wanted, found = estimator.predict_proba(X), found.iloc[:, 1:]
    else:
        wanted = estimator.predict(X)[:, None]
    np.testing.assert_allclose(found.to_numpy(), wanted, rtol=1e-6)


def test_networks_without_names(folder, capsys):
    model = Sequential(Dense(3, 2), seed=0)
    X = np.random.default_rng(0).normal(size=(20, 3))
    model.scaler = fastnn.Standardizer().fit(X)
    model.save("m.safetensors")
    np.savez("x.npz", X=X)
    pd.DataFrame(X, columns=list("abc")).to_csv("x.csv", index=False)
    wanted = model.predict((X - X.mean(axis=0)) / X.std(axis=0))
    for name in ("x.npz", "x.csv"):
        assert cli.main(["predict", "m.safetensors", name]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "prediction_0,prediction_1"
        found = np.array([line.split(",") for line in lines[1:]], float)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("class,sex,age\n1,male,2\n", (), "new.csv: lacks columns of the training: 'fare', 'port'"),
        ("class,Sex,age,fare,port\n1,male,2,2,S\n", (), "new.csv: lacks columns of the training: "
         "'sex'; did you mean 'Sex'? (Add what is unknown as an empty column.)"),
        ("class,sex,age,fare,port\n1,male,2,2,S\n", ("--keep", "clas"), "--keep: new.csv has no "
         "column 'clas'; it has 'class', 'sex', 'age', 'fare', 'port'; did you mean 'class'?"),
        ("class,sex,age,fare,port\n1,male,,2,S\n1,male,old,2,S\n", (), "new.csv: line 3: column "
         "'age': expected a number, got 'old'"),
        ("class,sex,age,fare,port\n1,male,inf,2,S\n", (), "new.csv: X contains infinity in column"),
        ("class,sex,age,fare,port\n", (), "new.csv: expected rows below the header"),
        ("class,sex,age,fare,port\n1,male,2,2,S\n", ("--keep", "id"), "--keep: new.csv has no"),
    ],
)  # fmt: skip
def test_rows_that_the_network_cannot_take(folder, model, capsys, content, arguments, message):
    (folder / "new.csv").write_text(content)
    assert cli.main(["predict", model, "new.csv", "-o", "p.csv", *arguments]) == 2
    assert f"fastnn predict: error: {message}" in capsys.readouterr().err
    assert os.listdir() == ["new.csv"]


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (MemoryError, 2)])
def test_predictions_are_there_whole_or_not_at_all(folder, model, monkeypatch, error, code):
    monkeypatch.setattr(tables, "PART_ROWS", 7)
    passengers.write("new.csv", rows=20)
    results, calls = trained.Trained.results, []

    def fail_later(self, X):
        calls.append(len(X))
        if len(calls) == 2:
            raise error
        return results(self, X)

    monkeypatch.setattr(trained.Trained, "results", fail_later)
    (folder / "p.csv").write_text("old")
    assert cli.main(["predict", model, "new.csv", "-o", "p.csv"]) == 2 and not calls
    assert cli.main(["predict", model, "new.csv", "-o", "p.csv", "--force"]) == code
    assert calls == [7, 7] and (folder / "p.csv").read_text() == "old"
    assert sorted(os.listdir()) == ["new.csv", "p.csv"]


@pytest.mark.parametrize("command", ["predict", "inspect", "export"])
def test_files_that_are_no_network(folder, capsys, command):
    more = {"predict": ["new.csv"], "export": ["--c"], "inspect": []}[command]
    passengers.write("new.csv", rows=3)
    (folder / "m.safetensors").write_bytes(np.random.default_rng(0).bytes(1000))
    for name in ("m.safetensors", "none.safetensors"):
        assert cli.main([command, name, *more]) == 2
        assert f"fastnn {command}: error: {name}: " in capsys.readouterr().err


def test_an_estimator_of_an_unknown_kind(folder, capsys):
    Sequential(Dense(3, 2), seed=0).save("m.safetensors")
    metadata, arrays = safefile.read("m.safetensors")
    metadata["fastnn.sklearn"] = json.dumps({"estimator": "os"})
    safefile.write("m.safetensors", arrays, metadata)
    assert cli.main(["inspect", "m.safetensors"]) == 2
    assert "m.safetensors: estimator: expected one of" in capsys.readouterr().err


LEARNT = {"target": "survived", "trivial": [0.5, 0.5], "range": None}


@pytest.mark.parametrize(("change", "message"), [
    ({"target": 3}, "target: expected a name"), ({"trivial": [0.5]}, "trivial: expected 2 numbers"),
    ({"trivial": [0.0, 1.0]}, "trivial: expected numbers > 0"),
    ({"trivial": ["a", 0.5]}, "trivial: expected 2 numbers"), ({"trivial": 1e999}, "not JSON"),
])  # fmt: skip
def test_what_is_said_of_targets_may_be_made_up(folder, model, capsys, change, message):
    metadata, arrays = safefile.read(model)
    metadata["fastnn.train"] = json.dumps(LEARNT | change)
    safefile.write("m.safetensors", arrays, metadata)
    assert cli.main(["inspect", "m.safetensors"]) == 2
    err = capsys.readouterr().err
    assert "error: m.safetensors: " in err and message in err


def test_files_of_pytorch(folder, capsys):
    """Zip archives, pickles, and weights alone in a safetensors file: each says what to do."""
    with zipfile.ZipFile("zip.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"x" * 100)
    (folder / "old.pt").write_bytes(pickle.dumps({"0.weight": list(range(100))}, protocol=2))
    safefile.write("w.safetensors", {"0.weight": np.zeros((2, 3), np.float32)}, {"format": "pt"})
    for name in ("zip.pt", "old.pt", "w.safetensors"):
        assert cli.main(["inspect", name]) == 2
        err = capsys.readouterr().err
        assert f"error: {name}: " in err and "fastnn.torch.load_state_dict" in err


def test_inspect(folder, model, capsys):
    assert cli.main(["inspect", model]) == 0
    out = capsys.readouterr().out
    loaded = fastnn.load(model)
    assert loaded.summary() in out
    assert "'sex': one of 'female', 'male'" in out and "classes: 'no', 'yes'" in out
    values = loaded.parameters["2.weight"]
    line = next(line for line in out.splitlines() if line.startswith("2.weight "))
    wanted = [values.mean(), values.std(), values.min(), values.max()]
    np.testing.assert_allclose([float(word) for word in line.split()[1:5]], wanted, rtol=6e-3)


@pytest.mark.parametrize("numbers", [[1, 1 + 2e-7], [3e38, -3e38], [np.nan, 1]])
def test_inspect_of_numbers_that_are_near_or_far(folder, capsys, numbers):
    network = Sequential(Dense(2, 2), seed=0)
    network.parameters["0.bias"][...] = numbers
    network.save("a.safetensors")
    picture = ("-o", "a.png") if find_spec("matplotlib") else ()
    assert cli.main(["inspect", "a.safetensors", *picture]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "0.bias " in line)
    found = np.array(line.split()[1:5], float)
    values = np.array(numbers, np.float32).astype(float)
    wanted = [values.mean(), values.std(), values.min(), values.max()]
    np.testing.assert_allclose(found, wanted, rtol=6e-3)
    assert line.count("@") == (1 if np.isnan(values).any() else 2)


def test_inspect_draws(folder, model):
    pytest.importorskip("matplotlib")
    assert cli.main(["inspect", model, "-o", "w.png"]) == 0
    assert (folder / "w.png").read_bytes().startswith(b"\x89PNG")


def test_inspect_says_what_pictures_need(folder, model, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert cli.main(["inspect", model, "-o", "w.png"]) == 2
    assert "pip install matplotlib" in capsys.readouterr().err


def test_an_output_without_a_name_is_refused(folder, model, capsys):
    assert cli.main(["export", model, "--c", "-o", ""]) == 2
    assert cli.main(["predict", model, "", "-o", "p.csv"]) == 2
    assert capsys.readouterr().err.count("expected the name of a file, got ''") == 2


def test_export_c(folder, model, capsys):
    """The same file as export_c writes of the network with probabilities."""
    assert cli.main(["export", model, "--c", "-o", "net.c"]) == 0
    written = (folder / "net.c").read_text(), (folder / "net.h").read_text()
    assert cli.main(["export", model, "--c", "-o", "net.c"]) == 2
    network = trained.read(model)
    compiled = Compiled(network.exported(), folder)
    assert written == ((folder / "net.c").read_text(), (folder / "net.h").read_text())
    loaded = fastnn.load(model)
    x = np.array([[2.0, 1.0, 30.0, 12.5, 0.0]])
    row = pd.DataFrame([[2.0, "male", 30.0, 12.5, "C"]], columns=network.names)
    wanted = softmax(loaded.predict(loaded.scaler.transform(row)))
    np.testing.assert_allclose(compiled(x), wanted, rtol=1e-5)


def test_export_onnx(folder, model):
    onnx = pytest.importorskip("onnx")
    assert cli.main(["export", model, "--onnx", "-o", "a.onnx"]) == 0
    fastnn.onnx.export(trained.read(model).exported(), "b.onnx")
    assert (folder / "a.onnx").read_bytes() == (folder / "b.onnx").read_bytes()
    names = [output.name for output in onnx.load("a.onnx").graph.output]
    assert names == ["output_label", "output_probability"]


def test_export_of_weights_for_pytorch(folder, model, capsys):
    network = Sequential(Dense(3, 2), seed=0)
    network.save("m.safetensors")
    assert cli.main(["export", "m.safetensors", "--torch"]) == 0
    found = load_file("m.torch.safetensors")
    assert (found["0.weight"] == network.parameters["0.weight"].T).all() and len(found) == 2
    assert cli.main(["export", model, "--torch", "-o", "t.safetensors"]) == 2
    assert (
        f"error: {model}: " in capsys.readouterr().err and not (folder / "t.safetensors").exists()
    )


def test_export_of_a_network_for_images(folder, capsys):
    layers = Conv2D(1, 2, 3), Flatten(), Dense(8, 2)
    Sequential(*layers, seed=0).save("m.safetensors")
    assert cli.main(["export", "m.safetensors", "--c"]) == 2
    assert "shape: expected that of a row" in capsys.readouterr().err
    assert cli.main(["export", "m.safetensors", "--c", "--shape", "4,4,1"]) == 0
    assert "NET_INPUTS 16" in (folder / "m.h").read_text()


def test_bench(capsys):
    assert cli.main(["bench", "--seconds", "0.01", "--peers"]) == 0
    out = capsys.readouterr().out
    assert "GFLOP/s" in out and "GB/s" in out and out.count(" us") == 4


def test_the_page_about_the_command_line(folder, capsys, monkeypatch):
    """All its commands run one after the other, with fewer epochs."""
    passengers.write("passengers.csv")
    monkeypatch.setattr(train, "_FEWEST_EPOCHS", 2)
    monkeypatch.setattr(train, "_MOST_ROWS_SEEN", 1)
    text = (ROOT / "docs" / "howto" / "command_line.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for line in "".join(blocks).splitlines():
        program, *arguments = shlex.split(line)
        slow = arguments[0] in ("bench", "demo")  # which have tests of their own
        if not slow and ("--onnx" not in arguments or find_spec("onnx")):
            assert program == "fastnn" and cli.main(arguments) == 0, line
    assert (folder / "passengers.c").is_file() and (folder / "predictions.csv").is_file()
    for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        exec(compile(block, "command_line.md", "exec"), {})
