"""Every reader of files: good files to begin with, a way to damage one that leaves its frame whole,
and how to read it.

A damage that a length or a checksum gives away at once never gets behind it, and so the frames
(safetensors, zip, gzip) are opened, damaged within and closed again."""

import gzip
import io
import json
import re
import sys
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path.append(str(TESTS / "helpers"))

import fastnn  # noqa: E402
import fastnn.keras  # noqa: E402
import fastnn.torch  # noqa: E402
import onnx_graphs  # noqa: E402
import passengers  # noqa: E402
import tables  # noqa: E402
from fastnn import Conv1D, Dense, Dropout, Embedding, Flatten, Residual, Sequential  # noqa: E402
from fastnn.commands import data, trained  # noqa: E402
from fastnn.commands import tables as files_of_rows  # noqa: E402
from fastnn.sklearn import TabularClassifier, TabularRegressor  # noqa: E402
from forged import damaged_tree, pack, unpack  # noqa: E402

LARGEST = 99  # a number in a layer up to which a network is run, too: larger ones only take time


class Reader(NamedTuple):
    """`seeds` makes good files, in a folder where it may put what these need; `read` takes a path;
    `damage` takes a file, a function that changes some of its bytes, and a random.Random."""

    file: str  # its name
    seeds: Callable
    read: Callable
    damage: Callable
    by_folder: bool = False  # errors name the folder or the file


def run(model):
    """Predict a few rows: what a file says of its layers gets to the kernels."""
    if all(int(n) <= LARGEST for n in re.findall(r"\d+", repr(model.layers))):
        for shape in ((2, 4), (2, 6, 7, 4), (2, 9, 4)):
            try:
                with np.errstate(all="ignore"):
                    model.predict(np.ones(shape, model.dtype))
            except ValueError:  # rows of another shape
                continue
    return model


# ---- files in the safetensors format -------------------------------------------------------------


def damage_safe(file, change, chance):
    """A change of the bytes, of the header, of a value in it, or of the JSON in its metadata."""
    kind = chance.randrange(4)
    try:
        header, numbers = unpack(file)
        if kind == 0:
            return change(file)
        if kind == 1:
            return pack(change(json.dumps(header).encode()), numbers)
        metadata = header.get("__metadata__")
        if kind == 2 or not metadata:
            damaged_tree(header, chance)
            return pack(header, numbers)
        key = chance.choice(list(metadata))
        if chance.random() < 0.3:
            metadata[key] = change(metadata[key].encode()).decode("utf-8", "replace")
        else:
            content = json.loads(metadata[key])
            damaged_tree(content, chance)
            metadata[key] = json.dumps(content)
        return pack(header, numbers)
    except (ValueError, AttributeError, IndexError, TypeError, RecursionError):  # no frame is left
        return change(file)


def models(folder):
    path, networks = folder / "seed", []
    networks += [Sequential(make(4), seed=0) for make in tables.LAYERS.values()]
    networks += [Sequential(make(4), seed=0) for make in tables.IMAGE_LAYERS.values()]
    model = Sequential(Embedding(5, 3), Flatten(), Dense(12, 2, l2=0.5), seed=0, dtype="float64")
    model.scaler = fastnn.TableEncoder(max_one_hot=2).fit([[1.0, "a"], [2.0, "b"], [None, None]])
    model.target_scaler = fastnn.Standardizer().fit(np.eye(2) + 1)
    model.classes = ["a", "b"]
    found = []
    for network in (*networks, model):
        network.save(path)
        found.append(path.read_bytes())
    return found


def checkpoints(folder):
    path, found = folder / "seed", []
    X, y = np.eye(4), np.arange(4) % 2
    for optimizer, average in (
        (fastnn.Adam(clip_norm=1), fastnn.ExponentialMovingAverage(0.9)),
        (fastnn.Nesterov(0.1, learning_rate_factors={"*.bias": 2}), None),
    ):
        model = Sequential(Dense(4, 3), Residual(fastnn.BatchNorm(3)), Dropout(0.5), Dense(3, 2))
        model.fit(
            X, y, loss=fastnn.SoftmaxCrossEntropy(), optimizer=optimizer, epochs=3, progress=False,
            validation_data=(X, y), average=average,
            callbacks=[fastnn.ModelCheckpoint(path), fastnn.EarlyStopping(restore_best=True)],
        )  # fmt: skip
        found.append(path.read_bytes())
    return found


def estimators(folder):
    path, found = folder / "seed", []
    X = np.array([[float(i % 5), f"c{i % 3}"] for i in range(40)], object)
    y = np.arange(40) % 2
    small = {"hidden_layer_sizes": (3,), "max_iter": 2, "random_state": 0}
    for estimator in (
        TabularClassifier(**small, n_ensembles=2).fit(X, np.where(y, "yes", "no")),
        TabularRegressor(**small, n_ensembles=1).fit(X, np.arange(40.0)),
    ):
        estimator.save(path)
        found.append(path.read_bytes())
    return found


def read_estimator(path):
    """By the class that the file is of, and as the commands read it."""
    its = trained.read(path)
    kind = TabularRegressor if its.classes is None else TabularClassifier
    return kind.load(path)


def states(folder):
    return [(TESTS / f"torch/data/{name}.safetensors").read_bytes() for name in TAKERS]


TAKERS = {  # models that take the state dicts of tests/torch/data
    "codes": Sequential(
        Embedding(7, 3), Conv1D(3, 4, 3, dilation=2), fastnn.Sigmoid(), Flatten(), Dense(20, 2)
    ),
    "numbered": Sequential(*(Dense(4, 4) for _ in range(6)), Dense(4, 4, bias=False)),
}


def read_state(path):
    """Into each model; what one refuses, another may take.  One that refuses stays as it is."""
    errors = []
    for model in TAKERS.values():
        before = model.flat_parameters.tobytes()
        try:
            return fastnn.torch.load_state_dict(model, path)
        except ValueError as error:
            errors.append(error)
        if model.flat_parameters.tobytes() != before:
            raise AssertionError("a file that is refused has changed the model")
    raise errors[-1]


# ---- archives ------------------------------------------------------------------------------------


def damage_zip(file, change, chance):
    """A change of the archive's bytes, or of a member's, whose checksum is then right again."""
    if chance.random() < 0.3:
        return change(file)
    try:
        with zipfile.ZipFile(io.BytesIO(file)) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
    except Exception:  # of zipfile and zlib, many kinds
        return change(file)
    if not members:
        return change(file)
    name = chance.choice(list(members))
    members[name] = damage_member(name, members[name], change, chance)
    method = chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def damage_member(name, content, change, chance):
    if name.endswith(".json") and chance.random() < 0.8:
        try:
            tree = json.loads(content)
            damaged_tree(tree, chance)
            return json.dumps(tree).encode()
        except (ValueError, IndexError, TypeError, RecursionError):
            return change(content)
    if name.endswith(".npy"):  # the header is short, and what follows are numbers
        return change(content[:128]) + content[128:]
    return change(content)


def npz_states(folder):
    return [(TESTS / f"torch/data/{name}.npz").read_bytes() for name in TAKERS]


def npz_rows(folder):
    found = []
    for save in (np.savez, np.savez_compressed):
        for X, y in (
            (np.eye(6, dtype=">f4"), np.arange(6)),
            (np.asfortranarray(np.eye(6)[:, :4]), np.array(list("ababab"))),
            (np.arange(24, dtype=np.uint8).reshape(6, 2, 2), np.arange(6.0)[:, None]),
        ):
            buffer = io.BytesIO()
            save(buffer, x_train=X, y_train=y, x_test=X, y_test=y)
            found.append(buffer.getvalue())
    return found


def keras_files(folder):
    return [(TESTS / "keras/data/codes.keras").read_bytes()]


def keras_weights(folder):
    return [(TESTS / "keras/data/straight.weights.h5").read_bytes()]


STRAIGHT = Sequential(*(Dense(4, 4, activation="tanh") for _ in range(3)))


def read_keras_weights(path):
    before = STRAIGHT.flat_parameters.tobytes()
    try:
        fastnn.keras.load_weights(STRAIGHT, path)
    except ValueError:
        if STRAIGHT.flat_parameters.tobytes() != before:
            raise AssertionError("a file that is refused has changed the model") from None
        raise


# ---- rows ----------------------------------------------------------------------------------------


def plain(file, change, chance):
    return change(file)


def header(*shape):
    return bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)


def idx_files(folder):
    """The images to train on; the other three files stay good."""
    images, labels = header(3, 2, 2) + bytes(range(12)), header(3) + bytes(range(3))
    (folder / "train-labels-idx1-ubyte").write_bytes(labels)
    (folder / "t10k-images-idx3-ubyte").write_bytes(images)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(labels)
    return [images, gzip.compress(images, mtime=0)]


def damage_gzip(file, change, chance):
    if file[:2] != b"\x1f\x8b" or chance.random() < 0.5:
        return change(file)
    try:
        return gzip.compress(change(gzip.decompress(file)), mtime=0)
    except Exception:  # of gzip and zlib, several kinds
        return change(file)


def csv_files(folder):
    passengers.write(folder / "seed", rows=6)
    table = (folder / "seed").read_text()
    return [
        table.encode(),
        table.replace(",", ";").replace(".", ",").encode(),
        "\ufeffa\tb\tsurvived\r\n1\t\t0\r\nNA\tx\t1\r\n".encode(),
        b'"a\nb",survived\n"1",2\n"x ""y""",3\n\n',
        b"a|survived\n 1e5|1\nnan|0\n-inf|1\n2024-01-02|0\n",
    ]


WORDS = [
    b",",
    b";",
    b"\t",
    b'"',
    b"\n",
    b"\r",
    b"\0",
    b"NA",
    b"1e999",
    b"-1",
    b"inf",
    b"\xff",
    b"_",
]


def damage_csv(file, change, chance):
    if chance.random() < 0.5:
        return change(file)
    at = chance.randrange(len(file) + 1)
    return file[:at] + chance.choice(WORDS) + file[at + chance.randrange(4) :]


def options(path, **more):
    arguments = {"target": "survived", "drop": [], "use": [], "categorical": [], "test": None}
    return Namespace(data=path, encoding="utf-8", **arguments | more)


def read_csv(path):
    """As ``fastnn predict`` reads it, and as ``fastnn train`` does until it begins to train."""
    for part in files_of_rows.parts(path):
        for name in part.columns:
            part.texts(name)
            if part.numbers(name) is None:
                part.wrong(name)
    return read_rows(path, options(path))


def read_rows(path, its=None):
    found = data.read(its or options(path, target=None), lambda text: None)
    goal = data.goal(found.y, None, found.target)
    return goal.targets(found.y, path)


# ---- ONNX ----------------------------------------------------------------------------------------


def onnx_files(folder):
    paths = sorted((TESTS / "onnx/strangers").glob("*.onnx"))
    refused = "sklearn_values.onnx"  # by tests/onnx/test_strangers.py
    return [path.read_bytes() for path in paths if path.name != refused]


def damage_onnx(file, change, chance):
    """A change of the bytes, or of a number, name or operator of the graph."""
    if chance.random() < 0.4:
        return change(file)
    try:
        return onnx_graphs.mutated(file, np.random.default_rng(chance.randrange(2**32)))
    except Exception:  # what protobuf and NumPy say of a graph without a part
        return change(file)


READERS = {
    "model": Reader(
        "net.safetensors", models, lambda path: run(fastnn.load(path)), damage_safe
    ),
    "checkpoint": Reader(
        "net.safetensors", checkpoints, lambda path: run(fastnn.load_checkpoint(path).model),
        damage_safe,
    ),
    "estimator": Reader("net.safetensors", estimators, read_estimator, damage_safe),
    "idx": Reader(
        "train-images-idx3-ubyte", idx_files, lambda path: fastnn.datasets.idx(Path(path).parent),
        damage_gzip, by_folder=True,
    ),
    "onnx": Reader("net.onnx", onnx_files, lambda path: run(fastnn.onnx.load(path)), damage_onnx),
    "torch-safetensors": Reader("state.safetensors", states, read_state, damage_safe),
    "torch-npz": Reader("state.npz", npz_states, read_state, damage_zip),
    "keras": Reader("net.keras", keras_files, fastnn.keras.load, damage_zip),
    "keras-weights": Reader("net.weights.h5", keras_weights, read_keras_weights, plain),
    "csv": Reader("rows.csv", csv_files, read_csv, damage_csv),
    "npz": Reader("rows.npz", npz_rows, read_rows, damage_zip),
}  # fmt: skip


def outcome(reader, path, content):
    """ "read", or "refused" where the error may be raised and names the file; else it is raised."""
    path.write_bytes(content)
    try:
        reader.read(str(path))
    except (ValueError, OSError, TypeError) as error:
        text = str(error)
        named = str(path.parent if reader.by_folder else path) in text
        if not (named or text.startswith("--")) or len(text) > 4000:  # or the argument
            raise AssertionError(f"expected a short message that names the file: {text}") from error
        return "refused"
    return "read"
