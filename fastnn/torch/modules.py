"""Modules of PyTorch as layers, and layers as modules: `from_module` and `to_module`.

A module that is in no table here, or has a setting that no layer has, is refused by name."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from fastnn import layers as ours
from fastnn.layers.activations import Activation
from fastnn.layers.pooling import _AvgPool, _GlobalPool, _Pool
from fastnn.layers.weighted import Weighted
from fastnn.model import Sequential
from fastnn.support import arrays
from fastnn.support.settings import label
from fastnn.torch.layout import Step, steps
from fastnn.torch.state import state_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fastnn.layers import Layer


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise ImportError("from_module and to_module need PyTorch: pip install torch") from None
    return torch


def _check_same(step: Step) -> None:
    """Raise ValueError for a layer whose like in PyTorch works along other axes there."""
    layer, row = step.layer, step.row
    several = row.dimensions not in (None, 1)
    if isinstance(layer, ours.LayerNorm) and several and row.channels_first:
        raise ValueError(
            f"layer {step.name}, {label(layer)}: PyTorch's LayerNorm does not run over channels"
        )
    by_channel = ours.BatchNorm | ours.Conv1D | _Pool | _GlobalPool
    if isinstance(layer, by_channel) and several and not row.channels_first:
        raise ValueError(
            f"layer {step.name}, {label(layer)}: PyTorch has an Embedding's features last, and "
            "this module of its takes them first"
        )


# ---- from PyTorch --------------------------------------------------------------------------------


def from_module(module: Any, *, channels: int | None = None, seed: int = 0) -> Sequential:
    """A model with the layers and the weights of an `nn.Sequential`, a layer for each module.

    It takes `Linear`, `Conv1d`, `Conv2d`, `BatchNorm1d`, `BatchNorm2d`, `LayerNorm`, `Embedding`,
    the pools (global ones as ``AdaptiveAvgPool2d(1)`` with a `Flatten` behind), `Flatten`,
    `Dropout`, activations, `Identity`, and `Sequential` within.  The model's dtype is that of the
    parameters; its inputs have the channels last.  `channels` is how many the inputs have, where
    they are images that are flattened before any layer that says it.  `seed` is the model's.

    What is of training alone, such as ``requires_grad``, is not taken.

    Raises ImportError without PyTorch, TypeError or ValueError, which name the module, for what no
    layer is exactly, and for parameters that several modules share.

    >>> import numpy as np, torch
    >>> nn = torch.nn
    >>> module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    >>> model = from_module(module)
    >>> model.predict(np.zeros((2, 8, 8, 1))).shape
    (2, 10)
    """
    nn = _torch().nn
    if type(module) is not nn.Sequential:
        raise TypeError(f"module: expected an nn.Sequential, got {arrays.describe(module)}")
    leaves = dict(_leaves(nn, module, ""))
    model = Sequential(*_layers(nn, module, ""), dtype=_dtype(leaves.values()), seed=seed)
    _check_global_pools(leaves)
    new = {}
    found = steps(model, channels, _dimensions(leaves.values()))
    for step, (name, its) in zip(found, leaves.items(), strict=True):
        try:
            _check_same(step)
            _check_batch_norm(its, step)
        except ValueError as error:
            raise ValueError(f"module: {name}, {its}: {error}") from None
        if isinstance(step.layer, ours.Softmax) and its.dim not in _softmax_axes(step):
            raise ValueError(f"module: {name}, {its}: expected dim={_softmax_axes(step)[0]}")
        for kept in step.arrays():
            tensor = getattr(its, kept.their_name)
            if tensor is not None:  # else of a norm without parameters, which are 1 and 0
                new[f"{step.name}.{kept.name}"] = kept.ours(tensor.detach().cpu().numpy())
    model.load_state_dict(new, strict=False)
    return model


def _leaves(nn: Any, module: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The modules that compute something, by name, in their order."""
    for name, its in module._modules.items():
        if type(its) is nn.Sequential:
            yield from _leaves(nn, its, f"{prefix}{name}.")
        else:
            yield prefix + name, its


def _layers(nn: Any, module: Any, prefix: str) -> list[Layer]:
    made: list[Layer] = []
    for name, its in module._modules.items():
        _check_plain(its, prefix + name)
        if type(its) is nn.Sequential:
            made.append(ours.Block(*_layers(nn, its, f"{prefix}{name}.")))
        else:
            made.append(_layer(nn, its, prefix + name))
    if not made:
        raise ValueError(f"module: {prefix.rstrip('.') or 'it'} has no modules")
    _check_plain(module, prefix.rstrip("."))
    return made


def _check_plain(module: Any, name: str) -> None:
    """Raise TypeError for a module that was told to do something else besides."""
    changed = "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks
    if changed:
        raise TypeError(f"module: {name or 'it'} has hooks or a forward of its own")


def _layer(nn: Any, module: Any, name: str) -> Layer:
    kind = type(module).__name__
    if kind not in _LAYERS or getattr(nn, kind, None) is not type(module):
        raise TypeError(f"module: {name}, {module}: no layer of fastnn's is that")
    for setting, wanted in _WANTED.items():
        value = getattr(module, setting, wanted[0])
        if value not in wanted:
            raise ValueError(f"module: {name}, {module}: no layer has {setting}={value!r}")
    try:
        return _LAYERS[kind](module)
    except (TypeError, ValueError) as error:
        raise ValueError(f"module: {name}, {module}: {error}") from None


# settings of modules, and what they must be
_WANTED: dict[str, tuple[Any, ...]] = {
    "padding_mode": ("zeros",), "track_running_stats": (True,), "return_indices": (False,),
    "ceil_mode": (False,), "divisor_override": (None,), "max_norm": (None,), "start_dim": (1,),
    "end_dim": (-1,), "approximate": ("none",), "beta": (1, 1.0), "output_size": (1, (1,), (1, 1)),
}  # fmt: skip


def _plain(value: Any) -> Any:
    """Sizes as layers take them: an integer, or two."""
    if isinstance(value, tuple):
        return value[0] if len(value) == 1 else value
    return value


def _padding(value: Any) -> Any:
    value = _plain(value)
    return (value[0], value[0], value[1], value[1]) if isinstance(value, tuple) else value


def _convolution(kind: Any) -> Callable[[Any], Layer]:
    return lambda m: kind(
        m.in_channels, m.out_channels, _plain(m.kernel_size), _plain(m.stride), _padding(m.padding),
        _plain(m.dilation), m.groups, m.bias is not None,
    )  # fmt: skip


def _max_pool(kind: Any) -> Callable[[Any], Layer]:
    def make(m: Any) -> Layer:
        if _plain(m.dilation) not in (1, (1, 1)):
            raise ValueError(f"no layer has dilation={m.dilation!r}")
        pool: Layer = kind(_plain(m.kernel_size), _plain(m.stride), _padding(m.padding))
        return pool

    return make


def _avg_pool(kind: Any) -> Callable[[Any], Layer]:
    return lambda m: kind(
        _plain(m.kernel_size), _plain(m.stride), _padding(m.padding), m.count_include_pad
    )


def _layer_norm(m: Any) -> Layer:
    if len(m.normalized_shape) != 1:
        raise ValueError("LayerNorm runs over the last axis alone")
    return ours.LayerNorm(m.normalized_shape[0], eps=m.eps)


def _softplus(m: Any) -> Layer:
    if m.threshold < 20:
        raise ValueError("Softplus is exact: expected a threshold of 20 or more")
    return ours.Softplus()


def _batch_norm(m: Any) -> Layer:
    return ours.BatchNorm(m.num_features, m.momentum, m.eps)


_LAYERS: dict[str, Callable[[Any], Layer]] = {
    "Linear": lambda m: ours.Dense(m.in_features, m.out_features, bias=m.bias is not None),
    "Conv1d": _convolution(ours.Conv1D),
    "Conv2d": _convolution(ours.Conv2D),
    "BatchNorm1d": _batch_norm,
    "BatchNorm2d": _batch_norm,
    "LayerNorm": _layer_norm,
    "Embedding": lambda m: ours.Embedding(m.num_embeddings, m.embedding_dim),
    "MaxPool1d": _max_pool(ours.MaxPool1D),
    "MaxPool2d": _max_pool(ours.MaxPool2D),
    "AvgPool1d": _avg_pool(ours.AvgPool1D),
    "AvgPool2d": _avg_pool(ours.AvgPool2D),
    "AdaptiveMaxPool1d": lambda m: ours.GlobalMaxPool1D(),
    "AdaptiveMaxPool2d": lambda m: ours.GlobalMaxPool2D(),
    "AdaptiveAvgPool1d": lambda m: ours.GlobalAvgPool1D(),
    "AdaptiveAvgPool2d": lambda m: ours.GlobalAvgPool2D(),
    "Flatten": lambda m: ours.Flatten(),
    "Dropout": lambda m: ours.Dropout(m.p),
    "Identity": lambda m: ours.Linear(),
    "LeakyReLU": lambda m: ours.LeakyReLU(m.negative_slope),
    "ELU": lambda m: ours.ELU(m.alpha),
    "Softplus": _softplus,
}
_SAME = ("ReLU", "Sigmoid", "Tanh", "SELU", "SiLU", "GELU", "Mish", "Softmax")
for _name in _SAME:
    _LAYERS[_name] = lambda m: getattr(ours, type(m).__name__)()


def _dtype(leaves: Iterable[Any]) -> str:
    """The type of all parameters; ValueError where several modules share one."""
    parameters = [p for m in leaves for p in m._parameters.values() if p is not None]
    if len({id(p) for p in parameters}) < len(parameters):
        raise ValueError("module: several modules share parameters, which layers cannot")
    types = {str(p.dtype).removeprefix("torch.") for p in parameters} or {"float32"}
    if types not in ({"float32"}, {"float64"}):
        raise ValueError(f"module: expected float32 or float64, got {', '.join(sorted(types))}")
    return types.pop()


def _dimensions(leaves: Iterable[Any]) -> int | None:
    """The dimensions of the inputs' rows where a batch norm tells them, else None."""
    for its in leaves:
        kind = type(its).__name__
        if kind == "BatchNorm2d":
            return 3
        if kind == "Flatten":
            break
    return None


def _check_batch_norm(its: Any, step: Step) -> None:
    """Raise ValueError for a batch norm that takes images where there are none, or the reverse."""
    kind, images = type(its).__name__, step.row.dimensions == 3
    if kind in ("BatchNorm1d", "BatchNorm2d") and images != (kind == "BatchNorm2d"):
        raise ValueError(f"PyTorch's {kind} takes {'no images' if images else 'images alone'}")


def _check_global_pools(leaves: dict[str, Any]) -> None:
    """Raise ValueError for a global pool with no Flatten behind: its outputs have four dimensions
    in PyTorch, and two here."""
    pool = ""
    for name, its in leaves.items():
        kind = type(its).__name__
        if kind.startswith("Adaptive"):
            pool = name
        elif kind == "Flatten":
            pool = ""
        elif pool and kind not in ("Dropout", "Identity", *_SAME[:-1]):
            break
    if pool:
        raise ValueError(f"module: {pool}, {leaves[pool]}: expected a Flatten behind it")


def _softmax_axes(step: Step) -> tuple[int, ...]:
    """The axis of the channels in PyTorch, counted from either end."""
    dimensions = step.row.dimensions
    if dimensions is None:
        return (1,)
    return (1, -dimensions) if step.row.channels_first else (dimensions, -1)


# ---- for PyTorch ---------------------------------------------------------------------------------


def to_module(model: Sequential, *, channels: int | None = None) -> Any:
    """An `nn.Sequential` that computes the same, in evaluation mode: ``module.train()`` to train.

    Its inputs have the channels first.  A layer's activation becomes a module of its own, a global
    pool one with a `Flatten` behind; a `Block` an `nn.Sequential` within.  `channels` is how many
    the inputs have, where they are images that are flattened before any layer that says it.  A
    model with ``compute="bfloat16"`` is computed in float32.

    Raises ImportError without PyTorch, TypeError or ValueError, which name the layer, for what
    PyTorch has no module for: `Residual`, `Heads`, `Columns`, padding that is not equal on both
    sides.

    >>> from fastnn import Dense, Sequential
    >>> to_module(Sequential(Dense(3, 2, activation="relu")))
    Sequential(
      (0): Linear(in_features=3, out_features=2, bias=True)
      (1): ReLU()
    )
    """
    torch = _torch()
    if not isinstance(model, Sequential):
        raise TypeError(f"model: expected a Sequential of fastnn's, got {arrays.describe(model)}")
    found = steps(model, channels)
    names: list[str] = []
    for step in found:
        try:
            _check_same(step)
        except ValueError as error:
            raise ValueError(f"model: {error}") from None
    behind = itertools.chain(found[1:], [None])
    with torch.random.fork_rng(devices=[]):  # modules draw weights, which are not kept
        module = _module(torch.nn, model.layers, zip(found, behind, strict=True), names, "")
    module = module.double() if model.dtype == "float64" else module
    state = state_dict(model, names=names, channels=channels)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return module.eval()


def _module(nn: Any, layers: Any, found: Iterator[Any], names: list[str], prefix: str) -> Any:
    """The layers as an nn.Sequential; the names of the modules that have arrays come to `names`."""
    made: list[Any] = []
    for layer in layers:
        if type(layer) is ours.Block:
            made.append(_module(nn, layer.layers, found, names, f"{prefix}{len(made)}."))
            continue
        if layer._chains:
            raise TypeError(f"model: {label(layer)} has no like in PyTorch")
        step, behind = next(found)
        if layer.parameters:
            names.append(f"{prefix}{len(made)}")
        try:
            made += _modules(nn, step)
        except (TypeError, ValueError) as error:
            raise type(error)(f"model: layer {step.name}, {label(layer)}: {error}") from None
        if isinstance(layer, _GlobalPool) and not (
            behind and isinstance(behind.layer, ours.Flatten)
        ):
            made.append(nn.Flatten())
    return nn.Sequential(*made)


def _modules(nn: Any, step: Step) -> list[Any]:
    """The modules that one layer becomes."""
    layer, several = step.layer, 2 if step.row.dimensions == 3 else 1
    if isinstance(layer, Weighted):
        f = layer.activation
        behind = [] if isinstance(f, ours.Linear) else [_activation(nn, f, step)]
        return [_weighted(nn, layer), *behind]
    if isinstance(layer, Activation):
        return [_activation(nn, layer, step)]
    if isinstance(layer, _Pool):
        return [_pool(nn, layer)]
    if isinstance(layer, _GlobalPool):
        kind = f"Adaptive{'Avg' if layer.average else 'Max'}Pool{layer.dimensions - 1}d"
        return [getattr(nn, kind)(1)]
    if isinstance(layer, ours.BatchNorm):
        norm = getattr(nn, f"BatchNorm{several}d")
        return [norm(layer.features, eps=layer.eps, momentum=layer.momentum)]
    if isinstance(layer, ours.LayerNorm):
        return [nn.LayerNorm(layer.features, eps=layer.eps)]
    if isinstance(layer, ours.Embedding):
        return [nn.Embedding(layer.n, layer.features)]
    if isinstance(layer, ours.Dropout):
        return [nn.Dropout(layer.rate)]
    if isinstance(layer, ours.Flatten):
        return [nn.Flatten()]
    raise TypeError("PyTorch has no like of it")


def _activation(nn: Any, f: Activation, step: Step) -> Any:
    kind = type(f).__name__
    if isinstance(f, ours.Linear):
        return nn.Identity()
    if isinstance(f, ours.Softmax):
        return nn.Softmax(_softmax_axes(step)[0])
    if isinstance(f, ours.Softplus):
        return nn.Softplus(threshold=40)  # from there on it is x, which in float64 is exact
    return getattr(nn, kind)(*([f.alpha] if isinstance(f, ours.LeakyReLU | ours.ELU) else []))


def _weighted(nn: Any, layer: Any) -> Any:
    if isinstance(layer, ours.Dense):
        return nn.Linear(layer.in_features, layer.out_features, bias=layer.has_bias)
    kind = getattr(nn, f"Conv{layer.dimensions - 1}d")
    same = layer.padding == "same"
    if same and layer.stride not in (1, (1, 1)):
        raise ValueError("PyTorch has no padding='same' with a stride")
    return kind(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride,
        "same" if same else _equal(layer), layer.dilation, layer.groups, layer.has_bias,
    )  # fmt: skip


def _pool(nn: Any, layer: Any) -> Any:
    padding = _equal(layer)
    sizes = padding if isinstance(padding, tuple) else (padding,) * (layer.dimensions - 1)
    kernel = layer.windows.kernel[3 - layer.dimensions :]
    if any(2 * p > k for p, k in zip(sizes, kernel, strict=True)):
        raise ValueError("PyTorch pads pools by half their kernel at most")
    kind = getattr(nn, f"{'Avg' if layer.average else 'Max'}Pool{layer.dimensions - 1}d")
    more = {"count_include_pad": layer.count_padding} if isinstance(layer, _AvgPool) else {}
    return kind(layer.kernel_size, layer.stride, padding, **more)


def _equal(layer: Any) -> Any:
    """The padding, equal on both sides: an integer, or (rows, columns)."""
    sides = layer.windows.padding
    if isinstance(sides, str) or any(before != behind for before, behind in sides):
        raise ValueError(f"PyTorch has no padding={layer.padding!r} here")
    sizes = tuple(before for before, _ in sides[3 - layer.dimensions :])
    return sizes[0] if len(set(sizes)) == 1 else sizes
