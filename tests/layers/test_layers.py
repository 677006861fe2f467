"""Layers on their own: forward and backward against the reference, training against evaluation,
how parameters begin, order of calls."""

import copy
import itertools
import pickle

import numpy as np
import pytest

import fastnn
import reference
from compare import assert_close, assert_same_bits
from fastnn import (
    ELU,
    BatchNorm,
    Dense,
    Dropout,
    Flatten,
    Hinge,
    Huber,
    LayerNorm,
    LeakyReLU,
    MeanSquaredError,
    Quantile,
    ReLU,
    Residual,
    Sequential,
    SoftmaxCrossEntropy,
    initializers,
)
from fastnn.layers import Activation, activations
from fastnn.support import settings
from tables import LAYERS

FEATURES = 7


def model_of(name, dtype, seed=3):
    """The layer alone in a model, its parameters drawn at random so that nothing is 0 or 1."""
    model = Sequential(LAYERS[name](FEATURES), seed=seed, dtype=dtype)
    rng = np.random.default_rng(5)
    for key, array in model.parameters.items():
        array[...] = (
            rng.uniform(0.5, 1.5, array.shape) if "gamma" in key else rng.normal(size=array.shape)
        )
    return model


def reference_of(model, x, dy, training):
    """y, dx and the gradients by name, in float64, for a model of one layer."""
    p = {name.removeprefix("0."): a.astype(np.float64) for name, a in model.parameters.items()}
    positions = itertools.count(2**32 - 1, -1)  # of the layers within it
    run = _run_reference(model.layers[0], p, x, training, 0, positions, model.seed)
    y, dx, gradients = run(dy)
    return y, dx, {f"0.{name}": gradient for name, gradient in gradients.items()}


def _run_reference(layer, p, x, training, position, positions, seed):
    """The layer's forward; returns a function dy -> (y, dx, gradients)."""
    if isinstance(layer, Residual):
        return _residual(layer, p, x, training, positions, seed)
    return lambda dy: _plain(layer, p, x, dy, training, position, seed)


def _residual(layer, p, x, training, positions, seed):
    runs, ends = {}, []
    for chain in (dict(enumerate(layer.layers)), {"shortcut": layer.shortcut}):
        y = x
        for key, part in chain.items():
            if part is not None:
                mine = {n.partition(".")[2]: a for n, a in p.items() if n.startswith(f"{key}.")}
                position = next(positions)
                runs[key] = _run_reference(part, mine, y, training, position, positions, seed)
                width = part.out_features or y.shape[1]
                y = runs[key](np.zeros((len(y), width)))[0]
        ends.append(y)

    def run(dy):
        dx, aside, gradients = dy, dy, {}
        for key in reversed(runs):
            result = runs[key](aside if key == "shortcut" else dx)
            gradients |= {f"{key}.{name}": gradient for name, gradient in result[2].items()}
            if key == "shortcut":
                aside = result[1]
            else:
                dx = result[1]
        return sum(ends), None if dx is None or aside is None else dx + aside, gradients

    return run


def _plain(layer, p, x, dy, training, position, seed):
    if isinstance(layer, Flatten):
        return x, dy, {}
    if isinstance(layer, Dense):
        name, alpha = layer.activation_name, layer.activation.alpha
        z = x @ p["weight"] + p.get("bias", 0)
        y, dz = _activation(z, dy, name, alpha)
        dx, dweight, dbias = reference.dense_backward(x, p["weight"], dz)
        return y, dx, {"weight": dweight} | ({"bias": dbias} if layer.has_bias else {})
    if isinstance(layer, BatchNorm | LayerNorm):
        if isinstance(layer, LayerNorm):
            y = reference.layernorm_forward(x, p["gamma"], p["beta"], layer.eps)[0]
            gradients = reference.layernorm_backward(x, dy, p["gamma"], layer.eps)
        elif training:
            y = reference.batchnorm_forward(x, p["gamma"], p["beta"], 0, 1, 0.1, layer.eps)[0]
            gradients = reference.batchnorm_backward(x, dy, p["gamma"], layer.eps)
        else:
            y = reference.batchnorm_evaluate(x, p["gamma"], p["beta"], 0, 1, layer.eps)
            return y, None, {}
        return y, gradients[0], {"gamma": gradients[1], "beta": gradients[2]}
    if isinstance(layer, Dropout):
        keep = reference.dropout_keep(*x.shape, layer.rate, seed, step=1, layer=position)
        factor = keep * reference.dropout_scale(layer.rate) if training else 1.0
        return x * factor, dy * factor, {}
    return *_activation(x, dy, layer.activation_name, layer.alpha), {}


def _activation(z, dy, name, alpha):
    if name == "softmax":
        y = reference.softmax(z)
        return y, reference.softmax_backward(y, dy)
    return (
        reference.activation_forward(z, name, alpha),
        reference.activation_backward(z, dy, name, alpha),
    )


@pytest.mark.parametrize("name", LAYERS)
def test_against_the_reference(name, dtype, isa, rng):
    model = model_of(name, dtype)
    x = rng.standard_normal((11, FEATURES)).astype(dtype)
    wide = x.astype(np.float64)
    y = model.forward(x)
    assert_close(y, reference_of(model, wide, np.zeros(y.shape), False)[0], dtype, factor=20)
    y = model.forward(x, training=True)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = model.backward(dy, input_gradient=True)
    expected = reference_of(model, wide, dy.astype(np.float64), True)
    assert_close(y, expected[0], dtype, factor=20)
    assert_close(dx, expected[1], dtype, factor=30)
    assert set(model.gradients) == set(expected[2])
    for key, gradient in model.gradients.items():
        assert_close(np.ascontiguousarray(gradient), expected[2][key], dtype, factor=30)


@pytest.mark.parametrize("name", LAYERS)
def test_evaluation_saves_and_changes_nothing(name, rng):
    model = model_of(name, "float32")
    before = model.state_dict()
    x = rng.standard_normal((6, FEATURES)).astype(np.float32)
    first, second = model.forward(x), model.forward(x)
    assert_same_bits(second, first)
    assert_same_bits(model.predict(x), first)
    for key, array in model.state_dict().items():
        assert_same_bits(array, before[key])
    with pytest.raises(RuntimeError, match="forward"):
        model.backward(np.ones_like(first))


@pytest.mark.parametrize("name", LAYERS)
def test_backward_needs_one_forward_each(name, rng):
    model = model_of(name, "float64")
    x = rng.standard_normal((6, FEATURES))
    y = model.forward(x, training=True)
    model.backward(np.ones_like(y))
    with pytest.raises(RuntimeError, match="forward"):
        model.backward(np.ones_like(y))
    if hasattr(model.layers[0], "_take") and model.layers[0].native:
        model.forward(x, training=True)
        model.layers[0].backward(np.ones_like(y))
        with pytest.raises(RuntimeError, match=r"(?i)forward"):
            model.layers[0].backward(np.ones_like(y))


@pytest.mark.parametrize("name", LAYERS)
def test_a_model_never_hands_out_or_changes_its_input(name, rng):
    """Not even dropout in evaluation, the identity: what a user writes later must not matter."""
    model = model_of(name, "float64")
    x = rng.standard_normal((6, FEATURES))
    before = x.copy()
    for training in (False, True):
        y = model.forward(x, training=training)
        assert not np.shares_memory(y, x)
        assert_same_bits(x, before)


@pytest.mark.parametrize("name", LAYERS)
def test_repr_makes_the_layer_again(name):
    layer = LAYERS[name](FEATURES)
    again = eval(repr(layer), dict(vars(fastnn)))
    assert repr(again) == repr(layer) and type(again) is type(layer)


# ---- batch norm's running statistics ----


@pytest.mark.parametrize("momentum", [0.1, 0.5, 1.0])
def test_running_statistics(momentum, dtype, isa, rng):
    model = Sequential(BatchNorm(3, momentum=momentum), dtype=dtype)
    mean, var = np.zeros(3), np.ones(3)
    for _ in range(4):
        x = (rng.standard_normal((9, 3)) * 2 + 1).astype(dtype)
        model.forward(x, training=True)
        mean = (1 - momentum) * mean + momentum * x.mean(axis=0, dtype=float)
        var = (1 - momentum) * var + momentum * x.astype(float).var(axis=0)
    assert_close(model.state["0.running_mean"], mean, dtype, factor=10)
    assert_close(model.state["0.running_var"], var, dtype, factor=10)
    y = model.predict(x)
    expected = (x - mean) / np.sqrt(var + 1e-5)
    assert_close(y, expected, dtype, factor=20)


def test_batch_norm_refuses_a_batch_of_one_and_stays_as_it_was():
    model = Sequential(Dense(4, 3), BatchNorm(3))
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"(?i)batch ?norm"):
        model.forward(np.ones((1, 4)), training=True)
    assert model.forward(np.ones((1, 4))).shape == (1, 3)
    for key, array in model.state_dict().items():
        assert_same_bits(array, before[key])


# ---- settings: what may be set at any time ----

# name -> (object, attribute, another value, values that are refused)
NOT_POSITIVE = (0, -1, np.nan, np.inf, "a", True, None)
SETTINGS = {
    "dropout": (lambda: Dropout(0.5), "rate", 0.25, (1, -0.1, np.nan, "a", True, None)),
    "batch norm": (lambda: BatchNorm(3), "momentum", 1.0, (0, 1.1, np.nan, "a", True, None)),
    "batch norm eps": (lambda: BatchNorm(3), "eps", 1.0, NOT_POSITIVE),
    "layer norm eps": (lambda: LayerNorm(3), "eps", 1.0, NOT_POSITIVE),
    "l2": (lambda: Dense(3, 3), "l2", 0.5, (-1, np.nan, np.inf, "a", True)),
    "leaky relu": (LeakyReLU, "alpha", 0, (-1, np.nan, np.inf, "a", True, None)),
    "elu": (ELU, "alpha", 0.5, NOT_POSITIVE),
    "huber": (Huber, "delta", 2.0, NOT_POSITIVE),
    "quantile": (Quantile, "q", 0.25, (0, 1, -0.1, np.nan, "a", True, None, [])),
    "quantiles": (
        lambda: Quantile([0.1, 0.9]),
        "q",
        (0.25, 0.5),
        ([0.1, 1.0], (0.1, "a"), [[0.1]]),
    ),
    "hinge": (Hinge, "margin", 2.0, NOT_POSITIVE),
    "smoothing": (SoftmaxCrossEntropy, "label_smoothing", 0.5, (1, -0.1, np.nan, "a", True)),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_checked_and_counted(name):
    make, attribute, value, refused = SETTINGS[name]
    before, owner = settings.changes, make()
    assert settings.changes == before
    setattr(owner, attribute, value)
    assert settings.changes == before + 1 and getattr(owner, attribute) == value
    for wrong in refused:
        with pytest.raises((ValueError, TypeError), match=f"^{attribute}: expected .*, got"):
            setattr(owner, attribute, wrong)
    assert settings.changes == before + 1 and getattr(owner, attribute) == value
    for twin in (copy.deepcopy(owner), pickle.loads(pickle.dumps(owner))):
        assert getattr(twin, attribute) == value and repr(twin) == repr(owner)


@pytest.mark.parametrize("make, message", [
    (lambda: Dropout(0.5), "Dropout has no typo; what may be set: rate"),
    (lambda: Dense(3, 3), "Dense has no typo; what may be set: l2"),
    (lambda: BatchNorm(3), "BatchNorm has no typo; what may be set: eps, momentum"),
    (ReLU, "ReLU has no typo; what may be set: nothing"),
    (Huber, "Huber has no typo; what may be set: delta"),
    (MeanSquaredError, "MeanSquaredError has no typo; what may be set: nothing"),
    (lambda: Sequential(ReLU()), "'Sequential' object has no attribute 'typo'"),
])  # fmt: skip
def test_a_misspelt_setting_is_refused(make, message):
    for part in (make(), copy.deepcopy(make())):
        with pytest.raises(AttributeError, match=f"^{message}"):
            part.typo = 0.5


def test_a_method_is_no_setting():
    with pytest.raises(AttributeError, match="Dropout has no forward; what may be set: rate"):
        Dropout(0.5).forward = 0.5
    with pytest.raises(AttributeError, match="'Sequential' object attribute 'forward' is read-o"):
        Sequential(ReLU()).forward = print


@pytest.mark.parametrize("kind, argument", [
    (Dropout, 0.5), (Huber, 1.0), (Sequential, ReLU()),
])  # fmt: skip
def test_a_derived_class_may_set_what_it_likes(kind, argument):
    class Derived(kind):
        def __init__(self):
            super().__init__(argument)
            self.anything = 0.5

    assert Derived().anything == 0.5


def test_settings_count_at_the_next_step(rng):
    """Each gives what a model made with it gives."""
    x = rng.standard_normal((9, 3))

    def model(rate=0.5, momentum=0.1, eps=1e-5, alpha=1.0, l2=None):
        return Sequential(
            Dense(3, 3, activation=ELU(alpha), l2=l2), BatchNorm(3, momentum, eps),
            Dropout(rate), LeakyReLU(alpha), LayerNorm(3, eps=eps), seed=1,
        )  # fmt: skip

    changed, made = model(), model(rate=0.25, momentum=0.5, eps=0.1, alpha=0.5, l2=2.0)
    dense, batch, dropout, leaky, layer = changed.layers
    dense.activation.alpha = leaky.alpha = 0.5
    dense.l2, batch.momentum, batch.eps, layer.eps, dropout.rate = 2.0, 0.5, 0.1, 0.1, 0.25
    for each in (changed, made):
        each.backward(each.forward(x, training=True))
    assert_same_bits(changed.flat_gradients, made.flat_gradients)
    assert_same_bits(changed.predict(x), made.predict(x))
    assert changed.penalty(9) == made.penalty(9) > 0


def test_the_activation_of_a_dense_layer_is_fixed():
    with pytest.raises(AttributeError, match="activation is fixed once a Dense is made"):
        Dense(2, 2).activation = ELU()


@pytest.mark.parametrize("make, message", [
    (lambda: LayerNorm(3, eps=1e-50), "eps"), (lambda: BatchNorm(3, eps=1e-50), "eps"),
    (lambda: BatchNorm(3, momentum=1e-50), "momentum"), (lambda: LeakyReLU(1e-50), "alpha"),
    (lambda: LeakyReLU(1e50), "alpha"), (lambda: ELU(1e50), "alpha"),
    (lambda: Dense(3, 3, activation=ELU(1e50)), "alpha"),
])  # fmt: skip
def test_a_constant_that_float32_cannot_hold(make, message):
    """1e-50 would be 0 there, 1e50 infinity."""
    x = np.ones((2, 3))
    Sequential(make(), dtype="float64").forward(x, training=True)
    with pytest.raises(ValueError, match=rf"^{message} must be .* float32, got 1e.50"):
        Sequential(make()).forward(x, training=True)


@pytest.mark.parametrize("make", [
    lambda: Dense(3, 3, "relu", True, "he"), lambda: LayerNorm(3, 0.1),
])  # fmt: skip
def test_options_that_must_be_named(make):
    with pytest.raises(TypeError, match="positional"):
        make()


@pytest.mark.parametrize("make", [lambda: Dense(3, 3), lambda: BatchNorm(3), lambda: LayerNorm(3)])
def test_a_layer_outside_a_model_says_so(make):
    for training in (False, True):
        with pytest.raises(RuntimeError, match=r"\(3.*\) is part of no model yet"):
            make().forward(np.ones((2, 3), np.float32), training)


# ---- dropout in a model ----


def test_dropout_masks_follow_seed_step_and_place():
    ones = np.ones((5, 40), np.float32)
    for seed in (0, 7, 2**64 - 1):
        model = Sequential(Dropout(0.4), Dropout(0.5), seed=seed)
        for step in (1, 2):
            y = model.forward(ones, training=True)
            keep = [
                reference.dropout_keep(5, 40, r, seed, step, i) for i, r in enumerate((0.4, 0.5))
            ]
            np.testing.assert_array_equal(y != 0, keep[0] & keep[1])


def test_dropout_outside_a_model_says_so():
    layer = Dropout(0.5)
    assert layer.forward(np.ones((2, 3))).tolist() == np.ones((2, 3)).tolist()
    with pytest.raises(RuntimeError, match="model"):
        layer.forward(np.ones((2, 3)), training=True)


# ---- how parameters begin ----

INITIALIZERS = {
    "zeros": initializers.Zeros, "normal": initializers.Normal, "xavier": initializers.Xavier,
    "he": initializers.He, "xavier_uniform": initializers.XavierUniform,
    "he_uniform": initializers.HeUniform,
}  # fmt: skip


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializer_scale(name):
    """Standard deviation, mean and limit of 90,000 draws; by name and by object alike."""
    fan_in = 300
    weight = Sequential(Dense(fan_in, 300, weight_init=name), seed=2).parameters["0.weight"]
    by_object = Sequential(Dense(fan_in, 300, weight_init=INITIALIZERS[name]()), seed=2)
    assert_same_bits(weight, by_object.parameters["0.weight"])
    deviation = reference.STANDARD_DEVIATION[name](fan_in)
    np.testing.assert_allclose(weight.std(), deviation, rtol=0.01)
    assert abs(weight.mean()) <= 5 * deviation / 300
    if name in reference.LIMIT:
        assert np.abs(weight).max() <= reference.LIMIT[name](fan_in) * (1 + 1e-6)
        assert np.abs(weight).max() >= reference.LIMIT[name](fan_in) * 0.99
    elif deviation:
        assert np.abs(weight).max() >= 3.5 * deviation


HE = ["relu", "leaky_relu", "elu", "silu", "gelu", "mish"]


@pytest.mark.parametrize("activation", activations.ACTIVATIONS)
@pytest.mark.parametrize("where", ["own", "next", "behind a norm and dropout"])
def test_default_initializer_suits_the_activation(activation, where):
    if where == "own":
        layers = [Dense(200, 200, activation=activation)]
    else:
        between = [] if where == "next" else [BatchNorm(200), LayerNorm(200), Dropout(0.1)]
        layers = [Dense(200, 200), *between, activations.ACTIVATIONS[activation](), Dense(200, 2)]
    weight = Sequential(*layers, seed=0).parameters["0.weight"]
    expected = np.sqrt((2 if activation in HE else 1) / 200)
    np.testing.assert_allclose(weight.std(), expected, rtol=0.03)


def test_default_initializer_before_another_dense_layer_or_none():
    model = Sequential(Dense(200, 200), Dense(200, 200), fastnn.ReLU(), Dense(200, 200), seed=0)
    for i, n in ((0, 1), (1, 2), (3, 1)):
        np.testing.assert_allclose(
            model.parameters[f"{i}.weight"].std(), np.sqrt(n / 200), rtol=0.03
        )
        assert not model.parameters[f"{i}.bias"].any()


def test_parameters_begin_alike_in_both_types_and_unlike_for_another_seed():
    def weights(**options):
        model = Sequential(Dense(20, 10), Dense(10, 10), Dense(10, 10), **options)
        return [model.parameters[f"{i}.weight"] for i in range(3)]

    single, double = weights(seed=4), weights(seed=4, dtype="float64")
    for a, b in zip(single, double, strict=True):
        assert_same_bits(a, b.astype(np.float32))
    assert (single[0] != weights(seed=5)[0]).all()
    assert (single[1] != single[2]).all()


def test_an_initializer_of_ones_own():
    def eye(rng, shape, fan_in):
        assert fan_in == 3
        return np.eye(*shape)

    model = Sequential(Dense(3, 3, weight_init=eye, bias_init=lambda rng, shape, fan_in: [1, 2, 3]))
    assert model.predict(np.zeros((1, 3))).tolist() == [[1, 2, 3]]
    for wrong in (
        lambda *a: np.ones(2),
        lambda *a: np.full((3, 3), "a"),
        lambda *a: 1j * np.eye(3),
    ):
        with pytest.raises(ValueError, match="initializer"):
            Sequential(Dense(3, 3, weight_init=wrong))


def test_activations_are_layers_by_name_and_by_object():
    assert set(activations.ACTIVATIONS) == {*fastnn._kernels.ACTIVATIONS, "softmax"}
    for name, kind in activations.ACTIVATIONS.items():
        assert issubclass(kind, Activation) and kind().activation_name == name
        by_name, by_object = Dense(3, 2, activation=name), Dense(3, 2, activation=kind())
        x = np.linspace(-2, 2, 12).reshape(4, 3)
        assert_same_bits(Sequential(by_name).predict(x), Sequential(by_object).predict(x))


@pytest.mark.parametrize("name", ["relu", "gelu", "softmax", "elu"])
def test_activation_in_the_dense_layer_equals_the_layer_after_it(name, dtype, isa, rng):
    """Outputs, input gradient and parameter gradients, bit for bit."""
    x, dy = rng.standard_normal((30, 40)), rng.standard_normal((30, 20))
    inside = Sequential(Dense(40, 20, activation=name), seed=1, dtype=dtype)
    after = Sequential(Dense(40, 20), activations.ACTIVATIONS[name](), seed=1, dtype=dtype)
    results = []
    for model in (inside, after):
        y = model.forward(x, training=True)
        results.append([y, model.backward(dy, input_gradient=True), model.flat_gradients])
    for a, b in zip(*results, strict=True):
        assert_same_bits(a, b)


def test_an_activation_of_ones_own_stands_behind_the_layer():
    class Own(fastnn.ReLU):
        pass

    with pytest.raises(TypeError, match="activation: expected one of fastnn's own, got Own"):
        fastnn.Dense(2, 2, activation=Own())
