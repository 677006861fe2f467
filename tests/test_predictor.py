"""Predictors give the outputs of `predict`, prepared for many calls."""

import copy
import pickle
import threading

import numpy as np
import pytest

import fastnn
from compare import assert_close, assert_same_bits, uses_threads
from fastnn import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool2D,
    Predictor,
    ReLU,
    Sequential,
    Softmax,
    SoftmaxCrossEntropy,
    Tanh,
    _kernels,
)
from fastnn.predictor import fold
from tables import LAYERS

FEATURES = 9
SIZES = (1, 2, 7, 64)


def moved(model):
    """The model, with random parameters and running statistics."""
    rng = np.random.default_rng(3)
    for name, array in {**model.parameters, **model.state}.items():
        array[...] = rng.normal(0.1, 0.6, array.shape)
        if "var" in name:
            array[...] = rng.uniform(0.1, 3, array.shape)
    return model


def network(dtype="float32"):
    return moved(Sequential(
        Dense(FEATURES, 20, activation="tanh"), LayerNorm(20), Dropout(0.5), Dense(20, 13), ReLU(),
        Dense(13, 3), seed=1, dtype=dtype,
    ))  # fmt: skip


def draw(rows, dtype="float32", features=FEATURES):
    return np.random.default_rng(rows).standard_normal((rows, features)).astype(dtype)


# ---- without batch norm: the same bits ----


@pytest.mark.parametrize("layer", [name for name in LAYERS if not name.startswith("batch norm")])
def test_every_layer_has_the_bits_of_predict(layer, isa, dtype):
    first, last = LAYERS[layer](FEATURES), LAYERS[layer](4)
    width = first.out_features or FEATURES
    model = moved(Sequential(first, Dense(width, 4), last, dtype=dtype))
    for rows in SIZES:
        x, predictor = draw(rows, dtype), model.predictor(rows)
        assert predictor.recorded and predictor.batch_size == rows
        for _ in range(2):
            assert_same_bits(predictor(x), model.predict(x))
        assert_same_bits(predictor(-x), model.predict(-x))


def wide(dtype):
    return moved(Sequential(
        Dense(150, 200, activation="gelu"), LayerNorm(200), Dense(200, 180), Tanh(),
        Dense(180, 10), dtype=dtype,
    ))  # fmt: skip


@pytest.mark.parametrize("rows", [1, 7, 150])
def test_the_bits_depend_neither_on_threads_nor_on_the_instruction_set(rows, dtype, fma_isas):
    model, x = wide(dtype), draw(rows, dtype, 150)
    expected = model.predict(x)
    assert rows < 150 or uses_threads(lambda: model.predictor(rows)(x))
    for isa in fma_isas:
        _kernels.set_isa(isa)
        predictor = model.predictor(rows)
        for threads in (1, 2, 3, 7):
            fastnn.set_num_threads(threads)
            predictor(0 * x)
            assert_same_bits(predictor(x), expected)


# ---- with batch norm: folded where that is the same function ----

NORMED = {  # name -> (the layers, the number of operations they become)
    "after a dense layer": (lambda: [Dense(FEATURES, 8), BatchNorm(8)], 1),
    "without bias": (lambda: [Dense(FEATURES, 8, bias=False), BatchNorm(8)], 1),
    "and an activation": (lambda: [Dense(FEATURES, 8), BatchNorm(8), LeakyReLU(0.3)], 1),
    "and a softmax": (lambda: [Dense(FEATURES, 8), BatchNorm(8), Softmax()], 1),
    "and dropout": (
        lambda: [Dense(FEATURES, 8), Dropout(0.3), BatchNorm(8), Dropout(0.3), ReLU(), Dense(8, 2)],
        2,
    ),
    "twice": (lambda: [Dense(FEATURES, 8), BatchNorm(8), Linear(), BatchNorm(8, eps=0.1)], 1),
    "first": (lambda: [BatchNorm(FEATURES), Dense(FEATURES, 8)], 2),
    "after an activation": (lambda: [Dense(FEATURES, 8), ReLU(), BatchNorm(8)], 2),
    "after a dense layer's activation": (lambda: [Dense(FEATURES, 8, "tanh"), BatchNorm(8)], 2),
    "after a dense layer's softmax": (lambda: [Dense(FEATURES, 8, "softmax"), BatchNorm(8)], 2),
    "after a layer norm": (lambda: [Dense(FEATURES, 8), LayerNorm(8), BatchNorm(8), ReLU()], 4),
}


@pytest.mark.parametrize("name", NORMED)
def test_batch_norm(name, isa, dtype):
    make, operations = NORMED[name]
    model = moved(Sequential(*make(), dtype=dtype))
    exact = moved(Sequential(*make(), dtype="float64"))
    exact.load_state_dict(model.state_dict())
    assert len(fold(model)) == operations
    for rows in SIZES:
        x = draw(rows, dtype)
        assert_close(model.predictor(rows)(x), exact.predict(x), dtype, factor=2.0)


def test_batch_norm_is_not_folded_past_an_activation():
    """Folding it past tanh would be wrong by far more than rounding."""
    model = moved(Sequential(Dense(FEATURES, 8, "tanh"), BatchNorm(8)))
    x = draw(7)
    assert_same_bits(model.predictor(7)(x), model.predict(x))
    model.state["1.running_mean"][...] += 100
    assert_same_bits(model.predictor(7)(x), model.predict(x))


def test_nan_in_nan_out():
    predictor, x = network().predictor(3), draw(3)
    clean = predictor(x).copy()
    x[1, 4] = np.nan
    y = predictor(x)
    assert np.isnan(y[1]).all()
    assert_same_bits(y[::2], clean[::2])
    normed = moved(Sequential(Dense(FEATURES, 4), BatchNorm(4), ReLU()))
    normed.parameters["1.beta"][2] = np.nan
    assert np.isnan(normed.predictor(3)(draw(3))).any(axis=0).tolist() == [False] * 2 + [
        True,
        False,
    ]


# ---- what comes in and goes out ----


FORMS = {
    "list": lambda x: x.tolist(),
    "float64": lambda x: x.astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "integers": lambda x: x.astype(np.int8),
    "Fortran order": np.asfortranarray,
    "every other row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "big-endian": lambda x: x.astype(">f4"),
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
    "not aligned": lambda x: np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(
        np.float32).reshape(x.shape),
    "derived class": lambda x: x.view(type("Mine", (np.ndarray,), {})),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_x_is_taken(form):
    x, model = np.round(draw(7)), network()
    predictor = model.predictor(7)
    expected = model.predict(x)
    assert_same_bits(predictor(FORMS[form](x)), expected)
    out = np.empty_like(expected)
    assert predictor(FORMS[form](x), out=out) is out
    assert_same_bits(out, expected)


@pytest.mark.parametrize("own", [False, True])
def test_x_of_another_kind_is_refused(own):
    model = with_own_layer() if own else network()
    predictor, x = model.predictor(7), draw(7)
    expected = predictor(x).copy()
    for wrong in (
        draw(6), draw(8), x[0], x[:, :3], x[None], x[:0], None, "x", 3.0, x.astype(complex),
        [[None] * FEATURES] * 7, np.ma.masked_array(x),
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match="x"):
            predictor(wrong)
    assert_same_bits(predictor(x), expected)


@pytest.mark.parametrize("own", [False, True])
def test_out_is_filled_and_returned(own):
    model = with_own_layer() if own else network()
    predictor, x = model.predictor(7), draw(7)
    expected, out = model.predict(x), np.empty((7, 3), np.float32)
    assert predictor(x, out=out) is out and predictor(x, out) is out
    assert_same_bits(out, expected)
    read_only = out.copy()
    read_only.flags.writeable = False
    for wrong in (
        np.empty((7, 3)), np.empty((6, 3), np.float32), np.empty((2, 7, 3), np.float32),
        np.empty((7, 4), np.float32), np.empty(21, np.float32), read_only,
    ):  # fmt: skip
        before = wrong.copy()
        with pytest.raises(ValueError, match="out"):
            predictor(x, out=wrong)
        assert_same_bits(wrong, before)
    with pytest.raises(TypeError, match="out"):
        predictor(x, out=[[0.0] * 3] * 7)


def test_without_out_every_call_returns_one_array():
    predictor, x = network().predictor(7), draw(7)
    y = predictor(x)
    assert predictor(-x) is y
    other = np.empty_like(y)
    assert predictor(x, out=other) is other and predictor(x) is y
    assert_same_bits(y, other)


@pytest.mark.parametrize("shift", [-100, -1, 0, 1, 100])
def test_out_may_overlap_x(shift, threads):
    """More rows than columns, so that each thread carries rows from x to out."""
    model = moved(Sequential(Dense(FEATURES, 150), ReLU(), Dense(150, FEATURES)))
    rows = 600
    memory = np.zeros((rows + 200) * FEATURES, np.float32)
    x = memory[100 * FEATURES :][: rows * FEATURES].reshape(rows, FEATURES)
    start = (100 + shift) * FEATURES
    out = memory[start : start + rows * FEATURES].reshape(rows, FEATURES)
    x[...] = draw(rows)
    expected = model.predict(x.copy())
    predictor = model.predictor(rows)
    predictor(x, out=out)
    assert_same_bits(out, expected)


def test_what_it_returned_may_be_its_next_input(threads):
    model = moved(Sequential(Dense(FEATURES, 150), ReLU(), Dense(150, FEATURES)))
    predictor, y = model.predictor(600), draw(600)
    expected = model.predict(model.predict(y))
    assert_same_bits(predictor(predictor(y)), expected)


@pytest.mark.parametrize("batch_size", [0, -1, 1.0, "2", None, True])
def test_batch_size_is_checked(batch_size):
    with pytest.raises((TypeError, ValueError), match="batch_size"):
        network().predictor(batch_size)


# ---- when it was made ----


@pytest.mark.parametrize("layers", [
    lambda: [Dense(FEATURES, 8), BatchNorm(8), ReLU(), Dense(8, 3)],
    lambda: [BatchNorm(FEATURES), LayerNorm(FEATURES), Dense(FEATURES, 3, "tanh"), Dense(3, 3)],
])  # fmt: skip
def test_later_training_does_not_change_a_predictor(layers, dtype):
    model, x = moved(Sequential(*layers(), dtype=dtype)), draw(7, dtype)
    predictor = model.predictor(7)
    assert isinstance(predictor, Predictor)
    before = predictor(x).copy()
    model.fit(x, np.arange(7) % 3, loss=SoftmaxCrossEntropy(), optimizer=fastnn.Adam(0.1),
              progress=False, batch_size=7)  # fmt: skip
    assert_same_bits(predictor(x), before)
    model.flat_parameters[:] = np.nan
    if isinstance(model.layers[0], BatchNorm):
        model.layers[0].eps = 0.3
    assert_same_bits(predictor(x), before)


@pytest.mark.parametrize("make", [wide, lambda dtype: with_own_layer()])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_give_the_same_bits(duplicate, make, dtype):
    model = make(dtype)
    predictor, x = model.predictor(7), draw(7, dtype, model.in_features)
    expected = predictor(x).copy()
    model.flat_parameters[:] = 0
    twin = duplicate(predictor)
    assert twin(x) is not predictor(0 * x) and twin.recorded == predictor.recorded
    assert_same_bits(twin(x), expected)


def test_a_predictor_changes_nothing_in_its_model():
    model, x = network(), draw(7)
    state, counter = copy.deepcopy(model.state_dict()), model._counter.copy()
    model.predictor(7)(x)
    assert model._counter == counter
    for name, array in model.state_dict().items():
        assert_same_bits(array, state[name])
    loss, optimizer = SoftmaxCrossEntropy(), fastnn.SGD(0.1)
    outputs = model.forward(x, training=True)
    model.predictor(7)(x)
    model.backward(loss(outputs, np.zeros(7, int))[1])
    optimizer.step(model)


# ---- custom layers ----


class Own:
    def forward(self, x, training=False):
        x *= 2  # a layer may change its input
        return x

    def backward(self, dy):
        return 2 * dy


class OwnDense(Dense):
    def forward(self, x, training=False):
        return 2 * super().forward(x, training)


def with_own_layer():
    return moved(Sequential(Dense(FEATURES, 8), BatchNorm(8), Own(), Dense(8, 3)))


@pytest.mark.parametrize("make", [
    with_own_layer, lambda: moved(Sequential(OwnDense(FEATURES, 5), Dense(5, 3))),
    lambda: moved(Sequential(Own(), Dense(FEATURES, 3))),
])  # fmt: skip
def test_layers_that_cannot_be_recorded_run_in_python(make):
    model, x = make(), draw(7)
    predictor = model.predictor(7)
    assert not predictor.recorded
    before = model.predict(x)
    assert_same_bits(predictor(x), before)
    assert_same_bits(x, draw(7))
    if len(model.flat_parameters):
        model.flat_parameters[:] = 0
    assert_same_bits(predictor(x), before)


# ---- threads ----


def test_two_threads_and_one_predictor():
    """Each call returns the right outputs or is refused."""
    model = moved(Sequential(Dense(100, 300), ReLU(), Dense(300, 100), ReLU(), Dense(100, 2)))
    predictor, inputs = model.predictor(200), [draw(200, features=100), -draw(200, features=100)]
    expected, wrong, errors = [model.predict(x) for x in inputs], [], []

    def call(i):
        out = np.empty_like(expected[i])
        for _ in range(60):
            try:
                predictor(inputs[i], out=out)
                wrong.append((out != expected[i]).any())
            except RuntimeError as error:
                errors.append(str(error))

    workers = [threading.Thread(target=call, args=(i,)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert len(wrong) + len(errors) == 120 and wrong and not any(wrong)
    assert set(errors) <= {"another thread is running this program"}


def test_a_predictor_for_each_thread():
    model, results = wide("float32"), {}
    x = draw(100, features=150)
    expected = model.predict(x)

    def call(i):
        predictor = model.predictor(100)
        results[i] = all((predictor(x) == expected).all() for _ in range(30))

    workers = [threading.Thread(target=call, args=(i,)) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert results == dict.fromkeys(range(3), True)


def test_repr():
    model = Sequential(Dense(3, 2))
    assert repr(model.predictor(4)) == (
        "<Predictor: 3 -> 2 features, float32, batch_size=4, recorded=True>"
    )
    for predictor in (model.predictor(4), with_own_layer().predictor(4)):
        features = predictor._model.in_features or 3
        with pytest.raises(ValueError, match=r"^x: expected 4 rows, got 2; .*\(batch_size=2\)"):
            predictor(np.ones((2, features), np.float32))


@pytest.mark.parametrize("rows", [60, 61])
def test_many_images_go_through_part_by_part(rows):
    model = Sequential(
        Conv2D(1, 32, 3, padding="same", activation="relu"), MaxPool2D(2), Flatten(),
        Dense(24 * 24 * 32, 3), seed=0,
    )  # fmt: skip
    x = np.random.default_rng(0).random((rows, 48, 48, 1), np.float32)
    wanted, predictor = model.forward(x), model.predictor(batch_size=rows)
    np.testing.assert_array_equal(predictor(x), wanted)
    np.testing.assert_array_equal(predictor(x[::-1].astype(np.float64)), wanted[::-1])
    out = np.empty_like(wanted)
    assert predictor(x, out=out) is out
    np.testing.assert_array_equal(out, wanted)
    np.testing.assert_array_equal(model.predict(x), wanted)
    with pytest.raises(ValueError, match="out"):
        predictor(x, out=out[1:])
    with pytest.raises(ValueError, match=f"expected {rows} rows"):
        predictor(x[1:])


# ---- refresh ----


@pytest.mark.parametrize("layer", LAYERS)
def test_refreshed_predictors_have_the_bits_of_new_ones(layer, dtype):
    first, last = LAYERS[layer](FEATURES), LAYERS[layer](4)
    width = first.out_features or FEATURES
    layers = first, Dense(width, 6), BatchNorm(6), Dropout(0.2), BatchNorm(6), ReLU()
    model = moved(Sequential(*layers, Dense(6, 4, bias=False), last, dtype=dtype))
    x = draw(7, dtype)
    predictor, pickled = model.predictor(7), pickle.loads(pickle.dumps(model.predictor(7)))
    for change in (1.5, -0.3):
        before = predictor(x).copy()
        for array in (model.flat_parameters, *model.state.values()):
            array *= abs(change) if array is not model.flat_parameters else change
        assert_same_bits(predictor(x), before)
        predictor.refresh()
        assert_same_bits(predictor(x), model.predictor(7)(x))
        assert not (predictor(x) == before).all()
    kept = pickle.loads(pickle.dumps(predictor))
    assert_same_bits(kept(x), predictor(x))
    pickled.refresh()
    assert not (pickled(x) == predictor(x)).all()


def test_refresh_of_images_and_of_layers_of_ones_own():
    class Double:
        def forward(self, x, training=False):
            return 2 * x

        def backward(self, dy):
            return 2 * dy

    x = np.random.default_rng(0).normal(size=(2, 6, 6, 1)).astype(np.float32)
    for own in ((), (Double(),)):
        layers = Conv2D(1, 4, 3), BatchNorm(4), ReLU(), *own, Conv2D(4, 4, 3, groups=4), Flatten()
        model = moved(Sequential(*layers, Dense(16, 2)))
        predictor = model.predictor(2)
        predictor(x)
        assert predictor.recorded == (not own)
        model.forward(x, training=True)
        model.flat_parameters[...] *= 1.25
        predictor.refresh()
        assert_same_bits(predictor(x), model.predictor(2)(x))


def test_refresh_is_refused_while_another_thread_trains():
    model, faults = network(), []
    predictor = model.predictor()

    def refresh():
        try:
            predictor.refresh()
        except RuntimeError as error:
            faults.append(str(error))

    with model.exclusive():
        thread = threading.Thread(target=refresh)
        thread.start()
        thread.join()
    assert "another thread is training this model" in faults[0]
