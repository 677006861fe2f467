"""`Vector`: numbers that an optimizer steps though no layer has them."""

import copy
import pickle

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import SGD, Adam, Dense, Sequential, Vector
from tables import OPTIMIZERS


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("size", [1, 3, 17])
def test_every_optimizer_steps_it_as_it_steps_a_model(name, size, dtype):
    rng = np.random.default_rng(0)
    start = rng.normal(size=size).astype(dtype)
    vector = Vector(start, dtype)
    model = Sequential(Dense(1, size, bias=False), dtype=dtype)
    model.flat_parameters[:size] = start
    make = OPTIMIZERS[name][0]
    optimizers = make(clip_norm=0.7), make(clip_norm=0.7)
    for _ in range(5):
        g = rng.normal(size=size).astype(dtype)
        model.flat_gradients[:size] = vector.gradient = g
        for part, optimizer in zip((model, vector), optimizers, strict=True):
            optimizer.step(part)
        assert_same_bits(vector.values, model.parameters["0.weight"][0])


def test_values_and_gradient_may_be_set_or_written_into():
    vector = Vector([1, 2.5])
    assert vector.values.dtype == vector.dtype == np.float32
    assert (vector.gradient == 0).all()
    values, gradient = vector.values, vector.gradient
    vector.gradient[1] = 2.0
    vector.values = np.array([3.0, 4.0])
    vector.values += 1.0
    SGD(0.5).step(vector)
    assert vector.values is values and vector.gradient is gradient
    assert values.tolist() == [4.0, 4.0]
    start = np.zeros(2, np.float32)
    Vector(start).values[:] = 1.0
    assert (start == 0).all()


def test_a_gradient_of_zero_is_one_step():
    vector, optimizer = Vector([1.0]), Adam()
    optimizer.step(vector)
    assert vector.values == 1.0


def test_copies_and_pickles_go_on_alike():
    vector, optimizer = Vector([0.5, -0.5], dtype="float64"), Adam(0.1)
    vector.gradient = [1.0, 2.0]
    optimizer.step(vector)
    pairs = [(vector, optimizer), copy.deepcopy((vector, optimizer)),
             pickle.loads(pickle.dumps((vector, optimizer)))]  # fmt: skip
    alone = pickle.loads(pickle.dumps(optimizer))
    pairs.append((alone._model, alone))
    shallow = copy.copy(vector)
    for its, stepper in pairs:
        its.gradient = [-3.0, 1.0]
        stepper.step(its)
    for its, _ in pairs[1:]:
        assert_same_bits(its.values, vector.values)
        assert its.values is not vector.values
    assert not (shallow.values == vector.values).any()


def test_errors():
    for wrong in ([], 1.0, [[1.0]], "one", None, [1j]):
        with pytest.raises((TypeError, ValueError), match=r"^values: "):
            Vector(wrong)
    with pytest.raises((TypeError, ValueError), match="dtype"):
        Vector([1.0], dtype="int32")
    vector, other, optimizer = Vector([1.0, 2.0]), Vector([1.0]), Adam()
    for name in ("values", "gradient"):
        with pytest.raises(ValueError, match=rf"^{name}: expected shape \(2,\), got \(3,\)"):
            setattr(vector, name, [1.0, 2.0, 3.0])
    with pytest.raises(AttributeError):
        vector.gradients = [1.0, 2.0]
    optimizer.step(vector)
    with pytest.raises(ValueError, match="has stepped another model"):
        optimizer.step(other)
    vector.gradient = [np.nan, 1.0]
    before = vector.values.copy()
    with pytest.raises(FloatingPointError):
        optimizer.step(vector)
    assert vector.values[0] == before[0]
    vector.values.flags.writeable = False
    with pytest.raises(ValueError, match="expected a writable array"):
        optimizer.step(vector)
    with pytest.raises(ValueError, match="steps another model"):
        fastnn.save_checkpoint("none.safetensors", Sequential(Dense(1, 1)), optimizer)
