"""Files that are damaged, forged or cut off, and disks that fail: the error names the file, and
nothing is left half written or half read."""

import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import (
    SGD,
    Adam,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    History,
    Momentum,
    ReLU,
    Residual,
    Sequential,
    Standardizer,
)
from forged import made_up, pack, refused, tensor, unpack
from paths import import_path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


# ---- the format ----


TWICE = b'{"a":{"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
FILES = {
    "empty": (b"", "0 bytes are too few"),
    "7 bytes": (b"\2\0\0\0\0\0\0", "7 bytes are too few"),
    "no header": (bytes(8), "its header is not JSON"),
    "header of 2^64 - 1": (b"\xff" * 8 + b"{}", "claims 18446744073709551615 bytes, expected at "),
    "header behind the file": (b"\3" + bytes(7) + b"{}", "claims 3 bytes, expected at most 2"),
    "not UTF-8": (pack(b'{"\xff":1}'), "its header is not UTF-8"),
    "not JSON": (pack(b"{'a': 1}"), "its header is not JSON: Expecting property name"),
    "NaN": (pack(b'{"a":NaN}'), "its header is not JSON: NaN is no JSON number"),
    "a list": (pack(b"[]"), "its header: expected a JSON object, found list"),
    "deep lists": (pack(b"[" * 100_000), "its header is nested too deeply"),
    "deep objects": (pack(b'{"a":' * 100_000), "its header is nested too deeply"),
    "a tensor twice": (pack(b'{"a":1,"a":1}'), "the key 'a' stands there twice"),
    "a dtype twice": (pack(TWICE), "the key 'dtype' stands there twice"),
    "a huge integer": (pack(b"1" * 5000), "its header is not JSON: Exceeds the limit"),
    "no object": (pack({"a": 1}), "tensor 'a': expected an object of data_offsets, dtype, shape"),
    "no shape": (pack({"a": {"dtype": "F32"}}), "tensor 'a': expected an object of data_offsets"),
    "more": (pack({"a": tensor() | {"b": 1}}), "tensor 'a': expected an object of data_offsets"),
    "unknown dtype": (pack({"a": tensor("F33")}, bytes(8)), "tensor 'a': unknown dtype 'F33'"),
    "dtype of none": (pack({"a": tensor(["F32"])}, bytes(8)), "unknown dtype"),
    "negative shape": (pack({"a": tensor(shape=[-2])}, bytes(8)), r"integers >= 0, found \[-2\]"),
    "fractional shape": (pack({"a": tensor(shape=[2.0])}, bytes(8)), r"found \[2.0\]"),
    "bool shape": (pack({"a": tensor(shape=[2, True])}, bytes(8)), r"found \[2, True\]"),
    "65 dimensions": (pack({"a": tensor(shape=[1] * 65)}, bytes(4)), "expected a shape"),
    "shape overflows": (pack({"a": tensor(shape=[2**40, 2**40])}, bytes(8)), "overflows"),
    "empty, overflows": (pack({"a": tensor(shape=[0, 2**70], offsets=(0, 0))}), "overflows"),
    "offsets overflow": (pack({"a": tensor(offsets=(2**70, 2**70))}), "overflows"),
    "one offset": (pack({"a": tensor(offsets=[0])}, bytes(8)), "expected two offsets >= 0"),
    "negative offset": (pack({"a": tensor(offsets=[-8, 0])}, bytes(8)), "expected two offsets"),
    "reversed": (pack({"a": tensor(offsets=(8, 0))}, bytes(8)), "offsets 8 and 0 are reversed"),
    "other size": (pack({"a": tensor(shape=[3])}, bytes(8)), r"takes 12 bytes, but .* hold 8"),
    "overlap": (pack({"a": tensor(), "b": tensor(offsets=(4, 12))}, bytes(12)), "'b' overlaps"),
    "the same place": (pack({"a": tensor(), "b": tensor()}, bytes(8)), "'b' overlaps"),
    "hole": (pack({"a": tensor(), "b": tensor(offsets=(9, 17))}, bytes(17)), "'b' leaves a hole"),
    "hole at first": (pack({"a": tensor(offsets=(4, 12))}, bytes(12)), "'a' leaves a hole"),
    "trailing": (pack({"a": tensor()}, bytes(9)), "1 bytes trailing"),
    "missing": (pack({"a": tensor()}, bytes(7)), "1 bytes missing"),
    "metadata of numbers": (pack({"__metadata__": {"a": 1}}), "__metadata__: expected an object"),
    "metadata of none": (pack({"__metadata__": None}), "__metadata__: expected an object"),
    "another's": (pack({"a": tensor()}, bytes(8)), "no file of fastnn's: its metadata have no"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_refused_with_its_reason(name, path):
    file, message = FILES[name]
    for load in (fastnn.load, fastnn.load_checkpoint):
        refused(path, file, message, load)


def test_nothing_is_allocated_by_the_headers_word(path):
    """No memory is asked for 2^50 bytes that a header or layers claim."""
    header = {"a": tensor(shape=[2**48], offsets=(0, 2**50))}
    refused(path, pack(header, bytes(64)), f"{2**50 - 64} bytes missing")
    for layer in ({"type": "Dense", "in_features": 2**40, "out_features": 2**20},
                  {"type": "BatchNorm", "features": 2**56},
                  {"type": "Residual", "layers": [{"type": "BatchNorm", "features": 2**50}]},
                  {"type": "Embedding", "n": 2**23, "features": 2**50}):  # fmt: skip
        refused(path, made_up(layers=[layer]), "tensors: missing 0")


def test_the_files_of_others_cannot_be_loaded_as_models(path):
    from safetensors.numpy import save_file

    save_file({"0.weight": np.zeros((2, 2), np.float32)}, path)
    with pytest.raises(ValueError, match="no file of fastnn's"):
        fastnn.load(path)


# ---- its content ----


def test_the_file_that_the_others_are_made_of_is_good(path):
    path.write_bytes(made_up())
    assert repr(fastnn.load(path)) == repr(Sequential(ReLU()))


DENSE = {"type": "Dense", "in_features": 2, "out_features": 2}
LAYERS = {
    "unknown": ({"type": "Transformer"}, "layer 0: 'Transformer' is unknown to this version"),
    "code": ({"type": "os.system"}, "layer 0: 'os.system' is unknown"),
    "a base class": ({"type": "Layer"}, "layer 0: 'Layer' is unknown"),
    "an optimizer": ({"type": "SGD", "learning_rate": 1}, "layer 0: 'SGD' is unknown"),
    "an initializer": ({"type": "He"}, "layer 0: expected a layer with forward and backward"),
    "no type": ({}, "layer 0: expected an object with a type, found {}"),
    "a list": ([], r"layer 0: expected an object with a type, found \[\]"),
    "type of none": ({"type": ["ReLU"]}, "layer 0: expected an object with a type"),
    "missing": ({"type": "Dense"}, "layer 0, Dense: missing in_features, out_features"),
    "unknown argument": ({"type": "ReLU", "alpha": 1}, "layer 0, ReLU: unknown alpha"),
    "rate": ({"type": "Dropout", "rate": 2}, r"layer 0, Dropout: rate: expected .* got 2.0"),
    "text": ({"type": "Dropout", "rate": "0.5"}, "layer 0, Dropout: rate: expected a number"),
    "huge": ({"type": "Dropout", "rate": 10**400}, "layer 0, Dropout: rate: expected a number"),
    "bool": ({**DENSE, "in_features": True}, "in_features: expected an integer >= 1, got True"),
    "float": ({**DENSE, "in_features": 2.0}, "in_features: expected an integer >= 1, got 2.0"),
    "negative": ({**DENSE, "out_features": -2}, "out_features: expected an integer >= 1, got -2"),
    "activation": ({**DENSE, "activation": "exp"}, "activation: expected one of linear, relu"),
    "no activation": ({**DENSE, "activation": {"type": "He"}}, "activation: expected one of"),
    "bias": ({**DENSE, "bias": None}, "bias: expected True or False"),
    "start": ({**DENSE, "weight_init": {"type": "Normal", "std": -1}}, "Normal: std: expected a"),
    "inner": ({"type": "Residual", "layers": [{"type": "X"}]}, "layer 0.0: 'X' is unknown"),
    "no list": ({"type": "Residual", "layers": 3}, "Residual: expected a list of layers, found 3"),
    "none inside": ({"type": "Residual", "layers": []}, "Residual: layers: expected at least one"),
    "no shortcut": ({"type": "Residual", "layers": [{"type": "ReLU"}], "shortcut": 3}, "shortcut"),
    "frozen": ({**DENSE, "trainable": 0}, "layer 0, Dense: trainable: expected True or False"),
    "l1": ({**DENSE, "l1": -1}, "layer 0, Dense: l1: expected a finite number >= 0"),
    "kernel": ({"type": "MaxPool2D", "kernel_size": [2, 2, 2]}, "kernel_size: expected an integer"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_that_cannot_be_is_named(name, path):
    layer, message = LAYERS[name]
    refused(path, made_up(layers=[layer]), message)


MODELS = {
    "layers follow": ({"layers": [DENSE, {**DENSE, "in_features": 3}]}, "layer 1, .* takes 3"),
    "no layers": ({"layers": []}, "layers: expected at least one, got none"),
    "layers of none": ({"layers": None}, "layers: expected a list, found None"),
    "dtype": ({"dtype": "float16"}, "dtype: expected one of float32, float64, got 'float16'"),
    "seed": ({"seed": 2**64}, "seed: expected an integer from 0"),
    "l1": ({"l1": -1}, "l1: expected a finite number >= 0"),
    "l2": ({"l2": -1}, "l2: expected a finite number >= 0"),
    "passes": ({"passes": -1}, "passes: expected an integer from 0"),
    "more": ({"more": 1}, "model: unknown more"),
    "too many layers": ({"layers": [{"type": "ReLU"}] * 40_001}, "at most 10000 layers"),
    "version": ({"text": '{"format": 2}'}, "format 2 is newer than this fastnn reads, 1"),
    "no version": ({"text": "{}"}, "format: expected a version number, found None"),
    "version of none": ({"text": '{"format": true}'}, "format: expected a version number"),
    "no model": ({"text": '{"format": 1, "order": 2}'}, "its architecture: missing model"),
    "more parts": ({"text": '{"format": 1, "model": 2, "code": 3}'}, "architecture: unknown code"),
    "model of none": ({"text": '{"format": 1, "model": 2}'}, "model: expected an object, found 2"),
    "infinite": ({"text": '{"format": Infinity}'}, "its architecture is not JSON: Infinity is no"),
    "twice": ({"text": '{"format": 1, "format": 1}'}, "the key 'format' stands there twice"),
    "not JSON": ({"text": "model"}, "its architecture is not JSON"),
    "deep": ({"text": '{"a":' * 100_000}, "its architecture is nested too deeply"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_cannot_be_is_refused(name, path):
    change, message = MODELS[name]
    refused(path, made_up(**change), message)


@pytest.mark.parametrize("depth", [400, 5000])
def test_layers_nested_too_deeply_are_refused(depth, path):
    layers = '{"type":"Residual","layers":[' * depth + '{"type":"ReLU"}' + "]}" * depth
    model = f'"layers":[{layers}],"dtype":"float32","seed":0,"l2":0,"passes":0'
    refused(path, made_up(text='{"format":1,"model":{' + model + "}}"), "nested too deeply")


def test_one_error_lists_all_tensors_that_are_wrong(path):
    model = Sequential(Dense(2, 3), BatchNorm(3))
    model.save(path)
    header, data = unpack(path.read_bytes())
    header["0.scale"] = header.pop("0.weight")
    header["1.gamma"]["shape"] = [3, 1]
    refused(
        path, pack(header, data), r"tensors: missing 0\.weight; unknown 0\.scale; of another kind "
        r"1\.gamma expected float32 \(3,\), found float32 \(3, 1\)",
    )  # fmt: skip


def test_tensors_of_another_dtype_are_refused(path):
    Sequential(BatchNorm(2), dtype="float64").save(path)
    file = path.read_bytes().replace(b"float64", b"float32")
    refused(path, file, r"0.gamma expected float32 \(2,\), found float64 \(2,\)")


TRAININGS = {
    "unknown rule": (("optimizer", "rule", "type"), "Lion", "optimizer: 'Lion' is unknown"),
    "a layer as rule": (("optimizer", "rule"), {"type": "ReLU"}, "optimizer: 'ReLU' is unknown"),
    "rate": (("optimizer", "rule", "learning_rate"), -1, "learning_rate: expected a finite number"),
    "tiny": (("optimizer", "rule", "eps"), 1e-60, "eps: 1e-60 is 0 in float32"),
    "beta": (("optimizer", "rule", "beta1"), 1, r"Adam: beta1: expected a number in \[0, 1\)"),
    "steps": (("optimizer", "steps"), 0.5, "optimizer: steps: expected an integer"),
    "most steps": (("optimizer", "steps"), 2**60, "optimizer: steps: expected an integer"),
    "bound": (("optimizer", "bound"), 1, "optimizer: bound: expected True or False"),
    "not bound": (("optimizer", "bound"), False, "tensors: unknown optimizer.mean.0.bias, "),
    "other rule": (("optimizer", "rule"), {"type": "SGD", "learning_rate": 1}, "unknown optimi"),
    "rule of none": (("optimizer",), None, "optimizer: expected an object, found None"),
    "factors": (("optimizer", "rule", "learning_rate_factors"), [1], "learning_rate_factors: exp"),
    "factor": (("optimizer", "rule", "learning_rate_factors"), {"*": -1}, r"'\*': expected a fin"),
    "no match": (("optimizer", "rule", "learning_rate_factors"), {"x": 1}, "'x', which matches no"),
    "average of none": (("average",), None, "average: expected an object, found None"),
    "a rule as average": (("average", "rule"), {"type": "Adam"}, "average: 'Adam' is unknown"),
    "decay": (("average", "rule", "decay"), 1, r"decay: expected a number in \[0, 1\)"),
    "updates": (("average", "updates"), -1, "average: updates: expected an integer"),
    "most updates": (("average", "updates"), 2**60, "average: updates: expected an integer"),
    "no updates": (("average", "updates"), 0, "tensors: unknown average.0.bias, average.0.weight"),
    "applied": (("average", "applied"), 1, "average: applied: expected True or False"),
    "order": (("order", "inc"), 2, "inc: expected an odd number"),
    "order of none": (("order",), [], "state: expected what batches.state_dict"),
    "names": (("history", "names"), ["loss", "more"], "expected a float64 tensor 'history.more'"),
    "no name": (("history", "names"), [], "tensors: unknown history.loss"),
    "twice": (("history", "names"), ["loss", "loss"], "expected a float64 tensor 'history.loss'"),
    "name of none": (("history", "names"), [["loss"]], "history: expected a list of names"),
    "interrupted": (("history", "interrupted"), 2, "interrupted: expected True or False"),
}  # fmt: skip


def training(path):
    model, optimizer = Sequential(Dense(2, 2), Dropout(0.5), seed=0), Adam(clip_norm=1)
    model.forward(np.eye(2), training=True)
    model.backward(np.eye(2))
    optimizer.step(model)
    history, order = History(), fastnn.batches(np.eye(2), [0, 1]).state_dict()
    history.append({"loss": 1.0})
    average = fastnn.ExponentialMovingAverage()
    average.update(model)
    fastnn.save_checkpoint(
        path, model, optimizer, order=order, history=history, average=average
    )  # fmt: skip
    return path.read_bytes()


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_that_cannot_be_is_refused(name, path):
    (*way, last), value, message = TRAININGS[name]
    header, data = unpack(training(path))
    content = part = json.loads(header["__metadata__"]["fastnn"])
    for key in way:
        part = part[key]
    part[last] = value
    header["__metadata__"]["fastnn"] = json.dumps(content)
    refused(path, pack(header, data), message, fastnn.load_checkpoint)


# ---- any other damage ----


def network(path):
    model = Sequential(
        Conv2D(1, 2, 3, padding=1, activation="tanh"), Residual(BatchNorm(2), ReLU()), Flatten(),
        Dense(8, 2, l2=0.5), seed=0,
    )  # fmt: skip
    model.scaler = Standardizer().fit(np.eye(3) + 1)
    model.classes = ["a", "b"]
    model.save(path)
    return path.read_bytes()


VALUES = [None, True, -1, 0, 1, 3, 0.5, 1e308, 2**31, 2**63, 2**64, 10**400, "", "relu", "Dense",
          [], {}, [1, 2], [[]], {"type": "ReLU"}, {"type": "He"}, DENSE]  # fmt: skip


def places(tree):
    """Each dict or list in a tree of them, with each of its keys or indices."""
    for key in range(len(tree)) if isinstance(tree, list) else list(tree):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from places(tree[key])


def damaged_tree(tree, chance):
    holder, key = chance.choice(list(places(tree)))
    if chance.random() < 0.2:
        del holder[key]
    else:
        holder[key] = chance.choice(VALUES)


def damaged_bytes(file, chance):
    file = bytearray(file)
    head = 8 + int.from_bytes(file[:8], "little")
    for _ in range(chance.choice([1, 1, 3])):
        at = chance.randrange(min(head + 16, len(file)) or 1)
        file[at : at + chance.randrange(3)] = chance.choice(
            [b"", b"0", b"9", b"[", b'"', b"\xff", b","]
        )
    return bytes(file[: chance.choice([None, chance.randrange(len(file))])])


def damaged(file, chance):
    kind = chance.randrange(3)
    if kind == 0:
        return damaged_bytes(file, chance)
    header, data = unpack(file)
    if kind == 1:
        damaged_tree(header, chance)
    else:
        content = json.loads(header["__metadata__"]["fastnn"])
        damaged_tree(content, chance)
        header["__metadata__"]["fastnn"] = json.dumps(content)
    return pack(header, data)


@pytest.mark.parametrize("make", [network, training])
def test_whatever_is_damaged_gives_a_value_error_that_names_the_file(make, path):
    file, chance, good = make(path), random.Random(0), 0
    for _ in range(1500):
        path.write_bytes(damaged(file, chance))
        try:
            fastnn.load(path)
            good += 1  # a changed number may be as valid as the old one
        except ValueError as error:
            assert str(error).startswith(f"{path}: ") and len(str(error)) < 3000
    assert good < 300


def test_every_cut_is_found(path):
    file = training(path)
    for length in range(len(file)):
        path.write_bytes(file[:length])
        with pytest.raises(ValueError, match=re.escape(str(path))):
            fastnn.load(path)


# ---- paths that cannot be read ----


@pytest.mark.parametrize("load", [fastnn.load, fastnn.load_checkpoint])
def test_what_cannot_be_read_is_named(load, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        load(tmp_path / "none.safetensors")
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        load(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: expected a regular file"):
        load(tmp_path / "pipe")
    for wrong in (3, None, object()):
        with pytest.raises(TypeError):
            load(wrong)


@pytest.mark.parametrize("name", ["model", "mödel ☃", "a b", "-"])
def test_any_name_and_kind_of_path_will_do(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = Sequential(ReLU())
    for path in (name, str(tmp_path / name), tmp_path / name, os.fsencode(name)):
        model.save(path)
        assert repr(fastnn.load(path)) == repr(model)
        assert os.listdir(tmp_path) == [name]
        os.unlink(path)


# ---- writing ----


def model_of(seed):
    return Sequential(Dense(50, 100), seed=seed)


def assert_holds(path, model):
    assert (fastnn.load(path).flat_parameters == model.flat_parameters).all()
    left = [p.name for p in path.parent.iterdir() if p.name.startswith(".")]
    assert left == [], "a temporary file was left"


def test_saving_where_nothing_can_be_written(tmp_path):
    model, missing = Sequential(ReLU()), tmp_path / "missing" / "file"
    with pytest.raises(FileNotFoundError, match=re.escape(repr(str(missing)))):
        model.save(missing)
    with pytest.raises(IsADirectoryError, match=re.escape(repr(str(tmp_path)))):
        model.save(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="file"):
        model.save(tmp_path / "file" / "file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"Not a regular file: .*pipe"):
        model.save(tmp_path / "pipe")
    with pytest.raises(OSError, match="Not a regular file: '/dev/null'"):
        model.save("/dev/null")
    with pytest.raises(OSError, match="long"):
        model.save(tmp_path / ("long" * 100))
    assert sorted(os.listdir(tmp_path)) == ["file", "pipe"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_saving_without_permission(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "file"
    model_of(0).save(path)
    path.chmod(0o444)
    with pytest.raises(PermissionError, match="file"):
        model_of(1).save(path)
    folder.chmod(0o555)
    with pytest.raises(PermissionError, match="other"):
        model_of(1).save(folder / "other")
    folder.chmod(0o755)
    assert_holds(path, model_of(0))


@pytest.fixture(params=["a file without a name", "a file with a name"])
def temporary(request, monkeypatch):
    """The two ways to write a file that is not yet whole; the first where there are such files."""
    if request.param == "a file with a name":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    return request.param


@pytest.mark.parametrize("what", ["fsync", "replace", "fchmod", "link"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_on_the_way_leaves_the_old_file(what, error, temporary, path, monkeypatch):
    if what == "link" and not has_unnamed(path.parent):
        pytest.skip("nothing is linked")
    model_of(0).save(path)

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(os, what, fail)
    with pytest.raises(type(error)) as caught:
        model_of(1).save(path)
    if isinstance(error, OSError):
        assert (caught.value.errno, caught.value.filename) == (28, str(path))
    monkeypatch.undo()
    assert_holds(path, model_of(0))


FULL = """
import resource, sys
sys.path[:0] = sys.argv[2:]
import fastnn
from test_safefile import model_of
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    model_of(1).save(sys.argv[1])
except OSError as error:
    print(error.errno, error.filename)
"""


def run(program, *arguments, **options):
    command = [sys.executable, "-c", program, *map(str, arguments), *import_path(__file__)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, **options)


def test_a_full_disk_leaves_the_old_file(path):
    model_of(0).save(path)
    out, _ = run(FULL, path).communicate(timeout=60)
    assert out.split() == ["27", str(path)]  # EFBIG: a limit on files' size stands for a full disk
    assert_holds(path, model_of(0))
    path.unlink()
    run(FULL, path).communicate(timeout=60)
    assert os.listdir(path.parent) == []


LITTLE_MEMORY = """
import os, resource, signal, sys
work = sys.argv.pop(2)
sys.path[:0] = sys.argv[2:]
import safetensors.numpy
import fastnn
from test_safefile import large

model, ends = large(), []
works = {"save": lambda: model.save(sys.argv[1]), "load": lambda: fastnn.load(sys.argv[1])}
for more in (8, 20, 28, 36, 44, 60, 200):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        with open("/proc/self/statm") as file:
            limit = int(file.read().split()[0]) * resource.getpagesize() + more * 10**6
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            works[work]()
            os._exit(0)
        except MemoryError:
            os._exit(3)
    ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(*ends)
"""


def large():
    return Sequential(Dense(2000, 2000), seed=0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("work", ["save", "load"])
def test_where_memory_cannot_be_had_a_memory_error_says_so(work, path):
    """The library aborts there, or hangs."""
    large().save(path)
    out, _ = run(LITTLE_MEMORY, path, work).communicate(timeout=200)
    *ends, enough = map(int, out.split())
    assert enough == 0 and set(ends) <= {0, 3} and 3 in ends, out
    assert_holds(path, large())


SAVING = """
import sys
sys.path[:0] = sys.argv[2:]
from test_safefile import model_of
models = [model_of(seed) for seed in (0, 1)]
models[0].save(sys.argv[1])
print("begun", flush=True)
while True:
    for model in models:
        model.save(sys.argv[1])
"""


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[2:]
from test_safefile import model_of
model_of(0).save(sys.argv[1])
fsync = os.fsync

def fsync_and_die(file):
    fsync(file)
    os.kill(os.getpid(), signal.SIGKILL)

os.fsync = fsync_and_die
model_of(1).save(sys.argv[1])
"""


def has_unnamed(folder):
    """Whether files without names can be in this folder, and get one."""
    descriptor = fastnn.files.safefile._unnamed(str(folder))
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def test_a_process_killed_before_the_file_is_whole_leaves_nothing(path):
    if not has_unnamed(path.parent):
        pytest.skip("this file system has no files without names")
    process = run(KILLED, path)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert_holds(path, model_of(0))


def test_without_files_without_names_nothing_is_left_either(path, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    for seed in (0, 1):
        model_of(seed).save(path)
        assert_holds(path, model_of(seed))


def test_a_killed_process_leaves_the_old_file_or_the_new(path):
    expected, chance = [model_of(seed).flat_parameters for seed in (0, 1)], random.Random(0)
    for _ in range(6):
        process = run(SAVING, path)
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.05 * chance.random())
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        parameters = fastnn.load(path).flat_parameters
        assert any((parameters == one).all() for one in expected)


def test_the_data_are_on_the_disk_before_the_name(path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("replace"), replace(*names)))
    model_of(0).save(path)
    assert calls == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_of_any_new_file_and_stay(mask, temporary, path):
    before = os.umask(mask)
    try:
        model_of(0).save(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
        path.chmod(0o640)
        model_of(1).save(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(before)


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(Path("folder") / "model")
    for seed in (0, 1):  # the link's target does not exist at first
        model_of(seed).save(link)
        assert link.is_symlink() and os.listdir(folder) == ["model"]
        assert_holds(folder / "model", model_of(seed))
    circle = tmp_path / "circle"
    circle.symlink_to("circle")
    with pytest.raises(OSError, match="circle"):
        model_of(0).save(circle)


def test_no_other_thread_may_train_what_is_saved(path):
    import threading

    model, errors = model_of(0), []
    with model.exclusive("training"):

        def save():
            for write in (model.save, lambda path: fastnn.save_checkpoint(path, model, SGD(0.1))):
                with pytest.raises(RuntimeError) as caught:
                    write(path)
                errors.append(caught.value)

        thread = threading.Thread(target=save)
        thread.start()
        thread.join()
        model.save(path)  # the thread that trains may
    assert len(errors) == 2 and "save" in str(errors[0])


def test_a_model_too_large_for_a_header_is_not_written(path, monkeypatch):
    monkeypatch.setattr(fastnn.files.safefile, "_LONGEST_HEADER", 100)
    with pytest.raises(ValueError, match="its header would have"):
        model_of(0).save(path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="model: expected at most 10000 layers, got 10001"):
        Sequential(*(ReLU() for _ in range(10_001))).save(path)
    assert not path.exists()


def test_momentum_is_kept_by_parameter(path):
    """Other readers find an optimizer's state under the parameters' names and shapes."""
    model, optimizer = Sequential(Dense(2, 3)), Momentum(0.1)
    model.forward(np.eye(2), training=True)
    model.backward(np.ones((2, 3)))
    optimizer.step(model)
    fastnn.save_checkpoint(path, model, optimizer)
    header, _ = unpack(path.read_bytes())
    assert header["optimizer.velocity.0.weight"]["shape"] == [2, 3]
