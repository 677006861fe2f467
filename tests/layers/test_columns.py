"""`Columns`: ranges of the input's columns, each through a layer of its own; what the tables cannot
test: codes beside numbers, shapes, files."""

import copy
import pickle

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    Adam,
    Block,
    Columns,
    Conv1D,
    Dense,
    Embedding,
    Flatten,
    GradientStep,
    Heads,
    MeanSquaredError,
    PeriodicEmbedding,
    ReLU,
    Residual,
    Scale,
    Sequential,
    SoftmaxCrossEntropy,
    TrainStep,
    _kernels,
    gradcheck,
)

RNG = np.random.default_rng(0)
TABLE = np.column_stack(  # two numbers, two columns of codes, one number, one column of codes
    [*RNG.normal(size=(2, 40)), *RNG.integers(0, 9, (2, 40)), RNG.normal(size=40),
     RNG.integers(0, 5, 40)]
)  # fmt: skip
NUMBERS, CODES = [0, 1, 4], [2, 3, 5]
LABELS = (TABLE[:, 2] + TABLE[:, 5]).astype(int) % 3


def columns():
    return Columns(
        (2, PeriodicEmbedding(2, 4)),
        (2, Block(Embedding(9, 3), Flatten())),
        (1, None),
        (1, Block(Embedding(5, 2), Flatten())),
    )


def network(dtype="float64"):
    return Sequential(columns(), Scale(17), Dense(17, 8, "tanh"), Dense(8, 3), seed=1, dtype=dtype)


class Double:
    """y = 2 x"""

    def forward(self, x, training=False):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


def test_each_part_gives_what_it_gives_alone(dtype):
    model = network(dtype)
    x = TABLE.astype(dtype)
    y = model.layers[0].forward(x)
    first, codes, last = model.layers[0].layers
    for its, part in ((y[:, :8], first.forward(x[:, :2].copy())),
                      (y[:, 8:14], codes.forward(x[:, 2:4].copy())), (y[:, 14:15], x[:, 4:5]),
                      (y[:, 15:], last.forward(x[:, 5:].copy()))):  # fmt: skip
        assert_same_bits(np.ascontiguousarray(its), np.ascontiguousarray(part))
    assert model.layers[0].in_features == 6 and model.layers[0].out_features == 17


def test_gradcheck_by_parameters_and_numbers():
    assert gradcheck(network(), SoftmaxCrossEntropy(), TABLE, LABELS) < 1e-7


def test_codes_have_no_gradient_and_numbers_have():
    model = network()
    gradient = np.ones((40, 3))
    model.forward(TABLE, training=True)
    dx = model.backward(gradient, input_gradient=True)
    assert (dx[:, CODES] == 0).all() and (dx[:, NUMBERS] != 0).all()
    assert_same_bits(model.input_gradient(TABLE, gradient), dx)
    jacobian = model.jacobian(TABLE)
    assert jacobian.shape == (40, 3, 6)
    np.testing.assert_allclose(jacobian.sum(axis=1), dx, rtol=1e-12, atol=1e-15)
    step = GradientStep(network(), Adam())
    step.forward(TABLE)
    assert_same_bits(step.backward(gradient, input_gradient=True), dx)


@pytest.mark.parametrize("column", CODES)
@pytest.mark.parametrize("bad", [-1, 9, 2.5, np.nan, 4.99999999])
def test_what_is_no_code_is_refused_by_everything(column, bad):
    x, model = TABLE.copy(), network("float32")
    x[7, column] = bad
    before = model.flat_parameters.copy()
    loss, half, predictor = (
        SoftmaxCrossEntropy(),
        GradientStep(network(), Adam()),
        model.predictor(40),
    )
    uses = [
        lambda: model.predict(x),
        lambda: model.predict(x.tolist()),
        lambda: model.forward(x, training=True),
        lambda: TrainStep(model, loss, Adam())(x, LABELS),
        lambda: half.forward(x),
        lambda: predictor(x),
        lambda: model.fit(x, LABELS, loss=loss, optimizer=Adam(), progress=False),
        lambda: model.evaluate(x, LABELS, loss=loss),
        lambda: model.input_gradient(x, 0),
    ]
    for use in uses:
        with pytest.raises(ValueError, match=r"expected whole numbers from 0 to [48]|contains NaN"):
            use()
    assert_same_bits(model.flat_parameters, before)


def test_numbers_beside_codes_may_be_any():
    x = TABLE.copy()
    x[:, 1] = 1e3
    assert np.isfinite(network().predict(x)).all()


@pytest.mark.parametrize("rows", [7, 40])
def test_replayed_steps_have_the_bits_of_those_by_hand(rows, dtype, fma_isas):
    ends = []
    for isa in fma_isas:
        _kernels.set_isa(isa)
        for threads in (1, 2, 3):
            fastnn.set_num_threads(threads)
            for by_hand in (False, True):
                model, loss, optimizer = network(dtype), SoftmaxCrossEntropy(), Adam(0.01)
                step = TrainStep(model, loss, optimizer)
                assert step.recorded
                for i in range(5):
                    x, y = np.roll(TABLE, i, axis=0)[:rows], np.roll(LABELS, i)[:rows]
                    if by_hand:
                        model.backward(loss(model.forward(x, training=True), y)[1])
                        optimizer.step(model)
                    else:
                        step(x, y)
                ends.append(model.flat_parameters.copy())
    for end in ends:
        assert_same_bits(end, ends[0])


def test_fit_learns_from_codes_and_numbers_and_predictors_agree():
    model = network("float32")
    history = model.fit(
        TABLE, LABELS, loss=SoftmaxCrossEntropy(), optimizer=Adam(0.02), epochs=60, batch_size=8,
        progress=False,
    )  # fmt: skip
    assert history.loss[-1] < 0.2 < history.loss[0]
    predictor = model.predictor(batch_size=40)
    assert_same_bits(predictor(TABLE).copy(), model.predict(TABLE))
    model.layers[0].layers[0].frequency[...] += 1
    predictor.refresh()
    assert_same_bits(predictor(TABLE).copy(), model.predict(TABLE))


def test_files_copies_repr_and_summary(tmp_path):
    model = network()
    model.layers[0].layers[1].trainable = False
    model.save(tmp_path / "model.safetensors")
    others = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    for other in (*others, fastnn.load(tmp_path / "model.safetensors")):
        assert_same_bits(other.predict(TABLE), model.predict(TABLE))
        assert repr(other.layers[0]) == repr(model.layers[0])
        assert not other.layers[0].layers[1].trainable
    assert repr(model.layers[0]) == (
        "Columns((2, PeriodicEmbedding(2, frequencies=4)), (2, Block(Embedding(9, 3), Flatten())), "
        "(1, None), (1, Block(Embedding(5, 2), Flatten())))"
    )
    assert list(model.parameters)[3:7] == ["0.0.bias", "0.1.0.weight", "0.3.0.weight", "1.scale"]
    for line in ("(batch, 17)", "0.1.0  Embedding(9, 3)", "(batch, 2, 3)"):
        assert line in model.summary()


def test_a_state_of_square_embeddings_is_no_pytorch_state():
    model = Sequential(Columns((1, Block(Embedding(3, 3), Flatten())), (1, PeriodicEmbedding(1))))
    assert model._turned_in_pytorch() == []


def test_columns_within_others_and_frozen_ones():
    inner = Columns((1, None), (1, Block(Embedding(9, 3), Flatten())))
    model = Sequential(Columns((2, Scale(2)), (1, None), (2, None), (1, None)), dtype="float64")
    assert model.predict(TABLE).shape == (40, 6)
    x = TABLE[:, [0, 1, 2]].copy()
    model = Sequential(
        Block(Columns((1, Scale(1)), (2, inner)), Dense(5, 4)), Residual(Dense(4, 4)),
        Heads(Dense(4, 1), Columns((3, Dense(3, 1)), (1, None))), dtype="float64",
    )  # fmt: skip
    y = RNG.normal(size=(40, 3))
    assert gradcheck(model, MeanSquaredError(), x, y) < 1e-7
    with pytest.raises(ValueError, match=r"from 0 to 8, .* got 9\.0"):
        model.predict(np.array([[0.0, 1.0, 9.0]]))
    inner.layers[0].trainable = False
    assert gradcheck(model, MeanSquaredError(), x, y) < 1e-7
    before = inner.layers[0].layers[0].weight.copy()
    step = TrainStep(model, MeanSquaredError(), Adam())
    step(x, y), step(x, y)
    assert_same_bits(inner.layers[0].layers[0].weight, before)


def test_layers_of_ones_own():
    model = Sequential(
        Columns((2, Block(Double(), Dense(2, 3))), (1, Double()), (1, None)),
        Dense(5, 1),
        dtype="float64",
    )
    x, y = RNG.normal(size=(5, 4)), RNG.normal(size=(5, 1))
    assert gradcheck(model, MeanSquaredError(), x, y) < 1e-7
    assert not TrainStep(model, MeanSquaredError(), Adam()).recorded
    assert model.jacobian(x).shape == (5, 1, 4)

    class Flat(Double):
        def forward(self, x, training=False):
            return x[:, :, None]

    wrong = Sequential(Columns((2, Flat())))
    with pytest.raises(ValueError, match=r"gives \(batch, 2, 1\), expected \(batch, features\)"):
        wrong.predict(x[:, :2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Columns(), "Columns: parts: expected at least one"),
        (lambda: Columns(3), r"Columns: part 0: expected a pair \(width, layer\), .* got 3"),
        (lambda: Columns(Dense(3, 2)), r"part 0: expected a pair .* got Dense\(3, 2\)"),
        (lambda: Columns((1, None), (0, None)), "width of part 1: expected an integer >= 1, got 0"),
        (lambda: Columns((True, None)), "width of part 0: expected an integer >= 1, got True"),
        (lambda: Columns((2, "relu")), "part 0: expected a layer"),
        (lambda: Columns((3, Dense(4, 2))), r"takes \(batch, 4\), but its part has 3 columns"),
        (lambda: Columns((3, Conv1D(3, 2, 1))), r"takes \(batch, length, 3\), but its part"),
        (lambda: Columns((2, Embedding(3, 2))), r"\(batch, 2, 2\), expected .* put Flatten"),
        (lambda: Columns((2, Block(Embedding(3, 2), Flatten(), Dense(5, 1)))), "takes 5 features"),
        (lambda: Sequential(Columns((3, None)), Dense(2, 1)), "takes 2 features"),
        (lambda: Sequential(ReLU(), columns()), "first of a range of Columns"),
        (lambda: Sequential(Residual(columns(), shortcut=Dense(6, 17))), "first of a range"),
        (lambda: Sequential(ReLU(), Heads(columns(), Dense(6, 2))), "first of a range"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_heads_may_take_a_table_each():
    alone = [Sequential(columns(), seed=seed) for seed in (0, 1)]
    model = Sequential(Heads(*alone))
    x = np.array([[0.5, -1.0, 2, 7, 0.25, 1], [1.5, 1.0, 0, 8, 0.5, 4]], np.float32)
    wanted = [one.forward(x, training=True) for one in alone]
    y = model.forward(x, training=True)
    assert (y == np.hstack(wanted)).all()
    assert (model.predictor(2)(x) == y).all()
    dy = np.arange(y.size, dtype=np.float32).reshape(y.shape)
    model.backward(dy)
    for i, (one, its) in enumerate(zip(alone, np.split(dy, 2, axis=1), strict=True)):
        one.backward(np.ascontiguousarray(its))
        for name, gradient in one.gradients.items():
            found = model.gradients[f"0.{i}.{name}"]
            np.testing.assert_allclose(found, gradient, rtol=1e-6)
    with pytest.raises(ValueError, match="codes of Embedding"):
        model.predict(x + 0.5)


def test_a_layer_stands_in_one_part():
    layer = Scale(2)
    with pytest.raises(ValueError, match="twice"):
        Columns((2, layer), (2, layer))
    with pytest.raises(RuntimeError, match="part of no model yet"):
        Columns((2, layer)).forward(np.ones((1, 2), np.float32))


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"takes 6 features, got 5"):
        network().predict(TABLE[:, :5])


def test_heads_share_columns_of_codes():
    heads = [columns(), Block(columns(), Dense(17, 2))]
    model = Sequential(Heads(*heads), seed=1, dtype="float64")
    alone = [head.forward(TABLE) for head in heads]
    assert_same_bits(model.predict(TABLE), np.concatenate(alone, axis=1))
    wrong = TABLE.copy()
    wrong[3, 5] = 5
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 4, .* got 5"):
        model.predict(wrong)
    assert gradcheck(model, MeanSquaredError(), TABLE[:7], np.zeros((7, 19))) < 1e-6
