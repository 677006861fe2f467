"""Residual: the sum of two paths, and layers within a layer: names, state, dropout, penalty."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    SGD,
    Adam,
    BatchNorm,
    Dense,
    Dropout,
    Flatten,
    GradientStep,
    Layer,
    LayerNorm,
    ReLU,
    Residual,
    Sequential,
    SoftmaxCrossEntropy,
    Tanh,
    TrainStep,
    gradcheck,
)
from stepping import assert_alike, assert_same_training, by_hand

# ---- names, copies, blocks ----


def network(dtype="float32", **options):
    return Sequential(
        Dense(6, 8),
        Residual(
            Dense(8, 8), BatchNorm(8), ReLU(), Dropout(0.3),
            Residual(Dropout(0.5), Dense(8, 8, activation="gelu", l2=0.3)),
            shortcut=Dense(8, 8, bias=False),
        ),
        Dropout(0.2), Residual(LayerNorm(8), Tanh()), Dense(8, 3), seed=3, dtype=dtype, **options,
    )  # fmt: skip


NAMES = [
    "0.weight", "0.bias", "1.0.weight", "1.0.bias", "1.1.gamma", "1.1.beta", "1.4.1.weight",
    "1.4.1.bias", "1.shortcut.weight", "3.0.gamma", "3.0.beta", "4.weight", "4.bias",
]  # fmt: skip
STATE = ["1.1.running_mean", "1.1.running_var"]


def draw(rows=12, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, 6)).astype(np.float32), rng.integers(0, 3, rows)


def fit(model, epochs=2, **options):
    return model.fit(*draw(), loss=SoftmaxCrossEntropy(), optimizer=Adam(0.01), epochs=epochs,
                     batch_size=5, progress=False, **options)  # fmt: skip


def test_names_of_parameters_and_state():
    model = network()
    assert list(model.parameters) == list(model.gradients) == NAMES and list(model.state) == STATE
    assert sorted(model.state_dict()) == sorted(NAMES + STATE)
    outer = model.layers[1]
    inner = outer.layers[4].layers[1]
    assert inner.weight is model.parameters["1.4.1.weight"]
    assert outer.shortcut.weight is model.parameters["1.shortcut.weight"]
    assert outer.layers[1].running_var is model.state["1.1.running_var"]
    assert outer.parameters["4.1.bias"] is inner.bias
    assert all(array.base is not None for array in model.parameters.values())
    inner.weight[...] = 5
    assert (model.flat_parameters == 5).sum() == 64


def test_summary_shows_the_layers_within():
    table = [line.split("  ") for line in network().summary().splitlines()]
    assert [(row[0], row[-1].strip()) for row in table[1:-1]] == [
        ("0", "56"), ("1", "224"), ("1.0", "72"), ("1.1", "16"), ("1.2", "0"), ("1.3", "0"),
        ("1.4", "72"), ("1.4.0", "0"), ("1.4.1", "72"), ("1.shortcut", "64"), ("2", "0"),
        ("3", "16"), ("3.0", "16"), ("3.1", "0"), ("4", "27"),
    ]  # fmt: skip
    names = [line.split()[1] for line in network().summary().splitlines()[1:-1]]
    assert names[1] == names[6] == names[11] == "Residual"
    assert table[-1][0].startswith("323 parameters")


def test_state_can_be_loaded():
    model, other = network(), network(dtype="float64")
    fit(model)
    other.load_state_dict(model.state_dict())
    x, _ = draw()
    np.testing.assert_allclose(other.predict(x), model.predict(x), rtol=1e-4, atol=1e-5)
    for name, array in other.state_dict().items():
        assert_same_bits(array.astype(np.float32), model.state_dict()[name])
    with pytest.raises(ValueError, match=r"missing 1\.1\.running_var; unknown 1\.9\.weight"):
        state = model.state_dict()
        state["1.9.weight"] = state.pop("1.1.running_var")
        model.load_state_dict(state)


@pytest.mark.parametrize("duplicate", [
    copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)),
])  # fmt: skip
def test_copies_train_alike_and_apart(duplicate):
    model = network()
    fit(model)
    twin = duplicate(model)
    before = twin.state_dict()
    fit(model)
    for name, array in twin.state_dict().items():
        assert_same_bits(array, before[name])
    fit(twin)
    assert_same_bits(twin.flat_parameters, model.flat_parameters)
    for name, array in twin.state.items():
        assert_same_bits(array, model.state[name])


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_of_the_layer_belongs_to_no_model(duplicate):
    model = network()
    twin = duplicate(model.layers[1])
    assert twin.layers[0] is not model.layers[1].layers[0]
    other = Sequential(twin, seed=1)
    other.flat_parameters[:] = 0
    assert model.parameters["1.0.weight"].all()


def test_a_sequential_as_block_is_copied_with_what_it_has_learnt():
    block = Sequential(Dense(4, 4, activation="relu", l2=0.5), BatchNorm(4), seed=1)
    block.flat_parameters[:] = 7
    block.state["1.running_var"][:] = 5
    model = Sequential(Residual(block), Residual(block), seed=1)
    twin = Sequential(*(Residual(Dense(4, 4, activation="relu", l2=0.5), BatchNorm(4))
                        for _ in range(2)), seed=1)  # fmt: skip
    assert repr(model) == repr(twin)
    assert all((array == 7).all() for array in model.parameters.values())
    assert all((model.state[f"{i}.1.running_var"] == 5).all() for i in range(2))
    model.flat_parameters[:] = 3
    assert (block.parameters["0.weight"] == 7).all()


def test_the_parts_are_fixed():
    with pytest.raises(AttributeError, match="layers is fixed once a Residual is made"):
        Residual(ReLU()).layers = ()


# ---- how parameters begin ----


@pytest.mark.parametrize("layers, name, gain", [
    (lambda: [Residual(Dense(300, 300), ReLU())], "0.0.weight", 2),
    (lambda: [Residual(Dense(300, 300), Tanh()), ReLU()], "0.0.weight", 1),
    (lambda: [Residual(BatchNorm(300), Dense(300, 300)), ReLU()], "0.1.weight", 2),
    (lambda: [Residual(Residual(Dense(300, 300))), ReLU()], "0.0.0.weight", 2),
    (lambda: [Residual(Tanh(), shortcut=Dense(300, 300)), ReLU()], "0.shortcut.weight", 2),
    (lambda: [Residual(Dense(300, 300), Dense(300, 300))], "0.1.weight", 1),
])  # fmt: skip
def test_the_activation_that_follows_decides_how_weights_begin(layers, name, gain):
    weight = Sequential(*layers(), seed=0).parameters[name]
    np.testing.assert_allclose(weight.std(), np.sqrt(gain / 300), rtol=0.02)


def test_layers_within_begin_unlike_one_another():
    model = Sequential(Dense(8, 8), Residual(Dense(8, 8), Dense(8, 8)), Residual(Dense(8, 8)))
    weights = [array for name, array in model.parameters.items() if "weight" in name]
    assert len(weights) == 4
    for i, a in enumerate(weights):
        assert all((a != b).all() for b in weights[:i])


# ---- dropout ----


def test_each_dropout_has_its_own_mask():
    """Nested as well as side by side; and layers added behind change none of them."""

    def masks(*behind):
        model = Sequential(
            Dropout(0.5), Residual(Dropout(0.5), Residual(Dropout(0.5)), shortcut=Dropout(0.5)),
            Residual(Dropout(0.5)), Dropout(0.5), *behind, seed=5,
        )  # fmt: skip
        outer, last = model.layers[1:3]
        parts = [model.layers[0], outer.layers[0], outer.layers[1].layers[0], outer.shortcut,
                 last.layers[0], model.layers[3]]  # fmt: skip
        model.forward(np.ones((9, 64)), training=True)
        assert len({part._place.position for part in parts}) == len(parts)
        assert all(0 <= part._place.position < 2**32 for part in parts)
        return [np.asarray(part._saved[0]) for part in parts]

    found = masks()
    for i, a in enumerate(found):
        assert all((a != b).any() for b in found[:i])
    for a, b in zip(found, masks(Residual(Dropout(0.1)), Dropout(0.5)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_with_dropout_within_is_random():
    model = Sequential(Residual(Residual(Dropout(0.5))), seed=1)
    x = np.ones((3, 20))
    assert (model.forward(x, training=True) != model.forward(x, training=True)).any()
    assert_same_bits(model.forward(x), np.full((3, 20), 3, np.float32))


# ---- gradients, penalty ----


def test_the_penalty_of_layers_within():
    model = network(l2=0.1)
    weights = {name: a for name, a in model.parameters.items() if name.endswith("weight")}
    expected = sum(
        (0.3 if name == "1.4.1.weight" else 0.1) * (array.astype(float) ** 2).sum() / (2 * 7)
        for name, array in weights.items()
    )
    np.testing.assert_allclose(model.penalty(7), expected, rtol=1e-6)


@pytest.mark.parametrize("l2", [0.0, 0.7])
def test_gradients(l2, isa):
    x, y = draw(5)
    assert gradcheck(network(l2=l2), SoftmaxCrossEntropy(), x, y) < 1e-7
    flat = Sequential(Residual(Flatten(), Dense(6, 6), shortcut=Flatten()), Dense(6, 3), l2=l2)
    assert gradcheck(flat, SoftmaxCrossEntropy(), x.reshape(5, 2, 3), y) < 1e-7


def test_the_first_layers_gradients_do_not_depend_on_the_inputs_being_wanted():
    x, _ = draw()
    results = []
    for wanted in (False, True):
        model = Sequential(
            Residual(Dense(6, 6, "tanh"), Dropout(0.3), Dense(6, 6), shortcut=Dense(6, 6)), seed=2
        )
        y = model.forward(x, training=True)
        model.backward(y, input_gradient=wanted)
        results.append(model.flat_gradients)
    assert_same_bits(*results)


def test_backward_needs_a_forward():
    layer = Sequential(Residual(Dense(6, 6))).layers[0]
    with pytest.raises(RuntimeError, match="backward needs a forward"):
        layer.backward(np.zeros((2, 6), np.float32))
    layer.forward(np.zeros((2, 6), np.float32))
    with pytest.raises(RuntimeError, match="backward needs a forward"):
        layer.backward_parameters(np.zeros((2, 6), np.float32))


def test_outside_a_model_a_residual_says_so():
    with pytest.raises(RuntimeError, match=r"Residual\(ReLU\(\)\) is part of no model yet"):
        Residual(ReLU()).forward(np.zeros((2, 3)))


# ---- training ----


def test_recorded_steps_have_the_bits_of_the_loop_by_hand(isa, threads, dtype):
    batches = [draw(rows, seed) for seed, rows in enumerate((16, 16, 5, 150, 16, 150, 5))]
    make = partial(network, dtype, l2=0.1)
    assert_same_training(make, SoftmaxCrossEntropy(), lambda: Adam(0.01), batches)


def test_steps_in_halves_have_the_bits_of_the_loop_by_hand():
    """A backward is recorded long after its forward, with another forward in between."""
    hand, model = network(), network()
    step, optimizer = GradientStep(model, Adam(0.01)), Adam(0.01)
    first, second = draw(16), draw(7, 1)
    for x, y in (first, second, first, second, first):
        if x is second[0]:
            step.forward(first[0])  # its backward never comes
            hand.forward(first[0], training=True)
        step.backward(SoftmaxCrossEntropy()(step.forward(x), y)[1])
        by_hand(hand, SoftmaxCrossEntropy(), optimizer, [(x, y)])
    assert step.recorded
    assert_alike(model, hand)


def test_a_predictor_has_the_bits_of_predict(isa):
    model, (x, _) = network(), draw()
    fit(model)
    predictor = model.predictor(12)
    assert predictor.recorded
    for data in (x, -x):
        assert_same_bits(predictor(data), model.predict(data))


def test_statistics_are_those_before_a_step_that_diverges():
    model = network()
    x, y = draw()
    step = TrainStep(model, SoftmaxCrossEntropy(), SGD(0.1))
    for _ in range(2):  # recorded, then replayed
        step(x, y)
        before = model.state_dict()
        with pytest.raises(FloatingPointError, match="step"):
            step(np.full_like(x, np.nan), y)
        for name, array in model.state_dict().items():
            assert_same_bits(array, before[name])


# ---- custom layers ----


class Scale(Layer):
    def __init__(self, features):
        self.in_features = self.out_features = features
        self.state = {"passes": np.zeros(1)}

    def parameter_shapes(self):
        return {"scale": (self.in_features,)}

    def initialize(self, rng, activation):
        self.parameters["scale"][:] = 1.5
        self.state["passes"][:] = 0

    def forward(self, x, training=False):
        self.state["passes"][:] += training
        self.x = x.copy()
        x *= self.parameters["scale"]  # a layer may change its input
        return x.astype(np.float64)

    def backward(self, dy):
        self.gradients["scale"][:] = (dy * self.x).sum(axis=0)
        return dy * self.parameters["scale"]


class Twice:
    def forward(self, x, training=False):
        return np.repeat(x, 2, axis=1) if training is None else 2 * x

    def backward(self, dy):
        return 2 * dy


def with_own(l2=0.0):
    return Sequential(
        Dense(6, 6), Residual(Scale(6), Twice(), Tanh(), Residual(Twice()), shortcut=Scale(6)),
        Dense(6, 3), seed=1, l2=l2,
    )  # fmt: skip


def test_layers_of_ones_own():
    model, (x, y) = with_own(), draw()
    assert not model.layers[1].native
    assert list(model.state) == ["1.0.passes", "1.shortcut.passes"]
    assert gradcheck(with_own(0.3), SoftmaxCrossEntropy(), x, y) < 1e-7
    history = fit(model, epochs=30)
    assert history.loss[-1] < 0.9 * history.loss[0]
    assert model.state["1.0.passes"] == model.state["1.shortcut.passes"] == 90
    assert not TrainStep(with_own(), SoftmaxCrossEntropy(), SGD(0.1)).recorded
    predictor = model.predictor(12)
    assert not predictor.recorded
    assert_same_bits(predictor(x), model.predict(x))
    hidden = x @ model.parameters["0.weight"] + model.parameters["0.bias"]
    scale, aside = model.parameters["1.0.scale"], model.parameters["1.shortcut.scale"]
    hidden = 3 * np.tanh(2 * hidden * scale) + hidden * aside
    expected = hidden @ model.parameters["2.weight"] + model.parameters["2.bias"]
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-4, atol=1e-5)


def test_an_own_layer_that_gives_another_shape_is_found_when_it_runs():
    class Wider:
        def forward(self, x, training=False):
            return np.repeat(x, 2, axis=1)

        def backward(self, dy):
            return dy[:, ::2]

    for layer, first in ((Residual(Wider()), "x has"),
                         (Residual(Wider(), shortcut=Twice()), "the shortcut gives")):  # fmt: skip
        with pytest.raises(ValueError, match=rf"{first} shape \(batch, 3\), but f\(x\) "
                                             r"\(batch, 6\); give a shortcut"):  # fmt: skip
            Sequential(layer).forward(np.ones((2, 3)))
    y = Sequential(Residual(Wider(), shortcut=Wider())).forward(np.ones((2, 3)))
    assert_same_bits(y, np.full((2, 6), 2, np.float32))


# ---- bad input ----

placed = Dense(3, 3)
owner = Sequential(placed)
again = Dense(3, 3)


@pytest.mark.parametrize("make, error, message", [
    (lambda: Residual(), ValueError, "layers: expected at least one, got none"),
    (lambda: Residual(ReLU), TypeError, r"layer 0: expected a layer, got the class; .*ReLU\(\)"),
    (lambda: Residual(ReLU(), "relu"), TypeError, "layer 1: expected a layer with forward"),
    (lambda: Residual(ReLU(), shortcut=Dense), TypeError, "shortcut: expected a layer, got the cl"),
    (lambda: Residual(ReLU(), shortcut=3), TypeError, "shortcut: expected a layer with forward"),
    (lambda: Residual(placed), ValueError, "layer 0: .* is part of another model"),
    (lambda: Residual(again, again), ValueError, r"layer 1: Dense\(3, 3\) stands in .* twice"),
    (lambda: Residual(again, shortcut=again), ValueError, "shortcut: .* stands in .* twice"),
    (lambda: Residual(Dense(3, 4)), ValueError, r"x has 3 features, but f\(x\) has 4; give a sh"),
    (lambda: Residual(Dense(3, 4), Dense(5, 3)), ValueError, "layer 1, .* takes 5 features, but"),
    (lambda: Residual(Dense(3, 4), shortcut=Dense(3, 5)), ValueError,
     r"the shortcut gives 5 features, but f\(x\) has 4"),
    (lambda: Residual(Dense(3, 4), shortcut=Dense(5, 4)), ValueError,
     "the shortcut takes 5 features, but f 3"),
])  # fmt: skip
def test_bad_parts_are_refused(make, error, message):
    with pytest.raises(error, match=f"^Residual: {message}"):
        make()


def test_a_layer_within_stands_in_no_second_place():
    inner = Dense(3, 3)
    outer = Residual(inner)
    for layers in ((outer, inner), (inner, outer), (outer, Residual(ReLU(), inner)), (outer,) * 2):
        with pytest.raises(ValueError, match=r"layer 1: .* stands in the model twice"):
            Sequential(*layers)
    Sequential(outer)
    with pytest.raises(ValueError, match=r"layer 0: Dense\(3, 3\) is part of another model"):
        Sequential(inner)
    inner = Dense(3, 3)
    outer = Residual(Residual(inner))
    Sequential(inner)
    with pytest.raises(ValueError, match=r"layer 0: Dense\(3, 3\) is part of another model"):
        Sequential(outer)


def test_sizes_around_a_residual_are_checked():
    with pytest.raises(ValueError, match=r"layer 1, Residual.*, takes 4 features, but layer 0.* 3"):
        Sequential(Dense(2, 3), Residual(Dense(4, 4)))
    with pytest.raises(ValueError, match=r"layer 1, Dense.*takes 4 features, .* Residual.* 5"):
        Sequential(Residual(ReLU(), Dense(3, 5), shortcut=Dense(3, 5)), Dense(4, 2))
    model = Sequential(Residual(LayerNorm(3)), ReLU(), Dense(3, 2))
    assert (model.in_features, model.out_features) == (3, 2)
    with pytest.raises(ValueError, match=r"x: layer 0, Residual.*takes 3 features, got 4"):
        model.forward(np.ones((2, 4)))


@pytest.mark.parametrize("layer, shape, message", [
    (lambda: Residual(Flatten(), Dense(6, 6), shortcut=ReLU()), (2, 3),
     r"the shortcut gives shape \(batch, 2, 3\), but f\(x\) \(batch, 6\)"),
    (lambda: Residual(Flatten(), Dense(5, 6), shortcut=Flatten()), (2, 3),
     r"layer 1, Dense\(5, 6\) takes 5 features, got 6 \(after Flatten\(\) of \(batch, 2, 3\)\)"),
])  # fmt: skip
def test_paths_of_unlike_shapes_are_refused(layer, shape, message):
    with pytest.raises(ValueError, match=f"^Residual: {message}"):
        layer().output_shape(shape)
    with pytest.raises(ValueError, match=f"x: layer 0, Residual: {message}"):
        Sequential(layer()).forward(np.zeros((4, *shape)))


def test_a_step_of_one_row_is_none_where_batch_norm_is_within():
    def fit(batch_size):
        return network().fit(*draw(11), loss=SoftmaxCrossEntropy(), optimizer=SGD(0.1),
                             batch_size=batch_size, progress=False)  # fmt: skip

    assert fit(batch_size=5).epochs == 10  # batches of 5 and 6
    with pytest.raises(ValueError, match="batch_size: batch norm"):
        fit(batch_size=1)


def test_settings_within_count_at_the_next_step():
    model, twin = network(), network()
    x, y = draw()
    step, other = (TrainStep(each, SoftmaxCrossEntropy(), SGD(0.1)) for each in (model, twin))
    assert step(x, y) == other(x, y)
    model.layers[1].layers[4].layers[0].rate = 0.1
    assert step(x, y) != other(x, y)
    assert fastnn.Residual is Residual
