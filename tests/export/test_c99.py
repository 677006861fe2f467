"""export_c: what it writes besides the right bits, and what it refuses."""

import ctypes
import subprocess
import threading

import numpy as np
import pytest

from c_files import COMPILERS, NATIVE, STRICT, Compiled, address, compiler
from compare import assert_close, assert_same_bits
from fastnn import (
    BatchNorm,
    Block,
    Columns,
    Conv2D,
    Dense,
    Embedding,
    Flatten,
    Heads,
    Layer,
    LayerNorm,
    MaxPool2D,
    Residual,
    Sequential,
    Standardizer,
    export_c,
)


def policy(dtype="float32"):
    return Sequential(
        Dense(4, 64, activation="tanh"), Dense(64, 64, activation="tanh"), Dense(64, 2),
        seed=0, dtype=dtype,
    )  # fmt: skip


def draw(rng, *shape, dtype="float32"):
    return rng.standard_normal(shape).astype(dtype)


# ---- what is written ----


@pytest.mark.parametrize("command", COMPILERS)
def test_a_network_has_the_bits_of_its_predictor(command, dtype, rng, tmp_path):
    model, x = policy(dtype), draw(rng, 1000, 4, dtype=dtype)
    run = Compiled(model, tmp_path, command)
    assert_same_bits(run(x), model.predictor(1000)(x))
    assert run.files.workspace == 128 * dtype.itemsize
    assert run.files.constants == sum(array.nbytes for array in model.parameters.values())


def test_without_fused_multiply_add_it_has_the_bits_of_such_processors(rng, tmp_path):
    from fastnn import _kernels

    model, x = policy(), draw(rng, 1000, 4)
    fused = model.predictor(1000)(x).copy()
    if "portable" not in _kernels.isa_levels() or _kernels.get_isa() in ("portable", "neon"):
        pytest.skip("this machine has no other processor's instructions")
    assert_same_bits(Compiled(model, tmp_path, flags=("-O3", "-DEXACT"))(x), fused)
    _kernels.set_isa("portable")
    portable = model.predictor(1000)(x)
    assert (portable != fused).any()
    (tmp_path / "plain").mkdir()
    assert_same_bits(Compiled(model, tmp_path / "plain", flags=("-O3",))(x), portable)


def test_one_row_and_threads_with_workspaces_of_their_own(rng, tmp_path):
    model, x = policy(), draw(rng, 400, 4)
    run, expected = Compiled(model, tmp_path, name="policy"), model.predict(x)
    y = np.empty((400, 2), np.float32)
    run.one(address(x[3]), address(y[3]))
    assert_same_bits(y[3], expected[3])

    def work(first):
        workspace = np.empty(run.files.workspace // 4, np.float32)
        for i in range(first, 400, 4):
            run.with_workspace(address(x[i]), address(y[i]), address(workspace))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same_bits(y, expected)


def program_of(model, folder, *command, shape=None):
    """The program that is in the file; what is called with its arguments and input runs it."""
    source, program = export_c(model, folder / "net.c", shape=shape).source, folder / "program"
    gcc, *flags = command
    command = [compiler(gcc), *STRICT, *NATIVE, *flags, "-DNET_MAIN", source, "-o", program]
    subprocess.run([*command, "-lm"], check=True)

    def run(text, *arguments):
        given = {"input": text, "capture_output": True, "encoding": "latin-1", "check": False}
        result = subprocess.run([program, *arguments], **given)
        return result.returncode, result.stdout, result.stderr

    return run


@pytest.mark.parametrize("command", [("gcc", "-O0"), ("gcc", "-Os"), ("clang", "-O2")])
def test_the_program_prints_the_outputs_of_the_rows_it_reads(command, rng, tmp_path):
    model, x = policy(), draw(rng, 5, 4)
    run = program_of(model, tmp_path, *command)
    for apart, end in ((" ", "\n"), ("\t", "\r\n"), (",", "\n\n \t\n"), (" , ", " \n")):
        text = end.join(apart.join(f"{v:.9g}" for v in row) for row in x)
        for last in ("", end):
            status, output, errors = run(text + last)
            printed = np.array([line.split() for line in output.splitlines()]).astype(np.float32)
            assert (status, errors) == (0, "")
            assert_same_bits(printed, model.predict(x))
    assert run("") == run("\n \n") == (0, "", "")


LONG = "0" * 510 + "1"


def test_the_program_refuses_what_is_no_row(tmp_path):
    same = Sequential(Flatten())
    run = program_of(same, tmp_path, "gcc", "-O2", shape=(4,))
    row, text = "1 2 3 4\n", "0 1 2 3\n\n"
    numbers = "-1.5e3, +NaN\t-inf 0x1p-1 \n"
    printed = row + "-1500 nan -inf 0.5\n1 1 1 1\n"
    assert run(row + numbers + LONG[1:] + " 1 1 1") == (0, printed, "")
    for line, got in {
        "1 2 3": "3", "1 2 3 4 5": "5", ",".join("7" * 10**5): "100000", "1,2,3": "3",
        "male": "'male'", "1 2 3 4 x": "'x'", "1 2 3 4x": "'4x'", "1;2;3;4": "'1;2;3;4'",
        '"1",2,3,4': "'\"1\"'", "1,,3,4": "''", "1,,2,3,4": "''", "1, ,2,3": "''",
        ",1,2,3,4": "''", "1,2,3,4,": "''", "1 2 3 4 , ": "''", ",": "''", "1 1e 2 3": "'1e'",
        "1 2 3 4\0": "'4?'", "1 \x1b[2J 3 4": "'?[2J'", "\xff 1 2 3": "'\xff'",
        f"1 2 3 {LONG}": f"'{LONG[:40]}'", "1 2 3 " + "y" * 5000: f"'{'y' * 40}'",
    }.items():  # fmt: skip
        for end in ("", "\n", "\r\n5 6 7 8\n"):
            expected = (2, "0 1 2 3\n", f"line 3: expected 4 numbers, got {got}\n")
            assert run(text + line + end) == expected, line[:40]
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "check": False}
    result = subprocess.run([tmp_path / "program"], input=text + "x", **both)
    assert result.stdout == "0 1 2 3\nline 3: expected 4 numbers, got 'x'\n"
    status, output, errors = run(text, "--help")
    assert (status, output) == (2, "") and errors.startswith("usage: ")
    assert errors.endswith("(lines of 4 numbers)\n") and errors.count("\n") == 1


def test_the_header_serves_cplusplus(tmp_path):
    header = export_c(policy(), tmp_path / "net.c", name="policy").header
    use = tmp_path / "use.cpp"
    use.write_text(
        f'#include "{header.name}"\nfloat w[POLICY_WORKSPACE];\nint main() {{ return 0; }}'
    )
    subprocess.run(
        [compiler("g++"), "-Wall", "-Werror", "-c", use, "-o", tmp_path / "o"], check=True
    )
    text = header.read_text()
    export_c(policy(), tmp_path / "net.c", name="network")  # a word of comments alone
    assert "#define POLICY_INPUTS 4" in text and "#define POLICY_OUTPUTS 2" in text


def test_two_networks_in_one_program(rng, tmp_path):
    for name in ("first", "second"):
        export_c(policy(), tmp_path / f"{name}.c", name=name)
    command = [compiler("gcc"), *STRICT, "-shared", "-fPIC", tmp_path / "first.c"]
    library = tmp_path / "both.so"
    subprocess.run([*command, tmp_path / "second.c", "-o", library, "-lm"], check=True)
    both = ctypes.CDLL(str(library))
    assert both.first and both.second_batch


def test_buffers_are_used_again(tmp_path):
    model = Sequential(*[Dense(64, 64, activation="relu") for _ in range(20)])
    assert export_c(model, tmp_path / "net.c").workspace == 2 * 64 * 4
    model = Sequential(Residual(*[Dense(64, 64) for _ in range(20)]), Dense(64, 3))
    assert export_c(model, tmp_path / "net.c").workspace == 2 * 64 * 4


def test_the_model_stays_as_it_is(tmp_path):
    model = Sequential(Dense(4, 3), BatchNorm(3), Residual(Dense(3, 3)))
    before = model.flat_parameters.copy()
    export_c(model, tmp_path / "net.c", weights="int8")
    assert_same_bits(model.flat_parameters, before)


# ---- scalers ----


@pytest.mark.parametrize("scaler_dtype", ["float32", "float64"])
def test_scalers_are_written_in(scaler_dtype, dtype, rng, tmp_path):
    model = policy(dtype)
    model.scaler = Standardizer(scaler_dtype).fit(rng.normal(5, 3, (100, 4)))
    model.target_scaler = Standardizer().fit(rng.normal(100, 30, (100, 2)))
    x = rng.normal(5, 3, (1000, 4)).astype(dtype)
    scaled = model.scaler.transform(x)
    outputs = model.predictor(1000)(scaled)
    run = Compiled(model, tmp_path)
    assert_same_bits(run(x), model.target_scaler.inverse_transform(outputs).astype(dtype))
    (tmp_path / "plain").mkdir()
    plain = Compiled(model, tmp_path / "plain", scalers=False)
    assert_same_bits(plain(scaled.astype(dtype)), outputs)


def test_scalers_of_channels(rng, tmp_path):
    model = Sequential(Conv2D(3, 4, 3, activation="relu"), MaxPool2D(2))
    images = rng.normal(5, 3, (50, 6, 8, 3)).astype(np.float32)
    model.scaler = Standardizer().fit(images)
    run = Compiled(model, tmp_path, shape=(6, 8, 3))
    assert_same_bits(run(images), model.predict(model.scaler.transform(images)))


# ---- int8 ----


def rounded(weight):
    """The weight in int8, as the numbers that it stands for."""
    scale = np.abs(weight).reshape(-1, weight.shape[-1]).max(axis=0) / 127
    return np.rint(weight / np.where(scale > 0, scale, 1)) * scale


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        (lambda: [Dense(300, 20, activation="tanh"), Dense(20, 3)], (300,)),
        (
            lambda: [
                Conv2D(30, 31, 3, padding="same"), Flatten(), Heads(Dense(620, 3), LayerNorm(620)),
            ],
            (4, 5, 30),
        ),
        (
            lambda: [Conv2D(4, 4, 3, groups=4), Residual(Conv2D(4, 4, 1, groups=2)), Flatten()],
            (4, 5, 4),
        ),
    ],
)  # fmt: skip
def test_int8_weights_give_the_outputs_of_rounded_ones(layers, shape, dtype, rng, tmp_path):
    model = Sequential(*layers(), seed=0, dtype=dtype)
    x = draw(rng, 100, *shape, dtype=dtype)
    run = Compiled(model, tmp_path, shape=shape, weights="int8", X=x)
    exact = model.predict(x).astype(np.float64)
    for name, weight in model.parameters.items():
        if name.endswith("weight"):
            weight[...] = rounded(weight)
    expected = model.predict(x)
    assert_close(run(x), expected, dtype, factor=8)
    error = np.sqrt(np.mean((expected - exact) ** 2)) / exact.std()
    assert 0 < run.files.error < 0.05 and abs(run.files.error - error) < 0.01 * error
    assert f"error is {run.files.error:.2g} of" in run.files.header.read_text()


def test_int8_weights_take_a_quarter_and_fold_batch_norms(rng, tmp_path):
    model = Sequential(Dense(50, 100), BatchNorm(100), Dense(100, 50), dtype="float32", seed=0)
    model.state["1.running_var"][...] = rng.uniform(0.1, 3, 100)
    x = draw(rng, 500, 50)
    run = Compiled(model, tmp_path, weights="int8")
    assert run.files.constants == 2 * 5000 + 2 * 4 * 150
    exact = model.predict(x)
    assert 0 < np.sqrt(np.mean((run(x) - exact) ** 2)) < 0.02 * exact.std()


def test_int8_embeddings(rng, tmp_path):
    model = Sequential(Embedding(7, 5), Flatten(), Dense(15, 2), seed=0)
    codes = rng.integers(0, 7, (40, 3)).astype(np.float32)
    run = Compiled(model, tmp_path, shape=(3,), weights="int8")
    for name in ("0.weight", "2.weight"):
        model.parameters[name][...] = rounded(model.parameters[name])
    assert_close(run(codes), model.predict(codes), "float32", factor=8)


def test_int8_tables_with_columns_of_codes(rng, tmp_path):
    codes = Block(Embedding(7, 5), Flatten())
    model = Sequential(Columns((2, None), (3, codes)), Dense(17, 40), Dense(40, 2), seed=0)
    x = draw(rng, 500, 5)
    x[:, 2:] = rng.integers(0, 7, (500, 3))
    run, exact = Compiled(model, tmp_path, weights="int8"), model.predict(x)
    assert 0 < np.sqrt(np.mean((run(x) - exact) ** 2)) < 0.02 * exact.std()
    assert 0 < run.files.error < 0.02


def test_numbers_that_are_no_codes_give_nan(tmp_path):
    model = Sequential(Embedding(7, 5), Flatten(), Dense(15, 2), seed=0)
    run = Compiled(model, tmp_path, shape=(3,))
    for wrong in (-1, 7, 1e30, np.nan, np.inf):
        assert np.isnan(run(np.array([[0, 1, wrong]], np.float32))).all()


# ---- what is refused ----


@pytest.mark.parametrize(
    "name",
    ["", "1net", "real", "weight", "net net", "net;", "int", "class", "main", "nét", "net\n",
     "_net", "a" * 64, "x", "product", "float", "size_t", "net(void){}//", "FMA", "c0", "workspace",
     "number", "fmaf", "line", "strtod", "stderr", "exp", "tanhf", "NAN"],
)  # fmt: skip
def test_names_that_are_no_identifiers_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="name: expected "):
        export_c(policy(), tmp_path / "net.c", name=name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "file", ["net", "net.h", "net.cpp", ".c", 'a"b.c', "a\nb.c", "a b.c", "a\\.c", "-o.c", "*/.c"]
)
def test_paths_that_could_end_a_string_are_refused(file, tmp_path):
    with pytest.raises(ValueError, match=r"path: expected a name of .* that ends in \.c"):
        export_c(policy(), tmp_path / file)


class Own(Layer):
    native = True

    def forward(self, x, training=False):
        return x


class OwnDense(Dense):
    pass


class Plain:
    def forward(self, x, training=False):
        return x

    def backward(self, dy):
        return dy


@pytest.mark.parametrize("layer", [Own(), OwnDense(4, 4), Plain(), Residual(OwnDense(4, 4))])
def test_layers_of_ones_own_are_refused(layer, tmp_path):
    with pytest.raises(TypeError, match="model: expected layers of fastnn's own, got"):
        export_c(Sequential(Dense(4, 4), layer), tmp_path / "net.c")


def test_arguments_that_make_no_sense_are_refused(rng, tmp_path):
    path, images = tmp_path / "net.c", Sequential(Conv2D(1, 2, 3))
    cases = [
        (ValueError, "shape: expected that of a row", (images, path), {}),
        (ValueError, "takes 1 channels, got 2", (images, path), {"shape": (8, 8, 2)}),
        (ValueError, "weights: expected", (policy(), path), {"weights": "int4"}),
        (TypeError, "scalers: expected", (policy(), path), {"scalers": 1}),
        (TypeError, "name: expected an identifier of C, got 3", (policy(), path, 3), {}),
        (ValueError, "X: expected rows of shape", (policy(), path),
         {"weights": "int8", "X": np.ones((3, 5))}),
    ]  # fmt: skip
    for kind, message, arguments, named in cases:
        with pytest.raises(kind, match=message):
            export_c(*arguments, **named)
    model = policy()
    model.target_scaler = Standardizer().fit(rng.random((9, 3)))
    with pytest.raises(ValueError, match="target_scaler: expected one of 2 features, got 3"):
        export_c(model, path)
    model = policy()
    model.parameters["0.weight"][0, 0] = np.nan
    with pytest.raises(ValueError, match="model: expected finite parameters"):
        export_c(model, path)
    assert list(tmp_path.iterdir()) == []
