"""The pages that users read run: README's blocks and those of docs/."""

import ast
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import fastnn
import fastnn.torch
import pages
from c_files import compiler
from optional import import_quietly
from paths import ROOT, TESTS


def read(page):
    """A page's text and its Python blocks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return text, pages.blocks(text)


@pytest.fixture
def run(tmp_path):
    """Runs blocks of a page in a folder of the test's own."""
    return lambda blocks, **given: pages.run(Path("page"), blocks, tmp_path, **given)


def test_readme(run):
    _, (first, _) = read("README.md")
    namespace = run([first])  # it trains and predicts the held-out digits
    assert (namespace["logits"].argmax(axis=1) == namespace["y"][1500:]).mean() > 0.9


def test_readme_from_scikit_learn(run, tmp_path, capsys):
    pytest.importorskip("sklearn.base", reason="no scikit-learn: README's block needs it")
    _, (_, block) = read("README.md")
    X, y = fastnn.datasets.digits()
    run([block], X=X, y=y)
    assert float(capsys.readouterr().out) > 0.95
    assert (tmp_path / "digits.joblib").stat().st_size < 200_000


def test_package(run, capsys):
    run(read("docs/package.md")[1])
    assert float(capsys.readouterr().out.split("'accuracy': ")[1].rstrip("}\n")) > 0.9


NO_PAGES = {ROOT / "docs/guide/index.md", ROOT / "docs/guide/glossary.md"}
GUIDE = sorted(set((ROOT / "docs/guide").glob("*.md")) - NO_PAGES)
SECTIONS = [
    "The formula",
    "In NumPy",
    "In fastnn",
    "In a picture",
    "Turn a knob",
    "Where it fails",
    "A question",
]


@pytest.mark.parametrize("page", GUIDE, ids=[page.stem for page in GUIDE])
def test_guide(page, tmp_path):
    """A page has all its parts, prints what it says and draws what it shows."""
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="no matplotlib: the guide needs it")
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert text.count("<details>") == text.count("</details>") == 1
    assert "assert " in text.split("## In fastnn")[1].split("## In a picture")[0]
    pages.run(page, pages.blocks(text), tmp_path)
    pyplot.close("all")
    shown = pages.pictures(text)
    assert shown and all((tmp_path / name).stat().st_size > 1000 for name in shown)


def test_other_numbers_than_a_page_says_are_found(tmp_path):
    text = "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n"
    with pytest.raises(pages.Mismatch, match=r"line 2: the page says\n3\n.*prints\n2"):
        pages.run(tmp_path / "page.md", pages.blocks(text), tmp_path)


OWN_TESTS = {  # of pages that need files or more checks: below, in tests/commands/ and tests/mpi/
    *("command_line", "deploy", "from_keras", "from_pytorch", "index", "many_machines"),
    *("onnx", "pictures", "tables"),
}
HOWTO = [page for page in sorted((ROOT / "docs/howto").glob("*.md")) if page.stem not in OWN_TESTS]
BEHIND = {  # what the parts of fastnn with these names import
    "fastnn.keras": "h5py",
    "fastnn.onnx": "onnx",
    "fastnn.plot": "matplotlib.pyplot",
    "fastnn.sklearn": "sklearn.base",
}


def needed(code):
    """The packages that a block imports, besides fastnn, NumPy and Python's own."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    used = " ".join([code, *names])  # `fastnn.plot` needs no import of its own
    found = {package for part, package in BEHIND.items() if part in used}
    return found | {name.partition(".")[0] for name in names} - {
        *sys.stdlib_module_names, "fastnn", "numpy",
    }  # fmt: skip


def test_what_a_block_needs_is_found():
    code = "import os, pandas as pd\nfrom numpy import random\nfrom fastnn import plot\nif 1:\n"
    assert needed(code + "    from torch.nn import Linear") == {
        "matplotlib.pyplot", "pandas", "torch",
    }  # fmt: skip


@pytest.mark.parametrize("page", HOWTO, ids=[page.stem for page in HOWTO])
def test_howto(page, tmp_path):
    """A page's blocks run one after the other, and print what it says; they check the rest."""
    _, blocks = read(page)
    assert blocks
    for package in sorted(set().union(*(needed(block.code) for block in blocks))):
        import_quietly(package)
    pages.run(page, blocks, tmp_path)


def test_pictures(run, tmp_path):
    pytest.importorskip("matplotlib.pyplot", reason="no matplotlib: the page needs it")
    _, blocks = read("docs/howto/pictures.md")
    run(blocks)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    for name in fastnn.plot.__all__:
        assert sum(f"plot.{name}(" in block.code for block in blocks) == 1, name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of scikit-learn's searches, about small data
def test_tables(run, capsys):
    for name in ("sklearn.base", "pandas"):
        pytest.importorskip(name, reason=f"no {name}: docs/howto/tables.md needs it")
    run(read("docs/howto/tables.md")[1])
    scores = [float(number) for number in re.findall(r"R² (0\.\d+)", capsys.readouterr().out)]
    assert len(scores) == 3 and min(scores) > 0.2


def test_onnx(run, capsys):
    for name in ("sklearn.base", "onnx", "onnxruntime"):
        pytest.importorskip(name, reason=f"no {name}: docs/howto/onnx.md needs it")
    text, blocks = read("docs/howto/onnx.md")
    run(blocks)
    for line in capsys.readouterr().out.splitlines():  # what is printed stands there
        assert f"# {line}\n" in text


def test_deploy(run, tmp_path):
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name, reason=f"no {name}: docs/howto/deploy.md needs it")
    run(read("docs/howto/deploy.md")[1])
    files = {path.name for path in tmp_path.iterdir()}
    assert files >= {"policy.safetensors", "policy.c", "policy.h", "policy.onnx"}


def test_deploy_in_c(run, tmp_path):
    compiler("cc")
    text, blocks = read("docs/howto/deploy.md")
    model = run([blocks[0], *(block for block in blocks if "export_c" in block.code)])["model"]
    program, command = (
        re.search(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[1]
        for kind in ("c", "sh")
    )
    (tmp_path / "main.c").write_text(program)
    done = subprocess.run(
        command, shell=True, check=True, capture_output=True, text=True, cwd=tmp_path
    )
    expected = model.predict(np.array([[0.1, -0.2, 0.3, 0.4]], np.float32))[0]
    np.testing.assert_allclose([float(v) for v in done.stdout.split()], expected, atol=1e-6)


@pytest.mark.parametrize("needs", ["", "torch"])
def test_from_pytorch(needs, run, tmp_path):
    """All blocks, or those that do without PyTorch, where one reads a file of PyTorch's arrays."""
    if needs:
        import_quietly(needs)
    blocks = read("docs/howto/from_pytorch.md")[1]
    rng = np.random.default_rng(0)
    shapes = {
        "conv.weight": (8, 1, 3, 3),
        "conv.bias": (8,),
        "fc.weight": (10, 72),
        "fc.bias": (10,),
    }
    shapes |= {f"norm.{name}": (8,) for name in ("weight", "bias", "running_mean", "running_var")}
    arrays = {name: rng.random(shape) for name, shape in shapes.items()}
    arrays["norm.num_batches_tracked"] = np.array(5)
    save_file(arrays, tmp_path / "net.safetensors")
    ours, _, _, state, _ = blocks
    namespace = run(blocks if needs else [ours, state])
    assert namespace["state"].keys() == shapes.keys()
    if not needs:
        weight = arrays["fc.weight"].reshape(10, 8, 3, 3).transpose(2, 3, 1, 0).reshape(72, 10)
        np.testing.assert_array_equal(namespace["model"].layers[-1].weight, weight.astype("f4"))


@pytest.mark.filterwarnings("ignore")  # of Keras' own
@pytest.mark.parametrize("needs", ["h5py", "keras"])
def test_from_keras(needs, run, tmp_path, monkeypatch, capsys):
    """All blocks; or without Keras those of fastnn, with files that Keras has written before."""
    pytest.importorskip("h5py", reason="no h5py: docs/howto/from_keras.md needs it")
    blocks = read("docs/howto/from_keras.md")[1]
    if needs == "keras":
        backends = [name for name in ("jax", "torch", "tensorflow") if find_spec(name)]
        if not (find_spec("keras") and backends):
            pytest.skip("no Keras with a backend")
        monkeypatch.setenv("KERAS_BACKEND", backends[0])
    else:
        ours, _, load, _ = blocks
        blocks = [ours, load]
        for kind in (".keras", ".weights.h5"):
            shutil.copy(TESTS / f"keras/data/codes{kind}", tmp_path / f"net{kind}")
    run(blocks)
    accuracies = [float(line) for line in capsys.readouterr().out.splitlines()]
    assert len(accuracies) == len(blocks) // 2 and min(accuracies) > 0.85


def test_the_tour_of_the_sources_names_what_there_is():
    text, _ = read("docs/howto/reading_the_sources.md")
    named = set(re.findall(r"\b(?:csrc|docs|fastnn|tests)/[\w/]+\.\w+", text))
    assert len(named) > 30
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    for name, changed in {  # what a reader is told to change
        "fastnn/layers/dense.py": "def _input_gradient",
        "csrc/activations.inc": "sigmoid_slope(vreal y, vreal alpha) { return (void)alpha, y * "
        "(v_set1(1) - y); }",
    }.items():
        assert changed in (ROOT / name).read_text(encoding="utf-8")
