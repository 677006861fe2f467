"""Every layer alone: forward and backward against the reference, training and evaluation, order of
calls."""

import itertools

import numpy as np
import pytest

import fastnn
import reference
from compare import assert_close, assert_same_bits
from fastnn import (
    ELU,
    BatchNorm,
    Block,
    Columns,
    Dense,
    Dropout,
    Flatten,
    Heads,
    LayerNorm,
    LeakyReLU,
    ParametricActivation,
    PeriodicEmbedding,
    Residual,
    Scale,
    Sequential,
)
from fastnn.layers import Activation
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
    positions = itertools.count(2**32 - 1, -1)  # for the layers within it
    run = _run_reference(model.layers[0], p, x, training, 0, positions, model.seed)
    y, dx, gradients = run(dy)
    return y, dx, {f"0.{name}": gradient for name, gradient in gradients.items()}


def _run_reference(layer, p, x, training, position, positions, seed):
    """The layer's forward; returns a function dy -> (y, dx, gradients)."""
    if isinstance(layer, Heads):
        heads = [(i, x, head) for i, head in enumerate(layer.layers)]
        return _side_by_side(heads, p, training, positions, seed)
    if isinstance(layer, Columns):
        ends = np.cumsum([width for width, _ in layer.parts])
        columns = np.split(x, ends[:-1], axis=1)
        parts = [
            (i, its, part)
            for i, (its, (_, part)) in enumerate(zip(columns, layer.parts, strict=True))
        ]
        return _side_by_side(parts, p, training, positions, seed, apart=True)
    if isinstance(layer, Block):
        return _block(layer, p, x, training, positions, seed)
    return lambda dy: _plain(layer, p, x, dy, training, position, seed)


def _side_by_side(paths, p, training, positions, seed, apart=False):
    """Paths with their numbers and inputs; `apart`: these are columns of one x, else all of it."""
    runs, widths = [], []
    for i, x, layer in paths:
        if layer is None:
            runs.append(lambda dy, x=x: (x, dy, {}))
            widths.append(x.shape[1])
            continue
        mine = {n.partition(".")[2]: a for n, a in p.items() if n.startswith(f"{i}.")}
        position = next(positions)
        runs.append(_run_reference(layer, mine, x, training, position, positions, seed))
        widths.append(layer.out_features or x.shape[1])

    def run(dy):
        parts = np.split(dy, np.cumsum(widths)[:-1], axis=1)
        ends = [path(part) for path, part in zip(runs, parts, strict=True)]
        gradients = {f"{i}.{name}": g for i, end in enumerate(ends) for name, g in end[2].items()}
        dxs = [end[1] for end in ends]
        dx = None
        if not any(its is None for its in dxs):
            dx = np.concatenate(dxs, axis=1) if apart else sum(dxs)
        return np.concatenate([end[0] for end in ends], axis=1), dx, gradients

    return run


def _block(layer, p, x, training, positions, seed):
    """A block has one path; a residual a second one, which may be empty."""
    runs, ends = {}, []
    second = [{"shortcut": layer.shortcut}] if isinstance(layer, Residual) else []
    for chain in (dict(enumerate(layer.layers)), *second):
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
        if second:
            dx = None if dx is None or aside is None else dx + aside
        return sum(ends), dx, gradients

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
    if isinstance(layer, ParametricActivation | Scale):
        f = (layer.activation_name, layer.activation.alpha) if "alpha" in p else ("linear",)
        ((name, weight),) = p.items()
        y = reference.parametric_forward(x, weight, *f)
        dx, dweight = reference.parametric_backward(x, dy, weight, *f)
        return y, dx, {name: dweight}
    if isinstance(layer, PeriodicEmbedding):
        waves = p["frequency"], p["phase"], p["weight"]
        dx, *gradients = reference.periodic_backward(x, dy, *waves)
        return (
            reference.periodic_forward(x, *waves, p["bias"]),
            dx,
            dict(zip(p, gradients, strict=True)),
        )
    assert isinstance(layer, Activation), f"no reference for {layer!r}: state it here"
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
    assert [layer._saved for layer, _ in model._chain.walk()] == [None] * len(
        [*model._chain.walk()]
    )
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
    """Not even with dropout in evaluation, the identity: a user may overwrite x later."""
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


# ---- settings: what may be set at any time ----


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
    """In float32, 1e-50 is 0 and 1e50 infinity."""
    x = np.ones((2, 3))
    Sequential(make(), dtype="float64").forward(x, training=True)
    with pytest.raises(ValueError, match=rf"^{message}: expected .* float32, got 1e.50"):
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
