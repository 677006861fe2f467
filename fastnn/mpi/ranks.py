"""Ranks: the processes of a training, how they share the cores, and how they end together."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from fastnn.mpi.leaving import Leaving
from fastnn.mpi.rounds import SharedSum, Sum, shared_by_all
from fastnn.support.threads import get_num_threads, set_num_threads
from fastnn.training.interrupts import CtrlC, following

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from numpy.typing import NDArray

    from fastnn.mpi.rounds import Told

    Array = NDArray[Any]

_PATIENCE = 3.0  # seconds that a rank with an error waits for the others to have one too
_SIGNALS: dict[signal.Signals, Any] = {  # those that end a training, and what they do else
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


class Ranks:
    """The processes as a training step sees them, and what makes them begin and end together."""

    def __init__(self, comm: MPI.Intracomm | None = None) -> None:
        if comm is not None and not isinstance(comm, MPI.Intracomm):
            raise TypeError(f"comm: expected an mpi4py.MPI.Intracomm or None, got {comm!r}")
        self.comm: MPI.Intracomm = (MPI.COMM_WORLD if comm is None else comm).Dup()
        self._errors = self.comm.Dup()  # where ranks with an error meet
        self.meeting = Leaving(self._errors).meeting
        self.rank, self.size = self.comm.rank, self.comm.size
        self._all = CtrlC()  # pressed once all ranks know that it was, on any of them
        self.interrupted = False  # whether it was on this one
        self._files: list[str] = []
        machine: Any = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
        self._on_one_machine = machine.size == self.size > 1
        if self.size > 1 and not getattr(sys.excepthook, "of_a_world", False):  # the first one
            _share_cores(machine)
            _end_all_by_errors(self.comm)
        machine.Free()

    def sum_of(self, gradients: Array) -> Sum:
        """What adds up all ranks' gradients, of which these are this rank's."""
        shared = None
        if self._on_one_machine:
            shared = shared_by_all(self.comm, gradients.size, gradients.dtype)
        if shared is None:
            return Sum(self.comm, gradients)
        return SharedSum(self.comm, gradients, shared)

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

    def hear(self, told: Told) -> None:
        """Note what the ranks told of Ctrl-C."""
        if told.interrupted.any():
            self._all.pressed = True

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """A block in which Ctrl-C, on any rank, ends the training of all, and so does an error.

        SIGTERM is a Ctrl-C too: launchers make it of one, and schedulers send it before they kill.
        """
        with self.meeting():
            self.comm.Barrier()
        self._all, self.interrupted = CtrlC(), False
        in_main = threading.current_thread() is threading.main_thread()
        mine = [s for s, usual in _SIGNALS.items() if in_main and signal.getsignal(s) == usual]
        for number in mine:
            signal.signal(number, self._press)
        try:
            with following(self._all):
                yield
        except BaseException as error:
            self._meet(error)
            raise
        finally:
            for number in mine:
                signal.signal(number, _SIGNALS[number])
            while self._files:
                os.unlink(self._files.pop())

    def _press(self, number: int, frame: object) -> None:
        if self.interrupted and number == signal.SIGINT:
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
    MPI.COMM_WORLD.Abort(1)


def _end_all_by_errors(comm: MPI.Intracomm) -> None:
    """Let an error that nobody catches end all ranks: those that wait for this one would wait for
    ever."""

    def hook(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        _abort(comm, kind, error, where)

    hook.of_a_world = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def _share_cores(machine: MPI.Intracomm) -> None:
    """Divide the cores among the ranks of this machine that may use the same ones."""
    if any(os.environ.get(name) for name in ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS")):
        return
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    same = machine.allgather(cores).count(cores)
    set_num_threads(max(1, get_num_threads() // same))
