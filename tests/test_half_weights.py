"""Predictors with weights of 16 bits: those of float32 whose weights were rounded, bit for bit."""

import copy
import itertools
import pickle

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits, uses_threads
from fastnn import BatchNorm, Conv2D, Dense, Flatten, ReLU, Residual, Sequential, _kernels
from fastnn.half_weights import NAMES, is_read_in_halves, rounded, widened
from fastnn.predictor import Affine, fold

HALVES = pytest.mark.parametrize("kind", NAMES)


def random(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def network(*sizes):
    model = Sequential(*(Dense(a, b, "tanh") for a, b in itertools.pairwise(sizes)), seed=0)
    model.flat_parameters += np.float32(0.01)  # biases, too
    return model


def with_rounded_weights(model, kind):
    """A copy of the model whose dense layers' weights are numbers of that kind."""
    model = copy.deepcopy(model)
    for layer in model.layers:
        if isinstance(layer, Dense):
            layer.weight[...] = widened(rounded(layer.weight, kind))
    return model


# ---- rounding ----


def test_bfloat16_is_the_nearest_and_of_two_the_even_one():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 50_000, dtype=np.uint32)
    bits[:20_000] = bits[:20_000] & 0xFFFF0000 | 0x8000  # half way between two
    x = bits.view(np.float32)
    x = x[np.isfinite(x) & (np.abs(x) < 3e38)]
    got = widened(rounded(x, "bfloat16")).astype(float)
    lower = (x.view(np.uint32) & 0xFFFF0000).view(np.float32)
    upper = ((x.view(np.uint32) & 0xFFFF0000) + 0x10000).view(np.float32)
    below, above = np.abs(x - lower.astype(float)), np.abs(upper.astype(float) - x)
    is_even = (lower.view(np.uint32) >> 16 & 1) == 0
    assert (below == above).sum() > 15_000
    expected = np.where((below < above) | ((below == above) & is_even), lower, upper)
    assert (got == expected).all()
    normal = np.abs(x) >= np.finfo(np.float32).tiny
    assert (np.abs(got - x) <= 2.0**-8 * np.abs(x.astype(float)))[normal].all()


@HALVES
def test_what_is_no_finite_number_stays_that(kind):
    bits = np.array([0x7F800000, 0xFF800000, 0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32)
    x = np.append(bits.view(np.float32), np.float32([0.0, -0.0]))
    assert_same_bits(widened(rounded(x, kind)), x)


def test_float16_is_off_by_what_is_promised():
    x = np.random.default_rng(0).uniform(-1, 1, 50_000).astype(np.float32) ** 7
    error = np.abs(widened(rounded(x, "float16")) - x.astype(float))
    assert (error <= np.maximum(2.0**-11 * np.abs(x), 2.0**-25)).all() and error.max() > 2.0**-13


# ---- the same bits ----


@HALVES
@pytest.mark.parametrize("rows", [1, 2, 3, 9, 70])
def test_the_bits_are_those_of_rounded_weights(kind, rows, isa):
    for sizes in [(5, 3), (33, 64, 10), (300, 129, 257, 31)]:
        model, x = network(*sizes), random(rows, sizes[0])
        expected = with_rounded_weights(model, kind).predictor(rows)(x)
        predictor = model.predictor(rows, kind)
        for _ in range(2):
            assert_same_bits(predictor(x), expected)
        assert not (model.predictor(rows)(x) == expected).all()


@HALVES
@pytest.mark.parametrize("rows", [1, 2, 8])
def test_the_bits_depend_neither_on_threads_nor_on_the_instruction_set(kind, rows, fma_isas):
    model, x = network(500, 700, 600, 10), random(rows, 500)
    expected = with_rounded_weights(model, kind).predictor(rows)(x).copy()
    assert uses_threads(lambda: model.predictor(rows, kind)(x))
    for isa in fma_isas:
        _kernels.set_isa(isa)
        predictor = model.predictor(rows, kind)
        for threads in (1, 2, 3, 7):
            fastnn.set_num_threads(threads)
            predictor(0 * x)
            assert_same_bits(predictor(x), expected)


@HALVES
def test_large_weights_are_read_in_halves_for_more_rows(kind):
    model, x = network(1500, 1500), random(8, 1500)
    assert is_read_in_halves(8, model.layers[0].weight)
    assert not is_read_in_halves(9, model.layers[0].weight)
    assert_same_bits(model.predictor(8, kind)(x), with_rounded_weights(model, kind).predictor(8)(x))


@HALVES
@pytest.mark.parametrize("rows", [1, 3])
def test_the_weight_is_rounded_after_batch_norms_are_folded(kind, rows):
    model = Sequential(Dense(20, 40), BatchNorm(40), ReLU(), Dense(40, 3), seed=0)
    for name, array in {**model.parameters, **model.state}.items():
        array[...] = np.random.default_rng(len(name)).uniform(0.5, 2, array.shape)
    first, last = (step for step in fold(model) if isinstance(step, Affine))
    folded = Sequential(Dense(20, 40, "relu"), Dense(40, 3))
    for layer, step in zip(folded.layers, (first, last), strict=True):
        layer.weight[...], layer.bias[...] = step.weight, step.bias
    x = random(rows, 20)
    expected = with_rounded_weights(folded, kind).predictor(rows)(x)
    assert_same_bits(model.predictor(rows, kind)(x), expected)


@HALVES
def test_only_dense_layers_of_the_chain_are_rounded(kind):
    layers = Conv2D(1, 4, 3), ReLU(), Flatten(), Residual(Dense(64, 64)), Dense(64, 3)
    model, x = Sequential(*layers, seed=0), random(1, 6, 6, 1)
    expected = with_rounded_weights(model, kind).predictor()(x)
    assert_same_bits(model.predictor(1, kind)(x), expected)


@HALVES
def test_weights_that_are_not_finite(kind):
    model, x = network(40, 200, 3), random(1, 40)
    for value in (np.nan, np.inf, -np.inf, 1e-42):
        model.layers[0].weight[3, 150] = value
        expected = with_rounded_weights(model, kind).predictor()(x)
        assert_same_bits(model.predictor(1, kind)(x), expected)


# ---- refresh, copies ----


@HALVES
@pytest.mark.parametrize("rows", [1, 5])
def test_refresh_rounds_anew(kind, rows):
    model = Sequential(Dense(20, 140), BatchNorm(140), ReLU(), Dense(140, 3), seed=0)
    x, predictor = random(rows, 20), model.predictor(rows, kind)
    for _ in range(2):
        before = predictor(x).copy()
        model.flat_parameters *= np.float32(1.37)
        assert_same_bits(predictor(x), before)
        predictor.refresh()
        assert_same_bits(predictor(x), model.predictor(rows, kind)(x))
        assert not (predictor(x) == before).all()


@HALVES
def test_copies_give_the_same_bits(kind):
    model, x = network(30, 40, 3), random(1, 30)
    predictor = model.predictor(1, kind)
    for copied in (copy.deepcopy(predictor), pickle.loads(pickle.dumps(predictor))):
        assert copied.weights == kind
        assert_same_bits(copied(x), predictor(x))
    assert f"float32, weights='{kind}'" in repr(predictor)


# ---- what is refused ----


@pytest.mark.parametrize("kind, limit", [("float16", 65520.0), ("bfloat16", 3.3961776e38)])
def test_a_weight_that_would_become_infinite_is_refused(kind, limit):
    model, x = network(4, 5, 6), random(1, 4)
    weight = model.layers[1].weight
    weight[2, 3] = -np.nextafter(np.float32(limit), np.float32(0))
    predictor = model.predictor(1, kind)
    before = predictor(x).copy()
    weight[2, 3] = -limit
    model.layers[0].bias += 1
    message = rf"^weights: 1\.weight has -{limit:g} at \(2, 3\), which is too large for {kind}"
    message = message.replace("+", r"\+")
    with pytest.raises(ValueError, match=message):
        model.predictor(1, kind)
    with pytest.raises(ValueError, match=message):
        predictor.refresh()
    assert_same_bits(predictor(x), before)  # it keeps what it had
    weight[2, 3] = 0.0
    predictor.refresh()
    assert_same_bits(predictor(x), model.predictor(1, kind)(x))


def test_a_folded_weight_is_named_with_its_norm():
    model = Sequential(Dense(4, 5), BatchNorm(5), seed=0)
    model.parameters["1.gamma"][...] = 1e6
    with pytest.raises(ValueError, match=r"0\.weight with the batch norm behind it has .* at \("):
        model.predictor(1, "float16")


def test_float32_changes_nothing():
    model, x = network(30, 40, 3), random(1, 30)
    assert_same_bits(model.predictor(1, "float32")(x), model.predictor()(x))


@pytest.mark.parametrize("weights", ["float32", *NAMES])
def test_float64_models_are_refused(weights):
    model = Sequential(Dense(3, 2), dtype="float64")
    with pytest.raises(ValueError, match=f"^weights: expected None for a float64 model.*{weights}"):
        model.predictor(1, weights)


@pytest.mark.parametrize("weights", ["int8", 16, np.float16])
def test_other_weights_are_refused(weights):
    error = ValueError if isinstance(weights, str) else TypeError
    with pytest.raises(error, match=r"^weights: expected one of float32, bfloat16, float16, got"):
        network(3, 2).predictor(1, weights)


def test_layers_of_ones_own_are_refused():
    class Double:
        def forward(self, x, training=False):
            return 2 * x

        def backward(self, dy):
            return 2 * dy

    model = Sequential(Dense(3, 2), Double())
    with pytest.raises(ValueError, match=r"^weights: expected None for .* layers of your own"):
        model.predictor(1, "bfloat16")
    assert not model.predictor(1, "float32").recorded
