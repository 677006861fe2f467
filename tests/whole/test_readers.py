"""Every reader of files that `proofs/fuzz_files.py` tries at length: it reads good files, refuses
damaged ones by name, and never runs what is in a file."""

import ast
import pickle
import random
import zipfile

import numpy as np
import pytest

from optional import import_quietly
from paths import PACKAGE

for package in ("h5py", "onnx", "onnxruntime", "sklearn"):
    import_quietly(package)
from readers import READERS, outcome  # noqa: E402

RUNS = 60  # for each reader


def changed(content, chance):
    """Some bytes replaced, added or taken away."""
    content = bytearray(content)
    for _ in range(chance.choice([1, 1, 3])):
        at = chance.randrange(len(content) + 1)
        new = bytes(chance.randrange(256) for _ in range(chance.randrange(3)))
        content[at : at + chance.randrange(3)] = new
    return bytes(content)


@pytest.mark.parametrize("name", READERS)
def test_good_files_are_read_and_damaged_ones_read_or_refused(name, tmp_path):
    reader, chance = READERS[name], random.Random(0)
    path, seeds = tmp_path / reader.file, reader.seeds(tmp_path)
    for seed in seeds:
        assert outcome(reader, path, seed) == "read"
    found = {"read": 0, "refused": 0}
    for _ in range(RUNS):
        damaged = reader.damage(chance.choice(seeds), lambda part: changed(part, chance), chance)
        found[outcome(reader, path, damaged)] += 1
    assert found["refused"] > RUNS // 3
    for length in (0, 1, 7, len(seeds[0]) // 2):
        assert outcome(reader, path, seeds[0][:length]) == "refused"


def test_the_judge_knows_a_fault(tmp_path):
    """An error of another kind is raised, and so is one that does not name the file."""
    for error, raised in ((KeyError("x"), KeyError), (ValueError("wrong"), AssertionError)):

        def read(path, error=error):
            raise error

        reader = READERS["csv"]._replace(read=read)
        with pytest.raises(raised):
            outcome(reader, tmp_path / "rows.csv", b"")


class Trap:
    """Leaves a folder where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        import os

        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", READERS)
def test_nothing_is_unpickled(name, tmp_path):
    """20 of the catalogue of bad input."""
    reader, sprung = READERS[name], tmp_path / "sprung"
    reader.seeds(tmp_path)
    path = tmp_path / reader.file
    for protocol in range(6):
        assert outcome(reader, path, pickle.dumps(Trap(sprung), protocol)) == "refused"
    array = np.empty(1, object)
    array[0] = Trap(sprung)
    for names in (["X", "y"], ["x_train", "y_train"], ["0.weight", "0.bias"]):
        np.savez(tmp_path / "trap.npz", **dict.fromkeys(names, array))
        assert outcome(reader, path, (tmp_path / "trap.npz").read_bytes()) == "refused"
    with zipfile.ZipFile(tmp_path / "trap.pt", "w") as archive:  # as torch.save writes it
        archive.writestr("archive/data.pkl", pickle.dumps(Trap(sprung)))
    assert outcome(reader, path, (tmp_path / "trap.pt").read_bytes()) == "refused"
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists(), "the trap does not work"


RUNNING = {"eval", "exec", "compile", "__import__"}
UNPICKLING = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
FETCHING = {"urllib", "http", "socket", "ftplib", "requests", "ssl"}


def test_the_package_has_nothing_that_runs_or_fetches_a_files_content():
    """No call of `eval` and the like, no unpickling, nothing that reads from the network; a module
    is imported by a name that stands in the source."""
    seen = 0
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names]
                names = names if isinstance(node, ast.Import) else [node.module or ""]
                roots = {name.split(".")[0] for name in names}
                assert not roots & (UNPICKLING | FETCHING), where
            elif isinstance(node, ast.Call):
                called = node.func
                name = getattr(called, "id", getattr(called, "attr", ""))
                assert not (isinstance(called, ast.Name) and name in RUNNING), where
                for keyword in node.keywords:
                    off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                    assert keyword.arg != "allow_pickle" or off, where
                if name == "import_module":
                    first = node.args[0]
                    fixed = first.values[0] if isinstance(first, ast.JoinedStr) else first
                    text = getattr(fixed, "value", None)
                    ours = path.name == "__init__.py" and path.parent == PACKAGE  # a table's names
                    assert isinstance(text, str) or ours, where
                    seen += 1
    assert seen > 3
