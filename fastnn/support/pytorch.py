"""What tells a state of PyTorch's, whose weights lie the other way round: a dense layer's are (out,
in), and square ones would be taken silently.  Imports nothing of PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    Shapes = Mapping[str, tuple[int, ...]]

# the axes of its weights in fastnn's order, by their number
_ORDER = {2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0)}
ADVICE = (
    "PyTorch's weights are (out, in), fastnn's (in, out): "
    "fastnn.torch.load_state_dict(model, state) turns them"
)


def tensors(state: Mapping[str, Any]) -> list[str]:
    """The names of the values that are PyTorch's tensors."""
    return [name for name, value in state.items() if _is_its(type(value))]


def seems_its(state: Mapping[str, Any], shapes: Shapes) -> bool:
    """Whether a state that does not fit arrays of these names and shapes would as PyTorch's."""
    for name, value in state.items():
        layer, _, last = name.rpartition(".")
        if last == "num_batches_tracked" or (last == "weight" and f"{layer}.gamma" in shapes):
            return True
        if last == "weight" and name in shapes:
            shape, wanted = np.shape(value), shapes[name]
            if shape != wanted and _turned(shape) == wanted:
                return True
    return False


def silently_its(state: Mapping[str, Any], weights: Collection[str]) -> str | None:
    """The name of a weight of a state that fits either way, and is as PyTorch gave it; None where
    nothing tells, or a weight that fits one way alone shows that it was converted."""
    values = {name: state[name] for name in weights}
    if any(_turned(np.shape(value)) != np.shape(value) for value in values.values()):
        return None
    for name, value in values.items():
        if np.ndim(value) > 1 and np.size(value) > 1:
            if hasattr(state, "_metadata"):  # the dict itself is PyTorch's
                return name
            if isinstance(value, np.ndarray) and value.flags.c_contiguous and _views_its(value):
                return name
    return None


def _is_its(kind: type) -> bool:
    return any(base.__module__.split(".")[0] == "torch" for base in kind.__mro__)


def _turned(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that a weight of PyTorch's has here."""
    return tuple(shape[i] for i in _ORDER.get(len(shape), range(len(shape))))


def _views_its(array: NDArray[Any]) -> bool:
    """Whether the array's memory is a tensor's."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return owner is not None and _is_its(type(owner))
