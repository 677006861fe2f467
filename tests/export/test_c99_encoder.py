"""export_c: tables, whose encoder is written in, with the bits of `TableEncoder.transform`."""

import subprocess

import numpy as np
import pytest

from c_files import COMPILERS, NATIVE, STRICT, Compiled, compiler
from compare import assert_same_bits
from encoders import SETTINGS, as_numbers, table
from fastnn import (
    Block,
    Columns,
    Dense,
    Embedding,
    Flatten,
    Sequential,
    Standardizer,
    TableEncoder,
    export_c,
)

NAN = float("nan")


@pytest.mark.parametrize(("encoder_dtype", "command"), [("float32", "gcc"), ("float64", "clang")])
@pytest.mark.parametrize("settings", SETTINGS)
def test_bits_are_the_encoders(settings, encoder_dtype, command, dtype, rng, tmp_path):
    arguments, columns = SETTINGS[settings]
    categorical = np.arange(9)[columns] >= 4
    encoder = TableEncoder(categorical, dtype=encoder_dtype, **arguments)
    encoder.fit(table(500, rng)[:, columns])
    model, rows = Sequential(Flatten(), dtype=dtype), table(10_000, rng, new=True)[:, columns]
    if arguments.get("clip", 1) is None:  # what float32 cannot hold is refused there
        rows[:, :4][np.abs(rows[:, :4].astype(float)) > 1e30] = 1e30
    model.scaler = encoder
    run = Compiled(model, tmp_path, command, shape=(encoder.output_features_,))
    expected = encoder.transform(rows).astype(dtype).astype(np.float64)
    assert_same_bits(run(as_numbers(encoder, rows)), expected)
    assert run.files.workspace >= expected.shape[1] * dtype.itemsize


def network(encoder, dtype="float32"):
    numbers, codes = encoder.numeric_ + encoder.one_hot_, Embedding(encoder.n_codes_, 3)
    parts = Columns((numbers, None), (encoder.codes_, Block(codes, Flatten())))
    return Sequential(
        parts, Dense(parts.out_features, 16, activation="tanh"), Dense(16, 2), seed=0, dtype=dtype
    )


def fitted(rng, dtype="float32"):
    encoder = TableEncoder([4, 5, 6, 7, 8]).fit(table(500, rng))
    model = network(encoder, dtype)
    model.scaler = encoder
    return model


def test_targets_keep_their_digits(dtype, rng, tmp_path):
    model, rows = fitted(rng, dtype), table(1000, rng, new=True)
    model.target_scaler = Standardizer().fit(rng.normal(1.6e9, 3, (100, 2)))
    outputs = model.predict(model.scaler.transform(rows))
    run = Compiled(model, tmp_path)
    assert run.dtype == np.float64
    assert_same_bits(
        run(as_numbers(model.scaler, rows)), model.target_scaler.inverse_transform(outputs)
    )
    (tmp_path / "plain").mkdir()
    plain = Compiled(model, tmp_path / "plain", scalers=False)
    assert_same_bits(plain(model.scaler.transform(rows).astype(dtype)), outputs)


def test_infinity_gives_nan_as_a_number_and_is_no_category(rng, tmp_path):
    model = fitted(rng)
    x = as_numbers(model.scaler, table(3, rng))
    run = Compiled(model, tmp_path)
    for infinity in (np.inf, -np.inf):
        wrong = x.copy()
        wrong[:, 0] = infinity
        assert np.isnan(run(wrong)).all()
        unseen, missing = x.copy(), x.copy()
        unseen[:, 4:], missing[:, 4:] = infinity, NAN
        assert_same_bits(run(unseen), run(missing))


def test_the_program_reads_what_is_missing(rng, tmp_path):
    model, rows = fitted(rng), table(20, rng)
    source, program = export_c(model, tmp_path / "net.c").source, tmp_path / "program"
    command = [compiler("gcc"), *STRICT, *NATIVE, "-DNET_MAIN", source, "-o", program, "-lm"]
    subprocess.run(command, check=True)
    np.savetxt(tmp_path / "rows.txt", as_numbers(model.scaler, rows), fmt="%.17g")
    with open(tmp_path / "rows.txt") as file:
        result = subprocess.run([program], stdin=file, text=True, capture_output=True, check=True)
    printed = np.array([line.split() for line in result.stdout.splitlines()]).astype(np.float64)
    wanted = model.predict(model.scaler.transform(rows))
    assert_same_bits(printed, wanted.astype(np.float64))


def test_int8_weights_are_measured_on_a_table(rng, tmp_path):
    model, rows = fitted(rng), table(500, rng)
    run = Compiled(model, tmp_path, weights="int8", X=rows)
    outputs = model.predict(model.scaler.transform(rows))
    error = np.sqrt(np.mean((run(as_numbers(model.scaler, rows)) - outputs) ** 2)) / outputs.std()
    assert 0 < run.files.error < 0.05 and abs(run.files.error - error) < 0.01 * error
    assert 0 < export_c(model, tmp_path / "random.c", weights="int8").error < 0.05


# ---- names ----

HOSTILE = [
    "*/ int evil; /*", "/*", "*/*/", "a\nb", "a\\\nb", "??/\n*??/", "ünï\u202e\ud800", "\x7f\x00",
    '"', "//", "%s{name}", "km/h", "",
]  # fmt: skip


def test_names_end_no_comment(rng, tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    names = [*HOSTILE, "last"]
    frame = pandas.DataFrame(dict(zip(names, np.eye(14), strict=True)))
    frame["last"] = [*HOSTILE, "other"]
    encoder = TableEncoder(max_one_hot=20).fit(frame)
    model = Sequential(Dense(encoder.output_features_, len(HOSTILE)), seed=0)
    model.scaler, model.classes = encoder, HOSTILE
    for command in COMPILERS:
        run = Compiled(model, tmp_path, command, flags=("-O1", *NATIVE, "-Wcomment", "-trigraphs"))
    x = frame.assign(last=[encoder.categories_[0].index(name) for name in frame["last"]])
    x = np.ascontiguousarray(x.to_numpy(float))
    assert_same_bits(run(x), model.predict(encoder.transform(frame)).astype(float))
    header = run.files.header.read_bytes()
    comment, code = header.split(b"*/", 1)
    assert header.isascii() and b"evil" in comment and b"evil" not in code
    for line in (
        b'x[0] "*\\u002f int evil; \\u002f*": a number', b'x[11] "km/h": a number',
        b'x[13] "last": the number of a category, others being unknown',
        b'y[3] the output for "a\\nb"', b'y[5] the output for "\\u003f?/\\n*\\u003f?/"',
    ):  # fmt: skip
        assert b" * " + line + b"\n" in comment


def test_the_header_says_what_categories_are_numbers(rng, tmp_path):
    text = export_c(fitted(rng), tmp_path / "net.c").header.read_text()
    lines = [line[3:] for line in text.splitlines() if line.startswith(" * ")]
    assert lines[:12] == [
        "x is a row of a table; NaN is what is missing",
        *(f'x[{i}] "x{i}": a number' for i in range(4)),
        'x[4] "x4": the number of a category, others being unknown',
        '  0 "*\\u002f"',
        '  1 "green"',
        '  2 "red"',
        'x[5] "x5": a category, which is a number',
        'x[6] "x6": a category, which is a number',
        'x[7] "x7": a category, which is a number',
    ]


# ---- what is refused ----


@pytest.mark.parametrize("wrong", [2**53 + 1, 10**400, float("inf")])
def test_categories_that_are_no_doubles_are_refused(wrong, tmp_path):
    model = Sequential(Dense(3, 1))
    model.scaler = TableEncoder([0]).fit([[wrong], [1], [2]])
    with pytest.raises(
        ValueError, match="scaler: column 'x0': expected categories that C's double"
    ):
        export_c(model, tmp_path / "net.c")
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_of_another_size_is_refused(rng, tmp_path):
    model = Sequential(Dense(4, 3))
    model.scaler = TableEncoder().fit([[1.0], [2.0]])
    with pytest.raises(ValueError, match="scaler: expected one of 4 features, got 1"):
        export_c(model, tmp_path / "net.c")


def test_what_is_no_network_is_refused(tmp_path):
    for wrong in (Dense(3, 2), TableEncoder(), Sequential, "net"):
        with pytest.raises(TypeError, match="model: expected a Sequential or an estimator"):
            export_c(wrong, tmp_path / "net.c")
