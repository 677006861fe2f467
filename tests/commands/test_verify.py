"""``fastnn verify`` and the published hashes of whole trainings.

A hash here changes only by a decision: ``fastnn verify --hashes > fastnn/commands/hashes.json``
publishes new ones, and a line of CHANGELOG.md says which bits changed and why."""

import json
import sys
from itertools import product

import numpy as np
import pytest

import fastnn
from fastnn import _kernels, layers, losses, optimizers, schedules, weight_averages
from fastnn.commands import cli, trainings, verify
from paths import ROOT

SETTINGS = list(product(_kernels.isa_levels(), fastnn.build_info()["runtimes"]))
HOW = "\n".join(__doc__.splitlines()[2:])


@pytest.mark.parametrize("isa, runtime", SETTINGS)
def test_trainings_have_the_published_bits_on_any_threads(isa, runtime):
    found = verify.difference(isa, runtime, verify.published())
    assert not found, f"{found}\n{HOW}\nThis machine's hashes:\n{verify.text(verify.computed())}"


def test_what_numpy_draws_has_the_published_bits():
    found = verify.drawn()
    assert found == verify.published()["numpy"], f"NumPy {np.__version__}\n{HOW}"


def parts_of(kinds):
    """The names of layers that the trainings have, those within others too."""
    found = set()

    def visit(part):
        if isinstance(part, kinds):
            found.add(type(part).__name__)
        inner = part if isinstance(part, (list, tuple)) else vars(part).values()
        for one in inner:
            if isinstance(one, (list, tuple, layers.Layer)) or hasattr(one, "layers"):
                visit(one)

    for training in trainings.TRAININGS.values():
        visit(training.layers())
    return found


def public(module, base):
    """The public classes of a module that derive from `base`."""
    names = {name for name in vars(module) if name[0] != "_"}
    classes = {name for name in names if isinstance(vars(module)[name], type)}
    return {n for n in classes if issubclass(vars(module)[n], base) and vars(module)[n] is not base}


def test_the_table_has_every_layer_loss_optimizer_schedule_and_average():
    table = trainings.TRAININGS.values()
    assert parts_of(layers.Layer) == public(layers, layers.Layer) - {"Activation"}
    assert {type(t.loss).__name__ for t in table} == public(losses, losses.Loss)
    made = {type(t.optimizer()).__name__ for t in table}
    assert made == public(optimizers, optimizers.Optimizer)
    named = {type(make()).__name__ for make in trainings.SCHEDULES.values()}
    assert named == public(schedules, schedules.Schedule)
    averages = {type(t.fit()["average"]).__name__ for t in table if "average" in t.fit()}
    assert averages == public(weight_averages, weight_averages.WeightAverage)
    assert any(t.fit().get("accumulate") for t in table)
    assert any(t.optimizer().clip_norm for t in table)
    assert any(t.optimizer().clip_value for t in table)
    assert {*fastnn.initializers.INITIALIZERS} - {"zeros"} == {
        "normal", "xavier", "he", "xavier_uniform", "he_uniform", "orthogonal",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name, dtype", [(name, dtype) for name, t in trainings.TRAININGS.items() for dtype in t.dtypes]
)
def test_trainings_learn_something_finite(name, dtype, monkeypatch):
    parts = []
    monkeypatch.setattr(trainings, "digest", lambda *arrays: parts.append(arrays) or "-")
    trainings.hashes(trainings.TRAININGS[name], dtype)
    assert len(parts) == len(trainings.PARTS)
    assert all(np.isfinite(array).all() for arrays in parts for array in arrays)
    assert all(np.any(array) for array in parts[1]), "gradients of 0"


def changed(text, kind, name, at):
    """The published hashes with another digit in one."""
    hashes = json.loads(text)
    its = hashes[kind][name].split()
    its[at] = ("1" if its[at][0] == "0" else "0") + its[at][1:]
    hashes[kind][name] = " ".join(its)
    return hashes


@pytest.fixture
def quick(monkeypatch):
    """One setting, two trainings."""
    some = {name: trainings.TRAININGS[name] for name in ("table", "sequences")}
    monkeypatch.setattr(trainings, "TRAININGS", some)
    monkeypatch.setattr(verify, "THREADS", (1,))
    monkeypatch.setattr(verify.runtimes, "built", lambda: ["own"])


PUBLISHED = (ROOT / "fastnn" / "commands" / "hashes.json").read_text()


def test_the_same_bits(quick, capsys):
    before = _kernels.get_isa()
    assert cli.main(["verify"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("The same bits as everywhere.\n") and "differs" not in out and err == ""
    assert all(isa in out for isa in _kernels.isa_levels()) and _kernels.get_isa() == before


@pytest.mark.parametrize("at, part", [*enumerate(trainings.PARTS)])
def test_where_bits_part(at, part, quick, capsys, monkeypatch):
    hashes = changed(PUBLISHED, "portable", "sequences, float64", at)
    monkeypatch.setattr(verify, "published", lambda: hashes)
    assert cli.main(["verify"]) == 1
    out, _ = capsys.readouterr()
    line = f"differs: sequences, float64, first in: {part}, on 1 thread\n"
    assert out.count("differs:") == 1 and line in out and "portable" in out.split(line)[0]
    assert out.endswith("Not the same bits: compiled code differs from that of other machines.\n")


def test_where_the_library_of_openmp_is_missing(quick, capsys, monkeypatch):
    """As in small images of Linux: the extension is there, what it links to is not."""

    def import_module(name):
        raise ImportError("libgomp.so.1: cannot open shared object file")

    monkeypatch.delitem(sys.modules, "fastnn._openmp", raising=False)
    monkeypatch.setattr(verify.runtimes, "import_module", import_module)
    monkeypatch.setattr(verify.runtimes, "built", lambda: ["own", "openmp"])
    assert cli.main(["verify"]) == 0
    out, _ = capsys.readouterr()
    assert out.count("openmp") == 1 and "openmp                left out: its library is not" in out
    assert out.endswith("The same bits as everywhere.\n")


def test_what_is_not_published_differs(quick, capsys, monkeypatch):
    hashes = json.loads(PUBLISHED)
    del hashes["portable"]["table, float32"]
    monkeypatch.setattr(verify, "published", lambda: hashes)
    assert cli.main(["verify"]) == 1
    assert "differs: table, float32, on 1 thread\n" in capsys.readouterr().out


def test_another_numpy(quick, capsys, monkeypatch):
    hashes = changed(PUBLISHED, "numpy", "splits", 0)
    monkeypatch.setattr(verify, "published", lambda: hashes)
    assert cli.main(["verify"]) == 1
    out, _ = capsys.readouterr()
    assert "differs: splits\n" in out
    assert out.endswith(f"but not from a seed: NumPy {np.__version__} differs.\n")


def test_another_bit_is_another_hash():
    x = np.ones(1000, np.float32)
    y = x.copy()
    y[-1] = np.nextafter(y[-1], np.float32(2))
    assert trainings.digest(x) != trainings.digest(y)


@pytest.mark.skipif(_kernels.isa_levels() == ["portable"], reason="has only half of the hashes")
def test_the_file_is_what_hashes_prints(capsys):
    assert cli.main(["verify", "--hashes"]) == 0
    assert capsys.readouterr().out == PUBLISHED, HOW


def test_without_fused_multiply_adds_there_is_nothing_to_publish(capsys, monkeypatch):
    monkeypatch.setattr(_kernels, "isa_levels", lambda: ["portable"])
    assert cli.main(["verify", "--hashes"]) == 2
    assert "no instruction set with fused multiply-adds" in capsys.readouterr().err
