"""Models one takes apart: their layers by number, slices, states that fit in part, and what a model
keeps beside its layers.  test_model.py has memory, state and prediction."""

import copy
import pickle

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import (
    SGD,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MeanSquaredError,
    ReLU,
    Residual,
    Sequential,
    SoftmaxCrossEntropy,
    Standardizer,
    Tanh,
)
from tables import IMAGE_LAYERS, LAYERS, image_shape


def network(dtype="float32", seed=0, outputs=3):
    return Sequential(
        Dense(6, 9, l2=0.5), BatchNorm(9), ReLU(), Dropout(0.3), Residual(Dense(9, 9), Tanh()),
        Dense(9, outputs), seed=seed, dtype=dtype, l2=0.25,
    )  # fmt: skip


def draw(rows=8, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, 6)).astype(np.float32)


def train(model, seed=0):
    y = np.random.default_rng(seed).integers(0, model.out_features, 8)
    model.fit(draw(seed=seed), y, loss=SoftmaxCrossEntropy(), optimizer=SGD(0.1), epochs=2,
              progress=False)  # fmt: skip


# ---- layers by number, slices ----


def test_layers_by_number_are_the_models_own():
    model = network()
    assert len(model) == 6 and bool(model)
    assert all(a is b for a, b in zip(model, model.layers, strict=True))
    for i in range(-6, 6):
        assert model[i] is model[np.int8(i)] is model.layers[i]
    assert [*reversed(model)] == [*model.layers[::-1]] and model[1] in model


@pytest.mark.parametrize("index, error, message", [
    (6, IndexError, "from -6 to 5, got 6"), (-7, IndexError, "from -6 to 5, got -7"),
    ("0", TypeError, "an integer or a slice, got '0'"), (1.0, TypeError, "an integer or a sl.*1.0"),
    (True, TypeError, "an integer or a slice, got True"), (None, TypeError, "a slice, got None"),
    ((0, 1), TypeError, r"an integer or a slice, got \(0, 1\)"),
    (slice(2, 2), ValueError, "at least one of 6 layers, got slice"),
])  # fmt: skip
def test_what_is_no_layers_number_is_refused(index, error, message):
    with pytest.raises(error, match=f"^index: expected .*{message}"):
        network()[index]


def test_slices_must_follow():
    with pytest.raises(ValueError, match=r"layer 1, Dense\(9, 3\), takes 9 features, .* gives 6"):
        Sequential(Dense(6, 6), ReLU(), Dense(6, 9), Dense(9, 3))[::3]


@pytest.mark.parametrize("cut", range(1, 7))
def test_a_slice_gives_the_first_layers_outputs(cut, dtype):
    model = network(dtype)
    train(model)
    x = expected = draw().astype(dtype)
    for layer in model.layers[:cut]:
        expected = layer.forward(expected)
    part = model[:cut]
    assert_same_bits(part.predict(x), expected)
    assert (part.dtype, part.seed, part.l2) == (model.dtype, model.seed, model.l2)
    assert list(map(repr, part)) == list(map(repr, model.layers[:cut]))
    if cut < 6:
        assert_same_bits(model[cut:].predict(expected), model.predict(x))


@pytest.mark.parametrize("name", LAYERS | IMAGE_LAYERS)
def test_every_layer_may_be_cut_off(name, rng):
    layer = (LAYERS | IMAGE_LAYERS)[name](6)
    model = Sequential(ReLU(), layer, seed=1)
    for array in model.parameters.values():
        array += rng.random(array.shape)
    x = rng.standard_normal(image_shape(layer, 4, 6) if name in IMAGE_LAYERS else (4, 6))
    assert_same_bits(model[1:].predict(np.maximum(x, 0)), model.predict(x))


def test_a_slice_is_a_copy():
    model = network()
    before = model.state_dict()
    part = model[:3]
    train(part)
    part.flat_parameters[...] = 0
    for name, array in model.state_dict().items():
        assert_same_bits(array, before[name])
    other = Sequential(model[:3], Dense(9, 2))
    assert_same_bits(other.parameters["0.0.weight"], model.parameters["0.weight"])


def test_a_slice_has_the_class_of_the_model():
    class Net(Sequential):
        def __init__(self):
            super().__init__(Dense(6, 4), ReLU(), Dense(4, 2))

    assert type(Net()[:2]) is Net and len(Net()[:2]) == 2


# ---- states that fit in part ----


def test_a_state_may_fit_in_part():
    """As where other classes are learnt from the first layers of a trained model."""
    trained, model = network(), network(seed=1)
    train(trained)
    before, state = model.state_dict(), trained.state_dict()
    del state["5.weight"], state["1.running_mean"]
    state["6.weight"] = state["extra"] = "anything"
    found = model.load_state_dict(state, strict=False)
    assert found == (["1.running_mean", "5.weight"], ["6.weight", "extra"])
    assert found.missing_keys == found[0] and found.unexpected_keys == found[1]
    for name, array in model.state_dict().items():
        assert_same_bits(array, before[name] if name in found.missing_keys else state[name])
    assert model.load_state_dict({}, strict=False) == ([*before], [])


def test_a_strict_call_finds_all():
    model, other = network(), network(seed=1)
    for strict in ({}, {"strict": True}, {"strict": False}):
        found = other.load_state_dict(model.state_dict(), **strict)
        assert found == ([], []) and found.missing_keys == found.unexpected_keys == []


@pytest.mark.parametrize("strict", [True, False])
def test_misshapen_arrays_are_refused(strict):
    """Also where the rest need not fit; and nothing changes."""
    model = network()
    before, state = model.state_dict(), network(seed=1, outputs=4).state_dict()
    with pytest.raises(ValueError, match=r"state: of another shape 5.weight expected \(9, 3\), g"):
        model.load_state_dict(state, strict=strict)
    state.pop("5.weight"), state.pop("5.bias")
    with pytest.raises(ValueError, match=r"0\.weight: expected real numbers"):
        model.load_state_dict(state | {"0.weight": np.full((6, 9), "a")}, strict=False)
    for name, array in model.state_dict().items():
        assert_same_bits(array, before[name])
    for wrong in (None, 1, "yes"):
        with pytest.raises(TypeError, match="strict: expected True or False"):
            model.load_state_dict(before, strict=wrong)


def test_weights_of_pytorchs_are_told_from_ones_own_in_part():
    class Theirs(dict):
        _metadata = None

    model = Sequential(Dense(3, 3), Dense(3, 3))
    state = Theirs({"0.weight": np.ones((3, 3), np.float32)})
    with pytest.raises(ValueError, match=r"^state: 0\.weight is as PyTorch gave it"):
        model.load_state_dict(state, strict=False)
    with pytest.raises(ValueError, match=r"of another shape 0\.weight.*PyTorch's weights"):
        Sequential(Dense(3, 2)).load_state_dict({"0.weight": np.ones((2, 3))}, strict=False)


# ---- what a model keeps beside its layers ----


def keeping():
    model = network()
    model.scaler = Standardizer().fit(draw(50) * 3 + 1)
    model.target_scaler = Standardizer("float64").fit(draw(50)[:, :1])
    model.classes = ["cat", "dog", "Ünïcode"]
    return model


def assert_keeps(model, expected):
    for name in ("scaler", "target_scaler"):
        mine, its = getattr(model, name), getattr(expected, name)
        assert mine is not its and type(mine) is Standardizer and repr(mine) == repr(its)
        assert_same_bits(mine.mean, its.mean)
        assert_same_bits(mine.std, its.std)
    assert model.classes == expected.classes


@pytest.mark.parametrize("duplicate", [
    copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)),
])  # fmt: skip
def test_copies_keep_scalers_and_classes(duplicate):
    model = keeping()
    twin = duplicate(model)
    assert_keeps(twin, model)
    twin.scaler = twin.classes = None
    assert model.scaler is not None and model.classes == ("cat", "dog", "Ünïcode")


def test_scalers_and_classes_are_for_the_users_own_use():
    """They change nothing, and a slice, whose inputs and outputs are others, has none."""
    model, plain = keeping(), network()
    assert (plain.scaler, plain.target_scaler, plain.classes) == (None, None, None)
    for each in (model, plain):
        train(each)
    assert_same_bits(model.flat_parameters, plain.flat_parameters)
    assert_same_bits(model.predict(draw()), plain.predict(draw()))
    part = model[:]
    assert (part.scaler, part.target_scaler, part.classes) == (None, None, None)


@pytest.mark.parametrize("value, kept", [
    (["a", "b"], ("a", "b")), (("a",), ("a",)), (np.array(["a", "bc"]), ("a", "bc")),
    (np.array(["a", "b"], object), ("a", "b")), ([np.str_("a"), "b"], ("a", "b")),
    (np.arange(3), (0, 1, 2)), ([np.int8(-3), 2**63 - 1], (-3, 2**63 - 1)), (None, None),
])  # fmt: skip
def test_classes_are_kept_as_plain_objects(value, kept):
    model = network()
    model.classes = value
    assert model.classes == kept
    assert {type(item) for item in model.classes or ()} <= {int, str}


class Mine(Standardizer):
    pass


def broken(**arrays):
    scaler = Standardizer().fit(draw())
    for name, array in arrays.items():
        setattr(scaler, name, array)
    return scaler


@pytest.mark.parametrize("name, value, error, message", [
    ("classes", "ab", TypeError, "a list of names or of integers, each once, got 'ab'"),
    ("classes", 3, TypeError, "a list of names"), ("classes", {1, 2}, TypeError, "a list of na"),
    ("classes", [1, "a"], TypeError, "a list of names"), ("classes", [0.5], TypeError, "a list of"),
    ("classes", [True, False], TypeError, "a list of"), ("classes", [None], TypeError, "a list of"),
    ("classes", [[1], [2]], TypeError, "a list of"), ("classes", np.eye(2), TypeError, "a list of"),
    ("classes", [], ValueError, "a list of"), ("classes", ["a", "a"], ValueError, "a list of.*got"),
    ("classes", [2**63], ValueError, "an integer from"),
    ("scaler", 3, TypeError, "a Standardizer, a TableEncoder or None, got 3"),
    ("scaler", Standardizer, TypeError, "a Standardizer, a TableEncoder or None, got <class"),
    ("target_scaler", Standardizer(), ValueError, "a Standardizer after fit, got one before it"),
    ("scaler", Mine().fit(draw()), TypeError, "a Standardizer, a TableEncoder or None, got Mine"),
    ("scaler", broken(std=np.zeros(6)), ValueError, "its std > 0, got 0"),
    ("scaler", broken(std=np.ones(5)), ValueError, "its std to be finite float64 numbers, one for"),
    ("scaler", broken(mean=np.full(6, np.nan)), ValueError, "its mean to be finite"),
    ("scaler", broken(mean=np.ones(6, "f4")), ValueError, "its mean to be .*got float32 of sh"),
])  # fmt: skip
def test_what_a_model_cannot_keep_is_refused(name, value, error, message):
    model = keeping()
    before = getattr(model, name)
    with pytest.raises(error, match=f"^{name}: expected {message}"):
        setattr(model, name, value)
    assert getattr(model, name) is before


def test_from_the_scaler_to_the_class_by_ones_own_hand(tmp_path):
    """What these attributes are for: a loaded model says how its inputs and outputs are read."""
    rng = np.random.default_rng(0)
    images = rng.uniform(100, 200, (40, 4, 4, 2))
    names, y = np.unique(np.where(images[..., 0].mean((1, 2)) > 150, "bright", "dark"),
                         return_inverse=True)  # fmt: skip
    model = Sequential(Conv2D(2, 4, 3), ReLU(), Flatten(), Dense(16, 2), seed=0)
    model.scaler, model.classes = Standardizer().fit(images), names
    model.fit(model.scaler.transform(images), y, loss=SoftmaxCrossEntropy(),
              optimizer=fastnn.Adam(0.03), epochs=30, progress=False)  # fmt: skip
    model.save(tmp_path / "it")
    same = fastnn.load(tmp_path / "it")
    answers = same.predict(same.scaler.transform(images)).argmax(axis=1)
    assert (np.array(same.classes)[answers] == names[y]).mean() > 0.9
    regressor = Sequential(Dense(2, 1))
    regressor.target_scaler = Standardizer().fit(rng.uniform(0, 9, (20, 1)))
    outputs = regressor.predict(np.ones((3, 2)))
    assert regressor.target_scaler.inverse_transform(outputs).shape == outputs.shape
    assert MeanSquaredError()(outputs, outputs)[0] == 0
