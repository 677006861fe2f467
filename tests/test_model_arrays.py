"""A model's arrays are written into at every step: one that was made read-only, or was given
another shape, dtype or strides in place, is refused before anything changes."""

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import BatchNorm, Dense, ReLU, Sequential

rng = np.random.default_rng(0)
X, LABELS = rng.standard_normal((8, 6)).astype(np.float32), np.arange(8) % 3
VECTORS = ["flat_parameters", "flat_gradients"]
ARRAYS = ["0.weight", "0.bias", "1.gamma", "1.running_var", *VECTORS]


def network():
    return Sequential(Dense(6, 9), BatchNorm(9), ReLU(), Dense(9, 3), seed=0)


def array_of(model, name):
    return getattr(model, name) if name in VECTORS else (model.parameters | model.state)[name]


def by_hand(model):
    """A step that Python runs kernel by kernel, and its optimizer's update."""
    loss, optimizer = fastnn.SoftmaxCrossEntropy(), fastnn.Adam()

    def step():
        outputs = model.forward(X, training=True)
        model.backward(loss(outputs, LABELS)[1])
        optimizer.step(model)

    return step


def replayed(model):
    """A step that has been recorded."""
    step = fastnn.TrainStep(model, fastnn.SoftmaxCrossEntropy(), fastnn.Adam())
    for _ in range(2):
        step(X, LABELS)
    assert step.recorded
    return lambda: step(X, LABELS)


WAYS = pytest.mark.parametrize("way", [by_hand, replayed])


def assert_refused(model, step, message):
    before = {**model.state_dict(), "flat": model.flat_parameters.copy()}
    with pytest.raises(ValueError, match=message):
        step()
    for name, array in {**model.state_dict(), "flat": model.flat_parameters}.items():
        assert_same_bits(array, before[name])


@WAYS
@pytest.mark.parametrize("name", ARRAYS)
def test_one_that_was_made_read_only(way, name):
    model = network()
    step, array = way(model), array_of(model, name)
    step()
    array.flags.writeable = False
    message = f"^{name}: expected a writable array, found it read-only"
    assert_refused(model, step, message)
    with pytest.raises(ValueError, match=message):
        model.load_state_dict(model.state_dict())
    array.flags.writeable = True
    step()


def test_one_that_was_made_read_only_between_backward_and_update():
    """Earlier views stay writable for NumPy, so the optimizer must raise the error."""
    model = network()
    model.backward(np.ones_like(model.forward(X, training=True)))
    model.flat_parameters.flags.writeable = False
    with pytest.raises(ValueError, match=r"^flat_parameters: expected a writable"):
        fastnn.SGD(0.1).step(model)


@WAYS
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # NumPy's, for what is done here
@pytest.mark.parametrize("name", ["0.weight", "1.running_var", "flat_parameters"])
@pytest.mark.parametrize(
    ("attribute", "change"),
    [
        ("shape", lambda shape: (1, *shape)),
        ("dtype", lambda dtype: np.dtype(np.int32)),
        ("strides", lambda strides: tuple(0 for _ in strides)),
    ],
)
def test_one_that_was_changed_in_place(way, name, attribute, change):
    model = network()
    step, array = way(model), array_of(model, name)
    step()
    as_it_was = getattr(array, attribute)
    setattr(array, attribute, change(as_it_was))
    message = f"^{name}: expected float32 of shape .* as the model made it, found it changed"
    before = model.layers[0]._weight.tobytes()
    with pytest.raises(ValueError, match=message):
        step()
    assert model.layers[0]._weight.tobytes() == before
    if attribute != "strides":  # NumPy lets nobody set these back
        setattr(array, attribute, as_it_was)
        step()
