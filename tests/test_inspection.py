"""`fastnn.inspect`: its numbers against NumPy's, the units it calls dead, and that the model stays
as it was."""

import numpy as np
import pytest

import fastnn
from fastnn import (
    BatchNorm,
    Block,
    Columns,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Heads,
    Linear,
    ReLU,
    Residual,
    Sequential,
)

LOSS = fastnn.MeanSquaredError()


@pytest.fixture
def batch(rng):
    return rng.standard_normal((40, 3)), rng.standard_normal((40, 2))


def by_hand(model, x, y):
    """The outputs of tanh(x W + b) V + c and all gradients of the mean squared error."""
    W, b, V, c = model.parameters.values()
    h = np.tanh(x @ W + b)
    o = h @ V + c
    do = 2 * (o - y) / y.size
    dh = do @ V.T
    dz = dh * (1 - h * h)
    return {"0": h, "1": o}, {"0": dh, "1": do}, (x.T @ dz, dz.sum(0), h.T @ do, do.sum(0))


def check(its, array):
    """Compare statistics with those of an array, histograms counted one by one."""
    flat = array.ravel()
    np.testing.assert_allclose(its.mean, flat.mean(), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(its.std, flat.std(), rtol=1e-9)
    np.testing.assert_allclose(its.norm, np.linalg.norm(flat), rtol=1e-9)
    assert its.zeros == np.mean(flat == 0) and its.not_finite == 0
    np.testing.assert_allclose(its.edges, np.linspace(flat.min(), flat.max(), 51), rtol=1e-6)
    assert its.counts.sum() == flat.size and its.counts[-1] >= 1 <= its.counts[0]
    size = abs(flat[flat != 0])
    tenths = np.floor(np.log10(size) * 10).astype(int) + 200  # from 1e-20 on
    assert its.magnitudes.tolist() == [np.sum(tenths == k) for k in range(300)]


def test_numbers_are_those_of_numpy(batch):
    x, y = batch
    model = Sequential(Dense(3, 5, activation="tanh"), Dense(5, 2), dtype="float64", seed=1)
    found = fastnn.inspect(model, x, y, LOSS)
    activations, passed, gradients = by_hand(model, x, y)
    for key in ("0", "1"):
        check(found.activations[key], activations[key])
        check(found.activation_gradients[key], passed[key])
    for (name, weight), gradient in zip(model.parameters.items(), gradients, strict=True):
        if weight.any():
            check(found.weights[name], weight)
            ratio = np.linalg.norm(gradient) / np.linalg.norm(weight)
            np.testing.assert_allclose(found.ratios[name], ratio, rtol=1e-9)
        check(found.gradients[name], gradient)
    assert set(found.ratios) == {"0.weight", "1.weight"}  # the biases are 0
    np.testing.assert_allclose(found.loss, np.mean((activations["1"] - y) ** 2), rtol=1e-12)
    assert found.rows == 40


def test_penalties_and_weights_of_rows_count(batch):
    x, y = batch
    model = Sequential(Dense(3, 2), l2=0.5, dtype="float64")
    weight = np.arange(40) % 3
    found = fastnn.inspect(model, x, y, LOSS, sample_weight=weight)
    error = (x @ model.parameters["0.weight"] - y) * (weight / weight.sum())[:, None]
    gradient = x.T @ error + 0.5 / 40 * model.parameters["0.weight"]
    np.testing.assert_allclose(found.gradients["0.weight"].norm, np.linalg.norm(gradient))
    value = LOSS(model.predict(x), y, weight)[0] + model.penalty(40)
    np.testing.assert_allclose(found.loss, value, rtol=1e-12)


def test_dead_units():
    model = Sequential(Dense(2, 4, activation="relu"), Dense(4, 3), ReLU(), Dense(3, 1))
    model.parameters["0.weight"][...] = [[1, -1, 1, -1], [1, -1, -1, 0]]
    model.parameters["1.weight"][...] = 1
    model.parameters["1.bias"][...] = [0, -100, 0]
    found = fastnn.inspect(model, [[1.0, 2.0], [3.0, 1.0]], [[0.0], [0.0]], LOSS)
    assert {key: its.tolist() for key, its in found.dead.items()} == {
        "0": [False, True, False, True],
        "2": [False, True, False],
    }
    assert found.activations["0"].zeros == 5 / 8


def test_a_channel_is_dead_only_if_all_positions_are():
    model = Sequential(Conv2D(1, 2, 1, activation="relu"), Flatten(), Dense(8, 1))
    model.parameters["0.weight"][...] = [[[[1, -1]]]]
    x = np.zeros((3, 2, 2, 1))
    x[1, 1, 0] = 1
    assert fastnn.inspect(model, x, np.zeros((3, 1)), LOSS).dead["0"].tolist() == [False, True]


def test_own_layers_may_be_dead_and_linear_ones_not():
    class Nothing:
        def forward(self, x, training=False):
            return 0 * x

        def backward(self, dy):
            return 0 * dy

    model = Sequential(Dense(2, 3, weight_init="zeros"), Linear(), Nothing())
    found = fastnn.inspect(model, [[1.0, 2.0]] * 4, np.ones((4, 3)), LOSS)
    assert list(found.dead) == ["2"] and found.dead["2"].all()
    assert found.gradients["0.weight"].norm == 0 < found.activation_gradients["2"].norm


def test_layers_within_others(batch):
    x, y = batch
    inner = Residual(Dense(6, 6, activation="relu"), Block(Dense(6, 6)))
    model = Sequential(Dense(3, 6), inner, Heads(Dense(6, 1), Dense(6, 1)), dtype="float64")
    found = fastnn.inspect(model, x, y, LOSS)
    assert list(found.activations) == ["0", "1", "1.0", "1.1.0", "2", "2.0", "2.1"]
    assert found.layers["1"] == "Residual" and found.layers["1.1.0"] == "Dense(6, 6)"
    check(found.activations["1"], model[:2].predict(x))
    check(found.activations["2"], model.predict(x))
    assert found.first_parameter("1.1.0") == "1.1.0.weight" and found.first_parameter("1") is None
    assert list(found.dead) == ["1.0"]


def test_batch_norm_trains_and_dropout_drops_nothing(batch):
    x, y = batch
    model = Sequential(BatchNorm(3), Dropout(0.9), Dense(3, 2))
    found = fastnn.inspect(model, 100 + x, y, LOSS)
    for key in ("0", "1"):
        its = found.activations[key]
        assert abs(its.mean) < 1e-4 and abs(its.std - 1) < 1e-3 and its.zeros == 0
    assert found.layers["1"] == "Dropout(0.9)"


def test_frozen_layers_have_no_gradient_but_pass_one_on(batch):
    x, y = batch
    model = Sequential(Dense(3, 4, activation="tanh"), Dense(4, 2))
    model.layers[0].trainable = False
    found = fastnn.inspect(model, x, y, LOSS)
    assert found.gradients["0.weight"].norm == 0 < found.activation_gradients["0"].norm


def test_embeddings_take_codes():
    model = Sequential(Embedding(5, 2), Flatten(), Dense(6, 1))
    found = fastnn.inspect(model, np.arange(12).reshape(4, 3) % 5, np.ones((4, 1)), LOSS)
    assert found.gradients["0.weight"].norm > 0 and list(found.activations) == ["0", "1", "2"]


def test_numbers_that_are_not_finite_are_counted():
    its = fastnn.looking.inspection.statistics(np.array([1.0, np.nan, -np.inf, 0.0]))
    assert its.not_finite == 0.5 and its.zeros == 0.25 and np.isnan(its.mean)
    assert its.counts.sum() == 2 and its.magnitudes.sum() == 1


@pytest.mark.parametrize("values", [
    [1e20], [-1e20, -1e20], [0.0], [1.0, 1.0 + 2e-16], [1e-300, 1e-300], [-1.7e308, 1.7e308],
    [5e-324, 1e-323], [np.nan],
])  # fmt: skip
def test_histograms_of_extreme_and_of_equal_numbers(values):
    its = fastnn.looking.inspection.statistics(np.array(values))
    assert its.counts.sum() == its.magnitudes.sum() + round(its.zeros) == np.isfinite(values).sum()
    assert (np.diff(its.edges) >= 0).all() and np.isfinite(its.edges).all()


def test_columns_with_codes():
    embed = Block(Embedding(9, 2), Flatten())
    model = Sequential(Columns((3, None), (2, embed)), Dense(7, 1))
    x = np.concatenate([np.ones((4, 3)), np.arange(8).reshape(4, 2)], axis=1)
    found = fastnn.inspect(model, x, np.ones((4, 1)), LOSS)
    assert list(found.activations) == ["0", "0.1.0", "0.1.1", "1"]
    table = model.parameters["0.1.0.weight"].astype(float)
    check(found.activations["0.1.0"], table[x[:, 3:].astype(int)])
    assert found.gradients["0.1.0.weight"].zeros == 1 / 9  # code 8 is in no row


def test_sizes_beyond_the_decades_are_in_the_last_ones():
    its = fastnn.looking.inspection.statistics(np.array([1e-30, 1e30, 1e31, 0.0]))
    assert its.magnitudes[0] == 1 and its.magnitudes[-1] == 2 and its.magnitudes.sum() == 3


def test_the_model_stays_as_it_was(batch):
    x, y = batch

    def make():
        layers = (Dense(3, 8), BatchNorm(8), ReLU(), Dropout(0.5), Dense(8, 2))
        model = Sequential(*layers, seed=3)
        model.backward(LOSS(model.forward(x, training=True), y)[1])
        return model, fastnn.TrainStep(model, LOSS, fastnn.Adam())

    (model, step), (twin, twin_step) = make(), make()
    before = [list(vars(layer)) for layer in model.layers]
    gradients = model.flat_gradients.copy()
    fastnn.inspect(model, x, y, LOSS)
    assert [list(vars(layer)) for layer in model.layers] == before
    assert (model.flat_gradients == gradients).all() and model.layers[3].rate == 0.5
    for name, array in twin.state_dict().items():
        assert (model.state_dict()[name] == array).all()
    assert step.recorded and [step(x, y) for _ in range(3)] == [twin_step(x, y) for _ in range(3)]


def test_what_is_wrong_is_named(batch):
    x, y = batch
    model = Sequential(Dense(3, 2))
    with pytest.raises(TypeError, match="loss: expected an object"):
        fastnn.inspect(model, x, y, fastnn.MeanSquaredError)
    with pytest.raises(ValueError, match=r"x: layer 0, Dense\(3, 2\), takes 3 features, got 2"):
        fastnn.inspect(model, x[:, :2], y, LOSS)
    with pytest.raises(ValueError, match="targets"):
        fastnn.inspect(model, x, y[:, :1], LOSS)


def test_printed_it_is_a_table(batch):
    x, y = batch
    model = Sequential(Dense(3, 4, activation="relu"), Dropout(0.5), Dense(4, 2))
    lines = repr(fastnn.inspect(model, x, y, LOSS)).splitlines()
    assert len(lines) == 5 and len({len(line) for line in lines[:4]}) == 1
    assert lines[0].split() == [
        "layer", "mean", "std", "zeros", "dead", "|weight|", "|gradient|", "ratio",
    ]  # fmt: skip
    assert lines[2].split()[:2] == ["1", "Dropout(0.5)"] and " of 4 " in lines[1]
    assert lines[4].startswith("loss ") and lines[4].endswith(" over 40 rows")
