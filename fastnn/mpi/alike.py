"""Whether all ranks train the same: what must be equal is compared before the first step."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn._version import __version__
from fastnn.support.threads import build_info
from fastnn.training.sources import Rows

if TYPE_CHECKING:
    from mpi4py import MPI

    from fastnn.losses import Loss
    from fastnn.network import Network
    from fastnn.optimizers import Optimizer
    from fastnn.training.run import Run
    from fastnn.training.sources import Source

_ROWS = 4096  # of the data that are compared


def check_alike(comm: MPI.Intracomm, mine: dict[str, Any]) -> None:
    """Raise ValueError, on all ranks, that lists where a rank has another thing than rank 0."""
    told = comm.allgather(mine)
    differences = [
        f"rank {rank}: {name} is {its.get(name)}, on rank 0 {told[0].get(name)}"
        for rank, its in enumerate(told)
        for name in {**told[0], **its}
        if repr(its.get(name)) != repr(told[0].get(name))
    ]
    if differences:
        raise ValueError(f"the ranks differ: {'; '.join(differences)}")


def of_step(model: Network, loss: Loss, optimizer: Optimizer, average: Any) -> dict[str, Any]:
    """What the ranks of a step must have in common, by the name that an error gives it."""
    portable = build_info()["isa"] == "portable"
    told: dict[str, Any] = {
        "fastnn": __version__,
        "arithmetic": "portable" if portable else "with fused multiply-add",
        "loss": _words(loss),
        "optimizer": _words(optimizer),
        "average": _words(average),
        "number of layers": len(model.layers),
        "seed of the model": model.seed,
        "dtype": str(model.dtype),
        "compute": model.compute,
        "l1": model.l1,
        "l2": model.l2,
        "frozen layers": [
            i for i, (layer, _) in enumerate(model._chain.walk()) if not layer.trainable
        ],
    }
    told |= {f"layer {i}": _words(layer) for i, layer in enumerate(model.layers)}
    state = _hash(*model.state_dict().values(), model._counter)
    return told | {"parameters and state": state, "moments": _hash(*optimizer._arrays().values())}


def of_fit(run: Run, source: Source) -> dict[str, Any]:
    """The same of a training."""
    told = {"epochs": run.epochs, "epoch": run.epoch, **run.arguments, "results": run.columns}
    if isinstance(source, Rows):
        data, rows = source.data, slice(None, None, max(1, source.rows // _ROWS))
        assert source.order is not None
        arrays = [array for array in (data.X, data.y, data.weight) if array is not None]
        told |= {"rows": source.rows, "order": source.order.state_dict()}
        told["data"] = _hash(*(array[rows] for array in arrays))
    return told


def of_callbacks(callbacks: list[Any]) -> dict[str, Any]:
    """The same of callbacks of fastnn's own that follow a result."""
    plain = bool | int | float | str | None
    numbers = [{**vars(callback), **vars(callback._watch)} for callback in callbacks]
    told = [{name: v for name, v in its.items() if isinstance(v, plain)} for its in numbers]
    names = [type(callback).__name__ for callback in callbacks]
    return {"callbacks": list(zip(names, told, strict=True))}


def _words(part: Any) -> str:
    """A layer, loss, optimizer or average as it is made."""
    return repr(part).split(" at 0x")[0]


def _hash(*arrays: Any) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]
