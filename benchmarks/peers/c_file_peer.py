"""fastnn's network as a C file (`fastnn.export_c`), compiled by the system's compiler."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
from deployed import Rows
from peers.compiled import loop
from peers.fastnn_peer import build


def rows(case: Rows) -> Callable[[], Any]:
    model, x = build(case.network), case.data()
    folder = Path(tempfile.mkdtemp())
    fastnn.export_c(model, folder / "net.c", name="net")
    step = loop(folder, "net(x, y)", x, case.network.sizes[-1])
    assert np.array_equal(step(), np.concatenate([model.predictor()(row[None]) for row in x]))
    return step
