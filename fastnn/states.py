"""What of a state, arrays by name, a model can take: `load_state_dict` asks here before it changes
anything.  One message lists all that does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fastnn.support import arrays, pytorch

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    from numpy.typing import NDArray

    Named = Mapping[str, NDArray[Any]]


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` did not find, in the state and in the model."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def fitting(
    state: Mapping[str, Any],
    mine: Named,
    dtype: np.dtype[Any],
    strict: bool,
    turned: Collection[str],
) -> tuple[dict[str, NDArray[Any]], IncompatibleKeys]:
    """Copies, in that dtype, of the state's arrays that a model's own, `mine`, can be set to; and
    what one of the two lacks.  `turned` are the names of its weights that are (out, in) in PyTorch.

    Raises as `Network.load_state_dict` says."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state: expected a dict of arrays by name, got {arrays.describe(state)}")
    if others := [name for name in state if not isinstance(name, str)]:
        raise TypeError(f"state: expected names such as '0.weight', got {others[0]!r}")
    if found := pytorch.tensors(state):
        raise TypeError(f"state: {found[0]} is a tensor; {pytorch.ADVICE}")
    missing = [name for name in mine if name not in state]
    unknown = [name for name in state if name not in mine]
    new = {
        name: arrays.real_array(state[name], name, dtype).copy()  # may be a view of mine
        for name in mine
        if name in state
    }
    misshapen = [
        f"{name} expected {mine[name].shape}, got {array.shape}"
        for name, array in new.items()
        if array.shape != mine[name].shape
    ]
    groups = {"missing": missing, "unknown": unknown} if strict else {}
    groups["of another shape"] = misshapen
    faults = [f"{what} {', '.join(names)}" for what, names in groups.items() if names]
    if faults:
        if pytorch.seems_its(state, {name: array.shape for name, array in mine.items()}):
            faults.append(pytorch.ADVICE)
        raise ValueError(f"state: {'; '.join(faults)}")
    if name := pytorch.silently_its(state, [name for name in turned if name in state]):
        raise ValueError(
            f"state: {name} is as PyTorch gave it, and square; {pytorch.ADVICE}; if it was "
            "transposed, pass a dict of copies"
        )
    return new, IncompatibleKeys(missing, unknown)
