"""What happens when a rank has left, by ``sys.exit()`` or at its program's end, and others wait for
it: they would wait for ever.

A rank that leaves tells rank 0, and rank 0 tells rank 1.  Those two look for such words now and
then, beside their training, and end all ranks when they wait for one that has left."""

from __future__ import annotations

import atexit
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mpi4py import MPI

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOK = 0.5  # seconds between two looks
_PATIENCE = 3.0  # seconds until one who waits is sure that nobody comes
_TAG = 1


class Leaving:
    """Tells when this rank leaves, and hears, on ranks 0 and 1, who has left."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm
        self._since = 0.0  # when a meeting began that goes on, or 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        if comm.size > 1 and MPI.Query_thread() == MPI.THREAD_MULTIPLE:
            if comm.rank < 2:
                self._thread.start()
            atexit.register(self._leave)

    @contextmanager
    def meeting(self) -> Iterator[None]:
        """A block that ends only when all ranks have come to it."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = 0.0

    def _leave(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        if not MPI.Is_finalized():
            self._comm.Isend([bytearray(), MPI.BYTE], dest=int(self._comm.rank == 0), tag=_TAG)

    def _look(self) -> None:
        status = MPI.Status()
        while not self._over.wait(_LOOK):
            since = self._since
            late = since and time.monotonic() - since > _PATIENCE
            if late and not MPI.Is_finalized() and self._comm.Iprobe(MPI.ANY_SOURCE, _TAG, status):
                sys.stderr.write(
                    f"rank {status.Get_source()} of {self._comm.size} has left, by sys.exit() or "
                    f"at its end, and rank {self._comm.rank} waits for it: this ends all ranks\n"
                )
                sys.stderr.flush()
                MPI.COMM_WORLD.Abort(1)
