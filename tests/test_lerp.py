"""`model.lerp(other, tau)`: target networks and averages of weights."""

import copy
import threading

import numpy as np
import pytest

from compare import assert_close, assert_same_bits
from fastnn import BatchNorm, Dense, Layer, ReLU, Residual, Sequential


def pair(dtype="float32", **kwargs):
    """Two models of one architecture with other parameters and running statistics."""
    models = []
    for seed in (0, 1):
        layers = Dense(5, 7), BatchNorm(7), ReLU(), Residual(Dense(7, 7), BatchNorm(7))
        model = Sequential(*layers, Dense(7, 3), seed=seed, dtype=dtype, **kwargs)
        model.forward(np.random.default_rng(seed).normal(size=(9, 5)), training=True)
        models.append(model)
    return models


@pytest.mark.parametrize("tau", [0.0, 0.005, 0.5, 1, np.float32(0.25)])
def test_all_arrays_move_by_tau(tau, dtype):
    target, model = pair(dtype)
    before, its = target.state_dict(), model.state_dict()
    target.lerp(model, tau)
    for name, array in target.state_dict().items():
        a, b = before[name].astype(np.longdouble), its[name].astype(np.longdouble)
        assert_close(array, a + np.dtype(dtype).type(tau) * (b - a), dtype)
        assert (array == before[name]).all() == (tau == 0 or (before[name] == its[name]).all())
        if tau == 1:
            assert_same_bits(array, its[name])
        assert_same_bits(model.state_dict()[name], its[name])


def test_many_steps_reach_the_other():
    target, model = pair("float64")
    for _ in range(400):
        target.lerp(model, 0.1)
    np.testing.assert_allclose(target.flat_parameters, model.flat_parameters, atol=1e-12)
    before = model.flat_parameters.copy()
    model.lerp(model, 0.3)
    assert_same_bits(model.flat_parameters, before)


def test_a_copy_and_a_loaded_model_are_of_the_same_layout():
    target, model = pair()
    copy.deepcopy(target).lerp(model, 0.5)
    target.lerp(copy.copy(model), 1.0)
    assert_same_bits(target.flat_parameters, model.flat_parameters)


class Scaled(Layer):
    """Its state has no dimensions, and none of its arrays any element."""

    def __init__(self):
        self.state = {"scale": np.array(2.0), "none": np.zeros((0, 3))}

    def forward(self, x, training=False):
        return x * self.state["scale"]

    def backward(self, dy):
        return dy * self.state["scale"]


def test_state_of_ones_own_and_no_parameters():
    target, model = Sequential(Scaled()), Sequential(Scaled())
    model.state["0.scale"][...] = 4.0
    target.lerp(model, 0.5)
    assert target.state["0.scale"] == 3.0


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Sequential(Dense(5, 4)), r"0\.weight of shape \(5, 3\), got \(5, 4\)"),
        (Sequential(Dense(5, 3), Dense(3, 3)), r"1\.weight of shape None, got \(3, 3\)"),
        (Sequential(Dense(5, 3, bias=False)), r"0\.bias of shape \(3,\), got None"),
        (Sequential(Dense(5, 3), dtype="float64"), "float32, got float64"),
        (Sequential(Dense(5, 3), BatchNorm(3)), r"1\.gamma of shape None"),
    ],
)
def test_another_layout_is_refused(other, message):
    model = Sequential(Dense(5, 3))
    before = model.flat_parameters.copy()
    with pytest.raises(ValueError, match=f"^other: expected .*{message}"):
        model.lerp(other, 0.5)
    assert_same_bits(model.flat_parameters, before)


@pytest.mark.parametrize("tau", [-0.1, 1.1, np.nan, np.inf, None, "0.5", True])
def test_tau_is_checked(tau):
    target, model = pair()
    with pytest.raises((TypeError, ValueError), match=r"^tau: expected a number in \[0, 1\]"):
        target.lerp(model, tau)


def test_what_is_no_model_read_only_arrays_and_other_threads_are_refused():
    target, model = pair()
    with pytest.raises(TypeError, match=r"^other: expected a model, got"):
        target.lerp(model.flat_parameters, 0.5)
    faults = []

    def move():
        try:
            target.lerp(model, 0.5)
        except RuntimeError as error:
            faults.append(str(error))

    with target.exclusive():
        thread = threading.Thread(target=move)
        thread.start()
        thread.join()
    assert "another thread is training this model" in faults[0]
    target.state["1.running_mean"].flags.writeable = False
    before = target.flat_parameters.copy()
    with pytest.raises(ValueError, match=r"^1\.running_mean: expected a writable array"):
        target.lerp(model, 0.5)
    assert_same_bits(target.flat_parameters, before)
