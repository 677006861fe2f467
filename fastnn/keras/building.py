"""The layers that a .keras file describes.

How many features a layer has is read off its arrays in the file, so that no description asks for
memory.  A layer, or a setting of one, that is not in the tables here is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import layers as ours
from fastnn.layers import activations

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastnn.keras.stored import Group, Variable
    from fastnn.layers import Layer

    Config = dict[str, Any]
    Make = Callable[[Config, list[Variable]], Layer]

# Keras' layers with arrays, whose groups in a file are counted: "dense", "dense_1", ...
STORED: dict[str, tuple[type, str]] = {
    "Dense": (ours.Dense, "dense"),
    "Conv1D": (ours.Conv1D, "conv1d"),
    "Conv2D": (ours.Conv2D, "conv2d"),
    "BatchNormalization": (ours.BatchNorm, "batch_normalization"),
    "LayerNormalization": (ours.LayerNorm, "layer_normalization"),
    "Embedding": (ours.Embedding, "embedding"),
    "Sequential": (ours.Block, "sequential"),
}
# settings of Keras' layers, and what they must be
_WANTED: dict[str, tuple[Any, ...]] = {
    "data_format": ("channels_last",), "scale": (True,), "center": (True,), "axis": (-1, [-1]),
    "rms_scaling": (False,), "renorm": (False, None), "mask_zero": (False,), "noise_shape": (None,),
    "max_value": (None,), "threshold": (0, None), "keepdims": (False,),
    "quantization_config": (None,), "lora_rank": (None,), "input_length": (None,),
}  # fmt: skip


def built(config: Config, weights: Group) -> tuple[list[Layer], str]:
    """The layers of a network, and the dtype of its arrays."""
    types: set[str] = set()
    layers = _layers(config, weights, types)
    if len(types) > 1 or not types <= {"float32", "float64"}:
        raise ValueError(f"expected arrays of one type, float32 or float64, got {sorted(types)}")
    return layers, types.pop() if types else "float32"


def _layers(config: Config, weights: Group, types: set[str]) -> list[Layer]:
    kind = _kind(config)
    if kind != "Sequential":
        raise ValueError(f"expected a Sequential, got a {kind}")
    made: list[Layer] = []
    counts: dict[str, int] = {}
    for each in config["config"]["layers"]:
        kind, its = _kind(each), each["config"]
        if kind == "InputLayer":
            continue
        who = f"layer {its.get('name')}, {kind}"
        group = None
        if kind in STORED:
            group = weights.inner(counted(STORED[kind][1], counts))
        if group and kind == "Sequential":
            made.append(ours.Block(*_layers(each, group.inner("layers"), types)))
            continue
        if kind not in _LAYERS:
            raise ValueError(f"{who}: no layer of fastnn's is that")
        for setting, wanted in _WANTED.items():
            if setting in its and its[setting] not in wanted:
                raise ValueError(f"{who}: no layer has {setting}={its[setting]!r}")
        types.add(_policy(its, who))
        variables = group.variables() if group else []
        types.update(variable.dtype.name for variable in variables)
        try:
            layer = _LAYERS[kind](its, variables)
            _check_shapes(layer, [variable.shape for variable in variables])
            made.append(layer)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise ValueError(f"{who}: {error}") from None
    return made


def _check_shapes(layer: Layer, shapes: list[tuple[int, ...]]) -> None:
    """Raise ValueError unless the layer has arrays of these shapes, before they are made."""
    wanted = [*layer.parameter_shapes().values(), *(its.shape for its in layer.state.values())]
    if wanted != shapes:
        raise ValueError(f"expected arrays of shapes {wanted}, got {shapes}")


def counted(name: str, counts: dict[str, int]) -> str:
    """The name of the next group of that kind; `counts` are those so far."""
    count = counts[name] = counts.get(name, -1) + 1
    return f"{name}_{count}" if count else name


def _kind(described: Any) -> str:
    """The class of an object of Keras' own."""
    kind, module = described["class_name"], described["module"]
    if module not in ("keras", "keras.layers") or described.get("registered_name") is not None:
        raise ValueError(f"{kind!r} of {module!r}: expected one of Keras' own")
    return str(kind)


def _policy(config: Config, who: str) -> str:
    """The type that a layer computes in."""
    policy = config.get("dtype", "float32")
    name = policy["config"]["name"] if isinstance(policy, dict) else policy
    if name not in ("float32", "float64"):
        raise ValueError(f"{who}: expected float32 or float64, got {name!r}")
    return str(name)


def _activation(name: Any) -> Any:
    if not isinstance(name, str):
        raise ValueError(f"activation: expected a name, got {name!r}")
    if name == "leaky_relu":
        return ours.LeakyReLU(0.2)  # Keras' default
    return activations.resolve({"swish": "silu"}.get(name, name), "activation")


def _sizes(value: Any) -> Any:
    """Sizes as layers take them: an integer, or two."""
    if not isinstance(value, list):
        return value
    return value[0] if len(value) == 1 else tuple(value)


def _same(name: str, config: Config, found: int) -> int:
    if config[name] != found:
        raise ValueError(f"{name}={config[name]!r}, but its arrays have {found}")
    return found


def _dense(config: Config, arrays: list[Variable]) -> Layer:
    n, m = arrays[0].shape
    return ours.Dense(
        n, _same("units", config, m), _activation(config["activation"]), config["use_bias"]
    )


def _convolution(kind: Any) -> Make:
    def make(config: Config, arrays: list[Variable]) -> Layer:
        *_, n, m = arrays[0].shape
        padding, dilation = config["padding"], _sizes(config["dilation_rate"])
        if padding == "causal":
            padding = ((_sizes(config["kernel_size"]) - 1) * dilation, 0)
        layer: Layer = kind(
            n * config["groups"], _same("filters", config, m), _sizes(config["kernel_size"]),
            _sizes(config["strides"]), padding, dilation, config["groups"], config["use_bias"],
            _activation(config["activation"]),
        )  # fmt: skip
        return layer

    return make


def _relu(config: Config, arrays: list[Variable]) -> Layer:
    slope = config.get("negative_slope") or 0.0
    return ours.LeakyReLU(slope) if slope else ours.ReLU()


def _pool(kind: Any) -> Make:
    return lambda config, arrays: kind(
        _sizes(config["pool_size"]), _sizes(config["strides"]), config["padding"]
    )


_LAYERS: dict[str, Make] = {
    "Dense": _dense,
    "Conv1D": _convolution(ours.Conv1D),
    "Conv2D": _convolution(ours.Conv2D),
    "BatchNormalization": lambda c, a: ours.BatchNorm(
        a[0].shape[0], momentum=1 - c["momentum"], eps=c["epsilon"]
    ),
    "LayerNormalization": lambda c, a: ours.LayerNorm(a[0].shape[0], eps=c["epsilon"]),
    "Embedding": lambda c, a: ours.Embedding(*a[0].shape),
    "MaxPooling1D": _pool(ours.MaxPool1D),
    "MaxPooling2D": _pool(ours.MaxPool2D),
    "AveragePooling1D": _pool(ours.AvgPool1D),
    "AveragePooling2D": _pool(ours.AvgPool2D),
    "GlobalMaxPooling1D": lambda c, a: ours.GlobalMaxPool1D(),
    "GlobalMaxPooling2D": lambda c, a: ours.GlobalMaxPool2D(),
    "GlobalAveragePooling1D": lambda c, a: ours.GlobalAvgPool1D(),
    "GlobalAveragePooling2D": lambda c, a: ours.GlobalAvgPool2D(),
    "Flatten": lambda c, a: ours.Flatten(),
    "Dropout": lambda c, a: ours.Dropout(c["rate"]),
    "Activation": lambda c, a: _activation(c["activation"]),
    "ReLU": _relu,
    "LeakyReLU": lambda c, a: ours.LeakyReLU(c["negative_slope"]),
    "ELU": lambda c, a: ours.ELU(c["alpha"]),
    "Softmax": lambda c, a: ours.Softmax(),
}
