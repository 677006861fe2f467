"""Initialisation from data: standard deviations and biases of all dense layers, whatever is around
them, and the models that it refuses."""

import copy

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    BatchNorm,
    Block,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Heads,
    ReLU,
    Residual,
    Sequential,
    from_data,
    initialize_from_data,
)


def rows(n=500, features=7, seed=3):
    """Columns of other means and sizes."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, features)) * np.geomspace(0.1, 10, features) + np.arange(
        features
    )


def network(dtype="float64", **options):
    return Sequential(
        Dense(7, 30, activation="selu"), Dropout(0.5), Dense(30, 20), ReLU(),
        Dense(20, 3, **options), seed=1, dtype=dtype,
    )  # fmt: skip


def sums(model, X):
    """The sums of each dense layer of `network`, without and with the bias, in NumPy."""
    for i, f in ((0, model.layers[0].activation), (2, ReLU()), (4, None)):
        z = X @ model.parameters[f"{i}.weight"]
        y = z + model.parameters[f"{i}.bias"]
        yield z, y
        X = y if f is None else f.forward(y)


def test_every_unit_has_a_standard_deviation_of_one():
    model, X = network(), rows()
    initialize_from_data(model, X)
    for z, _ in sums(model, X):
        np.testing.assert_allclose(z.std(axis=0), 1, rtol=1e-12)


def test_weights_are_normal_up_to_their_scale():
    model, X = Sequential(Dense(400, 300)), np.random.default_rng(0).standard_normal((1000, 400))
    initialize_from_data(model, X)
    weight = model.parameters["0.weight"] * np.sqrt(400)
    assert abs(weight.mean()) < 0.02 and abs(weight.std() - 1) < 0.01
    assert abs((weight**4).mean() - 3) < 0.1
    assert abs(np.corrcoef(weight.T) - np.eye(300)).max() < 0.3


def test_layers_draw_weights_of_their_own():
    model = Sequential(Dense(7, 7), Dense(7, 7), dtype="float64")
    initialize_from_data(model, rows())
    first, second = (
        weight / np.linalg.norm(weight, axis=0)
        for weight in (model.parameters["0.weight"], model.parameters["1.weight"])
    )
    assert abs((first * second).sum(axis=0)).max() < 0.99


def test_biases_lie_among_the_rows():
    """Each is minus a mean of its unit's sums over five rows with random weights, whose variance
    is that of a sum over 2 / (5 + 1) of a row's."""
    model, X = Sequential(Dense(7, 4000), seed=0, dtype="float64"), rows()
    initialize_from_data(model, X)
    z, bias = X @ model.parameters["0.weight"], model.parameters["0.bias"]
    assert (z.min(axis=0) < -bias).all() and (-bias < z.max(axis=0)).all()
    places = -bias - z.mean(axis=0)
    assert abs(places.mean()) < 0.05 and abs(places.var() - 1 / 3) < 0.03
    signs = (z + bias > 0).mean(axis=0)
    assert signs.min() > 0 and signs.max() < 1 and abs(signs.mean() - 0.5) < 0.02


def test_a_bias_is_that_of_its_own_rows():
    """Between rows of two kinds means are drawn, and every mean is of one unit's own."""
    model, X = Sequential(Dense(1, 900), seed=0, dtype="float64"), np.repeat([[-1.0], [1.0]], 40, 0)
    initialize_from_data(model, X)
    place = -model.parameters["0.bias"] / model.parameters["0.weight"][0]
    assert np.allclose(abs(model.parameters["0.weight"]), 1)
    ends = np.isclose(abs(place), 1)  # five rows of one kind: 2 of 32
    assert abs(ends.mean() - 2 / 32) < 0.04 and (abs(place[~ends]) < 1).all()
    assert len(np.unique(place[~ends].round(9))) == (~ends).sum()


WITHIN = {
    "block": lambda: Sequential(Block(Dense(7, 9), ReLU()), Dense(9, 2)),
    "residual": lambda: Sequential(
        Residual(Dense(7, 9, activation="relu"), Dense(9, 5), shortcut=Dense(7, 5)), Dense(5, 2)
    ),
    "heads": lambda: Sequential(Dense(7, 9), Heads(Block(ReLU(), Dense(9, 2)), Dense(9, 1))),
}


@pytest.mark.parametrize("name", WITHIN)
def test_layers_within_others_count_too(name, monkeypatch):
    """What each dense layer gives in evaluation has, less its bias, a standard deviation of one."""
    model, seen = WITHIN[name](), []
    initialize_from_data(model, rows())

    def looked_at(layer, x, training=False):
        seen.append(x @ layer.weight)
        return forward(layer, x, training)

    forward = Dense.forward
    monkeypatch.setattr(Dense, "forward", looked_at)
    model.predict(rows())
    assert len(seen) == sum(name.endswith("weight") for name in model.parameters)
    for z in seen:
        np.testing.assert_allclose(z.std(axis=0), 1, rtol=1e-5)


def test_other_layers_stay_as_they_are():
    model = Sequential(
        Embedding(6, 4), Conv1D(4, 5, 3, padding="same"), BatchNorm(5), Flatten(), Dense(35, 3),
        Dense(3, 2), seed=0,
    )  # fmt: skip
    model.layers[5].trainable = False
    before = copy.deepcopy(model.state_dict())
    initialize_from_data(model, np.random.default_rng(0).integers(0, 6, (50, 7)))
    for name, array in model.state_dict().items():
        changed = (array != before[name]).any()
        assert changed == name.startswith("4."), name


def test_bits_follow_from_the_seed(dtype, isa, threads):
    """On any number of threads and every instruction set; another seed draws other numbers."""
    models = [Sequential(Dense(7, 300, "tanh"), Dense(300, 90), dtype=dtype) for _ in range(3)]
    X = rows(5000)
    initialize_from_data(models[0], X)
    for array in models[1].parameters.values():
        array[...] = 7  # what was there before does not matter
    with fastnn.threads(1):
        initialize_from_data(models[1], X)
    assert_same_bits(models[1].flat_parameters, models[0].flat_parameters)
    initialize_from_data(models[2], X, seed=1)
    for name, array in models[2].parameters.items():
        assert (array != models[0].parameters[name]).all()


def test_instruction_sets_agree():
    found = []
    for level in fastnn._kernels.isa_levels()[1:]:  # those with fused multiply-add
        fastnn._kernels.set_isa(level)
        initialize_from_data(model := network("float32"), rows())
        found.append(model.flat_parameters)
    for bits in found:
        assert_same_bits(bits, found[0])


def test_of_many_rows_some_are_drawn():
    """Not the first ones: the rows may be sorted."""
    X = np.sort(np.random.default_rng(0).standard_normal((50_000, 1)), axis=0)
    model = Sequential(Dense(1, 40), dtype="float64")
    initialize_from_data(model, X)
    z = X @ model.parameters["0.weight"]
    assert 0 < abs(z.std(axis=0) - 1).max() < 0.05


@pytest.mark.parametrize("X", [
    np.ones((1, 7)), np.full((9, 7), 0.1), np.zeros((9, 7)), np.full((9, 7), 1e20),
])  # fmt: skip
def test_units_that_do_not_vary(X, dtype):
    """They keep what was drawn, and their bias moves them to 0."""
    model = Sequential(Dense(7, 400), dtype=dtype)
    initialize_from_data(model, X)
    weight = model.parameters["0.weight"]
    assert abs(weight.std() - np.sqrt(1 / 7)) < 0.03
    np.testing.assert_allclose(model.predict(X), 0, atol=1e-5 * X.max())


def test_constant_columns_are_no_harm():
    X = rows()
    X[:, 2], X[:, 5] = 0.0, 12.5
    initialize_from_data(model := network(), X)
    for z, _ in sums(model, X):
        np.testing.assert_allclose(z.std(axis=0), 1, rtol=1e-12)


def test_without_a_bias():
    model = network(bias=False)
    initialize_from_data(model, rows())
    assert "4.bias" not in model.parameters


def test_what_is_given_as_rows():
    X = rows(40).round(3)
    expected = network()
    initialize_from_data(expected, X)
    for same in (X.tolist(), np.asfortranarray(X), X.astype(object), np.flip(X)[::-1, ::-1]):
        initialize_from_data(model := network(), same)
        assert_same_bits(model.flat_parameters, expected.flat_parameters)


WRONG = {
    "another width": (np.ones((5, 6)), "X: layer 0, .*takes 7 features, got 6"),
    "no rows": (np.ones((0, 7)), "X: expected rows and features, got none"),
    "one row": (np.ones(7), "X: expected shape"),
    "NaN": (np.where(np.eye(5, 7), np.nan, 1.0), r"X: gives sums that are not finite in Dense\(7"),
    "too large": (np.eye(5, 7) * 1e308, "X: gives sums that are not finite in"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused_leaves_the_model_as_it_was(name):
    X, text = WRONG[name]
    model, before = network(), network()
    with pytest.raises(ValueError, match=f"^{text}"):
        initialize_from_data(model, X)
    assert_same_bits(model.flat_parameters, before.flat_parameters)
    initialize_from_data(model, rows())


def test_who_predicts_meanwhile_has_the_model_as_it_was(monkeypatch):
    model, expected, X, seen = network(), network(), rows(), []
    before = model.predict(X[:3])
    initialize_from_data(expected, X)

    def looked_at(*arguments, **options):
        seen.append(model.predict(X[:3]))
        return begin(*arguments, **options)

    begin = from_data._begin_and_run
    monkeypatch.setattr(from_data, "_begin_and_run", looked_at)
    initialize_from_data(model, X)
    assert_same_bits(model.flat_parameters, expected.flat_parameters)
    assert len(seen) == 3
    for outputs in seen:
        assert_same_bits(outputs, before)


def test_which_models_are_refused():
    with pytest.raises(ValueError, match="model: expected one with dense layers that train"):
        initialize_from_data(Sequential(BatchNorm(3)), np.ones((3, 3)))
    with pytest.raises(TypeError, match="model: expected an object such as"):
        initialize_from_data(np.ones((3, 3)), np.ones((3, 3)))
    with pytest.raises(ValueError, match="seed: expected"):
        initialize_from_data(network(), rows(), seed=-1)


def test_a_model_trains_from_there():
    """Recorded, and saved as any other."""
    model, X = network("float32"), rows()
    initialize_from_data(model, X)
    twin = copy.deepcopy(model)
    for each in (model, twin):
        each.fit(X, X[:, :3], loss=fastnn.MeanSquaredError(), optimizer=fastnn.Adam(), epochs=2,
                 progress=False)  # fmt: skip
    assert_same_bits(model.flat_parameters, twin.flat_parameters)


def test_rows_too_small_for_finite_weights_leave_the_model_as_it_was():
    model = Sequential(Dense(3, 2), seed=0)
    before = model.flat_parameters.copy()
    with pytest.raises(
        ValueError, match=r"X: too small, gives weights that are not finite in Dens"
    ):
        initialize_from_data(model, np.eye(3, dtype=np.float32) * np.float32(1e-42))
    assert_same_bits(model.flat_parameters, before)
