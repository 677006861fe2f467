"""Sequential: memory layout, state, copies, summary, custom layers, prediction."""

import copy
import math
import pickle

import numpy as np
import pytest

import fastnn
from compare import assert_same_bits
from fastnn import BatchNorm, Dense, Dropout, LayerNorm, ReLU, Residual, Sequential, Tanh
from tables import LAYERS


def network(dtype="float32", seed=0, **options):
    return Sequential(
        Dense(6, 9), BatchNorm(9), ReLU(), Dropout(0.3), Dense(9, 5, bias=False), LayerNorm(5),
        Dense(5, 3, activation="gelu"), seed=seed, dtype=dtype, **options,
    )  # fmt: skip


def batch(rows=8, features=6, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, features))


def train_a_little(model, steps=3, seed=0):
    """Change parameters, running statistics and the dropout counter."""
    optimizer, loss = fastnn.Adam(0.01), fastnn.MeanSquaredError()
    for step in range(steps):
        y = model.forward(batch(seed=seed + step), training=True)
        model.backward(loss(y, np.zeros_like(y))[1])
        optimizer.step(model)


# ---- memory ----

NAMES = [
    "0.weight", "0.bias", "1.gamma", "1.beta", "4.weight", "5.gamma", "5.beta", "6.weight",
    "6.bias",
]  # fmt: skip


def test_parameters_are_aligned_views_of_the_flat_buffers(dtype):
    model = network(dtype)
    for arrays, flat in (
        (model.parameters, model.flat_parameters),
        (model.gradients, model.flat_gradients),
    ):
        assert list(arrays) == NAMES
        assert flat.ndim == 1 and flat.dtype == dtype and flat.ctypes.data % 64 == 0
        used = np.zeros(flat.size, bool)
        for array in arrays.values():
            assert np.shares_memory(array, flat) and array.flags.c_contiguous
            assert array.ctypes.data % 64 == 0 and array.dtype == dtype
            start = (array.ctypes.data - flat.ctypes.data) // dtype.itemsize
            assert not used[start : start + array.size].any(), "two arrays overlap"
            used[start : start + array.size] = True
        assert not flat[~used].any(), "the gaps are not zero"
        flat[...] = 7
        assert all((array == 7).all() for array in arrays.values())


def test_layers_show_the_same_arrays():
    model = network()
    for i, layer in enumerate(model.layers):
        for name, array in layer.parameters.items():
            assert array is model.parameters[f"{i}.{name}"]
            assert getattr(layer, name) is array
        for name, array in layer.gradients.items():
            assert array is model.gradients[f"{i}.{name}"]
        for name, array in layer.state.items():
            assert array is model.state[f"{i}.{name}"]
    assert model.layers[4].bias is None
    assert list(model.state) == ["1.running_mean", "1.running_var"]


def test_mappings_cannot_be_changed():
    model = network()
    for name in ("parameters", "gradients", "state"):
        with pytest.raises(ValueError, match="written into"):
            getattr(model, name)["0.weight"] = np.zeros(3)
        with pytest.raises(AttributeError, match=f"{name} is fixed"):
            setattr(model, name, {})
    for name in ("flat_parameters", "flat_gradients"):
        with pytest.raises(AttributeError, match=rf"{name}: expected values .* model.{name}\["):
            setattr(model, name, np.zeros(3))


def test_arrays_may_be_changed_in_place_by_augmented_assignment():
    """As target networks are updated: theta' = (1 - tau) theta' + tau theta."""
    model, target = (Sequential(Dense(3, 4), BatchNorm(4), seed=seed) for seed in (1, 2))
    weight, before = model.flat_parameters.copy(), target.flat_parameters.copy()
    target.flat_parameters *= 0.75
    target.flat_parameters += 0.25 * model.flat_parameters
    expected = (before * np.float32(0.75)) + np.float32(0.25) * weight
    assert_same_bits(target.flat_parameters, expected)
    target.flat_gradients += 1
    target.gradients["0.weight"] *= 2
    target.parameters["0.weight"] += 1
    target.state["1.running_mean"] -= 1
    target.layers[0].bias += 3
    target.layers[1].running_var *= 2
    assert (target.gradients["0.weight"] == 2).all()
    slices = target._slices["0.weight"]
    assert_same_bits(target.parameters["0.weight"].ravel(), expected[slices] + np.float32(1))
    assert (target.layers[1].running_mean == -1).all() and (target.layers[0].bias == 3).all()
    assert (target.state["1.running_var"] == 2).all()
    with pytest.raises(ValueError, match=r"weight: .* layer.weight\[...\] = values"):
        target.layers[0].weight = np.zeros((3, 4))


LAYER_COPIES = {
    "copy": lambda layers: [copy.copy(layer) for layer in layers],
    "deepcopy": lambda layers: [copy.deepcopy(layer) for layer in layers],
    "copies of copies": lambda layers: copy.deepcopy([copy.copy(layer) for layer in layers]),
    "pickle": lambda layers: pickle.loads(pickle.dumps(layers)),
}


@pytest.mark.parametrize("how", LAYER_COPIES)
@pytest.mark.parametrize("name", LAYERS)
def test_copied_layers_keep_what_they_have_learnt(name, how, rng):
    model = Sequential(Residual(Dense(4, 4), BatchNorm(4)), LAYERS[name](4), seed=3)
    for array in (*model.parameters.values(), *model.state.values()):
        array[...] = rng.random(array.shape) + 0.5
    again = Sequential(*LAYER_COPIES[how](model.layers), seed=3)
    x = rng.standard_normal((5, 4))
    assert_same_bits(again.predict(x), model.predict(x))
    for named, expected in model.state_dict().items():
        assert_same_bits(again.state_dict()[named], expected)
    again.flat_parameters[:] = 0
    assert all(array.all() for array in model.parameters.values())  # apart
    other = Sequential(*LAYER_COPIES[how](model.layers), dtype="float64")
    np.testing.assert_array_equal(other.flat_parameters[other.flat_parameters != 0],
                                  model.flat_parameters[model.flat_parameters != 0])  # fmt: skip


def test_what_is_written_into_a_parameter_counts_at_once():
    model = Sequential(Dense(2, 2))
    model.parameters["0.weight"][...] = np.eye(2)
    model.parameters["0.bias"][...] = 1
    assert model.predict([[3, 4]]).tolist() == [[4, 5]]


ARRAYS = ["0.weight", "0.bias", "1.gamma", "1.running_var"]


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("other", [
    lambda array: array.copy(), lambda array: np.zeros(2), lambda array: array.astype(int),
    lambda array: None,
], ids=["a copy", "other shape", "other dtype", "None"])  # fmt: skip
def test_an_array_cannot_be_replaced(name, other):
    model = network()
    index, attribute = name.split(".")
    layer, array = model.layers[int(index)], (model.parameters | model.state)[name]
    kind = layer.state if attribute == "running_var" else layer.parameters
    message = rf"^{attribute}: expected values written into .* got "
    with pytest.raises(ValueError, match=message):
        setattr(layer, attribute, other(array))
    with pytest.raises(ValueError, match=message):
        kind[attribute] = other(array)
    for change in (lambda: kind.pop(attribute), kind.clear, lambda: kind.update({attribute: 1})):
        with pytest.raises(ValueError, match=f"{attribute}.*these arrays stay"):
            change()
    assert getattr(layer, attribute) is array
    before = array.copy()
    setattr(layer, attribute, array)  # itself
    kind[attribute] += 1  # ends with an assignment of the array itself
    kind[attribute][...] -= 1
    np.testing.assert_allclose(array, before, atol=1e-6)


def test_a_mapping_of_arrays_cannot_be_replaced():
    model, apart = network(), Dense(2, 2)
    for layer, name in (
        (model.layers[0], "parameters"),
        (model.layers[0], "gradients"),
        (model.layers[1], "state"),
        (apart, "parameters"),
        (apart, "gradients"),
    ):
        with pytest.raises(AttributeError, match=f"^{name} of .*write into"):
            setattr(layer, name, {})  # fmt: skip


@pytest.mark.parametrize("name", ["layers", "seed", "l2", "dtype"])
def test_what_a_model_was_made_from_is_fixed(name):
    model = network()
    with pytest.raises(AttributeError, match=f"^{name} is fixed once a Sequential is made"):
        setattr(model, name, getattr(model, name))


# ---- state ----


def test_state_dict_round_trip(dtype):
    model = network(dtype)
    train_a_little(model)
    state = model.state_dict()
    assert set(state) == {*NAMES, "1.running_mean", "1.running_var"}
    for name, array in state.items():
        assert not np.shares_memory(array, (model.parameters | model.state)[name])
    other = network(dtype, seed=5)
    other.load_state_dict(state)
    assert_same_bits(other.predict(batch()), model.predict(batch()))
    assert_same_bits(other.flat_parameters, model.flat_parameters)
    train_a_little(model)
    assert (state["0.weight"] != model.parameters["0.weight"]).any()


def test_load_state_dict_takes_lists_and_the_other_type():
    model = network("float64")
    state = {name: array.tolist() for name, array in network(seed=3).state_dict().items()}
    model.load_state_dict(state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


def test_loading_the_models_own_views_under_other_names():
    model = Sequential(Dense(3, 3), Dense(3, 3), seed=0)
    before = model.state_dict()
    swap = {"0": "1", "1": "0"}
    model.load_state_dict({swap[n[0]] + n[1:]: array for n, array in model.parameters.items()})
    for name, array in before.items():
        assert_same_bits(model.parameters[swap[name[0]] + name[1:]], array)


def test_load_errors_list_everything_and_change_nothing():
    model = network()
    state = model.state_dict()
    before = {name: array.copy() for name, array in state.items()}
    for array in state.values():
        array += 1
    del state["0.bias"], state["1.running_var"]
    state["9.weight"] = state["extra"] = np.ones(2)
    state["4.weight"] = state["4.weight"].T
    state["5.gamma"] = np.ones((5, 1), np.float32)
    with pytest.raises(ValueError) as error:
        model.load_state_dict(state)
    for part in ("missing 0.bias, 1.running_var;", "unknown 9.weight, extra;",
                 "4.weight", "(9, 5)", "(5, 9)", "5.gamma"):  # fmt: skip
        assert part in str(error.value), part
    for name, array in model.state_dict().items():
        assert_same_bits(array, before[name])


@pytest.mark.parametrize("value", [
    np.full((6, 9), "a"), np.ones((6, 9)) * 1j, None, object(),
    np.ma.masked_array(np.ones((6, 9))), 1e300 * np.ones((6, 9)),
])  # fmt: skip
def test_load_refuses_what_is_no_array_of_numbers(value):
    model = network()
    before = model.flat_parameters.copy()
    with pytest.raises((ValueError, TypeError), match=r"0\.weight"):
        model.load_state_dict(model.state_dict() | {"0.weight": value})
    assert_same_bits(model.flat_parameters, before)


# ---- states of PyTorch's ----


class Tensor:
    """As a tensor of PyTorch's seems to NumPy, whose views of it have it for their base."""

    __module__ = "torch"

    def __init__(self, array):
        self._array = np.ascontiguousarray(array)
        self.__array_interface__ = self._array.__array_interface__

    def numpy(self):
        return np.asarray(self)

    @property
    def T(self):
        turned = Tensor(self._array)
        turned.__array_interface__ = self._array.T.__array_interface__
        turned._array = self._array.T
        return turned


class Parameter(Tensor):
    __module__ = "torch.nn.parameter"


TURN = (
    "PyTorch's weights are \\(out, in\\), fastnn's \\(in, out\\): "
    "fastnn\\.torch\\.load_state_dict\\(model, state\\) turns them"
)


def square(seed=0):
    return Sequential(Dense(3, 3, activation="tanh"), Dense(3, 3), seed=seed)


def of_pytorch(model, kind=Tensor):
    """What PyTorch gives for the same network of dense layers."""
    return {name: kind(array.T) for name, array in model.parameters.items()}


@pytest.mark.parametrize("kind", [Tensor, Parameter])
@pytest.mark.parametrize("make", [square, lambda: Sequential(Dense(3, 2)), lambda: Sequential(
    fastnn.Embedding(4, 2), fastnn.Flatten())])  # fmt: skip
def test_tensors_of_pytorchs_are_refused(make, kind):
    model = make()
    before = model.flat_parameters.copy()
    with pytest.raises(TypeError, match=rf"^state: 0\.weight is a tensor; {TURN}"):
        model.load_state_dict(of_pytorch(model, kind))
    assert_same_bits(model.flat_parameters, before)


def test_square_weights_that_share_a_tensors_memory_are_refused():
    model, other = square(), square()
    model.flat_parameters[...] += 1
    before = model.flat_parameters.copy()
    state = {name: tensor.numpy() for name, tensor in of_pytorch(other).items()}
    for told in (state, {name: array[:] for name, array in state.items()}):
        with pytest.raises(ValueError, match=rf"^state: 0\.weight is as PyTorch gave it.*{TURN}"):
            model.load_state_dict(told)
    assert_same_bits(model.flat_parameters, before)


def test_the_dict_itself_of_pytorchs_tells():
    class Theirs(dict):
        _metadata = None

    state = {name: array.T.copy() for name, array in square().parameters.items()}
    with pytest.raises(ValueError, match=r"^state: 0\.weight is as PyTorch gave it"):
        square().load_state_dict(Theirs(state))
    square().load_state_dict(state)  # nothing tells


@pytest.mark.parametrize("convert", [
    lambda state: {name: tensor.numpy().T for name, tensor in state.items()},
    lambda state: {name: tensor.T.numpy() for name, tensor in state.items()},
    lambda state: {name: tensor.numpy().T.copy() for name, tensor in state.items()},
    lambda state: {name: tensor.numpy().T.tolist() for name, tensor in state.items()},
])  # fmt: skip
def test_a_converted_state_of_pytorchs_is_taken(convert):
    model, other = square(), square(seed=1)
    model.load_state_dict(convert(of_pytorch(other)))
    assert_same_bits(model.flat_parameters, other.flat_parameters)


def test_a_weight_that_fits_one_way_alone_shows_that_all_were_converted():
    model = Sequential(Dense(3, 3), Dense(3, 2), seed=0)
    converted = {name: Tensor(array).numpy() for name, array in model.parameters.items()}
    Sequential(Dense(3, 3), Dense(3, 2)).load_state_dict(converted)


CONVOLUTIONS = Sequential(
    fastnn.Conv2D(3, 3, 3), BatchNorm(3), fastnn.Conv2D(3, 4, 1), fastnn.Flatten(), seed=0
)
FAULTS = {
    "dense": (Sequential(Dense(3, 2)), {"0.weight": np.ones((2, 3)), "0.bias": np.ones(2)}),
    "1D": (Sequential(fastnn.Conv1D(2, 3, 5)), {
        "0.weight": np.ones((3, 2, 5)), "0.bias": np.ones(3)}),
    "2D": (CONVOLUTIONS, CONVOLUTIONS.state_dict() | {"2.weight": np.ones((4, 3, 1, 1))}),
    "norm": (CONVOLUTIONS, {
        name.replace("gamma", "weight").replace("beta", "bias"): array
        for name, array in CONVOLUTIONS.state_dict().items()}),
    "count": (CONVOLUTIONS, CONVOLUTIONS.state_dict() | {"1.num_batches_tracked": np.array(3)}),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_a_state_that_would_fit_as_pytorchs_is_refused_with_what_to_do(case):
    model, state = FAULTS[case]
    before = model.state_dict()
    with pytest.raises(ValueError, match=rf"^state: .*; {TURN}"):
        model.load_state_dict(state)
    for name, array in model.state_dict().items():
        assert_same_bits(array, before[name])


def test_square_kernels_that_share_a_tensors_memory_are_refused():
    model = Sequential(fastnn.Conv2D(3, 3, 3), seed=0)
    state = {name: Tensor(array).numpy() for name, array in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"^state: 0\.weight is as PyTorch gave it"):
        model.load_state_dict(state)
    theirs = {"0.weight": Tensor(model.parameters["0.weight"].transpose(3, 2, 0, 1)).numpy(),
              "0.bias": state["0.bias"]}  # fmt: skip
    converted = theirs | {"0.weight": theirs["0.weight"].transpose(2, 3, 1, 0)}
    before = model.state_dict()
    model.load_state_dict(converted)
    assert_same_bits(model.parameters["0.weight"], before["0.weight"])


def test_other_faults_say_nothing_of_pytorch():
    with pytest.raises(ValueError, match=r"^state: missing 0\.bias; of another shape .*\(5, 5\)$"):
        Sequential(Dense(3, 2)).load_state_dict({"0.weight": np.ones((5, 5))})


# ---- copies ----

COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_are_equal_and_apart(how, dtype):
    """Trained further, both reach the same bits, dropout included, and do not share memory."""
    model = network(dtype, l2=0.1)
    train_a_little(model)
    twin = COPIES[how](model)
    assert repr(twin) == repr(model) and twin.summary() == model.summary()
    assert not np.shares_memory(twin.flat_parameters, model.flat_parameters)
    for name, array in model.state_dict().items():
        assert_same_bits(twin.state_dict()[name], array)
    before = twin.state_dict()
    train_a_little(model, seed=9)
    for name, array in twin.state_dict().items():
        assert_same_bits(array, before[name])
    train_a_little(twin, seed=9)
    for name, array in model.state_dict().items():
        assert_same_bits(twin.state_dict()[name], array)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_pickles(name):
    model = Sequential(LAYERS[name](6), seed=1)
    x = batch()
    twin = pickle.loads(pickle.dumps(model))
    for training in (False, True):
        assert_same_bits(twin.forward(x, training), model.forward(x, training))


def test_a_layer_belongs_to_one_model():
    layer = Dense(3, 3)
    Sequential(layer)
    with pytest.raises(ValueError, match="another model"):
        Sequential(layer)
    assert Sequential(copy.copy(layer)).predict(np.ones((1, 3))).shape == (1, 3)
    again = Tanh()
    with pytest.raises(ValueError, match="twice"):
        Sequential(again, again)


# ---- summary, repr, arguments ----


def test_summary():
    text = network().summary()
    lines = text.splitlines()
    assert len(lines) == 1 + 7 + 1
    assert "Dense(6, 9)" in lines[1] and "(batch, 9)" in lines[1] and lines[1].endswith("63")
    assert "BatchNorm(9" in lines[2] and lines[2].endswith("18")
    assert "Dropout(0.3)" in lines[4] and lines[4].endswith(" 0")
    total = sum(array.size for array in network().parameters.values())
    assert f"{total:,} parameters" in lines[-1] and "float32" in lines[-1]
    assert "(batch, ?)" in Sequential(ReLU()).summary()


def test_repr_makes_the_model_again():
    model = network(seed=4, l2=0.5)
    again = eval(repr(model), dict(vars(fastnn)))
    assert repr(again) == repr(model)
    assert_same_bits(again.flat_parameters, model.flat_parameters)


SIZES = {
    "dense dense": lambda: [Dense(4, 8), Dense(9, 2)],
    "dense norm": lambda: [Dense(4, 8), BatchNorm(4)],
    "through layers that take any size": lambda: [Dense(4, 8), ReLU(), Dropout(0.1), LayerNorm(7)],
    "norm dense": lambda: [BatchNorm(4), Tanh(), Dense(5, 1)],
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_do_not_follow(name):
    layers = SIZES[name]()
    with pytest.raises(ValueError, match=r"takes \d features, but layer 0.* gives \d"):
        Sequential(*layers)
    # the layers may still go into a model in which they fit
    Sequential(layers[0])


@pytest.mark.parametrize(
    "layers", [(), (Dense,), (None,), ("relu",), ([Dense(2, 2)],), (object(),)]
)
def test_what_is_no_layer_is_refused(layers):
    with pytest.raises((TypeError, ValueError), match=r"^layers?( 0)?: expected .*, got"):
        Sequential(*layers)


@pytest.mark.parametrize("dtype", ["float16", "int32", "complex64", ">f4", "real", object, None])
def test_refused_dtypes(dtype):
    with pytest.raises((TypeError, ValueError), match=r"^dtype: expected float32 or float64, got"):
        Sequential(Dense(2, 2), dtype=dtype)


@pytest.mark.parametrize("options", [
    {"seed": -1}, {"seed": 2**64}, {"seed": 1.0}, {"seed": True}, {"seed": None}, {"l2": -0.1},
    {"l2": np.nan}, {"l2": "a"},
])  # fmt: skip
def test_refused_options(options):
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(options))}: expected .*, got"):
        Sequential(Dense(2, 2), **options)


# ---- prediction ----


@pytest.mark.parametrize("size", [1, 7, 99, 100, 101, 10**6])
def test_predict_in_batches_gives_the_same_bits(size, dtype, isa):
    model = network(dtype)
    x = batch(rows=100)
    assert_same_bits(model.predict(x, batch_size=size), model.forward(x))


def test_evaluate_equals_the_loss_of_the_predictions():
    model, x, y = network(), batch(rows=50), np.arange(50) % 3
    loss = fastnn.SoftmaxCrossEntropy()
    result = model.evaluate(x, y, loss=loss, batch_size=7)
    assert set(result) == {"loss", "accuracy"}
    np.testing.assert_allclose(result["loss"], loss(model.predict(x), y)[0], rtol=1e-6)
    assert result["accuracy"] == (model.predict(x).argmax(axis=1) == y).mean()
    weight = np.arange(50) % 4
    np.testing.assert_allclose(
        model.evaluate(x, y, loss=loss, sample_weight=weight)["loss"],
        loss(model.predict(x), y, weight)[0], rtol=1e-6,
    )  # fmt: skip


def test_penalty(rng):
    model = Sequential(Dense(3, 4, l2=0.5), Dense(4, 5), Dense(5, 2, l2=0.0), l2=2.0)
    w0, w1 = (model.parameters[f"{i}.weight"].astype(float) for i in (0, 1))
    expected = (0.5 * (w0**2).sum() + 2.0 * (w1**2).sum()) / (2 * 10)
    np.testing.assert_allclose(model.penalty(10), expected, rtol=1e-6)
    assert math.isclose(Sequential(Dense(3, 3)).penalty(1), 0)
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(
            (TypeError, ValueError), match=r"^batch_size: expected an integer >= 1, got"
        ):
            model.penalty(wrong)
