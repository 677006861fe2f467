"""Networks that left Python: single rows, one after the other, and files that are read again."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cases import Network

ROWS = 1000


@dataclass(frozen=True)
class Rows:
    """A thousand rows, each predicted by a call of its own, in the peer's own language."""

    network: Network

    @property
    def name(self) -> str:
        return f"{self.network.name.partition(',')[0]}, {ROWS} single rows"

    def data(self) -> np.ndarray:
        random = np.random.default_rng(0)
        return random.standard_normal((ROWS, self.network.sizes[0]), dtype=np.float32)

    def work(self) -> Any:
        one = self.network.inference()
        return one._replace(operations=ROWS * one.operations, traffic=ROWS * one.traffic)


@dataclass(frozen=True)
class First:
    """An ONNX file is read and one row predicted, in a process that has imported everything."""

    network: Network

    @property
    def name(self) -> str:
        return f"{self.network.name.partition(',')[0]}, from file to first prediction"

    def work(self) -> Any:
        """What the prediction alone must do."""
        return self.network.inference()


def exported(case: First) -> Path:
    """The network's file, as fastnn writes it."""
    import fastnn.onnx
    from peers.fastnn_peer import build

    path = Path(tempfile.mkdtemp()) / "network.onnx"
    fastnn.onnx.export(build(case.network), path)
    return path
