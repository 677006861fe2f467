"""The installed package: its files, their size, its imports, and the stub of the extension."""

import ast
import importlib
import os
import re
import runpy
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy
import pytest

import fastnn
from fastnn import _kernels
from paths import PACKAGE, ROOT


def test_no_file_is_missing():
    for name in (
        "py.typed",
        "_kernels.pyi",
        "datasets/digits.npz",
        "datasets/README.md",
        "__main__.py",
    ):
        assert (PACKAGE / name).is_file(), f"{name} is missing"
    assert Path(_kernels.__file__).parent == PACKAGE
    tree = ROOT / "fastnn"
    for path in tree.rglob("*"):  # every file of the tree is installed
        if path.is_file() and path.suffix not in (".so", ".pyc"):
            assert (PACKAGE / path.relative_to(tree)).is_file(), f"{path.name} is not installed"


def test_the_package_is_small():
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    wings = runpy.run_path(str(ROOT / ".ci/check_wheel.py"))["WINGS"]
    wings = {PACKAGE.parent / wing for wing in wings}  # what the core does not know
    core = [path for path in files if path.suffix != ".npz" and not wings & set(path.parents)]
    # a wheel, which is compressed, has less than half of this; .ci/check_wheel.py weighs that, too.
    # Wheels are made by GCC; Clang's code is larger.
    limit = 3_000_000 if fastnn.build_info()["compiler"].startswith("Clang") else 2_500_000
    assert sum(path.stat().st_size for path in core) < limit
    assert sum(path.stat().st_size for path in (PACKAGE / "datasets").iterdir()) < 100_000


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", fastnn.__version__)
    try:
        installed = metadata.distribution("fastnn-cpu")
    except metadata.PackageNotFoundError:
        pytest.skip("built in place, not installed")
    if Path(installed.locate_file("fastnn")).resolve() != PACKAGE.resolve():
        pytest.skip("the installed fastnn is not the one under test")
    assert installed.version == fastnn.__version__
    needed = [r for r in installed.requires or [] if "extra ==" not in r]
    assert [re.split(r"[ <>=!~;]", r)[0] for r in needed] == ["numpy", "safetensors"]


def test_import_needs_nothing_but_numpy():
    program = (
        "import sys, numpy\nbefore = set(sys.modules)\nimport fastnn\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, timeout=60, check=True,
        cwd=PACKAGE.parent,
    )  # fmt: skip
    foreign = set(result.stdout.split()) - set(sys.stdlib_module_names) - {"fastnn", "numpy"}
    # modules that Cython itself adds
    assert {name for name in foreign if not name.startswith(("_cython", "cython"))} == set()


OFFLINE = """
import sys
reached = []
sys.addaudithook(lambda event, _: event.startswith("socket.") and reached.append(event))
import fastnn
from fastnn.commands.cli import main
X, y = fastnn.datasets.digits()
model = fastnn.Sequential(fastnn.Dense(64, 10), seed=0)
optimizer = fastnn.Adam()
model.fit(X, y, loss=fastnn.SoftmaxCrossEntropy(), optimizer=optimizer, epochs=1, progress=False)
model.save("model")
fastnn.save_checkpoint("training", model, optimizer)
fastnn.load("model").predictor()(X[:1])
fastnn.load_checkpoint("training")
fastnn.export_c(model, "net.c")
used = sorted({name.split(".")[0] for name in sys.modules})  # before `train` draws, by matplotlib
with open("rows.csv", "w") as file:
    file.write("x,y\\n" + "".join(f"{i * i % 11},{i % 2}\\n" for i in range(60)))
assert main("train rows.csv --target y --epochs 2 -o net".split()) == 0
assert main("predict net rows.csv -o out.csv".split()) == 0
print("used:", *used, "reached:", *reached)
"""
OPTIONAL = {
    "h5py", "matplotlib", "onnx", "pandas", "polars", "pyarrow", "scipy", "sklearn", "tensorboardX",
    "torch", "tqdm",
}  # fmt: skip


def test_work_without_optional_packages_imports_none_and_reaches_no_network(tmp_path):
    """Nothing is downloaded at run time: training, files, prediction and the commands open no
    socket, and what only a wing needs is not imported, though it be installed."""
    result = subprocess.run(
        [sys.executable, "-c", OFFLINE], text=True, capture_output=True, timeout=120, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)}, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    used, _, reached = result.stdout.rpartition("used:")[2].partition("reached:")
    assert {"fastnn", "numpy", "safetensors"} <= set(used.split())
    assert not OPTIONAL & set(used.split()) and reached.split() == []


def test_the_extensions_show_no_symbols_but_those_that_are_asked_for():
    """So that no two libraries in a process can take one's function for the other's."""
    if shutil.which("nm") is None or sys.platform != "linux":
        pytest.skip("no nm to list them")
    shown = {"_kernels": {"PyInit__kernels", "fnn_threads"}, "_openmp": {"PyInit__openmp"}}
    modules = list(PACKAGE.glob("*.so"))
    assert PACKAGE.joinpath(Path(_kernels.__file__).name) in modules
    for module in modules:
        command = ["nm", "--dynamic", "--defined-only", "--format=posix", module]
        result = subprocess.run(command, text=True, capture_output=True, check=True)
        symbols = {line.split()[0] for line in result.stdout.splitlines()}
        # the linker's own names for the ends of sections
        assert (
            symbols - {"_init", "_fini", "_edata", "_end", "__bss_start"}
            == shown[module.name.split(".")[0]]
        )


def test_the_stub_describes_every_face():
    tree = ast.parse((PACKAGE / "_kernels.pyi").read_text(encoding="utf-8"))
    described = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    described |= {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
    described -= {"Array", "Geometry"}
    present = {name for name in dir(_kernels) if not name.startswith("_")}
    assert described == present


def test_faces_take_the_arguments_that_the_stub_states():
    tree = ast.parse((PACKAGE / "_kernels.pyi").read_text(encoding="utf-8"))
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        positional = [argument.arg for argument in node.args.posonlyargs]
        stated = positional + ["/"] * bool(positional) + [a.arg for a in node.args.args]
        signature = (getattr(_kernels, node.name).__doc__ or "").splitlines()[0]
        arguments = re.fullmatch(rf"{node.name}\((.*)\)(?: -> (\w+))?", signature)
        assert arguments, f"{node.name} has no signature in its docstring: {signature!r}"
        assert arguments[2] in (None, ast.unparse(node.returns)), node.name  # a cpdef's
        given = [a.split("=")[0].split()[-1] for a in arguments[1].split(", ") if a]
        assert given == stated, node.name


def test_no_module_imports_public_names_from_the_root():
    """import-linter ignores imports from the root, because it cannot see the extension there."""
    above = [PACKAGE / name for name in ("__init__.py", "__main__.py", "commands/cli.py")]
    for path in set(PACKAGE.rglob("*.py")) - set(above):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = {name.name for name in node.names}
                assert not {n for n in names if n.split(".")[0] == "fastnn"} - {"fastnn._kernels"}
            elif isinstance(node, ast.ImportFrom) and node.module == "fastnn":
                names = {name.name for name in node.names} - {"_openmp"}
                modules = [PACKAGE / name for name in names]
                assert all(m.is_dir() or m.with_suffix(".py").is_file() for m in modules), path
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative"


# ---- in a clone, where Python meets the sources first ----


@pytest.fixture
def clone(tmp_path):
    """A folder with the sources alone, and an environment that finds a built package behind it."""
    shutil.copytree(PACKAGE, tmp_path / "clone/fastnn", ignore=shutil.ignore_patterns("*.so"))
    shutil.copytree(PACKAGE, tmp_path / "site/fastnn")
    paths = [str(tmp_path / "site"), str(Path(numpy.__file__).parent.parent)]
    return tmp_path / "clone", {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run(clone, *arguments):
    folder, environment = clone
    return subprocess.run(
        [sys.executable, "-S", *arguments], cwd=folder, env=environment, text=True,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip


def test_in_a_clone_the_installed_package_is_taken(clone):
    program = "import fastnn.metrics; from fastnn import Dense; print(fastnn.__file__, Dense(2, 3))"
    result = run(clone, "-c", program)
    expected = clone[0].parent / "site/fastnn/__init__.py"
    assert (result.stdout, result.stderr) == (f"{expected} Dense(2, 3)\n", "")
    assert run(clone, "-m", "fastnn", "--version").stdout == f"fastnn {fastnn.__version__}\n"


def test_in_a_clone_without_an_installation_one_sentence_says_what_to_do(clone):
    folder, environment = clone
    result = run((folder, {**environment, "PYTHONPATH": ""}), "-c", "import fastnn")
    error = result.stderr.splitlines()[-1]
    assert error.startswith("ImportError: fastnn is not installed, and ") and "pip install" in error


def test_scikit_learn_is_named_where_it_is_missing(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("fastnn.sklearn", "sklearn"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match="needs scikit-learn: pip install scikit-learn"):
        importlib.import_module("fastnn.sklearn")


def test_nobody_is_sent_to_the_package_of_the_same_name():
    """fastnn on PyPI is another project: this one's distribution is called fastnn-cpu."""
    folders = [ROOT / name for name in ("fastnn", "docs", "examples", "benchmarks", "csrc")]
    files = [*ROOT.glob("*.*"), *(path for folder in folders for path in folder.rglob("*"))]
    for path in (path for path in files if path.is_file() and path.suffix != ".so"):
        text = path.read_bytes()
        assert b"fastnn[" not in text and b"pip install fastnn\n" not in text, path
