"""`model.input_gradient` and `model.jacobian`: gradients by the inputs, in evaluation."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    Adam,
    BatchNorm,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GradientStep,
    Layer,
    LeakyReLU,
    MaxPool1D,
    ReLU,
    Residual,
    Sequential,
    SoftmaxCrossEntropy,
    Tanh,
    derivatives,
)
from tables import IMAGE_LAYERS, LAYERS, image_shape


def model_of(name, dtype="float64"):
    """A model with a layer of the tables, which has trained, and inputs for it."""
    rng = np.random.default_rng(0)
    if name in LAYERS:
        layer, shape = LAYERS[name](6), (3, 6)
    else:
        layer = IMAGE_LAYERS[name](4)
        shape = image_shape(layer, 3, 4)
    model = Sequential(layer, dtype=dtype, seed=1)
    model.forward(rng.normal(1.0, 2.0, shape), training=True)  # moves running statistics
    for array in model.parameters.values():
        array += rng.normal(0, 0.1, array.shape)
    return model, rng.normal(size=shape).astype(dtype)


def network(dtype="float32"):
    layers = Dense(5, 8, activation="tanh"), BatchNorm(8), ReLU(), Dropout(0.4)
    model = Sequential(*layers, Residual(Dense(8, 8), BatchNorm(8), Tanh()), Dense(8, 3),
                       dtype=dtype, seed=3)  # fmt: skip
    rng = np.random.default_rng(0)
    model.forward(rng.normal(size=(20, 5)), training=True)
    return model, rng.normal(size=(7, 5)).astype(dtype), rng.normal(size=(7, 3)).astype(dtype)


def differences(model, x, dy, epsilon=1e-5):
    """The central differences of Σ dy · outputs, in evaluation."""
    result = np.empty_like(x)
    for i in range(x.size):
        above, below = x.copy(), x.copy()
        above.flat[i] += epsilon
        below.flat[i] -= epsilon
        outputs = model.forward(above) - model.forward(below)
        result.flat[i] = (outputs * dy).sum() / (above.flat[i] - below.flat[i])
    return result


def distance(a, b):
    length = np.linalg.norm(a) + np.linalg.norm(b)
    return np.linalg.norm(a - b) / length if length else 0.0


@pytest.mark.parametrize("name", [*LAYERS, *IMAGE_LAYERS])
def test_input_gradients_are_those_of_differences_and_change_nothing(name):
    model, x = model_of(name)
    dy = np.random.default_rng(5).normal(size=model.forward(x).shape)
    model.flat_gradients.fill(7.0)
    before = [a.copy() for a in (model.flat_parameters, *model.state.values(), model._counter)]
    numeric = differences(model, x, dy)
    for _ in range(3):  # recorded, then replayed
        assert distance(model.input_gradient(x, dy), numeric) < 1e-7
    assert (model.flat_gradients == 7.0).all()
    after = model.flat_parameters, *model.state.values(), model._counter
    for a, b in zip(after, before, strict=True):
        assert (a == b).all()


@pytest.mark.parametrize("name", [*LAYERS, *IMAGE_LAYERS])
def test_jacobians_have_the_bits_of_one_gradient_after_the_other(name, dtype, monkeypatch):
    model, x = model_of(name, dtype)
    outputs = model.forward(x)
    one_by_one = np.empty((len(x), *outputs.shape[1:], *x.shape[1:]), dtype)
    for place in np.ndindex(outputs.shape[1:]):
        dy = np.zeros_like(outputs)
        dy[(slice(None), *place)] = 1.0
        one_by_one[(slice(None), *place)] = model.input_gradient(x, dy)
    for _ in range(2):
        assert_same_bits(model.jacobian(x), one_by_one)
    monkeypatch.setattr(derivatives, "_ROWS", 2 * outputs[0].size)  # two rows at once, then one
    monkeypatch.setattr(derivatives, "_FEWEST", 1)
    assert_same_bits(copy.deepcopy(model).jacobian(x), one_by_one)


def test_a_number_a_function_and_an_array_stand_for_the_same_gradient(dtype):
    model, x, dy = network(dtype)
    expected = model.input_gradient(x, dy)
    assert_same_bits(model.input_gradient(x, dy.tolist()), expected)
    assert_same_bits(model.input_gradient(x, lambda outputs: dy), expected)
    seen = []
    model.input_gradient(x, lambda outputs: seen.append(outputs.copy()) or dy)
    assert_same_bits(seen[0], model.forward(x))
    second = np.zeros_like(dy)
    second[:, 1] = 1.0
    for number in (1, np.int64(1)):
        assert_same_bits(model.input_gradient(x, number), model.input_gradient(x, second))


def test_the_gradient_of_a_loss_descends():
    model, x, _ = network("float64")
    loss, y = SoftmaxCrossEntropy(), np.arange(7) % 3
    dx = model.input_gradient(x, lambda outputs: loss(outputs, y)[1])
    fall = loss(model.forward(x), y)[0] - loss(model.forward(x - 1e-4 * dx), y)[0]
    np.testing.assert_allclose(fall, 1e-4 * (dx**2).sum(), rtol=1e-3)


def test_results_are_the_callers_own():
    model, x, dy = network()
    first = model.input_gradient(x, dy)
    kept = first.copy()
    model.input_gradient(x + 1, dy)
    assert_same_bits(first, kept)
    jacobian = model.jacobian(x)
    kept = jacobian.copy()
    model.jacobian(x + 1)
    assert_same_bits(jacobian, kept)
    flat = Sequential(Dropout(0.5))
    gradient = np.ones((2, 3), np.float32)
    flat.input_gradient(gradient, gradient)[...] = 5.0
    assert (gradient == 1).all()


def test_recordings_follow_parameters_statistics_and_settings():
    slope = LeakyReLU(0.1)
    model = Sequential(Dense(4, 4), BatchNorm(4), slope, Dense(4, 2), dtype="float64")
    x, dy = np.random.default_rng(0).normal(size=(2, 5, 4)), np.ones((5, 2))
    for change in (
        lambda: model.flat_parameters.__iadd__(0.1),
        lambda: model.state["1.running_var"].__imul__(3.0),
        lambda: setattr(slope, "alpha", 0.6),
        lambda: setattr(model.layers[1], "eps", 0.5),
    ):
        before = model.input_gradient(x[0], dy), model.jacobian(x[0])
        change()
        after = model.input_gradient(x[0], dy), model.jacobian(x[0])
        anew = copy.deepcopy(model)
        for old, new, fresh in zip(
            before, after, (anew.input_gradient(x[0], dy), anew.jacobian(x[0])), strict=True
        ):
            assert not (old == new).all()
            assert_same_bits(new, fresh)


def test_any_number_of_threads_and_instruction_sets_give_the_same_bits(fma_isas):
    layers = Dense(17, 64, activation="tanh"), BatchNorm(64), Dense(64, 64, activation="gelu")
    x = np.random.default_rng(0).normal(size=(200, 17)).astype(np.float32)
    results = []
    for isa in fma_isas:
        fastnn._kernels.set_isa(isa)
        model = Sequential(*copy.deepcopy(layers), Dense(64, 3), seed=0)
        for threads in (1, 2, 3, 7):
            fastnn.set_num_threads(threads)
            results.append((model.input_gradient(x, 0), model.jacobian(x)))
    for dx, jacobian in results:
        assert_same_bits(dx, results[0][0])
        assert_same_bits(jacobian, results[0][1])


def test_python_threads_work_on_one_model_at_once_and_others_evaluate():
    model, _, _ = network()
    xs = np.random.default_rng(0).normal(size=(40, 7, 5)).astype(np.float32)
    expected = [(model.input_gradient(x, 1), model.jacobian(x), model.forward(x)) for x in xs]

    def work(x):
        return model.input_gradient(x, 1), model.jacobian(x), model.forward(x)

    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(work, xs), expected, strict=True):
            for a, b in zip(found, wanted, strict=True):
                assert_same_bits(a, b)


def test_a_function_may_ask_for_gradients_itself():
    model, x, dy = network()
    expected = model.input_gradient(x, dy)
    inner = []
    outer = model.input_gradient(x, lambda y: inner.append(model.input_gradient(x, dy)) or dy)
    assert_same_bits(inner[0], expected)
    assert_same_bits(outer, expected)


def test_a_function_that_fails_leaves_the_model_usable():
    model, x, dy = network()
    expected = model.input_gradient(x, dy)
    with pytest.raises(ZeroDivisionError):
        model.input_gradient(x, lambda outputs: 1 / 0)
    assert_same_bits(model.input_gradient(x, dy), expected)


def test_a_training_step_goes_on_around_it():
    models = [network()[0] for _ in range(2)]
    _, x, dy = network()
    steps = [GradientStep(model, Adam()) for model in models]
    for _ in range(3):
        for model, step in zip(models, steps, strict=True):
            step.forward(x)
            if model is models[0]:
                model.input_gradient(x, dy)
                model.jacobian(x)
            step.backward(dy)
        assert_same_bits(models[0].flat_parameters, models[1].flat_parameters)


def test_within_a_recording_nothing_of_it_is_recorded():
    model, x, dy = network()
    a = np.zeros(4)
    for _ in range(2):
        with fastnn._kernels.Program() as program:
            model.input_gradient(x, dy)
            model.jacobian(x)
            fastnn._kernels.copy(a, np.ones(4))
        assert program.phases() in ([(1, [])], [(0, [(1, 1)])])


def test_copies_and_pickles_of_a_used_model_work():
    model, x, dy = network()
    expected = model.input_gradient(x, dy), model.jacobian(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_same_bits(other.input_gradient(x, dy), expected[0])
        assert_same_bits(other.jacobian(x), expected[1])


def test_few_recordings_are_kept():
    model, x, _ = network()
    for rows in range(1, 40):
        model.input_gradient(np.repeat(x[:1], rows, axis=0), 0)
    assert len(model._derivatives._idle) == derivatives._MOST


class Scale(Layer):
    """y = scale x, which counts its forwards in its state."""

    def __init__(self, features):
        self.in_features = self.out_features = features
        self.state = {"count": np.zeros(1)}

    def parameter_shapes(self):
        return {"scale": (self.in_features,)}

    def initialize(self, rng, activation):
        self.parameters["scale"][:] = rng.normal(size=self.in_features)

    def forward(self, x, training=False):
        if training:
            self.x = x
            self.state["count"][...] += 1
        return x * self.parameters["scale"]

    def backward(self, dy):
        self.gradients["scale"][:] = (dy * self.x).sum(axis=0)
        return dy * self.parameters["scale"]


class Quiet(BatchNorm):
    """A class of one's own that leaves forward and backward as they are."""


def test_layers_of_ones_own_and_ours_beside_them():
    inner = Residual(Scale(5), Dropout(0.9), BatchNorm(5), Quiet(5))
    model = Sequential(Scale(5), inner, Quiet(5), Dense(5, 2), dtype="float64", seed=0)
    rng = np.random.default_rng(0)
    model.forward(rng.normal(size=(30, 5)), training=True)
    model.flat_gradients.fill(7.0)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    x, dy = rng.normal(size=(4, 5)), rng.normal(size=(4, 2))
    assert distance(model.input_gradient(x, dy), differences(model, x, dy)) < 1e-7
    jacobian = model.jacobian(x)
    for k in range(2):
        np.testing.assert_allclose(jacobian[:, k], model.input_gradient(x, k), rtol=1e-12)
    assert (model.flat_gradients == 7.0).all()
    for name, array in model.state_dict().items():
        assert_same_bits(array, before[name])
    model.forward(x, training=True)
    model.input_gradient(x, dy)
    with pytest.raises(RuntimeError, match=r"^backward needs a forward"):
        model.backward(dy)  # its layers have saved something else since


def test_outputs_at_every_position():
    layers = Conv1D(3, 4, 3, padding="same", activation="tanh"), MaxPool1D(2), Conv1D(4, 2, 1)
    model = Sequential(*layers, dtype="float64", seed=0)
    x = np.random.default_rng(0).normal(size=(2, 8, 3))
    jacobian = model.jacobian(x)
    assert jacobian.shape == (2, 4, 2, 8, 3)
    np.testing.assert_allclose(
        model.input_gradient(x, 1), jacobian[:, :, 1].sum(axis=1), rtol=1e-12, atol=1e-15
    )


def test_errors_name_the_argument():
    model, x, dy = network()
    for wrong in (dy[:3], dy[:, :2], dy[0], None, "last"):
        with pytest.raises((TypeError, ValueError), match=r"^gradient: "):
            model.input_gradient(x, wrong)
        with pytest.raises((TypeError, ValueError), match=r"^gradient: "):
            model.input_gradient(x, lambda outputs, wrong=wrong: wrong)
    for wrong in (3, -1, True):
        with pytest.raises((TypeError, ValueError), match=r"^gradient: expected an integer from 0"):
            model.input_gradient(x, wrong)
    for call in (lambda x: model.input_gradient(x, 0), model.jacobian):
        for wrong in (x[:, :3], x[0], x[:0], "x"):
            with pytest.raises((TypeError, ValueError), match=r"^x: "):
                call(wrong)
    codes = Sequential(Embedding(7, 4), Flatten(), Dense(8, 1))
    for call in (lambda x: codes.input_gradient(x, 0), codes.jacobian):
        for _ in range(2):
            with pytest.raises(RuntimeError, match="codes, which have no gradient"):
                call(np.array([[0, 6], [3, 3]]))
