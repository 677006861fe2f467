"""Models that compute in bfloat16: what they promise beside float32, and that all ways of running
them have the same bits."""

import copy
import pickle
from itertools import product

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    ReLU,
    Residual,
    Sequential,
    _kernels,
    half_weights,
)
from forged import made_up, refused

ROWS, FEATURES, CLASSES = 150, 70, 5
THREADS = (1, 2, 3, 7)


def network(compute="bfloat16", **options):
    return Sequential(
        Dense(FEATURES, 160, activation="relu"), Residual(Dense(160, 160), BatchNorm(160), ReLU()),
        Dropout(0.1), Dense(160, CLASSES, activation="tanh"), seed=3, compute=compute, **options,
    )  # fmt: skip


def data(dtype=np.float32):
    rng = np.random.default_rng(0)
    return rng.standard_normal((ROWS, FEATURES)).astype(dtype), rng.integers(0, CLASSES, ROWS)


def settings():
    return fastnn.SoftmaxCrossEntropy(), fastnn.Adam(1e-2)


# ---- the option ----


def test_the_argument_is_kept_and_shown():
    model = network()
    assert model.compute == "bfloat16" and repr(model).endswith("compute='bfloat16',\n)")
    plain = network(None)
    assert plain.compute is None and "compute" not in repr(plain)
    assert_same_bits(model.flat_parameters, plain.flat_parameters)
    with pytest.raises(AttributeError, match="compute"):
        model.compute = None
    for same in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model[:2]):
        assert same.compute == "bfloat16"


def test_files_keep_it(tmp_path):
    (X, y), (loss, optimizer) = data(), settings()
    model, path = network(), tmp_path / "model.safetensors"
    step = fastnn.TrainStep(model, loss, optimizer)
    step(X, y)
    fastnn.save_checkpoint(path, model, optimizer)
    saved = fastnn.load_checkpoint(path)
    assert saved.model.compute == "bfloat16"
    assert_same_bits(fastnn.load(path).predict(X), model.predict(X))
    assert fastnn.TrainStep(saved.model, loss, saved.optimizer)(X, y) == step(X, y)


def test_files_with_another_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    refused(path, made_up(compute="float8"), "compute: expected None or 'bfloat16', got 'float8'")
    refused(path, made_up(compute=[1]), "compute: expected None or 'bfloat16'")
    message = "compute: expected None for a float64 model"
    refused(path, made_up(dtype="float64", compute="bfloat16"), message)


@pytest.mark.parametrize("compute", ["float16", "float32"])
def test_another_name_is_refused(compute):
    with pytest.raises(ValueError, match="compute: expected None or 'bfloat16', got"):
        network(compute)
    with pytest.raises(TypeError, match="compute: expected None or 'bfloat16', got 16"):
        network(16)


def test_the_summary_says_it():
    assert network().summary().endswith(" in float32, products in bfloat16")
    assert network(None).summary().endswith(" in float32")


def test_float64_is_refused():
    with pytest.raises(ValueError, match="compute: expected None for a float64 model, got 'bfl"):
        network(dtype="float64")


# ---- what is computed ----


def test_operands_are_rounded_and_nothing_else():
    """With weights and inputs that are numbers of bfloat16 already, a layer is that of float32."""
    X = np.round(data()[0] * 4) / 4
    for activation in ("linear", "gelu"):
        layers = [Dense(FEATURES, 33, activation=activation) for _ in range(2)]
        fine, coarse = Sequential(layers[0]), Sequential(layers[1], compute="bfloat16")
        fine.flat_parameters[:] = np.round(fine.flat_parameters * 64) / 64
        coarse.flat_parameters[:] = fine.flat_parameters
        dy = np.round(np.random.default_rng(1).standard_normal((ROWS, 33)).astype("f") * 8) / 8
        outputs = [model.forward(X, training=True) for model in (fine, coarse)]
        assert_same_bits(*outputs)
        if activation == "linear":
            gradients = [model.backward(dy, input_gradient=True) for model in (fine, coarse)]
            assert_same_bits(*gradients)
            assert_same_bits(fine.flat_gradients, coarse.flat_gradients)


def test_outputs_and_gradients_are_near_those_of_float32():
    X, y = data()
    found = []
    for compute in (None, "bfloat16"):
        model = network(compute)
        outputs = model.forward(X, training=True)
        model.backward(fastnn.SoftmaxCrossEntropy()(outputs, y)[1])
        found.append((outputs.copy(), model.flat_gradients.copy()))
    for fine, coarse in zip(*found, strict=True):
        error = np.linalg.norm(fine - coarse) / np.linalg.norm(fine)
        assert 2.0**-12 < error < 2.0**-5


def test_convolutions_stay_float32():
    x = np.random.default_rng(0).standard_normal((3, 9, 9, 2)).astype(np.float32)
    layers = [[Conv2D(2, 7, 3), Flatten()] for _ in range(2)]
    fine, coarse = Sequential(*layers[0]), Sequential(*layers[1], compute="bfloat16")
    assert_same_bits(fine.forward(x), coarse.forward(x))


def test_derivatives_by_the_inputs_are_rounded_too():
    X, _ = data()
    model, plain = network(), network(None)
    dy = np.ones((ROWS, CLASSES), np.float32)
    pulled = model.input_gradient(X, dy)
    assert not np.array_equal(pulled, plain.input_gradient(X, dy))
    assert_same_bits(pulled, model.input_gradient(X, dy))
    assert_same_bits(pulled[:7], model.input_gradient(X[:7], dy[:7]))
    model = Sequential(Dense(FEATURES, CLASSES), compute="bfloat16")
    plain = Sequential(Dense(FEATURES, CLASSES))
    assert_same_bits(model.jacobian(X[:1])[0], half_weights.widened(
        half_weights.rounded(plain.layers[0].weight.T.copy(), "bfloat16")))  # fmt: skip


def test_gradcheck_looks_at_the_same_network_in_float64():
    X, y = data(np.float64)
    model = Sequential(Dense(FEATURES, 3, activation="tanh"), Dense(3, CLASSES), compute="bfloat16")
    assert fastnn.gradcheck(model, fastnn.SoftmaxCrossEntropy(), X[:4], y[:4]) < 1e-6


# ---- predictors ----


@pytest.mark.parametrize("instruction", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 3, 40])
def test_a_predictor_has_the_bits_of_predict(rows, instruction):
    _kernels.set_bfloat16(instruction)
    X, _ = data()
    model = Sequential(
        Dense(FEATURES, 160, activation="relu"), Residual(Dense(160, 160)), Dense(160, CLASSES),
        compute="bfloat16",
    )  # fmt: skip
    predictor = model.predictor(batch_size=rows)
    expected = model.predict(X)
    assert_same_bits(predictor(X[:rows]), expected[:rows])
    model.flat_parameters *= np.float32(1.7)
    predictor.refresh()
    assert_same_bits(predictor(X[:rows]), model.predict(X[:rows]))
    assert not np.array_equal(expected, model.predict(X))
    assert_same_bits(model.predict(X, batch_size=7), model.predict(X))


def test_a_predictor_rounds_a_weight_with_the_batch_norm_in_it():
    (X, y), (loss, optimizer) = data(), settings()
    model = Sequential(
        Dense(FEATURES, 64), BatchNorm(64), ReLU(), Dense(64, CLASSES), compute="bfloat16"
    )
    model.fit(X, y, loss=loss, optimizer=optimizer, epochs=2, progress=False)
    expected, found = model.predict(X), model.predictor(batch_size=ROWS)(X)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 2.0**-12 < error < 2.0**-6


def test_a_predictor_with_weights_of_16_bits_is_refused():
    with pytest.raises(ValueError, match="expected None for a model that computes in bfloat16"):
        network().predictor(weights="float16")


# ---- the same bits ----


def trained(way):
    """Parameters, statistics and predictions after two epochs."""
    (X, y), (loss, optimizer), model = data(), settings(), network()
    order = {"batch_size": 64, "shuffle": False}
    if way == "fit":
        model.fit(X, y, loss=loss, optimizer=optimizer, epochs=2, progress=False, **order)
    else:
        step = fastnn.TrainStep(model, loss, optimizer)
        for _ in range(2):
            for xb, yb in fastnn.batches(X, y, **order):
                if way == "step":
                    step(xb, yb)
                    continue
                model.backward(loss(model.forward(xb, training=True), yb)[1])
                optimizer.step(model)
    return np.concatenate([*(a.ravel() for a in model._named().values()), model.predict(X).ravel()])


def test_recorded_by_hand_and_fit_have_the_same_bits_on_all_machines_and_threads():
    expected = trained("hand")
    assert np.isfinite(expected).all()
    for isa, n, instruction in product(_kernels.isa_levels()[1:], THREADS, (True, False)):
        if instruction and isa != "avx512":
            continue
        _kernels.set_isa(isa)
        _kernels.set_bfloat16(instruction)
        for way in ("hand", "step", "fit"):
            with fastnn.threads(n):
                assert_same_bits(trained(way), expected)


def test_portable_code_has_its_own_bits_on_any_threads():
    _kernels.set_isa("portable")
    expected = trained("hand")
    for n in THREADS:
        with fastnn.threads(n):
            assert_same_bits(trained("fit"), expected)


# ---- it learns ----


def test_digits_are_read_as_well_as_in_float32():
    """The mean accuracy over seeds differs by less than the seeds among themselves do."""
    X, y = fastnn.datasets.digits()
    rows, held = fastnn.stratified_split(y, 0.2, seed=0)
    accuracies = {}
    for compute in (None, "bfloat16"):
        accuracies[compute] = found = []
        for seed in range(4):
            model = Sequential(
                Dense(64, 96, activation="relu"), Dense(96, 10), seed=seed, compute=compute
            )
            model.fit(
                X[rows], y[rows], loss=fastnn.SoftmaxCrossEntropy(), optimizer=fastnn.Adam(2e-3),
                epochs=12, seed=seed, progress=False,
            )  # fmt: skip
            found.append(fastnn.metrics.accuracy(model.predict(X[held]), y[held]))
    assert min(accuracies["bfloat16"]) > 0.95
    assert abs(np.mean(accuracies["bfloat16"]) - np.mean(accuracies[None])) < 0.01
