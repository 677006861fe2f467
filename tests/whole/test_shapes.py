"""Any shape and any memory layout, drawn by hypothesis: the results are those of plain arrays."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastnn
import reference
from compare import assert_close, assert_same_bits
from fastnn import BatchNorm, Dense, Dropout, LayerNorm, ReLU, Sequential, _kernels

# the same examples in every run, so that a failure can be repeated
SETTINGS = settings(
    derandomize=True, deadline=None, max_examples=60, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip

TYPES = ["?", "i1", "u2", "<i4", ">i8", "<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "g"]
dimension = st.integers(1, 70)


@st.composite
def layouts(draw, rows, features):
    """An array (rows, features) of whole numbers, in some type, order, stride and alignment."""
    kind = np.dtype(draw(st.sampled_from(TYPES)))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 2 if kind == "?" else 100,
                                                                      (rows, features))  # fmt: skip
    step = [draw(st.sampled_from([1, 2, 3, -1, -2])) for _ in range(2)]
    start = [draw(st.integers(0, 3)) for _ in range(2)]
    order = draw(st.sampled_from("CF"))
    shift = draw(st.integers(0, 3))  # bytes: misaligned for most types
    room = [start[i] + abs(step[i]) * n for i, n in enumerate((rows, features))]
    memory = np.zeros(int(np.prod(room)) * kind.itemsize + shift, np.uint8)
    whole = memory[shift:].view(kind).reshape(room, order=order)
    view = whole[start[0] :, start[1] :][:: abs(step[0]), :: abs(step[1])][:rows, :features]
    view = view[:: 1 if step[0] > 0 else -1, :: 1 if step[1] > 0 else -1]
    view[...] = values
    view.flags.writeable = draw(st.booleans())
    return view


def network(features, dtype):
    return Sequential(
        LayerNorm(features), Dense(features, 9, activation="tanh"), BatchNorm(9), Dropout(0.4),
        Dense(9, 17), ReLU(), Dense(17, 2), seed=features, dtype=dtype,
    )  # fmt: skip


@SETTINGS
@given(data=st.data(), rows=dimension, features=dimension, dtype=st.sampled_from(["f4", "f8"]))
def test_any_layout_of_the_input(data, rows, features, dtype):
    given_x = data.draw(layouts(rows, features))
    before = given_x.copy()
    plain = np.array(given_x, dtype=np.dtype(dtype), order="C")
    model, twin = network(features, dtype), network(features, dtype)
    assert_same_bits(model.predict(given_x), twin.predict(plain))
    if rows > 1:
        y = model.forward(given_x, training=True)
        assert_same_bits(y, twin.forward(plain, training=True))
        gradient = data.draw(layouts(rows, 2))
        dx = model.backward(gradient, input_gradient=True)
        assert_same_bits(dx, twin.backward(np.array(gradient, dtype), input_gradient=True))
        assert_same_bits(model.flat_gradients, twin.flat_gradients)
    np.testing.assert_array_equal(given_x, before)


@SETTINGS
@given(data=st.data(), rows=dimension, outputs=st.integers(2, 9))
def test_any_layout_of_outputs_targets_and_weights(data, rows, outputs):
    o, t = data.draw(layouts(rows, outputs)), data.draw(layouts(rows, outputs))
    w = data.draw(layouts(rows, 1))[:, 0]
    plain_weight = np.array(w, dtype=np.float64) + 1
    for loss in (
        fastnn.MeanSquaredError(), fastnn.Huber(), fastnn.MeanAbsoluteError(), fastnn.Quantile(0.7),
    ):  # fmt: skip
        value, gradient = loss(o, t, np.array(w, dtype=np.float64) + 1)
        expected = loss(np.array(o, gradient.dtype), np.array(t, gradient.dtype), plain_weight)
        assert value == expected[0]
        assert_same_bits(gradient, expected[1])
    labels = (t[:, 0].astype(int) % outputs).astype(np.int8)[::-1]
    value, gradient = fastnn.SoftmaxCrossEntropy()(o, labels)
    expected = fastnn.SoftmaxCrossEntropy()(np.array(o, gradient.dtype), labels.astype(int).copy())
    assert value == expected[0]
    assert_same_bits(gradient, expected[1])


@pytest.mark.parametrize("isa", _kernels.isa_levels())
@SETTINGS
@given(rows=dimension, terms=st.integers(1, 600), columns=dimension, seed=st.integers(0, 9))
def test_products_of_any_shape(isa, rows, terms, columns, seed):
    _kernels.set_isa(isa)
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((rows, terms)), rng.standard_normal((terms, columns))
    dz = rng.standard_normal((rows, columns))
    for kind in (np.float32, np.float64):
        a, b, d = x.astype(kind), w.astype(kind), dz.astype(kind)
        dw = np.full_like(b, np.nan)
        _kernels.dense_backward_weight(a, d, dw)
        results = (_kernels.dense_forward(a, b), _kernels.dense_backward_input(d, b), dw)
        for result, (p, q) in zip(results, ((a, b), (d, b.T), (a.T, d)), strict=True):
            p, q = p.astype(np.longdouble), q.astype(np.longdouble)
            assert_close(result, p @ q, kind, magnitude=np.abs(p) @ np.abs(q))


@SETTINGS
@given(
    rows=dimension,
    features=st.integers(1, 300),
    rate=st.floats(0, 0.99),
    seed=st.integers(0, 2**64 - 1),
    step=st.integers(0, 2**64 - 1),
    layer=st.integers(0, 1000),
)
def test_dropout_of_any_shape_rate_and_key(rows, features, rate, seed, step, layer):
    x = np.ones((rows, features), np.float32)
    y, _ = _kernels.dropout_forward(x, np.array([rate]), seed, np.array([step], np.uint64), layer)
    keep = reference.dropout_keep(rows, features, rate, seed, step, layer)
    np.testing.assert_array_equal(y != 0, keep)


@SETTINGS
@given(
    width=st.lists(dimension, min_size=1, max_size=5),
    rows=dimension,
    seed=st.integers(0, 2**64 - 1),
)
def test_networks_of_any_widths(width, rows, seed):
    """Predictions equal NumPy's, and every parameter is aligned."""
    layers = [Dense(a, b, activation="relu") for a, b in zip(width, [*width[1:], 3], strict=True)]
    model = Sequential(*layers, seed=seed, dtype="float64")
    x = y = np.random.default_rng(0).standard_normal((rows, width[0]))
    for i in range(len(layers)):
        weight, bias = model.parameters[f"{i}.weight"], model.parameters[f"{i}.bias"]
        assert weight.ctypes.data % 64 == bias.ctypes.data % 64 == 0
        y = np.maximum(y @ weight + bias, 0)
    np.testing.assert_allclose(model.predict(x), y, rtol=1e-9, atol=1e-9)
