"""World: the processes that train together, and what `fit` needs of them."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mpi4py import MPI

import fastnn
from fastnn.files import describe
from fastnn.mpi.callbacks import on_this_rank
from fastnn.mpi.sources import Shares
from fastnn.mpi.step import TrainStep
from fastnn.training.interrupts import CtrlC, following
from fastnn.training.sources import Rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from fastnn.mpi.rounds import Told
    from fastnn.training.callbacks import Callback
    from fastnn.training.run import Run
    from fastnn.training.sources import Source

_PATIENCE = 3.0  # seconds that a rank with an error waits for the others to have one too
_ROWS = 4096  # of the data that ranks compare


class World:
    """All processes that ``mpirun`` has started, each with a number, its `rank`, below `size`.

    ``model.fit(..., distributed=World())`` trains on all of them.  Where the launcher gives several
    ranks the same cores they share them, unless ``FASTNN_NUM_THREADS`` or ``OMP_NUM_THREADS`` says
    how many threads a rank has.  An error that a rank does not catch ends all ranks.  `comm`, an
    intracommunicator of mpi4py, chooses other processes than all.

    Raises TypeError for another `comm`.

    >>> import fastnn.mpi
    >>> world = fastnn.mpi.World()
    >>> world.rank < world.size
    True
    """

    def __init__(self, comm: MPI.Intracomm | None = None) -> None:
        if comm is not None and not isinstance(comm, MPI.Intracomm):
            raise TypeError(f"comm: expected an mpi4py.MPI.Intracomm or None, got {comm!r}")
        self.comm: MPI.Intracomm = (MPI.COMM_WORLD if comm is None else comm).Dup()
        self._errors = self.comm.Dup()  # where ranks with an error meet
        self.rank, self.size = self.comm.rank, self.comm.size
        self._all = CtrlC()  # pressed once all ranks know that it was, on any of them
        self.interrupted = False  # whether it was on this one
        self._files: list[str] = []
        if self.size > 1:
            _share_cores(self.comm)
            _end_all_by_errors(self.comm)

    def __repr__(self) -> str:
        return f"<World: rank {self.rank} of {self.size}>"

    def own(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Of batches that every rank can make, in the same order, those of this rank.

        >>> import fastnn.mpi
        >>> world = fastnn.mpi.World()
        >>> len(list(world.own(range(100 * world.size))))
        100
        """
        return islice(batches, self.rank, None, self.size)

    # ---- what `fit` asks for (see training/loop.py) --------------------------------------------

    def step(self, *arguments: Any, **options: Any) -> TrainStep:
        return TrainStep(self, *arguments, **options)

    def stream(self, *arguments: Any) -> Shares:
        return Shares(self.comm, *arguments)

    def here(self, path: Any) -> Any:
        """The path of a file of rank 0's, or of a copy of it."""
        if path is None or self.size == 1:
            return path
        content = self.comm.bcast(Path(path).read_bytes() if self.rank == 0 else None)
        if self.rank == 0:
            return path
        with tempfile.NamedTemporaryFile(suffix=".safetensors", delete=False) as file:
            file.write(content)
        self._files.append(file.name)
        return file.name

    def callbacks(self, callbacks: list[Callback], run: Run, step: Any) -> list[Callback]:
        return on_this_rank(self.comm, callbacks, step.numbers)

    def check(self, run: Run, source: Source) -> None:
        """Raise ValueError where ranks differ in what they train, or in how."""
        told = self.comm.allgather(_described(run, source))
        differences = [
            f"rank {rank}: {name} is {its.get(name)}, on rank 0 {told[0].get(name)}"
            for rank, its in enumerate(told)
            for name in {**told[0], **its}
            if its.get(name) != told[0].get(name)
        ]
        if differences:
            raise ValueError(f"distributed: the ranks differ: {'; '.join(differences)}")

    def hear(self, told: Told) -> None:
        """Note what the ranks told of Ctrl-C."""
        if told.interrupted.any():
            self._all.pressed = True

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """A block in which Ctrl-C, on any rank, ends the training of all, and so does an error."""
        self._all, self.interrupted = CtrlC(), False
        mine = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if mine:
            signal.signal(signal.SIGINT, self._press)
        try:
            with following(self._all):
                yield
        except BaseException as error:
            self._meet(error)
            raise
        finally:
            if mine:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            while self._files:
                os.unlink(self._files.pop())

    def _press(self, number: int, frame: object) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True

    def _meet(self, error: BaseException) -> None:
        """Wait for all ranks to have an error; end them all where some have none."""
        met, until = self._errors.Ibarrier(), time.monotonic() + _PATIENCE
        while not met.Test():
            if time.monotonic() > until:
                _abort(self.comm, type(error), error, error.__traceback__)
            time.sleep(0.01)


def _abort(
    comm: MPI.Intracomm,
    kind: type[BaseException],
    error: BaseException,
    where: TracebackType | None,
) -> None:
    lines = "".join(traceback.format_exception(kind, error, where))
    sys.stderr.write(f"{lines}rank {comm.rank} of {comm.size} ends all ranks by this error\n")
    sys.stderr.flush()
    comm.Abort(1)


def _end_all_by_errors(comm: MPI.Intracomm) -> None:
    """Let an error that nobody catches end all ranks: those that wait for this one would wait for
    ever."""
    if getattr(sys.excepthook, "of_a_world", False):
        return

    def hook(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        _abort(comm, kind, error, where)

    hook.of_a_world = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def _share_cores(comm: MPI.Intracomm) -> None:
    """Divide the cores among the ranks of this machine that may use the same ones."""
    if any(os.environ.get(name) for name in ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS")):
        return
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    machine = comm.Split_type(MPI.COMM_TYPE_SHARED)
    same = machine.allgather(cores).count(cores)
    machine.Free()
    fastnn.set_num_threads(max(1, fastnn.get_num_threads() // same))


def _described(run: Run, source: Source) -> dict[str, Any]:
    """What must be the same on all ranks, by the name that an error gives it."""
    model, optimizer = run.model, run.optimizer
    portable = fastnn.build_info()["isa"] == "portable"
    told: dict[str, Any] = {
        "fastnn": fastnn.__version__,
        "arithmetic": "portable" if portable else "with fused multiply-add",
        "epochs": run.epochs,
        "epoch": run.epoch,
        "loss": _words(run.loss),
        "optimizer": _words(optimizer),
        "number of layers": len(model.layers),
        "seed": model.seed,
        "dtype": str(model.dtype),
        "l1": model.l1,
        "l2": model.l2,
        **run.arguments,
    }
    for i, layer in enumerate(model.layers):
        told[f"layer {i}"] = _words(layer)
    told["parameters and state"] = _hash(*model.state_dict().values(), model._counter)
    if isinstance(source, Rows):
        data, rows = source.data, slice(None, None, max(1, source.rows // _ROWS))
        told["rows"] = source.rows
        told["data"] = _hash(
            *(array[rows] for array in (data.X, data.y, data.weight) if array is not None)
        )
    return told


def _words(part: Any) -> str:
    """A layer, loss or optimizer in words."""
    known = type(part).__name__ in describe.PARTS
    return str(describe.describe(part, "part")) if known else repr(part).split(" at 0x")[0]


def _hash(*arrays: Any) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]
