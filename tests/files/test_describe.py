"""Objects as JSON: every class, and every argument of its constructor, comes back."""

import copy
import inspect
import json

import pytest

import fastnn
from fastnn import BatchNorm, Dropout, LeakyReLU, ReLU, Sequential, initializers
from fastnn.files import describe
from fastnn.support.settings import settable

INITIALIZER = initializers.Normal(0.25)
WEIGHTED = {"activation": LeakyReLU(0.2), "bias": False, "weight_init": INITIALIZER,
            "bias_init": initializers.HeUniform(), "l1": 0.25, "l2": 0.5}  # fmt: skip
CONV = {"in_channels": 4, "out_channels": 6, "groups": 2, **WEIGHTED}
ONE_AXIS = {"kernel_size": 3, "stride": 2, "padding": (2, 1), "dilation": 2}
TWO_AXES = {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 1, 2, 3), "dilation": (1, 2)}
POOL1, POOL2 = ({k: v for k, v in a.items() if k != "dilation"} for a in (ONE_AXIS, TWO_AXES))
POOL2 = {**POOL2, "padding": (0, 1, 1, 1)}
STEP = {"learning_rate": 0.125, "clip_norm": 0.5, "clip_value": 0.25,
        "learning_rate_factors": {"*.bias": 2.0, "0.*": 0.0}}  # fmt: skip
# class -> every argument of its constructor, with a value that is not the default
ARGUMENTS = {
    "AvgPool1D": {**POOL1, "count_padding": True},
    "AvgPool2D": {**POOL2, "count_padding": True},
    "BatchNorm": {"features": 3, "momentum": 0.5, "eps": 0.25},
    "Block": {"layers": [ReLU(), BatchNorm(2)]},
    "Conv1D": CONV | ONE_AXIS,
    "Conv2D": CONV | TWO_AXES,
    "Dense": {"in_features": 3, "out_features": 2, **WEIGHTED},
    "Dropout": {"rate": 0.25},
    "Heads": {"layers": [ReLU(), BatchNorm(2)]},
    "ELU": {"alpha": 0.5},
    "Embedding": {"n": 7, "features": 2, "weight_init": INITIALIZER},
    "LayerNorm": {"features": 3, "eps": 0.25},
    "LeakyReLU": {"alpha": 0.5},
    "MaxPool1D": POOL1,
    "MaxPool2D": POOL2,
    "Normal": {"std": 0.5},
    "Orthogonal": {"gain": 0.5},
    "Columns": {"parts": [(2, None), (3, BatchNorm(3))]},
    "ParametricActivation": {"features": 3, "activation": LeakyReLU(0.2)},
    "PeriodicEmbedding": {"features": 3, "frequencies": 5, "out": 2, "sigma": 0.5},
    "Scale": {"features": 3},
    "Residual": {"layers": [ReLU(), BatchNorm(2)], "shortcut": Dropout(0.5)},
    "Adam": {"beta1": 0.5, "beta2": 0.75, "eps": 0.25, **STEP},
    "AdamW": {
        "beta1": 0.5,
        "beta2": 0.75,
        "eps": 0.25,
        "weight_decay": 0.125,
        "weight_decay_factors": {"*.bias": 0.5},
        **STEP,
    },
    "ExponentialMovingAverage": {"decay": 0.5},
    "Momentum": {"beta": 0.5, "nesterov": True, **STEP},
    "Nesterov": {"beta": 0.5, **STEP},
    "RMSprop": {"beta": 0.5, "eps": 0.25, "bias_correction": True, **STEP},
    "SGD": STEP,
    "StochasticWeightAverage": {"start_epoch": 3},
}


def arguments(name):
    """Those of a constructor by position, and by name."""
    keywords = dict(ARGUMENTS.get(name, {}))
    return keywords.pop("layers", keywords.pop("parts", [])), keywords


KNOWN = describe.PARTS | describe.OPTIMIZERS | describe.AVERAGES


@pytest.mark.parametrize("name", KNOWN)
def test_every_argument_comes_back(name):
    """Fails for a class that cannot be described or loses an argument."""
    known = KNOWN
    kind, given = known[name], ARGUMENTS.get(name, {})
    parameters = inspect.signature(kind).parameters.values()
    assert {p.name for p in parameters} == set(given)
    assert not any(p.default == given[p.name] for p in parameters)
    positional, keywords = arguments(name)
    described = describe.describe(kind(*positional, **keywords), "it", known)
    described = json.loads(json.dumps(described))
    assert described.pop("type") == name
    assert described == json.loads(json.dumps(plain(given)))
    same = describe.build({"type": name, **described}, "it", iter(range(9)), known)
    assert type(same) is kind
    assert describe.describe(same, "it", known) == describe.describe(
        kind(*positional, **keywords), "it", known
    )


@pytest.mark.parametrize("name", [*describe.PARTS, *describe.OPTIMIZERS])
def test_every_argument_is_an_attribute(name):
    """It has its name; and what is no setting cannot be set, also not in a model."""
    kind, given = (describe.PARTS | describe.OPTIMIZERS)[name], ARGUMENTS.get(name, {})
    positional, keywords = arguments(name)
    keywords.pop("bias", None)
    part = kind(*positional, **keywords)
    for argument, value in keywords.items():
        found = getattr(part, argument)
        assert found is value or found == value
    parts = [part]
    if isinstance(part, fastnn.Layer):
        Sequential(twin := copy.deepcopy(part))
        parts.append(twin)
    for part in parts:
        for argument in given.keys() - settable(kind).keys() - {"bias"}:
            message = f"^{argument} is fixed once a {name} is made"
            with pytest.raises(AttributeError, match=message):
                setattr(part, argument, getattr(part, argument))


SIZES = ("in_features", "out_features", "dimensions", "out_dimensions", "native", "random",
         "activation_name")  # fmt: skip


@pytest.mark.parametrize("name", [name for name in describe.PARTS if hasattr(fastnn, name)])
def test_what_layers_say_of_themselves_is_fixed(name):
    """A file would hold the old sizes with arrays of the new ones."""
    positional, keywords = arguments(name)
    layer = describe.PARTS[name](*positional, **keywords)
    Sequential(twin := copy.deepcopy(layer))
    for each in (layer, twin):
        for size in SIZES:
            before = getattr(each, size)
            with pytest.raises(AttributeError, match=f"^{size} is fixed once a {name} is made"):
                setattr(each, size, 3)
            assert getattr(each, size) == before


def test_layers_of_ones_own_say_what_they_like():
    class Mine(fastnn.Layer):
        def __init__(self):
            self.in_features = self.out_features = 3
            self.out_features = 4

    class Wide(fastnn.Dense):
        def __init__(self):
            super().__init__(3, 4)
            self.kernel_size = self.anything = 5

    class Twice(fastnn.Residual):
        dimensions = 1

    for layer in (Mine(), Wide()):
        assert (layer.in_features, layer.out_features) == (3, 4)
        layer.in_features = 5
        assert layer.in_features == 5
    twice = Twice(ReLU())
    twice.activation_name = "tanh"
    assert twice.activation_name == "tanh"


def plain(value):
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value if isinstance(value, int | float | None) else describe.describe(value, "it")


def test_every_public_class_is_known():
    classes = [v for v in vars(fastnn).values() if isinstance(v, type)]
    layers = {c for c in classes if issubclass(c, fastnn.Layer)} - {fastnn.Layer}
    starts = {c for c in vars(initializers).values() if isinstance(c, type) and "__call__" in
              vars(c) and c.__module__ == initializers.__name__}  # fmt: skip
    assert layers | starts == set(describe.PARTS.values())
    optimizers = {c for c in classes if issubclass(c, fastnn.optimizers.Optimizer)}
    assert optimizers == set(describe.OPTIMIZERS.values())
    averages = {c for c in classes if issubclass(c, fastnn.weight_averages.WeightAverage)}
    assert averages == set(describe.AVERAGES.values())
